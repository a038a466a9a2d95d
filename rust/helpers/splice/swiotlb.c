// SPDX-License-Identifier: GPL-2.0

#include <linux/dma-direct.h>
#include <linux/swiotlb.h>

__rust_helper phys_addr_t rust_helper_dma_to_phys(struct device *dev, dma_addr_t addr)
{
	return dma_to_phys(dev, addr);
}

__rust_helper bool rust_helper_is_swiotlb_buffer(struct device *dev, phys_addr_t addr)
{
	return swiotlb_find_pool(dev, addr);
}
