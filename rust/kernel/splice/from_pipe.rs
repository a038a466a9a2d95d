// SPDX-License-Identifier: GPL-2.0

//! Waiting for data and for room, and passing the data of a pipe to an [`Actor`].
//!
//! The functions take a locked or private [`PipeRing`]. They unlock the pipe while they sleep.

#![forbid(unsafe_code)]

use super::{broken_pipe, cond_resched, interrupted, SpliceFlag, SpliceFlags};
use crate::{
    pipe::{BufferRef, PipeRing},
    prelude::*, //
};

/// The progress of a transfer out of a pipe.
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
/// - [`EPIPE`]: the pipe has no reader. The current task also gets `SIGPIPE`.
/// - [`EAGAIN`]: the pipe is full, and `flags` do not allow to wait, or the pipe is private.
/// - [`ERESTARTSYS`]: a signal is pending, and the pipe is full.
#[inline]
pub fn wait_for_room(ring: &mut PipeRing<'_>, flags: SpliceFlags) -> Result {
    loop {
        if !ring.has_readers() {
            return Err(broken_pipe());
        }
        if !ring.is_full() {
            return Ok(());
        }
        if flags.contains(SpliceFlag::NonBlock) {
            return Err(EAGAIN);
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

/// A consumer of data from a pipe.
///
/// # Examples
///
/// A number of bytes beyond the number that the actor was given is not counted.
///
/// ```
/// use kernel::{
///     pipe::{BufferRef, OwnedPage, PipeBuffer, PrivatePipe},
///     splice::{from_pipe, Actor, SpliceFlags},
/// };
///
/// struct Boaster;
///
/// impl Actor for Boaster {
///     fn take(&mut self, _buf: BufferRef<'_>, len: usize) -> Result<usize> {
///         Ok(len + 1)
///     }
/// }
///
/// let mut pipe = PrivatePipe::new()?;
/// let mut ring = pipe.ring();
/// let page = OwnedPage::alloc(GFP_KERNEL)?;
/// ring.vacancy().ok_or(EAGAIN)?.fill(PipeBuffer::from_page(page, 0, 10)?);
/// assert_eq!(from_pipe(&mut ring, 4, SpliceFlags::empty(), &mut Boaster)?, 4);
/// assert_eq!(ring.front().map(|buf| buf.len()), Some(6));
/// # Ok::<(), Error>(())
/// ```
pub trait Actor {
    /// Takes some of the first `len` bytes of `buf`. Returns the number of bytes that were taken;
    /// `0` ends the transfer. Called with the pipe locked; may sleep.
    ///
    /// The contents can be read, because the buffer was [confirmed](BufferRef::confirm).
    fn take(&mut self, buf: BufferRef<'_>, len: usize) -> Result<usize>;
}

/// Passes up to `len` bytes to `actor`. Returns the number of bytes that it took, or 0 if the pipe
/// is empty and has no writer. C: `__splice_from_pipe`.
///
/// The caller has locked the pipe. Sleeps with the pipe unlocked while it is empty. Bytes that the
/// actor does not take stay in the pipe.
///
/// # Errors
///
/// Those of [`wait_for_data`], of [`BufferRef::confirm`] and of the actor, but only if no bytes
/// were transferred before.
///
/// # Examples
///
/// ```
/// use kernel::{
///     pipe::{BufferRef, OwnedPage, PipeBuffer, PrivatePipe},
///     splice::{from_pipe, Actor, SpliceFlags},
/// };
///
/// /// An actor that counts bytes.
/// struct Discard(usize);
///
/// impl Actor for Discard {
///     fn take(&mut self, _buf: BufferRef<'_>, len: usize) -> Result<usize> {
///         self.0 += len;
///         Ok(len)
///     }
/// }
///
/// let mut pipe = PrivatePipe::new()?;
/// let mut ring = pipe.ring();
/// for _ in 0..2 {
///     let page = OwnedPage::alloc(GFP_KERNEL)?;
///     ring.vacancy().ok_or(EAGAIN)?.fill(PipeBuffer::from_page(page, 0, 1000)?);
/// }
/// let mut actor = Discard(0);
/// assert_eq!(from_pipe(&mut ring, 1200, SpliceFlags::empty(), &mut actor)?, 1200);
/// assert_eq!(actor.0, 1200);
/// assert_eq!(ring.front().map(|buf| buf.len()), Some(800));
/// # Ok::<(), Error>(())
/// ```
#[inline(always)]
pub fn from_pipe(
    ring: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
    actor: &mut impl Actor,
) -> Result<usize> {
    let mut progress = Progress::default();
    let ret = loop {
        cond_resched();
        match wait_for_data(ring, flags, &mut progress) {
            Ok(true) => (),
            Ok(false) => break Ok(0),
            Err(err) => break Err(err),
        }
        match feed(ring, len, &mut progress, actor) {
            Ok(true) => (),
            Ok(false) => break Ok(0),
            Err(err) => break Err(err),
        }
    };
    progress.wake(ring);
    progress.result(ret)
}

/// Passes the data that the pipe has now to `actor`. Returns `Ok(true)` if it took all of the data
/// and the caller wants more.
#[inline(always)]
fn feed(
    ring: &mut PipeRing<'_>,
    len: usize,
    progress: &mut Progress,
    actor: &mut impl Actor,
) -> Result<bool> {
    // This does not wrap: never more than `len` bytes are taken.
    let wanted = len.wrapping_sub(progress.bytes);
    let mut left = wanted;
    let mut room = false;
    let ret = ring.drain(
        |mut buf| {
            let most = buf.len().min(left);
            if most == 0 {
                return Ok(None);
            }
            match buf.confirm_inline() {
                Ok(()) => (),
                Err(err) if err == ENODATA => return Ok(None),
                Err(err) => return Err(err),
            }
            let taken = actor.take(buf, most)?.min(most);
            left = left.wrapping_sub(taken);
            Ok(Some(taken))
        },
        &mut room,
    );
    progress.bytes += wanted - left;
    // Nobody can wait for a pipe without files.
    progress.wake_writers |= room && ring.has_files();
    Ok(ret? && left > 0)
}
