//! Addresses that this node needs for itself: no network of tasks may have them.

use std::fs;
use std::net::Ipv4Addr;

use model::Ipv4Net;
use scheduler::TakenNet;

use super::config::Settings;

/// The main routing table as the kernel writes it, for the namespace of this process.
const ROUTES: &str = "/proc/self/net/route";

/// Most routes that are told: a router with all of the Internet's would fill a message, and its first ones do not overlap
/// less than its last.
const MOST: usize = 4096;

/// Of links that lead to tasks and to other nodes, whose routes are networks of tasks themselves.
const OWN_LINKS: [&str; 2] = ["vtep", "rv"];

/// What the settings and the kernel's routes say.
pub(super) fn taken(settings: &Settings) -> Vec<TakenNet> {
    let routes = fs::read_to_string(ROUTES).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read {ROUTES}: the master is not told this node's routes");
        String::new()
    });
    let by = "the range of virtual addresses".to_owned();
    let vips = TakenNet {
        net: settings.vip_net,
        by,
    };
    std::iter::once(vips).chain(routes_of(&routes)).collect()
}

fn routes_of(text: &str) -> impl Iterator<Item = TakenNet> {
    text.lines().skip(1).filter_map(route).take(MOST)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask ...`; addresses as the CPU's numbers in hexadecimal. A route
/// that refuses has `*` for its link.
fn route(line: &str) -> Option<TakenNet> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (link, to, mask) = (*fields.first()?, fields.get(1)?, fields.get(7)?);
    if link == "*" || OWN_LINKS.iter().any(|own| link.starts_with(own)) {
        return None;
    }
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(|raw| u32::from_be(raw.to_le()));
    let prefix = u8::try_from(number(mask)?.leading_ones())
        .ok()
        .filter(|prefix| *prefix > 0)?;
    let net = Ipv4Net::new(Ipv4Addr::from(number(to)?), prefix).ok()?;
    let by = format!("a route by {link}");
    Some(TakenNet { net, by })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_lead_somewhere_are_told() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100630A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0000630A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            vtep1024\t00020009\t03008044\t0007\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            rv12345678\t02010009\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n\
            *\t0000000B\t00000000\t0200\t0\t0\t1381105664\t000000FF\t0\t0\t0\n";
        let told: Vec<(String, String)> = routes_of(text).map(|one| (one.net.to_string(), one.by)).collect();
        assert_eq!(told, [("10.99.0.0/24".to_owned(), "a route by eth0".to_owned())]);
    }
}
