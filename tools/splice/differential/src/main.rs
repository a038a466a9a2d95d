// SPDX-License-Identifier: GPL-2.0

//! Generates a random sequence of operations from a seed, executes it, and prints the results.
//! These are the same on all kernels with the same behaviour.
//!
//! `run` executes sequences on the running kernel. `compare` compares its output on two kernels;
//! `explain` finds a short sequence on which they differ.

mod arena;
mod compound;
mod executor;
mod explain;
mod folders;
mod jobs;
mod memory;
mod op;
mod plan;
mod region;
mod shrink;
mod transcript;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use clap::{Args, Parser, Subcommand};

use arena::Pool;
use executor::{count_sigpipe, Executor};
use explain::{compare, parse_result, Sides, LOST};
use folders::Folders;
use jobs::{parse_keep, supervise, watchdog, Job};
use memory::Huge;
use plan::plan;
use transcript::Transcript;

/// Random sequences of splice operations, for comparing two kernels.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Changes the result of one operation, to test that the comparison finds it.
    #[arg(long, global = true, value_name = "SEED:INDEX", value_parser = parse_perturb)]
    perturb: Option<(u64, usize)>,

    /// Fails if huge pages are missing. Reserves huge pages of hugetlb.
    #[arg(long, global = true)]
    require_huge_pages: bool,

    #[command(subcommand)]
    command: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Executes sequences; prints a seed and a hash for each.
    Run(Run),
    /// Compares two outputs of run; prints TAP and the number of batches that passed and failed.
    Compare(Compare),
    /// Shows where two sides differ, and a short sequence on which they still differ.
    Explain(Explain),
}

#[derive(Args)]
struct Range {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The number of seeds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: u64,
}

#[derive(Args)]
struct Length {
    /// The number of operations in a sequence.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    ops: u32,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    range: Range,

    #[command(flatten)]
    length: Length,

    /// Only these operations, by index, separated by commas.
    #[arg(long)]
    keep: Option<String>,

    /// A file with a job on each line: a seed, a space, and "all" or indexes as for --keep.
    #[arg(long, conflicts_with_all = ["seed", "count", "keep"])]
    jobs: Option<PathBuf>,

    /// Prints the result of every operation.
    #[arg(long)]
    transcript: bool,

    /// Prints how often each operation had which result, at the end.
    #[arg(long)]
    statistics: bool,

    /// A folder on tmpfs.
    #[arg(long, env = "SPLICE_TMPFS_DIR", default_value = "/dev/shm")]
    tmpfs: PathBuf,

    /// A folder on ext4.
    #[arg(long, env = "SPLICE_EXT4_DIR", default_value = "/var/tmp")]
    ext4: PathBuf,

    /// Time limit of a sequence in seconds.
    #[arg(long, default_value_t = 60)]
    limit: u64,

    /// Executes the jobs from this one on in this process.
    #[arg(long, hide = true)]
    worker: Option<usize>,
}

#[derive(Args)]
struct Compare {
    #[command(flatten)]
    range: Range,

    /// The number of seeds in one test.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,

    /// Writes the seeds that differ to this file.
    #[arg(long)]
    diverged: Option<PathBuf>,

    left: PathBuf,
    right: PathBuf,
}

#[derive(Args)]
struct Explain {
    /// The seed.
    #[arg(long)]
    seed: u64,

    #[command(flatten)]
    length: Length,

    /// The maximum number of runs of both sides to shorten the sequence.
    #[arg(long, default_value_t = 16)]
    rounds: usize,

    /// The folder for transcripts.
    #[arg(long)]
    folder: PathBuf,

    /// The names of the sides.
    #[arg(long, num_args = 2, default_values = ["c", "rust"])]
    names: Vec<String>,

    /// The shell commands that start this program on each side.
    #[arg(long, num_args = 2, required = true)]
    sides: Vec<String>,
}

fn parse_perturb(text: &str) -> Result<(u64, usize)> {
    let (seed, index) = text.split_once(':').context("not SEED:INDEX")?;
    Ok((seed.parse()?, index.parse()?))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.command {
        Mode::Run(run) => match run.worker {
            Some(skip) => run.work(skip, &options).map(|()| true),
            None => run.supervise(&options).map(|()| true),
        },
        Mode::Compare(compare) => compare.run(),
        Mode::Explain(explain) => explain.run(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

impl Run {
    fn jobs(&self) -> Result<Vec<Job>> {
        if let Some(path) = &self.jobs {
            let name = path.display();
            let text = fs::read_to_string(path).with_context(|| name.to_string())?;
            return text.lines().map(str::parse).collect();
        }
        let keep = self.keep.as_deref().map(parse_keep).transpose()?;
        Ok((0..self.range.count)
            .map(|i| Job {
                seed: self.range.seed.wrapping_add(i),
                keep: keep.clone(),
            })
            .collect())
    }

    /// Executes the jobs in other processes, so that a job that kills its process is only one lost
    /// result.
    fn supervise(&self, options: &Options) -> Result<()> {
        let jobs = self.jobs()?;
        // A requirement of all jobs fails here, and not in each job.
        if options.require_huge_pages {
            Huge::new(true)?;
        }
        let program = std::env::current_exe().context("this program")?;
        let command = |skip: usize| {
            let mut command = Command::new(&program);
            command
                .args(std::env::args_os().skip(1))
                .arg(format!("--worker={skip}"));
            command
        };
        supervise(
            jobs.len(),
            command,
            |line| parse_result(line).is_some(),
            |job, why| format!("{} {LOST}{why}", jobs[job].seed),
            &mut io::stdout().lock(),
        )
    }

    fn work(&self, skip: usize, options: &Options) -> Result<()> {
        let process = std::process::id();
        let folders = Folders {
            tmpfs: self.tmpfs.join(format!("differential.{process}")),
            ext4: self.ext4.join(format!("differential.{process}")),
        };
        let pool = Pool::new(options.require_huge_pages)?;
        let huge = Huge::new(options.require_huge_pages)?;
        let current = watchdog(Duration::from_secs(self.limit));
        count_sigpipe()?;
        let mut statistics = Statistics::default();
        let ops = self.length.ops as usize;
        for job in self.jobs()?.into_iter().skip(skip) {
            current.fetch_add(1, Ordering::Relaxed);
            let plan = plan(job.seed, ops);
            let keep = job.keep.unwrap_or_else(|| (0..ops).collect());
            if keep.last().is_some_and(|last| *last >= ops) {
                bail!("there are {ops} operations only");
            }
            // A new thread has no state in the kernel from earlier jobs.
            let transcript = std::thread::scope(|scope| {
                let run = || {
                    Executor::new(&folders, &pool, &huge)?.run(&plan, &keep, |entry| {
                        if options.perturb == Some((job.seed, entry.index)) {
                            entry.perturb();
                        }
                        // Print at once: this may be the last line before the time limit.
                        if self.transcript {
                            println!("{entry}");
                        }
                    })
                };
                match scope.spawn(run).join() {
                    Ok(transcript) => transcript,
                    Err(_) => bail!("seed {}: panic", job.seed),
                }
            });
            let transcript = transcript?;
            if self.transcript {
                print!("{}", transcript.end());
            }
            statistics.add(&transcript);
            println!("{} {:016x}", job.seed, transcript.hash());
        }
        if self.statistics {
            eprint!("{}", statistics.text());
            for (region, why) in &huge.missing {
                eprintln!("memory: no {region}, ordinary memory instead: {why}");
            }
        }
        Ok(())
    }
}

/// How often each operation had which result.
#[derive(Default)]
struct Statistics(BTreeMap<(String, String), usize>);

impl Statistics {
    fn add(&mut self, transcript: &Transcript) {
        for entry in &transcript.entries {
            let name = entry.call.split(' ').next().unwrap_or_default();
            let end = match entry.result {
                _ if ["absent", "would block", "lent"]
                    .iter()
                    .any(|s| entry.after.starts_with(s)) =>
                {
                    entry
                        .after
                        .split(" #")
                        .next()
                        .unwrap_or_default()
                        .to_owned()
                }
                1.. => "some".to_owned(),
                0 => "0".to_owned(),
                error => errno_text(error),
            };
            *self.0.entry((name.to_owned(), end)).or_default() += 1;
        }
    }

    fn text(&self) -> String {
        self.0
            .iter()
            .map(|((name, end), count)| format!("{name:16} {end:16} {count:8}\n"))
            .collect()
    }
}

fn errno_text(error: i64) -> String {
    io::Error::from_raw_os_error(-error as i32)
        .to_string()
        .split(" (")
        .next()
        .unwrap_or_default()
        .chars()
        .take(16)
        .collect()
}

impl Compare {
    fn run(&self) -> Result<bool> {
        let read =
            |path: &PathBuf| fs::read_to_string(path).with_context(|| path.display().to_string());
        let comparison = compare(
            &read(&self.left)?,
            &read(&self.right)?,
            self.range.seed,
            self.range.count,
            self.batch,
        );
        print!("{}", comparison.report);
        println!(
            "{} passed, {} failed, 0 skipped",
            comparison.passed, comparison.failed
        );
        if let Some(path) = &self.diverged {
            let lines: String = comparison
                .diverged
                .iter()
                .map(|seed| format!("{seed}\n"))
                .collect();
            fs::write(path, lines).with_context(|| path.display().to_string())?;
        }
        Ok(comparison.failed == 0 && comparison.passed > 0)
    }
}

impl Explain {
    fn run(&self) -> Result<bool> {
        let (names, sides) = (&self.names, &self.sides);
        let sides = Sides {
            commands: [&sides[0], &sides[1]],
            names: [&names[0], &names[1]],
            folder: &self.folder,
            ops: self.length.ops as usize,
        };
        sides.explain(self.seed, self.rounds, &mut io::stdout().lock())
    }
}
