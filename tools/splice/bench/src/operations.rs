// SPDX-License-Identifier: GPL-2.0

//! What is measured.

use anyhow::Result;
use rustix::fs::{seek, SeekFrom};
use rustix::io::Errno;

use crate::ends::Ends;
use crate::memory::Kind;

/// One operation: a system call that is measured, with what has to be done
/// before and after it so that it can be repeated.
pub struct Operation {
    pub name: &'static str,
    /// What the call is to return: all bytes, or an error.
    pub error: Option<Errno>,
    /// What the program's memory is made of.
    pub memory: Kind,
    /// The smallest amount that it is measured for.
    pub least: usize,
    /// What it may cost at most for so many bytes, as a multiple of what it costs in C.
    pub bound: fn(u64) -> f64,
    pub before: fn(&mut Ends) -> Result<()>,
    pub call: fn(&mut Ends) -> rustix::io::Result<usize>,
    pub after: fn(&mut Ends) -> Result<()>,
}

fn nothing(_: &mut Ends) -> Result<()> {
    Ok(())
}

const MOVES: Operation = Operation {
    name: "",
    error: None,
    memory: Kind::Ordinary,
    least: 0,
    bound: |_| BOUND,
    before: nothing,
    call: |_| Ok(0),
    after: nothing,
};

const FAILS: Operation = Operation {
    error: Some(Errno::AGAIN),
    ..MOVES
};

/// What an operation may cost at most that has no bound of its own.
pub const BOUND: f64 = 1.02;

/// C refers to each page of the memory once, and so has a buffer for each.
const VMSPLICE: Operation = Operation {
    name: "vmsplice",
    call: |ends| ends.vmsplice(),
    after: |ends| ends.drain(&ends.pipe),
    ..MOVES
};

/// All of a huge page is one buffer.
const VMSPLICE_HUGE: Operation = Operation {
    least: 64 << 10,
    bound: |bytes| if bytes < 1 << 20 { 0.35 } else { 0.05 },
    ..VMSPLICE
};

const DROP: Operation = Operation {
    name: "drop of user pages",
    before: |ends| ends.vmsplice().map(drop).map_err(Into::into),
    call: |ends| ends.splice(&ends.pipe.read, &ends.null),
    ..MOVES
};

const DROP_HUGE: Operation = Operation {
    least: 64 << 10,
    ..DROP
};

/// What the operation of that name may cost at most for so many bytes, as a multiple of C.
pub fn bound(name: &str, bytes: u64) -> f64 {
    OPERATIONS
        .iter()
        .find(|operation| operation.name == name)
        .map_or(BOUND, |operation| (operation.bound)(bytes))
}

/// All of them, in the order of the table. Those that fail move nothing, so
/// their cost does not depend on the amount.
pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "file to pipe",
        call: |ends| ends.splice_from_start(&ends.source, &ends.pipe.write),
        after: |ends| ends.drain(&ends.pipe),
        ..MOVES
    },
    Operation {
        name: "pipe to /dev/null",
        before: |ends| ends.fill_pipe(),
        call: |ends| ends.splice(&ends.pipe.read, &ends.null),
        ..MOVES
    },
    Operation {
        name: "/dev/zero to pipe",
        call: |ends| ends.splice(&ends.zero, &ends.pipe.write),
        after: |ends| ends.drain(&ends.pipe),
        ..MOVES
    },
    Operation {
        name: "pipe to file",
        before: |ends| ends.fill_pipe(),
        call: |ends| ends.splice_to_start(&ends.pipe.read, &ends.target),
        ..MOVES
    },
    Operation {
        name: "pipe to pipe",
        before: |ends| ends.fill_pipe(),
        call: |ends| ends.splice(&ends.pipe.read, &ends.other_pipe.write),
        after: |ends| ends.drain(&ends.other_pipe),
        ..MOVES
    },
    Operation {
        name: "tee",
        before: |ends| ends.fill_pipe(),
        call: |ends| ends.tee(),
        after: |ends| {
            ends.drain(&ends.pipe)?;
            ends.drain(&ends.other_pipe)
        },
        ..MOVES
    },
    VMSPLICE,
    Operation {
        name: "vmsplice of separate pages",
        memory: Kind::Separate,
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
        before: |ends| ends.forget_memory(),
        ..VMSPLICE
    },
    Operation {
        name: "vmsplice of forked memory",
        memory: Kind::Forked,
        ..VMSPLICE
    },
    // C has no notifications.
    Operation {
        name: "vmsplice with notification",
        bound: |_| 1.05,
        call: |ends| ends.vmsplice_with(ends.notify),
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
        memory: Kind::Separate,
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
        before: |ends| ends.fill_pipe(),
        call: |ends| ends.vmsplice_out(),
        ..MOVES
    },
    Operation {
        name: "pipe to TCP",
        before: |ends| ends.fill_pipe(),
        call: |ends| ends.splice(&ends.pipe.read, &ends.tcp.near),
        after: |ends| ends.drain_tcp(),
        ..MOVES
    },
    Operation {
        name: "TCP to pipe",
        before: |ends| ends.tcp.fill(ends.memory()),
        call: |ends| ends.splice(&ends.tcp.far, &ends.pipe.write),
        after: |ends| ends.drain(&ends.pipe),
        ..MOVES
    },
    Operation {
        name: "pipe to AF_UNIX",
        before: |ends| ends.fill_pipe(),
        call: |ends| ends.splice(&ends.pipe.read, &ends.unix.near),
        after: |ends| ends.drain_unix(),
        ..MOVES
    },
    Operation {
        name: "AF_UNIX to pipe",
        before: |ends| ends.unix.fill(ends.memory()),
        call: |ends| ends.splice(&ends.unix.far, &ends.pipe.write),
        after: |ends| ends.drain(&ends.pipe),
        ..MOVES
    },
    Operation {
        name: "sendfile to file",
        before: |ends| {
            seek(&ends.target, SeekFrom::Start(0))
                .map(drop)
                .map_err(Into::into)
        },
        call: |ends| ends.sendfile(&ends.target),
        ..MOVES
    },
    Operation {
        name: "sendfile to TCP",
        call: |ends| ends.sendfile(&ends.tcp.near),
        after: |ends| ends.drain_tcp(),
        ..MOVES
    },
    Operation {
        name: "sendfile to AF_UNIX",
        call: |ends| ends.sendfile(&ends.unix.near),
        after: |ends| ends.drain_unix(),
        ..MOVES
    },
    Operation {
        name: "sendfile to /dev/null",
        call: |ends| ends.sendfile(&ends.null),
        ..MOVES
    },
    Operation {
        name: "EAGAIN: splice from empty",
        call: |ends| ends.splice(&ends.pipe.read, &ends.null),
        ..FAILS
    },
    Operation {
        name: "EAGAIN: tee from empty",
        call: |ends| ends.tee(),
        ..FAILS
    },
    Operation {
        name: "EAGAIN: splice into full",
        before: |ends| ends.fill_pipe(),
        call: |ends| ends.splice_from_start(&ends.source, &ends.pipe.write),
        after: |ends| ends.drain(&ends.pipe),
        ..FAILS
    },
    Operation {
        name: "EAGAIN: vmsplice into full",
        before: |ends| ends.fill_pipe(),
        call: |ends| ends.vmsplice(),
        after: |ends| ends.drain(&ends.pipe),
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
            ("nothing of that name", 4096, 1.02),
        ] {
            assert_eq!(bound(name, bytes), most, "{name}");
        }
    }

    /// They are a column of a CSV file, and of a report they find their bounds by name.
    #[test]
    fn names_are_single_fields() {
        let mut names: Vec<_> = OPERATIONS.iter().map(|operation| operation.name).collect();
        assert!(names.iter().all(|name| !name.contains([',', '"', '|'])));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OPERATIONS.len());
    }
}
