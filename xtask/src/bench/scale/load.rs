//! The processes that the simulated nodes are in, and what they tell.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::servers::Program;
use crate::{dist, workspace::Workspace};

/// What is done.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: u32,
    pub(super) per_s: u32,
    pub(super) seconds: u32,
    pub(super) processes: u32,
    /// Nothing changes for so long.
    pub(super) idle: Duration,
}

impl Plan {
    /// A process's part of something.
    fn part(&self, of: u32, number: u32) -> u32 {
        of / self.processes + u32::from(number < of % self.processes)
    }

    /// Changes in all.
    pub(super) fn changes(&self) -> u64 {
        u64::from(self.per_s) * u64::from(self.seconds)
    }
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) program: Program,
    orders: ChildStdin,
    said: mpsc::Receiver<String>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) processes: Vec<Process>,
    /// Bytes that all streams began with, and of the largest state among them.
    began: (u64, u64),
}

/// What all nodes saw.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By a change's number: when it was made, when the last node had it, how many had it.
    pub(super) changes: BTreeMap<u64, (u64, u64, u64)>,
    pub(super) bytes: u64,
    /// Streams that ended and began again, whole states that were told, agents whose connection ended.
    pub(super) again: u64,
    pub(super) snapshots: u64,
    pub(super) lost: u64,
    /// Bytes of a whole state, and of all that streams began with.
    pub(super) snapshot: u64,
    pub(super) began: u64,
}

/// Nodes of each process that run a daemon's own code for their stream.
pub(super) const WHOLE: u32 = 3;

impl Load {
    pub(super) fn start(dir: &Path, masters: &str, plan: &Plan) -> Result<Self> {
        let revere = dist::build_revere(&Workspace::find()?)?;
        let (mut processes, mut first) = (Vec::new(), 0);
        for number in 0..plan.processes {
            let nodes = plan.part(plan.nodes, number);
            let log = std::fs::File::create(dir.join(format!("nodes{number}.log")))?;
            let mut child = Command::new(&revere)
                .args(["demo-nodes", "--masters", masters])
                .args(["--nodes", &nodes.to_string(), "--first", &first.to_string()])
                .args(["--whole", &WHOLE.to_string()])
                .args(["--per-s", &plan.part(plan.per_s, number).to_string()])
                .args(["--seconds", &plan.seconds.to_string()])
                .args(["--wanted", &plan.changes().to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log)
                .spawn()
                .context("cannot start simulated nodes")?;
            first += nodes;
            let orders = child.stdin.take().context("no input")?;
            let out = child.stdout.take().context("no output")?;
            let (sender, said) = mpsc::channel();
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    // Nobody may listen any more.
                    let _ = sender.send(line);
                }
            });
            processes.push(Process {
                program: Program(child),
                orders,
                said,
            });
        }
        Ok(Self {
            processes,
            began: (0, 0),
        })
    }

    /// Tells all to do the next thing.
    pub(super) fn order(&mut self, order: &str) -> Result<()> {
        for process in &mut self.processes {
            writeln!(process.orders, "{order}").context("a process of simulated nodes has ended")?;
        }
        Ok(())
    }

    /// What each says next.
    fn next(&self, patience: Duration) -> Result<Vec<Value>> {
        let until = Instant::now() + patience;
        let said = self.processes.iter().map(|process| {
            let left = until.saturating_duration_since(Instant::now());
            let said = process.said.recv_timeout(left);
            let said = said.context("simulated nodes ended, or were not done in time")?;
            Ok(serde_json::from_str(&said)?)
        });
        said.collect()
    }

    /// Waits until all say that they did it.
    pub(super) fn all(&mut self, done: &str, patience: Duration) -> Result<()> {
        for said in self.next(patience)? {
            ensure!(said[done].is_u64(), "simulated nodes said {said} instead of {done}");
            let number = |key: &str| said[key].as_u64().unwrap_or(0);
            self.began.0 += number("bytes");
            self.began.1 = self.began.1.max(number("snapshot"));
        }
        Ok(())
    }

    /// What they saw, once they have seen everything.
    pub(super) fn told(&self, patience: Duration) -> Result<Told> {
        let mut told = Told {
            began: self.began.0,
            snapshot: self.began.1,
            ..Told::default()
        };
        for said in self.next(patience)? {
            let number = |value: &Value| value.as_u64().context("a number is missing");
            told.bytes += number(&said["bytes"])?;
            told.again += number(&said["again"])?;
            told.snapshots += number(&said["snapshots"])?;
            told.lost += number(&said["lost"])?;
            for row in said["changes"].as_array().context("no changes")? {
                let (made, last, nodes) = (number(&row[1])?, number(&row[2])?, number(&row[3])?);
                let known = told.changes.entry(number(&row[0])?).or_insert((made, 0, 0));
                known.1 = known.1.max(last);
                known.2 += nodes;
            }
        }
        Ok(told)
    }
}
