// SPDX-License-Identifier: GPL-2.0
/*
 * The system call vmsplice(2). It is C code because SYSCALL_DEFINE is a C
 * macro; mm/vmsplice/entry.rs does the work.
 */
#include <linux/rust_splice.h>
#include <linux/syscalls.h>

SYSCALL_DEFINE4(vmsplice, int, fd, const struct iovec __user *, uiov,
		unsigned long, nr_segs, unsigned int, flags)
{
	return rust_sys_vmsplice(fd, uiov, nr_segs, flags);
}
