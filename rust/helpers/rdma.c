// SPDX-License-Identifier: GPL-2.0

#if defined(CONFIG_RUST_SPLICE) && defined(CONFIG_INFINIBAND) && \
	defined(CONFIG_INFINIBAND_ADDR_TRANS)

#include <linux/nsproxy.h>
#include <rdma/ib_verbs.h>
#include <rdma/rdma_cm.h>

/* Returns the network namespace of the current task, which keeps it alive. */
__rust_helper struct net *rust_helper_rdma_current_net(void)
{
	return current->nsproxy->net_ns;
}

/* connection manager */

__rust_helper struct rdma_cm_id *
rust_helper_rdma_create_id(struct net *net, rdma_cm_event_handler handler,
			   void *context)
{
	return rdma_create_id(net, handler, context, RDMA_PS_TCP, IB_QPT_RC);
}

__rust_helper bool rust_helper_rdma_is_iwarp(const struct rdma_cm_id *id)
{
	return id->device && rdma_cap_iw_cm(id->device, id->port_num);
}

/* verbs */

__rust_helper struct ib_pd *rust_helper_rdma_alloc_pd(struct ib_device *device)
{
	return ib_alloc_pd(device, 0);
}

__rust_helper void rust_helper_ib_dealloc_pd(struct ib_pd *pd)
{
	ib_dealloc_pd(pd);
}

__rust_helper struct ib_cq *rust_helper_rdma_alloc_cq(struct ib_device *device,
						      void *context, int nr)
{
	return ib_alloc_cq_any(device, context, nr, IB_POLL_WORKQUEUE);
}

__rust_helper int rust_helper_ib_post_send(struct ib_qp *qp,
					   const struct ib_send_wr *wr,
					   const struct ib_send_wr **bad)
{
	return ib_post_send(qp, wr, bad);
}

__rust_helper int rust_helper_ib_post_recv(struct ib_qp *qp,
					   const struct ib_recv_wr *wr,
					   const struct ib_recv_wr **bad)
{
	return ib_post_recv(qp, wr, bad);
}

/* memory */

__rust_helper u64 rust_helper_ib_dma_map_single(struct ib_device *device,
						void *addr, size_t size,
						enum dma_data_direction dir)
{
	return ib_dma_map_single(device, addr, size, dir);
}

__rust_helper u64 rust_helper_ib_dma_map_page(struct ib_device *device,
					      struct page *page,
					      unsigned long offset, size_t size,
					      enum dma_data_direction dir)
{
	return ib_dma_map_page(device, page, offset, size, dir);
}

__rust_helper void rust_helper_ib_dma_unmap_page(struct ib_device *device,
						 u64 addr, size_t size,
						 enum dma_data_direction dir)
{
	ib_dma_unmap_page(device, addr, size, dir);
}

__rust_helper int rust_helper_ib_dma_mapping_error(struct ib_device *device,
						   u64 addr)
{
	return ib_dma_mapping_error(device, addr);
}

__rust_helper unsigned int
rust_helper_ib_dma_max_seg_size(struct ib_device *device)
{
	return ib_dma_max_seg_size(device);
}

/* Returns the boundary that no entry crosses, as a mask. */
__rust_helper unsigned long
rust_helper_rdma_seg_boundary(struct ib_device *device)
{
	if (ib_uses_virt_dma(device))
		return ULONG_MAX;
	return dma_get_seg_boundary(device->dma_device);
}

#endif
