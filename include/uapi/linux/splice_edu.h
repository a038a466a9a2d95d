/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/splice-eduN: the edu device of QEMU as an importer of dma-bufs, for tests.
 */
#ifndef _UAPI_LINUX_SPLICE_EDU_H
#define _UAPI_LINUX_SPLICE_EDU_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* A flag of @flags: the device writes to the dma-buf, and does not read it. */
#define SPLICE_EDU_WRITE	0x1

/**
 * struct splice_edu_transfer - argument of SPLICE_EDU_TRANSFER
 * @fd: in: the file descriptor of a dma-buf
 * @flags: in: 0 or SPLICE_EDU_WRITE
 * @offset: in: where the bytes begin in the dma-buf
 * @bytes: in: the number of bytes. They must be in one page of 4096 bytes
 * @reserved: in: 0
 */
struct splice_edu_transfer {
	__s32 fd;
	__u32 flags;
	__u64 offset;
	__u32 bytes;
	__u32 reserved;
};

/*
 * Map a dma-buf for the device, in both directions, and transfer bytes by DMA
 * between it and the memory of the device. Bytes that the device has read come
 * out of the file as if they had been spliced to it. Bytes that it writes are
 * those that are at the beginning of its memory: what it has read last.
 *
 * EBUSY: the device has other transfers. ENODATA: it is to write more bytes than
 * it has read last. EACCES: the dma-buf cannot be mapped for both directions.
 */
#define SPLICE_EDU_TRANSFER	_IOW(0xBB, 0x30, struct splice_edu_transfer)

#endif
