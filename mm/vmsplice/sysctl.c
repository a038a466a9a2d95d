// SPDX-License-Identifier: GPL-2.0
/*
 * fs.pipe-user-memory-pages. C because the tables of sysctls are; the value is
 * used by rust/kernel/mm/gup.rs.
 */
#include <linux/init.h>
#include <linux/rust_splice.h>
#include <linux/sysctl.h>

/*
 * How many pages of user memory one user may have in pipes; above it vmsplice(2)
 * copies. -1: there is no limit, and nothing is counted.
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
