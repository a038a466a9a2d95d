// SPDX-License-Identifier: GPL-2.0

//! `struct splice_pipe_desc`, the set of pages that a C function puts into a pipe.
//!
//! The caller in C fills in arrays of pages and of their offsets and lengths, and calls
//! `splice_to_pipe`. The arrays are on its stack, unless the pipe is larger than the default.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h)

use core::mem::ManuallyDrop;
use kernel::{bindings, pipe::PipeBuffer, prelude::*};

/// The pages of a C caller, as an iterator that returns them as buffers. Dropping it passes the
/// pages that were not taken to the caller's `spd_release`.
///
/// # Invariants
///
/// `desc` is valid for `'a`. Each page from `next` to `end` comes with one reference that was not
/// taken yet.
pub(super) struct SplicePipeDesc<'a> {
    desc: &'a mut bindings::splice_pipe_desc,
    next: usize,
    end: usize,
}

impl<'a> SplicePipeDesc<'a> {
    /// Takes the pages over.
    ///
    /// # Safety
    ///
    /// `desc` must be valid for `'a`. Its arrays must have `nr_pages` elements with one reference
    /// each, which the caller hands over. Its operations and its release function must fit the
    /// pages.
    #[inline]
    pub(super) unsafe fn from_raw(desc: *mut bindings::splice_pipe_desc) -> Self {
        // SAFETY: The caller guarantees that `desc` is valid for `'a`.
        let desc = unsafe { &mut *desc };
        // INVARIANT: The caller guarantees that there is one reference for each of the `nr_pages`
        // pages, none of which was taken yet.
        Self {
            next: 0,
            // CAST: The value is not negative. A negative number is a bug of the caller, and is
            // treated as 0.
            end: desc.nr_pages.max(0) as usize,
            desc,
        }
    }

    /// Allocates arrays of `max_usage` elements if the pipe is larger than the default, for which
    /// the arrays on the caller's stack are large enough. May sleep. C: `splice_grow_spd`.
    ///
    /// Returns [`ENOMEM`] if the arrays cannot be allocated.
    ///
    /// # Safety
    ///
    /// `desc` must be valid and have no pages yet. On success the caller must pass it to
    /// [`Self::shrink`] later.
    pub(super) unsafe fn grow(desc: *mut bindings::splice_pipe_desc, max_usage: u32) -> Result {
        // SAFETY: The caller guarantees that `desc` is valid.
        let desc = unsafe { &mut *desc };
        // The caller fills in no more pages than this, even if `F_SETPIPE_SZ` enlarges the pipe
        // meanwhile. `shrink` looks at it, too, and not at the pipe, whose size may be another one
        // by then.
        desc.nr_pages_max = max_usage;
        if max_usage <= bindings::PIPE_DEF_BUFFERS {
            return Ok(());
        }
        // Both vectors are forgotten only if both could be allocated, so a failure of the second
        // one frees the first.
        let pages = KVec::<*mut bindings::page>::with_capacity(max_usage as usize, GFP_KERNEL)?;
        let partial =
            KVec::<bindings::partial_page>::with_capacity(max_usage as usize, GFP_KERNEL)?;
        desc.pages = ManuallyDrop::new(pages).as_mut_ptr();
        desc.partial = ManuallyDrop::new(partial).as_mut_ptr();
        Ok(())
    }

    /// Frees the arrays that [`Self::grow`] allocated. C: `splice_shrink_spd`.
    ///
    /// # Safety
    ///
    /// `desc` must be valid, and [`Self::grow`] must have succeeded for it.
    pub(super) unsafe fn shrink(desc: *mut bindings::splice_pipe_desc) {
        // SAFETY: The caller guarantees that `desc` is valid.
        let desc = unsafe { &mut *desc };
        if desc.nr_pages_max <= bindings::PIPE_DEF_BUFFERS {
            return;
        }
        // SAFETY: `nr_pages_max` is larger than the default, so `grow` allocated both arrays. They
        // are not used again.
        unsafe {
            bindings::kfree(desc.pages.cast());
            bindings::kfree(desc.partial.cast());
        }
    }
}

impl Iterator for SplicePipeDesc<'_> {
    type Item = PipeBuffer;

    #[inline]
    fn next(&mut self) -> Option<PipeBuffer> {
        if self.next >= self.end {
            return None;
        }
        // SAFETY: `next` is below `end`, and by the type invariant both arrays have `end` elements.
        let (page, partial) = unsafe {
            (
                *self.desc.pages.add(self.next),
                &*self.desc.partial.add(self.next),
            )
        };
        self.next += 1;
        // As in C, the caller can see here how many pages were left.
        self.desc.nr_pages -= 1;
        // SAFETY: By the type invariant the page comes with a reference that was not taken; `next`
        // was increased, so it is not taken twice. The caller of `from_raw` guarantees that the
        // operations fit the page.
        Some(unsafe {
            PipeBuffer::from_raw(bindings::pipe_buffer {
                page,
                offset: partial.offset,
                len: partial.len,
                ops: self.desc.ops,
                // A flag that an earlier user of the slot left would be wrong for this page: with
                // `PIPE_BUF_FLAG_CAN_MERGE`, `write(2)` would append to a page of the page cache
                // (CVE-2022-0847).
                flags: 0,
                private: partial.private,
            })
        })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for SplicePipeDesc<'_> {}

impl Drop for SplicePipeDesc<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(release) = self.desc.spd_release else {
            return;
        };
        // By the function of the caller, which may undo more than a reference: tracing gives the
        // page back to its ring buffer.
        for page in self.next..self.end {
            // SAFETY: By the type invariant the reference of this page was not taken. The caller of
            // `from_raw` guarantees that the function fits the pages.
            // CAST: The value is below `nr_pages`, which is an int.
            unsafe { release(self.desc, page as c_uint) };
        }
    }
}
