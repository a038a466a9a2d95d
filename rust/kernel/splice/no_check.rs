// SPDX-License-Identifier: GPL-2.0

//! The check of audits in a kernel without `CONFIG_SPLICE_CHECK`: it is never on.

#![forbid(unsafe_code)]

use super::Pieces;
use crate::{
    pipe::{FunctionAddr, PipeBuffer, PipeRing}, //
};

/// Initializes the check.
pub fn init() {}

/// Returns `false`.
#[inline(always)]
pub fn is_on() -> bool {
    false
}

/// Does nothing.
#[inline(always)]
pub fn watch_pieces(_pieces: &Pieces<'_>, _sink: FunctionAddr) {}

/// Does nothing.
#[inline(always)]
pub fn watch_buffer(_buf: &PipeBuffer, _sink: FunctionAddr) {}

/// Does nothing.
#[inline(always)]
pub fn watch_ring(_ring: &mut PipeRing<'_>, _sink: FunctionAddr) {}
