//! A name server in a network namespace with some names of each kind, and the program before it on `lo`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{SystemTime, UNIX_EPOCH};

use dns::{Config, OwnRecord, Server, Zones};
use lb_userspace::PacketRun;
use lb_userspace::names::{Answers, Count, NameMap, Settings, apply, entry, plan};
use model::{Generation, NodeView, Snapshot};
use tokio::runtime::Runtime;

use super::PAYLOAD;
use super::ask::says;
use crate::packets::frame::{addr, checksum, ethernet, ipv4, port};
use crate::packets::lab::{Folder, enter, ip};

pub(super) const SERVER: ([u8; 4], u16) = ([198, 51, 100, 1], 53);
/// An address of the same server that the program does not look for.
pub(super) const BESIDE: ([u8; 4], u16) = ([198, 51, 100, 9], 53);
const CLIENT: ([u8; 4], u16) = ([198, 51, 100, 1], 40_000);

/// Names with an answer to each type.
pub(super) const NAMES: [&str; 5] = [
    "one.mesos",
    "a-long-name-that-still-has-its-place.with.some.labels.mesos",
    "_web._tcp.one.mesos",
    "v6.mesos",
    "ready.spartan",
];

/// An OPT record without options.
pub(super) const PLAIN: Option<&[u8]> = Some(&[]);

pub(super) struct Lab {
    pub(super) map: NameMap,
    _server: Server,
    _runtime: Runtime,
    _folder: Folder,
}

fn records() -> Vec<OwnRecord> {
    let many = "x.".repeat(30);
    let texts = [
        "one.mesos A 9.0.0.1".to_owned(),
        "a-long-name-that-still-has-its-place.with.some.labels.mesos A 9.0.0.7".to_owned(),
        "two.mesos A 9.0.0.1".to_owned(),
        "two.mesos A 9.0.0.2".to_owned(),
        "v6.mesos AAAA fd00::2".to_owned(),
        "_web._tcp.one.mesos SRV 80 one.mesos".to_owned(),
        "alias.mesos CNAME one.mesos".to_owned(),
        format!("{many}mesos A 9.0.0.3"),
        format!("{}.{}.mesos A 9.0.0.4", "l".repeat(50), "m".repeat(50)),
    ];
    texts.iter().map(|text| text.parse().expect("a record")).collect()
}

impl Lab {
    pub(super) fn new() -> Self {
        let folder = enter();
        ip("link set lo up");
        ip("addr add 198.51.100.1/32 dev lo");
        ip("addr add 198.51.100.9/32 dev lo");
        let net = |text: &str| text.parse().expect("a network");
        let config = Config {
            records: records(),
            listen: vec![SERVER.into(), BESIDE.into()],
            clients: vec![net("198.51.100.0/28"), net("9.1.0.0/16"), net("9.9.0.0/16")],
            deny: vec![net("9.9.2.0/24")],
            // Never asked: the flag that says so is part of each answer.
            upstreams: vec![SocketAddr::from(([198, 51, 100, 2], 53))],
            ..Config::default()
        };
        let view = NodeView {
            ip: Ipv4Addr::new(10, 0, 0, 1),
            agent: None,
        };
        // All of its bytes are in the serial, which no answer in the map has.
        let snapshot = Snapshot {
            generation: Generation(0x0102_0304),
            ..Snapshot::default()
        };
        let zones = dns::desired(&snapshot, &view, &config);
        // Its threads are in this thread's namespace.
        let runtime = Runtime::new().expect("a runtime");
        let server = runtime.block_on(Server::bind(config.clone())).expect("binds");
        server.publish(zones.clone());
        let clients = config.unlimited();
        let settings = Settings {
            bpffs: folder.path().join("bpf"),
            interfaces: vec!["lo".to_owned()],
            servers: server.local_addrs().iter().filter_map(four).take(1).collect(),
            clients: clients
                .iter()
                .map(|net| model::Ipv4Net::new(net.network(), net.prefix_len()).expect("valid"))
                .collect(),
            recursion: server.recurses(),
            max_payload: config.max_udp_payload,
        };
        let mut map = NameMap::open(settings).expect("opens");
        let wanted = wanted(&zones);
        let found = map.observe().expect("can be read");
        let report = apply(&mut map, &plan(&wanted, &found));
        assert!(
            report.failed.is_none() && report.no_room == 0 && report.done > 10,
            "{report:?}"
        );
        map.set_serial(zones.serial()).expect("written");
        let there = map.observe().expect("can be read");
        assert_eq!(there, wanted, "a second plan is empty");
        let mut lab = Self {
            map,
            _server: server,
            _runtime: runtime,
            _folder: folder,
        };
        lab.speak();
        lab
    }

    /// As if the program were not there.
    pub(super) fn quiet(&mut self) {
        self.map.answer_until(0).expect("written");
    }

    pub(super) fn speak(&mut self) {
        self.map.answer_until(u32::MAX).expect("written");
    }

    pub(super) fn settings(&self) -> Settings {
        self.map.settings().clone()
    }

    pub(super) fn run(&self, frame: &[u8]) -> PacketRun {
        self.map.run(frame, 1).expect("the kernel runs the frame")
    }

    pub(super) fn count(&self, of: &[Count]) -> u64 {
        let counts = self.map.counts().expect("can be read");
        counts
            .iter()
            .filter(|(what, _)| of.contains(what))
            .map(|(_, n)| n)
            .sum()
    }

    /// A frame that went back holds what the server itself says to the question, in a packet with its addresses turned.
    pub(super) fn same_as_server(&self, asked: &[u8], frame: &[u8]) {
        assert_eq!((&frame[..6], &frame[6..12]), (&asked[6..12], &asked[..6]));
        // Of the usual form: no service, no number, not to be cut, 64 hops, and no sum of the payload.
        assert_eq!(
            (&frame[14..16], &frame[18..24]),
            (&[0x45, 0][..], &[0, 0, 0x40, 0, 64, 17][..])
        );
        assert_eq!(port(frame, 40), 0, "a sum that is not true");
        assert_eq!(checksum(&frame[14..34]), 0, "the sum of the header");
        assert_eq!((addr(frame, 26), addr(frame, 30)), (addr(asked, 30), addr(asked, 26)));
        assert_eq!((port(frame, 34), port(frame, 36)), (port(asked, 36), port(asked, 34)));
        assert_eq!(usize::from(port(frame, 16)), frame.len() - 14);
        assert_eq!(usize::from(port(frame, 38)), frame.len() - 34);
        assert_eq!(Some(&frame[PAYLOAD..]), says(BESIDE, &asked[PAYLOAD..]).as_deref());
    }
}

fn four(addr: &SocketAddr) -> Option<SocketAddrV4> {
    match addr {
        SocketAddr::V4(addr) => Some(*addr),
        SocketAddr::V6(_) => None,
    }
}

/// All answers in advance that have their place.
fn wanted(zones: &Zones) -> Answers {
    let names: Vec<&str> = zones.iter().map(|(name, _)| name).collect();
    let all = names.into_iter().flat_map(|name| zones.prepared(name));
    all.filter_map(|one| entry(&one.name, one.kind, one.counts, &one.body, one.serial_at))
        .collect()
}

/// A question of class IN; with the options of an OPT record, or without one.
pub(super) fn message(name: &str, kind: u16, options: Option<&[u8]>) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(options.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).expect("short"));
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    if let Some(options) = options {
        out.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
        out.extend(u16::try_from(options.len()).expect("short").to_be_bytes());
        out.extend(options);
    }
    out
}

/// The packet with which a program of this node asks.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    frame_from(CLIENT.0, SERVER, message)
}

pub(super) fn frame_from(client: [u8; 4], server: ([u8; 4], u16), message: &[u8]) -> Vec<u8> {
    let mut udp = Vec::new();
    udp.extend(CLIENT.1.to_be_bytes());
    udp.extend(server.1.to_be_bytes());
    udp.extend(u16::try_from(message.len() + 8).expect("short").to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(message);
    ethernet(&ipv4(client.into(), server.0.into(), 17, 0x4000, &[], &udp))
}

/// A seed, printed by whoever uses it, and the state it gives.
pub(super) fn seed() -> (u64, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let told = std::env::var("REVERE_FUZZ_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = told.unwrap_or_else(|| u64::from(now.subsec_nanos()) | 1);
    (seed, seed)
}

/// A number below `sides`.
pub(super) fn roll(state: &mut u64, sides: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state % u64::try_from(sides).expect("small")).expect("small")
}
