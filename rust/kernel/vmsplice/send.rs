// SPDX-License-Identifier: GPL-2.0

//! Tracked memory in the queues of a socket: a zero-copy send.
//!
//! The network stack has its own count of the packets that use a zero-copy send, in `struct
//! ubuf_info`. This file connects that count to the one of the [`TrackedMemory`]. The latter is
//! given back once, when the last packet is freed: for TCP, after the peer has acknowledged the
//! data.
//!
//! Not all protocols report when they free a packet.
//! [`Socket::send_tracked`](crate::net::Socket::send_tracked) asks first.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use super::tracked::TrackedMemory;
use crate::{alloc::flags::GFP_KERNEL_ACCOUNT, bindings, prelude::*, sync::aref::ARef};
use core::{mem, ptr};

/// A [`TrackedMemory`] to which the data in the queues of a socket refers. C: `struct ubuf_info`.
///
/// Packets in the queues own references to it, and each of these keeps the memory alive.
#[repr(C)]
struct InFlight {
    ubuf: bindings::ubuf_info,
    _memory: ARef<TrackedMemory>,
}

/// The reference that the sender owns to an [`InFlight`].
///
/// # Invariants
///
/// The pointer is valid, and this value owns one reference.
pub(crate) struct Sending(ptr::NonNull<InFlight>);

impl Sending {
    /// Creates an [`InFlight`] for `memory`. May sleep.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub(crate) fn new(memory: ARef<TrackedMemory>) -> Result<Self> {
        static OPS: UbufOps = UbufOps(bindings::ubuf_info_ops {
            complete: Some(complete),
            link_skb: None,
        });

        // SAFETY: All-zero is a valid value of this C struct of integers and pointers.
        let mut ubuf: bindings::ubuf_info = unsafe { mem::zeroed() };
        ubuf.ops = &raw const OPS.0;
        // Without `SKBFL_DONT_ORPHAN` the data would be copied when it is transmitted for the first
        // time.
        ubuf.flags = (bindings::SKBFL_ZEROCOPY_ENABLE
            | bindings::SKBFL_SHARED_FRAG
            | bindings::SKBFL_DONT_ORPHAN) as u8;
        let in_flight = InFlight {
            ubuf,
            _memory: memory,
        };
        let in_flight = KBox::into_raw(KBox::new(in_flight, GFP_KERNEL_ACCOUNT)?);
        // SAFETY: `in_flight` was allocated above, and nothing else refers to it.
        unsafe { bindings::refcount_set(&raw mut (*in_flight).ubuf.refcnt, 1) };
        // INVARIANT: The count is 1, and this value owns that reference.
        // SAFETY: The pointer comes from a `KBox`, so it is not null.
        Ok(Self(unsafe { ptr::NonNull::new_unchecked(in_flight) }))
    }

    /// Returns the pointer for `msg_ubuf` of `struct msghdr`.
    ///
    /// The socket takes a reference for each packet that it makes. The sender's own reference ends
    /// with `self`, so that the memory is not reported as released during the call.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut bindings::ubuf_info {
        self.0.as_ptr().cast()
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // SAFETY: By the type invariant `self` owns one reference, which is not used again.
        unsafe { complete(ptr::null_mut(), self.as_ptr(), true) };
    }
}

struct UbufOps(bindings::ubuf_info_ops);

// SAFETY: The table is constant and consists of function pointers.
unsafe impl Sync for UbufOps {}

/// Gives back one reference to an [`InFlight`]. The network stack calls this for each reference of
/// a packet, in any context, including softirq.
///
/// # Safety
///
/// `ubuf` must be the first field of a valid [`InFlight`]. The caller must own a reference, which
/// must not be used again.
unsafe extern "C" fn complete(
    _skb: *mut bindings::sk_buff,
    ubuf: *mut bindings::ubuf_info,
    _success: bool,
) {
    // SAFETY: The caller guarantees that `ubuf` is valid and that it owns a reference.
    if unsafe { bindings::refcount_dec_and_test(&raw mut (*ubuf).refcnt) } {
        // SAFETY: This was the last reference, so nothing else accesses the value. `Sending::new`
        // allocated it as a `KBox`, and `ubuf` is its first field.
        drop(unsafe { KBox::from_raw(ubuf.cast::<InFlight>()) });
    }
}
