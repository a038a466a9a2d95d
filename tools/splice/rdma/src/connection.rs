// SPDX-License-Identifier: GPL-2.0

//! A connection of `/dev/rdma_splice`, and how it is made.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context, Error, Result};
use rustix::io::{retry_on_intr, Errno};

use crate::address::Address;
use crate::explain::{self, Settings, DEVICE};
use crate::ffi::{self, Addr};

/// The time between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);

/// A connection.
pub struct Connection {
    file: File,
    /// The offset of its first byte in the file.
    offset: u64,
    /// The peer's address.
    pub peer: String,
    /// The RDMA device.
    pub device: String,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open() -> Result<File> {
    let device = File::options().read(true).write(true).open(DEVICE);
    device.map_err(|e| match Errno::from_io_error(&e) {
        Some(errno) => anyhow!(explain::opening(errno)),
        None => e.into(),
    })
}

fn ms(seconds: Option<u32>) -> u32 {
    seconds.map_or(0, |seconds| seconds.saturating_mul(1000))
}

/// Listens at `local`.
pub fn listen(local: Address, settings: &Settings) -> Result<File> {
    let arg = ffi::Listen {
        local: local.into(),
        backlog: 1,
        keepalive_ms: ms(settings.keepalive),
        receive_bytes: settings.memory.unwrap_or(0),
        flags: ffi::CLOEXEC,
        ..ffi::Listen::default()
    };
    let listener = ffi::listen(open()?, arg);
    let listener = listener.map_err(|e| anyhow!(explain::listening(e, local, settings)))?;
    Ok(listener.into())
}

/// Returns whether another attempt to connect makes sense.
fn passes(errno: Errno) -> bool {
    [
        Errno::CONNREFUSED,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::TIMEDOUT,
    ]
    .contains(&errno)
}

impl Connection {
    /// Connects to `peer`. Tries again for the time `wait` if nobody answers there.
    pub fn connect(
        peer: Address,
        source: Option<Address>,
        wait: Duration,
        offset: u64,
        settings: Settings,
    ) -> Result<Self> {
        let arg = ffi::Connect {
            peer: peer.into(),
            local: source.map_or_else(Addr::default, Addr::from),
            timeout_ms: ms(settings.timeout),
            keepalive_ms: ms(settings.keepalive),
            receive_bytes: settings.memory.unwrap_or(0),
            flags: ffi::CLOEXEC,
            ..ffi::Connect::default()
        };
        let device = open()?;
        let start = Instant::now();
        loop {
            match retry_on_intr(|| ffi::connect(&device, arg)) {
                Ok(fd) => return Self::new(fd.into(), offset),
                Err(errno) if passes(errno) && start.elapsed() < wait => thread::sleep(PAUSE),
                Err(errno) => return Err(anyhow!(explain::connecting(errno, peer, &settings))),
            }
        }
    }

    /// Waits for a connection.
    pub fn accept(listener: &File, offset: u64, settings: Settings) -> Result<Self> {
        let (fd, _) = retry_on_intr(|| ffi::accept(listener, ffi::CLOEXEC))
            .map_err(|e| anyhow!(explain::accepting(e, &settings)))?;
        Self::new(fd.into(), offset)
    }

    fn new(file: File, offset: u64) -> Result<Self> {
        let info = ffi::info(&file).context("RDMA_SPLICE_IOC_INFO")?;
        let device = info.device.split(|&byte| byte == 0).next();
        Ok(Self {
            offset,
            peer: Address::try_from(info.peer)
                .map_or_else(|()| "the peer".into(), |peer| peer.to_string()),
            device: String::from_utf8_lossy(device.unwrap_or_default()).into_owned(),
            file,
        })
    }

    /// The file, for read(2) and write(2).
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Ends the own data.
    pub fn shut_down(&self) -> Result<()> {
        ffi::shut_down(&self.file).map_err(|e| self.sending(e, "the connection"))
    }

    /// Waits until the peer's reader has taken all data.
    pub fn flush(&self) -> Result<()> {
        retry_on_intr(|| rustix::fs::fsync(&self.file))
            .map_err(|e| self.sending(e, "the connection"))
    }

    /// Why the connection failed, if it did, and the bytes that the peer's reader has taken.
    fn failure(&self) -> Option<(Errno, u64)> {
        let info = ffi::info(&self.file).ok()?;
        let failed = info.state == ffi::FAILED && info.error != 0;
        failed.then(|| (Errno::from_raw_os_error(info.error), info.taken))
    }

    /// Explains an error of a call that sent `what`.
    pub fn sending(&self, errno: Errno, what: &str) -> Error {
        match self.failure() {
            Some((errno, taken)) => {
                anyhow!(explain::sending(errno, self.offset, taken))
            }
            None => anyhow!("{what}: {errno}"),
        }
    }

    /// Explains an error of a call that received to `what`, of which `kept` is safe.
    pub fn receiving(&self, errno: Errno, kept: Option<(&str, u64)>, what: &str) -> Error {
        match self.failure() {
            Some((errno, _)) => anyhow!(explain::receiving(errno, kept)),
            None => anyhow!("{what}: {errno}"),
        }
    }
}
