// SPDX-License-Identifier: GPL-2.0

//! The argument of the ioctl: see `include/uapi/linux/dma_buf_splice.h`.

use kernel::{
    fs::file::flags::O_CLOEXEC,
    ioctl::_IOWR,
    prelude::*,
    uaccess::{UserPtr, UserSlice},
    uapi::{self, dma_buf_splice_export},
};

pub(crate) const EXPORT: u32 = _IOWR::<dma_buf_splice_export>(0xbb, 0x20);

/// What user space learns of a dma-buf.
pub(crate) struct Export {
    pub(crate) fd: u32,
    pub(crate) cloexec: bool,
    pub(crate) writable: bool,
    pub(crate) size: usize,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
    pub(crate) copied: usize,
}

fn slice(arg: usize) -> UserSlice {
    UserSlice::new(
        UserPtr::from_addr(arg),
        core::mem::size_of::<dma_buf_splice_export>(),
    )
}

/// Reads the argument, and returns the flags of the new descriptor.
///
/// Returns [`EFAULT`] if the argument cannot be read, and [`EINVAL`] if a flag is unknown or a
/// reserved field is not 0.
pub(crate) fn read(arg: usize) -> Result<u32> {
    let raw: dma_buf_splice_export = slice(arg).reader().read()?;
    if raw.flags & !uapi::DMA_BUF_SPLICE_CLOEXEC != 0
        || raw.reserved != 0
        || raw.reserved2 != [0; 2]
    {
        return Err(EINVAL);
    }
    Ok(if raw.flags != 0 { O_CLOEXEC } else { 0 })
}

/// Writes the result. Returns [`EFAULT`] if that is not possible.
pub(crate) fn write(arg: usize, export: &Export) -> Result {
    let properties = if export.writable {
        uapi::DMA_BUF_SPLICE_WRITABLE
    } else {
        0
    };
    slice(arg).writer().write(&dma_buf_splice_export {
        // The flags as they were read, for a program that passes the structure again.
        flags: if export.cloexec {
            uapi::DMA_BUF_SPLICE_CLOEXEC
        } else {
            0
        },
        // CAST: A descriptor is a positive int.
        fd: export.fd as i32,
        properties,
        reserved: 0,
        size: export.size as u64,
        offset: export.offset as u64,
        bytes: export.bytes as u64,
        copied: export.copied as u64,
        reserved2: [0; 2],
    })
}
