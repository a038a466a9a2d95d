// SPDX-License-Identifier: GPL-2.0

//! Passing the data of a pipe to an [`Actor`].

#![forbid(unsafe_code)]

use super::{
    check,
    flags::SpliceFlags,
    policy,
    wait::{cond_resched, wait_for_data, Progress},
};
use crate::{
    pipe::{BufferRef, FunctionAddr, PipeRing},
    prelude::*, //
};

/// A consumer of data from a pipe.
///
/// # Examples
///
/// A number of bytes beyond the number that the actor was given is not counted.
///
/// ```
/// use kernel::{
///     pipe::{BufferRef, OwnedPage, PipeBuffer, PrivatePipe},
///     splice::{pipe_to_actor, Actor, SpliceFlags},
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
/// assert_eq!(pipe_to_actor(&mut ring, 4, SpliceFlags::empty(), &mut Boaster)?, 4);
/// assert_eq!(ring.front().map(|buf| buf.len()), Some(6));
/// # Ok::<(), Error>(())
/// ```
pub trait Actor {
    /// Takes some of the first `len` bytes of `buf`. Returns the number of bytes that were taken;
    /// `0` ends the transfer. Called with the pipe locked; may sleep.
    ///
    /// The contents can be read, because the buffer was [confirmed](BufferRef::confirm).
    fn take(&mut self, buf: BufferRef<'_>, len: usize) -> Result<usize>;

    /// Returns the reason why the actor is given copies of pages that others can see, or `None` if
    /// it is given references. Asked when there is data, before the buffers are passed.
    ///
    /// An actor in Rust can only read a buffer, so it gets references.
    #[inline(always)]
    fn must_copy(&self) -> Option<policy::Reason> {
        None
    }

    /// Called after the actor took `bytes` bytes of copies.
    fn took_copies(&mut self, _bytes: usize) {}

    /// Returns the address of the function that takes the buffers, for reports.
    fn function(&self) -> FunctionAddr {
        FunctionAddr::NONE
    }
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
///     splice::{pipe_to_actor, Actor, SpliceFlags},
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
/// assert_eq!(pipe_to_actor(&mut ring, 1200, SpliceFlags::empty(), &mut actor)?, 1200);
/// assert_eq!(actor.0, 1200);
/// assert_eq!(ring.front().map(|buf| buf.len()), Some(800));
/// # Ok::<(), Error>(())
/// ```
#[inline(always)]
pub fn pipe_to_actor(
    ring: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
    actor: &mut impl Actor,
) -> Result<usize> {
    let mut progress = Progress::default();
    let ret = continue_to_actor(ring, len, flags, actor, &mut progress);
    progress.wake(ring);
    progress.result(ret)
}

/// Does the same as [`pipe_to_actor`] for a transfer of which `progress` is the state: `len` is the
/// number of bytes from its start on. Returns `Ok(0)` or the error that ended it.
///
/// Wakes writers only before it sleeps. The caller calls [`Progress::wake`] at the end, so that a
/// signal that a writer is sent then (`O_ASYNC`) does not interrupt the rest of the transfer.
#[inline(always)]
pub fn continue_to_actor(
    ring: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
    actor: &mut impl Actor,
    progress: &mut Progress,
) -> Result<usize> {
    loop {
        cond_resched();
        if !wait_for_data(ring, flags, progress)? {
            return Ok(0);
        }
        let fed = match actor.must_copy() {
            None if check::is_on() => feed_watched(ring, len, progress, actor),
            None => feed(ring, len, progress, actor),
            Some(reason) => feed_copies(ring, len, progress, actor, reason),
        };
        if !fed? {
            return Ok(0);
        }
    }
}

/// Does the same as [`feed`], and remembers the pages for the check.
#[cold]
#[inline(never)]
fn feed_watched(
    ring: &mut PipeRing<'_>,
    len: usize,
    progress: &mut Progress,
    actor: &mut impl Actor,
) -> Result<bool> {
    let function = actor.function();
    // An actor in Rust cannot write.
    if function != FunctionAddr::NONE {
        check::watch_ring(ring, function);
    }
    feed(ring, len, progress, actor)
}

/// An actor that is given copies of the pages that others can see.
struct CopyingActor<'a, A> {
    actor: &'a mut A,
    copied: usize,
}

impl<'a, A: Actor> CopyingActor<'a, A> {
    fn new(actor: &'a mut A) -> Self {
        Self { actor, copied: 0 }
    }

    /// Returns how many bytes of copies the actor has taken.
    fn copied(&self) -> usize {
        self.copied
    }
}

impl<A: Actor> Actor for CopyingActor<'_, A> {
    fn take(&mut self, buf: BufferRef<'_>, len: usize) -> Result<usize> {
        if buf.is_private() {
            return self.actor.take(buf, len);
        }
        let mut taken = 0;
        while taken < len {
            let mut copy = match policy::copy_part(&buf, taken, len - taken) {
                Ok(copy) => copy,
                // Bytes that the actor took are not lost by a later error.
                Err(_) if taken > 0 => break,
                Err(err) => return Err(err),
            };
            let most = copy.len();
            let n = match self.actor.take(buf.with(&mut copy), most) {
                Ok(n) => n.min(most),
                Err(_) if taken > 0 => break,
                Err(err) => return Err(err),
            };
            taken += n;
            if n < most {
                break;
            }
        }
        self.copied += taken;
        Ok(taken)
    }
}

/// Does the same as [`feed`], with copies of the pages that others can see.
#[cold]
#[inline(never)]
fn feed_copies(
    ring: &mut PipeRing<'_>,
    len: usize,
    progress: &mut Progress,
    actor: &mut impl Actor,
    reason: policy::Reason,
) -> Result<bool> {
    let mut copying = CopyingActor::new(actor);
    let ret = feed(ring, len, progress, &mut copying);
    let bytes = copying.copied();
    actor.took_copies(bytes);
    policy::copied(policy::Kind::Actor, reason, actor.function(), bytes);
    ret
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
    // Neither this nor the sum below wraps: never more than `len` bytes are taken.
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
    progress.bytes = progress.bytes.wrapping_add(wanted.wrapping_sub(left));
    // Nobody can wait for a pipe without files.
    progress.wake_writers |= room && ring.has_files();
    Ok(ret? && left > 0)
}
