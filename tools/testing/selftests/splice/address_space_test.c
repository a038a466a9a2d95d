// SPDX-License-Identifier: GPL-2.0
/*
 * vmsplice(2) only reads the memory. These are the cases in which a call that
 * unshares, migrates or pins memory would be visible to its process or to
 * another one.
 *
 * If only the memory matters, the pipe is drained into /dev/null.
 */
#include "splice_memory.h"
#include "../../../../mm/gup_test.h"

#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

/* Seeds: of the memory, and of the data written to it later. */
#define DATA MEMORY_DATA
#define OTHER 2

/* A user that owns nothing else. */
#define USER 54321

/* Growth of RssAnon, in kB, that is due to other memory of the process. */
#define NOISE 1024

#define MIB 1048576L

#define COPIED_HUGETLB "bytes.memory_to_pipe.copied.hugetlb"

FIXTURE(address_space) {
	ssize_t page;
	int p[2];		/* 1 MiB */
	int null;
	enum memory_kind kind;	/* the kind of memory to restore after the test */
	struct memory mem;
};

FIXTURE_SETUP(address_space)
{
	self->page = page_size();
	make_pipe(_metadata, self->p);
	ASSERT_EQ(MIB, fcntl(self->p[1], F_SETPIPE_SZ, MIB));
	self->null = open("/dev/null", O_WRONLY);
	ASSERT_LE(0, self->null);
	self->kind = MEMORY_PAGES;
}

FIXTURE_TEARDOWN(address_space)
{
	EXPECT_EQ(0, setresuid(0, 0, 0));
	if (self->mem.area)
		memory_unmap(&self->mem);
	close_all();
	expect_no_pins(_metadata);
	memory_give_back(_metadata, self->kind);
}

/* Maps memory of this kind; returns the reason if there is none, or NULL. */
static const char *map_kind(struct __test_metadata *_metadata,
			    struct _test_data_address_space *self,
			    enum memory_kind kind)
{
	const char *missing = memory_missing(kind);

	if (missing)
		return missing;
	self->kind = kind;
	memory_map(_metadata, &self->mem, kind);
	return NULL;
}

/* Puts all of the memory into the pipe and drops it, piece by piece. */
static void vmsplice_and_drop(struct __test_metadata *_metadata,
			      struct _test_data_address_space *self,
			      const char *m, ssize_t size)
{
	ssize_t done, ret;

	for (done = 0; done < size; done += ret) {
		ret = xvmsplice1(self->p[1], m + done, size - done, 0);
		ASSERT_EQ(size - done < MIB ? size - done : MIB, ret);
		ASSERT_EQ(ret, splice_full(self->p[0], self->null, ret));
	}
}

/*
 * Returns a new mapping of memory, aligned to 2 MiB, that merges with no other
 * one.
 */
static char *map_alone(struct __test_metadata *_metadata, ssize_t size, int prot,
		       int flags, int fd)
{
	char *area = mmap(NULL, size + 2 * MEMORY_SIZE, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *m;

	ASSERT_NE(MAP_FAILED, area);
	m = (char *)(((unsigned long)area + MEMORY_SIZE) &
		     -(unsigned long)MEMORY_SIZE);
	ASSERT_EQ(m, mmap(m, size, prot, flags | MAP_FIXED, fd, 0));
	return m;
}

/* Returns how many folios of 2 MiB the page cache has for this file. */
static int count_large_folios(struct __test_metadata *_metadata, int fd,
			      ssize_t size)
{
	char *m = map_alone(_metadata, size, PROT_READ, MAP_SHARED, fd);
	ssize_t i;
	int n = 0;

	for (i = 0; i < size; i += page_size())
		__atomic_load_n(m + i, __ATOMIC_RELAXED);
	for (i = 0; i < size; i += MEMORY_SIZE)
		n += count_ranges(m + i, MEMORY_SIZE) == 1;
	munmap(m, size);
	return n;
}

/*
 * Creates a file on ext4 whose page cache consists of large folios, each with
 * the pattern DATA from its beginning on. Returns -1 if the page cache has no
 * large folios.
 */
static int make_large_folios(struct __test_metadata *_metadata, ssize_t size)
{
	char *buf = malloc(MEMORY_SIZE);
	ssize_t done;
	int fd;

	ASSERT_NE(NULL, buf);
	fill_pattern(buf, MEMORY_SIZE, DATA, 0);
	fd = make_file(_metadata, end_dir(_metadata, END_EXT4));
	for (done = 0; done < size; done += MEMORY_SIZE)
		ASSERT_EQ(MEMORY_SIZE, write_full(fd, buf, MEMORY_SIZE));
	ASSERT_EQ(0, fsync(fd));
	ASSERT_TRUE(write_number("/proc/sys/vm/drop_caches", 1));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	for (done = 0; done < size; done += MEMORY_SIZE)
		ASSERT_EQ(MEMORY_SIZE, read_full(fd, buf, MEMORY_SIZE));
	free(buf);
	return count_large_folios(_metadata, fd, size) ? fd : -1;
}

#define NO_LARGE_FOLIOS "no folio of 2 MiB for a file to be had"

/*
 * A private, read-only mapping of a file whose page cache consists of large
 * folios, in a process of an ordinary user.
 */
TEST_F_TIMEOUT(address_space, large_folios_private, 60)
{
	ssize_t size = 64 * MIB, anon;
	char *m;
	int fd;

	if (end_missing(END_EXT4))
		SKIP(return, "%s is not set", end_missing(END_EXT4));
	fd = make_large_folios(_metadata, size);
	if (fd < 0)
		SKIP(return, NO_LARGE_FOLIOS);

	m = map_alone(_metadata, size, PROT_READ, MAP_PRIVATE, fd);
	become(_metadata, USER);
	anon = status_kb("RssAnon:");
	vmsplice_and_drop(_metadata, self, m, size);
	EXPECT_GT(anon + NOISE, status_kb("RssAnon:"));
	become(_metadata, 0);
	EXPECT_EQ(0, smaps_kb(getpid(), m, "Anonymous"));
	ASSERT_EQ(MIB, xvmsplice1(self->p[1], m, MIB, 0));
	EXPECT_EQ(MIB, read_pattern(self->p[0], MIB, DATA, 0));
	munmap(m, size);
}

/*
 * A long-term pin of such memory, as RDMA drivers take it, unshares its pages
 * one by one. The fault that unshares a page must not map the 2 MiB entry
 * again.
 */
TEST_F_TIMEOUT(address_space, large_folios_longterm_pin, 30)
{
	int gup = open("/sys/kernel/debug/gup_test", O_RDWR), fd;
	struct pin_longterm_test pin = { .size = 64 * MIB };
	char *m, *copy = malloc(pin.size);
	__u64 addr = (unsigned long)copy;

	if (gup < 0)
		SKIP(return, "no /sys/kernel/debug/gup_test");
	if (end_missing(END_EXT4))
		SKIP(return, "%s is not set", end_missing(END_EXT4));
	fd = make_large_folios(_metadata, pin.size);
	if (fd < 0)
		SKIP(return, NO_LARGE_FOLIOS);

	m = map_alone(_metadata, pin.size, PROT_READ, MAP_PRIVATE, fd);
	pin.addr = (unsigned long)m;
	ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_START, &pin));
	ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_READ, &addr));
	EXPECT_EQ(0, memcmp(m, copy, pin.size));
	EXPECT_EQ(pin.size / 1024, smaps_kb(getpid(), m, "Anonymous"));
	EXPECT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_STOP));
	munmap(m, pin.size);
	free(copy);
}

/* vmsplice() does not replace the zero page by a page of the process. */
TEST_F_TIMEOUT(address_space, untouched, 60)
{
	static const int advice[] = { MADV_NOHUGEPAGE, MADV_HUGEPAGE };
	ssize_t size = 64 * MIB, anon;
	char *m;
	int i;

	for (i = 0; i < ARRAY_LEN(advice); i++) {
		m = map_alone(_metadata, size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1);
		madvise(m, size, advice[i]);
		anon = status_kb("RssAnon:");
		ASSERT_LT(0, anon);
		vmsplice_and_drop(_metadata, self, m, size);
		EXPECT_GT(anon + NOISE, status_kb("RssAnon:"));
		EXPECT_EQ(0, smaps_kb(getpid(), m, "Anonymous"));
		EXPECT_EQ(0, smaps_kb(getpid(), m, "Rss"));
		munmap(m, size);
	}
}

/* A private mapping keeps the pages of its file, and shows later changes. */
static void private_file(struct __test_metadata *_metadata,
			 struct _test_data_address_space *self,
			 enum end_kind kind)
{
	ssize_t size = 16 * MIB, anon;
	char *buf, *m;
	int fd;

	fd = make_file(_metadata, end_dir(_metadata, kind));
	ASSERT_EQ(size, write_pattern(fd, size, DATA, 0));
	m = map_alone(_metadata, size, PROT_READ, MAP_PRIVATE, fd);
	anon = status_kb("RssAnon:");
	vmsplice_and_drop(_metadata, self, m, size);
	EXPECT_GT(anon + NOISE, status_kb("RssAnon:"));
	EXPECT_EQ(0, smaps_kb(getpid(), m, "Anonymous"));
	buf = alloc_pattern(_metadata, size, OTHER);
	ASSERT_EQ(size, pwrite(fd, buf, size, 0));
	EXPECT_EQ(0, memcmp(buf, m, size));
	munmap(m, size);
	free(buf);
}

TEST_F_TIMEOUT(address_space, private_file_tmpfs, 60)
{
	if (end_missing(END_TMPFS))
		SKIP(return, "%s is not set", end_missing(END_TMPFS));
	private_file(_metadata, self, END_TMPFS);
}

TEST_F_TIMEOUT(address_space, private_file_ext4, 60)
{
	if (end_missing(END_EXT4))
		SKIP(return, "%s is not set", end_missing(END_EXT4));
	private_file(_metadata, self, END_EXT4);
}

/* vmsplice() of hugetlb memory when no hugetlb page is free. */
FIXTURE(no_hugepage) {
	ssize_t nr;		/* pages before the test */
	ssize_t page;
	int p[2];
	int turn[2][2];		/* parent to child, and back */
	char *m;
};

FIXTURE_SETUP(no_hugepage)
{
	self->nr = read_number(NR_HUGEPAGES);
	self->page = page_size();
	self->m = NULL;
	if (self->nr < 0 || !write_number(NR_HUGEPAGES, self->nr + 1) ||
	    read_number(NR_HUGEPAGES) != self->nr + 1)
		SKIP(return, "no hugetlb pages of 2 MiB");
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->turn[0]);
	make_pipe(_metadata, self->turn[1]);
	self->m = map_alone(_metadata, MEMORY_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
			    MAP_HUGE_2MB, -1);
	fill_pattern(self->m, MEMORY_SIZE, DATA, 0);
	if (read_number(FREE_HUGEPAGES))
		SKIP(return, "there are free hugetlb pages");
}

FIXTURE_TEARDOWN(no_hugepage)
{
	int i;

	if (self->m)
		munmap(self->m, MEMORY_SIZE);
	close_all();
	expect_no_pins(_metadata);
	for (i = 0; i < 100 && read_number(NR_HUGEPAGES) != self->nr; i++) {
		if (i)
			usleep(20000);
		write_number(NR_HUGEPAGES, self->nr);
	}
	EXPECT_EQ(self->nr, read_number(NR_HUGEPAGES));
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

/*
 * A parent and its child share a page, and the parent calls vmsplice(). If the
 * call unshared the page, the child would lose it and be killed when it reads
 * its memory.
 */
static void hugetlb_child_goes_on(struct __test_metadata *_metadata,
				  struct _test_data_no_hugepage *self,
				  unsigned int flags)
{
	ssize_t copied = read_counter(COPIED_HUGETLB);
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		my_turn(self->turn[0]);
		_exit(match_pattern(self->m, MEMORY_SIZE, DATA, 0) !=
		      MEMORY_SIZE);
	}
	ASSERT_EQ(self->page,
		  xvmsplice1(self->p[1], self->m, self->page, flags));
	EXPECT_EQ(0, pins_held());
	if (have_counters())
		EXPECT_EQ(copied + self->page, read_counter(COPIED_HUGETLB));
	your_turn(self->turn[0]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(self->page, read_pattern(self->p[0], self->page, DATA, 0));
	EXPECT_EQ(MEMORY_SIZE, match_pattern(self->m, MEMORY_SIZE, DATA, 0));
}

TEST_F(no_hugepage, child_goes_on)
{
	hugetlb_child_goes_on(_metadata, self, 0);
}

TEST_F(no_hugepage, notify_child_goes_on)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	hugetlb_child_goes_on(_metadata, self, SPLICE_F_NOTIFY);
}

/*
 * fork() copies a pinned page, and fails if there is no second one. No process
 * is killed, and fork() succeeds once the pipe is empty. On stock C the page is
 * not pinned.
 */
static void hugetlb_fork(struct __test_metadata *_metadata,
			 struct _test_data_no_hugepage *self,
			 unsigned int flags)
{
	int status, i;
	pid_t pid;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(self->page, xvmsplice1(self->p[1], self->m,
						 self->page, flags));
		EXPECT_EQ(have_counters(), pins_held() > 0);
		pid = fork();
		if (!pid)
			_exit(self->m[0] != pattern_byte(DATA, 0));
		EXPECT_EQ(have_counters() ? -ENOMEM : pid, or_errno(pid));
		if (pid > 0) {
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
			EXPECT_EQ(0, status);
		}
		EXPECT_EQ(MEMORY_SIZE,
			  match_pattern(self->m, MEMORY_SIZE, DATA, 0));
		fill_pattern(self->m, self->page, OTHER, 0);
		EXPECT_EQ(self->page,
			  read_pattern(self->p[0], self->page, OTHER, 0));
		fill_pattern(self->m, self->page, DATA, 0);
		EXPECT_EQ(0, pins_held());

		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(match_pattern(self->m, MEMORY_SIZE, DATA, 0) !=
			      MEMORY_SIZE);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		/* The parent's write makes the page exclusive to it again. */
		self->m[0] = pattern_byte(DATA, 0);
	}
}

TEST_F(no_hugepage, fork)
{
	hugetlb_fork(_metadata, self, 0);
}

TEST_F(no_hugepage, notify_fork)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	hugetlb_fork(_metadata, self, SPLICE_F_NOTIFY);
}

static ssize_t private_kb(const char *m)
{
	return smaps_kb(getpid(), m, "Private_Dirty") +
	       smaps_kb(getpid(), m, "Private_Clean");
}

/* vmsplice() does not make memory private that a fork() has shared. */
static void child_vmsplices(struct __test_metadata *_metadata,
			    struct _test_data_address_space *self, int advice)
{
	ssize_t size = 64 * MIB, anon;
	int status;
	pid_t pid;
	char *m;

	m = map_alone(_metadata, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1);
	madvise(m, size, advice);
	memset(m, 1, size);
	EXPECT_EQ(size / 1024, private_kb(m));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(0, private_kb(m));
		anon = status_kb("RssAnon:");
		vmsplice_and_drop(_metadata, self, m, size);
		EXPECT_EQ(0, private_kb(m));
		EXPECT_GT(anon + NOISE, status_kb("RssAnon:"));
		EXPECT_EQ(size / 1024, smaps_kb(getpid(), m, "Anonymous"));
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	munmap(m, size);
}

TEST_F_TIMEOUT(address_space, child_vmsplices, 60)
{
	child_vmsplices(_metadata, self, MADV_NOHUGEPAGE);
}

TEST_F_TIMEOUT(address_space, child_vmsplices_thp, 60)
{
	const char *missing = memory_missing(MEMORY_THP);

	if (missing)
		SKIP(return, "%s", missing);
	child_vmsplices(_metadata, self, MADV_HUGEPAGE);
}

/* vmsplice() does not migrate memory out of ZONE_MOVABLE. */
TEST_F_TIMEOUT(address_space, zone_movable, 60)
{
	ssize_t pages = MEMORY_SIZE / self->page, i;
	unsigned long *before, *after;
	const char *missing;

	missing = map_kind(_metadata, self, MEMORY_MOVABLE);
	if (missing)
		SKIP(return, "%s", missing);
	before = calloc(pages, sizeof(*before));
	after = calloc(pages, sizeof(*after));
	ASSERT_NE(NULL, before);
	ASSERT_NE(NULL, after);
	read_frames(_metadata, getpid(), self->mem.p, pages, before);
	for (i = 0; i < pages; i++)
		if (!is_movable(before[i]))
			SKIP(return, "no memory in ZONE_MOVABLE to be had");
	ASSERT_EQ(MIB, xvmsplice1(self->p[1], self->mem.p, MIB, 0));
	EXPECT_EQ(0, pins_held());
	read_frames(_metadata, getpid(), self->mem.p, pages, after);
	EXPECT_EQ(0, memcmp(before, after, pages * sizeof(*before)));
	EXPECT_EQ(MIB, read_pattern(self->p[0], MIB, DATA, 0));
	free(before);
	free(after);
}

/*
 * Opens a userfaultfd and registers 2 MiB; returns the reason for failure, or
 * NULL.
 */
static const char *open_userfaultfd(struct __test_metadata *_metadata, char *m,
				    int mode, unsigned long long features,
				    int *fd)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (unsigned long)m, MEMORY_SIZE },
		.mode = mode,
	};

	*fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return "no userfaultfd()";
	if (ioctl(*fd, UFFDIO_API, &api))
		return "userfaultfd() without what is needed";
	ASSERT_EQ(0, ioctl(*fd, UFFDIO_REGISTER, &reg));
	return NULL;
}

/*
 * UFFDIO_MOVE can move memory that is in a pipe. It cannot move pinned memory,
 * which is an effect of SPLICE_F_NOTIFY.
 */
static void uffdio_move(struct __test_metadata *_metadata,
			struct _test_data_address_space *self,
			enum memory_kind kind, unsigned int flags)
{
	struct uffdio_move move = { .len = MEMORY_SIZE };
	ssize_t half = MIB / 2;
	struct memory to;
	const char *missing;
	int fd;

	missing = map_kind(_metadata, self, kind);
	if (missing)
		SKIP(return, "%s", missing);
	memory_map(_metadata, &to, kind == MEMORY_THP ? MEMORY_UNTOUCHED_THP :
		   MEMORY_UNTOUCHED);
	missing = open_userfaultfd(_metadata, to.p,
				   UFFDIO_REGISTER_MODE_MISSING,
				   UFFD_FEATURE_MOVE, &fd);
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(MIB, xvmsplice1(self->p[1], self->mem.p, MIB, flags));
	move.dst = (unsigned long)to.p;
	move.src = (unsigned long)self->mem.p;
	if (flags) {
		EXPECT_EQ(-EBUSY, or_errno(ioctl(fd, UFFDIO_MOVE, &move)));
		EXPECT_EQ(MIB, read_pattern(self->p[0], MIB, DATA, 0));
		move.move = 0;
		EXPECT_EQ(0, pins_held());
		ASSERT_EQ(0, ioctl(fd, UFFDIO_MOVE, &move));
		EXPECT_EQ(MEMORY_SIZE, move.move);
		EXPECT_EQ(MEMORY_SIZE,
			  match_pattern(to.p, MEMORY_SIZE, DATA, 0));
	} else {
		ASSERT_EQ(0, or_errno(ioctl(fd, UFFDIO_MOVE, &move)));
		EXPECT_EQ(MEMORY_SIZE, move.move);
		EXPECT_EQ(MEMORY_SIZE,
			  match_pattern(to.p, MEMORY_SIZE, DATA, 0));
		EXPECT_EQ(half, read_pattern(self->p[0], half, DATA, 0));
		/* The reader sees a write at the new address. */
		fill_pattern(to.p, MEMORY_SIZE, OTHER, 0);
		EXPECT_EQ(half, read_pattern(self->p[0], half, OTHER, half));
	}
	EXPECT_EQ(MEMORY_SIZE, match_byte(self->mem.p, MEMORY_SIZE, 0));
	close(fd);
	memory_unmap(&to);
}

TEST_F(address_space, uffdio_move)
{
	uffdio_move(_metadata, self, MEMORY_PAGES, 0);
}

TEST_F(address_space, uffdio_move_thp)
{
	uffdio_move(_metadata, self, MEMORY_THP, 0);
}

TEST_F(address_space, notify_uffdio_move)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	uffdio_move(_metadata, self, MEMORY_PAGES, SPLICE_F_NOTIFY);
}

/*
 * Returns how many pages of the memory were written since the last clear_refs.
 */
static ssize_t count_soft_dirty(const char *m, ssize_t size)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	unsigned long nr = (unsigned long)m / page_size();
	ssize_t dirty = 0, i;

	for (i = 0; i < size / page_size(); i++)
		dirty += read_entry(fd, nr + i) >> 55 & 1;
	close(fd);
	return dirty;
}

/*
 * Writes to memory in a pipe are tracked as usual: a second pre-dump of CRIU
 * saves no page that was not written to. Tracking of pinned memory cannot be
 * restarted, which is an effect of SPLICE_F_NOTIFY.
 */
static void soft_dirty(struct __test_metadata *_metadata,
		       struct _test_data_address_space *self,
		       enum memory_kind kind, unsigned int flags)
{
	ssize_t pages = MIB / self->page;
	const char *missing;

	missing = map_kind(_metadata, self, kind);
	if (missing)
		SKIP(return, "%s", missing);
	if (count_soft_dirty(self->mem.p, MIB) != pages)
		SKIP(return, "no CONFIG_MEM_SOFT_DIRTY");
	ASSERT_EQ(MIB, xvmsplice1(self->p[1], self->mem.p, MIB, flags));
	ASSERT_EQ(1, write_text("/proc/self/clear_refs", "4"));
	EXPECT_EQ(flags ? pages : 0, count_soft_dirty(self->mem.p, MIB));
	fill_pattern(self->mem.p, self->page, OTHER, 0);
	if (kind == MEMORY_PAGES && !flags)
		EXPECT_EQ(1, count_soft_dirty(self->mem.p, MIB));
	EXPECT_EQ(1, count_soft_dirty(self->mem.p, self->page));
	EXPECT_EQ(self->page, read_pattern(self->p[0], self->page, OTHER, 0));
	EXPECT_EQ(MIB - self->page,
		  read_pattern(self->p[0], MIB - self->page, DATA, self->page));
	EXPECT_EQ(0, pins_held());
	ASSERT_EQ(1, write_text("/proc/self/clear_refs", "4"));
	EXPECT_EQ(0, count_soft_dirty(self->mem.p, MIB));
}

TEST_F(address_space, soft_dirty)
{
	soft_dirty(_metadata, self, MEMORY_PAGES, 0);
}

TEST_F(address_space, soft_dirty_thp)
{
	soft_dirty(_metadata, self, MEMORY_THP, 0);
}

TEST_F(address_space, notify_soft_dirty)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	soft_dirty(_metadata, self, MEMORY_PAGES, SPLICE_F_NOTIFY);
}

/* Returns how many pages were written, and write-protects these again. */
static ssize_t scan_written(struct __test_metadata *_metadata, const char *m)
{
	struct page_region region[16];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (unsigned long)m,
		.end = (unsigned long)m + MEMORY_SIZE,
		.vec = (unsigned long)region,
		.vec_len = ARRAY_LEN(region),
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY);
	ssize_t pages = 0;
	int n, i;

	n = ioctl(fd, PAGEMAP_SCAN, &arg);
	ASSERT_LE(0, n);
	for (i = 0; i < n; i++)
		pages += (region[i].end - region[i].start) / page_size();
	close(fd);
	return pages;
}

/* The same with the write tracking of userfaultfd. */
TEST_F(address_space, write_tracking)
{
	ssize_t pages = MEMORY_SIZE / self->page;
	const char *missing;
	int fd;

	missing = map_kind(_metadata, self, MEMORY_PAGES);
	if (!missing)
		missing = open_userfaultfd(_metadata, self->mem.p,
					   UFFDIO_REGISTER_MODE_WP,
					   UFFD_FEATURE_WP_ASYNC |
					   UFFD_FEATURE_WP_UNPOPULATED, &fd);
	if (missing)
		SKIP(return, "%s", missing);
	EXPECT_EQ(pages, scan_written(_metadata, self->mem.p));
	ASSERT_EQ(MIB, xvmsplice1(self->p[1], self->mem.p, MIB, 0));
	EXPECT_EQ(0, scan_written(_metadata, self->mem.p));
	fill_pattern(self->mem.p, self->page, OTHER, 0);
	EXPECT_EQ(1, scan_written(_metadata, self->mem.p));
	EXPECT_EQ(0, scan_written(_metadata, self->mem.p));
	EXPECT_EQ(self->page, read_pattern(self->p[0], self->page, OTHER, 0));
	EXPECT_EQ(MIB - self->page,
		  read_pattern(self->p[0], MIB - self->page, DATA, self->page));
	close(fd);
}

/*
 * fork() does not copy memory in a pipe for the child. It copies pinned memory,
 * which is an effect of SPLICE_F_NOTIFY.
 */
static void fork_copies(struct __test_metadata *_metadata,
			struct _test_data_address_space *self,
			enum memory_kind kind, unsigned int flags)
{
	ssize_t pages = MIB / self->page, same = 0, i;
	unsigned long *frames = calloc(2 * pages, sizeof(*frames));
	const char *missing;
	int status;
	pid_t pid;

	ASSERT_NE(NULL, frames);
	missing = map_kind(_metadata, self, kind);
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(MIB, xvmsplice1(self->p[1], self->mem.p, MIB, flags));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(MEMORY_SIZE,
			  match_pattern(self->mem.p, MEMORY_SIZE, DATA, 0));
		if (!flags)
			EXPECT_EQ(0, private_kb(self->mem.p));
		read_frames(_metadata, getpid(), self->mem.p, pages,
			    frames);
		read_frames(_metadata, getppid(), self->mem.p, pages,
			    frames + pages);
		for (i = 0; i < pages; i++)
			same += frames[i] == frames[pages + i];
		EXPECT_EQ(flags ? 0 : pages, same);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(MIB, read_pattern(self->p[0], MIB, DATA, 0));
	free(frames);
}

TEST_F(address_space, fork_does_not_copy)
{
	fork_copies(_metadata, self, MEMORY_PAGES, 0);
}

TEST_F(address_space, fork_does_not_copy_thp)
{
	fork_copies(_metadata, self, MEMORY_THP, 0);
}

TEST_F(address_space, notify_fork_copies)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	fork_copies(_metadata, self, MEMORY_PAGES, SPLICE_F_NOTIFY);
}

/*
 * A process calls vmsplice(), writes to its memory and forks at the same time,
 * and its children write to the memory.
 */
#define OWNER 'a'
#define CHILD 'z'
#define SECONDS 3

struct race {
	char *m;
	int fd;
	unsigned int flags;
	bool stop;
	ssize_t ret;
	pthread_t thread;
};

FIXTURE(fork_beside) {
	struct memory mem;
	int p[2];
	struct race race[3];
};

FIXTURE_VARIANT(fork_beside) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(fork_beside, pages) {
	.kind = MEMORY_PAGES,
};

FIXTURE_VARIANT_ADD(fork_beside, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(fork_beside, pte_thp) {
	.kind = MEMORY_PTE_THP,
};

FIXTURE_VARIANT_ADD(fork_beside, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_SETUP(fork_beside)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	make_pipe(_metadata, self->p);
	memory_map(_metadata, &self->mem, variant->kind);
	memset(self->mem.p, OWNER, MEMORY_SIZE);
}

FIXTURE_TEARDOWN(fork_beside)
{
	memory_unmap(&self->mem);
	close_all();
	expect_no_pins(_metadata);
	memory_give_back(_metadata, variant->kind);
}

static bool race_is_over(struct race *race)
{
	return __atomic_load_n(&race->stop, __ATOMIC_SEQ_CST);
}

static void *race_vmsplice(void *data)
{
	struct race *race = data;
	ssize_t page = page_size(), at = 0, ret;

	while (!race_is_over(race)) {
		ret = xvmsplice1(race->fd, race->m + at, 8 * page, race->flags);
		if (ret < 0) {
			race->ret = ret;
			break;
		}
		race->ret += ret;
		at = (at + 8 * page) % MEMORY_SIZE;
	}
	close(race->fd);
	return NULL;
}

static void *race_write(void *data)
{
	struct race *race = data;
	ssize_t at = 0;

	while (!race_is_over(race)) {
		race->m[at] = OWNER + race->ret++ % 4;
		at = (at + 1000) % MEMORY_SIZE;
	}
	return NULL;
}

/* Reads until the end of file; returns how many bytes a child has written. */
static void *race_read(void *data)
{
	struct race *race = data;
	char buf[65536];
	ssize_t ret, i;

	while ((ret = xread(race->fd, buf, sizeof(buf))) > 0)
		for (i = 0; i < ret; i++)
			race->ret += buf[i] == CHILD;
	if (ret)
		race->ret = ret;
	return NULL;
}

/* The reader never sees a write of a child. */
static void fork_beside(struct __test_metadata *_metadata,
			struct _test_data_fork_beside *self,
			enum memory_kind kind, unsigned int flags)
{
	void *(*const run[])(void *) = { race_vmsplice, race_write, race_read };
	struct timespec end, now;
	int status, i, children = 0;
	struct race *race = self->race;
	pid_t pid;

	for (i = 0; i < 3; i++) {
		race[i] = (struct race) {
			.m = self->mem.p, .flags = flags,
			.fd = self->p[i < 2],
		};
		ASSERT_EQ(0, pthread_create(&race[i].thread, NULL, run[i],
					    &race[i]));
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += SECONDS;
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
		pid = fork();
		/* fork() needs a second hugetlb page to copy a pinned one. */
		if (pid < 0 && errno == ENOMEM && memory_is_hugetlb(kind))
			continue;
		ASSERT_LE(0, pid);
		if (!pid) {
			memset(self->mem.p, CHILD, MEMORY_SIZE);
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		children++;
	} while (now.tv_sec < end.tv_sec);
	for (i = 0; i < 2; i++)
		__atomic_store_n(&race[i].stop, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_join(race[i].thread, NULL));
	EXPECT_LT(0, children);
	EXPECT_LT(0, race[0].ret);
	EXPECT_LT(0, race[1].ret);
	EXPECT_EQ(NULL, memchr(self->mem.p, CHILD, MEMORY_SIZE));
	/* A child may reuse the page after its parent has copied it. */
	if (memory_is_hugetlb(kind) && !have_counters() && race[2].ret > 0)
		XFAIL(return, HUGETLB_LEAKS);
	EXPECT_EQ(0, race[2].ret);
}

TEST_F_TIMEOUT(fork_beside, child_writes, 60)
{
	fork_beside(_metadata, self, variant->kind, 0);
}

TEST_F_TIMEOUT(fork_beside, notify_child_writes, 60)
{
	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	fork_beside(_metadata, self, variant->kind, SPLICE_F_NOTIFY);
}

/*
 * Memory that the owner holds alone when it calls vmsplice() with
 * SPLICE_F_NOTIFY: the reader sees the owner's next write, whatever the
 * children do.
 */
TEST_F_TIMEOUT(fork_beside, notify_owner_writes, 60)
{
	ssize_t page = page_size(), len = 8 * page, at;
	char *buf = malloc(len);
	int status, i;
	pid_t pid;

	if (!have_notify(self->p[1]))
		SKIP(return, NO_NOTIFY);
	ASSERT_NE(NULL, buf);
	for (i = 0; i < 200; i++) {
		at = i * len % MEMORY_SIZE;
		/* After this write the memory is exclusive to the owner. */
		memset(self->mem.p + at, OWNER, len);
		ASSERT_EQ(len, xvmsplice1(self->p[1], self->mem.p + at,
					  len, SPLICE_F_NOTIFY));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			memset(self->mem.p + at, CHILD, len);
			_exit(0);
		}
		memset(self->mem.p + at, OWNER + 1, len);
		ASSERT_EQ(len, read_full(self->p[0], buf, len));
		ASSERT_EQ(len, match_byte(buf, len, OWNER + 1));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		ASSERT_EQ(len, match_byte(self->mem.p + at, len, OWNER + 1));
	}
	free(buf);
}

TEST_HARNESS_MAIN
