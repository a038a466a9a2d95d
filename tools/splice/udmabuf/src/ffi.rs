// SPDX-License-Identifier: GPL-2.0

//! The functions of the C library that QEMU calls with `/dev/udmabuf` and its buffers. All
//! other calls become system calls as they are.

use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void, CStr};
use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use std::ptr;

use rustix::mm::{mmap, mmap_anonymous, munmap, MapFlags, ProtFlags};

use crate::list::{self, Item};

/// `UDMABUF_CREATE_LIST`.
const CREATE_LIST: c_ulong = 0x4008_7543;

/// `struct udmabuf_create_list`, without its items.
#[repr(C)]
struct CreateList {
    flags: u32,
    count: u32,
}

/// Converts a result to that of a C function, which has the cause in `errno`.
fn returned<T>(result: io::Result<T>, failed: T) -> T {
    result.unwrap_or_else(|error| {
        // SAFETY: The function returns the address of this thread's `errno`.
        unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(libc::EIO) };
        failed
    })
}

/// Opens a file, see open(2).
///
/// # Safety
///
/// `path` is a string that ends with a zero byte.
unsafe fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: The caller guarantees that `path` is a string.
    if unsafe { CStr::from_ptr(path) } == c"/dev/udmabuf" {
        return returned(list::device().map(IntoRawFd::into_raw_fd), -1);
    }
    // SAFETY: The arguments are those of the caller, for the same system call.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int }
}

/// open(2). C declares the last argument as optional; the system call ignores it then.
///
/// # Safety
///
/// As for open(2).
#[no_mangle]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: `path` is a string, as open(2) requires.
    unsafe { open(path, flags, mode) }
}

/// open(2) without the last argument, as the C library names it for checked programs.
///
/// # Safety
///
/// As for open(2).
#[no_mangle]
pub unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: `path` is a string, as open(2) requires.
    unsafe { open(path, flags, 0) }
}

/// ioctl(2): makes a buffer if `fd` is our device.
///
/// # Safety
///
/// As for ioctl(2).
#[no_mangle]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    if request == CREATE_LIST && fd >= 0 {
        // SAFETY: The descriptor is used in this call only, during which the caller keeps it
        // open.
        let device = unsafe { BorrowedFd::borrow_raw(fd) };
        if list::is(device, list::DEVICE) {
            // SAFETY: The argument of this request is a list of items.
            let result = unsafe { create(arg.cast()) };
            return returned(result.map(IntoRawFd::into_raw_fd), -1);
        }
    }
    // SAFETY: The arguments are those of the caller, for the same system call.
    unsafe { libc::syscall(libc::SYS_ioctl, fd, request, arg) as c_int }
}

/// Makes a buffer.
///
/// # Safety
///
/// `arg` is a list with as many items as it says.
unsafe fn create(arg: *const CreateList) -> io::Result<OwnedFd> {
    // SAFETY: The caller guarantees that the items follow the head of the list.
    let items = unsafe {
        let count = (*arg).count as usize;
        std::slice::from_raw_parts(arg.add(1).cast::<Item>(), count)
    };
    list::create(items)
}

/// mmap(2): maps the pages of the guest if `fd` is a buffer of ours.
///
/// # Safety
///
/// As for mmap(2).
#[no_mangle]
pub unsafe extern "C" fn mmap64(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    if fd >= 0 && flags & libc::MAP_SHARED != 0 {
        // SAFETY: The descriptor is used in this call only, during which the caller keeps it
        // open.
        let buffer = unsafe { BorrowedFd::borrow_raw(fd) };
        if list::is(buffer, list::BUFFER) {
            return returned(map(buffer, len, prot), libc::MAP_FAILED);
        }
    }
    // SAFETY: The arguments are those of the caller, for the same system call.
    let start: c_long =
        unsafe { libc::syscall(libc::SYS_mmap, addr, len, prot, flags, fd, offset) };
    ptr::with_exposed_provenance_mut(start as usize)
}

/// Maps the first `len` bytes of a buffer, at an address that the kernel chooses.
pub fn map(buffer: BorrowedFd<'_>, len: usize, prot: c_int) -> io::Result<*mut c_void> {
    let items = list::items(buffer)?;
    if items.iter().map(|item| item.size).sum::<u64>() < len as u64 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let prot = ProtFlags::from_bits_retain(prot as u32);
    // SAFETY: The kernel chooses the address, so no mapping is replaced.
    let start =
        unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), MapFlags::PRIVATE) }?;
    let mut at = 0;
    for item in items {
        if at == len {
            break;
        }
        let size = (len - at).min(item.size as usize);
        // SAFETY: The new mapping replaces a part of the one above, to which nothing refers
        // yet. The memfd is the memory of the guest, which QEMU keeps open.
        let mapped = unsafe {
            mmap(
                start.byte_add(at),
                size,
                prot,
                MapFlags::SHARED | MapFlags::FIXED,
                BorrowedFd::borrow_raw(item.memfd as c_int),
                item.offset,
            )
        };
        if let Err(error) = mapped {
            // SAFETY: The mapping was made above, and nothing refers to it.
            let _ = unsafe { munmap(start, len) };
            return Err(error.into());
        }
        at += size;
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::os::unix::fs::FileExt;

    use rustix::fs::{memfd_create, MemfdFlags};

    use super::*;

    const PAGE: usize = 4096;

    /// An argument of `CREATE_LIST`.
    #[repr(C)]
    struct Scattered<const N: usize> {
        head: CreateList,
        items: [Item; N],
    }

    #[test]
    fn scattered_pages_are_mapped_in_the_order_of_the_list() {
        let ram = File::from(memfd_create(c"ram", MemfdFlags::CLOEXEC).unwrap());
        for page in 0..8u8 {
            ram.write_all_at(&[page; PAGE], u64::from(page) * PAGE as u64)
                .unwrap();
        }
        let pages = [5, 0, 7, 2];
        let mut arg = Scattered {
            head: CreateList {
                flags: 1,
                count: pages.len() as u32,
            },
            items: pages.map(|page| Item {
                memfd: ram.as_raw_fd() as u32,
                pad: 0,
                offset: page * PAGE as u64,
                size: PAGE as u64,
            }),
        };
        // SAFETY: The path is a string, the argument is that of the request, and the results
        // are new descriptors.
        let buffer = unsafe {
            let device = OwnedFd::from_raw_fd(open64(c"/dev/udmabuf".as_ptr(), libc::O_RDWR, 0));
            let made = ioctl(device.as_raw_fd(), CREATE_LIST, (&raw mut arg).cast());
            assert!(made >= 0);
            OwnedFd::from_raw_fd(made)
        };
        let len = pages.len() * PAGE;
        // SAFETY: The kernel chooses the address; the mapping is readable while `seen` exists.
        let seen = unsafe {
            let start = mmap64(
                ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_SHARED,
                buffer.as_raw_fd(),
                0,
            );
            assert_ne!(start, libc::MAP_FAILED);
            start.cast::<u8>()
        };
        // SAFETY: `at` is in the mapping.
        let byte = |at: usize| unsafe { seen.add(at).read_volatile() };
        for (i, &page) in pages.iter().enumerate() {
            assert_eq!(byte(i * PAGE), page as u8);
            assert_eq!(byte(i * PAGE + PAGE - 1), page as u8);
        }
        // What the guest writes later is seen, too.
        ram.write_all_at(&[99], 7 * PAGE as u64 + 3).unwrap();
        assert_eq!(byte(2 * PAGE + 3), 99);
        // SAFETY: Nothing refers to the mapping any more.
        unsafe { munmap(seen.cast(), len) }.unwrap();
    }

    #[test]
    fn a_buffer_is_not_longer_than_its_pages() {
        let buffer = list::create(&[]).unwrap();
        // SAFETY: The kernel chooses the address.
        let start = unsafe {
            mmap64(
                ptr::null_mut(),
                PAGE,
                libc::PROT_READ,
                libc::MAP_SHARED,
                buffer.as_raw_fd(),
                0,
            )
        };
        assert_eq!(start, libc::MAP_FAILED);
    }

    #[test]
    fn other_calls_do_what_they_always_do() {
        // SAFETY: The paths are strings, and the kernel chooses the address.
        unsafe {
            assert_eq!(open64(c"/nonexistent".as_ptr(), libc::O_RDONLY, 0), -1);
            assert_eq!(*libc::__errno_location(), libc::ENOENT);
            let file = OwnedFd::from_raw_fd(__open64_2(c"/dev/zero".as_ptr(), libc::O_RDONLY));
            assert_eq!(ioctl(file.as_raw_fd(), CREATE_LIST, ptr::null_mut()), -1);
            assert_eq!(*libc::__errno_location(), libc::ENOTTY);
            let start = mmap64(
                ptr::null_mut(),
                PAGE,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            );
            assert_ne!(start, libc::MAP_FAILED);
            assert_eq!(*start.cast::<u8>(), 0);
            munmap(start, PAGE).unwrap();
        }
    }
}
