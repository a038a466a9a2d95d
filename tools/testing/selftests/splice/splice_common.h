/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers shared by the splice, tee, vmsplice and sendfile tests.
 * splice_common.c is linked to every test program.
 *
 * The x*() wrappers make the raw system call and return its result, or the
 * negated errno, so that one comparison checks both. Sizes are signed for the
 * same reason.
 *
 * Test data is a pattern that depends on a seed and on the position in the
 * stream, so each piece of it can be checked on its own, wherever it arrives.
 */
#ifndef SPLICE_COMMON_H
#define SPLICE_COMMON_H

#include "kselftest_harness.h"

/*
 * The time limit in seconds of a test that has none of its own. It ends tests
 * that hang; a test that takes a second may take fifty on a debug kernel that
 * is emulated on a busy machine.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 120

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

/* Reports a known failure of this kernel, and runs @statement. */
#define XFAIL(statement, fmt, ...) do { \
	snprintf(_metadata->results->reason, \
		 sizeof(_metadata->results->reason), fmt, ##__VA_ARGS__); \
	_metadata->exit_code = KSFT_XFAIL; \
	_metadata->trigger = 0; \
	statement; \
} while (0)

#define ARRAY_LEN(a) ((int)(sizeof(a) / sizeof((a)[0])))

/*
 * System calls
 */

/* Returns @ret, or the negated errno if @ret is negative. */
ssize_t or_errno(long ret);

ssize_t xsplice(int in, loff_t *off_in, int out, loff_t *off_out, size_t len,
		unsigned int flags);
ssize_t xtee(int in, int out, size_t len, unsigned int flags);
ssize_t xvmsplice(int fd, const struct iovec *iov, unsigned long nr,
		  unsigned int flags);

/* vmsplice() of a single range. */
ssize_t xvmsplice1(int fd, const void *buf, size_t len, unsigned int flags);

ssize_t xsendfile(int out, int in, loff_t *off, size_t count);
ssize_t xcopy_file_range(int in, loff_t *off_in, int out, loff_t *off_out,
			 size_t len, unsigned int flags);
ssize_t xread(int fd, void *buf, size_t len);
ssize_t xwrite(int fd, const void *buf, size_t len);

/*
 * These repeat the call until @len bytes are transferred, a call returns 0, or
 * a call fails. They return the number of bytes transferred, or the negated
 * errno if the first call failed. splice_full() uses the position of each file.
 */
ssize_t read_full(int fd, void *buf, ssize_t len);
ssize_t write_full(int fd, const void *buf, ssize_t len);
ssize_t splice_full(int in, int out, ssize_t len);

/*
 * The pattern
 */

char pattern_byte(unsigned int seed, loff_t pos);
void fill_pattern(void *buf, ssize_t len, unsigned int seed, loff_t pos);

/* Returns how many of the @len bytes at @buf match the pattern from @pos on. */
ssize_t match_pattern(const void *buf, ssize_t len, unsigned int seed,
		      loff_t pos);

/* Allocates @len bytes that contain the pattern from position 0 on. */
void *alloc_pattern(struct __test_metadata *_metadata, ssize_t len,
		    unsigned int seed);

/* Writes the pattern [@pos, @pos + @len); returns the bytes written. */
ssize_t write_pattern(int fd, ssize_t len, unsigned int seed, loff_t pos);

/*
 * Reads @len bytes and returns how many of them match the pattern from @pos on:
 * less than @len if the data is short or wrong, or a negated errno.
 */
ssize_t read_pattern(int fd, ssize_t len, unsigned int seed, loff_t pos);

/*
 * Takes @len bytes from @fd, by way of a pipe. Returns how many of them match the
 * pattern from @pos on, or the negated errno of the first call.
 */
ssize_t receive_pattern(int fd, ssize_t len, unsigned int seed, loff_t pos);

/* Returns the number of bytes before the first one that differs from @c. */
ssize_t match_byte(const void *buf, ssize_t len, char c);

/*
 * Files, pipes and sockets
 */

ssize_t page_size(void);
void make_pipe(struct __test_metadata *_metadata, int p[2]);
void make_fifo(struct __test_metadata *_metadata, int p[2]);
void make_unix_pair(struct __test_metadata *_metadata, int sv[2]);

/* Sets the loopback interface up. A minimal guest boots with it down. */
void bring_up_loopback(struct __test_metadata *_metadata, int fd);

void make_tcp_pair(struct __test_metadata *_metadata, int sv[2]);

/*
 * Enters a new mount namespace, so that later mounts end with the test. Returns
 * false if this is not permitted.
 */
bool private_mounts(void);

/* Opens the file of @fd again, with a file position of its own. */
int reopen(struct __test_metadata *_metadata, int fd, int flags);

/* Creates a file without a name in @dir, open for reading and writing. */
int make_file(struct __test_metadata *_metadata, const char *dir);

/* Creates a memfd with the pattern in it, for expect_unreferenced(). */
int make_memfd(struct __test_metadata *_metadata, ssize_t len,
	       unsigned int seed);

/*
 * Expects that only the page cache refers to the pages of @memfd: F_SEAL_WRITE
 * fails otherwise. Waits up to ten seconds, because TCP keeps its references
 * until the peer has acknowledged the data.
 */
void expect_unreferenced(struct __test_metadata *_metadata, int memfd);

ssize_t pipe_bytes(int fd);
ssize_t pipe_capacity(int fd);
void set_nonblock(struct __test_metadata *_metadata, int fd, bool on);

/* Fills a pipe to its last byte with the pattern; returns its capacity. */
ssize_t fill_pipe(struct __test_metadata *_metadata, int wfd,
		  unsigned int seed);

/*
 * Writes the pattern until @fd, a socket or a terminal, takes no more; returns how
 * much it took. TCP moves data to the receiver meanwhile, so it is full only if it
 * takes nothing for a while.
 */
ssize_t fill_socket(struct __test_metadata *_metadata, int fd,
		    unsigned int seed);

/* Returns the events that poll() reports for @fd without waiting. */
int poll_now(int fd, int events);

/*
 * Source or sink of a splice, one of each kind
 */

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
 * @fd is passed to the system call under test. The test writes to @peer the
 * data that is read from @fd, or reads from @peer the data written to @fd.
 */
struct end {
	int fd;
	int peer;
};

bool end_is_file(enum end_kind kind);
bool end_is_pipe(enum end_kind kind);
bool end_is_socket(enum end_kind kind);
bool end_is_stream(enum end_kind kind);

/* Returns the environment variable that @kind needs if it is not set, or NULL. */
const char *end_missing(enum end_kind kind);

/* Returns the directory for files of @kind. It is on that file system. */
const char *end_dir(struct __test_metadata *_metadata, enum end_kind kind);

void end_open(struct __test_metadata *_metadata, enum end_kind kind,
	      bool source, struct end *end);

/*
 * Signals
 */

/* Counts signal @sig from now on, starting at 0; @flags as for sigaction(). */
void catch_signal(struct __test_metadata *_metadata, int sig, int flags);

/* Returns how often signal @sig arrived since catch_signal(). */
int signal_count(int sig);

/*
 * System calls in other threads
 */

/*
 * A system call that a new thread makes. With @full, for read() and write()
 * only, it is repeated until all bytes are transferred. With @rounds it is
 * repeated that often, and the result is the sum; EAGAIN adds nothing to it.
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

/* Writes all of @buf to @fd. */
struct job job_writer(int fd, const void *buf, ssize_t len);

/* Reads from @fd until @len bytes or the end of file. */
struct job job_reader(int fd, void *buf, ssize_t len);

struct job job_splice(int in, int out, ssize_t len);
struct job job_tee(int in, int out, ssize_t len);

/* vmsplice() of one iovec. @iov must stay valid until the job is done. */
struct job job_vmsplice(int fd, const struct iovec *iov);

/* sendfile() from the file position of @in. */
struct job job_sendfile(int out, int in, ssize_t count);

/* poll() for one descriptor. @pfd must stay valid until the job is done. */
struct job job_poll(struct pollfd *pfd);

/* Makes the system call in the calling thread. */
ssize_t job_call(const struct job *job);

void job_start(struct __test_metadata *_metadata, struct job *job);
ssize_t job_finish(struct __test_metadata *_metadata, struct job *job);

/* Waits until @job sleeps in its system call; the harness limits the wait. */
void job_wait_blocked(struct job *job);

/*
 * Waits until @job sleeps uninterruptibly in its system call, that is, waits
 * for a lock.
 */
void job_wait_locked(struct job *job);

/* Sends @sig to @job and waits until its handler has run. */
void job_signal(struct __test_metadata *_metadata, struct job *job, int sig);

/* Starts @job, interrupts it when it sleeps, and returns its result. */
ssize_t job_interrupt(struct __test_metadata *_metadata, struct job *job);

/*
 * Starts @job and interrupts it by a signal after which the kernel restarts the
 * call. Returns when @job sleeps again.
 */
void job_restart(struct __test_metadata *_metadata, struct job *job);

/* Makes the system call in a child process, which then exits. */
pid_t job_fork(struct __test_metadata *_metadata, const struct job *job);

/* The same; returns when the child sleeps in the call. */
pid_t job_fork_waiting(struct __test_metadata *_metadata,
		       const struct job *job);

/* Whether a thread or process sleeps interruptibly in system call @nr. */
bool task_blocked(int tid, long nr);

/* Waits for child @pid and expects that SIGKILL has ended it. */
void expect_killed(struct __test_metadata *_metadata, pid_t pid);

/* Sends SIGKILL to child @pid first. */
void kill_waiting(struct __test_metadata *_metadata, pid_t pid);

/*
 * A page whose fault waits until the test resolves it. read() of a pipe into it
 * waits with the pipe locked.
 */
struct stuck {
	int fd;
	char *mem;
};

/* Returns a negated errno if the kernel does not support this. */
int stuck_map(struct stuck *s);

/* Waits until a task waits for the page. */
void stuck_wait(struct __test_metadata *_metadata, struct stuck *s);

/* Provides the page. */
void stuck_resolve(struct __test_metadata *_metadata, struct stuck *s);

/*
 * procfs, sysfs and debugfs
 */

/* Reads a small text file; returns the bytes read, or the negated errno. */
ssize_t read_text(const char *path, char *buf, size_t size);

ssize_t write_text(const char *path, const char *text);

/*
 * Returns the number after @name in a file of lines "NAME NUMBER", or a negated
 * errno.
 */
ssize_t read_line_of(const char *path, const char *name);

/* The counters of CONFIG_RUST_SPLICE. */
#define COUNTERS "/sys/kernel/debug/splice/counters"

/* Which consumers get references, and which get copies. */
#define ZEROCOPY "/proc/sys/fs/splice_zerocopy"

/* Whether the kernel has the counters. Mounts debugfs if necessary. */
bool have_counters(void);

/* Returns a counter, or the negated errno if the kernel does not have it. */
ssize_t read_counter(const char *name);

#endif /* SPLICE_COMMON_H */
