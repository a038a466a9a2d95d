// SPDX-License-Identifier: GPL-2.0

//! RDMA: connections whose adapters read and write memory without the CPU.
//!
//! - [`Id`]: an id of the connection manager, which resolves addresses.
//! - [`Listener`]: accepts connections, each as an [`Incoming`] that becomes an [`Id`].
//! - [`Connection`]: an id with a queue pair. It ends all transfers when it is dropped.
//! - [`Request`]: a send or a receive, with the memory that it uses.
//! - [`Endpoint`]: the trait of a driver. The connection manager and the adapter report to it.
//!
//! # Ownership
//!
//! A [`Connection`] owns its id, protection domain, completion queue and queue pair, and releases
//! them in the only correct order. Posting a request moves its box to the connection. The
//! [`Endpoint`] gets the box back exactly once: when the request completes, or when the connection
//! is dropped. The memory of a request is mapped for the adapter in between, so it is neither freed
//! nor reused.
//!
//! # Callbacks
//!
//! The functions of an [`Endpoint`] run in the context of a work item and may sleep. They borrow
//! the endpoint, and do not own the connection: to drop a [`Connection`] or an [`Id`] in its own
//! callback would wait for that callback, forever. A driver drops it in a task or in a work item of
//! its own.
//!
//! When a device is removed, the endpoint gets [`Event::DeviceRemoved`], and the removal waits
//! until the driver has dropped the [`Connection`] or the [`Id`].
//!
//! C headers: [`include/rdma/rdma_cm.h`](srctree/include/rdma/rdma_cm.h),
//! [`include/rdma/ib_verbs.h`](srctree/include/rdma/ib_verbs.h)

mod addr;
mod connection;
mod id;
mod listener;
mod request;
mod uapi;
pub mod work;

pub use addr::SocketAddr;
pub use connection::{Connection, QueueSizes};
pub use id::{DeviceLimits, Endpoint, Event, Id, PRIVATE_BYTES};
pub use listener::{Acceptor, Incoming, Listener, Private};
pub use request::{
    Outcome, PostResult, ReceiveRequest, Receiving, Request, SendRequest, Sending, HEADER_BYTES,
};
