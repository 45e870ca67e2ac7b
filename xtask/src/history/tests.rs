//! Histories of a register that works and of three that do not, and a second checker that tries every order.

use proptest::prelude::*;

use super::*;

/// Numbers at will, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What is wrong with the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// Now and then a read is answered by a leader that was deposed some writes ago.
    OldLeader,
    /// Now and then a write is acknowledged and forgotten.
    LostWrite,
    /// Now and then a write is carried out again, after others.
    DoneTwice,
}

/// Takes effect at times 100, 200, ...; each operation begins and ends somewhere around its own.
fn history(seed: u64, length: u64, bug: Bug) -> Vec<Operation> {
    let mut chance = Chance(seed | 1);
    let (mut value, mut values) = (None, vec![None]);
    let mut again = None;
    let mut operations = Vec::new();
    for number in 1..=length {
        let at = number * 100;
        let strikes = chance.below(8) == 0;
        if bug == Bug::DoneTwice && strikes {
            value = again.take().unwrap_or(value);
        }
        let act = if chance.below(2) == 0 {
            again.get_or_insert(Some(number));
            if bug != Bug::LostWrite || !strikes {
                value = Some(number);
                values.push(value);
            }
            Act::Write(number)
        } else if bug == Bug::OldLeader && strikes && values.len() > 4 {
            Act::Read(values[values.len() - 4])
        } else {
            Act::Read(value)
        };
        operations.push(Operation {
            from: at - chance.below(150).min(at),
            to: at + chance.below(150),
            act,
        });
    }
    operations
}

/// How many of so many histories are refused. Not each of them shows its bug: somebody has to look between two writes.
fn refused(bug: Bug) -> u64 {
    let seeds = (1..=200_u64).map(|seed| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let refused = seeds.filter(|seed| linearizable(&history(*seed, 60, bug)).is_err());
    refused.count().try_into().expect("few")
}

#[test]
fn a_register_that_works_is_never_blamed() {
    assert_eq!(refused(Bug::None), 0);
    let long = history(7, 5_000, Bug::None);
    assert_eq!(linearizable(&long), Ok(()));
}

#[test]
fn a_read_of_an_old_leader_is_found() {
    assert!(refused(Bug::OldLeader) >= 90, "{}", refused(Bug::OldLeader));
}

#[test]
fn an_acknowledged_write_that_is_lost_is_found() {
    assert!(refused(Bug::LostWrite) >= 90, "{}", refused(Bug::LostWrite));
}

#[test]
fn a_write_that_is_carried_out_twice_is_found() {
    assert!(refused(Bug::DoneTwice) >= 90, "{}", refused(Bug::DoneTwice));
}

fn one(from: u64, to: u64, act: Act) -> Operation {
    Operation { from, to, act }
}

#[test]
fn a_write_without_an_answer_may_have_been_done_or_not_but_not_both() {
    use Act::{Read, Write};
    let unknown = one(0, NEVER, Write(1));
    for seen in [None, Some(1)] {
        assert_eq!(linearizable(&[unknown, one(10, 20, Read(seen))]), Ok(()));
    }
    let late = [unknown, one(10, 20, Read(None)), one(30, 40, Read(Some(1)))];
    assert_eq!(linearizable(&late), Ok(()), "it may be done late");
    let undone = [unknown, one(10, 20, Read(Some(1))), one(30, 40, Read(None))];
    assert_eq!(linearizable(&undone), Err(undone[2]));
}

/// Tries every order of everything.
fn every_order(open: &[Operation], value: Option<u64>) -> bool {
    if open.iter().all(|one| one.to == NEVER) {
        return true;
    }
    let end = open.iter().map(|one| one.to).min().unwrap_or(NEVER);
    (0..open.len())
        .filter(|number| open[*number].from <= end)
        .any(|number| {
            let mut rest = open.to_vec();
            match rest.remove(number).act {
                Act::Write(value) => every_order(&rest, Some(value)),
                Act::Read(seen) => seen == value && every_order(&rest, value),
            }
        })
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let act = prop_oneof![
        Just(None),
        Just(Some(None)),
        (1..4_u64).prop_map(|value| Some(Some(value)))
    ];
    let one = (0..20_u64, 0..12_u64, prop::bool::weighted(0.15), act);
    prop::collection::vec(one, 0..7).prop_map(|all| {
        let all = (1_u64..).zip(all).map(|(number, (from, time, lost, act))| Operation {
            from,
            // A read without an answer is none.
            to: if lost && act.is_none() { NEVER } else { from + time },
            act: act.map_or(Act::Write(number), Act::Read),
        });
        all.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_says_what_trying_every_order_says(operations in operations()) {
        prop_assert_eq!(linearizable(&operations).is_ok(), every_order(&operations, None));
    }
}
