// SPDX-License-Identifier: GPL-2.0
/*
 * A peer of /dev/rdma_splice in user space; see rdma_peer.h. The numbers of rules
 * are those of Documentation/filesystems/splice-rdma.rst.
 */
#include "rdma_peer.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The bit of a work request's id that tells a send from a receive. */
#define SEND_ID 0x80000000u

/* An address may need several tries, each of them this long. */
#define RESOLVE_MS 200

#define ROUTE_MS 2000

/* The other side gets this long to answer a disconnection. */
#define DISCONNECT_MS 2000

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static unsigned int receives(const struct peer *p)
{
	return p->depth + 2;
}

static size_t receive_size(const struct peer *p)
{
	return PEER_HEADER + p->segment;
}

static char *receive_buffer(struct peer *p, unsigned int slot)
{
	return p->memory + slot * receive_size(p);
}

static char *send_buffer(struct peer *p, unsigned int slot)
{
	return p->memory + receives(p) * receive_size(p) +
	       slot * (PEER_HEADER + PEER_SEGMENT);
}

static void set_nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void peer_init(struct peer *p, unsigned int depth, unsigned int segment)
{
	*p = (struct peer) {
		.depth = depth, .segment = segment, .keepalive_ms = 10000,
	};
}

static int peer_fail(struct peer *p, int error)
{
	if (p->state == PEER_OPEN) {
		p->state = PEER_FAILED;
		p->error = error;
	}
	return -error;
}

static int violation(struct peer *p, const char *why)
{
	if (p->state == PEER_OPEN)
		p->why = why;
	return peer_fail(p, EPROTO);
}

/* Rule 9: the connection has ended. */
static void peer_end(struct peer *p, int error)
{
	if (p->state != PEER_OPEN)
		return;
	if (p->fin_sent && p->fin_received && p->peer_taken == p->data_sent)
		p->state = PEER_CLOSED;
	else
		peer_fail(p, error);
}

static int post_receive(struct peer *p, unsigned int slot)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)receive_buffer(p, slot),
		.length = receive_size(p), .lkey = p->mr->lkey,
	};
	struct ibv_recv_wr wr = {
		.wr_id = slot, .sg_list = &sge, .num_sge = 1,
	}, *bad;

	return -ibv_post_recv(p->id->qp, &wr, &bad);
}

/* Makes everything that a connection has, and posts the receives. */
static int make_queues(struct peer *p)
{
	struct ibv_qp_init_attr attr = {
		.qp_type = IBV_QPT_RC,
		.cap = {
			.max_send_wr = PEER_SENDS,
			.max_recv_wr = receives(p),
			.max_send_sge = 1,
			.max_recv_sge = 1,
		},
	};
	size_t size = receives(p) * receive_size(p) +
		      PEER_SENDS * (PEER_HEADER + PEER_SEGMENT);
	unsigned int i;

	p->memory = calloc(1, size);
	p->queue = calloc(p->depth, sizeof(*p->queue));
	p->pd = ibv_alloc_pd(p->id->verbs);
	p->completions = ibv_create_comp_channel(p->id->verbs);
	if (!p->memory || !p->queue || !p->pd || !p->completions)
		return -ENOMEM;
	set_nonblocking(p->completions->fd);
	p->cq = ibv_create_cq(p->id->verbs, PEER_SENDS + receives(p), NULL,
			      p->completions, 0);
	if (!p->cq)
		return -errno;
	attr.send_cq = p->cq;
	attr.recv_cq = p->cq;
	if (rdma_create_qp(p->id, p->pd, &attr))
		return -errno;
	p->mr = ibv_reg_mr(p->pd, p->memory, size, IBV_ACCESS_LOCAL_WRITE);
	if (!p->mr)
		return -errno;
	for (i = 0; i < receives(p); i++)
		if (post_receive(p, i))
			return -ENOMEM;
	for (i = 0; i < PEER_SENDS; i++)
		p->unused[i] = i;
	p->nr_unused = PEER_SENDS;
	return 0;
}

/* Waits for an event and acknowledges it; @private, if given, gets its data. */
static int wait_event(struct rdma_event_channel *channel, long long until,
		      struct rdma_cm_id **id, struct peer_private *private)
{
	struct pollfd pfd = { .fd = channel->fd, .events = POLLIN };
	long long left = until - now_ms();
	struct rdma_cm_event *event;
	int type, len;

	if (poll(&pfd, 1, left > 0 ? left : 0) <= 0)
		return -ETIMEDOUT;
	if (rdma_get_cm_event(channel, &event))
		return -errno;
	type = event->event;
	if (id)
		*id = event->id;
	if (private) {
		memset(private, 0, sizeof(*private));
		len = event->param.conn.private_data_len;
		if (len > (int)sizeof(*private))
			len = sizeof(*private);
		if (event->param.conn.private_data)
			memcpy(private, event->param.conn.private_data, len);
	}
	rdma_ack_cm_event(event);
	return type;
}

static bool is_valid(const struct peer_private *d)
{
	unsigned int depth = le16toh(d->depth), segment = le32toh(d->segment);

	return le32toh(d->magic) == PEER_MAGIC &&
	       le16toh(d->version) == PEER_VERSION && depth && depth <= 4096 &&
	       segment >= 4096 && segment <= 16 << 20 && !(segment % 4096);
}

static struct peer_private own_private(unsigned int depth,
				       unsigned int segment)
{
	return (struct peer_private) {
		.magic = htole32(PEER_MAGIC), .version = htole16(PEER_VERSION),
		.depth = htole16(depth), .segment = htole32(segment),
	};
}

static struct rdma_conn_param conn_param(struct peer *p)
{
	if (!p->private_len) {
		p->private_data = own_private(p->depth, p->segment);
		p->private_len = sizeof(p->private_data);
	}
	return (struct rdma_conn_param) {
		.private_data = &p->private_data,
		.private_data_len = p->private_len,
		.retry_count = 6,
		.rnr_retry_count = 7,
	};
}

static void established(struct peer *p)
{
	p->send_depth = le16toh(p->reply.depth);
	p->send_segment = le32toh(p->reply.segment);
	if (p->send_segment > PEER_SEGMENT)
		p->send_segment = PEER_SEGMENT;
	p->heard_ms = now_ms();
}

static void send_due(struct peer *p);

static int open_channel(struct peer *p)
{
	p->events = rdma_create_event_channel();
	if (!p->events)
		return -errno;
	set_nonblocking(p->events->fd);
	return 0;
}

static int resolve(struct peer *p, const struct sockaddr *addr, long long until)
{
	int event;

	do {
		if (rdma_resolve_addr(p->id, NULL, (struct sockaddr *)addr,
				      RESOLVE_MS))
			return -errno;
		event = wait_event(p->events, until, NULL, NULL);
	} while (event == RDMA_CM_EVENT_ADDR_ERROR && now_ms() < until);
	if (event != RDMA_CM_EVENT_ADDR_RESOLVED)
		return event < 0 ? event : -EHOSTUNREACH;
	if (rdma_resolve_route(p->id, ROUTE_MS))
		return -errno;
	event = wait_event(p->events, until, NULL, NULL);
	if (event != RDMA_CM_EVENT_ROUTE_RESOLVED)
		return event < 0 ? event : -EHOSTUNREACH;
	return 0;
}

int peer_connect(struct peer *p, const struct sockaddr *addr, int ms)
{
	long long until = now_ms() + ms;
	struct rdma_conn_param param;
	int ret;

	p->active = true;
	ret = open_channel(p);
	if (ret)
		return peer_fail(p, -ret);
	if (rdma_create_id(p->events, &p->id, p, RDMA_PS_TCP))
		return peer_fail(p, errno);
	ret = resolve(p, addr, until);
	if (!ret)
		ret = make_queues(p);
	if (ret)
		return peer_fail(p, -ret);
	param = conn_param(p);
	if (rdma_connect(p->id, &param))
		return peer_fail(p, errno);
	ret = wait_event(p->events, until, NULL, &p->reply);
	if (ret == RDMA_CM_EVENT_REJECTED)
		return peer_fail(p, ECONNREFUSED);
	if (ret != RDMA_CM_EVENT_ESTABLISHED)
		return peer_fail(p, ret < 0 ? -ret : ECONNRESET);
	if (!is_valid(&p->reply))
		return violation(p, "private data of the answer");
	established(p);
	send_due(p);
	return 0;
}

int peer_listen(struct peer *listener, const struct sockaddr *addr)
{
	int ret = open_channel(listener);

	if (ret)
		return ret;
	if (rdma_create_id(listener->events, &listener->id, NULL,
			   RDMA_PS_TCP) ||
	    rdma_bind_addr(listener->id, (struct sockaddr *)addr) ||
	    rdma_listen(listener->id, 8))
		return -errno;
	return 0;
}

int peer_accept(struct peer *listener, struct peer *p, int ms)
{
	struct peer_private refusal = own_private(0, 0);
	long long until = now_ms() + ms;
	struct rdma_conn_param param;
	int ret;

	peer_init(p, listener->depth, listener->segment);
	p->keepalive_ms = listener->keepalive_ms;
	p->private_data = listener->private_data;
	p->private_len = listener->private_len;
	ret = wait_event(listener->events, until, &p->id, &p->reply);
	if (ret != RDMA_CM_EVENT_CONNECT_REQUEST)
		return peer_fail(p, ret < 0 ? -ret : ECONNRESET);
	if (!is_valid(&p->reply)) {
		rdma_reject(p->id, &refusal, sizeof(refusal));
		return violation(p, "private data of the request");
	}
	ret = open_channel(p);
	if (!ret && rdma_migrate_id(p->id, p->events))
		ret = -errno;
	if (!ret)
		ret = make_queues(p);
	if (ret)
		return peer_fail(p, -ret);
	param = conn_param(p);
	if (rdma_accept(p->id, &param))
		return peer_fail(p, errno);
	ret = wait_event(p->events, until, NULL, NULL);
	if (ret != RDMA_CM_EVENT_ESTABLISHED)
		return peer_fail(p, ret < 0 ? -ret : ECONNRESET);
	established(p);
	return 0;
}

/* Sends a message that is in a send buffer already. */
static int post_send(struct peer *p, unsigned int slot, size_t len)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)send_buffer(p, slot),
		.length = len, .lkey = p->mr->lkey,
	};
	struct ibv_send_wr wr = {
		.wr_id = SEND_ID | slot, .sg_list = &sge, .num_sge = 1,
		.opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED,
	}, *bad;
	int error = ibv_post_send(p->id->qp, &wr, &bad);

	if (error)
		p->unused[p->nr_unused++] = slot;
	return -error;
}

int peer_send_raw(struct peer *p, unsigned int length, unsigned int flags,
		  __u64 taken, const void *data, size_t len)
{
	struct peer_header header = {
		.length = htole32(length), .flags = htole32(flags),
		.taken = htole64(taken),
	};
	unsigned int slot;
	char *buf;

	if (!p->nr_unused || len > PEER_SEGMENT)
		return -ENOBUFS;
	slot = p->unused[--p->nr_unused];
	buf = send_buffer(p, slot);
	memcpy(buf, &header, sizeof(header));
	if (len)
		memcpy(buf + PEER_HEADER, data, len);
	return post_send(p, slot, PEER_HEADER + len);
}

int peer_send_short(struct peer *p, size_t size)
{
	unsigned int slot;

	if (!p->nr_unused)
		return -ENOBUFS;
	slot = p->unused[--p->nr_unused];
	memset(send_buffer(p, slot), 0, PEER_HEADER);
	return post_send(p, slot, size);
}

/* Sends a valid message, and records that. */
static int send_message(struct peer *p, unsigned int flags, const void *data,
			size_t len)
{
	int ret;

	if (p->answer_due)
		flags |= PEER_ANSWER;
	ret = peer_send_raw(p, len, flags, p->taken, data, len);
	if (ret)
		return peer_fail(p, -ret);
	p->answer_due = false;
	p->taken_sent = p->taken;
	if (len)
		p->data_sent++;
	if (flags & PEER_FIN)
		p->fin_sent = true;
	if (flags & PEER_ASK) {
		p->ask_pending = true;
		p->taken_asked = p->taken;
		p->nr_asks++;
	}
	return 0;
}

/* Rule 5. */
static bool may_send(const struct peer *p)
{
	return p->state == PEER_OPEN && !p->silent &&
	       (p->active ? p->nr_asks : p->spoke);
}

/* Rules 5 to 9: sends a message without data if one is due. */
static void send_due(struct peer *p)
{
	bool fin, ask;

	if (p->state != PEER_OPEN || p->silent || !p->nr_unused)
		return;
	if (p->active && !p->nr_asks) {
		send_message(p, PEER_ASK, NULL, 0);
		return;
	}
	if (!may_send(p))
		return;
	fin = p->fin_wanted && !p->fin_sent;
	ask = fin || p->taken != p->taken_sent ||
	      (p->fin_sent && p->fin_received && p->taken != p->taken_asked) ||
	      now_ms() - p->heard_ms >= p->keepalive_ms / 3;
	ask = ask && !p->ask_pending;
	if (ask || p->answer_due)
		send_message(p, (ask ? PEER_ASK : 0) | (fin ? PEER_FIN : 0),
			     NULL, 0);
}

ssize_t peer_send(struct peer *p, const void *data, size_t len, bool fin)
{
	size_t done = 0, part;

	if (p->state != PEER_OPEN)
		return -p->error;
	if (p->fin_sent || p->fin_wanted)
		return -EPIPE;
	/* Two buffers are left for messages without data. */
	while (done < len && may_send(p) && p->nr_unused > 2 &&
	       p->data_sent < p->peer_taken + p->send_depth) {
		part = len - done;
		if (part > p->send_segment)
			part = p->send_segment;
		if (send_message(p, fin && done + part == len ? PEER_FIN : 0,
				 (const char *)data + done, part))
			return -p->error;
		done += part;
	}
	return done;
}

int peer_fin(struct peer *p)
{
	p->fin_wanted = true;
	send_due(p);
	return -p->error;
}

ssize_t peer_receive(struct peer *p, void *data, size_t len)
{
	size_t done = 0, part, length;
	struct peer_header header;
	unsigned int slot;
	char *buf;

	while (done < len && p->queue_len) {
		slot = p->queue[p->queue_head];
		buf = receive_buffer(p, slot);
		memcpy(&header, buf, sizeof(header));
		length = le32toh(header.length);
		part = length - p->offset;
		if (part > len - done)
			part = len - done;
		memcpy((char *)data + done, buf + PEER_HEADER + p->offset,
		       part);
		done += part;
		p->offset += part;
		if (p->offset < length)
			break;
		p->offset = 0;
		p->queue_head = (p->queue_head + 1) % p->depth;
		p->queue_len--;
		if (p->state == PEER_OPEN && post_receive(p, slot))
			peer_fail(p, EIO);
		p->taken++;
	}
	send_due(p);
	return done;
}

bool peer_at_end(const struct peer *p)
{
	return p->fin_received && !p->queue_len;
}

bool peer_finished(const struct peer *p)
{
	return p->fin_sent && p->fin_received && p->taken == p->data_received &&
	       p->peer_taken == p->data_sent && !p->ask_pending &&
	       p->taken_asked == p->taken && !p->answer_due &&
	       p->nr_unused == PEER_SENDS;
}

/* Why a message violates the protocol, or NULL. */
static const char *violated(const struct peer *p, __u32 len, __u32 length,
			    __u32 flags, __u64 taken)
{
	if (len != PEER_HEADER + length)
		return "length";
	if (flags & ~(PEER_FIN | PEER_ASK | PEER_ANSWER))
		return "unknown flag";
	if (!length && !(flags & (PEER_ASK | PEER_ANSWER)))
		return "message without data, ASK and ANSWER";
	if (length && (flags & PEER_ASK))
		return "ASK with data";
	if (!p->active && !p->spoke && (length || !(flags & PEER_ASK)))
		return "first message";
	if ((flags & PEER_ASK) && p->answer_due)
		return "ASK before the answer";
	if ((flags & PEER_ANSWER) && !p->ask_pending)
		return "ANSWER without ASK";
	if (length && p->data_received >= p->taken_sent + p->depth)
		return "data without credit";
	if (length && p->fin_received)
		return "data after FIN";
	if ((flags & PEER_FIN) && p->fin_received)
		return "second FIN";
	if (taken < p->peer_taken)
		return "count decreases";
	if (taken > p->data_sent)
		return "count too large";
	return NULL;
}

static void message(struct peer *p, unsigned int slot, __u32 len)
{
	struct peer_header header;
	__u32 length, flags;
	const char *why;
	__u64 taken;

	memcpy(&header, receive_buffer(p, slot), sizeof(header));
	length = le32toh(header.length);
	flags = le32toh(header.flags);
	taken = le64toh(header.taken);
	why = len < PEER_HEADER ? "length" :
	      violated(p, len, length, flags, taken);
	if (why) {
		violation(p, why);
		return;
	}
	p->spoke = true;
	p->heard_ms = now_ms();
	p->peer_taken = taken;
	if (flags & PEER_ANSWER)
		p->ask_pending = false;
	if (flags & PEER_ASK)
		p->answer_due = true;
	if (flags & PEER_FIN)
		p->fin_received = true;
	if (length) {
		p->data_received++;
		p->queue[(p->queue_head + p->queue_len++) % p->depth] = slot;
	} else if (post_receive(p, slot)) {
		peer_fail(p, EIO);
	}
}

/* Did a message not fit into its receive buffer? The second status is that of rxe. */
static bool is_too_long(const struct ibv_wc *wc)
{
	return !(wc->wr_id & SEND_ID) &&
	       (wc->status == IBV_WC_LOC_LEN_ERR ||
		wc->status == IBV_WC_LOC_QP_OP_ERR);
}

/* Handles what has completed; returns how much that was. */
static int completions(struct peer *p)
{
	struct ibv_wc wc;
	int nr = 0;

	while (ibv_poll_cq(p->cq, 1, &wc) == 1) {
		nr++;
		if (wc.wr_id & SEND_ID)
			p->unused[p->nr_unused++] = wc.wr_id & ~SEND_ID;
		if (is_too_long(&wc))
			violation(p, "more than the segment");
		else if (wc.status == IBV_WC_RETRY_EXC_ERR)
			peer_end(p, ETIMEDOUT);
		else if (wc.status != IBV_WC_SUCCESS)
			peer_end(p, ECONNRESET);
		else if (!(wc.wr_id & SEND_ID) && p->state == PEER_OPEN)
			message(p, wc.wr_id, wc.byte_len);
	}
	return nr;
}

/* Waits for a completion or an event, and takes the notification of it. */
static void wait_for_any(struct peer *p, int ms)
{
	struct pollfd pfd[] = {
		{ .fd = p->completions->fd, .events = POLLIN },
		{ .fd = p->events->fd, .events = POLLIN },
	};
	struct ibv_cq *cq;
	void *context;

	poll(pfd, 2, ms);
	if ((pfd[0].revents & POLLIN) &&
	    !ibv_get_cq_event(p->completions, &cq, &context))
		ibv_ack_cq_events(cq, 1);
}

/* Takes all events; anything on a connection that exists is about its end. */
static void events(struct peer *p)
{
	int event;

	while ((event = wait_event(p->events, 0, NULL, NULL)) >= 0)
		if (event == RDMA_CM_EVENT_DISCONNECTED ||
		    event == RDMA_CM_EVENT_DEVICE_REMOVAL)
			p->disconnected = true;
}

int peer_step(struct peer *p, int ms)
{
	if (p->state == PEER_OPEN && !completions(p)) {
		ibv_req_notify_cq(p->cq, 0);
		if (!completions(p))
			wait_for_any(p, ms);
		completions(p);
	}
	events(p);
	if (p->disconnected) {
		completions(p);
		peer_end(p, ECONNRESET);
	}
	if (p->state == PEER_OPEN &&
	    now_ms() - p->heard_ms >= p->keepalive_ms)
		peer_fail(p, ETIMEDOUT);
	send_due(p);
	return -p->error;
}

void peer_close(struct peer *p)
{
	long long until = now_ms() + DISCONNECT_MS;

	if (p->id && p->id->qp && !rdma_disconnect(p->id))
		while (!p->disconnected && now_ms() < until) {
			wait_for_any(p, 50);
			completions(p);
			events(p);
		}
	if (p->id && p->id->qp)
		rdma_destroy_qp(p->id);
	if (p->cq)
		ibv_destroy_cq(p->cq);
	if (p->mr)
		ibv_dereg_mr(p->mr);
	if (p->completions)
		ibv_destroy_comp_channel(p->completions);
	if (p->pd)
		ibv_dealloc_pd(p->pd);
	if (p->id)
		rdma_destroy_id(p->id);
	if (p->events)
		rdma_destroy_event_channel(p->events);
	free(p->queue);
	free(p->memory);
	*p = (struct peer) { .state = p->state, .error = p->error, .why = p->why };
}
