//! A seeded simulation of the core with faulty agents, links, masters and their store in virtual time.
//!
//! `REVERE_SIM_SEED=7 cargo test -p scheduler one_seed` replays one seed.

mod agent;
mod check;
mod fault;
mod follower;
mod framework;
mod master;
mod stuck;
mod world;

use world::{Bug, World};

/// Seeds in each of the tests below; together 1,000, in parallel as far as the test runner goes.
const SEEDS: u64 = 250;

fn run(seed: u64) -> u64 {
    let result = std::panic::catch_unwind(|| {
        let mut world = World::new(seed);
        world.run();
        world.trace()
    });
    match result {
        Ok(trace) => trace,
        Err(panic) => {
            eprintln!("simulation: seed {seed} failed; replay with REVERE_SIM_SEED={seed}");
            std::panic::resume_unwind(panic)
        }
    }
}

/// Whether a world with that bug fails with those words within so many seeds.
fn finds(bug: Bug, words: &str, seeds: u64) -> bool {
    (0..seeds).any(|seed| {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.plant(bug);
            world.run();
        });
        let said = run.err().and_then(|panic| panic.downcast_ref::<String>().cloned());
        said.is_some_and(|said| said.contains(words))
    })
}

#[test]
fn planted_bugs_are_found() {
    for (bug, words) in [
        (Bug::LostAcknowledgement, "not settled in time"),
        (Bug::DoubleLaunch, "lives twice"),
        (Bug::EarlyOrder, "was launched but not persisted"),
        (Bug::ForgottenVolumes, "ran away from its volumes"),
        (Bug::CapacityOffByOne, "over-committed"),
        (Bug::MissedRecord, "from all records"),
        (Bug::ForgottenUpdate, "not settled in time: the framework"),
    ] {
        assert!(finds(bug, words, 100), "{bug:?} goes unnoticed");
    }
}

/// As many as `REVERE_SIM_SEEDS` says, half of them in each of the two tests below: `cargo xtask sim`.
fn run_asked(first: u64) {
    let asked = std::env::var("REVERE_SIM_SEEDS").ok();
    let seeds: u64 = asked.map_or(0, |text| text.parse().expect("REVERE_SIM_SEEDS is a number"));
    for seed in (1_000_000 + first..1_000_000 + seeds).step_by(2) {
        run(seed);
    }
}

#[test]
fn even_ones_as_asked() {
    run_asked(0);
}

#[test]
fn odd_ones_as_asked() {
    run_asked(1);
}

/// As many cases of the matcher as `REVERE_MATCH_CASES` says: `cargo xtask sim`.
#[test]
fn matcher_cases_as_asked() {
    let asked = std::env::var("REVERE_MATCH_CASES").ok();
    let cases: u64 = asked.map_or(0, |text| text.parse().expect("REVERE_MATCH_CASES is a number"));
    (0..cases).for_each(crate::core::placement::oracle::one_case);
}

fn run_block(block: u64) {
    for seed in block * SEEDS..(block + 1) * SEEDS {
        run(seed);
    }
}

#[test]
fn seeds_0_to_249() {
    run_block(0);
}

#[test]
fn seeds_250_to_499() {
    run_block(1);
}

#[test]
fn seeds_500_to_749() {
    run_block(2);
}

#[test]
fn seeds_750_to_999() {
    run_block(3);
}

#[test]
fn one_seed() {
    let seed = std::env::var("REVERE_SIM_SEED")
        .ok()
        .map_or(Ok(4_711), |text| text.parse::<u64>());
    run(seed.expect("REVERE_SIM_SEED is a number"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(run(42), run(42));
    assert_ne!(run(42), run(43));
}
