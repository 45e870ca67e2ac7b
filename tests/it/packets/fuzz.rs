//! The programs and the model of `tests::pathmodel` get the same packets and must agree: verdict, bytes, reason, flows.
//!
//! `REVERE_FUZZ_SEED` and `REVERE_FUZZ_COUNT` choose other packets and more; `cargo xtask fuzz-packets` does so.

mod chance;
pub(in crate::packets) mod grammar;
pub(in crate::packets) mod kernel;
mod world;

use chance::Chance;
use grammar::{Way, frame};
use kernel::Kernel;
use lb_userspace::{Reason, Verdict};
use tests::pathmodel::{Model, Outcome};

/// Packets of the part that each test run affords.
const COUNT: u64 = 250_000;
/// Packets that meet the same tables, so that flows come and go among few enough to hold them all.
const WORLD: u64 = 2_000;
/// Now and then a backend changes under its flows.
const CHANGE: u64 = 150;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// What a packet did in the kernel beside what it should have done.
fn compare(kernel: &mut Kernel, model: &mut Model, way: Way, frame: &[u8], told: &str) {
    let before = kernel.cookies_accepted();
    let Some(run) = kernel.run(way, frame) else {
        // No such frame reaches a program: the kernel makes no packet of it.
        return;
    };
    model.cookies.answer.clone_from(&run.frame);
    let translated = Model::tuple(frame).and_then(|tuple| kernel.translated(&tuple));
    model.nat.told = translated.map(|flow| flow.port);
    model.cookies.accepted = kernel.cookies_accepted() > before;
    let wanted: Outcome = match way {
        Way::In => model.ingress(frame),
        Way::Out => model.egress(frame),
    };
    let counted = kernel.counted(wanted.reason);
    assert!(
        counted == Ok(()),
        "{told}: the model says {:?}, the program does not: {counted:?}, action {}\n{way:?} {frame:02x?}\ntables {:?}",
        wanted.reason,
        run.action,
        model.tables
    );
    assert_eq!(
        run.action,
        kernel::action(way, wanted.reason),
        "{told}: {:?}\n{frame:02x?}",
        wanted.reason
    );
    if wanted.reason.verdict() != Verdict::Drop {
        assert_eq!(
            run.frame, wanted.frame,
            "{told}: {:?} bytes of\n{way:?} {frame:02x?}",
            wanted.reason
        );
    }
    if matches!(wanted.reason, Reason::TooBigReplied | Reason::ReplyRedirected) {
        // The model has no clock.
        kernel.forget_rates();
    }
    for (store, key) in &model.flows.touched {
        let found = kernel.flow(*store, key);
        assert_eq!(
            found.as_ref(),
            model.flows.get(*store, key),
            "{told}: {:?}: {store:?} {key:?} after\n{way:?} {frame:02x?}",
            wanted.reason
        );
    }
}

/// Runs packets `0..count` of a seed.
fn fuzz(seed: u64, count: u64) {
    let mut kernel = Kernel::new();
    let _listeners = kernel::listeners();
    world::neighbours();
    let mut seen = std::collections::BTreeMap::<_, u64>::new();
    for world in 0..count.div_ceil(WORLD) {
        let mut chance = Chance::new(seed ^ world.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut model = world::make(&mut chance, &kernel);
        kernel.load(&model.tables);
        kernel.set_places(&model.cookies.listens);
        for number in 0..WORLD.min(count - world * WORLD) {
            if number % CHANGE == CHANGE - 1 {
                let index = world::change(&mut chance, &mut model.tables);
                kernel.set_backend(&model.tables, index);
                // As after a silence.
                if let Some(key) = world::some_flow(&mut chance, &model.flows) {
                    kernel.doubt(&mut model.flows, &key);
                }
            }
            let (way, frame) = frame(&mut chance, &model);
            let told = format!("REVERE_FUZZ_SEED={seed}, world {world}, packet {number}");
            let before = kernel.runs;
            compare(&mut kernel, &mut model, way, &frame, &told);
            if kernel.runs > before {
                *seen.entry(kernel.last).or_default() += 1;
            }
        }
        let told = format!("REVERE_FUZZ_SEED={seed}, world {world}");
        kernel.same_flows(&model.flows, &told);
        kernel.same_parts(&model.flows, &told);
        kernel.same_nat(&model.nat, &told);
        kernel.same_counts();
    }
    eprintln!("fact: {} packets equal to the model, seed {seed}", kernel.runs);
    for (reason, count) in seen
        .iter()
        .filter_map(|(reason, count)| Some((reason.as_ref()?, count)))
    {
        eprintln!("  {reason:?}: {count}");
    }
    if count >= COUNT {
        let rare: Vec<_> = world::REACHED
            .iter()
            .filter(|reason| !seen.contains_key(&Some(**reason)))
            .collect();
        assert!(
            rare.is_empty(),
            "no packet ended as {rare:?}: the grammar does not reach them any more"
        );
    }
}

#[test]
fn mutated_packets_end_as_the_model_says() {
    let seed = setting("REVERE_FUZZ_SEED", 1);
    fuzz(seed, setting("REVERE_FUZZ_COUNT", COUNT));
}

#[test]
fn packets_cut_at_every_length_end_as_the_model_says() {
    let mut kernel = Kernel::new();
    let _listeners = kernel::listeners();
    world::neighbours();
    let mut chance = Chance::new(7);
    for world in 0..6 {
        let mut model = world::make(&mut chance, &kernel);
        kernel.load(&model.tables);
        kernel.set_places(&model.cookies.listens);
        for number in 0..8 {
            let (way, whole) = grammar::sound(&mut chance, &model);
            for len in (14..whole.len()).rev() {
                let told = format!("world {world}, packet {number}, cut to {len} bytes");
                compare(&mut kernel, &mut model, way, &whole[..len], &told);
            }
        }
        kernel.same_counts();
    }
}
