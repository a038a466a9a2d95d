// SPDX-License-Identifier: GPL-2.0

//! Operations of buffers that own a reference or a pin of user memory themselves. Buffers that
//! share a [`Loan`](crate::splice::loan::Loan) have other operations.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::{OpsTable, PipeBufferOps, Provenance};
use crate::{bindings, prelude::*};

/// Buffers that own a reference to the folio.
pub(super) struct Referenced;

#[vtable]
impl PipeBufferOps for Referenced {
    const PROVENANCE: Provenance = Provenance::UserMemory;
}

/// Buffers that own a pin of the folio.
pub(super) struct Pinned;

#[vtable]
impl PipeBufferOps for Pinned {
    const PROVENANCE: Provenance = Provenance::UserMemory;
}

/// The operations of [`Referenced`] buffers. C: `user_page_pipe_buf_ops`.
pub(super) static REFERENCED: OpsTable<Referenced> =
    // SAFETY: `generic_pipe_buf_release` gives back the page reference that a buffer owns, and
    // `get` takes another one.
    unsafe { OpsTable::with_references(bindings::generic_pipe_buf_release, get) };

/// The operations of [`Pinned`] buffers.
pub(super) static PINNED: OpsTable<Pinned> =
    // SAFETY: `unpin` gives back the pin that a buffer owns, and `get_pin` takes another one.
    unsafe { OpsTable::with_references(unpin, get_pin) };

/// Takes another reference to the folio. Returns `false` if there are too many.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`REFERENCED`]. C guarantees this.
unsafe extern "C" fn get(
    pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: The caller guarantees that the buffer is valid, so it holds its page.
    unsafe {
        !bindings::user_range_refs_exhausted((*buf).page)
            && bindings::generic_pipe_buf_get(pipe, buf)
    }
}

/// Gives back the pin that the buffer owns.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`PINNED`], and must not be used again. C
/// guarantees this.
unsafe extern "C" fn unpin(_pipe: *mut bindings::pipe_inode_info, buf: *mut bindings::pipe_buffer) {
    // SAFETY: The caller guarantees that the buffer is valid, so it owns a pin of the folio, which
    // is given back here.
    unsafe { bindings::unpin_folio(bindings::page_folio((*buf).page)) };
}

/// Takes another pin of the folio. Returns `false` if there are too many references.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`PINNED`]. C guarantees this.
unsafe extern "C" fn get_pin(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: The caller guarantees that the buffer is valid, so it owns a pin, and the folio can
    // get another one.
    unsafe {
        !bindings::user_range_refs_exhausted((*buf).page)
            && bindings::folio_add_pins(bindings::page_folio((*buf).page), 1) == 0
    }
}
