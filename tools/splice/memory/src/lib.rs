// SPDX-License-Identifier: GPL-2.0

//! Memory whose physical pages are of a known kind and order.

mod huge;
mod mapping;
mod noncontiguous;
mod size;

pub use huge::{huge_file, hugetlb, hugetlb_file, thp, Reserve};
pub use mapping::Mapping;
pub use noncontiguous::noncontiguous;
pub use size::{HUGE_PAGE, PAGE};
