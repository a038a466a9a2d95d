// SPDX-License-Identifier: GPL-2.0

//! Where C comes in.

use crate::{entry, fdinfo, notify};
use kernel::{
    bindings,
    fs::LocalFile,
    prelude::*,
    seq_file::SeqFile,
    splice::from_size,
    uaccess::UserPtr, //
};

/// `vmsplice(2)`.
#[export]
pub(crate) extern "C" fn rust_sys_vmsplice(
    fd: c_int,
    uiov: *const bindings::iovec,
    nr_segs: usize,
    flags: c_uint,
) -> isize {
    let iov = UserPtr::from_ptr(uiov.cast_mut().cast());
    from_size(entry::sys_vmsplice(fd, iov, nr_segs, flags))
}

/// The ioctls of pipes that C does not know.
///
/// # Safety
///
/// `file` is a valid file, of a pipe.
#[export]
pub(crate) unsafe extern "C" fn rust_pipe_ioctl(
    file: *mut bindings::file,
    cmd: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: By the caller's promise; any `fdget_pos` without the lock is in this task.
    let file = unsafe { LocalFile::from_raw_file(file) };
    match notify::ioctl(file, cmd, UserPtr::from_addr(arg)) {
        Ok(ret) => ret,
        Err(err) => err.to_errno() as c_long,
    }
}

/// The lines of a pipe in `/proc/PID/fdinfo`.
///
/// # Safety
///
/// `m` and `file` are valid, and `file` is a pipe's.
#[export]
pub(crate) unsafe extern "C" fn rust_pipe_show_fdinfo(
    m: *mut bindings::seq_file,
    file: *mut bindings::file,
) {
    // SAFETY: Both are valid by the caller's promise. The position of a pipe is not looked at.
    let (m, file) = unsafe { (SeqFile::from_raw(m), LocalFile::from_raw_file(file)) };
    fdinfo::show(m, file);
}
