// SPDX-License-Identifier: GPL-2.0

//! The program's memory that data is moved from and to.

use anyhow::Result;
use rustix::mm::MapFlags;
use splice_memory::{hugetlb, separate, thp, Mapping, Reserve, HUGE_PAGE, PAGE};

/// What memory is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Small pages, as they come.
    Ordinary,
    /// Small pages of which no two that follow each other are neighbours in physical memory.
    Separate,
    /// Transparent huge pages.
    Thp,
    /// Huge pages of hugetlb.
    Hugetlb,
}

/// What to do where there is no memory of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Fails. Huge pages are reserved before.
    Required,
    /// Takes ordinary memory.
    Any,
}

/// So many bytes from the start of a page on, all of them written to.
pub struct Memory {
    mapping: Mapping,
    len: usize,
}

impl Memory {
    /// Memory with `content` in it.
    pub fn new(kind: Kind, source: Source, content: &[u8]) -> Result<Self> {
        let len = content.len();
        let (small, huge) = (len.div_ceil(PAGE), len.div_ceil(HUGE_PAGE));
        let ordinary = || Mapping::anonymous(small * PAGE, MapFlags::PRIVATE);
        let reserve = match source {
            Source::Required => Reserve::Missing,
            Source::Any => Reserve::No,
        };
        let mapping = match kind {
            Kind::Ordinary => ordinary(),
            Kind::Separate => separate(small),
            Kind::Thp => thp(huge),
            Kind::Hugetlb => hugetlb(huge, reserve),
        };
        let mapping = match source {
            Source::Required => mapping?,
            Source::Any => mapping.or_else(|_| ordinary())?,
        };
        let mut memory = Self { mapping, len };
        memory.bytes_mut().copy_from_slice(content);
        Ok(memory)
    }

    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: It is private memory of this value, which is borrowed.
        unsafe { &self.mapping.bytes()[..self.len] }
    }

    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: It is private memory of this value, which is borrowed exclusively.
        unsafe { &mut self.mapping.bytes_mut()[..self.len] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_starts_at_a_page_and_holds_what_it_was_given() {
        for kind in [Kind::Ordinary, Kind::Separate, Kind::Thp, Kind::Hugetlb] {
            for len in [100, PAGE, 16 * PAGE] {
                let content = vec![7; len];
                let memory = Memory::new(kind, Source::Any, &content).unwrap();
                assert_eq!(memory.bytes(), content);
                assert_eq!(memory.bytes().as_ptr() as usize % PAGE, 0);
            }
        }
    }
}
