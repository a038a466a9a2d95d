// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_RUST_SPLICE

#ifdef CONFIG_SWIOTLB
#include <linux/dma-direct.h>
#endif
#include <linux/dma-mapping.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/iommu.h>
#include <linux/iommu-dma.h>
#include <linux/kasan.h>
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
#include <linux/wait.h>
#include <net/tcp.h>

/* pipes */

/* bindgen does not see the members of an anonymous union that has a tag. */
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
	 * Orders our change of head and tail before our look at the queue.
	 * Pairs with the barrier that a sleeper has between queueing itself and
	 * looking at head and tail.
	 */
	smp_mb();
	/* So nobody that we miss here goes to sleep. */
	if (waitqueue_active(&pipe->rd_wait))
		wake_up_interruptible(&pipe->rd_wait);
	/* kill_fasync() begins with the same look, without a lock. */
	if (READ_ONCE(pipe->fasync_readers))
		kill_fasync(&pipe->fasync_readers, SIGIO, POLL_IN);
}

__rust_helper void rust_helper_pipe_wake_writers(struct pipe_inode_info *pipe)
{
	/* As in pipe_wake_readers(). */
	smp_mb();
	/* Likewise. */
	if (waitqueue_active(&pipe->wr_wait))
		wake_up_interruptible(&pipe->wr_wait);
	/* Likewise. */
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

__rust_helper void rust_helper_release_page_array(struct page **pages, int nr)
{
	release_pages(pages, nr);
}

__rust_helper struct folio *rust_helper_page_folio(struct page *page)
{
	return page_folio(page);
}

__rust_helper bool rust_helper_folio_test_uptodate(const struct folio *folio)
{
	return folio_test_uptodate(folio);
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
 * import_iovec(), but for what nearly all calls have, one range: without an array
 * of its own to copy that to.
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

/* The first range of a source of user memory that is not empty. */
__rust_helper size_t rust_helper_user_iter_front(struct iov_iter *iter,
						 unsigned long *addr)
{
	if (!iov_iter_count(iter))
		return 0;
	/* Empty ranges stay in front. */
	while (!iter_is_ubuf(iter) && !iter_iov_len(iter))
		iov_iter_advance(iter, 0);
	*addr = (unsigned long)iter_iov_addr(iter);
	return min(iter_iov_len(iter), iov_iter_count(iter));
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

/*
 * Charges pages to the user that the task runs as, as many as that may have
 * still; says how many. Where there are any, @user is a reference.
 */
__rust_helper unsigned long
rust_helper_memlock_charge(unsigned long pages, struct user_struct **user)
{
	struct user_struct *current_user = current_user();
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	long old = atomic_long_read(&current_user->locked_vm);
	unsigned long granted;

	do {
		granted = pages;
		if (unlikely(old + pages > limit) && !capable(CAP_IPC_LOCK))
			granted = old < limit ? limit - old : 0;
		if (!granted)
			return 0;
	} while (!atomic_long_try_cmpxchg(&current_user->locked_vm, &old,
					  old + granted));
	*user = get_uid(current_user);
	return granted;
}

__rust_helper void rust_helper_memlock_uncharge(struct user_struct *user,
						unsigned long pages)
{
	atomic_long_sub(pages, &user->locked_vm);
	if (unlikely(!refcount_dec_not_one(&user->__count)))
		free_uid(user);
}

/*
 * Memory for a loan: what the pipe has kept, or new. What KBox allocates goes
 * through krealloc().
 */
__rust_helper void *rust_helper_user_loan_alloc(struct pipe_inode_info *pipe,
						size_t size)
{
	void *spare = NULL;

	if (READ_ONCE(pipe->spare_loan))
		spare = xchg(&pipe->spare_loan, NULL);
	if (!spare)
		return kmalloc(size, GFP_KERNEL_ACCOUNT);
	kasan_mempool_unpoison_object(spare, size);
	return spare;
}

static inline void free_spare_loan(void *loan, size_t size)
{
	kasan_mempool_unpoison_object(loan, size);
	kfree(loan);
}

/* Frees what the pipe has kept. */
__rust_helper void rust_helper_user_loan_free_spare(struct pipe_inode_info *pipe,
						    size_t size)
{
	if (pipe->spare_loan)
		free_spare_loan(pipe->spare_loan, size);
}

/* The pipe may keep it. It need not be locked. */
__rust_helper void rust_helper_user_loan_free(struct pipe_inode_info *pipe,
					      void *loan, size_t size)
{
	if (READ_ONCE(pipe->spare_loan)) {
		kfree(loan);
		return;
	}
	if (!kasan_mempool_poison_object(loan))
		return;
	loan = xchg(&pipe->spare_loan, loan);
	if (unlikely(loan))
		free_spare_loan(loan, size);
}

__rust_helper struct user_struct *rust_helper_get_uid(struct user_struct *user)
{
	return get_uid(user);
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
 * Whether ->sendmsg() takes a ubuf_info that comes with the message. What runs
 * on top of TCP has a ->sendmsg() of its own.
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
		/* Pairs with the store that comes after all use of the memory. */
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

#ifndef CONFIG_MODULES
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
