//! Values that the compiler must not think about, because the verifier would not follow.
#![allow(unsafe_code, reason = "an empty piece of assembly")]

use core::arch::asm;

/// The same number. What is derived from it afterwards, such as a bound, stays in the program.
#[inline(always)]
pub(crate) fn opaque(mut number: u64) -> u64 {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(reg) number, options(pure, nomem, nostack, preserves_flags)) };
    number
}
