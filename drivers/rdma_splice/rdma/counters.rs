// SPDX-License-Identifier: GPL-2.0

//! The counters of the driver, and the file that shows them in debugfs: one `name value` per line.

use kernel::{debugfs::Writer, fmt, splice::driver::EventCounter};

/// The counters of all connections since the module was loaded.
pub(crate) struct Counters {
    /// Connections that exist.
    pub(crate) connections: EventCounter,
    /// Connections that ended with an error.
    pub(crate) failed: EventCounter,
    /// Messages with data.
    pub(crate) messages_out: EventCounter,
    pub(crate) messages_in: EventCounter,
    /// Messages without data.
    pub(crate) control_out: EventCounter,
    pub(crate) control_in: EventCounter,
    /// Bytes that were sent from pages of a pipe.
    pub(crate) bytes_out: EventCounter,
    /// Bytes that were received into pages that went into a pipe.
    pub(crate) bytes_in: EventCounter,
    /// Bytes that read(2) and write(2) copied.
    pub(crate) bytes_copied: EventCounter,
    /// Sends that are posted and not complete.
    pub(crate) sends_posted: EventCounter,
    /// Pages to receive into, including those in pipes.
    pub(crate) pages: EventCounter,
}

pub(crate) static COUNTERS: Counters = Counters {
    connections: EventCounter::new(),
    failed: EventCounter::new(),
    messages_out: EventCounter::new(),
    messages_in: EventCounter::new(),
    control_out: EventCounter::new(),
    control_in: EventCounter::new(),
    bytes_out: EventCounter::new(),
    bytes_in: EventCounter::new(),
    bytes_copied: EventCounter::new(),
    sends_posted: EventCounter::new(),
    pages: EventCounter::new(),
};

/// Shows the counters.
pub(crate) struct Shown;

impl Writer for Shown {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in [
            ("connections", &COUNTERS.connections),
            ("failed", &COUNTERS.failed),
            ("messages.out", &COUNTERS.messages_out),
            ("messages.in", &COUNTERS.messages_in),
            ("control.out", &COUNTERS.control_out),
            ("control.in", &COUNTERS.control_in),
            ("bytes.rdma.out", &COUNTERS.bytes_out),
            ("bytes.rdma.in", &COUNTERS.bytes_in),
            ("bytes.copied", &COUNTERS.bytes_copied),
            ("sends.posted", &COUNTERS.sends_posted),
            ("pages", &COUNTERS.pages),
        ] {
            writeln!(f, "{name} {}", counter.get())?;
        }
        Ok(())
    }
}
