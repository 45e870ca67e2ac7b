//! A cluster in the lab: a master on node1, a daemon on every node, and what demo and tests ask of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::net;
use super::place::{inside, wait_for};
use super::{Daemon, Lab, Place, underlay};

/// Longest wait for anything the cluster should do by itself.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Its places. First, so that it goes last.
    pub lab: Lab,
    revere: PathBuf,
    /// On node1, or one on every node.
    pub(super) masters: Vec<Option<Daemon>>,
    /// Members of etcd, one on every node; none where one master has its own file.
    pub(super) etcd: Vec<Option<Daemon>>,
    pub(super) nodes: Vec<Option<Daemon>>,
    /// Settings of every node besides those a lab needs, as `--set` takes them.
    settings: Vec<String>,
}

/// A task with the process that runs it.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its id, which the demo server answers with.
    pub id: String,
    /// Number of its node, from 1.
    pub node: u8,
    /// Its process, as seen from here; none while it has not started.
    pub pid: Option<u32>,
}

impl Cluster {
    /// Starts it and waits until three nodes have registered.
    pub fn start(revere: &Path) -> Result<Self> {
        Self::start_with(revere, &[])
    }

    /// The same with more settings for every node.
    pub fn start_with(revere: &Path, settings: &[String]) -> Result<Self> {
        let mut cluster = Self::new(revere, settings)?;
        cluster.start_master()?;
        cluster.start_nodes()?;
        Ok(cluster)
    }

    /// Its places, with nothing in them.
    pub(super) fn new(revere: &Path, settings: &[String]) -> Result<Self> {
        let lab = Lab::new()?;
        let none = || lab.nodes.iter().map(|_| None).collect();
        Ok(Self {
            revere: revere.to_owned(),
            masters: none(),
            etcd: Vec::new(),
            nodes: none(),
            settings: settings.to_vec(),
            lab,
        })
    }

    /// Starts every node and waits until all have registered.
    pub(super) fn start_nodes(&mut self) -> Result<()> {
        let cluster = self;
        for number in 1..=super::NODES {
            cluster.start_node(number)?;
        }
        cluster.until("three nodes have registered", |cluster| {
            let nodes = cluster.json(&["node", "list"]).ok()?;
            let connected = nodes["nodes"]
                .as_array()?
                .iter()
                .filter(|node| node["connected"] == true)
                .count();
            (connected == usize::from(super::NODES)).then_some(())
        })
    }

    /// The program.
    #[must_use]
    pub fn revere(&self) -> &str {
        self.revere.to_str().unwrap_or("revere")
    }

    /// Node `number`, from 1.
    #[must_use]
    pub fn node(&self, number: u8) -> &Place {
        &self.lab.nodes[usize::from(number) - 1]
    }

    /// Starts the master on node1.
    pub fn start_master(&mut self) -> Result<()> {
        let place = self.node(1);
        let state = place.dir.join("master");
        let program = [
            self.revere(),
            "master",
            "--state-dir",
            state.to_str().unwrap_or_default(),
        ];
        self.masters[0] = Some(place.spawn("master", &program, &self.environment())?);
        Ok(())
    }

    /// `kill -9` of the master.
    pub fn kill_master(&mut self) -> Result<()> {
        self.masters[0].take().context("no master runs")?.kill()
    }

    /// Starts a node's daemon.
    pub fn start_node(&mut self, number: u8) -> Result<()> {
        let revere = self.revere.clone();
        self.start_node_of(number, &revere)
    }

    /// The same with another `revere`.
    pub fn start_node_of(&mut self, number: u8, revere: &Path) -> Result<()> {
        self.start_node_with(number, revere, &[])
    }

    /// The same with more settings for this node.
    pub fn start_node_with(&mut self, number: u8, revere: &Path, more: &[String]) -> Result<()> {
        let place = self.node(number);
        let cgroup = place.cgroup.as_ref().context("a node has a cgroup")?;
        let name = cgroup
            .file_name()
            .and_then(|name| name.to_str())
            .context("a plain name")?;
        let sets = [
            format!("node.ip={}", underlay(number)),
            format!("node.state_dir={}", place.dir.join("state").display()),
            format!("node.cgroup={name}/revere"),
            format!("node.hook_cgroup={}", cgroup.display()),
            // The lab's clients look the name up for each request, hundreds of times a second, and some are foreign to the node.
            "node.dns_rate=0".to_owned(),
            "node.cpus=4".to_owned(),
            "node.mem_mb=2048".to_owned(),
        ];
        let masters = self.master_urls();
        let mut program = vec![revere.to_str().unwrap_or("revere"), "node", "--master", &masters];
        for set in sets.iter().chain(&self.settings).chain(more) {
            program.extend(["--set", set]);
        }
        self.nodes[usize::from(number) - 1] = Some(place.spawn("node", &program, &self.environment())?);
        Ok(())
    }

    /// `kill -9` of a node's daemon; its tasks go on.
    pub fn kill_node(&mut self, number: u8) -> Result<()> {
        self.nodes[usize::from(number) - 1]
            .take()
            .with_context(|| format!("no daemon runs on node{number}"))?
            .kill()
    }

    /// SIGTERM to a node's daemon; waits for its end.
    pub fn stop_node(&mut self, number: u8) -> Result<()> {
        let daemon = self.nodes[usize::from(number) - 1].take();
        let mut daemon = daemon.with_context(|| format!("no daemon runs on node{number}"))?;
        daemon.signal(rustix::process::Signal::TERM)?;
        daemon.wait().map(drop)
    }

    /// Whether a node's daemon runs and has its names' standby, as it says itself.
    #[must_use]
    pub fn has_standby(&self, number: u8) -> bool {
        let metrics = net::http(self.node(number), ([127, 0, 0, 1], 5051).into(), "GET /metrics", "");
        metrics.is_ok_and(|(_, text)| text.contains("revere_node_names_standby 1"))
    }

    /// The newest process that answers names in the place of a node's daemon, as seen inside the lab. One that was sent
    /// away a moment ago counts too.
    #[must_use]
    pub fn standby(&self, number: u8) -> Option<u32> {
        // Places share one PID namespace; the network tells whose it is.
        let line = "for p in $(pgrep -f 'revere names-standby$'); do [ \"$(readlink /proc/$p/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ] && echo $p; done; true";
        self.node(number).sh(line).ok()?.split_whitespace().last()?.parse().ok()
    }

    /// The daemon of a node, while it runs.
    pub fn daemon(&self, number: u8) -> Result<&Daemon> {
        let daemon = self.nodes[usize::from(number) - 1].as_ref();
        daemon.with_context(|| format!("no daemon runs on node{number}"))
    }

    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let own = self
            .revere
            .parent()
            .map(|dir| dir.display().to_string())
            .unwrap_or_default();
        vec![
            ("PATH", format!("{own}:{}", std::env::var("PATH").unwrap_or_default())),
            ("NO_COLOR", "1".to_owned()),
        ]
    }

    /// The command line client, beside the first master that runs.
    pub fn cli(&self, args: &[&str]) -> Result<String> {
        let mut program = vec![self.revere()];
        program.extend(args);
        let place = self.masters.iter().position(Option::is_some).unwrap_or(0);
        self.lab.nodes[place].run(&program)
    }

    /// The same with `--json`.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.cli(&[args, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("`revere {}` wrote no JSON: {text}", args.join(" ")))
    }

    /// The tasks of an app that run, sorted by id.
    pub fn tasks(&self, app: &str) -> Result<Vec<Task>> {
        let shown = self.json(&["app", "show", app])?;
        let tasks = shown["app"]["tasks"].as_array().cloned().unwrap_or_default();
        let mut found = Vec::new();
        for task in tasks.iter().filter(|task| task["state"] == "TASK_RUNNING") {
            let id = task["id"].as_str().unwrap_or_default().to_owned();
            let host = task["host"].as_str().unwrap_or_default();
            let node = (1..=super::NODES)
                .find(|number| underlay(*number) == host)
                .with_context(|| format!("task {id} runs on `{host}`"))?;
            found.push(Task {
                pid: process_of(&id),
                id,
                node,
            });
        }
        found.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(found)
    }

    /// Waits until an app has exactly so many running tasks, all with a process.
    pub fn running(&self, app: &str, count: usize) -> Result<Vec<Task>> {
        self.until(&format!("{count} tasks of {app} run"), |cluster| {
            let tasks = cluster.tasks(app).ok()?;
            (tasks.len() == count && tasks.iter().all(|task| task.pid.is_some())).then_some(tasks)
        })
    }

    /// Waits for a condition; a failure shows every node.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        match wait_for(PATIENCE, || look(self)) {
            Some(found) => Ok(found),
            None => bail!(
                "waited {} s in vain until {what}\n{}",
                PATIENCE.as_secs(),
                self.picture()
            ),
        }
    }

    /// A command inside a task: its namespaces and its cgroup.
    pub fn in_task(&self, task: &Task, program: &[&str]) -> Result<std::process::Command> {
        let pid = task.pid.with_context(|| format!("task {} has no process", task.id))?;
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let path = groups
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .context("the task is in no v2 cgroup")?;
        let mount = self
            .node(task.node)
            .cgroup
            .as_deref()
            .and_then(Path::parent)
            .context("a node has a cgroup")?;
        Ok(inside(Some(&mount.join(path)), pid, program))
    }

    /// Status as the cluster tells it, then every node.
    #[must_use]
    pub fn picture(&self) -> String {
        let mut text = String::new();
        for args in [&["status"][..], &["node", "list"], &["app", "list"], &["vip", "list"]] {
            let said = self.cli(args).unwrap_or_else(|error| format!("{error:#}"));
            text.push_str(&format!("$ revere {}\n{said}\n", args.join(" ")));
        }
        text + &self.lab.picture()
    }
}

/// The process whose environment names this task; not the runner above it.
fn process_of(task: &str) -> Option<u32> {
    let wanted = format!("MESOS_TASK_ID={task}");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let ours = environment
            .split(|byte| *byte == 0)
            .any(|pair| pair == wanted.as_bytes());
        if ours
            && !line.contains("task-runner")
            && (line.contains("demo-server") || line.starts_with("sleep"))
            && !line.starts_with("sh ")
            && !line.starts_with("/bin/sh ")
        {
            return Some(pid);
        }
    }
    None
}
