// SPDX-License-Identifier: GPL-2.0

//! A pipe that a driver puts data into.

#![forbid(unsafe_code)]

use super::wait::{is_ready, wait_until};
use crate::{
    pipe::{PipeBuffer, PipeRing},
    prelude::*,
    splice::{wait_for_room, SpliceFlag, SpliceFlags},
    sync::{CondVar, Mutex},
};

/// A pipe that a device puts data into. The pipe is locked, or private to the caller.
///
/// # Examples
///
/// A `splice_in` that gives out the buffers in a list, oldest first:
///
/// ```
/// use kernel::{
///     prelude::*,
///     splice::driver::prelude::*,
///     sync::{CondVar, Mutex}, //
/// };
///
/// fn splice_in(
///     bufs: &Mutex<KVec<PipeBuffer>>,
///     changed: &CondVar,
///     to: &mut ToPipe<'_>,
/// ) -> Result {
///     // To give nothing would mean the end of the data, so wait until there is some.
///     while to.given() == 0 {
///         to.wait(bufs, changed, |bufs| !bufs.is_empty())?;
///         let mut bufs = bufs.lock();
///         while let Ok(buf) = bufs.remove(0) {
///             if let Some(rest) = to.push(buf) {
///                 // The pipe is full, or has as much as is wanted. There is room for the rest,
///                 // since a buffer was removed.
///                 let _ = bufs.insert_within_capacity(0, rest);
///                 break;
///             }
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct ToPipe<'a> {
    ring: PipeRing<'a>,
    /// The number of bytes that the caller still wants.
    left: usize,
    /// The number of bytes that were put in.
    given: usize,
    flags: SpliceFlags,
    /// [`Self::wait`] was called.
    waited: bool,
}

impl<'a> ToPipe<'a> {
    /// Creates an empty transfer of up to `len` bytes into `ring`.
    pub(super) fn new(ring: PipeRing<'a>, len: usize, flags: SpliceFlags) -> Self {
        Self {
            ring,
            left: len,
            given: 0,
            flags,
            waited: false,
        }
    }

    /// Returns the number of bytes that were put in so far.
    #[inline]
    pub fn given(&self) -> usize {
        self.given
    }

    /// Returns the number of bytes that the caller still wants.
    #[inline]
    pub fn wanted(&self) -> usize {
        self.left
    }

    /// Returns whether there is no room for another buffer.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.ring.is_full()
    }

    /// Returns whether the driver may wait for the device: neither did the caller set
    /// `SPLICE_F_NONBLOCK`, nor was the device opened with `O_NONBLOCK`.
    #[inline]
    pub fn may_wait(&self) -> bool {
        !self.flags.contains(SpliceFlag::NonBlock)
    }

    /// Puts `buf` in, as far as the caller [wants](Self::wanted) its bytes and there is room.
    /// Returns the rest, which is for a later call.
    ///
    /// If a part is to be put in, both it and the rest have a reference to the memory. All of `buf`
    /// is returned if there cannot be another reference.
    ///
    /// The readers are woken after the call of `splice_in`, or by [`Self::wait`] before it sleeps.
    #[must_use = "the rest of the data is lost if it is dropped"]
    pub fn push(&mut self, mut buf: PipeBuffer) -> Option<PipeBuffer> {
        if buf.is_empty() {
            return None;
        }
        let Some(vacancy) = self.ring.vacancy() else {
            return Some(buf);
        };
        let len = self.left.min(buf.len_in_slots(vacancy.slots()));
        let (part, rest) = if len == buf.len() {
            (buf, None)
        } else if len == 0 {
            return Some(buf);
        } else {
            match buf.split_to(len) {
                Ok(part) => (part, Some(buf)),
                Err(_) => return Some(buf),
            }
        };
        vacancy.fill(part);
        self.left -= len;
        self.given += len;
        rest
    }

    /// Waits until `ready` is true for the data that `state` guards, with the pipe unlocked, and
    /// then for room in the pipe. To be called if nothing was given.
    ///
    /// The driver notifies `changed` after it has changed the data. The pipe stays locked if there
    /// is no need to wait. The driver holds no lock during the call.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: the caller [does not wait](Self::may_wait).
    /// - [`ERESTARTSYS`]: a signal is pending. Unless this is the first call, that comes before
    ///   `ready`, so that a loop that calls this can be ended.
    /// - [`EPIPE`], and the signal `SIGPIPE`: nobody reads the pipe any more.
    pub fn wait<T>(
        &mut self,
        state: &Mutex<T>,
        changed: &CondVar,
        mut ready: impl FnMut(&T) -> bool,
    ) -> Result {
        let may_wait = self.may_wait();
        if is_ready(state, &mut ready, &mut self.waited, may_wait)? {
            return Ok(());
        }
        if self.given > 0 {
            self.ring.wake_readers();
        }
        self.ring
            .unlocked(|| wait_until(state, changed, &mut ready))?;
        // Others may have filled the pipe meanwhile.
        wait_for_room(&mut self.ring, self.flags)
    }

    /// Runs `f` with the pipe unlocked, and then waits for room in the pipe. `f` may sleep. To be
    /// called if nothing was given.
    ///
    /// Use [`Self::wait`] to wait for data that a mutex guards. This is for waits of another kind,
    /// such as one for a fence. `f` looks at signals itself.
    ///
    /// Returns the error of `f`, and otherwise the errors of [`Self::wait`] for a pipe that others
    /// have filled meanwhile.
    pub fn unlocked(&mut self, f: impl FnOnce() -> Result) -> Result {
        if self.given > 0 {
            self.ring.wake_readers();
        }
        self.ring.unlocked(f)?;
        wait_for_room(&mut self.ring, self.flags)
    }
}
