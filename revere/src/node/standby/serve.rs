//! The standby's own process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use model::{NodeView, ServiceTable, TaskEvent};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use super::pass::{Door, Message, Pipe};
use super::{DOOR, HELLO, QUIT, SERVING, SOCKETS};
use crate::node::config::{Config, Settings};
use crate::node::{NodeError, SNAPSHOT, disk, dns_config, planes, resolver};

/// Answers from upstream servers that are on their way when a new daemon takes over are still given; none takes longer.
const DRAIN: Duration = Duration::from_secs(5);

/// A new daemon that has taken the sockets is waited for so long at least.
const HEIR: Duration = Duration::from_secs(60);

/// Why the standby could not stand by.
#[derive(Debug, thiserror::Error)]
pub enum StandbyError {
    /// By hand.
    #[error("the names' standby is started by `revere node` only: {0}")]
    NotStarted(String),
    /// The way to a new daemon.
    #[error("cannot open the door of the names' standby: {0}; check node.state_dir")]
    Door(io::Error),
    /// Signals.
    #[error("cannot wait for signals: {0}")]
    Signal(io::Error),
    /// Settings or sockets.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Runs until the daemon ends for good, another one has taken over, or its time is over.
pub async fn run() -> Result<(), StandbyError> {
    // Started by a path that says nothing to people who look for whoever holds a port.
    let _ = rustix::thread::set_name(c"revere-names");
    let not_started = |error: io::Error| StandbyError::NotStarted(error.to_string());
    let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(not_started)?;
    let owner = Pipe::new(stdin).map_err(not_started)?;
    let Some((word, mut sockets)) = owner.receive().await.map_err(not_started)? else {
        return Ok(());
    };
    if word != HELLO || sockets.is_empty() {
        return Err(StandbyError::NotStarted("it was not told what to do".to_owned()));
    }
    let file = File::from(sockets.remove(0));
    let config: Config =
        serde_json::from_reader(io::BufReader::new(file)).map_err(|error| not_started(error.into()))?;
    let settings = Settings::new(config).await?;
    let door = Door::open(&settings.config.state_dir, DOOR).map_err(StandbyError::Door)?;
    let process = Process {
        settings,
        door,
        owner: Some(owner),
        heir: None,
        sockets,
        serving: None,
        until: None,
    };
    process
        .run(signal(SignalKind::terminate()).map_err(StandbyError::Signal)?)
        .await
}

struct Process {
    settings: Settings,
    door: Door,
    /// The daemon, while it lives.
    owner: Option<Pipe>,
    /// A new daemon that has the sockets but does not answer yet.
    heir: Option<Pipe>,
    sockets: Vec<OwnedFd>,
    serving: Option<dns::Server>,
    until: Option<Instant>,
}

/// The next word of a process that may not be there; never, then.
async fn heard(pipe: Option<&Pipe>) -> Option<Message> {
    match pipe {
        Some(pipe) => pipe.receive().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl Process {
    async fn run(mut self, mut terminate: Signal) -> Result<(), StandbyError> {
        loop {
            tokio::select! {
                word = heard(self.owner.as_ref()) => match word {
                    Some((word, _)) if word == QUIT => return Ok(()),
                    Some(_) => {}
                    None => {
                        self.owner = None;
                        if !self.answer().await? {
                            return Ok(());
                        }
                    }
                },
                caller = self.door.next() => self.hand_over(caller),
                word = heard(self.heir.as_ref()) => match word {
                    Some((word, _)) if word == SERVING => return self.leave().await,
                    Some(_) => {}
                    // It did not come up; whoever is next may call again.
                    None => self.heir = None,
                },
                () = reached(self.until) => {
                    if self.heir.is_none() {
                        tracing::warn!("no daemon came back in node.dns_standby_seconds; names end here");
                        self.give_back();
                        return Ok(());
                    }
                    self.until = Some(Instant::now() + HEIR);
                }
                _ = terminate.recv() => {
                    tracing::info!("the names' standby ends on SIGTERM");
                    // While the daemon lives the file is its own.
                    if self.owner.is_none() {
                        self.give_back();
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Answers in the place of a daemon that is gone; `false` if there is nothing to answer with.
    async fn answer(&mut self) -> Result<bool, StandbyError> {
        let served = match self.serve().await {
            Ok(Some(server)) => server,
            other => {
                self.give_back();
                return other.map(|_| false);
            }
        };
        let stay = Duration::from_secs(self.settings.config.dns_standby_seconds);
        tracing::warn!(
            ?stay,
            "the daemon is gone; answering names from its last picture until another comes"
        );
        self.serving = Some(served);
        self.until = Some(Instant::now() + stay);
        Ok(true)
    }

    async fn serve(&self) -> Result<Option<dns::Server>, StandbyError> {
        let config = dns_config(&self.settings)?;
        let Some(zones) = last_zones(&self.settings, &config) else {
            return Ok(None);
        };
        let sockets = clones(&self.sockets).map_err(|error| NodeError::Dns(dns::BindError::Socket(error)))?;
        let inherited = dns::Inherited::new(sockets);
        let server = dns::Server::bind_with(config, inherited, Some(zones)).await;
        Ok(Some(server.map_err(NodeError::Dns)?))
    }

    /// Gives a caller the sockets; this process goes on until it hears that the caller answers.
    fn hand_over(&mut self, caller: io::Result<Pipe>) {
        let handed = caller.and_then(|caller| {
            caller.send(SOCKETS, &clones(&self.sockets)?)?;
            Ok(caller)
        });
        match handed {
            Ok(caller) => self.heir = Some(caller),
            Err(error) => tracing::warn!("a new daemon could not be given the sockets: {error}"),
        }
    }

    /// A new daemon answers.
    async fn leave(self) -> Result<(), StandbyError> {
        drop(self.door);
        // Now, so that nobody finds the port taken when the new daemon ends soon.
        drop(self.sockets);
        if let Some(server) = self.serving {
            server.shutdown().await;
            sleep(DRAIN).await;
        }
        Ok(())
    }

    fn give_back(&self) {
        resolver::give_back(&self.settings);
        // Whoever answers early does so on behalf of somebody who answers.
        planes::silence(&self.settings.config.bpffs);
    }
}

fn clones(sockets: &[OwnedFd]) -> io::Result<Vec<OwnedFd>> {
    sockets.iter().map(OwnedFd::try_clone).collect()
}

/// The zones of the picture on disk.
fn last_zones(settings: &Settings, config: &dns::Config) -> Option<dns::Zones> {
    let dir = &settings.config.state_dir;
    let (state, _) = match disk::load(&dir.join(SNAPSHOT)) {
        Ok(loaded) => loaded?,
        Err(error) => {
            tracing::warn!("{error}; there is nothing to answer names with");
            return None;
        }
    };
    let mut table = match settings.vip_range6() {
        Some(range6) => ServiceTable::with_ipv6(settings.vip_range(), range6),
        None => ServiceTable::new(settings.vip_range()),
    };
    table.apply(TaskEvent::Snapshot(state));
    let view = NodeView {
        ip: settings.ip,
        agent: disk::load_agent_id(&dir.join(disk::AGENT_ID)).ok().flatten(),
    };
    let mut names = dns::Names::new(config.clone());
    names.set_leader(disk::load_leader(&dir.join(disk::LEADER)));
    Some(names.update(&table.snapshot(), &view))
}
