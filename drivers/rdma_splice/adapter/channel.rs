// SPDX-License-Identifier: GPL-2.0

//! A device as its files see it.

use super::{
    counters::Counters,
    receive::{Page, Receive},
    send::{Queue, Request},
    Piece, BUFFERS,
};
use kernel::{
    device::{Bound, Device},
    fs::File,
    new_mutex, new_poll_condvar,
    prelude::*,
    splice::{FromPipe, PipeBuffers, PollEvent, PollEvents, ToPipe, WhileBound},
    sync::{
        poll::{PollCondVar, PollTable},
        Arc, ArcBorrow, Mutex,
    },
};

/// A DMA engine.
pub(crate) trait Engine: Sized + Send + Unpin + 'static {
    /// Starts what can be started: takes from `work` what to send, or where to put what comes in,
    /// if the device can do with more.
    fn start(&mut self, dev: &Device<Bound>, work: &mut Work<'_, Self>);

    /// The device says that it may be through with something: tells `work` what that was.
    fn completed(&mut self, work: &mut Work<'_, Self>);

    /// Waits until the device is at nothing any more. Fails with [`ETIMEDOUT`] where it does not
    /// come to an end. Nothing is started afterwards.
    fn stop(&mut self) -> Result;
}

/// What there is to do for an engine.
pub(crate) struct Work<'a, E: Engine> {
    queue: &'a mut Queue,
    receive: &'a mut Receive<E>,
    counters: &'a Counters,
}

impl<E: Engine> Work<'_, E> {
    /// The next bytes to send, no more than `max`.
    pub(crate) fn next_to_send(&mut self, max: usize) -> Option<Piece> {
        let piece = self.queue.next(max)?;
        self.counters.descriptors_out.add(1);
        Some(piece)
    }

    /// The device has read the next `bytes`.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.counters.bytes_out.add(bytes);
        self.queue.sent(bytes);
    }

    /// Where the device can write a page; one at a time.
    pub(crate) fn next_to_receive(&mut self, dev: &Device<Bound>) -> Option<Piece> {
        let (piece, copied) = self.receive.post(dev)?;
        self.counters.descriptors_in.add(1);
        self.counters.bytes_copied.add(copied);
        Some(piece)
    }

    /// The device has written `bytes`.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.counters.bytes_in.add(bytes);
        self.receive.received(bytes);
    }
}

struct State<E: Engine> {
    engine: E,
    queue: Queue,
    receive: Receive<E>,
    /// Something has failed since the last `fsync(2)`.
    failed: bool,
    /// The device has no driver any more.
    gone: bool,
}

impl<E: Engine> State<E> {
    /// Has the engine look at what there is to do.
    fn with_work(&mut self, counters: &Counters, f: impl FnOnce(&mut E, &mut Work<'_, E>)) {
        let mut work = Work {
            queue: &mut self.queue,
            receive: &mut self.receive,
            counters,
        };
        f(&mut self.engine, &mut work);
    }
}

/// A device with a DMA engine, as its files see it: a stream in each direction.
#[pin_data]
pub(crate) struct Channel<E: Engine> {
    bound: Arc<WhileBound>,
    #[pin]
    state: Mutex<State<E>>,
    /// Some of the state has changed that somebody may wait for.
    #[pin]
    changed: PollCondVar,
    counters: Counters,
}

/// What came of the attempt to queue a request.
enum Submitted {
    /// It is queued, with this number.
    Request(u64),
    /// There is no room in the queue.
    Full,
    /// There is nothing in the pipe.
    Nothing,
}

impl<E: Engine> Channel<E> {
    /// A channel for `dev`, that `engine` drives. Fails with [`ENOMEM`].
    ///
    /// Pages refer to it, so it is not freed before it is [given up](Self::abort).
    fn new(dev: &Device<Bound>, engine: E) -> Result<Arc<Self>> {
        let bound = WhileBound::new(dev)?;
        let (queue, receive) = (Queue::new()?, Receive::new()?);
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
            }),
            GFP_KERNEL,
        )
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// For the device's interrupt, in a thread of its own: it may be through with something.
    pub(crate) fn interrupt(&self, dev: &Device<Bound>) {
        let mut state = self.state.lock();
        let gone = state.gone;
        state.with_work(&self.counters, |engine, work| {
            engine.completed(work);
            if !gone {
                engine.start(dev, work);
            }
        });
        while let Some(request) = state.queue.pop_done() {
            drop(state);
            drop(request);
            state = self.state.lock();
            // Not before its buffers are released.
            state.queue.retire();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// There may be more to do for the engine than there was.
    fn kick(&self) {
        // Where the device is gone there is nothing to be done.
        let _ = self.bound.with(|dev| self.start(dev));
    }

    fn start(&self, dev: &Device<Bound>) {
        let mut state = self.state.lock();
        if !state.gone {
            state.with_work(&self.counters, |engine, work| engine.start(dev, work));
        }
        // There is no interrupt to tell of it.
        if state.receive.has_failed() {
            self.changed.notify_all();
        }
    }

    /// Waits until `ready`, with [`ERESTARTSYS`] if a signal comes first.
    fn wait(&self, mut ready: impl FnMut(&State<E>) -> bool) -> Result {
        let mut state = self.state.lock();
        while !ready(&state) {
            if self.changed.wait_interruptible(&mut state) {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
    }

    /// Makes a request of what is in the pipe. What is not queued is in the pipe as before.
    fn submit(&self, bufs: &mut FromPipe<'_>) -> Result<Submitted> {
        {
            let state = self.state.lock();
            // First, since those who wait for room are woken by that, too.
            if state.gone {
                return Err(ENODEV);
            }
            if state.queue.is_full() {
                return Ok(Submitted::Full);
            }
        }
        let taken = PipeBuffers::take(bufs, BUFFERS, GFP_KERNEL)?;
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

    /// Maps `bufs` and queues them. Where it fails, or the queue is full, they are there as before.
    /// One caller at a time.
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

    /// From a pipe to the device: what is in the pipe is one request. Where `sync`, waits until the
    /// device has read it.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: the queue is full, and the caller does not wait.
    /// - [`ERESTARTSYS`]: a signal came before there was room. One that comes later ends the wait,
    ///   and not the transfer.
    /// - [`ENOMEM`], and others of [`SGTable::map`](kernel::scatterlist::SGTable::map).
    /// - [`ENODEV`]: the device is gone. [`EIO`]: it went in the middle of the transfer.
    pub(crate) fn splice_out(&self, sync: bool, bufs: &mut FromPipe<'_>) -> Result {
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
            let is_sent = |state: &State<E>| state.queue.completed() >= number;
            let waited = bufs.unlocked(|| self.wait(|state| state.gone || is_sent(state)));
            if waited.is_ok() && !is_sent(&self.state.lock()) {
                return Err(EIO);
            }
        }
        Ok(())
    }

    /// From the device to a pipe: as much as was received. Waits only where there is nothing.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: there is nothing, and the caller does not wait.
    /// - [`ERESTARTSYS`]: a signal came before there was anything.
    /// - [`ENODEV`]: the device is gone.
    /// - [`ENOMEM`]: there is no page to receive into. Why none could be mapped, once.
    /// - Those of [`ToPipe::wait`].
    pub(crate) fn splice_in(this: ArcBorrow<'_, Self>, pipe: &mut ToPipe<'_>) -> Result {
        loop {
            if let Err(err) = Self::top_up(this) {
                // It is told here.
                this.state.lock().receive.take_failure();
                return Err(err);
            }
            let given = this.give(pipe);
            // There may be room for more now; and where a page could not be mapped, another try
            // is due.
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

    /// Puts what was received into a pipe.
    fn give(&self, pipe: &mut ToPipe<'_>) -> Result {
        while pipe.wanted() > 0 && !pipe.is_full() {
            let mut state = self.state.lock();
            if state.gone {
                return Err(ENODEV);
            }
            let Some(buf) = state.receive.pop(pipe.wanted())? else {
                // Who gets data does not get the error.
                let failure = (pipe.given() == 0).then(|| state.receive.take_failure());
                return failure.flatten().map_or(Ok(()), Err);
            };
            drop(state);
            // There is room, and it is no more than is wanted: nothing is left.
            let _ = pipe.push(buf);
        }
        Ok(())
    }

    /// `poll(2)`.
    pub(crate) fn poll(&self, file: &File, table: PollTable<'_>) -> PollEvents {
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

    /// `fsync(2)`: waits until the device has read all that was queued before.
    ///
    /// Fails with [`ERESTARTSYS`], with [`ENODEV`], and, once, with [`EIO`] where a transfer
    /// failed.
    pub(crate) fn fsync(&self) -> Result {
        let last = self.state.lock().queue.issued();
        self.wait(|state| state.gone || state.queue.completed() >= last)?;
        let mut state = self.state.lock();
        if core::mem::take(&mut state.failed) {
            return Err(EIO);
        }
        if state.gone {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Makes pages, where there are fewer than there can be. Where there is no memory, the device
    /// gets along with those there are; fails with [`ENOMEM`] where there is none.
    fn top_up(this: ArcBorrow<'_, Self>) -> Result {
        let mut state = this.state.lock();
        while !state.gone && state.receive.lacks_pages() {
            if let Err(err) = state.receive.add_page(this.into()) {
                return if state.receive.has_pages() {
                    Ok(())
                } else {
                    Err(err)
                };
            }
        }
        Ok(())
    }

    /// A page is not in a pipe any more.
    pub(super) fn page_back(&self, page: Page<E>) {
        let mut state = self.state.lock();
        // It has a reference to the channel, so none is kept that nobody will ever take.
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

    /// A page is not in a pipe any more, and will not come back. Makes another.
    pub(super) fn page_lost(this: ArcBorrow<'_, Self>) {
        this.state.lock().receive.lost_page();
        if let Err(err) = Self::top_up(this) {
            this.state.lock().receive.fail(err);
            this.changed.notify_all();
        }
        this.kick();
    }

    /// Gives up all transfers that the device is not through with. It is not at any of them any
    /// more.
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

/// A channel, for as long as the device has its driver.
pub(crate) struct ChannelOf<E: Engine>(Arc<Channel<E>>);

impl<E: Engine> ChannelOf<E> {
    /// A channel for `dev`, that `engine` drives. Fails with [`ENOMEM`].
    pub(crate) fn new(dev: &Device<Bound>, engine: E) -> Result<Self> {
        let this = Self(Channel::new(dev, engine)?);
        Channel::top_up(this.0.as_arc_borrow())?;
        Ok(this)
    }

    pub(crate) fn channel(&self) -> &Arc<Channel<E>> {
        &self.0
    }

    /// For the driver's `unbind`: ends all transfers. Who waits is told, and so is who comes later.
    ///
    /// `halt` is for a device that does not come to an end: after it the device does no DMA.
    pub(crate) fn close(&self, halt: impl FnOnce()) {
        // Nothing is mapped from here on.
        self.0.bound.end();
        let mut state = self.0.state.lock();
        state.gone = true;
        if state.engine.stop().is_err() {
            halt();
        }
        // What the device has finished meanwhile counts as cut off, too: nobody has told yet.
        state.failed |= state.queue.has_pending();
        drop(state);
        self.0.abort();
    }
}

impl<E: Engine> Drop for ChannelOf<E> {
    fn drop(&mut self) {
        self.0.bound.end();
        self.0.abort();
    }
}
