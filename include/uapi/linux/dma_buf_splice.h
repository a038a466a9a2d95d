/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/dma_buf_splice: the data of a pipe as a dma-buf, without a copy. See
 * Documentation/filesystems/splice-dma-buf.rst.
 */
#ifndef _UAPI_LINUX_DMA_BUF_SPLICE_H
#define _UAPI_LINUX_DMA_BUF_SPLICE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* A flag of @flags: the new file descriptor is closed by execve(2). */
#define DMA_BUF_SPLICE_CLOEXEC	0x1

/*
 * A flag of @properties: devices and the CPU may write to the dma-buf. All of
 * its pages were allocated by the kernel for a pipe, and nothing else refers to
 * them. Without this flag the dma-buf can only be read.
 */
#define DMA_BUF_SPLICE_WRITABLE	0x1

/**
 * struct dma_buf_splice_export - argument of DMA_BUF_SPLICE_EXPORT
 * @flags: in: 0 or DMA_BUF_SPLICE_CLOEXEC; stays as it is
 * @fd: out: the file descriptor of the dma-buf
 * @properties: out: 0 or DMA_BUF_SPLICE_WRITABLE
 * @reserved: in: 0
 * @size: out: the size of the dma-buf in bytes, a multiple of the page size
 * @offset: out: where the data begins in the dma-buf, in bytes. This is 0,
 *	unless the data begins with the end of a page. All bytes before the data
 *	are 0
 * @bytes: out: the number of bytes of data. All bytes behind the data are 0
 * @copied: out: how many of these bytes the CPU copied; the others are in the
 *	pages that were in the pipe
 * @reserved2: in: 0
 */
struct dma_buf_splice_export {
	__u32 flags;
	__s32 fd;
	__u32 properties;
	__u32 reserved;
	__u64 size;
	__u64 offset;
	__u64 bytes;
	__u64 copied;
	__u64 reserved2[2];
};

/*
 * Make a dma-buf of the data that was spliced to /dev/dma_buf_splice since it
 * was opened, or since the last such call. Returns 0.
 *
 * ENODATA: no data was spliced to the device. EINVAL: a reserved field is not 0,
 * or a flag is unknown. EMFILE, ENFILE, ENOMEM, EFAULT: as for other calls that
 * create a file. If the call fails, the data stays for the next call.
 */
#define DMA_BUF_SPLICE_EXPORT	_IOWR(0xBB, 0x20, struct dma_buf_splice_export)

#endif
