// SPDX-License-Identifier: GPL-2.0
/*
 * Page faults of vmsplice(2). A fault may wait for user space or for a server,
 * so the call does not hold the lock of the pipe meanwhile: other users of the
 * pipe do not wait for the fault. The data of one call is contiguous
 * nevertheless.
 *
 * Stock C takes the fault with the pipe locked.
 */
#include "splice_memory.h"

#include <linux/userfaultfd.h>
#include <sys/prctl.h>

/* Seeds: of the memory, and of data that other tasks put into the pipe. */
#define DATA MEMORY_DATA
#define OTHER 2

/* Memory of one call: pages that are present, and pages that are not. */
#define PRESENT 3
#define PAGES 8

/* Slots of a pipe of the default size. */
#define SLOTS 16

/*
 * Time limit for an operation on the pipe, in seconds, also for a slow machine.
 */
#define PATIENCE 10

#define LOCKED "stock C: a page fault of vmsplice() holds the lock of the pipe"

/*
 * A process that calls vmsplice() and waits in a page fault until the test
 * resolves the fault.
 */
struct waiter {
	pid_t pid;
	int faulted[2];		/* a byte from the process when it waits */
	int go_on[2];		/* a byte to the process to resolve the fault */
	int result[2];		/* the result of the call, and 1 for a SIGPIPE */
};

FIXTURE(fault) {
	ssize_t page;
	ssize_t len;
	int p[2];
	struct waiter w;
};

FIXTURE_SETUP(fault)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		SKIP(return, "userfaultfd(): %s", strerror(errno));
	close(fd);
	self->page = page_size();
	self->len = PAGES * self->page;
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->w.faulted);
	make_pipe(_metadata, self->w.go_on);
	make_pipe(_metadata, self->w.result);
}

FIXTURE_TEARDOWN(fault)
{
	close_all();
	expect_no_pins(_metadata);
}

static int register_missing(struct __test_metadata *_metadata, char *m,
			    ssize_t len)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (unsigned long)m, len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_REGISTER, &reg));
	return fd;
}

/* The waiting process. It does not outlive the test. */
static void waiter_run(struct __test_metadata *_metadata,
		       struct _test_data_fault *self, unsigned int flags)
{
	ssize_t result[2], page = self->page, present = PRESENT * page;
	struct uffdio_copy copy = { .len = self->len - present };
	struct uffd_msg msg;
	struct iovec iov;
	struct job job;
	char *m, c;
	int uffd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	m = mmap(NULL, self->len, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, m);
	madvise(m, self->len, MADV_NOHUGEPAGE);
	fill_pattern(m, present, DATA, 0);
	uffd = register_missing(_metadata, m, self->len);
	catch_signal(_metadata, SIGPIPE, 0);
	/* The test closes the read end, so that the pipe has no reader. */
	close(self->p[0]);
	iov = (struct iovec) { m, self->len };
	job = job_vmsplice(self->p[1], &iov);
	job.arg[3] = flags;
	job_start(_metadata, &job);
	ASSERT_EQ((ssize_t)sizeof(msg), xread(uffd, &msg, sizeof(msg)));
	ASSERT_EQ(UFFD_EVENT_PAGEFAULT, msg.event);
	ASSERT_EQ((unsigned long)m + present,
		  msg.arg.pagefault.address & -(unsigned long)page);
	ASSERT_EQ(1, xwrite(self->w.faulted[1], "", 1));
	ASSERT_EQ(1, xread(self->w.go_on[0], &c, 1));
	copy.dst = (unsigned long)m + present;
	copy.src = (unsigned long)alloc_pattern(_metadata, self->len, DATA) +
		   present;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_COPY, &copy));
	result[0] = job_finish(_metadata, &job);
	result[1] = signal_count(SIGPIPE);
	ASSERT_EQ((ssize_t)sizeof(result),
		  xwrite(self->w.result[1], result, sizeof(result)));
}

/* Starts the process, and returns when it waits in the fault. */
static void waiter_start(struct __test_metadata *_metadata,
			 struct _test_data_fault *self, unsigned int flags)
{
	char c;

	self->w.pid = fork();
	ASSERT_LE(0, self->w.pid);
	if (!self->w.pid) {
		waiter_run(_metadata, self, flags);
		_exit(0);
	}
	ASSERT_EQ(1, xread(self->w.faulted[0], &c, 1));
}

static void waiter_go_on(struct __test_metadata *_metadata,
			 struct _test_data_fault *self)
{
	ASSERT_EQ(1, xwrite(self->w.go_on[1], "", 1));
}

/* Resolves the fault and returns the result of the call. */
static ssize_t waiter_finish(struct __test_metadata *_metadata,
			     struct _test_data_fault *self, bool *sigpipe)
{
	ssize_t result[2];
	int status;

	EXPECT_EQ((ssize_t)sizeof(result),
		  xread(self->w.result[0], result, sizeof(result)));
	EXPECT_EQ(self->w.pid, waitpid(self->w.pid, &status, 0));
	EXPECT_EQ(0, status);
	if (sigpipe)
		*sigpipe = result[1];
	return result[0];
}

/* Operations on the pipe, each in a child process. */
enum operation {
	READ_NOTHING,		/* first, while the pipe is empty */
	POLL,
	BYTES,
	CAPACITY,
	RESIZE,
	WRITE,
	READ,
	VMSPLICE,
	TEE,
	SPLICE,
	NR_OPERATIONS,
};

/* Returns whether the result is correct. */
static bool operate(struct _test_data_fault *self, enum operation op)
{
	static char buf[100];
	int q[2], fd = self->p[0];
	ssize_t n = sizeof(buf);

	switch (op) {
	case READ_NOTHING:
		return xread(fd, buf, n) == -EAGAIN;
	case POLL:
		return poll_now(self->p[1], POLLOUT) == POLLOUT &&
		       !poll_now(fd, POLLIN);
	case BYTES:
		return !pipe_bytes(fd);
	case CAPACITY:
		return pipe_capacity(fd) == SLOTS * self->page;
	case RESIZE:
		return fcntl(fd, F_SETPIPE_SZ, 2 * SLOTS * self->page) ==
		       2 * SLOTS * self->page;
	case WRITE:
		return write_pattern(self->p[1], n, OTHER, 0) == n;
	case READ:
		return read_pattern(fd, n, OTHER, 0) == n;
	case VMSPLICE:
		fill_pattern(buf, n, OTHER, 0);
		return xvmsplice1(self->p[1], buf, n, 0) == n;
	case TEE:
		return !pipe(q) && xtee(fd, q[1], n, 0) == n &&
		       read_pattern(q[0], n, OTHER, 0) == n;
	case SPLICE:
		return !pipe(q) && xsplice(fd, NULL, q[1], NULL, n, 0) == n &&
		       read_pattern(q[0], n, OTHER, 0) == n;
	default:
		return false;
	}
}

/* Whether the operation ends in time, with the correct result. */
static bool operate_in_time(struct __test_metadata *_metadata,
			    struct _test_data_fault *self, enum operation op,
			    int seconds)
{
	int i, status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(!operate(self, op));
	for (i = 0; i < seconds * 100; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return !status;
		usleep(10000);
	}
	return false;
}

/*
 * On stock C every user of the pipe waits for the fault. Checks that and
 * returns true, or returns false on other kernels.
 */
static bool expect_locked(struct __test_metadata *_metadata,
			  struct _test_data_fault *self)
{
	if (have_counters())
		return false;
	waiter_start(_metadata, self, 0);
	EXPECT_FALSE(operate_in_time(_metadata, self, BYTES, 1));
	waiter_go_on(_metadata, self);
	EXPECT_EQ(self->len, waiter_finish(_metadata, self, NULL));
	EXPECT_EQ(self->len, read_pattern(self->p[0], self->len, DATA, 0));
	return true;
}

/*
 * Starts the process. If the pipe cannot be used while it waits, ends it and
 * returns false.
 */
static bool waiter_start_unlocked(struct __test_metadata *_metadata,
				  struct _test_data_fault *self,
				  unsigned int flags)
{
	bool ok;

	waiter_start(_metadata, self, flags);
	ok = operate_in_time(_metadata, self, BYTES, PATIENCE);
	EXPECT_TRUE(ok);
	if (!ok)
		waiter_go_on(_metadata, self);
	return ok;
}

/* No operation on the pipe waits for the fault. */
TEST_F_TIMEOUT(fault, holds_nobody_up, 60)
{
	enum operation op;

	if (expect_locked(_metadata, self))
		XFAIL(return, LOCKED);
	set_nonblock(_metadata, self->p[0], true);
	waiter_start(_metadata, self, 0);
	for (op = 0; op < NR_OPERATIONS; op++) {
		bool ok = operate_in_time(_metadata, self, op, PATIENCE);

		EXPECT_TRUE(ok) {
			TH_LOG("operation %d", op);
		}
		if (!ok)
			break;
	}
	waiter_go_on(_metadata, self);
	EXPECT_EQ(self->len, waiter_finish(_metadata, self, NULL));
	EXPECT_EQ(self->len, read_pattern(self->p[0], self->len, DATA, 0));
	EXPECT_EQ(-EAGAIN, read_pattern(self->p[0], 1, DATA, 0));
}

/* A reader waits for data, and not for the fault. */
TEST_F_TIMEOUT(fault, reader_gets_data, 30)
{
	char *buf = malloc(self->len);
	struct job job;

	ASSERT_NE(NULL, buf);
	waiter_start(_metadata, self, 0);
	job = job_reader(self->p[0], buf, self->len);
	job_start(_metadata, &job);
	usleep(10000);
	waiter_go_on(_metadata, self);
	EXPECT_EQ(self->len, waiter_finish(_metadata, self, NULL));
	EXPECT_EQ(self->len, job_finish(_metadata, &job));
	EXPECT_EQ(self->len, match_pattern(buf, self->len, DATA, 0));
	free(buf);
}

/* The waiting process can be killed, and leaves no lock and no reference. */
TEST_F_TIMEOUT(fault, killed, 30)
{
	ssize_t bytes;
	int i, status;

	waiter_start(_metadata, self, 0);
	ASSERT_EQ(0, kill(self->w.pid, SIGKILL));
	for (i = 0; i < PATIENCE * 100; i++) {
		if (waitpid(self->w.pid, &status, WNOHANG) == self->w.pid)
			break;
		usleep(10000);
	}
	ASSERT_LT(i, PATIENCE * 100);
	EXPECT_EQ(SIGKILL, status);
	/*
	 * The pipe may contain pages from before the fault, but no other data.
	 */
	bytes = pipe_bytes(self->p[0]);
	EXPECT_LE(bytes, PRESENT * self->page);
	if (bytes)
		EXPECT_EQ(bytes, read_pattern(self->p[0], bytes, DATA, 0));
	ASSERT_EQ(100, write_pattern(self->p[1], 100, OTHER, 0));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, OTHER, 0));
}

/* Data that others write meanwhile is before or after the data of the call. */
TEST_F_TIMEOUT(fault, stays_in_one_piece, 60)
{
	ssize_t size = 2 * self->page + 10;

	if (expect_locked(_metadata, self))
		XFAIL(return, LOCKED);
	if (!waiter_start_unlocked(_metadata, self, 0))
		return;
	ASSERT_EQ(size, write_pattern(self->p[1], size, OTHER, 0));
	waiter_go_on(_metadata, self);
	EXPECT_EQ(self->len, waiter_finish(_metadata, self, NULL));
	ASSERT_EQ(10, write_pattern(self->p[1], 10, OTHER, size));
	EXPECT_EQ(size, read_pattern(self->p[0], size, OTHER, 0));
	EXPECT_EQ(self->len, read_pattern(self->p[0], self->len, DATA, 0));
	EXPECT_EQ(10, read_pattern(self->p[0], 10, OTHER, size));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

/* If others have filled a part of the pipe meanwhile, fewer pages fit ... */
TEST_F_TIMEOUT(fault, less_room, 60)
{
	ssize_t size = (SLOTS - PRESENT - 1) * self->page;
	ssize_t left = (PRESENT + 1) * self->page;

	if (expect_locked(_metadata, self))
		XFAIL(return, LOCKED);
	if (!waiter_start_unlocked(_metadata, self, 0))
		return;
	ASSERT_EQ(size, write_pattern(self->p[1], size, OTHER, 0));
	waiter_go_on(_metadata, self);
	EXPECT_EQ(left, waiter_finish(_metadata, self, NULL));
	EXPECT_EQ(size, read_pattern(self->p[0], size, OTHER, 0));
	EXPECT_EQ(left, read_pattern(self->p[0], left, DATA, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

/* ... or none: the call does not wait for room with SPLICE_F_NONBLOCK ... */
TEST_F_TIMEOUT(fault, no_room_nonblocking, 60)
{
	ssize_t size = SLOTS * self->page;

	if (expect_locked(_metadata, self))
		XFAIL(return, LOCKED);
	if (!waiter_start_unlocked(_metadata, self, SPLICE_F_NONBLOCK))
		return;
	ASSERT_EQ(size, fill_pipe(_metadata, self->p[1], OTHER));
	waiter_go_on(_metadata, self);
	EXPECT_EQ(-EAGAIN, waiter_finish(_metadata, self, NULL));
	EXPECT_EQ(size, read_pattern(self->p[0], size, OTHER, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

/* ... and waits for it otherwise, as if the pipe had been full before. */
TEST_F_TIMEOUT(fault, no_room, 60)
{
	ssize_t size = SLOTS * self->page;

	if (expect_locked(_metadata, self))
		XFAIL(return, LOCKED);
	if (!waiter_start_unlocked(_metadata, self, 0))
		return;
	ASSERT_EQ(size, fill_pipe(_metadata, self->p[1], OTHER));
	waiter_go_on(_metadata, self);
	usleep(20000);
	EXPECT_EQ(size, pipe_bytes(self->p[0]));
	EXPECT_EQ(self->page, read_pattern(self->p[0], self->page, OTHER, 0));
	EXPECT_EQ(self->page, waiter_finish(_metadata, self, NULL));
	size -= self->page;
	EXPECT_EQ(size, read_pattern(self->p[0], size, OTHER, self->page));
	EXPECT_EQ(self->page, read_pattern(self->p[0], self->page, DATA, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

/* The last reader closes the pipe meanwhile. */
TEST_F_TIMEOUT(fault, no_reader, 60)
{
	bool sigpipe;

	if (expect_locked(_metadata, self))
		XFAIL(return, LOCKED);
	if (!waiter_start_unlocked(_metadata, self, 0))
		return;
	close(self->p[0]);
	waiter_go_on(_metadata, self);
	EXPECT_EQ(-EPIPE, waiter_finish(_metadata, self, &sigpipe));
	EXPECT_TRUE(sigpipe);
}

/* Two writers, each with its own memory, and a reader. */
#define WRITERS 2
#define CALLS 2000
#define CALL_PAGES 12

/* Stored at the beginning of each page. */
struct label {
	int writer;
	int nr;			/* index of the page in its call */
};

struct writer {
	int fd;			/* write end of the pipe */
	char *m;
	int seed;
	int advice;		/* argument of madvise() that unmaps pages */
	ssize_t page;
	ssize_t bytes;		/* number of bytes put into the pipe, or a negated errno */
	pthread_t thread;
};

FIXTURE(writers) {
	ssize_t page;
	int p[2];
	struct writer w[WRITERS];
};

FIXTURE_VARIANT(writers) {
	bool swap;		/* memory in swap instead of a file */
};

FIXTURE_VARIANT_ADD(writers, file) {
	.swap = false,
};

FIXTURE_VARIANT_ADD(writers, swap) {
	.swap = true,
};

FIXTURE_SETUP(writers)
{
	const char *missing = variant->swap ? swap_missing() : NULL;
	int i, j, fd, rw = PROT_READ | PROT_WRITE;

	if (missing)
		SKIP(return, "%s", missing);
	self->page = page_size();
	make_pipe(_metadata, self->p);
	ASSERT_EQ(64 * self->page,
		  fcntl(self->p[1], F_SETPIPE_SZ, 64 * self->page));
	for (i = 0; i < WRITERS; i++) {
		struct writer *w = &self->w[i];
		ssize_t len = CALL_PAGES * self->page;

		*w = (struct writer) {
			.fd = self->p[1], .seed = i + 1, .page = self->page,
			.advice = variant->swap ? MADV_PAGEOUT : MADV_DONTNEED,
		};
		if (variant->swap) {
			w->m = mmap(NULL, len, rw, MAP_PRIVATE | MAP_ANONYMOUS,
				    -1, 0);
		} else {
			fd = memfd_create("splice", 0);
			ASSERT_LE(0, fd);
			ASSERT_EQ(0, ftruncate(fd, len));
			w->m = mmap(NULL, len, rw, MAP_SHARED, fd, 0);
		}
		ASSERT_NE(MAP_FAILED, w->m);
		for (j = 0; j < CALL_PAGES; j++)
			*(struct label *)(w->m + j * self->page) =
				(struct label) { i, j };
		if (variant->swap)
			continue;
		w->m = mmap(w->m, len, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
			    0);
		ASSERT_NE(MAP_FAILED, w->m);
	}
}

FIXTURE_TEARDOWN(writers)
{
	close_all();
	expect_no_pins(_metadata);
	swap_remove(_metadata);
}

/* Unmaps some of the pages, so that the call takes faults. */
static void forget_pages(struct writer *w, unsigned int random)
{
	int i;

	for (i = 0; i < CALL_PAGES; i++)
		if (random >> i & 1)
			madvise(w->m + i * w->page, w->page, w->advice);
}

static void *writer_run(void *data)
{
	struct writer *w = data;
	unsigned int state = w->seed;
	ssize_t ret;
	int i;

	for (i = 0; i < CALLS; i++) {
		state = state * 1664525 + 1013904223;
		forget_pages(w, state >> 8);
		ret = xvmsplice1(w->fd, w->m,
				 ((state >> 24) % CALL_PAGES + 1) * w->page, 0);
		if (ret < 0) {
			w->bytes = ret;
			break;
		}
		w->bytes += ret;
	}
	return NULL;
}

/*
 * Each call begins with page 0. So the page before any other page is the
 * previous page of the same call, unless the pages of two writers mix.
 */
TEST_F_TIMEOUT(writers, do_not_interleave, 120)
{
	struct label last = { -1, -1 }, *label;
	ssize_t bytes = 0, want = 0, ret;
	int i, calls[WRITERS] = {}, wrong = 0;
	char *buf = malloc(self->page);

	ASSERT_NE(NULL, buf);
	label = (struct label *)buf;
	for (i = 0; i < WRITERS; i++)
		ASSERT_EQ(0, pthread_create(&self->w[i].thread, NULL,
					    writer_run, &self->w[i]));
	while (calls[0] < CALLS || calls[1] < CALLS || pipe_bytes(self->p[0])) {
		ret = read_full(self->p[0], buf, self->page);
		ASSERT_EQ(self->page, ret);
		bytes += ret;
		if (!label->nr) {
			ASSERT_LT(label->writer, WRITERS);
			calls[label->writer]++;
		} else {
			wrong += label->writer != last.writer ||
				 label->nr != last.nr + 1;
		}
		last = *label;
	}
	for (i = 0; i < WRITERS; i++) {
		ASSERT_EQ(0, pthread_join(self->w[i].thread, NULL));
		EXPECT_EQ(CALLS, calls[i]);
		want += self->w[i].bytes;
	}
	/* The last call may have continued after the reader stopped. */
	ret = pipe_bytes(self->p[0]);
	EXPECT_EQ(want, bytes + ret);
	EXPECT_EQ(0, wrong);
	free(buf);
}

TEST_HARNESS_MAIN
