/* SPDX-License-Identifier: GPL-2.0 */
/*
 * User memory, pinned by physically contiguous ranges.
 */
#ifndef _LINUX_USER_RANGES_H
#define _LINUX_USER_RANGES_H

#include <linux/types.h>

struct page;

/* How many ranges there can be in one struct user_ranges. */
#define USER_RANGES_MAX 16

/**
 * struct user_ranges - pinned user memory, the pages of one address range in order
 * @total:	number of pages
 * @nr:		number of ranges
 * @large:	for each range, a bit: 0 where it is all of a folio that is not large
 * @nr_pages:	for each range, number of pages; these are contiguous, and of one folio
 * @pages:	for each range, its first page; there is one pin on the folio
 */
struct user_ranges {
	unsigned long total;
	unsigned int nr;
	unsigned int large;
	unsigned int nr_pages[USER_RANGES_MAX];
	struct page *pages[USER_RANGES_MAX];
};

long pin_user_ranges(unsigned long start, unsigned long nr_pages,
		     struct user_ranges *ranges);
void unpin_user_ranges(struct user_ranges *ranges);
bool user_memory_is_secret(unsigned long addr);

#endif
