// SPDX-License-Identifier: GPL-2.0

//! The data in a pipe, for a driver to take.

#![forbid(unsafe_code)]

use super::wait::{is_ready, wait_until};
use crate::{
    pipe::{PipeBuffer, PipeGuard},
    prelude::*,
    splice::{wait_for_data, Progress, SpliceFlags},
    sync::{CondVar, Mutex},
};
use core::mem;

/// The data in a pipe, as an iterator over owned buffers. It returns at most the number of bytes
/// that the caller wants to transfer, and splits the last buffer if needed.
///
/// The contents of a returned buffer can be read: it is
/// [confirmed](crate::pipe::BufferRef::confirm), which may sleep until a page was read from its
/// file. The iterator does not wait for more data in the pipe.
///
/// Dropping this wakes the readers and writers of the pipe, if there is a reason to.
///
/// # Examples
///
/// A `splice_out` for a device that keeps up to `MOST` buffers until it has used them:
///
/// ```
/// use kernel::{
///     prelude::*,
///     splice::driver::prelude::*,
///     sync::{CondVar, Mutex}, //
/// };
///
/// const MOST: usize = 64;
///
/// fn splice_out(
///     bufs: &Mutex<KVec<PipeBuffer>>,
///     changed: &CondVar,
///     from: &mut FromPipe<'_>,
/// ) -> Result {
///     // Returns `EAGAIN` or `ERESTARTSYS` before a buffer is taken, so nothing is lost.
///     from.wait(bufs, changed, |bufs| bufs.len() < MOST)?;
///     let mut bufs = bufs.lock();
///     while bufs.len() < MOST {
///         // No buffer: the caller wants no more bytes, or the pipe has no more.
///         let Some(buf) = from.next() else { break };
///         if let Err(full) = bufs.push_within_capacity(buf) {
///             // Restores the pipe, also if `buf` was split off a longer buffer.
///             let _ = from.put_back(full.0);
///             break;
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct FromPipe<'a> {
    guard: PipeGuard<'a>,
    /// The number of bytes that the caller still wants.
    left: usize,
    /// The number of bytes that the driver took and did not put back.
    taken: usize,
    /// The number of buffers that can be put back.
    returnable: u32,
    /// Whether the buffer that was taken last was split off one that is still in the pipe.
    split: bool,
    wake_readers: bool,
    wake_writers: bool,
    /// The error that ended the iteration.
    failed: Option<Error>,
    may_wait: bool,
    /// [`Self::wait`] was called.
    waited: bool,
}

impl<'a> FromPipe<'a> {
    /// Creates an iterator over the first `len` bytes of the pipe.
    pub(super) fn new(guard: PipeGuard<'a>, len: usize, may_wait: bool) -> Self {
        Self {
            guard,
            left: len,
            taken: 0,
            returnable: 0,
            split: false,
            wake_readers: false,
            wake_writers: false,
            failed: None,
            may_wait,
            waited: false,
        }
    }

    /// Returns whether the driver may wait for the device: neither did the caller set
    /// `SPLICE_F_NONBLOCK`, nor was the device opened with `O_NONBLOCK`.
    #[inline]
    pub fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Returns the number of bytes that the caller still wants to transfer. The pipe may have less.
    #[inline]
    pub fn wanted(&self) -> usize {
        self.left
    }

    /// Returns an upper bound of the number of buffers that the iterator will return. The pipe may
    /// have more data than the caller wants.
    #[inline]
    pub fn buffers(&mut self) -> usize {
        self.guard.ring().indices().occupancy() as usize
    }

    /// Returns the next buffer, or the first `max` bytes of it if it is longer.
    pub fn next_up_to(&mut self, max: usize) -> Option<PipeBuffer> {
        let beyond = self.left.saturating_sub(max);
        self.left -= beyond;
        let buf = self.next();
        self.left += beyond;
        buf
    }

    /// Puts a buffer that was taken back into the pipe. Put several buffers back in reverse order,
    /// the last one first.
    ///
    /// Returns `Err(buf)` if the pipe was unlocked since the buffer was taken, or if that would put
    /// back more than was taken.
    pub fn put_back(&mut self, buf: PipeBuffer) -> Result<(), PipeBuffer> {
        let len = buf.len();
        if self.returnable == 0 || len > self.taken {
            return Err(buf);
        }
        let mut ring = self.guard.ring();
        if self.split {
            ring.unsplit_front(buf)
                .or_else(|buf| ring.push_front(buf))?;
        } else {
            ring.push_front(buf)?;
        }
        // While the buffer was out, a reader may have found the pipe empty without taking the lock,
        // and have gone to sleep.
        self.wake_readers |= ring.has_files();
        self.split = false;
        self.returnable -= 1;
        self.left += len;
        self.taken -= len;
        Ok(())
    }

    /// Waits until `ready` is true for the data that `state` guards, with the pipe unlocked.
    ///
    /// The driver notifies `changed` after it has changed the data. The pipe stays locked if there
    /// is no need to wait; otherwise it may be empty afterwards, and buffers that were taken cannot
    /// be put back. The driver holds no lock during the call.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: the caller [does not wait](Self::may_wait).
    /// - [`ERESTARTSYS`]: a signal is pending. Unless this is the first call, that comes before
    ///   `ready`, so that a loop that calls this can be ended.
    pub fn wait<T>(
        &mut self,
        state: &Mutex<T>,
        changed: &CondVar,
        mut ready: impl FnMut(&T) -> bool,
    ) -> Result {
        if is_ready(state, &mut ready, &mut self.waited, self.may_wait)? {
            return Ok(());
        }
        self.unlocked(|| wait_until(state, changed, &mut ready))
    }

    /// Runs `f` with the pipe unlocked. `f` may sleep.
    ///
    /// Others may take buffers out of the pipe or add some meanwhile. Buffers that were taken
    /// before cannot be put back any more.
    ///
    /// Use [`Self::wait`] to wait for the device, which also checks signals. This is for other work
    /// that sleeps for long, such as a wait for one of the driver's requests to end.
    pub fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.returnable = 0;
        self.wake();
        self.guard.ring().unlocked(f)
    }

    /// Wakes those that wait for a change of the pipe that was made here. The pipe stays locked.
    fn wake(&mut self) {
        let mut ring = self.guard.ring();
        if mem::take(&mut self.wake_readers) {
            ring.wake_readers();
        }
        if mem::take(&mut self.wake_writers) {
            ring.wake_writers();
        }
    }

    /// Waits for data and calls `take`, until that takes some, fails, or leaves data in the pipe.
    /// Returns the number of bytes taken.
    ///
    /// Returns the error of `take`, even if that took buffers. Errors of [`wait_for_data`], and of
    /// a buffer whose contents cannot be read, are returned only if nothing was taken.
    ///
    /// Calls `take` again only if it unlocked the pipe and another reader emptied the pipe
    /// meanwhile. If `take` took nothing and left data, another call could spin, so the transfer
    /// ends with 0.
    pub(super) fn feed(
        &mut self,
        flags: SpliceFlags,
        mut take: impl FnMut(&mut Self) -> Result,
    ) -> Result<usize> {
        while self.left > 0 {
            let mut progress = Progress {
                wake_writers: mem::take(&mut self.wake_writers),
                ..Progress::default()
            };
            let ready = wait_for_data(&mut self.guard.ring(), flags, &mut progress);
            self.wake_writers = progress.wake_writers;
            if !ready? {
                return Ok(0);
            }
            take(self)?;
            if self.taken > 0 {
                return Ok(self.taken);
            }
            if let Some(err) = self.failed.take() {
                // If the contents are gone, the transfer ends as at the end of a file.
                return if err == ENODATA { Ok(0) } else { Err(err) };
            }
            // If the pipe is empty, others have taken the data while the driver had it unlocked:
            // wait again.
            if !self.guard.ring().is_empty() {
                break;
            }
        }
        Ok(0)
    }
}

impl Iterator for FromPipe<'_> {
    type Item = PipeBuffer;

    fn next(&mut self) -> Option<PipeBuffer> {
        if self.left == 0 || self.failed.is_some() {
            return None;
        }
        let mut ring = self.guard.ring();
        while ring.release_empty_front() {
            self.wake_writers |= ring.has_files();
        }
        if let Err(err) = ring.iter().next()?.confirm() {
            self.failed = Some(err);
            return None;
        }
        let split = ring.front()?.len() > self.left;
        let buf = if !split {
            ring.pop_front()?
        } else {
            match ring.split_front(self.left)? {
                Ok(buf) => buf,
                Err(err) => {
                    self.failed = Some(err);
                    return None;
                }
            }
        };
        // Nobody can wait for a pipe without files.
        self.wake_writers |= ring.has_files();
        self.split = split;
        self.returnable += 1;
        self.left -= buf.len();
        self.taken += buf.len();
        Some(buf)
    }
}

impl Drop for FromPipe<'_> {
    fn drop(&mut self) {
        self.wake();
    }
}
