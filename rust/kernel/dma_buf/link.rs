// SPDX-License-Identifier: GPL-2.0

//! A way back from an exporter to its dma-buf that does not keep the dma-buf alive.

use super::buf::DmaBuf;
use crate::{bindings, new_mutex, prelude::*, sync::aref::ARef, sync::Mutex};
use core::ptr::NonNull;

/// A weak reference to the dma-buf of one exporter.
///
/// The exporter shares it with whoever needs the dma-buf later, for example with the file that made
/// it. A counted reference in that place would keep the memory for as long as the file is open,
/// although the last user of the dma-buf is gone, and would be a circle if the exporter had it.
///
/// # Locking
///
/// The mutex is held for an increment of a counter only. Inside of it the list of all dma-bufs is
/// locked.
///
/// # Invariants
///
/// If there is a pointer, it is a dma-buf whose `release` operation has not returned. Its file may
/// be gone: a descriptor that was opened with `O_PATH` keeps the dma-buf, and not the file.
///
/// # Examples
///
/// ```
/// use kernel::{
///     dma_buf::{DmaBuf, Exporter, Link, Private},
///     prelude::*,
///     splice::driver::{PrivatePages, WholePages},
///     sync::Arc, //
/// };
///
/// struct Frame {
///     memory: Private<PrivatePages>,
///     link: Arc<Link>,
/// }
///
/// #[vtable]
/// impl Exporter for Frame {
///     type Memory = Private<PrivatePages>;
///     const NAME: &'static CStr = c"frame";
///
///     fn memory(&self) -> &Self::Memory {
///         &self.memory
///     }
///
///     fn link(&self) -> &Arc<Link> {
///         &self.link
///     }
/// }
///
/// let mut pages = WholePages::new();
/// pages.add_zeroed(1, GFP_KERNEL)?;
/// let pages = pages.into_private().map_err(|_pages| EINVAL)?;
/// let link = Arc::pin_init(Link::new(), GFP_KERNEL)?;
/// assert!(link.get().is_none());
/// let frame = Frame {
///     memory: Private::new(Arc::new(pages, GFP_KERNEL)?),
///     link: link.clone(),
/// };
/// let buf = DmaBuf::export(frame).map_err(|(err, _frame)| err)?;
/// assert!(link.get().is_some_and(|other| core::ptr::eq(&*other, &*buf)));
/// # Ok::<(), Error>(())
/// ```
#[pin_data]
pub struct Link {
    #[pin]
    buf: Mutex<Option<NonNull<bindings::dma_buf>>>,
}

// SAFETY: The pointer is used to take a reference to the dma-buf only, which any task may do.
unsafe impl Send for Link {}
// SAFETY: The mutex protects the pointer.
unsafe impl Sync for Link {}

impl Link {
    /// Creates a link to no dma-buf.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            buf <- new_mutex!(None, "Link::buf"),
        })
    }

    /// Returns a reference to the dma-buf, or `None` if it was not made yet or has no user any
    /// more. May sleep for a short time.
    ///
    /// Dropping the reference may release the dma-buf. That does not happen in the drop itself, but
    /// when the task returns to user space, so any lock can be held meanwhile. C: `fput`.
    pub fn get(&self) -> Option<ARef<DmaBuf>> {
        let buf = self.buf.lock();
        let raw = (*buf)?.as_ptr();
        // SAFETY: By the type invariant the dma-buf is valid while the mutex is held, since its
        // release waits for the mutex. The function looks whether the file is still there.
        if !unsafe { bindings::dma_buf_try_get(raw) } {
            return None;
        }
        // SAFETY: The reference was taken above.
        Some(unsafe { DmaBuf::take(raw) })
    }

    /// Sets the dma-buf.
    ///
    /// # Safety
    ///
    /// `buf` must be valid, and its release must call [`Self::clear`].
    pub(super) unsafe fn set(&self, buf: NonNull<bindings::dma_buf>) {
        // INVARIANT: The caller guarantees this.
        *self.buf.lock() = Some(buf);
    }

    /// Removes the dma-buf, whose last user is gone.
    pub(super) fn clear(&self) {
        *self.buf.lock() = None;
    }
}
