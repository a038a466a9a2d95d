// SPDX-License-Identifier: GPL-2.0

//! The files, pipes and sockets that data is moved between.

use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{bail, Context, Result};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{sockopt, RecvFlags, SendFlags};
use rustix::pipe::{IoSliceRaw, SpliceFlags};

use crate::memory::{Kind, Memory, Source};

/// Room in a socket for the largest amount, with what the kernel adds to it.
const SOCKET_ROOM: usize = 16 << 20;

/// A pipe with room for the amount that is moved at a time.
pub struct Pipe {
    pub read: OwnedFd,
    pub write: OwnedFd,
}

impl Pipe {
    fn new(bytes: usize) -> Result<Self> {
        let (read, write) = rustix::pipe::pipe()?;
        if rustix::pipe::fcntl_getpipe_size(&write)? < bytes {
            rustix::pipe::fcntl_setpipe_size(&write, bytes).context("F_SETPIPE_SZ")?;
        }
        Ok(Self { read, write })
    }
}

/// Two connected sockets that do not wait.
pub struct Sockets {
    pub near: OwnedFd,
    pub far: OwnedFd,
    tcp: bool,
}

impl Sockets {
    fn tcp() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        // What a connection announces as its window depends on the room at its start.
        make_room(&listener)?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        for end in [&near, &far] {
            end.set_nodelay(true)?;
            end.set_nonblocking(true)?;
        }
        Self::new(near.into(), far.into(), true)
    }

    fn unix() -> Result<Self> {
        let (near, far) = UnixStream::pair()?;
        for end in [&near, &far] {
            end.set_nonblocking(true)?;
        }
        Self::new(near.into(), far.into(), false)
    }

    fn new(near: OwnedFd, far: OwnedFd, tcp: bool) -> Result<Self> {
        make_room(&near)?;
        make_room(&far)?;
        Ok(Self { near, far, tcp })
    }

    /// Sends `data` to the far end.
    pub fn fill(&self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            match rustix::net::send(&self.near, data, SendFlags::NOSIGNAL) {
                Ok(sent) => data = &data[sent..],
                Err(Errno::AGAIN) => wait_for(&self.near, PollFlags::OUT)?,
                Err(error) => return Err(error).context("sending to a socket"),
            }
        }
        self.settle()
    }

    /// Drops as much as `buffer` holds at the far end.
    pub fn drain(&self, buffer: &mut [u8]) -> Result<()> {
        // TCP can drop data without copying it.
        let flags = if self.tcp {
            RecvFlags::TRUNC
        } else {
            RecvFlags::empty()
        };
        self.take(buffer, flags)
    }

    /// Fills `buffer` from the far end.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<()> {
        self.take(buffer, RecvFlags::empty())
    }

    fn take(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<()> {
        let mut taken = 0;
        while taken < buffer.len() {
            match rustix::net::recv(&self.far, &mut buffer[taken..], flags) {
                Ok((_, 0)) => bail!("a socket was closed"),
                Ok((_, received)) => taken += received,
                Err(Errno::AGAIN) => wait_for(&self.far, PollFlags::IN)?,
                Err(error) => return Err(error).context("receiving from a socket"),
            }
        }
        self.settle()
    }

    /// Has delayed acknowledgements sent now, and not by a timer at any time.
    fn settle(&self) -> Result<()> {
        if self.tcp {
            sockopt::set_tcp_quickack(&self.far, true)?;
        }
        Ok(())
    }
}

fn make_room(socket: impl AsFd) -> Result<()> {
    // Beyond the limit for all only with privilege; without, up to the limit.
    sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_ROOM)
        .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, SOCKET_ROOM))?;
    sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_ROOM)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, SOCKET_ROOM))?;
    Ok(())
}

fn wait_for(fd: &OwnedFd, events: PollFlags) -> Result<()> {
    let second = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    if poll(&mut [PollFd::new(fd, events)], Some(&second))? == 0 {
        bail!("a socket got stuck");
    }
    Ok(())
}

/// Data of which no eight bytes, at a place that is a multiple of eight, come
/// twice: neither in it nor in that of another `start` far enough away.
fn pattern(bytes: usize, start: u64) -> Vec<u8> {
    (start..)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes())
        .take(bytes)
        .collect()
}

/// All that an operation may need, for moving `bytes` bytes at a time.
pub struct Endpoints {
    bytes: usize,
    /// A file with something in it, on tmpfs.
    pub source: File,
    /// A file to be overwritten, on tmpfs.
    pub target: File,
    pub null: File,
    pub zero: File,
    pub pipe: Pipe,
    pub other_pipe: Pipe,
    pub tcp: Sockets,
    pub unix: Sockets,
    /// Asks for a notification, where the kernel has them.
    pub notify: SpliceFlags,
    memory: Memory,
}

/// `SPLICE_F_NOTIFY`.
const NOTIFY: SpliceFlags = SpliceFlags::from_bits_retain(0x10);

impl Endpoints {
    /// Makes them, with the files in `dir`.
    pub fn new(dir: &Path, bytes: usize) -> Result<Self> {
        Self::with_memory(dir, bytes, Kind::Ordinary, Source::Any)
    }

    /// Likewise, with memory of a certain kind.
    pub fn with_memory(dir: &Path, bytes: usize, kind: Kind, source: Source) -> Result<Self> {
        let data = pattern(bytes, 1);
        let file = |name: &str| -> Result<File> {
            let path = dir.join(name);
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .with_context(|| path.display().to_string())?;
            file.write_all(&data)?;
            file.rewind()?;
            // Whoever is done with it has to do nothing else.
            std::fs::remove_file(&path)?;
            Ok(file)
        };
        let pipe = Pipe::new(bytes)?;
        // SAFETY: No memory.
        let notified = unsafe { rustix::pipe::vmsplice(&pipe.write, &[], NOTIFY) };
        let notify = notified.map_or(SpliceFlags::empty(), |_| NOTIFY);
        Ok(Self {
            notify,
            bytes,
            source: file("source")?,
            target: file("target")?,
            null: OpenOptions::new().write(true).open("/dev/null")?,
            zero: File::open("/dev/zero")?,
            pipe,
            other_pipe: Pipe::new(bytes)?,
            tcp: Sockets::tcp().context("TCP on the loopback device")?,
            unix: Sockets::unix().context("AF_UNIX")?,
            // Every page is written to, so that it is there.
            memory: Memory::new(kind, source, &pattern(bytes, 1 << 32))?,
        })
    }

    /// How many bytes are moved at a time.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn memory(&self) -> &[u8] {
        self.memory.bytes()
    }

    /// One `splice` of all bytes that are moved at a time.
    #[inline(always)]
    pub fn splice(&self, from: impl AsFd, to: impl AsFd) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK;
        rustix::pipe::splice(from, None, to, None, self.bytes, flags)
    }

    /// The same from a file, from its beginning on, whatever its position is.
    #[inline(always)]
    pub fn splice_from_start(&self, from: &File, to: impl AsFd) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK;
        rustix::pipe::splice(from, Some(&mut 0), to, None, self.bytes, flags)
    }

    /// The same to a file, from its beginning on.
    #[inline(always)]
    pub fn splice_to_start(&self, from: impl AsFd, to: &File) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK;
        rustix::pipe::splice(from, None, to, Some(&mut 0), self.bytes, flags)
    }

    #[inline(always)]
    pub fn tee(&self) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK;
        rustix::pipe::tee(&self.pipe.read, &self.other_pipe.write, self.bytes, flags)
    }

    #[inline(always)]
    pub fn vmsplice(&self) -> rustix::io::Result<usize> {
        self.vmsplice_with(SpliceFlags::empty())
    }

    #[inline(always)]
    pub fn vmsplice_with(&self, flags: SpliceFlags) -> rustix::io::Result<usize> {
        let slices = [IoSliceRaw::from_slice(self.memory())];
        let flags = SpliceFlags::NONBLOCK | flags;
        // SAFETY: The kernel only reads the memory, which nothing writes to before the pipe has
        // been drained.
        unsafe { rustix::pipe::vmsplice(&self.pipe.write, &slices, flags) }
    }

    /// Takes the pages of the memory away.
    pub fn forget_memory(&mut self) -> Result<()> {
        self.memory.forget()
    }

    #[inline(always)]
    pub fn vmsplice_out(&mut self) -> rustix::io::Result<usize> {
        let read = &self.pipe.read;
        let slices = [IoSliceRaw::from_slice_mut(self.memory.bytes_mut())];
        // SAFETY: The kernel writes to memory that is borrowed exclusively.
        unsafe { rustix::pipe::vmsplice(read, &slices, SpliceFlags::NONBLOCK) }
    }

    #[inline(always)]
    pub fn sendfile(&self, to: impl AsFd) -> rustix::io::Result<usize> {
        rustix::fs::sendfile(to, &self.source, Some(&mut 0), self.bytes)
    }

    /// Puts the source file's content into the pipe.
    pub fn fill_pipe(&self) -> Result<()> {
        self.all(self.splice_from_start(&self.source, &self.pipe.write))
            .context("filling a pipe")
    }

    /// Takes everything out of `pipe`.
    pub fn drain(&self, pipe: &Pipe) -> Result<()> {
        let mut taken = 0;
        while taken < self.bytes {
            taken += self
                .splice(&pipe.read, &self.null)
                .context("draining a pipe")?;
        }
        Ok(())
    }

    pub fn drain_tcp(&mut self) -> Result<()> {
        self.tcp.drain(self.memory.bytes_mut())
    }

    pub fn drain_unix(&mut self) -> Result<()> {
        self.unix.drain(self.memory.bytes_mut())
    }

    /// Fails unless all bytes were moved.
    #[inline(always)]
    pub fn all(&self, moved: rustix::io::Result<usize>) -> Result<()> {
        match moved? {
            moved if moved == self.bytes => Ok(()),
            moved => bail!("{moved} bytes instead of {}", self.bytes),
        }
    }
}
