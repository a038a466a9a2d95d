// SPDX-License-Identifier: GPL-2.0

//! What a caller asks for: which kind of transfer it is, and whether it is allowed.

#![forbid(unsafe_code)]

use crate::{file_to_pipe::splice_file_to_pipe, pipe_to_file, pipe_to_pipe};
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
    splice::{counters::Counter, SpliceFlag, SpliceFlags},
    uaccess::{UserPtr, UserSlice},
};

/// `flags`, with the wish not to wait where one of `files` has it.
#[inline]
fn inherit_nonblock(flags: SpliceFlags, files: &[&LocalFile]) -> SpliceFlags {
    if files.iter().any(|file| file.has_flags(O_NONBLOCK)) {
        flags | SpliceFlag::NonBlock
    } else {
        flags
    }
}

/// Moves up to `len` bytes between two files of which at least one is a pipe. C: `do_splice`.
///
/// Without an offset a file that is no pipe is read or written at its position, which moves on.
///
/// # Errors
///
/// - [`EBADF`]: `input` is not open for reading, or `output` not for writing.
/// - [`ESPIPE`]: an offset is given for a pipe, or for the stream of a
///   [`SpliceDevice`](kernel::splice::SpliceDevice).
/// - [`EINVAL`]: neither is a pipe, or both are the same one; an offset is given for a file that
///   has no positions; `output` is to be appended to; the file does not support it.
/// - Those of the transfers.
#[inline(always)]
pub(crate) fn do_splice(
    input: &LocalFile,
    in_offset: Option<&mut Offset>,
    output: &LocalFile,
    out_offset: Option<&mut Offset>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    if !input.is_readable() || !output.is_writable() {
        return Err(EBADF);
    }

    let bytes = match (Pipe::of_file(input), Pipe::of_file(output)) {
        (Some(mut from), Some(mut to)) => {
            if in_offset.is_some() || out_offset.is_some() {
                return Err(ESPIPE);
            }
            if from.is_same(&to) {
                return Err(EINVAL);
            }
            let flags = inherit_nonblock(flags, &[input, output]);
            pipe_to_pipe::splice(&mut from, &mut to, len, flags)?
        }
        (Some(from), None) => {
            if in_offset.is_some() {
                return Err(ESPIPE);
            }
            if out_offset.is_some() && !output.can_pwrite() {
                return Err(output.no_offset());
            }
            let mut pos = out_offset.as_deref().copied().unwrap_or(output.pos());
            if output.has_flags(O_APPEND) {
                return Err(EINVAL);
            }
            output.verify_write(&pos, len)?;
            let flags = inherit_nonblock(flags, &[input]);
            let write = output.start_write();
            let ret = pipe_to_file::write(from, output, &mut pos, len, flags);
            drop(write);
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
            let mut pos = in_offset.as_deref().copied().unwrap_or(input.pos());
            input.verify_read(&pos, len)?;
            let flags = inherit_nonblock(flags, &[output]);
            let ret = splice_file_to_pipe(input, &mut to, &mut pos, len, flags);
            store_pos(input, in_offset, pos, &ret);
            ret?
        }
        (None, None) => return Err(EINVAL),
    };

    if bytes > 0 {
        // The transfer may have told of the modification already: in this order the events are
        // merged.
        output.notify_modify();
        input.notify_access();
    }
    Ok(bytes)
}

/// Where the transfer came to: for the caller if it gave an offset, else for the file.
#[inline]
fn store_pos(file: &LocalFile, offset: Option<&mut Offset>, pos: Offset, ret: &Result<usize>) {
    match offset {
        Some(offset) => *offset = pos,
        None if ret.is_ok() => file.set_pos(pos),
        None => (),
    }
}

/// An offset in user space, if the caller gave one.
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
/// Nothing to transfer succeeds, whatever the other arguments are. Further errors: [`EINVAL`] for
/// unknown flags, [`EFAULT`] for an offset that cannot be read or written.
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
            off_out.write(out_offset)?;
            off_in.write(in_offset)?;
            Ok(bytes)
        })
    })
}

/// Duplicates up to `len` bytes of a pipe into another. C: `do_tee`.
///
/// Fails with [`EBADF`] where `input` is not open for reading or `output` not for writing, with
/// [`EINVAL`] where they are not two different pipes, and as [`pipe_to_pipe::tee`] does.
pub(crate) fn do_tee(
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
    let flags = inherit_nonblock(flags, &[input, output]);
    let bytes = pipe_to_pipe::tee(&mut from, &mut to, len, flags)?;
    if bytes > 0 {
        input.notify_access();
        output.notify_modify();
    }
    Ok(bytes)
}

/// `tee(2)`.
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
