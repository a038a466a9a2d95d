// SPDX-License-Identifier: GPL-2.0

//! The two directions of `vmsplice(2)`.

#![forbid(unsafe_code)]

use kernel::{
    fs::LocalFile,
    iov::IovIterDest,
    mm::gup::{MemlockCharge, UserRange},
    pipe::{BufferRef, Pipe, PipeRing},
    prelude::*,
    splice::{
        counters::Counter,
        from_pipe,
        loan::Loan,
        notify::Call,
        user::{copy_to_iter, UserIov, UserSource},
        wait_for_room, Actor, SpliceFlags,
    },
    sync::Arc,
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

/// Puts user memory into the pipe, until there is no room. Waits for the first.
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
        link(&mut ring, source, None)?
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
    let bytes = link(ring, source, Some(draft.call()))?;
    if let (1.., Some(issuer)) = (bytes, ring.issuer()) {
        issuer.issue(draft);
    }
    Ok(bytes)
}

/// Puts in what there is room for. An error is one that came before anything was put in.
///
/// Nearly always the memory is one range, and there is room for all that one loan can have. What
/// has to be done beyond that is done elsewhere.
#[inline]
fn link(
    ring: &mut PipeRing<'_>,
    source: &mut UserSource<'_>,
    call: Option<&Arc<Call>>,
) -> Result<usize> {
    let Some(range) = source.front() else {
        return Ok(0);
    };
    let mut charge = MemlockCharge::up_to(range.first_pages(ring.space() as usize).pages());
    let first = Loan::append(ring, range, &mut charge, call);
    let mut bytes = 0;
    if let Ok((buffers, appended)) = first {
        bytes = appended;
        source.advance(bytes);
        count(buffers, bytes);
        if source.is_empty() {
            return Ok(bytes);
        }
    }
    let charge = (bytes < range.len()).then_some(charge);
    link_rest(ring, source, call, charge, first.is_ok(), bytes)
}

/// Counts what was pinned.
#[inline]
fn count(buffers: usize, bytes: usize) {
    Counter::BuffersLinked.add(buffers);
    Counter::MemoryToPipeReferenced.add(bytes);
}

/// Goes on where [`link`] has put in `bytes`. `charge`: what is left of that for the range that
/// this begins with, if there was one. `pin`: whether it is worthwhile trying to pin what comes
/// next. Says how many bytes that makes.
#[inline(never)]
fn link_rest(
    ring: &mut PipeRing<'_>,
    source: &mut UserSource<'_>,
    call: Option<&Arc<Call>>,
    mut charge: Option<MemlockCharge>,
    mut pin: bool,
    mut bytes: usize,
) -> Result<usize> {
    while let Some(range) = source.front() {
        let room = range.first_pages(ring.space() as usize);
        let charge = charge
            .take()
            .unwrap_or_else(|| MemlockCharge::up_to(room.pages()));
        let ret = link_range(ring, source, room, charge, call, pin, &mut bytes);
        pin = true;
        if bytes == 0 {
            ret?;
        }
        if ret.is_err() || room != range {
            break;
        }
    }
    Ok(bytes)
}

/// Puts in `range`, which is what comes next in `source`, and which there is room for: pinned as
/// far as there is a charge for it, and the memory can be; what is left is copied. So is the first
/// page, unless `pin`. Adds to `total` how many bytes that were.
fn link_range(
    ring: &mut PipeRing<'_>,
    source: &mut UserSource<'_>,
    range: UserRange,
    mut charge: MemlockCharge,
    call: Option<&Arc<Call>>,
    mut pin: bool,
    total: &mut usize,
) -> Result {
    let mut left = range;
    while !left.is_empty() {
        let appended = if pin {
            Loan::append(ring, left, &mut charge, call)
        } else {
            Err(EFAULT)
        };
        pin = true;
        let bytes = match appended {
            Ok((buffers, bytes)) => {
                source.advance(bytes);
                count(buffers, bytes);
                *total = total.wrapping_add(bytes);
                bytes
            }
            Err(_) => {
                let bytes = copy_page(ring, source)?;
                Counter::BuffersLinked.add(1);
                Counter::MemoryToPipeCopied.add(bytes);
                *total = total.wrapping_add(bytes);
                // Where there was a charge for it, this page does not count.
                drop(charge.split_to(1));
                if bytes < left.first_pages(1).len() {
                    return Err(EFAULT);
                }
                bytes
            }
        };
        left = left.skip(bytes);
    }
    Ok(())
}

/// Puts in a copy of what comes next, as far as it is in one page; says how many bytes that were.
#[cold]
fn copy_page(ring: &mut PipeRing<'_>, source: &mut UserSource<'_>) -> Result<usize> {
    let vacancy = ring.vacancy().ok_or(EAGAIN)?;
    let copy = source.copy_page()?;
    let bytes = copy.len();
    vacancy.fill(copy);
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
