// SPDX-License-Identifier: GPL-2.0

//! The kernel's pipe ring arithmetic, compiled for the host so that
//! `tests/properties.rs` can test it without a kernel.

#[path = "../../../../rust/kernel/pipe/ring.rs"]
pub mod ring;
