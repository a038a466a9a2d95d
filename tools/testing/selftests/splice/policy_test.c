// SPDX-License-Identifier: GPL-2.0
/*
 * fs.splice_zerocopy: which consumers of a pipe are handed pages that others can
 * see, and which get copies.
 *
 * A task without privileges moves data of a file that it can only read, in each
 * way that there is, to consumers that invert what they are given. The test
 * looks at the file afterwards. With the value 2 the file must have changed:
 * otherwise the test would prove nothing for the other values.
 */
#include "device_common.h"
#include "policy_common.h"
#include "splice_notify.h"

#include <linux/if_alg.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Two pages, the second one partly filled. */
#define SOME 5000

#define DATA 1

enum sink {
	WRITE_ITER,
	ACTOR,
	OWN,
	LIAR,
	SENDMSG,
};

static const char *const nodes[] = {
	[WRITE_ITER] = "splice_test_write_iter",
	[ACTOR] = "splice_test_actor",
	[OWN] = "splice_test_own",
	[LIAR] = "splice_test_liar",
	[SENDMSG] = "splice_test_own",
};

FIXTURE(sink) {
	int before;		/* the value of the sysctl */
	int root;		/* a file that only root may write */
	int file;		/* the same file, open for reading */
	int out;		/* the consumer */
	int node;		/* a device for ioctls */
	int p[2];
	ssize_t page;
};

FIXTURE_VARIANT(sink) {
	enum sink sink;
	int value;
};

FIXTURE_VARIANT_ADD(sink, write_iter_0) {
	.sink = WRITE_ITER, .value = 0,
};

FIXTURE_VARIANT_ADD(sink, write_iter_1) {
	.sink = WRITE_ITER, .value = 1,
};

FIXTURE_VARIANT_ADD(sink, write_iter_2) {
	.sink = WRITE_ITER, .value = 2,
};

FIXTURE_VARIANT_ADD(sink, actor_0) {
	.sink = ACTOR, .value = 0,
};

FIXTURE_VARIANT_ADD(sink, actor_1) {
	.sink = ACTOR, .value = 1,
};

FIXTURE_VARIANT_ADD(sink, actor_2) {
	.sink = ACTOR, .value = 2,
};

FIXTURE_VARIANT_ADD(sink, own_0) {
	.sink = OWN, .value = 0,
};

FIXTURE_VARIANT_ADD(sink, own_1) {
	.sink = OWN, .value = 1,
};

FIXTURE_VARIANT_ADD(sink, own_2) {
	.sink = OWN, .value = 2,
};

FIXTURE_VARIANT_ADD(sink, liar_0) {
	.sink = LIAR, .value = 0,
};

FIXTURE_VARIANT_ADD(sink, liar_1) {
	.sink = LIAR, .value = 1,
};

FIXTURE_VARIANT_ADD(sink, liar_2) {
	.sink = LIAR, .value = 2,
};

FIXTURE_VARIANT_ADD(sink, sendmsg_0) {
	.sink = SENDMSG, .value = 0,
};

FIXTURE_VARIANT_ADD(sink, sendmsg_1) {
	.sink = SENDMSG, .value = 1,
};

FIXTURE_VARIANT_ADD(sink, sendmsg_2) {
	.sink = SENDMSG, .value = 2,
};

FIXTURE_SETUP(sink)
{
	int sv[2];

	self->before = read_value();
	if (self->before < 0)
		SKIP(return, "the kernel has no fs.splice_zerocopy");
	if (!have_node(nodes[variant->sink], MODULE))
		SKIP(return, "the kernel has no module " MODULE);
	self->page = page_size();
	self->root = make_memfd(_metadata, 4 * self->page, DATA);
	ASSERT_EQ(0, fchmod(self->root, 0444));
	self->file = reopen(_metadata, self->root, O_RDONLY);
	self->out = open_node(_metadata, nodes[variant->sink], O_WRONLY);
	self->node = self->out;
	if (variant->sink == SENDMSG) {
		make_unix_pair(_metadata, sv);
		ASSERT_EQ(0, ioctl(self->out, SPLICE_TEST_SOCKET, sv[0]));
		self->out = sv[0];
	}
	ioctl(self->node, SPLICE_TEST_PROTECTED);
	make_pipe(_metadata, self->p);
	set_value(_metadata, variant->value);
}

FIXTURE_TEARDOWN(sink)
{
	set_value(_metadata, self->before);
}

/* Whether the policy lets the consumer have the pages. */
static bool gets_pages(enum sink sink, int value)
{
	return value == 2 || (value == 1 && sink == LIAR);
}

/* Expects that the task moved what it should. */
static void expect_moved(struct __test_metadata *_metadata, pid_t pid)
{
	int status;

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status)) {
		TH_LOG("the task failed at step %d", WEXITSTATUS(status));
	}
}

/* Moves @len bytes from the pipe to the consumer. */
static void drain(const struct _test_data_sink *self, ssize_t len)
{
	while (len > 0) {
		ssize_t n = xsplice(self->p[0], NULL, self->out, NULL, len, 0);

		if (n <= 0)
			_exit(99);
		len -= n;
	}
	_exit(0);
}

/* Expects that @len bytes from @pos on are changed or not, as the policy says. */
static void expect_file_bytes(struct __test_metadata *_metadata,
			      const struct _test_data_sink *self, enum sink sink,
			      int value, loff_t pos, ssize_t len)
{
	char buf[4 * 4096];
	ssize_t i, changed = 0;

	ASSERT_EQ(len, pread(self->root, buf, len, pos));
	for (i = 0; i < len; i++)
		changed += buf[i] != pattern_byte(DATA, pos + i);
	EXPECT_EQ(gets_pages(sink, value) ? len : 0, changed) {
		TH_LOG("value %d: %zd of %zd bytes of the file changed", value,
		       changed, len);
	}
}

#define EXPECT_POLICY(_pos, _len)					\
	expect_file_bytes(_metadata, self, variant->sink, variant->value, \
			  _pos, _len)

TEST_F(sink, splice)
{
	loff_t pos = 10;
	pid_t pid;

	pid = fork_nobody(_metadata);
	if (!pid) {
		if (xsplice(self->file, &pos, self->p[1], NULL, SOME, 0) != SOME)
			_exit(1);
		drain(self, SOME);
	}
	expect_moved(_metadata, pid);
	EXPECT_POLICY(10, SOME);
}

TEST_F(sink, sendfile)
{
	loff_t pos = 10;
	pid_t pid;

	pid = fork_nobody(_metadata);
	if (!pid)
		_exit(xsendfile(self->out, self->file, &pos, SOME) != SOME);
	expect_moved(_metadata, pid);
	EXPECT_POLICY(10, SOME);
}

TEST_F(sink, tee)
{
	loff_t pos = 0;
	int q[2];
	pid_t pid;

	make_pipe(_metadata, q);
	pid = fork_nobody(_metadata);
	if (!pid) {
		if (xsplice(self->file, &pos, q[1], NULL, SOME, 0) != SOME)
			_exit(1);
		if (xtee(q[0], self->p[1], SOME, 0) != SOME)
			_exit(2);
		drain(self, SOME);
	}
	expect_moved(_metadata, pid);
	EXPECT_POLICY(0, SOME);
}

/* Memory of a mapping that cannot be written to. */
static void vmsplice_mapping(const struct _test_data_sink *self, int flags)
{
	char *mem = mmap(NULL, 2 * self->page, PROT_READ, flags, self->file, 0);

	if (mem == MAP_FAILED)
		_exit(1);
	if (xvmsplice1(self->p[1], mem + 10, SOME, 0) != SOME)
		_exit(2);
	drain(self, SOME);
}

TEST_F(sink, vmsplice_shared)
{
	pid_t pid;

	pid = fork_nobody(_metadata);
	if (!pid)
		vmsplice_mapping(self, MAP_SHARED);
	expect_moved(_metadata, pid);
	EXPECT_POLICY(10, SOME);
}

TEST_F(sink, vmsplice_private)
{
	pid_t pid;

	pid = fork_nobody(_metadata);
	if (!pid)
		vmsplice_mapping(self, MAP_PRIVATE);
	expect_moved(_metadata, pid);
	EXPECT_POLICY(10, SOME);
}

/* The pages arrive as those of a socket. */
static void through_socket(const struct _test_data_sink *self, const int sv[2])
{
	loff_t pos = 0;
	ssize_t n, len;

	if (xsendfile(sv[0], self->file, &pos, SOME) != SOME)
		_exit(1);
	for (len = 0; len < SOME; len += n) {
		n = xsplice(sv[1], NULL, self->p[1], NULL, SOME - len, 0);
		if (n <= 0)
			_exit(2);
	}
	drain(self, SOME);
}

TEST_F(sink, tcp)
{
	int sv[2];
	pid_t pid;

	make_tcp_pair(_metadata, sv);
	pid = fork_nobody(_metadata);
	if (!pid)
		through_socket(self, sv);
	expect_moved(_metadata, pid);
	EXPECT_POLICY(0, SOME);
}

TEST_F(sink, unix_stream)
{
	int sv[2];
	pid_t pid;

	make_unix_pair(_metadata, sv);
	pid = fork_nobody(_metadata);
	if (!pid)
		through_socket(self, sv);
	expect_moved(_metadata, pid);
	EXPECT_POLICY(0, SOME);
}

/*
 * Whether the consumer could change the bytes. The kernel may protect a page
 * from itself: then the consumer counts what it would have changed.
 */
static bool could_change(const void *before, const void *after, ssize_t len,
			 ssize_t protected)
{
	return memcmp(before, after, len) || protected == len;
}

/*
 * The zero page, which is that of all holes and of memory that nobody has
 * written to. The test inverts a few bytes, and inverts them again right away.
 */
TEST_F(sink, hole)
{
	char before[16] = {}, buf[16], again[16];
	int hole, file, i;
	ssize_t kept = 0;

	hole = memfd_create("hole", 0);
	ASSERT_LE(0, hole);
	ASSERT_EQ(0, ftruncate(hole, self->page));
	ASSERT_EQ(0, fchmod(hole, 0444));
	file = reopen(_metadata, hole, O_RDONLY);
	for (i = 0; i < 2; i++) {
		loff_t pos = 4000;
		pid_t pid = fork_nobody(_metadata);

		if (!pid) {
			if (xsplice(file, &pos, self->p[1], NULL, sizeof(buf),
				    0) != sizeof(buf))
				_exit(1);
			drain(self, sizeof(buf));
		}
		expect_moved(_metadata, pid);
		ASSERT_EQ((ssize_t)sizeof(buf),
			  pread(hole, i ? again : buf, sizeof(buf), 4000));
		if (!i)
			kept = ioctl(self->node, SPLICE_TEST_PROTECTED);
	}
	EXPECT_EQ(gets_pages(variant->sink, variant->value),
		  could_change(before, buf, sizeof(before), kept));
	EXPECT_EQ((ssize_t)sizeof(buf), match_byte(again, sizeof(buf), 0));
}

/* The last bytes of the vDSO, which all processes share and nobody can write. */
TEST_F(sink, vdso)
{
	char *vdso = (char *)getauxval(AT_SYSINFO_EHDR);
	char before[16], after[16], again[16], *last;
	ssize_t kept = 0;
	int i;

	ASSERT_NE(NULL, vdso);
	last = vdso + self->page - sizeof(before);
	/* Behind the section headers, in the padding of the last page. */
	while (!mincore(last + sizeof(before), self->page, (void *)after))
		last += self->page;
	memcpy(before, last, sizeof(before));
	for (i = 0; i < 2; i++) {
		pid_t pid = fork_nobody(_metadata);

		if (!pid) {
			if (xvmsplice1(self->p[1], last, sizeof(before), 0) !=
			    sizeof(before))
				_exit(1);
			drain(self, sizeof(before));
		}
		expect_moved(_metadata, pid);
		memcpy(i ? again : after, last, sizeof(before));
		if (!i)
			kept = ioctl(self->node, SPLICE_TEST_PROTECTED);
	}
	EXPECT_EQ(gets_pages(variant->sink, variant->value),
		  could_change(before, after, sizeof(before), kept));
	EXPECT_EQ(0, memcmp(before, again, sizeof(before)));
}

static ssize_t copies(void)
{
	return read_counter("bytes.policy.file.unaudited") +
	       read_counter("bytes.policy.file.setting") +
	       read_counter("bytes.policy.socket.unaudited") +
	       read_counter("bytes.policy.socket.setting");
}

/*
 * Pages that nobody else can see are not copied, unless the consumer takes the
 * buffers itself and so gets a pipe of its own.
 */
TEST_F(sink, private)
{
	bool own = variant->sink == OWN || variant->sink == ACTOR;
	ssize_t before = copies();

	ASSERT_EQ(SOME, write_pattern(self->p[1], SOME, DATA, 0));
	ASSERT_EQ(SOME, splice_full(self->p[0], self->out, SOME));
	EXPECT_EQ(own && variant->value < 2 ? SOME : 0, copies() - before);
}

/* An actor of a module for splice_direct_to_actor(). */
FIXTURE(direct) {
	int before;
	int out;
};

FIXTURE_VARIANT(direct) {
	int value;
};

FIXTURE_VARIANT_ADD(direct, none) {
	.value = 0,
};

FIXTURE_VARIANT_ADD(direct, audited) {
	.value = 1,
};

FIXTURE_VARIANT_ADD(direct, all) {
	.value = 2,
};

FIXTURE_SETUP(direct)
{
	self->before = read_value();
	if (self->before < 0)
		SKIP(return, "the kernel has no fs.splice_zerocopy");
	if (!have_node(nodes[OWN], MODULE))
		SKIP(return, "the kernel has no module " MODULE);
	self->out = open_node(_metadata, nodes[OWN], O_WRONLY);
	set_value(_metadata, variant->value);
}

FIXTURE_TEARDOWN(direct)
{
	set_value(_metadata, self->before);
}

TEST_F(direct, file)
{
	ssize_t page = page_size(), i, changed = 0;
	int fd = make_memfd(_metadata, 2 * page, DATA);
	char *buf = malloc(page);

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(page, ioctl(self->out, SPLICE_TEST_DIRECT, fd));
	ASSERT_EQ(page, pread(fd, buf, page, 0));
	for (i = 0; i < page; i++)
		changed += buf[i] != pattern_byte(DATA, i);
	EXPECT_EQ(variant->value == 2 ? page : 0, changed);
	free(buf);
}

enum protocol {
	TCP,
	TCP6,
	UNIX_STREAM,
	KTLS,
	UDP,
	RAW,
	UNIX_DGRAM,
	UNIX_SEQPACKET,
	ALG,
	VSOCK,
	MPTCP,
};

FIXTURE(protocol) {
	int before;
	int sv[2];
	int p[2];
	char *mem;
};

FIXTURE_VARIANT(protocol) {
	enum protocol protocol;
	bool audited;
};

FIXTURE_VARIANT_ADD(protocol, tcp) {
	.protocol = TCP, .audited = true,
};

FIXTURE_VARIANT_ADD(protocol, tcp6) {
	.protocol = TCP6, .audited = true,
};

FIXTURE_VARIANT_ADD(protocol, unix_stream) {
	.protocol = UNIX_STREAM, .audited = true,
};

FIXTURE_VARIANT_ADD(protocol, ktls) {
	.protocol = KTLS, .audited = true,
};

FIXTURE_VARIANT_ADD(protocol, udp) {
	.protocol = UDP, .audited = false,
};

FIXTURE_VARIANT_ADD(protocol, raw) {
	.protocol = RAW, .audited = false,
};

FIXTURE_VARIANT_ADD(protocol, unix_dgram) {
	.protocol = UNIX_DGRAM, .audited = false,
};

FIXTURE_VARIANT_ADD(protocol, unix_seqpacket) {
	.protocol = UNIX_SEQPACKET, .audited = false,
};

FIXTURE_VARIANT_ADD(protocol, alg) {
	.protocol = ALG, .audited = false,
};

FIXTURE_VARIANT_ADD(protocol, vsock) {
	.protocol = VSOCK, .audited = false,
};

FIXTURE_VARIANT_ADD(protocol, mptcp) {
	.protocol = MPTCP, .audited = false,
};

/* A cipher that AF_ALG encrypts with. */
static bool make_alg(struct __test_metadata *_metadata, int sv[2])
{
	struct sockaddr_alg addr = {
		.salg_family = AF_ALG,
		.salg_type = "skcipher",
		.salg_name = "ctr(aes)",
	};
	int fd;

	fd = socket(AF_ALG, SOCK_SEQPACKET, 0);
	if (fd < 0)
		return false;
	ASSERT_EQ(0, bind(fd, (void *)&addr, sizeof(addr)));
	ASSERT_EQ(0, setsockopt(fd, SOL_ALG, ALG_SET_KEY, "0123456789abcdef",
				16));
	sv[0] = accept(fd, NULL, NULL);
	ASSERT_LE(0, sv[0]);
	sv[1] = dup(sv[0]);
	close(fd);
	return true;
}

/* Begins an operation of the cipher; the data follows. */
static void begin_alg(struct __test_metadata *_metadata, int fd)
{
	char control[CMSG_SPACE(4) + CMSG_SPACE(sizeof(struct af_alg_iv) + 16)] = {};
	struct msghdr msg = {
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	struct af_alg_iv *iv;

	cmsg->cmsg_level = SOL_ALG;
	cmsg->cmsg_type = ALG_SET_OP;
	cmsg->cmsg_len = CMSG_LEN(4);
	*(__u32 *)CMSG_DATA(cmsg) = ALG_OP_ENCRYPT;
	cmsg = CMSG_NXTHDR(&msg, cmsg);
	cmsg->cmsg_level = SOL_ALG;
	cmsg->cmsg_type = ALG_SET_IV;
	cmsg->cmsg_len = CMSG_LEN(sizeof(*iv) + 16);
	iv = (void *)CMSG_DATA(cmsg);
	iv->ivlen = 16;
	ASSERT_EQ(0, sendmsg(fd, &msg, MSG_MORE));
}

FIXTURE_SETUP(protocol)
{
	bool there = true;

	self->before = read_value();
	if (self->before < 0)
		SKIP(return, "the kernel has no fs.splice_zerocopy");
	switch (variant->protocol) {
	case TCP:
	case KTLS:
		make_tcp_pair(_metadata, self->sv);
		if (variant->protocol == KTLS)
			start_tls(_metadata, self->sv);
		break;
	case TCP6:
		there = connect_pair(_metadata, AF_INET6, 0, self->sv);
		break;
	case UNIX_STREAM:
		make_unix_pair(_metadata, self->sv);
		break;
	case UDP:
		make_datagram_pair(_metadata, SOCK_DGRAM, 0, self->sv);
		break;
	case RAW:
		make_datagram_pair(_metadata, SOCK_RAW, 253, self->sv);
		break;
	case UNIX_DGRAM:
	case UNIX_SEQPACKET:
		ASSERT_EQ(0, socketpair(AF_UNIX, variant->protocol == UNIX_DGRAM ?
					SOCK_DGRAM : SOCK_SEQPACKET, 0,
					self->sv));
		break;
	case ALG:
		there = make_alg(_metadata, self->sv);
		break;
	case VSOCK:
		there = connect_pair(_metadata, AF_VSOCK, 0, self->sv);
		break;
	case MPTCP:
		there = connect_pair(_metadata, AF_INET, IPPROTO_MPTCP,
				     self->sv);
		break;
	}
	if (!there)
		SKIP(return, "the kernel does not have this protocol");
	make_pipe(_metadata, self->p);
	self->mem = alloc_pattern(_metadata, 16 * page_size(), DATA);
}

FIXTURE_TEARDOWN(protocol)
{
	set_value(_metadata, self->before);
}

/* The bytes that sockets got as copies because of the policy. */
static ssize_t socket_copies(int value)
{
	return read_counter(value ? "bytes.policy.socket.unaudited" :
			    "bytes.policy.socket.setting");
}

/*
 * Sends 16 short buffers of user memory, which make one message, and then data
 * of the page cache.
 */
static void send_both(struct __test_metadata *_metadata,
		      struct _test_data_protocol *self, enum protocol protocol,
		      int value, ssize_t copied)
{
	ssize_t before, len = 16 * 10, head = protocol == RAW ? 20 : 0;
	char buf[SOME + 100];
	int i, file;
	loff_t pos = 0;

	set_value(_metadata, value);
	for (i = 0; i < 16; i++)
		ASSERT_EQ(10, xvmsplice1(self->p[1], self->mem + 10 * i, 10, 0));
	before = socket_copies(value);
	if (protocol == ALG)
		begin_alg(_metadata, self->sv[0]);
	ASSERT_EQ(len, xsplice(self->p[0], NULL, self->sv[0], NULL, len, 0));
	EXPECT_EQ(before + (copied ? len : 0), socket_copies(value));
	/* What is encrypted is not of interest here. */
	if (protocol == ALG)
		return;
	/* One message. */
	ASSERT_EQ(len + head, xread(self->sv[1], buf, sizeof(buf)));
	EXPECT_EQ(len, match_pattern(buf + head, len, DATA, 0));

	file = make_memfd(_metadata, 2 * page_size(), DATA);
	before = read_counter("bytes.policy.source.setting");
	ASSERT_EQ(SOME, xsplice(file, &pos, self->p[1], NULL, SOME, 0));
	/* With the value 0 it is copied here, and so private afterwards. */
	EXPECT_EQ(before + (value ? 0 : SOME),
		  read_counter("bytes.policy.source.setting"));
	before = socket_copies(value);
	ASSERT_EQ(SOME, xsplice(self->p[0], NULL, self->sv[0], NULL, SOME, 0));
	EXPECT_EQ(before + (copied && value ? SOME : 0), socket_copies(value));
	if (protocol == TCP || protocol == TCP6 || protocol == KTLS ||
	    protocol == UNIX_STREAM || protocol == VSOCK || protocol == MPTCP)
		len = read_full(self->sv[1], buf, SOME);
	else
		len = xread(self->sv[1], buf, sizeof(buf));
	ASSERT_EQ(SOME + head, len);
	EXPECT_EQ(SOME, match_pattern(buf + head, SOME, DATA, 0));
	close(file);
}

TEST_F(protocol, all)
{
	ssize_t before = socket_copies(1) + socket_copies(0);

	send_both(_metadata, self, variant->protocol, 2, 0);
	EXPECT_EQ(before, socket_copies(1) + socket_copies(0));
}

TEST_F(protocol, audited)
{
	send_both(_metadata, self, variant->protocol, 1, !variant->audited);
}

TEST_F(protocol, none)
{
	send_both(_metadata, self, variant->protocol, 0, 1);
}

/* Files that nobody has open for writing, and the check. */
FIXTURE(check) {
	int before;		/* the value of fs.splice_zerocopy */
	char path[PATH_MAX];
	int file;		/* open for reading */
	int out;		/* claims to be audited, and writes */
	int null;
	int p[2];
	ssize_t pages;
	ssize_t changed;
};

FIXTURE_VARIANT(check) {
	enum end_kind kind;
};

FIXTURE_VARIANT_ADD(check, ext4) {
	.kind = END_EXT4,
};

FIXTURE_VARIANT_ADD(check, tmpfs) {
	.kind = END_TMPFS,
};

FIXTURE_SETUP(check)
{
	const char *missing = end_missing(variant->kind);
	int fd;

	self->before = read_value();
	if (access(SPLICE_CHECK, F_OK))
		SKIP(return, "the kernel has no fs.splice_check");
	if (missing)
		SKIP(return, "%s is not set", missing);
	if (!have_node(nodes[LIAR], MODULE))
		SKIP(return, "the kernel has no module " MODULE);
	self->out = open_node(_metadata, nodes[LIAR], O_WRONLY);
	self->null = open("/dev/null", O_WRONLY);
	ASSERT_LE(0, self->null);
	snprintf(self->path, sizeof(self->path), "%s/checked.%d",
		 end_dir(_metadata, variant->kind), getpid());
	fd = open(self->path, O_RDWR | O_CREAT | O_EXCL, 0444);
	ASSERT_LE(0, fd);
	ASSERT_EQ(3 * page_size(), write_pattern(fd, 3 * page_size(), DATA, 0));
	ASSERT_EQ(0, fsync(fd));
	close(fd);
	self->file = open(self->path, O_RDONLY);
	ASSERT_LE(0, self->file);
	make_pipe(_metadata, self->p);
	set_value(_metadata, 1);
	ASSERT_EQ(1, write_text(SPLICE_CHECK, "1"));
	self->pages = read_counter("check.pages");
	self->changed = read_counter("check.changed");
}

FIXTURE_TEARDOWN(check)
{
	ASSERT_EQ(1, write_text(SPLICE_CHECK, "0"));
	set_value(_metadata, self->before);
	unlink(self->path);
}

/* Passes two pages of the file to @out. */
static void pass_pages(struct __test_metadata *_metadata,
		       const struct _test_data_check *self, int out)
{
	ssize_t len = 2 * page_size();
	loff_t pos = 0;

	ASSERT_EQ(len, xsplice(self->file, &pos, self->p[1], NULL, len, 0));
	ASSERT_EQ(len, splice_full(self->p[0], out, len));
	ASSERT_EQ(self->pages + 2, read_counter("check.pages"));
}

/* Returns how many pages the check has found, after it has looked at all. */
static ssize_t found(const struct _test_data_check *self)
{
	usleep(1000 * 1000);
	return read_counter("check.changed") - self->changed;
}

TEST_F(check, unchanged)
{
	pass_pages(_metadata, self, self->null);
	EXPECT_EQ(0, found(self));
}

/* The control: a consumer that claims to be audited, and writes. */
TEST_F(check, changed)
{
	pass_pages(_metadata, self, self->out);
	EXPECT_EQ(2, found(self));
}

/* With the policy, pages do not reach a consumer that is not audited. */
TEST_F(check, copied)
{
	int out = open_node(_metadata, nodes[WRITE_ITER], O_WRONLY);
	ssize_t len = 2 * page_size();
	loff_t pos = 0;

	ASSERT_EQ(len, xsplice(self->file, &pos, self->p[1], NULL, len, 0));
	ASSERT_EQ(len, splice_full(self->p[0], out, len));
	EXPECT_EQ(self->pages, read_counter("check.pages"));
	EXPECT_EQ(0, found(self));
}

TEST_F(check, pwrite)
{
	int fd;

	pass_pages(_metadata, self, self->null);
	fd = open(self->path, O_WRONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, pwrite(fd, "", 1, 10));
	close(fd);
	EXPECT_EQ(0, found(self));
}

/* tmpfs changes no time stamp for stores through a mapping. */
TEST_F(check, mmap)
{
	char *mem;
	int fd;

	pass_pages(_metadata, self, self->null);
	fd = open(self->path, O_RDWR);
	ASSERT_LE(0, fd);
	mem = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	close(fd);
	mem[10]++;
	munmap(mem, page_size());
	EXPECT_EQ(0, found(self));
}

/* This zeroes the rest of the first page. */
TEST_F(check, truncate)
{
	pass_pages(_metadata, self, self->null);
	ASSERT_EQ(0, truncate(self->path, 10));
	ASSERT_EQ(0, truncate(self->path, 2 * page_size()));
	EXPECT_EQ(0, found(self));
}

TEST_F(check, punch)
{
	int fd;

	pass_pages(_metadata, self, self->null);
	fd = open(self->path, O_WRONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       10, page_size()));
	close(fd);
	EXPECT_EQ(0, found(self));
}

TEST_F(check, direct)
{
	void *mem = aligned_alloc(page_size(), page_size());
	int fd;

	ASSERT_NE(NULL, mem);
	pass_pages(_metadata, self, self->null);
	fd = open(self->path, O_WRONLY | O_DIRECT);
	ASSERT_LE(0, fd);
	memset(mem, 1, page_size());
	ASSERT_EQ(page_size(), pwrite(fd, mem, page_size(), 0));
	close(fd);
	EXPECT_EQ(0, found(self));
}

FIXTURE(policy) {
	int before;
};

FIXTURE_SETUP(policy)
{
	self->before = read_value();
	if (self->before < 0)
		SKIP(return, "the kernel has no fs.splice_zerocopy");
}

FIXTURE_TEARDOWN(policy)
{
	set_value(_metadata, self->before);
}

TEST_F(policy, sysctl)
{
	int value;

	for (value = 0; value <= 2; value++) {
		set_value(_metadata, value);
		EXPECT_EQ(value, read_value());
	}
	EXPECT_EQ(-EINVAL, write_text(ZEROCOPY, "3"));
	EXPECT_EQ(-EINVAL, write_text(ZEROCOPY, "-1"));
	EXPECT_EQ(2, read_value());
}

/* Whether a line of the list of audited consumers is @line. */
static bool is_listed(struct __test_metadata *_metadata, const char *line)
{
	FILE *f = fopen("/sys/kernel/debug/splice/sinks", "r");
	char text[512];
	bool found = false;

	ASSERT_NE(NULL, f);
	while (!found && fgets(text, sizeof(text), f)) {
		text[strcspn(text, "\n")] = 0;
		found = !strcmp(text, line);
	}
	fclose(f);
	return found;
}

TEST_F(policy, sinks)
{
	const char *liar = "file test_write_iter [" MODULE "]";
	int fd;

	ASSERT_TRUE(have_counters());
	EXPECT_TRUE(is_listed(_metadata, "socket tcp_sendmsg"));
	EXPECT_TRUE(is_listed(_metadata, "socket unix_stream_sendmsg"));
	EXPECT_FALSE(is_listed(_metadata, "socket udp_sendmsg"));
	/* These only call the function of the protocol. */
	EXPECT_FALSE(is_listed(_metadata, "socket inet_sendmsg"));

	fd = open("/dev/null", O_WRONLY);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(is_listed(_metadata, "file splice_write_null"));
	close(fd);

	/* A module, while it is loaded. */
	if (module_is_fixed(MODULE))
		return;
	unload_module(MODULE);
	EXPECT_FALSE(is_listed(_metadata, liar));
	ASSERT_TRUE(have_node(nodes[LIAR], MODULE));
	close(open_node(_metadata, nodes[LIAR], O_WRONLY));
	EXPECT_TRUE(is_listed(_metadata, liar));
	ASSERT_EQ(0, unload_module(MODULE));
	EXPECT_FALSE(is_listed(_metadata, liar));
}

/*
 * Data of the page cache that was in the pipe before the value became 0 stays
 * there by reference. Only what a read adds is copied.
 */
TEST_F(policy, old_buffers)
{
	ssize_t page = page_size(), before;
	int p[2], file;
	loff_t pos = 0;

	make_pipe(_metadata, p);
	file = make_memfd(_metadata, 16 * page, DATA);
	set_value(_metadata, 2);
	ASSERT_EQ(4 * page, xsplice(file, &pos, p[1], NULL, 4 * page, 0));
	set_value(_metadata, 0);
	before = read_counter("bytes.policy.source.setting");
	ASSERT_EQ(3 * page - 10,
		  xsplice(file, &pos, p[1], NULL, 3 * page - 10, 0));
	EXPECT_EQ(before + 3 * page - 10,
		  read_counter("bytes.policy.source.setting"));
	/* The rest of the last page, and eight whole pages. */
	ASSERT_EQ(8 * page + 10,
		  xsplice(file, &pos, p[1], NULL, 16 * page, 0));
	EXPECT_EQ(before + 11 * page,
		  read_counter("bytes.policy.source.setting"));
	EXPECT_EQ(-EAGAIN, xsplice(file, &pos, p[1], NULL, page,
				   SPLICE_F_NONBLOCK));
	EXPECT_EQ(15 * page, pipe_bytes(p[0]));
	EXPECT_EQ(15 * page, read_pattern(p[0], 15 * page, DATA, 0));
	close(file);
}

/* The policy is everybody's, so only root of the host may change it. */
TEST_F(policy, unprivileged)
{
	pid_t pid = fork_nobody(_metadata);
	int status;

	if (!pid)
		_exit(write_text(ZEROCOPY, "2") != -EACCES);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* The memory is reported when the copy is made, not when it was received. */
TEST_F(policy, notify)
{
	char *mem = aligned_alloc(page_size(), page_size());
	int sv[2], p[2], value;
	ssize_t len = page_size();

	ASSERT_NE(NULL, mem);
	fill_pattern(mem, len, DATA, 0);
	make_pipe(_metadata, p);
	if (!have_notify(p[1]))
		SKIP(return, "the kernel has no SPLICE_F_NOTIFY");
	make_unix_pair(_metadata, sv);
	for (value = 0; value <= 2; value++) {
		char buf[4096];

		set_value(_metadata, value);
		ASSERT_EQ(len, xnotify(p[1], mem, len));
		ASSERT_EQ(len, splice_full(p[0], sv[0], len));
		EXPECT_EQ(value + 1, released(p[1]));
		ASSERT_EQ(len, read_full(sv[1], buf, len));
		EXPECT_EQ(len, match_pattern(buf, len, DATA, 0));
	}
	free(mem);
}

static bool stop_toggling;

static void *toggle(void *arg)
{
	static const char *const values[] = { "0", "1", "2" };
	long i;

	for (i = 0; !__atomic_load_n(&stop_toggling, __ATOMIC_SEQ_CST); i++)
		write_text(ZEROCOPY, values[i % 3]);
	return (void *)i;
}

/* Data is the same, whatever the value is during a transfer. */
TEST_F(policy, toggle)
{
	ssize_t len = 40000, total = 100;
	pthread_t thread;
	int tcp[2], udp[2], p[2], file;
	char *buf = malloc(len);
	void *times;
	ssize_t i;

	ASSERT_NE(NULL, buf);
	make_tcp_pair(_metadata, tcp);
	make_datagram_pair(_metadata, SOCK_DGRAM, 0, udp);
	make_pipe(_metadata, p);
	file = make_memfd(_metadata, len, DATA);
	ASSERT_EQ(0, pthread_create(&thread, NULL, toggle, NULL));
	for (i = 0; i < total; i++) {
		loff_t pos = 0;

		ASSERT_EQ(len, xsplice(file, &pos, p[1], NULL, len, 0));
		ASSERT_EQ(len, xsplice(p[0], NULL, udp[0], NULL, len, 0));
		ASSERT_EQ(len, xread(udp[1], buf, len));
		ASSERT_EQ(len, match_pattern(buf, len, DATA, 0));
		pos = 0;
		ASSERT_EQ(len, xsendfile(tcp[0], file, &pos, len));
		ASSERT_EQ(len, read_full(tcp[1], buf, len));
		ASSERT_EQ(len, match_pattern(buf, len, DATA, 0));
	}
	__atomic_store_n(&stop_toggling, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(thread, &times));
	EXPECT_LT(3, (long)times);
	free(buf);
}

TEST_HARNESS_MAIN
