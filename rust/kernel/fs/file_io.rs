// SPDX-License-Identifier: GPL-2.0

//! Files as the source or the sink of a transfer.
//!
//! This module adds to [`LocalFile`] what transfers need: the lookup of a descriptor, checks of the
//! file's mode and of permissions, calls of the file's operations, and notifications.
//!
//! The methods take a [`LocalFile`], not a `File`: a transfer runs in the task that looked the file
//! up. As in C, they read and set the file position without its lock.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/fsnotify.h`](srctree/include/linux/fsnotify.h)

use super::{
    file::{flags, Offset},
    LocalFile, //
};
use crate::{
    bindings,
    iov::{IovIterDest, IovIterSource},
    pipe::{FunctionAddr, Pipe, PipeRing},
    prelude::*,
    splice::{to_size, SpliceFlags},
    sync::atomic::{ordering::Relaxed, Atomic},
    warn_on, //
};
use core::mem::MaybeUninit;

impl LocalFile {
    /// Runs `f` on the file that the descriptor `fd` of the current task refers to. C: `CLASS(fd,
    /// f)`.
    ///
    /// Takes no reference to the file if no other task shares the descriptor table.
    ///
    /// Returns [`EBADF`] if `fd` is not open or was opened with `O_PATH`, and the error of `f` if
    /// that fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{fs::LocalFile, pipe::Pipe, prelude::*};
    ///
    /// /// Returns whether `fd` is an end of a pipe.
    /// fn is_pipe(fd: c_int) -> Result<bool> {
    ///     LocalFile::with_fd(fd, |file| Ok(Pipe::of_file(file).is_some()))
    /// }
    /// ```
    #[inline]
    pub fn with_fd<R>(fd: c_int, f: impl FnOnce(&LocalFile) -> Result<R>) -> Result<R> {
        struct Fd(bindings::fd);

        impl Drop for Fd {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: The value comes from `fdget` and is passed to `fdput` once.
                unsafe { bindings::fdput(self.0) };
            }
        }

        // SAFETY: `fdget` accepts any number.
        // CAST: The kernel looks up descriptors as unsigned numbers.
        let fd = Fd(unsafe { bindings::fdget(fd as c_uint) });
        // SAFETY: The value comes from `fdget`.
        let file = unsafe { bindings::fd_to_file(fd.0) };
        if file.is_null() {
            return Err(EBADF);
        }
        // SAFETY: The file is valid until `fdput`, which is called after `f`. It was looked up in
        // this task, so an `fdget_pos` that did not take the lock is in this task as well.
        f(unsafe { LocalFile::from_raw_file(file) })
    }

    /// Returns whether at least one bit of `mode` is set in the mode of the file.
    #[inline]
    fn has_mode(&self, mode: bindings::fmode_t) -> bool {
        // SAFETY: The file is valid, since there is a reference to it. Other bits may change
        // concurrently, hence the volatile load.
        unsafe { (&raw const (*self.as_ptr()).f_mode).read_volatile() & mode != 0 }
    }

    /// Returns whether the file is open for reading. C: `FMODE_READ`.
    #[inline]
    pub fn is_readable(&self) -> bool {
        self.has_mode(bindings::FMODE_READ)
    }

    /// Returns whether the file is open for writing. C: `FMODE_WRITE`.
    #[inline]
    pub fn is_writable(&self) -> bool {
        self.has_mode(bindings::FMODE_WRITE)
    }

    /// Returns whether this is a regular file. C: `S_ISREG`.
    #[inline]
    pub fn is_regular(&self) -> bool {
        // SAFETY: The file is valid, since there is a reference to it, and an open file has an
        // inode, whose type does not change.
        let mode = unsafe { (*(*self.as_ptr()).f_inode).i_mode };
        u32::from(mode) & bindings::S_IFMT == bindings::S_IFREG
    }

    /// Returns whether the file has a position that can be changed. C: `FMODE_LSEEK`.
    #[inline]
    pub fn is_seekable(&self) -> bool {
        self.has_mode(bindings::FMODE_LSEEK)
    }

    /// Returns whether the file can be read at a given position. C: `FMODE_PREAD`.
    #[inline]
    pub fn can_pread(&self) -> bool {
        self.has_mode(bindings::FMODE_PREAD)
    }

    /// Returns whether the file can be written at a given position. C: `FMODE_PWRITE`.
    #[inline]
    pub fn can_pwrite(&self) -> bool {
        self.has_mode(bindings::FMODE_PWRITE)
    }

    /// Returns the error for a caller that gives an offset for a file without positions: [`ESPIPE`]
    /// for the stream of a driver (`FOP_SPLICE_STREAM`), [`EINVAL`] for other files.
    #[cold]
    pub fn no_offset(&self) -> Error {
        if self.is_driver_stream() {
            ESPIPE
        } else {
            EINVAL
        }
    }

    /// Returns whether the file is the stream of a driver in Rust (`FOP_SPLICE_STREAM`).
    #[inline]
    pub fn is_driver_stream(&self) -> bool {
        self.operations().fop_flags & bindings::FOP_SPLICE_STREAM != 0
    }

    /// Returns whether `->write_iter` heeds `IOCB_NOWAIT`, and `->poll` reports when it has room
    /// again (`FOP_SPLICE_NOWAIT`). Terminals do.
    #[inline]
    pub fn writes_without_wait(&self) -> bool {
        self.operations().fop_flags & bindings::FOP_SPLICE_NOWAIT != 0
    }

    /// Returns whether all bits of `flags` are set in the flags of the file. The bits are those of
    /// [`crate::fs::file::flags`].
    #[inline]
    pub fn has_flags(&self, flags: u32) -> bool {
        self.flags() & flags == flags
    }

    /// Makes later operations with `RWF_NOWAIT` on the file of a pipe fail. C: `pipe_clear_nowait`.
    ///
    /// The mutex of a pipe can be held for a long time during a transfer, so an operation that
    /// takes it cannot promise not to wait.
    #[inline]
    pub fn clear_nowait(&self) {
        if !self.has_mode(bindings::FMODE_NOWAIT) {
            return;
        }
        // SAFETY: The file is valid, since there is a reference to it. All code changes this field
        // atomically once the file is open.
        let mode = unsafe { Atomic::<u32>::from_ptr(&raw mut (*self.as_ptr()).f_mode) };
        let mut old = mode.load(Relaxed);
        while old & bindings::FMODE_NOWAIT != 0 {
            match mode.cmpxchg(old, old & !bindings::FMODE_NOWAIT, Relaxed) {
                Ok(_) => break,
                Err(now) => old = now,
            }
        }
    }

    /// Returns the file position, in bytes.
    ///
    /// The lock of the position is not taken. As in C, concurrent transfers that use the position
    /// see its old or its new value.
    #[inline]
    pub fn pos(&self) -> Offset {
        // SAFETY: The file is valid, since there is a reference to it. The position may change
        // concurrently, hence the volatile load.
        unsafe { (&raw const (*self.as_ptr()).f_pos).read_volatile() }
    }

    /// Sets the file position, without its lock. See [`Self::pos`].
    #[inline]
    pub fn set_pos(&self, pos: Offset) {
        // SAFETY: The file is valid, since there is a reference to it. The position may be read
        // concurrently, hence the volatile store.
        unsafe { (&raw mut (*self.as_ptr()).f_pos).write_volatile(pos) }
    }

    /// Checks whether `len` bytes at `pos` may be read. May sleep. C: `rw_verify_area(READ, ...)`.
    ///
    /// Returns [`EINVAL`] if the range is impossible, or the error of a security module.
    ///
    /// `len` may be larger than what is transferred later: one check covers all parts of a
    /// transfer.
    #[inline]
    pub fn verify_read(&self, pos: &Offset, len: usize) -> Result {
        self.verify(bindings::READ, pos, len)
    }

    /// Checks whether `len` bytes at `pos` may be written. Otherwise the same as
    /// [`Self::verify_read`].
    #[inline]
    pub fn verify_write(&self, pos: &Offset, len: usize) -> Result {
        self.verify(bindings::WRITE, pos, len)
    }

    /// Checks the range for `direction`, which is `READ` or `WRITE`.
    #[inline]
    fn verify(&self, direction: u32, pos: &Offset, len: usize) -> Result {
        // SAFETY: The file is valid, since there is a reference to it, and so is the position.
        let ret = unsafe { bindings::rw_verify_area(direction as c_int, self.as_ptr(), pos, len) };
        if ret < 0 {
            return Err(Error::from_errno(ret));
        }
        Ok(())
    }

    /// Returns the operations of the file.
    #[inline]
    fn operations(&self) -> &bindings::file_operations {
        // SAFETY: An open file has a table of operations, and holds a reference to the module that
        // the table is in.
        unsafe { &*(*self.as_ptr()).f_op }
    }

    /// Returns whether the file has `->splice_read`.
    #[inline]
    pub fn has_splice_read(&self) -> bool {
        self.operations().splice_read.is_some()
    }

    /// Returns whether `->splice_read` is `copy_splice_read`, which reads into new pages.
    #[inline]
    pub fn splices_by_copy(&self) -> bool {
        let splice_read = self.operations().splice_read.map(|f| f as usize);
        splice_read == Some(bindings::copy_splice_read as *const () as usize)
    }

    /// Calls `->splice_read`: reads up to `len` bytes at `pos` into `ring`. Returns the number of
    /// bytes, and advances `pos`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBADF`]: the file is not open for reading.
    /// - [`EINVAL`]: the file has no `->splice_read`.
    /// - Those of `->splice_read`.
    ///
    /// `->splice_read` adds buffers to the ring. It does not wake the readers, and it may unlock
    /// the pipe while a driver waits for its device, so the caller reads the indices of the ring
    /// again afterwards.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     fs::{file::Offset, LocalFile},
    ///     pipe::Pipe,
    ///     prelude::*,
    ///     splice::{room_in_bytes, wait_for_room, SpliceFlags}, //
    /// };
    ///
    /// /// Reads from `file` into a pipe, as much as there is room for.
    /// fn fill(file: &LocalFile, pos: &mut Offset, pipe: &mut Pipe<'_>) -> Result<usize> {
    ///     let flags = SpliceFlags::empty();
    ///     let mut guard = pipe.lock();
    ///     let mut ring = guard.ring();
    ///     wait_for_room(&mut ring, flags)?;
    ///     let len = room_in_bytes(&ring);
    ///     file.verify_read(pos, len)?;
    ///     let bytes = file.call_splice_read(pos, &mut ring, len, flags)?;
    ///     drop(guard);
    ///     if bytes > 0 {
    ///         pipe.wake_readers();
    ///     }
    ///     Ok(bytes)
    /// }
    /// ```
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
        // SAFETY: The file is valid, since there is a reference to it, and so is the position.
        // `ring` has exclusive access to the ring of its pipe, as `->splice_read` requires.
        to_size(unsafe { splice_read(self.as_ptr(), pos, ring.as_ptr(), len, flags.into()) })
    }

    /// Calls `->splice_write`: writes up to `len` bytes of `pipe` at `pos`. Returns the number of
    /// bytes, and advances `pos`. May sleep. `->splice_write` locks the pipe.
    ///
    /// # Errors
    ///
    /// - [`EBADF`]: the file is not open for writing.
    /// - [`EINVAL`]: the file has no `->splice_write`.
    /// - Those of `->splice_write`.
    #[inline(always)]
    pub fn call_splice_write(
        &self,
        pipe: &mut Pipe<'_>,
        pos: &mut Offset,
        len: usize,
        flags: SpliceFlags,
    ) -> Result<usize> {
        if !self.is_writable() {
            return Err(EBADF);
        }
        let splice_write = self.operations().splice_write.ok_or(EINVAL)?;
        // SAFETY: The file is valid, since there is a reference to it, and so is the position. The
        // pipe is valid by the invariant of `Pipe`. It is not locked, because a guard would borrow
        // its handle.
        to_size(unsafe { splice_write(pipe.as_ptr(), self.as_ptr(), pos, len, flags.into()) })
    }

    /// Calls `->splice_eof`, if the file has one: no more data follows, although the last write
    /// announced some with `SPLICE_F_MORE`. May sleep.
    #[inline]
    pub fn call_splice_eof(&self) {
        if let Some(splice_eof) = self.operations().splice_eof {
            // SAFETY: The file is valid, since there is a reference to it.
            unsafe { splice_eof(self.as_ptr()) };
        }
    }

    /// Returns whether the file may be given references to pages that others can see: its
    /// operations were declared to only read what they write (`FOP_MAY_SPLICE`), see
    /// [`policy`](crate::splice::policy).
    #[inline(always)]
    pub fn is_audited(&self) -> bool {
        self.operations().fop_flags & bindings::FOP_MAY_SPLICE != 0
    }

    /// Returns the address of `->splice_read`, for reports.
    pub fn splice_read_function(&self) -> FunctionAddr {
        self.operations()
            .splice_read
            .map_or(FunctionAddr::NONE, |function| {
                FunctionAddr::new(function as usize)
            })
    }

    /// Returns the address of `->splice_write`, for reports.
    pub fn splice_write_function(&self) -> FunctionAddr {
        self.operations()
            .splice_write
            .map_or(FunctionAddr::NONE, |function| {
                FunctionAddr::new(function as usize)
            })
    }

    /// Returns the address of `->write_iter`, for reports.
    pub fn write_iter_function(&self) -> FunctionAddr {
        self.operations()
            .write_iter
            .map_or(FunctionAddr::NONE, |function| {
                FunctionAddr::new(function as usize)
            })
    }

    /// Returns whether `->splice_write` asks for the policy itself: it is `iter_file_splice_write`
    /// or that of sockets. Also returns `true` if there is none.
    #[inline(always)]
    pub fn splice_write_asks(&self) -> bool {
        // SAFETY: Only the addresses of the functions are used.
        unsafe { bindings::splice_write_asks(self.operations().splice_write) }
    }

    /// Returns whether the file is a regular one whose `->splice_read` heeds
    /// [`SpliceFlags::no_wait`]: it is `filemap_splice_read`, or calls that (
    /// `FOP_SPLICE_READ_NOWAIT`), and the file system can read without a wait (`FMODE_NOWAIT`).
    #[inline]
    pub fn reads_without_wait(&self) -> bool {
        let splice_read = self.operations().splice_read.map(|f| f as usize);
        let is_of_page_cache = self.operations().fop_flags & bindings::FOP_SPLICE_READ_NOWAIT != 0
            || splice_read == Some(bindings::filemap_splice_read as *const () as usize);
        is_of_page_cache
            && self.is_regular()
            && self.has_mode(bindings::FMODE_NOWAIT)
            && !self.bypasses_page_cache()
    }

    /// Returns the size of a regular file in bytes. It can change at any time. C: `i_size_read`.
    #[inline]
    pub fn size(&self) -> Offset {
        // SAFETY: The file is valid, since there is a reference to it, and an open file has a
        // mapping with an inode.
        unsafe { bindings::file_size(self.as_ptr()) }
    }

    /// Returns whether the file has `->write_iter`.
    #[inline]
    pub fn has_write_iter(&self) -> bool {
        self.operations().write_iter.is_some()
    }

    /// Calls `->write_iter` synchronously: writes the data of `from` at `pos`. Returns the number
    /// of bytes, at most the length of `from`, and advances `pos`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBADF`]: the file is not open for writing.
    /// - [`EINVAL`]: the file has no `->write_iter`.
    /// - Those of `->write_iter`.
    ///
    /// A result above the length of `from` is a bug of the file. It is warned about and cut,
    /// because the caller would drop data from the pipe that was never written.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use kernel::{
    ///     fs::{file::Offset, LocalFile},
    ///     pipe::PipeBuffer,
    ///     prelude::*,
    ///     splice::Pieces, //
    /// };
    ///
    /// /// Writes the bytes of one buffer, whose contents were confirmed, to a file. The caller has
    /// /// called `start_write`.
    /// fn write(file: &LocalFile, pos: &mut Offset, buf: &PipeBuffer) -> Result<usize> {
    ///     file.assert_write_started();
    ///     let mut slots = [const { MaybeUninit::uninit() }; 1];
    ///     let mut pieces = Pieces::new(&mut slots);
    ///     pieces.push(buf, buf.len());
    ///     file.call_write_iter(pos, pieces.source().as_iter())
    /// }
    /// ```
    #[inline]
    pub fn call_write_iter(&self, pos: &mut Offset, from: &mut IovIterSource<'_>) -> Result<usize> {
        self.write_iter::<false>(pos, from)
    }

    /// Calls `->write_iter` with `IOCB_NOWAIT`. Returns [`EAGAIN`] if the file has no room, and a
    /// short count if it has too little. Otherwise this is [`Self::call_write_iter`].
    ///
    /// The file [heeds the flag](Self::writes_without_wait).
    #[inline]
    pub fn call_write_iter_nowait(
        &self,
        pos: &mut Offset,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        self.write_iter::<true>(pos, from)
    }

    #[inline(always)]
    fn write_iter<const NOWAIT: bool>(
        &self,
        pos: &mut Offset,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        if !self.is_writable() {
            return Err(EBADF);
        }
        let write_iter = self.operations().write_iter.ok_or(EINVAL)?;
        let most = from.len();
        let mut kiocb = self.sync_kiocb(*pos);
        if NOWAIT {
            kiocb.ki_flags |= bindings::IOCB_NOWAIT;
        }
        // SAFETY: `kiocb` is initialized and synchronous, so it is not used after the call returns.
        // `from` is a valid source of data.
        let ret = unsafe { write_iter(&raw mut kiocb, from.as_raw()) };
        if ret > 0 {
            *pos = kiocb.ki_pos;
        }
        let written = to_size(ret)?;
        warn_on!(written > most);
        Ok(written.min(most))
    }

    /// Calls `->read_iter` synchronously: reads from `pos` on into `to`. Returns the number of
    /// bytes, and advances `pos`. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EBADF`]: the file is not open for reading.
    /// - [`EINVAL`]: the file has no `->read_iter`.
    /// - Those of `->read_iter`.
    #[inline]
    pub fn call_read_iter(&self, pos: &mut Offset, to: &mut IovIterDest<'_>) -> Result<usize> {
        if !self.is_readable() {
            return Err(EBADF);
        }
        let read_iter = self.operations().read_iter.ok_or(EINVAL)?;
        let mut kiocb = self.sync_kiocb(*pos);
        // SAFETY: `kiocb` is initialized and synchronous, so it is not used after the call returns.
        // `to` is a valid destination.
        let ret = unsafe { read_iter(&raw mut kiocb, to.as_raw()) };
        if ret > 0 {
            *pos = kiocb.ki_pos;
        }
        to_size(ret)
    }

    /// Returns a synchronous `struct kiocb` for the file at position `pos`.
    #[inline]
    fn sync_kiocb(&self, pos: Offset) -> bindings::kiocb {
        let mut kiocb = MaybeUninit::uninit();
        // SAFETY: The file is valid, since there is a reference to it. `init_sync_kiocb` assigns
        // the whole struct.
        let mut kiocb = unsafe {
            bindings::init_sync_kiocb(kiocb.as_mut_ptr(), self.as_ptr());
            kiocb.assume_init()
        };
        kiocb.ki_pos = pos;
        kiocb
    }

    /// Returns whether reads and writes bypass the page cache: the file was opened with `O_DIRECT`,
    /// or it is a DAX file.
    #[inline]
    pub fn bypasses_page_cache(&self) -> bool {
        // SAFETY: The file is valid, since there is a reference to it, and an open file has a
        // mapping with an inode.
        self.has_flags(flags::O_DIRECT) || unsafe { bindings::file_is_dax(self.as_ptr()) }
    }

    /// Returns whether reads go from the device directly to the memory of the caller: the file was
    /// opened with `O_DIRECT`. Reads of a DAX file are copies by the CPU and do not count.
    pub fn is_direct(&self) -> bool {
        // SAFETY: The file is valid, since there is a reference to it, and an open file has a
        // mapping with an inode.
        self.has_flags(flags::O_DIRECT) && !unsafe { bindings::file_is_dax(self.as_ptr()) }
    }

    /// Keeps the file system of the file from being frozen until the guard is dropped. Sleeps while
    /// the file system is frozen. C: `file_start_write`.
    ///
    /// Call this before the pipe is locked: freeze protection is the outer lock. The guard borrows
    /// `pipe`, the source of the write, so that nothing waits for data in it with the protection
    /// held: a function that waits borrows the pipe as well.
    ///
    /// Does nothing for a file that is not a regular one, such as a socket or a device.
    #[inline]
    pub fn start_write<'a, 'p>(&'a self, pipe: &'a mut Pipe<'p>) -> WriteGuard<'a, 'p> {
        // SAFETY: The file is valid, since there is a reference to it.
        unsafe { bindings::file_start_write(self.as_ptr()) };
        WriteGuard { file: self, pipe }
    }

    /// Checks that the current task has called [`Self::start_write`] for this file. Does nothing
    /// without `CONFIG_LOCKDEP`.
    #[inline]
    pub fn assert_write_started(&self) {
        // SAFETY: The file is valid, since there is a reference to it.
        unsafe { bindings::file_assert_write_started(self.as_ptr()) };
    }

    /// Updates the time of the last access, unless the file was opened with `O_NOATIME`. May sleep.
    /// C: `file_accessed`.
    #[inline]
    pub fn accessed(&self) {
        // SAFETY: The file is valid, since there is a reference to it.
        unsafe { bindings::file_accessed(self.as_ptr()) };
    }

    /// Notifies watchers (inotify, fanotify) that the file was read. May sleep. C:
    /// `fsnotify_access`.
    ///
    /// Call this once for each system call that read something, not for each buffer.
    #[inline]
    pub fn notify_access(&self) {
        // SAFETY: The file is valid, since there is a reference to it.
        unsafe { bindings::fsnotify_access(self.as_ptr()) };
    }

    /// Notifies watchers (inotify, fanotify) that the file was written. May sleep. C:
    /// `fsnotify_modify`.
    #[inline]
    pub fn notify_modify(&self) {
        // SAFETY: The file is valid, since there is a reference to it.
        unsafe { bindings::fsnotify_modify(self.as_ptr()) };
    }
}

/// Protection of a file's file system against being frozen. Dropping the guard ends it.
pub struct WriteGuard<'a, 'p> {
    file: &'a LocalFile,
    pipe: &'a mut Pipe<'p>,
}

impl<'p> WriteGuard<'_, 'p> {
    /// Returns the pipe that the file is written from. The guard stays borrowed meanwhile.
    #[inline]
    pub fn pipe(&mut self) -> &mut Pipe<'p> {
        self.pipe
    }
}

impl Drop for WriteGuard<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `start_write`, which made the guard, has called `file_start_write`, and the file
        // is valid as long as it is borrowed.
        unsafe { bindings::file_end_write(self.file.as_ptr()) };
    }
}
