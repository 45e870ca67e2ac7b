//! Reservations, volumes and task groups from outside.

use super::*;
use crate::{Claim, Holding, HoldingChange, InstanceId, NewVolume, Reservation};

fn by(role: &str) -> Reservation {
    Reservation {
        role: role.to_owned(),
        principal: None,
        labels: Vec::new(),
    }
}

fn claim(cpus_milli: u64, disk_mb: u64) -> Claim {
    Claim {
        by: by("db"),
        resources: Resources {
            cpus_milli,
            mem_mb: cpus_milli,
            disk_mb,
        },
        volumes: Vec::new(),
    }
}

fn volume(id: &str, size_mb: u64) -> NewVolume {
    NewVolume {
        by: by("db"),
        id: id.to_owned(),
        principal: None,
        container_path: "data".to_owned(),
        size_mb,
    }
}

fn change(change: HoldingChange) -> Operation {
    Operation::Change {
        id: Some("op".to_owned()),
        change,
    }
}

fn database() -> FrameworkSpec {
    FrameworkSpec {
        roles: vec!["db".to_owned()],
        ..spec(true)
    }
}

impl Bench {
    fn operate(&mut self, by: &Subscription, offer: &Offer, operations: Vec<Operation>) -> Heard {
        let call = FrameworkCall::Accept {
            offers: vec![offer.id.clone()],
            operations,
            refuse: Duration::ZERO,
        };
        self.ask(by, call)
    }

    fn hold(&mut self, agent: &AgentId, change: HoldingChange) -> Result<(), String> {
        let at = self.at();
        let taken = self.core.handle_holdings(at, agent, change);
        self.core.check();
        taken
    }

    fn kept(&self, agent: &AgentId) -> Vec<Holding> {
        self.core.holdings(agent).to_vec()
    }
}

/// One agent, one framework of the role `db`, and its first offer.
fn begin() -> (Bench, AgentId, Subscription, Offer) {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    bench.effects();
    let framework = bench.join(database());
    let offer = bench.hear().offers().remove(0);
    (bench, agent, framework, offer)
}

/// An order that uses a reservation, and a volume of it.
fn reserved_order(offer: &Offer, task: &str, volumes: &[(&str, u64)]) -> TaskOrder {
    let mut order = order(offer, task, 400);
    let disk: u64 = volumes.iter().map(|(_, size)| size).sum();
    if let Ok(spec) = &mut order.spec {
        spec.resources.disk_mb = disk;
    }
    order.from = vec![Claim {
        volumes: volumes.iter().map(|(id, size)| ((*id).to_owned(), *size)).collect(),
        ..claim(400, 0)
    }];
    order
}

#[test]
fn a_database_reserves_creates_launches_and_finds_its_data_again() {
    let (mut bench, agent, framework, offer) = begin();
    let operations = vec![
        change(HoldingChange::Reserve(vec![claim(400, 100)])),
        change(HoldingChange::Create(vec![volume("v1", 60)])),
        Operation::Launch(vec![reserved_order(&offer, "t1", &[("v1", 60)])]),
    ];
    let heard = bench.operate(&framework, &offer, operations);
    let done = heard
        .events
        .iter()
        .filter(|one| matches!(one, FrameworkEvent::OperationDone(_)));
    assert_eq!((done.count(), heard.launches.len()), (2, 1), "{:?}", heard.states());
    let first = heard.launches[0].clone();
    let mount = first.container.kept[0].clone();
    assert_eq!(mount.container_path, "data");
    // Its disk beside the volume is all that is left of the reservation.
    let offers = bench.later(Duration::from_secs(2)).offers();
    let offered = &offers[0].reserved[0];
    assert_eq!(
        (
            offered.resources.disk_mb,
            offered.resources.cpus_milli,
            offered.volumes.len()
        ),
        (40, 0, 0)
    );
    assert_eq!(offers[0].resources.cpus_milli, 600);
    let call = FrameworkCall::Decline {
        offers: vec![offers[0].id.clone()],
        refuse: Duration::ZERO,
    };
    bench.ask(&framework, call);
    // Marathon gets nothing of what is reserved, whether it is used or not.
    let told = bench.say(&agent, &first, TaskState::Failed);
    let mut offers = told.offers();
    offers.extend(bench.ask(&framework, acknowledge(&told.updates()[0])).offers());
    assert_eq!(bench.core.agent_view(&agent).expect("there").used.cpus_milli, 400);
    offers.extend(bench.later(Duration::from_secs(2)).offers());
    let offered = &offers[0].reserved[0];
    assert_eq!(
        (offered.resources.cpus_milli, offered.volumes[0].id.as_str()),
        (400, "v1")
    );
    let again = reserved_order(&offers[0], "t2", &[("v1", 60)]);
    let heard = bench.operate(&framework, &offers[0], vec![Operation::Launch(vec![again])]);
    assert_eq!(heard.launches[0].container.kept[0], mount, "the same data");
    // Twice at a time it is not given.
    let offers = bench.later(Duration::from_secs(2)).offers();
    let twice = reserved_order(&offers[0], "t3", &[("v1", 60)]);
    let heard = bench.operate(&framework, &offers[0], vec![Operation::Launch(vec![twice])]);
    assert_eq!(heard.states(), [("t3".to_owned(), TaskState::Error)]);
}

#[test]
fn what_is_reserved_outlives_its_framework_and_the_master_and_goes_on_demand() {
    let (mut bench, agent, framework, offer) = begin();
    let operations = vec![
        change(HoldingChange::Reserve(vec![claim(400, 100)])),
        change(HoldingChange::Create(vec![volume("v1", 60)])),
    ];
    bench.operate(&framework, &offer, operations);
    bench.ask(&framework, FrameworkCall::Teardown);
    let mut again = Bench::restored(bench.stored.clone());
    assert_eq!(again.kept(&agent), bench.kept(&agent));
    again.register(Some(&agent), Vec::new());
    again.hear();
    let owner = InstanceId(again.kept(&agent)[0].volumes[0].owner.clone());
    // Volumes go first, and what they held goes before their disk is free.
    again
        .hold(&agent, HoldingChange::Unreserve(vec![claim(400, 100)]))
        .expect_err("there is a volume");
    again
        .hold(&agent, HoldingChange::Destroy(vec![(by("db"), "v2".to_owned())]))
        .expect_err("no such volume");
    again
        .hold(&agent, HoldingChange::Destroy(vec![(by("db"), "v1".to_owned())]))
        .expect("taken");
    let removals = |effects: Vec<Effect>| {
        let asked = |one: &Effect| matches!(one, Effect::RemoveVolumes { owner: whose, .. } if *whose == owner);
        effects.iter().filter(|one| asked(one)).count()
    };
    assert_eq!(removals(again.effects()), 1);
    again
        .hold(&agent, HoldingChange::Unreserve(vec![claim(400, 100)]))
        .expect_err("it is not gone yet");
    again.join(database());
    let offers = again.hear().offers();
    assert!(
        offers
            .iter()
            .flat_map(|one| &one.reserved)
            .all(|one| one.volumes.is_empty()),
        "{offers:?}"
    );
    // An order that was lost is repeated.
    again.now += 60_000;
    let at = again.at();
    again.core.handle_timeout(at);
    assert_eq!(removals(again.effects()), 1);
    assert!(again.core.handle_volumes_gone(at, &agent, &owner));
    again
        .hold(&agent, HoldingChange::Unreserve(vec![claim(400, 100)]))
        .expect("taken");
    assert!(again.kept(&agent).is_empty());
    let gone = |one: &Effect| matches!(one, Effect::Persist(Record::DeleteHoldings(_)));
    assert!(again.effects().iter().any(gone));
}

#[test]
fn an_operator_takes_back_offers_only_for_what_can_be() {
    let (mut bench, agent, framework, offer) = begin();
    bench
        .hold(&agent, HoldingChange::Reserve(vec![claim(1_001, 0)]))
        .expect_err("more than there is");
    assert!(bench.hear().events.is_empty(), "the offer stands");
    let half = HoldingChange::Reserve(vec![claim(100, 0), claim(1_000, 0)]);
    bench.hold(&agent, half).expect_err("both or none");
    assert!(bench.kept(&agent).is_empty());
    bench
        .hold(&agent, HoldingChange::Reserve(vec![claim(300, 0)]))
        .expect("taken");
    let heard = bench.hear();
    assert!(heard.events.contains(&FrameworkEvent::Rescind(offer.id.clone())));
    let offers = heard.offers();
    assert_eq!(
        (
            offers[0].resources.cpus_milli,
            offers[0].reserved[0].resources.cpus_milli
        ),
        (700, 300)
    );
    let other = Claim {
        by: by("other"),
        ..claim(300, 0)
    };
    bench
        .hold(&agent, HoldingChange::Unreserve(vec![other]))
        .expect_err("of another role");
    // Others are not offered it.
    bench.ask(&framework, FrameworkCall::Teardown);
    bench.join(spec(true));
    let offers = bench.hear().offers();
    assert_eq!((offers[0].resources.cpus_milli, offers[0].reserved.len()), (700, 0));
    for odd in [
        HoldingChange::Reserve(vec![Claim {
            by: by("*"),
            ..claim(1, 0)
        }]),
        HoldingChange::Create(vec![volume("../x", 1)]),
        HoldingChange::Create(vec![volume("v", 1)]),
    ] {
        bench.hold(&agent, odd).expect_err("refused");
    }
    let nobody = AgentId::new("nobody");
    bench
        .hold(&nobody, HoldingChange::Reserve(vec![claim(1, 0)]))
        .expect_err("unknown");
}

/// One that somebody told apart by a label.
fn labelled() -> Reservation {
    Reservation {
        labels: vec![("tier".to_owned(), "fast".to_owned())],
        ..by("db")
    }
}

#[test]
fn a_name_that_several_reservations_answer_to_means_the_one_that_fits() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    let of = |by: Reservation| Claim { by, ..claim(100, 50) };
    let both = HoldingChange::Reserve(vec![of(by("db")), of(labelled())]);
    bench.hold(&agent, both).expect("taken");
    let slow = volume("v1", 50);
    let fast = NewVolume {
        by: labelled(),
        ..volume("v2", 50)
    };
    bench
        .hold(&agent, HoldingChange::Create(vec![slow, fast]))
        .expect("taken");
    let volumes = |bench: &Bench, leaving: bool| -> Vec<String> {
        let all = bench.kept(&agent).into_iter().flat_map(|one| one.volumes);
        all.filter(|one| one.leaving == leaving).map(|one| one.id).collect()
    };
    // The first of the two has another volume.
    for id in ["v2", "v1"] {
        bench
            .hold(&agent, HoldingChange::Destroy(vec![(by("db"), id.to_owned())]))
            .expect("taken");
    }
    assert_eq!((volumes(&bench, true).len(), volumes(&bench, false).len()), (2, 0));
}

#[test]
fn a_reservation_that_a_name_means_exactly_goes_before_others() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    let of = |by: Reservation| Claim { by, ..claim(100, 50) };
    let both = HoldingChange::Reserve(vec![of(labelled()), of(by("db"))]);
    bench.hold(&agent, both).expect("taken");
    bench
        .hold(&agent, HoldingChange::Unreserve(vec![of(by("db"))]))
        .expect("taken");
    let left: Vec<Reservation> = bench.kept(&agent).into_iter().map(|one| one.by).collect();
    assert_eq!(left, [labelled()]);
    // Where none is exact, the name means any.
    bench
        .hold(&agent, HoldingChange::Unreserve(vec![of(by("db"))]))
        .expect("taken");
    assert!(bench.kept(&agent).is_empty());
}

#[test]
fn what_is_reserved_stays_while_its_agent_is_away_and_goes_with_one_that_is_marked_gone() {
    let config = crate::Config {
        suspect_after: Duration::ZERO,
        forget_agent: Duration::from_secs(3_600),
        ..Default::default()
    };
    let mut bench = Bench::with(config, Vec::new());
    let agent = bench.register_at(1, None, Vec::new()).agent;
    bench.register_at(2, None, Vec::new());
    bench
        .hold(&agent, HoldingChange::Reserve(vec![claim(100, 50)]))
        .expect("taken");
    // Longer than any agent is remembered for its own sake.
    let end = bench.now + 3 * 3_600_000;
    while bench.now < end {
        bench.next_timer();
        bench.core.check();
    }
    assert_eq!(bench.kept(&agent).len(), 1);
    let restored = Bench::restored({
        bench.effects();
        bench.stored.clone()
    });
    assert_eq!(restored.kept(&agent).len(), 1);
    let at = bench.at();
    bench
        .core
        .handle_agent_call(at, &agent, crate::AgentCall::MarkGone)
        .expect("taken");
    assert!(bench.kept(&agent).is_empty());
}

#[test]
fn a_framework_reserves_for_its_own_role_only() {
    let (mut bench, agent, framework, offer) = begin();
    let other = Claim {
        by: by("other"),
        ..claim(100, 0)
    };
    let named = Claim {
        by: Reservation {
            principal: Some("somebody".to_owned()),
            ..by("db")
        },
        ..claim(100, 0)
    };
    let operations = vec![
        change(HoldingChange::Reserve(vec![other])),
        change(HoldingChange::Reserve(vec![named])),
        change(HoldingChange::Reserve(vec![claim(2_000, 0)])),
    ];
    let heard = bench.operate(&framework, &offer, operations);
    let failed = heard
        .events
        .iter()
        .filter(|one| matches!(one, FrameworkEvent::OperationFailed { .. }));
    assert_eq!(failed.count(), 3);
    assert!(bench.kept(&agent).is_empty());
}

/// What went out to start groups.
fn groups(effects: Vec<Effect>) -> Vec<Vec<LaunchSpec>> {
    let group = |effect| match effect {
        Effect::LaunchPod { specs, .. } => Some(specs),
        _ => None,
    };
    effects.into_iter().filter_map(group).collect()
}

#[test]
fn a_group_is_launched_whole_or_not_at_all_and_ends_together() {
    let (mut bench, agent, framework, offer) = begin();
    let too_large = vec![order(&offer, "a", 400), order(&offer, "b", 700)];
    let heard = bench.operate(&framework, &offer, vec![Operation::LaunchGroup(too_large)]);
    let refused = heard.states();
    assert_eq!(
        refused,
        [("a".to_owned(), TaskState::Error), ("b".to_owned(), TaskState::Error)]
    );
    let offer = bench.later(Duration::from_secs(2)).offers().remove(0);
    assert_eq!(offer.resources.cpus_milli, 1_000);
    let tasks = vec![order(&offer, "a", 400), order(&offer, "b", 500)];
    let call = FrameworkCall::Accept {
        offers: vec![offer.id.clone()],
        operations: vec![Operation::LaunchGroup(tasks)],
        refuse: Duration::ZERO,
    };
    let at = bench.at();
    bench
        .core
        .handle_framework(at, &framework.framework, framework.stream, call)
        .expect("taken");
    let sent = groups(bench.effects());
    assert_eq!(sent.len(), 1);
    let parts: Vec<_> = sent[0].iter().map(|spec| spec.pod.clone().expect("a part")).collect();
    let ids: Vec<TaskId> = sent[0].iter().map(|spec| spec.task.clone()).collect();
    assert!(parts[0] == parts[1] && parts[0].members == ids);
    // Lost orders are repeated, whole.
    bench.now += 60_000;
    let at = bench.at();
    bench.core.handle_timeout(at);
    assert!(groups(bench.effects()).iter().all(|again| again.len() == 2));
    for spec in &sent[0] {
        bench.say(&agent, spec, TaskState::Running);
    }
    let heard = bench.say(&agent, &sent[0][0], TaskState::Failed);
    assert_eq!(heard.kills.len(), 1);
    assert_eq!(heard.kills[0].0, ids[1], "the other goes with it");
}
