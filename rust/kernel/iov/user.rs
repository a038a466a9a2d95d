// SPDX-License-Identifier: GPL-2.0

//! User memory as the source or the sink of a transfer.
//!
//! [`UserIov`] imports the iovec of a system call. [`UserSource`] is the memory to read from, which
//! `vmsplice(2)` references; the memory to write to is an [`IovIterDest`], to which data is copied.
//!
//! C header: [`include/linux/uio.h`](srctree/include/linux/uio.h)

use crate::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    bindings,
    iov::{IovIterDest, IovIterSource},
    mm::gup::UserRange,
    page::PAGE_SIZE,
    pipe::{OwnedPage, PipeBuffer},
    prelude::*,
    uaccess::UserPtr, //
};
use core::{marker::PhantomData, mem::MaybeUninit};

/// The vector of user memory ranges of a system call, imported into the kernel.
///
/// # Invariants
///
/// If `heap` is not null, `import_iovec` allocated it.
///
/// # Examples
///
/// ```
/// use kernel::{iov::user::UserIov, pipe::PipeRing, prelude::*, uaccess::UserPtr};
///
/// /// Copies user memory to a pipe, page by page, until the pipe is full.
/// fn copy_in(ring: &mut PipeRing<'_>, iov: UserPtr, segments: usize) -> Result<usize> {
///     UserIov::with_source(iov, segments, |source| {
///         let mut bytes = 0;
///         while !source.is_empty() {
///             let Some(vacancy) = ring.vacancy() else { break };
///             let buf = source.copy_page()?;
///             bytes += buf.len();
///             vacancy.fill(buf);
///         }
///         Ok(bytes)
///     })
/// }
/// ```
///
/// The other direction, where a page of the destination that cannot be written to ends the copy:
///
/// ```
/// use kernel::{
///     iov::user::{copy_to_iter, UserIov},
///     pipe::PipeRing,
///     prelude::*,
///     uaccess::UserPtr, //
/// };
///
/// /// Copies the data of a pipe to user memory.
/// fn copy_out(ring: &mut PipeRing<'_>, iov: UserPtr, segments: usize) -> Result<usize> {
///     UserIov::with_dest(iov, segments, |dest| {
///         let mut bytes = 0;
///         while let Some(buf) = ring.front() {
///             let copied = copy_to_iter(buf, buf.len(), dest);
///             if copied == 0 {
///                 break;
///             }
///             bytes += copied;
///             ring.consume(copied);
///         }
///         Ok(bytes)
///     })
/// }
/// ```
pub struct UserIov {
    heap: *mut bindings::iovec,
}

impl UserIov {
    /// Imports a vector of `segments` ranges to read from, and runs `f` on it. May sleep. C:
    /// `import_iovec(ITER_SOURCE, ...)`.
    ///
    /// At most `MAX_RW_COUNT` bytes are imported; the rest is left out. The vector is freed when
    /// `f` has returned.
    ///
    /// # Errors
    ///
    /// - [`EINVAL`]: there are too many ranges, or the length of one is negative.
    /// - [`EFAULT`]: the vector cannot be read, or a range cannot be user memory.
    /// - [`ENOMEM`]: a long vector cannot be allocated.
    /// - Those of `f`.
    #[inline]
    pub fn with_source<R>(
        iov: UserPtr,
        segments: usize,
        f: impl FnOnce(&mut UserSource<'_>) -> Result<R>,
    ) -> Result<R> {
        Self::with(bindings::ITER_SOURCE, iov, segments, |iter| {
            // INVARIANT: `iter` was imported as a source of user memory of the current task.
            f(&mut UserSource {
                iter,
                _not_send: PhantomData,
            })
        })
    }

    /// Imports a vector of ranges to write to, and runs `f` on it. Otherwise the same as
    /// [`Self::with_source`].
    #[inline]
    pub fn with_dest<R>(
        iov: UserPtr,
        segments: usize,
        f: impl FnOnce(&mut IovIterDest<'_>) -> Result<R>,
    ) -> Result<R> {
        Self::with(bindings::ITER_DEST, iov, segments, |iter| {
            // SAFETY: `iter` was imported as a destination, and it is valid and not accessed
            // otherwise until `f` returns.
            f(unsafe { IovIterDest::from_raw(iter) })
        })
    }

    /// Imports the vector for `direction`, which is `ITER_SOURCE` or `ITER_DEST`.
    ///
    /// A vector of up to `UIO_FASTIOV` ranges is on the stack, so that a usual call needs no
    /// allocation.
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
        // `import_iovec` takes an unsigned int, as the system call always did: C also drops the
        // upper bits of a larger number.
        // SAFETY: `heap` points to room for `FAST` ranges. If these are too few, the function
        // allocates more and sets `heap` to them; otherwise it sets `heap` to null.
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
        if ret < 0 {
            // CAST: Error numbers fit in an int.
            return Err(Error::from_errno(ret as c_int));
        }
        // INVARIANT: The import succeeded, so `heap` is null or was allocated by it.
        let _this = Self { heap };
        // SAFETY: The import succeeded, so it initialized `iter`.
        f(unsafe { iter.assume_init_mut() })
    }
}

impl Drop for UserIov {
    #[inline]
    fn drop(&mut self) {
        // Few calls have so many ranges. This check saves a call of `kfree` for all others.
        if !self.heap.is_null() {
            // SAFETY: By the type invariant `import_iovec` allocated the memory, and it is not used
            // again.
            unsafe { bindings::kfree(self.heap.cast()) };
        }
    }
}

/// User memory to read from.
///
/// It belongs to the current task, so this type is not `Send`.
///
/// # Invariants
///
/// `iter` is a source of user memory of the current task.
pub struct UserSource<'a> {
    iter: &'a mut bindings::iov_iter,
    _not_send: PhantomData<*mut ()>,
}

impl UserSource<'_> {
    /// Returns whether no bytes are left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of bytes that are left.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: The union has this member for all kinds of iterators.
        unsafe { self.iter.__bindgen_anon_1.__bindgen_anon_1.as_ref().count }
    }

    /// Returns whether the memory is one range of addresses, and not a vector of them.
    #[inline]
    fn is_single_range(&self) -> bool {
        u32::from(self.iter.iter_type) == bindings::iter_type_ITER_UBUF
    }

    /// Returns the member of the iterator that is the address of a single range, or the pointer to
    /// a vector.
    #[inline]
    fn ranges_or_base(&self) -> &bindings::iov_iter__bindgen_ty_1__bindgen_ty_1__bindgen_ty_1 {
        // SAFETY: The union has this member for all kinds of iterators.
        unsafe {
            &self
                .iter
                .__bindgen_anon_1
                .__bindgen_anon_1
                .as_ref()
                .__bindgen_anon_1
        }
    }

    /// Returns an upper bound of the number of address ranges that are left. Empty ranges count as
    /// well.
    pub fn ranges(&self) -> usize {
        if self.is_single_range() {
            return 1;
        }
        // SAFETY: By the type invariant `iter` is a source of user memory, and it has several
        // ranges, so the union has this member.
        unsafe { self.iter.__bindgen_anon_2.nr_segs }
    }

    /// Returns the first range of addresses that is not empty, or `None` if no bytes are left.
    ///
    /// The addresses are those of the caller's vector. It is not checked that they are mapped, only
    /// that they can be addresses of user memory.
    #[inline]
    pub fn front(&mut self) -> Option<UserRange> {
        let left = self.len();
        if left == 0 {
            return None;
        }
        if self.is_single_range() {
            // SAFETY: The iterator has a single range, so the union has this member.
            let base = unsafe { self.ranges_or_base().ubuf };
            return Some(UserRange::new(base as usize + self.iter.iov_offset, left));
        }
        loop {
            // SAFETY: The iterator has several ranges, so the union has this member. Bytes are
            // left, so there is a range.
            let range = unsafe { &*self.ranges_or_base().__iov };
            // CAST: The length of a range fits in a usize. It has that type on 64-bit machines
            // only.
            #[allow(clippy::unnecessary_cast)]
            let len = range.iov_len as usize - self.iter.iov_offset;
            if len > 0 {
                let addr = range.iov_base as usize + self.iter.iov_offset;
                return Some(UserRange::new(addr, len.min(left)));
            }
            // A vector may begin with empty ranges. This skips them.
            // SAFETY: By the type invariant `iter` is a source of user memory.
            unsafe { bindings::iov_iter_advance(self.iter, 0) };
        }
    }

    /// Returns whether the next byte is in a mapping of a DAX file. Takes `mmap_lock` for reading;
    /// may sleep.
    ///
    /// The mapping may change before the memory is looked up, so look at the page again afterwards.
    pub fn is_dax(&mut self) -> bool {
        let front = self.front();
        // SAFETY: The function accepts any address.
        front.is_some_and(|range| unsafe { bindings::user_memory_is_dax(range.addr()) })
    }

    /// Copies the next bytes, up to the end of their page, to a new page and advances past them.
    /// Returns a buffer of that page. May sleep.
    ///
    /// # Errors
    ///
    /// - [`EFAULT`]: no byte can be read.
    /// - [`ENOMEM`]: no page can be allocated.
    ///
    /// Copies less than a page's worth if the memory ends within it, or if the rest cannot be read:
    /// the next call then returns [`EFAULT`] for that rest, after the bytes before it were
    /// delivered.
    #[cold]
    pub fn copy_page(&mut self) -> Result<PipeBuffer> {
        self.copy_page_by(|page, len, iter| {
            // SAFETY: The caller of the closure passes a page, of which it owns `len` bytes, and a
            // source of user memory.
            unsafe { bindings::copy_page_from_iter(page, 0, len, iter) }
        })?
        .ok_or(EFAULT)
    }

    /// Copies the next bytes as [`Self::copy_page`] does, but takes no page faults. Returns `None`
    /// if the memory is not mapped.
    ///
    /// Returns [`ENOMEM`] if no page can be allocated.
    #[cold]
    pub fn copy_mapped_page(&mut self) -> Result<Option<PipeBuffer>> {
        self.copy_page_by(|page, len, iter| {
            // SAFETY: The caller of the closure passes a page, of which it owns `len` bytes, and a
            // source of user memory.
            unsafe {
                let folio = bindings::page_folio(page);
                bindings::copy_folio_from_iter_atomic(folio, 0, len, iter)
            }
        })
    }

    /// Copies the next bytes, up to the end of their page, to a new page by `copy`, which returns
    /// how many it copied and advances past them. Returns `None` if there are none.
    fn copy_page_by(
        &mut self,
        copy: impl FnOnce(*mut bindings::page, usize, &mut bindings::iov_iter) -> usize,
    ) -> Result<Option<PipeBuffer>> {
        let Some(range) = self.front() else {
            return Ok(None);
        };
        let len = range.first_pages(1).len();
        let page = OwnedPage::alloc(GFP_KERNEL_ACCOUNT)?;
        let copied = copy(page.as_ptr(), len, self.iter);
        if copied == 0 {
            return Ok(None);
        }
        // CAST: The value is at most `PAGE_SIZE`.
        PipeBuffer::from_page(page, 0, copied as u32).map(Some)
    }

    /// Advances by `n` bytes, or to the end if there are fewer.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        if self.is_single_range() && n <= self.len() {
            self.iter.iov_offset += n;
            // SAFETY: The union has this member for all kinds of iterators.
            unsafe { self.iter.__bindgen_anon_1.__bindgen_anon_1.as_mut().count -= n };
        } else {
            // SAFETY: By the type invariant `iter` is a source of user memory. C handles an `n`
            // that is too large.
            unsafe { bindings::iov_iter_advance(self.iter, n) };
        }
    }
}

/// Copies the next bytes of `source` to a new page, at most `max` and at most a page, and advances
/// past them. Returns a buffer of that page. May sleep.
///
/// # Errors
///
/// - [`EFAULT`]: no byte can be read.
/// - [`ENOMEM`]: no page can be allocated.
pub fn copy_from_iter(source: &mut IovIterSource<'_>, max: usize) -> Result<PipeBuffer> {
    let len = max.min(source.len()).min(PAGE_SIZE);
    let page = OwnedPage::alloc(GFP_KERNEL_ACCOUNT)?;
    // SAFETY: `page` owns a page to which nothing else refers, and `len` is at most its size.
    // `source` is a valid source.
    let copied = unsafe { bindings::copy_page_from_iter(page.as_ptr(), 0, len, source.as_raw()) };
    if copied == 0 {
        return Err(EFAULT);
    }
    // CAST: The value is at most `PAGE_SIZE`.
    PipeBuffer::from_page(page, 0, copied as u32)
}

/// While this value exists, the current task takes no page faults: a copy from or to user memory
/// that is not mapped is short instead. The task may sleep otherwise. C: `pagefault_disable`.
///
/// # Examples
///
/// ```
/// use kernel::{
///     iov::{
///         user::{copy_to_iter, fault_in, NoFaults},
///         IovIterDest, //
///     },
///     pipe::Pipe,
///     prelude::*, //
/// };
///
/// /// Copies the oldest buffer of a pipe. Nobody waits for a page fault with the pipe locked.
/// fn copy_out(pipe: &mut Pipe<'_>, dest: &mut IovIterDest<'_>) -> Result<usize> {
///     loop {
///         let mut guard = pipe.lock();
///         let mut ring = guard.ring();
///         let Some(buf) = ring.front() else {
///             return Ok(0);
///         };
///         let len = buf.len();
///         let no_faults = NoFaults::new();
///         let copied = copy_to_iter(buf, len, dest);
///         drop(no_faults);
///         if copied > 0 {
///             ring.consume(copied);
///             return Ok(copied);
///         }
///         drop(guard);
///         if fault_in(dest, len) == 0 {
///             return Err(EFAULT);
///         }
///     }
/// }
/// ```
pub struct NoFaults(PhantomData<*mut ()>);

impl NoFaults {
    /// Disables page faults. Calls may nest.
    #[expect(clippy::new_without_default)]
    #[inline]
    pub fn new() -> Self {
        // SAFETY: Page faults are enabled again when the value is dropped, in the same task: the
        // type is not `Send`.
        unsafe { bindings::pagefault_disable() };
        Self(PhantomData)
    }
}

impl Drop for NoFaults {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `new` has disabled page faults in this task.
        unsafe { bindings::pagefault_enable() };
    }
}

/// Faults the next `len` bytes of `dest` in, so that they can be written to. Returns the number of
/// bytes in front of the first page for which that is not possible. May sleep. C:
/// `fault_in_iov_iter_writeable`.
///
/// The pages may be gone again when this returns.
pub fn fault_in(dest: &mut IovIterDest<'_>, len: usize) -> usize {
    let len = len.min(dest.len());
    // SAFETY: `dest` is a valid destination.
    let failed = unsafe { bindings::fault_in_iov_iter_writeable(dest.as_raw(), len) };
    len.saturating_sub(failed)
}

/// Copies the first `len` bytes of `buf` to `dest`, as [`copy_to_iter`] does, but all or none: if
/// not all can be copied, `dest` does not advance, and this returns `false`. Some of the bytes may
/// have been written to the memory.
#[inline]
pub fn copy_whole_to_iter(buf: &PipeBuffer, len: usize, dest: &mut IovIterDest<'_>) -> bool {
    let copied = copy_to_iter(buf, len, dest);
    if copied == len {
        return true;
    }
    // SAFETY: The copy has advanced `dest` by as many bytes.
    unsafe { dest.revert(copied) };
    false
}

/// Copies the first `len` bytes of `buf` to `dest`. Returns the number of bytes that were copied,
/// which is smaller if a page of `dest` cannot be written to. May sleep.
#[inline]
pub fn copy_to_iter(buf: &PipeBuffer, len: usize, dest: &mut IovIterDest<'_>) -> usize {
    let len = len.min(buf.len());
    // SAFETY: The buffer holds its pages, which have at least `len` bytes from the offset on.
    // `dest` is a valid destination.
    unsafe { bindings::copy_page_to_iter(buf.page(), buf.offset(), len, dest.as_raw()) }
}
