// SPDX-License-Identifier: GPL-2.0

//! From a trait to a table of pipe buffer operations.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::buffer::{BufferFlag, PipeBuffer, Provenance, DETACHED_PIPE};
use crate::{
    bindings,
    error::{from_result, VTABLE_DEFAULT_ERROR},
    folio::{Folio, Removed},
    prelude::*,
    warn_on,
    ModuleMetadata, //
};
use core::{marker::PhantomData, mem, ptr};

/// How a kind of pipe buffer behaves.
///
/// Every kind made from this trait holds its page by an ordinary page reference: taking another
/// and giving one back is the same for all, and nothing an implementation could get wrong. What
/// differs is when the contents are good, and who may take the page over.
///
/// # Examples
///
/// ```
/// use kernel::pipe::{PipeBuffer, PipeBufferOps, Provenance};
/// use kernel::prelude::*;
///
/// /// Pages that may be read, but never leave their owner.
/// struct Lent;
///
/// #[vtable]
/// impl PipeBufferOps for Lent {
///     const PROVENANCE: Provenance = Provenance::Device;
///
///     fn confirm(buf: &PipeBuffer) -> Result {
///         if buf.folio().is_uptodate() { Ok(()) } else { Err(EIO) }
///     }
/// }
/// ```
#[vtable]
pub trait PipeBufferOps: 'static {
    /// Where the pages of this kind come from.
    const PROVENANCE: Provenance;

    /// Waits until the contents can be read; an error says that they never will.
    ///
    /// [`ENODATA`] stands for contents that are gone, such as a truncated page: a transfer ends
    /// there, as at the end of a file. Left out: contents are always good. May sleep.
    fn confirm(_buf: &PipeBuffer) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes the page the taker's own, if that is possible. Left out: it never is.
    fn try_steal(_buf: &PipeBuffer) -> Option<Stolen<'_>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// Proof that the page of a buffer is locked, and that nobody else refers to it.
pub struct Stolen<'a> {
    folio: &'a Folio,
    on_lru: bool,
}

impl<'a> Stolen<'a> {
    /// Takes the page where the buffer's is the only reference. C: `generic_pipe_buf_try_steal`.
    ///
    /// `on_lru` says that it is on an LRU list already.
    pub fn if_unique(buf: &'a PipeBuffer, on_lru: bool) -> Option<Self> {
        // SAFETY: The buffer holds its page, so the page is valid; only the page is looked at.
        let stolen = unsafe {
            bindings::generic_pipe_buf_try_steal(DETACHED_PIPE.as_ptr(), buf.as_const().cast_mut())
        };
        stolen.then(|| Self {
            folio: buf.folio(),
            on_lru,
        })
    }
}

impl<'a> From<Removed<'a>> for Stolen<'a> {
    /// A folio that came out of the page cache has its LRU place still.
    fn from(removed: Removed<'a>) -> Self {
        Self {
            folio: removed.into_locked(),
            on_lru: true,
        }
    }
}

impl Drop for Stolen<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked, by whoever made this.
        unsafe { self.folio.unlock() };
    }
}

/// A table of operations that C can use; what [`PipeBufferOps`] is turned into.
///
/// `repr(C)` with the C table first, so that a pointer to that is one to the whole.
#[repr(C)]
pub struct OpsTable<T> {
    ops: PipeBufOperations,
    provenance: Provenance,
    _kind: PhantomData<fn(T)>,
}

/// The kernel's `struct pipe_buf_operations`, as a constant.
#[repr(transparent)]
pub struct PipeBufOperations(bindings::pipe_buf_operations);

// SAFETY: A constant table of functions.
unsafe impl Sync for PipeBufOperations {}

impl<T: PipeBufferOps> OpsTable<T> {
    /// The module that the operations are in; null for what is built in.
    pub(super) const MODULE: *mut bindings::module = T::OwnerModule::THIS_MODULE.as_ptr();

    /// The table.
    pub const TABLE: &'static Self = &Self {
        ops: if Self::MODULE.is_null() {
            Self::OPERATIONS
        } else {
            PipeBufOperations(bindings::pipe_buf_operations {
                release: Some(release),
                get: Some(get),
                ..Self::OPERATIONS.0
            })
        },
        provenance: T::PROVENANCE,
        _kind: PhantomData,
    };

    /// A table for buffers that have more than a page to take and give back references to. Only
    /// for what is built into the kernel.
    ///
    /// # Safety
    ///
    /// For every buffer with these operations, `release` gives back what it has a reference to,
    /// the page included, and `get` takes as much for another buffer, or returns false.
    pub(crate) const unsafe fn with_references(
        release: unsafe extern "C" fn(*mut bindings::pipe_inode_info, *mut bindings::pipe_buffer),
        get: unsafe extern "C" fn(
            *mut bindings::pipe_inode_info,
            *mut bindings::pipe_buffer,
        ) -> bool,
    ) -> Self {
        Self {
            ops: PipeBufOperations(bindings::pipe_buf_operations {
                release: Some(release),
                get: Some(get),
                ..Self::OPERATIONS.0
            }),
            provenance: T::PROVENANCE,
            _kind: PhantomData,
        }
    }

    /// A table for buffers that C makes, to be a `static` that C knows by name. Only for what is
    /// built into the kernel.
    pub const OPERATIONS: PipeBufOperations = PipeBufOperations(bindings::pipe_buf_operations {
        confirm: if T::HAS_CONFIRM {
            Some(Self::confirm)
        } else {
            None
        },
        release: Some(bindings::generic_pipe_buf_release),
        try_steal: if T::HAS_TRY_STEAL {
            Some(Self::try_steal)
        } else {
            None
        },
        get: Some(bindings::generic_pipe_buf_get),
    });

    #[inline]
    pub(crate) const fn as_raw(&self) -> *const bindings::pipe_buf_operations {
        &raw const self.ops.0
    }

    /// # Safety
    ///
    /// As C calls it: `buf` is a valid buffer that nobody else accesses during the call.
    unsafe extern "C" fn confirm(
        _pipe: *mut bindings::pipe_inode_info,
        buf: *mut bindings::pipe_buffer,
    ) -> c_int {
        // SAFETY: By the caller's promise; the layouts are the same.
        let buf = unsafe { &*buf.cast::<PipeBuffer>() };
        from_result(|| T::confirm(buf).map(|()| 0))
    }

    /// # Safety
    ///
    /// As C calls it: `buf` is a valid buffer that nobody else accesses during the call.
    unsafe extern "C" fn try_steal(
        _pipe: *mut bindings::pipe_inode_info,
        buf: *mut bindings::pipe_buffer,
    ) -> bool {
        // SAFETY: By the caller's promise; the layouts are the same.
        let buffer = unsafe { &*buf.cast::<PipeBuffer>() };
        let Some(stolen) = T::try_steal(buffer) else {
            return false;
        };
        // The proof has to be for this buffer, and not for another that the implementation had.
        if warn_on!(!ptr::eq(stolen.folio, buffer.folio())) {
            return false;
        }
        let on_lru = stolen.on_lru;
        // The folio stays locked, for the taker.
        mem::forget(stolen);
        if on_lru {
            // SAFETY: By the caller's promise; `buffer` is not used any more.
            unsafe { (*buf).flags |= BufferFlag::Lru as u32 };
        }
        true
    }
}

/// Releases the page of a buffer, and the module that its operations are in. Built in, so that it
/// is not in the module that it lets go of.
///
/// # Safety
///
/// As C calls it: `buf` is a valid buffer made by [`PipeBuffer::with_ops`] for operations in a
/// module, and not used again.
unsafe extern "C" fn release(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) {
    // SAFETY: By the caller's promise there is a reference to each to be given back.
    unsafe {
        bindings::module_put((*buf).private as *mut bindings::module);
        bindings::put_page((*buf).page);
    }
}

/// Takes another reference to the page, and to the module.
///
/// # Safety
///
/// As C calls it: `buf` is a valid buffer made by [`PipeBuffer::with_ops`] for operations in a
/// module.
unsafe extern "C" fn get(
    pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: By the caller's promise; the buffer has a reference to the module, so it is there.
    unsafe {
        if !bindings::generic_pipe_buf_get(pipe, buf) {
            return false;
        }
        bindings::__module_get((*buf).private as *mut bindings::module);
    }
    true
}

/// The provenance that a table says.
///
/// # Safety
///
/// `ops` points at the first field of an [`OpsTable`].
#[inline]
pub(super) unsafe fn table_provenance(ops: *const bindings::pipe_buf_operations) -> Provenance {
    // The type parameter is only a marker: all tables are laid out alike.
    // SAFETY: By the caller's promise.
    unsafe { (*ops.cast::<OpsTable<()>>()).provenance }
}
