// SPDX-License-Identifier: GPL-2.0

//! The limits of a channel.

#![forbid(unsafe_code)]

/// The limits of a channel.
///
/// Together they bound the memory that a program can make a channel hold: `requests * buffers`
/// buffers of pipes, whose size is that of the memory behind them, and `pages` pages.
///
/// # Examples
///
/// ```
/// use kernel::splice::dma::Limits;
///
/// // A device with a ring of eight receive descriptors. A page is posted only if there is room for
/// // the buffer that it becomes, so `received` is larger than `posted`.
/// let limits = Limits { posted: 8, received: 32, ..Limits::default() };
/// assert!(limits.posted <= limits.received && limits.received <= limits.pages);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum number of requests that are queued and not yet released. A request has the
    /// buffers of one `splice(2)` call.
    pub requests: usize,
    /// The maximum number of buffers in a request.
    pub buffers: usize,
    /// The number of pages that the channel receives into, including those in pipes.
    pub pages: usize,
    /// The maximum number of pages that the device has at a time.
    pub posted: usize,
    /// The maximum number of received buffers that wait for a reader.
    pub received: usize,
}

impl Default for Limits {
    /// For a device that moves one page at a time.
    fn default() -> Self {
        Self {
            requests: 16,
            buffers: 256,
            pages: 32,
            posted: 1,
            received: 16,
        }
    }
}
