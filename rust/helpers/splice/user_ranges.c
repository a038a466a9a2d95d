// SPDX-License-Identifier: GPL-2.0

#include <linux/user_ranges.h>

__rust_helper bool rust_helper_user_range_refs_exhausted(struct page *page)
{
	return user_range_refs_exhausted(page);
}
