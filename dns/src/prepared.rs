//! Answers made in advance, for a place before the server's sockets that gives them; each is to the byte what the server says.

use hickory_proto::rr::{Name, RecordType};
use ipnet::{IpNet, Ipv4Net};

use crate::answer::answer;
use crate::config::PLAIN_UDP;
use crate::counters::Kind;
use crate::template::{Template, wire_name};
use crate::zones::Found;
use crate::{Config, Lookup, Zones};

/// Types that names have answers of in advance: programs ask for both kinds of addresses, whatever there is.
const KINDS: [RecordType; 3] = [RecordType::A, RecordType::AAAA, RecordType::SRV];

/// The answer to one question of class IN, the same for every client that asks without a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The name in wire form with the root label, lower case.
    pub name: Vec<u8>,
    /// The type asked for.
    pub kind: u16,
    /// Records in the answer, authority and additional sections, without the OPT record.
    pub counts: [u16; 3],
    /// What follows the question, without the OPT record.
    pub body: Vec<u8>,
    /// Where in it the zones' serial stands, if it does.
    pub serial_at: Option<usize>,
}

impl Zones {
    /// Answers about a name (lower case, no final dot) that need nobody to choose: those of one record, whose order no turn
    /// changes, and those that say that there is none of this type. All fit a client that tells no size.
    pub fn prepared(&self, name: &str) -> Vec<Prepared> {
        let Lookup::Name(found) = self.lookup(name) else {
            return Vec::new();
        };
        let Some(asked) = plain(name).filter(|_| has_records(&found)) else {
            return Vec::new();
        };
        let kinds = KINDS
            .into_iter()
            .filter(|kind| *kind != RecordType::SRV || !found.srvs.is_empty());
        kinds.filter_map(|kind| self.one(&asked, kind)).collect()
    }

    fn one(&self, name: &Name, kind: RecordType) -> Option<Prepared> {
        let answer = answer(self, name, kind, 0)?;
        let template = Template::new(name, &answer)?;
        let (counts, body) = template.unturned()?;
        if template.bound > usize::from(PLAIN_UDP) {
            return None;
        }
        // The SOA is the only record then, and its last five numbers are the serial and four times.
        let serial_at = (template.kind == Kind::NoData)
            .then(|| body.len().checked_sub(20))
            .flatten();
        Some(Prepared {
            name: wire_name(name),
            kind: kind.into(),
            counts,
            body: body.to_vec(),
            serial_at,
        })
    }

    /// The serial that answers bear now.
    pub fn serial(&self) -> u32 {
        crate::answer::serial(self)
    }
}

/// Questions that [`Zones::prepared`] may have an answer to, of a name in text: its wire form, and the types.
pub fn questions(name: &str) -> Option<(Vec<u8>, [u16; 3])> {
    Some((wire_name(&plain(name)?), KINDS.map(u16::from)))
}

fn has_records(found: &Found<'_>) -> bool {
    found.cname.is_none() && !(found.addrs.is_empty() && found.srvs.is_empty())
}

/// Names of letters, digits and the like: others are spelled in more than one way.
fn plain(name: &str) -> Option<Name> {
    let usual = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(usual) {
        return None;
    }
    let mut name = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

impl Config {
    /// Networks whose questions by UDP are answered without a limit and without a look at any list; what overlaps with a
    /// denied one is left out whole.
    pub fn unlimited(&self) -> Vec<Ipv4Net> {
        if self.client_rate != 0 {
            return Vec::new();
        }
        let four = |net: &IpNet| match net {
            IpNet::V4(net) => Some(net.trunc()),
            IpNet::V6(_) => None,
        };
        let denied: Vec<Ipv4Net> = self.deny.iter().filter_map(four).collect();
        let free = |net: &Ipv4Net| {
            let apart = |other: &Ipv4Net| !other.contains(net) && !net.contains(other);
            denied.iter().all(apart)
        };
        // This node itself can't be locked out.
        let itself = Ipv4Net::new_assert([127, 0, 0, 0].into(), 8);
        let mut all = vec![itself];
        for net in self.clients.iter().filter_map(four).filter(free) {
            if !all.iter().any(|other| other.contains(&net)) {
                all.push(net);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::fast::{Fast, Step};
    use crate::fixture::{cluster, question, view, web};
    use crate::handler::Shared;

    fn zones(config: &Config) -> Zones {
        let mut tasks: Vec<_> = (0..3_u8)
            .map(|i| {
                web(
                    &format!("t{i}"),
                    usize::from(i),
                    Ipv4Addr::new(9, 0, i, i),
                    31000 + u16::from(i),
                )
            })
            .collect();
        tasks.push(web("one", 0, Ipv4Addr::new(9, 0, 0, 99), 31999));
        tasks.last_mut().expect("there").name = "single".to_owned();
        crate::desired(&cluster(tasks), &view(), config)
    }

    #[test]
    fn each_is_what_the_server_says() {
        let config = Config {
            records: vec!["short.mesos CNAME single.marathon.mesos".parse().expect("a record")],
            ..Config::default()
        };
        let zones = zones(&config);
        let shared = Arc::new(Shared::new(config).expect("no system state involved"));
        shared.zones.store(Arc::new(zones.clone()));
        let mut fast = Fast::new(shared);
        let (mut records, mut none, mut services) = (0, 0, 0);
        let names: Vec<String> = zones.iter().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            for prepared in zones.prepared(&name) {
                let bytes = question(&format!("{name}."), prepared.kind.into(), None)
                    .to_vec()
                    .expect("encodes");
                let mut out = Vec::new();
                let step = fast.step(&bytes, Ipv4Addr::LOCALHOST.into(), 0, &mut out);
                assert_eq!(step, Step::Answered, "{name}");
                assert_eq!(out[bytes.len()..], prepared.body, "{name} {}", prepared.kind);
                for (at, count) in prepared.counts.iter().enumerate() {
                    assert_eq!(out[6 + 2 * at..8 + 2 * at], count.to_be_bytes());
                }
                assert_eq!(bytes[12..12 + prepared.name.len()], prepared.name);
                let serial = prepared.serial_at.map(|at| prepared.body[at..at + 4].to_vec());
                match prepared.counts[0] {
                    0 => assert_eq!(serial.expect("a SOA"), zones.serial().to_be_bytes()),
                    count => assert_eq!((count, serial), (1, None)),
                }
                records += usize::from(prepared.counts[0] == 1);
                none += usize::from(prepared.counts[0] == 0);
                services += usize::from(prepared.kind == 33);
            }
        }
        assert!(records > 10 && none > 10 && services > 2, "{records} {none} {services}");
        assert!(zones.prepared("short.mesos").is_empty(), "an alias");
        assert!(zones.prepared("nobody.mesos").is_empty());
        assert!(
            zones
                .prepared("marathon.mesos")
                .iter()
                .all(|prepared| prepared.counts[0] == 1 || prepared.kind != 1)
        );
        let several = zones.prepared("my-service.marathon.mesos");
        let kinds: Vec<u16> = several.iter().map(|prepared| prepared.kind).collect();
        assert_eq!(kinds, [28], "three addresses take turns");
        assert_eq!(
            questions("a.mesos"),
            Some((b"\x01a\x05mesos\x00".to_vec(), [1, 28, 33]))
        );
        assert_eq!(questions("a b.mesos"), None);
    }

    #[test]
    fn only_clients_that_nothing_holds_up_are_told() {
        let nets = |list: &[&str]| -> Vec<IpNet> { list.iter().map(|net| net.parse().expect("valid")).collect() };
        let mut config = Config {
            clients: nets(&["10.0.0.7/32", "9.0.0.0/8", "198.51.100.1/32", "9.1.0.0/16", "fd00::/8"]),
            ..Config::default()
        };
        let told = |config: &Config| config.unlimited().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            told(&config),
            ["127.0.0.0/8", "10.0.0.7/32", "9.0.0.0/8", "198.51.100.1/32"]
        );
        config.deny = nets(&["9.9.0.0/16", "10.0.0.0/16", "127.0.0.0/8"]);
        assert_eq!(told(&config), ["127.0.0.0/8", "198.51.100.1/32", "9.1.0.0/16"]);
        config.client_rate = 1000;
        assert!(told(&config).is_empty());
    }
}
