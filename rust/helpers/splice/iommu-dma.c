// SPDX-License-Identifier: GPL-2.0

#include <linux/iommu-dma.h>

__rust_helper bool rust_helper_use_dma_iommu(struct device *dev)
{
	return use_dma_iommu(dev);
}
