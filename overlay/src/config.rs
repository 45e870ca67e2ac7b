//! The settings of the overlay plane, with DC/OS's values as defaults.

use std::net::Ipv4Addr;

use model::Ipv4Net;

/// What one node must know to build its part of the overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node's underlay address; the interface that bears it is the uplink.
    pub uplink_ip: Ipv4Addr,
    /// The range of virtual addresses; packets to it must never leave by the default route.
    pub vip_net: Ipv4Net,
    /// The range that node subnets are cut from.
    pub overlay_net: Ipv4Net,
    /// What apps call the default overlay.
    pub overlay_name: String,
    /// The fixed address on `lo` that the node's DNS server listens on, if wanted.
    pub service_addr: Option<Ipv4Addr>,
    /// The VXLAN network identifier of the default overlay.
    pub vni: u32,
    /// The VXLAN UDP port.
    pub port: u16,
    /// The range of tunnel endpoint addresses.
    pub vtep_net: Ipv4Net,
    /// The routing table for packets that come from addresses of the default overlay.
    pub table: u32,
}

impl Config {
    /// DC/OS's values for the node with the given underlay address.
    pub fn new(uplink_ip: Ipv4Addr) -> Self {
        Self {
            uplink_ip,
            vip_net: fixed([11, 0, 0, 0], 8),
            overlay_net: fixed([9, 0, 0, 0], 8),
            overlay_name: "dcos".to_owned(),
            service_addr: Some(Ipv4Addr::new(198, 51, 100, 1)),
            vni: 1024,
            port: 64000,
            vtep_net: fixed([44, 128, 0, 0], 20),
            table: 42,
        }
    }
}

fn fixed(network: [u8; 4], prefix: u8) -> Ipv4Net {
    match Ipv4Net::new(Ipv4Addr::from(network), prefix) {
        Ok(net) => net,
        Err(error) => unreachable!("a default prefix is malformed: {error}"),
    }
}
