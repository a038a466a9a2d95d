// SPDX-License-Identifier: GPL-2.0

#include <linux/fs.h>
#include <linux/pagemap.h>
#include <linux/rust_splice.h>
#include <linux/stat.h>

__rust_helper bool rust_helper_folio_trylock(struct folio *folio)
{
	return folio_trylock(folio);
}

/*
 * Returns the inode if @folio is in the page cache of a regular file that has a
 * name, and NULL otherwise. Stores through a mapping of a file without a name,
 * such as a memfd, can come from a descriptor that i_writecount does not count.
 * The folio must be locked, which keeps the inode.
 */
__rust_helper struct inode *rust_helper_splice_check_inode(struct folio *folio)
{
	struct address_space *mapping;

	if (folio_test_swapcache(folio))
		return NULL;
	mapping = folio_mapping(folio);
	if (!mapping || !S_ISREG(mapping->host->i_mode) ||
	    !mapping->host->i_nlink)
		return NULL;
	return mapping->host;
}

__rust_helper bool rust_helper_splice_check_has_writers(struct inode *inode)
{
	/* Pairs with the full barrier of get_write_access(). */
	smp_mb();
	return inode_is_open_for_write(inode) ||
	       mapping_writably_mapped(inode->i_mapping);
}

/*
 * Returns the time of change. As with stat(2), the next change gets another time
 * then, however soon it comes.
 */
__rust_helper s64 rust_helper_splice_check_ctime(struct inode *inode)
{
	struct kstat stat = {};

	if (is_mgtime(inode))
		fill_mg_cmtime(&stat, STATX_CTIME, inode);
	else
		stat.ctime = inode_get_ctime(inode);
	return timespec64_to_ns(&stat.ctime);
}

__rust_helper struct splice_check_task rust_helper_splice_check_current(void)
{
	struct splice_check_task task = { .pid = task_pid_nr(current) };

	strscpy(task.comm, current->comm);
	return task;
}
