// SPDX-License-Identifier: GPL-2.0

//! `vmsplice(2)` into a pipe: the pipe gets references to user memory.
//!
//! The address space is only read. Memory is looked up in the page tables and is referenced as what
//! it is: memory of the caller alone, memory that is shared since a fork, page cache, or the zero
//! page. Memory that cannot be read without a page fault is faulted in, for reading.
//!
//! # Locking
//!
//! The pipe's mutex is not held during a page fault, which takes as long as FUSE, NFS or
//! userfaultfd want. A call that faults gathers its buffers while the pipe is unlocked and adds
//! them afterwards. A call that does not fault adds them at once. In both cases the buffers become
//! visible together, so that no other data comes between them.

#![forbid(unsafe_code)]

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    fs::LocalFile,
    iov::user::UserSource,
    mm::gup::{HeldPages, Hold, UserRange, UserRanges},
    page::PAGE_SIZE,
    pipe::{Filler, Pipe, PipeBuffer, PipeRing},
    prelude::*,
    splice::{wait_for_room, Counter, SpliceFlags},
    sync::Arc,
    vmsplice::{NotifiedCall, TrackedMemoryBuilder, UserMemoryCharge},
};

/// Puts user memory into the pipe whose write end is `file`, until the pipe is full. Returns the
/// number of bytes.
///
/// Waits for the first free slot, and sleeps in page faults. If `notify` is true and some bytes
/// were put in, the call gets the next number of the pipe.
///
/// # Errors
///
/// - [`EBADF`]: `file` is not a pipe.
/// - [`EFAULT`] and other errors of a page fault: the first page cannot be read.
/// - [`ENOMEM`]: there is no memory for the notification, for a copy, or for the list of gathered
///   buffers.
/// - [`EAGAIN`], [`EPIPE`], [`ERESTARTSYS`]: see [`wait_for_room`].
pub(crate) fn splice(
    file: &LocalFile,
    source: &mut UserSource<'_>,
    flags: SpliceFlags,
    notify: bool,
) -> Result<usize> {
    let mut pipe = Pipe::of_file(file).ok_or(EBADF)?;
    file.clear_nowait();

    let mut guard = pipe.lock();
    let mut ring = guard.ring();
    wait_for_room(&mut ring, flags)?;
    let limit = UserMemoryCharge::limit();
    let bytes = if notify || limit.is_some() {
        splice_observed(&mut ring, source, flags, notify, limit)?
    } else {
        splice_with(&mut ring, source, flags, Plain::default())?
    };
    drop(guard);
    if bytes > 0 {
        pipe.wake_readers();
        file.notify_modify();
    }
    Ok(bytes)
}

/// Runs [`splice_with`] for a call whose memory is observed. A separate function keeps its code out
/// of the path of ordinary calls.
#[cold]
#[inline(never)]
fn splice_observed(
    ring: &mut PipeRing<'_>,
    source: &mut UserSource<'_>,
    flags: SpliceFlags,
    notify: bool,
    limit: Option<usize>,
) -> Result<usize> {
    let observed = Tracking::new(ring, notify, limit)?;
    splice_with(ring, source, flags, observed)
}

/// Adds as much of `source` as there is room for. The caller has checked that there is a free slot.
#[inline(always)]
fn splice_with(
    ring: &mut PipeRing<'_>,
    source: &mut UserSource<'_>,
    flags: SpliceFlags,
    mut keeper: impl Keeper,
) -> Result<usize> {
    let mut filler = ring.filler();
    match take_mapped(&mut keeper, source, &mut filler) {
        Ok(true) => (),
        Err(err) if filler.is_empty() => return Err(err),
        Err(_) => (),
        Ok(false) => match Gathered::new(slots_wanted(&filler, source)) {
            Ok(mut gathered) => {
                filler.take_back(|buf| gathered.push(buf));
                let gathered = ring.unlocked(|| gather(&mut keeper, source, gathered))?;
                wait_for_room(ring, flags)?;
                filler = ring.filler();
                gathered.link(&mut filler);
            }
            Err(err) if filler.is_empty() => return Err(err),
            // The memory that is mapped is in `filler` already and needs no list: return a short
            // count.
            Err(_) => (),
        },
    }
    keeper.issue();
    let (buffers, bytes) = filler.commit();
    Counter::BuffersLinked.add(buffers);
    Counter::MemoryToPipeReferenced.add(bytes.saturating_sub(keeper.copied()));
    Ok(bytes)
}

/// Returns the number of slots to gather data for: those that `filler` uses, and as many of its
/// free slots as the rest of `source` can take.
fn slots_wanted(filler: &Filler<'_>, source: &UserSource<'_>) -> u32 {
    // Each range of addresses can begin and end within a page.
    let most = source.len() / PAGE_SIZE + 2 * source.ranges();
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    filler.used() + filler.space().min(most)
}

/// A destination for buffers: the ring of the pipe, or a list.
trait Sink {
    /// Returns the number of free slots.
    fn space(&self) -> u32;

    /// Adds `buf`. There must be enough free slots.
    fn push(&mut self, buf: PipeBuffer);

    /// Adds the pages of small folios at the front of `ranges`, which was found at the beginning of
    /// `range`, if there is a fast way to do that. Returns the part of `range` that is left.
    #[inline(always)]
    fn push_small_pages(&mut self, _ranges: &mut UserRanges, range: UserRange) -> UserRange {
        range
    }
}

impl Sink for Filler<'_> {
    #[inline]
    fn space(&self) -> u32 {
        Filler::space(self)
    }

    #[inline]
    fn push(&mut self, buf: PipeBuffer) {
        // The lookup was limited to the number of free slots, so this succeeds.
        let _ = Filler::push(self, buf);
    }

    #[inline(always)]
    fn push_small_pages(&mut self, ranges: &mut UserRanges, range: UserRange) -> UserRange {
        Filler::push_small_pages(self, ranges, range)
    }
}

/// Buffers that are gathered while the pipe is unlocked.
struct Gathered {
    bufs: KVVec<PipeBuffer>,
    space: u32,
}

impl Gathered {
    /// Creates a list with room for `slots` slots. Returns [`ENOMEM`] if it cannot be allocated.
    fn new(slots: u32) -> Result<Self> {
        Ok(Self {
            bufs: KVVec::with_capacity(slots as usize, GFP_KERNEL_ACCOUNT)?,
            space: slots,
        })
    }

    /// Adds the buffers to a pipe, until there is no room. The last one is cut, the rest is
    /// dropped: user space passes it again, after a short count.
    fn link(self, filler: &mut Filler<'_>) {
        for buf in self.bufs {
            let Err(mut buf) = filler.push(buf) else {
                continue;
            };
            buf.truncate(buf.len_in_slots(filler.space()));
            if !buf.is_empty() {
                Sink::push(filler, buf);
            }
            break;
        }
    }

    /// Adds `buf` to the list. There must be room.
    fn add(&mut self, buf: PipeBuffer) {
        self.space = self.space.saturating_sub(buf.slots());
        // The vector has room for it: each buffer takes at least one slot, and the capacity is the
        // number of slots.
        let _ = self.bufs.push_within_capacity(buf);
    }
}

impl Sink for Gathered {
    fn space(&self) -> u32 {
        self.space
    }

    fn push(&mut self, buf: PipeBuffer) {
        let slots = buf.slots();
        // A page fault can split the lookup of one contiguous range. Join the parts again.
        let Some(last) = self.bufs.last_mut() else {
            return self.add(buf);
        };
        match last.append(buf) {
            Ok(()) => self.space = self.space.saturating_sub(slots),
            Err(buf) => self.add(buf),
        }
    }

    fn push_small_pages(&mut self, ranges: &mut UserRanges, range: UserRange) -> UserRange {
        let mut left = range;
        ranges.take_small_pages(self.space, |page| {
            let buf = PipeBuffer::from_user(page, left);
            left = left.skip(buf.len());
            self.add(buf);
        });
        left
    }
}

/// Adds the memory that is mapped at the beginning of `source` to `sink`, without page faults.
/// Returns `Ok(true)` if there is no room or no memory left, and `Ok(false)` at memory that is not
/// mapped.
#[inline(always)]
fn take_mapped(
    keeper: &mut impl Keeper,
    source: &mut UserSource<'_>,
    sink: &mut impl Sink,
) -> Result<bool> {
    let mut ranges = UserRanges::new();
    while sink.space() > 0 {
        let Some(range) = source.front() else {
            return Ok(true);
        };
        let range = range.first_pages(sink.space() as usize);
        if keeper.look_up(&mut ranges, range) == 0 {
            return Ok(false);
        }
        keep_all(keeper, source, range, &mut ranges, sink)?;
    }
    Ok(true)
}

/// Adds the rest of `source` to `sink`, with page faults, until there is no room. The pipe must be
/// unlocked. Returns an error only if there are no buffers in `sink`.
#[cold]
#[inline(never)]
fn gather(
    keeper: &mut impl Keeper,
    source: &mut UserSource<'_>,
    mut sink: Gathered,
) -> Result<Gathered> {
    loop {
        let done = fault_in(keeper, source, &mut sink)
            .and_then(|()| take_mapped(keeper, source, &mut sink));
        match done {
            Ok(false) => (),
            Err(err) if sink.bufs.is_empty() => return Err(err),
            _ => return Ok(sink),
        }
    }
}

/// Adds the memory at the beginning of `source` that one call can fault in, if there is room in
/// `sink`.
fn fault_in(keeper: &mut impl Keeper, source: &mut UserSource<'_>, sink: &mut Gathered) -> Result {
    let Some(range) = source.front().filter(|_| sink.space() > 0) else {
        return Ok(());
    };
    if source.is_dax() {
        // Even a short reference would make a truncation of the file wait.
        let copy = source.copy_page()?;
        keeper.add_copied(copy.len());
        Counter::MemoryToPipeDax.add(copy.len());
        sink.push(copy);
        return Ok(());
    }
    let range = range.first_pages(sink.space() as usize);
    let mut ranges = UserRanges::new();
    let pages = ranges.fault_in(range)?;
    if keeper.pins() {
        // The memory is mapped now, so it may be possible to pin it.
        let mut pinned = UserRanges::new();
        if keeper.look_up(&mut pinned, range.first_pages(pages)) > 0 {
            return keep_all(keeper, source, range, &mut pinned, sink);
        }
    }
    keep_all(keeper, source, range, &mut ranges, sink)
}

/// Adds `ranges`, which were found at the beginning of `range`, to `sink`, and advances `source`
/// past them.
#[inline(always)]
fn keep_all(
    keeper: &mut impl Keeper,
    source: &mut UserSource<'_>,
    range: UserRange,
    ranges: &mut UserRanges,
    sink: &mut impl Sink,
) -> Result {
    let mut left = keeper.keep_small_pages(range, ranges, sink);
    let mut ret = Ok(());
    for held in ranges {
        // Only the first page can have bytes before the ones that are wanted.
        let part = left.first(held.pages() * PAGE_SIZE - left.offset());
        ret = keeper.keep(held, part, sink);
        if ret.is_err() {
            break;
        }
        left = left.skip(part.len());
    }
    source.advance(range.len() - left.len());
    ret
}

/// The way in which a call holds its memory.
trait Keeper {
    /// Looks up the beginning of `range`. Returns the number of pages found, see
    /// [`UserRanges::look_up`].
    fn look_up(&self, ranges: &mut UserRanges, range: UserRange) -> usize;

    /// Returns whether memory is pinned if possible.
    fn pins(&self) -> bool {
        false
    }

    /// Adds `held`, which is the memory of `range`, to `sink`: by reference if that does no harm,
    /// as a copy otherwise. Returns [`ENOMEM`] if memory is needed and cannot be allocated.
    fn keep(&mut self, held: HeldPages, range: UserRange, sink: &mut impl Sink) -> Result;

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
    /// `sink` and returns `None`.
    fn unless_harmless(
        &mut self,
        mut held: HeldPages,
        range: UserRange,
        sink: &mut impl Sink,
    ) -> Result<Option<HeldPages>> {
        let reason = if held.is_dax() {
            // The address was not in a DAX mapping when it was checked; the mapping was made since.
            Counter::MemoryToPipeDax
        } else if held.has_too_many_references() {
            Counter::MemoryToPipeReferences
        } else if held.is_private_hugetlb() {
            held = held.pinned_at(range);
            if held.hold() == Hold::Pin && held.is_longterm_pinnable() {
                return Ok(Some(held));
            }
            Counter::MemoryToPipeHugetlb
        } else {
            return Ok(Some(held));
        };
        self.copy(held, range, sink, reason)?;
        Ok(None)
    }
}

/// Each buffer owns its memory itself, and nobody observes the end of its use.
#[derive(Default)]
struct Plain(Copied);

impl Plain {
    /// Adds memory that [`HeldPages::is_special`] was true for, or a copy of it.
    #[cold]
    #[inline(never)]
    fn keep_special(&mut self, held: HeldPages, range: UserRange, sink: &mut impl Sink) -> Result {
        if let Some(held) = self.0.unless_harmless(held, range, sink)? {
            sink.push(PipeBuffer::from_user(held, range));
        }
        Ok(())
    }
}

impl Keeper for Plain {
    #[inline(always)]
    fn look_up(&self, ranges: &mut UserRanges, range: UserRange) -> usize {
        ranges.look_up(range, Hold::Reference)
    }

    #[inline(always)]
    fn keep(&mut self, held: HeldPages, range: UserRange, sink: &mut impl Sink) -> Result {
        if held.is_special() {
            return self.keep_special(held, range, sink);
        }
        sink.push(PipeBuffer::from_user(held, range));
        Ok(())
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
struct Tracking {
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
    fn new(ring: &mut PipeRing<'_>, notify: bool, limit: Option<usize>) -> Result<Self> {
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

    fn keep(&mut self, held: HeldPages, range: UserRange, sink: &mut impl Sink) -> Result {
        let mut held = held.unpin_unless_anonymous();
        if held.is_special() {
            match self.copied.unless_harmless(held, range, sink)? {
                Some(harmless) => held = harmless,
                None => return Ok(()),
            }
        }
        let owner = match &mut self.owner {
            Some(owner) if !owner.is_full() => owner,
            full => full.insert(TrackedMemoryBuilder::new(self.call.clone())?),
        };
        if self.limit.is_some_and(|limit| !owner.charge(&held, limit)) {
            return self
                .copied
                .copy(held, range, sink, Counter::MemoryToPipeLimit);
        }
        if let Ok(buf) = owner.track(held, range) {
            sink.push(buf);
        }
        Ok(())
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
