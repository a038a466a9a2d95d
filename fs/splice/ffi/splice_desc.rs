// SPDX-License-Identifier: GPL-2.0

//! `struct splice_desc`, the description of a transfer that the core shares with actors in C.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h)

use core::mem::MaybeUninit;
use kernel::{
    bindings,
    fs::{file::Offset, LocalFile},
    pipe::{AuditedSink, BufferRef, FunctionAddr, PrivatePipe, DEFAULT_BUFFERS},
    prelude::*,
    splice::{policy, to_size, Actor, BioVec, Pieces, SpliceFlags},
};

/// The description and the state of a transfer. C: `struct splice_desc`.
#[repr(transparent)]
pub(crate) struct SpliceDesc(bindings::splice_desc);

impl SpliceDesc {
    /// Creates a description of a transfer of `len` bytes. Its union is zero.
    #[inline]
    pub(crate) fn new(len: usize, flags: SpliceFlags, pos: Offset) -> Self {
        // The whole struct, and not only the fields that are set below: C actors may read any of
        // them, and the union and `splice_eof` are null for an actor that has no use for them.
        // SAFETY: All-zero is a valid value of this C struct of integers and pointers.
        let mut desc: bindings::splice_desc = unsafe { MaybeUninit::zeroed().assume_init() };
        desc.total_len = len;
        desc.flags = flags.into();
        desc.pos = pos;
        Self(desc)
    }

    /// Creates a description for actors that expect the file that data goes to in the union.
    #[inline]
    pub(crate) fn for_file(len: usize, flags: SpliceFlags, pos: Offset, file: &LocalFile) -> Self {
        let mut this = Self::new(len, flags, pos);
        this.0.u.file = file.as_ptr();
        this
    }

    /// Creates a reference from a pointer.
    ///
    /// # Safety
    ///
    /// `desc` must be valid for `'a`, and only the actors that it is passed to may access it
    /// otherwise. Its union must contain the member that these actors, and its `splice_eof`,
    /// expect.
    #[inline]
    pub(crate) unsafe fn from_raw<'a>(desc: *mut bindings::splice_desc) -> &'a mut Self {
        // SAFETY: The caller guarantees that `desc` is valid and not accessed by others.
        // `SpliceDesc` is a transparent wrapper of `struct splice_desc`.
        unsafe { &mut *desc.cast() }
    }

    /// Returns whether the caller declared that its actor only reads the pages that it is given.
    #[inline]
    pub(crate) fn is_audited(&self) -> bool {
        self.0.audited
    }

    /// Resets the number of transferred bytes to 0, before a transfer. A new description is in this
    /// state.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.0.num_spliced = 0;
        self.0.need_wakeup = false;
    }

    /// Returns the number of bytes to transfer.
    #[inline]
    pub(crate) fn total_len(&self) -> usize {
        self.0.total_len
    }

    /// Sets the number of bytes to transfer.
    #[inline]
    pub(crate) fn set_total_len(&mut self, len: usize) {
        self.0.total_len = len;
    }

    /// Returns the flags.
    #[inline]
    pub(crate) fn flags(&self) -> SpliceFlags {
        SpliceFlags::from_kernel(self.0.flags)
    }

    /// Sets the flags.
    #[inline]
    pub(crate) fn set_flags(&mut self, flags: SpliceFlags) {
        self.0.flags = flags.into();
    }

    /// Returns the file position: that of the source in a transfer between two files, and that of
    /// the sink in a transfer out of a pipe.
    #[inline]
    pub(crate) fn pos(&self) -> Offset {
        self.0.pos
    }

    /// Sets the file position, see [`Self::pos`].
    #[inline]
    pub(crate) fn set_pos(&mut self, pos: Offset) {
        self.0.pos = pos;
    }

    /// Calls `->splice_eof`, if there is one, because the source ended before all bytes were
    /// transferred.
    #[inline]
    pub(crate) fn source_ended(&mut self) {
        if let Some(splice_eof) = self.0.splice_eof {
            // SAFETY: The C caller that filled in the description set `splice_eof`, and the union
            // contains the member that this function expects (see `Self::from_raw`). No method
            // changes the union.
            unsafe { splice_eof(&raw mut self.0) };
        }
    }
}

/// An actor in C, together with the description that it expects.
///
/// # Invariants
///
/// `actor` may be called with `desc` and any buffer.
pub(crate) struct CActor<'a> {
    /// The file that the actor belongs to, which says whether it is audited. Without a file, `desc`
    /// says so.
    file: Option<&'a LocalFile>,
    /// The bytes that the actor took as copies.
    copied: usize,
    actor: unsafe extern "C" fn(
        *mut bindings::pipe_inode_info,
        *mut bindings::pipe_buffer,
        *mut bindings::splice_desc,
    ) -> c_int,
    desc: &'a mut SpliceDesc,
}

impl<'a> CActor<'a> {
    /// Creates an [`Actor`] from a C function and its description. Returns `None` if `actor` is
    /// null.
    ///
    /// # Safety
    ///
    /// `actor` must accept `desc` and any buffer of a locked pipe.
    #[inline]
    pub(crate) unsafe fn new(
        actor: bindings::splice_actor,
        desc: &'a mut SpliceDesc,
        file: Option<&'a LocalFile>,
    ) -> Option<Self> {
        // INVARIANT: The caller guarantees that `actor` may be called with `desc` and any buffer
        // (see `# Safety`).
        Some(Self {
            actor: actor?,
            desc,
            file,
            copied: 0,
        })
    }
}

impl CActor<'_> {
    /// Returns how many bytes the actor took as copies.
    #[inline]
    pub(crate) fn copied(&self) -> usize {
        self.copied
    }
}

// SAFETY: The audit is that of the C function. `must_copy` asks whether its caller declared one. If
// not, the function gets private pages and copies only. If it did, the function and all code that
// it passes the pages to only read them.
unsafe impl AuditedSink for CActor<'_> {}

impl Actor for CActor<'_> {
    #[inline(always)]
    fn must_copy(&self) -> Option<policy::Reason> {
        policy::must_copy(|| match self.file {
            Some(file) => file.is_audited(),
            None => self.desc.is_audited(),
        })
    }

    fn took_copies(&mut self, bytes: usize) {
        self.copied += bytes;
    }

    fn function(&self) -> FunctionAddr {
        FunctionAddr::new(self.actor as usize)
    }

    #[inline]
    fn take(&mut self, mut buf: BufferRef<'_>, len: usize) -> Result<usize> {
        let (pipe, buf) = self.raw_buffer(&mut buf);
        // C actors take the number of bytes from here: a part of the buffer, if the transfer ends
        // in it.
        // CAST: `len` is at most the length of the buffer, which is a u32.
        self.desc.0.len = len as u32;
        // SAFETY: By the type invariant `actor` accepts `desc` and any buffer. `BufferRef`
        // guarantees that the buffer is valid and that access to its pipe is exclusive.
        let ret = unsafe { (self.actor)(pipe, buf, &raw mut self.desc.0) };
        // First: a caller that compares with 0 needs no other comparison then.
        if ret <= 0 {
            return to_size(ret as isize);
        }
        // CAST: Positive. An actor cannot take more than the `len` bytes that it was given.
        let taken = (ret as usize).min(len);
        let desc = &mut self.desc.0;
        // Wrapping arithmetic, because the actor may have changed the fields as well.
        desc.num_spliced = desc.num_spliced.wrapping_add(taken);
        desc.pos = desc.pos.wrapping_add(taken as Offset);
        desc.total_len = desc.total_len.wrapping_sub(taken);
        Ok(taken)
    }
}

/// A C actor for transfers between two files. It drains the pipe that was filled from the source.
///
/// # Invariants
///
/// The function may be called with each description that [`Self::drain`] is called with.
pub(crate) struct CDirectActor(
    unsafe extern "C" fn(*mut bindings::pipe_inode_info, *mut bindings::splice_desc) -> c_int,
);

impl CDirectActor {
    /// Creates an actor from a C function. Returns `None` if it is null.
    ///
    /// # Safety
    ///
    /// The function must accept each description that [`Self::drain`] will be called with.
    #[inline]
    pub(crate) unsafe fn new(actor: bindings::splice_direct_actor) -> Option<Self> {
        // INVARIANT: The caller guarantees that the function accepts the descriptions of later
        // calls of `drain` (see `# Safety`).
        Some(Self(actor?))
    }

    /// Calls the actor. Returns the number of bytes that it took out of `pipe`, or its error. May
    /// sleep.
    #[inline]
    pub(crate) fn drain(&mut self, pipe: &mut PrivatePipe, desc: &mut SpliceDesc) -> Result<usize> {
        if let Some(reason) = policy::must_copy(|| desc.is_audited()) {
            return self.drain_copy(pipe, desc, reason);
        }
        self.call(pipe, desc)
    }

    /// Calls the actor with copies of the data.
    #[cold]
    fn drain_copy(
        &mut self,
        pipe: &mut PrivatePipe,
        desc: &mut SpliceDesc,
        reason: policy::Reason,
    ) -> Result<usize> {
        let mut copy = PrivatePipe::new()?;
        let bytes = {
            let mut ring = pipe.ring();
            let mut vecs = [const { MaybeUninit::<BioVec>::uninit() }; DEFAULT_BUFFERS];
            let mut pieces = Pieces::new(&mut vecs);
            pieces.gather(&mut ring, desc.total_len())?;
            policy::copy_to_ring(&pieces, &mut copy.ring())?
        };
        desc.set_total_len(bytes);
        let taken = self.call(&mut copy, desc)?.min(bytes);
        // The caller drops what is left in `pipe`, and reads on behind the bytes that were taken.
        pipe.ring().consume(taken);
        policy::copied(
            policy::Kind::Actor,
            reason,
            FunctionAddr::new(self.0 as usize),
            taken,
        );
        Ok(taken)
    }

    /// Calls the actor with `pipe`.
    #[inline]
    fn call(&mut self, pipe: &mut PrivatePipe, desc: &mut SpliceDesc) -> Result<usize> {
        // SAFETY: By the type invariant the function accepts `desc`. The pipe is private and
        // borrowed exclusively.
        let ret = unsafe { (self.0)(pipe.handle().as_ptr(), &raw mut desc.0) };
        to_size(ret as isize)
    }
}
