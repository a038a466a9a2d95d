// SPDX-License-Identifier: GPL-2.0
/*
 * Files on DAX: mmap(), read() and write() access the memory of the device
 * directly. A file system that truncates such a file waits until all other
 * references to its pages are dropped, and data can stay in a pipe for any
 * time. So vmsplice(2) copies memory of such a file. It refers to pages that
 * were written to in a private mapping.
 *
 * Stock C takes references, so that truncate() waits for the reader. The last
 * close() of the file would wait as well, uninterruptibly: on stock C, a pipe
 * with such memory is emptied before, and no socket gets any.
 *
 * SPLICE_DAX_DEVICE is a block device that supports DAX, such as /dev/pmem0.
 * The test overwrites it, unless it has a file system with DAX.
 */
#include "splice_memory.h"
#include "splice_notify.h"

#include <linux/fs.h>
#include <sys/resource.h>

/* Seeds: of the file, of the data written to it later, and of other memory. */
#define DATA MEMORY_DATA
#define OTHER 2
#define THIRD 3

/* Data of more than one page, with a partly filled last page. */
#define SOME 5000

/* Slots of a pipe of the default size. */
#define SLOTS 16

/* A user that owns nothing else. */
#define USER 54321

#define USER_PAGES "/proc/sys/fs/pipe-user-memory-pages"

#define WAITS_FOR_READER "truncate() waits for readers: " NO_COUNTERS

struct state {
	struct memory mem;	/* the file, and address space for its mapping */
	char *m;		/* address of the mapping */
	ssize_t size;
	ssize_t page;
	bool private;
	bool huge;		/* mapped by entries for 2 MiB each */
	int p[2];		/* capacity for the whole file */
	int q[2];
};

/* Whether all of the memory is present and mapped by entries for 2 MiB each. */
static bool is_mapped_huge(const char *m, ssize_t size)
{
	struct page_region region = {};
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (unsigned long)m,
		.end = (unsigned long)m + size,
		.vec = (unsigned long)&region,
		.vec_len = 1,
		.category_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY);
	int ret = ioctl(fd, PAGEMAP_SCAN, &arg);

	close(fd);
	return ret == 1 && region.start == arg.start && region.end == arg.end;
}

/*
 * Maps the file and touches all of it. If file and mapping are not aligned to
 * each other, page table entries are for 4 KiB each.
 */
static void map_file(struct __test_metadata *_metadata, struct state *s,
		     int prot, int flags)
{
	ssize_t i;

	s->m = s->mem.p + (s->huge ? 0 : s->page);
	ASSERT_EQ(s->m, mmap(s->m, s->size, prot, flags | MAP_FIXED, s->mem.fd,
			     0));
	for (i = 0; i < s->size; i += s->page)
		__atomic_load_n(s->m + i, __ATOMIC_RELAXED);
}

static const char *set_up(struct __test_metadata *_metadata, struct state *s,
			  bool private, bool huge)
{
	int rw = PROT_READ | PROT_WRITE;
	const char *missing;

	make_pipe(_metadata, s->p);
	make_pipe(_metadata, s->q);
	s->mem.fd = -1;
	missing = dax_open(_metadata, &s->mem.fd);
	if (missing)
		return missing;
	s->size = MEMORY_SIZE;
	s->page = page_size();
	s->private = private;
	s->huge = huge;
	ASSERT_EQ(s->size, fcntl(s->p[1], F_SETPIPE_SZ, s->size));
	ASSERT_TRUE(memory_reserve_area(&s->mem));
	ASSERT_EQ(0, fallocate(s->mem.fd, 0, 0, s->size));
	map_file(_metadata, s, rw, MAP_SHARED);
	fill_pattern(s->m, s->size, DATA, 0);
	if (private)
		map_file(_metadata, s, rw, MAP_PRIVATE);
	if (is_mapped_huge(s->m, s->size) != huge)
		return "no entries for 2 MiB of a file to be had";
	return NULL;
}

/* Closes the pipes first, each on its own: see the top of the file. */
static void tear_down(struct __test_metadata *_metadata, struct state *s)
{
	int i;

	for (i = 0; i < 2; i++) {
		close(s->p[i]);
		close(s->q[i]);
	}
	if (s->mem.area)
		memory_unmap(&s->mem);
	close_all();
	expect_no_pins(_metadata);
	if (!access(USER_PAGES, W_OK))
		EXPECT_TRUE(write_number(USER_PAGES, -1));
}

FIXTURE(dax) {
	struct state s;
};

FIXTURE_VARIANT(dax) {
	bool private;
	bool huge;
};

FIXTURE_VARIANT_ADD(dax, shared) {
	.huge = false,
};

FIXTURE_VARIANT_ADD(dax, shared_huge) {
	.huge = true,
};

FIXTURE_VARIANT_ADD(dax, private) {
	.private = true,
};

FIXTURE_VARIANT_ADD(dax, private_huge) {
	.private = true,
	.huge = true,
};

FIXTURE_SETUP(dax)
{
	const char *missing = set_up(_metadata, &self->s, variant->private,
				     variant->huge);

	if (missing)
		SKIP(return, "%s", missing);
}

FIXTURE_TEARDOWN(dax)
{
	tear_down(_metadata, &self->s);
}

/* A shared mapping. */
FIXTURE(shared) {
	struct state s;
};

FIXTURE_VARIANT(shared) {
	bool huge;
};

FIXTURE_VARIANT_ADD(shared, pages) {
	.huge = false,
};

FIXTURE_VARIANT_ADD(shared, huge) {
	.huge = true,
};

FIXTURE_SETUP(shared)
{
	const char *missing = set_up(_metadata, &self->s, false, variant->huge);

	if (missing)
		SKIP(return, "%s", missing);
}

FIXTURE_TEARDOWN(shared)
{
	tear_down(_metadata, &self->s);
}

/* A private mapping. */
FIXTURE(private) {
	struct state s;
};

FIXTURE_VARIANT(private) {
	bool huge;
};

FIXTURE_VARIANT_ADD(private, pages) {
	.huge = false,
};

FIXTURE_VARIANT_ADD(private, huge) {
	.huge = true,
};

FIXTURE_SETUP(private)
{
	const char *missing = set_up(_metadata, &self->s, true, variant->huge);

	if (missing)
		SKIP(return, "%s", missing);
}

FIXTURE_TEARDOWN(private)
{
	tear_down(_metadata, &self->s);
}

/* The file itself, with splice(2): the kind of mapping makes no difference. */
FIXTURE(file) {
	struct state s;
};

FIXTURE_SETUP(file)
{
	const char *missing = set_up(_metadata, &self->s, false, false);

	if (missing)
		SKIP(return, "%s", missing);
}

FIXTURE_TEARDOWN(file)
{
	tear_down(_metadata, &self->s);
}

#define COPIED_DAX "bytes.memory_to_pipe.copied.dax"

/*
 * Puts memory into the pipe. If the kernel has counters, expects that
 * @referenced bytes are referenced and that the rest is copied because it is on
 * DAX.
 */
static void put(struct __test_metadata *_metadata, struct state *s,
		const struct iovec *iov, int nr, ssize_t referenced,
		unsigned int flags)
{
	ssize_t len = 0, copied = read_counter(COPIED_DAX);
	struct account before;
	int i;

	for (i = 0; i < nr; i++)
		len += iov[i].iov_len;
	if (have_counters())
		before = read_account(_metadata);
	ASSERT_EQ(len, xvmsplice(s->p[1], iov, nr, flags));
	if (have_counters()) {
		check_account(_metadata, &before, referenced, len - referenced);
		EXPECT_EQ(copied + len - referenced, read_counter(COPIED_DAX));
	}
	if (!(flags & SPLICE_F_NOTIFY) || !referenced)
		EXPECT_EQ(0, pins_held());
}

/* The same for one range of the file, all of which is copied. */
static void put1(struct __test_metadata *_metadata, struct state *s,
		 ssize_t off, ssize_t len)
{
	struct iovec iov = { s->m + off, len };

	put(_metadata, s, &iov, 1, 0, 0);
}

/* Checks that the next @len bytes are the pattern from @pos on. */
static void expect_data(struct __test_metadata *_metadata, int fd, ssize_t len,
			unsigned int seed, loff_t pos)
{
	EXPECT_EQ(len, read_pattern(fd, len, seed, pos));
}

static void expect_file(struct __test_metadata *_metadata, int fd, ssize_t len,
			unsigned int seed, loff_t pos)
{
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	expect_data(_metadata, fd, len, seed, pos);
}

/* Single bytes, whole pages, and the whole file. */
TEST_F_TIMEOUT(dax, copied, 120)
{
	struct state *s = &self->s;
	const struct {
		ssize_t off;
		ssize_t len;
	} parts[] = {
		{ 0, 1 }, { 0, s->page }, { 10, s->page }, { 4095, 2 },
		{ 100, SOME }, { s->size - SOME, SOME },
		{ 7 * s->page, SLOTS * s->page }, { 0, s->size },
	};
	int i;

	for (i = 0; i < ARRAY_LEN(parts); i++) {
		put1(_metadata, s, parts[i].off, parts[i].len);
		EXPECT_EQ(parts[i].len, pipe_bytes(s->p[0]));
		expect_data(_metadata, s->p[0], parts[i].len, DATA,
			    parts[i].off);
	}
	EXPECT_EQ(s->size, match_pattern(s->m, s->size, DATA, 0));

	/* A read-only mapping. */
	ASSERT_EQ(0, mprotect(s->m, s->size, PROT_READ));
	put1(_metadata, s, 10, s->size - 10);
	expect_data(_metadata, s->p[0], s->size - 10, DATA, 10);
}

/* A mapping that has no page table entries yet. */
TEST_F(dax, untouched)
{
	struct state *s = &self->s;

	ASSERT_EQ(0, madvise(s->m, s->size, MADV_DONTNEED));
	put1(_metadata, s, s->page + 10, SOME);
	put1(_metadata, s, 0, s->size / 2);
	expect_data(_metadata, s->p[0], SOME, DATA, s->page + 10);
	expect_data(_metadata, s->p[0], s->size / 2, DATA, 0);
}

/* vmsplice() does not copy more than fits into the pipe. */
TEST_F(dax, cut_where_pipe_is_full)
{
	struct state *s = &self->s;
	ssize_t len = SLOTS * s->page - 100;
	struct account before;

	ASSERT_EQ(SLOTS * s->page, fcntl(s->p[1], F_SETPIPE_SZ,
					 SLOTS * s->page));
	if (have_counters())
		before = read_account(_metadata);
	ASSERT_EQ(len, xvmsplice1(s->p[1], s->m + 100, s->size - 100, 0));
	EXPECT_EQ(-EAGAIN, xvmsplice1(s->p[1], s->m, 1, SPLICE_F_NONBLOCK));
	if (have_counters())
		check_account(_metadata, &before, 0, len);
	expect_data(_metadata, s->p[0], len, DATA, 100);
}

/* Memory before and after the mapping that is not on DAX is referenced. */
TEST_F(dax, mixed)
{
	struct state *s = &self->s;
	struct memory anon, memfd;
	ssize_t pos = 100, i;
	struct iovec iov[5];

	memory_map(_metadata, &anon, MEMORY_PAGES);
	memory_map(_metadata, &memfd, MEMORY_MEMFD);
	iov[0] = (struct iovec) { anon.p + 100, 5 * s->page };
	iov[1] = (struct iovec) { s->m + 100 + 5 * s->page, SOME };
	iov[2] = (struct iovec) { memfd.p + 100 + 5 * s->page + SOME, SOME };
	iov[3] = (struct iovec) { s->m + 100 + 5 * s->page + 2 * SOME, 1 };
	iov[4] = (struct iovec) { anon.p + 101 + 5 * s->page + 2 * SOME,
				  20 * s->page };
	put(_metadata, s, iov, 5, 25 * s->page + SOME, 0);
	for (i = 0; i < 5; pos += iov[i++].iov_len)
		expect_data(_metadata, s->p[0], iov[i].iov_len, DATA, pos);
	EXPECT_EQ(0, pins_held());

	/* The opposite order. */
	put(_metadata, s, iov + 1, 3, SOME, 0);
	expect_data(_metadata, s->p[0], 2 * SOME + 1, DATA, 100 + 5 * s->page);
	memory_unmap(&anon);
	memory_unmap(&memfd);
}

/* Copied memory does not count against the limit of the user. */
TEST_F(dax, limit)
{
	struct state *s = &self->s;
	struct account before;
	struct memory anon;
	struct iovec iov[2];

	if (access(USER_PAGES, W_OK))
		SKIP(return, "this kernel has no " USER_PAGES);
	memory_map(_metadata, &anon, MEMORY_PAGES);
	iov[0] = (struct iovec) { s->m, 3 * s->page };
	iov[1] = (struct iovec) { anon.p + 3 * s->page, s->page };
	ASSERT_TRUE(write_number(USER_PAGES, 1));
	before = read_account(_metadata);
	become(_metadata, USER);
	ASSERT_EQ(4 * s->page, xvmsplice(s->p[1], iov, 2, 0));
	become(_metadata, 0);
	check_account(_metadata, &before, s->page, 3 * s->page);
	become(_metadata, USER);
	ASSERT_EQ(s->page, xvmsplice(s->p[1], iov + 1, 1, 0));
	become(_metadata, 0);
	check_account(_metadata, &before, 0, s->page);
	ASSERT_TRUE(write_number(USER_PAGES, -1));
	expect_data(_metadata, s->p[0], 4 * s->page, DATA, 0);
	expect_data(_metadata, s->p[0], s->page, DATA, 3 * s->page);
	memory_unmap(&anon);
}

/* RLIMIT_MEMLOCK has no effect on either kind of memory. */
TEST_F(dax, memlock)
{
	struct state *s = &self->s;
	struct rlimit limit = { 0, RLIM_INFINITY };
	struct account before;
	struct memory anon;
	struct iovec iov[2];

	memory_map(_metadata, &anon, MEMORY_PAGES);
	iov[0] = (struct iovec) { s->m, 3 * s->page };
	iov[1] = (struct iovec) { anon.p + 3 * s->page, s->page };
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	if (have_counters())
		before = read_account(_metadata);
	become(_metadata, USER);
	ASSERT_EQ(4 * s->page, xvmsplice(s->p[1], iov, 2, 0));
	EXPECT_EQ(0, status_kb("VmLck:"));
	EXPECT_EQ(0, status_kb("VmPin:"));
	become(_metadata, 0);
	if (have_counters())
		check_account(_metadata, &before, s->page, 3 * s->page);
	expect_data(_metadata, s->p[0], 4 * s->page, DATA, 0);
	memory_unmap(&anon);
}

/* Every consumer of the data. */
TEST_F(dax, consumers)
{
	struct state *s = &self->s;
	ssize_t len = 10 * s->page;
	int file = make_file(_metadata, "/tmp");
	char *buf = malloc(len);

	ASSERT_NE(NULL, buf);
	put1(_metadata, s, 50, len);
	ASSERT_EQ(len, xtee(s->p[0], s->q[1], len, 0));
	ASSERT_EQ(len, xvmsplice1(s->p[0], buf, len, 0));
	EXPECT_EQ(len, match_pattern(buf, len, DATA, 50));
	ASSERT_EQ(len, xsplice(s->q[0], NULL, s->p[1], NULL, len, 0));
	ASSERT_EQ(len, xsplice(s->p[0], NULL, file, NULL, len, 0));
	expect_file(_metadata, file, len, DATA, 50);
	free(buf);
}

/* A socket may keep its references for any time after the data was read. */
TEST_F(dax, sockets)
{
	struct state *s = &self->s;
	ssize_t len = 10 * s->page;
	char *buf = malloc(len);
	struct job job;
	int sv[2], i;

	if (!have_counters())
		SKIP(return, WAITS_FOR_READER);
	ASSERT_NE(NULL, buf);
	for (i = 0; i < 2; i++) {
		if (i)
			make_unix_pair(_metadata, sv);
		else
			make_tcp_pair(_metadata, sv);
		put1(_metadata, s, 50, len);
		job = job_reader(sv[1], buf, len);
		job_start(_metadata, &job);
		EXPECT_EQ(len, splice_full(s->p[0], sv[0], len));
		EXPECT_EQ(len, job_finish(_metadata, &job));
		EXPECT_EQ(len, match_pattern(buf, len, DATA, 50));
	}
	ASSERT_EQ(0, ftruncate(s->mem.fd, 0));
	free(buf);
}

/*
 * SPLICE_F_GIFT and SPLICE_F_MOVE do not move pages of the file to another
 * file.
 */
TEST_F(dax, gift)
{
	struct state *s = &self->s;
	static const char *const vars[] = { "SPLICE_TMPFS_DIR", "SPLICE_EXT4_DIR" };
	struct iovec iov = { s->m + s->page, 4 * s->page };
	ssize_t len = iov.iov_len;
	int i, file;

	for (i = 0; i < ARRAY_LEN(vars); i++) {
		if (!getenv(vars[i]))
			SKIP(return, "%s is not set", vars[i]);
		file = make_file(_metadata, getenv(vars[i]));
		put(_metadata, s, &iov, 1, 0, SPLICE_F_GIFT);
		ASSERT_EQ(len, xsplice(s->p[0], NULL, file, NULL, len,
				       SPLICE_F_MOVE));
		expect_file(_metadata, file, len, DATA, s->page);
		ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
		ASSERT_EQ(len, write_pattern(file, len, OTHER, 0));
		EXPECT_EQ(s->size, match_pattern(s->m, s->size, DATA, 0));
		close(file);
	}
	expect_file(_metadata, s->mem.fd, s->size, DATA, 0);
}

/* The copy belongs to the kernel: the memory is free when the call returns. */
TEST_F(dax, notify)
{
	struct state *s = &self->s;
	struct iovec iov = { s->m + 100, SOME };

	if (xnotify(s->p[1], s->m, 0) == -EINVAL)
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
	put(_metadata, s, &iov, 1, 0, SPLICE_F_NOTIFY);
	EXPECT_EQ(1, issued(s->p[1]));
	EXPECT_EQ(1, released(s->p[1]));
	put(_metadata, s, &iov, 1, 0, SPLICE_F_NOTIFY | SPLICE_F_GIFT);
	EXPECT_EQ(2, released(s->p[1]));
	if (!s->private)
		fill_pattern(s->m, s->size, OTHER, 0);
	expect_data(_metadata, s->p[0], SOME, DATA, 100);
	expect_data(_metadata, s->p[0], SOME, DATA, 100);
	EXPECT_EQ(2, issued(s->p[1]));
}

/*
 * The notification of a call that copies a part of its memory covers the other
 * part.
 */
TEST_F(dax, notify_mixed)
{
	struct state *s = &self->s;
	struct iovec iov[2];
	struct memory anon;

	if (xnotify(s->p[1], s->m, 0) == -EINVAL)
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
	memory_map(_metadata, &anon, MEMORY_PAGES);
	iov[0] = (struct iovec) { s->m, SOME };
	iov[1] = (struct iovec) { anon.p + SOME, SOME };
	put(_metadata, s, iov, 2, SOME, SPLICE_F_NOTIFY);
	expect_data(_metadata, s->p[0], 2 * SOME - 1, DATA, 0);
	EXPECT_EQ(0, released(s->p[1]));
	expect_data(_metadata, s->p[0], 1, DATA, 2 * SOME - 1);
	EXPECT_EQ(1, released(s->p[1]));

	iov[0] = (struct iovec) { anon.p, SOME };
	iov[1] = (struct iovec) { s->m + SOME, SOME };
	put(_metadata, s, iov, 2, SOME, SPLICE_F_NOTIFY);
	expect_data(_metadata, s->p[0], SOME - 1, DATA, 0);
	EXPECT_EQ(1, released(s->p[1]));
	expect_data(_metadata, s->p[0], 1, DATA, SOME - 1);
	EXPECT_EQ(2, released(s->p[1]));
	expect_data(_metadata, s->p[0], SOME, DATA, SOME);
	memory_unmap(&anon);
}

/* A mapping may be longer than its file: there is no page behind the end. */
TEST_F(dax, behind_end)
{
	struct state *s = &self->s;
	ssize_t end = 40 * s->page, off;

	ASSERT_EQ(0, ftruncate(s->mem.fd, end));
	for (off = end - 3 * s->page; off < end; off += SOME) {
		EXPECT_EQ(end - off, xvmsplice1(s->p[1], s->m + off,
						10 * s->page, 0));
		expect_data(_metadata, s->p[0], end - off, DATA, off);
	}
	EXPECT_EQ(-EFAULT, xvmsplice1(s->p[1], s->m + end, 10 * s->page, 0));
	EXPECT_EQ(0, pipe_bytes(s->p[0]));
}

/* A hole of the file is zeroes, and its data in the pipe stays zeroes. */
TEST_F(dax, hole)
{
	struct state *s = &self->s;
	char *buf = malloc(s->size);

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, ftruncate(s->mem.fd, 0));
	ASSERT_EQ(0, ftruncate(s->mem.fd, s->size));
	EXPECT_EQ(s->size, match_byte(s->m, s->size, 0));
	put1(_metadata, s, 0, s->size);
	fill_pattern(s->m, s->size, OTHER, 0);
	ASSERT_EQ(s->size, read_full(s->p[0], buf, s->size));
	EXPECT_EQ(s->size, match_byte(buf, s->size, 0));
	EXPECT_EQ(s->size, match_pattern(s->m, s->size, OTHER, 0));
	free(buf);
}

/* Changes of the file while its data is in a pipe. */

/*
 * The reader sees the data at the time of the call; on mainline it sees later
 * writes.
 */
TEST_F(shared, write_in_flight)
{
	struct state *s = &self->s;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	put1(_metadata, s, 0, s->size);
	fill_pattern(s->m, s->size, OTHER, 0);
	expect_data(_metadata, s->p[0], s->size, DATA, 0);
	expect_file(_metadata, s->mem.fd, s->size, OTHER, 0);
}

TEST_F(dax, file_write_in_flight)
{
	struct state *s = &self->s;

	if (!have_counters())
		SKIP(return, NO_COUNTERS);
	put1(_metadata, s, 0, s->size);
	ASSERT_EQ(0, lseek(s->mem.fd, 0, SEEK_SET));
	ASSERT_EQ(s->size, write_pattern(s->mem.fd, s->size, OTHER, 0));
	expect_data(_metadata, s->p[0], s->size, DATA, 0);
}

TEST_F_TIMEOUT(dax, truncate_in_flight, 120)
{
	struct state *s = &self->s;

	if (!have_counters())
		SKIP(return, WAITS_FOR_READER);
	put1(_metadata, s, 0, s->size);
	ASSERT_EQ(0, ftruncate(s->mem.fd, s->size / 2 + 1));
	ASSERT_EQ(0, ftruncate(s->mem.fd, 0));
	/* The blocks may be reused now. */
	ASSERT_EQ(0, lseek(s->mem.fd, 0, SEEK_SET));
	ASSERT_EQ(s->size, write_pattern(s->mem.fd, s->size, OTHER, 0));
	expect_data(_metadata, s->p[0], s->size, DATA, 0);
	/* The mapping shows the content of the file. */
	put1(_metadata, s, 0, s->size);
	expect_data(_metadata, s->p[0], s->size, OTHER, 0);
}

TEST_F_TIMEOUT(dax, punch_hole_in_flight, 120)
{
	static const int modes[] = {
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_COLLAPSE_RANGE,
	};
	struct state *s = &self->s;
	ssize_t half = s->size / 2;
	int i;

	if (!have_counters())
		SKIP(return, WAITS_FOR_READER);
	for (i = 0; i < ARRAY_LEN(modes); i++) {
		put1(_metadata, s, 0, s->size);
		ASSERT_EQ(0, fallocate(s->mem.fd, modes[i], 0, half));
		expect_data(_metadata, s->p[0], s->size, DATA, 0);
		if (modes[i] == FALLOC_FL_COLLAPSE_RANGE) {
			EXPECT_EQ(half, match_pattern(s->m, half, DATA, half));
			break;
		}
		EXPECT_EQ(half, match_byte(s->m, half, 0));
		ASSERT_EQ(0, lseek(s->mem.fd, 0, SEEK_SET));
		ASSERT_EQ(half, write_pattern(s->mem.fd, half, DATA, 0));
	}
}

/*
 * The file is deleted, its blocks are free, and the file system is unmounted.
 */
TEST_F(dax, close_in_flight)
{
	struct state *s = &self->s;

	if (!have_counters())
		SKIP(return, WAITS_FOR_READER);
	put1(_metadata, s, 0, s->size);
	memory_unmap(&s->mem);
	s->mem.area = NULL;
	ASSERT_EQ(NULL, dax_open(_metadata, &s->mem.fd));
	ASSERT_EQ(s->size, write_pattern(s->mem.fd, s->size, OTHER, 0));
	expect_data(_metadata, s->p[0], s->size, DATA, 0);
}

/* Truncates the file and writes it again until @stop is set. */
struct truncater {
	int fd;
	ssize_t size;
	bool stop;
	int rounds;
	pthread_t thread;
};

static void *truncater_run(void *data)
{
	struct truncater *t = data;
	char *buf = malloc(t->size);

	if (!buf)
		return NULL;
	fill_pattern(buf, t->size, DATA, 0);
	while (!__atomic_load_n(&t->stop, __ATOMIC_SEQ_CST)) {
		if (ftruncate(t->fd, 0) ||
		    pwrite(t->fd, buf, t->size, 0) != t->size)
			break;
		t->rounds++;
	}
	free(buf);
	return t->rounds ? t : NULL;
}

/*
 * The reader sees bytes of the file or zeroes of a hole, and no task waits
 * long.
 */
TEST_F(dax, truncate_race)
{
	struct state *s = &self->s;
	ssize_t len = SLOTS * s->page, ret, i;
	struct truncater t = { .fd = s->mem.fd, .size = len };
	struct timespec end, now;
	char *buf = malloc(len);
	int calls = 0;
	void *ok;

	if (!have_counters())
		SKIP(return, WAITS_FOR_READER);
	ASSERT_NE(NULL, buf);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += 2;
	ASSERT_EQ(0, pthread_create(&t.thread, NULL, truncater_run, &t));
	do {
		ret = xvmsplice1(s->p[1], s->m, len, 0);
		/* The file may have no page at this offset now. */
		ASSERT_TRUE(ret == -EFAULT || (ret > 0 && ret <= len)) {
			TH_LOG("vmsplice: %zd", ret);
		}
		if (ret > 0) {
			calls++;
			ASSERT_EQ(ret, read_full(s->p[0], buf, ret));
			for (i = 0; i < ret; i++)
				if (buf[i] && buf[i] != pattern_byte(DATA, i))
					break;
			ASSERT_EQ(ret, i);
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec);
	__atomic_store_n(&t.stop, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(t.thread, &ok));
	EXPECT_NE(NULL, ok);
	EXPECT_LT(0, calls);
	EXPECT_LT(0, t.rounds);
	EXPECT_EQ(0, pins_held());
	free(buf);
}

/* A page that was written to is anonymous memory, and referenced. */
TEST_F(private, written_pages)
{
	static const int written[] = { 0, 3, 4, 7 };
	struct state *s = &self->s;
	struct iovec iov = { s->m + 10, 8 * s->page };
	ssize_t referenced = 4 * s->page - 10;
	int i;

	for (i = 0; i < ARRAY_LEN(written); i++)
		fill_pattern(s->m + written[i] * s->page, s->page, DATA,
			     written[i] * s->page);
	put(_metadata, s, &iov, 1, referenced, 0);
	/* The reader sees later writes to it. */
	fill_pattern(s->m + 3 * s->page, 2 * s->page, OTHER, 3 * s->page);
	expect_data(_metadata, s->p[0], 3 * s->page - 10, DATA, 10);
	expect_data(_metadata, s->p[0], 2 * s->page, OTHER, 3 * s->page);
	expect_data(_metadata, s->p[0], 3 * s->page + 10, DATA, 5 * s->page);
	EXPECT_EQ(0, pins_held());
	expect_file(_metadata, s->mem.fd, s->size, DATA, 0);
}

/* truncate() does not wait for such pages, which do not belong to the file. */
TEST_F(private, truncate_written_pages)
{
	struct state *s = &self->s;
	struct iovec iov = { s->m, SLOTS * s->page };
	ssize_t len = iov.iov_len;

	fill_pattern(s->m, len, OTHER, 0);
	put(_metadata, s, &iov, 1, len, 0);
	ASSERT_EQ(0, ftruncate(s->mem.fd, 0));
	expect_data(_metadata, s->p[0], len, OTHER, 0);
	EXPECT_EQ(0, pins_held());
}

/*
 * The same for a page that is shared since a fork. The next write copies it,
 * and the pipe keeps the old page.
 */
TEST_F(private, after_fork)
{
	struct state *s = &self->s;
	ssize_t len = 3 * s->page;
	struct iovec iov = { s->m, len };
	int turn[2], status;
	pid_t pid;
	char c;

	make_pipe(_metadata, turn);
	fill_pattern(s->m, len, OTHER, 0);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(turn[1]);
		while (xread(turn[0], &c, 1))
			;
		_exit(match_pattern(s->m, len, OTHER, 0) != len);
	}
	put(_metadata, s, &iov, 1, len, 0);
	fill_pattern(s->m, len, THIRD, 0);
	expect_data(_metadata, s->p[0], len, OTHER, 0);
	close(turn[0]);
	close(turn[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * splice() copies data from the file on any kernel, and truncate() does not
 * wait.
 */
TEST_F(file, splice_from)
{
	struct state *s = &self->s;
	ssize_t len = s->size - SOME, referenced, copied;
	loff_t off = SOME;

	referenced = read_counter("bytes.file_to_pipe.referenced");
	copied = read_counter("bytes.file_to_pipe.copied");
	EXPECT_EQ(len, xsplice(s->mem.fd, &off, s->p[1], NULL, s->size, 0));
	EXPECT_EQ(s->size, off);
	EXPECT_EQ(len, pipe_bytes(s->p[0]));
	EXPECT_EQ(0, xsplice(s->mem.fd, &off, s->q[1], NULL, s->size, 0));
	if (have_counters()) {
		EXPECT_EQ(referenced,
			  read_counter("bytes.file_to_pipe.referenced"));
		EXPECT_EQ(copied + len,
			  read_counter("bytes.file_to_pipe.copied"));
	}
	ASSERT_EQ(0, ftruncate(s->mem.fd, 0));
	expect_data(_metadata, s->p[0], len, DATA, SOME);
}

/* Data from a pipe is written directly to the device. */
TEST_F(file, splice_to)
{
	struct state *s = &self->s;
	ssize_t page = s->page, referenced, copied;
	loff_t off = page + 10;
	char *buf;

	buf = alloc_pattern(_metadata, 10 * page, OTHER);
	referenced = read_counter("bytes.pipe_to_file.referenced");
	copied = read_counter("bytes.pipe_to_file.copied");
	ASSERT_EQ(10 * page, xvmsplice1(s->p[1], buf, 10 * page, 0));
	EXPECT_EQ(SOME, xsplice(s->p[0], NULL, s->mem.fd, &off, SOME, 0));
	EXPECT_EQ(page + 10 + SOME, off);
	EXPECT_EQ(10 * page - SOME, xsplice(s->p[0], NULL, s->mem.fd, &off,
					    s->size, 0));
	if (have_counters()) {
		EXPECT_EQ(referenced + 10 * page,
			  read_counter("bytes.pipe_to_file.referenced"));
		EXPECT_EQ(copied, read_counter("bytes.pipe_to_file.copied"));
	}
	EXPECT_EQ(0, pins_held());
	/* The mapping shows the data. */
	EXPECT_EQ(page + 10, match_pattern(s->m, page + 10, DATA, 0));
	EXPECT_EQ(10 * page, match_pattern(s->m + page + 10, 10 * page, OTHER,
					   0));
	EXPECT_EQ(page, match_pattern(s->m + 11 * page + 10, page, DATA,
				      11 * page + 10));

	/* From memory of the same file, for which mainline would wait. */
	if (have_counters()) {
		off = 0;
		put1(_metadata, s, 20 * page, 4 * page);
		ASSERT_EQ(0, ftruncate(s->mem.fd, 0));
		EXPECT_EQ(4 * page, xsplice(s->p[0], NULL, s->mem.fd, &off,
					    s->size, 0));
		EXPECT_EQ(4 * page, match_pattern(s->m, 4 * page, DATA,
						  20 * page));
	}
	free(buf);
}

/* vmsplice() from a pipe into memory on DAX. */
TEST_F(file, vmsplice_to)
{
	struct state *s = &self->s;
	ssize_t len = 3 * s->page;

	ASSERT_EQ(len, write_pattern(s->p[1], len, OTHER, 0));
	ASSERT_EQ(len, xvmsplice1(s->p[0], s->m + 10, len, 0));
	EXPECT_EQ(len, match_pattern(s->m + 10, len, OTHER, 0));
	ASSERT_EQ(10, lseek(s->mem.fd, 10, SEEK_SET));
	expect_data(_metadata, s->mem.fd, len, OTHER, 0);
	expect_data(_metadata, s->mem.fd, s->page, DATA, len + 10);
}

TEST_F(file, sendfile)
{
	struct state *s = &self->s;
	int file = make_file(_metadata, "/tmp"), back;
	ssize_t len = s->size - SOME;
	char *buf = malloc(len);
	loff_t off = SOME;
	struct job job;
	int sv[2];

	ASSERT_NE(NULL, buf);
	EXPECT_EQ(len, xsendfile(file, s->mem.fd, &off, s->size));
	EXPECT_EQ(s->size, off);
	EXPECT_EQ(0, xsendfile(file, s->mem.fd, &off, s->size));
	expect_file(_metadata, file, len, DATA, SOME);

	make_tcp_pair(_metadata, sv);
	job = job_reader(sv[1], buf, len);
	job_start(_metadata, &job);
	ASSERT_EQ(SOME, lseek(s->mem.fd, SOME, SEEK_SET));
	EXPECT_EQ(len, xsendfile(sv[0], s->mem.fd, NULL, len));
	EXPECT_EQ(s->size, lseek(s->mem.fd, 0, SEEK_CUR));
	EXPECT_EQ(len, job_finish(_metadata, &job));
	EXPECT_EQ(len, match_pattern(buf, len, DATA, SOME));

	/* And back into a pipe, where it is copied again. */
	back = reopen(_metadata, s->mem.fd, O_WRONLY);
	off = 0;
	EXPECT_EQ(len, xsendfile(back, file, &off, s->size));
	EXPECT_EQ(len, match_pattern(s->m, len, DATA, SOME));
	free(buf);
}

TEST_F(file, copy_file_range)
{
	struct state *s = &self->s;
	ssize_t len = 10 * s->page;
	loff_t in = SOME, out = s->size;

	EXPECT_EQ(len, xcopy_file_range(s->mem.fd, &in, s->mem.fd, &out, len,
					0));
	EXPECT_EQ(SOME + len, in);
	EXPECT_EQ(s->size + len, out);
	ASSERT_EQ(s->size, lseek(s->mem.fd, s->size, SEEK_SET));
	expect_data(_metadata, s->mem.fd, len, DATA, SOME);
}

TEST_HARNESS_MAIN
