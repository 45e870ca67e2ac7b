//! The names of one task, in every form that Mesos-DNS and dcos-net gave it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use model::{FrameworkInfo, MAX_LABEL, Node, PortScope, Protocol, Task, TaskState};

use super::{Claim, Rank, Record, reverse};
use crate::Config;
use crate::config::IpSource;

/// Task label that says when a task has names.
const POLICY_LABEL: &str = "REVERE_DNS";

/// Longest part of an agent id kept in canonical names; Mesos's own (`s0`) are far shorter.
const MAX_TAIL: usize = 20;

/// Everything the task claims; nothing for one that shall have no names now, or of whose name nothing is left.
pub(crate) fn task(task: &Task, node: &Node, framework: &FrameworkInfo, config: &Config) -> Vec<Claim> {
    let Some(standing) = standing(task) else {
        return Vec::new();
    };
    let fragment = model::framework_frag(&framework.name);
    let label = model::label(&task.name);
    if label.is_empty() || fragment.is_empty() {
        return Vec::new();
    }
    let mut origin = DefaultHasher::new();
    (&task.framework, &task.name).hash(&mut origin);
    let mut names = TaskNames {
        task,
        node,
        config,
        standing,
        origin: origin.finish(),
        canonical: canonical(&label, task),
        service: model::label_within(&task.name, MAX_LABEL - 1),
        label,
        suffix: format!("{fragment}.{}", config.domain),
        slave_suffix: format!("{fragment}.slave.{}", config.domain),
        out: Vec::new(),
    };
    names.addrs();
    names.host_ports();
    names.discovery();
    names.by_network(&framework.name);
    names.out
}

/// Whether a task is one of those a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Ready,
    /// Only while no other is left.
    Fallback,
}

/// By default a task has names while it takes new connections. Its label says otherwise: `running` while it runs, healthy
/// or not; `starting` even before; `last` when it is not ready and none of its service is.
fn standing(task: &Task) -> Option<Standing> {
    use TaskState::{Killing, Running, Starting};
    if task.weight() == Some(1) {
        return Some(Standing::Ready);
    }
    match (task.labels.get(POLICY_LABEL).map(String::as_str), task.status.state) {
        (Some("running" | "starting"), Running) | (Some("starting"), Starting) => Some(Standing::Ready),
        (Some("last"), Running | Killing) => Some(Standing::Fallback),
        _ => None,
    }
}

struct TaskNames<'a> {
    task: &'a Task,
    node: &'a Node,
    config: &'a Config,
    standing: Standing,
    origin: u64,
    /// `my-service`.
    label: String,
    /// The same where an underscore stands before it, which counts towards a label's length.
    service: String,
    /// `my-service-iffe9-s0`.
    canonical: String,
    /// `marathon.mesos`.
    suffix: String,
    /// `marathon.slave.mesos`.
    slave_suffix: String,
    out: Vec<Claim>,
}

impl TaskNames<'_> {
    fn claim(&mut self, name: String, rank: Rank, record: Record) {
        let rank = match self.standing {
            Standing::Ready => rank,
            Standing::Fallback => Rank::Fallback,
        };
        self.out.push(Claim {
            name,
            rank,
            origin: self.origin,
            record,
        });
    }

    fn addrs(&mut self) {
        let own = self.plain_addrs();
        let agent = IpAddr::V4(self.node.ip);
        for first in [self.label.clone(), self.canonical.clone()] {
            for addr in &own {
                self.claim(format!("{first}.{}", self.suffix), Rank::Task, Record::Addr(*addr));
            }
            let on_agent = format!("{first}.{}", self.slave_suffix);
            self.claim(on_agent, Rank::OnAgent, Record::Addr(agent));
        }
        if self.standing == Standing::Ready {
            let name = format!("{}.{}", self.canonical, self.suffix);
            for addr in self.task.status.addresses.iter().filter(|addr| own.contains(addr)) {
                self.out.extend(reverse(*addr, &name, Rank::Task, self.config));
            }
        }
    }

    /// The addresses of the first source that has any.
    fn plain_addrs(&self) -> Vec<IpAddr> {
        let of = |source: &IpSource| match source {
            IpSource::Host => vec![IpAddr::V4(self.node.ip)],
            IpSource::Netinfo => self.task.status.addresses.clone(),
        };
        let mut lists = self.config.ip_sources.iter().map(of);
        lists.find(|addrs| !addrs.is_empty()).unwrap_or_default()
    }

    /// SRV of the agent's ports: always under `slave`, and in the task's own place when it declares no ports itself.
    fn host_ports(&mut self) {
        let target: Arc<str> = Arc::from(format!("{}.{}", self.canonical, self.slave_suffix));
        for port in &self.task.host_ports {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let record = Record::Srv(Arc::clone(&target), *port);
                let service = format!("_{}._{protocol}", self.service);
                self.claim(
                    format!("{service}.{}", self.slave_suffix),
                    Rank::OnAgent,
                    record.clone(),
                );
                if !self.task.has_discovery {
                    self.claim(format!("{service}.{}", self.suffix), Rank::Task, record);
                }
            }
        }
    }

    /// SRV of the ports that the task declares, by task name and by port name.
    fn discovery(&mut self) {
        if !self.task.has_discovery {
            return;
        }
        let own = self.plain_addrs();
        for port in &self.task.ports {
            // The rule by which backends of VIPs are chosen, so that SRV and VIP lead to the same place. Mesos-DNS paired
            // the task's address with the agent's port.
            for (addr, number) in model::reach(self.task, port, self.node) {
                let at_agent = addr == IpAddr::V4(self.node.ip) && !own.contains(&addr);
                let suffix = if at_agent { &self.slave_suffix } else { &self.suffix };
                let target: Arc<str> = Arc::from(format!("{}.{suffix}", self.canonical));
                let service = format!("_{}._{}.{}", self.service, port.protocol, self.suffix);
                let port_name = port.name.as_deref().unwrap_or_default();
                let port_name = model::label_within(port_name, MAX_LABEL - 1);
                let record = Record::Srv(target, number);
                if !port_name.is_empty() {
                    self.claim(format!("_{port_name}.{service}"), Rank::Task, record.clone());
                }
                self.claim(service, Rank::Task, record);
            }
        }
    }

    /// `agentip`, `containerip` and `autoip`. Here dots in names become dashes, in the framework's too.
    fn by_network(&mut self, framework: &str) {
        let fragment = model::label(framework);
        if fragment.is_empty() {
            return;
        }
        let agent = vec![IpAddr::V4(self.node.ip)];
        let own = self.task.status.addresses.clone();
        let auto = if self.has_host_port() || own.is_empty() {
            agent.clone()
        } else {
            own.clone()
        };
        for (kind, addrs) in [("agentip", agent), ("containerip", own), ("autoip", auto)] {
            let name = format!("{}.{fragment}.{kind}.dcos.{}", self.label, self.config.directory);
            for addr in addrs {
                self.claim(name.clone(), Rank::Task, Record::Addr(addr));
            }
        }
    }

    /// Whether any of its ports is one of the agent's.
    fn has_host_port(&self) -> bool {
        let task = self.task;
        let mapped = task.mappings.iter().any(|mapping| mapping.host_port != 0);
        let declared = task.ports.iter().any(|port| port.scope == PortScope::Host);
        mapped || declared || task.labels.keys().any(|key| model::is_vip_port_label(key))
    }
}

/// `<task>-<hash of the task id>-<tail of the agent id>`, at most one label long; Mesos-DNS let it grow past that and made
/// names nobody could resolve. The hash keeps what was cut apart.
fn canonical(label: &str, task: &Task) -> String {
    let hash = model::task_hash(task.id.as_str());
    let agent = task.agent.as_str();
    let tail = model::label_within(agent.rsplit('-').next().unwrap_or(agent), MAX_TAIL);
    let end = if tail.is_empty() {
        format!("-{hash}")
    } else {
        format!("-{hash}-{tail}")
    };
    let head = label.get(..MAX_LABEL - end.len()).unwrap_or(label);
    format!("{}{end}", head.trim_end_matches('-'))
}
