// SPDX-License-Identifier: GPL-2.0

//! The file operations of a device with a DMA engine.

use super::{
    counters::Counters,
    limits::Limits,
    piece::Piece,
    receive::Receive,
    send::{Queue, Request}, //
};
use crate::{
    debugfs::Writer,
    device::{Bound, Device, WhileBound},
    fmt,
    fs::File,
    new_mutex, new_poll_condvar,
    prelude::*,
    splice::driver::{FromPipe, PageOwner, PipeBuffers, ReceivePage, ToPipe},
    sync::{
        poll::{PollCondVar, PollEvent, PollEvents, PollTable},
        Arc,
        ArcBorrow,
        Mutex, //
    },
};

/// A DMA engine, as its driver implements it. The channel calls all methods with the mutex of its
/// state held. They may sleep.
///
/// # Examples
///
/// An engine that sends and receives one page at a time. `set_registers` and `is_running` stand for
/// accesses to registers.
///
/// ```
/// use kernel::{
///     device::{Bound, Device},
///     page::PAGE_SIZE,
///     prelude::*,
///     splice::dma::{Channel, ChannelOwner, Engine, Limits, Piece, Work}, //
/// };
///
/// #[derive(Default)]
/// struct Loopback {
///     sending: Option<Piece>,
///     receiving: Option<Piece>,
/// }
///
/// impl Loopback {
///     fn set_registers(&self) {}
///
///     fn is_running(&self) -> bool {
///         false
///     }
/// }
///
/// #[vtable]
/// impl Engine for Loopback {
///     fn start(&mut self, dev: &Device<Bound>, work: &mut Work<'_, Self>) {
///         // A transfer that is in progress keeps its piece.
///         if self.sending.is_none() {
///             self.sending = work.next_to_send(PAGE_SIZE);
///         }
///         if self.receiving.is_none() {
///             self.receiving = work.next_to_receive(dev);
///         }
///         if self.sending.is_some() && self.receiving.is_some() {
///             self.set_registers();
///         }
///     }
///
///     fn completed(&mut self, work: &mut Work<'_, Self>) {
///         // The interrupt may be that of another device on the same line.
///         if self.is_running() {
///             return;
///         }
///         if let (Some(sent), Some(page)) = (self.sending.take(), self.receiving.take()) {
///             let bytes = sent.len;
///             work.sent(sent);
///             work.received(page, bytes);
///         }
///     }
///
///     fn stop(&mut self) -> Result {
///         if self.is_running() {
///             return Err(ETIMEDOUT);
///         }
///         Ok(())
///     }
/// }
///
/// /// Called in probe. The driver keeps the result until unbind, and calls `close` on it there.
/// fn probe(dev: &Device<Bound>) -> Result<ChannelOwner<Loopback>> {
///     let limits = Limits { pages: 64, ..Limits::default() };
///     ChannelOwner::new(dev, Loopback::default(), limits)
/// }
///
/// /// The threaded handler of the device's interrupt.
/// fn interrupt(dev: &Device<Bound>, channel: &Channel<Loopback>) {
///     channel.interrupt(dev);
/// }
/// ```
#[vtable]
pub trait Engine: Sized + Send + Unpin + 'static {
    /// Starts transfers, if the device can take more: of bytes from [`Work::next_to_send`], or into
    /// a page from [`Work::next_to_receive`].
    ///
    /// Called after a request was queued, after a page became free, after readers made room, and
    /// after each [`Self::completed`]. So an engine that is busy returns, and is called again. A
    /// piece that it took from `work` it must keep and report later: it cannot give one back.
    fn start(&mut self, dev: &Device<Bound>, work: &mut Work<'_, Self>);

    /// Handles an interrupt: reports each transfer that is complete by [`Work::sent`] or
    /// [`Work::received`]. There may be none.
    fn completed(&mut self, work: &mut Work<'_, Self>);

    /// Waits until no transfer is in progress. Returns [`ETIMEDOUT`] if a transfer does not end.
    /// The channel does not call [`Self::start`] afterwards.
    fn stop(&mut self) -> Result;
}

/// The transfers that an engine can start. The engine also reports completed ones here.
///
/// It exists only during a call of the engine. The engine keeps a [`Piece`] for each transfer in
/// progress, and gives it back here when the device is done.
pub struct Work<'a, E: Engine> {
    queue: &'a mut Queue,
    receive: &'a mut Receive<Owner<E>>,
    counters: &'a Counters,
}

impl<E: Engine> Work<'_, E> {
    /// Returns the next bytes to send, at most `max`; `None` if there are none.
    pub fn next_to_send(&mut self, max: usize) -> Option<Piece> {
        let piece = self.queue.next(max)?;
        self.counters.descriptors_out.add(1);
        Some(piece)
    }

    /// Reports that the device has read `piece`, which [`Self::next_to_send`] returned. Pieces can
    /// be reported in any order.
    pub fn sent(&mut self, piece: Piece) {
        self.counters.bytes_out.add(piece.len);
        self.queue.sent(piece);
    }

    /// Returns a page for the device to write to. `None` if the device has
    /// [`Limits::posted`] pages, if no page is free or can be mapped, or if readers are too far
    /// behind.
    pub fn next_to_receive(&mut self, dev: &Device<Bound>) -> Option<Piece> {
        let (piece, copied) = self.receive.post(dev)?;
        self.counters.descriptors_in.add(1);
        self.counters.bytes_copied.add(copied);
        Some(piece)
    }

    /// Reports that the device has written the first `bytes` of the page `piece`, which
    /// [`Self::next_to_receive`] returned. Readers get the data of the pages in the order of these
    /// reports.
    pub fn received(&mut self, piece: Piece, bytes: usize) {
        self.counters.bytes_in.add(bytes);
        self.receive.received(piece, bytes);
    }
}

struct State<E: Engine> {
    engine: E,
    queue: Queue,
    receive: Receive<Owner<E>>,
    /// A request was cut short, and no `fsync(2)` has reported it yet.
    failed: bool,
    /// The driver has left the device.
    gone: bool,
}

impl<E: Engine> State<E> {
    /// Calls `f` with the engine and its work.
    fn with_work(&mut self, counters: &Counters, f: impl FnOnce(&mut E, &mut Work<'_, E>)) {
        let mut work = Work {
            queue: &mut self.queue,
            receive: &mut self.receive,
            counters,
        };
        f(&mut self.engine, &mut work);
    }
}

/// A device with a DMA engine, for use by its open files: a stream in each direction.
///
/// The driver has a [`ChannelOwner`]; open files, the interrupt handler and pages in pipes have
/// further references. So a channel can outlive the binding of its device.
#[pin_data]
pub struct Channel<E: Engine> {
    bound: Arc<WhileBound>,
    #[pin]
    state: Mutex<State<E>>,
    /// Notified when `state` changes in a way that a task may wait for.
    #[pin]
    changed: PollCondVar,
    counters: Counters,
    limits: Limits,
}

/// The result of an attempt to queue a request.
enum Submitted {
    /// The request is queued, and has this number.
    Request(u64),
    /// The queue has no room.
    Full,
    /// The pipe is empty.
    Nothing,
}

impl<E: Engine> Channel<E> {
    /// Makes a channel for `dev`, which `engine` drives. Returns [`ENOMEM`] if there is no memory.
    ///
    /// A channel and its pages refer to each other, so it is not freed until [`Self::abort`] drops
    /// the pages.
    fn new(dev: &Device<Bound>, engine: E, limits: Limits) -> Result<Arc<Self>> {
        let bound = WhileBound::new(dev)?;
        let (queue, receive) = (Queue::new(limits.requests)?, Receive::new(limits)?);
        Arc::pin_init(
            pin_init!(Self {
                bound,
                state <- new_mutex!(State {
                    engine,
                    queue,
                    receive,
                    failed: false,
                    gone: false,
                }),
                changed <- new_poll_condvar!(),
                counters: Counters::default(),
                limits,
            }),
            GFP_KERNEL,
        )
    }

    /// Handles an interrupt of the device: releases completed requests, and starts transfers.
    /// Sleeps, so the driver calls it in a threaded handler.
    pub fn interrupt(&self, dev: &Device<Bound>) {
        let mut state = self.state.lock();
        let gone = state.gone;
        state.with_work(&self.counters, |engine, work| {
            engine.completed(work);
            if !gone {
                engine.start(dev, work);
            }
        });
        while let Some((number, request)) = state.queue.pop_done() {
            drop(state);
            drop(request);
            state = self.state.lock();
            // Only now, so that its buffers are released when a wait for the request ends.
            state.queue.retire(number);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Lets the engine start transfers, after a page became free or readers made room.
    fn kick(&self) {
        // An error means that the device is gone. Then there is nothing to start.
        let _ = self.bound.with(|dev| self.start(dev));
    }

    fn start(&self, dev: &Device<Bound>) {
        let mut state = self.state.lock();
        if !state.gone {
            state.with_work(&self.counters, |engine, work| engine.start(dev, work));
        }
        // Without a page the device receives nothing and raises no interrupt, so wake the readers
        // here: one of them returns the error.
        if state.receive.has_failed() {
            self.changed.notify_all();
        }
    }

    /// Waits until `ready` returns `true`. Returns [`ERESTARTSYS`] if a signal arrives first.
    fn wait(&self, mut ready: impl FnMut(&State<E>) -> bool) -> Result {
        let mut state = self.state.lock();
        while !ready(&state) {
            if self.changed.wait_interruptible(&mut state) {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
    }

    /// Runs `f` on the device and its engine, for a transfer that is not one of the channel's, and
    /// then lets the engine start transfers. `f` may sleep; the channel does nothing meanwhile.
    ///
    /// Returns [`ENODEV`] if the device is gone, and otherwise the result of `f`.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{prelude::*, splice::dma::{Channel, Engine}};
    ///
    /// /// Waits until the engine does not run.
    /// fn stop<E: Engine>(channel: &Channel<E>) -> Result {
    ///     channel.with_engine(|_dev, engine| engine.stop())
    /// }
    /// ```
    pub fn with_engine<R>(&self, f: impl FnOnce(&Device<Bound>, &mut E) -> Result<R>) -> Result<R> {
        self.bound.with(|dev| {
            let mut state = self.state.lock();
            if state.gone {
                return Err(ENODEV);
            }
            let ret = f(dev, &mut state.engine);
            drop(state);
            self.start(dev);
            ret
        })?
    }

    /// Takes buffers out of the pipe and queues them as one request. If it cannot queue them, it
    /// puts them back into the pipe.
    fn submit(&self, bufs: &mut FromPipe<'_>) -> Result<Submitted> {
        {
            let state = self.state.lock();
            // Check this before the queue, which can stay full after the device is gone: a caller
            // that waits for room is woken then, and would try again for ever.
            if state.gone {
                return Err(ENODEV);
            }
            if state.queue.is_full() {
                return Ok(Submitted::Full);
            }
        }
        let taken = PipeBuffers::take(bufs, self.limits.buffers, GFP_KERNEL)?;
        if taken.is_empty() {
            return Ok(Submitted::Nothing);
        }
        let mut left = Some(taken);
        let queued = self.bound.with(|dev| self.queue(dev, &mut left));
        if let Some(taken) = left {
            taken.put_back(bufs);
        }
        queued?
    }

    /// Maps `bufs` and queues them. Leaves them in `bufs` if this fails, or if the queue is full.
    /// The caller holds the mutex of `bound`, so there is only one at a time.
    fn queue(&self, dev: &Device<Bound>, bufs: &mut Option<PipeBuffers>) -> Result<Submitted> {
        let Some(taken) = bufs.take() else {
            return Ok(Submitted::Nothing);
        };
        let request = Request::map(dev, taken).map_err(|(err, taken)| {
            self.counters.errors.add(1);
            *bufs = Some(taken);
            err
        })?;
        let copied = request.copied();
        let mut state = self.state.lock();
        let number = match state.queue.push(request) {
            Ok(number) => number,
            Err(request) => {
                *bufs = Some(request.unmap());
                return Ok(Submitted::Full);
            }
        };
        self.counters.bytes_copied.add(copied);
        self.counters.requests_out.add(1);
        self.counters.in_flight_max.raise_to(state.queue.len());
        drop(state);
        self.start(dev);
        Ok(Submitted::Request(number))
    }

    /// Sends the data in a pipe to the device, as one request. With `sync`, waits until the device
    /// has read it.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: the queue is full, and the caller does not wait.
    /// - [`ERESTARTSYS`]: a signal arrived before the queue had room. A signal that arrives later
    ///   ends the wait, but not the transfer, and the call succeeds.
    /// - [`ENOMEM`], and the errors of [`SGTable::map`](crate::scatterlist::SGTable::map).
    /// - [`ENODEV`]: the device is gone.
    /// - [`EIO`]: with `sync`, the device went before it had read all.
    pub fn splice_out(&self, sync: bool, bufs: &mut FromPipe<'_>) -> Result {
        let number = loop {
            match self.submit(bufs)? {
                Submitted::Request(number) => break number,
                Submitted::Nothing => return Ok(()),
                Submitted::Full => bufs.wait(&self.state, &self.changed, |state| {
                    state.gone || !state.queue.is_full()
                })?,
            }
        };
        if sync {
            let is_sent = |state: &State<E>| state.queue.is_released(number);
            let waited = bufs.unlocked(|| self.wait(|state| state.gone || is_sent(state)));
            if waited.is_ok() && !is_sent(&self.state.lock()) {
                return Err(EIO);
            }
        }
        Ok(())
    }

    /// Puts received data into a pipe, as much as there is. Waits only if there is none.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: there is no data, and the caller does not wait.
    /// - [`ERESTARTSYS`]: a signal arrived before there was data.
    /// - [`ENODEV`]: the device is gone.
    /// - [`ENOMEM`]: there is no page to receive into.
    /// - The error of mapping a page for the device, returned once.
    /// - The errors of [`ToPipe::wait`].
    pub fn splice_in(this: ArcBorrow<'_, Self>, pipe: &mut ToPipe<'_>) -> Result {
        loop {
            if let Err(err) = Self::top_up(this) {
                // This call returns the error, so the next reader must not get it as well.
                this.state.lock().receive.take_failure();
                return Err(err);
            }
            let given = this.give(pipe);
            // The device can receive more if this made room for it. If a page could not be mapped,
            // this is the next attempt.
            this.kick();
            given?;
            if pipe.given() > 0 || pipe.wanted() == 0 {
                return Ok(());
            }
            pipe.wait(&this.state, &this.changed, |state| {
                state.gone || state.receive.is_ready()
            })?;
        }
    }

    /// Moves received buffers into a pipe.
    fn give(&self, pipe: &mut ToPipe<'_>) -> Result {
        while pipe.wanted() > 0 && !pipe.is_full() {
            let mut state = self.state.lock();
            if state.gone {
                return Err(ENODEV);
            }
            let Some(buf) = state.receive.pop(pipe.wanted())? else {
                // A call that returns data cannot return the error: keep it for the next one.
                let failure = (pipe.given() == 0).then(|| state.receive.take_failure());
                return failure.flatten().map_or(Ok(()), Err);
            };
            drop(state);
            // Nothing is left: the pipe is not full, and `pop` returned at most `wanted` bytes.
            let _ = pipe.push(buf);
        }
        Ok(())
    }

    /// Handles `poll(2)`: reports an event if the operation for it would not wait.
    pub fn poll(&self, file: &File, table: PollTable<'_>) -> PollEvents {
        table.register_wait(file, &self.changed);
        let state = self.state.lock();
        if state.gone {
            return PollEvent::Error | PollEvent::HangUp;
        }
        let mut events = PollEvents::empty();
        if state.receive.is_ready() {
            events |= PollEvent::In | PollEvent::InNormal;
        }
        if !state.queue.is_full() {
            events |= PollEvent::Out | PollEvent::OutNormal;
        }
        events
    }

    /// Handles `fsync(2)`: waits until the device has read all requests that were queued before.
    ///
    /// Returns [`ERESTARTSYS`] if a signal arrives first, [`EIO`], once, if a request was cut
    /// short, and [`ENODEV`] if the device is gone.
    ///
    /// Requests that other tasks queue meanwhile do not prolong the wait.
    pub fn fsync(&self) -> Result {
        let last = self.state.lock().queue.issued();
        self.wait(|state| state.gone || state.queue.all_released(last))?;
        let mut state = self.state.lock();
        if core::mem::take(&mut state.failed) {
            return Err(EIO);
        }
        if state.gone {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Allocates the pages that are missing. Returns [`ENOMEM`] only if there is no page at all.
    fn top_up(this: ArcBorrow<'_, Self>) -> Result {
        let mut state = this.state.lock();
        if state.gone {
            return Ok(());
        }
        state.receive.add_pages(|| Owner(this.into()))
    }

    /// Takes a page back when no buffer refers to it any more.
    fn page_back(&self, page: KBox<ReceivePage<Owner<E>>>) {
        let mut state = self.state.lock();
        // The page refers to the channel. After `abort` nobody takes it out of the channel again,
        // so to keep it would leak both.
        let unused = if state.gone {
            Some(page)
        } else {
            state.receive.put_page(page);
            None
        };
        drop(state);
        drop(unused);
        self.kick();
    }

    /// Replaces a page that will not come back, because something other than a buffer refers to
    /// it.
    fn page_lost(this: ArcBorrow<'_, Self>) {
        this.state.lock().receive.lost_page();
        if let Err(err) = Self::top_up(this) {
            this.state.lock().receive.fail(err);
            this.changed.notify_all();
        }
        this.kick();
    }

    /// Drops all transfers that are not complete, and wakes all waiting tasks. The device has
    /// stopped: it accesses none of the memory any more.
    fn abort(&self) {
        let mut state = self.state.lock();
        state.gone = true;
        let (requests, pages) = (state.queue.take(), state.receive.take());
        self.counters.errors.add(requests.len());
        drop(state);
        drop((requests, pages));
        self.changed.notify_all();
    }
}

/// The owner of the pages that a channel receives into.
struct Owner<E: Engine>(Arc<Channel<E>>);

#[vtable]
impl<E: Engine> PageOwner for Owner<E> {
    // The pages keep the driver loaded, not the module that this code is in.
    type OwnerModule = E::OwnerModule;

    fn release(page: KBox<ReceivePage<Self>>) {
        let channel = page.owner().0.clone();
        channel.page_back(page);
    }

    fn lost(self) {
        Channel::page_lost(self.0.as_arc_borrow());
    }
}

/// Shows the counters of a channel in debugfs: one `name value` per line.
pub struct ShowCounters<E: Engine>(pub Arc<Channel<E>>);

impl<E: Engine> Writer for ShowCounters<E> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.counters.write(f)
    }
}

/// The driver's handle to a channel. Dropping it ends all transfers.
pub struct ChannelOwner<E: Engine>(Arc<Channel<E>>);

impl<E: Engine> ChannelOwner<E> {
    /// Creates a channel for `dev`, which `engine` drives. May sleep.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    ///
    /// Allocates all pages to receive into that it can, but no transfer starts before the first
    /// call of `splice_in` or `splice_out`. The driver requests its interrupt after this.
    pub fn new(dev: &Device<Bound>, engine: E, limits: Limits) -> Result<Self> {
        let this = Self(Channel::new(dev, engine, limits)?);
        Channel::top_up(this.0.as_arc_borrow())?;
        Ok(this)
    }

    /// Returns the channel, for open files and for the interrupt handler.
    pub fn channel(&self) -> &Arc<Channel<E>> {
        &self.0
    }

    /// Ends all transfers, for the driver's `unbind`. Tasks that wait get an error, and so do later
    /// calls.
    ///
    /// Calls `halt` if the device does not stop. `halt` must prevent all further DMA of the device,
    /// because the memory is unmapped and released next.
    ///
    /// The order matters. First, nothing more is mapped, and a mapping in progress has ended. Then
    /// the device stops. Only then is the memory unmapped and released, which needs no access to
    /// the device.
    pub fn close(&self, halt: impl FnOnce()) {
        // From here on no memory is mapped for the device.
        self.0.bound.end();
        let mut state = self.0.state.lock();
        state.gone = true;
        if state.engine.stop().is_err() {
            halt();
        }
        // This includes requests that the device has read meanwhile: no interrupt reported that, so
        // their callers get an error.
        state.failed |= state.queue.has_pending();
        drop(state);
        self.0.abort();
    }
}

impl<E: Engine> Drop for ChannelOwner<E> {
    fn drop(&mut self) {
        self.0.bound.end();
        self.0.abort();
    }
}
