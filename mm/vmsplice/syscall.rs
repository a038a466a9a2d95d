// SPDX-License-Identifier: GPL-2.0

//! The entry point of `vmsplice(2)`: checks the arguments and chooses the direction.

#![forbid(unsafe_code)]

use crate::{memory_to_pipe, pipe_to_memory};
use kernel::{
    fs::LocalFile,
    iov::user::UserIov,
    prelude::*,
    splice::{Counter, SpliceFlags},
    uaccess::UserPtr,
};

/// Transfers between user memory and a pipe: into the pipe if `fd` is its write end, out of the
/// pipe if `fd` is its read end. Returns the number of bytes, which is 0 if `iov` is empty. May
/// sleep.
///
/// # Errors
///
/// - [`EINVAL`]: a flag is unknown, `iov` is invalid, or the caller asks for a notification of a
///   transfer out of the pipe, which copies.
/// - [`EBADF`]: `fd` is not an end of a pipe.
/// - [`EFAULT`]: `iov` cannot be read.
/// - Those of [`memory_to_pipe::splice`] and [`pipe_to_memory::splice`].
pub(crate) fn sys_vmsplice(fd: c_int, iov: UserPtr, segments: usize, flags: u32) -> Result<usize> {
    Counter::CallsVmsplice.add(1);
    let (flags, notify) = SpliceFlags::from_user_notify(flags)?;
    LocalFile::with_fd(fd, |file| {
        if file.is_writable() {
            UserIov::with_source(iov, segments, |source| {
                if source.is_empty() {
                    return Ok(0);
                }
                memory_to_pipe::splice(file, source, flags, notify)
            })
        } else if file.is_readable() {
            if notify {
                return Err(EINVAL);
            }
            UserIov::with_dest(iov, segments, |dest| {
                if dest.is_empty() {
                    return Ok(0);
                }
                pipe_to_memory::splice(file, dest, flags)
            })
        } else {
            Err(EBADF)
        }
    })
}
