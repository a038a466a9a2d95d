// SPDX-License-Identifier: GPL-2.0

//! Whole transfers, each by splice and by reading and writing, for measuring how
//! many bytes a second they move.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{bail, Result};

use crate::endpoints::Endpoints;

/// The endpoints, and the memory that a program without splice takes data through.
pub struct Mover {
    endpoints: Endpoints,
    buffer: Vec<u8>,
}

/// One transfer, in parts.
pub struct Transfer {
    /// From where to where.
    pub name: &'static str,
    /// By which system calls.
    pub by: &'static str,
    /// Moves all bytes to where they can be looked at.
    put: fn(&mut Mover) -> Result<()>,
    /// Moves them on to where they cannot.
    drop: fn(&mut Mover) -> Result<()>,
    /// Makes room for the next. This is not measured.
    after: fn(&mut Mover) -> Result<()>,
    /// Instead of `drop` and `after`: reads into the buffer what has come.
    take: fn(&mut Mover) -> Result<()>,
    /// What is to come.
    sent: fn(&mut Mover) -> Result<Vec<u8>>,
}

impl Transfer {
    /// What is measured.
    pub fn go(&self, mover: &mut Mover) -> Result<()> {
        (self.put)(mover)?;
        (self.drop)(mover)
    }

    /// What has to be done before the next one.
    pub fn finish(&self, mover: &mut Mover) -> Result<()> {
        (self.after)(mover)
    }

    /// Does it once, and fails unless what has come is what was sent.
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

    /// Has nothing in the target file and in the buffer that may be taken for data that came.
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

/// What the source file holds.
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

/// All of them, in the order of the table.
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
