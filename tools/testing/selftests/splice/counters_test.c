// SPDX-License-Identifier: GPL-2.0
/*
 * The values in /sys/kernel/debug/splice/counters after a transfer: which path
 * it took through the splice code, and whether bytes were copied.
 *
 * A test names every counter that its calls change, and by how much; all other
 * counters must be unchanged. The counters are system-wide, so nothing else may
 * use splice at the same time.
 */
#include "splice_common.h"

#include <sys/mount.h>

/* Two buffers, the second one partly filled. */
#define SOME 5000

#define DATA 1

enum counter {
	CALLS_SPLICE,
	CALLS_TEE,
	CALLS_VMSPLICE,
	CALLS_DIRECT,
	CALLS_FILE_RANGE,
	BUFFERS_LINKED,
	BUFFERS_MOVED,
	BUFFERS_TEED,
	FILE_TO_PIPE_REFERENCED,
	FILE_TO_PIPE_COPIED,
	FILE_TO_PIPE_DIRECT,
	PIPE_TO_FILE_REFERENCED,
	PIPE_TO_FILE_COPIED,
	PIPE_TO_SOCKET_REFERENCED,
	PIPE_TO_SOCKET_COPIED,
	PIPE_TO_PIPE_REFERENCED,
	TEE_REFERENCED,
	PIPE_TO_ACTOR_REFERENCED,
	MEMORY_TO_PIPE_REFERENCED,
	MEMORY_TO_PIPE_COPIED,
	MEMORY_COPIED_HUGETLB,
	MEMORY_COPIED_DAX,
	MEMORY_COPIED_LIMIT,
	MEMORY_COPIED_REFERENCES,
	PIPE_TO_MEMORY_COPIED,
	POLICY_SOCKET_UNAUDITED,
	POLICY_SOCKET_SETTING,
	POLICY_FILE_UNAUDITED,
	POLICY_FILE_SETTING,
	POLICY_ACTOR_UNAUDITED,
	POLICY_ACTOR_SETTING,
	POLICY_SOURCE_SETTING,
	CHECK_PAGES,
	CHECK_CHANGED,
	NR_COUNTERS,
};

static const char *const names[NR_COUNTERS] = {
	[CALLS_SPLICE] = "calls.splice",
	[CALLS_TEE] = "calls.tee",
	[CALLS_VMSPLICE] = "calls.vmsplice",
	[CALLS_DIRECT] = "calls.direct",
	[CALLS_FILE_RANGE] = "calls.file_range",
	[BUFFERS_LINKED] = "buffers.linked",
	[BUFFERS_MOVED] = "buffers.moved",
	[BUFFERS_TEED] = "buffers.teed",
	[FILE_TO_PIPE_REFERENCED] = "bytes.file_to_pipe.referenced",
	[FILE_TO_PIPE_COPIED] = "bytes.file_to_pipe.copied",
	[FILE_TO_PIPE_DIRECT] = "bytes.file_to_pipe.direct",
	[PIPE_TO_FILE_REFERENCED] = "bytes.pipe_to_file.referenced",
	[PIPE_TO_FILE_COPIED] = "bytes.pipe_to_file.copied",
	[PIPE_TO_SOCKET_REFERENCED] = "bytes.pipe_to_socket.referenced",
	[PIPE_TO_SOCKET_COPIED] = "bytes.pipe_to_socket.copied",
	[PIPE_TO_PIPE_REFERENCED] = "bytes.pipe_to_pipe.referenced",
	[TEE_REFERENCED] = "bytes.tee.referenced",
	[PIPE_TO_ACTOR_REFERENCED] = "bytes.pipe_to_actor.referenced",
	[MEMORY_TO_PIPE_REFERENCED] = "bytes.memory_to_pipe.referenced",
	[MEMORY_TO_PIPE_COPIED] = "bytes.memory_to_pipe.copied",
	[MEMORY_COPIED_HUGETLB] = "bytes.memory_to_pipe.copied.hugetlb",
	[MEMORY_COPIED_DAX] = "bytes.memory_to_pipe.copied.dax",
	[MEMORY_COPIED_LIMIT] = "bytes.memory_to_pipe.copied.limit",
	[MEMORY_COPIED_REFERENCES] = "bytes.memory_to_pipe.copied.references",
	[PIPE_TO_MEMORY_COPIED] = "bytes.pipe_to_memory.copied",
	[POLICY_SOCKET_UNAUDITED] = "bytes.policy.socket.unaudited",
	[POLICY_SOCKET_SETTING] = "bytes.policy.socket.setting",
	[POLICY_FILE_UNAUDITED] = "bytes.policy.file.unaudited",
	[POLICY_FILE_SETTING] = "bytes.policy.file.setting",
	[POLICY_ACTOR_UNAUDITED] = "bytes.policy.actor.unaudited",
	[POLICY_ACTOR_SETTING] = "bytes.policy.actor.setting",
	[POLICY_SOURCE_SETTING] = "bytes.policy.source.setting",
	[CHECK_PAGES] = "check.pages",
	[CHECK_CHANGED] = "check.changed",
};

struct counters {
	long long value[NR_COUNTERS];
};

/* Every name appears exactly once, with one value. */
static void read_counters(struct __test_metadata *_metadata,
			  struct counters *c)
{
	bool seen[NR_COUNTERS] = { false };
	char name[128];
	long long value;
	FILE *f;
	int i;

	f = fopen(COUNTERS, "r");
	ASSERT_NE(NULL, f);
	while (fscanf(f, "%127s %lld", name, &value) == 2) {
		for (i = 0; i < NR_COUNTERS; i++) {
			if (strcmp(name, names[i]))
				continue;
			EXPECT_FALSE(seen[i]);
			seen[i] = true;
			c->value[i] = value;
		}
	}
	ASSERT_TRUE(feof(f));
	fclose(f);
	for (i = 0; i < NR_COUNTERS; i++) {
		ASSERT_TRUE(seen[i]) {
			TH_LOG("no %s", names[i]);
		}
	}
}

/*
 * Checks how the counters have changed since @before, and updates @before. A
 * pipe buffer may span any number of pages, so for calls that link a file or
 * memory into a pipe a @change of 1 means at least one buffer.
 */
static void check_counters(struct __test_metadata *_metadata,
			   struct counters *before,
			   const struct counters *change)
{
	struct counters now;
	long long by;
	int i;

	read_counters(_metadata, &now);
	for (i = 0; i < NR_COUNTERS; i++) {
		by = now.value[i] - before->value[i];
		if (i == BUFFERS_LINKED && by > 1)
			by = 1;
		EXPECT_EQ(change->value[i], by) {
			TH_LOG("%s", names[i]);
		}
	}
	*before = now;
}

FIXTURE(counters) {
	struct counters before;
	int p[2];
	int q[2];
};

/* An array of changes; all counters that it does not name are 0. */
#define CHANGES(...) (&(struct counters) { .value = { __VA_ARGS__ } })

FIXTURE_SETUP(counters)
{
	if (!have_counters())
		SKIP(return, COUNTERS " is not there");
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	read_counters(_metadata, &self->before);
}

FIXTURE_TEARDOWN(counters)
{
}

/* read(), write() and poll() change no counter. */
TEST_F(counters, untouched)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(SOME, pipe_bytes(self->p[0]));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	check_counters(_metadata, &self->before, CHANGES(0));
}

TEST_F(counters, zero_to_pipe)
{
	int zero = open("/dev/zero", O_RDONLY);

	ASSERT_EQ(SOME, xsplice(zero, NULL, self->p[1], NULL, SOME, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_SPLICE] = 1, [BUFFERS_LINKED] = 1,
			       [FILE_TO_PIPE_COPIED] = SOME));
}

TEST_F(counters, pipe_to_null)
{
	int null = open("/dev/null", O_WRONLY);

	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, null, NULL, SOME, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_SPLICE] = 1,
			       [PIPE_TO_ACTOR_REFERENCED] = SOME));
}

/*
 * Two buffers move; a part of one of them, of two pages, gets a second
 * reference.
 */
TEST_F(counters, pipe_to_pipe)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->q[1], NULL, SOME, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_SPLICE] = 1, [BUFFERS_MOVED] = 2,
			       [PIPE_TO_PIPE_REFERENCED] = SOME));

	ASSERT_EQ(100, xsplice(self->q[0], NULL, self->p[1], NULL, 100, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_SPLICE] = 1, [BUFFERS_TEED] = 1,
			       [PIPE_TO_PIPE_REFERENCED] = 100));
}

TEST_F(counters, tee)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(SOME, xtee(self->p[0], self->q[1], SOME, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_TEE] = 1, [BUFFERS_TEED] = 2,
			       [TEE_REFERENCED] = SOME));
}

TEST_F(counters, vmsplice)
{
	char *mem = alloc_pattern(_metadata, SOME, DATA);

	ASSERT_EQ(SOME, xvmsplice1(self->p[1], mem, SOME, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_VMSPLICE] = 1, [BUFFERS_LINKED] = 1,
			       [MEMORY_TO_PIPE_REFERENCED] = SOME));

	ASSERT_EQ(SOME, xvmsplice1(self->p[0], mem, SOME, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_VMSPLICE] = 1,
			       [PIPE_TO_MEMORY_COPIED] = SOME));
	free(mem);
}

/* A call that fails moves nothing and counts no bytes. */
TEST_F(counters, nothing_moved)
{
	struct counters now;
	int i;

	ASSERT_EQ(-EAGAIN, xsplice(self->p[0], NULL, self->q[1], NULL, SOME,
				   SPLICE_F_NONBLOCK));
	ASSERT_EQ(-EAGAIN, xtee(self->p[0], self->q[1], SOME,
				SPLICE_F_NONBLOCK));
	ASSERT_EQ(-EFAULT, xvmsplice1(self->p[1], NULL, SOME, 0));
	read_counters(_metadata, &now);
	for (i = BUFFERS_LINKED; i < NR_COUNTERS; i++) {
		EXPECT_EQ(self->before.value[i], now.value[i]) {
			TH_LOG("%s", names[i]);
		}
	}
}

/*
 * Direct I/O: the device reads or writes the referenced pages without the page
 * cache.
 */
TEST_F(counters, direct_io)
{
	const char *missing = end_missing(END_EXT4);
	ssize_t page = page_size();
	int file, in, out;
	const char *dir;
	char *mem;

	if (missing)
		SKIP(return, "%s is not set", missing);
	dir = end_dir(_metadata, END_EXT4);
	file = make_file(_metadata, dir);
	ASSERT_EQ(page, write_pattern(file, page, DATA, 0));
	in = reopen(_metadata, file, O_RDONLY | O_DIRECT);
	file = make_file(_metadata, dir);
	out = reopen(_metadata, file, O_WRONLY | O_DIRECT);
	mem = mmap(NULL, page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);

	ASSERT_EQ(page, xsplice(in, NULL, self->p[1], NULL, page, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_SPLICE] = 1, [BUFFERS_LINKED] = 1,
			       [FILE_TO_PIPE_DIRECT] = page));
	EXPECT_EQ(page, read_pattern(self->p[0], page, DATA, 0));

	fill_pattern(mem, page, DATA, 0);
	ASSERT_EQ(page, xvmsplice1(self->p[1], mem, page, 0));
	ASSERT_EQ(page, xsplice(self->p[0], NULL, out, NULL, page, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_VMSPLICE] = 1, [CALLS_SPLICE] = 1,
			       [BUFFERS_LINKED] = 1,
			       [MEMORY_TO_PIPE_REFERENCED] = page,
			       [PIPE_TO_FILE_REFERENCED] = page));
	EXPECT_EQ(page, read_pattern(file, page, DATA, 0));
}

/*
 * Direct I/O by sendfile(), which uses an internal pipe, up to the end of the
 * file.
 */
TEST_F(counters, direct_sendfile)
{
	const char *missing = end_missing(END_EXT4);
	int null = open("/dev/null", O_WRONLY);
	ssize_t page = page_size();
	int file, in;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_EXT4));
	ASSERT_EQ(page + 100, write_pattern(file, page + 100, DATA, 0));
	in = reopen(_metadata, file, O_RDONLY | O_DIRECT);
	ASSERT_EQ(page + 100, xsendfile(null, in, NULL, 4 * page));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_DIRECT] = 1, [BUFFERS_LINKED] = 1,
			       [FILE_TO_PIPE_DIRECT] = page + 100,
			       [PIPE_TO_ACTOR_REFERENCED] = page + 100));
}

/*
 * O_DIRECT reads a file that has no device into new pages, without references.
 */
TEST_F(counters, direct_tmpfs)
{
	const char *missing = end_missing(END_TMPFS);
	struct counters now, *before = &self->before;
	ssize_t page = page_size();
	int file, in;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	ASSERT_EQ(page, write_pattern(file, page, DATA, 0));
	in = reopen(_metadata, file, O_RDONLY | O_DIRECT);
	ASSERT_EQ(page, xsplice(in, NULL, self->p[1], NULL, page, 0));
	read_counters(_metadata, &now);
	EXPECT_EQ(before->value[FILE_TO_PIPE_REFERENCED],
		  now.value[FILE_TO_PIPE_REFERENCED]);
	EXPECT_EQ(before->value[FILE_TO_PIPE_COPIED] +
		  before->value[FILE_TO_PIPE_DIRECT] + page,
		  now.value[FILE_TO_PIPE_COPIED] +
		  now.value[FILE_TO_PIPE_DIRECT]);
	EXPECT_EQ(page, read_pattern(self->p[0], page, DATA, 0));
}

/* A copy is counted as copied bytes, and once more by its reason. */
TEST_F(counters, copied_limit)
{
	static const char limit[] = "/proc/sys/fs/pipe-user-memory-pages";
	char *mem = alloc_pattern(_metadata, SOME, DATA);

	ASSERT_LT(0, write_text(limit, "0"));
	EXPECT_EQ(SOME, xvmsplice1(self->p[1], mem, SOME, 0));
	ASSERT_LT(0, write_text(limit, "-1"));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_VMSPLICE] = 1, [BUFFERS_LINKED] = 1,
			       [MEMORY_TO_PIPE_COPIED] = SOME,
			       [MEMORY_COPIED_LIMIT] = SOME));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	free(mem);
}

/* Both kinds of stream socket, in both directions. */
FIXTURE(counters_socket) {
	struct counters before;
	struct end end;
	int p[2];
};

FIXTURE_VARIANT(counters_socket) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(counters_socket, tcp) {
	.kind = END_TCP,
};

FIXTURE_VARIANT_ADD(counters_socket, unix_stream) {
	.kind = END_UNIX,
};

FIXTURE_SETUP(counters_socket)
{
	if (!have_counters())
		SKIP(return, COUNTERS " is not there");
	end_open(_metadata, variant->kind, false, &self->end);
	make_pipe(_metadata, self->p);
	read_counters(_metadata, &self->before);
}

FIXTURE_TEARDOWN(counters_socket)
{
}

TEST_F(counters_socket, from_pipe)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->end.fd, NULL, SOME, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_SPLICE] = 1,
			       [PIPE_TO_SOCKET_REFERENCED] = SOME));
	EXPECT_EQ(SOME, read_pattern(self->end.peer, SOME, DATA, 0));
}

TEST_F(counters_socket, to_pipe)
{
	ASSERT_EQ(SOME, write_pattern(self->end.peer, SOME, DATA, 0));
	ASSERT_EQ(100, xsplice(self->end.fd, NULL, self->p[1], NULL, 100, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_SPLICE] = 1, [BUFFERS_LINKED] = 1,
			       [FILE_TO_PIPE_REFERENCED] = 100));
}

/* Regular files. */
FIXTURE(counters_file) {
	struct counters before;
	int fd;
	int empty;
	int p[2];
};

FIXTURE_VARIANT(counters_file) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(counters_file, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(counters_file, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_SETUP(counters_file)
{
	const char *missing = end_missing(variant->kind);
	const char *dir;

	if (!have_counters())
		SKIP(return, COUNTERS " is not there");
	if (missing)
		SKIP(return, "%s is not set", missing);
	dir = end_dir(_metadata, variant->kind);
	self->fd = make_file(_metadata, dir);
	self->empty = make_file(_metadata, dir);
	ASSERT_EQ(SOME, write_pattern(self->fd, SOME, DATA, 0));
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	make_pipe(_metadata, self->p);
	read_counters(_metadata, &self->before);
}

FIXTURE_TEARDOWN(counters_file)
{
}

/* Reading from a file refers to the page cache. */
TEST_F(counters_file, to_pipe)
{
	ASSERT_EQ(SOME, xsplice(self->fd, NULL, self->p[1], NULL, SOME, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_SPLICE] = 1, [BUFFERS_LINKED] = 1,
			       [FILE_TO_PIPE_REFERENCED] = SOME));
}

/* Writing to a file copies data into the page cache. */
TEST_F(counters_file, from_pipe)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->empty, NULL, SOME, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_SPLICE] = 1,
			       [PIPE_TO_FILE_COPIED] = SOME));
	ASSERT_EQ(0, lseek(self->empty, 0, SEEK_SET));
	EXPECT_EQ(SOME, read_pattern(self->empty, SOME, DATA, 0));
}

TEST_F(counters_file, sendfile_to_pipe)
{
	ASSERT_EQ(SOME, xsendfile(self->p[1], self->fd, NULL, SOME));
	check_counters(_metadata, &self->before,
		       CHANGES([BUFFERS_LINKED] = 1,
			       [FILE_TO_PIPE_REFERENCED] = SOME));
}

TEST_F(counters_file, sendfile_to_tcp)
{
	int sv[2];

	make_tcp_pair(_metadata, sv);
	ASSERT_EQ(SOME, xsendfile(sv[0], self->fd, NULL, SOME));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_DIRECT] = 1, [BUFFERS_LINKED] = 1,
			       [FILE_TO_PIPE_REFERENCED] = SOME,
			       [PIPE_TO_SOCKET_REFERENCED] = SOME));
	EXPECT_EQ(SOME, read_pattern(sv[1], SOME, DATA, 0));
}

TEST_F(counters_file, sendfile_to_null)
{
	int null = open("/dev/null", O_WRONLY);

	ASSERT_EQ(SOME, xsendfile(null, self->fd, NULL, SOME));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_DIRECT] = 1, [BUFFERS_LINKED] = 1,
			       [FILE_TO_PIPE_REFERENCED] = SOME,
			       [PIPE_TO_ACTOR_REFERENCED] = SOME));
}

TEST_F(counters_file, sendfile_to_file)
{
	ASSERT_EQ(SOME, xsendfile(self->empty, self->fd, NULL, SOME));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_DIRECT] = 1, [BUFFERS_LINKED] = 1,
			       [FILE_TO_PIPE_REFERENCED] = SOME,
			       [PIPE_TO_FILE_COPIED] = SOME));
}

/* copy_file_range() on one file system falls back to do_splice_direct(). */
TEST_F(counters_file, copy_file_range)
{
	ASSERT_EQ(SOME, xcopy_file_range(self->fd, NULL, self->empty, NULL,
					 SOME, 0));
	check_counters(_metadata, &self->before,
		       CHANGES([CALLS_DIRECT] = 1, [BUFFERS_LINKED] = 1,
			       [FILE_TO_PIPE_REFERENCED] = SOME,
			       [PIPE_TO_FILE_COPIED] = SOME));
}

TEST_HARNESS_MAIN
