/* SPDX-License-Identifier: GPL-2.0 */
/*
 * SPLICE_F_NOTIFY and its ioctls, which report the numbers of calls. The
 * functions return the negated errno on failure.
 */
#ifndef SPLICE_NOTIFY_H
#define SPLICE_NOTIFY_H

#include <linux/filter.h>
#include <linux/splice.h>

#include "splice_common.h"

#include <sys/eventfd.h>

static inline ssize_t xnotify(int fd, const void *buf, size_t len)
{
	return xvmsplice1(fd, buf, len, SPLICE_F_NOTIFY);
}

static inline ssize_t notify_state(int fd, unsigned int flags,
				   unsigned long long number,
				   struct splice_notify_state *st)
{
	*st = (struct splice_notify_state) { .flags = flags, .number = number };
	return or_errno(ioctl(fd, SPLICE_IOC_NOTIFY_STATE, st));
}

static inline ssize_t wait_released(int fd, unsigned long long number)
{
	struct splice_notify_state st;
	ssize_t ret = notify_state(fd, SPLICE_NOTIFY_WAIT, number, &st);

	return ret ? ret : (ssize_t)st.released;
}

static inline ssize_t issued(int fd)
{
	struct splice_notify_state st;
	ssize_t ret = notify_state(fd, 0, 0, &st);

	return ret ? ret : (ssize_t)st.issued;
}

static inline ssize_t released(int fd)
{
	struct splice_notify_state st;
	ssize_t ret = notify_state(fd, 0, 0, &st);

	return ret ? ret : (ssize_t)st.released;
}

/*
 * Whether this kernel has SPLICE_F_NOTIFY. Such a kernel also has lines for
 * pipes in fdinfo, and fs.pipe-user-memory-pages.
 */
static inline bool have_notify(int fd)
{
	return issued(fd) >= 0;
}

/* Replaces the pipe's eventfd; -1 detaches it. */
static inline ssize_t attach(int fd, int efd)
{
	return or_errno(ioctl(fd, SPLICE_IOC_NOTIFY_EVENTFD, &efd));
}

/* Reads and clears the count of a non-blocking eventfd. */
static inline ssize_t signals(int efd)
{
	__u64 n;

	if (read(efd, &n, sizeof(n)) < 0)
		return errno == EAGAIN ? 0 : -errno;
	return n;
}

static inline int make_eventfd(struct __test_metadata *_metadata)
{
	int efd = eventfd(0, EFD_NONBLOCK);

	ASSERT_LE(0, efd);
	return efd;
}

/* Makes a receiver drop all packets, as if the network had lost them. */
static inline void drop_all(struct __test_metadata *_metadata, int fd)
{
	struct sock_filter none = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog prog = { .len = 1, .filter = &none };

	ASSERT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog,
				sizeof(prog)));
}

static inline void drop_nothing(struct __test_metadata *_metadata,
				int fd)
{
	int zero = 0;

	ASSERT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &zero,
				sizeof(zero)));
}

#endif /* SPLICE_NOTIFY_H */
