// SPDX-License-Identifier: GPL-2.0

#include <linux/net.h>
#include <linux/uio.h>
#include <net/inet_common.h>
#include <net/ipv6.h>
#include <net/sock.h>
#include <net/tcp.h>

__rust_helper int rust_helper_sock_send_bvec(struct socket *sock,
					     const struct bio_vec *vecs,
					     size_t nr, size_t bytes,
					     int flags,
					     struct ubuf_info *ubuf)
{
	struct msghdr msg = { .msg_flags = flags, .msg_ubuf = ubuf };

	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, vecs, nr, bytes);
	return sock_sendmsg(sock, &msg);
}

/*
 * Returns whether ->sendmsg() keeps a ubuf_info that comes with the message.
 * Plain TCP does. A protocol on top of TCP, such as TLS, has its own
 * ->sendmsg(), which does not.
 */
__rust_helper bool rust_helper_sock_reports_release(struct socket *sock)
{
#ifdef CONFIG_INET
	return sk_is_tcp(sock->sk) &&
	       READ_ONCE(sock->sk->sk_prot)->sendmsg == tcp_sendmsg;
#else
	return false;
#endif
}

/* Takes the pending error of a socket. Returns 0 or a negative errno. */
__rust_helper int rust_helper_socket_take_error(struct socket *sock)
{
	return sock_error(sock->sk);
}

/* Returns whether a socket has a pending error, or is shut down. */
__rust_helper bool rust_helper_socket_is_stopped(const struct socket *sock,
						 bool sending)
{
	u8 how = sending ? SEND_SHUTDOWN : RCV_SHUTDOWN;

	return READ_ONCE(sock->sk->sk_err) ||
		READ_ONCE(sock->sk->sk_shutdown) & how;
}

__rust_helper bool rust_helper_socket_is_unix(const struct socket *sock)
{
	return sock->sk->sk_family == AF_UNIX;
}

/* The time-outs of a socket that may wait, in jiffies. */
__rust_helper long rust_helper_socket_rcvtimeo(const struct socket *sock)
{
	return sock_rcvtimeo(sock->sk, false);
}

__rust_helper long rust_helper_socket_sndtimeo(const struct socket *sock)
{
	return sock_sndtimeo(sock->sk, false);
}

/* How many bytes a read waits for, at most @len. */
__rust_helper int rust_helper_socket_rcvlowat(const struct socket *sock,
					      int len)
{
	return sock_rcvlowat(sock->sk, 0, len);
}

/* Sends a copy of the data: as rust_helper_sock_send_bvec(), for addresses. */
__rust_helper int rust_helper_sock_send_kvec(struct socket *sock,
					     const struct kvec *vecs,
					     size_t nr, size_t bytes, int flags)
{
	struct msghdr msg = { .msg_flags = flags };

	iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, vecs, nr, bytes);
	return sock_sendmsg(sock, &msg);
}

/* Returns whether sendmsg() only calls that of the proto. */
static inline bool sock_dispatches(const struct proto_ops *ops)
{
#ifdef CONFIG_IPV6
	if (ops->sendmsg == inet6_sendmsg)
		return true;
#endif
#ifdef CONFIG_INET
	return ops->sendmsg == inet_sendmsg;
#else
	return false;
#endif
}

/*
 * Returns whether the function that sends was declared to only read the pages
 * that it is given.
 */
__rust_helper bool rust_helper_sock_is_audited(struct socket *sock)
{
	const struct proto_ops *ops = READ_ONCE(sock->ops);

	if (!ops->sendmsg || ops->sendmsg != ops->audited_sendmsg)
		return false;
	if (sock_dispatches(ops)) {
		const struct proto *prot = READ_ONCE(sock->sk->sk_prot);

		return prot->sendmsg && prot->sendmsg == prot->audited_sendmsg;
	}
	return true;
}

/* Returns the function that sends, for reports. */
__rust_helper void *rust_helper_sock_sendmsg_function(struct socket *sock)
{
	const struct proto_ops *ops = READ_ONCE(sock->ops);

	if (sock_dispatches(ops))
		return READ_ONCE(sock->sk->sk_prot)->sendmsg;
	return ops->sendmsg;
}
