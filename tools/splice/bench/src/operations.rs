// SPDX-License-Identifier: GPL-2.0

//! The operations that are measured.

use anyhow::Result;
use rustix::fs::{seek, SeekFrom};
use rustix::io::Errno;

use crate::endpoints::{Endpoints, Folios};
use crate::memory::{fork_and_wait, Kind};

/// One operation: the system call that is measured, and functions that run before and after it so
/// that it can be repeated.
pub struct Operation {
    pub name: &'static str,
    /// The expected error of the call, or `None` if it moves all bytes.
    pub error: Option<Errno>,
    /// The kind of the program's memory.
    pub memory: Kind,
    /// The folios of the files.
    pub folios: Folios,
    /// The smallest number of bytes for which the operation is measured.
    pub least: usize,
    /// The largest number of bytes for which the operation is measured.
    pub most: usize,
    /// The number of requests of io_uring in one call, or 0 for a plain system call. The cost is
    /// that of one request.
    pub batch: usize,
    /// The maximum cost for this number of bytes, as a multiple of the cost in C.
    pub bound: fn(u64) -> f64,
    /// The operation that is the same without io_uring, if the maximum cost is [`MORE`]
    /// instructions above the cost of that one, instead of `bound`.
    pub plain: Option<&'static str>,
    pub before: fn(&mut Endpoints) -> Result<()>,
    pub call: fn(&mut Endpoints) -> rustix::io::Result<usize>,
    pub after: fn(&mut Endpoints) -> Result<()>,
}

fn nothing(_: &mut Endpoints) -> Result<()> {
    Ok(())
}

const MOVES: Operation = Operation {
    name: "",
    error: None,
    memory: Kind::Ordinary,
    folios: Folios::Small,
    least: 0,
    most: usize::MAX,
    batch: 0,
    bound: |_| BOUND,
    plain: None,
    before: nothing,
    call: |_| Ok(0),
    after: nothing,
};

const FAILS: Operation = Operation {
    error: Some(Errno::AGAIN),
    ..MOVES
};

/// The maximum cost of an operation that has no bound of its own.
pub const BOUND: f64 = 1.02;

/// C takes one reference and one buffer for each page of the memory.
const VMSPLICE: Operation = Operation {
    name: "vmsplice",
    call: |endpoints| endpoints.vmsplice(),
    after: |endpoints| endpoints.drain(&endpoints.pipe),
    ..MOVES
};

/// A huge page is one buffer.
const VMSPLICE_HUGE: Operation = Operation {
    least: 64 << 10,
    bound: |bytes| if bytes < 1 << 20 { 0.35 } else { 0.05 },
    ..VMSPLICE
};

const DROP: Operation = Operation {
    name: "drop of user pages",
    before: |endpoints| endpoints.vmsplice().map(drop).map_err(Into::into),
    call: |endpoints| endpoints.splice(&endpoints.pipe.read, &endpoints.null),
    ..MOVES
};

const DROP_HUGE: Operation = Operation {
    least: 64 << 10,
    ..DROP
};

/// From a file of huge folios, of which one buffer and one reference stand for all pages.
const HUGE: Operation = Operation {
    folios: Folios::Huge,
    least: 64 << 10,
    ..MOVES
};

/// How much a request of io_uring may cost above the system call, if many are submitted at once.
pub const MORE: u64 = 300;

/// A single request of io_uring, for which C wakes a worker.
const ALONE: Operation = Operation {
    most: 64 << 10,
    batch: 1,
    bound: |_| 0.30,
    ..MOVES
};

/// Many requests of io_uring in one system call.
const TOGETHER: Operation = Operation {
    most: 64 << 10,
    batch: 32,
    ..MOVES
};

impl Operation {
    /// The numbers of bytes for which the operation is measured.
    pub fn sizes(&self) -> std::ops::RangeInclusive<usize> {
        self.least..=self.most
    }
}

/// Returns the operation that [`Operation::plain`] of the operation `name` names.
pub fn plain(name: &str) -> Option<&'static str> {
    OPERATIONS
        .iter()
        .find(|operation| operation.name == name)?
        .plain
}

/// Returns the maximum cost of the operation `name` for `bytes` bytes, as a multiple of the cost in
/// C.
pub fn bound(name: &str, bytes: u64) -> f64 {
    OPERATIONS
        .iter()
        .find(|operation| operation.name == name)
        .map_or(BOUND, |operation| (operation.bound)(bytes))
}

/// All operations, in the order of the table. Operations that fail move nothing, so their cost does
/// not depend on the number of bytes.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "file to pipe",
        call: |endpoints| endpoints.splice_from_start(&endpoints.source, &endpoints.pipe.write),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..MOVES
    },
    Operation {
        name: "pipe to /dev/null",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.splice(&endpoints.pipe.read, &endpoints.null),
        ..MOVES
    },
    Operation {
        name: "/dev/zero to pipe",
        call: |endpoints| endpoints.splice(&endpoints.zero, &endpoints.pipe.write),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..MOVES
    },
    Operation {
        name: "pipe to file",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.splice_to_start(&endpoints.pipe.read, &endpoints.target),
        ..MOVES
    },
    Operation {
        name: "pipe to pipe",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.splice(&endpoints.pipe.read, &endpoints.other_pipe.write),
        after: |endpoints| endpoints.drain(&endpoints.other_pipe),
        ..MOVES
    },
    Operation {
        name: "tee",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.tee(),
        after: |endpoints| {
            endpoints.drain(&endpoints.pipe)?;
            endpoints.drain(&endpoints.other_pipe)
        },
        ..MOVES
    },
    VMSPLICE,
    Operation {
        name: "vmsplice of separate pages",
        memory: Kind::Noncontiguous,
        ..VMSPLICE
    },
    Operation {
        name: "vmsplice of shared file",
        memory: Kind::SharedFile,
        ..VMSPLICE
    },
    Operation {
        name: "vmsplice of private file",
        memory: Kind::PrivateFile,
        ..VMSPLICE
    },
    Operation {
        name: "vmsplice of private THP file",
        memory: Kind::PrivateHugeFile,
        least: 64 << 10,
        ..VMSPLICE
    },
    Operation {
        name: "vmsplice of untouched memory",
        before: |endpoints| endpoints.forget_memory(),
        ..VMSPLICE
    },
    Operation {
        name: "vmsplice of forked memory",
        memory: Kind::Forked,
        ..VMSPLICE
    },
    // Memory in a pipe must not make fork(2) dearer.
    Operation {
        name: "fork with memory in pipe",
        before: |endpoints| endpoints.vmsplice().map(drop).map_err(Into::into),
        call: |endpoints| fork_and_wait().map(|()| endpoints.memory().len()),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..MOVES
    },
    // C has no notifications.
    Operation {
        name: "vmsplice with notification",
        bound: |_| 1.05,
        call: |endpoints| endpoints.vmsplice_with(endpoints.notify),
        ..VMSPLICE
    },
    Operation {
        name: "vmsplice of THP",
        memory: Kind::Thp,
        ..VMSPLICE_HUGE
    },
    Operation {
        name: "vmsplice of hugetlb",
        memory: Kind::Hugetlb,
        ..VMSPLICE_HUGE
    },
    DROP,
    Operation {
        name: "drop of separate pages",
        memory: Kind::Noncontiguous,
        ..DROP
    },
    Operation {
        name: "drop of THP",
        memory: Kind::Thp,
        ..DROP_HUGE
    },
    Operation {
        name: "drop of hugetlb",
        memory: Kind::Hugetlb,
        ..DROP_HUGE
    },
    Operation {
        name: "pipe to memory",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.vmsplice_out(),
        ..MOVES
    },
    Operation {
        name: "pipe to TCP",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.splice(&endpoints.pipe.read, &endpoints.tcp.near),
        after: |endpoints| endpoints.drain_tcp(),
        ..MOVES
    },
    Operation {
        name: "TCP to pipe",
        before: |endpoints| endpoints.tcp.fill(endpoints.memory()),
        call: |endpoints| endpoints.splice(&endpoints.tcp.far, &endpoints.pipe.write),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..MOVES
    },
    Operation {
        name: "pipe to AF_UNIX",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.splice(&endpoints.pipe.read, &endpoints.unix.near),
        after: |endpoints| endpoints.drain_unix(),
        ..MOVES
    },
    Operation {
        name: "AF_UNIX to pipe",
        before: |endpoints| endpoints.unix.fill(endpoints.memory()),
        call: |endpoints| endpoints.splice(&endpoints.unix.far, &endpoints.pipe.write),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..MOVES
    },
    Operation {
        name: "sendfile to file",
        before: |endpoints| {
            seek(&endpoints.target, SeekFrom::Start(0))
                .map(drop)
                .map_err(Into::into)
        },
        call: |endpoints| endpoints.sendfile(&endpoints.target),
        ..MOVES
    },
    Operation {
        name: "sendfile to TCP",
        call: |endpoints| endpoints.sendfile(&endpoints.tcp.near),
        after: |endpoints| endpoints.drain_tcp(),
        ..MOVES
    },
    Operation {
        name: "sendfile to AF_UNIX",
        call: |endpoints| endpoints.sendfile(&endpoints.unix.near),
        after: |endpoints| endpoints.drain_unix(),
        ..MOVES
    },
    Operation {
        name: "sendfile to /dev/null",
        call: |endpoints| endpoints.sendfile(&endpoints.null),
        ..MOVES
    },
    Operation {
        name: "cached file to pipe",
        most: 64 << 10,
        call: |endpoints| endpoints.splice_from_start(&endpoints.cached, &endpoints.pipe.write),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..MOVES
    },
    Operation {
        name: "io_uring: pipe to pipe",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.submit_splice(),
        after: |endpoints| endpoints.drain(&endpoints.other_pipe),
        ..ALONE
    },
    Operation {
        name: "io_uring: cached file to pipe",
        call: |endpoints| endpoints.submit_splice_from_start(),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..ALONE
    },
    Operation {
        name: "io_uring: tee",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.submit_tee(),
        after: |endpoints| {
            endpoints.drain(&endpoints.pipe)?;
            endpoints.drain(&endpoints.other_pipe)
        },
        ..ALONE
    },
    Operation {
        name: "io_uring: 32 times pipe to pipe",
        plain: Some("pipe to pipe"),
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.submit_splice(),
        after: |endpoints| endpoints.drain(&endpoints.other_pipe),
        ..TOGETHER
    },
    Operation {
        name: "io_uring: 32 times cached file to pipe",
        plain: Some("cached file to pipe"),
        call: |endpoints| endpoints.submit_splice_from_start(),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..TOGETHER
    },
    Operation {
        name: "io_uring: 32 times tee",
        plain: Some("tee"),
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.submit_tee(),
        after: |endpoints| {
            endpoints.drain(&endpoints.pipe)?;
            endpoints.drain(&endpoints.other_pipe)
        },
        ..TOGETHER
    },
    Operation {
        name: "file to pipe (huge)",
        bound: |bytes| if bytes < 1 << 20 { 0.70 } else { 0.14 },
        call: |endpoints| endpoints.splice_from_start(&endpoints.source, &endpoints.pipe.write),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..HUGE
    },
    Operation {
        name: "pipe to /dev/null (huge)",
        bound: |bytes| if bytes < 1 << 20 { BOUND } else { 0.04 },
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.splice(&endpoints.pipe.read, &endpoints.null),
        ..HUGE
    },
    Operation {
        name: "pipe to pipe (huge)",
        bound: |bytes| if bytes < 1 << 20 { BOUND } else { 0.06 },
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.splice(&endpoints.pipe.read, &endpoints.other_pipe.write),
        after: |endpoints| endpoints.drain(&endpoints.other_pipe),
        ..HUGE
    },
    Operation {
        name: "tee (huge)",
        bound: |bytes| if bytes < 1 << 20 { BOUND } else { 0.04 },
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.tee(),
        after: |endpoints| {
            endpoints.drain(&endpoints.pipe)?;
            endpoints.drain(&endpoints.other_pipe)
        },
        ..HUGE
    },
    Operation {
        name: "sendfile to TCP (huge)",
        bound: |bytes| if bytes < 1 << 20 { 0.70 } else { 0.48 },
        call: |endpoints| endpoints.sendfile(&endpoints.tcp.near),
        after: |endpoints| endpoints.drain_tcp(),
        ..HUGE
    },
    Operation {
        name: "sendfile to AF_UNIX (huge)",
        bound: |bytes| if bytes < 1 << 20 { 0.35 } else { 0.03 },
        call: |endpoints| endpoints.sendfile(&endpoints.unix.near),
        after: |endpoints| endpoints.drain_unix(),
        ..HUGE
    },
    Operation {
        name: "sendfile to /dev/null (huge)",
        bound: |bytes| if bytes < 1 << 20 { BOUND } else { 0.04 },
        call: |endpoints| endpoints.sendfile(&endpoints.null),
        ..HUGE
    },
    Operation {
        name: "EAGAIN: splice from empty",
        call: |endpoints| endpoints.splice(&endpoints.pipe.read, &endpoints.null),
        ..FAILS
    },
    Operation {
        name: "EAGAIN: tee from empty",
        call: |endpoints| endpoints.tee(),
        ..FAILS
    },
    Operation {
        name: "EAGAIN: splice into full",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.splice_from_start(&endpoints.source, &endpoints.pipe.write),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..FAILS
    },
    Operation {
        name: "EAGAIN: vmsplice into full",
        before: |endpoints| endpoints.fill_pipe(),
        call: |endpoints| endpoints.vmsplice(),
        after: |endpoints| endpoints.drain(&endpoints.pipe),
        ..FAILS
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_a_bound() {
        for (name, bytes, most) in [
            ("tee", 4096, 1.02),
            ("EAGAIN: vmsplice into full", 0, 1.02),
            ("vmsplice of separate pages", 1 << 20, 1.02),
            ("vmsplice with notification", 4096, 1.05),
            ("vmsplice of THP", 64 << 10, 0.35),
            ("vmsplice of hugetlb", 1 << 20, 0.05),
            ("drop of THP", 1 << 20, 1.02),
            ("file to pipe (huge)", 64 << 10, 0.70),
            ("file to pipe (huge)", 1 << 20, 0.14),
            ("nothing of that name", 4096, 1.02),
        ] {
            assert_eq!(bound(name, bytes), most, "{name}");
        }
    }

    #[test]
    fn the_plain_operations_exist() {
        for name in OPERATIONS.iter().filter_map(|operation| operation.plain) {
            let plain = OPERATIONS.iter().find(|operation| operation.name == name);
            assert_eq!(plain.unwrap().batch, 0, "{name}");
        }
        assert_eq!(plain("io_uring: 32 times tee"), Some("tee"));
        assert_eq!(plain("tee"), None);
    }

    /// Names are a column of a CSV file, and a report looks up the bounds by name.
    #[test]
    fn names_are_single_fields() {
        let mut names: Vec<_> = OPERATIONS.iter().map(|operation| operation.name).collect();
        assert!(names.iter().all(|name| !name.contains([',', '"', '|'])));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OPERATIONS.len());
    }
}
