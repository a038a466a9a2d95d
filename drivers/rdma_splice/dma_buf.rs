// SPDX-License-Identifier: GPL-2.0

//! The parts of the driver `/dev/dma_buf_splice`.

mod counters;
mod export;
mod file;
mod uapi;

pub(crate) use counters::Shown;
pub(crate) use file::Device;
