// SPDX-License-Identifier: GPL-2.0

//! Buffers that own a reference or a pin of user memory themselves. Buffers of
//! [`TrackedMemory`](super::TrackedMemory) have other operations.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use crate::{
    bindings,
    mm::gup::{HeldPages, Hold, UserRange, UserRanges},
    page::PAGE_SIZE,
    pipe::{BufferFlag, Filler, OpsTable, PipeBuffer, PipeBufferOps, Provenance},
    prelude::*, //
};
use core::mem::ManuallyDrop;

impl PipeBuffer {
    /// Creates a buffer of user memory: the beginning of `range` that `pages` covers. `pages` must
    /// have been found at the beginning of `range`.
    ///
    /// The buffer takes over the reference or pin of `pages`.
    ///
    /// Use this if nothing observes the end of the use, and
    /// [`TrackedMemoryBuilder::track`](super::TrackedMemoryBuilder::track) otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     mm::gup::{Hold, UserRange, UserRanges},
    ///     pipe::{Filler, PipeBuffer},
    ///     prelude::*,
    /// };
    ///
    /// /// Adds the mapped memory at the beginning of `range`, and returns what is left.
    /// fn push_mapped(filler: &mut Filler<'_>, range: UserRange) -> UserRange {
    ///     let mut found = UserRanges::new();
    ///     // A buffer takes one slot for each page, so no more pages than free slots are of use.
    ///     found.look_up(range.first_pages(filler.space() as usize), Hold::Reference);
    ///     let mut left = range;
    ///     for pages in found {
    ///         let buf = PipeBuffer::from_user(pages, left);
    ///         let len = buf.len();
    ///         if filler.push(buf).is_err() {
    ///             break;
    ///         }
    ///         left = left.skip(len);
    ///     }
    ///     left
    /// }
    /// ```
    #[inline]
    pub fn from_user(pages: HeldPages, range: UserRange) -> Self {
        let ops = match pages.hold() {
            Hold::Reference => REFERENCED.as_raw(),
            Hold::Pin => PINNED.as_raw(),
        };
        // SAFETY: The release operation gives back the reference or pin of `pages`, which
        // `ManuallyDrop` leaves to the buffer. The tables above ignore `private`.
        unsafe { Self::of_user_memory(&ManuallyDrop::new(pages), range, ops, 0) }
    }

    /// Creates a buffer of the beginning of `range` that `pages` covers, with the given operations.
    ///
    /// # Safety
    ///
    /// The release operation of `ops` must give back a reference that the caller hands over, and
    /// that keeps `pages` valid. `ops` must be part of an [`OpsTable`] and fit `private`.
    #[inline]
    pub(super) unsafe fn of_user_memory(
        pages: &HeldPages,
        range: UserRange,
        ops: *const bindings::pipe_buf_operations,
        private: usize,
    ) -> Self {
        let offset = range.offset();
        // Only the first page can have bytes before the ones that are wanted.
        let len = range.len().min(pages.pages() * PAGE_SIZE - offset);
        let mut flags = BufferFlag::RustOps as u32;
        if pages.pages() > 1 && offset + len > PAGE_SIZE {
            flags |= BufferFlag::Pages as u32;
        }
        // SAFETY: The caller guarantees that `ops` and `private` are valid, and hands over the
        // reference that keeps the pages valid. The bytes are within the pages.
        unsafe {
            Self::from_raw(bindings::pipe_buffer {
                page: pages.page().as_ptr(),
                // CAST: `offset` is below `PAGE_SIZE`, and one call transfers less than 2 GiB.
                offset: offset as u32,
                len: len as u32,
                ops,
                flags,
                private,
            })
        }
    }
}

impl Filler<'_> {
    /// Adds the pages of small folios at the front of `ranges`, one buffer for each, until there is
    /// no free slot or another kind of range follows.
    ///
    /// `ranges` was found at the beginning of `range`. Returns the part of `range` that is left.
    ///
    /// This is [`PipeBuffer::from_user`] and [`Self::push`] for the case that nearly all calls
    /// consist of. The caller handles the next range, which is of a large folio or special, by
    /// these two.
    #[inline(always)]
    pub fn push_small_pages(&mut self, ranges: &mut UserRanges, range: UserRange) -> UserRange {
        let mut left = range;
        let mut cursor = self.cursor();
        ranges.take_small_pages(self.space(), |page| {
            let buf = PipeBuffer::from_user(page, left);
            left = left.skip(buf.len());
            // SAFETY: `take_small_pages` passes at most `space` pages. A buffer of one page takes
            // one slot.
            unsafe { cursor.store(buf) };
        });
        // SAFETY: The cursor comes from this filler, to which nothing else was added.
        unsafe { self.advance_to(cursor, range.len() - left.len()) };
        left
    }
}

/// Buffers that own a reference to the folio.
struct Referenced;

#[vtable]
impl PipeBufferOps for Referenced {
    const PROVENANCE: Provenance = Provenance::UserMemory;
}

/// Buffers that own a pin of the folio.
struct Pinned;

#[vtable]
impl PipeBufferOps for Pinned {
    const PROVENANCE: Provenance = Provenance::UserMemory;
}

/// The operations of [`Referenced`] buffers. C: `user_page_pipe_buf_ops`.
static REFERENCED: OpsTable<Referenced> =
    // SAFETY: `generic_pipe_buf_release` gives back the page reference that a buffer owns, and
    // `get` takes another one.
    unsafe { OpsTable::with_references(bindings::generic_pipe_buf_release, get) };

/// The operations of [`Pinned`] buffers.
static PINNED: OpsTable<Pinned> =
    // SAFETY: `unpin` gives back the pin that a buffer owns, and `get_pin` takes another one.
    unsafe { OpsTable::with_references(unpin, get_pin) };

/// Takes another reference to the folio. Returns `false` if there are too many.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`REFERENCED`]. C guarantees this.
unsafe extern "C" fn get(
    pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: The caller guarantees that the buffer is valid, so it holds its page.
    unsafe {
        !bindings::user_range_refs_exhausted((*buf).page)
            && bindings::generic_pipe_buf_get(pipe, buf)
    }
}

/// Gives back the pin that the buffer owns.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`PINNED`], and must not be used again. C
/// guarantees this.
unsafe extern "C" fn unpin(_pipe: *mut bindings::pipe_inode_info, buf: *mut bindings::pipe_buffer) {
    // SAFETY: The caller guarantees that the buffer is valid, so it owns a pin of the folio, which
    // is given back here.
    unsafe { bindings::unpin_folio(bindings::page_folio((*buf).page)) };
}

/// Takes another pin of the folio. Returns `false` if there are too many references.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`PINNED`]. C guarantees this.
unsafe extern "C" fn get_pin(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: The caller guarantees that the buffer is valid, so it owns a pin, and the folio can
    // get another one.
    unsafe {
        !bindings::user_range_refs_exhausted((*buf).page)
            && bindings::folio_add_pins(bindings::page_folio((*buf).page), 1) == 0
    }
}
