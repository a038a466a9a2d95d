// SPDX-License-Identifier: GPL-2.0

//! User memory of `vmsplice(2)`, for calls whose end of use is observed.
//!
//! An ordinary buffer of user memory owns a reference to its folio and nothing else. If the caller
//! asked for a notification, or if `fs.pipe-user-memory-pages` is set, a [`TrackedMemory`] owns the
//! memory instead, for several buffers of one call. The drop of its last reference gives back the
//! memory and the charge, and then sends the notification.
//!
//! Buffers own references to their [`TrackedMemory`]. A consumer that uses the memory for longer
//! than its buffer, such as a socket, keeps a reference as well.
//!
//! # Context
//!
//! A reference may be dropped in any context, including softirq. The work is bounded, since a
//! [`TrackedMemory`] has at most [`UserRanges::MAX`] ranges.

use super::{charge::UserMemoryCharge, notify::NotifiedCall};
use crate::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    bindings,
    mm::gup::{HeldPages, UserRange, UserRanges},
    pipe::{BufferRef, OpsTable, PipeBuffer, PipeBufferOps, Provenance},
    prelude::*,
    sync::{
        aref::AlwaysRefCounted,
        atomic::ordering::Relaxed,
        Arc,
        Refcount, //
    },
};
use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ptr::{self, NonNull},
};

/// The memory of one `vmsplice(2)` call, or of a part of it, that the kernel uses by reference.
///
/// # Invariants
///
/// Only the [`TrackedMemoryBuilder`] accesses `contents` as long as it exists, and then only the
/// drop of the last reference does.
pub struct TrackedMemory {
    refs: Refcount,
    contents: UnsafeCell<Contents>,
    // Dropped after `contents`, because the drop sends the notification.
    _call: Option<Arc<NotifiedCall>>,
}

/// The part that [`TrackedMemoryBuilder`] changes.
struct Contents {
    // The order of the fields is the order of their drop: the pages are given back before the
    // charge.
    pages: HeldArray,
    charge: UserMemoryCharge,
}

// SAFETY: Any task may give back memory and charges.
unsafe impl Send for TrackedMemory {}

// SAFETY: By the type invariant only one owner at a time accesses `contents`. The other fields are
// an atomic counter and a pointer that is only read.
unsafe impl Sync for TrackedMemory {}

// SAFETY: `refs` counts the references, and `dec_ref` frees the object when the last one is
// dropped.
unsafe impl AlwaysRefCounted for TrackedMemory {
    #[inline]
    fn inc_ref(&self) {
        self.refs.inc();
    }

    #[inline]
    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller of `dec_ref` owns a reference, so the object is valid.
        if unsafe { obj.as_ref() }.refs.dec_and_test() {
            // SAFETY: This was the last reference, so nothing else accesses the object.
            // `TrackedMemoryBuilder::new` allocated it as a `KBox`.
            drop(unsafe { KBox::from_raw(obj.as_ptr()) });
        }
    }
}

/// An array of up to [`UserRanges::MAX`] ranges of memory.
///
/// # Invariants
///
/// The first `len` elements are initialized.
struct HeldArray {
    items: [MaybeUninit<HeldPages>; UserRanges::MAX],
    len: usize,
}

impl HeldArray {
    /// Returns the ranges.
    fn as_slice(&self) -> &[HeldPages] {
        // SAFETY: By the type invariant the first `len` elements are initialized.
        unsafe { core::slice::from_raw_parts(self.items.as_ptr().cast(), self.len) }
    }

    /// Adds `held`. Returns `Err(held)` if there is no room.
    #[inline]
    fn push(&mut self, held: HeldPages) -> Result<&HeldPages, HeldPages> {
        let Some(slot) = self.items.get_mut(self.len) else {
            return Err(held);
        };
        // INVARIANT: The element is written in the next line, and nothing reads it before.
        self.len += 1;
        Ok(slot.write(held))
    }
}

impl Drop for HeldArray {
    fn drop(&mut self) {
        for item in self.items.iter_mut().take(self.len) {
            // SAFETY: By the type invariant the element is initialized. It is not used again.
            unsafe { item.assume_init_drop() };
        }
    }
}

/// A [`TrackedMemory`] to which memory can be added.
///
/// One task builds it. Its buffers may already be in use meanwhile.
///
/// # Invariants
///
/// `memory` is valid, and this value owns one reference to it.
///
/// # Examples
///
/// The notification is sent when the builder and all buffers are gone:
///
/// ```
/// use kernel::vmsplice::{Notifications, NotifiedCall, TrackedMemoryBuilder};
///
/// let notices = Notifications::new()?;
/// let call = NotifiedCall::new(notices.clone())?;
/// call.issue();
/// let builder = TrackedMemoryBuilder::new(Some(call))?;
/// assert!(!builder.is_full());
/// assert_eq!(notices.released(), 0);
/// drop(builder);
/// assert_eq!(notices.released(), 1);
/// # Ok::<(), Error>(())
/// ```
///
/// The caller charges memory before it adds it, and copies it if the user is at the limit:
///
/// ```
/// use kernel::{
///     mm::gup::{HeldPages, UserRange},
///     pipe::PipeBuffer,
///     prelude::*,
///     vmsplice::{TrackedMemoryBuilder, UserMemoryCharge}, //
/// };
///
/// /// Returns a buffer for the memory that was found at the beginning of `range`.
/// fn buffer(
///     builder: &mut TrackedMemoryBuilder,
///     held: HeldPages,
///     range: UserRange,
/// ) -> Result<PipeBuffer> {
///     if let Some(limit) = UserMemoryCharge::limit() {
///         if !builder.charge(&held, limit) {
///             let (offset, len) = (range.offset(), range.first_pages(1).len());
///             // CAST: At most `PAGE_SIZE`.
///             return PipeBuffer::from_page(held.copy(0, offset, len)?, 0, len as u32);
///         }
///     }
///     builder.track(held, range).map_err(|_| ENOSPC)
/// }
/// ```
pub struct TrackedMemoryBuilder {
    memory: NonNull<TrackedMemory>,
}

impl TrackedMemoryBuilder {
    /// Creates an object without memory. If `call` is not `None`, its drop counts for the
    /// notification of that call. May sleep.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub fn new(call: Option<Arc<NotifiedCall>>) -> Result<Self> {
        let memory = KBox::<TrackedMemory>::new_uninit(GFP_KERNEL_ACCOUNT)?;
        let memory = KBox::into_raw(memory).cast::<TrackedMemory>();
        // The fields are written one by one: if the whole value were written, the compiler would
        // copy the array, too.
        // SAFETY: `memory` was allocated above. All fields are written except the elements of the
        // array, which may be uninitialized.
        unsafe {
            (&raw mut (*memory).refs).write(Refcount::new(1));
            (&raw mut (*memory)._call).write(call);
            let contents = (&raw mut (*memory).contents).cast::<Contents>();
            (&raw mut (*contents).charge).write(UserMemoryCharge::none());
            // INVARIANT: The array has no elements.
            (&raw mut (*contents).pages.len).write(0);
        }
        // INVARIANT: The object was initialized with a count of 1, and this value owns that
        // reference.
        Ok(Self {
            // SAFETY: The pointer comes from a `KBox`, so it is not null.
            memory: unsafe { NonNull::new_unchecked(memory) },
        })
    }

    /// Returns whether there is no room for more memory.
    #[inline]
    pub fn is_full(&self) -> bool {
        // SAFETY: The object is valid by the type invariant, and only the builder accesses
        // `contents`, by the invariant of `TrackedMemory`.
        unsafe { (*self.memory.as_ref().contents.get()).pages.len == UserRanges::MAX }
    }

    /// Returns the part that can be changed.
    fn contents(&mut self) -> &mut Contents {
        // SAFETY: The object is valid by the type invariant. Only the builder accesses `contents`,
        // by the invariant of `TrackedMemory`, and it is borrowed exclusively.
        unsafe { &mut *self.memory.as_ref().contents.get() }
    }

    /// Counts the folio of `held` for the current user, unless it is already counted in this
    /// object. Call this before [`Self::track`].
    ///
    /// Returns `false` and counts nothing if the user would have more than `limit` pages.
    ///
    /// All pages of the folio count, since a reference to one of them keeps the whole folio in
    /// memory. A folio counts again in each object, that is, once for each [`UserRanges::MAX`]
    /// ranges.
    #[must_use]
    pub fn charge(&mut self, held: &HeldPages, limit: usize) -> bool {
        let contents = self.contents();
        let counted = contents
            .pages
            .as_slice()
            .iter()
            .any(|other| other.same_folio(held));
        counted || contents.charge.add(held.folio_pages(), limit)
    }

    /// Adds `held`, and returns a buffer for the beginning of `range` that `held` covers. `held`
    /// must have been found at the beginning of `range`.
    ///
    /// Returns `Err(held)` if there is no room for more memory.
    ///
    /// Does not charge the memory. The builder may be dropped while the buffer is in use.
    #[inline]
    pub fn track(&mut self, held: HeldPages, range: UserRange) -> Result<PipeBuffer, HeldPages> {
        let memory = self.memory;
        let held = self.contents().pages.push(held)?;
        let private = memory.as_ptr() as usize;
        // SAFETY: The object is valid by the type invariant and owns the pages since the line
        // above. The reference that is taken here moves to the buffer, whose release operation
        // gives it back.
        Ok(unsafe {
            memory.as_ref().inc_ref();
            PipeBuffer::of_user_memory(held, range, TRACKED.as_raw(), private)
        })
    }
}

impl Drop for TrackedMemoryBuilder {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `self` owns one reference, which is not used again.
        unsafe { TrackedMemory::dec_ref(self.memory) };
    }
}

impl PipeBuffer {
    /// Returns the owner of the memory, if a notification or a limit observes the end of its use.
    ///
    /// A consumer that uses the memory after it dropped the buffer keeps a reference to the result
    /// for as long.
    ///
    /// Only sockets keep memory in this way: drivers and files own the buffer, or are done
    /// with it when they return.
    #[inline]
    pub fn tracked(&self) -> Option<&TrackedMemory> {
        let raw = self.raw();
        if !ptr::eq(raw.ops, TRACKED.as_raw()) {
            return None;
        }
        // SAFETY: All buffers with these operations come from `TrackedMemoryBuilder::track`, so
        // `private` points to an object to which this buffer holds a reference.
        Some(unsafe { &*(raw.private as *const TrackedMemory) })
    }
}

impl BufferRef<'_> {
    /// Does the same as [`Self::confirm_inline`], but returns `false` for a buffer of
    /// [tracked memory](PipeBuffer::tracked) and `true` for all others.
    #[inline]
    pub fn confirm_unless_tracked(&mut self) -> Result<bool> {
        // A buffer of tracked memory has a `confirm` operation, so `is_good` returns false for it.
        if self.is_good() {
            return Ok(true);
        }
        if self.tracked().is_some() {
            return Ok(false);
        }
        self.confirm().map(|()| true)
    }
}

/// The operations of buffers of [`TrackedMemory`].
struct Tracked;

#[vtable]
impl PipeBufferOps for Tracked {
    const PROVENANCE: Provenance = Provenance::UserMemory;

    // The contents are always good. This operation exists so that readers notice such buffers in
    // their check for a `confirm` operation, which costs nothing for other kinds of buffers; see
    // `BufferRef::confirm_unless_tracked`.
    fn confirm(_buf: &PipeBuffer) -> Result {
        Ok(())
    }
}

/// The table for buffers of tracked memory.
static TRACKED: OpsTable<Tracked> =
    // SAFETY: `release` gives back the reference to the object that a buffer owns, and `get` takes
    // another one.
    unsafe { OpsTable::with_references(release, get) };

/// Gives back the reference of a buffer to its [`TrackedMemory`]. Does not sleep.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`TRACKED`], and must not be used again. C
/// guarantees this.
unsafe extern "C" fn release(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) {
    // SAFETY: The caller guarantees that `buf` is valid, so `private` points to an object to which
    // the buffer owns a reference.
    unsafe { TrackedMemory::dec_ref(NonNull::new_unchecked((*buf).private as *mut TrackedMemory)) };
}

/// Takes another reference to the [`TrackedMemory`]. Returns `false` if there are too many.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`TRACKED`]. C guarantees this.
unsafe extern "C" fn get(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: The caller guarantees that `buf` is valid, so `private` points to an object to which
    // the buffer owns a reference.
    let memory = unsafe { &*((*buf).private as *const TrackedMemory) };
    // The limit is far from overflow, so that concurrent calls cannot overflow the count either.
    if memory.refs.as_atomic().load(Relaxed) >= i32::MAX / 2 {
        return false;
    }
    memory.inc_ref();
    true
}
