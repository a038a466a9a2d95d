// SPDX-License-Identifier: GPL-2.0

//! A plugin of QEMU that counts instructions that cost much more than others.
//!
//! QEMU's `-icount` counts each instruction as one. On a real processor, a locked instruction and a
//! call through a pointer cost as much as dozens of others, and a copy of memory depends on
//! features that the emulated processor does not have. The plugin counts, for each virtual
//! processor:
//!
//! 1. locked instructions,
//! 2. indirect calls and jumps,
//! 3. all instructions in the address ranges of the argument `copy`, of functions that copy memory:
//!    `copy=START-END:START-END`, in hexadecimal, each without its end. They count in no other
//!    class.
//!
//! A program in the guest gets the three counters, as `u64`, with the instruction
//! [`REQUEST`](class::REQUEST).

mod class;
mod qemu;

use std::ffi::{c_int, c_uint, c_void, CStr};
use std::ops::Range;
use std::ptr;
use std::sync::OnceLock;

use class::{class, Class};
use qemu::{Block, ByteArray, Counter, Info, InstallArguments, Instruction, Scoreboard};

const LOCKED: usize = 0;
const INDIRECT: usize = 1;
const COPYING: usize = 2;
const COUNTERS: usize = 3;

/// The longest instruction of x86, in bytes.
const LONGEST: usize = 15;

/// The state of the plugin.
///
/// # Invariants
///
/// `scoreboard` is a scoreboard of QEMU, with [`COUNTERS`] numbers in an entry, that is never
/// freed.
struct Plugin {
    scoreboard: *mut Scoreboard,
    /// The addresses of code that copies memory.
    copying: Vec<Range<u64>>,
}

// SAFETY: QEMU's functions for scoreboards may be called by any thread, and the rest is `Send`.
unsafe impl Send for Plugin {}

// SAFETY: No field changes, and QEMU's functions for scoreboards may be called by any thread.
unsafe impl Sync for Plugin {}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

impl Plugin {
    /// Returns the counter with this index.
    fn counter(&self, index: usize) -> Counter {
        Counter {
            scoreboard: self.scoreboard,
            offset: index * size_of::<u64>(),
        }
    }

    /// Makes QEMU count `instruction`, or answer it.
    ///
    /// # Safety
    ///
    /// `instruction` must be an instruction of the block that is being translated.
    unsafe fn observe(&self, instruction: *mut Instruction) {
        let mut bytes = [0; LONGEST];
        // SAFETY: The instruction is valid by the caller's promise, and the buffer has `LONGEST`
        // bytes.
        let (len, address) = unsafe {
            (
                qemu::qemu_plugin_insn_data(instruction, bytes.as_mut_ptr().cast(), LONGEST),
                qemu::qemu_plugin_insn_vaddr(instruction),
            )
        };
        let copies = self.copying.iter().any(|range| range.contains(&address));
        let counter = match class(&bytes[..len]) {
            _ if copies => COPYING,
            Class::Locked => LOCKED,
            Class::Indirect => INDIRECT,
            Class::Request => {
                // SAFETY: The instruction is valid by the caller's promise. `answer` needs no data.
                return unsafe {
                    qemu::qemu_plugin_register_vcpu_mem_cb(
                        instruction,
                        answer,
                        qemu::CB_NO_REGS,
                        qemu::MEM_R,
                        ptr::null_mut(),
                    )
                };
            }
            Class::Other => return,
        };
        // SAFETY: The instruction is valid by the caller's promise, the scoreboard by the type
        // invariant, and the counter is in its entry.
        unsafe {
            qemu::qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
                instruction,
                qemu::INLINE_ADD_U64,
                self.counter(counter),
                1,
            )
        }
    }

    /// Returns the counters of a processor, in the order of the guest's bytes.
    fn counters(&self, processor: c_uint) -> [u8; COUNTERS * size_of::<u64>()] {
        let mut bytes = [0; COUNTERS * size_of::<u64>()];
        for (index, bytes) in bytes.chunks_exact_mut(size_of::<u64>()).enumerate() {
            // SAFETY: The scoreboard is valid by the type invariant, and the counter in its entry.
            let count = unsafe { qemu::qemu_plugin_u64_get(self.counter(index), processor) };
            bytes.copy_from_slice(&count.to_le_bytes());
        }
        bytes
    }
}

/// Parses the plugin's arguments.
fn parse<'a>(arguments: impl Iterator<Item = &'a str>) -> Result<Vec<Range<u64>>, String> {
    let mut copying = Vec::new();
    for argument in arguments {
        let error = || format!("{argument}: not copy=START-END:START-END");
        let ranges = argument.strip_prefix("copy=").ok_or_else(error)?;
        for range in ranges.split(':') {
            let (start, end) = range.split_once('-').ok_or_else(error)?;
            let address = |text| u64::from_str_radix(text, 16).map_err(|_| error());
            copying.push(address(start)?..address(end)?);
        }
    }
    Ok(copying)
}

/// Starts the plugin. QEMU calls this once, when it loads the plugin. Returns 0 for success.
///
/// # Safety
///
/// `arguments` must be `count` strings.
#[no_mangle]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    _info: *const Info,
    count: c_int,
    arguments: InstallArguments,
) -> c_int {
    // SAFETY: There are `count` strings by the caller's promise.
    let argument = |index| unsafe { CStr::from_ptr(*arguments.add(index)) };
    let arguments = (0..usize::try_from(count).unwrap_or(0))
        .map(|index| argument(index).to_str().unwrap_or("an argument"));
    let copying = match parse(arguments) {
        Ok(copying) => copying,
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    // SAFETY: An entry may have any size.
    let scoreboard = unsafe { qemu::qemu_plugin_scoreboard_new(COUNTERS * size_of::<u64>()) };
    // INVARIANT: An entry has the size of the counters.
    let plugin = Plugin {
        scoreboard,
        copying,
    };
    if PLUGIN.set(plugin).is_err() {
        eprintln!("the plugin is loaded already");
        return 1;
    }
    // SAFETY: `id` is the plugin's, and `translate` can be called at any time, as `PLUGIN` is set.
    unsafe { qemu::qemu_plugin_register_vcpu_tb_trans_cb(id, translate, ptr::null_mut()) };
    0
}

/// Called for each block of instructions that QEMU translates.
unsafe extern "C" fn translate(block: *mut Block, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else {
        return;
    };
    // SAFETY: QEMU passes a block that is valid during this call.
    for index in 0..unsafe { qemu::qemu_plugin_tb_n_insns(block) } {
        // SAFETY: QEMU passes a valid block, which has an instruction with this index.
        unsafe { plugin.observe(qemu::qemu_plugin_tb_get_insn(block, index)) };
    }
}

/// Called after [`REQUEST`](class::REQUEST) has read memory at `address`: stores the counters
/// there. If that fails, the program finds its memory unchanged.
unsafe extern "C" fn answer(processor: c_uint, _info: u32, address: u64, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else {
        return;
    };
    let mut counters = plugin.counters(processor);
    let mut array = ByteArray {
        data: counters.as_mut_ptr(),
        len: counters.len() as c_uint,
    };
    // SAFETY: This is a callback of the processor, and `array` describes the counters.
    unsafe { qemu::qemu_plugin_write_memory_vaddr(address, &mut array) };
}
