// SPDX-License-Identifier: GPL-2.0
/*
 * The fill level of a pipe, in pages: poll(), FIONREAD, O_NONBLOCK and
 * F_SETPIPE_SZ agree with a model in which each page takes one slot, also if
 * one buffer refers to many pages. Every sleeping task is woken.
 *
 * SPLICE_STRESS_SECONDS sets how long each of the stress tests runs.
 */
#include <time.h>

#include "splice_memory.h"

#define PAGE 4096
#define SLOTS 16
#define MAX_SLOTS 64

/* One slot of the C implementation: at most one page. */
struct slot {
	int off;		/* offset of the first byte in the page */
	int len;
	bool merge;		/* write() may append to it */
	char data[PAGE];
};

/* A pipe, and its expected contents by the rules of the C code. */
struct model {
	int fd[2];
	int size;
	int used;
	struct slot slots[MAX_SLOTS];
};

static void model_init(struct __test_metadata *_metadata, struct model *m)
{
	m->size = SLOTS;
	m->used = 0;
	make_pipe(_metadata, m->fd);
	set_nonblock(_metadata, m->fd[0], true);
	set_nonblock(_metadata, m->fd[1], true);
}

static void model_close(struct model *m)
{
	close(m->fd[0]);
	close(m->fd[1]);
}

static ssize_t model_bytes(const struct model *m)
{
	ssize_t sum = 0;
	int i;

	for (i = 0; i < m->used; i++)
		sum += m->slots[i].len;
	return sum;
}

static void model_put(struct model *m, int off, int len, bool merge,
		      const char *data)
{
	struct slot *s = &m->slots[m->used++];

	s->off = off;
	s->len = len;
	s->merge = merge;
	memcpy(s->data, data, len);
}

/* Removes @len bytes of the first slot. */
static void model_take(struct model *m, int len)
{
	struct slot *s = &m->slots[0];

	s->off += len;
	s->len -= len;
	memmove(s->data, s->data + len, s->len);
	if (!s->len)
		memmove(s, s + 1, --m->used * sizeof(*s));
}

/* Compares everything that user space can see without changing the pipe. */
static void model_check(struct __test_metadata *_metadata,
			const struct model *m)
{
	int in = m->used ? POLLIN : 0, out = m->used < m->size ? POLLOUT : 0;

	ASSERT_EQ(model_bytes(m), pipe_bytes(m->fd[0]));
	ASSERT_EQ(in, poll_now(m->fd[0], POLLIN));
	ASSERT_EQ(out, poll_now(m->fd[1], POLLOUT));
	ASSERT_EQ(m->size * PAGE, pipe_capacity(m->fd[0]));
}

static void do_vmsplice(struct __test_metadata *_metadata, struct model *m,
			const char *mem, ssize_t len)
{
	ssize_t ret, done = 0;

	ret = xvmsplice1(m->fd[1], mem, len, SPLICE_F_NONBLOCK);
	while (done < len && m->used < m->size) {
		int off = (unsigned long)(mem + done) % PAGE, part = PAGE - off;

		if (part > len - done)
			part = len - done;
		model_put(m, off, part, false, mem + done);
		done += part;
	}
	ASSERT_EQ(done ? done : -EAGAIN, ret);
	model_check(_metadata, m);
}

static void do_write(struct __test_metadata *_metadata, struct model *m,
		     const char *mem, ssize_t len)
{
	struct slot *last = &m->slots[m->used - 1];
	int chars = len % PAGE;
	ssize_t ret, done = 0;

	ret = xwrite(m->fd[1], mem, len);
	if (chars && m->used && last->merge &&
	    last->off + last->len + chars <= PAGE) {
		memcpy(last->data + last->len, mem, chars);
		last->len += chars;
		done = chars;
	}
	while (done < len && m->used < m->size) {
		int part = len - done < PAGE ? len - done : PAGE;

		model_put(m, 0, part, true, mem + done);
		done += part;
	}
	ASSERT_EQ(done ? done : -EAGAIN, ret);
	model_check(_metadata, m);
}

static void do_read(struct __test_metadata *_metadata, struct model *m,
		    ssize_t len)
{
	static char buf[MAX_SLOTS * PAGE];
	ssize_t ret, done = 0;
	int part;

	ret = xread(m->fd[0], buf, len);
	while (done < len && m->used) {
		part = m->slots[0].len;
		if (part > len - done)
			part = len - done;
		ASSERT_EQ(0, memcmp(buf + done, m->slots[0].data, part));
		model_take(m, part);
		done += part;
	}
	ASSERT_EQ(done ? done : -EAGAIN, ret);
	model_check(_metadata, m);
}

/* Splices to a pipe, or, with no @to, to /dev/null. */
static void do_splice(struct __test_metadata *_metadata, struct model *m,
		      struct model *to, ssize_t len)
{
	int out = to ? to->fd[1] : open("/dev/null", O_WRONLY), part;
	ssize_t ret, done = 0;
	struct slot *s = &m->slots[0];

	ret = xsplice(m->fd[0], NULL, out, NULL, len, SPLICE_F_NONBLOCK);
	while (done < len && m->used && (!to || to->used < to->size)) {
		part = s->len < len - done ? s->len : len - done;
		if (to)
			model_put(to, s->off, part, part == s->len && s->merge,
				  s->data);
		model_take(m, part);
		done += part;
	}
	ASSERT_EQ(done ? done : -EAGAIN, ret);
	model_check(_metadata, m);
	if (to)
		model_check(_metadata, to);
	else
		close(out);
}

static void do_tee(struct __test_metadata *_metadata, struct model *m,
		   struct model *to, ssize_t len)
{
	ssize_t ret, done = 0;
	int i, part;

	ret = xtee(m->fd[0], to->fd[1], len, SPLICE_F_NONBLOCK);
	for (i = 0; done < len && i < m->used && to->used < to->size; i++) {
		part = m->slots[i].len;
		if (part > len - done)
			part = len - done;
		model_put(to, m->slots[i].off, part, false, m->slots[i].data);
		done += part;
	}
	ASSERT_EQ(done ? done : -EAGAIN, ret);
	model_check(_metadata, m);
	model_check(_metadata, to);
}

static void do_resize(struct __test_metadata *_metadata, struct model *m,
		      int size)
{
	ssize_t ret = or_errno(fcntl(m->fd[0], F_SETPIPE_SZ, size * PAGE));

	if (size < m->used) {
		ASSERT_EQ(-EBUSY, ret);
	} else {
		ASSERT_EQ(size * PAGE, ret);
		m->size = size;
	}
	model_check(_metadata, m);
}

/* Writes exactly as many pages as there are free slots. */
static void do_fill(struct __test_metadata *_metadata, struct model *m,
		    const char *mem)
{
	int free = m->size - m->used;

	do_write(_metadata, m, mem, MAX_SLOTS * PAGE);
	ASSERT_EQ(m->size, m->used);
	if (free)
		do_write(_metadata, m, mem, PAGE);
	do_vmsplice(_metadata, m, mem, 1);
}

static void do_drain(struct __test_metadata *_metadata, struct model *m)
{
	do_read(_metadata, m, MAX_SLOTS * PAGE);
	ASSERT_EQ(0, m->used);
}

/* Advances the ring's indices, so that the next buffers wrap around. */
static void do_rotate(struct __test_metadata *_metadata, struct model *m,
		      const char *mem, int slots)
{
	if (slots) {
		do_write(_metadata, m, mem, slots * PAGE);
		do_drain(_metadata, m);
	}
}

FIXTURE(full) {
	struct memory mem;
	char *m;
	struct model *p;
	struct model *q;
};

FIXTURE_VARIANT(full) {
	enum memory_kind kind;
};

FIXTURE_VARIANT_ADD(full, pages) {
	.kind = MEMORY_PAGES,
};

FIXTURE_VARIANT_ADD(full, thp) {
	.kind = MEMORY_THP,
};

FIXTURE_VARIANT_ADD(full, hugetlb) {
	.kind = MEMORY_HUGETLB,
};

FIXTURE_SETUP(full)
{
	const char *missing = memory_missing(variant->kind);

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(PAGE, page_size());
	memory_map(_metadata, &self->mem, variant->kind);
	self->m = self->mem.p;
	self->p = malloc(sizeof(*self->p));
	self->q = malloc(sizeof(*self->q));
	ASSERT_NE(NULL, self->p);
	ASSERT_NE(NULL, self->q);
	model_init(_metadata, self->p);
	model_init(_metadata, self->q);
}

FIXTURE_TEARDOWN(full)
{
	free(self->p);
	free(self->q);
	memory_unmap(&self->mem);
	close_all();
	memory_give_back(_metadata, variant->kind);
}

static const ssize_t steps[] = {
	1, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE, 3 * PAGE + 5,
	7 * PAGE, 11 * PAGE + 1, 12 * PAGE - 1, 12 * PAGE, 16 * PAGE,
};

/* At each place in the ring, reads a part and then fills the pipe exactly. */
TEST_F_TIMEOUT(full, read_and_fill, 60)
{
	int rotate, i, off;

	for (rotate = 0; rotate < SLOTS; rotate++) {
		for (i = 0; i < ARRAY_LEN(steps); i++) {
			off = i % 2 ? 0 : 700;
			do_rotate(_metadata, self->p, self->m, rotate);
			do_vmsplice(_metadata, self->p, self->m + off,
				    12 * PAGE);
			do_read(_metadata, self->p, steps[i]);
			do_fill(_metadata, self->p, self->m);
			do_drain(_metadata, self->p);
		}
	}
}

/*
 * Reads of one size until the pipe is empty: each page that is read frees a
 * slot.
 */
TEST_F_TIMEOUT(full, read_in_steps, 60)
{
	int i;

	for (i = 1; i < ARRAY_LEN(steps); i++) {
		do_vmsplice(_metadata, self->p, self->m + 3 * i, 20 * PAGE);
		ASSERT_EQ(SLOTS, self->p->used);
		while (self->p->used)
			do_read(_metadata, self->p, steps[i]);
		do_vmsplice(_metadata, self->p, self->m + 3 * i, 20 * PAGE);
		while (self->p->used)
			do_splice(_metadata, self->p, NULL, steps[i]);
	}
}

/* Refills the pipe after each read, so that the indices wrap many times. */
TEST_F_TIMEOUT(full, always_full, 60)
{
	int i;

	do_vmsplice(_metadata, self->p, self->m, SLOTS * PAGE);
	for (i = 0; i < 200; i++) {
		do_read(_metadata, self->p, PAGE - 1);
		do_vmsplice(_metadata, self->p, self->m, PAGE);
		do_read(_metadata, self->p, 1 + i % 5 * PAGE);
		do_vmsplice(_metadata, self->p, self->m + i, 5 * PAGE);
	}
	do_drain(_metadata, self->p);
}

/* Resizes the pipe with data in it; EBUSY if the data does not fit. */
TEST_F_TIMEOUT(full, resized, 60)
{
	int rotate, used, size;

	for (rotate = 0; rotate < SLOTS; rotate += 3) {
		for (used = 1; used <= SLOTS; used++) {
			do_resize(_metadata, self->p, SLOTS);
			do_rotate(_metadata, self->p, self->m, rotate);
			do_vmsplice(_metadata, self->p, self->m, used * PAGE);
			for (size = 1; size <= MAX_SLOTS; size *= 2)
				do_resize(_metadata, self->p, size);
			for (; size; size /= 2)
				do_resize(_metadata, self->p, size);
			/* The pipe has its smallest possible size now. */
			do_fill(_metadata, self->p, self->m);
			do_read(_metadata, self->p, used * PAGE / 2 + 1);
			do_fill(_metadata, self->p, self->m);
			do_resize(_metadata, self->p, MAX_SLOTS);
			do_fill(_metadata, self->p, self->m);
			do_drain(_metadata, self->p);
		}
	}
}

/* Moves and tees parts of a buffer to a pipe of each size. */
TEST_F_TIMEOUT(full, parts, 60)
{
	int i, size;

	for (size = 1; size <= SLOTS; size *= 2) {
		do_resize(_metadata, self->q, size);
		for (i = 0; i < ARRAY_LEN(steps); i++) {
			do_vmsplice(_metadata, self->p, self->m + 1000 * i,
				    12 * PAGE);
			do_tee(_metadata, self->p, self->q, steps[i]);
			do_drain(_metadata, self->q);
			do_splice(_metadata, self->p, self->q, steps[i]);
			do_tee(_metadata, self->p, self->q, PAGE);
			do_fill(_metadata, self->p, self->m);
			do_fill(_metadata, self->q, self->m);
			do_drain(_metadata, self->q);
			do_drain(_metadata, self->p);
		}
	}
}

/* Random calls, with two pipes whose sizes change. */
TEST_F_TIMEOUT(full, random, 120)
{
	unsigned int seed = 13;
	int i;

	for (i = 0; i < 20000; i++) {
		int n = rand_r(&seed), r = rand_r(&seed);
		ssize_t len = steps[n / 7 % ARRAY_LEN(steps)];
		struct model *to = r & 0x100 ? self->p : self->q;
		struct model *m = r & 0x100 ? self->q : self->p;
		const char *mem = self->m + r / 16 % (20 * PAGE);

		len = n % 5 ? len : 1 + n / 5 % (20 * PAGE);
		switch (r % 16) {
		case 0 ... 3:
			do_vmsplice(_metadata, m, mem, len);
			break;
		case 4 ... 5:
			do_write(_metadata, m, mem, len);
			break;
		case 6 ... 8:
			do_read(_metadata, m, len);
			break;
		case 9:
			do_splice(_metadata, m, NULL, len);
			break;
		case 10 ... 11:
			do_splice(_metadata, m, to, len);
			break;
		case 12 ... 13:
			do_tee(_metadata, m, to, len);
			break;
		case 14:
			do_resize(_metadata, m, 1 << n % 7);
			break;
		case 15:
			if (n % 4)
				do_read(_metadata, m, MAX_SLOTS * PAGE);
			else
				do_fill(_metadata, m, mem);
		}
	}
}

/* The calls that wait for room in a pipe, and the calls that make room. */
enum waiter { POLLER, WRITER, SPLICER, TEER, VMSPLICER, NR_WAITERS };
enum taker { BY_READ, BY_SPLICE, BY_DISCARD, BY_VMSPLICE, BY_RESIZE, NR_TAKERS };

static ssize_t take(enum taker how, const struct model *m, int other,
		    ssize_t len)
{
	static char buf[PAGE];
	int null;
	ssize_t ret;

	switch (how) {
	case BY_READ:
		return xread(m->fd[0], buf, len);
	case BY_SPLICE:
		return xsplice(m->fd[0], NULL, other, NULL, len, 0);
	case BY_DISCARD:
		null = open("/dev/null", O_WRONLY);
		ret = xsplice(m->fd[0], NULL, null, NULL, len, 0);
		close(null);
		return ret;
	case BY_VMSPLICE:
		return xvmsplice1(m->fd[0], buf, len, 0);
	default:
		return -EINVAL;
	}
}

/*
 * Reading the last byte of the first page frees its slot and wakes a waiting
 * task.
 */
TEST_F_TIMEOUT(full, wakes, 60)
{
	struct iovec iov = { .iov_base = self->m, .iov_len = 10 };
	struct pollfd pfd = { .events = POLLOUT };
	int source[2], other[2], how, who;
	struct model *p = self->p;
	struct job job;

	model_close(p);
	for (who = 0; who < NR_WAITERS; who++) {
		for (how = 0; how < NR_TAKERS; how++) {
			make_pipe(_metadata, p->fd);
			make_pipe(_metadata, source);
			make_pipe(_metadata, other);
			ASSERT_EQ(10, xwrite(source[1], self->m, 10));
			ASSERT_EQ(SLOTS * PAGE,
				  xvmsplice1(p->fd[1], self->m, SLOTS * PAGE,
					     0));
			pfd.fd = p->fd[1];
			switch (who) {
			case POLLER:
				job = job_poll(&pfd);
				break;
			case WRITER:
				job = job_writer(p->fd[1], self->m, 10);
				break;
			case SPLICER:
				job = job_splice(source[0], p->fd[1], 10);
				break;
			case TEER:
				job = job_tee(source[0], p->fd[1], 10);
				break;
			case VMSPLICER:
				job = job_vmsplice(p->fd[1], &iov);
				break;
			}
			job_start(_metadata, &job);
			job_wait_blocked(&job);
			if (how == BY_RESIZE) {
				ASSERT_EQ(2 * SLOTS * PAGE,
					  fcntl(p->fd[0], F_SETPIPE_SZ,
						2 * SLOTS * PAGE));
			} else {
				ASSERT_EQ(PAGE - 1, take(how, p, other[1],
							 PAGE - 1));
				usleep(10000);
				ASSERT_TRUE(task_blocked(job.tid, job.nr));
				ASSERT_EQ(1, take(how, p, other[1], 1));
			}
			ASSERT_EQ(who == POLLER ? 1 : 10,
				  job_finish(_metadata, &job)) {
				TH_LOG("waiter %d, taker %d", who, how);
			}
			model_close(p);
			close(source[0]);
			close(source[1]);
			close(other[0]);
			close(other[1]);
		}
	}
}

/* Stress: decisions about fullness that are made without the lock. */

#define THREADS 3
#define STALL_NS 5000000000LL

struct sleeper {
	pthread_t thread;
	enum waiter how;
	int fd;
	int source[2];
	const char *mem;
	bool *stop;
	bool done;
	long long since;	/* start time of the call, or 0 */
	long long longest;
	long calls;
	long missed;		/* polls that wrongly reported no room */
	ssize_t bytes;
	ssize_t error;
};

static long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static ssize_t sleeper_call(struct sleeper *s)
{
	struct pollfd pfd = { .fd = s->fd, .events = POLLOUT };
	ssize_t ret;

	switch (s->how) {
	case POLLER:
		/* The first poll does not sleep, the second one may. */
		if (poll(&pfd, 1, 0) != 1)
			s->missed++;
		return poll(&pfd, 1, -1) == 1 ? 0 : -EIO;
	case WRITER:
		return xwrite(s->fd, s->mem, 3000);
	case SPLICER:
		ret = xwrite(s->source[1], s->mem, 3000);
		if (ret != 3000)
			return -EIO;
		return splice_full(s->source[0], s->fd, 3000);
	case VMSPLICER:
		return xvmsplice1(s->fd, s->mem + 100, 2 * PAGE, 0);
	default:
		return -EINVAL;
	}
}

static void *sleeper_run(void *data)
{
	struct sleeper *s = data;
	long long start, took;
	ssize_t ret = 0;

	while (ret >= 0 && !__atomic_load_n(s->stop, __ATOMIC_SEQ_CST)) {
		start = now_ns();
		__atomic_store_n(&s->since, start, __ATOMIC_SEQ_CST);
		ret = sleeper_call(s);
		__atomic_store_n(&s->since, 0, __ATOMIC_SEQ_CST);
		took = now_ns() - start;
		if (took > s->longest)
			s->longest = took;
		s->calls++;
		if (ret > 0)
			s->bytes += ret;
	}
	if (ret < 0)
		s->error = ret;
	__atomic_store_n(&s->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Fills the pipe with pages, then with a large buffer, and reads all of it. */
struct filler {
	pthread_t thread;
	int fd[2];		/* non-blocking */
	const char *mem;
	bool *stop;
	long rounds;
	ssize_t in;
	ssize_t out;
	ssize_t error;
};

static ssize_t filler_drain(struct filler *f, char *buf)
{
	ssize_t ret;

	while ((ret = xread(f->fd[0], buf, SLOTS * PAGE)) > 0)
		f->out += ret;
	return ret == -EAGAIN ? 0 : ret;
}

static ssize_t filler_round(struct filler *f, char *buf)
{
	ssize_t ret;

	ret = xwrite(f->fd[1], f->mem, 5 * PAGE);
	if (ret > 0)
		f->in += ret;
	else if (ret != -EAGAIN)
		return ret;
	ret = filler_drain(f, buf);
	if (ret)
		return ret;
	ret = xvmsplice1(f->fd[1], f->mem, 12 * PAGE, SPLICE_F_NONBLOCK);
	if (ret > 0)
		f->in += ret;
	else if (ret != -EAGAIN)
		return ret;
	return filler_drain(f, buf);
}

static void *filler_run(void *data)
{
	struct filler *f = data;
	char *buf = malloc(SLOTS * PAGE);

	f->error = buf ? 0 : -ENOMEM;
	while (!f->error && !__atomic_load_n(f->stop, __ATOMIC_SEQ_CST)) {
		f->error = filler_round(f, buf);
		f->rounds++;
	}
	if (!f->error)
		f->error = filler_drain(f, buf);
	free(buf);
	return NULL;
}

FIXTURE(full_stress) {
	struct memory mem;
	bool stop_sleepers;
	bool stop_filler;
	struct sleeper sleepers[THREADS];
	struct filler filler;
};

FIXTURE_VARIANT(full_stress) {
	enum waiter how[THREADS];
};

FIXTURE_VARIANT_ADD(full_stress, poll) {
	.how = { POLLER, POLLER, POLLER },
};

FIXTURE_VARIANT_ADD(full_stress, write) {
	.how = { WRITER, WRITER, WRITER },
};

FIXTURE_VARIANT_ADD(full_stress, splice) {
	.how = { SPLICER, SPLICER, SPLICER },
};

FIXTURE_VARIANT_ADD(full_stress, mixed) {
	.how = { WRITER, SPLICER, VMSPLICER },
};

FIXTURE_SETUP(full_stress)
{
	const char *missing = memory_missing(MEMORY_THP);

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(PAGE, page_size());
	memory_map(_metadata, &self->mem, MEMORY_THP);
}

FIXTURE_TEARDOWN(full_stress)
{
	memory_unmap(&self->mem);
}

/*
 * In the variants with pollers only, the pipe is never full, so no poller may
 * ever sleep. In the other variants the pipe is full at times, and every
 * sleeping task must be woken.
 */
TEST_F_TIMEOUT(full_stress, no_sleeper_is_forgotten, 1200)
{
	const char *env = getenv("SPLICE_STRESS_SECONDS");
	long long end, since, longest = 0;
	struct filler *f = &self->filler;
	ssize_t in = 0;
	long calls = 0;
	int p[2], i;
	bool done;

	make_pipe(_metadata, p);
	f->fd[0] = reopen(_metadata, p[0], O_RDONLY | O_NONBLOCK);
	f->fd[1] = reopen(_metadata, p[1], O_WRONLY | O_NONBLOCK);
	f->mem = self->mem.p;
	f->stop = &self->stop_filler;
	ASSERT_EQ(0, pthread_create(&f->thread, NULL, filler_run, f));
	for (i = 0; i < THREADS; i++) {
		struct sleeper *s = &self->sleepers[i];

		s->how = variant->how[i];
		s->fd = p[1];
		s->mem = self->mem.p;
		s->stop = &self->stop_sleepers;
		make_pipe(_metadata, s->source);
		ASSERT_EQ(0, pthread_create(&s->thread, NULL, sleeper_run, s));
	}

	end = now_ns() + (env ? atoll(env) : 10) * 1000000000LL;
	do {
		usleep(50000);
		if (now_ns() > end)
			__atomic_store_n(&self->stop_sleepers, true,
					 __ATOMIC_SEQ_CST);
		done = true;
		for (i = 0; i < THREADS; i++) {
			struct sleeper *s = &self->sleepers[i];

			since = __atomic_load_n(&s->since, __ATOMIC_SEQ_CST);
			ASSERT_FALSE(since && now_ns() - since > STALL_NS) {
				TH_LOG("thread %d sleeps", i);
			}
			done &= __atomic_load_n(&s->done, __ATOMIC_SEQ_CST);
		}
	} while (!done);

	for (i = 0; i < THREADS; i++) {
		struct sleeper *s = &self->sleepers[i];

		ASSERT_EQ(0, pthread_join(s->thread, NULL));
		EXPECT_EQ(0, s->error);
		EXPECT_EQ(0, s->missed);
		EXPECT_LT(0, s->calls);
		EXPECT_GT(STALL_NS, s->longest);
		in += s->bytes;
		calls += s->calls;
		if (s->longest > longest)
			longest = s->longest;
	}
	__atomic_store_n(&self->stop_filler, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(f->thread, NULL));
	EXPECT_EQ(0, f->error);
	EXPECT_LT(0, f->rounds);
	EXPECT_EQ(f->in + in, f->out);
	TH_LOG("%ld calls, %ld rounds, longest call %lld ms, %ld CPUs", calls,
	       f->rounds, longest / 1000000, sysconf(_SC_NPROCESSORS_ONLN));
}

TEST_HARNESS_MAIN
