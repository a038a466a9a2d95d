// SPDX-License-Identifier: GPL-2.0

//! Transfers from one pipe to another: `splice(2)` moves buffers, `tee(2)` takes a second reference
//! to each.

#![forbid(unsafe_code)]

use kernel::{
    pipe::{Pipe, PipeGuard, PipeRing},
    prelude::*,
    splice::{
        broken_pipe,
        interrupted,
        wait_for_room,
        Counter,
        SpliceFlag,
        SpliceFlags, //
    },
};

/// Waits until the pipe has data, or has no writers.
///
/// Looks at the pipe without its lock first. The result can be stale when this returns, so the
/// caller checks again with both pipes locked. The caller must not wait at that point: a sleep on
/// one pipe with the other one locked would hold up the users of the other one, and two transfers
/// in opposite directions could deadlock.
///
/// Errors, only if the pipe is empty: [`ERESTARTSYS`] if a signal is pending, and [`EAGAIN`] if
/// `flags` have [`SpliceFlag::NonBlock`] and the pipe has writers.
#[inline(always)]
pub(crate) fn wait_for_input(pipe: &mut Pipe<'_>, flags: SpliceFlags) -> Result {
    if !pipe.seems_empty() {
        return Ok(());
    }
    wait_for_input_locked(pipe, flags)
}

fn wait_for_input_locked(pipe: &mut Pipe<'_>, flags: SpliceFlags) -> Result {
    let mut guard = pipe.lock();
    let mut ring = guard.ring();
    while ring.is_empty() {
        if interrupted() {
            return Err(ERESTARTSYS);
        }
        if !ring.has_writers() {
            break;
        }
        if flags.contains(SpliceFlag::NonBlock) {
            return Err(EAGAIN);
        }
        ring.wait_readable();
    }
    Ok(())
}

/// Waits until the pipe has room. Looks without the lock first, for the same reason as
/// [`wait_for_input`]. Returns the errors of [`wait_for_room`].
#[inline(always)]
fn wait_for_output(pipe: &mut Pipe<'_>, flags: SpliceFlags) -> Result {
    if !pipe.seems_full() {
        return Ok(());
    }
    wait_for_output_locked(pipe, flags)
}

fn wait_for_output_locked(pipe: &mut Pipe<'_>, flags: SpliceFlags) -> Result {
    wait_for_room(&mut pipe.lock().ring(), flags)
}

/// Locks both pipes. If it may not wait for that, it returns [`SpliceFlags::WOULD_WAIT`] where
/// another task has locked one of them.
#[inline(always)]
fn lock_both<'g, const WAITS: bool>(
    input: &'g mut Pipe<'_>,
    output: &'g mut Pipe<'_>,
) -> Result<(PipeGuard<'g>, PipeGuard<'g>)> {
    if WAITS {
        return Pipe::lock_both(input, output);
    }
    let from = input.try_lock().ok_or(SpliceFlags::WOULD_WAIT)?;
    let to = output.try_lock().ok_or(SpliceFlags::WOULD_WAIT)?;
    Ok((from, to))
}

/// Returns the errors of the waits, for a call that must not wait, with both pipes locked.
#[inline]
fn check_ready(from: &PipeRing<'_>, to: &mut PipeRing<'_>, flags: SpliceFlags) -> Result {
    if from.is_empty() && from.has_writers() {
        return Err(if flags.contains(SpliceFlag::NonBlock) {
            EAGAIN
        } else {
            SpliceFlags::WOULD_WAIT
        });
    }
    wait_for_room(to, flags)
}

/// The result of one attempt with both pipes locked.
enum Outcome {
    /// So many bytes were transferred. 0: the input is empty, and has no writers.
    Done(usize),
    /// Another task emptied the input or filled the output after the waits.
    Raced,
}

/// Moves up to `len` bytes from `input` to `output`: whole buffers, and a part of the last one if
/// not all of it is wanted or fits. C: `splice_pipe_to_pipe`.
///
/// # Errors
///
/// - [`EINVAL`]: both are the same pipe.
/// - [`EPIPE`], and `SIGPIPE`: `output` has no readers.
/// - [`EAGAIN`]: the call would wait, and `flags` have [`SpliceFlag::NonBlock`].
/// - [`ERESTARTSYS`]: a signal is pending during a wait.
/// - [`EFAULT`]: a buffer cannot be split, because its page cannot have another reference.
/// - [`SpliceFlags::WOULD_WAIT`]: the call would wait, and must not (`WAITS` is `false`). `flags`
///   have [`SpliceFlags::no_wait`] then, and no `SIGPIPE` is sent.
#[inline(never)]
pub(crate) fn splice<const WAITS: bool>(
    input: &mut Pipe<'_>,
    output: &mut Pipe<'_>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    loop {
        if WAITS {
            wait_for_input(input, flags)?;
            wait_for_output(output, flags)?;
        }

        let mut moved = Moved::default();
        let (mut from, mut to) = lock_both::<WAITS>(input, output)?;
        let (mut input_ring, mut output_ring) = (from.ring(), to.ring());
        if !WAITS {
            check_ready(&input_ring, &mut output_ring, flags)?;
        }
        let outcome = move_buffers(&mut input_ring, &mut output_ring, len, flags, &mut moved);
        drop(from);
        drop(to);

        // Wake others after the unlock: before it, they would block on a mutex right away.
        if let Ok(Outcome::Done(1..)) = outcome {
            output.wake_readers();
        }
        // A part that is split off a buffer of one slot makes no room, so no writer is woken for
        // it.
        if moved.buffers > 0 || moved.made_room {
            Counter::BuffersMoved.add(moved.buffers);
            input.wake_writers();
        }
        if let Outcome::Done(bytes) = outcome? {
            Counter::PipeToPipeReferenced.add(bytes);
            return Ok(bytes);
        }
    }
}

/// The effect of a transfer on its input pipe. It decides whether writers are woken.
#[derive(Default)]
struct Moved {
    /// The number of whole buffers that were moved out.
    buffers: usize,
    /// A split freed slots: a buffer of several pages has one slot for each of them.
    made_room: bool,
}

/// Moves as much as is possible without waiting, and adds the effect on `from` to `moved`. Returns
/// an error only if nothing was moved.
#[inline]
fn move_buffers(
    from: &mut PipeRing<'_>,
    to: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
    moved: &mut Moved,
) -> Result<Outcome> {
    // The waits do not look at the readers of a pipe that has room. One check is enough: the lock
    // of a pipe guards its number of readers.
    if !to.has_readers() {
        return Err(broken_pipe());
    }
    let mut left = len;
    let ret = loop {
        // Most buffers take one slot and move whole. They move in one loop, from slot to slot: with
        // a call for each buffer, 1 MiB would take 1.5 times as many instructions.
        let (buffers, bytes) = from.move_buffers(to, left);
        moved.buffers = moved.buffers.wrapping_add(buffers);
        left = left.wrapping_sub(bytes);
        if left == 0 {
            break Ok(());
        }
        match move_fitting(from, to, left, moved) {
            Ok(None) => break Ok(()),
            Ok(Some(bytes)) => left = left.wrapping_sub(bytes),
            Err(err) => break Err(err),
        }
    };
    let bytes = len.wrapping_sub(left);
    if bytes != 0 {
        // An error would make the caller believe that nothing was transferred.
        return Ok(Outcome::Done(bytes));
    }
    ret?;
    // Both with the pipe locked. Otherwise a writer could write and close in between, and its data
    // would be taken for the end of the data.
    if from.is_empty() && !from.has_writers() {
        return Ok(Outcome::Done(0));
    }
    stuck(flags)
}

/// Moves as much of the oldest buffer of `from` as fits into `to`, at most `most` bytes. Returns
/// the number of bytes, or `None` if there is no buffer or no room. Returns [`EFAULT`] if the
/// buffer must be split, but its page cannot have another reference.
fn move_fitting(
    from: &mut PipeRing<'_>,
    to: &mut PipeRing<'_>,
    most: usize,
    moved: &mut Moved,
) -> Result<Option<usize>> {
    let (Some(buf), Some(vacancy)) = (from.front(), to.vacancy()) else {
        return Ok(None);
    };
    // A buffer takes one slot for each of its pages. Cut it where the output is full, so that the
    // capacity of a pipe does not depend on how contiguous memory is.
    let most = most.min(buf.len_in_slots(vacancy.slots()));
    if most == buf.len() {
        if let Some(buf) = from.pop_front() {
            vacancy.fill(buf);
            moved.buffers = moved.buffers.wrapping_add(1);
        }
        return Ok(Some(most));
    }
    let space = from.space();
    // Both parts refer to the page afterwards. At most one may append to the page or steal it, so
    // the part that moves has no such right.
    if let Some(part) = from.split_front(most) {
        vacancy.fill(part?);
        moved.made_room |= from.space() > space;
        Counter::BuffersTeed.add(1);
    }
    Ok(Some(most))
}

/// The result if there is no input or no room although the waits succeeded: another task was
/// faster. To return 0 bytes would mean end of file, so the caller waits again, or gets [`EAGAIN`].
#[inline]
fn stuck(flags: SpliceFlags) -> Result<Outcome> {
    if flags.contains(SpliceFlag::NonBlock) {
        Err(EAGAIN)
    } else {
        Ok(Outcome::Raced)
    }
}

/// Puts second references to the first `len` bytes of `input` into `output`, and returns how many
/// bytes it linked. C: `link_pipe`, with the waits of `do_tee`.
///
/// Returns 0 only at the end of `input`. In C the result is 0 as well if another task emptied
/// `input` or filled `output` after the waits, and programs take that for the end. Here the call
/// waits again, as [`splice`] does. Errors are those of [`splice`].
pub(crate) fn tee<const WAITS: bool>(
    input: &mut Pipe<'_>,
    output: &mut Pipe<'_>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    loop {
        if WAITS {
            wait_for_input(input, flags)?;
            wait_for_output(output, flags)?;
        }

        let (mut from, mut to) = lock_both::<WAITS>(input, output)?;
        if !WAITS {
            check_ready(&from.ring(), &mut to.ring(), flags)?;
        }
        let outcome = link_buffers(&mut from.ring(), &mut to.ring(), len, flags);
        drop(from);
        drop(to);

        if let Outcome::Done(bytes) = outcome? {
            // The input keeps its buffers, so no writer of it is woken.
            if bytes > 0 {
                output.wake_readers();
            }
            Counter::TeeReferenced.add(bytes);
            return Ok(bytes);
        }
    }
}

/// Links as much as is possible without waiting. Returns an error only if nothing was linked.
#[inline]
fn link_buffers(
    from: &mut PipeRing<'_>,
    to: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
) -> Result<Outcome> {
    // One check is enough: the lock of a pipe guards its number of readers.
    if !to.has_readers() {
        return Err(broken_pipe());
    }
    let (buffers, bytes) = from.link_buffers(to, len)?;
    Counter::BuffersTeed.add(buffers);
    // Buffers without data are linked, too. They must not be linked again for ever.
    if buffers > 0 {
        return Ok(Outcome::Done(bytes));
    }
    // As in `move_buffers`, both with the pipe locked.
    if len == 0 || (from.is_empty() && !from.has_writers()) {
        return Ok(Outcome::Done(0));
    }
    stuck(flags)
}
