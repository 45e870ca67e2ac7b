//! The grammar of VIP labels, as DC/OS users write them.

use std::net::IpAddr;

use crate::{Protocol, VipName, domain_frag};

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
/// Split at the last `:`. Differs from dcos-net where that was a fault: ports over 65535 and empty names are refused,
/// a bracketed IPv6 address is an address.
pub fn parse_vip(value: &str, framework: &str, protocol: Protocol) -> Result<VipKey, VipLabelError> {
    let (left, port) = value
        .rsplit_once(':')
        .ok_or_else(|| VipLabelError::NoPort(value.to_owned()))?;
    let bad_port = || VipLabelError::BadPort(value.to_owned());
    let port: u16 = port.strip_prefix('+').unwrap_or(port).parse().map_err(|_| bad_port())?;
    if port == 0 {
        return Err(bad_port());
    }
    let bare = left
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(left);
    let target = match bare.parse::<IpAddr>() {
        Ok(addr) => VipTarget::Addr(addr),
        Err(_) => VipTarget::Name(vip_name(left, value, framework)?),
    };
    Ok(VipKey { target, port, protocol })
}

fn vip_name(left: &str, value: &str, framework: &str) -> Result<VipName, VipLabelError> {
    let label = domain_frag(left);
    if label.is_empty() {
        return Err(VipLabelError::EmptyName(value.to_owned()));
    }
    let cleaned = domain_frag(framework);
    if cleaned.is_empty() {
        return Err(VipLabelError::EmptyFramework(framework.to_owned()));
    }
    Ok(VipName {
        label,
        framework: cleaned,
    })
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
    }

    #[test]
    fn faults_are_refused_with_their_reason() {
        assert_eq!(named("/x"), Err(VipLabelError::NoPort("/x".into())));
        for bad in ["/x:0", "/x:70000", "/x:-1", "/x: 80", "/x:0x50", "/x:"] {
            assert_eq!(named(bad), Err(VipLabelError::BadPort(bad.into())), "{bad}");
        }
        assert_eq!(named("/:80"), Err(VipLabelError::EmptyName("/:80".into())));
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
}
