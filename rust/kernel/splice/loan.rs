// SPDX-License-Identifier: GPL-2.0

//! User memory that is lent to the kernel by `vmsplice(2)`, as buffers.
//!
//! A [`Loan`] is what several buffers made by one call share: the pins, what these count for, and
//! whom to tell. All is given back when the last of the buffers is gone, and whatever else uses the
//! memory. Sharing makes taking and dropping a buffer as cheap as counting one reference.

use super::notify::Call;
use crate::{
    bindings,
    mm::gup::{MemlockCharge, PinnedRanges, UserRange},
    page::PAGE_SIZE,
    pipe::{OpsTable, PipeBuffer, PipeBufferOps, PipeRing, Provenance, DETACHED_PIPE},
    prelude::*,
    sync::{
        aref::AlwaysRefCounted,
        atomic::ordering::Relaxed,
        Arc,
        Refcount, //
    },
};
use core::ptr::{self, NonNull};

/// Memory that one `vmsplice(2)` lends to the kernel, or a part of it.
pub struct Loan {
    refs: Refcount,
    // Dropped in this order: the pages first, then what they count for; the call is what tells.
    ranges: PinnedRanges,
    charge: MemlockCharge,
    call: Option<Arc<Call>>,
}

// SAFETY: `refs` is the count, and it is freed where that becomes zero.
unsafe impl AlwaysRefCounted for Loan {
    #[inline]
    fn inc_ref(&self) {
        self.refs.inc();
    }

    #[inline]
    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: By the caller's promise it is valid.
        if unsafe { obj.as_ref() }.refs.dec_and_test() {
            // SAFETY: That was the last reference to what `Loan::append` made. Nobody keeps
            // anything in the detached pipe.
            unsafe { Self::free(DETACHED_PIPE.as_ptr(), obj.as_ptr()) };
        }
    }
}

impl Loan {
    /// Frees what `pipe` has kept for its next loan, if anything.
    ///
    /// # Safety
    ///
    /// `pipe` is valid, and nobody else refers to it.
    #[inline]
    pub(crate) unsafe fn free_spare(pipe: *mut bindings::pipe_inode_info) {
        // SAFETY: By the caller's promise.
        unsafe { bindings::user_loan_free_spare(pipe, size_of::<Self>()) };
    }

    /// Gives back what `loan` has, and its memory, which the pipe may keep.
    ///
    /// # Safety
    ///
    /// `pipe` is valid, or the detached pipe. `loan` comes from `user_loan_alloc`, is initialized,
    /// and is not used again.
    #[inline(never)]
    unsafe fn free(pipe: *mut bindings::pipe_inode_info, loan: *mut Self) {
        // SAFETY: By the caller's promise.
        unsafe {
            ptr::drop_in_place(loan);
            bindings::user_loan_free(pipe, loan.cast(), size_of::<Self>());
        }
    }

    /// Pins the beginning of `range`, as [`PinnedRanges::pin`] does, takes what that counts for out
    /// of `charge`, and puts it into the pipe, one buffer for each range. Nothing is pinned beyond
    /// what there is in `charge`. Says how many buffers and bytes that were.
    ///
    /// There has to be room in the pipe; where there is too little, what there is none for is left
    /// out. Fails with [`ENOMEM`], which is also for an empty `charge`, or where the first page
    /// cannot be pinned.
    #[inline(always)]
    pub fn append(
        ring: &mut PipeRing<'_>,
        range: UserRange,
        charge: &mut MemlockCharge,
        call: Option<&Arc<Call>>,
    ) -> Result<(usize, usize)> {
        if charge.pages() == 0 {
            return Err(ENOMEM);
        }
        let range = range.first_pages(charge.pages());
        let pipe = ring.as_ptr();
        // SAFETY: The pipe is valid. Any size will do, as long as it is always the same.
        let loan: *mut Self = unsafe { bindings::user_loan_alloc(pipe, size_of::<Self>()) }.cast();
        if loan.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: There is room for a `Loan`, which nobody else knows; where this fails nothing is
        // initialized.
        unsafe {
            let ranges = PinnedRanges::pin(range);
            if let Err(err) = ranges.__init(&raw mut (*loan).ranges) {
                bindings::user_loan_free(pipe, loan.cast(), size_of::<Self>());
                return Err(err);
            }
            let pages = (*loan).ranges.pages();
            (&raw mut (*loan).refs).write(Refcount::new(0));
            (&raw mut (*loan).charge).write(charge.split_to(pages));
            (&raw mut (*loan).call).write(call.cloned());
        }

        let ops = if call.is_none() {
            LENT.as_raw()
        } else {
            REPORTED.as_raw()
        };
        // SAFETY: Valid, and not shared before there is a buffer that is taken out of the ring. The
        // operations are those for whether there is a call.
        let bufs = unsafe { LoanBuffers::new(loan, ops, range) };
        let (buffers, bytes) = match bufs.ranges.len() {
            1 => bufs.fill_one(ring),
            _ => bufs.fill_all(ring),
        };
        // One reference for each. None of them was dropped, and nobody can take one out of the ring
        // as long as it is borrowed. SAFETY: By that nobody has given one back. CAST: There are 16
        // at most.
        unsafe { (*loan).refs.set(buffers as i32) };
        if buffers == 0 {
            // SAFETY: Nobody else knows it.
            unsafe { Self::free(pipe, loan) };
        }
        Ok((buffers, bytes))
    }
}

/// Buffers of a loan, whose references are counted afterwards.
struct LoanBuffers<'a> {
    loan: *mut Loan,
    ops: *const bindings::pipe_buf_operations,
    ranges: &'a PinnedRanges,
    next: usize,
    offset: usize,
    left: usize,
}

impl LoanBuffers<'_> {
    /// What the ranges have of `range`.
    ///
    /// # Safety
    ///
    /// `loan` is valid as long as this is used. `ops` are those for it.
    #[inline(always)]
    unsafe fn new(
        loan: *mut Loan,
        ops: *const bindings::pipe_buf_operations,
        range: UserRange,
    ) -> Self {
        Self {
            loan,
            ops,
            // SAFETY: By the caller's promise.
            ranges: unsafe { &(*loan).ranges },
            next: 0,
            offset: range.offset(),
            left: range.len(),
        }
    }

    /// Puts in what there is room for. Says how many buffers and bytes that were.
    #[inline(never)]
    fn fill_all(mut self, ring: &mut PipeRing<'_>) -> (usize, usize) {
        ring.append(&mut self)
    }

    /// Likewise, where there is one.
    #[inline(always)]
    fn fill_one(mut self, ring: &mut PipeRing<'_>) -> (usize, usize) {
        if let Some(vacancy) = ring.vacancy() {
            if let Some(buf) = self.next() {
                let bytes = buf.len();
                vacancy.fill_lent(buf);
                return (1, bytes);
            }
        }
        (0, 0)
    }
}

impl Iterator for LoanBuffers<'_> {
    type Item = PipeBuffer;

    #[inline]
    fn next(&mut self) -> Option<PipeBuffer> {
        let range = self.ranges.get(self.next)?;
        // The offset is one in the first page.
        let len = range
            .pages
            .wrapping_mul(PAGE_SIZE)
            .wrapping_sub(self.offset)
            .min(self.left);
        // SAFETY: The bytes are within the range, which the loan keeps; whoever uses this counts
        // the reference.
        // CAST: A pipe holds no more than 2 GiB.
        let buf = unsafe {
            PipeBuffer::lent(
                range.page,
                self.offset as u32,
                len as u32,
                self.ops,
                NonNull::new_unchecked(self.loan),
            )
        };
        self.next = self.next.wrapping_add(1);
        self.left = self.left.wrapping_sub(len);
        self.offset = 0;
        Some(buf)
    }
}

/// Buffers of user memory.
pub(crate) struct Lent;

#[vtable]
impl PipeBufferOps for Lent {
    const PROVENANCE: Provenance = Provenance::UserMemory;
}

/// Buffers of user memory that is to be reported.
pub(crate) struct Reported;

#[vtable]
impl PipeBufferOps for Reported {
    const PROVENANCE: Provenance = Provenance::UserMemory;

    // That there is one at all is how others find out, at no cost for other kinds: see
    // `BufferRef::confirm_unless_reported`.
    fn confirm(_buf: &PipeBuffer) -> Result {
        Ok(())
    }
}

/// What identifies buffers that have a [`Loan`].
pub(crate) static LENT: OpsTable<Lent> =
    // SAFETY: Both do as they have to, for buffers made by `PipeBuffer::lent`.
    unsafe { OpsTable::with_references(release, get) };

/// As [`LENT`], where the loan is to be reported.
pub(crate) static REPORTED: OpsTable<Reported> =
    // SAFETY: As above.
    unsafe { OpsTable::with_references(release, get) };

/// # Safety
///
/// As C calls it: `buf` is a valid buffer of these operations, and not used again.
unsafe extern "C" fn release(
    pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) {
    // SAFETY: By the caller's promise there is a reference to be given back, and where it is the
    // last one nobody else knows the loan. The pipe is valid, or the detached one.
    unsafe {
        let loan = (*buf).private as *mut Loan;
        if (*loan).refs.dec_and_test() {
            Loan::free(pipe, loan);
        }
    }
}

/// # Safety
///
/// As C calls it: `buf` is a valid buffer of these operations.
unsafe extern "C" fn get(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: By the caller's promise; the buffer has a reference, so it is valid.
    let loan = unsafe { &*((*buf).private as *const Loan) };
    // Far from overflow, whatever others are about to add.
    if loan.refs.as_atomic().load(Relaxed) >= i32::MAX / 2 {
        return false;
    }
    loan.inc_ref();
    true
}
