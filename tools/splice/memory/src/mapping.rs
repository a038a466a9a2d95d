// SPDX-License-Identifier: GPL-2.0

//! A mapping that is gone with its owner.

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

// SAFETY: A mapping is of the process, and not of a thread.
unsafe impl Send for Mapping {}

// SAFETY: By a shared reference it can only be read, or by means that are unsafe themselves.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of memory, at least one, that are all zero, and that can be read and
    /// written. `flags` say who shares it.
    pub fn anonymous(len: usize, flags: MapFlags) -> Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: The kernel chooses the address, so no mapping is replaced.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), len, prot, flags) };
        Self::made(start.context("mmap")?.cast(), len)
    }

    /// Maps the first `len` bytes of a file, at least one.
    pub fn file(file: impl AsFd, len: usize, prot: ProtFlags, flags: MapFlags) -> Result<Self> {
        // SAFETY: As in `anonymous`.
        let start = unsafe { mmap(ptr::null_mut(), len, prot, flags, file, 0) };
        Self::made(start.context("mmap of a file")?.cast(), len)
    }

    /// `start` is that of a new mapping of `len` bytes.
    fn made(start: *mut u8, len: usize) -> Result<Self> {
        // INVARIANT: Whoever calls has just made it.
        Ok(Self {
            start: NonNull::new(start).context("mmap")?,
            len,
        })
    }

    /// Where it starts.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// How long it is.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// All of it.
    ///
    /// # Safety
    ///
    /// It can be read, and nothing writes to it meanwhile.
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: By the type invariant, and the caller's promise. What a mapping holds is
        // initialised.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    /// All of it, to write to.
    ///
    /// # Safety
    ///
    /// It can be read and written, and nothing else in the program refers to what it maps.
    pub unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: As in `bytes`.
        unsafe { slice::from_raw_parts_mut(self.as_ptr(), self.len) }
    }

    /// Leaves `from` up to `to` of it.
    pub(crate) fn trim(&mut self, from: usize, to: usize) -> Result<()> {
        assert!(from < to && to <= self.len);
        assert!(from.is_multiple_of(PAGE) && to.is_multiple_of(PAGE));
        let (all, start) = (self.len, self.as_ptr());
        // SAFETY: It is in the mapping.
        self.start = unsafe { self.start.add(from) };
        self.len = to - from;
        for (at, end) in [(0, from), (to, all)] {
            if at < end {
                // SAFETY: By the type invariant; the part is not of this mapping any more.
                unsafe { munmap(start.add(at).cast(), end - at) }.context("munmap")?;
            }
        }
        Ok(())
    }

    /// Takes its pages away: what is private and has no file is zero then.
    pub fn forget(&mut self) -> Result<()> {
        self.advise(0, self.len, Advice::LinuxDontNeed)
    }

    pub(crate) fn advise(&mut self, from: usize, to: usize, advice: Advice) -> Result<()> {
        assert!(from <= to && to <= self.len);
        // SAFETY: It is in the mapping, which is borrowed exclusively, so that nobody minds if the
        // content is lost.
        unsafe { madvise(self.as_ptr().add(from).cast(), to - from, advice) }.context("madvise")
    }

    /// Has a page there.
    ///
    /// # Safety
    ///
    /// It can be written.
    pub(crate) unsafe fn touch(&mut self, page: usize) {
        assert!((page + 1) * PAGE <= self.len);
        // SAFETY: It is in the mapping, and borrowed exclusively.
        unsafe { self.as_ptr().add(page * PAGE).write_volatile(1) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariant, and nothing borrows from `self` any more.
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
        // SAFETY: It is private to this test.
        unsafe {
            mapping.bytes_mut()[2 * PAGE - 1] = 7;
            assert_eq!(mapping.bytes()[2 * PAGE - 1], 7);
        }
    }
}
