// SPDX-License-Identifier: GPL-2.0

//! Memory that is charged to `RLIMIT_MEMLOCK`.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use crate::{bindings, cred::Credential, page::PAGE_SIZE, prelude::*, types::Opaque};

/// A charge of memory to the real user of the task that made it. Dropping this gives the charge
/// back.
///
/// # Examples
///
/// ```
/// use kernel::mm::locked::LockedMemory;
///
/// let charge = LockedMemory::charge(1 << 20)?;
/// // The memory is in use.
/// drop(charge);
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// `charge` was zeroed, or has a reference to a user and no pages, and was then passed to
/// `mm_account_pinned_pages` only.
pub struct LockedMemory {
    charge: Opaque<bindings::ubuf_info_msgzc_mmpin>,
}

// SAFETY: The charge consists of a counted reference to a user and a number, which any task may
// give back.
unsafe impl Send for LockedMemory {}
// SAFETY: A shared reference gives no access to the charge.
unsafe impl Sync for LockedMemory {}

// The charge has no pointer to itself.
impl Unpin for LockedMemory {}

impl LockedMemory {
    /// Charges `bytes` to the user of the current task. C: `mm_account_pinned_pages`.
    ///
    /// Nothing is charged to a task with `CAP_IPC_LOCK` or without a limit. The charge is in pages,
    /// and has two pages more than `bytes` need.
    ///
    /// Returns [`ENOMEM`] if the user would have more than `RLIMIT_MEMLOCK` allows.
    pub fn charge(bytes: usize) -> Result<Self> {
        // INVARIANT: The charge is zeroed here, and passed to the function below.
        let this = Self {
            charge: Opaque::zeroed(),
        };
        // SAFETY: `charge` is a valid charge without a user.
        if unsafe { bindings::mm_account_pinned_pages(this.charge.get(), bytes) } != 0 {
            return Err(ENOMEM);
        }
        Ok(this)
    }

    /// Creates a charge of nothing for the real user of `cred`, such as the one that opened a file.
    /// [`Self::add`] charges memory to this user, whatever task calls it.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{fs::File, mm::locked::LockedMemory, prelude::*};
    ///
    /// /// Charges a page that a task has given to `file` to the user that opened the file.
    /// fn charge(file: &File) -> Result<LockedMemory> {
    ///     let mut charge = LockedMemory::of_user(file.cred());
    ///     charge.add(kernel::page::PAGE_SIZE)?;
    ///     Ok(charge)
    /// }
    /// ```
    pub fn of_user(cred: &Credential) -> Self {
        // SAFETY: A credential has a user, and holds a reference to it.
        let user = unsafe { bindings::get_uid((*cred.as_ptr()).user) };
        // INVARIANT: A charge with a user and without pages is one to which
        // `mm_account_pinned_pages` adds, and from which `mm_unaccount_pinned_pages` gives back the
        // reference that was taken above.
        Self {
            charge: Opaque::new(bindings::ubuf_info_msgzc_mmpin { user, num_pg: 0 }),
        }
    }

    /// Charges `bytes` more, to the user of the charge. The limit is that of the current task.
    ///
    /// Otherwise the same as [`Self::charge`]. If this fails, the charge is unchanged.
    pub fn add(&mut self, bytes: usize) -> Result {
        // The number of pages is a `u32`, and the function adds up to two to those of `bytes`.
        let pages = bytes / PAGE_SIZE + 2;
        // SAFETY: By the type invariant `charge` is a valid charge, which is borrowed exclusively.
        let charged = unsafe { (*self.charge.get()).num_pg };
        if u32::try_from(pages).map_or(true, |pages| charged.checked_add(pages).is_none()) {
            return Err(ENOMEM);
        }
        // SAFETY: By the type invariant `charge` is a valid charge.
        if unsafe { bindings::mm_account_pinned_pages(self.charge.get(), bytes) } != 0 {
            return Err(ENOMEM);
        }
        Ok(())
    }
}

impl Drop for LockedMemory {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this is a charge of `mm_account_pinned_pages`, or a zeroed
        // one, for which the function does nothing. It is not used again.
        unsafe { bindings::mm_unaccount_pinned_pages(self.charge.get()) };
    }
}
