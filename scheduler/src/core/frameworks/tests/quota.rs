//! Quotas from outside: limits and guarantees of roles.

use super::*;
use crate::core::placement::Refusal;
use crate::{AgentCall, Amounts, Force, Quota};

fn of(role: &str) -> FrameworkSpec {
    FrameworkSpec {
        roles: vec![role.to_owned()],
        ..spec(true)
    }
}

fn cpus(milli: u64) -> Amounts {
    Amounts {
        cpus_milli: Some(milli),
        ..Amounts::default()
    }
}

fn limit(role: &str, milli: u64) -> Quota {
    Quota {
        role: role.to_owned(),
        limits: cpus(milli),
        ..Quota::default()
    }
}

fn guarantee(role: &str, milli: u64) -> Quota {
    Quota {
        role: role.to_owned(),
        guarantees: cpus(milli),
        ..Quota::default()
    }
}

impl Bench {
    fn quota(&mut self, force: Force, quotas: Vec<Quota>) -> Result<(), String> {
        let at = self.at();
        self.core.handle_quotas(at, force, quotas)
    }

    /// Machines with a thousandth of a thousand cpus each.
    fn machines(&mut self, count: u8) -> Vec<AgentId> {
        let all = (1..=count)
            .map(|last| self.register_at(last, None, Vec::new()).agent)
            .collect();
        self.effects();
        all
    }

    fn create_app(&mut self, instances: i64, cpus: f64) -> Heard {
        let spec = AppSpec {
            id: "/a".to_owned(),
            cmd: Some("x".to_owned()),
            cpus: Some(cpus),
            mem: Some(10.0),
            instances: Some(instances),
            ..AppSpec::default()
        };
        self.command(Command::CreateApp(Box::new(spec))).expect("taken");
        self.hear()
    }

    /// How many instances of the only app wait, and how many agents refuse them for this reason.
    fn waits_for(&self, why: Refusal) -> (u32, Option<u32>) {
        let waiting = self.core.queue().next().expect("it waits");
        (waiting.count, waiting.refusals.by_rule.get(&why).copied())
    }
}

impl Heard {
    fn rescinded(&self) -> usize {
        let rescinded = |one: &&FrameworkEvent| matches!(one, FrameworkEvent::Rescind(_));
        self.events.iter().filter(rescinded).count()
    }
}

fn milli(heard: &Heard) -> Vec<u64> {
    heard.offers().iter().map(|offer| offer.resources.cpus_milli).collect()
}

#[test]
fn a_role_is_offered_no_more_than_its_limit_on_all_agents_together() {
    let mut bench = Bench::new();
    bench.machines(3);
    bench.quota(Force::No, vec![limit("dev", 1_500)]).expect("taken");
    let framework = bench.join(of("dev/web"));
    let heard = bench.hear();
    assert_eq!(milli(&heard), [1_000, 500], "the third agent's would be too much");
    let offers = heard.offers();
    let heard = bench.accept(&framework, &offers[0], vec![order(&offers[0], "t", 700)]);
    assert_eq!(heard.launches.len(), 1);
    // What was not used of the first offer counts no more: there is room under the limit on the third agent.
    assert_eq!(milli(&heard), [300]);
    // A limit that is lowered takes offers back; tasks stay.
    assert!(bench.quota(Force::No, vec![limit("dev", 600)]).is_err());
    bench.quota(Force::Yes, vec![limit("dev", 600)]).expect("forced");
    let heard = bench.hear();
    let taken_back = heard
        .events
        .iter()
        .filter(|one| matches!(one, FrameworkEvent::Rescind(_)));
    assert_eq!((taken_back.count(), heard.kills.len(), milli(&heard)), (2, 0, vec![]));
    assert_eq!(bench.core.consumed("dev").cpus_milli, 700);
    // Without a quota all is offered again.
    bench
        .quota(
            Force::No,
            vec![
                limit("dev", 0),
                Quota {
                    role: "dev".to_owned(),
                    ..Quota::default()
                },
            ],
        )
        .expect_err("named twice");
    bench
        .quota(
            Force::No,
            vec![Quota {
                role: "dev".to_owned(),
                ..Quota::default()
            }],
        )
        .expect("removed");
    assert_eq!(milli(&bench.hear()), [1_000, 1_000]);
    assert_eq!(bench.core.quotas().count(), 0);
}

#[test]
fn what_is_guaranteed_is_kept_from_others_and_offered_first() {
    let mut bench = Bench::new();
    bench.machines(2);
    bench.quota(Force::No, vec![guarantee("prod", 1_200)]).expect("taken");
    bench.join(of("dev"));
    let heard = bench.hear();
    assert_eq!(milli(&heard).iter().sum::<u64>(), 800, "1200 of 2000 are kept");
    // Marathon's apps take back what dev does not use, get nothing of what is kept, and say why they wait.
    let heard = bench.create_app(3, 0.5);
    assert_eq!((heard.launches.len(), heard.rescinded()), (1, 1));
    assert_eq!(
        milli(&heard).iter().sum::<u64>(),
        300,
        "what is left of the 800 is dev's"
    );
    assert_eq!(bench.waits_for(Refusal::Role), (2, Some(2)));
    let prod = bench.join(of("prod"));
    let heard = bench.hear();
    assert!(milli(&heard).iter().sum::<u64>() >= 1_200, "{:?}", milli(&heard));
    let offers = heard.offers();
    assert!(offers.iter().all(|offer| offer.role == "prod"));
    let largest = offers
        .iter()
        .max_by_key(|offer| offer.resources.cpus_milli)
        .expect("one");
    let heard = bench.accept(&prod, largest, vec![order(largest, "t", 600)]);
    assert_eq!(heard.launches.len(), 1);
}

#[test]
fn a_guarantee_takes_offers_of_others_back_but_never_another_guarantee() {
    let mut bench = Bench::new();
    bench.machines(2);
    let dev = bench.join(of("dev"));
    assert_eq!(milli(&bench.hear()), [1_000, 1_000]);
    bench.quota(Force::No, vec![guarantee("prod", 500)]).expect("taken");
    let heard = bench.hear();
    assert!(heard.events.iter().any(|one| matches!(one, FrameworkEvent::Rescind(_))));
    assert_eq!(milli(&heard).iter().sum::<u64>(), 1_500);
    // What prod holds up to its guarantee Marathon does not take back for itself, whatever the shares are.
    let at = bench.at();
    bench
        .core
        .handle_framework(at, &dev.framework, dev.stream, FrameworkCall::Suppress(Vec::new()))
        .expect("taken");
    bench.join(of("prod"));
    let offers = bench.hear().offers();
    assert_eq!(offers.iter().map(|one| one.resources.cpus_milli).sum::<u64>(), 500);
    let at = bench.at();
    bench.core.handle_weight(at, "prod", 0.01).expect("taken");
    let heard = bench.create_app(4, 0.5);
    assert_eq!(heard.launches.len(), 3, "all of dev's");
    for offer in &offers {
        assert!(!heard.events.contains(&FrameworkEvent::Rescind(offer.id.clone())));
    }
}

#[test]
fn a_role_gives_up_no_more_than_its_guarantee_leaves() {
    let mut bench = Bench::new();
    bench.machines(2);
    bench.quota(Force::No, vec![guarantee("prod", 500)]).expect("taken");
    bench.join(of("prod"));
    assert_eq!(milli(&bench.hear()), [1_000, 1_000]);
    let at = bench.at();
    bench.core.handle_weight(at, "prod", 0.01).expect("taken");
    // Each of the two alone could go.
    let heard = bench.create_app(4, 0.5);
    assert_eq!((heard.launches.len(), heard.rescinded()), (2, 1));
}

#[test]
fn two_offers_of_a_role_do_not_both_go_where_its_guarantee_leaves_one() {
    // Of what was free `test` has nothing any more, so that an app needs more than one offer beside what is kept for it.
    let without_the_third = || {
        let mut bench = Bench::new();
        let agents = bench.machines(3);
        let quotas = vec![guarantee("prod", 1_000), guarantee("test", 600)];
        bench.quota(Force::No, quotas).expect("taken");
        bench.join(of("prod"));
        assert_eq!(milli(&bench.hear()), [1_000, 1_000, 400]);
        let at = bench.at();
        let put = bench.core.handle_agent_call(at, &agents[2], AgentCall::Deactivate);
        put.expect("known");
        assert_eq!(bench.hear().rescinded(), 1);
        let at = bench.at();
        bench.core.handle_weight(at, "prod", 0.01).expect("taken");
        bench
    };
    let heard = without_the_third().create_app(1, 0.4);
    assert_eq!((heard.launches.len(), heard.rescinded()), (1, 1), "one is enough");
    let heard = without_the_third().create_app(1, 0.5);
    assert_eq!(
        (heard.launches.len(), heard.rescinded()),
        (0, 0),
        "both would be too much"
    );
}

#[test]
fn a_limit_of_another_role_changes_nothing_for_marathon() {
    let mut bench = Bench::new();
    bench.machines(2);
    bench.quota(Force::No, vec![limit("test", 100)]).expect("taken");
    bench.join(of("dev"));
    assert_eq!(milli(&bench.hear()), [1_000, 1_000]);
    let heard = bench.create_app(5, 0.5);
    assert_eq!((heard.launches.len(), heard.rescinded()), (3, 2));
    // Then dev has less than Marathon even with the rest, and nobody keeps anything from an app that waits for room.
    assert_eq!(milli(&heard).iter().sum::<u64>(), 500);
    assert_eq!(bench.waits_for(Refusal::Cpus), (2, Some(2)), "the agents are full");
}

#[test]
fn quotas_that_cannot_be_are_refused_whole() {
    let mut bench = Bench::new();
    bench.machines(1);
    let high = Quota {
        limits: cpus(10),
        ..guarantee("dev", 20)
    };
    for (quotas, words) in [
        (vec![limit("*", 1)], "'*'"),
        (vec![limit("a/b", 1)], "'a/b'"),
        (vec![limit("ok", 1), high], "above its limits"),
        (
            vec![guarantee("dev", 600), guarantee("prod", 600)],
            "more than the agents have",
        ),
    ] {
        let why = bench.quota(Force::No, quotas).expect_err("refused");
        assert!(why.contains(words), "{why}");
    }
    assert_eq!(bench.core.quotas().count(), 0);
    bench
        .quota(Force::Yes, vec![guarantee("dev", 600), guarantee("prod", 600)])
        .expect("forced");
    bench.effects();
    // They outlive the master.
    let mut again = Bench::restored(bench.stored.clone());
    assert_eq!(again.core.quotas().count(), 2);
    again
        .quota(
            Force::Yes,
            vec![Quota {
                role: "dev".to_owned(),
                ..Quota::default()
            }],
        )
        .expect("removed");
    again.effects();
    again.stored = [bench.stored.clone(), again.stored.clone()].concat();
    let last = Bench::restored(again.stored.clone());
    let roles: Vec<_> = last.core.quotas().map(|quota| quota.role.as_str()).collect();
    assert_eq!(roles, ["prod"]);
}

#[test]
fn who_waits_for_a_guarantee_comes_before_who_has_less() {
    let mut bench = Bench::new();
    bench.machines(1);
    bench.quota(Force::Yes, vec![guarantee("prod", 1_500)]).expect("forced");
    let prod = bench.join(of("prod"));
    let offer = bench.hear().offers().remove(0);
    bench.accept(&prod, &offer, vec![order(&offer, "t", 900)]);
    bench.join(of("dev"));
    assert_eq!(milli(&bench.hear()), Vec::<u64>::new(), "all of it is kept");
    let second = bench.register_at(2, None, Vec::new()).agent;
    let offers = bench.hear().offers();
    let there = offers.iter().find(|offer| offer.agent.id == second);
    assert_eq!(there.map(|offer| offer.role.as_str()), Some("prod"), "{offers:?}");
}
