// SPDX-License-Identifier: GPL-2.0

//! The list of audited consumers in C, for `/sys/kernel/debug/splice/sinks`.
//!
//! A consumer is listed when the kernel learns of it: a protocol when it is registered, a file when
//! it is first opened for writing, and an actor when it first takes data. A consumer in Rust has no
//! entry: its type is the audit.

use super::policy::Kind;
use crate::{
    bindings,
    pipe::FunctionAddr,
    prelude::*,
    sync::atomic::{ordering::Relaxed, Atomic},
};

/// A set of up to `N` functions. Functions are added only, without a lock.
pub(super) struct FunctionSet<const N: usize>([Atomic<usize>; N]);

impl<const N: usize> FunctionSet<N> {
    /// Creates an empty set.
    pub(super) const fn new() -> Self {
        Self([const { Atomic::new(0) }; N])
    }

    /// Adds a function. Returns whether it is new. Functions beyond the first `N` are never added,
    /// and never new. Does not sleep.
    pub(super) fn insert(&self, function: FunctionAddr) -> bool {
        let addr = function.addr();
        if function == FunctionAddr::NONE {
            return false;
        }
        for slot in &self.0 {
            let mut seen = slot.load(Relaxed);
            if seen == 0 {
                match slot.cmpxchg(0, addr, Relaxed) {
                    Ok(_) => return true,
                    Err(other) => seen = other,
                }
            }
            if seen == addr {
                return false;
            }
        }
        false
    }

    /// Returns the functions, in the order in which they were added.
    fn iter(&self) -> impl Iterator<Item = FunctionAddr> + '_ {
        self.0
            .iter()
            .map(|slot| FunctionAddr::new(slot.load(Relaxed)))
            .take_while(|function| *function != FunctionAddr::NONE)
    }
}

/// The kinds of consumers, in the order of [`Kind`].
const KINDS: [&str; 3] = ["socket", "file", "actor"];

static AUDITED: [FunctionSet<64>; KINDS.len()] = [const { FunctionSet::new() }; KINDS.len()];

/// Lists an audited consumer. Does not sleep.
///
/// There is room for the first 64 consumers of each kind. Further ones are not listed.
pub fn list(kind: Kind, function: FunctionAddr) {
    if let Some(set) = AUDITED.get(kind as usize) {
        set.insert(function);
    }
}

/// Returns the audited consumers that were listed: the kind, and the function that gets the pages.
///
/// Functions of modules that were unloaded are left out. If a module is loaded to the same address
/// later, its function appears instead.
///
/// # Examples
///
/// ```
/// use kernel::{pipe::FunctionAddr, splice::sinks};
///
/// // TCP is registered at boot.
/// # #[cfg(CONFIG_INET)]
/// assert!(sinks::listed().any(|(kind, _)| kind == "socket"));
/// assert!(sinks::listed().all(|(_, function)| function != FunctionAddr::NONE));
/// ```
pub fn listed() -> impl Iterator<Item = (&'static str, FunctionAddr)> {
    KINDS
        .into_iter()
        .zip(&AUDITED)
        .flat_map(|(kind, set)| set.iter().map(move |function| (kind, function)))
        .filter(|(_, function)| {
            // SAFETY: The function only compares the address with those of code.
            unsafe { bindings::kernel_text_address(function.addr() as c_ulong) != 0 }
        })
}

#[kunit_tests(rust_splice_sinks)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_new_once() {
        let set = FunctionSet::<2>::new();
        assert!(!set.insert(FunctionAddr::NONE));
        assert!(set.insert(FunctionAddr::new(1)) && set.insert(FunctionAddr::new(2)));
        assert!(!set.insert(FunctionAddr::new(1)) && !set.insert(FunctionAddr::new(2)));
        // There is no room.
        assert!(!set.insert(FunctionAddr::new(3)));
        assert_eq!(set.iter().count(), 2);
        assert_eq!(set.iter().next(), Some(FunctionAddr::new(1)));
    }
}
