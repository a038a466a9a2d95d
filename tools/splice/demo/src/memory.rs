// SPDX-License-Identifier: GPL-2.0

//! Anonymous memory, aligned to pages.

use std::ptr::{self, NonNull};
use std::slice;

use rustix::mm::{mmap_anonymous, munmap, MapFlags, ProtFlags};

/// A private anonymous mapping.
///
/// # Invariants
///
/// `start` is the start of a readable and writable mapping of `len` bytes, which
/// is not zero, that nothing else in the program refers to.
pub struct Memory {
    start: NonNull<u8>,
    len: usize,
}

impl Memory {
    /// Maps `len` bytes, at least one, all zero.
    pub fn new(len: usize) -> rustix::io::Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: The kernel chooses the address, so no mapping is replaced.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), len, prot, MapFlags::PRIVATE) }?;
        let start = NonNull::new(start.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        // INVARIANT: The mapping was made above.
        Ok(Self { start, len })
    }

    /// The whole mapping.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: By the type invariant `len` bytes are mapped and readable. They are initialised
        // because an anonymous mapping starts as zeroes.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The whole mapping, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: By the type invariant `len` bytes are mapped and writable, and `self` is borrowed
        // exclusively.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `len` bytes are mapped at `start`, and nothing borrows from
        // `self` any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}
