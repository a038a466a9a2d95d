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
//! The guards of these locks borrow the [`Pipe`]. A function that waits for another process takes
//! `&mut Pipe`, so it cannot be called while one of them is held.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use crate::{bindings, error::to_result, fs::LocalFile, prelude::*, types::NotThreadSafe};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};

mod audited;
mod buffer;
mod filler;
mod index;
mod ops;
mod page;
mod private;
pub mod reserved;
mod ring;
mod transfer;

pub use audited::{AuditedSink, FunctionAddr};
pub use buffer::{BufferFlag, BufferFlags, PipeBuffer, Provenance};
pub use filler::{Filler, Vacancy};
pub use index::Indices;
pub use ops::{OpsTable, PipeBufOperations, PipeBufferOps, Stolen};
pub use page::{OwnedFolio, OwnedPage};
pub use ring::{BufferRef, PipeRing};

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
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{fs::LocalFile, pipe::Pipe, prelude::*};
    ///
    /// /// Returns the number of bytes in the pipe that `file` is an end of. May sleep.
    /// fn bytes(file: &LocalFile) -> Result<usize> {
    ///     let mut pipe = Pipe::of_file(file).ok_or(EINVAL)?;
    ///     // Others hold the mutex for as long as a read or write of the other end takes.
    ///     let mut guard = pipe.lock();
    ///     let bytes = guard.ring().iter().map(|buf| buf.len()).sum();
    ///     Ok(bytes)
    /// }
    /// ```
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
    /// As in [`Self::lock`], the mutex is not taken if no file refers to the pipe.
    #[inline]
    pub fn try_lock(&mut self) -> Option<PipeGuard<'_>> {
        // SAFETY: The pipe is valid by the type invariant. While this handle exists, either a
        // file refers to the pipe all the time, or none does.
        let is_locked = unsafe {
            (&raw const (*self.as_ptr()).files).read_volatile() == 0
                || bindings::mutex_trylock(&raw mut (*self.as_ptr()).mutex) != 0
        };
        if !is_locked {
            return None;
        }
        // INVARIANT: The pipe is locked, or no file refers to it and `self` is the only handle,
        // which stays borrowed while the guard exists.
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
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{Pipe, PrivatePipe};
    ///
    /// let (mut first, mut second) = (PrivatePipe::new()?, PrivatePipe::new()?);
    /// let (mut first, mut second) = (first.handle(), second.handle());
    /// let (mut from, mut to) = Pipe::lock_both(&mut first, &mut second)?;
    /// // The guards are in the order of the arguments.
    /// assert_eq!(from.ring().move_buffers(&mut to.ring(), 10), (0, 0));
    /// # Ok::<(), Error>(())
    /// ```
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
    ///
    /// Two loads, one for each counter, could pair a new tail with an old head. The occupancy would
    /// wrap, and an empty pipe would seem full.
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
        // SAFETY: By the type invariant the pipe is valid and the guard has exclusive access to the
        // ring. The guard stays borrowed for the lifetime of the result.
        unsafe { PipeRing::from_raw(self.pipe.as_ptr()) }
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
    /// Runs `f` on the ring with at most `slots` of its slots, and no more than it has.
    ///
    /// For a file that finds out from the pipe how much it may put in.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::PrivatePipe;
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let size = pipe.ring().max_usage();
    /// assert_eq!(pipe.with_limit(1, |ring| ring.space()), 1);
    /// assert_eq!(pipe.ring().max_usage(), size);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn with_limit<R>(&mut self, slots: u32, f: impl FnOnce(&mut PipeRing<'_>) -> R) -> R {
        let mut ring = self.ring();
        let size = ring.max_usage();
        ring.set_max_usage(slots.min(size));
        let ret = f(&mut ring);
        ring.set_max_usage(size);
        ret
    }

    /// Allocates a pipe of the default size. May sleep. C: `alloc_pipe_info`.
    ///
    /// Returns [`ENOMEM`] if there is no memory, or if the user has too many pipe buffers.
    ///
    /// The pipe counts one reader and no writer. So waiting for data in it ends at once, and a wait
    /// for room that cannot come returns [`EAGAIN`]:
    ///
    /// ```
    /// use kernel::{
    ///     pipe::PrivatePipe,
    ///     splice::{wait_for_data, wait_for_room, Progress, SpliceFlags}, //
    /// };
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// assert!(ring.has_readers() && !ring.has_writers() && !ring.has_files());
    /// assert!(!wait_for_data(&mut ring, SpliceFlags::empty(), &mut Progress::default())?);
    /// wait_for_room(&mut ring, SpliceFlags::empty())?;
    /// # Ok::<(), Error>(())
    /// ```
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

    /// Gives the ring at least `slots` slots. May sleep. C: `pipe_resize_ring`.
    ///
    /// The memory is not charged to the user, as that of `F_SETPIPE_SZ` is: use this only for a
    /// pipe that is dropped before the system call ends.
    ///
    /// Returns [`ENOMEM`] if there is no memory, and changes nothing then.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer, PrivatePipe};
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10)?;
    /// pipe.ring().vacancy().ok_or(EAGAIN)?.fill(buf);
    /// pipe.enlarge(100)?;
    /// assert!(pipe.ring().max_usage() >= 100);
    /// assert_eq!(pipe.ring().front().map(|buf| buf.len()), Some(10));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn enlarge(&mut self, slots: u32) -> Result {
        if slots <= self.ring().max_usage() {
            return Ok(());
        }
        let slots = slots.checked_next_power_of_two().ok_or(ENOMEM)?;
        let pipe = self.pipe.as_ptr();
        // SAFETY: By the type invariant the pipe is valid and belongs to `self` alone.
        let ret = unsafe {
            // The pipe gives back to the user as many slots as `nr_accounted` says, which is what
            // was charged. The function takes the difference from `max_usage` as reserved.
            let charged = (*pipe).nr_accounted;
            (*pipe).nr_accounted = (*pipe).max_usage;
            let ret = bindings::pipe_resize_ring(pipe, slots);
            (*pipe).nr_accounted = charged;
            ret
        };
        to_result(ret)
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
        // SAFETY: By the type invariant the pipe is valid and belongs to `self` alone, which stays
        // borrowed as long as the ring exists.
        unsafe { PipeRing::from_raw(self.pipe.as_ptr()) }
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
