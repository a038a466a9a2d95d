// SPDX-License-Identifier: GPL-2.0

//! The ioctls of a pipe for the notifications of `vmsplice(2)`.

#![forbid(unsafe_code)]

use kernel::{
    fs::{file::flags::O_NONBLOCK, LocalFile},
    ioctl::{_IOW, _IOWR},
    pipe::Pipe,
    prelude::*,
    uaccess::{UserPtr, UserSlice},
    uapi,
    vmsplice::EventFd, //
};

const STATE: u32 = _IOWR::<uapi::splice_notify_state>(0xBB, 0x00);
const EVENTFD: u32 = _IOW::<i32>(0xBB, 0x01);

/// Runs the ioctls of pipes that `fs/pipe.c` does not know. May sleep.
///
/// # Errors
///
/// - [`ENOIOCTLCMD`]: `cmd` is unknown.
/// - [`EBADF`]: `file` is not the write end of a pipe, or the file descriptor of the eventfd is not
///   open.
/// - Those of [`state`] and [`attach`].
pub(crate) fn ioctl(file: &LocalFile, cmd: u32, arg: UserPtr) -> Result<isize> {
    let run = match cmd {
        STATE => state,
        EVENTFD => attach,
        _ => return Err(ENOIOCTLCMD),
    };
    if !file.is_writable() {
        return Err(EBADF);
    }
    let mut pipe = Pipe::of_file(file).ok_or(EBADF)?;
    run(file, &mut pipe, arg)?;
    Ok(0)
}

/// Runs `SPLICE_IOC_NOTIFY_STATE`: returns the number of the latest call and the watermark. Waits
/// for the watermark if the caller asks for that, with the pipe unlocked.
///
/// # Errors
///
/// - [`EINVAL`]: a flag is unknown, a reserved field is not 0, or `number` is given without
///   `SPLICE_NOTIFY_WAIT` or is larger than that of the latest call.
/// - [`EAGAIN`]: the call would wait, and `file` was opened with `O_NONBLOCK`.
/// - [`ERESTARTSYS`]: a signal arrived during the wait.
/// - [`EFAULT`]: the memory cannot be accessed.
fn state(file: &LocalFile, pipe: &mut Pipe<'_>, arg: UserPtr) -> Result {
    let size = size_of::<uapi::splice_notify_state>();
    let (mut reader, mut writer) = UserSlice::new(arg, size).reader_writer();
    let (flags, reserved, number): (u32, u32, u64) =
        (reader.read()?, reader.read()?, reader.read()?);
    let wait = flags & uapi::SPLICE_NOTIFY_WAIT != 0;
    if flags & !uapi::SPLICE_NOTIFY_WAIT != 0 || reserved != 0 || (!wait && number != 0) {
        return Err(EINVAL);
    }

    let calls = pipe.lock().ring().notifications();
    let issued = calls.as_ref().map_or(0, |calls| calls.issued());
    if wait && number > issued {
        return Err(EINVAL);
    }
    let mut released = 0;
    if let Some(calls) = calls {
        if wait && calls.released() < number {
            if file.has_flags(O_NONBLOCK) {
                return Err(EAGAIN);
            }
            calls.wait(number)?;
        }
        released = calls.released();
    }

    writer.write(&flags)?;
    writer.write(&reserved)?;
    writer.write(&number)?;
    writer.write(&issued)?;
    writer.write(&released)
}

/// Runs `SPLICE_IOC_NOTIFY_EVENTFD`: sets the eventfd that is signalled each time the watermark
/// moves. It replaces the one that was set before; -1 stops the signals.
///
/// # Errors
///
/// - [`EBADF`], [`EINVAL`]: the file descriptor is not open, or not an eventfd.
/// - [`ENOMEM`]: the pipe has no notifications yet, and they cannot be allocated.
/// - [`EFAULT`]: the memory cannot be read.
fn attach(_file: &LocalFile, pipe: &mut Pipe<'_>, arg: UserPtr) -> Result {
    let fd = UserSlice::new(arg, size_of::<i32>()).reader().read()?;
    let eventfd = match fd {
        -1 => None,
        fd => Some(EventFd::from_fd(fd)?),
    };
    let calls = pipe.lock().ring().notifications_or_new()?;
    calls.set_eventfd(eventfd);
    Ok(())
}
