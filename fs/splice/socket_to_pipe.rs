// SPDX-License-Identifier: GPL-2.0

//! Transfers from a socket to a pipe that have to wait for data.
//!
//! The functions of a socket's protocol wait in a loop of their own, with the pipe locked. Here the
//! wait is by `->poll`, with the pipe unlocked, and follows their rules: `SO_RCVTIMEO` limits the
//! whole call, with one more attempt at its end, and with a time-out a signal is an [`EINTR`].

#![forbid(unsafe_code)]

use crate::file_to_pipe::{fill, Filled};
use kernel::{
    fs::{file::Offset, LocalFile},
    net::Socket,
    pipe::Pipe,
    prelude::*,
    splice::{interrupted, SpliceFlag, SpliceFlags, Tries, Waited},
};

/// Returns whether `file` is a socket.
#[inline]
pub(crate) fn is_socket(file: &LocalFile) -> bool {
    Socket::of_file(file).is_some()
}

/// Returns whether `file` is a socket whose protocol passes its pages on. Others are read into new
/// pages.
#[inline]
pub(crate) fn is_socket_with_pages(file: &LocalFile) -> bool {
    Socket::of_file(file).is_some_and(|socket| socket.has_splice_read())
}

/// Waits for room in `pipe` and for data of the socket `file`, and moves up to `len` bytes.
///
/// Returns the errors of [`fill`] and [`wait_and_fill`].
pub(crate) fn splice_socket_to_pipe(
    file: &LocalFile,
    pipe: &mut Pipe<'_>,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    match fill(file, pipe, pos, len, flags, flags.no_wait())? {
        Filled::Done(bytes) => Ok(bytes),
        Filled::WouldWait { moved, wanted } => wait_and_fill(file, pipe, pos, moved, wanted, flags),
    }
}

/// Waits for data of the socket `file` and reads it into `pipe`, after an attempt that put
/// `moved` of `wanted` bytes into the pipe. Returns the number of bytes, including `moved`.
///
/// # Errors
///
/// Only if nothing was moved:
///
/// - [`EAGAIN`]: the time-out of the socket has passed.
/// - [`ERESTARTSYS`]: a signal is pending; [`EINTR`] if the socket has a time-out.
/// - Those of [`fill`]. Others can use the pipe during the wait, so it may have no room or no
///   readers when there is data. The data stays in the socket then.
#[cold]
fn wait_and_fill(
    file: &LocalFile,
    pipe: &mut Pipe<'_>,
    pos: &mut Offset,
    moved: usize,
    wanted: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let socket = Socket::of_file(file).ok_or(ENOTSOCK)?;
    let deadline = socket.receive_deadline();
    // AF_UNIX continues until it has moved that much. For TCP, `->poll` waits for the mark.
    let target = socket.low_water_mark(wanted);
    let mut tries = Tries::default();
    let mut bytes = moved;
    while bytes < target {
        let waited = match socket.wait_readable(file, pipe, deadline) {
            // As in C, a signal that arrived during the sleep comes before the data.
            Waited::Slept if interrupted() => Waited::Interrupted,
            waited => waited,
        };
        if waited == Waited::Interrupted {
            return moved_or(bytes, Err(deadline.interrupted()));
        }
        let read_flags = if tries.are_futile(waited) {
            flags
        } else {
            flags.no_wait()
        };
        // Do not wait for room if there is something to return.
        let room_flags = if bytes > 0 {
            flags | SpliceFlag::NonBlock
        } else {
            flags
        };
        match fill(file, pipe, pos, wanted - bytes, room_flags, read_flags) {
            Ok(Filled::Done(more)) => return Ok(bytes + more),
            Ok(Filled::WouldWait { moved, .. }) => {
                bytes += moved;
                if moved > 0 {
                    tries = Tries::default();
                }
            }
            // A signal during a wait for room, after that for the socket.
            Err(err) if err == ERESTARTSYS => {
                return moved_or(bytes, Err(deadline.interrupted()));
            }
            Err(err) => return moved_or(bytes, Err(err)),
        }
        if waited == Waited::TimedOut {
            return moved_or(bytes, Err(EAGAIN));
        }
    }
    Ok(bytes)
}

/// Returns the number of bytes if it is not 0, else `ret`: bytes that are in the pipe must not be
/// hidden by an error that followed them.
fn moved_or(bytes: usize, ret: Result<usize>) -> Result<usize> {
    if bytes > 0 {
        Ok(bytes)
    } else {
        ret
    }
}
