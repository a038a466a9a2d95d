// SPDX-License-Identifier: GPL-2.0

//! The limit `fs.pipe-user-memory-pages` on the user memory in pipes.
//!
//! C header: [`include/linux/sched/user.h`](srctree/include/linux/sched/user.h)

use crate::{bindings, prelude::*};
use core::ptr;

/// Pages that count against `fs.pipe-user-memory-pages` until this is dropped.
///
/// The sysctl limits how much user memory the `vmsplice(2)` calls of a user may hold. The slots of
/// pipes do not limit that, since one slot can keep a whole large folio in memory.
///
/// # Invariants
///
/// If `pages` is 0, `user` is null. Otherwise `user` is a reference that this value owns, and
/// `pages` pages are counted in its `pipe_user_memory`.
pub struct UserMemoryCharge {
    user: *mut bindings::user_struct,
    pages: usize,
}

// SAFETY: All tasks may access a `struct user_struct` to which a reference is held.
unsafe impl Send for UserMemoryCharge {}

// SAFETY: Methods that take a shared reference change nothing.
unsafe impl Sync for UserMemoryCharge {}

impl UserMemoryCharge {
    /// Returns the limit in pages for each user, or `None` if there is no limit (the value of the
    /// sysctl is -1).
    #[inline]
    pub fn limit() -> Option<usize> {
        // SAFETY: The variable is an int. The sysctl may change it at any time, hence the volatile
        // load.
        let limit = unsafe { (&raw const bindings::pipe_user_memory_pages).read_volatile() };
        usize::try_from(limit).ok()
    }

    /// Creates a charge of no pages.
    #[inline]
    pub const fn none() -> Self {
        // INVARIANT: There are no pages, and `user` is null.
        Self {
            user: ptr::null_mut(),
            pages: 0,
        }
    }

    /// Adds `pages` pages to the charge and counts them for the real user of the current task.
    ///
    /// Returns `false` and adds nothing if the user would have more than `limit` pages. `pages`
    /// must not be 0.
    #[must_use]
    pub fn add(&mut self, pages: usize, limit: usize) -> bool {
        if pages == 0 {
            return true;
        }
        // SAFETY: By the type invariant `user` is null or a valid reference.
        // INVARIANT: If the pages are counted and `user` was null, C stores a reference in it.
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
            // SAFETY: By the type invariant `user` is a reference that `self` owns, for which
            // `pages` pages are counted.
            unsafe { bindings::user_memory_uncharge(self.user, self.pages) };
        }
    }
}

#[kunit_tests(rust_vmsplice_charge)]
mod tests {
    use super::*;

    // The second charge is within the limit only if dropping the first one gives all back.
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
