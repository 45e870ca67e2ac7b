//! Host ports for one instance.

use std::collections::BTreeSet;

use crate::core::node::Node;
use crate::core::random::Random;

/// Guesses at a free port before all free ones are gathered. An agent offers a thousand and rarely uses half of them.
const GUESSES: usize = 8;

/// Ports of an agent chosen beforehand, if it has them.
pub(crate) fn ports_for(node: &Node, wishes: &[u16], random: &mut Random) -> Option<Vec<u16>> {
    ports_suffice(node, wishes).then(|| choose_ports(node, wishes, random))
}

pub(super) fn ports_suffice(node: &Node, wishes: &[u16]) -> bool {
    wishes
        .iter()
        .filter(|port| **port != 0)
        .all(|port| node.port_is_free(*port))
        && node.free_ports().take(wishes.len()).count() == wishes.len()
}

/// Exact ports as they are; any port by chance, so that a port just left is not taken again at once.
pub(super) fn choose_ports(node: &Node, wishes: &[u16], random: &mut Random) -> Vec<u16> {
    let mut given: BTreeSet<u16> = wishes.iter().copied().filter(|port| *port != 0).collect();
    let mut chosen = Vec::new();
    for wish in wishes {
        if *wish != 0 {
            chosen.push(*wish);
        } else if let Some(port) = any_port(node, &given, random) {
            given.insert(port);
            chosen.push(port);
        }
    }
    chosen
}

fn any_port(node: &Node, given: &BTreeSet<u16>, random: &mut Random) -> Option<u16> {
    let ranges = &node.record.ports;
    for _ in 0..GUESSES {
        let range = usize::try_from(random.below(u64::try_from(ranges.len()).ok()?)).ok()?;
        let (low, high) = *ranges.get(range)?;
        let width = u64::from(high.saturating_sub(low)) + 1;
        let port = low.saturating_add(u16::try_from(random.below(width)).ok()?);
        if !given.contains(&port) && node.port_is_free(port) {
            return Some(port);
        }
    }
    let free: Vec<u16> = node.free_ports().filter(|port| !given.contains(port)).collect();
    let length = u64::try_from(free.len()).unwrap_or(u64::MAX);
    free.get(usize::try_from(random.below(length)).unwrap_or(0)).copied()
}
