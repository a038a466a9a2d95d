// SPDX-License-Identifier: GPL-2.0

//! The counters of a channel.
//!
//! A channel's file in debugfs shows them, see [`ShowCounters`](super::ShowCounters). They have
//! relaxed order: a reader sees each number at some moment, and the numbers of one reading can
//! belong to different moments.

#![forbid(unsafe_code)]

use crate::{
    fmt,
    sync::atomic::{ordering::Relaxed, Atomic},
};

/// A number that only grows.
pub(super) struct Counter(Atomic<u64>);

impl Default for Counter {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Counter {
    pub(super) fn add(&self, n: usize) {
        self.0.add(n as u64, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Sets a counter of a maximum to `n`, if `n` is larger. One caller at a time: the comparison
    /// and the store are two steps.
    pub(super) fn raise_to(&self, n: usize) {
        if n as u64 > self.get() {
            self.0.store(n as u64, Relaxed);
        }
    }
}

/// The counters of a channel.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests_out: Counter,
    pub(super) descriptors_out: Counter,
    pub(super) bytes_out: Counter,
    pub(super) descriptors_in: Counter,
    pub(super) bytes_in: Counter,
    /// Bytes that the device accesses in a copy, because it cannot reach the memory: see
    /// [`SGEntry::is_bounced`](crate::scatterlist::SGEntry::is_bounced).
    pub(super) bytes_copied: Counter,
    /// The largest number of requests that were queued and not yet released.
    pub(super) in_flight_max: Counter,
    /// Requests that could not be mapped, or were cut short.
    pub(super) errors: Counter,
}

impl Counters {
    /// Writes one `name value` per line.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in [
            ("requests.out", &self.requests_out),
            ("descriptors.out", &self.descriptors_out),
            ("bytes.dma.out", &self.bytes_out),
            ("descriptors.in", &self.descriptors_in),
            ("bytes.dma.in", &self.bytes_in),
            ("bytes.copied", &self.bytes_copied),
            ("in_flight.max", &self.in_flight_max),
            ("errors", &self.errors),
        ] {
            writeln!(f, "{name} {}", counter.get())?;
        }
        Ok(())
    }
}
