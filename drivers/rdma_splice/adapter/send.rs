// SPDX-License-Identifier: GPL-2.0

//! What goes out: requests, each of them the buffers that one call took out of a pipe.

use super::{Piece, REQUESTS};
use kernel::{
    device::{Bound, Device},
    dma::DataDirection,
    prelude::*,
    scatterlist::{Owned, SGTable},
    splice::PipeBuffers,
};

/// Buffers that are mapped for the device, and how far it is with them.
pub(super) struct Request {
    /// Keeps the buffers, and has them mapped.
    _table: Pin<KBox<SGTable<Owned<PipeBuffers>>>>,
    /// What the device has of them, each no larger than it can take.
    pieces: KVec<Piece>,
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
        let table = SGTable::map(dev, bufs, DataDirection::ToDevice, GFP_KERNEL)?;
        let mut copied = 0;
        let mut pieces = KVec::new();
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
            _table: table,
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

/// The requests that the device is not through with, oldest first.
pub(super) struct Queue {
    requests: KVec<Request>,
    /// How many requests there were; the last one's number.
    issued: u64,
    /// Up to which number the device is through.
    completed: u64,
}

impl Queue {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            requests: KVec::with_capacity(REQUESTS, GFP_KERNEL)?,
            issued: 0,
            completed: 0,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
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

    /// Adds a request, and says its number. There is room, as the caller knows.
    pub(super) fn push(&mut self, request: Request) -> Result<u64> {
        self.requests
            .push_within_capacity(request)
            .map_err(|_| EAGAIN)?;
        self.issued += 1;
        Ok(self.issued)
    }

    /// The next bytes to give to the device, no more than `max`.
    pub(super) fn next(&mut self, max: usize) -> Option<Piece> {
        self.requests
            .iter_mut()
            .find_map(|request| request.next(max))
    }

    /// The device is through with the next `bytes`. Where that was all of a request, it is to be
    /// dropped, with no lock held.
    pub(super) fn sent(&mut self, bytes: usize) -> Option<Request> {
        let first = self.requests.first_mut()?;
        first.done += bytes;
        if first.done < first.total {
            return None;
        }
        self.completed += 1;
        self.requests.remove(0).ok()
    }

    /// Gives up all requests.
    pub(super) fn take(&mut self) -> KVec<Request> {
        core::mem::take(&mut self.requests)
    }
}
