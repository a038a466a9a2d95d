// SPDX-License-Identifier: GPL-2.0

//! Waiting for the device, with the pipe unlocked.

#![forbid(unsafe_code)]

use crate::{
    prelude::*,
    splice::interrupted,
    sync::{CondVar, Mutex},
};
use core::mem;

/// Returns whether `ready` is true for the data that `state` guards. If it is not, the caller waits.
///
/// Returns [`ERESTARTSYS`] if the caller has `waited` before and a signal is pending, and [`EAGAIN`]
/// if it has to wait and may not.
pub(super) fn is_ready<T>(
    state: &Mutex<T>,
    ready: &mut impl FnMut(&T) -> bool,
    waited: &mut bool,
    may_wait: bool,
) -> Result<bool> {
    if mem::replace(waited, true) && interrupted() {
        return Err(ERESTARTSYS);
    }
    if ready(&state.lock()) {
        return Ok(true);
    }
    if may_wait {
        Ok(false)
    } else {
        Err(EAGAIN)
    }
}

/// Waits until `ready` is true for the data that `state` guards. Fails with [`ERESTARTSYS`] if a
/// signal comes first.
pub(super) fn wait_until<T>(
    state: &Mutex<T>,
    changed: &CondVar,
    ready: &mut impl FnMut(&T) -> bool,
) -> Result {
    let mut state = state.lock();
    while !ready(&state) {
        if changed.wait_interruptible(&mut state) {
            return Err(ERESTARTSYS);
        }
    }
    Ok(())
}
