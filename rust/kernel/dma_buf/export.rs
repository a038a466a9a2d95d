// SPDX-License-Identifier: GPL-2.0

//! Exporting: memory becomes a dma-buf.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)

use super::{
    buf::{DmaBuf, Locked},
    cpu::{self, Access},
    link::Link,
    memory::{sealed::Sealed, Memory},
    table::{Mapping, Table},
};
use crate::{
    bindings,
    device::{Bound, Device},
    error::{from_err_ptr, from_result, VTABLE_DEFAULT_ERROR},
    module::this_module,
    page::PAGE_SIZE,
    prelude::*,
    scatterlist::AsSegments,
    sync::{aref::ARef, Arc},
    types::ForeignOwnable,
};
use core::{cell::UnsafeCell, marker::PhantomData, ptr::NonNull};

/// The owner of memory that becomes a dma-buf.
///
/// The value lives as long as the dma-buf: it is dropped when the last user of the dma-buf is gone,
/// whatever happened to the file descriptor and the task that made it. As long as it exists, its
/// module is not unloaded.
///
/// # Examples
///
/// A complete exporter, of one page that nothing else refers to:
///
/// ```
/// use kernel::{
///     dma_buf::{Access, DmaBuf, Exporter, Private},
///     page::PAGE_SIZE,
///     prelude::*,
///     splice::driver::{PrivatePages, WholePages},
///     sync::Arc, //
/// };
///
/// struct Frame {
///     memory: Private<PrivatePages>,
/// }
///
/// #[vtable]
/// impl Exporter for Frame {
///     type Memory = Private<PrivatePages>;
///     const NAME: &'static CStr = c"frame";
///
///     fn memory(&self) -> &Self::Memory {
///         &self.memory
///     }
/// }
///
/// let mut pages = WholePages::new();
/// pages.add_zeroed(1, GFP_KERNEL)?;
/// let pages = pages.into_private().map_err(|_pages| EINVAL)?;
/// let frame = Frame { memory: Private::new(Arc::new(pages, GFP_KERNEL)?) };
/// let buf = DmaBuf::export(frame).map_err(|(err, _frame)| err)?;
/// assert_eq!(buf.size(), PAGE_SIZE);
///
/// // The CPU may write to private memory.
/// buf.begin_cpu_access(Access::Write)?.end()?;
/// # Ok::<(), Error>(())
/// ```
#[vtable]
pub trait Exporter: Sized + Send + Sync + 'static {
    /// The kind of memory. It decides who may write to it.
    type Memory: Memory;

    /// The name of the exporter, which `/sys/kernel/debug/dma_buf/bufinfo` and
    /// `/proc/PID/fdinfo/FD` show.
    const NAME: &'static CStr;

    /// Returns the memory. This is called once, when the value is exported.
    fn memory(&self) -> &Self::Memory;

    /// Returns the [`Link`] by which the owner finds the dma-buf again. This is called when the
    /// value is exported.
    ///
    /// If this is not implemented, only those that have a reference find the dma-buf.
    fn link(&self) -> &Arc<Link> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Called when a device attaches. May sleep. An error refuses the device.
    ///
    /// If this is not implemented, every device can attach. [`Memory`] decides later whether the
    /// device can map the memory.
    fn attach(&self, _dev: &Device) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

type Owner<T> = <<T as Exporter>::Memory as Sealed>::Owner;

/// The private data of a dma-buf.
///
/// The exporter is dropped after the memory.
struct Exported<T: Exporter> {
    memory: T::Memory,
    exporter: T,
    /// The link to the dma-buf.
    link: Option<Arc<Link>>,
    /// The tables that are mapped. The lock of the reservation object protects the list.
    mappings: UnsafeCell<KVec<NonNull<Mapping<Owner<T>>>>>,
}

impl<T: Exporter> Exported<T> {
    /// Returns the tables that are mapped. `_lock` is the lock of this dma-buf.
    fn tables<'a>(&'a self, _lock: &'a Locked<'_>) -> impl Iterator<Item = &'a Table<Owner<T>>> {
        // SAFETY: The lock is held, so nothing changes the list.
        let mappings = unsafe { &*self.mappings.get() };
        mappings
            .iter()
            // SAFETY: A mapping is valid as long as it is in the list.
            .map(|mapping| unsafe { mapping.as_ref() }.table())
    }
}

impl DmaBuf {
    /// Creates a dma-buf of the memory of `exporter`. May sleep. C: `dma_buf_export`.
    ///
    /// Its file is open for reading and writing if the memory is [`Private`](super::Private),
    /// otherwise for reading.
    ///
    /// # Errors
    ///
    /// Each error is returned together with `exporter`.
    ///
    /// - [`EINVAL`]: there is no memory, or it does not consist of whole pages. Whoever maps a
    ///   dma-buf sees whole pages.
    /// - [`ENOMEM`], [`ENFILE`]: as for other files.
    /// - [`ENOENT`]: the module is being unloaded.
    pub fn export<T: Exporter>(exporter: T) -> Result<ARef<DmaBuf>, (Error, T)> {
        let memory = exporter.memory().share();
        let Some(size) = size_in_pages(memory.owner().as_ref()) else {
            return Err((EINVAL, exporter));
        };
        let room = match KBox::<Exported<T>>::new_uninit(GFP_KERNEL) {
            Ok(room) => room,
            Err(err) => return Err((err.into(), exporter)),
        };
        let link = if T::HAS_LINK {
            Some(exporter.link().clone())
        } else {
            None
        };
        let exported = KBox::write(
            room,
            Exported {
                memory,
                exporter,
                link,
                mappings: UnsafeCell::new(KVec::new()),
            },
        );
        let exported = exported.into_foreign();
        let mode = if T::Memory::WRITABLE {
            bindings::O_RDWR
        } else {
            bindings::O_RDONLY
        };
        let info = bindings::dma_buf_export_info {
            exp_name: T::NAME.as_char_ptr(),
            owner: this_module::<T::OwnerModule>().as_ptr(),
            ops: &raw const Callbacks::<T>::TABLE.0,
            size,
            // CAST: The mode has no sign.
            flags: mode as c_int,
            resv: core::ptr::null_mut(),
            priv_: exported,
        };
        // SAFETY: `info` is valid. The operations are static, and `priv_` is what they require.
        match from_err_ptr(unsafe { bindings::dma_buf_export(&raw const info) }) {
            Ok(raw) => {
                // SAFETY: The dma-buf is valid and its private data is an `Exported<T>`.
                if let Some(link) = &unsafe { Callbacks::<T>::of_buf(raw) }.0.link {
                    // SAFETY: `dma_buf_export` returned a dma-buf. `release` clears this link.
                    unsafe { link.set(NonNull::new_unchecked(raw)) };
                }
                // SAFETY: `dma_buf_export` returned the only reference.
                Ok(unsafe { Self::take(raw) })
            }
            Err(err) => {
                // SAFETY: The pointer comes from `into_foreign` above. No dma-buf was created, so
                // nothing else refers to it.
                let exported = unsafe { KBox::<Exported<T>>::from_foreign(exported) };
                Err((err, KBox::into_inner(exported).exporter))
            }
        }
    }
}

/// Returns the size of memory in bytes, or `None` if it is empty or not made of whole pages.
fn size_in_pages(memory: &impl AsSegments) -> Option<usize> {
    let mut size = 0;
    for segment in memory.segments() {
        if segment.frame().1 != 0 || segment.len() % PAGE_SIZE != 0 {
            return None;
        }
        size += segment.len();
    }
    (size > 0).then_some(size)
}

/// A constant `struct dma_buf_ops`.
struct Operations(bindings::dma_buf_ops);

// SAFETY: The table is constant and consists of function pointers.
unsafe impl Sync for Operations {}

/// The C functions that call the operations of [`Exporter`] and apply the rules of its [`Memory`].
struct Callbacks<T>(PhantomData<T>);

impl<T: Exporter> Callbacks<T> {
    const TABLE: &'static Operations = &Operations(bindings::dma_buf_ops {
        attach: if T::HAS_ATTACH {
            Some(Self::attach)
        } else {
            None
        },
        map_dma_buf: Some(Self::map_dma_buf),
        unmap_dma_buf: Some(Self::unmap_dma_buf),
        release: Some(Self::release),
        begin_cpu_access: Some(Self::begin_cpu_access),
        end_cpu_access: Some(Self::end_cpu_access),
        mmap: Some(Self::mmap),
        vmap: Some(Self::vmap),
        vunmap: Some(Self::vunmap),
        read_only: !T::Memory::WRITABLE,
        ..pin_init::zeroed()
    });

    /// Returns the private data of a dma-buf, and the dma-buf.
    ///
    /// # Safety
    ///
    /// `buf` must be a dma-buf of [`DmaBuf::export`] for `T` that lives for `'a`.
    unsafe fn of_buf<'a>(buf: *mut bindings::dma_buf) -> (&'a Exported<T>, &'a DmaBuf) {
        // SAFETY: The caller guarantees that the dma-buf is valid and that its private data is an
        // `Exported<T>`. Nothing has a mutable reference to it until `release`.
        unsafe { (&*(*buf).priv_.cast(), &*buf.cast()) }
    }

    /// Calls [`Exporter::attach`]. C: `->attach`.
    ///
    /// # Safety
    ///
    /// The pointers must be valid, and `buf` must be one of [`DmaBuf::export`] for `T`. C
    /// guarantees this.
    unsafe extern "C" fn attach(
        buf: *mut bindings::dma_buf,
        attachment: *mut bindings::dma_buf_attachment,
    ) -> c_int {
        // SAFETY: The caller guarantees that the pointers are valid. The device of an attachment is
        // set before this call.
        let (exported, dev) = unsafe { (Self::of_buf(buf).0, Device::from_raw((*attachment).dev)) };
        from_result(|| exported.exporter.attach(dev).map(|()| 0))
    }

    /// Maps the memory for the device of an attachment, by the rules of the memory. Returns
    /// [`ENODEV`] if no driver is bound to the device: an importer can be unbound while a program
    /// has one of its files open. C: `->map_dma_buf`.
    ///
    /// # Safety
    ///
    /// `attachment` must be one of a dma-buf of [`DmaBuf::export`] for `T`, and the lock of the
    /// reservation object must be held. C guarantees this. If a driver is bound to the device, it
    /// stays bound during the call, which the importer guarantees.
    unsafe extern "C" fn map_dma_buf(
        attachment: *mut bindings::dma_buf_attachment,
        _dir: bindings::dma_data_direction,
    ) -> *mut bindings::sg_table {
        // SAFETY: The caller guarantees that the attachment is valid.
        let (exported, raw_dev) =
            unsafe { (Self::of_buf((*attachment).dmabuf).0, (*attachment).dev) };
        // SAFETY: An attachment has a valid device.
        if !unsafe { bindings::device_is_bound(raw_dev) } {
            return ENODEV.to_ptr();
        }
        // SAFETY: The device is bound, and the caller guarantees that it stays so.
        let dev = unsafe { Device::<Bound>::from_raw(raw_dev) };
        let mapped = exported
            .memory
            .map(dev)
            .and_then(Mapping::new)
            .and_then(|mapping| {
                // SAFETY: The lock is held, so nothing else accesses the list.
                unsafe { &mut *exported.mappings.get() }
                    .reserve(1, GFP_KERNEL)
                    .map(|()| Mapping::into_raw(mapping))
                    .map_err(Error::from)
            });
        match mapped {
            Ok(raw) => {
                // SAFETY: The lock is held, so nothing else accesses the list. The pointer is that
                // of a box, so it is not null. There is room, so this does not fail.
                unsafe {
                    let _ = (*exported.mappings.get())
                        .push_within_capacity(NonNull::new_unchecked(raw.cast()));
                }
                raw
            }
            Err(err) => err.to_ptr(),
        }
    }

    /// Unmaps a table. C: `->unmap_dma_buf`.
    ///
    /// # Safety
    ///
    /// `table` must come from [`Self::map_dma_buf`] for the same attachment, and must not be used
    /// again. The lock of the reservation object must be held. C guarantees this.
    unsafe extern "C" fn unmap_dma_buf(
        attachment: *mut bindings::dma_buf_attachment,
        table: *mut bindings::sg_table,
        _dir: bindings::dma_data_direction,
    ) {
        // SAFETY: The caller guarantees that the attachment is valid. The lock is held, so nothing
        // else accesses the list.
        let mappings = unsafe { &mut *Self::of_buf((*attachment).dmabuf).0.mappings.get() };
        mappings.retain(|mapping| mapping.as_ptr().cast() != table);
        // SAFETY: The caller guarantees that the table comes from `map_dma_buf` and is not used
        // again. It is not in the list any more.
        drop(unsafe { Mapping::<Owner<T>>::from_raw(table) });
    }

    /// Drops the exporter. C: `->release`.
    ///
    /// # Safety
    ///
    /// `buf` must be a dma-buf of [`DmaBuf::export`] for `T` that has no user any more. C
    /// guarantees this.
    unsafe extern "C" fn release(buf: *mut bindings::dma_buf) {
        // SAFETY: The dma-buf is valid during this call.
        if let Some(link) = &unsafe { Self::of_buf(buf) }.0.link {
            link.clear();
        }
        // SAFETY: The private data comes from `into_foreign` in `export`, and nothing uses it any
        // more.
        drop(unsafe { KBox::<Exported<T>>::from_foreign((*buf).priv_) });
    }

    /// Returns [`EACCES`] if the memory is for reading only and `access` is for writing.
    fn check(access: Access) -> Result {
        if access == Access::Write && !T::Memory::WRITABLE {
            return Err(EACCES);
        }
        Ok(())
    }

    /// Waits for fences, and makes the CPU see what devices have written. C: `->begin_cpu_access`.
    ///
    /// # Safety
    ///
    /// `buf` must be a dma-buf of [`DmaBuf::export`] for `T`, and the lock of the reservation
    /// object must not be held. C guarantees this.
    unsafe extern "C" fn begin_cpu_access(
        buf: *mut bindings::dma_buf,
        dir: bindings::dma_data_direction,
    ) -> c_int {
        // SAFETY: The caller guarantees that the dma-buf is valid.
        let (exported, buf) = unsafe { Self::of_buf(buf) };
        let access = Access::of_direction(dir);
        from_result(|| {
            Self::check(access)?;
            // C waits after this call, which is too late: the caches would be invalidated before
            // the device has written.
            buf.wait(access, true)?;
            let lock = buf.lock();
            exported
                .tables(&lock)
                .for_each(|table| table.sync_for_cpu());
            Ok(0)
        })
    }

    /// Makes devices see what the CPU has written. C: `->end_cpu_access`.
    ///
    /// If it has only read, devices have nothing to see. Where the kernel copies for a device, a
    /// copy back would replace what the device wrote meanwhile.
    ///
    /// # Safety
    ///
    /// The same as for [`Self::begin_cpu_access`].
    unsafe extern "C" fn end_cpu_access(
        buf: *mut bindings::dma_buf,
        dir: bindings::dma_data_direction,
    ) -> c_int {
        // SAFETY: The caller guarantees that the dma-buf is valid.
        let (exported, buf) = unsafe { Self::of_buf(buf) };
        from_result(|| {
            let access = Access::of_direction(dir);
            Self::check(access)?;
            if access == Access::Write {
                let lock = buf.lock();
                exported
                    .tables(&lock)
                    .for_each(|table| table.sync_for_device());
            }
            Ok(0)
        })
    }

    /// Maps the memory for user space, by the rules of the memory. C: `->mmap`.
    ///
    /// # Safety
    ///
    /// `buf` must be a dma-buf of [`DmaBuf::export`] for `T`. `vma` must be in its initial setup,
    /// within the size of the dma-buf, and must refer to the file of the dma-buf. C guarantees
    /// this.
    unsafe extern "C" fn mmap(
        buf: *mut bindings::dma_buf,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The caller guarantees that the dma-buf is valid.
        let (exported, _) = unsafe { Self::of_buf(buf) };
        from_result(|| {
            // SAFETY: The caller guarantees that `vma` is in its initial setup and within the
            // memory. It holds the file of the dma-buf, which keeps the memory valid.
            unsafe { cpu::mmap(&exported.memory, vma) }.map(|()| 0)
        })
    }

    /// Maps the memory for the kernel, by the rules of the memory. C: `->vmap`.
    ///
    /// # Safety
    ///
    /// `buf` must be a dma-buf of [`DmaBuf::export`] for `T`, and `map` must be valid. C guarantees
    /// this.
    unsafe extern "C" fn vmap(buf: *mut bindings::dma_buf, map: *mut bindings::iosys_map) -> c_int {
        // SAFETY: The caller guarantees that the dma-buf is valid.
        let (exported, _) = unsafe { Self::of_buf(buf) };
        from_result(|| {
            let addr = cpu::vmap(&exported.memory)?;
            // SAFETY: The caller guarantees that `map` is valid. C: `iosys_map_set_vaddr`.
            unsafe {
                (*map).__bindgen_anon_1.vaddr = addr.as_ptr();
                (*map).is_iomem = false;
            }
            Ok(0)
        })
    }

    /// Unmaps a mapping of [`Self::vmap`]. C: `->vunmap`.
    ///
    /// # Safety
    ///
    /// `map` must be a mapping of [`Self::vmap`] that is not used again. C guarantees this.
    unsafe extern "C" fn vunmap(_buf: *mut bindings::dma_buf, map: *mut bindings::iosys_map) {
        // SAFETY: The caller guarantees that the address comes from `vmap`, which sets `vaddr`.
        unsafe { bindings::vunmap((*map).__bindgen_anon_1.vaddr) };
    }
}
