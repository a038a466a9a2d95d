// SPDX-License-Identifier: GPL-2.0

//! The sizes of pages, in bytes.

/// The size of a page.
pub const PAGE: usize = 4096;

/// The size of a huge page.
pub const HUGE_PAGE: usize = 2 << 20;
