// SPDX-License-Identifier: GPL-2.0

//! Counters of what splice does, by which one can see whether data was copied.
//!
//! Kept per CPU, never reset; `/sys/kernel/debug/splice/counters` shows their sums.

use crate::bindings;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What is counted.
        #[derive(Clone, Copy)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        const COUNT: usize = [$(Counter::$name),*].len();
    };
}

counters! {
    /// `splice(2)` calls.
    CallsSplice,
    /// `tee(2)` calls.
    CallsTee,
    /// `vmsplice(2)` calls.
    CallsVmsplice,
    /// Transfers between two files: `do_splice_direct`, which `sendfile(2)` runs on.
    CallsDirect,
    /// Transfers for `copy_file_range(2)`: `splice_file_range`.
    CallsFileRange,
    /// Buffers put into a pipe from outside.
    BuffersLinked,
    /// Whole buffers moved from one pipe to another.
    BuffersMoved,
    /// Buffers that got a second reference: by `tee(2)`, or because a part was moved.
    BuffersTeed,
    /// Bytes from a file to a pipe.
    FileToPipe,
    /// Of those, the ones that were copied into pages allocated for it.
    FileToPipeCopied,
    /// Of those, the ones that direct I/O read into pages allocated for it.
    FileToPipeDirect,
    /// Bytes from a pipe to a file, handed to it by reference (past the page cache).
    PipeToFileReferenced,
    /// Bytes from a pipe to a file, copied into its page cache.
    PipeToFileCopied,
    /// Bytes from a pipe to a socket, handed to it by reference.
    PipeToSocketReferenced,
    /// Bytes from a pipe to a socket, copied: they have a loan, and the socket does not report when
    /// it is done with them.
    PipeToSocketCopied,
    /// Bytes from a pipe to another.
    PipeToPipeReferenced,
    /// Bytes duplicated by `tee(2)`.
    TeeReferenced,
    /// Bytes from a pipe handed by reference to a driver, or other actor.
    PipeToActorReferenced,
    /// Bytes from user memory to a pipe, referenced.
    MemoryToPipeReferenced,
    /// Bytes from user memory to a pipe, copied: private memory of hugetlb that cannot be pinned.
    MemoryToPipeHugetlb,
    /// Bytes from user memory to a pipe, copied: memory of a DAX file.
    MemoryToPipeDax,
    /// Bytes from user memory to a pipe, copied: `fs.pipe-user-memory-pages` is reached.
    MemoryToPipeLimit,
    /// Bytes from user memory to a pipe, copied: the page has too many references.
    MemoryToPipeReferences,
    /// Bytes from a pipe to user memory.
    PipeToMemoryCopied,
}

// The room that C makes for them.
const _: () = assert!(COUNT <= bindings::SPLICE_NR_COUNTERS as usize);

impl Counter {
    /// Adds `n` on this CPU.
    #[inline]
    pub fn add(self, n: usize) {
        // SAFETY: There is room for this counter.
        unsafe { bindings::splice_count(self as u32, n as u64) };
    }

    /// The sum over all CPUs; others may be adding meanwhile.
    pub fn sum(self) -> u64 {
        // SAFETY: There is room for this counter.
        unsafe { bindings::splice_counter_sum(self as u32) }
    }
}
