//! Additions that no other CPU, and no program that interrupts this one, can get between.
#![allow(unsafe_code, reason = "Rust's atomics are not built for this target")]

use core::arch::asm;

/// Adds to a number in a map's value.
#[inline(always)]
pub(crate) fn add(to: *mut u64, number: i64) {
    // SAFETY: the verifier knows each pointer and refuses any but one into a map's value.
    unsafe {
        asm!("lock *(u64 *)({to} + 0) += {number}", to = in(reg) to, number = in(reg) number, options(nostack));
    }
}
