// SPDX-License-Identifier: GPL-2.0

//! References to user memory.
//!
//! [`UserRanges`] finds the pages of a range of user addresses. It takes one reference, or one pin,
//! for each physically contiguous range of a folio, and returns these as [`HeldPages`]. Pages are
//! found in one of two ways:
//!
//! - [`UserRanges::look_up`] reads the page tables without locks. It neither faults nor sleeps, and
//!   can be used while a pipe is locked.
//! - [`UserRanges::fault_in`] reads memory that is not mapped in. It sleeps, for as long as a page
//!   fault of FUSE, NFS or userfaultfd takes. Unlock the pipe before.
//!
//! Both only read: they do not change page tables, and do not unshare or migrate memory. The memory
//! stays the user's, who can change it while it is held.
//!
//! C header: [`include/linux/user_ranges.h`](srctree/include/linux/user_ranges.h)

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

/// A range of user addresses. This is arithmetic only: the range may be mapped or not.
///
/// # Examples
///
/// ```
/// use kernel::{mm::gup::UserRange, page::PAGE_SIZE};
///
/// // Ten bytes of the first page, a whole page, and one byte.
/// let range = UserRange::new(4 * PAGE_SIZE - 10, PAGE_SIZE + 11);
/// assert_eq!((range.offset(), range.pages()), (PAGE_SIZE - 10, 3));
///
/// let first = range.first_pages(1);
/// assert_eq!(first.len(), 10);
/// let rest = range.skip(first.len());
/// assert_eq!((rest.addr(), rest.offset()), (4 * PAGE_SIZE, 0));
/// assert_eq!(rest.first(PAGE_SIZE).pages(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    addr: usize,
    len: usize,
}

impl UserRange {
    /// Creates a range of `len` bytes from `addr` on. Addresses and length are in bytes. It is not
    /// checked whether the range is mapped.
    #[inline]
    pub const fn new(addr: usize, len: usize) -> Self {
        Self { addr, len }
    }

    /// Returns the first address.
    #[inline]
    pub const fn addr(self) -> usize {
        self.addr
    }

    /// Returns the number of bytes.
    #[inline]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Returns whether the range has no bytes.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Returns the offset of the first byte in its page.
    #[inline]
    pub const fn offset(self) -> usize {
        self.addr & (PAGE_SIZE - 1)
    }

    /// Returns the number of pages that the range touches. A page of which only a part is in the
    /// range counts as one.
    #[inline]
    pub const fn pages(self) -> usize {
        // This does not overflow: `import_iovec` and similar functions admit at most `MAX_RW_COUNT`
        // bytes.
        self.len
            .wrapping_add(self.offset())
            .wrapping_add(PAGE_SIZE - 1)
            / PAGE_SIZE
    }

    /// Returns the part of the range that is in its first `pages` pages, or the whole range if it
    /// has fewer pages.
    #[inline]
    pub const fn first_pages(self, pages: usize) -> Self {
        if pages >= self.pages() {
            return self;
        }
        Self {
            addr: self.addr,
            // The product is below the length of the range plus a page, so it does not wrap. For 0
            // pages the length is 0.
            len: pages.wrapping_mul(PAGE_SIZE).saturating_sub(self.offset()),
        }
    }

    /// Returns the first `n` bytes, or the whole range if it has fewer.
    #[inline]
    #[must_use]
    pub const fn first(self, n: usize) -> Self {
        let len = if n < self.len { n } else { self.len };
        Self {
            addr: self.addr,
            len,
        }
    }

    /// Returns the range without its first `n` bytes, or an empty range if it has fewer.
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

/// The way in which user memory is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// By a reference (`FOLL_GET`). It has no other effect on the memory.
    Reference,
    /// By a pin (`FOLL_PIN`). Reclaim, migration, soft-dirty tracking, `UFFDIO_MOVE` and `fork(2)`
    /// treat pinned memory differently: for example, `fork(2)` copies pinned anonymous memory for
    /// the child. Only callers that need such a guarantee pin memory.
    Pin,
}

/// User memory that is held for reading: physically contiguous pages of one folio. Dropping this
/// gives the reference or pin back, which any task may do, in softirq context as well.
///
/// The pages still belong to the user, who can write to them and unmap them at any time.
///
/// # Invariants
///
/// `page` is the first of `pages` contiguous pages of one folio. This value owns one reference or
/// one pin of that folio, as `hold` tells.
pub struct HeldPages {
    page: NonNull<bindings::page>,
    pages: u32,
    /// Whether the folio consists of several pages. Checks that apply only to such folios are
    /// skipped for others.
    large: bool,
    /// Whether [`UserRanges::fault_in`] found the pages. Only then can they be special in a way
    /// that the lookup in the page tables excludes.
    faulted: bool,
    hold: Hold,
}

// SAFETY: Any task may give back a reference or a pin.
unsafe impl Send for HeldPages {}

// SAFETY: Methods that take a shared reference change nothing.
unsafe impl Sync for HeldPages {}

impl HeldPages {
    /// Returns the first page.
    #[inline]
    pub fn page(&self) -> NonNull<bindings::page> {
        self.page
    }

    /// Returns the folio that the pages belong to.
    #[inline]
    fn folio(&self) -> *mut bindings::folio {
        // SAFETY: The page is valid by the type invariant.
        unsafe { bindings::page_folio(self.page.as_ptr()) }
    }

    /// Returns the number of pages.
    #[inline]
    pub fn pages(&self) -> usize {
        self.pages as usize
    }

    /// Returns whether the memory is held by a reference or by a pin.
    #[inline]
    pub fn hold(&self) -> Hold {
        self.hold
    }

    /// Returns whether this is private (anonymous) hugetlb memory.
    ///
    /// `hugetlb_wp()` reuses such a page for the last process that maps it, even if others have a
    /// reference. A reader could then see data that another process than the sender wrote later.
    /// Only a pin of memory that is exclusive to one process prevents this.
    #[inline]
    pub fn is_private_hugetlb(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        self.large
            && unsafe {
                let folio = self.folio();
                bindings::folio_test_hugetlb(folio) && bindings::folio_test_anon(folio)
            }
    }

    /// Returns whether holding the memory by a reference may do harm, so that a closer look is
    /// needed: it is hugetlb or device memory, or its folio has too many references.
    ///
    /// Memory that [`UserRanges::look_up`] found is special only if it is hugetlb memory, since the
    /// lookup excludes the other cases.
    #[inline]
    pub fn is_special(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        unsafe {
            (self.large && bindings::folio_test_hugetlb(self.folio()))
                || (self.faulted
                    && (bindings::is_zone_device_page(self.page.as_ptr())
                        || bindings::user_range_refs_exhausted(self.page.as_ptr())))
        }
    }

    /// Returns whether this is memory of a DAX file. Truncation of such a file waits until all
    /// references are gone.
    pub fn is_dax(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        unsafe { bindings::folio_is_fsdax(self.folio()) }
    }

    /// Returns whether the reference count of the folio is so large that no more references should
    /// be taken.
    pub fn has_too_many_references(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        unsafe { bindings::user_range_refs_exhausted(self.page.as_ptr()) }
    }

    /// Exchanges the reference for a pin of the memory that is mapped at `range` now. `range` must
    /// be the range that the pages were found at.
    ///
    /// Returns `self` unchanged if the memory cannot be pinned without unsharing it, or if `range`
    /// is not mapped to as many contiguous pages any more. Does not sleep.
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

    /// Returns whether the memory may be held for a long time, that is, whether it is neither in
    /// `ZONE_MOVABLE` nor in CMA. C: `folio_is_longterm_pinnable`.
    ///
    /// A pin in these zones would prevent CMA and memory hotplug from migrating the page, for as
    /// long as the data is in a pipe. So such memory is not pinned.
    pub fn is_longterm_pinnable(&self) -> bool {
        // SAFETY: The page is valid by the type invariant.
        unsafe { bindings::folio_is_longterm_pinnable(self.folio()) }
    }

    /// Returns whether this is anonymous memory that only one process maps. The answer may change
    /// at any time.
    fn is_exclusive(&self) -> bool {
        let (page, folio) = (self.page.as_ptr(), self.folio());
        // SAFETY: The page is valid by the type invariant.
        unsafe {
            if !bindings::folio_test_anon(folio) {
                return false;
            }
            // Memory that a single entry of a page table maps has the flag on the first page of the
            // folio only: hugetlb memory always, a THP sometimes.
            let first = folio.cast::<bindings::page>();
            if bindings::folio_test_hugetlb(folio) {
                return bindings::page_anon_exclusive(first);
            }
            bindings::page_anon_exclusive(page)
                || (bindings::folio_test_large(folio) && bindings::page_anon_exclusive(first))
        }
    }

    /// Returns the number of pages of the whole folio.
    ///
    /// A reference to any of its pages keeps the whole folio in memory, so this is what a charge
    /// counts.
    pub fn folio_pages(&self) -> usize {
        if !self.large {
            return 1;
        }
        // SAFETY: The page is valid by the type invariant.
        unsafe { bindings::folio_nr_pages(self.folio()) }
    }

    /// Returns whether `self` and `other` are parts of the same folio.
    pub fn same_folio(&self, other: &Self) -> bool {
        self.folio() == other.folio()
    }

    /// Exchanges a pin for a reference if the memory is not anonymous. A pin is of use for
    /// anonymous memory only, which `fork(2)` would share between the processes otherwise.
    #[inline]
    pub fn unpin_unless_anonymous(mut self) -> Self {
        if self.hold == Hold::Reference {
            return self;
        }
        let folio = self.folio();
        // SAFETY: The folio is valid, and `self` owns a pin of it by the type invariant.
        unsafe {
            if !bindings::folio_test_anon(folio) {
                bindings::folio_get(folio);
                bindings::unpin_folio(folio);
                // INVARIANT: The pin was exchanged for a reference.
                self.hold = Hold::Reference;
            }
        }
        self
    }

    /// Copies `len` bytes at `offset` of page number `page`, counted from 0, to a new page. May
    /// sleep.
    ///
    /// # Errors
    ///
    /// - [`ENOMEM`]: no page can be allocated.
    /// - [`EFAULT`]: there is no such page, the bytes are not within it, or the memory is damaged.
    pub fn copy(&self, page: usize, offset: usize, len: usize) -> Result<OwnedPage> {
        if page >= self.pages() {
            return Err(EFAULT);
        }
        let mut copy = OwnedPage::alloc(GFP_KERNEL_ACCOUNT)?;
        // SAFETY: `page` is less than the number of contiguous pages, as checked above, and `self`
        // holds all of them, so the pointer is to a valid page.
        if !unsafe { copy.copy_from(0, self.page.as_ptr().add(page), offset, len) } {
            return Err(EFAULT);
        }
        Ok(copy)
    }
}

impl Drop for HeldPages {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant `self` owns one reference or one pin, which is given back
        // as what it is.
        unsafe {
            match self.hold {
                Hold::Reference => bindings::put_page(self.page.as_ptr()),
                Hold::Pin => bindings::unpin_folio(self.folio()),
            }
        }
    }
}

/// The [`HeldPages`] that a lookup found at a range of user addresses, in the order of the
/// addresses.
///
/// This is an iterator. Ranges that are not taken out are given back when this is dropped, or when
/// the next lookup begins.
///
/// # Invariants
///
/// The elements of `ranges` from `next` up to `end` are initialized. This value owns one reference
/// or one pin, as `hold` tells, for each of these elements.
///
/// # Examples
///
/// ```
/// use kernel::{
///     mm::gup::{Hold, UserRange, UserRanges},
///     prelude::*, //
/// };
///
/// /// Returns how many pages at the beginning of `range` can be held without a page fault, and the
/// /// number of folio parts that they consist of.
/// fn mapped(range: UserRange) -> (usize, usize) {
///     let mut found = UserRanges::new();
///     let pages = found.look_up(range, Hold::Reference);
///     // The references are given back here.
///     (pages, found.count())
/// }
///
/// /// Copies the page at the beginning of `range`, which is faulted in if needed. Called with no
/// /// pipe locked.
/// fn copy_first(range: UserRange) -> Result {
///     let mut found = UserRanges::new();
///     if found.look_up(range.first_pages(1), Hold::Reference) == 0 {
///         found.fault_in(range.first_pages(1))?;
///     }
///     let held = found.next().ok_or(EFAULT)?;
///     let _copy = held.copy(0, range.offset(), range.first_pages(1).len())?;
///     Ok(())
/// }
/// ```
pub struct UserRanges {
    ranges: MaybeUninit<bindings::user_ranges>,
    next: u32,
    end: u32,
    faulted: bool,
    hold: Hold,
}

impl UserRanges {
    /// The maximum number of ranges that one lookup finds. C: `USER_RANGES_MAX`.
    pub const MAX: usize = bindings::USER_RANGES_MAX as usize;

    /// Creates an empty list.
    #[inline(always)]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        let mut this = MaybeUninit::<Self>::uninit();
        let at = this.as_mut_ptr();
        // The fields are written one by one: if the whole value were written, the compiler would
        // set the 272 bytes of `ranges` to zero.
        // SAFETY: All fields are written except `ranges`, which may be uninitialized because it is
        // `MaybeUninit`.
        // INVARIANT: `next` equals `end`, so there are no elements.
        unsafe {
            (&raw mut (*at).next).write(0);
            (&raw mut (*at).end).write(0);
            (&raw mut (*at).faulted).write(false);
            (&raw mut (*at).hold).write(Hold::Reference);
            this.assume_init()
        }
    }

    /// Looks up the beginning of `range` in the page tables of the current task, and holds the
    /// pages that it finds. Returns their number, which may be 0. Does not fault and does not
    /// sleep. C: `get_user_ranges_fast_only`, `pin_user_ranges_fast_only`.
    ///
    /// Ranges of an earlier lookup that are left are given back first.
    ///
    /// The lookup ends at the first page that is not mapped for reading, that belongs to a device,
    /// or that has too many references. With [`Hold::Pin`] it also ends at anonymous memory that is
    /// shared with another process, because to pin that would mean to unshare it.
    #[inline(always)]
    pub fn look_up(&mut self, range: UserRange, hold: Hold) -> usize {
        // INVARIANT: All elements are given back here, and both indices are 0 below.
        self.truncate(self.next);
        (self.next, self.end) = (0, 0);
        (self.faulted, self.hold) = (false, hold);
        // SAFETY: C accepts any address and checks it. It fills in `nr` elements of `ranges`, and
        // sets `nr` and `next` in any case.
        let pages = unsafe {
            let (addr, pages, ranges) = (range.addr(), range.pages(), self.ranges.as_mut_ptr());
            match hold {
                Hold::Reference => bindings::get_user_ranges_fast_only(addr, pages, ranges),
                Hold::Pin => bindings::pin_user_ranges_fast_only(addr, pages, ranges),
            }
        };
        // INVARIANT: C filled in the first `nr` elements, each with the reference or pin that
        // `hold` tells.
        // SAFETY: C has initialized `nr`.
        self.end = unsafe { (*self.ranges.as_ptr()).nr };
        pages
    }

    /// Looks up the beginning of `range` as [`Self::look_up`] does, for a caller that asked for a
    /// notification. Pins anonymous memory that is exclusive to the current process, and takes
    /// references to all other memory.
    ///
    /// One call finds memory of one kind only; the caller calls it again for the rest.
    ///
    /// To pin anonymous memory that is shared since a fork would unshare it, which changes the page
    /// tables. A reference is enough there: each process gets a copy when it writes.
    pub fn look_up_pinning(&mut self, range: UserRange) -> usize {
        let pages = self.look_up(range, Hold::Pin);
        if pages > 0 {
            return pages;
        }
        self.look_up(range, Hold::Reference);
        // Stop before memory that can be pinned; the next lookup pins it.
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

    /// Faults in the beginning of `range` for reading and holds the pages by references. Returns
    /// their number, which is at least 1. Sleeps. C: `get_user_pages_unlocked`.
    ///
    /// Ranges of an earlier lookup that are left are given back.
    ///
    /// Returns an error, usually [`EFAULT`], if the first page cannot be read.
    ///
    /// Takes `mmap_lock` for reading, and may give it up while a fault sleeps. Others may change
    /// the mapping meanwhile, so the pages are those that were mapped at some moment during the
    /// call.
    pub fn fault_in(&mut self, range: UserRange) -> Result<usize> {
        let mut pages = [ptr::null_mut(); Self::MAX];
        let wanted = range.pages().min(Self::MAX);
        // SAFETY: `pages` has room for `wanted` pointers. C accepts any address and checks it.
        let got = unsafe {
            bindings::get_user_pages_unlocked(range.addr(), wanted, pages.as_mut_ptr(), 0)
        };
        // CAST: The value is at most `wanted`, or a negative error number.
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
        // CAST: The value is positive.
        let got = got as usize;
        for &page in &pages[..got] {
            // SAFETY: GUP stored a valid page with a reference, which moves to `self`.
            unsafe { self.add_page(page) };
        }
        Ok(got)
    }

    /// Adds a page behind the last range, or to it if the page continues it in the same large
    /// folio. A range needs one reference only, so then the page's own is given back.
    ///
    /// # Safety
    ///
    /// `page` must be valid, and the caller hands over one reference to it. There must be less than
    /// [`Self::MAX`] ranges.
    unsafe fn add_page(&mut self, page: *mut bindings::page) {
        let ranges = (&raw mut self.ranges).cast::<bindings::user_ranges>();
        // SAFETY: The array has room for another element, by the caller's guarantee. Those before
        // `end` are initialized, and their pages are valid, by the type invariant.
        unsafe {
            let folio = bindings::page_folio(page);
            let array = (&raw mut (*ranges).range).cast::<bindings::user_range>();
            if self.end > 0 {
                let last = &mut *array.add(self.end as usize - 1);
                if last.large != 0
                    && page == last.page.add(last.nr_pages as usize)
                    && folio == bindings::page_folio(last.page)
                {
                    last.nr_pages += 1;
                    bindings::put_page(page);
                    return;
                }
            }
            // INVARIANT: The element is initialized, and owns the reference.
            array.add(self.end as usize).write(bindings::user_range {
                page,
                nr_pages: 1,
                large: u32::from(bindings::folio_test_large(folio)),
            });
        }
        self.end += 1;
    }

    /// Takes up to `most` ranges from the front and passes them to `f`, as long as each is one page
    /// of a small folio, held by a reference, and not [special](HeldPages::is_special).
    ///
    /// For such pages the compiler knows all fields except the address of the page, so that the
    /// code of `f` is short. Most user memory consists of them.
    #[inline(always)]
    pub fn take_small_pages(&mut self, most: u32, mut f: impl FnMut(HeldPages)) {
        if self.hold != Hold::Reference {
            return;
        }
        // A local variable, because the compiler does not know that `f` leaves `self` alone.
        let mut index = self.next;
        let end = self.end.min(index.saturating_add(most));
        while index < end {
            // SAFETY: `index` is below `end`, so by the type invariant C filled in the element. If
            // it is passed to `f` below, `next` moves past it; otherwise `ManuallyDrop` leaves the
            // ownership with `self`.
            let held = ManuallyDrop::new(unsafe { self.held(index) });
            if held.large || (held.faulted && held.is_special()) {
                break;
            }
            index += 1;
            // INVARIANT: `held` is one page of a small folio, held by a reference, which moves to
            // `f`.
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

    /// Returns the range with the given index without taking it out of `self`.
    fn get(&self, index: u32) -> Option<ManuallyDrop<HeldPages>> {
        (index < self.end).then(|| {
            // SAFETY: `index` is between `next` and `end`, so C filled in the element.
            // `ManuallyDrop` leaves the ownership with `self`.
            ManuallyDrop::new(unsafe { self.held(index) })
        })
    }

    /// Reads the element with the given index.
    ///
    /// # Safety
    ///
    /// `index` must be at least `next` and less than `end`. The result and the element of `self`
    /// stand for one reference, so only one of them may be dropped or given away.
    #[inline(always)]
    unsafe fn held(&self, index: u32) -> HeldPages {
        // SAFETY: The caller guarantees that `index` is in the part of the array that C filled in.
        let range = unsafe {
            let all = &raw const (*self.ranges.as_ptr()).range;
            &*all.cast::<bindings::user_range>().add(index as usize)
        };
        // INVARIANT: The element describes contiguous pages of one folio, with one reference or
        // pin, by the invariant of `self`.
        HeldPages {
            // SAFETY: C stores only valid pages, whose pointers are not null.
            page: unsafe { NonNull::new_unchecked(range.page) },
            pages: range.nr_pages,
            large: range.large != 0,
            faulted: self.faulted,
            hold: self.hold,
        }
    }

    /// Gives back all ranges from index `end` on.
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
            // SAFETY: The element was the last one of `self`. `end` was reduced, so that only the
            // result owns the reference.
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
        // SAFETY: The element was the first one of `self`. `next` was increased, so that only the
        // result owns the reference.
        Some(unsafe { self.held(index) })
    }
}

impl Drop for UserRanges {
    #[inline(always)]
    fn drop(&mut self) {
        self.truncate(self.next);
    }
}

#[kunit_tests(rust_mm_gup)]
mod tests {
    use super::*;

    // Pages are counted from the page of the first byte to the page of the last one.
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
}
