// SPDX-License-Identifier: GPL-2.0

//! `vmsplice(2)` into a pipe: references to user memory.
//!
//! Reading is all that happens to an address space here. Memory is looked up in the page tables and
//! referenced as it is: the caller's own, shared since a fork, of the page cache, or the zero page.
//! Only if reading it would fault is it faulted in, for reading.
//!
//! # Locking
//!
//! The pipe's mutex is not held during a fault, which can take as long as FUSE, NFS or userfaultfd
//! wants. A call that has to fault gathers its buffers with the pipe unlocked, and puts them in
//! afterwards; a call that need not puts them in at once. Either way they become visible together:
//! no other data comes between them.

#![forbid(unsafe_code)]

use kernel::{
    alloc::flags::GFP_KERNEL_ACCOUNT,
    fs::LocalFile,
    mm::gup::{HeldPages, Hold, UserMemoryCharge, UserRange, UserRanges},
    page::PAGE_SIZE,
    pipe::{Filler, Pipe, PipeBuffer, PipeRing},
    prelude::*,
    splice::{
        counters::Counter,
        loan::LoanBuilder,
        notify::NotifiedCall,
        user::UserSource,
        wait_for_room,
        SpliceFlags, //
    },
    sync::Arc,
};

/// Puts user memory into the pipe that `file` is the write end of, until there is no room. Waits
/// for the first slot. With `notify` the call gets a number, if it put anything in.
///
/// # Errors
///
/// - [`EBADF`]: `file` is not a pipe.
/// - [`EFAULT`] and the like: the first page cannot be read.
/// - [`ENOMEM`]: there is no memory for the notification, or a copy.
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

/// As [`splice_with`], out of the way of ordinary calls.
#[cold]
#[inline(never)]
fn splice_observed(
    ring: &mut PipeRing<'_>,
    source: &mut UserSource<'_>,
    flags: SpliceFlags,
    notify: bool,
    limit: Option<usize>,
) -> Result<usize> {
    let observed = Observed::new(ring, notify, limit)?;
    splice_with(ring, source, flags, observed)
}

/// Puts in what there is room for. The caller made sure that there is some.
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
            // What is mapped needs no list.
            Err(_) => (),
        },
    }
    keeper.issue();
    let (buffers, bytes) = filler.commit();
    Counter::BuffersLinked.add(buffers);
    Counter::MemoryToPipeReferenced.add(bytes.saturating_sub(keeper.copied()));
    Ok(bytes)
}

/// The number of slots to gather data for: those that are used in `filler`, and as many of its free
/// ones as the rest of `source` can take.
fn slots_wanted(filler: &Filler<'_>, source: &UserSource<'_>) -> u32 {
    // A range of addresses can have a part of a page at either end.
    let most = source.len() / PAGE_SIZE + 2 * source.ranges();
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    filler.used() + filler.space().min(most)
}

/// Takes buffers in.
trait Sink {
    /// The number of slots that there is room for.
    fn space(&self) -> u32;

    /// Takes `buf`, which there is room for.
    fn push(&mut self, buf: PipeBuffer);

    /// Takes the pages of small folios that `ranges`, found at the beginning of `range`, begins
    /// with, if there is a quick way. Returns what of `range` is left.
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
        // A look-up is limited to the room, so this succeeds.
        let _ = Filler::push(self, buf);
    }

    #[inline(always)]
    fn push_small_pages(&mut self, ranges: &mut UserRanges, range: UserRange) -> UserRange {
        Filler::push_small_pages(self, ranges, range)
    }
}

/// Buffers that are not in a pipe yet.
struct Gathered {
    bufs: KVVec<PipeBuffer>,
    space: u32,
}

impl Gathered {
    /// With room for as many slots. Fails with [`ENOMEM`].
    fn new(slots: u32) -> Result<Self> {
        Ok(Self {
            bufs: KVVec::with_capacity(slots as usize, GFP_KERNEL_ACCOUNT)?,
            space: slots,
        })
    }

    /// Puts the buffers into a pipe, until there is no room.
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

    fn add(&mut self, buf: PipeBuffer) {
        self.space = self.space.saturating_sub(buf.slots());
        // A buffer takes one slot or more, so the vector has room for it.
        let _ = self.bufs.push_within_capacity(buf);
    }
}

impl Sink for Gathered {
    fn space(&self) -> u32 {
        self.space
    }

    fn push(&mut self, buf: PipeBuffer) {
        let slots = buf.slots();
        // One contiguous range can be found in parts, if a fault comes in between.
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

/// Takes what is mapped from the beginning of `source` on, without a fault. `Ok(true)`: there is no
/// room for more, or nothing left.
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

/// Takes the rest of `source`, with faults, until there is no room in `sink`. Fails only if nothing
/// was taken before the error.
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

/// Takes from the beginning of `source` on what one call can fault in, if there is room in `sink`.
fn fault_in(
    keeper: &mut impl Keeper,
    source: &mut UserSource<'_>,
    sink: &mut Gathered,
) -> Result {
    let Some(range) = source.front().filter(|_| sink.space() > 0) else {
        return Ok(());
    };
    if source.is_dax() {
        // Truncation of the file would wait even for a short reference.
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
        // The memory is mapped now, so that it can be pinned.
        let mut pinned = UserRanges::new();
        if keeper.look_up(&mut pinned, range.first_pages(pages)) > 0 {
            return keep_all(keeper, source, range, &mut pinned, sink);
        }
    }
    keep_all(keeper, source, range, &mut ranges, sink)
}

/// Puts `ranges`, which were found at the beginning of `range`, into `sink`, and advances `source`
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
        // Only the first page can have bytes in front that are not wanted.
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

/// How the memory of a call is held.
trait Keeper {
    /// Looks up the beginning of `range`; see [`UserRanges::look_up`].
    fn look_up(&self, ranges: &mut UserRanges, range: UserRange) -> usize;

    /// Whether memory is pinned if it can be.
    fn pins(&self) -> bool {
        false
    }

    /// Puts `held`, the memory of `range`, into `sink`: by reference if that is harmless, else as
    /// a copy. Fails with [`ENOMEM`].
    fn keep(&mut self, held: HeldPages, range: UserRange, sink: &mut impl Sink) -> Result;

    /// Puts the pages of small folios that `ranges`, found at the beginning of `range`, begins with
    /// into `sink`, if there is a quick way. Returns what of `range` is left.
    #[inline(always)]
    fn keep_small_pages(
        &mut self,
        range: UserRange,
        _ranges: &mut UserRanges,
        _sink: &mut impl Sink,
    ) -> UserRange {
        range
    }

    /// Notes that the data is about to be put into the pipe, which is locked.
    fn issue(&mut self) {}

    /// The number of bytes that were copied.
    fn copied(&self) -> usize;

    /// Notes that `bytes` more were copied.
    fn add_copied(&mut self, bytes: usize);
}

/// The number of bytes of a call that were copied.
#[derive(Default)]
struct Copied(usize);

impl Copied {
    /// Puts copies of the pages of `held` into `sink`. `reason` counts the bytes.
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
            // CAST: Not more than a page.
            sink.push(PipeBuffer::from_page(copy, 0, part.len() as u32)?);
            reason.add(part.len());
            self.0 += part.len();
            left = left.skip(part.len());
        }
        Ok(())
    }

    /// Returns `held`, which is special, if to hold it is harmless; else puts a copy into `sink`.
    fn unless_harmless(
        &mut self,
        mut held: HeldPages,
        range: UserRange,
        sink: &mut impl Sink,
    ) -> Result<Option<HeldPages>> {
        let reason = if held.is_dax() {
            // The mapping was made after the look at the address.
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

/// Each buffer holds its memory by itself: nobody observes the end of its use.
#[derive(Default)]
struct Plain(Copied);

impl Plain {
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

/// Loans hold the memory: for a notification, or for the limit on a user's memory.
struct Observed {
    call: Option<Arc<NotifiedCall>>,
    limit: Option<usize>,
    loan: Option<LoanBuilder>,
    copied: Copied,
}

impl Observed {
    /// Fails with [`ENOMEM`].
    fn new(ring: &mut PipeRing<'_>, notify: bool, limit: Option<usize>) -> Result<Self> {
        let call = if notify {
            Some(NotifiedCall::new(ring.notifications_or_new()?)?)
        } else {
            None
        };
        Ok(Self {
            call,
            limit,
            loan: None,
            copied: Copied::default(),
        })
    }
}

impl Keeper for Observed {
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
        let loan = match &mut self.loan {
            Some(loan) if !loan.is_full() => loan,
            full => full.insert(LoanBuilder::new(self.call.clone())?),
        };
        if self.limit.is_some_and(|limit| !loan.charge(&held, limit)) {
            return self
                .copied
                .copy(held, range, sink, Counter::MemoryToPipeLimit);
        }
        if let Ok(buf) = loan.lend(held, range) {
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
