// SPDX-License-Identifier: GPL-2.0

//! The entry points of `splice(2)` and `tee(2)`: select the kind of transfer, and check whether it
//! is allowed.

#![forbid(unsafe_code)]

#[cfg(CONFIG_NET)]
use crate::socket_to_pipe;
use crate::{file_to_pipe, pipe_to_file, pipe_to_pipe, stream_to_pipe};
use kernel::{
    fs::{
        file::{
            flags::{O_APPEND, O_NONBLOCK},
            Offset,
        },
        LocalFile,
    },
    pipe::Pipe,
    prelude::*,
    splice::{Counter, SpliceFlag, SpliceFlags},
    uaccess::{UserPtr, UserSlice},
};

/// Adds [`SpliceFlag::NonBlock`] to `flags` if one of `files` is open with `O_NONBLOCK`.
#[inline]
fn inherit_nonblock(flags: SpliceFlags, files: &[&LocalFile]) -> SpliceFlags {
    if files.iter().any(|file| file.has_flags(O_NONBLOCK)) {
        flags | SpliceFlag::NonBlock
    } else {
        flags
    }
}

/// Waits for room in `pipe`, reads up to `len` bytes from `file` into it, and wakes the readers of
/// the pipe. Waits for a socket or another stream with the pipe unlocked. C:
/// `splice_file_to_pipe`.
///
/// Returns the errors of [`file_to_pipe::fill_once`]. For a stream also [`EAGAIN`] if another
/// task waits for a stream to fill the pipe, and `flags` do not allow to wait.
pub(crate) fn splice_file_to_pipe(
    file: &LocalFile,
    pipe: &mut Pipe<'_>,
    pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    // A file with positions does not wait for another process.
    if file.is_seekable() {
        return file_to_pipe::fill_once(file, pipe, pos, len, flags);
    }
    #[cfg(CONFIG_NET)]
    if socket_to_pipe::is_socket_with_pages(file) {
        return socket_to_pipe::splice_socket_to_pipe(file, pipe, pos, len, flags);
    }
    if stream_to_pipe::is_stream(file) {
        return stream_to_pipe::splice_stream_to_pipe(file, pipe, pos, len, flags);
    }
    file_to_pipe::fill_once(file, pipe, pos, len, flags)
}

/// Moves up to `len` bytes between two files, at least one of which is a pipe. C: `do_splice`.
///
/// If no offset is given for a file that is not a pipe, the file position is used and advanced.
///
/// # Errors
///
/// - [`EBADF`]: `input` is not open for reading, or `output` not for writing.
/// - [`ESPIPE`]: an offset is given for a pipe, or for a
///   [`SpliceDevice`](kernel::splice::driver::SpliceDevice), which is a stream.
/// - [`EINVAL`]: neither file is a pipe; both are the same pipe; an offset is given for another
///   file without positions; `output` is open with `O_APPEND`; the file does not support splice.
/// - The errors of `rw_verify_area`, and of the transfer.
#[inline(always)]
pub(crate) fn do_splice(
    input: &LocalFile,
    in_offset: Option<&mut Offset>,
    output: &LocalFile,
    out_offset: Option<&mut Offset>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    let fill = splice_file_to_pipe;
    do_splice_by::<true>(fill, input, in_offset, output, out_offset, len, flags)
}

/// The error of a transfer that must not wait, but that can only be made by a call that may.
pub(crate) const NEEDS_WORKER: Error = ENOTSUPP;

/// Does the same as [`do_splice`], but reads a file that is not a pipe with `fill`, which has the
/// arguments and results of [`splice_file_to_pipe`].
///
/// If it may not wait (`WAITS` is `false`), `flags` have [`SpliceFlags::no_wait`]. Then it returns
/// [`SpliceFlags::WOULD_WAIT`] where it would wait for a pipe, and [`NEEDS_WORKER`] for transfers
/// other than those from a pipe or from a file that [can be read without a
/// wait](LocalFile::reads_without_wait) to a pipe.
#[inline(always)]
pub(crate) fn do_splice_by<const WAITS: bool>(
    fill: impl FnOnce(&LocalFile, &mut Pipe<'_>, &mut Offset, usize, SpliceFlags) -> Result<usize>,
    input: &LocalFile,
    in_offset: Option<&mut Offset>,
    output: &LocalFile,
    out_offset: Option<&mut Offset>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    // Here and not in `sys_splice`, because io_uring calls this with files that it looked up
    // itself.
    if !input.is_readable() || !output.is_writable() {
        return Err(EBADF);
    }

    let bytes = match (Pipe::of_file(input), Pipe::of_file(output)) {
        (Some(mut from), Some(mut to)) => {
            if in_offset.is_some() || out_offset.is_some() {
                return Err(ESPIPE);
            }
            // The buffers would move from a ring to itself, and both ends would need the same
            // mutex.
            if from.is_same(&to) {
                return Err(EINVAL);
            }
            // The call can wait for either pipe, and its caller cannot tell which one. So
            // `O_NONBLOCK` of one end is enough.
            let flags = inherit_nonblock(flags, &[input, output]);
            pipe_to_pipe::splice::<WAITS>(&mut from, &mut to, len, flags)?
        }
        (Some(_), None) if !WAITS => return Err(NEEDS_WORKER),
        (Some(mut from), None) => {
            if in_offset.is_some() {
                return Err(ESPIPE);
            }
            if out_offset.is_some() && !output.can_pwrite() {
                return Err(output.no_offset());
            }
            // As in C, the position is read without its lock: a transfer can wait for the pipe for
            // any time, and `read(2)` and `lseek(2)` of other tasks would wait for the lock
            // meanwhile.
            let mut pos = out_offset.as_deref().copied().unwrap_or(output.pos());
            // The write would go to the end of the file, and not to the position that is verified
            // below.
            if output.has_flags(O_APPEND) {
                return Err(EINVAL);
            }
            // Before freeze protection: a listener of fanotify pre-content events may fill the file
            // before it lets this check pass, and needs to write to the same file system.
            output.verify_write(&pos, len)?;
            // Only the pipe's `O_NONBLOCK` counts here. That of `output` is for its
            // `->splice_write`: a socket does not wait for room, but still waits for the pipe.
            let flags = inherit_nonblock(flags, &[input]);
            let ret = pipe_to_file::splice_pipe_to_file(&mut from, output, &mut pos, len, flags);
            store_pos(output, out_offset, pos, &ret);
            ret?
        }
        (None, Some(mut to)) => {
            if out_offset.is_some() {
                return Err(ESPIPE);
            }
            if in_offset.is_some() && !input.can_pread() {
                return Err(input.no_offset());
            }
            if !WAITS && !input.reads_without_wait() {
                return Err(NEEDS_WORKER);
            }
            let mut pos = in_offset.as_deref().copied().unwrap_or(input.pos());
            // Before the pipe is locked: a security module or a fanotify listener may take any
            // time.
            input.verify_read(&pos, len)?;
            // The flag of `input` is for its `->splice_read`, which gets the file and looks at it
            // itself.
            let flags = inherit_nonblock(flags, &[output]);
            let ret = fill(input, &mut to, &mut pos, len, flags);
            store_pos(input, in_offset, pos, &ret);
            ret?
        }
        (None, None) => return Err(EINVAL),
    };

    if bytes > 0 {
        // `->splice_write` may have reported the modification of `output` already. Report it before
        // the access, because inotify merges an event only with the last one in its queue.
        output.notify_modify();
        input.notify_access();
    }
    Ok(bytes)
}

/// Stores the position after a transfer: in `offset` if the caller gave one, else in the file, if
/// the transfer succeeded.
#[inline]
fn store_pos(file: &LocalFile, offset: Option<&mut Offset>, pos: Offset, ret: &Result<usize>) {
    match offset {
        Some(offset) => *offset = pos,
        // After an error, leave a position that other tasks may have moved meanwhile.
        None if ret.is_ok() => file.set_pos(pos),
        None => (),
    }
}

/// The offset argument of a system call: a pointer to user space, or none.
struct UserOffset(Option<UserPtr>);

impl UserOffset {
    fn new(ptr: UserPtr) -> Self {
        Self((!ptr.as_const_ptr().is_null()).then_some(ptr))
    }

    fn read(&self) -> Result<Option<Offset>> {
        let Some(ptr) = self.0 else { return Ok(None) };
        Ok(Some(
            UserSlice::new(ptr, size_of::<Offset>()).reader().read()?,
        ))
    }

    fn write(&self, offset: Option<Offset>) -> Result {
        let (Some(ptr), Some(offset)) = (self.0, offset) else {
            return Ok(());
        };
        UserSlice::new(ptr, size_of::<Offset>())
            .writer()
            .write(&offset)
    }
}

/// `splice(2)`.
///
/// Returns 0 if `len` is 0, without a look at the other arguments. Errors besides those of
/// [`do_splice`]: [`EINVAL`] for unknown flags, [`EBADF`] for a bad descriptor, and [`EFAULT`] if
/// an offset cannot be read, or cannot be written after the transfer. In the last case the data
/// was moved.
pub(crate) fn sys_splice(
    fd_in: c_int,
    off_in: UserPtr,
    fd_out: c_int,
    off_out: UserPtr,
    len: usize,
    flags: u32,
) -> Result<usize> {
    Counter::CallsSplice.add(1);
    if len == 0 {
        return Ok(0);
    }
    let flags = SpliceFlags::from_user(flags)?;
    let (off_in, off_out) = (UserOffset::new(off_in), UserOffset::new(off_out));

    LocalFile::with_fd(fd_in, |input| {
        LocalFile::with_fd(fd_out, |output| {
            for (file, offset) in [(input, &off_in), (output, &off_out)] {
                if Pipe::of_file(file).is_some() {
                    if offset.0.is_some() {
                        return Err(ESPIPE);
                    }
                    // Forbid reads and writes with `RWF_NOWAIT` from now on: they would block
                    // while a transfer sleeps with the pipe locked.
                    file.clear_nowait();
                }
            }
            let mut out_offset = off_out.read()?;
            let mut in_offset = off_in.read()?;
            let bytes = do_splice(
                input,
                in_offset.as_mut(),
                output,
                out_offset.as_mut(),
                len,
                flags,
            )?;
            // Only after success, so that an error leaves the offsets as the caller passed them.
            off_out.write(out_offset)?;
            off_in.write(in_offset)?;
            Ok(bytes)
        })
    })
}

/// Duplicates up to `len` bytes of one pipe in another. C: `do_tee`.
///
/// Returns [`EBADF`] if `input` is not open for reading or `output` is not open for writing,
/// [`EINVAL`] if they are not two different pipes, and the errors of [`pipe_to_pipe::tee`].
pub(crate) fn do_tee(
    input: &LocalFile,
    output: &LocalFile,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    do_tee_by::<true>(input, output, len, flags)
}

/// Does the same as [`do_tee`]. If it may not wait (`WAITS` is `false`), `flags` have
/// [`SpliceFlags::no_wait`], and it returns [`SpliceFlags::WOULD_WAIT`] instead.
#[inline(always)]
pub(crate) fn do_tee_by<const WAITS: bool>(
    input: &LocalFile,
    output: &LocalFile,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    if !input.is_readable() || !output.is_writable() {
        return Err(EBADF);
    }
    let (Some(mut from), Some(mut to)) = (Pipe::of_file(input), Pipe::of_file(output)) else {
        return Err(EINVAL);
    };
    if from.is_same(&to) {
        return Err(EINVAL);
    }
    // `RWF_NOWAIT` stays allowed, as in C: no file is read or written while the pipes are locked.
    let flags = inherit_nonblock(flags, &[input, output]);
    let bytes = pipe_to_pipe::tee::<WAITS>(&mut from, &mut to, len, flags)?;
    if bytes > 0 {
        // In the order of C. Unlike in `do_splice`, no operation of a file ran that could have
        // reported an event before.
        input.notify_access();
        output.notify_modify();
    }
    Ok(bytes)
}

/// `tee(2)`.
///
/// Checks the flags before `len`, as C does and unlike `splice(2)`: unknown flags are [`EINVAL`]
/// even if `len` is 0. Other errors: [`EBADF`] for a bad descriptor, and those of [`do_tee`].
pub(crate) fn sys_tee(fd_in: c_int, fd_out: c_int, len: usize, flags: u32) -> Result<usize> {
    Counter::CallsTee.add(1);
    let flags = SpliceFlags::from_user(flags)?;
    if len == 0 {
        return Ok(0);
    }
    LocalFile::with_fd(fd_in, |input| {
        LocalFile::with_fd(fd_out, |output| do_tee(input, output, len, flags))
    })
}
