// SPDX-License-Identifier: GPL-2.0

//! Transfers from a pipe to a terminal, or to another file whose `->write_iter` heeds
//! `IOCB_NOWAIT`.

#![forbid(unsafe_code)]

use crate::write_some::write_some;
use core::mem::MaybeUninit;
use kernel::{
    fs::{
        file::{flags::O_NONBLOCK, Offset},
        LocalFile, //
    },
    pipe::{Pipe, PipeRing},
    prelude::*,
    splice::{
        wait_for_data, wait_for_file, BioVec, Deadline, Progress, SpliceFlags, Tries, Waited,
    },
    sync::poll::PollEvent,
};

/// Returns whether a transfer to `file` can wait for room here.
#[inline]
pub(crate) fn is_terminal(file: &LocalFile) -> bool {
    file.writes_without_wait() && !file.has_flags(O_NONBLOCK)
}

/// Writes up to `len` bytes from the pipe, and waits for room in the file with the pipe unlocked.
///
/// `vecs` has an element for each slot of the pipe. Adds the bytes that were written to `progress`.
///
/// # Errors
///
/// - [`ERESTARTSYS`]: a signal is pending.
/// - Those of [`wait_for_data`] and of the file.
#[cold]
pub(crate) fn write_all(
    pipe: &mut Pipe<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
    vecs: &mut [MaybeUninit<BioVec>],
    progress: &mut Progress,
) -> Result {
    let events = PollEvent::Out | PollEvent::OutNormal;
    let ends = events | PollEvent::Error | PollEvent::HangUp;
    let mut tries = Tries::default();
    let mut is_blocking = false;
    loop {
        let before = progress.bytes;
        let mut guard = pipe.lock();
        let mut ring = guard.ring();
        let ret = if is_blocking {
            write_available::<false>(&mut ring, file, pos, len, flags, vecs, progress)
        } else {
            write_available::<true>(&mut ring, file, pos, len, flags, vecs, progress)
        };
        progress.wake(&mut ring);
        drop(guard);
        if !ret? {
            return Ok(());
        }
        if progress.bytes != before {
            tries = Tries::default();
        }
        if is_blocking {
            // One write has waited with the pipe locked. Try without that again.
            is_blocking = false;
            continue;
        }
        let is_ready = |ready: kernel::sync::poll::PollEvents| ready.contains_any(ends);
        match wait_for_file(file, pipe, events, Deadline::NEVER, is_ready) {
            Waited::Interrupted => return Err(ERESTARTSYS),
            waited => is_blocking = tries.are_futile(waited),
        }
    }
}

/// Writes until the transfer ends or the file has no room. Returns `true` in the second case. A
/// write that may block, without `NOWAIT`, is a single one, after which the transfer goes on.
fn write_available<const NOWAIT: bool>(
    ring: &mut PipeRing<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
    vecs: &mut [MaybeUninit<BioVec>],
    progress: &mut Progress,
) -> Result<bool> {
    while progress.bytes != len && wait_for_data(ring, flags, progress)? {
        match write_some::<NOWAIT>(ring, file, pos, len, vecs, progress) {
            Ok(true) if !NOWAIT => return Ok(true),
            Ok(true) => (),
            Ok(false) => break,
            Err(err) if NOWAIT && err == EAGAIN => return Ok(true),
            Err(err) => return Err(err),
        }
    }
    Ok(false)
}
