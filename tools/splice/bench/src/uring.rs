// SPDX-License-Identifier: GPL-2.0

//! Requests of io_uring for splice and tee.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{ensure, Result};
use rustix::io::Errno;

const IORING_OFF_SQ_RING: i64 = 0;
const IORING_OFF_SQES: i64 = 0x1000_0000;
const IORING_FEAT_SINGLE_MMAP: u32 = 1;
const IORING_ENTER_GETEVENTS: u32 = 1;
const IORING_OP_SPLICE: u8 = 30;
const IORING_OP_TEE: u8 = 33;
const NO_OFFSET: u64 = u64::MAX;

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread_cpu: u32,
    sq_thread_idle: u32,
    features: u32,
    wq_fd: u32,
    resv: [u32; 3],
    sq_off: Offsets,
    cq_off: Offsets,
}

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`, of which only the sixth and seventh
/// field differ.
#[repr(C)]
#[derive(Default)]
struct Offsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags_or_overflow: u32,
    dropped_or_cqes: u32,
    array_or_flags: u32,
    resv1: u32,
    user_addr: u64,
}

/// `struct io_uring_sqe`, for a splice.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    splice_off_in: u64,
    len: u32,
    splice_flags: u32,
    user_data: u64,
    buf_index: u16,
    personality: u16,
    splice_fd_in: i32,
    pad: [u64; 2],
}

impl Request {
    /// A splice, from an offset if there is one. It does not wait.
    #[inline(always)]
    pub fn splice(from: impl AsFd, offset: Option<u64>, to: impl AsFd) -> Self {
        Self {
            opcode: IORING_OP_SPLICE,
            off: NO_OFFSET,
            splice_off_in: offset.unwrap_or(NO_OFFSET),
            ..Self::tee(from, to)
        }
    }

    /// A tee. It does not wait.
    #[inline(always)]
    pub fn tee(from: impl AsFd, to: impl AsFd) -> Self {
        Self {
            opcode: IORING_OP_TEE,
            flags: 0,
            ioprio: 0,
            fd: to.as_fd().as_raw_fd(),
            off: 0,
            splice_off_in: 0,
            len: 0,
            splice_flags: libc::SPLICE_F_NONBLOCK,
            user_data: 0,
            buf_index: 0,
            personality: 0,
            splice_fd_in: from.as_fd().as_raw_fd(),
            pad: [0; 2],
        }
    }
}

/// `struct io_uring_cqe`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Completion {
    user_data: u64,
    res: i32,
    flags: u32,
}

/// Memory that the kernel shares.
struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    fn new(fd: &OwnedFd, len: usize, offset: i64) -> io::Result<Self> {
        // SAFETY: A new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast(),
            len,
        })
    }

    /// Returns a pointer to the `T` at `offset` bytes.
    fn at<T>(&self, offset: u32) -> *mut T {
        assert!(offset as usize + size_of::<T>() <= self.len);
        self.start.wrapping_add(offset as usize).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: The mapping was made by `new`, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// An instance of io_uring.
///
/// The kernel only changes the tail of the completions, and what is before it, which `run` reads
/// after the kernel has stored the tail.
pub struct Ring {
    fd: OwnedFd,
    params: Params,
    rings: Mapping,
    requests: Mapping,
}

impl Ring {
    /// Sets up a ring for `entries` requests at once.
    pub fn new(entries: usize) -> Result<Self> {
        let mut params = Params::default();
        // SAFETY: `params` is a valid `struct io_uring_params`.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut params) };
        if fd < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: The call has made this descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        ensure!(
            params.features & IORING_FEAT_SINGLE_MMAP != 0,
            "two mappings"
        );
        let requests = params.sq_entries as usize * size_of::<Request>();
        let completions = params.cq_entries as usize * size_of::<Completion>();
        let end = params.cq_off.dropped_or_cqes as usize + completions;
        let array = params.sq_off.array_or_flags as usize + params.sq_entries as usize * 4;
        let ring = Self {
            rings: Mapping::new(&fd, end.max(array), IORING_OFF_SQ_RING)?,
            requests: Mapping::new(&fd, requests, IORING_OFF_SQES)?,
            fd,
            params,
        };
        for i in 0..ring.params.sq_entries {
            let at = ring.params.sq_off.array_or_flags + i * 4;
            // SAFETY: The entry is in the mapping, and the kernel does not write to it.
            unsafe { *ring.rings.at::<u32>(at) = i };
        }
        Ok(ring)
    }

    fn index(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: The index is in the mapping, and is aligned. It is accessed atomically only.
        unsafe { &*self.rings.at(offset) }
    }

    /// Submits `request` `batch` times, with `bytes` bytes each, and waits for all of them, by one
    /// system call. Returns the first result that is not `bytes`, else that.
    #[inline(always)]
    pub fn run(
        &mut self,
        request: Request,
        batch: usize,
        bytes: usize,
    ) -> rustix::io::Result<usize> {
        let Params { sq_off, cq_off, .. } = &self.params;
        let tail = self.index(sq_off.tail);
        let first = tail.load(Ordering::Relaxed);
        let mask = self.params.sq_entries - 1;
        for i in 0..batch as u32 {
            let at = (first.wrapping_add(i) & mask) * size_of::<Request>() as u32;
            let request = Request {
                len: bytes as u32,
                ..request
            };
            // SAFETY: The entry is in the mapping, and the kernel has consumed its last request.
            unsafe { *self.requests.at(at) = request };
        }
        tail.store(first.wrapping_add(batch as u32), Ordering::Release);
        // SAFETY: The requests refer to descriptors only.
        let submitted = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                batch,
                batch,
                IORING_ENTER_GETEVENTS,
                ptr::null::<()>(),
                0,
            )
        };
        if submitted != batch as i64 {
            return Err(Errno::IO);
        }
        let head = self.index(cq_off.head);
        let first = head.load(Ordering::Relaxed);
        if self.index(cq_off.tail).load(Ordering::Acquire) != first.wrapping_add(batch as u32) {
            return Err(Errno::IO);
        }
        let mut ret = Ok(bytes);
        for i in 0..batch as u32 {
            let at = first.wrapping_add(i) & (self.params.cq_entries - 1);
            let at = cq_off.dropped_or_cqes + at * size_of::<Completion>() as u32;
            // SAFETY: The entry is in the mapping, and the kernel has written it before the tail.
            let completion = unsafe { *self.rings.at::<Completion>(at) };
            if completion.res != bytes as i32 {
                ret = usize::try_from(completion.res)
                    .map_err(|_| Errno::from_raw_os_error(-completion.res));
            }
        }
        head.store(first.wrapping_add(batch as u32), Ordering::Release);
        ret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernel() {
        assert_eq!(size_of::<Params>(), 120);
        assert_eq!(size_of::<Request>(), 64);
        assert_eq!(size_of::<Completion>(), 16);
    }
}
