// SPDX-License-Identifier: GPL-2.0

//! The events of `poll(2)`.
//!
//! UAPI header: [`include/uapi/asm-generic/poll.h`](srctree/include/uapi/asm-generic/poll.h)

use crate::{bindings, impl_flags};

impl_flags!(
    /// The events that a file is ready for. C: `__poll_t`.
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct PollEvents(u32);

    /// A single event of [`PollEvents`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum PollEvent {
        /// There is data.
        In = bindings::POLLIN,
        /// There is data of normal priority. Set it together with [`PollEvent::In`].
        InNormal = bindings::POLLRDNORM,
        /// There is room.
        Out = bindings::POLLOUT,
        /// There is room for data of normal priority. Set it together with [`PollEvent::Out`].
        OutNormal = bindings::POLLWRNORM,
        /// An error occurred.
        Error = bindings::POLLERR,
        /// The other side closed the connection.
        HangUp = bindings::POLLHUP,
    }
);
