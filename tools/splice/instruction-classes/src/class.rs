// SPDX-License-Identifier: GPL-2.0

//! The classes of x86-64 instructions that cost much more than others.

/// The class of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// An atomic read-modify-write of memory: a `lock` prefix, or `xchg` with memory.
    Locked,
    /// A call or jump to an address in a register or in memory.
    Indirect,
    /// A request of the program for the counters, see [`REQUEST`].
    Request,
    /// Any other instruction.
    Other,
}

/// An instruction that reads eight bytes of memory, in an encoding that no compiler emits:
/// `mov (%rdi), %rax` with four prefixes that have no effect. After it, the plugin stores the
/// counters at the address in `rdi`.
pub const REQUEST: [u8; 7] = [0x3e, 0x3e, 0x3e, 0x3e, 0x48, 0x8b, 0x07];

/// Returns the class of the instruction with these bytes.
pub fn class(bytes: &[u8]) -> Class {
    if bytes == REQUEST {
        return Class::Request;
    }
    let is_legacy_prefix = |byte: &&u8| {
        matches!(
            byte,
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
        )
    };
    let prefixes = bytes.iter().take_while(is_legacy_prefix).count();
    if bytes[..prefixes].contains(&0xf0) {
        return Class::Locked;
    }
    let mut opcode = &bytes[prefixes..];
    if let [0x40..=0x4f, rest @ ..] = opcode {
        // A REX prefix.
        opcode = rest;
    }
    match *opcode {
        [0x86 | 0x87, modrm, ..] if modrm < 0xc0 => Class::Locked,
        // Groups /2 and /3 are calls, /4 and /5 are jumps.
        [0xff, modrm, ..] if (2..=5).contains(&(modrm >> 3 & 7)) => Class::Indirect,
        _ => Class::Other,
    }
}
