// SPDX-License-Identifier: GPL-2.0

//! Counts the instructions of splice operations, and compares two kernels.
//!
//! Exits with 0 if all went well, with 1 if `report --strict` found an operation
//! that costs too much, and with 2 if something failed.

mod chart;
mod clock;
mod ends;
mod measure;
mod operations;
mod report;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use report::Report;

/// Counts the instructions of splice operations, and compares two kernels.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures the kernel at hand; prints lines `operation,bytes,instructions`.
    Measure {
        /// A folder on a tmpfs, for two files.
        #[arg(long)]
        dir: PathBuf,

        /// How many bytes to move at a time.
        #[arg(long, value_delimiter = ',', default_values_t = [4096, 65_536, 1 << 20])]
        bytes: Vec<usize>,

        /// Only the operations whose name contains this.
        #[arg(long, default_value = "")]
        only: String,

        /// Takes any clock for a counter of instructions.
        #[arg(long)]
        any_clock: bool,
    },

    /// Joins what was measured on two kernels: a table, a CSV file, and a chart.
    Report {
        /// What `measure` printed on the kernel with the C splice.
        #[arg(long)]
        c: PathBuf,

        /// What `measure` printed on the kernel with the Rust splice.
        #[arg(long)]
        rust: PathBuf,

        /// Writes lines `operation,bytes,c,rust,ratio` there.
        #[arg(long)]
        csv: Option<PathBuf>,

        /// Draws a chart of the ratios there.
        #[arg(long)]
        svg: Option<PathBuf>,

        /// Puts the table into this page, in the place that it has for it.
        #[arg(long)]
        page: Option<PathBuf>,

        /// What stands behind the table in the page.
        #[arg(long, requires = "page")]
        notes: Option<PathBuf>,

        /// Fails where an operation costs more than it may.
        #[arg(long)]
        strict: bool,
    },
}

fn main() -> ExitCode {
    match run(Options::parse(), &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is as it should be.
fn run(options: Options, out: &mut impl Write) -> Result<bool> {
    match options.command {
        Command::Measure {
            dir,
            bytes,
            only,
            any_clock,
        } => {
            if !any_clock {
                clock::verify()?;
            }
            measure::measure(&dir, &bytes, &only, out)?;
            Ok(true)
        }
        Command::Report {
            c,
            rust,
            csv,
            svg,
            page,
            notes,
            strict,
        } => {
            let report = Report::join(&report::read(&c)?, &report::read(&rust)?)?;
            write!(out, "{}", report.table())?;
            if let Some(path) = csv {
                fs::write(&path, report.csv()).with_context(|| path.display().to_string())?;
            }
            if let Some(path) = svg {
                let svg = chart::svg(&report).context("drawing the chart")?;
                fs::write(&path, svg).with_context(|| path.display().to_string())?;
            }
            if let Some(path) = page {
                let read = |path: &PathBuf| {
                    fs::read_to_string(path).with_context(|| path.display().to_string())
                };
                let notes = notes.as_ref().map(read).transpose()?.unwrap_or_default();
                let page = report.insert_into(&read(&path)?, &notes);
                let page = page.with_context(|| path.display().to_string())?;
                fs::write(&path, page).with_context(|| path.display().to_string())?;
            }
            Ok(!strict || report.over().count() == 0)
        }
    }
}
