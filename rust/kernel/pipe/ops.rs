// SPDX-License-Identifier: GPL-2.0

//! Operations of pipe buffers: [`PipeBufferOps`] becomes a `struct pipe_buf_operations`.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::buffer::{BufferFlag, PipeBuffer, Provenance, DETACHED_PIPE};
use crate::{
    bindings,
    error::{from_result, VTABLE_DEFAULT_ERROR},
    folio::{Folio, Removed},
    prelude::*,
    warn_on, //
};
use core::{marker::PhantomData, mem, ptr};

/// The behaviour of a kind of pipe buffers.
///
/// Each buffer of such a kind holds its page by an ordinary page reference. `->get` and `->release`
/// are therefore the same for all kinds, and an implementation cannot get them wrong. Kinds differ
/// in when the contents are good and in who may take the page over.
///
/// # Examples
///
/// ```
/// use kernel::pipe::{PipeBuffer, PipeBufferOps, Provenance};
/// use kernel::prelude::*;
///
/// /// Pages that may be read, but that always stay with their owner.
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
    /// The origin of the pages of this kind.
    const PROVENANCE: Provenance;

    /// Waits until the contents can be read. May sleep. C: `->confirm`.
    ///
    /// Returns [`ENODATA`] if the contents are gone, for example because the page was truncated; a
    /// transfer ends there, as at the end of a file. Other errors mean that the contents will never
    /// be good.
    ///
    /// If this is not implemented, the contents are always good.
    ///
    /// Called with the pipe locked, before the contents are read. This is an indirect call for each
    /// buffer, so implement it only if the contents can be late or go bad.
    fn confirm(_buf: &PipeBuffer) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes the page the exclusive property of the caller, if possible. May sleep. C:
    /// `->try_steal`.
    ///
    /// If this is not implemented, the page can never be taken over.
    ///
    /// FUSE calls this to move a page to its page cache, and the virtio console to send a page
    /// without a copy. Returning `None` makes them copy the data.
    fn try_steal(_buf: &PipeBuffer) -> Option<Stolen<'_>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// Proof that the folio of a buffer is locked and that nothing else refers to it. Dropping it
/// unlocks the folio.
///
/// [`PipeBufferOps::try_steal`] returns it. C then gets the folio locked, as `->try_steal`
/// promises.
///
/// # Examples
///
/// ```
/// use kernel::pipe::{OwnedPage, PipeBuffer, Stolen};
///
/// let mut buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10)?;
/// let copy = buf.try_clone()?;
/// // Two buffers refer to the page, so it is not unique.
/// assert!(Stolen::if_unique(&buf).is_none());
/// drop(copy);
/// assert!(Stolen::if_unique(&buf).is_some());
/// # Ok::<(), Error>(())
/// ```
pub struct Stolen<'a> {
    folio: &'a Folio,
    on_lru: bool,
}

impl<'a> Stolen<'a> {
    /// Locks the folio if the buffer holds its only reference, and returns `None` otherwise. May
    /// sleep. C: `generic_pipe_buf_try_steal`.
    ///
    /// Also returns `None` if the folio can be on an LRU list: a new owner that adds it to one, as
    /// FUSE does, would corrupt the list.
    pub fn if_unique(buf: &'a PipeBuffer) -> Option<Self> {
        // SAFETY: `buf` holds a reference to its page, so the page is valid. The function uses no
        // other field, and ignores the pipe.
        let is_unique = unsafe {
            bindings::generic_pipe_buf_try_steal(
                DETACHED_PIPE.as_ptr(),
                ptr::from_ref(buf.raw()).cast_mut(),
            )
        };
        if !is_unique {
            return None;
        }
        // Dropping this unlocks the folio again.
        let stolen = Self {
            folio: buf.folio(),
            on_lru: false,
        };
        (!stolen.folio.can_be_on_lru()).then_some(stolen)
    }
}

impl<'a> From<Removed<'a>> for Stolen<'a> {
    /// A folio that was removed from the page cache stays on its LRU list.
    fn from(removed: Removed<'a>) -> Self {
        Self {
            folio: removed.into_locked(),
            on_lru: true,
        }
    }
}

impl Drop for Stolen<'_> {
    fn drop(&mut self) {
        // SAFETY: Each constructor locks the folio, and nothing else unlocks it while this value
        // exists.
        unsafe { self.folio.unlock() };
    }
}

/// The table of operations that C gets for an implementation of [`PipeBufferOps`].
///
/// The C table is the first field and the layout is `repr(C)`, so a pointer to the C table is also
/// a pointer to the whole.
///
/// A table is either a `static` of this type, for buffers that Rust code makes, or
/// [`Self::OPERATIONS`], for buffers that C code makes. Only buffers of the former have
/// [`BufferFlag::RustOps`] set, by which [`PipeBuffer::provenance`] finds the table.
#[repr(C)]
pub struct OpsTable<T> {
    ops: PipeBufOperations,
    provenance: Provenance,
    _kind: PhantomData<fn(T)>,
}

/// A constant `struct pipe_buf_operations`.
#[repr(transparent)]
pub struct PipeBufOperations(bindings::pipe_buf_operations);

// SAFETY: The table is constant and consists of function pointers.
unsafe impl Sync for PipeBufOperations {}

impl<T: PipeBufferOps> OpsTable<T> {
    /// Creates a table for buffers that hold their memory in another way than by a page reference.
    /// The functions must be built into the kernel.
    ///
    /// # Safety
    ///
    /// For every buffer with these operations, `release` must give back the reference that the
    /// buffer owns, and `get` must take one for another buffer, or return false.
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

    /// The table for buffers that C creates. The owner makes it a `static` that C knows by name.
    /// The operations must be built into the kernel.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OpsTable, PipeBufOperations, PipeBufferOps, Provenance};
    ///
    /// /// Pages that the kernel still uses, so that nobody may take them over.
    /// struct Lent;
    ///
    /// #[vtable]
    /// impl PipeBufferOps for Lent {
    ///     const PROVENANCE: Provenance = Provenance::Socket;
    /// }
    ///
    /// /// C declares this as `extern const struct pipe_buf_operations`.
    /// static LENT_OPS: PipeBufOperations = OpsTable::<Lent>::OPERATIONS;
    /// ```
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

    /// Calls [`PipeBufferOps::confirm`]. C: `->confirm`.
    ///
    /// # Safety
    ///
    /// `buf` must be a valid buffer that nothing else accesses during the call. C guarantees this.
    unsafe extern "C" fn confirm(
        _pipe: *mut bindings::pipe_inode_info,
        buf: *mut bindings::pipe_buffer,
    ) -> c_int {
        // SAFETY: The caller guarantees that `buf` is valid and not accessed by others, and
        // `PipeBuffer` has the layout of `struct pipe_buffer`.
        let buf = unsafe { &*buf.cast::<PipeBuffer>() };
        from_result(|| T::confirm(buf).map(|()| 0))
    }

    /// Calls [`PipeBufferOps::try_steal`]. C: `->try_steal`.
    ///
    /// # Safety
    ///
    /// `buf` must be a valid buffer that nothing else accesses during the call. C guarantees this.
    unsafe extern "C" fn try_steal(
        _pipe: *mut bindings::pipe_inode_info,
        buf: *mut bindings::pipe_buffer,
    ) -> bool {
        // SAFETY: The caller guarantees that `buf` is valid and not accessed by others, and
        // `PipeBuffer` has the layout of `struct pipe_buffer`.
        let buffer = unsafe { &*buf.cast::<PipeBuffer>() };
        let Some(stolen) = T::try_steal(buffer) else {
            return false;
        };
        // Check that the implementation did not lock the folio of another buffer.
        if warn_on!(!ptr::eq(stolen.folio, buffer.folio())) {
            return false;
        }
        let on_lru = stolen.on_lru;
        // The caller gets the folio locked.
        mem::forget(stolen);
        if on_lru {
            // SAFETY: The caller guarantees that `buf` is valid and not accessed by others;
            // `buffer`, the other reference to it, is not used any more.
            unsafe { (*buf).flags |= BufferFlag::Lru as u32 };
        }
        true
    }
}

/// Returns the provenance of the table that `ops` belongs to.
///
/// # Safety
///
/// `ops` must point to the first field of an [`OpsTable`].
#[inline]
unsafe fn table_provenance(ops: *const bindings::pipe_buf_operations) -> Provenance {
    // The type parameter is a marker only, so that all tables have the same layout.
    // SAFETY: The caller guarantees that `ops` points to the first field of an `OpsTable`, which is
    // `repr(C)`.
    unsafe { (*ops.cast::<OpsTable<()>>()).provenance }
}

impl PipeBuffer {
    /// Returns the origin of the page, as known from the buffer's operations.
    ///
    /// This compares pointers only. Buffers of C code that is not built in, or that this module
    /// does not know, are [`Provenance::Foreign`].
    pub fn provenance(&self) -> Provenance {
        let ops = self.raw().ops;
        if self.raw().flags & BufferFlag::RustOps as u32 != 0 {
            // SAFETY: The flag is set, so by the type invariant `ops` is the first field of an
            // `OpsTable`.
            return unsafe { table_provenance(ops) };
        }
        if ptr::eq(ops, &raw const bindings::page_cache_pipe_buf_ops) {
            Provenance::PageCache
        } else if ptr::eq(ops, &raw const bindings::anon_pipe_buf_ops)
            || ptr::eq(ops, &raw const bindings::default_pipe_buf_ops)
        {
            Provenance::Private
        } else if ptr::eq(ops, &raw const bindings::nosteal_pipe_buf_ops) {
            Provenance::Socket
        } else {
            Provenance::Foreign
        }
    }
}
