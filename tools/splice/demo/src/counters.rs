// SPDX-License-Identifier: GPL-2.0

//! The counters of the Rust splice core in debugfs.
//!
//! The file has one `name value` per line. A name of the form `bytes.KIND.referenced` or
//! `bytes.KIND.copied` counts the bytes that one kind of transfer moved by reference or copied.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{anyhow, bail, Context, Result};

/// The path of the counters.
pub const DEFAULT_PATH: &str = "/sys/kernel/debug/splice/counters";

/// `f_type` of debugfs, see `magic.h`.
const DEBUGFS_MAGIC: u64 = 0x6462_6720;

/// The splice implementation of the running kernel.
#[derive(Debug)]
pub enum Implementation {
    /// `CONFIG_RUST_SPLICE=y`.
    Rust(Counters),
    /// The stock `fs/splice.c`.
    C,
    /// Unknown, with the reason.
    Unknown(String),
}

impl Implementation {
    /// Detects the implementation by the counters file, which only the Rust core has.
    pub fn detect(path: &Path) -> Result<Self> {
        match fs::exists(path) {
            Ok(true) => {
                let counters = Counters(path.to_owned());
                // A file that cannot be read now cannot be read later either.
                counters.sample()?;
                Ok(Self::Rust(counters))
            }
            Ok(false) if path == Path::new(DEFAULT_PATH) && !debugfs_mounted() => Ok(
                Self::Unknown("debugfs is not mounted on /sys/kernel/debug".into()),
            ),
            Ok(false) => Ok(Self::C),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(Self::Unknown(format!(
                "{} can be seen by root only",
                path.display()
            ))),
            Err(e) => Err(e).with_context(|| path.display().to_string()),
        }
    }

    /// The counters, if the kernel has them.
    pub fn counters(&self) -> Option<&Counters> {
        match self {
            Self::Rust(counters) => Some(counters),
            Self::C | Self::Unknown(_) => None,
        }
    }

    /// A description for the user.
    pub fn describe(&self) -> String {
        match self {
            Self::Rust(_) => "Rust (CONFIG_RUST_SPLICE)".into(),
            Self::C => "C (fs/splice.c)".into(),
            Self::Unknown(why) => format!("not known: {why}"),
        }
    }
}

fn debugfs_mounted() -> bool {
    rustix::fs::statfs("/sys/kernel/debug").is_ok_and(|s| s.f_type as u64 == DEBUGFS_MAGIC)
}

/// The counters file of a running kernel.
#[derive(Debug)]
pub struct Counters(PathBuf);

impl Counters {
    /// Counters of a driver, in the same format.
    pub fn at(path: &str) -> Self {
        Self(path.into())
    }

    /// Reads the current values.
    pub fn sample(&self) -> Result<Sample> {
        fs::read_to_string(&self.0)
            .map_err(anyhow::Error::from)
            .and_then(|text| text.parse())
            .with_context(|| self.0.display().to_string())
    }
}

/// Values of all counters at one time, or their growth between two times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample(BTreeMap<String, u64>);

/// Bytes that one kind of transfer moved.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// A description, such as `file to pipe`.
    pub name: String,
    /// Moved by reference.
    pub referenced: u64,
    /// Copied.
    pub copied: u64,
}

impl Sample {
    /// Returns the growth since `earlier`. A counter that shrank is an error.
    pub fn since(&self, earlier: &Self) -> Result<Self> {
        self.0
            .iter()
            .map(|(name, &now)| {
                let before = earlier.get(name);
                let grown = now
                    .checked_sub(before)
                    .ok_or_else(|| anyhow!("counter {name} fell from {before} to {now}"))?;
                Ok((name.clone(), grown))
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Adds the counters of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            *self.0.entry(name.clone()).or_default() += value;
        }
    }

    /// Returns a counter, or 0 if it does not exist.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Returns the kinds of transfer that moved data.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds = BTreeMap::<&str, (u64, u64)>::new();
        for (name, value) in self.nonzero() {
            let Some((kind, how)) = name
                .strip_prefix("bytes.")
                .and_then(|rest| rest.rsplit_once('.'))
            else {
                continue;
            };
            let (referenced, copied) = kinds.entry(kind).or_default();
            match how {
                "referenced" => *referenced += value,
                "copied" => *copied += value,
                _ => {}
            }
        }
        kinds
            .into_iter()
            .map(|(name, (referenced, copied))| Kind {
                name: name.replace('_', " "),
                referenced,
                copied,
            })
            .collect()
    }

    /// Returns the counters that are not zero, by name.
    pub fn nonzero(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0
            .iter()
            .filter(|(_, &value)| value != 0)
            .map(|(name, &value)| (name.as_str(), value))
    }
}

impl FromStr for Sample {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [name, value] = fields[..] else {
                bail!("line {number} is not `name value`: {line:?}");
            };
            let value = value
                .parse()
                .with_context(|| format!("line {number}, value {value:?}"))?;
            if values.insert(name.to_owned(), value).is_some() {
                bail!("line {number} names {name} a second time");
            }
        }
        if values.is_empty() {
            bail!("no counters");
        }
        Ok(Self(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
calls.splice 7
calls.tee 0
buffers.linked 48
bytes.file_to_pipe.referenced 65536
bytes.file_to_pipe.copied 100
bytes.tee.referenced 0
bytes.pipe_to_memory.copied 18446744073709551615
";

    fn sample(text: &str) -> Sample {
        text.parse().unwrap()
    }

    fn kind(name: &str, referenced: u64, copied: u64) -> Kind {
        Kind {
            name: name.into(),
            referenced,
            copied,
        }
    }

    #[test]
    fn reads_names_and_values() {
        let got = sample(TEXT);
        assert_eq!(got.0.len(), 7);
        assert_eq!(got.0["calls.splice"], 7);
        assert_eq!(got.0["bytes.pipe_to_memory.copied"], u64::MAX);
    }

    #[test]
    fn takes_any_blanks_between_name_and_value() {
        assert_eq!(sample("a\t1\nb    2"), sample("a 1\nb 2\n"));
    }

    #[test]
    fn refuses_what_is_not_a_counter() {
        for (text, complaint) in [
            ("", "no counters"),
            ("a 1\n\nb 2\n", "line 2 is not `name value`"),
            ("a\n", "line 1 is not `name value`"),
            ("a 1 2\n", "line 1 is not `name value`"),
            ("a 1\nb x\n", "line 2, value \"x\""),
            ("a -1\n", "line 1, value \"-1\""),
            ("a 18446744073709551616\n", "too large"),
            ("a 1\na 2\n", "line 2 names a a second time"),
        ] {
            let error = text.parse::<Sample>().unwrap_err();
            assert!(format!("{error:#}").contains(complaint), "{error:#}");
        }
    }

    #[test]
    fn groups_bytes_by_kind_and_leaves_out_zeros() {
        assert_eq!(
            sample(TEXT).kinds(),
            [
                kind("file to pipe", 65536, 100),
                kind("pipe to memory", 0, u64::MAX),
            ]
        );
    }

    #[test]
    fn difference_counts_from_the_earlier_sample() {
        let before = sample("a 5\nbytes.tee.referenced 10\n");
        let after = sample("a 5\nbytes.tee.referenced 30\nbytes.new.copied 3\n");
        let grown = after.since(&before).unwrap();
        assert_eq!(grown.kinds(), [kind("new", 0, 3), kind("tee", 20, 0)]);
        assert_eq!(grown.nonzero().count(), 2);
    }

    #[test]
    fn difference_refuses_a_counter_that_fell() {
        let error = sample("a 1\n").since(&sample("a 2\n")).unwrap_err();
        assert_eq!(error.to_string(), "counter a fell from 2 to 1");
    }

    #[test]
    fn sums_counter_by_counter() {
        let mut sum = Sample::default();
        sum.add(&sample("a 1\nb 2\n"));
        sum.add(&sample("b 3\nc 4\n"));
        assert_eq!(sum, sample("a 1\nb 5\nc 4\n"));
    }

    #[test]
    fn a_missing_file_means_c() {
        let found = Implementation::detect(Path::new("/nonexistent/counters")).unwrap();
        assert!(matches!(found, Implementation::C));
    }
}
