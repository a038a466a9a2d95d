/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A peer of /dev/rdma_splice in user space, over libibverbs and librdmacm. It
 * follows the section "The wire protocol" of
 * Documentation/filesystems/splice-rdma.rst, checks that the other side does, and
 * can violate it.
 *
 * A peer belongs to one thread. Calls return the negated errno if they fail.
 */
#ifndef RDMA_PEER_H
#define RDMA_PEER_H

#include <linux/types.h>
#include <netinet/in.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <sys/types.h>

#define PEER_MAGIC	0x4c505352u
#define PEER_VERSION	1

/* Flags of a message. */
#define PEER_FIN	0x1
#define PEER_ASK	0x2
#define PEER_ANSWER	0x4

#define PEER_HEADER	16

/* Send buffers, and the most data in a message that is sent. */
#define PEER_SENDS	34
#define PEER_SEGMENT	(128 * 1024)

/* The first bytes of the private data, in the byte order of the wire. */
struct peer_private {
	__le32 magic;
	__le16 version;
	__le16 depth;
	__le32 segment;
};

/* The header of a message, in the byte order of the wire. */
struct peer_header {
	__le32 length;
	__le32 flags;
	__le64 taken;
};

enum peer_state {
	PEER_OPEN,
	PEER_CLOSED,		/* both directions had ended before */
	PEER_FAILED,		/* see @error */
};

struct peer {
	/* The messages that this side can receive; set before the connection. */
	unsigned int depth;
	unsigned int segment;
	int keepalive_ms;
	/* Private data to send instead of valid one, if @private_len is not 0. */
	struct peer_private private_data;
	int private_len;
	/* Send nothing more, neither answers nor counts. */
	bool silent;

	enum peer_state state;
	int error;		/* a positive errno */
	const char *why;	/* the rule that the other side violated */

	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_comp_channel *completions;
	struct ibv_cq *cq;
	struct ibv_mr *mr;
	char *memory;
	bool active;		/* the side that connects */
	struct peer_private reply;	/* private data of the other side */

	/* The messages that the other side can receive. */
	unsigned int send_depth;
	unsigned int send_segment;

	/* Send buffers that are not in use, a stack. */
	unsigned int unused[PEER_SENDS];
	unsigned int nr_unused;

	/* Received messages with data that the reader has not taken, a ring. */
	unsigned int *queue;
	unsigned int queue_head;
	unsigned int queue_len;
	unsigned int offset;	/* in the first of them */

	__u64 data_sent;	/* messages with data */
	__u64 data_received;
	__u64 taken;		/* of these, by this side's reader */
	__u64 taken_sent;	/* the count in the last message */
	__u64 taken_asked;	/* the count in the last message with ASK */
	__u64 peer_taken;
	unsigned long nr_asks;
	bool spoke;		/* the other side has sent a message */
	bool ask_pending;	/* the last ASK is not answered */
	bool answer_due;
	bool fin_wanted;
	bool fin_sent;
	bool fin_received;
	bool disconnected;
	long long heard_ms;	/* when the last message came */
};

/* The own limits; everything else is 0. */
void peer_init(struct peer *p, unsigned int depth, unsigned int segment);

/* Connects from any address to @addr. Waits at most @ms. */
int peer_connect(struct peer *p, const struct sockaddr *addr, int ms);

/* Waits at @addr for connections. */
int peer_listen(struct peer *listener, const struct sockaddr *addr);

/*
 * Accepts one connection. @p takes the limits from @listener. A request that
 * violates the protocol is rejected, and the result is -EPROTO.
 */
int peer_accept(struct peer *listener, struct peer *p, int ms);

/* Waits at most @ms for something to happen. 0, or the error that ended it. */
int peer_step(struct peer *p, int ms);

/*
 * Sends up to @len bytes, but no more messages than there is credit for, and does
 * not wait. With @fin the message with the last of these bytes ends the data.
 */
ssize_t peer_send(struct peer *p, const void *data, size_t len, bool fin);

/* Ends the own data. */
int peer_fin(struct peer *p);

/* Takes up to @len bytes of what was received; 0 if there is none now. */
ssize_t peer_receive(struct peer *p, void *data, size_t len);

/* Has the other side ended its data, and has the reader taken all? */
bool peer_at_end(const struct peer *p);

/* May this side disconnect? */
bool peer_finished(const struct peer *p);

/* Sends any header, and @len bytes after it, also if it violates the protocol. */
int peer_send_raw(struct peer *p, unsigned int length, unsigned int flags,
		  __u64 taken, const void *data, size_t len);

/* Sends the first @size bytes, fewer than PEER_HEADER, of a header. */
int peer_send_short(struct peer *p, size_t size);

/* Disconnects, waits a while for the other side, and frees everything. */
void peer_close(struct peer *p);

#endif /* RDMA_PEER_H */
