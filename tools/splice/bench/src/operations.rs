// SPDX-License-Identifier: GPL-2.0

//! What is measured.

use anyhow::Result;
use rustix::fs::{seek, SeekFrom};
use rustix::io::Errno;

use crate::ends::Ends;

/// One operation: a system call that is measured, with what has to be done
/// before and after it so that it can be repeated.
pub struct Operation {
    pub name: &'static str,
    /// What the call is to return: all bytes, or an error.
    pub error: Option<Errno>,
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
    before: nothing,
    call: |_| Ok(0),
    after: nothing,
};

const FAILS: Operation = Operation {
    error: Some(Errno::AGAIN),
    ..MOVES
};

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
    Operation {
        name: "vmsplice",
        call: |ends| ends.vmsplice(),
        after: |ends| ends.drain(&ends.pipe),
        ..MOVES
    },
    Operation {
        name: "drop of user pages",
        before: |ends| ends.vmsplice().map(drop).map_err(Into::into),
        call: |ends| ends.splice(&ends.pipe.read, &ends.null),
        ..MOVES
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
