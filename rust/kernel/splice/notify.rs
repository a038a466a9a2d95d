// SPDX-License-Identifier: GPL-2.0

//! Notifications: user space learns when the kernel is done with memory that it put into a pipe.
//!
//! Each `vmsplice(2)` that asks for it is a [`NotifiedCall`]: all its [loans](super::loan::Loan)
//! refer to it. The calls of a pipe are numbered. User space sees one number, the watermark: of the
//! call that has it, and of all earlier ones, nothing is in use any more.
//!
//! # Cost
//!
//! A call exists only while its memory is in use, in a list in the order of the numbers. To end one
//! takes it out of the list, and moves the watermark at most once, however many calls that passes.
//! Nothing here grows with the number of calls, since memory can be released in softirq context.
//!
//! # Locking
//!
//! [`Notifications::calls`] is a spinlock with interrupts off; an eventfd is signalled under it. It
//! nests inside of the pipe's mutex.
//!
//! UAPI header: [`include/uapi/linux/splice.h`](srctree/include/uapi/linux/splice.h)

#[cfg(CONFIG_NET)]
use super::loan::Loan;
#[cfg(CONFIG_NET)]
use crate::sync::aref::ARef;
use crate::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Release},
            Atomic, //
        },
        new_condvar, new_spinlock_irq, Arc, CondVar, SpinLockIrq,
    }, //
};
#[cfg(CONFIG_NET)]
use core::mem;
use core::{
    cell::UnsafeCell,
    ptr, //
};

/// The calls of one pipe that asked for a notification.
#[pin_data]
pub struct Notifications {
    #[pin]
    calls: SpinLockIrq<Calls>,
    /// The watermark. Written with `calls` locked.
    released: Atomic<u64>,
    #[pin]
    waiters: CondVar,
}

/// # Invariants
///
/// `oldest` and `youngest` are the ends of a list of the calls that have a number and were not
/// dropped, in the order of their numbers; null if there are none.
struct Calls {
    issued: u64,
    oldest: *const NotifiedCall,
    youngest: *const NotifiedCall,
    eventfd: Option<EventFd>,
}

// SAFETY: The calls in the list can be used by any task that has the lock.
unsafe impl Send for Calls {}

impl Notifications {
    /// For a pipe that has none. Fails with [`ENOMEM`].
    pub fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                // INVARIANT: There are no calls.
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

    /// The number of the latest call; 0 if there was none.
    pub fn issued(&self) -> u64 {
        self.calls.lock().issued
    }

    /// The watermark: of this call and all earlier ones nothing is in use.
    #[inline]
    pub fn released(&self) -> u64 {
        self.released.load(Acquire)
    }

    /// Waits until the watermark is at least `number`. Fails with [`ERESTARTSYS`] if a signal comes
    /// first. Sleeps.
    pub fn wait(&self, number: u64) -> Result {
        // SAFETY: Both are valid for as long as `self` is.
        to_result(unsafe {
            bindings::splice_wait_released(
                self.waiters.wait_queue_head.get(),
                self.released.as_ptr(),
                number,
            )
        })
    }

    /// Signals `eventfd` whenever the watermark moves from now on, instead of the one so far.
    pub fn set_eventfd(&self, eventfd: Option<EventFd>) {
        let mut calls = self.calls.lock();
        let old = core::mem::replace(&mut calls.eventfd, eventfd);
        drop(calls);
        drop(old);
    }
}

/// An eventfd. C: `struct eventfd_ctx`.
///
/// # Invariants
///
/// A valid pointer; the reference is owned by this value.
pub struct EventFd(ptr::NonNull<bindings::eventfd_ctx>);

// SAFETY: Any task may signal an eventfd, and give back a reference.
unsafe impl Send for EventFd {}

impl EventFd {
    /// The eventfd that `fd` stands for. Fails with [`EBADF`] or [`EINVAL`] if it stands for none.
    pub fn from_fd(fd: c_int) -> Result<Self> {
        // SAFETY: Any number will do.
        let ctx = crate::error::from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;
        // INVARIANT: The reference is ours.
        Ok(Self(ptr::NonNull::new(ctx).ok_or(EINVAL)?))
    }

    /// Adds one to its count. In any context.
    fn signal(&self) {
        // SAFETY: Valid by the type invariant.
        unsafe { bindings::eventfd_signal_mask(self.0.as_ptr(), 0) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::eventfd_ctx_put(self.0.as_ptr()) };
    }
}

/// One `vmsplice(2)` that asked for a notification. Its memory is released when this is dropped.
///
/// # Invariants
///
/// `place` is accessed with the calls of `of` locked, or by drop. Its number is 0 until the call is
/// issued; from then on the call is in the list of `of`.
pub struct NotifiedCall {
    of: Arc<Notifications>,
    place: UnsafeCell<Place>,
}

struct Place {
    number: u64,
    older: *const NotifiedCall,
    younger: *const NotifiedCall,
}

// SAFETY: `place` is guarded by a lock that is shared by all.
unsafe impl Send for NotifiedCall {}

// SAFETY: `place` is only accessed with that lock held, or by the drop of the last reference.
unsafe impl Sync for NotifiedCall {}

impl NotifiedCall {
    /// A call that has no number yet: dropped before it is issued, it leaves no trace. Fails with
    /// [`ENOMEM`].
    pub fn new(of: Arc<Notifications>) -> Result<Arc<Self>> {
        // INVARIANT: Not issued.
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

    /// Gives the call the next number, once.
    pub fn issue(self: &Arc<Self>) {
        let mut calls = self.of.calls.lock();
        // SAFETY: The lock is held.
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
            // SAFETY: A call in the list is valid, and the lock is held.
            unsafe { (*(*place.older).place.get()).younger = this };
        }
        // INVARIANT: It has the largest number.
        calls.youngest = this;
    }
}

impl Drop for NotifiedCall {
    fn drop(&mut self) {
        let place = self.place.get_mut();
        if place.number == 0 {
            return;
        }
        let mut calls = self.of.calls.lock();
        // SAFETY: The neighbours are in the list, hence valid, and the lock is held.
        // INVARIANT: They become neighbours of each other, or ends of the list.
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
        // SAFETY: A call in the list is valid while the lock is held.
        let released = match unsafe { calls.oldest.as_ref() } {
            // SAFETY: The lock is held, which guards the place of all calls in the list.
            Some(oldest) => unsafe { (*oldest.place.get()).number - 1 },
            None => calls.issued,
        };
        // All use of the memory is over before user space can see the number.
        self.of.released.store(released, Release);
        if let Some(eventfd) = &calls.eventfd {
            eventfd.signal();
        }
        drop(calls);
        // This orders the store before its look at who waits.
        self.of.waiters.notify_all();
    }
}

/// A [`Loan`] that the data in a socket's queues refers to.
#[cfg(CONFIG_NET)]
#[repr(C)]
struct InFlight {
    ubuf: bindings::ubuf_info,
    _loan: ARef<Loan>,
}

/// The reference that whoever sends has to an [`InFlight`].
///
/// # Invariants
///
/// Points to a valid one, and owns one of its references.
#[cfg(CONFIG_NET)]
pub(crate) struct Sending(ptr::NonNull<InFlight>);

#[cfg(CONFIG_NET)]
impl Sending {
    /// Fails with [`ENOMEM`].
    pub(crate) fn new(loan: ARef<Loan>) -> Result<Self> {
        static OPS: UbufOps = UbufOps(bindings::ubuf_info_ops {
            complete: Some(complete),
            link_skb: None,
        });

        // SAFETY: All-zero is a valid value of this C struct of integers and pointers.
        let mut ubuf: bindings::ubuf_info = unsafe { mem::zeroed() };
        ubuf.ops = &raw const OPS.0;
        // Without `SKBFL_DONT_ORPHAN` the first transmission would copy the data.
        ubuf.flags = (bindings::SKBFL_ZEROCOPY_ENABLE
            | bindings::SKBFL_SHARED_FRAG
            | bindings::SKBFL_DONT_ORPHAN) as u8;
        let in_flight = InFlight { ubuf, _loan: loan };
        let in_flight = KBox::into_raw(KBox::new(in_flight, GFP_KERNEL_ACCOUNT)?);
        // SAFETY: Allocated just now.
        unsafe { bindings::refcount_set(&raw mut (*in_flight).ubuf.refcnt, 1) };
        // INVARIANT: That one is ours.
        // SAFETY: What was allocated is not null.
        Ok(Self(unsafe { ptr::NonNull::new_unchecked(in_flight) }))
    }

    /// What goes into `struct msghdr`.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::ubuf_info {
        self.0.as_ptr().cast()
    }
}

#[cfg(CONFIG_NET)]
impl Drop for Sending {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { complete(ptr::null_mut(), self.as_ptr(), true) };
    }
}

#[cfg(CONFIG_NET)]
struct UbufOps(bindings::ubuf_info_ops);

// SAFETY: A constant table of functions.
#[cfg(CONFIG_NET)]
unsafe impl Sync for UbufOps {}

/// Gives back one reference to an [`InFlight`].
///
/// # Safety
///
/// `ubuf` is the first field of a valid one; the reference is the caller's, and is not used again.
#[cfg(CONFIG_NET)]
unsafe extern "C" fn complete(
    _skb: *mut bindings::sk_buff,
    ubuf: *mut bindings::ubuf_info,
    _success: bool,
) {
    // SAFETY: By the caller's promise.
    if unsafe { bindings::refcount_dec_and_test(&raw mut (*ubuf).refcnt) } {
        // SAFETY: That was the last reference to what `Sending::new` allocated.
        drop(unsafe { KBox::from_raw(ubuf.cast::<InFlight>()) });
    }
}
