// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/splice/counters`: one `name value` a line. Its being there also tells that
//! the kernel runs this code.

#![forbid(unsafe_code)]

use kernel::{
    debugfs::{File, Writer},
    fmt,
    prelude::*,
    splice::{counters::Counter, debugfs_dir},
};

/// What is shown as it is counted; bytes from files to pipes are split up when shown.
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
];

/// Why user memory was copied.
const MEMORY_COPIED: &[(&str, Counter)] = &[
    ("hugetlb", Counter::MemoryToPipeHugetlb),
    ("dax", Counter::MemoryToPipeDax),
    ("limit", Counter::MemoryToPipeLimit),
    ("references", Counter::MemoryToPipeReferences),
];

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
        // The parts are counted before the whole: while a transfer goes on they can be more.
        let copied = Counter::FileToPipeCopied.sum();
        let direct = Counter::FileToPipeDirect.sum();
        let referenced = Counter::FileToPipe.sum().saturating_sub(copied + direct);
        writeln!(f, "bytes.file_to_pipe.referenced {referenced}")?;
        writeln!(f, "bytes.file_to_pipe.direct {direct}")?;
        writeln!(f, "bytes.file_to_pipe.copied {copied}")
    }
}

/// The files in debugfs, for as long as this exists.
pub(crate) struct Files {
    _counters: Pin<KBox<File<Counters>>>,
}

impl Files {
    pub(crate) fn new() -> Result<Self> {
        let dir = debugfs_dir();
        Ok(Self {
            _counters: KBox::pin_init(dir.read_only_file(c"counters", Counters), GFP_KERNEL)?,
        })
    }
}
