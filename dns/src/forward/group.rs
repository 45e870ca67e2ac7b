//! The servers of one rule: which of them a question goes to, in which order.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::health::{Health, State};
use super::ports::random;

/// Questions that may wait for the servers of one rule at once: half of what may wait in all, so that one rule whose
/// servers hang leaves room for the others.
const MAX_WAITING: usize = super::MAX_WAITING / 2;

/// One server.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    health: Mutex<Health>,
    /// It does not understand EDNS, so questions go to it without.
    plain: AtomicBool,
}

/// The servers of one rule.
#[derive(Debug)]
pub(crate) struct Group {
    name: String,
    upstreams: Vec<Upstream>,
    /// Places of questions that wait.
    pub(crate) waiting: Semaphore,
}

/// Whom to ask: the first `at_once` together, the rest one after the other when they don't answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Places in [`Group::upstreams`], each once.
    pub(crate) order: Vec<usize>,
    pub(crate) at_once: usize,
}

impl Upstream {
    fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            health: Mutex::default(),
            plain: AtomicBool::new(false),
        }
    }

    /// Its record, for one look or one change.
    pub(crate) fn health<T>(&self, with: impl FnOnce(&mut Health) -> T) -> T {
        with(&mut self.health.lock())
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.plain.load(Ordering::Relaxed)
    }

    pub(crate) fn set_plain(&self) {
        self.plain.store(true, Ordering::Relaxed);
    }
}

impl Group {
    pub(crate) fn new(name: &str, addrs: &[SocketAddr]) -> Self {
        Self {
            name: name.to_owned(),
            upstreams: addrs.iter().map(|addr| Upstream::new(*addr)).collect(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Its suffix; empty for the default.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// The fastest server first, then any other so that all stay known, then the rest; silent ones last. One whose pause
    /// is over is asked besides, so that no client waits for it alone.
    pub(crate) fn plan(&self, parallel: usize, now: Instant) -> Plan {
        let dice = random::<8>().map_or(0, u64::from_ne_bytes);
        let records: Vec<Health> = self
            .upstreams
            .iter()
            .map(|upstream| upstream.health.lock().clone())
            .collect();
        let plan = order(&records, parallel, dice, now);
        for index in &plan.order[..plan.at_once] {
            self.upstreams[*index].health.lock().claim(now);
        }
        plan
    }
}

/// The pure part of [`Group::plan`].
fn order(records: &[Health], parallel: usize, dice: u64, now: Instant) -> Plan {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_key(|index| {
        let record = &records[*index];
        (record.state(now), record.score())
    });
    let count = |wanted: State| records.iter().filter(|record| record.state(now) == wanted).count();
    let up = count(State::Up);
    if up > 2 {
        // The second place is drawn from all but the best.
        let drawn = usize::try_from(dice % (up as u64 - 1)).unwrap_or(0) + 1;
        order.swap(1, drawn);
    }
    let mut at_once = parallel.min(order.len());
    if up > 0 {
        at_once = at_once.min(up);
        if count(State::Due) > 0 {
            // The first of the due ones stands right behind the last that is up.
            order[at_once..=up].rotate_right(1);
            at_once += 1;
        }
    }
    Plan { order, at_once }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn up(ms: u64) -> Health {
        let mut health = Health::default();
        health.answered(Duration::from_millis(ms));
        health
    }

    fn silent(since: Instant) -> Health {
        let mut health = up(1);
        for _ in 0..3 {
            health.failed(since);
        }
        health
    }

    #[test]
    fn the_fastest_and_one_drawn_go_first() {
        let now = Instant::now();
        let records = [up(40), up(30), up(10), up(20)];
        let mut seconds = Vec::new();
        for dice in 0..3 {
            let plan = order(&records, 2, dice, now);
            assert_eq!((plan.order[0], plan.at_once), (2, 2));
            let mut all = plan.order.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
            seconds.push(plan.order[1]);
        }
        seconds.sort_unstable();
        assert_eq!(seconds, [0, 1, 3]);
        assert_eq!(
            order(&records[..1], 2, 7, now),
            Plan {
                order: vec![0],
                at_once: 1
            }
        );
        assert_eq!(
            order(&[], 2, 7, now),
            Plan {
                order: vec![],
                at_once: 0
            }
        );
    }

    #[test]
    fn silent_servers_go_last_and_due_ones_besides() {
        let now = Instant::now();
        let records = [silent(now), up(30), silent(now), up(10)];
        let plan = order(&records, 2, 0, now);
        assert_eq!((&plan.order[..2], plan.at_once), ([3, 1].as_slice(), 2));
        let later = now + Duration::from_secs(2);
        let plan = order(&records, 2, 0, later);
        assert_eq!((&plan.order[..3], plan.at_once), ([3, 1, 0].as_slice(), 3));
        let one = order(&records, 1, 0, later);
        assert_eq!((&one.order[..], one.at_once), ([3, 0, 1, 2].as_slice(), 2));
        // All silent: they are asked nevertheless.
        let dead = [silent(now), silent(now)];
        assert_eq!(order(&dead, 2, 0, now).at_once, 2);
    }
}
