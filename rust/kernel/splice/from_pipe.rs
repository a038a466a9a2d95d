// SPDX-License-Identifier: GPL-2.0

//! Waiting at the ends of a pipe, and feeding what is in it to an [`Actor`].

#![forbid(unsafe_code)]

use super::{broken_pipe, cond_resched, interrupted, SpliceFlag, SpliceFlags};
use crate::{
    pipe::{BufferRef, PipeRing},
    prelude::*, //
};

/// How far a transfer out of a pipe has come.
#[derive(Default)]
pub struct Progress {
    /// Bytes transferred.
    pub bytes: usize,
    /// Buffers were used up, and those who wait for room have not been told yet.
    pub wake_writers: bool,
}

impl Progress {
    /// Drops `n` bytes that were transferred from the pipe.
    #[inline]
    pub fn consume(&mut self, ring: &mut PipeRing<'_>, n: usize) {
        self.bytes += n;
        // A pipe without files has nobody waiting.
        if ring.consume(n) && ring.has_files() {
            self.wake_writers = true;
        }
    }

    /// Tells those who wait for room, if there is something to tell.
    #[inline]
    pub fn wake(&mut self, ring: &mut PipeRing<'_>) {
        if self.wake_writers {
            ring.wake_writers();
            self.wake_writers = false;
        }
    }

    /// What the transfer comes to: bytes, if there were any, else `last`.
    #[inline]
    pub fn result(&self, last: Result<usize>) -> Result<usize> {
        if self.bytes != 0 {
            Ok(self.bytes)
        } else {
            last
        }
    }
}

/// Waits until there is a buffer with data. `true`: there is; `false`: the transfer is through,
/// because nobody is left to write, or since something was transferred already and the pipe is
/// empty.
///
/// Sleeps, with the pipe unlocked, unless `flags` say not to. Buffers without data are released.
///
/// # Errors
///
/// - [`EAGAIN`]: the pipe is empty, and `flags` say not to wait.
/// - [`ERESTARTSYS`]: a signal is pending. This comes before everything else, so that a transfer
///   between two pipes that never run dry can be ended.
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
/// // A buffer without data is none; and nobody has this pipe open for writing.
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

/// As [`wait_for_data`], where that is not settled at the first look.
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

/// Waits until there is room for a buffer. Sleeps, with the pipe unlocked, unless `flags` say not
/// to.
///
/// # Errors
///
/// - [`EPIPE`], and `SIGPIPE`: nobody has the read end open.
/// - [`EAGAIN`]: the pipe is full, and `flags` say not to wait, or it is a private one.
/// - [`ERESTARTSYS`]: a signal is pending.
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
        // Nobody but the caller could make room in a private pipe.
        if !ring.has_files() {
            return Err(EAGAIN);
        }
        ring.wait_writable();
    }
}

/// Something that takes data out of a pipe.
///
/// # Examples
///
/// What an actor says to have taken beyond what it was given does not count.
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
    /// Takes some of the first `len` bytes of `buf`, and says how many; `0` ends the transfer.
    ///
    /// The contents can be read: the buffer is [confirmed](BufferRef::confirm). The pipe is locked.
    fn take(&mut self, buf: BufferRef<'_>, len: usize) -> Result<usize>;
}

/// Feeds up to `len` bytes to `actor`. Returns how many it took; 0 where nobody is left to write.
///
/// The ring is locked by the caller. Sleeps with the pipe unlocked while it is empty. What the
/// actor does not take stays in the pipe. C: `__splice_from_pipe`.
///
/// # Errors
///
/// Those of [`wait_for_data`], of [`BufferRef::confirm`], and of the actor, where nothing was
/// transferred.
///
/// # Examples
///
/// ```
/// use kernel::{
///     pipe::{BufferRef, OwnedPage, PipeBuffer, PrivatePipe},
///     splice::{from_pipe, Actor, SpliceFlags},
/// };
///
/// /// Counts bytes.
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

/// Feeds what is in the pipe now. `true`: all of it was taken and more is wanted.
#[inline(always)]
fn feed(
    ring: &mut PipeRing<'_>,
    len: usize,
    progress: &mut Progress,
    actor: &mut impl Actor,
) -> Result<bool> {
    // Not less than nothing: no more is taken than is wanted.
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
    // A pipe without files has nobody waiting.
    progress.wake_writers |= room && ring.has_files();
    Ok(ret? && left > 0)
}
