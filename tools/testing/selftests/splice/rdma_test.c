// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/rdma_splice with one RDMA device that connects to its own address: data from
 * and to files, pipes, sockets and memory, the limits of both sides, the end of a
 * connection, and the arguments of the ioctls.
 */
#include "rdma_common.h"
#include "splice_memory.h"
#include "splice_notify.h"

#include <ifaddrs.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <linux/capability.h>

/* Two pages, the second one partly filled. */
#define SOME 5000

/* Bytes of a whole transfer; SPLICE_RDMA_KIB replaces it on slow kernels. */
#define MUCH (16 << 20)

/* Time without an event, in ms, after which a test expects none. */
#define QUIET 500

/* A user without privileges. */
#define NOBODY 65534

static ssize_t much(void)
{
	const char *kib = getenv("SPLICE_RDMA_KIB");

	return kib ? atol(kib) * 1024 : MUCH;
}

FIXTURE(args) {
	int dev;
	int port;
	struct rdma_splice_connect connect;
	struct rdma_splice_listen listen;
};

FIXTURE_VARIANT(args) {
	enum rdma_kind kind;
};

FIXTURE_VARIANT_ADD(args, rxe) {
	.kind = RXE,
};

FIXTURE_VARIANT_ADD(args, siw) {
	.kind = SIW,
};

FIXTURE_SETUP(args)
{
	const char *missing = rdma_driver_missing();

	if (missing)
		SKIP(return, "%s", missing);
	rdma_one(_metadata, variant->kind);
	self->dev = rdma_open(_metadata);
	self->port = some_port();
	self->listen.local = rdma_addr(rdma_address(variant->kind, AF_INET),
				       self->port);
	self->connect.peer = self->listen.local;
	self->connect.timeout_ms = SETUP_MS;
}

FIXTURE_TEARDOWN(args)
{
}

#define CONNECT(arg) or_errno(ioctl(self->dev, RDMA_SPLICE_IOC_CONNECT, arg))
#define LISTEN(arg) or_errno(ioctl(self->dev, RDMA_SPLICE_IOC_LISTEN, arg))

TEST_F(args, node)
{
	struct stat st;

	ASSERT_EQ(0, stat("/dev/" RDMA_NODE, &st));
	EXPECT_EQ(S_IFCHR | 0600, st.st_mode);
}

TEST_F(args, reserved)
{
	struct rdma_splice_connect connect = self->connect;
	struct rdma_splice_listen listen = self->listen;
	struct rdma_splice_accept accept = {};
	int i, listener;

	for (i = 0; i < 2; i++) {
		connect.reserved[i] = 1;
		EXPECT_EQ(-EINVAL, CONNECT(&connect));
		connect.reserved[i] = 0;
		listen.reserved[i] = 1ULL << 63;
		EXPECT_EQ(-EINVAL, LISTEN(&listen));
		listen.reserved[i] = 0;
	}
	listener = LISTEN(&listen);
	ASSERT_LE(0, listener);
	accept.reserved = 1;
	EXPECT_EQ(-EINVAL, or_errno(ioctl(listener, RDMA_SPLICE_IOC_ACCEPT,
					  &accept)));
}

TEST_F(args, flags)
{
	struct rdma_splice_connect connect = self->connect;
	struct rdma_splice_listen listen = self->listen;
	int listener;

	connect.flags = 0x4;
	EXPECT_EQ(-EINVAL, CONNECT(&connect));
	listen.flags = 1U << 31;
	EXPECT_EQ(-EINVAL, LISTEN(&listen));
	listen.flags = RDMA_SPLICE_NONBLOCK;
	listener = LISTEN(&listen);
	ASSERT_LE(0, listener);
	EXPECT_EQ(-EINVAL, xaccept(listener, 0x8));
	EXPECT_EQ(-EAGAIN, xaccept(listener, 0));
	EXPECT_EQ(O_NONBLOCK, fcntl(listener, F_GETFL) & O_NONBLOCK);
	EXPECT_EQ(0, fcntl(listener, F_GETFD));
	close(listener);
	listen.flags = RDMA_SPLICE_CLOEXEC;
	listener = LISTEN(&listen);
	ASSERT_LE(0, listener);
	EXPECT_EQ(FD_CLOEXEC, fcntl(listener, F_GETFD));
	EXPECT_EQ(0, fcntl(listener, F_GETFL) & O_NONBLOCK);
}

TEST_F(args, addresses)
{
	struct rdma_splice_connect connect = self->connect;
	struct rdma_splice_listen listen = self->listen;
	static const int families[] = { AF_UNIX, AF_IB, 0xffff };
	int i;

	for (i = 0; i < ARRAY_LEN(families); i++) {
		connect.peer.family = families[i];
		EXPECT_EQ(-EAFNOSUPPORT, CONNECT(&connect));
		listen.local.family = families[i];
		EXPECT_EQ(-EAFNOSUPPORT, LISTEN(&listen));
	}
	connect = self->connect;
	connect.peer.addr[4] = 1;
	EXPECT_EQ(-EINVAL, CONNECT(&connect));
	connect = self->connect;
	connect.peer.scope_id = 1;
	EXPECT_EQ(-EINVAL, CONNECT(&connect));
	/* The families of the two addresses differ. */
	connect = self->connect;
	connect.local = rdma_addr(rdma_address(variant->kind, AF_INET6), 0);
	EXPECT_EQ(-EINVAL, CONNECT(&connect));
}

TEST_F(args, files)
{
	struct rdma_splice_info info;
	int listener, file = make_memfd(_metadata, 1, DATA), p[2];

	make_pipe(_metadata, p);
	EXPECT_EQ(-ENOTTY, or_errno(ioctl(self->dev, _IO(0xBB, 0x7f))));
	EXPECT_EQ(-EFAULT, CONNECT(NULL));
	EXPECT_EQ(-EFAULT, LISTEN(NULL));
	EXPECT_EQ(-ENOTTY, xaccept(self->dev, 0));
	EXPECT_EQ(-ENOTTY, xshutdown(self->dev));
	EXPECT_EQ(-ENOTTY, or_errno(ioctl(self->dev, RDMA_SPLICE_IOC_INFO,
					  &info)));
	EXPECT_EQ(-EINVAL, xsplice(self->dev, NULL, p[1], NULL, 1, 0));
	EXPECT_EQ(-EINVAL, xsendfile(self->dev, file, NULL, 1));
	listener = LISTEN(&self->listen);
	ASSERT_LE(0, listener);
	EXPECT_EQ(-ENOTTY, xshutdown(listener));
	EXPECT_EQ(-ENOTTY, or_errno(ioctl(listener, RDMA_SPLICE_IOC_CONNECT,
					  &self->connect)));
	EXPECT_EQ(-EINVAL, xsplice(listener, NULL, p[1], NULL, 1, 0));
	EXPECT_EQ(-EINVAL, xsendfile(listener, file, NULL, 1));
	EXPECT_EQ(RDMA_SPLICE_LISTENING, rdma_info(_metadata, listener).state);
}

TEST_F_TIMEOUT(args, refused, 60)
{
	EXPECT_EQ(-ECONNREFUSED, CONNECT(&self->connect));
}

/* The answer of a non-blocking CONNECT is an event. */
TEST_F_TIMEOUT(args, refused_later, 60)
{
	struct rdma_splice_info info;
	int fd, p[2];

	make_pipe(_metadata, p);
	self->connect.flags = RDMA_SPLICE_NONBLOCK;
	fd = CONNECT(&self->connect);
	if (fd < 0) {
		/* CONNECT may fail at once. */
		EXPECT_EQ(-ECONNREFUSED, fd);
		return;
	}
	EXPECT_LT(0, poll_for(fd, POLLOUT, SETUP_MS) & POLLERR);
	info = rdma_info(_metadata, fd);
	EXPECT_EQ(RDMA_SPLICE_FAILED, info.state);
	EXPECT_EQ(ECONNREFUSED, info.error);
	EXPECT_EQ(-ECONNREFUSED, xsplice(fd, NULL, p[1], NULL, 1, 0));
}

/* One address does not answer, another one has no route. */
TEST_F_TIMEOUT(args, unreachable, 60)
{
	long long before = rdma_now_ms();
	struct rdma_splice_connect connect = self->connect;
	ssize_t ret;

	connect.timeout_ms = 2000;
	connect.peer = rdma_addr(variant->kind == RXE ? "192.0.2.77" :
				 "198.51.100.77", self->port);
	ret = CONNECT(&connect);
	EXPECT_TRUE(ret == -EHOSTUNREACH || ret == -ETIMEDOUT) {
		TH_LOG("%zd", ret);
	}
	EXPECT_GT(10000, rdma_now_ms() - before);
	connect.peer = rdma_addr("203.0.113.77", self->port);
	EXPECT_EQ(-ENETUNREACH, CONNECT(&connect));
}

/* A CONNECT that does not wait returns before the address is resolved. */
TEST_F_TIMEOUT(args, unreachable_later, 60)
{
	struct rdma_splice_connect connect = self->connect;
	struct rdma_splice_info info;
	long long before = rdma_now_ms();
	int fd;

	connect.timeout_ms = 4000;
	connect.flags = RDMA_SPLICE_NONBLOCK;
	connect.peer = rdma_addr(variant->kind == RXE ? "192.0.2.77" :
				 "198.51.100.77", self->port);
	fd = CONNECT(&connect);
	EXPECT_GT(2000, rdma_now_ms() - before);
	ASSERT_LE(0, fd);
	info = rdma_info(_metadata, fd);
	EXPECT_EQ(RDMA_SPLICE_CONNECTING, info.state);
	EXPECT_EQ(0, memcmp(&connect.peer, &info.peer, sizeof(info.peer)));
	EXPECT_EQ(0, poll_now(fd, POLLIN | POLLOUT));
	EXPECT_EQ(-EAGAIN, xwrite(fd, "", 1));
	EXPECT_EQ(-ENOTCONN, xshutdown(fd));
	EXPECT_LT(0, poll_for(fd, POLLOUT, SETUP_MS) & POLLERR);
	info = rdma_info(_metadata, fd);
	EXPECT_EQ(RDMA_SPLICE_FAILED, info.state);
	EXPECT_EQ(EHOSTUNREACH, info.error);
	close(fd);
	/* It can be closed while the address is being resolved. */
	before = rdma_now_ms();
	fd = CONNECT(&connect);
	ASSERT_LE(0, fd);
	close(fd);
	EXPECT_GT(2000, rdma_now_ms() - before);
	expect_nothing_left(_metadata);
}

TEST_F_TIMEOUT(args, no_device, 60)
{
	struct rdma_splice_connect connect = self->connect;
	ssize_t ret;

	connect.peer = rdma_addr("127.0.0.1", self->port);
	connect.timeout_ms = 2000;
	ret = CONNECT(&connect);
	EXPECT_TRUE(ret == -ENODEV || ret == -EHOSTUNREACH) {
		TH_LOG("%zd", ret);
	}
}

TEST_F_TIMEOUT(args, interrupted, 60)
{
	struct rdma_splice_connect connect = self->connect;
	struct job job = {
		.nr = SYS_ioctl,
		.arg = { self->dev, RDMA_SPLICE_IOC_CONNECT, (long)&connect },
	};

	connect.peer = rdma_addr(variant->kind == RXE ? "192.0.2.77" :
				 "198.51.100.77", self->port);
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
}

TEST_F_TIMEOUT(args, port_in_use, 30)
{
	int listener = LISTEN(&self->listen), again;

	ASSERT_LE(0, listener);
	again = LISTEN(&self->listen);
	EXPECT_EQ(-EADDRINUSE, again);
	close(listener);
	again = LISTEN(&self->listen);
	EXPECT_LE(0, again);
}

/* The address must be of this machine. */
TEST_F(args, not_own_address)
{
	self->listen.local = rdma_addr("203.0.113.77", self->port);
	EXPECT_EQ(-EADDRNOTAVAIL, LISTEN(&self->listen));
	self->connect.local = self->listen.local;
	self->connect.local.port = 0;
	self->connect.timeout_ms = 2000;
	EXPECT_GT(0, CONNECT(&self->connect));
}

/* Runs @test as an ordinary user that has @dev open; its result. */
static ssize_t as_nobody(struct __test_metadata *_metadata, int dev,
			 unsigned long request, void *arg, rlim_t memlock)
{
	struct rlimit limit = { memlock, memlock };
	int pair[2], status;
	ssize_t ret;
	pid_t pid;

	make_pipe(_metadata, pair);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		ret = -EPERM;
		if (!setrlimit(RLIMIT_MEMLOCK, &limit) && !setuid(NOBODY))
			ret = or_errno(ioctl(dev, request, arg));
		_exit(write_full(pair[1], &ret, sizeof(ret)) != sizeof(ret));
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(sizeof(ret), read_full(pair[0], &ret, sizeof(ret)));
	return ret;
}

TEST_F(args, privileged_port)
{
	struct rdma_splice_connect connect = self->connect;
	struct rdma_splice_listen listen = self->listen;
	int i;

	listen.local.port = 1023;
	EXPECT_EQ(-EACCES, as_nobody(_metadata, self->dev,
				     RDMA_SPLICE_IOC_LISTEN, &listen, 1 << 30));
	/* The own port of a connection, too, also if CONNECT does not wait. */
	connect.local = listen.local;
	for (i = 0; i < 2; i++) {
		connect.flags = i ? RDMA_SPLICE_NONBLOCK : 0;
		EXPECT_EQ(-EACCES, as_nobody(_metadata, self->dev,
					     RDMA_SPLICE_IOC_CONNECT, &connect,
					     1 << 30));
	}
	EXPECT_LE(0, LISTEN(&listen));
	listen.local.port = self->port;
	EXPECT_LE(0, as_nobody(_metadata, self->dev, RDMA_SPLICE_IOC_LISTEN,
			       &listen, 1 << 30));
}

/* Both directions are charged, and closing ends the charge. */
TEST_F_TIMEOUT(args, memlock, 60)
{
	struct rdma_splice_connect connect = self->connect;
	int listener, i;

	self->listen.flags = RDMA_SPLICE_NONBLOCK;
	listener = LISTEN(&self->listen);
	ASSERT_LE(0, listener);
	connect.flags = RDMA_SPLICE_NONBLOCK;
	EXPECT_EQ(-ENOMEM, as_nobody(_metadata, self->dev,
				     RDMA_SPLICE_IOC_CONNECT, &connect,
				     1 << 20));
	for (i = 0; i < 4; i++)
		EXPECT_LE(0, as_nobody(_metadata, self->dev,
				       RDMA_SPLICE_IOC_CONNECT, &connect,
				       3 << 20));
	connect.receive_bytes = 64 * 1024;
	EXPECT_LE(0, as_nobody(_metadata, self->dev, RDMA_SPLICE_IOC_CONNECT,
			       &connect, 512 * 1024));
}

FIXTURE(conn) {
	struct rdma_pair c;
	int p[2];
	int q[2];
};

FIXTURE_VARIANT(conn) {
	enum rdma_kind kind;
	int family;
};

FIXTURE_VARIANT_ADD(conn, rxe) {
	.kind = RXE, .family = AF_INET,
};

FIXTURE_VARIANT_ADD(conn, siw) {
	.kind = SIW, .family = AF_INET,
};

FIXTURE_SETUP(conn)
{
	const char *missing = rdma_driver_missing();

	if (missing)
		SKIP(return, "%s", missing);
	have_counters();
	rdma_one(_metadata, variant->kind);
	self->c = rdma_pair_open(_metadata, rdma_address(variant->kind,
							 variant->family));
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
}

FIXTURE_TEARDOWN(conn)
{
	int i;

	rdma_pair_close(&self->c);
	for (i = 0; i < 2; i++) {
		close(self->p[i]);
		close(self->q[i]);
	}
	expect_nothing_left(_metadata);
}

static void send_and_receive(struct __test_metadata *_metadata, int from,
			     int to, ssize_t len)
{
	ASSERT_EQ(len, rdma_send(from, len, DATA, 0));
	EXPECT_EQ(len, receive_pattern(to, len, DATA, 0));
}

TEST_F_TIMEOUT(conn, lengths, 120)
{
	struct rdma_splice_info info = rdma_info(_metadata, self->c.active);
	ssize_t lengths[] = {
		1, 2, 4095, 4096, 4097, 65536, info.send_segment - 1,
		info.send_segment, info.send_segment + 1,
	};
	int i;

	for (i = 0; i < ARRAY_LEN(lengths); i++) {
		send_and_receive(_metadata, self->c.active, self->c.passive,
				 lengths[i]);
		send_and_receive(_metadata, self->c.passive, self->c.active,
				 lengths[i]);
	}
}

/* A call gives what there is, and does not wait for more. */
TEST_F_TIMEOUT(conn, short_count, 30)
{
	ASSERT_EQ(100, rdma_send(self->c.active, 100, DATA, 0));
	EXPECT_EQ(100, xsplice(self->c.passive, NULL, self->q[1], NULL, 65536,
			       0));
	EXPECT_EQ(100, read_pattern(self->q[0], 100, DATA, 0));
	EXPECT_EQ(-EAGAIN, xsplice(self->c.passive, NULL, self->q[1], NULL,
				   65536, SPLICE_F_NONBLOCK));
}

/* The rest of a page that was read in part is next. */
TEST_F_TIMEOUT(conn, message_in_parts, 30)
{
	static const ssize_t parts[] = { 1, 100, 4096, 803 };
	ssize_t pos = 0;
	int i;

	ASSERT_EQ(SOME, rdma_send(self->c.active, SOME, DATA, 0));
	for (i = 0; i < ARRAY_LEN(parts); i++) {
		ASSERT_EQ(parts[i], receive_pattern(self->c.passive, parts[i],
						    DATA, pos));
		pos += parts[i];
	}
	EXPECT_EQ(SOME, pos);
}

/* Of the buffers in a pipe, a part is sent. */
TEST_F_TIMEOUT(conn, buffers_in_parts, 30)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(100, xsplice(self->p[0], NULL, self->c.active, NULL, 100, 0));
	EXPECT_EQ(SOME - 100, pipe_bytes(self->p[0]));
	ASSERT_EQ(SOME - 100, splice_full(self->p[0], self->c.active,
					  SOME - 100));
	EXPECT_EQ(SOME, receive_pattern(self->c.passive, SOME, DATA, 0));
}

/* More buffers than a message has scatter entries. */
TEST_F_TIMEOUT(conn, small_buffers, 60)
{
	char *mem = alloc_pattern(_metadata, 260, DATA);
	int i;

	ASSERT_LE(512 * page_size(),
		  fcntl(self->p[1], F_SETPIPE_SZ, 512 * page_size()));
	for (i = 0; i < 260; i++)
		ASSERT_EQ(1, xvmsplice1(self->p[1], mem + i, 1, 0));
	/* There may be less credit than it takes. */
	set_nonblock(_metadata, self->c.active, true);
	for (i = 0; i < 260;) {
		ssize_t ret = xsplice(self->p[0], NULL, self->c.active, NULL,
				      260, SPLICE_F_NONBLOCK);

		if (ret == -EAGAIN) {
			/* Data or credit may be on its way. */
			if (!poll_now(self->c.passive, POLLIN)) {
				poll_for(self->c.active, POLLOUT, QUIET);
				continue;
			}
			ret = receive_pattern(self->c.passive, 1, DATA, i);
			ASSERT_EQ(1, ret);
			i++;
			continue;
		}
		if (!pipe_bytes(self->p[0]))
			break;
		ASSERT_LT(0, ret);
	}
	EXPECT_EQ(260 - i, receive_pattern(self->c.passive, 260 - i, DATA, i));
	free(mem);
}

/* From a file to a file, over the connection. */
FIXTURE(file) {
	struct rdma_pair c;
	int in;
	int out;
	int back_in;
	int back_out;
};

FIXTURE_VARIANT(file) {
	enum rdma_kind kind;
	int family;
	enum end_kind end;
	loff_t offset;
};

FIXTURE_VARIANT_ADD(file, rxe_ext4) {
	.kind = RXE, .family = AF_INET, .end = END_EXT4,
};

FIXTURE_VARIANT_ADD(file, rxe_tmpfs_offset_1) {
	.kind = RXE, .family = AF_INET, .end = END_TMPFS, .offset = 1,
};

FIXTURE_VARIANT_ADD(file, rxe_ipv6_offset_5000) {
	.kind = RXE, .family = AF_INET6, .end = END_EXT4, .offset = 5000,
};

FIXTURE_VARIANT_ADD(file, siw_ext4) {
	.kind = SIW, .family = AF_INET, .end = END_EXT4,
};

FIXTURE_VARIANT_ADD(file, siw_tmpfs_offset_1) {
	.kind = SIW, .family = AF_INET, .end = END_TMPFS, .offset = 1,
};

FIXTURE_VARIANT_ADD(file, siw_ipv6_offset_5000) {
	.kind = SIW, .family = AF_INET6, .end = END_EXT4, .offset = 5000,
};

FIXTURE_SETUP(file)
{
	const char *missing = rdma_driver_missing();
	ssize_t len = much() + variant->offset;
	const char *dir;

	if (missing)
		SKIP(return, "%s", missing);
	missing = end_missing(variant->end);
	if (missing)
		SKIP(return, "%s is not set", missing);
	have_counters();
	rdma_one(_metadata, variant->kind);
	self->c = rdma_pair_open(_metadata, rdma_address(variant->kind,
							 variant->family));
	dir = end_dir(_metadata, variant->end);
	self->in = make_file(_metadata, dir);
	self->out = make_file(_metadata, dir);
	self->back_in = make_file(_metadata, dir);
	self->back_out = make_file(_metadata, dir);
	ASSERT_EQ(len, write_pattern(self->in, len, DATA, 0));
	ASSERT_EQ(variant->offset, lseek(self->in, variant->offset, SEEK_SET));
	ASSERT_EQ(len, write_pattern(self->back_in, len, BACK, 0));
	ASSERT_EQ(variant->offset, lseek(self->back_in, variant->offset,
					 SEEK_SET));
}

FIXTURE_TEARDOWN(file)
{
	rdma_pair_close(&self->c);
	expect_nothing_left(_metadata);
}

/* Two relays, one before the connection and one behind it. */
static void check_relays(struct __test_metadata *_metadata, struct relay *in,
			 struct relay *out)
{
	EXPECT_EQ(in->len, relay_finish(_metadata, in));
	EXPECT_EQ(out->len, relay_finish(_metadata, out));
}

TEST_F_TIMEOUT(file, one_direction, 300)
{
	struct relay in = {
		.in = self->in, .out = self->c.active, .len = much(),
	};
	struct relay out = {
		.in = self->c.passive, .out = self->out, .len = much(),
	};
	struct rdma_splice_info info;

	relay_start(_metadata, &out);
	relay_start(_metadata, &in);
	check_relays(_metadata, &in, &out);
	expect_file(_metadata, self->out, much(), DATA, variant->offset);
	ASSERT_EQ(0, fsync(self->c.active));
	info = rdma_info(_metadata, self->c.active);
	EXPECT_EQ(much(), info.sent);
	EXPECT_EQ(much(), info.taken);
	EXPECT_EQ(0, info.received);
	info = rdma_info(_metadata, self->c.passive);
	EXPECT_EQ(much(), info.received);
	EXPECT_EQ(0, info.sent);
}

TEST_F_TIMEOUT(file, both_directions, 300)
{
	struct relay in = {
		.in = self->in, .out = self->c.active, .len = much(),
	};
	struct relay out = {
		.in = self->c.passive, .out = self->out, .len = much(),
	};
	struct relay back_in = {
		.in = self->back_in, .out = self->c.passive, .len = much(),
	};
	struct relay back_out = {
		.in = self->c.active, .out = self->back_out, .len = much(),
	};

	relay_start(_metadata, &in);
	relay_start(_metadata, &back_in);
	relay_start(_metadata, &out);
	relay_start(_metadata, &back_out);
	check_relays(_metadata, &in, &out);
	check_relays(_metadata, &back_in, &back_out);
	expect_file(_metadata, self->out, much(), DATA, variant->offset);
	expect_file(_metadata, self->back_out, much(), BACK, variant->offset);
}

TEST_F_TIMEOUT(file, sendfile, 300)
{
	struct job send = job_sendfile(self->c.active, self->in, much() + 1);

	job_start(_metadata, &send);
	EXPECT_EQ(much(), receive_pattern(self->c.passive, much(), DATA,
					  variant->offset));
	EXPECT_EQ(much(), job_finish(_metadata, &send));
	EXPECT_EQ(much() + variant->offset, lseek(self->in, 0, SEEK_CUR));
}

/* Memory, which the driver reads where it is. */
TEST_F_TIMEOUT(conn, vmsplice, 60)
{
	char *mem = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct job job;

	ASSERT_NE(MAP_FAILED, mem);
	fill_pattern(mem, 65536, DATA, 0);
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], mem + 77, SOME, 0));
	ASSERT_EQ(SOME, splice_full(self->p[0], self->c.active, SOME));
	EXPECT_EQ(SOME, receive_pattern(self->c.passive, SOME, DATA, 77));
	ASSERT_EQ(65536, xvmsplice1(self->p[1], mem, 65536, 0));
	job = job_splice(self->p[0], self->c.active, 65536);
	ASSERT_EQ(65536, job_call(&job));
	EXPECT_EQ(65536, receive_pattern(self->c.passive, 65536, DATA, 0));
	munmap(mem, 65536);
}

/*
 * The test overwrites memory as soon as the notification reports it as released.
 * The receiver, who reads later, gets the data from before that.
 */
TEST_F_TIMEOUT(conn, notify, 60)
{
	int depth = rdma_info(_metadata, self->c.active).send_depth, i;
	char *mem = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	if (!have_notify(self->p[1]))
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
	for (i = 0; i < depth; i++) {
		fill_pattern(mem, 4096, DATA, i * 4096);
		ASSERT_EQ(4096, xnotify(self->p[1], mem, 4096));
		ASSERT_EQ(4096, xsplice(self->p[0], NULL, self->c.active, NULL,
					4096, 0));
		ASSERT_EQ(i + 1, wait_released(self->p[1], i + 1));
	}
	EXPECT_EQ(4096 * depth, receive_pattern(self->c.passive, 4096 * depth,
						DATA, 0));
	munmap(mem, 4096);
	expect_no_pins(_metadata);
}

TEST_F_TIMEOUT(conn, tee, 30)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(SOME, xtee(self->p[0], self->q[1], SOME, 0));
	ASSERT_EQ(SOME, splice_full(self->p[0], self->c.active, SOME));
	EXPECT_EQ(SOME, receive_pattern(self->c.passive, SOME, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));
	/* tee() also duplicates received pages. */
	ASSERT_EQ(SOME, rdma_send(self->c.passive, SOME, DATA, 0));
	ASSERT_EQ(SOME, splice_full(self->c.active, self->p[1], SOME));
	ASSERT_EQ(SOME, xtee(self->p[0], self->q[1], SOME, 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));
}

/* Socket to connection, and connection to socket. */
TEST_F_TIMEOUT(conn, socket, 60)
{
	ssize_t len = 300001;
	int sv[2];
	struct relay in, out;

	make_tcp_pair(_metadata, sv);
	in = (struct relay) {
		.in = sv[1], .out = self->c.active, .len = len,
	};
	out = (struct relay) {
		.in = self->c.passive, .out = sv[1], .len = len,
	};
	relay_start(_metadata, &in);
	relay_start(_metadata, &out);
	ASSERT_EQ(len, write_pattern(sv[0], len, DATA, 0));
	EXPECT_EQ(len, read_pattern(sv[0], len, DATA, 0));
	check_relays(_metadata, &in, &out);
}

/* The pages of the file have no other user after the transfer. */
TEST_F_TIMEOUT(conn, gives_back, 60)
{
	int file = make_memfd(_metadata, 100 * 1024, DATA);
	struct relay in = {
		.in = file, .out = self->c.active, .len = 100 * 1024,
	};

	relay_start(_metadata, &in);
	EXPECT_EQ(in.len, receive_pattern(self->c.passive, in.len, DATA, 0));
	EXPECT_EQ(in.len, relay_finish(_metadata, &in));
	expect_unreferenced(_metadata, file);
}

/* Both sides and all pipes without blocking, and pipes of one page. */
TEST_F_TIMEOUT(conn, poll_loop, 120)
{
	struct pollfd pfd[2] = {
		{ .fd = self->c.active, .events = POLLOUT },
		{ .fd = self->c.passive, .events = POLLIN },
	};
	ssize_t sent = 0, received = 0, len = 1000003, ret;

	ASSERT_EQ(page_size(), fcntl(self->p[1], F_SETPIPE_SZ, page_size()));
	ASSERT_EQ(page_size(), fcntl(self->q[1], F_SETPIPE_SZ, page_size()));
	set_nonblock(_metadata, self->c.active, true);
	set_nonblock(_metadata, self->c.passive, true);
	while (received < len) {
		if (sent < len && !pipe_bytes(self->p[0])) {
			ret = len - sent < 3000 ? len - sent : 3000;
			ASSERT_EQ(ret, write_pattern(self->p[1], ret, DATA,
						     sent));
		}
		pfd[0].fd = sent < len ? self->c.active : -1;
		ASSERT_LT(0, poll(pfd, 2, SETUP_MS));
		ASSERT_EQ(0, (pfd[0].revents | pfd[1].revents) &
			     (POLLERR | POLLHUP));
		if (pfd[0].fd >= 0 && pfd[0].revents) {
			ret = xsplice(self->p[0], NULL, self->c.active, NULL,
				      3000, 0);
			ASSERT_LT(0, ret);
			sent += ret;
		}
		if (pfd[1].revents) {
			ret = xsplice(self->c.passive, NULL, self->q[1], NULL,
				      65536, 0);
			ASSERT_LT(0, ret);
			ASSERT_EQ(ret, read_pattern(self->q[0], ret, DATA,
						    received));
			received += ret;
		}
	}
}

/* Sends whole segments until there is no credit; how many bytes. */
static ssize_t fill_connection(struct __test_metadata *_metadata, int fd,
			       int p[2])
{
	struct rdma_splice_info info = rdma_info(_metadata, fd);
	ssize_t sum = 0, ret;

	ASSERT_LE(info.send_segment, fcntl(p[1], F_SETPIPE_SZ, 1 << 20));
	for (;;) {
		if (!pipe_bytes(p[0]))
			ASSERT_EQ(info.send_segment,
				  write_pattern(p[1], info.send_segment, DATA,
						sum));
		ret = xsplice(p[0], NULL, fd, NULL, info.send_segment,
			      SPLICE_F_NONBLOCK);
		if (ret == -EAGAIN && poll_for(fd, POLLOUT, QUIET) <= 0)
			break;
		if (ret == -EAGAIN)
			continue;
		ASSERT_LT(0, ret);
		sum += ret;
	}
	return sum;
}

/* The sender stops when the reader does, and nothing is lost. */
TEST_F_TIMEOUT(conn, reader_stops, 60)
{
	struct rdma_splice_info info = rdma_info(_metadata, self->c.active);
	ssize_t window = (ssize_t)info.send_depth * info.send_segment;
	ssize_t sum = fill_connection(_metadata, self->c.active, self->p);
	ssize_t left = pipe_bytes(self->p[0]);
	struct job job = job_splice(self->p[0], self->c.active, left);

	EXPECT_EQ(window, sum);
	EXPECT_EQ(sum, rdma_info(_metadata, self->c.active).sent);
	EXPECT_EQ(0, rdma_info(_metadata, self->c.active).taken);
	EXPECT_EQ(0, poll_now(self->c.active, POLLOUT));
	EXPECT_EQ(POLLIN, poll_now(self->c.passive, POLLIN));
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	/* One message makes room for one. */
	ASSERT_EQ(info.send_segment, receive_pattern(self->c.passive,
						     info.send_segment, DATA, 0));
	EXPECT_EQ(left, job_finish(_metadata, &job));
	EXPECT_EQ(sum + left - info.send_segment,
		  receive_pattern(self->c.passive,
				  sum + left - info.send_segment, DATA,
				  info.send_segment));
	EXPECT_EQ(POLLOUT, poll_for(self->c.active, POLLOUT, SETUP_MS));
	ASSERT_EQ(0, fsync(self->c.active));
	EXPECT_EQ(sum + left, rdma_info(_metadata, self->c.active).taken);
}

/* Credit of one direction does not depend on that of the other. */
TEST_F_TIMEOUT(conn, other_direction, 60)
{
	fill_connection(_metadata, self->c.active, self->p);
	send_and_receive(_metadata, self->c.passive, self->c.active, 65536);
}

/* The memory of a connection can be less, and then so is the credit. */
TEST_F_TIMEOUT(args, receive_bytes, 60)
{
	struct rdma_splice_listen listen = { .receive_bytes = 128 * 1024 };
	struct rdma_splice_connect connect = { .receive_bytes = 256 * 1024 };
	struct rdma_splice_info a, b;
	struct rdma_pair c;

	c = rdma_pair_with(_metadata, rdma_address(variant->kind, AF_INET),
			   connect, listen);
	a = rdma_info(_metadata, c.active);
	b = rdma_info(_metadata, c.passive);
	EXPECT_EQ(a.send_segment, b.receive_segment);
	EXPECT_EQ(b.send_segment, a.receive_segment);
	EXPECT_EQ(a.send_depth, b.receive_depth);
	/* The window of the sender is the smaller one. */
	EXPECT_LE(b.send_depth, a.receive_depth);
	EXPECT_GE(128 * 1024, b.send_depth * b.send_segment);
	EXPECT_LE(1, a.receive_depth);
	EXPECT_GE(256 * 1024, a.receive_depth * a.receive_segment);
	EXPECT_GE(128 * 1024, b.receive_depth * b.receive_segment);
	ASSERT_EQ(SOME, rdma_send(c.active, SOME, DATA, 0));
	EXPECT_EQ(SOME, receive_pattern(c.passive, SOME, DATA, 0));
	rdma_pair_close(&c);
}

/* With the least memory the window is not larger than what is charged. */
TEST_F_TIMEOUT(args, least_receive_bytes, 60)
{
	struct rdma_splice_connect connect = { .receive_bytes = 16 * 1024 };
	struct rdma_splice_info info;
	struct rdma_pair c;

	self->connect.receive_bytes = 16 * 1024 - 1;
	EXPECT_EQ(-EINVAL, CONNECT(&self->connect));
	c = rdma_pair_with(_metadata, rdma_address(variant->kind, AF_INET),
			   connect, (struct rdma_splice_listen) {});
	info = rdma_info(_metadata, c.active);
	EXPECT_GE(16 * 1024, info.send_depth * info.send_segment);
	EXPECT_LE(1, info.send_depth);
	EXPECT_GE(16 * 1024, info.receive_depth * info.receive_segment);
	EXPECT_EQ(4096, info.receive_segment);
	ASSERT_EQ(4096, rdma_send(c.active, 4096, DATA, 0));
	EXPECT_EQ(4096, receive_pattern(c.passive, 4096, DATA, 0));
	ASSERT_EQ(4096, rdma_send(c.passive, 4096, BACK, 0));
	EXPECT_EQ(4096, receive_pattern(c.active, 4096, BACK, 0));
	rdma_pair_close(&c);
}

TEST_F_TIMEOUT(conn, info, 30)
{
	struct rdma_splice_info a = rdma_info(_metadata, self->c.active);
	struct rdma_splice_info b = rdma_info(_metadata, self->c.passive);
	struct rdma_splice_addr addr =
		rdma_addr(rdma_address(variant->kind, AF_INET), some_port());

	EXPECT_EQ(RDMA_SPLICE_CONNECTED, a.state);
	EXPECT_EQ(RDMA_SPLICE_CONNECTED, b.state);
	EXPECT_EQ(0, a.error);
	EXPECT_EQ(0, a.flags);
	EXPECT_EQ(0, memcmp(&addr, &a.peer, sizeof(addr)));
	EXPECT_EQ(0, memcmp(&addr, &b.local, sizeof(addr)));
	EXPECT_EQ(0, memcmp(&a.local, &b.peer, sizeof(addr)));
	EXPECT_EQ(0, memcmp(addr.addr, a.local.addr, sizeof(addr.addr)));
	EXPECT_NE(0, a.local.port);
	EXPECT_STREQ(variant->kind == RXE ? "rxe_one" : "siw_one", a.device);
	EXPECT_STREQ(a.device, b.device);
	/* See "Limits of the driver" in the documentation. */
	EXPECT_EQ(variant->kind == RXE ? 31 * 4096 : 5 * 4096, a.send_segment);
	EXPECT_EQ(a.send_segment, b.receive_segment);
	EXPECT_EQ(a.send_depth, b.receive_depth);
	EXPECT_GE(1 << 20, a.send_segment * a.send_depth);
	EXPECT_EQ(0, a.sent);
	EXPECT_EQ(0, a.taken);
	EXPECT_EQ(0, a.received);

	ASSERT_EQ(SOME, rdma_send(self->c.active, SOME, DATA, 0));
	ASSERT_EQ(100, receive_pattern(self->c.passive, 100, DATA, 0));
	EXPECT_EQ(SOME, rdma_info(_metadata, self->c.active).sent);
	EXPECT_EQ(100, rdma_info(_metadata, self->c.passive).received);
}

/* fsync() waits for the peer's reader. */
TEST_F_TIMEOUT(conn, fsync, 30)
{
	struct job sync = job_fsync(self->c.active);

	EXPECT_EQ(0, job_call(&sync));
	ASSERT_EQ(SOME, rdma_send(self->c.active, SOME, DATA, 0));
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &sync));
	job_start(_metadata, &sync);
	job_wait_blocked(&sync);
	usleep(QUIET * 1000);
	EXPECT_TRUE(task_blocked(sync.tid, SYS_fsync));
	ASSERT_EQ(SOME, receive_pattern(self->c.passive, SOME, DATA, 0));
	EXPECT_EQ(0, job_finish(_metadata, &sync));
	EXPECT_EQ(SOME, rdma_info(_metadata, self->c.active).taken);
}

TEST_F_TIMEOUT(conn, empty, 30)
{
	struct pollfd pfd = { .fd = self->c.passive, .events = POLLIN };
	struct job job = job_splice(self->c.passive, self->q[1], SOME);
	struct job poll = job_poll(&pfd);

	EXPECT_EQ(POLLOUT, poll_now(self->c.passive, POLLIN | POLLOUT));
	EXPECT_EQ(-EAGAIN, xsplice(self->c.passive, NULL, self->q[1], NULL,
				   SOME, SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(100, rdma_send(self->c.active, 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	job_start(_metadata, &poll);
	job_wait_blocked(&poll);
	ASSERT_EQ(100, rdma_send(self->c.active, 100, DATA, 100));
	EXPECT_EQ(1, job_finish(_metadata, &poll));
	EXPECT_EQ(POLLIN, pfd.revents);
	set_nonblock(_metadata, self->c.passive, true);
	EXPECT_EQ(100, xsplice(self->c.passive, NULL, self->q[1], NULL, SOME,
			       0));
	EXPECT_EQ(-EAGAIN, xsplice(self->c.passive, NULL, self->q[1], NULL,
				   SOME, 0));
	EXPECT_EQ(200, read_pattern(self->q[0], 200, DATA, 0));
}

/* One direction ends, the other one goes on, and then the connection is closed. */
TEST_F_TIMEOUT(conn, shutdown, 60)
{
	struct rdma_splice_info info;
	int i;

	catch_signal(_metadata, SIGPIPE, 0);
	ASSERT_EQ(SOME, rdma_send(self->c.active, SOME, DATA, 0));
	ASSERT_EQ(0, xshutdown(self->c.active));
	ASSERT_EQ(1, write_pattern(self->p[1], 1, DATA, 0));
	EXPECT_EQ(-EPIPE, xsplice(self->p[0], NULL, self->c.active, NULL, 1,
				  0));
	EXPECT_EQ(1, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME, receive_pattern(self->c.passive, SOME, DATA, 0));
	EXPECT_EQ(0, receive_pattern(self->c.passive, 1, DATA, SOME));
	EXPECT_EQ(0, xsplice(self->c.passive, NULL, self->q[1], NULL, 1,
			     SPLICE_F_NONBLOCK));
	EXPECT_EQ(POLLIN | POLLRDHUP, poll_now(self->c.passive,
					       POLLIN | POLLRDHUP));
	EXPECT_EQ(RDMA_SPLICE_FIN_SENT,
		  rdma_info(_metadata, self->c.active).flags);
	EXPECT_EQ(RDMA_SPLICE_FIN_RECEIVED,
		  rdma_info(_metadata, self->c.passive).flags);

	send_and_receive(_metadata, self->c.passive, self->c.active, 65536);
	ASSERT_EQ(0, xshutdown(self->c.passive));
	EXPECT_EQ(0, receive_pattern(self->c.active, 1, DATA, 0));
	EXPECT_EQ(0, fsync(self->c.active));
	EXPECT_EQ(0, fsync(self->c.passive));
	for (i = 0; i < 2; i++) {
		int fd = i ? self->c.active : self->c.passive;

		EXPECT_EQ(POLLHUP, poll_for(fd, 0, SETUP_MS) & ~POLLRDHUP);
		info = rdma_info(_metadata, fd);
		EXPECT_EQ(RDMA_SPLICE_CLOSED, info.state);
		EXPECT_EQ(0, info.error);
		EXPECT_EQ(RDMA_SPLICE_FIN_SENT | RDMA_SPLICE_FIN_RECEIVED,
			  info.flags);
		EXPECT_EQ(0, receive_pattern(fd, 1, DATA, 0));
		EXPECT_EQ(-EPIPE, xsplice(self->p[0], NULL, fd, NULL, 1, 0));
	}
	EXPECT_EQ(0, signal_count(SIGPIPE));
}

/* A reader that waits gets the end of data. */
TEST_F_TIMEOUT(conn, end_wakes, 30)
{
	struct job job = job_splice(self->c.passive, self->q[1], SOME);

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(0, xshutdown(self->c.active));
	EXPECT_EQ(0, job_finish(_metadata, &job));
}

/* The end of data is behind data that has no credit yet. */
TEST_F_TIMEOUT(conn, shutdown_full, 60)
{
	ssize_t sum = fill_connection(_metadata, self->c.active, self->p);

	ASSERT_EQ(0, xshutdown(self->c.active));
	EXPECT_EQ(sum, receive_pattern(self->c.passive, sum, DATA, 0));
	EXPECT_EQ(0, receive_pattern(self->c.passive, 1, DATA, 0));
}

/* Without SHUTDOWN the peer reads the data, and then gets an error. */
TEST_F_TIMEOUT(conn, close, 60)
{
	struct rdma_splice_info info;

	ASSERT_EQ(SOME, rdma_send(self->c.active, SOME, DATA, 0));
	close_early(&self->c.active);
	EXPECT_LT(0, poll_for(self->c.passive, 0, SETUP_MS) & POLLHUP);
	info = rdma_info(_metadata, self->c.passive);
	EXPECT_EQ(RDMA_SPLICE_FAILED, info.state);
	EXPECT_EQ(ECONNRESET, info.error);
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(-ECONNRESET, xsplice(self->p[0], NULL, self->c.passive, NULL,
				       SOME, 0));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME, receive_pattern(self->c.passive, SOME, DATA, 0));
	EXPECT_EQ(-ECONNRESET, receive_pattern(self->c.passive, 1, DATA, 0));
}

/* The same, for calls that wait. */
TEST_F_TIMEOUT(conn, close_wakes, 60)
{
	struct job receive = job_splice(self->c.passive, self->q[1], SOME);
	struct pollfd pfd = { .fd = self->c.passive, .events = POLLIN };
	struct job poll = job_poll(&pfd), send, sync;

	fill_connection(_metadata, self->c.passive, self->p);
	send = job_splice(self->p[0], self->c.passive, SOME);
	sync = job_fsync(self->c.passive);
	job_start(_metadata, &receive);
	job_wait_blocked(&receive);
	job_start(_metadata, &poll);
	job_wait_blocked(&poll);
	job_start(_metadata, &send);
	job_wait_blocked(&send);
	job_start(_metadata, &sync);
	job_wait_blocked(&sync);
	close_early(&self->c.active);
	EXPECT_EQ(-ECONNRESET, job_finish(_metadata, &receive));
	EXPECT_EQ(-ECONNRESET, job_finish(_metadata, &send));
	EXPECT_EQ(-ECONNRESET, job_finish(_metadata, &sync));
	EXPECT_EQ(1, job_finish(_metadata, &poll));
	EXPECT_LT(0, pfd.revents & (POLLERR | POLLHUP));
}

/* Pages that were received outlive the connection, in pipes. */
TEST_F_TIMEOUT(conn, outlived, 60)
{
	ASSERT_EQ(SOME, rdma_send(self->c.active, SOME, DATA, 0));
	ASSERT_EQ(SOME, splice_full(self->c.passive, self->q[1], SOME));
	close_early(&self->c.active);
	close_early(&self->c.passive);
	EXPECT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));
}

/* A pipe that keeps what was received does not stop the connection. */
TEST_F_TIMEOUT(conn, pipe_keeps, 60)
{
	ssize_t len = 16 * 4096, more = 2 << 20;
	struct relay in = {
		.in = make_memfd(_metadata, more, DATA), .out = self->c.active,
		.len = more,
	};

	ASSERT_EQ(len, rdma_send(self->c.active, len, BACK, 0));
	ASSERT_EQ(len, splice_full(self->c.passive, self->q[1], len));
	relay_start(_metadata, &in);
	EXPECT_EQ(more, receive_pattern(self->c.passive, more, DATA, 0));
	EXPECT_EQ(more, relay_finish(_metadata, &in));
	EXPECT_EQ(len, read_pattern(self->q[0], len, BACK, 0));
}

/* The fallback, which copies. */
TEST_F_TIMEOUT(conn, read_write, 60)
{
	char *buf = alloc_pattern(_metadata, SOME, DATA);

	ASSERT_EQ(SOME, write_full(self->c.active, buf, SOME));
	EXPECT_EQ(100, read_pattern(self->c.passive, 100, DATA, 0));
	EXPECT_EQ(SOME - 100, read_pattern(self->c.passive, SOME - 100, DATA,
					   100));
	ASSERT_EQ(SOME, write_full(self->c.active, buf, SOME));
	EXPECT_EQ(SOME, receive_pattern(self->c.passive, SOME, DATA, 0));
	ASSERT_EQ(SOME, rdma_send(self->c.active, SOME, DATA, 0));
	EXPECT_EQ(SOME, read_pattern(self->c.passive, SOME, DATA, 0));
	set_nonblock(_metadata, self->c.passive, true);
	EXPECT_EQ(-EAGAIN, xread(self->c.passive, buf, 1));
	ASSERT_EQ(0, xshutdown(self->c.active));
	EXPECT_LT(0, poll_for(self->c.passive, POLLIN, SETUP_MS) & POLLIN);
	EXPECT_EQ(0, xread(self->c.passive, buf, 1));
	EXPECT_EQ(-EPIPE, xwrite(self->c.active, buf, 1));
	free(buf);
}

static ssize_t fdinfo_of(int fd, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return read_line_of(path, name);
}

/* Nothing is copied, except by read(2) and write(2). */
TEST_F_TIMEOUT(conn, counters, 60)
{
	ssize_t copied = rdma_counter("bytes.copied");
	ssize_t out = rdma_counter("bytes.rdma.out");
	ssize_t in = rdma_counter("bytes.rdma.in");
	int fds[] = { self->c.active, self->c.passive };
	int file = make_memfd(_metadata, SOME, DATA), i;

	if (!have_counters())
		SKIP(return, "no " COUNTERS);
	EXPECT_EQ(2, rdma_counter("connections"));
	ASSERT_EQ(SOME, splice_full(file, self->p[1], SOME));
	ASSERT_EQ(SOME, splice_full(self->p[0], self->c.active, SOME));
	ASSERT_EQ(SOME, receive_pattern(self->c.passive, SOME, DATA, 0));
	ASSERT_EQ(0, fsync(self->c.active));
	EXPECT_EQ(out + SOME, rdma_counter("bytes.rdma.out"));
	EXPECT_EQ(in + SOME, rdma_counter("bytes.rdma.in"));
	EXPECT_EQ(copied, rdma_counter("bytes.copied"));
	/* The adapter tells later than the peer that a send is complete. */
	for (i = 0; i < 1000 && rdma_counter("sends.posted"); i++)
		usleep(5000);
	EXPECT_EQ(0, rdma_counter("sends.posted"));
	EXPECT_EQ(SOME, fdinfo_of(self->c.active, "rdma-sent:"));
	EXPECT_EQ(SOME, fdinfo_of(self->c.active, "rdma-taken:"));
	EXPECT_EQ(0, fdinfo_of(self->c.active, "rdma-received:"));
	EXPECT_EQ(SOME, fdinfo_of(self->c.passive, "rdma-received:"));
	for (i = 0; i < ARRAY_LEN(fds); i++) {
		EXPECT_EQ(RDMA_SPLICE_CONNECTED,
			  fdinfo_of(fds[i], "rdma-state:"));
		EXPECT_EQ(0, fdinfo_of(fds[i], "rdma-copied:"));
		EXPECT_EQ(0, fdinfo_of(fds[i], "rdma-sends-posted:"));
	}
	ASSERT_EQ(100, write_pattern(self->c.active, 100, DATA, 0));
	EXPECT_EQ(100, read_pattern(self->c.passive, 100, DATA, 0));
	EXPECT_EQ(copied + 200, rdma_counter("bytes.copied"));
	EXPECT_EQ(100, fdinfo_of(self->c.active, "rdma-copied:"));
	EXPECT_EQ(100, fdinfo_of(self->c.passive, "rdma-copied:"));
}

/* No position, and no other kind of call. */
TEST_F(conn, errors)
{
	loff_t off = 0;

	ASSERT_EQ(1, write_pattern(self->p[1], 1, DATA, 0));
	EXPECT_EQ(-ESPIPE, xsplice(self->p[0], NULL, self->c.active, &off, 1,
				   0));
	EXPECT_EQ(-ESPIPE, xsplice(self->c.active, &off, self->q[1], NULL, 1,
				   0));
	EXPECT_EQ(-ESPIPE, or_errno(lseek(self->c.active, 0, SEEK_SET)));
	EXPECT_EQ(-ENOTTY, xaccept(self->c.active, 0));
	EXPECT_EQ(-EINVAL, xsplice(self->c.active, NULL, self->c.passive, NULL,
				   1, 0));
	EXPECT_EQ(1, pipe_bytes(self->p[0]));
}

/* ACCEPT waits for a connection. */
TEST_F_TIMEOUT(args, accept, 60)
{
	struct rdma_splice_accept arg = {};
	struct rdma_splice_info info;
	int listener = LISTEN(&self->listen), fd;
	struct job job = {
		.nr = SYS_ioctl,
		.arg = { listener, RDMA_SPLICE_IOC_ACCEPT, (long)&arg },
	};

	ASSERT_LE(0, listener);
	EXPECT_EQ(0, poll_now(listener, POLLIN));
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	fd = CONNECT(&self->connect);
	ASSERT_LE(0, fd);
	ASSERT_LE(0, job_finish(_metadata, &job));
	EXPECT_EQ(AF_INET, arg.peer.family);
	info = rdma_info(_metadata, fd);
	EXPECT_EQ(0, memcmp(&arg.peer, &info.local, sizeof(arg.peer)));
	/* And poll() tells of it. */
	self->connect.flags = RDMA_SPLICE_NONBLOCK;
	ASSERT_LE(0, CONNECT(&self->connect));
	EXPECT_EQ(POLLIN, poll_for(listener, POLLIN, SETUP_MS));
	ASSERT_EQ(0, fcntl(listener, F_SETFL, O_NONBLOCK));
	EXPECT_LE(0, ioctl(listener, RDMA_SPLICE_IOC_ACCEPT, &arg));
}

/* All addresses, of both families. */
TEST_F_TIMEOUT(args, any_address, 60)
{
	static const int families[] = { AF_INET, AF_INET6 };
	int i, listener, fd;

	for (i = 0; i < ARRAY_LEN(families); i++) {
		self->listen.local = (struct rdma_splice_addr) {
			.family = families[i], .port = self->port,
		};
		listener = LISTEN(&self->listen);
		ASSERT_LE(0, listener);
		self->connect.peer = rdma_addr(rdma_address(variant->kind,
							    families[i]),
					       self->port);
		self->connect.flags = RDMA_SPLICE_NONBLOCK;
		fd = CONNECT(&self->connect);
		ASSERT_LE(0, fd);
		EXPECT_LE(0, xaccept(listener, 0));
		EXPECT_EQ(POLLOUT, poll_for(fd, POLLOUT, SETUP_MS));
		close(fd);
		close(listener);
	}
}

/* The link-local address of the device, without an interface. */
static struct rdma_splice_addr link_local(struct __test_metadata *_metadata,
					  enum rdma_kind kind)
{
	struct rdma_splice_addr addr = { .family = AF_INET6 };
	struct ifaddrs *all, *ifa;
	char name[IFNAMSIZ];

	snprintf(name, sizeof(name), "v%s", rdma_name(kind));
	ASSERT_EQ(0, getifaddrs(&all));
	for (ifa = all; ifa; ifa = ifa->ifa_next) {
		struct sockaddr_in6 *in6 = (void *)ifa->ifa_addr;

		if (in6 && in6->sin6_family == AF_INET6 &&
		    !strcmp(ifa->ifa_name, name) &&
		    IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
			memcpy(addr.addr, &in6->sin6_addr, sizeof(addr.addr));
	}
	freeifaddrs(all);
	EXPECT_EQ(0xfe, addr.addr[0]);
	return addr;
}

/* An address that is local to a link needs the interface. */
TEST_F_TIMEOUT(args, link_local, 60)
{
	struct rdma_splice_addr addr = link_local(_metadata, variant->kind);
	struct rdma_splice_info info;
	char name[IFNAMSIZ];
	struct rdma_pair c;

	snprintf(name, sizeof(name), "v%s", rdma_name(variant->kind));
	addr.port = self->port;
	self->connect.peer = addr;
	EXPECT_GT(0, CONNECT(&self->connect));
	self->listen.local = addr;
	EXPECT_EQ(-EINVAL, LISTEN(&self->listen));

	addr.scope_id = if_nametoindex(name);
	self->listen.local = addr;
	self->connect.peer = addr;
	self->connect.flags = RDMA_SPLICE_NONBLOCK;
	c.listener = LISTEN(&self->listen);
	ASSERT_LE(0, c.listener);
	c.active = CONNECT(&self->connect);
	ASSERT_LE(0, c.active);
	c.passive = xaccept(c.listener, 0);
	ASSERT_LE(0, c.passive);
	rdma_wait_writable(_metadata, c.active);
	rdma_wait_writable(_metadata, c.passive);
	info = rdma_info(_metadata, c.active);
	EXPECT_EQ(0, memcmp(&addr, &info.peer, sizeof(addr)));
	EXPECT_EQ(addr.scope_id, info.local.scope_id);
	set_nonblock(_metadata, c.active, false);
	ASSERT_EQ(SOME, rdma_send(c.active, SOME, DATA, 0));
	EXPECT_EQ(SOME, receive_pattern(c.passive, SOME, DATA, 0));
	rdma_pair_close(&c);
}

/*
 * TCP connections that end at once leave the listener of siw as it was. Those of
 * a round are fewer than its backlog: siw forgets to accept more.
 */
TEST_F_TIMEOUT(args, early_close, 60)
{
	union socket_address addr =
		socket_addr(rdma_address(SIW, AF_INET), self->port);
	int listener, fd, i;

	if (variant->kind != SIW)
		SKIP(return, "rxe does not use TCP");
	listener = LISTEN(&self->listen);
	ASSERT_LE(0, listener);
	for (i = 0; i < 100; i++) {
		if (!(i % 10))
			usleep(200000);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, connect(fd, &addr.any, sizeof(addr.in)));
		close(fd);
	}
	self->connect.flags = RDMA_SPLICE_NONBLOCK;
	fd = CONNECT(&self->connect);
	ASSERT_LE(0, fd);
	ASSERT_EQ(POLLIN, poll_for(listener, POLLIN, SETUP_MS));
	EXPECT_LE(0, xaccept(listener, 0));
	EXPECT_EQ(POLLOUT, poll_for(fd, POLLOUT, SETUP_MS));
	close(fd);
	close(listener);
}

/* A listener that is closed refuses the connections that wait. */
TEST_F_TIMEOUT(args, listener_closed, 60)
{
	int listener = LISTEN(&self->listen), fd;

	ASSERT_LE(0, listener);
	self->connect.flags = RDMA_SPLICE_NONBLOCK;
	fd = CONNECT(&self->connect);
	ASSERT_LE(0, fd);
	EXPECT_EQ(POLLIN, poll_for(listener, POLLIN, SETUP_MS));
	close(listener);
	EXPECT_LT(0, poll_for(fd, 0, SETUP_MS) & POLLERR);
	EXPECT_EQ(RDMA_SPLICE_FAILED, rdma_info(_metadata, fd).state);
}

#define CONNECTIONS 10

TEST_F_TIMEOUT(args, ten_connections, 120)
{
	struct relay in[CONNECTIONS], out[CONNECTIONS];
	int active, passive, file, to, i;

	self->listen.backlog = CONNECTIONS;
	self->listen.receive_bytes = 256 * 1024;
	self->connect.receive_bytes = 256 * 1024;
	/* On a debug kernel one of them may be silent for long. */
	self->listen.keepalive_ms = 60000;
	self->connect.keepalive_ms = 60000;
	self->connect.flags = RDMA_SPLICE_NONBLOCK;
	passive = LISTEN(&self->listen);
	ASSERT_LE(0, passive);
	for (i = 0; i < CONNECTIONS; i++) {
		active = CONNECT(&self->connect);
		ASSERT_LE(0, active);
		file = make_memfd(_metadata, 300001, i);
		to = make_memfd(_metadata, 0, 0);
		in[i] = (struct relay) {
			.in = file, .out = active, .len = 300001,
		};
		out[i] = (struct relay) { .out = to, .len = 300001 };
		/* ACCEPT returns connections in order. */
		out[i].in = xaccept(passive, 0);
		ASSERT_LE(0, out[i].in);
		rdma_wait_writable(_metadata, active);
		set_nonblock(_metadata, active, false);
	}
	for (i = 0; i < CONNECTIONS; i++) {
		relay_start(_metadata, &in[i]);
		relay_start(_metadata, &out[i]);
	}
	for (i = 0; i < CONNECTIONS; i++) {
		check_relays(_metadata, &in[i], &out[i]);
		expect_file(_metadata, out[i].out, 300001, i, 0);
		expect_unreferenced(_metadata, in[i].in);
	}
}

TEST_HARNESS_MAIN
