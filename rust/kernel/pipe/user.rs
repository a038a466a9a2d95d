// SPDX-License-Identifier: GPL-2.0

//! Operations of buffers that hold user memory themselves, without a
//! [`Loan`](crate::splice::loan::Loan).
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::{OpsTable, PipeBufferOps, Provenance};
use crate::{bindings, prelude::*};

/// Buffers with a reference to the folio.
pub(super) struct Referenced;

#[vtable]
impl PipeBufferOps for Referenced {
    const PROVENANCE: Provenance = Provenance::UserMemory;
}

/// Buffers with a pin on the folio.
pub(super) struct Pinned;

#[vtable]
impl PipeBufferOps for Pinned {
    const PROVENANCE: Provenance = Provenance::UserMemory;
}

/// The table of [`Referenced`]. C: `user_page_pipe_buf_ops`.
pub(super) static REFERENCED: OpsTable<Referenced> =
    // SAFETY: `release` gives back the reference that a buffer has, and `get` takes another.
    unsafe { OpsTable::with_references(bindings::generic_pipe_buf_release, get) };

/// The table of [`Pinned`].
pub(super) static PINNED: OpsTable<Pinned> =
    // SAFETY: `unpin` gives back the pin that a buffer has, and `get_pin` takes another.
    unsafe { OpsTable::with_references(unpin, get_pin) };

/// # Safety
///
/// As C calls it: `buf` is a valid buffer with the operations of [`REFERENCED`].
unsafe extern "C" fn get(
    pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: The buffer is valid by the caller's promise, so it holds its page.
    unsafe {
        !bindings::user_range_refs_exhausted((*buf).page)
            && bindings::generic_pipe_buf_get(pipe, buf)
    }
}

/// # Safety
///
/// As C calls it: `buf` is a valid buffer with the operations of [`PINNED`], and is not used again.
unsafe extern "C" fn unpin(_pipe: *mut bindings::pipe_inode_info, buf: *mut bindings::pipe_buffer) {
    // SAFETY: The buffer holds a pin by the caller's promise, which is given back.
    unsafe { bindings::unpin_folio(bindings::page_folio((*buf).page)) };
}

/// # Safety
///
/// As C calls it: `buf` is a valid buffer with the operations of [`PINNED`].
unsafe extern "C" fn get_pin(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: The buffer holds a pin by the caller's promise, so the folio can get another.
    unsafe {
        !bindings::user_range_refs_exhausted((*buf).page)
            && bindings::folio_add_pins(bindings::page_folio((*buf).page), 1) == 0
    }
}
