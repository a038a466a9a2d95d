// SPDX-License-Identifier: GPL-2.0

//! Makes a dma-buf of the bytes of a picture.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use rustix::fs::{sendfile, OFlags};
use rustix::io::retry_on_intr;
use rustix::pipe::{pipe_with, splice, PipeFlags, SpliceFlags};

use crate::ffi::{self, Exported, Memory};
use crate::frame::Frame;
use crate::talk::Source;

const DEVICE: &str = "/dev/dma_buf_splice";

/// The name of the device's module in /sys/module.
pub const MODULE: &str = "splice_dma_buf";

/// The device, opened once.
pub struct Device(File);

/// The bytes of a picture, at a place from which they can be spliced.
pub struct Input {
    frame: Frame,
    place: Place,
}

/// The place: a path, the file opened for reading, or memory.
enum Place {
    File(PathBuf, File),
    Memory(Memory),
}

impl Input {
    /// Puts a picture where `source` says; a file is made in `dir`.
    pub fn new(source: Source, frame: Frame, dir: &Path) -> Result<Self> {
        let flags = match source {
            Source::Ext4 => OFlags::empty(),
            Source::Direct => OFlags::DIRECT,
            Source::Memory => {
                let memory = Memory::new(frame.bytes())?;
                return Ok(Self {
                    frame,
                    place: Place::Memory(memory),
                });
            }
        };
        let path = dir.join(source.name());
        write_new(&path, [frame.clone()])?;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits() as i32)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        Ok(Self {
            frame,
            place: Place::File(path, file),
        })
    }

    /// The picture.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The file that contains the picture, opened for writing by write(2).
    pub fn open_for_writing(&self) -> Result<File> {
        let Place::File(path, _) = &self.place else {
            bail!("the picture is not in a file");
        };
        OpenOptions::new()
            .write(true)
            .open(path)
            .with_context(|| path.display().to_string())
    }
}

/// Writes pictures to a new file, and waits until they are on the disk.
pub fn write_new(path: &Path, frames: impl IntoIterator<Item = Frame>) -> Result<()> {
    let name = || path.display().to_string();
    let mut file = File::create(path).with_context(name)?;
    for frame in frames {
        file.write_all(frame.bytes()).with_context(name)?;
    }
    file.sync_all().with_context(name)
}

impl Device {
    pub fn open() -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(DEVICE);
        Ok(Self(file.with_context(|| {
            format!("{DEVICE}: the module {MODULE} has this device")
        })?))
    }

    /// Makes a dma-buf of a picture: from a file by sendfile(2), from memory by vmsplice(2)
    /// and splice(2).
    pub fn export(&self, input: &Input) -> Result<Exported> {
        let len = input.frame.bytes().len();
        match &input.place {
            Place::File(_, file) => {
                let mut at = 0;
                while at < len as u64 {
                    let left = len - at as usize;
                    let moved = retry_on_intr(|| sendfile(&self.0, file, Some(&mut at), left))
                        .context("sendfile")?;
                    ensure!(moved > 0, "the file ends after {at} bytes");
                }
            }
            Place::Memory(memory) => {
                let (read, write) = pipe()?;
                let mut at = 0;
                while at < len {
                    let filled = memory.splice(at, &write)?;
                    ensure!(filled > 0, "vmsplice has moved nothing");
                    self.take(&read, filled)?;
                    at += filled;
                }
            }
        }
        self.finish(len)
    }

    /// Moves `len` bytes from a pipe to the device.
    pub fn take(&self, pipe: impl AsFd, len: usize) -> Result<()> {
        let mut left = len;
        while left > 0 {
            let moved =
                retry_on_intr(|| splice(&pipe, None, &self.0, None, left, SpliceFlags::empty()))
                    .context("splice to the device")?;
            ensure!(moved > 0, "the pipe has ended");
            left -= moved;
        }
        Ok(())
    }

    /// Makes a dma-buf of what was moved to the device, which must be `len` bytes.
    pub fn finish(&self, len: usize) -> Result<Exported> {
        let exported = ffi::export(&self.0).context("DMA_BUF_SPLICE_EXPORT")?;
        ensure!(
            (exported.offset, exported.bytes) == (0, len as u64),
            "the dma-buf has {} bytes at {}, and not {len} at 0",
            exported.bytes,
            exported.offset
        );
        Ok(exported)
    }
}

/// A pipe: the end to read from, and the one to write to.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).context("pipe")
}
