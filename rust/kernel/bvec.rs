// SPDX-License-Identifier: GPL-2.0

//! I/O vectors of pages.
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

/// One piece of memory: the kernel's `struct bio_vec`.
#[repr(transparent)]
pub struct BioVec(bindings::bio_vec);

impl BioVec {
    /// The first `len` bytes of `buf`, which has as many.
    #[inline]
    fn of_buffer(buf: &PipeBuffer, len: usize) -> Self {
        Self(bindings::bio_vec {
            bv_page: buf.page(),
            // CAST: No longer than the buffer, whose length is a u32; so is its offset.
            bv_len: len as u32,
            bv_offset: buf.offset() as u32,
        })
    }
}

/// Pieces of pipe buffers, to be handed to something that reads them.
///
/// The buffers stay borrowed for as long as this exists, so they cannot be released under the
/// reader.
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
/// The first `len` of `slots` are initialized and describe memory that is valid for `'a`;
/// `bytes` is the sum of their lengths.
pub struct Pieces<'a> {
    slots: &'a mut [MaybeUninit<BioVec>],
    len: usize,
    bytes: usize,
    _buffers: PhantomData<&'a PipeBuffer>,
}

impl<'a> Pieces<'a> {
    /// Starts with none; there can be as many as `slots`.
    #[inline]
    pub fn new(slots: &'a mut [MaybeUninit<BioVec>]) -> Self {
        // INVARIANT: Trivially.
        Self {
            slots,
            len: 0,
            bytes: 0,
            _buffers: PhantomData,
        }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is room for another one.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.len >= self.slots.len()
    }

    /// The number of bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the first `len` bytes of `buf`, or all where there are fewer; says how many these were.
    /// Without room, nothing is added.
    #[inline]
    pub fn push(&mut self, buf: &'a PipeBuffer, len: usize) -> usize {
        let len = len.min(buf.len());
        let Some(slot) = self.slots.get_mut(self.len) else {
            return 0;
        };
        // INVARIANT: The buffer holds its pages for `'a`.
        slot.write(BioVec::of_buffer(buf, len));
        self.len += 1;
        // Memory that is there has fewer bytes than a usize can count.
        self.bytes = self.bytes.wrapping_add(len);
        len
    }

    /// Adds the first `wanted` bytes of `ring`, as far as there are as many and there is room.
    ///
    /// `Ok(true)`: there is more in the ring. An error says why the contents of a buffer cannot be
    /// read; those before it were added. C: the loops in `iter_file_splice_write` and
    /// `splice_to_socket`.
    #[inline]
    pub fn gather(&mut self, ring: &'a mut PipeRing<'_>, wanted: usize) -> Result<bool> {
        self.gather_while::<false>(ring, wanted, |buf| buf.confirm_inline().map(|()| true))
    }

    /// As [`Self::gather`], for those who keep the memory for longer than the buffers: ends at a
    /// buffer that has a [loan](PipeBuffer::loan). What is gathered takes no more slots of a pipe
    /// than there can be pieces, so that the ends of messages do not depend on the size of folios.
    #[inline]
    pub fn gather_unless_loaned(
        &mut self,
        ring: &'a mut PipeRing<'_>,
        wanted: usize,
    ) -> Result<bool> {
        self.gather_while::<true>(ring, wanted, |buf| buf.confirm_unless_loaned())
    }

    /// Adds the first `wanted` bytes of `ring`, as far as they belong to one loan. Returns that, and
    /// whether there is more in the ring; `None` if the oldest buffer has no loan. Otherwise as
    /// [`Self::gather_unless_loaned`].
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
            // There is no such thing as an empty bio_vec.
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
                    // CAST: Not more than there are pieces, which are few.
                    bytes = bytes.min(buf.len_in_slots((most - len) as u32));
                    most = most.saturating_sub(slots - 1).max(len + 1);
                }
            }
            // INVARIANT: The buffer holds its pages for `'a`.
            slot.write(BioVec::of_buffer(buf.into_buffer(), bytes));
            len += 1;
            left = left.wrapping_sub(bytes);
            if left == 0 || len >= most {
                // As in C, whether the last one was used up wholly is not looked at.
                break Ok(true);
            }
        };
        // INVARIANT: What was written to the slots is added here.
        self.len = len;
        self.bytes = self.bytes.wrapping_add(wanted.wrapping_sub(left));
        ret
    }

    /// The pieces as C takes them: that many, so many bytes.
    #[inline]
    pub(crate) fn as_raw(&self) -> (*const bindings::bio_vec, usize, usize) {
        (self.slots.as_ptr().cast(), self.len, self.bytes)
    }

    /// An iterator that reads the pieces from their beginning.
    #[inline]
    pub fn source(&self) -> PieceSource<'_> {
        let (vecs, len, bytes) = self.as_raw();
        let mut iter = MaybeUninit::uninit();
        // SAFETY: The first `len` slots are initialized, by the type invariant, and this
        // initializes `iter`.
        let iter = unsafe {
            bindings::iov_iter_bvec(iter.as_mut_ptr(), bindings::ITER_SOURCE, vecs, len, bytes);
            iter.assume_init()
        };
        // INVARIANT: A source, as long as `self` is borrowed.
        PieceSource {
            iter: Opaque::new(iter),
            _pieces: PhantomData,
        }
    }
}

/// An iterator over [`Pieces`].
///
/// # Invariants
///
/// `iter` is a valid source of data for `'a`.
pub struct PieceSource<'a> {
    iter: Opaque<bindings::iov_iter>,
    _pieces: PhantomData<&'a Pieces<'a>>,
}

impl<'a> PieceSource<'a> {
    /// The iterator as the type that readers of data take.
    #[inline]
    pub fn as_iter(&mut self) -> &mut IovIterSource<'a> {
        // SAFETY: By the type invariant; the layouts are the same, and `self` is borrowed.
        unsafe { &mut *self.iter.get().cast() }
    }
}

/// The most pages that [`FreshPages`] keep in a [`PageArray`]: below their user, in the same stack,
/// are file systems, some of them on others.
const FEW_PAGES: usize = 8;

/// Room for what [`FreshPages`] keep, if these are few.
pub struct PageArray([MaybeUninit<BioVec>; FEW_PAGES]);

impl PageArray {
    /// With nothing in it.
    #[inline(always)]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; FEW_PAGES])
    }
}

/// Freshly allocated pages, to be filled and then put into a pipe.
///
/// # Invariants
///
/// `vecs` has `len` elements or more, and nothing else refers to them for `'a`. Those from `taken`
/// to `len` have pages of order 0 with one reference, owned by this value.
pub struct FreshPages<'a> {
    vecs: *mut BioVec,
    taken: usize,
    len: usize,
    // What the pointer points into, if the array given is too small.
    _heap: KVec<BioVec>,
    _array: PhantomData<&'a mut PageArray>,
}

impl<'a> FreshPages<'a> {
    /// Allocates `n` pages, or fewer where memory is short. Fails with [`ENOMEM`] where there is
    /// none at all, or `n` is zero. May sleep.
    #[inline]
    pub fn alloc(array: &'a mut PageArray, n: usize) -> Result<Self> {
        // Two page pointers take no more room than one bio_vec.
        const { assert!(size_of::<*mut bindings::page>() * 2 <= size_of::<BioVec>()) };

        let mut heap = KVec::new();
        let vecs: *mut BioVec = if n <= FEW_PAGES {
            array.0.as_mut_ptr().cast()
        } else {
            heap.reserve(n, GFP_KERNEL)?;
            heap.as_mut_ptr()
        };
        // The pages are allocated into the second half of the array.
        // SAFETY: There is room for `n` bio_vecs, so for `n` page pointers from the middle on. They
        // have to be null for `alloc_pages_bulk`, which fills in those that are.
        let (pages, len) = unsafe {
            let pages = vecs.cast::<*mut bindings::page>().add(n);
            ptr::write_bytes(pages, 0, n);
            (pages, bindings::alloc_pages_bulk(bindings::GFP_USER, n, pages))
        };
        // CAST: Not more than `n`.
        let len = len as usize;
        if len == 0 {
            return Err(ENOMEM);
        }
        for i in 0..len {
            // SAFETY: Both are in the array. The bio_vec ends at or before the end of the pointer
            // that it is made of, so no pointer is overwritten before it is read.
            unsafe {
                vecs.add(i).write(BioVec(bindings::bio_vec {
                    bv_page: pages.add(i).read(),
                    bv_len: 0,
                    bv_offset: 0,
                }))
            };
        }
        // INVARIANT: By the above.
        Ok(Self {
            vecs,
            taken: 0,
            len,
            _heap: heap,
            _array: PhantomData,
        })
    }

    /// How many pages there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len - self.taken
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An iterator that fills the pages, `bytes` in all, or as many as there is room for.
    pub fn dest(&mut self, bytes: usize) -> PageDest<'_> {
        let bytes = bytes.min(self.len() * PAGE_SIZE);
        let segments = bytes.div_ceil(PAGE_SIZE);

        // SAFETY: There are as many pages from `taken` on.
        let vecs = unsafe { self.vecs.add(self.taken) };
        for i in 0..segments {
            // CAST: Not more than PAGE_SIZE.
            let len = (bytes - i * PAGE_SIZE).min(PAGE_SIZE) as u32;
            // SAFETY: As above.
            unsafe { (*vecs.add(i)).0.bv_len = len };
        }

        let mut iter = MaybeUninit::uninit();
        // SAFETY: The first `segments` elements are initialized; this initializes `iter`.
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
        // INVARIANT: A destination: the pages are ours alone, as long as `self` is borrowed.
        PageDest {
            iter: Opaque::new(iter),
            _pages: PhantomData,
        }
    }

    /// Frees all but the first `n` pages.
    #[inline]
    pub fn truncate(&mut self, n: usize) {
        while self.len() > n {
            self.len -= 1;
            // SAFETY: By the type invariant it is there, and was ours.
            drop(unsafe { self.page(self.len) });
        }
    }

    /// The page in an element of `vecs`.
    ///
    /// # Safety
    ///
    /// The element has a page whose reference is handed over by the caller.
    #[inline]
    unsafe fn page(&self, index: usize) -> OwnedPage {
        // SAFETY: By the caller's promise it has a page, which is valid and of order 0.
        unsafe { OwnedPage::from_raw(NonNull::new_unchecked((*self.vecs.add(index)).0.bv_page)) }
    }

    /// Takes the first page out. What was not filled of it is what memory happened to hold: whoever
    /// puts it into a pipe makes sure that this is not part of the buffer.
    #[inline]
    pub fn pop_front(&mut self) -> Option<OwnedPage> {
        if self.is_empty() {
            return None;
        }
        self.taken += 1;
        // SAFETY: By the type invariant it is there, and was ours.
        Some(unsafe { self.page(self.taken - 1) })
    }
}

impl Drop for FreshPages<'_> {
    #[inline]
    fn drop(&mut self) {
        self.truncate(0);
    }
}

/// An iterator that fills [`FreshPages`].
///
/// # Invariants
///
/// `iter` is a valid destination of data for `'a`.
pub struct PageDest<'a> {
    iter: Opaque<bindings::iov_iter>,
    _pages: PhantomData<&'a mut FreshPages<'a>>,
}

impl<'a> PageDest<'a> {
    /// The iterator as the type that writers of data take.
    #[inline]
    pub fn as_iter(&mut self) -> &mut IovIterDest<'a> {
        // SAFETY: By the type invariant; the layouts are the same, and `self` is borrowed.
        unsafe { &mut *self.iter.get().cast() }
    }
}
