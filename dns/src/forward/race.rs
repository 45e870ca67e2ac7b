//! One question to the servers of a rule: several at once, the next when they are slow, the first usable reply wins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{sleep_until, timeout};

use super::accept::{Judged, Poor, judge};
use super::counts::Event;
use super::exchange::{ExchangeError, exchange};
use super::group::Group;
use super::health::LONGEST_WAIT;
use super::question::{Hops, Key};
use super::reply::{NoReply, Reply};
use super::wire::Dress;
use super::{Shared, exchange::Tools};

/// From a client's question to SERVFAIL, at the latest: below the 5 s after which most clients stop waiting.
pub(crate) const DEADLINE: Duration = Duration::from_secs(4);
/// How long a useless reply waits for a better one, when every server has been asked.
const BETTER: Duration = Duration::from_secs(1);
/// Times one server is asked the same, for datagrams that get lost.
const TRIES: usize = 3;
/// Times a question is put to any server.
const ALL_TRIES: usize = 10;

/// One server's end of a race.
type Try = BoxFuture<'static, (usize, Result<Reply, Option<Poor>>)>;

/// A question under way.
pub(crate) struct Race {
    shared: Arc<Shared>,
    group: Arc<Group>,
    key: Key,
    hops: Hops,
    running: FuturesUnordered<Try>,
    /// Whom to ask next: first every server once, then again.
    queue: Vec<usize>,
    poor: Option<Poor>,
}

impl Race {
    pub(crate) fn new(shared: &Arc<Shared>, group: &Arc<Group>, key: &Key, hops: &Hops) -> Self {
        Self {
            shared: Arc::clone(shared),
            group: Arc::clone(group),
            key: key.clone(),
            hops: hops.clone(),
            running: FuturesUnordered::new(),
            queue: Vec::new(),
            poor: None,
        }
    }

    /// Runs it to its end.
    pub(crate) async fn run(&mut self) -> Result<Reply, NoReply> {
        let began = tokio::time::Instant::now();
        let plan = self.group.plan(self.shared.parallel, Instant::now());
        let servers = plan.order.len();
        let mut order: Vec<usize> = plan.order.iter().copied().cycle().take(servers * TRIES).collect();
        order.truncate(ALL_TRIES.max(servers));
        // Taken from the end.
        order.reverse();
        self.queue = order;
        let mut wait = Duration::ZERO;
        for _ in 0..plan.at_once {
            wait = wait.max(self.start_next());
        }
        let mut deadline = began + DEADLINE;
        let mut next_at = began + wait;
        loop {
            let untried = self
                .queue
                .len()
                .saturating_sub(self.queue.len().min(servers * (TRIES - 1)));
            if self.poor.is_some() && untried == 0 {
                if self.running.is_empty() {
                    break;
                }
                deadline = deadline.min(tokio::time::Instant::now() + BETTER);
            }
            tokio::select! {
                ended = self.running.next(), if !self.running.is_empty() => match ended {
                    Some((_, Ok(reply))) => return Ok(reply),
                    Some((_, Err(poor))) => {
                        self.poor = self.poor.max(poor);
                        if untried > 0 {
                            next_at = tokio::time::Instant::now() + self.start_next();
                        }
                    }
                    None => {}
                },
                () = sleep_until(next_at), if !self.queue.is_empty() => {
                    next_at = tokio::time::Instant::now() + self.start_next();
                }
                () = sleep_until(deadline) => break,
            }
            if self.running.is_empty() && self.queue.is_empty() {
                break;
            }
        }
        self.without_answer()
    }

    /// Goes on listening to the servers that lost, for as long as it takes to know whether they are silent.
    pub(crate) async fn learn(mut self) {
        let all = async { while self.running.next().await.is_some() {} };
        // An error only says that some are slower than that.
        drop(timeout(LONGEST_WAIT + Duration::from_millis(10), all).await);
    }

    fn without_answer(&self) -> Result<Reply, NoReply> {
        if self.poor == Some(Poor::Bare) {
            return Ok(Reply {
                code: hickory_proto::op::ResponseCode::NoError,
                answers: Vec::new(),
                authorities: Vec::new(),
                rest: None,
                ttl: None,
            });
        }
        Err(NoReply::Failed)
    }

    /// Puts the question to the next server; gives how long to wait before the one after it.
    fn start_next(&mut self) -> Duration {
        let Some(index) = self.queue.pop() else {
            return LONGEST_WAIT;
        };
        let wait = self.group.upstreams()[index].health(|health| health.wait());
        let (shared, group) = (Arc::clone(&self.shared), Arc::clone(&self.group));
        let (key, hops) = (self.key.clone(), self.hops.clone());
        self.running.push(Box::pin(async move {
            let result = attempt(&shared, &group, index, &key, &hops, wait).await;
            (index, result)
        }));
        wait
    }
}

/// One try, with what it teaches about the server.
async fn attempt(
    shared: &Shared,
    group: &Arc<Group>,
    index: usize,
    key: &Key,
    hops: &Hops,
    wait: Duration,
) -> Result<Reply, Option<Poor>> {
    let upstream = &group.upstreams()[index];
    let tools: &Tools = &shared.tools;
    let silent = || {
        tools.counts.add(Event::Silent);
        upstream.health(|health| health.failed(Instant::now()));
    };
    let began = Instant::now();
    let mut dress = if upstream.is_plain() { Dress::Plain } else { Dress::Edns };
    loop {
        let mut asking = std::pin::pin!(exchange(tools, upstream.addr, key, hops, dress));
        let mut late = false;
        let ended = match timeout(wait, &mut asking).await {
            Ok(ended) => ended,
            Err(_) => {
                late = true;
                silent();
                asking.await
            }
        };
        let message = match ended {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, name = %key.name, "an upstream server gave no reply");
                match error {
                    ExchangeError::NoSocket(_) => {}
                    ExchangeError::Io { .. } if !late => silent(),
                    ExchangeError::Io { .. } => {}
                    ExchangeError::Malformed { .. } => {
                        tools.counts.add(Event::Poor);
                        upstream.health(|health| health.poor());
                        return Err(Some(Poor::Lame));
                    }
                }
                return Err(None);
            }
        };
        upstream.health(|health| health.answered(began.elapsed()));
        let Judged { verdict, dropped } = judge(key, message, &|name| shared.routes.may_tell(group, name));
        tools.counts.add_many(Event::Dropped, dropped);
        match verdict {
            Ok(reply) => {
                upstream.health(|health| health.good());
                return Ok(reply);
            }
            Err(Poor::Error(true)) if dress == Dress::Edns => {
                upstream.set_plain();
                dress = Dress::Plain;
            }
            Err(poor) => {
                tools.counts.add(Event::Poor);
                upstream.health(|health| health.poor());
                return Err(Some(poor));
            }
        }
    }
}
