/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory of all kinds to call vmsplice() with, and what the kernel says of pins.
 *
 * Memory is 2 MiB, of whatever kind, with nothing accessible before and behind
 * it, and has the pattern of MEMORY_DATA in it.
 */
#ifndef SPLICE_MEMORY_H
#define SPLICE_MEMORY_H

#include "splice_common.h"

#include <linux/kernel-page-flags.h>
#include <linux/memfd.h>

#define MEMORY_SIZE	(2 << 20)
#define MEMORY_DATA	1

#define NO_COUNTERS	"a kernel that does not pin: no " COUNTERS

#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define NR_HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

/* Huge pages for a test: the memory, and copies of it after a fork. */
#define HUGEPAGES	8

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB	(21U << 26)
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB	(21 << 26)
#endif

/* The number in a file of procfs or sysfs, or the negated errno. */
static inline ssize_t read_number(const char *path)
{
	ssize_t number, ret;
	FILE *f = fopen(path, "r");

	if (!f)
		return -errno;
	ret = fscanf(f, "%zd", &number) == 1 ? number : -EINVAL;
	fclose(f);
	return ret;
}

static inline bool write_number(const char *path, ssize_t number)
{
	FILE *f = fopen(path, "w");
	bool ok;

	if (!f)
		return false;
	ok = fprintf(f, "%zd\n", number) > 0;
	return !fclose(f) && ok;
}

/* What vmsplice() has done, by the kernel's account. */
struct account {
	ssize_t buffers;
	ssize_t referenced;
	ssize_t copied;
};

static inline struct account read_account(struct __test_metadata *_metadata)
{
	struct account a = {
		.buffers = read_counter("buffers.linked"),
		.referenced = read_counter("bytes.memory_to_pipe.referenced"),
		.copied = read_counter("bytes.memory_to_pipe.copied"),
	};

	ASSERT_LE(0, a.buffers);
	ASSERT_LE(0, a.referenced);
	ASSERT_LE(0, a.copied);
	return a;
}

/* Checks what was pinned and copied since @before, and makes @before now. */
static inline void check_account(struct __test_metadata *_metadata,
				 struct account *before, ssize_t referenced,
				 ssize_t copied)
{
	struct account now = read_account(_metadata);

	EXPECT_EQ(referenced, now.referenced - before->referenced);
	EXPECT_EQ(copied, now.copied - before->copied);
	*before = now;
}

/*
 * The pins that anybody holds, or the negated errno. Each CPU counts on its own
 * until it is told to hand in what it has.
 */
static inline ssize_t pins_held(void)
{
	ssize_t acquired, released;

	write_number("/proc/sys/vm/stat_refresh", 1);
	acquired = read_line_of("/proc/vmstat", "nr_foll_pin_acquired");
	released = read_line_of("/proc/vmstat", "nr_foll_pin_released");
	if (acquired < 0)
		return acquired;
	return released < 0 ? released : acquired - released;
}

/* Sockets and processes that are gone may take a moment to let go. */
static inline void expect_no_pins(struct __test_metadata *_metadata)
{
	int i;

	for (i = 0; i < 100 && pins_held() > 0; i++)
		usleep(20000);
	EXPECT_EQ(0, pins_held());
}

enum memory_kind {
	MEMORY_PAGES,		/* anonymous, 4 KiB pages in no order */
	MEMORY_THP,		/* anonymous, a huge page */
	MEMORY_PTE_THP,		/* the same, mapped page by page */
	MEMORY_HUGETLB,
	MEMORY_MEMFD,
	MEMORY_MEMFD_HUGETLB,
	MEMORY_TMPFS_SHARED,
	MEMORY_TMPFS_PRIVATE,	/* read-only */
	MEMORY_EXT4_SHARED,
	MEMORY_EXT4_PRIVATE,	/* read-only */
};

struct memory {
	enum memory_kind kind;
	char *p;
	int fd;			/* the file that is mapped, or -1 */
	char *area;		/* three times as large, aligned */
};

static inline bool memory_is_hugetlb(enum memory_kind kind)
{
	return kind == MEMORY_HUGETLB || kind == MEMORY_MEMFD_HUGETLB;
}

static inline bool memory_is_thp(enum memory_kind kind)
{
	return kind == MEMORY_THP || kind == MEMORY_PTE_THP;
}

static inline bool memory_is_private_file(enum memory_kind kind)
{
	return kind == MEMORY_TMPFS_PRIVATE || kind == MEMORY_EXT4_PRIVATE;
}

/* Does another process that maps it see what is written to it? */
static inline bool memory_is_shared(enum memory_kind kind)
{
	return kind == MEMORY_MEMFD || kind == MEMORY_MEMFD_HUGETLB ||
	       kind == MEMORY_TMPFS_SHARED || kind == MEMORY_EXT4_SHARED;
}

/* Anonymous memory: after a fork, parent and child have a copy each. */
static inline bool memory_is_anon(enum memory_kind kind)
{
	return kind == MEMORY_PAGES || kind == MEMORY_HUGETLB ||
	       memory_is_thp(kind);
}

static inline const char *memory_variable(enum memory_kind kind)
{
	switch (kind) {
	case MEMORY_TMPFS_SHARED:
	case MEMORY_TMPFS_PRIVATE:
		return end_missing(END_TMPFS);
	case MEMORY_EXT4_SHARED:
	case MEMORY_EXT4_PRIVATE:
		return end_missing(END_EXT4);
	default:
		return NULL;
	}
}

/* Reserves 2 MiB of memory that nobody may access, between two more of it. */
static inline bool memory_reserve_area(struct memory *m)
{
	char *area;

	area = mmap(NULL, 4L * MEMORY_SIZE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return false;
	m->area = (char *)(((unsigned long)area + MEMORY_SIZE - 1) &
			   -(unsigned long)MEMORY_SIZE);
	m->p = m->area + MEMORY_SIZE;
	munmap(area, m->area - area);
	munmap(m->area + 3L * MEMORY_SIZE, MEMORY_SIZE - (m->area - area));
	return true;
}

static inline bool memory_mmap(struct memory *m, int prot, int flags)
{
	return mmap(m->p, MEMORY_SIZE, prot, flags | MAP_FIXED, m->fd, 0) ==
	       m->p;
}

static inline void memory_unmap(struct memory *m)
{
	munmap(m->area, 3L * MEMORY_SIZE);
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
}

/* Entry @nr of a file of 64-bit entries, 0 if there is none. */
static inline unsigned long long read_entry(int fd, unsigned long nr)
{
	unsigned long long entry;

	return pread(fd, &entry, sizeof(entry), nr * sizeof(entry)) ==
	       sizeof(entry) ? entry : 0;
}

/* In how many pieces, each within one folio, is that memory? */
static inline ssize_t count_ranges_once(const char *p, ssize_t len)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	int flags = open("/proc/kpageflags", O_RDONLY);
	unsigned long page = page_size(), frame, next = 0, nr;
	unsigned long long entry;
	ssize_t ranges = 0;

	for (nr = (unsigned long)p / page; nr * page < (unsigned long)p + len;
	     nr++) {
		entry = read_entry(pagemap, nr);
		/* Present, and its frame is told to root only. */
		frame = entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
		if (!frame) {
			ranges = -ENOENT;
			break;
		}
		if (frame != next ||
		    !(read_entry(flags, frame) >> KPF_COMPOUND_TAIL & 1))
			ranges++;
		next = frame + 1;
	}
	close(pagemap);
	close(flags);
	return ranges;
}

/* As above, but not from the middle of a migration. */
static inline ssize_t count_ranges(const char *p, ssize_t len)
{
	ssize_t ranges = count_ranges_once(p, len), before;
	int i;

	for (i = 0; i < 10; i++) {
		before = ranges;
		ranges = count_ranges_once(p, len);
		if (ranges == before)
			break;
	}
	return ranges;
}

/* A huge page, if one can be had. */
static inline bool memory_map_thp(struct memory *m)
{
	int i;

	for (i = 0; i < 5; i++) {
		if (i)
			write_number("/proc/sys/vm/compact_memory", 1);
		if (!memory_mmap(m, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS))
			return false;
		if (madvise(m->p, MEMORY_SIZE, MADV_HUGEPAGE))
			return false;
		m->p[0] = 1;
		if (count_ranges(m->p, MEMORY_SIZE) == 1)
			return true;
		if (mmap(m->p, MEMORY_SIZE, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) !=
		    m->p)
			return false;
	}
	return false;
}

/*
 * Why memory of this kind cannot be had, or NULL. Huge pages are reserved here,
 * to be given back by memory_give_back().
 */
static inline const char *memory_missing(enum memory_kind kind)
{
	static char reason[128];
	struct memory m = { .fd = -1 };
	ssize_t nr;
	bool ok;

	if (memory_variable(kind)) {
		snprintf(reason, sizeof(reason), "%s is not set",
			 memory_variable(kind));
		return reason;
	}
	if (memory_is_thp(kind)) {
		if (read_number(THP "hpage_pmd_size") != MEMORY_SIZE)
			return "no transparent huge pages of 2 MiB";
		ok = memory_reserve_area(&m) && memory_map_thp(&m);
		memory_unmap(&m);
		return ok ? NULL : "no transparent huge page to be had";
	}
	if (memory_is_hugetlb(kind)) {
		nr = read_number(NR_HUGEPAGES);
		if (nr < 0 || !write_number(NR_HUGEPAGES, nr + HUGEPAGES))
			return "no hugetlb pages of 2 MiB";
		if (read_number(NR_HUGEPAGES) == nr + HUGEPAGES)
			return NULL;
		write_number(NR_HUGEPAGES, nr);
		return "no huge pages to be had";
	}
	return NULL;
}

/* A huge page that is still in use would not go, and be counted. */
static inline void memory_give_back(struct __test_metadata *_metadata,
				    enum memory_kind kind)
{
	ssize_t nr;
	int i;

	if (!memory_is_hugetlb(kind))
		return;
	nr = read_number(NR_HUGEPAGES) - HUGEPAGES;
	/* One that a socket has still to send may take seconds. */
	for (i = 0; i < 1500 && read_number(NR_HUGEPAGES) != nr; i++) {
		if (i)
			usleep(20000);
		EXPECT_TRUE(write_number(NR_HUGEPAGES, nr));
	}
	EXPECT_EQ(nr, read_number(NR_HUGEPAGES));
}

/* Maps memory of a kind that is not missing, with data in it. */
static inline void memory_map(struct __test_metadata *_metadata,
			      struct memory *m, enum memory_kind kind)
{
	int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;
	ssize_t page = page_size(), i;

	*m = (struct memory) { .kind = kind, .fd = -1 };
	ASSERT_TRUE(memory_reserve_area(m));
	switch (kind) {
	case MEMORY_PAGES:
		ASSERT_TRUE(memory_mmap(m, rw, anon));
		/* Without huge pages madvise() may not know this advice. */
		madvise(m->p, MEMORY_SIZE, MADV_NOHUGEPAGE);
		/* What is allocated one after the other is put far apart. */
		for (i = 0; i < MEMORY_SIZE / page; i++)
			m->p[i * (MEMORY_SIZE / page / 2 + 1) %
			     (MEMORY_SIZE / page) * page] = 1;
		ASSERT_EQ(MEMORY_SIZE / page,
			  count_ranges(m->p, MEMORY_SIZE));
		break;
	case MEMORY_THP:
	case MEMORY_PTE_THP:
		ASSERT_TRUE(memory_map_thp(m));
		if (kind == MEMORY_THP)
			break;
		ASSERT_EQ(0, mprotect(m->p + page, page, PROT_READ));
		ASSERT_EQ(0, mprotect(m->p + page, page, rw));
		ASSERT_EQ(1, count_ranges(m->p, MEMORY_SIZE));
		break;
	case MEMORY_HUGETLB:
		ASSERT_TRUE(memory_mmap(m, rw, anon | MAP_HUGETLB |
					MAP_HUGE_2MB));
		break;
	case MEMORY_MEMFD:
		m->fd = memfd_create("splice", 0);
		break;
	case MEMORY_MEMFD_HUGETLB:
		m->fd = memfd_create("splice", MFD_HUGETLB | MFD_HUGE_2MB);
		break;
	case MEMORY_TMPFS_SHARED:
	case MEMORY_TMPFS_PRIVATE:
		m->fd = make_file(_metadata, end_dir(_metadata, END_TMPFS));
		break;
	case MEMORY_EXT4_SHARED:
	case MEMORY_EXT4_PRIVATE:
		m->fd = make_file(_metadata, end_dir(_metadata, END_EXT4));
		break;
	}
	if (memory_is_anon(kind)) {
		fill_pattern(m->p, MEMORY_SIZE, MEMORY_DATA, 0);
		return;
	}
	ASSERT_LE(0, m->fd);
	ASSERT_EQ(0, ftruncate(m->fd, MEMORY_SIZE));
	ASSERT_TRUE(memory_mmap(m, rw, MAP_SHARED));
	fill_pattern(m->p, MEMORY_SIZE, MEMORY_DATA, 0);
	if (memory_is_private_file(kind))
		ASSERT_TRUE(memory_mmap(m, PROT_READ, MAP_PRIVATE));
}

/*
 * Everything that was opened, so that what is in flight is dropped. Standard
 * error stays, for what the test has to say.
 */
static inline void close_all(void)
{
	closefrom(STDERR_FILENO + 1);
}

/*
 * Becomes another user, without any capability, or root again. What is pinned
 * counts for the real user.
 */
static inline void become(struct __test_metadata *_metadata, uid_t uid)
{
	ASSERT_EQ(0, setresuid(uid, uid, 0));
}

#endif /* SPLICE_MEMORY_H */
