// SPDX-License-Identifier: GPL-2.0

#include <linux/fs.h>
#include <linux/pipe_fs_i.h>
#include <linux/splice.h>

__rust_helper void rust_helper_init_sync_kiocb(struct kiocb *kiocb,
					       struct file *file)
{
	init_sync_kiocb(kiocb, file);
}

__rust_helper bool rust_helper_file_is_dax(const struct file *file)
{
	return IS_DAX(file->f_mapping->host);
}

__rust_helper loff_t rust_helper_file_size(const struct file *file)
{
	return i_size_read(file->f_mapping->host);
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

/* Whether a splice_write() asks itself who may be handed pages, or is NULL. */
__rust_helper bool
rust_helper_splice_write_asks(ssize_t (*splice_write)(struct pipe_inode_info *,
						      struct file *, loff_t *,
						      size_t, unsigned int))
{
#ifdef CONFIG_NET
	if (splice_write == splice_to_socket)
		return true;
#endif
	return splice_write == iter_file_splice_write || !splice_write;
}
