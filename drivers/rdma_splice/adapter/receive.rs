// SPDX-License-Identifier: GPL-2.0

//! The receiving side: pages that the device writes to, that go into a pipe, and that come back.

use super::{Channel, Engine, Piece, PAGES, RECEIVED};
use kernel::{
    device::{Bound, Device},
    page::PAGE_SIZE,
    pipe::PipeBuffer,
    prelude::*,
    scatterlist::{Owned, SGTable},
    splice::{PageOwner, ReceivePage},
    sync::Arc,
};

pub(super) type Page<E> = KBox<ReceivePage<Owner<E>>>;

/// The owner of the pages: their channel.
pub(super) struct Owner<E: Engine>(Arc<Channel<E>>);

#[vtable]
impl<E: Engine> PageOwner for Owner<E> {
    fn release(page: Page<E>) {
        let channel = page.owner().0.clone();
        channel.page_back(page);
    }

    fn lost(self) {
        Channel::page_lost(self.0.as_arc_borrow());
    }
}

/// A page that is mapped for the device to write to.
type Posted<E> = Pin<KBox<SGTable<Owned<Page<E>>>>>;

/// The pages of a channel, by state. Pages that are in pipes are only counted.
pub(super) struct Receive<E: Engine> {
    free: KVec<Page<E>>,
    posted: Option<Posted<E>>,
    /// Received data that waits for a reader, oldest first.
    received: KVec<PipeBuffer>,
    /// The number of pages, including those in pipes.
    pages: usize,
    /// The reason why no page could be posted, for the next reader.
    failed: Option<Error>,
}

impl<E: Engine> Receive<E> {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            free: KVec::with_capacity(PAGES, GFP_KERNEL)?,
            posted: None,
            received: KVec::with_capacity(RECEIVED, GFP_KERNEL)?,
            pages: 0,
            failed: None,
        })
    }

    /// Whether there are fewer than [`PAGES`] pages.
    pub(super) fn lacks_pages(&self) -> bool {
        self.pages < PAGES
    }

    /// Whether there is any page.
    pub(super) fn has_pages(&self) -> bool {
        self.pages > 0
    }

    /// Allocates a page for `channel`. Returns [`ENOMEM`] if there is no memory.
    pub(super) fn add_page(&mut self, channel: Arc<Channel<E>>) -> Result {
        let page = ReceivePage::new(Owner(channel), GFP_KERNEL)?;
        self.pages += 1;
        self.put_page(page);
        Ok(())
    }

    /// Adds a page to the free ones.
    pub(super) fn put_page(&mut self, page: Page<E>) {
        // This cannot fail: the vector has capacity for all pages.
        let _ = self.free.push_within_capacity(page);
    }

    /// Counts one page less, which is lost.
    pub(super) fn lost_page(&mut self) {
        self.pages -= 1;
    }

    /// Whether a reader gets data or an error without a wait.
    pub(super) fn is_ready(&self) -> bool {
        !self.received.is_empty() || self.has_failed()
    }

    /// Keeps an error for the next reader.
    pub(super) fn fail(&mut self, err: Error) {
        self.failed = Some(err);
    }

    /// Whether there is an error for the next reader.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Maps a free page for the device. Returns its DMA address, and how many bytes of it the
    /// device accesses in a copy. `None` if the device has a page already, if [`RECEIVED`] buffers
    /// wait for a reader, if no page is free, or if the page cannot be mapped.
    pub(super) fn post(&mut self, dev: &Device<Bound>) -> Option<(Piece, usize)> {
        if self.posted.is_some() || self.received.len() >= RECEIVED {
            return None;
        }
        let page = self.free.pop()?;
        match self.map(dev, page) {
            Ok(posted) => Some(posted),
            Err((err, page)) => {
                self.put_page(page);
                self.fail(err);
                None
            }
        }
    }

    fn map(
        &mut self,
        dev: &Device<Bound>,
        page: Page<E>,
    ) -> Result<(Piece, usize), (Error, Page<E>)> {
        let table = SGTable::map_mut(dev, page, GFP_KERNEL)?;
        // CAST: A length of at most PAGE_SIZE.
        let first = table.iter().next().map(|entry| {
            let (addr, len) = (entry.dma_address(), entry.dma_len() as usize);
            let copied = if entry.is_bounced(dev) { len } else { 0 };
            (Piece { addr, len }, copied)
        });
        match first {
            Some((piece, copied)) if piece.len == PAGE_SIZE => {
                self.posted = Some(table);
                // Pages can be mapped again, so an earlier error is no longer of interest.
                self.failed = None;
                Ok((piece, copied))
            }
            // A device gets one address for a page, so its mapping must be contiguous.
            _ => Err((EIO, SGTable::unmap(table))),
        }
    }

    /// Unmaps the posted page, to which the device has written `bytes`, and keeps it for a reader.
    pub(super) fn received(&mut self, bytes: usize) {
        let Some(page) = self.posted.take().map(SGTable::unmap) else {
            return;
        };
        // CAST: At most PAGE_SIZE.
        match ReceivePage::into_buffer(page, 0, bytes as u32) {
            // This cannot fail: `post` maps no page unless there is room for the buffer.
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
    pub(super) fn pop(&mut self, max: usize) -> Result<Option<PipeBuffer>> {
        match self.received.first_mut() {
            None => Ok(None),
            Some(first) if first.len() > max => first.split_to(max).map(Some),
            Some(_) => Ok(self.received.remove(0).ok()),
        }
    }

    /// Takes out all pages that are not in pipes, for the caller to drop without the lock.
    pub(super) fn take(&mut self) -> (KVec<Page<E>>, Option<Posted<E>>, KVec<PipeBuffer>) {
        (
            core::mem::take(&mut self.free),
            self.posted.take(),
            core::mem::take(&mut self.received),
        )
    }
}
