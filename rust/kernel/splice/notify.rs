// SPDX-License-Identifier: GPL-2.0

//! Telling user space when the kernel is done with memory that it put into a pipe.
//!
//! Each `vmsplice(2)` that asks for it is a [`Call`]: all that is [lent](super::loan::Loan) by it
//! refers to it. The calls of a pipe are numbered, and what is told is the
//! number up to which all are released. For this a call refers to the one after it, so that calls
//! are released in the order of their numbers: the last thing that a call does is to let go of its
//! successor.
//!
//! UAPI header: [`include/uapi/linux/splice.h`](srctree/include/uapi/linux/splice.h)

#[cfg(CONFIG_NET)]
use super::loan::Loan;
#[cfg(CONFIG_NET)]
use crate::sync::aref::ARef;
use crate::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            ordering::{Acquire, Full, Relaxed, Release},
            Atomic, //
        },
        new_condvar, Arc, CondVar,
    },
    warn_on, //
};
#[cfg(CONFIG_NET)]
use core::mem;
use core::ptr;

/// What the calls of one pipe share.
///
/// # Invariants
///
/// `eventfd` is null, or a reference owned by this value; once set it stays.
#[pin_data(PinnedDrop)]
pub struct State {
    released: Atomic<u64>,
    eventfd: Atomic<*mut bindings::eventfd_ctx>,
    #[pin]
    waiters: CondVar,
}

// SAFETY: An eventfd context may be signalled and put from any task.
unsafe impl Send for State {}

// SAFETY: All fields may be used by several tasks at once.
unsafe impl Sync for State {}

impl State {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            // INVARIANT: Null.
            pin_init!(Self {
                released: Atomic::new(0),
                eventfd: Atomic::new(ptr::null_mut()),
                waiters <- new_condvar!("splice_notify"),
            }),
            GFP_KERNEL,
        )
    }

    /// Everything up to this call is released.
    #[inline]
    pub fn released(&self) -> u64 {
        self.released.load(Acquire)
    }

    /// Waits until everything up to call `number` is released. Fails with [`ERESTARTSYS`] where a
    /// signal comes first. Sleeps.
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

    /// Tells of each change by the eventfd that `fd` stands for. Fails with [`EBUSY`] where there
    /// is one already, and with [`EBADF`] or [`EINVAL`] where `fd` is none.
    pub fn attach_eventfd(&self, fd: c_int) -> Result {
        // SAFETY: Any number will do.
        let eventfd = crate::error::from_err_ptr(unsafe { bindings::eventfd_ctx_fdget(fd) })?;
        // INVARIANT: The reference goes over where the exchange succeeds.
        match self.eventfd.cmpxchg(ptr::null_mut(), eventfd, Full) {
            Ok(_) => Ok(()),
            Err(_) => {
                // SAFETY: It is still ours.
                unsafe { bindings::eventfd_ctx_put(eventfd) };
                Err(EBUSY)
            }
        }
    }

    /// Moves the watermark. In any context, by one at a time: see [`Call`].
    fn set_released(&self, number: u64) {
        // All use of the memory is over before user space can see the number.
        self.released.store(number, Release);
        let eventfd = self.eventfd.load(Acquire);
        if !eventfd.is_null() {
            // SAFETY: By the type invariant.
            unsafe { bindings::eventfd_signal_mask(eventfd, 0) };
        }
        // This orders the store before its look at who waits.
        self.waiters.notify_all();
    }
}

#[pinned_drop]
impl PinnedDrop for State {
    fn drop(self: Pin<&mut Self>) {
        let eventfd = self.eventfd.load(Relaxed);
        if !eventfd.is_null() {
            // SAFETY: By the type invariant the reference is ours.
            unsafe { bindings::eventfd_ctx_put(eventfd) };
        }
    }
}

/// One `vmsplice(2)` whose memory is to be reported. It is released when this is dropped.
///
/// # Invariants
///
/// `next` is null until the call is issued, and a reference to the call after it from then on,
/// until this is dropped. So calls are dropped in the order of their numbers.
pub struct Call {
    number: u64,
    state: Arc<State>,
    next: Atomic<*const Call>,
}

// SAFETY: What `next` points to is shared as by an `Arc`.
unsafe impl Send for Call {}

// SAFETY: As above.
unsafe impl Sync for Call {}

impl Call {
    fn new(number: u64, state: Arc<State>) -> Result<Arc<Self>> {
        // INVARIANT: Null.
        Ok(Arc::new(
            Self {
                number,
                state,
                next: Atomic::new(ptr::null()),
            },
            GFP_KERNEL,
        )?)
    }

    /// Reports that nobody uses the memory any more, and takes out the reference to the call after
    /// it. Nothing where it was never issued, or was reported.
    fn release(&mut self) -> Option<Arc<Call>> {
        let next = self.next.xchg(ptr::null(), Relaxed);
        if next.is_null() {
            return None;
        }
        self.state.set_released(self.number);
        // SAFETY: By the type invariant it was a reference; it is taken out once.
        Some(unsafe { Arc::from_raw(next) })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // A loop, since as many calls as were issued may have waited for this one.
        let mut next = self.release();
        while let Some(call) = next {
            let Some(unique) = Arc::into_unique_or_drop(call) else {
                return;
            };
            // Dropping it releases nothing any more.
            next = Pin::into_inner(unique).release();
        }
    }
}

/// Gives the calls of a pipe their numbers.
///
/// # Invariants
///
/// `coming` has the number after `issued`, and is not issued.
pub struct Issuer {
    issued: u64,
    coming: Arc<Call>,
    state: Arc<State>,
}

/// A call that has no number yet. C may already use its memory.
pub struct Draft {
    call: Arc<Call>,
    successor: Arc<Call>,
}

impl Draft {
    /// The call, to be shared by all who use its memory.
    #[inline]
    pub fn call(&self) -> &Arc<Call> {
        &self.call
    }
}

impl Issuer {
    /// For a pipe that has none. Fails with [`ENOMEM`].
    pub fn new() -> Result<KBox<Self>> {
        let state = State::new()?;
        // INVARIANT: None is issued.
        Ok(KBox::new(
            Self {
                issued: 0,
                coming: Call::new(1, state.clone())?,
                state,
            },
            GFP_KERNEL,
        )?)
    }

    /// The number of the latest call; 0 where there was none.
    #[inline]
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// How far the kernel is.
    #[inline]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Begins a call. Fails with [`ENOMEM`].
    pub fn draft(&self) -> Result<Draft> {
        Ok(Draft {
            call: self.coming.clone(),
            successor: Call::new(self.issued + 2, self.state.clone())?,
        })
    }

    /// Gives the call its number. Of several drafts one can be issued.
    pub fn issue(&mut self, draft: Draft) {
        if warn_on!(!Arc::ptr_eq(&draft.call, &self.coming)) {
            return;
        }
        self.issued += 1;
        // INVARIANT: Both go on to the next number. The reference that the call was known here by
        // is given up, with `draft`.
        self.coming = draft.successor.clone();
        draft
            .call
            .next
            .store(Arc::into_raw(draft.successor), Release);
    }
}

/// A [`Loan`] that a socket refers to by the data in its queues.
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
        ubuf.flags = (bindings::SKBFL_ZEROCOPY_ENABLE | bindings::SKBFL_SHARED_FRAG) as u8;
        let in_flight = InFlight { ubuf, _loan: loan };
        let in_flight = KBox::into_raw(KBox::new(in_flight, GFP_KERNEL)?);
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
