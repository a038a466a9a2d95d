// SPDX-License-Identifier: GPL-2.0
/*
 * SPLICE_F_NOTIFY: the kernel reports when it no longer uses memory that
 * vmsplice() has put into a pipe.
 */
#include <poll.h>
#include <time.h>

#include "splice_notify.h"

/* Seed of the data. */
#define DATA 1

/* The length of one call, unless the test needs another one. */
#define SOME 5000

#define CALLS 1000

#define MEMORY_LIMIT "/proc/sys/fs/pipe-user-memory-pages"

FIXTURE(notify) {
	int p[2];
	int q[2];
	ssize_t page;
	ssize_t size;
	char *mem;
};

FIXTURE_SETUP(notify)
{
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	self->page = page_size();
	self->size = 16 * self->page;
	self->mem = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	fill_pattern(self->mem, self->size, DATA, 0);
	if (xvmsplice1(self->p[1], self->mem, 0, SPLICE_F_NOTIFY) == -EINVAL)
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
}

FIXTURE_TEARDOWN(notify)
{
	if (!access(MEMORY_LIMIT, F_OK))
		EXPECT_LT(0, write_text(MEMORY_LIMIT, "-1"));
	munmap(self->mem, self->size);
}

/*
 * Each call has the next number, and is released when its data has been read.
 */
TEST_F(notify, numbers)
{
	EXPECT_EQ(0, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	EXPECT_EQ(2, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));

	/* Reading a part of the data does not release the call. */
	ASSERT_EQ(SOME - 1, read_pattern(self->p[0], SOME - 1, DATA, 0));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, SOME - 1));
	EXPECT_EQ(1, released(self->p[1]));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, SOME));
	EXPECT_EQ(2, released(self->p[1]));
	EXPECT_EQ(2, issued(self->p[1]));
	/* Each pipe has its own numbers. */
	EXPECT_EQ(0, issued(self->q[1]));
}

/* Calls without the flag have no number, and delay no call with the flag. */
TEST_F(notify, only_what_was_asked_for)
{
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->mem, SOME, 0));
	EXPECT_EQ(0, issued(self->p[1]));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->mem, SOME, 0));
	EXPECT_EQ(1, issued(self->p[1]));
	ASSERT_EQ(2 * SOME, read_pattern(self->p[0], 2 * SOME, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
}

/* A call that fails has no number. */
TEST_F(notify, failed_calls)
{
	struct iovec iov[2] = {
		{ NULL, SOME }, { self->mem, SOME },
	};

	EXPECT_EQ(-EFAULT, xvmsplice(self->p[1], iov, 2, SPLICE_F_NOTIFY));
	EXPECT_EQ(0, xnotify(self->p[1], self->mem, 0));
	EXPECT_EQ(0, issued(self->p[1]));
	fill_pipe(_metadata, self->p[1], DATA);
	EXPECT_EQ(-EAGAIN, xvmsplice1(self->p[1], self->mem, SOME,
				      SPLICE_F_NOTIFY | SPLICE_F_NONBLOCK));
	EXPECT_EQ(0, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(pipe_capacity(self->p[0]),
		  read_pattern(self->p[0], pipe_capacity(self->p[0]), DATA, 0));

	/* A call that puts a part of the data into the pipe has a number. */
	iov[0] = (struct iovec) { self->mem, SOME };
	iov[1] = (struct iovec) { NULL, SOME };
	EXPECT_EQ(SOME, xvmsplice(self->p[1], iov, 2, SPLICE_F_NOTIFY));
	EXPECT_EQ(1, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
}

/* The watermark reports that all earlier calls are released, too. */
TEST_F(notify, out_of_order)
{
	ssize_t i;

	ASSERT_EQ(1, xnotify(self->p[1], self->mem, 1));
	ASSERT_EQ(1, xsplice(self->p[0], NULL, self->q[1], NULL, 1, 0));
	for (i = 1; i < CALLS; i++) {
		ASSERT_EQ(1, xnotify(self->p[1], self->mem + i, 1));
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, i));
	}
	EXPECT_EQ(CALLS, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(1, read_pattern(self->q[0], 1, DATA, 0));
	EXPECT_EQ(CALLS, released(self->p[1]));
	EXPECT_EQ(0, issued(self->q[1]));
}

/* Issues the calls number @from to @to, of one byte each, and drains them. */
static void issue_and_drain(struct __test_metadata *_metadata, int pipe[2],
			    const char *mem, ssize_t from, ssize_t to)
{
	ssize_t room = pipe_capacity(pipe[1]) / page_size(), n, i;
	char buf[256];

	if (room > (ssize_t)sizeof(buf))
		room = sizeof(buf);
	for (; from <= to; from += n) {
		n = to - from + 1 < room ? to - from + 1 : room;
		for (i = 0; i < n; i++)
			ASSERT_EQ(1, xnotify(pipe[1], mem, 1));
		ASSERT_EQ(n, xread(pipe[0], buf, n));
	}
}

/* Calls 1 and 5 of 10 are in use: the watermark goes to 4, then to 10. */
TEST_F(notify, two_held)
{
	int efd = make_eventfd(_metadata);
	int r[2], i;

	make_pipe(_metadata, r);
	ASSERT_EQ(0, attach(self->p[1], efd));
	for (i = 1; i <= 10; i++) {
		ASSERT_EQ(1, xnotify(self->p[1], self->mem + i, 1));
		if (i == 1)
			ASSERT_EQ(1, xtee(self->p[0], self->q[1], 1, 0));
		if (i == 5)
			ASSERT_EQ(1, xtee(self->p[0], r[1], 1, 0));
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, i));
		EXPECT_EQ(0, released(self->p[1]));
	}
	EXPECT_EQ(0, signals(efd));
	ASSERT_EQ(1, read_pattern(self->q[0], 1, DATA, 1));
	EXPECT_EQ(4, released(self->p[1]));
	EXPECT_EQ(1, signals(efd));
	ASSERT_EQ(1, read_pattern(r[0], 1, DATA, 5));
	EXPECT_EQ(10, released(self->p[1]));
	EXPECT_EQ(1, signals(efd));

	/* Release call 18 before call 14. */
	issue_and_drain(_metadata, self->p, self->mem, 11, 12);
	EXPECT_EQ(2, signals(efd));
	for (i = 13; i <= 20; i++) {
		ASSERT_EQ(1, xnotify(self->p[1], self->mem + i, 1));
		if (i == 14)
			ASSERT_EQ(1, xtee(self->p[0], self->q[1], 1, 0));
		if (i == 18)
			ASSERT_EQ(1, xtee(self->p[0], r[1], 1, 0));
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, i));
	}
	EXPECT_EQ(13, released(self->p[1]));
	EXPECT_EQ(1, signals(efd));
	ASSERT_EQ(1, read_pattern(r[0], 1, DATA, 18));
	EXPECT_EQ(13, released(self->p[1]));
	EXPECT_EQ(0, signals(efd));
	ASSERT_EQ(1, read_pattern(self->q[0], 1, DATA, 14));
	EXPECT_EQ(20, released(self->p[1]));
	EXPECT_EQ(1, signals(efd));
}

#define HELD 48

/*
 * Calls in use, each in a pipe of its own, are released in random order. The
 * watermark is always the number before the oldest one in use, and the eventfd
 * is signalled once each time that it moves.
 */
TEST_F(notify, any_order)
{
	int pipes[HELD][2], order[HELD], round, i, j, tmp;
	ssize_t base, oldest, watermark, moves;
	int efd = make_eventfd(_metadata);
	unsigned int seed = 1;
	bool held[HELD];
	char c;

	ASSERT_EQ(0, attach(self->p[1], efd));
	for (i = 0; i < HELD; i++)
		make_pipe(_metadata, pipes[i]);
	for (round = 0; round < 50; round++) {
		base = issued(self->p[1]);
		ASSERT_EQ(base, released(self->p[1]));
		for (i = 0; i < HELD; i++) {
			order[i] = i;
			held[i] = true;
			ASSERT_EQ(1, xnotify(self->p[1], self->mem, 1));
			ASSERT_EQ(1, xsplice(self->p[0], NULL, pipes[i][1],
					     NULL, 1, 0));
		}
		for (i = HELD - 1; i > 0; i--) {
			j = rand_r(&seed) % (i + 1);
			tmp = order[i];
			order[i] = order[j];
			order[j] = tmp;
		}
		watermark = base;
		moves = 0;
		for (i = 0; i < HELD; i++) {
			ASSERT_EQ(1, xread(pipes[order[i]][0], &c, 1));
			held[order[i]] = false;
			for (oldest = 0; oldest < HELD; oldest++)
				if (held[oldest])
					break;
			moves += base + oldest != watermark;
			watermark = base + oldest;
			ASSERT_EQ(watermark, released(self->p[1]));
		}
		ASSERT_EQ(moves, signals(efd));
	}
	for (i = 0; i < HELD; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
}

static long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* The factor by which a debug kernel (lockdep, kmemleak, KCSAN) is slower. */
static bool debug_kernel(void)
{
	/* This mounts debugfs. */
	have_counters();
	return !access("/proc/lockdep", F_OK) ||
	       !access("/sys/kernel/debug/kmemleak", F_OK) ||
	       !access("/sys/kernel/debug/kcsan", F_OK);
}

/* Returns how many kilobytes of slab the kernel cannot reclaim. */
static ssize_t slab_kib(void)
{
	return read_line_of("/proc/meminfo", "SUnreclaim:");
}

/* Measures how long the release of the byte in @fd takes. */
static long long timed_release(struct __test_metadata *_metadata, int fd)
{
	long long start = now_ns();
	char c;

	ASSERT_EQ(1, xread(fd, &c, 1));
	return now_ns() - start;
}

/* Issues a call of one byte that stays in use in the second pipe only. */
static void hold_one(struct __test_metadata *_metadata, int p[2], int q[2],
		     const char *mem)
{
	char c;

	ASSERT_EQ(1, xnotify(p[1], mem, 1));
	ASSERT_EQ(1, xtee(p[0], q[1], 1, 0));
	ASSERT_EQ(1, xread(p[0], &c, 1));
}

/*
 * The first of many calls stays in use: the calls after it keep no memory, and
 * its release takes no longer than that of a single call. SPLICE_NOTIFY_CALLS
 * sets the number of calls; ten million take up to 90 s in an emulated machine.
 */
TEST_F_TIMEOUT(notify, first_of_many, 1800)
{
	const char *env = getenv("SPLICE_NOTIFY_CALLS");
	ssize_t calls = debug_kernel() ? 100000 : 1000000;
	long long alone = 0, took, bound, start;
	int efd = make_eventfd(_metadata), i;
	ssize_t base, before, unheld, grown;

	if (env)
		calls = atoll(env);
	ASSERT_LT(1, calls);
	ASSERT_EQ(0, attach(self->p[1], efd));
	ASSERT_EQ(256 * self->page, fcntl(self->p[1], F_SETPIPE_SZ,
					  256 * self->page));
	for (i = 0; i < 50; i++) {
		hold_one(_metadata, self->p, self->q, self->mem);
		took = timed_release(_metadata, self->q[0]);
		if (took > alone)
			alone = took;
	}
	ASSERT_EQ(50, signals(efd));
	bound = 10 * alone + 10000000;

	/* A kernel with KASAN keeps memory that was freed, up to a limit. */
	before = slab_kib();
	ASSERT_LT(0, before);
	issue_and_drain(_metadata, self->p, self->mem, 1, calls / 4);
	unheld = slab_kib() - before;
	if (unheld < 0)
		unheld = 0;
	signals(efd);

	/* Another task may run during the measured time: try again. */
	for (i = 0; i < 3; i++) {
		base = issued(self->p[1]);
		ASSERT_EQ(base, released(self->p[1]));
		before = slab_kib();
		start = now_ns();
		hold_one(_metadata, self->p, self->q, self->mem);
		issue_and_drain(_metadata, self->p, self->mem, 2, calls);
		start = now_ns() - start;
		grown = slab_kib() - before;
		EXPECT_EQ(base + calls, issued(self->p[1]));
		EXPECT_EQ(base, released(self->p[1]));
		EXPECT_EQ(0, signals(efd));

		took = timed_release(_metadata, self->q[0]);
		TH_LOG("%zd calls: %lld ms, %zd KiB of slab; release: %lld us, alone: %lld us",
		       calls, start / 1000000, grown, took / 1000,
		       alone / 1000);
		EXPECT_EQ(base + calls, released(self->p[1]));
		EXPECT_EQ(1, signals(efd));
		EXPECT_GT(4 * unheld + 2048, grown);
		if (took < bound)
			break;
	}
	EXPECT_GT(bound, took);
}

/* The call is in use until every copy that tee() made has been read. */
TEST_F(notify, tee)
{
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xtee(self->p[0], self->q[1], SOME, 0));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(SOME - 1, read_pattern(self->q[0], SOME - 1, DATA, 0));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(1, read_pattern(self->q[0], 1, DATA, SOME - 1));
	EXPECT_EQ(1, released(self->p[1]));
}

/* A buffer that is split between two pipes is in use until both are read. */
TEST_F(notify, split)
{
	ASSERT_EQ(1000, xnotify(self->p[1], self->mem, 1000));
	ASSERT_EQ(400, xsplice(self->p[0], NULL, self->q[1], NULL, 400, 0));
	ASSERT_EQ(600, read_pattern(self->p[0], 600, DATA, 400));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(400, read_pattern(self->q[0], 400, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
}

/* SPLICE_F_GIFT does not give a page away while it has a notification. */
TEST_F(notify, gift)
{
	int file = make_file(_metadata, "/tmp");

	ASSERT_EQ(self->page,
		  xvmsplice1(self->p[1], self->mem, self->page,
			     SPLICE_F_NOTIFY | SPLICE_F_GIFT));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, file, NULL, self->page,
				      SPLICE_F_MOVE));
	EXPECT_EQ(1, released(self->p[1]));
	memset(self->mem, 0, self->page);
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(self->page, read_pattern(file, self->page, DATA, 0));
}

TEST_F(notify, flags)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(-EINVAL, xvmsplice1(self->p[0], self->mem, SOME,
				      SPLICE_F_NOTIFY));
	EXPECT_EQ(-EINVAL, xsplice(self->p[0], NULL, self->q[1], NULL, SOME,
				   SPLICE_F_NOTIFY));
	EXPECT_EQ(-EINVAL, xtee(self->p[0], self->q[1], SOME, SPLICE_F_NOTIFY));
	EXPECT_EQ(-EINVAL, xvmsplice1(self->p[1], self->mem, SOME, 0x20));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

TEST_F(notify, bad_requests)
{
	struct splice_notify_state st = { .reserved = 1 };
	int file = make_file(_metadata, "/tmp");
	int efd = make_eventfd(_metadata);

	ASSERT_EQ(0, attach(self->p[1], efd));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	EXPECT_EQ(-EBADF, notify_state(self->p[0], 0, 0, &st));
	EXPECT_EQ(-ENOTTY, notify_state(file, 0, 0, &st));
	EXPECT_EQ(-EINVAL, notify_state(self->p[1], 2, 0, &st));
	EXPECT_EQ(-EINVAL, notify_state(self->p[1], 0, 1, &st));
	EXPECT_EQ(-EINVAL, notify_state(self->p[1], SPLICE_NOTIFY_WAIT, 2, &st));
	EXPECT_EQ(-EINVAL, notify_state(self->q[1], SPLICE_NOTIFY_WAIT, 1, &st));
	st = (struct splice_notify_state) { .reserved = 1 };
	EXPECT_EQ(-EINVAL, or_errno(ioctl(self->p[1], SPLICE_IOC_NOTIFY_STATE,
					  &st)));
	EXPECT_EQ(-EFAULT, or_errno(ioctl(self->p[1], SPLICE_IOC_NOTIFY_STATE,
					  NULL)));
	EXPECT_EQ(-ENOTTY, or_errno(ioctl(self->p[1], _IO(0xBB, 2), 0)));

	EXPECT_EQ(-EBADF, attach(self->p[0], efd));
	EXPECT_EQ(-EBADF, attach(self->p[0], -1));
	EXPECT_EQ(-EBADF, attach(self->p[1], -2));
	EXPECT_EQ(-EBADF, attach(self->p[1], 1 << 20));
	EXPECT_EQ(-EINVAL, attach(self->p[1], self->q[0]));
	EXPECT_EQ(-ENOTTY, attach(file, efd));
	EXPECT_EQ(-EFAULT, or_errno(ioctl(self->p[1], SPLICE_IOC_NOTIFY_EVENTFD,
					  NULL)));
	EXPECT_EQ(1, issued(self->p[1]));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
	/* The request that failed has not detached the eventfd. */
	EXPECT_EQ(1, signals(efd));
}

static struct job job_wait(int fd, struct splice_notify_state *st)
{
	return (struct job) {
		.nr = SYS_ioctl,
		.arg = { fd, SPLICE_IOC_NOTIFY_STATE, (long)st },
	};
}

TEST_F(notify, wait)
{
	struct splice_notify_state st = {
		.flags = SPLICE_NOTIFY_WAIT, .number = 2,
	};
	struct job job = job_wait(self->p[1], &st);

	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	/* Waiting for another call. */
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	job_wait_blocked(&job);
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, SOME));
	EXPECT_EQ(0, job_finish(_metadata, &job));
	EXPECT_EQ(3, st.issued);
	EXPECT_EQ(2, st.released);

	/* Waiting for a call that is released returns at once. */
	EXPECT_EQ(2, wait_released(self->p[1], 1));
	st = (struct splice_notify_state) {
		.flags = SPLICE_NOTIFY_WAIT, .number = 3,
	};
	job = job_wait(self->p[1], &st);
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	set_nonblock(_metadata, self->p[1], true);
	EXPECT_EQ(-EAGAIN, wait_released(self->p[1], 3));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(3, wait_released(self->p[1], 3));
}

TEST_F(notify, eventfd)
{
	int efd = make_eventfd(_metadata);

	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(0, attach(self->p[1], efd));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	EXPECT_EQ(0, signals(efd));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, signals(efd));
	EXPECT_EQ(0, signals(efd));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, SOME));
	EXPECT_EQ(1, signals(efd));
}

/* Only the eventfd that is attached at the time of the release is signalled. */
TEST_F(notify, eventfd_replaced)
{
	int first = make_eventfd(_metadata);
	int second = make_eventfd(_metadata);

	ASSERT_EQ(0, attach(self->p[1], -1));
	ASSERT_EQ(0, attach(self->p[1], first));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(0, attach(self->p[1], first));
	ASSERT_EQ(0, attach(self->p[1], second));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(0, signals(first));
	EXPECT_EQ(1, signals(second));

	/* Detached, also while a call is in use, and attached again. */
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	ASSERT_EQ(0, attach(self->p[1], -1));
	ASSERT_EQ(0, attach(self->p[1], -1));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(2, released(self->p[1]));
	EXPECT_EQ(0, signals(first));
	EXPECT_EQ(0, signals(second));
	ASSERT_EQ(0, attach(self->p[1], first));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, SOME));
	EXPECT_EQ(1, signals(first));
	EXPECT_EQ(0, signals(second));

	/*
	 * The pipe keeps a reference to an eventfd that the program has closed.
	 */
	close(first);
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(4, released(self->p[1]));
	ASSERT_EQ(0, attach(self->p[1], second));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, signals(second));
}

/* Attaches each of two eventfds to the pipe in turn. */
struct replacer {
	pthread_t thread;
	int pipe;
	int efd[2];
	bool end;
	int failed;
	int nr;
};

static void *replace(void *data)
{
	struct replacer *r = data;

	while (!__atomic_load_n(&r->end, __ATOMIC_SEQ_CST)) {
		if (attach(r->pipe, r->efd[r->nr % 2]))
			r->failed++;
		r->nr++;
	}
	return NULL;
}

/* No signal is lost or doubled while the eventfd is replaced. */
TEST_F_TIMEOUT(notify, eventfd_replaced_meanwhile, 300)
{
	struct replacer r = { .pipe = self->p[1] };
	ssize_t i, rounds = 20000;

	r.efd[0] = make_eventfd(_metadata);
	r.efd[1] = make_eventfd(_metadata);
	ASSERT_EQ(0, attach(self->p[1], r.efd[0]));
	ASSERT_EQ(0, pthread_create(&r.thread, NULL, replace, &r));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(1, xnotify(self->p[1], self->mem, 1));
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, 0));
	}
	__atomic_store_n(&r.end, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(r.thread, NULL));
	EXPECT_EQ(0, r.failed);
	EXPECT_LT(1, r.nr);
	EXPECT_EQ(rounds, released(self->p[1]));
	EXPECT_EQ(rounds, signals(r.efd[0]) + signals(r.efd[1]));
}

/* The pipe of a call is gone, and its data is in another pipe. */
TEST_F(notify, after_close)
{
	int efd = make_eventfd(_metadata);

	ASSERT_EQ(0, attach(self->p[1], efd));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->q[1], NULL, SOME, 0));
	close(self->p[0]);
	close(self->p[1]);
	/*
	 * The second call was released with the pipe; the first one is in use.
	 */
	EXPECT_EQ(0, signals(efd));
	ASSERT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));
	EXPECT_EQ(1, signals(efd));
}

/* A process exits while the data, and so its memory, is in use. */
TEST_F(notify, exit)
{
	int efd = make_eventfd(_metadata);
	int status;
	pid_t pid;

	ASSERT_EQ(0, attach(self->p[1], efd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *own = malloc(SOME);

		fill_pattern(own, SOME, DATA, 0);
		_exit(xnotify(self->p[1], own, SOME) != SOME);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(0, signals(efd));
	EXPECT_EQ(1, issued(self->p[1]));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, signals(efd));
}

/*
 * When splice() to a file returns, the call is released, with or without
 * O_DIRECT.
 */
TEST_F(notify, file)
{
	const char *tmpfs = getenv("SPLICE_TMPFS_DIR");
	const char *ext4 = getenv("SPLICE_EXT4_DIR");
	ssize_t len = 4 * self->page;
	int i, direct, file, from;

	if (!tmpfs || !ext4)
		SKIP(return, "SPLICE_TMPFS_DIR or SPLICE_EXT4_DIR is not set");
	for (i = 0; i < 3; i++) {
		direct = i == 2 ? O_DIRECT : 0;
		from = make_file(_metadata, i ? ext4 : tmpfs);
		file = reopen(_metadata, from, O_WRONLY | direct);
		ASSERT_EQ(len, xnotify(self->p[1], self->mem, len));
		ASSERT_EQ(len, splice_full(self->p[0], file, len));
		EXPECT_EQ(i + 1, released(self->p[1]));
		memset(self->mem, 0, len);
		EXPECT_EQ(len, read_pattern(from, len, DATA, 0));
		fill_pattern(self->mem, len, DATA, 0);
		close(file);
		close(from);
	}
}

/*
 * A socket that cannot report when it releases pages gets a copy: the memory is
 * released at once, and the receiver does not see later writes to it.
 */
static void expect_copied(struct __test_metadata *_metadata, int pipe[2],
			  char *mem, int domain, int type)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(addr);
	ssize_t before, size = 3000;
	int sv[2];

	if (domain == AF_UNIX) {
		ASSERT_EQ(0, socketpair(domain, type, 0, sv));
	} else {
		sv[0] = socket(domain, type, 0);
		sv[1] = socket(domain, type, 0);
		ASSERT_LE(0, sv[0]);
		ASSERT_LE(0, sv[1]);
		bring_up_loopback(_metadata, sv[1]);
		ASSERT_EQ(0, bind(sv[1], (struct sockaddr *)&addr, len));
		ASSERT_EQ(0, getsockname(sv[1], (struct sockaddr *)&addr,
					 &len));
		ASSERT_EQ(0, connect(sv[0], (struct sockaddr *)&addr, len));
	}

	before = read_counter("bytes.pipe_to_socket.copied");
	ASSERT_LE(0, before);
	ASSERT_EQ(size, xnotify(pipe[1], mem, size));
	ASSERT_EQ(size, xsplice(pipe[0], NULL, sv[0], NULL, size, 0));
	EXPECT_EQ(1, released(pipe[1]));
	memset(mem, 0, size);
	EXPECT_EQ(size, read_pattern(sv[1], size, DATA, 0));
	EXPECT_EQ(before + size, read_counter("bytes.pipe_to_socket.copied"));
}

TEST_F(notify, unix_stream)
{
	expect_copied(_metadata, self->p, self->mem, AF_UNIX, SOCK_STREAM);
}

TEST_F(notify, unix_seqpacket)
{
	expect_copied(_metadata, self->p, self->mem, AF_UNIX, SOCK_SEQPACKET);
}

TEST_F(notify, udp)
{
	expect_copied(_metadata, self->p, self->mem, AF_INET, SOCK_DGRAM);
}

/* Data with and without the flag in one pipe is sent in order. */
TEST_F(notify, mixed)
{
	int sv[2];

	make_unix_pair(_metadata, sv);
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->mem, SOME, 0));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 2 * SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + 3 * SOME, SOME));
	ASSERT_EQ(4 * SOME, splice_full(self->p[0], sv[0], 4 * SOME));
	EXPECT_EQ(2, released(self->p[1]));
	EXPECT_EQ(4 * SOME, read_pattern(sv[1], 4 * SOME, DATA, 0));
}

/*
 * TCP takes references, and releases them when the peer has acknowledged the
 * data.
 */
TEST_F(notify, tcp)
{
	ssize_t size = self->size, copied, referenced;
	int sv[2];

	make_tcp_pair(_metadata, sv);
	copied = read_counter("bytes.pipe_to_socket.copied");
	referenced = read_counter("bytes.pipe_to_socket.referenced");
	ASSERT_LE(0, copied);
	ASSERT_EQ(size, xnotify(self->p[1], self->mem, size));
	ASSERT_EQ(size, splice_full(self->p[0], sv[0], size));
	EXPECT_EQ(size, read_pattern(sv[1], size, DATA, 0));
	EXPECT_EQ(1, wait_released(self->p[1], 1));
	EXPECT_EQ(copied, read_counter("bytes.pipe_to_socket.copied"));
	EXPECT_EQ(referenced + size,
		  read_counter("bytes.pipe_to_socket.referenced"));
}

/* Closing a socket releases data that it has not sent. */
TEST_F(notify, tcp_reset)
{
	struct linger linger = { .l_onoff = 1 };
	int sv[2], efd;
	ssize_t ret;

	efd = make_eventfd(_metadata);
	make_tcp_pair(_metadata, sv);
	ASSERT_EQ(0, attach(self->p[1], efd));
	set_nonblock(_metadata, sv[0], true);
	/* More than the receive buffer of the peer, which does not read. */
	do {
		ret = xvmsplice1(self->p[1], self->mem, self->size,
				 SPLICE_F_NOTIFY | SPLICE_F_NONBLOCK);
		ASSERT_TRUE(ret > 0 || ret == -EAGAIN);
		ret = xsplice(self->p[0], NULL, sv[0], NULL, self->size,
			      SPLICE_F_NONBLOCK);
		ASSERT_TRUE(ret > 0 || ret == -EAGAIN);
	} while (ret > 0);
	EXPECT_LT(released(self->p[1]), issued(self->p[1]));
	ASSERT_EQ(0, setsockopt(sv[0], SOL_SOCKET, SO_LINGER, &linger,
				sizeof(linger)));
	close(sv[0]);
	while (pipe_bytes(self->p[0]) > 0)
		ASSERT_LT(0, xsplice(self->p[0], NULL,
				     open("/dev/null", O_WRONLY), NULL,
				     self->size, 0));
	EXPECT_EQ(issued(self->p[1]),
		  wait_released(self->p[1], issued(self->p[1])));
	EXPECT_LT(0, signals(efd));
}

/* Time for several retransmissions. */
static void let_retransmit(void)
{
	usleep(700000);
}

/*
 * The receiver drops the data: the memory stays in use, and a retransmission
 * sends its contents at that time. Loopback delivers a copy, and the filter
 * drops that copy.
 */
TEST_F_TIMEOUT(notify, tcp_lost, 60)
{
	ssize_t size = 4 * self->page, copied;
	int efd = make_eventfd(_metadata);
	int sv[2];

	make_tcp_pair(_metadata, sv);
	ASSERT_EQ(0, attach(self->p[1], efd));
	copied = read_counter("bytes.pipe_to_socket.copied");
	drop_all(_metadata, sv[1]);
	ASSERT_EQ(size, xnotify(self->p[1], self->mem, size));
	ASSERT_EQ(size, splice_full(self->p[0], sv[0], size));
	EXPECT_EQ(0, released(self->p[1]));
	let_retransmit();
	EXPECT_EQ(0, released(self->p[1]));
	EXPECT_EQ(0, signals(efd));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));

	fill_pattern(self->mem, size, DATA + 1, 0);
	drop_nothing(_metadata, sv[1]);
	EXPECT_EQ(size, read_pattern(sv[1], size, DATA + 1, 0));
	EXPECT_EQ(1, wait_released(self->p[1], 1));
	EXPECT_EQ(1, signals(efd));
	EXPECT_EQ(copied, read_counter("bytes.pipe_to_socket.copied"));
}

/* Calls after the lost one are reported with it: they wait for its release. */
TEST_F_TIMEOUT(notify, tcp_holds_first, 60)
{
	int efd = make_eventfd(_metadata);
	int sv[2];

	make_tcp_pair(_metadata, sv);
	ASSERT_EQ(0, attach(self->p[1], efd));
	drop_all(_metadata, sv[1]);
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, splice_full(self->p[0], sv[0], SOME));
	issue_and_drain(_metadata, self->p, self->mem, 2, CALLS);
	EXPECT_EQ(CALLS, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));
	EXPECT_EQ(0, signals(efd));
	drop_nothing(_metadata, sv[1]);
	EXPECT_EQ(SOME, read_pattern(sv[1], SOME, DATA, 0));
	EXPECT_EQ(CALLS, wait_released(self->p[1], CALLS));
	/* The watermark has moved once. */
	EXPECT_EQ(1, signals(efd));
}

/* Resetting a connection releases data that the peer did not acknowledge. */
TEST_F_TIMEOUT(notify, tcp_lost_and_reset, 60)
{
	struct linger linger = { .l_onoff = 1 };
	int sv[2];

	make_tcp_pair(_metadata, sv);
	drop_all(_metadata, sv[1]);
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, splice_full(self->p[0], sv[0], SOME));
	usleep(100000);
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(0, setsockopt(sv[0], SOL_SOCKET, SO_LINGER, &linger,
				sizeof(linger)));
	close(sv[0]);
	EXPECT_EQ(1, wait_released(self->p[1], 1));
}

/* Unmapped memory is in use until its data is read. */
TEST_F(notify, unmapped)
{
	char *mem = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	fill_pattern(mem, self->size, DATA, 0);
	ASSERT_EQ(SOME, xnotify(self->p[1], mem, SOME));
	ASSERT_EQ(0, munmap(mem, self->size));
	EXPECT_EQ(0, released(self->p[1]));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
}

/* A child shares the pipe and its numbers; its exit releases no call. */
TEST_F(notify, fork)
{
	int status;
	pid_t pid;

	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		bool ok = issued(self->p[1]) == 1 && !released(self->p[1]);

		memset(self->mem, 0, self->size);
		ok = ok && xnotify(self->p[1], self->mem, SOME) == SOME &&
		     issued(self->p[1]) == 2;
		_exit(!ok);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(2, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
	ASSERT_EQ(2 * SOME, SOME + pipe_bytes(self->p[0]));
	issue_and_drain(_metadata, self->q, self->mem, 1, 1);
	EXPECT_EQ(1, released(self->q[1]));
	EXPECT_EQ(SOME, splice_full(self->p[0], self->q[1], SOME));
	close(self->p[0]);
	EXPECT_EQ(1, released(self->p[1]));
	close(self->q[0]);
	close(self->q[1]);
	EXPECT_EQ(2, released(self->p[1]));
}

/* A process that waits for a release can be killed. */
TEST_F(notify, killed_waiting)
{
	struct splice_notify_state st = {
		.flags = SPLICE_NOTIFY_WAIT, .number = 1,
	};
	struct job job = job_wait(self->p[1], &st);

	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	kill_waiting(_metadata, job_fork_waiting(_metadata, &job));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
}

/* Full pipes without a reader do not affect other pipes. */
TEST_F(notify, never_read)
{
	int pipes[HELD][2], i;
	ssize_t calls;

	for (i = 0; i < HELD; i++) {
		make_pipe(_metadata, pipes[i]);
		for (calls = 0; xvmsplice1(pipes[i][1], self->mem, 1,
					   SPLICE_F_NOTIFY |
					   SPLICE_F_NONBLOCK) == 1; calls++)
			;
		ASSERT_EQ(pipe_capacity(pipes[i][1]) / self->page, calls);
	}
	issue_and_drain(_metadata, self->p, self->mem, 1, CALLS);
	EXPECT_EQ(CALLS, released(self->p[1]));
	for (i = 0; i < HELD; i++) {
		EXPECT_EQ(calls, issued(pipes[i][1]));
		EXPECT_EQ(0, released(pipes[i][1]));
		close(pipes[i][0]);
		EXPECT_EQ(0, released(pipes[i][1]));
		close(pipes[i][1]);
	}
}

/* A call that copied all of its memory is released when it returns. */
TEST_F(notify, copied)
{
	int efd = make_eventfd(_metadata);

	ASSERT_EQ(0, attach(self->p[1], efd));
	ASSERT_LT(0, write_text(MEMORY_LIMIT, "0"));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	EXPECT_EQ(1, issued(self->p[1]));
	EXPECT_EQ(1, released(self->p[1]));
	EXPECT_EQ(1, signals(efd));
	memset(self->mem, 0, SOME);
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(0, signals(efd));

	/* The watermark does not pass an older call that is in use. */
	ASSERT_LT(0, write_text(MEMORY_LIMIT, "-1"));
	fill_pattern(self->mem, SOME, DATA, 0);
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_LT(0, write_text(MEMORY_LIMIT, "0"));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	EXPECT_EQ(1, released(self->p[1]));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(3, released(self->p[1]));
	EXPECT_EQ(1, signals(efd));
}

#ifdef __x86_64__
/* Makes the ioctl() of a 32-bit program. @arg points to memory below 4 GiB. */
static ssize_t ioctl32(int fd, unsigned int cmd, void *arg)
{
	int ret;

	asm volatile("int $0x80" : "=a" (ret)
		     : "a" (54), "b" (fd), "c" (cmd), "d" (arg)
		     : "memory", "cc", "r8", "r9", "r10", "r11");
	return ret;
}

static bool have_ioctl32(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		/* The kernel would log a fault that has no handler. */
		signal(SIGSEGV, _exit);
		_exit(ioctl32(-1, 0, NULL) != -EBADF);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

TEST_F(notify, compat)
{
	struct splice_notify_state *st;
	int *efd;

	if (!have_ioctl32())
		SKIP(return, "no 32-bit programs: CONFIG_IA32_EMULATION is not set");
	st = mmap(NULL, self->page, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)st);
	efd = (int *)(st + 1);
	*efd = make_eventfd(_metadata);

	EXPECT_EQ(0, ioctl32(self->p[1], SPLICE_IOC_NOTIFY_EVENTFD, efd));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, signals(*efd));
	EXPECT_EQ(0, ioctl32(self->p[1], SPLICE_IOC_NOTIFY_STATE, st));
	EXPECT_EQ(2, st->issued);
	EXPECT_EQ(1, st->released);
	*st = (struct splice_notify_state) {
		.flags = SPLICE_NOTIFY_WAIT, .number = 1,
	};
	EXPECT_EQ(0, ioctl32(self->p[1], SPLICE_IOC_NOTIFY_STATE, st));
	EXPECT_EQ(-EBADF, ioctl32(self->p[0], SPLICE_IOC_NOTIFY_EVENTFD, efd));
	EXPECT_EQ(0, ioctl32(self->p[0], FIONREAD, efd + 1));
	EXPECT_EQ(SOME, efd[1]);
	EXPECT_EQ(-ENOTTY, ioctl32(self->p[1], _IO(0xBB, 2), NULL));
	munmap(st, self->page);
}
#endif

#define RING 8

struct receiver {
	int fd;
	ssize_t total;
	ssize_t good;
};

static void *receive(void *data)
{
	struct receiver *r = data;
	ssize_t len = 65536, ret;
	char *buf = malloc(len);

	while (buf && r->good < r->total) {
		ret = xread(r->fd, buf, len);
		if (ret <= 0 || match_pattern(buf, ret, DATA, r->good) != ret)
			break;
		r->good += ret;
	}
	/* Shut the socket down: the sender would wait for ever otherwise. */
	if (r->good < r->total)
		shutdown(r->fd, SHUT_RDWR);
	free(buf);
	return NULL;
}

/*
 * A ring of buffers sends a stream. Each buffer is overwritten as soon as it is
 * reported free. SPLICE_RING_MIB sets the length of the stream.
 */
TEST_F_TIMEOUT(notify, ring, 1200)
{
	const char *mib = getenv("SPLICE_RING_MIB");
	struct receiver r = { .total = (ssize_t)(mib ? atoi(mib) : 32) << 20 };
	ssize_t chunk = self->size, sent = 0, number = 0, left, ret;
	ssize_t copied = read_counter("bytes.pipe_to_socket.copied");
	unsigned long long last[RING] = {};
	pthread_t thread;
	char *ring, *buf;
	int sv[2];

	signal(SIGPIPE, SIG_IGN);
	make_tcp_pair(_metadata, sv);
	ring = mmap(NULL, RING * chunk, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, ring);
	r.fd = sv[1];
	ASSERT_EQ(0, pthread_create(&thread, NULL, receive, &r));
	while (sent < r.total) {
		int slot = sent / chunk % RING;

		if (last[slot])
			ASSERT_LE((ssize_t)last[slot],
				  wait_released(self->p[1], last[slot]));
		buf = ring + slot * chunk;
		fill_pattern(buf, chunk, DATA, sent);
		for (left = chunk; left; left -= ret) {
			ret = xnotify(self->p[1], buf + chunk - left, left);
			ASSERT_LT(0, ret);
			last[slot] = ++number;
			ASSERT_EQ(ret, splice_full(self->p[0], sv[0], ret));
		}
		sent += chunk;
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(r.total, r.good);
	EXPECT_EQ(number, wait_released(self->p[1], number));
	EXPECT_EQ(number, issued(self->p[1]));
	EXPECT_EQ(copied, read_counter("bytes.pipe_to_socket.copied"));
	munmap(ring, RING * chunk);
}

/*
 * The same network and filter with MSG_ZEROCOPY: the kernel sends its
 * notifications when the peer has acknowledged the data, and not before.
 */
TEST(zerocopy_lost)
{
	ssize_t size = 4 * page_size();
	struct msghdr msg = {};
	int sv[2], one = 1, i;
	char control[256];
	char *mem;

	make_tcp_pair(_metadata, sv);
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	fill_pattern(mem, size, DATA, 0);
	ASSERT_EQ(0, setsockopt(sv[0], SOL_SOCKET, SO_ZEROCOPY, &one,
				sizeof(one)));
	drop_all(_metadata, sv[1]);
	ASSERT_EQ(size, or_errno(send(sv[0], mem, size, MSG_ZEROCOPY)));
	let_retransmit();
	msg.msg_control = control;
	msg.msg_controllen = sizeof(control);
	EXPECT_EQ(-EAGAIN, or_errno(recvmsg(sv[0], &msg, MSG_ERRQUEUE)));

	fill_pattern(mem, size, DATA + 1, 0);
	drop_nothing(_metadata, sv[1]);
	EXPECT_EQ(size, read_pattern(sv[1], size, DATA + 1, 0));
	for (i = 0; i < 1000; i++) {
		if (!or_errno(recvmsg(sv[0], &msg, MSG_ERRQUEUE)))
			break;
		usleep(10000);
	}
	EXPECT_GT(1000, i);
	munmap(mem, size);
}

TEST_HARNESS_MAIN
