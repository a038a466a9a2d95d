// SPDX-License-Identifier: GPL-2.0
/*
 * Splicing from /dev/dma_buf_splice: the data of the set that was exported last
 * comes out once, by reference, and its pages are not private. See
 * drm_dma_buf_test and edu_dma_buf_test for devices that write to it before.
 */
#include "dma_buf_common.h"
#include "splice_memory.h"
#include "splice_notify.h"

#include <linux/userfaultfd.h>

#define BOTH (POLLIN | POLLOUT)

FIXTURE(back) {
	int dev;
	int p[2];
	int q[2];
	ssize_t page;
	struct dma_buf_splice_export exp;
};

FIXTURE_SETUP(back)
{
	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->dev = dma_buf_open(_metadata, 0);
	self->page = page_size();
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
}

FIXTURE_TEARDOWN(back)
{
}

/* Makes a private dma-buf of @len bytes of the pattern. */
static void export_private(struct __test_metadata *_metadata,
			   struct _test_data_back *self, ssize_t len,
			   unsigned int seed)
{
	ASSERT_EQ(len, write_pattern(self->p[1], len, seed, 0));
	ASSERT_EQ(len, xsplice(self->p[0], NULL, self->dev, NULL, len, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, len, len % self->page,
		       true);
}

static ssize_t take(struct _test_data_back *self, ssize_t len)
{
	return xsplice(self->dev, NULL, self->q[1], NULL, len, 0);
}

/* Expects that what is in the second pipe becomes a dma-buf for reading only. */
static void expect_shared(struct __test_metadata *_metadata,
			  struct _test_data_back *self, ssize_t len)
{
	int dev = dma_buf_open(_metadata, 0);
	struct dma_buf_splice_export exp;

	ASSERT_EQ(len, xsplice(self->q[0], NULL, dev, NULL, len, 0));
	dma_buf_expect(_metadata, dev, &exp, len, 0, false);
	dma_buf_expect_data(_metadata, &exp, DATA, 0);
	close(exp.fd);
	close(dev);
}

TEST_F(back, nothing)
{
	EXPECT_EQ(POLLOUT, poll_now(self->dev, BOTH));
	EXPECT_EQ(-ENODATA, take(self, 1));
	/* Data that was not exported does not come back. */
	ASSERT_EQ(self->page, write_pattern(self->p[1], self->page, DATA, 0));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	EXPECT_EQ(POLLOUT, poll_now(self->dev, BOTH));
	EXPECT_EQ(-ENODATA, take(self, 1));
}

TEST_F(back, arguments)
{
	int wronly = dma_buf_open(_metadata, 0);
	loff_t pos = 0;

	export_private(_metadata, self, self->page, DATA);
	EXPECT_EQ(-ESPIPE, xsplice(self->dev, &pos, self->q[1], NULL, 1, 0));
	close(wronly);
	wronly = open("/dev/" DMA_BUF_NODE, O_WRONLY);
	ASSERT_LE(0, wronly);
	EXPECT_EQ(-EBADF, xsplice(wronly, NULL, self->q[1], NULL, 1, 0));
	/* None of these took anything. */
	ASSERT_EQ(self->page, take(self, self->page));
	EXPECT_EQ(self->page, read_pattern(self->q[0], self->page, DATA, 0));
}

/* The data comes out once for each export, in any parts. */
TEST_F(back, once)
{
	static const ssize_t parts[] = { 1, 4095, 4096, 5000, 3, 100000 };
	ssize_t returned = dma_buf_counter("bytes.returned");
	ssize_t len = 5 * self->page + 100, sum, ret;
	int i, j;

	ASSERT_LE(0, returned);
	for (j = 0; j < 2; j++) {
		export_private(_metadata, self, len, DATA + j);
		sum = 0;
		for (i = 0; sum < len; i++) {
			EXPECT_EQ(BOTH, poll_now(self->dev, BOTH));
			ret = take(self, parts[i]);
			ASSERT_LT(0, ret);
			ASSERT_EQ(ret, read_pattern(self->q[0], ret, DATA + j,
						    sum));
			sum += ret;
		}
		EXPECT_EQ(len, sum);
		EXPECT_EQ(0, take(self, 1));
		EXPECT_EQ(POLLOUT, poll_now(self->dev, BOTH));
		close(self->exp.fd);
	}
	EXPECT_EQ(returned + 2 * len, dma_buf_counter("bytes.returned"));
}

/* More than a pipe can have: the rest comes later. */
TEST_F(back, full_pipe)
{
	ssize_t len = 40 * self->page, sum, ret;
	int file = make_memfd(_metadata, len, DATA);

	ASSERT_EQ(len, dma_buf_gather(file, self->dev, len));
	dma_buf_expect(_metadata, self->dev, &self->exp, len, 0, false);
	for (sum = 0; sum < len; sum += ret) {
		ret = take(self, len);
		ASSERT_LT(0, ret);
		/* The pipe is full, or the data is at its end. */
		EXPECT_EQ(sum + ret < len ? -EAGAIN : 0,
			  xsplice(self->dev, NULL, self->q[1], NULL, 1,
				  SPLICE_F_NONBLOCK));
		ASSERT_EQ(ret, read_pattern(self->q[0], ret, DATA, sum));
	}
	EXPECT_EQ(len, sum);
}

TEST_F(back, to_a_file)
{
	ssize_t len = 20 * self->page + 1;
	int file = make_memfd(_metadata, len, DATA);
	int out = memfd_create("out", 0);

	ASSERT_LE(0, out);
	ASSERT_EQ(len, dma_buf_gather(file, self->dev, len));
	dma_buf_expect(_metadata, self->dev, &self->exp, len, 1, false);
	ASSERT_EQ(len, relay_bytes(self->dev, out, len));
	expect_file(_metadata, out, len, DATA, 0);
}

/* The zeroes around the data do not come out. */
TEST_F(back, part_of_a_page)
{
	int file = make_memfd(_metadata, 4 * self->page, DATA);
	ssize_t len = 2 * self->page;

	ASSERT_EQ(100, lseek(file, 100, SEEK_SET));
	ASSERT_EQ(len, dma_buf_gather(file, self->dev, len));
	ASSERT_EQ(0, dma_buf_export(self->dev, &self->exp));
	ASSERT_EQ(100, self->exp.offset);
	ASSERT_EQ(len, take(self, 4 * len));
	EXPECT_EQ(len, read_pattern(self->q[0], len, DATA, 100));
	EXPECT_EQ(0, take(self, 1));
}

/* The pages are in the dma-buf and in the pipe: there is one memory. */
TEST_F(back, by_reference)
{
	ssize_t copied = dma_buf_counter("bytes.copied");
	ssize_t len = 2 * self->page;
	char *mem;

	export_private(_metadata, self, len, DATA);
	mem = dma_buf_map(&self->exp, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(len, take(self, len));
	fill_pattern(mem, len, DATA + 1, 0);
	EXPECT_EQ(len, read_pattern(self->q[0], len, DATA + 1, 0));
	EXPECT_EQ(copied, dma_buf_counter("bytes.copied"));
	munmap(mem, len);
}

/* A page that can be written to through a dma-buf is not private, now or later. */
TEST_F(back, not_private)
{
	ssize_t len = 2 * self->page;

	export_private(_metadata, self, len, DATA);
	ASSERT_EQ(len, take(self, len));
	expect_shared(_metadata, self, len);

	/* The same when the dma-buf is gone. */
	close(self->exp.fd);
	export_private(_metadata, self, len, DATA);
	ASSERT_EQ(len, take(self, len));
	close(self->exp.fd);
	expect_shared(_metadata, self, len);
}

/* A write to the pipe does not go to the page of a dma-buf. */
TEST_F(back, not_appended)
{
	char *mem;

	export_private(_metadata, self, 100, DATA);
	ASSERT_EQ(100, take(self, 100));
	ASSERT_EQ(100, write_pattern(self->q[1], 100, DATA, 100));
	EXPECT_EQ(200, read_pattern(self->q[0], 200, DATA, 0));
	mem = dma_buf_map(&self->exp, PROT_READ);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(self->page - 100, match_byte(mem + 100, self->page - 100, 0));
	munmap(mem, self->page);
}

/* The page cache stays the page cache. */
TEST_F(back, page_cache)
{
	ssize_t len = 2 * self->page;
	int file = make_memfd(_metadata, len, DATA);

	ASSERT_EQ(len, xsendfile(self->dev, file, NULL, len));
	dma_buf_expect(_metadata, self->dev, &self->exp, len, 0, false);
	ASSERT_EQ(len, take(self, len));
	close(self->exp.fd);
	EXPECT_EQ(-EBUSY, or_errno(fcntl(file, F_ADD_SEALS, F_SEAL_WRITE)));
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	ASSERT_EQ(len, write_pattern(file, len, DATA + 1, 0));
	EXPECT_EQ(len, read_pattern(self->q[0], len, DATA + 1, 0));
	expect_unreferenced(_metadata, file);
}

/* The notification waits for the dma-buf and for the pipe. */
TEST_F(back, notification)
{
	ssize_t len = 4 * self->page;
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	fill_pattern(mem, len, DATA, 0);
	ASSERT_EQ(len, xnotify(self->p[1], mem, len));
	ASSERT_EQ(len, xsplice(self->p[0], NULL, self->dev, NULL, len, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, len, 0, false);
	ASSERT_EQ(self->page, take(self, self->page));
	close(self->exp.fd);
	EXPECT_EQ(0, released(self->p[1]));
	EXPECT_EQ(self->page, read_pattern(self->q[0], self->page, DATA, 0));
	/* The open device does not keep the pages. */
	EXPECT_EQ(1, released(self->p[1]));
}

/* The device does not keep the dma-buf, and a pipe keeps what it has. */
TEST_F(back, gone)
{
	ssize_t held = dma_buf_counter("bytes.held");
	ssize_t len = 2 * self->page;

	ASSERT_LE(0, held);
	export_private(_metadata, self, len, DATA);
	ASSERT_EQ(self->page, take(self, self->page));
	close(self->exp.fd);
	EXPECT_EQ(held, dma_buf_counter("bytes.held"));
	EXPECT_EQ(-ENODATA, take(self, 1));
	/* A call does not wait. */
	EXPECT_EQ(POLLIN | POLLOUT, poll_now(self->dev, BOTH));
	EXPECT_EQ(self->page, read_pattern(self->q[0], self->page, DATA, 0));
}

/* A descriptor for the path alone keeps the dma-buf, but is no user of it. */
TEST_F(back, gone_but_for_its_path)
{
	ssize_t bufs = dma_buf_counter("bufs");
	char path[40];
	int fd;

	export_private(_metadata, self, self->page, DATA);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->exp.fd);
	fd = open(path, O_PATH);
	ASSERT_LE(0, fd);
	close(self->exp.fd);
	EXPECT_EQ(-ENODATA, take(self, 1));
	EXPECT_EQ(POLLIN | POLLOUT, poll_now(self->dev, BOTH));
	EXPECT_EQ(bufs + 1, dma_buf_counter("bufs"));
	close(fd);
	EXPECT_EQ(bufs, dma_buf_counter("bufs"));
	EXPECT_EQ(-ENODATA, take(self, 1));
}

/* A mapping is enough of a user. */
TEST_F(back, mapping)
{
	char *mem;

	export_private(_metadata, self, self->page, DATA);
	mem = dma_buf_map(&self->exp, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	close(self->exp.fd);
	fill_pattern(mem, self->page, DATA + 1, 0);
	ASSERT_EQ(self->page, take(self, self->page));
	EXPECT_EQ(self->page, read_pattern(self->q[0], self->page, DATA + 1,
					   0));
	munmap(mem, self->page);
}

/* An export replaces the set before it, as far as that was read or not. */
TEST_F(back, replaced)
{
	struct dma_buf_splice_export first;

	export_private(_metadata, self, 2 * self->page, DATA);
	first = self->exp;
	ASSERT_EQ(100, take(self, 100));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
	export_private(_metadata, self, self->page, DATA + 1);
	ASSERT_EQ(self->page, take(self, 2 * self->page));
	EXPECT_EQ(self->page, read_pattern(self->q[0], self->page, DATA + 1,
					   0));
	EXPECT_EQ(0, take(self, 1));
	dma_buf_expect_data(_metadata, &first, DATA, 0);
	/* A failed export does not. */
	EXPECT_EQ(-ENODATA, dma_buf_export(self->dev, &self->exp));
	EXPECT_EQ(0, take(self, 1));
}

/* An export wakes those that wait for data. */
TEST_F_TIMEOUT(back, poll_waits_for_export, 30)
{
	struct pollfd pfd = { .fd = self->dev, .events = POLLIN };
	struct job poll = job_poll(&pfd);

	job_start(_metadata, &poll);
	job_wait_blocked(&poll);
	export_private(_metadata, self, self->page, DATA);
	EXPECT_EQ(1, job_finish(_metadata, &poll));
	EXPECT_EQ(POLLIN, pfd.revents);
}

/* What waits in the pipe for room is not lost. */
TEST_F_TIMEOUT(back, waits_for_room, 30)
{
	ssize_t full = fill_pipe(_metadata, self->q[1], DATA);
	struct job splice = job_splice(self->dev, self->q[1], self->page);

	export_private(_metadata, self, self->page, DATA + 1);
	EXPECT_EQ(-EAGAIN, xsplice(self->dev, NULL, self->q[1], NULL,
				   self->page, SPLICE_F_NONBLOCK));
	job_start(_metadata, &splice);
	job_wait_blocked(&splice);
	ASSERT_EQ(full, read_pattern(self->q[0], full, DATA, 0));
	EXPECT_EQ(self->page, job_finish(_metadata, &splice));
	EXPECT_EQ(self->page, read_pattern(self->q[0], self->page, DATA + 1,
					   0));
}

/*
 * A page that can be read, and whose write fault waits: the ioctl reads its
 * argument, and waits when it writes the result.
 */
FIXTURE(busy) {
	int dev;
	int p[2];
	int uffd;
	ssize_t page;
	struct dma_buf_splice_export *arg;
	struct dma_buf_splice_export exp;
	struct job export;
};

static int protect(struct _test_data_busy *self, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)self->arg, self->page },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(self->uffd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

static int make_protected(struct _test_data_busy *self)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_WP };

	self->arg = mmap(NULL, self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (self->arg == MAP_FAILED)
		return -errno;
	memset(self->arg, 0, self->page);
	self->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (self->uffd < 0)
		return -errno;
	reg.range.start = (unsigned long)self->arg;
	reg.range.len = self->page;
	if (ioctl(self->uffd, UFFDIO_API, &api) ||
	    ioctl(self->uffd, UFFDIO_REGISTER, &reg))
		return -errno;
	return protect(self, true);
}

FIXTURE_SETUP(busy)
{
	struct uffd_msg msg;
	int ret;

	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->dev = dma_buf_open(_metadata, 0);
	self->page = page_size();
	make_pipe(_metadata, self->p);
	ret = make_protected(self);
	if (ret)
		SKIP(return, "no write protection by userfaultfd: %s",
		     strerror(-ret));
	ASSERT_EQ(self->page, write_pattern(self->p[1], self->page, DATA, 0));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, self->dev, NULL,
				      self->page, 0));
	self->export = (struct job) {
		.nr = SYS_ioctl,
		.arg = { self->dev, DMA_BUF_SPLICE_EXPORT, (long)self->arg },
	};
	job_start(_metadata, &self->export);
	ASSERT_EQ((ssize_t)sizeof(msg), xread(self->uffd, &msg, sizeof(msg)));
	ASSERT_EQ(UFFD_EVENT_PAGEFAULT, msg.event);
}

FIXTURE_TEARDOWN(busy)
{
}

/* The ioctl ends, and its dma-buf has what was gathered before. */
static void expect_exported(struct __test_metadata *_metadata,
			    struct _test_data_busy *self)
{
	ASSERT_EQ(0, protect(self, false));
	ASSERT_EQ(0, job_finish(_metadata, &self->export));
	EXPECT_EQ(self->page, self->arg->bytes);
	dma_buf_expect_data(_metadata, self->arg, DATA, 0);
}

/* fdinfo and poll() do not wait for the ioctl, and tell about it. */
TEST_F_TIMEOUT(busy, shown, 30)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->dev);
	EXPECT_EQ(1, read_line_of(path, "dma-buf-busy:"));
	EXPECT_GT(0, read_line_of(path, "dma-buf-bytes:"));
	EXPECT_EQ(0, poll_now(self->dev, BOTH));
	expect_exported(_metadata, self);
	EXPECT_EQ(0, read_line_of(path, "dma-buf-bytes:"));
	EXPECT_EQ(BOTH, poll_now(self->dev, BOTH));
}

/* A splice to the device waits, and its data is in the next set. */
TEST_F_TIMEOUT(busy, gather, 30)
{
	struct job splice = job_splice(self->p[0], self->dev, self->page);

	ASSERT_EQ(self->page, write_pattern(self->p[1], self->page, DATA,
					    self->page));
	EXPECT_EQ(-EAGAIN, xsplice(self->p[0], NULL, self->dev, NULL,
				   self->page, SPLICE_F_NONBLOCK));
	EXPECT_EQ(self->page, pipe_bytes(self->p[0]));
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &splice));
	EXPECT_EQ(self->page, pipe_bytes(self->p[0]));
	job_start(_metadata, &splice);
	job_wait_blocked(&splice);
	expect_exported(_metadata, self);
	EXPECT_EQ(self->page, job_finish(_metadata, &splice));
	dma_buf_expect(_metadata, self->dev, &self->exp, self->page, 0, true);
	dma_buf_expect_data(_metadata, &self->exp, DATA, self->page);
}

/* A second ioctl waits, and finds nothing then. */
TEST_F_TIMEOUT(busy, export, 30)
{
	struct job export = {
		.nr = SYS_ioctl,
		.arg = { self->dev, DMA_BUF_SPLICE_EXPORT, (long)&self->exp },
	};

	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &export));
	job_start(_metadata, &export);
	job_wait_blocked(&export);
	expect_exported(_metadata, self);
	EXPECT_EQ(-ENODATA, job_finish(_metadata, &export));
}

TEST_HARNESS_MAIN
