// SPDX-License-Identifier: GPL-2.0

//! Where C comes in.

use crate::transfer;
use kernel::{bindings, prelude::*, splice::from_size, uaccess::UserPtr};

/// `vmsplice(2)`.
#[export]
pub(crate) extern "C" fn rust_sys_vmsplice(
    fd: c_int,
    uiov: *const bindings::iovec,
    nr_segs: usize,
    flags: c_uint,
) -> isize {
    let iov = UserPtr::from_ptr(uiov.cast_mut().cast());
    from_size(transfer::sys_vmsplice(fd, iov, nr_segs, flags))
}
