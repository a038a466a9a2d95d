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
/// - [`EINVAL`]: unknown flags, or an impossible `iov`; memory that data is copied to is to be
///   reported.
/// - [`EBADF`]: `fd` is not an end of a pipe.
/// - [`EFAULT`]: the memory cannot be accessed.
/// - [`EAGAIN`], [`EPIPE`], [`ERESTARTSYS`]: as [`wait_for_room`] and [`from_pipe`] have it.
pub(crate) fn sys_vmsplice(fd: c_int, iov: UserPtr, segments: usize, flags: u32) -> Result<usize> {
    Counter::CallsVmsplice.add(1);
    let (flags, notify) = SpliceFlags::from_user_notify(flags)?;
    LocalFile::with_fd(fd, |file| {
        if file.is_writable() {
            UserIov::with_source(iov, segments, |source| {
                if source.is_empty() {
                    return Ok(0);
                }
                memory_to_pipe(file, source, flags, notify)
            })
        } else if file.is_readable() {
            if notify {
                return Err(EINVAL);
            }
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
    notify: bool,
) -> Result<usize> {
    let mut pipe = Pipe::of_file(file).ok_or(EBADF)?;
    file.clear_nowait();

    let mut guard = pipe.lock();
    let mut ring = guard.ring();
    wait_for_room(&mut ring, flags)?;
    let bytes = if notify {
        link_reported(&mut ring, source)?
    } else {
        let flags = if flags.contains(SpliceFlag::Gift) {
            BufferFlag::Gift.into()
        } else {
            BufferFlags::empty()
        };
        link(&mut ring, source, |ring, pages| {
            ring.append(&mut pages.buffers::<UserPage>(flags))
        })?
    };
    drop(guard);
    if bytes > 0 {
        pipe.wake_readers();
        file.notify_modify();
    }
    Ok(bytes)
}

/// As [`link`], for memory whose release is to be reported. The call gets a number where anything
/// was put in. Fails with [`ENOMEM`] as well.
#[cold]
fn link_reported(ring: &mut PipeRing<'_>, source: &mut UserSource<'_>) -> Result<usize> {
    let draft = ring.issuer_or_new()?.draft()?;
    let bytes = link(ring, source, |ring, pages| {
        ring.append(&mut pages.reported_buffers(draft.call()))
    })?;
    if let (1.., Some(issuer)) = (bytes, ring.issuer()) {
        issuer.issue(draft);
    }
    Ok(bytes)
}

type Pages = UserPages<DEFAULT_BUFFERS>;

/// Looks pages up and has `append` put them in, a batch at a time. An error is one that came
/// before anything was put in.
#[inline(always)]
fn link(
    ring: &mut PipeRing<'_>,
    source: &mut UserSource<'_>,
    append: impl Fn(&mut PipeRing<'_>, &mut Pages) -> (usize, usize),
) -> Result<usize> {
    let mut pages = Pages::new();
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
        let (count, len) = append(ring, &mut pages);
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
