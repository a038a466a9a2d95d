// SPDX-License-Identifier: GPL-2.0

//! `vmsplice(2)` out of a pipe: the data is copied to user memory.

#![forbid(unsafe_code)]

use kernel::{
    fs::LocalFile,
    iov::{user::copy_to_iter, IovIterDest},
    pipe::{BufferRef, Pipe},
    prelude::*,
    splice::{pipe_to_actor, Actor, Counter, SpliceFlags},
};

/// Copies data of the pipe whose read end is `file` to user memory. Returns the number of bytes.
/// Waits for the first data, and sleeps in page faults.
///
/// # Errors
///
/// - [`EBADF`]: `file` is not a pipe.
/// - [`EFAULT`]: no page can be copied in full.
/// - Those of [`from_pipe`].
pub(crate) fn splice(
    file: &LocalFile,
    dest: &mut IovIterDest<'_>,
    flags: SpliceFlags,
) -> Result<usize> {
    struct Copy<'a, 'data>(&'a mut IovIterDest<'data>);

    impl Actor for Copy<'_, '_> {
        #[inline]
        fn take(&mut self, buf: BufferRef<'_>, len: usize) -> Result<usize> {
            // One page at a time: if a page cannot be copied in full it does not count, so that
            // user space gets the error and finds the whole page in the pipe.
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
    let bytes = pipe_to_actor(&mut pipe.lock().ring(), len, flags, &mut Copy(dest))?;
    if bytes > 0 {
        file.notify_access();
    }
    Counter::PipeToMemoryCopied.add(bytes);
    Ok(bytes)
}
