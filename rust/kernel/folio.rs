// SPDX-License-Identifier: GPL-2.0

//! Folios. Contains the operations that are needed to read a folio of the page cache and to take it
//! over.
//!
//! C headers: [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h),
//! [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use crate::{bindings, page::PAGE_SHIFT, types::Opaque, warn_on};
use core::mem::ManuallyDrop;

/// A folio that something else keeps alive. C: `struct folio`.
///
/// # Invariants
///
/// The folio's reference count is positive for as long as a reference to this type exists.
///
/// # Examples
///
/// ```
/// use kernel::pipe::{OwnedPage, PipeBuffer};
///
/// let mut buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10)?;
/// let copy = buf.try_clone()?;
/// let folio = buf.folio();
/// assert_eq!(folio.ref_count(), 2);
/// // A page that was allocated for a pipe belongs to no file, and has no backing store.
/// assert!(!folio.can_be_on_lru() && !folio.is_uptodate());
/// assert!(!folio.lock().in_page_cache());
/// # drop(copy);
/// # Ok::<(), Error>(())
/// ```
#[repr(transparent)]
pub struct Folio(Opaque<bindings::folio>);

impl Folio {
    /// Returns the folio that `page` belongs to. C: `page_folio`.
    ///
    /// # Safety
    ///
    /// `page` must be a valid page, and a reference to it must be held for the duration of `'a`.
    #[inline]
    pub unsafe fn of_page<'a>(page: *mut bindings::page) -> &'a Folio {
        // SAFETY: The caller guarantees that `page` is valid.
        let folio = unsafe { bindings::page_folio(page) };
        // SAFETY: The caller holds a reference to the page for `'a`, and a reference to any page of
        // a folio keeps the folio alive. `Folio` is a transparent wrapper of `struct folio`.
        // INVARIANT: The reference of the caller keeps the count positive for `'a`.
        unsafe { &*folio.cast() }
    }

    #[inline]
    fn as_ptr(&self) -> *mut bindings::folio {
        self.0.get()
    }

    /// Returns whether the contents are those of the backing store, or newer. C:
    /// `folio_test_uptodate`.
    #[inline]
    pub fn is_uptodate(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_test_uptodate(self.as_ptr()) }
    }

    /// Returns the number of references. It may change at any time. C: `folio_ref_count`.
    ///
    /// A count of 1 is stable if nobody else can find the folio: in particular, it is in no page
    /// cache and in no page table.
    #[inline]
    pub fn ref_count(&self) -> i32 {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_ref_count(self.as_ptr()) }
    }

    /// Returns whether the folio is on an LRU list, or may be put on one by others because it
    /// belongs to a file or to anonymous memory. Pages that the kernel allocated for a pipe are
    /// neither.
    #[inline]
    pub fn can_be_on_lru(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_test_lru(self.as_ptr()) || self.has_mapping() }
    }

    /// Returns whether the folio belongs to a file or to anonymous memory. This may change at any
    /// time. C: `folio->mapping`.
    #[inline]
    pub fn has_mapping(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { !bindings::folio_raw_mapping(self.as_ptr()).is_null() }
    }

    /// Returns whether the folio consists of several pages. C: `folio_test_large`.
    #[inline]
    pub fn is_large(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_test_large(self.as_ptr()) }
    }

    /// Returns whether user space has mapped a page of the folio. It may change at any time. C:
    /// `folio_mapped`.
    #[inline]
    pub fn is_mapped(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_mapped(self.as_ptr()) }
    }

    /// Returns whether the folio is memory of a device, such as a file on DAX. C:
    /// `folio_is_zone_device`.
    #[inline]
    pub fn is_device_memory(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant. It begins with its first page.
        unsafe { bindings::is_zone_device_page(self.as_ptr().cast()) }
    }

    /// Returns the number of bytes. C: `folio_size`.
    #[inline]
    pub fn size(&self) -> usize {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_nr_pages(self.as_ptr()) << PAGE_SHIFT }
    }

    /// Returns whether a reference to the folio may be held for long: it is not in memory that must
    /// stay movable, nor a page of a file on DAX, which a truncation waits for. C:
    /// `folio_is_longterm_pinnable`.
    #[inline]
    pub fn may_be_held(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_is_longterm_pinnable(self.as_ptr()) }
    }

    /// Locks the folio. Sleeps until the lock is free. C: `folio_lock`.
    ///
    /// The lock of a folio is held while it is read from its file, so this also waits for a read.
    #[inline]
    pub fn lock(&self) -> FolioGuard<'_> {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_lock(self.as_ptr()) };
        // INVARIANT: The folio was locked above, and only the guard unlocks it.
        FolioGuard { folio: self }
    }

    /// Unlocks the folio. C: `folio_unlock`.
    ///
    /// # Safety
    ///
    /// The folio must be locked, and the caller must own the lock.
    #[inline]
    pub unsafe fn unlock(&self) {
        // SAFETY: The folio is valid by the type invariant, and the caller guarantees that it owns
        // the lock.
        unsafe { bindings::folio_unlock(self.as_ptr()) };
    }
}

/// A locked folio. Dropping the guard unlocks it.
///
/// # Invariants
///
/// The folio is locked, and this guard owns the lock.
pub struct FolioGuard<'a> {
    folio: &'a Folio,
}

impl<'a> FolioGuard<'a> {
    /// Returns whether the folio is in the page cache of a file, that is, whether it was neither
    /// truncated nor reclaimed. C: `folio->mapping`.
    ///
    /// Call this for folios that came from the page cache only, since anonymous folios have a
    /// mapping as well.
    #[inline]
    pub fn in_page_cache(&self) -> bool {
        // SAFETY: The folio is valid, and it is locked by the type invariant, so that `mapping` is
        // stable.
        unsafe { !bindings::folio_raw_mapping(self.folio.as_ptr()).is_null() }
    }

    /// Removes the folio from the page cache, so that the caller's reference is the only one left.
    /// May sleep. C: `remove_mapping`.
    ///
    /// This waits for writeback first, so that the blocks on disk are not reused before they are
    /// written.
    ///
    /// Returns `Err(self)` if the folio was truncated, if the file system does not release its
    /// private data, or if something else refers to the folio.
    pub fn try_remove_from_page_cache(self) -> Result<Removed<'a>, Self> {
        let folio = self.folio.as_ptr();

        // SAFETY: The folio is valid, and locked by the type invariant.
        let mapping = unsafe { bindings::folio_mapping(folio) };
        if mapping.is_null() {
            return Err(self);
        }
        warn_on!(!self.folio.is_uptodate());
        // SAFETY: The folio is valid and locked. The caller may sleep, as it did to lock the folio.
        unsafe { bindings::folio_wait_writeback(folio) };
        // SAFETY: The folio is valid and locked, and not under writeback.
        if !unsafe { bindings::filemap_release_folio(folio, bindings::GFP_KERNEL) } {
            return Err(self);
        }
        // SAFETY: The folio is valid and locked. `mapping` is the folio's mapping, and the lock of
        // the folio keeps both together.
        if unsafe { bindings::remove_mapping(mapping, folio) } == 0 {
            return Err(self);
        }
        Ok(Removed(self))
    }
}

impl Drop for FolioGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: The folio is locked, and this guard owns the lock, by the type invariant.
        unsafe { self.folio.unlock() };
    }
}

/// A locked folio that was removed from its page cache.
pub struct Removed<'a>(FolioGuard<'a>);

impl<'a> Removed<'a> {
    /// Returns the folio, which stays locked. The caller unlocks it.
    #[inline]
    pub fn into_locked(self) -> &'a Folio {
        ManuallyDrop::new(self).0.folio
    }
}
