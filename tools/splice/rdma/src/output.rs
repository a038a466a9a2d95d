// SPDX-License-Identifier: GPL-2.0

//! The file, or the standard output, that receives.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{bail, Context, Result};
use rustix::fs::{fcntl_getfl, OFlags};
use splice_rdma::connection::Connection;
use splice_rdma::size::thousands;

use crate::pipe::{direct, Pipe};
use crate::progress::Progress;
use crate::sum::sha256;

/// The destination of the data.
pub struct Output {
    name: String,
    file: File,
    kind: Kind,
}

enum Kind {
    /// A regular file, in which the data goes to `at`.
    Regular {
        at: u64,
        /// The bytes that are cut off before the first data is written.
        cut: u64,
    },
    Pipe,
    /// A socket, a device, or a file whose position counts.
    Other,
}

impl Output {
    /// Opens `path`, or the standard output if `path` is `-`, to write from `offset` on.
    /// Replaces the data after `offset`; if `offset` is 0, only with `force`.
    pub fn open(path: &Path, offset: u64, force: bool) -> Result<Self> {
        if path == Path::new("-") {
            let fd = io::stdout().as_fd().try_clone_to_owned().context("dup")?;
            return Self::standard(fd.into(), offset);
        }
        let name = path.display().to_string();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| name.clone())?;
        Self::named(name, file, offset, force)
    }

    fn standard(file: File, offset: u64) -> Result<Self> {
        let name = "standard output".to_owned();
        if offset > 0 {
            bail!("--offset {offset} needs a file: name it instead of writing to {name}");
        }
        if fcntl_getfl(&file)
            .context(name.clone())?
            .contains(OFlags::APPEND)
        {
            bail!(
                "{name} is open for appending (>>), which splice(2) does not support: name the \
                 file, with --offset SIZE"
            );
        }
        let kind = match file.metadata().context(name.clone())?.file_type() {
            kind if kind.is_fifo() => Kind::Pipe,
            _ => Kind::Other,
        };
        Ok(Self { name, file, kind })
    }

    fn named(name: String, file: File, offset: u64, force: bool) -> Result<Self> {
        let metadata = file.metadata().with_context(|| name.clone())?;
        let kind = match metadata.file_type() {
            kind if kind.is_file() => {
                let cut = cut(&name, metadata.len(), offset, force)?;
                Kind::Regular { at: offset, cut }
            }
            _ if offset > 0 => bail!("--offset {offset} needs a file, and {name} is none"),
            kind if kind.is_fifo() => Kind::Pipe,
            _ => Kind::Other,
        };
        Ok(Self { name, file, kind })
    }

    /// Returns an error if the data cannot be read again.
    pub fn require_sum(&self) -> Result<()> {
        match self.kind {
            Kind::Regular { .. } => Ok(()),
            Kind::Pipe | Kind::Other => {
                bail!(
                    "{} cannot be read: --checksum needs a named file",
                    self.name
                )
            }
        }
    }

    /// Returns a warning if data is to be replaced.
    pub fn warning(&self) -> Option<String> {
        match self.kind {
            Kind::Regular { at, cut } if cut > 0 => Some(format!(
                "the last {} bytes of {}, from offset {at} on, will be replaced",
                thousands(cut),
                self.name
            )),
            _ => None,
        }
    }

    /// The name of the file and the end of the data in it.
    pub fn kept(&self) -> Option<(&str, u64)> {
        match self.kind {
            Kind::Regular { at, .. } => Some((&self.name, at)),
            Kind::Pipe | Kind::Other => None,
        }
    }

    /// Receives until the end of the data.
    pub fn receive(&mut self, from: &Connection, progress: &mut Progress) -> Result<()> {
        if let Kind::Pipe = self.kind {
            loop {
                match direct(from, &self.file, 1 << 20) {
                    Ok(0) => return Ok(()),
                    Ok(n) => progress.add(n as u64),
                    Err(e) => return Err(from.receiving(e, None, &self.name)),
                }
            }
        }
        let pipe = Pipe::new()?;
        loop {
            let filled = pipe.fill(from, u64::MAX);
            let mut left = filled.map_err(|e| from.receiving(e, self.kept(), &self.name))?;
            self.truncate()?;
            if left == 0 {
                return Ok(());
            }
            while left > 0 {
                let offset = match &mut self.kind {
                    Kind::Regular { at, .. } => Some(at),
                    Kind::Pipe | Kind::Other => None,
                };
                let written = pipe
                    .drain(&self.file, offset, left)
                    .with_context(|| self.unwritten())?;
                left -= written;
                progress.add(written as u64);
            }
        }
    }

    /// Cuts off what is replaced.
    fn truncate(&mut self) -> Result<()> {
        if let Kind::Regular { at, cut } = &mut self.kind {
            if std::mem::take(cut) > 0 {
                let done = self.file.set_len(*at);
                done.with_context(|| self.name.clone())?;
            }
        }
        Ok(())
    }

    fn unwritten(&self) -> String {
        match self.kept() {
            Some((name, at)) => format!(
                "{name} has the data up to offset {at} (to resume, use --offset {at} at both \
                 ends), but no more can be written"
            ),
            None => format!("writing to {}", self.name),
        }
    }

    /// Makes sure that the data of a regular file is on the disk.
    pub fn sync(&self) -> Result<()> {
        match self.kind {
            Kind::Regular { .. } => self.file.sync_data().with_context(|| self.name.clone()),
            Kind::Pipe | Kind::Other => Ok(()),
        }
    }

    /// Returns the SHA-256 of all of the file.
    pub fn sum(&self) -> Result<String> {
        match self.kind {
            Kind::Regular { at, .. } => sha256(&self.file, 0, at),
            Kind::Pipe | Kind::Other => self.require_sum().map(|()| String::new()),
        }
    }
}

/// Returns how many bytes of a file of `size` bytes are replaced if data goes to `offset`.
fn cut(name: &str, size: u64, offset: u64, force: bool) -> Result<u64> {
    match size.checked_sub(offset) {
        None => bail!(
            "{name} has {size} bytes, and with --offset {offset} the bytes between would be \
             missing: use --offset {size} at both ends"
        ),
        Some(cut) if cut > 0 && offset == 0 && !force => bail!(
            "{name} exists and has {size} bytes: use --offset {size} at both ends to resume, or \
             --force to replace it"
        ),
        Some(cut) => Ok(cut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_extended_or_kept() {
        assert_eq!(cut("x", 0, 0, false).unwrap(), 0);
        assert_eq!(cut("x", 10, 10, false).unwrap(), 0);
        assert_eq!(cut("x", 10, 4, false).unwrap(), 6);
        assert_eq!(cut("x", 10, 0, true).unwrap(), 10);
        let error = cut("x", 10, 0, false).unwrap_err().to_string();
        assert!(error.contains("--offset 10 at both ends"), "{error}");
        assert!(error.contains("--force"), "{error}");
        let error = cut("x", 10, 11, true).unwrap_err().to_string();
        assert!(error.contains("would be missing"), "{error}");
    }

    #[test]
    fn nothing_is_cut_before_there_is_data() {
        let path = std::env::temp_dir().join(format!("splice-rdma-output-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let mut output = Output::open(&path, 4, false).unwrap();
        assert!(output.warning().unwrap().contains("the last 6 bytes"));
        assert_eq!(output.kept().unwrap().1, 4);
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
        output.truncate().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"0123");
        assert_eq!(output.warning(), None);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn standard_output_has_no_offset() {
        let (_read, write) = rustix::pipe::pipe().unwrap();
        let error = Output::standard(write.into(), 5).err().unwrap();
        assert!(error.to_string().contains("needs a file"));
        let append = File::options().append(true).open("/dev/null").unwrap();
        let error = Output::standard(append, 0).err().unwrap();
        assert!(error.to_string().contains("appending"));
        let null = Path::new("/dev/null");
        assert!(Output::open(null, 1, false).is_err());
        let output = Output::open(null, 0, false).unwrap();
        assert!(output.require_sum().is_err());
        assert_eq!(output.kept(), None);
    }
}
