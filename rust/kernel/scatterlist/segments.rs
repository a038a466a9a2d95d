// SPDX-License-Identifier: GPL-2.0

//! Scatter-gather tables of memory that is in pieces, each anywhere within its page.
//!
//! C header: [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)

use super::{DmaMappedSgt, Owned, RawSGTable, SGEntry, SGTable};
use crate::{
    alloc::Flags,
    bindings,
    device::{Bound, Device},
    devres::Devres,
    dma::DataDirection,
    error::{self, Error},
    page::{PAGE_MASK, PAGE_SHIFT},
    prelude::*,
    types::Opaque,
};
use core::{
    marker::PhantomData,
    mem::{self, MaybeUninit},
    ptr::{self, NonNull},
};

/// Bytes that are physically contiguous, in one page or in several.
///
/// # Invariants
///
/// `page` is the first of as many contiguous pages as `offset + len` needs; they are there for
/// `'a`.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    page: NonNull<bindings::page>,
    offset: usize,
    len: usize,
    _memory: PhantomData<&'a ()>,
}

impl Segment<'_> {
    /// `len` bytes at `offset` of `page`.
    ///
    /// # Safety
    ///
    /// `page` is the first of as many contiguous pages as `offset + len` needs; they are there for
    /// the lifetime of the result.
    #[inline]
    pub unsafe fn new(page: NonNull<bindings::page>, offset: usize, len: usize) -> Self {
        // INVARIANT: By the caller's promise.
        Self {
            page,
            offset,
            len,
            _memory: PhantomData,
        }
    }

    /// The number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn addr(&self) -> u64 {
        // SAFETY: The page is valid, by the type invariant.
        (unsafe { bindings::page_to_phys(self.page.as_ptr()) }) + self.offset as u64
    }
}

/// Memory that an [`SGTable`] can be made of, as [`AsPageIter`](crate::page::AsPageIter), but of
/// any number of bytes.
///
/// # Safety
///
/// The memory of all segments stays there as long as the value does, wherever it is moved, and may
/// be read. It is ordinary memory, not that of a device. As long as the value is not changed, the
/// segments are the same.
pub unsafe trait AsSegments {
    /// The iterator over the segments.
    type Iter<'a>: Iterator<Item = Segment<'a>>
    where
        Self: 'a;

    /// The segments, in order.
    fn segments(&self) -> Self::Iter<'_>;
}

/// Memory that a device may write to.
///
/// # Safety
///
/// Nobody else accesses the memory of the segments as long as the value is there.
pub unsafe trait AsSegmentsMut: AsSegments {}

/// What a device can have as one entry.
#[derive(Clone, Copy)]
struct Limits {
    /// Bytes.
    len: u64,
    /// One less than the power of two whose multiples no entry goes across.
    boundary: u64,
}

impl Limits {
    fn of(dev: &Device<Bound>) -> Self {
        // SAFETY: The device is valid.
        let (len, mapping, boundary) = unsafe {
            (
                bindings::dma_get_max_seg_size(dev.as_raw()),
                bindings::dma_max_mapping_size(dev.as_raw()),
                bindings::dma_get_seg_boundary(dev.as_raw()),
            )
        };
        // As in C, 0 stands for no limit.
        let mapping = if mapping == 0 { usize::MAX } else { mapping };
        Self {
            len: u64::from(len.max(1)).min(mapping as u64),
            boundary: boundary as u64,
        }
    }

    /// How many of `len` bytes at `addr` can be one entry.
    #[inline]
    fn fitting(self, addr: u64, len: u64) -> u64 {
        let to_boundary = (self.boundary - (addr & self.boundary)).saturating_add(1);
        len.min(self.len).min(to_boundary)
    }
}

/// Segments as entries: what is contiguous is one, as far as the device can have it.
struct Entries<I> {
    segments: I,
    limits: Limits,
    /// Address and length of what is not in an entry yet.
    rest: (u64, u64),
}

impl<'a, I: Iterator<Item = Segment<'a>>> Entries<I> {
    fn new(segments: I, limits: Limits) -> Self {
        Self {
            segments,
            limits,
            rest: (0, 0),
        }
    }
}

impl<'a, I: Iterator<Item = Segment<'a>>> Iterator for Entries<I> {
    /// Address and length.
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let (mut addr, mut len) = mem::take(&mut self.rest);
        // One segment more than fits is looked at; it is what comes next then.
        while len == 0 || self.limits.fitting(addr, len) == len {
            let Some(segment) = self.segments.next() else {
                return (len > 0).then_some((addr, len));
            };
            let more = segment.len() as u64;
            if len == 0 {
                (addr, len) = (segment.addr(), more);
            } else if addr + len == segment.addr() {
                len += more;
            } else if more > 0 {
                self.rest = (segment.addr(), more);
                return Some((addr, len));
            }
        }
        let fitting = self.limits.fitting(addr, len);
        self.rest = (addr + fitting, len - fitting);
        Some((addr, fitting))
    }
}

impl RawSGTable {
    /// A table of all `segments`, within the limits of a device.
    ///
    /// # Safety
    ///
    /// The memory stays there as long as the table does.
    unsafe fn of_segments<P: AsSegments>(source: &P, limits: Limits, flags: Flags) -> Result<Self> {
        let entries = || Entries::new(source.segments(), limits);
        let nr = c_uint::try_from(entries().count())?;
        if nr == 0 {
            return Err(EINVAL);
        }
        let table = Self(Opaque::zeroed());
        // SAFETY: There is room for a table. Where this fails, there is nothing to be freed, and
        // freeing that does nothing.
        error::to_result(unsafe { bindings::sg_alloc_table(table.as_raw(), nr, flags.as_raw()) })?;

        // SAFETY: Allocated just now.
        let mut entry = unsafe { (*table.as_raw()).sgl };
        for (addr, len) in entries() {
            // SAFETY: There are as many entries as there were at the first count, for the source
            // did not change. The address is one in a page, by the invariant of the segments.
            // CAST: An entry has no more than `Limits::len` bytes, which come from a c_uint.
            unsafe {
                bindings::sg_set_page(
                    entry,
                    bindings::pfn_to_page((addr >> PAGE_SHIFT) as usize),
                    len as c_uint,
                    (addr as usize & !PAGE_MASK) as c_uint,
                );
                entry = bindings::sg_next(entry);
            }
        }
        Ok(table)
    }
}

impl<P: AsSegments + Send + 'static> SGTable<Owned<P>> {
    /// Maps what `source` has, for `dev` to read it by DMA. It is unmapped when this is dropped, or
    /// when the device loses its driver; `source` is there at least as long as the mapping.
    ///
    /// Contiguous segments become one entry; no entry is larger than [`dma_set_max_seg_size`]
    /// allows, or crosses the device's segment boundary. May sleep.
    ///
    /// [`dma_set_max_seg_size`]: crate::dma::Device::dma_set_max_seg_size
    ///
    /// # Errors
    ///
    /// All give `source` back.
    ///
    /// - [`ENOMEM`]: there is no memory for the table, or none that the device can reach.
    /// - [`EINVAL`]: there are no bytes.
    /// - [`EIO`], [`EREMOTEIO`]: the memory cannot be mapped for this device.
    pub fn map(
        dev: &Device<Bound>,
        source: P,
        flags: Flags,
    ) -> Result<Pin<KBox<Self>>, (Error, P)> {
        Self::map_for(dev, source, DataDirection::ToDevice, flags)
    }

    /// As [`Self::map`], for `dev` to write to it.
    pub fn map_mut(
        dev: &Device<Bound>,
        source: P,
        flags: Flags,
    ) -> Result<Pin<KBox<Self>>, (Error, P)>
    where
        P: AsSegmentsMut,
    {
        Self::map_for(dev, source, DataDirection::FromDevice, flags)
    }

    fn map_for(
        dev: &Device<Bound>,
        source: P,
        dir: DataDirection,
        flags: Flags,
    ) -> Result<Pin<KBox<Self>>, (Error, P)> {
        let mut room = match KBox::<Self>::new_uninit(flags) {
            Ok(room) => room,
            Err(err) => return Err((err.into(), source)),
        };
        // SAFETY: The source goes where the table is, and is dropped after it.
        let table = match unsafe { RawSGTable::of_segments(&source, Limits::of(dev), flags) } {
            Ok(table) => table,
            Err(err) => return Err((err, source)),
        };
        // SAFETY: There is room for all fields, of which this initializes one.
        let sgt = unsafe {
            let sgt = &raw mut (*room.as_mut_ptr()).inner.sgt;
            sgt.write(table);
            sgt
        };
        // SAFETY: Not null, and it is there for longer than this; nobody else unmaps it.
        let mapping = unsafe { DmaMappedSgt::new(NonNull::new_unchecked(sgt.cast()), dev, dir) };
        let mapping = match mapping.and_then(|mapping| Devres::new(dev, mapping)) {
            Ok(mapping) => mapping,
            Err(err) => {
                // SAFETY: Initialized above, and not used again.
                unsafe { ptr::drop_in_place(sgt) };
                return Err((err, source));
            }
        };
        // SAFETY: As above, for the other fields; then all are initialized.
        let table = unsafe {
            let inner = &raw mut (*room.as_mut_ptr()).inner;
            (&raw mut (*inner).dma).write(mapping);
            (&raw mut (*inner)._pages).write(source);
            KBox::into_pin(room.assume_init())
        };
        // A device that has no DMA mask gets nothing, and no error.
        if table.iter().next().is_none() {
            return Err((EIO, Self::unmap(table)));
        }
        Ok(table)
    }

    /// Unmaps the memory, and gives it back.
    pub fn unmap(table: Pin<KBox<Self>>) -> P {
        // SAFETY: What is pinned is dropped in its place, below.
        let table = KBox::into_raw(unsafe { Pin::into_inner_unchecked(table) });
        // SAFETY: As a drop of `Owned` would do it: the mapping, then the table; but the source is
        // moved out. Nothing is used again, so that the memory can be freed.
        unsafe {
            let inner = &raw mut (*table).inner;
            ptr::drop_in_place(&raw mut (*inner).dma);
            ptr::drop_in_place(&raw mut (*inner).sgt);
            let source = ptr::read(&raw const (*inner)._pages);
            drop(KBox::from_raw(table.cast::<MaybeUninit<Self>>()));
            source
        }
    }
}

impl SGEntry {
    /// Whether the device gets to see a copy of the memory, because it cannot reach the memory
    /// itself (`CONFIG_SWIOTLB`). `dev` is the device that the table is mapped for.
    pub fn is_bounced(&self, dev: &Device<Bound>) -> bool {
        // SAFETY: Both are valid.
        unsafe { bindings::sg_is_bounced(dev.as_raw(), self.as_raw()) }
    }
}

#[kunit_tests(rust_scatterlist_segments)]
mod tests {
    use super::*;
    use crate::pipe::OwnedPage;

    /// What becomes of pieces of one page, each at an offset with a length, within limits; entries
    /// as offset from the first byte of the page, and length.
    fn entries(pieces: &[(usize, usize)], len: u64, boundary: u64) -> Result<KVec<(u64, u64)>> {
        let page = OwnedPage::alloc(GFP_KERNEL)?;
        // SAFETY: A page is valid.
        let start = unsafe { bindings::page_to_phys(page.as_ptr()) };
        let segments = pieces.iter().map(|&(offset, len)| {
            // SAFETY: All are within the page, which is there for as long as this.
            unsafe { Segment::new(NonNull::new_unchecked(page.as_ptr()), offset, len) }
        });
        let mut found = KVec::new();
        for (addr, len) in Entries::new(segments, Limits { len, boundary }) {
            found.push((addr - start, len), GFP_KERNEL)?;
        }
        Ok(found)
    }

    const NO_LIMIT: u64 = u32::MAX as u64;
    const NO_BOUNDARY: u64 = u64::MAX;

    #[test]
    fn what_is_contiguous_is_one_entry() -> Result {
        let pieces = [(0, 100), (100, 200), (400, 1), (401, 9)];
        let found = entries(&pieces, NO_LIMIT, NO_BOUNDARY)?;
        assert_eq!(&found[..], &[(0, 300), (400, 10)]);
        Ok(())
    }

    #[test]
    fn order_is_kept() -> Result {
        let found = entries(&[(100, 50), (0, 100), (150, 1)], NO_LIMIT, NO_BOUNDARY)?;
        assert_eq!(&found[..], &[(100, 50), (0, 100), (150, 1)]);
        Ok(())
    }

    #[test]
    fn no_entry_is_longer_than_the_limit() -> Result {
        let found = entries(&[(0, 100), (100, 30), (200, 64)], 64, NO_BOUNDARY)?;
        assert_eq!(&found[..], &[(0, 64), (64, 64), (128, 2), (200, 64)]);
        Ok(())
    }

    #[test]
    fn no_entry_crosses_a_boundary() -> Result {
        let found = entries(&[(1000, 100), (1100, 1000)], NO_LIMIT, 1024 - 1)?;
        assert_eq!(&found[..], &[(1000, 24), (1024, 1024), (2048, 52)]);
        Ok(())
    }

    #[test]
    fn empty_segments_leave_no_trace() -> Result {
        let found = entries(
            &[(7, 0), (8, 8), (3, 0), (16, 4), (9, 0)],
            NO_LIMIT,
            NO_BOUNDARY,
        )?;
        assert_eq!(&found[..], &[(8, 12)]);
        assert!(entries(&[(5, 0)], NO_LIMIT, NO_BOUNDARY)?.is_empty());
        Ok(())
    }
}
