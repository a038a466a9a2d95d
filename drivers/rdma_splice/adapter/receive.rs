// SPDX-License-Identifier: GPL-2.0

//! What comes in: pages that the device writes to, then are in a pipe, and come back.

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

/// Whose pages they are.
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

/// A page that the device writes to.
type Posted<E> = Pin<KBox<SGTable<Owned<Page<E>>>>>;

/// Pages, by what they are doing. Those that are in pipes are not here.
pub(super) struct Receive<E: Engine> {
    free: KVec<Page<E>>,
    posted: Option<Posted<E>>,
    /// What waits for a reader, oldest first.
    received: KVec<PipeBuffer>,
    /// How many pages there are, those in pipes included.
    pages: usize,
    /// Why no page could be posted, for the next reader.
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

    /// Whether there are fewer pages than there can be.
    pub(super) fn lacks_pages(&self) -> bool {
        self.pages < PAGES
    }

    /// Whether there is any page.
    pub(super) fn has_pages(&self) -> bool {
        self.pages > 0
    }

    /// Adds a page of `channel`.
    pub(super) fn add_page(&mut self, channel: Arc<Channel<E>>) -> Result {
        let page = ReceivePage::new(Owner(channel), GFP_KERNEL)?;
        self.pages += 1;
        self.put_page(page);
        Ok(())
    }

    /// Keeps a page for later.
    pub(super) fn put_page(&mut self, page: Page<E>) {
        // There are no more pages than there is capacity for.
        let _ = self.free.push_within_capacity(page);
    }

    /// There is a page less.
    pub(super) fn lost_page(&mut self) {
        self.pages -= 1;
    }

    /// Whether a reader would not have to wait.
    pub(super) fn is_ready(&self) -> bool {
        !self.received.is_empty() || self.has_failed()
    }

    /// Has the next reader get an error.
    pub(super) fn fail(&mut self, err: Error) {
        self.failed = Some(err);
    }

    /// Whether there is an error to tell.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Gives a page to the device, and says where that finds it, and how much of it is a copy.
    /// `None` where it has one, where readers have to make room first, or where none can be mapped.
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
        // CAST: A page.
        let first = table.iter().next().map(|entry| {
            let (addr, len) = (entry.dma_address(), entry.dma_len() as usize);
            let copied = if entry.is_bounced(dev) { len } else { 0 };
            (Piece { addr, len }, copied)
        });
        match first {
            Some((piece, copied)) if piece.len == PAGE_SIZE => {
                self.posted = Some(table);
                // Whatever it was, it is over.
                self.failed = None;
                Ok((piece, copied))
            }
            // The device is to have a page in one piece.
            _ => Err((EIO, SGTable::unmap(table))),
        }
    }

    /// The device has written `bytes` to the page that it was given.
    pub(super) fn received(&mut self, bytes: usize) {
        let Some(page) = self.posted.take().map(SGTable::unmap) else {
            return;
        };
        // CAST: No more than a page.
        match ReceivePage::into_buffer(page, 0, bytes as u32) {
            // There is room: otherwise no page would have been given to the device.
            Ok(buf) => drop(self.received.push_within_capacity(buf)),
            Err(page) => {
                self.put_page(page);
                self.fail(EIO);
            }
        }
    }

    /// What to tell a reader, once.
    pub(super) fn take_failure(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// Takes the oldest of what was received, no more than `max` bytes.
    pub(super) fn pop(&mut self, max: usize) -> Result<Option<PipeBuffer>> {
        match self.received.first_mut() {
            None => Ok(None),
            Some(first) if first.len() > max => first.split_to(max).map(Some),
            Some(_) => Ok(self.received.remove(0).ok()),
        }
    }

    /// Gives up all pages that are not in pipes.
    pub(super) fn take(&mut self) -> (KVec<Page<E>>, Option<Posted<E>>, KVec<PipeBuffer>) {
        (
            core::mem::take(&mut self.free),
            self.posted.take(),
            core::mem::take(&mut self.received),
        )
    }
}
