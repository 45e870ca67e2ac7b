//! The kernel switches that the data plane needs, and why.

use std::path::PathBuf;

use crate::object::device_name;

/// One switch under `/proc/sys/net/ipv4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sysctl {
    /// `ip_forward` = 1: the node routes between its containers, the tunnel and the underlay.
    Forward,
    /// `conf/all/rp_filter` = 0: the kernel uses the larger of this and the interface's own value, so any other value
    /// here would undo the two below.
    ReversePathAll,
    /// Uplink's `rp_filter` = 0: an answer by direct server return bears the virtual address as its source, and the
    /// route back to that is our own `unreachable` one, which even the loose mode (2) takes for forgery.
    ReversePathUplink,
    /// `rp_filter` = 0 of the VXLAN device of that network: the same answers come through the tunnel when the client is a container.
    ReversePathDevice(u32),
}

impl Sysctl {
    /// The value the plane wants.
    pub fn wanted(self) -> i32 {
        match self {
            Self::Forward => 1,
            Self::ReversePathAll | Self::ReversePathUplink | Self::ReversePathDevice(_) => 0,
        }
    }

    /// The file that holds it. Network sysctls always show the namespace of the thread that opens the file.
    pub(crate) fn path(self, uplink: &str) -> PathBuf {
        let root = PathBuf::from("/proc/sys/net/ipv4");
        match self {
            Self::Forward => root.join("ip_forward"),
            Self::ReversePathAll => root.join("conf/all/rp_filter"),
            Self::ReversePathUplink => root.join("conf").join(uplink).join("rp_filter"),
            Self::ReversePathDevice(vni) => root.join("conf").join(device_name(vni)).join("rp_filter"),
        }
    }
}
