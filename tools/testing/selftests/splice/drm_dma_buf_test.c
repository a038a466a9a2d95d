// SPDX-License-Identifier: GPL-2.0
/*
 * DRM imports what was spliced to /dev/dma_buf_splice. vgem attaches fences to
 * it, as a GPU does that reads or writes, and they are signalled on request.
 */
#include "dma_buf_common.h"

#include <drm/vgem_drm.h>
#include <sys/epoll.h>

FIXTURE(fence) {
	int dev;
	int drm;
	int p[2];
	int q[2];
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
	ssize_t len = 4 * page_size();

	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->drm = drm_open("vgem");
	if (self->drm < 0)
		SKIP(return, "no DRM device of vgem");
	self->dev = dma_buf_open(_metadata, 0);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
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
	self->handle = drm_import(_metadata, self->drm, self->exp.fd);
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

/* Splicing from the device waits for a device that writes. */
static ssize_t take(struct _test_data_fence *self, unsigned int flags)
{
	return xsplice(self->dev, NULL, self->q[1], NULL, page_size(), flags);
}

static void expect_taken(struct __test_metadata *_metadata,
			 struct _test_data_fence *self, ssize_t ret, int page)
{
	EXPECT_EQ(page_size(), ret);
	EXPECT_EQ(page_size(), read_pattern(self->q[0], page_size(), DATA,
					    page * page_size()));
}

TEST_F(fence, read_back_nonblock)
{
	begin(_metadata, self, false);
	EXPECT_EQ(POLLIN, poll_now(self->dev, POLLIN));
	expect_taken(_metadata, self, take(self, SPLICE_F_NONBLOCK), 0);
	end(_metadata, self);
	begin(_metadata, self, true);
	EXPECT_EQ(0, poll_now(self->dev, POLLIN));
	EXPECT_EQ(-EAGAIN, take(self, SPLICE_F_NONBLOCK));
	set_nonblock(_metadata, self->dev, true);
	EXPECT_EQ(-EAGAIN, take(self, 0));
	set_nonblock(_metadata, self->dev, false);
	EXPECT_EQ(0, pipe_bytes(self->q[0]));
	end(_metadata, self);
	EXPECT_EQ(POLLIN, poll_now(self->dev, POLLIN));
	expect_taken(_metadata, self, take(self, SPLICE_F_NONBLOCK), 1);
}

TEST_F_TIMEOUT(fence, read_back_waits, 30)
{
	struct job splice = job_splice(self->dev, self->q[1], page_size());

	begin(_metadata, self, true);
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &splice));
	EXPECT_EQ(0, pipe_bytes(self->q[0]));
	job_start(_metadata, &splice);
	job_wait_blocked(&splice);
	/* The pipe can be used meanwhile. */
	ASSERT_EQ(10, write_pattern(self->q[1], 10, DATA + 1, 0));
	EXPECT_EQ(10, read_pattern(self->q[0], 10, DATA + 1, 0));
	end(_metadata, self);
	expect_taken(_metadata, self, job_finish(_metadata, &splice), 0);
	/* The device writes again, while the data is in the pipe. */
	expect_taken(_metadata, self, take(self, 0), 1);
	begin(_metadata, self, true);
	EXPECT_EQ(-EAGAIN, take(self, SPLICE_F_NONBLOCK));
	end(_metadata, self);
}

TEST_F_TIMEOUT(fence, read_back_poll, 30)
{
	struct pollfd pfd = { .fd = self->dev, .events = POLLIN };
	struct job poll = job_poll(&pfd), second = job_poll(&pfd);
	int i;

	for (i = 0; i < 3; i++) {
		begin(_metadata, self, true);
		job_start(_metadata, &poll);
		job_wait_blocked(&poll);
		job_start(_metadata, &second);
		job_wait_blocked(&second);
		EXPECT_EQ(0, poll_now(self->dev, POLLIN));
		end(_metadata, self);
		EXPECT_EQ(1, job_finish(_metadata, &poll));
		EXPECT_EQ(1, job_finish(_metadata, &second));
		EXPECT_EQ(POLLIN, pfd.revents);
	}
}

/* epoll registers once. The set is replaced while it waits. */
TEST_F_TIMEOUT(fence, read_back_epoll, 30)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(0);
	ssize_t len = page_size();

	ASSERT_LE(0, ep);
	begin(_metadata, self, true);
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, self->dev, &event));
	EXPECT_EQ(0, epoll_wait(ep, &event, 1, 0));
	ASSERT_EQ(len, write_pattern(self->p[1], len, DATA, 0));
	ASSERT_EQ(len, xsplice(self->p[0], NULL, self->dev, NULL, len, 0));
	close(self->exp.fd);
	dma_buf_expect(_metadata, self->dev, &self->exp, len, 0, true);
	EXPECT_EQ(1, epoll_wait(ep, &event, 1, 1000));
	expect_taken(_metadata, self, take(self, 0), 0);
	EXPECT_EQ(0, take(self, 0));
	end(_metadata, self);
	close(self->dev);
	close(ep);
}

/* The file is closed while it follows a fence, which is signalled later. */
TEST_F(fence, read_back_closed)
{
	begin(_metadata, self, true);
	EXPECT_EQ(0, poll_now(self->dev, POLLIN));
	close(self->dev);
	end(_metadata, self);
	EXPECT_EQ(POLLIN, poll_for(self->exp.fd, POLLIN, 1000));
}

/* An import is enough of a user. */
TEST_F(fence, read_back_import)
{
	struct drm_gem_close gem = { .handle = self->handle };

	close(self->exp.fd);
	expect_taken(_metadata, self, take(self, 0), 0);
	ASSERT_EQ(0, ioctl(self->drm, DRM_IOCTL_GEM_CLOSE, &gem));
	EXPECT_EQ(-ENODATA, take(self, 0));
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
