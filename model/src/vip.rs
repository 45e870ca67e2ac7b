//! The grammar of VIP labels, as DC/OS users write them.

use std::net::IpAddr;

use crate::{Protocol, VipName, framework_frag, vip_frag};

/// Beginning of the task labels that declare a VIP for one of the task's host ports.
const VIP_PORT: &str = "VIP_PORT";

/// What a VIP label points at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VipTarget {
    /// `/name:port`: an address is found by hashing the name.
    Name(VipName),
    /// `1.2.3.4:port`.
    Addr(IpAddr),
}

/// A VIP as declared: target, port and protocol make it one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VipKey {
    /// Name or address.
    pub target: VipTarget,
    /// Virtual port.
    pub port: u16,
    /// From the port that carries the label.
    pub protocol: Protocol,
}

/// Why a VIP label makes no VIP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VipLabelError {
    /// No `:` in it.
    #[error("VIP `{0}` has no port: write /name:port")]
    NoPort(String),
    /// The text behind the last `:` is no number from 1 to 65535.
    #[error("VIP `{0}`: the port must be a number from 1 to 65535")]
    BadPort(String),
    /// An address that no service can have: loopback, multicast, link-local, unspecified.
    #[error("VIP `{0}`: a service cannot have this address; choose a private one or a name")]
    BadAddress(String),
    /// A task label `VIP_PORT<index>` without an index or without `tcp://` or `udp://`.
    #[error("task label {0}=`{1}`: write VIP_PORT<index>=tcp://name:port or udp://name:port")]
    TaskLabel(String, String),
    /// The index of a task label `VIP_PORT<index>` is beyond the task's host ports.
    #[error("task label {0}: the task has only {1} host ports")]
    NoSuchPort(String, usize),
    /// Nothing of the name is left once it is cleaned for DNS.
    #[error("VIP `{0}` has no usable name before the port")]
    EmptyName(String),
    /// The framework's name leaves nothing once cleaned.
    #[error("framework name `{0}` leaves no usable DNS name")]
    EmptyFramework(String),
}

/// Whether a port label's key declares a VIP: it begins with `VIP` or `vip`, in just these cases.
pub fn is_vip_label(key: &str) -> bool {
    key.starts_with("VIP") || key.starts_with("vip")
}

/// Parses a VIP label's value (`/name:port`, `name:port`, `1.2.3.4:port`, `fd01::1:port`, `[fd01::1]:port`).
///
/// Split at the last `:`. Differs from dcos-net where that was a fault: ports over 65535, empty names and addresses that
/// no service can have are refused, a bracketed IPv6 address is an address, an IPv4 address in IPv6 form is that IPv4
/// address.
pub fn parse_vip(value: &str, framework: &str, protocol: Protocol) -> Result<VipKey, VipLabelError> {
    let (left, port) = value
        .rsplit_once(':')
        .ok_or_else(|| VipLabelError::NoPort(value.to_owned()))?;
    let digits = port.strip_prefix('+').unwrap_or(port);
    let port = digits
        .parse::<u16>()
        .ok()
        .filter(|port| *port != 0 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| VipLabelError::BadPort(value.to_owned()))?;
    let bare = left
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(left);
    let target = match bare.parse::<IpAddr>().map(|addr| addr.to_canonical()) {
        Ok(addr) if usable(addr) => VipTarget::Addr(addr),
        Ok(_) => return Err(VipLabelError::BadAddress(value.to_owned())),
        Err(_) => VipTarget::Name(vip_name(left, value, framework)?),
    };
    Ok(VipKey { target, port, protocol })
}

/// Whether a service can be reached at `addr` at all. A VIP on a loopback address would take a node's own traffic away.
fn usable(addr: IpAddr) -> bool {
    let special = match addr {
        IpAddr::V4(addr) => addr.is_broadcast() || addr.is_link_local() || addr.octets()[0] == 0,
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    };
    !(special || addr.is_loopback() || addr.is_multicast() || addr.is_unspecified())
}

fn vip_name(left: &str, value: &str, framework: &str) -> Result<VipName, VipLabelError> {
    let label = vip_frag(left);
    if label.is_empty() {
        return Err(VipLabelError::EmptyName(value.to_owned()));
    }
    let cleaned = framework_frag(framework);
    if cleaned.is_empty() {
        return Err(VipLabelError::EmptyFramework(framework.to_owned()));
    }
    Ok(VipName {
        label,
        framework: cleaned,
    })
}

/// Whether a task label's key is of the older form `VIP_PORT<index>`, in any case.
pub fn is_vip_port_label(key: &str) -> bool {
    key.get(..VIP_PORT.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(VIP_PORT))
}

/// Splits the older form: the task label `VIP_PORT<index>=tcp://name-or-address:port`. Gives the index into the task's
/// host ports, the protocol, and a value for [`parse_vip`].
pub fn split_vip_port<'a>(key: &str, value: &'a str) -> Result<(usize, Protocol, &'a str), VipLabelError> {
    let bad = || VipLabelError::TaskLabel(key.to_owned(), value.to_owned());
    let index = key.get(VIP_PORT.len()..).ok_or_else(bad)?;
    if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let index = index.parse().map_err(|_| bad())?;
    let (protocol, rest) = match (value.strip_prefix("tcp://"), value.strip_prefix("udp://")) {
        (Some(rest), _) => (Protocol::Tcp, rest),
        (None, Some(rest)) => (Protocol::Udp, rest),
        (None, None) => return Err(bad()),
    };
    Ok((index, protocol, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(value: &str) -> Result<(String, u16), VipLabelError> {
        parse_vip(value, "marathon", Protocol::Tcp).map(|key| match key.target {
            VipTarget::Name(name) => (name.fragment(), key.port),
            VipTarget::Addr(addr) => (addr.to_string(), key.port),
        })
    }

    #[test]
    fn both_forms_parse() {
        assert_eq!(named("/my-service:5555"), Ok(("my-service.marathon".into(), 5555)));
        assert_eq!(named("my-service:+80"), Ok(("my-service.marathon".into(), 80)));
        assert_eq!(named("1.2.3.4:80"), Ok(("1.2.3.4".into(), 80)));
        assert_eq!(named("fd01:c::5:8080"), Ok(("fd01:c::5".into(), 8080)));
        assert_eq!(named("[fd01:c::5]:8080"), Ok(("fd01:c::5".into(), 8080)));
        assert_eq!(named("::ffff:1.2.3.4:80"), Ok(("1.2.3.4".into(), 80)));
    }

    #[test]
    fn faults_are_refused_with_their_reason() {
        assert_eq!(named("/x"), Err(VipLabelError::NoPort("/x".into())));
        for bad in [
            "/x:0", "/x:70000", "/x:-1", "/x: 80", "/x:0x50", "/x:", "/x:++80", "/x:+",
        ] {
            assert_eq!(named(bad), Err(VipLabelError::BadPort(bad.into())), "{bad}");
        }
        assert_eq!(named("/:80"), Err(VipLabelError::EmptyName("/:80".into())));
        for bad in [
            "127.0.0.1:80",
            "0.0.0.0:80",
            "::1:80",
            "224.0.0.1:80",
            "[fe80::1]:80",
            "::ffff:127.0.0.1:80",
        ] {
            assert_eq!(named(bad), Err(VipLabelError::BadAddress(bad.into())), "{bad}");
        }
    }

    #[test]
    fn keys_count_by_their_beginning() {
        for yes in ["VIP_0", "vip_0", "VIP", "VIPER", "VIP "] {
            assert!(is_vip_label(yes), "{yes}");
        }
        for no in ["Vip_0", "vIP_0", "MYVIP", " VIP_0"] {
            assert!(!is_vip_label(no), "{no}");
        }
    }

    #[test]
    fn task_labels_split() {
        for key in ["VIP_PORT0", "vip_port12", "Vip_Port3"] {
            assert!(is_vip_port_label(key), "{key}");
        }
        assert!(!is_vip_port_label("VIP_0") && !is_vip_port_label("MY_VIP_PORT0"));
        assert_eq!(
            split_vip_port("vip_port1", "udp://a:53"),
            Ok((1, Protocol::Udp, "a:53"))
        );
        for (key, value) in [
            ("VIP_PORT", "tcp://a:1"),
            ("VIP_PORT-1", "tcp://a:1"),
            ("VIP_PORT+1", "tcp://a:1"),
            ("VIP_PORT0", "a:1"),
            ("VIP_PORT0", "TCP://a:1"),
            ("VIP_PORT99999999999999999999", "tcp://a:1"),
        ] {
            assert!(
                matches!(split_vip_port(key, value), Err(VipLabelError::TaskLabel(..))),
                "{key}={value}"
            );
        }
    }
}
