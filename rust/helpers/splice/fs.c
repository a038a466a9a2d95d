// SPDX-License-Identifier: GPL-2.0

#include <linux/fs.h>

__rust_helper void rust_helper_init_sync_kiocb(struct kiocb *kiocb,
					       struct file *file)
{
	init_sync_kiocb(kiocb, file);
}

__rust_helper bool rust_helper_file_is_dax(const struct file *file)
{
	return IS_DAX(file->f_mapping->host);
}

__rust_helper void rust_helper_file_start_write(struct file *file)
{
	file_start_write(file);
}

__rust_helper void rust_helper_file_end_write(struct file *file)
{
	file_end_write(file);
}

__rust_helper void rust_helper_file_assert_write_started(struct file *file)
{
	lockdep_assert(file_write_started(file));
}

__rust_helper void rust_helper_file_accessed(struct file *file)
{
	file_accessed(file);
}
