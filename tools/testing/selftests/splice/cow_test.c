// SPDX-License-Identifier: GPL-2.0
/*
 * Copy on write, and memory that vmsplice(2) has put into a pipe.
 *
 * The pipe refers to the pages. Writing to memory that the caller owns alone
 * takes no fault, and the reader sees the write. Memory that was shared by
 * fork(), and private mappings of files are copied by the first write to them,
 * and the pipe keeps the old page. With SPLICE_F_NOTIFY memory that the caller
 * owned alone is pinned, so fork() copies it for the child, and the reader sees
 * the owner's writes after that, too.
 *
 * Private hugetlb memory differs. The kernel reuses a hugetlb page that has one
 * mapping even if there are other references to it. With a plain reference the
 * reader would therefore see the writes of another process. vmsplice() pins it
 * if the caller owns it alone, and copies it otherwise. Stock fs/splice.c takes
 * the plain reference.
 */
#include "splice_memory.h"

#include <sys/resource.h>

/*
 * Seeds: of the memory, and of data written to it by one process and by
 * another.
 */
#define DATA MEMORY_DATA
#define OTHER 2
#define THIRD 3

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

struct state {
	struct memory mem;
	char *m;		/* start of the memory under test */
	ssize_t size;
	int p[2];		/* capacity of at least MEMORY_SIZE */
	int turn[2][2];		/* parent to child, and child to parent */
	unsigned int flags;	/* of vmsplice() */
};

static void set_up(struct __test_metadata *_metadata, struct state *self,
		   enum memory_kind kind)
{
	self->size = MEMORY_SIZE;
	make_pipe(_metadata, self->p);
	ASSERT_EQ(self->size, fcntl(self->p[1], F_SETPIPE_SZ, self->size));
	make_pipe(_metadata, self->turn[0]);
	make_pipe(_metadata, self->turn[1]);
	memory_map(_metadata, &self->mem, kind);
	self->m = self->mem.p;
}

static void tear_down(struct __test_metadata *_metadata, struct state *self)
{
	memory_unmap(&self->mem);
	close_all();
	expect_no_pins(_metadata);
	memory_give_back(_metadata, self->mem.kind);
}

/* Every kind of memory. */
FIXTURE(cow) {
	struct state s;
};

FIXTURE_VARIANT(cow) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(cow, pages) {
	.kind = MEMORY_PAGES,
};

FIXTURE_VARIANT_ADD(cow, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(cow, pte_thp) {
	.kind = MEMORY_PTE_THP,
};

FIXTURE_VARIANT_ADD(cow, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_VARIANT_ADD(cow, memfd) {
	.kind = MEMORY_MEMFD,
};

FIXTURE_VARIANT_ADD(cow, memfd_hugetlb) {
	.kind = MEMORY_MEMFD_HUGETLB,
};

FIXTURE_VARIANT_ADD(cow, tmpfs_shared) {
	.kind = MEMORY_TMPFS_SHARED,
};

FIXTURE_VARIANT_ADD(cow, tmpfs_private) {
	.kind = MEMORY_TMPFS_PRIVATE,
};

FIXTURE_VARIANT_ADD(cow, ext4_shared) {
	.kind = MEMORY_EXT4_SHARED,
};

FIXTURE_VARIANT_ADD(cow, ext4_private) {
	.kind = MEMORY_EXT4_PRIVATE,
};

FIXTURE_VARIANT_ADD(cow, ext4_large_shared) {
	.kind = MEMORY_EXT4_LARGE_SHARED,
};

FIXTURE_VARIANT_ADD(cow, ext4_large_private) {
	.kind = MEMORY_EXT4_LARGE_PRIVATE,
};

FIXTURE_SETUP(cow)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	set_up(_metadata, &self->s, variant->kind);
}

FIXTURE_TEARDOWN(cow)
{
	tear_down(_metadata, &self->s);
}

/* Memory that is writable. */
FIXTURE(cow_write) {
	struct state s;
};

FIXTURE_VARIANT(cow_write) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(cow_write, pages) {
	.kind = MEMORY_PAGES,
};

FIXTURE_VARIANT_ADD(cow_write, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(cow_write, pte_thp) {
	.kind = MEMORY_PTE_THP,
};

FIXTURE_VARIANT_ADD(cow_write, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_VARIANT_ADD(cow_write, memfd) {
	.kind = MEMORY_MEMFD,
};

FIXTURE_VARIANT_ADD(cow_write, memfd_hugetlb) {
	.kind = MEMORY_MEMFD_HUGETLB,
};

FIXTURE_VARIANT_ADD(cow_write, tmpfs_shared) {
	.kind = MEMORY_TMPFS_SHARED,
};

FIXTURE_VARIANT_ADD(cow_write, ext4_shared) {
	.kind = MEMORY_EXT4_SHARED,
};

FIXTURE_VARIANT_ADD(cow_write, ext4_large_shared) {
	.kind = MEMORY_EXT4_LARGE_SHARED,
};

FIXTURE_SETUP(cow_write)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	set_up(_metadata, &self->s, variant->kind);
}

FIXTURE_TEARDOWN(cow_write)
{
	tear_down(_metadata, &self->s);
}

/* Mappings of files. */
FIXTURE(cow_file) {
	struct state s;
};

FIXTURE_VARIANT(cow_file) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(cow_file, memfd) {
	.kind = MEMORY_MEMFD,
};

FIXTURE_VARIANT_ADD(cow_file, memfd_hugetlb) {
	.kind = MEMORY_MEMFD_HUGETLB,
};

FIXTURE_VARIANT_ADD(cow_file, tmpfs_shared) {
	.kind = MEMORY_TMPFS_SHARED,
};

FIXTURE_VARIANT_ADD(cow_file, tmpfs_private) {
	.kind = MEMORY_TMPFS_PRIVATE,
};

FIXTURE_VARIANT_ADD(cow_file, ext4_shared) {
	.kind = MEMORY_EXT4_SHARED,
};

FIXTURE_VARIANT_ADD(cow_file, ext4_private) {
	.kind = MEMORY_EXT4_PRIVATE,
};

FIXTURE_VARIANT_ADD(cow_file, ext4_large_shared) {
	.kind = MEMORY_EXT4_LARGE_SHARED,
};

FIXTURE_VARIANT_ADD(cow_file, ext4_large_private) {
	.kind = MEMORY_EXT4_LARGE_PRIVATE,
};

FIXTURE_SETUP(cow_file)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	set_up(_metadata, &self->s, variant->kind);
}

FIXTURE_TEARDOWN(cow_file)
{
	tear_down(_metadata, &self->s);
}

/* Private mappings of files, read-only. */
FIXTURE(cow_private) {
	struct state s;
};

FIXTURE_VARIANT(cow_private) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(cow_private, tmpfs_private) {
	.kind = MEMORY_TMPFS_PRIVATE,
};

FIXTURE_VARIANT_ADD(cow_private, ext4_private) {
	.kind = MEMORY_EXT4_PRIVATE,
};

FIXTURE_VARIANT_ADD(cow_private, tmpfs_large_private) {
	.kind = MEMORY_TMPFS_LARGE_PRIVATE,
};

FIXTURE_VARIANT_ADD(cow_private, ext4_large_private) {
	.kind = MEMORY_EXT4_LARGE_PRIVATE,
};

FIXTURE_SETUP(cow_private)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	set_up(_metadata, &self->s, variant->kind);
}

FIXTURE_TEARDOWN(cow_private)
{
	tear_down(_metadata, &self->s);
}

/* Anonymous memory, put into the pipe with SPLICE_F_NOTIFY. */
FIXTURE(cow_notify) {
	struct state s;
};

FIXTURE_VARIANT(cow_notify) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(cow_notify, pages) {
	.kind = MEMORY_PAGES,
};

FIXTURE_VARIANT_ADD(cow_notify, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(cow_notify, pte_thp) {
	.kind = MEMORY_PTE_THP,
};

FIXTURE_VARIANT_ADD(cow_notify, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_SETUP(cow_notify)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	set_up(_metadata, &self->s, variant->kind);
	self->s.flags = SPLICE_F_NOTIFY;
}

FIXTURE_TEARDOWN(cow_notify)
{
	tear_down(_metadata, &self->s);
}

static bool is_writable(enum memory_kind kind)
{
	return !memory_is_private_file(kind);
}

/* Puts all of the memory into the pipe. */
static void put(struct __test_metadata *_metadata, struct state *self)
{
	ASSERT_EQ(self->size, xvmsplice1(self->p[1], self->m, self->size,
					 self->flags));
}

/* Checks that the next @len bytes in the pipe are the pattern of @seed. */
static void expect_read(struct __test_metadata *_metadata,
			struct state *self, ssize_t len,
			unsigned int seed, loff_t pos)
{
	EXPECT_EQ(len, read_pattern(self->p[0], len, seed, pos));
}

static void expect_all(struct __test_metadata *_metadata,
		       struct state *self, unsigned int seed)
{
	expect_read(_metadata, self, self->size, seed, 0);
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

static void expect_memory(struct __test_metadata *_metadata,
			  struct state *self, unsigned int seed)
{
	EXPECT_EQ(self->size, match_pattern(self->m, self->size, seed, 0));
}

/*
 * Puts the memory into the pipe and checks that the reader sees a later write.
 */
static void put_and_write(struct __test_metadata *_metadata,
			  struct state *self)
{
	ssize_t half = self->size / 2;

	put(_metadata, self);
	fill_pattern(self->m, self->size, OTHER, 0);
	expect_read(_metadata, self, half, OTHER, 0);
	fill_pattern(self->m, self->size, THIRD, 0);
	expect_read(_metadata, self, half, THIRD, half);
	fill_pattern(self->m, self->size, DATA, 0);
}

/* Synchronization of two processes that take turns. */
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

static void finish(struct __test_metadata *_metadata, pid_t pid)
{
	int status;

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* A process on its own CPU that uses this memory. */
static bool spinning, stop_spinning;

static void on_cpu(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void *spin(void *mem)
{
	on_cpu(1);
	while (!__atomic_load_n(&stop_spinning, __ATOMIC_SEQ_CST)) {
		__atomic_load_n((char *)mem, __ATOMIC_RELAXED);
		__atomic_store_n(&spinning, true, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static pthread_t start_spinning(struct __test_metadata *_metadata, void *mem)
{
	pthread_t thread;

	on_cpu(0);
	ASSERT_EQ(0, pthread_create(&thread, NULL, spin, mem));
	while (!__atomic_load_n(&spinning, __ATOMIC_SEQ_CST))
		usleep(1000);
	return thread;
}

static void end_spinning(struct __test_metadata *_metadata, pthread_t thread)
{
	__atomic_store_n(&stop_spinning, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(thread, NULL));
}

/* Returns the number of TLB shootdown interrupts, or -1. */
static long shootdowns(void)
{
	static char line[4096];
	FILE *f = fopen("/proc/interrupts", "r");
	long sum = -1, n;
	char *at, *end;

	while (f && fgets(line, sizeof(line), f)) {
		at = line + strspn(line, " ");
		if (strncmp(at, "TLB:", 4))
			continue;
		sum = 0;
		for (at += 4; n = strtol(at, &end, 10), end != at; at = end)
			sum += n;
	}
	if (f)
		fclose(f);
	return sum;
}

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

/* Returns how many kB of the mapping at @m are huge pages. */
static ssize_t mapped_huge(const char *m)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long start;
	ssize_t kb = -ENOENT;
	bool found = false;
	char line[512];

	while (f && kb < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%*x", &start) == 1 &&
		    strchr(line, '-'))
			found = start == (unsigned long)m;
		if (found)
			sscanf(line, "AnonHugePages: %zd", &kb);
	}
	if (f)
		fclose(f);
	return kb;
}

/*
 * Other activity of the system is not counted: the lowest count of several
 * rounds is used.
 */
#define ROUNDS 5

/* Neither vmsplice() nor a later write to the memory causes a page fault. */
TEST_F_TIMEOUT(cow_write, no_fault, 60)
{
	long least_faults = LONG_MAX, least_shootdowns = LONG_MAX, n, s;
	bool alone = sysconf(_SC_NPROCESSORS_ONLN) < 2;
	pthread_t thread;
	int i;

	if (!alone)
		thread = start_spinning(_metadata, self->s.m);
	for (i = 0; i < ROUNDS; i++) {
		s = shootdowns();
		n = faults();
		put(_metadata, &self->s);
		fill_pattern(self->s.m, self->s.size, i + OTHER, 0);
		n = faults() - n;
		s = shootdowns() - s;
		if (n < least_faults)
			least_faults = n;
		if (s < least_shootdowns)
			least_shootdowns = s;
		expect_all(_metadata, &self->s, i + OTHER);
	}
	EXPECT_EQ(0, least_faults);
	EXPECT_EQ(0, least_shootdowns);
	if (!alone)
		end_spinning(_metadata, thread);
	if (variant->kind == MEMORY_THP)
		EXPECT_EQ(self->s.size / 1024, mapped_huge(self->s.m));
}

/* Checks that the test above would notice a fault. */
TEST_F(cow_write, faults_are_seen)
{
	pthread_t thread;
	long n, s;
	pid_t pid;

	n = faults();
	s = shootdowns();
	if (s >= 0 && sysconf(_SC_NPROCESSORS_ONLN) > 1) {
		thread = start_spinning(_metadata, self->s.m);
		ASSERT_EQ(0, mprotect(self->s.m, self->s.size, PROT_READ));
		ASSERT_EQ(0, mprotect(self->s.m, self->s.size,
				      PROT_READ | PROT_WRITE));
		EXPECT_LT(s, shootdowns());
		end_spinning(_metadata, thread);
	}
	if (!memory_is_anon(variant->kind))
		return;
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		n = faults();
		self->s.m[0] = 0;
		_exit(faults() == n);
	}
	finish(_metadata, pid);
	if (variant->kind == MEMORY_THP)
		EXPECT_EQ(self->s.size / 1024, mapped_huge(self->s.m));
}

/*
 * The reader sees writes to memory in a pipe: one, several, and of parts of a
 * page.
 */
TEST_F(cow_write, write_in_flight)
{
	put_and_write(_metadata, &self->s);
	put(_metadata, &self->s);
	expect_all(_metadata, &self->s, DATA);
}

/* The same for write() to the file, which a private mapping need not show. */
TEST_F(cow, file_write_in_flight)
{
	char *buf = alloc_pattern(_metadata, self->s.size, OTHER);

	put(_metadata, &self->s);
	if (variant->kind == MEMORY_MEMFD ||
	    variant->kind == MEMORY_TMPFS_SHARED ||
	    variant->kind == MEMORY_EXT4_SHARED) {
		ASSERT_EQ(self->s.size,
			  pwrite(self->s.mem.fd, buf, self->s.size, 0));
		expect_all(_metadata, &self->s, OTHER);
	} else {
		expect_all(_metadata, &self->s, DATA);
	}
	free(buf);
}

/*
 * A private mapping that is made writable and written to gets its own pages.
 * The file and the pipe keep the old ones.
 */
TEST_F(cow_private, private_made_writable)
{
	put(_metadata, &self->s);
	ASSERT_EQ(0, mprotect(self->s.m, self->s.size, PROT_READ | PROT_WRITE));
	fill_pattern(self->s.m, self->s.size, OTHER, 0);
	ASSERT_EQ(0, lseek(self->s.mem.fd, 0, SEEK_SET));
	EXPECT_EQ(self->s.size, read_pattern(self->s.mem.fd, self->s.size, DATA, 0));
	expect_all(_metadata, &self->s, DATA);
	expect_memory(_metadata, &self->s, OTHER);
}

/* fork(): a child's write is seen in shared memory only. */
static void child_writes(struct __test_metadata *_metadata,
			 struct state *self, bool fork_first)
{
	bool shared = memory_is_shared(self->mem.kind);
	pid_t pid;

	if (!fork_first)
		put(_metadata, self);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		my_turn(self->turn[0]);
		fill_pattern(self->m, self->size, OTHER, 0);
		your_turn(self->turn[1]);
		my_turn(self->turn[0]);
		expect_memory(_metadata, self, OTHER);
		_exit(0);
	}
	if (fork_first)
		put(_metadata, self);
	your_turn(self->turn[0]);
	my_turn(self->turn[1]);
	expect_memory(_metadata, self, shared ? OTHER : DATA);
	expect_all(_metadata, self, shared ? OTHER : DATA);
	your_turn(self->turn[0]);
	finish(_metadata, pid);
	expect_memory(_metadata, self, shared ? OTHER : DATA);
}

TEST_F(cow_write, child_writes_after_fork)
{
	child_writes(_metadata, &self->s, true);
}

TEST_F(cow_write, child_writes_after_vmsplice)
{
	child_writes(_metadata, &self->s, false);
}

/*
 * Whether a plain reference to this memory would show the writes of another
 * process.
 */
static bool leaks(enum memory_kind kind)
{
	return memory_is_anon_hugetlb(kind) && !have_counters();
}

/*
 * Whether the reader sees a write of the caller, if the caller owned the memory
 * alone when it called vmsplice(), and shares it with a child when it writes.
 */
static bool shows_writes_after_fork(const struct state *self)
{
	if (memory_is_shared(self->mem.kind))
		return true;
	if (!have_counters())
		return false;
	return self->flags || memory_is_anon_hugetlb(self->mem.kind);
}

/* The parent writes while a child exists. The child never sees the write. */
static void parent_writes(struct __test_metadata *_metadata,
			  struct state *self, bool fork_first)
{
	bool shared = memory_is_shared(self->mem.kind);
	bool shown = fork_first ? shared : shows_writes_after_fork(self);
	pid_t pid;

	if (!fork_first)
		put(_metadata, self);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		my_turn(self->turn[0]);
		expect_memory(_metadata, self, shared ? OTHER : DATA);
		if (!shared)
			fill_pattern(self->m, self->size, THIRD, 0);
		_exit(0);
	}
	if (fork_first)
		put(_metadata, self);
	fill_pattern(self->m, self->size, OTHER, 0);
	your_turn(self->turn[0]);
	finish(_metadata, pid);
	expect_memory(_metadata, self, OTHER);
	if (leaks(self->mem.kind)) {
		/* The child writes to the page that is still in the pipe. */
		expect_all(_metadata, self, THIRD);
		XFAIL(return, HUGETLB_LEAKS);
	}
	expect_all(_metadata, self, shown ? OTHER : DATA);
}

/*
 * A write to memory of two processes copies the page, and the pipe keeps the
 * old one.
 */
TEST_F(cow_write, parent_writes_after_fork)
{
	parent_writes(_metadata, &self->s, true);
}

TEST_F(cow_write, parent_writes_after_vmsplice)
{
	parent_writes(_metadata, &self->s, false);
}

TEST_F(cow_notify, parent_writes_after_fork)
{
	if (!have_notify(self->s.p[1]))
		SKIP(return, NO_NOTIFY);
	parent_writes(_metadata, &self->s, true);
}

/* With a pin the reader always sees the owner's write. */
TEST_F(cow_notify, parent_writes_after_vmsplice)
{
	if (!have_notify(self->s.p[1]))
		SKIP(return, NO_NOTIFY);
	parent_writes(_metadata, &self->s, false);
}

TEST_F(cow_notify, child_writes_after_fork)
{
	if (!have_notify(self->s.p[1]))
		SKIP(return, NO_NOTIFY);
	child_writes(_metadata, &self->s, true);
}

TEST_F(cow_notify, child_writes_after_vmsplice)
{
	if (!have_notify(self->s.p[1]))
		SKIP(return, NO_NOTIFY);
	child_writes(_metadata, &self->s, false);
}

/*
 * The child is gone when the parent writes, so the memory is exclusive to the
 * parent. The pipe's reference causes a copy of anonymous memory. On stock C, a
 * hugetlb page that has no other mapping is written in place.
 */
static void child_exits_first(struct __test_metadata *_metadata,
			      struct state *self, bool fork_first)
{
	bool shared = memory_is_shared(self->mem.kind);
	bool shown = fork_first ? shared : shows_writes_after_fork(self);
	pid_t pid;

	if (leaks(self->mem.kind))
		shown = true;
	if (!fork_first)
		put(_metadata, self);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		fill_pattern(self->m, self->size, OTHER, 0);
		_exit(0);
	}
	if (fork_first)
		put(_metadata, self);
	finish(_metadata, pid);
	expect_memory(_metadata, self, shared ? OTHER : DATA);
	fill_pattern(self->m, self->size, THIRD, 0);
	expect_memory(_metadata, self, THIRD);
	expect_all(_metadata, self, shown ? THIRD : DATA);
}

TEST_F(cow_write, child_of_fork_exits_first)
{
	child_exits_first(_metadata, &self->s, true);
}

TEST_F(cow_write, child_of_vmsplice_exits_first)
{
	child_exits_first(_metadata, &self->s, false);
}

TEST_F(cow_notify, child_of_vmsplice_exits_first)
{
	if (!have_notify(self->s.p[1]))
		SKIP(return, NO_NOTIFY);
	child_exits_first(_metadata, &self->s, false);
}

/*
 * The process that called vmsplice() is gone. Its child owns the memory now and
 * writes to it.
 */
static void parent_exits_first(struct __test_metadata *_metadata,
			       struct state *self, bool fork_first)
{
	bool shared = memory_is_shared(self->mem.kind);
	enum memory_kind kind = self->mem.kind;
	pid_t pid, child;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* Memory that this process does not share with its parent. */
		memory_unmap(&self->mem);
		memory_map(_metadata, &self->mem, kind);
		self->m = self->mem.p;
		if (!fork_first)
			put(_metadata, self);
		child = fork();
		ASSERT_LE(0, child);
		if (!child) {
			my_turn(self->turn[0]);
			expect_memory(_metadata, self, DATA);
			fill_pattern(self->m, self->size, OTHER, 0);
			your_turn(self->turn[1]);
			my_turn(self->turn[0]);
			expect_memory(_metadata, self, OTHER);
			your_turn(self->turn[1]);
			_exit(0);
		}
		if (fork_first)
			put(_metadata, self);
		_exit(0);
	}
	finish(_metadata, pid);
	your_turn(self->turn[0]);
	my_turn(self->turn[1]);
	expect_all(_metadata, self, shared || leaks(kind) ? OTHER : DATA);
	your_turn(self->turn[0]);
	my_turn(self->turn[1]);
	expect_memory(_metadata, self, DATA);
	if (leaks(kind))
		XFAIL(return, HUGETLB_LEAKS);
}

TEST_F(cow_write, parent_of_fork_exits_first)
{
	parent_exits_first(_metadata, &self->s, true);
}

TEST_F(cow_write, parent_of_vmsplice_exits_first)
{
	parent_exits_first(_metadata, &self->s, false);
}

/*
 * CVE-2020-29374: a child puts memory into a pipe that it shares with its
 * parent since the fork, and unmaps it. The parent, which has the only mapping
 * left, writes a secret.
 */
static void child_vmsplices(struct __test_metadata *_metadata,
			    struct state *self, bool exits)
{
	enum memory_kind kind = self->mem.kind;
	unsigned int seed = memory_is_shared(kind) || leaks(kind) ? OTHER : DATA;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		put(_metadata, self);
		EXPECT_EQ(0, munmap(self->m, self->size));
		if (exits)
			_exit(0);
		your_turn(self->turn[1]);
		my_turn(self->turn[0]);
		expect_all(_metadata, self, seed);
		_exit(0);
	}
	if (exits)
		finish(_metadata, pid);
	else
		my_turn(self->turn[1]);
	fill_pattern(self->m, self->size, OTHER, 0);
	if (exits) {
		expect_all(_metadata, self, seed);
	} else {
		your_turn(self->turn[0]);
		finish(_metadata, pid);
	}
	expect_memory(_metadata, self, OTHER);
	if (leaks(kind))
		XFAIL(return, HUGETLB_LEAKS);
}

TEST_F(cow_write, child_sees_no_later_write)
{
	child_vmsplices(_metadata, &self->s, false);
}

TEST_F(cow_write, child_leaves_no_later_write)
{
	child_vmsplices(_metadata, &self->s, true);
}

TEST_F(cow_notify, child_sees_no_later_write)
{
	if (!have_notify(self->s.p[1]))
		SKIP(return, NO_NOTIFY);
	child_vmsplices(_metadata, &self->s, false);
}

TEST_F(cow_notify, child_leaves_no_later_write)
{
	if (!have_notify(self->s.p[1]))
		SKIP(return, NO_NOTIFY);
	child_vmsplices(_metadata, &self->s, true);
}

/*
 * The child puts memory that it shares with its parent into the pipe. Its write
 * copies the page, and neither the reader nor the parent see it.
 */
TEST_F(cow_write, child_vmsplices_and_writes)
{
	bool shared = memory_is_shared(variant->kind);
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		put(_metadata, &self->s);
		fill_pattern(self->s.m, self->s.size, OTHER, 0);
		_exit(0);
	}
	finish(_metadata, pid);
	expect_memory(_metadata, &self->s, shared ? OTHER : DATA);
	expect_all(_metadata, &self->s, shared ? OTHER : DATA);
}

/*
 * Both processes put the memory that they share into pipes. Each reader sees
 * the writes of one process only.
 */
TEST_F(cow_write, both_vmsplice)
{
	bool shared = memory_is_shared(variant->kind);
	pid_t pid;
	int q[2];

	make_pipe(_metadata, q);
	ASSERT_EQ(self->s.size, fcntl(q[1], F_SETPIPE_SZ, self->s.size));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		ASSERT_EQ(self->s.size,
			  xvmsplice1(q[1], self->s.m, self->s.size, 0));
		your_turn(self->s.turn[1]);
		my_turn(self->s.turn[0]);
		EXPECT_EQ(self->s.size,
			  read_pattern(q[0], self->s.size,
				       shared ? OTHER : DATA, 0));
		_exit(0);
	}
	put(_metadata, &self->s);
	my_turn(self->s.turn[1]);
	/*
	 * Whether the page was copied or not, the child does not see the write.
	 */
	fill_pattern(self->s.m, self->s.size, OTHER, 0);
	your_turn(self->s.turn[0]);
	finish(_metadata, pid);
	ASSERT_EQ(self->s.size, xvmsplice1(q[1], self->s.m, self->s.size, 0));
	EXPECT_EQ(self->s.size, read_pattern(q[0], self->s.size, OTHER, 0));
}

/* Changes of the mapping. */

TEST_F(cow, mprotect)
{
	ssize_t half = self->s.size / 2;

	put(_metadata, &self->s);
	ASSERT_EQ(0, mprotect(self->s.m, self->s.size, PROT_NONE));
	expect_read(_metadata, &self->s, half, DATA, 0);
	ASSERT_EQ(0, mprotect(self->s.m, self->s.size, PROT_READ));
	expect_memory(_metadata, &self->s, DATA);
	if (!is_writable(variant->kind)) {
		expect_read(_metadata, &self->s, half, DATA, half);
		return;
	}
	ASSERT_EQ(0, mprotect(self->s.m, self->s.size, PROT_READ | PROT_WRITE));
	fill_pattern(self->s.m, self->s.size, OTHER, 0);
	expect_read(_metadata, &self->s, half, OTHER, half);
	fill_pattern(self->s.m, self->s.size, DATA, 0);
	put_and_write(_metadata, &self->s);
}

/* The memory is unmapped, and other memory is mapped at its address. */
TEST_F(cow, munmap)
{
	struct memory other = { .p = self->s.m, .fd = -1 };

	put(_metadata, &self->s);
	ASSERT_EQ(0, munmap(self->s.m, self->s.size));
	ASSERT_TRUE(memory_mmap(&other, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS));
	fill_pattern(self->s.m, self->s.size, OTHER, 0);
	expect_all(_metadata, &self->s, DATA);
	expect_memory(_metadata, &self->s, OTHER);
}

/*
 * A part of the memory is unmapped, which splits a huge mapping if it can be
 * split.
 */
TEST_F(cow, munmap_part)
{
	ssize_t page = page_size(), at = 100 * page;

	put(_metadata, &self->s);
	if (memory_is_hugetlb(variant->kind)) {
		EXPECT_EQ(-EINVAL, or_errno(munmap(self->s.m + at, page)));
		expect_all(_metadata, &self->s, DATA);
		return;
	}
	ASSERT_EQ(0, munmap(self->s.m + at, page));
	if (is_writable(variant->kind)) {
		fill_pattern(self->s.m, at, OTHER, 0);
		expect_read(_metadata, &self->s, at, OTHER, 0);
	} else {
		expect_read(_metadata, &self->s, at, DATA, 0);
	}
	expect_read(_metadata, &self->s, self->s.size - at, DATA, at);
}

/* The reader sees a write at the new address after mremap(). */
TEST_F(cow, mremap)
{
	struct memory to = { .fd = -1 };

	ASSERT_TRUE(memory_reserve_area(&to));
	put(_metadata, &self->s);
	ASSERT_EQ(to.p, mremap(self->s.m, self->s.size, self->s.size,
			       MREMAP_MAYMOVE | MREMAP_FIXED, to.p));
	if (is_writable(variant->kind)) {
		fill_pattern(to.p, self->s.size, OTHER, 0);
		expect_all(_metadata, &self->s, OTHER);
	} else {
		expect_all(_metadata, &self->s, DATA);
	}
	memory_unmap(&to);
}

/* After this, anonymous memory is new, and memory of a file is the same. */
TEST_F(cow, dontneed)
{
	put(_metadata, &self->s);
	ASSERT_EQ(0, madvise(self->s.m, self->s.size, MADV_DONTNEED));
	EXPECT_EQ(self->s.size, memory_is_anon(variant->kind) ?
		  match_byte(self->s.m, self->s.size, 0) :
		  match_pattern(self->s.m, self->s.size, DATA, 0));
	if (is_writable(variant->kind))
		fill_pattern(self->s.m, self->s.size, OTHER, 0);
	expect_all(_metadata, &self->s,
		   memory_is_shared(variant->kind) ? OTHER : DATA);
}

/* The data stays in the pipe when the process exits or is killed. */
enum end_of_process {
	BY_EXIT,
	BY_SIGNAL,
	BY_EXEC,
};

static void process_ends(struct __test_metadata *_metadata,
			 struct state *self, enum end_of_process how)
{
	enum memory_kind kind = self->mem.kind;
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* Memory that no other process shares. */
		memory_unmap(&self->mem);
		memory_map(_metadata, &self->mem, kind);
		self->m = self->mem.p;
		put(_metadata, self);
		if (how == BY_SIGNAL)
			kill(getpid(), SIGKILL);
		if (how == BY_EXEC)
			execlp("true", "true", NULL);
		_exit(how != BY_EXIT);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(how == BY_SIGNAL ? SIGKILL : 0, status);
	/*
	 * If the memory had been freed, its new owner would have overwritten
	 * it.
	 */
	if (is_writable(kind))
		fill_pattern(self->m, self->size, OTHER, 0);
	expect_all(_metadata, self, DATA);
}

TEST_F(cow, exit)
{
	process_ends(_metadata, &self->s, BY_EXIT);
}

TEST_F(cow, killed)
{
	process_ends(_metadata, &self->s, BY_SIGNAL);
}

TEST_F(cow, exec)
{
	process_ends(_metadata, &self->s, BY_EXEC);
}

/* Changes of the file. */

TEST_F(cow_file, hole_punch)
{
	put(_metadata, &self->s);
	ASSERT_EQ(0, fallocate(self->s.mem.fd, FALLOC_FL_PUNCH_HOLE |
			       FALLOC_FL_KEEP_SIZE, 0, self->s.size));
	if (is_writable(variant->kind)) {
		EXPECT_EQ(self->s.size, match_byte(self->s.m, self->s.size, 0));
		fill_pattern(self->s.m, self->s.size, OTHER, 0);
	}
	expect_all(_metadata, &self->s, DATA);
}

TEST_F(cow_file, truncate)
{
	put(_metadata, &self->s);
	ASSERT_EQ(0, ftruncate(self->s.mem.fd, 0));
	expect_read(_metadata, &self->s, self->s.size / 2, DATA, 0);
	ASSERT_EQ(0, ftruncate(self->s.mem.fd, self->s.size));
	EXPECT_EQ(self->s.size, match_byte(self->s.m, self->s.size, 0));
	if (is_writable(variant->kind))
		fill_pattern(self->s.m, self->s.size, OTHER, 0);
	expect_read(_metadata, &self->s, self->s.size / 2, DATA, self->s.size / 2);
}

/* Changes by the memory management. */

/* Memory in the pipe stays in place while other memory is swapped out. */
TEST_F_TIMEOUT(cow, pageout, 60)
{
	ssize_t half = self->s.size / 2;
	const char *missing;
	struct memory other;

	missing = swap_missing();
	if (missing)
		SKIP(return, "%s", missing);
	memory_map(_metadata, &other, MEMORY_PAGES);
	put(_metadata, &self->s);
	EXPECT_EQ(memory_is_hugetlb(variant->kind) ? -EINVAL : 0,
		  or_errno(madvise(self->s.m, self->s.size, MADV_PAGEOUT)));
	ASSERT_EQ(0, madvise(other.p, self->s.size, MADV_PAGEOUT));
	EXPECT_LT(0, count_swapped(other.p, self->s.size));
	expect_read(_metadata, &self->s, half, DATA, 0);
	expect_memory(_metadata, &self->s, DATA);
	if (is_writable(variant->kind)) {
		fill_pattern(self->s.m, self->s.size, OTHER, 0);
		expect_read(_metadata, &self->s, half, OTHER, half);
		expect_memory(_metadata, &self->s, OTHER);
	} else {
		expect_read(_metadata, &self->s, half, DATA, half);
	}
	memory_unmap(&other);
}

/* Pages in the pipe are not collapsed into huge pages ... */
TEST_F(cow_write, collapse)
{
	put(_metadata, &self->s);
	madvise(self->s.m, self->s.size, MADV_HUGEPAGE);
	/* The kernel is free not to collapse them. */
	madvise(self->s.m, self->s.size, MADV_COLLAPSE);
	fill_pattern(self->s.m, self->s.size, OTHER, 0);
	expect_all(_metadata, &self->s, OTHER);
	expect_memory(_metadata, &self->s, OTHER);
}

/* ... and not moved by compaction. */
TEST_F_TIMEOUT(cow, compaction, 60)
{
	put(_metadata, &self->s);
	if (!write_number("/proc/sys/vm/compact_memory", 1))
		SKIP(return, "no compaction: %s", strerror(errno));
	if (is_writable(variant->kind))
		fill_pattern(self->s.m, self->s.size, OTHER, 0);
	expect_all(_metadata, &self->s, is_writable(variant->kind) ? OTHER : DATA);
}

TEST_HARNESS_MAIN
