// SPDX-License-Identifier: GPL-2.0

//! The adapter between pipes and a DMA engine.
//!
//! The driver of a DMA engine implements [`Engine`]: start transfers, report completed ones, and
//! stop. The rest is here:
//!
//! - [`Channel`] implements the file operations of the device, with all waits.
//! - [`Work`] gives the engine the bytes to send and the pages to receive into.
//! - [`ChannelOwner`] is the driver's handle, which ends all transfers.
//! - [`Limits`] bound the memory that a channel holds.
//!
//! `drivers/rdma_splice/splice_edu.rs` is an example.
//!
//! # Locking
//!
//! From outermost to innermost: the mutex of a pipe; the mutex of
//! [`WhileBound`](crate::device::WhileBound), under which requests are queued one after the other;
//! the mutex of the channel's state. Buffers are dropped with neither of the last two held, because
//! a buffer can have a page of this driver, whose release takes both.

mod channel;
mod counters;
mod limits;
mod piece;
mod receive;
mod send;

pub use channel::{Channel, ChannelOwner, Engine, ShowCounters, Work};
pub use limits::Limits;
pub use piece::Piece;
