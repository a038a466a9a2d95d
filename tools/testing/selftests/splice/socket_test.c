// SPDX-License-Identifier: GPL-2.0
/*
 * splice(2) and sendfile(2) with sockets that preserve messages (UDP, AF_UNIX),
 * and with software TLS, which divides a stream into records.
 */
#include "splice_common.h"

#include <linux/tls.h>

/* Two buffers, the second one partly filled. */
#define SOME 5000

#define DATA 1
#define FILLER 2

#define SOL_TLS 282

/* The maximum number of buffers in one message. */
#define PER_MESSAGE 16

/* Puts @nr buffers of @len bytes each into a pipe, from @pos on. */
static void put_buffers(struct __test_metadata *_metadata, int wfd, char *mem,
			loff_t pos, int nr, ssize_t len)
{
	for (; nr--; pos += len)
		ASSERT_EQ(len, xvmsplice1(wfd, mem + pos, len, 0));
}

enum message_kind {
	UDP,
	UNIX_DGRAM,
	UNIX_SEQPACKET,
};

/* Two connected sockets, and a pipe. */
FIXTURE(message) {
	int sv[2];
	int p[2];
	char *mem;		/* 64 KiB of data */
	char *buf;		/* the same size */
	ssize_t size;
};

FIXTURE_VARIANT(message) {
	enum message_kind kind;
};

FIXTURE_VARIANT_ADD(message, udp) {
	.kind = UDP,
};

FIXTURE_VARIANT_ADD(message, unix_dgram) {
	.kind = UNIX_DGRAM,
};

FIXTURE_VARIANT_ADD(message, unix_seqpacket) {
	.kind = UNIX_SEQPACKET,
};

static void make_udp_pair(struct __test_metadata *_metadata, int sv[2])
{
	struct sockaddr_in addr[2] = {};
	socklen_t len = sizeof(addr[0]);
	int i;

	for (i = 0; i < 2; i++) {
		sv[i] = socket(AF_INET, SOCK_DGRAM, 0);
		ASSERT_LE(0, sv[i]);
		bring_up_loopback(_metadata, sv[i]);
		addr[i].sin_family = AF_INET;
		addr[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		ASSERT_EQ(0, bind(sv[i], (struct sockaddr *)&addr[i], len));
		ASSERT_EQ(0, getsockname(sv[i], (struct sockaddr *)&addr[i],
					 &len));
	}
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, connect(sv[i], (struct sockaddr *)&addr[!i], len));
}

FIXTURE_SETUP(message)
{
	int type = variant->kind == UNIX_DGRAM ? SOCK_DGRAM : SOCK_SEQPACKET;

	if (variant->kind == UDP)
		make_udp_pair(_metadata, self->sv);
	else
		ASSERT_EQ(0, socketpair(AF_UNIX, type, 0, self->sv));
	make_pipe(_metadata, self->p);
	self->size = 65536;
	self->mem = alloc_pattern(_metadata, self->size, DATA);
	self->buf = malloc(self->size);
	ASSERT_NE(NULL, self->buf);
}

FIXTURE_TEARDOWN(message)
{
}

/* Expects that the next message at @fd is @len bytes of data from @pos on. */
static void expect_message(struct __test_metadata *_metadata, int fd, char *buf,
			   ssize_t len, loff_t pos)
{
	ssize_t ret = or_errno(recv(fd, buf, 65536, MSG_DONTWAIT));

	EXPECT_EQ(len, ret);
	EXPECT_EQ(len, match_pattern(buf, len, DATA, pos));
}

static void expect_no_message(struct __test_metadata *_metadata, int fd)
{
	char c;

	EXPECT_EQ(-EAGAIN, or_errno(recv(fd, &c, 1, MSG_DONTWAIT)));
}

/* The data that one call takes out of the pipe is one message. */
TEST_F(message, out)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(100, xsplice(self->p[0], NULL, self->sv[0], NULL, 100, 0));
	EXPECT_EQ(SOME - 100, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME - 100, xsplice(self->p[0], NULL, self->sv[0], NULL,
				      2 * SOME, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	expect_message(_metadata, self->sv[1], self->buf, 100, 0);
	expect_message(_metadata, self->sv[1], self->buf, SOME - 100, 100);
	expect_no_message(_metadata, self->sv[1]);
}

/* A message refers to the pages until it is received. */
TEST_F(message, many_buffers)
{
	int slots = 20, len = 10, split = PER_MESSAGE * len;

	ASSERT_LT(0, fcntl(self->p[1], F_SETPIPE_SZ, 32 * page_size()));
	put_buffers(_metadata, self->p[1], self->mem, 0, slots, len);
	EXPECT_EQ(slots * len, xsplice(self->p[0], NULL, self->sv[0], NULL,
				       slots * len, 0));
	/* More than one call takes: UDP gets MSG_MORE. */
	if (variant->kind == UDP) {
		expect_message(_metadata, self->sv[1], self->buf, slots * len,
			       0);
	} else {
		expect_message(_metadata, self->sv[1], self->buf, split, 0);
		expect_message(_metadata, self->sv[1], self->buf,
			       slots * len - split, split);
	}
	expect_no_message(_metadata, self->sv[1]);
}

TEST_F(message, more)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(100, xsplice(self->p[0], NULL, self->sv[0], NULL, 100,
			       SPLICE_F_MORE));
	if (variant->kind == UDP)
		expect_no_message(_metadata, self->sv[1]);
	else
		expect_message(_metadata, self->sv[1], self->buf, 100, 0);
	EXPECT_EQ(200, xsplice(self->p[0], NULL, self->sv[0], NULL, 200, 0));
	if (variant->kind == UDP)
		expect_message(_metadata, self->sv[1], self->buf, 300, 0);
	else
		expect_message(_metadata, self->sv[1], self->buf, 200, 100);
	expect_no_message(_metadata, self->sv[1]);
	EXPECT_EQ(SOME - 300, pipe_bytes(self->p[0]));
}

/*
 * If the data is too long for a message, nothing is sent and nothing is lost.
 */
TEST_F(message, too_long)
{
	int size = 1;

	if (variant->kind != UDP)
		ASSERT_EQ(0, setsockopt(self->sv[0], SOL_SOCKET, SO_SNDBUF,
					&size, sizeof(size)));
	ASSERT_EQ(self->size, write_pattern(self->p[1], self->size, DATA, 0));
	EXPECT_EQ(-EMSGSIZE, xsplice(self->p[0], NULL, self->sv[0], NULL,
				     self->size, 0));
	EXPECT_EQ(self->size, pipe_bytes(self->p[0]));
	expect_no_message(_metadata, self->sv[1]);

	EXPECT_EQ(1000, xsplice(self->p[0], NULL, self->sv[0], NULL, 1000, 0));
	expect_message(_metadata, self->sv[1], self->buf, 1000, 0);
	EXPECT_EQ(self->size - 1000, read_pattern(self->p[0], self->size - 1000,
						  DATA, 1000));
}

/*
 * There is no receiver; UDP learns that from the answer to the previous
 * message.
 */
TEST_F(message, peer_gone)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	catch_signal(_metadata, SIGPIPE, 0);
	close(self->sv[1]);
	if (variant->kind == UDP)
		ASSERT_EQ(1, send(self->sv[0], "x", 1, 0));
	EXPECT_EQ(variant->kind == UNIX_SEQPACKET ? -EPIPE : -ECONNREFUSED,
		  xsplice(self->p[0], NULL, self->sv[0], NULL, SOME, 0));
	EXPECT_EQ(0, signal_count(SIGPIPE));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

TEST_F(message, unconnected)
{
	int fd = variant->kind == UDP ? socket(AF_INET, SOCK_DGRAM, 0) :
		 socket(AF_UNIX, variant->kind == UNIX_DGRAM ?
				 SOCK_DGRAM : SOCK_SEQPACKET, 0);

	ASSERT_LE(0, fd);
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(variant->kind == UDP ? -EDESTADDRREQ : -ENOTCONN,
		  xsplice(self->p[0], NULL, fd, NULL, SOME, 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* A call waits or fails if the queue is full. */
TEST_F(message, out_full)
{
	struct job job = job_splice(self->p[0], self->sv[0], 100);
	int n = 0, i;

	if (variant->kind == UDP) {
		/* UDP drops the message instead and reports success. */
		int size = 1;

		ASSERT_EQ(0, setsockopt(self->sv[1], SOL_SOCKET, SO_RCVBUF,
					&size, sizeof(size)));
		for (i = 0; i < 100; i++) {
			ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
			ASSERT_EQ(100, xsplice(self->p[0], NULL, self->sv[0],
					       NULL, 100, 0));
		}
		return;
	}

	set_nonblock(_metadata, self->sv[0], true);
	ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
	while (xsplice(self->p[0], NULL, self->sv[0], NULL, 100, 0) == 100) {
		ASSERT_EQ(100, write_pattern(self->p[1], 100, DATA, 0));
		n++;
	}
	EXPECT_LT(0, n);
	EXPECT_EQ(-EAGAIN,
		  xsplice(self->p[0], NULL, self->sv[0], NULL, 100, 0));
	EXPECT_EQ(100, pipe_bytes(self->p[0]));

	set_nonblock(_metadata, self->sv[0], false);
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	EXPECT_EQ(100, pipe_bytes(self->p[0]));

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	for (i = 0; i < n; i++)
		expect_message(_metadata, self->sv[1], self->buf, 100, 0);
	EXPECT_EQ(100, job_finish(_metadata, &job));
	expect_message(_metadata, self->sv[1], self->buf, 100, 0);
	expect_no_message(_metadata, self->sv[1]);
}

/* One call takes one message, even if more data is requested. */
TEST_F(message, in)
{
	ASSERT_EQ(100, send(self->sv[0], self->mem, 100, 0));
	ASSERT_EQ(SOME - 100, send(self->sv[0], self->mem + 100, SOME - 100,
				   0));
	EXPECT_EQ(100, xsplice(self->sv[1], NULL, self->p[1], NULL, 2 * SOME,
			       0));
	EXPECT_EQ(100, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME - 100, xsplice(self->sv[1], NULL, self->p[1], NULL,
				      2 * SOME, 0));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/* The part of a message that is not requested, or does not fit, is lost. */
TEST_F(message, in_short)
{
	ssize_t page = page_size(), capacity;

	ASSERT_EQ(SOME, send(self->sv[0], self->mem, SOME, 0));
	ASSERT_EQ(100, send(self->sv[0], self->mem, 100, 0));
	EXPECT_EQ(10, xsplice(self->sv[1], NULL, self->p[1], NULL, 10, 0));
	EXPECT_EQ(10, read_pattern(self->p[0], 10, DATA, 0));
	EXPECT_EQ(100, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME, 0));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));

	capacity = pipe_capacity(self->p[1]) - page;
	ASSERT_EQ(capacity, write_pattern(self->p[1], capacity, FILLER, 0));
	ASSERT_EQ(SOME, send(self->sv[0], self->mem, SOME, 0));
	EXPECT_EQ(page, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME, 0));
	EXPECT_EQ(capacity, read_pattern(self->p[0], capacity, FILLER, 0));
	EXPECT_EQ(page, read_pattern(self->p[0], page, DATA, 0));
	expect_no_message(_metadata, self->sv[1]);
}

/*
 * A message of 0 bytes looks like the end of file, and adds no buffer to the
 * pipe.
 */
TEST_F(message, in_empty_message)
{
	ASSERT_EQ(0, send(self->sv[0], "", 0, 0));
	ASSERT_EQ(1, send(self->sv[0], self->mem, 1, 0));
	EXPECT_EQ(0, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME, 0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));
	EXPECT_EQ(1, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME, 0));
	EXPECT_EQ(1, read_pattern(self->p[0], 1, DATA, 0));
}

/*
 * O_NONBLOCK of the socket applies to the socket, SPLICE_F_NONBLOCK to the
 * pipe.
 */
TEST_F(message, in_nonblock)
{
	ssize_t capacity;

	set_nonblock(_metadata, self->sv[1], true);
	EXPECT_EQ(-EAGAIN, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME,
				   0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));

	ASSERT_EQ(SOME, send(self->sv[0], self->mem, SOME, 0));
	capacity = fill_pipe(_metadata, self->p[1], FILLER);
	EXPECT_EQ(-EAGAIN, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(capacity, read_pattern(self->p[0], capacity, FILLER, 0));
	EXPECT_EQ(SOME, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME, 0));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

TEST_F(message, in_blocks)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);

	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));

	job_restart(_metadata, &job);
	ASSERT_EQ(100, send(self->sv[0], self->mem, 100, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
}

TEST_F(message, in_peer_gone)
{
	ASSERT_EQ(100, send(self->sv[0], self->mem, 100, 0));
	close(self->sv[0]);
	EXPECT_EQ(100, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME, 0));
	if (variant->kind == UNIX_SEQPACKET)
		EXPECT_EQ(0, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME,
				     0));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
}

/*
 * A whole file is sent as one message, even if the count is larger than the
 * file.
 */
TEST_F(message, sendfile)
{
	const char *missing = end_missing(END_TMPFS);
	loff_t off = 0;
	int file;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_TMPFS));
	ASSERT_EQ(self->size, write_pattern(file, self->size, DATA, 0));
	EXPECT_EQ(SOME, xsendfile(self->sv[0], file, &off, SOME));
	expect_message(_metadata, self->sv[1], self->buf, SOME, 0);
	off = self->size - 100;
	EXPECT_EQ(100, xsendfile(self->sv[0], file, &off, SOME));
	expect_message(_metadata, self->sv[1], self->buf, 100,
		       self->size - 100);
	expect_no_message(_metadata, self->sv[1]);

	off = 0;
	if (variant->kind == UDP) {
		EXPECT_EQ(-EMSGSIZE, xsendfile(self->sv[0], file, &off,
					       self->size));
		EXPECT_EQ(0, off);
	}
}

/* splice() drops a descriptor that is passed with the data. */
TEST(passed_descriptor_is_closed)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec iov = { "x", 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int sv[2], p[2], passed[2];
	char c;

	make_unix_pair(_metadata, sv);
	make_pipe(_metadata, p);
	make_pipe(_metadata, passed);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &passed[1], sizeof(int));
	ASSERT_EQ(1, sendmsg(sv[0], &msg, 0));
	close(passed[1]);

	EXPECT_EQ(0, poll_now(passed[0], POLLIN));
	EXPECT_EQ(1, xsplice(sv[1], NULL, p[1], NULL, 100, 0));
	EXPECT_EQ(1, xread(p[0], &c, 1));
	EXPECT_EQ(0, xread(passed[0], &c, 1));
}

/* From stream to stream, in buffers of the size that sockets allocate. */
FIXTURE(relay) {
	struct end in;
	struct end out;
	int p[2];
};

FIXTURE_VARIANT(relay) {
	enum end_kind in;
	enum end_kind out;
};

FIXTURE_VARIANT_ADD(relay, tcp_to_tcp) {
	.in = END_TCP,
	.out = END_TCP,
};

FIXTURE_VARIANT_ADD(relay, tcp_to_unix_stream) {
	.in = END_TCP,
	.out = END_UNIX,
};

FIXTURE_VARIANT_ADD(relay, unix_stream_to_tcp) {
	.in = END_UNIX,
	.out = END_TCP,
};

FIXTURE_VARIANT_ADD(relay, unix_stream_to_unix_stream) {
	.in = END_UNIX,
	.out = END_UNIX,
};

FIXTURE_SETUP(relay)
{
	end_open(_metadata, variant->in, true, &self->in);
	end_open(_metadata, variant->out, false, &self->out);
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(relay)
{
}

TEST_F_TIMEOUT(relay, stream, 60)
{
	ssize_t size = 1 << 20, done, ret;
	char *data, *got = malloc(size);
	struct job writer, reader;

	ASSERT_NE(NULL, got);
	data = alloc_pattern(_metadata, size, DATA);
	writer = job_writer(self->in.peer, data, size);
	reader = job_reader(self->out.peer, got, size);
	job_start(_metadata, &writer);
	job_start(_metadata, &reader);
	for (done = 0; done < size; done += ret) {
		ret = xsplice(self->in.fd, NULL, self->p[1], NULL, size - done,
			      0);
		ASSERT_LT(0, ret);
		ASSERT_EQ(ret, pipe_bytes(self->p[0]));
		ASSERT_EQ(ret, splice_full(self->p[0], self->out.fd, ret));
	}
	EXPECT_EQ(size, job_finish(_metadata, &writer));
	EXPECT_EQ(size, job_finish(_metadata, &reader));
	EXPECT_EQ(size, match_pattern(got, size, DATA, 0));
	free(data);
	free(got);
}

/* Software TLS. */
FIXTURE(tls) {
	struct tls12_crypto_info_aes_gcm_128 key;
	int sv[2];		/* sv[1] decrypts the data that sv[0] sends */
	int p[2];
	ssize_t size;
	char *mem;		/* the same size */
	char *buf;
};

FIXTURE_VARIANT(tls) {
	int version;
};

FIXTURE_VARIANT_ADD(tls, 1_2) {
	.version = TLS_1_2_VERSION,
};

FIXTURE_VARIANT_ADD(tls, 1_3) {
	.version = TLS_1_3_VERSION,
};

static int set_tls(int fd)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls"));
}

static int set_key(const struct _test_data_tls *self, int fd, int direction)
{
	return setsockopt(fd, SOL_TLS, direction, &self->key,
			  sizeof(self->key));
}

FIXTURE_SETUP(tls)
{
	self->key.info.version = variant->version;
	self->key.info.cipher_type = TLS_CIPHER_AES_GCM_128;
	fill_pattern(self->key.key, sizeof(self->key.key), FILLER, 0);
	make_tcp_pair(_metadata, self->sv);
	if (set_tls(self->sv[0])) {
		ASSERT_EQ(ENOENT, errno);
		SKIP(return, "the kernel has no TLS (CONFIG_TLS)");
	}
	ASSERT_EQ(0, set_tls(self->sv[1]));
	ASSERT_EQ(0, set_key(self, self->sv[0], TLS_TX));
	ASSERT_EQ(0, set_key(self, self->sv[1], TLS_RX));
	make_pipe(_metadata, self->p);
	self->size = 100000;
	self->mem = alloc_pattern(_metadata, self->size, DATA);
	self->buf = malloc(self->size);
	ASSERT_NE(NULL, self->buf);
}

FIXTURE_TEARDOWN(tls)
{
}

static const ssize_t tls_sizes[] = { 1, 4095, 4096, 4097, 16384, 16385, 65536 };

TEST_F_TIMEOUT(tls, out, 60)
{
	ssize_t size;
	int i;

	for (i = 0; i < ARRAY_LEN(tls_sizes); i++) {
		size = tls_sizes[i];
		ASSERT_EQ(size, write_pattern(self->p[1], size, DATA, 0));
		EXPECT_EQ(size, xsplice(self->p[0], NULL, self->sv[0], NULL,
					size, 0));
		EXPECT_EQ(0, pipe_bytes(self->p[0]));
		EXPECT_EQ(size, read_pattern(self->sv[1], size, DATA, 0));
	}
}

TEST_F_TIMEOUT(tls, in, 60)
{
	ssize_t size;
	int i;

	for (i = 0; i < ARRAY_LEN(tls_sizes); i++) {
		size = tls_sizes[i];
		ASSERT_EQ(size, write_pattern(self->sv[0], size, DATA, 0));
		EXPECT_EQ(size, splice_full(self->sv[1], self->p[1], size));
		EXPECT_EQ(size, pipe_bytes(self->p[0]));
		EXPECT_EQ(size, read_pattern(self->p[0], size, DATA, 0));
	}
}

/* A part of a record: the next call gets the rest. */
TEST_F(tls, in_short)
{
	ASSERT_EQ(SOME, write_pattern(self->sv[0], SOME, DATA, 0));
	EXPECT_EQ(100, xsplice(self->sv[1], NULL, self->p[1], NULL, 100, 0));
	EXPECT_EQ(100, read_pattern(self->sv[1], 100, DATA, 100));
	EXPECT_EQ(SOME - 200, xsplice(self->sv[1], NULL, self->p[1], NULL,
				      SOME, 0));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));
	EXPECT_EQ(SOME - 200, read_pattern(self->p[0], SOME - 200, DATA, 200));
}

/* TLS uses SPLICE_F_NONBLOCK of the call, and not O_NONBLOCK of the socket. */
TEST_F(tls, in_empty)
{
	struct job job = job_splice(self->sv[1], self->p[1], SOME);

	EXPECT_EQ(-EAGAIN, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(100, write_pattern(self->sv[0], 100, DATA, 0));
	EXPECT_EQ(100, job_finish(_metadata, &job));
	EXPECT_EQ(100, read_pattern(self->p[0], 100, DATA, 0));

	close(self->sv[0]);
	EXPECT_EQ(0, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME, 0));
}

/* A full pipe takes no record, and no record is lost. */
TEST_F(tls, in_full_pipe)
{
	ssize_t capacity = fill_pipe(_metadata, self->p[1], FILLER);

	ASSERT_EQ(SOME, write_pattern(self->sv[0], SOME, DATA, 0));
	EXPECT_EQ(-EAGAIN, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(capacity, read_pattern(self->p[0], capacity, FILLER, 0));
	EXPECT_EQ(SOME, splice_full(self->sv[1], self->p[1], SOME));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

/*
 * splice() returns an error for other records than data; recvmsg() can read
 * them.
 */
TEST_F(tls, in_control_record)
{
	char control[CMSG_SPACE(1)] = {};
	struct iovec iov = { "alert", 5 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_TLS;
	cmsg->cmsg_type = TLS_SET_RECORD_TYPE;
	cmsg->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(cmsg) = 100;
	ASSERT_EQ(5, sendmsg(self->sv[0], &msg, 0));
	EXPECT_EQ(-EINVAL, xsplice(self->sv[1], NULL, self->p[1], NULL, SOME,
				   0));
	EXPECT_EQ(0, pipe_bytes(self->p[0]));

	iov = (struct iovec) { self->buf, 100 };
	memset(control, 0, sizeof(control));
	msg.msg_controllen = sizeof(control);
	EXPECT_EQ(5, recvmsg(self->sv[1], &msg, 0));
	EXPECT_EQ(0, memcmp(self->buf, "alert", 5));
	EXPECT_EQ(100, *CMSG_DATA(CMSG_FIRSTHDR(&msg)));
}

/* SPLICE_F_MORE: a record is closed when it is full, or by the last part. */
TEST_F(tls, more)
{
	char c;

	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(100, xsplice(self->p[0], NULL, self->sv[0], NULL, 100,
			       SPLICE_F_MORE));
	EXPECT_EQ(-EAGAIN, or_errno(recv(self->sv[1], &c, 1, MSG_DONTWAIT)));
	EXPECT_EQ(SOME - 100, xsplice(self->p[0], NULL, self->sv[0], NULL,
				      SOME - 100, 0));
	EXPECT_EQ(SOME, recv(self->sv[1], self->buf, self->size, 0));
	EXPECT_EQ(SOME, match_pattern(self->buf, SOME, DATA, 0));
}

/*
 * splice() and send() alternate, with more pieces than a record has room for
 * (CVE-2024-0646).
 */
TEST_F_TIMEOUT(tls, many_pieces, 60)
{
	struct job reader = job_reader(self->sv[1], self->buf, self->size);
	ssize_t pos = 0, len;
	int i;

	job_start(_metadata, &reader);
	for (i = 0; i < 600; i++) {
		len = 1 + i % 150;
		if (i % 3 == 2) {
			ASSERT_EQ(len, send(self->sv[0], self->mem + pos, len,
					    MSG_MORE));
		} else {
			put_buffers(_metadata, self->p[1], self->mem, pos, 1,
				    len);
			ASSERT_EQ(len, xsplice(self->p[0], NULL, self->sv[0],
					       NULL, len, SPLICE_F_MORE));
		}
		pos += len;
	}
	ASSERT_EQ(self->size - pos, write_full(self->sv[0], self->mem + pos,
					       self->size - pos));
	EXPECT_EQ(self->size, job_finish(_metadata, &reader));
	EXPECT_EQ(self->size, match_pattern(self->buf, self->size, DATA, 0));
}

/* Encryption must not change the pages of the file. */
TEST_F_TIMEOUT(tls, sendfile, 60)
{
	struct job reader = job_reader(self->sv[1], self->buf, self->size);
	const char *missing = end_missing(END_EXT4);
	loff_t off = 0;
	int file;

	if (missing)
		SKIP(return, "%s is not set", missing);
	file = make_file(_metadata, end_dir(_metadata, END_EXT4));
	ASSERT_EQ(self->size, write_pattern(file, self->size, DATA, 0));
	job_start(_metadata, &reader);
	/* The end of the file closes the last record. */
	EXPECT_EQ(self->size, xsendfile(self->sv[0], file, &off,
					2 * self->size));
	EXPECT_EQ(self->size, job_finish(_metadata, &reader));
	EXPECT_EQ(self->size, match_pattern(self->buf, self->size, DATA, 0));
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(self->size, read_pattern(file, self->size, DATA, 0));
}

/*
 * The ciphertext is in pages of a file, and loopback does not copy them: the
 * receiver must not decrypt in place.
 */
TEST_F_TIMEOUT(tls, decrypted_file_page, 60)
{
	const char *missing = end_missing(END_EXT4);
	int sv[2][2], file, i;
	char *cipher, *after;
	ssize_t len = 0, ret;
	loff_t off;

	if (missing)
		SKIP(return, "%s is not set", missing);
	cipher = malloc(2 * self->size);
	after = malloc(2 * self->size);
	ASSERT_NE(NULL, cipher);
	ASSERT_NE(NULL, after);

	/* The ciphertext, received by a peer without a key. */
	make_tcp_pair(_metadata, sv[0]);
	ASSERT_EQ(0, set_tls(sv[0][0]));
	ASSERT_EQ(0, set_key(self, sv[0][0], TLS_TX));
	ASSERT_EQ(SOME, write_full(sv[0][0], self->mem, SOME));
	close(sv[0][0]);
	len = read_full(sv[0][1], cipher, 2 * self->size);
	ASSERT_LT(SOME, len);
	file = make_file(_metadata, end_dir(_metadata, END_EXT4));
	ASSERT_EQ(len, write_full(file, cipher, len));

	/* Read by the receiver, and spliced. */
	for (i = 0; i < 2; i++) {
		make_tcp_pair(_metadata, sv[i]);
		ASSERT_EQ(0, set_tls(sv[i][1]));
		ASSERT_EQ(0, set_key(self, sv[i][1], TLS_RX));
		off = 0;
		ASSERT_EQ(len, xsendfile(sv[i][0], file, &off, len));
		if (i) {
			ret = splice_full(sv[i][1], self->p[1], SOME);
			EXPECT_EQ(SOME, ret);
			EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA,
						     0));
		} else {
			EXPECT_EQ(SOME, read_pattern(sv[i][1], SOME, DATA, 0));
		}
		ASSERT_EQ(len, pread(file, after, len, 0));
		EXPECT_EQ(0, memcmp(cipher, after, len));
	}
	free(cipher);
	free(after);
}

/* From TLS to TLS through a pipe. */
TEST_F_TIMEOUT(tls, relay, 60)
{
	struct job writer = job_writer(self->sv[0], self->mem, self->size);
	struct job reader;
	int sv[2];

	make_tcp_pair(_metadata, sv);
	ASSERT_EQ(0, set_tls(sv[0]));
	ASSERT_EQ(0, set_tls(sv[1]));
	ASSERT_EQ(0, set_key(self, sv[0], TLS_TX));
	ASSERT_EQ(0, set_key(self, sv[1], TLS_RX));
	reader = job_reader(sv[1], self->buf, self->size);
	job_start(_metadata, &writer);
	job_start(_metadata, &reader);
	for (ssize_t done = 0, ret; done < self->size; done += ret) {
		ret = xsplice(self->sv[1], NULL, self->p[1], NULL, self->size,
			      0);
		ASSERT_LT(0, ret);
		ASSERT_EQ(ret, splice_full(self->p[0], sv[0], ret));
	}
	EXPECT_EQ(self->size, job_finish(_metadata, &writer));
	EXPECT_EQ(self->size, job_finish(_metadata, &reader));
	EXPECT_EQ(self->size, match_pattern(self->buf, self->size, DATA, 0));
}

TEST_HARNESS_MAIN
