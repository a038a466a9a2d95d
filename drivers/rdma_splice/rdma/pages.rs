// SPDX-License-Identifier: GPL-2.0

//! The pages that a connection receives into. They go into pipes, and come back.

use super::counters::COUNTERS;
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    new_mutex,
    prelude::*,
    splice::driver::{PageOwner, ReceivePage},
    sync::{Arc, Mutex},
};

/// A page to receive into.
pub(crate) type Page = KBox<ReceivePage<Owner>>;

/// The owner of a page: the pool that it returns to.
pub(crate) struct Owner(Arc<Pool>);

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

/// The free pages of a pool.
struct Free {
    pages: KVec<Page>,
    /// The most pages that are kept.
    most: usize,
}

/// Pages that are in no receive and in no pipe.
///
/// Pages and pool refer to each other. [`Self::close`] breaks the cycle.
#[pin_data]
pub(crate) struct Pool {
    /// `None` after [`Self::close`].
    #[pin]
    free: Mutex<Option<Free>>,
}

impl Pool {
    /// Creates a pool that keeps no pages yet. Returns [`ENOMEM`] if there is no memory.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let free = Free {
            pages: KVec::new(),
            most: 0,
        };
        Arc::pin_init(
            pin_init!(Self {
                free <- new_mutex!(Some(free)),
            }),
            GFP_KERNEL,
        )
    }

    /// Lets the pool keep `most` pages. Returns [`ENOMEM`] if there is no memory.
    pub(crate) fn keep(&self, most: usize) -> Result {
        let pages = KVec::with_capacity(most, GFP_KERNEL)?;
        if let Some(free) = &mut *self.free.lock() {
            *free = Free { pages, most };
        }
        Ok(())
    }

    /// Takes a page, if there is one.
    pub(crate) fn take(&self) -> Option<Page> {
        (*self.free.lock()).as_mut()?.pages.pop()
    }

    /// Allocates a page that belongs to the pool. Returns [`ENOMEM`] if there is no memory.
    pub(crate) fn alloc(this: &Arc<Self>) -> Result<Page> {
        COUNTERS.pages.add(1);
        ReceivePage::new(Owner(this.clone()), GFP_KERNEL_ACCOUNT)
    }

    /// Adds a page. Frees it if the pool has enough pages, or is closed.
    pub(crate) fn put(&self, page: Page) {
        let mut free = self.free.lock();
        let unused = match &mut *free {
            Some(free) if free.pages.len() < free.most => free
                .pages
                .push_within_capacity(page)
                .err()
                .map(|full| full.0),
            _ => Some(page),
        };
        drop(free);
        drop(unused);
    }

    /// Frees all pages. Pages that come back later are freed at once.
    pub(crate) fn close(&self) {
        let free = self.free.lock().take();
        drop(free);
    }
}
