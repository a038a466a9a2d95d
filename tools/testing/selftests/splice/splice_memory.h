/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory of all kinds for vmsplice(), its page tables, the counters of
 * vmsplice(), and the pins and limits of the kernel.
 *
 * Memory of every kind is 2 MiB, between two inaccessible areas. It contains
 * the pattern of MEMORY_DATA, or zeroes if it is untouched.
 */
#ifndef SPLICE_MEMORY_H
#define SPLICE_MEMORY_H

#include "splice_common.h"
#include "splice_notify.h"

#include <linux/kernel-page-flags.h>
#include <linux/memfd.h>
#include <linux/splice.h>
#include <sys/swap.h>

#define MEMORY_SIZE	(2 << 20)
#define MEMORY_DATA	1

#define NO_COUNTERS	"stock fs/splice.c: no " COUNTERS
#define HUGETLB_LEAKS	"stock C: the reader of hugetlb memory sees writes of another process"
#define NO_NOTIFY	"this kernel has no SPLICE_F_NOTIFY"

#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define NR_HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

/* Huge pages for a test: the memory, and its copies after a fork. */
#define HUGEPAGES	8

#define FREE_HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
#define KSM		"/sys/kernel/mm/ksm/"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB	(21U << 26)
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB	(21 << 26)
#endif

/* Returns the number in a file of procfs or sysfs, or the negated errno. */
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

/* The kernel's counters of vmsplice(). */
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

/* Checks what was referenced and copied since @before, and updates @before. */
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
 * Returns the number of pins in the system, or the negated errno. Each CPU has
 * a counter of its own, which stat_refresh adds to the total.
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

/*
 * Expects no pins. Sockets and processes may take a moment to release theirs.
 */
static inline void expect_no_pins(struct __test_metadata *_metadata)
{
	int i;

	for (i = 0; i < 100 && pins_held() > 0; i++)
		usleep(20000);
	EXPECT_EQ(0, pins_held());
}

enum memory_kind {
	MEMORY_PAGES,		/* anonymous, scattered 4 KiB pages */
	MEMORY_THP,		/* anonymous, a huge page */
	MEMORY_PTE_THP,		/* the same, mapped by PTEs */
	MEMORY_HUGETLB,
	MEMORY_MEMFD,
	MEMORY_MEMFD_HUGETLB,
	MEMORY_TMPFS_SHARED,
	MEMORY_TMPFS_PRIVATE,	/* read-only */
	MEMORY_EXT4_SHARED,
	MEMORY_EXT4_PRIVATE,	/* read-only */
	MEMORY_TMPFS_LARGE_SHARED,	/* a folio of 2 MiB */
	MEMORY_TMPFS_LARGE_PRIVATE,	/* the same, read-only */
	MEMORY_EXT4_LARGE_SHARED,	/* a folio of 2 MiB */
	MEMORY_EXT4_LARGE_PRIVATE,	/* the same, read-only */
	MEMORY_HUGETLB_FILE_PRIVATE,	/* hugetlb page cache, read-only */
	MEMORY_READ_ONLY,	/* anonymous, made read-only */
	MEMORY_UNTOUCHED,	/* anonymous, without a page */
	MEMORY_UNTOUCHED_THP,	/* the same, with MADV_HUGEPAGE */
	MEMORY_SWAPPED,		/* anonymous, in swap */
	MEMORY_KSM,		/* anonymous, merged with a second copy */
	MEMORY_MOVABLE,		/* anonymous, in ZONE_MOVABLE */
	MEMORY_MOVABLE_HUGETLB,
};

struct memory {
	enum memory_kind kind;
	char *p;
	int fd;			/* the mapped file, or -1 */
	char *area;		/* the whole reserved area of three times the size */
	char *twin;		/* the second copy of KSM memory, or NULL */
};

static inline bool memory_is_hugetlb(enum memory_kind kind)
{
	return kind == MEMORY_HUGETLB || kind == MEMORY_MEMFD_HUGETLB ||
	       kind == MEMORY_HUGETLB_FILE_PRIVATE ||
	       kind == MEMORY_MOVABLE_HUGETLB;
}

static inline bool memory_is_thp(enum memory_kind kind)
{
	return kind == MEMORY_THP || kind == MEMORY_PTE_THP;
}

static inline bool memory_is_private_file(enum memory_kind kind)
{
	return kind == MEMORY_TMPFS_PRIVATE || kind == MEMORY_EXT4_PRIVATE ||
	       kind == MEMORY_TMPFS_LARGE_PRIVATE ||
	       kind == MEMORY_EXT4_LARGE_PRIVATE ||
	       kind == MEMORY_HUGETLB_FILE_PRIVATE;
}

/* A file whose page cache is one folio. */
static inline bool memory_is_large_file(enum memory_kind kind)
{
	return kind == MEMORY_TMPFS_LARGE_SHARED ||
	       kind == MEMORY_TMPFS_LARGE_PRIVATE ||
	       kind == MEMORY_EXT4_LARGE_SHARED ||
	       kind == MEMORY_EXT4_LARGE_PRIVATE;
}

/* Private hugetlb memory with anonymous pages. */
static inline bool memory_is_anon_hugetlb(enum memory_kind kind)
{
	return kind == MEMORY_HUGETLB || kind == MEMORY_MOVABLE_HUGETLB;
}

/* Memory without pages: a read maps the zero page. */
static inline bool memory_is_untouched(enum memory_kind kind)
{
	return kind == MEMORY_UNTOUCHED || kind == MEMORY_UNTOUCHED_THP;
}

static inline bool memory_is_movable(enum memory_kind kind)
{
	return kind == MEMORY_MOVABLE || kind == MEMORY_MOVABLE_HUGETLB;
}

/* Whether another process that maps the memory sees writes to it. */
static inline bool memory_is_shared(enum memory_kind kind)
{
	return kind == MEMORY_MEMFD || kind == MEMORY_MEMFD_HUGETLB ||
	       kind == MEMORY_TMPFS_SHARED || kind == MEMORY_EXT4_SHARED ||
	       kind == MEMORY_TMPFS_LARGE_SHARED ||
	       kind == MEMORY_EXT4_LARGE_SHARED;
}

/* Anonymous memory: after a fork, parent and child have a copy each. */
static inline bool memory_is_anon(enum memory_kind kind)
{
	return !memory_is_shared(kind) && !memory_is_private_file(kind);
}

static inline const char *memory_variable(enum memory_kind kind)
{
	switch (kind) {
	case MEMORY_TMPFS_SHARED:
	case MEMORY_TMPFS_PRIVATE:
		return end_missing(END_TMPFS);
	case MEMORY_EXT4_SHARED:
	case MEMORY_EXT4_PRIVATE:
	case MEMORY_EXT4_LARGE_SHARED:
	case MEMORY_EXT4_LARGE_PRIVATE:
	case MEMORY_SWAPPED:
		return end_missing(END_EXT4);
	default:
		return NULL;
	}
}

/* Reserves an inaccessible area of 2 MiB, between two more of that size. */
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
	if (m->twin)
		munmap(m->twin, MEMORY_SIZE);
	m->twin = NULL;
	if (m->fd >= 0)
		close(m->fd);
	m->fd = -1;
}

/* Returns entry @nr of a file of 64-bit entries, or 0 if there is none. */
static inline unsigned long long read_entry(int fd, unsigned long nr)
{
	unsigned long long entry;

	return pread(fd, &entry, sizeof(entry), nr * sizeof(entry)) ==
	       sizeof(entry) ? entry : 0;
}

/* Returns the page frame of an entry of /proc/PID/pagemap for root, or 0. */
static inline unsigned long entry_frame(unsigned long long entry)
{
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

/*
 * Returns in @frames the page frames of @nr pages from @p on in process @pid,
 * with 0 for a page that is not mapped.
 */
static inline void read_frames(struct __test_metadata *_metadata, pid_t pid,
			       const char *p, ssize_t nr, unsigned long *frames)
{
	unsigned long first = (unsigned long)p / page_size();
	char path[64];
	ssize_t i;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY);
	ASSERT_LE(0, fd);
	for (i = 0; i < nr; i++)
		frames[i] = entry_frame(read_entry(fd, first + i));
	close(fd);
}

/* Returns the flags of a page frame: 1 << KPF_... */
static inline unsigned long long frame_flags(unsigned long frame)
{
	int fd = open("/proc/kpageflags", O_RDONLY);
	unsigned long long flags = read_entry(fd, frame);

	close(fd);
	return flags;
}

/* Returns a line of /proc/PID/smaps for the mapping that contains @p, in kB. */
static inline ssize_t smaps_kb(pid_t pid, const char *p, const char *name)
{
	unsigned long start, end;
	ssize_t kb = -ENOENT, n;
	char line[512], key[64];
	bool found = false;
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/smaps", pid);
	f = fopen(line, "r");
	while (f && kb < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			found = start <= (unsigned long)p &&
				(unsigned long)p < end;
		else if (found && sscanf(line, "%63[^:]: %zd kB", key, &n) == 2 &&
			 !strcmp(key, name))
			kb = n;
	}
	if (f)
		fclose(f);
	return kb;
}

/* Returns a line of /proc/self/status, in kB. */
static inline ssize_t status_kb(const char *name)
{
	return read_line_of("/proc/self/status", name);
}

/* Returns how many ranges, each within one folio, the memory consists of. */
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
		frame = entry_frame(entry);
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

/* The same, repeated until a migration in progress has ended. */
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

/* Maps a huge page, if one is available. */
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

static inline bool have_swap(void)
{
	FILE *f = fopen("/proc/swaps", "r");
	char line[256];
	int lines = 0;

	while (f && fgets(line, sizeof(line), f))
		lines++;
	if (f)
		fclose(f);
	return lines > 1;
}

/* The swap file of this test, which swap_remove() removes. */
static char swap_path[PATH_MAX];

/*
 * Creates a swap file of 32 MiB if there is no swap; returns an error, or NULL.
 */
static inline const char *swap_missing(void)
{
	const char *dir = getenv("SPLICE_EXT4_DIR");
	ssize_t page = page_size(), size = 32 << 20;
	/* union swap_header: version, last page, number of bad pages. */
	__u32 header[] = { 1, size / page - 1, 0 };
	char path[PATH_MAX];
	int fd;

	if (have_swap())
		return NULL;
	if (!dir)
		return "no swap: SPLICE_EXT4_DIR is not set";
	snprintf(path, sizeof(path), "%s/swap.XXXXXX", dir);
	fd = mkstemp(path);
	if (fd < 0)
		return "no swap: mkstemp() failed";
	if (posix_fallocate(fd, 0, size) ||
	    pwrite(fd, header, sizeof(header), 1024) != sizeof(header) ||
	    pwrite(fd, "SWAPSPACE2", 10, page - 10) != 10 || fsync(fd) ||
	    swapon(path, 0)) {
		close(fd);
		unlink(path);
		return "no swap: swapon() failed";
	}
	close(fd);
	strcpy(swap_path, path);
	return NULL;
}

static inline void swap_remove(struct __test_metadata *_metadata)
{
	if (!*swap_path)
		return;
	EXPECT_EQ(0, swapoff(swap_path));
	EXPECT_EQ(0, unlink(swap_path));
	*swap_path = 0;
}

/* Returns how many pages of this memory are in swap. */
static inline ssize_t count_swapped(const char *m, ssize_t size)
{
	unsigned long page = page_size(), nr = (unsigned long)m / page;
	int fd = open("/proc/self/pagemap", O_RDONLY);
	ssize_t swapped = 0;

	for (; nr < ((unsigned long)m + size) / page; nr++)
		swapped += read_entry(fd, nr) >> 62 & 1;
	close(fd);
	return swapped;
}

/* The memory block that movable_make() took offline, or -1. */
static int movable_block = -1;

static inline bool movable_set(int block, const char *state)
{
	char path[64];

	snprintf(path, sizeof(path),
		 "/sys/devices/system/memory/memory%d/state", block);
	return write_text(path, state) > 0;
}

/* Makes a block of memory ZONE_MOVABLE; returns an error, or NULL. */
static inline const char *movable_make(void)
{
	int block;

	if (movable_block >= 0)
		return NULL;
	for (block = 255; block > 0; block--) {
		if (!movable_set(block, "offline"))
			continue;
		if (movable_set(block, "online_movable")) {
			movable_block = block;
			return NULL;
		}
		movable_set(block, "online");
	}
	return "no block of memory can become ZONE_MOVABLE";
}

static inline void movable_remove(struct __test_metadata *_metadata)
{
	int i;

	if (movable_block < 0)
		return;
	/* The page cache may still use the block. */
	for (i = 0; i < 100 && !movable_set(movable_block, "offline"); i++)
		usleep(20000);
	EXPECT_TRUE(movable_set(movable_block, "online_kernel"));
	movable_block = -1;
}

/* Whether this page frame is in the block that is ZONE_MOVABLE. */
static inline bool is_movable(unsigned long frame)
{
	unsigned long size;
	char text[32];

	if (read_text("/sys/devices/system/memory/block_size_bytes", text,
		      sizeof(text)) <= 0)
		return false;
	size = strtoul(text, NULL, 16);
	return frame / (size / page_size()) == (unsigned long)movable_block;
}

/*
 * Returns a file without a name, of 2 MiB of zeroes, whose page cache is one
 * folio, or the negated errno.
 */
static inline int open_large_file(enum memory_kind kind)
{
	bool tmpfs = kind == MEMORY_TMPFS_LARGE_SHARED ||
		     kind == MEMORY_TMPFS_LARGE_PRIVATE;
	const char *dir = getenv("SPLICE_EXT4_DIR");
	char path[] = "/tmp/splice.XXXXXX";
	char *zeroes = calloc(1, MEMORY_SIZE);
	int fd = -ENOMEM;

	if (!zeroes)
		return fd;
	if (!tmpfs) {
		fd = or_errno(open(dir, O_TMPFILE | O_RDWR, 0600));
	} else if (!private_mounts() || !mkdtemp(path)) {
		fd = -errno;
	} else if (mount("tmpfs", path, "tmpfs", 0, "huge=always")) {
		fd = -errno;
		rmdir(path);
	} else {
		fd = or_errno(open(path, O_TMPFILE | O_RDWR, 0600));
		umount2(path, MNT_DETACH);
		rmdir(path);
	}
	if (fd >= 0 && write_full(fd, zeroes, MEMORY_SIZE) != MEMORY_SIZE) {
		close(fd);
		fd = -EIO;
	}
	free(zeroes);
	return fd;
}

/* Whether such a file can have a page cache of one folio. */
static inline bool have_large_file(enum memory_kind kind)
{
	struct memory m = { .fd = open_large_file(kind) };
	ssize_t page = page_size(), i;
	bool ok;

	if (m.fd < 0 || !memory_reserve_area(&m))
		return false;
	ok = memory_mmap(&m, PROT_READ, MAP_SHARED);
	for (i = 0; ok && i < MEMORY_SIZE; i += page)
		__atomic_load_n(m.p + i, __ATOMIC_RELAXED);
	ok = ok && count_ranges(m.p, MEMORY_SIZE) == 1;
	memory_unmap(&m);
	return ok;
}

/*
 * Returns the reason why memory of this kind is not available, or NULL.
 * Reserves huge pages, swap and ZONE_MOVABLE, which memory_give_back()
 * releases.
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
	if (memory_is_large_file(kind))
		return have_large_file(kind) ? NULL :
		       "no folio of 2 MiB for a file to be had";
	if (kind == MEMORY_SWAPPED)
		return swap_missing();
	if (kind == MEMORY_KSM && access(KSM "run", W_OK))
		return "no KSM";
	if (memory_is_movable(kind) && movable_make())
		return movable_make();
	if (memory_is_thp(kind) || kind == MEMORY_UNTOUCHED_THP) {
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

/*
 * Releases what memory_missing() reserved. Waits while a huge page is in use,
 * because it cannot be freed.
 */
static inline void memory_give_back(struct __test_metadata *_metadata,
				    enum memory_kind kind)
{
	ssize_t nr;
	int i;

	swap_remove(_metadata);
	if (kind == MEMORY_KSM)
		EXPECT_TRUE(write_number(KSM "run", 2));
	if (!memory_is_hugetlb(kind)) {
		movable_remove(_metadata);
		return;
	}
	nr = read_number(NR_HUGEPAGES) - HUGEPAGES;
	/* A page in the send queue of a socket may take seconds. */
	for (i = 0; i < 1500 && read_number(NR_HUGEPAGES) != nr; i++) {
		if (i)
			usleep(20000);
		EXPECT_TRUE(write_number(NR_HUGEPAGES, nr));
	}
	EXPECT_EQ(nr, read_number(NR_HUGEPAGES));
	movable_remove(_metadata);
}

/* Lets the kernel merge the memory with a second copy of it, page by page. */
static inline void memory_merge(struct __test_metadata *_metadata,
				struct memory *m)
{
	int rw = PROT_READ | PROT_WRITE, i;
	ssize_t page = page_size();
	unsigned long frame;

	m->twin = mmap(NULL, MEMORY_SIZE, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	ASSERT_NE(MAP_FAILED, m->twin);
	memcpy(m->twin, m->p, MEMORY_SIZE);
	ASSERT_EQ(0, madvise(m->p, MEMORY_SIZE, MADV_MERGEABLE));
	ASSERT_EQ(0, madvise(m->twin, MEMORY_SIZE, MADV_MERGEABLE));
	ASSERT_TRUE(write_number(KSM "sleep_millisecs", 0));
	ASSERT_TRUE(write_number(KSM "pages_to_scan", 10000));
	ASSERT_TRUE(write_number(KSM "run", 1));
	for (i = 0; i < MEMORY_SIZE / page; i++) {
		do {
			read_frames(_metadata, getpid(), m->p + i * page, 1,
				    &frame);
			usleep(frame_flags(frame) >> KPF_KSM & 1 ? 0 : 1000);
		} while (!(frame_flags(frame) >> KPF_KSM & 1));
	}
	/* Merged pages stay merged. */
	ASSERT_TRUE(write_number(KSM "run", 0));
}

/* Moves the memory to swap. */
static inline void memory_swap_out(struct __test_metadata *_metadata,
				   struct memory *m)
{
	ssize_t pages = MEMORY_SIZE / page_size();
	int i;

	/*
	 * A page that was just written may not be on the LRU list yet, and one
	 * that is written to a slow disk stays until that is done.
	 */
	for (i = 0; i < 2000 && count_swapped(m->p, MEMORY_SIZE) < pages; i++) {
		ASSERT_EQ(0, madvise(m->p, MEMORY_SIZE, MADV_PAGEOUT));
		usleep(10000);
	}
	ASSERT_EQ(pages, count_swapped(m->p, MEMORY_SIZE));
}

/* Maps memory of a kind that is available, with data in it. */
static inline void memory_map(struct __test_metadata *_metadata,
			      struct memory *m, enum memory_kind kind)
{
	int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;
	ssize_t page = page_size(), i;

	*m = (struct memory) { .kind = kind, .fd = -1 };
	ASSERT_TRUE(memory_reserve_area(m));
	switch (kind) {
	case MEMORY_PAGES:
	case MEMORY_READ_ONLY:
	case MEMORY_SWAPPED:
	case MEMORY_KSM:
	case MEMORY_MOVABLE:
		ASSERT_TRUE(memory_mmap(m, rw, anon));
		/* A kernel without huge pages may return EINVAL. */
		madvise(m->p, MEMORY_SIZE, MADV_NOHUGEPAGE);
		/* Touch the pages in an order that scatters successive ones. */
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
	case MEMORY_UNTOUCHED:
		ASSERT_TRUE(memory_mmap(m, rw, anon));
		madvise(m->p, MEMORY_SIZE, MADV_NOHUGEPAGE);
		return;
	case MEMORY_UNTOUCHED_THP:
		ASSERT_TRUE(memory_mmap(m, rw, anon));
		ASSERT_EQ(0, madvise(m->p, MEMORY_SIZE, MADV_HUGEPAGE));
		return;
	case MEMORY_HUGETLB:
	case MEMORY_MOVABLE_HUGETLB:
		ASSERT_TRUE(memory_mmap(m, rw, anon | MAP_HUGETLB |
					MAP_HUGE_2MB));
		break;
	case MEMORY_MEMFD:
		m->fd = memfd_create("splice", 0);
		break;
	case MEMORY_MEMFD_HUGETLB:
	case MEMORY_HUGETLB_FILE_PRIVATE:
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
	case MEMORY_TMPFS_LARGE_SHARED:
	case MEMORY_TMPFS_LARGE_PRIVATE:
	case MEMORY_EXT4_LARGE_SHARED:
	case MEMORY_EXT4_LARGE_PRIVATE:
		m->fd = open_large_file(kind);
		break;
	}
	if (memory_is_anon(kind)) {
		fill_pattern(m->p, MEMORY_SIZE, MEMORY_DATA, 0);
		if (kind == MEMORY_READ_ONLY)
			ASSERT_EQ(0, mprotect(m->p, MEMORY_SIZE, PROT_READ));
		if (kind == MEMORY_SWAPPED)
			memory_swap_out(_metadata, m);
		if (kind == MEMORY_KSM)
			memory_merge(_metadata, m);
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
 * Closes all descriptors except standard error, to release all data in flight.
 */
static inline void close_all(void)
{
	closefrom(STDERR_FILENO + 1);
}

/* Becomes another user without any capability, or root again. */
static inline void become(struct __test_metadata *_metadata, uid_t uid)
{
	ASSERT_EQ(0, setresuid(uid, uid, 0));
}

/* The environment variable with the block device for files on DAX. */
#define DAX_DEVICE "SPLICE_DAX_DEVICE"

/* Mounts @device on @dir, with DAX for all files. */
static inline int dax_mount(const char *device, const char *dir)
{
	return mount(device, dir, "ext4", 0, "dax=always") ? -errno : 0;
}

/*
 * Creates a file without a name on a file system that is unmounted when the
 * file is closed. Returns the reason for failure, or NULL.
 */
static inline const char *dax_open(struct __test_metadata *_metadata, int *fd)
{
	const char *device = getenv(DAX_DEVICE);
	static char reason[PATH_MAX + 64];
	char dir[] = "/tmp/splice.XXXXXX";
	char command[PATH_MAX + 64];
	struct statx stx;
	int ret;

	if (!device)
		return DAX_DEVICE " is not set";
	if (access(device, F_OK)) {
		snprintf(reason, sizeof(reason), "%s: %s", device,
			 strerror(errno));
		return reason;
	}
	if (geteuid())
		return "only root may mount";
	ASSERT_TRUE(private_mounts());
	ASSERT_NE(NULL, mkdtemp(dir));
	ret = dax_mount(device, dir);
	if (ret == -EINVAL) {
		/*
		 * Blocks have the size of pages, and files start at multiples
		 * of 2 MiB.
		 */
		snprintf(command, sizeof(command),
			 "mkfs.ext4 -q -F -b %zd -E stride=%zd,stripe_width=%zd %s",
			 page_size(), MEMORY_SIZE / page_size(),
			 MEMORY_SIZE / page_size(), device);
		ASSERT_EQ(0, system(command)) {
			TH_LOG("%s", command);
		}
		ret = dax_mount(device, dir);
	}
	ASSERT_EQ(0, ret) {
		TH_LOG("%s: %s", device, strerror(-ret));
	}
	*fd = make_file(_metadata, dir);
	/* The file system stays mounted until the file is closed. */
	EXPECT_EQ(0, umount2(dir, MNT_DETACH));
	EXPECT_EQ(0, rmdir(dir));
	ASSERT_EQ(0, statx(*fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
	ASSERT_NE(0, stx.stx_attributes_mask & STATX_ATTR_DAX);
	ASSERT_NE(0, stx.stx_attributes & STATX_ATTR_DAX) {
		TH_LOG("%s: a file that is not on DAX", device);
	}
	return NULL;
}

#endif /* SPLICE_MEMORY_H */
