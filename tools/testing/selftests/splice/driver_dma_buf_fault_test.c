// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/dma_buf_splice without a device. Each allocation, and each copy from and
 * to user memory, of a call that gathers, exports, maps or reads back is made to
 * fail, one after the other. The call fails or works; if it fails, all data is
 * where it was, and a second call does what the first one did not.
 */
#include "dma_buf_common.h"
#include "splice_fault.h"

/* Three pages, the last one partly filled. */
#define LEN 10000

/* Buffers of one page each, so that the list of pages grows. */
#define MANY 200

enum call {
	OPEN,
	GATHER,
	EXPORT,
	MMAP,
	READ_BACK,
};

struct scene {
	const struct _fixture_variant_dma_buf_fault *v;
	ssize_t len;
	ssize_t bufs;		/* counter before the call */
	int dev;
	int memfd;		/* the data, of the page cache */
	int p[2];
	int q[2];
	char *map;
	struct dma_buf_splice_export exp;
};

FIXTURE(dma_buf_fault) {
	struct scene scene;
};

FIXTURE_VARIANT(dma_buf_fault) {
	enum call call;
	bool private;
	bool many;
	bool never_fails;	/* the call allocates nothing */
};

FIXTURE_VARIANT_ADD(dma_buf_fault, open) {
	.call = OPEN,
};

FIXTURE_VARIANT_ADD(dma_buf_fault, gather_private) {
	.call = GATHER, .private = true,
};

FIXTURE_VARIANT_ADD(dma_buf_fault, gather_shared) {
	.call = GATHER,
};

FIXTURE_VARIANT_ADD(dma_buf_fault, gather_many) {
	.call = GATHER, .many = true,
};

FIXTURE_VARIANT_ADD(dma_buf_fault, export_private) {
	.call = EXPORT, .private = true,
};

FIXTURE_VARIANT_ADD(dma_buf_fault, export_shared) {
	.call = EXPORT,
};

FIXTURE_VARIANT_ADD(dma_buf_fault, mmap_private) {
	.call = MMAP, .private = true,
};

FIXTURE_VARIANT_ADD(dma_buf_fault, mmap_shared) {
	.call = MMAP,
};

FIXTURE_VARIANT_ADD(dma_buf_fault, read_back_private) {
	.call = READ_BACK, .private = true, .never_fails = true,
};

FIXTURE_VARIANT_ADD(dma_buf_fault, read_back_shared) {
	.call = READ_BACK, .never_fails = true,
};

FIXTURE_SETUP(dma_buf_fault)
{
	struct scene *s = &self->scene;

	if (!have_dma_buf())
		SKIP(return, NO_DMA_BUF);
	s->v = variant;
	s->len = variant->many ? MANY * page_size() : LEN;
	s->bufs = dma_buf_counter("bufs");
	ASSERT_LE(0, s->bufs);
}

FIXTURE_TEARDOWN(dma_buf_fault)
{
}

static ssize_t call_scene(void *arg)
{
	struct scene *s = arg;

	switch (s->v->call) {
	case OPEN:
		return or_errno(open("/dev/" DMA_BUF_NODE, O_RDWR));
	case GATHER:
		return xsplice(s->p[0], NULL, s->dev, NULL, s->len, 0);
	case EXPORT:
		return dma_buf_export(s->dev, &s->exp);
	case MMAP:
		s->map = dma_buf_map(&s->exp, PROT_READ);
		return s->map ? 0 : -errno;
	case READ_BACK:
		return xsplice(s->dev, NULL, s->q[1], NULL, s->len, 0);
	}
	return -EINVAL;
}

/* Whether the call may return this after a failure. */
static bool is_expected(const void *scene, ssize_t ret)
{
	const struct scene *s = scene;

	/* The path or the argument is copied. */
	if (ret == -EFAULT)
		return s->v->call == OPEN || s->v->call == EXPORT;
	return ret == -ENOMEM || ret >= 0;
}

/* Puts the data into the pipe, the set, or a dma-buf. */
static void prepare(struct __test_metadata *_metadata, void *scene)
{
	struct scene *s = scene;

	s->memfd = make_memfd(_metadata, s->len, DATA);
	s->dev = dma_buf_open(_metadata, 0);
	s->exp = (struct dma_buf_splice_export) { .fd = -1 };
	s->map = NULL;
	make_pipe(_metadata, s->p);
	make_pipe(_metadata, s->q);
	ASSERT_LE(s->len, fcntl(s->p[1], F_SETPIPE_SZ, 256 * page_size()));
	ASSERT_EQ(s->len, s->v->private ?
		  write_pattern(s->p[1], s->len, DATA, 0) :
		  splice_full(s->memfd, s->p[1], s->len));
	if (s->v->call > GATHER)
		ASSERT_EQ(s->len, xsplice(s->p[0], NULL, s->dev, NULL, s->len,
					  0));
	if (s->v->call > EXPORT)
		ASSERT_EQ(0, dma_buf_export(s->dev, &s->exp));
}

/* Without a failure the rest works, all of the data is there, nothing is left. */
static void finish(struct __test_metadata *_metadata, void *scene, ssize_t ret)
{
	struct scene *s = scene;
	ssize_t done = ret > 0 ? ret : 0;

	if (s->v->call == OPEN) {
		if (ret >= 0)
			close(ret);
		done = 0;
	}
	if (s->v->call <= GATHER) {
		/* All or nothing. */
		ASSERT_TRUE(done == 0 || done == s->len);
		ASSERT_EQ(s->len - done, pipe_bytes(s->p[0]));
		if (!done)
			ASSERT_EQ(s->len, xsplice(s->p[0], NULL, s->dev, NULL,
						  s->len, 0));
	}
	if (s->v->call <= EXPORT) {
		if (s->v->call != EXPORT || ret < 0)
			ASSERT_EQ(0, dma_buf_export(s->dev, &s->exp));
		done = 0;
	}
	if (s->v->call == MMAP && !ret)
		EXPECT_EQ(s->len, match_pattern(s->map, s->len, DATA, 0));
	if (s->v->call == READ_BACK && done)
		ASSERT_EQ(done, read_pattern(s->q[0], done, DATA, 0));
	EXPECT_EQ(s->len, (ssize_t)s->exp.bytes);
	EXPECT_EQ(s->len % page_size(), (ssize_t)s->exp.copied);
	EXPECT_EQ(s->v->private ? DMA_BUF_SPLICE_WRITABLE : 0,
		  s->exp.properties);
	EXPECT_EQ(s->bufs + 1, dma_buf_counter("bufs"));
	dma_buf_expect_data(_metadata, &s->exp, DATA, 0);
	if (done < s->len)
		ASSERT_EQ(s->len - done, receive_pattern(s->dev, s->len - done,
							 DATA, done));
	EXPECT_EQ(0, xsplice(s->dev, NULL, s->q[1], NULL, 1, 0));
	if (s->map)
		munmap(s->map, s->exp.size);
	close(s->exp.fd);
	close(s->dev);
	close(s->p[0]);
	close(s->p[1]);
	close(s->q[0]);
	close(s->q[1]);
	expect_unreferenced(_metadata, s->memfd);
	close(s->memfd);
	EXPECT_EQ(s->bufs, dma_buf_counter("bufs"));
}

static struct trial trial_of(struct scene *s)
{
	return (struct trial) {
		.prepare = prepare, .call = call_scene,
		.is_expected = is_expected, .finish = finish, .scene = s,
	};
}

TEST_F_TIMEOUT(dma_buf_fault, every_point, 900)
{
	struct trial trial = trial_of(&self->scene);
	int errors = fire_every_point(_metadata, &trial);

	EXPECT_EQ(variant->never_fails, errors == 0);
}

TEST_F_TIMEOUT(dma_buf_fault, all_at_once, 120)
{
	struct trial trial = trial_of(&self->scene);

	fire_all_at_once(_metadata, &trial);
}

int main(int argc, char **argv)
{
	return fault_main(argc, argv);
}
