// SPDX-License-Identifier: GPL-2.0
/*
 * A device with a DMA engine. Each allocation of a call that uses it is made to
 * fail, one after the other: the call returns ENOMEM or the number of bytes
 * moved. The rest of the data stays where it was, complete and in order, and a
 * second call moves it.
 */
#include "edu_common.h"
#include "splice_fault.h"
#include "splice_memory.h"
#include "splice_notify.h"

/* Three buffers, the last one partly filled. */
#define LEN 10000

/* More buffers of one byte than a pipe of the default size can hold. */
#define MANY 20

enum call {
	TO_DEVICE,
	FROM_DEVICE,
	SENDFILE,
	OPEN,
};

struct scene {
	const struct _fixture_variant_edu_fault *v;
	ssize_t len;
	int fd;			/* descriptor that no fault is injected into */
	int end;		/* descriptor of the call */
	int memfd;		/* source of the data */
	int p[2];
	int q[2];
	char *mem;
};

FIXTURE(edu_fault) {
	struct scene scene;
};

FIXTURE_VARIANT(edu_fault) {
	enum call call;
	int flags;		/* flags of the device's descriptor */
	bool many;		/* MANY small buffers */
};

FIXTURE_VARIANT_ADD(edu_fault, to_device) {
	.call = TO_DEVICE,
};

FIXTURE_VARIANT_ADD(edu_fault, to_device_sync) {
	.call = TO_DEVICE, .flags = O_SYNC,
};

FIXTURE_VARIANT_ADD(edu_fault, to_device_many) {
	.call = TO_DEVICE, .many = true,
};

FIXTURE_VARIANT_ADD(edu_fault, from_device) {
	.call = FROM_DEVICE,
};

FIXTURE_VARIANT_ADD(edu_fault, sendfile) {
	.call = SENDFILE,
};

FIXTURE_VARIANT_ADD(edu_fault, open) {
	.call = OPEN,
};

FIXTURE_SETUP(edu_fault)
{
	struct scene *s = &self->scene;

	if (!have_edu(0))
		SKIP(return, NO_EDU);
	s->v = variant;
	s->len = variant->many ? MANY : LEN;
	s->fd = edu_open_empty(_metadata, 0);
	s->end = edu_open(_metadata, 0, O_RDWR | variant->flags);
	s->mem = alloc_pattern(_metadata, MANY, DATA);
}

FIXTURE_TEARDOWN(edu_fault)
{
}

static ssize_t call_scene(void *arg)
{
	const struct scene *s = arg;

	switch (s->v->call) {
	case TO_DEVICE:
		return xsplice(s->p[0], NULL, s->end, NULL, s->len, 0);
	case FROM_DEVICE:
		return xsplice(s->end, NULL, s->q[1], NULL, s->len, 0);
	case SENDFILE:
		return xsendfile(s->end, s->memfd, NULL, s->len);
	case OPEN:
		return or_errno(open("/dev/splice-edu0", O_RDWR));
	}
	return -EINVAL;
}

/* Whether the call may return this after a failed allocation. */
static bool is_expected(const void *scene, ssize_t ret)
{
	const struct scene *s = scene;

	/* The path is copied from user memory. */
	if (ret == -EFAULT)
		return s->v->call == OPEN;
	return ret > 0 || ret == -ENOMEM;
}

/* Puts data where the call reads it. */
static void prepare(struct __test_metadata *_metadata, void *scene)
{
	struct scene *s = scene;
	int i;

	s->memfd = make_memfd(_metadata, LEN, DATA);
	make_pipe(_metadata, s->p);
	make_pipe(_metadata, s->q);
	if (s->v->many)
		ASSERT_LT(0, fcntl(s->p[1], F_SETPIPE_SZ, 64 * page_size()));
	for (i = 0; s->v->many && i < MANY; i++)
		ASSERT_EQ(1, xvmsplice1(s->p[1], s->mem + i, 1, 0));
	if (s->v->call == TO_DEVICE && !s->v->many)
		ASSERT_EQ(LEN, splice_full(s->memfd, s->p[1], LEN));
	if (s->v->call == FROM_DEVICE) {
		edu_send(_metadata, s->fd, s->p, LEN, DATA, 0);
		ASSERT_EQ(POLLIN, poll_for(s->fd, POLLIN, -1));
	}
}

/* Calls without a fault move the rest, and all of the data arrives. */
static void finish(struct __test_metadata *_metadata, void *scene, ssize_t ret)
{
	struct scene *s = scene;
	ssize_t done = ret > 0 ? ret : 0;

	switch (s->v->call) {
	case TO_DEVICE:
		ASSERT_EQ(s->len - done, pipe_bytes(s->p[0]));
		if (done < s->len)
			ASSERT_EQ(s->len - done,
				  splice_full(s->p[0], s->end, s->len - done));
		done = 0;
		break;
	case FROM_DEVICE:
		ASSERT_EQ(done, pipe_bytes(s->q[0]));
		if (done)
			ASSERT_EQ(done, read_pattern(s->q[0], done, DATA, 0));
		break;
	case SENDFILE:
		ASSERT_EQ(done, lseek(s->memfd, 0, SEEK_CUR));
		if (done < s->len)
			ASSERT_EQ(s->len - done,
				  xsendfile(s->end, s->memfd, NULL,
					    s->len - done));
		done = 0;
		break;
	case OPEN:
		if (ret >= 0)
			close(ret);
		done = s->len;
		break;
	}
	if (done < s->len)
		ASSERT_EQ(s->len - done,
			  receive_pattern(s->fd, s->len - done, DATA, done));
	ASSERT_EQ(0, poll_now(s->fd, POLLIN));
	close(s->p[0]);
	close(s->p[1]);
	close(s->q[0]);
	close(s->q[1]);
	expect_unreferenced(_metadata, s->memfd);
	close(s->memfd);
	expect_no_pins(_metadata);
}

static struct trial trial_of(struct scene *s)
{
	return (struct trial) {
		.prepare = prepare, .call = call_scene,
		.is_expected = is_expected, .finish = finish, .scene = s,
	};
}

TEST_F_TIMEOUT(edu_fault, every_point, 900)
{
	struct trial trial = trial_of(&self->scene);

	fire_every_point(_metadata, &trial);
}

TEST_F_TIMEOUT(edu_fault, all_at_once, 60)
{
	struct trial trial = trial_of(&self->scene);

	fire_all_at_once(_metadata, &trial);
}

int main(int argc, char **argv)
{
	return fault_main(argc, argv);
}
