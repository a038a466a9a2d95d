// SPDX-License-Identifier: GPL-2.0

//! The contents of a pipe in numbers, for `/proc/PID/fdinfo`.

#![forbid(unsafe_code)]

use kernel::{
    fs::LocalFile,
    pipe::{Pipe, Provenance},
    seq_file::SeqFile,
    seq_print, //
};

/// Shows how much a pipe holds. Does not wait for the pipe: if it is locked, that is shown instead.
pub(crate) fn show(m: &SeqFile, file: &LocalFile) {
    let Some(mut pipe) = Pipe::of_file(file) else {
        return;
    };
    let Some(mut guard) = pipe.try_lock() else {
        seq_print!(m, "pipe-busy:\t1\n");
        return;
    };
    let mut ring = guard.ring();
    let (mut buffers, mut bytes, mut user_pages) = (0u32, 0u64, 0u64);
    for buf in ring.iter() {
        buffers += 1;
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
    seq_print!(m, "notices-issued:\t{issued}\n");
    seq_print!(m, "notices-released:\t{released}\n");
}
