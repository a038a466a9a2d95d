// SPDX-License-Identifier: GPL-2.0

//! Waiting for the file at the other end of a transfer, by its `->poll`.
//!
//! C header: [`include/linux/poll.h`](srctree/include/linux/poll.h)

use super::{
    counters::Counter,
    wait::interrupted, //
};
use crate::{
    bindings,
    fs::LocalFile,
    pipe::Pipe,
    prelude::*,
    sync::poll::{PollEvent, PollEvents}, //
};
use core::{
    mem::MaybeUninit,
    ptr, //
};

/// A point in time at which a wait ends, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadline(Option<bindings::ktime_t>);

impl Deadline {
    /// No limit.
    pub const NEVER: Self = Self(None);

    /// The end of a time-out of `jiffies` that begins now. `MAX_SCHEDULE_TIMEOUT` is no limit.
    pub fn after(jiffies: c_long) -> Self {
        if jiffies == c_long::MAX {
            return Self::NEVER;
        }
        // SAFETY: Both functions have no requirements.
        // CAST: A time-out is not negative.
        let (now, ns) = unsafe {
            (
                bindings::ktime_get(),
                bindings::jiffies64_to_nsecs(jiffies as u64),
            )
        };
        Self(Some(now.saturating_add(ns.min(i64::MAX as u64) as i64)))
    }

    /// Returns the error of a call that a signal interrupts: [`EINTR`] if the wait has a limit, so
    /// that a restart does not begin a new time-out, else [`ERESTARTSYS`]. C: `sock_intr_errno`.
    pub fn interrupted(&self) -> Error {
        if self.0.is_some() {
            EINTR
        } else {
            ERESTARTSYS
        }
    }
}

/// The result of a wait for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The file was ready at once.
    Ready,
    /// The file became ready while the task slept.
    Slept,
    /// The deadline passed.
    TimedOut,
    /// A signal is pending.
    Interrupted,
    /// There is no memory to register in all wait queues of the file.
    NoMemory,
}

/// Sleeps until `is_ready` returns `true` for the events that `->poll` of `file` reports, until
/// `deadline`, or until a signal is pending.
///
/// Only events of `events`, and those that `poll(2)` always reports, wake the task. The file is
/// looked at before the first sleep, so no change since the last attempt is missed.
///
/// `_unlocked` is the pipe of the transfer. Its exclusive borrow ensures that the caller holds
/// neither the pipe's mutex nor freeze protection, whose guards borrow it as well.
#[inline(never)]
pub fn wait_for_file(
    file: &LocalFile,
    _unlocked: &mut Pipe<'_>,
    events: PollEvents,
    deadline: Deadline,
    mut is_ready: impl FnMut(PollEvents) -> bool,
) -> Waited {
    let mut queues = MaybeUninit::<bindings::poll_wqueues>::uninit();
    let queues = queues.as_mut_ptr();
    let always = PollEvent::Error | PollEvent::HangUp;
    // SAFETY: `poll_initwait` initializes `queues`, which stays in place until `poll_freewait`.
    unsafe {
        bindings::poll_initwait(queues);
        (*queues).pt._key = (events | always).into();
    }
    let mut expires = deadline.0;
    let expires = expires.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
    let (mut slept, mut timed_out) = (false, false);
    let waited = loop {
        // SAFETY: The file is valid, since there is a reference to it, and `queues` is initialized.
        let mask = unsafe { bindings::vfs_poll(file.as_ptr(), &raw mut (*queues).pt) };
        if is_ready(PollEvents::from_mask(mask)) {
            break if slept { Waited::Slept } else { Waited::Ready };
        }
        // SAFETY: `queues` is initialized.
        if unsafe { (*queues).error } != 0 {
            break Waited::NoMemory;
        }
        if interrupted() {
            break Waited::Interrupted;
        }
        if timed_out {
            break Waited::TimedOut;
        }
        // SAFETY: `queues` is initialized. The task has registered in the queues of the file, and
        // does not register again. `expires` is null or points to a time.
        timed_out = unsafe {
            (*queues).pt._qproc = None;
            bindings::poll_schedule_timeout(
                queues,
                bindings::TASK_INTERRUPTIBLE as c_int,
                expires,
                0,
            )
        } == 0;
        slept = true;
    };
    // SAFETY: `queues` is initialized, and is not used afterwards.
    unsafe { bindings::poll_freewait(queues) };
    waited
}

/// Returns whether `->poll` of `file` reports one of `events`, an error, or a hang-up. Does not
/// sleep. A file without `->poll`, such as a regular one, is always ready.
#[inline]
pub fn is_ready(file: &LocalFile, events: PollEvents) -> bool {
    // SAFETY: The file is valid, since there is a reference to it. Without a table, `->poll`
    // registers nothing.
    let mask = unsafe { bindings::vfs_poll(file.as_ptr(), ptr::null_mut()) };
    PollEvents::from_mask(mask).contains_any(events | PollEvent::Error | PollEvent::HangUp)
}

/// Counts how often in a row a file was ready and still transferred nothing.
///
/// # Examples
///
/// ```
/// use kernel::splice::{Tries, Waited};
///
/// let mut tries = Tries::default();
/// // A task that slept for the file in between does not spin.
/// for _ in 0..100 {
///     assert!(!tries.are_futile(Waited::Slept));
/// }
/// // A file that claims to be ready each time does not get many attempts.
/// assert!((0..100).any(|_| tries.are_futile(Waited::Ready)));
/// ```
#[derive(Default)]
pub struct Tries(u32);

impl Tries {
    /// The number of attempts that may follow each other without a sleep.
    const MOST: u32 = 4;

    /// Records the wait before the next attempt. Returns whether that attempt should rather block:
    /// the file was ready several times in a row without any effect. A socket for which there is
    /// no memory is an example.
    pub fn are_futile(&mut self, waited: Waited) -> bool {
        Counter::WaitsTries.add(1);
        match waited {
            Waited::Ready => self.0 += 1,
            // Only a wait in the file itself needs no memory.
            Waited::NoMemory => self.0 = Self::MOST,
            _ => self.0 = 0,
        }
        if self.0 < Self::MOST {
            return false;
        }
        self.0 = 0;
        Counter::WaitsLocked.add(1);
        true
    }
}
