// SPDX-License-Identifier: GPL-2.0

//! References to buffers, and buffers themselves, from one ring into another.
//!
//! These are the inner loops of `splice(2)` between two pipes and of `tee(2)`. Nearly all buffers
//! take one slot. A loop of their own from slot to slot takes two thirds of the instructions of a
//! [`PipeRing::pop_front`] and a [`Vacancy::fill`](super::Vacancy::fill) for each buffer.
//!
//! Both rings are borrowed exclusively, so they belong to different pipes, and both pipes are
//! locked or private. Nothing here sleeps, and nobody is woken: the caller does that after it has
//! unlocked both pipes.

use super::{
    buffer::PipeBuffer,
    index::Indices,
    ring::PipeRing, //
};
use crate::prelude::*;
use core::ptr;

impl PipeRing<'_> {
    /// Puts references to the oldest buffers into `to`, until `most` bytes are reached or `to` is
    /// full. Returns the numbers of buffers and of bytes.
    ///
    /// Fails with [`EFAULT`] if the first buffer cannot have another reference. `most` is not 0.
    ///
    /// The bytes are not consumed. The last buffer is cut if it exceeds `most`. A buffer that takes
    /// several slots is cut where `to` is full, so that the number of bytes that fit does not
    /// depend on how contiguous the memory is.
    ///
    /// If a later buffer cannot have another reference, the buffers before it stay linked, and the
    /// numbers are theirs. C: the loop in `link_pipe`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let (mut from, mut to) = (PrivatePipe::new()?, PrivatePipe::new()?);
    /// let (mut from, mut to) = (from.ring(), to.ring());
    /// for len in [3000, 1000] {
    ///     let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, len)?;
    ///     from.vacancy().ok_or(EAGAIN)?.fill(buf);
    /// }
    ///
    /// // The second buffer is linked in part.
    /// assert_eq!(from.link_buffers(&mut to, 3100)?, (2, 3100));
    /// assert!(to.iter().map(|buf| buf.len()).eq([3000, 100]));
    /// // Nothing was consumed. Each page has two references now.
    /// assert!(from.iter().map(|buf| buf.len()).eq([3000, 1000]));
    /// assert!(from.iter().all(|buf| buf.folio().ref_count() == 2));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline(always)]
    pub fn link_buffers(&mut self, to: &mut PipeRing<'_>, most: usize) -> Result<(usize, usize)> {
        let (indices, to_indices) = (self.indices(), to.indices());
        let (from, slots) = (self.slots(), to.slots());
        // In local variables: the compiler cannot tell that the slots do not overlap with them.
        let count = indices.occupancy().min(to_indices.space(to.max_usage()));
        let (mut left, mut linked) = (most, 0);
        let done = loop {
            if linked == count {
                break true;
            }
            let source = from.at(indices.tail().wrapping_add(linked));
            // SAFETY: The slot holds a buffer, by the type invariant.
            let buf: &mut PipeBuffer = unsafe { source.cast().as_mut() };
            if buf.is_of_pages() {
                break false;
            }
            // SAFETY: By the type invariant.
            let Ok(mut copy) = (unsafe { buf.try_clone_in(self.as_ptr()) }) else {
                break false;
            };
            copy.truncate(left);
            left = left.wrapping_sub(copy.len());
            // SAFETY: No more slots are filled than are free, by the type invariant of `to`.
            unsafe { slots.put(to_indices.head().wrapping_add(linked), copy, 1) };
            linked = linked.wrapping_add(1);
            if left == 0 {
                break true;
            }
        };
        // SAFETY: As many slots from the head on hold the copies now.
        unsafe { to.set_head(to_indices.advance_head(linked).head()) };
        let (linked, bytes) = (linked as usize, most.wrapping_sub(left));
        if done {
            return Ok((linked, bytes));
        }
        // CAST: From a u32.
        match self.link_any(indices.advance_tail(linked as u32), to, left) {
            Ok((more, more_bytes)) => Ok((linked + more, bytes + more_bytes)),
            Err(_) if linked > 0 => Ok((linked, bytes)),
            Err(err) => Err(err),
        }
    }

    /// As [`Self::link_buffers`], for the buffers in `unread`, a part of the ring, some of which
    /// take several slots.
    ///
    /// Stops at the first buffer that cannot have another reference. The copies before it stay.
    #[cold]
    #[inline(never)]
    fn link_any(
        &mut self,
        mut unread: Indices,
        to: &mut PipeRing<'_>,
        most: usize,
    ) -> Result<(usize, usize)> {
        let mut filler = to.filler();
        let mut left = most;
        let mut ret = Ok(());
        while left > 0 && filler.space() > 0 && !unread.is_empty() {
            // SAFETY: The slot holds a buffer, by the type invariant.
            let buf: &mut PipeBuffer = unsafe { self.slot(unread.tail()).cast().as_mut() };
            unread = unread.advance_tail(buf.slots());
            // SAFETY: By the type invariant.
            match unsafe { buf.try_clone_in(self.as_ptr()) } {
                Ok(mut copy) => {
                    copy.truncate(left.min(copy.len_in_slots(filler.space())));
                    left = left.wrapping_sub(copy.len());
                    // It was cut to the slots that are free.
                    let _ = filler.push(copy);
                }
                Err(err) => {
                    ret = Err(err);
                    break;
                }
            }
        }
        match filler.commit() {
            (0, _) => ret.map(|()| (0, 0)),
            linked => Ok(linked),
        }
    }

    /// Moves the oldest buffers to `to`, until `to` is full, or the next buffer takes several slots
    /// or would exceed `most` bytes. Returns the numbers of buffers and of bytes.
    ///
    /// This moves whole buffers only. If bytes are left to move, and both a buffer and a free slot
    /// are left, the caller moves or splits the next buffer itself and calls this again. An empty
    /// buffer moves as well, as long as `most` is not reached.
    ///
    /// Moving cannot fail, because no reference is taken. C: the loop in `splice_pipe_to_pipe`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let (mut from, mut to) = (PrivatePipe::new()?, PrivatePipe::new()?);
    /// let (mut from, mut to) = (from.ring(), to.ring());
    /// for len in [3000, 1000] {
    ///     let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, len)?;
    ///     from.vacancy().ok_or(EAGAIN)?.fill(buf);
    /// }
    ///
    /// // The second buffer would exceed the limit, so it stays.
    /// assert_eq!(from.move_buffers(&mut to, 3100), (1, 3000));
    /// assert_eq!(from.front().map(|buf| buf.len()), Some(1000));
    ///
    /// // The page moved together with its only reference.
    /// let buf = to.pop_front().ok_or(EAGAIN)?;
    /// assert_eq!((buf.len(), buf.folio().ref_count()), (3000, 1));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline(always)]
    pub fn move_buffers(&mut self, to: &mut PipeRing<'_>, most: usize) -> (usize, usize) {
        let (indices, to_indices) = (self.indices(), to.indices());
        let (from, slots) = (self.slots(), to.slots());
        // In local variables, as in `link_buffers`.
        let count = indices.occupancy().min(to_indices.space(to.max_usage()));
        let (mut left, mut moved) = (most, 0);
        while moved < count && left > 0 {
            let source = from.at(indices.tail().wrapping_add(moved));
            // SAFETY: The slot holds a buffer, by the type invariant.
            let buf: &PipeBuffer = unsafe { source.cast().as_ref() };
            if buf.is_of_pages() || buf.len() > left {
                break;
            }
            left = left.wrapping_sub(buf.len());
            // SAFETY: The slot of `to` is free, by its type invariant, and is in another ring,
            // since both are borrowed. The reference goes along.
            unsafe {
                let dest = slots.at(to_indices.head().wrapping_add(moved));
                ptr::copy_nonoverlapping(source.as_ptr(), dest.as_ptr(), 1);
                (*source.as_ptr()).ops = ptr::null();
            }
            moved = moved.wrapping_add(1);
        }
        // SAFETY: As many buffers were moved, and took one slot each.
        unsafe {
            self.set_tail(indices.advance_tail(moved).tail());
            to.set_head(to_indices.advance_head(moved).head());
        }
        (moved as usize, most.wrapping_sub(left))
    }
}
