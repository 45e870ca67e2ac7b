//! A virtual address that nobody has stays on the node.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use xtask::demo::At;

use super::{load, on_cluster};

/// A socket that sees every packet in the network namespace of process `pid`.
fn listen(pid: u32) -> Result<OwnedFd> {
    // In a thread of its own: setns changes the thread that calls it.
    let opened = std::thread::spawn(move || -> Result<OwnedFd> {
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        Ok(socket(
            AddressFamily::Packet,
            SockType::Raw,
            flags,
            SockProtocol::EthAll,
        )?)
    });
    opened.join().ok().context("the thread ended early")?
}

/// Packets to `net`.0.0.0/8 that the socket has seen.
fn packets_to(socket: &OwnedFd, net: u8) -> Result<usize> {
    let mut frame = [0_u8; 2048];
    let mut count = 0;
    loop {
        match recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) if length >= 34 && frame[12..14] == [0x08, 0x00] && frame[30] == net => count += 1,
            Ok(_) => {}
            Err(error) if std::io::Error::from(error).kind() == ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
}

#[test]
fn an_unknown_vip_is_refused_on_the_node_and_never_leaves_it() {
    on_cluster(|cluster| {
        let wire = listen(cluster.lab.fabric.pid)?;
        let places = At::all(cluster)?;
        for at in places.iter().filter(|at| at.node().is_some()) {
            let report = load(
                cluster,
                at,
                "http://11.200.1.2:5555/",
                &["--requests", "5", "--timeout-ms", "1500"],
            )?;
            ensure!(report.ok == 0, "{}: somebody answered", at.name());
            let at_once = report.failures.iter().all(|failure| failure.kind != "connect_timeout");
            ensure!(
                at_once,
                "{}: the connection hung instead of being refused: {:?}",
                at.name(),
                report.failures
            );
        }
        let leaked = packets_to(&wire, 11)?;
        ensure!(leaked == 0, "{leaked} packets to an unknown VIP left the nodes");
        // The same socket does see such packets when they are on the fabric.
        load(
            cluster,
            &At::Outside,
            "http://11.200.1.2:5555/",
            &["--requests", "2", "--timeout-ms", "300"],
        )?;
        ensure!(packets_to(&wire, 11)? > 0, "the control saw nothing");
        Ok(())
    });
}
