// SPDX-License-Identifier: GPL-2.0

//! Connections of `/dev/rdma_splice`, for programs.

pub mod address;
pub mod connection;
pub mod explain;
pub mod ffi;
pub mod size;
