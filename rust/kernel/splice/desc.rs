// SPDX-License-Identifier: GPL-2.0

//! `struct splice_desc`, by which C actors and the core talk to each other.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h)

use super::{to_size, Actor, SpliceFlags};
use crate::{
    bindings,
    fs::{file::Offset, LocalFile},
    pipe::{BufferRef, PrivatePipe},
    prelude::*, //
};
use core::mem::MaybeUninit;

/// The state of a transfer, as C sees it: the kernel's `struct splice_desc`.
#[repr(transparent)]
pub struct SpliceDesc(bindings::splice_desc);

impl SpliceDesc {
    /// Describes a transfer that no C actor takes part in.
    #[inline]
    pub fn new(len: usize, flags: SpliceFlags, pos: Offset) -> Self {
        // SAFETY: All-zero is a valid value of this C struct of integers and pointers.
        let mut desc: bindings::splice_desc = unsafe { MaybeUninit::zeroed().assume_init() };
        desc.total_len = len;
        desc.flags = flags.into();
        desc.pos = pos;
        Self(desc)
    }

    /// Makes a reference from a pointer.
    ///
    /// # Safety
    ///
    /// `desc` is valid for `'a`, and nobody else accesses it, other than actors that it is passed
    /// to. Its union holds what those actors expect.
    #[inline]
    pub unsafe fn from_raw<'a>(desc: *mut bindings::splice_desc) -> &'a mut Self {
        // SAFETY: By the caller's promise; the layouts are the same.
        unsafe { &mut *desc.cast() }
    }

    /// Begins a transfer: nothing was transferred yet. A new description is at that.
    #[inline]
    pub fn begin(&mut self) {
        self.0.num_spliced = 0;
        self.0.need_wakeup = false;
    }

    /// Sets the file that data goes to, for actors that expect one.
    #[inline]
    pub fn set_file(&mut self, file: &LocalFile) {
        self.0.u.file = file.as_ptr();
    }

    /// The number of bytes to transfer.
    #[inline]
    pub fn total_len(&self) -> usize {
        self.0.total_len
    }

    /// Sets the number of bytes to transfer.
    #[inline]
    pub fn set_total_len(&mut self, len: usize) {
        self.0.total_len = len;
    }

    /// The flags.
    #[inline]
    pub fn flags(&self) -> SpliceFlags {
        SpliceFlags::from_kernel(self.0.flags)
    }

    /// Sets the flags.
    #[inline]
    pub fn set_flags(&mut self, flags: SpliceFlags) {
        self.0.flags = flags.into();
    }

    /// The position in the file that data comes from.
    #[inline]
    pub fn pos(&self) -> Offset {
        self.0.pos
    }

    /// Sets the position in the file that data comes from.
    #[inline]
    pub fn set_pos(&mut self, pos: Offset) {
        self.0.pos = pos;
    }

    /// Calls what the owner wants called when the source ends early, if anything.
    #[inline]
    pub fn source_ended(&mut self) {
        if let Some(splice_eof) = self.0.splice_eof {
            // SAFETY: It was set by whoever filled the rest in, and gets what it expects.
            unsafe { splice_eof(&raw mut self.0) };
        }
    }
}

/// A C actor, with the description that it expects.
///
/// # Invariants
///
/// `actor` may be called with `desc` and any buffer.
pub struct CActor<'a> {
    actor: unsafe extern "C" fn(
        *mut bindings::pipe_inode_info,
        *mut bindings::pipe_buffer,
        *mut bindings::splice_desc,
    ) -> c_int,
    desc: &'a mut SpliceDesc,
}

impl<'a> CActor<'a> {
    /// Joins the two.
    ///
    /// # Safety
    ///
    /// `actor` may be called with `desc`, and any buffer.
    #[inline]
    pub unsafe fn new(actor: bindings::splice_actor, desc: &'a mut SpliceDesc) -> Option<Self> {
        // INVARIANT: By the caller's promise.
        Some(Self {
            actor: actor?,
            desc,
        })
    }
}

impl Actor for CActor<'_> {
    #[inline]
    fn take(&mut self, mut buf: BufferRef<'_>, len: usize) -> Result<usize> {
        let (pipe, buf) = buf.as_raw();
        // CAST: No longer than the buffer, whose length is a u32.
        self.desc.0.len = len as u32;
        // SAFETY: By the type invariant; the buffer is valid, and its pipe locked.
        let ret = unsafe { (self.actor)(pipe, buf, &raw mut self.desc.0) };
        // More than it was given is more than it can have taken.
        let taken = to_size(ret as isize)?.min(len);
        let desc = &mut self.desc.0;
        // Wrapping, since the actor may have changed them, too.
        desc.num_spliced = desc.num_spliced.wrapping_add(taken);
        desc.pos = desc.pos.wrapping_add(taken as Offset);
        desc.total_len = desc.total_len.wrapping_sub(taken);
        Ok(taken)
    }
}

/// A C actor for transfers between two files: it drains the pipe that was filled.
///
/// # Invariants
///
/// `actor` may be called with the description that it is given to [`Self::drain`] with.
pub struct CDirectActor(
    unsafe extern "C" fn(*mut bindings::pipe_inode_info, *mut bindings::splice_desc) -> c_int,
);

impl CDirectActor {
    /// Takes a C actor.
    ///
    /// # Safety
    ///
    /// It may be called with whatever description [`Self::drain`] will be called with.
    #[inline]
    pub unsafe fn new(actor: bindings::splice_direct_actor) -> Option<Self> {
        // INVARIANT: By the caller's promise.
        Some(Self(actor?))
    }

    /// Calls it; returns how many bytes it took out of `pipe`.
    #[inline]
    pub fn drain(&mut self, pipe: &mut PrivatePipe, desc: &mut SpliceDesc) -> Result<usize> {
        // SAFETY: By the type invariant, and the pipe is ours.
        let ret = unsafe { (self.0)(pipe.handle().as_ptr(), &raw mut desc.0) };
        to_size(ret as isize)
    }
}
