// SPDX-License-Identifier: GPL-2.0

//! The memory of a dma-buf, and what may be done with it: [`Shared`] and [`Private`].

use super::table::{IommuOnly, Table};
use crate::{
    device::{Bound, Device},
    prelude::*,
    scatterlist::{AsSegments, AsSegmentsMut, SGTable},
    sync::Arc,
};

/// Memory that has other users, and is for reading only: page cache, user memory, pages of a
/// socket.
///
/// Importers ask for a mapping in both directions and ignore the mode of the file descriptor.
/// Without an IOMMU no mapping keeps a device from writing. So a dma-buf of this memory
///
/// - is mapped only for a device behind an IOMMU that translates, and only for reading, whatever
///   the importer asks for; for other devices the mapping fails with [`EACCES`],
/// - can be mapped by user space for reading only, now and later,
/// - is mapped read-only for the kernel,
/// - refuses a begin of CPU access for writing with [`EACCES`].
///
/// # Examples
///
/// ```
/// use kernel::{dma_buf::Shared, prelude::*, splice::driver::WholePages, sync::Arc};
///
/// // Pages of a pipe can be exported for reading, whatever they are.
/// let pages = Arc::new(WholePages::new(), GFP_KERNEL)?;
/// let _memory = Shared::new(pages);
/// # Ok::<(), Error>(())
/// ```
pub struct Shared<M>(Arc<M>);

impl<M: AsSegments> Shared<M> {
    /// Declares that `memory` is for reading only.
    pub fn new(memory: Arc<M>) -> Self {
        Self(memory)
    }

    /// Returns the memory.
    pub fn into_inner(self) -> Arc<M> {
        self.0
    }
}

/// Memory that belongs to the dma-buf, so that devices and the CPU may write to it.
///
/// Others may still read it: the device file gives buffers of it to pipes. Such buffers are
/// [`Provenance::Lent`](crate::pipe::Provenance::Lent), which tells their readers that the contents
/// change.
///
/// Only memory that implements [`AsSegmentsMut`] can be private. Buffers of a pipe do not, so this
/// does not compile:
///
/// ```ignore,compile_fail
/// use kernel::{dma_buf::Private, prelude::*, splice::driver::WholePages, sync::Arc};
///
/// fn writable(pages: Arc<WholePages>) -> Private<WholePages> {
///     Private::new(pages)
/// }
/// ```
///
/// Pages of a pipe become private by
/// [`WholePages::into_private`](crate::splice::driver::WholePages::into_private), which asks each
/// buffer ([`PipeBuffer::is_private`](crate::pipe::PipeBuffer::is_private)).
pub struct Private<M>(Arc<M>);

impl<M: AsSegmentsMut> Private<M> {
    /// Declares that `memory` may be written to.
    pub fn new(memory: Arc<M>) -> Self {
        Self(memory)
    }

    /// Returns the memory.
    pub fn into_inner(self) -> Arc<M> {
        self.0
    }
}

/// The memory of a dma-buf: [`Shared`] or [`Private`]. No other type can implement this.
pub trait Memory: sealed::Sealed + Send + Sync + 'static {}

impl<T: sealed::Sealed + Send + Sync + 'static> Memory for T {}

pub(super) mod sealed {
    use super::*;

    /// The difference between the kinds of memory.
    pub trait Sealed: Sized {
        /// The owner of the memory.
        type Owner: AsSegments + Send + Sync + 'static;

        /// Whether devices and the CPU may write to the memory.
        const WRITABLE: bool;

        /// Returns another value for the same memory.
        fn share(&self) -> Self;

        /// Returns the owner.
        fn owner(&self) -> &Arc<Self::Owner>;

        /// Maps the memory for a device, in the one direction that the kind of memory allows.
        fn map(&self, dev: &Device<Bound>) -> Result<Table<Self::Owner>>;
    }

    impl<M: AsSegments + Send + Sync + 'static> Sealed for Shared<M> {
        type Owner = M;
        const WRITABLE: bool = false;

        fn share(&self) -> Self {
            Self(self.0.clone())
        }

        fn owner(&self) -> &Arc<M> {
            &self.0
        }

        fn map(&self, dev: &Device<Bound>) -> Result<Table<M>> {
            // There is no other call that maps shared memory: the check cannot be forgotten.
            let dev = IommuOnly::new(dev).ok_or(EACCES)?;
            SGTable::map_pages(dev.device(), self.0.clone(), GFP_KERNEL)
                .map_err(|(err, _memory)| err)
        }
    }

    impl<M: AsSegmentsMut + Send + Sync + 'static> Sealed for Private<M> {
        type Owner = M;
        const WRITABLE: bool = true;

        fn share(&self) -> Self {
            Self(self.0.clone())
        }

        fn owner(&self) -> &Arc<M> {
            &self.0
        }

        fn map(&self, dev: &Device<Bound>) -> Result<Table<M>> {
            SGTable::map_both_pages(dev, self.0.clone(), GFP_KERNEL).map_err(|(err, _memory)| err)
        }
    }
}
