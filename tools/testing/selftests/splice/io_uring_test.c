// SPDX-License-Identifier: GPL-2.0
/*
 * splice and tee by io_uring, which calls do_splice() and do_tee() from a
 * worker thread instead of the system calls.
 */
#include "splice_common.h"

#include <linux/io_uring.h>

/* Two buffers, the second one partly filled. */
#define SOME 5000

#define DATA 1
#define FILLER 2

#define ENTRIES 16

/* The value of an offset that is not given. */
#define NO_OFF ((loff_t)-1)

FIXTURE(ring) {
	int fd;
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

FIXTURE_SETUP(ring)
{
	struct io_uring_params params = {};
	char *ring;

	self->fd = syscall(SYS_io_uring_setup, ENTRIES, &params);
	if (self->fd < 0)
		SKIP(return, "io_uring_setup(): %s", strerror(errno));
	ASSERT_TRUE(params.features & IORING_FEAT_SINGLE_MMAP);
	ring = mmap(NULL, params.cq_off.cqes +
		    params.cq_entries * sizeof(struct io_uring_cqe) +
		    params.sq_entries * sizeof(unsigned int),
		    PROT_READ | PROT_WRITE, MAP_SHARED, self->fd,
		    IORING_OFF_SQ_RING);
	ASSERT_NE(MAP_FAILED, ring);
	self->sqes = mmap(NULL, params.sq_entries * sizeof(*self->sqes),
			  PROT_READ | PROT_WRITE, MAP_SHARED, self->fd,
			  IORING_OFF_SQES);
	ASSERT_NE(MAP_FAILED, self->sqes);
	self->sq_tail = (void *)(ring + params.sq_off.tail);
	self->sq_array = (void *)(ring + params.sq_off.array);
	self->cq_head = (void *)(ring + params.cq_off.head);
	self->cq_tail = (void *)(ring + params.cq_off.tail);
	self->cqes = (void *)(ring + params.cq_off.cqes);
	self->mask = params.cq_entries - 1;

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
	unsigned int tail = *self->sq_tail, i = tail % ENTRIES;

	sqe.user_data = tail;
	self->sqes[i] = sqe;
	self->sq_array[i] = i;
	__atomic_store_n(self->sq_tail, tail + 1, __ATOMIC_RELEASE);
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
	int ret;

	do {
		ret = syscall(SYS_io_uring_enter, self->fd, submit, wait,
			      wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
	} while (ret < 0 && errno == EINTR);
	return ret;
}

/* Waits for the next completion and removes it from the queue. */
static struct io_uring_cqe next(struct __test_metadata *_metadata,
				struct _test_data_ring *self)
{
	unsigned int head = *self->cq_head;
	struct io_uring_cqe cqe;

	while (__atomic_load_n(self->cq_tail, __ATOMIC_ACQUIRE) == head)
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

/* Without a reader the worker gets the SIGPIPE, and the process survives. */
TEST_F(ring, no_reader)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	close(self->q[0]);
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
		self->sqes[(*self->sq_tail - 1) % ENTRIES].flags =
			IOSQE_IO_LINK;
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
				.addr = *self->sq_tail - 1,
				.cancel_flags = IORING_ASYNC_CANCEL_ANY,
			});
			ASSERT_EQ(1, enter(self, 1, 1));
			for (j = 0; j < 2; j++) {
				if (*self->cq_head == *self->cq_tail)
					break;
				cqe = next(_metadata, self);
				seen |= cqe.res == -ECANCELED ||
					cqe.res == -EINTR || cqe.res == -512;
			}
		}
		while (*self->cq_head != *self->cq_tail)
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
		struct io_uring_params params = {};
		struct io_uring_sqe *sqes;
		unsigned int *ring;

		/* A new ring, so that it ends with the process. */
		close(self->fd);
		self->fd = syscall(SYS_io_uring_setup, ENTRIES, &params);
		ring = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			    self->fd, IORING_OFF_SQ_RING);
		sqes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			    self->fd, IORING_OFF_SQES);
		if (self->fd < 0 || ring == MAP_FAILED || sqes == MAP_FAILED)
			_exit(1);
		self->sqes = sqes;
		self->sq_tail = ring + params.sq_off.tail / sizeof(*ring);
		self->sq_array = ring + params.sq_off.array / sizeof(*ring);
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

TEST_HARNESS_MAIN
