// SPDX-License-Identifier: GPL-2.0

//! dma-bufs: memory that devices of different drivers share.
//!
//! - [`Exporter`] is the owner of memory. [`DmaBuf::export`] makes a dma-buf of it.
//! - [`Shared`] and [`Private`] say what may be done with the memory. An exporter chooses one of
//!   them; it has no callback in which it could allow more.
//! - [`DmaBuf`] is a reference to a dma-buf of any exporter.
//! - [`Attachment`] and [`MappedTable`] let a device use the memory.
//! - [`DmaBuf::wait`] and [`DmaBuf::begin_cpu_access`] wait for devices.
//!
//! # Locking
//!
//! The lock of the reservation object (`dma_buf::resv`) protects the list of mapped tables. C holds
//! it when it maps and unmaps tables and when it maps the memory for the kernel. The abstraction
//! takes it when the CPU begins or ends an access. Code of an exporter runs without the lock, and
//! has no way to take it, so no way to take it in the wrong order.
//!
//! Waiting for fences takes no lock. It is not done while the lock is held.
//!
//! # Scatter-gather tables
//!
//! [`SGTable`](crate::scatterlist::SGTable) makes the table from the memory's
//! [`AsSegments`](crate::scatterlist::AsSegments), within the limits of the device, and maps it.
//! The table owns a reference to the memory, so the memory is valid as long as it is mapped. It is
//! unmapped when the importer unmaps it, or when the device loses its driver, whichever is first.
//!
//! The importer gets a second table, which has DMA addresses and no pages. `CONFIG_DMABUF_DEBUG`
//! does the same for the tables of all exporters.
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
