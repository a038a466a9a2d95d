// SPDX-License-Identifier: GPL-2.0

//! Runs tests, shows how far they are, keeps their results in a file and reports them.
//!
//! The scripts call it: `scripts/check` for the tests of `make check`, `scripts/programs` for the
//! tables of `make programs`.

mod formats;
mod kernels;
mod outcome;
mod progress;
mod report;
mod run;
mod tap;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use formats::{reader, Format};
use outcome::{append, Origin, Outcome, Verdict};
use progress::{Progress, Times};

/// Runs tests, and keeps and reports their results.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// The file of results.
    #[arg(long, default_value = "build/check/results")]
    results: PathBuf,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a command that prints results of tests; its exit code is that of the command.
    Run {
        #[command(flatten)]
        origin: Origin,

        #[arg(long, value_enum, default_value_t = Format::Tap)]
        format: Format,

        /// The program of TAP that does not name it.
        #[arg(long, default_value = "")]
        program: String,

        /// A program that must run to its end; once for each.
        #[arg(long)]
        expect: Vec<String>,

        /// The times of the last run, for the estimate.
        #[arg(long)]
        times: PathBuf,

        #[arg(last = true, required = true)]
        command: Vec<String>,
    },

    /// Reads a file with results of tests.
    Read {
        #[command(flatten)]
        origin: Origin,

        #[arg(long, value_enum)]
        format: Format,
    },

    /// Adds one result.
    Add {
        #[command(flatten)]
        origin: Origin,

        #[arg(value_parser = verdict)]
        verdict: Verdict,
        name: String,
        #[arg(default_value = "")]
        reason: String,
    },

    /// Adds a failure if all tests of the stage whose names start so were skipped, or if there is
    /// none; without a name, if the stage has no results.
    Expect {
        #[command(flatten)]
        origin: Origin,

        #[arg(default_value = "")]
        name: String,
    },

    /// Prints what did not pass, and the totals; fails if a test failed, or if none passed.
    Report {
        /// The file for the line of totals.
        #[arg(long)]
        totals: PathBuf,
    },

    /// Compares the logs of scripts/guest-programs of two kernels; prints two tables, and appends
    /// what is wrong to a file.
    Kernels {
        #[arg(long)]
        c: PathBuf,

        #[arg(long)]
        rust: PathBuf,

        #[arg(long)]
        problems: PathBuf,
    },
}

/// The exit code for an error of this program, other than those of most commands.
const OWN_ERROR: u8 = 125;

fn verdict(word: &str) -> Result<Verdict, String> {
    Verdict::from_word(word).ok_or_else(|| "neither pass, fail nor skip".to_owned())
}

/// The exit code of a command as this program's own.
fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn read(log: &str, format: Format) -> Result<Vec<Outcome>> {
    let mut reader = reader(format, "", &[]);
    let mut outcomes = Vec::new();
    let file = File::open(log).with_context(|| log.to_owned())?;
    run::read_lines(file, &mut [], |line| reader.line(line, &mut outcomes))
        .with_context(|| log.to_owned())?;
    reader.end(0, &mut outcomes);
    Ok(outcomes)
}

/// Whether a test of the stage ran whose name starts with `name`, or has any result if `name` is
/// empty.
fn has_run(results: &Path, stage: &str, name: &str) -> Result<bool> {
    Ok(outcome::read(results)?.iter().any(|record| {
        let ran = name.is_empty() || record.verdict != Verdict::Skip;
        ran && record.stage == stage && record.name.starts_with(name)
    }))
}

fn execute(options: Options) -> Result<ExitCode> {
    let results = options.results;
    match options.command {
        Command::Run {
            origin,
            format,
            program,
            expect,
            times,
            command,
        } => {
            let unit = match format {
                Format::Kselftest => "programs",
                Format::Kunit => "suites",
                Format::Tap | Format::Cargo => "tests",
            };
            let label = if format == Format::Kselftest || program.is_empty() {
                origin.stage.clone()
            } else {
                format!("{} {program}", origin.stage)
            };
            let progress = Progress::new(&label, unit, &Times::read(&times), &expect);
            let (code, outcomes, progress) = run::run(
                &command,
                Path::new(&origin.log),
                reader(format, &program, &expect),
                progress,
            )?;
            append(&results, &origin, &outcomes)?;
            Times::read(&times).update(&times, &progress)?;
            Ok(exit_code(code))
        }
        Command::Read { origin, format } => {
            append(&results, &origin, &read(&origin.log, format)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Add {
            origin,
            verdict,
            name,
            reason,
        } => {
            append(
                &results,
                &origin,
                &[Outcome::new(verdict, &name, "", &reason)],
            )?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Expect { origin, name } => {
            if !has_run(&results, &origin.stage, &name)? {
                let name = if name.is_empty() {
                    &origin.stage
                } else {
                    &name
                };
                let outcome = Outcome::new(Verdict::Fail, name, "", "did not run");
                append(&results, &origin, &[outcome])?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Report { totals } => {
            let mut records = outcome::read(&results)?;
            let sum = report::totals(&mut records);
            fs::write(&totals, format!("{sum}\n")).with_context(|| totals.display().to_string())?;
            let mut text = format!("{}{sum}\n", report::not_passed(&records));
            if let Some(line) = report::how_to_repeat(&records) {
                text += &line;
                text.push('\n');
            }
            io::stdout().write_all(text.as_bytes())?;
            Ok(exit_code((!sum.success()).into()))
        }
        Command::Kernels { c, rust, problems } => {
            let comparison = kernels::compare(&kernels::read(&c)?, &kernels::read(&rust)?);
            io::stdout().write_all(comparison.tables.as_bytes())?;
            let mut file = File::options()
                .create(true)
                .append(true)
                .open(&problems)
                .with_context(|| problems.display().to_string())?;
            for problem in &comparison.problems {
                writeln!(file, "{problem}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn main() -> ExitCode {
    execute(Options::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(OWN_ERROR)
    })
}
