// SPDX-License-Identifier: GPL-2.0

//! Room in a ring, and buffers that are being added to it.

use super::{
    buffer::PipeBuffer,
    index::Indices,
    ring::{PipeRing, Slots},
};
use crate::prelude::*;
use core::{mem::ManuallyDrop, ptr};

impl PipeRing<'_> {
    /// Adds buffers from `bufs` until there is no room or the iterator ends. Returns the number of
    /// buffers and of bytes that were added.
    ///
    /// If the ring is full, `bufs.next()` is not called, so that no buffer is lost.
    ///
    /// The caller wakes the readers, and has checked that the pipe has a reader. A buffer that
    /// takes more slots than are free is cut; the source keeps the data that the number of bytes
    /// does not count.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe, DEFAULT_BUFFERS};
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// // One buffer more than the pipe has slots.
    /// let mut made = KVec::new();
    /// for _ in 0..=DEFAULT_BUFFERS {
    ///     let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10)?;
    ///     made.push(buf, GFP_KERNEL)?;
    /// }
    /// let mut bufs = made.into_iter();
    /// let slots = ring.space() as usize;
    /// assert_eq!(ring.append(&mut bufs), (slots, 10 * slots));
    /// // The iterator still owns the buffers that did not fit.
    /// assert_eq!(bufs.count(), DEFAULT_BUFFERS + 1 - slots);
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn append(&mut self, bufs: &mut impl Iterator<Item = PipeBuffer>) -> (usize, usize) {
        let mut filler = self.filler();
        while filler.space() > 0 {
            let Some(mut buf) = bufs.next() else { break };
            if buf.slots() > filler.space() {
                buf.truncate(buf.len_in_slots(filler.space()));
            }
            // The buffer takes no more slots than are free, so this does not fail.
            let _ = filler.push(buf);
        }
        filler.commit()
    }

    /// Starts to add buffers that become visible together, see [`Filler`].
    ///
    /// The ring stays borrowed until the filler is committed or dropped, so the pipe cannot be
    /// unlocked meanwhile.
    #[inline]
    pub fn filler(&mut self) -> Filler<'_> {
        let space = self.space();
        // SAFETY: So many slots are free.
        unsafe { self.filler_of(space) }
    }

    /// Starts to add buffers that take up to `space` slots, for a caller that has reserved them.
    ///
    /// # Safety
    ///
    /// `space` slots from the head on must be free.
    #[inline]
    pub(super) unsafe fn filler_of(&mut self, space: u32) -> Filler<'_> {
        // INVARIANT: No buffer was added yet. The free slots begin at the head, and the caller
        // guarantees that there are `space` of them.
        Filler {
            slots: self.slots(),
            head: self.indices().head(),
            space,
            buffers: 0,
            bytes: 0,
            ring: self.reborrow(),
        }
    }

    /// Returns room for one more buffer, or `None` if the ring is full.
    ///
    /// A caller that cannot undo its work checks for room with this first, then makes the buffer. A
    /// caller that waits for room uses [`wait_for_room`](crate::splice::wait_for_room) before.
    #[inline]
    pub fn vacancy(&mut self) -> Option<Vacancy<'_>> {
        let indices = self.indices();
        if indices.is_full(self.max_usage()) {
            return None;
        }
        // INVARIANT: The ring has at least `max_usage` slots, and fewer of them are in use, so the
        // slot at the head is free.
        Some(Vacancy {
            head: indices.head(),
            ring: self.reborrow(),
        })
    }
}

/// Room for one buffer in a ring. Filling it cannot fail.
///
/// # Invariants
///
/// `head` is the head of `ring`. The slot at the head is free and may be used.
///
/// # Examples
///
/// ```
/// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
///
/// let mut pipe = PrivatePipe::new()?;
/// let mut ring = pipe.ring();
/// let room = ring.space();
/// while let Some(vacancy) = ring.vacancy() {
///     assert!(vacancy.slots() > 0);
///     vacancy.fill(PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 1)?);
/// }
/// assert!(ring.is_full());
/// assert_eq!(ring.indices().occupancy(), room);
/// # Ok::<(), Error>(())
/// ```
pub struct Vacancy<'a> {
    head: u32,
    ring: PipeRing<'a>,
}

impl Vacancy<'_> {
    /// Returns the number of free slots, for buffers of several pages.
    #[inline]
    pub fn slots(&self) -> u32 {
        self.ring.space()
    }

    /// Adds `buf` as the youngest buffer.
    ///
    /// If `buf` takes more slots than are free, it is stored in one slot and counted as one, so
    /// that this never fails.
    ///
    /// The caller wakes the readers.
    #[inline]
    pub fn fill(mut self, buf: PipeBuffer) {
        if buf.slots() > 1 {
            return self.fill_pages(buf);
        }
        // SAFETY: By the type invariant the slot at the head is free. The reference moves with the
        // buffer.
        unsafe {
            ptr::write(self.ring.slot(self.head).as_ptr(), buf.into_raw());
            self.ring.set_head(self.head.wrapping_add(1));
        }
    }

    /// Adds `buf`, which takes several slots. See [`Self::fill`].
    #[cold]
    fn fill_pages(mut self, mut buf: PipeBuffer) {
        if buf.slots() > self.ring.space() {
            buf.count_as_one();
        }
        let slots = buf.slots();
        // SAFETY: `slots` is not larger than the number of free slots, as ensured above; by the
        // type invariant these begin at the head.
        unsafe {
            self.ring.slots().put(self.head, buf, slots);
            self.ring.set_head(self.head.wrapping_add(slots));
        }
    }
}

/// Buffers that are being added to a ring. They are stored behind its head, where readers do not
/// see them, until [`commit`](Self::commit) moves the head. Dropping a filler releases them.
///
/// A call that adds several buffers uses this so that no other data can come between them, and so
/// that it can still fail without a trace.
///
/// # Examples
///
/// ```
/// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
///
/// let mut pipe = PrivatePipe::new()?;
/// let mut ring = pipe.ring();
/// let page = || PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10);
///
/// let mut filler = ring.filler();
/// filler.push(page()?).map_err(|_| EAGAIN)?;
/// drop(filler);
/// assert!(ring.is_empty());
///
/// let mut filler = ring.filler();
/// filler.push(page()?).map_err(|_| EAGAIN)?;
/// filler.push(page()?).map_err(|_| EAGAIN)?;
/// assert_eq!(filler.commit(), (2, 20));
/// assert_eq!(ring.indices().occupancy(), 2);
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// The slots from the head of `ring` up to `head` hold the added buffers: `buffers` of them, with
/// `bytes` bytes. The `space` slots from `head` on are free and may be used.
pub struct Filler<'a> {
    ring: PipeRing<'a>,
    slots: Slots,
    head: u32,
    space: u32,
    buffers: usize,
    bytes: usize,
}

impl Filler<'_> {
    /// Returns the number of free slots that are left.
    #[inline]
    pub fn space(&self) -> u32 {
        self.space
    }

    /// Returns the number of slots that the added buffers take.
    #[inline]
    pub fn used(&self) -> u32 {
        self.head.wrapping_sub(self.ring.indices().head())
    }

    /// Returns whether no buffer was added yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffers == 0
    }

    /// Adds `buf`. Returns `Err(buf)` if there are too few free slots.
    ///
    /// Does not cut a buffer of several pages. The caller cuts it to [`PipeBuffer::len_in_slots`]
    /// of [`Self::space`] before, or keeps it for a later call.
    #[inline(always)]
    pub fn push(&mut self, buf: PipeBuffer) -> Result<(), PipeBuffer> {
        let slots = buf.slots();
        if slots > self.space {
            return Err(buf);
        }
        self.bytes = self.bytes.wrapping_add(buf.len());
        self.buffers = self.buffers.wrapping_add(1);
        // SAFETY: `slots` is at most `space`, and by the type invariant that many slots are free
        // from `head` on.
        unsafe { self.slots.put(self.head, buf, slots) };
        // INVARIANT: The first of the slots holds the buffer, and the counts above include it.
        self.head = self.head.wrapping_add(slots);
        self.space = self.space.wrapping_sub(slots);
        Ok(())
    }

    /// Returns a cursor at the first free slot.
    #[inline(always)]
    pub(crate) fn cursor(&self) -> SlotCursor {
        SlotCursor {
            slots: self.slots,
            head: self.head,
        }
    }

    /// Adds the buffers that were stored through `cursor`, which have `bytes` bytes.
    ///
    /// # Safety
    ///
    /// `cursor` must come from [`Self::cursor`] of this filler, to which nothing was added since.
    #[inline(always)]
    pub(crate) unsafe fn advance_to(&mut self, cursor: SlotCursor, bytes: usize) {
        let added = cursor.head.wrapping_sub(self.head);
        // INVARIANT: Each buffer takes one slot, and the slots up to the cursor hold the buffers.
        self.head = cursor.head;
        self.space = self.space.wrapping_sub(added);
        self.buffers = self.buffers.wrapping_add(added as usize);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// Makes the buffers visible in the ring. Returns the number of buffers and of bytes.
    ///
    /// The caller wakes the readers.
    #[inline]
    pub fn commit(self) -> (usize, usize) {
        let mut this = ManuallyDrop::new(self);
        let head = this.head;
        // SAFETY: By the type invariant the slots up to `head` hold the added buffers.
        unsafe { this.ring.set_head(head) };
        (this.buffers, this.bytes)
    }

    /// Removes the added buffers again and passes them to `f`, oldest first.
    ///
    /// For a caller that has to give up after it made the buffers, for example because the pipe
    /// lost its last reader, and that wants to keep the data.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// let mut filler = ring.filler();
    /// for len in [10, 20] {
    ///     let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, len)?;
    ///     filler.push(buf).map_err(|_| EAGAIN)?;
    /// }
    /// assert_eq!(filler.used(), 2);
    ///
    /// let mut bytes = 0;
    /// filler.take_back(|buf| bytes += buf.len());
    /// assert_eq!(bytes, 30);
    /// assert!(ring.is_empty());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn take_back(self, mut f: impl FnMut(PipeBuffer)) {
        ManuallyDrop::new(self).take_all(&mut f);
    }

    fn take_all(&mut self, f: &mut impl FnMut(PipeBuffer)) {
        let mut left = Indices::new(self.head, self.ring.indices().head());
        while !left.is_empty() {
            let slot = self.slots.at(left.tail()).as_ptr();
            // SAFETY: By the type invariant the first of the slots that are left holds a buffer. It
            // is read once, and the slot is marked empty, so the reference moves.
            let buf = unsafe {
                let buf = ptr::read(slot);
                (*slot).ops = ptr::null();
                PipeBuffer::from_raw(buf)
            };
            left = left.advance_tail(buf.slots());
            f(buf);
        }
    }
}

/// A position in the free slots of a [`Filler`], for loops over many small buffers: a value of its
/// own stays in registers.
pub(crate) struct SlotCursor {
    slots: Slots,
    head: u32,
}

impl SlotCursor {
    /// Stores `buf` in the slot at the cursor, and moves the cursor on.
    ///
    /// # Safety
    ///
    /// `buf` must take one slot. At most [`Filler::space`] buffers may be stored, and nothing else
    /// may add to the filler meanwhile.
    #[inline(always)]
    pub(crate) unsafe fn store(&mut self, buf: PipeBuffer) {
        // SAFETY: The caller guarantees that this is one of the filler's free slots.
        unsafe { self.slots.put(self.head, buf, 1) };
        self.head = self.head.wrapping_add(1);
    }
}

impl Drop for Filler<'_> {
    fn drop(&mut self) {
        self.take_all(&mut drop);
    }
}
