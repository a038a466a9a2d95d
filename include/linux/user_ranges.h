/* SPDX-License-Identifier: GPL-2.0 */
/*
 * User memory as ranges of physically contiguous pages.
 */
#ifndef _LINUX_USER_RANGES_H
#define _LINUX_USER_RANGES_H

#include <linux/mm.h>
#include <linux/types.h>

/* The maximum number of ranges in one struct user_ranges. */
#define USER_RANGES_MAX 16

/**
 * struct user_range - physically contiguous pages of one folio
 * @page:	the first page
 * @nr_pages:	number of pages
 * @large:	whether the folio is large
 */
struct user_range {
	struct page *page;
	unsigned int nr_pages;
	unsigned int large;
};

/**
 * struct user_ranges - ranges of user memory, in the order of their addresses
 * @nr:		number of ranges
 * @next:	the page that would extend the last range, or NULL
 * @range:	the ranges, each of which has one reference or one pin
 */
struct user_ranges {
	unsigned int nr;
	struct page *next;
	struct user_range range[USER_RANGES_MAX];
};

/*
 * Returns whether a page has so many references that no more should be taken,
 * since their number could overflow.
 */
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
