/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers for the tests of drivers that splice. */
#ifndef DEVICE_COMMON_H
#define DEVICE_COMMON_H

#include "splice_common.h"

/* Whether /dev/@node exists, after its module is loaded if necessary. */
static inline bool have_node(const char *node, const char *module)
{
	char path[64], command[128];

	snprintf(path, sizeof(path), "/dev/%s", node);
	if (!access(path, F_OK))
		return true;
	snprintf(command, sizeof(command), "modprobe %s 2>/dev/null", module);
	return !system(command) && !access(path, F_OK);
}

/* Returns the reason why @module cannot be unloaded and reloaded, or NULL. */
static inline const char *module_is_fixed(const char *module)
{
	char path[PATH_MAX], command[128];

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", module);
	if (access(path, F_OK))
		return "the driver is built into the kernel";
	snprintf(command, sizeof(command), "modprobe -n %s 2>/dev/null",
		 module);
	return system(command) ? "modprobe does not find the driver" : NULL;
}

static inline ssize_t unload_module(const char *module)
{
	return or_errno(syscall(SYS_delete_module, module, O_NONBLOCK));
}

static inline int open_node(struct __test_metadata *_metadata,
			    const char *node, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", node);
	fd = open(path, flags);
	ASSERT_LE(0, fd) {
		TH_LOG("%s: %s", path, strerror(errno));
	}
	return fd;
}

/* Returns a counter of the driver of /dev/@node, or the negated errno. */
static inline ssize_t node_counter(const char *node, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path),
		 "/sys/kernel/debug/splice/%s/counters", node);
	return read_line_of(path, name);
}

/*
 * Returns the events that poll() reports for @fd, or 0 after @ms without one.
 */
static inline int poll_for(int fd, int events, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, ms) < 0 ? -errno : pfd.revents;
}

static inline struct job job_fsync(int fd)
{
	return (struct job) { .nr = SYS_fsync, .arg = { fd } };
}

/* Moves @len bytes from @in to @out through a pipe of its own. */
struct relay {
	int in;
	int out;
	ssize_t len;
	ssize_t done;		/* bytes that @out has taken */
	ssize_t error;		/* reason for an early end, or 0 */
	pthread_t thread;
};

static inline ssize_t relay_done(struct relay *r)
{
	return __atomic_load_n(&r->done, __ATOMIC_SEQ_CST);
}

/* Fills the pipe and drains it; returns 0, or the reason for an early end. */
static inline ssize_t relay_once(struct relay *r, int p[2])
{
	ssize_t left, ret;

	left = xsplice(r->in, NULL, p[1], NULL, r->len - r->done, 0);
	if (left <= 0)
		return left ? left : -ENODATA;
	for (; left; left -= ret) {
		ret = xsplice(p[0], NULL, r->out, NULL, left, 0);
		if (ret <= 0)
			return ret ? ret : -ENODATA;
		__atomic_fetch_add(&r->done, ret, __ATOMIC_SEQ_CST);
	}
	return 0;
}

static inline void *relay_run(void *data)
{
	struct relay *r = data;
	int p[2];

	r->error = pipe(p) ? -errno : 0;
	if (r->error)
		return NULL;
	while (!r->error && r->done < r->len)
		r->error = relay_once(r, p);
	close(p[0]);
	close(p[1]);
	return NULL;
}

static inline void relay_start(struct __test_metadata *_metadata,
			       struct relay *r)
{
	ASSERT_EQ(0, pthread_create(&r->thread, NULL, relay_run, r));
}

static inline ssize_t relay_result(const struct relay *r)
{
	return r->error ? r->error : r->done;
}

/* Returns the number of bytes moved, or the reason for an early end. */
static inline ssize_t relay_finish(struct __test_metadata *_metadata,
				   struct relay *r)
{
	ASSERT_EQ(0, pthread_join(r->thread, NULL));
	return relay_result(r);
}

static inline ssize_t relay_bytes(int in, int out, ssize_t len)
{
	struct relay r = { .in = in, .out = out, .len = len };

	relay_run(&r);
	return relay_result(&r);
}

/* Expects that @file is exactly @len bytes of the pattern from @pos on. */
static inline void expect_file(struct __test_metadata *_metadata, int file,
			       ssize_t len, unsigned int seed, loff_t pos)
{
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(len, read_pattern(file, len + 1, seed, pos));
}

#endif /* DEVICE_COMMON_H */
