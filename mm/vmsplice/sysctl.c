// SPDX-License-Identifier: GPL-2.0
/*
 * The sysctl fs.pipe-user-memory-pages. It is C code because sysctl tables are;
 * rust/kernel/vmsplice/charge.rs uses the value.
 */
#include <linux/init.h>
#include <linux/rust_splice.h>
#include <linux/sysctl.h>

/*
 * The number of pages of user memory that one user may have in pipes.
 * vmsplice(2) copies what exceeds it. -1 means that there is no limit, and
 * nothing is counted.
 */
int pipe_user_memory_pages __read_mostly = -1;

static const struct ctl_table vmsplice_sysctls[] = {
	{
		.procname	= "pipe-user-memory-pages",
		.data		= &pipe_user_memory_pages,
		.maxlen		= sizeof(pipe_user_memory_pages),
		.mode		= 0644,
		.proc_handler	= proc_dointvec_minmax,
		.extra1		= SYSCTL_NEG_ONE,
	},
};

static int __init vmsplice_sysctl_init(void)
{
	register_sysctl_init("fs", vmsplice_sysctls);
	return 0;
}
fs_initcall(vmsplice_sysctl_init);
