/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers shared by the splice, tee, vmsplice and sendfile tests.
 *
 * The x*() wrappers make the raw system call and return its result, or the
 * negated errno, so that one comparison checks both. Sizes are signed for the
 * same reason.
 *
 * Data is a function of a seed and of the position in the stream, so any piece
 * can be checked on its own, wherever it ends up.
 */
#ifndef SPLICE_COMMON_H
#define SPLICE_COMMON_H

#include "kselftest_harness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>

/* O_NOTIFICATION_PIPE of linux/watch_queue.h, which clashes with fcntl.h. */
#define NOTIFICATION_PIPE O_EXCL

#define ARRAY_LEN(a) ((int)(sizeof(a) / sizeof((a)[0])))

static inline ssize_t or_errno(long ret)
{
	return ret < 0 ? -errno : ret;
}

static inline ssize_t xsplice(int in, loff_t *off_in, int out, loff_t *off_out,
			      size_t len, unsigned int flags)
{
	return or_errno(syscall(SYS_splice, in, off_in, out, off_out, len,
				flags));
}

static inline ssize_t xtee(int in, int out, size_t len, unsigned int flags)
{
	return or_errno(syscall(SYS_tee, in, out, len, flags));
}

static inline ssize_t xvmsplice(int fd, const struct iovec *iov,
				unsigned long nr, unsigned int flags)
{
	return or_errno(syscall(SYS_vmsplice, fd, iov, nr, flags));
}

/* vmsplice() of a single range. */
static inline ssize_t xvmsplice1(int fd, const void *buf, size_t len,
				 unsigned int flags)
{
	struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };

	return xvmsplice(fd, &iov, 1, flags);
}

static inline ssize_t xsendfile(int out, int in, loff_t *off, size_t count)
{
	return or_errno(syscall(SYS_sendfile, out, in, off, count));
}

static inline ssize_t xcopy_file_range(int in, loff_t *off_in, int out,
				       loff_t *off_out, size_t len,
				       unsigned int flags)
{
	return or_errno(syscall(SYS_copy_file_range, in, off_in, out, off_out,
				len, flags));
}

static inline ssize_t xread(int fd, void *buf, size_t len)
{
	return or_errno(read(fd, buf, len));
}

static inline ssize_t xwrite(int fd, const void *buf, size_t len)
{
	return or_errno(write(fd, buf, len));
}

/* Reads until @len bytes, end of file or an error; returns the bytes read. */
static inline ssize_t read_full(int fd, void *buf, ssize_t len)
{
	ssize_t done = 0, ret = 0;

	while (done < len) {
		ret = xread(fd, (char *)buf + done, len - done);
		if (ret <= 0)
			break;
		done += ret;
	}
	return done ? done : ret;
}

static inline ssize_t write_full(int fd, const void *buf, ssize_t len)
{
	ssize_t done = 0, ret = 0;

	while (done < len) {
		ret = xwrite(fd, (const char *)buf + done, len - done);
		if (ret <= 0)
			break;
		done += ret;
	}
	return done ? done : ret;
}

/* Splices at the files' own positions until @len bytes, end or an error. */
static inline ssize_t splice_full(int in, int out, ssize_t len)
{
	ssize_t done = 0, ret = 0;

	while (done < len) {
		ret = xsplice(in, NULL, out, NULL, len - done, 0);
		if (ret <= 0)
			break;
		done += ret;
	}
	return done ? done : ret;
}

static inline char pattern_byte(unsigned int seed, loff_t pos)
{
	unsigned int x = seed * 2654435761u + (unsigned int)pos;

	x ^= x >> 15;
	x *= 0x2c1b3c6du;
	x ^= x >> 12;
	return x;
}

static inline void fill_pattern(void *buf, ssize_t len, unsigned int seed,
				loff_t pos)
{
	char *p = buf;
	ssize_t i;

	for (i = 0; i < len; i++)
		p[i] = pattern_byte(seed, pos + i);
}

/* How many bytes at @buf, of @len, are the pattern from position @pos on. */
static inline ssize_t match_pattern(const void *buf, ssize_t len,
				    unsigned int seed, loff_t pos)
{
	const char *p = buf;
	ssize_t i;

	for (i = 0; i < len; i++)
		if (p[i] != pattern_byte(seed, pos + i))
			break;
	return i;
}

static inline void *alloc_pattern(struct __test_metadata *_metadata,
				  ssize_t len, unsigned int seed)
{
	void *buf = malloc(len);

	ASSERT_NE(NULL, buf);
	fill_pattern(buf, len, seed, 0);
	return buf;
}

/* Writes the pattern [@pos, @pos + @len); returns the bytes written. */
static inline ssize_t write_pattern(int fd, ssize_t len, unsigned int seed,
				    loff_t pos)
{
	char *buf = malloc(len);
	ssize_t ret = -ENOMEM;

	if (buf) {
		fill_pattern(buf, len, seed, pos);
		ret = write_full(fd, buf, len);
		free(buf);
	}
	return ret;
}

/*
 * Reads @len bytes and returns how many of them are the pattern from @pos on:
 * @len if all is well, less if the data is short or wrong, or an errno.
 */
static inline ssize_t read_pattern(int fd, ssize_t len, unsigned int seed,
				   loff_t pos)
{
	char *buf = malloc(len);
	ssize_t ret = -ENOMEM;

	if (buf) {
		ret = read_full(fd, buf, len);
		if (ret > 0)
			ret = match_pattern(buf, ret, seed, pos);
		free(buf);
	}
	return ret;
}

/* Bytes at @buf, of @len, before the first that is not @c. */
static inline ssize_t match_byte(const void *buf, ssize_t len, char c)
{
	const char *p = buf;
	ssize_t i;

	for (i = 0; i < len && p[i] == c; i++)
		;
	return i;
}

static inline ssize_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

static inline void make_pipe(struct __test_metadata *_metadata, int p[2])
{
	ASSERT_EQ(0, pipe(p));
}

static inline void make_fifo(struct __test_metadata *_metadata, int p[2])
{
	const char *top = getenv("SPLICE_TMPFS_DIR");
	char dir[PATH_MAX], path[PATH_MAX + 8];
	int rw;

	snprintf(dir, sizeof(dir), "%s/splice.XXXXXX", top ? top : "/tmp");
	ASSERT_NE(NULL, mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/fifo", dir);
	ASSERT_EQ(0, mkfifo(path, 0600));
	/* With both ends open, opening either one does not wait. */
	rw = open(path, O_RDWR);
	p[0] = open(path, O_RDONLY);
	p[1] = open(path, O_WRONLY);
	unlink(path);
	rmdir(dir);
	ASSERT_LE(0, rw);
	ASSERT_LE(0, p[0]);
	ASSERT_LE(0, p[1]);
	close(rw);
}

static inline void make_unix_pair(struct __test_metadata *_metadata, int sv[2])
{
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
}

/* A guest that nobody configured has its loopback interface down. */
static inline void bring_up_loopback(struct __test_metadata *_metadata, int fd)
{
	struct ifreq ifr = { .ifr_name = "lo" };

	ASSERT_EQ(0, ioctl(fd, SIOCGIFFLAGS, &ifr));
	if (ifr.ifr_flags & IFF_UP)
		return;
	ifr.ifr_flags |= IFF_UP;
	ASSERT_EQ(0, ioctl(fd, SIOCSIFFLAGS, &ifr));
}

static inline void make_tcp_pair(struct __test_metadata *_metadata, int sv[2])
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(addr);
	int listener, one = 1, i;

	listener = socket(AF_INET, SOCK_STREAM, 0);
	ASSERT_LE(0, listener);
	bring_up_loopback(_metadata, listener);
	ASSERT_EQ(0, bind(listener, (struct sockaddr *)&addr, len));
	ASSERT_EQ(0, getsockname(listener, (struct sockaddr *)&addr, &len));
	ASSERT_EQ(0, listen(listener, 1));

	sv[0] = socket(AF_INET, SOCK_STREAM, 0);
	ASSERT_LE(0, sv[0]);
	ASSERT_EQ(0, connect(sv[0], (struct sockaddr *)&addr, len));
	sv[1] = accept(listener, NULL, NULL);
	ASSERT_LE(0, sv[1]);
	close(listener);

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, setsockopt(sv[i], IPPROTO_TCP, TCP_NODELAY, &one,
					sizeof(one)));
}

/* Mounts made from here on are the test's own, and end with it. */
static inline bool private_mounts(void)
{
	return !unshare(CLONE_NEWNS) &&
	       !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* Opens what @fd refers to once more, with a file position of its own. */
static inline int reopen(struct __test_metadata *_metadata, int fd, int flags)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = open(path, flags);
	ASSERT_LE(0, ret);
	return ret;
}

/* A nameless file, open for reading and writing, that needs no clean-up. */
static inline int make_file(struct __test_metadata *_metadata, const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);

	ASSERT_LE(0, fd) {
		TH_LOG("%s: %s", dir, strerror(errno));
	}
	return fd;
}

/* A file with the pattern in it that expect_unreferenced() can be asked about. */
static inline int make_memfd(struct __test_metadata *_metadata, ssize_t len,
			     unsigned int seed)
{
	int fd = memfd_create("splice", MFD_ALLOW_SEALING);

	ASSERT_LE(0, fd);
	ASSERT_EQ(len, write_pattern(fd, len, seed, 0));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	return fd;
}

/*
 * Nobody but the file itself refers to its pages: otherwise it cannot be sealed.
 * TCP does until the other side has acknowledged the data.
 */
static inline void expect_unreferenced(struct __test_metadata *_metadata,
				       int memfd)
{
	int i;

	for (i = 0; i < 1000; i++) {
		if (!fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE))
			return;
		ASSERT_EQ(EBUSY, errno);
		usleep(10000);
	}
	EXPECT_TRUE(false) {
		TH_LOG("pages are still referred to");
	}
}

/* What can be at the far end of a splice. */
enum end_kind {
	END_EXT4,
	END_TMPFS,
	END_PIPE,
	END_FIFO,
	END_TCP,
	END_UNIX,
	END_NULL,
	END_ZERO,
};

/*
 * @fd is handed to the system call, and @peer is the other side of it: where
 * the test writes what is read from @fd, or reads what was written to it.
 */
struct end {
	int fd;
	int peer;
};

static inline bool end_is_file(enum end_kind kind)
{
	return kind == END_EXT4 || kind == END_TMPFS;
}

static inline bool end_is_pipe(enum end_kind kind)
{
	return kind == END_PIPE || kind == END_FIFO;
}

static inline bool end_is_socket(enum end_kind kind)
{
	return kind == END_TCP || kind == END_UNIX;
}

static inline bool end_is_stream(enum end_kind kind)
{
	return end_is_pipe(kind) || end_is_socket(kind);
}

static inline const char *end_variable(enum end_kind kind)
{
	return kind == END_EXT4 ? "SPLICE_EXT4_DIR" : "SPLICE_TMPFS_DIR";
}

/* The environment variable that would have to be set for @kind, or NULL. */
static inline const char *end_missing(enum end_kind kind)
{
	if (!end_is_file(kind) || getenv(end_variable(kind)))
		return NULL;
	return end_variable(kind);
}

/* The directory for files of @kind; it must be on that file system. */
static inline const char *end_dir(struct __test_metadata *_metadata,
				  enum end_kind kind)
{
	const char *dir = getenv(end_variable(kind));
	struct statfs st;

	ASSERT_NE(NULL, dir);
	ASSERT_EQ(0, statfs(dir, &st));
	ASSERT_EQ(kind == END_EXT4 ? EXT4_SUPER_MAGIC : TMPFS_MAGIC,
		  st.f_type) {
		TH_LOG("%s is not on %s", dir,
		       kind == END_EXT4 ? "ext4" : "tmpfs");
	}
	return dir;
}

static inline void end_open(struct __test_metadata *_metadata,
			    enum end_kind kind, bool source, struct end *end)
{
	int pair[2], file;

	switch (kind) {
	case END_EXT4:
	case END_TMPFS:
		file = make_file(_metadata, end_dir(_metadata, kind));
		end->fd = reopen(_metadata, file, source ? O_RDONLY : O_WRONLY);
		end->peer = reopen(_metadata, file,
				   source ? O_WRONLY : O_RDONLY);
		close(file);
		return;
	case END_PIPE:
	case END_FIFO:
		if (kind == END_PIPE)
			make_pipe(_metadata, pair);
		else
			make_fifo(_metadata, pair);
		end->fd = pair[source ? 0 : 1];
		end->peer = pair[source ? 1 : 0];
		return;
	case END_TCP:
	case END_UNIX:
		if (kind == END_TCP)
			make_tcp_pair(_metadata, pair);
		else
			make_unix_pair(_metadata, pair);
		end->fd = pair[0];
		end->peer = pair[1];
		return;
	case END_NULL:
		end->fd = open("/dev/null", source ? O_RDONLY : O_WRONLY);
		break;
	case END_ZERO:
		end->fd = open("/dev/zero", source ? O_RDONLY : O_WRONLY);
		break;
	}
	ASSERT_LE(0, end->fd);
	end->peer = -1;
}

static inline ssize_t pipe_bytes(int fd)
{
	int n;

	return ioctl(fd, FIONREAD, &n) ? -errno : n;
}

static inline ssize_t pipe_capacity(int fd)
{
	return or_errno(fcntl(fd, F_GETPIPE_SZ));
}

static inline void set_nonblock(struct __test_metadata *_metadata, int fd,
				bool on)
{
	int flags = fcntl(fd, F_GETFL);

	ASSERT_LE(0, flags);
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	ASSERT_EQ(0, fcntl(fd, F_SETFL, flags));
}

/* Fills a pipe to its last byte with the pattern; returns its capacity. */
static inline ssize_t fill_pipe(struct __test_metadata *_metadata, int wfd,
				unsigned int seed)
{
	ssize_t capacity = pipe_capacity(wfd);

	ASSERT_LT(0, capacity);
	ASSERT_EQ(0, pipe_bytes(wfd));
	ASSERT_EQ(capacity, write_pattern(wfd, capacity, seed, 0));
	return capacity;
}

/* What poll() says of @fd, without waiting. */
static inline int poll_now(int fd, int events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, 0) < 0 ? -errno : pfd.revents;
}

/* Signals seen, by number; see catch_signal(). */
static int signals_seen[_NSIG];

static inline void note_signal(int sig)
{
	__atomic_fetch_add(&signals_seen[sig], 1, __ATOMIC_SEQ_CST);
}

static inline int signal_count(int sig)
{
	return __atomic_load_n(&signals_seen[sig], __ATOMIC_SEQ_CST);
}

/* Counts @sig from now on, starting at 0; @flags as for sigaction(). */
static inline void catch_signal(struct __test_metadata *_metadata, int sig,
				int flags)
{
	struct sigaction sa = { .sa_handler = note_signal, .sa_flags = flags };

	signals_seen[sig] = 0;
	ASSERT_EQ(0, sigaction(sig, &sa, NULL));
}

/*
 * A system call made by a thread of its own. With @full, which is for read()
 * and write() only, it is repeated until all was transferred. With @rounds it
 * is made that often, and the result is the sum, to which EAGAIN adds nothing.
 */
struct job {
	long nr;
	long arg[6];
	bool full;
	int rounds;
	ssize_t ret;
	int tid;
	pthread_t thread;
};

static inline ssize_t job_call(const struct job *job)
{
	return or_errno(syscall(job->nr, job->arg[0], job->arg[1], job->arg[2],
				job->arg[3], job->arg[4], job->arg[5]));
}

/* One event for one descriptor, which has to stay. */
static inline struct job job_poll(struct pollfd *pfd)
{
	return (struct job) { .nr = SYS_ppoll, .arg = { (long)pfd, 1 } };
}

static inline ssize_t job_rounds(const struct job *job)
{
	ssize_t sum = 0, ret;
	int i;

	for (i = 0; i < job->rounds; i++) {
		ret = job_call(job);
		if (ret < 0 && ret != -EAGAIN)
			return ret;
		if (ret > 0)
			sum += ret;
	}
	return sum;
}

static inline void *job_run(void *data)
{
	struct job *job = data;

	__atomic_store_n(&job->tid, syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	if (job->full && job->nr == SYS_read)
		job->ret = read_full(job->arg[0], (void *)job->arg[1],
				     job->arg[2]);
	else if (job->full)
		job->ret = write_full(job->arg[0], (void *)job->arg[1],
				      job->arg[2]);
	else if (job->rounds)
		job->ret = job_rounds(job);
	else
		job->ret = job_call(job);
	return NULL;
}

static inline void job_start(struct __test_metadata *_metadata,
			     struct job *job)
{
	job->tid = 0;
	ASSERT_EQ(0, pthread_create(&job->thread, NULL, job_run, job));
}

/* The state of a thread or process inside its system call, or 0 elsewhere. */
static inline char task_state(int tid, long nr)
{
	char path[64], line[512], *p;
	long current_nr = -1;
	char state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	f = fopen(path, "r");
	if (f) {
		if (fgets(line, sizeof(line), f) && isdigit(line[0]))
			current_nr = atol(line);
		fclose(f);
	}
	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	f = fopen(path, "r");
	if (f) {
		p = fgets(line, sizeof(line), f);
		p = p ? strrchr(p, ')') : NULL;
		if (p)
			state = p[2];
		fclose(f);
	}
	return current_nr == nr ? state : 0;
}

/* Is it asleep, interruptibly, inside its system call? */
static inline bool task_blocked(int tid, long nr)
{
	return task_state(tid, nr) == 'S';
}

/* Waits until @job sleeps in its system call; the harness limits the wait. */
static inline void job_wait_blocked(struct job *job)
{
	int tid;

	while (!(tid = __atomic_load_n(&job->tid, __ATOMIC_SEQ_CST)) ||
	       !task_blocked(tid, job->nr))
		usleep(1000);
}

/* The same for a lock that it needs, where no signal interrupts it. */
static inline void job_wait_locked(struct job *job)
{
	int tid;

	while (!(tid = __atomic_load_n(&job->tid, __ATOMIC_SEQ_CST)) ||
	       task_state(tid, job->nr) != 'D')
		usleep(1000);
}

/* Makes the job's system call in a process of its own, which then ends. */
static inline pid_t job_fork(struct __test_metadata *_metadata,
			     const struct job *job)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		job_call(job);
		_exit(0);
	}
	return pid;
}

/* Sends @sig to @job and waits until its handler has run. */
static inline void job_signal(struct __test_metadata *_metadata,
			      struct job *job, int sig)
{
	int before = signal_count(sig);

	ASSERT_EQ(0, pthread_kill(job->thread, sig));
	while (signal_count(sig) == before)
		usleep(1000);
}

static inline ssize_t job_finish(struct __test_metadata *_metadata,
				 struct job *job)
{
	ASSERT_EQ(0, pthread_join(job->thread, NULL));
	return job->ret;
}

/* Starts @job, interrupts it once it waits, and returns its result. */
static inline ssize_t job_interrupt(struct __test_metadata *_metadata,
				    struct job *job)
{
	catch_signal(_metadata, SIGUSR1, 0);
	job_start(_metadata, job);
	job_wait_blocked(job);
	job_signal(_metadata, job, SIGUSR1);
	return job_finish(_metadata, job);
}

/* Starts @job, and has it restarted by a signal; it waits when this returns. */
static inline void job_restart(struct __test_metadata *_metadata,
			       struct job *job)
{
	catch_signal(_metadata, SIGUSR1, SA_RESTART);
	job_start(_metadata, job);
	job_wait_blocked(job);
	job_signal(_metadata, job, SIGUSR1);
	job_wait_blocked(job);
}

/* Makes the job's system call in a process, and waits until it waits. */
static inline pid_t job_fork_waiting(struct __test_metadata *_metadata,
				     const struct job *job)
{
	pid_t pid = job_fork(_metadata, job);

	while (!task_blocked(pid, job->nr))
		usleep(1000);
	return pid;
}

static inline void expect_killed(struct __test_metadata *_metadata, pid_t pid)
{
	int status;

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, status);
}

static inline void kill_waiting(struct __test_metadata *_metadata, pid_t pid)
{
	ASSERT_EQ(0, kill(pid, SIGKILL));
	expect_killed(_metadata, pid);
}

/* Writes all of @buf to @fd in the background. */
static inline struct job job_writer(int fd, const void *buf, ssize_t len)
{
	return (struct job) {
		.nr = SYS_write, .arg = { fd, (long)buf, len }, .full = true,
	};
}

/* Reads @len bytes, or up to the end, from @fd in the background. */
static inline struct job job_reader(int fd, void *buf, ssize_t len)
{
	return (struct job) {
		.nr = SYS_read, .arg = { fd, (long)buf, len }, .full = true,
	};
}

static inline struct job job_splice(int in, int out, ssize_t len)
{
	return (struct job) {
		.nr = SYS_splice, .arg = { in, 0, out, 0, len, 0 },
	};
}

static inline struct job job_tee(int in, int out, ssize_t len)
{
	return (struct job) {
		.nr = SYS_tee, .arg = { in, out, len, 0 },
	};
}

/* One iovec, which has to stay. */
static inline struct job job_vmsplice(int fd, const struct iovec *iov)
{
	return (struct job) {
		.nr = SYS_vmsplice, .arg = { fd, (long)iov, 1, 0 },
	};
}

/* At the source's own position. */
static inline struct job job_sendfile(int out, int in, ssize_t count)
{
	return (struct job) {
		.nr = SYS_sendfile, .arg = { out, in, 0, count },
	};
}

/* Reads a small file, as text; returns the bytes, or the negated errno. */
static inline ssize_t read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t ret;

	if (fd < 0)
		return -errno;
	ret = xread(fd, buf, size - 1);
	if (ret >= 0)
		buf[ret] = 0;
	close(fd);
	return ret;
}

static inline ssize_t write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t ret;

	if (fd < 0)
		return -errno;
	ret = xwrite(fd, text, strlen(text));
	close(fd);
	return ret;
}

#define COUNTERS "/sys/kernel/debug/splice/counters"

/* The number behind @name in a file of such lines, or the negated errno. */
static inline ssize_t read_line_of(const char *path, const char *name)
{
	ssize_t ret = -ENOENT, value;
	char line[256], key[96];
	FILE *f = fopen(path, "r");

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%95s %zd", key, &value) == 2 &&
		    !strcmp(key, name))
			ret = value;
	fclose(f);
	return ret;
}

static inline bool have_counters(void)
{
	if (access(COUNTERS, F_OK))
		mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	return !access(COUNTERS, F_OK);
}

/* Of the counters, where there are any. */
static inline ssize_t read_counter(const char *name)
{
	return read_line_of(COUNTERS, name);
}

#endif /* SPLICE_COMMON_H */
