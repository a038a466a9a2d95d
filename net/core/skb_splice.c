// SPDX-License-Identifier: GPL-2.0
/*
 * Splicing into a socket buffer: one frag, with one reference, for each
 * contiguous range of a folio.
 */

#include <linux/bvec.h>
#include <linux/mm.h>
#include <linux/rust_splice.h>
#include <linux/skbuff.h>
#include <linux/uio.h>
#include <net/hotdata.h>

/* Whether @size bytes at @offset of @page continue @frag in the same folio. */
static bool frag_is_continued(const skb_frag_t *frag, struct page *page,
			      size_t offset, size_t size)
{
	struct page *first = skb_frag_page(frag);
	size_t end = skb_frag_off(frag) + skb_frag_size(frag);

	/* Some devices cannot map more in one piece. */
	if (skb_frag_size(frag) + size > SZ_64K)
		return false;
	return first && page_folio(first) == page_folio(page) &&
	       first + end / PAGE_SIZE == page && end % PAGE_SIZE == offset;
}

/**
 * skb_splice_from_bvec - splice contiguous ranges of pages to a socket buffer
 * @skb: the buffer, whose checksum is not computed here
 * @iter: an ITER_BVEC iterator with the pages, which is advanced
 * @maxsize: the number of bytes wanted
 *
 * Does what skb_splice_from_iter() does. The pages of a bio_vec are contiguous,
 * but may belong to several folios. One reference is taken for those of a folio.
 *
 * Return: the number of bytes, or -EMSGSIZE if @skb has no room for a frag.
 */
ssize_t skb_splice_from_bvec(struct sk_buff *skb, struct iov_iter *iter,
			     ssize_t maxsize)
{
	size_t frag_limit = READ_ONCE(net_hotdata.sysctl_max_skb_frags);
	ssize_t spliced = 0, ret = 0;

	/* As much as with one frag for each page. */
	maxsize = min_t(ssize_t, maxsize, MAX_SKB_FRAGS * PAGE_SIZE);
	while (iter->count > 0 && maxsize > 0) {
		const struct bio_vec *bvec = iter->bvec;
		size_t offset = bvec->bv_offset + iter->iov_offset;
		size_t size = bvec->bv_len - iter->iov_offset;
		skb_frag_t *frags = skb_shinfo(skb)->frags;
		int i = skb_shinfo(skb)->nr_frags;
		struct folio *folio;
		struct page *page;

		if (!size) {
			/* Steps over empty elements. */
			iov_iter_advance(iter, 0);
			continue;
		}
		page = bvec->bv_page + offset / PAGE_SIZE;
		folio = page_folio(page);
		offset %= PAGE_SIZE;
		size = min3(size, iter->count, (size_t)maxsize);
		size = min(size, folio_size(folio) - offset -
				 folio_page_idx(folio, page) * PAGE_SIZE);

		if (WARN_ON_ONCE(!sendpage_ok(page))) {
			ret = -EIO;
			break;
		}
		if (i && !skb_zcopy(skb) &&
		    frag_is_continued(&frags[i - 1], page, offset, size)) {
			skb_frag_size_add(&frags[i - 1], size);
		} else if (i < frag_limit) {
			skb_zcopy_downgrade_managed(skb);
			folio_get(folio);
			skb_fill_page_desc_noacc(skb, i, page, offset, size);
		} else {
			ret = -EMSGSIZE;
			break;
		}
		iov_iter_advance(iter, size);
		spliced += size;
		maxsize -= size;
	}

	skb_len_add(skb, spliced);
	return spliced ?: ret;
}
