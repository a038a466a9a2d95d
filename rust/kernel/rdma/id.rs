// SPDX-License-Identifier: GPL-2.0

//! Ids of the connection manager, and the driver that it reports to.

use super::{Outcome, ReceiveRequest, SendRequest, SocketAddr};
use crate::{
    alloc::KBox,
    bindings,
    error::{from_err_ptr, to_result},
    prelude::*,
    scatterlist::{AsSegments, AsSegmentsMut},
    str::CStr,
    sync::{Arc, ArcBorrow},
};
use core::{
    ptr::{self, NonNull},
    slice,
};

/// The number of bytes of private data that every kind of connection can carry.
pub const PRIVATE_BYTES: usize = 56;

/// The driver's end of a connection, which the connection manager and the adapter report to.
///
/// All functions run in a work item, and may sleep. The functions for requests do not run at the
/// same time as each other. None of them may drop the connection or its [`Id`], see the
/// [module](super).
pub trait Endpoint: Sized + Send + Sync + 'static {
    /// The memory that a send transmits.
    type Send: AsSegments + Send + 'static;

    /// The memory that a receive writes to.
    type Receive: AsSegmentsMut + Send + 'static;

    /// Handles an event of the connection manager.
    fn event(this: ArcBorrow<'_, Self>, event: Event<'_>);

    /// Takes a send back that is complete. Its memory is no longer mapped.
    fn sent(this: ArcBorrow<'_, Self>, request: KBox<SendRequest<Self::Send>>, outcome: Outcome);

    /// Takes a receive back that is complete. Its memory is no longer mapped.
    fn received(
        this: ArcBorrow<'_, Self>,
        request: KBox<ReceiveRequest<Self::Receive>>,
        outcome: Outcome,
    );
}

/// An event of the connection manager.
#[derive(Debug)]
pub enum Event<'a> {
    /// [`Id::resolve_addr`] succeeded.
    AddressResolved,
    /// [`Id::resolve_route`] succeeded.
    RouteResolved,
    /// The connection is established. The private data that the peer accepted with; empty on the
    /// side that accepts.
    Established(&'a [u8]),
    /// The peer, or its machine, rejected the connection. The private data of the rejection.
    Rejected(&'a [u8]),
    /// An attempt to resolve or to connect failed with the error.
    Failed(Error),
    /// The connection ended.
    Disconnected,
    /// The device is being removed, and the removal waits until the driver has dropped the
    /// connection.
    DeviceRemoved,
    /// Another event, which needs no action.
    Other,
}

/// Returns the private data of an event.
///
/// # Safety
///
/// `event` must be valid for `'a`, and must be an event that has private data.
pub(super) unsafe fn private_data<'a>(event: *const bindings::rdma_cm_event) -> &'a [u8] {
    // SAFETY: The caller guarantees that the event is valid and has these parameters.
    let param = unsafe { &(*event).param.conn };
    if param.private_data.is_null() {
        return &[];
    }
    // SAFETY: The connection manager guarantees that the private data has this length, and that it
    // is valid during the call of the handler.
    unsafe { slice::from_raw_parts(param.private_data.cast(), param.private_data_len.into()) }
}

impl<'a> Event<'a> {
    /// Converts an event of C.
    ///
    /// # Safety
    ///
    /// `event` must be valid for `'a`.
    unsafe fn from_raw(event: *const bindings::rdma_cm_event) -> Self {
        // SAFETY: The caller guarantees that the event is valid.
        let (kind, status) = unsafe { ((*event).event, (*event).status) };
        let error = if status < 0 {
            Error::from_errno(status)
        } else {
            ECONNREFUSED
        };
        match kind {
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_ADDR_RESOLVED => Self::AddressResolved,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_ROUTE_RESOLVED => Self::RouteResolved,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_ESTABLISHED => {
                // SAFETY: This event has private data, which is empty on the side that accepts.
                Self::Established(unsafe { private_data(event) })
            }
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_REJECTED => {
                // SAFETY: This event has private data.
                Self::Rejected(unsafe { private_data(event) })
            }
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_ADDR_ERROR
            | bindings::rdma_cm_event_type_RDMA_CM_EVENT_ROUTE_ERROR
            | bindings::rdma_cm_event_type_RDMA_CM_EVENT_CONNECT_ERROR => Self::Failed(error),
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_UNREACHABLE => Self::Failed(ETIMEDOUT),
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_DISCONNECTED => Self::Disconnected,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_DEVICE_REMOVAL => Self::DeviceRemoved,
            _ => Self::Other,
        }
    }
}

/// The limits of a device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceLimits {
    /// The number of entries of a send.
    pub send_entries: usize,
    /// The number of entries of a receive.
    pub receive_entries: usize,
    /// The number of requests in a queue, without the one that [`Connection`](super::Connection)
    /// needs itself.
    pub requests: usize,
}

/// An id of the connection manager, for a connection to or from a peer. C: `struct rdma_cm_id`.
///
/// Dropping the id waits for its callbacks, and may sleep.
///
/// # Invariants
///
/// `raw` is a valid id that this owns. Its handler is [`Self::handle`], and its context is the
/// pointer of `endpoint`.
pub struct Id<T: Endpoint> {
    raw: NonNull<bindings::rdma_cm_id>,
    endpoint: Arc<T>,
}

// SAFETY: Any task may use an id: the connection manager has locks of its own.
unsafe impl<T: Endpoint> Send for Id<T> {}
// SAFETY: The functions of the connection manager that `&self` methods call may run at the same
// time.
unsafe impl<T: Endpoint> Sync for Id<T> {}

impl<T: Endpoint> Id<T> {
    /// Creates an id in the network namespace of the current task. May sleep.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub fn new(endpoint: Arc<T>) -> Result<Self> {
        // SAFETY: The current task keeps its network namespace alive, and the id takes a reference
        // to it. The context is valid as long as the id exists, because both are in this object.
        let raw = from_err_ptr(unsafe {
            bindings::rdma_create_id(
                bindings::rdma_current_net(),
                Some(Self::handle),
                Arc::as_ptr(&endpoint).cast_mut().cast(),
            )
        })?;
        // INVARIANT: `raw` was created above with the handler and the context.
        // SAFETY: `rdma_create_id` returns no null pointer.
        let raw = unsafe { NonNull::new_unchecked(raw) };
        Ok(Self { raw, endpoint })
    }

    /// Takes over an id of an incoming request, and reports its events to `endpoint` from now on.
    ///
    /// # Safety
    ///
    /// `raw` must be a valid id that the caller owns and that has no queue pair.
    pub(super) unsafe fn adopt(raw: NonNull<bindings::rdma_cm_id>, endpoint: Arc<T>) -> Self {
        // SAFETY: The id is valid. Its handler does not run while the lock is held, so it sees the
        // old handler and context, or the new ones.
        unsafe {
            bindings::rdma_lock_handler(raw.as_ptr());
            (*raw.as_ptr()).context = Arc::as_ptr(&endpoint).cast_mut().cast();
            (*raw.as_ptr()).event_handler = Some(Self::handle);
            bindings::rdma_unlock_handler(raw.as_ptr());
        }
        // INVARIANT: The handler and the context were set above. The caller gives the id away.
        Self { raw, endpoint }
    }

    /// Passes an event to the endpoint. C: `rdma_cm_event_handler`.
    ///
    /// # Safety
    ///
    /// `id` must be the id of an [`Id<T>`], and `event` must be valid. The connection manager
    /// guarantees this: it calls the handler with the lock of the handler held, and does not call
    /// it after `rdma_destroy_id`.
    unsafe extern "C" fn handle(
        id: *mut bindings::rdma_cm_id,
        event: *mut bindings::rdma_cm_event,
    ) -> c_int {
        // SAFETY: By the type invariant the context is the pointer of an `Arc<T>`, which exists as
        // long as the id.
        let endpoint = unsafe { ArcBorrow::from_raw((*id).context.cast::<T>().cast_const()) };
        // SAFETY: The caller guarantees that the event is valid during this call.
        T::event(endpoint, unsafe { Event::from_raw(event) });
        // Another value would destroy the id, which its owner does.
        0
    }

    pub(super) fn as_raw(&self) -> *mut bindings::rdma_cm_id {
        self.raw.as_ptr()
    }

    pub(super) fn endpoint(&self) -> &Arc<T> {
        &self.endpoint
    }

    /// Starts to resolve the address `to` to a device and to the address of the link. `from` is the
    /// own address, if the caller chooses it. [`Event::AddressResolved`] or [`Event::Failed`]
    /// reports the result. May sleep.
    pub fn resolve_addr(
        &self,
        from: Option<SocketAddr>,
        to: SocketAddr,
        timeout_ms: u32,
    ) -> Result {
        let mut from = from.map(SocketAddr::to_raw);
        let mut to = to.to_raw();
        let from = from.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        // SAFETY: The id and the addresses are valid, and the function copies the addresses.
        to_result(unsafe {
            bindings::rdma_resolve_addr(
                self.as_raw(),
                from.cast(),
                ptr::from_mut(&mut to).cast(),
                // CAST: A long has at least 32 bits.
                timeout_ms as usize,
            )
        })
    }

    /// Starts to resolve the route to the address. [`Event::RouteResolved`] or [`Event::Failed`]
    /// reports the result. May sleep.
    pub fn resolve_route(&self, timeout_ms: u32) -> Result {
        // SAFETY: The id is valid.
        // CAST: A long has at least 32 bits.
        to_result(unsafe { bindings::rdma_resolve_route(self.as_raw(), timeout_ms as usize) })
    }

    /// Returns the device of the id. `None` before [`Event::AddressResolved`].
    pub(super) fn device(&self) -> Option<NonNull<bindings::ib_device>> {
        // SAFETY: The id is valid. The connection manager sets the device once, before it reports
        // the event or the request; a device that is set stays valid as long as the id exists.
        NonNull::new(unsafe { (&raw const (*self.as_raw()).device).read_volatile() })
    }

    /// Returns the limits of the device. `None` before [`Event::AddressResolved`].
    pub fn limits(&self) -> Option<DeviceLimits> {
        let device = self.device()?;
        // SAFETY: The device is valid as long as the id exists. Its attributes do not change.
        let attrs = unsafe { &(*device.as_ptr()).attrs };
        // CAST: The limits are small numbers. The drivers have them as unsigned or as signed
        // numbers.
        Some(DeviceLimits {
            send_entries: attrs.max_send_sge as usize,
            receive_entries: attrs.max_recv_sge as usize,
            requests: (attrs.max_qp_wr as usize)
                .min(attrs.max_cqe as usize / 2)
                .saturating_sub(1),
        })
    }

    /// Calls `f` with the name of the device, which is empty before [`Event::AddressResolved`].
    pub fn with_device_name<R>(&self, f: impl FnOnce(&CStr) -> R) -> R {
        let Some(device) = self.device() else {
            return f(c"");
        };
        // SAFETY: The device is valid as long as the id exists, and its name is a string that ends
        // with a zero.
        f(unsafe { CStr::from_char_ptr((&raw const (*device.as_ptr()).name).cast()) })
    }

    /// Returns whether the device is an iWARP device, so that the connection is a TCP connection.
    pub fn is_iwarp(&self) -> bool {
        // SAFETY: The id is valid, and so is its device, if it has one.
        unsafe { bindings::rdma_is_iwarp(self.as_raw()) }
    }

    /// Returns the own address, if it is known.
    pub fn local(&self) -> Option<SocketAddr> {
        // SAFETY: The id is valid. Its addresses do not change once they are known.
        SocketAddr::from_raw(unsafe { &(*self.as_raw()).route.addr.src_addr })
    }

    /// Returns the address of the peer, if it is known.
    pub fn peer(&self) -> Option<SocketAddr> {
        // SAFETY: The id is valid. Its addresses do not change once they are known.
        SocketAddr::from_raw(unsafe { &(*self.as_raw()).route.addr.dst_addr })
    }
}

impl<T: Endpoint> Drop for Id<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the id, which is not used again. The function
        // waits for the handler, so the endpoint can be dropped afterwards.
        unsafe { bindings::rdma_destroy_id(self.as_raw()) };
    }
}
