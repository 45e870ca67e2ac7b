//! Where a frame begins and ends, as the context tells.
#![allow(unsafe_code, reason = "the words of a context are read by hand")]

use core::arch::asm;

use aya_ebpf::programs::XdpContext;

use crate::frame::Frame;

/// The context's fields are words that stand for pointers. Where the compiler reads one in one place and widens it in another, it
/// shifts it to and fro, and the verifier wants no arithmetic on pointers: so here the load itself is written down.
impl Frame for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        let start: u64;
        // SAFETY: reads a field of the program's own context.
        unsafe {
            asm!(
                "{0} = *(u32 *)({1} + 0)",
                out(reg) start,
                in(reg) self.ctx,
                options(readonly, nostack, preserves_flags)
            );
        }
        start as usize
    }

    #[inline(always)]
    fn end(&self) -> usize {
        let end: u64;
        // SAFETY: as above.
        unsafe {
            asm!(
                "{0} = *(u32 *)({1} + 4)",
                out(reg) end,
                in(reg) self.ctx,
                options(readonly, nostack, preserves_flags)
            );
        }
        end as usize
    }
}
