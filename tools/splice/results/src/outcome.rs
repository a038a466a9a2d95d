// SPDX-License-Identifier: GPL-2.0

//! The result of one test, and the file that keeps the results of a run.
//!
//! The file has one line for each test, with tabs between the fields: `pass`, `fail` or `skip`, the
//! stage, the program and the test, the reason, the log, and the command that repeats the test.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{bail, Context, Result};

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    Skip,
}

impl Verdict {
    /// The word for this verdict in the file of results.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Skip => "skip",
        }
    }

    /// The verdict that a word of the file of results stands for.
    pub fn from_word(word: &str) -> Option<Self> {
        [Verdict::Pass, Verdict::Fail, Verdict::Skip]
            .into_iter()
            .find(|verdict| verdict.word() == word)
    }
}

/// A result that a test program reported: of one of its tests, or of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// The program, or the suite of KUnit.
    pub program: String,
    /// The test; empty if the result is that of the whole program.
    pub test: String,
    /// Why the test failed or was skipped; empty if it passed.
    pub reason: String,
}

impl Outcome {
    pub fn new(verdict: Verdict, program: &str, test: &str, reason: &str) -> Self {
        Self {
            verdict,
            program: program.to_owned(),
            test: test.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// The name in reports: the program and the test.
    pub fn name(&self) -> String {
        if self.test.is_empty() {
            self.program.clone()
        } else {
            format!("{} {}", self.program, self.test)
        }
    }
}

/// Where the results of a test program go, and how to repeat one of its tests.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Origin {
    /// The stage of the run.
    #[arg(long)]
    pub stage: String,

    /// The file with the output of the tests.
    #[arg(long, default_value = "")]
    pub log: String,

    /// The command that repeats one test; {program} and {test} are replaced.
    #[arg(long, default_value = "")]
    pub repeat: String,
}

impl Origin {
    /// The command that repeats the test of `outcome`.
    ///
    /// A failure of a whole program is repeated with the whole program: a separator between
    /// `{program}` and `{test}` in the template is left out together with the test. A script, a
    /// module or a stressor is one test.
    fn repeat(&self, outcome: &Outcome) -> String {
        let whole = outcome.test.is_empty() || outcome.program.contains(['.', ':']);
        let template = if whole {
            self.repeat
                .replace("{program}:{test}", "{program}")
                .replace("{program}.{test}", "{program}.*")
                .replace("{test}", "")
        } else {
            self.repeat.clone()
        };
        template
            .replace("{program}", &outcome.program)
            .replace("{test}", &outcome.test)
            .trim_end()
            .to_owned()
    }
}

/// A line of the file of results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub verdict: Verdict,
    pub stage: String,
    pub name: String,
    pub reason: String,
    pub log: String,
    pub repeat: String,
}

impl Record {
    fn line(outcome: &Outcome, origin: &Origin) -> String {
        [
            outcome.verdict.word(),
            &origin.stage,
            &outcome.name(),
            &outcome.reason,
            &origin.log,
            &origin.repeat(outcome),
        ]
        .map(|field| field.replace(['\t', '\n'], " "))
        .join("\t")
            + "\n"
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').map(str::to_owned);
        let record = Self {
            verdict: Verdict::from_word(&fields.next()?)?,
            stage: fields.next()?,
            name: fields.next()?,
            reason: fields.next()?,
            log: fields.next()?,
            repeat: fields.next()?,
        };
        fields.next().is_none().then_some(record)
    }
}

/// Appends the results of a program to the file.
pub fn append(file: &Path, origin: &Origin, outcomes: &[Outcome]) -> Result<()> {
    let text: String = outcomes
        .iter()
        .map(|outcome| Record::line(outcome, origin))
        .collect();
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| file.display().to_string())
}

/// Reads the file. Fails if a line is not a result.
pub fn read(file: &Path) -> Result<Vec<Record>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    text.lines()
        .enumerate()
        .map(|(number, line)| match Record::parse(line) {
            Some(record) => Ok(record),
            None => bail!("{}:{}: not a result: {line}", file.display(), number + 1),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(repeat: &str) -> Origin {
        Origin {
            stage: "kselftest".into(),
            log: "build/check/kselftest.log".into(),
            repeat: repeat.into(),
        }
    }

    #[test]
    fn a_line_can_be_read_again() {
        let outcome = Outcome::new(Verdict::Fail, "tee_test", "tee.empty", "failed");
        let line = Record::line(&outcome, &origin("make check TEST={program}:{test}"));
        let record = Record::parse(line.trim_end_matches('\n')).unwrap();
        assert_eq!(record.name, "tee_test tee.empty");
        assert_eq!(record.repeat, "make check TEST=tee_test:tee.empty");
        assert_eq!(record.log, "build/check/kselftest.log");
    }

    #[test]
    fn a_reason_cannot_forge_a_field() {
        let outcome = Outcome::new(Verdict::Skip, "a", "b", "one\ttwo\nthree");
        let line = Record::line(&outcome, &origin(""));
        assert_eq!(
            Record::parse(line.trim_end_matches('\n')).unwrap().reason,
            "one two three"
        );
    }

    #[test]
    fn a_program_is_repeated_as_a_whole() {
        let origin = origin("make check TEST={program}:{test}");
        let program = Outcome::new(Verdict::Fail, "tee_test", "", "did not run to its end");
        assert_eq!(origin.repeat(&program), "make check TEST=tee_test");
        let script = Outcome::new(
            Verdict::Fail,
            "notify_example.sh",
            "notify_example.sh",
            "failed",
        );
        assert_eq!(origin.repeat(&script), "make check TEST=notify_example.sh");
    }

    #[test]
    fn lines_that_are_no_results_are_refused() {
        assert_eq!(Record::parse("passed\ta\tb\tc\td\te"), None);
        assert_eq!(Record::parse("pass\ta\tb\tc"), None);
        assert_eq!(Record::parse("pass\ta\tb\tc\td\te\tf"), None);
    }
}
