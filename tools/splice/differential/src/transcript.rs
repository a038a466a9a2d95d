// SPDX-License-Identifier: GPL-2.0

//! The results of operations, as text that is the same on kernels with the same behaviour.

use std::fmt;

use xxhash_rust::xxh64::xxh64;

/// The result of one operation.
pub struct Entry {
    /// The index of the operation in the plan.
    pub index: usize,
    pub call: String,
    pub result: i64,
    /// Other visible effects: offsets, hashes, states.
    pub after: String,
}

impl Entry {
    /// Changes the result.
    pub fn perturb(&mut self) {
        self.result ^= 1;
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:4} {} = ", self.index, self.call)?;
        match self.result {
            error @ -4095..=-1 => write!(f, "{}", errno_name(-error as i32))?,
            result => write!(f, "{result}")?,
        }
        if !self.after.is_empty() {
            write!(f, " | {}", self.after)?;
        }
        Ok(())
    }
}

fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::EAGAIN => "EAGAIN",
        libc::EBADF => "EBADF",
        libc::EBUSY => "EBUSY",
        libc::EFAULT => "EFAULT",
        libc::EFBIG => "EFBIG",
        libc::EINVAL => "EINVAL",
        libc::EIO => "EIO",
        libc::EISDIR => "EISDIR",
        libc::ENODATA => "ENODATA",
        libc::ENOMEM => "ENOMEM",
        libc::ENOSPC => "ENOSPC",
        libc::ENOTCONN => "ENOTCONN",
        libc::ENXIO => "ENXIO",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::EOVERFLOW => "EOVERFLOW",
        libc::EPERM => "EPERM",
        libc::EPIPE => "EPIPE",
        libc::ESPIPE => "ESPIPE",
        libc::EXDEV => "EXDEV",
        _ => return format!("errno:{errno}"),
    };
    name.to_owned()
}

/// The results of all operations, and the final state.
pub struct Transcript {
    pub entries: Vec<Entry>,
    pub end: Vec<String>,
}

impl Transcript {
    pub fn hash(&self) -> u64 {
        xxh64(self.to_string().as_bytes(), 0)
    }

    /// Returns the final state, as in the last lines of the text.
    pub fn end(&self) -> String {
        self.end
            .iter()
            .map(|line| format!(" end {line}\n"))
            .collect()
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{entry}")?;
        }
        f.write_str(&self.end())
    }
}

/// Returns a hash of `bytes` in the format of transcripts.
pub fn hash_of(bytes: &[u8]) -> String {
    format!("{:016x}", xxh64(bytes, 0))
}

/// Returns the number of the first line that differs, and both versions of it.
pub fn first_difference<'a>(
    left: &'a str,
    right: &'a str,
) -> Option<(usize, Option<&'a str>, Option<&'a str>)> {
    let (mut left, mut right) = (left.lines(), right.lines());
    for number in 0.. {
        match (left.next(), right.next()) {
            (None, None) => break,
            (a, b) if a != b => return Some((number, a, b)),
            _ => (),
        }
    }
    None
}

/// Returns the operation that a line of a transcript belongs to, or `None` for the final state.
pub fn index_of(line: &str) -> Option<usize> {
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript() -> Transcript {
        let entry = |index, result| Entry {
            index,
            call: format!("splice #{index} #9"),
            result,
            after: "#9 poll=0x1".to_owned(),
        };
        Transcript {
            entries: vec![entry(0, 0), entry(3, 4096), entry(5, -11)],
            end: vec!["#9 closed".to_owned()],
        }
    }

    #[test]
    fn equal_transcripts_do_not_differ() {
        let (a, b) = (transcript().to_string(), transcript().to_string());
        assert_eq!(transcript().hash(), transcript().hash());
        assert_eq!(first_difference(&a, &b), None);
    }

    #[test]
    fn one_different_result_is_reported() {
        let mut changed = transcript();
        changed.entries[1].perturb();
        assert_ne!(changed.hash(), transcript().hash());
        let (a, b) = (transcript().to_string(), changed.to_string());
        let (number, left, right) = first_difference(&a, &b).unwrap();
        assert_eq!(number, 1);
        assert_eq!(left.unwrap(), "   3 splice #3 #9 = 4096 | #9 poll=0x1");
        assert_eq!(right.unwrap(), "   3 splice #3 #9 = 4097 | #9 poll=0x1");
        assert_eq!(left.and_then(index_of), Some(3));
    }

    #[test]
    fn a_missing_line_is_a_difference() {
        let all = transcript().to_string();
        let cut = all.lines().take(2).collect::<Vec<_>>().join("\n");
        let (number, left, right) = first_difference(&all, &cut).unwrap();
        assert_eq!(number, 2);
        assert!(left.unwrap().contains("EAGAIN"));
        assert_eq!(right, None);
        assert_eq!(index_of(" end #9 closed"), None);
    }

    #[test]
    fn what_is_not_a_result_counts_as_well() {
        for change in [
            |t: &mut Transcript| t.entries[0].after.push('!'),
            |t: &mut Transcript| t.end[0].push('!'),
            |t: &mut Transcript| t.entries[2].call.push('!'),
        ] {
            let mut changed = transcript();
            change(&mut changed);
            assert_ne!(changed.hash(), transcript().hash());
        }
    }
}
