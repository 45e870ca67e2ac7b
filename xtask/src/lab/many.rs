//! A cluster with three masters on an etcd of three members, all in the lab's nodes.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{Cluster, Daemon, NODES, net, underlay};

/// Port of a master.
const MASTER: u16 = 5050;

impl Cluster {
    /// Starts etcd, masters and nodes; waits until one leads and all nodes have registered.
    pub fn start_many(revere: &Path, settings: &[String]) -> Result<Self> {
        let mut cluster = Self::new(revere, settings)?;
        cluster.etcd = cluster.lab.nodes.iter().map(|_| None).collect();
        for number in 1..=NODES {
            cluster.start_etcd(number)?;
        }
        for number in 1..=NODES {
            cluster.start_master_of_many(number)?;
        }
        cluster.until("a master leads", |cluster| cluster.leader().ok())?;
        cluster.start_nodes()?;
        Ok(cluster)
    }

    fn is_many(&self) -> bool {
        !self.etcd.is_empty()
    }

    /// What nodes are told.
    pub(super) fn master_urls(&self) -> String {
        let last = if self.is_many() { NODES } else { 1 };
        let urls: Vec<String> = (1..=last)
            .map(|number| format!("http://{}:{MASTER}", underlay(number)))
            .collect();
        urls.join(",")
    }

    /// Starts a member of etcd, anew or where it was. It keeps its data in memory, in its node's own mounts: a disk that
    /// something else keeps busy would decide who leads.
    pub fn start_etcd(&mut self, number: u8) -> Result<()> {
        let place = self.node(number);
        let ip = underlay(number);
        let peers: Vec<String> = (1..=NODES)
            .map(|one| format!("m{one}=http://{}:2380", underlay(one)))
            .collect();
        let line = format!(
            "mkdir -p {0}/etcd && {{ mountpoint -q {0}/etcd || mount -t tmpfs none {0}/etcd; }} && \
             exec etcd --name m{number} --data-dir {0}/etcd/data --listen-client-urls http://{ip}:2379 \
             --advertise-client-urls http://{ip}:2379 --listen-peer-urls http://{ip}:2380 \
             --initial-advertise-peer-urls http://{ip}:2380 --initial-cluster {1} --initial-cluster-token {2}",
            place.dir.display(),
            peers.join(","),
            self.lab.dir.file_name().and_then(|name| name.to_str()).unwrap_or("lab"),
        );
        let daemon = place.spawn("etcd", &["sh", "-c", &line], &[])?;
        self.etcd[usize::from(number) - 1] = Some(daemon);
        Ok(())
    }

    /// Stops members of etcd where they are.
    pub fn stop_etcd(&self, numbers: impl Iterator<Item = u8>) -> Result<()> {
        numbers
            .into_iter()
            .try_for_each(|number| self.signal_etcd(number, Signal::STOP))
    }

    /// Lets them go on.
    pub fn resume_etcd(&self, numbers: impl Iterator<Item = u8>) -> Result<()> {
        numbers
            .into_iter()
            .try_for_each(|number| self.signal_etcd(number, Signal::CONT))
    }

    fn signal_etcd(&self, number: u8, signal: Signal) -> Result<()> {
        self.member(number)?.signal(signal)
    }

    /// Where the masters keep what they share.
    #[must_use]
    pub fn store() -> String {
        let servers: Vec<String> = (1..=NODES).map(|one| format!("{}:2379", underlay(one))).collect();
        format!("etcd://{}", servers.join(","))
    }

    /// `kill -9` of all members of etcd, and members that know nothing in their place.
    pub fn wipe_etcd(&mut self) -> Result<()> {
        self.kill_etcd()?;
        for number in 1..=NODES {
            let place = self.node(number);
            place.sh(&format!("rm -rf {}/etcd/data", place.dir.display()))?;
        }
        (1..=NODES).try_for_each(|number| self.start_etcd(number))
    }

    fn kill_etcd(&mut self) -> Result<()> {
        self.etcd
            .iter_mut()
            .filter_map(Option::take)
            .try_for_each(|mut daemon| daemon.kill())
    }

    /// `kill -9` of etcd, masters and nodes' daemons, all at once; tasks go on.
    pub fn kill_everything(&mut self) -> Result<()> {
        let daemons = self.etcd.iter_mut().chain(&mut self.masters).chain(&mut self.nodes);
        let daemons: Vec<Daemon> = daemons.filter_map(Option::take).collect();
        // Nobody has time to see another one go.
        for daemon in &daemons {
            daemon.signal(Signal::KILL)?;
        }
        daemons.into_iter().try_for_each(|mut daemon| daemon.wait().map(drop))
    }

    /// Starts them, all at once.
    pub fn start_everything(&mut self) -> Result<()> {
        for number in 1..=NODES {
            self.start_etcd(number)?;
            self.start_master_of_many(number)?;
            self.start_node(number)?;
        }
        Ok(())
    }

    /// The master of a node, while it runs.
    pub fn master(&self, number: u8) -> Result<&Daemon> {
        let daemon = self.masters[usize::from(number) - 1].as_ref();
        daemon.with_context(|| format!("no master runs on node{number}"))
    }

    /// The member of etcd of a node, while it runs.
    pub fn member(&self, number: u8) -> Result<&Daemon> {
        let daemon = self.etcd[usize::from(number) - 1].as_ref();
        daemon.with_context(|| format!("no etcd runs on node{number}"))
    }

    /// Starts one of the masters.
    pub fn start_master_of_many(&mut self, number: u8) -> Result<()> {
        let place = self.node(number);
        let store = Self::store();
        let advertise = format!("master.advertise={}:{MASTER}", underlay(number));
        let program = [self.revere(), "master", "--store", &store, "--set", &advertise];
        let daemon = place.spawn("master", &program, &self.environment())?;
        self.masters[usize::from(number) - 1] = Some(daemon);
        Ok(())
    }

    /// `kill -9` of one of the masters.
    pub fn kill_master_of_many(&mut self, number: u8) -> Result<()> {
        let daemon = self.masters[usize::from(number) - 1].take();
        daemon
            .with_context(|| format!("no master runs on node{number}"))?
            .kill()
    }

    /// A signal to one of the masters.
    pub fn signal_master(&self, number: u8, signal: Signal) -> Result<()> {
        self.master(number)?.signal(signal)
    }

    /// Where the master of a node answers.
    #[must_use]
    pub fn master_at(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 99, 0, number], MASTER))
    }

    /// Number of the master that leads, as the first one that runs and answers tells.
    pub fn leader(&self) -> Result<u8> {
        let running = self.masters.iter().zip(1_u8..).filter(|(daemon, _)| daemon.is_some());
        let mut last = None;
        for (_, number) in running {
            match self.leader_told_by(number) {
                Ok(leader) => return Ok(leader),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no master runs")?)
    }

    /// The same, as the master of that node tells.
    pub fn leader_told_by(&self, number: u8) -> Result<u8> {
        let (_, body) = net::http(self.node(number), Self::master_at(number), "GET /v2/leader", "")?;
        let leader = (1..=NODES).find(|one| body.contains(&format!("\"{}:{MASTER}\"", underlay(*one))));
        leader.with_context(|| format!("node{number} tells of no leader: {body}"))
    }
}
