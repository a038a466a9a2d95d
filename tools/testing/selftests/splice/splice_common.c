// SPDX-License-Identifier: GPL-2.0
/*
 * Helpers shared by the splice, tee, vmsplice and sendfile tests. The
 * documentation of each function is in splice_common.h.
 */

/*
 * kselftest_harness.h is written for programs of a single file. Only its
 * assertions are used here: rename the variable that it defines, and allow that
 * the functions that run tests are unused.
 */
#define _fixture_global splice_common_fixture_global
#pragma GCC diagnostic ignored "-Wunused-function"

#include "splice_common.h"

#include <linux/userfaultfd.h>

ssize_t or_errno(long ret)
{
	return ret < 0 ? -errno : ret;
}

ssize_t xsplice(int in, loff_t *off_in, int out, loff_t *off_out, size_t len,
		unsigned int flags)
{
	return or_errno(syscall(SYS_splice, in, off_in, out, off_out, len,
				flags));
}

ssize_t xtee(int in, int out, size_t len, unsigned int flags)
{
	return or_errno(syscall(SYS_tee, in, out, len, flags));
}

ssize_t xvmsplice(int fd, const struct iovec *iov, unsigned long nr,
		  unsigned int flags)
{
	return or_errno(syscall(SYS_vmsplice, fd, iov, nr, flags));
}

ssize_t xvmsplice1(int fd, const void *buf, size_t len, unsigned int flags)
{
	struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };

	return xvmsplice(fd, &iov, 1, flags);
}

ssize_t xsendfile(int out, int in, loff_t *off, size_t count)
{
	return or_errno(syscall(SYS_sendfile, out, in, off, count));
}

ssize_t xcopy_file_range(int in, loff_t *off_in, int out, loff_t *off_out,
			 size_t len, unsigned int flags)
{
	return or_errno(syscall(SYS_copy_file_range, in, off_in, out, off_out,
				len, flags));
}

ssize_t xread(int fd, void *buf, size_t len)
{
	return or_errno(read(fd, buf, len));
}

ssize_t xwrite(int fd, const void *buf, size_t len)
{
	return or_errno(write(fd, buf, len));
}

ssize_t read_full(int fd, void *buf, ssize_t len)
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

ssize_t write_full(int fd, const void *buf, ssize_t len)
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

ssize_t splice_full(int in, int out, ssize_t len)
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

char pattern_byte(unsigned int seed, loff_t pos)
{
	unsigned int x = seed * 2654435761u + (unsigned int)pos;

	x ^= x >> 15;
	x *= 0x2c1b3c6du;
	x ^= x >> 12;
	return x;
}

void fill_pattern(void *buf, ssize_t len, unsigned int seed, loff_t pos)
{
	char *p = buf;
	ssize_t i;

	for (i = 0; i < len; i++)
		p[i] = pattern_byte(seed, pos + i);
}

ssize_t match_pattern(const void *buf, ssize_t len, unsigned int seed,
		      loff_t pos)
{
	const char *p = buf;
	ssize_t i;

	for (i = 0; i < len; i++)
		if (p[i] != pattern_byte(seed, pos + i))
			break;
	return i;
}

void *alloc_pattern(struct __test_metadata *_metadata, ssize_t len,
		    unsigned int seed)
{
	void *buf = malloc(len);

	ASSERT_NE(NULL, buf);
	fill_pattern(buf, len, seed, 0);
	return buf;
}

ssize_t write_pattern(int fd, ssize_t len, unsigned int seed, loff_t pos)
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

ssize_t read_pattern(int fd, ssize_t len, unsigned int seed, loff_t pos)
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

ssize_t receive_pattern(int fd, ssize_t len, unsigned int seed, loff_t pos)
{
	ssize_t done = 0, ret = 0, good;
	int p[2];

	if (pipe(p))
		return -errno;
	while (done < len) {
		ret = xsplice(fd, NULL, p[1], NULL, len - done, 0);
		if (ret <= 0)
			break;
		good = read_pattern(p[0], ret, seed, pos + done);
		if (good > 0)
			done += good;
		if (good != ret)
			break;
	}
	close(p[0]);
	close(p[1]);
	return done ? done : ret;
}

ssize_t match_byte(const void *buf, ssize_t len, char c)
{
	const char *p = buf;
	ssize_t i;

	for (i = 0; i < len && p[i] == c; i++)
		;
	return i;
}

ssize_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

void make_pipe(struct __test_metadata *_metadata, int p[2])
{
	ASSERT_EQ(0, pipe(p));
}

void make_fifo(struct __test_metadata *_metadata, int p[2])
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

void make_unix_pair(struct __test_metadata *_metadata, int sv[2])
{
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
}

void bring_up_loopback(struct __test_metadata *_metadata, int fd)
{
	struct ifreq ifr = { .ifr_name = "lo" };

	ASSERT_EQ(0, ioctl(fd, SIOCGIFFLAGS, &ifr));
	if (ifr.ifr_flags & IFF_UP)
		return;
	ifr.ifr_flags |= IFF_UP;
	ASSERT_EQ(0, ioctl(fd, SIOCSIFFLAGS, &ifr));
}

void make_tcp_pair(struct __test_metadata *_metadata, int sv[2])
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

bool private_mounts(void)
{
	return !unshare(CLONE_NEWNS) &&
	       !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

int reopen(struct __test_metadata *_metadata, int fd, int flags)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = open(path, flags);
	ASSERT_LE(0, ret);
	return ret;
}

int make_file(struct __test_metadata *_metadata, const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR, 0600);

	ASSERT_LE(0, fd) {
		TH_LOG("%s: %s", dir, strerror(errno));
	}
	return fd;
}

int make_memfd(struct __test_metadata *_metadata, ssize_t len,
	       unsigned int seed)
{
	int fd = memfd_create("splice", MFD_ALLOW_SEALING);

	ASSERT_LE(0, fd);
	ASSERT_EQ(len, write_pattern(fd, len, seed, 0));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	return fd;
}

void expect_unreferenced(struct __test_metadata *_metadata, int memfd)
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

bool end_is_file(enum end_kind kind)
{
	return kind == END_EXT4 || kind == END_TMPFS;
}

bool end_is_pipe(enum end_kind kind)
{
	return kind == END_PIPE || kind == END_FIFO;
}

bool end_is_socket(enum end_kind kind)
{
	return kind == END_TCP || kind == END_UNIX;
}

bool end_is_stream(enum end_kind kind)
{
	return end_is_pipe(kind) || end_is_socket(kind);
}

static const char *end_variable(enum end_kind kind)
{
	return kind == END_EXT4 ? "SPLICE_EXT4_DIR" : "SPLICE_TMPFS_DIR";
}

const char *end_missing(enum end_kind kind)
{
	if (!end_is_file(kind) || getenv(end_variable(kind)))
		return NULL;
	return end_variable(kind);
}

const char *end_dir(struct __test_metadata *_metadata, enum end_kind kind)
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

void end_open(struct __test_metadata *_metadata, enum end_kind kind,
	      bool source, struct end *end)
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

ssize_t pipe_bytes(int fd)
{
	int n;

	return ioctl(fd, FIONREAD, &n) ? -errno : n;
}

ssize_t pipe_capacity(int fd)
{
	return or_errno(fcntl(fd, F_GETPIPE_SZ));
}

void set_nonblock(struct __test_metadata *_metadata, int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	ASSERT_LE(0, flags);
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	ASSERT_EQ(0, fcntl(fd, F_SETFL, flags));
}

ssize_t fill_pipe(struct __test_metadata *_metadata, int wfd, unsigned int seed)
{
	ssize_t capacity = pipe_capacity(wfd);

	ASSERT_LT(0, capacity);
	ASSERT_EQ(0, pipe_bytes(wfd));
	ASSERT_EQ(capacity, write_pattern(wfd, capacity, seed, 0));
	return capacity;
}

ssize_t fill_socket(struct __test_metadata *_metadata, int fd,
		    unsigned int seed)
{
	ssize_t sum = 0, ret;
	int idle;

	set_nonblock(_metadata, fd, true);
	for (idle = 0; idle < 40; idle++) {
		while ((ret = write_pattern(fd, 1000, seed, sum)) > 0) {
			sum += ret;
			idle = 0;
		}
		ASSERT_EQ(-EAGAIN, ret);
		usleep(10000);
	}
	set_nonblock(_metadata, fd, false);
	return sum;
}

int poll_now(int fd, int events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, 0) < 0 ? -errno : pfd.revents;
}

/* The number of signals since catch_signal(), by signal number. */
static int signals_seen[_NSIG];

static void note_signal(int sig)
{
	__atomic_fetch_add(&signals_seen[sig], 1, __ATOMIC_SEQ_CST);
}

int signal_count(int sig)
{
	return __atomic_load_n(&signals_seen[sig], __ATOMIC_SEQ_CST);
}

void catch_signal(struct __test_metadata *_metadata, int sig, int flags)
{
	struct sigaction sa = { .sa_handler = note_signal, .sa_flags = flags };

	signals_seen[sig] = 0;
	ASSERT_EQ(0, sigaction(sig, &sa, NULL));
}

ssize_t job_call(const struct job *job)
{
	return or_errno(syscall(job->nr, job->arg[0], job->arg[1], job->arg[2],
				job->arg[3], job->arg[4], job->arg[5]));
}

struct job job_poll(struct pollfd *pfd)
{
	return (struct job) { .nr = SYS_ppoll, .arg = { (long)pfd, 1 } };
}

static ssize_t job_rounds(const struct job *job)
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

static void *job_run(void *data)
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

void job_start(struct __test_metadata *_metadata, struct job *job)
{
	job->tid = 0;
	ASSERT_EQ(0, pthread_create(&job->thread, NULL, job_run, job));
}

/* Returns the state of a task that is in system call @nr, or 0 if it is not. */
static char task_state(int tid, long nr)
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

bool task_blocked(int tid, long nr)
{
	return task_state(tid, nr) == 'S';
}

void job_wait_blocked(struct job *job)
{
	int tid;

	while (!(tid = __atomic_load_n(&job->tid, __ATOMIC_SEQ_CST)) ||
	       !task_blocked(tid, job->nr))
		usleep(1000);
}

void job_wait_locked(struct job *job)
{
	int tid;

	while (!(tid = __atomic_load_n(&job->tid, __ATOMIC_SEQ_CST)) ||
	       task_state(tid, job->nr) != 'D')
		usleep(1000);
}

pid_t job_fork(struct __test_metadata *_metadata, const struct job *job)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid) {
		job_call(job);
		_exit(0);
	}
	return pid;
}

void job_signal(struct __test_metadata *_metadata, struct job *job, int sig)
{
	int before = signal_count(sig);

	ASSERT_EQ(0, pthread_kill(job->thread, sig));
	while (signal_count(sig) == before)
		usleep(1000);
}

ssize_t job_finish(struct __test_metadata *_metadata, struct job *job)
{
	ASSERT_EQ(0, pthread_join(job->thread, NULL));
	return job->ret;
}

ssize_t job_interrupt(struct __test_metadata *_metadata, struct job *job)
{
	catch_signal(_metadata, SIGUSR1, 0);
	job_start(_metadata, job);
	job_wait_blocked(job);
	job_signal(_metadata, job, SIGUSR1);
	return job_finish(_metadata, job);
}

void job_restart(struct __test_metadata *_metadata, struct job *job)
{
	catch_signal(_metadata, SIGUSR1, SA_RESTART);
	job_start(_metadata, job);
	job_wait_blocked(job);
	job_signal(_metadata, job, SIGUSR1);
	job_wait_blocked(job);
}

pid_t job_fork_waiting(struct __test_metadata *_metadata, const struct job *job)
{
	pid_t pid = job_fork(_metadata, job);

	while (!task_blocked(pid, job->nr))
		usleep(1000);
	return pid;
}

void expect_killed(struct __test_metadata *_metadata, pid_t pid)
{
	int status;

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, status);
}

void kill_waiting(struct __test_metadata *_metadata, pid_t pid)
{
	ASSERT_EQ(0, kill(pid, SIGKILL));
	expect_killed(_metadata, pid);
}

struct job job_writer(int fd, const void *buf, ssize_t len)
{
	return (struct job) {
		.nr = SYS_write, .arg = { fd, (long)buf, len }, .full = true,
	};
}

struct job job_reader(int fd, void *buf, ssize_t len)
{
	return (struct job) {
		.nr = SYS_read, .arg = { fd, (long)buf, len }, .full = true,
	};
}

struct job job_splice(int in, int out, ssize_t len)
{
	return (struct job) {
		.nr = SYS_splice, .arg = { in, 0, out, 0, len, 0 },
	};
}

struct job job_tee(int in, int out, ssize_t len)
{
	return (struct job) {
		.nr = SYS_tee, .arg = { in, out, len, 0 },
	};
}

struct job job_vmsplice(int fd, const struct iovec *iov)
{
	return (struct job) {
		.nr = SYS_vmsplice, .arg = { fd, (long)iov, 1, 0 },
	};
}

struct job job_sendfile(int out, int in, ssize_t count)
{
	return (struct job) {
		.nr = SYS_sendfile, .arg = { out, in, 0, count },
	};
}

int stuck_map(struct stuck *s)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	s->mem = mmap(NULL, page_size(), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->mem == MAP_FAILED)
		return -errno;
	s->fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (s->fd < 0)
		return -errno;
	reg.range.start = (unsigned long)s->mem;
	reg.range.len = page_size();
	if (ioctl(s->fd, UFFDIO_API, &api) ||
	    ioctl(s->fd, UFFDIO_REGISTER, &reg))
		return -errno;
	return 0;
}

void stuck_wait(struct __test_metadata *_metadata, struct stuck *s)
{
	struct uffd_msg msg;

	ASSERT_EQ((ssize_t)sizeof(msg), xread(s->fd, &msg, sizeof(msg)));
	ASSERT_EQ(UFFD_EVENT_PAGEFAULT, msg.event);
}

void stuck_resolve(struct __test_metadata *_metadata, struct stuck *s)
{
	struct uffdio_zeropage zero = {
		.range = { (unsigned long)s->mem, page_size() },
	};

	ASSERT_EQ(0, ioctl(s->fd, UFFDIO_ZEROPAGE, &zero));
}

ssize_t read_text(const char *path, char *buf, size_t size)
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

ssize_t write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t ret;

	if (fd < 0)
		return -errno;
	ret = xwrite(fd, text, strlen(text));
	close(fd);
	return ret;
}

ssize_t read_line_of(const char *path, const char *name)
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

bool have_counters(void)
{
	if (access(COUNTERS, F_OK))
		mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	return !access(COUNTERS, F_OK);
}

ssize_t read_counter(const char *name)
{
	return read_line_of(COUNTERS, name);
}
