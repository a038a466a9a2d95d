// SPDX-License-Identifier: GPL-2.0

//! Connections: an id with a queue pair, and the requests that are posted to it.

use super::{
    id::{Endpoint, Id},
    request::{
        Direction, Outcome, PostResult, ReceiveRequest, Receiving, Request, SendRequest, Sending,
    },
};
use crate::{
    alloc::{flags::GFP_KERNEL, KBox, KVec},
    bindings,
    error::{from_err_ptr, to_result},
    new_spinlock,
    prelude::*,
    scatterlist::AsSegments,
    sync::{
        atomic::{ordering::Relaxed, Atomic},
        SpinLock,
    },
};
use core::{
    mem,
    ptr::{self, NonNull},
};

/// The sizes of the queues of a connection.
#[derive(Clone, Copy, Debug)]
pub struct QueueSizes {
    /// The number of sends.
    pub sends: usize,
    /// The number of receives.
    pub receives: usize,
    /// The number of entries of a send, including the header.
    pub send_entries: usize,
    /// The number of entries of a receive, including the header.
    pub receive_entries: usize,
}

/// A protection domain.
///
/// # Invariants
///
/// The pointer is valid and owned.
struct ProtectionDomain(NonNull<bindings::ib_pd>);

impl Drop for ProtectionDomain {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the domain. The queue pair that used it is gone.
        unsafe { bindings::ib_dealloc_pd(self.0.as_ptr()) };
    }
}

/// A completion queue.
///
/// # Invariants
///
/// The pointer is valid and owned.
struct CompletionQueue(NonNull<bindings::ib_cq>);

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the queue. The queue pair that used it is gone.
        // The function waits for the work item that handles completions.
        unsafe { bindings::ib_free_cq(self.0.as_ptr()) };
    }
}

/// The requests of one direction that are posted.
///
/// # Invariants
///
/// Each pointer comes from the box of a request with the index as its slot. The table owns the box.
struct Table<D: Direction, M>(KVec<Option<NonNull<Request<D, M>>>>);

// SAFETY: The table owns the requests, which are `Send` if their memory is.
unsafe impl<D: Direction, M: Send> Send for Table<D, M> {}

impl<D: Direction, M> Table<D, M> {
    fn new(slots: usize) -> Result<Self> {
        let mut table = KVec::with_capacity(slots, GFP_KERNEL)?;
        for _ in 0..slots {
            table.push(None, GFP_KERNEL)?;
        }
        // INVARIANT: There are no pointers.
        Ok(Self(table))
    }

    /// Moves a request into the table. Returns it if its slot is taken, or if there is none.
    fn put(&mut self, request: KBox<Request<D, M>>) -> Result<(), KBox<Request<D, M>>> {
        match self.0.get_mut(request.slot) {
            Some(slot) if slot.is_none() => {
                // INVARIANT: The pointer comes from a box with this slot.
                *slot = NonNull::new(KBox::into_raw(request));
                Ok(())
            }
            _ => Err(request),
        }
    }

    /// Takes the request in `slot` out of the table.
    fn take(&mut self, slot: usize) -> Option<KBox<Request<D, M>>> {
        let ptr = self.0.get_mut(slot)?.take()?;
        // SAFETY: By the type invariant the pointer comes from a box, which the table owned.
        Some(unsafe { KBox::from_raw(ptr.as_ptr()) })
    }
}

/// The part of a connection that completions use. It outlives the completion queue.
#[pin_data(PinnedDrop)]
struct Posted<T: Endpoint> {
    endpoint: crate::sync::Arc<T>,
    /// The device, which is valid as long as the id of the connection.
    device: NonNull<bindings::ib_device>,
    #[pin]
    sends: SpinLock<Table<Sending, T::Send>>,
    #[pin]
    receives: SpinLock<Table<Receiving, T::Receive>>,
    /// The number of requests that were made, which is the next slot.
    sends_made: Atomic<usize>,
    receives_made: Atomic<usize>,
}

impl<T: Endpoint> Posted<T> {
    /// Gives a send that is complete back to the endpoint.
    fn give_sent(&self, mut request: KBox<SendRequest<T::Send>>, outcome: Outcome) {
        request.unmap(self.device);
        T::sent(self.endpoint.as_arc_borrow(), request, outcome);
    }

    /// Gives a receive that is complete back to the endpoint.
    fn give_received(&self, mut request: KBox<ReceiveRequest<T::Receive>>, outcome: Outcome) {
        request.unmap(self.device);
        T::received(self.endpoint.as_arc_borrow(), request, outcome);
    }

    /// Handles the completion of a send. C: `ib_cqe.done`.
    ///
    /// # Safety
    ///
    /// `cq` must be the completion queue of a [`Connection<T>`], and `wc` a completion of a send
    /// that was posted there. The adapter reports each request once.
    unsafe extern "C" fn sent(cq: *mut bindings::ib_cq, wc: *mut bindings::ib_wc) {
        // SAFETY: The context of the queue is a `Posted<T>`, which outlives the queue. The request
        // is posted, so it is in the table, and valid.
        let (this, wc, slot) = unsafe {
            let request = (*wc).__bindgen_anon_1.wr_cqe.cast::<SendRequest<T::Send>>();
            (
                &*(*cq).cq_context.cast::<Self>(),
                &*wc,
                (&raw const (*request).slot).read(),
            )
        };
        let request = this.sends.lock().take(slot);
        if let Some(request) = request {
            this.give_sent(request, Outcome::of::<Sending>(wc));
        }
    }

    /// Handles the completion of a receive. C: `ib_cqe.done`.
    ///
    /// # Safety
    ///
    /// `cq` must be the completion queue of a [`Connection<T>`], and `wc` a completion of a receive
    /// that was posted there. The adapter reports each request once.
    unsafe extern "C" fn received(cq: *mut bindings::ib_cq, wc: *mut bindings::ib_wc) {
        // SAFETY: The context of the queue is a `Posted<T>`, which outlives the queue. The request
        // is posted, so it is in the table, and valid.
        let (this, wc, slot) = unsafe {
            let request = (*wc)
                .__bindgen_anon_1
                .wr_cqe
                .cast::<ReceiveRequest<T::Receive>>();
            (
                &*(*cq).cq_context.cast::<Self>(),
                &*wc,
                (&raw const (*request).slot).read(),
            )
        };
        let request = this.receives.lock().take(slot);
        if let Some(request) = request {
            this.give_received(request, Outcome::of::<Receiving>(wc));
        }
    }
}

#[pinned_drop]
impl<T: Endpoint> PinnedDrop for Posted<T> {
    fn drop(self: Pin<&mut Self>) {
        // The queue pair and the completion queue are gone, so the adapter uses none of the
        // requests that are still in the tables.
        for slot in 0..self.sends_made.load(Relaxed) {
            let request = self.sends.lock().take(slot);
            if let Some(request) = request {
                self.give_sent(request, Outcome::Flushed);
            }
        }
        for slot in 0..self.receives_made.load(Relaxed) {
            let request = self.receives.lock().take(slot);
            if let Some(request) = request {
                self.give_received(request, Outcome::Flushed);
            }
        }
    }
}

/// A connection: an id with a protection domain, a completion queue and a queue pair.
///
/// Requests are made by [`Self::send_request`] and [`Self::receive_request`], and posted by
/// [`Self::post_send`] and [`Self::post_receive`]. The [`Endpoint`] gets each posted request back
/// once.
///
/// Dropping this may sleep. It lets the adapter finish or flush all requests, then disconnects, and
/// then releases everything. When it returns, the endpoint has got all requests back, and no
/// callback runs any more. It waits for the callbacks, so it must not be dropped in one.
///
/// # Invariants
///
/// The id has a queue pair with `_cq` for both directions. The context of `_cq` is `posted`.
// The order of the fields is that of their drops. `Drop` destroys the queue pair before.
pub struct Connection<T: Endpoint> {
    _cq: CompletionQueue,
    posted: Pin<KBox<Posted<T>>>,
    pd: ProtectionDomain,
    id: Id<T>,
    sizes: QueueSizes,
}

// SAFETY: Any task may use and drop the parts of a connection.
unsafe impl<T: Endpoint> Send for Connection<T> {}
// SAFETY: Posting requests and the functions of the connection manager may run at the same time as
// each other.
unsafe impl<T: Endpoint> Sync for Connection<T> {}

impl<T: Endpoint> Connection<T> {
    /// Adds a queue pair to an id whose route is resolved, or that comes from an incoming request.
    /// May sleep.
    ///
    /// Receives can be posted before the connection is established, and must be, if the peer is to
    /// send first.
    ///
    /// # Errors
    ///
    /// The id is dropped if this fails.
    ///
    /// - [`ENODEV`]: the id has no device yet.
    /// - [`ENOMEM`]: there is no memory.
    /// - [`EINVAL`]: the device does not support the sizes, see [`Id::limits`].
    pub fn new(id: Id<T>, sizes: QueueSizes) -> Result<Self> {
        let device = id.device().ok_or(ENODEV)?;
        let endpoint = id.endpoint().clone();
        let posted = KBox::pin_init(
            try_pin_init!(Posted {
                endpoint,
                device,
                sends <- new_spinlock!(Table::new(sizes.sends)?),
                receives <- new_spinlock!(Table::new(sizes.receives)?),
                sends_made: Atomic::new(0),
                receives_made: Atomic::new(0),
            }? Error),
            GFP_KERNEL,
        )?;
        // SAFETY: The device is valid as long as the id exists.
        let pd = from_err_ptr(unsafe { bindings::rdma_alloc_pd(device.as_ptr()) })?;
        // INVARIANT: The domain was just allocated.
        // SAFETY: The function returns no null pointer.
        let pd = ProtectionDomain(unsafe { NonNull::new_unchecked(pd) });
        // Each queue has room for the request that drains it.
        let (sends, receives) = (sizes.sends + 1, sizes.receives + 1);
        // SAFETY: The device is valid. The context outlives the queue, because the fields of
        // `Connection` are dropped in this order.
        let cq = from_err_ptr(unsafe {
            bindings::rdma_alloc_cq(
                device.as_ptr(),
                ptr::from_ref(&*posted).cast_mut().cast(),
                c_int::try_from(sends + receives)?,
            )
        })?;
        // INVARIANT: The queue was just allocated.
        // SAFETY: The function returns no null pointer.
        let cq = CompletionQueue(unsafe { NonNull::new_unchecked(cq) });

        let mut attr: bindings::ib_qp_init_attr = pin_init::zeroed();
        attr.event_handler = Some(queue_pair_event);
        attr.qp_context = id.as_raw().cast();
        attr.send_cq = cq.0.as_ptr();
        attr.recv_cq = cq.0.as_ptr();
        attr.qp_type = bindings::ib_qp_type_IB_QPT_RC;
        attr.sq_sig_type = bindings::ib_sig_type_IB_SIGNAL_ALL_WR;
        attr.cap.max_send_wr = u32::try_from(sends)?;
        attr.cap.max_recv_wr = u32::try_from(receives)?;
        attr.cap.max_send_sge = u32::try_from(sizes.send_entries)?;
        attr.cap.max_recv_sge = u32::try_from(sizes.receive_entries)?;
        // SAFETY: All pointers are valid, and the queue pair is destroyed before the queue, the
        // domain and the id.
        to_result(unsafe { bindings::rdma_create_qp(id.as_raw(), pd.0.as_ptr(), &mut attr) })?;
        // INVARIANT: The queue pair was created above, with `_cq`, whose context is `posted`.
        Ok(Self {
            _cq: cq,
            posted,
            pd,
            id,
            sizes,
        })
    }

    /// Returns the id.
    #[inline]
    pub fn id(&self) -> &Id<T> {
        &self.id
    }

    /// Returns a value that identifies the connection, for the comparison with that of a request.
    fn owner(&self) -> usize {
        ptr::from_ref(&*self.posted).addr()
    }

    fn qp(&self) -> *mut bindings::ib_qp {
        // SAFETY: By the type invariant the id has a queue pair, which does not change.
        unsafe { (*self.id.as_raw()).qp }
    }

    fn lkey(&self) -> u32 {
        // SAFETY: The domain is valid.
        unsafe { (*self.pd.0.as_ptr()).local_dma_lkey }
    }

    /// Makes a request to send `memory`. May sleep.
    ///
    /// Returns [`ENOMEM`] if there is no memory, and [`ENOSPC`] if there were as many sends made as
    /// the queue has room for.
    pub fn send_request(&self, memory: T::Send) -> Result<KBox<SendRequest<T::Send>>> {
        let slot = take_slot(&self.posted.sends_made, self.sizes.sends)?;
        Ok(Request::new(
            self.owner(),
            slot,
            self.sizes.send_entries,
            memory,
        )?)
    }

    /// Makes a request to receive into `memory`. Otherwise the same as [`Self::send_request`].
    pub fn receive_request(&self, memory: T::Receive) -> Result<KBox<ReceiveRequest<T::Receive>>> {
        let slot = take_slot(&self.posted.receives_made, self.sizes.receives)?;
        Ok(Request::new(
            self.owner(),
            slot,
            self.sizes.receive_entries,
            memory,
        )?)
    }

    /// Sends the header and the memory of a request. Does not sleep.
    ///
    /// # Errors
    ///
    /// Each error is returned together with the request.
    ///
    /// - [`EINVAL`]: the request is not from this connection, or the connection is not established.
    /// - [`EMSGSIZE`]: the memory is in more pieces than the request can have entries.
    /// - [`EIO`]: the memory cannot be mapped.
    /// - [`ENOMEM`]: the device has no room.
    pub fn post_send(&self, request: KBox<SendRequest<T::Send>>) -> PostResult<Sending, T::Send> {
        let done = Posted::<T>::sent;
        self.post(
            request,
            done,
            &self.posted.sends,
            |qp, cqe, sg_list, num_sge| {
                let mut wr: bindings::ib_send_wr = pin_init::zeroed();
                wr.__bindgen_anon_1.wr_cqe = cqe;
                wr.sg_list = sg_list;
                wr.num_sge = num_sge;
                wr.opcode = bindings::ib_wr_opcode_IB_WR_SEND;
                wr.send_flags = bindings::ib_send_flags_IB_SEND_SIGNALED as c_int;
                let mut bad = ptr::null();
                // SAFETY: `post` passes a valid queue pair, and a request that stays valid and
                // mapped until its completion.
                unsafe { bindings::ib_post_send(qp, &wr, &raw mut bad) }
            },
        )
    }

    /// Posts a request to receive a header and data into the memory. Does not sleep. The errors are
    /// those of [`Self::post_send`].
    pub fn post_receive(
        &self,
        request: KBox<ReceiveRequest<T::Receive>>,
    ) -> PostResult<Receiving, T::Receive> {
        let done = Posted::<T>::received;
        self.post(
            request,
            done,
            &self.posted.receives,
            |qp, cqe, sg_list, num_sge| {
                let mut wr: bindings::ib_recv_wr = pin_init::zeroed();
                wr.__bindgen_anon_1.wr_cqe = cqe;
                wr.sg_list = sg_list;
                wr.num_sge = num_sge;
                let mut bad = ptr::null();
                // SAFETY: `post` passes a valid queue pair, and a request that stays valid and
                // mapped until its completion.
                unsafe { bindings::ib_post_recv(qp, &wr, &raw mut bad) }
            },
        )
    }

    /// Maps a request, moves it to `table`, and posts it by `start`. `done` handles its completion.
    fn post<D: Direction, M: AsSegments>(
        &self,
        mut request: KBox<Request<D, M>>,
        done: unsafe extern "C" fn(*mut bindings::ib_cq, *mut bindings::ib_wc),
        table: &SpinLock<Table<D, M>>,
        start: impl FnOnce(
            *mut bindings::ib_qp,
            *mut bindings::ib_cqe,
            *mut bindings::ib_sge,
            c_int,
        ) -> c_int,
    ) -> PostResult<D, M> {
        if request.owner != self.owner() {
            return Err((EINVAL, request));
        }
        if let Err(err) = request.map(self.posted.device, self.lkey()) {
            return Err((err, request));
        }
        let (slot, cqe) = (request.slot, request.cqe.get());
        let (sg_list, num_sge) = request.sg_list();
        // SAFETY: The request is not posted, so nothing else accesses its completion entry.
        unsafe { (*cqe).done = Some(done) };
        if let Err(mut request) = table.lock().put(request) {
            request.unmap(self.posted.device);
            return Err((EINVAL, request));
        }
        // The table owns the request and its memory until the completion.
        let Err(err) = to_result(start(self.qp(), cqe, sg_list, num_sge)) else {
            return Ok(());
        };
        // The adapter has not taken the request, so there is no completion.
        let Some(mut request) = table.lock().take(slot) else {
            return Ok(());
        };
        request.unmap(self.posted.device);
        Err((err, request))
    }

    /// Returns the parameters of a connection with the private data.
    fn param(private: &[u8]) -> Result<bindings::rdma_conn_param> {
        let mut param: bindings::rdma_conn_param = pin_init::zeroed();
        param.private_data = private.as_ptr().cast();
        param.private_data_len = u8::try_from(private.len())?;
        // The adapter tries this often if the peer does not acknowledge; some take 7 for forever.
        param.retry_count = 6;
        // Forever: if the peer follows the protocol, it has posted a receive.
        param.rnr_retry_count = 7;
        Ok(param)
    }

    /// Connects to the peer. [`Event::Established`](super::Event::Established) and the other events
    /// report the result. May sleep.
    ///
    /// Call this in the task whose network namespace applies: some devices use that of the task.
    pub fn connect(&self, private: &[u8]) -> Result {
        let mut param = Self::param(private)?;
        // SAFETY: The id is valid, and the function copies the parameters.
        to_result(unsafe { bindings::rdma_connect(self.id.as_raw(), &mut param) })
    }

    /// Accepts the connection, for an id of an incoming request. May sleep. The peer is rejected if
    /// this fails.
    pub fn accept(&self, private: &[u8]) -> Result {
        let mut param = Self::param(private)?;
        // SAFETY: The id is valid, and the function copies the parameters. It must be called with
        // the lock of the handler held.
        to_result(unsafe {
            bindings::rdma_lock_handler(self.id.as_raw());
            let ret = bindings::rdma_accept(self.id.as_raw(), &mut param);
            bindings::rdma_unlock_handler(self.id.as_raw());
            ret
        })
    }
}

/// Takes the next slot of `slots`.
fn take_slot(made: &Atomic<usize>, slots: usize) -> Result<usize> {
    loop {
        let slot = made.load(Relaxed);
        if slot >= slots {
            return Err(ENOSPC);
        }
        if made.cmpxchg(slot, slot + 1, Relaxed).is_ok() {
            return Ok(slot);
        }
    }
}

impl<T: Endpoint> Drop for Connection<T> {
    fn drop(&mut self) {
        // The queues are drained before the connection ends. In the other order a device that ends
        // the connection at the same time can lose completions.
        // SAFETY: The queue pair is valid, and nothing posts requests any more, because this has
        // the only reference. Each queue has room for one more request. The queue pair is destroyed
        // after its last use.
        unsafe {
            bindings::ib_drain_qp(self.qp());
            // This fails if there is no connection.
            let _ = bindings::rdma_disconnect(self.id.as_raw());
            bindings::rdma_destroy_qp(self.id.as_raw());
        }
        // The fields are dropped next: the completion queue, the requests that did not complete,
        // the domain, and the id.
    }
}

/// Handles an event of a queue pair. A message that arrives first tells that the connection is
/// established. C: `ib_qp_init_attr.event_handler`.
///
/// # Safety
///
/// `event` must be valid, and `id` must be the id of the queue pair, which is valid until the queue
/// pair is destroyed.
unsafe extern "C" fn queue_pair_event(event: *mut bindings::ib_event, id: *mut c_void) {
    // SAFETY: The caller guarantees that both are valid.
    unsafe {
        if (*event).event == bindings::ib_event_type_IB_EVENT_COMM_EST {
            // This fails if the connection manager knows already.
            let _ = bindings::rdma_notify(id.cast(), (*event).event);
        }
    }
}

const _: () = assert!(mem::offset_of!(SendRequest<()>, cqe) == 0);
