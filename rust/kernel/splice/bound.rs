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
/// While `device` is not `None` it is bound: it becomes `None` by [`Self::end`], or else when
/// devres releases what was registered, which is before the device is unbound.
#[pin_data]
pub struct WhileBound {
    #[pin]
    device: Mutex<Option<ARef<Device>>>,
}

/// What devres drops.
struct Unbind(Arc<WhileBound>);

impl Drop for Unbind {
    fn drop(&mut self) {
        self.0.end();
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

    /// The driver is about to leave the device: returns when nobody is in [`Self::with`], and
    /// nobody will be. To be called in `unbind`: what is registered while devres releases is not
    /// released any more.
    pub fn end(&self) {
        *self.device.lock() = None;
    }

    /// Runs `f` on the device, which stays bound meanwhile. One caller after the other, so `f` does
    /// not come back here, nor drop what does. May sleep.
    ///
    /// Fails with [`ENODEV`] once the device has no driver any more.
    pub fn with<R>(&self, f: impl FnOnce(&Device<Bound>) -> R) -> Result<R> {
        let device = self.device.lock();
        let device = device.as_ref().ok_or(ENODEV)?;
        // SAFETY: By the type invariant it is bound, and devres waits for the lock.
        Ok(f(unsafe { device.as_bound() }))
    }
}
