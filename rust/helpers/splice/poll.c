// SPDX-License-Identifier: GPL-2.0

#include <linux/poll.h>

__rust_helper __poll_t rust_helper_vfs_poll(struct file *file,
					    struct poll_table_struct *pt)
{
	return vfs_poll(file, pt);
}
