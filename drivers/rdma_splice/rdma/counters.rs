// SPDX-License-Identifier: GPL-2.0

//! The counters of the driver, and the file that shows them in debugfs: one `name value` per line.

use kernel::{
    debugfs::Writer,
    fmt,
    sync::atomic::{ordering::Relaxed, Atomic},
};

/// A counter.
pub(crate) struct Counter(Atomic<u64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.add(n, Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.add(n.wrapping_neg(), Relaxed);
    }
}

/// The counters of all connections since the module was loaded.
pub(crate) struct Counters {
    /// Connections that exist.
    pub(crate) connections: Counter,
    /// Connections that ended with an error.
    pub(crate) failed: Counter,
    /// Messages with data.
    pub(crate) messages_out: Counter,
    pub(crate) messages_in: Counter,
    /// Messages without data.
    pub(crate) control_out: Counter,
    pub(crate) control_in: Counter,
    /// Bytes that were sent from pages of a pipe.
    pub(crate) bytes_out: Counter,
    /// Bytes that were received into pages that went into a pipe.
    pub(crate) bytes_in: Counter,
    /// Bytes that read(2) and write(2) copied.
    pub(crate) bytes_copied: Counter,
    /// Sends that are posted and not complete.
    pub(crate) sends_posted: Counter,
    /// Pages to receive into, including those in pipes.
    pub(crate) pages: Counter,
}

pub(crate) static COUNTERS: Counters = Counters {
    connections: Counter::new(),
    failed: Counter::new(),
    messages_out: Counter::new(),
    messages_in: Counter::new(),
    control_out: Counter::new(),
    control_in: Counter::new(),
    bytes_out: Counter::new(),
    bytes_in: Counter::new(),
    bytes_copied: Counter::new(),
    sends_posted: Counter::new(),
    pages: Counter::new(),
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
            writeln!(f, "{name} {}", counter.0.load(Relaxed))?;
        }
        Ok(())
    }
}
