/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The policy for references to pages that others can see. See
 * Documentation/filesystems/splice-policy.rst.
 */
#ifndef _LINUX_SPLICE_POLICY_H
#define _LINUX_SPLICE_POLICY_H

#include <linux/fs.h>
#include <linux/jump_label.h>
#include <linux/types.h>

struct pipe_inode_info;

/*
 * A flag in file_operations::fop_flags: write_iter and splice_write, and
 * everything that they pass pages to, only read these pages. The bit is far from
 * those that fs.h uses; rust_splice.h has the bits beside it.
 */
#define FOP_MAY_SPLICE		((__force fop_flags_t)(1U << 30))

/* The values of fs.splice_zerocopy. */
#define SPLICE_ZEROCOPY_NONE	0
#define SPLICE_ZEROCOPY_AUDITED	1
#define SPLICE_ZEROCOPY_ALL	2

/* Kinds of consumers, as in rust/kernel/splice/policy.rs. */
#define SPLICE_SINK_SOCKET	0
#define SPLICE_SINK_FILE	1
#define SPLICE_SINK_ACTOR	2

/* The values of skb_test_ignore_frags, see net/core/skbuff.c. */
#define SKB_TEST_IGNORE_MARKS	1
#define SKB_TEST_IGNORE_PAGES	2
#if IS_ENABLED(CONFIG_SPLICE_TEST_SINKS)
extern unsigned int skb_test_ignore_frags;
#else
#define skb_test_ignore_frags	0U
#endif

/*
 * Whether a test wants that data is changed where it is, whoever else can see it.
 * False without CONFIG_SPLICE_TEST_SINKS.
 */
static inline bool skb_test_in_place(void)
{
	return unlikely(skb_test_ignore_frags >= SKB_TEST_IGNORE_PAGES);
}

/*
 * @active: there is a question to ask: @value is not SPLICE_ZEROCOPY_ALL
 * @none: the answer is no for all: @value is SPLICE_ZEROCOPY_NONE
 * @value: fs.splice_zerocopy
 * @checking: @check is not 0
 * @check: fs.splice_check
 */
struct splice_policy {
	struct static_key_false active;
	struct static_key_false none;
	int value;
	struct static_key_false checking;
	int check;
};

extern struct splice_policy splice_policy;

#ifdef CONFIG_RUST_SPLICE
/*
 * Calls the splice_write() of @out, which the caller knows to have one, with
 * copies of the data if the policy requires it. Implemented in fs/splice/ffi.rs.
 */
ssize_t splice_write_file(struct pipe_inode_info *pipe, struct file *out,
			  loff_t *ppos, size_t len, unsigned int flags);

/*
 * Lists a function that was declared to only read the pages that it is given in
 * /sys/kernel/debug/splice/sinks. @kind is one of SPLICE_SINK_*. Implemented in
 * fs/splice/ffi.rs.
 */
void splice_list_sink(unsigned int kind, void *function);
void splice_list_file(struct file *file);

/* Lists a file that was opened for writing, if it is audited. */
static inline void splice_file_opened(struct file *file)
{
	if ((file->f_mode & FMODE_WRITE) &&
	    (file->f_op->fop_flags & FOP_MAY_SPLICE))
		splice_list_file(file);
}
#else
static inline void splice_list_sink(unsigned int kind, void *function)
{
}

static inline void splice_file_opened(struct file *file)
{
}

static inline ssize_t splice_write_file(struct pipe_inode_info *pipe,
					struct file *out, loff_t *ppos,
					size_t len, unsigned int flags)
{
	return out->f_op->splice_write(pipe, out, ppos, len, flags);
}
#endif

#ifdef CONFIG_SPLICE_CHECK
/* Notes that @inode can be written to. Implemented in fs/splice/ffi.rs. */
void rust_splice_check_opened(struct inode *inode);

static inline void splice_check_opened(struct inode *inode)
{
	if (static_branch_unlikely(&splice_policy.checking))
		rust_splice_check_opened(inode);
}
#else
static inline void splice_check_opened(struct inode *inode)
{
}
#endif

#endif
