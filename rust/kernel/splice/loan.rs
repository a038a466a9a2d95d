// SPDX-License-Identifier: GPL-2.0

//! User memory of `vmsplice(2)`, if the end of its use is observed.
//!
//! An ordinary buffer of user memory holds its folio and nothing else. If a notification was asked
//! for, or `fs.pipe-user-memory-pages` sets a limit, a [`Loan`] holds the memory for several
//! buffers of one call instead, together with what to do at the end: to give back the charge, and
//! to send the notification. Everything that uses the memory keeps a reference to the loan.

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

/// Memory that one `vmsplice(2)` lends to the kernel, or a part of it.
///
/// # Invariants
///
/// Only the [`LoanBuilder`], as long as it exists, and whoever drops the last reference access
/// `lent`.
pub struct Loan {
    refs: Refcount,
    lent: UnsafeCell<Lent>,
    // Dropped after the memory: this sends the notification.
    _call: Option<Arc<NotifiedCall>>,
}

struct Lent {
    // Dropped in this order: the pages before the charge for them.
    pages: HeldArray,
    charge: UserMemoryCharge,
}

// SAFETY: References to memory, and charges, can be given back by any task.
unsafe impl Send for Loan {}

// SAFETY: By the type invariant `lent` has one user at a time; the rest is only read.
unsafe impl Sync for Loan {}

// SAFETY: `refs` is the count, and the loan is freed when it becomes zero.
unsafe impl AlwaysRefCounted for Loan {
    #[inline]
    fn inc_ref(&self) {
        self.refs.inc();
    }

    #[inline]
    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: By the caller's promise it is valid.
        if unsafe { obj.as_ref() }.refs.dec_and_test() {
            // SAFETY: That was the last reference to what `LoanBuilder::new` allocated.
            drop(unsafe { KBox::from_raw(obj.as_ptr()) });
        }
    }
}

/// Up to [`UserRanges::MAX`] ranges of memory.
///
/// # Invariants
///
/// The first `len` elements are initialized.
struct HeldArray {
    items: [MaybeUninit<HeldPages>; UserRanges::MAX],
    len: usize,
}

impl HeldArray {
    fn as_slice(&self) -> &[HeldPages] {
        // SAFETY: By the type invariant.
        unsafe { core::slice::from_raw_parts(self.items.as_ptr().cast(), self.len) }
    }

    /// Adds `held`; `Err(held)` if there is no room.
    #[inline]
    fn push(&mut self, held: HeldPages) -> Result<&HeldPages, HeldPages> {
        let Some(slot) = self.items.get_mut(self.len) else {
            return Err(held);
        };
        // INVARIANT: The slot is initialized.
        self.len += 1;
        Ok(slot.write(held))
    }
}

impl Drop for HeldArray {
    fn drop(&mut self) {
        for item in self.items.iter_mut().take(self.len) {
            // SAFETY: By the type invariant; it is not used again.
            unsafe { item.assume_init_drop() };
        }
    }
}

/// A [`Loan`] to which memory can be added.
///
/// # Invariants
///
/// `loan` is valid, and this value owns one reference to it.
pub struct LoanBuilder {
    loan: NonNull<Loan>,
}

impl LoanBuilder {
    /// A loan without memory, whose end is reported to `call`, if there is one. Fails with
    /// [`ENOMEM`].
    pub fn new(call: Option<Arc<NotifiedCall>>) -> Result<Self> {
        let loan = KBox::<Loan>::new_uninit(GFP_KERNEL_ACCOUNT)?;
        let loan = KBox::into_raw(loan).cast::<Loan>();
        // Field by field: of a whole value the compiler would copy the array as well.
        // SAFETY: Allocated just now. All fields are written, but for the items of the array, which
        // may be uninitialized.
        unsafe {
            (&raw mut (*loan).refs).write(Refcount::new(1));
            (&raw mut (*loan)._call).write(call);
            let lent = (&raw mut (*loan).lent).cast::<Lent>();
            (&raw mut (*lent).charge).write(UserMemoryCharge::none());
            // INVARIANT: No items.
            (&raw mut (*lent).pages.len).write(0);
        }
        // INVARIANT: The first reference.
        Ok(Self {
            // SAFETY: A box is not null.
            loan: unsafe { NonNull::new_unchecked(loan) },
        })
    }

    /// Whether there is no room for more memory.
    #[inline]
    pub fn is_full(&self) -> bool {
        // SAFETY: The loan is valid, and nobody else changes this while the builder exists.
        unsafe { (*self.loan.as_ref().lent.get()).pages.len == UserRanges::MAX }
    }

    fn lent(&mut self) -> &mut Lent {
        // SAFETY: The loan is valid, and nobody else accesses this, by the invariant of `Loan`.
        unsafe { &mut *self.loan.as_ref().lent.get() }
    }

    /// Counts the folio of `held` for the current user, unless it is counted in this loan already.
    /// Returns whether that is within `limit`, in pages.
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

    /// Adds `held` to the loan. Returns a buffer of the user memory at the beginning of `range`, as
    /// far as it is in `held`, which was found there; `Err(held)` if there is no room for more.
    #[inline]
    pub fn lend(&mut self, held: HeldPages, range: UserRange) -> Result<PipeBuffer, HeldPages> {
        let loan = self.loan;
        let held = self.lent().pages.push(held)?;
        // SAFETY: The loan is valid, and holds the pages. The new reference is handed over.
        Ok(unsafe {
            loan.as_ref().inc_ref();
            PipeBuffer::from_loan(held, range, loan)
        })
    }
}

impl Drop for LoanBuilder {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { Loan::dec_ref(self.loan) };
    }
}

/// Buffers with a [`Loan`].
pub(crate) struct Loaned;

#[vtable]
impl PipeBufferOps for Loaned {
    const PROVENANCE: Provenance = Provenance::UserMemory;

    // The contents are good. That there is this operation makes others notice the loan, at no cost
    // for other kinds of buffers: see `BufferRef::confirm_unless_loaned`.
    fn confirm(_buf: &PipeBuffer) -> Result {
        Ok(())
    }
}

/// The table of [`Loaned`].
pub(crate) static LOANED: OpsTable<Loaned> =
    // SAFETY: `release` gives back the reference to the loan that a buffer has, and `get` takes
    // another.
    unsafe { OpsTable::with_references(release, get) };

/// # Safety
///
/// As C calls it: `buf` is a valid buffer with the operations of [`LOANED`], and is not used again.
unsafe extern "C" fn release(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) {
    // SAFETY: The buffer has a reference to a loan, by the caller's promise, which is given back.
    unsafe { Loan::dec_ref(NonNull::new_unchecked((*buf).private as *mut Loan)) };
}

/// # Safety
///
/// As C calls it: `buf` is a valid buffer with the operations of [`LOANED`].
unsafe extern "C" fn get(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: The buffer has a reference to a loan, by the caller's promise, so it is valid.
    let loan = unsafe { &*((*buf).private as *const Loan) };
    // Far from overflow, whatever others are about to add.
    if loan.refs.as_atomic().load(Relaxed) >= i32::MAX / 2 {
        return false;
    }
    loan.inc_ref();
    true
}
