//! Asks upstream servers about names that are not the cluster's.
//!
//! A question goes: loop check, rule by longest suffix, cache, the same question under way, then a race between the rule's
//! servers. Messages are hickory's, sockets are our own: hickory's resolver has one list of servers, takes the first reply
//! whatever it says, keeps nothing past its time, and can't be told which ports and letters a question is sent with.

mod accept;
mod cache;
mod counts;
mod exchange;
#[cfg(test)]
pub(crate) mod fixture;
mod flights;
mod group;
mod health;
mod ports;
mod question;
mod race;
mod reply;
mod routes;
mod settings;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::cache::{Again, Cache, Found};
use self::counts::{Counts, Event};
use self::exchange::Tools;
use self::flights::{Boarded, Flights, Landed};
use self::group::Group;
use self::ports::Ports;
use self::question::{Hops, Key, ServerId};
use self::race::Race;
use self::reply::Age;
use self::routes::Routes;
use crate::{BindError, Config, ConfigError};

pub use counts::ForwardCounters;
pub(crate) use question::Asked;
pub(crate) use reply::{NoReply, Reply};
pub use settings::{CaseMixing, ForwardError, ForwardZone, Forwarding};

/// Questions that may wait for upstream servers at once, as many as DC/OS's server had; more are refused.
const MAX_WAITING: usize = 1024;
/// Sockets open towards upstream servers at once: three for each question that waits, when the process may have so many.
const MAX_SOCKETS: usize = 3 * MAX_WAITING;
/// A client gets a reply past its time when no server answered for so long: a little less than the second after which
/// clients set up as in DC/OS (`timeout:1`) ask again.
const STALE_AFTER: Duration = Duration::from_millis(800);
/// Times a CNAME may lead from the servers of one rule to those of another.
const MAX_TURNS: usize = 8;

/// The client side: checks, caches and shares replies.
pub(crate) struct Forwarder {
    shared: Arc<Shared>,
    flights: Flights,
}

/// What the questions under way share.
#[derive(Debug)]
struct Shared {
    id: ServerId,
    routes: Routes,
    parallel: usize,
    cache: Cache,
    waiting: Semaphore,
    tools: Tools,
}

/// One upstream server as it looks from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// Suffix of its rule; empty for the default.
    pub zone: String,
    /// Where it is asked.
    pub addr: SocketAddr,
    /// Smoothed time to an answer; `None` before the first.
    pub rtt: Option<Duration>,
    /// Whether it is left alone for a while, having been silent.
    pub down: bool,
}

impl Forwarder {
    /// `None` when there is no upstream server and no rule.
    pub(crate) fn new(config: &Config) -> Result<Option<Self>, BindError> {
        let forwarding = &config.forward;
        if let Some(own) = forwarding
            .servers(&config.upstreams)
            .find(|addr| is_own(&config.listen, addr))
        {
            return Err(ConfigError::Loop(*own).into());
        }
        if config.upstreams.is_empty() && forwarding.zones.is_empty() {
            return Ok(None);
        }
        let default = Arc::new(Group::new("", &config.upstreams));
        let wrong = |error: std::io::Error| BindError::Forward(error.to_string());
        let shared = Shared {
            id: ServerId::new().map_err(wrong)?,
            routes: Routes::new(forwarding, default, &config.own_zones()),
            parallel: forwarding.parallel,
            cache: Cache::new(forwarding.cache_bytes, forwarding.stale),
            waiting: Semaphore::new(MAX_WAITING),
            tools: Tools {
                ports: Ports::new(&forwarding.reserved_ports),
                sockets: Semaphore::new(socket_limit()),
                case: forwarding.case,
                counts: Counts::default(),
            },
        };
        Ok(Some(Self {
            shared: Arc::new(shared),
            flights: Flights::default(),
        }))
    }

    /// Finds the answer. Its `rest` is set when a CNAME leads into a zone this node answers for itself.
    pub(crate) async fn ask(&self, asked: &Asked) -> Result<Reply, NoReply> {
        let Some(hops) = asked.hops.through(self.shared.id) else {
            self.shared.tools.counts.add(Event::Loop);
            return Err(NoReply::Loop);
        };
        let mut reply = self.find(asked.key(), &hops, &asked.name).await?;
        for _ in 0..MAX_TURNS {
            let Some(name) = reply.rest.clone().filter(|name| !self.shared.routes.is_ours(name)) else {
                return Ok(reply);
            };
            let key = Key {
                name: name.clone(),
                ..asked.key()
            };
            reply.append(self.find(key, &hops, &name).await?);
        }
        Err(NoReply::Failed)
    }

    /// One link of the chain: from the cache, or from the servers.
    async fn find(&self, key: Key, hops: &Hops, spelled: &hickory_proto::rr::Name) -> Result<Reply, NoReply> {
        let shared = &self.shared;
        let counts = &shared.tools.counts;
        let stale = match shared.cache.find(&key, Instant::now()) {
            Found::Fresh(reply, age) => {
                counts.add(Event::Cached);
                return Ok(reply.given(spelled, Age::Fresh(age)));
            }
            Found::Failed => return Err(NoReply::Failed),
            Found::Stale(reply, Again::Later) => {
                counts.add(Event::Stale);
                return Ok(reply.given(spelled, Age::Stale));
            }
            Found::Stale(reply, Again::Now) => Some(reply),
            Found::Nothing => None,
        };
        let landed = match &stale {
            None => self.wait(key, hops).await,
            Some(_) => timeout(STALE_AFTER, self.wait(key, hops))
                .await
                .unwrap_or(Err(NoReply::Failed)),
        };
        match (landed, stale) {
            (Ok(reply), _) => Ok(reply.given(spelled, Age::Fresh(Duration::ZERO))),
            (Err(_), Some(stale)) => {
                counts.add(Event::Stale);
                Ok(stale.given(spelled, Age::Stale))
            }
            (Err(why), None) => Err(why),
        }
    }

    /// Waits for the servers, with a place among those that wait.
    async fn wait(&self, key: Key, hops: &Hops) -> Landed {
        let shared = &self.shared;
        let group = shared.routes.find(&key.name).ok_or(NoReply::NoServer)?;
        if group.upstreams().is_empty() {
            return Err(NoReply::NoServer);
        }
        let places = (group.waiting.try_acquire(), shared.waiting.try_acquire());
        let (Ok(_in_group), Ok(_in_all)) = places else {
            shared.tools.counts.add(Event::Busy);
            return Err(NoReply::Busy);
        };
        let boarded = self.flights.board(key.clone(), hops.clone(), |landing| {
            let race = Race::new(shared, group, &key, hops);
            fly(Arc::clone(shared), race, key, landing)
        });
        match boarded {
            Boarded::Started(ticket) => ticket.landed().await,
            Boarded::Joined(ticket) => {
                shared.tools.counts.add(Event::Joined);
                ticket.landed().await
            }
            Boarded::Full => {
                shared.tools.counts.add(Event::Busy);
                Err(NoReply::Busy)
            }
        }
    }

    /// What happened so far.
    pub(crate) fn counters(&self) -> ForwardCounters {
        self.shared.tools.counts.read()
    }

    /// Every server of every rule.
    pub(crate) fn upstreams(&self) -> Vec<UpstreamStatus> {
        let now = Instant::now();
        let groups = self.shared.routes.groups();
        let all = groups.flat_map(|group| group.upstreams().iter().map(move |upstream| (group.name(), upstream)));
        let mut all: Vec<UpstreamStatus> = all
            .map(|(zone, upstream)| UpstreamStatus {
                zone: zone.to_owned(),
                addr: upstream.addr,
                rtt: upstream.health(|health| health.rtt()),
                down: upstream.health(|health| health.state(now) != health::State::Up),
            })
            .collect();
        all.sort_by(|one, other| (&one.zone, one.addr).cmp(&(&other.zone, other.addr)));
        all
    }
}

/// One question from its start to the cache, then a look at the servers that lost.
async fn fly(shared: Arc<Shared>, mut race: Race, key: Key, landing: flights::Landing) {
    let landed = race.run().await.map(Arc::new);
    match &landed {
        Ok(reply) => shared.cache.keep(&key, reply, Instant::now()),
        Err(_) => {
            shared.tools.counts.add(Event::Failed);
            shared.cache.failed(&key, Instant::now());
        }
    }
    landing.tell(landed);
    race.learn().await;
}

/// Whether this server listens there; an address of this machine can be bound to, others can't.
pub fn is_own(listen: &[SocketAddr], upstream: &SocketAddr) -> bool {
    let everywhere = |own: &&SocketAddr| own.ip().is_unspecified() && own.port() == upstream.port();
    listen.contains(upstream)
        || (listen.iter().any(|own| everywhere(&own)) && std::net::UdpSocket::bind((upstream.ip(), 0)).is_ok())
}

/// At most half of what the process may open: its other half is for clients, tasks and the kernel's tables.
fn socket_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = limit.map_or(MAX_SOCKETS, |limit| usize::try_from(limit / 2).unwrap_or(MAX_SOCKETS));
    half.min(MAX_SOCKETS)
}

#[cfg(test)]
#[path = "forward/tests.rs"]
mod tests;
