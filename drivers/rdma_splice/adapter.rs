// SPDX-License-Identifier: GPL-2.0

//! The adapter between pipes and a DMA engine, which the drivers of such engines share.
//!
//! - [`Channel`] implements the file operations of a device, with all waits.
//! - [`Engine`] is the trait that a driver implements: start transfers, report completed ones, and
//!   stop.
//! - [`Work`] gives the engine the bytes to send and the pages to receive into.
//!
//! # Locking
//!
//! From outermost to innermost: the mutex of a pipe; the mutex of
//! [`WhileBound`](kernel::splice::WhileBound), under which requests are queued one after the other;
//! the mutex of the channel's state. Buffers are dropped with neither of the last two held, because
//! a buffer can have a page of this driver, whose release takes both.

#![forbid(unsafe_code)]

mod channel;
mod counters;
mod receive;
mod send;

pub(crate) use channel::{Channel, ChannelOf, Engine, Work};
pub(crate) use counters::CountersOf;

use kernel::dma::DmaAddress;

/// The maximum number of requests that are queued and not yet released.
const REQUESTS: usize = 16;

/// The maximum number of buffers in a request.
const BUFFERS: usize = 256;

/// The number of pages that a channel receives into.
const PAGES: usize = 32;

/// The maximum number of received buffers that wait for a reader.
const RECEIVED: usize = 16;

/// A DMA address of the device, and a length in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) addr: DmaAddress,
    pub(crate) len: usize,
}
