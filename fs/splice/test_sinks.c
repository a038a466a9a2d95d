// SPDX-License-Identifier: GPL-2.0
/*
 * Consumers of a pipe that change what they are given, for the tests of
 * fs.splice_zerocopy. Each inverts the bytes:
 *
 * /dev/splice_test_write_iter	in write_iter()
 * /dev/splice_test_actor	in an actor for __splice_from_pipe()
 * /dev/splice_test_own		in a splice_write() that takes the buffers itself
 * /dev/splice_test_liar	in write_iter(), although it claims FOP_MAY_SPLICE
 *
 * SPLICE_TEST_DIRECT on any of them does so in an actor for
 * splice_direct_to_actor(), with the file that the argument is a descriptor of.
 * SPLICE_TEST_SOCKET makes the socket that the argument is a descriptor of do
 * so in sendmsg(), and then drop the data. SPLICE_TEST_FRAGS sets
 * skb_test_ignore_frags, which lets ESP change packets in place.
 * SPLICE_TEST_PROTECTED returns the number of bytes that could not be inverted
 * since it was called last, because the kernel has no writable mapping of them.
 *
 * None of them is of any use outside of tests.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/pgtable.h>
#include <linux/pipe_fs_i.h>
#include <linux/splice.h>
#include <linux/splice_policy.h>
#include <linux/uio.h>

#define SPLICE_TEST_DIRECT	_IO('S', 1)
#define SPLICE_TEST_SOCKET	_IO('S', 2)
#define SPLICE_TEST_FRAGS	_IO('S', 3)
#define SPLICE_TEST_PROTECTED	_IO('S', 4)

/* The bytes that could not be inverted, see SPLICE_TEST_PROTECTED. */
static size_t protected_bytes;

/* Whether the kernel protects a page from itself, as the zero page. */
static bool is_protected(void *addr)
{
#ifdef CONFIG_X86
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)addr, &level);

	return pte && !pte_write(*pte);
#else
	return false;
#endif
}

/* Inverts @len bytes that begin at @offset of @page, and may be in later pages. */
static void invert(struct page *page, size_t offset, size_t len)
{
	while (len) {
		size_t start = offset % PAGE_SIZE;
		size_t n = min(len, PAGE_SIZE - start);
		u8 *addr = kmap_local_page(page + offset / PAGE_SIZE);
		size_t i;

		if (is_protected(addr))
			protected_bytes += n;
		else
			for (i = start; i < start + n; i++)
				addr[i] = ~addr[i];
		kunmap_local(addr);
		offset += n;
		len -= n;
	}
}

/* Inverts all data of @from that is in pages, and returns its length. */
static ssize_t invert_iter(struct iov_iter *from)
{
	ssize_t bytes = 0;

	while (iov_iter_count(from)) {
		struct page *page, **pages = &page;
		size_t offset;
		ssize_t n;

		n = iov_iter_extract_pages(from, &pages, PAGE_SIZE, 1, 0,
					   &offset);
		if (n <= 0)
			return bytes ?: n ?: -EFAULT;
		invert(page, offset, n);
		bytes += n;
	}
	return bytes;
}

static ssize_t test_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	return iov_iter_is_bvec(from) ? invert_iter(from) : -EINVAL;
}

static int test_actor(struct pipe_inode_info *pipe, struct pipe_buffer *buf,
		      struct splice_desc *sd)
{
	invert(buf->page, buf->offset, sd->len);
	return sd->len;
}

static ssize_t actor_splice_write(struct pipe_inode_info *pipe,
				  struct file *out, loff_t *ppos, size_t len,
				  unsigned int flags)
{
	struct splice_desc sd = { .total_len = len, .flags = flags };
	ssize_t ret;

	pipe_lock(pipe);
	ret = __splice_from_pipe(pipe, &sd, test_actor);
	pipe_unlock(pipe);
	return ret;
}

/* Takes whole buffers, up to @len bytes. */
static ssize_t take_buffers(struct pipe_inode_info *pipe, size_t len)
{
	ssize_t bytes = 0;

	while (!pipe_empty(pipe->head, pipe->tail)) {
		struct pipe_buffer *buf = pipe_buf(pipe, pipe->tail);

		if (buf->len > len - bytes)
			break;
		invert(buf->page, buf->offset, buf->len);
		bytes += buf->len;
		pipe_buf_release(pipe, buf);
		pipe->tail++;
	}
	return bytes;
}

static ssize_t own_splice_write(struct pipe_inode_info *pipe, struct file *out,
				loff_t *ppos, size_t len, unsigned int flags)
{
	ssize_t ret;

	pipe_lock(pipe);
	ret = take_buffers(pipe, len);
	pipe_unlock(pipe);
	return ret;
}

static int direct_actor(struct pipe_inode_info *pipe, struct splice_desc *sd)
{
	return take_buffers(pipe, sd->total_len);
}

static long test_direct(int fd)
{
	struct splice_desc sd = { .total_len = PAGE_SIZE };

	CLASS(fd, in)(fd);
	if (fd_empty(in))
		return -EBADF;
	return splice_direct_to_actor(fd_file(in), &sd, direct_actor);
}

/* The operations of a socket, with another sendmsg(). */
static TYPEOF_UNQUAL(*((struct socket *)NULL)->ops) replaced_ops;

static int test_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)
{
	size_t bytes = iov_iter_count(&msg->msg_iter);

	if (iov_iter_is_bvec(&msg->msg_iter))
		return invert_iter(&msg->msg_iter);
	iov_iter_advance(&msg->msg_iter, bytes);
	return bytes;
}

static long test_socket(int fd)
{
	struct module *owner;
	struct socket *sock;
	int err;

	sock = sockfd_lookup(fd, &err);
	if (!sock)
		return err;
	if (sock->ops == &replaced_ops) {
		sockfd_put(sock);
		return -EBUSY;
	}
	/* The socket refers to its new owner until it is released. */
	owner = sock->ops->owner;
	__module_get(THIS_MODULE);
	/* A copy, as kTLS, SMC and others make. The audit does not fit it. */
	replaced_ops = *sock->ops;
	replaced_ops.owner = THIS_MODULE;
	replaced_ops.sendmsg = test_sendmsg;
	WRITE_ONCE(sock->ops, &replaced_ops);
	module_put(owner);
	sockfd_put(sock);
	return 0;
}

static long test_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case SPLICE_TEST_DIRECT:
		return test_direct(arg);
	case SPLICE_TEST_SOCKET:
		return test_socket(arg);
	case SPLICE_TEST_FRAGS:
		WRITE_ONCE(skb_test_ignore_frags, arg);
		return 0;
	case SPLICE_TEST_PROTECTED:
		return xchg(&protected_bytes, 0);
	}
	return -ENOTTY;
}

static const struct file_operations write_iter_fops = {
	.owner		= THIS_MODULE,
	.write_iter	= test_write_iter,
	.splice_write	= iter_file_splice_write,
	.unlocked_ioctl	= test_ioctl,
};

static const struct file_operations actor_fops = {
	.owner		= THIS_MODULE,
	.splice_write	= actor_splice_write,
	.unlocked_ioctl	= test_ioctl,
};

static const struct file_operations own_fops = {
	.owner		= THIS_MODULE,
	.splice_write	= own_splice_write,
	.unlocked_ioctl	= test_ioctl,
};

static const struct file_operations liar_fops = {
	.owner		= THIS_MODULE,
	.write_iter	= test_write_iter,
	.splice_write	= iter_file_splice_write,
	.fop_flags	= FOP_MAY_SPLICE,
	.unlocked_ioctl	= test_ioctl,
};

#define TEST_SINK(_name, _fops)						\
	{								\
		.minor	= MISC_DYNAMIC_MINOR,				\
		.name	= _name,					\
		.fops	= _fops,					\
		.mode	= 0600,						\
	}

static struct miscdevice sinks[] = {
	TEST_SINK("splice_test_write_iter", &write_iter_fops),
	TEST_SINK("splice_test_actor", &actor_fops),
	TEST_SINK("splice_test_own", &own_fops),
	TEST_SINK("splice_test_liar", &liar_fops),
};

static int __init test_sinks_init(void)
{
	int i, err;

	/* It can put bugs back into the kernel. */
	add_taint(TAINT_TEST, LOCKDEP_STILL_OK);
	for (i = 0; i < ARRAY_SIZE(sinks); i++) {
		err = misc_register(&sinks[i]);
		if (err) {
			while (i--)
				misc_deregister(&sinks[i]);
			return err;
		}
	}
	pr_warn("for tests only: these devices corrupt files\n");
	return 0;
}
module_init(test_sinks_init);

static void __exit test_sinks_exit(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(sinks); i++)
		misc_deregister(&sinks[i]);
	skb_test_ignore_frags = 0;
}
module_exit(test_sinks_exit);

MODULE_DESCRIPTION("Consumers of a pipe that change what they are given");
MODULE_LICENSE("GPL");
