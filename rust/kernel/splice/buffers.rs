// SPDX-License-Identifier: GPL-2.0

//! Buffers that were taken out of a pipe together.

use super::FromPipe;
use crate::{
    alloc::Flags,
    pipe::PipeBuffer,
    prelude::*,
    scatterlist::{AsSegments, Segment}, //
};
use core::{ptr::NonNull, slice};

/// Buffers that were taken out of a pipe together: what one transfer of a device is made of.
///
/// An [`SGTable`](crate::scatterlist::SGTable) can be [made](crate::scatterlist::SGTable::map) of
/// them, which keeps them for as long as they are mapped.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::{Bound, Device},
///     prelude::*,
///     scatterlist::{Owned, SGTable},
///     splice::{FromPipe, PipeBuffers}, //
/// };
///
/// /// Maps what is in a pipe for DMA; where that fails, it is in the pipe as before.
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
    /// Takes buffers out of a pipe, up to `max`. There may be none.
    ///
    /// Fails with [`ENOMEM`]; nothing is taken then.
    pub fn take(bufs: &mut FromPipe<'_>, max: usize, flags: Flags) -> Result<Self> {
        let max = max.min(bufs.buffers());
        let mut taken = KVec::with_capacity(max, flags)?;
        for buf in bufs.take(max) {
            // There is capacity, so this does not fail.
            taken.push_within_capacity(buf).map_err(|_| ENOMEM)?;
        }
        Ok(Self(taken))
    }

    /// Puts all back into the pipe that they come from, if it was not unlocked meanwhile; else they
    /// are dropped.
    pub fn put_back(mut self, bufs: &mut FromPipe<'_>) {
        while let Some(buf) = self.0.pop() {
            if bufs.put_back(buf).is_err() {
                break;
            }
        }
    }

    /// The number of bytes.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(PipeBuffer::len).sum()
    }

    /// Whether there is no buffer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The buffers, oldest first.
    #[inline]
    pub fn iter(&self) -> slice::Iter<'_, PipeBuffer> {
        self.0.iter()
    }
}

// SAFETY: Each buffer has a reference to its memory, which is not moved with it, and is not dropped
// before this is.
unsafe impl AsSegments for PipeBuffers {
    type Iter<'a> = Segments<'a>;

    #[inline]
    fn segments(&self) -> Segments<'_> {
        Segments(self.iter())
    }
}

/// The memory of buffers.
pub struct Segments<'a>(slice::Iter<'a, PipeBuffer>);

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    #[inline]
    fn next(&mut self) -> Option<Segment<'a>> {
        let buf = self.0.next()?;
        // SAFETY: A buffer has a valid page, or as many contiguous ones as it needs, for as long as
        // it is there.
        Some(unsafe { Segment::new(NonNull::new_unchecked(buf.page()), buf.offset(), buf.len()) })
    }
}
