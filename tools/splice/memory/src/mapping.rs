// SPDX-License-Identifier: GPL-2.0

//! A mapping that its owner unmaps.

use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::slice;

use anyhow::{Context, Result};
use rustix::mm::{madvise, mmap, mmap_anonymous, munmap, Advice, MapFlags, ProtFlags};

use crate::size::PAGE;

/// A mapping.
///
/// # Invariants
///
/// `start` is the start of a mapping of `len` bytes, which is not zero, that nothing else unmaps.
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: A mapping belongs to the process, and not to a thread.
unsafe impl Send for Mapping {}

// SAFETY: A shared reference permits only reads, and unsafe methods.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of zeroes, at least one, that can be read and written. `flags` select
    /// whether other processes share them.
    pub fn anonymous(len: usize, flags: MapFlags) -> Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: The kernel chooses the address, so no mapping is replaced.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), len, prot, flags) };
        Self::made(start.context("mmap")?.cast(), len)
    }

    /// Maps the first `len` bytes of a file, at least one.
    pub fn file(file: impl AsFd, len: usize, prot: ProtFlags, flags: MapFlags) -> Result<Self> {
        // SAFETY: The kernel chooses the address, so no mapping is replaced.
        let start = unsafe { mmap(ptr::null_mut(), len, prot, flags, file, 0) };
        Self::made(start.context("mmap of a file")?.cast(), len)
    }

    /// `start` is the start of a new mapping of `len` bytes.
    fn made(start: *mut u8, len: usize) -> Result<Self> {
        // INVARIANT: The caller has just created the mapping.
        Ok(Self {
            start: NonNull::new(start).context("mmap")?,
            len,
        })
    }

    /// The start of the mapping.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The length in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The whole mapping.
    ///
    /// # Safety
    ///
    /// The mapping is readable, and nothing writes to it while the reference exists.
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: By the type invariant `len` bytes are mapped at `start`, and mapped memory is
        // initialised. The caller guarantees that they are readable and not written to.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    /// The whole mapping, for writing.
    ///
    /// # Safety
    ///
    /// The mapping is readable and writable, and no other reference to the memory exists.
    pub unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: By the type invariant `len` bytes are mapped at `start`. The caller guarantees
        // that they are readable and writable, and that no other reference exists.
        unsafe { slice::from_raw_parts_mut(self.as_ptr(), self.len) }
    }

    /// Unmaps everything except the range from `from` to `to`.
    pub(crate) fn trim(&mut self, from: usize, to: usize) -> Result<()> {
        assert!(from < to && to <= self.len);
        assert!(from.is_multiple_of(PAGE) && to.is_multiple_of(PAGE));
        let (all, start) = (self.len, self.as_ptr());
        // SAFETY: `from` is less than the length of the mapping.
        self.start = unsafe { self.start.add(from) };
        self.len = to - from;
        for (at, end) in [(0, from), (to, all)] {
            if at < end {
                // SAFETY: The range was part of the mapping, and is not part of it any more.
                unsafe { munmap(start.add(at).cast(), end - at) }.context("munmap")?;
            }
        }
        Ok(())
    }

    /// Unmaps the pages: private memory without a file is zero afterwards.
    pub fn forget(&mut self) -> Result<()> {
        self.advise(0, self.len, Advice::LinuxDontNeed)
    }

    pub(crate) fn advise(&mut self, from: usize, to: usize, advice: Advice) -> Result<()> {
        assert!(from <= to && to <= self.len);
        // SAFETY: The range is in the mapping, which is borrowed exclusively, so that no reference
        // observes the loss of its content.
        unsafe { madvise(self.as_ptr().add(from).cast(), to - from, advice) }.context("madvise")
    }

    /// Writes to a page, so that it is mapped.
    ///
    /// # Safety
    ///
    /// The mapping is writable.
    pub(crate) unsafe fn touch(&mut self, page: usize) {
        assert!((page + 1) * PAGE <= self.len);
        // SAFETY: The page is in the mapping, which is borrowed exclusively. The caller guarantees
        // that it is writable.
        unsafe { self.as_ptr().add(page * PAGE).write_volatile(1) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `len` bytes are mapped at `start`, and nothing borrows from
        // `self` any more.
        let unmapped = unsafe { munmap(self.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_mapping_is_left() {
        let mut mapping = Mapping::anonymous(4 * PAGE, MapFlags::PRIVATE).unwrap();
        let start = mapping.as_ptr() as usize;
        mapping.trim(PAGE, 3 * PAGE).unwrap();
        assert_eq!(
            (mapping.as_ptr() as usize, mapping.len()),
            (start + PAGE, 2 * PAGE)
        );
        // SAFETY: The mapping is readable and writable, and no other reference to it exists.
        unsafe {
            mapping.bytes_mut()[2 * PAGE - 1] = 7;
            assert_eq!(mapping.bytes()[2 * PAGE - 1], 7);
        }
    }
}
