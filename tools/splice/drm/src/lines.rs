// SPDX-License-Identifier: GPL-2.0

//! Lines over a UNIX socket, with a time-out for each.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

/// A connection that consists of lines.
pub struct Lines {
    socket: UnixStream,
    buffer: Vec<u8>,
    /// The name of the peer, for messages.
    peer: &'static str,
}

impl Lines {
    pub fn connect(path: &Path, peer: &'static str) -> Result<Self> {
        let socket = UnixStream::connect(path).with_context(|| path.display().to_string())?;
        Ok(Self::new(socket, peer))
    }

    fn new(socket: UnixStream, peer: &'static str) -> Self {
        Self {
            socket,
            buffer: Vec::new(),
            peer,
        }
    }

    /// Writes a line.
    pub fn write(&mut self, line: &str) -> Result<()> {
        self.socket
            .write_all(format!("{line}\n").as_bytes())
            .with_context(|| self.peer.to_owned())
    }

    /// Reads a line, without its end. Fails at `deadline`.
    pub fn read(&mut self, deadline: Instant) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(String::from_utf8(line)?.trim_end().to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{} does not answer in time", self.peer);
            self.socket.set_read_timeout(Some(left))?;
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) => bail!("{} has closed the connection", self.peer),
                Ok(n) => self.buffer.extend(&bytes[..n]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).with_context(|| self.peer.to_owned()),
            }
        }
    }
}

/// The time after so many seconds.
pub fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// A connection, and its other end.
#[cfg(test)]
pub fn pair() -> (Lines, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Lines::new(ours, "the test"), theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_separated() {
        let (mut lines, mut peer) = pair();
        peer.write_all(b"one\r\ntwo\nthr").unwrap();
        assert_eq!(lines.read(after(10)).unwrap(), "one");
        assert_eq!(lines.read(after(10)).unwrap(), "two");
        peer.write_all(b"ee\n").unwrap();
        assert_eq!(lines.read(after(10)).unwrap(), "three");
        drop(peer);
        let error = lines.read(after(10)).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error}");
    }

    #[test]
    fn a_silent_peer_is_an_error() {
        let (mut lines, _peer) = pair();
        let deadline = Instant::now() + Duration::from_millis(50);
        let error = lines.read(deadline).unwrap_err();
        assert!(error.to_string().contains("in time"), "{error}");
    }
}
