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
    loop {
        let bytes = len.wrapping_sub(left);
        let writable = to.vacancy();
        let Some(buf) = from.front() else {
            return if bytes != 0 || !from.has_writers() {
                Ok(Outcome::Done(bytes))
            } else {
                stuck(flags)
            };
        };
        let Some(vacancy) = writable else {
            return if bytes != 0 {
                Ok(Outcome::Done(bytes))
            } else {
                stuck(flags)
            };
        };

        let mut most = left;
        if buf.slots() > 1 {
            most = left.min(buf.len_in_slots(vacancy.slots()));
        }
        if most >= buf.len() {
            left = left.wrapping_sub(vacancy.fill_from(from).unwrap_or(0));
            moved.buffers = moved.buffers.wrapping_add(1);
        } else {
            let space = from.space();
            match from.split_front(most) {
                Some(Ok(part)) => vacancy.fill(part),
                Some(Err(err)) => return done_or(bytes, err),
                None => return Ok(Outcome::Done(bytes)),
            }
            left = left.wrapping_sub(most);
            moved.made_room |= from.space() > space;
            Counter::BuffersTeed.add(1);
        }
        if left == 0 {
            return Ok(Outcome::Done(len));
        }
    }
}

/// What was transferred counts for more than what went wrong afterwards.
#[inline]
fn done_or(bytes: usize, err: Error) -> Result<Outcome> {
    if bytes != 0 {
        Ok(Outcome::Done(bytes))
    } else {
        Err(err)
    }
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
    let mut bytes = 0;
    for mut buf in from.iter() {
        let Some(vacancy) = to.vacancy() else { break };
        let mut copy = match buf.try_clone() {
            Ok(copy) => copy,
            Err(_) if bytes != 0 => break,
            Err(err) => return Err(err),
        };
        copy.truncate(len - bytes);
        if copy.slots() > 1 {
            copy.truncate(copy.len_in_slots(vacancy.slots()));
        }
        bytes += copy.len();
        vacancy.fill(copy);
        Counter::BuffersTeed.add(1);
        if bytes == len {
            break;
        }
    }
    Ok(bytes)
}
