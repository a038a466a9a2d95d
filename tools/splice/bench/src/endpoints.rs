// SPDX-License-Identifier: GPL-2.0

//! The files, pipes and sockets between which data is moved.

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

use crate::memory::{self, Kind, Memory, Source};
use crate::uring::{Request, Ring};

/// Room in a socket for the largest amount, and for the overhead of the kernel.
const SOCKET_ROOM: usize = 16 << 20;

/// A pipe with room for the amount of one transfer.
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

/// Two connected sockets in non-blocking mode.
pub struct Sockets {
    pub near: OwnedFd,
    pub far: OwnedFd,
    tcp: bool,
}

impl Sockets {
    fn tcp() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        // The window that a connection announces depends on the room at its start.
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

    /// Drops as many bytes at the far end as `buffer` holds.
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

    /// Makes the kernel send delayed acknowledgements now, instead of later from a timer.
    fn settle(&self) -> Result<()> {
        if self.tcp {
            sockopt::set_tcp_quickack(&self.far, true)?;
        }
        Ok(())
    }
}

fn make_room(socket: impl AsFd) -> Result<()> {
    // Privilege is needed to exceed the system's limit; without it, use the limit.
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

/// Returns data in which no aligned group of eight bytes occurs twice, neither in it nor in the
/// data of another `start` that is far enough away.
fn pattern(bytes: usize, start: u64) -> Vec<u8> {
    (start..)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes())
        .take(bytes)
        .collect()
}

/// The folios of the files on tmpfs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Folios {
    /// Of one page each.
    Small,
    /// Of the size of a huge page.
    Huge,
}

/// Where the files are, and how much is moved.
#[derive(Clone, Copy)]
pub struct Amount<'a> {
    /// A folder on a tmpfs.
    pub dir: &'a Path,
    /// The folios of the files there.
    pub folios: Folios,
    /// A folder on a file system that can read without a wait.
    pub disk: &'a Path,
    /// The number of bytes of one transfer.
    pub bytes: usize,
    /// The number of requests of io_uring in one call; 0 for a plain system call. The pipes have
    /// room for all of them.
    pub batch: usize,
}

/// The endpoints of all operations, for `bytes` bytes at a time.
pub struct Endpoints {
    bytes: usize,
    /// The number of transfers in one call.
    batch: usize,
    ring: Option<Ring>,
    /// A file on a disk that contains data, all of which is in the page cache.
    pub cached: File,
    /// A file on tmpfs that contains data.
    pub source: File,
    /// A file on tmpfs that is overwritten.
    pub target: File,
    pub null: File,
    pub zero: File,
    pub pipe: Pipe,
    pub other_pipe: Pipe,
    pub tcp: Sockets,
    pub unix: Sockets,
    /// Requests a notification, if the kernel supports it.
    pub notify: SpliceFlags,
    memory: Memory,
}

/// `SPLICE_F_NOTIFY`.
const NOTIFY: SpliceFlags = SpliceFlags::from_bits_retain(0x10);

impl Endpoints {
    /// Creates the endpoints, with the files in `dir`.
    pub fn new(dir: &Path, bytes: usize) -> Result<Self> {
        let amount = Amount {
            dir,
            folios: Folios::Small,
            disk: dir,
            bytes,
            batch: 0,
        };
        Self::with_memory(amount, Kind::Ordinary, Source::Any)
    }

    /// The same, with memory of a certain kind.
    pub fn with_memory(amount: Amount, kind: Kind, source: Source) -> Result<Self> {
        let Amount { bytes, .. } = amount;
        let ring = (amount.batch > 0).then(|| Ring::new(amount.batch));
        let batch = amount.batch.max(1);
        let data = pattern(bytes, 1);
        let file = |dir: &Path, name: &str| -> Result<File> {
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
            // Unlink the file now, so that nobody needs to remove it later.
            std::fs::remove_file(&path)?;
            Ok(file)
        };
        let on_tmpfs = |name: &str| -> Result<File> {
            if amount.folios == Folios::Small {
                return file(amount.dir, name);
            }
            let mut file = memory::huge_file(bytes, source)?;
            file.write_all(&data)?;
            file.rewind()?;
            Ok(file)
        };
        let pipe = Pipe::new(bytes * batch)?;
        // SAFETY: The call refers to no memory.
        let notified = unsafe { rustix::pipe::vmsplice(&pipe.write, &[], NOTIFY) };
        let notify = notified.map_or(SpliceFlags::empty(), |_| NOTIFY);
        Ok(Self {
            notify,
            bytes,
            batch,
            ring: ring.transpose().context("io_uring")?,
            cached: file(amount.disk, "cached")?,
            source: on_tmpfs("source")?,
            target: on_tmpfs("target")?,
            null: OpenOptions::new().write(true).open("/dev/null")?,
            zero: File::open("/dev/zero")?,
            pipe,
            other_pipe: Pipe::new(bytes * batch)?,
            tcp: Sockets::tcp().context("TCP on the loopback device")?,
            unix: Sockets::unix().context("AF_UNIX")?,
            // Every page is written to, so that it is mapped.
            memory: Memory::new(kind, source, &pattern(bytes, 1 << 32))?,
        })
    }

    /// The number of bytes of one transfer.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn memory(&self) -> &[u8] {
        self.memory.bytes()
    }

    /// One `splice` of all bytes of a transfer.
    #[inline(always)]
    pub fn splice(&self, from: impl AsFd, to: impl AsFd) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK;
        rustix::pipe::splice(from, None, to, None, self.bytes, flags)
    }

    /// The same from the beginning of a file, which ignores the file position.
    #[inline(always)]
    pub fn splice_from_start(&self, from: &File, to: impl AsFd) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK;
        rustix::pipe::splice(from, Some(&mut 0), to, None, self.bytes, flags)
    }

    /// The same to the beginning of a file.
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
        // SAFETY: The kernel only reads the memory. Nothing writes to it before the pipe has been
        // drained.
        unsafe { rustix::pipe::vmsplice(&self.pipe.write, &slices, flags) }
    }

    /// Unmaps the pages of the memory.
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

    /// Splices a batch by io_uring, `request` each time. All of its requests move all bytes of a
    /// transfer, or the result is the one of another request.
    #[inline(always)]
    fn submit(&mut self, request: Request) -> rustix::io::Result<usize> {
        let ring = self.ring.as_mut().ok_or(Errno::NOSYS)?;
        ring.run(request, self.batch, self.bytes)
    }

    /// [`Self::splice`] between the pipes by io_uring, as a batch.
    #[inline(always)]
    pub fn submit_splice(&mut self) -> rustix::io::Result<usize> {
        let request = Request::splice(&self.pipe.read, None, &self.other_pipe.write);
        self.submit(request)
    }

    /// [`Self::splice_from_start`] from the cached file by io_uring, as a batch.
    #[inline(always)]
    pub fn submit_splice_from_start(&mut self) -> rustix::io::Result<usize> {
        let request = Request::splice(&self.cached, Some(0), &self.pipe.write);
        self.submit(request)
    }

    /// [`Self::tee`] by io_uring, as a batch.
    #[inline(always)]
    pub fn submit_tee(&mut self) -> rustix::io::Result<usize> {
        let request = Request::tee(&self.pipe.read, &self.other_pipe.write);
        self.submit(request)
    }

    /// Puts the content of the source file into the pipe, once for each transfer.
    pub fn fill_pipe(&self) -> Result<()> {
        for _ in 0..self.batch {
            self.all(self.splice_from_start(&self.source, &self.pipe.write))
                .context("filling a pipe")?;
        }
        Ok(())
    }

    /// Drains `pipe`, which has the data of all transfers.
    pub fn drain(&self, pipe: &Pipe) -> Result<()> {
        let mut taken = 0;
        while taken < self.bytes * self.batch {
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

    /// Returns an error unless all bytes were moved.
    #[inline(always)]
    pub fn all(&self, moved: rustix::io::Result<usize>) -> Result<()> {
        match moved? {
            moved if moved == self.bytes => Ok(()),
            moved => bail!("{moved} bytes instead of {}", self.bytes),
        }
    }
}
