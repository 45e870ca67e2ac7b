//! A reader of Marathon's events at one master, and what it heard.

use std::time::Duration;

use serde_json::Value;
use xtask::lab::{Daemon, wait_for};

use super::super::*;

/// For a machine that is busy with everything else.
const HEARD: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Reader {
    curl: Daemon,
    /// The id that it came back with.
    last: Option<String>,
}

/// An event that has a number.
pub(super) struct Heard {
    pub(super) id: String,
    pub(super) data: Value,
}

fn number(id: &str) -> Option<u64> {
    id.rsplit_once('-')?.1.parse().ok()
}

impl Heard {
    /// Whether it is the first step of an app's first deployment.
    fn begins(&self, app: &str) -> bool {
        let actions = self.data["currentStep"]["actions"].as_array();
        let mut actions = actions.into_iter().flatten();
        self.data["eventType"] == "deployment_info"
            && actions.any(|one| one["action"] == "StartApplication" && one["app"] == app)
    }
}

impl Reader {
    /// Reads at the master of node `via` once its copy of the records tells them, behind `last`.
    pub(super) fn start(cluster: &Cluster, via: u8, name: &str, last: Option<&str>) -> Result<Self> {
        let url = format!("http://{}/v2/events", Cluster::master_at(via));
        let header = last.map(|id| format!("Last-Event-ID: {id}"));
        let mut program = vec!["curl", "-sNi", "-H", "Accept: text/event-stream", &url];
        program.extend(header.iter().flat_map(|header| ["-H", header]));
        let mut tries = 0;
        cluster.until("a copy of the records tells events", |cluster| {
            tries += 1;
            let log = format!("{name}-{tries}");
            let mut reader = Self {
                curl: cluster.node(via).spawn(&log, &program, &[]).ok()?,
                last: last.map(str::to_owned),
            };
            let head = wait_for(HEARD, || {
                let said = reader.curl.output();
                (said.contains("\r\n\r\n") || reader.curl.ended()).then_some(said)
            })?;
            if head.to_lowercase().contains("x-revere-stale-ms:") {
                return Some(reader);
            }
            // It is the leader's yet, which will be killed.
            drop(reader.end());
            None
        })
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        let said = self.curl.output();
        let whole = said.rsplit_once("\r\n\r\n").map_or("", |(whole, _)| whole);
        let field = |frame: &str, name: &str| {
            let line = frame.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned)
        };
        let heard = whole.split("\r\n\r\n").filter_map(|frame| {
            Some(Heard {
                id: field(frame, "id: ")?,
                data: serde_json::from_str(&field(frame, "data: ")?).ok()?,
            })
        });
        heard.collect()
    }

    /// Ends it once it has heard of each of these apps; fails if it missed an event, or heard one twice. The last id.
    pub(super) fn finish(self, begun: &[String]) -> Result<String> {
        let missing = |heard: &[Heard]| {
            let lacks = |app: &&String| !heard.iter().any(|one| one.begins(app));
            begun.iter().find(lacks).cloned()
        };
        let all = wait_for(HEARD, || {
            let heard = self.heard();
            missing(&heard).is_none().then_some(heard)
        });
        let heard = all.unwrap_or_else(|| self.heard());
        let told = self.last.iter().chain(heard.iter().map(|one| &one.id));
        let told: Vec<String> = told.cloned().collect();
        self.end()?;
        if let Some(app) = missing(&heard) {
            anyhow::bail!("{app} was created, which no event tells of; {} were heard", heard.len());
        }
        for pair in told.windows(2) {
            let next = number(&pair[0]).map(|before| before + 1);
            ensure!(next == number(&pair[1]), "{} came behind {}", pair[1], pair[0]);
        }
        for app in begun {
            let times = heard.iter().filter(|one| one.begins(app)).count();
            ensure!(times == 1, "{app} was told {times} times");
        }
        Ok(heard.last().context("nothing was heard")?.id.clone())
    }

    fn end(mut self) -> Result<()> {
        if self.curl.ended() {
            return Ok(());
        }
        self.curl.kill()
    }
}
