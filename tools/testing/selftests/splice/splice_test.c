// SPDX-License-Identifier: GPL-2.0
/*
 * splice(2) between a pipe and every kind of source and sink: which data
 * arrives, how much one call moves, and which tasks it wakes. signal_test has
 * the calls that wait.
 */
#include "splice_common.h"

#include <sys/epoll.h>
#include <sys/resource.h>

/* Data of more than one buffer, with a partly filled last buffer. */
#define SOME 5000

/* Seeds: of the spliced data, and of the data that fills a pipe. */
#define DATA 1
#define FILLER 2

static const ssize_t sizes[] = {
	1, 4095, 4096, 4097, 65536,
	200001,			/* more than a pipe holds */
};

/* Like read_pattern(), also for END_ZERO, which supplies zeroes. */
static ssize_t read_data(enum end_kind kind, int fd, ssize_t len, loff_t pos)
{
	char *buf;
	ssize_t ret;

	if (kind != END_ZERO)
		return read_pattern(fd, len, DATA, pos);

	buf = malloc(len);
	if (!buf)
		return -ENOMEM;
	ret = read_full(fd, buf, len);
	if (ret > 0)
		ret = match_byte(buf, ret, 0);
	free(buf);
	return ret;
}

/* Makes @len bytes of data available at a source. */
static ssize_t supply(struct end *end, ssize_t len)
{
	return end->peer < 0 ? len : write_pattern(end->peer, len, DATA, 0);
}

static ssize_t min_size(ssize_t a, ssize_t b)
{
	return a < b ? a : b;
}

/* From every kind of source into a pipe. */
FIXTURE(source) {
	struct end end;
	int p[2];
};

FIXTURE_VARIANT(source) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(source, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(source, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_VARIANT_ADD(source, pipe) {
	.kind = END_PIPE,
};

FIXTURE_VARIANT_ADD(source, fifo) {
	.kind = END_FIFO,
};

FIXTURE_VARIANT_ADD(source, tcp) {
	.kind = END_TCP,
};

FIXTURE_VARIANT_ADD(source, unix_stream) {
	.kind = END_UNIX,
};

FIXTURE_VARIANT_ADD(source, zero) {
	.kind = END_ZERO,
};

FIXTURE_SETUP(source)
{
	const char *missing = end_missing(variant->kind);

	if (missing)
		SKIP(return, "%s is not set", missing);
	end_open(_metadata, variant->kind, true, &self->end);
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(source)
{
}

/* All of the data arrives, in order, followed by the end of file. */
TEST_F_TIMEOUT(source, sizes, 120)
{
	ssize_t capacity = pipe_capacity(self->p[0]);
	ssize_t size, done, ret;
	struct job writer;
	void *data;
	int i;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		size = sizes[i];
		if (i)
			end_open(_metadata, variant->kind, true, &self->end);
		data = alloc_pattern(_metadata, size, DATA);
		writer = job_writer(self->end.peer, data, size);
		if (end_is_stream(variant->kind))
			job_start(_metadata, &writer);
		else
			ASSERT_EQ(size, supply(&self->end, size));

		for (done = 0; done < size; done += ret) {
			ret = xsplice(self->end.fd, NULL, self->p[1], NULL,
				      size - done, 0);
			ASSERT_LT(0, ret);
			ASSERT_GE(size - done, ret);
			if (!end_is_stream(variant->kind))
				ASSERT_EQ(min_size(size - done, capacity), ret);
			ASSERT_EQ(ret, pipe_bytes(self->p[0]));
			ASSERT_EQ(ret, read_data(variant->kind, self->p[0], ret,
						 done));
		}

		if (end_is_stream(variant->kind))
			ASSERT_EQ(size, job_finish(_metadata, &writer));
		close(self->end.peer);
		if (variant->kind != END_ZERO)
			EXPECT_EQ(0, xsplice(self->end.fd, NULL, self->p[1],
					     NULL, size, 0));
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
		close(self->end.fd);
		free(data);
	}
}

/* A call takes the requested length, and leaves the rest at the source. */
TEST_F(source, short_count)
{
	ASSERT_EQ(SOME, supply(&self->end, SOME));

	EXPECT_EQ(100, xsplice(self->end.fd, NULL, self->p[1], NULL, 100, 0));
	EXPECT_EQ(100, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME - 100,
		  splice_full(self->end.fd, self->p[1], SOME - 100));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME, read_data(variant->kind, self->p[0], SOME, 0));
}

/* Data that is in the pipe already stays before the new data. */
TEST_F(source, appends)
{
	ASSERT_EQ(SOME, supply(&self->end, SOME));
	ASSERT_EQ(10, write_pattern(self->p[1], 10, FILLER, 0));

	EXPECT_EQ(SOME, splice_full(self->end.fd, self->p[1], SOME));
	ASSERT_EQ(10, write_pattern(self->p[1], 10, FILLER, 10));

	EXPECT_EQ(10, read_pattern(self->p[0], 10, FILLER, 0));
	EXPECT_EQ(SOME, read_data(variant->kind, self->p[0], SOME, 0));
	EXPECT_EQ(10, read_pattern(self->p[0], 10, FILLER, 10));
}

/* Writing to the pipe afterwards never changes the source. */
TEST_F(source, write_does_not_merge)
{
	ASSERT_EQ(100, supply(&self->end, 100));
	ASSERT_EQ(1, xsplice(self->end.fd, NULL, self->p[1], NULL, 1, 0));
	ASSERT_EQ(50, write_pattern(self->p[1], 50, FILLER, 0));

	EXPECT_EQ(99, splice_full(self->end.fd, self->p[1], 99));
	EXPECT_EQ(1, read_data(variant->kind, self->p[0], 1, 0));
	EXPECT_EQ(50, read_pattern(self->p[0], 50, FILLER, 0));
	EXPECT_EQ(99, read_data(variant->kind, self->p[0], 99, 1));
}

/* Without a reader: EPIPE, one SIGPIPE, and the source keeps its data. */
TEST_F(source, no_reader)
{
	int q[2];

	ASSERT_EQ(SOME, supply(&self->end, SOME));
	catch_signal(_metadata, SIGPIPE, 0);
	close(self->p[0]);
	EXPECT_EQ(-EPIPE,
		  xsplice(self->end.fd, NULL, self->p[1], NULL, SOME, 0));
	EXPECT_EQ(1, signal_count(SIGPIPE));

	make_pipe(_metadata, q);
	EXPECT_EQ(SOME, splice_full(self->end.fd, q[1], SOME));
	EXPECT_EQ(SOME, read_data(variant->kind, q[0], SOME, 0));
}

/* Both ends of the pipe are ready at the right times, step by step. */
TEST_F(source, poll)
{
	EXPECT_EQ(0, poll_now(self->p[0], POLLIN));
	EXPECT_EQ(POLLOUT, poll_now(self->p[1], POLLOUT));

	ASSERT_EQ(SOME, supply(&self->end, SOME));
	ASSERT_EQ(1, xsplice(self->end.fd, NULL, self->p[1], NULL, 1, 0));
	EXPECT_EQ(POLLIN, poll_now(self->p[0], POLLIN));
	EXPECT_EQ(POLLOUT, poll_now(self->p[1], POLLOUT));

	/* A pipe is full if all of its slots are used, even by a few bytes. */
	ASSERT_EQ(page_size(), fcntl(self->p[0], F_SETPIPE_SZ, page_size()));
	EXPECT_EQ(POLLIN, poll_now(self->p[0], POLLIN));
	EXPECT_EQ(0, poll_now(self->p[1], POLLOUT));

	EXPECT_EQ(1, read_data(variant->kind, self->p[0], 1, 0));
	EXPECT_EQ(0, poll_now(self->p[0], POLLIN));
	EXPECT_EQ(POLLOUT, poll_now(self->p[1], POLLOUT));

	ASSERT_EQ(1, xsplice(self->end.fd, NULL, self->p[1], NULL, 1, 0));
	close(self->p[1]);
	EXPECT_EQ(POLLIN | POLLHUP, poll_now(self->p[0], POLLIN));
	EXPECT_EQ(1, read_data(variant->kind, self->p[0], 1, 1));
	EXPECT_EQ(POLLHUP, poll_now(self->p[0], POLLIN));
}

/* Readers that sleep in read() and in poll() are woken. */
TEST_F(source, wakes_reader)
{
	struct pollfd pfd = { .fd = self->p[0], .events = POLLIN };
	char *buf = malloc(SOME);
	struct job reader = job_reader(self->p[0], buf, 100);
	struct job poller = job_poll(&pfd);

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(SOME, supply(&self->end, SOME));

	job_start(_metadata, &poller);
	job_wait_blocked(&poller);
	ASSERT_EQ(1, xsplice(self->end.fd, NULL, self->p[1], NULL, 1, 0));
	EXPECT_EQ(1, job_finish(_metadata, &poller));
	EXPECT_EQ(POLLIN, pfd.revents);
	EXPECT_EQ(1, read_data(variant->kind, self->p[0], 1, 0));

	job_start(_metadata, &reader);
	job_wait_blocked(&reader);
	ASSERT_EQ(100, splice_full(self->end.fd, self->p[1], 100));
	EXPECT_EQ(100, job_finish(_metadata, &reader));
	EXPECT_EQ(100, variant->kind == END_ZERO ?
		       match_byte(buf, 100, 0) :
		       match_pattern(buf, 100, DATA, 1));
	free(buf);
}

/* Every splice into a pipe is an edge, even if the pipe was not empty. */
TEST_F(source, epoll_edge)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	int ep = epoll_create1(0);
	int i;

	ASSERT_LE(0, ep);
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, self->p[0], &ev));
	ASSERT_EQ(SOME, supply(&self->end, SOME));
	EXPECT_EQ(0, epoll_wait(ep, &ev, 1, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(10, xsplice(self->end.fd, NULL, self->p[1], NULL, 10,
				      0));
		EXPECT_EQ(1, epoll_wait(ep, &ev, 1, 0));
		EXPECT_EQ(0, epoll_wait(ep, &ev, 1, 0));
	}
	EXPECT_EQ(30, read_data(variant->kind, self->p[0], 30, 0));
}

/* A pipe that contains spliced data can be resized. */
TEST_F(source, resize)
{
	ssize_t page = page_size();

	ASSERT_EQ(SOME, supply(&self->end, SOME));
	ASSERT_EQ(2 * page, fcntl(self->p[1], F_SETPIPE_SZ, 2 * page));
	ASSERT_EQ(100, xsplice(self->end.fd, NULL, self->p[1], NULL, 100, 0));
	ASSERT_EQ(100, xsplice(self->end.fd, NULL, self->p[1], NULL, 100, 0));
	EXPECT_EQ(-EAGAIN, xsplice(self->end.fd, NULL, self->p[1], NULL, 100,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EBUSY, or_errno(fcntl(self->p[1], F_SETPIPE_SZ, page)));

	EXPECT_EQ(100, read_data(variant->kind, self->p[0], 100, 0));
	ASSERT_EQ(16 * page, fcntl(self->p[1], F_SETPIPE_SZ, 16 * page));
	ASSERT_EQ(SOME - 200,
		  splice_full(self->end.fd, self->p[1], SOME - 200));
	EXPECT_EQ(SOME - 100, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME - 100,
		  read_data(variant->kind, self->p[0], SOME - 100, 100));
	ASSERT_EQ(page, fcntl(self->p[1], F_SETPIPE_SZ, page));
}

/* A length is not truncated to 32 bits, which would leave 0. */
TEST_F(source, length_of_4g)
{
	ssize_t capacity = pipe_capacity(self->p[0]), ret;

	ASSERT_EQ(SOME, supply(&self->end, SOME));
	ret = xsplice(self->end.fd, NULL, self->p[1], NULL, 1UL << 32, 0);
	EXPECT_EQ(variant->kind == END_ZERO ? capacity : SOME, ret);
	EXPECT_EQ(ret, read_data(variant->kind, self->p[0], ret, 0));
}

/* From a pipe to every kind of sink. */
FIXTURE(sink) {
	struct end end;
	int p[2];
};

FIXTURE_VARIANT(sink) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(sink, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(sink, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_VARIANT_ADD(sink, pipe) {
	.kind = END_PIPE,
};

FIXTURE_VARIANT_ADD(sink, fifo) {
	.kind = END_FIFO,
};

FIXTURE_VARIANT_ADD(sink, tcp) {
	.kind = END_TCP,
};

FIXTURE_VARIANT_ADD(sink, unix_stream) {
	.kind = END_UNIX,
};

FIXTURE_VARIANT_ADD(sink, null) {
	.kind = END_NULL,
};

FIXTURE_SETUP(sink)
{
	const char *missing = end_missing(variant->kind);

	if (missing)
		SKIP(return, "%s is not set", missing);
	end_open(_metadata, variant->kind, false, &self->end);
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(sink)
{
}

/* Checks that the next @len bytes at the far end are the data from @pos on. */
static ssize_t arrived(struct end *end, ssize_t len, loff_t pos)
{
	return end->peer < 0 ? len : read_pattern(end->peer, len, DATA, pos);
}

TEST_F_TIMEOUT(sink, sizes, 120)
{
	ssize_t capacity = pipe_capacity(self->p[0]);
	ssize_t size, done, chunk, part, ret;
	struct job reader;
	char *data, *got;
	struct stat st;
	int i;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		size = sizes[i];
		if (i)
			end_open(_metadata, variant->kind, false, &self->end);
		data = alloc_pattern(_metadata, size, DATA);
		got = malloc(size);
		ASSERT_NE(NULL, got);
		reader = job_reader(self->end.peer, got, size);
		if (end_is_stream(variant->kind))
			job_start(_metadata, &reader);

		for (done = 0; done < size; done += chunk) {
			chunk = min_size(size - done, capacity);
			ASSERT_EQ(chunk, write_full(self->p[1], data + done,
						    chunk));
			for (part = 0; part < chunk; part += ret) {
				ret = xsplice(self->p[0], NULL, self->end.fd,
					      NULL, chunk - part, 0);
				ASSERT_LT(0, ret);
				ASSERT_GE(chunk - part, ret);
				if (!end_is_stream(variant->kind))
					ASSERT_EQ(chunk, ret);
			}
			ASSERT_EQ(0, pipe_bytes(self->p[0]));
		}

		if (end_is_stream(variant->kind)) {
			ASSERT_EQ(size, job_finish(_metadata, &reader));
			EXPECT_EQ(size, match_pattern(got, size, DATA, 0));
		} else {
			EXPECT_EQ(size, arrived(&self->end, size, 0));
		}
		if (end_is_file(variant->kind)) {
			ASSERT_EQ(0, fstat(self->end.fd, &st));
			EXPECT_EQ(size, st.st_size);
			EXPECT_EQ(size, lseek(self->end.fd, 0, SEEK_CUR));
		}
		close(self->end.fd);
		close(self->end.peer);
		free(got);
		free(data);
	}
}

/* A call takes the requested length, and leaves the rest in the pipe. */
TEST_F(sink, short_count)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));

	EXPECT_EQ(100, xsplice(self->p[0], NULL, self->end.fd, NULL, 100, 0));
	EXPECT_EQ(SOME - 100, pipe_bytes(self->p[0]));
	EXPECT_EQ(100, arrived(&self->end, 100, 0));

	/* From one buffer into the middle of the next one. */
	EXPECT_EQ(SOME - 200, xsplice(self->p[0], NULL, self->end.fd, NULL,
				      SOME - 200, 0));
	EXPECT_EQ(100, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME - 200, arrived(&self->end, SOME - 200, 100));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, SOME - 100));
}

/*
 * If more is requested than the pipe contains, a call returns what it contains.
 */
TEST_F(sink, long_count)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(SOME, xsplice(self->p[0], NULL, self->end.fd, NULL,
				INT_MAX & -4096, 0));
	EXPECT_EQ(SOME, arrived(&self->end, SOME, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

TEST_F(sink, length_of_4g)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(SOME, xsplice(self->p[0], NULL, self->end.fd, NULL,
				1UL << 32, 0));
	EXPECT_EQ(SOME, arrived(&self->end, SOME, 0));
}

/* Buffers that are larger than a page, as sockets allocate them. */
TEST_F(sink, large_buffers)
{
	ssize_t size = 40000, part = 3000, room = 8 * page_size();
	struct job reader;
	char *got;
	int sv[2];

	make_tcp_pair(_metadata, sv);
	ASSERT_EQ(size, write_pattern(sv[0], size, DATA, 0));
	while (pipe_bytes(sv[1]) < size)
		usleep(1000);
	ASSERT_EQ(size, xsplice(sv[1], NULL, self->p[1], NULL, size, 0));
	/*
	 * These slots have no room for the data, if each holds at most a page.
	 */
	ASSERT_GT(size, room);
	ASSERT_EQ(room, fcntl(self->p[1], F_SETPIPE_SZ, room));

	got = malloc(size);
	ASSERT_NE(NULL, got);
	reader = job_reader(self->end.peer, got, size);
	if (end_is_stream(variant->kind))
		job_start(_metadata, &reader);
	/* In two parts, the first of which ends within a page. */
	EXPECT_EQ(part, splice_full(self->p[0], self->end.fd, part));
	EXPECT_EQ(size - part, splice_full(self->p[0], self->end.fd,
					   size - part));
	if (end_is_stream(variant->kind)) {
		EXPECT_EQ(size, job_finish(_metadata, &reader));
		EXPECT_EQ(size, match_pattern(got, size, DATA, 0));
	} else {
		EXPECT_EQ(size, arrived(&self->end, size, 0));
	}
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	free(got);
}

/* Buffers of many kinds and sizes arrive in order. */
TEST_F(sink, mixed_buffers)
{
	char *mem = alloc_pattern(_metadata, SOME, DATA);
	int q[2];

	make_pipe(_metadata, q);
	ASSERT_EQ(10, write_full(self->p[1], mem, 10));
	ASSERT_EQ(90, xvmsplice1(self->p[1], mem + 10, 90, 0));
	ASSERT_EQ(400, write_full(q[1], mem + 100, 400));
	ASSERT_EQ(400, xsplice(q[0], NULL, self->p[1], NULL, 400, 0));
	ASSERT_EQ(SOME - 500, xvmsplice1(self->p[1], mem + 500, SOME - 500, 0));

	EXPECT_EQ(SOME, splice_full(self->p[0], self->end.fd, SOME));
	EXPECT_EQ(SOME, arrived(&self->end, SOME, 0));
	free(mem);
}

/* Without a writer: the data in the pipe, then end of file. */
TEST_F(sink, no_writer)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	close(self->p[1]);
	EXPECT_EQ(SOME, xsplice(self->p[0], NULL, self->end.fd, NULL, 2 * SOME,
				0));
	EXPECT_EQ(0, xsplice(self->p[0], NULL, self->end.fd, NULL, SOME, 0));
	EXPECT_EQ(0, xsplice(self->p[0], NULL, self->end.fd, NULL, SOME,
			     SPLICE_F_NONBLOCK));
	EXPECT_EQ(SOME, arrived(&self->end, SOME, 0));
}

TEST_F(sink, poll)
{
	ssize_t capacity = fill_pipe(_metadata, self->p[1], DATA);
	ssize_t page = page_size();

	EXPECT_EQ(POLLIN, poll_now(self->p[0], POLLIN));
	EXPECT_EQ(0, poll_now(self->p[1], POLLOUT));

	/* A part of a buffer frees no slot, the rest of it does. */
	ASSERT_EQ(1, xsplice(self->p[0], NULL, self->end.fd, NULL, 1, 0));
	EXPECT_EQ(0, poll_now(self->p[1], POLLOUT));
	ASSERT_EQ(page - 1, xsplice(self->p[0], NULL, self->end.fd, NULL,
				    page - 1, 0));
	EXPECT_EQ(POLLOUT, poll_now(self->p[1], POLLOUT));
	EXPECT_EQ(POLLIN, poll_now(self->p[0], POLLIN));
	EXPECT_EQ(page, arrived(&self->end, page, 0));

	ASSERT_EQ(capacity - page,
		  splice_full(self->p[0], self->end.fd, capacity - page));
	EXPECT_EQ(0, poll_now(self->p[0], POLLIN));
	EXPECT_EQ(POLLOUT, poll_now(self->p[1], POLLOUT));
	EXPECT_EQ(capacity - page, arrived(&self->end, capacity - page, page));

	close(self->p[0]);
	EXPECT_EQ(POLLOUT | POLLERR, poll_now(self->p[1], POLLOUT));
}

/* Writers that sleep in write() and in poll() are woken. */
TEST_F(sink, wakes_writer)
{
	struct pollfd pfd = { .fd = self->p[1], .events = POLLOUT };
	ssize_t page = page_size();
	struct job poller = job_poll(&pfd);
	struct job writer;
	char *more;

	more = alloc_pattern(_metadata, page, FILLER);
	writer = job_writer(self->p[1], more, page);

	fill_pipe(_metadata, self->p[1], DATA);
	job_start(_metadata, &poller);
	job_wait_blocked(&poller);
	ASSERT_EQ(page, xsplice(self->p[0], NULL, self->end.fd, NULL, page, 0));
	EXPECT_EQ(1, job_finish(_metadata, &poller));
	EXPECT_EQ(POLLOUT, pfd.revents);
	ASSERT_EQ(page, write_full(self->p[1], more, page));

	job_start(_metadata, &writer);
	job_wait_blocked(&writer);
	ASSERT_EQ(page, xsplice(self->p[0], NULL, self->end.fd, NULL, page, 0));
	EXPECT_EQ(page, job_finish(_metadata, &writer));
	EXPECT_EQ(2 * page, arrived(&self->end, 2 * page, 0));
	free(more);
}

/* A sink that can be full, or whose peer can be closed. */
FIXTURE(stream_sink) {
	struct end end;
	int p[2];
};

FIXTURE_VARIANT(stream_sink) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(stream_sink, pipe) {
	.kind = END_PIPE,
};

FIXTURE_VARIANT_ADD(stream_sink, fifo) {
	.kind = END_FIFO,
};

FIXTURE_VARIANT_ADD(stream_sink, tcp) {
	.kind = END_TCP,
};

FIXTURE_VARIANT_ADD(stream_sink, unix_stream) {
	.kind = END_UNIX,
};

FIXTURE_SETUP(stream_sink)
{
	int size = 16384;

	end_open(_metadata, variant->kind, false, &self->end);
	make_pipe(_metadata, self->p);
	if (end_is_socket(variant->kind)) {
		ASSERT_EQ(0, setsockopt(self->end.fd, SOL_SOCKET, SO_SNDBUF,
					&size, sizeof(size)));
		ASSERT_EQ(0, setsockopt(self->end.peer, SOL_SOCKET, SO_RCVBUF,
					&size, sizeof(size)));
	}
}

FIXTURE_TEARDOWN(stream_sink)
{
}

/*
 * Data that a full sink does not take stays in the pipe, and can be sent later.
 */
TEST_F_TIMEOUT(stream_sink, full_nonblock, 60)
{
	ssize_t page = page_size(), put = 0, taken = 0, ret;
	struct job reader;
	char *got;

	set_nonblock(_metadata, self->end.fd, true);
	for (;;) {
		if (!pipe_bytes(self->p[0])) {
			ASSERT_EQ(page, write_pattern(self->p[1], page, DATA,
						      put));
			put += page;
		}
		ret = xsplice(self->p[0], NULL, self->end.fd, NULL, page, 0);
		if (ret < 0)
			break;
		ASSERT_LT(0, ret);
		taken += ret;
		ASSERT_EQ(put - taken, pipe_bytes(self->p[0]));
	}
	EXPECT_EQ(-EAGAIN, ret);
	EXPECT_LT(0, taken);
	EXPECT_EQ(put - taken, pipe_bytes(self->p[0]));

	set_nonblock(_metadata, self->end.fd, false);
	got = malloc(put);
	ASSERT_NE(NULL, got);
	reader = job_reader(self->end.peer, got, put);
	job_start(_metadata, &reader);
	EXPECT_EQ(put - taken,
		  splice_full(self->p[0], self->end.fd, put - taken));
	EXPECT_EQ(put, job_finish(_metadata, &reader));
	EXPECT_EQ(put, match_pattern(got, put, DATA, 0));
	free(got);
}

/* A splice that waits for the sink continues when the sink is drained. */
TEST_F_TIMEOUT(stream_sink, full_blocks, 60)
{
	ssize_t capacity, page = page_size(), sent = 0, ret;
	struct job job, reader;
	char *got;

	/* Fill the sink until one more page does not fit. */
	set_nonblock(_metadata, self->end.fd, true);
	for (;;) {
		ret = write_pattern(self->end.fd, page, DATA, sent);
		if (ret <= 0)
			break;
		sent += ret;
	}
	ASSERT_EQ(-EAGAIN, ret);
	set_nonblock(_metadata, self->end.fd, false);

	/* For a socket, more than its buffers can hold. */
	capacity = pipe_capacity(self->p[0]);
	if (end_is_socket(variant->kind))
		capacity = fcntl(self->p[0], F_SETPIPE_SZ, 1024 * 1024);
	ASSERT_LT(0, capacity);
	ASSERT_EQ(capacity, write_pattern(self->p[1], capacity, DATA, sent));

	job = job_splice(self->p[0], self->end.fd, capacity);
	job_start(_metadata, &job);
	job_wait_blocked(&job);

	got = malloc(sent + capacity);
	ASSERT_NE(NULL, got);
	reader = job_reader(self->end.peer, got, sent + capacity);
	job_start(_metadata, &reader);
	ret = job_finish(_metadata, &job);
	ASSERT_LT(0, ret);
	EXPECT_EQ(capacity - ret, pipe_bytes(self->p[0]));
	if (ret < capacity)
		EXPECT_EQ(capacity - ret, splice_full(self->p[0], self->end.fd,
						      capacity - ret));
	EXPECT_EQ(sent + capacity, job_finish(_metadata, &reader));
	EXPECT_EQ(sent + capacity, match_pattern(got, sent + capacity, DATA, 0));
	free(got);
}

TEST_F(stream_sink, no_reader)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	catch_signal(_metadata, SIGPIPE, 0);
	ASSERT_EQ(0, end_is_socket(variant->kind) ?
		     shutdown(self->end.fd, SHUT_WR) : close(self->end.peer));

	EXPECT_EQ(-EPIPE,
		  xsplice(self->p[0], NULL, self->end.fd, NULL, SOME, 0));
	EXPECT_EQ(1, signal_count(SIGPIPE));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* File positions of regular files. */
FIXTURE(file) {
	int fd;
	int p[2];
};

FIXTURE_VARIANT(file) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(file, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(file, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_SETUP(file)
{
	const char *missing = end_missing(variant->kind);

	if (missing)
		SKIP(return, "%s is not set", missing);
	self->fd = make_file(_metadata, end_dir(_metadata, variant->kind));
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(file)
{
}

TEST_F(file, offset_in)
{
	loff_t off = 1000;

	ASSERT_EQ(SOME, write_pattern(self->fd, SOME, DATA, 0));
	ASSERT_EQ(7, lseek(self->fd, 7, SEEK_SET));

	/* With an offset: that one moves, and the file position does not. */
	EXPECT_EQ(100, xsplice(self->fd, &off, self->p[1], NULL, 100, 0));
	EXPECT_EQ(1100, off);
	EXPECT_EQ(7, lseek(self->fd, 0, SEEK_CUR));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 1000));

	/* Without an offset: the file position moves. */
	EXPECT_EQ(100, xsplice(self->fd, NULL, self->p[1], NULL, 100, 0));
	EXPECT_EQ(107, lseek(self->fd, 0, SEEK_CUR));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 7));
}

TEST_F(file, offset_out)
{
	loff_t off = 1000;

	ASSERT_EQ(SOME, write_pattern(self->fd, SOME, FILLER, 0));
	ASSERT_EQ(7, lseek(self->fd, 7, SEEK_SET));
	ASSERT_EQ(200, write_pattern(self->p[1], 200, DATA, 0));

	EXPECT_EQ(100, xsplice(self->p[0], NULL, self->fd, &off, 100, 0));
	EXPECT_EQ(1100, off);
	EXPECT_EQ(7, lseek(self->fd, 0, SEEK_CUR));

	EXPECT_EQ(100, xsplice(self->p[0], NULL, self->fd, NULL, 100, 0));
	EXPECT_EQ(107, lseek(self->fd, 0, SEEK_CUR));

	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(7, read_pattern(self->fd, 7, FILLER, 0));
	EXPECT_EQ(100, read_pattern(self->fd, 100, DATA, 100));
	EXPECT_EQ(893, read_pattern(self->fd, 893, FILLER, 107));
	EXPECT_EQ(100, read_pattern(self->fd, 100, DATA, 0));
	EXPECT_EQ(SOME - 1100,
		  read_pattern(self->fd, SOME - 1100, FILLER, 1100));
}

TEST_F(file, end_of_file)
{
	loff_t off = SOME - 10;

	ASSERT_EQ(SOME, write_pattern(self->fd, SOME, DATA, 0));

	/* Before, at and after the end of the file. */
	EXPECT_EQ(10, xsplice(self->fd, &off, self->p[1], NULL, 100, 0));
	EXPECT_EQ(SOME, off);
	EXPECT_EQ(0, xsplice(self->fd, &off, self->p[1], NULL, 100, 0));
	EXPECT_EQ(SOME, off);
	off = 1000000;
	EXPECT_EQ(0, xsplice(self->fd, &off, self->p[1], NULL, 100, 0));
	EXPECT_EQ(1000000, off);

	ASSERT_EQ(SOME, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(0, xsplice(self->fd, NULL, self->p[1], NULL, 100, 0));
	EXPECT_EQ(SOME, lseek(self->fd, 0, SEEK_CUR));

	EXPECT_EQ(10, pipe_bytes(self->p[0]));
	EXPECT_EQ(10, read_pattern(self->p[0], 10, DATA, SOME - 10));
}

/*
 * If neither end is aligned, a splice of the pipe's capacity needs one more
 * slot.
 */
TEST_F(file, unaligned)
{
	ssize_t capacity = pipe_capacity(self->p[0]);
	loff_t off = 100;

	ASSERT_EQ(2 * capacity,
		  write_pattern(self->fd, 2 * capacity, DATA, 0));
	EXPECT_EQ(capacity - 100,
		  xsplice(self->fd, &off, self->p[1], NULL, capacity, 0));
	EXPECT_EQ(capacity, off);
	EXPECT_EQ(capacity - 100,
		  read_pattern(self->p[0], capacity - 100, DATA, 100));
}

TEST_F(file, hole_in)
{
	ssize_t size = 3 * page_size();
	char *buf = malloc(size);
	loff_t off = 0;

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, ftruncate(self->fd, size));
	ASSERT_EQ(10, pwrite(self->fd, "0123456789", 10, page_size()));
	EXPECT_EQ(size, xsplice(self->fd, &off, self->p[1], NULL, size, 0));
	EXPECT_EQ(size, read_full(self->p[0], buf, size));
	EXPECT_EQ(page_size(), match_byte(buf, page_size(), 0));
	EXPECT_EQ(0, memcmp(buf + page_size(), "0123456789", 10));
	EXPECT_EQ(2 * page_size() - 10,
		  match_byte(buf + page_size() + 10, 2 * page_size() - 10, 0));
	free(buf);
}

/* Writing after the end of a file leaves a hole. */
TEST_F(file, hole_out)
{
	loff_t off = 10000;
	char buf[10000];
	struct stat st;

	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, &off, SOME, 0));
	EXPECT_EQ(10000 + SOME, off);
	ASSERT_EQ(0, fstat(self->fd, &st));
	EXPECT_EQ(10000 + SOME, st.st_size);
	EXPECT_EQ(10000, read_full(self->fd, buf, 10000));
	EXPECT_EQ(10000, match_byte(buf, 10000, 0));
	EXPECT_EQ(SOME, read_pattern(self->fd, SOME, DATA, 0));
}

TEST_F(file, beyond_4g)
{
	loff_t start = (5LL << 30) + 123, off = start;

	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, &off, SOME, 0));
	EXPECT_EQ(start + SOME, off);

	off = start;
	EXPECT_EQ(SOME, xsplice(self->fd, &off, self->p[1], NULL, 2 * SOME, 0));
	EXPECT_EQ(start + SOME, off);
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* A pipe refers to the page cache: it shows later writes to the file. */
TEST_F(file, by_reference)
{
	char buf[SOME];
	loff_t off = 0;

	ASSERT_EQ(SOME, write_pattern(self->fd, SOME, FILLER, 0));
	ASSERT_EQ(SOME, xsplice(self->fd, &off, self->p[1], NULL, SOME, 0));
	fill_pattern(buf, SOME, DATA, 0);
	ASSERT_EQ(SOME, pwrite(self->fd, buf, SOME, 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* Data written to a pipe never changes the file that was spliced before it. */
TEST_F(file, page_cache_is_not_written)
{
	ssize_t page = page_size();
	loff_t off = 10;
	int i;

	ASSERT_EQ(SOME, write_pattern(self->fd, SOME, DATA, 0));

	/* Use every slot of the ring once for mergeable data. */
	for (i = 0; i < 2; i++) {
		ssize_t capacity = fill_pipe(_metadata, self->p[1], FILLER);

		ASSERT_EQ(capacity,
			  read_pattern(self->p[0], capacity, FILLER, 0));
	}
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(1, xsplice(self->fd, &off, self->p[1], NULL, 1, 0));
		ASSERT_EQ(page / 2, write_pattern(self->p[1], page / 2, FILLER,
						  0));
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, 10 + i));
		ASSERT_EQ(page / 2, read_pattern(self->p[0], page / 2, FILLER,
						 0));
	}
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(SOME, read_pattern(self->fd, SOME, DATA, 0));
}

/* A call that fails changes neither offset. */
TEST_F(file, offsets_after_error)
{
	ssize_t capacity;
	loff_t off = 5;

	EXPECT_EQ(-EAGAIN, xsplice(self->p[0], NULL, self->fd, &off, 10,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(5, off);

	ASSERT_EQ(SOME, write_pattern(self->fd, SOME, DATA, 0));
	ASSERT_EQ(7, lseek(self->fd, 7, SEEK_SET));
	capacity = fill_pipe(_metadata, self->p[1], FILLER);
	EXPECT_EQ(-EAGAIN, xsplice(self->fd, &off, self->p[1], NULL, 10,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(5, off);
	EXPECT_EQ(-EAGAIN, xsplice(self->fd, NULL, self->p[1], NULL, 10,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(7, lseek(self->fd, 0, SEEK_CUR));
	EXPECT_EQ(capacity, pipe_bytes(self->p[0]));
}

/* A file at its size limit takes the part that fits, and the rest stays. */
TEST_F(file, size_limit)
{
	struct rlimit limit = { .rlim_cur = 3000, .rlim_max = RLIM_INFINITY };

	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	catch_signal(_metadata, SIGXFSZ, 0);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));

	EXPECT_EQ(3000, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	EXPECT_EQ(3000, lseek(self->fd, 0, SEEK_CUR));
	EXPECT_EQ(SOME - 3000, pipe_bytes(self->p[0]));
	EXPECT_EQ(-EFBIG, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	EXPECT_EQ(3000, lseek(self->fd, 0, SEEK_CUR));
	EXPECT_LE(1, signal_count(SIGXFSZ));
	EXPECT_EQ(SOME - 3000, read_pattern(self->p[0], SOME - 3000, DATA,
					    3000));
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(3000, read_pattern(self->fd, 3000, DATA, 0));
}

/* From pipe to pipe, buffers move. */
FIXTURE(pipes) {
	int a[2];
	int b[2];
};

FIXTURE_SETUP(pipes)
{
	make_pipe(_metadata, self->a);
	make_pipe(_metadata, self->b);
}

FIXTURE_TEARDOWN(pipes)
{
}

/* Buffers of odd sizes that move in odd amounts keep their order. */
TEST_F(pipes, sequence)
{
	unsigned int rnd = 12345;
	ssize_t put = 0, got = 0, len, ret;
	int i;

	for (i = 0; i < 500; i++) {
		rnd = rnd * 1103515245 + 12345;
		len = 1 + (rnd >> 8) % 3000;
		set_nonblock(_metadata, self->a[1], true);
		ret = write_pattern(self->a[1], len, DATA, put);
		if (ret > 0)
			put += ret;
		else
			ASSERT_EQ(-EAGAIN, ret);
		set_nonblock(_metadata, self->a[1], false);

		rnd = rnd * 1103515245 + 12345;
		len = 1 + (rnd >> 8) % 5000;
		ret = xsplice(self->a[0], NULL, self->b[1], NULL, len,
			      SPLICE_F_NONBLOCK);
		if (ret < 0)
			ASSERT_EQ(-EAGAIN, ret);

		ASSERT_EQ(put - got,
			  pipe_bytes(self->a[0]) + pipe_bytes(self->b[0]));
		rnd = rnd * 1103515245 + 12345;
		len = min_size(pipe_bytes(self->b[0]), (rnd >> 8) % 4500);
		if (len) {
			ASSERT_EQ(len, read_pattern(self->b[0], len, DATA,
						    got));
			got += len;
		}
	}
	EXPECT_LT(1000000, got * 3);
}

/* Whole buffers move unchanged, together with partial ones. */
TEST_F(pipes, partial_buffer)
{
	ssize_t page = page_size();

	ASSERT_EQ(3 * page, write_pattern(self->a[1], 3 * page, DATA, 0));

	/*
	 * Less than a buffer; then its rest, a whole one, and a part of the
	 * last one.
	 */
	EXPECT_EQ(10, xsplice(self->a[0], NULL, self->b[1], NULL, 10, 0));
	EXPECT_EQ(3 * page - 10, pipe_bytes(self->a[0]));
	EXPECT_EQ(10, pipe_bytes(self->b[0]));
	EXPECT_EQ(2 * page, xsplice(self->a[0], NULL, self->b[1], NULL,
				    2 * page, 0));
	EXPECT_EQ(page - 10, pipe_bytes(self->a[0]));
	EXPECT_EQ(2 * page + 10, pipe_bytes(self->b[0]));

	EXPECT_EQ(2 * page + 10,
		  read_pattern(self->b[0], 2 * page + 10, DATA, 0));
	EXPECT_EQ(page - 10,
		  read_pattern(self->a[0], page - 10, DATA, 2 * page + 10));
}

/*
 * Two pipes share the page of a split buffer: a write to one of them must not
 * be merged into the page, where the other one would see it.
 */
TEST_F(pipes, partial_buffer_is_not_merged)
{
	ASSERT_EQ(100, write_pattern(self->a[1], 100, DATA, 0));
	ASSERT_EQ(40, xsplice(self->a[0], NULL, self->b[1], NULL, 40, 0));
	ASSERT_EQ(30, write_pattern(self->b[1], 30, FILLER, 0));
	ASSERT_EQ(30, write_pattern(self->a[1], 30, FILLER, 30));

	EXPECT_EQ(60, read_pattern(self->a[0], 60, DATA, 40));
	EXPECT_EQ(30, read_pattern(self->a[0], 30, FILLER, 30));
	EXPECT_EQ(40, read_pattern(self->b[0], 40, DATA, 0));
	EXPECT_EQ(30, read_pattern(self->b[0], 30, FILLER, 0));
}

/* After a whole buffer has moved, a write can be merged into it as usual. */
TEST_F(pipes, whole_buffer_is_merged)
{
	ssize_t page = page_size();
	int i;

	/*
	 * The only slot is used, so there is room only for data that is merged.
	 */
	ASSERT_EQ(page, fcntl(self->b[0], F_SETPIPE_SZ, page));
	ASSERT_EQ(1, write_pattern(self->a[1], 1, DATA, 0));
	ASSERT_EQ(1, xsplice(self->a[0], NULL, self->b[1], NULL, 1, 0));
	set_nonblock(_metadata, self->b[1], true);
	for (i = 1; i < 100; i++)
		ASSERT_EQ(1, write_pattern(self->b[1], 1, DATA, i));
	EXPECT_EQ(100, read_pattern(self->b[0], 100, DATA, 0));
}

/* The page itself moves, and not a copy of it. */
TEST_F(pipes, by_reference)
{
	ssize_t page = page_size();
	char *mem = mmap(NULL, page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	fill_pattern(mem, page, FILLER, 0);
	ASSERT_EQ(page, xvmsplice1(self->a[1], mem, page, 0));
	ASSERT_EQ(page, xsplice(self->a[0], NULL, self->b[1], NULL, page, 0));
	fill_pattern(mem, page, DATA, 0);
	EXPECT_EQ(page, read_pattern(self->b[0], page, DATA, 0));
}

/* Length 0 returns 0 without any other check. */
TEST_F(pipes, zero_length)
{
	ASSERT_EQ(10, write_pattern(self->a[1], 10, DATA, 0));
	EXPECT_EQ(0, xsplice(self->a[0], NULL, self->b[1], NULL, 0, 0));
	EXPECT_EQ(0, xsplice(self->b[0], NULL, self->a[1], NULL, 0, 0));
	EXPECT_EQ(0, xsplice(-1, NULL, -1, NULL, 0, ~0U));
	EXPECT_EQ(10, pipe_bytes(self->a[0]));
	EXPECT_EQ(0, pipe_bytes(self->b[0]));
	EXPECT_EQ(10, read_pattern(self->a[0], 10, DATA, 0));
}

/*
 * Packets stay separate: a read() takes one packet, and drops the part of it
 * that does not fit. A packet that is split becomes two packets.
 */
TEST_F(pipes, packets)
{
	static const struct {
		int pos, len;
	} packets[] = {
		{ 0, 50 }, { 50, 50 }, { 100, 50 },	/* by the first tee() */
		{ 0, 50 }, { 50, 20 },			/* by the second tee() */
		{ 0, 50 }, { 50, 20 },			/* by the splices */
		{ 70, 30 }, { 100, 50 },
	};
	int flags = fcntl(self->a[1], F_GETFL), i;
	char buf[100];

	ASSERT_EQ(0, fcntl(self->a[1], F_SETFL, flags | O_DIRECT));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(50, write_pattern(self->a[1], 50, DATA, 50 * i));
	ASSERT_EQ(150, xtee(self->a[0], self->b[1], 150, 0));
	ASSERT_EQ(70, xtee(self->a[0], self->b[1], 70, 0));
	ASSERT_EQ(70, xsplice(self->a[0], NULL, self->b[1], NULL, 70, 0));
	ASSERT_EQ(80, xsplice(self->a[0], NULL, self->b[1], NULL, 100, 0));
	EXPECT_EQ(370, pipe_bytes(self->b[0]));

	/* After the packets, ordinary data. */
	ASSERT_EQ(10, write_pattern(self->b[1], 10, FILLER, 0));
	for (i = 0; i < ARRAY_LEN(packets); i++) {
		/* Only a part of every second packet. */
		ASSERT_EQ(i % 2 ? 10 : packets[i].len,
			  xread(self->b[0], buf, i % 2 ? 10 : 100));
		EXPECT_EQ(10, match_pattern(buf, 10, DATA, packets[i].pos));
	}
	EXPECT_EQ(10, read_pattern(self->b[0], 10, FILLER, 0));
}

/*
 * A write() that fails leaves no empty buffer, which a splice would take for
 * the end of file.
 */
TEST_F(pipes, failed_write)
{
	struct iovec iov = { self, 0 };
	int null = open("/dev/null", O_WRONLY), sv[2];
	struct job job;

	ASSERT_LE(0, null);
	make_unix_pair(_metadata, sv);
	EXPECT_EQ(-EFAULT, xwrite(self->a[1], (void *)16L, 10));
	EXPECT_EQ(0, or_errno(writev(self->a[1], &iov, 1)));
	EXPECT_EQ(0, pipe_bytes(self->a[0]));
	EXPECT_EQ(-EAGAIN, xsplice(self->a[0], NULL, self->b[1], NULL, 10,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EAGAIN, xsplice(self->a[0], NULL, null, NULL, 10,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EAGAIN, xsplice(self->a[0], NULL, sv[0], NULL, 10,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EAGAIN, xtee(self->a[0], self->b[1], 10,
				SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EAGAIN, xvmsplice1(self->a[0], &sv, 1, SPLICE_F_NONBLOCK));

	job = job_splice(self->a[0], self->b[1], SOME);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	EXPECT_EQ(-EFAULT, xwrite(self->a[1], (void *)16L, 10));
	job_wait_blocked(&job);
	ASSERT_EQ(10, write_pattern(self->a[1], 10, DATA, 0));
	EXPECT_EQ(10, job_finish(_metadata, &job));
	EXPECT_EQ(10, read_pattern(self->b[0], 10, DATA, 0));
}

/* As many buffers move as the target has free slots. */
TEST_F(pipes, target_smaller)
{
	ssize_t page = page_size();
	ssize_t capacity = fill_pipe(_metadata, self->a[1], DATA);

	ASSERT_EQ(2 * page, fcntl(self->b[0], F_SETPIPE_SZ, 2 * page));
	EXPECT_EQ(2 * page, xsplice(self->a[0], NULL, self->b[1], NULL,
				    capacity, 0));
	EXPECT_EQ(capacity - 2 * page, pipe_bytes(self->a[0]));
	EXPECT_EQ(2 * page, read_pattern(self->b[0], 2 * page, DATA, 0));
	EXPECT_EQ(capacity - 2 * page,
		  read_pattern(self->a[0], capacity - 2 * page, DATA,
			       2 * page));
}

/*
 * The end of file is checked before waiting for room, and a missing reader,
 * too.
 */
TEST_F(pipes, order_of_ends)
{
	catch_signal(_metadata, SIGPIPE, 0);
	close(self->a[1]);
	EXPECT_EQ(0, xsplice(self->a[0], NULL, self->b[1], NULL, 10, 0));
	EXPECT_EQ(0, signal_count(SIGPIPE));
	close(self->b[0]);
	EXPECT_EQ(-EPIPE, xsplice(self->a[0], NULL, self->b[1], NULL, 10, 0));
	EXPECT_EQ(1, signal_count(SIGPIPE));
}

/* A writer that waits for the source and a reader of the target are woken. */
TEST_F(pipes, wakes_both)
{
	ssize_t page = page_size();
	char *more, *got = malloc(page);
	struct job writer, reader;

	ASSERT_NE(NULL, got);
	more = alloc_pattern(_metadata, page, FILLER);
	writer = job_writer(self->a[1], more, page);
	reader = job_reader(self->b[0], got, page);
	fill_pipe(_metadata, self->a[1], DATA);
	job_start(_metadata, &writer);
	job_start(_metadata, &reader);
	job_wait_blocked(&writer);
	job_wait_blocked(&reader);

	EXPECT_EQ(page, xsplice(self->a[0], NULL, self->b[1], NULL, page, 0));
	EXPECT_EQ(page, job_finish(_metadata, &writer));
	EXPECT_EQ(page, job_finish(_metadata, &reader));
	EXPECT_EQ(page, match_pattern(got, page, DATA, 0));
	free(more);
	free(got);
}

/* Several waiting splices in a chain pass the data on. */
TEST_F(pipes, chain)
{
	struct job ab = job_splice(self->a[0], self->b[1], SOME);
	struct job bc;
	int c[2];

	make_pipe(_metadata, c);
	bc = job_splice(self->b[0], c[1], SOME);
	job_start(_metadata, &ab);
	job_start(_metadata, &bc);
	job_wait_blocked(&ab);
	job_wait_blocked(&bc);
	ASSERT_EQ(100, write_pattern(self->a[1], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &ab));
	EXPECT_EQ(100, job_finish(_metadata, &bc));
	EXPECT_EQ(100, read_pattern(c[0], 100, DATA, 0));
}

/*
 * The order of the locks of two pipes does not depend on which one is the
 * source. A read that waits for a page fault holds one of the locks, so two calls in
 * opposite directions wait for it, first the one for which that pipe is the
 * source. If each call locked its source first, the second call would hold the
 * lock that the first one needs next.
 */
TEST_F_TIMEOUT(pipes, lock_order, 60)
{
	struct job holder, from, to;
	int *held, *other, i, ret;
	struct stuck stuck;
	char buf[1000];

	for (i = 0; i < 4; i++) {
		ret = stuck_map(&stuck);
		if (ret)
			SKIP(return, "no userfaultfd: %s", strerror(-ret));
		held = i % 2 ? self->a : self->b;
		other = i % 2 ? self->b : self->a;
		ASSERT_EQ(110, write_pattern(held[1], 110, DATA, 0));
		ASSERT_EQ(100, write_pattern(other[1], 100, FILLER, 0));
		/* A read that waits for a fault has the pipe locked. */
		holder = job_reader(held[0], stuck.mem, 10);
		if (i / 2) {
			from = job_tee(held[0], other[1], 100);
			to = job_tee(other[0], held[1], 100);
		} else {
			from = job_splice(held[0], other[1], 100);
			to = job_splice(other[0], held[1], 100);
		}
		job_start(_metadata, &holder);
		stuck_wait(_metadata, &stuck);
		job_start(_metadata, &from);
		job_wait_locked(&from);
		job_start(_metadata, &to);
		job_wait_locked(&to);
		stuck_resolve(_metadata, &stuck);
		EXPECT_EQ(10, job_finish(_metadata, &holder));
		EXPECT_EQ(100, job_finish(_metadata, &from));
		EXPECT_LT(0, job_finish(_metadata, &to));
		read_full(held[0], buf, pipe_bytes(held[0]));
		read_full(other[0], buf, pipe_bytes(other[0]));
		munmap(stuck.mem, page_size());
		close(stuck.fd);
	}
}

/* Both directions at the same time, as often as possible. */
TEST_F_TIMEOUT(pipes, both_directions, 60)
{
	ssize_t page = page_size(), moved = 0, ret;
	struct job jobs[4];
	int i;

	ASSERT_EQ(page, write_pattern(self->a[1], page, DATA, 0));
	ASSERT_EQ(page, write_pattern(self->b[1], page, DATA, 0));
	for (i = 0; i < ARRAY_LEN(jobs); i++) {
		jobs[i] = i % 2 ? job_splice(self->a[0], self->b[1], 1000) :
				  job_splice(self->b[0], self->a[1], 1000);
		jobs[i].arg[5] = SPLICE_F_NONBLOCK;
		jobs[i].rounds = 3000;
		job_start(_metadata, &jobs[i]);
	}
	for (i = 0; i < ARRAY_LEN(jobs); i++) {
		ret = job_finish(_metadata, &jobs[i]);
		EXPECT_LE(0, ret);
		moved += ret;
	}
	EXPECT_LT(0, moved);
	EXPECT_EQ(2 * page, pipe_bytes(self->a[0]) + pipe_bytes(self->b[0]));
}

TEST_HARNESS_MAIN
