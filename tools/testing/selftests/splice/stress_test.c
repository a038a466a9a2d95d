// SPDX-License-Identifier: GPL-2.0
/*
 * Many threads on both ends of a pipe use all calls at the same time, while its
 * size changes: no data is lost, doubled or out of order, and no thread hangs.
 */
#include "splice_common.h"

#define DATA 1

/* The length of each test's transfer, and of one read or write. */
#define TOTAL 1048576
#define CHUNK 3000

#define THREADS 4

/* Sums of all bytes, which do not depend on their order. */
static unsigned long sum_of(const char *buf, ssize_t len)
{
	unsigned long sum = 0;

	while (len--)
		sum += (unsigned char)*buf++;
	return sum;
}

/* A thread that writes, moves or reads data. */
struct worker {
	pthread_t thread;
	int in;
	int out;
	enum { READ, WRITE, SPLICE, VMSPLICE_IN, VMSPLICE_OUT } how;
	const char *data;
	ssize_t len;		/* length to write, and then the length transferred */
	unsigned long sum;
	ssize_t error;
};

static ssize_t work_once(struct worker *w, char *buf, ssize_t done)
{
	ssize_t len = w->data ? w->len - done : CHUNK;

	if (len > CHUNK)
		len = CHUNK;
	switch (w->how) {
	case READ:
		return xread(w->in, buf, CHUNK);
	case VMSPLICE_OUT:
		return xvmsplice1(w->in, buf, CHUNK, 0);
	case SPLICE:
		return xsplice(w->in, NULL, w->out, NULL, CHUNK, 0);
	case WRITE:
		return len ? xwrite(w->out, w->data + done, len) : 0;
	case VMSPLICE_IN:
		return len ? xvmsplice1(w->out, w->data + done, len, 0) : 0;
	}
	return -EINVAL;
}

/* Runs until all data is written or the end of file is read. */
static void *work(void *data)
{
	struct worker *w = data;
	ssize_t done = 0, ret;
	char buf[CHUNK];

	while ((ret = work_once(w, buf, done)) > 0) {
		if (w->how == READ || w->how == VMSPLICE_OUT)
			w->sum += sum_of(buf, ret);
		done += ret;
	}
	if (w->data && w->len != done)
		w->error = ret ? ret : -EIO;
	else
		w->error = ret;
	w->len = done;
	return NULL;
}

static void start(struct __test_metadata *_metadata, struct worker *w)
{
	ASSERT_EQ(0, pthread_create(&w->thread, NULL, work, w));
}

static void finish(struct __test_metadata *_metadata, struct worker *w)
{
	ASSERT_EQ(0, pthread_join(w->thread, NULL));
	EXPECT_EQ(0, w->error);
}

/* Changes the size of a pipe until @stop is set. */
struct resizer {
	pthread_t thread;
	int fd;
	bool end;
	int nr;
};

static void *resize(void *data)
{
	static const int pages[] = { 1, 64, 2, 16, 4, 256 };
	struct resizer *r = data;
	int i;

	/* Use every size at least once, even if the thread starts late. */
	for (i = 0; i < (int)ARRAY_LEN(pages) ||
	     !__atomic_load_n(&r->end, __ATOMIC_SEQ_CST); i++) {
		if (fcntl(r->fd, F_SETPIPE_SZ,
			  pages[i % ARRAY_LEN(pages)] * page_size()) > 0)
			r->nr++;
		sched_yield();
	}
	return NULL;
}

FIXTURE(stress) {
	int p[2];
	int q[2];
	char *data;
	struct resizer resizer[2];
};

FIXTURE_VARIANT(stress) {
	bool resize;
};

FIXTURE_VARIANT_ADD(stress, fixed) {
	.resize = false,
};

FIXTURE_VARIANT_ADD(stress, resized) {
	.resize = true,
};

FIXTURE_SETUP(stress)
{
	int i;

	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	self->data = alloc_pattern(_metadata, TOTAL, DATA);
	self->resizer[0].fd = self->p[0];
	self->resizer[1].fd = self->q[0];
	for (i = 0; variant->resize && i < 2; i++)
		ASSERT_EQ(0, pthread_create(&self->resizer[i].thread, NULL,
					    resize, &self->resizer[i]));
}

FIXTURE_TEARDOWN(stress)
{
	int i;

	for (i = 0; variant->resize && i < 2; i++) {
		__atomic_store_n(&self->resizer[i].end, true, __ATOMIC_SEQ_CST);
		EXPECT_EQ(0, pthread_join(self->resizer[i].thread, NULL));
		EXPECT_LT(0, self->resizer[i].nr);
	}
}

/* A single stream stays in order. */
TEST_F_TIMEOUT(stress, in_order, 120)
{
	struct worker writer = { .how = WRITE, .out = self->p[1],
				 .data = self->data, .len = TOTAL };
	struct worker mover = { .how = SPLICE, .in = self->p[0],
				.out = self->q[1] };

	start(_metadata, &writer);
	start(_metadata, &mover);
	EXPECT_EQ(TOTAL, read_pattern(self->q[0], TOTAL, DATA, 0));
	finish(_metadata, &writer);
	close(self->p[1]);
	finish(_metadata, &mover);
	EXPECT_EQ(TOTAL, mover.len);
}

/*
 * Four threads write, four move the data on, and four read, by two calls each.
 */
TEST_F_TIMEOUT(stress, many_threads, 120)
{
	struct worker writers[THREADS], movers[THREADS], readers[THREADS];
	ssize_t part = TOTAL / THREADS, moved = 0, got = 0;
	unsigned long sum = 0;
	int i;

	for (i = 0; i < THREADS; i++) {
		writers[i] = (struct worker) {
			.how = i % 2 ? WRITE : VMSPLICE_IN,
			.out = self->p[1],
			.data = self->data + i * part,
			.len = part,
		};
		movers[i] = (struct worker) {
			.how = SPLICE, .in = self->p[0], .out = self->q[1],
		};
		readers[i] = (struct worker) {
			.how = i % 2 ? READ : VMSPLICE_OUT, .in = self->q[0],
		};
		start(_metadata, &readers[i]);
		start(_metadata, &movers[i]);
		start(_metadata, &writers[i]);
	}
	for (i = 0; i < THREADS; i++)
		finish(_metadata, &writers[i]);
	close(self->p[1]);
	for (i = 0; i < THREADS; i++) {
		finish(_metadata, &movers[i]);
		moved += movers[i].len;
	}
	close(self->q[1]);
	for (i = 0; i < THREADS; i++) {
		finish(_metadata, &readers[i]);
		got += readers[i].len;
		sum += readers[i].sum;
	}
	EXPECT_EQ(TOTAL, moved);
	EXPECT_EQ(TOTAL, got);
	EXPECT_EQ(sum_of(self->data, TOTAL), sum);
}

/* The same through sockets at both ends. */
TEST_F_TIMEOUT(stress, sockets, 120)
{
	struct worker writer = { .how = WRITE, .data = self->data,
				 .len = TOTAL };
	struct worker in[2], out[2], reader = { .how = READ };
	int from[2], to[2], i;

	make_unix_pair(_metadata, from);
	make_tcp_pair(_metadata, to);
	writer.out = from[0];
	reader.in = to[1];
	start(_metadata, &writer);
	start(_metadata, &reader);
	for (i = 0; i < 2; i++) {
		in[i] = (struct worker) {
			.how = SPLICE, .in = from[1], .out = self->p[1],
		};
		out[i] = (struct worker) {
			.how = SPLICE, .in = self->p[0], .out = to[0],
		};
		start(_metadata, &in[i]);
		start(_metadata, &out[i]);
	}
	finish(_metadata, &writer);
	shutdown(from[0], SHUT_WR);
	for (i = 0; i < 2; i++)
		finish(_metadata, &in[i]);
	close(self->p[1]);
	for (i = 0; i < 2; i++)
		finish(_metadata, &out[i]);
	shutdown(to[0], SHUT_WR);
	finish(_metadata, &reader);
	EXPECT_EQ(TOTAL, in[0].len + in[1].len);
	EXPECT_EQ(TOTAL, out[0].len + out[1].len);
	EXPECT_EQ(TOTAL, reader.len);
	EXPECT_EQ(sum_of(self->data, TOTAL), reader.sum);
}

/* Every pair of pipes, in both directions, by both calls, at the same time. */
TEST_F_TIMEOUT(stress, tee_and_splice, 120)
{
	struct job jobs[8];
	int i;

	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	ASSERT_EQ(100, write_pattern(self->q[1], 100, DATA, 0));
	for (i = 0; i < ARRAY_LEN(jobs); i++) {
		int in = i % 2 ? self->p[0] : self->q[0];
		int out = i % 2 ? self->q[1] : self->p[1];

		if (i / 2 % 2) {
			jobs[i] = job_tee(in, out, 30);
			jobs[i].arg[3] = SPLICE_F_NONBLOCK;
		} else {
			jobs[i] = job_splice(in, out, 70);
			jobs[i].arg[5] = SPLICE_F_NONBLOCK;
		}
		jobs[i].rounds = 1000;
		job_start(_metadata, &jobs[i]);
	}
	for (i = 0; i < ARRAY_LEN(jobs); i++)
		EXPECT_LE(0, job_finish(_metadata, &jobs[i]));
	EXPECT_LE(200, pipe_bytes(self->p[0]) + pipe_bytes(self->q[0]));
}

/* All threads splice one file into one pipe, each from its own offset. */
TEST_F_TIMEOUT(stress, file, 120)
{
	struct worker reader = { .how = READ, .in = self->p[0] };
	const char *missing = end_missing(END_TMPFS);
	struct job jobs[THREADS];
	ssize_t sent = 0;
	loff_t off[THREADS];
	int file, i;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	ASSERT_EQ(TOTAL, write_full(file, self->data, TOTAL));
	start(_metadata, &reader);
	for (i = 0; i < THREADS; i++) {
		off[i] = TOTAL / THREADS * i;
		jobs[i] = job_splice(file, self->p[1], CHUNK);
		jobs[i].arg[1] = (long)&off[i];
		jobs[i].rounds = 50;
		job_start(_metadata, &jobs[i]);
	}
	for (i = 0; i < THREADS; i++) {
		ssize_t len = job_finish(_metadata, &jobs[i]);

		ASSERT_LT(0, len);
		EXPECT_EQ(TOTAL / THREADS * i + len, off[i]);
		sent += len;
	}
	close(self->p[1]);
	finish(_metadata, &reader);
	EXPECT_EQ(sent, reader.len);
}

/*
 * Splices from a pipe into a file and back into the same pipe, while other
 * threads write to both and truncate the file: no deadlock (lock order of
 * CVE-2009-1961).
 */
TEST_F_TIMEOUT(stress, file_in_circle, 120)
{
	static const enum end_kind kinds[] = { END_EXT4, END_TMPFS };
	struct job jobs[8];
	loff_t off[8] = {};
	char buf[3000] = {};
	int file, i, j;

	for (j = 0; j < ARRAY_LEN(kinds); j++) {
		const char *missing = end_missing(kinds[j]);

		if (missing)
			SKIP(return, "%s is not set", missing);
		file = make_file(_metadata, end_dir(_metadata, kinds[j]));
		ASSERT_EQ(TOTAL, write_full(file, self->data, TOTAL));
		for (i = 0; i < ARRAY_LEN(jobs); i++) {
			switch (i % 4) {
			case 0:
				jobs[i] = job_splice(self->p[0], file, 5000);
				jobs[i].arg[3] = (long)&off[i];
				jobs[i].arg[5] = SPLICE_F_NONBLOCK;
				break;
			case 1:
				jobs[i] = job_splice(file, self->p[1], 5000);
				jobs[i].arg[1] = (long)&off[i];
				jobs[i].arg[5] = SPLICE_F_NONBLOCK;
				break;
			case 2:
				jobs[i] = (struct job) {
					.nr = i / 4 ? SYS_pwrite64 :
						      SYS_ftruncate,
					.arg = { file, i / 4 ? (long)buf : 9000,
						 sizeof(buf), 10000 },
				};
				break;
			case 3:
				jobs[i] = job_sendfile(file, file, 3000);
				jobs[i].arg[2] = (long)&off[i];
			}
			jobs[i].rounds = 300;
			job_start(_metadata, &jobs[i]);
		}
		for (i = 0; i < ARRAY_LEN(jobs); i++)
			EXPECT_LE(0, job_finish(_metadata, &jobs[i]));
		close(file);
	}
}

/* The calls of a process that is killed at any moment. */
static void do_everything(struct _test_data_stress *self, int file)
{
	unsigned int nb = SPLICE_F_NONBLOCK;
	loff_t off, end;

	for (;;) {
		off = 0;
		end = TOTAL;
		xvmsplice1(self->p[1], self->data, CHUNK, nb);
		xtee(self->p[0], self->q[1], CHUNK, nb);
		xsplice(self->q[0], NULL, self->p[1], NULL, CHUNK / 3, nb);
		xsplice(self->p[0], NULL, self->q[1], NULL, CHUNK / 2, nb);
		xsplice(file, &off, self->p[1], NULL, CHUNK, nb);
		xsplice(self->q[0], NULL, file, &end, CHUNK, nb);
		end = TOTAL;
		xsendfile(file, file, &end, CHUNK);
		end = TOTAL;
		xsplice(self->p[0], NULL, file, &end, CHUNK, nb);
	}
}

/* Processes that are killed at any moment leave pipes and file usable. */
TEST_F_TIMEOUT(stress, killed_anywhere, 120)
{
	const char *missing = end_missing(END_TMPFS);
	int file, i, j, status;
	pid_t pids[THREADS];
	ssize_t before;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	ASSERT_EQ(TOTAL, write_full(file, self->data, TOTAL));
	for (i = 0; i < 20; i++) {
		for (j = 0; j < THREADS; j++) {
			pids[j] = fork();
			ASSERT_LE(0, pids[j]);
			if (!pids[j])
				do_everything(self, file);
		}
		usleep(10000 + i * 997);
		for (j = 0; j < THREADS; j++) {
			ASSERT_EQ(0, kill(pids[j], SIGKILL));
			ASSERT_EQ(pids[j], waitpid(pids[j], &status, 0));
			ASSERT_EQ(SIGKILL, status);
		}
		/*
		 * The data that is left can be read, and new data passes
		 * through.
		 */
		set_nonblock(_metadata, self->p[0], true);
		set_nonblock(_metadata, self->q[0], true);
		for (j = 0; j < 2; j++) {
			int fd = j ? self->q[0] : self->p[0];
			char buf[CHUNK];

			before = pipe_bytes(fd);
			while (before > 0) {
				ssize_t ret = xread(fd, buf, CHUNK);

				ASSERT_LT(0, ret);
				before -= ret;
			}
			ASSERT_EQ(0, before);
			ASSERT_EQ(-EAGAIN, xread(fd, buf, CHUNK));
		}
		ASSERT_EQ(100, write_full(self->p[1], self->data, 100));
		ASSERT_EQ(100, xsplice(self->p[0], NULL, self->q[1], NULL, 100,
				       0));
		ASSERT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
	}
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(TOTAL, read_pattern(file, TOTAL, DATA, 0));
}

TEST_HARNESS_MAIN
