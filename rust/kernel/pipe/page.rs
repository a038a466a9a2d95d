// SPDX-License-Identifier: GPL-2.0

//! Pages that belong to one owner.

use crate::{
    alloc::{flags::__GFP_ZERO, Flags},
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};
use core::{
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};

/// A newly allocated page to which nothing else refers.
///
/// # Invariants
///
/// The page is valid and of order 0, and this value owns its only reference.
///
/// # Examples
///
/// ```
/// use kernel::pipe::{OwnedPage, PipeBuffer, Provenance};
///
/// let page = OwnedPage::alloc(GFP_KERNEL)?;
/// // The page moves into the buffer, which frees it when the last reference is dropped.
/// let buf = PipeBuffer::from_page(page, 0, 512)?;
/// assert_eq!(buf.provenance(), Provenance::Private);
/// assert_eq!(buf.folio().ref_count(), 1);
/// # Ok::<(), Error>(())
/// ```
pub struct OwnedPage(NonNull<bindings::page>);

// SAFETY: The page is ordinary memory, which any task may access and free.
unsafe impl Send for OwnedPage {}
// SAFETY: Methods that take a shared reference do not access the page.
unsafe impl Sync for OwnedPage {}

impl OwnedPage {
    /// Allocates a zeroed page. `flags` determine whether this may sleep.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    ///
    /// The page is zeroed because readers of the pipe see all bytes that its buffer describes, and
    /// the contents of an earlier owner must not leak to them. C: `alloc_page` with `__GFP_ZERO`.
    #[inline]
    pub fn alloc(flags: Flags) -> Result<Self> {
        let flags = flags | __GFP_ZERO;
        // SAFETY: `alloc_pages` accepts any flags. The caller chooses flags that fit its context.
        let page = unsafe { bindings::alloc_pages(flags.as_raw(), 0) };
        // INVARIANT: `alloc_pages` returned a page of order 0 with one reference.
        Ok(Self(NonNull::new(page).ok_or(ENOMEM)?))
    }

    /// Takes a page over from C.
    ///
    /// # Safety
    ///
    /// `page` must be a valid page of order 0 whose only reference the caller hands over.
    #[inline]
    pub(crate) unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        // INVARIANT: The caller guarantees that this is a page of order 0 and hands over its only
        // reference (see `# Safety`).
        Self(page)
    }

    /// Returns the C page. It is valid as long as `self` is, and stays at its address if `self` is
    /// moved.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// Copies `bytes` to the beginning of the page, as many as fit. Returns their number.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(PAGE_SIZE);
        // SAFETY: The page is valid, and mapped while it is written to. `len` is at most
        // `PAGE_SIZE`. Nothing else accesses the page, since `self` owns its only reference.
        unsafe {
            let addr = bindings::kmap_local_page(self.as_ptr());
            ptr::copy_nonoverlapping(bytes.as_ptr(), addr.cast(), len);
            bindings::kunmap_local(addr);
        }
        len
    }

    /// Copies `len` bytes at `offset` of `from` to `at` in this page.
    ///
    /// Returns `false` if the bytes are not within one page, or if the memory is damaged (a machine
    /// check). C: `copy_mc_to_kernel`.
    ///
    /// # Safety
    ///
    /// `from` must be a valid page.
    pub(crate) unsafe fn copy_from(
        &mut self,
        at: usize,
        from: *mut bindings::page,
        offset: usize,
        len: usize,
    ) -> bool {
        let last = at.max(offset);
        if last > PAGE_SIZE || len > PAGE_SIZE - last {
            return false;
        }
        // SAFETY: This page is valid by the type invariant and `from` by the caller's guarantee.
        // The bytes are within both pages, as checked above. Nothing else accesses this page, since
        // `self` owns its only reference.
        unsafe { bindings::copy_page_part(self.as_ptr(), at, from, offset, len) }
    }

    /// Hands the page and its reference over to C.
    #[inline]
    pub(crate) fn into_raw(self) -> *mut bindings::page {
        ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Drop for OwnedPage {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant `self` owns one reference to the page.
        unsafe { bindings::put_page(self.0.as_ptr()) };
    }
}

/// A folio that was taken over from a buffer. It is locked, in no page cache, and has no other
/// reference.
///
/// # Invariants
///
/// `page` belongs to a locked folio, and this value owns the folio's only reference.
///
/// # Examples
///
/// ```
/// use kernel::pipe::{OwnedPage, PipeBuffer};
///
/// let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10)?;
/// let Ok(mut folio) = buf.try_steal() else { return Err(EBUSY) };
/// // Nothing else can see the page, so the new owner may write to it or put it into a page cache.
/// assert!(!folio.as_ptr().is_null());
/// // This unlocks the folio and frees it.
/// drop(folio);
/// # Ok::<(), Error>(())
/// ```
pub struct OwnedFolio {
    page: NonNull<bindings::page>,
}

impl OwnedFolio {
    /// Takes a folio over.
    ///
    /// # Safety
    ///
    /// `page` must belong to a locked folio whose only reference the caller hands over.
    #[inline]
    pub(super) unsafe fn from_raw(page: *mut bindings::page) -> Self {
        // INVARIANT: The caller guarantees that the folio is locked and hands over its only
        // reference (see `# Safety`).
        Self {
            // SAFETY: The caller guarantees that `page` is valid, so it is not null.
            page: unsafe { NonNull::new_unchecked(page) },
        }
    }

    /// Returns the page that the buffer described. The owner of the folio may write to it.
    #[inline]
    pub fn as_ptr(&mut self) -> *mut bindings::page {
        self.page.as_ptr()
    }
}

impl Drop for OwnedFolio {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the folio is locked, and `self` owns one reference to it.
        unsafe {
            bindings::unlock_page(self.page.as_ptr());
            bindings::put_page(self.page.as_ptr());
        }
    }
}
