//! What a node finds out about its machine: address, size, cgroup mount.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use hyper::Uri;
use model::Resources;
use tokio::net::UdpSocket;

use super::NodeError;
use super::config::{Config, wrong};

/// An address for documentation (RFC 5737): the route to it is the default route. No packet is sent.
const ANYWHERE: &str = "192.0.2.1:9";

/// Mesos' rule for memory: leave 1 GiB to the system, or half where there is little.
const SYSTEM_MEM_MB: u64 = 1024;

/// The address that packets to the first reachable master leave with.
pub(super) async fn source_address(masters: &[String]) -> Result<Ipv4Addr, NodeError> {
    for master in masters {
        let Some(authority) = master.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned()) else {
            continue;
        };
        let target = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        match source_towards(&target).await {
            // The master is on this machine: other nodes need an address they can reach.
            Some(ip) if ip.is_loopback() => return Ok(source_towards(ANYWHERE).await.unwrap_or(ip)),
            Some(ip) => return Ok(ip),
            None => {}
        }
    }
    Err(wrong(
        "ip",
        "",
        "no master's name could be looked up, or no route leads to one, to take it from; set this node's IPv4 address",
    ))
}

/// The source address of the route to `target`, by connecting a datagram socket.
async fn source_towards(target: &str) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    socket.connect(target).await.ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

/// What the node offers: as set, else all CPUs and most of the memory.
pub(super) fn resources(config: &Config) -> Result<Resources, NodeError> {
    let cpus_milli = if config.cpus == 0.0 {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        u64::try_from(cpus).unwrap_or(u64::MAX).saturating_mul(1000)
    } else {
        // Seconds to milliseconds is the same arithmetic, and checked.
        std::time::Duration::try_from_secs_f64(config.cpus)
            .ok()
            .and_then(|cpus| u64::try_from(cpus.as_millis()).ok())
            .ok_or_else(|| wrong("cpus", &config.cpus.to_string(), "write a positive number"))?
    };
    let mem_mb = if config.mem_mb == 0 {
        detected_mem_mb()
    } else {
        config.mem_mb
    };
    Ok(Resources {
        cpus_milli,
        mem_mb,
        disk_mb: if config.disk_mb == 0 { 10 * 1024 } else { config.disk_mb },
    })
}

fn detected_mem_mb() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kb: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0);
    let total_mb = total_kb / 1024;
    if total_mb > 2 * SYSTEM_MEM_MB {
        total_mb - SYSTEM_MEM_MB
    } else {
        total_mb / 2
    }
}

/// What running tasks takes, with its bit: other users' processes, their cgroups, namespaces and links.
const FOR_TASKS: [(&str, u32); 7] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
];

/// The capabilities that this process lacks to run tasks; none where the kernel does not tell.
pub(super) fn missing_capabilities() -> Vec<&'static str> {
    missing_from(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn missing_from(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    let lacks = |bit: u32| effective & (1 << bit) == 0;
    FOR_TASKS
        .into_iter()
        .filter_map(|(name, bit)| lacks(bit).then_some(name))
        .collect()
}

/// Where the cgroup v2 hierarchy is mounted.
pub(super) fn cgroup_v2_root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(
            missing_from("Name:\tx\nCapEff:\t0000000000000000\n").len(),
            FOR_TASKS.len()
        );
        assert_eq!(missing_from("CapEff:\t000001ffffdfffff\n"), ["CAP_SYS_ADMIN"]);
        assert!(missing_from("CapEff:\t000001ffffffffff\n").is_empty() && missing_from("").is_empty());
    }

    #[tokio::test]
    async fn loopback_has_a_source() {
        assert_eq!(source_towards("127.0.0.1:9").await, Some(Ipv4Addr::LOCALHOST));
    }
}
