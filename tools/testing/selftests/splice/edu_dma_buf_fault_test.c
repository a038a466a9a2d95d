// SPDX-License-Identifier: GPL-2.0
/*
 * A device with a DMA engine imports a dma-buf: it attaches, maps, transfers,
 * unmaps and detaches. Each allocation of that is made to fail, one after the
 * other: the call fails or works, nothing is left of it, and the next one works.
 */
#include "dma_buf_common.h"
#include "edu_common.h"
#include "splice_fault.h"

/* Scattered pages, so that the table has several entries. */
#define PAGES 8

/* A seed for what the device writes. */
#define OTHER 7

struct scene {
	const struct _fixture_variant_import_fault *v;
	int dev;
	int edu;
	int memfd;
	struct dma_buf_splice_export exp;
};

FIXTURE(import_fault) {
	struct scene scene;
};

FIXTURE_VARIANT(import_fault) {
	bool private;
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(import_fault, reads_private) {
	.private = true,
};

FIXTURE_VARIANT_ADD(import_fault, writes_private) {
	.private = true, .flags = SPLICE_EDU_WRITE,
};

FIXTURE_VARIANT_ADD(import_fault, reads_shared) {
	.private = false,
};

/* Makes a dma-buf of @pages pages of the pattern. */
static void export_pattern(struct __test_metadata *_metadata, struct scene *s,
			   bool private, int pages, unsigned int seed)
{
	ssize_t len = pages * EDU_PAGE;
	int p[2];

	make_pipe(_metadata, p);
	s->memfd = make_memfd(_metadata, len, seed);
	ASSERT_EQ(len, private ? write_pattern(p[1], len, seed, 0) :
				 splice_full(s->memfd, p[1], len));
	ASSERT_EQ(len, xsplice(p[0], NULL, s->dev, NULL, len, 0));
	dma_buf_expect(_metadata, s->dev, &s->exp, len, 0, private);
	close(p[0]);
	close(p[1]);
}

static void drop(struct scene *s)
{
	close(s->exp.fd);
	close(s->memfd);
}

FIXTURE_SETUP(import_fault)
{
	struct scene *s = &self->scene;

	if (!have_edu(0))
		SKIP(return, NO_EDU);
	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	if (page_size() != EDU_PAGE)
		SKIP(return, "the device has memory of 4 KiB");
	if (!variant->private && !edu_has_iommu(0))
		SKIP(return, "no IOMMU: the device cannot map shared pages");
	s->v = variant;
	s->edu = edu_open_empty(_metadata, 0);
	s->dev = dma_buf_open(_metadata, 0);
	/* Data that the device can write. */
	export_pattern(_metadata, s, true, 1, OTHER);
	ASSERT_EQ(0, edu_transfer(s->edu, s->exp.fd, 0, 0, EDU_PAGE));
	ASSERT_EQ(EDU_PAGE, receive_pattern(s->edu, EDU_PAGE, OTHER, 0));
	drop(s);
}

FIXTURE_TEARDOWN(import_fault)
{
}

static ssize_t call_scene(void *arg)
{
	struct scene *s = arg;

	return edu_transfer(s->edu, s->exp.fd, s->v->flags, EDU_PAGE, EDU_PAGE);
}

/* Whether the call may return this after a failure. */
static bool is_expected(const void *scene, ssize_t ret)
{
	/* The argument is copied. */
	return ret == 0 || ret == -ENOMEM || ret == -EFAULT;
}

static void prepare(struct __test_metadata *_metadata, void *scene)
{
	struct scene *s = scene;

	export_pattern(_metadata, s, s->v->private, PAGES, DATA);
}

static void finish(struct __test_metadata *_metadata, void *scene, ssize_t ret)
{
	struct scene *s = scene;
	bool write = s->v->flags & SPLICE_EDU_WRITE;
	ssize_t bufs = dma_buf_counter("bufs");
	char *mem;

	if (ret < 0) {
		dma_buf_expect_data(_metadata, &s->exp, DATA, 0);
		ASSERT_EQ(0, poll_now(s->edu, POLLIN));
		ASSERT_EQ(0, edu_transfer(s->edu, s->exp.fd, s->v->flags,
					  EDU_PAGE, EDU_PAGE));
	}
	if (!write) {
		ASSERT_EQ(EDU_PAGE, receive_pattern(s->edu, EDU_PAGE, DATA,
						    EDU_PAGE));
		dma_buf_expect_data(_metadata, &s->exp, DATA, 0);
	} else {
		mem = dma_buf_map(&s->exp, PROT_READ);
		ASSERT_NE(NULL, mem);
		ASSERT_EQ(0, dma_buf_sync(s->exp.fd, DMA_BUF_SYNC_READ));
		EXPECT_EQ(EDU_PAGE, match_pattern(mem, EDU_PAGE, DATA, 0));
		EXPECT_EQ(EDU_PAGE, match_pattern(mem + EDU_PAGE, EDU_PAGE,
						  OTHER, 0));
		munmap(mem, s->exp.size);
	}
	close(s->exp.fd);
	/* Nothing is attached: the dma-buf is gone. */
	EXPECT_EQ(bufs - 1, dma_buf_counter("bufs"));
	expect_unreferenced(_metadata, s->memfd);
	close(s->memfd);
}

static struct trial trial_of(struct scene *s)
{
	return (struct trial) {
		.prepare = prepare, .call = call_scene,
		.is_expected = is_expected, .finish = finish, .scene = s,
	};
}

TEST_F_TIMEOUT(import_fault, every_point, 900)
{
	struct trial trial = trial_of(&self->scene);

	EXPECT_LT(0, fire_every_point(_metadata, &trial));
}

TEST_F_TIMEOUT(import_fault, all_at_once, 120)
{
	struct trial trial = trial_of(&self->scene);

	fire_all_at_once(_metadata, &trial);
}

int main(int argc, char **argv)
{
	return fault_main(argc, argv);
}
