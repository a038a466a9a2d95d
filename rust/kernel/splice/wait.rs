// SPDX-License-Identifier: GPL-2.0

//! Waiting for data and for room in a pipe.
//!
//! The functions take a locked or private [`PipeRing`]. They unlock the pipe while they sleep.

use super::flags::{SpliceFlag, SpliceFlags};
use crate::{bindings, current, page::PAGE_SHIFT, pipe::PipeRing, prelude::*};

/// The progress of a transfer out of a pipe.
///
/// # Examples
///
/// ```
/// use kernel::{
///     pipe::{OwnedPage, PipeBuffer, PrivatePipe},
///     splice::Progress, //
/// };
///
/// let mut pipe = PrivatePipe::new()?;
/// let mut ring = pipe.ring();
/// let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10)?;
/// ring.vacancy().ok_or(EAGAIN)?.fill(buf);
///
/// let mut progress = Progress::default();
/// assert_eq!(progress.result(Err(EINTR)), Err(EINTR));
/// progress.consume(&mut ring, 10);
/// // No file refers to the pipe, so nobody can wait for it.
/// assert!(!progress.wake_writers);
/// // Bytes that were transferred are never hidden by a later error.
/// assert_eq!(progress.result(Err(EINTR)), Ok(10));
/// # Ok::<(), Error>(())
/// ```
#[derive(Default)]
pub struct Progress {
    /// The number of bytes transferred.
    pub bytes: usize,
    /// Slots became free, and the writers have not been woken yet.
    pub wake_writers: bool,
}

impl Progress {
    /// Drops `n` bytes, which were transferred, from the pipe.
    #[inline]
    pub fn consume(&mut self, ring: &mut PipeRing<'_>, n: usize) {
        self.bytes += n;
        self.discard(ring, n);
    }

    /// Drops `n` bytes from the pipe that do not count as transferred.
    #[inline]
    pub fn discard(&mut self, ring: &mut PipeRing<'_>, n: usize) {
        // Nobody can wait for a pipe without files.
        if ring.consume(n) && ring.has_files() {
            self.wake_writers = true;
        }
    }

    /// Wakes the writers, if slots became free since the last time.
    #[inline]
    pub fn wake(&mut self, ring: &mut PipeRing<'_>) {
        if self.wake_writers {
            ring.wake_writers();
            self.wake_writers = false;
        }
    }

    /// Returns the result of the transfer: the number of bytes if it is not 0, else `last`.
    #[inline]
    pub fn result(&self, last: Result<usize>) -> Result<usize> {
        if self.bytes != 0 {
            Ok(self.bytes)
        } else {
            last
        }
    }
}

/// Waits until the pipe has data. Sleeps with the pipe unlocked, unless `flags` contain
/// [`SpliceFlag::NonBlock`]. Empty buffers at the front are released.
///
/// Returns `Ok(true)` if the oldest buffer has data. Returns `Ok(false)` if the transfer should
/// end: the pipe is empty, and either it has no writer, or some bytes were transferred already.
///
/// # Errors
///
/// - [`EAGAIN`]: the pipe is empty, and `flags` do not allow to wait.
/// - [`ERESTARTSYS`]: a signal is pending. This is checked first, so that a transfer between two
///   pipes that always have data and room can be interrupted.
///
/// # Examples
///
/// ```
/// use kernel::{
///     pipe::{OwnedPage, PipeBuffer, PrivatePipe},
///     splice::{wait_for_data, Progress, SpliceFlags},
/// };
///
/// let mut pipe = PrivatePipe::new()?;
/// let mut ring = pipe.ring();
/// let page = OwnedPage::alloc(GFP_KERNEL)?;
/// ring.vacancy().ok_or(EAGAIN)?.fill(PipeBuffer::from_page(page, 0, 0)?);
///
/// // The buffer without data is released. No file has this pipe open for writing.
/// assert!(!wait_for_data(&mut ring, SpliceFlags::empty(), &mut Progress::default())?);
/// assert!(ring.is_empty());
/// # Ok::<(), Error>(())
/// ```
#[inline(always)]
pub fn wait_for_data(
    ring: &mut PipeRing<'_>,
    flags: SpliceFlags,
    progress: &mut Progress,
) -> Result<bool> {
    if !interrupted() && ring.front().is_some_and(|buf| !buf.is_empty()) {
        return Ok(true);
    }
    wait_for_data_slow(ring, flags, progress)
}

/// The slow path of [`wait_for_data`]: a signal is pending, or the oldest buffer has no data.
fn wait_for_data_slow(
    ring: &mut PipeRing<'_>,
    flags: SpliceFlags,
    progress: &mut Progress,
) -> Result<bool> {
    if interrupted() {
        return Err(ERESTARTSYS);
    }
    loop {
        while ring.is_empty() {
            if !ring.has_writers() || progress.bytes != 0 {
                return Ok(false);
            }
            if flags.contains(SpliceFlag::NonBlock) {
                return Err(EAGAIN);
            }
            if interrupted() {
                return Err(ERESTARTSYS);
            }
            progress.wake(ring);
            ring.wait_readable();
        }
        if !ring.release_empty_front() {
            return Ok(true);
        }
        progress.wake_writers |= ring.has_files();
    }
}

/// Waits until the pipe has room for a buffer. Sleeps with the pipe unlocked, unless `flags`
/// contain [`SpliceFlag::NonBlock`].
///
/// # Errors
///
/// - [`EPIPE`]: the pipe has no reader. The current task also gets `SIGPIPE`, but not with
///   [`SpliceFlags::no_wait`].
/// - [`EAGAIN`]: the pipe is full, and `flags` do not allow to wait, or the pipe is private.
/// - [`SpliceFlags::WOULD_WAIT`]: the pipe is full, and `flags` have [`SpliceFlags::no_wait`].
/// - [`ERESTARTSYS`]: a signal is pending, and the pipe is full.
///
/// # Examples
///
/// ```
/// use kernel::{
///     pipe::{OwnedPage, PipeBuffer, PrivatePipe},
///     splice::{room_in_bytes, wait_for_room, SpliceFlag}, //
/// };
///
/// let mut pipe = PrivatePipe::new()?;
/// let mut ring = pipe.ring();
/// while let Some(vacancy) = ring.vacancy() {
///     vacancy.fill(PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 1)?);
/// }
/// // The slots are used up, however few bytes the buffers have.
/// assert_eq!(room_in_bytes(&ring), 0);
/// assert_eq!(wait_for_room(&mut ring, SpliceFlag::NonBlock.into()), Err(EAGAIN));
/// # Ok::<(), Error>(())
/// ```
#[inline]
pub fn wait_for_room(ring: &mut PipeRing<'_>, flags: SpliceFlags) -> Result {
    loop {
        if !ring.has_readers() {
            return Err(if flags.is_no_wait() {
                EPIPE
            } else {
                broken_pipe()
            });
        }
        if !ring.is_full() {
            return Ok(());
        }
        if flags.contains(SpliceFlag::NonBlock) {
            return Err(EAGAIN);
        }
        if flags.is_no_wait() {
            return Err(SpliceFlags::WOULD_WAIT);
        }
        if interrupted() {
            return Err(ERESTARTSYS);
        }
        // Only the caller can make room in a private pipe, so waiting would not end.
        if !ring.has_files() {
            return Err(EAGAIN);
        }
        ring.wait_writable();
    }
}

/// Returns the number of bytes that `ring` has room for, in whole pages: one page for each free
/// slot.
#[inline]
pub fn room_in_bytes(ring: &PipeRing<'_>) -> usize {
    (ring.space() as usize) << PAGE_SHIFT
}

/// Sends `SIGPIPE` to the current task and returns [`EPIPE`], for a write to a pipe without
/// readers.
#[cold]
pub fn broken_pipe() -> Error {
    // SAFETY: `current` is a valid task, and any task can send a signal to itself.
    unsafe { bindings::send_sig(bindings::SIGPIPE as c_int, bindings::get_current(), 0) };
    EPIPE
}

/// Returns whether the current task has a pending signal, so that it should stop to wait.
#[inline]
pub fn interrupted() -> bool {
    current!().signal_pending()
}

/// Lets another task run if it is due. May sleep. C: `cond_resched`.
///
/// Long loops over buffers call this once for each round.
#[inline]
pub fn cond_resched() {
    // SAFETY: `cond_resched` has no memory safety requirements. The caller is in a context that may
    // sleep, see above.
    unsafe { bindings::cond_resched() };
}
