// SPDX-License-Identifier: GPL-2.0

//! Importing: a device uses the memory of a dma-buf.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)

use super::buf::DmaBuf;
use crate::{
    bindings,
    device::{Bound, Device},
    dma::{DataDirection, DmaAddress},
    error::from_err_ptr,
    prelude::*,
    scatterlist::SGTable,
    sync::aref::ARef,
};
use core::{cell::Cell, marker::PhantomData, mem, ptr::NonNull};

/// A device that is attached to a dma-buf. Dropping this detaches it, which may sleep. C: `struct
/// dma_buf_attachment`.
///
/// # Invariants
///
/// `raw` is a valid attachment of `buf`, and `mapped` is the number of its tables that are mapped.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::{Bound, Device},
///     dma::{DataDirection, DmaAddress},
///     dma_buf::{Attachment, DmaBuf},
///     prelude::*, //
/// };
///
/// /// Runs `transfer` for each piece of the memory of a dma-buf.
/// fn read_all(
///     dev: &Device<Bound>,
///     fd: i32,
///     mut transfer: impl FnMut(DmaAddress, usize) -> Result,
/// ) -> Result {
///     let attachment = Attachment::new(DmaBuf::from_fd(fd)?, dev)?;
///     let table = attachment.map(DataDirection::ToDevice)?;
///     for (addr, len) in table.iter() {
///         transfer(addr, len)?;
///     }
///     Ok(())
/// }
/// ```
pub struct Attachment<'a> {
    buf: ARef<DmaBuf>,
    raw: NonNull<bindings::dma_buf_attachment>,
    mapped: Cell<usize>,
    _device: PhantomData<&'a Device<Bound>>,
}

impl<'a> Attachment<'a> {
    /// Attaches a device. May sleep. C: `dma_buf_attach`.
    ///
    /// Returns [`ENOMEM`] if there is no memory, and the error of an exporter that does not want
    /// the device.
    pub fn new(buf: ARef<DmaBuf>, dev: &'a Device<Bound>) -> Result<Self> {
        // SAFETY: Both pointers are valid.
        let raw = from_err_ptr(unsafe { bindings::dma_buf_attach(buf.as_raw(), dev.as_raw()) })?;
        // INVARIANT: `dma_buf_attach` returned an attachment of `buf`, which is not null. No table
        // is mapped.
        Ok(Self {
            buf,
            // SAFETY: The pointer is not null, because it is not an error.
            raw: unsafe { NonNull::new_unchecked(raw) },
            mapped: Cell::new(0),
            _device: PhantomData,
        })
    }

    /// Returns the dma-buf.
    pub fn buf(&self) -> &DmaBuf {
        &self.buf
    }

    /// Maps the memory for the device. May sleep; takes the lock of the reservation object during
    /// the call. C: `dma_buf_map_attachment_unlocked`.
    ///
    /// An importer that does not set fences calls [`DmaBuf::wait`] before its device uses the
    /// memory.
    ///
    /// Returns the error of the exporter. For dma-bufs of this module that is [`EACCES`] if the
    /// memory is [`Shared`](super::Shared) and no IOMMU keeps the device from writing, and those of
    /// [`SGTable::map`].
    pub fn map(&self, dir: DataDirection) -> Result<MappedTable<'_>> {
        // SAFETY: The attachment is valid by the type invariant.
        let table = from_err_ptr(unsafe {
            bindings::dma_buf_map_attachment_unlocked(self.raw.as_ptr(), dir.into())
        })?;
        // INVARIANT: The table was mapped for this attachment, in this direction, and counts.
        self.mapped.set(self.mapped.get() + 1);
        Ok(MappedTable {
            attachment: self,
            table,
            dir,
        })
    }
}

impl Drop for Attachment<'_> {
    fn drop(&mut self) {
        if self.mapped.get() != 0 {
            // A table was leaked (`mem::forget`). The device may still use the memory, so the
            // attachment and a reference to the dma-buf are leaked as well.
            mem::forget(self.buf.clone());
            return;
        }
        // SAFETY: By the type invariant this is an attachment of `buf`, of which no table is
        // mapped.
        unsafe { bindings::dma_buf_detach(self.buf.as_raw(), self.raw.as_ptr()) };
    }
}

/// The memory of a dma-buf, mapped for a device. Dropping this unmaps it, which may sleep.
///
/// # Invariants
///
/// `table` was mapped for `attachment` in direction `dir`.
pub struct MappedTable<'a> {
    attachment: &'a Attachment<'a>,
    table: *mut bindings::sg_table,
    dir: DataDirection,
}

impl MappedTable<'_> {
    /// Returns an iterator over the DMA addresses and lengths in bytes. There is no way to the
    /// pages.
    pub fn iter(&self) -> impl Iterator<Item = (DmaAddress, usize)> + '_ {
        // SAFETY: By the type invariant the table is mapped, and stays so while it is borrowed.
        let table: &SGTable = unsafe { SGTable::from_raw(self.table) };
        // CAST: The length of an entry is a c_uint in C.
        table
            .iter()
            .map(|entry| (entry.dma_address(), entry.dma_len() as usize))
    }
}

impl Drop for MappedTable<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the table was mapped for the attachment, in this direction.
        // It is not used again.
        unsafe {
            bindings::dma_buf_unmap_attachment_unlocked(
                self.attachment.raw.as_ptr(),
                self.table,
                self.dir.into(),
            )
        };
        // INVARIANT: The table is not mapped any more.
        self.attachment.mapped.set(self.attachment.mapped.get() - 1);
    }
}
