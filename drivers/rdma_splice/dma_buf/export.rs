// SPDX-License-Identifier: GPL-2.0

//! The exporters: pages that have other users, and pages that have none. And the way back from the
//! device to a set that was exported.

use super::counters::COUNTERS;
use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    dma_buf::{DmaBuf, Exporter, Link, Memory, Private, Shared},
    mm::locked::LockedMemory,
    new_mutex,
    prelude::*,
    splice::driver::{Cursor, PrivatePages, ToPipe, WholePages},
    sync::{aref::ARef, Arc, Mutex, UniqueArc},
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
    pub(crate) fn export(self) -> Result<(ARef<DmaBuf>, Arc<ExportedSet>), (Error, Self)> {
        let exported = match ExportedSet::new() {
            Ok(exported) => exported,
            Err(err) => return Err((err, self)),
        };
        let Self { pages, charge } = self;
        let size = pages.size();
        let buf = match pages.into_private() {
            Ok(pages) => export(pages, charge, size, &exported, Kinds::PRIVATE)
                .inspect(|_| COUNTERS.private.add(1))
                .map_err(|(err, pages, charge)| (err, PrivatePages::into_pages(pages), charge)),
            Err(pages) => export(pages, charge, size, &exported, Kinds::SHARED)
                .inspect(|_| COUNTERS.shared.add(1)),
        };
        match buf {
            Ok(buf) => Ok((buf, exported)),
            Err((err, pages, charge)) => Err((err, Self { pages, charge })),
        }
    }
}

/// The functions that differ between the kinds of memory.
struct Kinds<P, M> {
    new: fn(Arc<P>) -> M,
    into_inner: fn(M) -> Arc<P>,
    held: fn(Arc<P>) -> Held,
}

impl Kinds<WholePages, Shared<WholePages>> {
    const SHARED: Self = Self {
        new: Shared::new,
        into_inner: Shared::into_inner,
        held: Held::Shared,
    };
}

impl Kinds<PrivatePages, Private<PrivatePages>> {
    const PRIVATE: Self = Self {
        new: Private::new,
        into_inner: Private::into_inner,
        held: Held::Private,
    };
}

/// The pages of a dma-buf.
enum Held {
    Shared(Arc<WholePages>),
    Private(Arc<PrivatePages>),
}

impl Held {
    fn pages(&self) -> &WholePages {
        match self {
            Self::Shared(pages) => pages,
            Self::Private(pages) => pages.pages(),
        }
    }
}

/// A set that was exported, for splicing from the device. It does not keep the dma-buf or its pages
/// alive.
///
/// # Locking
///
/// The mutex nests inside the locks of the pipe and of the file.
#[pin_data]
pub(crate) struct ExportedSet {
    /// The dma-buf.
    link: Arc<Link>,
    /// Its pages, as long as the dma-buf exists.
    #[pin]
    held: Mutex<Option<Held>>,
}

impl ExportedSet {
    fn new() -> Result<Arc<Self>> {
        let link = Arc::pin_init(Link::new(), GFP_KERNEL_ACCOUNT)?;
        Arc::pin_init(
            pin_init!(Self {
                link,
                held <- new_mutex!(None),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the dma-buf, or `None` if its last user is gone.
    pub(crate) fn buf(&self) -> Option<ARef<DmaBuf>> {
        self.link.get()
    }

    /// Returns the position of the first byte of data.
    pub(crate) fn start(&self) -> Cursor {
        let held = self.held.lock();
        held.as_ref()
            .map(|held| held.pages().start())
            .unwrap_or_default()
    }

    /// Puts data into a pipe by reference, and moves the cursor behind it. Returns [`ENODATA`] if
    /// the last user of the dma-buf is gone.
    pub(crate) fn give(&self, cursor: &mut Cursor, to: &mut ToPipe<'_>) -> Result {
        match &*self.held.lock() {
            Some(held) => held.pages().give(cursor, to),
            None => Err(ENODATA),
        }
    }
}

/// The exporter of pages, by the rules of `M`.
struct Pages<M> {
    memory: M,
    charge: LockedMemory,
    exported: Exported,
    _counted: Counted,
}

#[vtable]
impl<M: Memory> Exporter for Pages<M> {
    type Memory = M;

    const NAME: &'static CStr = c"dma_buf_splice";

    fn memory(&self) -> &M {
        &self.memory
    }

    fn link(&self) -> &Arc<Link> {
        &self.exported.0.link
    }
}

/// The exporter's share in a set. It takes the pages from the set when the dma-buf is released.
struct Exported(Arc<ExportedSet>);

impl Drop for Exported {
    fn drop(&mut self) {
        let held = self.0.held.lock().take();
        drop(held);
    }
}

/// Makes a dma-buf of `pages` by the rules of `M`.
fn export<P: Default + Unpin, M: Memory>(
    pages: P,
    charge: LockedMemory,
    size: usize,
    exported: &Arc<ExportedSet>,
    kinds: Kinds<P, M>,
) -> Result<ARef<DmaBuf>, (Error, P, LockedMemory)> {
    let room = match UniqueArc::new_uninit(GFP_KERNEL_ACCOUNT) {
        Ok(room) => room,
        Err(err) => return Err((err.into(), pages, charge)),
    };
    let pages: Arc<P> = room.write(pages).into();
    let exporter = Pages {
        memory: (kinds.new)(pages.clone()),
        charge,
        exported: Exported(exported.clone()),
        _counted: Counted::new(size),
    };
    match DmaBuf::export(exporter) {
        Ok(buf) => {
            *exported.held.lock() = Some((kinds.held)(pages));
            Ok(buf)
        }
        Err((err, Pages { memory, charge, .. })) => {
            drop(pages);
            // No dma-buf was made, so there is no other reference.
            let pages = Arc::into_unique_or_drop((kinds.into_inner)(memory))
                .map(|mut pages| core::mem::take(&mut *pages))
                .unwrap_or_default();
            Err((err, pages, charge))
        }
    }
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
