/* SPDX-License-Identifier: GPL-2.0 */
/*
 * User memory as ranges of physically contiguous pages.
 */
#ifndef _LINUX_USER_RANGES_H
#define _LINUX_USER_RANGES_H

#include <linux/mm.h>
#include <linux/types.h>

/* How many ranges there can be in one struct user_ranges. */
#define USER_RANGES_MAX 16

/**
 * struct user_range - physically contiguous pages of one folio
 * @page:	the first page
 * @nr_pages:	number of pages
 * @large:	whether the folio is a large one
 */
struct user_range {
	struct page *page;
	unsigned int nr_pages;
	unsigned int large;
};

/**
 * struct user_ranges - user memory, in the order of its addresses
 * @nr:		number of ranges
 * @next:	the page that would make the last range longer, or NULL
 * @range:	the ranges; there is one reference, or pin, for each
 */
struct user_ranges {
	unsigned int nr;
	struct page *next;
	struct user_range range[USER_RANGES_MAX];
};

/* Whether the count of a page's references is too near to its end for more. */
static inline bool user_range_refs_exhausted(const struct page *page)
{
	return page_ref_count(page) > INT_MAX / 2;
}

#ifdef CONFIG_GUP_RANGES
unsigned long get_user_ranges_fast_only(unsigned long start,
					unsigned long nr_pages,
					struct user_ranges *ranges);
unsigned long pin_user_ranges_fast_only(unsigned long start,
					unsigned long nr_pages,
					struct user_ranges *ranges);
#endif

#endif
