// SPDX-License-Identifier: GPL-2.0

//! The conversion of what user space passes: see `include/uapi/linux/rdma_splice.h`.

use super::state::Settings;
use kernel::{
    fs::file::flags::{O_CLOEXEC, O_NONBLOCK},
    ioctl::{_IO, _IOR, _IOW, _IOWR},
    prelude::*,
    rdma::SocketAddr,
    uaccess::{UserPtr, UserSlice},
    uapi,
};

const TYPE: u32 = 0xbb;

pub(crate) const CONNECT: u32 = _IOW::<uapi::rdma_splice_connect>(TYPE, 0x10);
pub(crate) const LISTEN: u32 = _IOW::<uapi::rdma_splice_listen>(TYPE, 0x11);
pub(crate) const ACCEPT: u32 = _IOWR::<uapi::rdma_splice_accept>(TYPE, 0x12);
pub(crate) const SHUTDOWN: u32 = _IO(TYPE, 0x13);
pub(crate) const INFO: u32 = _IOR::<uapi::rdma_splice_info>(TYPE, 0x14);

const AF_UNSPEC: u16 = 0;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The default time for the set-up of a connection.
const TIMEOUT_MS: u32 = 10_000;

/// The default and the largest number of peers that wait.
const BACKLOG: u32 = 16;
const MOST_BACKLOG: u32 = 1024;

/// The default, the smallest and the largest memory to receive into.
const RECEIVE_BYTES: u32 = 1 << 20;
const LEAST_RECEIVE_BYTES: u32 = 16 << 10;
const MOST_RECEIVE_BYTES: u32 = 64 << 20;

/// The smallest keepalive interval and set-up time, and the largest.
const LEAST_MS: u32 = 100;
const MOST_MS: u32 = 24 * 60 * 60 * 1000;

/// Returns `value`, or `default` if it is 0. Returns [`EINVAL`] if it is out of range.
fn or_default(value: u32, default: u32, least: u32, most: u32) -> Result<u32> {
    match value {
        0 => Ok(default),
        _ if (least..=most).contains(&value) => Ok(value),
        _ => Err(EINVAL),
    }
}

/// The flags of a call that creates a file.
#[derive(Clone, Copy)]
pub(crate) struct Flags(u32);

impl Flags {
    /// Returns [`EINVAL`] if a flag is unknown.
    fn new(flags: u32) -> Result<Self> {
        if flags & !(uapi::RDMA_SPLICE_CLOEXEC | uapi::RDMA_SPLICE_NONBLOCK) != 0 {
            return Err(EINVAL);
        }
        Ok(Self(flags))
    }

    /// Returns whether the call waits for the peer.
    pub(crate) fn wait(self) -> bool {
        self.0 & uapi::RDMA_SPLICE_NONBLOCK == 0
    }

    /// Returns the flags of the file.
    pub(crate) fn of_file(self) -> u32 {
        if self.wait() {
            0
        } else {
            O_NONBLOCK
        }
    }

    /// Returns the flags of the descriptor.
    pub(crate) fn of_descriptor(self) -> u32 {
        if self.0 & uapi::RDMA_SPLICE_CLOEXEC != 0 {
            O_CLOEXEC
        } else {
            0
        }
    }
}

/// Converts an address. `None` if there is none.
fn addr(raw: &uapi::rdma_splice_addr) -> Result<Option<SocketAddr>> {
    match raw.family {
        AF_UNSPEC => {
            if raw.port != 0 || raw.scope_id != 0 || raw.addr != [0; 16] {
                return Err(EINVAL);
            }
            Ok(None)
        }
        AF_INET => {
            let (addr, rest) = raw.addr.split_first_chunk().ok_or(EINVAL)?;
            if raw.scope_id != 0 || rest.iter().any(|&byte| byte != 0) {
                return Err(EINVAL);
            }
            Ok(Some(SocketAddr::V4 {
                addr: *addr,
                port: raw.port,
            }))
        }
        AF_INET6 => Ok(Some(SocketAddr::V6 {
            addr: raw.addr,
            port: raw.port,
            scope_id: raw.scope_id,
        })),
        _ => Err(EAFNOSUPPORT),
    }
}

/// Converts an address for user space.
pub(crate) fn raw_addr(of: Option<SocketAddr>) -> uapi::rdma_splice_addr {
    let mut raw = uapi::rdma_splice_addr {
        family: AF_UNSPEC,
        port: 0,
        scope_id: 0,
        addr: [0; 16],
    };
    match of {
        None => {}
        Some(SocketAddr::V4 { addr, port }) => {
            raw.family = AF_INET;
            raw.port = port;
            raw.addr[..4].copy_from_slice(&addr);
        }
        Some(SocketAddr::V6 {
            addr,
            port,
            scope_id,
        }) => {
            raw.family = AF_INET6;
            raw.port = port;
            raw.scope_id = scope_id;
            raw.addr = addr;
        }
    }
    raw
}

fn settings(keepalive_ms: u32, receive_bytes: u32, default_keepalive: u32) -> Result<Settings> {
    let receive_bytes = or_default(
        receive_bytes,
        RECEIVE_BYTES,
        LEAST_RECEIVE_BYTES,
        MOST_RECEIVE_BYTES,
    )?;
    Ok(Settings {
        keepalive_ms: or_default(keepalive_ms, default_keepalive, LEAST_MS, MOST_MS)?,
        // CAST: A u32 fits in a usize.
        receive_bytes: receive_bytes as usize,
    })
}

/// The argument of `RDMA_SPLICE_IOC_CONNECT`.
pub(crate) struct Connect {
    pub(crate) settings: Settings,
    pub(crate) peer: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: Flags,
}

impl Connect {
    /// Reads the argument. Returns [`EFAULT`], [`EINVAL`] or [`EAFNOSUPPORT`] if it is not correct.
    pub(crate) fn read(arg: usize, keepalive_ms: u32) -> Result<Self> {
        let raw: uapi::rdma_splice_connect = read(arg)?;
        let peer = addr(&raw.peer)?.ok_or(EINVAL)?;
        let local = addr(&raw.local)?;
        let same = local.is_none_or(|local| local.any_of() == peer.any_of());
        if raw.reserved != [0; 2] || !same {
            return Err(EINVAL);
        }
        Ok(Self {
            settings: settings(raw.keepalive_ms, raw.receive_bytes, keepalive_ms)?,
            peer,
            local,
            timeout_ms: or_default(raw.timeout_ms, TIMEOUT_MS, 1, MOST_MS)?,
            flags: Flags::new(raw.flags)?,
        })
    }
}

/// The argument of `RDMA_SPLICE_IOC_LISTEN`.
pub(crate) struct Listen {
    pub(crate) settings: Settings,
    pub(crate) local: SocketAddr,
    pub(crate) backlog: usize,
    pub(crate) flags: Flags,
}

impl Listen {
    /// Reads the argument. The errors are those of [`Connect::read`].
    pub(crate) fn read(arg: usize, keepalive_ms: u32) -> Result<Self> {
        let raw: uapi::rdma_splice_listen = read(arg)?;
        if raw.reserved != [0; 2] {
            return Err(EINVAL);
        }
        Ok(Self {
            settings: settings(raw.keepalive_ms, raw.receive_bytes, keepalive_ms)?,
            local: addr(&raw.local)?.ok_or(EINVAL)?,
            // CAST: A u32 fits in a usize.
            backlog: or_default(raw.backlog, BACKLOG, 1, MOST_BACKLOG)? as usize,
            flags: Flags::new(raw.flags)?,
        })
    }
}

/// Reads the argument of `RDMA_SPLICE_IOC_ACCEPT`.
pub(crate) fn read_accept(arg: usize) -> Result<Flags> {
    let raw: uapi::rdma_splice_accept = read(arg)?;
    if raw.reserved != 0 {
        return Err(EINVAL);
    }
    Flags::new(raw.flags)
}

/// Writes the result of `RDMA_SPLICE_IOC_ACCEPT`.
pub(crate) fn write_accept(arg: usize, peer: Option<SocketAddr>) -> Result {
    let raw = uapi::rdma_splice_accept {
        flags: 0,
        reserved: 0,
        peer: raw_addr(peer),
    };
    write(arg, &raw)
}

fn read<T: kernel::transmute::FromBytes>(arg: usize) -> Result<T> {
    let size = core::mem::size_of::<T>();
    UserSlice::new(UserPtr::from_addr(arg), size)
        .reader()
        .read()
}

/// Writes a structure to user memory. Returns [`EFAULT`] if that is not possible.
pub(crate) fn write<T: kernel::transmute::AsBytes>(arg: usize, value: &T) -> Result {
    let size = core::mem::size_of::<T>();
    UserSlice::new(UserPtr::from_addr(arg), size)
        .writer()
        .write(value)
}
