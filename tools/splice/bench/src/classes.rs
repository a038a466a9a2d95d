// SPDX-License-Identifier: GPL-2.0

//! How many of the instructions are of classes that cost much more than others.
//!
//! A plugin of QEMU counts them, see `tools/splice/instruction-classes`.

use std::arch::asm;
use std::ops::Sub;

use anyhow::{bail, Result};

/// Numbers of instructions, by class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Classes {
    /// Locked instructions.
    pub locked: u64,
    /// Calls and jumps to an address in a register or in memory.
    pub indirect: u64,
    /// Instructions of functions that copy memory.
    pub copying: u64,
}

impl Classes {
    /// Returns the counters of the plugin, or zeros if QEMU runs without it.
    #[inline(always)]
    pub fn now() -> Self {
        let mut counters = [0; 3];
        // SAFETY: The instruction, the plugin's `REQUEST`, reads `counters` to `rax`. The plugin
        // stores as many counters at the address in `rdi` as the array has.
        unsafe {
            asm!(
                ".byte 0x3e, 0x3e, 0x3e, 0x3e, 0x48, 0x8b, 0x07",
                in("rdi") &raw mut counters,
                out("rax") _,
                options(nostack, preserves_flags)
            );
        }
        let [locked, indirect, copying] = counters;
        Self {
            locked,
            indirect,
            copying,
        }
    }
}

impl Sub for Classes {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            locked: self.locked.wrapping_sub(earlier.locked),
            indirect: self.indirect.wrapping_sub(earlier.indirect),
            copying: self.copying.wrapping_sub(earlier.copying),
        }
    }
}

/// Returns an error unless the plugin counts.
pub fn verify() -> Result<()> {
    const LOCKED: u64 = 5;
    const INDIRECT: u64 = 3;

    let mut memory = 0u64;
    let before = Classes::now();
    for _ in 0..LOCKED {
        // SAFETY: The instruction changes `memory`, which is borrowed exclusively.
        unsafe { asm!("lock inc qword ptr [{0}]", in(reg) &raw mut memory, options(nostack)) };
    }
    for _ in 0..INDIRECT {
        // SAFETY: The jump goes to the next instruction.
        unsafe {
            asm!(
                "lea {0}, [rip + 2f]",
                "jmp {0}",
                "2:",
                out(reg) _,
                options(nomem, nostack, preserves_flags)
            );
        }
    }
    let counted = Classes::now() - before;
    // An interrupt adds some.
    if counted.locked < LOCKED || counted.indirect < INDIRECT {
        bail!(
            "{LOCKED} locked instructions and {INDIRECT} indirect jumps were counted as {} and {}; \
             QEMU has to run with `-plugin libsplice_instruction_classes.so`",
            counted.locked,
            counted.indirect
        );
    }
    Ok(())
}
