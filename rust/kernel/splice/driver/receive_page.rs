// SPDX-License-Identifier: GPL-2.0

//! Pages of a driver that go into a pipe and return to the driver when their last reader is done.

use crate::{
    alloc::Flags,
    bindings,
    folio::Folio,
    page::PAGE_SIZE,
    pipe::{BufferFlag, OpsTable, OwnedPage, PipeBuffer, PipeBufferOps, Provenance},
    prelude::*,
    scatterlist::{AsSegments, AsSegmentsMut, Segment},
    sync::{
        atomic::ordering::Relaxed,
        Refcount, //
    },
    ModuleMetadata, //
};
use core::{iter, ptr::NonNull};

/// The owner of [`ReceivePage`]s: a pool, or another object of a driver.
///
/// The task that drops the last buffer of a page calls these functions. This may be any task, with
/// or without a pipe locked. The functions may sleep, but must not wait for a transfer.
#[vtable]
pub trait PageOwner: Sized + Send + Sync + 'static {
    /// Takes a page back. Its last reader is done and nothing else refers to it, so it can be used
    /// again.
    fn release(page: KBox<ReceivePage<Self>>);

    /// Notes that a page will not return. Its last buffer is gone, but something else still refers
    /// to the page, for example a socket that may have to send it again. The page is freed when the
    /// last reference is dropped.
    fn lost(self) {
        drop(self);
    }
}

/// A page of a driver that can become a buffer of a pipe.
///
/// A device writes to the page by DMA, for which the driver makes an
/// [`SGTable`](crate::scatterlist::SGTable) of it. Then the driver turns the page into a
/// [buffer](Self::into_buffer). When the last reader is done with the buffer and its copies,
/// [`PageOwner::release`] gets the page back.
///
/// While the page is in a pipe nothing can take it over or write to it.
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     splice::driver::{PageOwner, ReceivePage},
///     sync::{atomic::{ordering::Relaxed, Atomic}, Arc}, //
/// };
///
/// struct Pool(Arc<Atomic<usize>>);
///
/// #[vtable]
/// impl PageOwner for Pool {
///     fn release(page: KBox<ReceivePage<Self>>) {
///         page.owner().0.add(1, Relaxed);
///     }
/// }
///
/// let released = Arc::new(Atomic::new(0), GFP_KERNEL)?;
/// let page = ReceivePage::new(Pool(released.clone()), GFP_KERNEL)?;
/// let mut buf = ReceivePage::into_buffer(page, 0, 100).map_err(|_| EINVAL)?;
/// let copy = buf.try_clone()?;
/// drop(buf);
/// assert_eq!(released.load(Relaxed), 0);
/// drop(copy);
/// assert_eq!(released.load(Relaxed), 1);
/// # Ok::<(), Error>(())
/// ```
// The header is the first field, so that a pointer to it is also a pointer to the whole.
#[repr(C)]
pub struct ReceivePage<T> {
    header: Header,
    owner: T,
}

/// The part of a page that does not depend on the type of its owner.
///
/// # Invariants
///
/// While there are buffers, `refs` is their number. The buffers share the ownership of the
/// allocation and of one reference to `module`, which keeps `release` in memory.
struct Header {
    /// The number of buffers.
    refs: Refcount,
    page: OwnedPage,
    /// The module of the owner, or null if it is built in.
    module: *mut bindings::module,
    /// Gives the page back to its owner. The argument tells whether the page can be used again.
    release: unsafe fn(NonNull<Header>, bool),
}

// SAFETY: `module` is a pointer to a module, which any task may release. The other fields are
// `Send`.
unsafe impl Send for Header {}
// SAFETY: The count is atomic, nothing writes to the page while it is shared, and the other fields
// do not change.
unsafe impl Sync for Header {}

impl<T: PageOwner> ReceivePage<T> {
    /// Allocates a zeroed page. May sleep if `flags` allow it.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub fn new(owner: T, flags: Flags) -> Result<KBox<Self>> {
        let header = Header {
            refs: Refcount::new(0),
            page: OwnedPage::alloc(flags)?,
            module: T::OwnerModule::THIS_MODULE.as_ptr(),
            release: Self::release,
        };
        Ok(KBox::new(Self { header, owner }, flags)?)
    }

    /// Returns the owner.
    #[inline]
    pub fn owner(&self) -> &T {
        &self.owner
    }

    /// Copies `bytes` to the beginning of the page, as many as fit. Returns their number. For
    /// devices without DMA.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.header.page.write(bytes)
    }

    /// Turns the page into a buffer of `len` bytes at `offset`. As long as the buffer exists, the
    /// module of the owner cannot be unloaded.
    ///
    /// Returns `Err(this)` if the bytes are not all within the page, or if the module is being
    /// unloaded.
    pub fn into_buffer(this: KBox<Self>, offset: u32, len: u32) -> Result<PipeBuffer, KBox<Self>> {
        if offset as usize > PAGE_SIZE || len as usize > PAGE_SIZE - offset as usize {
            return Err(this);
        }
        let module = this.header.module;
        // SAFETY: `module` is the module that calls this function, so it is valid. Null stands for
        // code that is built in, and is not passed.
        if !module.is_null() && !unsafe { bindings::try_module_get(module) } {
            return Err(this);
        }
        this.header.refs.set(1);
        let page = this.header.page.as_ptr();
        let header = KBox::into_raw(this).cast::<Header>();
        // SAFETY: The bytes are within the page, as checked above. The allocation keeps the page
        // alive, and its ownership moves to the buffer, for which `refs` counts 1.
        Ok(unsafe {
            PipeBuffer::from_raw(bindings::pipe_buffer {
                page,
                offset,
                len,
                ops: RECEIVED.as_raw(),
                flags: BufferFlag::RustOps as u32,
                private: header as usize,
            })
        })
    }

    /// Gives the page back to its owner, or notes that it is lost.
    ///
    /// # Safety
    ///
    /// `header` must be the header of a `ReceivePage<T>` that [`Self::into_buffer`] took out of its
    /// box, and there must be no buffers any more.
    unsafe fn release(header: NonNull<Header>, reusable: bool) {
        // SAFETY: The caller guarantees that the header belongs to a `ReceivePage<T>`, that it came
        // out of a `KBox`, and that there are no buffers. So nothing else refers to it.
        let this = unsafe { KBox::from_raw(header.as_ptr().cast::<Self>()) };
        if reusable {
            T::release(this);
        } else {
            KBox::into_inner(this).owner.lost();
        }
    }
}

// SAFETY: The page does not move if the box is moved, it is ordinary memory, and it is freed with
// the box.
unsafe impl<T: PageOwner> AsSegments for KBox<ReceivePage<T>> {
    type Iter<'a> = iter::Once<Segment<'a>>;

    fn segments(&self) -> Self::Iter<'_> {
        let page = self.header.page.as_ptr();
        // SAFETY: The segment is one whole page, which is valid as long as `self` is borrowed.
        iter::once(unsafe { Segment::new(NonNull::new_unchecked(page), 0, PAGE_SIZE) })
    }
}

// SAFETY: The box owns the page. While the page is in its box there are no buffers, and by
// `PageOwner::release` nothing else refers to it.
unsafe impl<T: PageOwner> AsSegmentsMut for KBox<ReceivePage<T>> {}

/// The operations of buffers of driver pages.
struct Received;

#[vtable]
impl PipeBufferOps for Received {
    const PROVENANCE: Provenance = Provenance::Device;
}

/// The table for buffers of driver pages. There is one for all drivers. It is built in, so it is
/// not part of a module that it releases.
static RECEIVED: OpsTable<Received> =
    // SAFETY: For buffers that `ReceivePage::into_buffer` made, `release` gives back the share in
    // the allocation that a buffer owns, and `get` takes another one.
    unsafe { OpsTable::with_references(release, get) };

/// Gives back the share of a buffer in the allocation. The last one returns the page to its owner.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`RECEIVED`], and must not be used again. C
/// guarantees this.
unsafe extern "C" fn release(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) {
    // SAFETY: The caller guarantees that `buf` is valid, so `private` points to the header of a
    // page of which the buffer owns a share.
    let header = unsafe { NonNull::new_unchecked((*buf).private as *mut Header) };
    // SAFETY: The header is valid, because the share of the buffer keeps the allocation alive.
    let this = unsafe { header.as_ref() };
    if !this.refs.dec_and_test() {
        return;
    }
    let (module, release) = (this.module, this.release);
    // SAFETY: The header owns the page, which is valid until the call of `release` below.
    let folio = unsafe { Folio::of_page(this.page.as_ptr()) };
    // New references to the page can only be taken through a buffer or through another reference.
    // There is no buffer any more, so if the count is 1 now, it stays 1.
    let reusable = folio.ref_count() == 1;
    // SAFETY: This was the last buffer, so nothing else refers to the allocation. The code of
    // `release` is in the module, whose reference is given back afterwards.
    unsafe {
        release(header, reusable);
        if !module.is_null() {
            bindings::module_put(module);
        }
    }
}

/// Takes another share in the allocation. Returns `false` if there are too many.
///
/// # Safety
///
/// `buf` must be a valid buffer with the operations of [`RECEIVED`]. C guarantees this.
unsafe extern "C" fn get(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: The caller guarantees that `buf` is valid, so `private` points to the header of a
    // page of which the buffer owns a share.
    let header = unsafe { &*((*buf).private as *const Header) };
    // The limit is far from overflow, so that concurrent calls cannot overflow the count either.
    if header.refs.as_atomic().load(Relaxed) >= i32::MAX / 2 {
        return false;
    }
    header.refs.inc();
    true
}
