// SPDX-License-Identifier: GPL-2.0

//! `vmsplice(2)` out of a pipe: a copy to user memory.

#![forbid(unsafe_code)]

use kernel::{
    fs::LocalFile,
    iov::IovIterDest,
    pipe::{BufferRef, Pipe},
    prelude::*,
    splice::{
        counters::Counter,
        from_pipe,
        user::copy_to_iter,
        Actor,
        SpliceFlags, //
    },
};

/// Copies the data of the pipe that `file` is the read end of to user memory.
///
/// Fails with [`EBADF`] if `file` is not a pipe, with [`EFAULT`] if nothing can be written, and as
/// [`from_pipe`] does.
pub(crate) fn splice(
    file: &LocalFile,
    dest: &mut IovIterDest<'_>,
    flags: SpliceFlags,
) -> Result<usize> {
    struct Copy<'a, 'data>(&'a mut IovIterDest<'data>);

    impl Actor for Copy<'_, '_> {
        #[inline]
        fn take(&mut self, buf: BufferRef<'_>, len: usize) -> Result<usize> {
            // A part of a page that was copied does not count: the user learns of the fault, and
            // finds the whole in the pipe.
            let len = len.min(buf.len_in_slots(1));
            if copy_to_iter(&buf, len, self.0) != len {
                return Err(EFAULT);
            }
            Ok(len)
        }
    }

    let mut pipe = Pipe::of_file(file).ok_or(EBADF)?;
    file.clear_nowait();

    let len = dest.len();
    let bytes = from_pipe(&mut pipe.lock().ring(), len, flags, &mut Copy(dest))?;
    if bytes > 0 {
        file.notify_access();
    }
    Counter::PipeToMemoryCopied.add(bytes);
    Ok(bytes)
}
