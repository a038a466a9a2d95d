// SPDX-License-Identifier: GPL-2.0

//! User memory, as an end of a transfer.
//!
//! C header: [`include/linux/uio.h`](srctree/include/linux/uio.h)

use crate::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    bindings,
    iov::IovIterDest,
    mm::gup::UserRange,
    pipe::{OwnedPage, PipeBuffer},
    prelude::*,
    uaccess::UserPtr, //
};
use core::{marker::PhantomData, mem::MaybeUninit};

/// A vector of user memory ranges, as system calls get it.
///
/// # Invariants
///
/// Where `heap` is not null it is what `import_iovec` allocated.
pub struct UserIov {
    heap: *mut bindings::iovec,
}

impl UserIov {
    /// Runs `f` on memory to read from. Fails with [`EINVAL`] for too many ranges, or too long
    /// ones, and with [`EFAULT`] where the vector cannot be read, or a range cannot be user
    /// memory. C: `import_iovec(ITER_SOURCE, ...)`.
    #[inline]
    pub fn with_source<R>(
        iov: UserPtr,
        segments: usize,
        f: impl FnOnce(&mut UserSource<'_>) -> Result<R>,
    ) -> Result<R> {
        Self::with(bindings::ITER_SOURCE, iov, segments, |iter| {
            // INVARIANT: A source of user memory, imported just now.
            f(&mut UserSource {
                iter,
                _not_send: PhantomData,
            })
        })
    }

    /// As [`Self::with_source`], for memory to write to.
    #[inline]
    pub fn with_dest<R>(
        iov: UserPtr,
        segments: usize,
        f: impl FnOnce(&mut IovIterDest<'_>) -> Result<R>,
    ) -> Result<R> {
        Self::with(bindings::ITER_DEST, iov, segments, |iter| {
            // SAFETY: Imported as a destination just now, and valid during the call.
            f(unsafe { IovIterDest::from_raw(iter) })
        })
    }

    #[inline]
    fn with<R>(
        direction: u32,
        iov: UserPtr,
        segments: usize,
        f: impl FnOnce(&mut bindings::iov_iter) -> Result<R>,
    ) -> Result<R> {
        const FAST: usize = bindings::UIO_FASTIOV as usize;
        let mut stack = [const { MaybeUninit::<bindings::iovec>::uninit() }; FAST];
        let mut heap = stack.as_mut_ptr().cast();
        let mut iter = MaybeUninit::uninit();
        // `import_iovec` takes an unsigned int, as the system call always has: a number that does
        // not fit is cut off in C as well.
        // SAFETY: There is room for `FAST` ranges; it says by `heap` if it allocated more.
        let ret = unsafe {
            bindings::import_user_iov(
                direction as c_int,
                iov.as_const_ptr().cast(),
                segments as c_uint,
                FAST as c_uint,
                &raw mut heap,
                iter.as_mut_ptr(),
            )
        };
        super::to_size(ret)?;
        // INVARIANT: It succeeded.
        let _this = Self { heap };
        // SAFETY: It succeeded, so this was initialized.
        f(unsafe { iter.assume_init_mut() })
    }
}

impl Drop for UserIov {
    #[inline]
    fn drop(&mut self) {
        // There are few calls with so many ranges.
        if !self.heap.is_null() {
            // SAFETY: Allocated by `import_iovec`.
            unsafe { bindings::kfree(self.heap.cast()) };
        }
    }
}

/// User memory to read from.
///
/// # Invariants
///
/// `iter` is a source of user memory of the current task.
pub struct UserSource<'a> {
    iter: &'a mut bindings::iov_iter,
    _not_send: PhantomData<*mut ()>,
}

impl UserSource<'_> {
    /// Whether there is nothing left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of bytes that are left.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: All kinds of iterators have this field.
        unsafe { self.iter.__bindgen_anon_1.__bindgen_anon_1.as_ref().count }
    }

    /// The number of ranges of addresses that are left, or more: empty ones count.
    pub fn ranges(&self) -> usize {
        // SAFETY: By the type invariant it is a source of user memory.
        unsafe { bindings::user_iter_ranges(self.iter) }
    }

    /// The first range of addresses that is not empty. `None`: there is nothing left.
    #[inline]
    pub fn front(&mut self) -> Option<UserRange> {
        let mut addr = 0;
        // SAFETY: By the type invariant.
        let len = unsafe { bindings::user_iter_front(self.iter, &raw mut addr) };
        (len > 0).then(|| UserRange::new(addr, len))
    }

    /// Whether what comes next is in a mapping of a DAX file. Takes `mmap_lock`.
    pub fn is_dax(&mut self) -> bool {
        let front = self.front();
        // SAFETY: Any address will do.
        front.is_some_and(|range| unsafe { bindings::user_memory_is_dax(range.addr()) })
    }

    /// Copies what comes next, as far as it is in one page, to a page of its own, and goes on.
    ///
    /// Fails with [`EFAULT`] if nothing can be read, and with [`ENOMEM`]. Sleeps.
    #[cold]
    pub fn copy_page(&mut self) -> Result<PipeBuffer> {
        let range = self.front().ok_or(EFAULT)?;
        let len = range.first_pages(1).len();
        let page = OwnedPage::alloc(GFP_KERNEL_ACCOUNT)?;
        // SAFETY: The page is ours alone, and has room for as many bytes.
        let copied = unsafe { bindings::copy_page_from_iter(page.as_ptr(), 0, len, self.iter) };
        if copied == 0 {
            return Err(EFAULT);
        }
        // CAST: Not more than a page.
        PipeBuffer::from_page(page, 0, copied as u32)
    }

    /// Goes on to what is `n` bytes further, of those that there are.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        // SAFETY: By the type invariant; C takes care of too large a number.
        unsafe { bindings::user_iter_advance(self.iter, n) };
    }
}

/// Copies the first `len` bytes of `buf` to `dest`; returns how many could be.
#[inline]
pub fn copy_to_iter(buf: &PipeBuffer, len: usize, dest: &mut IovIterDest<'_>) -> usize {
    let len = len.min(buf.len());
    // SAFETY: The buffer holds its pages; both ends are valid for as many bytes.
    unsafe { bindings::copy_page_to_iter(buf.page(), buf.offset(), len, dest.as_raw()) }
}
