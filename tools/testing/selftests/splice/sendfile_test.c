// SPDX-License-Identifier: GPL-2.0
/*
 * sendfile(2) and copy_file_range(2), both of which use splice: from a file to
 * every kind of sink, and the file positions afterwards.
 */
#include "splice_common.h"

/* Data of more than one page, with a partly filled last page. */
#define SOME 5000

/* Seeds: of the data sent, and of the data that fills a pipe. */
#define DATA 1
#define FILLER 2

static ssize_t min_size(ssize_t a, ssize_t b)
{
	return a < b ? a : b;
}

/* Creates a file with @len bytes of data, positioned at @pos. */
static int make_source(struct __test_metadata *_metadata, enum end_kind kind,
		       ssize_t len, loff_t pos)
{
	int fd = make_file(_metadata, end_dir(_metadata, kind));

	ASSERT_EQ(len, write_pattern(fd, len, DATA, 0));
	ASSERT_EQ(pos, lseek(fd, pos, SEEK_SET));
	return fd;
}

FIXTURE(sendfile) {
	struct end end;
	ssize_t capacity;	/* capacity of a pipe; no limit for other sinks */
};

FIXTURE_VARIANT(sendfile) {
	enum end_kind source;
	enum end_kind sink;
};

FIXTURE_VARIANT_ADD(sendfile, ext4_to_ext4) {
	.source = END_EXT4,
	.sink = END_EXT4,
};

FIXTURE_VARIANT_ADD(sendfile, ext4_to_tmpfs) {
	.source = END_EXT4,
	.sink = END_TMPFS,
};

FIXTURE_VARIANT_ADD(sendfile, ext4_to_pipe) {
	.source = END_EXT4,
	.sink = END_PIPE,
};

FIXTURE_VARIANT_ADD(sendfile, ext4_to_fifo) {
	.source = END_EXT4,
	.sink = END_FIFO,
};

FIXTURE_VARIANT_ADD(sendfile, ext4_to_tcp) {
	.source = END_EXT4,
	.sink = END_TCP,
};

FIXTURE_VARIANT_ADD(sendfile, ext4_to_unix_stream) {
	.source = END_EXT4,
	.sink = END_UNIX,
};

FIXTURE_VARIANT_ADD(sendfile, ext4_to_null) {
	.source = END_EXT4,
	.sink = END_NULL,
};

FIXTURE_VARIANT_ADD(sendfile, tmpfs_to_ext4) {
	.source = END_TMPFS,
	.sink = END_EXT4,
};

FIXTURE_VARIANT_ADD(sendfile, tmpfs_to_tmpfs) {
	.source = END_TMPFS,
	.sink = END_TMPFS,
};

FIXTURE_VARIANT_ADD(sendfile, tmpfs_to_pipe) {
	.source = END_TMPFS,
	.sink = END_PIPE,
};

FIXTURE_VARIANT_ADD(sendfile, tmpfs_to_fifo) {
	.source = END_TMPFS,
	.sink = END_FIFO,
};

FIXTURE_VARIANT_ADD(sendfile, tmpfs_to_tcp) {
	.source = END_TMPFS,
	.sink = END_TCP,
};

FIXTURE_VARIANT_ADD(sendfile, tmpfs_to_unix_stream) {
	.source = END_TMPFS,
	.sink = END_UNIX,
};

FIXTURE_VARIANT_ADD(sendfile, tmpfs_to_null) {
	.source = END_TMPFS,
	.sink = END_NULL,
};

FIXTURE_SETUP(sendfile)
{
	const char *missing = end_missing(variant->source) ?:
			      end_missing(variant->sink);

	if (missing)
		SKIP(return, "%s is not set", missing);
	end_open(_metadata, variant->sink, false, &self->end);
	self->capacity = end_is_pipe(variant->sink) ?
			 pipe_capacity(self->end.fd) : SSIZE_MAX;
}

FIXTURE_TEARDOWN(sendfile)
{
}

/* Checks that the next @len bytes at the far end are the data from @pos on. */
static ssize_t arrived(struct end *end, ssize_t len, loff_t pos)
{
	return end->peer < 0 ? len : read_pattern(end->peer, len, DATA, pos);
}

/* One call sends all of the data, or as much as a pipe takes. */
TEST_F_TIMEOUT(sendfile, sizes, 120)
{
	static const ssize_t sizes[] = {
		1, 4095, 4096, 4097, 65536, 200001, 1048576 + 17,
	};
	ssize_t size, done, ret;
	struct job reader;
	struct stat st;
	char *got;
	int i, in;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		size = sizes[i];
		if (i)
			end_open(_metadata, variant->sink, false, &self->end);
		in = make_source(_metadata, variant->source, size, 0);
		got = malloc(size);
		ASSERT_NE(NULL, got);
		reader = job_reader(self->end.peer, got, size);
		if (end_is_socket(variant->sink))
			job_start(_metadata, &reader);

		for (done = 0; done < size; done += ret) {
			ret = xsendfile(self->end.fd, in, NULL, size - done);
			ASSERT_EQ(min_size(size - done, self->capacity), ret);
			ASSERT_EQ(done + ret, lseek(in, 0, SEEK_CUR));
			if (end_is_pipe(variant->sink))
				ASSERT_EQ(ret, arrived(&self->end, ret, done));
		}
		EXPECT_EQ(0, xsendfile(self->end.fd, in, NULL, size));

		if (end_is_socket(variant->sink)) {
			ASSERT_EQ(size, job_finish(_metadata, &reader));
			EXPECT_EQ(size, match_pattern(got, size, DATA, 0));
		}
		if (end_is_file(variant->sink)) {
			ASSERT_EQ(0, fstat(self->end.fd, &st));
			EXPECT_EQ(size, st.st_size);
			EXPECT_EQ(size, lseek(self->end.fd, 0, SEEK_CUR));
			EXPECT_EQ(size, arrived(&self->end, size, 0));
		}
		close(in);
		close(self->end.fd);
		close(self->end.peer);
		free(got);
	}
}

/* If an offset is given, it moves, and the file position does not. */
TEST_F(sendfile, offset)
{
	int in = make_source(_metadata, variant->source, SOME, 7);
	loff_t off = 1000;

	EXPECT_EQ(300, xsendfile(self->end.fd, in, &off, 300));
	EXPECT_EQ(1300, off);
	EXPECT_EQ(7, lseek(in, 0, SEEK_CUR));
	EXPECT_EQ(300, arrived(&self->end, 300, 1000));

	EXPECT_EQ(300, xsendfile(self->end.fd, in, NULL, 300));
	EXPECT_EQ(307, lseek(in, 0, SEEK_CUR));
	EXPECT_EQ(300, arrived(&self->end, 300, 7));
	if (end_is_file(variant->sink))
		EXPECT_EQ(600, lseek(self->end.fd, 0, SEEK_CUR));
}

/* Before, at and after the end of the file. */
TEST_F(sendfile, end_of_file)
{
	int in = make_source(_metadata, variant->source, SOME, 0);
	loff_t off = SOME - 10;

	EXPECT_EQ(10, xsendfile(self->end.fd, in, &off, 0x7ffff000));
	EXPECT_EQ(SOME, off);
	EXPECT_EQ(10, arrived(&self->end, 10, SOME - 10));
	EXPECT_EQ(0, xsendfile(self->end.fd, in, &off, 100));
	EXPECT_EQ(SOME, off);
	off = 1000000;
	EXPECT_EQ(0, xsendfile(self->end.fd, in, &off, 100));
	EXPECT_EQ(1000000, off);
	EXPECT_EQ(0, lseek(in, 0, SEEK_CUR));
}

TEST_F(sendfile, beyond_4g)
{
	loff_t start = (5LL << 30) + 123, off = start;
	int in = make_source(_metadata, variant->source, 1, 0);

	ASSERT_EQ(start, lseek(in, start, SEEK_SET));
	ASSERT_EQ(SOME, write_pattern(in, SOME, DATA, 0));
	EXPECT_EQ(SOME, xsendfile(self->end.fd, in, &off, 2 * SOME));
	EXPECT_EQ(start + SOME, off);
	EXPECT_EQ(SOME, arrived(&self->end, SOME, 0));
}

/* Holes are sent as zeroes. */
TEST_F(sendfile, hole)
{
	int in = make_source(_metadata, variant->source, 10, 0);
	ssize_t size = 20000;
	char *buf = malloc(size);

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, ftruncate(in, size));
	EXPECT_EQ(size, xsendfile(self->end.fd, in, NULL, size));
	if (self->end.peer >= 0) {
		EXPECT_EQ(10, arrived(&self->end, 10, 0));
		EXPECT_EQ(size - 10,
			  read_full(self->end.peer, buf, size - 10));
		EXPECT_EQ(size - 10, match_byte(buf, size - 10, 0));
	}
	free(buf);
}

/* A sink that can be full. */
FIXTURE(sendfile_stream) {
	struct end end;
	int in;
	ssize_t size;
};

FIXTURE_VARIANT(sendfile_stream) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(sendfile_stream, pipe) {
	.kind = END_PIPE,
};

FIXTURE_VARIANT_ADD(sendfile_stream, fifo) {
	.kind = END_FIFO,
};

FIXTURE_VARIANT_ADD(sendfile_stream, tcp) {
	.kind = END_TCP,
};

FIXTURE_VARIANT_ADD(sendfile_stream, unix_stream) {
	.kind = END_UNIX,
};

FIXTURE_SETUP(sendfile_stream)
{
	const char *missing = end_missing(END_TMPFS);
	int size = 16384;

	if (missing)
		SKIP(return, "%s is not set", missing);
	/* More than any of the sinks can hold. */
	self->size = 1000003;
	self->in = make_source(_metadata, END_TMPFS, self->size, 0);
	end_open(_metadata, variant->kind, false, &self->end);
	if (end_is_socket(variant->kind)) {
		ASSERT_EQ(0, setsockopt(self->end.fd, SOL_SOCKET, SO_SNDBUF,
					&size, sizeof(size)));
		ASSERT_EQ(0, setsockopt(self->end.peer, SOL_SOCKET, SO_RCVBUF,
					&size, sizeof(size)));
	}
}

FIXTURE_TEARDOWN(sendfile_stream)
{
}

/* The position shows how much was taken, and the next call continues there. */
TEST_F_TIMEOUT(sendfile_stream, full_nonblock, 60)
{
	ssize_t sent = 0, done, ret;
	struct job reader;
	char *got;

	set_nonblock(_metadata, self->end.fd, true);
	for (;;) {
		ret = xsendfile(self->end.fd, self->in, NULL,
				self->size - sent);
		if (ret < 0)
			break;
		ASSERT_LT(0, ret);
		sent += ret;
		ASSERT_GT(self->size, sent);
	}
	EXPECT_EQ(-EAGAIN, ret);
	EXPECT_LT(0, sent);
	EXPECT_EQ(sent, lseek(self->in, 0, SEEK_CUR));

	set_nonblock(_metadata, self->end.fd, false);
	got = malloc(self->size);
	ASSERT_NE(NULL, got);
	reader = job_reader(self->end.peer, got, self->size);
	job_start(_metadata, &reader);
	for (done = sent; done < self->size; done += ret) {
		ret = xsendfile(self->end.fd, self->in, NULL,
				self->size - done);
		ASSERT_LT(0, ret);
	}
	EXPECT_EQ(self->size, job_finish(_metadata, &reader));
	EXPECT_EQ(self->size, match_pattern(got, self->size, DATA, 0));
	free(got);
}

/*
 * An interrupted call returns the number of bytes sent, or EINTR if it sent
 * none.
 */
TEST_F_TIMEOUT(sendfile_stream, interrupted, 60)
{
	struct job job = job_sendfile(self->end.fd, self->in, self->size);
	struct job reader;
	ssize_t sent, ret;
	char *got;

	catch_signal(_metadata, SIGUSR1, 0);
	if (end_is_pipe(variant->kind))
		fill_pipe(_metadata, self->end.fd, FILLER);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	job_signal(_metadata, &job, SIGUSR1);
	sent = job_finish(_metadata, &job);
	if (end_is_pipe(variant->kind)) {
		EXPECT_EQ(-EINTR, sent);
		EXPECT_EQ(0, lseek(self->in, 0, SEEK_CUR));
		return;
	}
	ASSERT_LT(0, sent);
	ASSERT_GT(self->size, sent);
	EXPECT_EQ(sent, lseek(self->in, 0, SEEK_CUR));

	got = malloc(self->size);
	ASSERT_NE(NULL, got);
	reader = job_reader(self->end.peer, got, self->size);
	job_start(_metadata, &reader);
	ret = xsendfile(self->end.fd, self->in, NULL, self->size - sent);
	EXPECT_EQ(self->size - sent, ret);
	EXPECT_EQ(self->size, job_finish(_metadata, &reader));
	EXPECT_EQ(self->size, match_pattern(got, self->size, DATA, 0));
	free(got);
}

TEST_F(sendfile_stream, wakes_reader)
{
	char buf[100];
	struct job reader = job_reader(self->end.peer, buf, sizeof(buf));

	/* read() from a TCP socket sleeps in the same system call. */
	job_start(_metadata, &reader);
	job_wait_blocked(&reader);
	EXPECT_EQ(100, xsendfile(self->end.fd, self->in, NULL, 100));
	EXPECT_EQ(100, job_finish(_metadata, &reader));
	EXPECT_EQ(100, match_pattern(buf, 100, DATA, 0));
}

TEST_F(sendfile_stream, no_reader)
{
	catch_signal(_metadata, SIGPIPE, 0);
	ASSERT_EQ(0, end_is_socket(variant->kind) ?
		     shutdown(self->end.fd, SHUT_WR) : close(self->end.peer));
	EXPECT_EQ(-EPIPE, xsendfile(self->end.fd, self->in, NULL, SOME));
	EXPECT_EQ(1, signal_count(SIGPIPE));
	EXPECT_EQ(0, lseek(self->in, 0, SEEK_CUR));
}

/*
 * One file is source and target at different offsets: the data sent is the data
 * that the file has when it is read.
 */
FIXTURE(sendfile_self) {
	int fd;
};

FIXTURE_VARIANT(sendfile_self) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(sendfile_self, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(sendfile_self, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_SETUP(sendfile_self)
{
	const char *missing = end_missing(variant->kind);

	if (missing)
		SKIP(return, "%s is not set", missing);
	self->fd = make_source(_metadata, variant->kind, SOME, 0);
}

FIXTURE_TEARDOWN(sendfile_self)
{
}

TEST_F(sendfile_self, appended)
{
	loff_t off = 0;

	ASSERT_EQ(SOME, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(SOME, xsendfile(self->fd, self->fd, &off, SOME));
	EXPECT_EQ(SOME, off);
	EXPECT_EQ(2 * SOME, lseek(self->fd, 0, SEEK_CUR));
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(SOME, read_pattern(self->fd, SOME, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->fd, SOME, DATA, 0));
}

/* On file systems that cannot clone, copy_file_range() splices. */
FIXTURE(copy_range) {
	int in;
	int out;
};

FIXTURE_VARIANT(copy_range) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(copy_range, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(copy_range, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_SETUP(copy_range)
{
	const char *missing = end_missing(variant->kind);

	if (missing)
		SKIP(return, "%s is not set", missing);
	self->in = make_source(_metadata, variant->kind, SOME, 0);
	self->out = make_file(_metadata, end_dir(_metadata, variant->kind));
}

FIXTURE_TEARDOWN(copy_range)
{
}

TEST_F_TIMEOUT(copy_range, sizes, 60)
{
	static const ssize_t sizes[] = {
		1, 4095, 4096, 4097, 65536, 200001, 1048576 + 17,
	};
	const char *dir = end_dir(_metadata, variant->kind);
	int in, out, i;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		ssize_t size = sizes[i];

		in = make_source(_metadata, variant->kind, size, 0);
		out = make_file(_metadata, dir);
		EXPECT_EQ(size, xcopy_file_range(in, NULL, out, NULL, 2 * size,
						 0));
		EXPECT_EQ(size, lseek(in, 0, SEEK_CUR));
		EXPECT_EQ(size, lseek(out, 0, SEEK_CUR));
		EXPECT_EQ(0, xcopy_file_range(in, NULL, out, NULL, size, 0));
		ASSERT_EQ(0, lseek(out, 0, SEEK_SET));
		EXPECT_EQ(size, read_pattern(out, size, DATA, 0));
		close(in);
		close(out);
	}
}

TEST_F(copy_range, offsets)
{
	loff_t off_in = 100, off_out = 200;
	char buf[200];

	EXPECT_EQ(1000, xcopy_file_range(self->in, &off_in, self->out, &off_out,
					 1000, 0));
	EXPECT_EQ(1100, off_in);
	EXPECT_EQ(1200, off_out);
	EXPECT_EQ(0, lseek(self->in, 0, SEEK_CUR));
	EXPECT_EQ(0, lseek(self->out, 0, SEEK_CUR));
	EXPECT_EQ(200, read_full(self->out, buf, 200));
	EXPECT_EQ(200, match_byte(buf, 200, 0));
	EXPECT_EQ(1000, read_pattern(self->out, 1000, DATA, 100));

	off_in = SOME - 10;
	EXPECT_EQ(10, xcopy_file_range(self->in, &off_in, self->out, &off_out,
				       1000, 0));
	EXPECT_EQ(SOME, off_in);
	EXPECT_EQ(1210, off_out);
	off_in = 1000000;
	EXPECT_EQ(0, xcopy_file_range(self->in, &off_in, self->out, &off_out,
				      1000, 0));
	EXPECT_EQ(1000000, off_in);
}

TEST_F(copy_range, same_file)
{
	loff_t off_in = 0, off_out = SOME;

	EXPECT_EQ(SOME, xcopy_file_range(self->in, &off_in, self->in, &off_out,
					 SOME, 0));
	EXPECT_EQ(SOME, read_pattern(self->in, SOME, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->in, SOME, DATA, 0));

	off_in = 0;
	off_out = 100;
	EXPECT_EQ(-EINVAL, xcopy_file_range(self->in, &off_in, self->in,
					    &off_out, SOME, 0));
}

TEST_F(copy_range, errors)
{
	int append = reopen(_metadata, self->out, O_WRONLY | O_APPEND);
	int rdonly = reopen(_metadata, self->in, O_RDONLY);
	int p[2];

	make_pipe(_metadata, p);
	ASSERT_EQ(10, write_pattern(p[1], 10, DATA, 0));
	EXPECT_EQ(-EINVAL, xcopy_file_range(self->in, NULL, self->out, NULL,
					    SOME, 1));
	EXPECT_EQ(-EBADF, xcopy_file_range(-1, NULL, self->out, NULL, SOME,
					   0));
	EXPECT_EQ(-EBADF, xcopy_file_range(self->in, NULL, rdonly, NULL, SOME,
					   0));
	EXPECT_EQ(-EBADF, xcopy_file_range(self->in, NULL, append, NULL, SOME,
					   0));
	EXPECT_EQ(-EINVAL, xcopy_file_range(p[0], NULL, self->out, NULL, SOME,
					    0));
	EXPECT_EQ(-EINVAL, xcopy_file_range(self->in, NULL, p[1], NULL, SOME,
					    0));
	EXPECT_EQ(10, pipe_bytes(p[0]));
	EXPECT_EQ(0, lseek(self->in, 0, SEEK_CUR));
	EXPECT_EQ(SOME, xcopy_file_range(self->in, NULL, self->out, NULL, SOME,
					 0));
	ASSERT_EQ(0, lseek(self->out, 0, SEEK_SET));
	EXPECT_EQ(SOME, read_pattern(self->out, SOME, DATA, 0));
}

/* User space cannot copy_file_range() from one file system to another. */
TEST_F(copy_range, other_file_system)
{
	enum end_kind other = variant->kind == END_EXT4 ? END_TMPFS : END_EXT4;
	const char *missing = end_missing(other);
	int out;

	if (missing)
		SKIP(return, "%s is not set", missing);
	out = make_file(_metadata, end_dir(_metadata, other));
	EXPECT_EQ(-EXDEV, xcopy_file_range(self->in, NULL, out, NULL, SOME, 0));
	EXPECT_EQ(0, lseek(self->in, 0, SEEK_CUR));
	EXPECT_EQ(0, lseek(out, 0, SEEK_END));
}

TEST_HARNESS_MAIN
