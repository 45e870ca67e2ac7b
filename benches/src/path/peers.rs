//! What the path is measured beside: nftables and haproxy on the same node, to the same backend.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};
use xtask::lab::{Daemon, Place, wait_for};

use super::PORT;

/// What nftables translates, instead of a VIP.
pub(super) const PEER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
/// Where haproxy listens.
pub(super) const HAPROXY_PORT: u16 = 8100;

/// The rules are there only while they are measured: connection tracking costs every packet of the node.
pub(super) fn nft_on(node: &Place, backend: Ipv4Addr) -> Result<()> {
    let rule = |protocol: &str| {
        format!("nft add rule ip peer pre ip daddr {PEER_ADDRESS} {protocol} dport {PORT} dnat to {backend}:{PORT}; ")
    };
    node.sh(&format!(
        "set -e; nft add table ip peer; nft 'add chain ip peer pre {{ type nat hook prerouting priority dstnat; }}'; {}{}",
        rule("tcp"),
        rule("udp")
    ))
    .map(drop)
}

/// Takes them away.
pub(super) fn nft_off(node: &Place) -> Result<()> {
    node.sh("nft delete table ip peer").map(drop)
}

/// A running haproxy.
#[derive(Debug)]
pub(super) struct Haproxy(Daemon);

impl Haproxy {
    pub(super) fn start(node: &Place, backend: Ipv4Addr) -> Result<Self> {
        let file = node.dir.join("haproxy.cfg");
        let text = format!(
            "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\n  http-reuse always\nfrontend in\n  bind :{HAPROXY_PORT}\n  default_backend out\nbackend out\n  \
             server one {backend}:{PORT}\n"
        );
        std::fs::write(&file, text)?;
        let program = ["haproxy", "-db", "-f", file.to_str().context("a plain path")?];
        let mut daemon = node.spawn("haproxy", &program, &[])?;
        let listens = wait_for(std::time::Duration::from_secs(10), || {
            let said = node.sh("ss -Hltn").ok()?;
            said.contains(&format!(":{HAPROXY_PORT}")).then_some(())
        });
        if listens.is_none() || daemon.ended() {
            bail!("haproxy does not listen: {}", daemon.output());
        }
        Ok(Self(daemon))
    }

    pub(super) fn stop(mut self) -> Result<()> {
        self.0.kill()
    }
}
