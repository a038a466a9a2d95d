// SPDX-License-Identifier: GPL-2.0

//! The counters of a channel, and the file that shows them in debugfs: one `name value` per line.

use super::{Channel, Engine};
use kernel::{
    debugfs::Writer,
    fmt,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        Arc, //
    },
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
    /// [`SGEntry::is_bounced`](kernel::scatterlist::SGEntry::is_bounced).
    pub(super) bytes_copied: Counter,
    /// The largest number of requests that were queued and not yet released.
    pub(super) in_flight_max: Counter,
    /// Requests that could not be mapped, or were cut short.
    pub(super) errors: Counter,
}

/// Shows the counters of a channel in debugfs.
pub(crate) struct CountersOf<E: Engine>(pub(crate) Arc<Channel<E>>);

impl<E: Engine> Writer for CountersOf<E> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = self.0.counters();
        for (name, counter) in [
            ("requests.out", &counters.requests_out),
            ("descriptors.out", &counters.descriptors_out),
            ("bytes.dma.out", &counters.bytes_out),
            ("descriptors.in", &counters.descriptors_in),
            ("bytes.dma.in", &counters.bytes_in),
            ("bytes.copied", &counters.bytes_copied),
            ("in_flight.max", &counters.in_flight_max),
            ("errors", &counters.errors),
        ] {
            writeln!(f, "{name} {}", counter.get())?;
        }
        Ok(())
    }
}
