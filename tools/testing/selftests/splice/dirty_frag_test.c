// SPDX-License-Identifier: GPL-2.0
/*
 * A packet whose data was spliced from a file refers to the page cache of that
 * file. If the receiver changes the packet where it is, the file changes,
 * although the sender can only read it. ESP decrypts a packet in place if nobody
 * else can see its memory.
 *
 * A task without privileges sends such packets over UDP and over TCP.
 * CONFIG_SPLICE_TEST_SINKS lets the test take the defences away that the
 * receiver has: in ESP the mark of shared frags, and the look at the pages.
 * Without them, and with the value 2 of fs.splice_zerocopy, the file must change:
 * otherwise the test would prove nothing.
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

/* A file that only root may write. Nobody has it open for writing. */
struct victim {
	int before;		/* fs.splice_zerocopy */
	int switches;
	char path[PATH_MAX];
	int file;		/* open for reading */
	ssize_t changed;	/* the counter of fs.splice_check */
};

FIXTURE(dirty_frag) {
	struct victim victim;
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

/* Adds the state that decrypts what arrives in packets of @encap_type. */
static ssize_t add_state(int fd, int family, int encap_type, __be16 port)
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
		.encap_type = encap_type,
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
	snprintf(aead->alg_name, sizeof(aead->alg_name), "rfc4106(gcm(aes))");
	aead->alg_key_len = 20 * 8;
	aead->alg_icv_len = TAG * 8;
	memcpy(aead->alg_key, "0123456789abcdefsalt", 20);
	add_attribute(&msg.nlh, XFRMA_ALG_AEAD, buf, sizeof(buf));
	add_attribute(&msg.nlh, XFRMA_ENCAP, &encap, sizeof(encap));
	return netlink_call(fd, &msg.nlh);
}

/* Returns the reason why there is no file, or NULL. */
static const char *make_victim(struct __test_metadata *_metadata,
			       struct victim *v)
{
	int fd;

	v->before = read_value();
	if (v->before < 0)
		return "the kernel has no fs.splice_zerocopy";
	if (!have_node(NODE, MODULE))
		return "the kernel has no module " MODULE;
	if (end_missing(END_TMPFS))
		return end_missing(END_TMPFS);
	v->switches = open_node(_metadata, NODE, O_WRONLY);
	snprintf(v->path, sizeof(v->path), "%s/victim.%d",
		 end_dir(_metadata, END_TMPFS), getpid());
	fd = open(v->path, O_RDWR | O_CREAT | O_EXCL, 0444);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4096, write_pattern(fd, 4096, DATA, 0));
	close(fd);
	v->file = open(v->path, O_RDONLY);
	ASSERT_LE(0, v->file);
	return NULL;
}

static void remove_victim(struct __test_metadata *_metadata, struct victim *v)
{
	if (!v->path[0])
		return;
	ioctl(v->switches, SPLICE_TEST_FRAGS, NOTHING);
	set_value(_metadata, v->before);
	write_text(SPLICE_CHECK, "0");
	unlink(v->path);
}

/* Turns the check on. Returns false if the kernel has none. */
static bool start_check(struct victim *v)
{
	if (write_text(SPLICE_CHECK, "1") != 1)
		return false;
	v->changed = read_counter("check.changed");
	return true;
}

/* Returns how many pages the check finds to be changed within a second. */
static ssize_t found_by_check(const struct victim *v)
{
	usleep(1000 * 1000);
	return read_counter("check.changed") - v->changed;
}

/* Prepares a task without privileges to send. Returns 0 in it. */
static pid_t fork_sender(struct __test_metadata *_metadata,
			 const struct victim *v, int value, int ignore)
{
	set_value(_metadata, value);
	ASSERT_EQ(0, ioctl(v->switches, SPLICE_TEST_FRAGS, ignore));
	return fork_nobody(_metadata);
}

static void expect_sent(struct __test_metadata *_metadata, pid_t pid)
{
	int status;

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status) {
		TH_LOG("the sender failed at step %d", WEXITSTATUS(status));
	}
}

/* Returns how many bytes of the file are not what they were. */
static ssize_t differences(struct __test_metadata *_metadata,
			   const struct victim *v)
{
	ssize_t i, changed = 0;
	char buf[4096];

	ASSERT_EQ(4096, pread(v->file, buf, sizeof(buf), 0));
	for (i = 0; i < 4096; i++)
		changed += buf[i] != pattern_byte(DATA, i);
	return changed;
}

FIXTURE_SETUP(dirty_frag)
{
	struct sockaddr_in6 *in6 = (void *)&self->addr;
	struct sockaddr_in *in = (void *)&self->addr;
	const char *missing = make_victim(_metadata, &self->victim);
	int encap = UDP_ENCAP_ESPINUDP, i;

	if (missing)
		SKIP(return, "%s", missing);
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
	ASSERT_EQ(0, add_state(self->netlink, variant->family,
			       UDP_ENCAP_ESPINUDP, in->sin_port));
	make_pipe(_metadata, self->p);
}

FIXTURE_TEARDOWN(dirty_frag)
{
	remove_victim(_metadata, &self->victim);
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

	if (xwrite(self->p[1], &head, sizeof(head)) != sizeof(head))
		return 2;
	if (xsplice(self->victim.file, &pos, self->p[1], NULL, len, 0) != len)
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
	pid_t pid = fork_sender(_metadata, &self->victim, value, ignore);

	if (!pid)
		_exit(send_packet(self));
	expect_sent(_metadata, pid);
	return differences(_metadata, &self->victim);
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

/* The check finds the change. */
TEST_F(dirty_frag, check)
{
	if (!start_check(&self->victim))
		SKIP(return, "the kernel has no fs.splice_check");
	expect_decrypted(_metadata, changed_bytes(_metadata, self, 2, PAGES));
	EXPECT_EQ(1, found_by_check(&self->victim));
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

/*
 * The same over TCP, which is audited: with the value 1 it gets references. Then
 * the defences of the receiver are all that there is. The check finds what passes
 * them, and the value 0 needs none.
 */
enum receiver {
	ESPINTCP,
	KTLS,
};

FIXTURE(behind_tcp) {
	struct victim victim;
	int netlink;
	int sv[2];
};

FIXTURE_VARIANT(behind_tcp) {
	enum receiver receiver;
	int family;
};

FIXTURE_VARIANT_ADD(behind_tcp, espintcp) {
	.receiver = ESPINTCP, .family = AF_INET,
};

FIXTURE_VARIANT_ADD(behind_tcp, espintcp6) {
	.receiver = ESPINTCP, .family = AF_INET6,
};

FIXTURE_VARIANT_ADD(behind_tcp, ktls) {
	.receiver = KTLS, .family = AF_INET,
};

FIXTURE_SETUP(behind_tcp)
{
	const char *missing = make_victim(_metadata, &self->victim);

	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(0, unshare(CLONE_NEWNET));
	/*
	 * ESP in TCP over IPv4 looks up the route of a packet again. A packet that
	 * arrives is not expected to be from and for a loopback address.
	 */
	ASSERT_EQ(1, write_text("/proc/sys/net/ipv4/conf/all/route_localnet",
				"1"));
	ASSERT_EQ(1, write_text("/proc/sys/net/ipv4/conf/all/accept_local",
				"1"));
	ASSERT_TRUE(connect_pair(_metadata, variant->family, 0, self->sv));
	if (variant->receiver == KTLS) {
		set_tls(_metadata, self->sv[1], TLS_RX);
		return;
	}
	self->netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_XFRM);
	if (self->netlink < 0)
		SKIP(return, "the kernel has no CONFIG_XFRM_USER");
	ASSERT_EQ(0, add_state(self->netlink, variant->family,
			       TCP_ENCAP_ESPINTCP, 0));
	if (setsockopt(self->sv[1], SOL_TCP, TCP_ULP, "espintcp", 8))
		SKIP(return, "the kernel has no CONFIG_INET_ESPINTCP");
}

FIXTURE_TEARDOWN(behind_tcp)
{
	remove_victim(_metadata, &self->victim);
}

/* The heads of messages, without gaps. */
#pragma pack(push, 1)
struct esp_head {
	__be16 len;
	__be32 spi;
	__be32 seq;
	char iv[8];
};

struct tls_head {
	char type;
	__be16 version;
	__be16 len;
	char iv[8];
};

#pragma pack(pop)

/* Sends a message whose encrypted part is the beginning of the file. */
static int send_message(const struct _test_data_behind_tcp *self,
			enum receiver receiver)
{
	struct esp_head esp = {
		.len = htons(sizeof(esp) + SOME + TAG),
		.spi = htonl(SPI),
		.seq = htonl(1),
	};
	struct tls_head tls = {
		.type = 23,
		.version = htons(0x0303),
		.len = htons(sizeof(tls.iv) + SOME + TAG),
	};
	ssize_t len = receiver == KTLS ? sizeof(tls) : sizeof(esp);
	const void *head = receiver == KTLS ? (void *)&tls : (void *)&esp;
	loff_t pos = 0;

	if (send(self->sv[0], head, len, MSG_MORE) != len)
		return 2;
	len = SOME + TAG;
	if (xsendfile(self->sv[0], self->victim.file, &pos, len) != len)
		return 3;
	return 0;
}

/* Returns how many bytes of the file a message changes. */
static ssize_t bytes_by_message(struct __test_metadata *_metadata,
				struct _test_data_behind_tcp *self,
				enum receiver receiver, int value, int ignore)
{
	pid_t pid = fork_sender(_metadata, &self->victim, value, ignore);
	char buf[SOME];

	if (!pid)
		_exit(send_message(self, receiver));
	expect_sent(_metadata, pid);
	/* The tag is wrong, which AES-GCM notices after it decrypted. */
	if (receiver != KTLS)
		usleep(200 * 1000);
	else
		EXPECT_EQ(-EBADMSG, xread(self->sv[1], buf, sizeof(buf)));
	return differences(_metadata, &self->victim);
}

#define CHANGED(_value, _ignore)					\
	bytes_by_message(_metadata, self, variant->receiver, _value, _ignore)

/* The control. */
TEST_F(behind_tcp, no_defence)
{
	expect_decrypted(_metadata, CHANGED(2, PAGES));
}

/* TCP is audited. The check finds the receiver for which that was wrong. */
TEST_F(behind_tcp, audited)
{
	bool check = start_check(&self->victim);

	expect_decrypted(_metadata, CHANGED(1, PAGES));
	if (check)
		EXPECT_EQ(1, found_by_check(&self->victim));
}

TEST_F(behind_tcp, none)
{
	EXPECT_EQ(0, CHANGED(0, PAGES));
}

/* ESP sees the clone that TCP has, and then the pages. kTLS never writes to them. */
TEST_F(behind_tcp, marks_are_lost)
{
	EXPECT_EQ(0, CHANGED(2, MARKS));
}

TEST_F(behind_tcp, defended)
{
	EXPECT_EQ(0, CHANGED(1, NOTHING));
}

TEST_HARNESS_MAIN
