// SPDX-License-Identifier: GPL-2.0

//! The sending side: requests, each with the buffers that one call took out of a pipe.
//!
//! A request is *pending* until the device has read all of its bytes, then *done* until a task
//! takes it out to drop it, and then *dropping* until its buffers are released. It counts against
//! [`Limits::requests`](super::Limits::requests) in all three states, so a program cannot queue
//! faster than buffers are released.
//!
//! The number of a request is the order in which requests were queued. A wait for a number ends
//! only after the request was dropped: a caller with `O_SYNC`, or of `fsync(2)`, can rely on the
//! memory being free for use again.

#![forbid(unsafe_code)]

use super::piece::Piece;
use crate::{
    device::{Bound, Device},
    dma::DmaAddress,
    prelude::*,
    scatterlist::{Owned, SGTable},
    splice::driver::PipeBuffers,
};

/// A DMA address and a length in bytes.
struct Mapped {
    addr: DmaAddress,
    len: usize,
}

/// Buffers that are mapped for the device, and the progress of their transfer.
pub(super) struct Request {
    /// The buffers and their mapping.
    table: Pin<KBox<SGTable<Owned<PipeBuffers>>>>,
    /// The DMA addresses of the buffers. None is longer than the device's maximum segment size.
    mapped: KVVec<Mapped>,
    /// The number of bytes that the device accesses in a copy.
    copied: usize,
    total: usize,
    /// The next bytes to give to the device: an index in `mapped`, and an offset there.
    next: (usize, usize),
    /// The number of bytes that the device has read.
    done: usize,
    /// The number of the request, from 1 on.
    number: u64,
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
        let mut mapped = KVVec::new();
        for entry in table.iter() {
            // CAST: A device's maximum segment size is a u32.
            let len = entry.dma_len() as usize;
            if entry.is_bounced(dev) {
                copied += len;
            }
            let addr = entry.dma_address();
            if let Err(err) = mapped.push(Mapped { addr, len }, GFP_KERNEL) {
                return Err((err.into(), SGTable::unmap(table)));
            }
        }
        Ok(Self {
            table,
            mapped,
            copied,
            total,
            next: (0, 0),
            done: 0,
            number: 0,
        })
    }

    /// Returns the number of bytes that the device reads from a bounce buffer, for the counters.
    pub(super) fn copied(&self) -> usize {
        self.copied
    }

    /// Unmaps the buffers and returns them. The device was not given any of them.
    pub(super) fn unmap(self) -> PipeBuffers {
        SGTable::unmap(self.table)
    }

    /// Returns the next bytes to give to the device, at most `max`; `None` if it was given all.
    ///
    /// Lengths and addresses are in bytes. A piece never crosses an entry of the table, so it is
    /// contiguous for the device.
    fn next(&mut self, max: usize) -> Option<Piece> {
        let (index, offset) = self.next;
        let mapped = self.mapped.get(index)?;
        let len = max.min(mapped.len - offset);
        self.next = if offset + len == mapped.len {
            (index + 1, 0)
        } else {
            (index, offset + len)
        };
        // CAST: The length of a mapped entry fits in a u32, and so does an offset in it.
        let addr = mapped.addr + offset as u64;
        Some(Piece {
            addr,
            len,
            number: self.number,
        })
    }
}

/// The requests that are not released yet. The device can complete them in any order.
pub(super) struct Queue {
    /// The requests that the device has not read completely, oldest first.
    pending: KVec<Request>,
    /// The requests that the device has read. They are dropped with no lock held.
    done: KVec<Request>,
    /// The numbers of the requests that are being dropped, or were cut short.
    dropping: KVec<u64>,
    /// The number of requests ever queued, which is the number of the last one.
    issued: u64,
    limit: usize,
}

impl Queue {
    /// Creates a queue of at most `limit` requests.
    pub(super) fn new(limit: usize) -> Result<Self> {
        Ok(Self {
            pending: KVec::with_capacity(limit, GFP_KERNEL)?,
            done: KVec::with_capacity(limit, GFP_KERNEL)?,
            dropping: KVec::with_capacity(limit, GFP_KERNEL)?,
            issued: 0,
            limit,
        })
    }

    /// Returns the number of requests that are not released yet.
    pub(super) fn len(&self) -> usize {
        self.pending.len() + self.done.len() + self.dropping.len()
    }

    /// Returns whether there is no room for another request. Only [`Self::retire`] makes room.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// Returns the number of the last request, or 0.
    pub(super) fn issued(&self) -> u64 {
        self.issued
    }

    /// Returns the numbers of the requests that are not released yet.
    fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let queued = Iterator::chain(self.pending.iter(), self.done.iter());
        let numbers = queued.map(|request| request.number);
        Iterator::chain(numbers, self.dropping.iter().copied())
    }

    /// Returns whether the request `number` is released.
    pub(super) fn is_released(&self, number: u64) -> bool {
        self.numbers().all(|other| other != number)
    }

    /// Returns whether all requests up to `number` are released.
    pub(super) fn all_released(&self, number: u64) -> bool {
        self.numbers().all(|other| other > number)
    }

    /// Adds a request and returns its number, or `Err(request)` if there is no room.
    pub(super) fn push(&mut self, mut request: Request) -> Result<u64, Request> {
        if self.is_full() {
            return Err(request);
        }
        let number = self.issued + 1;
        request.number = number;
        self.pending
            .push_within_capacity(request)
            .map_err(|full| full.0)?;
        self.issued = number;
        Ok(number)
    }

    /// Returns the next bytes to give to the device, at most `max`; `None` if it was given all.
    pub(super) fn next(&mut self, max: usize) -> Option<Piece> {
        self.pending
            .iter_mut()
            .find_map(|request| request.next(max))
    }

    /// Records that the device has read `piece`.
    ///
    /// The device may read the pieces of several requests in any order, and the requests become
    /// done in that order. Does nothing if the request was taken out by [`Self::take`].
    pub(super) fn sent(&mut self, piece: Piece) {
        let of_piece = |request: &Request| request.number == piece.number;
        let Some(index) = self.pending.iter().position(of_piece) else {
            return;
        };
        let request = &mut self.pending[index];
        request.done += piece.len;
        if request.done < request.total {
            return;
        }
        if let Ok(request) = self.pending.remove(index) {
            // This does not fail: there are at most `limit` requests, and each vector has capacity
            // for as many.
            let _ = self.done.push_within_capacity(request);
        }
    }

    /// Takes a request that the device has read. The caller drops it, then calls [`Self::retire`]
    /// with its number.
    ///
    /// Dropping a request releases buffers, which may sleep and may take the lock that protects the
    /// queue.
    pub(super) fn pop_done(&mut self) -> Option<(u64, Request)> {
        let request = self.done.remove(0).ok()?;
        // This does not fail, see `Self::sent`.
        let _ = self.dropping.push_within_capacity(request.number);
        Some((request.number, request))
    }

    /// Records that the request `number` is released.
    pub(super) fn retire(&mut self, number: u64) {
        if let Some(index) = self.dropping.iter().position(|&other| other == number) {
            let _ = self.dropping.remove(index);
        }
    }

    /// Returns whether there are requests that the device has not read completely.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes out all requests that the device has not read completely. They never count as
    /// released.
    pub(super) fn take(&mut self) -> KVec<Request> {
        let pending = core::mem::take(&mut self.pending);
        for request in &pending {
            // This does not fail, see `Self::sent`.
            let _ = self.dropping.push_within_capacity(request.number);
        }
        pending
    }
}
