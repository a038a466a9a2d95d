// SPDX-License-Identifier: GPL-2.0

//! The two directions of `vmsplice(2)`.

#![forbid(unsafe_code)]

use crate::ops::UserPage;
use kernel::{
    fs::LocalFile,
    iov::IovIterDest,
    pipe::{BufferFlag, BufferFlags, BufferRef, Pipe, PipeRing, DEFAULT_BUFFERS},
    prelude::*,
    splice::{
        broken_pipe,
        counters::Counter,
        from_pipe,
        user::{copy_to_iter, UserIov, UserPages, UserSource},
        wait_for_room, Actor, SpliceFlag, SpliceFlags,
    },
    uaccess::UserPtr,
};

/// `vmsplice(2)`: into the pipe where `fd` is its write end, out of it where it is its read end.
///
/// # Errors
///
/// - [`EINVAL`]: unknown flags, or an impossible `iov`.
/// - [`EBADF`]: `fd` is not an end of a pipe.
/// - [`EFAULT`]: the memory cannot be accessed.
/// - [`EAGAIN`], [`EPIPE`], [`ERESTARTSYS`]: as [`wait_for_room`] and [`from_pipe`] have it.
pub(crate) fn sys_vmsplice(fd: c_int, iov: UserPtr, segments: usize, flags: u32) -> Result<usize> {
    Counter::CallsVmsplice.add(1);
    let flags = SpliceFlags::from_user(flags)?;
    LocalFile::with_fd(fd, |file| {
        if file.is_writable() {
            UserIov::with_source(iov, segments, |source| {
                if source.is_empty() {
                    return Ok(0);
                }
                memory_to_pipe(file, source, flags)
            })
        } else if file.is_readable() {
            UserIov::with_dest(iov, segments, |dest| {
                if dest.is_empty() {
                    return Ok(0);
                }
                pipe_to_memory(file, dest, flags)
            })
        } else {
            Err(EBADF)
        }
    })
}

/// Puts references to user memory into the pipe, until there is no room. Waits for the first.
fn memory_to_pipe(
    file: &LocalFile,
    source: &mut UserSource<'_>,
    flags: SpliceFlags,
) -> Result<usize> {
    let mut pipe = Pipe::of_file(file).ok_or(EBADF)?;
    file.clear_nowait();

    let buffer_flags = if flags.contains(SpliceFlag::Gift) {
        BufferFlag::Gift.into()
    } else {
        BufferFlags::empty()
    };
    let mut guard = pipe.lock();
    let mut ring = guard.ring();
    wait_for_room(&mut ring, flags)?;
    let bytes = link(&mut ring, source, buffer_flags)?;
    drop(guard);
    if bytes > 0 {
        pipe.wake_readers();
        file.notify_modify();
    }
    Ok(bytes)
}

/// Looks pages up and puts them in, a batch at a time. An error is one that came before anything
/// was put in.
#[inline]
fn link(ring: &mut PipeRing<'_>, source: &mut UserSource<'_>, flags: BufferFlags) -> Result<usize> {
    let mut pages = UserPages::<DEFAULT_BUFFERS>::new();
    let mut linked = 0;
    let mut bytes = 0;
    let ret = loop {
        if source.is_empty() {
            break Ok(());
        }
        match pages.refill(source) {
            Ok(true) => (),
            Ok(false) => break Ok(()),
            Err(err) => break Err(err),
        }
        if !ring.has_readers() {
            break Err(broken_pipe());
        }
        let (count, len) = ring.append(&mut pages.buffers::<UserPage>(flags));
        linked += count;
        bytes += len;
        if !pages.is_empty() {
            break Err(EAGAIN);
        }
    };
    Counter::BuffersLinked.add(linked);
    Counter::MemoryToPipeReferenced.add(bytes);
    if bytes == 0 {
        ret?;
    }
    Ok(bytes)
}

/// Copies what is in the pipe to user memory.
fn pipe_to_memory(
    file: &LocalFile,
    dest: &mut IovIterDest<'_>,
    flags: SpliceFlags,
) -> Result<usize> {
    struct Copy<'a, 'data>(&'a mut IovIterDest<'data>);

    impl Actor for Copy<'_, '_> {
        #[inline]
        fn take(&mut self, buf: BufferRef<'_>, len: usize) -> Result<usize> {
            // A part that was copied does not count: the user learns of the fault, and finds the
            // whole in the pipe.
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
