// SPDX-License-Identifier: GPL-2.0

//! Operations for the kinds of pipe buffers that any part of the kernel may put into a pipe.

#![forbid(unsafe_code)]

use kernel::{
    pipe::{PipeBuffer, PipeBufferOps, Provenance, Stolen},
    prelude::*,
};

/// Pages that the kernel allocated as the target of a copy. A page that only the buffer refers to
/// can be stolen. C: `default_pipe_buf_ops`.
pub(crate) struct Default;

#[vtable]
impl PipeBufferOps for Default {
    const PROVENANCE: Provenance = Provenance::Private;

    fn try_steal(buf: &PipeBuffer) -> Option<Stolen<'_>> {
        Stolen::if_unique(buf)
    }
}

/// Pages of a socket buffer, or of another owner that keeps using them, so that they must not be
/// stolen. C: `nosteal_pipe_buf_ops`.
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
        // No lock for the usual case. A folio that was read completely stays good, even if it was
        // truncated since: its data was in the file when the reference was taken.
        if folio.is_uptodate() {
            return Ok(());
        }
        // The file system may still be reading the folio, which is locked until that is complete.
        let locked = folio.lock();
        if !locked.in_page_cache() {
            // Truncated meanwhile: the transfer ends here, as at the end of the file.
            Err(ENODATA)
        } else if !folio.is_uptodate() {
            Err(EIO)
        } else {
            Ok(())
        }
    }

    fn try_steal(buf: &PipeBuffer) -> Option<Stolen<'_>> {
        // The new owner may write to the folio, so it must leave the page cache first: readers of
        // the file must not see these writes. This waits for writeback, because a truncation no
        // longer waits for it then, and the blocks could be reused before the data is written.
        let removed = buf.folio().lock().try_remove_from_page_cache().ok()?;
        Some(removed.into())
    }
}
