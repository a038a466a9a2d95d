// SPDX-License-Identifier: GPL-2.0
/*
 * A splice, tee or vmsplice that waits for its other end blocks nobody else:
 * all operations of other processes on the pipe, and on the file system of the
 * file that it writes to, return at once.
 *
 * Stock C holds the mutex of the pipe while a socket or a terminal at the other
 * end waits, and freeze protection and the inode lock of overlayfs while a
 * pipe is empty. The results of a call that waits are the same there, unless a
 * test says otherwise.
 */
#include "splice_memory.h"

#include <linux/fs.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>

#define SOME 5000

/* Less than a page. */
#define LESS 1000

#define DATA 1
#define FILLER 2

/* How long a process sleeps uninterruptibly until a test calls it blocked. */
#define BLOCKED_MS 300

#define LOCKED "stock C: the call waits with a lock held"
#define TEE_RACES "stock C: tee returns 0 if another task took the data or the room"

/*
 * Waiters
 */

enum waiter_kind {
	FROM_TCP,
	FROM_UNIX,
	FROM_TTY,
	TO_TCP,
	TO_UNIX,
	TO_TTY,
	PIPE_EMPTY,
	PIPE_FULL,
	TEE_EMPTY,
	TEE_FULL,
	TO_FILE,
	VMSPLICE_FULL,
	VMSPLICE_EMPTY,
	FROM_DGRAM,
	TO_DGRAM,
};

/* A call that waits in a child process, and the pipe that others use. */
struct waiter {
	int p[2];		/* the pipe */
	int q[2];		/* another pipe, an end of the call or not */
	int end[2];		/* a socket or terminal, and its other side */
	int file;
	pid_t pid;
};

static int open_terminal(struct __test_metadata *_metadata, int tty[2])
{
	struct termios raw;

	tty[1] = posix_openpt(O_RDWR | O_NOCTTY);
	if (tty[1] < 0 || unlockpt(tty[1]))
		return -errno;
	tty[0] = ioctl(tty[1], TIOCGPTPEER, O_RDWR | O_NOCTTY);
	ASSERT_LE(0, tty[0]);
	ASSERT_EQ(0, tcgetattr(tty[0], &raw));
	cfmakeraw(&raw);
	ASSERT_EQ(0, tcsetattr(tty[0], TCSANOW, &raw));
	return 0;
}

/* Whether the call waits for room in a socket or a terminal. */
static bool fills(enum waiter_kind kind)
{
	return kind == TO_TCP || kind == TO_UNIX || kind == TO_TTY ||
	       kind == TO_DGRAM;
}

static void waiter_open(struct __test_metadata *_metadata, struct waiter *w,
			enum waiter_kind kind)
{
	make_fifo(_metadata, w->p);
	make_pipe(_metadata, w->q);
	w->end[0] = -1;
	w->end[1] = -1;
	w->file = -1;
	if (kind == FROM_TCP || kind == TO_TCP)
		make_tcp_pair(_metadata, w->end);
	if (kind == FROM_UNIX || kind == TO_UNIX)
		make_unix_pair(_metadata, w->end);
	if (kind == FROM_DGRAM || kind == TO_DGRAM)
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, w->end));
	if (kind == FROM_TTY || kind == TO_TTY)
		ASSERT_EQ(0, open_terminal(_metadata, w->end));
	if (kind == TO_FILE)
		w->file = make_file(_metadata, getenv("SPLICE_TMPFS_DIR") ?: "/tmp");
	if (fills(kind))
		fill_socket(_metadata, w->end[0], FILLER);
	if (kind == PIPE_FULL || kind == TEE_FULL)
		fill_pipe(_metadata, w->q[1], FILLER);
	if (kind == VMSPLICE_FULL) {
		fill_pipe(_metadata, w->p[1], FILLER);
		return;
	}
	if (fills(kind) || kind == PIPE_FULL || kind == TEE_FULL)
		ASSERT_EQ(SOME, write_pattern(w->p[1], SOME, DATA, 0));
}

static void waiter_start(struct __test_metadata *_metadata, struct waiter *w,
			 enum waiter_kind kind)
{
	static char mem[SOME];
	struct iovec iov = { mem, sizeof(mem) };
	struct job job;

	switch (kind) {
	case FROM_TCP:
	case FROM_UNIX:
	case FROM_TTY:
	case FROM_DGRAM:
		job = job_splice(w->end[0], w->p[1], SOME);
		break;
	case TO_TCP:
	case TO_UNIX:
	case TO_TTY:
	case TO_DGRAM:
		job = job_splice(w->p[0], w->end[0], SOME);
		break;
	case PIPE_EMPTY:
	case PIPE_FULL:
		job = job_splice(w->p[0], w->q[1], SOME);
		break;
	case TEE_EMPTY:
	case TEE_FULL:
		job = job_tee(w->p[0], w->q[1], SOME);
		break;
	case TO_FILE:
		job = job_splice(w->p[0], w->file, SOME);
		break;
	case VMSPLICE_FULL:
		job = job_vmsplice(w->p[1], &iov);
		break;
	case VMSPLICE_EMPTY:
		job = job_vmsplice(w->p[0], &iov);
		break;
	}
	w->pid = job_fork_waiting(_metadata, &job);
}

static void waiter_close(struct __test_metadata *_metadata, struct waiter *w)
{
	int fds[] = { w->p[0], w->p[1], w->q[0], w->q[1], w->end[0], w->end[1],
		      w->file };
	int i, status;

	for (i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	ASSERT_EQ(0, kill(w->pid, SIGKILL));
	ASSERT_EQ(w->pid, waitpid(w->pid, &status, 0));
}

/*
 * Operations of others
 */

static void op_read(struct waiter *w)
{
	char c;

	fcntl(w->p[0], F_SETFL, O_NONBLOCK);
	xread(w->p[0], &c, 1);
}

static void op_write(struct waiter *w)
{
	fcntl(w->p[1], F_SETFL, O_NONBLOCK);
	xwrite(w->p[1], "x", 1);
}

static void op_open(struct waiter *w)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", w->p[0]);
	open(path, O_RDWR | O_NONBLOCK);
}

static void op_fionread(struct waiter *w)
{
	int n;

	ioctl(w->p[0], FIONREAD, &n);
}

static void op_getpipe_sz(struct waiter *w)
{
	fcntl(w->p[0], F_GETPIPE_SZ);
}

static void op_setpipe_sz(struct waiter *w)
{
	fcntl(w->p[0], F_SETPIPE_SZ, 32 * page_size());
}

static void op_tee(struct waiter *w)
{
	int other[2];

	if (!pipe(other))
		xtee(w->p[0], other[1], 1, SPLICE_F_NONBLOCK);
}

static void op_splice(struct waiter *w)
{
	int other[2];

	if (!pipe(other))
		xsplice(w->p[0], NULL, other[1], NULL, 1, SPLICE_F_NONBLOCK);
}

static void op_vmsplice(struct waiter *w)
{
	char c = 'x';

	xvmsplice1(w->p[1], &c, 1, SPLICE_F_NONBLOCK);
}

static void op_poll(struct waiter *w)
{
	poll_now(w->p[0], POLLIN);
	poll_now(w->p[1], POLLOUT);
}

static const struct {
	const char *name;
	void (*run)(struct waiter *w);
} operations[] = {
	{ "read", op_read },
	{ "write", op_write },
	{ "open", op_open },
	{ "FIONREAD", op_fionread },
	{ "F_GETPIPE_SZ", op_getpipe_sz },
	{ "F_SETPIPE_SZ", op_setpipe_sz },
	{ "tee", op_tee },
	{ "splice", op_splice },
	{ "vmsplice", op_vmsplice },
	{ "poll", op_poll },
};

static char state_of(pid_t pid)
{
	char path[64], buf[512], *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_text(path, buf, sizeof(buf)) <= 0)
		return 0;
	end = strrchr(buf, ')');
	return end && end[1] ? end[2] : 0;
}

/*
 * Waits for child @pid, which makes an operation. Returns false if it sleeps
 * uninterruptibly, so that it waits for a lock.
 */
static bool returns_at_once(struct __test_metadata *_metadata, pid_t pid)
{
	int ms, status;

	for (ms = 0; ms < BLOCKED_MS; ms++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return true;
		usleep(1000);
		if (state_of(pid) != 'D')
			ms = 0;
	}
	return false;
}

/* Returns whether @run, in a process of its own, returns at once. */
static bool others_can(struct __test_metadata *_metadata, struct waiter *w,
		       void (*run)(struct waiter *w), pid_t *blocked)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run(w);
		_exit(0);
	}
	if (returns_at_once(_metadata, pid))
		return true;
	*blocked = pid;
	return false;
}

/*
 * 13 waiters and 10 operations: 130 combinations, of which stock C blocks 54.
 */
FIXTURE(others) {
	int unused;
};

FIXTURE_VARIANT(others) {
	enum waiter_kind kind;
	bool c_locks;
};

FIXTURE_VARIANT_ADD(others, empty_tcp_to_pipe) {
	.kind = FROM_TCP,
	.c_locks = true,
};

FIXTURE_VARIANT_ADD(others, empty_unix_to_pipe) {
	.kind = FROM_UNIX,
	.c_locks = true,
};

FIXTURE_VARIANT_ADD(others, empty_terminal_to_pipe) {
	.kind = FROM_TTY,
	.c_locks = true,
};

FIXTURE_VARIANT_ADD(others, pipe_to_full_tcp) {
	.kind = TO_TCP,
	.c_locks = true,
};

FIXTURE_VARIANT_ADD(others, pipe_to_full_unix) {
	.kind = TO_UNIX,
	.c_locks = true,
};

FIXTURE_VARIANT_ADD(others, pipe_to_full_terminal) {
	.kind = TO_TTY,
	.c_locks = true,
};

FIXTURE_VARIANT_ADD(others, empty_pipe_to_pipe) {
	.kind = PIPE_EMPTY,
};

FIXTURE_VARIANT_ADD(others, pipe_to_full_pipe) {
	.kind = PIPE_FULL,
};

FIXTURE_VARIANT_ADD(others, tee_empty_pipe) {
	.kind = TEE_EMPTY,
};

FIXTURE_VARIANT_ADD(others, tee_to_full_pipe) {
	.kind = TEE_FULL,
};

FIXTURE_VARIANT_ADD(others, empty_pipe_to_file) {
	.kind = TO_FILE,
};

FIXTURE_VARIANT_ADD(others, vmsplice_to_full_pipe) {
	.kind = VMSPLICE_FULL,
};

FIXTURE_VARIANT_ADD(others, vmsplice_from_empty_pipe) {
	.kind = VMSPLICE_EMPTY,
};

/* And two that are not among these. */
FIXTURE_VARIANT_ADD(others, empty_messages_to_pipe) {
	.kind = FROM_DGRAM,
	.c_locks = true,
};

FIXTURE_VARIANT_ADD(others, pipe_to_full_messages) {
	.kind = TO_DGRAM,
	.c_locks = true,
};

FIXTURE_SETUP(others)
{
	int tty = posix_openpt(O_RDWR | O_NOCTTY);

	if (tty < 0)
		SKIP(return, "no pseudoterminals: %s", strerror(errno));
	close(tty);
}

FIXTURE_TEARDOWN(others)
{
}

TEST_F_TIMEOUT(others, not_blocked, 60)
{
	int i, status, blocked = 0;
	bool is_c = !have_counters();
	struct waiter w;
	pid_t pid;

	for (i = 0; i < ARRAY_LEN(operations); i++) {
		waiter_open(_metadata, &w, variant->kind);
		waiter_start(_metadata, &w, variant->kind);
		pid = 0;
		if (!others_can(_metadata, &w, operations[i].run, &pid)) {
			TH_LOG("blocked: %s", operations[i].name);
			blocked++;
		}
		waiter_close(_metadata, &w);
		if (pid)
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
	}
	TH_LOG("%d of %d operations are blocked", blocked,
	       ARRAY_LEN(operations));
	if (is_c && variant->c_locks) {
		EXPECT_EQ(ARRAY_LEN(operations) - 1, blocked);
		XFAIL(return, LOCKED);
	}
	EXPECT_EQ(0, blocked);
}

FIXTURE(waits) {
	int p[2];
};

FIXTURE_SETUP(waits)
{
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(waits)
{
}

/*
 * The file system of the sink, while the pipe is empty
 */

static char file_path[PATH_MAX], other_path[PATH_MAX + 8];

static void fs_write(struct waiter *w)
{
	xwrite(open(file_path, O_WRONLY), "x", 1);
}

static void fs_append(struct waiter *w)
{
	xwrite(open(file_path, O_WRONLY | O_APPEND), "x", 1);
}

static void fs_truncate(struct waiter *w)
{
	truncate(file_path, 1);
}

static void fs_chmod(struct waiter *w)
{
	chmod(file_path, 0640);
}

static void fs_chown(struct waiter *w)
{
	chown(file_path, 0, 1);
}

static void fs_utimes(struct waiter *w)
{
	utimensat(AT_FDCWD, file_path, NULL, 0);
}

static void fs_link(struct waiter *w)
{
	link(file_path, other_path);
}

static void fs_rename(struct waiter *w)
{
	rename(file_path, other_path);
}

static void fs_unlink(struct waiter *w)
{
	unlink(file_path);
}

static void (*const fs_operations[])(struct waiter *w) = {
	fs_write, fs_append, fs_truncate, fs_chmod, fs_chown, fs_utimes,
	fs_link, fs_rename, fs_unlink,
};

static void freeze_and_thaw(struct waiter *w)
{
	int fd = open(file_path, O_RDONLY);

	if (!ioctl(fd, FIFREEZE, 0))
		ioctl(fd, FITHAW, 0);
}

/* Starts a splice from an empty pipe to the file @file_path. */
static void file_waiter(struct __test_metadata *_metadata, struct waiter *w)
{
	struct job job;

	make_pipe(_metadata, w->p);
	make_pipe(_metadata, w->q);
	w->end[0] = -1;
	w->end[1] = -1;
	w->file = open(file_path, O_CREAT | O_WRONLY, 0600);
	ASSERT_LE(0, w->file);
	job = job_splice(w->p[0], w->file, SOME);
	w->pid = job_fork_waiting(_metadata, &job);
}

/*
 * A page fault of vmsplice, into the pipe or out of it, that another process
 * answers: that one can use the pipe meanwhile.
 */
TEST_F_TIMEOUT(waits, page_fault, 60)
{
	struct waiter w = { .end = { -1, -1 }, .file = -1 };
	struct stuck stuck;
	struct iovec iov;
	struct job job;
	pid_t blocked;
	int i, out, ret;
	bool locked = false;

	for (out = 0; out < 2; out++) {
		ret = stuck_map(&stuck);
		if (ret < 0)
			SKIP(return, "no userfaultfd: %s", strerror(-ret));
		make_pipe(_metadata, w.p);
		make_pipe(_metadata, w.q);
		iov = (struct iovec) { stuck.mem, LESS };
		ASSERT_EQ(SOME, write_pattern(w.p[1], SOME, DATA, 0));
		job = job_vmsplice(w.p[out ? 0 : 1], &iov);
		job_start(_metadata, &job);
		stuck_wait(_metadata, &stuck);
		for (i = 0; i < ARRAY_LEN(operations) && !locked; i++) {
			if (others_can(_metadata, &w, operations[i].run,
				       &blocked))
				continue;
			TH_LOG("%s: %s is blocked", out ? "out" : "in",
			       operations[i].name);
			locked = true;
		}
		set_nonblock(_metadata, w.p[0], false);
		set_nonblock(_metadata, w.p[1], false);
		stuck_resolve(_metadata, &stuck);
		ret = job_finish(_metadata, &job);
		if (locked) {
			ASSERT_EQ(blocked, waitpid(blocked, NULL, 0));
			ASSERT_FALSE(have_counters());
			XFAIL(return, LOCKED);
		}
		EXPECT_EQ(LESS, ret);
		/* A read and a splice of others have taken a byte each. */
		if (out)
			EXPECT_EQ(LESS, match_pattern(stuck.mem, LESS, DATA, 2));
		for (i = 0; i < 2; i++) {
			close(w.p[i]);
			close(w.q[i]);
		}
	}
}

/* The file system can be frozen, so that a snapshot can be taken. */
TEST_F_TIMEOUT(waits, freeze, 60)
{
	const char *dir = getenv("SPLICE_EXT4_DIR");
	struct waiter w;
	pid_t pid = 0;
	bool ok;

	if (!dir)
		SKIP(return, "SPLICE_EXT4_DIR is not set");
	snprintf(file_path, sizeof(file_path), "%s/wait", dir);
	file_waiter(_metadata, &w);
	ok = others_can(_metadata, &w, freeze_and_thaw, &pid);
	waiter_close(_metadata, &w);
	if (pid)
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	unlink(file_path);
	if (!have_counters()) {
		EXPECT_FALSE(ok);
		XFAIL(return, LOCKED);
	}
	EXPECT_TRUE(ok);
}

/* overlayfs takes the lock of its inode for a write. */
TEST_F_TIMEOUT(waits, overlayfs, 60)
{
	const char *top = getenv("SPLICE_TMPFS_DIR");
	char dir[PATH_MAX / 8], path[PATH_MAX / 4], options[PATH_MAX];
	int i, blocked = 0, nr = ARRAY_LEN(fs_operations);
	struct waiter w;
	pid_t pid;

	if (!top || !private_mounts())
		SKIP(return, "no SPLICE_TMPFS_DIR, or no mounts");
	snprintf(dir, sizeof(dir), "%s/wait.XXXXXX", top);
	ASSERT_NE(NULL, mkdtemp(dir));
	for (i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/%c", dir, "luwm"[i]);
		ASSERT_EQ(0, mkdir(path, 0700));
	}
	snprintf(options, sizeof(options),
		 "lowerdir=%s/l,upperdir=%s/u,workdir=%s/w", dir, dir, dir);
	if (mount("splice", path, "overlay", 0, options))
		SKIP(return, "no overlayfs: %s", strerror(errno));
	for (i = 0; i < nr; i++) {
		snprintf(file_path, sizeof(file_path), "%s/%d", path, i);
		snprintf(other_path, sizeof(other_path), "%s.other", file_path);
		file_waiter(_metadata, &w);
		pid = 0;
		if (!others_can(_metadata, &w, fs_operations[i], &pid))
			blocked++;
		waiter_close(_metadata, &w);
		if (pid)
			ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	}
	TH_LOG("%d of %d operations are blocked", blocked, nr);
	umount2(path, MNT_DETACH);
	if (!have_counters()) {
		EXPECT_LT(0, blocked);
		XFAIL(return, LOCKED);
	}
	EXPECT_EQ(0, blocked);
}

/* The data that arrives during the wait is written, at the right place. */
TEST_F(waits, file_gets_data)
{
	int fd = make_file(_metadata, getenv("SPLICE_TMPFS_DIR") ?: "/tmp");
	struct job job = job_splice(self->p[0], fd, SOME);

	ASSERT_EQ(100, write_pattern(fd, 100, DATA, 0));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(200, write_pattern(self->p[1], 200, DATA, 100));
	EXPECT_EQ(200, job_finish(_metadata, &job));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	EXPECT_EQ(300, read_pattern(fd, 300, DATA, 0));

	/* The end of the input, and a signal. */
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	close(self->p[1]);
	EXPECT_EQ(0, job_finish(_metadata, &job));
}

/* An error of the file comes before the wait for data. */
TEST_F(waits, file_error_first)
{
	int fd = make_memfd(_metadata, 100, DATA);

	close(fd);
	fd = open("/proc/self/mem", O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBADF, xsplice(self->p[0], NULL, fd, NULL, SOME, 0));
	close(fd);
	fd = open("/proc/self/comm", O_WRONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EINVAL, xsplice(self->p[0], NULL, fd, NULL, SOME, 0));
}

/*
 * Sockets as the source
 */

/*
 * The clock of an emulated machine is not precise, and the time-outs of stock C
 * are in ticks. So a test accepts less time than the time-out.
 */
static ssize_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void set_timeout(struct __test_metadata *_metadata, int fd, int option,
			int ms)
{
	struct timeval t = { ms / 1000, ms % 1000 * 1000 };

	ASSERT_EQ(0, setsockopt(fd, SOL_SOCKET, option, &t, sizeof(t)));
}

static void set_int(struct __test_metadata *_metadata, int fd, int option,
		    int value)
{
	ASSERT_EQ(0, setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)));
}

FIXTURE(socket_wait) {
	int sv[2];
	int p[2];
};

FIXTURE_VARIANT(socket_wait) {
	bool tcp;
};

FIXTURE_VARIANT_ADD(socket_wait, tcp) {
	.tcp = true,
};

FIXTURE_VARIANT_ADD(socket_wait, unix) {
	.tcp = false,
};

FIXTURE_SETUP(socket_wait)
{
	if (variant->tcp)
		make_tcp_pair(_metadata, self->sv);
	else
		make_unix_pair(_metadata, self->sv);
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(socket_wait)
{
}

/* SO_RCVTIMEO ends the call, and data before that does so, too. */
TEST_F(socket_wait, receive_timeout)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);
	ssize_t start = now_ms();

	set_timeout(_metadata, self->sv[1], SO_RCVTIMEO, 300);
	EXPECT_EQ(-EAGAIN, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME,
				   0));
	EXPECT_LE(100, now_ms() - start);

	set_timeout(_metadata, self->sv[1], SO_RCVTIMEO, 20000);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(100, write_pattern(self->sv[0], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
}

/* With a time-out a signal ends the call, although the kernel would restart it. */
TEST_F(socket_wait, receive_signal)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);

	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	job_restart(_metadata, &job);
	ASSERT_EQ(100, write_pattern(self->sv[0], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));

	set_timeout(_metadata, self->sv[1], SO_RCVTIMEO, 20000);
	catch_signal(_metadata, SIGUSR1, SA_RESTART);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	job_signal(_metadata, &job, SIGUSR1);
	EXPECT_EQ(-EINTR, job_finish(_metadata, &job));
}

static void expect_data(struct __test_metadata *_metadata, int fd, ssize_t len,
			loff_t pos)
{
	EXPECT_EQ(len, read_pattern(fd, len, DATA, pos));
}

/* SO_RCVLOWAT: less data does not end the wait. */
TEST_F(socket_wait, receive_low_mark)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);

	set_int(_metadata, self->sv[1], SO_RCVLOWAT, 10);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(4, write_pattern(self->sv[0], 4, DATA, 0));
	usleep(100000);
	job_wait_blocked(&job);
	/* Stock C has the pipe locked. */
	if (!variant->tcp && have_counters())
		expect_data(_metadata, self->p[0], 4, 0);
	ASSERT_EQ(8, write_pattern(self->sv[0], 8, DATA, 4));
	EXPECT_EQ(12, job_finish(_metadata, &job));
	if (!variant->tcp && have_counters())
		expect_data(_metadata, self->p[0], 8, 4);
	else
		expect_data(_metadata, self->p[0], 12, 0);
}

/* The time-out is for the whole call, and not for each part of the data. */
TEST_F_TIMEOUT(socket_wait, receive_timeout_of_parts, 60)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);
	ssize_t start, ret;
	int i;

	if (variant->tcp)
		SKIP(return, "TCP returns what it has");
	set_int(_metadata, self->sv[1], SO_RCVLOWAT, 1000);
	set_timeout(_metadata, self->sv[1], SO_RCVTIMEO, 1000);
	start = now_ms();
	job_start(_metadata, &job);
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(1, write_pattern(self->sv[0], 1, DATA, i));
		usleep(400000);
		if (__atomic_load_n(&job.tid, __ATOMIC_SEQ_CST) &&
		    !task_blocked(job.tid, job.nr))
			break;
	}
	ret = job_finish(_metadata, &job);
	EXPECT_LE(1, ret);
	EXPECT_GE(5, ret);
	EXPECT_LE(600, now_ms() - start);
	EXPECT_EQ(ret, read_pattern(self->p[0], ret, DATA, 0));
}

/* The end of the data during the wait. */
TEST_F(socket_wait, receive_end)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(0, shutdown(self->sv[0], SHUT_WR));
	EXPECT_EQ(0, job_finish(_metadata, &job));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

TEST_F(socket_wait, receive_shutdown)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(0, shutdown(self->sv[1], SHUT_RD));
	EXPECT_EQ(0, job_finish(_metadata, &job));
}

/* A peer that closes without having read its data resets the connection. */
TEST_F(socket_wait, receive_reset)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);

	ASSERT_EQ(10, write_pattern(self->sv[1], 10, FILLER, 0));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	close(self->sv[0]);
	EXPECT_EQ(-ECONNRESET, job_finish(_metadata, &job));
}

/* A call that waits ends with 0 at a mark for urgent data. */
TEST_F(socket_wait, receive_urgent)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);

	if (!variant->tcp)
		SKIP(return, "TCP only");
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(1, send(self->sv[0], "u", 1, MSG_OOB));
	EXPECT_EQ(0, job_finish(_metadata, &job));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

/* SPLICE_F_NONBLOCK is for the pipe. AF_UNIX takes it for the socket, too. */
TEST_F(socket_wait, receive_nonblock)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);

	job.arg[5] = SPLICE_F_NONBLOCK;
	if (!variant->tcp) {
		EXPECT_EQ(-EAGAIN, job_call(&job));
		return;
	}
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(100, write_pattern(self->sv[0], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	set_nonblock(_metadata, self->sv[1], true);
	EXPECT_EQ(-EAGAIN, job_call(&job));
}

/* The flag that splice passes to sockets is not for user space. */
TEST_F(socket_wait, internal_flag)
{
	unsigned int flag;

	for (flag = 0x20; flag; flag <<= 1) {
		EXPECT_EQ(-EINVAL, xsplice(self->sv[1], NULL, self->p[1], NULL,
					   SOME, flag));
	}
}

/* Others fill the pipe during the wait: the data waits in the socket. */
TEST_F(socket_wait, pipe_filled_meanwhile)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);
	ssize_t capacity = pipe_capacity(self->p[1]);

	if (!have_counters())
		XFAIL(return, LOCKED);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(capacity, write_pattern(self->p[1], capacity, FILLER, 0));
	ASSERT_EQ(100, write_pattern(self->sv[0], 100, DATA, 0));
	usleep(100000);
	job_wait_blocked(&job);
	EXPECT_EQ(capacity, read_pattern(self->p[0], capacity, FILLER, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
}

/* The pipe loses its reader during the wait: the socket keeps the data. */
TEST_F(socket_wait, pipe_broken_meanwhile)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);

	if (!have_counters())
		XFAIL(return, LOCKED);
	catch_signal(_metadata, SIGPIPE, 0);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	close(self->p[0]);
	ASSERT_EQ(100, write_pattern(self->sv[0], 100, DATA, 0));
	EXPECT_EQ(-EPIPE, job_finish(_metadata, &job));
	EXPECT_EQ(1, signal_count(SIGPIPE));
	EXPECT_EQ(100, read_pattern(self->sv[1], 100, DATA, 0));
}

/*
 * Sockets as the sink
 */

/* Fills the socket, and puts data behind that into the pipe. */
static ssize_t send_setup(struct __test_metadata *_metadata,
			  struct _test_data_socket_wait *self)
{
	ssize_t filler = fill_socket(_metadata, self->sv[0], FILLER);

	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	return filler;
}

/* Takes what the peer has: the filler, then the first @len bytes of the data. */
static void send_finish(struct __test_metadata *_metadata,
			struct _test_data_socket_wait *self, ssize_t filler,
			ssize_t len)
{
	EXPECT_EQ(filler, read_pattern(self->sv[1], filler, FILLER, 0));
	EXPECT_EQ(len, read_pattern(self->sv[1], len, DATA, 0));
}

TEST_F(socket_wait, send_waits)
{
	struct job job = job_splice(self->p[0], self->sv[0], SOME);
	ssize_t filler = send_setup(_metadata, self);

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	send_finish(_metadata, self, filler, SOME);
	EXPECT_EQ(SOME, job_finish(_metadata, &job));
}

TEST_F(socket_wait, send_timeout)
{
	struct job job = job_splice(self->p[0], self->sv[0], SOME);
	ssize_t filler = send_setup(_metadata, self), start = now_ms();

	set_timeout(_metadata, self->sv[0], SO_SNDTIMEO, 300);
	EXPECT_EQ(-EAGAIN, job_call(&job));
	EXPECT_LE(100, now_ms() - start);
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));

	set_timeout(_metadata, self->sv[0], SO_SNDTIMEO, 20000);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	send_finish(_metadata, self, filler, SOME);
	EXPECT_EQ(SOME, job_finish(_metadata, &job));
}

TEST_F(socket_wait, send_signal)
{
	struct job job = job_splice(self->p[0], self->sv[0], SOME);

	send_setup(_metadata, self);
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	set_timeout(_metadata, self->sv[0], SO_SNDTIMEO, 20000);
	catch_signal(_metadata, SIGUSR1, SA_RESTART);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	job_signal(_metadata, &job, SIGUSR1);
	EXPECT_EQ(-EINTR, job_finish(_metadata, &job));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
}

/* The wait returns the error of the socket, without a signal. */
TEST_F(socket_wait, send_reset)
{
	struct job job = job_splice(self->p[0], self->sv[0], SOME);

	send_setup(_metadata, self);
	catch_signal(_metadata, SIGPIPE, 0);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	close(self->sv[1]);
	EXPECT_EQ(-ECONNRESET, job_finish(_metadata, &job));
	EXPECT_EQ(0, signal_count(SIGPIPE));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
	EXPECT_EQ(-EPIPE, job_call(&job));
	EXPECT_EQ(1, signal_count(SIGPIPE));
}

TEST_F(socket_wait, send_shutdown)
{
	struct job job = job_splice(self->p[0], self->sv[0], SOME);

	send_setup(_metadata, self);
	catch_signal(_metadata, SIGPIPE, 0);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(0, shutdown(self->sv[0], SHUT_WR));
	EXPECT_EQ(-EPIPE, job_finish(_metadata, &job));
	/* The wait of AF_UNIX raises no signal, but the next call does. */
	EXPECT_EQ(variant->tcp, signal_count(SIGPIPE));
	EXPECT_EQ(-EPIPE, job_call(&job));
	EXPECT_EQ(1 + variant->tcp, signal_count(SIGPIPE));
}

/*
 * A message of which a part was sent when the time-out ends gets another
 * period for its rest.
 */
TEST_F_TIMEOUT(socket_wait, send_timeout_after_progress, 60)
{
	ssize_t filler, capacity, start, ret, page = page_size();
	struct job job;

	ASSERT_EQ(256 * page, fcntl(self->p[1], F_SETPIPE_SZ, 256 * page));
	set_int(_metadata, self->sv[0], SO_SNDBUF, 65536);
	set_int(_metadata, self->sv[1], SO_RCVBUF, 65536);
	filler = fill_socket(_metadata, self->sv[0], FILLER);
	capacity = fill_pipe(_metadata, self->p[1], DATA);
	job = job_splice(self->p[0], self->sv[0], capacity);
	set_timeout(_metadata, self->sv[0], SO_SNDTIMEO, 1000);
	start = now_ms();
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	usleep(700000);
	ASSERT_EQ(filler, read_pattern(self->sv[1], filler, FILLER, 0));
	ret = job_finish(_metadata, &job);
	/* It continued after the first second, and sent a part. */
	EXPECT_LE(1300, now_ms() - start);
	EXPECT_LT(0, ret);
	EXPECT_GT(capacity, ret);
	EXPECT_EQ(capacity - ret, pipe_bytes(self->p[0]));
	EXPECT_EQ(ret, read_pattern(self->sv[1], ret, DATA, 0));
}

/*
 * The peer goes away after a part of a message was sent. The call returns what
 * it has sent, and the error is for the next call: there is no SIGPIPE.
 */
TEST_F(socket_wait, send_reset_after_part)
{
	ssize_t capacity, ret, page = page_size();
	struct job job;

	if (!variant->tcp)
		SKIP(return, "TCP only");
	ASSERT_EQ(256 * page, fcntl(self->p[1], F_SETPIPE_SZ, 256 * page));
	set_int(_metadata, self->sv[0], SO_SNDBUF, 65536);
	set_int(_metadata, self->sv[1], SO_RCVBUF, 65536);
	capacity = fill_pipe(_metadata, self->p[1], DATA);
	catch_signal(_metadata, SIGPIPE, 0);
	job = job_splice(self->p[0], self->sv[0], capacity);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	close(self->sv[1]);
	ret = job_finish(_metadata, &job);
	EXPECT_LT(0, ret);
	EXPECT_EQ(capacity - ret, pipe_bytes(self->p[0]));
	EXPECT_EQ(0, signal_count(SIGPIPE));
}

/* Others take the data during the wait. */
TEST_F(socket_wait, data_taken_meanwhile)
{
	struct job job = job_splice(self->p[0], self->sv[0], SOME);
	ssize_t filler = send_setup(_metadata, self);

	if (!have_counters())
		XFAIL(return, LOCKED);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(filler, read_pattern(self->sv[1], filler, FILLER, 0));
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	EXPECT_EQ(100, read_pattern(self->sv[1], 100, DATA, 0));
}

/*
 * Several processes at each end
 */

#define TASKS 4
#define TOTAL 1048576

/* Splices from @in to @out until the end of the data. */
static void *copy_until_end(void *arg)
{
	int *fd = arg;
	ssize_t ret;

	do
		ret = xsplice(fd[0], NULL, fd[1], NULL, 3000, 0);
	while (ret > 0 || ret == -EAGAIN);
	return (void *)ret;
}

static void expect_in_order(struct __test_metadata *_metadata, int write_to,
			    int in, int out, int read_from)
{
	char *buf = alloc_pattern(_metadata, TOTAL, DATA);
	struct job writer = job_writer(write_to, buf, TOTAL);
	int fd[2] = { in, out }, i;
	pthread_t task[TASKS];
	void *ret;

	for (i = 0; i < TASKS; i++)
		ASSERT_EQ(0, pthread_create(&task[i], NULL, copy_until_end,
					    fd));
	job_start(_metadata, &writer);
	EXPECT_EQ(TOTAL, read_pattern(read_from, TOTAL, DATA, 0));
	EXPECT_EQ(TOTAL, job_finish(_metadata, &writer));
	if (shutdown(write_to, SHUT_WR))
		close(write_to);
	for (i = 0; i < TASKS; i++) {
		ASSERT_EQ(0, pthread_join(task[i], &ret));
		EXPECT_EQ(NULL, ret);
	}
	free(buf);
}

TEST_F_TIMEOUT(socket_wait, order_of_receivers, 120)
{
	/* The last data stays in the pipe until there is more. */
	if (!have_counters())
		XFAIL(return, LOCKED);
	expect_in_order(_metadata, self->sv[0], self->sv[1], self->p[1],
			self->p[0]);
}

TEST_F_TIMEOUT(socket_wait, order_of_senders, 120)
{
	int size = 1;

	set_int(_metadata, self->sv[0], SO_SNDBUF, size);
	expect_in_order(_metadata, self->p[1], self->p[0], self->sv[0],
			self->sv[1]);
}

/*
 * A socket for which there is no memory is ready, but sends nothing. That must
 * not be tried again and again.
 */
TEST_F_TIMEOUT(socket_wait, no_busy_loop, 60)
{
	const char *path = "/proc/sys/net/ipv4/tcp_mem";
	ssize_t tries, end, capacity, sum;
	char old[128];
	struct job job;

	if (!variant->tcp || !have_counters())
		SKIP(return, "needs TCP and the counters");
	ASSERT_LT(0, read_text(path, old, sizeof(old)));
	capacity = fill_pipe(_metadata, self->p[1], DATA);
	job = job_splice(self->p[0], self->sv[0], capacity);
	/* Receivers need no memory of TCP's for data that is not read. */
	sum = 0;
	ASSERT_LT(0, write_text(path, "1 1 1"));
	tries = read_counter("waits.tries");
	job_start(_metadata, &job);
	end = now_ms() + 1000;
	while (now_ms() < end)
		usleep(10000);
	tries = read_counter("waits.tries") - tries;
	ASSERT_LT(0, write_text(path, old));
	sum = read_pattern(self->sv[1], capacity, DATA, 0);
	EXPECT_EQ(capacity, sum);
	EXPECT_EQ(capacity, job_finish(_metadata, &job));
	TH_LOG("%zd tries in a second", tries);
	EXPECT_GT(1000, tries);
}

/*
 * Terminals and messages
 */

FIXTURE(stream_wait) {
	int tty[2];
	int sv[2];
	int p[2];
};

FIXTURE_SETUP(stream_wait)
{
	int ret = open_terminal(_metadata, self->tty);

	if (ret)
		SKIP(return, "no pseudoterminals: %s", strerror(-ret));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, self->sv));
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(stream_wait)
{
}

static void set_reading(struct __test_metadata *_metadata, int tty, int min,
			int time)
{
	struct termios t;

	ASSERT_EQ(0, tcgetattr(tty, &t));
	t.c_cc[VMIN] = min;
	t.c_cc[VTIME] = time;
	ASSERT_EQ(0, tcsetattr(tty, TCSANOW, &t));
}

/* VMIN 0: no wait. With VTIME: a wait with a limit. */
TEST_F(stream_wait, terminal_without_minimum)
{
	ssize_t start;

	set_reading(_metadata, self->tty[0], 0, 0);
	EXPECT_EQ(0, xsplice(self->tty[0], NULL, self->p[1], NULL, SOME, 0));
	set_reading(_metadata, self->tty[0], 0, 4);
	start = now_ms();
	EXPECT_EQ(0, xsplice(self->tty[0], NULL, self->p[1], NULL, SOME, 0));
	EXPECT_LE(200, now_ms() - start);
}

/* VMIN: the terminal has data, but too little. */
TEST_F(stream_wait, terminal_minimum)
{
	struct job job = job_splice(self->tty[0], self->p[1], SOME);

	set_reading(_metadata, self->tty[0], 10, 0);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(4, write_pattern(self->tty[1], 4, DATA, 0));
	usleep(100000);
	job_wait_blocked(&job);
	ASSERT_EQ(6, write_pattern(self->tty[1], 6, DATA, 4));
	EXPECT_EQ(10, job_finish(_metadata, &job));
	EXPECT_EQ(10, read_pattern(self->p[0], 10, DATA, 0));
}

/* VTIME after the first byte. */
TEST_F(stream_wait, terminal_time)
{
	struct job job = job_splice(self->tty[0], self->p[1], SOME);

	set_reading(_metadata, self->tty[0], 10, 3);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(4, write_pattern(self->tty[1], 4, DATA, 0));
	EXPECT_EQ(4, job_finish(_metadata, &job));
	EXPECT_EQ(4, read_pattern(self->p[0], 4, DATA, 0));
}

TEST_F(stream_wait, terminal_hang_up)
{
	struct job in = job_splice(self->tty[0], self->p[1], SOME);
	int q[2];
	struct job out;

	make_pipe(_metadata, q);
	fill_socket(_metadata, self->tty[0], FILLER);
	ASSERT_EQ(SOME, write_pattern(q[1], SOME, DATA, 0));
	out = job_splice(q[0], self->tty[0], SOME);
	job_start(_metadata, &in);
	job_wait_blocked(&in);
	job_start(_metadata, &out);
	job_wait_blocked(&out);
	close(self->tty[1]);
	EXPECT_EQ(-EIO, job_finish(_metadata, &in));
	EXPECT_EQ(-EIO, job_finish(_metadata, &out));
	EXPECT_EQ(SOME, pipe_bytes(q[0]));
}

TEST_F(stream_wait, terminal_signal)
{
	struct job in = job_splice(self->tty[0], self->p[1], SOME), out;
	int q[2];

	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &in));
	/* The room in the pipe was given back. */
	EXPECT_EQ(pipe_capacity(self->p[1]),
		  fill_pipe(_metadata, self->p[1], FILLER));
	make_pipe(_metadata, q);
	fill_socket(_metadata, self->tty[0], FILLER);
	ASSERT_EQ(SOME, write_pattern(q[1], SOME, DATA, 0));
	out = job_splice(q[0], self->tty[0], SOME);
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &out));
	EXPECT_EQ(SOME, pipe_bytes(q[0]));
}

/* The terminal takes the rest when it has room again. */
TEST_F(stream_wait, terminal_full)
{
	ssize_t filler = fill_socket(_metadata, self->tty[0], FILLER);
	struct job job = job_splice(self->p[0], self->tty[0], SOME);

	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	EXPECT_EQ(filler, read_pattern(self->tty[1], filler, FILLER, 0));
	EXPECT_EQ(SOME, read_pattern(self->tty[1], SOME, DATA, 0));
	EXPECT_EQ(SOME, job_finish(_metadata, &job));
}

/* Job control: a read in the background stops the process. */
TEST_F(stream_wait, terminal_in_background)
{
	int status, ret[2];
	pid_t leader;

	make_pipe(_metadata, ret);
	leader = fork();
	ASSERT_LE(0, leader);
	if (!leader) {
		pid_t child;

		setsid();
		ASSERT_EQ(0, ioctl(self->tty[0], TIOCSCTTY, 0));
		child = fork();
		if (!child) {
			setpgid(0, 0);
			xsplice(self->tty[0], NULL, self->p[1], NULL, SOME, 0);
			_exit(1);
		}
		ASSERT_EQ(child, waitpid(child, &status, WUNTRACED));
		status = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;
		xwrite(ret[1], &status, sizeof(status));
		kill(child, SIGKILL);
		_exit(0);
	}
	ASSERT_EQ((ssize_t)sizeof(status),
		  xread(ret[0], &status, sizeof(status)));
	EXPECT_EQ(SIGTTIN, status);
	ASSERT_EQ(leader, waitpid(leader, NULL, 0));
	EXPECT_EQ(pipe_capacity(self->p[1]),
		  fill_pipe(_metadata, self->p[1], FILLER));
}

/* A stream that waits keeps its room, but others can use the pipe. */
TEST_F(stream_wait, reserved_room)
{
	struct job job = job_splice(self->tty[0], self->p[1], SOME);
	ssize_t capacity = pipe_capacity(self->p[1]), page = page_size(), free;
	struct job other = job_splice(self->tty[0], self->p[1], SOME);

	if (!have_counters())
		XFAIL(return, LOCKED);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	/* Two slots are reserved. */
	EXPECT_EQ(capacity, pipe_capacity(self->p[1]));
	EXPECT_EQ(2 * capacity, fcntl(self->p[1], F_SETPIPE_SZ, 2 * capacity));
	EXPECT_EQ(capacity, fcntl(self->p[1], F_SETPIPE_SZ, capacity));
	ASSERT_EQ(capacity / 2 - page,
		  write_pattern(self->p[1], capacity / 2 - page, FILLER, 0));
	EXPECT_EQ(-EBUSY, or_errno(fcntl(self->p[1], F_SETPIPE_SZ,
					 capacity / 2)));
	free = capacity / 2 - page;
	ASSERT_EQ(free, write_pattern(self->p[1], free, FILLER,
				      capacity / 2 - page));
	EXPECT_EQ(0, poll_now(self->p[1], POLLOUT));
	/* One at a time. */
	other.arg[5] = SPLICE_F_NONBLOCK;
	EXPECT_EQ(-EAGAIN, job_call(&other));
	other.arg[5] = 0;
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &other));
	/* The data has room. */
	ASSERT_EQ(100, write_pattern(self->tty[1], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	EXPECT_EQ(POLLOUT, poll_now(self->p[1], POLLOUT));
	free = capacity - 2 * page;
	EXPECT_EQ(free, read_pattern(self->p[0], free, FILLER, 0));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
}

/* Giving reserved room back wakes a writer that sleeps for it. */
TEST_F(stream_wait, room_given_back)
{
	struct job job = job_splice(self->tty[0], self->p[1], SOME);
	ssize_t capacity = pipe_capacity(self->p[1]), page = page_size();
	char *mem = alloc_pattern(_metadata, capacity, FILLER);
	struct job writer = job_writer(self->p[1], mem, capacity - page);

	if (!have_counters())
		XFAIL(return, LOCKED);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	job_start(_metadata, &writer);
	job_wait_blocked(&writer);
	/* The data takes one of two slots. */
	ASSERT_EQ(100, write_pattern(self->tty[1], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	EXPECT_EQ(capacity - page, job_finish(_metadata, &writer));
	free(mem);
}

#define MESSAGES 4000

static void *splice_messages(void *arg)
{
	int *fd = arg;

	while (xsplice(fd[0], NULL, fd[1], NULL, 4, 0) > 0)
		;
	return NULL;
}

/* Several processes that read messages do not change their order. */
TEST_F_TIMEOUT(stream_wait, order_of_messages, 120)
{
	int fd[2] = { self->sv[1], self->p[1] }, n, i;
	pthread_t task[TASKS];
	pid_t pid;

	for (i = 0; i < TASKS; i++)
		ASSERT_EQ(0, pthread_create(&task[i], NULL, splice_messages,
					    fd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		for (n = 0; n < MESSAGES; n++)
			if (send(self->sv[0], &n, 4, 0) != 4)
				_exit(1);
		/* A message of 0 bytes ends one task. */
		for (i = 0; i < TASKS; i++)
			send(self->sv[0], "", 0, 0);
		_exit(0);
	}
	for (i = 0; i < MESSAGES; i++) {
		ASSERT_EQ(4, read_full(self->p[0], &n, 4));
		ASSERT_EQ(i, n);
	}
	for (i = 0; i < TASKS; i++)
		ASSERT_EQ(0, pthread_join(task[i], NULL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
}

/* While a task waits with all room reserved, another one waits for its data. */
TEST_F(stream_wait, to_terminal_while_all_is_reserved)
{
	ssize_t capacity = pipe_capacity(self->p[1]);
	struct job in = job_splice(self->sv[1], self->p[1], capacity);
	struct job out = job_splice(self->p[0], self->tty[0], SOME);

	if (!have_counters())
		XFAIL(return, LOCKED);
	job_start(_metadata, &in);
	job_wait_blocked(&in);
	job_start(_metadata, &out);
	job_wait_blocked(&out);
	ASSERT_EQ(100, write_pattern(self->sv[0], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &in));
	EXPECT_EQ(100, job_finish(_metadata, &out));
	EXPECT_EQ(100, read_pattern(self->tty[1], 100, DATA, 0));
}

/* A message that is as large as the pipe is not cut. */
TEST_F(stream_wait, large_message)
{
	ssize_t capacity = pipe_capacity(self->p[1]);
	char *mem = alloc_pattern(_metadata, capacity, DATA);
	struct job job = job_splice(self->sv[1], self->p[1], 2 * capacity);

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(capacity, send(self->sv[0], mem, capacity, 0));
	EXPECT_EQ(capacity, job_finish(_metadata, &job));
	EXPECT_EQ(capacity, read_pattern(self->p[0], capacity, DATA, 0));
	free(mem);
}

/*
 * tee
 */

struct tee_race {
	int in;
	int out;
	int zeros;
	bool *stop;
};

static void *tee_until_stop(void *arg)
{
	struct tee_race *race = arg;

	while (!__atomic_load_n(race->stop, __ATOMIC_SEQ_CST))
		if (!xtee(race->in, race->out, 100, SPLICE_F_NONBLOCK))
			race->zeros++;
	return NULL;
}

/* 0 means that there will be no more data, also if others take it. */
TEST_F_TIMEOUT(waits, tee_returns_0_only_at_the_end, 60)
{
	struct tee_race race[2];
	pthread_t task[2];
	bool stop = false;
	char buf[200];
	int q[2], i;

	make_pipe(_metadata, q);
	set_nonblock(_metadata, q[0], true);
	set_nonblock(_metadata, self->p[0], true);
	set_nonblock(_metadata, self->p[1], true);
	for (i = 0; i < 2; i++) {
		race[i] = (struct tee_race) { self->p[0], q[1], 0, &stop };
		ASSERT_EQ(0, pthread_create(&task[i], NULL, tee_until_stop,
					    &race[i]));
	}
	for (i = 0; i < 20000; i++) {
		xwrite(self->p[1], "x", 1);
		xread(self->p[0], buf, sizeof(buf));
		xread(q[0], buf, sizeof(buf));
	}
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_join(task[i], NULL));
	TH_LOG("%d times 0", race[0].zeros + race[1].zeros);
	if (!have_counters() && race[0].zeros + race[1].zeros)
		XFAIL(return, TEE_RACES);
	EXPECT_EQ(0, race[0].zeros + race[1].zeros);
	set_nonblock(_metadata, q[0], false);
	while (pipe_bytes(self->p[0]))
		xread(self->p[0], buf, sizeof(buf));
	close(self->p[1]);
	EXPECT_EQ(0, xtee(self->p[0], q[1], 100, 0));
}

TEST_HARNESS_MAIN
