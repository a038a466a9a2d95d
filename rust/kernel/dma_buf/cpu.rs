// SPDX-License-Identifier: GPL-2.0

//! Access of the CPU to the memory of a dma-buf: by user space and by the kernel.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/vmalloc.h`](srctree/include/linux/vmalloc.h)

use super::memory::sealed::Sealed;
use crate::{
    bindings,
    error::to_result,
    mm::virt::{flags, VmaNew},
    page::{PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
    scatterlist::AsSegments,
};
use core::ptr::NonNull;

/// An access of the CPU to the memory of a dma-buf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It reads. A device must not write meanwhile.
    Read,
    /// It writes, and may read. A device must neither read nor write meanwhile.
    Write,
}

impl Access {
    /// Returns the access for which C passes `dir`: the direction in which the data moves after a
    /// write of the CPU, or before a read.
    pub(super) fn of_direction(dir: bindings::dma_data_direction) -> Self {
        if dir == bindings::dma_data_direction::DMA_FROM_DEVICE {
            Self::Read
        } else {
            Self::Write
        }
    }

    /// Returns the direction that C uses for the access.
    pub(super) fn direction(self) -> bindings::dma_data_direction {
        match self {
            Self::Read => bindings::dma_data_direction::DMA_FROM_DEVICE,
            Self::Write => bindings::dma_data_direction::DMA_BIDIRECTIONAL,
        }
    }
}

/// The operations of a mapping. It has all of its page table entries from the beginning, so there
/// are no faults to handle. They replace the operations that an importer has set, which would find
/// objects of the importer behind the mapping.
static MAPPED: Operations = Operations(bindings::vm_operations_struct {
    ..pin_init::zeroed()
});

struct Operations(bindings::vm_operations_struct);

// SAFETY: The table is constant and consists of function pointers.
unsafe impl Sync for Operations {}

/// Maps the memory for user space, by page frames: others cannot take references to the pages from
/// the mapping. `process_vm_readv(2)` and direct I/O fail with `EFAULT` for it.
///
/// The caller is C's `dma_buf_mmap_internal` for the file of the dma-buf, or `dma_buf_mmap` for the
/// file of an importer. The mode of that file decides nothing: the flags of `vma` come from it, and
/// the kind of memory limits them here.
///
/// The mapping holds the file of the dma-buf, which keeps the memory. A fork copies the page table
/// entries, and `mremap(2)` moves them.
///
/// # Errors
///
/// - [`EACCES`]: the memory is for reading only, and the mapping is for writing. A mapping for
///   reading cannot be made writable later.
/// - [`EINVAL`]: the mapping is private. A write to it would copy the page.
/// - [`ENOMEM`]: the page tables cannot be allocated.
///
/// # Safety
///
/// `vma` must be in its initial setup and within the memory. The memory must stay valid as long as
/// the mapping exists.
pub(super) unsafe fn mmap<T: Sealed>(memory: &T, vma: *mut bindings::vm_area_struct) -> Result {
    // SAFETY: The caller guarantees that `vma` is in its initial setup.
    let new = unsafe { VmaNew::from_raw(vma) };
    // `VM_SHARED` is not set for a file that was opened for reading.
    if new.flags() & flags::MAYSHARE == 0 {
        return Err(EINVAL);
    }
    if !T::WRITABLE {
        if new.writable() {
            return Err(EACCES);
        }
        new.try_clear_maywrite()?;
    }
    // SAFETY: The vma is in its initial setup, so nothing else uses the fields.
    let (mut skip, prot) = unsafe {
        (*vma).vm_ops = &raw const MAPPED.0;
        ((*vma).vm_pgoff, (*vma).vm_page_prot)
    };
    let mut addr = new.start();
    for segment in memory.owner().segments() {
        let (frame, _) = segment.frame();
        let pages = segment.len() >> PAGE_SHIFT;
        if skip >= pages {
            skip -= pages;
            continue;
        }
        let len = ((pages - skip) << PAGE_SHIFT).min(new.end() - addr);
        // SAFETY: The pages are memory of the segment. The range is in the vma, which is in its
        // initial setup.
        to_result(unsafe { bindings::remap_pfn_range(vma, addr, frame + skip, len, prot) })?;
        addr += len;
        skip = 0;
        if addr == new.end() {
            break;
        }
    }
    Ok(())
}

/// Maps the memory for the kernel, read-only if it is for reading only. Returns [`ENOMEM`] if there
/// is no memory, and never fails because of what the caller wants to do: C does not tell that, and
/// warns if this fails.
///
/// An importer that writes to memory that is for reading only gets a page fault in the kernel. So C
/// code that writes to what user space passes asks `dma_buf_is_read_only()` before, and returns
/// `EACCES`; see `dma_buf_ops::read_only`. These importers are writeback connectors of DRM, capture
/// queues of V4L2, and the drivers vmwgfx and amdxdna.
///
/// All importers share one mapping, which C counts. It is unmapped by `->vunmap`.
pub(super) fn vmap<T: Sealed>(memory: &T) -> Result<NonNull<c_void>> {
    let bytes: usize = memory.owner().segments().map(|segment| segment.len()).sum();
    let mut pages = KVVec::with_capacity(bytes / PAGE_SIZE, GFP_KERNEL)?;
    for segment in memory.owner().segments() {
        let (frame, _) = segment.frame();
        for frame in frame..frame + (segment.len() >> PAGE_SHIFT) {
            // SAFETY: This is a page of the segment.
            pages.push(unsafe { bindings::pfn_to_page(frame) }, GFP_KERNEL)?;
        }
    }
    let count = u32::try_from(pages.len())?;
    // SAFETY: `pages` are `count` valid pages. `vunmap` is called before they become invalid,
    // because an importer's mapping is a user of the dma-buf.
    let addr = unsafe {
        if T::WRITABLE {
            bindings::vmap_kernel(pages.as_mut_ptr(), count)
        } else {
            bindings::vmap_kernel_ro(pages.as_mut_ptr(), count)
        }
    };
    NonNull::new(addr).ok_or(ENOMEM)
}

#[kunit_tests(rust_dma_buf_cpu)]
mod tests {
    use super::*;
    use crate::{
        dma_buf::{DmaBuf, Exporter, Memory, Private, Shared},
        page::PAGE_SIZE,
        splice::driver::WholePages,
        sync::{aref::ARef, Arc},
    };

    struct Pages<M>(M);

    #[vtable]
    impl<M: Memory> Exporter for Pages<M> {
        type Memory = M;
        const NAME: &'static CStr = c"kunit";

        fn memory(&self) -> &M {
            &self.0
        }
    }

    fn pages() -> Result<WholePages> {
        let mut pages = WholePages::new();
        pages.add_zeroed(2, GFP_KERNEL)?;
        Ok(pages)
    }

    fn export<M: Memory>(memory: M) -> Result<ARef<DmaBuf>> {
        DmaBuf::export(Pages(memory)).map_err(|(err, _exporter)| err)
    }

    /// Maps a dma-buf for the kernel, and tries to write to its second page, as an importer could.
    /// Returns whether that is possible.
    fn can_be_written(buf: &DmaBuf) -> Result<bool> {
        let mut map = bindings::iosys_map::default();
        // SAFETY: The dma-buf is valid. The write is to its second page, and a fault of it is
        // handled. The mapping is not used after its end.
        unsafe {
            to_result(bindings::dma_buf_vmap_unlocked(buf.as_raw(), &raw mut map))?;
            let addr = map.__bindgen_anon_1.vaddr.byte_add(PAGE_SIZE);
            let byte = 1u8;
            let ret = bindings::copy_to_kernel_nofault(addr, (&raw const byte).cast(), 1);
            bindings::dma_buf_vunmap_unlocked(buf.as_raw(), &raw mut map);
            Ok(ret == 0)
        }
    }

    #[test]
    fn shared_memory_is_mapped_read_only() -> Result {
        let buf = export(Shared::new(Arc::new(pages()?, GFP_KERNEL)?))?;
        assert!(!can_be_written(&buf)?);
        Ok(())
    }

    #[test]
    fn private_memory_can_be_written() -> Result {
        let private = pages()?.into_private().map_err(|_pages| EINVAL)?;
        let buf = export(Private::new(Arc::new(private, GFP_KERNEL)?))?;
        assert!(can_be_written(&buf)?);
        Ok(())
    }

    // Two importers share one mapping, which ends with the second of them.
    #[test]
    fn two_mappings_for_the_kernel() -> Result {
        let buf = export(Shared::new(Arc::new(pages()?, GFP_KERNEL)?))?;
        let mut map = bindings::iosys_map::default();
        // SAFETY: The dma-buf is valid, and the mapping is not used after its end.
        unsafe { to_result(bindings::dma_buf_vmap_unlocked(buf.as_raw(), &raw mut map))? };
        assert!(!can_be_written(&buf)?);
        // SAFETY: The mapping still exists.
        let first = unsafe { *map.__bindgen_anon_1.vaddr.cast::<u8>() };
        assert_eq!(first, 0);
        // SAFETY: The mapping was made above.
        unsafe { bindings::dma_buf_vunmap_unlocked(buf.as_raw(), &raw mut map) };
        Ok(())
    }

    #[test]
    fn access_for_writing_is_refused() -> Result {
        let buf = export(Shared::new(Arc::new(pages()?, GFP_KERNEL)?))?;
        assert_eq!(buf.begin_cpu_access(Access::Write).err(), Some(EACCES));
        let access = buf.begin_cpu_access(Access::Read)?;
        access.end()
    }
}
