// SPDX-License-Identifier: GPL-2.0

//! The lines of a pipe in `/proc/PID/fdinfo`: how much the pipe holds.

#![forbid(unsafe_code)]

use kernel::{
    fs::LocalFile,
    pipe::{Pipe, Provenance},
    seq_file::SeqFile,
    seq_print, //
};

/// Prints the number of buffers, bytes and pages of user memory in a pipe, how many of the buffers
/// are [private](kernel::pipe::PipeBuffer::is_private) and how many others can see, and the state
/// of the notifications of the pipe.
///
/// This does not wait for the pipe, which may be locked for a long time. If the pipe is locked, the
/// output is the line `pipe-busy`.
pub(crate) fn show(m: &SeqFile, file: &LocalFile) {
    let Some(mut pipe) = Pipe::of_file(file) else {
        return;
    };
    let Some(mut guard) = pipe.try_lock() else {
        seq_print!(m, "pipe-busy:\t1\n");
        return;
    };
    let mut ring = guard.ring();
    let (mut buffers, mut private, mut bytes, mut user_pages) = (0u32, 0u32, 0u64, 0u64);
    for buf in ring.iter() {
        buffers += 1;
        private += u32::from(buf.is_private());
        bytes += buf.len() as u64;
        if buf.provenance() == Provenance::UserMemory {
            user_pages += u64::from(buf.slots());
        }
    }
    let (issued, released) = ring
        .notifications()
        .map_or((0, 0), |calls| (calls.issued(), calls.released()));
    drop(guard);
    seq_print!(m, "pipe-buffers:\t{buffers}\n");
    seq_print!(m, "pipe-bytes:\t{bytes}\n");
    seq_print!(m, "pipe-user-pages:\t{user_pages}\n");
    seq_print!(m, "pipe-private-buffers:\t{private}\n");
    seq_print!(m, "pipe-shared-buffers:\t{}\n", buffers - private);
    seq_print!(m, "notices-issued:\t{issued}\n");
    seq_print!(m, "notices-released:\t{released}\n");
}
