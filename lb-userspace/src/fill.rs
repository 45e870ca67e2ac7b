//! Filling a VIP's table: which slot belongs to which backend, the same on every node.

use std::net::IpAddr;

use crate::{BackendKey, DesiredVip};

/// Table sizes; primes, so that a weak bit of the flow hash cannot favour slots.
const SIZES: [u32; 11] = [127, 251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 131_071];

/// Slots per backend: at this many a share is within the wanted spread.
const SLOTS_PER_BACKEND: usize = 100;

/// Most backends of one VIP that take connections.
pub const MAX_MEMBERS: usize = 10_000;

/// The number of slots for so many backends; 0 for none.
pub fn table_size(backends: usize) -> u32 {
    if backends == 0 {
        return 0;
    }
    let wanted = backends.saturating_mul(SLOTS_PER_BACKEND);
    let fits = SIZES
        .iter()
        .find(|size| usize::try_from(**size).is_ok_and(|size| size >= wanted));
    fits.copied().unwrap_or(SIZES[SIZES.len() - 1])
}

struct Candidate {
    seed: u64,
    weight: f64,
    room: u32,
    position: usize,
}

/// Gives each slot to the open backend with the highest score for it among those that still have room
/// (rendezvous hashing with bounded load): shares are even to a slot, and few slots move when a backend goes.
///
/// The result holds positions in the order of `vip.members`. A function of the set alone: no order of events, no seed.
pub fn fill_table(vip: &DesiredVip) -> Vec<usize> {
    let open = || {
        vip.members
            .iter()
            .enumerate()
            .filter(|(_, (_, member))| member.weight > 0)
    };
    let size = table_size(open().count());
    let total: u64 = open().map(|(_, (_, member))| u64::from(member.weight)).sum();
    let mut candidates: Vec<Candidate> = open()
        .map(|(position, (key, member))| Candidate {
            seed: seed(key),
            weight: f64::from(member.weight),
            room: room(size, member.weight, total),
            position,
        })
        .collect();
    (0..size).filter_map(|slot| claim(slot, &mut candidates)).collect()
}

/// A backend's fair share, rounded up, and 1 % more: the spread allowed.
fn room(size: u32, weight: u16, total: u64) -> u32 {
    let share = u64::from(size) * u64::from(weight);
    u32::try_from((share * 101).div_ceil(total.max(1) * 100)).unwrap_or(u32::MAX)
}

fn claim(slot: u32, candidates: &mut [Candidate]) -> Option<usize> {
    let best = candidates
        .iter_mut()
        .filter(|candidate| candidate.room > 0)
        .map(|candidate| (score(slot, candidate), candidate))
        // Equal scores are decided by the seed, so that the order of the list never counts.
        .max_by(|(a, x), (b, y)| a.total_cmp(b).then(x.seed.cmp(&y.seed)))?
        .1;
    best.room -= 1;
    Some(best.position)
}

/// Weighted rendezvous score: `-weight / ln(u)` with `u` uniform in (0, 1). For equal weights its order is that of `u`.
fn score(slot: u32, candidate: &Candidate) -> f64 {
    let bits = mix(candidate.seed ^ (u64::from(slot) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 32;
    let uniform = (f64::from(u32::try_from(bits).unwrap_or_default()) + 0.5) / 4_294_967_296.0;
    -candidate.weight / uniform.ln()
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
        fill_table(vip).into_iter().map(|position| keys[position]).collect()
    }

    #[test]
    fn one_of_a_hundred_leaves_and_few_slots_move() {
        let (before, after) = (owners(&vip(0..100)), owners(&vip((0..100).filter(|n| *n != 37))));
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let share = 100.0 * f64::from(u32::try_from(moved).expect("small")) / 16_381.0;
        println!("{share:.2} % of {} slots moved", before.len());
        assert!(share < 1.6, "{share} %");
    }

    proptest! {
        #[test]
        fn shares_are_even_and_every_slot_is_given(n in 1_u32..40) {
            let owners = owners(&vip(0..n));
            prop_assert_eq!(u32::try_from(owners.len()), Ok(table_size(usize::try_from(n).expect("small"))));
            let fair = owners.len() / usize::try_from(n).expect("small");
            for member in 0..n {
                let share = owners.iter().filter(|owner| **owner == key(member)).count();
                prop_assert!(share <= fair + fair / 50 + 2, "{share} of {fair}");
                prop_assert!(share * 10 >= fair * 6, "{share} of {fair}");
            }
        }

        #[test]
        fn weight_zero_gets_no_slot(n in 1_u32..10, closed in 0_u32..10) {
            let mut vip = vip(0..n);
            vip.members.insert(key(closed), member(0));
            prop_assert!(!owners(&vip).contains(&key(closed)));
        }
    }
}
