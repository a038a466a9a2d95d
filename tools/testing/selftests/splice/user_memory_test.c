// SPDX-License-Identifier: GPL-2.0
/*
 * vmsplice(2) of memory of all kinds: what it does not change, how many buffers
 * it creates, how much fits into a pipe, every consumer, and the limit of the
 * administrator.
 *
 * A buffer of many pages counts as that many pages, so everything except the
 * counters must be the same on a kernel in which each page is a buffer.
 */
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <sys/resource.h>

#include "splice_memory.h"
#include "splice_notify.h"

/* Seeds: of the memory, and of data that write() adds. */
#define DATA MEMORY_DATA
#define OTHER 2

/* Data of more than one page, with a partly filled last page. */
#define SOME 5000

/* Slots of a pipe of the default size. */
#define SLOTS 16

/* Users that own nothing else. */
#define USER 54321
#define OTHER_USER 54322

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

/* The limit of the pages of memory that pipes may refer to, for each user. */
#define USER_PAGES "/proc/sys/fs/pipe-user-memory-pages"
#define NO_USER_PAGES "this kernel has no " USER_PAGES

static bool have_user_pages(void)
{
	return !access(USER_PAGES, W_OK);
}

static void set_user_pages(struct __test_metadata *_metadata, ssize_t pages)
{
	ASSERT_TRUE(write_number(USER_PAGES, pages));
}

static void reset_user_pages(struct __test_metadata *_metadata)
{
	if (have_user_pages())
		EXPECT_TRUE(write_number(USER_PAGES, -1));
}

static void set_memlock(struct __test_metadata *_metadata, rlim_t limit)
{
	struct rlimit rlimit = { limit, RLIM_INFINITY };

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &rlimit));
}

/*
 * Whether vmsplice() pins such memory if the caller owns it alone. It takes a
 * reference otherwise, and always on stock C.
 */
static bool is_pinned(enum memory_kind kind, unsigned int flags)
{
	if (!have_counters() || !memory_is_anon(kind) ||
	    memory_is_untouched(kind) || kind == MEMORY_KSM ||
	    kind == MEMORY_MOVABLE_HUGETLB)
		return false;
	return memory_is_hugetlb(kind) || flags & SPLICE_F_NOTIFY;
}

static void expect_pins(struct __test_metadata *_metadata, bool pinned)
{
	EXPECT_EQ(pinned, pins_held() > 0);
}

FIXTURE(memory) {
	struct memory mem;
	char *m;		/* start of the memory */
	ssize_t size;
	ssize_t page;
	int p[2];
	int q[2];
};

FIXTURE_VARIANT(memory) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(memory, pages) {
	.kind = MEMORY_PAGES,
};

FIXTURE_VARIANT_ADD(memory, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(memory, pte_thp) {
	.kind = MEMORY_PTE_THP,
};

FIXTURE_VARIANT_ADD(memory, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_VARIANT_ADD(memory, memfd) {
	.kind = MEMORY_MEMFD,
};

FIXTURE_VARIANT_ADD(memory, memfd_hugetlb) {
	.kind = MEMORY_MEMFD_HUGETLB,
};

FIXTURE_VARIANT_ADD(memory, tmpfs_shared) {
	.kind = MEMORY_TMPFS_SHARED,
};

FIXTURE_VARIANT_ADD(memory, tmpfs_private) {
	.kind = MEMORY_TMPFS_PRIVATE,
};

FIXTURE_VARIANT_ADD(memory, ext4_shared) {
	.kind = MEMORY_EXT4_SHARED,
};

FIXTURE_VARIANT_ADD(memory, ext4_private) {
	.kind = MEMORY_EXT4_PRIVATE,
};

FIXTURE_VARIANT_ADD(memory, tmpfs_large_shared) {
	.kind = MEMORY_TMPFS_LARGE_SHARED,
};

FIXTURE_VARIANT_ADD(memory, tmpfs_large_private) {
	.kind = MEMORY_TMPFS_LARGE_PRIVATE,
};

FIXTURE_VARIANT_ADD(memory, ext4_large_shared) {
	.kind = MEMORY_EXT4_LARGE_SHARED,
};

FIXTURE_VARIANT_ADD(memory, ext4_large_private) {
	.kind = MEMORY_EXT4_LARGE_PRIVATE,
};

FIXTURE_SETUP(memory)
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

FIXTURE_TEARDOWN(memory)
{
	EXPECT_EQ(0, setresuid(0, 0, 0));
	reset_user_pages(_metadata);
	memory_unmap(&self->mem);
	close_all();
	expect_no_pins(_metadata);
	memory_give_back(_metadata, variant->kind);
}

/* Makes room for whole pages of @size bytes. */
static void resize(struct __test_metadata *_metadata, int fd, ssize_t size)
{
	ASSERT_EQ(size, fcntl(fd, F_SETPIPE_SZ, size));
}

static bool is_huge(enum memory_kind kind)
{
	return memory_is_thp(kind) || memory_is_hugetlb(kind) ||
	       memory_is_large_file(kind);
}

/* Checks that the next @len bytes are those of the memory from @pos on. */
static void expect_data(struct __test_metadata *_metadata, int fd, ssize_t len,
			loff_t pos)
{
	EXPECT_EQ(len, read_pattern(fd, len, DATA, pos));
}

/* Expects that neither vmsplice() nor write() has room. */
static void expect_full(struct __test_metadata *_metadata, int fd, char *mem)
{
	EXPECT_EQ(0, poll_now(fd, POLLOUT));
	EXPECT_EQ(-EAGAIN, xvmsplice1(fd, mem, SOME, SPLICE_F_NONBLOCK));
	set_nonblock(_metadata, fd, true);
	EXPECT_EQ(-EAGAIN, xwrite(fd, mem, 1));
	set_nonblock(_metadata, fd, false);
}

/* Buffers. */

/*
 * A huge page is one buffer, however it is mapped; a small page is one buffer.
 */
TEST_F(memory, one_buffer_per_range)
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

/* The number of buffers does not depend on offsets within pages. */
TEST_F(memory, parts_of_ranges)
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

/* A range that does not fit is cut. */
TEST_F(memory, cut_where_pipe_is_full)
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

/*
 * Pins: of private hugetlb memory, and of exclusive memory with
 * SPLICE_F_NOTIFY.
 */

/* Puts memory into the pipe, and checks whether it is pinned now. */
static void put_pinned(struct __test_metadata *_metadata,
		       struct _test_data_memory *self, ssize_t size,
		       unsigned int flags)
{
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, size, flags));
	expect_pins(_metadata, is_pinned(self->mem.kind, flags));
}

static void check_in_pipe(struct __test_metadata *_metadata,
			  struct _test_data_memory *self, unsigned int flags)
{
	bool pinned = is_pinned(self->mem.kind, flags);

	EXPECT_EQ(0, pins_held());
	resize(_metadata, self->p[1], self->size);
	put_pinned(_metadata, self, self->size, flags);
	expect_data(_metadata, self->p[0], self->size - 1, 0);
	expect_pins(_metadata, pinned);
	expect_data(_metadata, self->p[0], 1, self->size - 1);
	EXPECT_EQ(0, pins_held());
}

/* Every copy that tee() makes keeps the pin. */
static void check_tee(struct __test_metadata *_metadata,
		      struct _test_data_memory *self, unsigned int flags)
{
	bool pinned = is_pinned(self->mem.kind, flags);
	ssize_t size = pipe_capacity(self->p[0]);

	put_pinned(_metadata, self, size, flags);
	ASSERT_EQ(size, xtee(self->p[0], self->q[1], size, 0));
	expect_data(_metadata, self->p[0], size, 0);
	expect_pins(_metadata, pinned);
	expect_data(_metadata, self->q[0], size - 1, 0);
	expect_pins(_metadata, pinned);
	expect_data(_metadata, self->q[0], 1, size - 1);
	EXPECT_EQ(0, pins_held());
}

/* So does each part of a buffer that was split between two pipes. */
static void check_split(struct __test_metadata *_metadata,
			struct _test_data_memory *self, unsigned int flags)
{
	bool pinned = is_pinned(self->mem.kind, flags);
	ssize_t size = pipe_capacity(self->p[0]);
	ssize_t part = 5 * self->page + 10;
	int i;

	for (i = 0; i < 2; i++) {
		put_pinned(_metadata, self, size, flags);
		ASSERT_EQ(part, xsplice(self->p[0], NULL, self->q[1], NULL,
					part, 0));
		if (i)
			expect_data(_metadata, self->q[0], part, 0);
		else
			expect_data(_metadata, self->p[0], size - part, part);
		expect_pins(_metadata, pinned);
		if (i)
			expect_data(_metadata, self->p[0], size - part, part);
		else
			expect_data(_metadata, self->q[0], part, 0);
		EXPECT_EQ(0, pins_held());
	}
}

/* A pin moves with its buffer, and outlives the first pipe. */
static void check_moved(struct __test_metadata *_metadata,
			struct _test_data_memory *self, unsigned int flags)
{
	bool pinned = is_pinned(self->mem.kind, flags);
	ssize_t size = pipe_capacity(self->p[0]);

	put_pinned(_metadata, self, size, flags);
	ASSERT_EQ(size, xsplice(self->p[0], NULL, self->q[1], NULL, size, 0));
	close(self->p[0]);
	close(self->p[1]);
	expect_pins(_metadata, pinned);
	expect_data(_metadata, self->q[0], size, 0);
	EXPECT_EQ(0, pins_held());
}

static void check_closed(struct __test_metadata *_metadata,
			 struct _test_data_memory *self, unsigned int flags)
{
	put_pinned(_metadata, self, SOME, flags);
	close(self->p[1]);
	expect_pins(_metadata, is_pinned(self->mem.kind, flags));
	close(self->p[0]);
	EXPECT_EQ(0, pins_held());
}

/* Memory is pinned as long as a byte of it is in the pipe. */
TEST_F(memory, while_in_pipe)
{
	check_in_pipe(_metadata, self, 0);
}

TEST_F(memory, notify_while_in_pipe)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	check_in_pipe(_metadata, self, SPLICE_F_NOTIFY);
}

TEST_F(memory, until_pipe_is_closed)
{
	check_closed(_metadata, self, 0);
}

TEST_F(memory, notify_until_pipe_is_closed)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	check_closed(_metadata, self, SPLICE_F_NOTIFY);
}

TEST_F(memory, tee)
{
	check_tee(_metadata, self, 0);
}

TEST_F(memory, notify_tee)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	check_tee(_metadata, self, SPLICE_F_NOTIFY);
}

TEST_F(memory, split)
{
	check_split(_metadata, self, 0);
}

TEST_F(memory, notify_split)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	check_split(_metadata, self, SPLICE_F_NOTIFY);
}

TEST_F(memory, moved)
{
	check_moved(_metadata, self, 0);
}

TEST_F(memory, notify_moved)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	check_moved(_metadata, self, SPLICE_F_NOTIFY);
}

/*
 * Capacity, in pages: a page takes a slot even if a call uses a part of it
 * only.
 */

TEST_F(memory, capacity)
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

/* A page that is a part of two calls counts twice, adjacent or not. */
TEST_F(memory, two_calls)
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

TEST_F(memory, write_between)
{
	ssize_t page = self->page, rest = 9 * page - 10;

	/* One page, four, two, and none, because the data is merged. */
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

/* Each page that is read to its last byte makes room for one page. */
TEST_F(memory, room_after_read)
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

/* The calls that take data out of a pipe. */
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
		    struct _test_data_memory *self, enum consumer by, int sv[2],
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

/* A writer is woken when one page is read, by whichever call. */
TEST_F(memory, wakes_writer)
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
		/*
		 * One and a half pages: the writer has room for one page more.
		 */
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

/*
 * The part that the smaller pipe has room for moves, and the rest stays in
 * order.
 */
TEST_F(memory, into_smaller_pipe)
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

	/* With data in the target already. */
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m + 100, self->size - 100,
				   0));
	ASSERT_EQ(page + 1, write_pattern(self->q[1], page + 1, OTHER, 0));
	want = 2 * page - 100;
	EXPECT_EQ(want, xsplice(self->p[0], NULL, self->q[1], NULL, size, 0));
	EXPECT_EQ(page + 1, read_pattern(self->q[0], page + 1, OTHER, 0));
	expect_data(_metadata, self->q[0], want, 100);
	expect_data(_metadata, self->p[0], size - want, 100 + want);
}

TEST_F(memory, tee_into_smaller_pipe)
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
	/* The rest of a page that was partly read takes one slot. */
	ASSERT_EQ(page - 100, xtee(self->p[0], self->q[1], size, 0));
	EXPECT_EQ(-EAGAIN, xtee(self->p[0], self->q[1], size,
				SPLICE_F_NONBLOCK));
	expect_data(_metadata, self->q[0], want - page, 100 + page);
	expect_data(_metadata, self->q[0], page - 100, 100);
	expect_data(_metadata, self->p[0], size, 100);
}

/* A pipe can be shrunk when its pages fit, and not before. */
TEST_F(memory, resized)
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

	/* It can be enlarged with all of its data. */
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

/* A task that waits for room finds it when the pipe is enlarged. */
TEST_F(memory, enlarged_for_writer)
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

TEST_F(memory, odd_reads)
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
		/* One call is enough: a read() ends when the pipe is empty. */
		ASSERT_EQ(want, xread(self->p[0], buf,
				      sizes[i % ARRAY_LEN(sizes)]));
		ASSERT_EQ(want, match_pattern(buf, want, DATA, pos));
		EXPECT_EQ(left - want, pipe_bytes(self->p[0]));
	}
	free(buf);
}

/* Destinations that end within a page of the pipe. */
static void into_fault(struct __test_metadata *_metadata,
		       struct _test_data_memory *self, bool by_vmsplice)
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
		/* Pages that were copied completely are freed. */
		want = 2 * page - off;
		ret = by_vmsplice ? xvmsplice1(self->p[0], to, 8 * page, 0) :
				    xread(self->p[0], to, 8 * page);
		EXPECT_EQ(want, ret);
		EXPECT_EQ(want, match_pattern(to, want, DATA, off));
		EXPECT_EQ(8 * page - want, pipe_bytes(self->p[0]));
		/* The rest of the destination is smaller than a page. */
		ret = by_vmsplice ?
		      xvmsplice1(self->p[0], to + room - 10, page, 0) :
		      xread(self->p[0], to + room - 10, page);
		EXPECT_EQ(-EFAULT, ret);
		expect_data(_metadata, self->p[0], 8 * page - want, off + want);
	}
	munmap(area, 3 * page);
}

TEST_F(memory, read_into_fault)
{
	into_fault(_metadata, self, false);
}

TEST_F(memory, vmsplice_into_fault)
{
	into_fault(_metadata, self, true);
}

/* vmsplice() as for read(), in pieces and with several ranges. */
TEST_F(memory, to_memory)
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

/* Streams: a buffer larger than any message, which starts within a page. */
static void to_stream(struct __test_metadata *_metadata,
		      struct _test_data_memory *self, int sv[2])
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

TEST_F(memory, tcp)
{
	int sv[2];

	make_tcp_pair(_metadata, sv);
	to_stream(_metadata, self, sv);
}

TEST_F(memory, unix_stream)
{
	int sv[2];

	make_unix_pair(_metadata, sv);
	to_stream(_metadata, self, sv);
}

/* A message consists of at most sixteen pages, whole or not. */
TEST_F(memory, unix_seqpacket)
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

	/* Each message has the length that the caller requests. */
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

TEST_F(memory, udp)
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

	/* Sixteen whole pages are more than a datagram can hold. */
	ASSERT_EQ(SLOTS * page, xvmsplice1(self->p[1], self->m, self->size, 0));
	EXPECT_EQ(-EMSGSIZE, xsplice(self->p[0], NULL, sv[0], NULL, self->size,
				     0));
	expect_data(_metadata, self->p[0], SLOTS * page, 0);
	free(buf);
}

/* Files, through the page cache and by direct I/O. */
TEST_F(memory, files)
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
		/* Direct I/O needs whole blocks. */
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

/*
 * SPLICE_F_GIFT has no effect: memory that is still mapped is not given away.
 */
TEST_F(memory, gift)
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
		/* Nor does the other file refer to the memory. */
		ASSERT_EQ(len, pwrite(file, self->m + self->page, len, 0));
		EXPECT_EQ(len, match_pattern(self->m, len, DATA, 0));
		close(file);
	}
	ASSERT_EQ(len, xvmsplice1(self->p[1], self->m, len, SPLICE_F_GIFT));
	expect_pins(_metadata, is_pinned(variant->kind, SPLICE_F_GIFT));
	expect_data(_metadata, self->p[0], len, 0);
	EXPECT_EQ(0, pins_held());
}

/* Ranges and offsets. */

static unsigned int next_random(unsigned int *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

static ssize_t at_most(ssize_t a, ssize_t b)
{
	return a < b ? a : b;
}

/* Returns how many bytes of these ranges fit into @pages pages of a pipe. */
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

/* As many ranges as a call can have, each in its own pages, are in order. */
TEST_F(memory, many_ranges)
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

TEST_F(memory, no_bytes)
{
	struct iovec iov[] = { { self->m, 0 }, { NULL, 0 }, { self->m, 0 } };

	EXPECT_EQ(0, xvmsplice1(self->p[1], self->m, 0, 0));
	EXPECT_EQ(0, xvmsplice(self->p[1], iov, ARRAY_LEN(iov), 0));
	EXPECT_EQ(0, xvmsplice(self->p[1], iov, 0, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	EXPECT_EQ(0, pins_held());
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
 * Memory with a gap in it: the data before the gap is in the pipe, and the next
 * call returns EFAULT, whether memory is referenced or copied.
 */
static void check_gap(struct __test_metadata *_metadata,
		      struct _test_data_memory *self, ssize_t gap)
{
	ssize_t page = self->page, off, want;
	int limited, last = have_user_pages();

	set_memlock(_metadata, 0);
	resize(_metadata, self->p[1], 64 * page);
	for (limited = 0; limited <= last; limited++) {
		if (limited)
			set_user_pages(_metadata, 0);
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
		become(_metadata, 0);
	}
	reset_user_pages(_metadata);
	EXPECT_EQ(0, pins_held());
}

TEST_F(memory, behind_end)
{
	check_gap(_metadata, self, self->size);
}

TEST_F(memory, hole)
{
	ssize_t page = self->page, gap = 40 * page;

	/* A huge page of hugetlb cannot be unmapped partly. */
	if (memory_is_hugetlb(variant->kind)) {
		EXPECT_EQ(-EINVAL, or_errno(munmap(self->m + gap, page)));
		return;
	}
	ASSERT_EQ(0, munmap(self->m + gap, page));
	check_gap(_metadata, self, gap);
	EXPECT_EQ(page, xvmsplice1(self->p[1], self->m + gap + page, page, 0));
	expect_data(_metadata, self->p[0], page, gap + page);
}

TEST_F(memory, guard)
{
	ssize_t page = self->page, gap = 40 * page;
	ssize_t ret = or_errno(madvise(self->m + gap, page,
				       MADV_GUARD_INSTALL));

	/* hugetlb does not support guard pages. */
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

/* A model of a pipe of pages, as in mainline. */
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

/* Random calls on two pipes, one after the other, compared with the model. */
static void random_calls(struct __test_metadata *_metadata,
			 struct _test_data_memory *self, unsigned int state,
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
			/* Half of the ranges follow each other. */
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

TEST_F_TIMEOUT(memory, random_calls, 60)
{
	random_calls(_metadata, self, 1, 500);
	random_calls(_metadata, self, 2, 500);
}

TEST_F_TIMEOUT(memory, random_calls_as_user, 60)
{
	set_memlock(_metadata, 0);
	become(_metadata, USER);
	random_calls(_metadata, self, 3, 500);
}

/* Copied memory takes the same room as referenced memory. */
TEST_F_TIMEOUT(memory, random_calls_copied, 60)
{
	if (!have_user_pages())
		SKIP(return, NO_USER_PAGES);
	set_user_pages(_metadata, 0);
	random_calls(_metadata, self, 4, 500);
}

/* The same for both in one pipe, or in one call. */
TEST_F_TIMEOUT(memory, random_calls_mixed, 60)
{
	if (!have_user_pages())
		SKIP(return, NO_USER_PAGES);
	set_user_pages(_metadata, is_huge(variant->kind) ? 1024 : 20);
	become(_metadata, USER);
	random_calls(_metadata, self, 5, 500);
	become(_metadata, 0);
}

/* Limits. */

#define COPIED_LIMIT "bytes.memory_to_pipe.copied.limit"

/* RLIMIT_MEMLOCK has no effect, and no memory counts against it. */
TEST_F(memory, memlock_of_zero)
{
	ssize_t pinned, locked;
	struct account before;

	resize(_metadata, self->p[1], self->size);
	set_memlock(_metadata, 0);
	if (have_counters())
		before = read_account(_metadata);
	locked = status_kb("VmLck:");
	pinned = status_kb("VmPin:");
	ASSERT_EQ(self->size, vmsplice_as(_metadata, USER, self->p[1], self->m,
					  self->size));
	EXPECT_EQ(locked, status_kb("VmLck:"));
	EXPECT_EQ(pinned, status_kb("VmPin:"));
	EXPECT_EQ(0, pinned);
	if (have_counters())
		check_account(_metadata, &before, self->size, 0);
	if (!memory_is_private_file(variant->kind)) {
		fill_pattern(self->m, self->size, OTHER, 0);
		EXPECT_EQ(self->size, read_pattern(self->p[0], self->size,
						   OTHER, 0));
	} else {
		expect_data(_metadata, self->p[0], self->size, 0);
	}
}

/* The same with SPLICE_F_NOTIFY, which pins exclusive memory. */
TEST_F(memory, notify_memlock_of_zero)
{
	struct account before;

	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	resize(_metadata, self->p[1], self->size);
	set_memlock(_metadata, 0);
	before = read_account(_metadata);
	become(_metadata, USER);
	ASSERT_EQ(self->size, xvmsplice1(self->p[1], self->m, self->size,
					 SPLICE_F_NOTIFY));
	EXPECT_EQ(0, status_kb("VmLck:"));
	EXPECT_EQ(0, status_kb("VmPin:"));
	become(_metadata, 0);
	check_account(_metadata, &before, self->size, 0);
	expect_data(_metadata, self->p[0], self->size, 0);
}

/* Memory above the limit is copied, with its data at the time of the call. */
TEST_F(memory, limit_zero)
{
	ssize_t size = SLOTS * self->page - 100, limit;
	struct account before;
	uid_t uid;

	if (!have_user_pages())
		SKIP(return, NO_USER_PAGES);
	set_user_pages(_metadata, 0);
	for (uid = USER; ; uid = 0) {
		before = read_account(_metadata);
		limit = read_counter(COPIED_LIMIT);
		ASSERT_LE(0, limit);
		ASSERT_EQ(size, vmsplice_as(_metadata, uid, self->p[1],
					    self->m + 100, self->size - 100));
		check_account(_metadata, &before, 0, size);
		EXPECT_EQ(limit + size, read_counter(COPIED_LIMIT));
		EXPECT_EQ(0, pins_held());
		EXPECT_EQ(-EAGAIN, vmsplice_as(_metadata, uid, self->p[1],
					       self->m, 1));
		check_account(_metadata, &before, 0, 0);
		if (!memory_is_private_file(variant->kind))
			fill_pattern(self->m, self->size, OTHER, 0);
		expect_data(_metadata, self->p[0], size, 100);
		if (!uid)
			break;
		if (!memory_is_private_file(variant->kind))
			fill_pattern(self->m, self->size, DATA, 0);
	}
}

/* Whether each page is a folio. */
static bool has_small_folios(enum memory_kind kind)
{
	return kind == MEMORY_PAGES || kind == MEMORY_MEMFD ||
	       kind == MEMORY_TMPFS_SHARED || kind == MEMORY_TMPFS_PRIVATE;
}

/*
 * One page is referenced, and the next one only after the first has been read.
 */
TEST_F(memory, limit_of_one_page)
{
	struct account before, now;
	ssize_t page = self->page;
	int i;

	if (!have_user_pages())
		SKIP(return, NO_USER_PAGES);
	set_user_pages(_metadata, 1);
	before = read_account(_metadata);
	for (i = 0; i < 3 && has_small_folios(variant->kind); i++) {
		ASSERT_EQ(page - 1, vmsplice_as(_metadata, USER, self->p[1],
						self->m + 1, page - 1));
		check_account(_metadata, &before, page - 1, 0);
		ASSERT_EQ(page + 1, vmsplice_as(_metadata, USER, self->p[1],
						self->m + page, page + 1));
		check_account(_metadata, &before, 0, page + 1);
		expect_data(_metadata, self->p[0], 2 * page, 1);
	}

	/* Of several pages, at most one. */
	ASSERT_EQ(SOME, vmsplice_as(_metadata, USER, self->p[1], self->m, SOME));
	now = read_account(_metadata);
	EXPECT_EQ(SOME, now.referenced - before.referenced +
			now.copied - before.copied);
	EXPECT_LE(now.referenced - before.referenced, page);
	expect_data(_metadata, self->p[0], SOME, 0);
	EXPECT_EQ(0, pins_held());
}

/* A folio counts as a whole, once for each call. */
TEST_F(memory, limit_of_one_folio)
{
	struct iovec iov[] = {
		{ self->m, self->page },
		{ self->m + 10 * self->page, self->page },
	};
	struct account before;
	int i;

	if (!have_user_pages())
		SKIP(return, NO_USER_PAGES);
	if (!is_huge(variant->kind)) {
		/* The same with pages: two fit, and no more. */
		if (!has_small_folios(variant->kind))
			SKIP(return, "folios of an unknown size");
		set_user_pages(_metadata, 2);
	} else {
		set_user_pages(_metadata, self->size / self->page);
	}
	before = read_account(_metadata);
	for (i = 0; i < 2; i++) {
		become(_metadata, USER);
		ASSERT_EQ(2 * self->page, xvmsplice(self->p[1], iov, 2, 0));
		become(_metadata, 0);
		check_account(_metadata, &before, 2 * self->page, 0);
		ASSERT_EQ(1, vmsplice_as(_metadata, USER, self->p[1],
					 self->m + 2 * self->page, 1));
		check_account(_metadata, &before, 0, 1);
		expect_data(_metadata, self->p[0], self->page, 0);
		expect_data(_metadata, self->p[0], self->page, 10 * self->page);
		expect_data(_metadata, self->p[0], 1, 2 * self->page);
	}
}

/* Uses up the limit of USER, which is as large as the memory. */
static void use_limit(struct __test_metadata *_metadata,
		      struct _test_data_memory *self, struct account *before)
{
	*before = read_account(_metadata);
	ASSERT_EQ(self->size, vmsplice_as(_metadata, USER, self->p[1], self->m,
					  self->size));
	check_account(_metadata, before, self->size, 0);
	ASSERT_EQ(1, vmsplice_as(_metadata, USER, self->q[1], self->m, 1));
	check_account(_metadata, before, 0, 1);
	expect_data(_metadata, self->q[0], 1, 0);
}

/* Released pages can be referenced again, whichever call consumes the data. */
TEST_F(memory, limit_is_given_back)
{
	ssize_t size = self->size;
	struct account before;
	int r[2], null, i;

	if (!have_user_pages())
		SKIP(return, NO_USER_PAGES);
	make_pipe(_metadata, r);
	null = open("/dev/null", O_WRONLY);
	resize(_metadata, self->p[1], size);
	resize(_metadata, r[1], size);
	set_user_pages(_metadata, size / self->page);
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
			/* Not before its last copy is released. */
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
TEST_F(memory, limit_is_shared)
{
	struct account before;
	int status;
	pid_t pid;

	if (!have_user_pages())
		SKIP(return, NO_USER_PAGES);
	if (variant->kind == MEMORY_HUGETLB)
		SKIP(return, "a fork makes vmsplice() copy hugetlb memory");
	resize(_metadata, self->p[1], self->size);
	set_user_pages(_metadata, self->size / self->page);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		use_limit(_metadata, self, &before);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

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

/* A call that is partly referenced and partly copied is in order. */
TEST_F(memory, limit_within_call)
{
	ssize_t page = self->page, size = SLOTS * page - 1, limit;
	struct account before, now;

	if (!have_user_pages())
		SKIP(return, NO_USER_PAGES);
	for (limit = 0; limit <= SLOTS; limit += 3) {
		set_user_pages(_metadata, limit);
		before = read_account(_metadata);
		ASSERT_EQ(size, vmsplice_as(_metadata, USER, self->p[1],
					    self->m + 1, self->size - 1));
		now = read_account(_metadata);
		EXPECT_LE(now.referenced - before.referenced, limit * page);
		EXPECT_EQ(size, now.referenced - before.referenced +
				now.copied - before.copied);
		expect_data(_metadata, self->p[0], size, 1);
		EXPECT_EQ(0, pins_held());
	}
}

/* Notifications. */

TEST_F(memory, notify)
{
	ssize_t size = SLOTS * self->page;
	struct account before;
	bool pinned;

	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	pinned = is_pinned(variant->kind, SPLICE_F_NOTIFY);
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, self->size,
				   SPLICE_F_NOTIFY));
	ASSERT_EQ(size, xtee(self->p[0], self->q[1], size, 0));
	expect_pins(_metadata, pinned);
	expect_data(_metadata, self->p[0], size, 0);
	EXPECT_EQ(0, released(self->p[1]));
	expect_data(_metadata, self->q[0], size - 1, 0);
	EXPECT_EQ(0, released(self->p[1]));
	expect_pins(_metadata, pinned);
	expect_data(_metadata, self->q[0], 1, size - 1);
	EXPECT_EQ(1, released(self->p[1]));
	/* A program that has the notification writes to its memory. */
	EXPECT_EQ(0, pins_held());

	before = read_account(_metadata);
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->m, SOME,
				   SPLICE_F_NOTIFY | SPLICE_F_GIFT));
	check_account(_metadata, &before, SOME, 0);
	expect_data(_metadata, self->p[0], SOME, 0);
	EXPECT_EQ(2, released(self->p[1]));
}

/*
 * A copy belongs to the kernel: after the notification its data is still
 * correct.
 */
TEST_F(memory, notify_and_limit)
{
	ssize_t size = SLOTS * self->page - 100, ret, limit;
	struct account before, now;
	ssize_t calls = 0;

	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	if (!have_user_pages())
		SKIP(return, NO_USER_PAGES);
	for (limit = 0; limit < 9; limit += 4) {
		set_user_pages(_metadata, limit);
		before = read_account(_metadata);
		become(_metadata, USER);
		ret = xvmsplice1(self->p[1], self->m + 100, self->size - 100,
				 SPLICE_F_NOTIFY);
		become(_metadata, 0);
		ASSERT_EQ(size, ret);
		calls++;
		now = read_account(_metadata);
		EXPECT_LE(now.referenced - before.referenced,
			  limit * self->page);
		EXPECT_EQ(size, now.referenced - before.referenced +
				now.copied - before.copied);
		expect_data(_metadata, self->p[0], size, 100);
		EXPECT_EQ(calls, released(self->p[1]));
		EXPECT_EQ(0, pins_held());
	}
}

/*
 * The address space: vmsplice() changes nothing in it. It allocates, copies,
 * unshares, migrates or replaces no page; a read of the memory would have
 * mapped the same pages.
 */
#define PAGES	(MEMORY_SIZE / 4096)

struct address_space {
	unsigned long frames[PAGES];
	ssize_t anon;		/* kB of anonymous pages of the process */
	ssize_t swap;
	ssize_t huge;
	ssize_t hugetlb;
};

FIXTURE(unchanged) {
	struct memory mem;
	int p[2];		/* capacity for all of it */
	int turn[2][2];		/* parent to child, and child to parent */
	struct address_space before[2];
	struct address_space after[2];
};

FIXTURE_VARIANT(unchanged) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(unchanged, pages) {
	.kind = MEMORY_PAGES,
};

FIXTURE_VARIANT_ADD(unchanged, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(unchanged, pte_thp) {
	.kind = MEMORY_PTE_THP,
};

FIXTURE_VARIANT_ADD(unchanged, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_VARIANT_ADD(unchanged, memfd) {
	.kind = MEMORY_MEMFD,
};

FIXTURE_VARIANT_ADD(unchanged, memfd_hugetlb) {
	.kind = MEMORY_MEMFD_HUGETLB,
};

FIXTURE_VARIANT_ADD(unchanged, tmpfs_shared) {
	.kind = MEMORY_TMPFS_SHARED,
};

FIXTURE_VARIANT_ADD(unchanged, tmpfs_private) {
	.kind = MEMORY_TMPFS_PRIVATE,
};

FIXTURE_VARIANT_ADD(unchanged, ext4_shared) {
	.kind = MEMORY_EXT4_SHARED,
};

FIXTURE_VARIANT_ADD(unchanged, ext4_private) {
	.kind = MEMORY_EXT4_PRIVATE,
};

FIXTURE_VARIANT_ADD(unchanged, tmpfs_large_shared) {
	.kind = MEMORY_TMPFS_LARGE_SHARED,
};

FIXTURE_VARIANT_ADD(unchanged, tmpfs_large_private) {
	.kind = MEMORY_TMPFS_LARGE_PRIVATE,
};

FIXTURE_VARIANT_ADD(unchanged, ext4_large_shared) {
	.kind = MEMORY_EXT4_LARGE_SHARED,
};

FIXTURE_VARIANT_ADD(unchanged, ext4_large_private) {
	.kind = MEMORY_EXT4_LARGE_PRIVATE,
};

FIXTURE_VARIANT_ADD(unchanged, hugetlb_file_private) {
	.kind = MEMORY_HUGETLB_FILE_PRIVATE,
};

FIXTURE_VARIANT_ADD(unchanged, read_only) {
	.kind = MEMORY_READ_ONLY,
};

FIXTURE_VARIANT_ADD(unchanged, untouched) {
	.kind = MEMORY_UNTOUCHED,
};

FIXTURE_VARIANT_ADD(unchanged, untouched_thp) {
	.kind = MEMORY_UNTOUCHED_THP,
};

FIXTURE_VARIANT_ADD(unchanged, swapped) {
	.kind = MEMORY_SWAPPED,
};

FIXTURE_VARIANT_ADD(unchanged, ksm) {
	.kind = MEMORY_KSM,
};

FIXTURE_VARIANT_ADD(unchanged, movable) {
	.kind = MEMORY_MOVABLE,
};

FIXTURE_VARIANT_ADD(unchanged, movable_hugetlb) {
	.kind = MEMORY_MOVABLE_HUGETLB,
};

FIXTURE_SETUP(unchanged)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(PAGES, MEMORY_SIZE / page_size());
	make_pipe(_metadata, self->p);
	resize(_metadata, self->p[1], MEMORY_SIZE);
	make_pipe(_metadata, self->turn[0]);
	make_pipe(_metadata, self->turn[1]);
	memory_map(_metadata, &self->mem, variant->kind);
}

FIXTURE_TEARDOWN(unchanged)
{
	memory_unmap(&self->mem);
	close_all();
	expect_no_pins(_metadata);
	memory_give_back(_metadata, variant->kind);
}

static void your_turn(int turn[2])
{
	while (xwrite(turn[1], "", 1) != 1)
		;
}

static void my_turn(int turn[2])
{
	char c;

	while (xread(turn[0], &c, 1) != 1)
		;
}

static void look(struct __test_metadata *_metadata,
		 struct _test_data_unchanged *self, pid_t pid,
		 struct address_space *as)
{
	const char *m = self->mem.p;

	read_frames(_metadata, pid, m, PAGES, as->frames);
	as->anon = smaps_kb(pid, m, "Anonymous");
	as->swap = smaps_kb(pid, m, "Swap");
	as->huge = smaps_kb(pid, m, "AnonHugePages");
	as->hugetlb = smaps_kb(pid, m, "Private_Hugetlb") +
		      smaps_kb(pid, m, "Shared_Hugetlb");
	ASSERT_LE(0, as->anon);
	ASSERT_LE(0, as->swap);
	ASSERT_LE(0, as->huge);
	ASSERT_LE(0, as->hugetlb);
}

/*
 * Pages that were mapped before are still mapped. Other pages are those that a
 * read maps: of the file, the zero page, or a page from swap.
 */
static void compare(struct __test_metadata *_metadata,
		    struct _test_data_unchanged *self, bool called,
		    const struct address_space *before,
		    const struct address_space *after)
{
	enum memory_kind kind = self->mem.kind;
	int i, replaced = 0, others = 0;

	for (i = 0; i < PAGES; i++) {
		if (before->frames[i])
			replaced += before->frames[i] != after->frames[i];
		else if (memory_is_untouched(kind))
			others += after->frames[i] &&
				  !(frame_flags(after->frames[i]) >>
				    KPF_ZERO_PAGE & 1);
	}
	EXPECT_EQ(0, replaced);
	EXPECT_EQ(0, others);
	EXPECT_EQ(before->huge, after->huge);
	EXPECT_EQ(before->anon + before->swap, after->anon + after->swap);
	if (kind == MEMORY_SWAPPED && called) {
		EXPECT_EQ(0, after->swap);
		return;
	}
	EXPECT_EQ(before->anon, after->anon);
	EXPECT_EQ(before->swap, after->swap);
	if (before->frames[0])
		EXPECT_EQ(before->hugetlb, after->hugetlb);
	if (memory_is_untouched(kind) || !memory_is_anon(kind))
		EXPECT_EQ(0, after->anon);
}

/* Checks the data of a full pipe. */
static void expect_memory_in_pipe(struct __test_metadata *_metadata,
				  struct _test_data_unchanged *self)
{
	ssize_t size = MEMORY_SIZE;
	char *buf = malloc(size);

	ASSERT_NE(NULL, buf);
	EXPECT_EQ(size, pipe_bytes(self->p[0]));
	EXPECT_EQ(size, pipe_capacity(self->p[1]));
	EXPECT_EQ(0, poll_now(self->p[1], POLLOUT));
	EXPECT_EQ(POLLIN, poll_now(self->p[0], POLLIN));
	EXPECT_EQ(-EAGAIN, xvmsplice1(self->p[1], self->mem.p, 1,
				      SPLICE_F_NONBLOCK));
	ASSERT_EQ(size, read_full(self->p[0], buf, size));
	EXPECT_EQ(size, memory_is_untouched(self->mem.kind) ?
		  match_byte(buf, size, 0) : match_pattern(buf, size, DATA, 0));
	free(buf);
}

/*
 * Puts the memory into the pipe, and checks this process and, if @other is not
 * 0, the process @other, which has the same memory.
 */
static void call(struct __test_metadata *_metadata,
		 struct _test_data_unchanged *self, pid_t other,
		 unsigned int flags)
{
	enum memory_kind kind = self->mem.kind;
	bool pinned = is_pinned(kind, flags) && !other;
	ssize_t size = MEMORY_SIZE, hugetlb, copied = 0;
	struct account account;

	if (memory_is_anon_hugetlb(kind) && !pinned)
		copied = size;
	if (have_counters())
		account = read_account(_metadata);
	hugetlb = read_counter("bytes.memory_to_pipe.copied.hugetlb");
	look(_metadata, self, getpid(), &self->before[0]);
	if (other)
		look(_metadata, self, other, &self->before[1]);
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->mem.p, size, flags));
	look(_metadata, self, getpid(), &self->after[0]);
	compare(_metadata, self, true, &self->before[0], &self->after[0]);
	if (other) {
		look(_metadata, self, other, &self->after[1]);
		compare(_metadata, self, false, &self->before[1],
			&self->after[1]);
	}
	/* A page from swap may be exclusive to the caller or not. */
	if (kind != MEMORY_SWAPPED)
		expect_pins(_metadata, pinned);
	if (have_counters()) {
		check_account(_metadata, &account, size - copied, copied);
		EXPECT_EQ(hugetlb + copied,
			  read_counter("bytes.memory_to_pipe.copied.hugetlb"));
	}
	expect_memory_in_pipe(_metadata, self);
	EXPECT_EQ(0, pins_held());
}

static void calls(struct __test_metadata *_metadata,
		  struct _test_data_unchanged *self, pid_t other)
{
	call(_metadata, self, other, 0);
	call(_metadata, self, other, SPLICE_F_GIFT);
	call(_metadata, self, other, 0);
	if (have_notify(self->p[1]))
		call(_metadata, self, other, SPLICE_F_NOTIFY);
}

/* Movable memory is in its zone, and stays there. */
static bool is_in_place(struct __test_metadata *_metadata,
			struct _test_data_unchanged *self)
{
	int i;

	if (!memory_is_movable(self->mem.kind))
		return true;
	read_frames(_metadata, getpid(), self->mem.p, PAGES,
		    self->before[0].frames);
	for (i = 0; i < PAGES; i++)
		if (!is_movable(self->before[0].frames[i]))
			return false;
	return true;
}

TEST_F_TIMEOUT(unchanged, alone, 60)
{
	if (!is_in_place(_metadata, self))
		SKIP(return, "no memory in ZONE_MOVABLE to be had");
	calls(_metadata, self, 0);
}

/* The caller has a child with the same memory. */
TEST_F_TIMEOUT(unchanged, with_child, 60)
{
	int status;
	pid_t pid;

	if (!is_in_place(_metadata, self))
		SKIP(return, "no memory in ZONE_MOVABLE to be had");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		my_turn(self->turn[0]);
		_exit(0);
	}
	calls(_metadata, self, pid);
	your_turn(self->turn[0]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* The child is the caller. */
TEST_F_TIMEOUT(unchanged, by_child, 60)
{
	pid_t pid, parent = getpid();
	int status;

	if (!is_in_place(_metadata, self))
		SKIP(return, "no memory in ZONE_MOVABLE to be had");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		calls(_metadata, self, parent);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* Two mappings of the same memory, or one mapping after mremap(). */
TEST_F_TIMEOUT(unchanged, elsewhere, 60)
{
	struct memory to = { .kind = variant->kind, .fd = -1 };
	ssize_t size = MEMORY_SIZE;

	ASSERT_TRUE(memory_reserve_area(&to));
	if (memory_is_anon(variant->kind)) {
		ASSERT_EQ(to.p, mremap(self->mem.p, size, size,
				       MREMAP_MAYMOVE | MREMAP_FIXED, to.p));
	} else {
		ASSERT_EQ(to.p, mmap(to.p, size, PROT_READ,
				     MAP_SHARED | MAP_FIXED, self->mem.fd, 0));
	}
	self->mem.p = to.p;
	/* mremap() unmerges pages of KSM. */
	if (variant->kind == MEMORY_KSM)
		self->mem.kind = MEMORY_PAGES;
	calls(_metadata, self, 0);
	memory_unmap(&to);
}

/*
 * Whether the reader sees a write of the owner to memory that no other process
 * has.
 */
static bool shows_writes(enum memory_kind kind)
{
	switch (kind) {
	case MEMORY_UNTOUCHED:
	case MEMORY_UNTOUCHED_THP:
	case MEMORY_KSM:
		return false;
	case MEMORY_MOVABLE_HUGETLB:
		return !have_counters();
	default:
		return !memory_is_private_file(kind);
	}
}

static void expect_written(struct __test_metadata *_metadata, int fd,
			   ssize_t len)
{
	EXPECT_EQ(len, read_pattern(fd, len, OTHER, 0));
}

static void write_in_flight(struct __test_metadata *_metadata,
			    struct _test_data_unchanged *self,
			    unsigned int flags)
{
	enum memory_kind kind = self->mem.kind;
	ssize_t size = MEMORY_SIZE;

	ASSERT_EQ(size, xvmsplice1(self->p[1], self->mem.p, size, flags));
	ASSERT_EQ(0, mprotect(self->mem.p, size, PROT_READ | PROT_WRITE));
	fill_pattern(self->mem.p, size, OTHER, 0);
	if (!shows_writes(kind))
		expect_memory_in_pipe(_metadata, self);
	else
		expect_written(_metadata, self->p[0], size);
	EXPECT_EQ(size, match_pattern(self->mem.p, size, OTHER, 0));
	if (kind == MEMORY_KSM)
		EXPECT_EQ(size, match_pattern(self->mem.twin, size, DATA, 0));
}

TEST_F(unchanged, write_in_flight)
{
	write_in_flight(_metadata, self, 0);
}

TEST_F(unchanged, notify_write_in_flight)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	write_in_flight(_metadata, self, SPLICE_F_NOTIFY);
}

/* Private mappings of files. */
FIXTURE(private_file) {
	struct memory mem;
	int p[2];		/* capacity for all of it */
};

FIXTURE_VARIANT(private_file) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(private_file, tmpfs) {
	.kind = MEMORY_TMPFS_PRIVATE,
};

FIXTURE_VARIANT_ADD(private_file, ext4) {
	.kind = MEMORY_EXT4_PRIVATE,
};

FIXTURE_VARIANT_ADD(private_file, tmpfs_large) {
	.kind = MEMORY_TMPFS_LARGE_PRIVATE,
};

FIXTURE_VARIANT_ADD(private_file, ext4_large) {
	.kind = MEMORY_EXT4_LARGE_PRIVATE,
};

FIXTURE_VARIANT_ADD(private_file, hugetlb_file) {
	.kind = MEMORY_HUGETLB_FILE_PRIVATE,
};

FIXTURE_SETUP(private_file)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	make_pipe(_metadata, self->p);
	resize(_metadata, self->p[1], MEMORY_SIZE);
	memory_map(_metadata, &self->mem, variant->kind);
}

FIXTURE_TEARDOWN(private_file)
{
	memory_unmap(&self->mem);
	close_all();
	expect_no_pins(_metadata);
	memory_give_back(_metadata, variant->kind);
}

/* Later writes to the file are visible in the mapping, and in the pipe. */
TEST_F(private_file, changes_later)
{
	ssize_t size = MEMORY_SIZE, half = size / 2;
	char *file;

	ASSERT_EQ(size, xvmsplice1(self->p[1], self->mem.p, size, 0));
	file = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
		    self->mem.fd, 0);
	ASSERT_NE(MAP_FAILED, file);
	fill_pattern(file, half, OTHER, 0);
	EXPECT_EQ(half, read_pattern(self->p[0], half, OTHER, 0));
	EXPECT_EQ(half, match_pattern(self->mem.p, half, OTHER, 0));
	EXPECT_EQ(half, match_pattern(self->mem.p + half, half, DATA, half));
	EXPECT_EQ(half, read_pattern(self->p[0], half, DATA, half));
	fill_pattern(file, half, DATA, 0);
	EXPECT_EQ(size, match_pattern(self->mem.p, size, DATA, 0));
	munmap(file, size);
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
	reset_user_pages(_metadata);
	close_all();
	expect_no_pins(_metadata);
}

/* A mapping of page frames (VM_PFNMAP) is not referenced. */
TEST_F(special, page_frames)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.config = PERF_COUNT_SW_DUMMY,
		.size = sizeof(attr),
		.disabled = 1,
	};
	ssize_t len = 2 * self->page;
	struct memory m;
	char *header;
	int fd, i;

	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	if (fd < 0)
		SKIP(return, "perf_event_open(): %s", strerror(errno));
	memory_map(_metadata, &m, MEMORY_PAGES);
	header = mmap(m.p + 3 * self->page, len, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ(m.p + 3 * self->page, header);
	EXPECT_LT(match_byte(header, len, 0), len);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], header + 1, 1, 0));
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], header, len, 0));
		/* The data before it is in the pipe. */
		EXPECT_EQ(3 * self->page - 1,
			  xvmsplice1(self->p[1], m.p + 1, 10 * self->page, 0));
		expect_data(_metadata, self->p[0], 3 * self->page - 1, 1);
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
		if (!have_user_pages())
			break;
		set_user_pages(_metadata, 0);
	}
	memory_unmap(&m);
}

/* Pages of the kernel: referenced or copied, the data is correct. */
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
	/* The bytes that the clock has not changed meanwhile. */
	for (i = 0; i < len; i++)
		if (before[i] == after[i])
			EXPECT_EQ(before[i], got[i]);
}

/*
 * Secret memory is neither referenced nor copied, because only its owner may
 * read it. The data before it is in the pipe.
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
	/*
	 * Untouched, touched, and above the limit, where other memory is
	 * copied.
	 */
	for (i = 0; i < 3; i++) {
		if (i == 1)
			fill_pattern(secret, 2 * page, DATA, 3 * page);
		if (i == 2 && have_user_pages())
			set_user_pages(_metadata, 0);
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], secret, page, 0));
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], secret + 2 * page - 1,
					      page, 0));
		EXPECT_EQ(3 * page - 1, xvmsplice1(self->p[1], m.p + 1,
						   10 * page, 0));
		expect_data(_metadata, self->p[0], 3 * page - 1, 1);
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
	}
	memory_unmap(&m);
}

/*
 * vmsplice() fails for memory without read permission, with or without a page.
 */
TEST_F(special, no_access)
{
	struct memory m, empty;
	int i;

	memory_map(_metadata, &m, MEMORY_PAGES);
	memory_map(_metadata, &empty, MEMORY_UNTOUCHED);
	ASSERT_EQ(0, mprotect(m.p, MEMORY_SIZE, PROT_NONE));
	ASSERT_EQ(0, mprotect(empty.p, MEMORY_SIZE, PROT_NONE));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], m.p, SOME, 0));
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], empty.p, SOME, 0));
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
		if (!have_user_pages())
			break;
		set_user_pages(_metadata, 0);
	}
	ASSERT_EQ(0, mprotect(m.p, MEMORY_SIZE, PROT_READ));
	EXPECT_EQ(SOME, xvmsplice1(self->p[1], m.p, SOME, 0));
	expect_data(_metadata, self->p[0], SOME, 0);
	memory_unmap(&m);
	memory_unmap(&empty);
}

/*
 * Memory that is only writable. The CPU can read it, so a page that is present
 * is found. A missing page takes a fault, which fails.
 */
TEST_F(special, write_only)
{
	struct memory m, empty;

	memory_map(_metadata, &m, MEMORY_PAGES);
	memory_map(_metadata, &empty, MEMORY_UNTOUCHED);
	ASSERT_EQ(0, mprotect(m.p, MEMORY_SIZE, PROT_WRITE));
	ASSERT_EQ(0, mprotect(empty.p, MEMORY_SIZE, PROT_WRITE));
#ifdef __x86_64__
	EXPECT_EQ(SOME, xvmsplice1(self->p[1], m.p, SOME, 0));
	expect_data(_metadata, self->p[0], SOME, 0);
#endif
	EXPECT_EQ(-EFAULT, xvmsplice1(self->p[1], empty.p, SOME, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	EXPECT_EQ(0, smaps_kb(getpid(), empty.p, "Rss"));
	memory_unmap(&m);
	memory_unmap(&empty);
}

/* Memory that was never touched reads as zeroes. */
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

/* The pipe refers to the zero page, which no later write changes. */
TEST_F(special, untouched_is_zero_page)
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
		fill_pattern(m.p, len, DATA, 0);
		ASSERT_EQ(len, read_full(self->p[0], buf, len));
		EXPECT_EQ(len, match_byte(buf, len, 0));
		EXPECT_EQ(len, match_pattern(m.p, len, DATA, 0));
		memory_unmap(&m);
	}
	free(buf);
}

#define PIPES	8
#define MIB	1048576

/*
 * Memory in pipes does not count against other limits: with RLIMIT_MEMLOCK
 * bytes in a pipe, the same user registers that many bytes with io_uring.
 */
TEST_F(special, io_uring_registers_buffers)
{
	struct io_uring_params params = {};
	unsigned int flags[] = { 0, SPLICE_F_NOTIFY };
	struct iovec iov = { .iov_len = 6 * MIB };
	char *m[PIPES];
	int p[2], ring, i, j;

	for (i = 0; i < PIPES; i++) {
		m[i] = mmap(NULL, MIB, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, m[i]);
		fill_pattern(m[i], MIB, DATA, 0);
	}
	iov.iov_base = mmap(NULL, iov.iov_len, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, iov.iov_base);
	/*
	 * The limit covers the buffers of both rings, but not memory in pipes.
	 */
	set_memlock(_metadata, (PIPES + 5) * MIB);
	for (i = 0; i < ARRAY_LEN(flags); i++) {
		if (flags[i] && !have_notify(self->p[1]))
			break;
		for (j = 0; j < PIPES; j++) {
			make_pipe(_metadata, p);
			resize(_metadata, p[1], MIB);
			become(_metadata, USER);
			ASSERT_EQ(MIB, xvmsplice1(p[1], m[j], MIB, flags[i]));
			become(_metadata, 0);
		}
		become(_metadata, USER);
		ring = syscall(SYS_io_uring_setup, 1, &params);
		if (ring < 0)
			SKIP(return, "io_uring_setup(): %s", strerror(errno));
		EXPECT_EQ(0, or_errno(syscall(SYS_io_uring_register, ring,
					      IORING_REGISTER_BUFFERS, &iov,
					      1)));
		close(ring);
		EXPECT_EQ(0, mlock(m[0], MIB));
		EXPECT_EQ(0, munlock(m[0], MIB));
		become(_metadata, 0);
		/* The last of them still contains the data. */
		expect_data(_metadata, p[0], MIB, 0);
	}
	close_all();
	for (i = 0; i < PIPES; i++)
		munmap(m[i], MIB);
	munmap(iov.iov_base, iov.iov_len);
}

/* A large folio from its middle on, and pages of several folios in one call. */
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
