// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/rdma_splice between two network namespaces: a device is removed, the peer is
 * killed or silent, the link goes down, a descriptor is closed. Both ends get an
 * error in time, and all pages are given back.
 */
#include "rdma_common.h"
#include "splice_memory.h"

#define PORT		FIRST_PORT

#define ADDRESS_A	"203.0.113.1"
#define ADDRESS_B	"203.0.113.2"

/* Two pages, the second one partly filled. */
#define SOME 5000

/* Limits in milliseconds; a slow kernel has SLOW times as much. */
#define REMOVE_MS	5000
#define KILL_MS		1000
#define KEEPALIVE_MS	2000
#define SLOW		12

/* So many removals on siw, in one test. */
#define ROUNDS 40

static int slow(int ms)
{
	return getenv("SPLICE_RDMA_KIB") ? SLOW * ms : ms;
}

/* The calling thread is in the namespace from now on. */
static void enter(struct __test_metadata *_metadata, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ASSERT_LE(0, fd) {
		TH_LOG("%s: %s", path, strerror(errno));
	}
	ASSERT_EQ(0, setns(fd, CLONE_NEWNET));
	close(fd);
}

#define NAMESPACE_A "/run/netns/rdma_a"
#define NAMESPACE_B "/run/netns/rdma_b"

/* Runs a command, with a formatted argument; returns its exit status. */
static int run(const char *format, const char *argument)
{
	char command[256];

	snprintf(command, sizeof(command), format, argument);
	return system(command);
}

/* Something that moves zeroes for as long as there is no error. */
static struct relay endless(int in, int out)
{
	return (struct relay) { .in = in, .out = out, .len = 1LL << 50 };
}

FIXTURE(two) {
	int here;		/* the namespace of the test */
	int listener;		/* in namespace B */
	int a;			/* connected, in namespace A */
	int b;			/* accepted, in namespace B */
	int memfd;
	bool traffic;
	struct relay send_a;
	struct relay send_b;
	struct relay receive_a;
	struct relay receive_b;
};

FIXTURE_VARIANT(two) {
	enum rdma_kind kind;
	bool traffic;		/* in both directions, or else idle */
};

FIXTURE_VARIANT_ADD(two, rxe_idle) {
	.kind = RXE,
};

FIXTURE_VARIANT_ADD(two, rxe_traffic) {
	.kind = RXE, .traffic = true,
};

FIXTURE_VARIANT_ADD(two, siw_idle) {
	.kind = SIW,
};

FIXTURE_VARIANT_ADD(two, siw_traffic) {
	.kind = SIW, .traffic = true,
};

static void leave(struct __test_metadata *_metadata,
		  struct _test_data_two *self)
{
	ASSERT_EQ(0, setns(self->here, CLONE_NEWNET));
}

static void two_listen(struct __test_metadata *_metadata,
		       struct _test_data_two *self)
{
	struct rdma_splice_listen listen = {
		.local = rdma_addr(ADDRESS_B, PORT),
		.keepalive_ms = slow(KEEPALIVE_MS),
		.flags = RDMA_SPLICE_CLOEXEC,
	};

	enter(_metadata, NAMESPACE_B);
	self->listener = xlisten(&listen);
	ASSERT_LE(0, self->listener);
	leave(_metadata, self);
}

static void two_connect(struct __test_metadata *_metadata,
			struct _test_data_two *self)
{
	struct rdma_splice_connect connect = {
		.peer = rdma_addr(ADDRESS_B, PORT), .timeout_ms = SETUP_MS,
		.keepalive_ms = slow(KEEPALIVE_MS),
		.flags = RDMA_SPLICE_NONBLOCK | RDMA_SPLICE_CLOEXEC,
	};

	enter(_metadata, NAMESPACE_A);
	self->a = xconnect(&connect);
	ASSERT_LE(0, self->a);
	leave(_metadata, self);
	self->b = xaccept(self->listener, RDMA_SPLICE_CLOEXEC);
	ASSERT_LE(0, self->b);
	rdma_wait_writable(_metadata, self->a);
	rdma_wait_writable(_metadata, self->b);
	set_nonblock(_metadata, self->a, false);
}

/* Sends and receives, in both directions. */
static void two_works(struct __test_metadata *_metadata,
		      struct _test_data_two *self)
{
	ASSERT_EQ(SOME, rdma_send(self->a, SOME, DATA, 0));
	EXPECT_EQ(SOME, receive_pattern(self->b, SOME, DATA, 0));
	ASSERT_EQ(SOME, rdma_send(self->b, SOME, BACK, 0));
	EXPECT_EQ(SOME, receive_pattern(self->a, SOME, BACK, 0));
}

/* Both ends send zeroes and drop what they receive. */
static void two_traffic(struct __test_metadata *_metadata,
			struct _test_data_two *self)
{
	int null = open("/dev/null", O_WRONLY), zero = open("/dev/zero", O_RDONLY);

	ASSERT_LE(0, null);
	ASSERT_LE(0, zero);
	self->traffic = true;
	self->send_a = endless(zero, self->a);
	self->receive_b = endless(self->b, null);
	self->send_b = endless(zero, self->b);
	self->receive_a = endless(self->a, null);
	relay_start(_metadata, &self->send_a);
	relay_start(_metadata, &self->receive_b);
	relay_start(_metadata, &self->send_b);
	relay_start(_metadata, &self->receive_a);
	while (relay_done(&self->receive_a) < 1 << 18 ||
	       relay_done(&self->receive_b) < 1 << 18)
		usleep(1000);
}

/* Data that nobody reads is under way, from pages that can be asked for. */
static void two_unread(struct __test_metadata *_metadata,
		       struct _test_data_two *self)
{
	ssize_t len = 64 * 1024;
	struct relay in;

	if (self->memfd >= 0)
		close(self->memfd);
	self->memfd = make_memfd(_metadata, len, DATA);
	in = (struct relay) { .in = self->memfd, .out = self->a, .len = len };
	relay_start(_metadata, &in);
	ASSERT_EQ(len, relay_finish(_metadata, &in));
}

FIXTURE_SETUP(two)
{
	const char *missing = rdma_driver_missing();

	self->memfd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	self->here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->here);
	ASSERT_EQ(0, rdma_setup("two", rdma_name(variant->kind)));
	two_listen(_metadata, self);
	two_connect(_metadata, self);
	if (variant->traffic)
		two_traffic(_metadata, self);
	else
		two_unread(_metadata, self);
}

FIXTURE_TEARDOWN(two)
{
	close_early(&self->a);
	close_early(&self->b);
	close_early(&self->listener);
	expect_nothing_left(_metadata);
	EXPECT_EQ(0, rdma_setup("end", ""));
}

/* Returns the error of a connection, or 0 if it has none within @ms. */
static int error_of(struct __test_metadata *_metadata, int fd, int ms)
{
	if (!(poll_for(fd, 0, ms) & POLLERR))
		return 0;
	return rdma_info(_metadata, fd).error;
}

/* Every call returns @error, after the received data was read. */
static void expect_error(struct __test_metadata *_metadata, int fd, int error)
{
	char buf[1 << 16];
	int p[2];

	make_pipe(_metadata, p);
	ASSERT_EQ(SOME, write_pattern(p[1], SOME, DATA, 0));
	EXPECT_EQ(-error, xsplice(p[0], NULL, fd, NULL, SOME, 0));
	EXPECT_EQ(SOME, read_pattern(p[0], SOME, DATA, 0));
	while (xsplice(fd, NULL, p[1], NULL, sizeof(buf), SPLICE_F_NONBLOCK) > 0)
		ASSERT_LT(0, xread(p[0], buf, sizeof(buf)));
	EXPECT_EQ(-error, xsplice(fd, NULL, p[1], NULL, SOME, 0));
	EXPECT_EQ(RDMA_SPLICE_FAILED, rdma_info(_metadata, fd).state);
	close(p[0]);
	close(p[1]);
}

static void expect_relay_error(struct __test_metadata *_metadata,
			       struct relay *r, int error)
{
	relay_finish(_metadata, r);
	EXPECT_EQ(-error, r->error);
}

/* Both ends have failed, with these errors. Closes them. */
static void expect_errors(struct __test_metadata *_metadata,
			  struct _test_data_two *self, int error_a,
			  int error_b, int ms)
{
	EXPECT_EQ(error_a, error_of(_metadata, self->a, ms));
	EXPECT_EQ(error_b, error_of(_metadata, self->b, ms));
	if (self->traffic) {
		expect_relay_error(_metadata, &self->send_a, error_a);
		expect_relay_error(_metadata, &self->receive_a, error_a);
		expect_relay_error(_metadata, &self->send_b, error_b);
		expect_relay_error(_metadata, &self->receive_b, error_b);
		self->traffic = false;
	}
	expect_error(_metadata, self->a, error_a);
	expect_error(_metadata, self->b, error_b);
	/* The peer has not taken all data of this side. */
	EXPECT_EQ(-error_a, or_errno(fsync(self->a)));
	if (self->memfd >= 0)
		expect_unreferenced(_metadata, self->memfd);
	close_early(&self->a);
	close_early(&self->b);
}

/* Removes the device of a side, in time. rxe is found in its namespace only. */
static void remove_device(struct __test_metadata *_metadata,
			  enum rdma_kind kind, const char *side)
{
	long long before = rdma_now_ms();
	char command[256];

	snprintf(command, sizeof(command),
		 "ip netns exec rdma_%s rdma link delete %s_%s", side,
		 rdma_name(kind), side);
	ASSERT_EQ(0, system(command));
	EXPECT_GT(slow(REMOVE_MS), rdma_now_ms() - before);
}

static void add_device(struct __test_metadata *_metadata, enum rdma_kind kind,
		       const char *side)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "ip netns exec rdma_%s rdma link add %s_%s type %s netdev v%s",
		 side, rdma_name(kind), side, rdma_name(kind), side);
	ASSERT_EQ(0, system(command));
}

TEST_F_TIMEOUT(two, remove_a, 120)
{
	remove_device(_metadata, variant->kind, "a");
	expect_errors(_metadata, self, ENODEV, ECONNRESET, slow(REMOVE_MS));
	/* It works once there is a device again. */
	add_device(_metadata, variant->kind, "a");
	two_connect(_metadata, self);
	two_works(_metadata, self);
}

TEST_F_TIMEOUT(two, remove_b, 120)
{
	remove_device(_metadata, variant->kind, "b");
	expect_errors(_metadata, self, ECONNRESET, ENODEV, slow(REMOVE_MS));
	add_device(_metadata, variant->kind, "b");
	close_early(&self->listener);
	two_listen(_metadata, self);
	two_connect(_metadata, self);
	two_works(_metadata, self);
}

/* siw can lose completions if a driver disconnects before it drains. */
TEST_F_TIMEOUT(two, remove_often, 900)
{
	int i;

	if (variant->kind != SIW)
		SKIP(return, "rxe has one test of removal");
	for (i = 0; i < ROUNDS; i++) {
		remove_device(_metadata, variant->kind, "a");
		expect_errors(_metadata, self, ENODEV, ECONNRESET,
			      slow(REMOVE_MS));
		if (_metadata->exit_code != KSFT_PASS) {
			TH_LOG("round %d", i);
			break;
		}
		add_device(_metadata, variant->kind, "a");
		two_connect(_metadata, self);
		if (variant->traffic)
			two_traffic(_metadata, self);
		else
			two_unread(_metadata, self);
	}
}

/* With a namespace its devices disappear. */
TEST_F_TIMEOUT(two, namespace_ends, 120)
{
	remove_device(_metadata, variant->kind, "a");
	ASSERT_EQ(0, run("ip netns delete %s", "rdma_a"));
	expect_errors(_metadata, self, ENODEV, ECONNRESET, slow(REMOVE_MS));
}

/* No message arrives any more, at either end. */
TEST_F_TIMEOUT(two, silent_peer, 120)
{
	/* Until the adapter gives up, and until the other side does. */
	int ms = slow(3 * KEEPALIVE_MS), error_b = ETIMEDOUT;

	ASSERT_EQ(0, run("ip -n rdma_b address delete %s/24 dev vb", ADDRESS_B));
	/* rxe cannot send without an address, and reports that. */
	if (variant->kind == RXE &&
	    error_of(_metadata, self->b, ms) == ECONNRESET)
		error_b = ECONNRESET;
	expect_errors(_metadata, self, ETIMEDOUT, error_b, ms);
}

/* Data that is sent while the link is down arrives later on siw. */
TEST_F_TIMEOUT(two, link_down, 120)
{
	struct relay in;
	int error;

	if (variant->traffic)
		SKIP(return, "with the traffic of the test itself");
	ASSERT_EQ(64 * 1024, receive_pattern(self->b, 64 * 1024, DATA, 0));
	ASSERT_EQ(0, run("ip -n rdma_a link set %s down", "va"));
	in = (struct relay) {
		.in = make_memfd(_metadata, SOME, DATA), .out = self->a,
		.len = SOME,
	};
	relay_start(_metadata, &in);
	usleep(300000);
	ASSERT_EQ(0, run("ip -n rdma_a link set %s up", "va"));
	if (variant->kind == SIW) {
		EXPECT_EQ(SOME, relay_finish(_metadata, &in));
		EXPECT_EQ(SOME, receive_pattern(self->b, SOME, DATA, 0));
		two_works(_metadata, self);
		return;
	}
	/* rxe may go on, or fail at once. Both ends agree on it in time. */
	relay_finish(_metadata, &in);
	error = error_of(_metadata, self->a, slow(3 * KEEPALIVE_MS));
	if (!error) {
		EXPECT_EQ(SOME, in.done);
		EXPECT_EQ(SOME, receive_pattern(self->b, SOME, DATA, 0));
		return;
	}
	EXPECT_NE(0, error_of(_metadata, self->b, slow(3 * KEEPALIVE_MS)));
}

/* The last descriptor of one end is closed. */
TEST_F_TIMEOUT(two, closed, 120)
{
	long long before = rdma_now_ms();

	if (variant->traffic)
		SKIP(return, "a thread that uses a descriptor keeps the file");
	close_early(&self->a);
	EXPECT_GT(slow(REMOVE_MS), rdma_now_ms() - before);
	EXPECT_EQ(ECONNRESET, error_of(_metadata, self->b, slow(REMOVE_MS)));
	EXPECT_EQ(64 * 1024, receive_pattern(self->b, 64 * 1024, DATA, 0));
	expect_error(_metadata, self->b, ECONNRESET);
	expect_unreferenced(_metadata, self->memfd);
}

/* One end is that of a process that is killed, with calls that wait or not. */
FIXTURE(killed) {
	struct _test_data_two two;
	pid_t pid;
};

FIXTURE_VARIANT(killed) {
	enum rdma_kind kind;
	bool traffic;
};

FIXTURE_VARIANT_ADD(killed, rxe_idle) {
	.kind = RXE,
};

FIXTURE_VARIANT_ADD(killed, rxe_traffic) {
	.kind = RXE, .traffic = true,
};

FIXTURE_VARIANT_ADD(killed, siw_idle) {
	.kind = SIW,
};

FIXTURE_VARIANT_ADD(killed, siw_traffic) {
	.kind = SIW, .traffic = true,
};

/* Sends and receives zeroes until it is killed. */
static void move_until_killed(int fd)
{
	struct relay send = endless(open("/dev/zero", O_RDONLY), fd);
	struct relay receive = endless(fd, open("/dev/null", O_WRONLY));
	pthread_t thread;

	if (!pthread_create(&thread, NULL, relay_run, &send))
		relay_run(&receive);
	_exit(1);
}

FIXTURE_SETUP(killed)
{
	const char *missing = rdma_driver_missing();
	struct _test_data_two *two = &self->two;

	if (missing)
		SKIP(return, "%s", missing);
	two->memfd = -1;
	two->here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, two->here);
	ASSERT_EQ(0, rdma_setup("two", rdma_name(variant->kind)));
	two_listen(_metadata, two);
	two_connect(_metadata, two);
	self->pid = fork();
	ASSERT_LE(0, self->pid);
	if (!self->pid) {
		close_early(&two->a);
		close_early(&two->listener);
		if (variant->traffic)
			move_until_killed(two->b);
		pause();
	}
	close_early(&two->b);
}

FIXTURE_TEARDOWN(killed)
{
	close_early(&self->two.a);
	close_early(&self->two.b);
	close_early(&self->two.listener);
	expect_nothing_left(_metadata);
	EXPECT_EQ(0, rdma_setup("end", ""));
}

TEST_F_TIMEOUT(killed, peer, 120)
{
	struct _test_data_two *two = &self->two;
	struct relay send, receive;
	long long before;

	if (variant->traffic) {
		send = endless(open("/dev/zero", O_RDONLY), two->a);
		receive = endless(two->a, open("/dev/null", O_WRONLY));
		relay_start(_metadata, &send);
		relay_start(_metadata, &receive);
		while (relay_done(&receive) < 1 << 18)
			usleep(1000);
	}
	before = rdma_now_ms();
	kill_waiting(_metadata, self->pid);
	EXPECT_EQ(ECONNRESET, error_of(_metadata, two->a, slow(REMOVE_MS)));
	EXPECT_GT(slow(KILL_MS), rdma_now_ms() - before);
	if (variant->traffic) {
		expect_relay_error(_metadata, &send, ECONNRESET);
		expect_relay_error(_metadata, &receive, ECONNRESET);
	}
	expect_error(_metadata, two->a, ECONNRESET);
	close_early(&two->a);
	two_connect(_metadata, two);
	two_works(_metadata, two);
}

/* The module can be unloaded only if nothing of it is in use. */
FIXTURE(module) {
	struct rdma_pair c;
};

FIXTURE_VARIANT(module) {
	enum rdma_kind kind;
};

FIXTURE_VARIANT_ADD(module, rxe) {
	.kind = RXE,
};

FIXTURE_VARIANT_ADD(module, siw) {
	.kind = SIW,
};

FIXTURE_SETUP(module)
{
	const char *missing = rdma_driver_missing();

	if (missing)
		SKIP(return, "%s", missing);
	missing = module_is_fixed(RDMA_MODULE);
	if (missing)
		SKIP(return, "%s", missing);
	rdma_one(_metadata, variant->kind);
	self->c = rdma_pair_open(_metadata, rdma_address(variant->kind,
							 AF_INET));
}

FIXTURE_TEARDOWN(module)
{
}

TEST_F_TIMEOUT(module, unload, 60)
{
	long long until;
	ssize_t ret;

	EXPECT_EQ(-EWOULDBLOCK, unload_module(RDMA_MODULE));
	close_early(&self->c.active);
	close_early(&self->c.listener);
	EXPECT_EQ(-EWOULDBLOCK, unload_module(RDMA_MODULE));
	close_early(&self->c.passive);
	/* A work item ends a connection, and may still run. */
	until = rdma_now_ms() + slow(REMOVE_MS);
	do {
		ret = unload_module(RDMA_MODULE);
	} while (ret == -EWOULDBLOCK && rdma_now_ms() < until);
	EXPECT_EQ(0, ret);
	ASSERT_TRUE(have_node(RDMA_NODE, RDMA_MODULE));
	self->c = rdma_pair_open(_metadata, rdma_address(variant->kind,
							 AF_INET));
	ASSERT_EQ(SOME, rdma_send(self->c.active, SOME, DATA, 0));
	EXPECT_EQ(SOME, receive_pattern(self->c.passive, SOME, DATA, 0));
}

TEST_HARNESS_MAIN
