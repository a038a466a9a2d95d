// SPDX-License-Identifier: GPL-2.0

//! Devices as the source or the sink of a transfer.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/splice.h`](srctree/include/linux/splice.h)

use super::{from_pipe::FromPipe, to_pipe::ToPipe};
use crate::{
    bindings,
    error::VTABLE_DEFAULT_ERROR,
    fs::{
        file::{flags::O_NONBLOCK, Offset},
        File,
        LocalFile, //
    },
    pipe::{Pipe, PipeRing},
    prelude::*,
    splice::{from_size, Counter, SpliceFlag, SpliceFlags},
    types::ForeignOwnable, //
};
use core::marker::PhantomData;

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
///     fs::File,
///     miscdevice::{MiscDevice, MiscDeviceOptions, MiscDeviceRegistration},
///     prelude::*,
///     splice::driver::prelude::*,
///     sync::poll::{PollEvent, PollEvents, PollTable}, //
/// };
///
/// struct Hole;
///
/// #[vtable]
/// impl MiscDevice for Hole {
///     type Ptr = KBox<Self>;
///
///     const SPLICE: Option<SpliceOperations<Self::Ptr>> = Some(SpliceOperations::of::<Self>());
///
///     fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
///         Ok(KBox::new(Self, GFP_KERNEL)?)
///     }
///
///     fn poll(_hole: &Self, _file: &File, _table: PollTable<'_>) -> PollEvents {
///         PollEvent::Out | PollEvent::OutNormal
///     }
/// }
///
/// #[vtable]
/// impl SpliceDevice for Hole {
///     type Ptr = KBox<Self>;
///
///     fn splice_out(_hole: &Self, _file: &File, bufs: &mut FromPipe<'_>) -> Result {
///         // A buffer that is taken belongs to the driver, which could also keep it until a device
///         // has read it. A buffer that is not taken stays in the pipe.
///         bufs.for_each(drop);
///         Ok(())
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
}

/// Adds `SPLICE_F_NONBLOCK` to `flags` if `file` was opened with `O_NONBLOCK`.
fn with_file(flags: SpliceFlags, file: &LocalFile) -> SpliceFlags {
    if file.has_flags(O_NONBLOCK) {
        flags | SpliceFlag::NonBlock
    } else {
        flags
    }
}

/// The splice operations of a [`SpliceDevice`], for the files whose private data is a `P`.
///
/// The driver of a misc device sets [`MiscDevice::SPLICE`](crate::miscdevice::MiscDevice::SPLICE)
/// to it.
pub struct SpliceOperations<P> {
    splice_read: Option<
        unsafe extern "C" fn(
            *mut bindings::file,
            *mut Offset,
            *mut bindings::pipe_inode_info,
            usize,
            c_uint,
        ) -> isize,
    >,
    splice_write: Option<
        unsafe extern "C" fn(
            *mut bindings::pipe_inode_info,
            *mut bindings::file,
            *mut Offset,
            usize,
            c_uint,
        ) -> isize,
    >,
    _private_data: PhantomData<fn(P)>,
}

impl<P: ForeignOwnable + Send + Sync> SpliceOperations<P> {
    /// Returns the operations that `T` implements.
    pub const fn of<T: SpliceDevice<Ptr = P>>() -> Self {
        Self {
            splice_read: if T::HAS_SPLICE_IN {
                Some(Callbacks::<T>::splice_read)
            } else {
                None
            },
            splice_write: if T::HAS_SPLICE_OUT {
                Some(Callbacks::<T>::splice_write)
            } else {
                None
            },
            _private_data: PhantomData,
        }
    }

    /// Adds the operations to a table of file operations.
    ///
    /// # Safety
    ///
    /// When one of these operations is called, the private data of the file must come from
    /// [`ForeignOwnable::into_foreign`] of `P`, and must stay valid until all of them have
    /// returned. The files must be opened with `stream_open`, because they have no positions.
    pub const unsafe fn add_to(
        &self,
        fops: bindings::file_operations,
    ) -> bindings::file_operations {
        bindings::file_operations {
            splice_read: self.splice_read,
            splice_write: self.splice_write,
            // A driver sees buffers through types that cannot write to them.
            fop_flags: fops.fop_flags | bindings::FOP_SPLICE_STREAM | bindings::FOP_MAY_SPLICE,
            ..fops
        }
    }
}

/// The C functions that call the operations of [`SpliceDevice`].
struct Callbacks<T>(PhantomData<T>);

impl<T: SpliceDevice> Callbacks<T> {
    /// Returns the private data of `file`.
    ///
    /// # Safety
    ///
    /// `file` must be an open file with the private data that [`SpliceOperations::add_to`]
    /// requires.
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
        let flags = with_file(SpliceFlags::from_kernel(flags), file);
        let mut pipe = ToPipe::new(ring, len, flags);
        let ret = T::splice_in(device, file, &mut pipe);
        if pipe.given() > 0 {
            return from_size(Ok(pipe.given()));
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
            // SAFETY: `SpliceOperations::add_to` requires that the private data comes from
            // `into_foreign` of `T::Ptr`; it stays valid during this call, because the file is
            // open.
            T::splice_out(unsafe { T::Ptr::borrow(device) }, file, bufs)
        });
        if let Ok(bytes) = ret {
            Counter::PipeToActorReferenced.add(bytes);
        }
        from_size(ret)
    }
}
