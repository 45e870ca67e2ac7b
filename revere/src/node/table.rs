//! The one owner of the service table: takes events, gives pictures.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use model::{RejectReason, Rejected, ServiceTable, Snapshot, TaskEvent, Vip6Range, VipRange};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::status::Status;
use crate::hold::Hold;
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
    hold: Hold,
    /// What the hold's moments are counted from.
    began: Instant,
    rejected: Vec<Rejected>,
    pictures: watch::Sender<Picture>,
    status: Arc<Status>,
}

impl Table {
    pub(super) fn new(
        range: VipRange,
        range6: Option<Vip6Range>,
        hold: Duration,
        status: Arc<Status>,
    ) -> (Self, watch::Receiver<Picture>) {
        let (pictures, receiver) = watch::channel(None);
        let table = Self {
            table: match range6 {
                Some(range6) => ServiceTable::with_ipv6(range, range6),
                None => ServiceTable::new(range),
            },
            hold: Hold::new(hold),
            began: Instant::now(),
            rejected: Vec::new(),
            pictures,
            status,
        };
        (table, receiver)
    }

    /// Runs until all senders are gone.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<TaskEvent>) {
        loop {
            let due = self.hold.due().map(|due| self.began + due);
            let held = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.apply(event),
                    None => return,
                },
                () = held => self.drop_unconfirmed(),
            }
        }
    }

    fn drop_unconfirmed(&mut self) {
        while let Some(event) = self.hold.next(self.began.elapsed()) {
            tracing::warn!(?event, "dropping what the new master's state has not confirmed in time");
            self.apply(event);
        }
    }

    /// Takes one event in and publishes the picture if it changed, or is the first.
    pub(super) fn apply(&mut self, event: TaskEvent) {
        let restart = matches!(event, TaskEvent::Snapshot(_));
        let exit = matches!(event, TaskEvent::LocalExit(_));
        let changed = self.hold.apply(self.began.elapsed(), &mut self.table, event);
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
    use crate::mesos::decode::{Message, decode};
    use crate::tape::Tape;

    const FAILOVER: &[u8] = include_bytes!("../tape/testdata/failover.stream");

    fn state(agents: &[&str]) -> TaskEvent {
        let agents = agents.iter().map(|id| AgentInfo {
            id: AgentId::new(*id),
            hostname: (*id).to_owned(),
            ip: Some([10, 0, 0, 1].into()),
            port: None,
            subnet: None,
            networks: Default::default(),
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
        let (table, mut pictures) = Table::new(VipRange::default(), None, hold, Arc::new(Status::new()));
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

    #[tokio::test(start_paused = true)]
    async fn what_an_agent_does_not_tell_when_it_is_back_goes_soon() {
        let (mut table, _) = Table::new(
            VipRange::default(),
            None,
            Duration::from_secs(600),
            Arc::new(Status::new()),
        );
        let tape = Tape::parse(FAILOVER).expect("a recorded stream");
        let said: Vec<_> = tape
            .said
            .iter()
            .map(|one| decode(&one.record).expect("a record").message)
            .collect();
        for message in said.iter().take_while(|message| !ends(message)) {
            apply(&mut table, message);
        }
        // What follows is a new leader's stream. It knows no task, and not yet of the one that ended.
        let rest = said.iter().skip_while(|message| !ends(message));
        for message in rest.take_while(|message| !matches!(message, Message::Heartbeat)) {
            apply(&mut table, message);
            table.drop_unconfirmed();
            assert!(!table.table.snapshot().services.is_empty(), "{message:?}");
        }
        assert_eq!(table.table.snapshot().tasks.len(), 3);
        tokio::time::advance(Duration::from_secs(11)).await;
        table.drop_unconfirmed();
        assert_eq!(table.table.snapshot().tasks.len(), 2);
        assert_eq!(table.hold.due(), None);
    }

    /// The second `SUBSCRIBED` is the one that tells agents which have not come back.
    fn ends(message: &Message) -> bool {
        matches!(message, Message::Subscribed(state, _) if !state.recovered_agents.is_empty())
    }

    fn apply(table: &mut Table, message: &Message) {
        match message {
            Message::Subscribed(state, _) => table.apply(TaskEvent::Snapshot(state.clone())),
            Message::Event(event) => table.apply(event.clone()),
            Message::Heartbeat | Message::Resumed(_) | Message::Position(_) | Message::Other(_) => {}
        }
    }

    #[tokio::test]
    async fn an_empty_first_state_is_a_picture() {
        let (mut table, pictures) = Table::new(VipRange::default(), None, Duration::ZERO, Arc::new(Status::new()));
        table.apply(state(&[]));
        assert!(pictures.borrow().is_some());
    }
}
