// SPDX-License-Identifier: GPL-2.0

//! Transfers from a pipe to a file.

#![forbid(unsafe_code)]

use crate::{
    pipe_to_pipe::wait_for_input,
    pipe_to_terminal::{is_terminal, write_all},
    write_some::write_some,
};
use core::mem::MaybeUninit;
use kernel::{
    fs::{file::Offset, LocalFile},
    page::PAGE_SIZE,
    pipe::{Pipe, PipeRing, PrivatePipe, DEFAULT_BUFFERS},
    prelude::*,
    splice::{
        check, policy, wait_for_data, BioVec, Counter, FreshPages, PageArray, Pieces, Progress,
        SpliceFlag, SpliceFlags,
    },
};

/// Moves up to `len` bytes from `pipe` to `file`. Waits for data in the pipe without freeze
/// protection, and without the locks that the file system takes for a write.
///
/// The caller has verified the range (`rw_verify_area`). Returns the errors of [`write`], and
/// [`ERESTARTSYS`] if a signal is pending during the wait.
#[inline(always)]
pub(crate) fn splice_pipe_to_file(
    pipe: &mut Pipe<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    // A file that is not a regular one has no freeze protection, and waits on its own. Do not look
    // at the pipe first: as in C, an error of the file comes before the wait.
    let first_flags = if file.is_regular() {
        flags | SpliceFlag::NonBlock
    } else {
        flags
    };
    match start_and_write(pipe, file, pos, len, first_flags) {
        Err(err) if err == EAGAIN && first_flags != flags => {
            wait_and_write(pipe, file, pos, len, flags)
        }
        ret => ret,
    }
}

/// How often in a row a file may return [`EAGAIN`] while the pipe has data: either other tasks take
/// the data each time, or it is an error of the file.
const MOST_REFUSED: u32 = 4;

/// Waits for data and writes it, after a first attempt returned [`EAGAIN`].
#[cold]
fn wait_and_write(
    pipe: &mut Pipe<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let mut refused = 0;
    loop {
        if pipe.seems_empty() {
            wait_for_input(pipe, flags)?;
            refused = 0;
        } else if refused == MOST_REFUSED {
            return start_and_write(pipe, file, pos, len, flags);
        } else {
            refused += 1;
        }
        match start_and_write(pipe, file, pos, len, flags | SpliceFlag::NonBlock) {
            Err(err) if err == EAGAIN => (),
            ret => return ret,
        }
    }
}

/// Takes freeze protection for one call of [`write`].
#[inline]
pub(crate) fn start_and_write(
    pipe: &mut Pipe<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let mut guard = file.start_write(pipe);
    write(guard.pipe(), file, pos, len, flags)
}

/// Calls the file's `->splice_write`. Returns [`EINVAL`] if it has none. C: `do_splice_from`.
///
/// A `->splice_write` that locks the pipe itself gets the data in a private pipe if it may not have
/// references to pages that others can see.
#[inline(always)]
pub(crate) fn write(
    pipe: &mut Pipe<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    if let Some(reason) = policy::must_copy(|| file.is_audited()) {
        if needs_private_pipe(file) {
            return write_from_copy(pipe, file, pos, len, flags, reason);
        }
    }
    if check::is_on() && !file.splice_write_asks() {
        check::watch_ring(&mut pipe.lock().ring(), file.splice_write_function());
    }
    file.call_splice_write(pipe, pos, len, flags)
}

/// Returns whether a file that may not have references gets the data in a private pipe, because its
/// `->splice_write` does not ask for the policy.
#[cold]
fn needs_private_pipe(file: &LocalFile) -> bool {
    // An audited file system passes the pipe on to `iter_file_splice_write`, or to another file by
    // `splice_write_file`. Both ask, with the locks of the file system held.
    !file.splice_write_asks() && !(file.is_audited() && file.is_regular())
}

/// Copies the data of `pipe` to a private pipe, and calls the file's `->splice_write` with that
/// one. As often as needed.
///
/// The private pipe has room for all data that is in the pipe, because some files need a message in
/// one call, such as `/dev/fuse`. All that the file takes out of it leaves `pipe`, even if the file
/// returns an error.
///
/// Returns [`ENOMEM`] and the errors of [`wait_for_data`] and of the file if nothing was written.
/// Bytes that the file did not take stay in the pipe.
#[cold]
#[inline(never)]
fn write_from_copy(
    pipe: &mut Pipe<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
    reason: policy::Reason,
) -> Result<usize> {
    let mut copy = PrivatePipe::new()?;
    let mut vecs = KVec::<BioVec>::new();
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
        if let Err(err) = vecs.reserve(ring.max_usage() as usize, GFP_KERNEL) {
            break Err(err.into());
        }
        let mut pieces = Pieces::new(vecs.spare_capacity_mut());
        let wanted = len - progress.bytes;
        match pieces.gather(&mut ring, wanted) {
            Ok(_) => (),
            Err(err) if err == ENODATA => break Ok(0),
            Err(err) => break Err(err),
        }
        let bytes = match copy_all(&pieces, &mut copy) {
            Ok(bytes) => bytes,
            Err(err) => break Err(err),
        };
        // The pipe stays locked, so that no other reader takes the bytes that are being written.
        let written = file.call_splice_write(&mut copy.handle(), pos, wanted, flags);
        let left: usize = copy.ring().iter().map(|buf| buf.len()).sum();
        copy.ring().clear();
        let taken = bytes.saturating_sub(left);
        policy::copied(
            policy::Kind::File,
            reason,
            file.splice_write_function(),
            taken,
        );
        progress.discard(&mut ring, taken);
        match written {
            Ok(written) => {
                progress.bytes += written.min(bytes);
                if written < bytes {
                    break Ok(0);
                }
            }
            Err(err) => break Err(err),
        }
    };
    progress.wake(&mut ring);
    progress.result(ret)
}

/// Puts copies of all `pieces` into `copy`, which is empty. Returns the number of bytes, or
/// [`ENOMEM`].
fn copy_all(pieces: &Pieces<'_>, copy: &mut PrivatePipe) -> Result<usize> {
    let pages = pieces.bytes().div_ceil(PAGE_SIZE);
    copy.enlarge(pages.try_into().map_err(|_| ENOMEM)?)?;
    policy::copy_to_ring(pieces, &mut copy.ring())
}

/// Writes up to `len` bytes from the pipe with the file's `->write_iter`: one call for all buffers
/// that are in the pipe, then the next call when there are more.
///
/// Returns [`EINVAL`] if the file has no `->write_iter`, and [`ENOMEM`] and the errors of
/// [`wait_for_data`] and of the file if nothing was written. Bytes that were not written stay in
/// the pipe. C: `iter_file_splice_write`.
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
    // Allocate before the pipe is locked, because an allocation may sleep, and would hold up other
    // users of the pipe. The array is not on the stack, because `->write_iter` of several file
    // systems may nest on it, such as overlayfs on another one.
    let mut vecs = KVec::<BioVec>::new();
    // While another task waits to fill the pipe, the number of slots can be as small as 0.
    let slots = (pipe.max_usage_unlocked() as usize).max(DEFAULT_BUFFERS);
    vecs.reserve(slots, GFP_KERNEL)?;
    let mut progress = Progress::default();
    if is_terminal(file) && policy::must_copy(|| file.is_audited()).is_none() {
        let vecs = vecs.spare_capacity_mut();
        let ret = write_all(pipe, file, pos, len, flags, vecs, &mut progress);
        Counter::PipeToFileCopied.add(progress.bytes);
        return progress.result(ret.map(|()| 0));
    }
    let mut guard = pipe.lock();
    let mut ring = guard.ring();
    let mut copies = false;
    let ret = loop {
        if progress.bytes == len {
            break Ok(0);
        }
        match wait_for_data(&mut ring, flags, &mut progress) {
            Ok(true) => (),
            Ok(false) => break Ok(0),
            Err(err) => break Err(err),
        }
        // `F_SETPIPE_SZ` may have enlarged the pipe before it was locked or during the wait. Then
        // the array could be too short for all buffers.
        if let Err(err) = vecs.reserve(ring.max_usage() as usize, GFP_KERNEL) {
            break Err(err.into());
        }
        let vecs = vecs.spare_capacity_mut();
        let reason = policy::must_copy(|| file.is_audited());
        // The pipe stays locked during the write, so that no other reader takes the bytes that are
        // being written. A slow file therefore blocks all users of the pipe, as in C.
        let some = match reason {
            None => write_some::<false>(&mut ring, file, pos, len, vecs, &mut progress),
            Some(reason) => {
                copies = true;
                write_copy(&mut ring, file, pos, len, vecs, &mut progress, reason)
            }
        };
        match some {
            Ok(true) => (),
            Ok(false) => break Ok(0),
            Err(err) => break Err(err),
        }
    };
    progress.wake(&mut ring);
    // Bytes that were written have left the pipe, so the caller must learn their number. If an
    // error followed them, the next call gets it.
    let ret = progress.result(ret);
    drop(guard);

    let bytes = if file.bypasses_page_cache() && !copies {
        Counter::PipeToFileReferenced
    } else {
        Counter::PipeToFileCopied
    };
    bytes.add(progress.bytes);
    ret
}

/// Does the same as [`write_some`] for a file that may not have references to pages that others can
/// see. Returns [`ENOMEM`] if there are no pages for the copies.
#[cold]
#[inline(never)]
fn write_copy<'a>(
    ring: &'a mut PipeRing<'_>,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
    vecs: &'a mut [MaybeUninit<BioVec>],
    progress: &mut Progress,
    reason: policy::Reason,
) -> Result<bool> {
    let mut pieces = Pieces::new(vecs);
    let mut private = false;
    match pieces.gather_to_copy::<false>(ring, len - progress.bytes, &mut private) {
        Ok(_) => (),
        Err(err) if err == ENODATA => return Ok(false),
        Err(err) => return Err(err),
    }
    let written = if private {
        file.call_write_iter(pos, pieces.source().as_iter())?
    } else {
        // One call of `->write_iter` for all buffers, so that the boundaries of messages do not
        // change, and small buffers share a page.
        let mut array = PageArray::new();
        let mut copy = FreshPages::alloc_all(&mut array, pieces.bytes().div_ceil(PAGE_SIZE))?;
        copy.copy_from(pieces.source().as_iter());
        let written = file.call_write_iter(pos, copy.pieces().source().as_iter())?;
        policy::copied(
            policy::Kind::File,
            reason,
            file.write_iter_function(),
            written,
        );
        written
    };
    if written == 0 {
        return Ok(false);
    }
    progress.consume(ring, written);
    Ok(true)
}
