//! A node in namespaces of its own whose hooks are on this process: ten backends on the loopback behind one VIP.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use lb_userspace::{Config, Lb, apply, desired, observe, plan};
use model::{AgentId, Backend, Generation, NodeView, Protocol, Service, ServiceOptions, Snapshot, TaskId, VipAddress};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

pub(super) const BACKENDS: u8 = 10;
pub(super) const PORT: u16 = 8000;
const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
const GROUP: &str = "cgroup/revere-bench-sockets";

pub(super) fn vip() -> SocketAddr {
    (Ipv4Addr::new(198, 18, 2, 3), 5555).into()
}

pub(super) fn backend(n: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 9, 0, n % BACKENDS + 1), PORT).into()
}

pub(super) struct Lab {
    _lb: Lb,
    folder: tempfile::TempDir,
}

impl Lab {
    pub(super) fn new() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("this needs root")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("private mounts")?;
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("cgroup"))?;
        mount(
            Some("none"),
            &folder.path().join("cgroup"),
            Some("cgroup2"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("could not mount cgroup2")?;
        let group = folder.path().join(GROUP);
        fs::create_dir(&group)?;
        ip("link set lo up")?;
        for n in 0..BACKENDS {
            ip(&format!("addr add {}/32 dev lo", backend(n).ip()))?;
        }
        let net = "198.18.0.0/15".parse().context("the VIP range")?;
        let config = Config::new(folder.path().join("bpf"), Vec::new(), group.clone(), net);
        let (mut lb, _) = Lb::open(config)?;
        let wanted = desired(&snapshot(), &NodeView { ip: OWN, agent: None });
        let found = observe(&mut lb)?;
        let report = apply(&mut lb, &plan(&wanted, &found));
        ensure!(report.failed.is_empty(), "{report:?}");
        fs::write(group.join("cgroup.procs"), "0").context("could not enter the cgroup")?;
        Ok(Self { _lb: lb, folder })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let path = |name: &str| self.folder.path().join(name);
        // What is not there needs no removing; the namespaces take the rest.
        let _ = fs::write(path("cgroup/cgroup.procs"), "0");
        let _ = fs::remove_dir(path(GROUP));
        for name in ["bpf", "cgroup"] {
            let _ = umount2(&path(name), MntFlags::MNT_DETACH);
        }
    }
}

fn ip(args: &str) -> Result<()> {
    let status = Command::new("ip").args(args.split_whitespace()).status();
    ensure!(status.context("iproute2 is not installed")?.success(), "ip {args}");
    Ok(())
}

fn snapshot() -> Snapshot {
    let services = [Protocol::Tcp, Protocol::Udp].map(|protocol| {
        let address = VipAddress {
            addr: vip().ip(),
            port: vip().port(),
            protocol,
        };
        let backends = (0..BACKENDS).map(|n| Backend {
            addr: backend(n).ip(),
            port: PORT,
            weight: 1,
            agent: AgentId::new("agent".to_owned()),
            agent_ip: OWN,
            task: TaskId::new(format!("task-{n}")),
        });
        let service = Service {
            vip: address,
            name: None,
            backends: backends.collect(),
            options: ServiceOptions::default(),
        };
        (address, Arc::new(service))
    });
    Snapshot {
        generation: Generation(1),
        services: services.into_iter().collect(),
        ..Snapshot::default()
    }
}

/// The figures of one run, below a directory.
pub(super) fn write(folder: &Path, name: &str, figures: &serde_json::Value) -> Result<()> {
    fs::create_dir_all(folder)?;
    let path = folder.join(name);
    fs::write(&path, serde_json::to_vec_pretty(figures)?).with_context(|| format!("could not write {}", path.display()))
}
