// SPDX-License-Identifier: GPL-2.0

//! Buffers of a pipe as an I/O vector, for a reader such as a file's `->write_iter` or a socket.
//!
//! C headers: [`include/linux/bvec.h`](srctree/include/linux/bvec.h),
//! [`include/linux/uio.h`](srctree/include/linux/uio.h)

use crate::{
    bindings,
    iov::IovIterSource,
    pipe::{BufferRef, PipeBuffer, PipeRing},
    prelude::*,
    sync::aref::ARef,
    types::Opaque,
    vmsplice::TrackedMemory,
};
use core::{marker::PhantomData, mem::MaybeUninit, ptr};

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
///     pipe::{OwnedPage, PipeBuffer, PrivatePipe},
///     splice::Pieces, //
/// };
///
/// let mut pipe = PrivatePipe::new()?;
/// let mut ring = pipe.ring();
/// let page = OwnedPage::alloc(GFP_KERNEL)?;
/// ring.vacancy().ok_or(EAGAIN)?.fill(PipeBuffer::from_page(page, 0, 10)?);
///
/// let mut slots = [const { MaybeUninit::uninit() }; 16];
/// let mut pieces = Pieces::new(&mut slots);
/// for buf in ring.iter() {
///     pieces.push(buf.into_buffer(), 5);
/// }
/// assert_eq!(pieces.bytes(), 5);
///
/// let mut bytes = [1; 10];
/// assert_eq!(pieces.source().as_iter().copy_from_iter(&mut bytes), 5);
/// assert_eq!(bytes, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
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

    /// Creates a full list from elements that are initialized.
    ///
    /// # Safety
    ///
    /// All elements must be initialized, and describe memory that is valid for `'a`. `bytes` must
    /// be the sum of their lengths.
    pub(super) unsafe fn from_raw(slots: &'a mut [MaybeUninit<BioVec>], bytes: usize) -> Self {
        // INVARIANT: The caller guarantees that the elements are initialized and valid, and that
        // `bytes` is their sum (see `# Safety`).
        Self {
            len: slots.len(),
            slots,
            bytes,
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
    ///
    /// The caller passes the pieces to a file or a socket and then consumes the bytes that were
    /// taken:
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use kernel::{
    ///     pipe::{OwnedPage, PipeBuffer, PrivatePipe},
    ///     splice::Pieces, //
    /// };
    ///
    /// let mut pipe = PrivatePipe::new()?;
    /// let mut ring = pipe.ring();
    /// for len in [10, 0, 20] {
    ///     let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, len)?;
    ///     ring.vacancy().ok_or(EAGAIN)?.fill(buf);
    /// }
    ///
    /// let mut slots = [const { MaybeUninit::uninit() }; 16];
    /// let mut pieces = Pieces::new(&mut slots);
    /// // The empty buffer makes no piece, and 5 of the wanted bytes are not there.
    /// assert!(!pieces.gather(&mut ring, 35)?);
    /// assert_eq!(pieces.bytes(), 30);
    ///
    /// // Reading the pieces leaves the data in the pipe.
    /// let mut bytes = [1; 25];
    /// assert_eq!(pieces.source().as_iter().copy_from_iter(&mut bytes), 25);
    /// assert!(ring.consume(25));
    /// assert_eq!(ring.front().map(|buf| buf.len()), Some(5));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn gather(&mut self, ring: &'a mut PipeRing<'_>, wanted: usize) -> Result<bool> {
        self.gather_while::<false>(ring, wanted, |buf| buf.confirm_inline().map(|()| true))
    }

    /// Adds buffers as [`Self::gather`] does, but stops at a buffer of [tracked
    /// memory](PipeBuffer::tracked). For readers that keep the memory for longer than the buffers.
    ///
    /// The pieces take at most as many slots of a pipe as the list has elements, so that the
    /// boundaries of messages do not depend on the size of folios.
    #[inline]
    pub fn gather_unless_tracked(
        &mut self,
        ring: &'a mut PipeRing<'_>,
        wanted: usize,
    ) -> Result<bool> {
        self.gather_while::<true>(ring, wanted, |buf| buf.confirm_unless_tracked())
    }

    /// Adds buffers as [`Self::gather`] does, or as [`Self::gather_unless_tracked`] does with
    /// `COUNT_SLOTS`, except that tracked memory is added like any other. Sets `private` to whether
    /// all pages are [private](PipeBuffer::is_private).
    ///
    /// For a reader that is given copies of all other pages.
    pub fn gather_to_copy<const COUNT_SLOTS: bool>(
        &mut self,
        ring: &'a mut PipeRing<'_>,
        wanted: usize,
        private: &mut bool,
    ) -> Result<bool> {
        *private = true;
        self.gather_while::<COUNT_SLOTS>(ring, wanted, |buf| {
            buf.confirm_inline()?;
            *private &= buf.is_private();
            Ok(true)
        })
    }

    /// Adds the first `wanted` bytes of `ring`, as long as they belong to one
    /// [`TrackedMemory`].
    ///
    /// Returns that memory, and whether the ring may hold more data. Returns `None` if the oldest
    /// buffer is of other memory. The limit on slots is that of [`Self::gather_unless_tracked`].
    /// Does not sleep: the contents of such buffers are always good.
    pub fn gather_tracked(
        &mut self,
        ring: &'a mut PipeRing<'_>,
        wanted: usize,
    ) -> Option<(ARef<TrackedMemory>, bool)> {
        let mut found: Option<ARef<TrackedMemory>> = None;
        let mut left = wanted;
        let mut slots = self.slots.len() as u32;
        for buf in ring.iter() {
            let buf = buf.into_buffer();
            match (buf.tracked(), &found) {
                (Some(memory), None) => found = Some(memory.into()),
                (Some(memory), Some(found)) if ptr::eq(memory, &**found) => (),
                (_, found) => return found.clone().map(|memory| (memory, true)),
            }
            if buf.is_empty() {
                continue;
            }
            left = left.wrapping_sub(self.push(buf, left.min(buf.len_in_slots(slots))));
            slots = slots.saturating_sub(buf.slots());
            if left == 0 || slots == 0 {
                return found.map(|memory| (memory, true));
            }
        }
        found.map(|memory| (memory, false))
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

    /// Returns the pieces as addresses for C, in `vecs`: the number of pieces and of bytes. Pieces
    /// beyond the end of `vecs` are left out. C: `struct kvec`.
    pub(crate) fn addresses(&self, vecs: &mut [MaybeUninit<bindings::kvec>]) -> (usize, usize) {
        let (pieces, len, _) = self.as_raw();
        let (mut count, mut bytes) = (0, 0);
        for (i, vec) in vecs.iter_mut().take(len).enumerate() {
            // SAFETY: By the type invariant the first `len` elements are initialized, and describe
            // contiguous pages, which have addresses: splice in Rust is for 64-bit machines only.
            let (base, part) = unsafe {
                let piece = &*pieces.add(i);
                let page = bindings::page_address(piece.bv_page).cast::<u8>();
                (page.add(piece.bv_offset as usize), piece.bv_len as usize)
            };
            vec.write(bindings::kvec {
                iov_base: base.cast(),
                iov_len: part,
            });
            count += 1;
            bytes += part;
        }
        (count, bytes)
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
///
/// `->write_iter` of a file and `sock_sendmsg` advance it. Their result is the number of bytes that
/// they took. The position of the iterator is not: an error can leave it anywhere.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use kernel::{
///     pipe::{OwnedPage, PipeBuffer},
///     splice::Pieces, //
/// };
///
/// let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10)?;
/// let mut slots = [const { MaybeUninit::uninit() }; 1];
/// let mut pieces = Pieces::new(&mut slots);
/// assert_eq!(pieces.push(&buf, 8), 8);
///
/// let mut source = pieces.source();
/// source.as_iter().advance(3);
/// assert_eq!(source.as_iter().len(), 5);
/// // A new source begins at the first byte again.
/// assert_eq!(pieces.source().as_iter().len(), 8);
/// # Ok::<(), Error>(())
/// ```
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
