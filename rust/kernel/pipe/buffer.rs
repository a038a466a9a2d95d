// SPDX-License-Identifier: GPL-2.0

//! Pipe buffers. A buffer owns one counted reference to a part of a page, or of several contiguous
//! pages.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::page::{OwnedFolio, OwnedPage};
use crate::{bindings, folio::Folio, impl_flags, page::PAGE_SIZE, prelude::*, types::Opaque};
use core::{
    mem::{ManuallyDrop, MaybeUninit},
    ptr,
};

impl_flags!(
    /// Properties of a buffer that its readers and writers must respect. C: `PIPE_BUF_FLAG_*`.
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct BufferFlags(u32);

    /// A single flag of [`BufferFlags`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum BufferFlag {
        /// The page is on an LRU list already.
        Lru = bindings::PIPE_BUF_FLAG_LRU,
        /// User space gave the page away: `SPLICE_F_GIFT`.
        Gift = bindings::PIPE_BUF_FLAG_GIFT,
        /// One `read(2)` takes this buffer alone.
        Packet = bindings::PIPE_BUF_FLAG_PACKET,
        /// A later `write(2)` may append to the page.
        CanMerge = bindings::PIPE_BUF_FLAG_CAN_MERGE,
        /// One `read(2)` takes all of this buffer or fails.
        Whole = bindings::PIPE_BUF_FLAG_WHOLE,
        /// The buffer takes one slot for each of its pages.
        Pages = bindings::PIPE_BUF_FLAG_PAGES,
        /// The operations are part of an [`OpsTable`]. C copies flags and operations together, so
        /// the flag stays correct when C moves the buffer. The bit is far from the bits that C
        /// uses.
        RustOps = 1 << 30,
    }
);

/// The origin of a buffer's page. It determines who else may read or change the page.
///
/// A buffer does not freeze its contents. These can change them while the buffer is in a pipe:
///
/// | provenance | written by |
/// | --- | --- |
/// | [`Private`](Self::Private) | `write(2)` to the pipe, behind the end of the buffer only |
/// | [`PageCache`](Self::PageCache) | any write to the file, or to a shared mapping of it |
/// | [`UserMemory`](Self::UserMemory) | any process that maps the memory, at any time |
/// | [`Socket`](Self::Socket) | a sender on this host that sent its memory by reference |
/// | [`Device`](Self::Device) | nobody |
/// | [`Lent`](Self::Lent) | devices, and any process that maps the memory, at any time |
/// | [`Foreign`](Self::Foreign) | unknown |
///
/// So a consumer that checks the contents before it uses them copies them first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// Allocated for a pipe, by `write(2)` to it or as the target of a copy.
    Private,
    /// In the page cache of a file.
    PageCache,
    /// Mapped by user space: `vmsplice(2)`.
    UserMemory,
    /// Part of a socket buffer, or of another queue that needs to keep its page.
    Socket,
    /// Owned by a driver.
    Device,
    /// Owned by a driver that still lets devices or user space write to it: a writable dma-buf.
    Lent,
    /// Unknown: the buffer has operations that this module does not know.
    Foreign,
}

/// One pipe buffer. C: `struct pipe_buffer`.
///
/// A buffer owns exactly one reference to the memory that it describes. Moving the buffer moves the
/// reference, dropping it gives the reference back, and [`try_clone`](Self::try_clone) takes
/// another one. The page can be read only, with two exceptions: [`try_steal`](Self::try_steal)
/// takes the page over, and a sink may write to a page that [is private](Self::is_private).
///
/// A buffer may span several physically contiguous pages; do not assume that `offset + len <=
/// PAGE_SIZE`.
///
/// Dropping a buffer calls `->release`. It may sleep for buffers of a driver, so drop buffers in
/// task context and not under a spinlock.
///
/// # Invariants
///
/// `ops` points to a valid operations table. `page` is valid, and `self` owns the reference that
/// the table's `release` gives back. If [`BufferFlag::RustOps`] is set, `ops` points into an
/// [`OpsTable`].
///
/// # Examples
///
/// ```
/// use kernel::pipe::{OwnedPage, PipeBuffer, Provenance};
///
/// let page = OwnedPage::alloc(GFP_KERNEL)?;
/// let mut buf = PipeBuffer::from_page(page, 0, 100)?;
/// assert_eq!(buf.provenance(), Provenance::Private);
///
/// // Split it into two buffers of one page.
/// let first = buf.split_to(40)?;
/// assert_eq!((first.offset(), first.len()), (0, 40));
/// assert_eq!((buf.offset(), buf.len()), (40, 60));
///
/// // The page cannot be taken over while both buffers refer to it.
/// let Err(buf) = buf.try_steal() else { return Err(EINVAL) };
/// drop(first);
/// let Ok(_folio) = buf.try_steal() else { return Err(EINVAL) };
/// # Ok::<(), Error>(())
/// ```
#[repr(transparent)]
pub struct PipeBuffer(bindings::pipe_buffer);

impl PipeBuffer {
    /// Creates a buffer of `len` bytes at `offset` of `page`, which then belongs to the pipe alone.
    ///
    /// Returns [`EINVAL`] and frees the page if the bytes are not all within it.
    #[inline]
    pub fn from_page(page: OwnedPage, offset: u32, len: u32) -> Result<Self> {
        if offset as usize > PAGE_SIZE || len as usize > PAGE_SIZE - offset as usize {
            return Err(EINVAL);
        }
        // INVARIANT: The release operation of this table gives back one page reference, and `page`
        // hands over its only one.
        Ok(Self(bindings::pipe_buffer {
            page: page.into_raw(),
            offset,
            len,
            ops: &raw const bindings::default_pipe_buf_ops,
            flags: 0,
            private: 0,
        }))
    }

    /// Returns whether the contents are known to be good without a call of `->confirm`: there is no
    /// such operation, or the page is an up-to-date page of the page cache.
    ///
    /// This is the case for nearly all buffers, and it saves the indirect call.
    #[inline]
    pub(crate) fn is_good(&self) -> bool {
        // SAFETY: `ops` points to a valid table by the type invariant.
        if unsafe { (*self.0.ops).confirm.is_none() } {
            return true;
        }
        ptr::eq(self.0.ops, &raw const bindings::page_cache_pipe_buf_ops)
            && self.folio().is_uptodate()
    }

    /// Returns whether the buffer takes one slot for each of its pages.
    #[inline]
    pub(super) fn is_of_pages(&self) -> bool {
        self.0.flags & BufferFlag::Pages as u32 != 0
    }

    /// Makes the buffer take one slot, whatever its number of pages.
    #[inline]
    pub(super) fn count_as_one(&mut self) {
        self.0.flags &= !(BufferFlag::Pages as u32);
    }

    /// Makes a buffer of several pages of a file, or of user memory, take one slot for each page. A
    /// buffer of other pages stays as it is.
    ///
    /// C code that splices from a socket makes one buffer of each fragment of a socket buffer. If
    /// such pages were sent by splice, C would have made a fragment of each. So the pipe is full at
    /// the same number of bytes. A fragment of pages that a driver received takes one slot, as in
    /// C.
    #[inline]
    pub fn with_slots_of_shared_pages(mut self) -> Self {
        if self.offset() + self.len() > PAGE_SIZE && self.folio().has_mapping() {
            self.0.flags |= BufferFlag::Pages as u32;
            self.normalize();
        }
        self
    }

    /// Returns the number of slots that the buffer takes in a ring, at least 1.
    ///
    /// Only buffers of user memory and of files take several slots: one buffer refers to contiguous
    /// pages, and one slot for each page keeps the capacity of the pipe independent of how
    /// contiguous memory is.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer};
    ///
    /// let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 10, 100)?;
    /// assert_eq!(buf.slots(), 1);
    /// assert_eq!((buf.len_in_slots(0), buf.len_in_slots(1)), (0, 100));
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn slots(&self) -> u32 {
        if !self.is_of_pages() {
            return 1;
        }
        // CAST: The sum is less than 2^33, so the quotient is far below 2^32.
        (self.offset() + self.len()).div_ceil(PAGE_SIZE).max(1) as u32
    }

    /// Returns the number of the buffer's bytes that lie in its first `slots` slots.
    ///
    /// A transfer into a pipe cuts a buffer at this length, with the number of free slots as
    /// `slots`.
    #[inline]
    pub fn len_in_slots(&self, slots: u32) -> usize {
        if !self.is_of_pages() {
            return if slots == 0 { 0 } else { self.len() };
        }
        (slots as usize * PAGE_SIZE)
            .saturating_sub(self.offset())
            .min(self.len())
    }

    /// Splits the bytes in the last slot off and returns them as a buffer that takes one slot. The
    /// buffer must take several slots.
    ///
    /// Fails as [`Self::try_clone`] does, and leaves the buffer unchanged then.
    pub(super) fn split_last_page(&mut self) -> Result<Self> {
        let keep = self.len_in_slots(self.slots() - 1);
        let mut last = self.try_clone()?;
        last.advance(keep);
        last.count_as_one();
        self.truncate(keep);
        Ok(last)
    }

    /// Takes a buffer over from C.
    ///
    /// # Safety
    ///
    /// `raw` must be a valid buffer whose reference the caller hands over.
    #[inline]
    pub unsafe fn from_raw(raw: bindings::pipe_buffer) -> Self {
        // INVARIANT: The caller guarantees that the buffer is valid and that its reference is
        // handed over (see `# Safety`).
        Self(raw)
    }

    /// Hands the buffer and its reference over to C.
    ///
    /// C code, or [`Self::from_raw`], must release the buffer. Otherwise its page is never freed.
    #[inline]
    pub(crate) fn into_raw(self) -> bindings::pipe_buffer {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is valid for a read. It is read once and not dropped, so the reference
        // moves.
        unsafe { ptr::read(&this.0) }
    }

    /// Returns the C struct, for functions that may change it.
    #[inline]
    pub(super) fn as_raw(&mut self) -> *mut bindings::pipe_buffer {
        &raw mut self.0
    }

    /// Returns the C struct.
    #[inline]
    pub(crate) fn raw(&self) -> &bindings::pipe_buffer {
        &self.0
    }

    /// Returns the number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len as usize
    }

    /// Returns whether the buffer has no bytes. A pipe may contain empty buffers.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Returns the offset of the first byte in the first page of the buffer.
    #[inline]
    pub fn offset(&self) -> usize {
        self.0.offset as usize
    }

    /// Returns the first page of the buffer. The page may be read through this pointer, but not
    /// written. Code outside of this crate implements [`AuditedSink`](super::AuditedSink) to get
    /// it.
    ///
    /// For buffers of several pages the others follow it in the `struct page` array, up to `offset
    /// + len` bytes. They belong to one folio.
    #[inline]
    pub(crate) fn page(&self) -> *mut bindings::page {
        self.0.page
    }

    /// Returns the folio that the page belongs to.
    #[inline]
    pub fn folio(&self) -> &Folio {
        // SAFETY: The page is valid by the type invariant, and the buffer holds a reference to it
        // for the duration of the borrow.
        unsafe { Folio::of_page(self.0.page) }
    }

    /// Returns the flags.
    #[inline]
    pub fn flags(&self) -> BufferFlags {
        // Leave out bits that only C knows.
        BufferFlags(self.0.flags & BufferFlags::all_bits())
    }

    /// Drops the first `n` bytes, or all if there are fewer. The reference stays.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        // CAST: `n` is at most the length, which is a u32. So the subtraction cannot wrap either.
        let n = n.min(self.len()) as u32;
        self.0.offset = self.0.offset.wrapping_add(n);
        self.0.len = self.0.len.wrapping_sub(n);
        if self.is_of_pages() {
            self.normalize();
        }
    }

    /// Makes `page` the page of the first byte, so that the offset is below `PAGE_SIZE` again.
    #[cold]
    fn normalize(&mut self) {
        // An empty buffer may end at the end of its last page, and no page of the buffer follows
        // there.
        let pages = self.offset() / PAGE_SIZE;
        if pages > 0 && self.0.len > 0 {
            // SAFETY: The buffer has bytes left, which begin in this page, so the page is one of
            // the buffer's contiguous pages.
            self.0.page = unsafe { self.0.page.add(pages) };
            self.0.offset %= PAGE_SIZE as u32;
        }
    }

    /// Keeps only the first `len` bytes.
    ///
    /// `write(2)` cannot append to the buffer afterwards, because other buffers may refer to the
    /// bytes that follow.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer};
    ///
    /// let mut buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 100)?;
    /// buf.truncate(60);
    /// buf.advance(10);
    /// assert_eq!((buf.offset(), buf.len()), (10, 50));
    /// // More than there is leaves an empty buffer, which still owns its page.
    /// buf.advance(51);
    /// assert!(buf.is_empty());
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.0.len = len.min(self.len()) as u32;
        self.0.flags &= !(BufferFlag::CanMerge as u32);
    }

    /// Joins `first`, which was split off the front of this buffer, with it again. Returns the
    /// number of additional slots that this buffer takes.
    ///
    /// Returns `Err(first)` if that number is larger than `space`, or if `first` does not end where
    /// this buffer begins.
    pub(super) fn prepend(&mut self, first: Self, space: u32) -> Result<u32, Self> {
        let end = first.offset() + first.len();
        let (page, offset) = if first.is_of_pages() {
            let page = first.page().wrapping_add(end / PAGE_SIZE);
            (page, end % PAGE_SIZE)
        } else {
            (first.page(), end)
        };
        let len = self.0.len.checked_add(first.0.len);
        let follows = (self.page(), self.offset()) == (page, offset)
            && self.is_of_pages() == first.is_of_pages()
            && self.0.ops == first.0.ops
            && self.0.private == first.0.private
            && ptr::eq(self.folio(), first.folio());
        let Some(len) = len.filter(|_| follows) else {
            return Err(first);
        };
        let mut whole = ManuallyDrop::new(Self(bindings::pipe_buffer { ..self.0 }));
        whole.0.page = first.0.page;
        whole.0.offset = first.0.offset;
        whole.0.len = len;
        let more = whole.slots() - self.slots();
        if more > space {
            return Err(first);
        }
        // INVARIANT: `self` keeps its own reference, which is to the same folio or object.
        // Returning from here drops `first` and thereby its reference.
        self.0 = bindings::pipe_buffer { ..whole.0 };
        Ok(more)
    }

    /// Joins `more` with the end of this buffer.
    ///
    /// Returns `Err(more)` if either is not user memory, if they belong to different folios or
    /// loans, or if the pages of `more` do not follow those of this buffer.
    ///
    /// `vmsplice(2)` uses this to join what two page faults found separately. Buffers of other
    /// kinds stay apart, because only user memory may take several slots.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer};
    ///
    /// let mut buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10)?;
    /// let more = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 20)?;
    /// // No data is lost: the second buffer comes back.
    /// assert_eq!(buf.append(more).map_err(|more| more.len()), Err(20));
    /// assert_eq!(buf.len(), 10);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn append(&mut self, more: Self) -> Result<(), Self> {
        let end = self.offset() + self.len();
        let follows = end % PAGE_SIZE == 0
            && (more.page(), more.offset()) == (self.page().wrapping_add(end / PAGE_SIZE), 0)
            && self.0.ops == more.0.ops
            && self.0.private == more.0.private
            && self.provenance() == Provenance::UserMemory
            && ptr::eq(self.folio(), more.folio());
        let Some(len) = self.0.len.checked_add(more.0.len).filter(|_| follows) else {
            return Err(more);
        };
        // INVARIANT: Both references are to the same folio or loan, which owns all of the pages.
        // Returning from here drops `more` and thereby its reference.
        self.0.len = len;
        self.0.flags |= BufferFlag::Pages as u32;
        Ok(())
    }

    /// Creates a second buffer for the same bytes, with its own reference. C: `pipe_buf_get`.
    ///
    /// Only the original keeps the flags that allow `write(2)` to append to the page and a consumer
    /// to take the page over, since just one buffer may have them.
    ///
    /// Returns [`EFAULT`], as `tee(2)` does, if the reference count of the page is near overflow or
    /// the operations do not allow another reference.
    #[inline]
    pub fn try_clone(&mut self) -> Result<Self> {
        // SAFETY: The detached pipe can be passed to all operations, see `DETACHED_PIPE`.
        unsafe { self.try_clone_in(DETACHED_PIPE.as_ptr()) }
    }

    /// Creates a second buffer as [`Self::try_clone`] does, of a buffer that several tasks use.
    ///
    /// For a list of buffers that is not changed any more, and whose data goes into pipes.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer};
    ///
    /// let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 100)?;
    /// let (first, second) = (buf.share()?, buf.share()?);
    /// assert_eq!(buf.folio().ref_count(), 3);
    /// # drop((first, second));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn share(&self) -> Result<Self> {
        // SAFETY: `self` is valid for a read. The copy is not dropped, so the reference stays with
        // `self`, which outlives the copy.
        let mut copy = ManuallyDrop::new(unsafe { ptr::read(self) });
        // `->get` changes the count of the memory, which is atomic, and not the buffer: C copies
        // buffers before and after such a call.
        copy.try_clone()
    }

    /// Creates a second buffer as [`Self::try_clone`] does, for a buffer that is in `pipe`.
    ///
    /// # Safety
    ///
    /// `pipe` must be a pipe to which the caller has exclusive access, or the detached pipe.
    #[inline]
    pub(super) unsafe fn try_clone_in(
        &mut self,
        pipe: *mut bindings::pipe_inode_info,
    ) -> Result<Self> {
        // SAFETY: `self` is a valid buffer by the type invariant, and the caller guarantees that
        // `pipe` may be passed to its operations.
        if !unsafe { bindings::pipe_buf_get(pipe, self.as_raw()) } {
            return Err(EFAULT);
        }
        // INVARIANT: `pipe_buf_get` took a reference, which the new buffer owns.
        Ok(Self(bindings::pipe_buffer {
            flags: self.0.flags & !(BufferFlag::Gift as u32 | BufferFlag::CanMerge as u32),
            ..self.0
        }))
    }

    /// Splits the first `n` bytes off and returns them as a buffer of the same page.
    ///
    /// Fails as [`Self::try_clone`] does, and leaves the buffer unchanged then.
    ///
    /// If `n` is the length or more, `self` is left without bytes but keeps its reference. Compare
    /// with [`Self::len`] before, and move the whole buffer instead.
    #[inline]
    pub fn split_to(&mut self, n: usize) -> Result<Self> {
        let mut first = self.try_clone()?;
        first.truncate(n);
        self.advance(n);
        Ok(first)
    }

    /// Copies `len` bytes, which are at `from` in the data of the buffer, to `at` in `page`.
    ///
    /// Returns [`EINVAL`] if the bytes are not within one page of the buffer and within `page`, and
    /// [`EIO`] if the memory is damaged.
    ///
    /// The buffer must have been [confirmed](super::BufferRef::confirm).
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer};
    ///
    /// let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 96, 4000)?;
    /// let mut page = OwnedPage::alloc(GFP_KERNEL)?;
    /// buf.copy_to_page(0, 4000, &mut page, 96)?;
    /// // Not all of these bytes are in the buffer.
    /// assert_eq!(buf.copy_to_page(1, 4000, &mut page, 0), Err(EINVAL));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn copy_to_page(&self, from: usize, len: usize, page: &mut OwnedPage, at: usize) -> Result {
        if from > self.len() || len > self.len() - from {
            return Err(EINVAL);
        }
        let start = self.offset() + from;
        let offset = start % PAGE_SIZE;
        if at > PAGE_SIZE || len > PAGE_SIZE - at.max(offset) {
            return Err(EINVAL);
        }
        // SAFETY: The bytes are in the buffer, so they begin in this page of it, which is valid as
        // long as the buffer exists.
        if !unsafe { page.copy_from(at, self.page().add(start / PAGE_SIZE), offset, len) } {
            return Err(EIO);
        }
        Ok(())
    }

    /// Takes the page over for exclusive use. May sleep. C: `pipe_buf_try_steal`.
    ///
    /// Returns `Err(self)` if something else refers to the page. A clean page of the page cache
    /// that is not in use is first removed from the page cache.
    ///
    /// The buffer must have been [confirmed](super::BufferRef::confirm).
    pub fn try_steal(mut self) -> Result<OwnedFolio, Self> {
        // SAFETY: `self` is a valid buffer by the type invariant, and the detached pipe can be
        // passed to all operations, see `DETACHED_PIPE`.
        if !unsafe { bindings::pipe_buf_try_steal(DETACHED_PIPE.as_ptr(), self.as_raw()) } {
            return Err(self);
        }
        let raw = self.into_raw();
        // Stealing turns the buffer's reference into a plain page reference, which `put_page` gives
        // back.
        // SAFETY: `->try_steal` succeeded, so the page is locked and the buffer's reference, which
        // moves to the result, is its only one.
        Ok(unsafe { OwnedFolio::from_raw(raw.page) })
    }
}

impl Drop for PipeBuffer {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant `self` owns one reference, which is given back here; `self`
        // is not used again. The detached pipe can be passed to all operations, see
        // `DETACHED_PIPE`.
        unsafe { bindings::pipe_buf_release(DETACHED_PIPE.as_ptr(), self.as_raw()) };
    }
}

// SAFETY: A buffer consists of a reference, a table of functions that may be called from any task,
// and a word that only these functions use. None of them depends on the task.
unsafe impl Send for PipeBuffer {}

// SAFETY: Methods that take a shared reference only read the buffer.
unsafe impl Sync for PipeBuffer {}

/// The pipe that operations get as their argument if the buffer is in no pipe.
///
/// Operations have a pipe as their first argument, but a buffer can outlive its pipe. In the kernel
/// only the release of pages from `write(2)` uses that argument: it keeps some of the pages in the
/// pipe for the next `write(2)`. The detached pipe has no room for such pages, so that they are
/// freed instead and nothing writes to it.
pub(crate) static DETACHED_PIPE: DetachedPipe = {
    // SAFETY: All-zero is a valid value of this C struct of integers and pointers.
    let mut pipe: bindings::pipe_inode_info = unsafe { MaybeUninit::zeroed().assume_init() };
    pipe.prealloc.count = bindings::PIPE_PREALLOC_MAX;
    DetachedPipe(Opaque::new(pipe))
};

pub(crate) struct DetachedPipe(Opaque<bindings::pipe_inode_info>);

impl DetachedPipe {
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::pipe_inode_info {
        self.0.get()
    }
}

// SAFETY: Nothing writes to the pipe, since its pool of pages is full, see `DETACHED_PIPE`.
unsafe impl Sync for DetachedPipe {}
