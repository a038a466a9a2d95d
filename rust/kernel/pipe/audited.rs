// SPDX-License-Identifier: GPL-2.0

//! Consumers that need the C structs of a buffer, and the names of consumers in reports.

use super::{buffer::PipeBuffer, ring::BufferRef};
use crate::{bindings, fmt, prelude::*};

/// The address of a function that takes data out of a pipe, or puts data there, for reports. It is
/// never called.
///
/// # Examples
///
/// ```
/// use kernel::pipe::FunctionAddr;
///
/// fn sink() {}
///
/// assert!(FunctionAddr::new(sink as fn() as usize) != FunctionAddr::NONE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FunctionAddr(usize);

impl FunctionAddr {
    /// No function.
    pub const NONE: Self = Self(0);

    /// Creates a value from the address of a function.
    #[inline]
    pub const fn new(addr: usize) -> Self {
        Self(addr)
    }

    /// Returns the address.
    #[inline]
    pub const fn addr(self) -> usize {
        self.0
    }

    /// Returns the address as a pointer, for functions in C that print the name of the symbol.
    #[inline]
    pub(crate) fn as_ptr(self) -> *mut c_void {
        self.0 as *mut c_void
    }
}

/// Shows the name of the function, as `%ps` in C does.
impl core::fmt::Display for FunctionAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = [0; bindings::KSYM_NAME_LEN as usize];
        // SAFETY: The pointer is valid for as many bytes. The function only looks up which symbol
        // the address belongs to.
        let len = unsafe {
            bindings::splice_sink_name(self.as_ptr(), name.as_mut_ptr().cast(), name.len())
        };
        let name = name.get(..len).unwrap_or_default();
        f.write_str(core::str::from_utf8(name).unwrap_or("?"))
    }
}

/// A consumer of buffers that needs the raw page, for example to pass it to C code.
///
/// A consumer that uses [`PipeBuffer`] only cannot write to a page, so its type is the proof that
/// it may be handed any page. The pointers that this trait returns allow writes. They are not in
/// the interface of [`PipeBuffer`], so that each use of them has an audit.
///
/// # Safety
///
/// The implementer, and all code that it passes the pointers to, must only read the pages, unless
/// the buffer is [private](PipeBuffer::is_private). It must not use a page after it has given the
/// buffer back, unless it took a reference of its own. The `SAFETY` comment of the implementation
/// is the audit: it names the functions that get the pages, and says why they only read. See
/// Documentation/filesystems/splice-policy.rst for the questions that an audit answers.
///
/// # Examples
///
/// ```
/// use kernel::pipe::{AuditedSink, OwnedPage, PipeBuffer};
///
/// /// Looks at the addresses of pages.
/// struct Addresses;
///
/// // SAFETY: Only the value of the pointer is used, and nothing gets the page.
/// unsafe impl AuditedSink for Addresses {}
///
/// let buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 10)?;
/// assert!(!Addresses.raw_page(&buf).is_null());
/// # Ok::<(), Error>(())
/// ```
pub unsafe trait AuditedSink {
    /// Returns the first page of `buf`. For buffers of several pages the others follow it in the
    /// `struct page` array. They belong to one folio.
    #[inline]
    fn raw_page(&self, buf: &PipeBuffer) -> *mut bindings::page {
        buf.page()
    }

    /// Returns the C pipe and buffer, for a C function that takes both.
    #[inline]
    fn raw_buffer(
        &self,
        buf: &mut BufferRef<'_>,
    ) -> (*mut bindings::pipe_inode_info, *mut bindings::pipe_buffer) {
        buf.as_raw()
    }
}
