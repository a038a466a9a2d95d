// SPDX-License-Identifier: GPL-2.0

//! The end of a run: each failure and skipped test, and the totals.

use crate::outcome::{Record, Verdict};

/// The numbers of tests with each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Totals {
    /// Whether tests ran, and none failed.
    pub fn success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Counts the results; a test that was skipped without a reason has failed.
pub fn totals(records: &mut [Record]) -> Totals {
    let mut totals = Totals::default();
    for record in records {
        if record.verdict == Verdict::Skip && record.reason.is_empty() {
            record.verdict = Verdict::Fail;
            record.reason = "skipped without a reason".to_owned();
        }
        match record.verdict {
            Verdict::Pass => totals.passed += 1,
            Verdict::Fail => totals.failed += 1,
            Verdict::Skip => totals.skipped += 1,
        }
    }
    totals
}

/// The tests that did not pass, the skipped ones first, as lines.
pub fn not_passed(records: &[Record]) -> String {
    let lines = |verdict, word: &str| {
        records
            .iter()
            .filter(move |record| record.verdict == verdict)
            .map(|record| {
                format!(
                    "{word}: {}: {}: {}\n",
                    record.stage, record.name, record.reason
                )
            })
            .collect::<String>()
    };
    lines(Verdict::Skip, "skipped") + &lines(Verdict::Fail, "FAILED")
}

/// The last line after a failure: the log, and the command that repeats the first test that failed.
pub fn how_to_repeat(records: &[Record]) -> Option<String> {
    let record = records
        .iter()
        .find(|record| record.verdict == Verdict::Fail)?;
    let log = if record.log.is_empty() {
        "there is no log".to_owned()
    } else {
        format!("log: {}", record.log)
    };
    Some(if record.repeat.is_empty() {
        log
    } else {
        format!("{log}; repeat {} with: {}", record.name, record.repeat)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(verdict: Verdict, name: &str, reason: &str) -> Record {
        Record {
            verdict,
            stage: "kselftest".into(),
            name: name.into(),
            reason: reason.into(),
            log: "build/check/kselftest.log".into(),
            repeat: format!("make check TEST={name}"),
        }
    }

    #[test]
    fn the_totals_and_what_did_not_pass() {
        let mut records = [
            record(Verdict::Fail, "a", "failed"),
            record(Verdict::Pass, "b", ""),
            record(Verdict::Skip, "c", "no swap"),
        ];
        let totals = totals(&mut records);
        assert_eq!(totals.to_string(), "1 passed, 1 failed, 1 skipped");
        assert!(!totals.success());
        assert_eq!(
            not_passed(&records),
            "skipped: kselftest: c: no swap\nFAILED: kselftest: a: failed\n"
        );
        assert_eq!(
            how_to_repeat(&records).unwrap(),
            "log: build/check/kselftest.log; repeat a with: make check TEST=a"
        );
    }

    #[test]
    fn a_skip_without_a_reason_is_a_failure() {
        let mut records = [
            record(Verdict::Pass, "a", ""),
            record(Verdict::Skip, "b", ""),
        ];
        assert_eq!(totals(&mut records).failed, 1);
        assert_eq!(records[1].reason, "skipped without a reason");
    }

    #[test]
    fn no_test_is_no_success() {
        assert!(!totals(&mut []).success());
        let mut passed = [record(Verdict::Pass, "a", "")];
        assert!(totals(&mut passed).success());
        assert_eq!(how_to_repeat(&passed), None);
    }
}
