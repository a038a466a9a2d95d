// SPDX-License-Identifier: GPL-2.0
/*
 * The wire protocol of /dev/rdma_splice, with a peer in user space that was written
 * from the documentation: with a peer of the same kind, with the driver, and with
 * the driver while the peer violates the protocol.
 */
#include "rdma_common.h"
#include "rdma_peer.h"

/* The messages that a peer can receive. */
#define DEPTH	4
#define SEGMENT	8192

/* Bytes of a transfer, in each direction. */
#define MUCH	(1024 * 1024)

#define TRANSFER_MS 40000

/* Odd, so that the last message is a short one. */
#define SOME	50001

/* One message. */
#define FEW	5000

/* Sends and receives the pattern. */
struct transfer {
	struct peer peer;
	const struct sockaddr *connect;	/* to here first, unless NULL */
	ssize_t send;		/* bytes, before the end of data */
	ssize_t receive;
	ssize_t sent;
	ssize_t received;	/* bytes that were the pattern */
	unsigned int send_seed;
	unsigned int receive_seed;
	int ms;			/* time limit */
	pthread_t thread;
};

static void transfer_send(struct transfer *t)
{
	char buf[16384];
	ssize_t len = t->send - t->sent, ret;

	if (len > (ssize_t)sizeof(buf))
		len = sizeof(buf);
	if (!len)
		return;
	fill_pattern(buf, len, t->send_seed, t->sent);
	ret = peer_send(&t->peer, buf, len, t->sent + len == t->send);
	if (ret > 0)
		t->sent += ret;
}

/* Returns whether everything that was there is the pattern. */
static bool transfer_receive(struct transfer *t)
{
	char buf[5000];
	ssize_t ret;

	while ((ret = peer_receive(&t->peer, buf, sizeof(buf))) > 0) {
		if (match_pattern(buf, ret, t->receive_seed, t->received) != ret)
			return false;
		t->received += ret;
	}
	return true;
}

static void *transfer_run(void *data)
{
	struct transfer *t = data;
	long long until = rdma_now_ms() + t->ms;

	if (t->connect && peer_connect(&t->peer, t->connect, SETUP_MS))
		return NULL;
	if (!t->send)
		peer_fin(&t->peer);
	while (t->peer.state == PEER_OPEN && !peer_finished(&t->peer) &&
	       rdma_now_ms() < until) {
		transfer_send(t);
		if (!transfer_receive(t))
			break;
		peer_step(&t->peer, 20);
	}
	return NULL;
}

static void transfer_start(struct __test_metadata *_metadata,
			   struct transfer *t)
{
	ASSERT_EQ(0, pthread_create(&t->thread, NULL, transfer_run, t));
}

static void expect_no_violation(struct __test_metadata *_metadata,
				const struct peer *p)
{
	EXPECT_EQ(NULL, p->why) {
		TH_LOG("the other side violates the protocol: %s", p->why);
	}
}

static void transfer_check(struct __test_metadata *_metadata,
			   struct transfer *t)
{
	expect_no_violation(_metadata, &t->peer);
	EXPECT_EQ(0, t->peer.error);
	EXPECT_EQ(t->send, t->sent);
	EXPECT_EQ(t->receive, t->received);
	EXPECT_TRUE(peer_at_end(&t->peer));
	EXPECT_TRUE(peer_finished(&t->peer) || t->peer.state == PEER_CLOSED);
	peer_close(&t->peer);
}

static void transfer_finish(struct __test_metadata *_metadata,
			    struct transfer *t)
{
	ASSERT_EQ(0, pthread_join(t->thread, NULL));
	transfer_check(_metadata, t);
}

static void *connect_run(void *data)
{
	struct transfer *t = data;

	peer_connect(&t->peer, t->connect, SETUP_MS);
	return NULL;
}

/* Steps for a while, in which everything that is due is sent and received. */
static void settle(struct peer *p)
{
	long long until = rdma_now_ms() + 300;

	while (rdma_now_ms() < until)
		peer_step(p, 20);
}

/* Messages that violate the protocol. */
struct offence {
	const char *name;
	unsigned int length;
	unsigned int flags;
	__u64 taken;
	size_t data;		/* bytes that are sent, not @length */
	int times;
};

static const struct offence offences[] = {
	{ "length too large", 100, 0, 0, 50 },
	{ "length too small", 50, 0, 0, 100 },
	{ "length wraps", 0xfffffff0, 0, 0, 0 },
	{ "length without data", 1, PEER_ASK, 0, 0 },
	{ "data without length", 0, PEER_ASK, 0, 1 },
	{ "unknown flag", 0, PEER_ASK | 0x8, 0, 0 },
	{ "unknown flag with data", 1, 0x80000000, 0, 1 },
	{ "neither data nor flags", 0, 0, 0, 0 },
	{ "FIN alone", 0, PEER_FIN, 0, 0 },
	{ "ASK with data", 1, PEER_ASK, 0, 1 },
	{ "ANSWER without ASK", 0, PEER_ANSWER, 0, 0 },
	{ "ANSWER without ASK, with data", 1, PEER_ANSWER, 0, 1 },
	{ "count too large", 0, PEER_ASK, 1, 0 },
	{ "count much too large", 1, 0, ~0ULL, 1 },
	{ "data after FIN", 1, PEER_FIN, 0, 1, 2 },
	{ "more than the segment", 1 << 17, 0, 0, 1 << 17 },
};

static int send_offence(struct peer *p, const struct offence *o)
{
	static char zeroes[1 << 17];
	int times = o->times ? o->times : 1, ret = 0;

	p->silent = true;
	while (times-- && !ret)
		ret = peer_send_raw(p, o->length, o->flags, o->taken, zeroes,
				    o->data);
	return ret;
}

/* Two peers of this kind. */
FIXTURE(peer) {
	union socket_address addr;
	struct peer listener;
	struct transfer active;
	struct transfer passive;
};

FIXTURE_VARIANT(peer) {
	enum rdma_kind kind;
	int family;
};

FIXTURE_VARIANT_ADD(peer, rxe) {
	.kind = RXE, .family = AF_INET,
};

FIXTURE_VARIANT_ADD(peer, rxe_ipv6) {
	.kind = RXE, .family = AF_INET6,
};

FIXTURE_VARIANT_ADD(peer, siw) {
	.kind = SIW, .family = AF_INET,
};

FIXTURE_VARIANT_ADD(peer, siw_ipv6) {
	.kind = SIW, .family = AF_INET6,
};

FIXTURE_SETUP(peer)
{
	const char *missing = rdma_missing();

	if (missing)
		SKIP(return, "%s", missing);
	rdma_one(_metadata, variant->kind);
	self->addr = socket_addr(rdma_address(variant->kind, variant->family),
				 some_port());
	peer_init(&self->listener, DEPTH, SEGMENT);
	ASSERT_EQ(0, peer_listen(&self->listener, &self->addr.any));
	self->active = (struct transfer) {
		.connect = &self->addr.any, .ms = TRANSFER_MS,
		.send_seed = DATA, .receive_seed = BACK,
	};
	peer_init(&self->active.peer, DEPTH - 1, 2 * SEGMENT);
	self->passive = (struct transfer) {
		.ms = TRANSFER_MS, .send_seed = BACK, .receive_seed = DATA,
	};
}

FIXTURE_TEARDOWN(peer)
{
	peer_close(&self->listener);
}

static void peer_exchange(struct __test_metadata *_metadata,
			  struct _test_data_peer *self, ssize_t send,
			  ssize_t receive)
{
	self->active.send = send;
	self->active.receive = receive;
	self->passive.send = receive;
	self->passive.receive = send;
	transfer_start(_metadata, &self->active);
	ASSERT_EQ(0, peer_accept(&self->listener, &self->passive.peer,
				 SETUP_MS));
	transfer_run(&self->passive);
	transfer_finish(_metadata, &self->active);
	transfer_check(_metadata, &self->passive);
}

TEST_F_TIMEOUT(peer, sends, 60)
{
	peer_exchange(_metadata, self, SOME, 0);
}

TEST_F_TIMEOUT(peer, receives, 60)
{
	peer_exchange(_metadata, self, 0, SOME);
}

TEST_F_TIMEOUT(peer, nothing, 60)
{
	peer_exchange(_metadata, self, 0, 0);
}

TEST_F_TIMEOUT(peer, both_directions, 60)
{
	peer_exchange(_metadata, self, MUCH, MUCH + 1);
}

/* A request with wrong private data is rejected, with the limits 0. */
TEST_F_TIMEOUT(peer, rejects, 60)
{
	self->active.peer.private_data.magic = htole32(PEER_MAGIC);
	self->active.peer.private_data.version = htole16(PEER_VERSION + 1);
	self->active.peer.private_len = sizeof(struct peer_private);
	transfer_start(_metadata, &self->active);
	EXPECT_EQ(-EPROTO, peer_accept(&self->listener, &self->passive.peer,
				       SETUP_MS));
	ASSERT_EQ(0, pthread_join(self->active.thread, NULL));
	EXPECT_EQ(ECONNREFUSED, self->active.peer.error);
	EXPECT_EQ(PEER_MAGIC, le32toh(self->active.peer.reply.magic));
	EXPECT_EQ(PEER_VERSION, le16toh(self->active.peer.reply.version));
	EXPECT_EQ(0, self->active.peer.reply.depth);
	EXPECT_EQ(0, self->active.peer.reply.segment);
	peer_close(&self->active.peer);
	peer_close(&self->passive.peer);
}

/* Each violation is found by a peer. The tests of the driver rely on it. */
TEST_F_TIMEOUT(peer, offences, 120)
{
	struct peer *active = &self->active.peer;
	struct peer *passive = &self->passive.peer;
	long long until;
	int i;

	for (i = 0; i < ARRAY_LEN(offences); i++) {
		peer_init(active, DEPTH, SEGMENT);
		ASSERT_EQ(0, pthread_create(&self->active.thread, NULL,
					    connect_run, &self->active));
		ASSERT_EQ(0, peer_accept(&self->listener, passive, SETUP_MS));
		ASSERT_EQ(0, pthread_join(self->active.thread, NULL));
		until = rdma_now_ms() + SETUP_MS;
		while ((!active->spoke || !passive->spoke) &&
		       rdma_now_ms() < until) {
			peer_step(active, 10);
			peer_step(passive, 10);
		}
		ASSERT_TRUE(active->spoke);
		ASSERT_TRUE(passive->spoke);
		ASSERT_EQ(0, send_offence(active, &offences[i]));
		while (!peer_step(passive, 20) && rdma_now_ms() < until)
			;
		EXPECT_EQ(EPROTO, passive->error) {
			TH_LOG("offence: %s", offences[i].name);
		}
		EXPECT_NE(NULL, passive->why);
		peer_close(passive);
		peer_close(active);
	}
}

/* The driver at one end, a peer at the other. */
FIXTURE(driver) {
	union socket_address addr;
	struct rdma_splice_connect connect;
	struct rdma_splice_listen listen;
	struct peer listener;
	struct transfer t;
	int fd;
	int p[2];
	int q[2];
};

FIXTURE_VARIANT(driver) {
	enum rdma_kind kind;
	bool connects;		/* the driver, or else the peer */
};

FIXTURE_VARIANT_ADD(driver, rxe_connects) {
	.kind = RXE, .connects = true,
};

FIXTURE_VARIANT_ADD(driver, rxe_accepts) {
	.kind = RXE,
};

FIXTURE_VARIANT_ADD(driver, siw_connects) {
	.kind = SIW, .connects = true,
};

FIXTURE_VARIANT_ADD(driver, siw_accepts) {
	.kind = SIW,
};

FIXTURE_SETUP(driver)
{
	const char *text = rdma_address(variant->kind, AF_INET);
	const char *missing = rdma_driver_missing();

	self->fd = -1;
	if (missing)
		SKIP(return, "%s", missing);
	have_counters();
	rdma_one(_metadata, variant->kind);
	self->addr = socket_addr(text, some_port());
	self->listen.local = rdma_addr(text, some_port());
	self->connect.peer = self->listen.local;
	self->connect.timeout_ms = SETUP_MS;
	self->connect.flags = RDMA_SPLICE_NONBLOCK;
	peer_init(&self->listener, DEPTH, SEGMENT);
	self->t = (struct transfer) {
		.ms = TRANSFER_MS, .send_seed = BACK, .receive_seed = DATA,
	};
	peer_init(&self->t.peer, DEPTH, SEGMENT);
	make_pipe(_metadata, self->p);
	make_pipe(_metadata, self->q);
}

FIXTURE_TEARDOWN(driver)
{
	int i;

	for (i = 0; i < 2; i++) {
		close(self->p[i]);
		close(self->q[i]);
	}
	peer_close(&self->t.peer);
	peer_close(&self->listener);
	close_early(&self->fd);
	expect_nothing_left(_metadata);
}

/* Takes the private data of @self->listener, which may be invalid. */
static void driver_connects(struct __test_metadata *_metadata,
			    struct _test_data_driver *self)
{
	ASSERT_EQ(0, peer_listen(&self->listener, &self->addr.any));
	self->fd = xconnect(&self->connect);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, peer_accept(&self->listener, &self->t.peer, SETUP_MS));
}

static void driver_accepts(struct __test_metadata *_metadata,
			   struct _test_data_driver *self)
{
	int listener = xlisten(&self->listen);

	ASSERT_LE(0, listener);
	self->t.connect = &self->addr.any;
	ASSERT_EQ(0, pthread_create(&self->t.thread, NULL, connect_run,
				    &self->t));
	self->fd = xaccept(listener, 0);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, pthread_join(self->t.thread, NULL));
	ASSERT_EQ(0, self->t.peer.error);
	self->t.connect = NULL;
	close(listener);
}

static void driver_open(struct __test_metadata *_metadata,
			struct _test_data_driver *self, bool connects)
{
	if (connects)
		driver_connects(_metadata, self);
	else
		driver_accepts(_metadata, self);
	rdma_wait_writable(_metadata, self->fd);
	set_nonblock(_metadata, self->fd, false);
}

static void exchange(struct __test_metadata *_metadata,
		     struct _test_data_driver *self, ssize_t send,
		     ssize_t receive)
{
	int file = make_memfd(_metadata, send, DATA);
	struct relay in = { .in = file, .out = self->fd, .len = send };

	self->t.send = receive;
	self->t.receive = send;
	transfer_start(_metadata, &self->t);
	relay_start(_metadata, &in);
	EXPECT_EQ(receive, receive_pattern(self->fd, receive, BACK, 0));
	EXPECT_EQ(send, relay_finish(_metadata, &in));
	ASSERT_EQ(0, xshutdown(self->fd));
	EXPECT_EQ(0, receive_pattern(self->fd, 1, BACK, receive));
	EXPECT_EQ(0, or_errno(fsync(self->fd)));
	EXPECT_EQ(send, rdma_info(_metadata, self->fd).taken);
	transfer_finish(_metadata, &self->t);
	EXPECT_LT(0, poll_for(self->fd, 0, SETUP_MS) & POLLHUP);
	EXPECT_EQ(RDMA_SPLICE_CLOSED, rdma_info(_metadata, self->fd).state);
	expect_unreferenced(_metadata, file);
}

TEST_F_TIMEOUT(driver, sends, 60)
{
	driver_open(_metadata, self, variant->connects);
	exchange(_metadata, self, SOME, 0);
}

TEST_F_TIMEOUT(driver, receives, 60)
{
	driver_open(_metadata, self, variant->connects);
	exchange(_metadata, self, 0, SOME);
}

TEST_F_TIMEOUT(driver, nothing, 60)
{
	driver_open(_metadata, self, variant->connects);
	exchange(_metadata, self, 0, 0);
}

TEST_F_TIMEOUT(driver, both_directions, 120)
{
	driver_open(_metadata, self, variant->connects);
	exchange(_metadata, self, MUCH, MUCH + 1);
}

/* A peer that can receive one page. */
TEST_F_TIMEOUT(driver, smallest_peer, 120)
{
	peer_init(&self->listener, 1, 4096);
	peer_init(&self->t.peer, 1, 4096);
	driver_open(_metadata, self, variant->connects);
	EXPECT_EQ(1, rdma_info(_metadata, self->fd).send_depth);
	EXPECT_EQ(4096, rdma_info(_metadata, self->fd).send_segment);
	exchange(_metadata, self, MUCH / 8 + 1, MUCH / 8);
}

/* The driver sends no more than the peer can receive, until the peer takes it. */
TEST_F_TIMEOUT(driver, credit, 60)
{
	ssize_t window = DEPTH * SEGMENT, sum = 0, ret;
	struct peer *p = &self->t.peer;
	char buf[SEGMENT];

	driver_open(_metadata, self, variant->connects);
	set_nonblock(_metadata, self->fd, true);
	do {
		if (!pipe_bytes(self->p[0]))
			ASSERT_EQ(SEGMENT, write_pattern(self->p[1], SEGMENT,
							 DATA, sum));
		ret = xsplice(self->p[0], NULL, self->fd, NULL, SEGMENT, 0);
		if (ret > 0)
			sum += ret;
		settle(p);
	} while (ret > 0);
	EXPECT_EQ(-EAGAIN, ret);
	EXPECT_EQ(window, sum);
	EXPECT_EQ(0, poll_now(self->fd, POLLOUT));
	expect_no_violation(_metadata, p);
	ASSERT_EQ(SEGMENT, peer_receive(p, buf, SEGMENT));
	EXPECT_EQ(SEGMENT, match_pattern(buf, SEGMENT, DATA, 0));
	settle(p);
	EXPECT_EQ(POLLOUT, poll_now(self->fd, POLLOUT));
	EXPECT_EQ(SEGMENT, rdma_info(_metadata, self->fd).taken);
	EXPECT_EQ(SEGMENT, xsplice(self->p[0], NULL, self->fd, NULL, SEGMENT,
				   0));
	EXPECT_EQ(0, poll_now(self->fd, POLLOUT));
	settle(p);
	expect_no_violation(_metadata, p);
	EXPECT_EQ(0, p->error);
}

/* The driver counts a message only when its reader has taken all of it. */
TEST_F_TIMEOUT(driver, count, 60)
{
	struct peer *p = &self->t.peer;
	char *data = alloc_pattern(_metadata, FEW, DATA);

	driver_open(_metadata, self, variant->connects);
	settle(p);
	ASSERT_EQ(FEW, peer_send(p, data, FEW, false));
	ASSERT_EQ(1, p->data_sent);
	settle(p);
	EXPECT_EQ(0, p->peer_taken);
	ASSERT_EQ(FEW - 1, receive_pattern(self->fd, FEW - 1, DATA, 0));
	settle(p);
	EXPECT_EQ(0, p->peer_taken);
	ASSERT_EQ(1, receive_pattern(self->fd, 1, DATA, FEW - 1));
	settle(p);
	EXPECT_EQ(1, p->peer_taken);
	expect_no_violation(_metadata, p);
	EXPECT_EQ(0, p->error);
	free(data);
}

/* An idle connection stays, since the driver asks and answers. */
TEST_F_TIMEOUT(driver, idle, 60)
{
	long long until = rdma_now_ms() + 4000;
	struct peer *p = &self->t.peer;

	self->connect.keepalive_ms = 1500;
	self->listen.keepalive_ms = 1500;
	driver_open(_metadata, self, variant->connects);
	/* The driver asks, because the peer does not. */
	while (rdma_now_ms() < until)
		peer_step(p, 20);
	EXPECT_EQ(0, p->error);
	expect_no_violation(_metadata, p);
	EXPECT_EQ(RDMA_SPLICE_CONNECTED, rdma_info(_metadata, self->fd).state);
	/* The peer asks, and the driver answers. */
	p->keepalive_ms = 600;
	until = rdma_now_ms() + 2000;
	while (rdma_now_ms() < until)
		peer_step(p, 20);
	EXPECT_EQ(0, p->error);
	EXPECT_LE(2, p->nr_asks);
	exchange(_metadata, self, SOME, SOME);
}

/* The connection failed with @error, and both sides know. */
static void expect_failed(struct __test_metadata *_metadata,
			  struct _test_data_driver *self, int error)
{
	struct rdma_splice_info info;
	long long until;

	EXPECT_LT(0, poll_for(self->fd, 0, SETUP_MS) & POLLERR);
	info = rdma_info(_metadata, self->fd);
	EXPECT_EQ(RDMA_SPLICE_FAILED, info.state);
	EXPECT_EQ(error, info.error);
	ASSERT_EQ(1, write_pattern(self->p[1], 1, DATA, 0));
	EXPECT_EQ(-error, xsplice(self->p[0], NULL, self->fd, NULL, 1, 0));
	EXPECT_EQ(1, read_pattern(self->p[0], 1, DATA, 0));
	until = rdma_now_ms() + 5000;
	while (self->t.peer.state == PEER_OPEN && rdma_now_ms() < until)
		peer_step(&self->t.peer, 20);
	EXPECT_EQ(PEER_FAILED, self->t.peer.state);
}

static void offend(struct __test_metadata *_metadata,
		   struct _test_data_driver *self, const struct offence *o)
{
	settle(&self->t.peer);
	ASSERT_EQ(0, self->t.peer.error) {
		TH_LOG("before: %s", o->name);
	}
	ASSERT_EQ(0, send_offence(&self->t.peer, o));
	expect_failed(_metadata, self, EPROTO);
	if (_metadata->exit_code != KSFT_PASS)
		TH_LOG("offence: %s", o->name);
}

static void driver_close(struct _test_data_driver *self)
{
	peer_close(&self->t.peer);
	peer_close(&self->listener);
	peer_init(&self->t.peer, DEPTH, SEGMENT);
	peer_init(&self->listener, DEPTH, SEGMENT);
	close_early(&self->fd);
}

TEST_F_TIMEOUT(driver, offences, 180)
{
	int i;

	for (i = 0; i < ARRAY_LEN(offences); i++) {
		driver_open(_metadata, self, variant->connects);
		offend(_metadata, self, &offences[i]);
		driver_close(self);
	}
}

TEST_F_TIMEOUT(driver, short_message, 60)
{
	driver_open(_metadata, self, variant->connects);
	settle(&self->t.peer);
	self->t.peer.silent = true;
	ASSERT_EQ(0, peer_send_short(&self->t.peer, PEER_HEADER - 1));
	expect_failed(_metadata, self, EPROTO);
}

TEST_F_TIMEOUT(driver, second_fin, 60)
{
	struct peer *p = &self->t.peer;

	driver_open(_metadata, self, variant->connects);
	settle(p);
	ASSERT_EQ(0, peer_fin(p));
	settle(p);
	ASSERT_TRUE(p->fin_sent);
	ASSERT_FALSE(p->ask_pending);
	p->silent = true;
	ASSERT_EQ(0, peer_send_raw(p, 0, PEER_FIN | PEER_ASK, p->taken, NULL,
				   0));
	expect_failed(_metadata, self, EPROTO);
}

TEST_F_TIMEOUT(driver, count_decreases, 60)
{
	struct peer *p = &self->t.peer;
	char buf[SOME];

	driver_open(_metadata, self, variant->connects);
	ASSERT_EQ(100, rdma_send(self->fd, 100, DATA, 0));
	settle(p);
	ASSERT_EQ(100, peer_receive(p, buf, sizeof(buf)));
	settle(p);
	ASSERT_EQ(1, p->taken_sent);
	p->silent = true;
	ASSERT_EQ(0, peer_send_raw(p, 0, PEER_ASK, 0, NULL, 0));
	expect_failed(_metadata, self, EPROTO);
}

/* One message more than the driver can receive, while its reader takes none. */
TEST_F_TIMEOUT(driver, data_without_credit, 60)
{
	struct peer *p = &self->t.peer;
	unsigned int i;
	char buf[2];

	driver_open(_metadata, self, variant->connects);
	settle(p);
	for (i = 0; i < p->send_depth; i++) {
		while (p->nr_unused <= 2 && p->state == PEER_OPEN)
			peer_step(p, 20);
		ASSERT_EQ(1, peer_send(p, "x", 1, false));
	}
	ASSERT_EQ(0, peer_send(p, "x", 1, false));
	settle(p);
	ASSERT_EQ(0, p->error);
	p->silent = true;
	ASSERT_EQ(0, peer_send_raw(p, 1, 0, p->taken, "x", 1));
	expect_failed(_metadata, self, EPROTO);
	/* The data with credit can still be read. */
	for (i = 0; i < p->send_depth; i++) {
		ASSERT_EQ(1, xsplice(self->fd, NULL, self->q[1], NULL, 1, 0));
		ASSERT_EQ(1, xread(self->q[0], buf, sizeof(buf)));
		ASSERT_EQ('x', buf[0]);
	}
	EXPECT_EQ(-EPROTO, xsplice(self->fd, NULL, self->q[1], NULL, 1, 0));
}

/* The first message must be ASK, without data. */
TEST_F_TIMEOUT(driver, first_message, 60)
{
	struct peer *p = &self->t.peer;

	if (variant->connects)
		SKIP(return, "the driver speaks first");
	p->silent = true;
	driver_accepts(_metadata, self);
	EXPECT_EQ(0, poll_now(self->fd, POLLOUT));
	ASSERT_EQ(0, peer_send_raw(p, 1, 0, 0, "x", 1));
	expect_failed(_metadata, self, EPROTO);
}

/* Private data that the other side rejects. */
static const struct {
	__u32 magic;
	__u16 version;
	__u16 depth;
	__u32 segment;
} invalid[] = {
	{ PEER_MAGIC ^ 1, PEER_VERSION, 4, 4096 },
	{ PEER_MAGIC, PEER_VERSION - 1, 4, 4096 },
	{ PEER_MAGIC, PEER_VERSION + 1, 4, 4096 },
	{ PEER_MAGIC, PEER_VERSION, 0, 4096 },
	{ PEER_MAGIC, PEER_VERSION, 4097, 4096 },
	{ PEER_MAGIC, PEER_VERSION, 4, 0 },
	{ PEER_MAGIC, PEER_VERSION, 4, 4095 },
	{ PEER_MAGIC, PEER_VERSION, 4, 6000 },
	{ PEER_MAGIC, PEER_VERSION, 4, (16 << 20) + 4096 },
};

static void set_invalid(struct peer *p, int i)
{
	p->private_data = (struct peer_private) {
		.magic = htole32(invalid[i].magic),
		.version = htole16(invalid[i].version),
		.depth = htole16(invalid[i].depth),
		.segment = htole32(invalid[i].segment),
	};
	p->private_len = sizeof(p->private_data);
}

/* The driver rejects such requests, and its listener goes on. */
static void reject_requests(struct __test_metadata *_metadata,
			    struct _test_data_driver *self)
{
	struct peer *p = &self->t.peer;
	int listener, i;

	self->listen.flags = RDMA_SPLICE_NONBLOCK;
	listener = xlisten(&self->listen);
	ASSERT_LE(0, listener);
	/* The last one is too short. */
	for (i = 0; i <= ARRAY_LEN(invalid); i++) {
		peer_init(p, DEPTH, SEGMENT);
		set_invalid(p, i % ARRAY_LEN(invalid));
		if (i == ARRAY_LEN(invalid))
			p->private_len = 4;
		EXPECT_EQ(-ECONNREFUSED, peer_connect(p, &self->addr.any,
						      SETUP_MS)) {
			TH_LOG("private data %d", i);
		}
		EXPECT_EQ(PEER_MAGIC, le32toh(p->reply.magic));
		EXPECT_EQ(PEER_VERSION, le16toh(p->reply.version));
		EXPECT_EQ(0, p->reply.depth);
		EXPECT_EQ(0, p->reply.segment);
		peer_close(p);
		EXPECT_EQ(0, poll_now(listener, POLLIN));
		EXPECT_EQ(-EAGAIN, xaccept(listener, 0));
	}
	close(listener);
	peer_init(p, DEPTH, SEGMENT);
	self->listen.flags = 0;
	driver_open(_metadata, self, false);
	exchange(_metadata, self, SOME, SOME);
}

/* The driver ends connections with such an answer. */
static void reject_answers(struct __test_metadata *_metadata,
			   struct _test_data_driver *self)
{
	int i;

	for (i = 0; i < ARRAY_LEN(invalid); i++) {
		set_invalid(&self->listener, i);
		ASSERT_EQ(0, peer_listen(&self->listener, &self->addr.any));
		self->fd = xconnect(&self->connect);
		ASSERT_LE(0, self->fd);
		/* The driver may have gone before the peer sees it. */
		peer_accept(&self->listener, &self->t.peer, SETUP_MS);
		self->t.peer.silent = true;
		expect_failed(_metadata, self, EPROTO);
		driver_close(self);
	}
}

TEST_F_TIMEOUT(driver, private_data, 180)
{
	if (variant->connects)
		reject_answers(_metadata, self);
	else
		reject_requests(_metadata, self);
}

/* The driver gives up a silent peer, idle and with data on the way. */
TEST_F_TIMEOUT(driver, silent_peer, 60)
{
	long long before;
	int i;

	self->connect.keepalive_ms = 1500;
	self->listen.keepalive_ms = 1500;
	for (i = 0; i < 2; i++) {
		driver_open(_metadata, self, variant->connects);
		settle(&self->t.peer);
		self->t.peer.silent = true;
		before = rdma_now_ms();
		if (i)
			ASSERT_EQ(FEW, rdma_send(self->fd, FEW, DATA, 0));
		expect_failed(_metadata, self, ETIMEDOUT);
		EXPECT_GT(4000, rdma_now_ms() - before);
		driver_close(self);
	}
}

/* A listener that does not answer requests. */
TEST_F_TIMEOUT(driver, no_answer, 60)
{
	if (!variant->connects)
		SKIP(return, "the peer connects");
	ASSERT_EQ(0, peer_listen(&self->listener, &self->addr.any));
	self->connect.flags = 0;
	self->connect.timeout_ms = 1000;
	EXPECT_EQ(-ETIMEDOUT, xconnect(&self->connect));
}

/* The peer disconnects before the end of data. */
TEST_F_TIMEOUT(driver, peer_disconnects, 60)
{
	struct job job;

	driver_open(_metadata, self, variant->connects);
	settle(&self->t.peer);
	job = job_splice(self->fd, self->q[1], SOME);
	job_start(_metadata, &job);
	job_wait_blocked(&job);
	ASSERT_EQ(FEW, rdma_send(self->fd, FEW, DATA, 0));
	peer_close(&self->t.peer);
	EXPECT_EQ(-ECONNRESET, job_finish(_metadata, &job));
	EXPECT_EQ(ECONNRESET, rdma_info(_metadata, self->fd).error);
}

/* The answer of an iWARP peer that rejects, with private data. */
struct mpa_reply {
	char key[16];
	__be16 flags;
	__be16 length;
	__be16 ird;
	__be16 ord;
	struct peer_private private_data;
};

#define MPA_REJECT	0x2000
#define MPA_ENHANCED	0x1000
#define MPA_REVISION	2

/* Rejects a connection; the answer and the end of the data are one segment. */
static void *reject_by_tcp(void *arg)
{
	struct mpa_reply reply = {
		.flags = htobe16(MPA_REJECT | MPA_ENHANCED | MPA_REVISION),
		.length = htobe16(sizeof(reply) -
				  offsetof(struct mpa_reply, ird)),
		.private_data = {
			.magic = htole32(PEER_MAGIC),
			.version = htole16(PEER_VERSION),
		},
	};
	int fd = accept(*(int *)arg, NULL, NULL), one = 1;
	char request[512];

	memcpy(reply.key, "MPA ID Rep Frame", sizeof(reply.key));
	if (xread(fd, request, sizeof(request)) > 0 &&
	    !setsockopt(fd, IPPROTO_TCP, TCP_CORK, &one, sizeof(one)))
		xwrite(fd, &reply, sizeof(reply));
	close(fd);
	return NULL;
}

/* siw reads the answer although the connection has ended. */
TEST(reply_and_end)
{
	union socket_address addr = socket_addr(rdma_address(SIW, AF_INET),
						some_port());
	const char *missing = rdma_missing();
	struct peer peer;
	pthread_t thread;
	int listener;

	if (missing)
		SKIP(return, "%s", missing);
	rdma_one(_metadata, SIW);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	ASSERT_LE(0, listener);
	ASSERT_EQ(0, bind(listener, &addr.any, sizeof(addr.in)));
	ASSERT_EQ(0, listen(listener, 1));
	ASSERT_EQ(0, pthread_create(&thread, NULL, reject_by_tcp, &listener));
	peer_init(&peer, 4, 4096);
	EXPECT_EQ(-ECONNREFUSED, peer_connect(&peer, &addr.any, SETUP_MS));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(PEER_MAGIC, le32toh(peer.reply.magic));
	EXPECT_EQ(PEER_VERSION, le16toh(peer.reply.version));
	peer_close(&peer);
	close(listener);
}

TEST_HARNESS_MAIN
