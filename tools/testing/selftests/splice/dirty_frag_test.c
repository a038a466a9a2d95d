// SPDX-License-Identifier: GPL-2.0
/*
 * ESP decrypts a packet in place if nobody else can see its memory. A packet
 * whose data was spliced from a file refers to the page cache of that file. If
 * ESP does not notice, the file changes, although the sender can only read it.
 *
 * A task without privileges sends such packets over UDP. CONFIG_SPLICE_TEST_SINKS
 * lets the test take the two defences away that ESP has: the mark of shared
 * frags, and the look at the pages. Without both, and with the value 2 of
 * fs.splice_zerocopy, the file must change: otherwise the test would prove
 * nothing.
 */
#include "device_common.h"
#include "policy_common.h"

#include <linux/netlink.h>
#include <linux/udp.h>
#include <linux/xfrm.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#define NODE "splice_test_own"

/* What ESP is made to ignore. */
#define NOTHING	0
#define MARKS	1
#define PAGES	2

#define SPI 0x1234
#define DATA 1

/* The bytes that are decrypted. */
#define SOME 1024
/* The tag at the end of the packet, which AES-GCM checks after it decrypted. */
#define TAG 16

FIXTURE(dirty_frag) {
	int before;		/* the value of the sysctl */
	int root;		/* a file that only root may write */
	int file;		/* the same file, open for reading */
	int switches;
	int netlink;
	int sv[2];
	int p[2];
	struct sockaddr_storage addr;
	socklen_t len;
};

FIXTURE_VARIANT(dirty_frag) {
	int family;
};

FIXTURE_VARIANT_ADD(dirty_frag, ipv4) {
	.family = AF_INET,
};

FIXTURE_VARIANT_ADD(dirty_frag, ipv6) {
	.family = AF_INET6,
};

static void add_attribute(struct nlmsghdr *nlh, int type, const void *data,
			  size_t len)
{
	struct nlattr *nla = (void *)nlh + NLMSG_ALIGN(nlh->nlmsg_len);

	nla->nla_type = type;
	nla->nla_len = NLA_HDRLEN + len;
	memcpy((void *)nla + NLA_HDRLEN, data, len);
	nlh->nlmsg_len = NLMSG_ALIGN(nlh->nlmsg_len) + NLA_ALIGN(nla->nla_len);
}

static ssize_t netlink_call(int fd, struct nlmsghdr *nlh)
{
	char buf[4096];
	struct nlmsghdr *reply = (void *)buf;
	struct nlmsgerr *err = NLMSG_DATA(reply);
	ssize_t ret;

	ret = or_errno(send(fd, nlh, nlh->nlmsg_len, 0));
	if (ret < 0)
		return ret;
	ret = or_errno(recv(fd, buf, sizeof(buf), 0));
	if (ret < 0)
		return ret;
	return reply->nlmsg_type == NLMSG_ERROR ? err->error : -EPROTO;
}

/* Adds the state that decrypts what arrives at @port in UDP. */
static ssize_t add_state(int fd, int family, __be16 port)
{
	struct {
		struct nlmsghdr nlh;
		struct xfrm_usersa_info sa;
		char attributes[512];
	} msg = {
		.nlh.nlmsg_len = NLMSG_LENGTH(sizeof(msg.sa)),
		.nlh.nlmsg_type = XFRM_MSG_NEWSA,
		.nlh.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE,
		.sa.id.spi = htonl(SPI),
		.sa.id.proto = IPPROTO_ESP,
		.sa.family = family,
		.sa.sel.family = family,
		.sa.mode = XFRM_MODE_TRANSPORT,
		.sa.lft.soft_byte_limit = XFRM_INF,
		.sa.lft.hard_byte_limit = XFRM_INF,
		.sa.lft.soft_packet_limit = XFRM_INF,
		.sa.lft.hard_packet_limit = XFRM_INF,
	};
	struct xfrm_encap_tmpl encap = {
		.encap_type = UDP_ENCAP_ESPINUDP,
		.encap_sport = port,
		.encap_dport = port,
	};
	char buf[sizeof(struct xfrm_algo_aead) + 20] = {};
	struct xfrm_algo_aead *aead = (void *)buf;

	if (family == AF_INET) {
		msg.sa.id.daddr.a4 = htonl(INADDR_LOOPBACK);
		msg.sa.saddr.a4 = htonl(INADDR_LOOPBACK);
	} else {
		memcpy(&msg.sa.id.daddr, &in6addr_loopback, 16);
		memcpy(&msg.sa.saddr, &in6addr_loopback, 16);
	}
	strcpy(aead->alg_name, "rfc4106(gcm(aes))");
	aead->alg_key_len = 20 * 8;
	aead->alg_icv_len = TAG * 8;
	memcpy(aead->alg_key, "0123456789abcdefsalt", 20);
	add_attribute(&msg.nlh, XFRMA_ALG_AEAD, buf, sizeof(buf));
	add_attribute(&msg.nlh, XFRMA_ENCAP, &encap, sizeof(encap));
	return netlink_call(fd, &msg.nlh);
}

FIXTURE_SETUP(dirty_frag)
{
	struct sockaddr_in6 *in6 = (void *)&self->addr;
	struct sockaddr_in *in = (void *)&self->addr;
	int encap = UDP_ENCAP_ESPINUDP, i;

	self->before = read_value();
	if (self->before < 0)
		SKIP(return, "the kernel has no fs.splice_zerocopy");
	if (!have_node(NODE, MODULE))
		SKIP(return, "the kernel has no module " MODULE);
	self->switches = open_node(_metadata, NODE, O_WRONLY);
	ASSERT_EQ(0, unshare(CLONE_NEWNET));
	self->netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM);
	if (self->netlink < 0)
		SKIP(return, "the kernel has no CONFIG_XFRM_USER");

	self->addr.ss_family = variant->family;
	if (variant->family == AF_INET) {
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		self->len = sizeof(*in);
	} else {
		in6->sin6_addr = in6addr_loopback;
		self->len = sizeof(*in6);
	}
	for (i = 0; i < 2; i++) {
		self->sv[i] = socket(variant->family, SOCK_DGRAM, 0);
		ASSERT_LE(0, self->sv[i]);
	}
	bring_up_loopback(_metadata, self->sv[0]);
	ASSERT_EQ(0, bind(self->sv[1], (void *)&self->addr, self->len));
	ASSERT_EQ(0, getsockname(self->sv[1], (void *)&self->addr, &self->len));
	ASSERT_EQ(0, setsockopt(self->sv[1], IPPROTO_UDP, UDP_ENCAP, &encap,
				sizeof(encap)));
	ASSERT_EQ(0, connect(self->sv[0], (void *)&self->addr, self->len));
	ASSERT_EQ(0, add_state(self->netlink, variant->family, in->sin_port));

	self->root = make_memfd(_metadata, 4096, DATA);
	ASSERT_EQ(0, fchmod(self->root, 0444));
	self->file = reopen(_metadata, self->root, O_RDONLY);
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(dirty_frag)
{
	ioctl(self->switches, SPLICE_TEST_FRAGS, NOTHING);
	set_value(_metadata, self->before);
}

/* Sends a packet whose encrypted part is the beginning of the file. */
static int send_packet(const struct _test_data_dirty_frag *self)
{
	ssize_t len = SOME + TAG;
	struct {
		__be32 spi;
		__be32 seq;
		char iv[8];
	} head = { .spi = htonl(SPI), .seq = htonl(1) };
	loff_t pos = 0;

	if (setgid(NOBODY) || setuid(NOBODY))
		return 1;
	if (xwrite(self->p[1], &head, sizeof(head)) != sizeof(head))
		return 2;
	if (xsplice(self->file, &pos, self->p[1], NULL, len, 0) != len)
		return 3;
	len += sizeof(head);
	if (xsplice(self->p[0], NULL, self->sv[0], NULL, len, 0) != len)
		return 4;
	return 0;
}

/* Returns how many bytes of the file a packet changes. */
static ssize_t changed_bytes(struct __test_metadata *_metadata,
			     struct _test_data_dirty_frag *self, int value,
			     int ignore)
{
	ssize_t i, changed = 0;
	char buf[4096];
	int status;
	pid_t pid;

	set_value(_metadata, value);
	ASSERT_EQ(0, ioctl(self->switches, SPLICE_TEST_FRAGS, ignore));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(send_packet(self));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) {
		TH_LOG("the sender failed at step %d", WEXITSTATUS(status));
	}
	ASSERT_EQ(4096, pread(self->root, buf, sizeof(buf), 0));
	for (i = 0; i < 4096; i++)
		changed += buf[i] != pattern_byte(DATA, i);
	return changed;
}

/* A decrypted byte has its old value in about 1 of 256 cases. */
static void expect_decrypted(struct __test_metadata *_metadata, ssize_t n)
{
	EXPECT_LT(SOME - 50, n);
	EXPECT_GE(SOME, n);
}

/* The control. */
TEST_F(dirty_frag, no_defence)
{
	ssize_t n = changed_bytes(_metadata, self, 2, PAGES);

	expect_decrypted(_metadata, n);
}

TEST_F(dirty_frag, audited)
{
	EXPECT_EQ(0, changed_bytes(_metadata, self, 1, PAGES));
}

TEST_F(dirty_frag, none)
{
	EXPECT_EQ(0, changed_bytes(_metadata, self, 0, PAGES));
}

/* The second line: the mark is lost, but ESP looks at the pages. */
TEST_F(dirty_frag, pages)
{
	EXPECT_EQ(0, changed_bytes(_metadata, self, 2, MARKS));
}

TEST_F(dirty_frag, marks)
{
	EXPECT_EQ(0, changed_bytes(_metadata, self, 2, NOTHING));
}

TEST_HARNESS_MAIN
