// SPDX-License-Identifier: GPL-2.0
/*
 * Splicing from the page cache: one buffer of the pipe, with one reference, for
 * each contiguous range of a folio.
 */

#include <linux/pagemap.h>
#include <linux/pipe_fs_i.h>
#include <linux/splice.h>

#include "internal.h"

/* The most folios that one call of filemap_splice_cached() takes. */
#define SPLICE_CACHED_MAX 256

/*
 * One buffer, with one reference to the folio, for all pages. It takes one slot
 * for each of them. The reference is the caller's, and is dropped if there is no
 * free slot.
 */
static __always_inline size_t
splice_folio_ref_into_pipe(struct pipe_inode_info *pipe, struct folio *folio,
			   loff_t fpos, size_t size)
{
	size_t offset = offset_in_page(fpos);
	unsigned int head = pipe->head, slots = 1, flags = 0;
	struct page *page = &folio->page;

	if (pipe_is_full(pipe)) {
		folio_put(folio);
		return 0;
	}
	if (folio_test_large(folio)) {
		size_t start = offset_in_folio(folio, fpos);
		size_t room = pipe->max_usage - pipe_buf_usage(pipe);

		page = folio_page(folio, start / PAGE_SIZE);
		size = min(size, folio_size(folio) - start);
		size = min(size, room * PAGE_SIZE - offset);
		slots = DIV_ROUND_UP(offset + size, PAGE_SIZE);
		if (slots > 1) {
			flags = PIPE_BUF_FLAG_PAGES;
			/* write(2) looks there whether it can append. */
			pipe_buf(pipe, head + slots - 1)->flags = 0;
		}
	} else {
		size = min(size, PAGE_SIZE - offset);
	}

	*pipe_buf(pipe, head) = (struct pipe_buffer) {
		.ops	= &page_cache_pipe_buf_ops,
		.page	= page,
		.offset	= offset,
		.len	= size,
		.flags	= flags,
	};
	pipe->head = head + slots;
	return size;
}

size_t splice_folio_into_pipe(struct pipe_inode_info *pipe,
			      struct folio *folio, loff_t fpos, size_t size)
{
	folio_get(folio);
	return splice_folio_ref_into_pipe(pipe, folio, fpos, size);
}

/*
 * Splices what is in the page cache at @pos and can be used as it is. The
 * reference of the lookup goes into the pipe. Nothing needs the folio's lock: a
 * folio that is truncated after the lookup is the same as one that is truncated
 * while it is in the pipe. Returns the number of bytes: 0 if the caller has to
 * get the folio at @pos, or if the pipe is full.
 */
size_t filemap_splice_cached(struct address_space *mapping, loff_t pos,
			     struct pipe_inode_info *pipe, size_t len)
{
	XA_STATE(xas, &mapping->i_pages, pos >> PAGE_SHIFT);
	loff_t start = pos, end = pos + len;
	/* Bounds the time in which this CPU does not schedule. */
	unsigned int folios = SPLICE_CACHED_MAX;
	struct folio *folio;

	rcu_read_lock();
	for (folio = xas_load(&xas); folio; folio = xas_next(&xas)) {
		size_t n;

		if (xas_retry(&xas, folio))
			continue;
		if (xa_is_value(folio) || xa_is_sibling(folio))
			break;
		if (!folio_try_get(folio)) {
			xas_reset(&xas);
			continue;
		}
		if (unlikely(folio != xas_reload(&xas))) {
			folio_put(folio);
			xas_reset(&xas);
			continue;
		}
		if (!folio_test_uptodate(folio) ||
		    folio_test_readahead(folio) ||
		    folio_contain_hwpoisoned_page(folio)) {
			folio_put(folio);
			break;
		}
		/* Read after the test for uptodate: see filemap_splice_read(). */
		end = min(end, i_size_read(mapping->host));
		if (pos >= end) {
			folio_put(folio);
			break;
		}
		folio_mark_accessed(folio);
		if (mapping_writably_mapped(mapping))
			flush_dcache_folio(folio);
		n = splice_folio_ref_into_pipe(pipe, folio, pos, end - pos);
		pos += n;
		if (!n || pos >= end || !--folios)
			break;
		if (folio_test_large(folio))
			xas_advance(&xas, folio_next_index(folio) - 1);
	}
	rcu_read_unlock();
	return pos - start;
}
