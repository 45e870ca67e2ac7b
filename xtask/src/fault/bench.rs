//! A cluster with a service, loads on it, and the node's own counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::FaultArgs;
use crate::demo::{At, Load, Report, client_app};
use crate::lab::{Cluster, NODES, PATIENCE, Task, net, underlay, wait_for};

/// Port of a node's own API.
const NODE_API: u16 = 5051;
/// The service's VIP port.
pub(super) const PORT: u16 = 5555;
/// Flows held in the long form: with one request a second on each, two cores still have time for everything else.
const FLOWS: u32 = 3000;
const SHORT_FLOWS: u32 = 200;
/// Processes that hold the outside client's flows; each may open 20,000 descriptors, and one core is each one's limit.
const HOLDERS: u32 = 4;

/// The cluster.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(super) cluster: Cluster,
    pub(super) short: bool,
    /// It has three masters.
    pub(super) many: bool,
    pub(super) flows: u32,
    /// Task starts of L1, if told.
    pub(super) starts: Option<u64>,
    /// The service's address.
    pub(super) vip: IpAddr,
    seed: u64,
    /// What the last load without a fault counted, if it lost nothing, and for how many seconds it was asked.
    calm: Option<(u64, Sum)>,
}

/// Loads at work.
#[derive(Debug)]
pub(super) struct Loads {
    loads: Vec<Load>,
    flows: u64,
}

/// What loads counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum {
    pub(super) flows: u64,
    pub(super) broken: u64,
    pub(super) failed: u64,
    pub(super) total: u64,
    pub(super) max_us: u64,
    pub(super) reports: Vec<(String, Report)>,
}

impl Bench {
    /// Starts everything and waits until every client gets answers.
    pub(super) fn start(revere: &Path, args: &FaultArgs, many: bool) -> Result<Self> {
        let cluster = match many {
            true => Cluster::start_many(revere, &[])?,
            false => Cluster::start(revere)?,
        };
        let mut bench = Self {
            cluster,
            short: args.short,
            many,
            flows: args.flows.unwrap_or(if args.short { SHORT_FLOWS } else { FLOWS }),
            starts: args.starts,
            vip: IpAddr::from([0, 0, 0, 0]),
            seed: 0x9e37_79b9_7f4a_7c15,
            calm: None,
        };
        bench.deploy("service", include_str!("../../../examples/named-vip.json"))?;
        bench.deploy("client", &client_app().to_string())?;
        bench.cluster.running("/my-service", 3)?;
        bench.vip = bench.address("my-service")?;
        bench.answers()?;
        Ok(bench)
    }

    pub(super) fn close(self) -> Result<()> {
        self.cluster.lab.close()
    }

    /// Adds an app and waits until it is deployed.
    pub(super) fn deploy(&self, name: &str, definition: &str) -> Result<()> {
        let file = self.cluster.lab.dir.join(format!("{name}.json"));
        std::fs::write(&file, definition)?;
        self.cluster
            .cli(&["app", "add", file.to_str().context("a plain path")?])
            .with_context(|| self.cluster.picture())
            .map(drop)
    }

    /// The address of a named VIP, once the name is there.
    pub(super) fn address(&self, name: &str) -> Result<IpAddr> {
        let name = format!("{name}.marathon.l4lb.thisdcos.directory");
        self.cluster.until(&format!("{name} has an address"), |cluster| {
            let said = cluster
                .node(1)
                .run(&["dig", "+short", "@198.51.100.1", &name, "A"])
                .ok()?;
            said.lines().next()?.parse().ok()
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}:{PORT}/", self.vip)
    }

    /// Waits until the service answers everywhere.
    pub(super) fn answers(&self) -> Result<()> {
        for at in At::all(&self.cluster)? {
            self.cluster
                .until(&format!("the service answers: {}", at.name()), |cluster| {
                    let args = ["--requests", "12", "--timeout-ms", "500"];
                    let report = Load::start(cluster, &at, &self.url(), &args).ok()?.finish().ok()?;
                    (report.failed == 0).then_some(())
                })?;
        }
        Ok(())
    }

    /// Flows held from outside through every node, a few from every other place, and new connections everywhere.
    pub(super) fn load(&self, seconds: u64, url: &str) -> Result<Loads> {
        let time = seconds.to_string();
        let (mut loads, mut flows) = (Vec::new(), 0_u64);
        let each = (self.flows / HOLDERS).max(1);
        let rate = if self.short { "50" } else { "100" };
        for at in At::all(&self.cluster)? {
            let (holders, held) = match at {
                At::Outside => (HOLDERS, each),
                At::Host(_) | At::Container(_) => (1, 10),
            };
            for _ in 0..holders {
                let held_text = held.to_string();
                let args = ["--seconds", &time, "--hold", "--connections", &held_text];
                loads.push(Load::start(&self.cluster, &at, url, &args)?);
                flows += u64::from(held);
            }
            loads.push(Load::start(
                &self.cluster,
                &at,
                url,
                &["--seconds", &time, "--rate", rate],
            )?);
        }
        Ok(Loads { loads, flows })
    }

    /// The load without a fault. In the short form one is taken for all faults of this cluster, if it was long enough.
    pub(super) fn control(&mut self, seconds: u64) -> Result<Sum> {
        if let Some((took, calm)) = &self.calm
            && self.short
            && *took >= seconds
        {
            eprintln!("control: the one before, of {took} s: {}", calm.told());
            return Ok(calm.clone());
        }
        let sum = self.load(seconds, &self.url())?.finish()?;
        eprintln!("control: {}", sum.told());
        if sum.bad() == 0 {
            self.calm = Some((seconds, sum.clone()));
        }
        Ok(sum)
    }

    /// A random number below `below`; the same ones in each run.
    pub(super) fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below.max(1)
    }

    /// A random time below `below`.
    pub(super) fn pause(&mut self, below: Duration) {
        let millis = self.random(u64::try_from(below.as_millis()).unwrap_or(1));
        rest(Duration::from_millis(millis));
    }

    /// Waits until a node's daemon answers on its API.
    pub(super) fn node_is_up(&self, number: u8) -> Result<()> {
        let found = wait_for(PATIENCE, || self.counts(number).ok());
        found.map(drop).with_context(|| {
            let log = self
                .cluster
                .daemon(number)
                .map(crate::lab::Daemon::output)
                .unwrap_or_default();
            format!(
                "the daemon of node{number} does not answer; it said: {}",
                crate::shell::last_lines(&log, 8)
            )
        })
    }

    /// What each node's load balancer knows of a client's flow, and what it would do with a new one, as text.
    pub(super) fn flow(&self, client: SocketAddr, service: &str, port: u16) -> Result<String> {
        let mut told = String::new();
        for number in nodes() {
            let to = SocketAddr::new(underlay(number).parse()?, NODE_API);
            for ask in [
                format!("flows?from={client}"),
                format!("explain/{service}:{port}?from={client}"),
            ] {
                let (_, body) = net::http(self.cluster.node(number), to, &format!("GET /revere/v1/{ask}"), "")?;
                writeln!(told, "\n      node{number} {}", body.trim())?;
            }
        }
        Ok(told)
    }

    /// A node's metrics by name and labels.
    pub(super) fn counts(&self, number: u8) -> Result<BTreeMap<String, f64>> {
        let to = SocketAddr::new(underlay(number).parse()?, NODE_API);
        let (status, body) = net::http(self.cluster.node(number), to, "GET /metrics", "")?;
        if status != 200 {
            bail!("node{number} answered {status}");
        }
        let lines = body.lines().filter(|line| !line.starts_with('#'));
        Ok(lines
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect())
    }

    /// One app's definition changed, as by Marathon's API; waits until nothing is being deployed.
    pub(super) fn update(&self, app: &str, change: &Value) -> Result<()> {
        let to = SocketAddr::new(underlay(1).parse()?, 8080);
        let head = format!("PUT /v2/apps/{}", app.trim_start_matches('/'));
        let (status, body) = net::http(self.cluster.node(1), to, &head, &change.to_string())?;
        if !(200..300).contains(&status) {
            bail!("the master answered {status} to a change of {app}: {body}");
        }
        self.cluster.until(&format!("{app} is deployed"), |cluster| {
            let (_, body) = net::http(cluster.node(1), to, "GET /v2/deployments", "").ok()?;
            // A chunked body has its lengths around the JSON.
            body.lines().any(|line| line.trim() == "[]").then_some(())
        })
    }

    /// Kills a node's daemon and starts it again after `gone`.
    pub(super) fn restart(&mut self, number: u8, gone: Duration, revere: Option<&Path>) -> Result<()> {
        self.cluster.kill_node(number)?;
        self.pause(gone);
        match revere {
            Some(revere) => self.cluster.start_node_of(number, revere)?,
            None => self.cluster.start_node(number)?,
        }
        self.node_is_up(number)
    }
}

impl Loads {
    /// Waits for the end of all.
    pub(super) fn finish(self) -> Result<Sum> {
        let mut sum = Sum {
            flows: self.flows,
            ..Sum::default()
        };
        for load in self.loads {
            let name = load.at.name();
            let report = load.finish()?;
            sum.broken += report.broken;
            sum.failed += report.failed;
            sum.total += report.total;
            sum.max_us = sum.max_us.max(report.max_us);
            sum.reports.push((name, report));
        }
        Ok(sum)
    }
}

impl Sum {
    /// Failures of both kinds.
    pub(super) fn bad(&self) -> u64 {
        self.broken + self.failed
    }

    pub(super) fn told(&self) -> String {
        let mut text = format!(
            "{} flows, {} broken; {} requests, {} failed; slowest answer {} ms",
            self.flows,
            self.broken,
            self.total,
            self.failed,
            self.max_us / 1000
        );
        for (name, report) in self
            .reports
            .iter()
            .filter(|(_, report)| report.failed + report.broken > 0)
        {
            text.push_str(&format!(
                "\n  {name}: {} failed, {} broken",
                report.failed, report.broken
            ));
            for failure in report.failures.iter().take(2) {
                text.push_str(&format!(
                    "; +{:.0} ms {} {}",
                    failure.at_ms - report.started_ms,
                    failure.kind,
                    failure.detail
                ));
            }
        }
        text
    }
}

/// Every node's number.
pub(super) fn nodes() -> impl Iterator<Item = u8> + Clone {
    1..=NODES
}

/// The instance of a fault must meet the load in its middle: nothing is waited for but time.
pub(super) fn rest(time: Duration) {
    wait_for(time, || None::<()>);
}

/// Until a load that began at `began` and runs for `seconds` has only so much left that a fault can still be seen.
pub(super) fn while_loaded(began: Instant, seconds: u64) -> bool {
    began.elapsed() + Duration::from_secs(3) < Duration::from_secs(seconds)
}

/// Which tasks run an app, by node.
pub(super) fn tasks_on(tasks: &[Task], node: u8) -> usize {
    tasks.iter().filter(|task| task.node == node).count()
}
