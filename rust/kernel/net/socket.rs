// SPDX-License-Identifier: GPL-2.0

//! Sockets as the source or the sink of a transfer.
//!
//! C header: [`include/linux/net.h`](srctree/include/linux/net.h)

use crate::{
    bindings,
    fs::LocalFile,
    pipe::{FunctionAddr, Pipe, DEFAULT_BUFFERS},
    prelude::*,
    splice::{to_size, wait_for_file, Deadline, Pieces, Waited},
    sync::{
        aref::ARef,
        poll::{PollEvent, PollEvents}, //
    },
    types::Opaque,
    vmsplice::{Sending, TrackedMemory},
};
use core::{mem::MaybeUninit, ptr};

/// A network socket that an open file refers to. C: `struct socket`.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use kernel::{
///     fs::LocalFile,
///     net::Socket,
///     pipe::{PipeRing, DEFAULT_BUFFERS},
///     prelude::*,
///     splice::Pieces, //
/// };
///
/// /// Sends as much as one message takes of the data in a pipe, and returns the number of bytes.
/// fn send(ring: &mut PipeRing<'_>, file: &LocalFile) -> Result<usize> {
///     let socket = Socket::of_file(file).ok_or(ENOTSOCK)?;
///     let mut slots = [const { MaybeUninit::uninit() }; DEFAULT_BUFFERS];
///     let mut pieces = Pieces::new(&mut slots);
///     let more = pieces.gather_unless_tracked(ring, usize::MAX)?;
///     if pieces.is_empty() {
///         return Ok(0);
///     }
///     let sent = socket.send_pages(&pieces, more, false)?;
///     // The socket has its own references to the pages that it sends.
///     ring.consume(sent);
///     Ok(sent)
/// }
/// ```
#[repr(transparent)]
pub struct Socket(Opaque<bindings::socket>);

impl Socket {
    /// Returns the socket of `file`, or `None` if the file is not a socket. C: `sock_from_file`.
    #[inline]
    pub fn of_file(file: &LocalFile) -> Option<&Self> {
        // SAFETY: The file is valid, since there is a reference to it.
        let sock = unsafe { bindings::sock_from_file(file.as_ptr()) };
        // SAFETY: The pointer is null, or valid as long as the file, which is borrowed. `Socket` is
        // a transparent wrapper of `struct socket`.
        unsafe { sock.cast::<Self>().as_ref() }
    }

    /// Returns whether the protocol has an operation for splice that passes its pages on.
    #[inline]
    pub fn has_splice_read(&self) -> bool {
        // SAFETY: The socket is valid, since there is a reference to it, and so are its operations.
        // They may be replaced at any time, hence the volatile load.
        unsafe {
            let ops = (&raw const (*self.0.get()).ops).read_volatile();
            (*ops).splice_read.is_some()
        }
    }

    /// Sends pages by reference if the protocol supports that, and by copying otherwise. May sleep.
    /// C: `sock_sendmsg` with `MSG_SPLICE_PAGES`.
    ///
    /// If `more` is true, the protocol may wait for further data to fill its packets. If
    /// `dont_wait` is true, the call does not block.
    ///
    /// Returns the number of bytes that the socket took. Errors are those of `sendmsg(2)`.
    ///
    /// A protocol that sends by reference, such as TCP, keeps references to the pages until the
    /// data is acknowledged. It reads the pages when it transmits them, so the receiver sees what
    /// the owner of the memory writes until then.
    ///
    /// Without `dont_wait` the call blocks while the send buffer is full, with the caller's pipe
    /// locked. A caller that can wait by [`Self::wait_writable`] sets it.
    #[inline]
    pub fn send_pages(&self, pieces: &Pieces<'_>, more: bool, dont_wait: bool) -> Result<usize> {
        self.send(pieces, bindings::MSG_SPLICE_PAGES, None, more, dont_wait)
    }

    /// Returns whether the protocol may be given references to pages that others can see: the
    /// function that sends was declared to only read them, see
    /// [`policy`](crate::splice::policy).
    ///
    /// The protocol of a socket can change at any time, so ask right before each send. A change
    /// between the answer and the send is not noticed.
    #[inline]
    pub fn is_audited(&self) -> bool {
        // SAFETY: The socket is valid, since there is a reference to it.
        unsafe { bindings::sock_is_audited(self.0.get()) }
    }

    /// Returns the address of the function that sends, for reports.
    pub fn send_function(&self) -> FunctionAddr {
        // SAFETY: The socket is valid, since there is a reference to it.
        let function = unsafe { bindings::sock_sendmsg_function(self.0.get()) };
        FunctionAddr::new(function as usize)
    }

    /// Sends a copy of the data in up to [`DEFAULT_BUFFERS`] pieces. The protocol gets addresses
    /// and no pages, and copies as for `send(2)`. May sleep. The arguments and the result are those
    /// of [`Self::send_pages`].
    pub fn send_copy(&self, pieces: &Pieces<'_>, more: bool, dont_wait: bool) -> Result<usize> {
        let mut vecs = [const { MaybeUninit::uninit() }; DEFAULT_BUFFERS];
        let (len, bytes) = pieces.addresses(&mut vecs);
        let flags = send_flags(more, dont_wait);
        // SAFETY: The socket is valid, since there is a reference to it. The first `len` elements
        // of `vecs` are initialized, and describe memory that `pieces` keeps during the call.
        // CAST: The flags are the bits of an int in C.
        let ret = unsafe {
            bindings::sock_send_kvec(
                self.0.get(),
                vecs.as_ptr().cast(),
                len,
                bytes,
                flags as c_int,
            )
        };
        Ok(to_size(ret as isize)?.min(bytes))
    }

    /// Sends pages by reference, and keeps `memory` until the last of them is released, which may
    /// be long after this call. The arguments and the result are those of [`Self::send_pages`]. C:
    /// `sock_sendmsg` with `MSG_ZEROCOPY`.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`]: the protocol does not report when it releases pages.
    /// - [`ENOMEM`]: there is no memory to track the pages.
    /// - Those of `sendmsg(2)`.
    ///
    /// If the socket cannot take all, it may still have taken a part: consume as many bytes as this
    /// returns, and no more.
    pub fn send_tracked(
        &self,
        pieces: &Pieces<'_>,
        memory: ARef<TrackedMemory>,
        more: bool,
        dont_wait: bool,
    ) -> Result<usize> {
        // SAFETY: The socket is valid, since there is a reference to it.
        if !unsafe { bindings::sock_reports_release(self.0.get()) } {
            return Err(EOPNOTSUPP);
        }
        let sending = Sending::new(memory)?;
        let flags = bindings::MSG_ZEROCOPY;
        self.send(pieces, flags, Some(&sending), more, dont_wait)
    }

    /// Calls `sock_sendmsg` with `flags`. Each packet takes its own reference to `sending`.
    #[inline(always)]
    fn send(
        &self,
        pieces: &Pieces<'_>,
        flags: u32,
        sending: Option<&Sending>,
        more: bool,
        dont_wait: bool,
    ) -> Result<usize> {
        let flags = flags | send_flags(more, dont_wait);
        let (vecs, len, bytes) = pieces.as_raw();
        // SAFETY: The socket is valid, since there is a reference to it, and `pieces` is valid
        // during the call. The socket takes references to the pages and to `sending`, so it does
        // not use the borrowed ones afterwards.
        // CAST: The flags are the bits of an int in C.
        let ret = unsafe {
            bindings::sock_send_bvec(
                self.0.get(),
                vecs,
                len,
                bytes,
                flags as c_int,
                sending.map_or(ptr::null_mut(), Sending::as_ptr),
            )
        };
        Ok(to_size(ret as isize)?.min(bytes))
    }

    /// Returns the deadline of a receive that begins to wait now (`SO_RCVTIMEO`).
    pub fn receive_deadline(&self) -> Deadline {
        // SAFETY: The socket is valid, since there is a reference to it.
        Deadline::after(unsafe { bindings::socket_rcvtimeo(self.0.get()) })
    }

    /// Returns the deadline of a send that begins to wait now (`SO_SNDTIMEO`).
    pub fn send_deadline(&self) -> Deadline {
        // SAFETY: The socket is valid, since there is a reference to it.
        Deadline::after(unsafe { bindings::socket_sndtimeo(self.0.get()) })
    }

    /// Returns how many bytes a receive of `len` bytes waits for (`SO_RCVLOWAT`), at least one.
    pub fn low_water_mark(&self, len: usize) -> usize {
        let len = len.try_into().unwrap_or(c_int::MAX);
        // SAFETY: The socket is valid, since there is a reference to it.
        // CAST: The result is positive.
        unsafe { bindings::socket_rcvlowat(self.0.get(), len) as usize }
    }

    /// Returns whether the socket has a pending error, or is shut down for sending or receiving.
    fn is_stopped(&self, sending: bool) -> bool {
        // SAFETY: The socket is valid, since there is a reference to it.
        unsafe { bindings::socket_is_stopped(self.0.get(), sending) }
    }

    /// Returns the error of a send that waits, as `sendmsg(2)` does: takes the pending error of the
    /// socket. AF_UNIX also looks whether the socket was shut down, and raises no signal then. C:
    /// `sock_error`, `sock_alloc_send_pskb`.
    ///
    /// If a part of the message was sent (`is_partial`), all other protocols leave the error to the
    /// next `sendmsg(2)`, which returns it and raises no `SIGPIPE`.
    pub fn take_send_error(&self, is_partial: bool) -> Result {
        // SAFETY: The socket is valid, since there is a reference to it.
        if is_partial && !unsafe { bindings::socket_is_unix(self.0.get()) } {
            return Ok(());
        }
        // SAFETY: The socket is valid, since there is a reference to it.
        let (err, is_unix) = unsafe {
            (
                bindings::socket_take_error(self.0.get()),
                bindings::socket_is_unix(self.0.get()),
            )
        };
        if err != 0 {
            Err(Error::from_errno(err))
        } else if is_unix && self.is_stopped(true) {
            Err(EPIPE)
        } else {
            Ok(())
        }
    }

    /// Sleeps until the socket, which `file` refers to, has data or urgent data, is shut down or
    /// has an error. For `pipe` see [`wait_for_file`].
    pub fn wait_readable(
        &self,
        file: &LocalFile,
        pipe: &mut Pipe<'_>,
        deadline: Deadline,
    ) -> Waited {
        // Urgent data ends a read from TCP with 0 bytes.
        let events =
            PollEvent::In | PollEvent::InNormal | PollEvent::Priority | PollEvent::ReadHangUp;
        self.wait(file, pipe, events, false, deadline)
    }

    /// Sleeps until the socket, which `file` refers to, has room, is shut down or has an error.
    /// For `pipe` see [`wait_for_file`].
    pub fn wait_writable(
        &self,
        file: &LocalFile,
        pipe: &mut Pipe<'_>,
        deadline: Deadline,
    ) -> Waited {
        let events = PollEvent::Out | PollEvent::OutNormal;
        self.wait(file, pipe, events, true, deadline)
    }

    fn wait(
        &self,
        file: &LocalFile,
        pipe: &mut Pipe<'_>,
        events: PollEvents,
        sending: bool,
        deadline: Deadline,
    ) -> Waited {
        let events = events | PollEvent::HangUp;
        wait_for_file(file, pipe, events, deadline, |ready| {
            // Look at the socket itself, too. `->poll` reports an error also for a queue of
            // messages on errors, such as time stamps, which no transfer takes. And that of AF_UNIX
            // does not report that the socket was shut down for sending.
            ready.contains_any(events) || self.is_stopped(sending)
        })
    }
}

/// Returns the flags of `sendmsg(2)` for the arguments of [`Socket::send_pages`].
#[inline(always)]
fn send_flags(more: bool, dont_wait: bool) -> u32 {
    let mut flags = 0;
    if more {
        flags |= bindings::MSG_MORE;
    }
    if dont_wait {
        flags |= bindings::MSG_DONTWAIT;
    }
    flags
}
