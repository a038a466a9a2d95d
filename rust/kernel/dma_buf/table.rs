// SPDX-License-Identifier: GPL-2.0

//! The scatter-gather table that an importer gets.
//!
//! C header: [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)

use crate::{
    bindings,
    device::{Bound, Device},
    error::to_result,
    prelude::*,
    scatterlist::{Owned, SGTable},
    sync::Arc,
};

/// A table of the memory that `M` owns, mapped for a device.
pub(super) type Table<M> = Pin<KBox<SGTable<Owned<Arc<M>>>>>;

/// A device that accesses memory through an IOMMU, which translates its addresses. Such a device
/// can access only what is mapped for it, and only in the direction of the mapping.
///
/// The second half of this is not true of all IOMMUs. The API has no question for it: a driver that
/// is asked for a mapping without `IOMMU_WRITE` and cannot make one maps for both directions, and
/// reports success. These drivers of Linux ignore the direction:
///
/// - MediaTek (`mtk_iommu.c`), with `IO_PGTABLE_QUIRK_NO_PERMS`, and its first version
///   (`mtk_iommu_v1.c`),
/// - Spreadtrum (`sprd-iommu.c`), whose entries have no bits for permissions.
///
/// So there is a list of architectures, and not of exceptions. It has x86, of which each IOMMU
/// enforces the direction by bits of its page tables: Intel VT-d (`generic_pt/fmt/vtdss.h`, and
/// `x86_64.h` for tables of the first stage), AMD-Vi (`amdv1.h`), and virtio-iommu, where the
/// hypervisor does it (`VIRTIO_IOMMU_MAP_F_WRITE`). The tests show it for the emulated VT-d
/// (`edu_dma_buf_denied_test`). Another architecture joins the list when this is known of all of
/// its IOMMUs.
pub(super) struct IommuOnly<'a>(&'a Device<Bound>);

impl<'a> IommuOnly<'a> {
    /// Whether every IOMMU of this architecture keeps a device from writing to memory that is
    /// mapped for reading.
    const ENFORCED: bool = cfg!(CONFIG_X86);

    /// Returns `None` if the DMA API does not use an IOMMU for the device, or one that may not
    /// enforce the direction: there is none, or it is in passthrough mode, or its driver does not
    /// use the DMA layer for IOMMUs, or the architecture is not x86.
    pub(super) fn new(dev: &'a Device<Bound>) -> Option<Self> {
        // SAFETY: `dev` is a bound device, so the pointer is valid.
        let translated = unsafe { bindings::use_dma_iommu(dev.as_raw()) };
        (Self::ENFORCED && translated).then_some(Self(dev))
    }

    pub(super) fn device(&self) -> &'a Device<Bound> {
        self.0
    }
}

/// A table that is mapped for a device, and the table of its DMA addresses that the importer gets.
///
/// The importer's table has no pages. An importer that had them could map them for the CPU, or for
/// another device, around the rules of the memory.
///
/// # Invariants
///
/// `visible` is a table that `sg_alloc_table` made.
#[repr(C)]
pub(super) struct Mapping<M> {
    visible: bindings::sg_table,
    table: Table<M>,
}

impl<M> Mapping<M> {
    /// Creates the table for the importer. Returns [`ENOMEM`] if there is no memory.
    pub(super) fn new(table: Table<M>) -> Result<KBox<Self>> {
        let entries = u32::try_from(table.iter().count())?;
        let mut visible = bindings::sg_table {
            ..pin_init::zeroed()
        };
        // SAFETY: `visible` is room for a table.
        to_result(unsafe {
            bindings::sg_alloc_table(&raw mut visible, entries, GFP_KERNEL.as_raw())
        })?;
        let mut next = visible.sgl;
        for entry in table.iter() {
            // SAFETY: The table was allocated with as many entries as the other table has.
            // CAST: The length of an entry is a c_uint in C.
            unsafe {
                bindings::sg_set_dma(next, entry.dma_address(), entry.dma_len() as u32);
                next = bindings::sg_next(next);
            }
        }
        // INVARIANT: The table was allocated above.
        let this = Self { visible, table };
        Ok(KBox::new(this, GFP_KERNEL)?)
    }

    /// Returns the table that is mapped.
    pub(super) fn table(&self) -> &Table<M> {
        &self.table
    }

    /// Hands the mapping over to C, as the importer's table.
    pub(super) fn into_raw(this: KBox<Self>) -> *mut bindings::sg_table {
        KBox::into_raw(this).cast()
    }

    /// Takes a mapping back from C.
    ///
    /// # Safety
    ///
    /// `raw` must come from [`Self::into_raw`] and must not be used again.
    pub(super) unsafe fn from_raw(raw: *mut bindings::sg_table) -> KBox<Self> {
        // SAFETY: The importer's table is the first field, so the pointer is that of the box (see
        // `# Safety`).
        unsafe { KBox::from_raw(raw.cast()) }
    }
}

impl<M> Drop for Mapping<M> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this is a table of `sg_alloc_table`. Nothing uses it any
        // more.
        unsafe { bindings::sg_free_table(&raw mut self.visible) };
    }
}
