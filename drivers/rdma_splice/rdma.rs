// SPDX-License-Identifier: GPL-2.0

//! Connections over RDMA as files.
//!
//! - `file`: the operations of the files. `uapi`: what user space passes to them.
//! - `connection`: how a connection begins and ends, and the events in between. `state`: its state.
//! - `transfer`: splice, poll and fsync.
//! - `listener`: peers that wait.
//! - `protocol`: the messages and their rules, without input and output.
//! - `pages`: the pages to receive into.
//! - `counters`: statistics in debugfs.

mod connection;
mod counters;
mod file;
mod listener;
mod pages;
mod protocol;
mod state;
mod transfer;
mod uapi;

pub(crate) use counters::Shown;
pub(crate) use file::Device;
