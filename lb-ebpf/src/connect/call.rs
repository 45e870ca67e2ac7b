//! A socket call: the address it names, the socket that makes it, and rewriting the address.
#![allow(unsafe_code, reason = "the hook's context and helpers")]

use core::marker::PhantomData;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::programs::SockAddrContext;
use lb_common::{Be16, Be32, Endpoint, Ip, Reason};

const ECONNREFUSED: i32 = 111;
const EPERM: i32 = 1;

/// The family of the hook. An IPv6 hook also sees IPv4 addresses, in their mapped form.
pub(crate) trait Family {
    fn named(at: *const bpf_sock_addr) -> Ip;
    fn bound(socket: *const bpf_sock) -> Option<Ip>;
    /// Whether such a socket can be given this address.
    fn takes(addr: &Ip) -> bool;
    fn name(at: *mut bpf_sock_addr, addr: &Ip);
}

/// Hooks whose names end in 4.
pub(crate) struct V4;
/// Hooks whose names end in 6.
pub(crate) struct V6;

// In all of these the kernel gives whole structures, and asks for each word to be read and written by itself: volatile,
// so that the compiler does not join accesses.
impl Family for V4 {
    #[inline(always)]
    fn named(at: *const bpf_sock_addr) -> Ip {
        // SAFETY: as said above.
        Ip::v4(Be32::from_raw(unsafe { (&raw const (*at).user_ip4).read_volatile() }))
    }

    #[inline(always)]
    fn bound(socket: *const bpf_sock) -> Option<Ip> {
        // SAFETY: as said above.
        let word = unsafe { (&raw const (*socket).src_ip4).read_volatile() };
        (word != 0).then_some(Ip::v4(Be32::from_raw(word)))
    }

    #[inline(always)]
    fn takes(addr: &Ip) -> bool {
        addr.as_v4().is_some()
    }

    #[inline(always)]
    fn name(at: *mut bpf_sock_addr, addr: &Ip) {
        // SAFETY: as said above.
        unsafe { (&raw mut (*at).user_ip4).write_volatile(addr.0[3].raw()) };
    }
}

impl Family for V6 {
    #[inline(always)]
    fn named(at: *const bpf_sock_addr) -> Ip {
        // SAFETY: as said above.
        let words = unsafe {
            [
                (&raw const (*at).user_ip6[0]).read_volatile(),
                (&raw const (*at).user_ip6[1]).read_volatile(),
                (&raw const (*at).user_ip6[2]).read_volatile(),
                (&raw const (*at).user_ip6[3]).read_volatile(),
            ]
        };
        Ip(words.map(Be32::from_raw))
    }

    #[inline(always)]
    fn bound(socket: *const bpf_sock) -> Option<Ip> {
        // SAFETY: as said above.
        let words = unsafe {
            [
                (&raw const (*socket).src_ip6[0]).read_volatile(),
                (&raw const (*socket).src_ip6[1]).read_volatile(),
                (&raw const (*socket).src_ip6[2]).read_volatile(),
                (&raw const (*socket).src_ip6[3]).read_volatile(),
            ]
        };
        ((words[0] | words[1] | words[2] | words[3]) != 0).then_some(Ip(words.map(Be32::from_raw)))
    }

    #[inline(always)]
    fn takes(_addr: &Ip) -> bool {
        true
    }

    #[inline(always)]
    fn name(at: *mut bpf_sock_addr, addr: &Ip) {
        // SAFETY: as said above.
        unsafe {
            (&raw mut (*at).user_ip6[0]).write_volatile(addr.0[0].raw());
            (&raw mut (*at).user_ip6[1]).write_volatile(addr.0[1].raw());
            (&raw mut (*at).user_ip6[2]).write_volatile(addr.0[2].raw());
            (&raw mut (*at).user_ip6[3]).write_volatile(addr.0[3].raw());
        }
    }
}

/// One call of a hook.
pub(crate) struct Call<'a, F> {
    ctx: &'a SockAddrContext,
    /// The address, port and protocol it names.
    pub(crate) endpoint: Endpoint,
    family: PhantomData<F>,
}

impl<'a, F: Family> Call<'a, F> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a SockAddrContext) -> Self {
        let at: *const bpf_sock_addr = ctx.sock_addr;
        // SAFETY: as said above.
        let (port, protocol) = unsafe {
            (
                (&raw const (*at).user_port).read_volatile(),
                (&raw const (*at).protocol).read_volatile(),
            )
        };
        Self {
            ctx,
            endpoint: Endpoint::new(F::named(at), Be16::from_raw(port as u16), protocol as u8),
            family: PhantomData,
        }
    }

    /// The socket's cookie: unique as long as the kernel runs.
    #[inline(always)]
    pub(crate) fn cookie(&self) -> u64 {
        cookie(self.ctx)
    }

    /// The cookie of the socket's network namespace.
    #[inline(always)]
    pub(crate) fn namespace(&self) -> u64 {
        // SAFETY: the helper reads the context only.
        unsafe { bpf_get_netns_cookie(self.ctx.as_ptr()) }
    }

    /// The address the socket is bound to, if it is bound to one.
    #[inline(always)]
    pub(crate) fn bound(&self) -> Option<Ip> {
        // SAFETY: as said above; the kernel turns reads of the socket into checked ones.
        let socket = unsafe { (&raw const (*self.ctx.sock_addr).__bindgen_anon_1.sk).read_volatile() };
        if socket.is_null() { None } else { F::bound(socket) }
    }

    /// Names another address and port instead, or refuses an address of the wrong family.
    #[inline(always)]
    pub(crate) fn rewrite(&self, addr: &Ip, port: Be16) -> bool {
        if !F::takes(addr) {
            return false;
        }
        let at = self.ctx.sock_addr;
        F::name(at, addr);
        // SAFETY: as said above.
        unsafe { (&raw mut (*at).user_port).write_volatile(u32::from(port.raw())) };
        true
    }

    /// Whether `rewrite` would take this address.
    #[inline(always)]
    pub(crate) fn takes(&self, addr: &Ip) -> bool {
        F::takes(addr)
    }
}

/// The cookie of the socket that a hook was called for.
#[inline(always)]
pub(crate) fn cookie(ctx: &impl EbpfContext) -> u64 {
    // SAFETY: the helper reads the context only.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// What a refused call fails with.
#[inline(always)]
pub(crate) fn set_error(reason: Reason) {
    let error = if reason.index() == Reason::SocketSourceRefused.index() {
        // As connect(2) says for a local firewall rule.
        EPERM
    } else {
        ECONNREFUSED
    };
    // SAFETY: no pointers involved.
    unsafe { bpf_set_retval(-error) };
}
