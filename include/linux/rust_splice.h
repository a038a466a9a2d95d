/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the C and the Rust parts of splice share.
 */
#ifndef _LINUX_RUST_SPLICE_H
#define _LINUX_RUST_SPLICE_H

#include <linux/fs.h>
#include <linux/percpu.h>
#include <linux/splice.h>
#include <linux/types.h>

struct iovec;
struct pipe_inode_info;
struct seq_file;

/* Room for the counters of rust/kernel/splice/counters.rs. */
#define SPLICE_NR_COUNTERS 32

struct splice_counters {
	u64 items[SPLICE_NR_COUNTERS];
};

DECLARE_PER_CPU(struct splice_counters, splice_counters);

/*
 * In file_operations::fop_flags: a driver's stream, without positions, for which
 * an offset is not one of the wrong kind (EINVAL) but one too many (ESPIPE). Far
 * from the bits of fs.h.
 */
#define FOP_SPLICE_STREAM	((__force fop_flags_t)(1U << 31))

/* The system calls: fs/splice/ffi.rs and mm/vmsplice/ffi.rs. */
ssize_t rust_sys_splice(int fd_in, loff_t __user *off_in, int fd_out,
			loff_t __user *off_out, size_t len, unsigned int flags);
ssize_t rust_sys_tee(int fd_in, int fd_out, size_t len, unsigned int flags);
ssize_t rust_sys_vmsplice(int fd, const struct iovec __user *uiov,
			  unsigned long nr_segs, unsigned int flags);

/* For fs/pipe.c: mm/vmsplice/ffi.rs and rust/kernel/pipe.rs. */
long rust_pipe_ioctl(struct file *file, unsigned int cmd, unsigned long arg);
void rust_pipe_show_fdinfo(struct seq_file *m, struct file *file);
void rust_pipe_free(struct pipe_inode_info *pipe);

/* fs.pipe-user-memory-pages: mm/vmsplice/sysctl.c. */
extern int pipe_user_memory_pages;

/* fs/internal.h has the same, which only fs/ can include. */
ssize_t splice_file_to_pipe(struct file *in, struct pipe_inode_info *opipe,
			    loff_t *offset, size_t len, unsigned int flags);

#endif
