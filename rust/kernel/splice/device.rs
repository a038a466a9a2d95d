// SPDX-License-Identifier: GPL-2.0

//! Devices as the source or the sink of a transfer. A driver implements [`SpliceDevice`].
//!
//! - `splice_out` receives the buffers of a pipe as an iterator, [`FromPipe`]. A buffer that is
//!   taken belongs to the driver. The owner of a [`PipeBuffer`] keeps its memory alive, so a driver
//!   may keep buffers until its DMA engine is done with them, long after the call.
//! - `splice_in` puts buffers into a pipe, [`ToPipe`].
//! - `poll` and `fsync` serve programs that do not wait in these calls.
//!
//! [`MiscDevice`](crate::miscdevice::MiscDevice) declares the same operations. [`with_splice`] adds
//! them to other tables of [`file_operations`](bindings::file_operations).
//!
//! # Locking
//!
//! The pipe is locked when `splice_in` or `splice_out` is called, and all locks that the driver
//! takes nest inside the pipe's lock. A driver that waits for its device calls [`FromPipe::wait`]
//! or [`ToPipe::wait`], which unlock the pipe, so that others can use it meanwhile.
//!
//! Dropping a buffer may sleep, so a driver does not drop one under a spinlock.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/splice.h`](srctree/include/linux/splice.h)

use super::{counters::Counter, from_size, interrupted, wait_for_data, wait_for_room};
use super::{Progress, SpliceFlag, SpliceFlags};
use crate::{
    bindings,
    error::VTABLE_DEFAULT_ERROR,
    fs::{
        file::{flags::O_NONBLOCK, Offset},
        File,
        LocalFile, //
    },
    impl_flags,
    pipe::{Pipe, PipeBuffer, PipeGuard, PipeRing},
    prelude::*,
    sync::{poll::PollTable, CondVar, Mutex},
    types::ForeignOwnable, //
};
use core::{marker::PhantomData, mem};

/// The operations of a device that is the source or the sink of a transfer.
///
/// Such a device is a stream. It has no positions: if the caller of `splice(2)` gives an offset,
/// the call fails with [`ESPIPE`]. If the driver does not implement an operation, the call fails
/// with [`EINVAL`].
///
/// All operations run in the context of the calling task and may sleep.
///
/// # Examples
///
/// A complete driver: `/dev/hole` drops the data that is spliced to it.
///
/// ```
/// use kernel::{
///     c_str,
///     fs::File,
///     miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration},
///     prelude::*,
///     splice::{FromPipe, PollEvents, PollEvent},
///     sync::poll::PollTable,
/// };
///
/// struct Hole;
///
/// #[vtable]
/// impl MiscDevice for Hole {
///     type Ptr = KBox<Self>;
///
///     fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
///         Ok(KBox::new(Self, GFP_KERNEL)?)
///     }
///
///     fn splice_out(_hole: &Self, _file: &File, bufs: &mut FromPipe<'_>) -> Result {
///         // A buffer that is taken belongs to the driver, which could also keep it until a device
///         // has read it. A buffer that is not taken stays in the pipe.
///         bufs.for_each(drop);
///         Ok(())
///     }
///
///     fn poll(_hole: &Self, _file: &File, _table: PollTable<'_>) -> PollEvents {
///         PollEvent::Out | PollEvent::OutNormal
///     }
/// }
///
/// let options = MiscDeviceOptions { name: c"hole" };
/// let device = KBox::pin_init(MiscDeviceRegistration::<Hole>::register(options), GFP_KERNEL)?;
/// # drop(device);
/// # Ok::<(), Error>(())
/// ```
#[vtable]
pub trait SpliceDevice: Sized {
    /// The private data of the file.
    type Ptr: ForeignOwnable + Send + Sync;

    /// Puts data of the device into a pipe with [`ToPipe::push`], until the device has no more
    /// data, the pipe is full, or the caller wants no more. Called with the pipe locked.
    ///
    /// If the device has no data, the driver waits for some by [`ToPipe::wait`]. It does not wait
    /// once it has put data in.
    ///
    /// The call returns the number of bytes that were put in. If there are none it returns the
    /// error, or 0, which stands for the end of the data.
    fn splice_in(
        _device: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _pipe: &mut ToPipe<'_>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Takes data for the device out of a pipe. Called with the pipe locked, when there is data.
    ///
    /// `bufs` is an iterator over the buffers that the pipe has now, with no more bytes than the
    /// caller wants to transfer. Buffers that are not taken stay in the pipe in their order.
    /// Buffers that were taken can be [put back](FromPipe::put_back).
    ///
    /// The call returns the number of bytes that were taken, or the error, even if buffers were
    /// taken. A driver that fails therefore puts the buffers back, or drops the data knowingly.
    fn splice_out(
        _device: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _bufs: &mut FromPipe<'_>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns the operations that would not wait now, and registers the caller of `poll(2)` with
    /// the wait queue that the driver wakes when that changes.
    fn poll(
        _device: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _table: PollTable<'_>,
    ) -> PollEvents {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Waits until the device is done with all data that it took. Called for `fsync(2)`.
    fn fsync(_device: <Self::Ptr as ForeignOwnable>::Borrowed<'_>, _file: &File) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

impl_flags!(
    /// The events that a file is ready for. C: `__poll_t`.
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct PollEvents(u32);

    /// A single event of [`PollEvents`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum PollEvent {
        /// There is data.
        In = bindings::POLLIN,
        /// There is data of normal priority. Set it together with [`PollEvent::In`].
        InNormal = bindings::POLLRDNORM,
        /// There is room.
        Out = bindings::POLLOUT,
        /// There is room for data of normal priority. Set it together with [`PollEvent::Out`].
        OutNormal = bindings::POLLWRNORM,
        /// An error occurred.
        Error = bindings::POLLERR,
        /// The other side closed the connection.
        HangUp = bindings::POLLHUP,
    }
);

/// Adds `SPLICE_F_NONBLOCK` to `flags` if `file` was opened with `O_NONBLOCK`.
fn with_file(flags: SpliceFlags, file: &LocalFile) -> SpliceFlags {
    if file.has_flags(O_NONBLOCK) {
        flags | SpliceFlag::NonBlock
    } else {
        flags
    }
}

/// The data in a pipe, as an iterator over owned buffers. It returns at most the number of bytes
/// that the caller wants to transfer, and splits the last buffer if needed.
///
/// The contents of a returned buffer can be read: it is
/// [confirmed](crate::pipe::BufferRef::confirm), which may sleep until a page was read from its
/// file. The iterator does not wait for more data in the pipe.
///
/// Dropping this wakes the readers and writers of the pipe, if there is a reason to.
pub struct FromPipe<'a> {
    guard: PipeGuard<'a>,
    /// The number of bytes that the caller still wants.
    left: usize,
    /// The number of bytes that the driver took and did not put back.
    taken: usize,
    /// The number of buffers that can be put back.
    returnable: u32,
    /// Whether the buffer that was taken last was split off one that is still in the pipe.
    split: bool,
    wake_readers: bool,
    wake_writers: bool,
    /// The error that ended the iteration.
    failed: Option<Error>,
    may_wait: bool,
    /// [`Self::wait`] was called.
    waited: bool,
}

impl<'a> FromPipe<'a> {
    /// Creates an iterator over the first `len` bytes of the pipe.
    fn new(guard: PipeGuard<'a>, len: usize, may_wait: bool) -> Self {
        Self {
            guard,
            left: len,
            taken: 0,
            returnable: 0,
            split: false,
            wake_readers: false,
            wake_writers: false,
            failed: None,
            may_wait,
            waited: false,
        }
    }

    /// Returns whether the driver may wait for the device: neither did the caller set
    /// `SPLICE_F_NONBLOCK`, nor was the device opened with `O_NONBLOCK`.
    #[inline]
    pub fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// Returns an upper bound of the number of buffers that the iterator will return. The pipe may
    /// have more data than the caller wants.
    #[inline]
    pub fn buffers(&mut self) -> usize {
        self.guard.ring().indices().occupancy() as usize
    }

    /// Puts a buffer that was taken back into the pipe. Put several buffers back in reverse order,
    /// the last one first.
    ///
    /// Returns `Err(buf)` if the pipe was unlocked since the buffer was taken, or if that would put
    /// back more than was taken.
    pub fn put_back(&mut self, buf: PipeBuffer) -> Result<(), PipeBuffer> {
        let len = buf.len();
        if self.returnable == 0 || len > self.taken {
            return Err(buf);
        }
        let mut ring = self.guard.ring();
        if self.split {
            ring.unsplit_front(buf)
                .or_else(|buf| ring.push_front(buf))?;
        } else {
            ring.push_front(buf)?;
        }
        // While the buffer was out, a reader may have found the pipe empty without taking the lock,
        // and have gone to sleep.
        self.wake_readers |= ring.has_files();
        self.split = false;
        self.returnable -= 1;
        self.left += len;
        self.taken -= len;
        Ok(())
    }

    /// Waits until `ready` is true for the data that `state` guards, with the pipe unlocked.
    ///
    /// The driver notifies `changed` after it has changed the data. The pipe stays locked if there
    /// is no need to wait; otherwise it may be empty afterwards, and buffers that were taken cannot
    /// be put back. The driver holds no lock during the call.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: the caller [does not wait](Self::may_wait).
    /// - [`ERESTARTSYS`]: a signal is pending. Unless this is the first call, that comes before
    ///   `ready`, so that a loop that calls this can be ended.
    pub fn wait<T>(
        &mut self,
        state: &Mutex<T>,
        changed: &CondVar,
        mut ready: impl FnMut(&T) -> bool,
    ) -> Result {
        if is_ready(state, &mut ready, &mut self.waited, self.may_wait)? {
            return Ok(());
        }
        self.unlocked(|| wait_until(state, changed, &mut ready))
    }

    /// Runs `f` with the pipe unlocked. `f` may sleep.
    ///
    /// Others may take buffers out of the pipe or add some meanwhile. Buffers that were taken
    /// before cannot be put back any more.
    pub fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.returnable = 0;
        self.wake();
        self.guard.ring().unlocked(f)
    }

    /// Wakes those that wait for a change of the pipe that was made here. The pipe stays locked.
    fn wake(&mut self) {
        let mut ring = self.guard.ring();
        if mem::take(&mut self.wake_readers) {
            ring.wake_readers();
        }
        if mem::take(&mut self.wake_writers) {
            ring.wake_writers();
        }
    }

    /// Waits for data and calls `take`, until that takes some, fails, or leaves data in the pipe.
    /// Returns the number of bytes taken.
    fn feed(
        &mut self,
        flags: SpliceFlags,
        mut take: impl FnMut(&mut Self) -> Result,
    ) -> Result<usize> {
        while self.left > 0 {
            let mut progress = Progress {
                wake_writers: mem::take(&mut self.wake_writers),
                ..Progress::default()
            };
            let ready = wait_for_data(&mut self.guard.ring(), flags, &mut progress);
            self.wake_writers = progress.wake_writers;
            if !ready? {
                return Ok(0);
            }
            take(self)?;
            if self.taken > 0 {
                return Ok(self.taken);
            }
            if let Some(err) = self.failed.take() {
                // If the contents are gone, the transfer ends as at the end of a file.
                return if err == ENODATA { Ok(0) } else { Err(err) };
            }
            // If the pipe is empty, others have taken the data while the driver had it unlocked:
            // wait again.
            if !self.guard.ring().is_empty() {
                break;
            }
        }
        Ok(0)
    }
}

impl Iterator for FromPipe<'_> {
    type Item = PipeBuffer;

    fn next(&mut self) -> Option<PipeBuffer> {
        if self.left == 0 || self.failed.is_some() {
            return None;
        }
        let mut ring = self.guard.ring();
        while ring.release_empty_front() {
            self.wake_writers |= ring.has_files();
        }
        if let Err(err) = ring.iter().next()?.confirm() {
            self.failed = Some(err);
            return None;
        }
        let split = ring.front()?.len() > self.left;
        let buf = if !split {
            ring.pop_front()?
        } else {
            match ring.split_front(self.left)? {
                Ok(buf) => buf,
                Err(err) => {
                    self.failed = Some(err);
                    return None;
                }
            }
        };
        // Nobody can wait for a pipe without files.
        self.wake_writers |= ring.has_files();
        self.split = split;
        self.returnable += 1;
        self.left -= buf.len();
        self.taken += buf.len();
        Some(buf)
    }
}

impl Drop for FromPipe<'_> {
    fn drop(&mut self) {
        self.wake();
    }
}

/// A pipe that a device puts data into. The pipe is locked, or private to the caller.
pub struct ToPipe<'a> {
    ring: PipeRing<'a>,
    /// The number of bytes that the caller still wants.
    left: usize,
    /// The number of bytes that were put in.
    given: usize,
    flags: SpliceFlags,
    /// [`Self::wait`] was called.
    waited: bool,
}

impl ToPipe<'_> {
    /// Returns the number of bytes that were put in so far.
    #[inline]
    pub fn given(&self) -> usize {
        self.given
    }

    /// Returns the number of bytes that the caller still wants.
    #[inline]
    pub fn wanted(&self) -> usize {
        self.left
    }

    /// Returns whether there is no room for another buffer.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.ring.is_full()
    }

    /// Returns whether the driver may wait for the device: neither did the caller set
    /// `SPLICE_F_NONBLOCK`, nor was the device opened with `O_NONBLOCK`.
    #[inline]
    pub fn may_wait(&self) -> bool {
        !self.flags.contains(SpliceFlag::NonBlock)
    }

    /// Puts `buf` in, as far as the caller [wants](Self::wanted) its bytes and there is room.
    /// Returns the rest, which is for a later call.
    ///
    /// If a part is to be put in, both it and the rest have a reference to the memory. All of `buf`
    /// is returned if there cannot be another reference.
    #[must_use = "the rest of the data is lost if it is dropped"]
    pub fn push(&mut self, mut buf: PipeBuffer) -> Option<PipeBuffer> {
        if buf.is_empty() {
            return None;
        }
        let Some(vacancy) = self.ring.vacancy() else {
            return Some(buf);
        };
        let len = self.left.min(buf.len_in_slots(vacancy.slots()));
        let (part, rest) = if len == buf.len() {
            (buf, None)
        } else if len == 0 {
            return Some(buf);
        } else {
            match buf.split_to(len) {
                Ok(part) => (part, Some(buf)),
                Err(_) => return Some(buf),
            }
        };
        vacancy.fill(part);
        self.left -= len;
        self.given += len;
        rest
    }

    /// Waits until `ready` is true for the data that `state` guards, with the pipe unlocked, and
    /// then for room in the pipe. To be called if nothing was given.
    ///
    /// The driver notifies `changed` after it has changed the data. The pipe stays locked if there
    /// is no need to wait. The driver holds no lock during the call.
    ///
    /// # Errors
    ///
    /// - [`EAGAIN`]: the caller [does not wait](Self::may_wait).
    /// - [`ERESTARTSYS`]: a signal is pending. Unless this is the first call, that comes before
    ///   `ready`, so that a loop that calls this can be ended.
    /// - [`EPIPE`], and the signal `SIGPIPE`: nobody reads the pipe any more.
    pub fn wait<T>(
        &mut self,
        state: &Mutex<T>,
        changed: &CondVar,
        mut ready: impl FnMut(&T) -> bool,
    ) -> Result {
        let may_wait = self.may_wait();
        if is_ready(state, &mut ready, &mut self.waited, may_wait)? {
            return Ok(());
        }
        if self.given > 0 {
            self.ring.wake_readers();
        }
        self.ring
            .unlocked(|| wait_until(state, changed, &mut ready))?;
        // Others may have filled the pipe meanwhile.
        wait_for_room(&mut self.ring, self.flags)
    }
}

/// Returns whether `ready` is true for the data that `state` guards. If it is not, the caller waits.
///
/// Returns [`ERESTARTSYS`] if the caller has `waited` before and a signal is pending, and [`EAGAIN`]
/// if it has to wait and may not.
fn is_ready<T>(
    state: &Mutex<T>,
    ready: &mut impl FnMut(&T) -> bool,
    waited: &mut bool,
    may_wait: bool,
) -> Result<bool> {
    if mem::replace(waited, true) && interrupted() {
        return Err(ERESTARTSYS);
    }
    if ready(&state.lock()) {
        return Ok(true);
    }
    if may_wait {
        Ok(false)
    } else {
        Err(EAGAIN)
    }
}

/// Waits until `ready` is true for the data that `state` guards. Fails with [`ERESTARTSYS`] if a
/// signal comes first.
fn wait_until<T>(
    state: &Mutex<T>,
    changed: &CondVar,
    ready: &mut impl FnMut(&T) -> bool,
) -> Result {
    let mut state = state.lock();
    while !ready(&state) {
        if changed.wait_interruptible(&mut state) {
            return Err(ERESTARTSYS);
        }
    }
    Ok(())
}

/// Adds the operations of `T` to a table of file operations: splice, poll and fsync, if `T`
/// implements them.
///
/// The driver must open its files with `stream_open`, because they have no positions.
/// [`MiscDevice`](crate::miscdevice::MiscDevice) opens its files this way.
///
/// # Safety
///
/// When one of these operations is called, the private data of the file must come from
/// [`ForeignOwnable::into_foreign`] of `T::Ptr`, and must stay valid until all of them have
/// returned.
pub const unsafe fn with_splice<T: SpliceDevice>(
    fops: bindings::file_operations,
) -> bindings::file_operations {
    let mut fops = fops;
    if T::HAS_SPLICE_IN {
        fops.splice_read = Some(Operations::<T>::splice_read);
    }
    if T::HAS_SPLICE_OUT {
        fops.splice_write = Some(Operations::<T>::splice_write);
    }
    if T::HAS_SPLICE_IN || T::HAS_SPLICE_OUT {
        fops.fop_flags |= bindings::FOP_SPLICE_STREAM;
    }
    if T::HAS_POLL {
        fops.poll = Some(Operations::<T>::poll);
    }
    if T::HAS_FSYNC {
        fops.fsync = Some(Operations::<T>::fsync);
    }
    fops
}

/// The C functions that call the operations of [`SpliceDevice`].
struct Operations<T>(PhantomData<T>);

impl<T: SpliceDevice> Operations<T> {
    /// Returns the private data of `file`.
    ///
    /// # Safety
    ///
    /// `file` must be an open file with the private data that [`with_splice`] requires.
    unsafe fn device<'a>(file: *mut bindings::file) -> <T::Ptr as ForeignOwnable>::Borrowed<'a> {
        // SAFETY: The caller guarantees that the private data comes from `into_foreign` of
        // `T::Ptr`, and that it is valid as long as the file is open.
        unsafe { T::Ptr::borrow((*file).private_data) }
    }

    /// Calls [`SpliceDevice::splice_in`]. C: `->splice_read`.
    ///
    /// # Safety
    ///
    /// All pointers must be valid. `pipe` must be locked, or private to the caller. C guarantees
    /// this.
    unsafe extern "C" fn splice_read(
        file: *mut bindings::file,
        _ppos: *mut Offset,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: The caller guarantees that the pointers are valid, and that access to the ring is
        // exclusive. The file is a stream, so no call uses its position at the same time.
        let (device, file, ring) = unsafe {
            (
                Self::device(file),
                File::from_raw_file(file),
                PipeRing::from_raw(pipe),
            )
        };
        let mut pipe = ToPipe {
            ring,
            left: len,
            given: 0,
            waited: false,
            flags: with_file(SpliceFlags::from_kernel(flags), file),
        };
        let ret = T::splice_in(device, file, &mut pipe);
        if pipe.given > 0 {
            return from_size(Ok(pipe.given));
        }
        from_size(ret.map(|()| 0))
    }

    /// Calls [`SpliceDevice::splice_out`]. C: `->splice_write`.
    ///
    /// # Safety
    ///
    /// All pointers must be valid, and `pipe` must not be locked. C guarantees this.
    unsafe extern "C" fn splice_write(
        pipe: *mut bindings::pipe_inode_info,
        file: *mut bindings::file,
        _ppos: *mut Offset,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: The caller guarantees that the pointers are valid. The file is a stream, so no
        // call uses its position at the same time.
        let (device, file, mut pipe) = unsafe {
            (
                (*file).private_data,
                File::from_raw_file(file),
                Pipe::from_raw(pipe),
            )
        };
        let flags = SpliceFlags::from_kernel(flags);
        let may_wait = !with_file(flags, file).contains(SpliceFlag::NonBlock);
        let mut bufs = FromPipe::new(pipe.lock(), len, may_wait);
        let ret = bufs.feed(flags, |bufs| {
            // SAFETY: `with_splice` requires that the private data comes from `into_foreign` of
            // `T::Ptr`; it stays valid during this call, because the file is open.
            T::splice_out(unsafe { T::Ptr::borrow(device) }, file, bufs)
        });
        if let Ok(bytes) = ret {
            Counter::PipeToActorReferenced.add(bytes);
        }
        from_size(ret)
    }

    /// Calls [`SpliceDevice::poll`]. C: `->poll`.
    ///
    /// # Safety
    ///
    /// `file` must be valid, and `table` must be valid or null. C guarantees this.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table,
    ) -> bindings::__poll_t {
        // SAFETY: The caller guarantees that `file` is valid and open and that `table` is valid or
        // null. The file is a stream, so no call uses its position at the same time.
        let (device, file, table) = unsafe {
            (
                Self::device(file),
                File::from_raw_file(file),
                PollTable::from_raw(table),
            )
        };
        T::poll(device, file, table).into()
    }

    /// Calls [`SpliceDevice::fsync`]. C: `->fsync`.
    ///
    /// # Safety
    ///
    /// `file` must be valid. C guarantees this.
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        _start: Offset,
        _end: Offset,
        _datasync: c_int,
    ) -> c_int {
        // SAFETY: The caller guarantees that `file` is valid and open. The file is a stream, so no
        // call uses its position at the same time.
        let (device, file) = unsafe { (Self::device(file), File::from_raw_file(file)) };
        match T::fsync(device, file) {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }
}
