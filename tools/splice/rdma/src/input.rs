// SPDX-License-Identifier: GPL-2.0

//! The file, or the standard input, that is sent.

use std::fs::{File, FileType};
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{bail, Context, Result};
use rustix::event::{poll, PollFd, PollFlags};
use rustix::fs::sendfile;
use rustix::io::{retry_on_intr, Errno};
use splice_rdma::connection::Connection;

use crate::pipe::{direct, Pipe};
use crate::progress::Progress;
use crate::sum::sha256;

/// The most bytes of one call, so that the progress is shown in between.
const CHUNK: usize = 1 << 20;

/// The source of the data.
pub struct Input {
    name: String,
    file: File,
    kind: Kind,
}

enum Kind {
    /// A regular file, of which the data is from `start` to `end`.
    Regular {
        start: u64,
        end: u64,
    },
    Pipe,
    /// A socket or a device.
    Other,
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

impl Input {
    /// Opens `path`, or the standard input if `path` is `-`.
    pub fn open(path: &Path) -> Result<Self> {
        if is_standard(path) {
            let fd = io::stdin().as_fd().try_clone_to_owned().context("dup")?;
            return Self::new("standard input".into(), fd.into());
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| name.clone())?;
        Self::new(name, file)
    }

    fn new(name: String, mut file: File) -> Result<Self> {
        let metadata = file.metadata().with_context(|| name.clone())?;
        let kind = match metadata.file_type() {
            kind if kind.is_file() => {
                let start = file.stream_position().with_context(|| name.clone())?;
                let end = metadata.len().max(start);
                Kind::Regular { start, end }
            }
            kind if kind.is_fifo() => Kind::Pipe,
            kind if FileType::is_dir(&kind) => bail!("{name} is a directory: name a file"),
            _ => Kind::Other,
        };
        Ok(Self { name, file, kind })
    }

    /// Leaves out the first `offset` bytes. Returns an error if there are fewer.
    pub fn skip(&mut self, offset: u64) -> Result<()> {
        let name = &self.name;
        let skipped = match &mut self.kind {
            _ if offset == 0 => return Ok(()),
            Kind::Regular { start, end } => {
                let length = *end - *start;
                if offset <= length {
                    // The start stays the same for the check sum.
                    return Ok(());
                }
                length
            }
            Kind::Pipe | Kind::Other => self.discard(offset)?,
        };
        if skipped < offset {
            bail!("{name} has {skipped} bytes, fewer than --offset {offset}");
        }
        Ok(())
    }

    /// Reads `count` bytes and forgets them. Returns how many there were.
    fn discard(&self, count: u64) -> Result<u64> {
        let null = File::options().write(true).open("/dev/null");
        let null = null.context("/dev/null")?;
        let pipe = Pipe::new()?;
        let mut done = 0;
        while done < count {
            let n = pipe.fill(&self.file, count - done);
            let n = n.with_context(|| self.name.clone())?;
            if n == 0 {
                break;
            }
            let mut left = n;
            while left > 0 {
                left -= pipe.drain(&null, None, left).context("/dev/null")?;
            }
            done += n as u64;
        }
        Ok(done)
    }

    /// Returns the number of bytes from `offset` on, if it is known.
    pub fn length(&self, offset: u64) -> Option<u64> {
        match self.kind {
            Kind::Regular { start, end } => Some(end - start - offset),
            Kind::Pipe | Kind::Other => None,
        }
    }

    /// Returns an error if the data cannot be read a second time.
    pub fn require_sum(&self) -> Result<()> {
        match self.kind {
            Kind::Regular { .. } => Ok(()),
            Kind::Pipe | Kind::Other => {
                bail!(
                    "{} cannot be read twice: --checksum needs a file",
                    self.name
                )
            }
        }
    }

    /// Returns the SHA-256 of the file up to `end`, which counts from where it begins.
    pub fn sum(&self, end: u64) -> Result<String> {
        match self.kind {
            Kind::Regular { start, .. } => sha256(&self.file, start, start + end),
            Kind::Pipe | Kind::Other => self.require_sum().map(|()| String::new()),
        }
    }

    /// Sends everything from `offset` on.
    pub fn send(&self, offset: u64, to: &Connection, progress: &mut Progress) -> Result<()> {
        match self.kind {
            Kind::Regular { start, end } => self.send_file(start + offset, end, to, progress),
            Kind::Pipe => loop {
                self.wait(to)?;
                let sent = direct(&self.file, to, CHUNK).map_err(|e| to.sending(e, &self.name))?;
                if sent == 0 {
                    return Ok(());
                }
                progress.add(sent as u64);
            },
            Kind::Other => self.send_by_pipe(to, progress),
        }
    }

    /// Waits for input. Returns an error if the connection ends before.
    fn wait(&self, to: &Connection) -> Result<()> {
        loop {
            let mut files = [
                PollFd::new(&self.file, PollFlags::IN),
                PollFd::new(to, PollFlags::empty()),
            ];
            retry_on_intr(|| poll(&mut files, None)).context("poll")?;
            if !files[1].revents().is_empty() {
                return Err(to.sending(Errno::CONNRESET, "the connection"));
            }
            if !files[0].revents().is_empty() {
                return Ok(());
            }
        }
    }

    fn send_file(
        &self,
        mut at: u64,
        end: u64,
        to: &Connection,
        progress: &mut Progress,
    ) -> Result<()> {
        while at < end {
            let want = (end - at).min(CHUNK as u64) as usize;
            let sent = retry_on_intr(|| sendfile(to, &self.file, Some(&mut at), want))
                .map_err(|e| to.sending(e, &self.name))?;
            if sent == 0 {
                let name = &self.name;
                bail!("{name} has become shorter: it ends at {at}, and ended at {end} before");
            }
            progress.add(sent as u64);
        }
        Ok(())
    }

    fn send_by_pipe(&self, to: &Connection, progress: &mut Progress) -> Result<()> {
        let pipe = Pipe::new()?;
        loop {
            self.wait(to)?;
            let filled = pipe.fill(&self.file, u64::MAX);
            let mut left = filled.with_context(|| self.name.clone())?;
            if left == 0 {
                return Ok(());
            }
            while left > 0 {
                let sent = pipe
                    .drain(to, None, left)
                    .map_err(|e| to.sending(e, "the connection"))?;
                left -= sent;
                progress.add(sent as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &[u8]) -> File {
        let name = format!("splice-rdma-input-{}-{}", std::process::id(), content.len());
        let path = std::env::temp_dir().join(name);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn a_file_is_resumed_within_its_length() {
        let mut input = Input::new("x".into(), file(b"0123456789")).unwrap();
        assert_eq!(input.length(0), Some(10));
        for offset in [0, 3, 10] {
            input.skip(offset).unwrap();
            assert_eq!(input.length(offset), Some(10 - offset));
        }
        let error = input.skip(11).unwrap_err().to_string();
        assert_eq!(error, "x has 10 bytes, fewer than --offset 11");
    }

    #[test]
    fn a_file_begins_at_its_position() {
        let mut file = file(b"..abc");
        file.seek(io::SeekFrom::Start(2)).unwrap();
        let input = Input::new("x".into(), file).unwrap();
        assert_eq!(input.length(1), Some(2));
        assert!(input.sum(3).unwrap().starts_with("ba7816bf8f01cfea"));
    }

    #[test]
    fn a_pipe_is_resumed_by_reading_on() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut write = File::from(write);
        write.write_all(b"0123456789").unwrap();
        let mut input = Input::new("x".into(), read.into()).unwrap();
        input.skip(4).unwrap();
        assert_eq!(input.length(4), None);
        assert!(input.require_sum().is_err());
        drop(write);
        let error = input.skip(7).unwrap_err().to_string();
        assert_eq!(error, "x has 6 bytes, fewer than --offset 7");
    }

    #[test]
    fn a_directory_cannot_be_sent() {
        let error = Input::open(Path::new("/")).err().unwrap();
        assert!(error.to_string().contains("is a directory"));
    }
}
