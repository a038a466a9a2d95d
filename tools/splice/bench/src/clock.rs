// SPDX-License-Identifier: GPL-2.0

//! The processor's clock, as a counter of instructions.
//!
//! Under QEMU's `-icount shift=0` the time stamp counter goes up by one for each instruction. The
//! kernel's clocks are derived from it, but scaled by the frequency that the kernel measured, so
//! the counter is read directly.

use std::arch::asm;
use std::arch::x86_64::_rdtsc;
use std::hint::black_box;

use anyhow::{bail, Result};

use crate::classes::Classes;

/// Reads the counter.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: Every x86_64 processor has the instruction, and Linux allows it in user space.
    unsafe { _rdtsc() }
}

/// Returns the cost of the measurement itself: the minimum of many tries with an empty operation.
pub fn overhead() -> u64 {
    fn nothing(_: &mut ()) -> rustix::io::Result<usize> {
        Ok(0)
    }
    let nothing: fn(&mut ()) -> rustix::io::Result<usize> = black_box(nothing);
    (0..1000)
        .map(|_| time(nothing, &mut ()).0.instructions)
        .min()
        .unwrap_or(0)
}

/// The cost of one call.
#[derive(Clone, Copy)]
pub struct Cost {
    pub instructions: u64,
    /// How many of these belong to each class; all are zero without the plugin.
    pub classes: Classes,
}

/// Runs `operation`, and returns its cost and its result.
#[inline(never)]
pub fn time<T, R>(operation: fn(&mut T) -> R, subject: &mut T) -> (Cost, R) {
    let classes = Classes::now();
    let start = now();
    let result = operation(subject);
    let instructions = now().wrapping_sub(start);
    let cost = Cost {
        instructions,
        classes: Classes::now() - classes,
    };
    (cost, result)
}

/// Returns an error unless the counter counts instructions.
pub fn verify() -> Result<()> {
    const TURNS: u64 = 1_000_000;
    const INSTRUCTIONS: u64 = 2 * TURNS;

    fn count_down(_: &mut ()) {
        // SAFETY: The code changes only the register that it is given.
        unsafe {
            asm!(
                "2:",
                "dec {0}",
                "jnz 2b",
                inout(reg) TURNS => _,
                options(nomem, nostack)
            );
        }
    }
    let counted = (0..5)
        .map(|_| time(count_down, &mut ()).0.instructions)
        .min()
        .unwrap_or(0);
    // There are a few instructions around the loop, and perhaps a timer interrupt.
    if !(INSTRUCTIONS..INSTRUCTIONS + INSTRUCTIONS / 100).contains(&counted) {
        bail!(
            "this machine's clock went on by {counted} in {INSTRUCTIONS} instructions; \
             QEMU has to run with `-accel tcg -icount shift=0`"
        );
    }
    Ok(())
}
