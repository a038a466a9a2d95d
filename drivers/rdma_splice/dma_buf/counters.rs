// SPDX-License-Identifier: GPL-2.0

//! The counters of the driver, and the file that shows them in debugfs: one `name value` per line.

use kernel::{debugfs::Writer, fmt, splice::driver::EventCounter};

/// The counters of all files since the module was loaded.
pub(crate) struct Counters {
    /// Dma-bufs that exist.
    pub(crate) bufs: EventCounter,
    /// The bytes of their pages.
    pub(crate) held: EventCounter,
    /// Dma-bufs that were made, for reading only and for writing.
    pub(crate) shared: EventCounter,
    pub(crate) private: EventCounter,
    /// Bytes of data that were gathered.
    pub(crate) gathered: EventCounter,
    /// Those of them that were copied.
    pub(crate) copied: EventCounter,
    /// Bytes that were spliced from the device.
    pub(crate) returned: EventCounter,
}

pub(crate) static COUNTERS: Counters = Counters {
    bufs: EventCounter::new(),
    held: EventCounter::new(),
    shared: EventCounter::new(),
    private: EventCounter::new(),
    gathered: EventCounter::new(),
    copied: EventCounter::new(),
    returned: EventCounter::new(),
};

/// Shows the counters.
pub(crate) struct Shown;

impl Writer for Shown {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in [
            ("bufs", &COUNTERS.bufs),
            ("bytes.held", &COUNTERS.held),
            ("exports.shared", &COUNTERS.shared),
            ("exports.private", &COUNTERS.private),
            ("bytes.gathered", &COUNTERS.gathered),
            ("bytes.copied", &COUNTERS.copied),
            ("bytes.returned", &COUNTERS.returned),
        ] {
            writeln!(f, "{name} {}", counter.get())?;
        }
        Ok(())
    }
}
