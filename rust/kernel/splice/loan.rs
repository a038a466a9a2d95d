// SPDX-License-Identifier: GPL-2.0

//! User memory of `vmsplice(2)`, for calls whose end of use is observed.
//!
//! An ordinary buffer of user memory owns a reference to its folio and nothing else. If the caller
//! asked for a notification, or if `fs.pipe-user-memory-pages` is set, a [`Loan`] owns the memory
//! instead, for several buffers of one call. When the last reference to a loan is dropped, it gives
//! back the memory and the charge, and then sends the notification.
//!
//! Buffers own references to their loan. A consumer that uses the memory for longer than its
//! buffer, such as a socket, keeps a reference to the loan as well.
//!
//! # Context
//!
//! A reference to a loan may be dropped in any context, including softirq. The work is bounded,
//! since a loan has at most [`UserRanges::MAX`] ranges.

use super::notify::NotifiedCall;
use crate::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    bindings,
    mm::gup::{HeldPages, UserMemoryCharge, UserRange, UserRanges},
    pipe::{OpsTable, PipeBuffer, PipeBufferOps, Provenance},
    prelude::*,
    sync::{
        aref::AlwaysRefCounted,
        atomic::ordering::Relaxed,
        Arc,
        Refcount, //
    },
};
use core::{cell::UnsafeCell, mem::MaybeUninit, ptr::NonNull};

/// The memory of one `vmsplice(2)` call, or of a part of it, that the kernel uses by reference.
///
/// # Invariants
///
/// Only the [`LoanBuilder`] accesses `lent` as long as it exists, and then only the drop of the
/// last reference does.
pub struct Loan {
    refs: Refcount,
    lent: UnsafeCell<Lent>,
    // Dropped after `lent`, because the drop sends the notification.
    _call: Option<Arc<NotifiedCall>>,
}

/// The part of a loan that [`LoanBuilder`] changes.
struct Lent {
    // The order of the fields is the order of their drop: the pages are given back before the
    // charge.
    pages: HeldArray,
    charge: UserMemoryCharge,
}

// SAFETY: Any task may give back memory and charges.
unsafe impl Send for Loan {}

// SAFETY: By the type invariant only one owner at a time accesses `lent`. The other fields are an
// atomic counter and a pointer that is only read.
unsafe impl Sync for Loan {}

// SAFETY: `refs` counts the references, and `dec_ref` frees the loan when the last one is dropped.
unsafe impl AlwaysRefCounted for Loan {
    #[inline]
    fn inc_ref(&self) {
        self.refs.inc();
    }

    #[inline]
    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller of `dec_ref` owns a reference, so the loan is valid.
        if unsafe { obj.as_ref() }.refs.dec_and_test() {
            // SAFETY: This was the last reference, so nothing else accesses the loan.
            // `LoanBuilder::new` allocated it as a `KBox`.
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

/// A [`Loan`] to which memory can be added.
///
/// A loan is built by one task. Its buffers may already be in use meanwhile.
///
/// # Invariants
///
/// `loan` is valid, and this value owns one reference to it.
pub struct LoanBuilder {
    loan: NonNull<Loan>,
}

impl LoanBuilder {
    /// Creates a loan without memory. If `call` is not `None`, the end of the loan counts for the
    /// notification of that call. May sleep.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub fn new(call: Option<Arc<NotifiedCall>>) -> Result<Self> {
        let loan = KBox::<Loan>::new_uninit(GFP_KERNEL_ACCOUNT)?;
        let loan = KBox::into_raw(loan).cast::<Loan>();
        // The fields are written one by one: if the whole value were written, the compiler would
        // copy the array, too.
        // SAFETY: `loan` was allocated above. All fields are written except the elements of the
        // array, which may be uninitialized.
        unsafe {
            (&raw mut (*loan).refs).write(Refcount::new(1));
            (&raw mut (*loan)._call).write(call);
            let lent = (&raw mut (*loan).lent).cast::<Lent>();
            (&raw mut (*lent).charge).write(UserMemoryCharge::none());
            // INVARIANT: The array has no elements.
            (&raw mut (*lent).pages.len).write(0);
        }
        // INVARIANT: The loan was initialized with a count of 1, and this value owns that
        // reference.
        Ok(Self {
            // SAFETY: The pointer comes from a `KBox`, so it is not null.
            loan: unsafe { NonNull::new_unchecked(loan) },
        })
    }

    /// Returns whether there is no room for more memory.
    #[inline]
    pub fn is_full(&self) -> bool {
        // SAFETY: The loan is valid by the type invariant, and only the builder accesses `lent`, by
        // the invariant of `Loan`.
        unsafe { (*self.loan.as_ref().lent.get()).pages.len == UserRanges::MAX }
    }

    /// Returns the part of the loan that can be changed.
    fn lent(&mut self) -> &mut Lent {
        // SAFETY: The loan is valid by the type invariant. Only the builder accesses `lent`, by the
        // invariant of `Loan`, and it is borrowed exclusively.
        unsafe { &mut *self.loan.as_ref().lent.get() }
    }

    /// Counts the folio of `held` for the current user, unless it is already counted in this loan.
    /// Call this before [`Self::lend`].
    ///
    /// Returns `false` and counts nothing if the user would have more than `limit` pages.
    #[must_use]
    pub fn charge(&mut self, held: &HeldPages, limit: usize) -> bool {
        let lent = self.lent();
        let counted = lent
            .pages
            .as_slice()
            .iter()
            .any(|other| other.same_folio(held));
        counted || lent.charge.add(held.folio_pages(), limit)
    }

    /// Adds `held` to the loan, and returns a buffer for the beginning of `range` that `held`
    /// covers. `held` must have been found at the beginning of `range`.
    ///
    /// Returns `Err(held)` if there is no room for more memory.
    #[inline]
    pub fn lend(&mut self, held: HeldPages, range: UserRange) -> Result<PipeBuffer, HeldPages> {
        let loan = self.loan;
        let held = self.lent().pages.push(held)?;
        // SAFETY: The loan is valid by the type invariant and owns the pages since the line above.
        // The reference that is taken here moves to the buffer.
        Ok(unsafe {
            loan.as_ref().inc_ref();
            PipeBuffer::from_loan(held, range, loan)
        })
    }
}

impl Drop for LoanBuilder {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `self` owns one reference, which is not used again.
        unsafe { Loan::dec_ref(self.loan) };
    }
}

/// The operations of buffers with a [`Loan`].
pub(crate) struct Loaned;

#[vtable]
impl PipeBufferOps for Loaned {
    const PROVENANCE: Provenance = Provenance::UserMemory;

    // The contents are always good. This operation exists so that readers notice the loan in their
    // check for a `confirm` operation, which costs nothing for other kinds of buffers; see
    // `BufferRef::confirm_unless_loaned`.
    fn confirm(_buf: &PipeBuffer) -> Result {
        Ok(())
    }
}

/// The table for buffers with a loan.
pub(crate) static LOANED: OpsTable<Loaned> =
    // SAFETY: `release` gives back the reference to the loan that a buffer owns, and `get` takes
    // another one.
    unsafe { OpsTable::with_references(release, get) };

/// Gives back the reference of a buffer to its loan. Does not sleep.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`LOANED`], and must not be used again. C
/// guarantees this.
unsafe extern "C" fn release(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) {
    // SAFETY: The caller guarantees that `buf` is valid, so `private` points to a loan to which the
    // buffer owns a reference.
    unsafe { Loan::dec_ref(NonNull::new_unchecked((*buf).private as *mut Loan)) };
}

/// Takes another reference to the loan. Returns `false` if there are too many.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`LOANED`]. C guarantees this.
unsafe extern "C" fn get(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: The caller guarantees that `buf` is valid, so `private` points to a loan to which the
    // buffer owns a reference.
    let loan = unsafe { &*((*buf).private as *const Loan) };
    // The limit is far from overflow, so that concurrent calls cannot overflow the count either.
    if loan.refs.as_atomic().load(Relaxed) >= i32::MAX / 2 {
        return false;
    }
    loan.inc_ref();
    true
}
