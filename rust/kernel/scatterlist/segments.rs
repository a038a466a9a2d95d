// SPDX-License-Identifier: GPL-2.0

//! Scatter-gather tables of segments: pieces of memory of any length, each at any offset in its
//! page.
//!
//! [`SGTable::new`] makes tables of whole pages. The data of a pipe consists of parts of pages
//! instead, some of them contiguous. This module adds the following:
//!
//! - [`AsSegments`], for owners of memory that a device may read, and [`AsSegmentsMut`], for owners
//!   of memory that a device may write to.
//! - [`SGTable::map`] and [`SGTable::map_mut`], which build a table of the segments and map it for
//!   DMA. The table owns the memory, so the memory cannot be freed during DMA.
//! - [`SGTable::unmap`], which returns the memory.
//!
//! Entries respect the limits of the device, see `struct device_dma_parameters`.
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
    page::{PAGE_MASK, PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
    sync::Arc,
    types::Opaque,
};
use core::{
    iter::FlatMap,
    marker::PhantomData,
    mem::{self, MaybeUninit},
    ptr::{self, NonNull},
    slice, //
};

/// Physically contiguous bytes, in one page or in several.
///
/// # Invariants
///
/// `page` is the first of as many contiguous pages as `offset + len` bytes need. The pages are
/// valid for `'a`.
#[derive(Clone, Copy)]
pub struct Segment<'a> {
    page: NonNull<bindings::page>,
    offset: usize,
    len: usize,
    _memory: PhantomData<&'a ()>,
}

impl Segment<'_> {
    /// Creates a segment of `len` bytes at `offset` of `page`.
    ///
    /// # Safety
    ///
    /// `page` must be the first of as many contiguous pages as `offset + len` bytes need. The pages
    /// must stay valid for the lifetime of the result.
    #[inline]
    pub unsafe fn new(page: NonNull<bindings::page>, offset: usize, len: usize) -> Self {
        // INVARIANT: The caller guarantees that the pages are contiguous and stay valid (see `#
        // Safety`).
        Self {
            page,
            offset,
            len,
            _memory: PhantomData,
        }
    }

    /// Returns the number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the segment has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of the page frame of the first byte, and the offset of the byte in it.
    #[inline]
    pub fn frame(&self) -> (usize, usize) {
        let addr = self.addr();
        // CAST: The number of a page frame is a usize in C as well.
        ((addr >> PAGE_SHIFT) as usize, addr as usize & !PAGE_MASK)
    }

    /// Returns the physical address of the first byte.
    #[inline]
    fn addr(&self) -> u64 {
        // SAFETY: The page is valid by the type invariant.
        (unsafe { bindings::page_to_phys(self.page.as_ptr()) }) + self.offset as u64
    }
}

/// Memory that an [`SGTable`] can be made of.
///
/// This is like [`AsPageIter`](crate::page::AsPageIter), but for pieces of any number of bytes.
///
/// # Safety
///
/// - The memory of all segments must stay valid, and must not move, as long as the value exists,
///   even if the value is moved.
/// - The memory may be read, and it is ordinary memory, not that of a device.
/// - [`Self::segments`] must return the same segments each time, as long as the value is not
///   changed.
///
/// # Examples
///
/// The data of a pipe, for a device that takes a list of addresses and lengths:
///
/// ```
/// use kernel::{
///     device::{Bound, Device},
///     dma::DmaAddress,
///     prelude::*,
///     scatterlist::{Owned, SGTable},
///     splice::driver::{FromPipe, PipeBuffers}, //
/// };
///
/// type Table = SGTable<Owned<PipeBuffers>>;
///
/// /// Data that is mapped for the device. Dropping it unmaps the memory and releases the buffers.
/// struct Request {
///     table: Pin<KBox<Table>>,
///     list: KVec<(DmaAddress, usize)>,
/// }
///
/// fn addresses(table: &Table) -> Result<KVec<(DmaAddress, usize)>> {
///     let mut list = KVec::new();
///     for entry in table.iter() {
///         list.push((entry.dma_address(), entry.dma_len() as usize), GFP_KERNEL)?;
///     }
///     Ok(list)
/// }
///
/// /// Takes data out of a pipe. If this fails, the data is in the pipe again.
/// fn take(dev: &Device<Bound>, from: &mut FromPipe<'_>) -> Result<Request> {
///     let taken = PipeBuffers::take(from, 64, GFP_KERNEL)?;
///     match SGTable::map(dev, taken, GFP_KERNEL) {
///         Ok(table) => match addresses(&table) {
///             Ok(list) => Ok(Request { table, list }),
///             Err(err) => {
///                 SGTable::unmap(table).put_back(from);
///                 Err(err)
///             }
///         },
///         Err((err, taken)) => {
///             taken.put_back(from);
///             Err(err)
///         }
///     }
/// }
/// ```
pub unsafe trait AsSegments {
    /// The type of iterator over the segments.
    type Iter<'a>: Iterator<Item = Segment<'a>>
    where
        Self: 'a;

    /// Returns the segments in the order of the data.
    fn segments(&self) -> Self::Iter<'_>;
}

/// Memory that a device may write to.
///
/// # Safety
///
/// Nothing else may write to the memory of the segments as long as the value exists, and nothing
/// else may rely on the contents: readers must expect that they change at any time.
///
/// Buffers of a pipe do not implement this: others may read the same pages, for example through the
/// page cache or a copy that `tee(2)` made.
pub unsafe trait AsSegmentsMut: AsSegments {}

// SAFETY: The elements are owned by the vector and do not move their memory. Moving the vector does
// not change them.
unsafe impl<S: AsSegments> AsSegments for KVec<S> {
    type Iter<'a>
        = FlatMap<slice::Iter<'a, S>, S::Iter<'a>, fn(&'a S) -> S::Iter<'a>>
    where
        S: 'a;

    fn segments(&self) -> Self::Iter<'_> {
        self.iter().flat_map(S::segments)
    }
}

// SAFETY: The vector owns its elements, and nothing else accesses the memory of each.
unsafe impl<S: AsSegmentsMut> AsSegmentsMut for KVec<S> {}

// SAFETY: The object owns its memory, and does not move it. It is dropped with the last reference
// to it, and is not changed while it is shared.
unsafe impl<S: AsSegments> AsSegments for Arc<S> {
    type Iter<'a>
        = S::Iter<'a>
    where
        S: 'a;

    fn segments(&self) -> Self::Iter<'_> {
        S::segments(self)
    }
}

// SAFETY: Nothing but the object accesses the memory. All references are to the same object, so
// several tables of the memory may exist, and then their devices share the memory.
unsafe impl<S: AsSegmentsMut> AsSegmentsMut for Arc<S> {}

/// The limits of a device for one entry of a table.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// The maximum number of bytes.
    len: u64,
    /// A power of two minus one. No entry crosses a multiple of this power of two.
    boundary: u64,
}

impl Limits {
    /// Creates limits: `len` is the maximum number of bytes of an entry, at most 32 bits, and
    /// `boundary` a power of two minus one.
    pub(crate) fn new(len: u64, boundary: u64) -> Self {
        Self { len, boundary }
    }

    /// Returns the limits of `dev`: its maximum segment size, its maximum size of a mapping, and
    /// its segment boundary.
    fn of(dev: &Device<Bound>) -> Self {
        // SAFETY: `dev` is a reference to a bound device, so the pointer is valid.
        let (len, mapping, boundary) = unsafe {
            (
                bindings::dma_get_max_seg_size(dev.as_raw()),
                bindings::dma_max_mapping_size(dev.as_raw()),
                bindings::dma_get_seg_boundary(dev.as_raw()),
            )
        };
        // As in C, 0 means that there is no limit.
        let mapping = if mapping == 0 { usize::MAX } else { mapping };
        Self::new(u64::from(len.max(1)).min(mapping as u64), boundary as u64)
    }

    /// Returns the limits of `dev` for whole pages, so that each entry begins and ends at a page
    /// boundary. Returns [`EINVAL`] if an entry cannot have a whole page.
    fn of_pages(dev: &Device<Bound>) -> Result<Self> {
        Self::of(dev).in_pages()
    }

    /// Rounds the limits down to whole pages. Returns [`EINVAL`] if they do not allow one.
    fn in_pages(self) -> Result<Self> {
        let page = PAGE_SIZE as u64;
        if self.len < page || self.boundary < page - 1 {
            return Err(EINVAL);
        }
        // A boundary is a multiple of the page size then.
        Ok(Self::new(self.len / page * page, self.boundary))
    }

    /// Returns how many of `len` bytes at physical address `addr` fit in one entry.
    #[inline]
    fn fitting(self, addr: u64, len: u64) -> u64 {
        let to_boundary = (self.boundary - (addr & self.boundary)).saturating_add(1);
        len.min(self.len).min(to_boundary)
    }
}

/// An iterator that turns segments into entries. It joins contiguous segments, as far as the limits
/// of the device allow, and skips empty ones.
///
/// [`RawSGTable::of_segments`] runs it twice, once to count the entries and once to fill them in.
/// So no list of entries is allocated.
pub(crate) struct Entries<I> {
    segments: I,
    limits: Limits,
    /// The address and the length of bytes that belong to the next entries.
    rest: (u64, u64),
}

impl<'a, I: Iterator<Item = Segment<'a>>> Entries<I> {
    /// Creates an iterator over the entries for `segments`.
    pub(crate) fn new(segments: I, limits: Limits) -> Self {
        Self {
            segments,
            limits,
            rest: (0, 0),
        }
    }
}

impl<'a, I: Iterator<Item = Segment<'a>>> Iterator for Entries<I> {
    /// The physical address and the length of an entry.
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let (mut addr, mut len) = mem::take(&mut self.rest);
        // Joining needs to see the segment after the entry. If that segment does not fit, it begins
        // the next entry.
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
    /// Builds a table of all segments of `source`, within `limits`. The table is not mapped.
    ///
    /// Returns [`EINVAL`] if there are no bytes, and [`ENOMEM`] if the table cannot be allocated.
    ///
    /// # Safety
    ///
    /// The memory of `source` must stay valid as long as the table exists.
    unsafe fn of_segments<P: AsSegments>(source: &P, limits: Limits, flags: Flags) -> Result<Self> {
        let entries = || Entries::new(source.segments(), limits);
        let nr = c_uint::try_from(entries().count())?;
        if nr == 0 {
            return Err(EINVAL);
        }
        let table = Self(Opaque::zeroed());
        // SAFETY: `table` has room for a `struct sg_table`. If the allocation fails the table is
        // all zero, and dropping it frees nothing.
        error::to_result(unsafe { bindings::sg_alloc_table(table.as_raw(), nr, flags.as_raw()) })?;

        // SAFETY: The table was allocated above, so `sgl` points to its first entry.
        let mut entry = unsafe { (*table.as_raw()).sgl };
        for (addr, len) in entries() {
            // SAFETY: The table has as many entries as the first pass counted, and the source did
            // not change since. By the invariant of `Segment` the address is in a valid page.
            // CAST: An entry has at most `Limits::len` bytes, which is the minimum of a c_uint and
            // another value.
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

/// Maps a table for DMA, until the result is dropped or the device loses its driver.
///
/// Not generic, so that the functions that the device calls when it loses its driver are in the
/// kernel, and not in the module of a caller, which can be unloaded before they return.
///
/// # Safety
///
/// The same as for [`DmaMappedSgt::new`].
#[inline(never)]
unsafe fn map_managed(
    sgt: NonNull<bindings::sg_table>,
    dev: &Device<Bound>,
    dir: DataDirection,
) -> Result<Devres<DmaMappedSgt>> {
    // SAFETY: The caller guarantees what `DmaMappedSgt::new` requires.
    Devres::new(dev, unsafe { DmaMappedSgt::new(sgt, dev, dir) }?)
}

impl<P: AsSegments + Send + 'static> SGTable<Owned<P>> {
    /// Maps the memory of `source`, so that `dev` can read it by DMA. May sleep.
    ///
    /// The memory is unmapped when the table is dropped, or when the device loses its driver. The
    /// table owns `source`, so it exists at least as long as the mapping.
    ///
    /// Contiguous segments become one entry. No entry is larger than [`dma_set_max_seg_size`]
    /// allows, and none crosses the segment boundary of the device.
    ///
    /// The iterator of the table ([`SGTable::iter`]) returns the DMA addresses. There may be fewer
    /// of them than entries, because an IOMMU can make entries contiguous for the device.
    ///
    /// [`dma_set_max_seg_size`]: crate::dma::Device::dma_set_max_seg_size
    ///
    /// # Errors
    ///
    /// Each error is returned together with `source`, so that no data is lost.
    ///
    /// - [`ENOMEM`]: the table cannot be allocated, or the memory is out of reach of the device and
    ///   cannot be copied (the buffers of swiotlb are in use).
    /// - [`EINVAL`]: there are no bytes.
    /// - [`EIO`], [`EREMOTEIO`]: the memory cannot be mapped for this device.
    pub fn map(
        dev: &Device<Bound>,
        source: P,
        flags: Flags,
    ) -> Result<Pin<KBox<Self>>, (Error, P)> {
        Self::map_for(dev, source, DataDirection::ToDevice, Limits::of(dev), flags)
    }

    /// Maps the memory of `source` as [`Self::map`] does, with entries that begin and end at page
    /// boundaries, as importers of dma-bufs expect. The memory consists of whole pages.
    ///
    /// Also returns [`EINVAL`] if the device cannot have an entry of a whole page.
    pub(crate) fn map_pages(
        dev: &Device<Bound>,
        source: P,
        flags: Flags,
    ) -> Result<Pin<KBox<Self>>, (Error, P)> {
        match Limits::of_pages(dev) {
            Ok(limits) => Self::map_for(dev, source, DataDirection::ToDevice, limits, flags),
            Err(err) => Err((err, source)),
        }
    }

    /// Maps the memory of `source` for both directions as [`Self::map_both`] does, with the entries
    /// of [`Self::map_pages`].
    pub(crate) fn map_both_pages(
        dev: &Device<Bound>,
        source: P,
        flags: Flags,
    ) -> Result<Pin<KBox<Self>>, (Error, P)>
    where
        P: AsSegmentsMut,
    {
        match Limits::of_pages(dev) {
            Ok(limits) => Self::map_for(dev, source, DataDirection::Bidirectional, limits, flags),
            Err(err) => Err((err, source)),
        }
    }

    /// Maps the memory of `source`, so that `dev` can write to it by DMA. Otherwise the same as
    /// [`Self::map`]. May sleep.
    ///
    /// The CPU must not access the memory while it is mapped. [`Self::unmap`] returns the memory
    /// with the data of the device visible to the CPU.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
    ///     dma::DmaAddress,
    ///     page::PAGE_SIZE,
    ///     pipe::PipeBuffer,
    ///     prelude::*,
    ///     scatterlist::{Owned, SGTable},
    ///     splice::driver::{PageOwner, ReceivePage}, //
    /// };
    ///
    /// /// A page that the device writes to now.
    /// type Posted<T> = Pin<KBox<SGTable<Owned<KBox<ReceivePage<T>>>>>>;
    ///
    /// /// Maps a page for the device, and returns the address to write to.
    /// fn post<T: PageOwner>(dev: &Device<Bound>, owner: T) -> Result<(Posted<T>, DmaAddress)> {
    ///     let page = ReceivePage::new(owner, GFP_KERNEL)?;
    ///     let table = SGTable::map_mut(dev, page, GFP_KERNEL).map_err(|(err, _page)| err)?;
    ///     let addr = table.iter().next().map(|entry| entry.dma_address());
    ///     Ok((table, addr.ok_or(EIO)?))
    /// }
    ///
    /// /// Turns the first `len` bytes of the page into a buffer. The device is done with the page.
    /// fn receive<T: PageOwner>(posted: Posted<T>, len: u32) -> Result<PipeBuffer> {
    ///     let page = SGTable::unmap(posted);
    ///     ReceivePage::into_buffer(page, 0, len.min(PAGE_SIZE as u32)).map_err(|_page| EINVAL)
    /// }
    /// ```
    pub fn map_mut(
        dev: &Device<Bound>,
        source: P,
        flags: Flags,
    ) -> Result<Pin<KBox<Self>>, (Error, P)>
    where
        P: AsSegmentsMut,
    {
        Self::map_for(
            dev,
            source,
            DataDirection::FromDevice,
            Limits::of(dev),
            flags,
        )
    }

    /// Maps the memory of `source`, so that `dev` can both read it and write to it by DMA.
    /// Otherwise the same as [`Self::map`]. May sleep.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     device::{Bound, Device},
    ///     prelude::*,
    ///     scatterlist::{AsSegmentsMut, Owned, SGTable},
    ///     sync::Arc, //
    /// };
    ///
    /// /// Maps memory for one of several devices that share it.
    /// fn share<M: AsSegmentsMut + Send + Sync + 'static>(
    ///     dev: &Device<Bound>,
    ///     memory: &Arc<M>,
    /// ) -> Result<Pin<KBox<SGTable<Owned<Arc<M>>>>>> {
    ///     SGTable::map_both(dev, memory.clone(), GFP_KERNEL).map_err(|(err, _memory)| err)
    /// }
    /// ```
    pub fn map_both(
        dev: &Device<Bound>,
        source: P,
        flags: Flags,
    ) -> Result<Pin<KBox<Self>>, (Error, P)>
    where
        P: AsSegmentsMut,
    {
        Self::map_for(
            dev,
            source,
            DataDirection::Bidirectional,
            Limits::of(dev),
            flags,
        )
    }

    /// Makes the CPU see what the device has written. Does nothing if the device has lost its
    /// driver, because the memory is unmapped then. Does not sleep. C: `dma_sync_sgtable_for_cpu`.
    pub fn sync_for_cpu(&self) {
        if let Some(dma) = self.inner.dma.try_access() {
            // SAFETY: The table is mapped for this device in this direction, and stays mapped while
            // it is accessed.
            unsafe {
                bindings::dma_sync_sgtable_for_cpu(
                    dma.dev.as_raw(),
                    dma.sgt.as_ptr(),
                    dma.dir.into(),
                )
            };
        }
    }

    /// Makes the device see what the CPU has written. Otherwise the same as
    /// [`Self::sync_for_cpu`]. C: `dma_sync_sgtable_for_device`.
    pub fn sync_for_device(&self) {
        if let Some(dma) = self.inner.dma.try_access() {
            // SAFETY: The table is mapped for this device in this direction, and stays mapped while
            // it is accessed.
            unsafe {
                bindings::dma_sync_sgtable_for_device(
                    dma.dev.as_raw(),
                    dma.sgt.as_ptr(),
                    dma.dir.into(),
                )
            };
        }
    }

    /// Builds a table of the segments of `source`, within `limits`, and maps it for DMA in
    /// direction `dir`.
    fn map_for(
        dev: &Device<Bound>,
        source: P,
        dir: DataDirection,
        limits: Limits,
        flags: Flags,
    ) -> Result<Pin<KBox<Self>>, (Error, P)> {
        let mut room = match KBox::<Self>::new_uninit(flags) {
            Ok(room) => room,
            Err(err) => return Err((err.into(), source)),
        };
        // SAFETY: `source` is moved into the value that contains the table, and is dropped after
        // the table.
        let table = match unsafe { RawSGTable::of_segments(&source, limits, flags) } {
            Ok(table) => table,
            Err(err) => return Err((err, source)),
        };
        // SAFETY: `room` has room for all fields. This initializes one of them, and creates no
        // reference to the others.
        let sgt = unsafe {
            let sgt = &raw mut (*room.as_mut_ptr()).inner.sgt;
            sgt.write(table);
            sgt
        };
        // SAFETY: `sgt` is not null. It outlives the mapping, since both are fields of one value
        // and `dma` is dropped first. Only `DmaMappedSgt` unmaps it.
        let mapping = match unsafe { map_managed(NonNull::new_unchecked(sgt.cast()), dev, dir) } {
            Ok(mapping) => mapping,
            Err(err) => {
                // SAFETY: The table was initialized above and is not used again; the mapping is
                // gone.
                unsafe { ptr::drop_in_place(sgt) };
                return Err((err, source));
            }
        };
        // SAFETY: `room` has room for the other fields, which are initialized here. So all fields
        // are initialized at the end.
        let table = unsafe {
            let inner = &raw mut (*room.as_mut_ptr()).inner;
            (&raw mut (*inner).dma).write(mapping);
            (&raw mut (*inner)._pages).write(source);
            KBox::into_pin(room.assume_init())
        };
        // For a device without a DMA mask the mapping succeeds but is empty.
        if table.iter().next().is_none() {
            return Err((EIO, Self::unmap(table)));
        }
        Ok(table)
    }

    /// Unmaps the memory and returns its owner. May sleep.
    ///
    /// The device must have finished its transfer: afterwards it cannot reach the memory any more.
    ///
    /// If the device has lost its driver, the memory is unmapped already, and this only returns it.
    pub fn unmap(table: Pin<KBox<Self>>) -> P {
        // SAFETY: The pinned fields are dropped in place below, so they do not move.
        let table = KBox::into_raw(unsafe { Pin::into_inner_unchecked(table) });
        // SAFETY: This drops the fields in the order in which `Owned` drops them, first the mapping
        // and then the table, but moves `source` out. No field is used again, so the allocation can
        // be freed without dropping them.
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
    /// Returns whether the device sees a copy of the memory in a bounce buffer, because it cannot
    /// reach the memory itself (`CONFIG_SWIOTLB`). `dev` must be the device that the table is
    /// mapped for.
    ///
    /// Drivers use this to count copied bytes.
    pub fn is_bounced(&self, dev: &Device<Bound>) -> bool {
        #[cfg(CONFIG_SWIOTLB)]
        // SAFETY: `dev` is a bound device, so the pointer is valid, and `self` is an entry of a
        // table that is mapped for it. A device that uses the DMA API's IOMMU has a domain.
        unsafe {
            let addr = self.dma_address();
            let phys = if bindings::use_dma_iommu(dev.as_raw()) {
                let domain = bindings::iommu_get_domain_for_dev(dev.as_raw());
                bindings::iommu_iova_to_phys(domain, addr)
            } else {
                bindings::dma_to_phys(dev.as_raw(), addr)
            };
            bindings::is_swiotlb_buffer(dev.as_raw(), phys)
        }
        #[cfg(not(CONFIG_SWIOTLB))]
        {
            let _ = dev;
            false
        }
    }
}

#[kunit_tests(rust_scatterlist_segments)]
mod tests {
    use super::*;
    use crate::pipe::OwnedPage;

    /// Returns the entries for `pieces` of one page, within the limits. Each piece consists of an
    /// offset and a length, and so does each entry; offsets are from the beginning of the page.
    fn entries(pieces: &[(usize, usize)], len: u64, boundary: u64) -> Result<KVec<(u64, u64)>> {
        let page = OwnedPage::alloc(GFP_KERNEL)?;
        // SAFETY: `page` owns a valid page.
        let start = unsafe { bindings::page_to_phys(page.as_ptr()) };
        let segments = pieces.iter().map(|&(offset, len)| {
            // SAFETY: All pieces are within the page, which lives until the end of this function.
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

    // Limits within a page are rounded down, so that no entry ends there.
    #[test]
    fn limits_are_whole_pages() {
        let page = PAGE_SIZE as u64;
        let in_pages = |len, boundary| Limits::new(len, boundary).in_pages().map(|l| l.len);
        assert_eq!(in_pages(NO_LIMIT, NO_BOUNDARY), Ok(NO_LIMIT / page * page));
        assert_eq!(in_pages(3 * page - 1, page - 1), Ok(2 * page));
        assert_eq!(in_pages(page, NO_BOUNDARY), Ok(page));
        assert_eq!(in_pages(page - 1, NO_BOUNDARY), Err(EINVAL));
        assert_eq!(in_pages(page, page / 2 - 1), Err(EINVAL));
    }

    // Two of the pieces are contiguous, and so are the other two. Between these pairs there is a
    // gap.
    #[test]
    fn what_is_contiguous_is_one_entry() -> Result {
        let pieces = [(0, 100), (100, 200), (400, 1), (401, 9)];
        let found = entries(&pieces, NO_LIMIT, NO_BOUNDARY)?;
        assert_eq!(&found[..], &[(0, 300), (400, 10)]);
        Ok(())
    }

    // Pieces that are contiguous in memory, but not in this order, stay separate entries.
    #[test]
    fn order_is_kept() -> Result {
        let found = entries(&[(100, 50), (0, 100), (150, 1)], NO_LIMIT, NO_BOUNDARY)?;
        assert_eq!(&found[..], &[(100, 50), (0, 100), (150, 1)]);
        Ok(())
    }

    // A joined range is cut at the limit, counted from its own beginning. A piece of exactly the
    // limit stays whole.
    #[test]
    fn no_entry_is_longer_than_the_limit() -> Result {
        let found = entries(&[(0, 100), (100, 30), (200, 64)], 64, NO_BOUNDARY)?;
        assert_eq!(&found[..], &[(0, 64), (64, 64), (128, 2), (200, 64)]);
        Ok(())
    }

    // The range begins before one multiple of the boundary and ends behind another, so that it is
    // cut twice.
    #[test]
    fn no_entry_crosses_a_boundary() -> Result {
        let found = entries(&[(1000, 100), (1100, 1000)], NO_LIMIT, 1024 - 1)?;
        assert_eq!(&found[..], &[(1000, 24), (1024, 1024), (2048, 52)]);
        Ok(())
    }

    // Empty pieces do not separate contiguous ones, and make no entry if there is nothing else.
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
