// SPDX-License-Identifier: GPL-2.0

//! The destinations of buffers: the ring of the pipe, and a list of buffers that are gathered while
//! the pipe is unlocked.

#![forbid(unsafe_code)]

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    mm::gup::{UserRange, UserRanges},
    pipe::{Filler, PipeBuffer},
    prelude::*,
};

/// A destination for buffers: the ring of the pipe, or a list.
pub(super) trait Sink {
    /// Returns the number of free slots.
    fn space(&self) -> u32;

    /// Adds `buf`. There must be enough free slots.
    fn push(&mut self, buf: PipeBuffer);

    /// Adds the pages of small folios at the front of `ranges`, which was found at the beginning of
    /// `range`, if there is a fast way to do that. Returns the part of `range` that is left.
    #[inline(always)]
    fn push_small_pages(&mut self, _ranges: &mut UserRanges, range: UserRange) -> UserRange {
        range
    }
}

impl Sink for Filler<'_> {
    #[inline]
    fn space(&self) -> u32 {
        Filler::space(self)
    }

    #[inline]
    fn push(&mut self, buf: PipeBuffer) {
        // The lookup was limited to the number of free slots, so this succeeds.
        let _ = Filler::push(self, buf);
    }

    #[inline(always)]
    fn push_small_pages(&mut self, ranges: &mut UserRanges, range: UserRange) -> UserRange {
        Filler::push_small_pages(self, ranges, range)
    }
}

/// Buffers that are gathered while the pipe is unlocked.
pub(super) struct Gathered {
    bufs: KVVec<PipeBuffer>,
    space: u32,
}

impl Gathered {
    /// Creates a list with room for `slots` slots. Returns [`ENOMEM`] if it cannot be allocated.
    pub(super) fn new(slots: u32) -> Result<Self> {
        Ok(Self {
            bufs: KVVec::with_capacity(slots as usize, GFP_KERNEL_ACCOUNT)?,
            space: slots,
        })
    }

    /// Adds the buffers to a pipe, until there is no room. The last one is cut, the rest is
    /// dropped: user space passes it again, after a short count.
    pub(super) fn link(self, filler: &mut Filler<'_>) {
        for buf in self.bufs {
            let Err(mut buf) = filler.push(buf) else {
                continue;
            };
            buf.truncate(buf.len_in_slots(filler.space()));
            if !buf.is_empty() {
                Sink::push(filler, buf);
            }
            break;
        }
    }

    /// Returns whether there are no buffers.
    pub(super) fn is_empty(&self) -> bool {
        self.bufs.is_empty()
    }

    /// Adds `buf` to the list. There must be room.
    fn add(&mut self, buf: PipeBuffer) {
        self.space = self.space.saturating_sub(buf.slots());
        // The vector has room for it: each buffer takes at least one slot, and the capacity is the
        // number of slots.
        let _ = self.bufs.push_within_capacity(buf);
    }
}

impl Sink for Gathered {
    fn space(&self) -> u32 {
        self.space
    }

    fn push(&mut self, buf: PipeBuffer) {
        let slots = buf.slots();
        // A page fault can split the lookup of one contiguous range. Join the parts again.
        let Some(last) = self.bufs.last_mut() else {
            return self.add(buf);
        };
        match last.append(buf) {
            Ok(()) => self.space = self.space.saturating_sub(slots),
            Err(buf) => self.add(buf),
        }
    }

    fn push_small_pages(&mut self, ranges: &mut UserRanges, range: UserRange) -> UserRange {
        let mut left = range;
        ranges.take_small_pages(self.space, |page| {
            let buf = PipeBuffer::from_user(page, left);
            left = left.skip(buf.len());
            self.add(buf);
        });
        left
    }
}
