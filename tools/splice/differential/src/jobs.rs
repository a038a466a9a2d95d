// SPDX-License-Identifier: GPL-2.0

//! Jobs, each of which is a sequence to execute, and the processes that execute them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{bail, Context, Result};

/// Exit code of a worker whose time limit expired.
const TIMED_OUT: i32 = 124;

/// One sequence, or a part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    pub seed: u64,
    /// Indexes of operations. `None`: all.
    pub keep: Option<Vec<usize>>,
}

impl Job {
    pub fn line(&self) -> String {
        match &self.keep {
            None => format!("{} all", self.seed),
            Some(keep) => {
                let keep: Vec<String> = keep.iter().map(usize::to_string).collect();
                format!("{} {}", self.seed, keep.join(","))
            }
        }
    }
}

impl FromStr for Job {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let Some((seed, keep)) = line.split_once(' ') else {
            bail!("not 'SEED all' or 'SEED INDEX,...': {line}");
        };
        Ok(Self {
            seed: seed.parse().with_context(|| line.to_owned())?,
            keep: match keep {
                "all" => None,
                keep => Some(parse_keep(keep)?),
            },
        })
    }
}

/// Parses indexes in ascending order, such as `1,2,7`.
pub fn parse_keep(text: &str) -> Result<Vec<usize>> {
    let keep = text
        .split(',')
        .map(|index| {
            index
                .trim()
                .parse()
                .with_context(|| format!("no index: {index}"))
        })
        .collect::<Result<Vec<usize>>>()?;
    if !keep.is_sorted_by(|a, b| a < b) {
        bail!("indexes not in order: {text}");
    }
    Ok(keep)
}

/// Ends the process if a job takes longer than `limit`. The caller increases the returned number at
/// the start of each job.
pub fn watchdog(limit: Duration) -> Arc<AtomicU64> {
    let current = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&current);
    thread::spawn(move || {
        let mut last = (u64::MAX, 0);
        let tick = Duration::from_millis(500);
        loop {
            thread::sleep(tick);
            let now = watched.load(Ordering::Relaxed);
            last = if last.0 == now {
                (now, last.1 + 1)
            } else {
                (now, 0)
            };
            if tick * last.1 >= limit {
                std::process::exit(TIMED_OUT);
            }
        }
    });
    current
}

/// Executes `count` jobs in processes made by `command`, whose argument is the number of jobs to
/// skip. If a process ends early, its current job is lost, and another process executes the rest.
/// `done` returns whether a line ends a job.
pub fn supervise(
    count: usize,
    command: impl Fn(usize) -> Command,
    done: impl Fn(&str) -> bool,
    lost: impl Fn(usize, &str) -> String,
    out: &mut impl Write,
) -> Result<()> {
    let mut next = 0;
    while next < count {
        let mut child = command(next)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("worker")?;
        let stdout = child.stdout.take().context("worker")?;
        for line in BufReader::new(stdout).lines() {
            let line = line.context("worker")?;
            next += usize::from(done(&line));
            writeln!(out, "{line}")?;
        }
        let status = child.wait().context("worker")?;
        if next < count {
            let why = match status.code() {
                Some(TIMED_OUT) => "timeout".to_owned(),
                Some(code) => format!("exit-{code}"),
                None => "killed".to_owned(),
            };
            writeln!(out, "{}", lost(next, &why))?;
            next += 1;
        }
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_a_line() {
        for job in [
            Job {
                seed: 0,
                keep: None,
            },
            Job {
                seed: u64::MAX,
                keep: Some(vec![1, 5, 499]),
            },
        ] {
            assert_eq!(job.line().parse::<Job>().unwrap(), job);
        }
        for bad in ["", "5", "x all", "5 3,1", "5 1,1", "5 1,,2", "5 some"] {
            assert!(bad.parse::<Job>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_that_dies_costs_one_job() {
        let mut out = Vec::new();
        supervise(
            4,
            |skip| {
                let mut command = Command::new("sh");
                // Executes two jobs, then exits.
                command.args([
                    "-c",
                    &format!("echo {skip} a; echo $(({skip} + 1)) b; exit 7"),
                ]);
                command
            },
            |line| line.contains(' '),
            |job, why| format!("{job} lost {why}"),
            &mut out,
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "0 a\n1 b\n2 lost exit-7\n3 a\n4 b\n"
        );
    }
}
