// SPDX-License-Identifier: GPL-2.0

//! User memory in pipes: `vmsplice(2)`.
//!
//! The system call itself is in `mm/vmsplice`.
//!
//! - Buffers of user memory own a reference or a pin of the folio. [`PipeBuffer::from_user`] makes
//!   them.
//! - [`TrackedMemory`] owns the memory of several buffers if the end of its use is observed, by a
//!   notification or by a limit.
//! - [`Notifications`] tell user space when the kernel is done with the memory of a call.
//! - [`UserMemoryCharge`] counts pages against `fs.pipe-user-memory-pages`.
//!
//! [`PipeBuffer::from_user`]: crate::pipe::PipeBuffer::from_user

mod buffer;
mod charge;
mod notify;
#[cfg(CONFIG_NET)]
mod send;
mod tracked;

pub use charge::UserMemoryCharge;
pub use notify::{EventFd, Notifications, NotifiedCall};
#[cfg(CONFIG_NET)]
pub(crate) use send::Sending;
pub use tracked::{TrackedMemory, TrackedMemoryBuilder};
