// SPDX-License-Identifier: GPL-2.0
/*
 * A device with a DMA engine imports what was spliced to /dev/dma_buf_splice. It
 * asks for both directions, as most importers do. It may write to private pages
 * only, and may access others only behind an IOMMU.
 */
#include "dma_buf_common.h"
#include "edu_common.h"

/* A seed for what the device writes. */
#define OTHER 7

FIXTURE(import) {
	int dev;
	int edu;
	int p[2];
	bool iommu;
	struct dma_buf_splice_export exp;
};

FIXTURE_SETUP(import)
{
	if (!have_edu(0))
		SKIP(return, NO_EDU);
	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	if (page_size() != EDU_PAGE)
		SKIP(return, "the device has memory of 4 KiB");
	self->edu = edu_open_empty(_metadata, 0);
	self->iommu = edu_has_iommu(0);
	self->dev = dma_buf_open(_metadata, 0);
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(import)
{
}

/* Makes a private dma-buf of @pages pages of the pattern. */
static void export_private(struct __test_metadata *_metadata,
			   struct _test_data_import *self, int pages,
			   unsigned int seed)
{
	ssize_t len = pages * EDU_PAGE;

	ASSERT_EQ(len, write_pattern(self->p[1], len, seed, 0));
	ASSERT_EQ(len, xsplice(self->p[0], NULL, self->dev, NULL, len, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, len, 0, true);
}

static void export_file(struct __test_metadata *_metadata,
			struct _test_data_import *self, int file, ssize_t len)
{
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	ASSERT_EQ(len, xsendfile(self->dev, file, NULL, len));
	dma_buf_expect(_metadata, self->dev, &self->exp, len, len % EDU_PAGE,
		       false);
}

/* Puts a page of the pattern into the memory of the device. */
static void fill_device(struct __test_metadata *_metadata,
			struct _test_data_import *self, unsigned int seed)
{
	struct dma_buf_splice_export old = self->exp;

	export_private(_metadata, self, 1, seed);
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, 0, 0, EDU_PAGE));
	ASSERT_EQ(EDU_PAGE, receive_pattern(self->edu, EDU_PAGE, seed, 0));
	close(self->exp.fd);
	self->exp = old;
}

TEST_F_TIMEOUT(import, bad_arguments, 60)
{
	struct splice_edu_transfer arg = { .bytes = 1, .reserved = 1 };

	export_private(_metadata, self, 2, DATA);
	EXPECT_EQ(-EINVAL, edu_transfer(self->edu, self->exp.fd, 2, 0, 1));
	EXPECT_EQ(-EINVAL, edu_transfer(self->edu, self->exp.fd, 0, 0, 0));
	EXPECT_EQ(-EINVAL, edu_transfer(self->edu, self->exp.fd, 0, 1,
					EDU_PAGE));
	EXPECT_EQ(-EINVAL, edu_transfer(self->edu, self->exp.fd, 0,
					2 * EDU_PAGE, 1));
	EXPECT_EQ(-EINVAL, edu_transfer(self->edu, self->edu, 0, 0, 1));
	EXPECT_EQ(-EBADF, edu_transfer(self->edu, -1, 0, 0, 1));
	arg.fd = self->exp.fd;
	EXPECT_EQ(-EINVAL, or_errno(ioctl(self->edu, SPLICE_EDU_TRANSFER,
					  &arg)));
	EXPECT_EQ(-EFAULT, or_errno(ioctl(self->edu, SPLICE_EDU_TRANSFER,
					  NULL)));
	edu_expect_empty(_metadata, self->edu);
}

/* The device reads each page of a private dma-buf. */
TEST_F_TIMEOUT(import, reads_private, 120)
{
	int i;

	export_private(_metadata, self, 4, DATA);
	for (i = 3; i >= 0; i--) {
		ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, 0,
					  i * EDU_PAGE, EDU_PAGE));
		EXPECT_EQ(EDU_PAGE, receive_pattern(self->edu, EDU_PAGE, DATA,
						    i * EDU_PAGE));
	}
	edu_expect_empty(_metadata, self->edu);
}

/* The page cache, and what is written to it later: there is one memory. */
TEST_F_TIMEOUT(import, reads_page_cache, 120)
{
	ssize_t copied = dma_buf_counter("bytes.copied");
	int file = make_memfd(_metadata, 2 * EDU_PAGE, DATA);

	export_file(_metadata, self, file, 2 * EDU_PAGE);
	EXPECT_EQ(copied, dma_buf_counter("bytes.copied"));
	if (!self->iommu) {
		EXPECT_EQ(-EACCES, edu_transfer(self->edu, self->exp.fd, 0, 0,
						EDU_PAGE));
		edu_expect_empty(_metadata, self->edu);
		return;
	}
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, 0, EDU_PAGE,
				  EDU_PAGE));
	EXPECT_EQ(EDU_PAGE, receive_pattern(self->edu, EDU_PAGE, DATA,
					    EDU_PAGE));
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	ASSERT_EQ(2 * EDU_PAGE, write_pattern(file, 2 * EDU_PAGE, OTHER, 0));
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, 0, EDU_PAGE,
				  EDU_PAGE));
	EXPECT_EQ(EDU_PAGE, receive_pattern(self->edu, EDU_PAGE, OTHER,
					    EDU_PAGE));
}

/* The device sees zeroes behind the data of a last page. */
TEST_F_TIMEOUT(import, reads_partial_page, 120)
{
	char buf[EDU_PAGE];
	int q[2];

	make_pipe(_metadata, q);
	/* The pool of the pipe has a page with other data. */
	memset(buf, 0xa5, sizeof(buf));
	ASSERT_EQ(EDU_PAGE, write_full(self->p[1], buf, EDU_PAGE));
	ASSERT_EQ(EDU_PAGE, read_full(self->p[0], buf, EDU_PAGE));
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	ASSERT_EQ(100, xsplice(self->p[0], NULL, self->dev, NULL, 100, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, 100, 100, true);
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, 0, 0, EDU_PAGE));
	ASSERT_EQ(EDU_PAGE, splice_full(self->edu, q[1], EDU_PAGE));
	ASSERT_EQ(EDU_PAGE, read_full(q[0], buf, EDU_PAGE));
	EXPECT_EQ(100, match_pattern(buf, 100, DATA, 0));
	EXPECT_EQ(EDU_PAGE - 100, match_byte(buf + 100, EDU_PAGE - 100, 0));
}

/* The device writes to a private page, and to nothing else. */
TEST_F_TIMEOUT(import, writes_private, 120)
{
	char *mem;

	fill_device(_metadata, self, OTHER);
	export_private(_metadata, self, 3, DATA);
	mem = dma_buf_map(&self->exp, PROT_READ);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, SPLICE_EDU_WRITE,
				  EDU_PAGE, EDU_PAGE));
	ASSERT_EQ(0, dma_buf_sync(self->exp.fd, DMA_BUF_SYNC_READ));
	EXPECT_EQ(EDU_PAGE, match_pattern(mem, EDU_PAGE, DATA, 0));
	EXPECT_EQ(EDU_PAGE, match_pattern(mem + EDU_PAGE, EDU_PAGE, OTHER, 0));
	EXPECT_EQ(EDU_PAGE, match_pattern(mem + 2 * EDU_PAGE, EDU_PAGE, DATA,
					  2 * EDU_PAGE));
	munmap(mem, self->exp.size);
}

/* Data of a file that was read by direct I/O is private: the file stays. */
TEST_F_TIMEOUT(import, writes_direct, 120)
{
	const char *missing = end_missing(END_EXT4);
	char path[64];
	int file, direct;
	char *mem;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_EXT4));
	ASSERT_EQ(2 * EDU_PAGE, write_pattern(file, 2 * EDU_PAGE, DATA, 0));
	ASSERT_EQ(0, fsync(file));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	direct = open(path, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, direct);
	fill_device(_metadata, self, OTHER);
	ASSERT_EQ(2 * EDU_PAGE, xsendfile(self->dev, direct, NULL,
					  2 * EDU_PAGE));
	dma_buf_expect(_metadata, self->dev, &self->exp, 2 * EDU_PAGE, 0, true);
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, SPLICE_EDU_WRITE, 0,
				  EDU_PAGE));
	mem = dma_buf_map(&self->exp, PROT_READ);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(EDU_PAGE, match_pattern(mem, EDU_PAGE, OTHER, 0));
	munmap(mem, self->exp.size);
	expect_file(_metadata, file, 2 * EDU_PAGE, DATA, 0);
	ASSERT_EQ(0, lseek(direct, 0, SEEK_SET));
	EXPECT_EQ(2 * EDU_PAGE,
		  receive_pattern(direct, 2 * EDU_PAGE, DATA, 0));
}

/* Without an IOMMU the device gets no address of a page that it must not write. */
TEST_F_TIMEOUT(import, never_writes_page_cache, 120)
{
	int file = make_memfd(_metadata, EDU_PAGE, DATA);

	if (self->iommu)
		SKIP(return, "the IOMMU reports a fault: see edu_dma_buf_denied_test");
	ASSERT_EQ(0, fchmod(file, 0444));
	fill_device(_metadata, self, OTHER);
	export_file(_metadata, self, file, EDU_PAGE);
	EXPECT_EQ(-EACCES, edu_transfer(self->edu, self->exp.fd,
					SPLICE_EDU_WRITE, 0, EDU_PAGE));
	expect_file(_metadata, file, EDU_PAGE, DATA, 0);
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
}

/* One page of user memory makes all pages read-only. */
TEST_F_TIMEOUT(import, never_writes_mixed, 120)
{
	char *mem = mmap(NULL, EDU_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (self->iommu)
		SKIP(return, "the IOMMU reports a fault: see edu_dma_buf_denied_test");
	ASSERT_NE(MAP_FAILED, mem);
	fill_device(_metadata, self, OTHER);
	ASSERT_EQ(EDU_PAGE, write_pattern(self->p[1], EDU_PAGE, DATA, 0));
	fill_pattern(mem, EDU_PAGE, DATA, EDU_PAGE);
	ASSERT_EQ(EDU_PAGE, xvmsplice1(self->p[1], mem, EDU_PAGE, 0));
	ASSERT_EQ(2 * EDU_PAGE, xsplice(self->p[0], NULL, self->dev, NULL,
					2 * EDU_PAGE, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, 2 * EDU_PAGE, 0,
		       false);
	EXPECT_EQ(-EACCES, edu_transfer(self->edu, self->exp.fd,
					SPLICE_EDU_WRITE, 0, EDU_PAGE));
	EXPECT_EQ(-EACCES, edu_transfer(self->edu, self->exp.fd,
					SPLICE_EDU_WRITE, EDU_PAGE, EDU_PAGE));
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
}

/* Two devices import one dma-buf; what one of them writes the other one reads. */
TEST_F_TIMEOUT(import, two_importers, 240)
{
	int second;

	if (!have_edu(1))
		SKIP(return, "one PCI device 1234:11e8 only");
	second = edu_open_empty(_metadata, 1);
	fill_device(_metadata, self, OTHER);
	export_private(_metadata, self, 2, DATA);
	ASSERT_EQ(0, edu_transfer(second, self->exp.fd, 0, 0, EDU_PAGE));
	EXPECT_EQ(EDU_PAGE, receive_pattern(second, EDU_PAGE, DATA, 0));
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, SPLICE_EDU_WRITE, 0,
				  EDU_PAGE));
	ASSERT_EQ(0, edu_transfer(second, self->exp.fd, 0, 0, EDU_PAGE));
	EXPECT_EQ(EDU_PAGE, receive_pattern(second, EDU_PAGE, OTHER, 0));
}

/* Returns how many devices are attached to dma-bufs of this exporter. */
static int nr_attached(void)
{
	FILE *f = fopen("/sys/kernel/debug/dma_buf/bufinfo", "r");
	bool ours = false;
	char line[512];
	int sum = 0, nr;

	while (f && fgets(line, sizeof(line), f)) {
		if (strstr(line, "dma_buf_splice"))
			ours = true;
		if (sscanf(line, "Total %d devices attached", &nr) == 1) {
			sum += ours ? nr : 0;
			ours = false;
		}
	}
	if (f)
		fclose(f);
	return f ? sum : -ENOENT;
}

/* A transfer in another thread. */
static struct job job_transfer(int edu, struct splice_edu_transfer *arg)
{
	return (struct job) {
		.nr = SYS_ioctl, .arg = { edu, SPLICE_EDU_TRANSFER, (long)arg },
	};
}

/* Both devices have the dma-buf mapped at the same time, and the CPU has it too. */
TEST_F_TIMEOUT(import, two_at_once, 240)
{
	struct splice_edu_transfer args[2] = {};
	struct job jobs[2];
	int second, i, now, most = 0;
	char *mem;

	if (!have_edu(1))
		SKIP(return, "one PCI device 1234:11e8 only");
	if (nr_attached() < 0)
		SKIP(return, "no debugfs file dma_buf/bufinfo");
	second = edu_open_empty(_metadata, 1);
	export_private(_metadata, self, 2, DATA);
	mem = dma_buf_map(&self->exp, PROT_READ | PROT_WRITE);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, nr_attached());
	for (i = 0; i < 2; i++) {
		args[i] = (struct splice_edu_transfer) {
			.fd = self->exp.fd, .offset = i * EDU_PAGE,
			.bytes = EDU_PAGE,
		};
		jobs[i] = job_transfer(i ? second : self->edu, &args[i]);
		job_start(_metadata, &jobs[i]);
	}
	do {
		now = nr_attached();
		most = now > most ? now : most;
	} while (most < 2 && pthread_tryjoin_np(jobs[0].thread, NULL));
	EXPECT_EQ(2, most);
	/* The data comes out when both have ended. */
	EXPECT_EQ(EDU_PAGE, receive_pattern(self->edu, EDU_PAGE, DATA, 0));
	EXPECT_EQ(EDU_PAGE, receive_pattern(second, EDU_PAGE, DATA, EDU_PAGE));
	if (most == 2)
		EXPECT_EQ(0, job_finish(_metadata, &jobs[0]));
	EXPECT_EQ(0, job_finish(_metadata, &jobs[1]));
	EXPECT_EQ(0, nr_attached());
	EXPECT_EQ(2 * EDU_PAGE, match_pattern(mem, 2 * EDU_PAGE, DATA, 0));
	munmap(mem, self->exp.size);
}

/* The driver is unbound while its device has the dma-buf mapped. */
TEST_F_TIMEOUT(import, unbound_while_mapped, 240)
{
	struct bdf bdf[8];
	int nr = edu_find(bdf, ARRAY_LEN(bdf)), i, edu;
	struct splice_edu_transfer arg = { .bytes = EDU_PAGE };
	struct job transfer = job_transfer(self->edu, &arg);

	if (nr_attached() < 0)
		SKIP(return, "no debugfs file dma_buf/bufinfo");
	export_private(_metadata, self, 2, DATA);
	arg.fd = self->exp.fd;
	job_start(_metadata, &transfer);
	while (!nr_attached())
		usleep(100);
	for (i = 0; i < nr; i++)
		ASSERT_LT(0, write_text(EDU_DRIVER "unbind", bdf[i].name));
	/* The transfer ends before the driver is unbound. */
	EXPECT_EQ(0, job_finish(_metadata, &transfer));
	EXPECT_EQ(0, nr_attached());
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	for (i = 0; i < nr; i++)
		ASSERT_LT(0, write_text(EDU_DRIVER "bind", bdf[i].name));
	edu = edu_open_empty(_metadata, 0);
	ASSERT_EQ(0, edu_transfer(edu, self->exp.fd, 0, EDU_PAGE, EDU_PAGE));
	EXPECT_EQ(EDU_PAGE, receive_pattern(edu, EDU_PAGE, DATA, EDU_PAGE));
}

/* A file returns the data that the device wrote to its dma-buf. */
TEST_F_TIMEOUT(import, read_back, 120)
{
	ssize_t copied = dma_buf_counter("bytes.copied");
	int out = memfd_create("out", 0), q[2];

	ASSERT_LE(0, out);
	make_pipe(_metadata, q);
	fill_device(_metadata, self, OTHER);
	export_private(_metadata, self, 3, DATA);
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, SPLICE_EDU_WRITE, 0,
				  EDU_PAGE));
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, SPLICE_EDU_WRITE,
				  2 * EDU_PAGE, EDU_PAGE));
	ASSERT_EQ(EDU_PAGE, dma_buf_gather(self->dev, out, EDU_PAGE));
	expect_file(_metadata, out, EDU_PAGE, OTHER, 0);
	ASSERT_EQ(2 * EDU_PAGE, xsplice(self->dev, NULL, q[1], NULL,
					2 * EDU_PAGE, 0));
	EXPECT_EQ(EDU_PAGE, read_pattern(q[0], EDU_PAGE, DATA, EDU_PAGE));
	EXPECT_EQ(EDU_PAGE, read_pattern(q[0], EDU_PAGE, OTHER, 0));
	EXPECT_EQ(copied, dma_buf_counter("bytes.copied"));
}

/* A page that is in a pipe and in the dma-buf is one memory for the device too. */
TEST_F_TIMEOUT(import, writes_what_was_read_back, 120)
{
	struct dma_buf_splice_export other;
	int q[2], dev = dma_buf_open(_metadata, 0);

	make_pipe(_metadata, q);
	fill_device(_metadata, self, OTHER);
	export_private(_metadata, self, 1, DATA);
	ASSERT_EQ(EDU_PAGE, xsplice(self->dev, NULL, q[1], NULL, EDU_PAGE, 0));
	/* It is for reading only in a dma-buf of its own. */
	ASSERT_EQ(EDU_PAGE, xsplice(q[0], NULL, dev, NULL, EDU_PAGE, 0));
	dma_buf_expect(_metadata, dev, &other, EDU_PAGE, 0, false);
	dma_buf_expect_data(_metadata, &other, DATA, 0);
	if (!self->iommu)
		EXPECT_EQ(-EACCES, edu_transfer(self->edu, other.fd,
						SPLICE_EDU_WRITE, 0, EDU_PAGE));
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, SPLICE_EDU_WRITE, 0,
				  EDU_PAGE));
	ASSERT_EQ(0, dma_buf_sync(self->exp.fd, DMA_BUF_SYNC_READ));
	dma_buf_expect_data(_metadata, &other, OTHER, 0);
}

/* The device writes only what it was given since its driver was bound. */
TEST_F_TIMEOUT(import, no_stale_bytes, 120)
{
	struct bdf bdf[8];
	int nr = edu_find(bdf, ARRAY_LEN(bdf)), i;

	fill_device(_metadata, self, OTHER);
	export_private(_metadata, self, 1, DATA);
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, 0, 0, 100));
	ASSERT_EQ(100, receive_pattern(self->edu, 100, DATA, 0));
	EXPECT_EQ(-ENODATA, edu_transfer(self->edu, self->exp.fd,
					 SPLICE_EDU_WRITE, 0, 101));
	EXPECT_EQ(0, edu_transfer(self->edu, self->exp.fd, SPLICE_EDU_WRITE,
				  0, 100));
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	for (i = 0; i < nr; i++)
		ASSERT_LT(0, write_text(EDU_DRIVER "unbind", bdf[i].name));
	for (i = 0; i < nr; i++)
		ASSERT_LT(0, write_text(EDU_DRIVER "bind", bdf[i].name));
	self->edu = edu_open_empty(_metadata, 0);
	EXPECT_EQ(-ENODATA, edu_transfer(self->edu, self->exp.fd,
					 SPLICE_EDU_WRITE, 0, 1));
}

/* The importer loses its device, and gets it back. The dma-buf stays. */
TEST_F_TIMEOUT(import, unbound, 240)
{
	struct bdf bdf[8];
	int nr = edu_find(bdf, ARRAY_LEN(bdf)), i, edu;

	export_private(_metadata, self, 1, DATA);
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, 0, 0, EDU_PAGE));
	for (i = 0; i < nr; i++)
		ASSERT_LT(0, write_text(EDU_DRIVER "unbind", bdf[i].name));
	EXPECT_EQ(-ENODEV, edu_transfer(self->edu, self->exp.fd, 0, 0,
					EDU_PAGE));
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
	for (i = 0; i < nr; i++)
		ASSERT_LT(0, write_text(EDU_DRIVER "bind", bdf[i].name));
	edu = edu_open_empty(_metadata, 0);
	ASSERT_EQ(0, edu_transfer(edu, self->exp.fd, 0, 0, EDU_PAGE));
	EXPECT_EQ(EDU_PAGE, receive_pattern(edu, EDU_PAGE, DATA, 0));
}

TEST_HARNESS_MAIN
