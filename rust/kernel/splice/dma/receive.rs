// SPDX-License-Identifier: GPL-2.0

//! The receiving side: pages that the device writes to, that go into a pipe, and that come back.
//!
//! A page is in one of these states. The pool counts the pages of all states, up to
//! [`Limits::pages`]:
//!
//! | state | owner | next |
//! | --- | --- | --- |
//! | free | the pool | posted, unless too many received buffers wait |
//! | posted | the device, by [`Posted::table`] | received, when the engine reports it |
//! | received | the list of buffers that wait for a reader | in a pipe |
//! | in a pipe | the buffers in pipes | free, or lost if something else still refers to the page |
//!
//! The lock of the channel's state protects all of this. Nothing here drops a buffer or a page with
//! that lock held: the release of a page takes it.

#![forbid(unsafe_code)]

use super::{limits::Limits, piece::Piece};
use crate::{
    device::{Bound, Device},
    page::PAGE_SIZE,
    pipe::PipeBuffer,
    prelude::*,
    scatterlist::{Owned, SGTable},
    splice::driver::{PageOwner, PagePool, ReceivePage},
};

type Page<T> = KBox<ReceivePage<T>>;

/// A page that is mapped for the device to write to.
struct Posted<T: PageOwner> {
    number: u64,
    table: Pin<KBox<SGTable<Owned<Page<T>>>>>,
}

/// The memory that a channel has to give up when its device goes.
pub(super) struct Taken<T: PageOwner> {
    _posted: KVec<Posted<T>>,
    _free: KVec<Page<T>>,
    _received: KVec<PipeBuffer>,
}

/// The pages of a channel, by state.
pub(super) struct Receive<T: PageOwner> {
    pool: PagePool<T>,
    posted: KVec<Posted<T>>,
    /// Received data that waits for a reader, oldest first.
    received: KVec<PipeBuffer>,
    /// The number of the page that was posted last.
    number: u64,
    limits: Limits,
    /// The reason why no page could be posted, for the next reader.
    failed: Option<Error>,
}

impl<T: PageOwner> Receive<T> {
    /// Allocates all lists with their final capacity, so that no later step has to allocate with
    /// the lock held. Returns [`ENOMEM`] if there is no memory.
    pub(super) fn new(limits: Limits) -> Result<Self> {
        Ok(Self {
            pool: PagePool::new(limits.pages)?,
            posted: KVec::with_capacity(limits.posted, GFP_KERNEL)?,
            received: KVec::with_capacity(limits.received, GFP_KERNEL)?,
            number: 0,
            limits,
            failed: None,
        })
    }

    /// Allocates the pages that are missing, for the `owner` of each. Returns [`ENOMEM`] only if
    /// there is no page at all: the device can also work with fewer pages.
    ///
    /// The caller holds the lock of the channel's state. May sleep.
    pub(super) fn add_pages(&mut self, owner: impl Fn() -> T) -> Result {
        while self.pool.lacks_pages() {
            match self.pool.add(owner(), GFP_KERNEL) {
                Err(err) if self.pool.is_empty() => return Err(err),
                Err(_) => break,
                Ok(()) => (),
            }
        }
        Ok(())
    }

    /// Adds a page to the free ones.
    pub(super) fn put_page(&mut self, page: Page<T>) {
        self.pool.put(page);
    }

    /// Counts one page less, which is lost.
    ///
    /// The caller allocates another one by [`Self::add_pages`].
    pub(super) fn lost_page(&mut self) {
        self.pool.lost();
    }

    /// Returns whether a reader gets data or an error without a wait.
    pub(super) fn is_ready(&self) -> bool {
        !self.received.is_empty() || self.has_failed()
    }

    /// Keeps an error for the next reader.
    pub(super) fn fail(&mut self, err: Error) {
        self.failed = Some(err);
    }

    /// Returns whether there is an error for the next reader.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Maps a free page for the device. Returns it, and how many bytes of it the device accesses in
    /// a copy. Returns `None` if the device has as many pages as it may have, if the readers are
    /// too far behind, if no page is free, or if the page cannot be mapped.
    pub(super) fn post(&mut self, dev: &Device<Bound>) -> Option<(Piece, usize)> {
        let posted = self.posted.len();
        if posted >= self.limits.posted || self.received.len() + posted >= self.limits.received {
            return None;
        }
        let page = self.pool.take()?;
        match self.map(dev, page) {
            Ok(posted) => Some(posted),
            Err((err, page)) => {
                self.put_page(page);
                self.fail(err);
                None
            }
        }
    }

    /// Returns the error of [`SGTable::map_mut`] with the page, or [`EIO`] if the device would see
    /// the page in several parts.
    fn map(
        &mut self,
        dev: &Device<Bound>,
        page: Page<T>,
    ) -> Result<(Piece, usize), (Error, Page<T>)> {
        let table = SGTable::map_mut(dev, page, GFP_KERNEL)?;
        let number = self.number + 1;
        // CAST: A length of at most PAGE_SIZE.
        let first = table.iter().next().map(|entry| {
            let (addr, len) = (entry.dma_address(), entry.dma_len() as usize);
            let copied = if entry.is_bounced(dev) { len } else { 0 };
            (Piece { addr, len, number }, copied)
        });
        match first {
            Some((piece, copied)) if piece.len == PAGE_SIZE => {
                // This does not fail: `post` has checked that the device may have another page.
                let _ = self.posted.push_within_capacity(Posted { number, table });
                self.number = number;
                // Pages can be mapped again, so an earlier error is no longer of interest.
                self.failed = None;
                Ok((piece, copied))
            }
            // A device gets one address for a page, so its mapping must be contiguous.
            _ => Err((EIO, SGTable::unmap(table))),
        }
    }

    /// Unmaps the page of `piece`, to which the device has written `bytes`, and keeps it for a
    /// reader.
    ///
    /// Unmapping makes the data visible to the CPU. The numbers of pages are never reused, so a
    /// piece that was reported before, or that belongs to a channel that was aborted, finds no page
    /// and does nothing.
    pub(super) fn received(&mut self, piece: Piece, bytes: usize) {
        let of_piece = |posted: &Posted<T>| posted.number == piece.number;
        let Some(index) = self.posted.iter().position(of_piece) else {
            return;
        };
        let Ok(posted) = self.posted.remove(index) else {
            return;
        };
        let page = SGTable::unmap(posted.table);
        // CAST: At most PAGE_SIZE.
        match ReceivePage::into_buffer(page, 0, bytes as u32) {
            // This does not fail: `post` maps no page unless there is room for the buffer.
            Ok(buf) => drop(self.received.push_within_capacity(buf)),
            Err(page) => {
                self.put_page(page);
                self.fail(EIO);
            }
        }
    }

    /// Takes the error for the next reader, so that it is returned once.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// Takes the oldest received buffer, or the first `max` bytes of it if it has more.
    ///
    /// Returns [`EFAULT`] if the buffer cannot be split. It stays in the list then.
    pub(super) fn pop(&mut self, max: usize) -> Result<Option<PipeBuffer>> {
        match self.received.first_mut() {
            None => Ok(None),
            Some(first) if first.len() > max => first.split_to(max).map(Some),
            Some(_) => Ok(self.received.remove(0).ok()),
        }
    }

    /// Takes out all pages that are not in pipes, for the caller to drop without the lock.
    ///
    /// The device has stopped: the mapped pages are unmapped when the result is dropped.
    pub(super) fn take(&mut self) -> Taken<T> {
        Taken {
            _posted: core::mem::take(&mut self.posted),
            _free: self.pool.take_all(),
            _received: core::mem::take(&mut self.received),
        }
    }
}
