// SPDX-License-Identifier: GPL-2.0

//! A pipe between a file and a connection.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::io::{retry_on_intr, Errno};
use rustix::pipe::{
    fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice, PipeFlags, SpliceFlags,
};

/// The wanted size: the default limit of an ordinary user.
const SIZE: usize = 1 << 20;

/// A pipe.
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// The most bytes in it.
    pub capacity: usize,
}

impl Pipe {
    pub fn new() -> Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
        // A smaller pipe will do as well.
        let _ = fcntl_setpipe_size(&write, SIZE);
        let capacity = fcntl_getpipe_size(&write).context("F_GETPIPE_SZ")?;
        Ok(Self {
            read,
            write,
            capacity,
        })
    }

    /// Moves at most `most` bytes from `from` into the pipe. Returns 0 at the end.
    pub fn fill(&self, from: impl AsFd, most: u64) -> Result<usize, Errno> {
        let want = most.min(self.capacity as u64) as usize;
        direct(from, &self.write, want)
    }

    /// Moves at most `most` bytes to `to`, at `offset` if there is one.
    pub fn drain(
        &self,
        to: impl AsFd,
        mut offset: Option<&mut u64>,
        most: usize,
    ) -> Result<usize, Errno> {
        retry_on_intr(|| {
            let offset = offset.as_deref_mut();
            splice(&self.read, None, &to, offset, most, SpliceFlags::empty())
        })
    }
}

/// Moves at most `most` bytes from `from` to `to`, one of which is a pipe.
pub fn direct(from: impl AsFd, to: impl AsFd, most: usize) -> Result<usize, Errno> {
    retry_on_intr(|| splice(&from, None, &to, None, most, SpliceFlags::empty()))
}
