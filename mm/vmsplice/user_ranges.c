// SPDX-License-Identifier: GPL-2.0
/*
 * Pins user memory by physically contiguous ranges: one lookup and one pin for
 * what a large folio has of it. A part of mm/gup.c, which includes this file,
 * for the sake of what is static there.
 */
#include <linux/secretmem.h>
#include <linux/user_ranges.h>

#define RANGE_FLAGS (FOLL_PIN | FOLL_LONGTERM)

static_assert(BITS_PER_TYPE(typeof_member(struct user_ranges, large)) >=
	      USER_RANGES_MAX);

/*
 * @ranges:	what was found so far, but for their number
 * @nr:		their number
 * @next:	the page that would make the last range longer, if any would
 * @addr:	how far this has come
 * @pgdat:	the node that @count pins are to be counted for
 */
struct range_walk {
	struct user_ranges *ranges;
	unsigned int nr;
	struct page *next;
	unsigned long addr;
	struct pglist_data *pgdat;
	unsigned int count;
};

static __always_inline void range_count_flush(struct range_walk *walk)
{
	if (walk->count)
		mod_node_page_state(walk->pgdat, NR_FOLL_PIN_ACQUIRED,
				    walk->count);
	walk->count = 0;
}

/* The pages from @page on are the last range, and of large folio @folio. */
static __always_inline void range_set_next(struct range_walk *walk,
					   struct folio *folio,
					   struct page *page,
					   unsigned int nr_pages)
{
	walk->next = NULL;
	if (folio_page_idx(folio, page) + nr_pages < folio_nr_pages(folio))
		walk->next = page + nr_pages;
}

/* There is another range, which is pinned. */
static __always_inline void range_begin(struct range_walk *walk,
					struct folio *folio, bool large,
					struct page *page, unsigned int nr_pages)
{
	unsigned int nr = walk->nr;

	walk->ranges->pages[nr] = page;
	walk->ranges->nr_pages[nr] = nr_pages;
	walk->nr = nr + 1;
	walk->next = NULL;
	if (large) {
		walk->ranges->large |= BIT(nr);
		range_set_next(walk, folio, page, nr_pages);
	}
}

/* The last range goes on. */
static __always_inline void range_extend(struct range_walk *walk,
					 unsigned int nr_pages)
{
	unsigned int *last = &walk->ranges->nr_pages[walk->nr - 1];
	struct page *page = walk->ranges->pages[walk->nr - 1];

	*last += nr_pages;
	range_set_next(walk, page_folio(page), page, *last);
}

#ifdef CONFIG_HAVE_GUP_FAST
/*
 * As try_grab_folio_fast() for RANGE_FLAGS and one reference, but the pin is taken
 * at once, before it is known that the page is of the folio still, and counted
 * together with others. NULL also where there is no room for another range.
 */
static __always_inline struct folio *range_pin(struct range_walk *walk,
					       struct page *page, bool writable,
					       bool *is_large)
{
	struct folio *folio = page_folio(page);
	bool large = folio_test_large(folio);
	int refs = large ? 1 : GUP_PIN_COUNTING_BIAS;

	*is_large = large;
	if (unlikely(walk->nr == USER_RANGES_MAX))
		return NULL;
	/*
	 * Nobody pins the zero page, so there would be nothing to give back. No
	 * entry that allows writing is for that.
	 */
	if (unlikely(is_pci_p2pdma_page(page)) ||
	    (!writable && is_zero_page(page)))
		return NULL;
	if (unlikely(!folio_ref_try_add(folio, refs)))
		return NULL;
	/* It may have been split, or freed and used for something else. */
	if (unlikely(page_folio(page) != folio) ||
	    unlikely(folio_test_large(folio) != large) ||
	    unlikely(folio_ref_count(folio) < 0) ||
	    unlikely(!folio_is_longterm_pinnable(folio))) {
		folio_put_refs(folio, refs);
		return NULL;
	}
	if (large && folio_has_pincount(folio))
		atomic_inc(&folio->_pincount);
	else if (large)
		folio_ref_add(folio, GUP_PIN_COUNTING_BIAS - 1);
	/* Pairs with the barrier in folio_try_share_anon_rmap_*(). */
	smp_mb__after_atomic();

	if (unlikely(folio_pgdat(folio) != walk->pgdat)) {
		range_count_flush(walk);
		walk->pgdat = folio_pgdat(folio);
	}
	walk->count++;
	return folio;
}

/* As gup_fast_folio_allowed(); what it is about are small folios of files. */
static __always_inline bool range_allowed(struct folio *folio, bool large)
{
	return large || folio_test_anon(folio) ||
	       gup_fast_folio_allowed(folio, RANGE_FLAGS);
}

/*
 * Begins a range of @nr_pages from @page on, which range_pin() pinned; or gives
 * that back. @good: the entry of the page table was the same afterwards, and the
 * pages need not be made the task's own first.
 */
static __always_inline bool range_add(struct range_walk *walk,
				      struct folio *folio, bool large,
				      struct page *page, unsigned int nr_pages,
				      bool good)
{
	if (unlikely(!good) || unlikely(!range_allowed(folio, large)) ||
	    arch_make_folio_accessible(folio)) {
		gup_put_folio(folio, 1, FOLL_PIN);
		return false;
	}
	folio_set_referenced(folio);
	range_begin(walk, folio, large, page, nr_pages);
	return true;
}

typedef bool (*range_recheck_t)(const void *entry);

/*
 * For an entry of a page table with @nr_pages from @page on, of which @anon says
 * whether they are the task's own: makes the last range longer, or begins one.
 * False where the fast way ends.
 *
 * @recheck reads the entry at @entry again. Where the folio is pinned already the
 * entry was read after that, which comes to the same.
 */
static __always_inline bool range_found(struct range_walk *walk,
					struct page *page, unsigned int nr_pages,
					bool writable, struct page *anon,
					range_recheck_t recheck,
					const void *entry)
{
	struct folio *folio;
	bool large, good;

	if (page == walk->next) {
		if (!writable && gup_must_unshare(NULL, RANGE_FLAGS, anon))
			return false;
		range_extend(walk, nr_pages);
		return true;
	}
	folio = range_pin(walk, page, writable, &large);
	if (unlikely(!folio))
		return false;
	/* In this order: an entry that has changed says nothing of the page. */
	good = recheck(entry);
	good = good && (writable || !gup_must_unshare(NULL, RANGE_FLAGS, anon));
	return range_add(walk, folio, large, page, nr_pages, good);
}

#ifdef CONFIG_ARCH_HAS_PTE_SPECIAL
struct range_pte {
	pmd_t pmd, *pmdp;
	pte_t pte, *ptep;
};

static __always_inline bool range_pte_same(const void *entry)
{
	const struct range_pte *e = entry;

	return pmd_val(e->pmd) == pmd_val(pmdp_get_lockless(e->pmdp)) &&
	       pte_val(e->pte) == pte_val(ptep_get_lockless(e->ptep));
}

static __always_inline bool range_ptes(struct range_walk *walk, pmd_t pmd,
				       pmd_t *pmdp, unsigned long end)
{
	pte_t *ptep, *first;

	/* As pte_offset_map(), whose other checks were made. */
	if (unlikely(pmd_bad(pmd)))
		return false;
	rcu_read_lock();
	first = __pte_map(&pmd, walk->addr);
	ptep = first;
	do {
		pte_t pte = ptep_get_lockless(ptep);
		struct range_pte entry = { pmd, pmdp, pte, ptep };
		struct page *page;

		if (pte_protnone(pte) || !pte_access_permitted(pte, false) ||
		    pte_special(pte))
			break;
		page = pte_page(pte);
		if (!range_found(walk, page, 1, pte_write(pte), page,
				 range_pte_same, &entry))
			break;
	} while (ptep++, walk->addr += PAGE_SIZE, walk->addr != end);
	pte_unmap(first);
	return walk->addr == end;
}
#else
static bool range_ptes(struct range_walk *walk, pmd_t pmd, pmd_t *pmdp,
		       unsigned long end)
{
	return false;
}
#endif

struct range_pud {
	pud_t pud, *pudp;
};

static __always_inline bool range_pud_same(const void *entry)
{
	const struct range_pud *e = entry;

	return pud_val(e->pud) == pud_val(pudp_get(e->pudp));
}

struct range_pmd {
	pmd_t pmd, *pmdp;
};

static __always_inline bool range_pmd_same(const void *entry)
{
	const struct range_pmd *e = entry;

	return pmd_val(e->pmd) == pmd_val(pmdp_get_lockless(e->pmdp));
}

/*
 * Goes down from the top for each entry of the next to last level: what that
 * costs is little beside what there is to be done for one.
 */
static __always_inline void range_walk_tables(struct range_walk *walk,
					      unsigned long end)
{
	struct mm_struct *mm = current->mm;

	do {
		unsigned long addr = walk->addr, next;
		pgd_t *pgdp = pgd_offset(mm, addr), pgd = pgdp_get(pgdp);
		struct page *page;
		p4d_t *p4dp, p4d;
		pud_t *pudp, pud;
		pmd_t *pmdp, pmd;

		if (pgd_none(pgd))
			return;
		p4dp = p4d_offset_lockless(pgdp, pgd, addr);
		p4d = p4dp_get(p4dp);
		if (!p4d_present(p4d))
			return;
		pudp = pud_offset_lockless(p4dp, p4d, addr);
		pud = pudp_get(pudp);
		if (!pud_present(pud))
			return;
		if (unlikely(pud_leaf(pud))) {
			next = pud_addr_end(addr, end);
			if (!pud_access_permitted(pud, false) || pud_special(pud))
				return;
			page = pud_page(pud) + ((addr & ~PUD_MASK) >> PAGE_SHIFT);
			if (!range_found(walk, page, (next - addr) >> PAGE_SHIFT,
					 pud_write(pud), &page_folio(page)->page,
					 range_pud_same,
					 &(struct range_pud){ pud, pudp }))
				return;
			walk->addr = next;
			continue;
		}

		next = pmd_addr_end(addr, end);
		pmdp = pmd_offset_lockless(pudp, pud, addr);
		pmd = pmdp_get_lockless(pmdp);
		if (!pmd_present(pmd))
			return;
		if (!pmd_leaf(pmd)) {
			if (!range_ptes(walk, pmd, pmdp, next))
				return;
			continue;
		}
		if (pmd_protnone(pmd) || !pmd_access_permitted(pmd, false) ||
		    pmd_special(pmd))
			return;
		page = pmd_page(pmd) + ((addr & ~PMD_MASK) >> PAGE_SHIFT);
		if (!range_found(walk, page, (next - addr) >> PAGE_SHIFT,
				 pmd_write(pmd), &page_folio(page)->page,
				 range_pmd_same,
				 &(struct range_pmd){ pmd, pmdp }))
			return;
		walk->addr = next;
	} while (walk->addr != end);
}

/* There was a fork: what was found since then may be shared by now. */
static noinline void range_undo(struct user_ranges *ranges, unsigned int found,
				unsigned int nr, unsigned int last)
{
	while (found > nr)
		gup_put_folio(page_folio(ranges->pages[--found]), 1, FOLL_PIN);
	if (nr)
		ranges->nr_pages[nr - 1] = last;
}

/* As gup_fast(). Where it gets nowhere, the slow way is next. */
static __always_inline void pin_user_ranges_fast(struct range_walk *result,
						 unsigned long end)
{
	struct range_walk walk = *result;
	struct user_ranges *ranges = walk.ranges;
	unsigned int nr = walk.nr;
	unsigned int last = nr ? ranges->nr_pages[nr - 1] : 0;
	unsigned long flags;
	unsigned int seq;

	if (!gup_fast_permitted(walk.addr, end))
		return;
	if (!raw_seqcount_try_begin(&current->mm->write_protect_seq, seq))
		return;

	local_irq_save(flags);
	range_walk_tables(&walk, end);
	local_irq_restore(flags);
	range_count_flush(&walk);

	if (unlikely(read_seqcount_retry(&current->mm->write_protect_seq, seq))) {
		range_undo(ranges, walk.nr, nr, last);
		result->next = NULL;
		return;
	}
	sanity_check_pinned_pages(ranges->pages + nr, walk.nr - nr);
	*result = walk;
}

/*
 * Pins the huge page at @addr, where one entry maps it that allows writing: then it
 * is neither shared since a fork nor the zero page.
 */
static __always_inline struct folio *
pmd_leaf_pin(struct mm_struct *mm, unsigned long addr, struct page **pagep)
{
	pgd_t *pgdp = pgd_offset(mm, addr), pgd = pgdp_get(pgdp);
	struct folio *folio;
	struct page *page;
	p4d_t *p4dp, p4d;
	pud_t *pudp, pud;
	pmd_t *pmdp, pmd;

	if (pgd_none(pgd))
		return NULL;
	p4dp = p4d_offset_lockless(pgdp, pgd, addr);
	p4d = p4dp_get(p4dp);
	if (!p4d_present(p4d))
		return NULL;
	pudp = pud_offset_lockless(p4dp, p4d, addr);
	pud = pudp_get(pudp);
	if (!pud_present(pud) || pud_leaf(pud))
		return NULL;
	pmdp = pmd_offset_lockless(pudp, pud, addr);
	pmd = pmdp_get_lockless(pmdp);
	if (!pmd_present(pmd) || !pmd_leaf(pmd))
		return NULL;
	if (!pmd_access_permitted(pmd, false) || !pmd_write(pmd) ||
	    pmd_protnone(pmd) || pmd_special(pmd))
		return NULL;

	page = pmd_page(pmd) + ((addr & ~PMD_MASK) >> PAGE_SHIFT);
	folio = page_folio(page);
	if (unlikely(is_pci_p2pdma_page(page)) ||
	    unlikely(!folio_ref_try_add(folio, 1)))
		return NULL;
	/* As in range_pin(). */
	if (unlikely(page_folio(page) != folio) ||
	    unlikely(!folio_has_pincount(folio)) ||
	    unlikely(folio_ref_count(folio) < 0) ||
	    unlikely(!folio_is_longterm_pinnable(folio))) {
		folio_put(folio);
		return NULL;
	}
	atomic_inc(&folio->_pincount);
	/* Likewise. */
	smp_mb__after_atomic();
	if (unlikely(pmd_val(pmd) != pmd_val(pmdp_get_lockless(pmdp)))) {
		atomic_dec(&folio->_pincount);
		folio_put(folio);
		return NULL;
	}
	folio_set_referenced(folio);
	*pagep = page;
	return folio;
}

/*
 * pin_user_ranges() for a part of one huge page; false: it is not. By itself, this
 * is few enough values for the registers of the processor.
 */
static __always_inline bool pin_user_pmd_leaf(unsigned long start,
					      unsigned long end,
					      struct user_ranges *ranges)
{
	unsigned int nr_pages = (end - start) >> PAGE_SHIFT;
	struct mm_struct *mm = current->mm;
	struct folio *folio;
	struct page *page;
	unsigned long flags;
	unsigned int seq;

	if (((start ^ (end - 1)) & PMD_MASK) || !gup_fast_permitted(start, end))
		return false;
	if (!raw_seqcount_try_begin(&mm->write_protect_seq, seq))
		return false;

	local_irq_save(flags);
	folio = pmd_leaf_pin(mm, start, &page);
	local_irq_restore(flags);
	if (!folio)
		return false;

	mod_node_page_state(folio_pgdat(folio), NR_FOLL_PIN_ACQUIRED, 1);
	if (unlikely(read_seqcount_retry(&mm->write_protect_seq, seq))) {
		gup_put_folio(folio, 1, FOLL_PIN);
		return false;
	}
	ranges->pages[0] = page;
	ranges->nr_pages[0] = nr_pages;
	ranges->large = 1;
	ranges->nr = 1;
	ranges->total = nr_pages;
	sanity_check_pinned_pages(ranges->pages, 1);
	return true;
}
#else
static void pin_user_ranges_fast(struct range_walk *walk, unsigned long end)
{
}

static bool pin_user_pmd_leaf(unsigned long start, unsigned long end,
			      struct user_ranges *ranges)
{
	return false;
}
#endif

/* Brings pages into memory and pins them. Returns how many, or an error. */
static noinline long pin_user_ranges_slow(struct range_walk *walk,
					  unsigned long end)
{
	struct page *pages[USER_RANGES_MAX];
	unsigned int room = USER_RANGES_MAX - walk->nr;
	long i, nr;

	nr = min_t(unsigned long, (end - walk->addr) >> PAGE_SHIFT, room);
	if (!nr)
		return 0;
	nr = pin_user_pages_unlocked(walk->addr, nr, pages, FOLL_LONGTERM);
	for (i = 0; i < nr; i++) {
		struct folio *folio = page_folio(pages[i]);

		if (is_zero_folio(folio)) {
			unpin_user_pages(pages + i, nr - i);
			return i ? i : -EFAULT;
		}
		if (pages[i] == walk->next) {
			/* There is a pin for these already. */
			gup_put_folio(folio, 1, FOLL_PIN);
			range_extend(walk, 1);
		} else {
			range_begin(walk, folio, folio_test_large(folio),
				    pages[i], 1);
		}
		walk->addr += PAGE_SIZE;
	}
	/* Entries for more of the last folio are read after this; see range_pin(). */
	smp_mb();
	return nr;
}

/* pin_user_ranges() for whatever there is between two pages' addresses. */
static noinline long pin_user_ranges_general(unsigned long start,
					     unsigned long end,
					     struct user_ranges *ranges)
{
	struct range_walk walk = { .ranges = ranges, .addr = start };
	long ret;

	ranges->large = 0;
	for (;;) {
		pin_user_ranges_fast(&walk, end);
		if (walk.addr == end || walk.nr == USER_RANGES_MAX)
			break;
		ret = pin_user_ranges_slow(&walk, end);
		if (ret <= 0 && walk.addr == start)
			return ret ?: -EFAULT;
		if (ret <= 0 || walk.addr == end)
			break;
	}
	ranges->nr = walk.nr;
	ranges->total = (walk.addr - start) >> PAGE_SHIFT;
	return ranges->total;
}

/* pin_user_ranges() for more than one page. */
static noinline long pin_user_ranges_leaf_first(unsigned long start,
						unsigned long end,
						struct user_ranges *ranges)
{
	if (pin_user_pmd_leaf(start, end, ranges))
		return ranges->total;
	return pin_user_ranges_general(start, end, ranges);
}

/**
 * pin_user_ranges() - pin user memory for reading, possibly for long
 * @start:	address in user space; what is before in its page is pinned as well
 * @nr_pages:	number of pages from @start on, not 0
 * @ranges:	receives the ranges
 *
 * As pin_user_pages_fast() with FOLL_LONGTERM, but with one pin for each range
 * of contiguous pages of a folio. An anonymous page that is shared since a fork
 * is given to the caller alone, and so is a page of a private mapping of a file.
 * The zero page cannot be pinned.
 * May sleep. Give back with unpin_user_ranges().
 *
 * Return: the number of pages; fewer than @nr_pages where these are more ranges
 * than there is room for, or where pages cannot be pinned. Where that is so for
 * the first one, an error of pin_user_pages(); never 0.
 */
long pin_user_ranges(unsigned long start, unsigned long nr_pages,
		     struct user_ranges *ranges)
{
	unsigned long end;

	start = untagged_addr(start) & PAGE_MASK;
	if (check_add_overflow(start, nr_pages << PAGE_SHIFT, &end) ||
	    end > TASK_SIZE_MAX)
		return -EFAULT;

	mm_set_has_pinned_flag(current->mm);
	if (nr_pages > 1)
		return pin_user_ranges_leaf_first(start, end, ranges);
	return pin_user_ranges_general(start, end, ranges);
}

/**
 * unpin_user_ranges() - give pinned user memory back
 * @ranges:	what pin_user_ranges() found
 */
void unpin_user_ranges(struct user_ranges *ranges)
{
	unsigned int i, count = 0, nr = ranges->nr, large = ranges->large;
	struct pglist_data *pgdat = NULL;

	for (i = 0; i < nr; i++, large >>= 1) {
		struct page *page = ranges->pages[i];
		int refs = GUP_PIN_COUNTING_BIAS;
		struct folio *folio;

		sanity_check_pinned_pages(&page, 1);
		folio = large & 1 ? page_folio(page) : (struct folio *)page;
		if (folio_pgdat(folio) != pgdat) {
			if (count)
				mod_node_page_state(pgdat, NR_FOLL_PIN_RELEASED,
						    count);
			pgdat = folio_pgdat(folio);
			count = 0;
		}
		count++;
		if (large & 1 && folio_has_pincount(folio)) {
			atomic_dec(&folio->_pincount);
			refs = 1;
		}
		folio_put_refs(folio, refs);
	}
	if (count)
		mod_node_page_state(pgdat, NR_FOLL_PIN_RELEASED, count);
}

/**
 * user_memory_is_secret() - whether memory is for its user's eyes only
 * @addr: address in user space
 *
 * What pin_user_ranges() cannot pin may be copied instead, but not memfd_secret(2).
 *
 * Return: true if it is.
 */
bool user_memory_is_secret(unsigned long addr)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	bool secret;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, untagged_addr(addr));
	secret = vma && vma_is_secretmem(vma);
	mmap_read_unlock(mm);
	return secret;
}
