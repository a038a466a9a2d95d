// SPDX-License-Identifier: GPL-2.0

//! `struct splice_pipe_desc`, by which C hands a set of pages over to a pipe.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h)

use crate::{bindings, pipe::PipeBuffer, prelude::*};
use core::mem::ManuallyDrop;

/// The pages that C has for a pipe: an iterator over them as buffers. Those that are not taken
/// are released, by the function that came with them, when this is dropped.
///
/// # Invariants
///
/// `desc` is valid for `'a`. Its pages from `next` to `end` are references that nobody has taken.
pub struct SplicePipeDesc<'a> {
    desc: &'a mut bindings::splice_pipe_desc,
    next: usize,
    end: usize,
}

impl<'a> SplicePipeDesc<'a> {
    /// Takes over the pages.
    ///
    /// # Safety
    ///
    /// `desc` is valid for `'a`: its arrays have `nr_pages` entries with one reference each, and
    /// its operations and release function fit them.
    #[inline]
    pub unsafe fn from_raw(desc: *mut bindings::splice_pipe_desc) -> Self {
        // SAFETY: By the caller's promise.
        let desc = unsafe { &mut *desc };
        // INVARIANT: By the caller's promise.
        Self {
            next: 0,
            // CAST: A negative number would be a bug of the caller, and means none.
            end: desc.nr_pages.max(0) as usize,
            desc,
        }
    }

    /// Allocates arrays for as many pages as `max_usage` slots can take, where the ones on the
    /// caller's stack are too short for that. Fails with [`ENOMEM`]. C: `splice_grow_spd`.
    ///
    /// # Safety
    ///
    /// `desc` is valid, and has no pages yet. It is given to [`Self::shrink`] afterwards.
    pub unsafe fn grow(desc: *mut bindings::splice_pipe_desc, max_usage: u32) -> Result {
        // SAFETY: By the caller's promise.
        let desc = unsafe { &mut *desc };
        desc.nr_pages_max = max_usage;
        if max_usage <= bindings::PIPE_DEF_BUFFERS {
            return Ok(());
        }
        let pages = KVec::<*mut bindings::page>::with_capacity(max_usage as usize, GFP_KERNEL)?;
        let partial =
            KVec::<bindings::partial_page>::with_capacity(max_usage as usize, GFP_KERNEL)?;
        desc.pages = ManuallyDrop::new(pages).as_mut_ptr();
        desc.partial = ManuallyDrop::new(partial).as_mut_ptr();
        Ok(())
    }

    /// Frees what [`Self::grow`] allocated. C: `splice_shrink_spd`.
    ///
    /// # Safety
    ///
    /// `desc` is valid, and was given to [`Self::grow`], with success.
    pub unsafe fn shrink(desc: *mut bindings::splice_pipe_desc) {
        // SAFETY: By the caller's promise.
        let desc = unsafe { &mut *desc };
        if desc.nr_pages_max <= bindings::PIPE_DEF_BUFFERS {
            return;
        }
        // SAFETY: Both come from `grow`.
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
        // SAFETY: There are entries up to `end`, by the type invariant.
        let (page, partial) = unsafe {
            (
                *self.desc.pages.add(self.next),
                &*self.desc.partial.add(self.next),
            )
        };
        self.next += 1;
        self.desc.nr_pages -= 1;
        // SAFETY: By the type invariant these belong together, and the reference was not taken;
        // `next` has moved on, so it will not be taken again.
        Some(unsafe {
            PipeBuffer::from_raw(bindings::pipe_buffer {
                page,
                offset: partial.offset,
                len: partial.len,
                ops: self.desc.ops,
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
        for page in self.next..self.end {
            // SAFETY: By the type invariant the reference was not taken.
            // CAST: Below `nr_pages`, which is an int.
            unsafe { release(self.desc, page as c_uint) };
        }
    }
}
