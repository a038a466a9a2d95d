// SPDX-License-Identifier: GPL-2.0

//! From a file to another, through a pipe that the task keeps for this. `sendfile(2)` and
//! `copy_file_range(2)` run on it.

#![forbid(unsafe_code)]

use crate::{
    file_to_pipe::{self, MAX_RW_COUNT},
    pipe_to_file,
};
use kernel::{
    fs::{
        file::{flags::O_APPEND, Offset},
        LocalFile, //
    },
    pipe::PrivatePipe,
    prelude::*,
    splice::{counters::Counter, SpliceDesc, SpliceFlag, SpliceFlags},
};

/// Where the data goes.
pub(crate) trait Sink {
    /// Takes the data that is in `pipe`, `desc.total_len()` bytes, and says how many it took.
    fn drain(&mut self, pipe: &mut PrivatePipe, desc: &mut SpliceDesc) -> Result<usize>;

    /// The source ended before `drain` got all that was announced as following.
    fn source_ended(&mut self, desc: &mut SpliceDesc);
}

/// Moves `desc.total_len()` bytes from `file`, from `desc.pos()` on, to `sink`; returns how many.
/// `desc.pos()` is behind the last byte that the sink took, afterwards.
///
/// Fails with [`EINVAL`] where `file` cannot be repositioned: what was read from it and could not
/// be delivered would be lost. Other errors are those of the two ends. C:
/// `splice_direct_to_actor`.
#[inline]
pub(crate) fn splice_direct(
    file: &LocalFile,
    desc: &mut SpliceDesc,
    sink: &mut impl Sink,
) -> Result<usize> {
    if !file.is_seekable() {
        return Err(EINVAL);
    }
    let mut pipe = PrivatePipe::take_from_current()?;
    let ret = pump(file, &mut pipe, desc, sink);
    // What is still in there was not delivered, and the position says so.
    pipe.keep_for_current();
    file.accessed();
    ret
}

/// Fills and drains the pipe in turns.
#[inline]
fn pump(
    file: &LocalFile,
    pipe: &mut PrivatePipe,
    desc: &mut SpliceDesc,
    sink: &mut impl Sink,
) -> Result<usize> {
    let len = desc.total_len();
    let read_flags = desc.flags();
    let more = read_flags.contains(SpliceFlag::More);

    // Not to wait is for the source alone: the sink has to drain the pipe. Until the last part
    // has been read it is told that more follows.
    desc.set_flags(read_flags.without(SpliceFlag::NonBlock) | SpliceFlag::More);

    let mut bytes = 0;
    while bytes < len {
        let start = desc.pos();
        let mut pos = start;
        let read =
            match file_to_pipe::read(file, &mut pos, &mut pipe.ring(), len - bytes, read_flags) {
                Ok(0) => {
                    if !more && bytes > 0 {
                        sink.source_ended(desc);
                    }
                    break;
                }
                Ok(read) => read,
                Err(_) if bytes > 0 => break,
                Err(err) => return Err(err),
            };
        // It was empty before.
        file_to_pipe::count(read, pipe.ring().indices().occupancy() as usize);
        desc.set_total_len(read);
        if read >= len - bytes && !more {
            desc.set_flags(desc.flags().without(SpliceFlag::More));
        }

        let drained = match sink.drain(pipe, desc) {
            Ok(drained) => drained,
            Err(err) => {
                desc.set_pos(start);
                if bytes > 0 {
                    break;
                }
                return Err(err);
            }
        };
        if drained < read {
            bytes += drained;
            desc.set_pos(start + drained as Offset);
            break;
        }
        // No sink can have taken more than there was.
        bytes += read;
        desc.set_pos(pos);
    }
    Ok(bytes)
}

/// A file as the sink. `WRITE_STARTED`: the caller keeps its file system from being frozen already.
struct FileSink<'a, const WRITE_STARTED: bool> {
    file: &'a LocalFile,
    pos: &'a mut Offset,
}

impl<const WRITE_STARTED: bool> Sink for FileSink<'_, WRITE_STARTED> {
    #[inline]
    fn drain(&mut self, pipe: &mut PrivatePipe, desc: &mut SpliceDesc) -> Result<usize> {
        let _write = (!WRITE_STARTED).then(|| self.file.start_write());
        pipe_to_file::write(
            pipe.handle(),
            self.file,
            self.pos,
            desc.total_len(),
            desc.flags(),
        )
    }

    #[inline]
    fn source_ended(&mut self, _desc: &mut SpliceDesc) {
        self.file.call_splice_eof();
    }
}

/// For `sendfile(2)` and the like. The caller has verified both ranges. C: `do_splice_direct`.
///
/// Fails with [`EBADF`] where `output` cannot be written, and with [`EINVAL`] where it is to be
/// appended to.
pub(crate) fn do_splice_direct(
    input: &LocalFile,
    in_pos: &mut Offset,
    output: &LocalFile,
    out_pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    Counter::CallsDirect.add(1);
    file_to_file::<false>(input, in_pos, output, out_pos, len, flags)
}

/// For `copy_file_range(2)`. The caller has verified both ranges, and keeps the file system of
/// `output` from being frozen. C: `splice_file_range`.
pub(crate) fn splice_file_range(
    input: &LocalFile,
    in_pos: &mut Offset,
    output: &LocalFile,
    out_pos: &mut Offset,
    len: usize,
) -> Result<usize> {
    Counter::CallsFileRange.add(1);
    output.assert_write_started();
    let len = len.min(MAX_RW_COUNT);
    file_to_file::<true>(input, in_pos, output, out_pos, len, SpliceFlags::empty())
}

#[inline(always)]
fn file_to_file<const WRITE_STARTED: bool>(
    input: &LocalFile,
    in_pos: &mut Offset,
    output: &LocalFile,
    out_pos: &mut Offset,
    len: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    if !output.is_writable() {
        return Err(EBADF);
    }
    if output.has_flags(O_APPEND) {
        return Err(EINVAL);
    }
    let mut desc = SpliceDesc::new(len, flags, *in_pos);
    let mut sink = FileSink::<WRITE_STARTED> {
        file: output,
        pos: out_pos,
    };
    let bytes = splice_direct(input, &mut desc, &mut sink)?;
    if bytes > 0 {
        *in_pos = desc.pos();
    }
    Ok(bytes)
}
