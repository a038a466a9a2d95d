// SPDX-License-Identifier: GPL-2.0

//! Pages of a driver, that readers of a pipe get to see and that come back to the driver.

use crate::{
    alloc::Flags,
    bindings,
    folio::Folio,
    page::PAGE_SIZE,
    pipe::{OpsTable, OwnedPage, PipeBuffer, PipeBufferOps, Provenance},
    prelude::*,
    scatterlist::{AsSegments, AsSegmentsMut, Segment},
    sync::{
        atomic::ordering::Relaxed,
        Refcount, //
    },
    ModuleMetadata, //
};
use core::{iter, ptr::NonNull};

/// Whose pages a [`ReceivePage`] is one of.
///
/// Both functions are called by whoever drops the last buffer, which may be any task, with or
/// without pipes locked. They may sleep, but do not wait for a transfer.
#[vtable]
pub trait PageOwner: Sized + Send + Sync + 'static {
    /// The last reader is done, and nobody else refers to the page: it can be used again.
    fn release(page: KBox<ReceivePage<Self>>);

    /// The last buffer is gone, but somebody still refers to the page, such as a socket that has to
    /// send it, maybe again. It is freed when they let go of it, and the driver has one less.
    fn lost(self) {
        drop(self);
    }
}

/// A page of a driver. A device writes to it by DMA: an
/// [`SGTable`](crate::scatterlist::SGTable) can be made of it. Then it becomes a
/// [buffer](Self::into_buffer), and when the last reader is done with that and its copies it comes
/// back by [`PageOwner::release`].
///
/// Nobody else can take it over: it is neither stolen nor written to.
///
/// # Examples
///
/// ```
/// use kernel::{
///     prelude::*,
///     splice::{PageOwner, ReceivePage},
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
// The header comes first, so that a pointer to it is one to the whole.
#[repr(C)]
pub struct ReceivePage<T> {
    header: Header,
    owner: T,
}

/// What is there whatever the owner's type is.
///
/// # Invariants
///
/// While there are buffers, `refs` is their number, each owns a part of the allocation, and of the
/// reference to `module`, which keeps `release` in memory.
struct Header {
    refs: Refcount,
    page: OwnedPage,
    module: *mut bindings::module,
    /// Gives the page back; `bool`: it can be used again.
    release: unsafe fn(NonNull<Header>, bool),
}

// SAFETY: `module` is only a number as far as others are concerned.
unsafe impl Send for Header {}
// SAFETY: As above; the count is atomic, and the page is not written to while it is shared.
unsafe impl Sync for Header {}

impl<T: PageOwner> ReceivePage<T> {
    /// Allocates a page, zeroed. Fails with [`ENOMEM`].
    pub fn new(owner: T, flags: Flags) -> Result<KBox<Self>> {
        let header = Header {
            refs: Refcount::new(0),
            page: OwnedPage::alloc(flags)?,
            module: T::OwnerModule::THIS_MODULE.as_ptr(),
            release: Self::release,
        };
        Ok(KBox::new(Self { header, owner }, flags)?)
    }

    /// The owner.
    #[inline]
    pub fn owner(&self) -> &T {
        &self.owner
    }

    /// Writes `bytes` to the beginning of the page, as many as there is room for; says how many.
    /// For devices without DMA.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.header.page.write(bytes)
    }

    /// A buffer of `len` bytes at `offset`. Keeps the owner's module from being unloaded.
    ///
    /// Gives the page back where these are not all in it, or where the module is being unloaded.
    pub fn into_buffer(this: KBox<Self>, offset: u32, len: u32) -> Result<PipeBuffer, KBox<Self>> {
        if offset as usize > PAGE_SIZE || len as usize > PAGE_SIZE - offset as usize {
            return Err(this);
        }
        let module = this.header.module;
        // SAFETY: The module is the one that calls this, or null for what is built in.
        if !module.is_null() && !unsafe { bindings::try_module_get(module) } {
            return Err(this);
        }
        this.header.refs.set(1);
        let page = this.header.page.as_ptr();
        let header = KBox::into_raw(this).cast::<Header>();
        // SAFETY: The bytes are within the page, and the allocation keeps the page.
        Ok(unsafe {
            PipeBuffer::received(
                page,
                offset,
                len,
                RECEIVED.as_raw(),
                header.cast::<c_void>(),
            )
        })
    }

    /// # Safety
    ///
    /// `header` is that of a `ReceivePage<T>` that [`Self::into_buffer`] has taken from its box.
    /// There are no buffers any more.
    unsafe fn release(header: NonNull<Header>, reusable: bool) {
        // SAFETY: By the caller's promise.
        let this = unsafe { KBox::from_raw(header.as_ptr().cast::<Self>()) };
        if reusable {
            T::release(this);
        } else {
            KBox::into_inner(this).owner.lost();
        }
    }
}

// SAFETY: The page stays where it is, and is freed with the box.
unsafe impl<T: PageOwner> AsSegments for KBox<ReceivePage<T>> {
    type Iter<'a> = iter::Once<Segment<'a>>;

    fn segments(&self) -> Self::Iter<'_> {
        let page = self.header.page.as_ptr();
        // SAFETY: The whole of a page, which is there as long as `self`.
        iter::once(unsafe { Segment::new(NonNull::new_unchecked(page), 0, PAGE_SIZE) })
    }
}

// SAFETY: Nobody else has the page while it is in its box.
unsafe impl<T: PageOwner> AsSegmentsMut for KBox<ReceivePage<T>> {}

/// Buffers of a driver's pages.
struct Received;

#[vtable]
impl PipeBufferOps for Received {
    const PROVENANCE: Provenance = Provenance::Device;
}

/// What identifies them. One table for all drivers, and built in, so that it is not in the module
/// that it lets go of.
static RECEIVED: OpsTable<Received> =
    // SAFETY: Both do as they have to, for buffers made by `ReceivePage::into_buffer`.
    unsafe { OpsTable::with_references(release, get) };

/// # Safety
///
/// As C calls it: `buf` is a valid buffer of these operations, and not used again.
unsafe extern "C" fn release(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) {
    // SAFETY: By the caller's promise the buffer has a part in the allocation.
    let header = unsafe { NonNull::new_unchecked((*buf).private as *mut Header) };
    // SAFETY: As above.
    let this = unsafe { header.as_ref() };
    if !this.refs.dec_and_test() {
        return;
    }
    let (module, release) = (this.module, this.release);
    // SAFETY: The page is valid.
    let folio = unsafe { Folio::of_page(this.page.as_ptr()) };
    // Whoever had it from a buffer, and has a reference of its own, had that before the last
    // buffer was dropped: once this is the only one no other can come from it.
    let reusable = folio.ref_count() == 1;
    // SAFETY: That was the last buffer. The module is not used after its reference is given back.
    unsafe {
        release(header, reusable);
        if !module.is_null() {
            bindings::module_put(module);
        }
    }
}

/// # Safety
///
/// As C calls it: `buf` is a valid buffer of these operations.
unsafe extern "C" fn get(
    _pipe: *mut bindings::pipe_inode_info,
    buf: *mut bindings::pipe_buffer,
) -> bool {
    // SAFETY: By the caller's promise; the buffer has a part in the allocation, so it is there.
    let header = unsafe { &*((*buf).private as *const Header) };
    // Far from overflow, whatever others are about to add.
    if header.refs.as_atomic().load(Relaxed) >= i32::MAX / 2 {
        return false;
    }
    header.refs.inc();
    true
}
