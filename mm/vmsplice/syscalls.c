// SPDX-License-Identifier: GPL-2.0
/*
 * vmsplice(2). C because the macro is; nothing is decided here.
 */
#include <linux/rust_splice.h>
#include <linux/syscalls.h>

SYSCALL_DEFINE4(vmsplice, int, fd, const struct iovec __user *, uiov,
		unsigned long, nr_segs, unsigned int, flags)
{
	return rust_sys_vmsplice(fd, uiov, nr_segs, flags);
}
