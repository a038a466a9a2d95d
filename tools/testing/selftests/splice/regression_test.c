// SPDX-License-Identifier: GPL-2.0
/*
 * Bugs that splice, tee, vmsplice and sendfile have had. Each test fails on a
 * kernel that has the bug that it names.
 */
#include "splice_common.h"

#include <linux/fs.h>
#include <sys/fsuid.h>
#include <sys/resource.h>
#include <sys/time.h>

/* Data of more than one page, with a partly filled last page. */
#define SOME 5000

/* Seeds: of the spliced data, and of data that must not mix with it. */
#define DATA 1
#define OTHER 2

/* Slots of a pipe of the default size. */
#define SLOTS 16

/* The ways in which a page that does not belong to the pipe gets into it. */
enum way {
	BY_SPLICE,
	BY_SENDFILE,
	BY_TEE,
	BY_PIPE,		/* from another pipe, as a whole buffer */
	BY_SPLIT,		/* from another pipe, as a part of a buffer */
	BY_VMSPLICE,
	BY_GIFT,
	BY_TCP,
	BY_UNIX,
};

FIXTURE(foreign_page) {
	int file;		/* open for reading only */
	int p[2];
	int q[2];
	int sv[2];
	char *map;
};

FIXTURE_VARIANT(foreign_page) {
	enum end_kind kind;
	enum way way;
};

FIXTURE_VARIANT_ADD(foreign_page, ext4_splice) {
	.kind = END_EXT4,
	.way = BY_SPLICE,
};

FIXTURE_VARIANT_ADD(foreign_page, tmpfs_splice) {
	.kind = END_TMPFS,
	.way = BY_SPLICE,
};

FIXTURE_VARIANT_ADD(foreign_page, ext4_sendfile) {
	.kind = END_EXT4,
	.way = BY_SENDFILE,
};

FIXTURE_VARIANT_ADD(foreign_page, tmpfs_sendfile) {
	.kind = END_TMPFS,
	.way = BY_SENDFILE,
};

FIXTURE_VARIANT_ADD(foreign_page, ext4_tee) {
	.kind = END_EXT4,
	.way = BY_TEE,
};

FIXTURE_VARIANT_ADD(foreign_page, ext4_pipe) {
	.kind = END_EXT4,
	.way = BY_PIPE,
};

FIXTURE_VARIANT_ADD(foreign_page, ext4_split) {
	.kind = END_EXT4,
	.way = BY_SPLIT,
};

FIXTURE_VARIANT_ADD(foreign_page, ext4_vmsplice) {
	.kind = END_EXT4,
	.way = BY_VMSPLICE,
};

FIXTURE_VARIANT_ADD(foreign_page, tmpfs_vmsplice) {
	.kind = END_TMPFS,
	.way = BY_VMSPLICE,
};

FIXTURE_VARIANT_ADD(foreign_page, ext4_gift) {
	.kind = END_EXT4,
	.way = BY_GIFT,
};

FIXTURE_VARIANT_ADD(foreign_page, ext4_tcp) {
	.kind = END_EXT4,
	.way = BY_TCP,
};

FIXTURE_VARIANT_ADD(foreign_page, ext4_unix_stream) {
	.kind = END_EXT4,
	.way = BY_UNIX,
};

FIXTURE_SETUP(foreign_page)
{
	const char *missing = end_missing(variant->kind);
	int fd;

	if (missing)
		SKIP(return, "%s is not set", missing);
	fd = make_file(_metadata, end_dir(_metadata, variant->kind));
	ASSERT_EQ(SOME, write_pattern(fd, SOME, DATA, 0));
	self->file = reopen(_metadata, fd, O_RDONLY);
	close(fd);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	if (variant->way == BY_TCP)
		make_tcp_pair(_metadata, self->sv);
	if (variant->way == BY_UNIX)
		make_unix_pair(_metadata, self->sv);
	self->map = mmap(NULL, SOME, PROT_READ, MAP_SHARED, self->file, 0);
	ASSERT_NE(MAP_FAILED, self->map);
}

FIXTURE_TEARDOWN(foreign_page)
{
}

/*
 * Puts bytes [@pos, @pos + @len) of the file into pipe p, in the variant's way.
 */
static ssize_t put(struct _test_data_foreign_page *self, enum way way, loff_t pos,
		   ssize_t len)
{
	ssize_t more = way == BY_SPLIT, ret;

	switch (way) {
	case BY_SPLICE:
		return xsplice(self->file, &pos, self->p[1], NULL, len, 0);
	case BY_SENDFILE:
		return xsendfile(self->p[1], self->file, &pos, len);
	case BY_VMSPLICE:
		return xvmsplice1(self->p[1], self->map + pos, len, 0);
	case BY_GIFT:
		return xvmsplice1(self->p[1], self->map + pos, len,
				  SPLICE_F_GIFT);
	default:
		break;
	}

	ret = xsplice(self->file, &pos, self->q[1], NULL, len + more, 0);
	if (ret != len + more)
		return ret;
	switch (way) {
	case BY_TEE:
		ret = xtee(self->q[0], self->p[1], len, 0);
		return ret == len ? read_pattern(self->q[0], len, DATA,
						 pos - len) : ret;
	case BY_TCP:
	case BY_UNIX:
		ret = splice_full(self->q[0], self->sv[0], len);
		return ret == len ? splice_full(self->sv[1], self->p[1], len) :
				    ret;
	default:
		ret = splice_full(self->q[0], self->p[1], len);
		if (more)
			read_pattern(self->q[0], more, DATA, pos - more);
		return ret;
	}
}

/* Uses every slot of the ring once for a buffer of write(). */
static void use_slots(struct __test_metadata *_metadata, int p[2])
{
	ssize_t capacity = fill_pipe(_metadata, p[1], OTHER);

	ASSERT_EQ(capacity, read_pattern(p[0], capacity, OTHER, 0));
}

static void check_file(struct __test_metadata *_metadata, int file)
{
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(SOME, read_pattern(file, SOME, DATA, 0));
}

/*
 * CVE-2022-0847: the slot kept the flag of an earlier buffer, so that a write
 * to the pipe was merged into the page cache.
 */
TEST_F(foreign_page, write_is_not_merged)
{
	int i;

	use_slots(_metadata, self->p);
	use_slots(_metadata, self->q);
	for (i = 0; i < 2 * SLOTS; i++) {
		ASSERT_EQ(1, put(self, variant->way, i, 1));
		ASSERT_EQ(100, write_pattern(self->p[1], 100, OTHER, 0));
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, i));
		ASSERT_EQ(100, read_pattern(self->p[0], 100, OTHER, 0));
	}
	check_file(_metadata, self->file);
}

/* The same after the buffer moved as a whole, which keeps its flags. */
TEST_F(foreign_page, moved_is_not_merged)
{
	int r[2], i;

	make_pipe(_metadata, r);
	use_slots(_metadata, r);
	use_slots(_metadata, self->p);
	for (i = 0; i < SLOTS; i++) {
		ASSERT_EQ(1, put(self, variant->way, i, 1));
		ASSERT_EQ(1, xsplice(self->p[0], NULL, r[1], NULL, 1, 0));
		ASSERT_EQ(100, write_pattern(r[1], 100, OTHER, 0));
		ASSERT_EQ(1, read_pattern(r[0], 1, DATA, i));
		ASSERT_EQ(100, read_pattern(r[0], 100, OTHER, 0));
	}
	check_file(_metadata, self->file);
}

/*
 * A packet flag left over from an earlier buffer would drop the rest of a
 * read().
 */
TEST_F(foreign_page, is_no_packet)
{
	int flags = fcntl(self->p[1], F_GETFL), i;

	ASSERT_LE(0, flags);
	ASSERT_EQ(0, fcntl(self->p[1], F_SETFL, flags | O_DIRECT));
	for (i = 0; i < SLOTS; i++) {
		ASSERT_EQ(10, write_pattern(self->p[1], 10, OTHER, 0));
		ASSERT_EQ(10, read_pattern(self->p[0], 10, OTHER, 0));
	}
	ASSERT_EQ(0, fcntl(self->p[1], F_SETFL, flags));

	for (i = 0; i < SLOTS; i++) {
		ASSERT_EQ(30, put(self, variant->way, i, 30));
		ASSERT_EQ(10, read_pattern(self->p[0], 10, DATA, i));
		ASSERT_EQ(20, pipe_bytes(self->p[0]));
		ASSERT_EQ(20, read_pattern(self->p[0], 20, DATA, i + 10));
	}
}

/*
 * A page of the file that is spliced to another file still belongs to the
 * first.
 */
TEST_F(foreign_page, copy_is_independent)
{
	int copy = make_file(_metadata, end_dir(_metadata, variant->kind));
	char buf[100];

	ASSERT_EQ(4096, put(self, variant->way, 0, 4096));
	ASSERT_EQ(4096, splice_full(self->p[0], copy, 4096));
	fill_pattern(buf, sizeof(buf), OTHER, 0);
	ASSERT_EQ(100, pwrite(copy, buf, 100, 0));
	check_file(_metadata, self->file);
}

/*
 * CVE-2014-7822 (file size limit), CVE-2008-4554 (O_APPEND) and others: a
 * splice to a file skipped checks that write() makes.
 */
FIXTURE(target) {
	int fd;
	int source;		/* contains SOME bytes of data */
	int p[2];		/* contains the same data */
};

FIXTURE_VARIANT(target) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(target, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(target, tmpfs) {
	.kind = END_TMPFS,
};

static void open_target(struct __test_metadata *_metadata,
			struct _test_data_target *self, enum end_kind kind)
{
	const char *dir = end_dir(_metadata, kind);

	self->fd = make_file(_metadata, dir);
	self->source = make_file(_metadata, dir);
	ASSERT_EQ(SOME, write_pattern(self->source, SOME, DATA, 0));
	make_pipe(_metadata, self->p);
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
}

FIXTURE_SETUP(target)
{
	const char *missing = end_missing(variant->kind);

	if (missing)
		SKIP(return, "%s is not set", missing);
	open_target(_metadata, self, variant->kind);
}

FIXTURE_TEARDOWN(target)
{
}

static void check_pipe(struct __test_metadata *_metadata, int p[2])
{
	EXPECT_EQ(SOME, pipe_bytes(p[0]));
	EXPECT_EQ(SOME, read_pattern(p[0], SOME, DATA, 0));
}

/* Nor if O_APPEND is set on an open descriptor. */
TEST_F(target, append)
{
	int flags = fcntl(self->fd, F_GETFL);
	loff_t off = 0;

	ASSERT_EQ(10, write_pattern(self->fd, 10, OTHER, 0));
	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, flags | O_APPEND));
	EXPECT_EQ(-EINVAL, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	EXPECT_EQ(-EINVAL, xsplice(self->p[0], NULL, self->fd, &off, SOME, 0));
	EXPECT_EQ(0, off);
	EXPECT_EQ(-EINVAL, xsendfile(self->fd, self->source, &off, SOME));
	EXPECT_EQ(0, off);
	EXPECT_EQ(10, lseek(self->fd, 0, SEEK_END));

	ASSERT_EQ(0, fcntl(self->fd, F_SETFL, flags));
	EXPECT_EQ(SOME, xsplice(self->p[0], NULL, self->fd, NULL, SOME, 0));
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(10, read_pattern(self->fd, 10, OTHER, 0));
	EXPECT_EQ(SOME, read_pattern(self->fd, SOME, DATA, 0));
}

/* Writing to a set-user-ID file clears that bit. */
TEST_F(target, removes_suid)
{
	struct stat st;
	loff_t off = 0;
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, fchmod(self->fd, 06777));
		/* Write as another user, who has no CAP_FSETID. */
		setfsuid(65534);
		EXPECT_EQ(100, i ? xsendfile(self->fd, self->source, &off, 100) :
				   xsplice(self->p[0], NULL, self->fd, NULL,
					   100, 0));
		setfsuid(0);
		ASSERT_EQ(0, fstat(self->fd, &st));
		EXPECT_EQ(0777, st.st_mode & 07777);
	}
}

/*
 * Data that a short write leaves in the task's internal pipe is not sent later.
 */
TEST_F(target, sendfile_leaves_no_rest)
{
	struct rlimit limit = { .rlim_cur = 1000, .rlim_max = RLIM_INFINITY };
	loff_t off = 0;
	int q[2];

	make_pipe(_metadata, q);
	catch_signal(_metadata, SIGXFSZ, 0);
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &limit));
	EXPECT_EQ(1000, xsendfile(self->fd, self->source, &off, SOME));
	EXPECT_EQ(1000, off);
	EXPECT_EQ(-EFBIG, xsendfile(self->fd, self->source, &off, SOME));
	EXPECT_EQ(1000, off);
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(100, xsendfile(self->fd, self->source, &off, 100));
	EXPECT_EQ(1100, off);
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(100, read_pattern(self->fd, 100, DATA, 1000));
	EXPECT_EQ(900, read_pattern(self->fd, 900, DATA, 100));
}

/*
 * There is no data after i_size, although the last page continues: the rest of
 * the page in a mapping must not be visible to others (similar to
 * CVE-2009-1961).
 */
TEST_F(target, nothing_past_size)
{
	ssize_t page = page_size();
	char *map, *buf = malloc(2 * page);
	loff_t off = 0;
	int q[2];

	ASSERT_NE(NULL, buf);
	make_pipe(_metadata, q);
	map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED,
		   self->source, 0);
	ASSERT_NE(MAP_FAILED, map);
	memset(map + SOME, 'x', 2 * page - SOME);

	EXPECT_EQ(SOME, xsplice(self->source, &off, q[1], NULL, 2 * page, 0));
	EXPECT_EQ(0, xsplice(self->source, &off, q[1], NULL, 2 * page, 0));
	EXPECT_EQ(SOME, read_pattern(q[0], SOME, DATA, 0));
	off = 0;
	EXPECT_EQ(SOME, xsendfile(q[1], self->source, &off, 2 * page));
	EXPECT_EQ(SOME, off);
	EXPECT_EQ(SOME, pipe_bytes(q[0]));
	EXPECT_EQ(SOME, read_pattern(q[0], SOME, DATA, 0));

	/*
	 * After a splice behind the old end, the gap is a hole; not so on
	 * tmpfs.
	 */
	if (variant->kind == END_TMPFS)
		goto out;
	off = 2 * page;
	ASSERT_EQ(10, xsplice(self->p[0], NULL, self->source, &off, 10, 0));
	ASSERT_EQ(2 * page, pread(self->source, buf, 2 * page, 0));
	EXPECT_EQ(SOME, match_pattern(buf, SOME, DATA, 0));
	EXPECT_EQ(2 * page - SOME,
		  match_byte(buf + SOME, 2 * page - SOME, 0));
out:
	free(buf);
}

/*
 * A page keeps its data when it is removed from the file; the cut part is
 * zeroed.
 */
TEST_F(target, truncated_in_flight)
{
	ssize_t page = page_size();
	char *buf = malloc(page);
	loff_t off = 0;
	int q[2];

	ASSERT_NE(NULL, buf);
	make_pipe(_metadata, q);
	ASSERT_EQ(SOME, xsplice(self->source, &off, q[1], NULL, SOME, 0));
	ASSERT_EQ(0, ftruncate(self->source, 100));
	ASSERT_EQ(SOME, pipe_bytes(q[0]));
	EXPECT_EQ(SOME, xsplice(q[0], NULL, self->fd, NULL, SOME, 0));
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(100, read_pattern(self->fd, 100, DATA, 0));
	EXPECT_EQ(page - 100, read_full(self->fd, buf, page - 100));
	EXPECT_EQ(page - 100, match_byte(buf, page - 100, 0));
	EXPECT_EQ(SOME - page, read_full(self->fd, buf, SOME - page));
	free(buf);
}

/* A signal ends a long sendfile(), which returns the number of bytes sent. */
TEST_F(target, sendfile_interrupted)
{
	struct itimerval every = { { 0, 20000 }, { 0, 20000 } };
	int null = open("/dev/null", O_WRONLY);
	ssize_t all = 0x7ffff000, ret;
	loff_t off;

	ASSERT_LE(0, null);
	ASSERT_EQ(0, ftruncate(self->source, 3LL << 30));
	catch_signal(_metadata, SIGALRM, 0);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &every, NULL));
	/* The signal may arrive between two calls: then another one follows. */
	do {
		off = 0;
		ret = xsendfile(null, self->source, &off, all);
	} while (ret == all || ret == -EINTR);
	EXPECT_LT(0, ret);
	EXPECT_GT(all, ret);
	EXPECT_EQ(ret, off);
}

/* Checks of ext4 that tmpfs does not have. */
FIXTURE(target_ext4) {
	FIXTURE_DATA(target) target;
};

FIXTURE_SETUP(target_ext4)
{
	const char *missing = end_missing(END_EXT4);

	if (missing)
		SKIP(return, "%s is not set", missing);
	open_target(_metadata, &self->target, END_EXT4);
}

FIXTURE_TEARDOWN(target_ext4)
{
}

static loff_t largest_offset(int fd)
{
	loff_t off = 0, step;

	for (step = 1LL << 60; step; step /= 2)
		if (lseek(fd, off + step, SEEK_SET) >= 0)
			off += step;
	return off;
}

TEST_F(target_ext4, beyond_maximum_size)
{
	struct _test_data_target *t = &self->target;
	loff_t off = 1LL << 60, in = 0;
	struct stat st;

	EXPECT_EQ(-EFBIG, xsplice(t->p[0], NULL, t->fd, &off, SOME, 0));
	EXPECT_EQ(1LL << 60, off);

	/* At the maximum file size, the part that fits is written. */
	off = largest_offset(t->fd);
	ASSERT_GT(1LL << 60, off);
	ASSERT_LE(0, lseek(t->fd, off - 10, SEEK_SET));
	EXPECT_EQ(10, xsendfile(t->fd, t->source, &in, SOME));
	EXPECT_EQ(10, in);
	EXPECT_EQ(-EFBIG, xsendfile(t->fd, t->source, &in, SOME));
	EXPECT_EQ(10, in);
	ASSERT_EQ(0, fstat(t->fd, &st));
	EXPECT_EQ(off, st.st_size);
	check_pipe(_metadata, t->p);
}

static int set_inode_flags(int fd, int flags)
{
	return ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

/* An immutable file cannot be written to by an open descriptor either. */
TEST_F(target_ext4, immutable)
{
	struct _test_data_target *t = &self->target;
	loff_t off = 0;
	int ret[2];

	ASSERT_EQ(0, set_inode_flags(t->fd, FS_IMMUTABLE_FL));
	ret[0] = xsplice(t->p[0], NULL, t->fd, NULL, SOME, 0);
	ret[1] = xsendfile(t->fd, t->source, &off, SOME);
	ASSERT_EQ(0, set_inode_flags(t->fd, 0));

	EXPECT_EQ(-EPERM, ret[0]);
	EXPECT_EQ(-EPERM, ret[1]);
	EXPECT_EQ(0, off);
	EXPECT_EQ(0, lseek(t->fd, 0, SEEK_END));
	check_pipe(_metadata, t->p);
}

/* Memory that a process must not access: CVE-2008-0009, -0010 and -0600. */
FIXTURE(addresses) {
	ssize_t page;
	char *mem;
	int p[2];		/* contains SOME bytes of data */
	int q[2];		/* empty */
};

FIXTURE_SETUP(addresses)
{
	self->page = page_size();
	self->mem = mmap(NULL, 2 * self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
}

FIXTURE_TEARDOWN(addresses)
{
}

/* The kernel's half of the address space, and its edges. */
static void *const forbidden[] = {
	(void *)(1UL << (8 * sizeof(long) - 1)),
	(void *)-1UL,
	(void *)-4096UL,
	(void *)-8192UL,
#ifdef __x86_64__
	(void *)0x00007ffffffff000UL,
	(void *)0x0000800000000000UL,
	(void *)0xffff800000000000UL,
	(void *)0xffff888000000000UL,
	(void *)0xffffea0000000000UL,
	(void *)0xffffffff81000000UL,
#endif
};

TEST_F(addresses, vmsplice)
{
	struct iovec iov[2];
	int i;

	for (i = 0; i < ARRAY_LEN(forbidden); i++) {
		/*
		 * From this address into a pipe, and from a pipe to this
		 * address.
		 */
		EXPECT_EQ(-EFAULT, xvmsplice1(self->q[1], forbidden[i], 100,
					      0));
		EXPECT_EQ(-EFAULT, xvmsplice1(self->q[1], forbidden[i], 100,
					      SPLICE_F_GIFT));
		EXPECT_EQ(-EFAULT, xvmsplice1(self->p[0], forbidden[i], 100,
					      0));
		/* The same as the second of two ranges. */
		iov[0] = (struct iovec) { self->mem, 100 };
		iov[1] = (struct iovec) { forbidden[i], 100 };
		EXPECT_GE(100, xvmsplice(self->q[1], iov, 2, 0));
		read_full(self->q[0], self->mem, pipe_bytes(self->q[0]));
		/* The address of the iovec itself. */
		EXPECT_EQ(-EFAULT, xvmsplice(self->q[1], forbidden[i], 1, 0));
		EXPECT_EQ(-EFAULT, xvmsplice(self->p[0], forbidden[i], 2, 0));
	}
	EXPECT_EQ(0, pipe_bytes(self->q[0]));
	check_pipe(_metadata, self->p);
}

/* Lengths that wrap around, from which the kernel once computed 0 pages. */
TEST_F(addresses, vmsplice_length)
{
	static const size_t lengths[] = {
		-1UL, -4096UL, 1UL << (8 * sizeof(long) - 1),
	};
	int i;

	for (i = 0; i < ARRAY_LEN(lengths); i++) {
		EXPECT_EQ(-EINVAL, xvmsplice1(self->q[1], self->mem, lengths[i],
					      0));
		EXPECT_EQ(-EINVAL, xvmsplice1(self->p[0], self->mem, lengths[i],
					      0));
	}
	/* From here to the end of the address space, and no further. */
	EXPECT_EQ(-EFAULT, xvmsplice1(self->q[1], (void *)-4096UL,
				      LONG_MAX, 0));
	EXPECT_EQ(-EFAULT, xvmsplice1(self->p[0], (void *)-4096UL,
				      LONG_MAX, 0));
	EXPECT_EQ(0, pipe_bytes(self->q[0]));
	check_pipe(_metadata, self->p);
}

TEST_F(addresses, offsets)
{
	int zero = open("/dev/zero", O_RDONLY);
	int null = open("/dev/null", O_WRONLY);
	int i;

	ASSERT_LE(0, zero);
	ASSERT_LE(0, null);
	for (i = 0; i < ARRAY_LEN(forbidden); i++) {
		EXPECT_EQ(-EFAULT, xsplice(zero, forbidden[i], self->q[1],
					   NULL, 100, 0));
		EXPECT_EQ(-EFAULT, xsplice(self->p[0], NULL, null,
					   forbidden[i], 100, 0));
		EXPECT_EQ(-EFAULT, xsendfile(null, zero, forbidden[i], 100));
	}
	EXPECT_EQ(0, pipe_bytes(self->q[0]));
	check_pipe(_metadata, self->p);
}

/*
 * A pipe cannot be read into read-only memory, even if others may write to it.
 */
TEST_F(addresses, read_only)
{
	ASSERT_EQ(0, mprotect(self->mem, self->page, PROT_READ));
	EXPECT_EQ(-EFAULT, xvmsplice1(self->p[0], self->mem, SOME, 0));
	ASSERT_EQ(0, mprotect(self->mem, self->page, PROT_NONE));
	EXPECT_EQ(-EFAULT, xvmsplice1(self->p[0], self->mem, SOME, 0));
	EXPECT_EQ(-EFAULT, xvmsplice1(self->q[1], self->mem, SOME, 0));
	check_pipe(_metadata, self->p);
}

/*
 * CVE-2019-11487: tee() took references without a limit. The limit itself takes
 * too much memory to reach; more references than 16 bits can count must work.
 */
TEST_F_TIMEOUT(addresses, many_references, 120)
{
	ssize_t slots = 256, got;
	int i, p[2], q[260][2];
	char *buf = malloc(slots);

	ASSERT_NE(NULL, buf);
	make_pipe(_metadata, p);
	ASSERT_EQ(slots * self->page,
		  fcntl(p[1], F_SETPIPE_SZ, slots * self->page));
	self->mem[0] = 'a';
	self->mem[1] = 'z';
	for (i = 0; i < slots; i++)
		ASSERT_EQ(1, xvmsplice1(p[1], self->mem, 1, 0));
	for (i = 0; i < ARRAY_LEN(q); i++) {
		make_pipe(_metadata, q[i]);
		ASSERT_EQ(slots * self->page,
			  fcntl(q[i][1], F_SETPIPE_SZ, slots * self->page));
		ASSERT_EQ(slots, xtee(p[0], q[i][1], slots, 0));
	}

	/* All of them refer to the same page. */
	self->mem[0] = 'b';
	for (i = 0; i < ARRAY_LEN(q); i++) {
		got = read_full(q[i][0], buf, slots);
		ASSERT_EQ(slots, got);
		ASSERT_EQ(slots, match_byte(buf, slots, 'b'));
		close(q[i][0]);
		close(q[i][1]);
	}
	EXPECT_EQ(slots, read_full(p[0], buf, slots));
	EXPECT_EQ('b', self->mem[0]);
	EXPECT_EQ('z', self->mem[1]);
	free(buf);
}

/*
 * CVE-2020-29374: a child that holds a page by vmsplice() must not see later
 * writes of its parent.
 */
FIXTURE(parent) {
	ssize_t size;
	char *mem;
	int p[2];
};

FIXTURE_VARIANT(parent) {
	bool huge;
};

FIXTURE_VARIANT_ADD(parent, page) {
	.huge = false,
};

FIXTURE_VARIANT_ADD(parent, transparent_huge_page) {
	.huge = true,
};

FIXTURE_SETUP(parent)
{
	ssize_t align = variant->huge ? 2 << 20 : page_size();
	char *mem;

	self->size = page_size();
	mem = mmap(NULL, 2 * align, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	self->mem = (char *)(((unsigned long)mem + align - 1) & -align);
	if (variant->huge && madvise(self->mem, align, MADV_HUGEPAGE))
		SKIP(return, "no transparent huge pages");
	fill_pattern(self->mem, self->size, DATA, 0);
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(parent)
{
}

TEST_F(parent, does_not_leak_to_child)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (xvmsplice1(self->p[1], self->mem, self->size, 0) !=
		    self->size)
			_exit(1);
		/*
		 * Unmap the memory, so that only the pipe refers to the page.
		 */
		if (munmap(self->mem, variant->huge ? 2 << 20 : self->size))
			_exit(2);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	fill_pattern(self->mem, self->size, OTHER, 0);
	EXPECT_EQ(self->size, read_pattern(self->p[0], self->size, DATA, 0));
	EXPECT_EQ(self->size, match_pattern(self->mem, self->size, OTHER, 0));
}

/* The opposite case: the parent has spliced, and the child writes. */
TEST_F(parent, does_not_see_child)
{
	int status;
	pid_t pid;

	ASSERT_EQ(self->size, xvmsplice1(self->p[1], self->mem, self->size, 0));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		fill_pattern(self->mem, self->size, OTHER, 0);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(self->size, match_pattern(self->mem, self->size, DATA, 0));
	EXPECT_EQ(self->size, read_pattern(self->p[0], self->size, DATA, 0));
}

/*
 * Memory that SPLICE_F_GIFT gave to a file system no longer belongs to the
 * giver.
 */
TEST_F(parent, gift_is_not_shared)
{
	const char *missing = end_missing(END_TMPFS);
	int file;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	ASSERT_EQ(self->size, xvmsplice1(self->p[1], self->mem, self->size,
					 SPLICE_F_GIFT));
	ASSERT_EQ(self->size, xsplice(self->p[0], NULL, file, NULL, self->size,
				      SPLICE_F_MOVE));
	fill_pattern(self->mem, self->size, OTHER, 0);
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(self->size, read_pattern(file, self->size, DATA, 0));
}

/*
 * A caller that does not want to wait must not wait for a pipe that splice has
 * locked: after a splice, the file description refuses RWF_NOWAIT.
 */
FIXTURE(nowait) {
	int p[2];
	int q[2];
	char buf[16];
	struct iovec iov;
};

FIXTURE_SETUP(nowait)
{
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	self->iov = (struct iovec) { self->buf, sizeof(self->buf) };
}

FIXTURE_TEARDOWN(nowait)
{
}

static ssize_t read_nowait(struct _test_data_nowait *self, int fd)
{
	return or_errno(preadv2(fd, &self->iov, 1, -1, RWF_NOWAIT));
}

static ssize_t write_nowait(struct _test_data_nowait *self, int fd)
{
	return or_errno(pwritev2(fd, &self->iov, 1, -1, RWF_NOWAIT));
}

TEST_F(nowait, splice)
{
	EXPECT_EQ(-EAGAIN, read_nowait(self, self->p[0]));
	EXPECT_EQ(16, write_nowait(self, self->p[1]));
	EXPECT_EQ(16, xsplice(self->p[0], NULL, self->q[1], NULL, 16, 0));
	EXPECT_EQ(-EOPNOTSUPP, read_nowait(self, self->p[0]));
	EXPECT_EQ(-EOPNOTSUPP, write_nowait(self, self->q[1]));
	/* No splice has used the other ends. */
	EXPECT_EQ(16, read_nowait(self, self->q[0]));
	EXPECT_EQ(16, write_nowait(self, self->p[1]));
}

TEST_F(nowait, vmsplice)
{
	EXPECT_EQ(16, xvmsplice(self->p[1], &self->iov, 1, 0));
	EXPECT_EQ(-EOPNOTSUPP, write_nowait(self, self->p[1]));
	EXPECT_EQ(16, xvmsplice(self->p[0], &self->iov, 1, 0));
	EXPECT_EQ(-EOPNOTSUPP, read_nowait(self, self->p[0]));
}

TEST_F(nowait, failed_splice)
{
	EXPECT_EQ(-EAGAIN, xsplice(self->p[0], NULL, self->q[1], NULL, 16,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EOPNOTSUPP, read_nowait(self, self->p[0]));
	EXPECT_EQ(-EOPNOTSUPP, write_nowait(self, self->q[1]));
}

/* tee() and sendfile() do not change the file descriptions. */
TEST_F(nowait, tee_and_sendfile)
{
	const char *missing = end_missing(END_TMPFS);
	int file;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	ASSERT_EQ(16, write_pattern(file, 16, DATA, 0));
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(16, xsendfile(self->p[1], file, NULL, 16));
	EXPECT_EQ(16, write_nowait(self, self->p[1]));
	EXPECT_EQ(32, xtee(self->p[0], self->q[1], 100, 0));
	EXPECT_EQ(16, write_nowait(self, self->q[1]));
	EXPECT_EQ(16, read_nowait(self, self->p[0]));
}

/* A hole in a file is the zero page, which all processes share. */
TEST(zero_page_is_not_written)
{
	const char *missing = end_missing(END_TMPFS);
	ssize_t page = page_size();
	int file, p[2], i;
	loff_t off = 0;
	char *mem;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	ASSERT_EQ(0, ftruncate(file, SLOTS * page));
	make_pipe(_metadata, p);
	use_slots(_metadata, p);
	for (i = 0; i < SLOTS; i++) {
		ASSERT_EQ(1, xsplice(file, &off, p[1], NULL, 1, 0));
		ASSERT_EQ(100, write_pattern(p[1], 100, OTHER, 0));
		ASSERT_EQ(1, xread(p[0], &(char){ 0 }, 1));
		ASSERT_EQ(100, read_pattern(p[0], 100, OTHER, 0));
	}
	mem = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(page, match_byte(mem, page, 0));
}

/* splice() does not write to a memfd that is sealed against writing. */
FIXTURE(sealed) {
	int fd;			/* contains two pages of other data */
	int p[2];		/* contains SOME bytes of data */
	ssize_t size;
};

FIXTURE_SETUP(sealed)
{
	self->fd = memfd_create("splice", MFD_ALLOW_SEALING);
	if (self->fd < 0)
		SKIP(return, "no memfd_create()");
	self->size = 2 * page_size();
	ASSERT_EQ(self->size, write_pattern(self->fd, self->size, OTHER, 0));
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	make_pipe(_metadata, self->p);
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
}

FIXTURE_TEARDOWN(sealed)
{
}

static int add_seals(int fd, int seals)
{
	return or_errno(fcntl(fd, F_ADD_SEALS, seals));
}

TEST_F(sealed, write)
{
	static const int seals[] = { F_SEAL_FUTURE_WRITE, F_SEAL_WRITE };
	int source = memfd_create("source", 0), i;
	loff_t off;

	ASSERT_EQ(SOME, write_pattern(source, SOME, DATA, 0));
	for (i = 0; i < ARRAY_LEN(seals); i++) {
		ASSERT_EQ(0, add_seals(self->fd, seals[i]));
		off = 0;
		EXPECT_EQ(-EPERM, xsplice(self->p[0], NULL, self->fd, &off,
					  SOME, 0));
		EXPECT_EQ(-EPERM, xsplice(self->p[0], NULL, self->fd, NULL,
					  SOME, SPLICE_F_MOVE));
		EXPECT_EQ(-EPERM, xsendfile(self->fd, source, &off, SOME));
		EXPECT_EQ(0, off);
		EXPECT_EQ(-EPERM, xcopy_file_range(source, &off, self->fd,
						   NULL, SOME, 0));
	}
	EXPECT_EQ(self->size, read_pattern(self->fd, self->size, OTHER, 0));
	check_pipe(_metadata, self->p);
}

/* It can be written up to its size, and data after that stays in the pipe. */
TEST_F(sealed, grow)
{
	loff_t off = self->size - 100, off2 = self->size;

	ASSERT_EQ(0, add_seals(self->fd, F_SEAL_GROW));
	EXPECT_EQ(-EPERM, xsplice(self->p[0], NULL, self->fd, &off2, SOME, 0));
	EXPECT_EQ(-EPERM, xsplice(self->p[0], NULL, self->fd, &off, SOME, 0));
	EXPECT_EQ(100, xsplice(self->p[0], NULL, self->fd, &off, 100, 0));
	EXPECT_EQ(self->size, lseek(self->fd, 0, SEEK_END));
	EXPECT_EQ(SOME - 100, read_pattern(self->p[0], SOME - 100, DATA, 100));
}

/* No write to the pipe, or by its reader, reaches the sealed pages. */
TEST_F(sealed, read)
{
	loff_t off = 0;
	int q[2];

	make_pipe(_metadata, q);
	use_slots(_metadata, q);
	ASSERT_EQ(0, add_seals(self->fd, F_SEAL_WRITE));
	ASSERT_EQ(100, xsplice(self->fd, &off, q[1], NULL, 100, 0));
	ASSERT_EQ(100, write_pattern(q[1], 100, DATA, 0));
	EXPECT_EQ(100, read_pattern(q[0], 100, OTHER, 0));
	EXPECT_EQ(100, read_pattern(q[0], 100, DATA, 0));
	EXPECT_EQ(self->size, read_pattern(self->fd, self->size, OTHER, 0));
}

/*
 * A memfd cannot be sealed while a pipe refers to its pages, and can be
 * afterwards.
 */
TEST_F(sealed, in_flight)
{
	loff_t off = 0;
	int q[2];

	make_pipe(_metadata, q);
	ASSERT_EQ(self->size, xsplice(self->fd, &off, q[1], NULL, self->size,
				      0));
	EXPECT_EQ(-EBUSY, add_seals(self->fd, F_SEAL_WRITE));
	EXPECT_EQ(self->size, read_pattern(q[0], self->size, OTHER, 0));
	EXPECT_EQ(0, add_seals(self->fd, F_SEAL_WRITE));
}

TEST_HARNESS_MAIN
