// SPDX-License-Identifier: GPL-2.0

//! Memory of which it is known what it is made of.

mod huge;
mod mapping;
mod noncontiguous;

pub use huge::{huge_file, hugetlb, hugetlb_file, thp, Reserve};
pub use mapping::Mapping;
pub use noncontiguous::noncontiguous;

/// A page.
pub const PAGE: usize = 4096;

/// A huge page.
pub const HUGE_PAGE: usize = 2 << 20;
