// SPDX-License-Identifier: GPL-2.0

//! What drivers share that feed what is in pipes to a DMA engine, and what comes from it to pipes.
//!
//! - A [`Channel`] has the file operations of a device, and does the waiting. It drives an
//! - [`Engine`], which is what a driver writes: start a transfer, and say when it was through. The
//!   engine finds in
//! - [`Work`] what to send, and where to put what it receives.
//!
//! # Locking
//!
//! From the outside in: a pipe; [`WhileBound`](kernel::splice::WhileBound), which also has one
//! request follow the other; the channel's state. Buffers are dropped with neither of the last two
//! held: a page may be one of this very driver, and comes back to it then.

#![forbid(unsafe_code)]

mod channel;
mod counters;
mod receive;
mod send;

pub(crate) use channel::{Channel, ChannelOf, Engine, Work};
pub(crate) use counters::CountersOf;

use kernel::dma::DmaAddress;

/// How many requests there can be that the device is not through with.
const REQUESTS: usize = 16;

/// How many buffers a request has at most.
const BUFFERS: usize = 256;

/// How many pages there are to receive into.
const PAGES: usize = 32;

/// How many of them wait for a reader at most.
const RECEIVED: usize = 16;

/// Bytes at an address that the device can use.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) addr: DmaAddress,
    pub(crate) len: usize,
}
