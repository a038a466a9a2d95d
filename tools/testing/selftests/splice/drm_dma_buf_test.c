// SPDX-License-Identifier: GPL-2.0
/*
 * DRM imports what was spliced to /dev/dma_buf_splice. vgem attaches fences to
 * it, as a GPU does that reads or writes, and they are signalled on request.
 */
#include "dma_buf_common.h"

#include <drm/drm.h>
#include <drm/vgem_drm.h>

/* Returns a file of the DRM driver @name, or -1. */
static int drm_open(const char *name)
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

FIXTURE(fence) {
	int dev;
	int drm;
	int p[2];
	unsigned int handle;
	unsigned int fence;
	struct dma_buf_splice_export exp;
};

FIXTURE_VARIANT(fence) {
	bool private;
};

FIXTURE_VARIANT_ADD(fence, private) {
	.private = true,
};

FIXTURE_VARIANT_ADD(fence, shared) {
	.private = false,
};

FIXTURE_SETUP(fence)
{
	struct drm_prime_handle prime = {};
	ssize_t len = 4 * page_size();

	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->drm = drm_open("vgem");
	if (self->drm < 0)
		SKIP(return, "no DRM device of vgem");
	self->dev = dma_buf_open(_metadata, 0);
	make_pipe(_metadata, self->p);
	if (variant->private) {
		ASSERT_EQ(len, write_pattern(self->p[1], len, DATA, 0));
		ASSERT_EQ(len, xsplice(self->p[0], NULL, self->dev, NULL, len,
				       0));
	} else {
		int file = make_memfd(_metadata, len, DATA);

		ASSERT_EQ(len, xsendfile(self->dev, file, NULL, len));
	}
	dma_buf_expect(_metadata, self->dev, &self->exp, len, 0,
		       variant->private);
	prime.fd = self->exp.fd;
	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime)) {
		TH_LOG("%s", strerror(errno));
	}
	self->handle = prime.handle;
}

FIXTURE_TEARDOWN(fence)
{
}

/* The device begins to read, or to write. */
static void begin(struct __test_metadata *_metadata,
		  struct _test_data_fence *self, bool write)
{
	struct drm_vgem_fence_attach attach = {
		.handle = self->handle,
		.flags = write ? VGEM_FENCE_WRITE : 0,
	};

	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach));
	self->fence = attach.out_fence;
}

static void end(struct __test_metadata *_metadata,
		struct _test_data_fence *self)
{
	struct drm_vgem_fence_signal signal = { .fence = self->fence };

	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_VGEM_FENCE_SIGNAL, &signal));
}

TEST_F(fence, poll)
{
	int both = POLLIN | POLLOUT;

	EXPECT_EQ(both, poll_now(self->exp.fd, both));
	begin(_metadata, self, false);
	EXPECT_EQ(POLLIN, poll_now(self->exp.fd, both));
	end(_metadata, self);
	EXPECT_EQ(POLLOUT, poll_for(self->exp.fd, POLLOUT, 1000));
	begin(_metadata, self, true);
	EXPECT_EQ(0, poll_now(self->exp.fd, both));
	end(_metadata, self);
	EXPECT_EQ(POLLIN, poll_for(self->exp.fd, POLLIN, 1000));
}

/* A read of the CPU waits for a device that writes, not for one that reads. */
TEST_F_TIMEOUT(fence, sync, 30)
{
	struct dma_buf_sync arg = { .flags = DMA_BUF_SYNC_READ };
	struct job sync = {
		.nr = SYS_ioctl,
		.arg = { self->exp.fd, DMA_BUF_IOCTL_SYNC, (long)&arg },
	};

	begin(_metadata, self, false);
	EXPECT_EQ(0, job_call(&sync));
	end(_metadata, self);
	begin(_metadata, self, true);
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &sync));
	job_start(_metadata, &sync);
	job_wait_blocked(&sync);
	end(_metadata, self);
	EXPECT_EQ(0, job_finish(_metadata, &sync));
}

/* A write of the CPU waits for both, or is refused at once. */
TEST_F_TIMEOUT(fence, sync_write, 30)
{
	struct dma_buf_sync arg = { .flags = DMA_BUF_SYNC_WRITE };
	struct job sync = {
		.nr = SYS_ioctl,
		.arg = { self->exp.fd, DMA_BUF_IOCTL_SYNC, (long)&arg },
	};

	begin(_metadata, self, false);
	if (!variant->private) {
		EXPECT_EQ(-EACCES, job_call(&sync));
	} else {
		job_start(_metadata, &sync);
		job_wait_blocked(&sync);
	}
	end(_metadata, self);
	if (variant->private)
		EXPECT_EQ(0, job_finish(_metadata, &sync));
}

/* The import keeps the dma-buf, and with it the pages. */
TEST_F(fence, import_alone)
{
	struct drm_gem_close gem = { .handle = self->handle };
	ssize_t held = dma_buf_counter("bytes.held"), len = self->exp.size;

	close(self->exp.fd);
	close(self->dev);
	EXPECT_EQ(held, dma_buf_counter("bytes.held"));
	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_GEM_CLOSE, &gem));
	EXPECT_EQ(held - len, dma_buf_counter("bytes.held"));
}

TEST_HARNESS_MAIN
