//! Questions under way: equal ones wait for one reply together.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::question::{Hops, Key};
use super::reply::{NoReply, Reply};

/// How a question ended.
pub(crate) type Landed = Result<Arc<Reply>, NoReply>;

/// Questions are equal when the way they have come is equal too: one that came through other servers must not wait for
/// one that may wait for it.
type FlightKey = (Key, Hops);

/// Where the end of a question can be heard.
#[derive(Clone, Debug)]
pub(crate) struct Ticket(watch::Receiver<Option<Landed>>);

/// Whether a question had to be put.
#[derive(Debug)]
pub(crate) enum Boarded {
    /// It was under way.
    Joined(Ticket),
    /// It is now.
    Started(Ticket),
    /// Too many are under way.
    Full,
}

/// All questions under way. Dropping it ends them.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    /// At most [`super::MAX_WAITING`]: some go on for a moment when no client waits for them any more.
    running: Arc<Mutex<HashMap<FlightKey, Ticket>>>,
    tasks: Mutex<JoinSet<()>>,
}

/// Takes a question from the list when it is over, in whatever way.
struct Listed {
    running: Arc<Mutex<HashMap<FlightKey, Ticket>>>,
    key: FlightKey,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.lock().remove(&self.key);
    }
}

impl Ticket {
    /// Waits for the end.
    pub(crate) async fn landed(mut self) -> Landed {
        match self.0.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or(Err(NoReply::Failed)),
            Err(_) => Err(NoReply::Failed),
        }
    }
}

impl Flights {
    /// Joins the question that is under way, or starts `fly` in a task of its own, which goes on when no client waits any
    /// more. `fly` gives the end by its argument.
    pub(crate) fn board<F>(&self, key: Key, hops: Hops, fly: impl FnOnce(Landing) -> F) -> Boarded
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let key = (key, hops);
        let mut running = self.running.lock();
        if let Some(ticket) = running.get(&key) {
            return Boarded::Joined(ticket.clone());
        }
        if running.len() >= super::MAX_WAITING {
            return Boarded::Full;
        }
        let (sender, receiver) = watch::channel(None);
        let ticket = Ticket(receiver);
        running.insert(key.clone(), ticket.clone());
        drop(running);
        let listed = Listed {
            running: Arc::clone(&self.running),
            key,
        };
        let flight = fly(Landing { sender, listed });
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(flight);
        Boarded::Started(ticket)
    }
}

/// Tells all who wait.
pub(crate) struct Landing {
    sender: watch::Sender<Option<Landed>>,
    listed: Listed,
}

impl Landing {
    /// Off the list first, so that whoever comes now asks anew or finds it in the cache.
    pub(crate) fn tell(self, landed: Landed) {
        drop(self.listed);
        self.sender.send_replace(Some(landed));
    }
}
