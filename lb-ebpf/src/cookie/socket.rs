//! The socket that a packet would meet behind its VIP, asked what the kernel would do with it.
#![allow(unsafe_code, reason = "helpers, and a socket that is given back")]

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{
    bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie, bpf_tcp_gen_syncookie,
};
use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, Be32, Ip};

use crate::family::{Family, V4, V6};
use crate::headers::{Ipv4, Ipv6, TCP, Tcp};

/// `TCP_LISTEN`.
const LISTEN: u32 = 10;
/// Words of a question.
const TUPLE: usize = 9;
const _: () = assert!(size_of::<bpf_sock_tuple>() == TUPLE * 4 && align_of::<bpf_sock_tuple>() == 4);

/// A TCP header whose only option is the largest segment: what a cookie is made of.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) tcp: Tcp,
    pub(super) mss: [u8; 4],
}

/// A packet as the backend would get it.
#[repr(C)]
pub(super) struct Seen<F: Sockets> {
    pub(super) ip: F::Header,
    pub(super) head: Head,
}

/// What the kernel said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// There is no socket.
    Nobody,
    /// There is one that does not listen: the connection is under way.
    Connection,
    /// The listener wants the packet itself, or knows no such cookie.
    No,
    /// This is the cookie; or it is one of the listener's.
    Yes(u32),
}

/// What differs between the families.
pub(super) trait Sockets: Family {
    /// Bytes of a question.
    const TUPLE_LEN: u32;
    /// The part of an IP header that cookies are made of.
    fn header(from: Self::Addr, to: Self::Addr) -> Self::Header;
    /// The words of the two addresses; how many there are.
    fn ends(words: &mut [u32; TUPLE], from: Self::Addr, to: Self::Addr) -> usize;
}

impl Sockets for V4 {
    const TUPLE_LEN: u32 = 12;

    #[inline(always)]
    fn header(from: Be32, to: Be32) -> Ipv4 {
        Ipv4 {
            version_len: 0x45,
            tos: 0,
            total_len: Be16::new(0),
            id: Be16::new(0),
            fragment: Be16::new(0),
            ttl: 1,
            protocol: TCP,
            checksum: Be16::new(0),
            src: from,
            dst: to,
        }
    }

    #[inline(always)]
    fn ends(words: &mut [u32; TUPLE], from: Be32, to: Be32) -> usize {
        words[0] = from.raw();
        words[1] = to.raw();
        2
    }
}

impl Sockets for V6 {
    const TUPLE_LEN: u32 = 36;

    #[inline(always)]
    fn header(from: Ip, to: Ip) -> Ipv6 {
        Ipv6 {
            version_class_label: Be32::new(0x6000_0000),
            payload_len: Be16::new(0),
            next: TCP,
            hop_limit: 1,
            src: from,
            dst: to,
        }
    }

    #[inline(always)]
    fn ends(words: &mut [u32; TUPLE], from: Ip, to: Ip) -> usize {
        for at in 0..4 {
            words[at] = from.0[at].raw();
            words[at + 4] = to.0[at].raw();
        }
        8
    }
}

/// Asks for a cookie (`opens`), or whether the packet brings one back.
#[inline(always)]
pub(super) fn ask<F: Sockets>(ctx: &XdpContext, namespace: i32, seen: &mut Seen<F>, opens: bool) -> Said {
    let mut words = MaybeUninit::<[u32; TUPLE]>::uninit();
    let start = words.as_mut_ptr().cast::<u32>();
    for at in 0..TUPLE {
        // SAFETY: inside the array. One by one: the compiler would call a function for zeros.
        unsafe { start.add(at).write_volatile(0) };
    }
    // SAFETY: written above.
    let words = unsafe { words.assume_init_mut() };
    let ports = F::ends(words, F::src(&seen.ip), F::dst(&seen.ip));
    let (from, to) = (seen.head.tcp.src.raw(), seen.head.tcp.dst.raw());
    words[ports] = u32::from_ne_bytes([
        from.to_ne_bytes()[0],
        from.to_ne_bytes()[1],
        to.to_ne_bytes()[0],
        to.to_ne_bytes()[1],
    ]);
    let tuple = words.as_mut_ptr().cast::<bpf_sock_tuple>();
    let namespace = i64::from(namespace) as u64;
    // SAFETY: a question of the length told.
    let socket = unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), tuple, F::TUPLE_LEN, namespace, 0) };
    if socket.is_null() {
        return Said::Nobody;
    }
    let said = asked::<F>(socket, seen, opens);
    // SAFETY: taken above, and not used afterwards.
    unsafe { bpf_sk_release(socket.cast()) };
    said
}

#[inline(always)]
fn asked<F: Sockets>(socket: *mut bpf_sock, seen: &mut Seen<F>, opens: bool) -> Said {
    // SAFETY: the socket is held; volatile, for the kernel lets programs read the word only whole.
    if unsafe { (&raw const (*socket).state).read_volatile() } != LISTEN {
        return Said::Connection;
    }
    let (ip, ip_len) = ((&raw mut seen.ip).cast(), size_of::<F::Header>() as u32);
    let tcp = (&raw mut seen.head).cast();
    // SAFETY: the socket is held, and both headers have the lengths told.
    let answer = unsafe {
        if opens {
            bpf_tcp_gen_syncookie(socket.cast(), ip, ip_len, tcp, size_of::<Head>() as u32)
        } else {
            bpf_tcp_check_syncookie(socket.cast(), ip, ip_len, tcp, size_of::<Tcp>() as u32)
        }
    };
    if answer < 0 { Said::No } else { Said::Yes(answer as u32) }
}
