// SPDX-License-Identifier: GPL-2.0

//! Whole transfers, each by splice and by read and write, for measuring throughput.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{bail, Result};

use crate::endpoints::Endpoints;

/// The endpoints, and the buffer of a program that does not use splice.
pub struct Mover {
    endpoints: Endpoints,
    buffer: Vec<u8>,
}

/// One transfer, in parts.
pub struct Transfer {
    /// Source and destination.
    pub name: &'static str,
    /// The system calls.
    pub by: &'static str,
    /// Moves all bytes to a place where they can be read.
    put: fn(&mut Mover) -> Result<()>,
    /// Moves them on to a place where they cannot be read.
    drop: fn(&mut Mover) -> Result<()>,
    /// Makes room for the next transfer. This is not measured.
    after: fn(&mut Mover) -> Result<()>,
    /// Replaces `drop` and `after`: reads the data that arrived into the buffer.
    take: fn(&mut Mover) -> Result<()>,
    /// Returns the data that was sent.
    sent: fn(&mut Mover) -> Result<Vec<u8>>,
}

impl Transfer {
    /// Runs the part that is measured.
    pub fn go(&self, mover: &mut Mover) -> Result<()> {
        (self.put)(mover)?;
        (self.drop)(mover)
    }

    /// Runs the part that is needed before the next transfer.
    pub fn finish(&self, mover: &mut Mover) -> Result<()> {
        (self.after)(mover)
    }

    /// Runs the transfer once, and returns an error unless the data that arrived is the data that
    /// was sent.
    pub fn verify(&self, mover: &mut Mover) -> Result<()> {
        mover.clear()?;
        (self.put)(mover)?;
        mover.buffer.fill(0);
        (self.take)(mover)?;
        let sent = (self.sent)(mover)?;
        let differs = |(sent, came): (&u8, &u8)| sent != came;
        match sent.iter().zip(&mover.buffer).position(differs) {
            None => Ok(()),
            Some(at) => bail!("byte {at} is not the one that was sent"),
        }
    }
}

impl Mover {
    pub fn new(dir: &Path, bytes: usize) -> Result<Self> {
        Ok(Self {
            endpoints: Endpoints::new(dir, bytes)?,
            buffer: vec![1; bytes],
        })
    }

    /// Clears the target file and the buffer, so that old data is not taken for data that arrived.
    fn clear(&mut self) -> Result<()> {
        self.buffer.fill(0);
        self.write_target()
    }

    fn read_source(&mut self) -> Result<()> {
        let read = rustix::io::pread(&self.endpoints.source, &mut self.buffer[..], 0);
        self.endpoints.all(read)
    }

    fn read_target(&mut self) -> Result<()> {
        let read = rustix::io::pread(&self.endpoints.target, &mut self.buffer[..], 0);
        self.endpoints.all(read)
    }

    fn write_target(&mut self) -> Result<()> {
        let written = rustix::io::pwrite(&self.endpoints.target, &self.buffer, 0);
        self.endpoints.all(written)
    }

    fn read_pipe(&mut self) -> Result<()> {
        let read = rustix::io::read(&self.endpoints.pipe.read, &mut self.buffer[..]);
        self.endpoints.all(read)
    }

    fn write(&self, data: &[u8], to: impl AsFd) -> Result<()> {
        self.endpoints.all(rustix::io::write(to, data))
    }

    fn receive(&mut self) -> Result<()> {
        self.endpoints.tcp.receive(&mut self.buffer)
    }
}

fn nothing(_: &mut Mover) -> Result<()> {
    Ok(())
}

/// Returns the content of the source file.
fn source(mover: &mut Mover) -> Result<Vec<u8>> {
    let mut data = vec![0; mover.endpoints.bytes()];
    let read = rustix::io::pread(&mover.endpoints.source, &mut data[..], 0);
    mover.endpoints.all(read)?;
    Ok(data)
}

fn memory(mover: &mut Mover) -> Result<Vec<u8>> {
    Ok(mover.endpoints.memory().to_vec())
}

const FILE_TO_FILE: Transfer = Transfer {
    name: "file to file",
    by: "",
    put: nothing,
    drop: nothing,
    after: nothing,
    take: Mover::read_target,
    sent: source,
};

const MEMORY_TO_NULL: Transfer = Transfer {
    name: "memory to pipe to /dev/null",
    take: Mover::read_pipe,
    sent: memory,
    ..FILE_TO_FILE
};

const FILE_TO_TCP: Transfer = Transfer {
    name: "file to TCP",
    after: |mover| mover.endpoints.drain_tcp(),
    take: Mover::receive,
    ..FILE_TO_FILE
};

/// All transfers, in the order of the table.
pub const TRANSFERS: &[Transfer] = &[
    Transfer {
        by: "splice, splice",
        put: |mover| {
            mover.endpoints.fill_pipe()?;
            let (pipe, target) = (&mover.endpoints.pipe.read, &mover.endpoints.target);
            mover
                .endpoints
                .all(mover.endpoints.splice_to_start(pipe, target))
        },
        ..FILE_TO_FILE
    },
    Transfer {
        by: "read, write",
        put: |mover| {
            mover.read_source()?;
            mover.write_target()
        },
        ..FILE_TO_FILE
    },
    Transfer {
        by: "vmsplice, splice",
        put: |mover| mover.endpoints.all(mover.endpoints.vmsplice()),
        drop: |mover| {
            let (pipe, null) = (&mover.endpoints.pipe.read, &mover.endpoints.null);
            mover.endpoints.all(mover.endpoints.splice(pipe, null))
        },
        ..MEMORY_TO_NULL
    },
    Transfer {
        by: "write, read, write",
        put: |mover| mover.write(mover.endpoints.memory(), &mover.endpoints.pipe.write),
        drop: |mover| {
            mover.read_pipe()?;
            mover.write(&mover.buffer, &mover.endpoints.null)
        },
        ..MEMORY_TO_NULL
    },
    Transfer {
        by: "sendfile",
        put: |mover| {
            mover
                .endpoints
                .all(mover.endpoints.sendfile(&mover.endpoints.tcp.near))
        },
        ..FILE_TO_TCP
    },
    Transfer {
        by: "read, write",
        put: |mover| {
            mover.read_source()?;
            mover.write(&mover.buffer, &mover.endpoints.tcp.near)
        },
        ..FILE_TO_TCP
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_did_not_come_is_noticed() {
        let dir = std::env::temp_dir();
        let mut mover = Mover::new(&dir, 65_536).unwrap();
        let lost = Transfer {
            put: Mover::clear,
            ..FILE_TO_FILE
        };
        let error = lost.verify(&mut mover).unwrap_err().to_string();
        assert_eq!(error, "byte 0 is not the one that was sent");
        TRANSFERS[0].verify(&mut mover).unwrap();
    }
}
