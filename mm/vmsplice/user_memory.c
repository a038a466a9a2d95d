// SPDX-License-Identifier: GPL-2.0
/*
 * Access to user memory that only C macros and inline functions give.
 */
#include <linux/compat.h>
#include <linux/mm.h>
#include <linux/rust_splice.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

/*
 * Does the same as import_iovec(), but has a fast path for one range, which
 * nearly all calls have: it does not copy the range to an iovec first.
 */
ssize_t import_user_iov(int type, const struct iovec __user *uvec,
			unsigned int nr_segs, unsigned int fast_segs,
			struct iovec **iovp, struct iov_iter *iter)
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
 * Returns whether @addr is in a mapping of a DAX file. Takes mmap_lock, so it
 * may sleep.
 */
bool user_memory_is_dax(unsigned long addr)
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
