// SPDX-License-Identifier: GPL-2.0

//! New pages that a file's `->read_iter` fills for a pipe.
//!
//! C headers: [`include/linux/bvec.h`](srctree/include/linux/bvec.h),
//! [`include/linux/uio.h`](srctree/include/linux/uio.h)

use crate::{
    bindings,
    fs::{file::Offset, LocalFile},
    iov::{user::copy_to_iter, IovIterDest, IovIterSource},
    page::PAGE_SIZE,
    pipe::{Filler, OwnedPage, PipeBuffer, PipeRing},
    prelude::*,
    splice::Pieces,
    types::Opaque,
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{self, NonNull},
    slice,
};

/// The number of pages that a [`PageArray`] has room for. It is small because the array is on the
/// stack, on which file systems nest.
const FEW_PAGES: usize = 8;

/// Memory for the list of [`FreshPages`], if there are at most 8 of them. More pages need an
/// allocation.
///
/// The caller has it on its stack, next to the [`FreshPages`] that borrow it: returning the array
/// by value would copy it.
pub struct PageArray([MaybeUninit<bindings::bio_vec>; FEW_PAGES]);

impl PageArray {
    /// Creates an empty array. The elements are not initialized.
    #[inline(always)]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; FEW_PAGES])
    }
}

/// Newly allocated pages that are filled with data and then put into a pipe.
///
/// The pages are not zeroed: only the bytes that were filled leave this type.
///
/// # Invariants
///
/// `vecs` has at least `len` elements, and nothing else refers to them for `'a`. The elements from
/// `start` to `len` contain pages of order 0. This value owns their only references. `start` is 0
/// until the pages are given away. The first `filled` bytes of the pages are initialized.
///
/// # Examples
///
/// ```
/// use kernel::{
///     page::PAGE_SIZE,
///     pipe::{OwnedPage, PipeBuffer, PrivatePipe},
///     splice::{FreshPages, PageArray}, //
/// };
///
/// let source = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 100)?;
/// let mut array = PageArray::new();
/// let mut pages = FreshPages::alloc(&mut array, 2)?;
/// pages.copy_buffer(&source, 60);
///
/// // Only the bytes that were filled go into the pipe. The second page is freed.
/// let mut pipe = PrivatePipe::new()?;
/// pages.put_into(&mut pipe.ring());
/// let mut ring = pipe.ring();
/// assert_eq!(ring.indices().occupancy(), 1);
/// assert_eq!(ring.front().map(|buf| buf.len()), Some(60));
/// # Ok::<(), Error>(())
/// ```
///
/// Pages that were not filled leave no buffer:
///
/// ```
/// use kernel::splice::{FreshPages, PageArray};
///
/// let mut array = PageArray::new();
/// let pages = FreshPages::alloc(&mut array, 1)?;
/// assert!(pages.into_buffer().is_none());
/// # Ok::<(), Error>(())
/// ```
pub struct FreshPages<'a> {
    vecs: *mut bindings::bio_vec,
    start: usize,
    len: usize,
    filled: usize,
    // The memory that `vecs` points to, unless it is the array of the caller.
    _heap: KVec<bindings::bio_vec>,
    _array: PhantomData<&'a mut PageArray>,
}

impl<'a> FreshPages<'a> {
    /// Allocates `n` pages, or fewer if memory is short. May sleep. C: `alloc_pages_bulk`.
    ///
    /// `array` provides the memory for the list of pages if there are few of them.
    ///
    /// Returns [`ENOMEM`] if no page or no memory for the list can be allocated, or if `n` is zero.
    ///
    /// A caller reads at most as many bytes as the pages hold. With fewer pages the transfer is
    /// short, and does not fail.
    #[inline]
    pub fn alloc(array: &'a mut PageArray, n: usize) -> Result<Self> {
        // The list of page pointers is in the second half of the array of bio_vecs.
        const { assert!(size_of::<*mut bindings::page>() * 2 <= size_of::<bindings::bio_vec>()) };

        let mut heap = KVec::new();
        let vecs: *mut bindings::bio_vec = if n <= FEW_PAGES {
            array.0.as_mut_ptr().cast()
        } else {
            heap.reserve(n, GFP_KERNEL)?;
            heap.as_mut_ptr()
        };
        // SAFETY: The array has room for `n` bio_vecs, hence for `2 * n` pointers, of which the
        // second half is used. `alloc_pages_bulk` fills in the pointers that are null, so all of
        // them are set to null first.
        let (pages, len) = unsafe {
            let pages = vecs.cast::<*mut bindings::page>().add(n);
            ptr::write_bytes(pages, 0, n);
            (
                pages,
                bindings::alloc_pages_bulk(bindings::GFP_USER, n, pages),
            )
        };
        if len == 0 {
            return Err(ENOMEM);
        }
        for i in 0..len {
            // SAFETY: Both elements are in the array. The bio_vec ends at or before the end of the
            // pointer that it is made of, so no pointer is overwritten before it is read.
            unsafe {
                vecs.add(i).write(bindings::bio_vec {
                    bv_page: pages.add(i).read(),
                    bv_len: 0,
                    bv_offset: 0,
                })
            };
        }
        // INVARIANT: The loop above initialized the first `len` elements with pages of order 0,
        // each with one reference, and the array is borrowed or in `heap`.
        Ok(Self {
            vecs,
            start: 0,
            len,
            filled: 0,
            _heap: heap,
            _array: PhantomData,
        })
    }

    /// Allocates `n` pages. May sleep.
    ///
    /// Returns [`ENOMEM`] if not all of them can be allocated. For data that must stay together,
    /// such as a message.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::splice::{FreshPages, PageArray};
    ///
    /// let mut array = PageArray::new();
    /// assert!(FreshPages::alloc_all(&mut array, 100).is_ok());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn alloc_all(array: &'a mut PageArray, n: usize) -> Result<Self> {
        let mut this = Self::alloc(array, n)?;
        while this.len < n {
            let page = OwnedPage::alloc(GFP_KERNEL)?;
            // SAFETY: The array has room for `n` elements, and nothing else refers to it.
            unsafe {
                this.vecs.add(this.len).write(bindings::bio_vec {
                    bv_page: page.into_raw(),
                    bv_len: 0,
                    bv_offset: 0,
                })
            };
            // INVARIANT: The element was written above, with a page that `this` owns now.
            this.len += 1;
        }
        Ok(this)
    }

    /// Fills the pages with up to `len` bytes of `file` from `pos` on, by one call of its
    /// `->read_iter`. Returns the number of bytes, and advances `pos`. May sleep.
    ///
    /// Errors are those of [`LocalFile::call_read_iter`].
    ///
    /// The file may return fewer bytes than it has, as `read(2)` may. Pages behind them stay
    /// unused, and the caller does not read again to fill them.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     fs::{file::Offset, LocalFile},
    ///     pipe::PipeRing,
    ///     prelude::*,
    ///     splice::{FreshPages, PageArray}, //
    /// };
    ///
    /// /// Reads the page at `pos` into a pipe that has room. Returns 0 at the end of the file.
    /// fn read_page(file: &LocalFile, pos: &mut Offset, ring: &mut PipeRing<'_>) -> Result<usize> {
    ///     let mut array = PageArray::new();
    ///     let mut pages = FreshPages::alloc(&mut array, 1)?;
    ///     let bytes = pages.read_file(file, pos, 4096)?;
    ///     pages.put_into(ring);
    ///     Ok(bytes)
    /// }
    /// ```
    #[inline]
    pub fn read_file(&mut self, file: &LocalFile, pos: &mut Offset, len: usize) -> Result<usize> {
        let bytes = file.call_read_iter(pos, self.dest(len).as_iter())?;
        // INVARIANT: `->read_iter` has stored as many bytes as it returned, from the first page on.
        self.filled = bytes.min(self.len * PAGE_SIZE);
        Ok(bytes)
    }

    /// Fills the pages with a copy of the first `len` bytes of `buf`, or of as many as fit.
    ///
    /// The contents of `buf` must have been [confirmed](crate::pipe::BufferRef::confirm). The file
    /// position of the source is not of interest here: the buffer stays in its pipe.
    pub fn copy_buffer(&mut self, buf: &PipeBuffer, len: usize) {
        // INVARIANT: `copy_to_iter` has stored as many bytes as it returned.
        self.filled = copy_to_iter(buf, len, self.dest(len).as_iter());
    }

    /// Fills the pages with data of `source`, until it ends or the pages are full. Returns the
    /// number of bytes. May sleep.
    pub fn copy_from(&mut self, source: &mut IovIterSource<'_>) -> usize {
        self.filled = 0;
        for index in 0..self.len {
            // SAFETY: By the type invariant the element has a page, to which nothing else refers.
            // `source` is a valid source.
            let n = unsafe {
                let page = (*self.vecs.add(index)).bv_page;
                bindings::copy_page_from_iter(page, 0, PAGE_SIZE, source.as_raw())
            };
            // INVARIANT: The function has stored as many bytes as it returned.
            self.filled += n;
            if n < PAGE_SIZE {
                break;
            }
        }
        self.filled
    }

    /// Returns the bytes that were filled, as pieces for a reader. A reader that keeps the memory
    /// for longer takes its own references to the pages.
    pub fn pieces(&mut self) -> Pieces<'_> {
        let len = self.filled.div_ceil(PAGE_SIZE);
        for i in 0..len {
            // CAST: The length is at most `PAGE_SIZE`.
            let part = (self.filled - i * PAGE_SIZE).min(PAGE_SIZE) as u32;
            // SAFETY: Only pages that `self` has are filled, so by the type invariant the element
            // is initialized.
            unsafe { (*self.vecs.add(i)).bv_len = part };
        }
        // SAFETY: By the type invariant the array has at least `len` elements, which are
        // initialized, and nothing else refers to it. Their pages are valid as long as `self` is
        // borrowed, and the lengths set above add up to `filled`. `BioVec` is a transparent wrapper
        // of `struct bio_vec`.
        unsafe {
            Pieces::from_raw(
                slice::from_raw_parts_mut(self.vecs.cast(), len),
                self.filled,
            )
        }
    }

    /// Returns an iterator that fills the pages from the first one on. It has room for `bytes`
    /// bytes, or for as many as the pages hold if these are fewer. C: `iov_iter_bvec`.
    fn dest(&mut self, bytes: usize) -> PageDest<'_> {
        let bytes = bytes.min(self.len * PAGE_SIZE);
        let segments = bytes.div_ceil(PAGE_SIZE);

        let vecs = self.vecs;
        for i in 0..segments {
            // CAST: The length is at most `PAGE_SIZE`.
            let len = (bytes - i * PAGE_SIZE).min(PAGE_SIZE) as u32;
            // SAFETY: `segments` is at most the number of pages, so the element is initialized by
            // the type invariant.
            unsafe { (*vecs.add(i)).bv_len = len };
        }

        let mut iter = MaybeUninit::uninit();
        // SAFETY: By the type invariant the first `segments` elements are initialized.
        // `iov_iter_bvec` initializes the whole of `iter`.
        let iter = unsafe {
            bindings::iov_iter_bvec(
                iter.as_mut_ptr(),
                bindings::ITER_DEST,
                vecs,
                segments,
                bytes,
            );
            iter.assume_init()
        };
        // INVARIANT: `iter` is a destination. `self` owns the only references to the pages and
        // stays borrowed, so nothing else accesses the memory.
        PageDest {
            iter: Opaque::new(iter),
            _pages: PhantomData,
        }
    }

    /// Returns the page in an element of `vecs`.
    ///
    /// # Safety
    ///
    /// The element must have a page whose only reference the caller owns and hands over.
    #[inline]
    unsafe fn page(&self, index: usize) -> OwnedPage {
        // SAFETY: The caller guarantees that the element has a page of order 0 and hands over its
        // only reference.
        unsafe { OwnedPage::from_raw(NonNull::new_unchecked((*self.vecs.add(index)).bv_page)) }
    }

    /// Returns the first page as a buffer of the bytes that were filled, or `None` if there are
    /// none. The other pages are freed.
    pub fn into_buffer(mut self) -> Option<PipeBuffer> {
        if self.filled == 0 || self.len == 0 {
            return None;
        }
        // SAFETY: By the type invariant the element has a page that `self` owns. `start` moves past
        // it, so the ownership moves to the result.
        let page = unsafe { self.page(0) };
        self.start = 1;
        // CAST: At most `PAGE_SIZE`.
        PipeBuffer::from_page(page, 0, self.filled.min(PAGE_SIZE) as u32).ok()
    }

    /// Puts the pages that were filled into `ring`, as many as there is room for. The other pages
    /// are freed.
    ///
    /// The caller has limited the read to the room in the ring, with the pipe locked since, so no
    /// filled page is without room. It wakes the readers.
    #[inline]
    pub fn put_into(self, ring: &mut PipeRing<'_>) {
        let mut filler = ring.filler();
        self.put_into_filler(&mut filler);
        filler.commit();
    }

    /// Adds the pages that were filled to `filler`, as many as there is room for. The other pages
    /// are freed.
    #[inline]
    pub fn put_into_filler(mut self, filler: &mut Filler<'_>) {
        let mut left = self.filled;
        let mut index = 0;
        while left > 0 && index < self.len && filler.space() > 0 {
            let len = left.min(PAGE_SIZE);
            left -= len;
            // SAFETY: By the type invariant the element has a page that `self` owns. `start` moves
            // past it below, so the ownership moves to the result.
            let page = unsafe { self.page(index) };
            index += 1;
            // CAST: At most `PAGE_SIZE`.
            if let Ok(buf) = PipeBuffer::from_page(page, 0, len as u32) {
                // A buffer of one page takes one slot, and one is free.
                let _ = filler.push(buf);
            }
        }
        self.start = index;
    }
}

impl Drop for FreshPages<'_> {
    #[inline]
    fn drop(&mut self) {
        for index in self.start..self.len {
            // SAFETY: By the type invariant the element has a page that `self` owns. It is not used
            // again.
            drop(unsafe { self.page(index) });
        }
    }
}

/// An iterator that fills [`FreshPages`], for functions that write to an [`IovIterDest`].
///
/// # Invariants
///
/// `iter` is a valid destination of data for `'a`.
struct PageDest<'a> {
    iter: Opaque<bindings::iov_iter>,
    _pages: PhantomData<&'a mut FreshPages<'a>>,
}

impl<'a> PageDest<'a> {
    /// Returns the iterator as the type that writers take.
    #[inline]
    fn as_iter(&mut self) -> &mut IovIterDest<'a> {
        // SAFETY: By the type invariant `iter` is a valid destination for `'a`, and it is borrowed
        // exclusively through `self`. `IovIterDest` is a transparent wrapper of `struct iov_iter`.
        unsafe { &mut *self.iter.get().cast() }
    }
}
