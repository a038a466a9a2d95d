// SPDX-License-Identifier: GPL-2.0

//! A device, for as long as it has a driver.

use crate::{
    device::{Bound, Device},
    devres,
    prelude::*,
    sync::{aref::ARef, new_mutex, Arc, Mutex},
};

/// A device that can be used where nothing else says that it is bound to its driver, as in a file
/// operation: the file may be open for longer.
///
/// [`Devres`](crate::devres::Devres) is for what does not sleep; this is for what may, such as to
/// map memory for DMA.
///
/// # Invariants
///
/// While `device` is not `None` it is bound: it becomes `None` when devres releases what was
/// registered last, before the device is unbound.
#[pin_data]
pub struct WhileBound {
    #[pin]
    device: Mutex<Option<ARef<Device>>>,
}

/// What devres drops.
struct Unbind(Arc<WhileBound>);

impl Drop for Unbind {
    fn drop(&mut self) {
        // Waits for whoever is using it.
        *self.0.device.lock() = None;
    }
}

impl WhileBound {
    /// Begins with a device that is bound. Fails with [`ENOMEM`].
    pub fn new(dev: &Device<Bound>) -> Result<Arc<Self>> {
        let this = Arc::pin_init(
            pin_init!(Self {
                device <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        devres::register(dev, Unbind(this.clone()), GFP_KERNEL)?;
        // INVARIANT: From here on, it is for devres to make this `None`.
        *this.device.lock() = Some(dev.into());
        Ok(this)
    }

    /// Runs `f` on the device, which stays bound meanwhile. One caller after the other; may sleep.
    ///
    /// Fails with [`ENODEV`] once the device has no driver any more.
    pub fn with<R>(&self, f: impl FnOnce(&Device<Bound>) -> R) -> Result<R> {
        let device = self.device.lock();
        let device = device.as_ref().ok_or(ENODEV)?;
        // SAFETY: By the type invariant it is bound, and devres waits for the lock.
        Ok(f(unsafe { device.as_bound() }))
    }
}
