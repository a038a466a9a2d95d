// SPDX-License-Identifier: GPL-2.0

//! User memory, as an end of a transfer.
//!
//! C header: [`include/linux/uio.h`](srctree/include/linux/uio.h)

use super::notify::Call;
use crate::{
    bindings,
    iov::IovIterDest,
    page::PAGE_SIZE,
    pipe::{BufferFlags, PipeBuffer, PipeBufferOps},
    prelude::*,
    sync::Arc,
    uaccess::UserPtr, //
};
use core::{marker::PhantomData, mem::MaybeUninit, ptr::NonNull};

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
            bindings::import_iovec(
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
        // SAFETY: Allocated by `import_iovec`, or null.
        unsafe { bindings::kfree(self.heap.cast()) };
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
        // SAFETY: All kinds of iterators have this field.
        unsafe { self.iter.__bindgen_anon_1.__bindgen_anon_1.as_ref().count == 0 }
    }
}

/// References to up to `N` pages of user memory, one after the other in one range of addresses.
///
/// # Invariants
///
/// The pages from `next` to `end` are references owned by this value. They hold `left` bytes,
/// from `offset` in the first one on.
pub struct UserPages<const N: usize> {
    pages: [MaybeUninit<*mut bindings::page>; N],
    next: usize,
    end: usize,
    offset: usize,
    left: usize,
}

impl<const N: usize> UserPages<N> {
    /// None, to begin with.
    #[inline]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        // INVARIANT: Trivially.
        Self {
            pages: [const { MaybeUninit::uninit() }; N],
            next: 0,
            end: 0,
            offset: 0,
            left: 0,
        }
    }

    /// Looks up the next pages of `source`, bringing them into memory where need be, and moves it
    /// on. May find fewer than there are left; `false`: none. Those left over from before are put.
    ///
    /// Fails with [`EFAULT`] where there is no memory. May sleep. C: `iov_iter_get_pages2`.
    #[inline]
    pub fn refill(&mut self, source: &mut UserSource<'_>) -> Result<bool> {
        self.put_rest();
        // SAFETY: There is room for `N` pages, and `source` is valid.
        let ret = unsafe {
            bindings::iov_iter_get_pages2(
                source.iter,
                self.pages.as_mut_ptr().cast(),
                usize::MAX,
                N as c_uint,
                &raw mut self.offset,
            )
        };
        let bytes = super::to_size(ret)?;
        if bytes == 0 {
            return Ok(false);
        }
        // INVARIANT: As many as these bytes are on were looked up, with a reference each.
        self.left = bytes;
        self.next = 0;
        self.end = (self.offset + bytes).div_ceil(PAGE_SIZE).min(N);
        Ok(true)
    }

    /// Whether there are none left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next >= self.end
    }

    /// The pages as buffers of kind `T`, as far as the iterator is used.
    #[inline]
    pub fn buffers<T: PipeBufferOps>(
        &mut self,
        flags: BufferFlags,
    ) -> UserBuffers<'_, Plain<T>, N> {
        self.buffers_made_by(Plain {
            flags,
            _kind: PhantomData,
        })
    }

    /// The pages as buffers whose release is to be reported, as far as the iterator is used.
    #[inline]
    pub fn reported_buffers<'a>(
        &'a mut self,
        call: &'a Arc<Call>,
    ) -> UserBuffers<'a, WithCall<'a>, N> {
        self.buffers_made_by(WithCall(call))
    }

    #[inline]
    fn buffers_made_by<M>(&mut self, make: M) -> UserBuffers<'_, M, N> {
        let next = self.next;
        // INVARIANT: What is not taken out is given back when the iterator is dropped.
        self.next = self.end;
        UserBuffers {
            next,
            offset: self.offset,
            left: self.left,
            make,
            pages: self,
        }
    }

    #[inline]
    fn put_rest(&mut self) {
        if !self.is_empty() {
            self.put_rest_slow();
        }
    }

    #[cold]
    fn put_rest_slow(&mut self) {
        for page in &self.pages[self.next..self.end] {
            // SAFETY: By the type invariant there are pages up to `end`, and they are ours.
            unsafe { bindings::put_page(page.assume_init()) };
        }
        self.next = self.end;
    }
}

impl<const N: usize> Drop for UserPages<N> {
    #[inline]
    fn drop(&mut self) {
        self.put_rest();
    }
}

/// How a page becomes a buffer.
pub trait MakeBuffer {
    /// A buffer of `len` bytes at `offset` of `page`.
    ///
    /// # Safety
    ///
    /// The bytes are within the page; with success one reference to it is handed over.
    unsafe fn make(
        &self,
        page: NonNull<bindings::page>,
        offset: u32,
        len: u32,
    ) -> Result<PipeBuffer>;
}

/// See [`UserPages::buffers`].
pub struct Plain<T> {
    flags: BufferFlags,
    _kind: PhantomData<T>,
}

impl<T: PipeBufferOps> MakeBuffer for Plain<T> {
    #[inline]
    unsafe fn make(
        &self,
        page: NonNull<bindings::page>,
        offset: u32,
        len: u32,
    ) -> Result<PipeBuffer> {
        // SAFETY: By the caller's promise.
        unsafe { PipeBuffer::with_ops::<T>(page, offset, len, self.flags) }
    }
}

/// See [`UserPages::reported_buffers`].
pub struct WithCall<'a>(&'a Arc<Call>);

impl MakeBuffer for WithCall<'_> {
    #[inline]
    unsafe fn make(
        &self,
        page: NonNull<bindings::page>,
        offset: u32,
        len: u32,
    ) -> Result<PipeBuffer> {
        // SAFETY: By the caller's promise.
        Ok(unsafe { PipeBuffer::reported(page, offset, len, self.0.clone()) })
    }
}

/// Takes pages out of [`UserPages`], as buffers.
///
/// # Invariants
///
/// The pages from `next` to `end` in `pages` are owned by this value; `pages` itself has none until
/// this is dropped. They hold `left` bytes, from `offset` in the first one on.
pub struct UserBuffers<'a, M, const N: usize> {
    pages: &'a mut UserPages<N>,
    next: usize,
    offset: usize,
    left: usize,
    make: M,
}

impl<M: MakeBuffer, const N: usize> Iterator for UserBuffers<'_, M, N> {
    type Item = PipeBuffer;

    #[inline]
    fn next(&mut self) -> Option<PipeBuffer> {
        if self.next >= self.pages.end {
            return None;
        }
        let offset = self.offset;
        let len = self.left.min(PAGE_SIZE.wrapping_sub(offset));
        // SAFETY: By the type invariant there is a page, and the bytes are within it; with success
        // its reference goes along.
        // CAST: Both are at most PAGE_SIZE.
        let buf = unsafe {
            let page = self.pages.pages.get_unchecked(self.next).assume_init();
            let page = NonNull::new_unchecked(page);
            self.make.make(page, offset as u32, len as u32).ok()?
        };
        self.next += 1;
        self.offset = 0;
        self.left = self.left.wrapping_sub(len);
        Some(buf)
    }
}

impl<M, const N: usize> Drop for UserBuffers<'_, M, N> {
    #[inline]
    fn drop(&mut self) {
        self.pages.next = self.next;
        self.pages.offset = self.offset;
        self.pages.left = self.left;
    }
}

/// Copies the first `len` bytes of `buf` to `dest`; returns how many could be.
#[inline]
pub fn copy_to_iter(buf: &PipeBuffer, len: usize, dest: &mut IovIterDest<'_>) -> usize {
    let len = len.min(buf.len());
    // SAFETY: The buffer holds its pages; both ends are valid for as many bytes.
    unsafe { bindings::copy_page_to_iter(buf.page(), buf.offset(), len, dest.as_raw()) }
}
