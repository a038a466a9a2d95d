// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/PID/fdinfo of a pipe: its contents, and the notifications of
 * SPLICE_F_NOTIFY.
 */
#include <time.h>

#include "splice_memory.h"
#include "splice_notify.h"

#define DATA MEMORY_DATA
#define SOME 5000

/* The values of the lines that only pipes have. */
struct fdinfo {
	int buffers;
	ssize_t bytes;
	int user_pages;
	int private;
	int issued;
	int released;
};

/* Reads the lines after those common to all files; -ENOENT if there is none. */
static ssize_t read_fdinfo(int fd, char *buf, size_t size)
{
	char path[64], text[1024], *line;
	ssize_t ret;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	ret = read_text(path, text, sizeof(text));
	if (ret < 0)
		return ret;
	line = strstr(text, "\nino:\t");
	if (!line)
		return -EINVAL;
	line = strchr(line + 1, '\n') + 1;
	snprintf(buf, size, "%s", line);
	return *line ? 0 : -ENOENT;
}

static int scan_fdinfo(const char *text, struct fdinfo *f)
{
	int end = 0, shared;

	if (sscanf(text,
		   "pipe-buffers:\t%d\npipe-bytes:\t%zd\n"
		   "pipe-user-pages:\t%d\npipe-private-buffers:\t%d\n"
		   "pipe-shared-buffers:\t%d\nnotices-issued:\t%d\n"
		   "notices-released:\t%d\n%n",
		   &f->buffers, &f->bytes, &f->user_pages, &f->private, &shared,
		   &f->issued, &f->released, &end) != 7)
		return 0;
	return end && !text[end] && f->private + shared == f->buffers;
}

/* Compares the text of all lines, for both ends. */
static void check_fdinfo(struct __test_metadata *_metadata, const int p[2],
			 const struct fdinfo *f)
{
	char expected[512], text[512];
	int i;

	snprintf(expected, sizeof(expected),
		 "pipe-buffers:\t%d\npipe-bytes:\t%zd\npipe-user-pages:\t%d\n"
		 "pipe-private-buffers:\t%d\npipe-shared-buffers:\t%d\n"
		 "notices-issued:\t%d\nnotices-released:\t%d\n",
		 f->buffers, f->bytes, f->user_pages, f->private,
		 f->buffers - f->private, f->issued, f->released);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, read_fdinfo(p[i], text, sizeof(text)));
		EXPECT_STREQ(expected, text);
	}
}

#define CHECK(...) \
	check_fdinfo(_metadata, self->p, &(struct fdinfo) { __VA_ARGS__ })

FIXTURE(fdinfo) {
	int p[2];
	int q[2];
	ssize_t page;
	struct memory mem;
	char *m;
	bool has_lines;
};

FIXTURE_VARIANT(fdinfo) {
	enum memory_kind kind;
	bool one_buffer;
};

FIXTURE_VARIANT_ADD(fdinfo, pages) {
	.kind = MEMORY_PAGES,
	.one_buffer = false,
};

FIXTURE_VARIANT_ADD(fdinfo, thp) {
	.kind = MEMORY_THP,
	.one_buffer = true,
};

FIXTURE_VARIANT_ADD(fdinfo, hugetlb) {
	.kind = MEMORY_HUGETLB,
	.one_buffer = true,
};

FIXTURE_SETUP(fdinfo)
{
	const char *missing = memory_missing(variant->kind);
	char text[512];

	if (missing)
		SKIP(return, "%s", missing);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	self->page = page_size();
	memory_map(_metadata, &self->mem, variant->kind);
	self->m = self->mem.p;
	self->has_lines = !read_fdinfo(self->p[0], text, sizeof(text));
	ASSERT_EQ(have_notify(self->p[1]), self->has_lines);
}

FIXTURE_TEARDOWN(fdinfo)
{
	memory_unmap(&self->mem);
	close_all();
	memory_give_back(_metadata, variant->kind);
}

#define NO_LINES "fdinfo of a pipe has no lines of its own on this kernel"

/* Numbers of buffers, bytes and pages while data is added and removed. */
TEST_F(fdinfo, contents)
{
	int many = variant->one_buffer ? 1 : 12;
	ssize_t page = self->page;

	if (!self->has_lines)
		SKIP(return, NO_LINES);
	CHECK(.buffers = 0);
	ASSERT_EQ(SOME, xwrite(self->p[1], self->m, SOME));
	CHECK(.buffers = 2, .bytes = SOME, .private = 2);
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));

	/* One byte of a page, then whole pages. */
	ASSERT_EQ(1, xvmsplice1(self->p[1], self->m, 1, 0));
	CHECK(.buffers = 1, .bytes = 1, .user_pages = 1);
	ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, 0));
	CHECK(.buffers = 0);
	ASSERT_EQ(12 * page, xvmsplice1(self->p[1], self->m, 12 * page, 0));
	CHECK(.buffers = many, .bytes = 12 * page, .user_pages = 12);

	/* A page counts until its last byte is read. */
	ASSERT_EQ(page - 1, read_pattern(self->p[0], page - 1, DATA, 0));
	CHECK(.buffers = many, .bytes = 11 * page + 1, .user_pages = 12);
	ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, page - 1));
	if (!variant->one_buffer)
		many--;
	CHECK(.buffers = many, .bytes = 11 * page, .user_pages = 11);

	/* Pages of write() are not user memory. */
	ASSERT_EQ(SOME, xwrite(self->p[1], self->m + 12 * page, SOME));
	CHECK(.buffers = many + 2, .bytes = 11 * page + SOME,
	      .user_pages = 11, .private = 2);
	ASSERT_EQ(11 * page + SOME,
		  read_pattern(self->p[0], 11 * page + SOME, DATA, page));
	CHECK(.buffers = 0);
}

/* Each pipe reports the buffers that it holds. */
TEST_F(fdinfo, tee)
{
	ssize_t page = self->page;

	if (!self->has_lines)
		SKIP(return, NO_LINES);
	ASSERT_EQ(3 * page, xvmsplice1(self->p[1], self->m, 3 * page, 0));
	ASSERT_EQ(2 * page, xtee(self->p[0], self->q[1], 2 * page, 0));
	CHECK(.buffers = variant->one_buffer ? 1 : 3, .bytes = 3 * page,
	      .user_pages = 3);
	check_fdinfo(_metadata, self->q, &(struct fdinfo) {
		.buffers = variant->one_buffer ? 1 : 2,
		.bytes = 2 * page,
		.user_pages = 2,
	});
	ASSERT_EQ(page, read_pattern(self->q[0], page, DATA, 0));
	ASSERT_EQ(page, xsplice(self->p[0], NULL, self->q[1], NULL, page, 0));
	CHECK(.buffers = variant->one_buffer ? 1 : 2, .bytes = 2 * page,
	      .user_pages = 2);
	check_fdinfo(_metadata, self->q, &(struct fdinfo) {
		.buffers = 2, .bytes = 2 * page, .user_pages = 2,
	});
}

/*
 * A page of write() is private until tee() refers to it, and again after that.
 * One of the page cache never is.
 */
TEST_F(fdinfo, private)
{
	int file = make_memfd(_metadata, SOME, DATA);
	loff_t pos = 0;

	if (!self->has_lines)
		SKIP(return, NO_LINES);
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	ASSERT_EQ(SOME, xsplice(file, &pos, self->p[1], NULL, SOME, 0));
	CHECK(.buffers = 3, .bytes = 100 + SOME, .private = 1);
	ASSERT_EQ(100, xtee(self->p[0], self->q[1], 100, 0));
	CHECK(.buffers = 3, .bytes = 100 + SOME, .private = 0);
	check_fdinfo(_metadata, self->q, &(struct fdinfo) {
		.buffers = 1, .bytes = 100,
	});
	ASSERT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
	CHECK(.buffers = 3, .bytes = 100 + SOME, .private = 1);
	ASSERT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
	CHECK(.buffers = 2, .bytes = SOME, .private = 0);
	close(file);
}

TEST_F(fdinfo, notices)
{
	ssize_t page = self->page;

	if (!self->has_lines)
		SKIP(return, NO_LINES);
	ASSERT_EQ(page, xnotify(self->p[1], self->m, page));
	CHECK(.buffers = 1, .bytes = page, .user_pages = 1, .issued = 1);
	ASSERT_EQ(page, xvmsplice1(self->p[1], self->m + page, page, 0));
	ASSERT_EQ(page, xnotify(self->p[1], self->m + 2 * page, page));
	CHECK(.buffers = 3, .bytes = 3 * page, .user_pages = 3, .issued = 2);
	ASSERT_EQ(page, read_pattern(self->p[0], page, DATA, 0));
	CHECK(.buffers = 2, .bytes = 2 * page, .user_pages = 2, .issued = 2,
	      .released = 1);
	/*
	 * The notifications belong to the first pipe after the data has moved
	 * to another.
	 */
	ASSERT_EQ(2 * page, xsplice(self->p[0], NULL, self->q[1], NULL,
				    2 * page, 0));
	CHECK(.buffers = 0, .issued = 2, .released = 1);
	check_fdinfo(_metadata, self->q, &(struct fdinfo) {
		.buffers = 2, .bytes = 2 * page, .user_pages = 2,
	});
	ASSERT_EQ(2 * page, read_pattern(self->q[0], 2 * page, DATA, page));
	CHECK(.buffers = 0, .issued = 2, .released = 2);
}

/*
 * A FIFO has the same lines. A notification pipe cannot be spliced and has
 * none.
 */
TEST_F(fdinfo, other_pipes)
{
	struct fdinfo f = { .buffers = 1, .bytes = 100, .private = 1 };
	char text[512];
	int p[2];

	if (!self->has_lines)
		SKIP(return, NO_LINES);
	make_fifo(_metadata, p);
	ASSERT_EQ(100, write_pattern(p[1], 100, DATA, 0));
	check_fdinfo(_metadata, p, &f);
	if (!pipe2(p, NOTIFICATION_PIPE))
		EXPECT_EQ(-ENOENT, read_fdinfo(p[0], text, sizeof(text)));
}

/* Puts memory into a pipe and reads it, until @stop is set. */
struct changer {
	pthread_t thread;
	const int *pipe;
	const char *mem;
	bool end;
	ssize_t calls;
	ssize_t failed;
};

static void *change(void *data)
{
	static char buf[12 * 65536];
	ssize_t page = page_size(), bytes;
	struct changer *c = data;

	while (!__atomic_load_n(&c->end, __ATOMIC_SEQ_CST)) {
		bytes = 1 + c->calls++ % 12 * page;
		if (xvmsplice1(c->pipe[1], c->mem, bytes, 0) != bytes ||
		    read_full(c->pipe[0], buf, bytes) != bytes) {
			c->failed++;
			break;
		}
	}
	return NULL;
}

/* While the pipe changes, fdinfo is consistent or reports that it is busy. */
TEST_F_TIMEOUT(fdinfo, meanwhile, 60)
{
	struct changer c = { .pipe = self->p, .mem = self->m };
	struct fdinfo f = {};
	ssize_t ret, i;
	char text[512];

	ASSERT_EQ(0, pthread_create(&c.thread, NULL, change, &c));
	for (i = 0; i < 5000; i++) {
		ret = read_fdinfo(self->p[0], text, sizeof(text));
		ASSERT_EQ(self->has_lines ? 0 : -ENOENT, ret);
		if (ret || !strcmp(text, "pipe-busy:\t1\n"))
			continue;
		ASSERT_TRUE(scan_fdinfo(text, &f)) {
			TH_LOG("%s", text);
		}
		ASSERT_EQ(!f.buffers, !f.bytes);
		ASSERT_EQ(!f.bytes, !f.user_pages);
		ASSERT_GE(f.user_pages * self->page, f.bytes);
		ASSERT_GE(12, f.user_pages);
		ASSERT_GE(f.user_pages, f.buffers);
	}
	__atomic_store_n(&c.end, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(c.thread, NULL));
	EXPECT_EQ(0, c.failed);
	EXPECT_LT(0, c.calls);
}

/*
 * A read() that waits for a fault of its destination holds the pipe's mutex;
 * fdinfo does not wait for it.
 */
TEST_F(fdinfo, busy)
{
	struct timespec start, end;
	struct stuck stuck = {};
	char text[512];
	struct job job;
	ssize_t ret;
	int i;

	ret = stuck_map(&stuck);
	if (ret)
		SKIP(return, "no userfaultfd: %s", strerror(-ret));
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->m, SOME, 0));
	job = job_reader(self->p[0], stuck.mem, 100);
	job_start(_metadata, &job);
	stuck_wait(_metadata, &stuck);

	ASSERT_EQ(0, clock_gettime(CLOCK_MONOTONIC, &start));
	for (i = 0; i < 2; i++) {
		ret = read_fdinfo(self->p[i], text, sizeof(text));
		if (self->has_lines) {
			EXPECT_EQ(0, ret);
			EXPECT_STREQ("pipe-busy:\t1\n", text);
		} else {
			EXPECT_EQ(-ENOENT, ret);
		}
	}
	ASSERT_EQ(0, clock_gettime(CLOCK_MONOTONIC, &end));
	EXPECT_GT(2, end.tv_sec - start.tv_sec);

	stuck_resolve(_metadata, &stuck);
	EXPECT_EQ(100, job_finish(_metadata, &job));
	EXPECT_EQ(100, match_pattern(stuck.mem, 100, DATA, 0));
	EXPECT_EQ(SOME - 100, read_pattern(self->p[0], SOME - 100, DATA, 100));
	if (self->has_lines)
		CHECK(.buffers = 0);
	munmap(stuck.mem, self->page);
}

TEST_HARNESS_MAIN
