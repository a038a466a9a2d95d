// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_RUST_SPLICE

#ifdef CONFIG_SWIOTLB
#include <linux/dma-direct.h>
#endif
#include <linux/dma-mapping.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/highmem.h>
#include <linux/hugetlb.h>
#include <linux/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/pagemap.h>
#include <linux/pipe_fs_i.h>
#include <linux/rust_splice.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/user.h>
#include <linux/splice.h>
#include <linux/swiotlb.h>
#include <linux/uio.h>
#include <linux/user_ranges.h>
#include <linux/wait.h>
#include <net/tcp.h>

/* pipes */

/*
 * bindgen does not generate the members of an anonymous union that has a tag.
 * All of @pipe's indices are in this union.
 */
__rust_helper union pipe_index *
rust_helper_pipe_index_of(struct pipe_inode_info *pipe)
{
	return (union pipe_index *)&pipe->head_tail;
}

__rust_helper bool rust_helper_pipe_buf_get(struct pipe_inode_info *pipe,
					    struct pipe_buffer *buf)
{
	return pipe_buf_get(pipe, buf);
}

__rust_helper void rust_helper_pipe_buf_release(struct pipe_inode_info *pipe,
						struct pipe_buffer *buf)
{
	pipe_buf_release(pipe, buf);
}

__rust_helper int rust_helper_pipe_buf_confirm(struct pipe_inode_info *pipe,
					       struct pipe_buffer *buf)
{
	return pipe_buf_confirm(pipe, buf);
}

__rust_helper bool rust_helper_pipe_buf_try_steal(struct pipe_inode_info *pipe,
						  struct pipe_buffer *buf)
{
	return pipe_buf_try_steal(pipe, buf);
}

__rust_helper void rust_helper_pipe_wake_readers(struct pipe_inode_info *pipe)
{
	/*
	 * The caller has changed head or tail. Order that before the check for
	 * waiters below. This pairs with the barrier of a waiter, which adds
	 * itself to the queue before it checks head and tail.
	 */
	smp_mb();
	/*
	 * Either the check below sees the waiter, or the waiter sees the change
	 * and does not sleep.
	 */
	if (waitqueue_active(&pipe->rd_wait))
		wake_up_interruptible(&pipe->rd_wait);
	/*
	 * kill_fasync() begins with the same check without a lock. It is done
	 * here to save the call.
	 */
	if (READ_ONCE(pipe->fasync_readers))
		kill_fasync(&pipe->fasync_readers, SIGIO, POLL_IN);
}

__rust_helper void rust_helper_pipe_wake_writers(struct pipe_inode_info *pipe)
{
	/*
	 * The caller has changed the tail. Order that before the check for
	 * waiters below, see rust_helper_pipe_wake_readers().
	 */
	smp_mb();
	/*
	 * Either the check below sees the waiter, or the waiter sees the change
	 * and does not sleep.
	 */
	if (waitqueue_active(&pipe->wr_wait))
		wake_up_interruptible(&pipe->wr_wait);
	/*
	 * kill_fasync() begins with the same check. It is done here to save the
	 * call.
	 */
	if (READ_ONCE(pipe->fasync_writers))
		kill_fasync(&pipe->fasync_writers, SIGIO, POLL_OUT);
}

/* pages */

__rust_helper void rust_helper_put_page(struct page *page)
{
	put_page(page);
}

__rust_helper unsigned long
rust_helper_alloc_pages_bulk(gfp_t gfp, unsigned long nr, struct page **pages)
{
	return alloc_pages_bulk(gfp, nr, pages);
}

__rust_helper struct folio *rust_helper_page_folio(struct page *page)
{
	return page_folio(page);
}

__rust_helper bool rust_helper_folio_test_uptodate(const struct folio *folio)
{
	return folio_test_uptodate(folio);
}

__rust_helper bool rust_helper_folio_test_lru(const struct folio *folio)
{
	return folio_test_lru(folio);
}

__rust_helper void rust_helper_folio_lock(struct folio *folio)
{
	folio_lock(folio);
}

__rust_helper struct address_space *
rust_helper_folio_raw_mapping(const struct folio *folio)
{
	return folio->mapping;
}

/* user memory */

/*
 * Does the same as import_iovec(), but has a fast path for one range, which
 * nearly all calls have: it does not copy the range to an iovec first.
 */
__rust_helper ssize_t rust_helper_import_user_iov(int type,
						  const struct iovec __user *uvec,
						  unsigned int nr_segs,
						  unsigned int fast_segs,
						  struct iovec **iovp,
						  struct iov_iter *iter)
{
	void __user *base;
	ssize_t len;

	if (nr_segs != 1 || in_compat_syscall())
		return import_iovec(type, uvec, nr_segs, fast_segs, iovp, iter);

	*iovp = NULL;
	if (!user_access_begin(uvec, sizeof(*uvec)))
		return -EFAULT;
	unsafe_get_user(len, &uvec->iov_len, fault);
	unsafe_get_user(base, &uvec->iov_base, fault);
	user_access_end();

	if (len < 0)
		return -EINVAL;
	len = min_t(size_t, len, MAX_RW_COUNT);
	if (!access_ok(base, len))
		return -EFAULT;
	iov_iter_ubuf(iter, type, base, len);
	return len;
fault:
	user_access_end();
	return -EFAULT;
}

/*
 * Returns the length of the first range of user memory that is not empty, and
 * stores its address in @addr. Returns 0 if no bytes are left.
 */
__rust_helper size_t rust_helper_user_iter_front(struct iov_iter *iter,
						 unsigned long *addr)
{
	if (!iov_iter_count(iter))
		return 0;
	/* A vector may begin with empty ranges. This skips them. */
	while (!iter_is_ubuf(iter) && !iter_iov_len(iter))
		iov_iter_advance(iter, 0);
	*addr = (unsigned long)iter_iov_addr(iter);
	return min(iter_iov_len(iter), iov_iter_count(iter));
}

__rust_helper size_t rust_helper_user_iter_ranges(const struct iov_iter *iter)
{
	return iter_is_ubuf(iter) ? 1 : iter->nr_segs;
}

/*
 * Returns whether @addr is in a mapping of a DAX file. Takes mmap_lock, so it
 * may sleep.
 */
__rust_helper bool rust_helper_user_memory_is_dax(unsigned long addr)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	bool ret;

	if (!IS_ENABLED(CONFIG_FS_DAX))
		return false;
	/* If the task is killed, the lookup that follows returns the error. */
	if (mmap_read_lock_killable(mm))
		return false;
	vma = vma_lookup(mm, untagged_addr(addr));
	ret = vma && vma_is_fsdax(vma);
	mmap_read_unlock(mm);
	return ret;
}

__rust_helper void rust_helper_user_iter_advance(struct iov_iter *iter,
						 size_t bytes)
{
	if (iter_is_ubuf(iter) && bytes <= iter->count) {
		iter->iov_offset += bytes;
		iter->count -= bytes;
	} else {
		iov_iter_advance(iter, bytes);
	}
}

__rust_helper bool rust_helper_is_zone_device_page(const struct page *page)
{
	return is_zone_device_page(page);
}

__rust_helper bool rust_helper_user_range_refs_exhausted(struct page *page)
{
	return user_range_refs_exhausted(page);
}

__rust_helper bool rust_helper_user_page_is_hugetlb(struct page *page)
{
	return folio_test_hugetlb(page_folio(page));
}

__rust_helper bool rust_helper_user_page_is_private_hugetlb(struct page *page)
{
	struct folio *folio = page_folio(page);

	return folio_test_hugetlb(folio) && folio_test_anon(folio);
}

__rust_helper bool rust_helper_user_page_is_dax(struct page *page)
{
	return folio_is_fsdax(page_folio(page));
}

__rust_helper bool rust_helper_user_page_is_longterm_pinnable(struct page *page)
{
	return folio_is_longterm_pinnable(page_folio(page));
}

__rust_helper bool rust_helper_user_page_is_exclusive(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (!folio_test_anon(folio))
		return false;
	/*
	 * A THP that is mapped by a single entry has the flag on its first page
	 * only.
	 */
	return PageAnonExclusive(folio_test_hugetlb(folio) ? &folio->page : page) ||
	       (folio_test_large(folio) && PageAnonExclusive(&folio->page));
}

__rust_helper unsigned long rust_helper_user_page_folio_pages(struct page *page)
{
	return folio_nr_pages(page_folio(page));
}

/*
 * Exchanges a pin of @page for a reference, and returns true, if the memory is
 * not anonymous. Anonymous memory stays pinned.
 */
__rust_helper bool rust_helper_user_page_pin_to_reference(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (folio_test_anon(folio))
		return false;
	folio_get(folio);
	unpin_folio(folio);
	return true;
}

/*
 * Merges @nr pages, which come with a reference each, into ranges with one
 * reference each. The references that become superfluous are given back.
 */
__rust_helper void rust_helper_user_ranges_of_pages(struct user_ranges *ranges,
						    struct page *const *pages,
						    int nr)
{
	struct user_range *last = NULL;
	int i;

	ranges->nr = 0;
	ranges->next = NULL;
	for (i = 0; i < nr; i++) {
		struct folio *folio = page_folio(pages[i]);

		if (last && last->large && pages[i] == last->page + last->nr_pages &&
		    folio == page_folio(last->page)) {
			last->nr_pages++;
			folio_put(folio);
			continue;
		}
		last = &ranges->range[ranges->nr++];
		last->page = pages[i];
		last->nr_pages = 1;
		last->large = folio_test_large(folio);
	}
}

__rust_helper bool rust_helper_copy_page_part(struct page *to, struct page *from,
					      size_t offset, size_t len)
{
	char *vto = kmap_local_page(to);
	char *vfrom = kmap_local_page(from);
	unsigned long left = copy_mc_to_kernel(vto, vfrom + offset, len);

	kunmap_local(vfrom);
	kunmap_local(vto);
	return !left;
}

/*
 * Counts @pages for the real user of the current task. Returns false and counts
 * nothing if that user would have more than @limit pages. The first charge
 * stores a reference to the user in @user.
 */
__rust_helper bool rust_helper_user_memory_charge(struct user_struct **user,
						  unsigned long pages,
						  unsigned long limit)
{
	struct user_struct *of = *user ?: current_user();
	long old = atomic_long_read(&of->pipe_user_memory);

	do {
		if (pages > limit || old > limit - pages)
			return false;
	} while (!atomic_long_try_cmpxchg(&of->pipe_user_memory, &old,
					  old + pages));
	if (!*user)
		*user = get_uid(of);
	return true;
}

__rust_helper void rust_helper_user_memory_uncharge(struct user_struct *user,
						    unsigned long pages)
{
	atomic_long_sub(pages, &user->pipe_user_memory);
	free_uid(user);
}

/* files */

__rust_helper struct file *rust_helper_fd_to_file(struct fd fd)
{
	return fd_file(fd);
}

__rust_helper void rust_helper_fdput(struct fd fd)
{
	fdput(fd);
}

__rust_helper void rust_helper_init_sync_kiocb(struct kiocb *kiocb,
					       struct file *file)
{
	init_sync_kiocb(kiocb, file);
}

__rust_helper bool rust_helper_file_is_dax(const struct file *file)
{
	return IS_DAX(file->f_mapping->host);
}

__rust_helper void rust_helper_file_start_write(struct file *file)
{
	file_start_write(file);
}

__rust_helper void rust_helper_file_end_write(struct file *file)
{
	file_end_write(file);
}

__rust_helper void rust_helper_file_assert_write_started(struct file *file)
{
	lockdep_assert(file_write_started(file));
}

__rust_helper void rust_helper_file_accessed(struct file *file)
{
	file_accessed(file);
}

__rust_helper void rust_helper_fsnotify_access(struct file *file)
{
	fsnotify_access(file);
}

__rust_helper void rust_helper_fsnotify_modify(struct file *file)
{
	fsnotify_modify(file);
}

#ifdef CONFIG_NET
__rust_helper int rust_helper_sock_send_bvec(struct socket *sock,
					     const struct bio_vec *vecs,
					     size_t nr, size_t bytes,
					     int flags,
					     struct ubuf_info *ubuf)
{
	struct msghdr msg = { .msg_flags = flags, .msg_ubuf = ubuf };

	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, vecs, nr, bytes);
	return sock_sendmsg(sock, &msg);
}

/*
 * Returns whether ->sendmsg() keeps a ubuf_info that comes with the message.
 * Plain TCP does. A protocol on top of TCP, such as TLS, has its own
 * ->sendmsg(), which does not.
 */
__rust_helper bool rust_helper_sock_reports_release(struct socket *sock)
{
#ifdef CONFIG_INET
	return sk_is_tcp(sock->sk) &&
	       READ_ONCE(sock->sk->sk_prot)->sendmsg == tcp_sendmsg;
#else
	return false;
#endif
}
#endif

/* notices */

__rust_helper int rust_helper_splice_wait_released(struct wait_queue_head *wq,
						   const u64 *released,
						   u64 number)
{
	return wait_event_interruptible(*wq,
		/*
		 * Pairs with the release in the drop of a NotifiedCall, which
		 * follows all use of the memory.
		 */
		smp_load_acquire(released) >= number);
}

/* memory for DMA */

__rust_helper phys_addr_t rust_helper_page_to_phys(struct page *page)
{
	return page_to_phys(page);
}

__rust_helper struct page *rust_helper_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

__rust_helper int rust_helper_folio_ref_count(const struct folio *folio)
{
	return folio_ref_count(folio);
}

__rust_helper void rust_helper_sg_set_page(struct scatterlist *sg,
					   struct page *page, unsigned int len,
					   unsigned int offset)
{
	sg_set_page(sg, page, len, offset);
}

__rust_helper unsigned int rust_helper_dma_get_max_seg_size(struct device *dev)
{
	return dma_get_max_seg_size(dev);
}

__rust_helper unsigned long rust_helper_dma_get_seg_boundary(struct device *dev)
{
	return dma_get_seg_boundary(dev);
}

__rust_helper bool rust_helper_sg_is_bounced(struct device *dev,
					     struct scatterlist *sg)
{
#ifdef CONFIG_SWIOTLB
	dma_addr_t addr = sg_dma_address(sg);
	phys_addr_t phys;

	if (use_dma_iommu(dev))
		phys = iommu_iova_to_phys(iommu_get_domain_for_dev(dev), addr);
	else
		phys = dma_to_phys(dev, addr);
	return swiotlb_find_pool(dev, phys);
#else
	return false;
#endif
}

/* tasks */

__rust_helper int rust_helper_cond_resched(void)
{
	return cond_resched();
}

/* modules */

#ifndef CONFIG_MODULE_UNLOAD
__rust_helper bool rust_helper_try_module_get(struct module *module)
{
	return try_module_get(module);
}

__rust_helper void rust_helper_module_put(struct module *module)
{
	module_put(module);
}

__rust_helper void rust_helper___module_get(struct module *module)
{
	__module_get(module);
}
#endif

/* events */

#ifndef CONFIG_EVENTFD
__rust_helper struct eventfd_ctx *rust_helper_eventfd_ctx_fdget(int fd)
{
	return eventfd_ctx_fdget(fd);
}

__rust_helper void rust_helper_eventfd_ctx_put(struct eventfd_ctx *ctx)
{
	eventfd_ctx_put(ctx);
}

__rust_helper void rust_helper_eventfd_signal_mask(struct eventfd_ctx *ctx, __poll_t mask)
{
	eventfd_signal_mask(ctx, mask);
}
#endif

/* counters */

__rust_helper void rust_helper_splice_count(unsigned int item, u64 n)
{
	this_cpu_add(splice_counters.items[item], n);
}

__rust_helper u64 rust_helper_splice_counter_sum(unsigned int item)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(splice_counters.items[item], cpu);
	return sum;
}

#endif /* CONFIG_RUST_SPLICE */
