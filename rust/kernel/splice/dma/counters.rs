// SPDX-License-Identifier: GPL-2.0

//! The counters of a channel.
//!
//! A channel's file in debugfs shows them, see [`ShowCounters`](super::ShowCounters).

#![forbid(unsafe_code)]

use crate::{fmt, splice::driver::EventCounter};

/// The counters of a channel.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests_out: EventCounter,
    pub(super) descriptors_out: EventCounter,
    pub(super) bytes_out: EventCounter,
    pub(super) descriptors_in: EventCounter,
    pub(super) bytes_in: EventCounter,
    /// Bytes that the device accesses in a copy, because it cannot reach the memory: see
    /// [`SGEntry::is_bounced`](crate::scatterlist::SGEntry::is_bounced).
    pub(super) bytes_copied: EventCounter,
    /// The largest number of requests that were queued and not yet released.
    pub(super) in_flight_max: EventCounter,
    /// Requests that could not be mapped, or were cut short.
    pub(super) errors: EventCounter,
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
