// SPDX-License-Identifier: GPL-2.0

//! Work requests: a send or a receive, with the memory that it uses.

use crate::{
    alloc::{flags::GFP_KERNEL, AllocError, KBox, KVec},
    bindings,
    page::{PAGE_MASK, PAGE_SHIFT},
    prelude::*,
    scatterlist::{AsSegments, Entries, Limits},
    types::Opaque,
};
use core::{marker::PhantomData, ptr::NonNull};

/// The number of bytes of the header that every message begins with.
pub const HEADER_BYTES: usize = 16;

mod sealed {
    pub trait Sealed {}
}

/// Whether a request sends or receives.
pub trait Direction: sealed::Sealed + 'static {
    #[doc(hidden)]
    const DMA: bindings::dma_data_direction;
    #[doc(hidden)]
    const RECEIVES: bool;
}

/// The adapter reads the memory and sends it.
pub enum Sending {}

/// The adapter receives, and writes to the memory.
pub enum Receiving {}

impl sealed::Sealed for Sending {}
impl sealed::Sealed for Receiving {}

impl Direction for Sending {
    const DMA: bindings::dma_data_direction = bindings::dma_data_direction::DMA_TO_DEVICE;
    const RECEIVES: bool = false;
}

impl Direction for Receiving {
    const DMA: bindings::dma_data_direction = bindings::dma_data_direction::DMA_FROM_DEVICE;
    const RECEIVES: bool = true;
}

/// A request to send a header and the memory `M`.
pub type SendRequest<M> = Request<Sending, M>;

/// A request to receive a header and data into the memory `M`.
pub type ReceiveRequest<M> = Request<Receiving, M>;

/// The result of posting a request. If that fails, the request is returned with the error.
pub type PostResult<D, M> = Result<(), (Error, KBox<Request<D, M>>)>;

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request is done. The number of bytes that were received, including the header.
    Done(usize),
    /// The connection ended before the request was done. The message may have been sent.
    Flushed,
    /// The request failed with the error, and the connection has ended.
    Failed(Error),
}

impl Outcome {
    /// Converts a completion of a request in the direction `D`.
    pub(super) fn of<D: Direction>(wc: &bindings::ib_wc) -> Self {
        match wc.status {
            // CAST: A length of at most 32 bits.
            bindings::ib_wc_status_IB_WC_SUCCESS => Self::Done(wc.byte_len as usize),
            bindings::ib_wc_status_IB_WC_WR_FLUSH_ERR => Self::Flushed,
            // A message is longer than the receive for it. rxe reports the second status for that.
            bindings::ib_wc_status_IB_WC_LOC_LEN_ERR
            | bindings::ib_wc_status_IB_WC_LOC_QP_OP_ERR
                if D::RECEIVES =>
            {
                Self::Failed(EPROTO)
            }
            // The peer does not acknowledge, or packets cannot be sent at all.
            bindings::ib_wc_status_IB_WC_RETRY_EXC_ERR
            | bindings::ib_wc_status_IB_WC_RNR_RETRY_EXC_ERR
            | bindings::ib_wc_status_IB_WC_RESP_TIMEOUT_ERR
            | bindings::ib_wc_status_IB_WC_LOC_QP_OP_ERR => Self::Failed(ETIMEDOUT),
            // The peer, or the device of either side, has ended the connection.
            _ => Self::Failed(ECONNRESET),
        }
    }
}

/// A send or a receive: a header of [`HEADER_BYTES`] and the memory `M`, which follows the header
/// in the message.
///
/// A request belongs to the connection that made it, and can be posted there any number of times.
/// Between [posting](super::Connection::post_send) and completion, the connection owns it.
///
/// # Invariants
///
/// `entries` are the mapped parts of the header and of the memory, or empty. They are empty unless
/// the request is posted.
// The completion entry is the first field, so that a pointer to it is also a pointer to the whole.
#[repr(C)]
pub struct Request<D: Direction, M> {
    pub(super) cqe: Opaque<bindings::ib_cqe>,
    /// The connection that the request belongs to, for comparison only.
    pub(super) owner: usize,
    /// The place in the connection's table of posted requests.
    pub(super) slot: usize,
    entries: KVec<bindings::ib_sge>,
    header: KBox<[u8; HEADER_BYTES]>,
    memory: M,
    _direction: PhantomData<D>,
}

impl<D: Direction, M> Request<D, M> {
    /// Creates a request with at most `entries` entries, one of which is for the header.
    pub(super) fn new(
        owner: usize,
        slot: usize,
        entries: usize,
        memory: M,
    ) -> Result<KBox<Self>, AllocError> {
        KBox::new(
            // INVARIANT: There are no entries.
            Self {
                cqe: Opaque::zeroed(),
                owner,
                slot,
                entries: KVec::with_capacity(entries, GFP_KERNEL)?,
                header: KBox::new([0; HEADER_BYTES], GFP_KERNEL)?,
                memory,
                _direction: PhantomData,
            },
            GFP_KERNEL,
        )
    }

    /// Returns the header.
    #[inline]
    pub fn header(&self) -> &[u8; HEADER_BYTES] {
        &self.header
    }

    /// Returns the header, to be changed before the request is posted.
    #[inline]
    pub fn header_mut(&mut self) -> &mut [u8; HEADER_BYTES] {
        &mut self.header
    }

    /// Returns the memory.
    #[inline]
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the memory, to be changed before the request is posted.
    #[inline]
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }
}

impl<D: Direction, M: AsSegments> Request<D, M> {
    /// Maps the header and the memory for `device`.
    ///
    /// Returns [`EMSGSIZE`] if there are more entries than the request can have, and [`EIO`] if
    /// memory cannot be mapped. Nothing is mapped then.
    pub(super) fn map(&mut self, device: NonNull<bindings::ib_device>, lkey: u32) -> Result {
        let mapped = self.try_map(device, lkey);
        if mapped.is_err() {
            self.unmap(device);
        }
        mapped
    }

    fn try_map(&mut self, device: NonNull<bindings::ib_device>, lkey: u32) -> Result {
        let device = device.as_ptr();
        let header = self.header.as_mut_ptr();
        // SAFETY: The device is valid. The header is in memory of the slab allocator, and is
        // unmapped before it is released, because the request owns both.
        let addr =
            unsafe { bindings::ib_dma_map_single(device, header.cast(), HEADER_BYTES, D::DMA) };
        let header = entry(device, lkey, addr, HEADER_BYTES)?;
        self.entries
            .push_within_capacity(header)
            .map_err(|_| EMSGSIZE)?;

        // SAFETY: The device is valid.
        let limits = unsafe {
            Limits::new(
                bindings::ib_dma_max_seg_size(device).into(),
                bindings::rdma_seg_boundary(device) as u64,
            )
        };
        for (addr, len) in Entries::new(self.memory.segments(), limits) {
            if self.entries.len() == self.entries.capacity() {
                return Err(EMSGSIZE);
            }
            // CAST: An entry has at most as many bytes as the limit, which is 32 bits. Offsets are
            // smaller than a page.
            let (offset, len) = (addr as usize & !PAGE_MASK, len as usize);
            // SAFETY: The device is valid. The address is in a page of a segment, which is valid as
            // long as the memory, and is unmapped before the memory is released.
            let addr = unsafe {
                let page = bindings::pfn_to_page((addr >> PAGE_SHIFT) as usize);
                bindings::ib_dma_map_page(device, page, offset, len, D::DMA)
            };
            let mapped = entry(device, lkey, addr, len)?;
            self.entries
                .push_within_capacity(mapped)
                .map_err(|_| EMSGSIZE)?;
        }
        Ok(())
    }

    /// Unmaps the memory. `device` is the one that it was mapped for.
    pub(super) fn unmap(&mut self, device: NonNull<bindings::ib_device>) {
        for entry in &self.entries {
            // SAFETY: By the type invariant the entry was mapped for the device, in this direction.
            // The adapter is done with it.
            unsafe {
                bindings::ib_dma_unmap_page(
                    device.as_ptr(),
                    entry.addr,
                    // CAST: A length of 32 bits.
                    entry.length as usize,
                    D::DMA,
                )
            };
        }
        // INVARIANT: Nothing is mapped any more.
        self.entries.clear();
    }

    /// Returns the entries for a work request.
    pub(super) fn sg_list(&mut self) -> (*mut bindings::ib_sge, c_int) {
        // CAST: A request has few entries.
        (self.entries.as_mut_ptr(), self.entries.len() as c_int)
    }
}

/// Makes an entry of `len` bytes that were mapped at `addr`. Returns [`EIO`] if mapping failed.
fn entry(
    device: *mut bindings::ib_device,
    lkey: u32,
    addr: u64,
    len: usize,
) -> Result<bindings::ib_sge> {
    // SAFETY: The callers guarantee that the device is valid.
    if unsafe { bindings::ib_dma_mapping_error(device, addr) } != 0 {
        return Err(EIO);
    }
    Ok(bindings::ib_sge {
        addr,
        // CAST: The limits of an entry are 32 bits.
        length: len as u32,
        lkey,
    })
}
