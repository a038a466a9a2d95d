/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers for the tests of /dev/dma_buf_splice. */
#ifndef DMA_BUF_COMMON_H
#define DMA_BUF_COMMON_H

#include <drm/drm.h>
#include <linux/dma-buf.h>
#include <linux/dma_buf_splice.h>

#include "device_common.h"

#define DMA_BUF_NODE	"dma_buf_splice"
#define DMA_BUF_MODULE	"splice_dma_buf"
#define NO_DMA_BUF	"no /dev/" DMA_BUF_NODE " (module " DMA_BUF_MODULE ")"

/* The seed of the data. */
#define DATA 1

/* The largest dma-buf of the driver, by default. */
#define DMA_BUF_MOST	(64 << 20)

static inline bool have_dma_buf(void)
{
	have_counters();
	return have_node(DMA_BUF_NODE, DMA_BUF_MODULE);
}

static inline int dma_buf_open(struct __test_metadata *_metadata, int flags)
{
	return open_node(_metadata, DMA_BUF_NODE, O_RDWR | flags);
}

static inline ssize_t dma_buf_counter(const char *name)
{
	return node_counter("dma_buf", name);
}

/* Makes a dma-buf of what was spliced to @dev; returns 0 or the errno. */
static inline ssize_t dma_buf_export(int dev, struct dma_buf_splice_export *exp)
{
	*exp = (struct dma_buf_splice_export) { .fd = -1 };
	return or_errno(ioctl(dev, DMA_BUF_SPLICE_EXPORT, exp));
}

/* Expects a dma-buf of @bytes at the beginning, of which @copied are copied. */
static inline void dma_buf_expect(struct __test_metadata *_metadata, int dev,
				  struct dma_buf_splice_export *exp,
				  ssize_t bytes, ssize_t copied, bool writable)
{
	ssize_t page = page_size();

	ASSERT_EQ(0, dma_buf_export(dev, exp));
	ASSERT_LE(0, exp->fd);
	EXPECT_EQ(bytes, exp->bytes);
	EXPECT_EQ(copied, exp->copied);
	EXPECT_EQ(0, exp->offset);
	EXPECT_EQ((bytes + page - 1) / page * page, exp->size);
	EXPECT_EQ(exp->size, lseek(exp->fd, 0, SEEK_END));
	EXPECT_EQ(writable ? DMA_BUF_SPLICE_WRITABLE : 0, exp->properties);
	EXPECT_EQ(writable ? O_RDWR : O_RDONLY,
		  fcntl(exp->fd, F_GETFL) & O_ACCMODE);
}

/* Maps all of a dma-buf; returns NULL and sets errno if that fails. */
static inline char *dma_buf_map(const struct dma_buf_splice_export *exp,
				int prot)
{
	void *mem = mmap(NULL, exp->size, prot, MAP_SHARED, exp->fd, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

/* Begins or ends an access of the CPU; returns 0 or the negated errno. */
static inline ssize_t dma_buf_sync(int fd, __u64 flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	return or_errno(ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync));
}

/*
 * Expects that the pattern from @pos on is the data of a dma-buf, and that all
 * other bytes are 0.
 */
static inline void dma_buf_expect_data(struct __test_metadata *_metadata,
				       const struct dma_buf_splice_export *exp,
				       unsigned int seed, loff_t pos)
{
	char *mem = dma_buf_map(exp, PROT_READ);
	ssize_t end = exp->offset + exp->bytes;

	ASSERT_NE(NULL, mem) {
		TH_LOG("mmap: %s", strerror(errno));
	}
	EXPECT_EQ(0, dma_buf_sync(exp->fd, DMA_BUF_SYNC_READ));
	EXPECT_EQ(exp->offset, match_byte(mem, exp->offset, 0));
	EXPECT_EQ(exp->bytes,
		  match_pattern(mem + exp->offset, exp->bytes, seed, pos));
	EXPECT_EQ(exp->size - end, match_byte(mem + end, exp->size - end, 0));
	EXPECT_EQ(0, dma_buf_sync(exp->fd,
				  DMA_BUF_SYNC_READ | DMA_BUF_SYNC_END));
	munmap(mem, exp->size);
}

/* Moves @len bytes from @in through a pipe of its own to @dev. */
static inline ssize_t dma_buf_gather(int in, int dev, ssize_t len)
{
	return relay_bytes(in, dev, len);
}

/* Returns a file of the DRM driver @name, or -1. */
static inline int drm_open(const char *name)
{
	char path[64], found[32];
	struct drm_version version;
	int i, fd;

	for (i = 0; i < 16; i++) {
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR);
		if (fd < 0)
			continue;
		version = (struct drm_version) {
			.name = found, .name_len = sizeof(found) - 1,
		};
		if (!ioctl(fd, DRM_IOCTL_VERSION, &version)) {
			found[version.name_len] = 0;
			if (!strcmp(found, name))
				return fd;
		}
		close(fd);
	}
	return -1;
}

/* Imports a dma-buf; returns its handle. */
static inline unsigned int drm_import(struct __test_metadata *_metadata,
				      int drm, int buf)
{
	struct drm_prime_handle prime = { .fd = buf };

	ASSERT_EQ(0, ioctl(drm, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime)) {
		TH_LOG("%s", strerror(errno));
	}
	return prime.handle;
}

#endif /* DMA_BUF_COMMON_H */
