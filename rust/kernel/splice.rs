// SPDX-License-Identifier: GPL-2.0

//! Splice: data is moved through a pipe by moving references to pages.
//!
//! This module has the parts that transfers are built of: [`SpliceFlags`], the functions that wait
//! for data and for room, [`from_pipe`], which passes the data of a pipe to an [`Actor`], and the
//! operations on files that are the ends of transfers. The transfers themselves are in `fs/splice/`
//! and `mm/vmsplice/`.
//!
//! Drivers implement [`SpliceDevice`]. For DMA, a driver takes [`PipeBuffers`] and makes an
//! [`SGTable`](crate::scatterlist::SGTable) of them. To receive, it fills [`ReceivePage`]s, which
//! return to the driver when their last reader is done.
//!
//! - [`device`]: the trait for drivers, and the pipe as a driver sees it.
//! - [`user`]: user memory as the end of a transfer.
//! - [`loan`], [`notify`]: user memory whose release is observed, and the notification of user
//!   space.
//! - [`desc`]: `struct splice_desc`, for transfers with a C actor.
//! - [`counters`]: statistics on data that was moved by reference and data that was copied.
//!
//! Functions of this module may sleep unless their documentation says otherwise.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h)

use crate::{
    bindings,
    current,
    debugfs::Dir,
    impl_flags,
    pipe::PipeRing,
    prelude::*,
    sync::SetOnce, //
};

mod bound;
mod buffers;
pub mod counters;
pub mod desc;
pub mod device;
mod file;
mod from_pipe;
pub mod loan;
mod misc;
pub mod notify;
mod receive;
mod spd;
pub mod user;

pub use bound::WhileBound;
pub use buffers::PipeBuffers;
pub use desc::SpliceDesc;
pub use device::{FromPipe, PollEvent, PollEvents, SpliceDevice, ToPipe};
#[cfg(CONFIG_NET)]
pub use file::Socket;
pub use file::WriteGuard;
pub use from_pipe::{from_pipe, wait_for_data, wait_for_room, Actor, Progress};
pub(crate) use misc::MiscSplice;
pub use receive::{PageOwner, ReceivePage};
pub use spd::SplicePipeDesc;

impl_flags!(
    /// The flags of a transfer. C: `SPLICE_F_*`.
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

    /// Returns the flags without `flag`.
    #[inline]
    #[must_use]
    pub fn without(self, flag: SpliceFlag) -> Self {
        Self(self.0 & !(flag as u32))
    }
}

/// Returns the directory of splice in debugfs. It contains the counters and a directory for each
/// device of a splice driver.
///
/// The first call creates the directory. May sleep.
pub fn debugfs_dir() -> Dir {
    static DIR: SetOnce<Dir> = SetOnce::new();

    if let Some(dir) = DIR.as_ref() {
        return dir.clone();
    }
    let dir = Dir::new(c"splice");
    // `fs/splice` makes the first call at boot, when no other caller can run at the same time.
    DIR.populate(dir.clone());
    dir
}

/// Converts the result of a C function that returns a number of bytes or a negative error number.
#[inline]
pub fn to_size(ret: isize) -> Result<usize> {
    if ret < 0 {
        // CAST: Error numbers fit in an int.
        return Err(Error::from_errno(ret as c_int));
    }
    // CAST: The value is not negative.
    Ok(ret as usize)
}

/// Converts a result for a C caller that expects a number of bytes or a negative error number. The
/// inverse of [`to_size`].
#[inline]
pub fn from_size(ret: Result<usize>) -> isize {
    match ret {
        // CAST: A transfer has at most `isize::MAX` bytes.
        Ok(bytes) => bytes as isize,
        Err(err) => err.to_errno() as isize,
    }
}

/// Sends `SIGPIPE` to the current task and returns [`EPIPE`], for a write to a pipe without
/// readers.
#[cold]
pub fn broken_pipe() -> Error {
    // SAFETY: `current` is a valid task, and any task can send a signal to itself.
    unsafe { bindings::send_sig(bindings::SIGPIPE as c_int, bindings::get_current(), 0) };
    EPIPE
}

/// Returns whether the current task has a pending signal, so that it should stop to wait.
#[inline]
pub fn interrupted() -> bool {
    current!().signal_pending()
}

/// Lets another task run if it is due. May sleep. C: `cond_resched`.
///
/// Long loops over buffers call this once for each round.
#[inline]
pub fn cond_resched() {
    // SAFETY: `cond_resched` has no memory safety requirements. The caller is in a context that may
    // sleep, see above.
    unsafe { bindings::cond_resched() };
}

/// Returns the number of bytes that `ring` has room for, in whole pages: one page for each free
/// slot.
#[inline]
pub fn room_in_bytes(ring: &PipeRing<'_>) -> usize {
    (ring.space() as usize) << crate::page::PAGE_SHIFT
}
