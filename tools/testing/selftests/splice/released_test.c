// SPDX-License-Identifier: GPL-2.0
/*
 * SPLICE_F_NOTIFY: being told when the kernel is done with memory that was put
 * into a pipe.
 */
#include <poll.h>
#include <sys/eventfd.h>

#include "splice_notify.h"

/* Seed of the data. */
#define DATA 1

/* What one call moves, unless the test is about more. */
#define SOME 5000

#define CALLS 1000

FIXTURE(released) {
	int p[2];
	int q[2];
	ssize_t page;
	ssize_t size;
	char *mem;
};

FIXTURE_SETUP(released)
{
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
	self->page = page_size();
	self->size = 16 * self->page;
	self->mem = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	fill_pattern(self->mem, self->size, DATA, 0);
	if (xvmsplice1(self->p[1], self->mem, 0, SPLICE_F_NOTIFY) == -EINVAL)
		SKIP(return, "this kernel has no SPLICE_F_NOTIFY");
}

FIXTURE_TEARDOWN(released)
{
	munmap(self->mem, self->size);
}

static ssize_t attach(int fd, int efd)
{
	return or_errno(ioctl(fd, SPLICE_IOC_NOTIFY_EVENTFD, &efd));
}

/* How often a non-blocking eventfd was signalled since the last look. */
static ssize_t signals(int efd)
{
	__u64 n;

	if (read(efd, &n, sizeof(n)) < 0)
		return errno == EAGAIN ? 0 : -errno;
	return n;
}

/* Each call has the next number, and is released when its data is gone. */
TEST_F(released, numbers)
{
	EXPECT_EQ(0, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	EXPECT_EQ(2, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));

	/* A part of a call is none of it. */
	ASSERT_EQ(SOME - 1, read_pattern(self->p[0], SOME - 1, DATA, 0));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, SOME - 1));
	EXPECT_EQ(1, released(self->p[1]));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, SOME));
	EXPECT_EQ(2, released(self->p[1]));
	EXPECT_EQ(2, issued(self->p[1]));
	/* Another pipe has numbers of its own. */
	EXPECT_EQ(0, issued(self->q[1]));
}

/* Without the flag nothing is counted, and what is flagged is not held up. */
TEST_F(released, only_what_was_asked_for)
{
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->mem, SOME, 0));
	EXPECT_EQ(0, issued(self->p[1]));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->mem, SOME, 0));
	EXPECT_EQ(1, issued(self->p[1]));
	ASSERT_EQ(2 * SOME, read_pattern(self->p[0], 2 * SOME, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
	EXPECT_EQ(SOME, pipe_bytes(self->p[0]));
}

/* A call that puts nothing in gets no number. */
TEST_F(released, failed_calls)
{
	struct iovec iov[2] = {
		{ NULL, SOME }, { self->mem, SOME },
	};

	EXPECT_EQ(-EFAULT, xvmsplice(self->p[1], iov, 2, SPLICE_F_NOTIFY));
	EXPECT_EQ(0, xnotify(self->p[1], self->mem, 0));
	EXPECT_EQ(0, issued(self->p[1]));
	fill_pipe(_metadata, self->p[1], DATA);
	EXPECT_EQ(-EAGAIN, xvmsplice1(self->p[1], self->mem, SOME,
				      SPLICE_F_NOTIFY | SPLICE_F_NONBLOCK));
	EXPECT_EQ(0, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(pipe_capacity(self->p[0]),
		  read_pattern(self->p[0], pipe_capacity(self->p[0]), DATA, 0));

	/* A part that was put in counts. */
	iov[0] = (struct iovec) { self->mem, SOME };
	iov[1] = (struct iovec) { NULL, SOME };
	EXPECT_EQ(SOME, xvmsplice(self->p[1], iov, 2, SPLICE_F_NOTIFY));
	EXPECT_EQ(1, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
}

/* The watermark says that all before it are released, too. */
TEST_F(released, out_of_order)
{
	ssize_t i;

	ASSERT_EQ(1, xnotify(self->p[1], self->mem, 1));
	ASSERT_EQ(1, xsplice(self->p[0], NULL, self->q[1], NULL, 1, 0));
	for (i = 1; i < CALLS; i++) {
		ASSERT_EQ(1, xnotify(self->p[1], self->mem + i, 1));
		ASSERT_EQ(1, read_pattern(self->p[0], 1, DATA, i));
	}
	EXPECT_EQ(CALLS, issued(self->p[1]));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(1, read_pattern(self->q[0], 1, DATA, 0));
	EXPECT_EQ(CALLS, released(self->p[1]));
	EXPECT_EQ(0, issued(self->q[1]));
}

/* Every copy that tee() made has to go. */
TEST_F(released, tee)
{
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xtee(self->p[0], self->q[1], SOME, 0));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(SOME - 1, read_pattern(self->q[0], SOME - 1, DATA, 0));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(1, read_pattern(self->q[0], 1, DATA, SOME - 1));
	EXPECT_EQ(1, released(self->p[1]));
}

/* A buffer that is split between two pipes is in use until both are read. */
TEST_F(released, split)
{
	ASSERT_EQ(1000, xnotify(self->p[1], self->mem, 1000));
	ASSERT_EQ(400, xsplice(self->p[0], NULL, self->q[1], NULL, 400, 0));
	ASSERT_EQ(600, read_pattern(self->p[0], 600, DATA, 400));
	EXPECT_EQ(0, released(self->p[1]));
	ASSERT_EQ(400, read_pattern(self->q[0], 400, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
}

/* A page that was given away is not taken while it may be reported. */
TEST_F(released, gift)
{
	int file = make_file(_metadata, "/tmp");

	ASSERT_EQ(self->page,
		  xvmsplice1(self->p[1], self->mem, self->page,
			     SPLICE_F_NOTIFY | SPLICE_F_GIFT));
	ASSERT_EQ(self->page, xsplice(self->p[0], NULL, file, NULL, self->page,
				      SPLICE_F_MOVE));
	EXPECT_EQ(1, released(self->p[1]));
	memset(self->mem, 0, self->page);
	ASSERT_EQ(0, lseek(file, 0, SEEK_SET));
	EXPECT_EQ(self->page, read_pattern(file, self->page, DATA, 0));
}

TEST_F(released, flags)
{
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	EXPECT_EQ(-EINVAL, xvmsplice1(self->p[0], self->mem, SOME,
				      SPLICE_F_NOTIFY));
	EXPECT_EQ(-EINVAL, xsplice(self->p[0], NULL, self->q[1], NULL, SOME,
				   SPLICE_F_NOTIFY));
	EXPECT_EQ(-EINVAL, xtee(self->p[0], self->q[1], SOME, SPLICE_F_NOTIFY));
	EXPECT_EQ(-EINVAL, xvmsplice1(self->p[1], self->mem, SOME, 0x20));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
}

TEST_F(released, bad_requests)
{
	struct splice_notify_state st = { .reserved = 1 };
	int file = make_file(_metadata, "/tmp");
	int bad = -1;

	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	EXPECT_EQ(-EBADF, notify_state(self->p[0], 0, 0, &st));
	EXPECT_EQ(-ENOTTY, notify_state(file, 0, 0, &st));
	EXPECT_EQ(-EINVAL, notify_state(self->p[1], 2, 0, &st));
	EXPECT_EQ(-EINVAL, notify_state(self->p[1], 0, 1, &st));
	EXPECT_EQ(-EINVAL, notify_state(self->p[1], SPLICE_NOTIFY_WAIT, 2, &st));
	EXPECT_EQ(-EINVAL, notify_state(self->q[1], SPLICE_NOTIFY_WAIT, 1, &st));
	st = (struct splice_notify_state) { .reserved = 1 };
	EXPECT_EQ(-EINVAL, or_errno(ioctl(self->p[1], SPLICE_IOC_NOTIFY_STATE,
					  &st)));
	EXPECT_EQ(-EFAULT, or_errno(ioctl(self->p[1], SPLICE_IOC_NOTIFY_STATE,
					  NULL)));
	EXPECT_EQ(-ENOTTY, or_errno(ioctl(self->p[1], _IO(0xBB, 2), 0)));

	EXPECT_EQ(-EBADF, attach(self->p[0], 0));
	EXPECT_EQ(-EBADF, attach(self->p[1], bad));
	EXPECT_EQ(-EINVAL, attach(self->p[1], self->q[0]));
	EXPECT_EQ(-EFAULT, or_errno(ioctl(self->p[1], SPLICE_IOC_NOTIFY_EVENTFD,
					  NULL)));
	EXPECT_EQ(1, issued(self->p[1]));
	EXPECT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, released(self->p[1]));
}

static struct job job_wait(int fd, struct splice_notify_state *st)
{
	return (struct job) {
		.nr = SYS_ioctl,
		.arg = { fd, SPLICE_IOC_NOTIFY_STATE, (long)st },
	};
}

TEST_F(released, wait)
{
	struct splice_notify_state st = {
		.flags = SPLICE_NOTIFY_WAIT, .number = 2,
	};
	struct job job = job_wait(self->p[1], &st);

	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));

	job_start(_metadata, &job);
	job_wait_blocked(&job);
	/* Not the one that is waited for. */
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	job_wait_blocked(&job);
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, SOME));
	EXPECT_EQ(0, job_finish(_metadata, &job));
	EXPECT_EQ(3, st.issued);
	EXPECT_EQ(2, st.released);

	/* What is released is not waited for. */
	EXPECT_EQ(2, wait_released(self->p[1], 1));
	st = (struct splice_notify_state) {
		.flags = SPLICE_NOTIFY_WAIT, .number = 3,
	};
	job = job_wait(self->p[1], &st);
	EXPECT_EQ(-EINTR, job_interrupt(_metadata, &job));
	set_nonblock(_metadata, self->p[1], true);
	EXPECT_EQ(-EAGAIN, wait_released(self->p[1], 3));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(3, wait_released(self->p[1], 3));
}

TEST_F(released, eventfd)
{
	int efd = eventfd(0, EFD_NONBLOCK);

	ASSERT_LE(0, efd);
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(0, attach(self->p[1], efd));
	EXPECT_EQ(-EBUSY, attach(self->p[1], efd));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	EXPECT_EQ(0, signals(efd));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, signals(efd));
	EXPECT_EQ(0, signals(efd));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, SOME));
	EXPECT_EQ(1, signals(efd));
}

/* The pipe of the call may be gone, and what it held elsewhere. */
TEST_F(released, after_close)
{
	int efd = eventfd(0, EFD_NONBLOCK);

	ASSERT_LE(0, efd);
	ASSERT_EQ(0, attach(self->p[1], efd));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem, SOME));
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->q[1], NULL, SOME, 0));
	close(self->p[0]);
	close(self->p[1]);
	/* The second was in the pipe, but the first one is not released. */
	EXPECT_EQ(0, signals(efd));
	ASSERT_EQ(SOME, read_pattern(self->q[0], SOME, DATA, 0));
	EXPECT_EQ(2, signals(efd));
}

/* A process that ends with data in flight, and its memory with it. */
TEST_F(released, exit)
{
	int efd = eventfd(0, EFD_NONBLOCK);
	int status;
	pid_t pid;

	ASSERT_LE(0, efd);
	ASSERT_EQ(0, attach(self->p[1], efd));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		char *own = malloc(SOME);

		fill_pattern(own, SOME, DATA, 0);
		_exit(xnotify(self->p[1], own, SOME) != SOME);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(0, signals(efd));
	EXPECT_EQ(1, issued(self->p[1]));
	ASSERT_EQ(SOME, read_pattern(self->p[0], SOME, DATA, 0));
	EXPECT_EQ(1, signals(efd));
}

/* A file has the data once the write is through, by copy or past the cache. */
TEST_F(released, file)
{
	const char *tmpfs = getenv("SPLICE_TMPFS_DIR");
	const char *ext4 = getenv("SPLICE_EXT4_DIR");
	ssize_t len = 4 * self->page;
	int i, direct, file, from;

	if (!tmpfs || !ext4)
		SKIP(return, "SPLICE_TMPFS_DIR or SPLICE_EXT4_DIR is not set");
	for (i = 0; i < 3; i++) {
		direct = i == 2 ? O_DIRECT : 0;
		from = make_file(_metadata, i ? ext4 : tmpfs);
		file = reopen(_metadata, from, O_WRONLY | direct);
		ASSERT_EQ(len, xnotify(self->p[1], self->mem, len));
		ASSERT_EQ(len, splice_full(self->p[0], file, len));
		EXPECT_EQ(i + 1, released(self->p[1]));
		memset(self->mem, 0, len);
		EXPECT_EQ(len, read_pattern(from, len, DATA, 0));
		fill_pattern(self->mem, len, DATA, 0);
		close(file);
		close(from);
	}
}

/*
 * A socket that cannot tell when it is done gets a copy: the memory is free at
 * once, and what is done to it afterwards is not seen.
 */
static void expect_copied(struct __test_metadata *_metadata, int pipe[2],
			  char *mem, int domain, int type)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(addr);
	ssize_t before, size = 3000;
	int sv[2];

	if (domain == AF_UNIX) {
		ASSERT_EQ(0, socketpair(domain, type, 0, sv));
	} else {
		sv[0] = socket(domain, type, 0);
		sv[1] = socket(domain, type, 0);
		ASSERT_LE(0, sv[0]);
		ASSERT_LE(0, sv[1]);
		bring_up_loopback(_metadata, sv[1]);
		ASSERT_EQ(0, bind(sv[1], (struct sockaddr *)&addr, len));
		ASSERT_EQ(0, getsockname(sv[1], (struct sockaddr *)&addr,
					 &len));
		ASSERT_EQ(0, connect(sv[0], (struct sockaddr *)&addr, len));
	}

	before = read_counter("bytes.pipe_to_socket.copied");
	ASSERT_LE(0, before);
	ASSERT_EQ(size, xnotify(pipe[1], mem, size));
	ASSERT_EQ(size, xsplice(pipe[0], NULL, sv[0], NULL, size, 0));
	EXPECT_EQ(1, released(pipe[1]));
	memset(mem, 0, size);
	EXPECT_EQ(size, read_pattern(sv[1], size, DATA, 0));
	EXPECT_EQ(before + size, read_counter("bytes.pipe_to_socket.copied"));
}

TEST_F(released, unix_stream)
{
	expect_copied(_metadata, self->p, self->mem, AF_UNIX, SOCK_STREAM);
}

TEST_F(released, unix_seqpacket)
{
	expect_copied(_metadata, self->p, self->mem, AF_UNIX, SOCK_SEQPACKET);
}

TEST_F(released, udp)
{
	expect_copied(_metadata, self->p, self->mem, AF_INET, SOCK_DGRAM);
}

/* Data of both kinds in one pipe goes out in order. */
TEST_F(released, mixed)
{
	int sv[2];

	make_unix_pair(_metadata, sv);
	ASSERT_EQ(SOME, xvmsplice1(self->p[1], self->mem, SOME, 0));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + SOME, SOME));
	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 2 * SOME));
	ASSERT_EQ(SOME, xnotify(self->p[1], self->mem + 3 * SOME, SOME));
	ASSERT_EQ(4 * SOME, splice_full(self->p[0], sv[0], 4 * SOME));
	EXPECT_EQ(2, released(self->p[1]));
	EXPECT_EQ(4 * SOME, read_pattern(sv[1], 4 * SOME, DATA, 0));
}

/* TCP takes references, and says when the peer has acknowledged the data. */
TEST_F(released, tcp)
{
	ssize_t size = self->size, copied, referenced;
	int sv[2];

	make_tcp_pair(_metadata, sv);
	copied = read_counter("bytes.pipe_to_socket.copied");
	referenced = read_counter("bytes.pipe_to_socket.referenced");
	ASSERT_LE(0, copied);
	ASSERT_EQ(size, xnotify(self->p[1], self->mem, size));
	ASSERT_EQ(size, splice_full(self->p[0], sv[0], size));
	EXPECT_EQ(size, read_pattern(sv[1], size, DATA, 0));
	EXPECT_EQ(1, wait_released(self->p[1], 1));
	EXPECT_EQ(copied, read_counter("bytes.pipe_to_socket.copied"));
	EXPECT_EQ(referenced + size,
		  read_counter("bytes.pipe_to_socket.referenced"));
}

/* What a socket that is closed has not sent is released, too. */
TEST_F(released, tcp_reset)
{
	struct linger linger = { .l_onoff = 1 };
	int sv[2], efd;
	ssize_t ret;

	efd = eventfd(0, EFD_NONBLOCK);
	ASSERT_LE(0, efd);
	make_tcp_pair(_metadata, sv);
	ASSERT_EQ(0, attach(self->p[1], efd));
	set_nonblock(_metadata, sv[0], true);
	/* More than the peer, which does not read, has room for. */
	do {
		ret = xvmsplice1(self->p[1], self->mem, self->size,
				 SPLICE_F_NOTIFY | SPLICE_F_NONBLOCK);
		ASSERT_TRUE(ret > 0 || ret == -EAGAIN);
		ret = xsplice(self->p[0], NULL, sv[0], NULL, self->size,
			      SPLICE_F_NONBLOCK);
		ASSERT_TRUE(ret > 0 || ret == -EAGAIN);
	} while (ret > 0);
	EXPECT_LT(released(self->p[1]), issued(self->p[1]));
	ASSERT_EQ(0, setsockopt(sv[0], SOL_SOCKET, SO_LINGER, &linger,
				sizeof(linger)));
	close(sv[0]);
	while (pipe_bytes(self->p[0]) > 0)
		ASSERT_LT(0, xsplice(self->p[0], NULL,
				     open("/dev/null", O_WRONLY), NULL,
				     self->size, 0));
	EXPECT_EQ(issued(self->p[1]),
		  wait_released(self->p[1], issued(self->p[1])));
	EXPECT_LT(0, signals(efd));
}

#define RING 8

struct receiver {
	int fd;
	ssize_t total;
	ssize_t good;
};

static void *receive(void *data)
{
	struct receiver *r = data;
	ssize_t len = 65536, ret;
	char *buf = malloc(len);

	while (buf && r->good < r->total) {
		ret = xread(r->fd, buf, len);
		if (ret <= 0 || match_pattern(buf, ret, DATA, r->good) != ret)
			break;
		r->good += ret;
	}
	/* Whoever sends would wait for ever. */
	if (r->good < r->total)
		shutdown(r->fd, SHUT_RDWR);
	free(buf);
	return NULL;
}

/*
 * A ring of buffers sends a stream; each buffer is written to again as soon as
 * it is reported free. SPLICE_RING_MIB sets how much.
 */
TEST_F_TIMEOUT(released, ring, 1200)
{
	const char *mib = getenv("SPLICE_RING_MIB");
	struct receiver r = { .total = (ssize_t)(mib ? atoi(mib) : 32) << 20 };
	ssize_t chunk = self->size, sent = 0, number = 0, left, ret;
	ssize_t copied = read_counter("bytes.pipe_to_socket.copied");
	unsigned long long last[RING] = {};
	pthread_t thread;
	char *ring, *buf;
	int sv[2];

	signal(SIGPIPE, SIG_IGN);
	make_tcp_pair(_metadata, sv);
	ring = mmap(NULL, RING * chunk, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, ring);
	r.fd = sv[1];
	ASSERT_EQ(0, pthread_create(&thread, NULL, receive, &r));
	while (sent < r.total) {
		int slot = sent / chunk % RING;

		if (last[slot])
			ASSERT_LE((ssize_t)last[slot],
				  wait_released(self->p[1], last[slot]));
		buf = ring + slot * chunk;
		fill_pattern(buf, chunk, DATA, sent);
		for (left = chunk; left; left -= ret) {
			ret = xnotify(self->p[1], buf + chunk - left, left);
			ASSERT_LT(0, ret);
			last[slot] = ++number;
			ASSERT_EQ(ret, splice_full(self->p[0], sv[0], ret));
		}
		sent += chunk;
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(r.total, r.good);
	EXPECT_EQ(number, wait_released(self->p[1], number));
	EXPECT_EQ(number, issued(self->p[1]));
	EXPECT_EQ(copied, read_counter("bytes.pipe_to_socket.copied"));
	munmap(ring, RING * chunk);
}

TEST_HARNESS_MAIN
