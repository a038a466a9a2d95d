// SPDX-License-Identifier: GPL-2.0

//! From a pipe to a socket.

#![forbid(unsafe_code)]

use core::mem::MaybeUninit;
use kernel::{
    bvec::{BioVec, Pieces},
    fs::{file::flags::O_NONBLOCK, LocalFile},
    pipe::{Pipe, PipeRing, DEFAULT_BUFFERS},
    prelude::*,
    splice::{counters::Counter, wait_for_data, Progress, Socket, SpliceFlag, SpliceFlags},
};

/// Sends what is in the pipe, by reference where the protocol can.
///
/// Fails with [`ENOTSOCK`] where the file is no socket, and as [`wait_for_data`] and `sendmsg(2)`
/// do. Data that was not sent stays in the pipe. C: `splice_to_socket`.
pub(crate) fn splice_to_socket(
    pipe: &mut Pipe<'_>,
    file: &LocalFile,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let socket = Socket::of_file(file).ok_or(ENOTSOCK)?;
    let dont_wait = file.has_flags(O_NONBLOCK);
    let mut progress = Progress::default();
    let mut guard = pipe.lock();
    let mut ring = guard.ring();
    let ret = loop {
        if progress.bytes == len {
            break Ok(0);
        }
        match send_some(&mut ring, socket, len, flags, dont_wait, &mut progress) {
            Ok(true) => (),
            Ok(false) => break Ok(0),
            Err(err) => break Err(err),
        }
    };
    drop(guard);
    if progress.wake_writers {
        pipe.wake_writers();
    }
    Counter::PipeToSocketReferenced.add(progress.bytes);
    progress.result(ret)
}

/// Waits for data and sends it. `true`: go on.
#[inline]
fn send_some(
    ring: &mut PipeRing<'_>,
    socket: &Socket,
    len: usize,
    flags: SpliceFlags,
    dont_wait: bool,
    progress: &mut Progress,
) -> Result<bool> {
    if !wait_for_data(ring, flags, progress)? {
        return Ok(false);
    }

    let wanted = len - progress.bytes;
    let mut vecs = [const { MaybeUninit::<BioVec>::uninit() }; DEFAULT_BUFFERS];
    let mut pieces = Pieces::new(&mut vecs);
    let gathered = pieces.gather(ring, wanted);
    // What can be read is sent; the error is met again, first, at the next call.
    if pieces.is_empty() {
        return match gathered {
            Err(err) if err != ENODATA => Err(err),
            _ => Ok(false),
        };
    }

    let left_in_pipe = gathered.unwrap_or(true);
    let more = flags.contains(SpliceFlag::More) || (left_in_pipe && pieces.bytes() < wanted);
    let sent = socket.send_pages(&pieces, more, dont_wait)?;
    if sent == 0 {
        return Ok(false);
    }
    progress.consume(ring, sent);
    Ok(true)
}
