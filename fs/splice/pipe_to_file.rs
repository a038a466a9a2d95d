// SPDX-License-Identifier: GPL-2.0

//! From a pipe to a file.

#![forbid(unsafe_code)]

use core::mem::MaybeUninit;
use kernel::{
    bvec::{BioVec, Pieces},
    fs::{file::Offset, LocalFile},
    pipe::{Pipe, PipeRing},
    prelude::*,
    splice::{counters::Counter, wait_for_data, Progress, SpliceFlags},
};

/// Calls the file's way of taking data from a pipe. C: `do_splice_from`.
#[inline]
pub(crate) fn write(
    pipe: Pipe<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    file.call_splice_write(pipe, pos, len, flags)
}

/// Writes what is in the pipe by the file's `->write_iter`, all buffers in one call.
///
/// Fails with [`EINVAL`] where the file has none, with [`ENOMEM`], and as [`wait_for_data`] and
/// the file do. Data that was not written stays in the pipe. C: `iter_file_splice_write`.
pub(crate) fn iter_file_splice_write(
    pipe: &mut Pipe<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    if !file.has_write_iter() {
        return Err(EINVAL);
    }
    // Before the pipe is locked: an allocation may wait. Not on the stack, on which file systems
    // nest.
    let mut vecs = KVec::<BioVec>::new();
    vecs.reserve(pipe.max_usage_unlocked() as usize, GFP_KERNEL)?;
    let mut guard = pipe.lock();
    let mut ring = guard.ring();
    let mut progress = Progress::default();
    let ret = loop {
        if progress.bytes == len {
            break Ok(0);
        }
        match wait_for_data(&mut ring, flags, &mut progress) {
            Ok(true) => (),
            Ok(false) => break Ok(0),
            Err(err) => break Err(err),
        }
        // The pipe may have been enlarged, before it was locked or while waiting.
        if let Err(err) = vecs.reserve(ring.max_usage() as usize, GFP_KERNEL) {
            break Err(err.into());
        }
        let vecs = vecs.spare_capacity_mut();
        match write_some(&mut ring, file, pos, len, vecs, &mut progress) {
            Ok(true) => (),
            Ok(false) => break Ok(0),
            Err(err) => break Err(err),
        }
    };
    progress.wake(&mut ring);
    let ret = progress.result(ret);
    drop(guard);

    let bytes = if file.bypasses_page_cache() {
        Counter::PipeToFileReferenced
    } else {
        Counter::PipeToFileCopied
    };
    bytes.add(progress.bytes);
    ret
}

/// Writes what is in the pipe, as far as there are `vecs` for it. `true`: go on.
#[inline]
fn write_some<'a>(
    ring: &'a mut PipeRing<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    vecs: &'a mut [MaybeUninit<BioVec>],
    progress: &mut Progress,
) -> Result<bool> {
    let mut pieces = Pieces::new(vecs);
    match pieces.gather(ring, len - progress.bytes) {
        Ok(_) => (),
        // What was gathered so far is left in the pipe, for the next call.
        Err(err) if err == ENODATA => return Ok(false),
        Err(err) => return Err(err),
    }
    let written = file.call_write_iter(pos, pieces.source().as_iter())?;
    if written == 0 {
        return Ok(false);
    }
    progress.consume(ring, written);
    Ok(true)
}
