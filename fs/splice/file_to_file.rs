// SPDX-License-Identifier: GPL-2.0

//! Transfers from one file to another, through a private pipe that each task keeps for reuse.
//! `sendfile(2)` and the fallback of `copy_file_range(2)` use them.

#![forbid(unsafe_code)]

use crate::{
    ffi::splice_desc::SpliceDesc,
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
    splice::{Counter, SpliceFlag, SpliceFlags},
};

/// The destination of a transfer.
pub(crate) trait Sink {
    /// Takes the `desc.total_len()` bytes that are in `pipe`, and returns how many it took.
    fn drain(&mut self, pipe: &mut PrivatePipe, desc: &mut SpliceDesc) -> Result<usize>;

    /// Called if the source ends early: the last `drain` had [`SpliceFlag::More`] set, but no more
    /// data follows. A TCP socket then sends the data that it held back.
    fn source_ended(&mut self, desc: &mut SpliceDesc);
}

/// Moves up to `desc.total_len()` bytes from `file`, starting at `desc.pos()`, to `sink`. Returns
/// the number of bytes moved, and sets `desc.pos()` to the position after the last of them.
///
/// Returns [`EINVAL`] if `file` is not seekable: bytes that were read from it but could not be
/// delivered would be lost. Other errors, if no byte was moved: [`ENOMEM`] if no pipe can be
/// allocated, and those of the source and the sink. C: `splice_direct_to_actor`.
#[inline]
pub(crate) fn splice_direct(
    file: &LocalFile,
    desc: &mut SpliceDesc,
    sink: &mut impl Sink,
) -> Result<usize> {
    if !file.is_seekable() {
        return Err(EINVAL);
    }
    // The task has no pipe while this one is in use. So a transfer that the source or the sink
    // starts in this task gets another one, and does not mix its data with the data in this one.
    let mut pipe = PrivatePipe::take_from_current()?;
    let ret = pump(file, &mut pipe, desc, sink);
    // This drops the bytes that the sink did not take. They are not lost, because `desc.pos()` is
    // in front of them: the caller can read them again.
    pipe.keep_for_current();
    // After any read, as in C: whether the sink took the data makes no difference for the source.
    file.accessed();
    ret
}

/// Fills and drains `pipe` in turn, until all bytes are moved or one side stops.
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

    // `SPLICE_F_NONBLOCK` applies to the source only. The sink must drain the pipe: nobody can
    // read the bytes that it would leave there. It gets `SPLICE_F_MORE` until the last part has
    // been read, so that a socket does not send the parts in small segments.
    desc.set_flags(read_flags.without(SpliceFlag::NonBlock) | SpliceFlag::More);

    let mut bytes = 0;
    while bytes < len {
        let start = desc.pos();
        let mut pos = start;
        let read =
            match file_to_pipe::read(file, &mut pos, &mut pipe.ring(), len - bytes, read_flags) {
                Ok(0) => {
                    // If the caller set `SPLICE_F_MORE`, it sends more data by another call. If
                    // nothing was sent, there is nothing that the sink could have held back.
                    if !more && bytes > 0 {
                        sink.source_ended(desc);
                    }
                    break;
                }
                Ok(read) => read,
                // The bytes were delivered, so the caller must learn their number. The next call
                // gets the error, if there still is one.
                Err(_) if bytes > 0 => break,
                Err(err) => return Err(err),
            };
        // The pipe was empty before the read, so all slots in use are new.
        file_to_pipe::count(read, pipe.ring().indices().occupancy() as usize);
        desc.set_total_len(read);
        // The last part: without the flag, a socket sends it at once and does not wait for more.
        if read >= len - bytes && !more {
            desc.set_flags(desc.flags().without(SpliceFlag::More));
        }

        let drained = match sink.drain(pipe, desc) {
            Ok(drained) => drained,
            Err(err) => {
                // An error means that the sink took nothing in this round.
                desc.set_pos(start);
                if bytes > 0 {
                    break;
                }
                return Err(err);
            }
        };
        // The pipe is not empty now. To read on would put later bytes behind those that the sink
        // refused, so let the caller try again from the first of these.
        if drained < read {
            bytes += drained;
            desc.set_pos(start + drained as Offset);
            break;
        }
        // A C actor can claim more bytes than the pipe held, so count those that were read.
        bytes += read;
        // The source decides how far a read moves its position. A character device need not move
        // it.
        desc.set_pos(pos);
    }
    Ok(bytes)
}

/// A file as the sink. With `WRITE_STARTED` the caller already holds freeze protection of the file
/// system (`file_start_write`).
struct FileSink<'a, const WRITE_STARTED: bool> {
    file: &'a LocalFile,
    pos: &'a mut Offset,
}

impl<const WRITE_STARTED: bool> Sink for FileSink<'_, WRITE_STARTED> {
    #[inline]
    fn drain(&mut self, pipe: &mut PrivatePipe, desc: &mut SpliceDesc) -> Result<usize> {
        // Freeze protection covers the write, not the read of the source before it: that read can
        // wait for another file system, or for a listener that answers a fanotify permission event
        // by writing to this one. With the protection held, that could deadlock.
        let mut pipe = pipe.handle();
        let (len, flags) = (desc.total_len(), desc.flags());
        if WRITE_STARTED {
            return pipe_to_file::write(&mut pipe, self.file, self.pos, len, flags);
        }
        pipe_to_file::start_and_write(&mut pipe, self.file, self.pos, len, flags)
    }

    #[inline]
    fn source_ended(&mut self, _desc: &mut SpliceDesc) {
        self.file.call_splice_eof();
    }
}

/// Moves data for `sendfile(2)`, the fallback of `copy_file_range(2)`, and copy-up of overlayfs.
/// The caller has verified both ranges (`rw_verify_area`). C: `do_splice_direct`.
///
/// Returns [`EBADF`] if `output` is not open for writing, [`EINVAL`] if it is open with `O_APPEND`,
/// and the errors of [`splice_direct`].
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

/// Moves up to [`MAX_RW_COUNT`] bytes for the `->copy_file_range` of a file system. The caller has
/// verified both ranges, and holds freeze protection of the file system of `output`. C:
/// `splice_file_range`.
///
/// Returns the errors of [`do_splice_direct`].
pub(crate) fn splice_file_range(
    input: &LocalFile,
    in_pos: &mut Offset,
    output: &LocalFile,
    out_pos: &mut Offset,
    len: usize,
) -> Result<usize> {
    Counter::CallsFileRange.add(1);
    output.assert_write_started();
    // A file system passes the length of `copy_file_range(2)`, which is limited only for files
    // without an operation of their own.
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
    // Before the source is read: the sink would refuse the data only after that.
    if !output.is_writable() {
        return Err(EBADF);
    }
    // The data would go to the end of the file, and not to `out_pos`, which the caller has
    // verified.
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
