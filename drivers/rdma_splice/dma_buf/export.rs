// SPDX-License-Identifier: GPL-2.0

//! The exporters: pages that have other users, and pages that have none.

use super::counters::COUNTERS;
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    dma_buf::{DmaBuf, Exporter, Memory, Private, Shared},
    mm::locked::LockedMemory,
    prelude::*,
    splice::driver::{PrivatePages, WholePages},
    sync::{aref::ARef, Arc, UniqueArc},
};

/// Gathered pages and the charge for their memory.
pub(crate) struct Set {
    pub(crate) pages: WholePages,
    pub(crate) charge: LockedMemory,
}

impl Set {
    /// Makes a dma-buf of the pages. It may be written to if all pages are private.
    ///
    /// Returns the set together with the error, unchanged.
    pub(crate) fn export(self) -> Result<ARef<DmaBuf>, (Error, Self)> {
        let Self { pages, charge } = self;
        let size = pages.size();
        let exported = match pages.into_private() {
            Ok(pages) => export(pages, charge, size, Private::new, Private::into_inner)
                .inspect(|_| COUNTERS.private.add(1))
                .map_err(|(err, pages, charge)| (err, PrivatePages::into_pages(pages), charge)),
            Err(pages) => export(pages, charge, size, Shared::new, Shared::into_inner)
                .inspect(|_| COUNTERS.shared.add(1)),
        };
        exported.map_err(|(err, pages, charge)| (err, Self { pages, charge }))
    }
}

/// The exporter of pages, by the rules of `M`.
struct Pages<M> {
    memory: M,
    charge: LockedMemory,
    _counted: Counted,
}

#[vtable]
impl<M: Memory> Exporter for Pages<M> {
    type Memory = M;

    const NAME: &'static CStr = c"dma_buf_splice";

    fn memory(&self) -> &M {
        &self.memory
    }
}

/// Makes a dma-buf of `pages` by the rules of `M`. `new` and `into_inner` are functions of `M`.
fn export<P: Default + Unpin, M: Memory>(
    pages: P,
    charge: LockedMemory,
    size: usize,
    new: fn(Arc<P>) -> M,
    into_inner: fn(M) -> Arc<P>,
) -> Result<ARef<DmaBuf>, (Error, P, LockedMemory)> {
    let room = match UniqueArc::new_uninit(GFP_KERNEL_ACCOUNT) {
        Ok(room) => room,
        Err(err) => return Err((err.into(), pages, charge)),
    };
    let exporter = Pages {
        memory: new(room.write(pages).into()),
        charge,
        _counted: Counted::new(size),
    };
    DmaBuf::export(exporter).map_err(|(err, Pages { memory, charge, .. })| {
        // No dma-buf was made, so there is no other reference.
        let pages = Arc::into_unique_or_drop(into_inner(memory))
            .map(|mut pages| core::mem::take(&mut *pages))
            .unwrap_or_default();
        (err, pages, charge)
    })
}

/// Counts a dma-buf as long as it exists.
struct Counted(usize);

impl Counted {
    fn new(bytes: usize) -> Self {
        COUNTERS.bufs.add(1);
        COUNTERS.held.add(bytes);
        Self(bytes)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COUNTERS.bufs.sub(1);
        COUNTERS.held.sub(self.0);
    }
}
