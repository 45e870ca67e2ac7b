//! Walks of backends with one weight, which is nearly all of them: the same steps as any walk's, found faster.
//!
//! Each walker looks once in every round, so the loop is a short one; and once few slots are free, nearly all looks would find one that is
//! taken, so the rounds in which they will be met are computed instead.

use super::{FREE, Walker};

/// Free slots from which on it is faster to compute.
const FEW: usize = 16;

/// As rounds of looks, until every walker has its share or no slot of the `left` ones is free. `walking` have shares to take.
pub(super) fn walk(table: &mut [u32], walking: &mut Vec<&mut Walker>, mut left: usize) {
    let size = u32::try_from(table.len()).unwrap_or(u32::MAX);
    // After so many rounds each walker has been everywhere.
    for _ in 0..size {
        if left <= FEW || walking.is_empty() {
            break;
        }
        let mut over = false;
        for walker in walking.iter_mut() {
            if let Ok(at) = usize::try_from(walker.at)
                && let Some(slot) = table.get_mut(at)
                && *slot == FREE
            {
                *slot = walker.position;
                walker.taken += 1;
                left -= 1;
                over |= walker.taken == walker.share;
            }
            let next = walker.at + walker.step;
            walker.at = if next >= size { next - size } else { next };
        }
        if over {
            walking.retain(|walker| walker.taken < walker.share);
        }
    }
    rest(table, walking, size);
}

/// A look that finds a free slot, unless it is taken or the walker has its share by then: first by round, then by walker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    round: u32,
    walker: usize,
    slot: u32,
}

fn rest(table: &mut [u32], walking: &mut [&mut Walker], size: u32) {
    let free: Vec<u32> = (0..)
        .zip(table.iter())
        .filter(|(_, slot)| **slot == FREE)
        .map(|(at, _)| at)
        .collect();
    let mut looks = Vec::with_capacity(free.len() * walking.len());
    for (number, walker) in walking.iter().enumerate() {
        let inverse = inverse(walker.step, size);
        looks.extend(free.iter().map(|slot| {
            let way = if *slot >= walker.at {
                slot - walker.at
            } else {
                slot + (size - walker.at)
            };
            Look {
                round: times(way, inverse, size),
                walker: number,
                slot: *slot,
            }
        }));
    }
    looks.sort_unstable();
    for look in looks {
        let (Some(walker), Ok(at)) = (walking.get_mut(look.walker), usize::try_from(look.slot)) else {
            continue;
        };
        if walker.taken < walker.share
            && let Some(slot) = table.get_mut(at)
            && *slot == FREE
        {
            *slot = walker.position;
            walker.taken += 1;
            if walker.taken == walker.share {
                // Where it stands after this look, if it is to walk once more.
                let next = look.slot + walker.step;
                walker.at = if next >= size { next - size } else { next };
            }
        }
    }
}

/// The product of two numbers below a third, modulo that.
fn times(a: u32, b: u32, modulus: u32) -> u32 {
    u32::try_from(u64::from(a) * u64::from(b) % u64::from(modulus)).unwrap_or_default()
}

/// The number whose product with `step` is 1 modulo a prime (extended Euclid).
fn inverse(step: u32, prime: u32) -> u32 {
    let (mut old, mut now) = (i64::from(prime), i64::from(step));
    let (mut old_part, mut part) = (0, 1);
    while now > 1 {
        let quotient = old / now;
        (old, now) = (now, old - quotient * now);
        (old_part, part) = (part, old_part - quotient * part);
    }
    u32::try_from(part.rem_euclid(i64::from(prime))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_times_its_inverse_is_one() {
        for prime in [127, 1021, 1_048_573] {
            for step in (1..prime).step_by(usize::try_from(prime / 97).expect("small")) {
                assert_eq!(times(step, inverse(step, prime), prime), 1, "{step} of {prime}");
            }
        }
    }
}
