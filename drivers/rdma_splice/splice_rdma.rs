// SPDX-License-Identifier: GPL-2.0

//! `/dev/rdma_splice`: streams to and from other machines over RDMA, which splice(2) moves data to
//! and from: see Documentation/filesystems/splice-rdma.rst.
//!
//! If data is spliced to a connection, the adapter reads it from the pages of the pipe. If data is
//! spliced from a connection, the pipe gets pages that the adapter has written to.

#![forbid(unsafe_code)]

mod rdma;

use kernel::{
    debugfs,
    miscdevice::{MiscDeviceOptions, MiscDeviceRegistration},
    prelude::*,
    splice, InPlaceModule,
};
use rdma::{Device, Shown};

#[pin_data]
struct RdmaModule {
    #[pin]
    device: MiscDeviceRegistration<Device>,
    #[pin]
    counters: debugfs::File<Shown>,
}

impl InPlaceModule for RdmaModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let options = MiscDeviceOptions {
            name: c"rdma_splice",
        };
        let dir = splice::debugfs_dir().subdir(c"rdma");
        try_pin_init!(Self {
            device <- MiscDeviceRegistration::register(options),
            counters <- dir.read_only_file(c"counters", Shown),
        })
    }
}

module! {
    type: RdmaModule,
    name: "splice_rdma",
    authors: ["The splice developers"],
    description: "Splice to and from other machines over RDMA",
    license: "GPL",
    params: {
        keepalive_ms: u32 {
            default: 10_000,
            description: "The time after which a silent peer is given up, in milliseconds",
        },
    },
}
