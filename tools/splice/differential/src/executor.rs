// SPDX-License-Identifier: GPL-2.0

//! Executes operations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{fcntl_getfl, fcntl_setfl, open, openat, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{socketpair, AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{pipe_with, PipeFlags};
use xxhash_rust::xxh64::Xxh64;

use crate::arena::{self, Pool};
use crate::compound;
use crate::folders::Folders;
use crate::memory::{Huge, Memory};
use crate::op::{Fd, Offset, Op, Place, Segment, Slot, Special};
use crate::transcript::{Entry, Transcript};

/// The result of an operation on a slot that has no open file, because an operation was left out,
/// closed the file, or failed.
const ABSENT: &str = "absent";

/// The result of an operation that is skipped because its effect on a pipe's data would depend on
/// whether the kernel refers to the memory or to a copy of it.
const LENT: &str = "lent";

/// The number of SIGPIPEs of this process.
static SIGPIPES: AtomicU64 = AtomicU64::new(0);

/// Counts SIGPIPEs from now on.
pub fn count_sigpipe() -> Result<()> {
    let count = || {
        SIGPIPES.fetch_add(1, Ordering::Relaxed);
    };
    // SAFETY: The handler only adds to an atomic number, which a signal handler may do.
    unsafe { signal_hook::low_level::register(libc::SIGPIPE, count) }.context("SIGPIPE")?;
    Ok(())
}

/// Returns the number of SIGPIPEs since the previous call.
pub fn sigpipes() -> u64 {
    SIGPIPES.swap(0, Ordering::Relaxed)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    File,
    Pipe,
    Socket,
    /// A socket that preserves messages.
    Datagram,
    Event,
    Other,
}

struct Open {
    fd: OwnedFd,
    kind: Kind,
}

/// Executes the operations of one sequence.
pub struct Executor<'a> {
    folders: &'a Folders,
    pool: &'a Pool,
    memory: Memory<'a>,
    open: BTreeMap<Slot, Open>,
}

/// The result of a system call: a number, or a negated errno.
type Raw = i64;

fn raw<T>(result: Result<T, Errno>) -> Result<T, Raw> {
    result.map_err(|errno| -Raw::from(errno.raw_os_error()))
}

/// Returns the events that `poll(2)` reports for `fd` without waiting.
fn ready(fd: BorrowedFd<'_>) -> PollFlags {
    let all = PollFlags::IN
        | PollFlags::PRI
        | PollFlags::OUT
        | PollFlags::RDHUP
        | PollFlags::RDNORM
        | PollFlags::WRNORM;
    let mut fds = [PollFd::from_borrowed_fd(fd, all)];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

impl<'a> Executor<'a> {
    pub fn new(folders: &'a Folders, pool: &'a Pool, huge: &'a Huge) -> Result<Self> {
        for folder in [&folders.tmpfs, &folders.ext4] {
            let _ = std::fs::remove_dir_all(folder);
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(Self {
            folders,
            pool,
            memory: Memory::new(folders, pool, huge)?,
            open: BTreeMap::new(),
        })
    }

    /// Executes the operations of `ops` at the indexes `keep`, and calls `each` with the result of
    /// each operation.
    pub fn run(
        mut self,
        ops: &[Op],
        keep: &[usize],
        mut each: impl FnMut(&mut Entry),
    ) -> Result<Transcript> {
        let mut entries = Vec::with_capacity(keep.len());
        sigpipes();
        for &index in keep {
            let mut entry = self.entry(index, &ops[index])?;
            each(&mut entry);
            entries.push(entry);
        }
        let end = self.end()?;
        for folder in [&self.folders.tmpfs, &self.folders.ext4] {
            std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(Transcript { entries, end })
    }

    fn entry(&mut self, index: usize, op: &Op) -> Result<Entry> {
        let mut after = String::new();
        self.memory.need(op.memory())?;
        let result = match op {
            Op::Wait { .. } | Op::Tcp { .. } => self.run_compound(op, &mut after),
            _ => self.carry_out(op, &mut after)?.unwrap_or(0),
        };
        for slot in op.slots() {
            self.state(slot, &mut after);
        }
        let sigpipes = sigpipes();
        if sigpipes > 0 {
            write!(after, " sigpipe={sigpipes}")?;
        }
        Ok(Entry {
            index,
            call: op.to_string(),
            result,
            after: after.trim_start().to_owned(),
        })
    }

    fn run_compound(&self, op: &Op, after: &mut String) -> Raw {
        let (folder, pool) = (&self.folders.tmpfs, self.pool);
        let result = match op {
            Op::Wait {
                wait,
                end,
                len,
                amount,
            } => compound::wait(folder, pool, (*wait, *end), (*len, *amount), after),
            Op::Tcp {
                from,
                len,
                piece,
                more,
            } => compound::tcp(folder, pool, *from, (*len, *piece), *more, after),
            _ => unreachable!("{op}"),
        };
        result.unwrap_or_else(|error| {
            let _ = write!(after, " failed: {error:#}");
            -1
        })
    }

    /// Describes the state of an open file, except what depends on timing.
    fn state(&self, slot: Slot, out: &mut String) {
        let Some(Open { fd, kind }) = self.open.get(&slot) else {
            return;
        };
        match kind {
            Kind::File => {
                let pos = self.call(libc::SYS_lseek, &[fd.as_raw_fd() as usize, 0, 1]);
                let size = rustix::fs::fstat(fd).map_or(-1, |stat| stat.st_size);
                let _ = write!(out, " {slot} pos={pos} size={size}");
            }
            Kind::Pipe | Kind::Socket | Kind::Datagram => {
                let avail = rustix::io::ioctl_fionread(fd).map_or(-1, |n| n as i64);
                let _ = write!(
                    out,
                    " {slot} poll={:#x} avail={avail}",
                    ready(fd.as_fd()).bits()
                );
            }
            Kind::Event | Kind::Other => (),
        }
    }

    fn call(&self, number: libc::c_long, args: &[usize]) -> Raw {
        let arg = |i: usize| args.get(i).copied().unwrap_or(0);
        // SAFETY: Addresses in `args` are those of memory for system calls, of locals of the
        // caller, or invalid ones that the kernel refuses. The kernel checks file descriptors; this
        // closes none of `self.open`.
        let result =
            unsafe { libc::syscall(number, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) };
        if result == -1 {
            -Raw::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
        } else {
            result
        }
    }

    fn number(&self, fd: Fd) -> Option<usize> {
        let number = match fd {
            Fd::Slot(slot) => self.open.get(&slot)?.fd.as_raw_fd(),
            Fd::Bad(number) => number,
        };
        Some(number as isize as usize)
    }

    fn get(&self, fd: Fd) -> Option<&Open> {
        match fd {
            Fd::Slot(slot) => self.open.get(&slot),
            Fd::Bad(_) => None,
        }
    }

    /// Whether reading from `fd` returns at once.
    fn can_read(&self, fd: Fd) -> bool {
        self.can(fd, PollFlags::IN)
    }

    fn can_write(&self, fd: Fd) -> bool {
        self.can(fd, PollFlags::OUT)
    }

    fn can(&self, fd: Fd, what: PollFlags) -> bool {
        self.nonblocking(fd) || self.is_ready(fd, what)
    }

    fn is_ready(&self, fd: Fd, what: PollFlags) -> bool {
        self.get(fd).is_none_or(|open| {
            matches!(open.kind, Kind::File | Kind::Other)
                || ready(open.fd.as_fd()).intersects(what | PollFlags::HUP | PollFlags::ERR)
        })
    }

    fn nonblocking(&self, fd: Fd) -> bool {
        self.get(fd).is_none_or(|open| {
            fcntl_getfl(&open.fd).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
        })
    }

    fn is_writable(&self, fd: Fd) -> bool {
        self.get(fd).is_some_and(|open| {
            fcntl_getfl(&open.fd).is_ok_and(|flags| flags.intersects(OFlags::ACCMODE))
        })
    }

    /// Whether writing `len` bytes to `fd` returns without waiting for a reader.
    fn can_write_all(&self, fd: Fd, len: usize) -> bool {
        let Some(open) = self.get(fd) else {
            return true;
        };
        match open.kind {
            Kind::File | Kind::Other => true,
            Kind::Socket | Kind::Datagram | Kind::Event => self.nonblocking(fd),
            Kind::Pipe => {
                let state = ready(open.fd.as_fd());
                let empty = rustix::io::ioctl_fionread(&open.fd).is_ok_and(|n| n == 0);
                let size = rustix::pipe::fcntl_getpipe_size(&open.fd).unwrap_or(0);
                self.nonblocking(fd)
                    || state.contains(PollFlags::ERR)
                    || state.contains(PollFlags::OUT) && len <= 4096
                    // A packet pipe may contain an empty buffer.
                    || state.contains(PollFlags::OUT) && empty && len + 4096 <= size
            }
        }
    }

    fn is(&self, fd: Fd, kind: Kind) -> bool {
        self.get(fd).is_some_and(|open| open.kind == kind)
    }

    /// Returns a pointer to `offset`. The kernel changes the value there if the memory is writable.
    fn pointer(&mut self, offset: Offset, place: &mut i64) -> Result<usize> {
        Ok(match offset {
            Offset::None => 0,
            Offset::At(at) => {
                *place = at;
                std::ptr::from_mut(place) as usize
            }
            Offset::ReadOnly(at) => self.memory.arena.read_only_offset(at).context("mprotect")?,
            Offset::Unmapped => self.memory.arena.address(arena::READABLE + 64),
        })
    }

    fn make(&mut self, slot: Slot, kind: Kind, fd: Result<OwnedFd, Errno>) -> Raw {
        match raw(fd) {
            Ok(fd) => {
                self.open.insert(slot, Open { fd, kind });
                0
            }
            Err(error) => error,
        }
    }

    fn open_file(&self, place: Place, name: u8, flags: i32) -> Result<OwnedFd, Errno> {
        let folder = match place {
            Place::Tmpfs => &self.folders.tmpfs,
            Place::Ext4 => &self.folders.ext4,
        };
        open(
            folder.join(format!("file{name}")),
            OFlags::from_bits_retain(flags as u32) | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )
    }

    fn open_fifo(&self, name: u8, access: i32) -> Result<OwnedFd, Errno> {
        let path = self.folders.tmpfs.join(format!("fifo{name}"));
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode) {
            Ok(()) | Err(Errno::EXIST) => (),
            Err(error) => return Err(error),
        }
        let flags = OFlags::from_bits_retain(access as u32) | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(rustix::fs::CWD, path, flags, mode)
    }

    fn open_special(&self, what: Special) -> Result<OwnedFd, Errno> {
        let device = |path: &str| open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        match what {
            Special::Null => device("/dev/null"),
            Special::Zero => device("/dev/zero"),
            Special::Full => device("/dev/full"),
            Special::Memfd => {
                rustix::fs::memfd_create("differential", rustix::fs::MemfdFlags::CLOEXEC)
            }
            Special::Eventfd => rustix::event::eventfd(
                3,
                rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
            ),
            Special::Directory => open("/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()),
            Special::Path => open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()),
        }
    }

    /// Returns `None` if the operation was not executed; the reason is in `after`.
    fn carry_out(&mut self, op: &Op, after: &mut String) -> Result<Option<Raw>> {
        // Operations that create an open file.
        let made = match op {
            Op::Open {
                slot,
                place,
                name,
                flags,
            } => Some(self.make(*slot, Kind::File, self.open_file(*place, *name, *flags))),
            Op::Fifo { slot, name, access } => {
                Some(self.make(*slot, Kind::Pipe, self.open_fifo(*name, *access)))
            }
            Op::Special { slot, what } => {
                let kind = match what {
                    Special::Memfd => Kind::File,
                    Special::Eventfd => Kind::Event,
                    _ => Kind::Other,
                };
                Some(self.make(*slot, kind, self.open_special(*what)))
            }
            Op::Pipe { read, write, flags } => {
                let flags = PipeFlags::from_bits_retain(*flags as u32) | PipeFlags::CLOEXEC;
                match raw(pipe_with(flags)) {
                    Ok((reader, writer)) => {
                        self.make(*read, Kind::Pipe, Ok(reader));
                        Some(self.make(*write, Kind::Pipe, Ok(writer)))
                    }
                    Err(error) => Some(error),
                }
            }
            Op::Socketpair {
                ends: [a, b],
                kind,
                nonblock,
            } => {
                let mut flags = SocketFlags::CLOEXEC;
                flags.set(SocketFlags::NONBLOCK, *nonblock);
                let sort = SocketType::from_raw(*kind as u32);
                let kind = match sort {
                    SocketType::STREAM => Kind::Socket,
                    _ => Kind::Datagram,
                };
                match raw(socketpair(AddressFamily::UNIX, sort, flags, None)) {
                    Ok((left, right)) => {
                        self.make(*a, kind, Ok(left));
                        Some(self.make(*b, kind, Ok(right)))
                    }
                    Err(error) => Some(error),
                }
            }
            _ => None,
        };
        if made.is_some() {
            return Ok(made);
        }

        let absent = match op {
            Op::Dup { source, .. } => !self.open.contains_key(source),
            Op::Poll { .. } => false,
            _ => op.slots().iter().any(|slot| !self.open.contains_key(slot)),
        };
        if absent {
            *after = ABSENT.to_owned();
            return Ok(None);
        }
        let result = self.run_on_open_files(op, after)?;
        if result.is_none() && after.is_empty() {
            *after = "would block".to_owned();
        }
        Ok(result)
    }

    /// Executes an operation whose files are all open. Returns `None` if it might wait for ever.
    fn run_on_open_files(&mut self, op: &Op, after: &mut String) -> Result<Option<Raw>> {
        let fd = |executor: &Self, fd: Fd| executor.number(fd).unwrap_or(usize::MAX);
        let mut places = [0i64; 2];
        Ok(Some(match op {
            Op::Open { .. }
            | Op::Fifo { .. }
            | Op::Special { .. }
            | Op::Pipe { .. }
            | Op::Socketpair { .. }
            | Op::Wait { .. }
            | Op::Tcp { .. } => unreachable!("{op}"),
            Op::Dup { slot, source } => {
                let Open { fd, kind } = &self.open[source];
                let (kind, copy) = (*kind, rustix::io::fcntl_dupfd_cloexec(fd, 3));
                self.make(*slot, kind, copy)
            }
            Op::Close { slot } => {
                self.open.remove(slot);
                0
            }
            Op::Splice {
                input,
                in_offset,
                output,
                out_offset,
                len,
                flags,
            } => {
                let flags = self.splice_flags(*input, *output, *flags);
                // `SPLICE_F_NONBLOCK` applies to the pipe, `O_NONBLOCK` to the socket.
                let to_socket = self.is(*output, Kind::Socket) || self.is(*output, Kind::Datagram);
                // `SPLICE_F_NONBLOCK` does not apply to a datagram socket.
                let from_socket = self.is(*input, Kind::Datagram);
                if to_socket && !self.nonblocking(*output) || from_socket && !self.can_read(*input)
                {
                    return Ok(None);
                }
                let [place_in, place_out] = &mut places;
                let off_in = self.pointer(*in_offset, place_in)?;
                let off_out = self.pointer(*out_offset, place_out)?;
                let (input, output) = (fd(self, *input), fd(self, *output));
                let args = [input, off_in, output, off_out, *len, flags as usize];
                let result = self.call(libc::SYS_splice, &args);
                note_offsets(&places, [*in_offset, *out_offset], after);
                note_flags(flags, op, after);
                result
            }
            Op::Tee {
                input,
                output,
                len,
                flags,
            } => {
                let flags = self.splice_flags(*input, *output, *flags);
                let args = [fd(self, *input), fd(self, *output), *len, flags as usize];
                let result = self.call(libc::SYS_tee, &args);
                note_flags(flags, op, after);
                result
            }
            Op::Vmsplice {
                fd: pipe,
                segments,
                count,
                flags,
            } => {
                let mut flags = *flags;
                let into_pipe = self.is_writable(*pipe);
                if !into_pipe && !self.memory.may_change(segments) {
                    *after = LENT.to_owned();
                    return Ok(None);
                }
                // vmsplice ignores O_NONBLOCK.
                let at_once = if into_pipe {
                    self.is_ready(*pipe, PollFlags::OUT)
                } else {
                    self.is_ready(*pipe, PollFlags::IN)
                };
                if !at_once {
                    flags |= libc::SPLICE_F_NONBLOCK;
                }
                let memory: Vec<[usize; 2]> = segments
                    .iter()
                    .map(|segment| self.memory.arguments(segment))
                    .collect();
                let args = [
                    fd(self, *pipe),
                    memory.as_ptr() as usize,
                    count.unwrap_or(memory.len()),
                    flags as usize,
                ];
                let result = self.call(libc::SYS_vmsplice, &args);
                if into_pipe {
                    self.memory.lent(segments, result);
                } else {
                    self.memory.changed(segments, result);
                }
                for segment in segments {
                    self.note_memory(segment, after);
                }
                note_flags(flags, op, after);
                result
            }
            Op::Sendfile {
                output,
                input,
                offset,
                len,
            } => {
                let waits = match self.get(*output).map(|open| open.kind) {
                    Some(Kind::Socket | Kind::Datagram) => !self.nonblocking(*output),
                    Some(Kind::Pipe) => !self.can_write(*output),
                    _ => false,
                };
                if waits || !self.can_read(*input) {
                    return Ok(None);
                }
                let pointer = self.pointer(*offset, &mut places[0])?;
                let args = [fd(self, *output), fd(self, *input), pointer, *len];
                let result = self.call(libc::SYS_sendfile, &args);
                note_offsets(&places, [*offset, Offset::None], after);
                result
            }
            Op::CopyFileRange {
                input,
                in_offset,
                output,
                out_offset,
                len,
                flags,
            } => {
                let [place_in, place_out] = &mut places;
                let off_in = self.pointer(*in_offset, place_in)?;
                let off_out = self.pointer(*out_offset, place_out)?;
                let (input, output) = (fd(self, *input), fd(self, *output));
                let args = [input, off_in, output, off_out, *len, *flags as usize];
                let result = self.call(libc::SYS_copy_file_range, &args);
                note_offsets(&places, [*in_offset, *out_offset], after);
                result
            }
            Op::Read {
                fd: from_fd,
                to,
                at,
            } => {
                if !self.can_read(*from_fd) {
                    return Ok(None);
                }
                let to = std::slice::from_ref(to);
                if !self.memory.may_change(to) {
                    *after = LENT.to_owned();
                    return Ok(None);
                }
                let [address, len] = self.memory.arguments(&to[0]);
                let from = fd(self, *from_fd);
                let result = match at {
                    Some(at) => self.call(libc::SYS_pread64, &[from, address, len, *at as usize]),
                    None => self.call(libc::SYS_read, &[from, address, len]),
                };
                self.memory.changed(to, result);
                // If a direct read fails, the data that it read before depends on the page cache.
                if result == -i64::from(libc::EINVAL) && self.is(*from_fd, Kind::File) {
                    self.memory.settle(&to[0]);
                }
                self.note_memory(&to[0], after);
                result
            }
            Op::Write { fd: to, from, at } => {
                if !self.can_write_all(*to, from.len) {
                    return Ok(None);
                }
                let [address, len] = self.memory.arguments(from);
                let to = fd(self, *to);
                match at {
                    Some(at) => self.call(libc::SYS_pwrite64, &[to, address, len, *at as usize]),
                    None => self.call(libc::SYS_write, &[to, address, len]),
                }
            }
            Op::NoWait {
                fd: pipe,
                memory,
                write,
            } => {
                // The result for a file depends on the page cache.
                if !self.is(*pipe, Kind::Pipe) {
                    return Ok(None);
                }
                let memory = std::slice::from_ref(memory);
                if !write && !self.memory.may_change(memory) {
                    *after = LENT.to_owned();
                    return Ok(None);
                }
                let number = if *write {
                    libc::SYS_pwritev2
                } else {
                    libc::SYS_preadv2
                };
                let iov = [self.memory.arguments(&memory[0])];
                let args = [
                    fd(self, *pipe),
                    iov.as_ptr() as usize,
                    1,
                    usize::MAX,
                    usize::MAX,
                    libc::RWF_NOWAIT as usize,
                ];
                let result = self.call(number, &args);
                if !write {
                    self.memory.changed(memory, result);
                    self.note_memory(&memory[0], after);
                }
                result
            }
            Op::SetPipeSize { fd: pipe, size } => {
                let pipe = fd(self, *pipe);
                let result = self.call(
                    libc::SYS_fcntl,
                    &[pipe, libc::F_SETPIPE_SZ as usize, *size as usize],
                );
                let now = self.call(libc::SYS_fcntl, &[pipe, libc::F_GETPIPE_SZ as usize]);
                write!(after, "now={now}")?;
                result
            }
            Op::SetFlags { fd: file, flags } => {
                let result = match self.get(*file) {
                    // A file that was opened with O_DIRECT keeps it.
                    Some(open) => {
                        let mut flags = OFlags::from_bits_retain(*flags as u32);
                        if open.kind == Kind::File {
                            flags |= fcntl_getfl(&open.fd)? & OFlags::DIRECT;
                        }
                        raw(fcntl_setfl(&open.fd, flags)).map_or_else(|error| error, |()| 0)
                    }
                    None => self.call(
                        libc::SYS_fcntl,
                        &[fd(self, *file), libc::F_SETFL as usize, *flags as usize],
                    ),
                };
                if let Some(open) = self.get(*file) {
                    // Without O_LARGEFILE, which depends on the word size of the program.
                    let flags = fcntl_getfl(&open.fd)? & !OFlags::LARGEFILE;
                    write!(after, "now={:#o}", flags.bits())?;
                }
                result
            }
            Op::Seek {
                fd: file,
                to,
                whence,
            } => {
                let args = [fd(self, *file), *to as usize, *whence as usize];
                self.call(libc::SYS_lseek, &args)
            }
            Op::Truncate { fd: file, len } => {
                self.call(libc::SYS_ftruncate, &[fd(self, *file), *len as usize])
            }
            Op::Punch { fd: file, at, len } => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                let args = [fd(self, *file), mode as usize, *at as usize, *len as usize];
                self.call(libc::SYS_fallocate, &args)
            }
            Op::Shutdown { fd: socket, how } => {
                self.call(libc::SYS_shutdown, &[fd(self, *socket), *how as usize])
            }
            Op::Poll { fds } => fds
                .iter()
                .filter(|slot| self.open.contains_key(slot))
                .count() as Raw,
            Op::Fill { memory, content } => {
                let segments = std::slice::from_ref(memory);
                if !self.memory.may_change(segments) {
                    *after = LENT.to_owned();
                    return Ok(None);
                }
                self.memory.fill(memory, *content);
                self.memory.changed(segments, memory.len as Raw);
                0
            }
        }))
    }

    /// Adds `SPLICE_F_NONBLOCK`, unless the call is known not to wait.
    fn splice_flags(&self, input: Fd, output: Fd, flags: u32) -> u32 {
        if self.can_read(input) && self.can_write(output) {
            flags
        } else {
            flags | libc::SPLICE_F_NONBLOCK
        }
    }

    fn note_memory(&self, segment: &Segment, after: &mut String) {
        if let Some(hash) = self.memory.hash(segment) {
            let _ = write!(after, " data={hash:016x}");
        }
    }

    /// Reads the remaining data of all pipes and sockets, and the files.
    fn end(&mut self) -> Result<Vec<String>> {
        let mut end = self.memory.end();
        let open = std::mem::take(&mut self.open);
        let mut buffer = vec![0; 256 << 10];
        for (slot, Open { fd, kind }) in &open {
            match kind {
                Kind::Pipe | Kind::Socket | Kind::Datagram => {
                    let _ = fcntl_setfl(fd, OFlags::NONBLOCK);
                    let mut hash = Xxh64::new(0);
                    let mut bytes = 0;
                    // An empty packet is not the end of file, so do not stop at the first 0.
                    let mut reads = 0;
                    let last = loop {
                        match rustix::io::read(fd, &mut buffer) {
                            Ok(0) => break 0,
                            Ok(n) => {
                                hash.update(&buffer[..n]);
                                bytes += n;
                                reads += 1;
                            }
                            Err(error) => break -error.raw_os_error(),
                        }
                    };
                    end.push(format!(
                        "{slot} {bytes} bytes in {reads} reads, then {last}: {:016x}, poll={:#x}",
                        hash.digest(),
                        ready(fd.as_fd()).bits()
                    ));
                }
                Kind::File | Kind::Event | Kind::Other => (),
            }
        }
        drop(open);
        for (name, folder) in [("tmpfs", &self.folders.tmpfs), ("ext4", &self.folders.ext4)] {
            for file in 0..4 {
                let path = folder.join(format!("file{file}"));
                match open_if_there(&path)? {
                    None => end.push(format!("{name}/{file} not there")),
                    Some(fd) => end.push(format!("{name}/{file} {}", content(&fd, &mut buffer)?)),
                }
            }
        }
        Ok(end)
    }
}

fn open_if_there(path: &Path) -> Result<Option<OwnedFd>> {
    match open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Returns the size and a hash of the content. Of a large file, hashes the parts that operations
/// write to.
fn content(fd: &OwnedFd, buffer: &mut [u8]) -> Result<String> {
    let size = rustix::fs::fstat(fd)?.st_size as u64;
    let mut hash = Xxh64::new(0);
    for from in [0, (1 << 32) - (64 << 10)] {
        let mut at = from;
        while at < size.min(from + (2 << 20)) {
            match rustix::io::pread(fd, &mut *buffer, at)? {
                0 => break,
                n => {
                    hash.update(&buffer[..n]);
                    at += n as u64;
                }
            }
        }
    }
    Ok(format!("{size} bytes: {:016x}", hash.digest()))
}

fn note_offsets(places: &[i64; 2], offsets: [Offset; 2], after: &mut String) {
    for ((place, offset), name) in places.iter().zip(offsets).zip(["in", "out"]) {
        if matches!(offset, Offset::At(_)) {
            let _ = write!(after, " {name}={place}");
        }
    }
}

/// Notes that the operation was executed with other flags.
fn note_flags(flags: u32, op: &Op, after: &mut String) {
    if let Op::Splice { flags: own, .. }
    | Op::Tee { flags: own, .. }
    | Op::Vmsplice { flags: own, .. } = op
    {
        if *own != flags {
            after.push_str(" forced");
        }
    }
}
