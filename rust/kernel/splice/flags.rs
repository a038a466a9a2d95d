// SPDX-License-Identifier: GPL-2.0

//! The flags of a transfer.
//!
//! UAPI header: [`include/uapi/linux/splice.h`](srctree/include/uapi/linux/splice.h)

use crate::{bindings, impl_flags, prelude::*};

impl_flags!(
    /// The flags of a transfer. C: `SPLICE_F_*`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::splice::{SpliceFlag, SpliceFlags};
    ///
    /// let flags = SpliceFlag::NonBlock | SpliceFlag::More;
    /// assert!(flags.contains(SpliceFlag::More));
    /// assert!(!flags.without(SpliceFlag::More).contains(SpliceFlag::More));
    ///
    /// // A system call fails for an unknown bit. Other callers in the kernel may use private bits.
    /// assert_eq!(SpliceFlags::from_user(1 << 20), Err(EINVAL));
    /// assert_eq!(u32::from(SpliceFlags::from_kernel(1 << 20)), 1 << 20);
    /// ```
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct SpliceFlags(u32);

    /// A single flag of [`SpliceFlags`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum SpliceFlag {
        /// Move pages rather than copy them. Only FUSE uses this hint.
        Move = bindings::SPLICE_F_MOVE,
        /// Do not wait for the pipe. The file at the other end may still block.
        NonBlock = bindings::SPLICE_F_NONBLOCK,
        /// The caller will send more data. Sockets use it to fill their packets.
        More = bindings::SPLICE_F_MORE,
        /// The caller of `vmsplice(2)` gives the pages away. This has no effect here.
        Gift = bindings::SPLICE_F_GIFT,
    }
);

impl SpliceFlags {
    /// Checks the flags of a system call.
    ///
    /// Returns [`EINVAL`] if a flag is unknown.
    #[inline]
    pub fn from_user(bits: u32) -> Result<Self> {
        if bits & !Self::all_bits() != 0 {
            return Err(EINVAL);
        }
        Ok(Self(bits))
    }

    /// Checks the flags of `vmsplice(2)`. Also returns whether the caller asked for a notification
    /// (`SPLICE_F_NOTIFY`).
    ///
    /// Returns [`EINVAL`] if a flag is unknown.
    #[inline]
    pub fn from_user_notify(bits: u32) -> Result<(Self, bool)> {
        const NOTIFY: u32 = bindings::SPLICE_F_NOTIFY;

        if bits & !(Self::all_bits() | NOTIFY) != 0 {
            return Err(EINVAL);
        }
        Ok((Self(bits), bits & NOTIFY != 0))
    }

    /// Takes the flags of a caller in the kernel. Unknown bits are kept, so that they reach the
    /// file at the other end.
    #[inline]
    pub const fn from_kernel(bits: u32) -> Self {
        Self(bits)
    }

    /// The error of a call with [`Self::no_wait`] that would wait. No file returns it otherwise. C:
    /// `SPLICE_WOULD_WAIT`.
    pub const WOULD_WAIT: Error = EIOCBQUEUED;

    /// Returns the flags with `SPLICE_F_NOWAIT`, for a call that returns [`Self::WOULD_WAIT`] where
    /// it would wait for a pipe, or `->splice_read` for data. A call with the flag raises no
    /// `SIGPIPE`. The flag is for the kernel only: [`Self::from_user`] refuses it.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::splice::{SpliceFlag, SpliceFlags};
    ///
    /// let flags = SpliceFlags::from(SpliceFlag::More);
    /// assert!(!flags.is_no_wait());
    /// assert!(flags.no_wait().is_no_wait());
    /// assert_eq!(SpliceFlags::from_user(flags.no_wait().into()), Err(EINVAL));
    /// ```
    #[inline]
    #[must_use]
    pub fn no_wait(self) -> Self {
        Self(self.0 | bindings::SPLICE_F_NOWAIT)
    }

    /// Returns whether the flags have the flag of [`Self::no_wait`].
    #[inline]
    pub fn is_no_wait(self) -> bool {
        self.0 & bindings::SPLICE_F_NOWAIT != 0
    }

    /// Returns whether `err` means that a call with [`Self::no_wait`] would wait.
    #[inline]
    pub fn is_would_wait(err: Error) -> bool {
        err == Self::WOULD_WAIT
    }

    /// Returns the flags without `flag`.
    #[inline]
    #[must_use]
    pub fn without(self, flag: SpliceFlag) -> Self {
        Self(self.0 & !(flag as u32))
    }
}
