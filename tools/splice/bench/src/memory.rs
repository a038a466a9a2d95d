// SPDX-License-Identifier: GPL-2.0

//! The program's memory that data is moved from and to.

use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{ensure, Context, Result};
use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use splice_memory::{hugetlb, noncontiguous, thp, Mapping, Reserve, HUGE_PAGE, PAGE};

/// A kind of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Small pages in any order.
    Ordinary,
    /// Small pages of which no two successive ones are adjacent in physical memory.
    Noncontiguous,
    /// Transparent huge pages.
    Thp,
    /// Huge pages of hugetlb.
    Hugetlb,
    /// A shared mapping of a file of small pages.
    SharedFile,
    /// A private mapping of a file of small pages.
    PrivateFile,
    /// A private mapping of a file of transparent huge pages.
    PrivateHugeFile,
    /// Small pages that are shared with a child process since a fork.
    Forked,
}

/// The action if memory of a kind is not available.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Return an error. Huge pages are reserved if necessary.
    Required,
    /// Use ordinary memory.
    Any,
}

impl Source {
    fn reserve(self) -> Reserve {
        match self {
            Source::Required => Reserve::Missing,
            Source::Any => Reserve::No,
        }
    }
}

/// Memory of `len` bytes from the start of a page on, all of them written to.
pub struct Memory {
    mapping: Mapping,
    len: usize,
    _child: Option<Child>,
}

impl Memory {
    /// Returns memory that contains `content`.
    pub fn new(kind: Kind, source: Source, content: &[u8]) -> Result<Self> {
        let len = content.len();
        let (small, huge) = (len.div_ceil(PAGE), len.div_ceil(HUGE_PAGE));
        let ordinary = || Mapping::anonymous(small * PAGE, MapFlags::PRIVATE);
        let small_file = || file(small * PAGE);
        let reserve = source.reserve();
        let mapping = match kind {
            Kind::Ordinary => ordinary(),
            Kind::Noncontiguous => noncontiguous(small),
            Kind::Thp => thp(huge),
            Kind::Hugetlb => hugetlb(huge, reserve),
            Kind::SharedFile => {
                small_file().and_then(|file| map(&file, small * PAGE, MapFlags::SHARED))
            }
            Kind::PrivateFile => {
                small_file().and_then(|file| of_file(&file, small * PAGE, content))
            }
            Kind::PrivateHugeFile => splice_memory::huge_file(huge, reserve)
                .and_then(|file| of_file(&file, huge * HUGE_PAGE, content)),
            Kind::Forked => ordinary(),
        };
        let mapping = match source {
            Source::Required => mapping?,
            Source::Any => mapping.or_else(|_| ordinary())?,
        };
        let mut memory = Self {
            mapping,
            len,
            _child: None,
        };
        // A write to a private mapping of a file would replace the page.
        if memory.bytes() != content {
            memory.bytes_mut().copy_from_slice(content);
        }
        if kind == Kind::Forked {
            memory._child = Some(Child::fork()?);
        }
        Ok(memory)
    }

    /// Unmaps the pages: all bytes are zero, and the next access faults.
    pub fn forget(&mut self) -> Result<()> {
        self.mapping.forget()
    }

    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `new` made the mapping readable and writable, and only `self` refers to it, which
        // is borrowed.
        unsafe { &self.mapping.bytes()[..self.len] }
    }

    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `new` made the mapping readable and writable, and only `self` refers to it, which
        // is borrowed exclusively.
        unsafe { &mut self.mapping.bytes_mut()[..self.len] }
    }
}

/// Returns a file with room for `len` bytes in folios of the size of a huge page.
pub fn huge_file(len: usize, source: Source) -> Result<File> {
    splice_memory::huge_file(len.div_ceil(HUGE_PAGE), source.reserve()).map(File::from)
}

/// Returns a file of small pages in memory.
fn file(len: usize) -> Result<OwnedFd> {
    let file = memfd_create("pages", MemfdFlags::CLOEXEC).context("memfd")?;
    ftruncate(&file, len as u64).context("memfd")?;
    Ok(file)
}

fn map(file: &OwnedFd, len: usize, flags: MapFlags) -> Result<Mapping> {
    Mapping::file(file, len, ProtFlags::READ | ProtFlags::WRITE, flags)
}

/// Returns a private mapping of `file`, after `content` is written to the file.
fn of_file(file: &OwnedFd, len: usize, content: &[u8]) -> Result<Mapping> {
    let written = rustix::io::pwrite(file, content, 0).context("memfd")?;
    ensure!(
        written == content.len(),
        "only {written} bytes of a memfd written"
    );
    map(file, len, MapFlags::PRIVATE)
}

/// Forks a child that ends at once, and waits for its end.
pub fn fork_and_wait() -> rustix::io::Result<()> {
    // SAFETY: The child only calls `_exit()`, which needs no lock of this process.
    match unsafe { libc::fork() } {
        -1 => Err(errno()),
        // SAFETY: The function needs no lock of this process.
        0 => unsafe { libc::_exit(0) },
        // SAFETY: `child` is a child that was not waited for, and a status is not stored.
        child => match unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } {
            -1 => Err(errno()),
            _ => Ok(()),
        },
    }
}

fn errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// A process that shares the memory of this one, and waits until it is killed.
struct Child(libc::pid_t);

impl Child {
    fn fork() -> Result<Self> {
        // SAFETY: The child calls no function that needs a lock of this process.
        match unsafe { libc::fork() } {
            -1 => Err(std::io::Error::last_os_error()).context("fork"),
            0 => loop {
                // SAFETY: Both system calls do not access memory. The child ends with this process.
                unsafe {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::pause();
                }
            },
            pid => Ok(Self(pid)),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: `self.0` is a child of this process that was not waited for.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_starts_at_a_page_and_holds_what_it_was_given() {
        for kind in [
            Kind::Ordinary,
            Kind::Noncontiguous,
            Kind::Thp,
            Kind::Hugetlb,
            Kind::SharedFile,
            Kind::PrivateFile,
            Kind::PrivateHugeFile,
            Kind::Forked,
        ] {
            for len in [100, PAGE, 16 * PAGE] {
                let content = vec![7; len];
                let memory = Memory::new(kind, Source::Any, &content).unwrap();
                assert_eq!(memory.bytes(), content);
                assert_eq!(memory.bytes().as_ptr() as usize % PAGE, 0);
            }
        }
    }
}
