// SPDX-License-Identifier: GPL-2.0

//! Putting buffers that C made into a pipe.

#![forbid(unsafe_code)]

use kernel::{
    pipe::{PipeBuffer, PipeRing},
    prelude::*,
    splice::broken_pipe,
};

/// Puts in as many of `bufs` as there is room for; says how many bytes. The rest is dropped.
///
/// Fails with [`EPIPE`], and `SIGPIPE`, where nobody has the read end open, and with [`EAGAIN`]
/// where there is no room at all. C: `splice_to_pipe`.
pub(crate) fn splice_to_pipe(
    ring: &mut PipeRing<'_>,
    bufs: &mut impl ExactSizeIterator<Item = PipeBuffer>,
) -> Result<usize> {
    if bufs.len() == 0 {
        return Ok(0);
    }
    if !ring.has_readers() {
        return Err(broken_pipe());
    }
    let (_, bytes) = ring.append(bufs);
    if bytes == 0 {
        return Err(EAGAIN);
    }
    Ok(bytes)
}

/// Puts `buf` in; says how many bytes that were. Where it fails, `buf` is dropped.
///
/// Fails as [`splice_to_pipe`] does. C: `add_to_pipe`.
#[inline]
pub(crate) fn add_to_pipe(ring: &mut PipeRing<'_>, buf: PipeBuffer) -> Result<usize> {
    if !ring.has_readers() {
        return Err(broken_pipe());
    }
    let bytes = buf.len();
    ring.vacancy().ok_or(EAGAIN)?.fill(buf);
    Ok(bytes)
}
