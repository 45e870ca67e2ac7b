//! What a master tells of itself in etcd: the `MasterInfo` that Mesos's own clients know.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::mesos::encode;

/// One master.
#[derive(Clone, Debug)]
pub(in crate::master) struct Member {
    /// `host:port` where the others, nodes and people reach it; its name.
    pub(in crate::master) address: String,
    host: String,
    pub(in crate::master) port: u16,
    /// Tells this start of the machine from others.
    boot: String,
    pid: u32,
}

impl Member {
    /// `advertise` as set, or where this master listens; nothing if that is every address.
    pub(in crate::master) fn new(advertise: &str, listens: SocketAddr) -> Option<Self> {
        let address = match advertise {
            "" if listens.ip().is_unspecified() => return None,
            "" => listens.to_string(),
            given => given.to_owned(),
        };
        let (host, port) = address.rsplit_once(':')?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        (!host.is_empty() && host.chars().all(plain)).then(|| Self {
            host,
            port,
            boot: boot(),
            pid: std::process::id(),
            address,
        })
    }

    /// Packed as Mesos has it: the bytes in network order, read as a little-endian number.
    fn packed(&self) -> u32 {
        self.host
            .parse::<Ipv4Addr>()
            .map_or(0, |ip| u32::from_le_bytes(ip.octets()))
    }

    pub(in crate::master) fn info(&self) -> Value {
        json!({
            "id": format!("{}-{}", self.boot, self.pid),
            "hostname": self.host,
            "ip": self.packed(),
            "port": self.port,
            "pid": format!("master@{}", self.address),
            "address": {"hostname": self.host, "ip": self.host, "port": self.port},
            "version": encode::VERSION,
            "revere": {"release": env!("CARGO_PKG_VERSION"), "boot": self.boot, "pid": self.pid},
        })
    }

    /// Whether `info` is of a process on this machine that has ended: this master's own, before a restart.
    pub(in crate::master) fn was_before(&self, info: &[u8]) -> bool {
        let info: Value = serde_json::from_slice(info).unwrap_or_default();
        let of = &info["revere"];
        let pid = of["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let gone = |pid: i32| {
            rustix::process::Pid::from_raw(pid)
                .is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
        };
        !self.boot.is_empty() && of["boot"] == json!(self.boot) && pid.is_some_and(gone)
    }
}

/// The kernel's name for this start, with the namespace that process ids are of.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let space: String = space.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    match id.trim() {
        "" => String::new(),
        id => format!("{id}-{space}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_named_by_where_it_is_reached() {
        let at = |advertise: &str, listens: &str| {
            Member::new(advertise, listens.parse().expect("address")).map(|member| member.address)
        };
        assert_eq!(at("", "10.0.0.1:5050").as_deref(), Some("10.0.0.1:5050"));
        assert_eq!(at("m1.example:80", "0.0.0.0:5050").as_deref(), Some("m1.example:80"));
        assert_eq!(at("[fd00::1]:5", "[::]:5050").as_deref(), Some("[fd00::1]:5"));
        for wrong in ["", "m1", "m1:0", ":5050", "m 1:5050", "http://m1:5050"] {
            assert_eq!(at(wrong, "0.0.0.0:5050"), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_process_that_ended_here_was_before() {
        let me = Member::new("", SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 5050)).expect("named");
        let mut info = me.info();
        assert!(!me.was_before(info.to_string().as_bytes()), "it runs");
        info["revere"]["pid"] = json!(i32::MAX);
        assert!(me.was_before(info.to_string().as_bytes()));
        info["revere"]["boot"] = json!("another machine");
        assert!(!me.was_before(info.to_string().as_bytes()));
        assert!(!me.was_before(b"{}"));
        let location = crate::node::leader_in(me.info().to_string().as_bytes());
        assert_eq!(location.as_deref(), Some("127.0.0.1:5050"));
    }
}
