/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers for the tests of /dev/rdma_splice, over soft RoCE (rxe) and soft iWARP
 * (siw). rdma_net.sh makes the devices.
 */
#ifndef RDMA_COMMON_H
#define RDMA_COMMON_H

#include "device_common.h"

#include <linux/rdma_splice.h>

#define RDMA_NODE	"rdma_splice"
#define RDMA_MODULE	"splice_rdma"

/* Seeds of the data of the two directions. */
#define DATA 1
#define BACK 2

/* No port that a test listens on is below it. */
#define FIRST_PORT 5000

/* Set-up of a connection, in milliseconds, on an emulated machine. */
#define SETUP_MS 20000

enum rdma_kind {
	RXE,
	SIW,
};

static inline const char *rdma_name(enum rdma_kind kind)
{
	return kind == RXE ? "rxe" : "siw";
}

/* Runs rdma_net.sh, which is beside the program. */
static inline int rdma_setup(const char *what, const char *argument)
{
	char self[PATH_MAX], command[PATH_MAX + 64];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len < 0)
		return -1;
	self[len] = 0;
	*strrchr(self, '/') = 0;
	snprintf(command, sizeof(command), "%s/rdma_net.sh %s %s", self, what,
		 argument);
	return system(command);
}

/* Why there can be no RDMA device, or NULL. */
static inline const char *rdma_missing(void)
{
	if (geteuid())
		return "needs root, for the set-up of RDMA devices";
	if (access("/sys/class/infiniband", F_OK))
		return "the kernel has no RDMA (CONFIG_INFINIBAND)";
	if (system("rdma link >/dev/null 2>&1"))
		return "the program rdma of iproute2 does not work";
	return NULL;
}

/* Why there can be no connection of the driver, or NULL. */
static inline const char *rdma_driver_missing(void)
{
	return have_node(RDMA_NODE, RDMA_MODULE) ? rdma_missing() :
	       "no /dev/" RDMA_NODE " (CONFIG_RDMA_SPLICE_RDMA)";
}

/* The one device of a kind, which reaches its own address. */
static inline void rdma_one(struct __test_metadata *_metadata,
			    enum rdma_kind kind)
{
	ASSERT_EQ(0, rdma_setup("one", rdma_name(kind)));
}

static inline const char *rdma_address(enum rdma_kind kind, int family)
{
	if (family == AF_INET)
		return kind == RXE ? "192.0.2.1" : "198.51.100.1";
	return kind == RXE ? "2001:db8:1::1" : "2001:db8:2::1";
}

/* A port that no other test uses at the same time. */
static inline int some_port(void)
{
	return FIRST_PORT + getpid() % 25000;
}

static inline struct rdma_splice_addr rdma_addr(const char *text, int port)
{
	struct rdma_splice_addr addr = { .port = port };

	addr.family = strchr(text, ':') ? AF_INET6 : AF_INET;
	inet_pton(addr.family, text, addr.addr);
	return addr;
}

/* The same address for calls of sockets. */
union socket_address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static inline union socket_address socket_addr(const char *text, int port)
{
	union socket_address addr = { .any.sa_family = AF_INET };

	if (strchr(text, ':')) {
		addr.in6.sin6_family = AF_INET6;
		addr.in6.sin6_port = htons(port);
		inet_pton(AF_INET6, text, &addr.in6.sin6_addr);
	} else {
		addr.in.sin_port = htons(port);
		inet_pton(AF_INET, text, &addr.in.sin_addr);
	}
	return addr;
}

static inline int rdma_open(struct __test_metadata *_metadata)
{
	return open_node(_metadata, RDMA_NODE, O_RDWR | O_CLOEXEC);
}

/* CONNECT on a device of its own; a descriptor, or the negated errno. */
static inline int xconnect(const struct rdma_splice_connect *arg)
{
	int dev = open("/dev/" RDMA_NODE, O_RDWR), ret;

	if (dev < 0)
		return -errno;
	ret = or_errno(ioctl(dev, RDMA_SPLICE_IOC_CONNECT, arg));
	close(dev);
	return ret;
}

static inline int xlisten(const struct rdma_splice_listen *arg)
{
	int dev = open("/dev/" RDMA_NODE, O_RDWR), ret;

	if (dev < 0)
		return -errno;
	ret = or_errno(ioctl(dev, RDMA_SPLICE_IOC_LISTEN, arg));
	close(dev);
	return ret;
}

static inline int xaccept(int fd, unsigned int flags)
{
	struct rdma_splice_accept arg = { .flags = flags };

	return or_errno(ioctl(fd, RDMA_SPLICE_IOC_ACCEPT, &arg));
}

static inline int xshutdown(int fd)
{
	return or_errno(ioctl(fd, RDMA_SPLICE_IOC_SHUTDOWN));
}

static inline struct rdma_splice_info
rdma_info(struct __test_metadata *_metadata, int fd)
{
	struct rdma_splice_info info;

	memset(&info, 0xff, sizeof(info));
	ASSERT_EQ(0, ioctl(fd, RDMA_SPLICE_IOC_INFO, &info));
	EXPECT_EQ(0, info.reserved);
	return info;
}

/* Both ends of a connection, and the listener that it came from. */
struct rdma_pair {
	int listener;
	int active;
	int passive;
};

/* Closes a descriptor that the end of a test closes, too. */
static inline void close_early(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static inline void rdma_pair_close(struct rdma_pair *pair)
{
	close_early(&pair->active);
	close_early(&pair->passive);
	close_early(&pair->listener);
}

/* The descriptor can be written to, as soon as the first messages are there. */
static inline void rdma_wait_writable(struct __test_metadata *_metadata, int fd)
{
	ASSERT_EQ(POLLOUT, poll_for(fd, POLLOUT, SETUP_MS));
}

/* Connects the address @text with itself, with @arg as a base of CONNECT. */
static inline struct rdma_pair
rdma_pair_with(struct __test_metadata *_metadata, const char *text,
	       struct rdma_splice_connect arg, struct rdma_splice_listen listen)
{
	struct rdma_pair pair;

	listen.local = rdma_addr(text, some_port());
	arg.peer = listen.local;
	arg.timeout_ms = SETUP_MS;
	pair.listener = xlisten(&listen);
	ASSERT_LE(0, pair.listener);
	arg.flags |= RDMA_SPLICE_NONBLOCK;
	pair.active = xconnect(&arg);
	ASSERT_LE(0, pair.active);
	pair.passive = xaccept(pair.listener, 0);
	ASSERT_LE(0, pair.passive);
	rdma_wait_writable(_metadata, pair.active);
	rdma_wait_writable(_metadata, pair.passive);
	set_nonblock(_metadata, pair.active, false);
	return pair;
}

static inline struct rdma_pair
rdma_pair_open(struct __test_metadata *_metadata, const char *text)
{
	return rdma_pair_with(_metadata, text, (struct rdma_splice_connect) {},
			      (struct rdma_splice_listen) {});
}

/* Sends the pattern, by way of a pipe; returns how much, or the errno. */
static inline ssize_t rdma_send(int fd, ssize_t len, unsigned int seed,
				loff_t pos)
{
	ssize_t done = 0, ret = 0, part;
	int p[2];

	if (pipe(p))
		return -errno;
	while (done < len && ret >= 0) {
		part = len - done < 65536 ? len - done : 65536;
		ret = write_pattern(p[1], part, seed, pos + done);
		if (ret == part)
			ret = splice_full(p[0], fd, part);
		if (ret > 0)
			done += ret;
		if (ret != part)
			break;
	}
	close(p[0]);
	close(p[1]);
	return done ? done : ret;
}

static inline long long rdma_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* A counter of the driver, or the negated errno. */
static inline ssize_t rdma_counter(const char *name)
{
	return node_counter("rdma", name);
}

/* Waits until no connection is left, and nothing that one had. */
static inline void expect_nothing_left(struct __test_metadata *_metadata)
{
	static const char *const names[] = {
		"connections", "sends.posted", "pages",
	};
	long long until = rdma_now_ms() + 5000;
	int i;

	if (!have_counters())
		return;
	for (i = 0; i < ARRAY_LEN(names); i++) {
		while (rdma_counter(names[i]) > 0 && rdma_now_ms() < until)
			usleep(1000);
		EXPECT_EQ(0, rdma_counter(names[i])) {
			TH_LOG("%s", names[i]);
		}
	}
}

#endif /* RDMA_COMMON_H */
