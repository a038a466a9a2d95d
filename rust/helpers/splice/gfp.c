// SPDX-License-Identifier: GPL-2.0

#include <linux/gfp.h>

__rust_helper unsigned long
rust_helper_alloc_pages_bulk(gfp_t gfp, unsigned long nr, struct page **pages)
{
	return alloc_pages_bulk(gfp, nr, pages);
}
