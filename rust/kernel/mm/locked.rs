// SPDX-License-Identifier: GPL-2.0

//! Memory that is charged to `RLIMIT_MEMLOCK`.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use crate::{bindings, prelude::*, types::Opaque};

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
/// `charge` was zeroed and then passed to `mm_account_pinned_pages` only.
pub struct LockedMemory {
    charge: Opaque<bindings::ubuf_info_msgzc_mmpin>,
}

// SAFETY: The charge consists of a counted reference to a user and a number, which any task may
// give back.
unsafe impl Send for LockedMemory {}
// SAFETY: A shared reference gives no access to the charge.
unsafe impl Sync for LockedMemory {}

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
}

impl Drop for LockedMemory {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this is a charge of `mm_account_pinned_pages`, or a zeroed
        // one, for which the function does nothing. It is not used again.
        unsafe { bindings::mm_unaccount_pinned_pages(self.charge.get()) };
    }
}
