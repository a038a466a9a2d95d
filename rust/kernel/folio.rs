// SPDX-License-Identifier: GPL-2.0

//! Folios, as far as taking one over from the page cache needs them.
//!
//! C headers: [`include/linux/mm_types.h`](srctree/include/linux/mm_types.h),
//! [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use crate::{bindings, types::Opaque, warn_on};
use core::mem::ManuallyDrop;

/// A folio that somebody else keeps alive: the kernel's `struct folio`.
///
/// # Invariants
///
/// The folio's reference count is positive for as long as a reference to this type exists.
#[repr(transparent)]
pub struct Folio(Opaque<bindings::folio>);

impl Folio {
    /// The folio that `page` is part of. C: `page_folio`.
    ///
    /// # Safety
    ///
    /// `page` is a valid page, on which a reference is held for the duration of `'a`.
    #[inline]
    pub unsafe fn of_page<'a>(page: *mut bindings::page) -> &'a Folio {
        // SAFETY: `page` is valid.
        let folio = unsafe { bindings::page_folio(page) };
        // SAFETY: A reference to any page of a folio keeps the folio.
        // INVARIANT: The caller holds a reference for `'a`.
        unsafe { &*folio.cast() }
    }

    #[inline]
    fn as_ptr(&self) -> *mut bindings::folio {
        self.0.get()
    }

    /// Whether the contents are those of the backing store, or newer. C: `folio_test_uptodate`.
    #[inline]
    pub fn is_uptodate(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_test_uptodate(self.as_ptr()) }
    }

    /// How many references there are; others may take some, or give some back. C:
    /// `folio_ref_count`.
    #[inline]
    pub fn ref_count(&self) -> i32 {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_ref_count(self.as_ptr()) }
    }

    /// Locks the folio; sleeps until it can. C: `folio_lock`.
    #[inline]
    pub fn lock(&self) -> FolioGuard<'_> {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::folio_lock(self.as_ptr()) };
        // INVARIANT: It was locked just now.
        FolioGuard { folio: self }
    }

    /// Unlocks the folio. C: `folio_unlock`.
    ///
    /// # Safety
    ///
    /// The folio is locked, by whoever calls this.
    #[inline]
    pub unsafe fn unlock(&self) {
        // SAFETY: By the caller's promise.
        unsafe { bindings::folio_unlock(self.as_ptr()) };
    }
}

/// A folio that is locked until this is dropped.
///
/// # Invariants
///
/// The folio is locked, and this guard is what unlocks it.
pub struct FolioGuard<'a> {
    folio: &'a Folio,
}

impl<'a> FolioGuard<'a> {
    /// Whether a file still has this folio in its page cache, that is, whether it has not been
    /// truncated or reclaimed. C: `folio->mapping`.
    #[inline]
    pub fn in_page_cache(&self) -> bool {
        // SAFETY: The folio is valid, and locked, which is what keeps `mapping` stable.
        unsafe { !bindings::folio_raw_mapping(self.folio.as_ptr()).is_null() }
    }

    /// Takes the folio out of its file's page cache, so that the only reference left is the one
    /// that the folio was reached by. Gives the guard back where that cannot be done: the folio
    /// was truncated meanwhile, the file system holds on to it, or others refer to it.
    ///
    /// Waits for writeback, so that the blocks on disk are not reused before it is through.
    /// C: `remove_mapping`.
    pub fn try_remove_from_page_cache(self) -> Result<Removed<'a>, Self> {
        let folio = self.folio.as_ptr();

        // SAFETY: The folio is valid and locked.
        let mapping = unsafe { bindings::folio_mapping(folio) };
        if mapping.is_null() {
            return Err(self);
        }
        warn_on!(!self.folio.is_uptodate());
        // SAFETY: As above, and this may sleep, as taking the folio's lock did.
        unsafe { bindings::folio_wait_writeback(folio) };
        // SAFETY: As above.
        if !unsafe { bindings::filemap_release_folio(folio, bindings::GFP_KERNEL) } {
            return Err(self);
        }
        // SAFETY: As above, and `mapping` is the folio's: the folio lock keeps it.
        if unsafe { bindings::remove_mapping(mapping, folio) } == 0 {
            return Err(self);
        }
        Ok(Removed(self))
    }
}

impl Drop for FolioGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Locked, by the type invariant.
        unsafe { self.folio.unlock() };
    }
}

/// A locked folio that was taken out of its page cache.
pub struct Removed<'a>(FolioGuard<'a>);

impl<'a> Removed<'a> {
    /// The folio, which stays locked: unlocking it is the caller's business.
    #[inline]
    pub fn into_locked(self) -> &'a Folio {
        ManuallyDrop::new(self).0.folio
    }
}
