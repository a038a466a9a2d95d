// SPDX-License-Identifier: GPL-2.0

//! The device as an importer of dma-bufs: see `include/uapi/linux/splice_edu.h`.

#![forbid(unsafe_code)]

use super::{EduEngine, Place, BUFFER_SIZE};
use kernel::{
    dma::{DataDirection, DmaAddress},
    dma_buf::{Access, Attachment, DmaBuf, MappedTable},
    ioctl::_IOW,
    prelude::*,
    splice::dma::Channel,
    uaccess::{UserPtr, UserSlice},
    uapi::{self, splice_edu_transfer},
};

pub(crate) const TRANSFER: u32 = _IOW::<splice_edu_transfer>(0xbb, 0x30);

/// Handles `SPLICE_EDU_TRANSFER`.
pub(crate) fn transfer(channel: &Channel<EduEngine>, arg: usize) -> Result {
    let raw: splice_edu_transfer =
        UserSlice::new(UserPtr::from_addr(arg), size_of::<splice_edu_transfer>())
            .reader()
            .read()?;
    let (offset, bytes) = (usize::try_from(raw.offset)?, raw.bytes as usize);
    if raw.flags & !uapi::SPLICE_EDU_WRITE != 0
        || raw.reserved != 0
        || bytes == 0
        || bytes > BUFFER_SIZE - offset % BUFFER_SIZE
    {
        return Err(EINVAL);
    }
    let (access, place) = if raw.flags & uapi::SPLICE_EDU_WRITE != 0 {
        (Access::Write, Place::Destination)
    } else {
        (Access::Read, Place::Source)
    };
    let buf = DmaBuf::from_fd(raw.fd)?;
    // The driver sets no fences, so it waits for those of others and for its own transfer.
    buf.wait(access, true)?;
    channel.with_engine(|dev, engine| {
        let attachment = Attachment::new(buf, dev)?;
        // Most importers ask for both directions, whatever they do.
        let table = attachment.map(DataDirection::Bidirectional)?;
        engine.transfer(place, find(&table, offset, bytes)?, bytes)
    })
}

/// Returns the DMA address of `offset`. Returns [`EINVAL`] if the bytes are not in one entry.
fn find(table: &MappedTable<'_>, offset: usize, bytes: usize) -> Result<DmaAddress> {
    let mut before = 0;
    for (addr, len) in table.iter() {
        if offset < before + len {
            let skip = offset - before;
            return if bytes <= len - skip {
                Ok(addr + skip as u64)
            } else {
                Err(EINVAL)
            };
        }
        before += len;
    }
    Err(EINVAL)
}
