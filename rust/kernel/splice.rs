// SPDX-License-Identifier: GPL-2.0

//! Splice: moving data by moving references to pages, through a pipe.
//!
//! What is here is for those who take part in a transfer: [`SpliceFlags`], the waits for data and
//! for room, [`from_pipe`] to feed what is in a pipe to an [`Actor`], and the ends of transfers
//! that are files. The transfers themselves are in `fs/splice/` and `mm/vmsplice/`.
//!
//! Drivers implement [`SpliceDevice`]. For DMA there are [`PipeBuffers`], of which an
//! [`SGTable`](crate::scatterlist::SGTable) can be made, and [`ReceivePage`]s, which come back to
//! their driver when the last reader is done.
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
    /// How to transfer. C: `SPLICE_F_*`.
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct SpliceFlags(u32);

    /// One of [`SpliceFlags`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum SpliceFlag {
        /// Move pages rather than copy them. A hint that is not needed.
        Move = bindings::SPLICE_F_MOVE,
        /// Do not wait for the pipe. The other end may make the caller wait all the same.
        NonBlock = bindings::SPLICE_F_NONBLOCK,
        /// More data will follow.
        More = bindings::SPLICE_F_MORE,
        /// The pages are given away for good.
        Gift = bindings::SPLICE_F_GIFT,
    }
);

impl SpliceFlags {
    /// The flags of a system call; fails with [`EINVAL`] where there are unknown ones.
    #[inline]
    pub fn from_user(bits: u32) -> Result<Self> {
        if bits & !Self::all_bits() != 0 {
            return Err(EINVAL);
        }
        Ok(Self(bits))
    }

    /// The flags of `vmsplice(2)`, and whether its memory is to be reported.
    #[inline]
    pub fn from_user_notify(bits: u32) -> Result<(Self, bool)> {
        const NOTIFY: u32 = bindings::SPLICE_F_NOTIFY;

        if bits & !(Self::all_bits() | NOTIFY) != 0 {
            return Err(EINVAL);
        }
        Ok((Self(bits), bits & NOTIFY != 0))
    }

    /// The flags of a caller in the kernel. Bits unknown here are handed on.
    #[inline]
    pub const fn from_kernel(bits: u32) -> Self {
        Self(bits)
    }

    /// The same without `flag`.
    #[inline]
    #[must_use]
    pub fn without(self, flag: SpliceFlag) -> Self {
        Self(self.0 & !(flag as u32))
    }
}

/// The folder of splice in debugfs: there are the counters, and a folder for each driver's device.
pub fn debugfs_dir() -> Dir {
    static DIR: SetOnce<Dir> = SetOnce::new();

    if let Some(dir) = DIR.as_ref() {
        return dir.clone();
    }
    let dir = Dir::new(c"splice");
    // The first caller is `fs/splice`, at boot, when there is no other.
    DIR.populate(dir.clone());
    dir
}

/// What a C function says that returns a number of bytes or a negative error.
#[inline]
pub fn to_size(ret: isize) -> Result<usize> {
    if ret < 0 {
        // CAST: Errors are small.
        return Err(Error::from_errno(ret as c_int));
    }
    // CAST: Not negative.
    Ok(ret as usize)
}

/// What a C caller gets that expects a number of bytes or a negative error.
#[inline]
pub fn from_size(ret: Result<usize>) -> isize {
    match ret {
        // CAST: No transfer is longer than `isize::MAX`.
        Ok(bytes) => bytes as isize,
        Err(err) => err.to_errno() as isize,
    }
}

/// What writing to a pipe that nobody reads comes to: `SIGPIPE` for the current task, and
/// [`EPIPE`].
#[cold]
pub fn broken_pipe() -> Error {
    // SAFETY: Sending a signal to the current task is always possible.
    unsafe { bindings::send_sig(bindings::SIGPIPE as c_int, bindings::get_current(), 0) };
    EPIPE
}

/// Whether the current task has a signal to attend to.
#[inline]
pub fn interrupted() -> bool {
    current!().signal_pending()
}

/// Lets other tasks run where it is their turn. May sleep. C: `cond_resched`.
#[inline]
pub fn cond_resched() {
    // SAFETY: Callers may sleep, as all of this module may.
    unsafe { bindings::cond_resched() };
}

/// The number of bytes that `ring` has room for, in whole pages.
#[inline]
pub fn room_in_bytes(ring: &PipeRing<'_>) -> usize {
    (ring.space() as usize) << crate::page::PAGE_SHIFT
}
