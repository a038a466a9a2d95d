// SPDX-License-Identifier: GPL-2.0

//! The functions of QEMU that the plugin calls, version 7 of QEMU's interface for plugins.
//!
//! Source: `include/plugins/qemu-plugin.h` of QEMU 11, and GLib for `GByteArray`.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::marker::PhantomData;

/// The version of the interface. QEMU refuses to load a plugin of a version that it does not have.
#[no_mangle]
pub static qemu_plugin_version: c_int = 7;

/// Something that only QEMU accesses.
#[repr(C)]
pub struct Opaque<T> {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, T)>,
}

pub enum OfBlock {}
pub enum OfInstruction {}
pub enum OfScoreboard {}
pub enum OfInfo {}

/// `struct qemu_plugin_tb`: a block of instructions that is being translated.
pub type Block = Opaque<OfBlock>;
/// `struct qemu_plugin_insn`: an instruction of a block.
pub type Instruction = Opaque<OfInstruction>;
/// `struct qemu_plugin_scoreboard`: one entry for each virtual processor.
pub type Scoreboard = Opaque<OfScoreboard>;
/// `struct qemu_info_t`: the emulated machine.
pub type Info = Opaque<OfInfo>;

/// `qemu_plugin_u64`: a number in each entry of a scoreboard.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Counter {
    pub scoreboard: *mut Scoreboard,
    /// Where the number is in the entry, in bytes.
    pub offset: usize,
}

/// `GByteArray` of GLib.
#[repr(C)]
pub struct ByteArray {
    pub data: *mut u8,
    pub len: c_uint,
}

pub const INLINE_ADD_U64: c_uint = 0;
pub const CB_NO_REGS: c_uint = 0;
pub const MEM_R: c_uint = 1;

pub type InstallArguments = *const *const c_char;

pub type TranslateCallback = unsafe extern "C" fn(block: *mut Block, data: *mut c_void);
pub type MemoryCallback =
    unsafe extern "C" fn(processor: c_uint, info: u32, address: u64, data: *mut c_void);

extern "C" {
    pub fn qemu_plugin_register_vcpu_tb_trans_cb(
        id: u64,
        callback: TranslateCallback,
        data: *mut c_void,
    );
    pub fn qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
        instruction: *mut Instruction,
        operation: c_uint,
        counter: Counter,
        operand: u64,
    );
    pub fn qemu_plugin_register_vcpu_mem_cb(
        instruction: *mut Instruction,
        callback: MemoryCallback,
        flags: c_uint,
        access: c_uint,
        data: *mut c_void,
    );
    pub fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    pub fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    pub fn qemu_plugin_insn_data(
        instruction: *const Instruction,
        buffer: *mut c_void,
        len: usize,
    ) -> usize;
    pub fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    pub fn qemu_plugin_scoreboard_new(size: usize) -> *mut Scoreboard;
    pub fn qemu_plugin_u64_get(counter: Counter, processor: c_uint) -> u64;
    pub fn qemu_plugin_write_memory_vaddr(address: u64, data: *mut ByteArray) -> bool;
}
