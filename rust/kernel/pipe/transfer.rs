// SPDX-License-Identifier: GPL-2.0

//! References to buffers, and buffers themselves, from one ring into another.

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
            // SAFETY: The slot of `to` is free, by its type invariant, and is in another ring, since
            // both are borrowed. The reference goes along.
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
