// SPDX-License-Identifier: GPL-2.0

//! One write of a transfer from a pipe to a file.

#![forbid(unsafe_code)]

use core::mem::MaybeUninit;
use kernel::{
    fs::{file::Offset, LocalFile},
    pipe::PipeRing,
    prelude::*,
    splice::{check, BioVec, Pieces, Progress},
};

/// Writes the buffers that are in the pipe now, at most one for each of `vecs`. Returns `true` if
/// the transfer can continue. With `NOWAIT` the file does not wait for room, and returns [`EAGAIN`]
/// if it has none.
#[inline(always)]
pub(crate) fn write_some<'a, const NOWAIT: bool>(
    ring: &'a mut PipeRing<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    vecs: &'a mut [MaybeUninit<BioVec>],
    progress: &mut Progress,
) -> Result<bool> {
    let mut pieces = Pieces::new(vecs);
    // One call of `->write_iter` for all buffers: each call takes the inode lock, and may start a
    // transaction of the file system.
    match pieces.gather(ring, len - progress.bytes) {
        Ok(_) => (),
        // The page of a buffer was truncated. As in C, the buffers in front of it are not written
        // either, and stay in the pipe.
        Err(err) if err == ENODATA => return Ok(false),
        Err(err) => return Err(err),
    }
    if check::is_on() {
        check::watch_pieces(&pieces, file.write_iter_function());
    }
    let mut source = pieces.source();
    let written = if NOWAIT {
        file.call_write_iter_nowait(pos, source.as_iter())?
    } else {
        file.call_write_iter(pos, source.as_iter())?
    };
    // A file that takes nothing and reports no error would be called for ever.
    if written == 0 {
        return Ok(false);
    }
    // Only now, so that bytes that the file did not take stay in the pipe.
    progress.consume(ring, written);
    Ok(true)
}
