// SPDX-License-Identifier: GPL-2.0

#include <linux/file.h>

__rust_helper struct file *rust_helper_fd_to_file(struct fd fd)
{
	return fd_file(fd);
}

__rust_helper void rust_helper_fdput(struct fd fd)
{
	fdput(fd);
}
