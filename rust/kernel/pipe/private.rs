// SPDX-License-Identifier: GPL-2.0

//! Whether a page of a pipe belongs to the pipe alone, so that a new owner may write to it.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h)

use super::buffer::{PipeBuffer, Provenance};
use crate::{page::PAGE_SIZE, prelude::*};

impl PipeBuffer {
    /// Returns whether the page is *private*: the kernel allocated it for a pipe, and this buffer
    /// has the only reference to it. Only compares fields of the page; does not sleep.
    ///
    /// This is the one test by which a sink decides whether it may write to the page of a buffer,
    /// or let a device or user space write to it. Everything else in a pipe may only be read.
    ///
    /// # Private pages
    ///
    /// The operations of the buffer tell that the page was allocated for a pipe:
    ///
    /// - `anon_pipe_buf_ops`: yes; pages of `write(2)`.
    /// - `default_pipe_buf_ops`: yes; pages of `copy_splice_read()`, including files opened with
    ///   `O_DIRECT`, of [`PipeBuffer::from_page`], which all fallback copies use, and of
    ///   `trace_pipe`.
    /// - `page_cache_pipe_buf_ops`: no; pages of the page cache, by `filemap_splice_read()` and
    ///   tmpfs.
    /// - `zero_pipe_buf_ops`: no; the zero page, for holes of files on tmpfs.
    /// - [`Provenance::UserMemory`]: no; pages of `vmsplice(2)`, also with `SPLICE_F_GIFT`. User
    ///   space may have them mapped, and they can be pages of the page cache.
    /// - `nosteal_pipe_buf_ops`: no; pages of sockets and of the FUSE device, whose sender may have
    ///   sent a page of the page cache by reference.
    /// - [`Provenance::Device`]: no; the page returns to its driver.
    /// - [`Provenance::Lent`]: no; devices and user space may write to the page through a dma-buf.
    /// - others: no, unknown; relay, the trace ring buffer, SMC, modules.
    ///
    /// Operations alone prove nothing, because `tee(2)` and a split copy them, and because code
    /// outside this crate can use the tables too. So the page is asked as well. It must be one page
    /// of order 0, not in use by a file or by anonymous memory, not mapped by user space, not
    /// memory of a device, and its reference count must be 1. Each of these excludes some sharing:
    ///
    /// - A buffer that was copied by `tee(2)`, or split, shares its page: the count is above 1.
    ///   That includes the rest of a page that is still in the pipe, to which `write(2)` appends.
    /// - A page that a socket, a device or direct I/O still uses has another reference, or a pin,
    ///   which also raises the count.
    /// - A page of the page cache has a mapping and is counted by it. The zero page is counted by
    ///   each of its users.
    /// - Of a compound page, one reference can stand for all pages. No page that is allocated for a
    ///   pipe is compound.
    ///
    /// A page in the small pool that a pipe keeps for `write(2)` is in no buffer. It comes out of
    /// the pool when it goes into a new one.
    ///
    /// `copy_splice_read()` waits for the read. A page whose read failed never becomes a buffer, so
    /// no device writes to a private page by a read that was started before.
    ///
    /// # How long this holds
    ///
    /// A page with one reference that nothing else can find stays so until the owner of the buffer
    /// [clones](Self::try_clone) it, or puts it back into a pipe. A stale lookup of the page cache
    /// may raise the count for a moment, but does not touch the contents. That can only change the
    /// answer from yes to no.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::pipe::{OwnedPage, PipeBuffer};
    ///
    /// let mut buf = PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 100)?;
    /// assert!(buf.is_private());
    ///
    /// // tee(2) makes a second buffer of the page. Neither may be written to.
    /// let copy = buf.try_clone()?;
    /// assert!(!buf.is_private() && !copy.is_private());
    /// drop(copy);
    /// assert!(buf.is_private());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn is_private(&self) -> bool {
        let folio = self.folio();
        self.provenance() == Provenance::Private
            && self.offset() + self.len() <= PAGE_SIZE
            && !folio.is_large()
            && !folio.is_device_memory()
            && !folio.can_be_on_lru()
            && !folio.is_mapped()
            && folio.ref_count() == 1
    }
}

#[kunit_tests(rust_pipe_private)]
mod tests {
    use super::*;
    use crate::{
        bindings,
        pipe::{BufferFlag, OwnedPage},
    };

    fn buffer() -> Result<PipeBuffer> {
        PipeBuffer::from_page(OwnedPage::alloc(GFP_KERNEL)?, 0, 100)
    }

    /// Returns `buf` with other operations and flags. Their release must be `put_page`.
    fn with_ops(
        buf: PipeBuffer,
        ops: *const bindings::pipe_buf_operations,
        flags: u32,
    ) -> PipeBuffer {
        let raw = bindings::pipe_buffer {
            ops,
            flags,
            ..buf.into_raw()
        };
        // SAFETY: The buffer was taken apart above. The operations that the tests pass give back
        // one page reference, as those that the buffer had.
        unsafe { PipeBuffer::from_raw(raw) }
    }

    // The same page, with one reference, is private or not by the operations it came with. A page
    // of write(2) is private, also if write(2) could append to it.
    #[test]
    fn the_operations_decide() -> Result {
        assert!(buffer()?.is_private());
        let anon = with_ops(
            buffer()?,
            &raw const bindings::anon_pipe_buf_ops,
            BufferFlag::CanMerge as u32,
        );
        assert!(anon.is_private());
        let cache = with_ops(buffer()?, &raw const bindings::page_cache_pipe_buf_ops, 0);
        assert!(!cache.is_private());
        let socket = with_ops(buffer()?, &raw const bindings::nosteal_pipe_buf_ops, 0);
        assert!(!socket.is_private());
        // No flag makes a page private.
        let flags = BufferFlag::Gift as u32 | BufferFlag::Lru as u32 | BufferFlag::CanMerge as u32;
        let gift = with_ops(buffer()?, &raw const bindings::nosteal_pipe_buf_ops, flags);
        assert!(!gift.is_private());
        Ok(())
    }

    // Each half of a page that was split is shared, until the other half is gone.
    #[test]
    fn a_split_page_is_shared() -> Result {
        let mut rest = buffer()?;
        let first = rest.split_to(40)?;
        assert!(!first.is_private() && !rest.is_private());
        drop(rest);
        assert!(first.is_private());
        Ok(())
    }

    // A reference that no buffer has, such as that of a socket or of direct I/O.
    #[test]
    fn a_page_in_use_is_shared() -> Result {
        let buf = buffer()?;
        // SAFETY: `buf` keeps its page valid.
        unsafe { bindings::folio_get(bindings::page_folio(buf.page())) };
        let private = buf.is_private();
        // SAFETY: The reference was taken above.
        unsafe { bindings::put_page(buf.page()) };
        assert!(!private);
        assert!(buf.is_private());
        Ok(())
    }

    // One reference to a compound page says nothing about its other pages.
    #[test]
    fn a_compound_page_is_shared() -> Result {
        let flags = GFP_KERNEL.as_raw() | 1 << bindings::___GFP_COMP_BIT;
        // SAFETY: These flags are valid, and this may sleep.
        let page = unsafe { bindings::alloc_pages(flags, 1) };
        if page.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: The page was just allocated, and its only reference moves to the buffer.
        let buf = unsafe {
            PipeBuffer::from_raw(bindings::pipe_buffer {
                page,
                offset: 0,
                len: 100,
                ops: &raw const bindings::default_pipe_buf_ops,
                flags: 0,
                private: 0,
            })
        };
        assert_eq!(buf.folio().ref_count(), 1);
        assert!(!buf.is_private());
        Ok(())
    }
}
