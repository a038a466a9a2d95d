// SPDX-License-Identifier: GPL-2.0

//! The Test Anything Protocol as the kernel's tests write it (KTAP).

use crate::outcome::{Outcome, Verdict};

/// A result line of TAP: `ok 1 - name # SKIP reason`.
#[derive(Debug, PartialEq, Eq)]
struct ResultLine<'a> {
    ok: bool,
    name: &'a str,
    directive: Option<(Directive, &'a str)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Directive {
    Skip,
    ExpectedFailure,
}

impl<'a> ResultLine<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (ok, rest) = match line.strip_prefix("not ") {
            Some(rest) => (false, rest),
            None => (true, line),
        };
        let rest = rest.strip_prefix("ok ")?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let rest = &rest[digits..];
        if !rest.is_empty() && !rest.starts_with(' ') {
            return None;
        }
        let (name, comment) = rest.split_once("# ").unwrap_or((rest, ""));
        let name = name.trim();
        let directive = if let Some(reason) = comment.strip_prefix("SKIP") {
            Some((Directive::Skip, reason.trim()))
        } else {
            comment
                .strip_prefix("XFAIL")
                .map(|reason| (Directive::ExpectedFailure, reason.trim()))
        };
        Some(Self {
            ok,
            name: name.strip_prefix("- ").unwrap_or(name),
            directive,
        })
    }
}

/// The number of tests that a line plans: `1..5`.
pub fn plan(line: &str) -> Option<usize> {
    let number = line.strip_prefix("1..")?;
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    number[..digits].parse().ok()
}

/// Whether a program ended as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    /// The output ends before the program did.
    Lost,
}

/// The output of one program, read line by line.
#[derive(Debug)]
pub struct Program {
    pub name: String,
    plan: Option<usize>,
    seen: usize,
    failed: bool,
}

impl Program {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            plan: None,
            seen: 0,
            failed: false,
        }
    }

    /// The number of planned tests, if the output has it by now.
    pub fn planned(&self) -> Option<usize> {
        self.plan
    }

    /// Reads a line. Returns a result if it has one.
    pub fn line(&mut self, line: &str) -> Option<Outcome> {
        if let Some(plan) = plan(line) {
            self.plan = Some(plan);
            return None;
        }
        let line = ResultLine::parse(line)?;
        self.seen += 1;
        let (verdict, reason) = match (line.ok, line.directive) {
            (false, _) => (Verdict::Fail, "failed".to_owned()),
            (true, Some((Directive::Skip, reason))) => (Verdict::Skip, reason.to_owned()),
            (true, Some((Directive::ExpectedFailure, reason))) => {
                (Verdict::Pass, format!("as expected, it fails: {reason}"))
            }
            (true, None) => (Verdict::Pass, String::new()),
        };
        self.failed |= verdict == Verdict::Fail;
        Some(Outcome::new(verdict, &self.name, line.name, &reason))
    }

    /// The failure of the program itself, if its results are not complete.
    ///
    /// An exit code other than that of success and of a skipped test is a failure unless a test
    /// failed, which explains it.
    pub fn end(self, end: End) -> Option<Outcome> {
        const SKIPPED: i32 = 4;

        let problem = match (self.plan, end) {
            (None, _) => "no test plan in its output".to_owned(),
            (Some(plan), _) if plan != self.seen => {
                format!("{} results of {plan} planned tests", self.seen)
            }
            (Some(0), _) => "it plans no test".to_owned(),
            _ if self.failed => return None,
            (_, End::Exit(0 | SKIPPED)) => return None,
            (_, End::Exit(code)) => format!("exit code {code}"),
            (_, End::Lost) => "it did not end".to_owned(),
        };
        Some(Outcome::new(Verdict::Fail, &self.name, "", &problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, end: End) -> Vec<(Verdict, String, String)> {
        let mut program = Program::new("tee_test");
        let mut outcomes: Vec<_> = text.lines().filter_map(|line| program.line(line)).collect();
        outcomes.extend(program.end(end));
        outcomes
            .into_iter()
            .map(|outcome| (outcome.verdict, outcome.test, outcome.reason))
            .collect()
    }

    fn one(verdict: Verdict, test: &str, reason: &str) -> Vec<(Verdict, String, String)> {
        vec![(verdict, test.into(), reason.into())]
    }

    #[test]
    fn results_with_directives() {
        assert_eq!(
            run("1..1\nok 1 tee.empty", End::Exit(0)),
            one(Verdict::Pass, "tee.empty", "")
        );
        assert_eq!(
            run("1..1\nok 1 - a b", End::Exit(0)),
            one(Verdict::Pass, "a b", "")
        );
        assert_eq!(
            run("1..1\nok 1 a # SKIP no swap", End::Exit(4)),
            one(Verdict::Skip, "a", "no swap")
        );
        assert_eq!(
            run("1..1\nok 1 # SKIP no swap", End::Exit(4)),
            one(Verdict::Skip, "", "no swap")
        );
        assert_eq!(
            run("1..1\nok 1 # XFAIL a leaks", End::Exit(0)),
            one(Verdict::Pass, "", "as expected, it fails: a leaks")
        );
        assert_eq!(
            run("1..1\nnot ok 1 a # 12 s", End::Exit(1)),
            one(Verdict::Fail, "a", "failed")
        );
    }

    #[test]
    fn a_directive_does_not_hide_a_failure() {
        assert_eq!(
            run("1..1\nnot ok 1 a # SKIP", End::Exit(1)),
            one(Verdict::Fail, "a", "failed")
        );
        assert_eq!(
            run("1..1\nnot ok 1 a # XFAIL", End::Exit(1)),
            one(Verdict::Fail, "a", "failed")
        );
    }

    #[test]
    fn other_lines_are_no_results() {
        for line in [
            "ok",
            "okay 1 a",
            "ok a",
            "    ok 1 nested",
            "# ok 1 a",
            "ok 1a",
            "not okay 1",
        ] {
            assert_eq!(ResultLine::parse(line), None, "{line}");
        }
    }

    #[test]
    fn incomplete_results_are_a_failure() {
        let problem = |text, end| run(text, end).pop().unwrap();
        let fail = |reason: &str| (Verdict::Fail, String::new(), reason.to_owned());
        assert_eq!(
            problem("ok 1 a", End::Exit(0)),
            fail("no test plan in its output")
        );
        assert_eq!(
            problem("", End::Exit(0)),
            fail("no test plan in its output")
        );
        assert_eq!(
            problem("1..2\nok 1 a", End::Exit(0)),
            fail("1 results of 2 planned tests")
        );
        assert_eq!(
            problem("1..1\nok 1 a\nok 2 b", End::Exit(0)),
            fail("2 results of 1 planned tests")
        );
        assert_eq!(problem("1..0", End::Exit(0)), fail("it plans no test"));
        assert_eq!(
            problem("1..1\nok 1 a", End::Exit(139)),
            fail("exit code 139")
        );
        assert_eq!(problem("1..1\nok 1 a", End::Lost), fail("it did not end"));
    }

    #[test]
    fn the_plan_may_come_last() {
        assert_eq!(
            run("ok 1 a\n1..1", End::Exit(0)),
            one(Verdict::Pass, "a", "")
        );
    }
}
