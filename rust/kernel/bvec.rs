// SPDX-License-Identifier: GPL-2.0

//! I/O vectors of pages.
//!
//! [`Pieces`] describes buffers of a pipe for a reader, such as a file's `->write_iter` or a
//! socket. [`FreshPages`] are pages that a writer, such as a file's `->read_iter`, fills for a
//! pipe.
//!
//! C headers: [`include/linux/bvec.h`](srctree/include/linux/bvec.h),
//! [`include/linux/uio.h`](srctree/include/linux/uio.h)

use crate::{
    bindings,
    iov::{IovIterDest, IovIterSource},
    page::PAGE_SIZE,
    pipe::{BufferRef, OwnedPage, PipeBuffer, PipeRing},
    prelude::*,
    splice::loan::Loan,
    sync::aref::ARef,
    types::Opaque,
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{self, NonNull},
};

/// A piece of physically contiguous memory. C: `struct bio_vec`.
#[repr(transparent)]
pub struct BioVec(bindings::bio_vec);

impl BioVec {
    /// Describes the first `len` bytes of `buf`. `len` must not be larger than the length of `buf`.
    #[inline]
    fn of_buffer(buf: &PipeBuffer, len: usize) -> Self {
        Self(bindings::bio_vec {
            bv_page: buf.page(),
            // CAST: `len` is at most the length of the buffer, which is a u32. The offset is a u32,
            // too.
            bv_len: len as u32,
            bv_offset: buf.offset() as u32,
        })
    }
}

/// Pieces of pipe buffers, for a reader such as a file or a socket.
///
/// The buffers stay borrowed as long as this exists, so they cannot be released while the reader
/// uses them. A reader that keeps the memory for longer takes its own references to the pages.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use kernel::{
///     bvec::{FreshPages, PageArray, Pieces},
///     pipe::{PipeBuffer, PrivatePipe},
/// };
///
/// let mut array = PageArray::new();
/// let mut pages = FreshPages::alloc(&mut array, 1)?;
/// assert_eq!(pages.dest(100).as_iter().copy_to_iter(b"to be sent"), 10);
///
/// let mut pipe = PrivatePipe::new()?;
/// let page = pages.pop_front().ok_or(ENOMEM)?;
/// let mut ring = pipe.ring();
/// ring.vacancy().ok_or(EAGAIN)?.fill(PipeBuffer::from_page(page, 0, 10)?);
///
/// let mut slots = [const { MaybeUninit::uninit() }; 16];
/// let mut pieces = Pieces::new(&mut slots);
/// for buf in ring.iter() {
///     pieces.push(buf.into_buffer(), 5);
/// }
/// assert_eq!(pieces.bytes(), 5);
///
/// let mut text = [0; 10];
/// assert_eq!(pieces.source().as_iter().copy_from_iter(&mut text), 5);
/// assert_eq!(&text[..5], b"to be");
/// # Ok::<(), Error>(())
/// ```
///
/// # Invariants
///
/// The first `len` elements of `slots` are initialized and describe memory that is valid for `'a`.
/// `bytes` is the sum of their lengths.
pub struct Pieces<'a> {
    slots: &'a mut [MaybeUninit<BioVec>],
    len: usize,
    bytes: usize,
    _buffers: PhantomData<&'a PipeBuffer>,
}

impl<'a> Pieces<'a> {
    /// Creates an empty list. It can hold as many pieces as `slots` has elements.
    ///
    /// The caller provides the memory, so that a short list can be on the stack.
    #[inline]
    pub fn new(slots: &'a mut [MaybeUninit<BioVec>]) -> Self {
        // INVARIANT: The list is empty, so no element needs to be initialized.
        Self {
            slots,
            len: 0,
            bytes: 0,
            _buffers: PhantomData,
        }
    }

    /// Returns whether there are no pieces.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether there is no room for another piece.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len >= self.slots.len()
    }

    /// Returns the total number of bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the first `len` bytes of `buf`, or all if there are fewer. Returns the number of bytes
    /// that were added, which is 0 if there is no room.
    #[inline]
    pub fn push(&mut self, buf: &'a PipeBuffer, len: usize) -> usize {
        let len = len.min(buf.len());
        let Some(slot) = self.slots.get_mut(self.len) else {
            return 0;
        };
        // INVARIANT: `buf` holds a reference to its pages and is borrowed for `'a`, so the memory
        // is valid for `'a`.
        slot.write(BioVec::of_buffer(buf, len));
        self.len += 1;
        // The sum cannot overflow: it counts bytes of memory.
        self.bytes = self.bytes.wrapping_add(len);
        len
    }

    /// Adds the first `wanted` bytes of `ring`, until the ring ends or there is no room for another
    /// piece. Waits for the contents of each buffer; may sleep. C: the loops in
    /// `iter_file_splice_write` and `splice_to_socket`.
    ///
    /// Returns `Ok(false)` if all buffers of the ring were added, and `Ok(true)` if it stopped
    /// before it reached the end, in which case the ring may hold more data. Empty buffers are
    /// skipped.
    ///
    /// Returns the error of [`BufferRef::confirm`] if the contents of a buffer cannot be read. The
    /// buffers before this one were added then.
    #[inline]
    pub fn gather(&mut self, ring: &'a mut PipeRing<'_>, wanted: usize) -> Result<bool> {
        self.gather_while::<false>(ring, wanted, |buf| buf.confirm_inline().map(|()| true))
    }

    /// Adds buffers as [`Self::gather`] does, but stops at a buffer that has a
    /// [loan](PipeBuffer::loan). For readers that keep the memory for longer than the buffers.
    ///
    /// The pieces take at most as many slots of a pipe as the list has elements, so that the
    /// boundaries of messages do not depend on the size of folios.
    #[inline]
    pub fn gather_unless_loaned(
        &mut self,
        ring: &'a mut PipeRing<'_>,
        wanted: usize,
    ) -> Result<bool> {
        self.gather_while::<true>(ring, wanted, |buf| buf.confirm_unless_loaned())
    }

    /// Adds the first `wanted` bytes of `ring`, as long as they belong to one loan.
    ///
    /// Returns that loan, and whether the ring may hold more data. Returns `None` if the oldest
    /// buffer has no loan. The limit on slots is that of [`Self::gather_unless_loaned`]. Does not
    /// sleep: the contents of such buffers are always good.
    pub fn gather_loaned(
        &mut self,
        ring: &'a mut PipeRing<'_>,
        wanted: usize,
    ) -> Option<(ARef<Loan>, bool)> {
        let mut found: Option<ARef<Loan>> = None;
        let mut left = wanted;
        let mut slots = self.slots.len() as u32;
        for buf in ring.iter() {
            let buf = buf.into_buffer();
            match (buf.loan(), &found) {
                (Some(loan), None) => found = Some(loan.into()),
                (Some(loan), Some(found)) if ptr::eq(loan, &**found) => (),
                (_, found) => return found.clone().map(|loan| (loan, true)),
            }
            if buf.is_empty() {
                continue;
            }
            left = left.wrapping_sub(self.push(buf, left.min(buf.len_in_slots(slots))));
            slots = slots.saturating_sub(buf.slots());
            if left == 0 || slots == 0 {
                return found.map(|loan| (loan, true));
            }
        }
        found.map(|loan| (loan, false))
    }

    #[inline(always)]
    fn gather_while<const COUNT_SLOTS: bool>(
        &mut self,
        ring: &'a mut PipeRing<'_>,
        wanted: usize,
        mut confirm: impl FnMut(&mut BufferRef<'_>) -> Result<bool>,
    ) -> Result<bool> {
        let mut len = self.len;
        let mut left = wanted;
        let mut most = self.slots.len();
        let mut bufs = ring.iter();
        let ret = loop {
            let Some(mut buf) = bufs.next() else {
                break Ok(false);
            };
            // A bio_vec must not be empty.
            if buf.is_empty() {
                continue;
            }
            match confirm(&mut buf) {
                Ok(true) => (),
                Ok(false) => break Ok(true),
                Err(err) => break Err(err),
            }
            let Some(slot) = self.slots.get_mut(len) else {
                break Ok(true);
            };
            let mut bytes = left.min(buf.len());
            if COUNT_SLOTS {
                let slots = buf.slots() as usize;
                if slots > 1 {
                    // CAST: The number is at most the length of the list, which is short.
                    bytes = bytes.min(buf.len_in_slots((most - len) as u32));
                    most = most.saturating_sub(slots - 1).max(len + 1);
                }
            }
            // INVARIANT: The buffer holds a reference to its pages, and the ring is borrowed for
            // `'a`.
            slot.write(BioVec::of_buffer(buf.into_buffer(), bytes));
            len += 1;
            left = left.wrapping_sub(bytes);
            if left == 0 || len >= most {
                // As in C, this does not check whether any bytes are left in the last buffer.
                break Ok(true);
            }
        };
        // INVARIANT: `len` counts the elements that were written above, and their bytes are added
        // here.
        self.len = len;
        self.bytes = self.bytes.wrapping_add(wanted.wrapping_sub(left));
        ret
    }

    /// Returns the pieces for C: the array, the number of pieces, and the number of bytes.
    #[inline]
    pub(crate) fn as_raw(&self) -> (*const bindings::bio_vec, usize, usize) {
        (self.slots.as_ptr().cast(), self.len, self.bytes)
    }

    /// Returns an iterator that reads the pieces from the beginning. C: `iov_iter_bvec`.
    #[inline]
    pub fn source(&self) -> PieceSource<'_> {
        let (vecs, len, bytes) = self.as_raw();
        let mut iter = MaybeUninit::uninit();
        // SAFETY: By the type invariant the first `len` slots are initialized. `iov_iter_bvec`
        // initializes the whole of `iter`.
        let iter = unsafe {
            bindings::iov_iter_bvec(iter.as_mut_ptr(), bindings::ITER_SOURCE, vecs, len, bytes);
            iter.assume_init()
        };
        // INVARIANT: `iter` is a source, and the memory stays valid because `self` stays borrowed.
        PieceSource {
            iter: Opaque::new(iter),
            _pieces: PhantomData,
        }
    }
}

/// An iterator over [`Pieces`], for functions that read from an [`IovIterSource`].
///
/// # Invariants
///
/// `iter` is a valid source of data for `'a`.
pub struct PieceSource<'a> {
    iter: Opaque<bindings::iov_iter>,
    _pieces: PhantomData<&'a Pieces<'a>>,
}

impl<'a> PieceSource<'a> {
    /// Returns the iterator as the type that readers take.
    #[inline]
    pub fn as_iter(&mut self) -> &mut IovIterSource<'a> {
        // SAFETY: By the type invariant `iter` is a valid source for `'a`, and it is borrowed
        // exclusively through `self`. `IovIterSource` is a transparent wrapper of `struct
        // iov_iter`.
        unsafe { &mut *self.iter.get().cast() }
    }
}

/// The number of pages that a [`PageArray`] has room for. It is small because the array is on the
/// stack, on which file systems nest.
const FEW_PAGES: usize = 8;

/// Memory for the list of [`FreshPages`], if there are at most 8 of them. More pages need an
/// allocation.
pub struct PageArray([MaybeUninit<BioVec>; FEW_PAGES]);

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
/// The pages are not zeroed: only bytes that were filled may reach user space.
///
/// # Invariants
///
/// `vecs` has at least `len` elements, and nothing else refers to them for `'a`. The elements from
/// `taken` to `len` contain pages of order 0. This value owns their only references.
pub struct FreshPages<'a> {
    vecs: *mut BioVec,
    taken: usize,
    len: usize,
    // The memory that `vecs` points to, unless it is the array of the caller.
    _heap: KVec<BioVec>,
    _array: PhantomData<&'a mut PageArray>,
}

impl<'a> FreshPages<'a> {
    /// Allocates `n` pages, or fewer if memory is short. May sleep. C: `alloc_pages_bulk`.
    ///
    /// `array` provides the memory for the list of pages if there are few of them.
    ///
    /// Returns [`ENOMEM`] if no page or no memory for the list can be allocated, or if `n` is zero.
    #[inline]
    pub fn alloc(array: &'a mut PageArray, n: usize) -> Result<Self> {
        // The list of page pointers is in the second half of the array of bio_vecs.
        const { assert!(size_of::<*mut bindings::page>() * 2 <= size_of::<BioVec>()) };

        let mut heap = KVec::new();
        let vecs: *mut BioVec = if n <= FEW_PAGES {
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
                vecs.add(i).write(BioVec(bindings::bio_vec {
                    bv_page: pages.add(i).read(),
                    bv_len: 0,
                    bv_offset: 0,
                }))
            };
        }
        // INVARIANT: The loop above initialized the first `len` elements with pages of order 0,
        // each with one reference, and the array is borrowed or in `heap`.
        Ok(Self {
            vecs,
            taken: 0,
            len,
            _heap: heap,
            _array: PhantomData,
        })
    }

    /// Returns the number of pages.
    #[inline]
    pub fn len(&self) -> usize {
        self.len - self.taken
    }

    /// Returns whether there are no pages.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns an iterator that fills the pages from the first one on. It has room for `bytes`
    /// bytes, or for as many as the pages hold if these are fewer. C: `iov_iter_bvec`.
    pub fn dest(&mut self, bytes: usize) -> PageDest<'_> {
        let bytes = bytes.min(self.len() * PAGE_SIZE);
        let segments = bytes.div_ceil(PAGE_SIZE);

        // SAFETY: By the type invariant there are `len` elements, and `taken` is not larger than
        // `len`.
        let vecs = unsafe { self.vecs.add(self.taken) };
        for i in 0..segments {
            // CAST: The length is at most `PAGE_SIZE`.
            let len = (bytes - i * PAGE_SIZE).min(PAGE_SIZE) as u32;
            // SAFETY: `segments` is at most the number of pages, so the element is one of those
            // from `taken` to `len`, which are initialized by the type invariant.
            unsafe { (*vecs.add(i)).0.bv_len = len };
        }

        let mut iter = MaybeUninit::uninit();
        // SAFETY: By the type invariant the first `segments` elements from `taken` on are
        // initialized. `iov_iter_bvec` initializes the whole of `iter`.
        let iter = unsafe {
            bindings::iov_iter_bvec(
                iter.as_mut_ptr(),
                bindings::ITER_DEST,
                vecs.cast(),
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

    /// Frees all pages except the first `n`.
    #[inline]
    pub fn truncate(&mut self, n: usize) {
        while self.len() > n {
            self.len -= 1;
            // SAFETY: By the type invariant the element has a page that `self` owned. `len` was
            // reduced, so the ownership moves to the result.
            drop(unsafe { self.page(self.len) });
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
        unsafe { OwnedPage::from_raw(NonNull::new_unchecked((*self.vecs.add(index)).0.bv_page)) }
    }

    /// Removes the first page and returns it, or `None` if there are no pages.
    ///
    /// Bytes that were not filled have the contents that the memory had before. The caller must not
    /// make them part of a buffer.
    #[inline]
    pub fn pop_front(&mut self) -> Option<OwnedPage> {
        if self.is_empty() {
            return None;
        }
        self.taken += 1;
        // SAFETY: By the type invariant the element has a page that `self` owned. `taken` was
        // increased, so the ownership moves to the result.
        Some(unsafe { self.page(self.taken - 1) })
    }
}

impl Drop for FreshPages<'_> {
    #[inline]
    fn drop(&mut self) {
        self.truncate(0);
    }
}

/// An iterator that fills [`FreshPages`], for functions that write to an [`IovIterDest`].
///
/// # Invariants
///
/// `iter` is a valid destination of data for `'a`.
pub struct PageDest<'a> {
    iter: Opaque<bindings::iov_iter>,
    _pages: PhantomData<&'a mut FreshPages<'a>>,
}

impl<'a> PageDest<'a> {
    /// Returns the iterator as the type that writers take.
    #[inline]
    pub fn as_iter(&mut self) -> &mut IovIterDest<'a> {
        // SAFETY: By the type invariant `iter` is a valid destination for `'a`, and it is borrowed
        // exclusively through `self`. `IovIterDest` is a transparent wrapper of `struct iov_iter`.
        unsafe { &mut *self.iter.get().cast() }
    }
}
