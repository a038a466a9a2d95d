// SPDX-License-Identifier: GPL-2.0

//! What needs unsafe code: the ioctl of `/dev/dma_buf_splice` (C header:
//! `include/uapi/linux/dma_buf_splice.h`), descriptors that the kernel returns in memory, and
//! memory for vmsplice(2).

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result};
use rustix::io::{retry_on_intr, Errno};
use rustix::ioctl::{ioctl, opcode, Opcode, Updater};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::pipe::{vmsplice, IoSliceRaw, SpliceFlags};
use splice_memory::{Mapping, PAGE};

/// `DMA_BUF_SPLICE_CLOEXEC`.
const CLOEXEC: u32 = 0x1;

/// `DMA_BUF_SPLICE_WRITABLE`.
const WRITABLE: u32 = 0x1;

const EXPORT: Opcode = opcode::read_write::<Export>(0xbb, 0x20);

/// `struct dma_buf_splice_export`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Export {
    flags: u32,
    fd: i32,
    properties: u32,
    reserved: u32,
    size: u64,
    offset: u64,
    bytes: u64,
    copied: u64,
    reserved2: [u64; 2],
}

/// A dma-buf, and what the driver says about it.
pub struct Exported {
    pub fd: OwnedFd,
    /// Where the data begins, in bytes.
    pub offset: u64,
    /// The bytes of data.
    pub bytes: u64,
    /// The bytes that the CPU copied.
    pub copied: u64,
    /// Whether devices may write to it.
    pub writable: bool,
}

/// `DMA_BUF_SPLICE_EXPORT`: makes a dma-buf of all that was spliced to the device since the
/// last call.
pub fn export(device: impl AsFd) -> rustix::io::Result<Exported> {
    let mut arg = Export {
        flags: CLOEXEC,
        fd: -1,
        ..Export::default()
    };
    // SAFETY: `Export` has the layout of the argument, and the kernel keeps no pointer to it.
    unsafe { ioctl(device, Updater::<EXPORT, Export>::new(&mut arg)) }?;
    let fd: RawFd = arg.fd;
    if fd < 0 {
        return Err(Errno::BADF);
    }
    Ok(Exported {
        // SAFETY: The ioctl succeeded, so `fd` is a new descriptor that nothing else owns.
        fd: unsafe { OwnedFd::from_raw_fd(fd) },
        offset: arg.offset,
        bytes: arg.bytes,
        copied: arg.copied,
        writable: arg.properties & WRITABLE != 0,
    })
}

/// The place for a descriptor that an atomic commit returns
/// (`WRITEBACK_OUT_FENCE_PTR`): the kernel writes it into memory of the program.
pub struct FenceSlot(Box<AtomicI32>);

impl FenceSlot {
    pub fn new() -> Self {
        Self(Box::new(AtomicI32::new(-1)))
    }

    /// The value of the property. The slot must exist until the commit returns.
    pub fn property(&self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    /// The descriptor, after a commit that has succeeded.
    pub fn take(self) -> Option<OwnedFd> {
        let fd = self.0.load(Ordering::Relaxed);
        // SAFETY: The commit succeeded, so a descriptor in the slot is new and nothing else
        // owns it. The slot is gone after this.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Memory with a picture that is spliced by reference.
pub struct Memory(Mapping);

impl Memory {
    /// Memory of this program that contains `bytes`.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let mut mapping = Mapping::anonymous(bytes.len(), MapFlags::PRIVATE)?;
        // SAFETY: The mapping is new: readable, writable, and nothing refers to it.
        unsafe { mapping.bytes_mut() }.copy_from_slice(bytes);
        Ok(Self(mapping))
    }

    /// Moves the bytes from `at` on into a pipe, as many as fit. Returns how many.
    pub fn splice(&self, at: usize, pipe: impl AsFd) -> Result<usize> {
        // SAFETY: The memory is readable, and nothing writes to it after `new`.
        let bytes = unsafe { self.0.bytes() };
        let piece = [IoSliceRaw::from_slice(&bytes[at..])];
        // SAFETY: The memory does not change any more. The pipe has its own references to the
        // pages, which may outlive it.
        retry_on_intr(|| unsafe { vmsplice(&pipe, &piece, SpliceFlags::NONBLOCK) })
            .context("vmsplice")
    }
}

/// The number of pages of a file's first `len` bytes that are in the page cache.
pub fn cached_pages(file: impl AsFd, len: usize) -> Result<u64> {
    let mapping = Mapping::file(file, len, ProtFlags::READ, MapFlags::SHARED)?;
    let mut pages = vec![0; len.div_ceil(PAGE)];
    // SAFETY: The mapping has `len` bytes, and there is a byte in `pages` for each page.
    if unsafe { libc::mincore(mapping.as_ptr().cast(), len, pages.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error()).context("mincore");
    }
    Ok(pages.iter().filter(|&&page| page & 1 != 0).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opcode_is_that_of_the_header() {
        // _IOWR(0xBB, 0x20, a structure of 64 bytes).
        assert_eq!(EXPORT, 0xc040_bb20);
    }

    #[test]
    fn another_file_does_not_know_the_ioctl() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(export(file).err(), Some(Errno::NOTTY));
    }

    #[test]
    fn pages_of_a_file_are_counted() {
        let path = std::env::temp_dir().join(format!("splice-drm-cached-{}", std::process::id()));
        std::fs::write(&path, vec![1; 5 * PAGE]).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let count = cached_pages(&file, 5 * PAGE).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(count, 5);
    }
}
