// SPDX-License-Identifier: GPL-2.0

//! Room in a pipe that is reserved for a task that waits for its data.
//!
//! A stream, such as a terminal, is read with the pipe unlocked, because it may wait for any time.
//! It cannot take back what it returned, so room is reserved before the read. `max_usage` of the
//! pipe, the limit that all other tasks obey, is lowered by the reserved slots. `nr_accounted`
//! keeps the size of the pipe. A reservation is a number of slots, not a place in the ring.
//!
//! At most one task at a time has a reservation in a pipe. So the data of several tasks that read
//! one source stays in order. One slot can be left to other writers: data that a reader can take
//! may block them, but a reservation alone does not.
//!
//! # Ordering
//!
//! `pipe_poll` and `pipe_writable` load the limit first, then head and tail.
//!
//! - [`ReservedRoom::fill`] stores the head before it raises the limit. A task that sees the raised
//!   limit sees the new head too, and does not take filled slots for free ones.
//! - A task that sees the old limit may find the pipe full although it is not. Therefore a wake-up
//!   follows each store that raises the limit.
//!
//! `tools/splice/ring` has a model of these rules, which is tested with every interleaving.

use super::{filler::Filler, Pipe, PipeRing};
use crate::{
    bindings,
    prelude::*,
    sync::atomic::{ordering::Release, Atomic}, //
};

impl PipeRing<'_> {
    /// Returns the size of the pipe in slots, including reserved ones.
    fn size(&self) -> u32 {
        // SAFETY: The pipe is valid by the type invariant, and the field does not change while the
        // pipe is locked.
        unsafe { (*self.as_ptr()).nr_accounted }
    }

    /// Returns whether a task has [reserved room](ReservedRoom) in the pipe.
    #[inline]
    pub fn has_reservation(&self) -> bool {
        self.max_usage() != self.size()
    }

    /// Sleeps until no task has reserved room, or until a signal arrives. The pipe is unlocked
    /// while this sleeps.
    ///
    /// The caller checks the state of the ring and the signals again afterwards.
    pub fn wait_unreserved(&mut self) {
        let pipe = self.as_ptr();
        // SAFETY: The pipe is valid by the type invariant.
        self.unlocked(|| unsafe { bindings::pipe_wait_unreserved(pipe) });
    }

    /// Stores the number of slots that may be used, which is at most the size of the pipe.
    pub(super) fn set_max_usage(&mut self, limit: u32) {
        // SAFETY: The pipe is valid by the type invariant. Tasks without the lock load the field
        // atomically.
        let max_usage = unsafe { Atomic::from_ptr(&raw mut (*self.as_ptr()).max_usage) };
        // Pairs with the load-acquire in `pipe_poll` and `pipe_writable`.
        max_usage.store(limit, Release);
    }

    /// Reserves up to `n` slots, and returns how many. Leaves one slot to other writers if
    /// `leave_one` is true and the pipe has more than one. There must be no reservation.
    fn reserve(&mut self, n: u32, leave_one: bool) -> u32 {
        let size = self.size();
        let most = if leave_one && size > 1 {
            size - 1
        } else {
            size
        };
        let granted = n.min(most).min(self.space());
        self.set_max_usage(size - granted);
        granted
    }

    /// Gives the reserved slots back. The caller wakes the writers.
    fn give_back(&mut self) {
        self.set_max_usage(self.size());
    }
}

/// Reserved room in a pipe that is not locked. Dropping this gives the room back.
///
/// # Invariants
///
/// If `slots` is not 0, the pipe has one reservation, which is for `slots` slots.
///
/// # Examples
///
/// ```
/// use kernel::{
///     fs::LocalFile,
///     pipe::{reserved::ReservedRoom, OwnedPage, Pipe, PipeBuffer},
///     prelude::*,
/// };
///
/// /// Puts one byte into a pipe, without a lock while the page is allocated.
/// fn put(file: &LocalFile) -> Result {
///     let mut pipe = Pipe::of_file(file).ok_or(EINVAL)?;
///     let room = ReservedRoom::take(&mut pipe, 1, true, |ring| {
///         if ring.is_full() || ring.has_reservation() {
///             return Err(EAGAIN);
///         }
///         Ok(())
///     })?;
///     let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 1)?;
///     let (buffers, bytes) = room.fill(|filler| {
///         let _ = filler.push(buf);
///     });
///     assert_eq!((buffers, bytes), (1, 1));
///     Ok(())
/// }
/// ```
pub struct ReservedRoom<'a, 'p> {
    pipe: &'a mut Pipe<'p>,
    slots: u32,
}

impl<'a, 'p> ReservedRoom<'a, 'p> {
    /// Reserves up to `n` slots, at least one, when the pipe has room and no other reservation.
    ///
    /// Calls `wait` with the pipe locked until that is so. `wait` sleeps with the pipe unlocked, or
    /// returns an error, which this returns then. With `leave_one` a slot is left to other writers.
    pub fn take(
        pipe: &'a mut Pipe<'p>,
        n: u32,
        leave_one: bool,
        mut wait: impl FnMut(&mut PipeRing<'_>) -> Result,
    ) -> Result<Self> {
        let mut guard = pipe.lock();
        let mut ring = guard.ring();
        let slots = loop {
            wait(&mut ring)?;
            if ring.has_reservation() {
                continue;
            }
            match ring.reserve(n.max(1), leave_one) {
                0 => (),
                slots => break slots,
            }
        };
        drop(guard);
        // INVARIANT: There was no other reservation, and `slots` slots were reserved above.
        Ok(Self { pipe, slots })
    }

    /// Returns the number of slots.
    #[inline]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Locks the pipe and lets `f` add buffers, which may take up to [`Self::slots`] slots. Gives
    /// the rest of the room back, unlocks the pipe, and wakes readers and writers. Returns the
    /// number of buffers and of bytes.
    ///
    /// This does not check whether the pipe still has readers: the data goes into the pipe, as if
    /// that had been locked since the room was reserved.
    pub fn fill(mut self, f: impl FnOnce(&mut Filler<'_>)) -> (usize, usize) {
        let mut guard = self.pipe.lock();
        let mut ring = guard.ring();
        // SAFETY: By the type invariant so many slots are reserved. They are free, because other
        // tasks put buffers in up to `max_usage` only.
        let mut filler = unsafe { ring.filler_of(self.slots) };
        f(&mut filler);
        // The head first, then the limit: see "Ordering".
        let added = filler.commit();
        ring.give_back();
        drop(guard);
        // INVARIANT: The pipe has no reservation any more.
        self.slots = 0;
        self.pipe.wake_writers();
        if added.1 > 0 {
            self.pipe.wake_readers();
        }
        added
    }
}

impl Drop for ReservedRoom<'_, '_> {
    fn drop(&mut self) {
        if self.slots == 0 {
            return;
        }
        self.pipe.lock().ring().give_back();
        // A writer that found the pipe full sleeps, although no reader will make room.
        self.pipe.wake_writers();
    }
}
