// SPDX-License-Identifier: GPL-2.0

//! Numbers of bytes as results of C functions.
//!
//! C functions that transfer data return a `ssize_t`. Rust code uses a [`Result`] of a `usize`, and
//! converts at the border, so that a negative number is never mistaken for a length.

#![forbid(unsafe_code)]

use crate::prelude::*;

/// Converts the result of a C function that returns a number of bytes or a negative error number.
///
/// # Examples
///
/// ```
/// use kernel::splice::{from_size, to_size};
///
/// assert_eq!(to_size(0), Ok(0));
/// assert_eq!(to_size(4096), Ok(4096));
/// assert_eq!(to_size(EAGAIN.to_errno() as isize), Err(EAGAIN));
/// assert_eq!(from_size(Err(EAGAIN)), EAGAIN.to_errno() as isize);
/// ```
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
