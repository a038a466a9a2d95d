// SPDX-License-Identifier: GPL-2.0

//! Transfers from a stream that waits in its own way, such as a terminal, a socket that keeps
//! message boundaries, or `trace_pipe`.
//!
//! The stream is read as `read(2)` or splice in C would read it, but with the pipe unlocked: into
//! new pages or into a private pipe, with room reserved in the pipe before. Waiting by `->poll`
//! first would be something else for a terminal with `VMIN` and `VTIME`, for job control, and for
//! a stream whose readers wait exclusively.

#![forbid(unsafe_code)]

use crate::file_to_pipe::{
    bypasses_splice_read,
    count,
    fill_after,
    read,
    read_pages,
    Filled,
    MAX_RW_COUNT, //
};
use kernel::{
    fs::{file::Offset, LocalFile},
    page::{PAGE_SHIFT, PAGE_SIZE},
    pipe::{reserved::ReservedRoom, Filler, Pipe, PipeRing, PrivatePipe},
    prelude::*,
    splice::{interrupted, wait_for_room, PageArray, SpliceFlag, SpliceFlags}, //
};

/// Returns whether `file`, which has no positions, is read here. Drivers in Rust are not: they wait
/// with the pipe unlocked.
#[inline]
pub(crate) fn is_stream(file: &LocalFile) -> bool {
    !file.is_driver_stream()
}

#[cfg(CONFIG_NET)]
use crate::socket_to_pipe::is_socket;

#[cfg(not(CONFIG_NET))]
fn is_socket(_file: &LocalFile) -> bool {
    false
}

/// Waits for room in `pipe`, and reads up to `len` bytes of the stream `file` into it.
///
/// # Errors
///
/// - Those of [`wait_for_room`].
/// - [`EAGAIN`]: another task waits for a stream to fill the pipe, and `flags` have
///   [`SpliceFlag::NonBlock`].
/// - [`ENOMEM`], and those of the file.
pub(crate) fn splice_stream_to_pipe(
    file: &LocalFile,
    pipe: &mut Pipe<'_>,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let is_socket = is_socket(file);
    if is_socket || file.splices_by_copy() || bypasses_splice_read(file) {
        // CAST: A pipe has fewer slots than that.
        let slots = len.min(MAX_RW_COUNT).div_ceil(PAGE_SIZE) as u32;
        // A message that does not fit would be cut, so leave no slot to others.
        let room = ReservedRoom::take(pipe, slots, !is_socket, |ring| wait(ring, flags))?;
        return copy_stream(file, room, pos, len);
    }
    // The file fills a pipe itself, and finds out from that how much room there is.
    let Ok(mut private) = PrivatePipe::take_from_current() else {
        return fill_locked(file, pipe, pos, len, flags);
    };
    let room = ReservedRoom::take(pipe, u32::MAX, false, |ring| wait(ring, flags))?;
    if private.ring().max_usage() < room.slots() {
        // It must not read less than there is room for, so read with the pipe locked.
        drop(room);
        private.keep_for_current();
        return fill_locked(file, pipe, pos, len, flags);
    }
    let ret = link_stream(file, room, &mut private, pos, len, flags);
    private.keep_for_current();
    ret
}

/// Waits until no other task has reserved room in the pipe, and until there is room.
fn wait(ring: &mut PipeRing<'_>, flags: SpliceFlags) -> Result {
    while ring.has_reservation() {
        if flags.contains(SpliceFlag::NonBlock) {
            return Err(EAGAIN);
        }
        if interrupted() {
            return Err(ERESTARTSYS);
        }
        ring.wait_unreserved();
    }
    wait_for_room(ring, flags)
}

/// Reads with the pipe locked, when no other task has reserved room in it: the data of that task
/// was read before.
fn fill_locked(
    file: &LocalFile,
    pipe: &mut Pipe<'_>,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let wait = |ring: &mut PipeRing<'_>| wait(ring, flags);
    // Only a call with `SpliceFlags::no_wait` stops before it waits.
    let (Filled::Done(bytes) | Filled::WouldWait { moved: bytes, .. }) =
        fill_after(wait, file, pipe, pos, len, flags)?;
    Ok(bytes)
}

/// Reads into new pages, and puts these into the pipe.
fn copy_stream(
    file: &LocalFile,
    room: ReservedRoom<'_, '_>,
    pos: &mut Offset,
    len: usize,
) -> Result<usize> {
    let len = len.min((room.slots() as usize) << PAGE_SHIFT);
    let mut array = PageArray::new();
    let (pages, bytes) = read_pages(&mut array, file, pos, len)?;
    let (buffers, _) = room.fill(|filler| pages.put_into_filler(filler));
    count(bytes, buffers);
    Ok(bytes)
}

/// Reads into the empty pipe `private`, and moves the buffers from there.
fn link_stream(
    file: &LocalFile,
    room: ReservedRoom<'_, '_>,
    private: &mut PrivatePipe,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let bytes = private.with_limit(room.slots(), |ring| read(file, pos, ring, len, flags))?;
    let (buffers, _) = room.fill(|filler| move_buffers(&mut private.ring(), filler));
    count(bytes, buffers);
    Ok(bytes)
}

/// Moves all buffers of `ring`, which has no more of them than there is room.
fn move_buffers(ring: &mut PipeRing<'_>, filler: &mut Filler<'_>) {
    while let Some(buf) = ring.pop_front() {
        if filler.push(buf).is_err() {
            break;
        }
    }
}
