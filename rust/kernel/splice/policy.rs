// SPDX-License-Identifier: GPL-2.0

//! The policy for pages that others can see: which consumers of a pipe get references to them, and
//! which get copies.
//!
//! `fs.splice_zerocopy` has three values: all consumers get references (2), audited ones do (1),
//! none does (0). A consumer is *audited* if it was declared that it, and all code that it passes
//! pages to, only reads them. The declaration is [`Socket::is_audited`], [`LocalFile::is_audited`],
//! or a field of the description that comes with an actor in C. A consumer in Rust sees buffers
//! through types that cannot write, so it needs no declaration.
//!
//! A transfer asks [`must_copy`] when it has data, before each call of the consumer. If the answer
//! is yes, the consumer gets references to [private](PipeBuffer::is_private) pages and copies of
//! all others. Nothing is refused.
//!
//! C header: [`include/linux/splice_policy.h`](srctree/include/linux/splice_policy.h)
//!
//! [`Socket::is_audited`]: crate::net::Socket::is_audited
//! [`LocalFile::is_audited`]: crate::fs::LocalFile::is_audited

use super::{function_set::FunctionSet, BioVec, Counter, FreshPages, PageArray, Pieces};
use crate::{
    bindings,
    page::PAGE_SIZE,
    pipe::{FunctionAddr, PipeBuffer, PipeRing, Provenance},
    prelude::*,
    static_branch_unlikely, //
};
use core::mem::MaybeUninit;

/// The consumer of data, as shown to user space.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Kind {
    /// A socket.
    Socket,
    /// A file.
    File,
    /// A function in C that takes buffers.
    Actor,
    /// A file that data comes from. Its pages are copied where they enter the pipe.
    Source,
}

/// The reason for a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// The consumer is not audited.
    Unaudited,
    /// `fs.splice_zerocopy` is 0, so no consumer gets references.
    Setting,
}

/// Returns whether `fs.splice_zerocopy` has another value than 2, that is, whether some consumers
/// get copies. This is a static branch: with the value 2 it costs next to nothing.
#[inline(always)]
pub fn is_active() -> bool {
    // SAFETY: `splice_policy` has a real static key, which C defines.
    unsafe { static_branch_unlikely!(bindings::splice_policy, bindings::splice_policy, active) }
}

/// Returns whether `fs.splice_zerocopy` is 0, that is, whether all consumers get copies, and data
/// of the page cache is copied where files put it into pipes. This is a static branch as well.
#[inline(always)]
pub fn copies_all() -> bool {
    // SAFETY: `splice_policy` has a real static key, which C defines.
    unsafe { static_branch_unlikely!(bindings::splice_policy, bindings::splice_policy, none) }
}

/// Returns the reason why a consumer must not get references to pages that others can see, or
/// `None` if it may get them. `is_audited` tells whether the consumer is audited.
///
/// Ask only when there is data, and again after each wait: a consumer can change meanwhile, for
/// example a socket that gets TLS.
///
/// # Examples
///
/// ```
/// use kernel::splice::policy;
///
/// // An audited consumer gets copies only if all consumers do.
/// assert!(policy::must_copy(|| true) != Some(policy::Reason::Unaudited));
/// ```
#[inline(always)]
pub fn must_copy(is_audited: impl FnOnce() -> bool) -> Option<Reason> {
    if !is_active() {
        None
    } else if copies_all() {
        Some(Reason::Setting)
    } else if !is_audited() {
        Some(Reason::Unaudited)
    } else {
        None
    }
}

/// Counts and reports `bytes` that were copied for `sink`, a function.
///
/// The first time for each sink this writes a line to the kernel log.
#[cold]
pub fn copied(kind: Kind, reason: Reason, sink: FunctionAddr, bytes: usize) {
    if bytes == 0 {
        return;
    }
    let counter = match (kind, reason) {
        (Kind::Socket, Reason::Unaudited) => Counter::PolicySocketUnaudited,
        (Kind::Socket, Reason::Setting) => Counter::PolicySocketSetting,
        (Kind::File, Reason::Unaudited) => Counter::PolicyFileUnaudited,
        (Kind::File, Reason::Setting) => Counter::PolicyFileSetting,
        (Kind::Actor, Reason::Unaudited) => Counter::PolicyActorUnaudited,
        (Kind::Actor, Reason::Setting) => Counter::PolicyActorSetting,
        (Kind::Source, _) => Counter::PolicySourceSetting,
    };
    counter.add(bytes);
    // SAFETY: The tracepoint uses only the value of the pointer.
    unsafe { bindings::splice_report_copy(sink.as_ptr(), kind as u32, reason as u32, bytes) };
    // A module that is loaded again and again does not fill the log: only so many are reported.
    static REPORTED: FunctionSet<32> = FunctionSet::new();
    if reason == Reason::Unaudited && REPORTED.insert(sink) {
        // SAFETY: The function prints the symbol that the pointer belongs to.
        unsafe { bindings::splice_report_sink(sink.as_ptr()) };
    }
}

/// Puts copies of `pieces` into `to`, as many as there is room for. Returns the number of bytes.
/// May sleep.
///
/// The copies are packed into whole pages: a piece of several pages takes as many, and small pieces
/// share one.
///
/// Returns [`ENOMEM`] if there are too few pages, and copies nothing then. The caller has locked
/// the pipe of `to`, or owns it.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use kernel::{
///     pipe::{OwnedPage, PipeBuffer, PrivatePipe},
///     splice::{policy, Pieces}, //
/// };
///
/// let mut buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 100)?;
/// let other = buf.try_clone()?;
/// // Two buffers refer to the page, so it is not private.
/// assert!(!buf.is_private());
///
/// let mut slots = [const { MaybeUninit::uninit() }; 2];
/// let mut pieces = Pieces::new(&mut slots);
/// pieces.push(&buf, 60);
/// pieces.push(&other, 60);
/// let mut pipe = PrivatePipe::new()?;
/// assert_eq!(policy::copy_to_ring(&pieces, &mut pipe.ring())?, 120);
/// // Both pieces are in one page.
/// let mut ring = pipe.ring();
/// assert!(ring.iter().all(|copy| copy.len() == 120 && copy.is_private()));
/// # Ok::<(), Error>(())
/// ```
pub fn copy_to_ring(pieces: &Pieces<'_>, to: &mut PipeRing<'_>) -> Result<usize> {
    let pages = pieces.bytes().div_ceil(PAGE_SIZE).min(to.space() as usize);
    let mut array = PageArray::new();
    let mut copy = FreshPages::alloc_all(&mut array, pages)?;
    let bytes = copy.copy_from(pieces.source().as_iter());
    copy.put_into(to);
    Ok(bytes)
}

/// Replaces the buffers in the last `slots` slots of `ring` that are page cache by copies. Returns
/// the number of bytes that were copied. May sleep.
///
/// Each page of a buffer has a slot, and each copy takes the place of one page, so that counts and
/// the room in the pipe stay the same. A buffer stays as it is if there is no page for a copy or
/// its contents cannot be read yet: it is copied where it leaves the pipe. `source` is the function
/// that the data comes from, for reports.
#[cold]
pub fn copy_page_cache(ring: &mut PipeRing<'_>, slots: u32, source: FunctionAddr) -> usize {
    let mut bytes = 0;
    // Fails if a page has too many references. The buffers of several pages stay as they are then.
    let _ = ring.split_last_to_pages(slots);
    for mut buf in ring.iter_last(slots) {
        if buf.provenance() != Provenance::PageCache || buf.slots() > 1 || buf.len() > PAGE_SIZE {
            continue;
        }
        if buf.confirm().is_err() {
            continue;
        }
        let Ok(copy) = copy_part(&buf, 0, buf.len()) else {
            break;
        };
        bytes += copy.len();
        buf.replace(copy);
    }
    copied(Kind::Source, Reason::Setting, source, bytes);
    bytes
}

/// Returns a copy of up to `len` bytes of `buf` from `offset` on, at most one page.
pub(super) fn copy_part(buf: &PipeBuffer, offset: usize, len: usize) -> Result<PipeBuffer> {
    let mut vecs = [const { MaybeUninit::<BioVec>::uninit() }; 1];
    let mut pieces = Pieces::new(&mut vecs);
    pieces.push(buf, offset.saturating_add(len));
    let mut source = pieces.source();
    source.as_iter().advance(offset);
    let mut array = PageArray::new();
    let mut pages = FreshPages::alloc(&mut array, 1)?;
    pages.copy_from(source.as_iter());
    pages.into_buffer().ok_or(ENOMEM)
}
