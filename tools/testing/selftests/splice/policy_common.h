/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers for the tests of fs.splice_zerocopy. */
#ifndef POLICY_COMMON_H
#define POLICY_COMMON_H

#include "splice_common.h"

#include <linux/tls.h>
#include <linux/vm_sockets.h>

/* The check of audits. */
#define SPLICE_CHECK "/proc/sys/fs/splice_check"

/* The module with consumers that change what they are given. */
#define MODULE "splice_test_sinks"

#define SPLICE_TEST_DIRECT	_IO('S', 1)
#define SPLICE_TEST_SOCKET	_IO('S', 2)
#define SPLICE_TEST_FRAGS	_IO('S', 3)
#define SPLICE_TEST_PROTECTED	_IO('S', 4)

#define NOBODY 65534

#ifndef AF_SMC
#define AF_SMC 43
#endif

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

/* Returns the value of fs.splice_zerocopy, or -1 if the kernel has none. */
static inline int read_value(void)
{
	char text[16];

	return read_text(ZEROCOPY, text, sizeof(text)) > 0 ? atoi(text) : -1;
}

static inline void set_value(struct __test_metadata *_metadata, int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", value);
	ASSERT_EQ((ssize_t)strlen(text), write_text(ZEROCOPY, text));
}

/* Starts a task without privileges. Returns 0 in it, and its PID otherwise. */
static inline pid_t fork_nobody(struct __test_metadata *_metadata)
{
	pid_t pid = fork();

	ASSERT_LE(0, pid);
	if (!pid && (setgid(NOBODY) || setuid(NOBODY)))
		_exit(100);
	return pid;
}

/*
 * Makes a connected pair over a listener on loopback. The listener is of family
 * @listening. Returns false if the kernel does not have a family or the
 * protocol.
 */
static inline bool connect_families(struct __test_metadata *_metadata,
				    int family, int listening, int protocol,
				    int sv[2])
{
	/* SMC has the addresses of TCP. */
	struct sockaddr_storage addr = {
		.ss_family = family == AF_SMC ? AF_INET : family,
	};
	struct sockaddr_in6 *in6 = (void *)&addr;
	struct sockaddr_in *in = (void *)&addr;
	struct sockaddr_vm *vm = (void *)&addr;
	socklen_t len = sizeof(addr);
	int l;

	l = socket(listening, SOCK_STREAM, protocol);
	if (l < 0)
		return false;
	if (addr.ss_family == AF_INET) {
		bring_up_loopback(_metadata, l);
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		len = sizeof(*in);
	} else if (addr.ss_family == AF_INET6) {
		bring_up_loopback(_metadata, l);
		in6->sin6_addr = in6addr_loopback;
		len = sizeof(*in6);
	} else {
		vm->svm_cid = VMADDR_CID_LOCAL;
		vm->svm_port = VMADDR_PORT_ANY;
		len = sizeof(*vm);
	}
	ASSERT_EQ(0, bind(l, (void *)&addr, len));
	ASSERT_EQ(0, listen(l, 1));
	ASSERT_EQ(0, getsockname(l, (void *)&addr, &len));
	if (family == AF_VSOCK)
		vm->svm_cid = VMADDR_CID_LOCAL;
	sv[0] = socket(family, SOCK_STREAM, protocol);
	if (sv[0] < 0) {
		close(l);
		return false;
	}
	ASSERT_EQ(0, connect(sv[0], (void *)&addr, len));
	sv[1] = accept(l, NULL, NULL);
	ASSERT_LE(0, sv[1]);
	close(l);
	return true;
}

static inline bool connect_pair(struct __test_metadata *_metadata, int family,
				int protocol, int sv[2])
{
	return connect_families(_metadata, family, family, protocol, sv);
}

static inline void make_datagram_pair(struct __test_metadata *_metadata,
				      int type, int protocol, int sv[2])
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int i;

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (i = 0; i < 2; i++) {
		sv[i] = socket(AF_INET, type, protocol);
		ASSERT_LE(0, sv[i]);
	}
	bring_up_loopback(_metadata, sv[0]);
	ASSERT_EQ(0, bind(sv[1], (void *)&addr, len));
	ASSERT_EQ(0, getsockname(sv[1], (void *)&addr, &len));
	ASSERT_EQ(0, connect(sv[0], (void *)&addr, len));
}

/* Makes a TCP socket encrypt (TLS_TX) or decrypt (TLS_RX). */
static inline void set_tls(struct __test_metadata *_metadata, int fd,
			   int direction)
{
	struct tls12_crypto_info_aes_gcm_128 info = {
		.info.version = TLS_1_2_VERSION,
		.info.cipher_type = TLS_CIPHER_AES_GCM_128,
		.key = "0123456789abcde",
	};

	ASSERT_EQ(0, setsockopt(fd, SOL_TCP, TCP_ULP, "tls", 4));
	ASSERT_EQ(0, setsockopt(fd, SOL_TLS, direction, &info, sizeof(info)));
}

static inline void start_tls(struct __test_metadata *_metadata,
			     const int sv[2])
{
	set_tls(_metadata, sv[0], TLS_TX);
	set_tls(_metadata, sv[1], TLS_RX);
}

#endif /* POLICY_COMMON_H */
