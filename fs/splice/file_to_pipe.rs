// SPDX-License-Identifier: GPL-2.0

//! Transfers from a file to a pipe.

#![forbid(unsafe_code)]

use kernel::{
    fs::{file::Offset, LocalFile},
    page::{PAGE_SHIFT, PAGE_SIZE},
    pipe::{BufferRef, Indices, Pipe, PipeRing},
    prelude::*,
    splice::{
        policy,
        room_in_bytes,
        wait_for_room,
        Counter,
        FreshPages,
        PageArray,
        SpliceFlags, //
    },
};

/// The largest number of bytes that one read or write moves: `INT_MAX`, rounded down to whole
/// pages. C: `MAX_RW_COUNT`.
pub(crate) const MAX_RW_COUNT: usize = i32::MAX as usize & !(PAGE_SIZE - 1);

/// Waits for room in `pipe`, reads up to `len` bytes once, with the pipe locked, and wakes the
/// readers of the pipe. Returns the errors of [`wait_for_room`] and [`read`].
#[inline(always)]
pub(crate) fn fill_once(
    file: &LocalFile,
    pipe: &mut Pipe<'_>,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    // Only a call with `SpliceFlags::no_wait` stops before it waits.
    let (Filled::Done(bytes) | Filled::WouldWait { moved: bytes, .. }) =
        fill(file, pipe, pos, len, flags, flags)?;
    Ok(bytes)
}

/// Does what [`fill_once`] does for a regular file, but without a wait: reads what is in the page
/// cache. The file [can do that](LocalFile::reads_without_wait).
///
/// Returns the number of bytes, and how many more [`fill_once`] would have read. Returns
/// [`SpliceFlags::WOULD_WAIT`] if another task has locked the pipe, if the pipe is full, or if the
/// page cache has nothing to read. Other errors are those of [`fill_once`].
pub(crate) fn fill_cached(
    file: &LocalFile,
    pipe: &mut Pipe<'_>,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<(usize, usize)> {
    let flags = flags.no_wait();
    let mut guard = pipe.try_lock().ok_or(SpliceFlags::WOULD_WAIT)?;
    let mut ring = guard.ring();
    wait_for_room(&mut ring, flags)?;
    let head = ring.indices().head();
    let wanted = len.min(room_in_bytes(&ring)).min(MAX_RW_COUNT);
    let bytes = match read(file, pos, &mut ring, wanted, flags) {
        // With the flag this is no error of the file.
        Err(err) if err == EAGAIN => return Err(SpliceFlags::WOULD_WAIT),
        ret => ret?,
    };
    let linked = ring.indices().head().wrapping_sub(head);
    let rest = if bytes == wanted || ring.is_full() || *pos >= file.size() {
        0
    } else {
        wanted - bytes
    };
    // Unlock first, as in `fill`.
    drop(guard);
    count(bytes, linked as usize);
    if bytes > 0 {
        pipe.wake_readers();
    }
    Ok((bytes, rest))
}

/// The result of one read into a pipe.
pub(crate) enum Filled {
    /// So many bytes are in the pipe, and the transfer is complete.
    Done(usize),
    /// The socket would have waited for more. `moved` of the `wanted` bytes that the pipe had room
    /// for are in the pipe.
    WouldWait { moved: usize, wanted: usize },
}

/// Waits for room in `pipe`, reads up to `len` bytes once, and wakes the readers of the pipe.
///
/// `flags` are for the wait for room, `read_flags` for the file. Only if these have
/// [`SpliceFlags::no_wait`], the result can be [`Filled::WouldWait`]. Returns the errors of
/// [`wait_for_room`] and [`read`].
#[inline(always)]
pub(crate) fn fill(
    file: &LocalFile,
    pipe: &mut Pipe<'_>,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
    read_flags: SpliceFlags,
) -> Result<Filled> {
    let wait = |ring: &mut PipeRing<'_>| wait_for_room(ring, flags);
    fill_after(wait, file, pipe, pos, len, read_flags)
}

/// Does the same as [`fill`], but waits for room by `wait`, which is called with the pipe locked,
/// and unlocks it while it sleeps.
#[inline(always)]
pub(crate) fn fill_after(
    wait: impl FnOnce(&mut PipeRing<'_>) -> Result,
    file: &LocalFile,
    pipe: &mut Pipe<'_>,
    pos: &mut Offset,
    len: usize,
    read_flags: SpliceFlags,
) -> Result<Filled> {
    let mut guard = pipe.lock();
    let mut ring = guard.ring();
    // Wait for room before the read, and not during it: a stream, such as a socket, cannot take
    // back data that was read from it.
    wait(&mut ring)?;
    let before = ring.indices();
    let filled = match read(file, pos, &mut ring, len, read_flags) {
        Ok(bytes) => Filled::Done(bytes),
        Err(err) if SpliceFlags::is_would_wait(err) => would_wait(&mut ring, before, len),
        Err(err) => return Err(err),
    };
    // A driver may have unlocked the pipe to wait. Meanwhile others can add and remove buffers, or
    // resize the ring, which changes its head. So the difference is an estimate. It is limited to
    // the occupancy.
    let indices = ring.indices();
    let linked = indices.head().wrapping_sub(before.head());
    let linked = linked.min(indices.occupancy());
    // Unlock first: a reader that is woken before would block on the mutex right away.
    drop(guard);
    let (Filled::Done(bytes) | Filled::WouldWait { moved: bytes, .. }) = filled;
    count(bytes, linked as usize);
    if bytes > 0 {
        pipe.wake_readers();
    }
    Ok(filled)
}

/// Returns the result of a read of `len` bytes that would have waited. The pipe was locked all the
/// time since its indices were `before`.
#[cold]
fn would_wait(ring: &mut PipeRing<'_>, before: Indices, len: usize) -> Filled {
    let room = (before.space(ring.max_usage()) as usize) << PAGE_SHIFT;
    // Such a socket does not return how much it put into the pipe, so look at the new buffers.
    let mut slots = 0;
    let is_new = |buf: &BufferRef<'_>| {
        let first = slots;
        slots += buf.slots();
        first >= before.occupancy()
    };
    Filled::WouldWait {
        moved: ring.iter().filter(is_new).map(|buf| buf.len()).sum(),
        wanted: len.min(room).min(MAX_RW_COUNT),
    }
}

/// Counts the bytes and the buffers of a read that a system call asked for.
///
/// A read that a file system makes from another file, as overlayfs does, goes through
/// [`vfs_splice_read`] and is a part of such a read, so it is not counted a second time.
#[inline]
pub(crate) fn count(bytes: usize, linked: usize) {
    Counter::BuffersLinked.add(linked);
    Counter::FileToPipe.add(bytes);
}

/// Reads up to `len` bytes into `ring`, limited by its room and by [`MAX_RW_COUNT`]. The caller has
/// verified the range (`rw_verify_area`). C: `do_splice_read`.
///
/// Returns [`EBADF`] if `file` is not open for reading, [`EINVAL`] if it has no `->splice_read`,
/// and the errors of the file.
#[inline(always)]
pub(crate) fn read(
    file: &LocalFile,
    pos: &mut Offset,
    ring: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    // `copy_splice_read` fails if there is no page to allocate.
    if len == 0 {
        return if file.is_readable() {
            Ok(0)
        } else {
            Err(EBADF)
        };
    }
    // Read no more than fits: a stream would lose what cannot be put into the pipe. The second
    // limit keeps the result in an int, in which many files count.
    let len = len.min(room_in_bytes(ring)).min(MAX_RW_COUNT);

    // With `O_DIRECT` and DAX there is no page cache to refer to, so read into new pages. This is
    // no fallback for files without `->splice_read`: they do not support splice, as in C.
    if bypasses_splice_read(file) {
        return copy_splice_read(file, pos, ring, len);
    }
    if policy::copies_all() {
        return read_copy(file, pos, ring, len, flags);
    }
    file.call_splice_read(pos, ring, len, flags)
}

/// Calls the file's `->splice_read`, and replaces what it puts into `ring` by copies, if it is page
/// cache.
#[cold]
#[inline(never)]
fn read_copy(
    file: &LocalFile,
    pos: &mut Offset,
    ring: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let before = ring.indices();
    let ret = file.call_splice_read(pos, ring, len, flags);
    // A driver may have unlocked the pipe, see `fill`. Its pages are not page cache.
    let slots = ring.indices().head().wrapping_sub(before.head());
    let slots = slots.min(ring.indices().occupancy());
    let bytes = policy::copy_page_cache(ring, slots, file.splice_read_function());
    Counter::FileToPipeCopied.add(bytes);
    ret
}

/// Returns whether a file with `->splice_read` is read into new pages instead.
#[inline]
pub(crate) fn bypasses_splice_read(file: &LocalFile) -> bool {
    file.has_splice_read() && file.bypasses_page_cache()
}

/// Verifies the range (`rw_verify_area`), then calls [`read`]. C: `vfs_splice_read`.
pub(crate) fn vfs_splice_read(
    file: &LocalFile,
    pos: &mut Offset,
    ring: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    // The callers are file systems that read from another file. The system call has verified the
    // range of the outer file only.
    file.verify_read(pos, len)?;
    read(file, pos, ring, len, flags)
}

/// Reads into new pages with the file's `->read_iter`, and puts these pages into `ring`.
///
/// Returns [`ENOMEM`] if no page can be allocated or the ring is full, and the errors of the file,
/// but [`EAGAIN`] instead of [`EFAULT`]: the destination is kernel memory, so the caller did not
/// pass a bad address. The file could not store anything. C: `copy_splice_read`.
pub(crate) fn copy_splice_read(
    file: &LocalFile,
    pos: &mut Offset,
    ring: &mut PipeRing<'_>,
    len: usize,
) -> Result<usize> {
    // File systems call this as well, for example ceph and 9p, with a length that need not fit.
    let len = len.min(room_in_bytes(ring));
    // The pipe is locked, so an allocation holds up its other users. Up to eight pages need none
    // for their list; a larger array would be too much for the stack, on which file systems nest.
    let mut array = PageArray::new();
    let (pages, bytes) = read_pages(&mut array, file, pos, len)?;
    // Only bytes that the file reports go into the pipe: the pages are not zeroed.
    pages.put_into(ring);
    Ok(bytes)
}

/// Reads up to `len` bytes into new pages with the file's `->read_iter`, and returns these pages
/// and the number of bytes. Errors are those of [`copy_splice_read`].
#[inline(always)]
pub(crate) fn read_pages<'a>(
    array: &'a mut PageArray,
    file: &LocalFile,
    pos: &mut Offset,
    len: usize,
) -> Result<(FreshPages<'a>, usize)> {
    let mut pages = FreshPages::alloc(array, len.div_ceil(PAGE_SIZE))?;
    let bytes =
        pages
            .read_file(file, pos, len)
            .map_err(|err| if err == EFAULT { EAGAIN } else { err })?;
    if file.is_direct() {
        // The device has written to the pages that are now in the pipe: no CPU copied the data.
        Counter::FileToPipeDirect.add(bytes);
    } else {
        Counter::FileToPipeCopied.add(bytes);
    }
    Ok((pages, bytes))
}
