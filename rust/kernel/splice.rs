// SPDX-License-Identifier: GPL-2.0

//! Splice: data is moved through a pipe by moving references to pages.
//!
//! This module has the parts that transfers are built of. The transfers themselves are in
//! `fs/splice/` and `mm/vmsplice/`.
//!
//! - [`SpliceFlags`]: the flags of a transfer.
//! - [`wait_for_data`], [`wait_for_room`]: waiting for the other end of a pipe.
//! - [`wait_for_file`]: waiting for the file at the other end.
//! - [`pipe_to_actor`], [`Actor`]: the data of a pipe, one buffer at a time.
//! - [`Pieces`], [`FreshPages`]: buffers as I/O vectors, for files and sockets.
//! - [`policy`]: which consumers get references to pages that others can see.
//! - [`sinks`]: the list of audited consumers.
//! - [`check`]: whether the consumers that get references only read.
//! - [`Counter`]: statistics on data that was moved by reference and data that was copied.
//! - [`driver`]: the interface for drivers, and the pipe as a driver sees it.
//! - [`dma`]: the adapter for drivers of DMA engines.
//!
//! Functions of this module may sleep unless their documentation says otherwise.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h)

mod actor;
#[cfg(CONFIG_SPLICE_CHECK)]
pub mod check;
#[cfg(not(CONFIG_SPLICE_CHECK))]
#[path = "splice/no_check.rs"]
pub mod check;
mod counters;
#[cfg(CONFIG_RUST_SPLICE_DRIVERS)]
pub mod dma;
#[cfg(CONFIG_RUST_SPLICE_DRIVERS)]
pub mod driver;
mod flags;
mod fresh_pages;
mod function_set;
mod pieces;
pub mod policy;
mod poll;
pub mod sinks;
mod size;
mod wait;

pub use actor::{continue_to_actor, pipe_to_actor, Actor};
pub use counters::{debugfs_dir, Counter};
pub use flags::{SpliceFlag, SpliceFlags};
pub use fresh_pages::{FreshPages, PageArray};
pub use pieces::{BioVec, PieceSource, Pieces};
pub use poll::{is_ready, wait_for_file, Deadline, Tries, Waited};
pub use size::{from_size, to_size};
pub use wait::{
    broken_pipe,
    cond_resched,
    interrupted,
    room_in_bytes,
    wait_for_data,
    wait_for_room,
    Progress, //
};
