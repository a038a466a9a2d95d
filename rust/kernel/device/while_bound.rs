// SPDX-License-Identifier: GPL-2.0

//! Access to a device as long as it is bound to its driver.

use crate::{
    device::{Bound, Device},
    devres,
    prelude::*,
    sync::{aref::ARef, new_mutex, Arc, Mutex},
};

/// A device that can be used in contexts that do not prove that it is bound, such as a file
/// operation. A file may stay open after the driver has left the device.
///
/// [`Devres`](crate::devres::Devres) does the same for operations that do not sleep. This type is
/// for operations that may sleep, such as mapping memory for DMA.
///
/// # Locking
///
/// [`Self::with`] holds a mutex while it runs its closure. [`Self::end`] takes the same mutex, and
/// so does devres when the device is unbound. Both wait until the closure has returned.
///
/// # Invariants
///
/// If `device` is not `None`, the device is bound. It becomes `None` in [`Self::end`], or else when
/// devres releases the entry that [`Self::new`] registered, which happens before the device is
/// unbound.
///
/// # Examples
///
/// ```
/// use kernel::{
///     device::{Bound, Device, WhileBound},
///     prelude::*,
///     scatterlist::{Owned, SGTable},
///     splice::driver::{FromPipe, PipeBuffers},
///     sync::Arc, //
/// };
///
/// /// The part of the driver's data that open files use, also after the driver has left.
/// struct Shared {
///     device: Arc<WhileBound>,
/// }
///
/// impl Shared {
///     /// Called in probe.
///     fn new(dev: &Device<Bound>) -> Result<Self> {
///         Ok(Self { device: WhileBound::new(dev)? })
///     }
///
///     /// Maps the data of a pipe. Returns [`ENODEV`] if the driver has left the device, without
///     /// taking data out of the pipe.
///     fn map(&self, from: &mut FromPipe<'_>) -> Result<Pin<KBox<SGTable<Owned<PipeBuffers>>>>> {
///         self.device.with(|dev| {
///             let taken = PipeBuffers::take(from, 64, GFP_KERNEL)?;
///             SGTable::map(dev, taken, GFP_KERNEL).map_err(|(err, taken)| {
///                 taken.put_back(from);
///                 err
///             })
///         })?
///     }
///
///     /// Called in unbind, before the memory that is mapped is dropped.
///     fn unbind(&self) {
///         self.device.end();
///     }
/// }
/// ```
#[pin_data]
pub struct WhileBound {
    #[pin]
    device: Mutex<Option<ARef<Device>>>,
}

/// The devres entry. Dropping it ends the access to the device.
struct Unbind(Arc<WhileBound>);

impl Drop for Unbind {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl WhileBound {
    /// Creates an object for `dev`, which is bound now. May sleep.
    ///
    /// Returns [`ENOMEM`] if there is no memory.
    pub fn new(dev: &Device<Bound>) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            pin_init!(Self {
                device <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        devres::register(dev, Unbind(this.clone()), GFP_KERNEL)?;
        // INVARIANT: The device is bound, and the entry that was registered above sets this to
        // `None` before it is unbound.
        *this.device.lock() = Some(dev.into());
        Ok(this)
    }

    /// Ends the access to the device: waits until no [`Self::with`] is running, and makes later
    /// ones fail. May sleep. Idempotent.
    ///
    /// A driver calls this in `unbind`, before devres releases its entries: an entry that the
    /// closure of a running [`Self::with`] registers during that release would never be released.
    pub fn end(&self) {
        *self.device.lock() = None;
    }

    /// Runs `f` on the device, which stays bound until `f` returns. May sleep.
    ///
    /// Calls are serialized. `f` must not call this function for the same device, or drop an object
    /// whose destructor does, since that would deadlock.
    ///
    /// Returns [`ENODEV`] if the device has no driver any more.
    pub fn with<R>(&self, f: impl FnOnce(&Device<Bound>) -> R) -> Result<R> {
        let device = self.device.lock();
        let device = device.as_ref().ok_or(ENODEV)?;
        // SAFETY: By the type invariant the device is bound. It stays bound while the lock is held,
        // since devres takes the lock before the device is unbound.
        Ok(f(unsafe { device.as_bound() }))
    }
}
