// SPDX-License-Identifier: GPL-2.0

#if defined(CONFIG_RUST_SPLICE) && defined(CONFIG_DMA_SHARED_BUFFER)

#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/scatterlist.h>
#include <linux/vmalloc.h>

__rust_helper void rust_helper_get_dma_buf(struct dma_buf *dmabuf)
{
	get_dma_buf(dmabuf);
}

/* reservation objects */

__rust_helper enum dma_resv_usage rust_helper_dma_resv_usage_rw(bool write)
{
	return dma_resv_usage_rw(write);
}

__rust_helper void rust_helper_dma_resv_iter_begin(struct dma_resv_iter *cursor,
						   struct dma_resv *obj,
						   enum dma_resv_usage usage)
{
	dma_resv_iter_begin(cursor, obj, usage);
}

__rust_helper void rust_helper_dma_resv_iter_end(struct dma_resv_iter *cursor)
{
	dma_resv_iter_end(cursor);
}

/* fences */

__rust_helper struct dma_fence *rust_helper_dma_fence_get(struct dma_fence *fence)
{
	return dma_fence_get(fence);
}

__rust_helper void rust_helper_dma_fence_put(struct dma_fence *fence)
{
	dma_fence_put(fence);
}

/* scatter-gather tables */

/* Makes @sg an entry that has only a DMA address. */
__rust_helper void rust_helper_sg_set_dma(struct scatterlist *sg, dma_addr_t addr,
					  unsigned int len)
{
	sg_dma_address(sg) = addr;
	sg_dma_len(sg) = len;
}

/* mappings of the CPU */

__rust_helper void *rust_helper_vmap_kernel(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL);
}

__rust_helper void *rust_helper_vmap_kernel_ro(struct page **pages,
					       unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL_RO);
}

#endif
