// SPDX-License-Identifier: GPL-2.0

//! Devices as ends of a transfer: what a driver implements.
//!
//! A driver joins in by [`SpliceDevice`]: `splice_out` is handed the buffers that are in a pipe,
//! and `splice_in` hands buffers to one. Whoever has a [`PipeBuffer`] keeps its memory, so a driver
//! may hold on to buffers until its DMA engine is through with them, long after the call.
//!
//! A [`MiscDevice`](crate::miscdevice::MiscDevice) has the same operations. For other tables of
//! [`file_operations`](bindings::file_operations) there is [`with_splice`].
//!
//! # Locking
//!
//! The pipe is locked while a driver is called, and its lock is outside of all that the driver
//! takes. A driver waits for the device by [`FromPipe::wait`] and [`ToPipe::wait`], which unlock
//! the pipe: others can use it meanwhile.
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

/// What a device does with the data of a pipe.
///
/// Such a device is a stream: it has no positions, and a caller who gives an offset gets
/// [`ESPIPE`]. An operation that is left out gives its caller [`EINVAL`].
///
/// # Examples
///
/// A complete driver: `/dev/hole` drops what is spliced to it.
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
///         // A buffer that is taken is the driver's: it could as well be kept until a device has
///         // read it. One that is not taken stays in the pipe.
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
    /// What the file's private data is.
    type Ptr: ForeignOwnable + Send + Sync;

    /// Puts data of the device into a pipe: as much as there is now, room for which is in the pipe,
    /// and which the caller wants ([`ToPipe::push`]). Waits ([`ToPipe::wait`]) only if there is
    /// nothing.
    ///
    /// What was put in is what the call returns; else the error, and 0 stands for the end.
    fn splice_in(
        _device: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _pipe: &mut ToPipe<'_>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Takes data for the device out of a pipe: an iterator over buffers, as many as there are now
    /// and the caller wants to have transferred. What is not taken stays in the pipe, in order,
    /// and what was taken can be [put back](FromPipe::put_back).
    ///
    /// The number of bytes taken is what the call returns, unless there is an error: then that,
    /// whatever was taken.
    fn splice_out(
        _device: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _bufs: &mut FromPipe<'_>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Says what would not wait now, and registers whoever is to be told of a change.
    fn poll(
        _device: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _table: PollTable<'_>,
    ) -> PollEvents {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Waits until the device is through with all that it took: `fsync(2)`.
    fn fsync(_device: <Self::Ptr as ForeignOwnable>::Borrowed<'_>, _file: &File) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

impl_flags!(
    /// What a file is ready for. C: `__poll_t`.
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct PollEvents(u32);

    /// One of [`PollEvents`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum PollEvent {
        /// There is data.
        In = bindings::POLLIN,
        /// There is data of the normal priority; goes with [`PollEvent::In`].
        InNormal = bindings::POLLRDNORM,
        /// There is room.
        Out = bindings::POLLOUT,
        /// There is room for data of the normal priority; goes with [`PollEvent::Out`].
        OutNormal = bindings::POLLWRNORM,
        /// There was an error.
        Error = bindings::POLLERR,
        /// The other side is gone.
        HangUp = bindings::POLLHUP,
    }
);

/// `flags`, with the wish of whoever opened `file` not to wait.
fn with_file(flags: SpliceFlags, file: &LocalFile) -> SpliceFlags {
    if file.has_flags(O_NONBLOCK) {
        flags | SpliceFlag::NonBlock
    } else {
        flags
    }
}

/// The data in a pipe, as an iterator over owned buffers, no more bytes than the caller wants to
/// have transferred.
///
/// The contents of a buffer can be read: it is [confirmed](crate::pipe::BufferRef::confirm), which
/// may wait for a page to be read. The iterator does not wait for the pipe.
pub struct FromPipe<'a> {
    guard: PipeGuard<'a>,
    left: usize,
    taken: usize,
    /// How many buffers can be put back.
    returnable: u32,
    /// The last one that was taken was cut off one that is in the pipe.
    split: bool,
    wake_readers: bool,
    wake_writers: bool,
    failed: Option<Error>,
    may_wait: bool,
    /// [`Self::wait`] was called.
    waited: bool,
}

impl<'a> FromPipe<'a> {
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

    /// Whether the caller waits for the device: neither `SPLICE_F_NONBLOCK` nor the device's
    /// `O_NONBLOCK`.
    #[inline]
    pub fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// How many buffers there are now. Some of them may be beyond what the caller wants.
    #[inline]
    pub fn buffers(&mut self) -> usize {
        self.guard.ring().indices().occupancy() as usize
    }

    /// Puts a buffer back that was taken. The last one comes first, and none can be put back once
    /// the pipe was unlocked: `Err(buf)`.
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
        // Who has looked meanwhile, without the lock, has gone to sleep.
        self.wake_readers |= ring.has_files();
        self.split = false;
        self.returnable -= 1;
        self.left += len;
        self.taken -= len;
        Ok(())
    }

    /// Waits until `ready` is true for the data that `state` guards, with the pipe unlocked.
    ///
    /// Whoever changes the data notifies `changed` afterwards. The pipe stays locked if there is no
    /// need to wait; otherwise it may be empty afterwards, and buffers that were taken cannot be put
    /// back. The driver holds no lock during the call.
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
        if mem::replace(&mut self.waited, true) && interrupted() {
            return Err(ERESTARTSYS);
        }
        if ready(&state.lock()) {
            return Ok(());
        }
        if !self.may_wait {
            return Err(EAGAIN);
        }
        self.unlocked(|| wait_until(state, changed, &mut ready))
    }

    /// Runs `f` with the pipe unlocked. Others may take buffers meanwhile, or put some in; what was
    /// taken cannot be put back any more.
    pub fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.returnable = 0;
        self.wake();
        self.guard.ring().unlocked(f)
    }

    fn wake(&mut self) {
        let mut ring = self.guard.ring();
        if mem::take(&mut self.wake_readers) {
            ring.wake_readers();
        }
        if mem::take(&mut self.wake_writers) {
            ring.wake_writers();
        }
    }

    /// Has `take` make the best of what is in the pipe, and waits for data where there is none.
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
                // Contents that are gone end a transfer as the end of a file does.
                return if err == ENODATA { Ok(0) } else { Err(err) };
            }
            // Somebody else has taken what there was, while the driver had the pipe unlocked.
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
        // A pipe without files has nobody waiting.
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

/// A pipe that waits for data.
pub struct ToPipe<'a> {
    ring: PipeRing<'a>,
    left: usize,
    given: usize,
    flags: SpliceFlags,
    /// [`Self::wait`] was called.
    waited: bool,
}

impl ToPipe<'_> {
    /// How many bytes were put in.
    #[inline]
    pub fn given(&self) -> usize {
        self.given
    }

    /// How many bytes more the caller wants.
    #[inline]
    pub fn wanted(&self) -> usize {
        self.left
    }

    /// Whether there is no room for another buffer.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.ring.is_full()
    }

    /// Whether the caller waits for the device: neither `SPLICE_F_NONBLOCK` nor the device's
    /// `O_NONBLOCK`.
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
    /// Whoever changes the data notifies `changed` afterwards. The pipe stays locked if there is no
    /// need to wait. The driver holds no lock during the call.
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
        if mem::replace(&mut self.waited, true) && interrupted() {
            return Err(ERESTARTSYS);
        }
        if ready(&state.lock()) {
            return Ok(());
        }
        if !self.may_wait() {
            return Err(EAGAIN);
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

/// `fops` with what `T` has of splice, poll and fsync.
///
/// The files are streams: whoever opens one has called `stream_open`, as
/// [`MiscDevice`](crate::miscdevice::MiscDevice) does.
///
/// # Safety
///
/// The private data of the files that this is for comes from [`ForeignOwnable::into_foreign`] of
/// `T::Ptr`, from before one of these operations is called to after all of them.
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

/// From C to [`SpliceDevice`].
struct Operations<T>(PhantomData<T>);

impl<T: SpliceDevice> Operations<T> {
    /// # Safety
    ///
    /// `file` is an open file, with the private data that [`with_splice`] is for.
    unsafe fn device<'a>(file: *mut bindings::file) -> <T::Ptr as ForeignOwnable>::Borrowed<'a> {
        // SAFETY: By the caller's promise; the private data stays as long as the file.
        unsafe { T::Ptr::borrow((*file).private_data) }
    }

    /// # Safety
    ///
    /// As C calls it: all pointers are valid, and `pipe` is locked, or private to the caller.
    unsafe extern "C" fn splice_read(
        file: *mut bindings::file,
        _ppos: *mut Offset,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: By the caller's promise. Nothing is under way that uses the file's position.
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

    /// # Safety
    ///
    /// As C calls it: all pointers are valid, and `pipe` is not locked.
    unsafe extern "C" fn splice_write(
        pipe: *mut bindings::pipe_inode_info,
        file: *mut bindings::file,
        _ppos: *mut Offset,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: By the caller's promise. Nothing is under way that uses the file's position.
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
            // SAFETY: As for `Self::device`.
            T::splice_out(unsafe { T::Ptr::borrow(device) }, file, bufs)
        });
        if let Ok(bytes) = ret {
            Counter::PipeToActorReferenced.add(bytes);
        }
        from_size(ret)
    }

    /// # Safety
    ///
    /// As C calls it: all pointers are valid, or `table` is null.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table,
    ) -> bindings::__poll_t {
        // SAFETY: By the caller's promise.
        let (device, file, table) = unsafe {
            (
                Self::device(file),
                File::from_raw_file(file),
                PollTable::from_raw(table),
            )
        };
        T::poll(device, file, table).into()
    }

    /// # Safety
    ///
    /// As C calls it: `file` is valid.
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        _start: Offset,
        _end: Offset,
        _datasync: c_int,
    ) -> c_int {
        // SAFETY: By the caller's promise.
        let (device, file) = unsafe { (Self::device(file), File::from_raw_file(file)) };
        match T::fsync(device, file) {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }
}
