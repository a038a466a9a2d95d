// SPDX-License-Identifier: GPL-2.0

//! A device as its files see it.

use super::{
    counters::Counters,
    receive::{Page, Receive},
    send::{Queue, Request},
    Piece, WhileBound, BUFFERS,
};
use kernel::{
    device::{Bound, Device},
    fs::File,
    new_mutex, new_poll_condvar,
    prelude::*,
    splice::{FromPipe, PipeBuffers, PollEvent, PollEvents, ToPipe},
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

    /// The device says that it is through with something: tells `work` what that was.
    fn completed(&mut self, work: &mut Work<'_, Self>);

    /// Waits until the device is at nothing any more; an error says that it still may be. Nothing
    /// is started afterwards.
    fn stop(&mut self) -> Result;
}

/// What there is to do for an engine.
pub(crate) struct Work<'a, E: Engine> {
    queue: &'a mut Queue,
    receive: &'a mut Receive<E>,
    counters: &'a Counters,
    /// A request that the device is through with, to be dropped with no lock held.
    done: Option<Request>,
}

impl<E: Engine> Work<'_, E> {
    /// The next bytes to send, no more than `max`.
    pub(crate) fn next_to_send(&mut self, max: usize) -> Option<Piece> {
        let piece = self.queue.next(max)?;
        self.counters.descriptors_out.add(1);
        Some(piece)
    }

    /// The device has read the next `bytes`. Once for each time that it
    /// [says so](Engine::completed).
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.counters.bytes_out.add(bytes);
        self.done = self.queue.sent(bytes);
    }

    /// Where the device can write a page.
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
    /// Has the engine look at what there is to do. What is returned is to be dropped with no lock
    /// held.
    fn with_work(
        &mut self,
        counters: &Counters,
        f: impl FnOnce(&mut E, &mut Work<'_, E>),
    ) -> Option<Request> {
        let mut work = Work {
            queue: &mut self.queue,
            receive: &mut self.receive,
            counters,
            done: None,
        };
        f(&mut self.engine, &mut work);
        work.done
    }
}

/// A device with a DMA engine, as its files see it: a stream in each direction.
#[pin_data]
pub(crate) struct Channel<E: Engine> {
    bound: Arc<WhileBound>,
    /// One request after the other is queued.
    #[pin]
    submit: Mutex<()>,
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
        let this = Arc::pin_init(
            pin_init!(Self {
                bound,
                submit <- new_mutex!(()),
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
        )?;
        Ok(this)
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// For the device's interrupt, in a thread of its own: it is through with something.
    pub(crate) fn interrupt(&self, dev: &Device<Bound>) {
        let mut state = self.state.lock();
        let gone = state.gone;
        let done = state.with_work(&self.counters, |engine, work| {
            engine.completed(work);
            if !gone {
                engine.start(dev, work);
            }
        });
        drop(state);
        drop(done);
        self.changed.notify_all();
    }

    /// There may be more to do for the engine than there was.
    fn kick(&self) {
        // Where the device is gone there is nothing to be done.
        let _ = self.bound.with(|dev| self.start(dev));
    }

    /// Nothing is completed by that, so there is nothing to be dropped.
    fn start(&self, dev: &Device<Bound>) {
        let mut state = self.state.lock();
        if !state.gone {
            state.with_work(&self.counters, |engine, work| engine.start(dev, work));
        }
    }

    /// Waits until `ready`, with [`ERESTARTSYS`] where a signal comes first.
    fn wait(&self, mut ready: impl FnMut(&State<E>) -> bool) -> Result {
        let mut state = self.state.lock();
        while !ready(&state) {
            if self.changed.wait_interruptible(&mut state) {
                return Err(ERESTARTSYS);
            }
        }
        Ok(())
    }

    fn submit(&self, bufs: &mut FromPipe<'_>) -> Result<Submitted> {
        let submit = self.submit.lock();
        {
            let state = self.state.lock();
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
        let mapped = match self.bound.with(|dev| Request::map(dev, taken)) {
            Ok(mapped) => mapped,
            // It went just now; what was taken is released, as all that is in flight.
            Err(err) => return Err(err),
        };
        let request = mapped.map_err(|(err, taken)| {
            taken.put_back(bufs);
            self.counters.errors.add(1);
            err
        })?;
        self.counters.bytes_copied.add(request.copied());
        self.counters.requests_out.add(1);

        let mut state = self.state.lock();
        if state.gone {
            drop(state);
            return Err(ENODEV);
        }
        let number = state.queue.push(request)?;
        self.counters.in_flight_max.raise_to(state.queue.len());
        drop(state);
        drop(submit);
        self.kick();
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
                Submitted::Full if !bufs.may_wait() => return Err(EAGAIN),
                Submitted::Full => {
                    bufs.unlocked(|| self.wait(|state| state.gone || !state.queue.is_full()))?
                }
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
    /// - Why no page could be given to the device, once.
    pub(crate) fn splice_in(this: ArcBorrow<'_, Self>, pipe: &mut ToPipe<'_>) -> Result {
        loop {
            Self::top_up(this);
            this.give(pipe)?;
            // There may be room for more now; and where a page could not be mapped, another try
            // is due.
            this.kick();
            if pipe.given() > 0 || pipe.wanted() == 0 {
                return Ok(());
            }
            if !pipe.may_wait() {
                return Err(EAGAIN);
            }
            pipe.unlocked(|| this.wait(|state| state.gone || state.receive.is_ready()))??;
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
                return state.receive.take_failure().map_or(Ok(()), Err);
            };
            drop(state);
            // There is room, and it is no more than is wanted.
            pipe.push(buf).map_err(|_| EIO)?;
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
    /// Fails with [`ERESTARTSYS`], with [`ENODEV`], and, once, with [`EIO`] where a transfer failed.
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
    /// gets along with those there are.
    fn top_up(this: ArcBorrow<'_, Self>) {
        let mut state = this.state.lock();
        while !state.gone && state.receive.lacks_pages() {
            if state.receive.add_page(this.into()).is_err() {
                break;
            }
        }
    }

    /// A page is not in a pipe any more: here it is, or it is lost.
    pub(super) fn page_back(&self, page: Option<Page<E>>) {
        let mut state = self.state.lock();
        let unused = match page {
            // It has a reference to the channel.
            Some(page) if state.gone => Some(page),
            Some(page) => {
                state.receive.put_page(page);
                None
            }
            None => {
                state.receive.lost_page();
                None
            }
        };
        drop(state);
        drop(unused);
        self.kick();
    }

    /// Gives up all transfers that the device is not through with. It is not at any of them any
    /// more, or never will be.
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
        Channel::top_up(this.0.as_arc_borrow());
        Ok(this)
    }

    pub(crate) fn channel(&self) -> &Arc<Channel<E>> {
        &self.0
    }

    /// Ends all transfers: for the driver's `unbind`. Who waits is told, and so is who comes later.
    pub(crate) fn close(&self, dev: &Device<Bound>) {
        let mut state = self.0.state.lock();
        state.gone = true;
        let stopped = state.engine.stop();
        // What the device has finished meanwhile counts as cut off, too: nobody has told yet.
        state.failed |= state.queue.len() > 0;
        drop(state);
        if stopped.is_err() {
            dev_err!(dev, "the device does not stop: leaving its memory to it\n");
            let mut state = self.0.state.lock();
            core::mem::forget((state.queue.take(), state.receive.take()));
        }
        self.0.abort();
    }
}

impl<E: Engine> Drop for ChannelOf<E> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
