// SPDX-License-Identifier: GPL-2.0

//! Test data, and the private memory that operations read from and write to.

use std::ptr;

use anyhow::Result;
use rustix::mm::{mmap_anonymous, mprotect, munmap, MapFlags, MprotectFlags, ProtFlags};
use splice_memory::{thp, Mapping};
use xxhash_rust::xxh64::xxh64;

/// The length of the writable part.
pub const WRITABLE: usize = 64 * 4096;
/// The end of the readable part.
pub const READABLE: usize = WRITABLE + 4 * 4096;
/// The length of the arena, whose last part is inaccessible.
pub const LEN: usize = READABLE + 4 * 4096;

/// Where offsets for system calls are stored in the read-only part.
const READ_ONLY_OFFSET: usize = WRITABLE + 64;

/// The source of all test data. It starts at a page boundary, so that the same data always spans
/// the same number of pages.
pub struct Pool {
    bytes: Vec<u8>,
    start: usize,
    /// The same data in a huge page.
    huge: Mapping,
}

impl Pool {
    const LEN: usize = 1 << 20;

    /// Returns an error if a huge page is `required` and none is available.
    pub fn new(required: bool) -> Result<Self> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut bytes = vec![0; Self::LEN + 4096];
        let start = bytes.as_ptr().align_offset(4096);
        for word in bytes[start..start + Self::LEN].chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let mut huge = match thp(1) {
            Err(_) if !required => Mapping::anonymous(Self::LEN, MapFlags::PRIVATE)?,
            mapping => mapping?,
        };
        // SAFETY: The mapping is readable and writable, and no other code refers to it.
        unsafe { huge.bytes_mut()[..Self::LEN].copy_from_slice(&bytes[start..][..Self::LEN]) };
        Ok(Self { bytes, start, huge })
    }

    /// Returns `len` bytes, which depend on `content`.
    pub fn bytes(&self, content: u32, len: usize) -> &[u8] {
        Self::part(&self.bytes[self.start..], content, len)
    }

    /// The same, from the huge page.
    pub fn huge_bytes(&self, content: u32, len: usize) -> &[u8] {
        // SAFETY: The mapping is readable, and nothing writes to it after `new`.
        Self::part(unsafe { self.huge.bytes() }, content, len)
    }

    fn part(bytes: &[u8], content: u32, len: usize) -> &[u8] {
        let len = len.min(Self::LEN);
        let at = content as usize % (Self::LEN - len + 1);
        &bytes[at..at + len]
    }
}

/// A mapping of three parts: writable, read-only, and inaccessible.
///
/// # Invariants
///
/// `start` is the start of a mapping of [`LEN`] bytes that nothing but system calls refers to. No
/// system call accesses it while a method runs.
pub struct Arena {
    start: *mut u8,
}

impl Arena {
    pub fn new(pool: &Pool) -> rustix::io::Result<Self> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: The kernel chooses the address, so no mapping is replaced.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), LEN, prot, MapFlags::PRIVATE) }?;
        // INVARIANT: The mapping was made above.
        let mut arena = Self {
            start: start.cast(),
        };
        arena.fill(0, pool.bytes(1, WRITABLE));
        arena.write(WRITABLE, pool.bytes(2, READABLE - WRITABLE));
        for (at, end, prot) in [
            (WRITABLE, READABLE, MprotectFlags::READ),
            (READABLE, LEN, MprotectFlags::empty()),
        ] {
            // SAFETY: The range is in the mapping, by the type invariant.
            unsafe { mprotect(start.cast::<u8>().add(at).cast(), end - at, prot) }?;
        }
        Ok(arena)
    }

    pub fn address(&self, at: usize) -> usize {
        self.start as usize + at
    }

    /// Writes up to [`READABLE`], before the second part becomes read-only.
    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= READABLE);
        // SAFETY: The target is in the mapping, by the type invariant and the check above.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(at), bytes.len()) };
    }

    pub fn fill(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= WRITABLE);
        self.write(at, bytes);
    }

    /// Hashes the readable part of the range.
    pub fn hash(&self, at: usize, len: usize) -> u64 {
        let end = (at + len).min(READABLE);
        let at = at.min(end);
        // SAFETY: The range is in the readable part of the mapping. By the type invariant nothing
        // writes to it meanwhile.
        xxh64(
            unsafe { std::slice::from_raw_parts(self.start.add(at), end - at) },
            0,
        )
    }

    /// Stores `offset` in read-only memory and returns its address.
    pub fn read_only_offset(&mut self, offset: i64) -> rustix::io::Result<usize> {
        let address = self.address(READ_ONLY_OFFSET);
        for prot in [
            Some(MprotectFlags::READ | MprotectFlags::WRITE),
            None,
            Some(MprotectFlags::READ),
        ] {
            match prot {
                // SAFETY: It is a page of the mapping, by the type invariant.
                Some(prot) => unsafe { mprotect(self.start.add(WRITABLE).cast(), 4096, prot) }?,
                None => self.write(READ_ONLY_OFFSET, &offset.to_ne_bytes()),
            }
        }
        Ok(address)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `start` is the start of a mapping of `LEN` bytes, and no
        // reference to it is left.
        let unmapped = unsafe { munmap(self.start.cast(), LEN) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_changes_the_hash() {
        let pool = Pool::new(false).unwrap();
        let mut arena = Arena::new(&pool).unwrap();
        let before = arena.hash(0, LEN);
        arena.fill(WRITABLE - 5, pool.bytes(9, 5));
        assert_ne!(arena.hash(0, LEN), before);
        assert_eq!(arena.hash(0, WRITABLE - 5), {
            let fresh = Arena::new(&pool).unwrap();
            fresh.hash(0, WRITABLE - 5)
        });
        let address = arena.read_only_offset(-7).unwrap();
        assert!(address > arena.address(WRITABLE));
    }

    #[test]
    fn contents_differ() {
        let pool = Pool::new(false).unwrap();
        assert_eq!(pool.bytes(5, 70_000), pool.huge_bytes(5, 70_000));
        assert_ne!(pool.bytes(1, 100), pool.bytes(2, 100));
        assert_eq!(pool.bytes(5, 1 << 20).len(), 1 << 20);
    }
}
