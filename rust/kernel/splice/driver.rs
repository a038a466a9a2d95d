// SPDX-License-Identifier: GPL-2.0

//! The interface for drivers whose devices are the source or the sink of a transfer.
//!
//! A driver implements [`SpliceDevice`]:
//!
//! - `splice_out` receives the buffers of a pipe as an iterator, [`FromPipe`]. A buffer that is
//!   taken belongs to the driver. The owner of a [`PipeBuffer`] keeps its memory alive, so a driver
//!   may keep buffers until its DMA engine is done with them, long after the call.
//! - `splice_in` puts buffers into a pipe, [`ToPipe`].
//!
//! For DMA, a driver takes [`PipeBuffers`] and makes an
//! [`SGTable`](crate::scatterlist::SGTable) of them. To receive, it fills [`ReceivePage`]s, which
//! return to the driver when their last reader is done. [`dma`](crate::splice::dma) does both for
//! drivers of DMA engines.
//!
//! A driver that gives whole pages to others, rather than to its own device, takes [`WholePages`].
//!
//! # Locking
//!
//! The pipe is locked when `splice_in` or `splice_out` is called, and all locks that the driver
//! takes nest inside the pipe's lock. A driver that waits for its device calls [`FromPipe::wait`]
//! or [`ToPipe::wait`], which unlock the pipe, so that others can use it meanwhile.
//!
//! Dropping a buffer may sleep, so a driver does not drop one under a spinlock.
//!
//! [`PipeBuffer`]: crate::pipe::PipeBuffer

mod device;
mod event_counter;
mod from_pipe;
mod page_pool;
mod pipe_buffers;
mod receive_page;
mod to_pipe;
mod wait;
mod whole_pages;

pub use device::{SpliceDevice, SpliceOperations};
pub use event_counter::EventCounter;
pub use from_pipe::FromPipe;
pub use page_pool::PagePool;
pub use pipe_buffers::PipeBuffers;
pub use receive_page::{PageOwner, ReceivePage};
pub use to_pipe::ToPipe;
pub use whole_pages::{Cursor, PrivatePages, Taken, WholePages};

/// The names that most drivers use.
pub mod prelude {
    pub use super::{
        FromPipe,
        PageOwner,
        PagePool,
        PipeBuffers,
        ReceivePage,
        SpliceDevice,
        SpliceOperations,
        ToPipe, //
    };
    pub use crate::{pipe::PipeBuffer, splice::debugfs_dir};
}
