// SPDX-License-Identifier: GPL-2.0

//! The events of `poll(2)`.
//!
//! UAPI header: [`include/uapi/asm-generic/poll.h`](srctree/include/uapi/asm-generic/poll.h)

use crate::{bindings, impl_flags};

impl_flags!(
    /// The events that a file is ready for. C: `__poll_t`.
    ///
    /// # Examples
    ///
    /// The `poll` of a device registers the caller first and looks at the state afterwards. In the
    /// other order it would miss a change between the two.
    ///
    /// ```
    /// use kernel::{
    ///     fs::File,
    ///     prelude::*,
    ///     sync::{
    ///         poll::{PollCondVar, PollEvent, PollEvents, PollTable},
    ///         Mutex, //
    ///     },
    /// };
    ///
    /// /// The bytes that a device has, and whether it was removed.
    /// struct State {
    ///     bytes: KVec<u8>,
    ///     gone: bool,
    /// }
    ///
    /// fn poll(
    ///     state: &Mutex<State>,
    ///     changed: &PollCondVar,
    ///     file: &File,
    ///     table: PollTable<'_>,
    /// ) -> PollEvents {
    ///     table.register_wait(file, changed);
    ///     let state = state.lock();
    ///     if state.gone {
    ///         return PollEvent::Error | PollEvent::HangUp;
    ///     }
    ///     let mut events = PollEvent::Out | PollEvent::OutNormal;
    ///     if !state.bytes.is_empty() {
    ///         events |= PollEvent::In | PollEvent::InNormal;
    ///     }
    ///     events
    /// }
    /// ```
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct PollEvents(u32);

    /// A single event of [`PollEvents`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum PollEvent {
        /// There is data.
        In = bindings::POLLIN,
        /// There is data of normal priority. Set it together with [`PollEvent::In`].
        InNormal = bindings::POLLRDNORM,
        /// There is urgent data.
        Priority = bindings::POLLPRI,
        /// There is room.
        Out = bindings::POLLOUT,
        /// There is room for data of normal priority. Set it together with [`PollEvent::Out`].
        OutNormal = bindings::POLLWRNORM,
        /// An error occurred.
        Error = bindings::POLLERR,
        /// The other side closed the connection.
        HangUp = bindings::POLLHUP,
        /// The other side has ended its data.
        ReadHangUp = bindings::POLLRDHUP,
    }
);

impl PollEvents {
    /// Returns the events of a `__poll_t`. Bits without a [`PollEvent`] are dropped.
    #[inline]
    pub const fn from_mask(mask: u32) -> Self {
        Self(mask & Self::all_bits())
    }
}
