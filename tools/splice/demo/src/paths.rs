// SPDX-License-Identifier: GPL-2.0

//! The paths of the file, each of which ends in one or more output files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{anyhow, bail, Context, Error, Result};
use rustix::event::{poll, PollFd, PollFlags};
use rustix::fs::{fcntl_getfl, fcntl_setfl, sendfile, OFlags};
use rustix::io::retry_on_intr;
use rustix::pipe::{
    fcntl_getpipe_size, pipe_with, splice, tee, vmsplice, IoSliceRaw, PipeFlags, SpliceFlags,
};
use splice_rdma::address::with_port;
use splice_rdma::connection::{listen, Connection};
use splice_rdma::explain::Settings;

use crate::counters::Counters;
use crate::memory::Memory;
use crate::meter::{ended, Meter};

/// How much of the file is in memory at a time for `vmsplice`.
const MEMORY_WINDOW: u64 = 8 << 20;

const NO_FLAGS: SpliceFlags = SpliceFlags::empty();

/// A device with a DMA engine, which returns the data that it receives.
const DEVICE: &str = "/dev/splice-edu0";

/// The counters of its driver.
const DEVICE_COUNTERS: &str = "/sys/kernel/debug/splice/splice-edu0/counters";

/// Devices that connect to their own address, as
/// tools/testing/selftests/splice/rdma_net.sh makes them.
const SOFT_ROCE: &str = "/sys/class/infiniband/rxe_one";
const SOFT_ROCE_ADDRESS: &str = "192.0.2.1:5000";
const SOFT_IWARP: &str = "/sys/class/infiniband/siw_one";
const SOFT_IWARP_ADDRESS: &str = "198.51.100.1:5000";

/// The counters of the driver of `/dev/rdma_splice`.
const RDMA_COUNTERS: &str = "/sys/kernel/debug/splice/rdma/counters";

/// The names of the steps in the table.
pub mod step {
    pub const FILE_TO_PIPE: &str = "file to pipe";
    pub const TEE: &str = "tee to second pipe";
    pub const PIPE_TO_SECOND_FILE: &str = "second pipe to second file";
    pub const PIPE_TO_SOCKET: &str = "pipe to socket";
    pub const SOCKET_TO_PIPE: &str = "socket to pipe";
    pub const PIPE_TO_FILE: &str = "pipe to file";
    pub const SENDFILE: &str = "sendfile";
    pub const SOCKET_TO_FILE: &str = "socket to file, read and write";
    pub const MEMORY_TO_PIPE: &str = "vmsplice";
    pub const PIPE_TO_PIPE: &str = "pipe to pipe";
    pub const PIPE_TO_DEVICE: &str = "pipe to device";
    pub const DEVICE_TO_PIPE: &str = "device to pipe";
    pub const DMA: &str = "by DMA, there and back";
    pub const PIPE_TO_RDMA: &str = "pipe to RDMA";
    pub const RDMA_TO_PIPE: &str = "RDMA to pipe";
    pub const RDMA: &str = "by RDMA, out and in";

    pub const ALL: &[&str] = &[
        FILE_TO_PIPE,
        TEE,
        PIPE_TO_SECOND_FILE,
        PIPE_TO_SOCKET,
        SOCKET_TO_PIPE,
        PIPE_TO_FILE,
        SENDFILE,
        SOCKET_TO_FILE,
        MEMORY_TO_PIPE,
        PIPE_TO_PIPE,
        PIPE_TO_DEVICE,
        DEVICE_TO_PIPE,
        DMA,
        PIPE_TO_RDMA,
        RDMA_TO_PIPE,
        RDMA,
    ];
}

/// One path.
pub struct Route {
    /// The name of the path.
    pub title: &'static str,
    /// A device that not every machine has.
    pub device: Option<&'static str>,
    /// The maximum number of bytes to move.
    pub most: u64,
    /// Sends the whole source along the path.
    pub run: fn(&Source, &Path, &Meter<'_>) -> Result<Vec<Output>>,
}

impl Route {
    /// Whether this machine has the device.
    pub fn is_there(&self) -> bool {
        self.device.is_none_or(|device| Path::new(device).exists())
    }
}

/// All paths.
pub const ROUTES: &[Route] = &[
    Route {
        title: "file > pipe > TCP > pipe > file",
        device: None,
        most: u64::MAX,
        run: through_socket,
    },
    Route {
        title: "file > sendfile > TCP > file",
        device: None,
        most: u64::MAX,
        run: through_sendfile,
    },
    Route {
        title: "memory > pipe > file",
        device: None,
        most: u64::MAX,
        run: from_memory,
    },
    Route {
        title: "file > pipe > pipe > file",
        device: None,
        most: u64::MAX,
        run: through_two_pipes,
    },
    Route {
        title: "1 MiB of file > pipe > device > pipe > file",
        device: Some(DEVICE),
        // The device takes a tenth of a second for 4 KiB.
        most: 1 << 20,
        run: through_device,
    },
    Route {
        title: "file > pipe > soft iWARP > pipe > file",
        device: Some(SOFT_IWARP),
        most: u64::MAX,
        run: |source, dir, meter| through_rdma(SOFT_IWARP_ADDRESS, source, dir, meter),
    },
    Route {
        title: "4 MiB of file > pipe > soft RoCE > pipe > file",
        device: Some(SOFT_ROCE),
        // The device takes a million instructions for 64 KiB.
        most: 4 << 20,
        run: |source, dir, meter| through_rdma(SOFT_ROCE_ADDRESS, source, dir, meter),
    },
];

/// The maximum size of the outputs of one route, as a multiple of the source.
pub const MOST_OUTPUTS: u64 = 2;

/// The file to move.
pub struct Source {
    pub file: File,
    /// Its length in bytes when it was opened; data that is added later is not moved.
    pub size: u64,
}

/// A file that a route wrote.
pub struct Output {
    /// The step that wrote it.
    pub step: &'static str,
    /// Open for reading.
    pub file: File,
}

/// Creates a file in `dir` that is deleted when it is closed.
fn output(dir: &Path, name: &str) -> Result<File> {
    let path = dir.join(format!("splice-demo-{}-{name}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|file| fs::remove_file(&path).map(|()| file));
    file.with_context(|| path.display().to_string())
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Capacity in bytes.
    capacity: u64,
}

impl Pipe {
    fn new() -> Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).context("pipe")?;
        let capacity = fcntl_getpipe_size(&write).context("F_GETPIPE_SZ")? as u64;
        Ok(Self {
            read,
            write,
            capacity,
        })
    }

    /// Moves the next data of the source into the pipe, which is empty; returns the number of
    /// bytes.
    fn fill(&self, source: &Source, offset: &mut u64, meter: &Meter<'_>) -> Result<usize> {
        let step = step::FILE_TO_PIPE;
        let want = self.capacity.min(source.size - *offset) as usize;
        let got = meter.call(step, || {
            splice(
                &source.file,
                Some(offset),
                &self.write,
                None,
                want,
                NO_FLAGS,
            )
        })?;
        if got == 0 {
            return Err(ended(step, *offset, source.size));
        }
        Ok(got)
    }

    /// Moves `count` bytes from the pipe, which contains them, to `to`.
    fn drain(
        &self,
        to: impl AsFd,
        count: usize,
        step: &'static str,
        meter: &Meter<'_>,
    ) -> Result<()> {
        let mut done = 0;
        while done < count {
            let n = meter.call(step, || {
                splice(&self.read, None, &to, None, count - done, NO_FLAGS)
            })?;
            if n == 0 {
                return Err(ended(step, done as u64, count as u64));
            }
            done += n;
        }
        Ok(())
    }
}

/// Two ends of a TCP connection over loopback.
fn connection() -> Result<(TcpStream, TcpStream)> {
    let connect = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let sender = TcpStream::connect(listener.local_addr()?)?;
        let (receiver, _) = listener.accept()?;
        Ok::<_, std::io::Error>((sender, receiver))
    };
    connect().context("TCP over loopback")
}

/// Runs both ends of a connection at the same time. Each end closes its socket when it is done or
/// fails, which ends the other one, too.
fn both_ends(
    send: impl FnOnce() -> Result<()> + Send,
    receive: impl FnOnce() -> Result<()> + Send,
) -> Result<()> {
    let (sent, received) = thread::scope(|scope| {
        let receiver = scope.spawn(receive);
        (send(), receiver.join())
    });
    let received = received.unwrap_or_else(|_| Err(anyhow!("panicked")));
    match (sent, received) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(error), Ok(())) => Err(error),
        (Ok(()), Err(error)) => Err(error.context("receiver")),
        (Err(sender), Err(receiver)) => bail!("{sender:#}; receiver: {receiver:#}"),
    }
}

fn through_socket(source: &Source, dir: &Path, meter: &Meter<'_>) -> Result<Vec<Output>> {
    let (first, second) = (output(dir, "first")?, output(dir, "second")?);
    let (sender, receiver) = connection()?;
    for socket in [&sender, &receiver] {
        socket.set_nonblocking(true).context("O_NONBLOCK")?;
    }
    both_ends(
        || {
            let sender = sender;
            splice_to_socket(source, &sender, &second, meter)?;
            sender.shutdown(Shutdown::Write).context("shutdown")
        },
        || {
            let receiver = receiver;
            splice_from_socket(&receiver, &first, meter)
        },
    )?;
    Ok(vec![
        Output {
            step: step::PIPE_TO_SECOND_FILE,
            file: second,
        },
        Output {
            step: step::PIPE_TO_FILE,
            file: first,
        },
    ])
}

fn splice_to_socket(
    source: &Source,
    socket: &TcpStream,
    second: &File,
    meter: &Meter<'_>,
) -> Result<()> {
    let (pipe, branch) = (Pipe::new()?, Pipe::new()?);
    let mut offset = 0;
    while offset < source.size {
        let mut left = pipe.fill(source, &mut offset, meter)?;
        while left > 0 {
            // tee always starts at the oldest byte: the duplicated data must leave the pipe before
            // the next call.
            let teed = meter.call(step::TEE, || tee(&pipe.read, &branch.write, left, NO_FLAGS))?;
            if teed == 0 {
                return Err(ended(step::TEE, 0, left as u64));
            }
            branch.drain(second, teed, step::PIPE_TO_SECOND_FILE, meter)?;
            let mut sent = 0;
            while sent < teed {
                let call = || splice(&pipe.read, None, socket, None, teed - sent, NO_FLAGS);
                let n = meter.socket_call(step::PIPE_TO_SOCKET, socket, PollFlags::OUT, call)?;
                if n == 0 {
                    return Err(ended(step::PIPE_TO_SOCKET, sent as u64, teed as u64));
                }
                sent += n;
            }
            left -= teed;
        }
    }
    Ok(())
}

fn splice_from_socket(socket: &TcpStream, to: &File, meter: &Meter<'_>) -> Result<()> {
    let pipe = Pipe::new()?;
    loop {
        let want = pipe.capacity as usize;
        let call = || splice(socket, None, &pipe.write, None, want, NO_FLAGS);
        match meter.socket_call(step::SOCKET_TO_PIPE, socket, PollFlags::IN, call)? {
            0 => return Ok(()),
            got => pipe.drain(to, got, step::PIPE_TO_FILE, meter)?,
        }
    }
}

fn through_sendfile(source: &Source, dir: &Path, meter: &Meter<'_>) -> Result<Vec<Output>> {
    let mut file = output(dir, "sendfile")?;
    let (sender, mut receiver) = connection()?;
    both_ends(
        || {
            let sender = sender;
            let mut offset = 0;
            while offset < source.size {
                let left = (source.size - offset) as usize;
                let n = meter.call(step::SENDFILE, || {
                    sendfile(&sender, &source.file, Some(&mut offset), left)
                })?;
                if n == 0 {
                    return Err(ended(step::SENDFILE, offset, source.size));
                }
            }
            sender.shutdown(Shutdown::Write).context("shutdown")
        },
        || {
            let mut buffer = vec![0; 128 << 10];
            let mut total = 0;
            loop {
                let n = receiver.read(&mut buffer).context("read")?;
                if n == 0 {
                    break;
                }
                file.write_all(&buffer[..n]).context("write")?;
                total += n as u64;
            }
            // The sender holds the lock of the meter while sendfile runs.
            meter.moved_by_program(step::SOCKET_TO_FILE, total);
            Ok(())
        },
    )?;
    Ok(vec![Output {
        step: step::SOCKET_TO_FILE,
        file,
    }])
}

fn from_memory(source: &Source, dir: &Path, meter: &Meter<'_>) -> Result<Vec<Output>> {
    let file = output(dir, "memory")?;
    let pipe = Pipe::new()?;
    let mut offset = 0;
    while offset < source.size {
        // Use a new mapping each time: other files may still refer to the old pages.
        let window = (source.size - offset).min(MEMORY_WINDOW) as usize;
        let mut memory = Memory::new(window).context("mmap")?;
        source
            .file
            .read_exact_at(memory.bytes_mut(), offset)
            .context("read")?;
        let bytes = memory.bytes();
        let mut done = 0;
        while done < window {
            let end = window.min(done + pipe.capacity as usize);
            let piece = [IoSliceRaw::from_slice(&bytes[done..end])];
            let n = meter.call(step::MEMORY_TO_PIPE, || {
                // SAFETY: `bytes` is initialised and does not change any more. The pipe has its own
                // references to the pages, which may outlive it.
                unsafe { vmsplice(&pipe.write, &piece, NO_FLAGS) }
            })?;
            if n == 0 {
                let moved = offset + done as u64;
                return Err(ended(step::MEMORY_TO_PIPE, moved, source.size));
            }
            pipe.drain(&file, n, step::PIPE_TO_FILE, meter)?;
            done += n;
        }
        offset += window as u64;
    }
    Ok(vec![Output {
        step: step::PIPE_TO_FILE,
        file,
    }])
}

fn through_two_pipes(source: &Source, dir: &Path, meter: &Meter<'_>) -> Result<Vec<Output>> {
    let file = output(dir, "pipes")?;
    let (first, second) = (Pipe::new()?, Pipe::new()?);
    let mut offset = 0;
    while offset < source.size {
        let mut left = first.fill(source, &mut offset, meter)?;
        while left > 0 {
            let n = meter.call(step::PIPE_TO_PIPE, || {
                splice(&first.read, None, &second.write, None, left, NO_FLAGS)
            })?;
            if n == 0 {
                return Err(ended(step::PIPE_TO_PIPE, 0, left as u64));
            }
            second.drain(&file, n, step::PIPE_TO_FILE, meter)?;
            left -= n;
        }
    }
    Ok(vec![Output {
        step: step::PIPE_TO_FILE,
        file,
    }])
}

fn through_device(source: &Source, dir: &Path, meter: &Meter<'_>) -> Result<Vec<Output>> {
    let device = File::options().read(true).write(true).open(DEVICE);
    let device = device.context(DEVICE)?;
    let counters = Counters::at(DEVICE_COUNTERS);
    let before = counters.sample()?;
    let file = output(dir, "device")?;
    let (there, back) = (Pipe::new()?, Pipe::new()?);
    let mut offset = 0;
    // The device accepts as much data as a pipe holds, so one thread is enough.
    while offset < source.size {
        let count = there.fill(source, &mut offset, meter)?;
        there.drain(&device, count, step::PIPE_TO_DEVICE, meter)?;
        let mut left = count;
        while left > 0 {
            let n = meter.call(step::DEVICE_TO_PIPE, || {
                splice(&device, None, &back.write, None, left, NO_FLAGS)
            })?;
            if n == 0 {
                return Err(ended(step::DEVICE_TO_PIPE, 0, left as u64));
            }
            back.drain(&file, n, step::PIPE_TO_FILE, meter)?;
            left -= n;
        }
    }
    let grown = counters.sample()?.since(&before)?;
    let bytes = grown.get("bytes.dma.out") + grown.get("bytes.dma.in");
    meter.moved_by_device(step::DMA, bytes, grown.get("bytes.copied"));
    Ok(vec![Output {
        step: step::PIPE_TO_FILE,
        file,
    }])
}

/// Connects to the own address `at` over RDMA.
fn through_rdma(at: &str, source: &Source, dir: &Path, meter: &Meter<'_>) -> Result<Vec<Output>> {
    let at = with_port(at).map_err(Error::msg)?;
    let counters = Counters::at(RDMA_COUNTERS);
    let before = counters.sample()?;
    let file = output(dir, "rdma")?;
    let settings = Settings::default();
    let listener = listen(at, &settings)?;
    both_ends(
        || {
            let to = Connection::connect(at, None, Duration::ZERO, 0, settings)?;
            set_nonblocking(&to)?;
            send_by_rdma(source, &to, meter)?;
            to.shut_down()?;
            to.flush()?;
            // The other end has no data. Closing before it ends would be an error there.
            wait(&to, PollFlags::RDHUP)
        },
        || {
            let from = Connection::accept(&listener, 0, settings)?;
            set_nonblocking(&from)?;
            let pipe = Pipe::new()?;
            loop {
                let want = pipe.capacity as usize;
                let call = || splice(&from, None, &pipe.write, None, want, NO_FLAGS);
                match meter.socket_call(step::RDMA_TO_PIPE, &from, PollFlags::IN, call)? {
                    0 => break,
                    got => pipe.drain(&file, got, step::PIPE_TO_FILE, meter)?,
                }
            }
            from.shut_down()?;
            // The end of the connection: the sender closes after it has seen the end.
            wait(&from, PollFlags::HUP)
        },
    )?;
    let grown = counters.sample()?.since(&before)?;
    let bytes = grown.get("bytes.rdma.out") + grown.get("bytes.rdma.in");
    meter.moved_by_device(step::RDMA, bytes, grown.get("bytes.copied"));
    Ok(vec![Output {
        step: step::PIPE_TO_FILE,
        file,
    }])
}

fn send_by_rdma(source: &Source, to: &Connection, meter: &Meter<'_>) -> Result<()> {
    let pipe = Pipe::new()?;
    let mut offset = 0;
    while offset < source.size {
        let mut left = pipe.fill(source, &mut offset, meter)?;
        while left > 0 {
            let call = || splice(&pipe.read, None, to, None, left, NO_FLAGS);
            match meter.socket_call(step::PIPE_TO_RDMA, to, PollFlags::OUT, call)? {
                0 => return Err(ended(step::PIPE_TO_RDMA, offset, source.size)),
                sent => left -= sent,
            }
        }
    }
    Ok(())
}

fn set_nonblocking(file: impl AsFd) -> Result<()> {
    let flags = fcntl_getfl(&file).context("F_GETFL")?;
    fcntl_setfl(&file, flags | OFlags::NONBLOCK).context("O_NONBLOCK")
}

fn wait(file: impl AsFd, events: PollFlags) -> Result<()> {
    retry_on_intr(|| poll(&mut [PollFd::new(&file, events)], None)).context("poll")?;
    Ok(())
}
