// SPDX-License-Identifier: GPL-2.0

//! Listeners, and the requests of peers that wait to be accepted.

use super::{
    id::{private_data, Endpoint, Id, PRIVATE_BYTES},
    SocketAddr,
};
use crate::{
    alloc::{flags::GFP_KERNEL, KBox, KVec},
    bindings,
    error::{from_err_ptr, to_result},
    new_mutex,
    prelude::*,
    sync::{Arc, ArcBorrow, Mutex},
};
use core::ptr::{self, NonNull};

/// The private data of a request or of an answer.
#[derive(Clone, Copy)]
pub struct Private {
    bytes: [u8; PRIVATE_BYTES],
    len: usize,
}

impl Private {
    /// Copies the first [`PRIVATE_BYTES`] bytes of `data`.
    pub fn new(data: &[u8]) -> Self {
        let mut bytes = [0; PRIVATE_BYTES];
        let len = data.len().min(PRIVATE_BYTES);
        bytes[..len].copy_from_slice(&data[..len]);
        Self { bytes, len }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The driver's side of a listener. The functions run in a work item and may sleep.
pub trait Acceptor: Send + Sync + 'static {
    /// Checks the private data of a request. `Err` rejects the request with the private data.
    fn check(this: ArcBorrow<'_, Self>, private: &[u8]) -> Result<(), Private>;

    /// Notes that a request waits, or that the listener does not listen any more.
    fn changed(this: ArcBorrow<'_, Self>);
}

/// A request that waits.
struct Entry {
    id: NonNull<bindings::rdma_cm_id>,
    private: Private,
    /// There is an [`Incoming`] for it.
    taken: bool,
    /// The peer has given up, or the device is being removed.
    dead: bool,
}

/// The state of a listener.
///
/// # Invariants
///
/// This owns `id` and the ids of all requests that are not taken. An id that is set to `None` or
/// taken out of `backlog` belongs to the one who did that.
struct State {
    id: Option<NonNull<bindings::rdma_cm_id>>,
    /// The oldest first.
    backlog: KVec<Entry>,
}

// SAFETY: Any task may use and destroy ids.
unsafe impl Send for State {}

/// The part of a listener that its handler uses.
#[pin_data]
struct Inner<A: Acceptor> {
    acceptor: Arc<A>,
    #[pin]
    state: Mutex<State>,
}

/// A listener for connections of peers.
///
/// Dropping it rejects the requests that wait, and may sleep.
///
/// # Invariants
///
/// The context of the id, and that of all requests that wait, is `0`.
pub struct Listener<A: Acceptor>(Pin<KBox<Inner<A>>>);

impl<A: Acceptor> Listener<A> {
    /// Listens at `addr`, in the network namespace of the current task. At most `backlog` requests
    /// wait; others are rejected. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EACCES`]: the port is below 1024 and the task does not have `CAP_NET_BIND_SERVICE`.
    /// - [`EADDRINUSE`]: the address is in use.
    /// - [`EADDRNOTAVAIL`], [`ENODEV`]: no device has the address.
    /// - [`ENOMEM`]: there is no memory.
    pub fn new(addr: SocketAddr, backlog: usize, acceptor: Arc<A>) -> Result<Self> {
        let state = State {
            id: None,
            backlog: KVec::with_capacity(backlog, GFP_KERNEL)?,
        };
        let inner = KBox::pin_init(
            pin_init!(Inner {
                acceptor,
                state <- new_mutex!(state),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: The current task keeps its network namespace alive, and the id takes a reference
        // to it. The context outlives the id, see `Drop`.
        let id = from_err_ptr(unsafe {
            bindings::rdma_create_id(
                bindings::rdma_current_net(),
                Some(Self::handle),
                ptr::from_ref(&*inner).cast_mut().cast(),
            )
        })?;
        // SAFETY: The function returns no null pointer.
        inner.state.lock().id = Some(unsafe { NonNull::new_unchecked(id) });
        // INVARIANT: The context of the id was set above, and requests get the same.
        let this = Self(inner);
        let mut addr = addr.to_raw();
        // SAFETY: The id is valid: only its handler may take it out of the state, which happens if
        // a device is removed, and that happens after the id was bound to the device by the first
        // call. The function copies the address.
        to_result(unsafe { bindings::rdma_bind_addr(id, ptr::from_mut(&mut addr).cast()) })?;
        let backlog = c_int::try_from(backlog)?;
        this.with_id(|id| {
            // SAFETY: The id is valid, and is not destroyed while the lock is held.
            to_result(unsafe { bindings::rdma_listen(id, backlog) })
        })?;
        Ok(this)
    }

    /// Calls `f` with the id, unless its device is gone. The lock of the state is held.
    fn with_id<R>(&self, f: impl FnOnce(*mut bindings::rdma_cm_id) -> Result<R>) -> Result<R> {
        let state = self.0.state.lock();
        f(state.id.ok_or(ENODEV)?.as_ptr())
    }

    /// Returns the address that the listener has.
    pub fn local(&self) -> Option<SocketAddr> {
        self.with_id(|id| {
            // SAFETY: The id is valid while the lock is held. Its address does not change.
            Ok(SocketAddr::from_raw(unsafe { &(*id).route.addr.src_addr }))
        })
        .ok()
        .flatten()
    }

    /// Returns whether the device of the listener is gone.
    pub fn is_gone(&self) -> bool {
        self.0.state.lock().id.is_none()
    }

    /// Returns whether a request waits.
    pub fn has_incoming(&self) -> bool {
        let state = self.0.state.lock();
        state.backlog.iter().any(|entry| !entry.taken)
    }

    /// Takes the oldest request that waits.
    pub fn take(&self) -> Option<Incoming<'_, A>> {
        let mut state = self.0.state.lock();
        let entry = state.backlog.iter_mut().find(|entry| !entry.taken)?;
        entry.taken = true;
        // INVARIANT: The request was not taken before.
        Some(Incoming {
            listener: &self.0,
            id: entry.id,
            private: entry.private,
        })
    }

    /// Handles the events of the listener, and those of requests that wait. C:
    /// `rdma_cm_event_handler`.
    ///
    /// # Safety
    ///
    /// `id` must be the id of a [`Listener<A>`] or of one of its requests, and `event` must be
    /// valid. The connection manager guarantees this: it calls the handler with the lock of the
    /// handler held, and does not call it after `rdma_destroy_id`.
    unsafe extern "C" fn handle(
        id: *mut bindings::rdma_cm_id,
        event: *mut bindings::rdma_cm_event,
    ) -> c_int {
        /// The connection manager destroys the id if the handler returns this.
        const DESTROY: c_int = -(bindings::ECONNABORTED as c_int);

        // SAFETY: By the type invariant of `Listener` the context is an `Inner<A>`, which outlives
        // the id.
        let (inner, kind) = unsafe { (&*(*id).context.cast::<Inner<A>>(), (*event).event) };
        let acceptor = inner.acceptor.as_arc_borrow();
        if kind == bindings::rdma_cm_event_type_RDMA_CM_EVENT_CONNECT_REQUEST {
            // SAFETY: This event has private data.
            let private = unsafe { private_data(event) };
            if let Err(answer) = A::check(acceptor, private) {
                let bytes = answer.bytes();
                // SAFETY: The id is valid, and the function copies the data.
                unsafe {
                    bindings::rdma_reject(
                        id,
                        bytes.as_ptr().cast(),
                        // CAST: The length is at most `PRIVATE_BYTES`.
                        bytes.len() as u8,
                        // CAST: The constant is small.
                        bindings::ib_cm_rej_reason_IB_CM_REJ_CONSUMER_DEFINED as u8,
                    )
                };
                return DESTROY;
            }
            let Some(new) = NonNull::new(id) else {
                return DESTROY;
            };
            let entry = Entry {
                id: new,
                private: Private::new(private),
                taken: false,
                dead: false,
            };
            let mut state = inner.state.lock();
            if state.id.is_none() || state.backlog.push_within_capacity(entry).is_err() {
                return DESTROY;
            }
            drop(state);
            A::changed(acceptor);
            return 0;
        }
        let ends = matches!(
            kind,
            bindings::rdma_cm_event_type_RDMA_CM_EVENT_DEVICE_REMOVAL
                | bindings::rdma_cm_event_type_RDMA_CM_EVENT_DISCONNECTED
                | bindings::rdma_cm_event_type_RDMA_CM_EVENT_REJECTED
                | bindings::rdma_cm_event_type_RDMA_CM_EVENT_UNREACHABLE
                | bindings::rdma_cm_event_type_RDMA_CM_EVENT_CONNECT_ERROR
        );
        if !ends {
            return 0;
        }
        let mut state = inner.state.lock();
        let own = state.id.is_some_and(|own| own.as_ptr() == id);
        if own {
            // INVARIANT: The connection manager destroys the id.
            state.id = None;
            drop(state);
            A::changed(acceptor);
            return DESTROY;
        }
        let place = state
            .backlog
            .iter()
            .position(|entry| entry.id.as_ptr() == id);
        match place {
            Some(place) if state.backlog[place].taken => {
                state.backlog[place].dead = true;
                0
            }
            Some(place) => {
                // INVARIANT: The connection manager destroys the id.
                let _ = state.backlog.remove(place);
                DESTROY
            }
            // The id is being destroyed by its owner.
            None => 0,
        }
    }
}

impl<A: Acceptor> Drop for Listener<A> {
    fn drop(&mut self) {
        let id = self.0.state.lock().id.take();
        if let Some(id) = id {
            // SAFETY: The id was taken out of the state, so this owns it. The lock is not held,
            // because the function waits for the handler.
            unsafe { bindings::rdma_destroy_id(id.as_ptr()) };
        }
        // There are no new requests now.
        loop {
            let entry = self.0.state.lock().backlog.pop();
            let Some(entry) = entry else { break };
            // SAFETY: The request was taken out of the backlog, and there is no `Incoming`, which
            // would borrow the listener. So this owns the id.
            unsafe { bindings::rdma_destroy_id(entry.id.as_ptr()) };
        }
    }
}

/// A request of a peer. Dropping it rejects the peer, and may sleep.
///
/// # Invariants
///
/// The request is in the backlog of the listener and is marked as taken. This owns its id.
pub struct Incoming<'a, A: Acceptor> {
    listener: &'a Inner<A>,
    id: NonNull<bindings::rdma_cm_id>,
    private: Private,
}

impl<A: Acceptor> Incoming<'_, A> {
    /// Returns the private data of the request.
    pub fn private(&self) -> &[u8] {
        self.private.bytes()
    }

    /// Turns the request into an id, whose events go to `endpoint`. May sleep.
    ///
    /// Returns [`ECONNABORTED`] if the peer has given up, or if the device is being removed.
    pub fn into_id<T: Endpoint>(self, endpoint: Arc<T>) -> Result<Id<T>> {
        let this = core::mem::ManuallyDrop::new(self);
        // SAFETY: By the type invariant this owns the id, which passes to the `Id`. `this` is not
        // dropped.
        let id = unsafe { Id::adopt(this.id, endpoint) };
        // The handler of the listener is not called for this id any more.
        if this.leave() {
            return Err(ECONNABORTED);
        }
        Ok(id)
    }

    /// Takes the request out of the backlog. Returns whether it is dead.
    fn leave(&self) -> bool {
        let mut state = self.listener.state.lock();
        let place = state.backlog.iter().position(|entry| entry.id == self.id);
        match place.map(|place| state.backlog.remove(place)) {
            Some(Ok(entry)) => entry.dead,
            _ => true,
        }
    }
}

impl<A: Acceptor> Drop for Incoming<'_, A> {
    fn drop(&mut self) {
        self.leave();
        // SAFETY: By the type invariant this owns the id, which is not used again. Its handler does
        // not find it in the backlog, and leaves it alone.
        unsafe { bindings::rdma_destroy_id(self.id.as_ptr()) };
    }
}
