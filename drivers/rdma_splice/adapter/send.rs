// SPDX-License-Identifier: GPL-2.0

//! What goes out: requests, each of them the buffers that one call took out of a pipe.

use super::{Piece, REQUESTS};
use kernel::{
    device::{Bound, Device},
    prelude::*,
    scatterlist::{Owned, SGTable},
    splice::PipeBuffers,
};

/// Buffers that are mapped for the device, and how far it is with them.
pub(super) struct Request {
    /// Keeps the buffers, and has them mapped.
    table: Pin<KBox<SGTable<Owned<PipeBuffers>>>>,
    /// What the device has of them, each no larger than it can take.
    pieces: KVVec<Piece>,
    /// Bytes that a copy was made of.
    copied: usize,
    total: usize,
    /// The first piece that was not given out as a whole, and how many bytes of it were.
    next: (usize, usize),
    /// How many bytes the device is through with.
    done: usize,
}

impl Request {
    /// Maps buffers for the device; fails as [`SGTable::map`] does, and gives them back then.
    pub(super) fn map(
        dev: &Device<Bound>,
        bufs: PipeBuffers,
    ) -> Result<Self, (Error, PipeBuffers)> {
        let total = bufs.bytes();
        let table = SGTable::map(dev, bufs, GFP_KERNEL)?;
        let mut copied = 0;
        let mut pieces = KVVec::new();
        for entry in table.iter() {
            // CAST: No device has segments larger than a u32.
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

    /// Gives the buffers back, which the device has not got to see.
    pub(super) fn unmap(self) -> PipeBuffers {
        SGTable::unmap(self.table)
    }

    /// The next bytes to give to the device, no more than `max`.
    fn next(&mut self, max: usize) -> Option<Piece> {
        let (index, offset) = self.next;
        let piece = self.pieces.get(index)?;
        let len = max.min(piece.len - offset);
        self.next = if offset + len == piece.len {
            (index + 1, 0)
        } else {
            (index, offset + len)
        };
        // CAST: An offset in a piece.
        let addr = piece.addr + offset as u64;
        Some(Piece { addr, len })
    }
}

/// The requests that were not released yet.
pub(super) struct Queue {
    /// Those that the device is not through with, oldest first.
    pending: KVec<Request>,
    /// Those that it is through with: to be dropped with no lock held.
    done: KVec<Request>,
    /// How many requests there were; the last one's number.
    issued: u64,
    /// Up to which number all are released.
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

    /// How many were not released yet, those that are being dropped included.
    pub(super) fn len(&self) -> usize {
        // CAST: No more than there can be.
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

    /// Adds a request, and says its number. `Err(request)` where there is no room.
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

    /// The next bytes to give to the device, no more than `max`.
    pub(super) fn next(&mut self, max: usize) -> Option<Piece> {
        self.pending
            .iter_mut()
            .find_map(|request| request.next(max))
    }

    /// The device is through with the next `bytes`.
    pub(super) fn sent(&mut self, mut bytes: usize) {
        while let Some(first) = self.pending.first_mut() {
            let of_it = bytes.min(first.total - first.done);
            first.done += of_it;
            bytes -= of_it;
            if first.done < first.total {
                break;
            }
            if let Ok(request) = self.pending.remove(0) {
                // Both together have no more requests than one has capacity for.
                let _ = self.done.push_within_capacity(request);
            }
        }
    }

    /// A request that the device is through with; to be [retired](Self::retire) once it is dropped.
    pub(super) fn pop_done(&mut self) -> Option<Request> {
        self.done.remove(0).ok()
    }

    /// The oldest request is released.
    pub(super) fn retire(&mut self) {
        self.completed += 1;
    }

    /// Whether there are requests that the device is not through with.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Gives up all requests that the device is not through with.
    pub(super) fn take(&mut self) -> KVec<Request> {
        core::mem::take(&mut self.pending)
    }
}
