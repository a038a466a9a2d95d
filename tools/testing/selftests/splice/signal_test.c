// SPDX-License-Identifier: GPL-2.0
/*
 * A splice, tee, vmsplice or sendfile that waits, at every place where these
 * wait: what it waits for, and what else ends the wait. The call is woken,
 * interrupted or restarted, stops, or its task dies; the pipe is enlarged, or
 * its other end is closed; or the call does not wait at all. Afterwards the
 * pipes contain the same data and can be used.
 */
#include "splice_common.h"

/* Two buffers, the second one partly filled; and less than one. */
#define SOME 5000
#define FEW 100

#define DATA 1
#define FILLER 2

enum call {
	CALL_SPLICE,
	CALL_TEE,
	CALL_VMSPLICE,
	CALL_SENDFILE,
};

/* Memory of the process is one end of vmsplice, beside those of end_kind. */
#define MEMORY (END_ZERO + 1)

/* A call that waits: for room if the target is full, and for data otherwise. */
FIXTURE(waiting) {
	struct job job;
	struct end in;
	struct end out;
	char *mem;		/* shared with children */
	struct iovec iov;
	ssize_t have;		/* bytes of data in the source */
	ssize_t filler;		/* bytes before them in the target */
	ssize_t expected;	/* result of the call when it no longer waits */
};

FIXTURE_VARIANT(waiting) {
	enum call call;
	int from;		/* an end_kind, or MEMORY */
	int to;
	bool full;
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_pipe) {
	CALL_SPLICE, END_PIPE, END_PIPE, false,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_fifo_to_pipe) {
	CALL_SPLICE, END_FIFO, END_PIPE, false,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_tcp_to_pipe) {
	CALL_SPLICE, END_TCP, END_PIPE, false,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_unix_to_pipe) {
	CALL_SPLICE, END_UNIX, END_PIPE, false,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_ext4) {
	CALL_SPLICE, END_PIPE, END_EXT4, false,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_tmpfs) {
	CALL_SPLICE, END_PIPE, END_TMPFS, false,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_fifo) {
	CALL_SPLICE, END_PIPE, END_FIFO, false,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_tcp) {
	CALL_SPLICE, END_PIPE, END_TCP, false,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_unix) {
	CALL_SPLICE, END_PIPE, END_UNIX, false,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_null) {
	CALL_SPLICE, END_PIPE, END_NULL, false,
};

FIXTURE_VARIANT_ADD(waiting, splice_ext4_to_full_pipe) {
	CALL_SPLICE, END_EXT4, END_PIPE, true,
};

FIXTURE_VARIANT_ADD(waiting, splice_tmpfs_to_full_pipe) {
	CALL_SPLICE, END_TMPFS, END_PIPE, true,
};

FIXTURE_VARIANT_ADD(waiting, splice_pipe_to_full_pipe) {
	CALL_SPLICE, END_PIPE, END_PIPE, true,
};

FIXTURE_VARIANT_ADD(waiting, splice_fifo_to_full_pipe) {
	CALL_SPLICE, END_FIFO, END_PIPE, true,
};

FIXTURE_VARIANT_ADD(waiting, splice_tcp_to_full_pipe) {
	CALL_SPLICE, END_TCP, END_PIPE, true,
};

FIXTURE_VARIANT_ADD(waiting, splice_unix_to_full_pipe) {
	CALL_SPLICE, END_UNIX, END_PIPE, true,
};

FIXTURE_VARIANT_ADD(waiting, splice_zero_to_full_pipe) {
	CALL_SPLICE, END_ZERO, END_PIPE, true,
};

FIXTURE_VARIANT_ADD(waiting, splice_pipe_to_full_fifo) {
	CALL_SPLICE, END_PIPE, END_FIFO, true,
};

FIXTURE_VARIANT_ADD(waiting, splice_pipe_to_full_tcp) {
	CALL_SPLICE, END_PIPE, END_TCP, true,
};

FIXTURE_VARIANT_ADD(waiting, splice_pipe_to_full_unix) {
	CALL_SPLICE, END_PIPE, END_UNIX, true,
};

FIXTURE_VARIANT_ADD(waiting, tee_empty_pipe) {
	CALL_TEE, END_PIPE, END_PIPE, false,
};

FIXTURE_VARIANT_ADD(waiting, tee_full_pipe) {
	CALL_TEE, END_PIPE, END_PIPE, true,
};

FIXTURE_VARIANT_ADD(waiting, vmsplice_to_full_pipe) {
	CALL_VMSPLICE, MEMORY, END_PIPE, true,
};

FIXTURE_VARIANT_ADD(waiting, vmsplice_from_empty_pipe) {
	CALL_VMSPLICE, END_PIPE, MEMORY, false,
};

FIXTURE_VARIANT_ADD(waiting, sendfile_to_full_pipe) {
	CALL_SENDFILE, END_TMPFS, END_PIPE, true,
};

FIXTURE_VARIANT_ADD(waiting, sendfile_to_full_fifo) {
	CALL_SENDFILE, END_TMPFS, END_FIFO, true,
};

FIXTURE_VARIANT_ADD(waiting, sendfile_to_full_tcp) {
	CALL_SENDFILE, END_TMPFS, END_TCP, true,
};

FIXTURE_VARIANT_ADD(waiting, sendfile_to_full_unix) {
	CALL_SENDFILE, END_TMPFS, END_UNIX, true,
};

/* Puts @len bytes of data into the source. */
static void supply(struct __test_metadata *_metadata,
		   struct _test_data_waiting *self,
		   const struct _fixture_variant_waiting *variant, ssize_t len)
{
	if (variant->from == MEMORY)
		fill_pattern(self->mem, len, DATA, 0);
	else if (variant->from != END_ZERO)
		ASSERT_EQ(len, write_pattern(self->in.peer, len, DATA, 0));
}

/* Fills the target. */
static ssize_t fill(struct __test_metadata *_metadata, int kind,
		    struct end *end)
{
	int size = 16384;

	if (!end_is_socket(kind))
		return fill_pipe(_metadata, end->fd, FILLER);
	ASSERT_EQ(0, setsockopt(end->fd, SOL_SOCKET, SO_SNDBUF, &size,
				sizeof(size)));
	ASSERT_EQ(0, setsockopt(end->peer, SOL_SOCKET, SO_RCVBUF, &size,
				sizeof(size)));
	return fill_socket(_metadata, end->fd, FILLER);
}

FIXTURE_SETUP(waiting)
{
	const int kinds[] = { variant->from, variant->to };
	struct end *ends[] = { &self->in, &self->out };
	bool few = !variant->full || end_is_socket(variant->from);
	int i;

	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		*ends[i] = (struct end) { -1, -1 };
		if (kinds[i] == MEMORY)
			continue;
		if (end_missing(kinds[i]))
			SKIP(return, "%s is not set", end_missing(kinds[i]));
		end_open(_metadata, kinds[i], !i, ends[i]);
	}
	self->mem = mmap(NULL, 2 * page_size(), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	self->iov = (struct iovec) { self->mem, SOME };

	self->expected = few ? FEW :
			 end_is_pipe(variant->to) ? page_size() : SOME;
	if (variant->full) {
		self->have = few ? FEW : SOME;
		supply(_metadata, self, variant, self->have);
		self->filler = fill(_metadata, variant->to, &self->out);
	}

	switch (variant->call) {
	case CALL_SPLICE:
		self->job = job_splice(self->in.fd, self->out.fd, SOME);
		break;
	case CALL_TEE:
		self->job = job_tee(self->in.fd, self->out.fd, SOME);
		break;
	case CALL_VMSPLICE:
		self->job = job_vmsplice(variant->from == MEMORY ?
					 self->out.fd : self->in.fd, &self->iov);
		break;
	case CALL_SENDFILE:
		self->job = job_sendfile(self->out.fd, self->in.fd, SOME);
		break;
	}
}

FIXTURE_TEARDOWN(waiting)
{
}

/* The source has all of its data. */
static void check_source(struct __test_metadata *_metadata,
			 struct _test_data_waiting *self,
			 const struct _fixture_variant_waiting *variant)
{
	if (end_is_stream(variant->from))
		EXPECT_EQ(self->have, pipe_bytes(self->in.fd));
	if (end_is_file(variant->from))
		EXPECT_EQ(0, lseek(self->in.fd, 0, SEEK_CUR));
}

/* Nothing has moved. */
static void check_unmoved(struct __test_metadata *_metadata,
			  struct _test_data_waiting *self,
			  const struct _fixture_variant_waiting *variant)
{
	check_source(_metadata, self, variant);
	if (end_is_pipe(variant->to))
		EXPECT_EQ(self->filler, pipe_bytes(self->out.fd));
	if (end_is_file(variant->to))
		EXPECT_EQ(0, lseek(self->out.fd, 0, SEEK_CUR));
}

/* Ends the wait of the call: supplies data, or makes room. */
static void let_go_on(struct __test_metadata *_metadata,
		      struct _test_data_waiting *self,
		      const struct _fixture_variant_waiting *variant)
{
	ssize_t len = end_is_pipe(variant->to) ? page_size() : self->filler;

	if (!variant->full)
		supply(_metadata, self, variant, FEW);
	if (variant->full)
		ASSERT_EQ(len, read_pattern(self->out.peer, len, FILLER, 0));
}

/* The next @len bytes of @fd are the data of the source. */
static void check_data(struct __test_metadata *_metadata,
		       const struct _fixture_variant_waiting *variant, int fd,
		       ssize_t len)
{
	char buf[SOME];

	if (variant->from != END_ZERO) {
		EXPECT_EQ(len, read_pattern(fd, len, DATA, 0));
		return;
	}
	EXPECT_EQ(len, read_full(fd, buf, len));
	EXPECT_EQ(len, match_byte(buf, len, 0));
}

/* The expected data has arrived, after the filler. */
static void check_moved(struct __test_metadata *_metadata,
			struct _test_data_waiting *self,
			const struct _fixture_variant_waiting *variant)
{
	ssize_t page = page_size(), len = self->expected, rest;

	if (variant->to == MEMORY) {
		EXPECT_EQ(len, match_pattern(self->mem, len, DATA, 0));
		/* And no more than the result says. */
		EXPECT_EQ(SOME - len,
			  match_byte(self->mem + len, SOME - len, 0));
	} else if (variant->to != END_NULL) {
		if (end_is_pipe(variant->to) && self->filler > page)
			EXPECT_EQ(self->filler - page,
				  read_pattern(self->out.peer,
					       self->filler - page, FILLER,
					       page));
		check_data(_metadata, variant, self->out.peer, len);
	}
	if (end_is_pipe(variant->to))
		EXPECT_EQ(0, pipe_bytes(self->out.peer));
	if (end_is_file(variant->from))
		EXPECT_EQ(len, lseek(self->in.fd, 0, SEEK_CUR));
	if (end_is_pipe(variant->from)) {
		rest = variant->full ? self->have : FEW;
		if (variant->call != CALL_TEE)
			rest -= len;
		EXPECT_EQ(rest, pipe_bytes(self->in.fd));
		if (rest)
			EXPECT_EQ(rest, read_pattern(self->in.fd, rest, DATA,
						     variant->call == CALL_TEE ?
						     0 : len));
	}
}

/* A new call waits, is woken, and returns the expected result. */
static void check_works(struct __test_metadata *_metadata,
			struct _test_data_waiting *self,
			const struct _fixture_variant_waiting *variant)
{
	job_start(_metadata, &self->job);
	job_wait_blocked(&self->job);
	let_go_on(_metadata, self, variant);
	EXPECT_EQ(self->expected, job_finish(_metadata, &self->job));
	check_moved(_metadata, self, variant);
}

/* As soon as there is data, or one free buffer. */
TEST_F(waiting, woken)
{
	check_works(_metadata, self, variant);
}

/*
 * Whether the call fails with EAGAIN instead of waiting: with SPLICE_F_NONBLOCK,
 * and with O_NONBLOCK of the source or of the target.
 */
struct nonblock {
	bool flag;
	bool in;
	bool out;
};

static struct nonblock
expected_nonblock(const struct _fixture_variant_waiting *variant)
{
	bool pipes = end_is_pipe(variant->from) && end_is_pipe(variant->to);

	/* It ignores O_NONBLOCK. */
	if (variant->call == CALL_VMSPLICE)
		return (struct nonblock) { .flag = true };
	/* It has no flags. */
	if (variant->call == CALL_SENDFILE)
		return (struct nonblock) { .out = true };
	/* SPLICE_F_NONBLOCK is for the pipe: it must be drained. */
	if (variant->full && end_is_socket(variant->to))
		return (struct nonblock) { .out = true };
	/* TCP ignores SPLICE_F_NONBLOCK. */
	if (!variant->full && variant->from == END_TCP)
		return (struct nonblock) { .in = true };
	return (struct nonblock) {
		.flag = true,
		.in = pipes || !variant->full,
		.out = end_is_pipe(variant->to),
	};
}

/* The call fails with EAGAIN, or waits. */
static void check_nonblock(struct __test_metadata *_metadata,
			   const struct job *job, bool nonblock)
{
	if (!nonblock)
		kill_waiting(_metadata, job_fork_waiting(_metadata, job));
	if (nonblock)
		EXPECT_EQ(-EAGAIN, job_call(job));
}

/* Neither end loses data if the call does not wait. */
TEST_F(waiting, nonblock)
{
	struct nonblock expected = expected_nonblock(variant);
	struct job job = self->job;

	if (variant->call != CALL_SENDFILE) {
		/* The flags are the last argument. */
		job.arg[variant->call == CALL_SPLICE ? 5 : 3] =
			SPLICE_F_NONBLOCK;
		check_nonblock(_metadata, &job, expected.flag);
	}
	if (self->in.fd >= 0) {
		set_nonblock(_metadata, self->in.fd, true);
		check_nonblock(_metadata, &self->job, expected.in);
		set_nonblock(_metadata, self->in.fd, false);
	}
	if (self->out.fd >= 0) {
		set_nonblock(_metadata, self->out.fd, true);
		check_nonblock(_metadata, &self->job, expected.out);
		set_nonblock(_metadata, self->out.fd, false);
	}
	check_unmoved(_metadata, self, variant);
	check_works(_metadata, self, variant);
}

/* Whether the call waits for a socket: stock C holds the lock of the pipe then. */
static bool for_socket(const struct _fixture_variant_waiting *variant)
{
	return variant->call == CALL_SPLICE &&
	       end_is_socket(variant->full ? variant->to : variant->from);
}

/* A larger pipe makes room, and does not disturb a wait for anything else. */
TEST_F(waiting, enlarged)
{
	bool target = end_is_pipe(variant->to) && variant->full;
	int pipe = end_is_pipe(variant->to) ? self->out.fd : self->in.fd;
	ssize_t capacity, len;

	if (!end_is_pipe(variant->to) && !end_is_pipe(variant->from))
		SKIP(return, "no end is a pipe");
	if (for_socket(variant) && !have_counters())
		XFAIL(return, "stock C: the call waits with the pipe locked");
	capacity = pipe_capacity(pipe);
	job_start(_metadata, &self->job);
	job_wait_blocked(&self->job);
	ASSERT_EQ(2 * capacity, fcntl(pipe, F_SETPIPE_SZ, 2 * capacity));
	if (!target) {
		job_wait_blocked(&self->job);
		let_go_on(_metadata, self, variant);
		EXPECT_EQ(self->expected, job_finish(_metadata, &self->job));
		check_moved(_metadata, self, variant);
		return;
	}
	len = job_finish(_metadata, &self->job);
	EXPECT_EQ(self->have, len);
	EXPECT_EQ(capacity,
		  read_pattern(self->out.peer, capacity, FILLER, 0));
	check_data(_metadata, variant, self->out.peer, self->have);
	EXPECT_EQ(0, pipe_bytes(self->out.peer));
}

/* The last writer of the source, or the last reader of the target, leaves. */
TEST_F(waiting, other_end_closed)
{
	bool pipe = end_is_pipe(variant->to);

	catch_signal(_metadata, SIGPIPE, 0);
	job_start(_metadata, &self->job);
	job_wait_blocked(&self->job);
	ASSERT_EQ(0, close(variant->full ? self->out.peer : self->in.peer));
	if (!variant->full) {
		EXPECT_EQ(0, job_finish(_metadata, &self->job));
		EXPECT_EQ(0, signal_count(SIGPIPE));
		check_unmoved(_metadata, self, variant);
		return;
	}
	/* The peer of a socket has not read all of the data. */
	EXPECT_EQ(pipe ? -EPIPE : -ECONNRESET,
		  job_finish(_metadata, &self->job));
	EXPECT_EQ(pipe, signal_count(SIGPIPE));
	check_source(_metadata, self, variant);
}

TEST_F(waiting, interrupted)
{
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &self->job));
	check_unmoved(_metadata, self, variant);
	check_works(_metadata, self, variant);
}

TEST_F(waiting, restarted)
{
	int i;

	catch_signal(_metadata, SIGUSR1, SA_RESTART);
	job_start(_metadata, &self->job);
	for (i = 0; i < 3; i++) {
		job_wait_blocked(&self->job);
		job_signal(_metadata, &self->job, SIGUSR1);
	}
	job_wait_blocked(&self->job);
	let_go_on(_metadata, self, variant);
	EXPECT_EQ(self->expected, job_finish(_metadata, &self->job));
	check_moved(_metadata, self, variant);
}

/* A signal that is ignored or blocked does not end the wait. */
TEST_F(waiting, not_interrupted)
{
	sigset_t set;

	catch_signal(_metadata, SIGUSR1, 0);
	signal(SIGUSR2, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ASSERT_EQ(0, pthread_sigmask(SIG_BLOCK, &set, NULL));
	job_start(_metadata, &self->job);
	job_wait_blocked(&self->job);
	ASSERT_EQ(0, pthread_kill(self->job.thread, SIGUSR1));
	ASSERT_EQ(0, pthread_kill(self->job.thread, SIGUSR2));
	ASSERT_EQ(0, pthread_kill(self->job.thread, SIGURG));
	job_wait_blocked(&self->job);
	let_go_on(_metadata, self, variant);
	EXPECT_EQ(self->expected, job_finish(_metadata, &self->job));
	EXPECT_EQ(0, signal_count(SIGUSR1));
	check_moved(_metadata, self, variant);
}

/*
 * After SIGSTOP and SIGCONT the call waits again, and user space sees no
 * effect.
 */
TEST_F(waiting, stopped)
{
	pid_t pid = job_fork_waiting(_metadata, &self->job);
	int status;

	ASSERT_EQ(0, kill(pid, SIGSTOP));
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	EXPECT_TRUE(WIFSTOPPED(status));
	check_unmoved(_metadata, self, variant);
	ASSERT_EQ(0, kill(pid, SIGCONT));
	while (!task_blocked(pid, self->job.nr))
		usleep(1000);
	let_go_on(_metadata, self, variant);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	check_moved(_metadata, self, variant);
}

/* The call's wait ends while the task is stopped. */
TEST_F(waiting, stopped_meanwhile)
{
	pid_t pid = job_fork_waiting(_metadata, &self->job);
	int status;

	ASSERT_EQ(0, kill(pid, SIGSTOP));
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	let_go_on(_metadata, self, variant);
	ASSERT_EQ(0, kill(pid, SIGCONT));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	check_moved(_metadata, self, variant);
}

/* A killed task leaves the data unchanged, and no lock behind. */
TEST_F(waiting, killed)
{
	kill_waiting(_metadata, job_fork_waiting(_metadata, &self->job));
	check_unmoved(_metadata, self, variant);
	check_works(_metadata, self, variant);
}

/* If several tasks wait, the others are still woken. */
TEST_F(waiting, others_killed)
{
	/* Waiting for a socket, the first task holds the lock of the pipe. */
	bool locked = variant->call == CALL_SPLICE &&
		      (end_is_socket(variant->from) ||
		       (end_is_socket(variant->to) && variant->full));
	pid_t before, after;

	before = job_fork_waiting(_metadata, &self->job);
	job_start(_metadata, &self->job);
	if (!locked)
		job_wait_blocked(&self->job);
	after = job_fork(_metadata, &self->job);
	while (!locked && !task_blocked(after, self->job.nr))
		usleep(1000);
	ASSERT_EQ(0, kill(after, SIGKILL));
	kill_waiting(_metadata, before);
	/*
	 * A task that a signal has woken would still take data that has
	 * arrived.
	 */
	if (!locked)
		expect_killed(_metadata, after);
	job_wait_blocked(&self->job);
	let_go_on(_metadata, self, variant);
	EXPECT_EQ(self->expected, job_finish(_metadata, &self->job));
	if (locked)
		expect_killed(_metadata, after);
	check_moved(_metadata, self, variant);
}

/*
 * If a call is interrupted after it has moved data, it returns the number of
 * bytes: the rest stays where it was, and SA_RESTART does not repeat the call.
 */
FIXTURE(progress) {
	int p[2];
	struct end end;
	ssize_t size;
};

FIXTURE_VARIANT(progress) {
	enum end_kind to;
	int flags;
};

FIXTURE_VARIANT_ADD(progress, unix_interrupted) {
	.to = END_UNIX,
};

FIXTURE_VARIANT_ADD(progress, unix_restarted) {
	.to = END_UNIX,
	.flags = SA_RESTART,
};

FIXTURE_VARIANT_ADD(progress, tcp_interrupted) {
	.to = END_TCP,
};

FIXTURE_VARIANT_ADD(progress, tcp_restarted) {
	.to = END_TCP,
	.flags = SA_RESTART,
};

FIXTURE_SETUP(progress)
{
	int size = 16384;

	end_open(_metadata, variant->to, false, &self->end);
	ASSERT_EQ(0, setsockopt(self->end.fd, SOL_SOCKET, SO_SNDBUF, &size,
				sizeof(size)));
	ASSERT_EQ(0, setsockopt(self->end.peer, SOL_SOCKET, SO_RCVBUF, &size,
				sizeof(size)));
	make_pipe(_metadata, self->p);
	self->size = fcntl(self->p[1], F_SETPIPE_SZ, 1 << 20);
	ASSERT_EQ(1 << 20, self->size);
	ASSERT_EQ(self->size, write_pattern(self->p[1], self->size, DATA, 0));
}

FIXTURE_TEARDOWN(progress)
{
}

TEST_F_TIMEOUT(progress, short_count, 60)
{
	struct job job = job_splice(self->p[0], self->end.fd, self->size);
	struct job reader;
	ssize_t sent;
	char *got = malloc(self->size);

	ASSERT_NE(NULL, got);
	catch_signal(_metadata, SIGUSR1, variant->flags);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	job_signal(_metadata, &job, SIGUSR1);
	sent = job_finish(_metadata, &job);
	ASSERT_LT(0, sent);
	ASSERT_GT(self->size, sent);
	EXPECT_EQ(self->size - sent, pipe_bytes(self->p[0]));

	reader = job_reader(self->end.peer, got, self->size);
	job_start(_metadata, &reader);
	EXPECT_EQ(self->size - sent,
		  splice_full(self->p[0], self->end.fd, self->size - sent));
	EXPECT_EQ(self->size, job_finish(_metadata, &reader));
	EXPECT_EQ(self->size, match_pattern(got, self->size, DATA, 0));
	free(got);
}

/*
 * A task is killed during a call: others can read the data that it has not
 * sent.
 */
TEST_F_TIMEOUT(progress, killed, 60)
{
	struct job job = job_splice(self->p[0], self->end.fd, self->size);
	char *got = malloc(self->size);
	struct job reader;
	ssize_t rest;

	ASSERT_NE(NULL, got);
	kill_waiting(_metadata, job_fork_waiting(_metadata, &job));
	rest = pipe_bytes(self->p[0]);
	ASSERT_LT(0, rest);
	ASSERT_GT(self->size, rest);
	reader = job_reader(self->end.peer, got, self->size);
	job_start(_metadata, &reader);
	EXPECT_EQ(rest, splice_full(self->p[0], self->end.fd, rest));
	EXPECT_EQ(self->size, job_finish(_metadata, &reader));
	EXPECT_EQ(self->size, match_pattern(got, self->size, DATA, 0));
	free(got);
}

TEST_HARNESS_MAIN
