// SPDX-License-Identifier: GPL-2.0

//! `vmsplice(2)`: user memory into a pipe by reference, and out of a pipe by copying.
//!
//! `ffi` contains the functions that C calls. It is the only file with `unsafe` code.

mod fdinfo;
mod ffi;
mod ioctl;
mod memory_to_pipe;
mod pipe_to_memory;
mod syscall;

use kernel::prelude::*;

module! {
    type: Vmsplice,
    name: "vmsplice",
    authors: ["The splice developers"],
    description: "vmsplice in Rust",
    license: "GPL",
}

/// The type that `module!` needs. It has no state.
struct Vmsplice;

impl kernel::Module for Vmsplice {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
