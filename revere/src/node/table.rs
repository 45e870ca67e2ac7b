//! The one owner of the service table: takes events, gives pictures.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use model::{RejectReason, Rejected, ServiceTable, Snapshot, TaskEvent, VipRange};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::status::Status;
use crate::metrics::{Kind, whole};

/// Events on their way to the table: more than a burst of changes, few enough that a stuck table is noticed at once.
pub(super) const EVENTS: usize = 1024;

/// Sentences about what is left out that `/health` shows; the metrics count all.
const REJECTS_TOLD: usize = 20;

/// What readers see: nothing until a master or the disk has said something.
pub(super) type Picture = Option<Arc<Snapshot>>;

#[derive(Debug)]
pub(super) struct Table {
    table: ServiceTable,
    hold: Duration,
    hold_ends: Option<Instant>,
    rejected: Vec<Rejected>,
    pictures: watch::Sender<Picture>,
    status: Arc<Status>,
}

impl Table {
    pub(super) fn new(range: VipRange, hold: Duration, status: Arc<Status>) -> (Self, watch::Receiver<Picture>) {
        let (pictures, receiver) = watch::channel(None);
        let table = Self {
            table: ServiceTable::new(range),
            hold,
            hold_ends: None,
            rejected: Vec::new(),
            pictures,
            status,
        };
        (table, receiver)
    }

    /// Runs until all senders are gone.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<TaskEvent>) {
        loop {
            let hold_ends = self.hold_ends;
            let held = async {
                match hold_ends {
                    Some(end) => sleep_until(end).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.apply(event),
                    None => return,
                },
                () = held => {
                    tracing::warn!("dropping what the master's state has not confirmed within {:?}", self.hold);
                    self.apply(TaskEvent::HoldExpired);
                }
            }
        }
    }

    /// Takes one event in and publishes the picture if it changed, or is the first.
    pub(super) fn apply(&mut self, event: TaskEvent) {
        let restart = matches!(event, TaskEvent::Snapshot(_));
        let exit = matches!(event, TaskEvent::LocalExit(_));
        let changed = self.table.apply(event);
        if !self.table.is_holding() {
            self.hold_ends = None;
        } else if restart || self.hold_ends.is_none() {
            self.hold_ends = Some(Instant::now() + self.hold);
        }
        let first = restart && self.pictures.borrow().is_none();
        if !changed && !first {
            return;
        }
        let snapshot = self.table.snapshot();
        let metrics = &self.status.metrics;
        metrics.generation.set(whole(snapshot.generation.0));
        metrics
            .services
            .set(whole(u64::try_from(snapshot.services.len()).unwrap_or(u64::MAX)));
        self.status
            .change(|facts| facts.generation = Some(snapshot.generation.0));
        self.pictures.send_replace(Some(Arc::new(snapshot)));
        if !exit {
            self.note_rejects();
        }
    }

    /// Counts what the picture leaves out and logs what is new among it.
    fn note_rejects(&mut self) {
        let now = self.table.rejected();
        for reason in RejectReason::ALL {
            let count = now.iter().filter(|rejected| rejected.reason == reason).count();
            let kind = Kind { kind: reason.as_str() };
            let gauge = self.status.metrics.table_rejects.get_or_create_owned(&kind);
            gauge.set(whole(u64::try_from(count).unwrap_or(u64::MAX)));
        }
        let told: BTreeSet<&str> = self.rejected.iter().map(|rejected| rejected.what.as_str()).collect();
        for new in now.iter().filter(|rejected| !told.contains(rejected.what.as_str())) {
            tracing::warn!(reason = new.reason.as_str(), "left out: {}", new.what);
        }
        let sentences = now.iter().map(|rejected| rejected.what.clone()).take(REJECTS_TOLD);
        let sentences = sentences.collect();
        self.status.change(|facts| facts.left_out = sentences);
        self.rejected = now;
    }
}

#[cfg(test)]
mod tests {
    use model::{AgentId, AgentInfo, StateSnapshot};

    use super::*;

    fn state(agents: &[&str]) -> TaskEvent {
        let agents = agents.iter().map(|id| AgentInfo {
            id: AgentId::new(*id),
            hostname: (*id).to_owned(),
            ip: Some([10, 0, 0, 1].into()),
            port: None,
            subnet: None,
            attributes: Default::default(),
        });
        TaskEvent::Snapshot(StateSnapshot {
            agents: agents.collect(),
            ..StateSnapshot::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_restart_is_held_for_its_time() {
        let hold = Duration::from_secs(600);
        let (table, mut pictures) = Table::new(VipRange::default(), hold, Arc::new(Status::new()));
        let (send, events) = mpsc::channel(EVENTS);
        tokio::spawn(table.run(events));
        assert!(pictures.borrow().is_none());
        send.send(state(&["A"])).await.expect("running");
        pictures.changed().await.expect("running");
        let began = Instant::now();
        send.send(state(&[])).await.expect("running");
        pictures.changed().await.expect("running");
        let nodes = pictures
            .borrow_and_update()
            .as_ref()
            .map(|snapshot| snapshot.nodes.len());
        assert_eq!(nodes, Some(0));
        assert!(began.elapsed() >= hold, "dropped after {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_empty_first_state_is_a_picture() {
        let (mut table, pictures) = Table::new(VipRange::default(), Duration::ZERO, Arc::new(Status::new()));
        table.apply(state(&[]));
        assert!(pictures.borrow().is_some());
    }
}
