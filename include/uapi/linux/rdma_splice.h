/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/rdma_splice: connections to other machines over RDMA, which splice(2)
 * moves data to and from. See Documentation/filesystems/splice-rdma.rst.
 */
#ifndef _UAPI_LINUX_RDMA_SPLICE_H
#define _UAPI_LINUX_RDMA_SPLICE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The file descriptor that the ioctl returns is closed by execve(2). */
#define RDMA_SPLICE_CLOEXEC	0x1
/* The new file is O_NONBLOCK, and CONNECT does not wait for the answer. */
#define RDMA_SPLICE_NONBLOCK	0x2

/**
 * struct rdma_splice_addr - an address and a port
 * @family: AF_INET or AF_INET6; AF_UNSPEC if there is no address
 * @port: the port, in the byte order of the host
 * @scope_id: the index of the network interface of an IPv6 address that is
 *	local to a link; otherwise 0
 * @addr: the address in network byte order. An IPv4 address is in the first
 *	four bytes, and the others are 0
 */
struct rdma_splice_addr {
	__u16 family;
	__u16 port;
	__u32 scope_id;
	__u8 addr[16];
};

/**
 * struct rdma_splice_connect - argument of RDMA_SPLICE_IOC_CONNECT
 * @peer: the address and the port to connect to
 * @local: the own address, or AF_UNSPEC to let the kernel choose; port 0
 *	stands for any
 * @timeout_ms: the time for the whole connection set-up; 0 stands for 10 s
 * @keepalive_ms: the time after which a silent peer is given up; 0 stands
 *	for the parameter keepalive_ms of the module
 * @receive_bytes: the memory to receive into, and the most data that is sent
 *	and not yet taken by the peer; 0 stands for 1 MiB
 * @flags: RDMA_SPLICE_CLOEXEC, RDMA_SPLICE_NONBLOCK
 * @reserved: 0
 */
struct rdma_splice_connect {
	struct rdma_splice_addr peer;
	struct rdma_splice_addr local;
	__u32 timeout_ms;
	__u32 keepalive_ms;
	__u32 receive_bytes;
	__u32 flags;
	__u64 reserved[2];
};

/**
 * struct rdma_splice_listen - argument of RDMA_SPLICE_IOC_LISTEN
 * @local: the address and the port; an address of zeroes stands for all
 *	addresses of the family
 * @backlog: the most connections that wait for ACCEPT; 0 stands for 16
 * @keepalive_ms: for the connections that are accepted; 0 stands for the
 *	parameter keepalive_ms of the module
 * @receive_bytes: for the connections that are accepted; 0 stands for 1 MiB
 * @flags: RDMA_SPLICE_CLOEXEC, RDMA_SPLICE_NONBLOCK
 * @reserved: 0
 */
struct rdma_splice_listen {
	struct rdma_splice_addr local;
	__u32 backlog;
	__u32 keepalive_ms;
	__u32 receive_bytes;
	__u32 flags;
	__u64 reserved[2];
};

/**
 * struct rdma_splice_accept - argument of RDMA_SPLICE_IOC_ACCEPT
 * @flags: in: RDMA_SPLICE_CLOEXEC, RDMA_SPLICE_NONBLOCK
 * @reserved: in: 0
 * @peer: out: the address and the port of the peer
 */
struct rdma_splice_accept {
	__u32 flags;
	__u32 reserved;
	struct rdma_splice_addr peer;
};

/* Values of @state in struct rdma_splice_info. */
enum rdma_splice_state {
	/* The connection is being set up. */
	RDMA_SPLICE_CONNECTING = 0,
	RDMA_SPLICE_CONNECTED = 1,
	/* Both directions have ended, and all data was taken. */
	RDMA_SPLICE_CLOSED = 2,
	/* @error is the reason. */
	RDMA_SPLICE_FAILED = 3,
	/* The file is a listener. */
	RDMA_SPLICE_LISTENING = 4,
};

/* A flag of @flags in struct rdma_splice_info: the own data has ended. */
#define RDMA_SPLICE_FIN_SENT		0x1
/* The peer's data has ended. There may be some that was not read yet. */
#define RDMA_SPLICE_FIN_RECEIVED	0x2

/**
 * struct rdma_splice_info - result of RDMA_SPLICE_IOC_INFO
 * @state: a value of enum rdma_splice_state
 * @error: the error number if @state is RDMA_SPLICE_FAILED, otherwise 0
 * @flags: RDMA_SPLICE_FIN_SENT, RDMA_SPLICE_FIN_RECEIVED
 * @reserved: 0
 * @local: the own address
 * @peer: the peer's address
 * @device: the name of the RDMA device, or empty
 * @send_segment: the most bytes of data in one message that is sent
 * @send_depth: the most messages with data that are sent and not yet taken
 * @receive_segment: the most bytes of data in one message that is received
 * @receive_depth: the most messages with data that are received and not yet
 *	taken
 * @sent: the bytes that were taken out of pipes, and written
 * @taken: the bytes of @sent that the peer's reader has taken
 * @received: the bytes that were put into pipes, and read
 */
struct rdma_splice_info {
	__u32 state;
	__s32 error;
	__u32 flags;
	__u32 reserved;
	struct rdma_splice_addr local;
	struct rdma_splice_addr peer;
	char device[64];
	__u32 send_segment;
	__u32 send_depth;
	__u32 receive_segment;
	__u32 receive_depth;
	__u64 sent;
	__u64 taken;
	__u64 received;
};

/* Connect. Returns a file descriptor. Issue this ioctl on /dev/rdma_splice. */
#define RDMA_SPLICE_IOC_CONNECT	_IOW(0xBB, 0x10, struct rdma_splice_connect)

/* Listen. Returns a file descriptor. Issue this ioctl on /dev/rdma_splice. */
#define RDMA_SPLICE_IOC_LISTEN	_IOW(0xBB, 0x11, struct rdma_splice_listen)

/* Accept a connection. Returns a file descriptor. For a listener. */
#define RDMA_SPLICE_IOC_ACCEPT	_IOWR(0xBB, 0x12, struct rdma_splice_accept)

/* End the own data. The peer reads the end of data after it. */
#define RDMA_SPLICE_IOC_SHUTDOWN _IO(0xBB, 0x13)

/* Get the state, for a connection or a listener. */
#define RDMA_SPLICE_IOC_INFO	_IOR(0xBB, 0x14, struct rdma_splice_info)

#endif
