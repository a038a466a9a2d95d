// SPDX-License-Identifier: GPL-2.0

//! Index arithmetic of the pipe ring.
//!
//! The indices count slots, and a buffer takes one slot for each of its pages. So both of them
//! together, read at once, tell how full a pipe is: those who look without the lock need no more.
//!
//! Pure: no kernel interface is used here, so that the same file is compiled and property-tested
//! on the host.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

/// The head and tail counters of a pipe ring.
///
/// Both run freely and wrap at 2^32; only [`slot`] masks them. `head` is where the next buffer is
/// put, `tail` is the first slot of the oldest buffer. Counterpart of the C `union pipe_index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indices {
    head: u32,
    tail: u32,
}

impl Indices {
    /// Takes the two counters as they are.
    #[inline]
    pub const fn new(head: u32, tail: u32) -> Self {
        Self { head, tail }
    }

    /// Where the next buffer is put.
    #[inline]
    pub const fn head(self) -> u32 {
        self.head
    }

    /// Where the oldest buffer is.
    #[inline]
    pub const fn tail(self) -> u32 {
        self.tail
    }

    /// The number of slots in use. C: `pipe_occupancy`.
    #[inline]
    pub const fn occupancy(self) -> u32 {
        self.head.wrapping_sub(self.tail)
    }

    /// Whether no slot is in use. C: `pipe_empty`.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.head == self.tail
    }

    /// Whether `limit` or more slots are in use. C: `pipe_full`.
    #[inline]
    pub const fn is_full(self, limit: u32) -> bool {
        self.occupancy() >= limit
    }

    /// How many more slots may be used when `limit` is the most.
    #[inline]
    pub const fn space(self, limit: u32) -> u32 {
        limit.saturating_sub(self.occupancy())
    }

    /// After buffers of `n` slots were put in.
    #[inline]
    #[must_use]
    pub const fn advance_head(self, n: u32) -> Self {
        Self::new(self.head.wrapping_add(n), self.tail)
    }

    /// After the `n` oldest slots became free.
    #[inline]
    #[must_use]
    pub const fn advance_tail(self, n: u32) -> Self {
        Self::new(self.head, self.tail.wrapping_add(n))
    }
}

/// The place in an array of `ring_size` slots that counter value `index` stands for.
///
/// `ring_size` is a power of two. C: `pipe_buf`.
#[allow(unreachable_pub)] // The host tests are in another crate.
#[inline]
pub const fn slot(index: u32, ring_size: u32) -> usize {
    // CAST: u32 always fits in usize where the kernel has Rust.
    (index & ring_size.wrapping_sub(1)) as usize
}
