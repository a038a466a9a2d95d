// SPDX-License-Identifier: GPL-2.0

//! The files in `/sys/kernel/debug/splice`:
//!
//! - `counters`: one `name value` per line. Stock `fs/splice.c` has no such file, so programs and
//!   tests can find out which implementation the kernel runs.
//! - `sinks`: one `kind function` per line, the audited consumers in C.

#![forbid(unsafe_code)]

use kernel::{
    debugfs::{File, Writer},
    fmt,
    prelude::*,
    splice::{debugfs_dir, sinks, Counter},
};

/// The counters that are shown unchanged. Bytes from files to pipes are not among them, see
/// [`Counters`].
const SHOWN: &[(&str, Counter)] = &[
    ("calls.splice", Counter::CallsSplice),
    ("calls.tee", Counter::CallsTee),
    ("calls.vmsplice", Counter::CallsVmsplice),
    ("calls.direct", Counter::CallsDirect),
    ("calls.file_range", Counter::CallsFileRange),
    ("buffers.linked", Counter::BuffersLinked),
    ("buffers.moved", Counter::BuffersMoved),
    ("buffers.teed", Counter::BuffersTeed),
    (
        "bytes.pipe_to_file.referenced",
        Counter::PipeToFileReferenced,
    ),
    ("bytes.pipe_to_file.copied", Counter::PipeToFileCopied),
    (
        "bytes.pipe_to_socket.referenced",
        Counter::PipeToSocketReferenced,
    ),
    ("bytes.pipe_to_socket.copied", Counter::PipeToSocketCopied),
    (
        "bytes.pipe_to_pipe.referenced",
        Counter::PipeToPipeReferenced,
    ),
    ("bytes.tee.referenced", Counter::TeeReferenced),
    (
        "bytes.pipe_to_actor.referenced",
        Counter::PipeToActorReferenced,
    ),
    (
        "bytes.memory_to_pipe.referenced",
        Counter::MemoryToPipeReferenced,
    ),
    ("bytes.pipe_to_memory.copied", Counter::PipeToMemoryCopied),
    ("waits.tries", Counter::WaitsTries),
    ("waits.locked", Counter::WaitsLocked),
    ("uring.inline", Counter::UringInline),
    ("uring.polls", Counter::UringPolls),
    ("uring.worker", Counter::UringWorker),
    (
        "bytes.policy.socket.unaudited",
        Counter::PolicySocketUnaudited,
    ),
    ("bytes.policy.socket.setting", Counter::PolicySocketSetting),
    ("bytes.policy.file.unaudited", Counter::PolicyFileUnaudited),
    ("bytes.policy.file.setting", Counter::PolicyFileSetting),
    (
        "bytes.policy.actor.unaudited",
        Counter::PolicyActorUnaudited,
    ),
    ("bytes.policy.actor.setting", Counter::PolicyActorSetting),
    ("bytes.policy.source.setting", Counter::PolicySourceSetting),
    ("check.pages", Counter::CheckPages),
    ("check.changed", Counter::CheckChanged),
];

/// The bytes of user memory that were copied, by the reason for the copy.
const MEMORY_COPIED: &[(&str, Counter)] = &[
    ("hugetlb", Counter::MemoryToPipeHugetlb),
    ("dax", Counter::MemoryToPipeDax),
    ("limit", Counter::MemoryToPipeLimit),
    ("references", Counter::MemoryToPipeReferences),
];

/// The contents of the file.
///
/// The caller of `->splice_read` does not know how the file got the data, so it counts a total, and
/// [`copy_splice_read`](crate::file_to_pipe::copy_splice_read) counts the bytes that it copied. The
/// number of referenced bytes is the difference.
struct Counters;

impl Writer for Counters {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in SHOWN {
            writeln!(f, "{name} {}", counter.sum())?;
        }
        let mut all = 0;
        for (reason, counter) in MEMORY_COPIED {
            let bytes = counter.sum();
            writeln!(f, "bytes.memory_to_pipe.copied.{reason} {bytes}")?;
            all += bytes;
        }
        writeln!(f, "bytes.memory_to_pipe.copied {all}")?;
        // A transfer counts the parts before the total, so while it runs their sum can be larger:
        // do not go below zero.
        let copied = Counter::FileToPipeCopied.sum();
        let direct = Counter::FileToPipeDirect.sum();
        let referenced = Counter::FileToPipe.sum().saturating_sub(copied + direct);
        writeln!(f, "bytes.file_to_pipe.referenced {referenced}")?;
        writeln!(f, "bytes.file_to_pipe.direct {direct}")?;
        writeln!(f, "bytes.file_to_pipe.copied {copied}")
    }
}

/// The audited consumers that are known.
struct Sinks;

impl Writer for Sinks {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, function) in sinks::listed() {
            writeln!(f, "{kind} {function}")?;
        }
        Ok(())
    }
}

/// The files in debugfs. They are removed when this is dropped.
pub(crate) struct Files {
    _counters: Pin<KBox<File<Counters>>>,
    _sinks: Pin<KBox<File<Sinks>>>,
}

impl Files {
    pub(crate) fn new() -> Result<Self> {
        let dir = debugfs_dir();
        Ok(Self {
            _counters: KBox::pin_init(dir.read_only_file(c"counters", Counters), GFP_KERNEL)?,
            _sinks: KBox::pin_init(dir.read_only_file(c"sinks", Sinks), GFP_KERNEL)?,
        })
    }
}
