// SPDX-License-Identifier: GPL-2.0

//! References to user memory, and the limit on them.
//!
//! C headers: [`include/linux/user_ranges.h`](srctree/include/linux/user_ranges.h),
//! [`include/linux/sched/user.h`](srctree/include/linux/sched/user.h)

use crate::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    bindings,
    page::PAGE_SIZE,
    pipe::OwnedPage,
    prelude::*, //
};
use core::{
    mem::{ManuallyDrop, MaybeUninit},
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

    /// The first `n` bytes, or all if there are fewer.
    #[inline]
    #[must_use]
    pub const fn first(self, n: usize) -> Self {
        let len = if n < self.len { n } else { self.len };
        Self {
            addr: self.addr,
            len,
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

/// How user memory is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// By a reference (`FOLL_GET`): nothing else changes.
    Reference,
    /// By a pin (`FOLL_PIN`), which reclaim, migration, soft-dirty tracking, `UFFDIO_MOVE` and
    /// `fork(2)` take into account: `fork(2)` copies pinned anonymous memory for the child.
    Pin,
}

/// User memory that is held until this is dropped, for reading: physically contiguous pages of one
/// folio.
///
/// The pages stay the user's, who may write to them, and unmap them, at any time.
///
/// # Invariants
///
/// `page` is the first of `pages` contiguous pages of one folio, of which this value owns one
/// reference, or pin, as `hold` has it.
pub struct HeldPages {
    page: NonNull<bindings::page>,
    pages: u32,
    large: bool,
    faulted: bool,
    hold: Hold,
}

// SAFETY: References and pins can be given back by any task.
unsafe impl Send for HeldPages {}

// SAFETY: Nothing is changed by a shared reference.
unsafe impl Sync for HeldPages {}

impl HeldPages {
    /// The first page.
    #[inline]
    pub fn page(&self) -> NonNull<bindings::page> {
        self.page
    }

    /// The number of pages.
    #[inline]
    pub fn pages(&self) -> usize {
        self.pages as usize
    }

    /// How they are held.
    #[inline]
    pub fn hold(&self) -> Hold {
        self.hold
    }

    /// Whether this is anonymous memory of hugetlb.
    ///
    /// `hugetlb_wp()` lets the last process that maps such a page write to it, whoever else has a
    /// reference: a reader would see what another process than the sender writes later. Only a pin
    /// of memory that one process has alone prevents that.
    #[inline]
    pub fn is_private_hugetlb(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        self.large && unsafe { bindings::user_page_is_private_hugetlb(self.page.as_ptr()) }
    }

    /// Whether a reference may not be harmless: memory of hugetlb, of a device, or with too many
    /// references. Of these [`UserRanges::look_up`] finds hugetlb only.
    #[inline]
    pub fn is_special(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        unsafe {
            (self.large && bindings::user_page_is_hugetlb(self.page.as_ptr()))
                || (self.faulted
                    && (bindings::is_zone_device_page(self.page.as_ptr())
                        || bindings::user_range_refs_exhausted(self.page.as_ptr())))
        }
    }

    /// Whether this is memory of a DAX file: truncation of the file waits for all references.
    pub fn is_dax(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        unsafe { bindings::user_page_is_dax(self.page.as_ptr()) }
    }

    /// Whether the count of the folio's references is too near to its end for more.
    pub fn has_too_many_references(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        unsafe { bindings::user_range_refs_exhausted(self.page.as_ptr()) }
    }

    /// Exchanges a reference for a pin, if `range`, whose pages these are, can be pinned as it is
    /// mapped now.
    pub fn pinned_at(self, range: UserRange) -> Self {
        if self.hold == Hold::Pin {
            return self;
        }
        let mut pinned = UserRanges::new();
        pinned.look_up(range, Hold::Pin);
        match pinned.next() {
            Some(pinned) if pinned.hold == Hold::Pin && pinned.pages == self.pages => pinned,
            _ => self,
        }
    }

    /// Whether the memory may be held for long: it is not in `ZONE_MOVABLE` or CMA.
    pub fn is_longterm_pinnable(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        unsafe { bindings::user_page_is_longterm_pinnable(self.page.as_ptr()) }
    }

    /// Whether this is anonymous memory that the process which maps it has alone, as seen now.
    fn is_exclusive(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        unsafe { bindings::user_page_is_exclusive(self.page.as_ptr()) }
    }

    /// The number of pages of the whole folio.
    pub fn folio_pages(&self) -> usize {
        if !self.large {
            return 1;
        }
        // SAFETY: The page is valid by the type invariant.
        unsafe { bindings::user_page_folio_pages(self.page.as_ptr()) }
    }

    /// Whether `other` is of the same folio.
    pub fn same_folio(&self, other: &Self) -> bool {
        // SAFETY: Both pages are valid by the type invariant.
        unsafe {
            bindings::page_folio(self.page.as_ptr()) == bindings::page_folio(other.page.as_ptr())
        }
    }

    /// Exchanges a pin of memory that is not anonymous for a reference: a pin has no use there.
    #[inline]
    pub fn unpin_unless_anonymous(mut self) -> Self {
        if self.hold == Hold::Reference {
            return self;
        }
        // SAFETY: The page is valid and pinned by the type invariant.
        if unsafe { bindings::user_page_pin_to_reference(self.page.as_ptr()) } {
            // INVARIANT: The pin was exchanged for a reference.
            self.hold = Hold::Reference;
        }
        self
    }

    /// Copies `len` bytes at `offset` of the `page`th page, from 0 on, to a page of its own.
    ///
    /// Fails with [`ENOMEM`], and with [`EFAULT`] if there is no such page or it is damaged.
    pub fn copy(&self, page: usize, offset: usize, len: usize) -> Result<OwnedPage> {
        if page >= self.pages() {
            return Err(EFAULT);
        }
        let mut copy = OwnedPage::alloc(GFP_KERNEL_ACCOUNT)?;
        // SAFETY: There are more than `page` contiguous pages, which are held.
        if !unsafe { copy.copy_from(self.page.as_ptr().add(page), offset, len) } {
            return Err(EFAULT);
        }
        Ok(copy)
    }
}

impl Drop for HeldPages {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is one reference, or pin, to give back.
        unsafe {
            match self.hold {
                Hold::Reference => bindings::put_page(self.page.as_ptr()),
                Hold::Pin => bindings::unpin_folio(bindings::page_folio(self.page.as_ptr())),
            }
        }
    }
}

/// [`HeldPages`] that were found at one range of addresses, in order. Those that are not taken out
/// are given back.
///
/// # Invariants
///
/// C filled in the elements of `ranges` from `next` up to `end`. Their references, or pins as `hold`
/// has it, are owned by this value.
pub struct UserRanges {
    ranges: MaybeUninit<bindings::user_ranges>,
    next: u32,
    end: u32,
    faulted: bool,
    hold: Hold,
}

impl UserRanges {
    /// How many ranges one look can find.
    pub const MAX: usize = bindings::USER_RANGES_MAX as usize;

    /// With no ranges.
    #[inline(always)]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        let mut this = MaybeUninit::<Self>::uninit();
        let at = this.as_mut_ptr();
        // Field by field: of a whole value the compiler would set the 272 bytes of `ranges` to zero.
        // SAFETY: All fields are written, but for `ranges`, which may be uninitialized.
        // INVARIANT: There are no ranges.
        unsafe {
            (&raw mut (*at).next).write(0);
            (&raw mut (*at).end).write(0);
            (&raw mut (*at).faulted).write(false);
            (&raw mut (*at).hold).write(Hold::Reference);
            this.assume_init()
        }
    }

    /// Looks at the beginning of `range` in the page tables of the current task, without a fault
    /// and without sleeping, and holds what is found. Returns how many pages it has.
    ///
    /// It ends at the first page that is not mapped for reading, belongs to a device, or has too
    /// many references; with [`Hold::Pin`] also at anonymous memory that is shared with another
    /// process. C: `get_user_ranges_fast_only`, `pin_user_ranges_fast_only`.
    #[inline(always)]
    pub fn look_up(&mut self, range: UserRange, hold: Hold) -> usize {
        // INVARIANT: There are none.
        self.truncate(self.next);
        (self.next, self.end) = (0, 0);
        (self.faulted, self.hold) = (false, hold);
        // SAFETY: Any address will do. C fills in as many elements as it says.
        let pages = unsafe {
            let (addr, pages, ranges) = (range.addr(), range.pages(), self.ranges.as_mut_ptr());
            match hold {
                Hold::Reference => bindings::get_user_ranges_fast_only(addr, pages, ranges),
                Hold::Pin => bindings::pin_user_ranges_fast_only(addr, pages, ranges),
            }
        };
        // INVARIANT: By what C does. SAFETY: C has set the number.
        self.end = unsafe { (*self.ranges.as_ptr()).nr };
        pages
    }

    /// As [`Self::look_up`], for a caller that asked for a notification: pins anonymous memory
    /// that the current process has alone, and references all other.
    pub fn look_up_pinning(&mut self, range: UserRange) -> usize {
        let pages = self.look_up(range, Hold::Pin);
        if pages > 0 {
            return pages;
        }
        self.look_up(range, Hold::Reference);
        // What follows and can be pinned is left to the next look.
        let mut pages = 0;
        let mut end = self.next;
        while let Some(held) = self.get(end) {
            if end > self.next && held.is_exclusive() {
                break;
            }
            pages += held.pages();
            end += 1;
        }
        self.truncate(end);
        pages
    }

    /// Holds the beginning of `range` by references, and faults in, for reading, the pages that are
    /// not mapped. Returns the number of pages: one or more. Sleeps. C: `get_user_pages_unlocked`.
    ///
    /// Fails with [`EFAULT`] and the like if the first page cannot be read.
    pub fn fault_in(&mut self, range: UserRange) -> Result<usize> {
        let mut pages = [ptr::null_mut(); Self::MAX];
        let wanted = range.pages().min(Self::MAX);
        // SAFETY: There is room for as many pages as asked for. CAST: There are 16 at most.
        let got = unsafe {
            bindings::get_user_pages_unlocked(
                range.addr(),
                wanted as c_ulong,
                pages.as_mut_ptr(),
                0,
            )
        };
        // CAST: No more than asked for, or a negative error number.
        let got = got as c_int;
        if got <= 0 {
            return Err(if got < 0 {
                Error::from_errno(got)
            } else {
                EFAULT
            });
        }
        self.truncate(self.next);
        (self.next, self.end) = (0, 0);
        (self.faulted, self.hold) = (true, Hold::Reference);
        // SAFETY: The first `got` elements are pages with a reference each, which go over to the
        // ranges. INVARIANT: By what C does.
        unsafe {
            bindings::user_ranges_of_pages(self.ranges.as_mut_ptr(), pages.as_ptr(), got);
            self.end = (*self.ranges.as_ptr()).nr;
        }
        // CAST: Positive.
        Ok(got as usize)
    }

    /// Takes out, from the front on, up to `most` ranges that are one page of a small folio, held
    /// by a reference and not [special](HeldPages::is_special), and hands them to `f`.
    ///
    /// Of such a page all is known at compile time but where it is, so that what `f` does for it
    /// costs little.
    #[inline(always)]
    pub fn take_small_pages(&mut self, most: u32, mut f: impl FnMut(HeldPages)) {
        if self.hold != Hold::Reference {
            return;
        }
        // In a local variable: the compiler cannot tell that `f` does not access `self`.
        let mut index = self.next;
        let end = self.end.min(index.saturating_add(most));
        while index < end {
            // SAFETY: By the type invariant. From here on, the value that is returned is the owner.
            let held = ManuallyDrop::new(unsafe { self.held(index) });
            if held.large || (held.faulted && held.is_special()) {
                break;
            }
            index += 1;
            // INVARIANT: The one page of a small folio, with a reference.
            f(HeldPages {
                page: held.page,
                pages: 1,
                large: false,
                faulted: false,
                hold: Hold::Reference,
            });
        }
        self.next = index;
    }

    /// The range that is the `index`th one, borrowed.
    fn get(&self, index: u32) -> Option<ManuallyDrop<HeldPages>> {
        (index < self.end).then(|| {
            // SAFETY: By the type invariant.
            ManuallyDrop::new(unsafe { self.held(index) })
        })
    }

    /// # Safety
    ///
    /// `index` is from `next` up to `end`. Of the value that is returned, and what remains in
    /// `self`, only one is used as the owner.
    #[inline(always)]
    unsafe fn held(&self, index: u32) -> HeldPages {
        // SAFETY: By the caller's promise C filled in this element.
        let range = unsafe {
            let all = &raw const (*self.ranges.as_ptr()).range;
            &*all.cast::<bindings::user_range>().add(index as usize)
        };
        // INVARIANT: By that of `self`.
        HeldPages {
            // SAFETY: C fills in valid pages.
            page: unsafe { NonNull::new_unchecked(range.page) },
            pages: range.nr_pages,
            large: range.large != 0,
            faulted: self.faulted,
            hold: self.hold,
        }
    }

    /// Gives back all ranges from the `end`th one on.
    #[inline(always)]
    fn truncate(&mut self, end: u32) {
        if self.end > end {
            self.give_back(end);
        }
    }

    #[cold]
    #[inline(never)]
    fn give_back(&mut self, end: u32) {
        while self.end > end {
            self.end -= 1;
            // SAFETY: By the type invariant; it is not among those of `self` any more.
            drop(unsafe { self.held(self.end) });
        }
    }
}

impl Iterator for UserRanges {
    type Item = HeldPages;

    #[inline(always)]
    fn next(&mut self) -> Option<HeldPages> {
        if self.next >= self.end {
            return None;
        }
        let index = self.next;
        self.next += 1;
        // SAFETY: By the type invariant; it is not among those of `self` any more.
        Some(unsafe { self.held(index) })
    }
}

impl Drop for UserRanges {
    #[inline(always)]
    fn drop(&mut self) {
        self.truncate(self.next);
    }
}

/// Pages that count against `fs.pipe-user-memory-pages` until this is dropped.
///
/// # Invariants
///
/// `user` is null if `pages` is 0; else it is a reference owned by this value, and `pages` are
/// counted in its `pipe_user_memory`.
pub struct UserMemoryCharge {
    user: *mut bindings::user_struct,
    pages: usize,
}

// SAFETY: A user is shared by all tasks.
unsafe impl Send for UserMemoryCharge {}

// SAFETY: Nothing is changed by a shared reference.
unsafe impl Sync for UserMemoryCharge {}

impl UserMemoryCharge {
    /// The limit: a number of pages for each user; `None`: there is no limit.
    #[inline]
    pub fn limit() -> Option<usize> {
        // SAFETY: An integer, which may change at any time.
        let limit = unsafe { (&raw const bindings::pipe_user_memory_pages).read_volatile() };
        usize::try_from(limit).ok()
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

    /// Adds `pages`, counted for the real user of the current task. Returns whether that is within
    /// `limit`; nothing is added otherwise.
    #[must_use]
    pub fn add(&mut self, pages: usize, limit: usize) -> bool {
        // SAFETY: `user` is null or valid by the type invariant. INVARIANT: C takes a reference if
        // it is null and the pages are counted.
        let counted = unsafe {
            bindings::user_memory_charge(&raw mut self.user, pages, limit) //
        };
        if counted {
            self.pages += pages;
        }
        counted
    }
}

impl Drop for UserMemoryCharge {
    #[inline]
    fn drop(&mut self) {
        if self.pages != 0 {
            // SAFETY: By the type invariant.
            unsafe { bindings::user_memory_uncharge(self.user, self.pages) };
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
    fn charges_are_limited_and_given_back() {
        let limit = 5;
        let mut charge = UserMemoryCharge::none();
        assert!(charge.add(3, limit));
        assert!(!charge.add(3, limit));
        assert!(charge.add(2, limit));
        drop(charge);
        let mut charge = UserMemoryCharge::none();
        assert!(charge.add(5, limit));
    }
}
