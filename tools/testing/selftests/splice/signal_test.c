// SPDX-License-Identifier: GPL-2.0
/*
 * Signals for a task that waits in splice, tee, vmsplice or sendfile, at every
 * place where these wait: the call is interrupted, continues, stops, or the
 * task dies. Afterwards the pipes contain the same data and can be used.
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

enum place {
	PIPE,
	TMPFS,
	TCP,
	UNIX,
	DEV_NULL,
	MEMORY,
};

/* A call that waits: for room if the target is full, and for data otherwise. */
FIXTURE(waiting) {
	struct job job;
	int p[2];		/* the source, if a pipe */
	int q[2];		/* the target, if a pipe */
	int in[2];		/* the same for sockets */
	int out[2];
	int file;
	int null;
	char *mem;		/* shared with children */
	struct iovec iov;
	ssize_t have;		/* bytes of data in the source */
	ssize_t filler;		/* bytes before them in the target */
	ssize_t expected;	/* result of the call when it no longer waits */
};

FIXTURE_VARIANT(waiting) {
	enum call call;
	enum place from;
	enum place to;
	bool full;
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_pipe) {
	.call = CALL_SPLICE,
	.from = PIPE,
	.to = PIPE,
};

FIXTURE_VARIANT_ADD(waiting, splice_pipe_to_full_pipe) {
	.call = CALL_SPLICE,
	.from = PIPE,
	.to = PIPE,
	.full = true,
};

FIXTURE_VARIANT_ADD(waiting, splice_file_to_full_pipe) {
	.call = CALL_SPLICE,
	.from = TMPFS,
	.to = PIPE,
	.full = true,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_tcp_to_pipe) {
	.call = CALL_SPLICE,
	.from = TCP,
	.to = PIPE,
};

FIXTURE_VARIANT_ADD(waiting, splice_tcp_to_full_pipe) {
	.call = CALL_SPLICE,
	.from = TCP,
	.to = PIPE,
	.full = true,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_unix_to_pipe) {
	.call = CALL_SPLICE,
	.from = UNIX,
	.to = PIPE,
};

FIXTURE_VARIANT_ADD(waiting, splice_unix_to_full_pipe) {
	.call = CALL_SPLICE,
	.from = UNIX,
	.to = PIPE,
	.full = true,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_file) {
	.call = CALL_SPLICE,
	.from = PIPE,
	.to = TMPFS,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_null) {
	.call = CALL_SPLICE,
	.from = PIPE,
	.to = DEV_NULL,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_tcp) {
	.call = CALL_SPLICE,
	.from = PIPE,
	.to = TCP,
};

FIXTURE_VARIANT_ADD(waiting, splice_empty_pipe_to_unix) {
	.call = CALL_SPLICE,
	.from = PIPE,
	.to = UNIX,
};

FIXTURE_VARIANT_ADD(waiting, splice_pipe_to_full_unix) {
	.call = CALL_SPLICE,
	.from = PIPE,
	.to = UNIX,
	.full = true,
};

FIXTURE_VARIANT_ADD(waiting, tee_empty_pipe) {
	.call = CALL_TEE,
	.from = PIPE,
	.to = PIPE,
};

FIXTURE_VARIANT_ADD(waiting, tee_full_pipe) {
	.call = CALL_TEE,
	.from = PIPE,
	.to = PIPE,
	.full = true,
};

FIXTURE_VARIANT_ADD(waiting, vmsplice_to_full_pipe) {
	.call = CALL_VMSPLICE,
	.from = MEMORY,
	.to = PIPE,
	.full = true,
};

FIXTURE_VARIANT_ADD(waiting, vmsplice_from_empty_pipe) {
	.call = CALL_VMSPLICE,
	.from = PIPE,
	.to = MEMORY,
};

FIXTURE_VARIANT_ADD(waiting, sendfile_to_full_pipe) {
	.call = CALL_SENDFILE,
	.from = TMPFS,
	.to = PIPE,
	.full = true,
};

FIXTURE_VARIANT_ADD(waiting, sendfile_to_full_unix) {
	.call = CALL_SENDFILE,
	.from = TMPFS,
	.to = UNIX,
	.full = true,
};

static void make_pair(struct __test_metadata *_metadata, enum place place,
		      int sv[2])
{
	if (place == TCP)
		make_tcp_pair(_metadata, sv);
	if (place == UNIX)
		make_unix_pair(_metadata, sv);
}

/* Writes until the descriptor takes no more; returns how much it took. */
static ssize_t fill_socket(struct __test_metadata *_metadata, int fd)
{
	ssize_t sum = 0, ret;

	set_nonblock(_metadata, fd, true);
	for (;;) {
		ret = write_pattern(fd, 1000, FILLER, sum);
		if (ret <= 0)
			break;
		sum += ret;
	}
	ASSERT_EQ(-EAGAIN, ret);
	set_nonblock(_metadata, fd, false);
	return sum;
}

FIXTURE_SETUP(waiting)
{
	const char *missing = end_missing(END_TMPFS);
	bool from_socket = variant->from == TCP || variant->from == UNIX;
	int in, out;

	if (missing)
		SKIP(return, "%s is not set", missing);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	make_pair(_metadata, variant->from, self->in);
	make_pair(_metadata, variant->to, self->out);
	self->file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	self->null = open("/dev/null", O_WRONLY);
	ASSERT_LE(0, self->null);
	self->mem = mmap(NULL, 2 * page_size(), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	self->iov = (struct iovec) { self->mem, SOME };

	if (variant->full)
		self->have = from_socket ? FEW : SOME;
	switch (variant->from) {
	case PIPE:
		in = self->p[0];
		ASSERT_EQ(self->have, write_pattern(self->p[1], self->have,
						    DATA, 0));
		break;
	case TMPFS:
		in = self->file;
		ASSERT_EQ(SOME, write_pattern(in, SOME, DATA, 0));
		ASSERT_EQ(0, lseek(in, 0, SEEK_SET));
		break;
	case MEMORY:
		in = -1;
		fill_pattern(self->mem, SOME, DATA, 0);
		break;
	default:
		in = self->in[1];
		ASSERT_EQ(self->have, write_pattern(self->in[0], self->have,
						    DATA, 0));
	}
	switch (variant->to) {
	case PIPE:
		out = self->q[1];
		if (variant->full)
			self->filler = fill_pipe(_metadata, out, FILLER);
		break;
	case TMPFS:
		out = self->file;
		break;
	case DEV_NULL:
		out = self->null;
		break;
	case MEMORY:
		out = -1;
		break;
	default:
		out = self->out[0];
		if (variant->full)
			self->filler = fill_socket(_metadata, out);
	}
	self->expected = !variant->full || from_socket ? FEW :
			 variant->to == PIPE ? page_size() : SOME;

	switch (variant->call) {
	case CALL_SPLICE:
		self->job = job_splice(in, out, SOME);
		break;
	case CALL_TEE:
		self->job = job_tee(in, out, SOME);
		break;
	case CALL_VMSPLICE:
		self->job = job_vmsplice(in < 0 ? out : in, &self->iov);
		break;
	case CALL_SENDFILE:
		self->job = job_sendfile(out, in, SOME);
		break;
	}
}

FIXTURE_TEARDOWN(waiting)
{
}

/* Nothing has moved. */
static void check_unmoved(struct __test_metadata *_metadata,
			  struct _test_data_waiting *self,
			  const struct _fixture_variant_waiting *variant)
{
	EXPECT_EQ(variant->from == PIPE ? self->have : 0,
		  pipe_bytes(self->p[0]));
	EXPECT_EQ(variant->to == PIPE ? self->filler : 0,
		  pipe_bytes(self->q[0]));
	EXPECT_EQ(0, lseek(self->file, 0, SEEK_CUR));
}

/* Ends the wait of the call: supplies data, or makes room. */
static void let_go_on(struct __test_metadata *_metadata,
		      struct _test_data_waiting *self,
		      const struct _fixture_variant_waiting *variant)
{
	ssize_t len;

	if (!variant->full) {
		ASSERT_EQ(FEW, write_pattern(variant->from == PIPE ?
					     self->p[1] : self->in[0], FEW,
					     DATA, 0));
		return;
	}
	len = variant->to == PIPE ? page_size() : self->filler;
	ASSERT_EQ(len, read_pattern(variant->to == PIPE ? self->q[0] :
				    self->out[1], len, FILLER, 0));
}

/* The expected data has arrived, after the filler. */
static void check_moved(struct __test_metadata *_metadata,
			struct _test_data_waiting *self,
			const struct _fixture_variant_waiting *variant)
{
	ssize_t page = page_size(), len = self->expected, rest;

	switch (variant->to) {
	case PIPE:
		rest = self->filler ? self->filler - page : 0;
		if (rest)
			EXPECT_EQ(rest, read_pattern(self->q[0], rest, FILLER,
						     page));
		EXPECT_EQ(len, read_pattern(self->q[0], len, DATA, 0));
		EXPECT_EQ(0, pipe_bytes(self->q[0]));
		break;
	case TMPFS:
		ASSERT_EQ(0, lseek(self->file, 0, SEEK_SET));
		EXPECT_EQ(len, read_pattern(self->file, len, DATA, 0));
		break;
	case DEV_NULL:
		break;
	case MEMORY:
		EXPECT_EQ(len, match_pattern(self->mem, len, DATA, 0));
		break;
	default:
		EXPECT_EQ(len, read_pattern(self->out[1], len, DATA, 0));
	}
	if (variant->from == PIPE) {
		rest = variant->full ? self->have : FEW;
		if (variant->call != CALL_TEE)
			rest -= len;
		EXPECT_EQ(rest, pipe_bytes(self->p[0]));
		if (rest)
			EXPECT_EQ(rest, read_pattern(self->p[0], rest, DATA,
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
		      (variant->from == TCP || variant->from == UNIX ||
		       (variant->to == UNIX && variant->full));
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
	int sv[2];
	ssize_t size;
};

FIXTURE_VARIANT(progress) {
	enum place to;
	int flags;
};

FIXTURE_VARIANT_ADD(progress, unix_interrupted) {
	.to = UNIX,
};

FIXTURE_VARIANT_ADD(progress, unix_restarted) {
	.to = UNIX,
	.flags = SA_RESTART,
};

FIXTURE_VARIANT_ADD(progress, tcp_interrupted) {
	.to = TCP,
};

FIXTURE_VARIANT_ADD(progress, tcp_restarted) {
	.to = TCP,
	.flags = SA_RESTART,
};

FIXTURE_SETUP(progress)
{
	int size = 16384;

	make_pair(_metadata, variant->to, self->sv);
	ASSERT_EQ(0, setsockopt(self->sv[0], SOL_SOCKET, SO_SNDBUF, &size,
				sizeof(size)));
	ASSERT_EQ(0, setsockopt(self->sv[1], SOL_SOCKET, SO_RCVBUF, &size,
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
	struct job job = job_splice(self->p[0], self->sv[0], self->size);
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

	reader = job_reader(self->sv[1], got, self->size);
	job_start(_metadata, &reader);
	EXPECT_EQ(self->size - sent,
		  splice_full(self->p[0], self->sv[0], self->size - sent));
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
	struct job job = job_splice(self->p[0], self->sv[0], self->size);
	char *got = malloc(self->size);
	struct job reader;
	ssize_t rest;

	ASSERT_NE(NULL, got);
	kill_waiting(_metadata, job_fork_waiting(_metadata, &job));
	rest = pipe_bytes(self->p[0]);
	ASSERT_LT(0, rest);
	ASSERT_GT(self->size, rest);
	reader = job_reader(self->sv[1], got, self->size);
	job_start(_metadata, &reader);
	EXPECT_EQ(rest, splice_full(self->p[0], self->sv[0], rest));
	EXPECT_EQ(self->size, job_finish(_metadata, &reader));
	EXPECT_EQ(self->size, match_pattern(got, self->size, DATA, 0));
	free(got);
}

TEST_HARNESS_MAIN
