//! Values that the compiler must not think about, because the verifier would not follow.
#![allow(unsafe_code, reason = "a piece of assembly that does nothing")]

use core::arch::asm;

/// The same number. What is derived from it afterwards, such as a bound, stays in the program.
#[inline(always)]
pub(crate) fn opaque(mut number: u64) -> u64 {
    // SAFETY: moves a register into itself. No instruction at all would leave two lines of the source at one place, for
    // which the kernel refuses the program.
    unsafe { asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags)) };
    number
}
