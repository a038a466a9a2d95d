// SPDX-License-Identifier: GPL-2.0
/*
 * Accounting of memory in pipes: it counts against no resource limit of a
 * process. Above the sysctl fs.pipe-user-memory-pages, vmsplice() copies.
 */
#include <linux/io_uring.h>
#include <sys/resource.h>

#include "splice_memory.h"
#include "splice_notify.h"

#define LIMIT "/proc/sys/fs/pipe-user-memory-pages"

#define DATA MEMORY_DATA
#define SOME 5000

/* Pages of a folio of 2 MiB. */
#define HUGE (MEMORY_SIZE / 4096)

/* Any two users that are not root. */
#define USER 65500
#define OTHER 65501

/*
 * Returns 1 if vmsplice() referred to the memory, so that later writes to it
 * are seen, 0 if it copied the memory, and a negated errno on failure. The pipe
 * is empty again.
 */
static ssize_t refers(char *mem, unsigned int flags)
{
	ssize_t ret;
	char c = 0;
	int p[2];

	if (pipe(p))
		return -errno;
	*mem = 1;
	ret = xvmsplice1(p[1], mem, 1, flags);
	*mem = 2;
	if (ret == 1)
		ret = xread(p[0], &c, 1);
	close(p[0]);
	close(p[1]);
	return ret < 0 ? ret : c == 2;
}

/* The same for a new mapping of one page. */
static ssize_t probe(void)
{
	char *mem = mmap(NULL, page_size(), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t ret;

	if (mem == MAP_FAILED)
		return -errno;
	ret = refers(mem, 0);
	munmap(mem, page_size());
	return ret;
}

/* RLIMIT_MEMLOCK does not apply to memory in pipes. */

FIXTURE(budget) {
	struct memory mem;
	char *m;
	int p[2];
};

FIXTURE_VARIANT(budget) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(budget, pages) {
	.kind = MEMORY_PAGES,
};

FIXTURE_VARIANT_ADD(budget, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(budget, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_VARIANT_ADD(budget, memfd) {
	.kind = MEMORY_MEMFD,
};

FIXTURE_SETUP(budget)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	make_pipe(_metadata, self->p);
	memory_map(_metadata, &self->mem, variant->kind);
	self->m = self->mem.p;
}

FIXTURE_TEARDOWN(budget)
{
	EXPECT_EQ(0, setresuid(0, 0, 0));
	memory_unmap(&self->mem);
	close_all();
	memory_give_back(_metadata, variant->kind);
}

static void limit_memlock(struct __test_metadata *_metadata, rlim_t limit)
{
	struct rlimit r = { .rlim_cur = limit, .rlim_max = limit };

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &r));
}

static ssize_t status_line(const char *name)
{
	return read_line_of("/proc/self/status", name);
}

/* With RLIMIT_MEMLOCK 0 nothing is copied, and nothing is charged. */
TEST_F(budget, memlock_zero)
{
	ssize_t size = 16 * page_size(), pinned, locked, i;
	bool notify = have_notify(self->p[1]);
	unsigned int flags;

	limit_memlock(_metadata, 0);
	become(_metadata, USER);
	for (i = 0; i < 2; i++) {
		flags = i && notify ? SPLICE_F_NOTIFY : 0;
		pinned = status_line("VmPin:");
		locked = status_line("VmLck:");
		ASSERT_LE(0, pinned);
		ASSERT_LE(0, locked);
		fill_pattern(self->m, size, DATA, 0);
		ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, size, flags));
		EXPECT_EQ(pinned, status_line("VmPin:"));
		EXPECT_EQ(locked, status_line("VmLck:"));
		fill_pattern(self->m, size, DATA + 1, 0);
		EXPECT_EQ(size, read_pattern(self->p[0], size, DATA + 1, 0));
		EXPECT_EQ(pinned, status_line("VmPin:"));
	}
}

static int register_buffer(int ring, void *mem, size_t len)
{
	struct iovec iov = { .iov_base = mem, .iov_len = len };

	return or_errno(syscall(SYS_io_uring_register, ring,
				IORING_REGISTER_BUFFERS, &iov, 1));
}

/* Memory in pipes takes nothing from the limit of io_uring's buffers. */
TEST_F(budget, io_uring)
{
	struct io_uring_params params = {};
	ssize_t page = page_size(), ret;
	int p[2], i, ring;
	char *own;

	own = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, own);
	limit_memlock(_metadata, 8 * page);
	become(_metadata, USER);
	ring = or_errno(syscall(SYS_io_uring_setup, 1, &params));
	if (ring < 0)
		SKIP(return, "no io_uring: %s", strerror(-ring));
	for (i = 0; i < 16; i++) {
		make_pipe(_metadata, p);
		ret = xvmsplice1(p[1], self->m, 16 * page,
				 have_notify(p[1]) && i % 2 ? SPLICE_F_NOTIFY :
							      0);
		ASSERT_EQ(16 * page, ret);
	}
	EXPECT_EQ(0, register_buffer(ring, own, 8 * page));
	/* The limit applies to io_uring. */
	EXPECT_EQ(0, or_errno(syscall(SYS_io_uring_register, ring,
				      IORING_UNREGISTER_BUFFERS, NULL, 0)));
	own = mremap(own, 8 * page, 9 * page, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, own);
	EXPECT_EQ(-ENOMEM, register_buffer(ring, own, 9 * page));
	munmap(own, 9 * page);
	close(ring);
}

/* The sysctl. */

FIXTURE(account) {
	struct memory mem;
	char *m;
	ssize_t page;
	int p[2];
	int q[2];
};

FIXTURE_SETUP(account)
{
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	if (!have_notify(self->p[1]))
		SKIP(return, "this kernel has no " LIMIT);
	ASSERT_EQ(0, access(LIMIT, F_OK));
	ASSERT_EQ(-1, read_number(LIMIT));
	self->page = page_size();
	memory_map(_metadata, &self->mem, MEMORY_PAGES);
	self->m = self->mem.p;
}

/*
 * The parent restores the sysctl, so that a test that was killed does not limit
 * the others.
 */
FIXTURE_TEARDOWN_PARENT(account)
{
	if (!access(LIMIT, F_OK))
		EXPECT_TRUE(write_number(LIMIT, -1));
}

static void set_limit(struct __test_metadata *_metadata, ssize_t pages)
{
	ASSERT_TRUE(write_number(LIMIT, pages));
	ASSERT_EQ(pages, read_number(LIMIT));
}

/*
 * Expects that exactly @pages are charged to the user: with a limit of @pages
 * the next page is copied, with a limit of @pages + 1 it is referred to. Sets
 * the limit far above that.
 */
static void expect_charged(struct __test_metadata *_metadata, ssize_t pages)
{
	ssize_t without, with;

	set_limit(_metadata, pages);
	without = probe();
	set_limit(_metadata, pages + 1);
	with = probe();
	EXPECT_EQ(0, without) {
		TH_LOG("less than %zd pages are charged", pages);
	}
	EXPECT_EQ(1, with) {
		TH_LOG("more than %zd pages are charged", pages);
	}
	set_limit(_metadata, 1000000);
}

/* The same, after waiting until outstanding charges are returned. */
static void expect_charged_soon(struct __test_metadata *_metadata,
				ssize_t pages)
{
	int i;

	set_limit(_metadata, pages + 1);
	for (i = 0; i < 1000 && probe() != 1; i++)
		usleep(10000);
	expect_charged(_metadata, pages);
}

TEST_F(account, values)
{
	static const char *const good[] = { "0", "1", "8", "1000000", "-1" };
	static const char *const bad[] = {
		"-2", "-1000000", "abc", "8x", "99999999999999999999999",
	};
	int i;

	for (i = 0; i < ARRAY_LEN(good); i++) {
		EXPECT_EQ((ssize_t)strlen(good[i]), write_text(LIMIT, good[i]));
		EXPECT_EQ(atoi(good[i]), read_number(LIMIT));
	}
	set_limit(_metadata, 7);
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		EXPECT_EQ(-EINVAL, write_text(LIMIT, bad[i])) {
			TH_LOG("%s", bad[i]);
		}
		EXPECT_EQ(7, read_number(LIMIT));
	}
}

/* All users can read the sysctl; only root can write it. */
TEST_F(account, permissions)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		bool ok = !setresuid(USER, USER, USER) &&
			  read_number(LIMIT) == -1 &&
			  write_text(LIMIT, "5") == -EACCES;

		/* The root user of a user namespace cannot write it. */
		if (ok && !unshare(CLONE_NEWUSER))
			ok = write_text(LIMIT, "5") == -EACCES;
		_exit(!ok);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(-1, read_number(LIMIT));
}

/* With limit 0 every call copies all of its memory. */
TEST_F(account, zero)
{
	ssize_t page = self->page, size = 16 * page;
	struct account before = {};
	ssize_t limit = 0;
	int i;

	if (have_counters()) {
		before = read_account(_metadata);
		limit = read_counter("bytes.memory_to_pipe.copied.limit");
		ASSERT_LE(0, limit);
	}
	set_limit(_metadata, 0);
	for (i = 0; i < 2; i++) {
		fill_pattern(self->m, size, DATA, 0);
		ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, size,
					   i ? SPLICE_F_NOTIFY : 0));
		fill_pattern(self->m, size, DATA + 1, 0);
		EXPECT_EQ(size, read_pattern(self->p[0], size, DATA, 0));
		if (!have_counters())
			continue;
		check_account(_metadata, &before, 0, size);
		limit += size;
		EXPECT_EQ(limit,
			  read_counter("bytes.memory_to_pipe.copied.limit"));
	}
	set_limit(_metadata, -1);
	EXPECT_EQ(1, probe());
}

/* A call that reaches the limit refers to the memory; the next one copies. */
TEST_F(account, limit)
{
	ssize_t page = self->page;
	struct account before;
	ssize_t limit;

	if (!have_counters())
		SKIP(return, COUNTERS " is not there");
	before = read_account(_metadata);
	limit = read_counter("bytes.memory_to_pipe.copied.limit");
	set_limit(_metadata, 8);
	ASSERT_EQ(8 * page, xvmsplice1(self->p[1], self->m, 8 * page, 0));
	check_account(_metadata, &before, 8 * page, 0);
	ASSERT_EQ(page + 1, xvmsplice1(self->p[1], self->m + 8 * page,
				       page + 1, 0));
	check_account(_metadata, &before, 0, page + 1);
	EXPECT_EQ(limit + page + 1,
		  read_counter("bytes.memory_to_pipe.copied.limit"));
	EXPECT_EQ(9 * page + 1,
		  read_pattern(self->p[0], 9 * page + 1, DATA, 0));
	ASSERT_EQ(8 * page, xvmsplice1(self->p[1], self->m, 8 * page, 0));
	check_account(_metadata, &before, 8 * page, 0);
	EXPECT_EQ(8 * page, read_pattern(self->p[0], 8 * page, DATA, 0));
	expect_charged(_metadata, 0);
}

/* A call that is partly above the limit still puts all of its data in. */
TEST_F(account, never_fails)
{
	ssize_t page = self->page, size = 16 * page;
	ssize_t limit, before, copied;

	for (limit = 0; limit <= 16; limit++) {
		set_limit(_metadata, limit);
		before = read_counter("bytes.memory_to_pipe.copied");
		ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, size,
					   SPLICE_F_NONBLOCK));
		copied = read_counter("bytes.memory_to_pipe.copied") - before;
		EXPECT_LE(size - limit * page, copied);
		EXPECT_GE(size, copied);
		EXPECT_EQ(-EAGAIN, xvmsplice1(self->p[1], self->m, 1,
					      SPLICE_F_NONBLOCK));
		EXPECT_EQ(size, read_pattern(self->p[0], size, DATA, 0));
	}
	/* The last call is within the limit. */
	EXPECT_EQ(0, copied);
	expect_charged(_metadata, 0);
}

/* The charge ends when the last buffer, or part of one, is released. */
TEST_F(account, tee)
{
	ssize_t page = self->page;

	set_limit(_metadata, 1000);
	ASSERT_EQ(page, xvmsplice1(self->p[1], self->m, page, 0));
	expect_charged(_metadata, 1);
	ASSERT_EQ(page, xtee(self->p[0], self->q[1], page, 0));
	expect_charged(_metadata, 1);
	ASSERT_EQ(page, read_pattern(self->p[0], page, DATA, 0));
	expect_charged(_metadata, 1);
	ASSERT_EQ(100, xsplice(self->q[0], NULL, self->p[1], NULL, 100, 0));
	ASSERT_EQ(page - 100, read_pattern(self->q[0], page - 100, DATA, 100));
	expect_charged(_metadata, 1);
	ASSERT_EQ(99, read_pattern(self->p[0], 99, DATA, 0));
	expect_charged(_metadata, 1);
	ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, 99));
	expect_charged(_metadata, 0);
}

TEST_F(account, pipe_closed)
{
	set_limit(_metadata, 1000);
	ASSERT_EQ(8 * self->page, xvmsplice1(self->p[1], self->m,
					     8 * self->page, 0));
	ASSERT_EQ(8 * self->page, xvmsplice1(self->p[1], self->m,
					     8 * self->page, SPLICE_F_NOTIFY));
	expect_charged(_metadata, 16);
	close(self->p[0]);
	expect_charged(_metadata, 16);
	close(self->p[1]);
	expect_charged(_metadata, 0);
}

/* The charge does not depend on the mapping. */
TEST_F(account, unmapped)
{
	set_limit(_metadata, 1000);
	ASSERT_EQ(8 * self->page, xvmsplice1(self->p[1], self->m,
					     8 * self->page, 0));
	memory_unmap(&self->mem);
	expect_charged(_metadata, 8);
	EXPECT_EQ(8 * self->page,
		  read_pattern(self->p[0], 8 * self->page, DATA, 0));
	expect_charged(_metadata, 0);
}

/*
 * Data in the queue of a socket is still charged, unless the socket has a copy.
 */
static void expect_socket_charged(struct __test_metadata *_metadata,
				  int pipe[2], int fd, const char *mem,
				  unsigned int flags)
{
	ssize_t size = 4 * page_size(), copied;

	set_limit(_metadata, 1000);
	copied = read_counter("bytes.pipe_to_socket.copied");
	ASSERT_LE(0, copied);
	ASSERT_EQ(size, xvmsplice1(pipe[1], mem, size, flags));
	ASSERT_EQ(size, splice_full(pipe[0], fd, size));
	copied = read_counter("bytes.pipe_to_socket.copied") - copied;
	if (copied == size)
		expect_charged_soon(_metadata, 0);
	else
		expect_charged(_metadata, 4);
}

TEST_F(account, unix_stream)
{
	ssize_t size = 4 * self->page;
	int sv[2], i;

	if (!have_counters())
		SKIP(return, COUNTERS " is not there");
	make_unix_pair(_metadata, sv);
	for (i = 0; i < 2; i++) {
		expect_socket_charged(_metadata, self->p, sv[0], self->m,
				      i ? SPLICE_F_NOTIFY : 0);
		EXPECT_EQ(size, read_pattern(sv[1], size, DATA, 0));
		expect_charged_soon(_metadata, 0);
	}
}

/* The receiver drops all packets, so that TCP retransmits. */
TEST_F_TIMEOUT(account, tcp, 60)
{
	ssize_t size = 4 * self->page;
	int sv[2], i;

	if (!have_counters())
		SKIP(return, COUNTERS " is not there");
	for (i = 0; i < 2; i++) {
		make_tcp_pair(_metadata, sv);
		drop_all(_metadata, sv[1]);
		expect_socket_charged(_metadata, self->p, sv[0], self->m,
				      i ? SPLICE_F_NOTIFY : 0);
		drop_nothing(_metadata, sv[1]);
		EXPECT_EQ(size, read_pattern(sv[1], size, DATA, 0));
		expect_charged_soon(_metadata, 0);
		close(sv[0]);
		close(sv[1]);
	}
}

/* The limit is set, lowered and removed while memory is in use. */
TEST_F(account, changed)
{
	ssize_t size = 8 * self->page;

	/*
	 * Memory that was put into the pipe without a limit was not charged:
	 * nothing is uncharged.
	 */
	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, size, 0));
	set_limit(_metadata, 1000);
	expect_charged(_metadata, 0);
	ASSERT_EQ(size, read_pattern(self->p[0], size, DATA, 0));
	expect_charged(_metadata, 0);

	ASSERT_EQ(size, xvmsplice1(self->p[1], self->m, size, 0));
	set_limit(_metadata, 4);
	EXPECT_EQ(0, probe());
	expect_charged(_metadata, 8);
	set_limit(_metadata, -1);
	EXPECT_EQ(1, probe());
	ASSERT_EQ(size, read_pattern(self->p[0], size, DATA, 0));
	expect_charged(_metadata, 0);
}

/* Returns the result of probe() in a child process with these user ids. */
static ssize_t probe_as(struct __test_metadata *_metadata, uid_t ruid,
			uid_t euid, bool namespace)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (setresuid(ruid, euid, ruid))
			_exit(10);
		if (namespace && !access("/proc/self/ns/user", F_OK) &&
		    unshare(CLONE_NEWUSER))
			_exit(11);
		_exit(probe());
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/*
 * The real uid is charged for all of its processes. A new user namespace gives
 * it no additional pages.
 */
TEST_F(account, users)
{
	int status;
	pid_t pid;

	set_limit(_metadata, 8);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *own;

		if (setresuid(USER, USER, USER))
			_exit(1);
		own = calloc(9, self->page);
		own += self->page - (unsigned long)own % self->page;
		memset(own, 1, 8 * self->page);
		_exit(xvmsplice1(self->p[1], own, 8 * self->page, 0) !=
		      8 * self->page);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

	/* The process has exited; its memory is still in the pipe. */
	EXPECT_EQ(0, probe_as(_metadata, USER, USER, false));
	EXPECT_EQ(0, probe_as(_metadata, USER, OTHER, false));
	EXPECT_EQ(0, probe_as(_metadata, USER, 0, false));
	EXPECT_EQ(0, probe_as(_metadata, USER, USER, true));
	EXPECT_EQ(1, probe_as(_metadata, OTHER, OTHER, false));
	EXPECT_EQ(1, probe_as(_metadata, OTHER, USER, false));
	EXPECT_EQ(1, probe_as(_metadata, OTHER, OTHER, true));
	EXPECT_EQ(1, probe());
	close(self->p[0]);
	close(self->p[1]);
	EXPECT_EQ(1, probe_as(_metadata, USER, USER, false));
}

/* The limit applies to root. */
TEST_F(account, root)
{
	set_limit(_metadata, 1000);
	ASSERT_EQ(self->page, xvmsplice1(self->p[1], self->m, self->page, 0));
	set_limit(_metadata, 1);
	EXPECT_EQ(0, probe());
}

/* Concurrent charges and uncharges leave the account balanced. */
static void *take_and_give(void *data)
{
	ssize_t *failed = data;
	int i;

	for (i = 0; i < 3000; i++)
		if (probe() < 0)
			++*failed;
	return NULL;
}

TEST_F_TIMEOUT(account, threads, 60)
{
	pthread_t threads[4];
	ssize_t failed[4] = {};
	int i;

	set_limit(_metadata, 2);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, take_and_give,
					    &failed[i]));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
		EXPECT_EQ(0, failed[i]);
	}
	expect_charged(_metadata, 0);
}

/* Memory in folios of 2 MiB is charged as a whole, once in each call. */
FIXTURE(account_huge) {
	struct memory mem;
	char *m;
	int p[2];
};

FIXTURE_VARIANT(account_huge) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(account_huge, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(account_huge, pte_thp) {
	.kind = MEMORY_PTE_THP,
};

FIXTURE_VARIANT_ADD(account_huge, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_SETUP(account_huge)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	make_pipe(_metadata, self->p);
	memory_map(_metadata, &self->mem, variant->kind);
	self->m = self->mem.p;
}

FIXTURE_TEARDOWN(account_huge)
{
	if (!access(LIMIT, F_OK))
		EXPECT_TRUE(write_number(LIMIT, -1));
	memory_unmap(&self->mem);
	close_all();
	memory_give_back(_metadata, variant->kind);
}

TEST_F(account_huge, whole_folio)
{
	struct iovec iov[2] = { { self->m, 1 }, { self->m + 100000, 1 } };
	int i;

	if (!have_notify(self->p[1]))
		SKIP(return, "this kernel has no " LIMIT);
	set_limit(_metadata, HUGE - 1);
	EXPECT_EQ(0, refers(self->m, 0));
	EXPECT_EQ(0, refers(self->m, SPLICE_F_NOTIFY));
	set_limit(_metadata, HUGE);
	EXPECT_EQ(1, refers(self->m, 0));
	EXPECT_EQ(1, refers(self->m, SPLICE_F_NOTIFY));
	fill_pattern(self->m, 1, DATA, 0);

	for (i = 0; i < 2; i++) {
		/* One byte, and two of it in one call. */
		ASSERT_EQ(1, xvmsplice(self->p[1], iov, 1,
				       i ? SPLICE_F_NOTIFY : 0));
		expect_charged(_metadata, HUGE);
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, 0));
		expect_charged(_metadata, 0);
		ASSERT_EQ(2, xvmsplice(self->p[1], iov, 2,
				       i ? SPLICE_F_NOTIFY : 0));
		expect_charged(_metadata, HUGE);
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, 0));
		expect_charged(_metadata, HUGE);
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, 100000));
		expect_charged(_metadata, 0);

		/* Two calls. */
		ASSERT_EQ(1, xvmsplice(self->p[1], iov, 1,
				       i ? SPLICE_F_NOTIFY : 0));
		ASSERT_EQ(1, xvmsplice(self->p[1], iov + 1, 1, 0));
		expect_charged(_metadata, 2 * HUGE);
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, 0));
		expect_charged(_metadata, HUGE);
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, 100000));
		expect_charged(_metadata, 0);
	}
}

/* The memory cgroup. */

#define GROUP "splice_account_test"

/*
 * Returns the kilobytes of kernel memory that the cgroup is charged for. Small
 * changes show when the kernel flushes its statistics, every two seconds.
 */
static ssize_t group_kernel_kib(const char *dir)
{
	char path[PATH_MAX];
	ssize_t ret;

	sleep(3);
	snprintf(path, sizeof(path), "%s/" GROUP "/memory.stat", dir);
	ret = read_line_of(path, "kernel");
	return ret < 0 ? ret : ret / 1024;
}

/*
 * The cgroup is charged for copies, and for one object for each call with a
 * notification.
 */
TEST_F_TIMEOUT(account, cgroup, 60)
{
	char dir[] = "/tmp/cgroup.XXXXXX", path[PATH_MAX], pid[16];
	ssize_t size = 64 * self->page, before, grown[2];
	int p[32][2], i, j, k;

	ASSERT_NE(NULL, mkdtemp(dir));
	ASSERT_TRUE(private_mounts());
	if (mount("none", dir, "cgroup2", 0, NULL))
		SKIP(return, "no cgroup2: %s", strerror(errno));
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
	if (write_text(path, "+memory") < 0)
		SKIP(return, "no memory cgroups: CONFIG_MEMCG is not set");
	snprintf(path, sizeof(path), "%s/" GROUP, dir);
	ASSERT_EQ(0, mkdir(path, 0700));
	snprintf(path, sizeof(path), "%s/" GROUP "/cgroup.procs", dir);
	snprintf(pid, sizeof(pid), "%d", getpid());
	ASSERT_LT(0, write_text(path, pid));

	for (i = 0; i < 32; i++) {
		make_pipe(_metadata, p[i]);
		ASSERT_EQ(size, fcntl(p[i][1], F_SETPIPE_SZ, size));
	}
	/* Each call in use has an object. */
	before = group_kernel_kib(dir);
	ASSERT_LT(0, before);
	for (i = 0; i < 32; i++)
		for (j = 0; j < 64; j++)
			ASSERT_EQ(1, xnotify(p[i][1], self->m, 1));
	grown[0] = group_kernel_kib(dir) - before;
	EXPECT_LE(32 * 64 * 16 / 1024, grown[0]);
	for (i = 0; i < 32; i++) {
		for (j = 0; j < 64; j++) {
			char c;

			ASSERT_EQ(1, xread(p[i][0], &c, 1));
		}
	}
	/* Pages that are copied. */
	set_limit(_metadata, 0);
	before = group_kernel_kib(dir);
	for (k = 0; k < 4; k++)
		ASSERT_EQ(size, xvmsplice1(p[k][1], self->m, size, 0));
	grown[1] = group_kernel_kib(dir) - before;
	EXPECT_LE(4 * size / 1024 / 2, grown[1]);
	TH_LOG("calls: %zd KiB, copies: %zd KiB", grown[0], grown[1]);

	for (i = 0; i < 32; i++) {
		close(p[i][0]);
		close(p[i][1]);
	}
	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	ASSERT_LT(0, write_text(path, pid));
	snprintf(path, sizeof(path), "%s/" GROUP, dir);
	EXPECT_EQ(0, rmdir(path));
	umount(dir);
	rmdir(dir);
}

TEST_HARNESS_MAIN
