// SPDX-License-Identifier: GPL-2.0

//! The kinds of pipe buffers that any part of the kernel may put into a pipe.

#![forbid(unsafe_code)]

use kernel::{
    pipe::{PipeBuffer, PipeBufferOps, Provenance, Stolen},
    prelude::*,
};

/// Pages allocated to be the target of a copy. C: `default_pipe_buf_ops`.
pub(crate) struct Default;

#[vtable]
impl PipeBufferOps for Default {
    const PROVENANCE: Provenance = Provenance::Private;

    fn try_steal(buf: &PipeBuffer) -> Option<Stolen<'_>> {
        Stolen::if_unique(buf, false)
    }
}

/// Pages of a socket buffer, or of another owner that has to keep them. C:
/// `nosteal_pipe_buf_ops`.
pub(crate) struct NoSteal;

#[vtable]
impl PipeBufferOps for NoSteal {
    const PROVENANCE: Provenance = Provenance::Socket;
}

/// Pages in the page cache of a file. C: `page_cache_pipe_buf_ops`.
pub(crate) struct PageCache;

#[vtable]
impl PipeBufferOps for PageCache {
    const PROVENANCE: Provenance = Provenance::PageCache;

    fn confirm(buf: &PipeBuffer) -> Result {
        let folio = buf.folio();
        if folio.is_uptodate() {
            return Ok(());
        }
        // It may be being read, and its lock is held until it was.
        let locked = folio.lock();
        if !locked.in_page_cache() {
            Err(ENODATA)
        } else if !folio.is_uptodate() {
            Err(EIO)
        } else {
            Ok(())
        }
    }

    fn try_steal(buf: &PipeBuffer) -> Option<Stolen<'_>> {
        let removed = buf.folio().lock().try_remove_from_page_cache().ok()?;
        Some(removed.into())
    }
}
