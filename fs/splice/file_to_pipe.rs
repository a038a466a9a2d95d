// SPDX-License-Identifier: GPL-2.0

//! From a file to a pipe.

#![forbid(unsafe_code)]

use kernel::{
    bvec::{FreshPages, PageArray},
    fs::{file::Offset, LocalFile},
    page::PAGE_SIZE,
    pipe::{Pipe, PipeBuffer, PipeRing},
    prelude::*,
    splice::{counters::Counter, room_in_bytes, wait_for_room, SpliceFlags},
};

/// The most that one read or write moves. C: `MAX_RW_COUNT`.
pub(crate) const MAX_RW_COUNT: usize = i32::MAX as usize & !(PAGE_SIZE - 1);

/// Reads up to `len` bytes into `ring`, waiting for room first. C: `splice_file_to_pipe`.
pub(crate) fn splice_file_to_pipe(
    file: &LocalFile,
    pipe: &mut Pipe<'_>,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let mut guard = pipe.lock();
    let mut ring = guard.ring();
    wait_for_room(&mut ring, flags)?;
    let before = ring.indices().head();
    let bytes = read(file, pos, &mut ring, len, flags)?;
    // While a driver waited others may have put buffers in, or had the ring made anew.
    let indices = ring.indices();
    let linked = indices.head().wrapping_sub(before).min(indices.occupancy());
    drop(guard);
    count(bytes, linked as usize);
    if bytes > 0 {
        pipe.wake_readers();
    }
    Ok(bytes)
}

/// Counts what was read for a transfer that a user asked for. Reads that a file makes from another
/// for its own sake, as those of overlayfs, are a part of such a one.
#[inline]
pub(crate) fn count(bytes: usize, linked: usize) {
    Counter::BuffersLinked.add(linked);
    Counter::FileToPipe.add(bytes);
}

/// Reads up to `len` bytes into `ring`, as many as there is room for. The caller has made sure
/// that the range may be read. C: `do_splice_read`.
#[inline(always)]
pub(crate) fn read(
    file: &LocalFile,
    pos: &mut Offset,
    ring: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    if len == 0 {
        return if file.is_readable() {
            Ok(0)
        } else {
            Err(EBADF)
        };
    }
    let len = len.min(room_in_bytes(ring)).min(MAX_RW_COUNT);

    // Where there are no pages to refer to, the data is read into new ones. A file without
    // `->splice_read` does not get that either.
    if file.has_splice_read() && file.bypasses_page_cache() {
        return copy_splice_read(file, pos, ring, len);
    }
    file.call_splice_read(pos, ring, len, flags)
}

/// Checks the range, and reads. C: `vfs_splice_read`.
pub(crate) fn vfs_splice_read(
    file: &LocalFile,
    pos: &mut Offset,
    ring: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    file.verify_read(pos, len)?;
    read(file, pos, ring, len, flags)
}

/// Reads into new pages, by the file's `->read_iter`, and puts those into `ring`.
///
/// Fails with [`ENOMEM`] where there are no pages, and with [`EAGAIN`] where the file says
/// [`EFAULT`]: the pages are good, so this can only mean that nothing could be put there.
/// C: `copy_splice_read`.
pub(crate) fn copy_splice_read(
    file: &LocalFile,
    pos: &mut Offset,
    ring: &mut PipeRing<'_>,
    len: usize,
) -> Result<usize> {
    let len = len.min(room_in_bytes(ring));
    let mut array = PageArray::new();
    let mut pages = FreshPages::alloc(&mut array, len.div_ceil(PAGE_SIZE))?;

    let bytes = file
        .call_read_iter(pos, pages.dest(len).as_iter())
        .map_err(|err| if err == EFAULT { EAGAIN } else { err })?;

    pages.truncate(bytes.div_ceil(PAGE_SIZE));
    let mut left = bytes;
    while let (Some(page), Some(vacancy)) = (pages.pop_front(), ring.vacancy()) {
        let chunk = left.min(PAGE_SIZE);
        // CAST: Not more than PAGE_SIZE.
        vacancy.fill(PipeBuffer::from_page(page, 0, chunk as u32)?);
        left -= chunk;
    }
    if file.is_direct() {
        // The device reads into the very pages that go on.
        Counter::FileToPipeDirect.add(bytes);
    } else {
        Counter::FileToPipeCopied.add(bytes);
    }
    Ok(bytes)
}
