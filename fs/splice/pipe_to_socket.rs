// SPDX-License-Identifier: GPL-2.0

//! Transfers from a pipe to a socket.

#![forbid(unsafe_code)]

use core::mem::MaybeUninit;
use kernel::{
    fs::{file::flags::O_NONBLOCK, LocalFile},
    net::Socket,
    page::PAGE_SIZE,
    pipe::{Pipe, PipeBuffer, PipeRing, DEFAULT_BUFFERS},
    prelude::*,
    splice::{
        wait_for_data, BioVec, Counter, FreshPages, PageArray, Pieces, Progress, SpliceFlag,
        SpliceFlags,
    },
};

/// Sends up to `len` bytes from the pipe, by reference if the protocol supports it.
///
/// Returns [`ENOTSOCK`] if the file is not a socket, and the errors of [`wait_for_data`] and of
/// `sendmsg(2)` if nothing was sent. Bytes that were not sent stay in the pipe. C:
/// `splice_to_socket`.
pub(crate) fn splice_to_socket(
    pipe: &mut Pipe<'_>,
    file: &LocalFile,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let socket = Socket::of_file(file).ok_or(ENOTSOCK)?;
    // `SPLICE_F_NONBLOCK` is for the pipe only, as in C: with it, a program can wait for room in
    // the socket but not for data in the pipe.
    let dont_wait = file.has_flags(O_NONBLOCK);
    let mut progress = Progress::default();
    let mut copied = 0;
    let mut guard = pipe.lock();
    let mut ring = guard.ring();
    // The pipe stays locked while the socket waits for room: the buffers are only borrowed for the
    // send, and leave the pipe when the socket has taken its own references.
    let ret = loop {
        if progress.bytes == len {
            break Ok(0);
        }
        let sent = send_some(
            &mut ring,
            socket,
            len,
            flags,
            dont_wait,
            &mut progress,
            &mut copied,
        );
        match sent {
            Ok(true) => (),
            Ok(false) => break Ok(0),
            Err(err) => break Err(err),
        }
    };
    drop(guard);
    // After the unlock: writers that are woken before would block on the mutex right away.
    if progress.wake_writers {
        pipe.wake_writers();
    }
    Counter::PipeToSocketReferenced.add(progress.bytes - copied);
    if copied > 0 {
        Counter::PipeToSocketCopied.add(copied);
    }
    progress.result(ret)
}

/// Waits for data and sends it. Adds the bytes that it sent as a copy to `copied`. Returns `true`
/// if the transfer can continue.
#[inline]
fn send_some(
    ring: &mut PipeRing<'_>,
    socket: &Socket,
    len: usize,
    flags: SpliceFlags,
    dont_wait: bool,
    progress: &mut Progress,
    copied: &mut usize,
) -> Result<bool> {
    if !wait_for_data(ring, flags, progress)? {
        return Ok(false);
    }

    let wanted = len - progress.bytes;
    // As many pieces as in C: on a socket that keeps message boundaries the receiver sees where a
    // message ends.
    let mut vecs = [const { MaybeUninit::<BioVec>::uninit() }; DEFAULT_BUFFERS];
    let mut pieces = Pieces::new(&mut vecs);
    let gathered = pieces.gather_unless_tracked(ring, wanted);
    // Send the buffers in front of one that cannot be read. Its error comes again, with no buffer
    // in front of it, at the next attempt.
    if pieces.is_empty() {
        return match gathered {
            Ok(true) => send_tracked(ring, socket, wanted, flags, dont_wait, progress, copied),
            Err(err) if err != ENODATA => Err(err),
            _ => Ok(false),
        };
    }

    // Announce more data only if it is in the pipe: the protocol holds a partial segment back for
    // it, and would do so without need if the writer of the pipe is slow.
    let left_in_pipe = gathered.unwrap_or(true);
    let more = flags.contains(SpliceFlag::More) || (left_in_pipe && pieces.bytes() < wanted);
    let sent = socket.send_pages(&pieces, more, dont_wait)?;
    // A protocol that takes nothing and reports no error would be called for ever.
    if sent == 0 {
        return Ok(false);
    }
    progress.consume(ring, sent);
    Ok(true)
}

/// Sends the oldest buffers, which are tracked memory, so that the end of their use is observed: by
/// reference if the protocol reports when it is done with the memory, else as a copy. Returns
/// `true` if the transfer can continue.
#[cold]
fn send_tracked(
    ring: &mut PipeRing<'_>,
    socket: &Socket,
    wanted: usize,
    flags: SpliceFlags,
    dont_wait: bool,
    progress: &mut Progress,
    copied: &mut usize,
) -> Result<bool> {
    let mut vecs = [const { MaybeUninit::<BioVec>::uninit() }; DEFAULT_BUFFERS];
    let mut pieces = Pieces::new(&mut vecs);
    let Some((memory, left_in_pipe)) = pieces.gather_tracked(ring, wanted) else {
        return Ok(false);
    };
    let more = |bytes| flags.contains(SpliceFlag::More) || (left_in_pipe && bytes < wanted);
    let sent = match socket.send_tracked(&pieces, memory, more(pieces.bytes()), dont_wait) {
        // The protocol would keep references to the pages and not report when it drops them, so
        // the memory would be reported too early.
        Err(err) if err == EOPNOTSUPP => {
            // One buffer in each round, at most one page of it: the next round looks at the socket
            // and at signals again, and a single page needs no allocation for a list.
            let Some(buf) = ring.front() else {
                return Ok(false);
            };
            let len = buf.len().min(wanted);
            let sent = send_copy(buf, len, socket, more(len), dont_wait)?;
            *copied += sent;
            sent
        }
        sent => sent?,
    };
    if sent == 0 {
        return Ok(false);
    }
    progress.consume(ring, sent);
    Ok(true)
}

/// Sends a copy of the first `len` bytes of `buf`, at most one page, and returns how many bytes the
/// socket took. Returns [`ENOMEM`] if there is no page for the copy, and the errors of
/// `sendmsg(2)`.
#[inline(never)]
fn send_copy(
    buf: &PipeBuffer,
    len: usize,
    socket: &Socket,
    more: bool,
    dont_wait: bool,
) -> Result<usize> {
    let len = len.min(PAGE_SIZE);
    let mut array = PageArray::new();
    let mut pages = FreshPages::alloc(&mut array, 1)?;
    pages.copy_buffer(buf, len);
    let copy = pages.into_buffer().ok_or(ENOMEM)?;
    let mut vecs = [const { MaybeUninit::<BioVec>::uninit() }; 1];
    let mut pieces = Pieces::new(&mut vecs);
    pieces.push(&copy, copy.len());
    socket.send_pages(&pieces, more, dont_wait)
}
