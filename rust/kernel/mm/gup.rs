// SPDX-License-Identifier: GPL-2.0

//! User memory that is pinned, and what it counts for.
//!
//! C headers: [`include/linux/user_ranges.h`](srctree/include/linux/user_ranges.h),
//! [`include/linux/sched/user.h`](srctree/include/linux/sched/user.h)

use crate::{bindings, page::PAGE_SIZE, prelude::*};
use core::{
    mem,
    ptr::{self, NonNull},
};

/// A range of addresses of user memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    addr: usize,
    len: usize,
}

impl UserRange {
    /// `len` bytes from `addr` on. Whether there is any memory is another question.
    #[inline]
    pub const fn new(addr: usize, len: usize) -> Self {
        Self { addr, len }
    }

    /// The first address.
    #[inline]
    pub const fn addr(self) -> usize {
        self.addr
    }

    /// The number of bytes.
    #[inline]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Where in its page the first byte is.
    #[inline]
    pub const fn offset(self) -> usize {
        self.addr & (PAGE_SIZE - 1)
    }

    /// How many pages the bytes are in.
    #[inline]
    pub const fn pages(self) -> usize {
        // No overflow: `import_iovec` and the like admit no more than `MAX_RW_COUNT` bytes.
        self.len
            .wrapping_add(self.offset())
            .wrapping_add(PAGE_SIZE - 1)
            / PAGE_SIZE
    }

    /// As much of the beginning as is in the first `pages` pages.
    #[inline]
    pub const fn first_pages(self, pages: usize) -> Self {
        if pages >= self.pages() {
            return self;
        }
        Self {
            addr: self.addr,
            // Fewer than there are, so this cannot wrap; no pages are no bytes.
            len: pages.wrapping_mul(PAGE_SIZE).saturating_sub(self.offset()),
        }
    }

    /// Without the first `n` bytes, or without any where there are fewer.
    #[inline]
    #[must_use]
    pub const fn skip(self, n: usize) -> Self {
        let n = if n < self.len { n } else { self.len };
        Self {
            addr: self.addr.wrapping_add(n),
            len: self.len - n,
        }
    }
}

/// Pages that are physically contiguous, of one folio, and pinned as long as what this comes from.
#[derive(Clone, Copy)]
pub struct PinnedRange {
    /// The first page.
    pub page: NonNull<bindings::page>,
    /// How many pages there are.
    pub pages: usize,
}

/// User memory of one range of addresses, pinned until this is dropped (`FOLL_PIN`,
/// `FOLL_LONGTERM`), for reading.
///
/// The pages stay the user's, who may write to them, and unmap them, at any time. No page table is
/// changed, but for anonymous pages shared since a fork, and pages of private file mappings: those
/// become the user's own when they are pinned.
///
/// # Invariants
///
/// The first `nr` elements of both arrays are as `pin_user_ranges` fills them in, with success, and
/// the pins are owned by this value.
#[repr(transparent)]
pub struct PinnedRanges(bindings::user_ranges);

// SAFETY: Pins can be given back from any task.
unsafe impl Send for PinnedRanges {}

// SAFETY: Nothing is changed by a reference.
unsafe impl Sync for PinnedRanges {}

#[expect(clippy::len_without_is_empty)]
impl PinnedRanges {
    /// Pins memory of the current task, from the beginning of `range` on: as much as there are
    /// ranges for, and as can be pinned. May sleep. C: `pin_user_ranges`.
    ///
    /// Fails with [`EFAULT`] and the like where the first page cannot be pinned.
    #[inline]
    pub fn pin(range: UserRange) -> impl Init<Self, Error> {
        // SAFETY: On success C has initialized as many elements as `nr` says, and of the others
        // any bits are good. INVARIANT: By what `pin_user_ranges` does.
        unsafe {
            pin_init::init_from_closure(move |slot: *mut Self| {
                let ret = bindings::pin_user_ranges(range.addr, range.pages(), slot.cast());
                if ret < 0 {
                    // CAST: An error number.
                    return Err(Error::from_errno(ret as c_int));
                }
                Ok(())
            })
        }
    }

    /// How many ranges there are: one or more.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.nr as usize
    }

    /// The range that is the `index`th one in the order of addresses, from 0 on.
    #[inline]
    pub fn get(&self, index: usize) -> Option<PinnedRange> {
        if index >= self.len() {
            return None;
        }
        // SAFETY: By the type invariant there are as many, and they are pages.
        Some(unsafe {
            PinnedRange {
                page: NonNull::new_unchecked(*self.0.pages.get_unchecked(index)),
                pages: *self.0.nr_pages.get_unchecked(index) as usize,
            }
        })
    }

    /// How many pages there are.
    #[inline]
    pub fn pages(&self) -> usize {
        self.0.total
    }
}

impl Drop for PinnedRanges {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant the pins are ours.
        unsafe { bindings::unpin_user_ranges(&raw mut self.0) };
    }
}

/// Pages that count against the limit of their user, `RLIMIT_MEMLOCK`, until this is dropped.
///
/// # Invariants
///
/// `user` is null where `pages` is 0; else it is a reference owned by this value, and `pages` are
/// counted in its `locked_vm`.
pub struct MemlockCharge {
    user: *mut bindings::user_struct,
    pages: usize,
}

// SAFETY: A user is shared by all tasks.
unsafe impl Send for MemlockCharge {}

// SAFETY: Nothing is changed by a reference.
unsafe impl Sync for MemlockCharge {}

impl MemlockCharge {
    /// Charges `pages`, or as many as the current task may have still, to its user.
    #[inline]
    pub fn up_to(pages: usize) -> Self {
        let mut user = ptr::null_mut();
        // SAFETY: No requirements.
        let pages = unsafe { bindings::memlock_charge(pages, &raw mut user) };
        // INVARIANT: By what that does.
        Self { user, pages }
    }

    /// No pages.
    #[inline]
    pub const fn none() -> Self {
        // INVARIANT: None.
        Self {
            user: ptr::null_mut(),
            pages: 0,
        }
    }

    /// How many pages there are.
    #[inline]
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Takes `pages` of them out, or all where there are fewer.
    #[inline]
    #[must_use]
    pub fn split_to(&mut self, pages: usize) -> Self {
        if pages < self.pages {
            return self.split_to_some(pages);
        }
        mem::replace(self, Self::none())
    }

    fn split_to_some(&mut self, pages: usize) -> Self {
        if pages == 0 {
            return Self::none();
        }
        // INVARIANT: There are more, so both have some, and a reference each.
        self.pages -= pages;
        // SAFETY: By the type invariant it is valid.
        unsafe { bindings::get_uid(self.user) };
        Self {
            user: self.user,
            pages,
        }
    }
}

impl Drop for MemlockCharge {
    #[inline]
    fn drop(&mut self) {
        if self.pages != 0 {
            // SAFETY: By the type invariant.
            unsafe { bindings::memlock_uncharge(self.user, self.pages) };
        }
    }
}

#[kunit_tests(rust_mm_gup)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_user_ranges() {
        assert_eq!(UserRange::new(PAGE_SIZE, PAGE_SIZE).pages(), 1);
        assert_eq!(UserRange::new(PAGE_SIZE - 1, 2).pages(), 2);
        assert_eq!(UserRange::new(PAGE_SIZE, 0).pages(), 0);

        let range = UserRange::new(PAGE_SIZE + 10, 3 * PAGE_SIZE);
        assert_eq!(range.first_pages(2).len(), 2 * PAGE_SIZE - 10);
        assert_eq!(range.first_pages(0).len(), 0);
        assert_eq!(range.first_pages(9), range);
        assert_eq!(range.skip(PAGE_SIZE - 10).offset(), 0);
        assert!(range.skip(usize::MAX).is_empty());
    }

    #[test]
    fn charges_are_split_and_given_back() {
        // A kernel thread has the capability, so there is no limit.
        let mut charge = MemlockCharge::up_to(5);
        assert_eq!(charge.pages(), 5);
        let first = charge.split_to(2);
        assert_eq!((first.pages(), charge.pages()), (2, 3));
        assert_eq!(charge.split_to(0).pages(), 0);
        let rest = charge.split_to(9);
        assert_eq!((rest.pages(), charge.pages()), (3, 0));
    }
}
