// SPDX-License-Identifier: GPL-2.0

//! The dma-buf itself, as exporters and importers see it.
//!
//! C headers: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h),
//! [`include/linux/dma-resv.h`](srctree/include/linux/dma-resv.h)

use super::cpu::Access;
use crate::{
    bindings,
    error::{from_err_ptr, to_result},
    fs::{file::FileDescriptorReservation, File},
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::Opaque,
};
use core::{mem::ManuallyDrop, ptr::NonNull};

/// A dma-buf. C: `struct dma_buf`.
///
/// It is a file. Its memory is valid as long as a reference exists. References are counted by the
/// file, so one that is dropped last is released when the task returns to user space, or by a
/// worker, and not in the drop: any lock may be held when a reference is dropped.
///
/// A dma-buf is of any exporter, also one in C. What this module promises about [`Shared`] and
/// [`Private`] memory is true for those of [`Self::export`] only.
///
/// [`Shared`]: super::Shared
/// [`Private`]: super::Private
///
/// # Invariants
///
/// The reference count of the file is positive as long as a reference to this type exists.
#[repr(transparent)]
pub struct DmaBuf(Opaque<bindings::dma_buf>);

// SAFETY: A dma-buf can be used and released by any task.
unsafe impl Send for DmaBuf {}
// SAFETY: All methods that take a shared reference may be called by several tasks.
unsafe impl Sync for DmaBuf {}

// SAFETY: The functions count the references to the file of the dma-buf.
unsafe impl AlwaysRefCounted for DmaBuf {
    fn inc_ref(&self) {
        // SAFETY: The count is positive by the type invariant.
        unsafe { bindings::get_dma_buf(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives back a reference that it owns.
        unsafe { bindings::dma_buf_put(obj.as_ptr().cast()) };
    }
}

impl DmaBuf {
    /// Takes a reference over from C.
    ///
    /// # Safety
    ///
    /// `raw` must be a valid dma-buf, of which the caller hands over a reference.
    pub(super) unsafe fn take(raw: *mut bindings::dma_buf) -> ARef<Self> {
        // SAFETY: The caller hands over a reference to a valid dma-buf, which is not null.
        // INVARIANT: The count is positive because of that reference.
        unsafe { ARef::from_raw(NonNull::new_unchecked(raw.cast())) }
    }

    /// Returns the dma-buf of a file descriptor of the current task. C: `dma_buf_get`.
    ///
    /// Returns [`EBADF`] if no file is open by that number, and [`EINVAL`] if it is not a dma-buf.
    pub fn from_fd(fd: i32) -> Result<ARef<Self>> {
        // SAFETY: The function can be called with any number.
        let raw = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        // SAFETY: `dma_buf_get` returned a reference.
        Ok(unsafe { Self::take(raw) })
    }

    pub(super) fn as_raw(&self) -> *mut bindings::dma_buf {
        self.0.get()
    }

    /// Returns the size in bytes, a multiple of the page size. It does not change.
    pub fn size(&self) -> usize {
        // SAFETY: The dma-buf is valid by the type invariant. The field does not change.
        unsafe { (*self.as_raw()).size }
    }

    /// Makes the dma-buf the file of a descriptor, and returns the descriptor. C:
    /// `dma_buf_fd_install`.
    pub fn install(this: ARef<Self>, descriptor: FileDescriptorReservation) -> u32 {
        let fd = descriptor.reserved_fd();
        let raw = ARef::into_raw(this).as_ptr().cast::<bindings::dma_buf>();
        // SAFETY: The reference to the dma-buf is one to its file, and passes to the `ARef`. The
        // file has no position that another call could use at the same time.
        let file = unsafe { ARef::from_raw(NonNull::new_unchecked((*raw).file.cast::<File>())) };
        descriptor.fd_install(file);
        fd
    }

    /// Returns the reservation object, which lives as long as the dma-buf. It has the lock and the
    /// fences.
    pub(super) fn resv(&self) -> *mut bindings::dma_resv {
        // SAFETY: The dma-buf is valid by the type invariant. The field does not change.
        unsafe { (*self.as_raw()).resv }
    }

    /// Begins an access of the CPU to a mapping of the memory: waits for fences as [`Self::wait`]
    /// does, and makes the CPU see what devices have written. Dropping the result ends it. C:
    /// `dma_buf_begin_cpu_access`.
    ///
    /// # Errors
    ///
    /// - [`EACCES`]: the memory is for reading only, and the access is for writing.
    /// - [`ERESTARTSYS`]: a signal is pending.
    /// - Other errors of the exporter.
    pub fn begin_cpu_access(&self, access: Access) -> Result<CpuAccess<'_>> {
        // SAFETY: The dma-buf is valid by the type invariant.
        to_result(unsafe {
            bindings::dma_buf_begin_cpu_access(self.as_raw(), access.direction())
        })?;
        Ok(CpuAccess { buf: self, access })
    }

    /// Locks the reservation object, which protects the mappings and the fences. Sleeps until the
    /// lock is free. C: `dma_resv_lock`.
    pub(super) fn lock(&self) -> Locked<'_> {
        // SAFETY: The reservation object lives as long as the dma-buf. Without a context this does
        // not fail.
        unsafe { bindings::dma_resv_lock(self.resv(), core::ptr::null_mut()) };
        Locked(self)
    }
}

/// The lock of a reservation object. Dropping this unlocks it.
pub(super) struct Locked<'a>(&'a DmaBuf);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: `DmaBuf::lock` has locked the object, and only this unlocks it.
        unsafe { bindings::dma_resv_unlock(self.0.resv()) };
    }
}

/// An access of the CPU to a dma-buf. Dropping this ends it. C: `dma_buf_end_cpu_access`.
///
/// It keeps nobody from using the memory meanwhile: devices and tasks that do not follow fences see
/// a mixture of old and new data. It has one use: on a machine whose devices do not see the caches
/// of the CPU, or with bounce buffers, the data gets to the other side here.
pub struct CpuAccess<'a> {
    buf: &'a DmaBuf,
    access: Access,
}

impl CpuAccess<'_> {
    /// Ends the access, and returns the error of the exporter.
    pub fn end(self) -> Result {
        ManuallyDrop::new(self).finish()
    }

    fn finish(&self) -> Result {
        // SAFETY: The dma-buf is valid by the type invariant.
        to_result(unsafe {
            bindings::dma_buf_end_cpu_access(self.buf.as_raw(), self.access.direction())
        })
    }
}

impl Drop for CpuAccess<'_> {
    fn drop(&mut self) {
        // `end` returns the error to those that can use it.
        let _ = self.finish();
    }
}
