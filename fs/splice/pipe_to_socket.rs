// SPDX-License-Identifier: GPL-2.0

//! Transfers from a pipe to a socket.

#![forbid(unsafe_code)]

use core::mem::MaybeUninit;
use kernel::{
    fs::{file::flags::O_NONBLOCK, LocalFile},
    net::Socket,
    page::PAGE_SIZE,
    pipe::{Pipe, PipeBuffer, PipeRing, DEFAULT_BUFFERS},
    prelude::*,
    splice::{
        check, policy, wait_for_data, BioVec, Counter, Deadline, FreshPages, PageArray, Pieces,
        Progress, SpliceFlag, SpliceFlags, Tries, Waited,
    },
};

/// Sends up to `len` bytes from the pipe, by reference if the protocol supports it. Waits for room
/// in the socket with the pipe unlocked.
///
/// Returns [`ENOTSOCK`] if the file is not a socket, and the errors of [`wait_for_data`] and of
/// `sendmsg(2)` if nothing was sent. Bytes that were not sent stay in the pipe. C:
/// `splice_to_socket`.
pub(crate) fn splice_to_socket(
    pipe: &mut Pipe<'_>,
    file: &LocalFile,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let socket = Socket::of_file(file).ok_or(ENOTSOCK)?;
    // `SPLICE_F_NONBLOCK` is for the pipe only, as in C: with it, a program can wait for room in
    // the socket but not for data in the pipe.
    let mut sender = Sender::new(socket, len, flags, !file.has_flags(O_NONBLOCK));
    let ret = loop {
        let mut guard = pipe.lock();
        let next = sender.send_available(&mut guard.ring());
        drop(guard);
        // After the unlock: writers that are woken before would block on the mutex right away.
        if sender.progress.wake_writers {
            pipe.wake_writers();
            sender.progress.wake_writers = false;
        }
        match next {
            Ok(Next::Wait) => (),
            Ok(_) => break Ok(0),
            Err(err) => break Err(sender.error(err)),
        }
        if let Err(err) = sender.wait(file, pipe) {
            break Err(err);
        }
    };
    Counter::PipeToSocketReferenced.add(sender.progress.bytes - sender.copied);
    if sender.copied > 0 {
        Counter::PipeToSocketCopied.add(sender.copied);
    }
    sender.progress.result(ret)
}

/// The continuation of a transfer after one message.
enum Next {
    /// Send more.
    More,
    /// The transfer ends.
    End,
    /// Wait for room in the socket.
    Wait,
}

/// A transfer to a socket.
///
/// While the pipe is locked, messages are sent without blocking. The wait for room follows the
/// rules of a `sendmsg(2)` that blocks: see [`Self::wait`].
struct Sender<'a> {
    socket: &'a Socket,
    len: usize,
    flags: SpliceFlags,
    may_wait: bool,
    progress: Progress,
    /// The number of bytes that were sent as a copy.
    copied: usize,
    /// The message that waits for room.
    waiting: Option<Waiting>,
    /// The next message blocks, with the pipe locked.
    is_blocking: bool,
    tries: Tries,
    /// The number of bytes that had been sent at the last wait.
    bytes_at_wait: usize,
}

/// A message for which the socket had no room, or not enough.
struct Waiting {
    deadline: Deadline,
    /// The deadline has passed, and this is the last attempt.
    is_last: bool,
    /// The rest of the message, if a part of it was sent.
    rest: Option<Rest>,
}

/// The rest of a message.
#[derive(Clone, Copy)]
struct Rest {
    /// The number of bytes. They may be other ones than before the wait, if another task took the
    /// first bytes out of the pipe.
    len: usize,
    /// The message was announced to be followed by more data.
    more: bool,
}

impl<'a> Sender<'a> {
    #[inline]
    fn new(socket: &'a Socket, len: usize, flags: SpliceFlags, may_wait: bool) -> Self {
        Self {
            socket,
            len,
            flags,
            may_wait,
            progress: Progress::default(),
            copied: 0,
            waiting: None,
            is_blocking: false,
            tries: Tries::default(),
            bytes_at_wait: 0,
        }
    }

    /// Sends until there is no room in the socket, or the transfer ends.
    #[inline(always)]
    fn send_available(&mut self, ring: &mut PipeRing<'_>) -> Result<Next> {
        while self.progress.bytes != self.len {
            match self.send_some(ring)? {
                Next::More => (),
                next => return Ok(next),
            }
        }
        Ok(Next::End)
    }

    /// Waits for data and sends one message.
    #[inline(always)]
    fn send_some(&mut self, ring: &mut PipeRing<'_>) -> Result<Next> {
        if !wait_for_data(ring, self.flags, &mut self.progress)? {
            return Ok(Next::End);
        }

        let wanted = self.wanted();
        let socket = self.socket;
        if let Some(reason) = policy::must_copy(|| socket.is_audited()) {
            return self.send_unaudited(ring, wanted, reason);
        }
        // As many pieces as in C: on a socket that keeps message boundaries the receiver sees where
        // a message ends.
        let mut vecs = [const { MaybeUninit::<BioVec>::uninit() }; DEFAULT_BUFFERS];
        let mut pieces = Pieces::new(&mut vecs);
        let gathered = pieces.gather_unless_tracked(ring, wanted);
        // Send the buffers in front of one that cannot be read. Its error comes again, with no
        // buffer in front of it, at the next attempt.
        if pieces.is_empty() {
            return match gathered {
                Ok(true) => self.send_tracked(ring, wanted),
                Err(err) if err != ENODATA => Err(err),
                _ => Ok(Next::End),
            };
        }

        let bytes = pieces.bytes();
        let more = self.announces_more(gathered.unwrap_or(true), bytes, wanted);
        if check::is_on() {
            check::watch_pieces(&pieces, socket.send_function());
        }
        let sent = socket.send_pages(&pieces, more, self.dont_wait());
        self.sent(ring, bytes, more, sent)
    }

    /// Sends one message to a protocol that may not have references to pages that others can see:
    /// by reference if all pages are private, else as a copy.
    #[cold]
    fn send_unaudited(
        &mut self,
        ring: &mut PipeRing<'_>,
        wanted: usize,
        reason: policy::Reason,
    ) -> Result<Next> {
        let mut vecs = [const { MaybeUninit::<BioVec>::uninit() }; DEFAULT_BUFFERS];
        let mut pieces = Pieces::new(&mut vecs);
        let mut private = false;
        let gathered = pieces.gather_to_copy::<true>(ring, wanted, &mut private);
        if pieces.is_empty() {
            return match gathered {
                Err(err) if err != ENODATA => Err(err),
                _ => Ok(Next::End),
            };
        }
        let bytes = pieces.bytes();
        let more = self.announces_more(gathered.unwrap_or(true), bytes, wanted);
        let sent = if private {
            self.socket.send_pages(&pieces, more, self.dont_wait())
        } else {
            // One call for all pieces: on a socket that keeps message boundaries they are one
            // message.
            let sent = self.socket.send_copy(&pieces, more, self.dont_wait());
            let copied = sent.unwrap_or(0);
            self.copied += copied;
            policy::copied(
                policy::Kind::Socket,
                reason,
                self.socket.send_function(),
                copied,
            );
            sent
        };
        // This releases memory that was tracked: its use ends with the copy.
        self.sent(ring, bytes, more, sent)
    }

    /// Sends the oldest buffers, which are tracked memory, so that the end of their use is
    /// observed: by reference if the protocol reports when it is done with the memory, else as a
    /// copy.
    #[cold]
    fn send_tracked(&mut self, ring: &mut PipeRing<'_>, wanted: usize) -> Result<Next> {
        let mut vecs = [const { MaybeUninit::<BioVec>::uninit() }; DEFAULT_BUFFERS];
        let mut pieces = Pieces::new(&mut vecs);
        let Some((memory, left_in_pipe)) = pieces.gather_tracked(ring, wanted) else {
            return Ok(Next::End);
        };
        let bytes = pieces.bytes();
        let more = self.announces_more(left_in_pipe, bytes, wanted);
        let dont_wait = self.dont_wait();
        match self.socket.send_tracked(&pieces, memory, more, dont_wait) {
            // The protocol would keep references to the pages and not report when it drops them,
            // so the memory would be reported too early.
            Err(err) if err == EOPNOTSUPP => {
                // One buffer in each round, at most one page of it: the next round looks at the
                // socket and at signals again, and a single page needs no allocation for a list.
                let Some(buf) = ring.front() else {
                    return Ok(Next::End);
                };
                let len = buf.len().min(wanted).min(PAGE_SIZE);
                let more = self.announces_more(left_in_pipe, len, wanted);
                let sent = send_copy(buf, len, self.socket, more, dont_wait);
                self.copied += sent.unwrap_or(0);
                self.sent(ring, len, more, sent)
            }
            sent => self.sent(ring, bytes, more, sent),
        }
    }

    /// Returns how many bytes the next message may have.
    #[inline(always)]
    fn wanted(&self) -> usize {
        let wanted = self.len.wrapping_sub(self.progress.bytes);
        if self.waiting.is_none() {
            return wanted;
        }
        self.rest().map_or(wanted, |rest| rest.len.min(wanted))
    }

    #[cold]
    fn rest(&self) -> Option<Rest> {
        self.waiting.as_ref()?.rest
    }

    /// Returns whether the protocol may wait for data behind a message of `bytes` bytes.
    ///
    /// Announces more data only if it is in the pipe: the protocol holds a partial segment back for
    /// it, and would do so without need if the writer of the pipe is slow.
    #[inline(always)]
    fn announces_more(&self, left_in_pipe: bool, bytes: usize, wanted: usize) -> bool {
        if self.waiting.is_some() {
            if let Some(rest) = self.rest() {
                return rest.more || bytes < wanted;
            }
        }
        self.flags.contains(SpliceFlag::More) || (left_in_pipe && bytes < wanted)
    }

    /// Returns whether the next message is sent without blocking.
    #[inline(always)]
    fn dont_wait(&self) -> bool {
        !self.is_blocking
    }

    /// Handles the result of a message of `bytes` bytes.
    #[inline(always)]
    fn sent(
        &mut self,
        ring: &mut PipeRing<'_>,
        bytes: usize,
        more: bool,
        sent: Result<usize>,
    ) -> Result<Next> {
        let sent = match sent {
            Err(err) if err == EAGAIN => return self.no_room(),
            sent => sent?,
        };
        // A protocol that takes nothing and reports no error would be called for ever.
        if sent == 0 {
            return Ok(Next::End);
        }
        self.progress.consume(ring, sent);
        if sent < bytes || self.waiting.is_some() {
            return Ok(self.sent_part(sent, bytes, more));
        }
        Ok(Next::More)
    }

    /// Handles a message for which the socket had no room.
    #[cold]
    fn no_room(&mut self) -> Result<Next> {
        let is_last = self.waiting.as_ref().is_some_and(|waiting| waiting.is_last);
        if !self.may_wait || self.is_blocking || is_last {
            return Err(EAGAIN);
        }
        Ok(Next::Wait)
    }

    /// Handles a message, or the rest of one, of which `sent` of `bytes` bytes were sent.
    #[cold]
    fn sent_part(&mut self, sent: usize, bytes: usize, more: bool) -> Next {
        let rest = self.rest().map_or(bytes, |rest| rest.len) - sent;
        if rest == 0 || !self.may_wait || self.is_blocking {
            self.end_message();
            return Next::More;
        }
        let deadline = match &self.waiting {
            Some(waiting) => waiting.deadline,
            None => self.socket.send_deadline(),
        };
        self.waiting = Some(Waiting {
            deadline,
            is_last: false,
            rest: Some(Rest { len: rest, more }),
        });
        if sent < bytes {
            Next::Wait
        } else {
            // The rest is not in the pipe any more, or is another kind of buffer.
            Next::More
        }
    }

    /// Returns the error of the call for `err`: a signal that arrives after a wait for the socket
    /// still interrupts that wait, see [`Self::wait`].
    #[cold]
    fn error(&self, err: Error) -> Error {
        match &self.waiting {
            Some(waiting) if err == ERESTARTSYS => waiting.deadline.interrupted(),
            _ => err,
        }
    }

    /// Begins a new message, with a time-out of its own.
    fn end_message(&mut self) {
        self.waiting = None;
        self.is_blocking = false;
    }

    /// Waits for room in the socket, which `file` refers to, as `sendmsg(2)` does.
    ///
    /// # Errors
    ///
    /// Only if no byte of the message was sent. Otherwise `sendmsg(2)` would have returned a short
    /// count, and the rest is sent as a new message.
    ///
    /// - The pending error of the socket, which this takes, see [`Socket::take_send_error`]. The
    ///   next message to an AF_UNIX socket would fail with [`EPIPE`] instead, and raise `SIGPIPE`.
    /// - [`ERESTARTSYS`]: a signal is pending; [`EINTR`] if the socket has a time-out
    ///   (`SO_SNDTIMEO`). If that has passed, one more attempt follows.
    #[cold]
    fn wait(&mut self, file: &LocalFile, pipe: &mut Pipe<'_>) -> Result {
        let socket = self.socket;
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            deadline: socket.send_deadline(),
            is_last: false,
            rest: None,
        });
        let waited = socket.wait_writable(file, pipe, waiting.deadline);
        if self.progress.bytes != self.bytes_at_wait {
            self.bytes_at_wait = self.progress.bytes;
            self.tries = Tries::default();
        }
        let error = socket.take_send_error(waiting.rest.is_some());
        let ret = error.and_then(|()| match waited {
            Waited::Interrupted => Err(waiting.deadline.interrupted()),
            Waited::TimedOut if waiting.rest.is_some() => Err(EAGAIN),
            Waited::TimedOut => {
                waiting.is_last = true;
                Ok(())
            }
            waited => {
                self.is_blocking = self.tries.are_futile(waited);
                Ok(())
            }
        });
        if ret.is_err() && waiting.rest.is_some() {
            self.end_message();
            return Ok(());
        }
        ret
    }
}

/// Sends a copy of the first `len` bytes of `buf`, which is at most one page, and returns how many
/// bytes the socket took. Returns [`ENOMEM`] if there is no page for the copy, and the errors of
/// `sendmsg(2)`.
#[inline(never)]
fn send_copy(
    buf: &PipeBuffer,
    len: usize,
    socket: &Socket,
    more: bool,
    dont_wait: bool,
) -> Result<usize> {
    let mut array = PageArray::new();
    let mut pages = FreshPages::alloc(&mut array, 1)?;
    pages.copy_buffer(buf, len);
    let copy = pages.into_buffer().ok_or(ENOMEM)?;
    let mut vecs = [const { MaybeUninit::<BioVec>::uninit() }; 1];
    let mut pieces = Pieces::new(&mut vecs);
    pieces.push(&copy, copy.len());
    socket.send_pages(&pieces, more, dont_wait)
}
