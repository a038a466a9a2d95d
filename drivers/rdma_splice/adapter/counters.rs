// SPDX-License-Identifier: GPL-2.0

//! What a channel counts: a file in debugfs, one `name value` a line.

use super::{Channel, Engine};
use kernel::{
    debugfs::Writer,
    fmt,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        Arc, //
    },
};

/// Something that only grows.
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

    /// For a maximum: `n`, if that is more. One caller at a time.
    pub(super) fn raise_to(&self, n: usize) {
        if n as u64 > self.get() {
            self.0.store(n as u64, Relaxed);
        }
    }
}

/// What a channel counts.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests_out: Counter,
    pub(super) descriptors_out: Counter,
    pub(super) bytes_out: Counter,
    pub(super) descriptors_in: Counter,
    pub(super) bytes_in: Counter,
    /// Bytes that the device does not get to see themselves, but a copy: see
    /// [`SGEntry::is_bounced`](kernel::scatterlist::SGEntry::is_bounced).
    pub(super) bytes_copied: Counter,
    /// The most requests that there were at a time.
    pub(super) in_flight_max: Counter,
    /// Requests that could not be mapped, or were cut short.
    pub(super) errors: Counter,
}

/// The counters of a channel, as a file in debugfs shows them.
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
