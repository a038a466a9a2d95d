// SPDX-License-Identifier: GPL-2.0

//! Counters that a driver shows in debugfs.

#![forbid(unsafe_code)]

use crate::sync::atomic::{ordering::Relaxed, Atomic};

/// A number of events or bytes. It has relaxed order: a reader sees each number at some moment, and
/// the numbers of one reading can belong to different moments.
///
/// # Examples
///
/// ```
/// use kernel::splice::driver::EventCounter;
///
/// static PAGES: EventCounter = EventCounter::new();
///
/// PAGES.add(3);
/// PAGES.sub(1);
/// assert_eq!(PAGES.get(), 2);
/// PAGES.raise_to(1);
/// assert_eq!(PAGES.get(), 2);
/// ```
pub struct EventCounter(Atomic<u64>);

impl EventCounter {
    /// Creates a counter at 0.
    pub const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds `n`.
    pub fn add(&self, n: usize) {
        self.0.add(n as u64, Relaxed);
    }

    /// Subtracts `n`, which was added before.
    pub fn sub(&self, n: usize) {
        self.0.add((n as u64).wrapping_neg(), Relaxed);
    }

    /// Sets a counter of a maximum to `n`, if `n` is larger. One caller at a time: the comparison
    /// and the store are two steps.
    pub fn raise_to(&self, n: usize) {
        if n as u64 > self.get() {
            self.0.store(n as u64, Relaxed);
        }
    }

    /// Returns the number.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Default for EventCounter {
    fn default() -> Self {
        Self::new()
    }
}
