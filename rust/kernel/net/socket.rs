// SPDX-License-Identifier: GPL-2.0

//! Sockets as the sink of a transfer.
//!
//! C header: [`include/linux/net.h`](srctree/include/linux/net.h)

use crate::{
    bindings,
    fs::LocalFile,
    prelude::*,
    splice::{to_size, Pieces},
    sync::aref::ARef,
    types::Opaque,
    vmsplice::{Sending, TrackedMemory},
};
use core::ptr;

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
    /// The call blocks while the send buffer is full, with the caller's pipe locked. So `dont_wait`
    /// is the `O_NONBLOCK` of the socket, which is independent of `SPLICE_F_NONBLOCK`.
    #[inline]
    pub fn send_pages(&self, pieces: &Pieces<'_>, more: bool, dont_wait: bool) -> Result<usize> {
        self.send(pieces, bindings::MSG_SPLICE_PAGES, None, more, dont_wait)
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
        mut flags: u32,
        sending: Option<&Sending>,
        more: bool,
        dont_wait: bool,
    ) -> Result<usize> {
        if more {
            flags |= bindings::MSG_MORE;
        }
        if dont_wait {
            flags |= bindings::MSG_DONTWAIT;
        }
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
}
