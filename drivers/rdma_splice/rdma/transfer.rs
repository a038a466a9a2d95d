// SPDX-License-Identifier: GPL-2.0

//! The operations that move data: between a pipe and a connection.

use super::{
    connection::{Connection, Handle, State},
    counters::COUNTERS,
    protocol::Protocol,
    state::Send,
};
use kernel::{
    fs::File,
    iov::{
        user::{copy_from_iter, copy_to_iter},
        IovIterDest, IovIterSource,
    },
    prelude::*,
    splice::driver::{FromPipe, ToPipe},
    sync::{
        poll::{PollEvent, PollEvents, PollTable},
        Arc, ArcBorrow,
    },
};

impl Connection {
    /// Takes a send for a message with data. `None` if none can be sent now.
    ///
    /// Returns the error if the connection cannot send any more.
    fn reserve(&self) -> Result<Option<(Send, Limits)>> {
        let mut state = self.state.lock();
        if let Some(err) = state.send_error() {
            return Err(err);
        }
        if !state.can_send() {
            return Ok(None);
        }
        let (Some(request), Some(limits)) = (state.idle_sends.pop(), Limits::of(&state)) else {
            return Ok(None);
        };
        state.filling += 1;
        Ok(Some((request, limits)))
    }

    /// Gives a send back that was reserved and not sent.
    fn give_back(this: ArcBorrow<'_, Self>, request: Send) {
        let mut state = this.state.lock();
        state.filling -= 1;
        state.put_send(request);
        Self::pump(this, &mut state);
    }

    /// Sends the data in a pipe. Waits if the peer has no room, unless the caller does not wait:
    /// then it sends as many messages as the peer has room for.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: there is no room, and the caller does not wait.
    /// - [`ERESTARTSYS`]: a signal arrived before there was room.
    /// - [`EPIPE`]: the own data has ended.
    /// - [`EIO`]: the memory cannot be mapped.
    /// - The error of the connection.
    pub(super) fn splice_out(this: ArcBorrow<'_, Self>, bufs: &mut FromPipe<'_>) -> Result {
        let mut sent = false;
        let mut most = usize::MAX;
        loop {
            if sent && (bufs.wanted() == 0 || bufs.buffers() == 0) {
                return Ok(());
            }
            let reserved = match this.reserve() {
                Err(_) if sent => return Ok(()),
                reserved => reserved?,
            };
            let Some((mut request, limits)) = reserved else {
                // A short count would end sendfile(2), so wait for the rest as well.
                let waited = bufs.wait(&this.state, &this.changed, |state| {
                    state.can_send() || state.send_error().is_some()
                });
                match waited {
                    Ok(()) => continue,
                    Err(_) if sent => return Ok(()),
                    Err(err) => return Err(err),
                }
            };
            let memory = request.memory_mut();
            memory.fill(bufs, limits.buffers.min(most), limits.bytes);
            let (count, bytes) = (memory.len(), memory.bytes());
            if bytes == 0 {
                // The pipe has no data, or no more that the caller wants.
                Self::give_back(this, request);
                return Ok(());
            }
            match Self::send(this, request, bytes) {
                Ok(()) => {
                    COUNTERS.bytes_out.add(bytes);
                    sent = true;
                }
                Err((err, mut request)) => {
                    request.memory_mut().put_all_back(bufs);
                    Self::give_back(this, request);
                    if err == EMSGSIZE && count > 1 {
                        // The device splits memory at boundaries.
                        most = count / 2;
                    } else if sent {
                        return Ok(());
                    } else {
                        return Err(err);
                    }
                }
            }
        }
    }

    /// Puts received data into a pipe, as much as there is. Waits only if there is none.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: there is no data, and the caller does not wait.
    /// - [`ERESTARTSYS`]: a signal arrived before there was data.
    /// - The error of the connection, if there is no data that was received before.
    /// - Those of [`ToPipe::wait`].
    pub(super) fn splice_in(this: &Handle, pipe: &mut ToPipe<'_>) -> Result {
        let this = &this.0;
        loop {
            let ended = this.give(pipe);
            this.top_up();
            if pipe.given() > 0 || pipe.wanted() == 0 {
                return Ok(());
            }
            if let Some(end) = ended {
                return end;
            }
            pipe.wait(&this.state, &this.changed, State::can_receive)?;
        }
    }

    /// Moves received data into a pipe. Returns the result of the call if there will be no more.
    fn give(self: &Arc<Self>, pipe: &mut ToPipe<'_>) -> Option<Result> {
        let mut state = self.state.lock();
        let before = pipe.given();
        while pipe.wanted() > 0 && !pipe.is_full() {
            let Some(buf) = state.next_buffer(&self.pool) else {
                break;
            };
            let rest = pipe.push(buf);
            state.put_rest(rest);
        }
        let given = pipe.given() - before;
        state.received += given as u64;
        COUNTERS.bytes_in.add(given);
        Self::pump(self.as_arc_borrow(), &mut state);
        state.end_of_data()
    }

    /// Copies received data to user memory, as much as there is. Waits only if there is none. The
    /// errors are those of [`Self::splice_in`], and [`EFAULT`].
    pub(super) fn read(this: &Handle, wait: bool, to: &mut IovIterDest<'_>) -> Result<usize> {
        let this = &this.0;
        let mut done = 0;
        while !to.is_empty() {
            let mut state = this.state.lock();
            let Some(mut buf) = state.next_buffer(&this.pool) else {
                if done > 0 {
                    break;
                }
                match state.end_of_data() {
                    Some(end) => return end.map(|()| 0),
                    None if !wait => return Err(EAGAIN),
                    None => {}
                }
                drop(state);
                this.wait(None, State::can_receive)?;
                continue;
            };
            state.reading = true;
            drop(state);
            // Not with the lock held: the user's memory may be slow.
            let wanted = to.len().min(buf.len());
            let copied = copy_to_iter(&buf, wanted, to);
            buf.advance(copied);
            let (rest, empty) = if buf.is_empty() {
                (None, Some(buf))
            } else {
                (Some(buf), None)
            };
            // Its page goes back to the pool.
            drop(empty);
            let mut state = this.state.lock();
            state.reading = false;
            state.put_rest(rest);
            state.received += copied as u64;
            state.copied += copied as u64;
            Self::pump(this.as_arc_borrow(), &mut state);
            drop(state);
            this.changed.notify_all();
            done += copied;
            if copied < wanted {
                if done == 0 {
                    return Err(EFAULT);
                }
                break;
            }
        }
        this.top_up();
        COUNTERS.bytes_copied.add(done);
        Ok(done)
    }

    /// Copies data from user memory and sends it, as much as the peer has room for. Waits only if
    /// it has no room for any. The errors are those of [`Self::splice_out`], and [`EFAULT`].
    pub(super) fn write(
        this: ArcBorrow<'_, Self>,
        wait: bool,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        let mut done = 0;
        while !from.is_empty() {
            let reserved = match this.reserve() {
                Err(_) if done > 0 => break,
                reserved => reserved?,
            };
            let Some((mut request, limits)) = reserved else {
                if done > 0 {
                    break;
                }
                if !wait {
                    return Err(EAGAIN);
                }
                this.wait(None, |state| {
                    state.can_send() || state.send_error().is_some()
                })?;
                continue;
            };
            let memory = request.memory_mut();
            let mut copied = Ok(());
            let mut bytes = 0;
            while memory.len() < limits.buffers && bytes < limits.bytes && !from.is_empty() {
                copied = copy_from_iter(from, limits.bytes - bytes).map(|buf| {
                    bytes += buf.len();
                    // There is room for as many buffers.
                    let _ = memory.push(buf);
                });
                if copied.is_err() {
                    break;
                }
            }
            let sent = if bytes > 0 {
                Self::send(this, request, bytes)
            } else {
                Err((copied.err().unwrap_or(EFAULT), request))
            };
            if let Err((err, mut request)) = sent {
                request.memory_mut().clear();
                Self::give_back(this, request);
                if done > 0 {
                    break;
                }
                return Err(err);
            }
            done += bytes;
            this.state.lock().copied += bytes as u64;
            COUNTERS.bytes_copied.add(bytes);
            if copied.is_err() {
                break;
            }
        }
        Ok(done)
    }

    /// Handles `poll(2)`: reports an event if the operation for it would not wait.
    pub(super) fn poll(&self, file: &File, table: PollTable<'_>) -> PollEvents {
        table.register_wait(file, &self.changed);
        let state = self.state.lock();
        let mut events = PollEvents::empty();
        if state.can_receive() {
            events |= PollEvent::In | PollEvent::InNormal;
        }
        // While the connection is ending, report nothing: all events of its end come together.
        let is_ending = state.ending && !state.ended;
        if !is_ending && (state.can_send() || state.send_error().is_some()) {
            events |= PollEvent::Out | PollEvent::OutNormal;
        }
        let fin_received = state.protocol.as_ref().is_some_and(Protocol::fin_received);
        if fin_received || state.ended {
            events |= PollEvents::from(PollEvent::ReadHangUp);
        }
        if state.ended {
            events |= PollEvents::from(PollEvent::HangUp);
            if state.error.is_some() {
                events |= PollEvents::from(PollEvent::Error);
            }
        }
        events
    }

    /// Handles `fsync(2)`: waits until the peer's reader has taken all data that was sent.
    ///
    /// Returns [`ERESTARTSYS`] if a signal arrives first, and the error of the connection if it has
    /// one.
    pub(super) fn fsync(&self) -> Result {
        let all_taken = |state: &State| state.protocol.as_ref().is_none_or(Protocol::all_taken);
        self.wait(None, |state| {
            state.ended || (state.filling == 0 && all_taken(state))
        })?;
        let state = self.state.lock();
        match state.error {
            Some(err) => Err(err),
            None if all_taken(&state) => Ok(()),
            None => Err(ECONNRESET),
        }
    }
}

/// The limits of one message.
struct Limits {
    buffers: usize,
    bytes: usize,
}

impl Limits {
    fn of(state: &State) -> Option<Self> {
        Some(Self {
            // One entry is for the header.
            buffers: state.sizes?.queues.send_entries - 1,
            // CAST: A u32 fits in a usize.
            bytes: state.protocol.as_ref()?.send_limits().segment as usize,
        })
    }
}
