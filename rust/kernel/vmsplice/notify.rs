// SPDX-License-Identifier: GPL-2.0

//! Notifications: user space learns when the kernel is done with memory that it put into a pipe.
//!
//! Each `vmsplice(2)` call that asks for a notification is a [`NotifiedCall`]. All
//! [`TrackedMemory`](super::TrackedMemory) of the call owns a reference to it. The calls of a pipe
//! are numbered from 1. User space sees one number, the watermark: nothing uses the memory of this
//! call, or of any earlier call, any more.
//!
//! # Cost
//!
//! A call exists only as long as its memory is in use. The calls of a pipe are in a list in the
//! order of their numbers. The end of a call removes it from the list and moves the watermark at
//! most once, however many calls the watermark passes. No operation walks the list, because memory
//! can be released in softirq context and user space determines the number of calls.
//!
//! # Locking
//!
//! [`Notifications::calls`] is a spinlock that is taken with interrupts disabled. It nests inside
//! the pipe's mutex. An eventfd is signalled while it is held.
//!
//! UAPI header: [`include/uapi/linux/splice.h`](srctree/include/uapi/linux/splice.h)

use crate::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    bindings,
    error::to_result,
    pipe::PipeRing,
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Release},
            Atomic, //
        },
        new_condvar, new_spinlock_irq, Arc, ArcBorrow, CondVar, SpinLockIrq,
    }, //
};
use core::{
    cell::UnsafeCell,
    ptr, //
};

/// The calls of one pipe that asked for a notification, and the tasks that wait for them.
///
/// The pipe and all of its calls own references, so that memory may be in use for longer than the
/// pipe exists.
///
/// # Examples
///
/// The watermark moves in the order of the numbers, whatever the order in which memory is released:
///
/// ```
/// use kernel::vmsplice::{Notifications, NotifiedCall};
///
/// let notices = Notifications::new()?;
/// let first = NotifiedCall::new(notices.clone())?;
/// let second = NotifiedCall::new(notices.clone())?;
/// first.issue();
/// second.issue();
/// assert_eq!((notices.issued(), notices.released()), (2, 0));
///
/// // The memory of the first call is still in use.
/// drop(second);
/// assert_eq!(notices.released(), 0);
/// // The end of the first call releases both.
/// drop(first);
/// assert_eq!(notices.released(), 2);
/// // The number is reached already, so this does not sleep.
/// notices.wait(2)?;
/// # Ok::<(), Error>(())
/// ```
#[pin_data]
pub struct Notifications {
    /// The list of calls. See the module documentation for the order of locks.
    #[pin]
    calls: SpinLockIrq<Calls>,
    /// The watermark. It is written with `calls` locked, and read without.
    released: Atomic<u64>,
    /// The tasks that wait for the watermark to move.
    #[pin]
    waiters: CondVar,
}

/// The list of calls, and the eventfd that is signalled when one ends.
///
/// # Invariants
///
/// `oldest` and `youngest` are the ends of a list of all calls that have a number and were not
/// dropped, in the order of their numbers. They are null if there are none.
struct Calls {
    /// The number of the latest call, or 0.
    issued: u64,
    oldest: *const NotifiedCall,
    youngest: *const NotifiedCall,
    eventfd: Option<EventFd>,
}

// SAFETY: Any task may use the calls in the list, and the eventfd, while it holds the lock.
unsafe impl Send for Calls {}

impl Notifications {
    /// Creates the notifications of a pipe that has none. May sleep.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                // INVARIANT: There are no calls, so both ends of the list are null.
                calls <- new_spinlock_irq!(Calls {
                    issued: 0,
                    oldest: ptr::null(),
                    youngest: ptr::null(),
                    eventfd: None,
                }),
                released: Atomic::new(0),
                waiters <- new_condvar!("splice_notify"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the number of the latest call, or 0 if there was none. Does not sleep.
    pub fn issued(&self) -> u64 {
        self.calls.lock().issued
    }

    /// Returns the watermark: the number of the latest call for which neither its memory nor that
    /// of any earlier call is in use. Does not sleep.
    ///
    /// This is an acquire operation: all use of that memory happened before.
    #[inline]
    pub fn released(&self) -> u64 {
        self.released.load(Acquire)
    }

    /// Waits until the watermark is at least `number`. Sleeps; do not call this with the pipe
    /// locked.
    ///
    /// Returns [`ERESTARTSYS`] if a signal arrives first.
    ///
    /// A number that was not issued yet is waited for as well: the caller checks it against
    /// [`Self::issued`] before.
    pub fn wait(&self, number: u64) -> Result {
        // SAFETY: The wait queue and the counter are fields of `self`, so they are valid during the
        // call.
        to_result(unsafe {
            bindings::splice_wait_released(
                self.waiters.wait_queue_head.get(),
                self.released.as_ptr(),
                number,
            )
        })
    }

    /// Signals `eventfd` each time the watermark moves from now on. It replaces the eventfd that
    /// was set before; `None` stops the signals.
    pub fn set_eventfd(&self, eventfd: Option<EventFd>) {
        let mut calls = self.calls.lock();
        let old = core::mem::replace(&mut calls.eventfd, eventfd);
        // The old eventfd is dropped without the lock, since this may free it.
        drop(calls);
        drop(old);
    }
}

/// A reference to an eventfd. C: `struct eventfd_ctx`.
///
/// # Invariants
///
/// The pointer is valid, and this value owns one reference to the eventfd.
///
/// # Examples
///
/// ```
/// use kernel::{pipe::PipeRing, prelude::*, vmsplice::EventFd};
///
/// /// Signals the eventfd `fd` from now on when the watermark of the pipe moves.
/// fn set_eventfd(ring: &mut PipeRing<'_>, fd: c_int) -> Result {
///     let eventfd = EventFd::from_fd(fd)?;
///     ring.notifications_or_new()?.set_eventfd(Some(eventfd));
///     Ok(())
/// }
/// ```
pub struct EventFd(ptr::NonNull<bindings::eventfd_ctx>);

// SAFETY: Any task may signal an eventfd and give back a reference to it.
unsafe impl Send for EventFd {}

impl EventFd {
    /// Returns the eventfd that the file descriptor `fd` of the current task refers to.
    ///
    /// Returns [`EBADF`] if `fd` is not open, and [`EINVAL`] if it is not an eventfd.
    pub fn from_fd(fd: c_int) -> Result<Self> {
        // SAFETY: The function accepts any number.
        let ctx = crate::error::from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;
        // INVARIANT: The function succeeded and returned a reference, which this value owns.
        Ok(Self(ptr::NonNull::new(ctx).ok_or(EINVAL)?))
    }

    /// Adds one to the count of the eventfd. Callable from any context. C: `eventfd_signal_mask`.
    fn signal(&self) {
        // SAFETY: The pointer is valid by the type invariant.
        unsafe { bindings::eventfd_signal_mask(self.0.as_ptr(), 0) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `self` owns one reference, which is not used again.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) };
    }
}

/// One `vmsplice(2)` call that asked for a notification. The drop of the last reference means that
/// the memory of the call is not in use any more.
///
/// # Invariants
///
/// `place` is accessed only with the calls of `of` locked, except that its drop reads `number`
/// before it takes the lock; `number` does not change once it is set. `number` is 0 until the call
/// is issued. From then on the call is in the list of `of`.
///
/// # Examples
///
/// A call that fails before its data is in the pipe takes no number:
///
/// ```
/// use kernel::vmsplice::{Notifications, NotifiedCall};
///
/// let notices = Notifications::new()?;
/// drop(NotifiedCall::new(notices.clone())?);
/// assert_eq!((notices.issued(), notices.released()), (0, 0));
/// # Ok::<(), Error>(())
/// ```
pub struct NotifiedCall {
    of: Arc<Notifications>,
    place: UnsafeCell<Place>,
}

/// The number of a call and its neighbours in the list.
struct Place {
    number: u64,
    older: *const NotifiedCall,
    younger: *const NotifiedCall,
}

// SAFETY: The lock in `of`, which all calls of the pipe share, protects `place`.
unsafe impl Send for NotifiedCall {}

// SAFETY: By the type invariant `place` is accessed only with the lock held, except for `number` in
// drop, which no one changes then.
unsafe impl Sync for NotifiedCall {}

impl NotifiedCall {
    /// Creates a call without a number. If it is dropped before it is issued, it leaves no trace.
    /// May sleep.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub fn new(of: Arc<Notifications>) -> Result<Arc<Self>> {
        // INVARIANT: The number is 0, so the call need not be in the list.
        let call = Self {
            of,
            place: UnsafeCell::new(Place {
                number: 0,
                older: ptr::null(),
                younger: ptr::null(),
            }),
        };
        Ok(Arc::new(call, GFP_KERNEL_ACCOUNT)?)
    }

    /// Gives the call the next number and adds it to the list. Does nothing if it has a number
    /// already.
    ///
    /// The caller holds the lock of the pipe until the data is in the pipe, so that the order of
    /// the numbers is the order of the data.
    pub fn issue(self: &Arc<Self>) {
        let mut calls = self.of.calls.lock();
        // SAFETY: The lock is held, so by the type invariant nothing else accesses `place`.
        let place = unsafe { &mut *self.place.get() };
        if place.number != 0 {
            return;
        }
        calls.issued += 1;
        place.number = calls.issued;
        place.older = calls.youngest;
        let this: *const Self = &**self;
        if place.older.is_null() {
            calls.oldest = this;
        } else {
            // SAFETY: A call in the list is valid, because its drop removes it first. The lock is
            // held, so nothing else accesses its `place`.
            unsafe { (*(*place.older).place.get()).younger = this };
        }
        // INVARIANT: The call has the largest number, so it belongs at this end of the list.
        calls.youngest = this;
    }
}

impl Drop for NotifiedCall {
    fn drop(&mut self) {
        let place = self.place.get();
        // SAFETY: The number does not change once the call is issued, and only this task refers to
        // the call.
        if unsafe { (*place).number } == 0 {
            return;
        }
        let mut calls = self.of.calls.lock();
        // SAFETY: The lock is held, so no neighbour accesses `place` now. Until here they could.
        let place = unsafe { &mut *place };
        // SAFETY: The neighbours are in the list, so they are valid, because their drop would have
        // removed them first. The lock is held, so nothing else accesses their `place`.
        // INVARIANT: The neighbours are linked to each other, or become the ends of the list.
        unsafe {
            match place.younger.as_ref() {
                Some(younger) => (*younger.place.get()).older = place.older,
                None => calls.youngest = place.older,
            }
            if let Some(older) = place.older.as_ref() {
                (*older.place.get()).younger = place.younger;
                return;
            }
        }
        calls.oldest = place.younger;
        // SAFETY: A call in the list is valid while the lock is held, because its drop needs the
        // lock to remove it.
        let released = match unsafe { calls.oldest.as_ref() } {
            // SAFETY: The lock is held, so by the type invariant nothing else accesses `place`.
            Some(oldest) => unsafe { (*oldest.place.get()).number - 1 },
            None => calls.issued,
        };
        // Release: user space sees the number only after all use of the memory has ended.
        self.of.released.store(released, Release);
        if let Some(eventfd) = &calls.eventfd {
            eventfd.signal();
        }
        drop(calls);
        // `notify_all` takes the lock of the wait queue, which orders the store above before its
        // check for waiters.
        self.of.waiters.notify_all();
    }
}

impl PipeRing<'_> {
    /// Returns the notifications of the pipe, or `None` if no caller asked for one yet.
    #[inline]
    pub fn notifications(&self) -> Option<Arc<Notifications>> {
        // SAFETY: The pipe is valid by the type invariant, and access to the ring includes
        // `notices`. A non-null value is a reference that `notifications_or_new` stored.
        unsafe {
            let notices = (*self.as_ptr()).notices.cast::<Notifications>();
            (!notices.is_null()).then(|| ArcBorrow::from_raw(notices).into())
        }
    }

    /// Returns the notifications of the pipe, and creates them if there are none. May sleep.
    ///
    /// Returns [`ENOMEM`] if they cannot be allocated.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::PrivatePipe;
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// assert!(ring.notifications().is_none());
    /// let notices = ring.notifications_or_new()?;
    /// assert!(ring.notifications().is_some());
    /// // The reference outlives the pipe, as the memory of a call can.
    /// drop(pipe);
    /// assert_eq!(notices.issued(), 0);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn notifications_or_new(&mut self) -> Result<Arc<Notifications>> {
        if let Some(notices) = self.notifications() {
            return Ok(notices);
        }
        let notices = Notifications::new()?;
        // SAFETY: The pipe is valid by the type invariant, and access to the ring includes
        // `notices`. `free_pipe_info` calls `rust_pipe_free`, which gives the stored reference
        // back.
        unsafe { (*self.as_ptr()).notices = Arc::into_raw(notices.clone()).cast_mut().cast() };
        Ok(notices)
    }
}

/// Gives back the reference to [`Notifications`] that a pipe may have. `free_pipe_info` calls this
/// after it released the buffers.
///
/// # Safety
///
/// `pipe` must be valid, and nothing else may refer to it.
#[export]
unsafe extern "C" fn rust_pipe_free(pipe: *mut bindings::pipe_inode_info) {
    // SAFETY: The caller guarantees that `pipe` is valid and not shared. If `notices` is not null,
    // `notifications_or_new` stored a reference there, which is not used again.
    unsafe {
        if !(*pipe).notices.is_null() {
            drop(Arc::from_raw((*pipe).notices.cast::<Notifications>()));
        }
    }
}
