// SPDX-License-Identifier: GPL-2.0

//! Splice: the transfers between files, pipes and sockets.
//!
//! There is one file for each kind of transfer. `ffi` has the functions that C calls, and the C
//! structs that they take. Only `ffi` has `unsafe` code.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h)

mod buffer_ops;
mod c_buffers_to_pipe;
mod debugfs;
mod dispatch;
mod ffi;
mod file_to_file;
mod file_to_pipe;
mod pipe_to_file;
mod pipe_to_pipe;
#[cfg(CONFIG_NET)]
mod pipe_to_socket;
mod pipe_to_terminal;
#[cfg(CONFIG_NET)]
mod socket_to_pipe;
mod stream_to_pipe;
mod uring;
mod write_some;

use kernel::prelude::*;

module! {
    type: Splice,
    name: "splice",
    authors: ["The splice developers"],
    description: "Splice in Rust",
    license: "GPL",
}

/// The built-in module. It keeps the files in debugfs for as long as the kernel runs.
struct Splice {
    _files: debugfs::Files,
}

impl kernel::Module for Splice {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        kernel::splice::check::init();
        Ok(Self {
            _files: debugfs::Files::new()?,
        })
    }
}
