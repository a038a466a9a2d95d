// SPDX-License-Identifier: GPL-2.0

//! The sizes of pages, in bytes.

/// A page.
pub const PAGE: usize = 4096;

/// A huge page.
pub const HUGE_PAGE: usize = 2 << 20;
