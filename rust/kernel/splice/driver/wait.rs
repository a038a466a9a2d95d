// SPDX-License-Identifier: GPL-2.0

//! Waiting for the device, with the pipe unlocked.
//!
//! [`FromPipe::wait`](super::FromPipe::wait) and [`ToPipe::wait`](super::ToPipe::wait) look at the
//! condition twice: first with the pipe locked, since most calls need not wait; then, with the pipe
//! unlocked, until it is true. The state's mutex nests inside the pipe's in the first look, and the
//! driver takes it alone otherwise, so the order is always the same.
//!
//! The first wait of a call looks at the condition before signals, so that a driver that need not
//! wait goes on, as `read(2)` does. Each further wait looks at signals first: a driver that waits
//! in a loop can then be interrupted, even if the condition is always true.

#![forbid(unsafe_code)]

use crate::{
    prelude::*,
    splice::interrupted,
    sync::{CondVar, Mutex},
};
use core::mem;

/// Returns whether `ready` is true for the data that `state` guards. If it is not, the caller
/// waits.
///
/// Returns [`ERESTARTSYS`] if the caller has `waited` before and a signal is pending, and
/// [`EAGAIN`] if it has to wait and may not.
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
///
/// Gives up the mutex of `state` while it sleeps. Takes it again to look at the condition, which
/// may have become false for another reason, so a notification alone does not end the wait.
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
