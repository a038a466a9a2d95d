// SPDX-License-Identifier: GPL-2.0

//! Memory in huge pages.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{bail, Context, Result};
use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::mapping::Mapping;
use crate::size::HUGE_PAGE;

/// The settings of the kernel for huge pages of this size.
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Whether huge pages may be reserved, which needs privilege and changes the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reserve {
    /// Reserve as many as are missing.
    Missing,
    /// Use only the available ones.
    No,
}

/// Returns private memory of `pages` transparent huge pages, or an error if a part of it is not in
/// one.
pub fn thp(pages: usize) -> Result<Mapping> {
    let len = pages * HUGE_PAGE;
    let mut mapping = Mapping::anonymous(len + HUGE_PAGE, MapFlags::PRIVATE)?;
    let start = mapping.as_ptr().align_offset(HUGE_PAGE);
    mapping.trim(start, start + len)?;
    mapping
        .advise(0, len, Advice::LinuxHugepage)
        .context("no transparent huge pages")?;
    touch_huge(&mut mapping, "AnonHugePages:")?;
    Ok(mapping)
}

/// Writes to each huge page of `mapping`. Returns an error unless the line of `/proc/self/smaps`
/// that begins with `kind` covers all of it afterwards.
fn touch_huge(mapping: &mut Mapping, kind: &str) -> Result<()> {
    let len = mapping.len();
    for page in (0..len).step_by(HUGE_PAGE) {
        // SAFETY: The callers map the memory readable and writable.
        unsafe { mapping.touch(page / crate::PAGE) };
    }
    let smaps = fs::read_to_string("/proc/self/smaps").context("/proc/self/smaps")?;
    match in_huge_pages(&smaps, kind, mapping.as_ptr() as usize, len) {
        Some(bytes) if bytes >= len => Ok(()),
        Some(bytes) => bail!("only {bytes} of {len} bytes are in transparent huge pages"),
        None => bail!("/proc/self/smaps does not have the memory"),
    }
}

/// Returns a file in memory, of `pages` transparent huge pages. [`Reserve::Missing`] enables them
/// in the kernel for programs that request them.
pub fn huge_file(pages: usize, reserve: Reserve) -> Result<OwnedFd> {
    const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

    if reserve == Reserve::Missing {
        fs::write(ENABLED, "advise").context(ENABLED)?;
    }
    let file = memfd_create("huge", MemfdFlags::CLOEXEC).context("memfd")?;
    let len = pages * HUGE_PAGE;
    ftruncate(&file, len as u64).context("memfd")?;
    let prot = ProtFlags::READ | ProtFlags::WRITE;
    let mut mapping = Mapping::file(&file, len, prot, MapFlags::SHARED)?;
    mapping
        .advise(0, len, Advice::LinuxHugepage)
        .context("no transparent huge pages")?;
    touch_huge(&mut mapping, "ShmemPmdMapped:")?;
    Ok(file)
}

/// Returns private memory of `pages` huge pages of hugetlb.
pub fn hugetlb(pages: usize, reserve: Reserve) -> Result<Mapping> {
    reserve.have(pages)?;
    let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
    Mapping::anonymous(pages * HUGE_PAGE, flags).context("no huge pages of hugetlb")
}

/// Returns a file in memory, of `pages` huge pages of hugetlb.
pub fn hugetlb_file(pages: usize, reserve: Reserve) -> Result<OwnedFd> {
    reserve.have(pages)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let file = memfd_create("hugetlb", flags).context("no files of hugetlb")?;
    ftruncate(&file, (pages * HUGE_PAGE) as u64).context("memfd")?;
    Ok(file)
}

impl Reserve {
    /// Makes `pages` huge pages available that no mapping has reserved.
    fn have(self, pages: usize) -> Result<()> {
        if self == Self::No {
            return Ok(());
        }
        let pool = Path::new(POOL);
        let number = |name: &str| -> Result<usize> {
            let path = pool.join(name);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            Ok(text.trim().parse()?)
        };
        let unclaimed = || -> Result<usize> {
            Ok(number("free_hugepages")?.saturating_sub(number("resv_hugepages")?))
        };
        let there = unclaimed()?;
        if there >= pages {
            return Ok(());
        }
        let more = number("nr_hugepages")? + pages - there;
        fs::write(pool.join("nr_hugepages"), more.to_string())
            .with_context(|| format!("reserving {more} huge pages"))?;
        match unclaimed()? {
            there if there >= pages => Ok(()),
            there => bail!("only {there} of {pages} huge pages can be had"),
        }
    }
}

/// Returns how many bytes of the mapping that contains the `len` bytes at `address` are in
/// transparent huge pages, according to the line that begins with `kind`. `None`: the bytes are not
/// all in one mapping.
fn in_huge_pages(smaps: &str, kind: &str, address: usize, len: usize) -> Option<usize> {
    let mut inside = false;
    for line in smaps.lines() {
        if let Some((start, end)) = range(line) {
            inside = start <= address && address + len <= end;
        } else if let Some(size) = line.strip_prefix(kind).filter(|_| inside) {
            let kib: usize = size.trim().strip_suffix(" kB")?.parse().ok()?;
            return Some(kib << 10);
        }
    }
    None
}

/// Parses the line at the start of a mapping.
fn range(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let parse = |text| usize::from_str_radix(text, 16).ok();
    Some((parse(start)?, parse(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
        7f0000000000-7f0000400000 rw-p 00000000 00:00 0 \n\
        Size:               4096 kB\n\
        AnonHugePages:      2048 kB\n\
        7f0000400000-7f0000600000 rw-p 00000000 00:00 0          [stack]\n\
        AnonHugePages:         0 kB\n";

    #[test]
    fn the_mapping_that_the_memory_is_in_is_found() {
        let huge_bytes = |address, len| in_huge_pages(SMAPS, "AnonHugePages:", address, len);
        assert_eq!(huge_bytes(0x7f00_0000_0000, 4 << 20), Some(2 << 20));
        assert_eq!(huge_bytes(0x7f00_0020_0000, 2 << 20), Some(2 << 20));
        assert_eq!(huge_bytes(0x7f00_0040_0000, 2 << 20), Some(0));
        assert_eq!(huge_bytes(0x7f00_0020_0000, 4 << 20), None);
        assert_eq!(huge_bytes(0x7f00_0060_0000, 4096), None);
    }

    /// This machine may have none.
    #[test]
    fn huge_pages_are_aligned() {
        for mapping in [thp(2), hugetlb(1, Reserve::No)].into_iter().flatten() {
            assert_eq!(mapping.as_ptr() as usize % HUGE_PAGE, 0);
            assert_eq!(mapping.len() % HUGE_PAGE, 0);
        }
    }
}
