// SPDX-License-Identifier: GPL-2.0

//! A library for LD_PRELOAD that replaces `/dev/udmabuf` for a QEMU whose host does not have
//! this device. QEMU needs it for `virtio-gpu-pci,blob=true`: it makes one buffer of
//! scattered pages of the guest, which it maps at once.
//!
//! The memory of the guest must be a shared memfd (`-object memory-backend-memfd,share=on`).
//! A buffer of this library is a memfd too, which contains no pages, but the list of pages
//! ([`list`]). To map it, the library maps the pages of the guest one after the other, so
//! that QEMU and the guest use the same memory, as they do with a real udmabuf. Only QEMU
//! can use such a buffer: it is not a dma-buf, and no device of the host can import it.

pub mod ffi;
pub mod list;
