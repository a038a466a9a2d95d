// SPDX-License-Identifier: GPL-2.0

//! Pipe buffers: one counted reference to a piece of a page, or of several contiguous pages.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::{
    ops::{OpsTable, PipeBufferOps},
    user, //
};
use crate::{
    alloc::{flags::__GFP_ZERO, Flags},
    bindings,
    folio::Folio,
    impl_flags,
    mm::gup::{HeldPages, Hold, UserRange},
    page::PAGE_SIZE,
    prelude::*,
    splice::loan::{Loan, LOANED},
    types::Opaque, //
};
use core::{
    mem::{ManuallyDrop, MaybeUninit},
    ptr::{self, NonNull},
};

impl_flags!(
    /// What a reader of a buffer has to know beyond its bytes. C: `PIPE_BUF_FLAG_*`.
    #[derive(Debug, Clone, Default, Copy, PartialEq, Eq)]
    pub struct BufferFlags(u32);

    /// One of [`BufferFlags`].
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
        /// It takes one slot for each of its pages.
        Pages = bindings::PIPE_BUF_FLAG_PAGES,
        /// The operations are an [`OpsTable`]. C copies flags and operations together, so this
        /// stays true wherever the buffer goes. Far from the bits that C hands out.
        RustOps = 1 << 30,
    }
);

/// Where the page of a buffer comes from, and hence who else may see or change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// Allocated for a pipe: by `write(2)` to it, or as the target of a copy.
    Private,
    /// In the page cache of a file.
    PageCache,
    /// Mapped by user space: `vmsplice(2)`.
    UserMemory,
    /// Part of a socket buffer, or of another queue that must not lose its page.
    Socket,
    /// Owned by a driver.
    Device,
    /// Known only to the operations that came with it.
    Foreign,
}

/// One pipe buffer: the kernel's `struct pipe_buffer`.
///
/// Owns exactly one reference to what it describes: moving it moves the reference, dropping it
/// gives the reference back, [`try_clone`](Self::try_clone) takes another. There is no way from
/// here to a writable view of the page, other than [`try_steal`](Self::try_steal).
///
/// A buffer may span several physically contiguous pages; do not assume that
/// `offset + len <= PAGE_SIZE`.
///
/// # Invariants
///
/// `ops` points at a valid operations table; `page` is valid, and the reference that the table's
/// `release` gives back is held by this value. With [`BufferFlag::RustOps`], `ops` points into an
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
/// // Two buffers, one page.
/// let first = buf.split_to(40)?;
/// assert_eq!((first.offset(), first.len()), (0, 40));
/// assert_eq!((buf.offset(), buf.len()), (40, 60));
///
/// // As long as both are there nobody may write to it.
/// let Err(buf) = buf.try_steal() else { return Err(EINVAL) };
/// drop(first);
/// let Ok(_folio) = buf.try_steal() else { return Err(EINVAL) };
/// # Ok::<(), Error>(())
/// ```
#[repr(transparent)]
pub struct PipeBuffer(bindings::pipe_buffer);

impl PipeBuffer {
    /// A buffer of one page that belongs to the pipe alone.
    ///
    /// Fails with [`EINVAL`] where the bytes are not all within the page; the page is freed then.
    #[inline]
    pub fn from_page(page: OwnedPage, offset: u32, len: u32) -> Result<Self> {
        if offset as usize > PAGE_SIZE || len as usize > PAGE_SIZE - offset as usize {
            return Err(EINVAL);
        }
        // INVARIANT: These operations give back a page reference, which `page` was.
        Ok(Self(bindings::pipe_buffer {
            page: page.into_raw(),
            offset,
            len,
            ops: &raw const bindings::default_pipe_buf_ops,
            flags: 0,
            private: 0,
        }))
    }

    /// A buffer with operations of its own: `len` bytes at `offset` of `page`.
    ///
    /// Keeps the module that the operations are in from being unloaded; fails with [`ENODEV`]
    /// where that is under way, and `page` stays the caller's.
    ///
    /// # Safety
    ///
    /// `page` is the first of as many contiguous pages as `offset + len` needs; with success the
    /// caller hands over one reference to it.
    #[inline]
    pub unsafe fn with_ops<T: PipeBufferOps>(
        page: NonNull<bindings::page>,
        offset: u32,
        len: u32,
        flags: BufferFlags,
    ) -> Result<Self> {
        let module = OpsTable::<T>::MODULE;
        // SAFETY: The module is the one that calls this, or null for what is built in.
        if !module.is_null() && !unsafe { bindings::try_module_get(module) } {
            return Err(ENODEV);
        }
        // INVARIANT: The table gives back a page reference, which the caller handed over, and one
        // to the module in `private`, which was taken just now.
        Ok(Self(bindings::pipe_buffer {
            page: page.as_ptr(),
            offset,
            len,
            ops: OpsTable::<T>::TABLE.as_raw(),
            flags: u32::from(flags | BufferFlag::RustOps),
            private: module as usize,
        }))
    }

    /// A buffer of the user memory at the beginning of `range`, as far as it is in `pages`, which
    /// were found there.
    #[inline]
    pub fn from_user(pages: HeldPages, range: UserRange) -> Self {
        let ops = match pages.hold() {
            Hold::Reference => user::REFERENCED.as_raw(),
            Hold::Pin => user::PINNED.as_raw(),
        };
        // INVARIANT: The operations give back what `pages` holds, which is not dropped.
        Self::of_user_memory(&ManuallyDrop::new(pages), range, ops, 0)
    }

    /// As [`Self::from_user`], of memory that a loan keeps.
    ///
    /// # Safety
    ///
    /// `loan` keeps `pages`. The caller hands over one reference to `loan`.
    #[inline]
    pub(crate) unsafe fn from_loan(
        pages: &HeldPages,
        range: UserRange,
        loan: NonNull<Loan>,
    ) -> Self {
        // INVARIANT: The operations give back the reference in `private`, which keeps the pages.
        Self::of_user_memory(pages, range, LOANED.as_raw(), loan.as_ptr() as usize)
    }

    #[inline]
    fn of_user_memory(
        pages: &HeldPages,
        range: UserRange,
        ops: *const bindings::pipe_buf_operations,
        private: usize,
    ) -> Self {
        let offset = range.offset();
        // Only the first page can have bytes in front that are not wanted.
        let len = range.len().min(pages.pages() * PAGE_SIZE - offset);
        let mut flags = BufferFlag::RustOps as u32;
        if pages.pages() > 1 && offset + len > PAGE_SIZE {
            flags |= BufferFlag::Pages as u32;
        }
        Self(bindings::pipe_buffer {
            page: pages.page().as_ptr(),
            // CAST: Below `PAGE_SIZE`. A call transfers less than 2 GiB.
            offset: offset as u32,
            len: len as u32,
            ops,
            flags,
            private,
        })
    }

    /// A buffer of a driver's page: `len` bytes at `offset` of it.
    ///
    /// # Safety
    ///
    /// The bytes are all in `page`. `ops` are those for `private`, which keeps the page, and to
    /// which the caller hands over one reference.
    #[inline]
    pub(crate) unsafe fn received(
        page: *mut bindings::page,
        offset: u32,
        len: u32,
        ops: *const bindings::pipe_buf_operations,
        private: *mut c_void,
    ) -> Self {
        // INVARIANT: The table gives back the reference in `private`, which keeps the page.
        Self(bindings::pipe_buffer {
            page,
            offset,
            len,
            ops,
            flags: BufferFlag::RustOps as u32,
            private: private as usize,
        })
    }

    /// Whether the contents can be read, as far as that can be told without asking the operations:
    /// there is none to be asked, or it is a page of the page cache that is up to date. That is
    /// what nearly all pages are, and it is not worth a call.
    #[inline]
    pub(super) fn is_good(&self) -> bool {
        // SAFETY: By the type invariant.
        if unsafe { (*self.0.ops).confirm.is_none() } {
            return true;
        }
        ptr::eq(self.0.ops, &raw const bindings::page_cache_pipe_buf_ops)
            && self.folio().is_uptodate()
    }

    /// The loan to keep while the memory is in use, if the end of its use is observed: by a
    /// notification, or by a limit.
    #[inline]
    pub fn loan(&self) -> Option<&Loan> {
        if !ptr::eq(self.0.ops, LOANED.as_raw()) {
            return None;
        }
        // SAFETY: Buffers with these operations come from `Self::from_loan`, and hold a reference.
        Some(unsafe { &*(self.0.private as *const Loan) })
    }

    /// Whether it takes one slot for each of its pages.
    #[inline]
    pub(super) fn is_of_pages(&self) -> bool {
        self.0.flags & BufferFlag::Pages as u32 != 0
    }

    /// Makes the buffer take one slot, whatever it has.
    #[inline]
    pub(super) fn count_as_one(&mut self) {
        self.0.flags &= !(BufferFlag::Pages as u32);
    }

    /// The number of slots of a ring that it takes: 1 or more.
    #[inline]
    pub fn slots(&self) -> u32 {
        if !self.is_of_pages() {
            return 1;
        }
        // CAST: Far below 2^32: both were counted by that in bytes.
        (self.offset() + self.len()).div_ceil(PAGE_SIZE).max(1) as u32
    }

    /// How many of its bytes are in the first `slots` of these.
    #[inline]
    pub fn len_in_slots(&self, slots: u32) -> usize {
        if !self.is_of_pages() {
            return if slots == 0 { 0 } else { self.len() };
        }
        (slots as usize * PAGE_SIZE)
            .saturating_sub(self.offset())
            .min(self.len())
    }

    /// Cuts the bytes in the last of its slots off, into a buffer of their own that takes one.
    ///
    /// Fails as [`Self::try_clone`] does. The buffer takes several slots.
    pub(super) fn split_last_page(&mut self) -> Result<Self> {
        let keep = self.len_in_slots(self.slots() - 1);
        let mut last = self.try_clone()?;
        last.advance(keep);
        last.count_as_one();
        self.truncate(keep);
        Ok(last)
    }

    /// Takes over a buffer from C.
    ///
    /// # Safety
    ///
    /// The fields are those of a valid buffer, and its reference is handed over.
    #[inline]
    pub unsafe fn from_raw(raw: bindings::pipe_buffer) -> Self {
        // INVARIANT: By the caller's promise.
        Self(raw)
    }

    /// Hands the buffer with its reference over to C.
    #[inline]
    pub fn into_raw(self) -> bindings::pipe_buffer {
        let this = ManuallyDrop::new(self);
        // SAFETY: Read once, and `this` is not dropped.
        unsafe { ptr::read(&this.0) }
    }

    #[inline]
    pub(super) fn as_raw(&mut self) -> *mut bindings::pipe_buffer {
        &raw mut self.0
    }

    #[inline]
    pub(super) fn as_const(&self) -> *const bindings::pipe_buffer {
        &raw const self.0
    }

    /// The number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.len as usize
    }

    /// Whether there are no bytes left. Such buffers can be found in a pipe.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Where in the (first) page the bytes begin.
    #[inline]
    pub fn offset(&self) -> usize {
        self.0.offset as usize
    }

    /// The (first) page. Reading is allowed; nobody may write through this.
    #[inline]
    pub fn page(&self) -> *mut bindings::page {
        self.0.page
    }

    /// The folio that the page is part of.
    #[inline]
    pub fn folio(&self) -> &Folio {
        // SAFETY: The page is valid, and the reference this buffer holds outlives the borrow.
        unsafe { Folio::of_page(self.0.page) }
    }

    /// The buffer's flags.
    #[inline]
    pub fn flags(&self) -> BufferFlags {
        // What C may have set besides is not for us to judge.
        BufferFlags(self.0.flags & BufferFlags::all_bits())
    }

    /// Where the page comes from.
    pub fn provenance(&self) -> Provenance {
        let ops = self.0.ops;
        if self.0.flags & BufferFlag::RustOps as u32 != 0 {
            // SAFETY: By the type invariant.
            return unsafe { super::ops::table_provenance(ops) };
        }
        if ptr::eq(ops, &raw const bindings::page_cache_pipe_buf_ops) {
            Provenance::PageCache
        } else if ptr::eq(ops, &raw const bindings::anon_pipe_buf_ops)
            || ptr::eq(ops, &raw const bindings::default_pipe_buf_ops)
        {
            Provenance::Private
        } else if ptr::eq(ops, &raw const bindings::nosteal_pipe_buf_ops) {
            Provenance::Socket
        } else {
            Provenance::Foreign
        }
    }

    /// Forgets the first `n` bytes, or all where there are fewer.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        // CAST: Not more than the length, which is a u32; so neither can this wrap.
        let n = n.min(self.len()) as u32;
        self.0.offset = self.0.offset.wrapping_add(n);
        self.0.len = self.0.len.wrapping_sub(n);
        if self.is_of_pages() {
            self.normalize();
        }
    }

    /// Has the offset be one in the first page.
    #[cold]
    fn normalize(&mut self) {
        // There is no page behind the last byte, which may be where this is.
        let pages = self.offset() / PAGE_SIZE;
        if pages > 0 && self.0.len > 0 {
            // SAFETY: There are bytes left, so this page is one of the buffer's.
            self.0.page = unsafe { self.0.page.add(pages) };
            self.0.offset %= PAGE_SIZE as u32;
        }
    }

    /// Keeps the first `len` bytes only.
    ///
    /// Nothing can be appended afterwards: others may have a reference to what is behind.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.0.len = len.min(self.len()) as u32;
        self.0.flags &= !(BufferFlag::CanMerge as u32);
    }

    /// Has this buffer begin with `first`, which was cut off it, and says how many more slots it
    /// takes the room of. `Err(first)` where these would be more than `space`, or where the two are
    /// not parts of one.
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
        // INVARIANT: The reference stays that of this buffer, which is to the same.
        self.0 = bindings::pipe_buffer { ..whole.0 };
        Ok(more)
    }

    /// Adds `more` at the end of this buffer, if both are user memory and the pages of `more`
    /// follow those of this one in one folio. `Err(more)` otherwise.
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
        // INVARIANT: The folio, or loan, keeps the pages of both. `more` gives its reference back.
        self.0.len = len;
        self.0.flags |= BufferFlag::Pages as u32;
        Ok(())
    }

    /// A second buffer for the same bytes, with a reference of its own.
    ///
    /// The right to append to the page, and that to take it over, stay with the original: both
    /// are for one holder. Fails with [`EFAULT`], as `tee(2)` does, where the page's reference
    /// count is near overflow or the operations do not allow another reference.
    #[inline]
    pub fn try_clone(&mut self) -> Result<Self> {
        // SAFETY: By the type invariant `ops` is valid; the detached pipe is good for any
        // operation.
        unsafe { self.try_clone_in(DETACHED_PIPE.as_ptr()) }
    }

    /// As [`Self::try_clone`], for a buffer that is in `pipe`.
    ///
    /// # Safety
    ///
    /// `pipe` is a pipe that the caller has exclusive access to, or the detached pipe.
    #[inline]
    pub(super) unsafe fn try_clone_in(
        &mut self,
        pipe: *mut bindings::pipe_inode_info,
    ) -> Result<Self> {
        // SAFETY: By the type invariant and the caller's promise.
        if !unsafe { bindings::pipe_buf_get(pipe, self.as_raw()) } {
            return Err(EFAULT);
        }
        // INVARIANT: `get` succeeded, so there is a reference for the copy.
        Ok(Self(bindings::pipe_buffer {
            flags: self.0.flags & !(BufferFlag::Gift as u32 | BufferFlag::CanMerge as u32),
            ..self.0
        }))
    }

    /// Cuts the first `n` bytes off into a buffer of their own, on the same page.
    ///
    /// Fails as [`Self::try_clone`] does; the buffer is unchanged then.
    #[inline]
    pub fn split_to(&mut self, n: usize) -> Result<Self> {
        let mut first = self.try_clone()?;
        first.truncate(n);
        self.advance(n);
        Ok(first)
    }

    /// Takes the page over, to do with as one wishes, or gives the buffer back.
    ///
    /// Succeeds where nobody else holds the page, or can be made to let go of it (a page cache
    /// page that is clean and not otherwise in use). The buffer must have been
    /// [confirmed](super::BufferRef::confirm).
    pub fn try_steal(mut self) -> Result<OwnedFolio, Self> {
        // SAFETY: By the type invariant; the detached pipe is good for any operation.
        if !unsafe { bindings::pipe_buf_try_steal(DETACHED_PIPE.as_ptr(), self.as_raw()) } {
            return Err(self);
        }
        let raw = self.into_raw();
        // The reference is a plain one from here on: that is what stealing gives.
        // INVARIANT: On success the page is locked and this is its only reference.
        Ok(OwnedFolio {
            // SAFETY: By the type invariant the page is valid, so not null.
            page: unsafe { NonNull::new_unchecked(raw.page) },
        })
    }
}

impl Drop for PipeBuffer {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is one reference to give back; the detached pipe is
        // good for any operation. This value is not used again.
        unsafe { bindings::pipe_buf_release(DETACHED_PIPE.as_ptr(), self.as_raw()) };
    }
}

// SAFETY: A buffer is a page reference, a table of functions that may be called from any task
// context, and a word that only they look at.
unsafe impl Send for PipeBuffer {}

// SAFETY: By a shared reference a buffer is only looked at.
unsafe impl Sync for PipeBuffer {}

/// What stands in for the pipe of a buffer that is in none.
///
/// Operations get the pipe as an argument, but a buffer can outlive its pipe. In the kernel only
/// the release of pages from `write(2)` looks at it, to keep some of them in the pipe for the next
/// call. There is no room for them here, so they are freed instead, without a lock.
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

// SAFETY: Nobody writes to it, see `DETACHED_PIPE`.
unsafe impl Sync for DetachedPipe {}

/// A page that nobody else refers to: just allocated.
///
/// # Invariants
///
/// `0` is a valid page of order 0, and this is its only reference.
pub struct OwnedPage(NonNull<bindings::page>);

impl OwnedPage {
    /// Allocates a page, zeroed. Fails with [`ENOMEM`].
    #[inline]
    pub fn alloc(flags: Flags) -> Result<Self> {
        let flags = flags | __GFP_ZERO;
        // SAFETY: Any flags will do; whether this may sleep is for the caller to choose by them.
        let page = unsafe { bindings::alloc_pages(flags.as_raw(), 0) };
        // INVARIANT: Allocated just now.
        Ok(Self(NonNull::new(page).ok_or(ENOMEM)?))
    }

    /// Takes over a page from C.
    ///
    /// # Safety
    ///
    /// `page` is a page of order 0, and its only reference is handed over.
    #[inline]
    pub(crate) unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        // INVARIANT: By the caller's promise.
        Self(page)
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::page {
        self.0.as_ptr()
    }

    /// Writes `bytes` to the beginning, as many as there is room for; says how many.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(PAGE_SIZE);
        // SAFETY: The page is valid and mapped for as long as it is written to. No more bytes than
        // it has are written, and as the holder of the only reference one may.
        unsafe {
            let addr = bindings::kmap_local_page(self.as_ptr());
            ptr::copy_nonoverlapping(bytes.as_ptr(), addr.cast(), len);
            bindings::kunmap_local(addr);
        }
        len
    }

    /// Copies `len` bytes at `offset` of `from` to the beginning. Returns whether that worked:
    /// memory can be damaged.
    ///
    /// # Safety
    ///
    /// `from` is a valid page.
    pub(crate) unsafe fn copy_from(
        &mut self,
        from: *mut bindings::page,
        offset: usize,
        len: usize,
    ) -> bool {
        if offset > PAGE_SIZE || len > PAGE_SIZE - offset {
            return false;
        }
        // SAFETY: Both pages are valid and have as many bytes. This one is written to by the
        // holder of its only reference.
        unsafe { bindings::copy_page_part(self.as_ptr(), from, offset, len) }
    }

    #[inline]
    fn into_raw(self) -> *mut bindings::page {
        ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Drop for OwnedPage {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is one reference to give back.
        unsafe { bindings::put_page(self.0.as_ptr()) };
    }
}

/// A folio taken over from a buffer: locked, in no page cache, with no other reference.
///
/// # Invariants
///
/// `page` belongs to a locked folio, and this is the folio's only reference.
pub struct OwnedFolio {
    page: NonNull<bindings::page>,
}

impl OwnedFolio {
    /// The page that the buffer was for. As the holder of the only reference one may write to it.
    #[inline]
    pub fn as_ptr(&mut self) -> *mut bindings::page {
        self.page.as_ptr()
    }
}

impl Drop for OwnedFolio {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the folio is locked, and there is one reference.
        unsafe {
            bindings::unlock_page(self.page.as_ptr());
            bindings::put_page(self.page.as_ptr());
        }
    }
}
