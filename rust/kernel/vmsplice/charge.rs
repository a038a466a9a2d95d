// SPDX-License-Identifier: GPL-2.0

//! The limit `fs.pipe-user-memory-pages` on the user memory in pipes.
//!
//! A charge follows the memory, not the pipe: it is given back when the last reference is dropped,
//! by any task and in any context, even if the task that was charged has ended. So it counts for
//! the user, to which it holds a reference, and not for a process.
//!
//! C header: [`include/linux/sched/user.h`](srctree/include/linux/sched/user.h)

use crate::{
    bindings,
    prelude::*,
    sync::atomic::{ordering::Relaxed, Atomic}, //
};
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
///
/// # Examples
///
/// ```
/// use kernel::vmsplice::UserMemoryCharge;
///
/// let limit = 8;
/// let mut charge = UserMemoryCharge::none();
/// assert!(charge.add(3, limit));
/// // A part does not count: the pages are charged together or not at all.
/// assert!(!charge.add(6, limit));
/// assert!(charge.add(5, limit));
/// // This gives all eight pages back.
/// drop(charge);
/// ```
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
    ///
    /// A value of 0 is a limit, under which all memory is copied. With `None` the caller charges
    /// nothing, so pages that are in use when a limit is set do not count.
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

    /// Returns the number of pages that are counted for `user`.
    ///
    /// # Safety
    ///
    /// `user` must be valid for `'a`.
    unsafe fn counter<'a>(user: *mut bindings::user_struct) -> &'a Atomic<isize> {
        // SAFETY: The caller guarantees that `user` is valid. All code accesses this field
        // atomically.
        unsafe { Atomic::from_ptr((&raw mut (*user).pipe_user_memory.counter).cast()) }
    }

    /// Adds `pages` pages to the charge and counts them for the real user of the current task.
    ///
    /// Returns `false` and adds nothing if the user would have more than `limit` pages. `pages`
    /// must not be 0.
    ///
    /// If the limit was lowered below the present count, this fails until enough pages are given
    /// back. Callable from task context; does not sleep. The caller copies the memory if this
    /// returns `false`.
    #[must_use]
    pub fn add(&mut self, pages: usize, limit: usize) -> bool {
        if pages == 0 {
            return true;
        }
        let user = if self.user.is_null() {
            // SAFETY: The current task is valid, and so is its user until this function returns.
            unsafe { bindings::current_user() }
        } else {
            self.user
        };
        // SAFETY: The user is that of the current task, or by the type invariant a valid reference.
        let counter = unsafe { Self::counter(user) };
        let mut counted = counter.load(Relaxed);
        loop {
            // CAST: The number of counted pages is not negative.
            if counted as usize > limit.wrapping_sub(pages) || pages > limit {
                return false;
            }
            // CAST: At most `limit`, which comes from an int.
            match counter.cmpxchg(counted, counted + pages as isize, Relaxed) {
                Ok(_) => break,
                Err(now) => counted = now,
            }
        }
        if self.user.is_null() {
            // SAFETY: The user is valid, see above.
            self.user = unsafe { bindings::get_uid(user) };
        }
        // INVARIANT: The pages are counted, and `user` is a reference.
        self.pages += pages;
        true
    }
}

impl Drop for UserMemoryCharge {
    #[inline]
    fn drop(&mut self) {
        if self.pages != 0 {
            // SAFETY: By the type invariant `user` is a reference that `self` owns, for which
            // `pages` pages are counted. Neither is used again.
            unsafe {
                // CAST: The number comes from an isize.
                Self::counter(self.user).add(-(self.pages as isize), Relaxed);
                bindings::free_uid(self.user);
            }
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
