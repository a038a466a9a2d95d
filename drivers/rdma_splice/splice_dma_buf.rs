// SPDX-License-Identifier: GPL-2.0

//! `/dev/dma_buf_splice`: the data of a pipe as a dma-buf, without a copy: see
//! Documentation/filesystems/splice-dma-buf.rst.
//!
//! Data that is spliced to the file is gathered as whole pages. An ioctl makes a dma-buf of them,
//! which DRM and other drivers import.

#![forbid(unsafe_code)]

mod dma_buf;

use dma_buf::{Device, Shown};
use kernel::{
    debugfs,
    miscdevice::{MiscDeviceOptions, MiscDeviceRegistration},
    prelude::*,
    splice, InPlaceModule,
};

#[pin_data]
struct DmaBufModule {
    #[pin]
    device: MiscDeviceRegistration<Device>,
    #[pin]
    counters: debugfs::File<Shown>,
}

impl InPlaceModule for DmaBufModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let options = MiscDeviceOptions {
            name: c"dma_buf_splice",
        };
        let dir = splice::debugfs_dir().subdir(c"dma_buf");
        try_pin_init!(Self {
            device <- MiscDeviceRegistration::register(options),
            counters <- dir.read_only_file(c"counters", Shown),
        })
    }
}

module! {
    type: DmaBufModule,
    name: "splice_dma_buf",
    authors: ["The splice developers"],
    description: "The data of a pipe as a dma-buf",
    license: "GPL",
    imports_ns: ["DMA_BUF"],
    params: {
        most_kib: u32 {
            default: 65_536,
            description: "The largest size of a dma-buf, in KiB",
        },
    },
}
