//! Maintenance from outside: plans, windows that begin and end, machines that go out of service and come back.

use std::time::Duration;

use super::super::Config;
use super::super::placement::Refusal;
use super::super::tests::Bench;
use crate::{AppSpec, Command, Effect, Machine, MaintenanceCall, Timestamp, Unavailability, Window};

fn machine(last: u8) -> Machine {
    Machine {
        hostname: String::new(),
        ip: format!("10.0.0.{last}"),
    }
}

fn window(last: u8, from: u64, seconds: u64) -> Window {
    Window {
        machines: vec![machine(last)],
        unavailability: Unavailability {
            start_ns: from * 1_000_000,
            duration_ns: Some(seconds * 1_000_000_000),
        },
    }
}

impl Bench {
    fn maintain(&mut self, call: MaintenanceCall) -> Result<(), String> {
        let at = self.at();
        let taken = self.core.handle_maintenance(at, call);
        self.core.check();
        taken
    }

    fn want(&mut self, instances: i64) {
        let spec = AppSpec {
            id: "/a".to_owned(),
            cmd: Some("x".to_owned()),
            cpus: Some(0.1),
            mem: Some(10.0),
            instances: Some(instances),
            ..AppSpec::default()
        };
        self.command(Command::PutApps {
            specs: vec![spec],
            force: crate::Force::Yes,
        })
        .expect("taken");
    }

    fn waits(&self) -> Option<u32> {
        let queue = self.core.queue().next()?;
        queue.refusals.by_rule.get(&Refusal::Maintenance).copied()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds * 1_000;
        let at = Timestamp(self.now);
        self.core.handle_timeout(at);
        self.core.check();
    }
}

fn bench() -> Bench {
    let config = Config {
        suspect_after: Duration::ZERO,
        agent_timeout: Duration::from_secs(100_000),
        retry: Duration::from_secs(100_000),
        ..Config::default()
    };
    Bench::with(config, Vec::new())
}

#[test]
fn nothing_is_started_while_a_window_lasts() {
    let mut bench = bench();
    bench.register_at(1, None, Vec::new());
    let begins = bench.now + 60_000;
    bench
        .maintain(MaintenanceCall::Schedule(vec![window(1, begins, 120)]))
        .expect("taken");
    bench.want(1);
    assert_eq!(bench.launches().len(), 1, "it has not begun");
    bench.pass(60);
    bench.want(2);
    assert_eq!((bench.launches().len(), bench.waits()), (0, Some(1)));
    assert!(bench.kills().is_empty(), "what runs stays");
    bench.pass(120);
    assert_eq!((bench.launches().len(), bench.waits()), (1, None), "it is over");
}

#[test]
fn a_machine_out_of_service_is_emptied_and_stays_so_until_it_is_back() {
    let mut bench = bench();
    let agent = bench.register_at(1, None, Vec::new()).agent;
    bench.want(2);
    assert_eq!(bench.launches().len(), 2);
    bench.register_at(2, None, Vec::new());
    let now = bench.now;
    bench
        .maintain(MaintenanceCall::Start(vec![machine(1)]))
        .expect_err("not planned");
    bench
        .maintain(MaintenanceCall::Schedule(vec![window(1, now + 1_000_000, 60)]))
        .expect("taken");
    bench.maintain(MaintenanceCall::Start(vec![machine(1)])).expect("taken");
    let effects = bench.effects();
    let count = |kind: fn(&Effect) -> bool| effects.iter().filter(|one| kind(one)).count();
    assert_eq!(count(|one| matches!(one, Effect::Kill { .. })), 2);
    let there = |one: &&Effect| matches!(one, Effect::Launch { agent: at, .. } if *at == agent);
    assert_eq!(
        (
            count(|one| matches!(one, Effect::Launch { .. })),
            effects.iter().find(there)
        ),
        (2, None)
    );
    // Its plan cannot forget it, and a restart of the master neither.
    bench
        .maintain(MaintenanceCall::Schedule(Vec::new()))
        .expect_err("it is out of service");
    let mut again = Bench::restored(bench.stored.clone());
    assert_eq!(again.core.maintenance().down.len(), 1);
    let registered = again.register_at(1, Some(&agent), Vec::new());
    assert_eq!(registered.agent, agent);
    again.register_at(2, None, Vec::new());
    again.want(4);
    let effects = again.effects();
    assert!(effects.iter().any(|one| matches!(one, Effect::Launch { .. })));
    assert_eq!(effects.iter().find(there), None);
    again.maintain(MaintenanceCall::Stop(vec![machine(1)])).expect("taken");
    assert!(again.core.maintenance().windows.is_empty(), "it is no longer planned");
    again.want(8);
    assert!(again.effects().iter().any(|one| there(&one)));
    again
        .maintain(MaintenanceCall::Stop(vec![machine(1)]))
        .expect_err("it is in service");
}

#[test]
fn plans_with_a_fault_are_refused_whole() {
    let mut bench = bench();
    let nameless = Window {
        machines: vec![Machine::default()],
        ..window(1, 0, 1)
    };
    let empty = Window {
        machines: Vec::new(),
        ..window(1, 0, 1)
    };
    for windows in [
        vec![window(1, 0, 1), window(1, 5, 1)],
        vec![window(1, 0, 1), nameless],
        vec![window(1, 0, 1), empty],
    ] {
        bench.maintain(MaintenanceCall::Schedule(windows)).expect_err("refused");
    }
    assert!(bench.core.maintenance().windows.is_empty());
    bench
        .maintain(MaintenanceCall::Schedule(vec![window(1, 0, 1), window(2, 0, 1)]))
        .expect("taken");
    bench
        .maintain(MaintenanceCall::Start(vec![machine(1), machine(3)]))
        .expect_err("refused");
    assert!(bench.core.maintenance().down.is_empty());
}
