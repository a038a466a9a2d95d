// SPDX-License-Identifier: GPL-2.0

//! The list of pages that a buffer consists of, and how it is kept in a memfd.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{memfd_create, readlink, MemfdFlags};

/// The name of a memfd that stands for `/dev/udmabuf`.
pub const DEVICE: &CStr = c"splice-udmabuf-device";

/// The name of a memfd that stands for a buffer.
pub const BUFFER: &CStr = c"splice-udmabuf-buffer";

/// `struct udmabuf_create_item`: a range of a memfd, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item {
    pub memfd: u32,
    pub pad: u32,
    pub offset: u64,
    pub size: u64,
}

impl Item {
    /// The size of an item in the memfd.
    const BYTES: usize = 24;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.memfd.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.size.to_ne_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        Self {
            // The lower half of the first word: the pad is 0.
            memfd: word(0) as u32,
            pad: 0,
            offset: word(8),
            size: word(16),
        }
    }
}

/// Returns whether `fd` is a memfd with the name `name`.
pub fn is(fd: impl AsFd, name: &CStr) -> bool {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let Ok(target) = readlink(link, Vec::new()) else {
        return false;
    };
    let name = name.to_bytes();
    target
        .to_bytes()
        .strip_prefix(b"/memfd:")
        .and_then(|rest| rest.strip_suffix(b" (deleted)"))
        .is_some_and(|rest| rest == name)
}

/// Opens what stands for `/dev/udmabuf`.
pub fn device() -> io::Result<OwnedFd> {
    Ok(memfd_create(DEVICE, MemfdFlags::CLOEXEC)?)
}

/// Makes a buffer of `items`.
pub fn create(items: &[Item]) -> io::Result<OwnedFd> {
    let file = File::from(memfd_create(BUFFER, MemfdFlags::CLOEXEC)?);
    let bytes: Vec<u8> = items.iter().flat_map(|item| item.to_bytes()).collect();
    file.write_all_at(&bytes, 0)?;
    Ok(file.into())
}

/// The items of a buffer.
pub fn items(buffer: impl AsFd) -> io::Result<Vec<Item>> {
    let file = File::from(buffer.as_fd().try_clone_to_owned()?);
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    let (items, _) = bytes.as_chunks();
    Ok(items.iter().map(Item::from_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_keeps_its_items() {
        let list: Vec<Item> = (0..1000)
            .map(|i| Item {
                memfd: 7,
                pad: 0,
                offset: (i * 7 % 1000) << 12,
                size: 4096,
            })
            .collect();
        let buffer = create(&list).unwrap();
        assert_eq!(items(&buffer).unwrap(), list);
        assert!(is(&buffer, BUFFER) && !is(&buffer, DEVICE));
    }

    #[test]
    fn other_files_are_not_buffers() {
        assert!(is(device().unwrap(), DEVICE));
        for name in [c"ram", c"splice-udmabuf-buffer2"] {
            let other = memfd_create(name, MemfdFlags::CLOEXEC).unwrap();
            assert!(!is(&other, BUFFER) && !is(&other, DEVICE));
        }
        assert!(!is(File::open("/dev/null").unwrap(), BUFFER));
    }
}
