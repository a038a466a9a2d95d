// SPDX-License-Identifier: GPL-2.0

//! The kinds of memory that operations read from and write to.

use std::fmt;

use splice_memory::PAGE;

use crate::arena;

/// A kind of memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Region {
    /// Private memory, followed by a read-only and an inaccessible part.
    Private,
    /// Private memory that was never written to: a read returns the zero page.
    Fresh,
    /// Anonymous memory that is shared between processes.
    Shared,
    Thp,
    Hugetlb,
    /// A shared mapping of a file of hugetlb.
    HugetlbFile,
    Memfd,
    TmpfsShared,
    TmpfsPrivate,
    Ext4Shared,
    Ext4Private,
    /// A shared mapping of a file that is open for reading only.
    ReadOnly,
    ReadOnlyPrivate,
}

impl Region {
    /// The regions of huge pages.
    pub const HUGE: [Self; 3] = [Self::Thp, Self::Hugetlb, Self::HugetlbFile];

    /// The regions of small pages, except `Private`.
    pub const SMALL: [Self; 9] = [
        Self::Fresh,
        Self::Shared,
        Self::Memfd,
        Self::TmpfsShared,
        Self::TmpfsPrivate,
        Self::Ext4Shared,
        Self::Ext4Private,
        Self::ReadOnly,
        Self::ReadOnlyPrivate,
    ];

    /// The offset in a region of huge pages at which a huge page ends.
    pub const BOUNDARY: usize = 1 << 19;

    pub fn is_huge(self) -> bool {
        Self::HUGE.contains(&self)
    }

    /// Returns the length in bytes.
    pub fn len(self) -> usize {
        match self {
            Self::Private => arena::LEN,
            _ if self.is_huge() => 2 * Self::BOUNDARY,
            _ => 64 * PAGE,
        }
    }

    /// Returns the length of the part that is readable and, except in read-only regions, writable.
    pub fn usual(self) -> usize {
        match self {
            Self::Private => arena::WRITABLE,
            _ => self.len(),
        }
    }

    pub fn is_writable(self) -> bool {
        !matches!(self, Self::ReadOnly | Self::ReadOnlyPrivate)
    }

    /// Whether a page becomes exclusive to the program only when it is written to.
    ///
    /// If such a page is put into a pipe, a reader sees later writes if the kernel made the page
    /// exclusive for that, and does not see them if the kernel took a reference.
    pub fn is_copied_on_write(self) -> bool {
        matches!(self, Self::Fresh | Self::TmpfsPrivate | Self::Ext4Private)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Fresh => "fresh",
            Self::Shared => "shared",
            Self::Thp => "thp",
            Self::Hugetlb => "hugetlb",
            Self::HugetlbFile => "hugetlb-file",
            Self::Memfd => "memfd",
            Self::TmpfsShared => "tmpfs-shared",
            Self::TmpfsPrivate => "tmpfs-private",
            Self::Ext4Shared => "ext4-shared",
            Self::Ext4Private => "ext4-private",
            Self::ReadOnly => "read-only",
            Self::ReadOnlyPrivate => "read-only-private",
        })
    }
}
