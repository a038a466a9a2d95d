// SPDX-License-Identifier: GPL-2.0

//! The interface to C: every function that C calls, and every operations table that C names.
//!
//! This file converts pointers to references, and results to error numbers. It has no other logic.
//!
//! # Safety
//!
//! C code in the kernel calls these functions. For the whole of a call it keeps these rules, to
//! which the `SAFETY` comments below refer by their names:
//!
//! - *open file*: a file pointer is valid, and its reference count stays positive. A call of
//!   `fdget_pos` on it that did not lock the position is one of the current task.
//! - *live pipe*: a pipe pointer is valid. If no file refers to the pipe, only this call uses it.
//! - *locked pipe*: a live pipe whose mutex the caller holds, or to which no file refers. So nobody
//!   else accesses its ring.
//! - *own position*: a pointer to a file position is valid, and nobody else accesses the position.
//!   Two such pointers of one call are different.
//!
//! C header: [`include/linux/splice.h`](srctree/include/linux/splice.h)

use crate::{
    buffer_ops,
    c_buffers_to_pipe,
    dispatch,
    file_to_file,
    file_to_pipe,
    pipe_to_file,
    uring, //
};
use kernel::{
    bindings,
    fs::{file::Offset, LocalFile},
    pipe::{FunctionAddr, OpsTable, Pipe, PipeBufOperations, PipeBuffer, PipeRing, PrivatePipe},
    prelude::*,
    splice::{from_size, pipe_to_actor, policy::Kind, sinks, Counter, SpliceFlags},
    uaccess::UserPtr,
};

pub(crate) mod splice_desc;
mod splice_pipe_desc;

#[cfg(CONFIG_SPLICE_CHECK)]
use kernel::splice::check;
use splice_desc::{CActor, CDirectActor, SpliceDesc};
use splice_pipe_desc::SplicePipeDesc;

/// The operations for pages that the kernel allocated as the target of a copy.
#[no_mangle]
pub(crate) static default_pipe_buf_ops: PipeBufOperations =
    OpsTable::<buffer_ops::Default>::OPERATIONS;

/// The operations for pages of sockets, and of other owners that keep using them.
#[no_mangle]
pub(crate) static nosteal_pipe_buf_ops: PipeBufOperations =
    OpsTable::<buffer_ops::NoSteal>::OPERATIONS;

/// The operations for pages of the page cache.
#[no_mangle]
pub(crate) static page_cache_pipe_buf_ops: PipeBufOperations =
    OpsTable::<buffer_ops::PageCache>::OPERATIONS;

/// C: `splice_to_pipe`.
///
/// # Safety
///
/// `pipe` is a locked pipe. `spd` is valid: its arrays describe `nr_pages` pages, with a reference
/// to each of them, and its operations and its release function fit these pages.
#[export]
pub(crate) unsafe extern "C" fn splice_to_pipe(
    pipe: *mut bindings::pipe_inode_info,
    spd: *mut bindings::splice_pipe_desc,
) -> isize {
    // SAFETY: `pipe` is a locked pipe. `spd` describes its pages, whose references pass to `bufs`,
    // as this function requires.
    let (mut ring, mut bufs) = unsafe { (PipeRing::from_raw(pipe), SplicePipeDesc::from_raw(spd)) };
    // Dropping `bufs` releases the pages that did not fit, by the release function of `spd`.
    from_size(c_buffers_to_pipe::splice_to_pipe(&mut ring, &mut bufs))
}

/// Does the same as [`splice_to_pipe`] for the pages of a socket buffer of which some may have been
/// sent by splice: see [`PipeBuffer::with_slots_of_shared_pages`].
///
/// # Safety
///
/// That of [`splice_to_pipe`]. The pages of an element are contiguous and belong to one folio.
#[export]
pub(crate) unsafe extern "C" fn splice_shared_to_pipe(
    pipe: *mut bindings::pipe_inode_info,
    spd: *mut bindings::splice_pipe_desc,
) -> isize {
    // SAFETY: The caller guarantees what `splice_to_pipe` requires.
    let (mut ring, bufs) = unsafe { (PipeRing::from_raw(pipe), SplicePipeDesc::from_raw(spd)) };
    let mut bufs = bufs.map(PipeBuffer::with_slots_of_shared_pages);
    from_size(c_buffers_to_pipe::splice_to_pipe(&mut ring, &mut bufs))
}

/// C: `add_to_pipe`.
///
/// # Safety
///
/// `pipe` is a locked pipe. `buf` points to a valid buffer. Its reference passes to this function,
/// even if it fails.
#[export]
pub(crate) unsafe extern "C" fn add_to_pipe(
    pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> isize {
    // SAFETY: `pipe` is a locked pipe. `buf` is a valid buffer that the caller does not use again,
    // as this function requires, so its one reference moves to the copy.
    let (mut ring, buf) = unsafe { (PipeRing::from_raw(pipe), PipeBuffer::from_raw(buf.read())) };
    from_size(c_buffers_to_pipe::add_to_pipe(&mut ring, buf))
}

/// C: `splice_grow_spd`.
///
/// # Safety
///
/// `pipe` and `spd` are valid, and `spd` has no pages yet. If this succeeds, the caller passes
/// `spd` to [`splice_shrink_spd`] later.
#[export]
pub(crate) unsafe extern "C" fn splice_grow_spd(
    pipe: *const bindings::pipe_inode_info,
    spd: *mut bindings::splice_pipe_desc,
) -> c_int {
    // SAFETY: `pipe` and `spd` are valid, and `spd` is shrunk later, as this function requires.
    // `max_usage` is read as by C's `READ_ONCE`: the caller need not hold the pipe's mutex, and
    // without it `F_SETPIPE_SZ` could change the field at any time.
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
/// `spd` is valid, and was passed to [`splice_grow_spd`], which succeeded.
#[export]
pub(crate) unsafe extern "C" fn splice_shrink_spd(spd: *mut bindings::splice_pipe_desc) {
    // SAFETY: `splice_grow_spd` succeeded for `spd`, as this function requires, so the arrays are
    // those from there, unless the ones on the caller's stack were long enough.
    unsafe { SplicePipeDesc::shrink(spd) };
}

/// C: `copy_splice_read`.
///
/// # Safety
///
/// `file` is an open file, `ppos` an own position, and `pipe` a locked pipe.
#[export]
pub(crate) unsafe extern "C" fn copy_splice_read(
    file: *mut bindings::file,
    ppos: *mut Offset,
    pipe: *mut bindings::pipe_inode_info,
    len: usize,
    _flags: c_uint,
) -> isize {
    // SAFETY: `file` is an open file, `ppos` an own position, and `pipe` a locked pipe.
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
/// `file` is an open file, `ppos` an own position, and `pipe` a locked pipe.
#[export]
pub(crate) unsafe extern "C" fn vfs_splice_read(
    file: *mut bindings::file,
    ppos: *mut Offset,
    pipe: *mut bindings::pipe_inode_info,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: `file` is an open file, `ppos` an own position, and `pipe` a locked pipe.
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
/// `file` is an open file, `pipe` a live pipe that the caller has not locked, and `offset` an own
/// position.
#[export]
pub(crate) unsafe extern "C" fn splice_file_to_pipe(
    file: *mut bindings::file,
    pipe: *mut bindings::pipe_inode_info,
    offset: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: `file` is an open file, `pipe` a live pipe, and `offset` an own position.
    let (file, mut pipe, pos) = unsafe {
        (
            LocalFile::from_raw_file(file),
            Pipe::from_raw(pipe),
            &mut *offset,
        )
    };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(dispatch::splice_file_to_pipe(
        file, &mut pipe, pos, len, flags,
    ))
}

/// C: `__splice_from_pipe`.
///
/// # Safety
///
/// `pipe` is a locked pipe. `sd` is valid, and only `actor` accesses it during the call. `actor`
/// may be called with `sd` and any buffer.
#[export]
pub(crate) unsafe extern "C" fn __splice_from_pipe(
    pipe: *mut bindings::pipe_inode_info,
    sd: *mut bindings::splice_desc,
    actor: bindings::splice_actor,
) -> isize {
    // SAFETY: `pipe` is a locked pipe. `sd` is valid and accessed by `actor` only, as this function
    // requires.
    let (mut ring, desc) = unsafe { (PipeRing::from_raw(pipe), SpliceDesc::from_raw(sd)) };
    // The caller may pass the same description several times, as nfsd does for the parts of a read:
    // count from 0 each time.
    desc.begin();
    list_actor(desc, actor.map(|actor| actor as usize));
    // SAFETY: `actor` may be called with `desc` and any buffer, as this function requires.
    from_size(unsafe { feed_c_actor(&mut ring, desc, actor, None) })
}

/// C: `splice_from_pipe`.
///
/// # Safety
///
/// `pipe` is a live pipe that the caller has not locked, `file` an open file, and `ppos` an own
/// position. `actor` may be called with a description that has `file` in its union, and any buffer.
#[export]
pub(crate) unsafe extern "C" fn splice_from_pipe(
    pipe: *mut bindings::pipe_inode_info,
    file: *mut bindings::file,
    ppos: *mut Offset,
    len: usize,
    flags: c_uint,
    actor: bindings::splice_actor,
) -> isize {
    // SAFETY: `pipe` is a live pipe, `file` an open file, and `ppos` an own position.
    let (mut pipe, file, pos) =
        unsafe { (Pipe::from_raw(pipe), LocalFile::from_raw_file(file), *ppos) };
    let mut desc = SpliceDesc::for_file(len, SpliceFlags::from_kernel(flags), pos, file);
    // The position is not written back, as in C: the callers are devices without positions.
    // SAFETY: `desc` has `file` in its union, for which `actor` may be called, as this function
    // requires.
    let ret = unsafe { feed_c_actor(&mut pipe.lock().ring(), &mut desc, actor, Some(file)) };
    from_size(ret)
}

/// Feeds the data in `ring` to a C actor, until the actor has taken `desc.total_len()` bytes.
/// Returns [`EINVAL`] if `actor` is null, and the errors of [`pipe_to_actor`]. `file` is the file
/// whose operation the actor is, if there is one.
///
/// # Safety
///
/// `actor` may be called with `desc` and any buffer.
#[inline(always)]
unsafe fn feed_c_actor(
    ring: &mut PipeRing<'_>,
    desc: &mut SpliceDesc,
    actor: bindings::splice_actor,
    file: Option<&LocalFile>,
) -> Result<usize> {
    let (len, flags) = (desc.total_len(), desc.flags());
    // SAFETY: `actor` may be called with `desc` and any buffer, as this function requires.
    let mut actor = unsafe { CActor::new(actor, desc, file) }.ok_or(EINVAL)?;
    let bytes = pipe_to_actor(ring, len, flags, &mut actor)?;
    Counter::PipeToActorReferenced.add(bytes.wrapping_sub(actor.copied()));
    Ok(bytes)
}

/// C: `iter_file_splice_write`.
///
/// # Safety
///
/// `pipe` is a live pipe that the caller has not locked, `file` an open file, and `ppos` an own
/// position.
#[export]
pub(crate) unsafe extern "C" fn iter_file_splice_write(
    pipe: *mut bindings::pipe_inode_info,
    file: *mut bindings::file,
    ppos: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: `pipe` is a live pipe, `file` an open file, and `ppos` an own position.
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

/// Calls `->splice_write` of a file that has one, for file systems that are stacked on others.
///
/// # Safety
///
/// `pipe` is a live pipe that the caller has not locked, `file` an open file, and `ppos` an own
/// position.
#[export]
pub(crate) unsafe extern "C" fn splice_write_file(
    pipe: *mut bindings::pipe_inode_info,
    file: *mut bindings::file,
    ppos: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: `pipe` is a live pipe, `file` an open file, and `ppos` an own position.
    let (mut pipe, file, pos) = unsafe {
        (
            Pipe::from_raw(pipe),
            LocalFile::from_raw_file(file),
            &mut *ppos,
        )
    };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(pipe_to_file::write(&mut pipe, file, pos, len, flags))
}

/// C: `splice_to_socket`.
///
/// # Safety
///
/// `pipe` is a live pipe that the caller has not locked, and `file` an open file.
#[cfg(CONFIG_NET)]
#[export]
pub(crate) unsafe extern "C" fn splice_to_socket(
    pipe: *mut bindings::pipe_inode_info,
    file: *mut bindings::file,
    _ppos: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: `pipe` is a live pipe, and `file` an open file.
    let (mut pipe, file) = unsafe { (Pipe::from_raw(pipe), LocalFile::from_raw_file(file)) };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(crate::pipe_to_socket::splice_to_socket(
        &mut pipe, file, len, flags,
    ))
}

/// A C actor as the sink of a direct transfer.
impl file_to_file::Sink for CDirectActor {
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
/// `file` is an open file. `sd` is valid, and only `actor` accesses it during the call. `actor`
/// may be called with `sd` and any pipe that no file refers to.
#[export]
pub(crate) unsafe extern "C" fn splice_direct_to_actor(
    file: *mut bindings::file,
    sd: *mut bindings::splice_desc,
    actor: bindings::splice_direct_actor,
) -> isize {
    // SAFETY: `file` is an open file. `sd` is valid and accessed by `actor` only, as this function
    // requires.
    let (file, desc) = unsafe { (LocalFile::from_raw_file(file), SpliceDesc::from_raw(sd)) };
    list_actor(desc, actor.map(|actor| actor as usize));
    // SAFETY: `actor` may be called with `desc`, as this function requires, and `splice_direct`
    // calls it with no other description.
    let actor = unsafe { CDirectActor::new(actor) };
    from_size(
        actor
            .ok_or(EINVAL)
            .and_then(|mut actor| file_to_file::splice_direct(file, desc, &mut actor)),
    )
}

/// C: `do_splice_direct`.
///
/// # Safety
///
/// `input` and `output` are open files, and `ppos` and `opos` own positions.
#[export]
pub(crate) unsafe extern "C" fn do_splice_direct(
    input: *mut bindings::file,
    ppos: *mut Offset,
    output: *mut bindings::file,
    opos: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: `input` and `output` are open files.
    let (input, output) = unsafe {
        (
            LocalFile::from_raw_file(input),
            LocalFile::from_raw_file(output),
        )
    };
    // SAFETY: `ppos` and `opos` are own positions, and different ones.
    let (in_pos, out_pos) = unsafe { (&mut *ppos, &mut *opos) };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(file_to_file::do_splice_direct(
        input, in_pos, output, out_pos, len, flags,
    ))
}

/// C: `splice_file_range`.
///
/// # Safety
///
/// `input` and `output` are open files, and `ppos` and `opos` own positions.
#[export]
pub(crate) unsafe extern "C" fn splice_file_range(
    input: *mut bindings::file,
    ppos: *mut Offset,
    output: *mut bindings::file,
    opos: *mut Offset,
    len: usize,
) -> isize {
    // SAFETY: `input` and `output` are open files.
    let (input, output) = unsafe {
        (
            LocalFile::from_raw_file(input),
            LocalFile::from_raw_file(output),
        )
    };
    // SAFETY: `ppos` and `opos` are own positions, and different ones.
    let (in_pos, out_pos) = unsafe { (&mut *ppos, &mut *opos) };
    from_size(file_to_file::splice_file_range(
        input, in_pos, output, out_pos, len,
    ))
}

/// C: `do_splice`, called by io_uring. Null stands for an offset that is not given.
///
/// # Safety
///
/// `input` and `output` are open files. `off_in` and `off_out` are null or own positions.
#[export]
pub(crate) unsafe extern "C" fn do_splice(
    input: *mut bindings::file,
    off_in: *mut Offset,
    output: *mut bindings::file,
    off_out: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: `input` and `output` are open files.
    let (input, output) = unsafe {
        (
            LocalFile::from_raw_file(input),
            LocalFile::from_raw_file(output),
        )
    };
    // SAFETY: `off_in` and `off_out` are null or own positions, and different ones.
    let (off_in, off_out) = unsafe { (off_in.as_mut(), off_out.as_mut()) };
    let flags = SpliceFlags::from_kernel(flags);
    from_size(dispatch::do_splice(
        input, off_in, output, off_out, len, flags,
    ))
}

/// C: `do_tee`, called by io_uring.
///
/// # Safety
///
/// `input` and `output` are open files.
#[export]
pub(crate) unsafe extern "C" fn do_tee(
    input: *mut bindings::file,
    output: *mut bindings::file,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: `input` and `output` are open files.
    let (input, output) = unsafe {
        (
            LocalFile::from_raw_file(input),
            LocalFile::from_raw_file(output),
        )
    };
    from_size(dispatch::do_tee(
        input,
        output,
        len,
        SpliceFlags::from_kernel(flags),
    ))
}

/// An attempt of io_uring to splice.
///
/// # Safety
///
/// `attempt` is valid, and only this call uses it. Its files are open files, and its offsets null
/// or own positions.
#[export]
pub(crate) unsafe extern "C" fn rust_uring_splice(
    attempt: *mut bindings::splice_attempt,
) -> bindings::splice_attempt_next {
    // SAFETY: `attempt` is valid and used by this call only, and its files are open, as this
    // function requires.
    let ([input, output], attempt) = unsafe { (files_of_attempt(attempt), &mut *attempt) };
    // SAFETY: The offsets are null or own positions, and different ones.
    let (off_in, off_out) = unsafe { (attempt.off_in.as_mut(), attempt.off_out.as_mut()) };
    let (len, flags) = (attempt.len, SpliceFlags::from_kernel(attempt.flags));
    let mut parts = uring::Parts {
        moved: attempt.moved,
        rest: attempt.rest,
    };
    let next = if attempt.may_wait {
        uring::Next::Complete(uring::splice_in_worker(
            input, off_in, output, off_out, len, flags, parts,
        ))
    } else {
        uring::splice(input, off_in, output, off_out, len, flags, &mut parts)
    };
    (attempt.moved, attempt.rest) = (parts.moved, parts.rest);
    after_attempt(attempt, next)
}

/// An attempt of io_uring to tee.
///
/// # Safety
///
/// `attempt` is valid, and only this call uses it. Its files are open files.
#[export]
pub(crate) unsafe extern "C" fn rust_uring_tee(
    attempt: *mut bindings::splice_attempt,
) -> bindings::splice_attempt_next {
    // SAFETY: `attempt` is valid and used by this call only, and its files are open, as this
    // function requires.
    let ([input, output], attempt) = unsafe { (files_of_attempt(attempt), &mut *attempt) };
    let (len, flags) = (attempt.len, SpliceFlags::from_kernel(attempt.flags));
    let next = if attempt.may_wait {
        uring::Next::Complete(dispatch::do_tee(input, output, len, flags))
    } else {
        uring::tee(input, output, len, flags)
    };
    after_attempt(attempt, next)
}

/// Returns the input and the output of an attempt.
///
/// # Safety
///
/// `attempt` is valid, and its files are open files that stay so for `'a`.
#[inline(always)]
unsafe fn files_of_attempt<'a>(attempt: *const bindings::splice_attempt) -> [&'a LocalFile; 2] {
    // SAFETY: The caller guarantees this.
    unsafe { [(*attempt).input, (*attempt).output].map(|file| LocalFile::from_raw_file(file)) }
}

/// Converts what io_uring does next.
#[inline(always)]
fn after_attempt(
    attempt: &mut bindings::splice_attempt,
    next: uring::Next,
) -> bindings::splice_attempt_next {
    match next {
        uring::Next::Complete(result) => {
            attempt.result = from_size(result);
            bindings::splice_attempt_next_SPLICE_ATTEMPT_DONE
        }
        uring::Next::PollInput => bindings::splice_attempt_next_SPLICE_ATTEMPT_POLL_INPUT,
        uring::Next::PollOutput => bindings::splice_attempt_next_SPLICE_ATTEMPT_POLL_OUTPUT,
        uring::Next::Worker => bindings::splice_attempt_next_SPLICE_ATTEMPT_WORKER,
    }
}

/// `splice(2)`, called by `syscalls.c`. The offsets are addresses in user space.
///
/// # Safety
///
/// The current task is in a system call.
#[export]
pub(crate) unsafe extern "C" fn rust_sys_splice(
    fd_in: c_int,
    off_in: *mut Offset,
    fd_out: c_int,
    off_out: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    let off_in = UserPtr::from_ptr(off_in.cast());
    let off_out = UserPtr::from_ptr(off_out.cast());
    from_size(dispatch::sys_splice(
        fd_in, off_in, fd_out, off_out, len, flags,
    ))
}

/// `tee(2)`, called by `syscalls.c`.
///
/// # Safety
///
/// The current task is in a system call.
#[export]
pub(crate) unsafe extern "C" fn rust_sys_tee(
    fd_in: c_int,
    fd_out: c_int,
    len: usize,
    flags: c_uint,
) -> isize {
    from_size(dispatch::sys_tee(fd_in, fd_out, len, flags))
}

/// Lists the function of an actor, if the caller says that it is audited.
fn list_actor(desc: &SpliceDesc, actor: Option<usize>) {
    if let Some(actor) = actor.filter(|_| desc.is_audited()) {
        sinks::list(Kind::Actor, FunctionAddr::new(actor));
    }
}

/// Lists an audited consumer. The pointer is only compared and printed.
#[export]
pub(crate) extern "C" fn splice_list_sink(kind: c_uint, function: *mut c_void) {
    let kind = match kind {
        bindings::SPLICE_SINK_SOCKET => Kind::Socket,
        bindings::SPLICE_SINK_FILE => Kind::File,
        _ => Kind::Actor,
    };
    sinks::list(kind, FunctionAddr::new(function as usize));
}

/// Lists the function of an audited file that gets the pages. Called by `do_dentry_open`.
///
/// # Safety
///
/// `file` is valid, and has its operations.
#[export]
pub(crate) unsafe extern "C" fn splice_list_file(file: *mut bindings::file) {
    // SAFETY: `file` is valid, as this function requires. Only its operations are looked at.
    let file = unsafe { LocalFile::from_raw_file(file) };
    let function = if file.splice_write_asks() {
        file.write_iter_function()
    } else {
        file.splice_write_function()
    };
    sinks::list(Kind::File, function);
}

/// Looks at the pages that `fs.splice_check` remembers. Called by `policy.c`.
#[cfg(CONFIG_SPLICE_CHECK)]
#[export]
pub(crate) extern "C" fn rust_splice_check_scan() {
    check::scan();
}

/// Forgets the pages that `fs.splice_check` remembers. Called by `policy.c`.
#[cfg(CONFIG_SPLICE_CHECK)]
#[export]
pub(crate) extern "C" fn rust_splice_check_clear() {
    check::clear();
}

/// Notes that a file was opened for writing. Called by `do_dentry_open`. The pointer is only
/// compared.
#[cfg(CONFIG_SPLICE_CHECK)]
#[export]
pub(crate) extern "C" fn rust_splice_check_opened(inode: *mut bindings::inode) {
    check::opened(inode);
}
