// SPDX-License-Identifier: GPL-2.0
/*
 * Waiting for a device with a DMA engine: for room in its queue, for data, and
 * for the end of a transfer. Which events end a wait, which events poll(2) and
 * epoll(7) report, and where the data is afterwards.
 */
#include "edu_common.h"
#include "splice_memory.h"
#include "splice_notify.h"

#include <sys/epoll.h>

/* Two buffers, the second one partly filled. */
#define SOME 5000

#define ALL_EVENTS (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM)

/* The queue is full, and no task reads. */
FIXTURE(full) {
	int fd;
	int p[2];		/* a page of filler, for which the queue had no room */
	ssize_t sum;		/* bytes before it, in the device */
	struct job job;		/* sends it */
};

FIXTURE_SETUP(full)
{
	if (!have_edu(0))
		SKIP(return, NO_EDU);
	self->fd = edu_open_empty(_metadata, 0);
	make_pipe(_metadata, self->p);
	self->sum = edu_fill(_metadata, self->fd, self->p);
	self->job = job_splice(self->p[0], self->fd, EDU_PAGE);
}

FIXTURE_TEARDOWN(full)
{
}

/* The page has not moved; everything arrives in order. */
static void check_full(struct __test_metadata *_metadata,
		       struct _test_data_full *self)
{
	EXPECT_EQ(EDU_PAGE, pipe_bytes(self->p[0]));
	EXPECT_EQ(self->sum, receive_pattern(self->fd, self->sum, FILLER, 0));
	EXPECT_EQ(EDU_PAGE, job_call(&self->job));
	EXPECT_EQ(EDU_PAGE, receive_pattern(self->fd, EDU_PAGE, FILLER,
					    self->sum));
	edu_expect_empty(_metadata, self->fd);
}

TEST_F_TIMEOUT(full, nonblock, 60)
{
	int file = make_memfd(_metadata, SOME, DATA);

	self->job.arg[5] = SPLICE_F_NONBLOCK;
	EXPECT_EQ(-EAGAIN, job_call(&self->job));
	self->job.arg[5] = 0;
	set_nonblock(_metadata, self->fd, true);
	EXPECT_EQ(-EAGAIN, job_call(&self->job));
	EXPECT_EQ(-EAGAIN, xsendfile(self->fd, file, NULL, SOME));
	EXPECT_EQ(0, lseek(file, 0, SEEK_CUR));
	EXPECT_EQ(POLLIN | POLLRDNORM, poll_now(self->fd, ALL_EVENTS));
	set_nonblock(_metadata, self->fd, false);
	check_full(_metadata, self);
}

TEST_F_TIMEOUT(full, woken, 60)
{
	job_start(_metadata, &self->job);
	job_wait_blocked(&self->job);
	EXPECT_EQ(self->sum, receive_pattern(self->fd, self->sum, FILLER, 0));
	EXPECT_EQ(EDU_PAGE, job_finish(_metadata, &self->job));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	EXPECT_EQ(EDU_PAGE, receive_pattern(self->fd, EDU_PAGE, FILLER,
					    self->sum));
}

TEST_F_TIMEOUT(full, interrupted, 60)
{
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &self->job));
	check_full(_metadata, self);
}

TEST_F_TIMEOUT(full, restarted, 60)
{
	job_restart(_metadata, &self->job);
	EXPECT_EQ(self->sum, receive_pattern(self->fd, self->sum, FILLER, 0));
	EXPECT_EQ(EDU_PAGE, job_finish(_metadata, &self->job));
	EXPECT_EQ(EDU_PAGE, receive_pattern(self->fd, EDU_PAGE, FILLER,
					    self->sum));
}

TEST_F_TIMEOUT(full, killed, 60)
{
	kill_waiting(_metadata, job_fork_waiting(_metadata, &self->job));
	check_full(_metadata, self);
}

TEST_F_TIMEOUT(full, polled, 60)
{
	struct pollfd pfd = { .fd = self->fd, .events = POLLOUT };
	struct job job = job_poll(&pfd);

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	EXPECT_EQ(self->sum, receive_pattern(self->fd, self->sum, FILLER, 0));
	EXPECT_EQ(1, job_finish(_metadata, &job));
	EXPECT_EQ(POLLOUT, pfd.revents);
	self->sum = 0;
	EXPECT_EQ(EDU_PAGE, job_call(&self->job));
}

/* The device has no data. */
FIXTURE(idle) {
	int fd;
	int p[2];
	int q[2];
	struct job job;		/* reads from it */
};

FIXTURE_SETUP(idle)
{
	if (!have_edu(0))
		SKIP(return, NO_EDU);
	self->fd = edu_open_empty(_metadata, 0);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	self->job = job_splice(self->fd, self->q[1], SOME);
}

FIXTURE_TEARDOWN(idle)
{
}

TEST_F(idle, nonblock)
{
	EXPECT_EQ(POLLOUT | POLLWRNORM, poll_now(self->fd, ALL_EVENTS));
	self->job.arg[5] = SPLICE_F_NONBLOCK;
	EXPECT_EQ(-EAGAIN, job_call(&self->job));
	self->job.arg[5] = 0;
	set_nonblock(_metadata, self->fd, true);
	EXPECT_EQ(-EAGAIN, job_call(&self->job));
	EXPECT_EQ(0, pipe_bytes(self->q[0]));

	edu_send(_metadata, self->fd, self->p, 100, DATA, 0);
	EXPECT_EQ(POLLIN, poll_for(self->fd, POLLIN, -1));
	EXPECT_EQ(ALL_EVENTS, poll_now(self->fd, ALL_EVENTS));
	EXPECT_EQ(100, job_call(&self->job));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
	EXPECT_EQ(POLLOUT | POLLWRNORM, poll_now(self->fd, ALL_EVENTS));
}

TEST_F(idle, woken)
{
	struct pollfd pfd = { .fd = self->fd, .events = POLLIN };
	struct job job = job_poll(&pfd);

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	job_start(_metadata, &self->job);
	job_wait_blocked(&self->job);
	edu_send(_metadata, self->fd, self->p, 100, DATA, 0);
	EXPECT_EQ(100, job_finish(_metadata, &self->job));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));

	/*
	 * Either of the two jobs may have the data; the other one still waits.
	 */
	edu_send(_metadata, self->fd, self->p, 100, DATA, 100);
	EXPECT_EQ(1, job_finish(_metadata, &job));
	EXPECT_EQ(POLLIN, pfd.revents);
	EXPECT_EQ(100, receive_pattern(self->fd, 100, DATA, 100));
}

TEST_F(idle, interrupted)
{
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &self->job));
	EXPECT_EQ(0, pipe_bytes(self->q[0]));
	edu_send(_metadata, self->fd, self->p, 100, DATA, 0);
	EXPECT_EQ(100, receive_pattern(self->fd, 100, DATA, 0));
}

TEST_F(idle, restarted)
{
	job_restart(_metadata, &self->job);
	edu_send(_metadata, self->fd, self->p, 100, DATA, 0);
	EXPECT_EQ(100, job_finish(_metadata, &self->job));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
}

/* The data goes to the next waiting call. */
TEST_F(idle, killed)
{
	pid_t pid = job_fork_waiting(_metadata, &self->job);
	int r[2];

	make_pipe(_metadata, r);
	self->job.arg[2] = r[1];
	job_start(_metadata, &self->job);
	job_wait_blocked(&self->job);
	kill_waiting(_metadata, pid);
	edu_send(_metadata, self->fd, self->p, 100, DATA, 0);
	EXPECT_EQ(100, job_finish(_metadata, &self->job));
	EXPECT_EQ(100, read_pattern(r[0], 100, DATA, 0));
}

/* A call waits for data in its pipe, and for room in its pipe, as usual. */
TEST_F(idle, pipes)
{
	struct job out = job_splice(self->p[0], self->fd, SOME);
	ssize_t capacity = fill_pipe(_metadata, self->q[1], FILLER);

	EXPECT_EQ(-EAGAIN, xsplice(self->p[0], NULL, self->fd, NULL, SOME,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &out));
	job_start(_metadata, &out);
	job_wait_blocked(&out);
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &out));
	ASSERT_EQ(POLLIN, poll_for(self->fd, POLLIN, -1));

	EXPECT_EQ(-EAGAIN, xsplice(self->fd, NULL, self->q[1], NULL, SOME,
				   SPLICE_F_NONBLOCK));
	job_start(_metadata, &self->job);
	job_wait_blocked(&self->job);
	EXPECT_EQ(capacity, read_pattern(self->q[0], capacity, FILLER, 0));
	EXPECT_EQ(100, job_finish(_metadata, &self->job));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
}

/* O_SYNC: a call returns when its transfer is complete. */
FIXTURE(sync) {
	int fd;
	int sync;
	int p[2];
	char *mem;		/* SOME bytes of data */
	struct job job;		/* sends them */
};

FIXTURE_VARIANT(sync) {
	int flags;
};

FIXTURE_VARIANT_ADD(sync, o_sync) {
	.flags = O_SYNC,
};

FIXTURE_VARIANT_ADD(sync, o_dsync) {
	.flags = O_DSYNC,
};

FIXTURE_SETUP(sync)
{
	if (!have_edu(0))
		SKIP(return, NO_EDU);
	self->fd = edu_open_empty(_metadata, 0);
	self->sync = edu_open(_metadata, 0, O_WRONLY | variant->flags);
	make_pipe(_metadata, self->p);
	self->mem = alloc_pattern(_metadata, SOME, DATA);
	if (xnotify(self->p[1], self->mem, 0) == -EINVAL)
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
	self->job = job_splice(self->p[0], self->sync, SOME);
}

FIXTURE_TEARDOWN(sync)
{
}

/* When the call returns, the device no longer uses pages of the pipe. */
TEST_F(sync, done)
{
	int file = make_memfd(_metadata, SOME, DATA);

	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	EXPECT_EQ(SOME, job_call(&self->job));
	EXPECT_EQ(1, released(self->p[1]));
	fill_pattern(self->mem, SOME, FILLER, 0);
	EXPECT_EQ(SOME, xsendfile(self->sync, file, NULL, SOME));
	EXPECT_EQ(0, fcntl(file, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
}

TEST_F_TIMEOUT(sync, waits, 60)
{
	edu_stall(_metadata, self->fd, self->p);
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	job_start(_metadata, &self->job);
	job_wait_blocked(&self->job);
	edu_wait_stalled(_metadata, 0);
	EXPECT_EQ(0, released(self->p[1]));
	job_wait_blocked(&self->job);
	edu_unstall(_metadata, self->fd);
	EXPECT_EQ(SOME, job_finish(_metadata, &self->job));
	EXPECT_EQ(1, released(self->p[1]));
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
}

/* A signal ends the wait; the queued transfer goes on. */
TEST_F_TIMEOUT(sync, interrupted, 60)
{
	edu_stall(_metadata, self->fd, self->p);
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	EXPECT_EQ(SOME, job_interrupt(_metadata, &self->job));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	EXPECT_EQ(0, released(self->p[1]));
	edu_unstall(_metadata, self->fd);
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
	EXPECT_EQ(1, wait_released(self->p[1], 1));
}

TEST_F_TIMEOUT(sync, killed, 60)
{
	edu_stall(_metadata, self->fd, self->p);
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	kill_waiting(_metadata, job_fork_waiting(_metadata, &self->job));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	edu_unstall(_metadata, self->fd);
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
	EXPECT_EQ(1, wait_released(self->p[1], 1));
}

/* fsync(2) and fdatasync(2) wait for all transfers that were queued before. */
TEST_F_TIMEOUT(sync, fsync, 60)
{
	struct job job = job_fsync(self->fd);

	if (variant->flags == O_DSYNC)
		job.nr = SYS_fdatasync;
	EXPECT_EQ(0, job_call(&job));
	edu_stall(_metadata, self->fd, self->p);
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	kill_waiting(_metadata, job_fork_waiting(_metadata, &job));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	EXPECT_EQ(0, released(self->p[1]));
	edu_unstall(_metadata, self->fd);
	EXPECT_EQ(0, job_finish(_metadata, &job));
	EXPECT_EQ(1, released(self->p[1]));
	EXPECT_EQ(SOME, receive_pattern(self->fd, SOME, DATA, 0));
	EXPECT_EQ(0, job_call(&job));
}

/*
 * An event loop that serves two pipes and never waits in splice(): from a file
 * to the device, and from the device to another file.
 */
#define LOOP (256 * 1024)
#define CHUNK 8192

FIXTURE(loop) {
	int fd;
	int in;
	int out;
	int p[2];
	int q[2];
	ssize_t sent;
	ssize_t received;
};

FIXTURE_SETUP(loop)
{
	if (!have_edu(0))
		SKIP(return, NO_EDU);
	self->fd = edu_open_empty(_metadata, 0);
	set_nonblock(_metadata, self->fd, true);
	self->in = make_memfd(_metadata, LOOP, DATA);
	self->out = memfd_create("splice", 0);
	ASSERT_LE(0, self->out);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
}

FIXTURE_TEARDOWN(loop)
{
}

static ssize_t send_some(struct _test_data_loop *self)
{
	ssize_t ret = pipe_bytes(self->p[0]);

	if (!ret)
		ret = xsplice(self->in, NULL, self->p[1], NULL, CHUNK, 0);
	if (ret > 0)
		ret = xsplice(self->p[0], NULL, self->fd, NULL, ret, 0);
	if (ret > 0)
		self->sent += ret;
	return ret;
}

static ssize_t receive_some(struct _test_data_loop *self)
{
	ssize_t ret = xsplice(self->fd, NULL, self->q[1], NULL, CHUNK, 0);

	if (ret > 0) {
		if (splice_full(self->q[0], self->out, ret) != ret)
			return -EIO;
		self->received += ret;
	}
	return ret;
}

/* After poll() reports room or data, a call does not fail with EAGAIN. */
TEST_F_TIMEOUT(loop, poll, 120)
{
	struct pollfd pfd = { .fd = self->fd };

	while (self->received < LOOP) {
		pfd.events = POLLIN | (self->sent < LOOP ? POLLOUT : 0);
		ASSERT_EQ(1, poll(&pfd, 1, -1));
		ASSERT_EQ(0, pfd.revents & ~pfd.events);
		if (pfd.revents & POLLOUT)
			ASSERT_LT(0, send_some(self));
		if (pfd.revents & POLLIN)
			ASSERT_LT(0, receive_some(self));
	}
	expect_file(_metadata, self->out, LOOP, DATA, 0);
}

/* After EAGAIN, an edge reports when a call will succeed. */
TEST_F_TIMEOUT(loop, epoll_edges, 120)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLET };
	ssize_t out = -EAGAIN, in;
	int ep = epoll_create1(0);

	ASSERT_LE(0, ep);
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, self->fd, &ev));
	while (self->received < LOOP) {
		ASSERT_EQ(1, epoll_wait(ep, &ev, 1, -1));
		ASSERT_EQ(0, ev.events & ~(EPOLLIN | EPOLLOUT));
		do {
			if (self->sent < LOOP)
				out = send_some(self);
		} while (out > 0 && self->sent < LOOP);
		ASSERT_TRUE(out == -EAGAIN || self->sent == LOOP);
		do {
			in = receive_some(self);
		} while (in > 0);
		ASSERT_EQ(-EAGAIN, in);
	}
	expect_file(_metadata, self->out, LOOP, DATA, 0);
}

TEST_HARNESS_MAIN
