// SPDX-License-Identifier: GPL-2.0

#include <linux/fsnotify.h>

__rust_helper void rust_helper_fsnotify_access(struct file *file)
{
	fsnotify_access(file);
}

__rust_helper void rust_helper_fsnotify_modify(struct file *file)
{
	fsnotify_modify(file);
}
