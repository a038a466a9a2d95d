// SPDX-License-Identifier: GPL-2.0

//! Compares the results of two kernels, and finds a short sequence of operations for a difference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{anyhow, bail, Context, Result};

use crate::jobs::Job;
use crate::plan::{makers, plan, related};
use crate::shrink::shrink;
use crate::transcript::{first_difference, index_of};

/// The start of a result that replaces the hash of a job that did not end.
pub const LOST: &str = "lost:";

/// Parses a line that ends a job: the seed, and the hash or the reason why there is none.
pub fn parse_result(line: &str) -> Option<(u64, &str)> {
    let (seed, hash) = line.split_once(' ')?;
    let is_hash = hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hash && !hash.starts_with(LOST) {
        return None;
    }
    Some((seed.parse().ok()?, hash))
}

fn results(text: &str) -> Vec<(u64, &str)> {
    text.lines().filter_map(parse_result).collect()
}

/// The result of a comparison of `count` seeds from `first` on.
#[derive(PartialEq, Eq, Debug)]
pub struct Comparison {
    /// In TAP.
    pub report: String,
    pub diverged: Vec<u64>,
    pub passed: usize,
    pub failed: usize,
}

/// Compares hashes, one line of TAP for each `batch` seeds.
pub fn compare(left: &str, right: &str, first: u64, count: u64, batch: u64) -> Comparison {
    let left: BTreeMap<u64, &str> = results(left).into_iter().collect();
    let right: BTreeMap<u64, &str> = results(right).into_iter().collect();
    let mut report = String::new();
    let mut diverged = Vec::new();
    let (mut passed, mut failed) = (0, 0);
    let seeds: Vec<u64> = (0..count).map(|i| first.wrapping_add(i)).collect();
    let batches = seeds.chunks(batch as usize);
    let _ = writeln!(report, "TAP version 13\n1..{}", batches.len());
    for (number, seeds) in batches.enumerate() {
        let mut bad = false;
        for seed in seeds {
            let (a, b) = (left.get(seed), right.get(seed));
            if a == b && a.is_some_and(|hash| !hash.starts_with(LOST)) {
                continue;
            }
            bad = true;
            diverged.push(*seed);
            let show = |hash: Option<&&str>| hash.map_or("not run", |hash| *hash).to_owned();
            let _ = writeln!(report, "# seed {seed}: {}, {}", show(a), show(b));
        }
        let not = if bad { "not " } else { "" };
        // The name is what repeats these seeds: make differential SEED=1 COUNT=20.
        let _ = writeln!(
            report,
            "{not}ok {} SEED={} COUNT={}",
            number + 1,
            seeds[0],
            seeds.len()
        );
        if bad {
            failed += 1;
        } else {
            passed += 1;
        }
    }
    Comparison {
        report,
        diverged,
        passed,
        failed,
    }
}

/// The two sides, and the folder for files.
pub struct Sides<'a> {
    /// Shell commands to which the arguments of this program are added.
    pub commands: [&'a str; 2],
    pub names: [&'a str; 2],
    pub folder: &'a Path,
    pub ops: usize,
}

impl Sides<'_> {
    /// Runs `jobs` on both sides at the same time.
    fn run(&self, jobs: &[Job], more: &str) -> Result<[String; 2]> {
        let file = self.folder.join("jobs");
        let mut out = fs::File::create(&file).with_context(|| file.display().to_string())?;
        for job in jobs {
            writeln!(out, "{}", job.line())?;
        }
        drop(out);
        let one = |command: &str| -> Result<String> {
            let line = format!(
                "{command} run --ops {} --jobs '{}' {more}",
                self.ops,
                file.display()
            );
            let output = Command::new("sh")
                .args(["-c", &line])
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .output()
                .context("sh")?;
            if !output.status.success() {
                bail!("{}: {line}", output.status);
            }
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        thread::scope(|scope| {
            let right = scope.spawn(|| one(self.commands[1]));
            let left = one(self.commands[0])?;
            let right = right.join().map_err(|_| anyhow!("panic"))??;
            Ok([left, right])
        })
    }

    /// Returns for each of the jobs whether the sides differ.
    fn differ(&self, jobs: &[Job]) -> Result<Vec<bool>> {
        let [left, right] = self.run(jobs, "")?;
        let (left, right) = (results(&left), results(&right));
        if left.len() != jobs.len() || right.len() != jobs.len() {
            bail!(
                "{} and {} results of {} jobs",
                left.len(),
                right.len(),
                jobs.len()
            );
        }
        Ok(left.iter().zip(&right).map(|(a, b)| a != b).collect())
    }

    /// Returns the transcripts, and the paths of files that contain them.
    fn transcripts(&self, job: &Job, name: &str) -> Result<([String; 2], [PathBuf; 2])> {
        let texts = self.run(std::slice::from_ref(job), "--transcript")?;
        let paths = self
            .names
            .map(|side| self.folder.join(format!("{}-{name}-{side}.txt", job.seed)));
        for (text, path) in texts.iter().zip(&paths) {
            fs::write(path, text).with_context(|| path.display().to_string())?;
        }
        Ok((texts, paths))
    }

    /// Shows where the sides differ on `seed`, and a short sequence on which they still differ.
    /// Returns `false` if they do not differ this time.
    pub fn explain(&self, seed: u64, rounds: usize, out: &mut impl Write) -> Result<bool> {
        let whole = Job { seed, keep: None };
        let (texts, paths) = self.transcripts(&whole, "whole")?;
        writeln!(out, "seed {seed}, {} operations", self.ops)?;
        let Some(index) = self.show(&texts, out)? else {
            writeln!(out, "  no difference when run again")?;
            return Ok(false);
        };
        writeln!(out, "  whole transcripts: {}", list(&paths))?;

        let ops = plan(seed, self.ops);
        // Later operations have no effect, unless the difference is in the final state.
        let last = index.unwrap_or(self.ops - 1);
        let keep: Vec<usize> = (0..=last).collect();
        let hints = match index {
            Some(index) => vec![vec![index], makers(&ops, index), related(&ops, index)],
            None => Vec::new(),
        };
        let short = shrink(keep, hints, rounds, &mut |candidates| {
            let jobs: Vec<Job> = candidates
                .iter()
                .map(|keep| Job {
                    seed,
                    keep: Some(keep.clone()),
                })
                .collect();
            self.differ(&jobs)
        })?;

        let job = Job {
            seed,
            keep: Some(short),
        };
        let (texts, paths) = self.transcripts(&job, "short")?;
        let keep = job.keep.as_deref().unwrap_or_default();
        writeln!(
            out,
            "seed {seed}, shortened to {} operations: --seed {seed} --ops {} --keep {}",
            keep.len(),
            self.ops,
            job.line().split_once(' ').map_or("", |(_, keep)| keep)
        )?;
        for line in texts[0].lines().filter(|line| index_of(line).is_some()) {
            if parse_result(line).is_none() {
                writeln!(out, "    {line}")?;
            }
        }
        self.show(&texts, out)?;
        writeln!(out, "  short transcripts: {}", list(&paths))?;
        Ok(true)
    }

    /// Shows the first difference, and returns the operation that it belongs to, if any, in
    /// `Some(Some(_))`.
    fn show(&self, texts: &[String; 2], out: &mut impl Write) -> Result<Option<Option<usize>>> {
        let Some((number, left, right)) = first_difference(&texts[0], &texts[1]) else {
            return Ok(None);
        };
        writeln!(out, "  first difference, line {}:", number + 1)?;
        for (name, line) in self.names.iter().zip([left, right]) {
            writeln!(out, "    {name}: {}", line.unwrap_or("(nothing)"))?;
        }
        // A line that ends a job begins with the seed.
        let operation = |line: Option<&str>| {
            line.filter(|line| parse_result(line).is_none())
                .and_then(index_of)
        };
        Ok(Some(operation(left).or(operation(right))))
    }
}

fn list(paths: &[PathBuf; 2]) -> String {
    format!("{} {}", paths[0].display(), paths[1].display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(hashes: &[(u64, u64)]) -> String {
        hashes
            .iter()
            .map(|(seed, hash)| format!("{seed} {hash:016x}\n"))
            .collect()
    }

    #[test]
    fn equal_hashes_pass() {
        let all = text(&[(1, 7), (2, 8), (3, 9)]);
        let comparison = compare(&all, &format!("noise of a guest\n{all}"), 1, 3, 2);
        assert_eq!(comparison.diverged, []);
        assert_eq!((comparison.passed, comparison.failed), (2, 0));
        assert_eq!(
            comparison.report,
            "TAP version 13\n1..2\nok 1 SEED=1 COUNT=2\nok 2 SEED=3 COUNT=1\n"
        );
    }

    #[test]
    fn a_different_hash_fails() {
        let (a, b) = (text(&[(1, 7), (2, 8)]), text(&[(1, 7), (2, 0xf)]));
        let comparison = compare(&a, &b, 1, 2, 50);
        assert_eq!(comparison.diverged, [2]);
        assert_eq!((comparison.passed, comparison.failed), (0, 1));
        assert!(comparison.report.contains("not ok 1 SEED=1 COUNT=2\n"));
        assert!(comparison
            .report
            .contains("# seed 2: 0000000000000008, 000000000000000f\n"));
    }

    #[test]
    fn a_seed_that_was_not_done_fails() {
        let all = text(&[(1, 7), (2, 8)]);
        for bad in [
            "",
            "1 0000000000000007\n",
            "1 0000000000000007\n2 lost:timeout\n",
        ] {
            for (a, b) in [(all.as_str(), bad), (bad, &all), (bad, bad)] {
                let comparison = compare(a, b, 1, 2, 1);
                assert!(comparison.diverged.contains(&2), "{bad}");
                assert!(comparison.failed > 0);
            }
        }
    }

    #[test]
    fn lines_of_transcripts_are_no_results() {
        assert_eq!(
            parse_result("5 00000000000000ff"),
            Some((5, "00000000000000ff"))
        );
        assert_eq!(parse_result("5 lost:exit-7"), Some((5, "lost:exit-7")));
        for line in [
            "   5 close #0 = 0",
            "1234 close #0 = 0",
            " end memory 0",
            "5",
            "",
        ] {
            assert_eq!(parse_result(line), None);
        }
    }
}
