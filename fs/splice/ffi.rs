// SPDX-License-Identifier: GPL-2.0

//! Where C comes in: every function that it calls, and the tables that it knows by name.
//!
//! Pointers become references here, and results error numbers. Nothing is decided.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h)

use crate::{direct, entry, file_to_pipe, ops, pipe_to_file, to_pipe};
use kernel::{
    bindings,
    fs::{file::Offset, LocalFile},
    pipe::{OpsTable, Pipe, PipeBufOperations, PipeBuffer, PipeRing, PrivatePipe},
    prelude::*,
    splice::{
        counters::Counter,
        desc::{CActor, CDirectActor},
        from_pipe, from_size, SpliceDesc, SpliceFlags, SplicePipeDesc,
    },
    uaccess::UserPtr,
};

/// The table for pages that were allocated to be copied to.
#[no_mangle]
pub(crate) static default_pipe_buf_ops: PipeBufOperations = OpsTable::<ops::Default>::OPERATIONS;

/// The table for pages of sockets and the like.
#[no_mangle]
pub(crate) static nosteal_pipe_buf_ops: PipeBufOperations = OpsTable::<ops::NoSteal>::OPERATIONS;

/// The table for pages of the page cache.
#[no_mangle]
pub(crate) static page_cache_pipe_buf_ops: PipeBufOperations =
    OpsTable::<ops::PageCache>::OPERATIONS;

/// C: `splice_to_pipe`.
///
/// # Safety
///
/// `pipe` is valid and locked, or private to the caller. `spd` is valid and filled in.
#[export]
pub(crate) unsafe extern "C" fn splice_to_pipe(
    pipe: *mut bindings::pipe_inode_info,
    spd: *mut bindings::splice_pipe_desc,
) -> isize {
    // SAFETY: By the caller's promise.
    let (mut ring, mut bufs) = unsafe { (PipeRing::from_raw(pipe), SplicePipeDesc::from_raw(spd)) };
    from_size(to_pipe::splice_to_pipe(&mut ring, &mut bufs))
}

/// C: `add_to_pipe`.
///
/// # Safety
///
/// `pipe` is valid and locked, or private to the caller. `buf` is a valid buffer, whose reference
/// is handed over whatever the result.
#[export]
pub(crate) unsafe extern "C" fn add_to_pipe(
    pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> isize {
    // SAFETY: By the caller's promise.
    let (mut ring, buf) = unsafe { (PipeRing::from_raw(pipe), PipeBuffer::from_raw(buf.read())) };
    from_size(to_pipe::add_to_pipe(&mut ring, buf))
}

/// C: `splice_grow_spd`.
///
/// # Safety
///
/// `pipe` and `spd` are valid.
#[export]
pub(crate) unsafe extern "C" fn splice_grow_spd(
    pipe: *const bindings::pipe_inode_info,
    spd: *mut bindings::splice_pipe_desc,
) -> c_int {
    // SAFETY: By the caller's promise. The pipe is not locked: its size may change at any time.
    let ret = unsafe {
        let max_usage = (&raw const (*pipe).max_usage).read_volatile();
        SplicePipeDesc::grow(spd, max_usage)
    };
    match ret {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// C: `splice_shrink_spd`.
///
/// # Safety
///
/// `spd` was given to `splice_grow_spd`, which succeeded.
#[export]
pub(crate) unsafe extern "C" fn splice_shrink_spd(spd: *mut bindings::splice_pipe_desc) {
    // SAFETY: By the caller's promise.
    unsafe { SplicePipeDesc::shrink(spd) };
}

/// C: `copy_splice_read`.
///
/// # Safety
///
/// All pointers are valid, and `pipe` is locked, or private to the caller.
#[export]
pub(crate) unsafe extern "C" fn copy_splice_read(
    file: *mut bindings::file,
    ppos: *mut Offset,
    pipe: *mut bindings::pipe_inode_info,
    len: usize,
    _flags: c_uint,
) -> isize {
    // SAFETY: By the caller's promise.
    let (file, pos, mut ring) = unsafe {
        (
            LocalFile::from_raw_file(file),
            &mut *ppos,
            PipeRing::from_raw(pipe),
        )
    };
    from_size(file_to_pipe::copy_splice_read(file, pos, &mut ring, len))
}

/// C: `vfs_splice_read`.
///
/// # Safety
///
/// All pointers are valid, and `pipe` is locked, or private to the caller.
#[export]
pub(crate) unsafe extern "C" fn vfs_splice_read(
    file: *mut bindings::file,
    ppos: *mut Offset,
    pipe: *mut bindings::pipe_inode_info,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: By the caller's promise.
    let (file, pos, mut ring) = unsafe {
        (
            LocalFile::from_raw_file(file),
            &mut *ppos,
            PipeRing::from_raw(pipe),
        )
    };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(file_to_pipe::vfs_splice_read(
        file, pos, &mut ring, len, flags,
    ))
}

/// C: `splice_file_to_pipe`.
///
/// # Safety
///
/// All pointers are valid.
#[export]
pub(crate) unsafe extern "C" fn splice_file_to_pipe(
    file: *mut bindings::file,
    pipe: *mut bindings::pipe_inode_info,
    offset: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: By the caller's promise.
    let (file, mut pipe, pos) = unsafe {
        (
            LocalFile::from_raw_file(file),
            Pipe::from_raw(pipe),
            &mut *offset,
        )
    };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(file_to_pipe::splice_file_to_pipe(
        file, &mut pipe, pos, len, flags,
    ))
}

/// C: `__splice_from_pipe`.
///
/// # Safety
///
/// `pipe` is valid and locked, or private to the caller. `sd` is valid, and what `actor` expects.
#[export]
pub(crate) unsafe extern "C" fn __splice_from_pipe(
    pipe: *mut bindings::pipe_inode_info,
    sd: *mut bindings::splice_desc,
    actor: bindings::splice_actor,
) -> isize {
    // SAFETY: By the caller's promise.
    let (mut ring, desc) = unsafe { (PipeRing::from_raw(pipe), SpliceDesc::from_raw(sd)) };
    desc.begin();
    // SAFETY: By the caller's promise.
    from_size(unsafe { feed_c_actor(&mut ring, desc, actor) })
}

/// C: `splice_from_pipe`.
///
/// # Safety
///
/// All pointers are valid; `actor` expects a description with `file` in it.
#[export]
pub(crate) unsafe extern "C" fn splice_from_pipe(
    pipe: *mut bindings::pipe_inode_info,
    file: *mut bindings::file,
    ppos: *mut Offset,
    len: usize,
    flags: c_uint,
    actor: bindings::splice_actor,
) -> isize {
    // SAFETY: By the caller's promise.
    let (mut pipe, file, pos) =
        unsafe { (Pipe::from_raw(pipe), LocalFile::from_raw_file(file), *ppos) };
    let mut desc = SpliceDesc::new(len, SpliceFlags::from_kernel(flags), pos);
    desc.set_file(file);
    // SAFETY: By the caller's promise.
    let ret = unsafe { feed_c_actor(&mut pipe.lock().ring(), &mut desc, actor) };
    from_size(ret)
}

/// # Safety
///
/// `desc` is what `actor` expects.
#[inline(always)]
unsafe fn feed_c_actor(
    ring: &mut PipeRing<'_>,
    desc: &mut SpliceDesc,
    actor: bindings::splice_actor,
) -> Result<usize> {
    let (len, flags) = (desc.total_len(), desc.flags());
    // SAFETY: By the caller's promise.
    let mut actor = unsafe { CActor::new(actor, desc) }.ok_or(EINVAL)?;
    let bytes = from_pipe(ring, len, flags, &mut actor)?;
    Counter::PipeToActorReferenced.add(bytes);
    Ok(bytes)
}

/// C: `iter_file_splice_write`.
///
/// # Safety
///
/// All pointers are valid.
#[export]
pub(crate) unsafe extern "C" fn iter_file_splice_write(
    pipe: *mut bindings::pipe_inode_info,
    file: *mut bindings::file,
    ppos: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: By the caller's promise.
    let (mut pipe, file, pos) = unsafe {
        (
            Pipe::from_raw(pipe),
            LocalFile::from_raw_file(file),
            &mut *ppos,
        )
    };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(pipe_to_file::iter_file_splice_write(
        &mut pipe, file, pos, len, flags,
    ))
}

/// C: `splice_to_socket`.
///
/// # Safety
///
/// `pipe` and `file` are valid.
#[cfg(CONFIG_NET)]
#[export]
pub(crate) unsafe extern "C" fn splice_to_socket(
    pipe: *mut bindings::pipe_inode_info,
    file: *mut bindings::file,
    _ppos: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: By the caller's promise.
    let (mut pipe, file) = unsafe { (Pipe::from_raw(pipe), LocalFile::from_raw_file(file)) };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(crate::pipe_to_socket::splice_to_socket(
        &mut pipe, file, len, flags,
    ))
}

/// A C actor as the sink of a direct transfer.
impl direct::Sink for CDirectActor {
    #[inline]
    fn drain(&mut self, pipe: &mut PrivatePipe, desc: &mut SpliceDesc) -> Result<usize> {
        CDirectActor::drain(self, pipe, desc)
    }

    #[inline]
    fn source_ended(&mut self, desc: &mut SpliceDesc) {
        desc.source_ended();
    }
}

/// C: `splice_direct_to_actor`.
///
/// # Safety
///
/// `file` and `sd` are valid, and `sd` is what `actor` expects.
#[export]
pub(crate) unsafe extern "C" fn splice_direct_to_actor(
    file: *mut bindings::file,
    sd: *mut bindings::splice_desc,
    actor: bindings::splice_direct_actor,
) -> isize {
    // SAFETY: By the caller's promise.
    let (file, desc) = unsafe { (LocalFile::from_raw_file(file), SpliceDesc::from_raw(sd)) };
    // SAFETY: By the caller's promise: it is called with `desc` only.
    let actor = unsafe { CDirectActor::new(actor) };
    from_size(
        actor
            .ok_or(EINVAL)
            .and_then(|mut actor| direct::splice_direct(file, desc, &mut actor)),
    )
}

/// C: `do_splice_direct`.
///
/// # Safety
///
/// All pointers are valid, and those to positions are different ones.
#[export]
pub(crate) unsafe extern "C" fn do_splice_direct(
    input: *mut bindings::file,
    ppos: *mut Offset,
    output: *mut bindings::file,
    opos: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: By the caller's promise.
    let (input, output) = unsafe {
        (
            LocalFile::from_raw_file(input),
            LocalFile::from_raw_file(output),
        )
    };
    // SAFETY: By the caller's promise.
    let (in_pos, out_pos) = unsafe { (&mut *ppos, &mut *opos) };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(direct::do_splice_direct(
        input, in_pos, output, out_pos, len, flags,
    ))
}

/// C: `splice_file_range`.
///
/// # Safety
///
/// All pointers are valid, and those to positions are different ones.
#[export]
pub(crate) unsafe extern "C" fn splice_file_range(
    input: *mut bindings::file,
    ppos: *mut Offset,
    output: *mut bindings::file,
    opos: *mut Offset,
    len: usize,
) -> isize {
    // SAFETY: By the caller's promise.
    let (input, output) = unsafe {
        (
            LocalFile::from_raw_file(input),
            LocalFile::from_raw_file(output),
        )
    };
    // SAFETY: By the caller's promise.
    let (in_pos, out_pos) = unsafe { (&mut *ppos, &mut *opos) };
    from_size(direct::splice_file_range(
        input, in_pos, output, out_pos, len,
    ))
}

/// C: `do_splice`, for io_uring. Offsets may be null.
///
/// # Safety
///
/// The files are valid; so are offsets that are not null, and they are different ones.
#[export]
pub(crate) unsafe extern "C" fn do_splice(
    input: *mut bindings::file,
    off_in: *mut Offset,
    output: *mut bindings::file,
    off_out: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: By the caller's promise.
    let (input, output) = unsafe {
        (
            LocalFile::from_raw_file(input),
            LocalFile::from_raw_file(output),
        )
    };
    // SAFETY: By the caller's promise.
    let (off_in, off_out) = unsafe { (off_in.as_mut(), off_out.as_mut()) };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(entry::do_splice(input, off_in, output, off_out, len, flags))
}

/// C: `do_tee`.
///
/// # Safety
///
/// Both files are valid.
#[export]
pub(crate) unsafe extern "C" fn do_tee(
    input: *mut bindings::file,
    output: *mut bindings::file,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: By the caller's promise.
    let (input, output) = unsafe {
        (
            LocalFile::from_raw_file(input),
            LocalFile::from_raw_file(output),
        )
    };
    from_size(entry::do_tee(
        input,
        output,
        len,
        SpliceFlags::from_kernel(flags),
    ))
}

/// `splice(2)`.
#[export]
pub(crate) extern "C" fn rust_sys_splice(
    fd_in: c_int,
    off_in: *mut Offset,
    fd_out: c_int,
    off_out: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    let off_in = UserPtr::from_ptr(off_in.cast());
    let off_out = UserPtr::from_ptr(off_out.cast());
    from_size(entry::sys_splice(
        fd_in, off_in, fd_out, off_out, len, flags,
    ))
}

/// `tee(2)`.
#[export]
pub(crate) extern "C" fn rust_sys_tee(
    fd_in: c_int,
    fd_out: c_int,
    len: usize,
    flags: c_uint,
) -> isize {
    from_size(entry::sys_tee(fd_in, fd_out, len, flags))
}
