// SPDX-License-Identifier: GPL-2.0

//! A list of buffers that a driver took out of a pipe for one transfer.

use super::from_pipe::FromPipe;
use crate::{
    alloc::Flags,
    pipe::PipeBuffer,
    prelude::*,
    scatterlist::{AsSegments, Segment}, //
};
use core::{ptr::NonNull, slice};

/// Buffers that were taken out of a pipe together, for one transfer of a device.
///
/// A driver makes an [`SGTable`](crate::scatterlist::SGTable) of the buffers with
/// [`map`](crate::scatterlist::SGTable::map). The table then owns them, so that their memory stays
/// valid as long as it is mapped.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::{Bound, Device},
///     prelude::*,
///     scatterlist::{Owned, SGTable},
///     splice::driver::{FromPipe, PipeBuffers}, //
/// };
///
/// /// Maps the data of a pipe for DMA. If that fails, the data is put back.
/// fn map(
///     dev: &Device<Bound>,
///     bufs: &mut FromPipe<'_>,
/// ) -> Result<Pin<KBox<SGTable<Owned<PipeBuffers>>>>> {
///     let taken = PipeBuffers::take(bufs, 64, GFP_KERNEL)?;
///     SGTable::map(dev, taken, GFP_KERNEL).map_err(|(err, taken)| {
///         taken.put_back(bufs);
///         err
///     })
/// }
/// ```
pub struct PipeBuffers(KVec<PipeBuffer>);

impl PipeBuffers {
    /// Takes up to `max` buffers out of a pipe. The list is empty if there are none. May sleep if
    /// `flags` allow it.
    ///
    /// Returns [`ENOMEM`] if the list cannot be allocated. No buffer is taken then.
    pub fn take(bufs: &mut FromPipe<'_>, max: usize, flags: Flags) -> Result<Self> {
        let max = max.min(bufs.buffers());
        let mut taken = KVec::with_capacity(max, flags)?;
        for buf in bufs.take(max) {
            // The vector has capacity for `max` buffers, so this does not fail.
            taken.push_within_capacity(buf).map_err(|_| ENOMEM)?;
        }
        Ok(Self(taken))
    }

    /// Creates an empty list with room for `max` buffers, to be [filled](Self::fill) any number of
    /// times. May sleep if `flags` allow it.
    ///
    /// Returns [`ENOMEM`] if the list cannot be allocated.
    pub fn with_capacity(max: usize, flags: Flags) -> Result<Self> {
        Ok(Self(KVec::with_capacity(max, flags)?))
    }

    /// Takes buffers out of a pipe, until the list has `max` buffers or no more room, or `bytes`
    /// bytes were taken. Does not allocate memory for the list.
    pub fn fill(&mut self, bufs: &mut FromPipe<'_>, max: usize, bytes: usize) {
        let max = max.min(self.0.capacity());
        let mut left = bytes;
        while self.0.len() < max && left > 0 {
            let Some(buf) = bufs.next_up_to(left) else {
                break;
            };
            left -= buf.len();
            // The vector has room for `max` buffers, so this does not fail.
            let _ = self.0.push_within_capacity(buf);
        }
    }

    /// Adds a buffer. Returns it if there is no room. Does not allocate memory.
    pub fn push(&mut self, buf: PipeBuffer) -> Result<(), PipeBuffer> {
        self.0.push_within_capacity(buf).map_err(|full| full.0)
    }

    /// Drops all buffers. May sleep.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Puts all buffers back into the pipe that they come from, in their old order.
    ///
    /// If the pipe was unlocked since they were taken, they cannot be put back and are dropped.
    pub fn put_back(mut self, bufs: &mut FromPipe<'_>) {
        self.put_all_back(bufs);
    }

    /// Puts all buffers back, and keeps the empty list. Otherwise the same as [`Self::put_back`].
    pub fn put_all_back(&mut self, bufs: &mut FromPipe<'_>) {
        while let Some(buf) = self.0.pop() {
            if bufs.put_back(buf).is_err() {
                break;
            }
        }
        self.0.clear();
    }

    /// Returns the number of buffers.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the total number of bytes.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(PipeBuffer::len).sum()
    }

    /// Returns whether the list has no buffers.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns an iterator over the buffers, oldest first.
    #[inline]
    pub fn iter(&self) -> slice::Iter<'_, PipeBuffer> {
        self.0.iter()
    }
}

// SAFETY: Each buffer owns a reference to its memory, which does not move if the buffer is moved.
// The list is not changed while it is shared, and the buffers are dropped with it. Memory in a pipe
// may be read.
unsafe impl AsSegments for PipeBuffers {
    type Iter<'a> = Segments<'a>;

    #[inline]
    fn segments(&self) -> Segments<'_> {
        Segments(self.iter())
    }
}

/// An iterator over the memory of buffers, one segment for each.
pub struct Segments<'a>(slice::Iter<'a, PipeBuffer>);

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    #[inline]
    fn next(&mut self) -> Option<Segment<'a>> {
        let buf = self.0.next()?;
        // SAFETY: A buffer has as many contiguous pages as it needs, and holds them as long as it
        // exists, which is at least for `'a`.
        Some(unsafe { Segment::new(NonNull::new_unchecked(buf.page()), buf.offset(), buf.len()) })
    }
}
