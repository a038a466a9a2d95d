// SPDX-License-Identifier: GPL-2.0

//! The line on a terminal that shows the progress, and the line at the end.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use splice_rdma::size::{mib, thousands};

/// The time between two updates.
const PERIOD: Duration = Duration::from_millis(250);

/// The progress of a transfer.
pub struct Progress {
    total: Option<u64>,
    start: Instant,
    shown: Instant,
    moved: u64,
    visible: bool,
    /// The line on the terminal has not ended.
    open: bool,
}

impl Progress {
    /// Begins. `total` is the number of bytes, if it is known.
    pub fn new(total: Option<u64>, quiet: bool) -> Self {
        let now = Instant::now();
        Self {
            total,
            start: now,
            shown: now,
            moved: 0,
            visible: !quiet && io::stderr().is_terminal(),
            open: false,
        }
    }

    /// Counts `bytes` more, and shows the line if it is time.
    pub fn add(&mut self, bytes: u64) {
        self.moved += bytes;
        if self.visible && self.shown.elapsed() >= PERIOD {
            self.shown = Instant::now();
            self.open = true;
            let line = line(self.moved, self.total, self.start.elapsed());
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r{line}\x1b[K");
            let _ = err.flush();
        }
    }

    /// The bytes so far.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// Returns the sentence for the end.
    pub fn summary(&self, verb: &str) -> String {
        summary(verb, self.moved, self.start.elapsed())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.open {
            eprintln!();
        }
    }
}

fn rate(moved: u64, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| moved as f64 / seconds)
}

fn line(moved: u64, total: Option<u64>, time: Duration) -> String {
    let mut line = mib(moved as f64);
    if let Some(total) = total {
        let percent = (moved as f64 / total.max(1) as f64 * 100.0).min(100.0);
        line += &format!(" of {}, {percent:.0} %", mib(total as f64));
    }
    if let Some(rate) = rate(moved, time) {
        line += &format!(", {}/s", mib(rate));
        if let (Some(total), true) = (total, rate > 0.0) {
            let left = total.saturating_sub(moved) as f64 / rate;
            line += &format!(", {left:.0} s left");
        }
    }
    line
}

fn summary(verb: &str, moved: u64, time: Duration) -> String {
    let rate = rate(moved, time).map_or_else(String::new, |rate| format!(", {}/s", mib(rate)));
    format!(
        "{verb} {} bytes in {:.1} s{rate}",
        thousands(moved),
        time.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_is_known() {
        let time = Duration::from_secs(2);
        assert_eq!(
            line(4 << 20, Some(16 << 20), time),
            "4.0 MiB of 16.0 MiB, 25 %, 2.0 MiB/s, 6 s left"
        );
        assert_eq!(line(4 << 20, None, time), "4.0 MiB, 2.0 MiB/s");
        assert_eq!(line(0, Some(0), Duration::ZERO), "0.0 MiB of 0.0 MiB, 0 %");
    }

    #[test]
    fn the_summary_has_the_exact_number() {
        assert_eq!(
            summary("sent", 3 << 20, Duration::from_millis(1500)),
            "sent 3,145,728 bytes in 1.5 s, 2.0 MiB/s"
        );
        assert_eq!(summary("sent", 0, Duration::ZERO), "sent 0 bytes in 0.0 s");
    }
}
