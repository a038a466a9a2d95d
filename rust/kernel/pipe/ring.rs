// SPDX-License-Identifier: GPL-2.0

//! The ring of buffers of a pipe.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::{
    buffer::PipeBuffer,
    index::{self, Indices},
};
use crate::{bindings, prelude::*, types::NotThreadSafe};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::{self, NonNull},
};

/// The ring of buffers of a pipe, with exclusive access.
///
/// A buffer takes one slot, or one for each of its pages (see [`PipeBuffer::slots`]). Methods that
/// take or return a number of slots say so.
///
/// # Invariants
///
/// The pipe is valid for `'a`, and nothing else accesses its ring. The slots from tail to head
/// belong to buffers, in order. Each buffer is stored, with its reference, in the first of its
/// [`PipeBuffer::slots`]. All other slots have null operations and hold no buffer.
///
/// # Examples
///
/// ```
/// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
///
/// let mut pipe = PrivatePipe::new()?;
/// let mut ring = pipe.ring();
/// for len in [3000, 1000] {
///     let page = OwnedPage::alloc(GFP_KERNEL)?;
///     let buf = PipeBuffer::from_page(page, 0, len)?;
///     ring.vacancy().ok_or(EAGAIN)?.fill(buf);
/// }
/// assert_eq!(ring.indices().occupancy(), 2);
///
/// // Consumes one buffer and a part of the next.
/// assert!(ring.consume(3100));
/// assert_eq!(ring.front().map(|buf| buf.len()), Some(900));
///
/// let buf = ring.pop_front().ok_or(EAGAIN)?;
/// assert_eq!((buf.offset(), buf.len()), (100, 900));
/// assert!(ring.is_empty());
/// # Ok::<(), Error>(())
/// ```
pub struct PipeRing<'a> {
    pipe: NonNull<bindings::pipe_inode_info>,
    _access: PhantomData<&'a mut ()>,
    _not_send: NotThreadSafe,
}

impl PipeRing<'_> {
    /// Creates a ring from a pointer.
    ///
    /// # Safety
    ///
    /// The pipe must be valid, and while the result exists nothing else may access its ring: the
    /// caller has locked the pipe, or owns it privately.
    #[inline]
    pub unsafe fn from_raw(pipe: *mut bindings::pipe_inode_info) -> Self {
        // INVARIANT: The caller guarantees that the pipe is valid and that access to its ring is
        // exclusive (see `# Safety`).
        Self {
            // SAFETY: The caller guarantees that `pipe` is valid, so it is not null.
            pipe: unsafe { NonNull::new_unchecked(pipe) },
            _access: PhantomData,
            _not_send: NotThreadSafe,
        }
    }

    /// Returns the ring for the lifetime of the borrow of `self`.
    #[inline]
    pub(super) fn reborrow(&mut self) -> PipeRing<'_> {
        // INVARIANT: `self` has exclusive access to the ring, and stays borrowed for the lifetime
        // of the result.
        PipeRing {
            pipe: self.pipe,
            _access: PhantomData,
            _not_send: NotThreadSafe,
        }
    }

    /// Returns the `struct pipe_inode_info`.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::pipe_inode_info {
        self.pipe.as_ptr()
    }

    #[inline]
    fn both_indices(&self) -> *mut bindings::pipe_index__bindgen_ty_1 {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { &raw mut (*bindings::pipe_index_of(self.as_ptr())).__bindgen_anon_1 }
    }

    /// Returns head and tail.
    #[inline]
    pub fn indices(&self) -> Indices {
        // SAFETY: The pipe is valid by the type invariant, and nothing else changes the indices.
        let both = unsafe { *self.both_indices() };
        Indices::new(both.head, both.tail)
    }

    /// Sets the head, which makes the slots before it visible to readers.
    ///
    /// # Safety
    ///
    /// The slots from the tail to `head` must belong to buffers, as the invariant of the type
    /// requires.
    #[inline]
    pub(super) unsafe fn set_head(&mut self, head: u32) {
        // SAFETY: The pipe is valid by the type invariant. Readers without the lock, such as
        // `pipe_poll`, see the old or the new value, because the store is volatile.
        unsafe { (&raw mut (*self.both_indices()).head).write_volatile(head) };
    }

    /// Sets the tail, which gives the slots before it back to writers.
    ///
    /// # Safety
    ///
    /// The slots from `tail` to the head must belong to buffers, as the invariant of the type
    /// requires.
    #[inline]
    pub(super) unsafe fn set_tail(&mut self, tail: u32) {
        // SAFETY: The pipe is valid by the type invariant. Readers without the lock, such as
        // `pipe_poll`, see the old or the new value, because the store is volatile.
        unsafe { (&raw mut (*self.both_indices()).tail).write_volatile(tail) };
    }

    /// Returns the number of slots that may be used. C: `pipe_inode_info::max_usage`.
    ///
    /// At most the number of slots of the ring, which is a power of two. A watch queue uses fewer.
    #[inline]
    pub fn max_usage(&self) -> u32 {
        // SAFETY: The pipe is valid by the type invariant, and the field does not change while the
        // pipe is locked.
        unsafe { (*self.as_ptr()).max_usage }
    }

    /// Returns whether a file has the read end open.
    #[inline]
    pub fn has_readers(&self) -> bool {
        // SAFETY: The pipe is valid by the type invariant, and the field does not change while the
        // pipe is locked.
        unsafe { (*self.as_ptr()).readers != 0 }
    }

    /// Returns whether a file has the write end open.
    #[inline]
    pub fn has_writers(&self) -> bool {
        // SAFETY: The pipe is valid by the type invariant, and the field does not change while the
        // pipe is locked.
        unsafe { (*self.as_ptr()).writers != 0 }
    }

    /// Returns whether a file refers to the pipe. Without files nobody can wait for the pipe, so
    /// that wake-ups can be left out.
    #[inline]
    pub fn has_files(&self) -> bool {
        // SAFETY: The pipe is valid by the type invariant. `i_lock` protects `files`, but as in C
        // it is read without that lock: it does not become zero during a transfer on a pipe with
        // files.
        unsafe { (&raw const (*self.as_ptr()).files).read_volatile() != 0 }
    }

    /// Returns whether the ring holds no buffer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.indices().is_empty()
    }

    /// Returns whether there is no room for another buffer.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.indices().is_full(self.max_usage())
    }

    /// Returns the number of free slots, that is, of further buffers of at most one page.
    #[inline]
    pub fn space(&self) -> u32 {
        self.indices().space(self.max_usage())
    }

    /// Returns the array of slots. It does not move as long as the pipe is locked.
    #[inline]
    pub(super) fn slots(&self) -> Slots {
        // SAFETY: The pipe is valid by the type invariant, and both fields are stable while it is
        // locked.
        let (bufs, size) = unsafe { ((*self.as_ptr()).bufs, (*self.as_ptr()).ring_size) };
        // INVARIANT: C keeps `ring_size` slots in `bufs`, and `ring_size` is a power of two.
        Slots { bufs, size }
    }

    /// Returns the slot that counter value `index` stands for.
    #[inline]
    pub(super) fn slot(&self, index: u32) -> NonNull<bindings::pipe_buffer> {
        self.slots().at(index)
    }

    /// Drops the first `n` bytes of the oldest buffer, which has more than `n`, and frees the slots
    /// of its pages that are used up. Returns whether a slot became free.
    ///
    /// The ring must not be empty.
    #[inline]
    fn advance_front(&mut self, n: usize) -> bool {
        let tail = self.indices().tail();
        let slot = self.slot(tail);
        // SAFETY: All callers have checked that the ring is not empty, so the slot at the tail
        // holds a buffer.
        let buf: &mut PipeBuffer = unsafe { slot.cast().as_mut() };
        let before = buf.slots();
        buf.advance(n);
        if before == 1 {
            return false;
        }
        self.move_front(before - buf.slots())
    }

    /// Moves the oldest buffer to the slot of the page that is now its first, `slots` slots on.
    /// Returns whether it moved.
    #[cold]
    fn move_front(&mut self, slots: u32) -> bool {
        if slots == 0 {
            return false;
        }
        let tail = self.indices().tail();
        let (from, to) = (self.slot(tail), self.slot(tail.wrapping_add(slots)));
        // SAFETY: `to` is one of the further slots of the buffer in `from`, so it is another slot
        // and holds no buffer. The reference moves with the buffer.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), 1);
            (*from.as_ptr()).ops = ptr::null();
            self.set_tail(tail.wrapping_add(slots));
        }
        true
    }

    /// Returns the oldest buffer, or `None` if the ring is empty.
    #[inline]
    pub fn front(&self) -> Option<&PipeBuffer> {
        let indices = self.indices();
        if indices.is_empty() {
            return None;
        }
        // SAFETY: The ring is not empty, so by the type invariant the slot at the tail holds a
        // buffer.
        Some(unsafe { self.slot(indices.tail()).cast().as_ref() })
    }

    /// Splits the first `n` bytes off the oldest buffer, which has more than `n`, and returns them
    /// as a buffer of the same pages. The rest stays in the ring.
    ///
    /// Returns `None` if the ring is empty, and fails as [`PipeBuffer::split_to`] does.
    ///
    /// The caller wakes the writers if [`Self::space`] is larger afterwards: a buffer of several
    /// pages frees the slots of the pages that are split off as a whole.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// assert!(ring.split_front(10).is_none());
    /// let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 100)?;
    /// ring.vacancy().ok_or(EAGAIN)?.fill(buf);
    ///
    /// let first = ring.split_front(10).ok_or(EAGAIN)??;
    /// assert_eq!((first.offset(), first.len()), (0, 10));
    /// assert_eq!(ring.front().map(|buf| (buf.offset(), buf.len())), Some((10, 90)));
    /// // Both parts refer to the page, so neither can be taken over.
    /// assert_eq!(first.folio().ref_count(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn split_front(&mut self, n: usize) -> Option<Result<PipeBuffer>> {
        let indices = self.indices();
        if indices.is_empty() {
            return None;
        }
        // SAFETY: The ring is not empty, so by the type invariant the slot at the tail holds a
        // buffer.
        let buf: &mut PipeBuffer = unsafe { self.slot(indices.tail()).cast().as_mut() };
        // SAFETY: `self` has exclusive access to the pipe by the type invariant.
        let first = unsafe { buf.try_clone_in(self.as_ptr()) };
        Some(first.map(|mut first| {
            first.truncate(n);
            self.advance_front(n);
            first
        }))
    }

    /// Puts `buf` in front of the oldest buffer. Returns `Err(buf)` if there are too few free
    /// slots.
    ///
    /// There is room for a buffer that [`Self::pop_front`] returned if the ring was not unlocked
    /// and nothing else was added since.
    pub fn push_front(&mut self, buf: PipeBuffer) -> Result<(), PipeBuffer> {
        let slots = buf.slots();
        if slots > self.space() {
            return Err(buf);
        }
        let tail = self.indices().tail().wrapping_sub(slots);
        // SAFETY: There are `slots` free slots, so those before the tail are free. Afterwards the
        // first of them holds the buffer.
        unsafe {
            self.slots().put(tail, buf, slots);
            self.set_tail(tail);
        }
        Ok(())
    }

    /// Undoes [`Self::split_front`]: joins `first` with the oldest buffer that it was split off.
    ///
    /// Returns `Err(first)` if `first` does not end where the oldest buffer begins, or if there are
    /// too few free slots.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// for len in [3000, 1000] {
    ///     let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, len)?;
    ///     ring.vacancy().ok_or(EAGAIN)?.fill(buf);
    /// }
    ///
    /// // Take all of one buffer and a part of the next, then put both back in reverse order.
    /// let whole = ring.pop_front().ok_or(EAGAIN)?;
    /// let part = ring.split_front(100).ok_or(EAGAIN)??;
    /// assert_eq!(ring.front().map(|buf| (buf.offset(), buf.len())), Some((100, 900)));
    /// // A buffer of another page cannot be joined.
    /// let whole = ring.unsplit_front(whole).err().ok_or(EINVAL)?;
    /// ring.unsplit_front(part).map_err(|_| EINVAL)?;
    /// assert_eq!(ring.front().map(|buf| (buf.offset(), buf.len())), Some((0, 1000)));
    /// ring.push_front(whole).map_err(|_| EINVAL)?;
    /// assert_eq!(ring.front().map(|buf| (buf.offset(), buf.len())), Some((0, 3000)));
    /// assert_eq!(ring.indices().occupancy(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn unsplit_front(&mut self, first: PipeBuffer) -> Result<(), PipeBuffer> {
        let indices = self.indices();
        if indices.is_empty() {
            return Err(first);
        }
        let space = self.space();
        let from = self.slot(indices.tail());
        // SAFETY: The ring is not empty, so by the type invariant the slot at the tail holds a
        // buffer.
        let front: &mut PipeBuffer = unsafe { from.cast().as_mut() };
        let more = front.prepend(first, space)?;
        if more == 0 {
            return Ok(());
        }
        let tail = indices.tail().wrapping_sub(more);
        // SAFETY: `prepend` checked that there are `more` free slots, so those before the tail are
        // free. The buffer moves, with its reference, to the first of them and takes all slots up
        // to its old end.
        unsafe {
            let buf = PipeBuffer::from_raw(ptr::read(from.as_ptr()));
            (*from.as_ptr()).ops = ptr::null();
            let slots = buf.slots();
            self.slots().put(tail, buf, slots);
            self.set_tail(tail);
        }
        Ok(())
    }

    /// Returns an iterator over the buffers, oldest first.
    ///
    /// The pipe stays locked and the ring unchanged while the iterator or a [`BufferRef`] exists:
    /// both borrow the ring exclusively, also because `->confirm` and `->get` may change a buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// for len in [10, 20] {
    ///     let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, len)?;
    ///     ring.vacancy().ok_or(EAGAIN)?.fill(buf);
    /// }
    /// let mut bytes = 0;
    /// for mut buf in ring.iter() {
    ///     // The contents may be read after this succeeded.
    ///     buf.confirm()?;
    ///     bytes += buf.len();
    /// }
    /// assert_eq!(bytes, 30);
    /// assert_eq!(ring.indices().occupancy(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn iter(&mut self) -> Iter<'_> {
        // INVARIANT: The indices and the slots are those of the ring, whose access is exclusive,
        // and `self` stays borrowed.
        Iter {
            pipe: self.as_ptr(),
            slots: self.slots(),
            left: self.indices(),
            _ring: PhantomData,
        }
    }

    /// Returns an iterator over the buffers in the last `slots` slots, that is, the newest ones. A
    /// buffer of which only a part is in these slots is left out.
    pub fn iter_last(&mut self, slots: u32) -> Iter<'_> {
        let mut iter = self.iter();
        iter.skip_to_last(slots);
        iter
    }

    /// Removes the oldest buffer and returns it, or `None` if the ring is empty.
    ///
    /// The caller owns the buffer and may keep it after the pipe is gone. Wake the writers
    /// afterwards.
    #[inline]
    pub fn pop_front(&mut self) -> Option<PipeBuffer> {
        let indices = self.indices();
        if indices.is_empty() {
            return None;
        }
        // SAFETY: The ring is not empty, so `take_slot` returns a valid buffer together with its
        // reference.
        Some(unsafe { PipeBuffer::from_raw(self.take_slot(indices)) })
    }

    /// Removes the buffer at the tail from its slots.
    ///
    /// # Safety
    ///
    /// `indices` must be those of the ring, which must not be empty. The reference of the buffer
    /// moves to the caller.
    #[inline]
    unsafe fn take_slot(&mut self, indices: Indices) -> bindings::pipe_buffer {
        let slot = self.slot(indices.tail()).as_ptr();
        // `free_pipe_info` recognizes an empty slot by its null operations.
        // SAFETY: By the type invariant the slot at the tail holds a buffer; it is read once and
        // then marked empty.
        unsafe {
            let buf = ptr::read(slot);
            (*slot).ops = ptr::null();
            let slots = (&*slot.cast::<PipeBuffer>()).slots();
            self.set_tail(indices.advance_tail(slots).tail());
            buf
        }
    }

    /// Releases the oldest buffer, if there is one.
    ///
    /// Unlike [`Self::pop_front`] followed by a drop, this passes the pipe to `->release`, so that
    /// the pipe may keep the page for its next `write(2)`.
    #[inline]
    pub fn release_front(&mut self) {
        let indices = self.indices();
        if !indices.is_empty() {
            // SAFETY: `indices` were read above, and the ring is not empty.
            unsafe { self.release_slot(indices) };
        }
    }

    /// Releases the buffer at the tail. C: `pipe_buf_release`.
    ///
    /// # Safety
    ///
    /// `indices` must be those of the ring, which must not be empty.
    #[inline]
    unsafe fn release_slot(&mut self, indices: Indices) {
        // SAFETY: By the type invariant the slot at the tail holds a buffer. `pipe_buf_release`
        // empties the slot before the tail moves past it.
        unsafe {
            let slot = self.slot(indices.tail()).as_ptr();
            let slots = (&*slot.cast::<PipeBuffer>()).slots();
            bindings::pipe_buf_release(self.as_ptr(), slot);
            self.set_tail(indices.advance_tail(slots).tail());
        }
    }

    /// Releases the oldest buffer if it has no bytes. Returns whether it did.
    #[inline]
    pub fn release_empty_front(&mut self) -> bool {
        let is_empty = self.front().is_some_and(|buf| buf.is_empty());
        if is_empty {
            self.release_front();
        }
        is_empty
    }

    /// Drops the first `n` bytes, or all if there are fewer, and releases the buffers that are used
    /// up. Returns whether a slot became free.
    ///
    /// The caller wakes the writers if this returns `true`.
    ///
    /// For a transfer that first reads the bytes of several buffers in one call of a file or a
    /// socket, and then learns how many were taken.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// for len in [10, 20] {
    ///     let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, len)?;
    ///     ring.vacancy().ok_or(EAGAIN)?.fill(buf);
    /// }
    /// // A part of a buffer frees no slot, so no writer can go on.
    /// assert!(!ring.consume(4));
    /// assert!(ring.consume(6));
    /// assert_eq!(ring.front().map(|buf| buf.len()), Some(20));
    /// // A number beyond the data stops at the end of the ring.
    /// assert!(ring.consume(usize::MAX));
    /// assert!(ring.is_empty());
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn consume(&mut self, mut n: usize) -> bool {
        let slots = self.slots();
        let indices = self.indices();
        let mut tail = indices.tail();
        while n > 0 && tail != indices.head() {
            let slot = slots.at(tail);
            // SAFETY: `tail` differs from the head, so by the type invariant its slot holds a
            // buffer.
            let buf: &mut PipeBuffer = unsafe { slot.cast().as_mut() };
            if n < buf.len() {
                self.advance_front(n);
                break;
            }
            n -= buf.len();
            tail = tail.wrapping_add(buf.slots());
            // SAFETY: `slot` holds the buffer at the tail. `pipe_buf_release` empties it before the
            // tail moves past it.
            unsafe {
                bindings::pipe_buf_release(self.as_ptr(), slot.as_ptr());
                self.set_tail(tail);
            }
        }
        self.indices().tail() != indices.tail()
    }

    /// Passes the buffers to `f`, oldest first, until `f` stops or the ring is empty. The pipe
    /// stays locked.
    ///
    /// `f` returns the number of bytes that it used. A buffer that is used up is released; the rest
    /// of another one is passed to `f` again.
    ///
    /// Returns `Ok(true)` if the ring is empty, `Ok(false)` if `f` returned `Ok(None)` or used no
    /// bytes, and the error of `f` otherwise. In each case `room` is set to `true` if a slot became
    /// free.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// for len in [10, 20] {
    ///     let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, len)?;
    ///     ring.vacancy().ok_or(EAGAIN)?.fill(buf);
    /// }
    ///
    /// // Take 15 bytes: all of the first buffer, and a part of the second.
    /// let mut left = 15;
    /// let mut room = false;
    /// let empty = ring.drain(
    ///     |buf| {
    ///         let used = buf.len().min(left);
    ///         left -= used;
    ///         Ok(Some(used))
    ///     },
    ///     &mut room,
    /// )?;
    /// assert!(!empty && room);
    /// assert_eq!(ring.front().map(|buf| buf.len()), Some(15));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline(always)]
    pub fn drain(
        &mut self,
        mut f: impl FnMut(BufferRef<'_>) -> Result<Option<usize>>,
        room: &mut bool,
    ) -> Result<bool> {
        let before = self.indices().tail();
        let ret = self.drain_all(&mut f);
        *room |= self.indices().tail() != before;
        ret
    }

    #[inline(always)]
    fn drain_all(
        &mut self,
        f: &mut impl FnMut(BufferRef<'_>) -> Result<Option<usize>>,
    ) -> Result<bool> {
        let slots = self.slots();
        let (mut tail, head) = (self.indices().tail(), self.indices().head());
        while tail != head {
            let slot = slots.at(tail);
            // SAFETY: `tail` differs from the head, so by the type invariant its slot holds a
            // buffer.
            let buf: &mut PipeBuffer = unsafe { slot.cast().as_mut() };
            let len = buf.len();
            // INVARIANT: `buf` is in the ring of this pipe, which is borrowed and not accessed
            // otherwise while `f` runs.
            let used = f(BufferRef {
                pipe: self.as_ptr(),
                buf,
            })?;
            let Some(used @ 1..) = used else {
                return Ok(false);
            };
            if used < len {
                // `f` gets the rest of the buffer in the next round.
                if self.advance_front(used) {
                    tail = self.indices().tail();
                }
                continue;
            }
            // SAFETY: `slot` holds the buffer at the tail. `pipe_buf_release` empties it before the
            // tail moves past it.
            unsafe {
                tail = tail.wrapping_add(slot.cast::<PipeBuffer>().as_ref().slots());
                bindings::pipe_buf_release(self.as_ptr(), slot.as_ptr());
                self.set_tail(tail);
            }
        }
        Ok(true)
    }

    /// Splits each buffer that takes several slots into buffers of one page, one for each slot.
    ///
    /// This is for C code that does not expect more than one page in a buffer. A buffer that
    /// [counts as one slot](Vacancy::fill) is left as it is.
    ///
    /// Returns [`EFAULT`] if a page cannot get another reference. Some buffers may have been split
    /// by then; no data is lost.
    ///
    /// No slot is allocated: a buffer already takes one slot for each page, and only the first of
    /// them holds a buffer before this call.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10)?;
    /// ring.vacancy().ok_or(EAGAIN)?.fill(buf);
    /// let before = ring.indices();
    /// ring.split_to_pages()?;
    /// // The occupancy never changes, so waiting tasks need not be woken.
    /// assert_eq!(ring.indices(), before);
    /// assert!(ring.iter().all(|buf| buf.slots() == 1));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn split_to_pages(&mut self) -> Result {
        self.split_last_to_pages(self.indices().occupancy())
    }

    /// Does the same as [`Self::split_to_pages`] for the buffers in the last `last` slots, see
    /// [`Self::iter_last`].
    pub fn split_last_to_pages(&mut self, last: u32) -> Result {
        let slots = self.slots();
        let indices = self.iter_last(last).left;
        let mut index = indices.tail();
        while index != indices.head() {
            // SAFETY: By the type invariant `index` is the first slot of a buffer.
            let buf: &mut PipeBuffer = unsafe { slots.at(index).cast().as_mut() };
            let end = index.wrapping_add(buf.slots());
            // Begin with the last page, so that `buf` never has more bytes than its slots stand
            // for.
            let mut at = end;
            while buf.slots() > 1 {
                at = at.wrapping_sub(1);
                let last = buf.split_last_page()?;
                // SAFETY: `at` was the last slot of `buf`. `split_last_page` took the page of this
                // slot off `buf`, so that the slot is free for the new buffer.
                unsafe { ptr::write(slots.at(at).as_ptr(), last.into_raw()) };
            }
            index = end;
        }
        Ok(())
    }

    /// Releases all buffers.
    #[inline]
    pub fn clear(&mut self) {
        while !self.is_empty() {
            self.release_front();
        }
    }

    /// Sleeps until the pipe has data or no writer, or until a signal arrives. The pipe is unlocked
    /// while this sleeps. C: `pipe_wait_readable`.
    ///
    /// The caller checks the state of the ring and the signals again afterwards.
    ///
    /// Returns at once for a [`PrivatePipe`](super::PrivatePipe), which has no writer.
    #[inline]
    pub fn wait_readable(&mut self) {
        // SAFETY: The pipe is valid by the type invariant, and locked or private. This borrows the
        // whole ring, so no reference into it is in use while the pipe is unlocked.
        unsafe { bindings::pipe_wait_readable(self.as_ptr()) };
    }

    /// Sleeps until the pipe has room or no reader, or until a signal arrives. The pipe is unlocked
    /// while this sleeps. C: `pipe_wait_writable`.
    ///
    /// The caller checks the state of the ring and the signals again afterwards.
    ///
    /// Do not call this for a full [`PrivatePipe`](super::PrivatePipe): it counts as having a
    /// reader, but nobody else can make room, so only a signal would end the wait.
    #[inline]
    pub fn wait_writable(&mut self) {
        // SAFETY: The pipe is valid by the type invariant, and locked or private. This borrows the
        // whole ring, so no reference into it is in use while the pipe is unlocked.
        unsafe { bindings::pipe_wait_writable(self.as_ptr()) };
    }

    /// Runs `f` with the pipe unlocked, and locks the pipe again. `f` may sleep.
    ///
    /// Others may change the contents and the size of the pipe meanwhile, unless it is a private
    /// one.
    ///
    /// The exclusive borrow of the ring ensures that no reference to a buffer in it exists
    /// meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// // Allocate without holding up other users of the pipe, then check for room again.
    /// let page = ring.unlocked(|| OwnedPage::alloc(GFP_KERNEL))?;
    /// let vacancy = ring.vacancy().ok_or(EAGAIN)?;
    /// vacancy.fill(PipeBuffer::from_page(page, 0, 10)?);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        // SAFETY: The pipe is valid by the type invariant, and locked, or private, in which case
        // neither call does anything. This borrows the whole ring, so no reference into it is in
        // use meanwhile.
        unsafe { bindings::pipe_unlock(self.as_ptr()) };
        let ret = f();
        // SAFETY: The pipe is still valid: it is valid for the lifetime of `self` by the type
        // invariant.
        unsafe { bindings::pipe_lock(self.as_ptr()) };
        ret
    }

    /// Wakes the readers, see [`Pipe::wake_readers`]. The pipe stays locked.
    pub fn wake_readers(&mut self) {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { bindings::pipe_wake_readers(self.as_ptr()) };
    }

    /// Wakes the writers, see [`Pipe::wake_writers`]. The pipe stays locked.
    pub fn wake_writers(&mut self) {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { bindings::pipe_wake_writers(self.as_ptr()) };
    }
}

/// Splits the buffers of a pipe that take several slots, see [`PipeRing::split_to_pages`]. C code
/// that expects at most one page in a buffer calls this.
///
/// Returns 0, or `-EFAULT` if a page cannot get another reference.
///
/// # Safety
///
/// `pipe` must be valid and locked.
#[export]
unsafe extern "C" fn pipe_split_to_pages(pipe: *mut bindings::pipe_inode_info) -> c_int {
    // SAFETY: The caller guarantees that the pipe is valid and locked, so nothing else accesses its
    // ring.
    let ret = unsafe { PipeRing::from_raw(pipe) }.split_to_pages();
    ret.map_or_else(Error::to_errno, |()| 0)
}

/// The array of slots of a ring.
///
/// # Invariants
///
/// `bufs` has `size` slots, a power of two.
#[derive(Clone, Copy)]
pub(super) struct Slots {
    bufs: *mut bindings::pipe_buffer,
    size: u32,
}

impl Slots {
    /// Returns the slot that counter value `index` stands for.
    #[inline]
    pub(super) fn at(self, index: u32) -> NonNull<bindings::pipe_buffer> {
        // SAFETY: `index::slot` returns a number below `size`, so the pointer stays inside the
        // array and is not null.
        unsafe { NonNull::new_unchecked(self.bufs.add(index::slot(index, self.size))) }
    }

    /// Stores `buf`, which takes `slots` slots, in the slots from `index` on.
    ///
    /// # Safety
    ///
    /// These slots must be free, and nothing else may access them.
    #[inline]
    pub(super) unsafe fn put(self, index: u32, buf: PipeBuffer, slots: u32) {
        // SAFETY: The caller guarantees that the slot is free, so no buffer is overwritten. The
        // reference moves with the buffer.
        unsafe { ptr::write(self.at(index).as_ptr(), buf.into_raw()) };
        if slots > 1 {
            // `write(2)` reads the flags in the last slot to find out whether it can append.
            // SAFETY: The caller guarantees that all `slots` slots are free and not accessed by
            // others.
            unsafe { (*self.at(index.wrapping_add(slots - 1)).as_ptr()).flags = 0 };
        }
    }
}

/// An iterator over the buffers of a ring, oldest first.
///
/// # Invariants
///
/// `slots` are those of `pipe`, and nothing else accesses its ring for `'a`. The slots in `left`
/// belong to buffers, and the first of them holds one.
pub struct Iter<'a> {
    pipe: *mut bindings::pipe_inode_info,
    slots: Slots,
    left: Indices,
    _ring: PhantomData<&'a mut ()>,
}

impl Iter<'_> {
    /// Skips buffers until at most `slots` slots are left.
    fn skip_to_last(&mut self, slots: u32) {
        while self.left.occupancy() > slots {
            // SAFETY: `left` is not empty, so by the type invariant its first slot holds a buffer.
            let buf: &PipeBuffer = unsafe { self.slots.at(self.left.tail()).cast().as_ref() };
            self.left = self.left.advance_tail(buf.slots());
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = BufferRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<BufferRef<'a>> {
        if self.left.is_empty() {
            return None;
        }
        // SAFETY: `left` is not empty, so by the type invariant its first slot holds a buffer.
        let buf: &mut PipeBuffer = unsafe { self.slots.at(self.left.tail()).cast().as_mut() };
        self.left = self.left.advance_tail(buf.slots());
        // INVARIANT: By the invariant of `Iter` nothing else accesses the ring for `'a`, and each
        // buffer is returned once.
        Some(BufferRef {
            pipe: self.pipe,
            buf,
        })
    }
}

/// A buffer in a ring.
///
/// Unlike a [`PipeBuffer`] it knows the pipe that it is in, which some operations need.
///
/// # Invariants
///
/// `buf` is in the ring of `pipe`, or in no ring. Nothing else accesses either for `'a`.
pub struct BufferRef<'a> {
    pipe: *mut bindings::pipe_inode_info,
    buf: &'a mut PipeBuffer,
}

impl<'a> BufferRef<'a> {
    /// Waits until the contents can be read. May sleep; the pipe stays locked. C:
    /// `pipe_buf_confirm`.
    ///
    /// # Errors
    ///
    /// - [`ENODATA`]: the contents are gone, for example because the file was truncated. A transfer
    ///   ends here, as at the end of a file.
    /// - Others: reading the page from its file failed.
    #[inline]
    pub fn confirm(&mut self) -> Result {
        // SAFETY: By the type invariant the buffer is in this pipe, to which access is exclusive.
        let ret = unsafe { bindings::pipe_buf_confirm(self.pipe, self.buf.as_raw()) };
        if ret != 0 {
            return Err(Error::from_errno(ret));
        }
        Ok(())
    }

    /// Does the same as [`Self::confirm`], but inlines the checks that most buffers pass. For loops
    /// over many buffers.
    #[inline]
    pub fn confirm_inline(&mut self) -> Result {
        if self.buf.is_good() {
            return Ok(());
        }
        self.confirm()
    }

    /// Returns a second buffer for the same bytes, see [`PipeBuffer::try_clone`].
    #[inline]
    pub fn try_clone(&mut self) -> Result<PipeBuffer> {
        // SAFETY: By the type invariant the buffer is in this pipe, to which access is exclusive.
        unsafe { self.buf.try_clone_in(self.pipe) }
    }

    /// Puts `buf` in the place of this buffer, which is released. Both must take one slot;
    /// otherwise `buf` is dropped and nothing changes.
    pub fn replace(self, buf: PipeBuffer) {
        if self.buf.slots() == 1 && buf.slots() == 1 {
            *self.buf = buf;
        }
    }

    /// Returns another buffer, which is in no ring, together with the pipe of this one. For a
    /// consumer that takes `buf` in place of this buffer.
    #[inline]
    pub fn with<'b>(&'b self, buf: &'b mut PipeBuffer) -> BufferRef<'b> {
        // INVARIANT: `self` has exclusive access to the ring and stays borrowed. `buf` is borrowed
        // exclusively, and its owner is not a ring.
        BufferRef {
            pipe: self.pipe,
            buf,
        }
    }

    /// Returns the buffer for the lifetime of the borrow of the ring.
    #[inline]
    pub fn into_buffer(self) -> &'a PipeBuffer {
        self.buf
    }

    /// Returns the C pipe and buffer, for a C function that takes both.
    #[inline]
    pub(crate) fn as_raw(
        &mut self,
    ) -> (*mut bindings::pipe_inode_info, *mut bindings::pipe_buffer) {
        (self.pipe, self.buf.as_raw())
    }
}

impl Deref for BufferRef<'_> {
    type Target = PipeBuffer;

    #[inline]
    fn deref(&self) -> &PipeBuffer {
        self.buf
    }
}
