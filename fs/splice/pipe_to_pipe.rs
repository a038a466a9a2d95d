// SPDX-License-Identifier: GPL-2.0

//! From a pipe to another: by moving buffers, or, for `tee(2)`, by taking second references.

#![forbid(unsafe_code)]

use kernel::{
    pipe::{Pipe, PipeRing},
    prelude::*,
    splice::{
        broken_pipe,
        counters::Counter,
        interrupted,
        wait_for_room,
        SpliceFlag,
        SpliceFlags, //
    },
};

/// Waits until there is something in the pipe, or nobody left to write.
///
/// The first look is without the lock. It may be out of date, and so may the answer be: the caller
/// looks again, with both pipes locked.
#[inline(always)]
fn wait_for_input(pipe: &mut Pipe<'_>, flags: SpliceFlags) -> Result {
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

/// Waits until there is room in the pipe; as [`wait_for_input`].
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

/// How far a transfer came.
enum Outcome {
    /// Something was transferred, or nothing more can come.
    Done(usize),
    /// Somebody else took the input or filled the output after the waits.
    Raced,
}

/// Moves up to `len` bytes. Whole buffers change pipes; of the last one a part is split off.
///
/// The pipes are different ones; [`EINVAL`] otherwise. Other errors: [`EPIPE`], and `SIGPIPE`,
/// where nobody has the output's read end open; [`EAGAIN`], [`ERESTARTSYS`]; [`EFAULT`] where a
/// page cannot have another reference. C: `splice_pipe_to_pipe`.
#[inline(never)]
pub(crate) fn splice(
    input: &mut Pipe<'_>,
    output: &mut Pipe<'_>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    loop {
        wait_for_input(input, flags)?;
        wait_for_output(output, flags)?;

        let mut moved = Moved::default();
        let (mut from, mut to) = Pipe::lock_both(input, output)?;
        let (mut input_ring, mut output_ring) = (from.ring(), to.ring());
        let outcome = move_buffers(&mut input_ring, &mut output_ring, len, flags, &mut moved);
        drop(from);
        drop(to);

        if let Ok(Outcome::Done(1..)) = outcome {
            output.wake_readers();
        }
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

/// What a transfer did to the pipe that it moves from.
#[derive(Default)]
struct Moved {
    /// How many whole buffers were taken out.
    buffers: usize,
    /// There is more room than before, even if none was.
    made_room: bool,
}

/// Moves what can be moved at once; `moved` receives the effect on `from`. An error is one that came
/// before anything was moved.
#[inline]
fn move_buffers(
    from: &mut PipeRing<'_>,
    to: &mut PipeRing<'_>,
    len: usize,
    flags: SpliceFlags,
    moved: &mut Moved,
) -> Result<Outcome> {
    // This cannot change as long as the pipe is locked.
    if !to.has_readers() {
        return Err(broken_pipe());
    }
    let mut left = len;
    let ret = loop {
        // Most buffers take one slot and move whole.
        let (buffers, bytes) = from.move_buffers(to, left);
        moved.buffers = moved.buffers.wrapping_add(buffers);
        left = left.wrapping_sub(bytes);
        if left == 0 {
            break Ok(());
        }
        match move_fitting(from, to, left, moved) {
            Ok(0) => break Ok(()),
            Ok(bytes) => left = left.wrapping_sub(bytes),
            Err(err) => break Err(err),
        }
    };
    let bytes = len.wrapping_sub(left);
    if bytes != 0 {
        // What was transferred counts for more than what went wrong afterwards.
        return Ok(Outcome::Done(bytes));
    }
    ret?;
    if from.is_empty() && !from.has_writers() {
        return Ok(Outcome::Done(0));
    }
    stuck(flags)
}

/// Moves of the oldest buffer of `from` what fits into `to`, but no more than `most` bytes. Returns
/// how many these are. Fails with [`EFAULT`] if the buffer has to be split and cannot be.
fn move_fitting(
    from: &mut PipeRing<'_>,
    to: &mut PipeRing<'_>,
    most: usize,
    moved: &mut Moved,
) -> Result<usize> {
    let (Some(buf), Some(vacancy)) = (from.front(), to.vacancy()) else {
        return Ok(0);
    };
    let most = most.min(buf.len_in_slots(vacancy.slots()));
    if most == buf.len() {
        if let Some(buf) = from.pop_front() {
            vacancy.fill(buf);
            moved.buffers = moved.buffers.wrapping_add(1);
        }
        return Ok(most);
    }
    let space = from.space();
    if let Some(part) = from.split_front(most) {
        vacancy.fill(part?);
        moved.made_room |= from.space() > space;
        Counter::BuffersTeed.add(1);
    }
    Ok(most)
}

/// No input or no room, in spite of the waits. 0 would mean that nobody is left to write, so the
/// waits have to be done again.
#[inline]
fn stuck(flags: SpliceFlags) -> Result<Outcome> {
    if flags.contains(SpliceFlag::NonBlock) {
        Err(EAGAIN)
    } else {
        Ok(Outcome::Raced)
    }
}

/// Puts references to the first `len` bytes of `input` into `output`.
///
/// Errors are those of [`splice`]. Returns 0 where the input was taken by somebody else after the
/// wait, as at its end: the caller cannot tell. C: `link_pipe`, in `do_tee`.
pub(crate) fn tee(
    input: &mut Pipe<'_>,
    output: &mut Pipe<'_>,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    wait_for_input(input, flags)?;
    wait_for_output(output, flags)?;

    let (mut from, mut to) = Pipe::lock_both(input, output)?;
    let bytes = link_buffers(&mut from.ring(), &mut to.ring(), len);
    drop(from);
    drop(to);

    if let Ok(1..) = bytes {
        output.wake_readers();
    }
    Counter::TeeReferenced.add(bytes.unwrap_or(0));
    bytes
}

/// Links what can be linked at once. An error is one that came before anything was linked.
#[inline]
fn link_buffers(from: &mut PipeRing<'_>, to: &mut PipeRing<'_>, len: usize) -> Result<usize> {
    // As in `move_buffers`.
    if !to.has_readers() {
        return Err(broken_pipe());
    }
    let (buffers, bytes) = from.link_buffers(to, len)?;
    Counter::BuffersTeed.add(buffers);
    Ok(bytes)
}
