// SPDX-License-Identifier: GPL-2.0

//! Decodes instructions as an assembler encodes them.

#[path = "../src/class.rs"]
mod class;

use class::{class, Class, REQUEST};

#[test]
fn locked_instructions() {
    for bytes in [
        &[0xf0, 0xff, 0x47, 0x34][..],         // lock incl 0x34(%rdi)
        &[0xf0, 0x48, 0x0f, 0xb1, 0x0a],       // lock cmpxchg %rcx,(%rdx)
        &[0x65, 0xf0, 0xff, 0x00],             // lock incl %gs:(%rax)
        &[0x2e, 0x66, 0xf0, 0x0f, 0xc1, 0x07], // lock xadd %ax,%cs:(%rdi)
        &[0x87, 0x07],                         // xchg %eax,(%rdi)
        &[0x48, 0x87, 0x45, 0x08],             // xchg %rax,0x8(%rbp)
        &[0x86, 0x05, 0x00, 0x00, 0x00, 0x00], // xchg %al,0x0(%rip)
    ] {
        assert_eq!(class(bytes), Class::Locked, "{bytes:x?}");
    }
}

#[test]
fn indirect_calls_and_jumps() {
    for bytes in [
        &[0xff, 0xd0][..],                     // call *%rax
        &[0x41, 0xff, 0xd3],                   // call *%r11
        &[0x2e, 0xff, 0xd0],                   // cs call *%rax
        &[0xff, 0x50, 0x10],                   // call *0x10(%rax)
        &[0xff, 0x15, 0x00, 0x00, 0x00, 0x00], // call *0x0(%rip)
        &[0xff, 0xe0],                         // jmp *%rax
        &[0x41, 0xff, 0x63, 0x08],             // jmp *0x8(%r11)
    ] {
        assert_eq!(class(bytes), Class::Indirect, "{bytes:x?}");
    }
}

#[test]
fn others() {
    for bytes in [
        &[0x90][..],                           // nop
        &[0x87, 0xc8],                         // xchg %ecx,%eax
        &[0x48, 0x86, 0xe0],                   // xchg between registers
        &[0xff, 0xc0],                         // inc %eax
        &[0xff, 0x77, 0x08],                   // push 0x8(%rdi)
        &[0xe8, 0x00, 0x00, 0x00, 0x00],       // call
        &[0xc3],                               // ret
        &[0xf3, 0xa4],                         // rep movsb
        &[0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0], // nopl 0x0(%rax,%rax,1)
        &[0x48, 0x8b, 0x07],                   // mov (%rdi),%rax
        &[0x3e, 0x48, 0x8b, 0x07],             // ds mov (%rdi),%rax
        &[0xf3],
        &[0xff],
        &[],
    ] {
        assert_eq!(class(bytes), Class::Other, "{bytes:x?}");
    }
}

#[test]
fn a_request_for_the_counters() {
    assert_eq!(class(&REQUEST), Class::Request);
}
