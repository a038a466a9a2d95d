// SPDX-License-Identifier: GPL-2.0
/*
 * vmsplice(2) of memory of all kinds: what is pinned and for how long, how many
 * buffers it is, what fits into a pipe, and who may pin how much.
 *
 * A buffer of many pages counts for as many as it has. So whatever is not about
 * pins has to be the same on a kernel where each page is a buffer.
 */
#include <linux/perf_event.h>
#include <linux/splice.h>
#include <poll.h>
#include <sys/resource.h>

#include "splice_memory.h"

/* Seeds: of the memory, and of what write() puts between. */
#define DATA MEMORY_DATA
#define OTHER 2

/* Data that takes more than one page, the last of them partly filled. */
#define SOME 5000

/* Pages in a pipe that nobody resized. */
#define SLOTS 16

/* Users that own nothing else. */
#define USER 54321
#define OTHER_USER 54322

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

FIXTURE(pin) {
	struct memory mem;
	char *m;		/* where it is */
	ssize_t size;
	ssize_t page;
	int p[2];
	int q[2];
};

FIXTURE_VARIANT(pin) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(pin, pages) {
	.kind = MEMORY_PAGES,
};

FIXTURE_VARIANT_ADD(pin, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(pin, pte_thp) {
	.kind = MEMORY_PTE_THP,
};

FIXTURE_VARIANT_ADD(pin, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_VARIANT_ADD(pin, memfd) {
	.kind = MEMORY_MEMFD,
};

FIXTURE_VARIANT_ADD(pin, memfd_hugetlb) {
	.kind = MEMORY_MEMFD_HUGETLB,
};

FIXTURE_VARIANT_ADD(pin, tmpfs_shared) {
	.kind = MEMORY_TMPFS_SHARED,
};

FIXTURE_VARIANT_ADD(pin, tmpfs_private) {
	.kind = MEMORY_TMPFS_PRIVATE,
};

FIXTURE_VARIANT_ADD(pin, ext4_shared) {
	.kind = MEMORY_EXT4_SHARED,
};

FIXTURE_VARIANT_ADD(pin, ext4_private) {
	.kind = MEMORY_EXT4_PRIVATE,
};

FIXTURE_SETUP(pin)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	memory_map(_metadata, &self->mem, variant->kind);
	self->m = self->mem.p;
	self->size = MEMORY_SIZE;
	self->page = page_size();
}

FIXTURE_TEARDOWN(pin)
{
	EXPECT_EQ(0, setresuid(0, 0, 0));
	memory_unmap(&self->mem);
	close_all();
	expect_no_pins(_metadata);
	memory_give_back(_metadata, variant->kind);
}

/* Makes room for @size bytes of whole pages. */
static void resize(struct __test_metadata *_metadata, int fd, ssize_t size)
{
	ASSERT_EQ(size, fcntl(fd, F_SETPIPE_SZ, size));
}

static bool is_huge(enum memory_kind kind)
{
	return memory_is_thp(kind) || memory_is_hugetlb(kind);
}

/* Checks that the next @len bytes are those of the memory from @pos on. */
static void expect_data(struct __test_metadata *_metadata, int fd, ssize_t len,
			loff_t pos)
{
	EXPECT_EQ(len, read_pattern(fd, len, DATA, pos));
}

/* Neither vmsplice() nor write() has room. */
static void expect_full(struct __test_metadata *_metadata, int fd, char *mem)
{
	EXPECT_EQ(0, poll_now(fd, POLLOUT));
	EXPECT_EQ(-EAGAIN, xvmsplice1(fd, mem, SOME, SPLICE_F_NONBLOCK));
	set_nonblock(_metadata, fd, true);
	EXPECT_EQ(-EAGAIN, xwrite(fd, mem, 1));
	set_nonblock(_metadata, fd, false);
}

/* Buffers. */

/* A huge page is one buffer, however it is mapped; separate pages are not. */
TEST_F(pin, one_buffer_per_range)
{
	struct account before, now;
	ssize_t ranges;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	resize(_metadata, self->p[1], self->size);
	before = read_account(_metadata);
	ASSERT_EQ(self->size, xvmsplice1(self->p[1], self->m, self->size, 0));
	now = read_account(_metadata);
	ranges = count_ranges(self->m, self->size);
	EXPECT_EQ(ranges, now.buffers - before.buffers);
	if (is_huge(variant->kind))
		EXPECT_EQ(1, ranges);
	if (variant->kind == MEMORY_PAGES)
		EXPECT_EQ(self->size / self->page, ranges);
	check_account(_metadata, &before, self->size, 0);
	EXPECT_EQ(self->size, pipe_bytes(self->p[0]));
	expect_data(_metadata, self->p[0], self->size, 0);
}

/* Where a call begins and ends within pages makes no difference. */
TEST_F(pin, parts_of_ranges)
{
	static const ssize_t offsets[] = { 1, 100, 4095, 4106, 65000 };
	static const ssize_t sizes[] = { 1, 4096, 5000, 40001 };
	struct account before, now;
	int i, j;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	for (i = 0; i < ARRAY_LEN(offsets); i++) {
		for (j = 0; j < ARRAY_LEN(sizes); j++) {
			char *at = self->m + offsets[i];

			before = read_account(_metadata);
			ASSERT_EQ(sizes[j],
				  xvmsplice1(self->p[1], at, sizes[j], 0));
			now = read_account(_metadata);
			EXPECT_EQ(count_ranges(at, sizes[j]),
				  now.buffers - before.buffers);
			check_account(_metadata, &before, sizes[j], 0);
			expect_data(_metadata, self->p[0], sizes[j],
				    offsets[i]);
		}
	}
}

/* A range that does not fit is cut, and only what fits is pinned. */
TEST_F(pin, cut_where_pipe_is_full)
{
	ssize_t capacity = pipe_capacity(self->p[0]);
	struct account before, now;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	before = read_account(_metadata);
	ASSERT_EQ(capacity - 100, xvmsplice1(self->p[1], self->m + 100,
					     self->size - 100, 0));
	now = read_account(_metadata);
	EXPECT_EQ(count_ranges(self->m + 100, capacity - 100),
		  now.buffers - before.buffers);
	check_account(_metadata, &before, capacity - 100, 0);
	expect_data(_metadata, self->p[0], capacity - 100, 100);
	EXPECT_EQ(0, pins_held());
}

/* Pins. */

/* Memory is pinned for as long as a byte of it is in the pipe. */
TEST_F(pin, while_in_pipe)
{
	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	EXPECT_EQ(0, pins_held());
	resize(_metadata, self->p[1], self->size);
	ASSERT_EQ(self->size, xvmsplice1(self->p[1], self->m, self->size, 0));
	EXPECT_LT(0, pins_held());
	expect_data(_metadata, self->p[0], self->size - 1, 0);
	EXPECT_LT(0, pins_held());
	expect_data(_metadata, self->p[0], 1, self->size - 1);
	EXPECT_EQ(0, pins_held());
}

TEST_F(pin, until_pipe_is_closed)
{
	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->m + 1, SOME, 0));
	close(self->p[1]);
	EXPECT_LT(0, pins_held());
	close(self->p[0]);
	EXPECT_EQ(0, pins_held());
}

/* Every copy that tee() makes holds on to the memory. */
TEST_F(pin, tee)
{
	ssize_t size = pipe_capacity(self->p[0]);

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, size, 0));
	ASSERT_EQ(size, xtee(self->p[0], self->q[1], size, 0));
	expect_data(_metadata, self->p[0], size, 0);
	EXPECT_LT(0, pins_held());
	expect_data(_metadata, self->q[0], size - 1, 0);
	EXPECT_LT(0, pins_held());
	expect_data(_metadata, self->q[0], 1, size - 1);
	EXPECT_EQ(0, pins_held());
}

/* So does each part of a buffer that was split between two pipes. */
TEST_F(pin, split)
{
	ssize_t size = pipe_capacity(self->p[0]);
	ssize_t part = 5 * self->page + 10;
	int i;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, size, 0));
		ASSERT_EQ(part, xsplice(self->p[0], NULL, self->q[1], NULL,
					part, 0));
		if (i)
			expect_data(_metadata, self->q[0], part, 0);
		else
			expect_data(_metadata, self->p[0], size - part, part);
		EXPECT_LT(0, pins_held());
		if (i)
			expect_data(_metadata, self->p[0], size - part, part);
		else
			expect_data(_metadata, self->q[0], part, 0);
		EXPECT_EQ(0, pins_held());
	}
}

/* A pin goes along with its buffer, and outlives the pipe of the call. */
TEST_F(pin, moved)
{
	ssize_t size = pipe_capacity(self->p[0]);

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, size, 0));
	ASSERT_EQ(size, xsplice(self->p[0], NULL, self->q[1], NULL, size, 0));
	close(self->p[0]);
	close(self->p[1]);
	EXPECT_LT(0, pins_held());
	expect_data(_metadata, self->q[0], size, 0);
	EXPECT_EQ(0, pins_held());
}

/* Capacity: in pages, each of which is used up when it is begun. */

TEST_F(pin, capacity)
{
	static const ssize_t offsets[] = { 0, 1, 100, 4095, 28677 };
	ssize_t off, want;
	int i;

	for (i = 0; i < ARRAY_LEN(offsets); i++) {
		off = offsets[i];
		want = SLOTS * self->page - off % self->page;
		ASSERT_EQ(want, xvmsplice1(self->p[1], self->m + off,
					   self->size - off, 0));
		EXPECT_EQ(want, pipe_bytes(self->p[0]));
		EXPECT_EQ(POLLIN, poll_now(self->p[0], POLLIN));
		expect_full(_metadata, self->p[1], self->m);
		expect_data(_metadata, self->p[0], want, off);
		EXPECT_EQ(0, poll_now(self->p[0], POLLIN));
		EXPECT_EQ(POLLOUT, poll_now(self->p[1], POLLOUT));
	}
}

/* A page that two calls share counts twice, where they meet or anywhere. */
TEST_F(pin, two_calls)
{
	ssize_t page = self->page, first = 3 * page, second = 12 * page - 50;

	ASSERT_EQ(first, xvmsplice1(self->p[1], self->m + 100, first, 0));
	ASSERT_EQ(second, xvmsplice1(self->p[1], self->m + 50, self->size - 50,
				     SPLICE_F_NONBLOCK));
	expect_full(_metadata, self->p[1], self->m);
	expect_data(_metadata, self->p[0], first, 100);
	expect_data(_metadata, self->p[0], second, 50);

	second = 12 * page - 100;
	ASSERT_EQ(first, xvmsplice1(self->p[1], self->m + 100, first, 0));
	ASSERT_EQ(second, xvmsplice1(self->p[1], self->m + 100 + first,
				     self->size - 100 - first, 0));
	expect_full(_metadata, self->p[1], self->m);
	expect_data(_metadata, self->p[0], first + second, 100);
}

TEST_F(pin, write_between)
{
	ssize_t page = self->page, rest = 9 * page - 10;

	/* One page, four, two, and none, which is merged. */
	ASSERT_EQ(10, write_pattern(self->p[1], 10, OTHER, 0));
	ASSERT_EQ(3 * page, xvmsplice1(self->p[1], self->m + 10, 3 * page, 0));
	ASSERT_EQ(page + 10, write_pattern(self->p[1], page + 10, OTHER, 10));
	ASSERT_EQ(10, write_pattern(self->p[1], 10, OTHER, page + 20));
	ASSERT_EQ(rest, xvmsplice1(self->p[1], self->m + 10, self->size - 10,
				   0));
	expect_full(_metadata, self->p[1], self->m);
	EXPECT_EQ(10, read_pattern(self->p[0], 10, OTHER, 0));
	expect_data(_metadata, self->p[0], 3 * page, 10);
	EXPECT_EQ(page + 20, read_pattern(self->p[0], page + 20, OTHER, 10));
	expect_data(_metadata, self->p[0], rest, 10);
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	EXPECT_EQ(self->size, match_pattern(self->m, self->size, DATA, 0));
}

/* Each page that was read to its last byte makes room for one. */
TEST_F(pin, room_after_read)
{
	ssize_t page = self->page, pos = SLOTS * page;
	int i;

	ASSERT_EQ(pos, xvmsplice1(self->p[1], self->m, self->size, 0));
	for (i = 0; i < 2 * SLOTS; i++) {
		expect_data(_metadata, self->p[0], page - 1, i * page);
		expect_full(_metadata, self->p[1], self->m);
		expect_data(_metadata, self->p[0], 1, (i + 1) * page - 1);
		EXPECT_EQ(POLLOUT, poll_now(self->p[1], POLLOUT));
		ASSERT_EQ(page, xvmsplice1(self->p[1], self->m + pos,
					   self->size - pos,
					   SPLICE_F_NONBLOCK));
		pos += page;
		expect_full(_metadata, self->p[1], self->m);
	}
	expect_data(_metadata, self->p[0], SLOTS * page, i * page);
}

/* Who can take bytes out of a pipe. */
enum consumer {
	BY_READ,
	BY_NULL,
	BY_PIPE,
	BY_FILE,
	BY_SOCKET,
	BY_MEMORY,
	NR_CONSUMERS,
};

/* Takes the next @len bytes of pipe p, which are those from @pos on. */
static void consume(struct __test_metadata *_metadata,
		    struct _test_data_pin *self, enum consumer by, int sv[2],
		    ssize_t len, loff_t pos)
{
	ssize_t from = self->p[0], ret;
	int file;
	char *buf;

	switch (by) {
	case BY_READ:
		expect_data(_metadata, from, len, pos);
		break;
	case BY_NULL:
		file = open("/dev/null", O_WRONLY);
		EXPECT_EQ(len, xsplice(from, NULL, file, NULL, len, 0));
		close(file);
		break;
	case BY_PIPE:
		EXPECT_EQ(len, xsplice(from, NULL, self->q[1], NULL, len, 0));
		expect_data(_metadata, self->q[0], len, pos);
		break;
	case BY_FILE:
		file = make_file(_metadata, "/tmp");
		EXPECT_EQ(len, xsplice(from, NULL, file, NULL, len, 0));
		ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
		expect_data(_metadata, file, len, pos);
		close(file);
		break;
	case BY_SOCKET:
		EXPECT_EQ(len, xsplice(from, NULL, sv[0], NULL, len, 0));
		expect_data(_metadata, sv[1], len, pos);
		break;
	case BY_MEMORY:
		buf = malloc(len);
		ASSERT_NE(NULL, buf);
		ret = xvmsplice1(from, buf, len, 0);
		EXPECT_EQ(len, ret);
		EXPECT_EQ(len, match_pattern(buf, len, DATA, pos));
		free(buf);
		break;
	default:
		break;
	}
}

/* A writer is woken when one page is used up, whoever does that. */
TEST_F(pin, wakes_writer)
{
	ssize_t page = self->page, full = SLOTS * page, left;
	char *more = alloc_pattern(_metadata, 3 * page, OTHER);
	struct job job;
	enum consumer by;
	int sv[2];

	make_unix_pair(_metadata, sv);
	for (by = 0; by < NR_CONSUMERS; by++) {
		ASSERT_EQ(full, xvmsplice1(self->p[1], self->m, full, 0));
		job = job_writer(self->p[1], more, 3 * page);
		job_start(_metadata, &job);
		job_wait_blocked(&job);
		consume(_metadata, self, by, sv, page - 1, 0);
		usleep(10000);
		EXPECT_EQ(full - page + 1, pipe_bytes(self->p[0]));
		consume(_metadata, self, by, sv, 1, page - 1);
		while (pipe_bytes(self->p[0]) != full)
			usleep(1000);
		/* One and a half: the writer has room for one page more. */
		left = page / 2;
		consume(_metadata, self, by, sv, page + left, page);
		while (pipe_bytes(self->p[0]) != full - left)
			usleep(1000);
		job_wait_blocked(&job);
		consume(_metadata, self, by, sv, left, 2 * page + left);
		EXPECT_EQ(3 * page, job_finish(_metadata, &job)) {
			TH_LOG("consumer %d", by);
		}
		expect_data(_metadata, self->p[0], full - 3 * page, 3 * page);
		EXPECT_EQ(3 * page, read_pattern(self->p[0], 3 * page, OTHER,
						 0));
	}
	free(more);
}

/* What the smaller pipe has room for is moved, and the rest stays in order. */
TEST_F(pin, into_smaller_pipe)
{
	ssize_t page = self->page, size = SLOTS * page - 100, done, want;

	resize(_metadata, self->q[1], 4 * page);
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m + 100, self->size - 100,
				   0));
	for (done = 0; done < size; done += want) {
		want = done ? 4 * page : 4 * page - 100;
		ASSERT_EQ(want, xsplice(self->p[0], NULL, self->q[1], NULL,
					self->size, 0));
		EXPECT_EQ(size - done - want, pipe_bytes(self->p[0]));
		expect_full(_metadata, self->q[1], self->m);
		if (done + want < size)
			EXPECT_EQ(-EAGAIN, xsplice(self->p[0], NULL,
						   self->q[1], NULL, size,
						   SPLICE_F_NONBLOCK));
		expect_data(_metadata, self->q[0], want, 100 + done);
	}

	/* With something in it already. */
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m + 100, self->size - 100,
				   0));
	ASSERT_EQ(page + 1, write_pattern(self->q[1], page + 1, OTHER, 0));
	want = 2 * page - 100;
	EXPECT_EQ(want, xsplice(self->p[0], NULL, self->q[1], NULL, size, 0));
	EXPECT_EQ(page + 1, read_pattern(self->q[0], page + 1, OTHER, 0));
	expect_data(_metadata, self->q[0], want, 100);
	expect_data(_metadata, self->p[0], size - want, 100 + want);
}

TEST_F(pin, tee_into_smaller_pipe)
{
	ssize_t page = self->page, size = SLOTS * page - 100;
	ssize_t want = 4 * page - 100;

	resize(_metadata, self->q[1], 4 * page);
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m + 100, self->size - 100,
				   0));
	ASSERT_EQ(want, xtee(self->p[0], self->q[1], size, 0));
	expect_full(_metadata, self->q[1], self->m);
	EXPECT_EQ(-EAGAIN, xtee(self->p[0], self->q[1], size,
				SPLICE_F_NONBLOCK));
	expect_data(_metadata, self->q[0], page, 100);
	/* What is left of a page that was begun still is one. */
	ASSERT_EQ(page - 100, xtee(self->p[0], self->q[1], size, 0));
	EXPECT_EQ(-EAGAIN, xtee(self->p[0], self->q[1], size,
				SPLICE_F_NONBLOCK));
	expect_data(_metadata, self->q[0], want - page, 100 + page);
	expect_data(_metadata, self->q[0], page - 100, 100);
	expect_data(_metadata, self->p[0], size, 100);
}

/* A pipe shrinks when the pages in it fit, and not before. */
TEST_F(pin, resized)
{
	ssize_t page = self->page, size = SLOTS * page;

	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, self->size, 0));
	EXPECT_EQ(-EBUSY, or_errno(fcntl(self->p[1], F_SETPIPE_SZ, size / 2)));
	expect_data(_metadata, self->p[0], size / 2 - 1, 0);
	EXPECT_EQ(-EBUSY, or_errno(fcntl(self->p[1], F_SETPIPE_SZ, size / 2)));
	EXPECT_EQ(size, pipe_capacity(self->p[1]));
	expect_data(_metadata, self->p[0], 1, size / 2 - 1);
	resize(_metadata, self->p[1], size / 2);
	EXPECT_EQ(size / 2, pipe_capacity(self->p[1]));
	expect_full(_metadata, self->p[1], self->m);

	/* And grows, with all that is in it. */
	resize(_metadata, self->p[1], 2 * size);
	EXPECT_EQ(size / 2, pipe_bytes(self->p[0]));
	EXPECT_EQ(3 * size / 2, xvmsplice1(self->p[1], self->m, self->size, 0));
	expect_full(_metadata, self->p[1], self->m);
	EXPECT_EQ(-EBUSY, or_errno(fcntl(self->p[1], F_SETPIPE_SZ, size)));
	expect_data(_metadata, self->p[0], size / 2, size / 2);
	expect_data(_metadata, self->p[0], 3 * size / 2, 0);
	resize(_metadata, self->p[1], page);
	ASSERT_EQ(page, xvmsplice1(self->p[1], self->m, self->size, 0));
	expect_full(_metadata, self->p[1], self->m);
	expect_data(_metadata, self->p[0], page, 0);
}

/* Who waits for room finds it when the pipe is made larger. */
TEST_F(pin, enlarged_for_writer)
{
	ssize_t size = SLOTS * self->page;
	struct iovec iov = { self->m + size, SOME };
	struct job job = job_vmsplice(self->p[1], &iov);

	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, self->size, 0));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	resize(_metadata, self->p[1], 2 * size);
	EXPECT_EQ(SOME, job_finish(_metadata, &job));
	expect_data(_metadata, self->p[0], size + SOME, 0);
}

/* Consumers. */

TEST_F(pin, odd_reads)
{
	static const ssize_t sizes[] = { 1, 3, 100, 4095, 4097, 8192, 70001 };
	ssize_t pos, want, left;
	char *buf = malloc(70001);
	int i;

	ASSERT_NE(NULL, buf);
	resize(_metadata, self->p[1], self->size);
	ASSERT_EQ(self->size - 1,
		  xvmsplice1(self->p[1], self->m + 1, self->size - 1, 0));
	for (pos = 1, i = 0; pos < self->size; pos += want, i++) {
		left = self->size - pos;
		want = sizes[i % ARRAY_LEN(sizes)];
		if (want > left)
			want = left;
		/* In one call: a read() ends when the pipe is empty. */
		ASSERT_EQ(want, xread(self->p[0], buf,
				      sizes[i % ARRAY_LEN(sizes)]));
		ASSERT_EQ(want, match_pattern(buf, want, DATA, pos));
		EXPECT_EQ(left - want, pipe_bytes(self->p[0]));
	}
	free(buf);
}

/* Destinations that end in the middle of a page of the pipe. */
static void into_fault(struct __test_metadata *_metadata,
		       struct _test_data_pin *self, bool by_vmsplice)
{
	ssize_t page = self->page, room = 2 * page + page / 2, want, ret;
	char *area, *to;
	int off;

	area = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, area);
	ASSERT_EQ(0, munmap(area + 3 * page, page));
	to = area + 3 * page - room;
	for (off = 0; off <= 100; off += 100) {
		ASSERT_EQ(8 * page, xvmsplice1(self->p[1], self->m + off,
					       8 * page, 0));
		/* Pages that were copied as a whole are used up. */
		want = 2 * page - off;
		ret = by_vmsplice ? xvmsplice1(self->p[0], to, 8 * page, 0) :
				    xread(self->p[0], to, 8 * page);
		EXPECT_EQ(want, ret);
		EXPECT_EQ(want, match_pattern(to, want, DATA, off));
		EXPECT_EQ(8 * page - want, pipe_bytes(self->p[0]));
		/* And there are none here. */
		ret = by_vmsplice ?
		      xvmsplice1(self->p[0], to + room - 10, page, 0) :
		      xread(self->p[0], to + room - 10, page);
		EXPECT_EQ(-EFAULT, ret);
		expect_data(_metadata, self->p[0], 8 * page - want, off + want);
	}
	munmap(area, 3 * page);
}

TEST_F(pin, read_into_fault)
{
	into_fault(_metadata, self, false);
}

TEST_F(pin, vmsplice_into_fault)
{
	into_fault(_metadata, self, true);
}

/* As by read(), in pieces and with several ranges. */
TEST_F(pin, to_memory)
{
	ssize_t page = self->page, len = 10 * page;
	char *buf = malloc(len);
	struct iovec iov[] = {
		{ buf, 1 }, { buf + 1, 2 * page }, { NULL, 0 },
		{ buf + 1 + 2 * page, len - 1 - 2 * page },
	};

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(len, xvmsplice1(self->p[1], self->m + 50, len, 0));
	EXPECT_EQ(len, xvmsplice(self->p[0], iov, ARRAY_LEN(iov), 0));
	EXPECT_EQ(len, match_pattern(buf, len, DATA, 50));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	free(buf);
}

/* Streams: a buffer larger than any message, and not at a page's beginning. */
static void to_stream(struct __test_metadata *_metadata,
		      struct _test_data_pin *self, int sv[2])
{
	ssize_t size = self->size - 100;
	char *buf = malloc(size);
	struct job job = job_reader(sv[1], buf, size);

	ASSERT_NE(NULL, buf);
	resize(_metadata, self->p[1], self->size);
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m + 100, size, 0));
	job_start(_metadata, &job);
	EXPECT_EQ(size, splice_full(self->p[0], sv[0], size));
	EXPECT_EQ(size, job_finish(_metadata, &job));
	EXPECT_EQ(size, match_pattern(buf, size, DATA, 100));
	free(buf);
}

TEST_F(pin, tcp)
{
	int sv[2];

	make_tcp_pair(_metadata, sv);
	to_stream(_metadata, self, sv);
}

TEST_F(pin, unix_stream)
{
	int sv[2];

	make_unix_pair(_metadata, sv);
	to_stream(_metadata, self, sv);
}

/* A message has no more than sixteen pages, whole or not. */
TEST_F(pin, unix_seqpacket)
{
	ssize_t page = self->page, sizes[] = {
		16 * page - 100, 16 * page, 7 * page + 50,
	};
	ssize_t size = 0, pos = 100;
	char *buf = malloc(32 * page);
	int sndbuf = 1 << 20, sv[2], i;

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv));
	ASSERT_EQ(0, setsockopt(sv[0], SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf,
				sizeof(sndbuf)));
	for (i = 0; i < ARRAY_LEN(sizes); i++)
		size += sizes[i];
	resize(_metadata, self->p[1], 64 * page);
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m + pos, size, 0));
	EXPECT_EQ(size, xsplice(self->p[0], NULL, sv[0], NULL, size, 0));
	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		ASSERT_EQ(sizes[i], xread(sv[1], buf, 32 * page));
		EXPECT_EQ(sizes[i], match_pattern(buf, sizes[i], DATA, pos));
		pos += sizes[i];
	}

	/* Cut by the caller, and behind it. */
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, size, 0));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(SOME, xsplice(self->p[0], NULL, sv[0], NULL, SOME,
					0));
		ASSERT_EQ(SOME, xread(sv[1], buf, 32 * page));
		EXPECT_EQ(SOME, match_pattern(buf, SOME, DATA, i * SOME));
	}
	expect_data(_metadata, self->p[0], size - i * SOME, i * SOME);
	free(buf);
}

TEST_F(pin, udp)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	ssize_t page = self->page, len = 7 * page + 10;
	char *buf = malloc(SLOTS * page);
	socklen_t addr_len = sizeof(addr);
	int sv[2], i;

	ASSERT_NE(NULL, buf);
	for (i = 0; i < 2; i++) {
		sv[i] = socket(AF_INET, SOCK_DGRAM, 0);
		ASSERT_LE(0, sv[i]);
	}
	bring_up_loopback(_metadata, sv[1]);
	ASSERT_EQ(0, bind(sv[1], (struct sockaddr *)&addr, addr_len));
	ASSERT_EQ(0, getsockname(sv[1], (struct sockaddr *)&addr, &addr_len));
	ASSERT_EQ(0, connect(sv[0], (struct sockaddr *)&addr, addr_len));

	ASSERT_EQ(SLOTS * page - 100, xvmsplice1(self->p[1], self->m + 100,
						 self->size - 100, 0));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(len, xsplice(self->p[0], NULL, sv[0], NULL, len, 0));
		ASSERT_EQ(len, xread(sv[1], buf, SLOTS * page));
		EXPECT_EQ(len, match_pattern(buf, len, DATA, 100 + i * len));
	}
	len = SLOTS * page - 100 - i * len;
	expect_data(_metadata, self->p[0], len, SLOTS * page - len);

	/* Sixteen whole pages are more than a datagram can have. */
	ASSERT_EQ(SLOTS * page, xvmsplice1(self->p[1], self->m, self->size, 0));
	EXPECT_EQ(-EMSGSIZE, xsplice(self->p[0], NULL, sv[0], NULL, self->size,
				     0));
	expect_data(_metadata, self->p[0], SLOTS * page, 0);
	free(buf);
}

/* Files, through the page cache and past it. */
TEST_F(pin, files)
{
	static const ssize_t sizes[] = { 1, 5000, 65537, MEMORY_SIZE };
	enum end_kind kinds[] = { END_TMPFS, END_EXT4, END_EXT4 };
	ssize_t done, left, len, ret;
	int i, j, file, to;

	resize(_metadata, self->p[1], self->size);
	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		bool direct = i == 2;

		if (end_missing(kinds[i]))
			SKIP(return, "%s is not set", end_missing(kinds[i]));
		file = make_file(_metadata, end_dir(_metadata, kinds[i]));
		to = reopen(_metadata, file, O_WRONLY |
			    (direct ? O_DIRECT : 0));
		/* Past the page cache it has to be whole blocks. */
		ASSERT_EQ(self->size,
			  xvmsplice1(self->p[1], self->m, self->size, 0));
		for (done = j = 0; done < self->size; done += ret, j++) {
			left = self->size - done;
			len = sizes[j < ARRAY_LEN(sizes) ? j : 3];
			if (direct)
				len = (len + self->page) & -self->page;
			ret = xsplice(self->p[0], NULL, to, NULL, len, 0);
			ASSERT_LT(0, ret);
			ASSERT_EQ(left - ret, pipe_bytes(self->p[0]));
		}
		ASSERT_EQ(self->size, lseek(file, 0, SEEK_END));
		ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
		expect_data(_metadata, file, self->size, 0);
		close(to);
		close(file);
	}
}

/* A gift is one like any other: what is still mapped is not taken away. */
TEST_F(pin, gift)
{
	static const char *const vars[] = { "SPLICE_TMPFS_DIR", "SPLICE_EXT4_DIR" };
	ssize_t len = 4 * self->page;
	int i, file;

	for (i = 0; i < ARRAY_LEN(vars); i++) {
		if (!getenv(vars[i]))
			SKIP(return, "%s is not set", vars[i]);
		file = make_file(_metadata, getenv(vars[i]));
		ASSERT_EQ(len, xvmsplice1(self->p[1], self->m, len,
					  SPLICE_F_GIFT));
		EXPECT_EQ(len, xsplice(self->p[0], NULL, file, NULL, len,
				       SPLICE_F_MOVE));
		if (!memory_is_private_file(variant->kind))
			fill_pattern(self->m, len, OTHER, 0);
		ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
		expect_data(_metadata, file, len, 0);
		if (!memory_is_private_file(variant->kind))
			fill_pattern(self->m, len, DATA, 0);
		/* Nor is the memory what the file is written with. */
		ASSERT_EQ(len, pwrite(file, self->m + self->page, len, 0));
		EXPECT_EQ(len, match_pattern(self->m, len, DATA, 0));
		close(file);
	}
	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	ASSERT_EQ(len, xvmsplice1(self->p[1], self->m, len, SPLICE_F_GIFT));
	EXPECT_LT(0, pins_held());
	expect_data(_metadata, self->p[0], len, 0);
	EXPECT_EQ(0, pins_held());
}

/* Ranges and ends. */

static unsigned int next_random(unsigned int *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

static ssize_t at_most(ssize_t a, ssize_t b)
{
	return a < b ? a : b;
}

/* How many bytes of these ranges fit into that many pages of a pipe. */
static ssize_t fitting(const struct iovec *iov, const struct iovec *end,
		       ssize_t pages)
{
	ssize_t done = 0, len, piece;
	unsigned long at;

	for (; iov < end; iov++) {
		at = (unsigned long)iov->iov_base;
		for (len = iov->iov_len; len && pages; len -= piece, pages--) {
			piece = at_most(len, page_size() - at % page_size());
			at += piece;
			done += piece;
		}
	}
	return done;
}

/* As many ranges as a call can have come in order, each in pages of its own. */
TEST_F(pin, many_ranges)
{
	static struct iovec iov[UIO_MAXIOV];
	struct iovec *next = iov, *end = iov + UIO_MAXIOV;
	ssize_t total = 0, done = 0, want, len, off;
	unsigned int state = 1;
	char *all, *buf;

	resize(_metadata, self->p[1], self->size);
	for (; next < end; next++) {
		len = next_random(&state) % 5000 | 1;
		if (next_random(&state) % 10 == 0)
			len = 0;
		off = next_random(&state) % (self->size - len);
		*next = (struct iovec) { self->m + off, len };
		total += len;
	}
	all = malloc(total);
	buf = malloc(total);
	ASSERT_NE(NULL, all);
	ASSERT_NE(NULL, buf);
	for (next = iov, len = 0; next < end; len += next->iov_len, next++)
		memcpy(all + len, next->iov_base, next->iov_len);

	for (next = iov; done < total; done += want) {
		want = fitting(next, end, self->size / self->page);
		ASSERT_EQ(want, xvmsplice(self->p[1], next, end - next,
					  SPLICE_F_NONBLOCK));
		ASSERT_EQ(want, read_full(self->p[0], buf, want));
		EXPECT_EQ(0, memcmp(buf, all + done, want));
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
		for (len = want; next < end && len >= (ssize_t)next->iov_len;
		     next++)
			len -= next->iov_len;
		if (next < end) {
			next->iov_base += len;
			next->iov_len -= len;
		}
	}
	free(all);
	free(buf);
}

TEST_F(pin, no_bytes)
{
	struct iovec iov[] = { { self->m, 0 }, { NULL, 0 }, { self->m, 0 } };

	EXPECT_EQ(0, xvmsplice1(self->p[1], self->m, 0, 0));
	EXPECT_EQ(0, xvmsplice(self->p[1], iov, ARRAY_LEN(iov), 0));
	EXPECT_EQ(0, xvmsplice(self->p[1], iov, 0, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	EXPECT_EQ(0, pins_held());
}

static void set_memlock(struct __test_metadata *_metadata, rlim_t limit)
{
	struct rlimit rlimit = { limit, RLIM_INFINITY };

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &rlimit));
}

/* vmsplice() by that user. */
static ssize_t vmsplice_as(struct __test_metadata *_metadata, uid_t uid, int fd,
			   const void *buf, ssize_t len)
{
	ssize_t ret;

	become(_metadata, uid);
	ret = xvmsplice1(fd, buf, len, SPLICE_F_NONBLOCK);
	become(_metadata, 0);
	return ret;
}

/*
 * Memory with a gap in it: what is before is in the pipe, and then the gap is
 * reported, whether memory is pinned or copied.
 */
static void check_gap(struct __test_metadata *_metadata,
		      struct _test_data_pin *self, ssize_t gap)
{
	ssize_t page = self->page, off, want;
	int limited;

	set_memlock(_metadata, 0);
	resize(_metadata, self->p[1], 64 * page);
	for (limited = 0; limited < 2; limited++) {
		if (limited)
			become(_metadata, USER);
		for (off = gap - 20 * page; off < gap; off += 8 * page + 10) {
			want = gap - off;
			EXPECT_EQ(want, xvmsplice1(self->p[1], self->m + off,
						   30 * page, 0));
			EXPECT_EQ(want, pipe_bytes(self->p[0]));
			expect_data(_metadata, self->p[0], want, off);
		}
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], self->m + gap,
					      30 * page, 0));
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1],
					      self->m + gap + page - 1, 1, 0));
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
	}
	become(_metadata, 0);
	EXPECT_EQ(0, pins_held());
}

TEST_F(pin, behind_end)
{
	check_gap(_metadata, self, self->size);
}

TEST_F(pin, hole)
{
	ssize_t page = self->page, gap = 40 * page;

	/* A huge page cannot be unmapped in part. */
	if (memory_is_hugetlb(variant->kind)) {
		EXPECT_EQ(-EINVAL, or_errno(munmap(self->m + gap, page)));
		return;
	}
	ASSERT_EQ(0, munmap(self->m + gap, page));
	check_gap(_metadata, self, gap);
	EXPECT_EQ(page, xvmsplice1(self->p[1], self->m + gap + page, page, 0));
	expect_data(_metadata, self->p[0], page, gap + page);
}

TEST_F(pin, guard)
{
	ssize_t page = self->page, gap = 40 * page;
	ssize_t ret = or_errno(madvise(self->m + gap, page,
				       MADV_GUARD_INSTALL));

	/* Of huge pages there are none. */
	if (memory_is_hugetlb(variant->kind)) {
		EXPECT_EQ(-EINVAL, ret);
		return;
	}
	if (ret)
		SKIP(return, "no guard pages: %s", strerror(-ret));
	check_gap(_metadata, self, gap);
	EXPECT_EQ(page, xvmsplice1(self->p[1], self->m + gap + page, page, 0));
	expect_data(_metadata, self->p[0], page, gap + page);
}

/* A pipe of pages, as mainline has it. */
struct slot {
	ssize_t off;
	ssize_t len;
	bool merge;
	char data[4096];
};

struct model {
	struct slot slot[4 * SLOTS];
	ssize_t used;
	ssize_t max;
};

static void model_add(struct model *m, const char *data, ssize_t len,
		      bool merge)
{
	struct slot *slot = &m->slot[m->used++];

	slot->off = 0;
	slot->len = len;
	slot->merge = merge;
	memcpy(slot->data, data, len);
}

/* Takes the first @len bytes of the first page. */
static void model_take(struct model *m, ssize_t len)
{
	m->slot[0].off += len;
	m->slot[0].len -= len;
	if (!m->slot[0].len)
		memmove(m->slot, m->slot + 1, --m->used * sizeof(m->slot[0]));
}

static ssize_t model_vmsplice(struct model *m, const struct iovec *iov, int nr)
{
	ssize_t done = 0, len, piece;
	char *at;
	int i;

	for (i = 0; i < nr; i++) {
		at = iov[i].iov_base;
		for (len = iov[i].iov_len; len; len -= piece) {
			if (m->used == m->max)
				return done ? done : -EAGAIN;
			piece = at_most(len, 4096 - (unsigned long)at % 4096);
			model_add(m, at, piece, false);
			at += piece;
			done += piece;
		}
	}
	return done;
}

static ssize_t model_write(struct model *m, const char *data, ssize_t len)
{
	ssize_t rest = len % 4096, done = 0, piece;
	struct slot *last = &m->slot[m->used - 1];

	if (rest && m->used && last->merge &&
	    last->off + last->len + rest <= 4096) {
		memcpy(last->data + last->off + last->len, data, rest);
		last->len += rest;
		done = rest;
	}
	for (; done < len && m->used < m->max; done += piece) {
		piece = at_most(len - done, 4096);
		model_add(m, data + done, piece, true);
	}
	return done ? done : -EAGAIN;
}

static ssize_t model_read(struct model *m, char *to, ssize_t len)
{
	ssize_t done = 0, piece;

	for (; done < len && m->used; done += piece) {
		piece = at_most(len - done, m->slot[0].len);
		memcpy(to + done, m->slot[0].data + m->slot[0].off, piece);
		model_take(m, piece);
	}
	return done ? done : -EAGAIN;
}

static ssize_t model_splice(struct model *from, struct model *to, ssize_t len)
{
	ssize_t done = 0, piece;

	for (; done < len && from->used && to->used < to->max; done += piece) {
		struct slot *slot = &to->slot[to->used++];

		*slot = from->slot[0];
		piece = at_most(len - done, slot->len);
		slot->merge = slot->merge && piece == slot->len;
		slot->len = piece;
		model_take(from, piece);
	}
	return done ? done : -EAGAIN;
}

static ssize_t model_tee(struct model *from, struct model *to, ssize_t len)
{
	ssize_t done = 0, piece, i;

	for (i = 0; done < len && i < from->used && to->used < to->max; i++) {
		struct slot *slot = &to->slot[to->used++];

		*slot = from->slot[i];
		slot->merge = false;
		piece = at_most(len - done, slot->len);
		slot->len = piece;
		done += piece;
	}
	return done ? done : -EAGAIN;
}

static ssize_t model_bytes(const struct model *m)
{
	ssize_t bytes = 0, i;

	for (i = 0; i < m->used; i++)
		bytes += m->slot[i].len;
	return bytes;
}

/* Random calls on two pipes, one after the other, beside the model. */
static void random_calls(struct __test_metadata *_metadata,
			 struct _test_data_pin *self, unsigned int state,
			 int calls)
{
	struct model *models = calloc(2, sizeof(*models));
	ssize_t size = 4 * SLOTS * self->page, len, want, got;
	char *buf = malloc(size), *expected = malloc(size);
	int *pipes[2] = { self->p, self->q }, i, a, b;
	struct iovec iov[3];
	unsigned int op;

	ASSERT_NE(NULL, models);
	ASSERT_NE(NULL, buf);
	ASSERT_NE(NULL, expected);
	for (i = 0; i < 2; i++) {
		models[i].max = SLOTS;
		resize(_metadata, pipes[i][1], SLOTS * self->page);
		set_nonblock(_metadata, pipes[i][0], true);
		set_nonblock(_metadata, pipes[i][1], true);
	}
	while (calls--) {
		a = next_random(&state) % 2;
		b = next_random(&state) % 2 ? !a : a;
		len = next_random(&state) % (1 << next_random(&state) % 17) + 1;
		op = next_random(&state) % 16;
		switch (op) {
		case 0 ... 4:
			for (i = 0; i < 3; i++) {
				iov[i].iov_base = self->m +
					next_random(&state) %
					(self->size - len);
				iov[i].iov_len = len;
			}
			/* In half of all cases one behind the other. */
			if (next_random(&state) % 2) {
				iov[0].iov_len = (len + 1) / 2;
				iov[1].iov_base = iov[0].iov_base +
						  iov[0].iov_len;
				iov[1].iov_len = len / 2;
			}
			i = next_random(&state) % 3 + 1;
			want = model_vmsplice(&models[a], iov, i);
			got = xvmsplice(pipes[a][1], iov, i,
					SPLICE_F_NONBLOCK);
			break;
		case 5 ... 7:
			fill_pattern(buf, len, OTHER, calls);
			want = model_write(&models[a], buf, len);
			got = xwrite(pipes[a][1], buf, len);
			break;
		case 8 ... 10:
			want = model_read(&models[a], expected, len);
			if (op == 8)
				got = xvmsplice1(pipes[a][0], buf, len,
						 SPLICE_F_NONBLOCK);
			else
				got = xread(pipes[a][0], buf, len);
			if (want > 0)
				EXPECT_EQ(0, memcmp(buf, expected, want));
			break;
		case 11 ... 12:
			want = model_splice(&models[a], &models[!a], len);
			got = xsplice(pipes[a][0], NULL, pipes[!a][1], NULL,
				      len, SPLICE_F_NONBLOCK);
			break;
		case 13 ... 14:
			want = model_tee(&models[a], &models[!a], len);
			got = xtee(pipes[a][0], pipes[!a][1], len,
				   SPLICE_F_NONBLOCK);
			break;
		default:
			len = self->page << next_random(&state) % 6;
			want = models[b].used > len / self->page ? -EBUSY : len;
			if (want > 0)
				models[b].max = len / self->page;
			got = or_errno(fcntl(pipes[b][1], F_SETPIPE_SZ, len));
			break;
		}
		ASSERT_EQ(want, got) {
			TH_LOG("call %u of %zd bytes, %d to go", op, len, calls);
		}
		for (i = 0; i < 2; i++) {
			bool in = models[i].used;
			bool out = models[i].used < models[i].max;

			ASSERT_EQ(model_bytes(&models[i]),
				  pipe_bytes(pipes[i][0]));
			ASSERT_EQ(in ? POLLIN : 0,
				  poll_now(pipes[i][0], POLLIN));
			ASSERT_EQ(out ? POLLOUT : 0,
				  poll_now(pipes[i][1], POLLOUT)) {
				TH_LOG("call %u of %zd bytes, %d to go", op,
				       len, calls);
			}
		}
	}
	for (i = 0; i < 2; i++) {
		want = model_bytes(&models[i]);
		if (!want)
			continue;
		ASSERT_EQ(want, model_read(&models[i], expected, size));
		ASSERT_EQ(want, xread(pipes[i][0], buf, size));
		EXPECT_EQ(0, memcmp(buf, expected, want));
	}
	EXPECT_EQ(self->size, match_pattern(self->m, self->size, DATA, 0));
	free(models);
	free(buf);
	free(expected);
}

TEST_F_TIMEOUT(pin, random_calls, 60)
{
	random_calls(_metadata, self, 1, 500);
	random_calls(_metadata, self, 2, 500);
}

/* All that is copied fits exactly as what is pinned. */
TEST_F_TIMEOUT(pin, random_calls_copied, 60)
{
	set_memlock(_metadata, 0);
	become(_metadata, USER);
	random_calls(_metadata, self, 3, 500);
}

/* And so do both, in one pipe or in one call. */
TEST_F_TIMEOUT(pin, random_calls_mixed, 60)
{
	set_memlock(_metadata, 20 * self->page);
	become(_metadata, USER);
	random_calls(_metadata, self, 4, 500);
}

/* Limits. */

/* What may not be pinned is copied, as it is at the time of the call. */
TEST_F(pin, limit_zero)
{
	ssize_t size = SLOTS * self->page - 100;
	struct account before;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	set_memlock(_metadata, 0);
	before = read_account(_metadata);
	ASSERT_EQ(size, vmsplice_as(_metadata, USER, self->p[1], self->m + 100,
				    self->size - 100));
	check_account(_metadata, &before, 0, size);
	EXPECT_EQ(0, pins_held());
	EXPECT_EQ(-EAGAIN, vmsplice_as(_metadata, USER, self->p[1], self->m,
				       1));
	check_account(_metadata, &before, 0, 0);
	if (!memory_is_private_file(variant->kind))
		fill_pattern(self->m, self->size, OTHER, 0);
	expect_data(_metadata, self->p[0], size, 100);
}

TEST_F(pin, limit_of_one_page)
{
	struct account before, now;
	ssize_t page = self->page;
	int i;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	set_memlock(_metadata, page);
	before = read_account(_metadata);
	/*
	 * A page of its own is pinned, and the next one not, until the first is
	 * read.
	 */
	for (i = 0; i < 3 && !is_huge(variant->kind); i++) {
		ASSERT_EQ(page - 1, vmsplice_as(_metadata, USER, self->p[1],
						self->m + 1, page - 1));
		check_account(_metadata, &before, page - 1, 0);
		ASSERT_EQ(page + 1, vmsplice_as(_metadata, USER, self->p[1],
						self->m + page, page + 1));
		check_account(_metadata, &before, 0, page + 1);
		expect_data(_metadata, self->p[0], 2 * page, 1);
	}

	/* Of several, no more than one. */
	ASSERT_EQ(SOME, vmsplice_as(_metadata, USER, self->p[1], self->m, SOME));
	now = read_account(_metadata);
	EXPECT_EQ(SOME, now.referenced - before.referenced +
			now.copied - before.copied);
	EXPECT_LE(now.referenced - before.referenced, page);
	expect_data(_metadata, self->p[0], SOME, 0);
	EXPECT_EQ(0, pins_held());
}

TEST_F(pin, unlimited)
{
	struct account before;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	resize(_metadata, self->p[1], self->size);
	set_memlock(_metadata, RLIM_INFINITY);
	before = read_account(_metadata);
	ASSERT_EQ(self->size, vmsplice_as(_metadata, USER, self->p[1], self->m,
					  self->size));
	check_account(_metadata, &before, self->size, 0);
	EXPECT_LT(0, pins_held());
	expect_data(_metadata, self->p[0], self->size, 0);
	EXPECT_EQ(0, pins_held());
}

/* CAP_IPC_LOCK lifts the limit. */
TEST_F(pin, capable)
{
	struct account before;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	resize(_metadata, self->p[1], self->size);
	set_memlock(_metadata, 0);
	before = read_account(_metadata);
	ASSERT_EQ(self->size, xvmsplice1(self->p[1], self->m, self->size, 0));
	check_account(_metadata, &before, self->size, 0);
	expect_data(_metadata, self->p[0], self->size, 0);
}

/* Uses up the limit of USER, which is as large as the memory. */
static void use_limit(struct __test_metadata *_metadata,
		      struct _test_data_pin *self, struct account *before)
{
	*before = read_account(_metadata);
	ASSERT_EQ(self->size, vmsplice_as(_metadata, USER, self->p[1], self->m,
					  self->size));
	check_account(_metadata, before, self->size, 0);
	ASSERT_EQ(1, vmsplice_as(_metadata, USER, self->q[1], self->m, 1));
	check_account(_metadata, before, 0, 1);
	expect_data(_metadata, self->q[0], 1, 0);
}

/* What is given back can be pinned again, whoever consumes the data. */
TEST_F(pin, limit_is_given_back)
{
	ssize_t size = self->size;
	struct account before;
	int r[2], null, i;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	make_pipe(_metadata, r);
	null = open("/dev/null", O_WRONLY);
	resize(_metadata, self->p[1], size);
	resize(_metadata, r[1], size);
	set_memlock(_metadata, size);
	for (i = 0; i < 4; i++) {
		use_limit(_metadata, self, &before);
		switch (i) {
		case 0:
			expect_data(_metadata, self->p[0], size, 0);
			break;
		case 1:
			EXPECT_EQ(size, splice_full(self->p[0], null, size));
			break;
		case 2:
			/* Not before its last copy is gone. */
			ASSERT_EQ(size, xtee(self->p[0], r[1], size, 0));
			expect_data(_metadata, self->p[0], size, 0);
			ASSERT_EQ(1, vmsplice_as(_metadata, USER, self->q[1],
						 self->m, 1));
			check_account(_metadata, &before, 0, 1);
			expect_data(_metadata, self->q[0], 1, 0);
			expect_data(_metadata, r[0], size, 0);
			break;
		case 3:
			close(self->p[0]);
			close(self->p[1]);
			break;
		}
		EXPECT_EQ(0, pins_held());
		ASSERT_EQ(SOME, vmsplice_as(_metadata, USER, self->q[1],
					    self->m, SOME));
		check_account(_metadata, &before, SOME, 0);
		expect_data(_metadata, self->q[0], SOME, 0);
	}
}

/* All processes of a user share the limit, and other users do not. */
TEST_F(pin, limit_is_shared)
{
	struct account before;
	int status;
	pid_t pid;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	resize(_metadata, self->p[1], self->size);
	set_memlock(_metadata, self->size);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		use_limit(_metadata, self, &before);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_LT(0, pins_held());

	before = read_account(_metadata);
	ASSERT_EQ(SOME, vmsplice_as(_metadata, USER, self->q[1], self->m,
				    SOME));
	check_account(_metadata, &before, 0, SOME);
	expect_data(_metadata, self->q[0], SOME, 0);
	ASSERT_EQ(SOME, vmsplice_as(_metadata, OTHER_USER, self->q[1], self->m,
				    SOME));
	check_account(_metadata, &before, SOME, 0);
	expect_data(_metadata, self->q[0], SOME, 0);

	expect_data(_metadata, self->p[0], self->size, 0);
	EXPECT_EQ(0, pins_held());
	ASSERT_EQ(SOME, vmsplice_as(_metadata, USER, self->q[1], self->m,
				    SOME));
	check_account(_metadata, &before, SOME, 0);
	expect_data(_metadata, self->q[0], SOME, 0);
}

/* A call that is partly pinned and partly copied is in order. */
TEST_F(pin, limit_within_call)
{
	ssize_t page = self->page, size = SLOTS * page - 1, limit;
	struct account before, now;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	for (limit = 0; limit <= SLOTS * page; limit += 3 * page) {
		set_memlock(_metadata, limit);
		before = read_account(_metadata);
		ASSERT_EQ(size, vmsplice_as(_metadata, USER, self->p[1],
					    self->m + 1, self->size - 1));
		now = read_account(_metadata);
		EXPECT_LE(now.referenced - before.referenced, limit);
		EXPECT_EQ(size, now.referenced - before.referenced +
				now.copied - before.copied);
		expect_data(_metadata, self->p[0], size, 1);
		EXPECT_EQ(0, pins_held());
	}
}

/* Notices. */

static ssize_t released(int fd)
{
	struct splice_notify_state st = {};

	return ioctl(fd, SPLICE_IOC_NOTIFY_STATE, &st) ? -errno :
	       (ssize_t)st.released;
}

TEST_F(pin, notify)
{
	ssize_t size = SLOTS * self->page, ret;
	struct account before;

	ret = xvmsplice1(self->p[1], self->m, self->size, SPLICE_F_NOTIFY);
	if (ret == -EINVAL)
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
	ASSERT_EQ(size, ret);
	ASSERT_EQ(size, xtee(self->p[0], self->q[1], size, 0));
	EXPECT_LT(0, pins_held());
	expect_data(_metadata, self->p[0], size, 0);
	EXPECT_EQ(0, released(self->p[1]));
	expect_data(_metadata, self->q[0], size - 1, 0);
	EXPECT_EQ(0, released(self->p[1]));
	EXPECT_LT(0, pins_held());
	expect_data(_metadata, self->q[0], 1, size - 1);
	EXPECT_EQ(1, released(self->p[1]));
	/* Whoever is told may rely on it. */
	EXPECT_EQ(0, pins_held());

	before = read_account(_metadata);
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->m, SOME,
				   SPLICE_F_NOTIFY | SPLICE_F_GIFT));
	check_account(_metadata, &before, SOME, 0);
	expect_data(_metadata, self->p[0], SOME, 0);
	EXPECT_EQ(2, released(self->p[1]));
}

/* A copy is the kernel's own; when its notice comes, the data is right. */
TEST_F(pin, notify_and_limit)
{
	ssize_t size = SLOTS * self->page - 100, ret, limit;
	struct account before, now;
	ssize_t calls = 0;

	if (xvmsplice1(self->p[1], self->m, 0, SPLICE_F_NOTIFY) == -EINVAL)
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
	for (limit = 0; limit < 9 * self->page; limit += 4 * self->page) {
		set_memlock(_metadata, limit);
		before = read_account(_metadata);
		become(_metadata, USER);
		ret = xvmsplice1(self->p[1], self->m + 100, self->size - 100,
				 SPLICE_F_NOTIFY);
		become(_metadata, 0);
		ASSERT_EQ(size, ret);
		calls++;
		now = read_account(_metadata);
		EXPECT_LE(now.referenced - before.referenced, limit);
		EXPECT_EQ(size, now.referenced - before.referenced +
				now.copied - before.copied);
		expect_data(_metadata, self->p[0], size, 100);
		EXPECT_EQ(calls, released(self->p[1]));
		EXPECT_EQ(0, pins_held());
	}
}

/* Memory of other kinds. */
FIXTURE(special) {
	int p[2];
	ssize_t page;
};

FIXTURE_SETUP(special)
{
	make_pipe(_metadata, self->p);
	self->page = page_size();
}

FIXTURE_TEARDOWN(special)
{
	EXPECT_EQ(0, setresuid(0, 0, 0));
	close_all();
	expect_no_pins(_metadata);
}

/*
 * Of separate pages no more than those of a unit of sixteen outstay their
 * buffers.
 */
TEST_F(special, pins_go_in_units)
{
	ssize_t page = self->page, slots = 64, read, held;
	struct memory m;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	memory_map(_metadata, &m, MEMORY_PAGES);
	resize(_metadata, self->p[1], slots * page);
	ASSERT_EQ(slots * page, xvmsplice1(self->p[1], m.p, MEMORY_SIZE, 0));
	for (read = 0; read < slots; read++) {
		held = pins_held();
		EXPECT_LE(slots - read, held);
		EXPECT_GE(slots - read + 15, held);
		expect_data(_metadata, self->p[0], page, read * page);
	}
	EXPECT_EQ(0, pins_held());
	memory_unmap(&m);
}

/* A mapping of page frames is copied, as it is at the time of the call. */
TEST_F(special, page_frames)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.size = sizeof(attr),
		.disabled = 1,
	};
	struct perf_event_mmap_page *header;
	ssize_t len = 2 * self->page;
	char *old = malloc(len), *got = malloc(len);
	struct account before;
	int fd;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	if (fd < 0)
		SKIP(return, "perf_event_open(): %s", strerror(errno));
	header = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, header);
	ASSERT_NE(NULL, old);
	ASSERT_NE(NULL, got);
	memcpy(old, header, len);
	EXPECT_LT(match_byte(old, len, 0), len);
	before = read_account(_metadata);
	ASSERT_EQ(len - 1, xvmsplice1(self->p[1], (char *)header + 1, len - 1,
				      0));
	check_account(_metadata, &before, 0, len - 1);
	EXPECT_EQ(0, pins_held());
	header->data_tail = 1;
	ASSERT_EQ(len - 1, read_full(self->p[0], got, len - 1));
	EXPECT_EQ(0, memcmp(old + 1, got, len - 1));
	munmap(header, len);
	free(old);
	free(got);
}

/* The kernel's own pages: pinned or copied, the data is theirs. */
TEST_F(special, vvar)
{
	char line[256], *at = NULL, before[4096], after[4096], got[4096];
	ssize_t len = sizeof(got);
	struct account old, now;
	unsigned long start;
	FILE *f;
	int i;

	f = fopen("/proc/self/maps", "r");
	ASSERT_NE(NULL, f);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, "[vvar]") &&
		    sscanf(line, "%lx", &start) == 1)
			at = (char *)start;
	fclose(f);
	if (!at)
		SKIP(return, "no [vvar]");
	if (have_counters())
		old = read_account(_metadata);
	memcpy(before, at, len);
	ASSERT_EQ(len, xvmsplice1(self->p[1], at, len, 0));
	if (have_counters()) {
		now = read_account(_metadata);
		EXPECT_EQ(len, now.referenced - old.referenced +
			       now.copied - old.copied);
	}
	ASSERT_EQ(len, read_full(self->p[0], got, len));
	memcpy(after, at, len);
	/* What the clock has not changed meanwhile. */
	for (i = 0; i < len; i++)
		if (before[i] == after[i])
			EXPECT_EQ(before[i], got[i]);
}

/*
 * Secret memory is for its owner's eyes only: it is neither pinned nor copied.
 * What comes before it is in the pipe.
 */
TEST_F(special, memfd_secret)
{
	ssize_t page = self->page;
	struct memory m;
	char *secret;
	int fd, i;

	fd = syscall(SYS_memfd_secret, 0);
	if (fd < 0)
		SKIP(return, "memfd_secret(): %s", strerror(errno));
	ASSERT_EQ(0, ftruncate(fd, 2 * page));
	memory_map(_metadata, &m, MEMORY_PAGES);
	secret = m.p + 3 * page;
	ASSERT_EQ(secret, mmap(secret, 2 * page, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_FIXED, fd, 0));
	/* Untouched, there, and where all that is not secret is copied. */
	for (i = 0; i < 3; i++) {
		if (i == 1)
			fill_pattern(secret, 2 * page, DATA, 3 * page);
		if (i == 2) {
			set_memlock(_metadata, 0);
			become(_metadata, USER);
		}
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], secret, page, 0));
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], secret + 2 * page - 1,
					      page, 0));
		EXPECT_EQ(3 * page - 1, xvmsplice1(self->p[1], m.p + 1,
						   10 * page, 0));
		expect_data(_metadata, self->p[0], 3 * page - 1, 1);
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
	}
	become(_metadata, 0);
	memory_unmap(&m);
}

/* Memory that was never touched is zeroes, and what is written is seen later. */
TEST_F(special, untouched)
{
	int advice[] = { MADV_NOHUGEPAGE, MADV_HUGEPAGE }, i;
	ssize_t size = MEMORY_SIZE, len = SLOTS * self->page;
	char *buf = malloc(len);
	struct memory m;

	ASSERT_NE(NULL, buf);
	for (i = 0; i < ARRAY_LEN(advice); i++) {
		m = (struct memory) { .fd = -1 };
		ASSERT_TRUE(memory_reserve_area(&m));
		ASSERT_TRUE(memory_mmap(&m, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS));
		madvise(m.p, size, advice[i]);
		ASSERT_EQ(len, xvmsplice1(self->p[1], m.p, size, 0));
		ASSERT_EQ(len, read_full(self->p[0], buf, len));
		EXPECT_EQ(len, match_byte(buf, len, 0));
		EXPECT_EQ(size, match_byte(m.p, size, 0));
		memory_unmap(&m);
	}
	free(buf);
}

/* As above, where mainline has the zero page in the pipe, not the memory's own. */
TEST_F(special, untouched_is_pinned)
{
	int advice[] = { MADV_NOHUGEPAGE, MADV_HUGEPAGE }, i;
	ssize_t size = MEMORY_SIZE, len = SLOTS * self->page;
	struct memory m;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	for (i = 0; i < ARRAY_LEN(advice); i++) {
		m = (struct memory) { .fd = -1 };
		ASSERT_TRUE(memory_reserve_area(&m));
		ASSERT_TRUE(memory_mmap(&m, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS));
		madvise(m.p, size, advice[i]);
		ASSERT_EQ(len, xvmsplice1(self->p[1], m.p, size, 0));
		fill_pattern(m.p, len, DATA, 0);
		expect_data(_metadata, self->p[0], len, 0);
		memory_unmap(&m);
	}
}

/* A large folio that begins in the middle, and pages of several in one call. */
TEST_F(special, several_kinds)
{
	static const enum memory_kind kinds[] = {
		MEMORY_THP, MEMORY_PAGES, MEMORY_PTE_THP, MEMORY_MEMFD,
	};
	struct memory m[ARRAY_LEN(kinds)];
	struct iovec iov[ARRAY_LEN(kinds)];
	struct account before, now;
	ssize_t page = self->page, ranges = 0;
	int i;

	if (memory_missing(MEMORY_THP))
		SKIP(return, "%s", memory_missing(MEMORY_THP));
	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		memory_map(_metadata, &m[i], kinds[i]);
		iov[i].iov_base = m[i].p + 5 * page;
		iov[i].iov_len = 3 * page;
	}
	if (have_counters())
		before = read_account(_metadata);
	ASSERT_EQ(12 * page, xvmsplice(self->p[1], iov, ARRAY_LEN(iov), 0));
	for (i = 0; i < ARRAY_LEN(kinds); i++)
		ranges += count_ranges(iov[i].iov_base, 3 * page);
	EXPECT_LE(4, ranges);
	if (have_counters()) {
		now = read_account(_metadata);
		EXPECT_EQ(ranges, now.buffers - before.buffers);
		check_account(_metadata, &before, 12 * page, 0);
	}
	for (i = 0; i < ARRAY_LEN(kinds); i++)
		expect_data(_metadata, self->p[0], 3 * page, 5 * page);
	for (i = 0; i < ARRAY_LEN(kinds); i++)
		memory_unmap(&m[i]);
}

TEST_HARNESS_MAIN
