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

mod keeper;
mod sink;

use keeper::{Keeper, Kept, Plain, Tracking};
use kernel::{
    fs::LocalFile,
    iov::user::UserSource,
    mm::gup::{UserRange, UserRanges},
    page::PAGE_SIZE,
    pipe::{Filler, Pipe, PipeRing},
    prelude::*,
    splice::{wait_for_room, Counter, SpliceFlags},
    vmsplice::UserMemoryCharge,
};
use sink::{Gathered, Sink};

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
        splice_tracked(&mut ring, source, flags, notify, limit)?
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

/// Runs [`splice_with`] for a call whose memory is tracked. A separate function keeps its code out
/// of the path of ordinary calls.
#[cold]
#[inline(never)]
fn splice_tracked(
    ring: &mut PipeRing<'_>,
    source: &mut UserSource<'_>,
    flags: SpliceFlags,
    notify: bool,
    limit: Option<usize>,
) -> Result<usize> {
    let tracking = Tracking::new(ring, notify, limit)?;
    splice_with(ring, source, flags, tracking)
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
        if !keep_all(keeper, source, range, &mut ranges, sink, false)? {
            return Ok(false);
        }
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
            .and_then(|()| gather_mapped(keeper, source, &mut sink));
        match done {
            Ok(false) => (),
            Err(err) if sink.is_empty() => return Err(err),
            _ => return Ok(sink),
        }
    }
}

/// Runs [`take_mapped`] for [`gather`]. A separate function, because a page fault runs deep below
/// `gather`: file systems nest there.
#[inline(never)]
fn gather_mapped(
    keeper: &mut impl Keeper,
    source: &mut UserSource<'_>,
    sink: &mut Gathered,
) -> Result<bool> {
    take_mapped(keeper, source, sink)
}

/// Adds the memory at the beginning of `source` that one call can fault in, if there is room in
/// `sink`.
#[inline(never)]
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
    // The memory is mapped now, so it may be possible to pin it. If not, take the references again.
    if keeper.pins() && keeper.look_up(&mut ranges, range.first_pages(pages)) == 0 {
        ranges.fault_in(range)?;
    }
    keep_all(keeper, source, range, &mut ranges, sink, true).map(|_| ())
}

/// Adds `ranges`, which were found at the beginning of `range`, to `sink`, and advances `source`
/// past them. Returns `Ok(false)` if it stopped at memory that is not mapped any more; with
/// `faults`, that is faulted in.
#[inline(always)]
fn keep_all(
    keeper: &mut impl Keeper,
    source: &mut UserSource<'_>,
    range: UserRange,
    ranges: &mut UserRanges,
    sink: &mut impl Sink,
    faults: bool,
) -> Result<bool> {
    // The part of `range` that begins at the position of `source`.
    let mut ahead = range;
    let mut left = keeper.keep_small_pages(range, ranges, sink);
    let mut ret = Ok(true);
    for held in ranges {
        // Only the first page can have bytes before the ones that are wanted.
        let part = left.first(held.pages() * PAGE_SIZE - left.offset());
        match keeper.keep(held, part, sink) {
            Ok(Kept::Added) => left = left.skip(part.len()),
            Ok(Kept::NotByPage) => {
                source.advance(ahead.len() - left.len());
                ret = copy_by_address(keeper, source, part.len(), sink, faults);
                left = left.skip(part.len());
                ahead = left;
            }
            Err(err) => ret = Err(err),
        }
        if ret != Ok(true) {
            break;
        }
    }
    source.advance(ahead.len() - left.len());
    ret
}

/// Copies the next `len` bytes of `source` to `sink`, through the page tables of the caller: so the
/// bytes are the caller's, even if another thread writes to them and thereby gets another page.
/// Returns `Ok(false)` if it stopped at memory that is not mapped; with `faults`, that is faulted
/// in.
#[cold]
#[inline(never)]
fn copy_by_address(
    keeper: &mut impl Keeper,
    source: &mut UserSource<'_>,
    len: usize,
    sink: &mut impl Sink,
    faults: bool,
) -> Result<bool> {
    let mut left = len;
    while left > 0 {
        let copy = if faults {
            source.copy_page()?
        } else {
            match source.copy_mapped_page()? {
                Some(copy) => copy,
                None => return Ok(false),
            }
        };
        left = left.saturating_sub(copy.len());
        keeper.add_copied(copy.len());
        Counter::MemoryToPipeHugetlb.add(copy.len());
        sink.push(copy);
    }
    Ok(true)
}
