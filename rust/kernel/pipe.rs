// SPDX-License-Identifier: GPL-2.0

//! Pipes and the buffers in them.
//!
//! - [`Pipe`] is a handle of a pipe that something else, such as an open file, keeps alive.
//! - [`PipeGuard`] is a locked pipe. It gives access to the ring.
//! - [`PipeRing`] is the ring of buffers, oldest first.
//! - [`PipeBuffer`] is one buffer. It owns one reference to the memory that it describes.
//!
//! A [`PrivatePipe`] belongs to one task or driver. No file refers to it, and it needs no lock.
//!
//! # Locking
//!
//! The pipe's mutex (`pipe_inode_info::mutex`) protects the ring. [`Pipe::lock_both`] locks two
//! pipes in address order. The mutex nests inside freeze protection (`file_start_write`) and inside
//! the locks that a file system takes before it calls into a pipe (overlayfs holds its inode lock).
//! All locks that reading or writing the file at the other end takes nest inside the pipe's mutex.
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

/// The number of buffers that a pipe can hold by default, that is, unless `F_SETPIPE_SZ` changed
/// its size. C: `PIPE_DEF_BUFFERS`.
pub const DEFAULT_BUFFERS: usize = bindings::PIPE_DEF_BUFFERS as usize;

/// A handle of a pipe that something else, such as an open file, keeps alive for `'a`.
///
/// The pipe need not be locked. [`Self::lock`] gives access to its buffers.
///
/// # Invariants
///
/// `pipe` points to a valid `struct pipe_inode_info` for `'a`. If no file refers to the pipe, its
/// mutex is not used, and this handle is the only way to access the pipe during `'a`.
pub struct Pipe<'a> {
    pipe: NonNull<bindings::pipe_inode_info>,
    _alive: PhantomData<&'a ()>,
}

impl<'a> Pipe<'a> {
    /// Creates a handle from a pointer.
    ///
    /// # Safety
    ///
    /// `pipe` must be valid for `'a`. If no file refers to the pipe, nothing else may access it
    /// during `'a`.
    #[inline]
    pub unsafe fn from_raw(pipe: *mut bindings::pipe_inode_info) -> Self {
        // INVARIANT: The caller guarantees both parts of the invariant (see `# Safety`).
        Self {
            // SAFETY: The caller guarantees that `pipe` is valid, so it is not null.
            pipe: unsafe { NonNull::new_unchecked(pipe) },
            _alive: PhantomData,
        }
    }

    /// Returns the pipe that `file` is an end of.
    ///
    /// Returns `None` if `file` is not an end of a pipe, or if the pipe is a notification queue
    /// (`O_NOTIFICATION_PIPE`), which cannot be spliced. C: `get_pipe_info`.
    #[inline]
    pub fn of_file(file: &'a LocalFile) -> Option<Self> {
        // SAFETY: `file` is a reference to a file, so the pointer is valid.
        let pipe = unsafe { bindings::get_pipe_info(file.as_ptr(), true) };
        // INVARIANT: The file holds its pipe for `'a`, and the pipe's `files` counts the file, so
        // that the pipe's mutex is in use.
        Some(Self {
            pipe: NonNull::new(pipe)?,
            _alive: PhantomData,
        })
    }

    /// Returns the `struct pipe_inode_info`.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::pipe_inode_info {
        self.pipe.as_ptr()
    }

    /// Returns whether both handles are for the same pipe.
    #[inline]
    pub fn is_same(&self, other: &Pipe<'_>) -> bool {
        self.pipe == other.pipe
    }

    /// Locks the pipe. Sleeps until the mutex is free. C: `pipe_lock`.
    ///
    /// If no file refers to the pipe there is nobody to exclude, and the mutex is not taken.
    #[inline]
    pub fn lock(&mut self) -> PipeGuard<'_> {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { bindings::pipe_lock(self.as_ptr()) };
        // INVARIANT: The pipe was locked above. If no file refers to it, `self` is the only handle,
        // and it stays borrowed while the guard exists.
        PipeGuard {
            pipe: self.pipe,
            _handle: PhantomData,
            _not_send: NotThreadSafe,
        }
    }

    /// Locks the pipe if its mutex is free, and returns `None` otherwise. Does not sleep.
    ///
    /// A file must refer to the pipe: the mutex of another pipe would stay locked, because
    /// `pipe_unlock` leaves it alone.
    pub fn try_lock(&mut self) -> Option<PipeGuard<'_>> {
        // SAFETY: The pipe is valid by the type invariant.
        if unsafe { bindings::mutex_trylock(&raw mut (*self.as_ptr()).mutex) } == 0 {
            return None;
        }
        // INVARIANT: `mutex_trylock` succeeded, so the pipe is locked.
        Some(PipeGuard {
            pipe: self.pipe,
            _handle: PhantomData,
            _not_send: NotThreadSafe,
        })
    }

    /// Locks two pipes. Sleeps until both mutexes are free. C: `pipe_double_lock`.
    ///
    /// The mutexes are taken in address order, whatever the order of the arguments, so that two
    /// tasks that lock the same pipes in opposite order cannot deadlock.
    ///
    /// Returns [`EINVAL`] if both are the same pipe.
    #[inline]
    pub fn lock_both<'g>(
        first: &'g mut Pipe<'_>,
        second: &'g mut Pipe<'_>,
    ) -> Result<(PipeGuard<'g>, PipeGuard<'g>)> {
        if first.is_same(second) {
            return Err(EINVAL);
        }
        // SAFETY: Both pipes are valid by the type invariant, and they differ, as checked above.
        unsafe { bindings::pipe_double_lock(first.as_ptr(), second.as_ptr()) };
        // INVARIANT: Both pipes were locked above. A pipe that no file refers to is protected by
        // the borrow of its only handle.
        let guard = |pipe: NonNull<bindings::pipe_inode_info>| PipeGuard {
            pipe,
            _handle: PhantomData,
            _not_send: NotThreadSafe,
        };
        Ok((guard(first.pipe), guard(second.pipe)))
    }

    /// Returns head and tail without taking the lock.
    ///
    /// Both belong to the same moment, but may be out of date as soon as they were read.
    #[inline]
    pub fn indices_unlocked(&self) -> Indices {
        // SAFETY: The pipe is valid by the type invariant. `head_tail` covers both counters, so
        // that one volatile load reads a consistent pair.
        let head_tail = unsafe {
            (&raw const (*bindings::pipe_index_of(self.as_ptr())).head_tail).read_volatile()
        };
        let both = bindings::pipe_index { head_tail };
        // SAFETY: Every bit pattern is valid for two integers.
        let both = unsafe { both.__bindgen_anon_1 };
        Indices::new(both.head, both.tail)
    }

    /// Returns whether the pipe is empty, without taking the lock. May be out of date on return.
    #[inline]
    pub fn seems_empty(&self) -> bool {
        self.indices_unlocked().is_empty()
    }

    /// Returns whether the pipe is full, without taking the lock. May be out of date on return.
    #[inline]
    pub fn seems_full(&self) -> bool {
        self.indices_unlocked().is_full(self.max_usage_unlocked())
    }

    /// Returns the number of slots that may be used, without taking the lock. `F_SETPIPE_SZ` may
    /// change it at any time.
    #[inline]
    pub fn max_usage_unlocked(&self) -> u32 {
        // SAFETY: The pipe is valid by the type invariant. The field may change concurrently, hence
        // the volatile load.
        unsafe { (&raw const (*self.as_ptr()).max_usage).read_volatile() }
    }

    /// Wakes the readers that wait for data in `read(2)`, `poll(2)` or for `SIGIO`.
    ///
    /// The pipe may be locked or not. Does not sleep.
    #[inline]
    pub fn wake_readers(&self) {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { bindings::pipe_wake_readers(self.as_ptr()) };
    }

    /// Wakes the writers that wait for room in `write(2)`, `poll(2)` or for `SIGIO`.
    ///
    /// The pipe may be locked or not. Does not sleep.
    #[inline]
    pub fn wake_writers(&self) {
        // SAFETY: The pipe is valid by the type invariant.
        unsafe { bindings::pipe_wake_writers(self.as_ptr()) };
    }
}

/// A locked pipe. Dropping the guard unlocks it.
///
/// # Invariants
///
/// The pipe is valid for `'a`, and the owner of the guard has exclusive access to the pipe's ring.
pub struct PipeGuard<'a> {
    pipe: NonNull<bindings::pipe_inode_info>,
    _handle: PhantomData<&'a mut ()>,
    _not_send: NotThreadSafe,
}

impl PipeGuard<'_> {
    /// Returns the ring. The guard stays borrowed as long as the ring is in use.
    #[inline]
    pub fn ring(&mut self) -> PipeRing<'_> {
        // INVARIANT: The guard has exclusive access to the ring, and stays borrowed for the
        // lifetime of the result.
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
        // SAFETY: The pipe is valid by the type invariant, and this guard locked it.
        unsafe { bindings::pipe_unlock(self.pipe.as_ptr()) };
    }
}

/// A pipe that no file refers to. It has a single owner, so it needs no lock.
///
/// Transfers between two files use one as their buffer, and tests of the ring use one as well.
///
/// # Examples
///
/// ```
/// use kernel::pipe::PrivatePipe;
///
/// // A nested transfer gets another pipe than the outer transfer.
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
/// `pipe` comes from `alloc_pipe_info`. No file refers to it, and this value owns it.
pub struct PrivatePipe {
    pipe: NonNull<bindings::pipe_inode_info>,
}

impl PrivatePipe {
    /// Allocates a pipe of the default size. May sleep. C: `alloc_pipe_info`.
    ///
    /// Returns [`ENOMEM`] if there is no memory, or if the user has too many pipe buffers.
    pub fn new() -> Result<Self> {
        // SAFETY: `alloc_pipe_info` has no requirements.
        let pipe = NonNull::new(unsafe { bindings::alloc_pipe_info() }).ok_or(ENOMEM)?;
        // The owner fills the pipe and then reads it. Count that reader: without one, filling the
        // pipe would raise SIGPIPE.
        // SAFETY: The pipe was allocated above, and nothing else has a pointer to it.
        unsafe { (*pipe.as_ptr()).readers = 1 };
        // INVARIANT: The pipe comes from `alloc_pipe_info`, no file refers to it, and this is the
        // only pointer to it.
        Ok(Self { pipe })
    }

    /// Takes the pipe that the current task keeps for its transfers between two files, or allocates
    /// one. Give it back with [`Self::keep_for_current`]. C: `current->splice_pipe`.
    ///
    /// A nested transfer, for example on a file system that is stacked on another, finds no pipe
    /// and allocates its own.
    ///
    /// Returns [`ENOMEM`] if a pipe was needed and could not be allocated.
    #[inline]
    pub fn take_from_current() -> Result<Self> {
        // SAFETY: `current` is valid, and no other task accesses `splice_pipe` of a running task.
        let pipe = unsafe {
            ptr::replace(
                &raw mut (*bindings::get_current()).splice_pipe,
                ptr::null_mut(),
            )
        };
        match NonNull::new(pipe) {
            // INVARIANT: The task owned the pipe, which comes from `alloc_pipe_info`; the field is
            // null now, so that this value is the owner.
            Some(pipe) => Ok(Self { pipe }),
            None => Self::new(),
        }
    }

    /// Empties the pipe and stores it in the current task, for the next transfer.
    ///
    /// If the task has a pipe already, this one is freed.
    #[inline]
    pub fn keep_for_current(mut self) {
        self.ring().clear();
        // SAFETY: `current` is valid, and no other task accesses `splice_pipe` of a running task.
        unsafe {
            let slot = &raw mut (*bindings::get_current()).splice_pipe;
            if (*slot).is_null() {
                *slot = ManuallyDrop::new(self).pipe.as_ptr();
            }
        }
    }

    /// Returns the ring. No lock is needed.
    #[inline]
    pub fn ring(&mut self) -> PipeRing<'_> {
        // INVARIANT: The pipe belongs to `self` alone, which stays borrowed as long as the ring
        // exists.
        PipeRing {
            pipe: self.pipe,
            _access: PhantomData,
            _not_send: NotThreadSafe,
        }
    }

    /// Returns a handle, for functions that accept any pipe.
    #[inline]
    pub fn handle(&mut self) -> Pipe<'_> {
        // INVARIANT: The pipe is valid by the type invariant. `self` stays borrowed as long as the
        // handle exists, so it is the only one.
        Pipe {
            pipe: self.pipe,
            _alive: PhantomData,
        }
    }
}

impl Drop for PrivatePipe {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the pipe comes from `alloc_pipe_info`, and `self` owns it.
        // This also releases the buffers that are left in it.
        unsafe { bindings::free_pipe_info(self.pipe.as_ptr()) };
    }
}

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
    unsafe fn set_head(&mut self, head: u32) {
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
    unsafe fn set_tail(&mut self, tail: u32) {
        // SAFETY: The pipe is valid by the type invariant. Readers without the lock, such as
        // `pipe_poll`, see the old or the new value, because the store is volatile.
        unsafe { (&raw mut (*self.both_indices()).tail).write_volatile(tail) };
    }

    /// Returns the number of slots that may be used. C: `pipe_inode_info::max_usage`.
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

    /// Returns the notifications of the pipe, or `None` if no caller asked for one yet.
    #[inline]
    pub fn notifications(&self) -> Option<Arc<Notifications>> {
        // SAFETY: The pipe is valid by the type invariant, and access to the ring includes
        // `notices`. A non-null value is a reference that `notifications_or_new` stored.
        unsafe {
            let of = (*self.as_ptr()).notices.cast::<Notifications>();
            (!of.is_null()).then(|| ArcBorrow::from_raw(of).into())
        }
    }

    /// Returns the notifications of the pipe, and creates them if there are none. May sleep.
    ///
    /// Returns [`ENOMEM`] if they cannot be allocated.
    pub fn notifications_or_new(&mut self) -> Result<Arc<Notifications>> {
        if let Some(of) = self.notifications() {
            return Ok(of);
        }
        let of = Notifications::new()?;
        // SAFETY: The pipe is valid by the type invariant, and access to the ring includes
        // `notices`. `free_pipe_info` calls `rust_pipe_free`, which gives the stored reference
        // back.
        unsafe { (*self.as_ptr()).notices = Arc::into_raw(of.clone()).cast_mut().cast() };
        Ok(of)
    }

    /// Returns the array of slots. It does not move as long as the pipe is locked.
    #[inline]
    fn slots(&self) -> Slots {
        // SAFETY: The pipe is valid by the type invariant, and both fields are stable while it is
        // locked.
        let (bufs, size) = unsafe { ((*self.as_ptr()).bufs, (*self.as_ptr()).ring_size) };
        // INVARIANT: C keeps `ring_size` slots in `bufs`, and `ring_size` is a power of two.
        Slots { bufs, size }
    }

    /// Returns the slot that counter value `index` stands for.
    #[inline]
    fn slot(&self, index: u32) -> NonNull<bindings::pipe_buffer> {
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

    /// Adds buffers from `bufs` until there is no room or the iterator ends. Returns the number of
    /// buffers and of bytes that were added.
    ///
    /// If the ring is full, `bufs.next()` is not called, so that no buffer is lost.
    #[inline]
    pub fn append(&mut self, bufs: &mut impl Iterator<Item = PipeBuffer>) -> (usize, usize) {
        let mut filler = self.filler();
        while filler.space() > 0 {
            let Some(buf) = bufs.next() else { break };
            filler.push_or_count_as_one(buf);
        }
        filler.commit()
    }

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

    /// Starts to add buffers that become visible together, see [`Filler`].
    #[inline]
    pub fn filler(&mut self) -> Filler<'_> {
        let indices = self.indices();
        // INVARIANT: No buffer was added yet, and the free slots begin at the head.
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

    /// Splits each buffer that takes several slots into buffers of one page, one for each slot.
    ///
    /// This is for C code that does not expect more than one page in a buffer. A buffer that
    /// [counts as one slot](Vacancy::fill) is left as it is.
    ///
    /// Returns [`EFAULT`] if a page cannot get another reference. Some buffers may have been split
    /// by then; no data is lost.
    pub fn split_to_pages(&mut self) -> Result {
        let slots = self.slots();
        let indices = self.indices();
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

    /// Returns room for one more buffer, or `None` if the ring is full.
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
            ring: PipeRing {
                pipe: self.pipe,
                _access: PhantomData,
                _not_send: NotThreadSafe,
            },
        })
    }

    /// Sleeps until the pipe has data or no writer, or until a signal arrives. The pipe is unlocked
    /// while this sleeps. C: `pipe_wait_readable`.
    ///
    /// The caller checks the state of the ring and the signals again afterwards.
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

/// Gives back the reference to [`Notifications`] that a pipe may have. `free_pipe_info` calls this
/// after it released the buffers.
///
/// # Safety
///
/// `pipe` must be valid, and nothing else may refer to it.
#[export]
unsafe extern "C" fn rust_pipe_free(pipe: *mut bindings::pipe_inode_info) {
    // SAFETY: The caller guarantees that `pipe` is valid and not shared. If `notices` is not null,
    // `notifications_or_new` stored a reference there, which is not used again.
    unsafe {
        if !(*pipe).notices.is_null() {
            drop(Arc::from_raw((*pipe).notices.cast::<Notifications>()));
        }
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
struct Slots {
    bufs: *mut bindings::pipe_buffer,
    size: u32,
}

impl Slots {
    /// Returns the slot that counter value `index` stands for.
    #[inline]
    fn at(self, index: u32) -> NonNull<bindings::pipe_buffer> {
        // SAFETY: `ring::slot` returns a number below `size`, so the pointer stays inside the array
        // and is not null.
        unsafe { NonNull::new_unchecked(self.bufs.add(ring::slot(index, self.size))) }
    }

    /// Stores `buf`, which takes `slots` slots, in the slots from `index` on.
    ///
    /// # Safety
    ///
    /// These slots must be free, and nothing else may access them.
    #[inline]
    unsafe fn put(self, index: u32, buf: PipeBuffer, slots: u32) {
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

/// Room for one buffer in a ring. Filling it cannot fail.
///
/// # Invariants
///
/// `head` is the head of `ring`. The slot at the head is free and may be used.
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

    /// Adds the pages of small folios at the front of `ranges`, one buffer for each, until there is
    /// no free slot or another kind of range follows.
    ///
    /// `ranges` was found at the beginning of `range`. Returns the part of `range` that is left.
    #[inline(always)]
    pub fn push_small_pages(&mut self, ranges: &mut UserRanges, range: UserRange) -> UserRange {
        let mut left = range;
        let (slots, first) = (self.slots, self.head);
        let mut head = first;
        ranges.take_small_pages(self.space, |page| {
            let buf = PipeBuffer::from_user(page, left);
            left = left.skip(buf.len());
            // SAFETY: `take_small_pages` passes at most `space` pages, and by the type invariant
            // that many slots are free from the first on.
            unsafe { slots.put(head, buf, 1) };
            head = head.wrapping_add(1);
        });
        let added = head.wrapping_sub(first);
        // INVARIANT: Each page takes one slot, and these slots hold the buffers now.
        self.head = head;
        self.space = self.space.wrapping_sub(added);
        self.buffers = self.buffers.wrapping_add(added as usize);
        self.bytes = self.bytes.wrapping_add(range.len() - left.len());
        left
    }

    /// Adds `buf` if there is a free slot, and releases it otherwise. A buffer that takes more
    /// slots than are free counts as one slot.
    #[inline]
    fn push_or_count_as_one(&mut self, mut buf: PipeBuffer) {
        if buf.slots() > self.space {
            buf.count_as_one();
        }
        // If no slot is free, this drops the buffer, which releases it.
        let _ = self.push(buf);
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

impl Drop for Filler<'_> {
    fn drop(&mut self) {
        self.take_all(&mut drop);
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
/// `buf` is in the ring of `pipe`, which nothing else accesses for `'a`.
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

    /// Does the same as [`Self::confirm_inline`], but returns `false` for a buffer that has a
    /// [loan](PipeBuffer::loan) and `true` for all others.
    #[inline]
    pub fn confirm_unless_loaned(&mut self) -> Result<bool> {
        // A buffer with a loan has a `confirm` operation, so `is_good` returns false for it.
        if self.buf.is_good() {
            return Ok(true);
        }
        if self.buf.loan().is_some() {
            return Ok(false);
        }
        self.confirm().map(|()| true)
    }

    /// Returns a second buffer for the same bytes, see [`PipeBuffer::try_clone`].
    #[inline]
    pub fn try_clone(&mut self) -> Result<PipeBuffer> {
        // SAFETY: By the type invariant the buffer is in this pipe, to which access is exclusive.
        unsafe { self.buf.try_clone_in(self.pipe) }
    }

    /// Returns the buffer for the lifetime of the borrow of the ring.
    #[inline]
    pub fn into_buffer(self) -> &'a PipeBuffer {
        self.buf
    }

    /// Returns the C pipe and buffer, for a C function that takes both.
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
