// SPDX-License-Identifier: GPL-2.0

//! Work items that must not run any more.
//!
//! A driver calls these functions before its object ends, so that no code of its module runs
//! afterwards.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::{
    bindings,
    sync::Arc,
    workqueue::{HasDelayedWork, HasWork, Work, WorkItem}, //
};

/// Disables the work item of `this`: takes it out of its queue, and waits until it does not run.
/// Later attempts to queue it fail. May sleep. C: `disable_work_sync`.
///
/// A work item must not disable itself.
pub fn disable<T, const ID: u64>(this: &Arc<T>)
where
    T: HasWork<T, ID> + WorkItem<ID, Pointer = Arc<T>>,
{
    let ptr = Arc::as_ptr(this);
    // SAFETY: `this` keeps the object alive. A work item in an object is initialized.
    let queued = unsafe {
        let work = T::raw_get_work(ptr.cast_mut());
        bindings::disable_work_sync(Work::raw_get(work))
    };
    if queued {
        // SAFETY: The item was in a queue, so `Queue::enqueue` had turned an `Arc` of this object
        // into a pointer, which the work function does not take any more.
        drop(unsafe { Arc::from_raw(ptr) });
    }
}

/// Disables the delayed work item of `this`. Otherwise the same as [`disable`]. C:
/// `disable_delayed_work_sync`.
pub fn disable_delayed<T, const ID: u64>(this: &Arc<T>)
where
    T: HasDelayedWork<T, ID> + WorkItem<ID, Pointer = Arc<T>>,
{
    let ptr = Arc::as_ptr(this);
    // SAFETY: `this` keeps the object alive. By `HasDelayedWork` the item is the field `work` of a
    // `struct delayed_work`, which is initialized.
    let queued = unsafe {
        let work = Work::raw_get(T::raw_get_work(ptr.cast_mut()));
        bindings::disable_delayed_work_sync(crate::container_of!(
            work,
            bindings::delayed_work,
            work
        ))
    };
    if queued {
        // SAFETY: The item was in a queue, so `Queue::enqueue_delayed` had turned an `Arc` of this
        // object into a pointer, which the work function does not take any more.
        drop(unsafe { Arc::from_raw(ptr) });
    }
}
