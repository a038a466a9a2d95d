// SPDX-License-Identifier: GPL-2.0

//! Requests of io_uring for splice and tee.
//!
//! io_uring first tries a request in the task that submits it. Such an attempt must not wait, and
//! must not raise `SIGPIPE`, which would kill the submitter: a worker, which runs requests with
//! `fs/splice.c`, has no signals. Where it would wait, io_uring waits by poll for the end that is
//! not ready, and tries again. So it can cancel the request, and a time-out can end it.
//!
//! A transfer from a pipe to a file waits for what the file does, and so do most transfers from
//! files. They run in a worker, as with `fs/splice.c`. Without a wait run:
//!
//! - splice and tee between two pipes;
//! - splice from a regular file, of what is in the page cache, if the file system can read
//!   without a wait ([`LocalFile::reads_without_wait`]).
//!
//! If a file is only partly in the page cache, a worker adds the rest: a short count would break a
//! chain of requests. Others may put data into the pipe between the two parts.
//!
//! C: `io_splice` and `io_tee` in `io_uring/splice.c`.

#![forbid(unsafe_code)]

use crate::{
    dispatch::{do_splice, do_splice_by, do_tee_by, NEEDS_WORKER},
    file_to_pipe::fill_cached,
};
use kernel::{
    fs::{file::Offset, LocalFile},
    prelude::*,
    splice::{is_ready, Counter, SpliceFlag, SpliceFlags},
    sync::poll::PollEvent,
};

/// What io_uring does after an attempt.
pub(crate) enum Next {
    /// Complete the request with this result.
    Complete(Result<usize>),
    /// Wait until the input has data, then try again.
    PollInput,
    /// Wait until the output has room, then try again.
    PollOutput,
    /// Let a worker make the next attempt, which may wait.
    Worker,
}

/// The progress of a request from a regular file.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parts {
    /// The number of bytes that an attempt moved. If it is not 0, a worker moves the rest.
    pub(crate) moved: u32,
    /// The number of bytes of the rest.
    pub(crate) rest: u32,
}

/// How often in a row an attempt may transfer nothing although both ends were ready. Another task
/// holds the lock of a pipe, or the file is not in the page cache.
const MOST_ATTEMPTS: u32 = 2;

/// Tries to splice without a wait. The arguments are those of [`do_splice`].
///
/// A result of [`EAGAIN`] is final: `flags`, or `O_NONBLOCK` of a pipe, ask for it.
#[inline]
pub(crate) fn splice(
    input: &LocalFile,
    mut in_offset: Option<&mut Offset>,
    output: &LocalFile,
    mut out_offset: Option<&mut Offset>,
    len: usize,
    flags: SpliceFlags,
    parts: &mut Parts,
) -> Next {
    let flags = flags.no_wait();
    let mut missing = 0;
    let next = attempt(input, output, || {
        do_splice_by::<false>(
            |file, pipe, pos, len, flags| {
                let (bytes, rest) = fill_cached(file, pipe, pos, len, flags)?;
                missing = rest;
                Ok(bytes)
            },
            input,
            in_offset.as_deref_mut(),
            output,
            out_offset.as_deref_mut(),
            len,
            flags,
        )
    });
    match next {
        Next::Complete(Ok(bytes)) if missing > 0 => {
            // CAST: A read has less than 2^31 bytes.
            *parts = Parts {
                moved: bytes as u32,
                rest: missing as u32,
            };
            worker()
        }
        next => complete(next),
    }
}

/// Tries to duplicate without a wait. The arguments are those of [`do_tee_by`].
#[inline]
pub(crate) fn tee(input: &LocalFile, output: &LocalFile, len: usize, flags: SpliceFlags) -> Next {
    let flags = flags.no_wait();
    complete(attempt(input, output, || {
        do_tee_by::<false>(input, output, len, flags)
    }))
}

/// Splices in a worker, which may wait. Returns the number of bytes of all `parts`, or the error of
/// [`do_splice`].
pub(crate) fn splice_in_worker(
    input: &LocalFile,
    in_offset: Option<&mut Offset>,
    output: &LocalFile,
    out_offset: Option<&mut Offset>,
    len: usize,
    flags: SpliceFlags,
    parts: Parts,
) -> Result<usize> {
    if parts.moved == 0 {
        return do_splice(input, in_offset, output, out_offset, len, flags);
    }
    // Do not wait for room: there is something to return. An error comes again with the next
    // request.
    let flags = flags | SpliceFlag::NonBlock;
    let rest = do_splice(
        input,
        in_offset,
        output,
        out_offset,
        parts.rest as usize,
        flags,
    );
    Ok(parts.moved as usize + rest.unwrap_or(0))
}

/// Calls `transfer` until it does not have to wait, or until one end is not ready. The input comes
/// first.
#[inline(always)]
fn attempt(
    input: &LocalFile,
    output: &LocalFile,
    mut transfer: impl FnMut() -> Result<usize>,
) -> Next {
    for _ in 0..MOST_ATTEMPTS {
        match transfer() {
            Err(err) if SpliceFlags::is_would_wait(err) => (),
            Err(err) if err == NEEDS_WORKER => break,
            ret => return Next::Complete(ret),
        }
        if let Some(next) = end_to_poll(input, output) {
            return next;
        }
    }
    worker()
}

/// Returns the end to wait for, or `None` if both are ready.
#[cold]
fn end_to_poll(input: &LocalFile, output: &LocalFile) -> Option<Next> {
    let next = if !is_ready(input, PollEvent::In | PollEvent::InNormal) {
        Next::PollInput
    } else if !is_ready(output, PollEvent::Out | PollEvent::OutNormal) {
        Next::PollOutput
    } else {
        return None;
    };
    Counter::UringPolls.add(1);
    Some(next)
}

#[cold]
fn worker() -> Next {
    Counter::UringWorker.add(1);
    Next::Worker
}

/// Counts a request that is complete.
#[inline(always)]
fn complete(next: Next) -> Next {
    if matches!(next, Next::Complete(_)) {
        Counter::UringInline.add(1);
    }
    next
}
