// SPDX-License-Identifier: GPL-2.0

//! The list of audited consumers in C, for `/sys/kernel/debug/splice/sinks`.
//!
//! A consumer is listed when the kernel learns of it: a protocol when it is registered, a file when
//! it is first opened for writing, and an actor when it first takes data. A consumer in Rust has no
//! entry: its type is the audit.

use super::{function_set::FunctionSet, policy::Kind};
use crate::{bindings, pipe::FunctionAddr, prelude::*};

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
