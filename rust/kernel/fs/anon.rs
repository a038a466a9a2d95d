// SPDX-License-Identifier: GPL-2.0

//! Files that a driver creates, rather than files that user space opens by a path.
//!
//! A driver implements [`AnonFile`] for the type of such a file, and [`SpliceDevice`] for its
//! splice operations. [`create`] makes a file. The files are streams: they have no positions.
//!
//! C headers: [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{file::Offset, File};
use crate::{
    bindings,
    error::{from_err_ptr, VTABLE_DEFAULT_ERROR},
    iov::{IovIterDest, IovIterSource},
    module::this_module,
    prelude::*,
    seq_file::SeqFile,
    splice::{
        driver::{SpliceDevice, SpliceOperations},
        from_size, //
    },
    sync::{
        aref::ARef,
        poll::{PollEvents, PollTable}, //
    },
    types::ForeignOwnable, //
};
use core::{marker::PhantomData, ptr::NonNull};

/// The operations of a file that a driver creates, in addition to those of [`SpliceDevice`].
///
/// The private data of the file is a [`SpliceDevice::Ptr`]. All operations are optional, run in the
/// context of the calling task, and may sleep. As long as a file is open, the module of its
/// operations is not unloaded.
#[vtable]
pub trait AnonFile: SpliceDevice {
    /// Called when the last reference to the file is dropped.
    fn release(data: Self::Ptr) {
        drop(data);
    }

    /// Copies data of the file to user memory. Returns the number of bytes; 0 is the end.
    fn read(
        _data: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _to: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Copies data from user memory to the file. Returns the number of bytes.
    fn write(
        _data: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _from: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles `ioctl(2)`. The structures must have the same layout for 32-bit and for 64-bit
    /// programs.
    fn ioctl(
        _data: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _cmd: u32,
        _arg: usize,
    ) -> Result<isize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles `poll(2)`. Returns the events that the file is ready for now, and registers the
    /// caller with the wait queue that the driver wakes when they change.
    fn poll(
        _data: <Self::Ptr as ForeignOwnable>::Borrowed<'_>,
        _file: &File,
        _table: PollTable<'_>,
    ) -> PollEvents {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles `fsync(2)`: waits until the data that was given to the file has been used.
    fn fsync(_data: <Self::Ptr as ForeignOwnable>::Borrowed<'_>, _file: &File) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Adds lines to `/proc/PID/fdinfo/FD`.
    fn show_fdinfo(_data: <Self::Ptr as ForeignOwnable>::Borrowed<'_>, _m: &SeqFile, _file: &File) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// Creates a file that is open for reading and writing. `name` is what `/proc/PID/fd` shows, in
/// brackets, and `flags` are flags of `open(2)`, such as `O_NONBLOCK`.
///
/// A driver installs the file by a
/// [`FileDescriptorReservation`](super::file::FileDescriptorReservation).
///
/// # Examples
///
/// A file that counts the bytes that are spliced to it, and returns their number by `ioctl(2)`.
///
/// ```
/// use kernel::{
///     fs::{anon::{self, AnonFile}, File},
///     prelude::*,
///     splice::driver::{FromPipe, SpliceDevice},
///     sync::atomic::{ordering::Relaxed, Atomic},
/// };
///
/// struct Meter(Atomic<usize>);
///
/// #[vtable]
/// impl SpliceDevice for Meter {
///     type Ptr = KBox<Self>;
///
///     fn splice_out(meter: &Self, _file: &File, bufs: &mut FromPipe<'_>) -> Result {
///         meter.0.add(bufs.map(|buf| buf.len()).sum(), Relaxed);
///         Ok(())
///     }
/// }
///
/// #[vtable]
/// impl AnonFile for Meter {
///     fn ioctl(meter: &Self, _file: &File, _cmd: u32, _arg: usize) -> Result<isize> {
///         Ok(meter.0.load(Relaxed).try_into()?)
///     }
/// }
///
/// let meter = KBox::new(Meter(Atomic::new(0)), GFP_KERNEL)?;
/// let file = anon::create::<Meter>(c"[meter]", meter, 0).map_err(|(err, _meter)| err)?;
/// // Dropping the last reference to the file drops the meter.
/// drop(file);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
///
/// Each error is returned together with `data`.
///
/// - [`ENOMEM`]: there is no memory.
/// - [`ENFILE`]: there are too many open files.
/// - [`ENOENT`]: the module is being unloaded.
pub fn create<T: AnonFile>(
    name: &CStr,
    data: T::Ptr,
    flags: u32,
) -> Result<ARef<File>, (Error, T::Ptr)> {
    let data = data.into_foreign();
    // SAFETY: `name` is a valid string. The operations are static, and `data` is what they require.
    let file = from_err_ptr(unsafe {
        bindings::anon_inode_getfile(
            name.as_char_ptr(),
            Operations::<T>::get(),
            data,
            // CAST: Flags have no sign.
            (bindings::O_RDWR | flags) as c_int,
        )
    });
    match file {
        Ok(file) => {
            // SAFETY: The file was just created and has an inode. Nobody else uses it yet. This
            // does not fail.
            unsafe { bindings::stream_open((*file).f_inode, file) };
            // SAFETY: `anon_inode_getfile` returned a reference to a valid file, which passes to
            // the `ARef`. No task has a descriptor of the file, so there is no `fdget_pos` call.
            Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(file.cast::<File>())) })
        }
        // SAFETY: The pointer comes from `into_foreign` above. No file was created, so nothing else
        // refers to it.
        Err(err) => Err((err, unsafe { T::Ptr::from_foreign(data) })),
    }
}

/// The C functions that call the operations of [`AnonFile`].
struct Operations<T>(PhantomData<T>);

impl<T: AnonFile> Operations<T> {
    const TABLE: bindings::file_operations =
        // SAFETY: Only `create` makes files with these operations. It sets the private data to a
        // `T::Ptr`, which only `release` takes back, and calls `stream_open`.
        unsafe { SpliceOperations::<T::Ptr>::of::<T>().add_to(Self::OWN) };

    const OWN: bindings::file_operations = bindings::file_operations {
        release: Some(Self::release),
        read_iter: if T::HAS_READ {
            Some(Self::read_iter)
        } else {
            None
        },
        write_iter: if T::HAS_WRITE {
            Some(Self::write_iter)
        } else {
            None
        },
        poll: if T::HAS_POLL { Some(Self::poll) } else { None },
        fsync: if T::HAS_FSYNC {
            Some(Self::fsync)
        } else {
            None
        },
        unlocked_ioctl: if T::HAS_IOCTL {
            Some(Self::ioctl)
        } else {
            None
        },
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: if T::HAS_IOCTL {
            bindings::compat_ptr_ioctl
        } else {
            None
        },
        show_fdinfo: if T::HAS_SHOW_FDINFO {
            Some(Self::show_fdinfo)
        } else {
            None
        },
        owner: this_module::<<T as AnonFile>::OwnerModule>().as_ptr(),
        ..pin_init::zeroed()
    };

    const fn get() -> &'static bindings::file_operations {
        &Self::TABLE
    }

    /// Returns the private data of `file`, and the file.
    ///
    /// # Safety
    ///
    /// `file` must be a file of [`create`] that stays open for `'a`.
    unsafe fn of_file<'a>(
        file: *mut bindings::file,
    ) -> (<T::Ptr as ForeignOwnable>::Borrowed<'a>, &'a File) {
        // SAFETY: The caller guarantees that the file is open, so the private data is valid; it
        // comes from `into_foreign` in `create`. The file is a stream, so no call uses its position
        // at the same time.
        unsafe {
            (
                T::Ptr::borrow((*file).private_data),
                File::from_raw_file(file),
            )
        }
    }

    /// Calls [`AnonFile::release`]. C: `->release`.
    ///
    /// # Safety
    ///
    /// `file` must be a file of [`create`] that is being released. C guarantees this.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The caller guarantees that the file is being released, so nothing borrows the
        // private data any more. It comes from `into_foreign` in `create`.
        T::release(unsafe { T::Ptr::from_foreign((*file).private_data) });
        0
    }

    /// Calls [`AnonFile::read`]. C: `->read_iter`.
    ///
    /// # Safety
    ///
    /// The pointers must be valid, and the file must be one of [`create`]. C guarantees this.
    unsafe extern "C" fn read_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The caller guarantees that the pointers are valid. `iter` is a destination, since
        // C calls this function for a read.
        let ((data, file), to) =
            unsafe { (Self::of_file((*kiocb).ki_filp), IovIterDest::from_raw(iter)) };
        from_size(T::read(data, file, to))
    }

    /// Calls [`AnonFile::write`]. C: `->write_iter`.
    ///
    /// # Safety
    ///
    /// The pointers must be valid, and the file must be one of [`create`]. C guarantees this.
    unsafe extern "C" fn write_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The caller guarantees that the pointers are valid. `iter` is a source, since C
        // calls this function for a write.
        let ((data, file), from) = unsafe {
            (
                Self::of_file((*kiocb).ki_filp),
                IovIterSource::from_raw(iter),
            )
        };
        from_size(T::write(data, file, from))
    }

    /// Calls [`AnonFile::ioctl`]. C: `->unlocked_ioctl`.
    ///
    /// # Safety
    ///
    /// `file` must be a file of [`create`]. C guarantees this.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: The caller guarantees that the file is valid and open.
        let (data, file) = unsafe { Self::of_file(file) };
        match T::ioctl(data, file, cmd, arg) {
            Ok(ret) => ret as c_long,
            Err(err) => err.to_errno() as c_long,
        }
    }

    /// Calls [`AnonFile::poll`]. C: `->poll`.
    ///
    /// # Safety
    ///
    /// `file` must be a file of [`create`], and `table` must be valid or null. C guarantees this.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table,
    ) -> bindings::__poll_t {
        // SAFETY: The caller guarantees that the file is open, and that the table is valid or null.
        let ((data, file), table) = unsafe { (Self::of_file(file), PollTable::from_raw(table)) };
        T::poll(data, file, table).into()
    }

    /// Calls [`AnonFile::fsync`]. C: `->fsync`.
    ///
    /// # Safety
    ///
    /// `file` must be a file of [`create`]. C guarantees this.
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        _start: Offset,
        _end: Offset,
        _datasync: c_int,
    ) -> c_int {
        // SAFETY: The caller guarantees that the file is valid and open.
        let (data, file) = unsafe { Self::of_file(file) };
        match T::fsync(data, file) {
            Ok(()) => 0,
            Err(err) => err.to_errno(),
        }
    }

    /// Calls [`AnonFile::show_fdinfo`]. C: `->show_fdinfo`.
    ///
    /// # Safety
    ///
    /// The pointers must be valid, and the file must be one of [`create`]. C guarantees this.
    unsafe extern "C" fn show_fdinfo(m: *mut bindings::seq_file, file: *mut bindings::file) {
        // SAFETY: The caller guarantees that the pointers are valid, and that the file is open.
        let ((data, file), m) = unsafe { (Self::of_file(file), SeqFile::from_raw(m)) };
        T::show_fdinfo(data, m, file);
    }
}
