// SPDX-License-Identifier: GPL-2.0

//! The check of audits (`CONFIG_SPLICE_CHECK`, `fs.splice_check`): do the consumers that get
//! references to the page cache only read it?
//!
//! A page of a file is remembered, with a hash of its contents, when it leaves a pipe by reference
//! while nobody may write to the file. [`scan`] looks at it again several times a second. If the
//! contents changed, although no one could write to the file since, somebody wrote to memory that
//! is not his. That is reported, with the function that got the page.
//!
//! A page is forgotten after [`KEEP_MS`], when it leaves the page cache, and when the file is
//! opened for writing, mapped for writing, or changes its time of change.
//!
//! # Locking
//!
//! A mutex protects the remembered pages. It is taken with pipes and directories locked. Inside,
//! folios are locked only by trylock, and nothing else is locked.
//!
//! C header: [`include/linux/splice_policy.h`](srctree/include/linux/splice_policy.h)

use super::{Counter, Pieces};
use crate::{
    bindings,
    page::PAGE_SIZE,
    pipe::{FunctionAddr, PipeBuffer, PipeRing},
    prelude::*,
    static_branch_unlikely,
    sync::atomic::{ordering::Relaxed, Atomic},
};
use core::ptr;

/// The number of pages that are remembered. Further ones are not looked at.
const MOST: usize = 1024;

/// How long a page is remembered, in milliseconds.
pub const KEEP_MS: u64 = 5000;

/// A page of a file.
///
/// # Invariants
///
/// `folio` is valid, and this owns a reference to it. `page` belongs to it. `inode` is that of its
/// mapping as long as it is in the page cache of that mapping; otherwise it is only compared.
struct Watched {
    folio: *mut bindings::folio,
    page: *mut bindings::page,
    inode: *mut bindings::inode,
    hash: u64,
    changed: i64,
    since: u64,
    sink: FunctionAddr,
    task: bindings::splice_check_task,
}

// SAFETY: The folio can be used from any task, and the other pointers are only compared or printed
// unless the folio is locked.
unsafe impl Send for Watched {}

crate::sync::global_lock! {
    // SAFETY: `init` is called before the check can be turned on.
    unsafe(uninit) static WATCHED_PAGES: Mutex<KVec<Watched>> = KVec::new();
}

/// Initializes the check. `fs/splice` calls this at boot, before user space runs. Further calls do
/// nothing.
pub fn init() {
    static CALLED: Atomic<i32> = Atomic::new(0);

    if CALLED.xchg(1, Relaxed) == 0 {
        // SAFETY: This is the first call. The other functions are called only after
        // `fs.splice_check` was set, which only user space can do.
        unsafe { WATCHED_PAGES.init() };
    }
}

/// Returns whether `fs.splice_check` is not 0.
#[inline(always)]
pub fn is_on() -> bool {
    // SAFETY: `splice_policy` has a real static key, which C defines.
    unsafe { static_branch_unlikely!(bindings::splice_policy, bindings::splice_policy, checking) }
}

/// Remembers the pages of `pieces`, which `sink` gets next. May sleep.
#[cold]
pub fn watch_pieces(pieces: &Pieces<'_>, sink: FunctionAddr) {
    let (vecs, len, _) = pieces.as_raw();
    for i in 0..len {
        // SAFETY: `pieces` has `len` valid elements, whose buffers it keeps.
        unsafe {
            let vec = &*vecs.add(i);
            watch_range(
                vec.bv_page,
                vec.bv_offset as usize,
                vec.bv_len as usize,
                sink,
            );
        }
    }
}

/// Remembers the pages of `buf`, which `sink` gets next. May sleep.
#[cold]
pub fn watch_buffer(buf: &PipeBuffer, sink: FunctionAddr) {
    // SAFETY: The buffer keeps its pages.
    unsafe { watch_range(buf.page(), buf.offset(), buf.len(), sink) };
}

/// Remembers the pages in `ring`, which `sink` may take next. May sleep.
#[cold]
pub fn watch_ring(ring: &mut PipeRing<'_>, sink: FunctionAddr) {
    for buf in ring.iter() {
        watch_buffer(&buf, sink);
    }
}

/// Remembers the pages of a range.
///
/// # Safety
///
/// The range must be valid, contiguous memory of one folio, to which a reference is held.
unsafe fn watch_range(page: *mut bindings::page, offset: usize, len: usize, sink: FunctionAddr) {
    let first = offset / PAGE_SIZE;
    let end = (offset + len).div_ceil(PAGE_SIZE);
    for i in first..end {
        // SAFETY: The caller guarantees that the pages are valid and contiguous.
        unsafe { watch(page.add(i), sink) };
    }
}

/// Remembers `page` if it is in the page cache of a file that nobody can write to.
///
/// # Safety
///
/// The page must be valid, and a reference to it must be held.
unsafe fn watch(page: *mut bindings::page, sink: FunctionAddr) {
    // SAFETY: The caller holds a reference, so the folio is valid. The inode is valid while the
    // folio is locked and in its page cache, which `splice_check_inode` requires and checks.
    unsafe {
        let folio = bindings::page_folio(page);
        if !bindings::folio_trylock(folio) {
            return;
        }
        let inode = bindings::splice_check_inode(folio);
        if !inode.is_null() {
            let mut watched = WATCHED_PAGES.lock();
            if watched.len() < MOST && !watched.iter().any(|w| ptr::eq(w.page, page)) {
                bindings::folio_get(folio);
                // INVARIANT: The reference was taken above, and the inode is that of the mapping.
                let new = Watched {
                    folio,
                    page,
                    inode,
                    hash: hash(page),
                    changed: bindings::splice_check_ctime(inode),
                    since: now(),
                    sink,
                    task: bindings::splice_check_current(),
                };
                if watched.push(new, GFP_KERNEL).is_ok() {
                    // Look for writers after the page can be found, because a file that is opened
                    // for writing looks for the page after it counted itself as a writer.
                    if bindings::splice_check_has_writers(inode) {
                        watched.pop();
                    } else {
                        Counter::CheckPages.add(1);
                    }
                }
            }
        }
        bindings::folio_unlock(folio);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns a reference to the folio.
        unsafe { bindings::put_page(self.page) };
    }
}

/// Returns the time in milliseconds.
fn now() -> u64 {
    // SAFETY: The function can always be called.
    unsafe { bindings::ktime_get() as u64 / 1_000_000 }
}

/// Returns a hash of the contents of `page`.
///
/// # Safety
///
/// The page must be valid, and a reference to it must be held.
unsafe fn hash(page: *mut bindings::page) -> u64 {
    // SAFETY: The caller guarantees that the page is valid. All pages have an address: splice in
    // Rust is for 64-bit machines only. Others may write to the page, hence the volatile loads.
    unsafe {
        let words = bindings::page_address(page).cast::<u64>();
        (0..PAGE_SIZE / size_of::<u64>()).fold(0, |hash: u64, i| {
            (hash.rotate_left(5) ^ words.add(i).read_volatile()).wrapping_mul(0x517c_c1b7_2722_0a95)
        })
    }
}

/// What to do with a remembered page.
#[derive(PartialEq, Eq)]
enum Verdict {
    Keep,
    Forget,
    Report,
}

impl Watched {
    /// Looks at the page again.
    fn look(&self) -> Verdict {
        // SAFETY: This owns a reference to the folio. The inode is used only while the folio is
        // locked and in its page cache.
        unsafe {
            if !bindings::folio_trylock(self.folio) {
                return Verdict::Keep;
            }
            let ret = self.look_locked();
            bindings::folio_unlock(self.folio);
            ret
        }
    }

    /// Looks at the page.
    ///
    /// # Safety
    ///
    /// The folio must be locked.
    unsafe fn look_locked(&self) -> Verdict {
        // SAFETY: The caller has locked the folio, so it stays in its page cache, which keeps the
        // inode.
        unsafe {
            if !ptr::eq(bindings::splice_check_inode(self.folio), self.inode) {
                return Verdict::Forget;
            }
            let lawful = || {
                bindings::splice_check_has_writers(self.inode)
                    || bindings::splice_check_ctime(self.inode) != self.changed
            };
            if lawful() || now() - self.since > KEEP_MS {
                return Verdict::Forget;
            }
            if hash(self.page) == self.hash {
                return Verdict::Keep;
            }
            // A truncation may have begun after the first look.
            if lawful() {
                return Verdict::Forget;
            }
            let age = (now() - self.since) as c_uint;
            bindings::splice_check_report(
                self.folio,
                self.page,
                self.sink.as_ptr(),
                &self.task,
                age,
            );
            Verdict::Report
        }
    }
}

/// Looks at all remembered pages again. Called several times a second while the check is on. May
/// sleep.
pub fn scan() {
    let mut watched = WATCHED_PAGES.lock();
    let mut i = 0;
    while i < watched.len() {
        match watched[i].look() {
            Verdict::Keep => {
                i += 1;
                continue;
            }
            Verdict::Forget => (),
            Verdict::Report => Counter::CheckChanged.add(1),
        }
        let last = watched.len() - 1;
        watched.swap(i, last);
        watched.pop();
    }
}

/// Forgets the pages of a file, because it was opened for writing. May sleep.
///
/// `inode` is only compared.
pub fn opened(inode: *mut bindings::inode) {
    WATCHED_PAGES.lock().retain(|w| !ptr::eq(w.inode, inode));
}

/// Forgets all pages, because the check was turned off. May sleep.
pub fn clear() {
    WATCHED_PAGES.lock().clear();
}
