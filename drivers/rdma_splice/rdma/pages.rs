// SPDX-License-Identifier: GPL-2.0

//! The pages that a connection receives into. They go into pipes, and come back.
//!
//! A page that goes into a pipe counts there, and not in the pool of its connection: the pool gets
//! a new page in its place. When it comes back, it replaces a page that is still missing, or is
//! freed.

use super::counters::COUNTERS;
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    new_mutex,
    prelude::*,
    splice::driver::{PageOwner, PagePool, ReceivePage},
    sync::{Arc, Mutex},
};

/// A page to receive into.
pub(crate) type Page = KBox<ReceivePage<Owner>>;

/// The owner of a page: the pool that it returns to.
pub(crate) struct Owner(Arc<Shared>);

impl Owner {
    fn new(pool: &Arc<Shared>) -> Self {
        COUNTERS.pages.add(1);
        Self(pool.clone())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        COUNTERS.pages.sub(1);
    }
}

#[vtable]
impl PageOwner for Owner {
    fn release(page: Page) {
        let pool = page.owner().0.clone();
        pool.put(page);
    }
}

/// The part of a pool that its pages refer to.
#[pin_data]
struct Shared {
    /// `None` after the end of the pool.
    #[pin]
    pages: Mutex<Option<PagePool<Owner>>>,
}

impl Shared {
    fn put(&self, page: Page) {
        let mut pages = self.pages.lock();
        let unused = match &mut *pages {
            Some(pages) => pages.adopt(page).err(),
            None => Some(page),
        };
        drop(pages);
        drop(unused);
    }
}

/// The pages of a connection: those that are free, and those of its receives.
///
/// Dropping the pool frees the pages that are free. Others are freed when they come back.
pub(crate) struct Pool(Arc<Shared>);

impl Pool {
    /// Creates a pool of `limit` pages, and charges them to the memory cgroup of the current task.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub(crate) fn new(limit: usize) -> Result<Self> {
        let pages = PagePool::new(limit)?;
        let this = Self(Arc::pin_init(
            pin_init!(Shared {
                pages <- new_mutex!(Some(pages)),
            }),
            GFP_KERNEL,
        )?);
        for _ in 0..limit {
            this.add()?;
        }
        Ok(this)
    }

    /// Allocates a page.
    ///
    /// Returns [`ENOMEM`] if there is no memory, and [`ENOSPC`] if no page is missing.
    pub(crate) fn add(&self) -> Result {
        match &mut *self.0.pages.lock() {
            Some(pages) => pages.add(Owner::new(&self.0), GFP_KERNEL_ACCOUNT),
            None => Err(ENOSPC),
        }
    }

    /// Takes a free page, if there is one.
    pub(crate) fn take(&self) -> Option<Page> {
        (*self.0.pages.lock()).as_mut()?.take()
    }

    /// Notes that a page goes into a pipe.
    pub(crate) fn lost(&self) {
        if let Some(pages) = &mut *self.0.pages.lock() {
            pages.lost();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Pages and pool refer to each other until here.
        let pages = self.0.pages.lock().take();
        drop(pages);
    }
}
