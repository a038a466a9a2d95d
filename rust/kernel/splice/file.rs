// SPDX-License-Identifier: GPL-2.0

//! Files, as the ends of a transfer.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/fsnotify.h`](srctree/include/linux/fsnotify.h)

#[cfg(CONFIG_NET)]
use super::{loan::Loan, notify::Sending};
use super::{to_size, SpliceFlags};
use crate::{
    bindings,
    bvec::Pieces,
    fs::{
        file::{flags, Offset},
        LocalFile, //
    },
    iov::{IovIterDest, IovIterSource},
    pipe::{Pipe, PipeRing},
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{ordering::Relaxed, Atomic}, //
    },
    types::Opaque,
    warn_on, //
};
use core::mem::MaybeUninit;

impl LocalFile {
    /// Runs `f` on the file that `fd` stands for in the current task; fails with [`EBADF`] where
    /// there is none, or where it was opened with `O_PATH`.
    ///
    /// Takes no reference where the task does not share its file descriptors. C: `CLASS(fd, f)`.
    #[inline]
    pub fn with_fd<R>(fd: c_int, f: impl FnOnce(&LocalFile) -> Result<R>) -> Result<R> {
        struct Fd(bindings::fd);

        impl Drop for Fd {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: Comes from `fdget`, and is put once.
                unsafe { bindings::fdput(self.0) };
            }
        }

        // SAFETY: Any number will do.
        // CAST: The kernel looks descriptors up as unsigned numbers.
        let fd = Fd(unsafe { bindings::fdget(fd as c_uint) });
        // SAFETY: Comes from `fdget`.
        let file = unsafe { bindings::fd_to_file(fd.0) };
        if file.is_null() {
            return Err(EBADF);
        }
        // SAFETY: The file stays valid until `fdput`, which is after `f`. It is looked up in this
        // task, so any `fdget_pos` without the lock is in this task, too.
        f(unsafe { LocalFile::from_raw_file(file) })
    }

    #[inline]
    fn has_mode(&self, mode: bindings::fmode_t) -> bool {
        // SAFETY: The file is valid. Other bits may change at the same time.
        unsafe { (&raw const (*self.as_ptr()).f_mode).read_volatile() & mode != 0 }
    }

    /// Whether it was opened for reading.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.has_mode(bindings::FMODE_READ)
    }

    /// Whether it was opened for writing.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.has_mode(bindings::FMODE_WRITE)
    }

    /// Whether it has a position that can be changed.
    #[inline]
    pub fn is_seekable(&self) -> bool {
        self.has_mode(bindings::FMODE_LSEEK)
    }

    /// Whether it can be read at any position.
    #[inline]
    pub fn can_pread(&self) -> bool {
        self.has_mode(bindings::FMODE_PREAD)
    }

    /// Whether it can be written at any position.
    #[inline]
    pub fn can_pwrite(&self) -> bool {
        self.has_mode(bindings::FMODE_PWRITE)
    }

    /// What giving an offset for it comes to, where it has no positions: [`ESPIPE`] for a driver's
    /// stream, else [`EINVAL`].
    #[cold]
    pub fn no_offset(&self) -> Error {
        if self.operations().fop_flags & bindings::FOP_SPLICE_STREAM != 0 {
            ESPIPE
        } else {
            EINVAL
        }
    }

    /// Whether all of `flags`, some of [`crate::fs::file::flags`], are set.
    #[inline]
    pub fn has_flags(&self, flags: u32) -> bool {
        self.flags() & flags == flags
    }

    /// Makes later operations on a pipe's file that ask not to block by `RWF_NOWAIT` fail: a
    /// transfer may hold the pipe's lock for as long as it likes.
    #[inline]
    pub fn clear_nowait(&self) {
        if !self.has_mode(bindings::FMODE_NOWAIT) {
            return;
        }
        // SAFETY: The file is valid, and this field is changed atomically by all.
        let mode = unsafe { Atomic::<u32>::from_ptr(&raw mut (*self.as_ptr()).f_mode) };
        let mut old = mode.load(Relaxed);
        while old & bindings::FMODE_NOWAIT != 0 {
            match mode.cmpxchg(old, old & !bindings::FMODE_NOWAIT, Relaxed) {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
    }

    /// The file position, without its lock: as in C, transfers that use it at the same time see
    /// one or the other value.
    #[inline]
    pub fn pos(&self) -> Offset {
        // SAFETY: The file is valid.
        unsafe { (&raw const (*self.as_ptr()).f_pos).read_volatile() }
    }

    /// Sets the file position; see [`Self::pos`].
    #[inline]
    pub fn set_pos(&self, pos: Offset) {
        // SAFETY: The file is valid.
        unsafe { (&raw mut (*self.as_ptr()).f_pos).write_volatile(pos) }
    }

    /// Whether reading `len` bytes at `pos` is permitted. Fails with [`EINVAL`] for an impossible
    /// range, and as the security modules have it. C: `rw_verify_area(READ, ...)`.
    #[inline]
    pub fn verify_read(&self, pos: &Offset, len: usize) -> Result {
        self.verify(bindings::READ, pos, len)
    }

    /// As [`Self::verify_read`], for writing.
    #[inline]
    pub fn verify_write(&self, pos: &Offset, len: usize) -> Result {
        self.verify(bindings::WRITE, pos, len)
    }

    #[inline]
    fn verify(&self, direction: u32, pos: &Offset, len: usize) -> Result {
        // SAFETY: The file and the position are valid.
        let ret = unsafe { bindings::rw_verify_area(direction as c_int, self.as_ptr(), pos, len) };
        if ret < 0 {
            return Err(Error::from_errno(ret));
        }
        Ok(())
    }

    #[inline]
    fn operations(&self) -> &bindings::file_operations {
        // SAFETY: An open file has operations, and they outlive it.
        unsafe { &*(*self.as_ptr()).f_op }
    }

    /// Whether there is a `->splice_read`.
    #[inline]
    pub fn has_splice_read(&self) -> bool {
        self.operations().splice_read.is_some()
    }

    /// Calls the file's `->splice_read`. Fails with [`EBADF`] where it is not open for reading, and
    /// with [`EINVAL`] where there is none.
    #[inline(always)]
    pub fn call_splice_read(
        &self,
        pos: &mut Offset,
        ring: &mut PipeRing<'_>,
        len: usize,
        flags: SpliceFlags,
    ) -> Result<usize> {
        if !self.is_readable() {
            return Err(EBADF);
        }
        let splice_read = self.operations().splice_read.ok_or(EINVAL)?;
        // SAFETY: All are valid; access to the ring is ours to lend.
        to_size(unsafe { splice_read(self.as_ptr(), pos, ring.as_ptr(), len, flags.into()) })
    }

    /// Calls the file's `->splice_write`. Fails with [`EBADF`] where it is not open for writing,
    /// and with [`EINVAL`] where there is none.
    #[inline(always)]
    pub fn call_splice_write(
        &self,
        pipe: Pipe<'_>,
        pos: &mut Offset,
        len: usize,
        flags: SpliceFlags,
    ) -> Result<usize> {
        if !self.is_writable() {
            return Err(EBADF);
        }
        let splice_write = self.operations().splice_write.ok_or(EINVAL)?;
        // SAFETY: All are valid; the handle goes along.
        to_size(unsafe { splice_write(pipe.as_ptr(), self.as_ptr(), pos, len, flags.into()) })
    }

    /// Calls the file's `->splice_eof`, if it has one.
    #[inline]
    pub fn call_splice_eof(&self) {
        if let Some(splice_eof) = self.operations().splice_eof {
            // SAFETY: The file is valid.
            unsafe { splice_eof(self.as_ptr()) };
        }
    }

    /// Whether there is a `->write_iter`.
    #[inline]
    pub fn has_write_iter(&self) -> bool {
        self.operations().write_iter.is_some()
    }

    /// Calls the file's `->write_iter`, synchronously; where it succeeds, `pos` is moved on.
    /// Returns how many bytes it took, never more than there are in `from`.
    ///
    /// Fails with [`EBADF`] where it is not open for writing, and with [`EINVAL`] where there is
    /// none.
    #[inline]
    pub fn call_write_iter(&self, pos: &mut Offset, from: &mut IovIterSource<'_>) -> Result<usize> {
        if !self.is_writable() {
            return Err(EBADF);
        }
        let write_iter = self.operations().write_iter.ok_or(EINVAL)?;
        let most = from.len();
        let mut kiocb = self.sync_kiocb(*pos);
        // SAFETY: All are valid, and the call is through when it returns.
        let ret = unsafe { write_iter(&raw mut kiocb, from.as_raw()) };
        if ret > 0 {
            *pos = kiocb.ki_pos;
        }
        let written = to_size(ret)?;
        warn_on!(written > most);
        Ok(written.min(most))
    }

    /// Calls the file's `->read_iter`, synchronously; where it succeeds, `pos` is moved on.
    ///
    /// Fails with [`EBADF`] where it is not open for reading, and with [`EINVAL`] where there is
    /// none.
    #[inline]
    pub fn call_read_iter(&self, pos: &mut Offset, to: &mut IovIterDest<'_>) -> Result<usize> {
        if !self.is_readable() {
            return Err(EBADF);
        }
        let read_iter = self.operations().read_iter.ok_or(EINVAL)?;
        let mut kiocb = self.sync_kiocb(*pos);
        // SAFETY: All are valid, and the call is through when it returns.
        let ret = unsafe { read_iter(&raw mut kiocb, to.as_raw()) };
        if ret > 0 {
            *pos = kiocb.ki_pos;
        }
        to_size(ret)
    }

    #[inline]
    fn sync_kiocb(&self, pos: Offset) -> bindings::kiocb {
        let mut kiocb = MaybeUninit::uninit();
        // SAFETY: The file is valid, and this initializes the whole.
        let mut kiocb = unsafe {
            bindings::init_sync_kiocb(kiocb.as_mut_ptr(), self.as_ptr());
            kiocb.assume_init()
        };
        kiocb.ki_pos = pos;
        kiocb
    }

    /// Whether reads and writes go past the page cache: `O_DIRECT`, or a DAX file.
    #[inline]
    pub fn bypasses_page_cache(&self) -> bool {
        // SAFETY: An open file has a mapping with an inode.
        self.has_flags(flags::O_DIRECT) || unsafe { bindings::file_is_dax(self.as_ptr()) }
    }

    /// Whether reads go from the device into the caller's memory (`O_DIRECT`), without a copy.
    pub fn is_direct(&self) -> bool {
        // SAFETY: An open file has a mapping with an inode.
        self.has_flags(flags::O_DIRECT) && !unsafe { bindings::file_is_dax(self.as_ptr()) }
    }

    /// Keeps the file's file system from being frozen until the guard is dropped; sleeps while it
    /// is. C: `file_start_write`.
    #[inline]
    pub fn start_write(&self) -> WriteGuard<'_> {
        // SAFETY: The file is valid.
        unsafe { bindings::file_start_write(self.as_ptr()) };
        WriteGuard(self)
    }

    /// Checks, with lock debugging, that somebody has done [`Self::start_write`].
    #[inline]
    pub fn assert_write_started(&self) {
        // SAFETY: The file is valid.
        unsafe { bindings::file_assert_write_started(self.as_ptr()) };
    }

    /// Updates the time of last access. C: `file_accessed`.
    #[inline]
    pub fn accessed(&self) {
        // SAFETY: The file is valid.
        unsafe { bindings::file_accessed(self.as_ptr()) };
    }

    /// Tells watchers that it was read. C: `fsnotify_access`.
    #[inline]
    pub fn notify_access(&self) {
        // SAFETY: The file is valid.
        unsafe { bindings::fsnotify_access(self.as_ptr()) };
    }

    /// Tells watchers that it was written to. C: `fsnotify_modify`.
    #[inline]
    pub fn notify_modify(&self) {
        // SAFETY: The file is valid.
        unsafe { bindings::fsnotify_modify(self.as_ptr()) };
    }
}

/// Until this is dropped, the file system of a file is not frozen.
pub struct WriteGuard<'a>(&'a LocalFile);

impl Drop for WriteGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Started when the guard was made.
        unsafe { bindings::file_end_write(self.0.as_ptr()) };
    }
}

/// A network socket that an open file stands for.
#[cfg(CONFIG_NET)]
#[repr(transparent)]
pub struct Socket(Opaque<bindings::socket>);

#[cfg(CONFIG_NET)]
impl Socket {
    /// The socket of `file`, if it is one. C: `sock_from_file`.
    #[inline]
    pub fn of_file(file: &LocalFile) -> Option<&Self> {
        // SAFETY: The file is valid.
        let sock = unsafe { bindings::sock_from_file(file.as_ptr()) };
        // SAFETY: The file keeps its socket.
        unsafe { sock.cast::<Self>().as_ref() }
    }

    /// Sends pages by reference where the protocol can, else by copying (`MSG_SPLICE_PAGES`).
    ///
    /// `more` says that further data follows at once, `dont_wait` not to block. Returns how many
    /// bytes were taken. Errors are those of `sendmsg(2)`.
    #[inline]
    pub fn send_pages(&self, pieces: &Pieces<'_>, more: bool, dont_wait: bool) -> Result<usize> {
        self.send(pieces, bindings::MSG_SPLICE_PAGES, None, more, dont_wait)
    }

    /// Sends pages by reference, and keeps `loan` until the last one is released, which may be
    /// long after this (`MSG_ZEROCOPY`). Otherwise as [`Self::send_pages`].
    ///
    /// Fails with [`EOPNOTSUPP`] where the protocol cannot do this, and with [`ENOMEM`].
    pub fn send_loaned(
        &self,
        pieces: &Pieces<'_>,
        loan: ARef<Loan>,
        more: bool,
        dont_wait: bool,
    ) -> Result<usize> {
        // SAFETY: The socket is valid.
        if !unsafe { bindings::sock_reports_release(self.0.get()) } {
            return Err(EOPNOTSUPP);
        }
        let sending = Sending::new(loan)?;
        let flags = bindings::MSG_ZEROCOPY;
        self.send(pieces, flags, Some(&sending), more, dont_wait)
    }

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
        // SAFETY: The socket is valid, and `pieces` are for the duration of the call. The socket
        // takes references to `sending` of its own.
        // CAST: The bits of an int, as C has them.
        let ret = unsafe {
            bindings::sock_send_bvec(
                self.0.get(),
                vecs,
                len,
                bytes,
                flags as c_int,
                sending.map_or(core::ptr::null_mut(), Sending::as_ptr),
            )
        };
        Ok(to_size(ret as isize)?.min(bytes))
    }
}
