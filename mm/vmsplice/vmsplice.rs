// SPDX-License-Identifier: GPL-2.0

//! vmsplice: user memory into a pipe, by reference, and out of it, by copying.
//!
//! `ffi` is where C calls, and the only file with `unsafe`.

mod entry;
mod fdinfo;
mod ffi;
mod memory_to_pipe;
mod notify;
mod pipe_to_memory;

use kernel::prelude::*;

module! {
    type: Vmsplice,
    name: "vmsplice",
    authors: ["The splice developers"],
    description: "vmsplice in Rust",
    license: "GPL",
}

/// Nothing: a name for the owner of the tables of operations.
struct Vmsplice;

impl kernel::Module for Vmsplice {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
