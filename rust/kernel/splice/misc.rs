// SPDX-License-Identifier: GPL-2.0

//! The splice operations of misc devices.
//!
//! [`MiscDevice`] declares the same four operations as [`SpliceDevice`] (`splice_in`, `splice_out`,
//! `poll` and `fsync`), so that the driver of a misc device implements one trait for all of its
//! file operations. [`MiscSplice`] turns the one into the other: `miscdevice.rs` passes it to
//! [`with_splice`](super::device::with_splice), which adds the operations to the table of file
//! operations. An operation that the driver leaves out stays null there.
//!
//! A driver does not use this module itself. It defines the operations that it supports in its
//! `impl MiscDevice`. If it defines `splice_in` or `splice_out`, its files are opened with
//! `stream_open`: they have no position, and an offset that a caller of `splice(2)` gives fails
//! with [`ESPIPE`].
//!
//! The context in which the operations run, the locks that are held, and the errors are those of
//! [`SpliceDevice`].
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

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

/// The [`SpliceDevice`] of a [`MiscDevice`]. All of its operations are those of `T`.
///
/// A separate type is needed because [`SpliceDevice`] cannot be implemented for every
/// [`MiscDevice`] at once: drivers that are no misc devices implement it themselves.
pub(crate) struct MiscSplice<T>(PhantomData<T>);

#[vtable]
impl<T: MiscDevice> SpliceDevice for MiscSplice<T> {
    type Ptr = T::Ptr;
    type OwnerModule = T::OwnerModule;

    // `#[vtable]` would set these constants for each function below. The constants of `T` tell
    // which of them the driver implements.
    const HAS_SPLICE_IN: bool = T::HAS_SPLICE_IN;
    const HAS_SPLICE_OUT: bool = T::HAS_SPLICE_OUT;
    const HAS_POLL: bool = T::HAS_POLL;
    const HAS_FSYNC: bool = T::HAS_FSYNC;

    // Each function passes its arguments on to the driver.
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
