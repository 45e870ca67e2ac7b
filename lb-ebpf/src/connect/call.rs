//! A socket call: the address it names, the socket that makes it, and rewriting the address.
#![allow(unsafe_code, reason = "the hook's context and helpers")]

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::programs::SockAddrContext;
use lb_common::{Be16, Be32, Endpoint, Ip, Reason};

const ECONNREFUSED: i32 = 111;
const EPERM: i32 = 1;

/// The family of the hook. An IPv6 hook also sees IPv4 addresses, in their mapped form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// One call of a hook.
pub(crate) struct Call<'a> {
    ctx: &'a SockAddrContext,
    family: Family,
    /// The address, port and protocol it names.
    pub(crate) endpoint: Endpoint,
}

impl<'a> Call<'a> {
    #[inline(always)]
    pub(crate) fn v4(ctx: &'a SockAddrContext) -> Self {
        // SAFETY: the kernel gives a whole context; each field is read by itself as it asks.
        let addr = Ip::v4(Be32::from_raw(unsafe { (*ctx.sock_addr).user_ip4 }));
        Self::new(ctx, Family::V4, addr)
    }

    #[inline(always)]
    pub(crate) fn v6(ctx: &'a SockAddrContext) -> Self {
        let at = ctx.sock_addr;
        // SAFETY: as above; volatile, so that the reads are not joined into wider ones, which the kernel refuses.
        let words = unsafe {
            [
                (&raw const (*at).user_ip6[0]).read_volatile(),
                (&raw const (*at).user_ip6[1]).read_volatile(),
                (&raw const (*at).user_ip6[2]).read_volatile(),
                (&raw const (*at).user_ip6[3]).read_volatile(),
            ]
        };
        Self::new(ctx, Family::V6, Ip(words.map(Be32::from_raw)))
    }

    #[inline(always)]
    fn new(ctx: &'a SockAddrContext, family: Family, addr: Ip) -> Self {
        let at: *const bpf_sock_addr = ctx.sock_addr;
        // SAFETY: as above.
        let (port, protocol) = unsafe {
            (
                (&raw const (*at).user_port).read_volatile(),
                (&raw const (*at).protocol).read_volatile(),
            )
        };
        Self {
            ctx,
            family,
            endpoint: Endpoint::new(addr, Be16::from_raw(port as u16), protocol as u8),
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
        // SAFETY: as above; the kernel turns these reads into checked ones of the socket.
        let socket = unsafe { (&raw const (*self.ctx.sock_addr).__bindgen_anon_1.sk).read_volatile() };
        if socket.is_null() {
            return None;
        }
        // SAFETY: not null (just checked), and the socket outlives its own call.
        let v4 = unsafe { (&raw const (*socket).src_ip4).read_volatile() };
        if v4 != 0 {
            return Some(Ip::v4(Be32::from_raw(v4)));
        }
        if self.family == Family::V4 {
            return None;
        }
        // SAFETY: as above.
        let words = unsafe {
            [
                (&raw const (*socket).src_ip6[0]).read_volatile(),
                (&raw const (*socket).src_ip6[1]).read_volatile(),
                (&raw const (*socket).src_ip6[2]).read_volatile(),
                (&raw const (*socket).src_ip6[3]).read_volatile(),
            ]
        };
        (words != [0; 4]).then_some(Ip(words.map(Be32::from_raw)))
    }

    /// Whether the socket can be given this address.
    #[inline(always)]
    pub(crate) fn takes(&self, addr: &Ip) -> bool {
        self.family == Family::V6 || addr.as_v4().is_some()
    }

    /// Names another address and port instead. Only after `takes`.
    #[inline(always)]
    pub(crate) fn rewrite(&self, addr: &Ip, port: Be16) {
        let at = self.ctx.sock_addr;
        // SAFETY: as above; volatile, so that the writes are not joined.
        unsafe {
            match self.family {
                Family::V4 => (&raw mut (*at).user_ip4).write_volatile(addr.0[3].raw()),
                Family::V6 => {
                    (&raw mut (*at).user_ip6[0]).write_volatile(addr.0[0].raw());
                    (&raw mut (*at).user_ip6[1]).write_volatile(addr.0[1].raw());
                    (&raw mut (*at).user_ip6[2]).write_volatile(addr.0[2].raw());
                    (&raw mut (*at).user_ip6[3]).write_volatile(addr.0[3].raw());
                }
            }
            (&raw mut (*at).user_port).write_volatile(u32::from(port.raw()));
        }
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
