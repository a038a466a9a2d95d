// SPDX-License-Identifier: GPL-2.0

//! User memory that is lent to the kernel by `vmsplice(2)`, as buffers.
//!
//! A [`Loan`] is what several buffers made by one call share: the pins, what these count for, and
//! whom to tell. All is given back when the last of the buffers is gone, and whatever else uses the
//! memory. Sharing makes taking and dropping a buffer as cheap as counting one reference.

use super::notify::Call;
use crate::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    bindings,
    mm::gup::{MemlockCharge, PinnedRanges, UserRange},
    page::PAGE_SIZE,
    pipe::{OpsTable, PipeBuffer, PipeBufferOps, Provenance},
    prelude::*,
    sync::{
        aref::AlwaysRefCounted,
        atomic::ordering::Relaxed,
        Arc,
        Refcount, //
    },
};
use core::ptr::NonNull;

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
            // SAFETY: That was the last reference to what `Loan::pin` allocated.
            drop(unsafe { KBox::from_raw(obj.as_ptr()) });
        }
    }
}

impl Loan {
    /// Pins the beginning of `range`, as [`PinnedRanges::pin`] does, and takes what that counts
    /// for out of `charge`. Nothing beyond what there is in `charge` is pinned. Returns the buffers
    /// that it becomes.
    ///
    /// Fails with [`ENOMEM`], or where the first page cannot be pinned.
    #[inline]
    pub fn pin(
        range: UserRange,
        charge: &mut MemlockCharge,
        call: Option<&Arc<Call>>,
    ) -> Result<LoanBuffers> {
        let range = range.first_pages(charge.pages());
        let mut loan = KBox::try_init(
            try_init!(Self {
                refs: Refcount::new(0),
                ranges <- PinnedRanges::pin(range),
                charge: MemlockCharge::none(),
                call: None,
            }? Error),
            GFP_KERNEL_ACCOUNT,
        )?;
        loan.charge = charge.split_to(loan.ranges.pages());
        loan.call = call.cloned();
        // One for each buffer. CAST: There are 16 at most.
        loan.refs.set(loan.ranges.len() as i32);
        // INVARIANT: None was taken out.
        Ok(LoanBuffers {
            ops: if loan.call.is_some() {
                REPORTED.as_raw()
            } else {
                LENT.as_raw()
            },
            next: 0,
            end: loan.ranges.len(),
            loan: NonNull::from(KBox::leak(loan)),
            offset: range.offset(),
            left: range.len(),
        })
    }
}

/// See [`Loan::pin`].
///
/// # Invariants
///
/// For each range from `next` to `end` there is a reference to `loan`, which is owned by this value.
/// Its buffers have the operations `ops`.
pub struct LoanBuffers {
    loan: NonNull<Loan>,
    ops: *const bindings::pipe_buf_operations,
    next: usize,
    end: usize,
    offset: usize,
    left: usize,
}

impl Iterator for LoanBuffers {
    type Item = PipeBuffer;

    #[inline]
    fn next(&mut self) -> Option<PipeBuffer> {
        if self.next >= self.end {
            return None;
        }
        // SAFETY: By the type invariant there is a reference still.
        let range = unsafe { self.loan.as_ref() }.ranges.get(self.next)?;
        // A page that the offset is in, and not more than the pipe holds, 2 GiB.
        let len = range
            .pages
            .wrapping_mul(PAGE_SIZE)
            .wrapping_sub(self.offset)
            .min(self.left);
        // SAFETY: The bytes are within the range, which the loan keeps; the reference goes along.
        // CAST: By the above.
        let buf = unsafe {
            PipeBuffer::lent(
                range.page,
                self.offset as u32,
                len as u32,
                self.ops,
                self.loan,
            )
        };
        // INVARIANT: That reference is the buffer's now.
        self.next += 1;
        self.left = self.left.wrapping_sub(len);
        self.offset = 0;
        Some(buf)
    }
}

impl Drop for LoanBuffers {
    #[inline]
    fn drop(&mut self) {
        while self.next < self.end {
            self.next += 1;
            // SAFETY: By the type invariant there is a reference.
            unsafe { Loan::dec_ref(self.loan) };
        }
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
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) {
    // SAFETY: By the caller's promise there is a reference to be given back.
    unsafe { Loan::dec_ref(NonNull::new_unchecked((*buf).private as *mut Loan)) };
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
