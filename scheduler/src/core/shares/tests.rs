//! Shares of VIPs: a switch from one app to another, and a ramp.

use model::{LaunchSpec, ServiceTable, TaskState, VipRange};

use super::super::tests::Bench;
use super::*;
use crate::{AppSpec, Command, CommandError, Effect, Force, PortSpec};

fn spec(id: &str, labels: &[(&str, &str)]) -> AppSpec {
    let vip = PortSpec {
        labels: [("VIP_0".to_owned(), "/shop:80".to_owned())].into(),
        ..PortSpec::default()
    };
    AppSpec {
        id: id.to_owned(),
        cmd: Some("x".to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        instances: Some(2),
        port_definitions: Some(vec![vip]),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..AppSpec::default()
    }
}

/// What a reader of the stream makes of it.
struct Reader(ServiceTable);

impl Reader {
    /// Takes everything in; how many orders went to agents meanwhile.
    fn read(&mut self, bench: &mut Bench) -> usize {
        let mut orders = 0;
        for effect in bench.effects() {
            match effect {
                Effect::Emit(event) => drop(self.0.apply(event)),
                Effect::Launch { .. } | Effect::Kill { .. } => orders += 1,
                _ => {}
            }
        }
        orders
    }

    /// Weights of the backends of the VIP.
    fn weights(&self) -> Vec<u16> {
        let snapshot = self.0.snapshot();
        let mut weights: Vec<u16> = snapshot
            .services
            .values()
            .flat_map(|service| service.backends.iter().map(|backend| backend.weight))
            .collect();
        weights.sort_unstable();
        weights
    }
}

fn put(bench: &mut Bench, specs: Vec<AppSpec>) -> Result<(), CommandError> {
    let taken = bench.command(Command::PutApps {
        specs,
        force: Force::No,
    });
    taken.map(drop)
}

/// No agent is given up.
fn config() -> super::super::Config {
    super::super::Config {
        suspect_after: Duration::ZERO,
        agent_timeout: Duration::from_secs(1_000_000),
        reregister_timeout: Duration::from_secs(1_000_000),
        ..Default::default()
    }
}

/// Two instances of each of these, all running.
fn running(specs: Vec<AppSpec>) -> (Bench, Reader) {
    let mut bench = Bench::with(config(), Vec::new());
    let mut reader = Reader(ServiceTable::new(VipRange::default()));
    reader.0.apply(TaskEvent::Snapshot(bench.core.state()));
    let agent = bench.register(None, Vec::new()).agent;
    put(&mut bench, specs).expect("valid");
    let mut launched: Vec<LaunchSpec> = Vec::new();
    for effect in bench.effects() {
        match effect {
            Effect::Emit(event) => drop(reader.0.apply(event)),
            Effect::Launch { spec, .. } => launched.push(*spec),
            _ => {}
        }
    }
    for spec in launched {
        bench.tell(&agent, &spec.task, TaskState::Running);
    }
    reader.read(&mut bench);
    (bench, reader)
}

#[test]
fn one_change_takes_a_vip_from_one_app_to_another_and_restarts_nothing() {
    let (mut bench, mut reader) = running(vec![
        spec("/blue", &[(SHARE_LABEL, "100")]),
        spec("/green", &[(SHARE_LABEL, "0")]),
    ]);
    assert_eq!(reader.weights(), [0, 0, 100, 100]);
    let both = vec![
        spec("/blue", &[(SHARE_LABEL, "0")]),
        spec("/green", &[(SHARE_LABEL, "100")]),
    ];
    put(&mut bench, both).expect("valid");
    assert_eq!(reader.read(&mut bench), 0, "no task starts or ends");
    assert_eq!(reader.weights(), [0, 0, 100, 100]);
    let of = |reader: &Reader, app: &str| {
        let snapshot = reader.0.snapshot();
        let tasks = snapshot.services.values().flat_map(|one| one.backends.iter());
        tasks
            .filter(|one| one.task.as_str().starts_with(app))
            .map(|one| one.weight)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (of(&reader, "blue"), of(&reader, "green")),
        (vec![0, 0], vec![100, 100])
    );
    assert!(bench.core.deployments().is_empty());
    // Whoever subscribes now is told the same, and so is one of a core that was restored.
    let told = |core: &Scheduler| {
        let mut fresh = ServiceTable::new(VipRange::default());
        fresh.apply(TaskEvent::Snapshot(core.state()));
        Reader(fresh)
    };
    assert_eq!(of(&told(&bench.core), "green"), [100, 100]);
    let restored = Bench::restored(bench.stored.clone());
    let labels: Vec<_> = restored
        .core
        .instances()
        .map(|one| restored.core.told_ports(one, &one.spec.ports))
        .collect();
    let weighs = |ports: &Vec<TaskPort>| ports[0].labels.iter().any(|(key, _)| key == WEIGHT_LABEL);
    assert!(labels.iter().all(weighs));
    // Without the label an instance is as any other.
    put(&mut bench, vec![spec("/blue", &[]), spec("/green", &[])]).expect("valid");
    reader.read(&mut bench);
    assert_eq!(reader.weights(), [1, 1, 1, 1]);
}

#[test]
fn a_canary_gets_more_step_by_step_and_begins_anew_when_it_fails() {
    let ramp = [(SHARE_LABEL, "5,25,100"), (RAMP_LABEL, "10m")];
    let (mut bench, mut reader) = running(vec![spec("/stable", &[(SHARE_LABEL, "100")]), spec("/canary", &ramp)]);
    assert_eq!(reader.weights(), [5, 5, 100, 100]);
    let pass = |bench: &mut Bench, reader: &mut Reader, seconds: u64| {
        bench.now += seconds * 1_000;
        let at = bench.at();
        bench.core.handle_timeout(at);
        reader.read(bench);
        reader.weights()
    };
    assert_eq!(pass(&mut bench, &mut reader, 599), [5, 5, 100, 100]);
    assert_eq!(pass(&mut bench, &mut reader, 2), [25, 25, 100, 100]);
    let canary = bench
        .core
        .instances()
        .find(|one| one.app.as_str() == "/canary")
        .expect("one")
        .clone();
    bench.tell(&canary.agent, &canary.spec.task, TaskState::Failed);
    reader.read(&mut bench);
    assert_eq!(reader.weights(), [5, 100, 100], "the other canary is trusted less, too");
    assert_eq!(
        pass(&mut bench, &mut reader, 5_000)
            .iter()
            .filter(|weight| **weight == 100)
            .count(),
        2 + 1
    );
}

/// What the stream would tell of each instance.
fn told_by(core: &Scheduler) -> Vec<String> {
    let ports = core.instances().flat_map(|one| core.told_ports(one, &one.spec.ports));
    let labels = ports.flat_map(|port| port.labels);
    labels
        .filter(|(key, _)| key == WEIGHT_LABEL)
        .map(|(_, weight)| weight)
        .collect()
}

#[test]
fn every_master_tells_the_share_that_was_told_last() {
    let ramp = [(SHARE_LABEL, "5,25,100"), (RAMP_LABEL, "10m")];
    let (mut bench, mut reader) = running(vec![spec("/canary", &ramp)]);
    let mut copy = Scheduler::following(Default::default(), bench.stored.clone());
    let seen = bench.stored.len();
    bench.now += 601_000;
    let at = bench.at();
    bench.core.handle_timeout(at);
    reader.read(&mut bench);
    assert_eq!(reader.weights(), [25, 25]);
    // A step in time reaches whoever follows, and whoever takes over tells it before anything happens.
    let records = bench.stored[seen..].to_vec();
    let touched: BTreeSet<AgentId> = records.into_iter().flat_map(|one| copy.follow(at, one)).collect();
    assert_eq!((told_by(&copy), touched.len()), (vec!["25".to_owned(); 2], 1));
    assert_eq!(told_by(&Bench::restored(bench.stored.clone()).core), ["25", "25"]);
    // So does a failure, though delays are not kept.
    let canary = bench.core.instances().next().expect("one").clone();
    bench.tell(&canary.agent, &canary.spec.task, TaskState::Failed);
    bench.effects();
    let mut next = Bench::with(config(), bench.stored.clone());
    assert_eq!(told_by(&next.core), ["5"]);
    next.core.handle_timeout(Timestamp(bench.now + 60_000));
    assert_eq!(told_by(&next.core)[0], "5");
    next.core.handle_timeout(Timestamp(bench.now + 700_000));
    assert_eq!(told_by(&next.core)[0], "25", "and then it goes on");
    // Records of an earlier release say nothing of it.
    let without = |one: &Record| !matches!(one, Record::PutShare(..));
    let earlier: Vec<Record> = bench.stored.iter().filter(|one| without(one)).cloned().collect();
    assert_eq!(told_by(&Bench::restored(earlier).core), ["5"]);
    // Without its app nothing is told.
    let remove = Command::RemoveApp {
        id: "/canary".to_owned(),
        force: Force::Yes,
    };
    bench.command(remove).expect("known");
    bench.effects();
    let ended = |one: &Record| matches!(one, Record::DeleteShare(_));
    assert_eq!(bench.stored.iter().filter(|one| ended(one)).count(), 1);
}

#[test]
fn labels_that_say_nothing_are_refused_at_their_paths() {
    for (labels, path) in [
        (vec![(SHARE_LABEL, "101")], SHARE_LABEL),
        (vec![(SHARE_LABEL, "half")], SHARE_LABEL),
        (vec![(SHARE_LABEL, "5,100")], SHARE_LABEL),
        (vec![(SHARE_LABEL, "5,100"), (RAMP_LABEL, "soon")], RAMP_LABEL),
        (vec![(RAMP_LABEL, "5m")], RAMP_LABEL),
    ] {
        let mut bench = Bench::new();
        let refused = put(&mut bench, vec![spec("/a", &labels)]);
        let Err(CommandError::Invalid(faults)) = refused else {
            panic!("{labels:?} is taken")
        };
        assert!(faults[0].path.ends_with(&format!("/labels/{path}")), "{faults:?}");
    }
}
