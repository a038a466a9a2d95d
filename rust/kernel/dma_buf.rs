// SPDX-License-Identifier: GPL-2.0

//! dma-bufs: memory that devices of different drivers share.
//!
//! - [`Exporter`] is the owner of memory. [`DmaBuf::export`] makes a dma-buf of it.
//! - [`Shared`] and [`Private`] say what may be done with the memory. An exporter chooses one of
//!   them; it has no callback in which it could allow more.
//! - [`DmaBuf`] is a reference to a dma-buf of any exporter, and [`Link`] one that does not keep
//!   the dma-buf alive.
//! - [`Attachment`] and [`MappedTable`] let a device use the memory.
//! - [`DmaBuf::wait`] and [`DmaBuf::begin_cpu_access`] wait for devices, and [`FenceWatch`] is for
//!   `poll(2)`.
//!
//! # Ownership
//!
//! ```text
//!  file descriptor, import, user mapping     MappedTable of an importer
//!                  |                                    |
//!                  v                                    v
//!               DmaBuf (counted: its file) <------- Attachment
//!                  |                                    |
//!                  v                                    v
//!              Exporter  ---->  Arc of the memory <---- table that is mapped
//! ```
//!
//! The exporter's value, and with it the memory, lives until the last reference to the [`DmaBuf`]
//! is gone: a file descriptor, an import, an attachment, or a mapping of user space. The module of
//! the exporter stays loaded as long. A table that is mapped has a reference to the memory of its
//! own, so an importer that forgets to unmap leaks memory, and does not let a device access memory
//! that was freed.
//!
//! Nothing in C has a pointer to the pages: an importer gets DMA addresses, user space gets page
//! frames, from which it cannot take references, and the kernel gets an address.
//!
//! # Locking
//!
//! This is the first question that is asked of an abstraction of dma-bufs: who takes the lock of
//! the reservation object (`dma_buf::resv`), and how is a wrong order excluded?
//!
//! The lock protects the list of tables that are mapped. C holds it when it maps and unmaps tables
//! and when it maps the memory for the kernel. The abstraction takes it when the CPU begins or ends
//! an access. Code of an exporter runs without the lock, with one exception, and has no way to take
//! it, so no way to take it in the wrong order. The exception is [`AsSegments::segments`], which
//! runs inside of the lock when the memory is mapped, and only iterates.
//!
//! | function | lock | may sleep |
//! | --- | --- | --- |
//! | [`Exporter::memory`], [`Exporter::link`] | none | yes |
//! | [`Exporter::attach`] | none | yes |
//! | [`Attachment::map`], drop of [`MappedTable`] | taken by C | yes |
//! | [`DmaBuf::begin_cpu_access`], [`CpuAccess::end`] | taken after all waits | yes |
//! | [`DmaBuf::wait`] | none | yes |
//! | [`FenceWatch::is_ready`] | a mutex of its own | for the mutex |
//! | [`Link::get`] | a mutex of its own | for the mutex |
//! | drop of an [`Exporter`] | none | yes |
//!
//! Waiting for fences takes no lock. It is not done while the lock is held, nor while a pipe is
//! locked.
//!
//! # Scatter-gather tables
//!
//! This is the second question: who makes the table, and how long is it valid?
//!
//! [`SGTable`](crate::scatterlist::SGTable) makes the table from the memory's [`AsSegments`],
//! within the limits of the device rounded down to whole pages, and maps it. The exporter has no
//! part in it, so it cannot make a table of other memory, of a part of a page, or for another
//! direction than the kind of memory allows. The table owns a reference to the memory, so the
//! memory is valid as long as it is mapped. It is unmapped when the importer unmaps it, or when the
//! device loses its driver, whichever is first.
//!
//! The importer gets a second table, which has DMA addresses and no pages. `CONFIG_DMABUF_DEBUG`
//! does the same for the tables of all exporters.
//!
//! # Errors
//!
//! A function that takes a value and fails returns the value with the error ([`DmaBuf::export`]),
//! so that the caller can try again with the same memory. [`EACCES`] always means that memory is
//! for reading only, or that a device could write to it in spite of that. No right is given up on
//! the way of an error, and none is checked at another place than where memory is mapped.
//!
//! [`AsSegments`]: crate::scatterlist::AsSegments
//! [`AsSegments::segments`]: crate::scatterlist::AsSegments::segments
//! [`EACCES`]: crate::error::code::EACCES
//!
//! C headers: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h),
//! [`include/linux/dma-resv.h`](srctree/include/linux/dma-resv.h)
//!
//! Reference: <https://docs.kernel.org/driver-api/dma-buf.html>

mod buf;
mod cpu;
mod export;
mod fence;
mod import;
mod link;
mod memory;
mod table;
mod uapi;

pub use buf::{CpuAccess, DmaBuf};
pub use cpu::Access;
pub use export::Exporter;
pub use fence::FenceWatch;
pub use import::{Attachment, MappedTable};
pub use link::Link;
pub use memory::{Memory, Private, Shared};
