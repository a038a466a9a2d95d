// SPDX-License-Identifier: GPL-2.0

//! The pages of a driver that receives into them.

#![forbid(unsafe_code)]

use super::receive_page::{PageOwner, ReceivePage};
use crate::{alloc::Flags, prelude::*};

/// Up to a fixed number of [`ReceivePage`]s: those that are free, and a count of all others, which
/// the device or pipes have.
///
/// The driver keeps the pool in the state that its lock protects. It calls [`Self::put`] and
/// [`Self::lost`] from its [`PageOwner`], if pages in pipes count. If they do not, the driver calls
/// [`Self::lost`] for a page that goes into a pipe, and [`Self::adopt`] from its [`PageOwner`].
///
/// # Examples
///
/// ```
/// use kernel::splice::driver::{PageOwner, PagePool, ReceivePage};
///
/// struct Owner;
///
/// #[vtable]
/// impl PageOwner for Owner {
///     fn release(page: KBox<ReceivePage<Self>>) {
///         drop(page);
///     }
/// }
///
/// let mut pool = PagePool::new(2)?;
/// pool.add(Owner, GFP_KERNEL)?;
/// pool.add(Owner, GFP_KERNEL)?;
/// assert!(!pool.lacks_pages());
/// assert_eq!(pool.add(Owner, GFP_KERNEL), Err(ENOSPC));
/// let page = pool.take().ok_or(EINVAL)?;
/// pool.put(page);
///
/// // A page goes into a pipe. It comes back while a page is missing.
/// let page = pool.take().ok_or(EINVAL)?;
/// pool.lost();
/// assert!(pool.lacks_pages());
/// assert!(pool.adopt(page).is_ok());
///
/// // This one comes back when the pool has a new page in its place.
/// let page = pool.take().ok_or(EINVAL)?;
/// pool.lost();
/// pool.add(Owner, GFP_KERNEL)?;
/// assert!(pool.adopt(page).is_err());
/// # Ok::<(), Error>(())
/// ```
pub struct PagePool<T: PageOwner> {
    free: KVec<KBox<ReceivePage<T>>>,
    /// The number of pages, including those that are not free.
    pages: usize,
    limit: usize,
}

impl<T: PageOwner> PagePool<T> {
    /// Creates a pool without pages, for at most `limit` of them.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub fn new(limit: usize) -> Result<Self> {
        Ok(Self {
            free: KVec::with_capacity(limit, GFP_KERNEL)?,
            pages: 0,
            limit,
        })
    }

    /// Returns whether there are fewer pages than the pool can have.
    #[inline]
    pub fn lacks_pages(&self) -> bool {
        self.pages < self.limit
    }

    /// Returns whether the pool has no page, neither free nor in use.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// Returns whether a page is free.
    #[inline]
    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Allocates a page. May sleep if `flags` allow it.
    ///
    /// Returns [`ENOMEM`] if there is no memory, and [`ENOSPC`] if the pool has all of its pages.
    pub fn add(&mut self, owner: T, flags: Flags) -> Result {
        if !self.lacks_pages() {
            return Err(ENOSPC);
        }
        let page = ReceivePage::new(owner, flags)?;
        self.pages += 1;
        self.put(page);
        Ok(())
    }

    /// Takes a free page out of the pool. The pool still counts it.
    #[inline]
    pub fn take(&mut self) -> Option<KBox<ReceivePage<T>>> {
        self.free.pop()
    }

    /// Puts a page back that was taken.
    #[inline]
    pub fn put(&mut self, page: KBox<ReceivePage<T>>) {
        // This does not fail: the vector has capacity for all pages.
        let _ = self.free.push_within_capacity(page);
    }

    /// Puts a page back that [`Self::lost`] was called for, in place of one that is missing.
    ///
    /// Returns the page if none is missing.
    pub fn adopt(&mut self, page: KBox<ReceivePage<T>>) -> Result<(), KBox<ReceivePage<T>>> {
        if !self.lacks_pages() {
            return Err(page);
        }
        self.pages += 1;
        self.put(page);
        Ok(())
    }

    /// Notes that a page that was taken does not come back, or does not count any more.
    #[inline]
    pub fn lost(&mut self) {
        self.pages = self.pages.saturating_sub(1);
    }

    /// Takes all free pages out for good, for the caller to drop without its lock.
    pub fn take_all(&mut self) -> KVec<KBox<ReceivePage<T>>> {
        core::mem::take(&mut self.free)
    }
}
