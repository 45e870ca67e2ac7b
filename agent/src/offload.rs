//! Receive offload of an interface, by the `ethtool` request of a socket in its network namespace.
#![allow(
    unsafe_code,
    reason = "ioctl(2) with a structure that points to another; no crate of ours offers it"
)]

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;

/// `linux/sockios.h`.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// `linux/ethtool.h`.
const ETHTOOL_SGRO: u32 = 0x2c;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Switches generic receive offload on for an interface of this thread's network namespace. Of a veth this makes the end poll, so that
/// frames which programs send to the other end are taken.
pub(crate) fn receive_on(name: &str) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut value = Value {
        command: ETHTOOL_SGRO,
        data: 1,
    };
    // SAFETY: integers, an array of them and pointers, for all of which zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    let room = request.ifr_name.len() - 1;
    if name.len() > room {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request and what it points to live until the call returns, and are as long as the kernel takes them to be.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
