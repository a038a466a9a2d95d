// SPDX-License-Identifier: GPL-2.0

//! Compound operations, each of several system calls on new pipes. Their results do not depend on
//! timing.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use rustix::fs::{fcntl_setfl, sendfile, OFlags};
use rustix::io::Errno;
use rustix::pipe::{
    fcntl_getpipe_size, fcntl_setpipe_size, pipe, splice, tee, vmsplice, IoSliceRaw, SpliceFlags,
};

use crate::arena::Pool;
use crate::folders::unlinked_file;
use crate::op::{EndBy, TcpFrom, WaitIn};
use crate::transcript::hash_of;

const NO_FLAGS: SpliceFlags = SpliceFlags::empty();

/// The time limit for an event that is certain to occur.
const PATIENCE: Duration = Duration::from_secs(20);

fn number(result: Result<usize, Errno>) -> i64 {
    match result {
        Ok(n) => n as i64,
        Err(errno) => -i64::from(errno.raw_os_error()),
    }
}

/// Puts references to the pages of `bytes` into a pipe.
fn vmsplice_from(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let iov = [IoSliceRaw::from_slice(bytes)];
    // SAFETY: The kernel only reads `bytes`. They are part of the pool, which outlives every pipe.
    unsafe { vmsplice(fd, &iov, NO_FLAGS) }
}

fn vmsplice_to(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize, Errno> {
    let iov = [IoSliceRaw::from_slice_mut(bytes)];
    // SAFETY: The kernel writes to `bytes`, which are borrowed exclusively.
    unsafe { vmsplice(fd, &iov, NO_FLAGS) }
}

/// Reads all data in a pipe.
fn drain(fd: &OwnedFd) -> Result<Vec<u8>> {
    fcntl_setfl(fd, OFlags::NONBLOCK).context("drain")?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(bytes),
            Ok(n) => bytes.extend(&buffer[..n]),
            Err(errno) => return Err(errno).context("drain"),
        }
    }
}

fn show(name: &str, bytes: &[u8], after: &mut String) {
    let _ = write!(after, " {name}={}:{}", bytes.len(), hash_of(bytes));
}

/// Sleeps for a moment, to wait for another thread or the network.
fn moment() {
    std::thread::sleep(Duration::from_micros(300));
}

/// Waits until the thread `id` of this process sleeps, or until `done` returns true.
fn until_asleep(id: i32, done: impl Fn() -> bool) -> Result<()> {
    let path = format!("/proc/self/task/{id}/stat");
    let start = Instant::now();
    while !done() {
        let Ok(stat) = std::fs::read_to_string(&path) else {
            return Ok(());
        };
        if stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('S'))
        {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("thread is not asleep: {stat}");
        }
        moment();
    }
    Ok(())
}

/// The ends of a pipe, either of which may be closed.
struct Ends {
    read: Option<OwnedFd>,
    write: Option<OwnedFd>,
}

/// A thread waits in `wait` for data in an empty pipe, or for room in a full one. Then one event of
/// the kind `end` wakes it.
pub fn wait(
    folder: &Path,
    pool: &Pool,
    (wait, end): (WaitIn, EndBy),
    (len, amount): (usize, usize),
    after: &mut String,
) -> Result<i64> {
    let (read, write) = pipe().context("pipe")?;
    let (other_read, other_write) = pipe().context("pipe")?;
    let other = UnixStream::pair().context("socketpair")?;
    let data = if wait == WaitIn::VmspliceHugePageIn {
        pool.huge_bytes(len as u32, len)
    } else {
        pool.bytes(len as u32, len)
    };
    // The source of the data.
    let source = unlinked_file(folder, data, true)?;
    let target = unlinked_file(folder, b"", true)?;
    let null = File::options()
        .write(true)
        .open("/dev/null")
        .context("/dev/null")?;
    let mut ends = Ends {
        read: Some(read),
        write: Some(write),
    };
    let full = pool.bytes(77, 64 << 10);
    if !wait.for_data() {
        let fd = ends.write.as_ref().context("pipe")?;
        let size = fcntl_getpipe_size(fd).context("pipe")?;
        let written = rustix::io::write(fd, &full[..size.min(full.len())]).context("fill")?;
        write!(after, " full={written}/{size}")?;
        // Data for the calls that read from a pipe.
        let part = &data[..len.min(60_000)];
        rustix::io::write(&other_write, part).context("fill")?;
    }
    let mine = if wait.for_data() {
        ends.read.take()
    } else {
        ends.write.take()
    }
    .context("pipe")?;

    let id = AtomicI32::new(0);
    let (result, memory, rest) = thread::scope(|scope| -> Result<_> {
        let thread = scope.spawn(|| {
            let mut memory = vec![0; if wait.for_data() { len } else { 0 }];
            let fd = mine.as_fd();
            id.store(
                rustix::thread::gettid().as_raw_nonzero().get(),
                Ordering::Release,
            );
            let result = match wait {
                WaitIn::Read => rustix::io::read(fd, &mut memory),
                WaitIn::VmspliceOut => vmsplice_to(fd, &mut memory),
                WaitIn::SpliceToFile => splice(fd, None, &target, None, len, NO_FLAGS),
                WaitIn::SpliceToPipe => splice(fd, None, &other_write, None, len, NO_FLAGS),
                WaitIn::SpliceToNull => splice(fd, None, &null, None, len, NO_FLAGS),
                WaitIn::SpliceToSocket => splice(fd, None, &other.0, None, len, NO_FLAGS),
                WaitIn::Tee => tee(fd, &other_write, len, NO_FLAGS),
                WaitIn::Write => rustix::io::write(fd, data),
                WaitIn::VmspliceIn | WaitIn::VmspliceHugePageIn => vmsplice_from(fd, data),
                WaitIn::SpliceFromFile => splice(&source, None, fd, None, len, NO_FLAGS),
                WaitIn::SendfileToPipe => sendfile(fd, &source, None, len),
                WaitIn::SpliceFromPipe => splice(&other_read, None, fd, None, len, NO_FLAGS),
                WaitIn::TeeInto => tee(&other_read, fd, len, NO_FLAGS),
            };
            (number(result), memory)
        });
        let start = Instant::now();
        while id.load(Ordering::Acquire) == 0 && start.elapsed() < PATIENCE {
            moment();
        }
        until_asleep(id.load(Ordering::Acquire), || thread.is_finished())?;
        write!(after, " asleep={}", !thread.is_finished())?;

        let mut rest = Vec::new();
        let done = if wait.for_data() {
            let fd = ends.write.take().context("pipe")?;
            let bytes = pool.bytes(5, amount);
            match end {
                // Each of these adds all of its data in one step.
                EndBy::Transfer | EndBy::Resize => number(rustix::io::write(&fd, bytes)),
                EndBy::Splice if amount % 2 == 0 => number(vmsplice_from(fd.as_fd(), bytes)),
                EndBy::Splice => {
                    let from = unlinked_file(folder, bytes, true)?;
                    number(splice(&from, None, &fd, None, amount, NO_FLAGS))
                }
                EndBy::Close => 0,
            }
        } else {
            // Whole pages, so that the pipe has room afterwards.
            let amount = amount * 4096;
            let fd = ends.read.as_ref().context("pipe")?;
            match end {
                EndBy::Transfer => {
                    let mut buffer = vec![0; amount];
                    let read = rustix::io::read(fd, &mut buffer);
                    rest.extend(&buffer[..read.unwrap_or(0)]);
                    number(read)
                }
                EndBy::Splice => number(splice(fd, None, &null, None, amount, NO_FLAGS)),
                EndBy::Resize => number(fcntl_setpipe_size(fd, 128 << 10)),
                EndBy::Close => {
                    ends.read = None;
                    0
                }
            }
        };
        write!(after, " done={done}")?;
        let Ok((result, memory)) = thread.join() else {
            bail!("the thread panicked");
        };
        Ok((result, memory, rest))
    })?;

    show("memory", &memory, after);
    show("before", &rest, after);
    if wait.for_data() {
        show("left", &drain(&mine)?, after);
    } else if let Some(read) = &ends.read {
        drop(mine);
        show("left", &drain(read)?, after);
    }
    show("other", &drain(&other_read)?, after);
    let mut written = Vec::new();
    rustix::fs::seek(&target, rustix::fs::SeekFrom::Start(0)).context("file")?;
    (&target).read_to_end(&mut written).context("file")?;
    show("file", &written, after);
    drop(other.0);
    written.clear();
    (&other.1).read_to_end(&mut written).context("socket")?;
    show("socket", &written, after);
    Ok(result)
}

/// Sends `len` bytes through a TCP connection, in calls for `piece` bytes each. Returns how many
/// bytes arrived. The number of calls is not part of the result, because it depends on how the
/// network splits the data.
pub fn tcp(
    folder: &Path,
    pool: &Pool,
    from: TcpFrom,
    (len, piece): (usize, usize),
    more: bool,
    after: &mut String,
) -> Result<i64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let near = TcpStream::connect(listener.local_addr().context("listen")?).context("connect")?;
    let (far, _) = listener.accept().context("accept")?;
    let bytes = if from == TcpFrom::HugePage {
        pool.huge_bytes(len as u32 + 3, len)
    } else {
        pool.bytes(len as u32 + 3, len)
    };
    let source = unlinked_file(folder, bytes, true)?;
    let (read, write) = pipe().context("pipe")?;
    let flags = if more { SpliceFlags::MORE } else { NO_FLAGS };

    let mut sent = 0;
    while sent < len {
        let want = piece.min(len - sent);
        let part = &bytes[sent..sent + want];
        let filled = match from {
            TcpFrom::Sendfile => None,
            TcpFrom::File => Some(splice(&source, None, &write, None, want, NO_FLAGS)),
            TcpFrom::Memory | TcpFrom::HugePage => Some(vmsplice_from(write.as_fd(), part)),
            TcpFrom::Write => Some(rustix::io::write(&write, part)),
        };
        match filled {
            None => sent += sendfile(&near, &source, None, want).context("sendfile")?,
            Some(filled) => {
                let mut left = filled.context("into the pipe")?;
                if left == 0 {
                    bail!("nothing got into the pipe");
                }
                sent += left;
                while left > 0 {
                    left -= splice(&read, None, &near, None, left, flags).context("send")?;
                }
            }
        }
    }
    // Data that was sent with SPLICE_F_MORE waits for more data, or for this.
    near.shutdown(std::net::Shutdown::Write)
        .context("shutdown")?;

    let start = Instant::now();
    while rustix::io::ioctl_fionread(&far).context("ioctl")? < len as u64 {
        if start.elapsed() > PATIENCE {
            bail!("only a part has arrived");
        }
        moment();
    }
    let mut arrived = Vec::new();
    let last = loop {
        match splice(&far, None, &write, None, piece, NO_FLAGS) {
            Ok(0) => break 0,
            Ok(_) => arrived.extend(drain(&read)?),
            Err(errno) => break -errno.raw_os_error(),
        }
    };
    show("arrived", &arrived, after);
    write!(after, " same={} last={last}", arrived == bytes)?;
    Ok(arrived.len() as i64)
}
