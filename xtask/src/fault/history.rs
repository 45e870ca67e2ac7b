//! What clients of all masters saw while leaders were killed and stopped, and whether one order explains it (S2).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::Finding;
use super::bench::{Bench, nodes, rest};
use super::masters::{TAKEN_OVER, count_of};
use crate::figures::Figure;
use crate::history::{Act, NEVER, Operation, linearizable};
use crate::lab::writes::{self, GROUP};
use crate::lab::{Cluster, Place, net, wait_for};

/// Apps that are written and read, each a register of its own: its label `value`.
const KEYS: u64 = 3;

/// How long a leader is stopped: longer than its lease.
const STOPPED: Duration = Duration::from_secs(5);

/// What all clients saw, by key.
type Histories = Arc<Vec<Mutex<Vec<Operation>>>>;

/// One client of one master.
#[derive(Clone, Debug)]
struct Client {
    place: Place,
    number: u8,
    began: Instant,
    histories: Histories,
    /// Told to nobody twice.
    values: Arc<AtomicU64>,
    seed: u64,
}

/// Clients at work.
#[derive(Debug)]
struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    histories: Histories,
}

/// S2: with each fault a history of its own.
pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let (rounds, each) = if bench.short { (2_u64, 8) } else { (40, 12) };
    let each = Duration::from_secs(each);
    let mut found = Finding::default();
    let (control, quiet) = judge(record(bench, each.min(Duration::from_secs(6)), |_| Ok(()))?)?;
    let (mut operations, mut violations) = (0, Vec::new());
    for round in 0..rounds {
        let histories = record(bench, each, |bench| match round % 2 {
            0 => killed(bench),
            _ => stopped(bench),
        })?;
        let (count, found) = judge(histories)?;
        eprintln!("history {}: {count} operations, {found:?}", round + 1);
        operations += count;
        violations.extend(found);
    }
    found.check(quiet.is_empty(), || format!("the control: {quiet:?}"));
    found.check(control > 0 && operations > 0, || {
        "nothing was read or written".to_owned()
    });
    found.check(violations.is_empty(), || format!("{violations:?}"));
    found.figures = vec![Figure::failures(
        "S2",
        count_of(violations.len()),
        operations,
        count_of(quiet.len()),
    )];
    Ok(found)
}

/// What clients saw in so long a time with a fault in its midst.
fn record(bench: &mut Bench, each: Duration, fault: impl FnOnce(&mut Bench) -> Result<()>) -> Result<Histories> {
    let via = bench.cluster.leader()?;
    for key in 0..KEYS {
        let made = writes::create(bench.cluster.node(via), via, &name(key))?;
        ensure!(made == 201, "the app that is to be written was answered {made}");
    }
    let clients = Clients::start(&bench.cluster);
    let began = Instant::now();
    rest(each / 4);
    let done = fault(bench);
    rest(each.saturating_sub(began.elapsed()));
    let histories = clients.finish();
    done?;
    writes::forget(&bench.cluster, via)?;
    Ok(histories)
}

/// How many operations there were, and what no order explains.
fn judge(histories: Histories) -> Result<(u64, Vec<String>)> {
    let (mut count, mut violations) = (0, Vec::new());
    for (key, history) in histories.iter().enumerate() {
        let history = history.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(!history.is_empty(), "nobody got an answer about key {key}");
        count += count_of(history.len());
        if let Err(stuck) = linearizable(&history) {
            violations.push(format!("key {key}: {stuck:?} fits into no order"));
            let near = history
                .iter()
                .filter(|one| one.to.saturating_add(2_000_000) > stuck.from);
            let near: Vec<_> = near.filter(|one| one.from < stuck.to).collect();
            eprintln!("around it: {near:?}");
        }
    }
    Ok((count, violations))
}

fn killed(bench: &mut Bench) -> Result<()> {
    let leader = bench.cluster.leader()?;
    bench.cluster.kill_master_of_many(leader)?;
    let next = wait_for(TAKEN_OVER, || {
        bench.cluster.leader().ok().filter(|next| *next != leader)
    });
    next.context("nobody leads any more")?;
    bench.cluster.start_master_of_many(leader)
}

fn stopped(bench: &mut Bench) -> Result<()> {
    let leader = bench.cluster.leader()?;
    bench.cluster.signal_master(leader, Signal::STOP)?;
    rest(STOPPED);
    bench.cluster.signal_master(leader, Signal::CONT)
}

fn name(key: u64) -> String {
    format!("key-{key}")
}

impl Clients {
    /// A writer and a reader at each master.
    fn start(cluster: &Cluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let histories: Histories = Arc::new((0..KEYS).map(|_| Mutex::default()).collect());
        let values = Arc::new(AtomicU64::new(1));
        let began = Instant::now();
        let clients = nodes().flat_map(|number| [(number, true), (number, false)]);
        let threads = clients.map(|(number, writes)| {
            let client = Client {
                place: cluster.node(number).clone(),
                number,
                began,
                histories: Arc::clone(&histories),
                values: Arc::clone(&values),
                seed: u64::from(number) << 1 | u64::from(writes),
            };
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || client.run(writes, &stop))
        });
        Self {
            threads: threads.collect(),
            stop,
            histories,
        }
    }

    fn finish(self) -> Histories {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            let _ = thread.join();
        }
        self.histories
    }
}

impl Client {
    fn run(mut self, writes: bool, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            self.seed = self
                .seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let key = (self.seed >> 33) % KEYS;
            let from = self.now();
            let done = if writes {
                self.write(key, from)
            } else {
                self.read(key, from, self.seed >> 63 == 0)
            };
            if let (Some(one), Some(history)) =
                (done, usize::try_from(key).ok().and_then(|key| self.histories.get(key)))
            {
                history.lock().unwrap_or_else(PoisonError::into_inner).push(one);
            }
        }
    }

    /// Microseconds.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(NEVER - 1)
    }

    /// Nothing if it is sure that nothing was written.
    fn write(&self, key: u64, from: u64) -> Option<Operation> {
        let value = self.values.fetch_add(1, Ordering::Relaxed);
        let body = json!({"labels": {"value": value.to_string()}}).to_string();
        let head = format!("PUT /v2/apps/{GROUP}/{}?force=true", name(key));
        let said = net::http(&self.place, Cluster::master_at(self.number), &head, &body);
        let to = match said {
            Ok((200 | 201, _)) => self.now(),
            Ok((503, body)) if body.contains("nothing was changed") || body.contains("No leader elected") => {
                return None;
            }
            _ => NEVER,
        };
        let act = Act::Write(value);
        Some(Operation { from, to, act })
    }

    /// Of the leader, or of the master asked: then it may be as old as it says.
    fn read(&self, key: u64, from: u64, own: bool) -> Option<Operation> {
        let head = match own {
            true => "GET /v2/apps".to_owned(),
            false => format!("GET /v2/apps/{GROUP}/{}", name(key)),
        };
        let said = net::http_with_head(&self.place, Cluster::master_at(self.number), &head, "");
        let (status, head, body) = said.ok().filter(|(status, _, _)| matches!(status, 200 | 404))?;
        let to = self.now();
        let stale = head.lines().find_map(|line| line.strip_prefix("x-revere-stale-ms:"));
        let stale = stale.map_or(Some(0), |text| {
            text.trim().parse::<u64>().ok().map(|ms| (ms + 1) * 1_000)
        })?;
        Some(Operation {
            from: from.saturating_sub(stale),
            to,
            act: Act::Read(match status {
                200 => value_in(&body, key)?,
                _ => None,
            }),
        })
    }
}

/// The register's value in what a master answered, which is none where the app is not told of; nothing if it is no answer.
fn value_in(body: &str, key: u64) -> Option<Option<u64>> {
    // A chunked body has its lengths around the JSON.
    let json: String = body.split("\r\n").filter(|line| line.len() > 10).collect();
    let said = serde_json::from_str::<Value>(&json).ok()?;
    let id = format!("/{GROUP}/{}", name(key));
    let apps = match (&said["apps"], &said["app"]) {
        (Value::Array(apps), _) => apps.as_slice(),
        (_, app @ Value::Object(_)) => std::slice::from_ref(app),
        _ => return None,
    };
    let app = apps.iter().find(|app| app["id"] == id.as_str());
    Some(app.and_then(|app| app["labels"]["value"].as_str()?.parse().ok()))
}
