// SPDX-License-Identifier: GPL-2.0
/*
 * Programs do not notice whether a consumer gets references or copies
 * (fs.splice_zerocopy): counts, errors, signals, waiting, the boundaries of
 * messages and the data are the same.
 *
 * Each test runs with the value 2, in which all consumers get references, as
 * the control, and with the values 1 and 0.
 */
#include "policy_common.h"

#include <sys/wait.h>

#define DATA 1

/* More than a socket has room for, in whole and partly filled pages. */
#define MUCH 3000001

/* Buffers of 10 bytes. */
#define SMALL 10
#define MANY 20

FIXTURE(datagram) {
	int before;		/* the value of the sysctl */
	int sv[2];
	int p[2];
	char *mem;
	char *buf;
};

FIXTURE_VARIANT(datagram) {
	int family;
	int value;
};

FIXTURE_VARIANT_ADD(datagram, udp_0) {
	.family = AF_INET, .value = 0,
};

FIXTURE_VARIANT_ADD(datagram, udp_1) {
	.family = AF_INET, .value = 1,
};

FIXTURE_VARIANT_ADD(datagram, udp_2) {
	.family = AF_INET, .value = 2,
};

FIXTURE_VARIANT_ADD(datagram, unix_0) {
	.family = AF_UNIX, .value = 0,
};

FIXTURE_VARIANT_ADD(datagram, unix_1) {
	.family = AF_UNIX, .value = 1,
};

FIXTURE_VARIANT_ADD(datagram, unix_2) {
	.family = AF_UNIX, .value = 2,
};

#define BUF 100000

FIXTURE_SETUP(datagram)
{
	self->before = read_value();
	if (self->before < 0)
		SKIP(return, "the kernel has no fs.splice_zerocopy");
	if (variant->family == AF_INET)
		make_datagram_pair(_metadata, SOCK_DGRAM, 0, self->sv);
	else
		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM, 0, self->sv));
	make_pipe(_metadata, self->p);
	self->mem = alloc_pattern(_metadata, BUF, DATA);
	self->buf = malloc(BUF);
	ASSERT_NE(NULL, self->buf);
	set_value(_metadata, variant->value);
}

FIXTURE_TEARDOWN(datagram)
{
	set_value(_metadata, self->before);
}

/* Puts @n buffers of SMALL bytes into the pipe. */
static void fill_small(struct __test_metadata *_metadata,
		       const struct _test_data_datagram *self, int n)
{
	int i;

	for (i = 0; i < n; i++)
		ASSERT_EQ(SMALL, xvmsplice1(self->p[1], self->mem + i * SMALL,
					    SMALL, 0));
}

/* Expects a datagram with the pattern from @pos on. */
static void expect_datagram(struct __test_metadata *_metadata,
			    const struct _test_data_datagram *self,
			    ssize_t len, loff_t pos)
{
	ASSERT_EQ(len, xread(self->sv[1], self->buf, BUF));
	ASSERT_EQ(len, match_pattern(self->buf, len, DATA, pos));
}

/*
 * More buffers than one call of sendmsg() gets. UDP joins the calls, and
 * AF_UNIX does not. No datagram is lost, however often.
 */
TEST_F(datagram, many_buffers)
{
	ssize_t page = page_size();
	int i, n = MANY;

	ASSERT_LT(0, fcntl(self->p[1], F_SETPIPE_SZ, 2 * MANY * page));
	for (i = 0; i < 100; i++) {
		fill_small(_metadata, self, n);
		ASSERT_EQ(n * SMALL, xsplice(self->p[0], NULL, self->sv[0],
					     NULL, n * SMALL, 0));
		if (variant->family == AF_INET) {
			expect_datagram(_metadata, self, n * SMALL, 0);
			continue;
		}
		expect_datagram(_metadata, self, 16 * SMALL, 0);
		expect_datagram(_metadata, self, (n - 16) * SMALL, 16 * SMALL);
	}
}

/* SPLICE_F_MORE: UDP waits for the rest of the datagram. */
TEST_F(datagram, more)
{
	fill_small(_metadata, self, 3);
	ASSERT_EQ(SMALL, xsplice(self->p[0], NULL, self->sv[0], NULL, SMALL,
				 SPLICE_F_MORE));
	ASSERT_EQ(2 * SMALL, xsplice(self->p[0], NULL, self->sv[0], NULL,
				     2 * SMALL, 0));
	if (variant->family == AF_INET) {
		expect_datagram(_metadata, self, 3 * SMALL, 0);
		return;
	}
	expect_datagram(_metadata, self, SMALL, 0);
	expect_datagram(_metadata, self, 2 * SMALL, SMALL);
}

/*
 * Buffers of a socket can be parts of 32 KiB of contiguous pages, although they
 * take one slot of the pipe.
 */
TEST_F(datagram, large_buffers)
{
	ssize_t len = 60000, n;
	char path[64];
	int sv[2];

	make_unix_pair(_metadata, sv);
	ASSERT_EQ(len, write_pattern(sv[0], len, DATA, 0));
	ASSERT_EQ(len, splice_full(sv[1], self->p[1], len));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", self->p[0]);
	n = read_line_of(path, "pipe-buffers:");
	ASSERT_LT(0, n);
	ASSERT_GT(len / page_size() / 2, n);
	ASSERT_EQ(len, xsplice(self->p[0], NULL, self->sv[0], NULL, len, 0));
	expect_datagram(_metadata, self, len, 0);
}

/* A datagram that is too large stays in the pipe. */
TEST_F(datagram, too_large)
{
	ssize_t len = 16 * page_size();
	loff_t pos = 0;
	int file;

	if (variant->family == AF_UNIX) {
		int size = 4608;

		ASSERT_EQ(0, setsockopt(self->sv[0], SOL_SOCKET, SO_SNDBUF,
					&size, sizeof(size)));
	}
	file = make_memfd(_metadata, len, DATA);
	ASSERT_EQ(len, xsplice(file, &pos, self->p[1], NULL, len, 0));
	EXPECT_EQ(-EMSGSIZE, xsplice(self->p[0], NULL, self->sv[0], NULL, len,
				     0));
	EXPECT_EQ(len, pipe_bytes(self->p[0]));
	EXPECT_EQ(len, read_pattern(self->p[0], len, DATA, 0));
	close(file);
}

/* The queue of an AF_UNIX socket has room for some datagrams only. */
TEST_F(datagram, full_queue)
{
	struct job job = job_splice(self->p[0], self->sv[0], SMALL);
	int i, n = 0;

	if (variant->family != AF_UNIX)
		SKIP(return, "UDP drops datagrams that do not fit");
	set_nonblock(_metadata, self->sv[0], true);
	do {
		fill_small(_metadata, self, 1);
		ASSERT_GT(10000, ++n);
	} while (xsplice(self->p[0], NULL, self->sv[0], NULL, SMALL, 0) ==
		 SMALL);
	ASSERT_EQ(-EAGAIN, xsplice(self->p[0], NULL, self->sv[0], NULL, SMALL,
				   0));
	ASSERT_EQ(SMALL, pipe_bytes(self->p[0]));

	/* It waits for room, and the pipe can be used meanwhile. */
	set_nonblock(_metadata, self->sv[0], false);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(SMALL, pipe_bytes(self->p[0]));
	for (i = 0; i < n; i++)
		expect_datagram(_metadata, self, SMALL, 0);
	EXPECT_EQ(SMALL, job_finish(_metadata, &job));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
}

enum protocol {
	TCP,
	UNIX_STREAM,
	KTLS,
	VSOCK,
	MPTCP,
};

FIXTURE(stream) {
	int before;
	int sv[2];
	int file;
	int p[2];
};

FIXTURE_VARIANT(stream) {
	enum protocol protocol;
	int value;
};

FIXTURE_VARIANT_ADD(stream, tcp_0) {
	.protocol = TCP, .value = 0,
};

FIXTURE_VARIANT_ADD(stream, tcp_2) {
	.protocol = TCP, .value = 2,
};

FIXTURE_VARIANT_ADD(stream, unix_0) {
	.protocol = UNIX_STREAM, .value = 0,
};

FIXTURE_VARIANT_ADD(stream, unix_2) {
	.protocol = UNIX_STREAM, .value = 2,
};

FIXTURE_VARIANT_ADD(stream, ktls_0) {
	.protocol = KTLS, .value = 0,
};

FIXTURE_VARIANT_ADD(stream, ktls_2) {
	.protocol = KTLS, .value = 2,
};

FIXTURE_VARIANT_ADD(stream, vsock_0) {
	.protocol = VSOCK, .value = 0,
};

FIXTURE_VARIANT_ADD(stream, vsock_1) {
	.protocol = VSOCK, .value = 1,
};

FIXTURE_VARIANT_ADD(stream, vsock_2) {
	.protocol = VSOCK, .value = 2,
};

FIXTURE_VARIANT_ADD(stream, mptcp_0) {
	.protocol = MPTCP, .value = 0,
};

FIXTURE_VARIANT_ADD(stream, mptcp_1) {
	.protocol = MPTCP, .value = 1,
};

FIXTURE_VARIANT_ADD(stream, mptcp_2) {
	.protocol = MPTCP, .value = 2,
};

/* Makes a pair with a small buffer. Returns false if there is no such protocol. */
static bool make_stream(struct __test_metadata *_metadata,
			enum protocol protocol, int sv[2])
{
	int size = 100000;

	switch (protocol) {
	case TCP:
	case KTLS:
		make_tcp_pair(_metadata, sv);
		if (protocol == KTLS)
			start_tls(_metadata, sv);
		break;
	case UNIX_STREAM:
		make_unix_pair(_metadata, sv);
		break;
	case VSOCK:
		return connect_pair(_metadata, AF_VSOCK, 0, sv);
	case MPTCP:
		if (!connect_pair(_metadata, AF_INET, IPPROTO_MPTCP, sv))
			return false;
		break;
	}
	ASSERT_EQ(0, setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size,
				sizeof(size)));
	ASSERT_EQ(0, setsockopt(sv[1], SOL_SOCKET, SO_RCVBUF, &size,
				sizeof(size)));
	return true;
}

FIXTURE_SETUP(stream)
{
	self->before = read_value();
	if (self->before < 0)
		SKIP(return, "the kernel has no fs.splice_zerocopy");
	if (!make_stream(_metadata, variant->protocol, self->sv))
		SKIP(return, "the kernel does not have this protocol");
	make_pipe(_metadata, self->p);
	self->file = make_memfd(_metadata, MUCH, DATA);
	set_value(_metadata, variant->value);
}

FIXTURE_TEARDOWN(stream)
{
	set_value(_metadata, self->before);
}

/* Fills the pipe with data of the file from @pos on. */
static ssize_t fill_from(struct __test_metadata *_metadata,
			 const struct _test_data_stream *self, loff_t pos)
{
	ssize_t len = xsplice(self->file, &pos, self->p[1], NULL, MUCH, 0);

	ASSERT_LT(0, len);
	return len;
}

/*
 * Sends without a wait, until there is no room. Returns the number of bytes that
 * were sent; what was not stays in the pipe.
 */
static ssize_t send_until_full(struct __test_metadata *_metadata,
			       const struct _test_data_stream *self,
			       loff_t pos)
{
	ssize_t sent = 0, ret;

	for (;;) {
		ssize_t left = pipe_bytes(self->p[0]);

		if (!left)
			left = fill_from(_metadata, self, pos + sent);
		ret = xsplice(self->p[0], NULL, self->sv[0], NULL, left, 0);
		if (ret == -EAGAIN) {
			ASSERT_EQ(left, pipe_bytes(self->p[0]));
			return sent;
		}
		ASSERT_LT(0, ret);
		ASSERT_EQ(left - ret, pipe_bytes(self->p[0]));
		sent += ret;
		ASSERT_GT(MUCH, pos + sent);
	}
}

/* O_NONBLOCK: short counts and EAGAIN lose nothing and repeat nothing. */
TEST_F(stream, nonblock)
{
	ssize_t done = 0, sent;
	int i;

	set_nonblock(_metadata, self->sv[0], true);
	sent = send_until_full(_metadata, self, 0);
	ASSERT_LT(0, sent);
	for (i = 0; i < 4; i++) {
		ssize_t len = sent / 4 * 3 - done;

		/* Make room for a part of a message. */
		if (len < 1)
			len = 1;
		ASSERT_EQ(len, read_pattern(self->sv[1], len, DATA, done));
		done += len;
		sent += send_until_full(_metadata, self, sent);
	}
	ASSERT_EQ(sent - done,
		  read_pattern(self->sv[1], sent - done, DATA, done));
	EXPECT_EQ(-1, recv(self->sv[1], &(char){ 0 }, 1, MSG_DONTWAIT));
}

/* A call that waits for room returns when all is sent. */
TEST_F(stream, wait)
{
	struct job job = job_sendfile(self->sv[0], self->file, MUCH);

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	EXPECT_EQ(MUCH, read_pattern(self->sv[1], MUCH, DATA, 0));
	EXPECT_EQ(MUCH, job_finish(_metadata, &job));
	EXPECT_EQ(0, xsendfile(self->sv[0], self->file, NULL, 1));
}

/* A signal ends the wait, and the count is that of the bytes that arrive. */
TEST_F(stream, signal)
{
	struct job job = job_sendfile(self->sv[0], self->file, MUCH);
	ssize_t sent = job_interrupt(_metadata, &job);

	ASSERT_LT(0, sent);
	ASSERT_GT(MUCH, sent);
	ASSERT_EQ(sent, lseek(self->file, 0, SEEK_CUR));
	ASSERT_EQ(0, shutdown(self->sv[0], SHUT_WR));
	EXPECT_EQ(sent, read_pattern(self->sv[1], MUCH, DATA, 0));
}

/* The result of a splice() to a socket that may not send any more. */
struct broken {
	ssize_t ret;
	int signals;
	ssize_t left;		/* bytes that stay in the pipe */
};

static struct broken send_broken(struct __test_metadata *_metadata,
				 const struct _test_data_stream *self,
				 enum protocol protocol)
{
	struct broken b;
	int sv[2];
	ssize_t len;

	ASSERT_TRUE(make_stream(_metadata, protocol, sv));
	len = fill_from(_metadata, self, 0);
	ASSERT_EQ(0, shutdown(sv[0], SHUT_WR));
	catch_signal(_metadata, SIGPIPE, 0);
	b.ret = xsplice(self->p[0], NULL, sv[0], NULL, len, 0);
	b.signals = signal_count(SIGPIPE);
	b.left = pipe_bytes(self->p[0]);
	/* The rest is still in the pipe. */
	EXPECT_EQ(b.left,
		  read_pattern(self->p[0], b.left, DATA, len - b.left));
	close(sv[0]);
	close(sv[1]);
	return b;
}

/* The result, the signals, and what is left are those of the control. */
TEST_F(stream, sigpipe)
{
	struct broken control, b;

	set_value(_metadata, 2);
	control = send_broken(_metadata, self, variant->protocol);
	set_value(_metadata, variant->value);
	b = send_broken(_metadata, self, variant->protocol);
	EXPECT_EQ(control.ret, b.ret);
	EXPECT_EQ(control.signals, b.signals);
	EXPECT_EQ(control.left, b.left);
	if (variant->protocol == TCP || variant->protocol == UNIX_STREAM) {
		EXPECT_EQ(-EPIPE, b.ret);
		EXPECT_EQ(1, b.signals);
	}
}

/* A pipe that is full, and one that has room for a part. */
FIXTURE(room) {
	int before;
	int file;
	int p[2];
};

FIXTURE_VARIANT(room) {
	int value;
};

FIXTURE_VARIANT_ADD(room, none) {
	.value = 0,
};

FIXTURE_VARIANT_ADD(room, audited) {
	.value = 1,
};

FIXTURE_VARIANT_ADD(room, all) {
	.value = 2,
};

FIXTURE_SETUP(room)
{
	self->before = read_value();
	if (self->before < 0)
		SKIP(return, "the kernel has no fs.splice_zerocopy");
	make_pipe(_metadata, self->p);
	self->file = make_memfd(_metadata, MUCH, DATA);
	set_value(_metadata, variant->value);
}

FIXTURE_TEARDOWN(room)
{
	set_value(_metadata, self->before);
}

/* A slot ends where a page of the file ends. */
TEST_F(room, counts)
{
	ssize_t page = page_size();
	loff_t pos = 100;

	EXPECT_EQ(16 * page - 100,
		  xsplice(self->file, &pos, self->p[1], NULL, MUCH, 0));
	EXPECT_EQ(16 * page, pos);
	EXPECT_EQ(-EAGAIN, xsplice(self->file, &pos, self->p[1], NULL, 1,
				   SPLICE_F_NONBLOCK));
	ASSERT_EQ(page - 100, read_pattern(self->p[0], page - 100, DATA, 100));
	ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, page));
	EXPECT_EQ(page, xsplice(self->file, &pos, self->p[1], NULL, MUCH, 0));
	EXPECT_EQ(-EAGAIN, xsplice(self->file, &pos, self->p[1], NULL, 1,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(17 * page, pos);
	EXPECT_EQ(16 * page - 1,
		  read_pattern(self->p[0], 16 * page - 1, DATA, page + 1));

	/* The end of the file. */
	pos = MUCH - page;
	EXPECT_EQ(page, xsplice(self->file, &pos, self->p[1], NULL, MUCH, 0));
	EXPECT_EQ(0, xsplice(self->file, &pos, self->p[1], NULL, MUCH, 0));
	EXPECT_EQ(page, read_pattern(self->p[0], page, DATA, MUCH - page));
}

/* A transfer into a full pipe waits, and moves what there is room for. */
TEST_F(room, wait)
{
	ssize_t page = page_size();
	struct job job = job_splice(self->file, self->p[1], MUCH);
	loff_t pos = 0;

	ASSERT_EQ(16 * page,
		  xsplice(self->file, &pos, self->p[1], NULL, MUCH, 0));
	ASSERT_EQ(16 * page, lseek(self->file, 16 * page, SEEK_SET));
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(page, read_pattern(self->p[0], page, DATA, 0));
	EXPECT_EQ(page, job_finish(_metadata, &job));
	EXPECT_EQ(16 * page, read_pattern(self->p[0], 16 * page, DATA, page));
}

/* sendfile() to a pipe: the whole pipe in one call, and then EAGAIN. */
TEST_F(room, sendfile)
{
	ssize_t page = page_size();
	loff_t pos = 0;

	set_nonblock(_metadata, self->p[1], true);
	EXPECT_EQ(16 * page, xsendfile(self->p[1], self->file, &pos, MUCH));
	EXPECT_EQ(-EAGAIN, xsendfile(self->p[1], self->file, &pos, MUCH));
	EXPECT_EQ(16 * page, pos);
	EXPECT_EQ(16 * page, read_pattern(self->p[0], 16 * page, DATA, 0));
}

TEST_HARNESS_MAIN
