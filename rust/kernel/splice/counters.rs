// SPDX-License-Identifier: GPL-2.0

//! Statistics of splice. They show whether data was moved by reference or copied.
//!
//! The counters are kept per CPU and are never reset. `/sys/kernel/debug/splice/counters` shows the
//! sums over all CPUs.

use crate::{bindings, debugfs::Dir, sync::SetOnce};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// An event or an amount of data that is counted.
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
    /// Buffers that were put into a pipe from outside.
    BuffersLinked,
    /// Whole buffers that were moved from one pipe to another.
    BuffersMoved,
    /// Buffers that were given a second reference, by `tee(2)` or because only a part of them was
    /// moved.
    BuffersTeed,
    /// Bytes from a file to a pipe, in total. The rest of the following two is by reference.
    FileToPipe,
    /// Bytes from a file to a pipe that were copied into newly allocated pages.
    FileToPipeCopied,
    /// Bytes from a file to a pipe that direct I/O read into newly allocated pages.
    FileToPipeDirect,
    /// Bytes from a pipe to a file that were written from the pages of the pipe, past the page
    /// cache.
    PipeToFileReferenced,
    /// Bytes from a pipe to a file that were copied into its page cache.
    PipeToFileCopied,
    /// Bytes from a pipe to a socket that were sent by reference.
    PipeToSocketReferenced,
    /// Bytes from a pipe to a socket that were copied. They are tracked memory, and the socket
    /// does not report when it is done with it.
    PipeToSocketCopied,
    /// Bytes that were moved from one pipe to another.
    PipeToPipeReferenced,
    /// Bytes that `tee(2)` duplicated.
    TeeReferenced,
    /// Bytes from a pipe that were passed by reference to a driver or to another actor.
    PipeToActorReferenced,
    /// Bytes from user memory to a pipe, by reference.
    MemoryToPipeReferenced,
    /// Bytes from user memory to a pipe that were copied, because it is private hugetlb memory that
    /// cannot be pinned.
    MemoryToPipeHugetlb,
    /// Bytes from user memory to a pipe that were copied, because it is memory of a DAX file.
    MemoryToPipeDax,
    /// Bytes from user memory to a pipe that were copied, because the user has reached
    /// `fs.pipe-user-memory-pages`.
    MemoryToPipeLimit,
    /// Bytes from user memory to a pipe that were copied, because the page has too many references.
    MemoryToPipeReferences,
    /// Bytes that were copied from a pipe to user memory.
    PipeToMemoryCopied,
    /// Attempts that followed a wait for a file with the pipe unlocked.
    WaitsTries,
    /// Waits for a file with the pipe locked, because it was ready several times in a row but did
    /// not transfer anything.
    WaitsLocked,
    /// Requests of io_uring that completed in the task that submitted them.
    UringInline,
    /// Waits of io_uring for a file by poll.
    UringPolls,
    /// Requests of io_uring that were passed to a worker after an attempt without a wait.
    UringWorker,
    /// Bytes that a socket got as a copy, because its protocol is not audited.
    PolicySocketUnaudited,
    /// Bytes that a socket got as a copy, because `fs.splice_zerocopy` is 0.
    PolicySocketSetting,
    /// Bytes that a file got as a copy, because it is not audited.
    PolicyFileUnaudited,
    /// Bytes that a file got as a copy, because `fs.splice_zerocopy` is 0.
    PolicyFileSetting,
    /// Bytes that an actor in C got as a copy, because it is not audited.
    PolicyActorUnaudited,
    /// Bytes that an actor in C got as a copy, because `fs.splice_zerocopy` is 0.
    PolicyActorSetting,
    /// Bytes of files that were copied where they entered a pipe, because `fs.splice_zerocopy` is
    /// 0.
    PolicySourceSetting,
    /// Pages that `fs.splice_check` remembered.
    CheckPages,
    /// Pages of these that changed although nobody could write to their file.
    CheckChanged,
}

// The C array has room for all counters.
const _: () = assert!(COUNT <= bindings::SPLICE_NR_COUNTERS as usize);

impl Counter {
    /// Adds `n` to the counter of this CPU. Callable from any context.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::splice::Counter;
    ///
    /// let before = Counter::PipeToActorReferenced.sum();
    /// Counter::PipeToActorReferenced.add(100);
    /// // Other tasks may count at the same time, so the difference is a lower bound.
    /// assert!(Counter::PipeToActorReferenced.sum() - before >= 100);
    /// ```
    #[inline]
    pub fn add(self, n: usize) {
        // SAFETY: The array has room for all counters, as asserted above.
        unsafe { bindings::splice_count(self as u32, n as u64) };
    }

    /// Returns the sum over all CPUs. Other CPUs may change it meanwhile.
    pub fn sum(self) -> u64 {
        // SAFETY: The array has room for all counters, as asserted above.
        unsafe { bindings::splice_counter_sum(self as u32) }
    }
}

/// Returns the directory of splice in debugfs. It contains the counters and a directory for each
/// device of a splice driver.
///
/// The first call creates the directory. May sleep.
pub fn debugfs_dir() -> Dir {
    static DIR: SetOnce<Dir> = SetOnce::new();

    if let Some(dir) = DIR.as_ref() {
        return dir.clone();
    }
    let dir = Dir::new(c"splice");
    // `fs/splice` makes the first call at boot, when no other caller can run at the same time.
    DIR.populate(dir.clone());
    dir
}
