// SPDX-License-Identifier: GPL-2.0
/*
 * tee(2): the target gets the data, and the source keeps it. Afterwards no
 * operation on one pipe changes the data of the other.
 */
#include "splice_common.h"

/* Data of more than one buffer, with a partly filled last buffer. */
#define SOME 5000

/* Seeds: of the duplicated data, and of the data that fills a pipe. */
#define DATA 1
#define FILLER 2

FIXTURE(tee) {
	int a[2];
	int b[2];
};

FIXTURE_VARIANT(tee) {
	bool fifo;
};

FIXTURE_VARIANT_ADD(tee, pipe) {
	.fifo = false,
};

FIXTURE_VARIANT_ADD(tee, fifo) {
	.fifo = true,
};

FIXTURE_SETUP(tee)
{
	if (variant->fifo) {
		make_fifo(_metadata, self->a);
		make_fifo(_metadata, self->b);
	} else {
		make_pipe(_metadata, self->a);
		make_pipe(_metadata, self->b);
	}
}

FIXTURE_TEARDOWN(tee)
{
}

TEST_F(tee, sizes)
{
	static const ssize_t sizes[] = { 1, 4095, 4096, 4097, 65536 };
	ssize_t size;
	int i;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		size = sizes[i];
		ASSERT_EQ(size, write_pattern(self->a[1], size, DATA, 0));
		EXPECT_EQ(size, xtee(self->a[0], self->b[1], size, 0));
		EXPECT_EQ(size, pipe_bytes(self->a[0]));
		EXPECT_EQ(size, pipe_bytes(self->b[0]));
		EXPECT_EQ(size, read_pattern(self->b[0], size, DATA, 0));
		EXPECT_EQ(size, read_pattern(self->a[0], size, DATA, 0));
	}
}

/* Less than the source contains; each call starts at the same byte. */
TEST_F(tee, short_count)
{
	ASSERT_EQ(SOME, write_pattern(self->a[1], SOME, DATA, 0));
	EXPECT_EQ(10, xtee(self->a[0], self->b[1], 10, 0));
	EXPECT_EQ(4500, xtee(self->a[0], self->b[1], 4500, 0));
	EXPECT_EQ(SOME, pipe_bytes(self->a[0]));
	EXPECT_EQ(4510, pipe_bytes(self->b[0]));
	EXPECT_EQ(10, read_pattern(self->b[0], 10, DATA, 0));
	EXPECT_EQ(4500, read_pattern(self->b[0], 4500, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->a[0], SOME, DATA, 0));
}

/* More than the source contains. */
TEST_F(tee, long_count)
{
	ASSERT_EQ(SOME, write_pattern(self->a[1], SOME, DATA, 0));
	EXPECT_EQ(SOME, xtee(self->a[0], self->b[1], INT_MAX, 0));
	EXPECT_EQ(SOME, read_pattern(self->b[0], SOME, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->a[0], SOME, DATA, 0));
}

/* From the middle of a buffer that was read partly. */
TEST_F(tee, partly_read_buffer)
{
	ASSERT_EQ(SOME, write_pattern(self->a[1], SOME, DATA, 0));
	ASSERT_EQ(100, read_pattern(self->a[0], 100, DATA, 0));
	EXPECT_EQ(SOME - 100, xtee(self->a[0], self->b[1], SOME, 0));
	EXPECT_EQ(SOME - 100, read_pattern(self->b[0], SOME - 100, DATA, 100));
	EXPECT_EQ(SOME - 100, read_pattern(self->a[0], SOME - 100, DATA, 100));
}

/* At most as many buffers as the target has free slots. */
TEST_F(tee, target_smaller)
{
	ssize_t page = page_size();
	ssize_t capacity = fill_pipe(_metadata, self->a[1], DATA);

	ASSERT_EQ(4 * page, fcntl(self->b[0], F_SETPIPE_SZ, 4 * page));
	ASSERT_EQ(10, write_pattern(self->b[1], 10, FILLER, 0));
	EXPECT_EQ(3 * page, xtee(self->a[0], self->b[1], capacity, 0));
	EXPECT_EQ(capacity, pipe_bytes(self->a[0]));
	EXPECT_EQ(0, poll_now(self->b[1], POLLOUT));
	EXPECT_EQ(10, read_pattern(self->b[0], 10, FILLER, 0));
	EXPECT_EQ(3 * page, read_pattern(self->b[0], 3 * page, DATA, 0));
	EXPECT_EQ(capacity, read_pattern(self->a[0], capacity, DATA, 0));
}

TEST_F(tee, source_larger)
{
	ssize_t large = 256 * page_size();
	ssize_t capacity = pipe_capacity(self->b[0]);

	ASSERT_EQ(large, fcntl(self->a[0], F_SETPIPE_SZ, large));
	fill_pipe(_metadata, self->a[1], DATA);
	EXPECT_EQ(capacity, xtee(self->a[0], self->b[1], large, 0));
	EXPECT_EQ(large, fcntl(self->b[0], F_SETPIPE_SZ, large));
	EXPECT_EQ(large - capacity, xtee(self->a[0], self->b[1], large, 0));
	EXPECT_EQ(capacity, read_pattern(self->b[0], capacity, DATA, 0));
	EXPECT_EQ(large - capacity,
		  read_pattern(self->b[0], large - capacity, DATA, 0));
	EXPECT_EQ(large, read_pattern(self->a[0], large, DATA, 0));
}

/* Each pipe is read, spliced and written to independently. */
TEST_F(tee, independent)
{
	int c[2];

	make_pipe(_metadata, c);
	ASSERT_EQ(SOME, write_pattern(self->a[1], SOME, DATA, 0));
	ASSERT_EQ(SOME, xtee(self->a[0], self->b[1], SOME, 0));

	EXPECT_EQ(100, read_pattern(self->a[0], 100, DATA, 0));
	EXPECT_EQ(4200, read_pattern(self->b[0], 4200, DATA, 0));
	EXPECT_EQ(SOME - 100, pipe_bytes(self->a[0]));
	EXPECT_EQ(SOME - 4200, pipe_bytes(self->b[0]));
	EXPECT_EQ(SOME - 100, splice_full(self->a[0], c[1], SOME - 100));
	EXPECT_EQ(SOME - 4200,
		  read_pattern(self->b[0], SOME - 4200, DATA, 4200));
	EXPECT_EQ(SOME - 100, read_pattern(c[0], SOME - 100, DATA, 100));
}

/*
 * Both pipes refer to a page that has room. Only write() to the source may use
 * that room, and the target must not show it.
 */
TEST_F(tee, writes_are_not_shared)
{
	ASSERT_EQ(100, write_pattern(self->a[1], 100, DATA, 0));
	ASSERT_EQ(100, xtee(self->a[0], self->b[1], 100, 0));
	ASSERT_EQ(50, write_pattern(self->b[1], 50, FILLER, 0));
	ASSERT_EQ(50, write_pattern(self->a[1], 50, DATA, 100));

	EXPECT_EQ(150, read_pattern(self->a[0], 150, DATA, 0));
	EXPECT_EQ(100, read_pattern(self->b[0], 100, DATA, 0));
	EXPECT_EQ(50, read_pattern(self->b[0], 50, FILLER, 0));
}

/* Both pipes refer to the same page, not to a copy. */
TEST_F(tee, by_reference)
{
	ssize_t page = page_size();
	char *mem = mmap(NULL, page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	fill_pattern(mem, page, FILLER, 0);
	ASSERT_EQ(page, xvmsplice1(self->a[1], mem, page, 0));
	ASSERT_EQ(page, xtee(self->a[0], self->b[1], page, 0));
	fill_pattern(mem, page, DATA, 0);
	EXPECT_EQ(page, read_pattern(self->a[0], page, DATA, 0));
	EXPECT_EQ(page, read_pattern(self->b[0], page, DATA, 0));
}

/* Many pipes can refer to one page, and the last one still has its data. */
TEST_F(tee, many)
{
	int p[32][2];
	int i;

	ASSERT_EQ(SOME, write_pattern(self->a[1], SOME, DATA, 0));
	for (i = 0; i < ARRAY_LEN(p); i++) {
		make_pipe(_metadata, p[i]);
		ASSERT_EQ(SOME, xtee(i ? p[i - 1][0] : self->a[0], p[i][1],
				     SOME, 0));
	}
	close(self->a[0]);
	close(self->a[1]);
	for (i = 0; i < ARRAY_LEN(p) - 1; i++) {
		close(p[i][0]);
		close(p[i][1]);
	}
	EXPECT_EQ(SOME, read_pattern(p[i][0], SOME, DATA, 0));
}

/* Without a writer: the data of the source each time, then 0. */
TEST_F(tee, no_writer)
{
	ASSERT_EQ(10, write_pattern(self->a[1], 10, DATA, 0));
	close(self->a[1]);
	EXPECT_EQ(10, xtee(self->a[0], self->b[1], SOME, 0));
	EXPECT_EQ(10, xtee(self->a[0], self->b[1], SOME, 0));
	EXPECT_EQ(10, read_pattern(self->a[0], 10, DATA, 0));
	EXPECT_EQ(0, xtee(self->a[0], self->b[1], SOME, 0));
	EXPECT_EQ(0, xtee(self->a[0], self->b[1], SOME, SPLICE_F_NONBLOCK));
	EXPECT_EQ(20, pipe_bytes(self->b[0]));
}

TEST_F(tee, no_reader)
{
	ASSERT_EQ(SOME, write_pattern(self->a[1], SOME, DATA, 0));
	catch_signal(_metadata, SIGPIPE, 0);
	close(self->b[0]);
	EXPECT_EQ(-EPIPE, xtee(self->a[0], self->b[1], SOME, 0));
	EXPECT_EQ(1, signal_count(SIGPIPE));
	EXPECT_EQ(SOME, read_pattern(self->a[0], SOME, DATA, 0));
}

TEST_F(tee, poll)
{
	ssize_t page = page_size();

	ASSERT_EQ(page, fcntl(self->a[0], F_SETPIPE_SZ, page));
	ASSERT_EQ(page, fcntl(self->b[0], F_SETPIPE_SZ, page));
	ASSERT_EQ(10, write_pattern(self->a[1], 10, DATA, 0));
	EXPECT_EQ(0, poll_now(self->b[0], POLLIN));
	EXPECT_EQ(POLLOUT, poll_now(self->b[1], POLLOUT));

	ASSERT_EQ(10, xtee(self->a[0], self->b[1], 10, 0));
	EXPECT_EQ(POLLIN, poll_now(self->a[0], POLLIN));
	EXPECT_EQ(0, poll_now(self->a[1], POLLOUT));
	EXPECT_EQ(POLLIN, poll_now(self->b[0], POLLIN));
	EXPECT_EQ(0, poll_now(self->b[1], POLLOUT));

	EXPECT_EQ(10, read_pattern(self->a[0], 10, DATA, 0));
	EXPECT_EQ(POLLOUT, poll_now(self->a[1], POLLOUT));
	EXPECT_EQ(0, poll_now(self->b[1], POLLOUT));
	EXPECT_EQ(10, read_pattern(self->b[0], 10, DATA, 0));
	EXPECT_EQ(POLLOUT, poll_now(self->b[1], POLLOUT));
}

TEST_F(tee, wakes_reader)
{
	char buf[100];
	struct job reader = job_reader(self->b[0], buf, sizeof(buf));

	job_start(_metadata, &reader);
	job_wait_blocked(&reader);
	ASSERT_EQ(100, write_pattern(self->a[1], 100, DATA, 0));
	ASSERT_EQ(100, xtee(self->a[0], self->b[1], 100, 0));
	EXPECT_EQ(100, job_finish(_metadata, &reader));
	EXPECT_EQ(100, match_pattern(buf, 100, DATA, 0));
}

/* As in tee(1): duplicate the data, then splice the same length. */
TEST_F_TIMEOUT(tee, stream, 60)
{
	ssize_t size = 1000003, done, n;
	struct job writer, copy, rest;
	char *data, *got[2];
	int c[2];

	make_pipe(_metadata, c);
	data = alloc_pattern(_metadata, size, DATA);
	got[0] = malloc(size);
	got[1] = malloc(size);
	ASSERT_NE(NULL, got[0]);
	ASSERT_NE(NULL, got[1]);
	writer = job_writer(self->a[1], data, size);
	copy = job_reader(self->b[0], got[0], size);
	rest = job_reader(c[0], got[1], size);
	job_start(_metadata, &writer);
	job_start(_metadata, &copy);
	job_start(_metadata, &rest);

	for (done = 0; done < size; done += n) {
		n = xtee(self->a[0], self->b[1], size - done, 0);
		ASSERT_LT(0, n);
		ASSERT_EQ(n, splice_full(self->a[0], c[1], n));
	}
	EXPECT_EQ(size, job_finish(_metadata, &writer));
	EXPECT_EQ(size, job_finish(_metadata, &copy));
	EXPECT_EQ(size, job_finish(_metadata, &rest));
	EXPECT_EQ(size, match_pattern(got[0], size, DATA, 0));
	EXPECT_EQ(size, match_pattern(got[1], size, DATA, 0));
	free(data);
	free(got[0]);
	free(got[1]);
}

/*
 * Both directions at the same time: the two pipes are locked in a fixed order.
 */
TEST_F_TIMEOUT(tee, both_directions, 60)
{
	struct job jobs[4];
	char buf[3000];
	ssize_t ret;
	int i;

	set_nonblock(_metadata, self->a[0], true);
	set_nonblock(_metadata, self->a[1], true);
	set_nonblock(_metadata, self->b[0], true);
	set_nonblock(_metadata, self->b[1], true);
	memset(buf, 'x', sizeof(buf));
	ASSERT_EQ(1000, xwrite(self->a[1], buf, 1000));
	ASSERT_EQ(1000, xwrite(self->b[1], buf, 1000));
	for (i = 0; i < ARRAY_LEN(jobs); i++) {
		jobs[i] = i % 2 ? job_tee(self->a[0], self->b[1], SOME) :
				  job_tee(self->b[0], self->a[1], SOME);
		jobs[i].rounds = 3000;
		job_start(_metadata, &jobs[i]);
	}
	for (i = 0; i < 3000; i++) {
		xwrite(i % 2 ? self->a[1] : self->b[1], buf, 700);
		ret = xread(i % 2 ? self->b[0] : self->a[0], buf, sizeof(buf));
		ASSERT_EQ(ret < 0 ? -EAGAIN : match_byte(buf, ret, 'x'), ret);
	}
	for (i = 0; i < ARRAY_LEN(jobs); i++) {
		ret = job_finish(_metadata, &jobs[i]);
		EXPECT_LE(0, ret);
	}

	/* Both pipes can still be used in both directions. */
	while (xread(self->a[0], buf, sizeof(buf)) > 0)
		;
	while (xread(self->b[0], buf, sizeof(buf)) > 0)
		;
	ASSERT_EQ(700, xwrite(self->a[1], buf, 700));
	EXPECT_EQ(700, xtee(self->a[0], self->b[1], SOME, 0));
	EXPECT_EQ(700, xtee(self->b[0], self->a[1], SOME, 0));
}

/* Duplicated page cache pages: a reader of one pipe does not take the page. */
FIXTURE(tee_file) {
	int fd;
	int a[2];
	int b[2];
};

FIXTURE_VARIANT(tee_file) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(tee_file, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(tee_file, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_SETUP(tee_file)
{
	const char *missing = end_missing(variant->kind);

	if (missing)
		SKIP(return, "%s is not set", missing);
	self->fd = make_file(_metadata, end_dir(_metadata, variant->kind));
	make_pipe(_metadata, self->a);
	make_pipe(_metadata, self->b);
}

FIXTURE_TEARDOWN(tee_file)
{
}

TEST_F(tee_file, two_copies)
{
	const char *dir = end_dir(_metadata, variant->kind);
	int copy[2], i;
	loff_t off = 0;

	ASSERT_EQ(SOME, write_pattern(self->fd, SOME, DATA, 0));
	ASSERT_EQ(SOME, xsplice(self->fd, &off, self->a[1], NULL, SOME, 0));
	ASSERT_EQ(SOME, xtee(self->a[0], self->b[1], SOME, 0));
	for (i = 0; i < 2; i++) {
		copy[i] = make_file(_metadata, dir);
		EXPECT_EQ(SOME, xsplice(i ? self->b[0] : self->a[0], NULL,
					copy[i], NULL, SOME, SPLICE_F_MOVE));
		ASSERT_EQ(0, lseek(copy[i], 0, SEEK_SET));
		EXPECT_EQ(SOME, read_pattern(copy[i], SOME, DATA, 0));
	}
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(SOME, read_pattern(self->fd, SOME, DATA, 0));
}

/* write() after the duplicated data does not change the file. */
TEST_F(tee_file, page_cache_is_not_written)
{
	loff_t off = 0;

	ASSERT_EQ(SOME, write_pattern(self->fd, SOME, DATA, 0));
	ASSERT_EQ(10, xsplice(self->fd, &off, self->a[1], NULL, 10, 0));
	ASSERT_EQ(10, xtee(self->a[0], self->b[1], 10, 0));
	ASSERT_EQ(100, write_pattern(self->a[1], 100, FILLER, 0));
	ASSERT_EQ(100, write_pattern(self->b[1], 100, FILLER, 0));

	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(SOME, read_pattern(self->fd, SOME, DATA, 0));
	EXPECT_EQ(10, read_pattern(self->a[0], 10, DATA, 0));
	EXPECT_EQ(100, read_pattern(self->a[0], 100, FILLER, 0));
	EXPECT_EQ(10, read_pattern(self->b[0], 10, DATA, 0));
	EXPECT_EQ(100, read_pattern(self->b[0], 100, FILLER, 0));
}

TEST_HARNESS_MAIN
