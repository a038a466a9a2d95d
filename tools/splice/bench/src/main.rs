// SPDX-License-Identifier: GPL-2.0

//! Counts the instructions of splice operations, or measures their throughput, and compares two
//! kernels.
//!
//! The exit code is 0 for success, 1 if `report --strict` found an operation that exceeds its
//! bound, and 2 for an error.

mod chart;
mod classes;
mod clock;
mod endpoints;
mod measure;
mod memory;
mod operations;
mod report;
mod throughput;
mod throughput_report;
mod transfers;
mod uring;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use memory::Source;
use report::Report;
use throughput_report::ThroughputReport;

/// Measures splice operations, and compares two kernels.
#[derive(Parser)]
#[command(version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures the running kernel; prints a line of CSV for each operation.
    Measure {
        /// A folder on a tmpfs, for two files.
        #[arg(long)]
        dir: PathBuf,

        /// A folder on ext4, for a file.
        #[arg(long)]
        disk: PathBuf,

        /// The number of bytes to move at a time.
        #[arg(long, value_delimiter = ',', default_values_t = [4096, 65_536, 1 << 20])]
        bytes: Vec<usize>,

        /// Only the operations whose name contains this.
        #[arg(long, default_value = "")]
        only: String,

        /// Accepts any clock as the counter of instructions, and works without the plugin.
        #[arg(long)]
        any_clock: bool,

        /// Uses other memory if the kind to measure is not available.
        #[arg(long)]
        any_memory: bool,
    },

    /// Measures the running kernel; prints lines `operation,bytes,requests_per_second` for the
    /// operations of io_uring.
    Rate {
        /// A folder on a tmpfs, for two files.
        #[arg(long)]
        dir: PathBuf,

        /// A folder on ext4, for a file.
        #[arg(long)]
        disk: PathBuf,

        /// How long to measure each operation.
        #[arg(long, default_value_t = 1000)]
        milliseconds: u64,
    },

    /// Joins measurements of two kernels: a table, a CSV file, and a chart.
    Report {
        /// Output of `measure` on the kernel with the C splice.
        #[arg(long)]
        c: PathBuf,

        /// Output of `measure` on the kernel with the Rust splice.
        #[arg(long)]
        rust: PathBuf,

        /// Writes a line for each operation to this file.
        #[arg(long)]
        csv: Option<PathBuf>,

        /// Writes a chart of the ratios to this file.
        #[arg(long)]
        svg: Option<PathBuf>,

        /// Inserts the table into this page, between its marks.
        #[arg(long)]
        page: Option<PathBuf>,

        /// Text for the page after the table.
        #[arg(long, requires = "page")]
        notes: Option<PathBuf>,

        /// Fails if an operation costs more than its bound.
        #[arg(long)]
        strict: bool,
    },

    /// Measures the running kernel; prints lines `transfer,by,bytes_per_second`.
    Throughput {
        /// A folder on a tmpfs, for two files.
        #[arg(long)]
        dir: PathBuf,

        /// The number of bytes to move at a time.
        #[arg(long, default_value_t = 1 << 20)]
        bytes: usize,

        /// How long to measure each transfer.
        #[arg(long, default_value_t = 1000)]
        milliseconds: u64,
    },

    /// Joins outputs of `throughput` from alternating runs on two kernels: a table, and a CSV file.
    ThroughputReport {
        /// Output of each run on the kernel with the C splice.
        #[arg(long, num_args = 1.., required = true)]
        c: Vec<PathBuf>,

        /// Output of each run on the kernel with the Rust splice.
        #[arg(long, num_args = 1.., required = true)]
        rust: Vec<PathBuf>,

        /// Writes a line for each transfer to this file, including all quartiles.
        #[arg(long)]
        csv: Option<PathBuf>,
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

/// Returns whether all operations are within their bounds, if that matters.
fn run(options: Options, out: &mut impl Write) -> Result<bool> {
    match options.command {
        Command::Measure {
            dir,
            disk,
            bytes,
            only,
            any_clock,
            any_memory,
        } => {
            if !any_clock {
                clock::verify()?;
                classes::verify()?;
            }
            let source = if any_memory {
                Source::Any
            } else {
                Source::Required
            };
            measure::measure([&dir, &disk], &bytes, &only, source, out)?;
            Ok(true)
        }
        Command::Rate {
            dir,
            disk,
            milliseconds,
        } => {
            let time = Duration::from_millis(milliseconds);
            measure::rates([&dir, &disk], time, out)?;
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
        Command::Throughput {
            dir,
            bytes,
            milliseconds,
        } => {
            throughput::measure(&dir, bytes, Duration::from_millis(milliseconds), out)?;
            Ok(true)
        }
        Command::ThroughputReport { c, rust, csv } => {
            let c = throughput_report::read(&c)?;
            let rust = throughput_report::read(&rust)?;
            let report = ThroughputReport::join(c, rust)?;
            write!(out, "{}", report.table())?;
            if let Some(path) = csv {
                fs::write(&path, report.csv()).with_context(|| path.display().to_string())?;
            }
            Ok(true)
        }
    }
}
