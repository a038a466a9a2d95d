// SPDX-License-Identifier: GPL-2.0

//! The ways in which a call holds user memory.

#![forbid(unsafe_code)]

use super::sink::Sink;
use kernel::{
    mm::gup::{HeldPages, Hold, UserRange, UserRanges},
    pipe::{PipeBuffer, PipeRing},
    prelude::*,
    splice::Counter,
    sync::Arc,
    vmsplice::{NotifiedCall, TrackedMemoryBuilder},
};

/// The result of [`Keeper::keep`].
pub(super) enum Kept {
    /// All of the memory was added.
    Added,
    /// Nothing was added: the memory must be copied by its address, and not from the page.
    NotByPage,
}

/// The way in which a call holds its memory.
pub(super) trait Keeper {
    /// Looks up the beginning of `range`. Returns the number of pages found, see
    /// [`UserRanges::look_up`].
    fn look_up(&self, ranges: &mut UserRanges, range: UserRange) -> usize;

    /// Returns whether memory is pinned if possible.
    fn pins(&self) -> bool {
        false
    }

    /// Adds `held`, which is the memory of `range`, to `sink`: by reference if that does no harm,
    /// as a copy otherwise. Returns [`ENOMEM`] if memory is needed and cannot be allocated.
    fn keep(&mut self, held: HeldPages, range: UserRange, sink: &mut impl Sink) -> Result<Kept>;

    /// Adds the pages of small folios at the front of `ranges`, which was found at the beginning of
    /// `range`, to `sink`, if there is a fast way to do that. Returns the part of `range` that is
    /// left.
    #[inline(always)]
    fn keep_small_pages(
        &mut self,
        range: UserRange,
        _ranges: &mut UserRanges,
        _sink: &mut impl Sink,
    ) -> UserRange {
        range
    }

    /// Called with the pipe locked, just before the buffers become visible.
    fn issue(&mut self) {}

    /// Returns the number of bytes that were copied.
    fn copied(&self) -> usize;

    /// Counts `bytes` more copied bytes.
    fn add_copied(&mut self, bytes: usize);
}

/// The number of bytes that a call copied.
#[derive(Default)]
struct Copied(usize);

impl Copied {
    /// Adds copies of the pages of `held` to `sink`. `reason` counts the bytes.
    #[cold]
    #[inline(never)]
    fn copy(
        &mut self,
        held: HeldPages,
        range: UserRange,
        sink: &mut impl Sink,
        reason: Counter,
    ) -> Result {
        let mut left = range;
        for page in 0..held.pages() {
            let part = left.first_pages(1);
            let copy = held.copy(page, part.offset(), part.len())?;
            // CAST: The length is at most a page.
            sink.push(PipeBuffer::from_page(copy, 0, part.len() as u32)?);
            reason.add(part.len());
            self.0 += part.len();
            left = left.skip(part.len());
        }
        Ok(())
    }

    /// Returns `held`, which is special, if holding it does no harm. Otherwise adds a copy to
    /// `sink`, or tells the caller to make one, and returns `Err` with the result of
    /// [`Keeper::keep`].
    fn unless_harmless(
        &mut self,
        mut held: HeldPages,
        range: UserRange,
        sink: &mut impl Sink,
    ) -> Result<HeldPages, Result<Kept>> {
        let reason = if held.is_dax() {
            // The address was not in a DAX mapping when it was checked; the mapping was made since.
            Counter::MemoryToPipeDax
        } else if held.has_too_many_references() {
            Counter::MemoryToPipeReferences
        } else if held.is_private_hugetlb() {
            held = held.pinned_at(range);
            if held.hold() == Hold::Pin && held.is_longterm_pinnable() {
                return Ok(held);
            }
            // While the page is copied, its last user may be a child, which writes to it.
            return Err(Ok(Kept::NotByPage));
        } else {
            return Ok(held);
        };
        Err(self.copy(held, range, sink, reason).map(|()| Kept::Added))
    }
}

/// Each buffer owns its memory itself, and nobody observes the end of its use.
#[derive(Default)]
pub(super) struct Plain(Copied);

impl Plain {
    /// Adds memory that [`HeldPages::is_special`] was true for, or a copy of it.
    #[cold]
    #[inline(never)]
    fn keep_special(
        &mut self,
        held: HeldPages,
        range: UserRange,
        sink: &mut impl Sink,
    ) -> Result<Kept> {
        match self.0.unless_harmless(held, range, sink) {
            Ok(held) => sink.push(PipeBuffer::from_user(held, range)),
            Err(kept) => return kept,
        }
        Ok(Kept::Added)
    }
}

impl Keeper for Plain {
    #[inline(always)]
    fn look_up(&self, ranges: &mut UserRanges, range: UserRange) -> usize {
        ranges.look_up(range, Hold::Reference)
    }

    #[inline(always)]
    fn keep(&mut self, held: HeldPages, range: UserRange, sink: &mut impl Sink) -> Result<Kept> {
        if held.is_special() {
            return self.keep_special(held, range, sink);
        }
        sink.push(PipeBuffer::from_user(held, range));
        Ok(Kept::Added)
    }

    #[inline(always)]
    fn keep_small_pages(
        &mut self,
        range: UserRange,
        ranges: &mut UserRanges,
        sink: &mut impl Sink,
    ) -> UserRange {
        sink.push_small_pages(ranges, range)
    }

    #[inline]
    fn copied(&self) -> usize {
        self.0 .0
    }

    fn add_copied(&mut self, bytes: usize) {
        self.0 .0 += bytes;
    }
}

/// [`TrackedMemory`](kernel::vmsplice::TrackedMemory) owns the memory, because the caller asked for
/// a notification or because user memory is limited.
pub(super) struct Tracking {
    /// The call that the notification is for, if the caller asked for one.
    call: Option<Arc<NotifiedCall>>,
    /// The limit in pages, if there is one.
    limit: Option<usize>,
    /// The owner that memory is added to.
    owner: Option<TrackedMemoryBuilder>,
    copied: Copied,
}

impl Tracking {
    /// Prepares a call. Returns [`ENOMEM`] if there is no memory for the notification.
    pub(super) fn new(ring: &mut PipeRing<'_>, notify: bool, limit: Option<usize>) -> Result<Self> {
        let call = if notify {
            Some(NotifiedCall::new(ring.notifications_or_new()?)?)
        } else {
            None
        };
        Ok(Self {
            call,
            limit,
            owner: None,
            copied: Copied::default(),
        })
    }
}

impl Keeper for Tracking {
    fn look_up(&self, ranges: &mut UserRanges, range: UserRange) -> usize {
        if self.pins() {
            ranges.look_up_pinning(range)
        } else {
            ranges.look_up(range, Hold::Reference)
        }
    }

    fn pins(&self) -> bool {
        self.call.is_some()
    }

    fn keep(&mut self, held: HeldPages, range: UserRange, sink: &mut impl Sink) -> Result<Kept> {
        let mut held = held.unpin_unless_anonymous();
        if held.is_special() {
            match self.copied.unless_harmless(held, range, sink) {
                Ok(harmless) => held = harmless,
                Err(kept) => return kept,
            }
        }
        let owner = match &mut self.owner {
            Some(owner) if !owner.is_full() => owner,
            full => full.insert(TrackedMemoryBuilder::new(self.call.clone())?),
        };
        if self.limit.is_some_and(|limit| !owner.charge(&held, limit)) {
            self.copied
                .copy(held, range, sink, Counter::MemoryToPipeLimit)?;
            return Ok(Kept::Added);
        }
        if let Ok(buf) = owner.track(held, range) {
            sink.push(buf);
        }
        Ok(Kept::Added)
    }

    fn issue(&mut self) {
        if let Some(call) = &self.call {
            call.issue();
        }
    }

    fn copied(&self) -> usize {
        self.copied.0
    }

    fn add_copied(&mut self, bytes: usize) {
        self.copied.0 += bytes;
    }
}
