// SPDX-License-Identifier: GPL-2.0

//! Index arithmetic of the pipe ring.
//!
//! The indices count slots, and a buffer takes one slot for each of its pages. Head and tail, read
//! at once, therefore tell how full a pipe is, which is enough for `poll(2)` and others that do not
//! take the lock.
//!
//! This module is pure: it uses no kernel interface, so that the same file is also compiled and
//! property-tested on the host.
//!
//! C header: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

/// The head and tail counters of a pipe ring. C: `union pipe_index`.
///
/// Both run freely and wrap at 2^32; only [`slot`] masks them. `head` is the slot for the next
/// buffer, `tail` the first slot of the oldest buffer.
///
/// # Examples
///
/// The counters wrap at 2^32, and all methods hold across the wrap:
///
/// ```
/// use kernel::pipe::Indices;
///
/// let indices = Indices::new(1, u32::MAX);
/// assert_eq!(indices.occupancy(), 2);
/// assert_eq!(indices.advance_tail(2), Indices::new(1, 1));
/// assert!(indices.advance_tail(2).is_empty());
/// ```
///
/// Code without the lock may read the indices before `F_SETPIPE_SZ` shrinks the pipe, and the limit
/// after. More slots than the limit seem to be in use then. There is no room, and nothing wraps:
///
/// ```
/// use kernel::pipe::Indices;
///
/// let indices = Indices::new(12, 2);
/// assert!(indices.is_full(8));
/// assert_eq!(indices.space(8), 0);
/// assert_eq!(indices.space(16), 6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indices {
    head: u32,
    tail: u32,
}

impl Indices {
    /// Creates a pair from two counter values.
    #[inline]
    pub const fn new(head: u32, tail: u32) -> Self {
        Self { head, tail }
    }

    /// Returns the counter value of the slot for the next buffer.
    #[inline]
    pub const fn head(self) -> u32 {
        self.head
    }

    /// Returns the counter value of the first slot of the oldest buffer.
    #[inline]
    pub const fn tail(self) -> u32 {
        self.tail
    }

    /// Returns the number of slots in use. C: `pipe_occupancy`.
    #[inline]
    pub const fn occupancy(self) -> u32 {
        self.head.wrapping_sub(self.tail)
    }

    /// Returns whether no slot is in use. C: `pipe_empty`.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.head == self.tail
    }

    /// Returns whether at least `limit` slots are in use. C: `pipe_full`.
    #[inline]
    pub const fn is_full(self, limit: u32) -> bool {
        self.occupancy() >= limit
    }

    /// Returns the number of slots that are free if at most `limit` may be used. It is zero if
    /// `limit` or more are in use.
    #[inline]
    pub const fn space(self, limit: u32) -> u32 {
        limit.saturating_sub(self.occupancy())
    }

    /// Returns the indices after buffers that take `n` slots were added.
    #[inline]
    #[must_use]
    pub const fn advance_head(self, n: u32) -> Self {
        Self::new(self.head.wrapping_add(n), self.tail)
    }

    /// Returns the indices after the `n` oldest slots were freed.
    #[inline]
    #[must_use]
    pub const fn advance_tail(self, n: u32) -> Self {
        Self::new(self.head, self.tail.wrapping_add(n))
    }
}

/// Returns the position of counter value `index` in an array of `ring_size` slots.
///
/// `ring_size` must be a power of two. C: `pipe_buf`.
///
/// # Examples
///
/// The counter wraps at 2^32, a multiple of the size, so a buffer keeps its slot across the wrap:
/// `slot(u32::MAX, 16)` is 15, and `slot(0, 16)`, the next one, is 0.
#[allow(unreachable_pub)] // The host tests are in another crate.
#[inline]
pub const fn slot(index: u32, ring_size: u32) -> usize {
    // CAST: A u32 fits in usize on all architectures that the kernel supports Rust on.
    (index & ring_size.wrapping_sub(1)) as usize
}
