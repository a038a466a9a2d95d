// SPDX-License-Identifier: GPL-2.0

//! The kinds of output that tests have, each turned into results line by line.

use std::collections::BTreeSet;

use clap::ValueEnum;

use crate::outcome::{Outcome, Verdict};
use crate::tap::{plan, End, Program};

/// The format of the output of tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One program that prints TAP.
    Tap,
    /// The programs of scripts/guest-tests, each with TAP of its own.
    Kselftest,
    /// The log of a kernel with the results of KUnit.
    Kunit,
    /// The test programs of cargo.
    Cargo,
}

/// Reads the output of tests.
pub trait Reader {
    /// Reads a line without its end. Appends what it says to `outcomes`.
    fn line(&mut self, line: &str, outcomes: &mut Vec<Outcome>);

    /// Ends with the exit code of the command whose output this was.
    fn end(&mut self, code: i32, outcomes: &mut Vec<Outcome>);

    /// The number of tests or programs, if that is known.
    fn total(&self) -> Option<usize>;

    /// The test, or the program with all its tests, that ended since the last call.
    fn finished(&mut self) -> Vec<String>;
}

/// Makes a reader for `format`. `program` is the program of TAP that does not name it, and
/// `expected` are the programs that must run.
pub fn reader(format: Format, program: &str, expected: &[String]) -> Box<dyn Reader> {
    match format {
        Format::Tap => Box::new(Tap {
            program: Some(Program::new(program)),
            planned: None,
            finished: Vec::new(),
        }),
        Format::Kselftest => Box::new(Kselftest {
            program: None,
            total: expected.len(),
            missing: expected.iter().cloned().collect(),
            finished: Vec::new(),
        }),
        Format::Kunit => Box::new(Kunit::default()),
        Format::Cargo => Box::new(Cargo::new(program)),
    }
}

struct Tap {
    program: Option<Program>,
    planned: Option<usize>,
    finished: Vec<String>,
}

impl Reader for Tap {
    fn line(&mut self, line: &str, outcomes: &mut Vec<Outcome>) {
        let Some(program) = &mut self.program else {
            return;
        };
        if let Some(outcome) = program.line(line) {
            self.finished.push(outcome.test.clone());
            outcomes.push(outcome);
        }
        self.planned = program.planned();
    }

    fn end(&mut self, code: i32, outcomes: &mut Vec<Outcome>) {
        if let Some(program) = self.program.take() {
            outcomes.extend(program.end(End::Exit(code)));
        }
    }

    fn total(&self) -> Option<usize> {
        self.planned
    }

    fn finished(&mut self) -> Vec<String> {
        std::mem::take(&mut self.finished)
    }
}

struct Kselftest {
    program: Option<Program>,
    total: usize,
    missing: BTreeSet<String>,
    finished: Vec<String>,
}

impl Kselftest {
    fn end_program(&mut self, end: End, outcomes: &mut Vec<Outcome>) {
        if let Some(program) = self.program.take() {
            self.finished.push(program.name.clone());
            outcomes.extend(program.end(end));
        }
    }
}

impl Reader for Kselftest {
    fn line(&mut self, line: &str, outcomes: &mut Vec<Outcome>) {
        if let Some(name) = line.strip_prefix("# program ") {
            self.end_program(End::Lost, outcomes);
            self.program = Some(Program::new(name));
        } else if let Some((name, code)) = line
            .strip_prefix("# exit ")
            .and_then(|rest| rest.rsplit_once(' '))
        {
            let end = code.parse().map_or(End::Lost, End::Exit);
            if self
                .program
                .as_ref()
                .is_some_and(|program| program.name == name)
            {
                self.missing.remove(name);
                self.end_program(end, outcomes);
            }
        } else if let Some(program) = &mut self.program {
            outcomes.extend(program.line(line));
        }
    }

    fn end(&mut self, _code: i32, outcomes: &mut Vec<Outcome>) {
        self.end_program(End::Lost, outcomes);
        outcomes.extend(
            std::mem::take(&mut self.missing)
                .iter()
                .map(|name| Outcome::new(Verdict::Fail, name, "", "did not run to its end")),
        );
    }

    fn total(&self) -> Option<usize> {
        Some(self.total)
    }

    fn finished(&mut self) -> Vec<String> {
        std::mem::take(&mut self.finished)
    }
}

/// Suites are the outer level of TAP, and their tests the next one. Results of a test's parameters
/// are a third level, which is not counted: the test has their common result.
#[derive(Default)]
struct Kunit {
    started: bool,
    planned: Option<usize>,
    suite: Option<Program>,
    done: usize,
    finished: Vec<String>,
}

impl Kunit {
    fn end_suite(&mut self, end: End, outcomes: &mut Vec<Outcome>) {
        if let Some(suite) = self.suite.take() {
            self.finished.push(suite.name.clone());
            outcomes.extend(suite.end(end));
        }
    }
}

impl Reader for Kunit {
    fn line(&mut self, line: &str, outcomes: &mut Vec<Outcome>) {
        let line = without_time(line);
        if line.starts_with("KTAP version") {
            self.started = true;
        } else if !self.started {
        } else if let Some(name) = line.strip_prefix("    # Subtest: ") {
            self.end_suite(End::Lost, outcomes);
            self.suite = Some(Program::new(name));
        } else if let Some(line) = line.strip_prefix("    ") {
            if let Some(suite) = &mut self.suite {
                outcomes.extend(suite.line(line));
            }
        } else if self.planned.is_none() && plan(line).is_some() {
            self.planned = plan(line);
        } else if self
            .suite
            .as_ref()
            .is_some_and(|suite| ends(line, &suite.name))
        {
            self.done += 1;
            self.end_suite(End::Exit(0), outcomes);
        }
    }

    fn end(&mut self, _code: i32, outcomes: &mut Vec<Outcome>) {
        self.end_suite(End::Lost, outcomes);
        if self.planned.is_none_or(|planned| planned != self.done) {
            let reason = format!(
                "{} of {} suites ended",
                self.done,
                self.planned.unwrap_or(0)
            );
            outcomes.push(Outcome::new(Verdict::Fail, "suites", "", &reason));
        }
    }

    fn total(&self) -> Option<usize> {
        self.planned
    }

    fn finished(&mut self) -> Vec<String> {
        std::mem::take(&mut self.finished)
    }
}

/// The line of a kernel log without the time at its start.
fn without_time(line: &str) -> &str {
    line.strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .filter(|(time, _)| time.trim_start().parse::<f64>().is_ok())
        .map_or(line, |(_, rest)| rest)
}

/// Whether the line is the result of the suite: `ok 1 suite`.
fn ends(line: &str, suite: &str) -> bool {
    let line = line.strip_prefix("not ").unwrap_or(line);
    line.strip_prefix("ok ")
        .and_then(|rest| rest.split_once(' '))
        .is_some_and(|(number, rest)| {
            number.bytes().all(|byte| byte.is_ascii_digit())
                && rest.split(" #").next().unwrap_or("").trim() == suite
        })
}

struct Cargo {
    name: String,
    failed: bool,
    any: bool,
    finished: Vec<String>,
}

impl Cargo {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            failed: false,
            any: false,
            finished: Vec::new(),
        }
    }
}

impl Reader for Cargo {
    fn line(&mut self, line: &str, outcomes: &mut Vec<Outcome>) {
        let Some((test, result)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        // "test NAME - should panic ... ok"
        let test = test.split(" - ").next().unwrap_or(test);
        let (verdict, reason) = if result == "ok" {
            (Verdict::Pass, "")
        } else if result == "FAILED" {
            (Verdict::Fail, "failed")
        } else if let Some(rest) = result.strip_prefix("ignored") {
            (Verdict::Skip, rest.trim_start_matches(", "))
        } else {
            return;
        };
        self.any = true;
        self.failed |= verdict == Verdict::Fail;
        self.finished.push(test.to_owned());
        outcomes.push(Outcome::new(verdict, test, "", reason));
    }

    fn end(&mut self, code: i32, outcomes: &mut Vec<Outcome>) {
        if !self.failed && (code != 0 || !self.any) {
            let reason = if code == 0 {
                "no test ran".to_owned()
            } else {
                format!("exit code {code}")
            };
            outcomes.push(Outcome::new(Verdict::Fail, &self.name, "", &reason));
        }
    }

    fn total(&self) -> Option<usize> {
        None
    }

    fn finished(&mut self) -> Vec<String> {
        std::mem::take(&mut self.finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        format: Format,
        program: &str,
        expected: &[&str],
        text: &str,
        code: i32,
    ) -> Vec<String> {
        let expected: Vec<_> = expected.iter().map(|&name| name.to_owned()).collect();
        let mut reader = reader(format, program, &expected);
        let mut outcomes = Vec::new();
        for line in text.lines() {
            reader.line(line, &mut outcomes);
        }
        reader.end(code, &mut outcomes);
        outcomes
            .iter()
            .map(|outcome| {
                format!(
                    "{} {}: {}",
                    outcome.verdict.word(),
                    outcome.name(),
                    outcome.reason
                )
            })
            .collect()
    }

    #[test]
    fn kselftest_programs_have_results_of_their_own() {
        let text = "# program a\n1..1\nok 1 x\n# exit a 0\n\
                    # program b.sh\n1..1\nnot ok 1 b.sh\n# exit b.sh 0\n";
        assert_eq!(
            read(Format::Kselftest, "", &["a", "b.sh"], text, 0),
            ["pass a x: ", "fail b.sh b.sh: failed"]
        );
    }

    #[test]
    fn kselftest_programs_that_are_missing_or_end_early_fail() {
        let text = "# program a\n1..2\nok 1 x\n# program b\n1..1\nok 1 y\n";
        assert_eq!(
            read(Format::Kselftest, "", &["a", "b", "c"], text, 1),
            [
                "pass a x: ",
                "fail a: 1 results of 2 planned tests",
                "pass b y: ",
                "fail b: it did not end",
                "fail a: did not run to its end",
                "fail b: did not run to its end",
                "fail c: did not run to its end",
            ]
        );
    }

    #[test]
    fn kunit_suites_are_programs() {
        let text = "\
[    0.100000] booting
[    0.300000] KTAP version 1
[    0.300000] 1..2
[    0.300000]     KTAP version 1
[    0.300000]     # Subtest: ring
[    0.300000]     # module: kernel
[    0.300000]     1..2
[    0.300000]     ok 1 wraps
[    0.300000]         KTAP version 1
[    0.300000]         ok 1 parameter
[    0.300000] other message
[    0.300000]     ok 2 masks # SKIP no memory
[    0.300000] # ring: pass:1 fail:0 skip:1 total:2
[    0.300000] ok 1 ring
[    0.300000]     KTAP version 1
[    0.300000]     # Subtest: pipe
[    0.300000]     1..1
[    0.300000]     not ok 1 drops
[    0.300000] not ok 2 pipe
";
        assert_eq!(
            read(Format::Kunit, "", &[], text, 0),
            [
                "pass ring wraps: ",
                "skip ring masks: no memory",
                "fail pipe drops: failed"
            ]
        );
    }

    #[test]
    fn kunit_without_all_suites_fails() {
        let text =
            "KTAP version 1\n1..2\n    # Subtest: ring\n    1..1\n    ok 1 wraps\nok 1 ring\n";
        assert_eq!(
            read(Format::Kunit, "", &[], text, 0),
            ["pass ring wraps: ", "fail suites: 1 of 2 suites ended"]
        );
        assert_eq!(
            read(Format::Kunit, "", &[], "", 0),
            ["fail suites: 0 of 0 suites ended"]
        );
    }

    #[test]
    fn cargo_tests() {
        let text = "running 3 tests\ntest ring::wraps ... ok\n\
                    test slow ... ignored, takes an hour\ntest ring::masks ... FAILED\n";
        assert_eq!(
            read(Format::Cargo, "cargo test", &[], text, 101),
            [
                "pass ring::wraps: ",
                "skip slow: takes an hour",
                "fail ring::masks: failed"
            ]
        );
    }

    #[test]
    fn cargo_that_does_not_build_fails() {
        assert_eq!(
            read(Format::Cargo, "cargo test", &[], "error: no\n", 101),
            ["fail cargo test: exit code 101"]
        );
        assert_eq!(
            read(Format::Cargo, "cargo test", &[], "", 0),
            ["fail cargo test: no test ran"]
        );
    }
}
