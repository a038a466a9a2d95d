// SPDX-License-Identifier: GPL-2.0

//! The functions that C calls. They convert pointers to references and results to error numbers,
//! and decide nothing.

use crate::{fdinfo, ioctl, syscall};
use kernel::{
    bindings,
    fs::LocalFile,
    prelude::*,
    seq_file::SeqFile,
    splice::from_size,
    uaccess::UserPtr, //
};

/// Runs `vmsplice(2)`. Returns the number of bytes or a negative error number.
///
/// # Safety
///
/// The current task is in a system call.
#[export]
pub(crate) unsafe extern "C" fn rust_sys_vmsplice(
    fd: c_int,
    uiov: *const bindings::iovec,
    nr_segs: usize,
    flags: c_uint,
) -> isize {
    let iov = UserPtr::from_ptr(uiov.cast_mut().cast());
    from_size(syscall::sys_vmsplice(fd, iov, nr_segs, flags))
}

/// Runs the ioctls of pipes that `fs/pipe.c` does not know. Returns 0 or a negative error number.
///
/// # Safety
///
/// `file` must be the valid file of a pipe.
#[export]
pub(crate) unsafe extern "C" fn rust_pipe_ioctl(
    file: *mut bindings::file,
    cmd: c_uint,
    arg: c_ulong,
) -> c_long {
    // SAFETY: The caller guarantees that `file` is valid. The current task has looked it up, so an
    // `fdget_pos` that did not take the lock is in this task.
    let file = unsafe { LocalFile::from_raw_file(file) };
    match ioctl::ioctl(file, cmd, UserPtr::from_addr(arg)) {
        Ok(ret) => ret,
        Err(err) => err.to_errno() as c_long,
    }
}

/// Prints the lines of a pipe in `/proc/PID/fdinfo`.
///
/// # Safety
///
/// `m` and `file` must be valid, and `file` must be the file of a pipe.
#[export]
pub(crate) unsafe extern "C" fn rust_pipe_show_fdinfo(
    m: *mut bindings::seq_file,
    file: *mut bindings::file,
) {
    // SAFETY: The caller guarantees that both are valid. Other tasks may use the file position, but
    // it is not accessed here: a pipe has none.
    let (m, file) = unsafe { (SeqFile::from_raw(m), LocalFile::from_raw_file(file)) };
    fdinfo::show(m, file);
}
