// SPDX-License-Identifier: GPL-2.0

#include <linux/highmem.h>
#include <linux/uaccess.h>

/*
 * Copies @len bytes at @offset of @from to @at of @to. Returns false if the
 * memory is damaged (a machine check).
 */
__rust_helper bool rust_helper_copy_page_part(struct page *to, size_t at,
					      struct page *from, size_t offset,
					      size_t len)
{
	char *vto = kmap_local_page(to);
	char *vfrom = kmap_local_page(from);
	unsigned long left = copy_mc_to_kernel(vto + at, vfrom + offset, len);

	kunmap_local(vfrom);
	kunmap_local(vto);
	return !left;
}
