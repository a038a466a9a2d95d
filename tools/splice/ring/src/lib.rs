// SPDX-License-Identifier: GPL-2.0

//! The kernel's pipe ring arithmetic, compiled for the host so that
//! `tests/properties.rs` can test it without a kernel; and a model of the
//! reservation of pipe slots, for `tests/reservation.rs`.

pub mod reservation;
#[path = "../../../../rust/kernel/pipe/index.rs"]
pub mod ring;
