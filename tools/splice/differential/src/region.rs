// SPDX-License-Identifier: GPL-2.0

//! The kinds of memory that operations read from and write to.

use std::fmt;

use splice_memory::PAGE;

use crate::arena;

/// What memory is made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Region {
    /// Private memory, with parts that cannot be written, and that are not accessible.
    Private,
    /// Private memory that nobody has written to: what is read is a page of zeros that
    /// everybody has.
    Fresh,
    /// Memory that another process could share.
    Shared,
    Thp,
    Hugetlb,
    /// A file of hugetlb, shared.
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
    /// Those in huge pages.
    pub const HUGE: [Self; 3] = [Self::Thp, Self::Hugetlb, Self::HugetlbFile];

    /// Those in small ones, but for the one that is always there.
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

    /// In this one a huge page ends.
    pub const BOUNDARY: usize = 1 << 19;

    pub fn is_huge(self) -> bool {
        Self::HUGE.contains(&self)
    }

    /// How long it is.
    pub fn len(self) -> usize {
        match self {
            Self::Private => arena::LEN,
            _ if self.is_huge() => 2 * Self::BOUNDARY,
            _ => 64 * PAGE,
        }
    }

    /// So much of it can be read, and but for read-only memory be written.
    pub fn usual(self) -> usize {
        match self {
            Self::Private => arena::WRITABLE,
            _ => self.len(),
        }
    }

    pub fn is_writable(self) -> bool {
        !matches!(self, Self::ReadOnly | Self::ReadOnlyPrivate)
    }

    /// Whether a page becomes the program's own only by being written to.
    ///
    /// When such a page is in a pipe, the reader sees what is written to it afterwards if it had
    /// to be made the program's own for that, and not if a reference was enough.
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
