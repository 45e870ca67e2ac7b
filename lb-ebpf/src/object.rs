//! What every BPF object has to have besides its programs.
#![allow(unsafe_code, reason = "the kernel finds the licence by its section")]

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The licence the kernel asks for before it lets a program use all helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
