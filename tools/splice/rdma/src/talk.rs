// SPDX-License-Identifier: GPL-2.0

//! The lines of text that the receiver sends back to the sender.
//!
//! The first one has the offset at which its file continues, so that both ends use the same.
//! The last one reports that the data has been written, after fdatasync(2):
//!
//! ```text
//! splice-rdma 1 offset 1048576
//! written 268435456 sha256 -
//! ```

use std::io::{self, Read};

use anyhow::{bail, Context, Result};

/// No line is longer.
const LONGEST: usize = 256;

/// The line that the receiver sends first.
pub fn greeting(offset: u64) -> String {
    format!("splice-rdma 1 offset {offset}\n")
}

/// Returns the offset in a greeting.
pub fn parse_greeting(line: &str) -> Option<u64> {
    line.strip_prefix("splice-rdma 1 offset ")?.parse().ok()
}

/// The data that the receiver has written.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The offset of the end of the data in its file.
    pub end: u64,
    /// The SHA-256 of the file up to there, in hexadecimal digits, if it was asked for.
    pub sum: Option<String>,
}

impl Receipt {
    /// The line that the receiver sends last.
    pub fn line(&self) -> String {
        let sum = self.sum.as_deref().unwrap_or("-");
        format!("written {} sha256 {sum}\n", self.end)
    }

    /// Parses such a line.
    pub fn parse(line: &str) -> Option<Self> {
        let (end, sum) = line.strip_prefix("written ")?.split_once(" sha256 ")?;
        let sum = match sum {
            "-" => None,
            _ if sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()) => Some(sum.into()),
            _ => return None,
        };
        Some(Self {
            end: end.parse().ok()?,
            sum,
        })
    }
}

/// Reads lines.
pub struct Lines<R> {
    from: R,
    /// Bytes that were read and not yet returned.
    rest: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub fn new(from: R) -> Self {
        Self {
            from,
            rest: Vec::new(),
        }
    }

    /// Returns the next line without its end, or `None` at the end of the data.
    pub fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let line = String::from_utf8(line).context("the peer's message is not text")?;
                return Ok(Some(line.trim_end().to_owned()));
            }
            if self.rest.len() >= LONGEST {
                bail!("the peer sends data of its own: it is not `splice-rdma recv`");
            }
            let mut buffer = [0; LONGEST];
            match self.from.read(&mut buffer) {
                Ok(0) if self.rest.is_empty() => return Ok(None),
                Ok(0) => bail!("the peer's message is not complete"),
                Ok(n) => self.rest.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_has_the_offset() {
        let line = greeting(12345);
        assert_eq!(parse_greeting(line.trim_end()), Some(12345));
        for other in [
            "",
            "hello",
            "splice-rdma 2 offset 1",
            "splice-rdma 1 offset x",
        ] {
            assert_eq!(parse_greeting(other), None);
        }
    }

    #[test]
    fn a_receipt_has_the_end_and_the_sum() {
        for sum in [None, Some("0123456789abcdef".repeat(4))] {
            let receipt = Receipt { end: 77, sum };
            let line = receipt.line();
            assert_eq!(Receipt::parse(line.trim_end()), Some(receipt));
        }
        for other in ["written 1", "written x sha256 -", "written 1 sha256 12", ""] {
            assert_eq!(Receipt::parse(other), None);
        }
    }

    #[test]
    fn lines_may_arrive_in_pieces() {
        /// Returns one byte for each read.
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let n = self.0.len().min(1);
                buffer[..n].copy_from_slice(&self.0[..n]);
                self.0 = &self.0[n..];
                Ok(n)
            }
        }
        let mut lines = Lines::new(Slow(b"one\ntwo\n"));
        assert_eq!(lines.next().unwrap().as_deref(), Some("one"));
        assert_eq!(lines.next().unwrap().as_deref(), Some("two"));
        assert_eq!(lines.next().unwrap(), None);
        let mut lines = Lines::new(&b"one\ntwo\nthr"[..]);
        assert_eq!(lines.next().unwrap().as_deref(), Some("one"));
        assert_eq!(lines.next().unwrap().as_deref(), Some("two"));
        assert!(lines
            .next()
            .unwrap_err()
            .to_string()
            .contains("not complete"));
        let mut lines = Lines::new(&[b'x'; 1000][..]);
        assert!(lines.next().unwrap_err().to_string().contains("of its own"));
    }
}
