// SPDX-License-Identifier: GPL-2.0

//! How far a run of tests is, and how long the rest takes.
//!
//! The estimate is the time that the same tests took in the last run. Without a last run it is the
//! mean time of the tests that have ended. The file of times has one line for each test: the label
//! of the run, the test, and milliseconds, with tabs between them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The times of the last runs, for each label and test.
#[derive(Debug, Default)]
pub struct Times(HashMap<(String, String), Duration>);

impl Times {
    /// Reads the file; a file that does not exist has no times.
    pub fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        Self(
            text.lines()
                .filter_map(|line| {
                    let mut fields = line.split('\t');
                    let key = (fields.next()?.to_owned(), fields.next()?.to_owned());
                    let time = fields.next()?.parse().ok()?;
                    Some((key, Duration::from_millis(time)))
                })
                .collect(),
        )
    }

    /// Replaces the file by one that has the times of `progress`, too.
    pub fn update(mut self, file: &Path, progress: &Progress) -> Result<()> {
        for (test, time) in &progress.ended {
            self.0.insert((progress.label.clone(), test.clone()), *time);
        }
        let mut lines: Vec<_> = self
            .0
            .iter()
            .map(|((label, test), time)| format!("{label}\t{test}\t{}\n", time.as_millis()))
            .collect();
        lines.sort();
        let new = file.with_extension("new");
        fs::write(&new, lines.concat())
            .and_then(|()| fs::rename(&new, file))
            .with_context(|| file.display().to_string())
    }

    fn of(&self, label: &str) -> HashMap<String, Duration> {
        self.0
            .iter()
            .filter(|((of, _), _)| of == label)
            .map(|((_, test), time)| (test.clone(), *time))
            .collect()
    }
}

/// How far a run is.
#[derive(Debug)]
pub struct Progress {
    label: String,
    unit: &'static str,
    /// The tests of the last run that have not ended in this one, with their times.
    expected: HashMap<String, Duration>,
    /// The tests that this run is limited to; empty for all.
    selected: HashSet<String>,
    ended: Vec<(String, Duration)>,
    last: Duration,
}

impl Progress {
    /// `selected` are the tests that run, if that is known.
    pub fn new(label: &str, unit: &'static str, times: &Times, selected: &[String]) -> Self {
        let selected: HashSet<_> = selected.iter().cloned().collect();
        let mut expected = times.of(label);
        if !selected.is_empty() {
            expected.retain(|test, _| selected.contains(test));
        }
        Self {
            label: label.to_owned(),
            unit,
            expected,
            selected,
            ended: Vec::new(),
            last: Duration::ZERO,
        }
    }

    /// The test has ended, `elapsed` after the start of the run.
    pub fn end(&mut self, test: &str, elapsed: Duration) {
        self.expected.remove(test);
        self.ended
            .push((test.to_owned(), elapsed.saturating_sub(self.last)));
        self.last = elapsed;
    }

    /// Returns how many tests have ended, and the time that is left: "3 of 10 programs, 40 s, about
    /// 90 s left". `total` is the number of tests, if the output had it.
    pub fn line(&self, total: Option<usize>, elapsed: Duration) -> String {
        let done = self.ended.len();
        let total = total
            .or((!self.selected.is_empty()).then_some(self.selected.len()))
            .or((!self.expected.is_empty()).then_some(done + self.expected.len()));
        let of = total.map_or(String::new(), |total| format!(" of {total}"));
        let left = match total.and_then(|total| self.left(total, elapsed)) {
            Some(left) => format!(", about {} s left", left.as_secs()),
            None => String::new(),
        };
        format!(
            "  {}: {done}{of} {}, {} s{left}",
            self.label,
            self.unit,
            elapsed.as_secs()
        )
    }

    fn left(&self, total: usize, elapsed: Duration) -> Option<Duration> {
        let done = self.ended.len();
        let missing = total.saturating_sub(done);
        let known = self.expected.len().min(missing);
        let unknown = u32::try_from(missing - known).ok()?;
        let known: Duration = self.expected.values().sum();
        let mean = if unknown == 0 {
            Duration::ZERO
        } else {
            self.last.checked_div(u32::try_from(done).ok()?)?
        };
        // The test that runs has used a part of its time.
        Some((known + mean * unknown).saturating_sub(elapsed.saturating_sub(self.last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_first_run_uses_the_mean() {
        let mut progress = Progress::new(
            "guest",
            "programs",
            &Times::default(),
            &names(&["a", "b", "c"]),
        );
        assert_eq!(
            progress.line(None, seconds(5)),
            "  guest: 0 of 3 programs, 5 s"
        );
        progress.end("a", seconds(10));
        assert_eq!(
            progress.line(None, seconds(12)),
            "  guest: 1 of 3 programs, 12 s, about 18 s left"
        );
    }

    #[test]
    fn a_later_run_uses_the_times_of_the_last_one() {
        let folder = std::env::temp_dir().join(format!("splice-results-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("times");
        let mut first = Progress::new("guest", "programs", &Times::read(&file), &[]);
        first.end("a", seconds(10));
        first.end("b", seconds(90));
        Times::read(&file).update(&file, &first).unwrap();

        let mut second = Progress::new("guest", "programs", &Times::read(&file), &[]);
        assert_eq!(
            second.line(None, seconds(0)),
            "  guest: 0 of 2 programs, 0 s, about 90 s left"
        );
        second.end("a", seconds(10));
        assert_eq!(
            second.line(None, seconds(30)),
            "  guest: 1 of 2 programs, 30 s, about 60 s left"
        );
        // Another label has times of its own.
        let other = Progress::new("host", "tests", &Times::read(&file), &[]);
        assert_eq!(other.line(None, seconds(3)), "  host: 0 tests, 3 s");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_test_that_takes_longer_than_expected_leaves_no_negative_time() {
        let mut progress =
            Progress::new("guest", "programs", &Times::default(), &names(&["a", "b"]));
        progress.end("a", seconds(1));
        assert_eq!(
            progress.line(None, seconds(500)),
            "  guest: 1 of 2 programs, 500 s, about 0 s left"
        );
    }
}
