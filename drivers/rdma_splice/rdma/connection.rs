// SPDX-License-Identifier: GPL-2.0

//! A connection: how it begins and ends, and the events that change its state.
//!
//! [`Connection::pump`] does all that the state permits: it posts receives again, and sends the
//! messages without data that are due. Whatever changes the state calls it afterwards.
//!
//! The side that connects takes the steps in [`Connection::advance`]: in the task that calls
//! CONNECT, or, if that does not wait, in a work item. The events of the connection manager start
//! the next step.
//!
//! A connection ends once, in [`Connection::finish`]: in the work item after an error or when both
//! directions have ended, or when the file is closed.
//!
//! # Locking
//!
//! From outermost to innermost: the mutex of a pipe; the mutex of the state; the mutex of the page
//! pool. The connection manager calls [`Connection::event`] with a lock of its own held. Its
//! functions that take this lock are called without the mutex of the state: to connect, to accept,
//! and to drop the connection. Buffers are dropped without the mutex of the state, because a buffer
//! can have a page of a connection.

use super::{
    counters::COUNTERS,
    pages::{Page, Pool},
    protocol::{Header, Offer, Protocol},
    state::{self, Message, Receive, Send, SetUp, Settings, Sizes, Step},
};
use kernel::{
    mm::locked::LockedMemory,
    new_mutex, new_poll_condvar,
    page::PAGE_SIZE,
    prelude::*,
    rdma::{
        self,
        work::{disable, disable_delayed},
        Acceptor, Endpoint, Event, Id, Incoming, Outcome, ReceiveRequest, SendRequest, SocketAddr,
    },
    splice::driver::PipeBuffers,
    sync::{poll::PollCondVar, Arc, ArcBorrow, CondVarTimeoutResult, Mutex},
    time::{msecs_to_jiffies, Instant, Monotonic},
    workqueue::{
        self, impl_has_delayed_work, impl_has_work, new_delayed_work, new_work, DelayedWork, Work,
        WorkItem,
    },
};

/// The time for one attempt to resolve an address. The first packet on a link can be lost, and then
/// the attempt takes all of its time.
const RESOLVE_MS: u32 = 200;

/// The time for which a closed connection waits for its last messages to be sent.
const LINGER_MS: u32 = 1000;

pub(crate) type Link = rdma::Connection<Connection>;
pub(crate) type State = state::State<Connection>;

/// A connection. The work items and the events of the connection manager share it with the file.
#[pin_data]
pub(crate) struct Connection {
    settings: Settings,
    /// The charge for the memory to receive into and for the data that is sent.
    _charge: LockedMemory,
    pub(super) pool: Pool,
    #[pin]
    pub(super) state: Mutex<State>,
    /// Notified when `state` changes in a way that a task may wait for.
    #[pin]
    pub(super) changed: PollCondVar,
    #[pin]
    work: Work<Self, 0>,
    #[pin]
    tick: DelayedWork<Self, 1>,
}

impl_has_work! {
    impl HasWork<Self, 0> for Connection { self.work }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, 1> for Connection { self.tick }
}

impl WorkItem<0> for Connection {
    type Pointer = Arc<Self>;

    /// Takes the next step of the set-up, or ends the connection.
    fn run(this: Arc<Self>) {
        if this.state.lock().ending {
            this.finish();
        } else if let Err(err) = this.advance() {
            // This starts the work item again.
            Self::fail(this.as_arc_borrow(), &mut this.state.lock(), Some(err));
        }
    }
}

impl WorkItem<1> for Connection {
    type Pointer = Arc<Self>;

    /// Watches over the peer.
    fn run(this: Arc<Self>) {
        let borrow = this.as_arc_borrow();
        let keepalive = i64::from(this.settings.keepalive_ms);
        let mut state = this.state.lock();
        if state.ending {
            return;
        }
        let silence = state.heard.elapsed().as_millis();
        let patience = if state.is_started() {
            keepalive
        } else {
            state.set_up_ms.into()
        };
        if silence >= patience {
            // Without sizes there is no device yet, because the address is not resolved.
            let resolved = state.sizes.is_some();
            let error = if resolved { ETIMEDOUT } else { EHOSTUNREACH };
            Self::fail(borrow, &mut state, Some(error));
        } else {
            if silence >= keepalive / 3 {
                if let Some(protocol) = state.protocol.as_mut() {
                    protocol.keep_alive();
                }
            }
            drop(state);
            // If pages were missing, this is the next attempt.
            this.top_up();
            state = this.state.lock();
            Self::pump(borrow, &mut state);
            this.arm_tick(&state);
        }
        drop(state);
        this.changed.notify_all();
    }
}

/// Returns the error of CONNECT for one of the resolution of an address.
fn address_error(err: Error) -> Error {
    match err {
        // The addresses were checked before. The connection manager passes on what it learnt of the
        // last device, which is this if that device has no address at all.
        EINVAL => ENODEV,
        // There was no memory for the neighbour.
        ENOBUFS => ENOMEM,
        err => err,
    }
}

impl Connection {
    /// Creates a connection that is not set up. Charges its memory to the user of the current task.
    ///
    /// Returns [`ENOMEM`] if there is no memory, or if `RLIMIT_MEMLOCK` does not permit it.
    fn create(settings: Settings) -> Result<Handle> {
        let charge = LockedMemory::charge(2 * settings.receive_bytes)?;
        let pool = Pool::new(settings.receive_bytes / PAGE_SIZE)?;
        let state = State::new();
        let this = Arc::pin_init(
            pin_init!(Self {
                settings,
                _charge: charge,
                pool,
                state <- new_mutex!(state),
                changed <- new_poll_condvar!(),
                work <- new_work!("rdma_splice work"),
                tick <- new_delayed_work!("rdma_splice tick"),
            }),
            GFP_KERNEL,
        )?;
        COUNTERS.connections.add(1);
        Ok(Handle(this))
    }

    fn arm_tick(self: &Arc<Self>, state: &State) {
        let interval = if state.is_started() {
            self.settings.keepalive_ms
        } else {
            self.settings.keepalive_ms.min(state.set_up_ms)
        };
        // Often enough to see a silent peer soon after the interval.
        let delay = msecs_to_jiffies((interval / 12).max(20));
        // This fails if the item is queued already, or if the connection is closed.
        let _ = workqueue::system_unbound().enqueue_delayed::<_, 1>(self.clone(), delay);
    }

    /// Waits until `ready` returns `true`, at most until `deadline`.
    ///
    /// Returns [`ETIMEDOUT`], or [`ERESTARTSYS`] if a signal arrives first.
    pub(super) fn wait(
        &self,
        deadline: Option<(Instant<Monotonic>, u32)>,
        mut ready: impl FnMut(&State) -> bool,
    ) -> Result {
        let mut state = self.state.lock();
        while !ready(&state) {
            let Some((start, ms)) = deadline else {
                if self.changed.wait_interruptible(&mut state) {
                    return Err(ERESTARTSYS);
                }
                continue;
            };
            let left = i64::from(ms) - start.elapsed().as_millis();
            if left <= 0 {
                return Err(ETIMEDOUT);
            }
            // CAST: At most `ms`.
            let left = msecs_to_jiffies(left as u32);
            if let CondVarTimeoutResult::Signal { .. } = self
                .changed
                .wait_interruptible_timeout(&mut state, left.max(1))
            {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
    }

    /// Connects to `peer`. With `wait`, returns when the connection is set up. Otherwise returns at
    /// once, and an error that is marked with * ends the connection later.
    ///
    /// # Errors
    ///
    /// - [`ETIMEDOUT`] *: there is no answer in time.
    /// - [`EHOSTUNREACH`] *: the address cannot be resolved in time.
    /// - [`ECONNREFUSED`] *: the peer rejected the connection.
    /// - [`EACCES`]: the own port is below 1024, and the task does not have `CAP_NET_BIND_SERVICE`.
    /// - [`ERESTARTSYS`]: a signal arrived first.
    /// - Those of [`Self::create`], and those of [`Self::advance`] *.
    pub(crate) fn connect(
        settings: Settings,
        peer: SocketAddr,
        local: Option<SocketAddr>,
        timeout_ms: u32,
        wait: bool,
    ) -> Result<Handle> {
        let handle = Self::create(settings)?;
        let this = &handle.0;
        let id = Id::new(this.clone())?;
        {
            let mut state = this.state.lock();
            state.heard = Instant::now();
            state.set_up_ms = timeout_ms;
            state.peer = Some(peer);
            state.step_result = Some(Ok(()));
            state.set_up = Some(SetUp {
                id,
                peer,
                local,
                step: Step::Begin,
            });
            this.arm_tick(&state);
        }
        // In this task, because the port may require a capability.
        this.advance()?;
        if !wait {
            let mut state = this.state.lock();
            state.in_background = true;
            if state.step_result.is_some() {
                Self::queue_work(this.as_arc_borrow());
            }
            drop(state);
            return Ok(handle);
        }
        loop {
            this.wait(None, |state| {
                state.step_result.is_some() || state.is_started() || state.ending
            })?;
            let state = this.state.lock();
            if state.ending {
                return Err(state.error.unwrap_or(ECONNRESET));
            }
            if state.is_started() {
                break;
            }
            drop(state);
            this.advance()?;
        }
        Ok(handle)
    }

    /// Starts the work item. This fails if the connection is closed, which ends it as well.
    fn queue_work(this: ArcBorrow<'_, Self>) {
        let _ = workqueue::system_unbound().enqueue::<_, 0>(Arc::from(this));
    }

    /// Begins the next step of the set-up if the last one is done: resolves the address, resolves
    /// the route, and connects. A resolution that timed out begins again, until the time for the
    /// whole set-up is over.
    ///
    /// Returns the error of a step, and those of [`Self::set_up`].
    fn advance(self: &Arc<Self>) -> Result {
        let (result, set_up) = {
            let mut state = self.state.lock();
            (state.step_result.take(), state.set_up.take())
        };
        let (Some(result), Some(mut set_up)) = (result, set_up) else {
            return Ok(());
        };
        set_up.step = match (set_up.step, result) {
            (step, Err(ETIMEDOUT)) => step,
            (Step::Address, Err(err)) => return Err(address_error(err)),
            (_, Err(err)) => return Err(err),
            (Step::Begin, Ok(())) => Step::Address,
            (Step::Address, Ok(())) => Step::Route,
            (Step::Route, Ok(())) => {
                let (link, offer) = self.set_up(set_up.id)?;
                link.connect(&offer.to_bytes()).map_err(without_socket)?;
                return self.attach(link);
            }
        };
        let begun = match set_up.step {
            Step::Route => set_up.id.resolve_route(RESOLVE_MS),
            _ => set_up
                .id
                .resolve_addr(set_up.local, set_up.peer, RESOLVE_MS)
                .map_err(address_error),
        };
        // The event may have arrived, but only this function takes the next step.
        self.state.lock().set_up = Some(set_up);
        begun
    }

    /// Notes the result of a step of the set-up, and lets the next one begin.
    fn step_done(this: ArcBorrow<'_, Self>, state: &mut State, result: Result) {
        state.step_result = Some(result);
        if state.in_background {
            Self::queue_work(this);
        }
    }

    /// Accepts the request of a peer.
    ///
    /// Returns [`ECONNABORTED`] if the peer has given up, and the errors of [`Self::create`] and
    /// [`Self::set_up`].
    pub(crate) fn accept(
        settings: Settings,
        incoming: Incoming<'_, impl Acceptor>,
    ) -> Result<Handle> {
        // The listener has checked it.
        let peer = Offer::parse(incoming.private()).ok_or(EPROTO)?;
        let handle = Self::create(settings)?;
        let this = &handle.0;
        let id = incoming.into_id(this.clone())?;
        let (link, offer) = this.set_up(id)?;
        let mut state = this.state.lock();
        state.heard = Instant::now();
        state.set_up_ms = settings.keepalive_ms;
        if let Some(protocol) = state.protocol.as_mut() {
            protocol.set_peer(peer);
        }
        drop(state);
        link.accept(&offer.to_bytes()).map_err(without_socket)?;
        this.attach(link)?;
        Ok(handle)
    }

    /// Makes the queue pair and the requests, and posts the receives.
    ///
    /// Returns [`ENOMEM`] if there is no memory, [`EINVAL`] if `receive_bytes` is too small, and
    /// the errors of [`Link::new`].
    fn set_up(self: &Arc<Self>, id: Id<Self>) -> Result<(Link, Offer)> {
        let sizes = Sizes::new(id.limits().ok_or(ENODEV)?, self.settings)?;
        let protocol = Protocol::new(sizes.own, sizes.window, sizes.send_segment)?;
        let mut device = [0; 64];
        id.with_device_name(|name| {
            // The last byte stays zero.
            for (to, from) in device[..63].iter_mut().zip(name.to_bytes()) {
                // CAST: The type of a character in C has a sign or not.
                *to = *from as c_char;
            }
        });
        let (local, peer, iwarp) = (id.local(), id.peer(), id.is_iwarp());
        let link = Link::new(id, sizes.queues).map_err(without_socket)?;
        {
            let mut state = self.state.lock();
            state.idle_sends.reserve(sizes.queues.sends, GFP_KERNEL)?;
            state
                .idle_receives
                .reserve(sizes.queues.receives, GFP_KERNEL)?;
            state.messages.reserve(sizes.queues.receives, GFP_KERNEL)?;
            state.protocol = Some(protocol);
            state.sizes = Some(sizes);
            (state.local, state.peer, state.device) = (local, peer, device);
            state.iwarp = iwarp;
        }
        for _ in 0..sizes.queues.sends {
            let memory = PipeBuffers::with_capacity(sizes.queues.send_entries - 1, GFP_KERNEL)?;
            let request = link.send_request(memory)?;
            self.state.lock().put_send(request);
        }
        for _ in 0..sizes.queues.receives {
            let pages = sizes.pages();
            let mut memory = KVec::with_capacity(pages, GFP_KERNEL)?;
            for _ in 0..pages {
                // There are enough, see `Sizes::new`.
                memory.push(self.pool.take().ok_or(ENOMEM)?, GFP_KERNEL)?;
            }
            let request = link.receive_request(memory)?;
            link.post_receive(request).map_err(|(err, _)| err)?;
        }
        Ok((link, sizes.own))
    }

    /// Keeps the link, so that it can be used. Events may have arrived before.
    fn attach(self: &Arc<Self>, link: Link) -> Result {
        let mut state = self.state.lock();
        if state.ending {
            let err = state.error.unwrap_or(ECONNRESET);
            drop(state);
            drop(link);
            return Err(err);
        }
        state.link = Some(link);
        Self::pump(self.as_arc_borrow(), &mut state);
        self.arm_tick(&state);
        Ok(())
    }

    /// Begins to end the connection. `error` is `None` if both directions have ended.
    fn fail(this: ArcBorrow<'_, Self>, state: &mut State, error: Option<Error>) {
        if state.ending {
            // The end of the connection can be reported before the completion of the message that
            // caused it.
            if !state.ended && error == Some(EPROTO) && state.error == Some(ECONNRESET) {
                state.error = error;
            }
            return;
        }
        state.ending = true;
        state.error = error;
        COUNTERS.failed.add(error.is_some().into());
        Self::queue_work(this);
    }

    /// Notes that the connection to the peer is gone.
    fn disconnected(this: ArcBorrow<'_, Self>, state: &mut State) {
        let normal = state.protocol.as_ref().is_some_and(Protocol::ends_normally);
        Self::fail(this, state, (!normal).then_some(ECONNRESET));
    }

    /// Notes that the queue pair does not work any more, and that no event has told why. A TCP
    /// connection was closed; otherwise the adapter has given up on the peer.
    fn broken(this: ArcBorrow<'_, Self>, state: &mut State) {
        if !state.is_started() {
            // The connection manager flushes the queues before it reports that the peer has
            // rejected the connection.
            return;
        }
        if state.iwarp {
            Self::disconnected(this, state);
        } else {
            Self::fail(this, state, Some(ETIMEDOUT));
        }
    }

    /// Ends the connection: waits until the adapter is done with all requests, and releases it.
    fn finish(&self) {
        let (link, set_up) = {
            let mut state = self.state.lock();
            state.ending = true;
            (state.link.take(), state.set_up.take())
        };
        // This calls `sent` and `received` for all requests.
        drop((link, set_up));
        let (sends, receives) = {
            let mut state = self.state.lock();
            (
                core::mem::take(&mut state.idle_sends),
                core::mem::take(&mut state.idle_receives),
            )
        };
        drop((sends, receives));
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Posts a send. On failure returns the request, and begins to end the connection unless the
    /// request was too long.
    fn post(
        this: ArcBorrow<'_, Self>,
        state: &mut State,
        mut request: Send,
        header: Header,
    ) -> Result<(), (Error, Send)> {
        *request.header_mut() = header.to_bytes();
        let Some(link) = state.link.as_ref() else {
            return Err((state.error.unwrap_or(EPIPE), request));
        };
        if let Err((err, request)) = link.post_send(request) {
            if err != EMSGSIZE {
                Self::broken(this, state);
            }
            return Err((err, request));
        }
        COUNTERS.sends_posted.add(1);
        if let Some(protocol) = state.protocol.as_mut() {
            protocol.posted(header);
        }
        Ok(())
    }

    /// Sends a message with the data of `request`, which the caller has reserved.
    ///
    /// Returns the request with the error if that fails.
    pub(super) fn send(
        this: ArcBorrow<'_, Self>,
        request: Send,
        bytes: usize,
    ) -> Result<(), (Error, Send)> {
        let mut state = this.state.lock();
        if state.ending {
            return Err((state.error.unwrap_or(EPIPE), request));
        }
        let Some(protocol) = state.protocol.as_ref() else {
            return Err((ENOTCONN, request));
        };
        // CAST: At most a segment.
        let header = protocol.data(bytes as u32);
        Self::post(this, &mut state, request, header)?;
        state.filling -= 1;
        state.sent += bytes as u64;
        COUNTERS.messages_out.add(1);
        Self::pump(this, &mut state);
        Ok(())
    }

    /// Does all that the state permits, see the module.
    pub(super) fn pump(this: ArcBorrow<'_, Self>, state: &mut State) {
        if state.ending || state.link.is_none() {
            return;
        }
        this.post_receives(state);
        let told = Self::send_control(this, state);
        if let Err(err) = told {
            Self::fail(this, state, Some(err));
            return;
        }
        let finished = state.protocol.as_ref().is_some_and(Protocol::is_finished);
        if finished && state.messages.is_empty() && state.is_quiet() {
            Self::fail(this, state, None);
        }
    }

    /// Posts the receives that are idle and have all of their pages.
    fn post_receives(&self, state: &mut State) {
        let Some(pages) = state.sizes.map(|sizes| sizes.pages()) else {
            return;
        };
        while let Some(mut idle) = state.idle_receives.pop() {
            while idle.request.memory().len() < pages {
                let Some(page) = self.pool.take() else { break };
                // The vector has room for all pages.
                let _ = idle.request.memory_mut().push_within_capacity(page);
            }
            let full = idle.request.memory().len() == pages;
            let posted = match state.link.as_ref() {
                Some(link) if full => link.post_receive(idle.request).map_err(|(_, back)| back),
                _ => Err(idle.request),
            };
            match posted {
                Ok(()) => {
                    if let (true, Some(protocol)) = (idle.taken, state.protocol.as_mut()) {
                        protocol.message_taken();
                    }
                }
                Err(request) => {
                    state.put_receive(request, idle.taken);
                    break;
                }
            }
        }
    }

    /// Sends the messages without data that are due.
    fn send_control(this: ArcBorrow<'_, Self>, state: &mut State) -> Result {
        loop {
            let fin = state.filling == 0;
            let Some(header) = state
                .protocol
                .as_ref()
                .and_then(|protocol| protocol.control(fin))
            else {
                return Ok(());
            };
            // If there is none, the completion of a send calls this again.
            let Some(request) = state.idle_sends.pop() else {
                return Ok(());
            };
            if let Err((err, request)) = Self::post(this, state, request, header) {
                state.put_send(request);
                return Err(err);
            }
            COUNTERS.control_out.add(1);
        }
    }

    /// Allocates the pages that idle receives lack, and posts the receives.
    pub(super) fn top_up(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            if state.ending || state.idle_receives.is_empty() {
                return;
            }
            Self::pump(self.as_arc_borrow(), &mut state);
            let lacking = !state.idle_receives.is_empty();
            drop(state);
            // If there is no memory, the next tick tries again.
            if !lacking || self.pool.add().is_err() {
                return;
            }
        }
    }

    /// Ends the own data.
    ///
    /// Returns the error of the connection, or [`ENOTCONN`] if it is not set up yet.
    pub(super) fn shut_down(this: ArcBorrow<'_, Self>) -> Result {
        let mut state = this.state.lock();
        let fin = state.protocol.as_ref().is_some_and(Protocol::fin_wanted);
        if fin {
            return Ok(());
        }
        if let Some(err) = state.send_error() {
            return Err(err);
        }
        if !state.is_started() {
            return Err(ENOTCONN);
        }
        if let Some(protocol) = state.protocol.as_mut() {
            protocol.end_data();
        }
        Self::pump(this, &mut state);
        drop(state);
        this.changed.notify_all();
        Ok(())
    }
}

impl Endpoint for Connection {
    type Send = PipeBuffers;
    type Receive = KVec<Page>;

    fn event(this: ArcBorrow<'_, Self>, event: Event<'_>) {
        let mut state = this.state.lock();
        match event {
            Event::AddressResolved | Event::RouteResolved => {
                Self::step_done(this, &mut state, Ok(()));
            }
            Event::Established(private) => {
                // The private data of the peer is known already if this side accepted.
                let known = state
                    .protocol
                    .as_ref()
                    .is_some_and(|protocol| protocol.send_limits().depth > 0);
                match (known, Offer::parse(private), state.protocol.as_mut()) {
                    (true, _, _) => {}
                    (false, Some(offer), Some(protocol)) => {
                        protocol.set_peer(offer);
                        protocol.start();
                    }
                    _ => Self::fail(this, &mut state, Some(EPROTO)),
                }
                state.heard = Instant::now();
                Self::pump(this, &mut state);
            }
            Event::Rejected(_) => Self::fail(this, &mut state, Some(ECONNREFUSED)),
            Event::Failed(err) if state.protocol.is_none() => {
                Self::step_done(this, &mut state, Err(err));
            }
            Event::Failed(err) => Self::fail(this, &mut state, Some(err)),
            Event::Disconnected => Self::disconnected(this, &mut state),
            Event::DeviceRemoved => Self::fail(this, &mut state, Some(ENODEV)),
            Event::Other => {}
        }
        drop(state);
        this.changed.notify_all();
    }

    fn sent(
        this: ArcBorrow<'_, Self>,
        mut request: KBox<SendRequest<PipeBuffers>>,
        outcome: Outcome,
    ) {
        COUNTERS.sends_posted.sub(1);
        // Not with the lock held: a buffer can have a page of this connection.
        request.memory_mut().clear();
        let mut state = this.state.lock();
        state.put_send(request);
        match outcome {
            Outcome::Done(_) => Self::pump(this, &mut state),
            Outcome::Flushed => Self::broken(this, &mut state),
            // TCP repeats what is lost, so a failure means that it has no connection any more.
            Outcome::Failed(_) if state.iwarp => Self::disconnected(this, &mut state),
            Outcome::Failed(err) => Self::fail(this, &mut state, Some(err)),
        }
        drop(state);
        this.changed.notify_all();
    }

    fn received(
        this: ArcBorrow<'_, Self>,
        request: KBox<ReceiveRequest<KVec<Page>>>,
        outcome: Outcome,
    ) {
        let mut state = this.state.lock();
        match outcome {
            Outcome::Done(bytes) => Self::accept_message(this, &mut state, request, bytes),
            Outcome::Flushed => {
                state.put_receive(request, false);
                Self::broken(this, &mut state);
            }
            Outcome::Failed(err) => {
                state.put_receive(request, false);
                Self::fail(this, &mut state, Some(err));
            }
        }
        drop(state);
        this.changed.notify_all();
    }
}

impl Connection {
    /// Handles a message.
    fn accept_message(
        this: ArcBorrow<'_, Self>,
        state: &mut State,
        request: Receive,
        bytes: usize,
    ) {
        state.heard = Instant::now();
        let data = match state.protocol.as_mut() {
            Some(protocol) => protocol.receive(request.header(), bytes),
            None => Err(EPROTO),
        };
        match data {
            Ok(0) => {
                COUNTERS.control_in.add(1);
                state.put_receive(request, false);
            }
            Ok(length) => {
                COUNTERS.messages_in.add(1);
                // This cannot fail: the vector has room for all receives.
                let _ = state.messages.push_within_capacity(Message {
                    request,
                    left: length as usize,
                    part: None,
                });
            }
            Err(err) => {
                state.put_receive(request, false);
                Self::fail(this, state, Some(err));
            }
        }
        Self::pump(this, state);
    }
}

/// Returns [`ENOMEM`] for an error that means missing memory. Soft adapters make sockets, and
/// socket(2) has errors of its own for that.
pub(super) fn without_socket(err: Error) -> Error {
    match err {
        ENFILE | ENOBUFS => ENOMEM,
        _ => err,
    }
}

/// The owner of a connection: its file. Dropping it ends the connection.
pub(crate) struct Handle(pub(super) Arc<Connection>);

impl Drop for Handle {
    fn drop(&mut self) {
        let this = &self.0;
        // Let messages that are posted arrive, and the peer know what was taken.
        let start = Instant::<Monotonic>::now();
        let _ = this.wait(Some((start, LINGER_MS)), |state| {
            let told = state.protocol.as_ref().is_none_or(Protocol::is_told);
            state.ending || state.link.is_none() || (state.is_quiet() && told)
        });
        this.state.lock().ending = true;
        disable_delayed::<_, 1>(this);
        disable::<_, 0>(this);
        this.finish();
        let messages = core::mem::take(&mut this.state.lock().messages);
        drop(messages);
        COUNTERS.connections.sub(1);
    }
}

const _: () = assert!(PAGE_SIZE >= 4096);
