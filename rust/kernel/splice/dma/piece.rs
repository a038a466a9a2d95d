// SPDX-License-Identifier: GPL-2.0

//! Memory that an engine transfers.

#![forbid(unsafe_code)]

use crate::dma::DmaAddress;

/// Memory that an engine transfers: bytes of a request to send, or a page to receive into.
///
/// The engine gives it back to [`Work::sent`](super::Work::sent) or
/// [`Work::received`](super::Work::received) when the device is done. It
/// cannot be copied, so each transfer is reported at most once.
pub struct Piece {
    /// The DMA address for the device.
    pub addr: DmaAddress,
    /// The length in bytes.
    pub len: usize,
    /// The number of the request, or of the page, that the memory belongs to.
    pub(super) number: u64,
}
