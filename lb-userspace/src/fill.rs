//! Filling a VIP's table: which slot belongs to which backend, the same on every node.
//!
//! Each backend has an order of its own over all slots. In rounds, each backend looks at the next slot of its order and
//! takes it if it is free, until it has its share: first the whole part of it, then all of them once more for what is
//! left over. Without shares this is rendezvous hashing with the place in the order as score, so few slots move when a
//! backend comes or goes; with them, no two backends of one weight are further apart than one slot. The work is that of
//! the slots, however many backends there are.

use std::net::IpAddr;

use crate::{BackendKey, DesiredVip};

mod even;

/// Table sizes; primes, so that every step through a table meets all its slots.
const SIZES: [u32; 14] = [
    127, 251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 131_071, 262_139, 524_287, 1_048_573,
];

/// Slots per backend at least: enough for shares within one percent of each other.
const SLOTS_PER_BACKEND: usize = 100;

/// From so many backends on there are more slots for each, up to a table of so many: the more there are, the fewer move.
const MANY: usize = 50;
const SLOTS_WHERE_MANY: usize = 650;
const LARGE: usize = 131_071;

/// Most backends of one VIP that take connections.
pub const MAX_MEMBERS: usize = 10_000;

/// The number of slots for so many backends; 0 for none.
pub fn table_size(backends: usize) -> u32 {
    if backends == 0 {
        return 0;
    }
    let mut wanted = backends.saturating_mul(SLOTS_PER_BACKEND);
    if backends >= MANY {
        wanted = wanted.max(LARGE.min(backends.saturating_mul(SLOTS_WHERE_MANY)));
    }
    let fits = SIZES
        .iter()
        .find(|size| usize::try_from(**size).is_ok_and(|size| size >= wanted));
    fits.copied().unwrap_or(SIZES[SIZES.len() - 1])
}

/// A backend on its way through the table.
struct Walker {
    seed: u64,
    position: u32,
    weight: u32,
    /// Slots it may have, and has.
    share: u32,
    taken: u32,
    /// What it has saved towards its next look; the heaviest looks in every round.
    saved: u32,
    at: u32,
    step: u32,
}

const FREE: u32 = u32::MAX;

/// The owner of each slot, as a position in the order of `vip.members`. A function of the set alone: no order of events,
/// no seed.
pub fn fill_table(vip: &DesiredVip) -> Vec<u32> {
    fill(vip, walk)
}

fn fill(vip: &DesiredVip, walk: fn(&mut [u32], &mut [Walker])) -> Vec<u32> {
    let open = vip.members.values().filter(|member| member.weight > 0).count();
    let size = table_size(open);
    let mut table = vec![FREE; usize::try_from(size).unwrap_or_default()];
    let mut walkers: Vec<Walker> = vip
        .members
        .iter()
        .zip(0..)
        .filter(|((_, member), _)| member.weight > 0)
        .map(|((key, member), position)| walker(key, member.weight, position, size))
        .collect();
    walkers.sort_unstable_by_key(|walker| walker.seed);
    let total: u64 = walkers.iter().map(|walker| u64::from(walker.weight)).sum();
    let share = |walker: &Walker| u64::from(size) * u64::from(walker.weight);
    for rounded in [u64::div_euclid, u64::div_ceil] {
        for walker in &mut walkers {
            walker.share = u32::try_from(rounded(share(walker), total)).unwrap_or(u32::MAX);
        }
        walk(&mut table, &mut walkers);
    }
    table
}

fn walker(key: &BackendKey, weight: u16, position: u32, size: u32) -> Walker {
    let seed = seed(key);
    Walker {
        seed,
        position,
        weight: u32::from(weight),
        share: 0,
        taken: 0,
        saved: 0,
        at: scale(seed, size),
        step: 1 + scale(mix(seed ^ 0x9e37_79b9_7f4a_7c15), size.saturating_sub(1)),
    }
}

/// The high half of a hash, brought below `limit`.
fn scale(hash: u64, limit: u32) -> u32 {
    u32::try_from(((hash >> 32) * u64::from(limit)) >> 32).unwrap_or_default()
}

/// Rounds, until every walker has its share or no slot is left.
fn walk(table: &mut [u32], walkers: &mut [Walker]) {
    rounds(table, walkers, true);
}

/// The same; `short`: by the shorter way, as soon as all that walk have one weight.
fn rounds(table: &mut [u32], walkers: &mut [Walker], short: bool) {
    let size = u32::try_from(table.len()).unwrap_or(u32::MAX);
    let mut walking: Vec<&mut Walker> = walkers
        .iter_mut()
        .filter(|walker| walker.taken < walker.share)
        .collect();
    let mut heaviest = walking.iter().map(|walker| walker.weight).max().unwrap_or_default();
    let mut left = table.iter().filter(|slot| **slot == FREE).count();
    let mut even = walking.iter().all(|walker| walker.weight == heaviest);
    while left > 0 && !walking.is_empty() {
        if even && short {
            return even::walk(table, &mut walking, left);
        }
        let before = walking.len();
        walking.retain_mut(|walker| {
            walker.saved += walker.weight;
            if walker.saved < heaviest {
                return true;
            }
            walker.saved -= heaviest;
            if let Ok(at) = usize::try_from(walker.at)
                && let Some(slot) = table.get_mut(at)
                && *slot == FREE
            {
                *slot = walker.position;
                walker.taken += 1;
                left -= 1;
            }
            walker.at += walker.step;
            if walker.at >= size {
                walker.at -= size;
            }
            walker.taken < walker.share
        });
        if walking.len() < before {
            heaviest = walking.iter().map(|walker| walker.weight).max().unwrap_or_default();
            even = walking.iter().all(|walker| walker.weight == heaviest);
            // What was saved towards a heavier one's pace is worth as many looks at the new pace, but only one at a time.
            walking
                .iter_mut()
                .for_each(|walker| walker.saved = walker.saved.min(heaviest - 1));
        }
    }
}

fn seed(key: &BackendKey) -> u64 {
    let addr = match key.addr {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) | (0xffff << 32),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let low = u64::try_from(addr & u128::from(u64::MAX)).unwrap_or_default();
    let high = u64::try_from(addr >> 64).unwrap_or_default();
    mix(mix(mix(low) ^ high) ^ (u64::from(key.port) << 8) ^ u64::from(key.protocol.number()))
}

/// The finaliser of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Member;
    use model::Protocol;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn key(n: u32) -> BackendKey {
        BackendKey {
            addr: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)),
            port: 31_000,
            protocol: Protocol::Tcp,
        }
    }

    fn member(weight: u16) -> Member {
        Member {
            weight,
            node: Ipv4Addr::LOCALHOST,
            local: true,
        }
    }

    fn vip(members: impl IntoIterator<Item = u32>) -> DesiredVip {
        DesiredVip {
            members: members.into_iter().map(|n| (key(n), member(1))).collect(),
            ..DesiredVip::default()
        }
    }

    fn owners(vip: &DesiredVip) -> Vec<BackendKey> {
        let keys: Vec<BackendKey> = vip.members.keys().copied().collect();
        let at = |position: u32| keys[usize::try_from(position).expect("small")];
        fill_table(vip).into_iter().map(at).collect()
    }

    fn percent(part: usize, whole: usize) -> f64 {
        let float = |n: usize| f64::from(u32::try_from(n).expect("small"));
        100.0 * float(part) / float(whole)
    }

    #[test]
    fn one_of_a_hundred_leaves_and_few_slots_move() {
        let before = owners(&vip(0..100));
        for gone in [0, 37, 99] {
            let after = owners(&vip((0..100).filter(|n| *n != gone)));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            let share = percent(moved, before.len());
            println!("{share:.2} % of {} slots moved", before.len());
            assert!(share < 1.5, "{share} %");
        }
    }

    #[test]
    fn the_largest_set_fits_and_one_more_is_refused_by_the_step_that_fills() {
        let most = owners(&vip(0..u32::try_from(MAX_MEMBERS).expect("small")));
        assert_eq!(most.len(), 1_048_573);
        let mut shares = std::collections::BTreeMap::<BackendKey, u32>::new();
        for owner in most {
            *shares.entry(owner).or_default() += 1;
        }
        assert_eq!(shares.len(), MAX_MEMBERS);
        assert!(shares.values().all(|share| (104..=105).contains(share)));
    }

    proptest! {
        #[test]
        fn shares_follow_weights_to_a_slot(weights in proptest::collection::vec(0_u16..20, 1..60)) {
            let mut vip = vip([]);
            vip.members.extend(weights.iter().zip(0..).map(|(weight, n)| (key(n), member(*weight))));
            let owners = owners(&vip);
            let open = weights.iter().filter(|weight| **weight > 0).count();
            prop_assert_eq!(u32::try_from(owners.len()), Ok(table_size(open)));
            let total: usize = weights.iter().copied().map(usize::from).sum();
            for (weight, n) in weights.iter().zip(0..) {
                let share = owners.iter().filter(|owner| **owner == key(n)).count();
                let fair = owners.len() * usize::from(*weight);
                let even = share * total + total > fair && share * total < fair + total;
                prop_assert!(even || total == 0 && share == 0, "{share} of {fair}/{total}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_shorter_way_fills_the_same_table(first in 0_u32..1000, many in 1_u32..80, weights in proptest::collection::vec(0_u16..3, 1..60)) {
            let plain = |vip: &DesiredVip| fill(vip, |table, walkers| rounds(table, walkers, false));
            let even = vip(first..first + many);
            prop_assert_eq!(fill_table(&even), plain(&even));
            let mut uneven = vip([]);
            uneven.members.extend(weights.iter().zip(first..).map(|(weight, n)| (key(n), member(1 + *weight * 5))));
            prop_assert_eq!(fill_table(&uneven), plain(&uneven));
        }
    }

    /// Nodes of two releases must agree: when this changes, `DesiredVip::fingerprint` must change too.
    #[test]
    fn tables_are_those_of_every_node_and_release() {
        let mut weighted = vip(0..10);
        weighted.members.insert(key(3), member(7));
        let print = |vip: &DesiredVip| {
            let fold = |state: u64, owner: u32| mix(state ^ u64::from(owner));
            fill_table(vip).into_iter().fold(0, fold)
        };
        assert_eq!(
            (print(&vip(0..10)), print(&weighted)),
            (16_268_819_004_504_752_009, 12_286_322_765_827_913_860)
        );
    }
}
