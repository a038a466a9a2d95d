// SPDX-License-Identifier: GPL-2.0

//! Misc devices as ends of a transfer.

#![forbid(unsafe_code)]

use super::{FromPipe, PollEvents, SpliceDevice, ToPipe};
use crate::{
    fs::File,
    miscdevice::MiscDevice,
    prelude::*,
    sync::poll::PollTable,
    types::ForeignOwnable, //
};
use core::marker::PhantomData;

/// What a [`MiscDevice`] has of [`SpliceDevice`].
pub(crate) struct MiscSplice<T>(PhantomData<T>);

#[vtable]
impl<T: MiscDevice> SpliceDevice for MiscSplice<T> {
    type Ptr = T::Ptr;
    type OwnerModule = T::OwnerModule;

    const HAS_SPLICE_IN: bool = T::HAS_SPLICE_IN;
    const HAS_SPLICE_OUT: bool = T::HAS_SPLICE_OUT;
    const HAS_POLL: bool = T::HAS_POLL;
    const HAS_FSYNC: bool = T::HAS_FSYNC;

    fn splice_in(
        device: <T::Ptr as ForeignOwnable>::Borrowed<'_>,
        file: &File,
        pipe: &mut ToPipe<'_>,
    ) -> Result {
        T::splice_in(device, file, pipe)
    }

    fn splice_out(
        device: <T::Ptr as ForeignOwnable>::Borrowed<'_>,
        file: &File,
        bufs: &mut FromPipe<'_>,
    ) -> Result {
        T::splice_out(device, file, bufs)
    }

    fn poll(
        device: <T::Ptr as ForeignOwnable>::Borrowed<'_>,
        file: &File,
        table: PollTable<'_>,
    ) -> PollEvents {
        T::poll(device, file, table)
    }

    fn fsync(device: <T::Ptr as ForeignOwnable>::Borrowed<'_>, file: &File) -> Result {
        T::fsync(device, file)
    }
}
