// SPDX-License-Identifier: GPL-2.0

//! Puts buffers that C code made into a pipe.

#![forbid(unsafe_code)]

use kernel::{
    pipe::{PipeBuffer, PipeRing},
    prelude::*,
    splice::broken_pipe,
};

/// Takes as many of `bufs` as `ring` has room for, puts them in, and returns the number of bytes.
/// The others stay in `bufs`.
///
/// Returns [`EPIPE`], and sends `SIGPIPE`, if the pipe has no readers, and [`EAGAIN`] if no byte
/// was put in. Without any buffers it returns 0, even if the pipe has no readers. C:
/// `splice_to_pipe`.
pub(crate) fn splice_to_pipe(
    ring: &mut PipeRing<'_>,
    bufs: &mut impl ExactSizeIterator<Item = PipeBuffer>,
) -> Result<usize> {
    // As in C, a source without data raises no `SIGPIPE`: the caller reports the end of the data.
    if bufs.len() == 0 {
        return Ok(0);
    }
    if !ring.has_readers() {
        return Err(broken_pipe());
    }
    let (_, bytes) = ring.append(bufs);
    // The caller would take 0 for the end of the data. The pipe is full, or all buffers were empty.
    if bytes == 0 {
        return Err(EAGAIN);
    }
    Ok(bytes)
}

/// Puts `buf` into `ring` and returns its length. On failure it drops `buf`, as C callers expect.
///
/// Returns [`EPIPE`], and sends `SIGPIPE`, if the pipe has no readers, and [`EAGAIN`] if it has no
/// room. C: `add_to_pipe`.
#[inline]
pub(crate) fn add_to_pipe(ring: &mut PipeRing<'_>, buf: PipeBuffer) -> Result<usize> {
    if !ring.has_readers() {
        return Err(broken_pipe());
    }
    let bytes = buf.len();
    // Does not wait for room, which would unlock the pipe: FUSE puts in the parts of a request by
    // several calls, and no other data may come between them.
    ring.vacancy().ok_or(EAGAIN)?.fill(buf);
    Ok(bytes)
}
