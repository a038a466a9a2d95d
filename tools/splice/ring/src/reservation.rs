// SPDX-License-Identifier: GPL-2.0

//! Reservation of pipe slots.
//!
//! A filler is a task that fills a pipe from a source that may block, such as a socket. It locks
//! the pipe and reserves slots, unlocks the pipe and waits for the source, then locks the pipe
//! again, fills some of the reserved slots and gives the others back. All other tasks count
//! reserved slots as used. A reservation is a number of slots, not a place in the ring: other
//! tasks add buffers in the meantime, and the filler adds its own at the current head.
//!
//! This is a model of `rust/kernel/pipe/reserved.rs` and of what `fs/pipe.c` does with
//! `max_usage` and `nr_accounted`. In the kernel, the slot for other writers is left only by
//! sources whose data may be cut at any byte, and only one task at a time has a reservation.
//!
//! # Ordering
//!
//! Pollers and blocked writers check for room without the pipe's mutex, see [`seems_full`]. They
//! add themselves to the wait queue first, then load the limit, then head and tail.
//!
//! - [`Reservations::fill`] stores the head before it raises the limit. A task that sees the
//!   raised limit sees the new head too, and does not take filled slots for free ones.
//! - A task that sees the old limit may find the pipe full although it is not. Therefore each
//!   store that raises the limit is followed by a wake-up, even if the pipe was not full before.

use super::ring::Indices;

/// A pipe whose mutex is held, so that only the holder stores to it.
pub trait LockedPipe {
    /// The current head and tail.
    fn indices(&self) -> Indices;

    /// Stores head and tail in one store.
    fn store_indices(&mut self, indices: Indices);

    /// Stores [`Reservations::limit`], for tasks that do not hold the mutex. A store-release.
    fn store_limit(&mut self, limit: u32);

    /// Wakes tasks that wait for room, in `poll(2)` and in `write(2)`. An implementation may
    /// delay this until the pipe is unlocked. A full memory barrier orders it after earlier stores.
    fn wake_writers(&mut self);
}

/// A pipe whose mutex is not held: each value may be out of date once it is read.
pub trait UnlockedPipe {
    /// Loads the limit that [`LockedPipe::store_limit`] stored. A load-acquire.
    fn load_limit(&self) -> u32;

    /// Loads head and tail in one load.
    fn load_indices(&self) -> Indices;
}

/// Whether the pipe seems full to a task that does not hold its mutex. C: `pipe_poll` and
/// `pipe_writable`.
///
/// A task that sleeps if this returns `true` adds itself to the wait queue before the call.
#[inline]
pub fn seems_full(pipe: &impl UnlockedPipe) -> bool {
    // The limit first: see "Ordering" in the module's documentation.
    let limit = pipe.load_limit();
    pipe.load_indices().is_full(limit)
}

/// The error of [`Reservations::resize`]: the slots in use do not fit. The errno is `EBUSY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// The reserved slots of one pipe, guarded by the pipe's mutex.
///
/// Occupancy and `reserved` together are at most `max_usage` if every task adds buffers within
/// [`Self::limit`] only, except for fillers, which use [`Self::fill`].
///
/// # Invariants
///
/// `max_usage` is at least one. `reserved` is at most `most_reserved(max_usage)`.
#[derive(Clone, Copy, Debug)]
pub struct Reservations {
    reserved: u32,
    max_usage: u32,
}

/// The number of slots that may be reserved. One slot is left to other writers: data that a
/// reader can take may block them, but a reservation alone does not. A pipe of one slot has no
/// slot to leave.
const fn most_reserved(max_usage: u32) -> u32 {
    if max_usage > 1 {
        max_usage - 1
    } else {
        max_usage
    }
}

impl Reservations {
    /// No reservation, in a pipe of `max_usage` slots; zero counts as one.
    #[inline]
    pub const fn new(max_usage: u32) -> Self {
        let max_usage = if max_usage == 0 { 1 } else { max_usage };
        // INVARIANT: `max_usage` is not zero, and nothing is reserved.
        Self {
            reserved: 0,
            max_usage,
        }
    }

    /// The size of the pipe in slots, reserved ones included. C: `max_usage`.
    #[inline]
    pub const fn max_usage(&self) -> u32 {
        self.max_usage
    }

    /// The number of slots that may hold buffers while the reserved slots are not filled. This
    /// takes the place of `max_usage` for all tasks that add or remove buffers: a reader wakes
    /// writers if the occupancy was at this limit.
    #[inline]
    pub const fn limit(&self) -> u32 {
        self.max_usage - self.reserved
    }

    /// Reserves up to `n` slots. Returns the number of slots reserved: zero if the pipe is full
    /// or if only the slot for other writers is left.
    #[must_use]
    pub fn reserve(&mut self, n: u32, pipe: &mut impl LockedPipe) -> u32 {
        let left = most_reserved(self.max_usage) - self.reserved;
        let granted = n.min(left).min(pipe.indices().space(self.limit()));
        // INVARIANT: `granted` is at most `left`.
        self.reserved += granted;
        pipe.store_limit(self.limit());
        granted
    }

    /// Adds buffers of `k` reserved slots, which the caller has written at the head, and wakes
    /// writers. The caller has reserved at least `k` slots.
    pub fn fill(&mut self, k: u32, pipe: &mut impl LockedPipe) {
        // The head first: see "Ordering" in the module's documentation.
        pipe.store_indices(pipe.indices().advance_head(k));
        self.give_back(k, pipe);
    }

    /// Gives `k` reserved slots back and wakes writers. The caller has reserved at least `k` slots.
    pub fn give_back(&mut self, k: u32, pipe: &mut impl LockedPipe) {
        debug_assert!(k <= self.reserved);
        // INVARIANT: `reserved` does not grow.
        self.reserved = self.reserved.saturating_sub(k);
        pipe.store_limit(self.limit());
        pipe.wake_writers();
    }

    /// Changes the size of the pipe to `max_usage` slots, as `F_SETPIPE_SZ` does, and moves the
    /// tail to zero. The caller moves the buffers to the new array before it unlocks the pipe.
    /// C: `pipe_resize_ring`.
    ///
    /// Returns [`Busy`] and changes nothing if the buffers and the reserved slots do not fit, or
    /// if the reserved slots would leave no slot to other writers. No pipe has zero slots.
    pub fn resize(&mut self, max_usage: u32, pipe: &mut impl LockedPipe) -> Result<(), Busy> {
        let occupancy = pipe.indices().occupancy();
        let fits = occupancy <= max_usage.saturating_sub(self.reserved);
        if max_usage == 0 || self.reserved > most_reserved(max_usage) || !fits {
            return Err(Busy);
        }
        // INVARIANT: `max_usage` is not zero, and `reserved` was compared above.
        self.max_usage = max_usage;
        pipe.store_indices(Indices::new(occupancy, 0));
        pipe.store_limit(self.limit());
        pipe.wake_writers();
        Ok(())
    }
}
