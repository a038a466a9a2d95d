// SPDX-License-Identifier: GPL-2.0

#include <linux/net.h>
#include <linux/uio.h>
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
