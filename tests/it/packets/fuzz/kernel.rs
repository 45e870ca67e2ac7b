//! The loaded programs with their maps, written and read past the load balancer's own user half.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, TcpListener};
use std::path::PathBuf;

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuValues};
use lb_common::{
    BackendEntry, Be16, Be32, Endpoint, Endpoint4, FlowKey4, FlowKey6, FlowValue, FragmentKey4, FragmentKey6,
    FragmentValue, Ip, ListenPlace, NatKey4, NatKey6, NatParts6, NodeConfig, PeerEntry, RateBucket, Reason, SlotPair,
    TOO_BIG_BUCKETS, Tag, VipEntry, XDP_DROP_FIRST, XDP_REDIRECT_FIRST, XDP_TX_FIRST, flow_flags, fragment_ways,
};
use lb_userspace::{CookieCount, Lb, PacketRun};
use tests::pathmodel::{Flows, Key, Nat, PartKey, Store, Tables, Tuple};

use super::grammar::Way;
use crate::packets::lab::{Folder, config, enter};

/// Rooms for flows: more than a world has, so that nothing is thrown out.
const ROOMS: u32 = 65_536;

pub(in crate::packets) struct Kernel {
    pub(in crate::packets) lb: Lb,
    pub(in crate::packets) uplink: u32,
    /// The uplink's own link address.
    pub(in crate::packets) mac: [u8; 6],
    pub(in crate::packets) folder: Folder,
    node: Array<MapData, NodeConfig>,
    vips4: HashMap<MapData, Endpoint4, VipEntry>,
    vips6: HashMap<MapData, Endpoint, VipEntry>,
    endpoints: Array<MapData, Endpoint>,
    slots: Array<MapData, SlotPair>,
    backends: Array<MapData, BackendEntry>,
    shared: HashMap<MapData, u32, [u16; 8]>,
    tags: HashMap<MapData, Tag, u32>,
    peers: HashMap<MapData, Ip, PeerEntry>,
    flows4: [HashMap<MapData, FlowKey4, FlowValue>; 2],
    flows6: [HashMap<MapData, FlowKey6, FlowValue>; 2],
    parts4: HashMap<MapData, FragmentKey4, FragmentValue>,
    parts6: HashMap<MapData, FragmentKey6, FragmentValue>,
    own6: Array<MapData, Ip>,
    nat4: HashMap<MapData, NatKey4, FlowValue>,
    nat6: HashMap<MapData, NatKey6, FlowValue>,
    back4: HashMap<MapData, NatKey4, NatKey4>,
    back6: HashMap<MapData, NatKey6, NatKey6>,
    answers6: HashMap<MapData, FragmentKey6, NatParts6>,
    rates: PerCpuArray<MapData, RateBucket>,
    places: HashMap<MapData, u32, ListenPlace>,
    cookie_times: Array<MapData, u32>,
    counters: PerCpuArray<MapData, u64>,
    counts: BTreeMap<Reason, u64>,
    /// Runs so far.
    pub(in crate::packets) runs: u64,
    /// The reason of the last one.
    pub(in crate::packets) last: Option<Reason>,
}

pub(in crate::packets) fn open<T: TryFrom<Map>>(folder: &Folder, name: &str) -> T {
    let pin: PathBuf = folder.path().join("bpf/maps").join(name);
    let data = MapData::from_pin(&pin).unwrap_or_else(|error| panic!("{name}: {error}"));
    let map = Map::from_map_data(data).unwrap_or_else(|error| panic!("{name}: {error}"));
    T::try_from(map).unwrap_or_else(|_| panic!("{name} is of another kind"))
}

fn empty<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>) {
    let keys: Vec<K> = map.keys().map(|key| key.expect("a key")).collect();
    for key in keys {
        map.remove(&key).expect("it was there");
    }
}

/// The verdict of a reason, as the hook of that way says it.
pub(in crate::packets) fn action(way: Way, reason: Reason) -> u32 {
    match (way, reason.index()) {
        (Way::Out, _) if reason == Reason::RestoreFailed => 2,
        // "Go on with the next program" is -1.
        (Way::Out, _) => u32::MAX,
        (Way::In, n) if n < XDP_TX_FIRST => 2,
        (Way::In, n) if n < XDP_REDIRECT_FIRST => 3,
        (Way::In, n) if n < XDP_DROP_FIRST => 4,
        (Way::In, _) => 1,
    }
}

/// The port of a made-up backend.
pub(super) const FIRST_PORT: u16 = 31_000;
/// As many as backends that may listen.
pub(super) const LISTENERS: u16 = 64;

/// Listeners at all addresses and the ports of the first backends, which answer every SYN with a cookie.
pub(super) fn listeners() -> Vec<TcpListener> {
    set_cookies(2);
    let ports = (FIRST_PORT..).take(usize::from(LISTENERS));
    ports
        .map(|port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("a port that is free"))
        .collect()
}

/// The namespace's `tcp_syncookies`.
pub(in crate::packets) fn set_cookies(setting: u8) {
    std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", setting.to_string()).expect("the kernel makes cookies");
}

impl Kernel {
    pub(in crate::packets) fn new() -> Self {
        let folder = enter();
        let mut config = config(folder.path());
        (config.flows, config.flows6, config.half, config.half6) = (ROOMS, ROOMS, ROOMS, ROOMS);
        let (lb, _) = Lb::open(config).expect("the load balancer opens");
        let said = std::process::Command::new("ip")
            .args(["-o", "link", "show", "up0"])
            .output()
            .expect("ip");
        let said = String::from_utf8(said.stdout).expect("plain text");
        let text = said
            .split("link/ether ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .expect("a link address");
        let mut mac = [0; 6];
        for (byte, part) in mac.iter_mut().zip(text.split(':')) {
            *byte = u8::from_str_radix(part, 16).expect("hexadecimal");
        }
        Self {
            uplink: nix::net::if_::if_nametoindex("up0").expect("up0"),
            mac,
            node: open(&folder, "NODE"),
            vips4: open(&folder, "VIPS4"),
            vips6: open(&folder, "VIPS6"),
            endpoints: open(&folder, "VIP_ENDPOINTS"),
            slots: open(&folder, "SLOTS"),
            backends: open(&folder, "BACKENDS"),
            shared: open(&folder, "BACKEND_VIPS"),
            tags: open(&folder, "TAGS"),
            peers: open(&folder, "PEERS"),
            flows4: [open(&folder, "FLOWS4"), open(&folder, "HALF4")],
            flows6: [open(&folder, "FLOWS6"), open(&folder, "HALF6")],
            parts4: open(&folder, "FRAGMENTS4"),
            parts6: open(&folder, "FRAGMENTS6"),
            own6: open(&folder, "OWN6"),
            nat4: open(&folder, "NAT4"),
            nat6: open(&folder, "NAT6"),
            back4: open(&folder, "NAT4_BACK"),
            back6: open(&folder, "NAT6_BACK"),
            answers6: open(&folder, "NAT6_PARTS"),
            rates: open(&folder, "TOO_BIG_RATES"),
            places: open(&folder, "LISTEN_PLACES"),
            cookie_times: open(&folder, "COOKIE_TIMES"),
            counters: open(&folder, "COUNTERS"),
            counts: BTreeMap::new(),
            runs: 0,
            last: None,
            lb,
            folder,
        }
    }

    /// Makes the maps say exactly this, and forgets all flows.
    pub(in crate::packets) fn load(&mut self, tables: &Tables) {
        assert!(self.folder.path().exists());
        let done = "a map takes its own type";
        self.node.set(0, tables.node, 0).expect(done);
        self.own6.set(0, tables.own6, 0).expect(done);
        empty(&mut self.vips4);
        empty(&mut self.vips6);
        for ((family, endpoint), entry) in &tables.vips {
            if *family == 4 {
                let key = Endpoint4::new(endpoint.addr.0[3], endpoint.port, endpoint.protocol);
                self.vips4.insert(key, entry, 0).expect(done);
            } else {
                self.vips6.insert(endpoint, entry, 0).expect(done);
            }
        }
        for (id, endpoint) in &tables.endpoints {
            self.endpoints.set(*id, endpoint, 0).expect(done);
        }
        for (index, pair) in tables.slots.chunks(2).enumerate() {
            let pair = SlotPair([pair[0], *pair.get(1).unwrap_or(&0)]);
            self.slots
                .set(u32::try_from(index).expect("small"), pair, 0)
                .expect(done);
        }
        for index in 0..tables.backends.len() {
            self.set_backend(tables, index);
        }
        empty(&mut self.shared);
        for (index, ids) in &tables.backend_vips {
            self.shared.insert(index, ids, 0).expect(done);
        }
        empty(&mut self.tags);
        for (tag, index) in &tables.tags {
            self.tags.insert(tag, index, 0).expect(done);
        }
        empty(&mut self.peers);
        for peer in &tables.peers {
            self.peers.insert(peer, PeerEntry::default(), 0).expect(done);
        }
        self.flows4.iter_mut().for_each(empty);
        self.flows6.iter_mut().for_each(empty);
        empty(&mut self.parts4);
        empty(&mut self.parts6);
        empty(&mut self.nat4);
        empty(&mut self.nat6);
        empty(&mut self.back4);
        empty(&mut self.back6);
        empty(&mut self.answers6);
        empty(&mut self.places);
        for id in tables.endpoints.keys() {
            self.cookie_times.set(*id, 0, 0).expect(done);
        }
        // What the node's own stack sent is not counted against the model.
        self.counts = Reason::ALL.iter().map(|reason| (*reason, self.read(*reason))).collect();
    }

    pub(in crate::packets) fn set_node(&mut self, tables: &Tables) {
        self.node.set(0, tables.node, 0).expect("a node");
    }

    /// Where backends listen that may be asked for cookies: index and generation.
    pub(in crate::packets) fn set_places(&mut self, listens: &BTreeMap<u32, u32>) {
        for (index, generation) in listens {
            let place = ListenPlace {
                generation: *generation,
                namespace: ListenPlace::OWN,
            };
            self.places.insert(index, place, 0).expect("a place");
        }
    }

    /// Two slots that lie beside each other become these; flows are kept.
    pub(in crate::packets) fn set_slots(&mut self, pair: u32, slots: [u32; 2]) {
        self.slots.set(pair, SlotPair(slots), 0).expect("a pair of slots");
    }

    pub(in crate::packets) fn set_backend(&mut self, tables: &Tables, index: usize) {
        let entry = tables.backends[index];
        self.backends
            .set(u32::try_from(index).expect("small"), entry, 0)
            .expect("a backend");
    }

    /// Runs the program of one way; `None` for frames of which the kernel makes no packet.
    pub(in crate::packets) fn run(&mut self, way: Way, frame: &[u8]) -> Option<PacketRun> {
        let run = match way {
            Way::In => self.lb.run_xdp(frame, self.uplink, 1),
            Way::Out => self.lb.run_egress(frame),
        };
        let run = run.ok();
        assert!(
            run.is_some() || frame.len() < 54,
            "the kernel runs no frame of {} bytes",
            frame.len()
        );
        self.runs += u64::from(run.is_some());
        run
    }

    /// Cookies that came back and were right.
    pub(super) fn cookies_accepted(&self) -> u64 {
        let counts = self.lb.cookie_counts().expect("counts can be read");
        counts
            .into_iter()
            .find(|(of, _)| *of == CookieCount::Accepted)
            .expect("all are told")
            .1
    }

    fn read(&self, reason: Reason) -> u64 {
        self.counters.get(&reason.index(), 0).expect("a counter").iter().sum()
    }

    /// Nobody was told anything of late.
    pub(in crate::packets) fn forget_rates(&mut self) {
        let cpus = aya::util::nr_cpus().expect("a number of CPUs");
        for bucket in 0..TOO_BIG_BUCKETS {
            let unused = PerCpuValues::try_from(vec![RateBucket::default(); cpus]).expect("one for each CPU");
            self.rates.set(bucket, unused, 0).expect("a bucket");
        }
    }

    /// Whether the last run counted this reason, once.
    pub(in crate::packets) fn counted(&mut self, reason: Reason) -> Result<(), Vec<(Reason, u64)>> {
        let wanted = self.counts.get(&reason).copied().unwrap_or_default() + 1;
        if self.read(reason) == wanted {
            self.counts.insert(reason, wanted);
            self.last = Some(reason);
            return Ok(());
        }
        let others = Reason::ALL.iter().map(|reason| (*reason, self.read(*reason)));
        Err(others
            .filter(|(reason, n)| self.counts.get(reason) != Some(n))
            .collect())
    }

    /// All counters are what the model counted.
    pub(in crate::packets) fn same_counts(&self) {
        for reason in Reason::ALL {
            let wanted = self.counts.get(reason).copied().unwrap_or_default();
            assert_eq!(
                self.read(*reason),
                wanted,
                "{reason:?} was counted beside a packet's own reason"
            );
        }
    }

    /// A flow as the kernel has it, its time left out.
    pub(in crate::packets) fn flow(&self, store: Store, key: &Key) -> Option<FlowValue> {
        let at = usize::from(store == Store::Half);
        let found = if key.family == 4 {
            self.flows4[at].get(&key4(key), 0)
        } else {
            self.flows6[at].get(&key6(key), 0)
        };
        found.ok().map(|value| FlowValue { seen: 0, ..value })
    }

    /// Lets so many seconds pass for all flows.
    pub(in crate::packets) fn silence(&mut self, seconds: u32) {
        self.flows4.iter_mut().for_each(|flows| age(flows, seconds));
        self.flows6.iter_mut().for_each(|flows| age(flows, seconds));
    }

    /// Marks a flow as one whose ports may be another's by now, here and in the model.
    pub(super) fn doubt(&mut self, flows: &mut Flows, key: &Key) {
        let Some(flow) = flows.flows.get_mut(key) else { return };
        flow.flags |= flow_flags::DOUBTFUL;
        let seen = u32::try_from(lb_userspace::monotonic_seconds()).expect("not so old");
        let value = FlowValue { seen, ..*flow };
        let put = if key.family == 4 {
            self.flows4[0].insert(key4(key), value, 0)
        } else {
            self.flows6[0].insert(key6(key), value, 0)
        };
        put.expect("a flow");
    }

    /// First parts went where the model says, and no others are remembered.
    pub(in crate::packets) fn same_parts(&self, flows: &Flows, told: &str) {
        let four = self.parts4.iter().map(|entry| entry.expect("an entry"));
        let four = four
            .filter(|(key, _)| key.way != fragment_ways::TRANSLATED)
            .map(|(key, value)| (part4(&key), value));
        let six = self.parts6.iter().map(|entry| entry.expect("an entry"));
        let six = six.map(|(key, value)| (part6(&key), value));
        let found: BTreeMap<PartKey, FragmentValue> = four.chain(six).collect();
        assert_eq!(found, flows.parts, "{told}: parts of packets");
    }

    /// The translated flow that a packet belongs to.
    pub(super) fn translated(&self, tuple: &Tuple) -> Option<FlowValue> {
        let found = if tuple.family == 4 {
            self.nat4.get(&nat4(tuple), 0)
        } else {
            self.nat6.get(&nat6(tuple), 0)
        };
        found.ok()
    }

    /// Translated flows, their ports and the parts of their answers are the model's.
    pub(super) fn same_nat(&self, nat: &Nat, told: &str) {
        let four = self.nat4.iter().map(|entry| entry.expect("an entry"));
        let six = self.nat6.iter().map(|entry| entry.expect("an entry"));
        let four = four.map(|(key, value)| (tuple4(&key), value));
        let six = six.map(|(key, value)| (tuple6(&key), value));
        let found = four
            .chain(six)
            .map(|(key, value)| (key, FlowValue { seen: 0, ..value }));
        let found: BTreeMap<Tuple, FlowValue> = found.collect();
        assert_eq!(found, nat.flows, "{told}: translated flows");
        let four = self.back4.iter().map(|entry| entry.expect("an entry"));
        let six = self.back6.iter().map(|entry| entry.expect("an entry"));
        let four = four.map(|(key, flow)| (tuple4(&key), tuple4(&flow)));
        let six = six.map(|(key, flow)| (tuple6(&key), tuple6(&flow)));
        let found: BTreeMap<Tuple, Tuple> = four.chain(six).collect();
        assert_eq!(found, nat.back, "{told}: ports of translated flows");
        let four = self.parts4.iter().map(|entry| entry.expect("an entry"));
        let four = four.filter(|(key, _)| key.way == fragment_ways::TRANSLATED);
        let four = four.map(|(key, value)| {
            let addr = |raw| Ip::v4(Be32::from_raw(raw));
            (part4(&key), (addr(value.backend), addr(value.generation)))
        });
        let six = self.answers6.iter().map(|entry| entry.expect("an entry"));
        let six = six.map(|(key, value)| (part6(&key), (value.client, value.server)));
        let found: BTreeMap<PartKey, (Ip, Ip)> = four.chain(six).collect();
        assert_eq!(found, nat.parts, "{told}: parts of translated answers");
    }

    /// Not one flow more than the model has.
    pub(in crate::packets) fn same_flows(&self, flows: &Flows, told: &str) {
        for (at, wanted) in [&flows.flows, &flows.half].into_iter().enumerate() {
            let four = self.flows4[at]
                .keys()
                .map(|key| key.expect("a key"))
                .map(|key| (4, Ip::v4(key.client), key.port, key.vip));
            let six = self.flows6[at]
                .keys()
                .map(|key| key.expect("a key"))
                .map(|key| (6, key.client, key.port, key.vip));
            let mut found: Vec<(u8, Ip, Be16, u16)> = four.chain(six).collect();
            found.sort_unstable();
            let mut wanted: Vec<_> = wanted
                .keys()
                .map(|key| (key.family, key.client, key.port, key.vip))
                .collect();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "{told}: flows in table {at}");
        }
    }
}

fn part4(key: &FragmentKey4) -> PartKey {
    PartKey {
        family: 4,
        src: Ip::v4(key.src),
        dst: Ip::v4(key.dst),
        id: key.id.get().into(),
        protocol: key.protocol,
        answer: key.way == fragment_ways::ANSWER,
    }
}

fn part6(key: &FragmentKey6) -> PartKey {
    PartKey {
        family: 6,
        src: key.src,
        dst: key.dst,
        id: key.id.get(),
        protocol: 0,
        answer: key.way == u32::from(fragment_ways::ANSWER),
    }
}

fn nat4(tuple: &Tuple) -> NatKey4 {
    let end = |(addr, port): (Ip, Be16)| (addr.0[3], port);
    NatKey4::new(end(tuple.source), end(tuple.dest), tuple.protocol)
}

fn nat6(tuple: &Tuple) -> NatKey6 {
    NatKey6 {
        source: tuple.source.0,
        dest: tuple.dest.0,
        source_port: tuple.source.1,
        dest_port: tuple.dest.1,
        protocol: tuple.protocol.into(),
    }
}

fn tuple4(key: &NatKey4) -> Tuple {
    Tuple {
        family: 4,
        protocol: key.protocol,
        source: (Ip::v4(key.source), key.source_port),
        dest: (Ip::v4(key.dest), key.dest_port),
    }
}

fn tuple6(key: &NatKey6) -> Tuple {
    Tuple {
        family: 6,
        protocol: u8::try_from(key.protocol).expect("a protocol"),
        source: (key.source, key.source_port),
        dest: (key.dest, key.dest_port),
    }
}

fn key4(key: &Key) -> FlowKey4 {
    FlowKey4 {
        client: key.client.0[3],
        port: key.port,
        vip: key.vip,
    }
}

fn key6(key: &Key) -> FlowKey6 {
    FlowKey6 {
        client: key.client,
        port: key.port,
        vip: key.vip,
    }
}

fn age<K: Pod>(flows: &mut HashMap<MapData, K, FlowValue>, seconds: u32) {
    let all: Vec<(K, FlowValue)> = flows.iter().map(|entry| entry.expect("an entry")).collect();
    for (key, mut flow) in all {
        flow.seen -= seconds;
        flows.insert(key, flow, 0).expect("a flow");
    }
}
