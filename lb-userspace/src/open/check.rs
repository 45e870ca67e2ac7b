//! What must be true before anything is loaded; each failure is one clear sentence.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use aya::maps::{Array, Map, MapData};
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported, is_program_supported};
use aya::util::KernelVersion;
use lb_common::{LAYOUT_VERSION, TUNNEL_PORT};

use crate::OpenError;
use crate::open::link;

/// `BPF_FS_MAGIC` of the kernel.
const BPF_FS: u64 = 0xcafe_4a11;
/// `CGROUP2_SUPER_MAGIC` of the kernel.
const CGROUP2_FS: u64 = 0x6367_7270;

/// Capabilities by bit number.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
const SYS_ADMIN: u32 = 21;

pub(crate) fn machine() -> Result<(), OpenError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or_default();
    let has = |bit: u32| held & (1 << bit) != 0;
    // CAP_SYS_ADMIN contains the two younger ones.
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(bit, _)| !(has(*bit) || *bit > 32 && has(SYS_ADMIN)))
        .map(|(_, name)| *name)
        .collect();
    if !missing.is_empty() {
        return Err(OpenError::Privilege {
            missing: missing.join(", "),
        });
    }
    features()
}

/// Asks the kernel itself rather than its version: distributors add features and leave some out. What else is needed
/// (memory shared with array maps, 5.5; links for XDP and cgroups, 5.9) is older than the youngest of these.
fn features() -> Result<(), OpenError> {
    let program = |kind| lacks(is_program_supported(kind));
    let set_retval = || {
        lacks(is_helper_supported(
            ProgramType::CgroupSockAddr,
            BpfHelper::BPF_FUNC_set_retval,
        ))
    };
    let missing = if program(ProgramType::Xdp) {
        Some(("XDP (CONFIG_BPF_SYSCALL)", "4.8"))
    } else if program(ProgramType::SchedClassifier) {
        Some(("BPF programs for traffic control (CONFIG_NET)", "4.1"))
    } else if program(ProgramType::CgroupSockAddr) {
        Some((
            "BPF programs for the socket calls of a cgroup (CONFIG_CGROUP_BPF)",
            "4.17",
        ))
    } else if set_retval() {
        let feature = "BPF helper bpf_set_retval (socket hooks refuse unknown VIPs with it)";
        Some((feature, "5.18"))
    } else {
        None
    };
    missing.map_or(Ok(()), |(feature, needed)| {
        let found = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Err(OpenError::Kernel {
            found: found.trim().to_owned(),
            feature,
            needed,
        })
    })
}

/// An unclear answer counts as "has it": loading tells more.
fn lacks(probe: Result<bool, ProgramError>) -> bool {
    match probe {
        Ok(has) => !has,
        Err(ProgramError::SyscallError(error)) => error.io_error.raw_os_error() == Some(libc::ENOSYS),
        Err(_) => false,
    }
}

/// Whether the running kernel is at least this version; an unreadable version counts as new.
pub(crate) fn kernel_has(major: u8, minor: u8) -> bool {
    KernelVersion::current().map_or(true, |version| version >= KernelVersion::new(major, minor, 0))
}

/// Makes the directory for pins; mounts a bpffs on it unless it is on one.
pub(crate) fn bpffs(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Bpffs {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(path).map_err(failed)?;
    if !is_on(path, BPF_FS).map_err(failed)? {
        rustix::mount::mount("bpf", path, "bpf", rustix::mount::MountFlags::empty(), None)
            .map_err(|error| failed(error.into()))?;
    }
    for folder in ["maps", "links"] {
        fs::create_dir_all(path.join(folder)).map_err(failed)?;
    }
    Ok(())
}

pub(crate) fn cgroup(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Cgroup {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(path).map_err(failed)?;
    if is_on(path, CGROUP2_FS).map_err(failed)? {
        return Ok(());
    }
    Err(failed(io::Error::other(
        "it is not on a cgroup2 file system; mount one with `mount -t cgroup2 none /sys/fs/cgroup/unified`",
    )))
}

fn is_on(path: &Path, magic: u64) -> io::Result<bool> {
    let found = rustix::fs::statfs(path)?.f_type;
    Ok(u64::try_from(found).is_ok_and(|found| found == magic))
}

/// Says that clients which only packets tell of cannot be served where the kernel has no tcx.
pub(crate) fn local(interfaces: &[String], warnings: &mut Vec<String>) {
    if !interfaces.is_empty() && !kernel_has(6, 6) {
        warnings.push(format!(
            "clients on {} reach no VIP: that needs tcx, which came with Linux 6.6",
            interfaces.join(", ")
        ));
    }
}

/// Checks that the uplinks are there, lets the programs forward on them, and warns of a veth that would lose packets.
pub(crate) fn uplinks(names: &[String], warnings: &mut Vec<String>) -> Result<(), OpenError> {
    for name in names {
        if ifindex(name).is_none() {
            return Err(OpenError::Uplink { name: name.clone() });
        }
        // Without it the route lookup of the programs refuses.
        let forwarding = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
        if let Err(error) = fs::write(&forwarding, "1") {
            warnings.push(format!(
                "could not write 1 to {forwarding}: {error}; packets for backends on other nodes are dropped until it is 1"
            ));
        }
        let facts = link::facts(name).map_err(|source| OpenError::Link {
            name: name.clone(),
            source,
        })?;
        if facts.veth {
            warnings.push(format!(
                "uplink {name} is a veth: its other end needs GRO on or an XDP program, else packets sent by XDP are lost"
            ));
        }
    }
    Ok(())
}

/// Lets translated answers, which bear this node's own address when they reach the stack, be routed on to containers of other
/// nodes. What comes from outside with that address is dropped by the uplink program, so this comes after it.
pub(crate) fn accept_own(uplinks: &[String], warnings: &mut Vec<String>) {
    for name in uplinks {
        let file = format!("/proc/sys/net/ipv4/conf/{name}/accept_local");
        if let Err(error) = fs::write(&file, "1") {
            warnings.push(format!(
                "could not write 1 to {file}: {error}; what containers of other nodes still send to a task that has ended is lost"
            ));
        }
    }
}

/// Lets the programs ask for routes of IPv6 on the uplinks, and the stack send restored answers on. An uplink that has its address
/// and routes from a router's announcements goes on to hear them.
pub(crate) fn forward6(uplinks: &[String], warnings: &mut Vec<String>) {
    let setting = |name: &str, key: &str| format!("/proc/sys/net/ipv6/conf/{name}/{key}");
    for name in uplinks {
        let forwarding = setting(name, "forwarding");
        if !Path::new(&forwarding).exists() {
            // A kernel without IPv6.
            continue;
        }
        let announcements = setting(name, "accept_ra");
        let is = |file: &str, wanted: &str| fs::read_to_string(file).is_ok_and(|text| text.trim() == wanted);
        // One that forwards already is left alone: it may be deaf to routers on purpose, and to write this forgets what other
        // interfaces have from theirs.
        if !is(&forwarding, "1") {
            let heard = is(&announcements, "1").then_some((&announcements, "2"));
            for (file, value) in heard.into_iter().chain([(&forwarding, "1")]) {
                if let Err(error) = fs::write(file, value) {
                    warnings.push(format!(
                        "could not write {value} to {file}: {error}; IPv6 packets for backends on nodes without Revere are dropped until {forwarding} is 1"
                    ));
                    break;
                }
                tracing::info!("wrote {value} to {file}, so that IPv6 backends on nodes without Revere are reached");
            }
        }
        // Linux 6.17; before it the stack forwards on all interfaces or none, which is not for us to say.
        let (forced, all) = (setting(name, "force_forwarding"), setting("all", "forwarding"));
        let why = match (Path::new(&forced).exists(), is(&all, "1")) {
            (true, _) => fs::write(&forced, "1")
                .err()
                .map(|error| format!("could not write 1 to {forced}: {error}")),
            (false, true) => None,
            (false, false) => Some(format!("this kernel has no {forced}, and {all} is not 1")),
        };
        warnings
            .extend(why.map(|why| format!("{why}; IPv6 answers to clients whose link address is not known are lost")));
    }
}

/// The ports that the kernel gives to sockets which ask for any, per network namespace.
const LOCAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Refuses ports for translated flows that others may get.
pub fn nat_ports(ports: &RangeInclusive<u16>) -> Result<(), OpenError> {
    let refused = |why: String| OpenError::NatPorts {
        first: *ports.start(),
        last: *ports.end(),
        why,
    };
    if ports.is_empty() || *ports.start() == 0 {
        return Err(refused("that is no range of ports".to_owned()));
    }
    if ports.contains(&TUNNEL_PORT) {
        return Err(refused(format!("{TUNNEL_PORT} is the tunnel's")));
    }
    let told =
        fs::read_to_string(LOCAL_PORTS).map_err(|error| refused(format!("could not read {LOCAL_PORTS}: {error}")))?;
    let mut words = told.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (words.next(), words.next()) else {
        return Err(refused(format!("{LOCAL_PORTS} makes no sense: {told}")));
    };
    if *ports.start() <= last && *ports.end() >= first {
        return Err(refused(format!("{LOCAL_PORTS} gives {first} to {last} to any socket")));
    }
    Ok(())
}

/// The interface's index.
pub(crate) fn ifindex(name: &str) -> Option<u32> {
    let index = rustix::net::netdevice::name_to_index(socket()?, name).ok()?;
    Some(index)
}

fn socket() -> Option<std::os::fd::OwnedFd> {
    rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).ok()
}

/// The version of the pinned maps if they are of another layout than ours. Newer ones, and maps without a version, are refused.
pub(crate) fn layout(bpffs: &Path) -> Result<Option<u32>, OpenError> {
    let folder = bpffs.join("maps");
    let pinned = fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    if !pinned {
        return Ok(None);
    }
    let unreadable = |source| OpenError::Migrate {
        path: folder.clone(),
        source,
    };
    match version(&folder).map_err(unreadable)? {
        None => Err(OpenError::NoLayout { path: folder }),
        Some(LAYOUT_VERSION) => Ok(None),
        Some(found @ 1..LAYOUT_VERSION) => Ok(Some(found)),
        Some(found) => Err(OpenError::Layout {
            path: folder,
            found,
            expected: LAYOUT_VERSION,
        }),
    }
}

/// The version that pinned maps tell; `None` where they tell none, or where there are none.
pub(crate) fn version(folder: &Path) -> io::Result<Option<u32>> {
    let pin = folder.join("LAYOUT");
    if !pin.try_exists()? {
        return Ok(None);
    }
    let map = MapData::from_pin(&pin).map_err(io::Error::other)?;
    let array: Array<MapData, u32> = Map::Array(map).try_into().map_err(io::Error::other)?;
    let version = array.get(&0, 0).map_err(io::Error::other)?;
    // Made, and its maker ended before it was written.
    Ok(Some(version).filter(|version| *version != 0))
}
