// SPDX-License-Identifier: GPL-2.0

//! The operations, with all of their arguments.

use std::fmt;

use crate::region::Region;

/// An open file, by its number in the plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Slot(pub u16);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A file descriptor argument.
#[derive(Clone, Copy, Debug)]
pub enum Fd {
    Slot(Slot),
    /// A number without an open file.
    Bad(i32),
}

impl fmt::Display for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => slot.fmt(f),
            Self::Bad(fd) => write!(f, "fd:{fd}"),
        }
    }
}

/// A pointer to an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offset {
    None,
    At(i64),
    /// In read-only memory.
    ReadOnly(i64),
    /// At an unmapped address.
    Unmapped,
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "-"),
            Self::At(at) => write!(f, "{at}"),
            Self::ReadOnly(at) => write!(f, "ro:{at}"),
            Self::Unmapped => write!(f, "unmapped"),
        }
    }
}

/// An address argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address {
    /// An offset into a region.
    In(Region, u32),
    Null,
    /// So high that the end of the segment wraps around.
    Wrap,
    /// An address of the kernel.
    Kernel,
}

/// A piece of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub address: Address,
    pub len: usize,
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Address::In(region, at) => write!(f, "{region}:{at:#x}")?,
            Address::Null => write!(f, "null")?,
            Address::Wrap => write!(f, "wrap")?,
            Address::Kernel => write!(f, "kernel")?,
        }
        write!(f, "+{}", self.len)
    }
}

/// The file system of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Tmpfs,
    Ext4,
}

/// Devices and other things that are neither files nor pipes nor sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Special {
    Null,
    Zero,
    Full,
    Memfd,
    Eventfd,
    Directory,
    Path,
}

/// The system call in which a thread waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitIn {
    Read,
    SpliceToFile,
    SpliceToPipe,
    SpliceToNull,
    SpliceToSocket,
    Tee,
    VmspliceOut,
    Write,
    SpliceFromFile,
    SpliceFromPipe,
    TeeInto,
    VmspliceIn,
    VmspliceHugePageIn,
    SendfileToPipe,
}

impl WaitIn {
    /// Whether the call waits for data. It waits for room otherwise.
    pub fn for_data(self) -> bool {
        matches!(
            self,
            Self::Read
                | Self::SpliceToFile
                | Self::SpliceToPipe
                | Self::SpliceToNull
                | Self::SpliceToSocket
                | Self::Tee
                | Self::VmspliceOut
        )
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndBy {
    /// A read or write adds or removes data.
    Transfer,
    /// Another system call adds or removes data.
    Splice,
    /// The other end of the pipe is closed.
    Close,
    /// The pipe is enlarged. If the thread waits for data, the same as `Transfer`.
    Resize,
}

/// The way in which data gets into the TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcpFrom {
    File,
    Memory,
    HugePage,
    Sendfile,
    Write,
}

/// An operation.
#[derive(Clone, Debug)]
pub enum Op {
    Open {
        slot: Slot,
        place: Place,
        name: u8,
        flags: i32,
    },
    Fifo {
        slot: Slot,
        name: u8,
        access: i32,
    },
    Pipe {
        read: Slot,
        write: Slot,
        flags: i32,
    },
    Socketpair {
        ends: [Slot; 2],
        kind: i32,
        nonblock: bool,
    },
    Special {
        slot: Slot,
        what: Special,
    },
    Dup {
        slot: Slot,
        source: Slot,
    },
    Close {
        slot: Slot,
    },
    Splice {
        input: Fd,
        in_offset: Offset,
        output: Fd,
        out_offset: Offset,
        len: usize,
        flags: u32,
    },
    Tee {
        input: Fd,
        output: Fd,
        len: usize,
        flags: u32,
    },
    Vmsplice {
        fd: Fd,
        segments: Vec<Segment>,
        /// The length of the vector, if not that of `segments`.
        count: Option<usize>,
        flags: u32,
    },
    Sendfile {
        output: Fd,
        input: Fd,
        offset: Offset,
        len: usize,
    },
    CopyFileRange {
        input: Fd,
        in_offset: Offset,
        output: Fd,
        out_offset: Offset,
        len: usize,
        flags: u32,
    },
    Read {
        fd: Fd,
        to: Segment,
        at: Option<i64>,
    },
    Write {
        fd: Fd,
        from: Segment,
        at: Option<i64>,
    },
    /// `preadv2` with `RWF_NOWAIT`, or `pwritev2`, on a pipe.
    NoWait {
        fd: Fd,
        memory: Segment,
        write: bool,
    },
    SetPipeSize {
        fd: Fd,
        size: u32,
    },
    SetFlags {
        fd: Fd,
        flags: i32,
    },
    Seek {
        fd: Fd,
        to: i64,
        whence: i32,
    },
    Truncate {
        fd: Fd,
        len: i64,
    },
    Punch {
        fd: Fd,
        at: i64,
        len: i64,
    },
    Shutdown {
        fd: Fd,
        how: i32,
    },
    Poll {
        fds: Vec<Slot>,
    },
    /// Overwrites memory. Its pages may be in pipes.
    Fill {
        memory: Segment,
        content: u32,
    },
    /// A thread that waits on a new pipe, and the event that wakes it.
    Wait {
        wait: WaitIn,
        end: EndBy,
        len: usize,
        amount: usize,
    },
    /// Sends data through a TCP connection by new pipes.
    Tcp {
        from: TcpFrom,
        len: usize,
        piece: usize,
        more: bool,
    },
}

impl Op {
    /// Returns the open files that the operation creates or uses.
    pub fn slots(&self) -> Vec<Slot> {
        let slots_of = |fds: &[Fd]| {
            fds.iter()
                .filter_map(|fd| match fd {
                    Fd::Slot(slot) => Some(*slot),
                    Fd::Bad(_) => None,
                })
                .collect()
        };
        match self {
            Self::Open { slot, .. }
            | Self::Fifo { slot, .. }
            | Self::Special { slot, .. }
            | Self::Close { slot } => vec![*slot],
            Self::Pipe { read, write, .. } => vec![*read, *write],
            Self::Socketpair { ends, .. } => ends.to_vec(),
            Self::Dup { slot, source } => vec![*slot, *source],
            Self::Splice { input, output, .. }
            | Self::Tee { input, output, .. }
            | Self::Sendfile { input, output, .. }
            | Self::CopyFileRange { input, output, .. } => slots_of(&[*input, *output]),
            Self::Vmsplice { fd, .. }
            | Self::Read { fd, .. }
            | Self::Write { fd, .. }
            | Self::NoWait { fd, .. }
            | Self::SetPipeSize { fd, .. }
            | Self::SetFlags { fd, .. }
            | Self::Seek { fd, .. }
            | Self::Truncate { fd, .. }
            | Self::Punch { fd, .. }
            | Self::Shutdown { fd, .. } => slots_of(&[*fd]),
            Self::Poll { fds } => fds.clone(),
            Self::Fill { .. } | Self::Wait { .. } | Self::Tcp { .. } => Vec::new(),
        }
    }

    /// Returns the memory that the operation reads or writes.
    pub fn memory(&self) -> &[Segment] {
        match self {
            Self::Vmsplice { segments, .. } => segments,
            Self::Read { to: memory, .. }
            | Self::Write { from: memory, .. }
            | Self::NoWait { memory, .. }
            | Self::Fill { memory, .. } => std::slice::from_ref(memory),
            _ => &[],
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open {
                slot,
                place,
                name,
                flags,
            } => write!(f, "open {slot} {place:?}/{name} flags={flags:#o}"),
            Self::Fifo { slot, name, access } => write!(f, "fifo {slot} {name} access={access}"),
            Self::Pipe { read, write, flags } => {
                write!(f, "pipe {read} {write} flags={flags:#o}")
            }
            Self::Socketpair {
                ends: [a, b],
                kind,
                nonblock,
            } => write!(f, "socketpair {a} {b} kind={kind} nonblock={nonblock}"),
            Self::Special { slot, what } => write!(f, "special {slot} {what:?}"),
            Self::Dup { slot, source } => write!(f, "dup {slot} of={source}"),
            Self::Close { slot } => write!(f, "close {slot}"),
            Self::Splice {
                input,
                in_offset,
                output,
                out_offset,
                len,
                flags,
            } => write!(
                f,
                "splice {input} at={in_offset} {output} at={out_offset} len={len} flags={flags:#x}"
            ),
            Self::Tee {
                input,
                output,
                len,
                flags,
            } => write!(f, "tee {input} {output} len={len} flags={flags:#x}"),
            Self::Vmsplice {
                fd,
                segments,
                count,
                flags,
            } => {
                write!(f, "vmsplice {fd} [")?;
                for (i, segment) in segments.iter().enumerate() {
                    write!(f, "{}{segment}", if i > 0 { " " } else { "" })?;
                }
                write!(f, "]")?;
                if let Some(count) = count {
                    write!(f, " count={count}")?;
                }
                write!(f, " flags={flags:#x}")
            }
            Self::Sendfile {
                output,
                input,
                offset,
                len,
            } => write!(f, "sendfile {output} {input} at={offset} len={len}"),
            Self::CopyFileRange {
                input,
                in_offset,
                output,
                out_offset,
                len,
                flags,
            } => write!(
                f,
                "copy_file_range {input} at={in_offset} {output} at={out_offset} len={len} \
                 flags={flags:#x}"
            ),
            Self::Read { fd, to, at: None } => write!(f, "read {fd} {to}"),
            Self::Read {
                fd,
                to,
                at: Some(at),
            } => write!(f, "pread {fd} {to} at={at}"),
            Self::Write { fd, from, at: None } => write!(f, "write {fd} {from}"),
            Self::Write {
                fd,
                from,
                at: Some(at),
            } => write!(f, "pwrite {fd} {from} at={at}"),
            Self::NoWait { fd, memory, write } => {
                write!(f, "nowait {fd} {memory} write={write}")
            }
            Self::SetPipeSize { fd, size } => write!(f, "setpipe_sz {fd} {size}"),
            Self::SetFlags { fd, flags } => write!(f, "setfl {fd} {flags:#o}"),
            Self::Seek { fd, to, whence } => write!(f, "lseek {fd} {to} whence={whence}"),
            Self::Truncate { fd, len } => write!(f, "ftruncate {fd} {len}"),
            Self::Punch { fd, at, len } => write!(f, "punch {fd} {at} len={len}"),
            Self::Shutdown { fd, how } => write!(f, "shutdown {fd} {how}"),
            Self::Poll { fds } => {
                write!(f, "poll")?;
                fds.iter().try_for_each(|fd| write!(f, " {fd}"))
            }
            Self::Fill { memory, content } => write!(f, "fill {memory} content={content}"),
            Self::Wait {
                wait,
                end,
                len,
                amount,
            } => write!(f, "wait {wait:?} len={len} until={end:?} amount={amount}"),
            Self::Tcp {
                from,
                len,
                piece,
                more,
            } => write!(f, "tcp {from:?} len={len} piece={piece} more={more}"),
        }
    }
}
