// SPDX-License-Identifier: GPL-2.0
/*
 * A device behind an IOMMU is told to write to a dma-buf that is for reading
 * only. It has asked for a mapping in both directions. The IOMMU denies the
 * access and reports a fault in the kernel log, and the page stays as it is.
 *
 * Run this where faults of the IOMMU in the log are not taken for errors.
 */
#include "dma_buf_common.h"
#include "edu_common.h"

/* A seed for what the device writes. */
#define OTHER 7

FIXTURE(denied) {
	int dev;
	int edu;
	int p[2];
	struct dma_buf_splice_export exp;
};

FIXTURE_SETUP(denied)
{
	struct dma_buf_splice_export exp;

	if (!have_edu(0))
		SKIP(return, NO_EDU);
	if (!edu_has_iommu(0))
		SKIP(return, "no IOMMU");
	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	self->edu = edu_open_empty(_metadata, 0);
	self->dev = dma_buf_open(_metadata, 0);
	make_pipe(_metadata, self->p);
	/* Put a page of other data into the memory of the device. */
	ASSERT_EQ(EDU_PAGE, write_pattern(self->p[1], EDU_PAGE, OTHER, 0));
	ASSERT_EQ(EDU_PAGE, xsplice(self->p[0], NULL, self->dev, NULL, EDU_PAGE,
				    0));
	dma_buf_expect(_metadata, self->dev, &exp, EDU_PAGE, 0, true);
	ASSERT_EQ(0, edu_transfer(self->edu, exp.fd, 0, 0, EDU_PAGE));
	ASSERT_EQ(EDU_PAGE, receive_pattern(self->edu, EDU_PAGE, OTHER, 0));
	close(exp.fd);
}

FIXTURE_TEARDOWN(denied)
{
}

/* Returns how many faults the kernel log has. */
static int faults(void)
{
	FILE *log = popen("dmesg", "r");
	char *line = NULL;
	size_t size = 0;
	int nr = 0;

	while (log && getline(&line, &size, log) > 0)
		nr += strstr(line, "[DMA Write") && strstr(line, "fault addr");
	free(line);
	return log ? pclose(log) ? -1 : nr : -1;
}

/* Tells the device to write to @page of the dma-buf. */
static void expect_denied(struct __test_metadata *_metadata,
			  struct _test_data_denied *self, int page)
{
	int before = faults();

	ASSERT_LE(0, before);
	/* The device can read the page: the address is good. */
	ASSERT_EQ(0, edu_transfer(self->edu, self->exp.fd, SPLICE_EDU_WRITE,
				  page * EDU_PAGE, EDU_PAGE));
	EXPECT_LT(before, faults());
	dma_buf_expect_data(_metadata, &self->exp, DATA, 0);
}

TEST_F_TIMEOUT(denied, page_cache, 120)
{
	int file = make_memfd(_metadata, 2 * EDU_PAGE, DATA);

	ASSERT_EQ(0, fchmod(file, 0444));
	ASSERT_EQ(2 * EDU_PAGE, xsendfile(self->dev, file, NULL, 2 * EDU_PAGE));
	dma_buf_expect(_metadata, self->dev, &self->exp, 2 * EDU_PAGE, 0,
		       false);
	expect_denied(_metadata, self, 1);
	expect_file(_metadata, file, 2 * EDU_PAGE, DATA, 0);
}

/* A page of write() among them is private, and yet for reading only. */
TEST_F_TIMEOUT(denied, mixed, 120)
{
	int file = make_memfd(_metadata, 2 * EDU_PAGE, DATA);

	ASSERT_EQ(EDU_PAGE, write_pattern(self->p[1], EDU_PAGE, DATA, 0));
	ASSERT_EQ(EDU_PAGE, lseek(file, EDU_PAGE, SEEK_SET));
	ASSERT_EQ(EDU_PAGE, xsplice(file, NULL, self->p[1], NULL, EDU_PAGE, 0));
	ASSERT_EQ(2 * EDU_PAGE, xsplice(self->p[0], NULL, self->dev, NULL,
					2 * EDU_PAGE, 0));
	dma_buf_expect(_metadata, self->dev, &self->exp, 2 * EDU_PAGE, 0,
		       false);
	expect_denied(_metadata, self, 0);
	expect_denied(_metadata, self, 1);
}

TEST_F_TIMEOUT(denied, user_memory, 120)
{
	char *mem = mmap(NULL, EDU_PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	fill_pattern(mem, EDU_PAGE, DATA, 0);
	ASSERT_EQ(EDU_PAGE, xvmsplice1(self->p[1], mem, EDU_PAGE, 0));
	ASSERT_EQ(EDU_PAGE, xsplice(self->p[0], NULL, self->dev, NULL, EDU_PAGE,
				    0));
	dma_buf_expect(_metadata, self->dev, &self->exp, EDU_PAGE, 0, false);
	expect_denied(_metadata, self, 0);
	EXPECT_EQ(EDU_PAGE, match_pattern(mem, EDU_PAGE, DATA, 0));
}

TEST_HARNESS_MAIN
