// SPDX-License-Identifier: GPL-2.0

//! Fences: what devices signal when they are done with the memory of a dma-buf.
//!
//! A driver adds a fence to the reservation object of a dma-buf when it submits work that uses the
//! memory. The fence is signalled once, in a finite time, possibly in an interrupt handler.
//! [`DmaBuf::wait`] sleeps until fences are signalled. [`FenceWatch`] is for `poll(2)`, where no
//! function may sleep.
//!
//! C headers: [`include/linux/dma-fence.h`](srctree/include/linux/dma-fence.h),
//! [`include/linux/dma-resv.h`](srctree/include/linux/dma-resv.h)

use super::{buf::DmaBuf, cpu::Access};
use crate::{
    bindings, container_of, new_mutex, new_poll_condvar,
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        poll::PollCondVar,
        Mutex,
    },
    types::Opaque,
};
use core::{mem::MaybeUninit, ptr::NonNull};

/// The timeout of a wait that does not end. C: `MAX_SCHEDULE_TIMEOUT`.
const NO_TIMEOUT: usize = isize::MAX.unsigned_abs();

/// A fence. C: `struct dma_fence`.
///
/// # Invariants
///
/// The reference count is positive as long as a reference to this type exists.
#[repr(transparent)]
struct Fence(Opaque<bindings::dma_fence>);

// SAFETY: A fence can be used and released by any task.
unsafe impl Send for Fence {}
// SAFETY: The functions that this module calls lock the fence.
unsafe impl Sync for Fence {}

// SAFETY: The functions count the references to the fence.
unsafe impl AlwaysRefCounted for Fence {
    fn inc_ref(&self) {
        // SAFETY: The count is positive by the type invariant.
        unsafe { bindings::dma_fence_get(self.0.get()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives back a reference that it owns.
        unsafe { bindings::dma_fence_put(obj.as_ptr().cast()) };
    }
}

impl DmaBuf {
    /// Returns the fences that `access` has to wait for: those of writers for [`Access::Read`], all
    /// of them for [`Access::Write`].
    fn usage(access: Access) -> bindings::dma_resv_usage {
        // SAFETY: The function can be called with any value.
        unsafe { bindings::dma_resv_usage_rw(access == Access::Write) }
    }

    /// Waits until the fences that `access` has to wait for are signalled: those of writers for
    /// [`Access::Read`], all of them for [`Access::Write`]. May sleep. Takes no lock. C:
    /// `dma_resv_wait_timeout`.
    ///
    /// The caller holds no lock that a device needs before it can signal a fence. A pipe, or the
    /// mutex of a driver's file, is not such a lock, but those that wait for it then wait for the
    /// device too.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: `may_wait` is false, and there is a fence that is not signalled.
    /// - [`ERESTARTSYS`]: a signal is pending.
    pub fn wait(&self, access: Access, may_wait: bool) -> Result {
        let usage = Self::usage(access);
        if !may_wait {
            // SAFETY: The reservation object lives as long as the dma-buf.
            return if unsafe { bindings::dma_resv_test_signaled(self.resv(), usage) } {
                Ok(())
            } else {
                Err(EAGAIN)
            };
        }
        // SAFETY: The same as above.
        let ret = unsafe { bindings::dma_resv_wait_timeout(self.resv(), usage, true, NO_TIMEOUT) };
        // CAST: An error code fits in an int.
        crate::error::to_result(ret.min(0) as c_int)
    }
}

/// A condition variable that is notified when the fences of a dma-buf are signalled.
///
/// It follows one fence at a time, which is enough: its users look again when they are notified,
/// and [`Self::is_ready`] follows another fence then. It keeps the fence alive, and not the
/// dma-buf.
///
/// # Locking
///
/// The mutex nests inside the locks of the caller, and the lock of a fence inside the mutex. The
/// notification takes only the lock of the wait queue, inside that of the fence, and may come from
/// an interrupt handler.
///
/// # Invariants
///
/// If `fence` has a fence, `callback` was added to it and may be in its list.
///
/// # Examples
///
/// `poll` of a file from which the memory of a dma-buf can be read:
///
/// ```
/// use kernel::{
///     dma_buf::{Access, DmaBuf, FenceWatch},
///     fs::File,
///     sync::poll::{PollEvent, PollEvents, PollTable}, //
/// };
///
/// fn poll(buf: &DmaBuf, watch: &FenceWatch, file: &File, table: PollTable<'_>) -> PollEvents {
///     // Register first, so that no notification is missed.
///     table.register_wait(file, watch.changed());
///     if watch.is_ready(buf, Access::Read) {
///         PollEvent::In | PollEvent::InNormal
///     } else {
///         PollEvents::empty()
///     }
/// }
/// ```
#[pin_data(PinnedDrop)]
pub struct FenceWatch {
    #[pin]
    changed: PollCondVar,
    #[pin]
    callback: Opaque<bindings::dma_fence_cb>,
    #[pin]
    fence: Mutex<Option<ARef<Fence>>>,
}

// SAFETY: The callback is a link in the list of a fence, and can be removed by any task.
unsafe impl Send for FenceWatch {}
// SAFETY: The mutex protects the callback. The other fields can be shared.
unsafe impl Sync for FenceWatch {}

impl FenceWatch {
    /// Creates a watch that follows no fence.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            changed <- new_poll_condvar!("FenceWatch::changed"),
            callback: Opaque::uninit(),
            fence <- new_mutex!(None, "FenceWatch::fence"),
        })
    }

    /// Returns the condition variable. Its owner may also notify it of other changes.
    pub fn changed(&self) -> &PollCondVar {
        &self.changed
    }

    /// Returns whether the fences of `buf` are signalled that `access` has to wait for. If not,
    /// notifies [`Self::changed`] after one of them is, and then the caller looks again. Allocates
    /// nothing, and sleeps only for the mutex.
    ///
    /// A fence that was followed before, of this dma-buf or of another one, is followed no longer.
    pub fn is_ready(&self, buf: &DmaBuf, access: Access) -> bool {
        let mut followed = self.fence.lock();
        let was_waiting = self.unfollow(&mut followed);
        let mut cursor = MaybeUninit::<bindings::dma_resv_iter>::zeroed();
        let cursor = cursor.as_mut_ptr();
        // SAFETY: The reservation object lives as long as the dma-buf, which is borrowed. The
        // cursor is initialized by the first call and is not used after the last one. A fence that
        // the cursor returns is valid until it returns the next one.
        unsafe {
            bindings::dma_resv_iter_begin(cursor, buf.resv(), DmaBuf::usage(access));
            let mut fence = bindings::dma_resv_iter_first_unlocked(cursor);
            while !fence.is_null() {
                // The callback is in no list: see above. This fails if the fence is signalled.
                if bindings::dma_fence_add_callback(
                    fence,
                    self.callback.get(),
                    Some(Self::signalled),
                ) == 0
                {
                    // INVARIANT: The callback was added to this fence.
                    *followed = Some((&*fence.cast::<Fence>()).into());
                    break;
                }
                fence = bindings::dma_resv_iter_next_unlocked(cursor);
            }
            bindings::dma_resv_iter_end(cursor);
        }
        if followed.is_some() {
            return false;
        }
        if was_waiting {
            // Others sleep until a fence is signalled that is followed no longer.
            self.changed.notify_all();
        }
        true
    }

    /// Removes the callback from the fence that is followed. Returns whether the fence was not
    /// signalled. Afterwards the callback does not run and is in no list.
    fn unfollow(&self, followed: &mut Option<ARef<Fence>>) -> bool {
        let Some(fence) = followed.take() else {
            return false;
        };
        // SAFETY: By the type invariant the callback was added to this fence, and the mutex, which
        // the caller holds, keeps others from removing it. A fence calls its callbacks with its
        // lock held, which this takes.
        unsafe { bindings::dma_fence_remove_callback(fence.0.get(), self.callback.get()) }
    }

    /// Notifies the condition variable.
    ///
    /// # Safety
    ///
    /// `callback` must be that of a [`FenceWatch`] that is not dropped. C guarantees this, because
    /// the drop removes the callback.
    unsafe extern "C" fn signalled(
        _fence: *mut bindings::dma_fence,
        callback: *mut bindings::dma_fence_cb,
    ) {
        // SAFETY: The caller guarantees that this is the field of a valid `FenceWatch`.
        let this = unsafe { &*container_of!(Opaque::cast_from(callback), Self, callback) };
        this.changed.notify_all();
    }
}

#[pinned_drop]
impl PinnedDrop for FenceWatch {
    fn drop(self: Pin<&mut Self>) {
        self.unfollow(&mut self.fence.lock());
    }
}
