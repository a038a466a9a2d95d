// SPDX-License-Identifier: GPL-2.0

//! The data of a pipe as whole pages, for a driver that lets others map them.

use super::{from_pipe::FromPipe, to_pipe::ToPipe};
use crate::{
    alloc::{flags::GFP_KERNEL_ACCOUNT, Flags},
    bindings,
    page::PAGE_SIZE,
    pipe::{BufferFlag, OpsTable, OwnedPage, PipeBuffer, PipeBufferOps, Provenance},
    prelude::*,
    scatterlist::{AsSegments, AsSegmentsMut, Segment},
};
use core::{
    ptr::{self, NonNull},
    slice,
};

/// The largest number of buffers that one call takes.
const MOST_BUFFERS: usize = 1024;

/// Data of pipes as a list of whole pages.
///
/// Those that map the pages see all of their bytes. So a page whose bytes are not all data of the
/// pipe is never in the list. Its data is copied to a zeroed page:
///
/// ```text
///             first page                                      last page
///   buffers:  [ not data |  data  ][  data  ][  data  ] ... [  data  | not data ]
///                   copy |            by reference              copy |
///   list:     [ zeroes   |  data  ][  data  ][  data  ] ... [  data  | zeroes   ]
///             0          offset                             offset + bytes      size
/// ```
///
/// The data is contiguous, so only the first page can begin with other bytes than data, and only
/// the last can end with some. Once the last page is such a page, nothing can be added.
///
/// The list also copies pages that must not be [held](crate::folio::Folio::may_be_held) for long.
///
/// # Invariants
///
/// The buffers in `items` begin and end at page boundaries. All bytes of the list outside of the
/// data are zero. If `private` is true, each buffer [was private](PipeBuffer::is_private) when it
/// was added, and nothing has taken a reference to its page since but [`Self::give`].
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     splice::driver::{FromPipe, WholePages},
///     sync::Mutex, //
/// };
///
/// /// Adds the data of a pipe to a list of at most 1 MiB.
/// fn splice_out(pages: &Mutex<WholePages>, bufs: &mut FromPipe<'_>) -> Result {
///     // The driver that has an account for the memory charges it in the closure.
///     let _taken = pages.lock().take(bufs, 1 << 20, |_bytes| Ok(()))?;
///     Ok(())
/// }
/// ```
pub struct WholePages {
    /// Buffers of a pipe, and pages with copies of data.
    items: KVVec<PipeBuffer>,
    offset: usize,
    bytes: usize,
    copied: usize,
    private: bool,
}

/// The bytes of data that [`WholePages::take`] has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// All bytes.
    pub bytes: usize,
    /// Those that were copied.
    pub copied: usize,
}

/// How the data of a buffer becomes whole pages. All values are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// The data at the end of a first page, which is copied.
    head: usize,
    /// The data in whole pages.
    whole: usize,
    /// The data at the beginning of a last page, which is copied.
    tail: usize,
}

/// A buffer that was taken out of a pipe, and how it becomes whole pages.
struct Piece {
    buf: PipeBuffer,
    layout: Layout,
    /// Whether the whole pages are added by reference.
    by_reference: bool,
}

impl Layout {
    /// Returns the layout of `len` bytes that begin `start` bytes behind the beginning of a page.
    /// `first` tells whether there is no data before them. Returns `None` if the data would not be
    /// contiguous.
    fn of(first: bool, start: usize, len: usize) -> Option<Self> {
        let to_end = PAGE_SIZE - start;
        let head = if start == 0 {
            0
        } else if len < to_end || (len == to_end && !first) {
            // The data moves to the beginning of a page, which is the last one.
            return Some(Self {
                head: 0,
                whole: 0,
                tail: len,
            });
        } else if first {
            to_end
        } else {
            return None;
        };
        let tail = (len - head) % PAGE_SIZE;
        Some(Self {
            head,
            whole: len - head - tail,
            tail,
        })
    }
}

impl WholePages {
    /// Creates an empty list. Does not allocate.
    pub const fn new() -> Self {
        Self {
            items: KVVec::new(),
            offset: 0,
            bytes: 0,
            copied: 0,
            private: true,
        }
    }

    /// Returns the size of all pages in bytes.
    pub fn size(&self) -> usize {
        (self.offset + self.bytes).next_multiple_of(PAGE_SIZE)
    }

    /// Returns where the data begins.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns the number of bytes of data.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many bytes of the data were copied.
    pub fn copied(&self) -> usize {
        self.copied
    }

    /// Returns whether there is no data.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns whether the last page has other bytes than data, so that nothing can be added.
    pub fn is_closed(&self) -> bool {
        (self.offset + self.bytes) % PAGE_SIZE != 0
    }

    /// Returns whether nothing else refers to the pages, so that [`Self::into_private`] succeeds.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Adds `count` zeroed pages as data. May sleep if `flags` allow it.
    ///
    /// Returns [`ENOMEM`] if there is no memory, and [`EINVAL`] if the list is
    /// [closed](Self::is_closed). The list is unchanged then.
    pub fn add_zeroed(&mut self, count: usize, flags: Flags) -> Result {
        if self.is_closed() {
            return Err(EINVAL);
        }
        self.items.reserve(count, flags)?;
        let before = self.items.len();
        for _ in 0..count {
            let page =
                whole_page(|_| Ok(()), flags).inspect_err(|_| self.items.truncate(before))?;
            self.add(page);
        }
        self.bytes += count * PAGE_SIZE;
        Ok(())
    }

    /// Takes data out of a pipe, until the list has `most` bytes, or the pipe has no more data, or
    /// the caller of the transfer wants no more. May sleep.
    ///
    /// `charge` is called once, with the number of bytes of memory that the list will keep from
    /// being freed: all of each folio, if the previous page is not of the same one. If it fails,
    /// nothing is taken.
    ///
    /// # Errors
    ///
    /// Nothing is taken then: all data stays in the pipe, and the list is unchanged.
    ///
    /// - [`EINVAL`]: the list is closed, or the data would not be contiguous, because a buffer in
    ///   the middle of the data does not begin or does not end at a page boundary.
    /// - [`ENOSPC`]: the list has `most` bytes.
    /// - [`ENOMEM`]: there is no memory for a copy or for the list.
    /// - [`EIO`]: the memory of a page that is copied is damaged.
    /// - The error of `charge`.
    pub fn take(
        &mut self,
        from: &mut FromPipe<'_>,
        most: usize,
        charge: impl FnOnce(usize) -> Result,
    ) -> Result<Taken> {
        if self.is_closed() {
            return Err(EINVAL);
        }
        if self.size() >= most {
            return Err(ENOSPC);
        }
        let buffers = from.buffers().min(MOST_BUFFERS);
        if buffers == 0 {
            return Ok(Taken::default());
        }
        let mut pieces = KVec::with_capacity(buffers, GFP_KERNEL)?;
        let ret = self
            .next_pieces(from, most, &mut pieces)
            .and_then(|()| self.prepare(&pieces, charge));
        match ret {
            Ok(copies) => Ok(self.add_pieces(pieces, copies)),
            Err(err) => {
                while let Some(piece) = pieces.pop() {
                    if from.put_back(piece.buf).is_err() {
                        break;
                    }
                }
                Err(err)
            }
        }
    }

    /// Moves buffers from a pipe to `pieces`, without more allocations. Returns [`EINVAL`] if they
    /// are not contiguous.
    fn next_pieces(
        &self,
        from: &mut FromPipe<'_>,
        most: usize,
        pieces: &mut KVec<Piece>,
    ) -> Result {
        let mut end = self.offset + self.bytes;
        while pieces.len() < pieces.capacity() && end < most {
            let Some(mut buf) = from.next_up_to(most - end) else {
                break;
            };
            let start = buf.offset() % PAGE_SIZE;
            if end == 0 && start + buf.len() > most {
                // With the bytes before the data there would be too many.
                from.put_back(buf).map_err(|_| EINVAL)?;
                buf = from.next_up_to(most - start).ok_or(EINVAL)?;
            }
            let layout = Layout::of(end == 0, start, buf.len()).filter(|_| end % PAGE_SIZE == 0);
            let Some(layout) = layout else {
                let _ = from.put_back(buf);
                return Err(EINVAL);
            };
            if layout.head > 0 {
                end = start;
            }
            end += buf.len();
            let by_reference = layout.whole > 0 && buf.folio().may_be_held();
            // There is room for `capacity` pieces, so this does not fail.
            let _ = pieces.push_within_capacity(Piece {
                buf,
                layout,
                by_reference,
            });
        }
        Ok(())
    }

    /// Copies the data of `pieces` that is not added by reference, to pages in the order of the
    /// data. Reserves room for all pages and calls `charge`.
    fn prepare(
        &mut self,
        pieces: &[Piece],
        charge: impl FnOnce(usize) -> Result,
    ) -> Result<KVVec<PipeBuffer>> {
        let mut copies = KVVec::new();
        let mut copy = |at, buf: &PipeBuffer, from, len| {
            let fill = |page: &mut OwnedPage| buf.copy_to_page(from, len, page, at);
            copies.push(whole_page(fill, GFP_KERNEL_ACCOUNT)?, GFP_KERNEL_ACCOUNT)?;
            Ok::<(), Error>(())
        };
        let mut last_folio = self.items.last().map(|buf| ptr::from_ref(buf.folio()));
        let (mut held, mut buffers) = (0, 0);
        for Piece {
            buf,
            layout,
            by_reference,
        } in pieces
        {
            if layout.head > 0 {
                copy(PAGE_SIZE - layout.head, buf, 0, layout.head)?;
            }
            if *by_reference {
                buffers += 1;
                let folio = ptr::from_ref(buf.folio());
                if last_folio.replace(folio) != Some(folio) {
                    held += buf.folio().size();
                }
            } else {
                for page in (0..layout.whole).step_by(PAGE_SIZE) {
                    copy(0, buf, layout.head + page, PAGE_SIZE)?;
                }
            }
            if layout.tail > 0 {
                copy(0, buf, layout.head + layout.whole, layout.tail)?;
            }
        }
        self.items
            .reserve(buffers + copies.len(), GFP_KERNEL_ACCOUNT)?;
        charge(held + copies.len() * PAGE_SIZE)?;
        Ok(copies)
    }

    /// Adds `pieces`. `copies` has their data that is not added by reference.
    fn add_pieces(&mut self, pieces: KVec<Piece>, copies: KVVec<PipeBuffer>) -> Taken {
        let mut taken = Taken::default();
        let mut copies = copies.into_iter();
        for Piece {
            mut buf,
            layout,
            by_reference,
        } in pieces
        {
            taken.bytes += buf.len();
            taken.copied += layout.head + layout.tail;
            if layout.head > 0 {
                self.offset = PAGE_SIZE - layout.head;
                self.add_copies(&mut copies, 1);
            }
            if by_reference {
                self.private &= buf.is_private();
                buf.advance(layout.head);
                buf.truncate(layout.whole);
                // INVARIANT: The buffer begins and ends at page boundaries now, by the layout. Its
                // pages have data only. If it was private, nothing else can find its page.
                self.add(buf);
            } else {
                taken.copied += layout.whole;
                self.add_copies(&mut copies, layout.whole / PAGE_SIZE);
            }
            if layout.tail > 0 {
                self.add_copies(&mut copies, 1);
            }
        }
        self.bytes += taken.bytes;
        self.copied += taken.copied;
        taken
    }

    /// Adds the next `count` copies.
    fn add_copies(&mut self, copies: &mut impl Iterator<Item = PipeBuffer>, count: usize) {
        for page in copies.take(count) {
            self.add(page);
        }
    }

    /// Adds pages, for which there is room.
    fn add(&mut self, item: PipeBuffer) {
        let _ = self.items.push_within_capacity(item);
    }

    /// Returns the position of the first byte of data, for [`Self::give`].
    pub fn start(&self) -> Cursor {
        Cursor {
            item: 0,
            byte: self.offset,
            left: self.bytes,
        }
    }

    /// Puts the data from `cursor` on into a pipe by reference, until the pipe is full or has as
    /// much as is wanted. Moves `cursor` behind it. Does not allocate. `cursor` must be from
    /// [`Self::start`] of this list, after its last change.
    ///
    /// The pages belong to the list and to the pipe then, as after `tee(2)`. If the list [is
    /// private](Self::is_private), its owner may let devices and user space write to the pages
    /// meanwhile. So the buffers are [`Provenance::Lent`]: they are not private, and nobody can
    /// take the pages over, also after the list is gone. Otherwise they are of the kind that they
    /// were when the list took them.
    ///
    /// Returns the error of [`PipeBuffer::share`] if another reference cannot be taken. The data
    /// before it was given then.
    pub fn give(&self, cursor: &mut Cursor, to: &mut ToPipe<'_>) -> Result {
        while let Some(item) = self.items.get(cursor.item).filter(|_| cursor.left > 0) {
            let mut buf = item.share()?;
            if self.private {
                buf = lent(buf);
            }
            buf.advance(cursor.byte);
            buf.truncate(cursor.left);
            let len = buf.len();
            let rest = to.push(buf).map_or(0, |rest| rest.len());
            cursor.left -= len - rest;
            cursor.byte += len - rest;
            if cursor.byte == item.len() {
                (cursor.item, cursor.byte) = (cursor.item + 1, 0);
            }
            if rest > 0 {
                break;
            }
        }
        Ok(())
    }

    /// Turns the list into one whose pages may be written to. Returns the list if something else
    /// may refer to one of the pages.
    pub fn into_private(self) -> Result<PrivatePages, Self> {
        if !self.private {
            return Err(self);
        }
        // INVARIANT: By the invariant of `WholePages`, nothing else refers to the pages, except for
        // buffers of `WholePages::give`.
        Ok(PrivatePages(self))
    }
}

impl Default for WholePages {
    fn default() -> Self {
        Self::new()
    }
}

/// A position in the data of a [`WholePages`], see [`WholePages::give`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The index of the item.
    item: usize,
    /// The position in the item, in bytes.
    byte: usize,
    /// The bytes of data from here on.
    left: usize,
}

impl Cursor {
    /// Returns the number of bytes of data behind the position.
    pub fn left(&self) -> usize {
        self.left
    }
}

/// Returns a buffer of all of a page, which `fill` has changed. The page is zeroed before.
fn whole_page(fill: impl FnOnce(&mut OwnedPage) -> Result, flags: Flags) -> Result<PipeBuffer> {
    let mut page = OwnedPage::alloc(flags)?;
    fill(&mut page)?;
    // CAST: The size of a page fits in a u32.
    PipeBuffer::from_page(page, 0, PAGE_SIZE as u32)
}

/// The operations of buffers whose page can be written to by others.
struct Lent;

#[vtable]
impl PipeBufferOps for Lent {
    const PROVENANCE: Provenance = Provenance::Lent;
}

static LENT: OpsTable<Lent> =
    // SAFETY: The buffers own a page reference, see `lent`.
    unsafe {
        OpsTable::with_references(
            bindings::generic_pipe_buf_release,
            bindings::generic_pipe_buf_get,
        )
    };

/// Makes a buffer [`Provenance::Lent`]. Its provenance must be [`Provenance::Private`].
fn lent(buf: PipeBuffer) -> PipeBuffer {
    if buf.provenance() != Provenance::Private {
        return buf;
    }
    let raw = bindings::pipe_buffer {
        ops: LENT.as_raw(),
        flags: BufferFlag::RustOps as u32,
        private: 0,
        ..buf.into_raw()
    };
    // SAFETY: The buffer was valid. Each buffer whose provenance is `Private` owns a plain page
    // reference, which the operations of `LENT` give back.
    unsafe { PipeBuffer::from_raw(raw) }
}

// SAFETY: Each item owns its memory, which does not move if the list is moved. The list is not
// changed while it is shared, and the items are dropped with it. Memory in a pipe may be read.
unsafe impl AsSegments for WholePages {
    type Iter<'a> = PageSegments<'a>;

    fn segments(&self) -> PageSegments<'_> {
        PageSegments(self.items.iter())
    }
}

/// An iterator over the memory of a list of pages.
pub struct PageSegments<'a>(slice::Iter<'a, PipeBuffer>);

impl<'a> Iterator for PageSegments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let buf = self.0.next()?;
        // SAFETY: A buffer has as many contiguous pages as it needs, and holds them as long as it
        // exists, which is at least for `'a`.
        Some(unsafe { Segment::new(NonNull::new_unchecked(buf.page()), buf.offset(), buf.len()) })
    }
}

/// Whole pages that belong to the list, so that devices and the CPU may write to them.
///
/// # Invariants
///
/// Nothing else refers to the pages, except for buffers of [`WholePages::give`], whose readers
/// expect that the contents change at any time.
///
/// # Examples
///
/// ```
/// use kernel::splice::driver::WholePages;
///
/// let mut pages = WholePages::new();
/// pages.add_zeroed(2, GFP_KERNEL)?;
/// let pages = pages.into_private().map_err(|_pages| EINVAL)?;
/// assert_eq!(pages.pages().size(), 2 * kernel::page::PAGE_SIZE);
/// # Ok::<(), Error>(())
/// ```
#[derive(Default)]
pub struct PrivatePages(WholePages);

impl PrivatePages {
    /// Returns the list, for reading.
    pub fn pages(&self) -> &WholePages {
        &self.0
    }

    /// Gives the right to write up.
    pub fn into_pages(self) -> WholePages {
        self.0
    }
}

// SAFETY: These are the segments of the list, which is not changed.
unsafe impl AsSegments for PrivatePages {
    type Iter<'a> = PageSegments<'a>;

    fn segments(&self) -> PageSegments<'_> {
        self.0.segments()
    }
}

// SAFETY: By the type invariant nothing else refers to the pages but buffers that can only be read,
// and that do not promise that the contents stay.
unsafe impl AsSegmentsMut for PrivatePages {}

#[kunit_tests(rust_splice_whole_pages)]
mod tests {
    use super::*;

    const PAGE: usize = PAGE_SIZE;

    fn layout(first: bool, start: usize, len: usize) -> Option<(usize, usize, usize)> {
        let layout = Layout::of(first, start, len)?;
        assert_eq!(layout.head + layout.whole + layout.tail, len);
        Some((layout.head, layout.whole, layout.tail))
    }

    #[test]
    fn whole_pages_are_not_copied() {
        for first in [false, true] {
            assert_eq!(layout(first, 0, PAGE), Some((0, PAGE, 0)));
            assert_eq!(layout(first, 0, 512 * PAGE), Some((0, 512 * PAGE, 0)));
        }
    }

    #[test]
    fn a_last_page_is_copied_to_its_beginning() {
        for first in [false, true] {
            assert_eq!(layout(first, 0, 1), Some((0, 0, 1)));
            assert_eq!(layout(first, 0, 2 * PAGE + 1), Some((0, 2 * PAGE, 1)));
            assert_eq!(layout(first, 100, 1), Some((0, 0, 1)));
        }
        // It ends at the end of its page, but begins where the data before it ends.
        assert_eq!(layout(false, 100, PAGE - 100), Some((0, 0, PAGE - 100)));
    }

    #[test]
    fn a_first_page_keeps_its_place() {
        assert_eq!(layout(true, 100, PAGE - 100), Some((PAGE - 100, 0, 0)));
        assert_eq!(layout(true, PAGE - 1, PAGE + 1), Some((1, PAGE, 0)));
        assert_eq!(layout(true, 1, 3 * PAGE), Some((PAGE - 1, 2 * PAGE, 1)));
    }

    #[test]
    fn nothing_else_is_contiguous() {
        assert_eq!(layout(false, 100, PAGE), None);
        assert_eq!(layout(false, PAGE - 1, 2), None);
    }
}
