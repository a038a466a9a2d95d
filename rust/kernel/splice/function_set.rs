// SPDX-License-Identifier: GPL-2.0

//! Sets of functions in C, for reports about the consumers of pipes.

use crate::{
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
    pub(super) fn iter(&self) -> impl Iterator<Item = FunctionAddr> + '_ {
        self.0
            .iter()
            .map(|slot| FunctionAddr::new(slot.load(Relaxed)))
            .take_while(|function| *function != FunctionAddr::NONE)
    }
}

#[kunit_tests(rust_splice_function_set)]
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
