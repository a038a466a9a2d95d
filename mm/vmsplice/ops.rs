// SPDX-License-Identifier: GPL-2.0

//! Pipe buffers whose pages are user memory.

#![forbid(unsafe_code)]

use kernel::{
    pipe::{BufferFlag, PipeBuffer, PipeBufferOps, Provenance, Stolen},
    prelude::*,
};

/// Pages that were mapped by user space when the buffer was made, and may still be.
pub(crate) struct UserPage;

#[vtable]
impl PipeBufferOps for UserPage {
    const PROVENANCE: Provenance = Provenance::UserMemory;

    /// Only what was given away, and is not mapped any more, can be taken.
    fn try_steal(buf: &PipeBuffer) -> Option<Stolen<'_>> {
        if !buf.flags().contains(BufferFlag::Gift) {
            return None;
        }
        Stolen::if_unique(buf, true)
    }
}
