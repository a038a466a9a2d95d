// SPDX-License-Identifier: GPL-2.0

//! `vmsplice(2)` out of a pipe: the data is copied to user memory.
//!
//! A page fault can take any time: userfaultfd, FUSE and NFS let another process, or a server,
//! answer it. So the copy takes no page faults while the pipe is locked. If the memory is not
//! mapped, the pipe is unlocked, the memory is faulted in, and the copy goes on.

#![forbid(unsafe_code)]

use kernel::{
    fs::LocalFile,
    iov::{
        user::{copy_whole_to_iter, fault_in, NoFaults},
        IovIterDest,
    },
    pipe::{BufferRef, Pipe},
    prelude::*,
    splice::{pipe_to_actor, Actor, Counter, SpliceFlag, SpliceFlags},
};

/// How often in a row memory may be gone again after it was faulted in. Then one copy takes page
/// faults with the pipe locked.
const MOST_FAULTS: u32 = 8;

/// Copies data of the pipe whose read end is `file` to user memory. Returns the number of bytes.
/// Waits for the first data, and sleeps in page faults, with the pipe unlocked.
///
/// # Errors
///
/// - [`EBADF`]: `file` is not a pipe.
/// - [`EFAULT`]: no page can be copied in full.
/// - Those of [`pipe_to_actor`].
pub(crate) fn splice(
    file: &LocalFile,
    dest: &mut IovIterDest<'_>,
    flags: SpliceFlags,
) -> Result<usize> {
    let mut pipe = Pipe::of_file(file).ok_or(EBADF)?;
    file.clear_nowait();

    let len = dest.len();
    let mut copy = Copy { dest, missing: 0 };
    let ret = copy_mapped(&mut pipe, len, flags, &mut copy);
    let bytes = if copy.missing == 0 {
        ret?
    } else {
        copy_after_faults(&mut pipe, len, flags, &mut copy, ret.unwrap_or(0))?
    };
    if bytes > 0 {
        file.notify_access();
    }
    Counter::PipeToMemoryCopied.add(bytes);
    Ok(bytes)
}

/// An actor that copies to user memory.
struct Copy<'a, 'data> {
    dest: &'a mut IovIterDest<'data>,
    /// The number of bytes for which the memory was not mapped at the last attempt; 0 if it was.
    missing: usize,
}

impl Actor for Copy<'_, '_> {
    #[inline]
    fn take(&mut self, buf: BufferRef<'_>, len: usize) -> Result<usize> {
        // One page at a time: if a page cannot be copied in full it does not count, so that user
        // space gets the error and finds the whole page in the pipe.
        let len = len.min(buf.len_in_slots(1));
        if !copy_whole_to_iter(&buf, len, self.dest) {
            self.missing = len;
            return Err(EFAULT);
        }
        Ok(len)
    }
}

/// Copies until the memory is not mapped, see [`Copy::missing`]. The arguments and results are
/// those of [`pipe_to_actor`].
#[inline(always)]
fn copy_mapped(
    pipe: &mut Pipe<'_>,
    len: usize,
    flags: SpliceFlags,
    copy: &mut Copy<'_, '_>,
) -> Result<usize> {
    let mut guard = pipe.lock();
    // A wait for data, with the pipe unlocked, needs no page faults either.
    let _no_faults = NoFaults::new();
    pipe_to_actor(&mut guard.ring(), len, flags, copy)
}

/// Faults memory in and goes on, after `bytes` of `len` bytes were copied.
#[cold]
#[inline(never)]
fn copy_after_faults(
    pipe: &mut Pipe<'_>,
    len: usize,
    flags: SpliceFlags,
    copy: &mut Copy<'_, '_>,
    mut bytes: usize,
) -> Result<usize> {
    let mut faults = 0;
    while copy.missing > 0 {
        // All pages that the data in the pipe needs. If the first is there, the copy goes on.
        let in_pipe: usize = pipe.lock().ring().iter().map(|buf| buf.len()).sum();
        let wanted = in_pipe.min(len - bytes).max(copy.missing);
        if fault_in(copy.dest, wanted) < copy.missing {
            // Only a fault of the copy itself lets a stack grow. If it fails as well, there is no
            // memory.
            faults = MOST_FAULTS;
        }
        faults += 1;
        copy.missing = 0;
        // Do not wait for more data if there is something to return.
        let flags = if bytes > 0 {
            flags | SpliceFlag::NonBlock
        } else {
            flags
        };
        let ret = if faults <= MOST_FAULTS {
            copy_mapped(pipe, len - bytes, flags, copy)
        } else {
            let ret = pipe_to_actor(&mut pipe.lock().ring(), len - bytes, flags, copy);
            if ret.is_err() {
                // The memory cannot be written to.
                copy.missing = 0;
            }
            ret
        };
        match ret {
            Ok(more) => {
                bytes += more;
                faults = 0;
            }
            Err(_) if copy.missing > 0 => (),
            ret => return moved_or(bytes, ret),
        }
    }
    Ok(bytes)
}

/// Returns the number of bytes if it is not 0, else `ret`: the program must learn of bytes that
/// have left the pipe.
fn moved_or(bytes: usize, ret: Result<usize>) -> Result<usize> {
    if bytes > 0 {
        Ok(bytes)
    } else {
        ret
    }
}
