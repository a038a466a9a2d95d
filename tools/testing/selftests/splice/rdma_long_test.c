// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/rdma_splice with one RDMA device that connects to its own address: tests
 * that take long. Large files, and hosts that do not answer.
 */
#include "rdma_common.h"
#include "splice_memory.h"

/* Bytes of a large transfer; SPLICE_RDMA_KIB replaces it on slow kernels. */
#define LARGE (64 << 20)

static ssize_t large(void)
{
	const char *kib = getenv("SPLICE_RDMA_KIB");

	return kib ? atol(kib) * 1024 : LARGE;
}

FIXTURE(slow) {
};

FIXTURE_VARIANT(slow) {
	enum rdma_kind kind;
};

FIXTURE_VARIANT_ADD(slow, rxe) {
	.kind = RXE,
};

FIXTURE_VARIANT_ADD(slow, siw) {
	.kind = SIW,
};

FIXTURE_SETUP(slow)
{
	const char *missing = rdma_driver_missing();

	if (missing)
		SKIP(return, "%s", missing);
	have_counters();
	rdma_one(_metadata, variant->kind);
}

FIXTURE_TEARDOWN(slow)
{
	expect_nothing_left(_metadata);
}

/* From a file to a file. */
TEST_F_TIMEOUT(slow, large_file, 1200)
{
	struct rdma_splice_info info;
	struct rdma_pair c;
	struct relay in, out;
	const char *missing = end_missing(END_EXT4), *dir;

	if (missing)
		SKIP(return, "%s is not set", missing);
	dir = end_dir(_metadata, END_EXT4);
	c = rdma_pair_open(_metadata, rdma_address(variant->kind, AF_INET));
	in = (struct relay) {
		.in = make_file(_metadata, dir), .out = c.active,
		.len = large(),
	};
	out = (struct relay) {
		.in = c.passive, .out = make_file(_metadata, dir),
		.len = large(),
	};
	ASSERT_EQ(large(), write_pattern(in.in, large(), DATA, 0));
	ASSERT_EQ(0, lseek(in.in, 0, SEEK_SET));
	relay_start(_metadata, &out);
	relay_start(_metadata, &in);
	EXPECT_EQ(large(), relay_finish(_metadata, &in));
	EXPECT_EQ(large(), relay_finish(_metadata, &out));
	expect_file(_metadata, out.out, large(), DATA, 0);
	ASSERT_EQ(0, fsync(c.active));
	info = rdma_info(_metadata, c.active);
	EXPECT_EQ(large(), info.sent);
	EXPECT_EQ(large(), info.taken);
	rdma_pair_close(&c);
}

/*
 * The address of the link is known, but no host has it. On siw, where a work
 * item waits for TCP, the end is reported when TCP gives up.
 */
TEST_F_TIMEOUT(slow, silent_host, 120)
{
	const char *host = variant->kind == RXE ? "192.0.2.77" : "198.51.100.77";
	struct rdma_splice_connect connect = {
		.peer = rdma_addr(host, some_port()), .timeout_ms = 2000,
	};
	struct rdma_splice_info info;
	char command[128];
	long long before;
	int fd;

	snprintf(command, sizeof(command),
		 "ip neighbour replace %s lladdr 02:00:00:00:00:77 dev v%s nud permanent",
		 host, rdma_name(variant->kind));
	ASSERT_EQ(0, system(command));
	EXPECT_EQ(-ETIMEDOUT, xconnect(&connect));
	connect.flags = RDMA_SPLICE_NONBLOCK;
	before = rdma_now_ms();
	fd = xconnect(&connect);
	EXPECT_GT(1000, rdma_now_ms() - before);
	ASSERT_LE(0, fd);
	EXPECT_EQ(RDMA_SPLICE_CONNECTING, rdma_info(_metadata, fd).state);
	EXPECT_LT(0, poll_for(fd, POLLOUT, SETUP_MS) & POLLERR);
	info = rdma_info(_metadata, fd);
	EXPECT_EQ(RDMA_SPLICE_FAILED, info.state);
	EXPECT_EQ(ETIMEDOUT, info.error);
	close(fd);
	/* Closing in the middle waits for TCP at most. */
	fd = xconnect(&connect);
	ASSERT_LE(0, fd);
	usleep(500000);
	close(fd);
	snprintf(command, sizeof(command), "ip neighbour delete %s dev v%s",
		 host, rdma_name(variant->kind));
	EXPECT_EQ(0, system(command));
}

TEST_HARNESS_MAIN
