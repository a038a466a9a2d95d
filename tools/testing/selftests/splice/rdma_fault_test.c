// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/rdma_splice with one device that connects to its own address. Each
 * allocation of CONNECT, LISTEN, ACCEPT and of both kinds of splice() is made to
 * fail, one after the other: the call returns an error, or it works. (A splice()
 * to a connection allocates nothing, and one from it only if pipes have all pages
 * of the connection that were free.) The data
 * stays where it was, a second call moves it, and nothing is left of a
 * connection that was not made.
 */
#include "rdma_common.h"
#include "splice_fault.h"
#include "splice_memory.h"

/* Three pages, the last one partly filled. */
#define LEN 10000

/*
 * The least memory of a connection, so that there are few allocations: one
 * message of a page.
 */
#define MEMORY (16 * 1024)
#define MESSAGE 4096

enum call {
	CONNECT,
	LISTEN,
	ACCEPT,
	SPLICE_IN,
	SPLICE_OUT,
};

struct scene {
	const struct _fixture_variant_rdma_fault *v;
	struct rdma_splice_connect connect;
	struct rdma_splice_listen listen;
	struct rdma_pair c;
	int dev;
	int memfd;		/* source of the data */
	ssize_t len;
	int p[2];
	int q[2];
	int hold[2];		/* has a page that was received */
	pthread_t acceptor;
	bool stop;
};

FIXTURE(rdma_fault) {
	struct scene scene;
};

FIXTURE_VARIANT(rdma_fault) {
	enum rdma_kind kind;
	enum call call;
};

FIXTURE_VARIANT_ADD(rdma_fault, rxe_connect) {
	.kind = RXE, .call = CONNECT,
};

FIXTURE_VARIANT_ADD(rdma_fault, rxe_listen) {
	.kind = RXE, .call = LISTEN,
};

FIXTURE_VARIANT_ADD(rdma_fault, rxe_accept) {
	.kind = RXE, .call = ACCEPT,
};

FIXTURE_VARIANT_ADD(rdma_fault, rxe_splice_in) {
	.kind = RXE, .call = SPLICE_IN,
};

FIXTURE_VARIANT_ADD(rdma_fault, rxe_splice_out) {
	.kind = RXE, .call = SPLICE_OUT,
};

FIXTURE_VARIANT_ADD(rdma_fault, siw_connect) {
	.kind = SIW, .call = CONNECT,
};

FIXTURE_VARIANT_ADD(rdma_fault, siw_listen) {
	.kind = SIW, .call = LISTEN,
};

FIXTURE_VARIANT_ADD(rdma_fault, siw_accept) {
	.kind = SIW, .call = ACCEPT,
};

FIXTURE_VARIANT_ADD(rdma_fault, siw_splice_in) {
	.kind = SIW, .call = SPLICE_IN,
};

FIXTURE_VARIANT_ADD(rdma_fault, siw_splice_out) {
	.kind = SIW, .call = SPLICE_OUT,
};

FIXTURE_SETUP(rdma_fault)
{
	const char *missing = rdma_driver_missing();
	struct scene *s = &self->scene;

	if (missing)
		SKIP(return, "%s", missing);
	have_counters();
	rdma_one(_metadata, variant->kind);
	s->v = variant;
	s->dev = rdma_open(_metadata);
	s->listen.local = rdma_addr(rdma_address(variant->kind, AF_INET),
				    some_port());
	s->listen.receive_bytes = MEMORY;
	s->listen.flags = RDMA_SPLICE_NONBLOCK;
	s->connect.peer = s->listen.local;
	s->connect.timeout_ms = SETUP_MS;
	s->connect.receive_bytes = MEMORY;
	s->c = (struct rdma_pair) { -1, -1, -1 };
	s->len = variant->call == SPLICE_IN ? MESSAGE : LEN;
	if (variant->call == SPLICE_OUT)
		s->c = rdma_pair_open(_metadata,
				      rdma_address(variant->kind, AF_INET));
	if (variant->call == SPLICE_IN)
		s->c = rdma_pair_with(_metadata,
				      rdma_address(variant->kind, AF_INET),
				      s->connect, (struct rdma_splice_listen) {
					      .receive_bytes = MEMORY,
				      });
}

FIXTURE_TEARDOWN(rdma_fault)
{
	rdma_pair_close(&self->scene.c);
	expect_nothing_left(_metadata);
}

/* Accepts connections until it is stopped, and keeps the last one. */
static void *accept_all(void *arg)
{
	struct scene *s = arg;
	int fd;

	while (!__atomic_load_n(&s->stop, __ATOMIC_SEQ_CST)) {
		if (!(poll_for(s->c.listener, POLLIN, 10) & POLLIN))
			continue;
		fd = xaccept(s->c.listener, 0);
		if (fd < 0)
			continue;
		close_early(&s->c.passive);
		s->c.passive = fd;
	}
	return NULL;
}

static ssize_t call_scene(void *arg)
{
	struct scene *s = arg;

	switch (s->v->call) {
	case CONNECT:
		return or_errno(ioctl(s->dev, RDMA_SPLICE_IOC_CONNECT,
				      &s->connect));
	case LISTEN:
		return or_errno(ioctl(s->dev, RDMA_SPLICE_IOC_LISTEN,
				      &s->listen));
	case ACCEPT:
		return xaccept(s->c.listener, 0);
	case SPLICE_IN:
		return xsplice(s->c.passive, NULL, s->q[1], NULL, s->len, 0);
	case SPLICE_OUT:
		return xsplice(s->p[0], NULL, s->c.active, NULL, s->len, 0);
	}
	return -EINVAL;
}

/* Whether the call may return this after a failed allocation. */
static bool is_expected(const void *scene, ssize_t ret)
{
	const struct scene *s = scene;

	switch (ret) {
	case -ENOMEM:
		return true;
	case -EFAULT:
		/* The argument is copied from and to user memory. */
		return s->v->call == CONNECT || s->v->call == LISTEN ||
		       s->v->call == ACCEPT;
	case -EADDRINUSE:
		/* TCP reports missing memory for a port like this. */
		return s->v->kind == SIW &&
		       (s->v->call == CONNECT || s->v->call == LISTEN);
	default:
		return ret >= 0;
	}
}

static void prepare(struct __test_metadata *_metadata, void *scene)
{
	struct scene *s = scene;

	switch (s->v->call) {
	case CONNECT:
		s->c.listener = xlisten(&s->listen);
		ASSERT_LE(0, s->c.listener);
		s->stop = false;
		ASSERT_EQ(0, pthread_create(&s->acceptor, NULL, accept_all, s));
		break;
	case LISTEN:
		break;
	case ACCEPT:
		s->c.listener = xlisten(&s->listen);
		ASSERT_LE(0, s->c.listener);
		s->connect.flags = RDMA_SPLICE_NONBLOCK;
		s->c.active = xconnect(&s->connect);
		ASSERT_LE(0, s->c.active);
		ASSERT_EQ(POLLIN, poll_for(s->c.listener, POLLIN, SETUP_MS));
		break;
	case SPLICE_IN:
	case SPLICE_OUT:
		make_pipe(_metadata, s->p);
		make_pipe(_metadata, s->q);
		make_pipe(_metadata, s->hold);
		s->memfd = make_memfd(_metadata, s->len, DATA);
		ASSERT_EQ(s->len, splice_full(s->memfd, s->p[1], s->len));
		if (s->v->call == SPLICE_IN) {
			/* The connection uses its last page for this one. */
			ASSERT_EQ(MESSAGE, rdma_send(s->c.active, MESSAGE, BACK,
						     0));
			ASSERT_EQ(MESSAGE, splice_full(s->c.passive,
						       s->hold[1], MESSAGE));
			ASSERT_EQ(s->len, splice_full(s->p[0], s->c.active,
						      s->len));
			ASSERT_EQ(POLLIN, poll_for(s->c.passive, POLLIN,
						   SETUP_MS));
		}
		break;
	}
}

/* Both ends work. */
static void expect_works(struct __test_metadata *_metadata, struct scene *s)
{
	rdma_wait_writable(_metadata, s->c.active);
	rdma_wait_writable(_metadata, s->c.passive);
	set_nonblock(_metadata, s->c.active, false);
	ASSERT_EQ(MESSAGE, rdma_send(s->c.active, MESSAGE, DATA, 0));
	ASSERT_EQ(MESSAGE, receive_pattern(s->c.passive, MESSAGE, DATA, 0));
	ASSERT_EQ(MESSAGE, rdma_send(s->c.passive, MESSAGE, BACK, 0));
	ASSERT_EQ(MESSAGE, receive_pattern(s->c.active, MESSAGE, BACK, 0));
}

/* What the call has not done is still possible, and nothing is left of it. */
static void finish(struct __test_metadata *_metadata, void *scene, ssize_t ret)
{
	struct scene *s = scene;
	ssize_t done = ret > 0 ? ret : 0;

	switch (s->v->call) {
	case CONNECT:
		__atomic_store_n(&s->stop, true, __ATOMIC_SEQ_CST);
		ASSERT_EQ(0, pthread_join(s->acceptor, NULL));
		s->c.active = ret < 0 ? -1 : ret;
		if (ret >= 0)
			expect_works(_metadata, s);
		break;
	case LISTEN:
		s->c.listener = ret < 0 ? xlisten(&s->listen) : ret;
		ASSERT_LE(0, s->c.listener);
		break;
	case ACCEPT:
		/* A request that was not taken still waits. */
		if (ret < 0 && poll_now(s->c.listener, POLLIN))
			ret = xaccept(s->c.listener, 0);
		s->c.passive = ret < 0 ? -1 : ret;
		if (ret >= 0)
			expect_works(_metadata, s);
		else
			/* Without memory for an answer, the set-up times out. */
			ASSERT_LT(0, poll_for(s->c.active, 0, 3 * SETUP_MS) &
				     POLLERR);
		break;
	case SPLICE_OUT:
		ASSERT_EQ(s->len - done, pipe_bytes(s->p[0]));
		if (done < s->len)
			ASSERT_EQ(s->len - done,
				  splice_full(s->p[0], s->c.active,
					      s->len - done));
		ASSERT_EQ(s->len, receive_pattern(s->c.passive, s->len, DATA,
						  0));
		break;
	case SPLICE_IN:
		ASSERT_EQ(done, pipe_bytes(s->q[0]));
		if (done)
			ASSERT_EQ(done, read_pattern(s->q[0], done, DATA, 0));
		if (done < s->len)
			ASSERT_EQ(s->len - done,
				  receive_pattern(s->c.passive, s->len - done,
						  DATA, done));
		ASSERT_EQ(MESSAGE, read_pattern(s->hold[0], MESSAGE, BACK, 0));
		break;
	}
	if (s->v->call == SPLICE_IN || s->v->call == SPLICE_OUT) {
		ASSERT_EQ(0, poll_now(s->c.passive, POLLIN));
		ASSERT_EQ(0, fsync(s->c.active));
		close(s->p[0]);
		close(s->p[1]);
		close(s->q[0]);
		close(s->q[1]);
		close(s->hold[0]);
		close(s->hold[1]);
		expect_unreferenced(_metadata, s->memfd);
		close(s->memfd);
	} else {
		rdma_pair_close(&s->c);
		expect_nothing_left(_metadata);
	}
}

static struct trial trial_of(struct scene *s)
{
	return (struct trial) {
		.prepare = prepare, .call = call_scene,
		.is_expected = is_expected, .finish = finish, .scene = s,
	};
}

TEST_F_TIMEOUT(rdma_fault, every_point, 3000)
{
	struct trial trial = trial_of(&self->scene);

	fire_every_point(_metadata, &trial);
}

TEST_F_TIMEOUT(rdma_fault, all_at_once, 300)
{
	struct trial trial = trial_of(&self->scene);

	if (variant->kind == SIW && variant->call == ACCEPT)
		SKIP(return, "siw answers by TCP, which waits for memory");
	fire_all_at_once(_metadata, &trial);
}

int main(int argc, char **argv)
{
	return fault_main(argc, argv);
}
