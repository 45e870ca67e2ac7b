//! ICMP errors, mostly about packets of flows that there are.

use lb_common::{Be16, Ip};
use tests::pathmodel::Model;

use super::{End, any_vip, client, network, transport};
use crate::packets::fuzz::chance::Chance;

/// A packet that somebody is told of: family, protocol, who sent it to whom.
type Quoted = (u8, u8, End, End);

/// From somewhere on the way, or from the host that the quoted packet was for.
pub(super) fn error(chance: &mut Chance, model: &Model) -> Vec<u8> {
    let (family, protocol, from, to) = quoted(chance, model);
    let (icmp, kinds): (u8, &[u8]) = if family == 4 {
        (1, &[3, 3, 3, 11, 12, 8, 5])
    } else {
        (58, &[1, 2, 2, 3, 4, 128, 129])
    };
    let mut body = vec![chance.pick(kinds), 4, chance.byte(), chance.byte(), 0, 0, 5, 120];
    let inner = transport(chance, protocol, from.1, to.1, true);
    let quote = network(chance, family, (from.0, to.0), protocol, &inner);
    // Without the type of the frame, and not all of it.
    let len = (quote.len() - 2).min(28 + chance.up_to(60));
    body.extend(&quote[2..2 + len]);
    let router: std::net::IpAddr = if family == 4 {
        [203, 0, 113, 1].into()
    } else {
        [0x2001_u16, 0xdb8, 1, 0, 0, 0, 0, 1].into()
    };
    let teller = if chance.percent(70) { Ip::from(router) } else { to.0 };
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 8];
    out.extend(network(chance, family, (teller, from.0), icmp, &body));
    out
}

fn quoted(chance: &mut Chance, model: &Model) -> Quoted {
    let end = |(addr, port): (Ip, Be16)| End(addr, port.get());
    let back = &model.nat.back;
    if chance.percent(25)
        && let Some(tuple) = back.keys().nth(chance.up_to(back.len()))
    {
        // What this node sent to a backend.
        return (tuple.family, tuple.protocol, end(tuple.dest), end(tuple.source));
    }
    let translated = &model.nat.flows;
    if chance.percent(25)
        && let Some(tuple) = translated.keys().nth(chance.up_to(translated.len()))
    {
        // What its client got.
        return (tuple.family, tuple.protocol, end(tuple.dest), end(tuple.source));
    }
    let flows = if chance.percent(50) {
        &model.flows.flows
    } else {
        &model.flows.half
    };
    if chance.percent(80)
        && let Some(key) = flows.keys().nth(chance.up_to(flows.len()))
        && let Some(vip) = model.tables.endpoints.get(&u32::from(key.vip))
    {
        let vip_end = (vip.addr, vip.port);
        return (key.family, vip.protocol, end(vip_end), End(key.client, key.port.get()));
    }
    let (family, vip) = any_vip(chance, &model.tables);
    let to = client(chance, family);
    (family, vip.protocol, end((vip.addr, vip.port)), to)
}
