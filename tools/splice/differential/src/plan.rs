// SPDX-License-Identifier: GPL-2.0

//! Generates a sequence of operations from a seed. The sequence does not depend on results of
//! operations, so each part of it can be left out.

use std::collections::{BTreeSet, VecDeque};

use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::arena;
use crate::op::{
    Address,
    EndBy,
    Fd,
    Offset,
    Op,
    Place,
    Segment,
    Slot,
    Special,
    TcpFrom,
    WaitIn, //
};
use crate::region::Region;

/// The maximum number of open files.
const MOST_OPEN: usize = 40;

/// The kind of file that an operation opens in a slot. The operation may fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    File,
    Pipe,
    Socket,
    Special,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    slot: Slot,
    kind: Kind,
    read: bool,
    write: bool,
    /// The other end of a pipe or socket pair.
    peer: Option<Slot>,
    /// A pipe that should have room for large transfers.
    large: bool,
}

/// Returns the operations of `seed`.
pub fn plan(seed: u64, count: usize) -> Vec<Op> {
    let mut maker = Maker {
        rng: ChaCha8Rng::seed_from_u64(seed),
        live: Vec::new(),
        next: 0,
        regions: Vec::new(),
        pending: VecDeque::new(),
    };
    maker.choose_regions();
    let mut ops = Vec::with_capacity(count);
    while ops.len() < count {
        ops.push(maker.op());
    }
    ops
}

/// Returns the indexes of the operations that are connected with operation `last` by the open files
/// that they use.
pub fn related(ops: &[Op], last: usize) -> Vec<usize> {
    let mut slots: BTreeSet<Slot> = ops[last].slots().into_iter().collect();
    let mut keep = vec![last];
    for (index, op) in ops[..last].iter().enumerate().rev() {
        let used = op.slots();
        if used.iter().any(|slot| slots.contains(slot)) {
            slots.extend(used);
            keep.push(index);
        }
    }
    keep.reverse();
    keep
}

/// Returns `last` and the indexes of the operations that create the open files that it uses.
pub fn makers(ops: &[Op], last: usize) -> Vec<usize> {
    let slots = ops[last].slots();
    let makes = |op: &Op| {
        matches!(
            op,
            Op::Open { .. }
                | Op::Fifo { .. }
                | Op::Pipe { .. }
                | Op::Socketpair { .. }
                | Op::Special { .. }
                | Op::Dup { .. }
        )
    };
    (0..last)
        .filter(|&i| makes(&ops[i]) && ops[i].slots().iter().any(|slot| slots.contains(slot)))
        .chain([last])
        .collect()
}

struct Maker {
    rng: ChaCha8Rng,
    live: Vec<Live>,
    next: u16,
    /// The kinds of memory that the sequence uses.
    regions: Vec<Region>,
    /// The next operations, already chosen.
    pending: VecDeque<Op>,
}

impl Maker {
    /// Returns a number below `end`. Does not use the `rand` crate, whose algorithms may change.
    fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.rng.next_u32()) * u64::from(end)) >> 32) as u32
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }

    fn add(&mut self, kind: Kind, read: bool, write: bool) -> Slot {
        let slot = Slot(self.next);
        self.next += 1;
        self.live.push(Live {
            slot,
            kind,
            read,
            write,
            peer: None,
            large: false,
        });
        slot
    }

    /// Chooses a few regions, so that each is used more often.
    fn choose_regions(&mut self) {
        let mut small = Region::SMALL.to_vec();
        for _ in 0..3 {
            let index = self.below(small.len() as u32) as usize;
            self.regions.push(small.swap_remove(index));
        }
        let huge = self.choose(&Region::HUGE);
        self.regions.push(huge);
    }

    fn region(&mut self) -> Region {
        if self.one_in(2) {
            return Region::Private;
        }
        let regions = self.regions.clone();
        self.choose(&regions)
    }

    /// Adds two files that are each other's ends.
    fn add_pair(&mut self, kind: Kind, duplex: bool) -> [Slot; 2] {
        let a = self.add(kind, true, duplex);
        let b = self.add(kind, duplex, true);
        let len = self.live.len();
        self.live[len - 2].peer = Some(b);
        self.live[len - 1].peer = Some(a);
        [a, b]
    }

    /// Usually closes a file whose other end is closed, so that few of these remain.
    fn close(&mut self) -> Op {
        let mut index = self.below(self.live.len() as u32) as usize;
        if !self.one_in(3) {
            let open = |slot| self.live.iter().any(|live| live.slot == slot);
            let orphan = |live: &Live| live.peer.is_some_and(|peer| !open(peer));
            index = self.live.iter().position(orphan).unwrap_or(index);
        }
        Op::Close {
            slot: self.live.swap_remove(index).slot,
        }
    }

    /// Usually returns a file that fits.
    fn fd(&mut self, fits: impl Fn(&Live) -> bool) -> Fd {
        if self.one_in(120) {
            return Fd::Bad(self.choose(&[-1, 9999, -100, i32::MIN, i32::MAX]));
        }
        let any = self.one_in(50);
        let found: Vec<Slot> = self
            .live
            .iter()
            .filter(|live| any || fits(live))
            .map(|live| live.slot)
            .collect();
        if found.is_empty() {
            return Fd::Bad(-1);
        }
        Fd::Slot(self.choose(&found))
    }

    fn fd_of(&mut self, kind: Kind, write: bool) -> Fd {
        self.fd(|live| live.kind == kind && if write { live.write } else { live.read })
    }

    fn any_fd(&mut self) -> Fd {
        self.fd(|_| true)
    }

    fn len(&mut self) -> usize {
        match self.below(16) {
            0 => 0,
            1 => 1,
            2..=4 => self.below(4096) as usize,
            5 => 4095 + self.below(3) as usize,
            6 | 7 => 4096 * (1 + self.below(16) as usize),
            8..=12 => self.below(40_000) as usize,
            13 => 65_535 + self.below(3) as usize,
            14 => self.below(200_000) as usize,
            _ => self.below(1 << 20) as usize,
        }
    }

    /// A length that is usually larger than the default pipe.
    fn large_len(&mut self) -> usize {
        match self.below(4) {
            0 => 4096 * (1 + self.below(256) as usize),
            1 => 65_536 << self.below(5),
            _ => 1 + self.below(1 << 20) as usize,
        }
    }

    /// Like `large_len`, or rarely a length that no file has.
    fn splice_len(&mut self) -> usize {
        match self.below(60) {
            0 => self.choose(&[usize::MAX, isize::MAX as usize, 1 << 31, 1 << 32]),
            1..=6 => self.large_len(),
            _ => self.len(),
        }
    }

    fn position(&mut self) -> i64 {
        match self.below(40) {
            0 => -1 - i64::from(self.below(5000)),
            1 => i64::MAX - i64::from(self.below(5000)),
            2 => (1 << 32) - 5000 + i64::from(self.below(10_000)),
            3..=9 => 0,
            10..=19 => i64::from(self.below(32)) * 4096,
            20..=35 => i64::from(self.below(60_000)),
            _ => i64::from(self.below(150_000)),
        }
    }

    /// Returns an offset in `often` of 16 cases.
    fn offset(&mut self, often: u32) -> Offset {
        if self.below(16) >= often {
            return if self.one_in(80) {
                Offset::Unmapped
            } else {
                Offset::None
            };
        }
        let at = self.position();
        if self.one_in(40) {
            Offset::ReadOnly(at)
        } else {
            Offset::At(at)
        }
    }

    /// Returns an offset in rare cases, for files that have none.
    fn unfit_offset(&mut self) -> Offset {
        if self.one_in(40) {
            self.offset(16)
        } else {
            Offset::None
        }
    }

    fn splice_flags(&mut self) -> u32 {
        let mut flags = self.below(16);
        if self.one_in(2) {
            flags |= libc::SPLICE_F_NONBLOCK;
        }
        if self.one_in(60) {
            flags |= self.choose(&[0x20, 0x8000_0000, 0x100]);
        }
        flags
    }

    /// At most `most` bytes, or `large` in regions of huge pages.
    fn segment(&mut self, most: usize, large: usize) -> Segment {
        let address = match self.below(80) {
            0 => Address::Null,
            1 => Address::Wrap,
            2 => Address::Kernel,
            // Reaches into memory that is read-only or unmapped.
            3 | 4 => {
                let at = arena::WRITABLE - 1 - self.below(20_000) as usize;
                Address::In(Region::Private, at as u32)
            }
            5 => {
                let at = arena::READABLE - 1 - self.below(20_000) as usize;
                Address::In(Region::Private, at as u32)
            }
            _ => {
                let region = self.region();
                Address::In(region, self.place(region))
            }
        };
        let mut len = match address {
            Address::In(region, _) if region.is_huge() && self.one_in(2) => {
                self.large_len().min(large)
            }
            _ => self.len().min(most),
        };
        if let Address::In(region, at) = address {
            let at = at as usize;
            len = len.min(region.len() - at);
            // Usually within accessible memory.
            if at < region.usual() && !self.one_in(25) {
                len = len.min(region.usual() - at);
            }
        }
        Segment { address, len }
    }

    /// Where a segment starts in a region: at a page boundary, or anywhere.
    fn place(&mut self, region: Region) -> u32 {
        let end = region.usual() as u32;
        match self.below(16) {
            0..=6 => self.below(end / 4096) * 4096,
            // In a region of huge pages: at the beginning, so that much follows, or just before the
            // boundary of a huge page.
            7 | 8 if region.is_huge() => self.choose(&[0, 1, 100, 4095]),
            9..=11 if region.is_huge() => Region::BOUNDARY as u32 - self.below(100_000),
            _ => self.below(end),
        }
    }

    /// Chooses writable memory.
    fn writable(&mut self) -> Segment {
        let region = loop {
            let region = self.region();
            if region.is_writable() {
                break region;
            }
        };
        let at = self.place(region);
        let len = if region.is_huge() {
            self.splice_len()
        } else {
            self.len()
        };
        Segment {
            address: Address::In(region, at),
            len: len.min(region.usual() - at as usize),
        }
    }

    fn op(&mut self) -> Op {
        if let Some(op) = self.pending.pop_front() {
            return op;
        }
        if self.live.len() < 8 || (self.live.len() < MOST_OPEN && self.one_in(9)) {
            return self.make();
        }
        if self.live.len() >= MOST_OPEN || self.one_in(22) {
            return self.close();
        }
        match self.below(200) {
            0..=74 => self.splice(),
            75..=89 => {
                let len = self.splice_len();
                Op::Tee {
                    input: self.pipe_for(len, false),
                    output: self.pipe_for(len, true),
                    len,
                    flags: self.splice_flags(),
                }
            }
            90..=109 => self.vmsplice(),
            110..=121 => self.sendfile(),
            122..=129 => Op::CopyFileRange {
                input: self.fd_of(Kind::File, false),
                in_offset: self.offset(8),
                output: self.fd_of(Kind::File, true),
                out_offset: self.offset(8),
                len: self.len(),
                flags: u32::from(self.one_in(50)),
            },
            130..=143 => self.read(),
            144..=161 => self.write(),
            162..=167 => self.set_pipe_size(),
            168..=171 => {
                let mut flags = 0;
                for (flag, n) in [(libc::O_NONBLOCK, 2), (libc::O_APPEND, 5)] {
                    if self.one_in(n) {
                        flags |= flag;
                    }
                }
                // On a pipe this makes packets; on a file it would bypass the page cache.
                let fd = self.fd(|live| live.kind != Kind::Special);
                if self.one_in(8) && !self.is_file(fd) {
                    flags |= libc::O_DIRECT;
                }
                Op::SetFlags { fd, flags }
            }
            172..=176 => Op::Seek {
                fd: self.fd(|live| live.kind == Kind::File),
                to: self.position(),
                whence: self.choose(&[libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END, 77]),
            },
            177..=180 => Op::Truncate {
                fd: self.fd_of(Kind::File, true),
                len: self.position(),
            },
            181 => Op::Punch {
                fd: self.fd_of(Kind::File, true),
                at: self.position(),
                len: self.len() as i64,
            },
            182 => Op::Shutdown {
                fd: self.fd(|live| live.kind == Kind::Socket),
                how: self.choose(&[libc::SHUT_RD, libc::SHUT_WR, libc::SHUT_RDWR]),
            },
            183..=188 => {
                let mut fds = Vec::new();
                for _ in 0..=self.below(6) {
                    let index = self.below(self.live.len() as u32) as usize;
                    fds.push(self.live[index].slot);
                }
                Op::Poll { fds }
            }
            189..=193 => Op::Fill {
                memory: self.writable(),
                content: self.below(1 << 20),
            },
            194 | 195 => Op::NoWait {
                fd: self.fd(|live| live.kind == Kind::Pipe),
                memory: self.segment(70_000, 300_000),
                write: self.one_in(2),
            },
            196..=198 => self.wait(),
            _ => Op::Tcp {
                from: self.choose(&[
                    TcpFrom::File,
                    TcpFrom::Memory,
                    TcpFrom::HugePage,
                    TcpFrom::Sendfile,
                    TcpFrom::Write,
                ]),
                len: 1 + self.below(60_000) as usize,
                piece: 1 + self.len(),
                more: self.one_in(4),
            },
        }
    }

    fn is_file(&self, fd: Fd) -> bool {
        matches!(fd, Fd::Slot(slot) if self
            .live
            .iter()
            .any(|live| live.slot == slot && live.kind == Kind::File))
    }

    fn make(&mut self) -> Op {
        match self.below(20) {
            0..=5 => {
                let access = match self.below(6) {
                    0 => libc::O_RDONLY,
                    1 => libc::O_WRONLY,
                    _ => libc::O_RDWR,
                };
                let mut flags = access | libc::O_CREAT;
                for (flag, n) in [
                    (libc::O_APPEND, 8),
                    (libc::O_TRUNC, 20),
                    (libc::O_NONBLOCK, 6),
                    (libc::O_DIRECT, 10),
                ] {
                    if self.one_in(n) {
                        flags |= flag;
                    }
                }
                Op::Open {
                    slot: self.add(
                        Kind::File,
                        access != libc::O_WRONLY,
                        access != libc::O_RDONLY,
                    ),
                    place: self.choose(&[Place::Tmpfs, Place::Ext4]),
                    name: self.below(4) as u8,
                    flags,
                }
            }
            6..=13 => {
                let mut flags = 0;
                if !self.one_in(3) {
                    flags |= libc::O_NONBLOCK;
                }
                if self.one_in(8) {
                    flags |= libc::O_DIRECT;
                }
                // O_NOTIFICATION_PIPE: such a pipe cannot be spliced.
                if self.one_in(30) {
                    flags |= libc::O_EXCL;
                }
                let [read, write] = self.add_pair(Kind::Pipe, false);
                if self.one_in(4) {
                    self.pending.push_back(Op::SetPipeSize {
                        fd: Fd::Slot(read),
                        size: 1 << 20,
                    });
                    self.set_large(read, true);
                }
                Op::Pipe { read, write, flags }
            }
            14 => {
                let access = self.choose(&[libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR]);
                Op::Fifo {
                    slot: self.add(
                        Kind::Pipe,
                        access != libc::O_WRONLY,
                        access != libc::O_RDONLY,
                    ),
                    name: self.below(3) as u8,
                    access,
                }
            }
            15 | 16 => Op::Socketpair {
                ends: self.add_pair(Kind::Socket, true),
                kind: match self.below(8) {
                    0 => libc::SOCK_SEQPACKET,
                    1 => libc::SOCK_DGRAM,
                    _ => libc::SOCK_STREAM,
                },
                nonblock: !self.one_in(5),
            },
            17 => {
                let index = self.below(self.live.len() as u32 + 1) as usize;
                let Some(&Live {
                    slot: source,
                    kind,
                    read,
                    write,
                    ..
                }) = self.live.get(index)
                else {
                    return self.special();
                };
                let slot = self.add(kind, read, write);
                Op::Dup { slot, source }
            }
            _ => self.special(),
        }
    }

    fn special(&mut self) -> Op {
        Op::Special {
            slot: self.add(Kind::Special, true, true),
            what: self.choose(&[
                Special::Null,
                Special::Null,
                Special::Zero,
                Special::Full,
                Special::Memfd,
                Special::Eventfd,
                Special::Directory,
                Special::Path,
            ]),
        }
    }

    fn splice(&mut self) -> Op {
        use Kind::{File, Pipe, Socket, Special};

        let (from, to) = match self.below(20) {
            0..=4 => (File, Pipe),
            5..=8 => (Pipe, File),
            9..=12 => (Pipe, Pipe),
            13 | 14 => (Pipe, Socket),
            15 | 16 => (Socket, Pipe),
            17 => (Pipe, Special),
            18 => (Special, Pipe),
            _ => self.choose(&[(File, File), (Socket, Socket), (File, Socket)]),
        };
        let mut often = |kind: Kind| match kind {
            File => self.offset(8),
            _ => self.unfit_offset(),
        };
        let (in_offset, out_offset) = (often(from), often(to));
        let len = self.splice_len();
        let mut end = |kind: Kind, write: bool| match kind {
            Pipe => self.pipe_for(len, write),
            _ => self.fd_of(kind, write),
        };
        let (input, output) = (end(from, false), end(to, true));
        Op::Splice {
            input,
            in_offset,
            output,
            out_offset,
            len,
            flags: self.splice_flags(),
        }
    }

    fn vmsplice(&mut self) -> Op {
        let count = match self.below(30) {
            0 => 0,
            1 => 20,
            2..=15 => 1,
            _ => 1 + self.below(6),
        };
        let mut room = 1 << 20;
        let segments: Vec<Segment> = (0..count)
            .map(|_| {
                let segment = self.segment(room.min(100_000), room);
                room -= segment.len;
                segment
            })
            .collect();
        let count = if self.one_in(80) {
            Some(self.choose(&[1025, usize::MAX]))
        } else {
            None
        };
        let most = segments.iter().map(|segment| segment.len).max();
        let large = self.wants_large(most.unwrap_or(0));
        let fd = self.fd(|live| live.kind == Kind::Pipe && (live.large || !large));
        let flags = self.splice_flags();
        self.follow(fd, &segments);
        Op::Vmsplice {
            fd,
            segments,
            count,
            flags,
        }
    }

    /// Whether to use a large pipe for this length, if one exists.
    fn wants_large(&self, len: usize) -> bool {
        len > 65_536 && self.live.iter().any(|live| live.large)
    }

    /// Returns an end of a pipe, of a large one if `len` needs it and one exists.
    fn pipe_for(&mut self, len: usize, write: bool) -> Fd {
        let large = self.wants_large(len);
        self.fd(|live| {
            live.kind == Kind::Pipe
                && if write { live.write } else { live.read }
                && (live.large || !large)
        })
    }

    /// In half of all cases, adds an operation on memory that was put into a pipe.
    fn follow(&mut self, fd: Fd, segments: &[Segment]) {
        let Fd::Slot(slot) = fd else {
            return;
        };
        let write_end = self
            .live
            .iter()
            .find(|live| live.slot == slot && live.write);
        let other = write_end.and_then(|live| live.peer);
        let Some(input) = other.filter(|peer| self.live.iter().any(|live| live.slot == *peer))
        else {
            return;
        };
        if self.one_in(2) {
            return;
        }
        if let Some(&memory) = segments.first().filter(|_| self.one_in(3)) {
            self.rewrite(memory);
        }
        let input = Fd::Slot(input);
        let len = self.splice_len();
        let op = match self.below(8) {
            0 | 1 => Op::Tee {
                input,
                output: self.pipe_for(len, true),
                len,
                flags: self.splice_flags(),
            },
            kind @ 2..=4 => Op::Splice {
                input,
                in_offset: Offset::None,
                output: match kind {
                    2 => self.pipe_for(len, true),
                    3 => self.fd_of(Kind::File, true),
                    _ => self.fd(|live| matches!(live.kind, Kind::Socket | Kind::Special)),
                },
                out_offset: Offset::None,
                len,
                flags: self.splice_flags(),
            },
            5 => Op::Read {
                fd: input,
                to: self.segment(200_000, 1 << 20),
                at: None,
            },
            6 => Op::Vmsplice {
                fd: input,
                segments: vec![self.segment(200_000, 1 << 20)],
                count: None,
                flags: self.splice_flags(),
            },
            _ => Op::SetPipeSize {
                fd: input,
                size: 4096 << self.below(9),
            },
        };
        self.pending.push_back(op);
    }

    /// Overwrites a part of `memory` in the next operation, if it is writable.
    fn rewrite(&mut self, memory: Segment) {
        let Address::In(region, at) = memory.address else {
            return;
        };
        let end = (at as usize + memory.len).min(region.usual());
        if !region.is_writable() || at as usize >= end {
            return;
        }
        let from = at + self.below((end - at as usize) as u32);
        let memory = Segment {
            address: Address::In(region, from),
            len: self.large_len().min(end - from as usize),
        };
        let content = self.below(1 << 20);
        self.pending.push_back(Op::Fill { memory, content });
    }

    fn sendfile(&mut self) -> Op {
        let output = match self.below(8) {
            0..=2 => self.fd_of(Kind::File, true),
            3..=4 => self.fd_of(Kind::Socket, true),
            5 => self.fd_of(Kind::Special, true),
            _ => self.fd_of(Kind::Pipe, true),
        };
        let input = match self.below(12) {
            0 => self.fd_of(Kind::Special, false),
            1 => self.any_fd(),
            _ => self.fd_of(Kind::File, false),
        };
        Op::Sendfile {
            output,
            input,
            offset: self.offset(8),
            len: self.len(),
        }
    }

    fn read(&mut self) -> Op {
        Op::Read {
            fd: match self.below(8) {
                0..=3 => self.fd_of(Kind::Pipe, false),
                4 => self.fd_of(Kind::Socket, false),
                5 => self.any_fd(),
                _ => self.fd_of(Kind::File, false),
            },
            to: self.segment(200_000, 1 << 20),
            at: if self.one_in(4) {
                Some(self.position())
            } else {
                None
            },
        }
    }

    fn write(&mut self) -> Op {
        Op::Write {
            fd: match self.below(10) {
                0..=3 => self.fd_of(Kind::Pipe, true),
                4 => self.fd_of(Kind::Socket, true),
                5 => self.any_fd(),
                _ => self.fd_of(Kind::File, true),
            },
            from: self.segment(200_000, 1 << 20),
            at: if self.one_in(4) {
                Some(self.position())
            } else {
                None
            },
        }
    }

    fn set_pipe_size(&mut self) -> Op {
        let fd = self.fd(|live| live.kind == Kind::Pipe);
        let size = match self.below(16) {
            0 => 0,
            1 => self.choose(&[0x8000_0001, u32::MAX]),
            2 => self.below(4096),
            3..=6 => 4096 << self.below(5),
            7 => self.below(1 << 20),
            8..=11 => 1 << (17 + self.below(4)),
            _ => 4096 * (1 + self.below(40)),
        };
        if let Fd::Slot(slot) = fd {
            self.set_large(slot, (200_000..=1 << 20).contains(&size));
        }
        Op::SetPipeSize { fd, size }
    }

    /// Sets `large` of both ends of a pipe.
    fn set_large(&mut self, slot: Slot, large: bool) {
        let peer = self.live.iter().find(|live| live.slot == slot);
        let ends = [Some(slot), peer.and_then(|live| live.peer)];
        for live in &mut self.live {
            if ends.contains(&Some(live.slot)) {
                live.large = large;
            }
        }
    }

    fn wait(&mut self) -> Op {
        let wait = self.choose(&[
            WaitIn::Read,
            WaitIn::SpliceToFile,
            WaitIn::SpliceToPipe,
            WaitIn::SpliceToNull,
            WaitIn::SpliceToSocket,
            WaitIn::Tee,
            WaitIn::VmspliceOut,
            WaitIn::Write,
            WaitIn::SpliceFromFile,
            WaitIn::SpliceFromPipe,
            WaitIn::TeeInto,
            WaitIn::VmspliceIn,
            WaitIn::VmspliceHugePageIn,
            WaitIn::SendfileToPipe,
        ]);
        let end = self.choose(&[EndBy::Transfer, EndBy::Splice, EndBy::Close, EndBy::Resize]);
        Op::Wait {
            wait,
            end,
            len: 1 + self.below(if wait == WaitIn::Write { 4096 } else { 100_000 }) as usize,
            amount: 1 + self.below(if wait.for_data() { 60_000 } else { 16 }) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seed: u64, count: usize) -> String {
        plan(seed, count)
            .iter()
            .map(|op| format!("{op}\n"))
            .collect()
    }

    #[test]
    fn a_seed_stands_for_one_plan() {
        assert_eq!(text(7, 500), text(7, 500));
        assert_ne!(text(7, 500), text(8, 500));
        assert!(text(7, 500).starts_with(&text(7, 100)));
    }

    /// Divergences are reported by seed, so the sequence of a seed must not change unnoticed.
    #[test]
    fn the_plan_of_a_seed_does_not_change() {
        let all: String = (0..20).map(|seed| text(seed, 500)).collect();
        assert_eq!(
            format!("{:016x}", xxhash_rust::xxh64::xxh64(all.as_bytes(), 0)),
            "85a9fb3793bc0275"
        );
    }

    #[test]
    fn every_operation_is_made() {
        let all: String = (0..50).map(|seed| text(seed, 500)).collect();
        for name in [
            "open",
            "fifo",
            "pipe",
            "socketpair",
            "special",
            "dup",
            "close",
            "splice",
            "tee",
            "vmsplice",
            "sendfile",
            "copy_file_range",
            "read",
            "pread",
            "write",
            "pwrite",
            "nowait",
            "setpipe_sz",
            "setfl",
            "lseek",
            "ftruncate",
            "punch",
            "shutdown",
            "poll",
            "fill",
            "wait",
            "tcp",
        ] {
            let count = all
                .lines()
                .filter(|line| line.split(' ').next() == Some(name))
                .count();
            assert!(count > 20, "{name}: {count}");
        }
    }

    #[test]
    fn memory_is_in_the_arena() {
        let check = |segment: &Segment| {
            if let Address::In(region, at) = segment.address {
                assert!(at as usize + segment.len <= region.len());
            }
        };
        for op in (0..50).flat_map(|seed| plan(seed, 500)) {
            op.memory().iter().for_each(check);
            if let Op::Fill { memory, .. } = op {
                let Address::In(region, at) = memory.address else {
                    panic!("{memory}");
                };
                assert!(region.is_writable());
                assert!(at as usize + memory.len <= region.usual());
            }
        }
    }

    #[test]
    fn every_sort_of_memory_is_put_into_pipes() {
        let ops: Vec<Op> = (0..50).flat_map(|seed| plan(seed, 500)).collect();
        let most = |region: Region| {
            let len_in_region = |segment: &Segment| match segment.address {
                Address::In(its, _) if its == region => Some(segment.len),
                _ => None,
            };
            ops.iter()
                .filter(|op| matches!(op, Op::Vmsplice { .. }))
                .flat_map(|op| op.memory().iter().filter_map(len_in_region))
                .max()
        };
        for region in [Region::Private].iter().chain(&Region::SMALL) {
            assert!(
                most(*region) > Some(60_000),
                "{region}: {:?}",
                most(*region)
            );
        }
        for region in Region::HUGE {
            assert!(most(region) > Some(900_000), "{region}: {:?}", most(region));
        }
    }

    #[test]
    fn related_operations_make_what_the_last_one_uses() {
        let ops = plan(3, 500);
        for last in 0..ops.len() {
            let related = related(&ops, last);
            let makers = makers(&ops, last);
            assert_eq!(related.last(), Some(&last));
            assert!(related.is_sorted());
            assert!(makers.is_sorted());
            assert!(makers.iter().all(|index| related.contains(index)));
        }
    }
}
