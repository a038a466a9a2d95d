// SPDX-License-Identifier: GPL-2.0
/*
 * splice and tee by io_uring. Stock C runs them in a worker, which waits inside the
 * call. Splice in Rust runs them in the submitting task, and polls. The results are
 * the same, unless a test says otherwise.
 */
#include "splice_memory.h"

#include <linux/io_uring.h>
#include <linux/time_types.h>

/* Two buffers, the second one partly filled. */
#define SOME 5000

#define DATA 1
#define FILLER 2

#define ENTRIES 16

/* The value of an offset that is not given. */
#define NO_OFF ((loff_t)-1)

/* How long a request gets to begin its wait. */
#define SETTLE_US 20000

/* How long a test waits for what should happen at once. */
#define AT_ONCE_MS 5000

#define WORKER "stock C: the request waits in a worker"

FIXTURE(ring) {
	int fd;
	void *ring;
	size_t ring_len;
	unsigned int setup;	/* IORING_SETUP_* */
	unsigned int tail;
	unsigned int *sq_tail;
	unsigned int *sq_array;
	unsigned int *cq_head;
	unsigned int *cq_tail;
	unsigned int mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	int p[2];
	int q[2];
	int file;		/* contains SOME bytes of data, if SPLICE_TMPFS_DIR is set */
};

FIXTURE_VARIANT(ring) {
	unsigned int setup;
};

FIXTURE_VARIANT_ADD(ring, plain) {
};

FIXTURE_VARIANT_ADD(ring, sqpoll) {
	.setup = IORING_SETUP_SQPOLL,
};

FIXTURE_VARIANT_ADD(ring, defer) {
	.setup = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

/* Returns 0, or a negated errno if the kernel has no io_uring. */
static int open_ring(struct __test_metadata *_metadata,
		     struct _test_data_ring *self, unsigned int setup)
{
	struct io_uring_params params = {
		.flags = setup,
		.sq_thread_idle = 100,
	};
	char *ring;

	self->fd = syscall(SYS_io_uring_setup, ENTRIES, &params);
	if (self->fd < 0)
		return -errno;
	self->setup = setup;
	ASSERT_TRUE(params.features & IORING_FEAT_SINGLE_MMAP);
	self->ring_len = params.cq_off.cqes +
			 params.cq_entries * sizeof(struct io_uring_cqe) +
			 params.sq_entries * sizeof(unsigned int);
	ring = mmap(NULL, self->ring_len, PROT_READ | PROT_WRITE, MAP_SHARED,
		    self->fd, IORING_OFF_SQ_RING);
	ASSERT_NE(MAP_FAILED, ring);
	self->ring = ring;
	self->sqes = mmap(NULL, ENTRIES * sizeof(*self->sqes),
			  PROT_READ | PROT_WRITE, MAP_SHARED, self->fd,
			  IORING_OFF_SQES);
	ASSERT_NE(MAP_FAILED, self->sqes);
	self->tail = 0;
	self->sq_tail = (void *)(ring + params.sq_off.tail);
	self->sq_array = (void *)(ring + params.sq_off.array);
	self->cq_head = (void *)(ring + params.cq_off.head);
	self->cq_tail = (void *)(ring + params.cq_off.tail);
	self->cqes = (void *)(ring + params.cq_off.cqes);
	self->mask = params.cq_entries - 1;
	return 0;
}

static void close_ring(struct __test_metadata *_metadata,
		       struct _test_data_ring *self)
{
	ASSERT_EQ(0, munmap(self->sqes, ENTRIES * sizeof(*self->sqes)));
	ASSERT_EQ(0, munmap(self->ring, self->ring_len));
	close(self->fd);
}

FIXTURE_SETUP(ring)
{
	int ret = open_ring(_metadata, self, variant->setup);

	if (ret < 0)
		SKIP(return, "io_uring_setup(): %s", strerror(-ret));
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	self->file = -1;
	if (!end_missing(END_TMPFS)) {
		self->file = make_file(_metadata, end_dir(_metadata,
							  END_TMPFS));
		ASSERT_EQ(SOME, write_pattern(self->file, SOME, DATA, 0));
		ASSERT_EQ(0, lseek(self->file, 0, SEEK_SET));
	}
}

FIXTURE_TEARDOWN(ring)
{
}

/* Adds a request; its index in the queue is its user data. */
static struct io_uring_sqe *push(struct _test_data_ring *self,
				 struct io_uring_sqe sqe)
{
	unsigned int tail = self->tail++, i = tail % ENTRIES;

	sqe.user_data = tail;
	self->sqes[i] = sqe;
	self->sq_array[i] = i;
	return &self->sqes[i];
}

static struct io_uring_sqe *push_splice(struct _test_data_ring *self, int in,
					loff_t off_in, int out, loff_t off_out,
					unsigned int len, unsigned int flags)
{
	return push(self, (struct io_uring_sqe) {
		.opcode = IORING_OP_SPLICE,
		.splice_fd_in = in,
		.splice_off_in = off_in,
		.fd = out,
		.off = off_out,
		.len = len,
		.splice_flags = flags,
	});
}

static struct io_uring_sqe *push_tee(struct _test_data_ring *self, int in, int out,
				     unsigned int len, unsigned int flags)
{
	return push(self, (struct io_uring_sqe) {
		.opcode = IORING_OP_TEE,
		.splice_fd_in = in,
		.fd = out,
		.len = len,
		.splice_flags = flags,
	});
}

static int enter(struct _test_data_ring *self, unsigned int submit,
		 unsigned int wait)
{
	/* Completions of a ring with DEFER_TASKRUN need the flag. */
	unsigned int flags = IORING_ENTER_GETEVENTS;
	int ret;

	if (self->setup & IORING_SETUP_SQPOLL)
		flags |= IORING_ENTER_SQ_WAKEUP;
	__atomic_store_n(self->sq_tail, self->tail, __ATOMIC_RELEASE);
	do {
		ret = syscall(SYS_io_uring_enter, self->fd, submit, wait, flags,
			      NULL, 0);
	} while (ret < 0 && errno == EINTR);
	return ret;
}

static bool is_complete(struct _test_data_ring *self)
{
	return __atomic_load_n(self->cq_tail, __ATOMIC_ACQUIRE) != *self->cq_head;
}

/* Submits @n requests, and gives them the time to begin a wait. */
static void submit(struct __test_metadata *_metadata,
		   struct _test_data_ring *self, unsigned int n)
{
	ASSERT_EQ(n, enter(self, n, 0));
	usleep(SETTLE_US);
	ASSERT_LE(0, enter(self, 0, 0));
}

/* Waits for the next completion for @ms. */
static bool completes(struct _test_data_ring *self, int ms)
{
	while (!is_complete(self) && ms-- > 0) {
		usleep(1000);
		enter(self, 0, 0);
	}
	return is_complete(self);
}

/* Waits for the next completion and removes it from the queue. */
static struct io_uring_cqe next(struct __test_metadata *_metadata,
				struct _test_data_ring *self)
{
	unsigned int head = *self->cq_head;
	struct io_uring_cqe cqe;

	while (!is_complete(self))
		ASSERT_LE(0, enter(self, 0, 1));
	cqe = self->cqes[head & self->mask];
	__atomic_store_n(self->cq_head, head + 1, __ATOMIC_RELEASE);
	return cqe;
}

/* Submits the request that was added last, and returns its result. */
static int result(struct __test_metadata *_metadata, struct _test_data_ring *self)
{
	ASSERT_EQ(1, enter(self, 1, 1));
	return next(_metadata, self).res;
}

static int do_splice(struct __test_metadata *_metadata,
		     struct _test_data_ring *self, int in, loff_t off_in, int out,
		     loff_t off_out, unsigned int len, unsigned int flags)
{
	push_splice(self, in, off_in, out, off_out, len, flags);
	return result(_metadata, self);
}

static int do_tee(struct __test_metadata *_metadata, struct _test_data_ring *self,
		  int in, int out, unsigned int len, unsigned int flags)
{
	push_tee(self, in, out, len, flags);
	return result(_metadata, self);
}

TEST_F(ring, pipe_to_pipe)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(100, do_splice(_metadata, self, self->p[0], NO_OFF,
				 self->q[1], NO_OFF, 100, 0));
	EXPECT_EQ(SOME - 100, do_splice(_metadata, self, self->p[0], NO_OFF,
					self->q[1], NO_OFF, 2 * SOME,
					SPLICE_F_MOVE));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));
}

/*
 * A task that waits for several completions gets them, although one request waits
 * for the data that another one moves.
 */
TEST_F_TIMEOUT(ring, waits_for_several, 30)
{
	int r[2], i, status;
	pid_t pid;

	make_pipe(_metadata, r);
	push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, SOME, 0);
	push_splice(self, self->q[0], NO_OFF, r[1], NO_OFF, SOME, 0);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		usleep(10 * SETTLE_US);
		_exit(write_pattern(self->p[1], SOME, DATA, 0) != SOME);
	}
	ASSERT_EQ(2, enter(self, 2, 2));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(SOME, next(_metadata, self).res);
	EXPECT_EQ(SOME, read_pattern(r[0], SOME, DATA, 0));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(ring, tee)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(100, do_tee(_metadata, self, self->p[0], self->q[1], 100,
			      0));
	EXPECT_EQ(SOME, do_tee(_metadata, self, self->p[0], self->q[1],
			       2 * SOME, 0));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* With an offset the file position does not change, without one it moves. */
TEST_F(ring, file_to_pipe)
{
	if (self->file < 0)
		SKIP(return, "SPLICE_TMPFS_DIR is not set");
	EXPECT_EQ(100, do_splice(_metadata, self, self->file, 1000, self->p[1],
				 NO_OFF, 100, 0));
	EXPECT_EQ(0, lseek(self->file, 0, SEEK_CUR));
	EXPECT_EQ(200, do_splice(_metadata, self, self->file, NO_OFF,
				 self->p[1], NO_OFF, 200, 0));
	EXPECT_EQ(200, lseek(self->file, 0, SEEK_CUR));
	EXPECT_EQ(0, do_splice(_metadata, self, self->file, SOME, self->p[1],
			       NO_OFF, 200, 0));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 1000));
	EXPECT_EQ(200, read_pattern(self->p[0], 200, DATA, 0));
}

TEST_F(ring, pipe_to_file)
{
	loff_t far = 5LL << 30;
	int out;

	if (self->file < 0)
		SKIP(return, "SPLICE_TMPFS_DIR is not set");
	out = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(100, do_splice(_metadata, self, self->p[0], NO_OFF, out,
				 NO_OFF, 100, 0));
	EXPECT_EQ(100, lseek(out, 0, SEEK_CUR));
	EXPECT_EQ(SOME - 100, do_splice(_metadata, self, self->p[0], NO_OFF,
					out, far, 2 * SOME, 0));
	EXPECT_EQ(100, lseek(out, 0, SEEK_CUR));
	EXPECT_EQ(far + SOME - 100, lseek(out, 0, SEEK_END));
	ASSERT_EQ(far, lseek(out, far, SEEK_SET));
	EXPECT_EQ(SOME - 100, read_pattern(out, SOME - 100, DATA, 100));
	ASSERT_EQ(0, lseek(out, 0, SEEK_SET));
	EXPECT_EQ(100, read_pattern(out, 100, DATA, 0));
}

TEST_F(ring, sockets)
{
	int sv[2], i;

	for (i = 0; i < 2; i++) {
		if (i)
			make_tcp_pair(_metadata, sv);
		else
			make_unix_pair(_metadata, sv);
		ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
		EXPECT_EQ(SOME, do_splice(_metadata, self, self->p[0], NO_OFF,
					  sv[0], NO_OFF, SOME, 0));
		EXPECT_EQ(100, do_splice(_metadata, self, sv[1], NO_OFF,
					 self->q[1], NO_OFF, 100, 0));
		EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
		EXPECT_EQ(SOME - 100, read_pattern(sv[1], SOME - 100, DATA,
						   100));
	}
}

/* Registered files instead of descriptors, as source and as sink. */
TEST_F(ring, registered_files)
{
	int fds[] = { self->p[0], self->q[1] };
	struct io_uring_sqe *sqe;

	ASSERT_EQ(0, syscall(SYS_io_uring_register, self->fd,
			     IORING_REGISTER_FILES, fds, 2));
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	sqe = push_tee(self, 0, 1, 100, SPLICE_F_FD_IN_FIXED);
	sqe->flags = IOSQE_FIXED_FILE;
	EXPECT_EQ(100, result(_metadata, self));
	sqe = push_splice(self, 0, NO_OFF, 1, NO_OFF, SOME,
			  SPLICE_F_FD_IN_FIXED);
	sqe->flags = IOSQE_FIXED_FILE;
	EXPECT_EQ(SOME, result(_metadata, self));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));

	EXPECT_EQ(-EBADF, do_splice(_metadata, self, 7, NO_OFF, self->q[1],
				    NO_OFF, 1, SPLICE_F_FD_IN_FIXED));
	EXPECT_EQ(-EBADF, do_tee(_metadata, self, 7, self->q[1], 1,
				 SPLICE_F_FD_IN_FIXED));
}

/* Every errno, except those of checks in the system calls. */
TEST_F(ring, errors)
{
	int *p = self->p, *q = self->q;

	ASSERT_EQ(SOME, write_pattern(p[1], SOME, DATA, 0));
	EXPECT_EQ(-EINVAL, do_splice(_metadata, self, p[0], NO_OFF, q[1],
				     NO_OFF, 1, 0x10));
	EXPECT_EQ(-EINVAL, do_tee(_metadata, self, p[0], q[1], 1, 0x10));
	EXPECT_EQ(-EBADF, do_splice(_metadata, self, -1, NO_OFF, q[1], NO_OFF,
				    1, 0));
	EXPECT_EQ(-EBADF, do_splice(_metadata, self, p[0], NO_OFF, -1, NO_OFF,
				    1, 0));
	EXPECT_EQ(-EBADF, do_tee(_metadata, self, -1, q[1], 1, 0));
	EXPECT_EQ(-EBADF, do_tee(_metadata, self, p[0], -1, 1, 0));
	EXPECT_EQ(-EBADF, do_splice(_metadata, self, p[1], NO_OFF, q[1],
				    NO_OFF, 1, 0));
	EXPECT_EQ(-EBADF, do_splice(_metadata, self, p[0], NO_OFF, q[0],
				    NO_OFF, 1, 0));
	EXPECT_EQ(-EBADF, do_tee(_metadata, self, p[1], q[1], 1, 0));
	EXPECT_EQ(-EBADF, do_tee(_metadata, self, p[0], q[0], 1, 0));
	EXPECT_EQ(-ESPIPE, do_splice(_metadata, self, p[0], 0, q[1], NO_OFF,
				     1, 0));
	EXPECT_EQ(-ESPIPE, do_splice(_metadata, self, p[0], NO_OFF, q[1], 0,
				     1, 0));
	EXPECT_EQ(-EINVAL, do_splice(_metadata, self, p[0], NO_OFF, p[1],
				     NO_OFF, 1, 0));
	EXPECT_EQ(-EINVAL, do_tee(_metadata, self, p[0], p[1], 1, 0));
	EXPECT_EQ(-EAGAIN, do_splice(_metadata, self, q[0], NO_OFF, p[1],
				     NO_OFF, 1, SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EAGAIN, do_tee(_metadata, self, q[0], p[1], 1,
				  SPLICE_F_NONBLOCK));
	EXPECT_EQ(0, do_splice(_metadata, self, p[0], NO_OFF, q[1], NO_OFF, 0,
			       0));
	EXPECT_EQ(0, do_tee(_metadata, self, p[0], q[1], 0, 0));
	EXPECT_EQ(0, pipe_bytes(q[0]));
	if (self->file >= 0) {
		EXPECT_EQ(-EINVAL, do_splice(_metadata, self, self->file,
					     NO_OFF, self->file, NO_OFF, 1, 0));
		EXPECT_EQ(-EINVAL, do_tee(_metadata, self, p[0], self->file, 1,
					  0));
		EXPECT_EQ(-ESPIPE, do_splice(_metadata, self, p[0], 0,
					     self->file, NO_OFF, 1, 0));
		EXPECT_EQ(-EINVAL, do_splice(_metadata, self, p[0], NO_OFF,
					     self->file, -5, 1, 0));
	}
	EXPECT_EQ(SOME, read_pattern(p[0], SOME, DATA, 0));
}

/*
 * Without a reader the request fails. The submitting task gets no SIGPIPE, which
 * would end this process: a worker has no signals.
 */
TEST_F(ring, no_reader)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	fill_pipe(_metadata, self->q[1], FILLER);
	push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, 1, 0);
	submit(_metadata, self, 1);
	EXPECT_FALSE(is_complete(self));
	close(self->q[0]);
	EXPECT_EQ(-EPIPE, next(_metadata, self).res);
	if (self->file >= 0) {
		EXPECT_EQ(-EPIPE, do_splice(_metadata, self, self->file, 0,
					    self->q[1], NO_OFF, 1, 0));
	}
	EXPECT_EQ(-EPIPE, do_splice(_metadata, self, self->p[0], NO_OFF,
				    self->q[1], NO_OFF, 1, 0));
	EXPECT_EQ(-EPIPE, do_tee(_metadata, self, self->p[0], self->q[1], 1,
				 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* A request that waits for data or for room completes when there is some. */
TEST_F(ring, waits)
{
	ssize_t page = page_size(), capacity;

	push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, SOME, 0);
	ASSERT_EQ(1, enter(self, 1, 0));
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	EXPECT_EQ(100, next(_metadata, self).res);
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));

	push_tee(self, self->p[0], self->q[1], SOME, 0);
	ASSERT_EQ(1, enter(self, 1, 0));
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	EXPECT_EQ(100, next(_metadata, self).res);
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));

	capacity = fill_pipe(_metadata, self->q[1], FILLER);
	push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, SOME, 0);
	ASSERT_EQ(1, enter(self, 1, 0));
	EXPECT_EQ(page, read_pattern(self->q[0], page, FILLER, 0));
	EXPECT_EQ(100, next(_metadata, self).res);
	EXPECT_EQ(capacity - page, read_pattern(self->q[0], capacity - page,
						FILLER, page));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
}

/* Linked requests: from a file through a pipe to a file, in order. */
TEST_F(ring, linked)
{
	int out, i;

	if (self->file < 0)
		SKIP(return, "SPLICE_TMPFS_DIR is not set");
	out = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	for (i = 0; i < 2; i++) {
		push_splice(self, self->file, i * 1000, self->p[1], NO_OFF,
			    1000, 0)->flags = IOSQE_IO_LINK;
		push_splice(self, self->p[0], NO_OFF, out, i * 1000, 1000,
			    0)->flags = i ? 0 : IOSQE_IO_LINK;
	}
	ASSERT_EQ(4, enter(self, 4, 4));
	for (i = 0; i < 4; i++) {
		struct io_uring_cqe cqe = next(_metadata, self);

		EXPECT_EQ(i, cqe.user_data);
		EXPECT_EQ(1000, cqe.res);
	}
	EXPECT_EQ(2000, read_pattern(out, 2000, DATA, 0));
}

/* A short transfer breaks the link, as a failure does. */
TEST_F(ring, short_count_breaks_link)
{
	int i, head[] = { 100, 100, -EBADF };

	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	for (i = 0; i < 3; i++) {
		if (i == 0)
			push_tee(self, self->p[0], self->q[1], SOME, 0);
		else if (i == 1)
			push_splice(self, self->p[0], NO_OFF, self->q[1],
				    NO_OFF, SOME, 0);
		else
			push_splice(self, -1, NO_OFF, self->q[1], NO_OFF, SOME,
				    0);
		self->sqes[(self->tail - 1) % ENTRIES].flags = IOSQE_IO_LINK;
		push_tee(self, self->q[0], self->p[1], 10, 0);
		ASSERT_EQ(2, enter(self, 2, 2));
		EXPECT_EQ(head[i], next(_metadata, self).res);
		EXPECT_EQ(-ECANCELED, next(_metadata, self).res);
	}
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
}

/* A waiting request can be cancelled, and the pipes are unchanged. */
TEST_F(ring, cancelled)
{
	struct io_uring_cqe cqe;
	int i, j, seen;

	for (i = 0; i < 4; i++) {
		ssize_t capacity = 0;

		if (i % 2) {
			ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
			capacity = fill_pipe(_metadata, self->q[1], FILLER);
		}
		if (i / 2)
			push_tee(self, self->p[0], self->q[1], SOME, 0);
		else
			push_splice(self, self->p[0], NO_OFF, self->q[1],
				    NO_OFF, SOME, 0);
		ASSERT_EQ(1, enter(self, 1, 0));

		/* The worker may not have started the request yet. */
		for (seen = 0; !seen;) {
			push(self, (struct io_uring_sqe) {
				.opcode = IORING_OP_ASYNC_CANCEL,
				.addr = self->tail - 1,
				.cancel_flags = IORING_ASYNC_CANCEL_ANY,
			});
			ASSERT_EQ(1, enter(self, 1, 1));
			for (j = 0; j < 2; j++) {
				if (!is_complete(self))
					break;
				cqe = next(_metadata, self);
				seen |= cqe.res == -ECANCELED ||
					cqe.res == -EINTR || cqe.res == -512;
			}
		}
		while (is_complete(self))
			next(_metadata, self);
		EXPECT_EQ(capacity, pipe_bytes(self->q[0]));
		EXPECT_EQ(capacity ? 100 : 0, pipe_bytes(self->p[0]));
		if (capacity) {
			EXPECT_EQ(capacity, read_pattern(self->q[0], capacity,
							 FILLER, 0));
			EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
		}
	}
}

/*
 * After the ring is closed or its owner has exited, no request holds the pipe.
 */
TEST_F(ring, owner_ends)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* A new ring, so that it ends with the process. */
		close_ring(_metadata, self);
		if (open_ring(_metadata, self, variant->setup))
			_exit(1);
		push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, SOME,
			    0);
		push_tee(self, self->p[0], self->q[1], SOME, 0);
		if (enter(self, 2, 0) != 2)
			_exit(2);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

	/* The requests are gone, so no other task moves the data. */
	close(self->q[1]);
	EXPECT_EQ(0, xread(self->q[0], &(char){ 0 }, 1));
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* Many requests at once, on both ends of a pipe; all data arrives. */
TEST_F_TIMEOUT(ring, many, 60)
{
	unsigned int i, round;
	ssize_t moved = 0;

	ASSERT_EQ(2000, write_pattern(self->p[1], 2000, DATA, 0));
	for (round = 0; round < 200; round++) {
		for (i = 0; i < ENTRIES; i++)
			push_splice(self, i % 2 ? self->q[0] : self->p[0],
				    NO_OFF, i % 2 ? self->p[1] : self->q[1],
				    NO_OFF, 100 + i, SPLICE_F_NONBLOCK);
		ASSERT_EQ(ENTRIES, enter(self, ENTRIES, ENTRIES));
		for (i = 0; i < ENTRIES; i++) {
			int res = next(_metadata, self).res;

			if (res != -EAGAIN) {
				ASSERT_LT(0, res);
				moved += res;
			}
		}
	}
	EXPECT_LT(0, moved);
	EXPECT_EQ(2000, pipe_bytes(self->p[0]) + pipe_bytes(self->q[0]));
}

/* The flags of the kernel are not for user space, and bit 31 is of io_uring. */
TEST_F(ring, internal_flags)
{
	unsigned int flag;

	for (flag = 0x10; flag != 1U << 31; flag <<= 1) {
		EXPECT_EQ(-EINVAL, do_splice(_metadata, self, self->p[0],
					     NO_OFF, self->q[1], NO_OFF, 1,
					     flag));
		EXPECT_EQ(-EINVAL, do_tee(_metadata, self, self->p[0],
					  self->q[1], 1, flag));
	}
}

/* EAGAIN is final if SPLICE_F_NONBLOCK or O_NONBLOCK of a pipe asks for it. */
TEST_F(ring, not_blocking)
{
	unsigned int flags;
	int full, i;

	for (full = 0; full < 2; full++) {
		if (full) {
			ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
			fill_pipe(_metadata, self->q[1], FILLER);
		}
		for (i = 0; i < 3; i++) {
			flags = i ? 0 : SPLICE_F_NONBLOCK;
			set_nonblock(_metadata, self->p[0], i == 1);
			set_nonblock(_metadata, self->q[1], i == 2);
			EXPECT_EQ(-EAGAIN, do_splice(_metadata, self,
						     self->p[0], NO_OFF,
						     self->q[1], NO_OFF, 1,
						     flags));
			EXPECT_EQ(-EAGAIN, do_tee(_metadata, self, self->p[0],
						  self->q[1], 1, flags));
		}
		set_nonblock(_metadata, self->q[1], false);
	}
	if (self->file < 0)
		SKIP(return, "SPLICE_TMPFS_DIR is not set");
	EXPECT_EQ(-EAGAIN, do_splice(_metadata, self, self->file, 0,
				     self->q[1], NO_OFF, 1, SPLICE_F_NONBLOCK));
	set_nonblock(_metadata, self->q[1], true);
	EXPECT_EQ(-EAGAIN, do_splice(_metadata, self, self->file, 0,
				     self->q[1], NO_OFF, 1, 0));
	set_nonblock(_metadata, self->q[1], false);

	/* That of the file does not count. */
	set_nonblock(_metadata, self->file, true);
	push_splice(self, self->file, 0, self->q[1], NO_OFF, 100, 0);
	submit(_metadata, self, 1);
	EXPECT_FALSE(is_complete(self));
	ASSERT_EQ(page_size(), read_pattern(self->q[0], page_size(), FILLER, 0));
	EXPECT_EQ(100, next(_metadata, self).res);
}

/* A time-out that is linked to a request ends its wait. */
TEST_F(ring, linked_timeout)
{
	struct __kernel_timespec ts = { .tv_nsec = 50000000 };
	struct io_uring_cqe cqe[2];
	int i, full, is_tee;

	for (full = 0; full < 2; full++)
		for (is_tee = 0; is_tee < 2; is_tee++) {
			if (full && !is_tee) {
				ASSERT_EQ(100, write_pattern(self->p[1], 100,
							     DATA, 0));
				fill_pipe(_metadata, self->q[1], FILLER);
			}
			if (is_tee)
				push_tee(self, self->p[0], self->q[1], SOME, 0);
			else
				push_splice(self, self->p[0], NO_OFF,
					    self->q[1], NO_OFF, SOME, 0);
			self->sqes[(self->tail - 1) % ENTRIES].flags =
				IOSQE_IO_LINK;
			push(self, (struct io_uring_sqe) {
				.opcode = IORING_OP_LINK_TIMEOUT,
				.addr = (uintptr_t)&ts,
				.len = 1,
			});
			ASSERT_EQ(2, enter(self, 2, 0));
			for (i = 0; i < 2; i++) {
				if (!completes(self, AT_ONCE_MS)) {
					ASSERT_FALSE(have_counters());
					XFAIL(return, WORKER);
				}
				cqe[i] = next(_metadata, self);
			}
			if (cqe[0].user_data > cqe[1].user_data) {
				struct io_uring_cqe first = cqe[1];

				cqe[1] = cqe[0];
				cqe[0] = first;
			}
			if (!have_counters() && cqe[0].res != -ECANCELED)
				XFAIL(return, WORKER);
			EXPECT_EQ(-ECANCELED, cqe[0].res);
			EXPECT_EQ(-ETIME, cqe[1].res);
		}
	EXPECT_EQ(100, pipe_bytes(self->p[0]));
	EXPECT_EQ(pipe_capacity(self->q[0]), pipe_bytes(self->q[0]));
}

/* Cancels the last request by its user data or by its descriptor. */
static int cancel(struct __test_metadata *_metadata,
		  struct _test_data_ring *self, int fd, int *res)
{
	struct io_uring_cqe cqe;
	int i, ret = 1;

	push(self, (struct io_uring_sqe) {
		.opcode = IORING_OP_ASYNC_CANCEL,
		.fd = fd,
		.addr = fd < 0 ? self->tail - 1 : 0,
		.cancel_flags = fd < 0 ? 0 : IORING_ASYNC_CANCEL_FD,
	});
	ASSERT_EQ(1, enter(self, 1, 1));
	for (i = 0; i < 2; i++) {
		if (!completes(self, AT_ONCE_MS))
			break;
		cqe = next(_metadata, self);
		if (cqe.user_data == self->tail - 1)
			ret = cqe.res;
		else
			*res = cqe.res;
	}
	return ret;
}

/* A request that waits is cancelled at once, by user data and by descriptor. */
TEST_F(ring, cancelled_at_once)
{
	int i, ret, res;

	for (i = 0; i < 8; i++) {
		bool full = i & 1, is_tee = i & 2, by_fd = i & 4;
		ssize_t capacity = 0;

		if (full) {
			ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
			capacity = fill_pipe(_metadata, self->q[1], FILLER);
		}
		if (is_tee)
			push_tee(self, self->p[0], self->q[1], SOME, 0);
		else
			push_splice(self, self->p[0], NO_OFF, self->q[1],
				    NO_OFF, SOME, 0);
		submit(_metadata, self, 1);
		EXPECT_FALSE(is_complete(self));
		res = 1;
		ret = cancel(_metadata, self, by_fd ? self->q[1] : -1, &res);
		if (ret == -EALREADY) {
			ASSERT_FALSE(have_counters());
			XFAIL(return, WORKER);
		}
		EXPECT_EQ(0, ret);
		EXPECT_EQ(-ECANCELED, res);
		if (full) {
			EXPECT_EQ(capacity, read_pattern(self->q[0], capacity,
							 FILLER, 0));
			EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
		}
	}
	/* No request has a reference to the pipe. */
	close(self->q[1]);
	EXPECT_EQ(0, xread(self->q[0], &(char){ 0 }, 1));
}

/* Requests that wait hold the files that they were submitted with. */
TEST_F(ring, files_are_kept)
{
	int other[2], p = dup(self->p[0]), q = dup(self->q[1]);
	int fds[] = { p, q };
	struct io_uring_sqe *sqe;
	int ret;

	make_pipe(_metadata, other);
	push_splice(self, p, NO_OFF, q, NO_OFF, SOME, 0);
	submit(_metadata, self, 1);
	ASSERT_EQ(p, dup2(other[0], p));
	ASSERT_EQ(q, dup2(other[1], q));
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	ret = next(_metadata, self).res;
	if (ret == -EINVAL && !have_counters())
		XFAIL(return, "stock C: a worker looks the files up when it starts");
	EXPECT_EQ(100, ret);
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));

	fds[0] = self->p[0];
	fds[1] = self->q[1];
	ASSERT_EQ(0, syscall(SYS_io_uring_register, self->fd,
			     IORING_REGISTER_FILES, fds, 2));
	sqe = push_splice(self, 0, NO_OFF, 1, NO_OFF, SOME,
			  SPLICE_F_FD_IN_FIXED);
	sqe->flags = IOSQE_FIXED_FILE;
	submit(_metadata, self, 1);
	ASSERT_EQ(0, syscall(SYS_io_uring_register, self->fd,
			     IORING_UNREGISTER_FILES, NULL, 0));
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	EXPECT_EQ(100, next(_metadata, self).res);
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
}

/* After the ring is closed, no request holds the pipe. */
TEST_F(ring, closed_meanwhile)
{
	push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, SOME, 0);
	push_tee(self, self->p[0], self->q[1], SOME, 0);
	push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, SOME, 0)->flags =
		IOSQE_IO_DRAIN;
	submit(_metadata, self, 3);
	close_ring(_metadata, self);
	close(self->q[1]);
	/* The end of the data, when the last reference to the pipe is gone. */
	EXPECT_EQ(0, xread(self->q[0], &(char){ 0 }, 1));
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* With IOSQE_ASYNC a request runs in a worker, with the same results. */
TEST_F(ring, async)
{
	ssize_t in_task = read_counter("uring.inline");
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
		push_tee(self, self->p[0], self->q[1], 100, 0)->flags =
			IOSQE_ASYNC;
		EXPECT_EQ(100, result(_metadata, self));
		push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, SOME,
			    0)->flags = IOSQE_ASYNC;
		EXPECT_EQ(SOME, result(_metadata, self));
		EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
		EXPECT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));
	}
	push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, SOME,
		    0)->flags = IOSQE_ASYNC;
	submit(_metadata, self, 1);
	EXPECT_FALSE(is_complete(self));
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	EXPECT_EQ(100, next(_metadata, self).res);
	if (have_counters())
		EXPECT_EQ(in_task, read_counter("uring.inline"));
}

/* Makes a file of @len bytes on ext4, of which @cached bytes are in the cache. */
static int make_cold_file(struct __test_metadata *_metadata, ssize_t len,
			  ssize_t cached)
{
	int file = make_file(_metadata, end_dir(_metadata, END_EXT4));
	char *buf = malloc(len);

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(len, write_pattern(file, len, DATA, 0));
	ASSERT_EQ(0, fsync(file));
	ASSERT_EQ(0, posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED));
	/* Without read-ahead. */
	ASSERT_EQ(0, posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM));
	ASSERT_EQ(cached, pread(file, buf, cached, 0));
	free(buf);
	return file;
}

/*
 * A file that is not, or only partly, in the page cache: the request still moves
 * all bytes, so that a chain goes on.
 */
TEST_F(ring, cold_file)
{
	const ssize_t page = page_size(), len = pipe_capacity(self->p[0]);
	const ssize_t cached[] = { 0, page, 4 * page, len };
	const char *missing = end_missing(END_EXT4);
	int i, file;

	if (missing)
		SKIP(return, "%s is not set", missing);
	for (i = 0; i < ARRAY_LEN(cached); i++) {
		ssize_t worker = read_counter("uring.worker");

		file = make_cold_file(_metadata, len, cached[i]);
		push_splice(self, file, 0, self->p[1], NO_OFF, len,
			    0)->flags = IOSQE_IO_LINK;
		push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, len, 0);
		ASSERT_EQ(2, enter(self, 2, 2));
		EXPECT_EQ(len, next(_metadata, self).res);
		EXPECT_EQ(len, next(_metadata, self).res);
		EXPECT_EQ(len, read_pattern(self->q[0], len, DATA, 0));
		/* Unless all is cached: the disk may answer during the attempt. */
		if (have_counters() && cached[i] == len)
			EXPECT_EQ(worker, read_counter("uring.worker"));
		close(file);
	}

	/* From the file position on, up to the end of the file. */
	file = make_cold_file(_metadata, len, 2 * page);
	ASSERT_EQ(100, lseek(file, 100, SEEK_SET));
	EXPECT_EQ(2 * page, do_splice(_metadata, self, file, NO_OFF, self->p[1],
				      NO_OFF, 2 * page, 0));
	EXPECT_EQ(2 * page, read_pattern(self->p[0], 2 * page, DATA, 100));
	EXPECT_EQ(len - 2 * page - 100,
		  do_splice(_metadata, self, file, NO_OFF, self->p[1], NO_OFF,
			    len, 0));
	EXPECT_EQ(0, do_splice(_metadata, self, file, NO_OFF, self->q[1],
			       NO_OFF, len, 0));
	EXPECT_EQ(len, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(len - 2 * page - 100,
		  read_pattern(self->p[0], len - 2 * page - 100, DATA,
			       2 * page + 100));
	close(file);
}

/* As much as there is room for, from a file that is partly in the page cache. */
TEST_F(ring, cold_file_little_room)
{
	const ssize_t page = page_size(), len = pipe_capacity(self->p[0]);
	const char *missing = end_missing(END_EXT4);
	int file;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_cold_file(_metadata, len, page);
	fill_pipe(_metadata, self->p[1], FILLER);
	push_splice(self, file, 0, self->p[1], NO_OFF, len, 0);
	submit(_metadata, self, 1);
	EXPECT_FALSE(is_complete(self));
	/* Three pages at once. */
	EXPECT_EQ(3 * page, do_splice(_metadata, self, self->p[0], NO_OFF,
				      self->q[1], NO_OFF, 3 * page, 0));
	EXPECT_EQ(3 * page, next(_metadata, self).res);
	EXPECT_EQ(len - 3 * page, read_pattern(self->p[0], len - 3 * page,
					       FILLER, 3 * page));
	EXPECT_EQ(3 * page, read_pattern(self->p[0], 3 * page, DATA, 0));
	EXPECT_EQ(3 * page, read_pattern(self->q[0], 3 * page, FILLER, 0));
	close(file);
}

/*
 * A request that is cancelled while it waits for a worker: its result is what it has
 * moved, from the part of a file that is in the page cache.
 */
TEST_F(ring, cold_file_cancelled)
{
	const ssize_t page = page_size(), len = pipe_capacity(self->p[0]);
	const char *missing = end_missing(END_EXT4);
	unsigned int workers[] = { 1, 1 };
	int file, ret, res = 1, other[2];

	if (missing)
		SKIP(return, "%s is not set", missing);
	make_pipe(_metadata, other);
	ASSERT_EQ(0, syscall(SYS_io_uring_register, self->fd,
			     IORING_REGISTER_IOWQ_MAX_WORKERS, workers, 2));
	/* The only worker waits. */
	push_splice(self, other[0], NO_OFF, self->q[1], NO_OFF, 1,
		    0)->flags = IOSQE_ASYNC;
	submit(_metadata, self, 1);
	file = make_cold_file(_metadata, len, page);
	push_splice(self, file, 0, self->p[1], NO_OFF, len, 0);
	submit(_metadata, self, 1);
	ret = cancel(_metadata, self, -1, &res);
	/* Unless the disk has answered during the attempt. */
	if (ret != -ENOENT) {
		EXPECT_EQ(0, ret);
		EXPECT_EQ(have_counters() ? page : -ECANCELED, res);
	}
	EXPECT_EQ(res < 0 ? 0 : res, pipe_bytes(self->p[0]));
	close(file);
}

/* Waits until a counter has grown by @n since it was @before; returns the growth. */
static ssize_t counter_grows(const char *name, ssize_t before, ssize_t n)
{
	int ms;

	for (ms = 0; ms < AT_ONCE_MS; ms++) {
		if (read_counter(name) - before >= n)
			break;
		usleep(1000);
	}
	return read_counter(name) - before;
}

/* What runs in the submitting task, what waits by poll, and what in a worker. */
TEST_F(ring, counters)
{
	ssize_t in_task = read_counter("uring.inline");
	ssize_t worker = read_counter("uring.worker");
	ssize_t polls = read_counter("uring.polls");
	const char *missing = end_missing(END_EXT4);
	int file;

	if (!have_counters() || missing || self->file < 0)
		SKIP(return, "needs the counters, and files on ext4 and tmpfs");
	file = make_cold_file(_metadata, SOME, SOME);
	EXPECT_EQ(SOME, do_splice(_metadata, self, file, 0, self->p[1], NO_OFF,
				  2 * SOME, 0));
	EXPECT_EQ(SOME, do_tee(_metadata, self, self->p[0], self->q[1], SOME,
			       0));
	EXPECT_EQ(SOME, do_splice(_metadata, self, self->q[0], NO_OFF,
				  self->p[1], NO_OFF, SOME, 0));
	EXPECT_EQ(3, read_counter("uring.inline") - in_task);
	EXPECT_EQ(0, read_counter("uring.worker") - worker);
	EXPECT_EQ(0, read_counter("uring.polls") - polls);

	push_splice(self, self->q[0], NO_OFF, self->p[1], NO_OFF, SOME, 0);
	submit(_metadata, self, 1);
	EXPECT_EQ(1, counter_grows("uring.polls", polls, 1));
	ASSERT_EQ(100, write_pattern(self->q[1], 100, DATA, 0));
	EXPECT_EQ(100, next(_metadata, self).res);
	EXPECT_EQ(4, read_counter("uring.inline") - in_task);
	EXPECT_EQ(0, read_counter("uring.worker") - worker);
	EXPECT_EQ(1, read_counter("uring.polls") - polls);

	/* tmpfs cannot read without a wait, and a file is written in a worker. */
	EXPECT_EQ(100, do_splice(_metadata, self, self->file, 0, self->q[1],
				 NO_OFF, 100, 0));
	EXPECT_EQ(100, do_splice(_metadata, self, self->q[0], NO_OFF,
				 self->file, 0, 100, 0));
	EXPECT_EQ(4, read_counter("uring.inline") - in_task);
	EXPECT_EQ(2, read_counter("uring.worker") - worker);
	close(file);
}

/*
 * While another task holds the lock of a pipe, a request neither waits in the
 * submitting task nor tries again and again.
 */
TEST_F(ring, pipe_is_locked)
{
	ssize_t worker = read_counter("uring.worker");
	struct stuck stuck;
	struct job job;
	int i, ret;

	ret = stuck_map(&stuck);
	if (ret < 0)
		SKIP(return, "no userfaultfd: %s", strerror(-ret));
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	job = job_reader(self->p[0], stuck.mem, 100);
	job_start(_metadata, &job);
	stuck_wait(_metadata, &stuck);
	push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, 100, 0);
	push_tee(self, self->p[0], self->q[1], 100, 0);
	submit(_metadata, self, 2);
	EXPECT_FALSE(is_complete(self));
	if (have_counters())
		EXPECT_EQ(2, counter_grows("uring.worker", worker, 2));
	stuck_resolve(_metadata, &stuck);
	EXPECT_EQ(100, job_finish(_metadata, &job));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(100, next(_metadata, self).res);
	EXPECT_EQ(200, pipe_bytes(self->q[0]));
}

/* Several requests that wait for the same data: each byte is moved once. */
TEST_F(ring, many_wait)
{
	ssize_t moved = 0;
	int i, ret;

	for (i = 0; i < ENTRIES; i++)
		push_splice(self, self->p[0], NO_OFF, self->q[1], NO_OFF, 100,
			    0);
	submit(_metadata, self, ENTRIES);
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	for (i = 0; i < ENTRIES; i++) {
		ret = next(_metadata, self).res;
		ASSERT_LT(0, ret);
		moved += ret;
	}
	EXPECT_EQ(ENTRIES * 100, moved);
	EXPECT_EQ(moved, read_pattern(self->q[0], moved, DATA, 0));
	EXPECT_EQ(SOME - moved, read_pattern(self->p[0], SOME - moved, DATA,
					     moved));
}

/* Data that passes through requests arrives complete and in order. */
TEST_F_TIMEOUT(ring, order, 120)
{
	const ssize_t len = 1 << 20;
	char *from = alloc_pattern(_metadata, len, DATA), *to = malloc(len);
	struct job writer = job_writer(self->p[1], from, len);
	struct job reader = job_reader(self->q[0], to, len);
	ssize_t moved = 0;
	int ret;

	job_start(_metadata, &writer);
	job_start(_metadata, &reader);
	while (moved < len) {
		ret = do_splice(_metadata, self, self->p[0], NO_OFF, self->q[1],
				NO_OFF, 1 + moved % 9973, 0);
		ASSERT_LT(0, ret);
		moved += ret;
	}
	EXPECT_EQ(len, job_finish(_metadata, &writer));
	EXPECT_EQ(len, job_finish(_metadata, &reader));
	EXPECT_EQ(len, match_pattern(to, len, DATA, 0));
}

TEST_HARNESS_MAIN
