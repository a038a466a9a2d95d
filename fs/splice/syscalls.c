// SPDX-License-Identifier: GPL-2.0
/*
 * The system calls splice(2) and tee(2), and the exports of fs/splice/. This
 * is in C because SYSCALL_DEFINE and EXPORT_SYMBOL are C macros. The logic is in
 * the Rust files.
 */
#include <linux/export.h>
#include <linux/rust_splice.h>
#include <linux/splice.h>
#include <linux/splice_policy.h>
#include <linux/syscalls.h>

DEFINE_PER_CPU(struct splice_counters, splice_counters);
EXPORT_PER_CPU_SYMBOL_GPL(splice_counters);

SYSCALL_DEFINE6(splice, int, fd_in, loff_t __user *, off_in, int, fd_out,
		loff_t __user *, off_out, size_t, len, unsigned int, flags)
{
	return rust_sys_splice(fd_in, off_in, fd_out, off_out, len, flags);
}

SYSCALL_DEFINE4(tee, int, fdin, int, fdout, size_t, len, unsigned int, flags)
{
	return rust_sys_tee(fdin, fdout, len, flags);
}

/*
 * These symbols are defined in Rust. Each has the license that it has in
 * fs/splice.c, so that the same modules can use it.
 */
#define EXPORT(sym, license)	_EXPORT_SYMBOL(sym, license)

EXPORT(splice_to_pipe, "GPL");
EXPORT(add_to_pipe, "");
EXPORT(copy_splice_read, "");
EXPORT(nosteal_pipe_buf_ops, "");
EXPORT(__splice_from_pipe, "");
EXPORT(iter_file_splice_write, "");
EXPORT(vfs_splice_read, "GPL");
EXPORT(splice_direct_to_actor, "");
EXPORT(do_splice_direct, "");
EXPORT(splice_file_range, "");
/* kTLS, which can be a module, lists its protocols. */
EXPORT(splice_list_sink, "GPL");

/*
 * These are defined in Rust or in fs/pipe.c. Inline functions of kernel::pipe
 * use them, and a driver that is a module contains copies of such functions.
 */
EXPORT(alloc_pipe_info, "GPL");
EXPORT(anon_pipe_buf_ops, "GPL");
EXPORT(default_pipe_buf_ops, "GPL");
EXPORT(free_pipe_info, "GPL");
EXPORT(get_pipe_info, "GPL");
EXPORT(page_cache_pipe_buf_ops, "GPL");
EXPORT(pipe_double_lock, "GPL");
EXPORT(pipe_wait_readable, "GPL");
EXPORT(pipe_wait_writable, "GPL");
