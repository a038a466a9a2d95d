// SPDX-License-Identifier: GPL-2.0

//! Pipes and the buffers in them.
//!
//! - [`Pipe`]: a pipe that somebody keeps alive. Locking it gives a
//! - [`PipeGuard`], through which alone one gets at its
//! - [`PipeRing`]: the buffers, oldest first, each one a
//! - [`PipeBuffer`], which owns one reference to a piece of memory.
//!
//! A [`PrivatePipe`] belongs to one task, or driver, and needs no lock.
//!
//! # Locking
//!
//! The pipe's mutex guards the ring. Two of them are taken in address order, by
//! [`Pipe::lock_both`]. It nests inside of freeze protection (`file_start_write`), and inside of
//! what a file system takes before it hands a pipe on (overlayfs its inode's lock); everything
//! that reading or writing the file at the other end takes nests inside of it.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use crate::{
    bindings,
    fs::LocalFile,
    mm::gup::{UserRange, UserRanges},
    prelude::*,
    splice::notify::Notifications,
    sync::{Arc, ArcBorrow},
    types::NotThreadSafe, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{self, NonNull},
};

mod buffer;
mod ops;
mod ring;
mod user;

pub use buffer::{BufferFlag, BufferFlags, OwnedFolio, OwnedPage, PipeBuffer, Provenance};
pub use ops::{OpsTable, PipeBufOperations, PipeBufferOps, Stolen};
pub use ring::Indices;

/// How many buffers a pipe can hold, unless its size was changed. C: `PIPE_DEF_BUFFERS`.
pub const DEFAULT_BUFFERS: usize = bindings::PIPE_DEF_BUFFERS as usize;

/// A pipe that is kept alive by something else for `'a`, such as an open file.
///
/// # Invariants
///
/// `pipe` is a valid `struct pipe_inode_info` for `'a`. Where no file refers to it, so that its
/// mutex is not used, this is the only handle by which it is reached during `'a`.
pub struct Pipe<'a> {
    pipe: NonNull<bindings::pipe_inode_info>,
    _alive: PhantomData<&'a ()>,
}

impl<'a> Pipe<'a> {
    /// Makes a handle from a pointer.
    ///
    /// # Safety
    ///
    /// `pipe` is valid for `'a`. Where no file refers to the pipe, nothing else accesses it during
    /// `'a`.
    #[inline]
    pub unsafe fn from_raw(pipe: *mut bindings::pipe_inode_info) -> Self {
        // INVARIANT: By the caller's promise.
        Self {
            // SAFETY: A valid pointer is not null.
            pipe: unsafe { NonNull::new_unchecked(pipe) },
            _alive: PhantomData,
        }
    }

    /// The pipe that `file` is an end of, if it is one that can be spliced from and to: a
    /// notification pipe (`O_NOTIFICATION_PIPE`) is not. C: `get_pipe_info`.
    #[inline]
    pub fn of_file(file: &'a LocalFile) -> Option<Self> {
        // SAFETY: The file is valid.
        let pipe = unsafe { bindings::get_pipe_info(file.as_ptr(), true) };
        // INVARIANT: The file keeps its pipe for `'a`, and is counted in the pipe's `files`.
        Some(Self {
            pipe: NonNull::new(pipe)?,
            _alive: PhantomData,
        })
    }

    /// The C pipe.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::pipe_inode_info {
        self.pipe.as_ptr()
    }

    /// Whether both are the same pipe.
    #[inline]
    pub fn is_same(&self, other: &Pipe<'_>) -> bool {
        self.pipe == other.pipe
    }

    /// Locks the pipe; sleeps until it can. C: `pipe_lock`.
    #[inline]
    pub fn lock(&mut self) -> PipeGuard<'_> {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { bindings::pipe_lock(self.as_ptr()) };
        // INVARIANT: Locked just now; where there is no file, the borrow of the only handle is
        // what excludes others.
        PipeGuard {
            pipe: self.pipe,
            _handle: PhantomData,
            _not_send: NotThreadSafe,
        }
    }

    /// Locks the pipe if that does not have to wait. The pipe is one that a file refers to.
    pub fn try_lock(&mut self) -> Option<PipeGuard<'_>> {
        // SAFETY: The pipe is valid by the type invariant.
        if unsafe { bindings::mutex_trylock(&raw mut (*self.as_ptr()).mutex) } == 0 {
            return None;
        }
        // INVARIANT: Locked just now.
        Some(PipeGuard {
            pipe: self.pipe,
            _handle: PhantomData,
            _not_send: NotThreadSafe,
        })
    }

    /// Locks two pipes, in address order whatever the order of the arguments, so that two tasks
    /// doing this in opposite directions cannot deadlock. C: `pipe_double_lock`.
    ///
    /// Fails with [`EINVAL`] where both are the same pipe.
    #[inline]
    pub fn lock_both<'g>(
        first: &'g mut Pipe<'_>,
        second: &'g mut Pipe<'_>,
    ) -> Result<(PipeGuard<'g>, PipeGuard<'g>)> {
        if first.is_same(second) {
            return Err(EINVAL);
        }
        // SAFETY: Both are valid by the type invariant, and not the same.
        unsafe { bindings::pipe_double_lock(first.as_ptr(), second.as_ptr()) };
        // INVARIANT: As in `lock`, for each.
        let guard = |pipe: NonNull<bindings::pipe_inode_info>| PipeGuard {
            pipe,
            _handle: PhantomData,
            _not_send: NotThreadSafe,
        };
        Ok((guard(first.pipe), guard(second.pipe)))
    }

    /// Head and tail at this moment, without the lock: out of date as soon as they are read.
    #[inline]
    pub fn indices_unlocked(&self) -> Indices {
        // SAFETY: The pipe is valid, and the union has a view of itself as one integer, so that
        // both counters are of the same moment.
        let head_tail = unsafe {
            (&raw const (*bindings::pipe_index_of(self.as_ptr())).head_tail).read_volatile()
        };
        let both = bindings::pipe_index { head_tail };
        // SAFETY: Any bits are good as two integers.
        let both = unsafe { both.__bindgen_anon_1 };
        Indices::new(both.head, both.tail)
    }

    /// Whether the pipe is empty at this moment, without the lock.
    #[inline]
    pub fn seems_empty(&self) -> bool {
        self.indices_unlocked().is_empty()
    }

    /// Whether the pipe is full at this moment, without the lock.
    #[inline]
    pub fn seems_full(&self) -> bool {
        self.indices_unlocked().is_full(self.max_usage_unlocked())
    }

    /// How many buffers the pipe may hold at this moment, without the lock.
    #[inline]
    pub fn max_usage_unlocked(&self) -> u32 {
        // SAFETY: The pipe is valid; the limit may change at any time.
        unsafe { (&raw const (*self.as_ptr()).max_usage).read_volatile() }
    }

    /// Tells those waiting for data, in `read(2)`, `poll(2)` or by `SIGIO`, that there is some.
    /// The pipe need not be locked.
    #[inline]
    pub fn wake_readers(&self) {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { bindings::pipe_wake_readers(self.as_ptr()) };
    }

    /// Tells those waiting for room, in `write(2)`, `poll(2)` or by `SIGIO`, that there is some.
    /// The pipe need not be locked.
    #[inline]
    pub fn wake_writers(&self) {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { bindings::pipe_wake_writers(self.as_ptr()) };
    }
}

/// A pipe that is locked until this is dropped.
///
/// # Invariants
///
/// The pipe is valid for `'a`, and whoever has this guard has exclusive access to its ring.
pub struct PipeGuard<'a> {
    pipe: NonNull<bindings::pipe_inode_info>,
    _handle: PhantomData<&'a mut ()>,
    _not_send: NotThreadSafe,
}

impl PipeGuard<'_> {
    /// The ring, for as long as the guard is borrowed.
    #[inline]
    pub fn ring(&mut self) -> PipeRing<'_> {
        // INVARIANT: By the guard's.
        PipeRing {
            pipe: self.pipe,
            _access: PhantomData,
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for PipeGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: The pipe is valid, and locked by this guard.
        unsafe { bindings::pipe_unlock(self.pipe.as_ptr()) };
    }
}

/// A pipe of one's own, that no file refers to. Its single owner needs no lock.
///
/// # Examples
///
/// ```
/// use kernel::pipe::PrivatePipe;
///
/// // A transfer within a transfer does not get the pipe that the outer one uses.
/// let mut outer = PrivatePipe::take_from_current()?;
/// let mut inner = PrivatePipe::take_from_current()?;
/// assert!(!outer.handle().is_same(&inner.handle()));
/// inner.keep_for_current();
/// outer.keep_for_current();
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// `pipe` comes from `alloc_pipe_info`, is referred to by no file, and is owned by this value.
pub struct PrivatePipe {
    pipe: NonNull<bindings::pipe_inode_info>,
}

impl PrivatePipe {
    /// Allocates a pipe of the default size. Fails with [`ENOMEM`]. C: `alloc_pipe_info`.
    pub fn new() -> Result<Self> {
        // SAFETY: No requirements.
        let pipe = NonNull::new(unsafe { bindings::alloc_pipe_info() }).ok_or(ENOMEM)?;
        // It is read by whoever fills it, right afterwards; without a reader, filling it would
        // raise SIGPIPE.
        // SAFETY: Allocated just now, and nobody else knows it.
        unsafe { (*pipe.as_ptr()).readers = 1 };
        // INVARIANT: As above.
        Ok(Self { pipe })
    }

    /// Takes the pipe that the current task keeps for its transfers between two files, or
    /// allocates one. Give it back with [`Self::keep_for_current`]. C: `current->splice_pipe`.
    ///
    /// A transfer that runs while this one is under way gets a pipe of its own.
    #[inline]
    pub fn take_from_current() -> Result<Self> {
        // SAFETY: Only the task itself accesses the field while it runs.
        let pipe = unsafe {
            ptr::replace(
                &raw mut (*bindings::get_current()).splice_pipe,
                ptr::null_mut(),
            )
        };
        match NonNull::new(pipe) {
            // INVARIANT: The task owned it, and no longer does.
            Some(pipe) => Ok(Self { pipe }),
            None => Self::new(),
        }
    }

    /// Leaves the pipe to the current task, for its next transfer.
    #[inline]
    pub fn keep_for_current(mut self) {
        self.ring().clear();
        // SAFETY: As in `take_from_current`.
        unsafe {
            let slot = &raw mut (*bindings::get_current()).splice_pipe;
            if (*slot).is_null() {
                *slot = ManuallyDrop::new(self).pipe.as_ptr();
            }
        }
    }

    /// The ring.
    #[inline]
    pub fn ring(&mut self) -> PipeRing<'_> {
        // INVARIANT: The pipe is ours, and borrowed for as long as the ring is there.
        PipeRing {
            pipe: self.pipe,
            _access: PhantomData,
            _not_send: NotThreadSafe,
        }
    }

    /// A handle, for those who take any pipe.
    #[inline]
    pub fn handle(&mut self) -> Pipe<'_> {
        // INVARIANT: Valid by the type invariant; `self` is borrowed for as long as the handle is
        // there, so it is the only one.
        Pipe {
            pipe: self.pipe,
            _alive: PhantomData,
        }
    }
}

impl Drop for PrivatePipe {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; this releases what is left in it.
        unsafe { bindings::free_pipe_info(self.pipe.as_ptr()) };
    }
}

/// The ring of buffers of a pipe, with exclusive access to it.
///
/// # Invariants
///
/// The pipe is valid for `'a`, and no one else accesses its ring. The slots from tail to head are
/// those of buffers, in order, each with its reference: a buffer is in the first of its
/// [`PipeBuffer::slots`]. All other slots have no operations, and hold no buffer.
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
/// // One buffer and a part of the next.
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
    /// Makes a ring from a pointer.
    ///
    /// # Safety
    ///
    /// The pipe is valid, and as long as this is there nobody accesses its ring in another way: it
    /// is locked, or private to the caller.
    #[inline]
    pub unsafe fn from_raw(pipe: *mut bindings::pipe_inode_info) -> Self {
        // INVARIANT: By the caller's promise.
        Self {
            // SAFETY: A valid pointer is not null.
            pipe: unsafe { NonNull::new_unchecked(pipe) },
            _access: PhantomData,
            _not_send: NotThreadSafe,
        }
    }

    /// The C pipe.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::pipe_inode_info {
        self.pipe.as_ptr()
    }

    #[inline]
    fn both_indices(&self) -> *mut bindings::pipe_index__bindgen_ty_1 {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { &raw mut (*bindings::pipe_index_of(self.as_ptr())).__bindgen_anon_1 }
    }

    /// Head and tail.
    #[inline]
    pub fn indices(&self) -> Indices {
        // SAFETY: The pipe is valid by the type invariant, and nobody else changes them.
        let both = unsafe { *self.both_indices() };
        Indices::new(both.head, both.tail)
    }

    /// # Safety
    ///
    /// The slots that are in use from now on hold buffers, and no others.
    #[inline]
    unsafe fn set_head(&mut self, head: u32) {
        // SAFETY: The pipe is valid. Those who look without the lock, such as `pipe_poll`, get the
        // old or the new value.
        unsafe { (&raw mut (*self.both_indices()).head).write_volatile(head) };
    }

    /// # Safety
    ///
    /// As for [`Self::set_head`].
    #[inline]
    unsafe fn set_tail(&mut self, tail: u32) {
        // SAFETY: As in `set_head`.
        unsafe { (&raw mut (*self.both_indices()).tail).write_volatile(tail) };
    }

    /// How many slots may be used.
    #[inline]
    pub fn max_usage(&self) -> u32 {
        // SAFETY: The pipe is valid, and this does not change while it is locked.
        unsafe { (*self.as_ptr()).max_usage }
    }

    /// Whether anybody has the read end open.
    #[inline]
    pub fn has_readers(&self) -> bool {
        // SAFETY: As for `max_usage`.
        unsafe { (*self.as_ptr()).readers != 0 }
    }

    /// Whether anybody has the write end open.
    #[inline]
    pub fn has_writers(&self) -> bool {
        // SAFETY: As for `max_usage`.
        unsafe { (*self.as_ptr()).writers != 0 }
    }

    /// Whether any file refers to the pipe, so that somebody may be waiting for it.
    #[inline]
    pub fn has_files(&self) -> bool {
        // SAFETY: The pipe is valid. `files` has a lock of its own; C reads it without, too: it
        // does not become zero while a transfer on a pipe with files is under way.
        unsafe { (&raw const (*self.as_ptr()).files).read_volatile() != 0 }
    }

    /// Whether there is no buffer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.indices().is_empty()
    }

    /// Whether there is no room for another buffer.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.indices().is_full(self.max_usage())
    }

    /// How many more buffers there is room for, where none has more than a page.
    #[inline]
    pub fn space(&self) -> u32 {
        self.indices().space(self.max_usage())
    }

    /// The calls that asked for a notification, if there were any.
    #[inline]
    pub fn notifications(&self) -> Option<Arc<Notifications>> {
        // SAFETY: The pipe is valid, and its lock guards this field; if it is not null,
        // `notifications_or_new` has put a reference there.
        unsafe {
            let of = (*self.as_ptr()).notices.cast::<Notifications>();
            (!of.is_null()).then(|| ArcBorrow::from_raw(of).into())
        }
    }

    /// As [`Self::notifications`]; a pipe gets its own if it has none. Fails with [`ENOMEM`].
    pub fn notifications_or_new(&mut self) -> Result<Arc<Notifications>> {
        if let Some(of) = self.notifications() {
            return Ok(of);
        }
        let of = Notifications::new()?;
        // SAFETY: As in `notifications`. `free_pipe_info` has it freed, by `rust_pipe_free`.
        unsafe { (*self.as_ptr()).notices = Arc::into_raw(of.clone()).cast_mut().cast() };
        Ok(of)
    }

    /// The array of slots, which stays where it is as long as the pipe is locked.
    #[inline]
    fn slots(&self) -> Slots {
        // SAFETY: The pipe is valid.
        let (bufs, size) = unsafe { ((*self.as_ptr()).bufs, (*self.as_ptr()).ring_size) };
        // INVARIANT: `bufs` has `ring_size` slots.
        Slots { bufs, size }
    }

    /// The slot for a counter value.
    #[inline]
    fn slot(&self, index: u32) -> NonNull<bindings::pipe_buffer> {
        self.slots().at(index)
    }

    /// Drops the first `n` bytes of the oldest buffer, which has more. The slots of the pages that
    /// are used up become free. Returns whether there are any.
    #[inline]
    fn advance_front(&mut self, n: usize) -> bool {
        let tail = self.indices().tail();
        let slot = self.slot(tail);
        // SAFETY: The ring is not empty, by the doc comment above, so the slot at the tail holds a
        // buffer.
        let buf: &mut PipeBuffer = unsafe { slot.cast().as_mut() };
        let before = buf.slots();
        buf.advance(n);
        if before == 1 {
            return false;
        }
        self.move_front(before - buf.slots())
    }

    /// Moves the oldest buffer `slots` on, to the slot of what is its first page now. Returns
    /// whether it moved.
    #[cold]
    fn move_front(&mut self, slots: u32) -> bool {
        if slots == 0 {
            return false;
        }
        let tail = self.indices().tail();
        let (from, to) = (self.slot(tail), self.slot(tail.wrapping_add(slots)));
        // SAFETY: `to` is one of the further slots of the buffer in `from`, so it holds none, and
        // is a different one. The reference goes along.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), 1);
            (*from.as_ptr()).ops = ptr::null();
            self.set_tail(tail.wrapping_add(slots));
        }
        true
    }

    /// The oldest buffer.
    #[inline]
    pub fn front(&self) -> Option<&PipeBuffer> {
        let indices = self.indices();
        if indices.is_empty() {
            return None;
        }
        // SAFETY: The slot at the tail holds a buffer, by the type invariant.
        Some(unsafe { self.slot(indices.tail()).cast().as_ref() })
    }

    /// Cuts the first `n` bytes off the oldest buffer, which has more, into one of their own, on
    /// the same pages. As [`PipeBuffer::split_to`]. `None` where there is no buffer.
    #[inline]
    pub fn split_front(&mut self, n: usize) -> Option<Result<PipeBuffer>> {
        let indices = self.indices();
        if indices.is_empty() {
            return None;
        }
        // SAFETY: The slot at the tail holds a buffer, by the type invariant.
        let buf: &mut PipeBuffer = unsafe { self.slot(indices.tail()).cast().as_mut() };
        // SAFETY: By the type invariant.
        let first = unsafe { buf.try_clone_in(self.as_ptr()) };
        Some(first.map(|mut first| {
            first.truncate(n);
            self.advance_front(n);
            first
        }))
    }

    /// Puts `buf` in front of the oldest buffer. `Err(buf)` where there is no room; there is if it
    /// comes from [`Self::pop_front`], and the ring was not unlocked since.
    pub fn push_front(&mut self, buf: PipeBuffer) -> Result<(), PipeBuffer> {
        let slots = buf.slots();
        if slots > self.space() {
            return Err(buf);
        }
        let tail = self.indices().tail().wrapping_sub(slots);
        // SAFETY: There is room, so the slots before the tail are free. The first one holds the
        // buffer afterwards.
        unsafe {
            self.slots().put(tail, buf, slots);
            self.set_tail(tail);
        }
        Ok(())
    }

    /// Undoes [`Self::split_front`]: has the oldest buffer begin with `first`, which was cut off
    /// it. `Err(first)` where it was not, or where there is no room.
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
    /// // All of one buffer and a part of the next, and back again: the last one comes first.
    /// let whole = ring.pop_front().ok_or(EAGAIN)?;
    /// let part = ring.split_front(100).ok_or(EAGAIN)??;
    /// assert_eq!(ring.front().map(|buf| (buf.offset(), buf.len())), Some((100, 900)));
    /// // A buffer of another page is no part of this one.
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
        // SAFETY: The slot at the tail holds a buffer, by the type invariant.
        let front: &mut PipeBuffer = unsafe { from.cast().as_mut() };
        let more = front.prepend(first, space)?;
        if more == 0 {
            return Ok(());
        }
        let tail = indices.tail().wrapping_sub(more);
        // SAFETY: There is room for `more`, so the slots before the tail are free. The buffer and
        // its reference go to the first of them, and it takes all up to its old slot.
        unsafe {
            let buf = PipeBuffer::from_raw(ptr::read(from.as_ptr()));
            (*from.as_ptr()).ops = ptr::null();
            let slots = buf.slots();
            self.slots().put(tail, buf, slots);
            self.set_tail(tail);
        }
        Ok(())
    }

    /// The buffers, oldest first.
    #[inline]
    pub fn iter(&mut self) -> Iter<'_> {
        // INVARIANT: By that of `self`, which stays borrowed.
        Iter {
            pipe: self.as_ptr(),
            slots: self.slots(),
            left: self.indices(),
            _ring: PhantomData,
        }
    }

    /// Takes the oldest buffer out.
    #[inline]
    pub fn pop_front(&mut self) -> Option<PipeBuffer> {
        let indices = self.indices();
        if indices.is_empty() {
            return None;
        }
        // SAFETY: There is a buffer.
        Some(unsafe { PipeBuffer::from_raw(self.take_slot(indices)) })
    }

    /// Takes what is at the tail out of its slot.
    ///
    /// # Safety
    ///
    /// `indices` are those of the ring, and it is not empty. The buffer's reference goes over to
    /// the caller.
    #[inline]
    unsafe fn take_slot(&mut self, indices: Indices) -> bindings::pipe_buffer {
        let slot = self.slot(indices.tail()).as_ptr();
        // A slot without operations is how C knows an empty one, in `free_pipe_info`.
        // SAFETY: The slot at the tail holds a buffer, and does not any more.
        unsafe {
            let buf = ptr::read(slot);
            (*slot).ops = ptr::null();
            let slots = (&*slot.cast::<PipeBuffer>()).slots();
            self.set_tail(indices.advance_tail(slots).tail());
            buf
        }
    }

    /// Releases the oldest buffer. As [`Self::pop_front`] and a drop, but the pipe may keep the
    /// page for its next `write(2)`.
    #[inline]
    pub fn release_front(&mut self) {
        let indices = self.indices();
        if !indices.is_empty() {
            // SAFETY: There is a buffer.
            unsafe { self.release_slot(indices) };
        }
    }

    /// # Safety
    ///
    /// `indices` are those of the ring, and it is not empty.
    #[inline]
    unsafe fn release_slot(&mut self, indices: Indices) {
        // SAFETY: The slot at the tail holds a buffer, by the type invariant, and is empty after.
        unsafe {
            let slot = self.slot(indices.tail()).as_ptr();
            let slots = (&*slot.cast::<PipeBuffer>()).slots();
            bindings::pipe_buf_release(self.as_ptr(), slot);
            self.set_tail(indices.advance_tail(slots).tail());
        }
    }

    /// Releases the oldest buffer where it has no bytes; says whether it did.
    #[inline]
    pub fn release_empty_front(&mut self) -> bool {
        let is_empty = self.front().is_some_and(|buf| buf.is_empty());
        if is_empty {
            self.release_front();
        }
        is_empty
    }

    /// Drops the first `n` bytes, or all where there are fewer, releasing the buffers that are
    /// used up. Returns whether that made room.
    #[inline]
    pub fn consume(&mut self, mut n: usize) -> bool {
        let slots = self.slots();
        let indices = self.indices();
        let mut tail = indices.tail();
        while n > 0 && tail != indices.head() {
            let slot = slots.at(tail);
            // SAFETY: The slot at the tail holds a buffer, by the type invariant.
            let buf: &mut PipeBuffer = unsafe { slot.cast().as_mut() };
            if n < buf.len() {
                self.advance_front(n);
                break;
            }
            n -= buf.len();
            tail = tail.wrapping_add(buf.slots());
            // SAFETY: This is the buffer at the tail; its slot is empty after.
            unsafe {
                bindings::pipe_buf_release(self.as_ptr(), slot.as_ptr());
                self.set_tail(tail);
            }
        }
        self.indices().tail() != indices.tail()
    }

    /// Hands the buffers to `f`, oldest first, until it says to stop or there are none left. `f`
    /// returns how many bytes it used up; a buffer without any left is released. `Ok(false)`: `f`
    /// used nothing, or `Ok(None)` was its answer. Sets `room` if there is more than before.
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
            // SAFETY: The slot at the tail holds a buffer, by the type invariant.
            let buf: &mut PipeBuffer = unsafe { slot.cast().as_mut() };
            let len = buf.len();
            // INVARIANT: As above; the ring is borrowed.
            let used = f(BufferRef {
                pipe: self.as_ptr(),
                buf,
            })?;
            let Some(used @ 1..) = used else {
                return Ok(false);
            };
            if used < len {
                // The rest is offered again at once.
                if self.advance_front(used) {
                    tail = self.indices().tail();
                }
                continue;
            }
            // SAFETY: This is the buffer at the tail; its slot is empty after.
            unsafe {
                tail = tail.wrapping_add(slot.cast::<PipeBuffer>().as_ref().slots());
                bindings::pipe_buf_release(self.as_ptr(), slot.as_ptr());
                self.set_tail(tail);
            }
        }
        Ok(true)
    }

    /// Puts in as many of `bufs` as there is room for. Returns how many, and how many bytes these
    /// are. The iterator is not asked for a buffer if there is no room at all.
    #[inline]
    pub fn append(&mut self, bufs: &mut impl Iterator<Item = PipeBuffer>) -> (usize, usize) {
        let mut filler = self.filler();
        while filler.space() > 0 {
            let Some(buf) = bufs.next() else { break };
            filler.push_or_count_as_one(buf);
        }
        filler.commit()
    }

    /// Puts references to the oldest buffers into `to`, up to `most` bytes, as far as there is room.
    /// Returns how many buffers, and bytes, these are.
    ///
    /// Fails with [`EFAULT`] if the first buffer cannot have another reference. `most` is not 0.
    #[inline(always)]
    pub fn link_buffers(&mut self, to: &mut PipeRing<'_>, most: usize) -> Result<(usize, usize)> {
        let (indices, to_indices) = (self.indices(), to.indices());
        let (from, slots) = (self.slots(), to.slots());
        // In local variables: the compiler cannot tell that the slots do not overlap with them.
        let count = indices
            .occupancy()
            .min(to_indices.space(to.max_usage()));
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

    /// Moves the oldest buffers to `to`: those that take one slot, up to the first one that takes
    /// several or is not within `most` bytes, and as far as there is room. Returns how many buffers,
    /// and bytes, these were.
    #[inline(always)]
    pub fn move_buffers(&mut self, to: &mut PipeRing<'_>, most: usize) -> (usize, usize) {
        let (indices, to_indices) = (self.indices(), to.indices());
        let (from, slots) = (self.slots(), to.slots());
        // In local variables, as in `link_buffers`.
        let count = indices
            .occupancy()
            .min(to_indices.space(to.max_usage()));
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

    /// Starts to put in buffers that others are to see together.
    #[inline]
    pub fn filler(&mut self) -> Filler<'_> {
        let indices = self.indices();
        // INVARIANT: Nothing is put in yet.
        Filler {
            slots: self.slots(),
            head: indices.head(),
            space: indices.space(self.max_usage()),
            buffers: 0,
            bytes: 0,
            ring: PipeRing {
                pipe: self.pipe,
                _access: PhantomData,
                _not_send: NotThreadSafe,
            },
        }
    }

    /// Makes a buffer of its own of each page of a larger one, for those who take no others: each
    /// page has a slot already. Fails with [`EFAULT`] if a page cannot have another reference;
    /// some buffers may be split then.
    pub fn split_to_pages(&mut self) -> Result {
        let slots = self.slots();
        let indices = self.indices();
        let mut index = indices.tail();
        while index != indices.head() {
            // SAFETY: `index` is the first slot of a buffer, by the type invariant.
            let buf: &mut PipeBuffer = unsafe { slots.at(index).cast().as_mut() };
            let end = index.wrapping_add(buf.slots());
            // From the last page on, so that the buffer is never longer than its slots.
            let mut at = end;
            while buf.slots() > 1 {
                at = at.wrapping_sub(1);
                let last = buf.split_last_page()?;
                // SAFETY: The slot is one of the further slots of `buf`, which has one fewer now.
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

    /// Room for one more buffer, if there is any.
    #[inline]
    pub fn vacancy(&mut self) -> Option<Vacancy<'_>> {
        let indices = self.indices();
        if indices.is_full(self.max_usage()) {
            return None;
        }
        // INVARIANT: There are `max_usage` slots or more, and fewer are in use.
        Some(Vacancy {
            head: indices.head(),
            ring: PipeRing {
                pipe: self.pipe,
                _access: PhantomData,
                _not_send: NotThreadSafe,
            },
        })
    }

    /// Sleeps until there may be something to read, or nobody to write. The lock is given up
    /// meanwhile. C: `pipe_wait_readable`.
    #[inline]
    pub fn wait_readable(&mut self) {
        // SAFETY: The pipe is valid and locked, or private; no reference into the ring is alive,
        // since this borrows all of it.
        unsafe { bindings::pipe_wait_readable(self.as_ptr()) };
    }

    /// Sleeps until there may be room, or nobody to read. The lock is given up meanwhile.
    /// C: `pipe_wait_writable`.
    #[inline]
    pub fn wait_writable(&mut self) {
        // SAFETY: As in `wait_readable`.
        unsafe { bindings::pipe_wait_writable(self.as_ptr()) };
    }

    /// Runs `f` with the pipe unlocked: what is in it may change meanwhile, unless it is a private
    /// one.
    pub fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        // SAFETY: The pipe is valid, and locked, or a private one, for which neither does anything;
        // no reference into the ring is alive, since this borrows all of it.
        unsafe { bindings::pipe_unlock(self.as_ptr()) };
        let ret = f();
        // SAFETY: The pipe is still valid: whoever has lent the ring keeps it.
        unsafe { bindings::pipe_lock(self.as_ptr()) };
        ret
    }

    /// As [`Pipe::wake_readers`], with the pipe locked.
    pub fn wake_readers(&mut self) {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { bindings::pipe_wake_readers(self.as_ptr()) };
    }

    /// As [`Pipe::wake_writers`], with the pipe locked.
    pub fn wake_writers(&mut self) {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { bindings::pipe_wake_writers(self.as_ptr()) };
    }
}

/// Frees what a pipe has that is ours, its buffers being gone. C: called by `free_pipe_info`.
///
/// # Safety
///
/// `pipe` is valid, and nobody else refers to it.
#[export]
unsafe extern "C" fn rust_pipe_free(pipe: *mut bindings::pipe_inode_info) {
    // SAFETY: By the caller's promise. If it is not null, `notifications_or_new` has put a reference
    // there.
    unsafe {
        if !(*pipe).notices.is_null() {
            drop(Arc::from_raw((*pipe).notices.cast::<Notifications>()));
        }
    }
}

/// Splits the buffers of a pipe that have more than a page. For C code that takes no others.
///
/// Returns 0, or `-EFAULT` as [`PipeRing::split_to_pages`] does.
///
/// # Safety
///
/// `pipe` is valid, and locked.
#[export]
unsafe extern "C" fn pipe_split_to_pages(pipe: *mut bindings::pipe_inode_info) -> c_int {
    // SAFETY: By the caller's promise the pipe is valid, and nobody else accesses its ring.
    let ret = unsafe { PipeRing::from_raw(pipe) }.split_to_pages();
    ret.map_or_else(Error::to_errno, |()| 0)
}

/// The array of slots of a ring.
///
/// # Invariants
///
/// `bufs` has `size` slots, a power of two.
#[derive(Clone, Copy)]
struct Slots {
    bufs: *mut bindings::pipe_buffer,
    size: u32,
}

impl Slots {
    /// The slot for a counter value.
    #[inline]
    fn at(self, index: u32) -> NonNull<bindings::pipe_buffer> {
        // SAFETY: The place stays below `size`.
        unsafe { NonNull::new_unchecked(self.bufs.add(ring::slot(index, self.size))) }
    }

    /// Puts `buf`, which takes `slots`, into those from `index` on.
    ///
    /// # Safety
    ///
    /// The slots are free, and nobody else accesses them.
    #[inline]
    unsafe fn put(self, index: u32, buf: PipeBuffer, slots: u32) {
        // SAFETY: By the caller's promise nothing is overwritten. The reference goes along.
        unsafe { ptr::write(self.at(index).as_ptr(), buf.into_raw()) };
        if slots > 1 {
            // A later `write(2)` looks at the flags in the last slot for whether it can append.
            // SAFETY: By the caller's promise.
            unsafe { (*self.at(index.wrapping_add(slots - 1)).as_ptr()).flags = 0 };
        }
    }
}

/// Room for one buffer in a ring: filling it cannot fail.
///
/// # Invariants
///
/// `head` is the head of `ring`. The slot there is not in use and may be used.
pub struct Vacancy<'a> {
    head: u32,
    ring: PipeRing<'a>,
}

impl Vacancy<'_> {
    /// How many slots there are, for a buffer of several pages.
    #[inline]
    pub fn slots(&self) -> u32 {
        self.ring.space()
    }

    /// Puts `buf` in, as the youngest. If it takes more slots than there are, it counts as one.
    #[inline]
    pub fn fill(mut self, buf: PipeBuffer) {
        if buf.slots() > 1 {
            return self.fill_pages(buf);
        }
        // SAFETY: The slot at the head is free, by the type invariant. The reference goes along.
        unsafe {
            ptr::write(self.ring.slot(self.head).as_ptr(), buf.into_raw());
            self.ring.set_head(self.head.wrapping_add(1));
        }
    }

    /// As [`Self::fill`], for a buffer that takes several slots.
    #[cold]
    fn fill_pages(mut self, mut buf: PipeBuffer) {
        if buf.slots() > self.ring.space() {
            buf.count_as_one();
        }
        let slots = buf.slots();
        // SAFETY: There are as many free slots, by the type invariant and the above.
        unsafe {
            self.ring.slots().put(self.head, buf, slots);
            self.ring.set_head(self.head.wrapping_add(slots));
        }
    }
}

/// Buffers on their way into a ring, behind its head: others do not see them before
/// [`commit`](Self::commit). Dropping this instead releases them.
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
/// The slots from the head of `ring` up to `head` hold the buffers, of which there are `buffers`,
/// with `bytes` bytes. The `space` slots from there on are free, and may be used.
pub struct Filler<'a> {
    ring: PipeRing<'a>,
    slots: Slots,
    head: u32,
    space: u32,
    buffers: usize,
    bytes: usize,
}

impl Filler<'_> {
    /// The number of slots that are free still.
    #[inline]
    pub fn space(&self) -> u32 {
        self.space
    }

    /// The number of slots that the buffers take.
    #[inline]
    pub fn used(&self) -> u32 {
        self.head.wrapping_sub(self.ring.indices().head())
    }

    /// Whether there are no buffers.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffers == 0
    }

    /// Adds `buf`; `Err(buf)` if there are too few free slots.
    #[inline(always)]
    pub fn push(&mut self, buf: PipeBuffer) -> Result<(), PipeBuffer> {
        let slots = buf.slots();
        if slots > self.space {
            return Err(buf);
        }
        self.bytes = self.bytes.wrapping_add(buf.len());
        self.buffers = self.buffers.wrapping_add(1);
        // SAFETY: There are as many free slots, by the type invariant.
        unsafe { self.slots.put(self.head, buf, slots) };
        // INVARIANT: Their first one holds the buffer now.
        self.head = self.head.wrapping_add(slots);
        self.space = self.space.wrapping_sub(slots);
        Ok(())
    }

    /// Adds the pages of small folios that `ranges` begins with, as far as there are free slots.
    /// `ranges` was found at the beginning of `range`; returns what of that is left.
    #[inline(always)]
    pub fn push_small_pages(&mut self, ranges: &mut UserRanges, range: UserRange) -> UserRange {
        let mut left = range;
        let (slots, first) = (self.slots, self.head);
        let mut head = first;
        ranges.take_small_pages(self.space, |page| {
            let buf = PipeBuffer::from_user(page, left);
            left = left.skip(buf.len());
            // SAFETY: No more pages are taken than there are free slots.
            unsafe { slots.put(head, buf, 1) };
            head = head.wrapping_add(1);
        });
        let added = head.wrapping_sub(first);
        // INVARIANT: A page takes one slot, and these slots hold the buffers now.
        self.head = head;
        self.space = self.space.wrapping_sub(added);
        self.buffers = self.buffers.wrapping_add(added as usize);
        self.bytes = self.bytes.wrapping_add(range.len() - left.len());
        left
    }

    /// Adds `buf`, if there is a free slot. If it takes more slots than there are, it counts as
    /// one.
    #[inline]
    fn push_or_count_as_one(&mut self, mut buf: PipeBuffer) {
        if buf.slots() > self.space {
            buf.count_as_one();
        }
        // Without any free slot the buffer is released.
        let _ = self.push(buf);
    }

    /// Puts the buffers into the ring. Returns how many there are, and how many bytes.
    #[inline]
    pub fn commit(self) -> (usize, usize) {
        let mut this = ManuallyDrop::new(self);
        let head = this.head;
        // SAFETY: The slots up to `head` hold the buffers, by the type invariant.
        unsafe { this.ring.set_head(head) };
        (this.buffers, this.bytes)
    }

    /// Takes the buffers out again, and hands them to `f`, oldest first.
    pub fn take_back(self, mut f: impl FnMut(PipeBuffer)) {
        ManuallyDrop::new(self).take_all(&mut f);
    }

    fn take_all(&mut self, f: &mut impl FnMut(PipeBuffer)) {
        let mut left = Indices::new(self.head, self.ring.indices().head());
        while !left.is_empty() {
            let slot = self.slots.at(left.tail()).as_ptr();
            // SAFETY: By the type invariant the first of the slots that are left holds a buffer,
            // whose reference goes along.
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

impl Drop for Filler<'_> {
    fn drop(&mut self) {
        self.take_all(&mut drop);
    }
}

/// Iterator over the buffers of a ring, oldest first.
///
/// # Invariants
///
/// `slots` are those of `pipe`, and nobody else accesses its ring for `'a`. The slots in `left`
/// hold buffers, the first one included.
pub struct Iter<'a> {
    pipe: *mut bindings::pipe_inode_info,
    slots: Slots,
    left: Indices,
    _ring: PhantomData<&'a mut ()>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = BufferRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<BufferRef<'a>> {
        if self.left.is_empty() {
            return None;
        }
        // SAFETY: By the type invariant the first of the slots that are left holds a buffer.
        let buf: &mut PipeBuffer = unsafe { self.slots.at(self.left.tail()).cast().as_mut() };
        self.left = self.left.advance_tail(buf.slots());
        // INVARIANT: By that of `self`; each buffer is given out once.
        Some(BufferRef {
            pipe: self.pipe,
            buf,
        })
    }
}

/// A buffer in a ring.
///
/// # Invariants
///
/// `buf` is in the ring of `pipe`, which nobody else accesses for `'a`.
pub struct BufferRef<'a> {
    pipe: *mut bindings::pipe_inode_info,
    buf: &'a mut PipeBuffer,
}

impl<'a> BufferRef<'a> {
    /// Waits until the contents can be read. May sleep, with the pipe locked.
    ///
    /// [`ENODATA`] says that they are gone, such as those of a truncated file; a transfer ends
    /// there as at the end of a file. Other errors come from reading the page.
    /// C: `pipe_buf_confirm`.
    #[inline]
    pub fn confirm(&mut self) -> Result {
        // SAFETY: By the type invariant.
        let ret = unsafe { bindings::pipe_buf_confirm(self.pipe, self.buf.as_raw()) };
        if ret != 0 {
            return Err(Error::from_errno(ret));
        }
        Ok(())
    }

    /// As [`Self::confirm`], for loops over many buffers: what is good at first sight costs no
    /// call.
    #[inline]
    pub fn confirm_inline(&mut self) -> Result {
        if self.buf.is_good() {
            return Ok(());
        }
        self.confirm()
    }

    /// As [`Self::confirm_inline`], but `false` for a buffer that has a [loan](PipeBuffer::loan).
    #[inline]
    pub fn confirm_unless_loaned(&mut self) -> Result<bool> {
        // Such buffers have an operation to be asked.
        if self.buf.is_good() {
            return Ok(true);
        }
        if self.buf.loan().is_some() {
            return Ok(false);
        }
        self.confirm().map(|()| true)
    }

    /// A second buffer for the same bytes. As [`PipeBuffer::try_clone`].
    #[inline]
    pub fn try_clone(&mut self) -> Result<PipeBuffer> {
        // SAFETY: By the type invariant.
        unsafe { self.buf.try_clone_in(self.pipe) }
    }

    /// The buffer, for as long as the ring is borrowed.
    #[inline]
    pub fn into_buffer(self) -> &'a PipeBuffer {
        self.buf
    }

    /// The C pipe and buffer.
    #[inline]
    pub fn as_raw(&mut self) -> (*mut bindings::pipe_inode_info, *mut bindings::pipe_buffer) {
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
