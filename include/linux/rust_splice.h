/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Declarations that the C and the Rust parts of splice share.
 */
#ifndef _LINUX_RUST_SPLICE_H
#define _LINUX_RUST_SPLICE_H

#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/splice.h>
#include <linux/types.h>

struct folio;
struct iov_iter;
struct iovec;
struct page;
struct pipe_inode_info;
struct poll_wqueues;
struct seq_file;
struct sk_buff;

/* The size of the array for the counters of rust/kernel/splice/counters.rs. */
#define SPLICE_NR_COUNTERS 40

struct splice_counters {
	u64 items[SPLICE_NR_COUNTERS];
};

DECLARE_PER_CPU(struct splice_counters, splice_counters);

/*
 * A flag in file_operations::fop_flags: the file is the stream of a driver and
 * has no positions. If a caller of splice(2) gives an offset, the error is then
 * ESPIPE, not EINVAL. The bit is far from those that fs.h uses.
 */
#define FOP_SPLICE_STREAM	((__force fop_flags_t)(1U << 31))

/*
 * Another such flag: ->write_iter heeds IOCB_NOWAIT, and ->poll reports when there
 * is room.
 */
#define FOP_SPLICE_NOWAIT	((__force fop_flags_t)(1U << 29))

/*
 * Another such flag: ->splice_read passes its flags on to filemap_splice_read(),
 * and does not wait otherwise.
 */
#define FOP_SPLICE_READ_NOWAIT	((__force fop_flags_t)(1U << 28))

/*
 * A flag that splice(2) passes to ->splice_read of a socket: the function does not
 * wait for data. Where it would wait, it returns -SPLICE_WOULD_WAIT, even if it has
 * put data into the pipe, which the caller then counts. The caller unlocks the
 * pipe, waits by poll, and calls again.
 *
 * This is not SPLICE_F_NONBLOCK, which TCP ignores: a function returns -EAGAIN in
 * the same cases as without this flag. Callers from user space get EINVAL for it.
 * A function that does not know the flag waits with the pipe locked.
 *
 * filemap_splice_read() heeds the flag, too: it reads what is in the page cache, as
 * with IOCB_NOWAIT. In fs/splice/ the flag also stands for a call that does not
 * wait for a pipe and raises no SIGPIPE, see fs/splice/uring.rs.
 */
#ifdef CONFIG_RUST_SPLICE
#define SPLICE_F_NOWAIT		0x40000000U
#else
#define SPLICE_F_NOWAIT		0U
#endif

/* An error number that no ->splice_read returns otherwise. */
#define SPLICE_WOULD_WAIT	EIOCBQUEUED

/* Implemented in fs/select.c. */
int poll_schedule_timeout(struct poll_wqueues *pwq, int state,
			  ktime_t *expires, unsigned long slack);

/*
 * The system calls. They are implemented in fs/splice/ffi.rs and
 * mm/vmsplice/ffi.rs.
 */
ssize_t rust_sys_splice(int fd_in, loff_t __user *off_in, int fd_out,
			loff_t __user *off_out, size_t len, unsigned int flags);
ssize_t rust_sys_tee(int fd_in, int fd_out, size_t len, unsigned int flags);
ssize_t rust_sys_vmsplice(int fd, const struct iovec __user *uiov,
			  unsigned long nr_segs, unsigned int flags);

/* What io_uring does after an attempt. */
enum splice_attempt_next {
	SPLICE_ATTEMPT_DONE,		/* complete the request with @result */
	SPLICE_ATTEMPT_POLL_INPUT,	/* wait by poll, then try again */
	SPLICE_ATTEMPT_POLL_OUTPUT,
	SPLICE_ATTEMPT_WORKER,		/* try again in a worker, which may wait */
};

/*
 * An attempt of io_uring to splice or tee.
 *
 * @input: the file to read
 * @output: the file to write
 * @off_in: the offset in @input, or NULL. Not used for tee
 * @off_out: the same for @output
 * @len: the number of bytes of the whole request
 * @flags: SPLICE_F_*
 * @may_wait: this is a worker
 * @moved: the number of bytes that an earlier attempt moved; 0 at first
 * @rest: the number of bytes that are still to be moved, if @moved is not 0
 * @result: the number of bytes, or an error
 */
struct splice_attempt {
	struct file *input;
	struct file *output;
	loff_t *off_in;
	loff_t *off_out;
	size_t len;
	unsigned int flags;
	bool may_wait;
	u32 moved;
	u32 rest;
	ssize_t result;
};

/* Called by io_uring/splice.c. Implemented in fs/splice/ffi.rs. */
enum splice_attempt_next rust_uring_splice(struct splice_attempt *attempt);
enum splice_attempt_next rust_uring_tee(struct splice_attempt *attempt);

/*
 * Functions that fs/pipe.c calls. They are implemented in mm/vmsplice/ffi.rs
 * and rust/kernel/vmsplice/notify.rs.
 */
long rust_pipe_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
void rust_pipe_show_fdinfo(struct seq_file *m, struct file *file);
void rust_pipe_free(struct pipe_inode_info *pipe);

/* Implemented in fs/splice/ffi.rs. */
ssize_t splice_shared_to_pipe(struct pipe_inode_info *pipe,
			      struct splice_pipe_desc *spd);

/* Implemented in net/core/skb_splice.c. */
ssize_t skb_splice_from_bvec(struct sk_buff *skb, struct iov_iter *iter,
			     ssize_t maxsize);

/* Implemented in mm/vmsplice/user_memory.c. */
ssize_t import_user_iov(int type, const struct iovec __user *uvec,
			unsigned int nr_segs, unsigned int fast_segs,
			struct iovec **iovp, struct iov_iter *iter);
bool user_memory_is_dax(unsigned long addr);

/* The value of fs.pipe-user-memory-pages, see mm/vmsplice/sysctl.c. */
extern int pipe_user_memory_pages;

/* Reports that a sink got copies, see fs/splice/policy.c. */
void splice_report_copy(void *sink, unsigned int kind, unsigned int reason,
			size_t bytes);
void splice_report_sink(void *sink);
size_t splice_sink_name(void *sink, char *name, size_t size);

#ifdef CONFIG_SPLICE_CHECK
/* A task that passed a page to a consumer. */
struct splice_check_task {
	char comm[TASK_COMM_LEN];
	pid_t pid;
};

/* Implemented in fs/splice/policy.c and fs/splice/ffi.rs. */
void splice_check_report(struct folio *folio, struct page *page, void *sink,
			 const struct splice_check_task *task, unsigned int age);
void rust_splice_check_scan(void);
void rust_splice_check_clear(void);
#endif

/* fs/internal.h has the same declaration, but only fs/ can include that file. */
ssize_t splice_file_to_pipe(struct file *in, struct pipe_inode_info *opipe,
			    loff_t *offset, size_t len, unsigned int flags);

#endif
