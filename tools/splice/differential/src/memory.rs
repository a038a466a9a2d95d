// SPDX-License-Identifier: GPL-2.0

//! The memory that operations read from and write to, one mapping for each region.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::ptr;

use anyhow::{bail, Context, Result};
use rustix::fs::{memfd_create, MemfdFlags};
use rustix::mm::{MapFlags, ProtFlags};
use splice_memory::{hugetlb, hugetlb_file, thp, Mapping, Reserve, HUGE_PAGE, PAGE};
use xxhash_rust::xxh64::xxh64;

use crate::arena::{self, Arena, Pool};
use crate::folders::{unlinked_file, Folders};
use crate::op::{Address, Segment};
use crate::region::Region;

/// Huge pages, shared by all sequences because they are scarce.
pub struct Huge {
    mappings: BTreeMap<Region, Mapping>,
    /// The regions that ordinary memory replaces, and the reason.
    pub missing: Vec<(Region, String)>,
}

impl Huge {
    /// The number of huge pages of each kind: with two, a region contains a boundary.
    const PAGES: usize = 2;

    /// Returns an error if huge pages are `required` and not available. Reserves huge pages only in
    /// that case.
    pub fn new(required: bool) -> Result<Self> {
        let reserve = if required {
            Reserve::Missing
        } else {
            Reserve::No
        };
        let mut huge = Self {
            mappings: BTreeMap::new(),
            missing: Vec::new(),
        };
        for region in Region::HUGE {
            let (mapping, share) = match region {
                Region::Thp => (thp(Self::PAGES), MapFlags::PRIVATE),
                Region::Hugetlb => (hugetlb(Self::PAGES, reserve), MapFlags::PRIVATE),
                _ => (Self::hugetlb_file(reserve), MapFlags::SHARED),
            };
            let mapping = match mapping {
                Err(error) if required => return Err(error).context(region.to_string()),
                Err(error) => {
                    huge.missing.push((region, format!("{error:#}")));
                    Mapping::anonymous(Self::PAGES * HUGE_PAGE, share)?
                }
                Ok(mapping) => mapping,
            };
            huge.mappings.insert(region, mapping);
        }
        Ok(huge)
    }

    fn hugetlb_file(reserve: Reserve) -> Result<Mapping> {
        let file = hugetlb_file(Self::PAGES, reserve)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        Mapping::file(file, Self::PAGES * HUGE_PAGE, prot, MapFlags::SHARED)
    }
}

/// The state of a page of a region that is copied on write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    /// The page was only read.
    Common,
    /// The page was written to.
    Own,
    /// The page was put into a pipe before it was written to.
    Lent,
}

/// The mapping of one region.
struct Part {
    start: *mut u8,
    pages: Vec<Page>,
    /// `None` if the region is part of [`Huge`].
    _mapping: Option<Mapping>,
}

/// All regions of one sequence. A region is mapped before its first use.
///
/// # Invariants
///
/// Each part is the start of a mapping of the length of its region, which only system calls refer
/// to. No system call accesses it while a method runs.
pub struct Memory<'a> {
    pool: &'a Pool,
    huge: &'a Huge,
    folders: &'a Folders,
    /// [`Region::Private`].
    pub arena: Arena,
    parts: BTreeMap<Region, Part>,
}

impl<'a> Memory<'a> {
    pub fn new(folders: &'a Folders, pool: &'a Pool, huge: &'a Huge) -> Result<Self> {
        Ok(Self {
            pool,
            huge,
            folders,
            arena: Arena::new(pool).context("memory")?,
            parts: BTreeMap::new(),
        })
    }

    /// Maps the regions of these segments, if they are not mapped yet.
    pub fn need(&mut self, segments: &[Segment]) -> Result<()> {
        for segment in segments {
            if let Address::In(region, _) = segment.address {
                if region != Region::Private && !self.parts.contains_key(&region) {
                    let part = self.part(region).with_context(|| region.to_string())?;
                    self.parts.insert(region, part);
                }
            }
        }
        Ok(())
    }

    fn part(&self, region: Region) -> Result<Part> {
        let len = region.len();
        let content = self.pool.bytes(region as u32 * 4099, len);
        let mapping = match region {
            Region::Private => bail!("it is always there"),
            Region::Fresh => Some(Mapping::anonymous(len, MapFlags::PRIVATE)?),
            Region::Shared => Some(Mapping::anonymous(len, MapFlags::SHARED)?),
            _ if region.is_huge() => None,
            _ => {
                let file = self.file(region, content)?;
                let (prot, flags) = match region {
                    Region::ReadOnly => (ProtFlags::READ, MapFlags::SHARED),
                    Region::ReadOnlyPrivate => (ProtFlags::READ, MapFlags::PRIVATE),
                    Region::TmpfsPrivate | Region::Ext4Private => {
                        (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
                    }
                    _ => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED),
                };
                Some(Mapping::file(file, len, prot, flags)?)
            }
        };
        let start = match &mapping {
            Some(mapping) => mapping.as_ptr(),
            None => {
                let huge = self.huge.mappings.get(&region).context("huge pages")?;
                // SAFETY: The sum is in the mapping, which consists of more than one huge page.
                unsafe { huge.as_ptr().add(HUGE_PAGE - Region::BOUNDARY) }
            }
        };
        if region == Region::Shared || region.is_huge() {
            // SAFETY: `start` is the start of `len` mapped bytes, and no reference to them exists.
            unsafe { ptr::copy_nonoverlapping(content.as_ptr(), start, len) };
        }
        let pages = if region.is_copied_on_write() {
            vec![Page::Common; len / PAGE]
        } else {
            Vec::new()
        };
        // INVARIANT: The mapping was made above, or is part of `huge`, which only the current
        // sequence uses.
        Ok(Part {
            start,
            pages,
            _mapping: mapping,
        })
    }

    /// Returns a file with `content` that is in no folder any more.
    fn file(&self, region: Region, content: &[u8]) -> Result<OwnedFd> {
        if region == Region::Memfd {
            let file = File::from(memfd_create("memory", MemfdFlags::CLOEXEC)?);
            (&file).write_all(content).context("memfd")?;
            return Ok(file.into());
        }
        let folder = match region {
            Region::Ext4Shared | Region::Ext4Private | Region::ReadOnly => &self.folders.ext4,
            _ => &self.folders.tmpfs,
        };
        unlinked_file(folder, content, region.is_writable()).map(OwnedFd::from)
    }

    /// Returns the address and length of `segment`, whose region must be mapped.
    pub fn arguments(&self, segment: &Segment) -> [usize; 2] {
        let address = match segment.address {
            Address::In(Region::Private, at) => self.arena.address(at as usize),
            Address::In(region, at) => self
                .parts
                .get(&region)
                .map_or(0, |part| part.start as usize + at as usize),
            Address::Null => 0,
            Address::Wrap => usize::MAX - 100,
            Address::Kernel => 0xffff_8880_0000_0000,
        };
        [address, segment.len]
    }

    /// Hashes the readable part of `segment`.
    pub fn hash(&self, segment: &Segment) -> Option<u64> {
        match segment.address {
            Address::In(Region::Private, at) => Some(self.arena.hash(at as usize, segment.len)),
            Address::In(region, at) => {
                let part = self.parts.get(&region)?;
                let at = at as usize;
                assert!(at + segment.len <= region.len());
                // SAFETY: The range is readable, and by the type invariant nothing writes to it
                // meanwhile.
                let bytes = unsafe { std::slice::from_raw_parts(part.start.add(at), segment.len) };
                Some(xxh64(bytes, 0))
            }
            _ => None,
        }
    }

    /// Overwrites memory if it is writable. Its pages may be in pipes.
    pub fn fill(&mut self, segment: &Segment, content: u32) {
        let Address::In(region, at) = segment.address else {
            return;
        };
        let (at, bytes) = (at as usize, self.pool.bytes(content, segment.len));
        if region == Region::Private {
            self.arena.fill(at, bytes);
        } else if let Some(part) = self.parts.get(&region) {
            assert!(region.is_writable() && at + bytes.len() <= region.len());
            // SAFETY: The range is writable, and by the type invariant no reference to it exists.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), part.start.add(at), bytes.len()) };
        }
    }

    /// Gives memory a known content if it is writable.
    pub fn settle(&mut self, segment: &Segment) {
        let Address::In(region, at) = segment.address else {
            return;
        };
        if region.is_writable() && at as usize + segment.len <= region.usual() {
            self.fill(segment, 0);
            self.changed(std::slice::from_ref(segment), segment.len as i64);
        }
    }

    /// Whether the data that a reader of a pipe sees after a write to `segments` is well defined.
    pub fn may_change(&mut self, segments: &[Segment]) -> bool {
        let mut may = true;
        self.each_page(segments, usize::MAX, |page| may &= *page != Page::Lent);
        may
    }

    /// Marks the first `bytes` of `segments` as written to.
    pub fn changed(&mut self, segments: &[Segment], bytes: i64) {
        self.each_page(segments, bytes.max(0) as usize, |page| {
            if *page == Page::Common {
                *page = Page::Own;
            }
        });
    }

    /// Marks the first `bytes` of `segments` as put into a pipe.
    pub fn lent(&mut self, segments: &[Segment], bytes: i64) {
        self.each_page(segments, bytes.max(0) as usize, |page| {
            if *page == Page::Common {
                *page = Page::Lent;
            }
        });
    }

    /// Calls `each` for the pages in the first `bytes` of `segments` that are copied on write.
    fn each_page(
        &mut self,
        segments: &[Segment],
        mut bytes: usize,
        mut each: impl FnMut(&mut Page),
    ) {
        for segment in segments {
            let len = segment.len.min(bytes);
            bytes -= len;
            let Address::In(region, at) = segment.address else {
                continue;
            };
            let Some(part) = self.parts.get_mut(&region).filter(|_| len > 0) else {
                continue;
            };
            let (first, last) = (at as usize / PAGE, (at as usize + len - 1) / PAGE);
            for page in part.pages.iter_mut().take(last + 1).skip(first) {
                each(page);
            }
        }
    }

    /// Returns the final content of each region.
    pub fn end(&self) -> Vec<String> {
        let private = (Region::Private, self.arena.hash(0, arena::LEN));
        let others = self.parts.keys().map(|&region| {
            let all = Segment {
                address: Address::In(region, 0),
                len: region.len(),
            };
            (region, self.hash(&all).unwrap_or(0))
        });
        std::iter::once(private)
            .chain(others)
            .map(|(region, hash)| format!("memory {region} {hash:016x}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(region: Region, at: usize, len: usize) -> Segment {
        Segment {
            address: Address::In(region, at as u32),
            len,
        }
    }

    fn with_memory(name: &str, test: impl FnOnce(&mut Memory<'_>)) {
        let folder = std::env::temp_dir().join(format!("memory-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let folders = Folders {
            tmpfs: folder.clone(),
            ext4: folder.clone(),
        };
        let (pool, huge) = (Pool::new(false).unwrap(), Huge::new(false).unwrap());
        let mut memory = Memory::new(&folders, &pool, &huge).unwrap();
        test(&mut memory);
        // The files have no name any more.
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(folder).unwrap();
    }

    #[test]
    fn every_region_can_be_read_and_most_be_written() {
        with_memory("all", |memory| {
            for region in [&Region::HUGE[..], &Region::SMALL].concat() {
                let all = segment(region, 0, region.len());
                memory.need(&[all]).unwrap();
                let before = memory.hash(&all).unwrap();
                if region.is_writable() {
                    memory.fill(&segment(region, region.len() - 10, 10), 77);
                    assert_ne!(memory.hash(&all), Some(before), "{region}");
                }
                assert_eq!(memory.arguments(&all)[0] % PAGE, 0);
            }
            assert_eq!(memory.end().len(), 13);
        });
    }

    #[test]
    fn what_was_lent_before_it_was_written_is_not_written() {
        with_memory("lent", |memory| {
            let at = |page: usize, len| segment(Region::Fresh, page * PAGE, len);
            memory.need(&[at(0, 1)]).unwrap();
            memory.changed(&[at(0, 2 * PAGE)], PAGE as i64);
            // A page that was written to, and one that was not.
            memory.lent(&[at(0, PAGE), at(1, 3 * PAGE)], PAGE as i64 + 1);
            assert!(memory.may_change(&[at(0, PAGE)]));
            assert!(!memory.may_change(&[at(0, PAGE + 1)]));
            assert!(memory.may_change(&[at(2, 62 * PAGE)]));
            // A call that fails changes no state.
            memory.lent(&[at(2, PAGE)], -11);
            assert!(memory.may_change(&[at(2, PAGE)]));
            // For pages that are not copied on write, everything is well defined.
            let shared = segment(Region::Shared, 0, PAGE);
            memory.need(&[shared]).unwrap();
            memory.lent(&[shared], PAGE as i64);
            assert!(memory.may_change(&[shared]));
        });
    }
}
