// SPDX-License-Identifier: GPL-2.0

//! The ioctls of `/dev/rdma_splice`. C header: `include/uapi/linux/rdma_splice.h`.

use std::ffi::c_void;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{Errno, Result};
use rustix::ioctl::{ioctl, opcode, Getter, Ioctl, IoctlOutput, NoArg, Opcode};

/// `RDMA_SPLICE_CLOEXEC`.
pub const CLOEXEC: u32 = 0x1;

/// `RDMA_SPLICE_FAILED`, a value of [`Info::state`].
pub const FAILED: u32 = 3;

/// `AF_INET` and `AF_INET6`, values of [`Addr::family`]. `AF_UNSPEC` is 0.
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

const TYPE: u8 = 0xbb;
const CONNECT: Opcode = opcode::write::<Connect>(TYPE, 0x10);
const LISTEN: Opcode = opcode::write::<Listen>(TYPE, 0x11);
const ACCEPT: Opcode = opcode::read_write::<Accept>(TYPE, 0x12);
const SHUTDOWN: Opcode = opcode::none(TYPE, 0x13);
const INFO: Opcode = opcode::read::<Info>(TYPE, 0x14);

/// `struct rdma_splice_addr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addr {
    pub family: u16,
    pub port: u16,
    pub scope_id: u32,
    pub addr: [u8; 16],
}

/// `struct rdma_splice_connect`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Connect {
    pub peer: Addr,
    pub local: Addr,
    pub timeout_ms: u32,
    pub keepalive_ms: u32,
    pub receive_bytes: u32,
    pub flags: u32,
    pub reserved: [u64; 2],
}

/// `struct rdma_splice_listen`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Listen {
    pub local: Addr,
    pub backlog: u32,
    pub keepalive_ms: u32,
    pub receive_bytes: u32,
    pub flags: u32,
    pub reserved: [u64; 2],
}

/// `struct rdma_splice_accept`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Accept {
    pub flags: u32,
    pub reserved: u32,
    pub peer: Addr,
}

/// `struct rdma_splice_info`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Info {
    pub state: u32,
    pub error: i32,
    pub flags: u32,
    pub reserved: u32,
    pub local: Addr,
    pub peer: Addr,
    pub device: [u8; 64],
    pub send_segment: u32,
    pub send_depth: u32,
    pub receive_segment: u32,
    pub receive_depth: u32,
    pub sent: u64,
    pub taken: u64,
    pub received: u64,
}

/// An ioctl that takes a structure and returns a file descriptor.
struct NewFile<'a, const OPCODE: Opcode, T>(&'a mut T);

// SAFETY: The kernel reads, and for ACCEPT writes, a `T` at the pointer: each opcode is
// used with its own structure only, in the functions below. IS_MUTATING is true for all.
unsafe impl<const OPCODE: Opcode, T> Ioctl for NewFile<'_, OPCODE, T> {
    type Output = OwnedFd;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> Result<OwnedFd> {
        let fd = RawFd::from(out);
        if fd < 0 {
            return Err(Errno::BADF);
        }
        // SAFETY: The ioctl succeeded, so `out` is a new descriptor that nothing else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// `RDMA_SPLICE_IOC_CONNECT`, on the device.
pub fn connect(device: impl AsFd, mut arg: Connect) -> Result<OwnedFd> {
    // SAFETY: `Connect` has the layout of the argument, and the kernel keeps no pointer.
    unsafe { ioctl(device, NewFile::<CONNECT, _>(&mut arg)) }
}

/// `RDMA_SPLICE_IOC_LISTEN`, on the device.
pub fn listen(device: impl AsFd, mut arg: Listen) -> Result<OwnedFd> {
    // SAFETY: `Listen` has the layout of the argument, and the kernel keeps no pointer.
    unsafe { ioctl(device, NewFile::<LISTEN, _>(&mut arg)) }
}

/// `RDMA_SPLICE_IOC_ACCEPT`, on a listener. Returns the connection and the peer.
pub fn accept(listener: impl AsFd, flags: u32) -> Result<(OwnedFd, Addr)> {
    let mut arg = Accept {
        flags,
        ..Accept::default()
    };
    // SAFETY: `Accept` has the layout of the argument, and the kernel keeps no pointer.
    let fd = unsafe { ioctl(listener, NewFile::<ACCEPT, _>(&mut arg)) }?;
    Ok((fd, arg.peer))
}

/// `RDMA_SPLICE_IOC_SHUTDOWN`, on a connection.
pub fn shut_down(connection: impl AsFd) -> Result<()> {
    // SAFETY: The ioctl has no argument.
    unsafe { ioctl(connection, NoArg::<SHUTDOWN>::new()) }
}

/// `RDMA_SPLICE_IOC_INFO`.
pub fn info(connection: impl AsFd) -> Result<Info> {
    // SAFETY: `Info` has the layout of the result, all of which the kernel writes, and
    // every bit pattern is a valid `Info`.
    unsafe { ioctl(connection, Getter::<INFO, Info>::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_are_those_of_the_header() {
        // _IOC(direction, 0xBB, number, size): the sizes are in bits 16 to 29.
        assert_eq!(CONNECT, 0x4050_bb10);
        assert_eq!(LISTEN, 0x4038_bb11);
        assert_eq!(ACCEPT, 0xc020_bb12);
        assert_eq!(SHUTDOWN, 0x0000_bb13);
        assert_eq!(INFO, 0x80a8_bb14);
    }

    #[test]
    fn another_file_does_not_know_them() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let unknown = Errno::NOTTY;
        assert_eq!(connect(&file, Connect::default()).unwrap_err(), unknown);
        assert_eq!(listen(&file, Listen::default()).unwrap_err(), unknown);
        assert_eq!(accept(&file, CLOEXEC).unwrap_err(), unknown);
        assert_eq!(shut_down(&file).unwrap_err(), unknown);
        assert!(info(&file).is_err());
    }
}
