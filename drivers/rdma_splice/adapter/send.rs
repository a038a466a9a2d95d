// SPDX-License-Identifier: GPL-2.0

//! The sending side: requests, each with the buffers that one call took out of a pipe.

use super::{Piece, REQUESTS};
use kernel::{
    device::{Bound, Device},
    prelude::*,
    scatterlist::{Owned, SGTable},
    splice::PipeBuffers,
};

/// Buffers that are mapped for the device, and the progress of their transfer.
pub(super) struct Request {
    /// The buffers and their mapping.
    table: Pin<KBox<SGTable<Owned<PipeBuffers>>>>,
    /// The DMA addresses of the buffers. No piece is longer than the device's maximum segment size.
    pieces: KVVec<Piece>,
    /// The number of bytes that the device accesses in a copy.
    copied: usize,
    total: usize,
    /// The next bytes to give to the device: the index of a piece, and an offset in it.
    next: (usize, usize),
    /// The number of bytes that the device has read.
    done: usize,
}

impl Request {
    /// Maps buffers for the device. On failure returns them with the error, which is one of
    /// [`SGTable::map`].
    pub(super) fn map(
        dev: &Device<Bound>,
        bufs: PipeBuffers,
    ) -> Result<Self, (Error, PipeBuffers)> {
        let total = bufs.bytes();
        let table = SGTable::map(dev, bufs, GFP_KERNEL)?;
        let mut copied = 0;
        let mut pieces = KVVec::new();
        for entry in table.iter() {
            // CAST: A device's maximum segment size is a u32.
            let len = entry.dma_len() as usize;
            if entry.is_bounced(dev) {
                copied += len;
            }
            let addr = entry.dma_address();
            if let Err(err) = pieces.push(Piece { addr, len }, GFP_KERNEL) {
                return Err((err.into(), SGTable::unmap(table)));
            }
        }
        Ok(Self {
            table,
            pieces,
            copied,
            total,
            next: (0, 0),
            done: 0,
        })
    }

    pub(super) fn copied(&self) -> usize {
        self.copied
    }

    /// Unmaps the buffers and returns them. The device was not given any of them.
    pub(super) fn unmap(self) -> PipeBuffers {
        SGTable::unmap(self.table)
    }

    /// Returns the next bytes to give to the device, at most `max`; `None` if it was given all.
    fn next(&mut self, max: usize) -> Option<Piece> {
        let (index, offset) = self.next;
        let piece = self.pieces.get(index)?;
        let len = max.min(piece.len - offset);
        self.next = if offset + len == piece.len {
            (index + 1, 0)
        } else {
            (index, offset + len)
        };
        // CAST: An offset in a piece, whose length fits in a u32.
        let addr = piece.addr + offset as u64;
        Some(Piece { addr, len })
    }
}

/// The requests that are not released yet.
pub(super) struct Queue {
    /// The requests that the device has not read completely, oldest first.
    pending: KVec<Request>,
    /// The requests that the device has read. They are dropped with no lock held.
    done: KVec<Request>,
    /// The number of requests ever queued, which is the number of the last one.
    issued: u64,
    /// The number up to which all requests are released.
    completed: u64,
}

impl Queue {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            pending: KVec::with_capacity(REQUESTS, GFP_KERNEL)?,
            done: KVec::with_capacity(REQUESTS, GFP_KERNEL)?,
            issued: 0,
            completed: 0,
        })
    }

    /// The number of requests that are not released yet, including one that is being dropped.
    pub(super) fn len(&self) -> usize {
        // CAST: At most REQUESTS.
        (self.issued - self.completed) as usize
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= REQUESTS
    }

    pub(super) fn issued(&self) -> u64 {
        self.issued
    }

    pub(super) fn completed(&self) -> u64 {
        self.completed
    }

    /// Adds a request and returns its number, or `Err(request)` if there is no room.
    pub(super) fn push(&mut self, request: Request) -> Result<u64, Request> {
        if self.is_full() {
            return Err(request);
        }
        self.pending
            .push_within_capacity(request)
            .map_err(|full| full.0)?;
        self.issued += 1;
        Ok(self.issued)
    }

    /// Returns the next bytes to give to the device, at most `max`; `None` if it was given all.
    pub(super) fn next(&mut self, max: usize) -> Option<Piece> {
        self.pending
            .iter_mut()
            .find_map(|request| request.next(max))
    }

    /// Records that the device has read the next `bytes`.
    pub(super) fn sent(&mut self, mut bytes: usize) {
        while let Some(first) = self.pending.first_mut() {
            let of_it = bytes.min(first.total - first.done);
            first.done += of_it;
            bytes -= of_it;
            if first.done < first.total {
                break;
            }
            if let Ok(request) = self.pending.remove(0) {
                // This cannot fail: `pending` and `done` together have at most REQUESTS requests,
                // and each has capacity for as many.
                let _ = self.done.push_within_capacity(request);
            }
        }
    }

    /// Takes the oldest request that the device has read. The caller drops it, then calls
    /// [`Self::retire`].
    pub(super) fn pop_done(&mut self) -> Option<Request> {
        self.done.remove(0).ok()
    }

    /// Records that the oldest request is released.
    pub(super) fn retire(&mut self) {
        self.completed += 1;
    }

    /// Whether there are requests that the device has not read completely.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes out all requests that the device has not read completely.
    pub(super) fn take(&mut self) -> KVec<Request> {
        core::mem::take(&mut self.pending)
    }
}
