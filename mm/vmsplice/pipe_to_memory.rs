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
    splice::{continue_to_actor, Actor, Counter, Progress, SpliceFlags},
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
/// - Those of [`continue_to_actor`].
pub(crate) fn splice(
    file: &LocalFile,
    dest: &mut IovIterDest<'_>,
    flags: SpliceFlags,
) -> Result<usize> {
    let mut pipe = Pipe::of_file(file).ok_or(EBADF)?;
    file.clear_nowait();

    let len = dest.len();
    let mut copy = Copy { dest, missing: 0 };
    let mut progress = Progress::default();
    let mut ret = copy_mapped(&mut pipe, len, flags, &mut copy, &mut progress);
    if copy.missing > 0 {
        ret = copy_after_faults(&mut pipe, len, flags, &mut copy, &mut progress);
    }
    // The program must learn of bytes that have left the pipe.
    let bytes = progress.result(ret)?;
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
/// those of [`continue_to_actor`]. At the end of the transfer it wakes writers.
#[inline(always)]
fn copy_mapped(
    pipe: &mut Pipe<'_>,
    len: usize,
    flags: SpliceFlags,
    copy: &mut Copy<'_, '_>,
    progress: &mut Progress,
) -> Result<usize> {
    let mut guard = pipe.lock();
    // A wait for data, with the pipe unlocked, needs no page faults either.
    let _no_faults = NoFaults::new();
    let mut ring = guard.ring();
    let ret = continue_to_actor(&mut ring, len, flags, copy, progress);
    if copy.missing == 0 {
        progress.wake(&mut ring);
    }
    ret
}

/// Faults memory in and goes on, until the transfer ends.
#[cold]
#[inline(never)]
fn copy_after_faults(
    pipe: &mut Pipe<'_>,
    len: usize,
    flags: SpliceFlags,
    copy: &mut Copy<'_, '_>,
    progress: &mut Progress,
) -> Result<usize> {
    let mut faults = 0;
    let ret = loop {
        let before = progress.bytes;
        // All pages that the data in the pipe needs. If the first is there, the copy goes on.
        let in_pipe: usize = pipe.lock().ring().iter().map(|buf| buf.len()).sum();
        let wanted = in_pipe.min(len - before).max(copy.missing);
        if fault_in(copy.dest, wanted) < copy.missing {
            // Only a fault of the copy itself lets a stack grow.
            faults = MOST_FAULTS;
        }
        faults += 1;
        copy.missing = 0;
        let ret = if faults <= MOST_FAULTS {
            copy_mapped(pipe, len, flags, copy, progress)
        } else {
            continue_to_actor(&mut pipe.lock().ring(), len, flags, copy, progress)
        };
        if copy.missing == 0 {
            break ret;
        }
        if progress.bytes > before {
            faults = 0;
        } else if faults > MOST_FAULTS {
            // The memory cannot be written to.
            break Err(EFAULT);
        }
    };
    if progress.wake_writers {
        progress.wake(&mut pipe.lock().ring());
    }
    ret
}
