//! D8 and D9: what forged replies and upstream servers that are dead, slow or lying do to a node's name server.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::asker::{Answer, Asker};
use super::{Outcome, spoof};
use crate::figures::{Figure, count};
use crate::lab::upstream::{Conduct, HONEST, LIE, Upstream};
use crate::lab::{Cluster, Place};

/// Name servers of the outside; each is a machine of its own on the fabric.
const ADDRS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(10, 99, 0, 151),
    Ipv4Addr::new(10, 99, 0, 152),
    Ipv4Addr::new(10, 99, 0, 153),
];
/// The forger's machine.
const FORGER: &str = "10.99.0.160";
/// A name of the cluster.
const LOCAL: &str = "leader.mesos";
/// Questions about the cluster's own names, with and without trouble.
const LOCALS: usize = 2000;
/// Outside names asked about during trouble.
const OUTSIDE: usize = 40;

/// The lab with its servers.
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) forger: Place,
    pub(super) asker: Asker,
    _places: Vec<Place>,
}

pub(super) fn run(revere: &Path) -> Result<Outcome> {
    let scene = Scene::new(revere)?;
    let mut outcome = Outcome::default();
    let all = [
        ("spoof", spoof::run as fn(&Scene, &mut Outcome) -> Result<()>),
        ("hanging", hanging),
        ("retry", retry),
        ("lying", lying),
        ("slow", slow),
    ];
    for (name, part) in all {
        eprintln!("==== {name}");
        scene.behave(Conduct::Answers(Duration::ZERO));
        part(&scene, &mut outcome).with_context(|| format!("{name}\n{}", scene.cluster.node(1).picture()))?;
    }
    scene.cluster.lab.close()?;
    Ok(outcome)
}

impl Scene {
    fn new(revere: &Path) -> Result<Self> {
        let [first, second, third] = ADDRS;
        let settings = vec![
            format!("node.dns_upstreams={first},{second}"),
            format!(
                "node.dns_forward.zones={{\"one.test\" = [\"{first}\"], \"three.test\" = [\"{first}\", \"{second}\", \"{third}\"]}}"
            ),
        ];
        let cluster = Cluster::start_with(revere, &settings)?;
        let mut places = Vec::new();
        let mut upstreams = Vec::new();
        for (addr, number) in ADDRS.into_iter().zip(1..) {
            let place = cluster.lab.join(&format!("upstream{number}"), &addr.to_string())?;
            upstreams.push(Upstream::start(&place, addr, 0, Conduct::Answers(Duration::ZERO))?);
            places.push(place);
        }
        let forger = cluster.lab.join("forger", FORGER)?;
        let asker = Asker::new(cluster.node(1), "10.99.0.1:53".parse()?);
        let scene = Self {
            cluster,
            upstreams,
            forger,
            asker,
            _places: places,
        };
        scene.cluster.until("the node answers for the cluster", |_| {
            let said = scene.asker.ask(vec![LOCAL.to_owned()]).ok()?;
            said[0].as_ref().is_some_and(|answer| answer.code == 0).then_some(())
        })?;
        Ok(scene)
    }

    fn behave(&self, conduct: Conduct) {
        self.upstreams.iter().for_each(|upstream| upstream.behave(conduct));
    }

    /// Questions about the cluster itself: how many were not answered, and the time of the slowest but 1 %.
    fn locals(&self) -> Result<(u64, Duration)> {
        let answers = self.asker.ask(vec![LOCAL.to_owned(); LOCALS])?;
        let good: Vec<&Answer> = answers.iter().flatten().filter(|answer| answer.answers == 1).collect();
        let mut times: Vec<Duration> = good.iter().map(|answer| answer.took).collect();
        times.sort_unstable();
        let late = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
        Ok(((answers.len() - good.len()) as u64, late))
    }
}

/// `prefix0.zone`, `prefix1.zone`, ...: each name is new to the cache.
pub(super) fn names(prefix: &str, zone: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}{number}.{zone}")).collect()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn slowest(answers: &[Option<Answer>]) -> Duration {
    let times = answers.iter().flatten().map(|answer| answer.took);
    times.max().unwrap_or_default()
}

fn right(answers: &[Option<Answer>]) -> u64 {
    answers.iter().flatten().filter(|answer| answer.has(HONEST)).count() as u64
}

/// All servers silent, with as many questions waiting as may wait.
fn hanging(scene: &Scene, outcome: &mut Outcome) -> Result<()> {
    let (control_lost, control_late) = scene.locals()?;
    let healthy = right(&scene.asker.ask(names("healthy", "test", OUTSIDE))?);
    scene.behave(Conduct::Silent);
    let shouter = scene.asker.clone();
    let load = std::thread::spawn(move || shouter.shout(names("load", "test", 3000), Duration::from_millis(2)));
    let (lost, late) = scene.locals()?;
    load.join().ok().context("the load ended early")??;
    // Those of the load are over by their deadline; ask when there is room again.
    let answers = scene.cluster.until("there is room for questions", |_| {
        let said = scene.asker.ask_at_once(names("dead", "test", OUTSIDE)).ok()?;
        said.iter().flatten().all(|answer| answer.code == 2).then_some(said)
    })?;
    let answered = answers.iter().flatten().count();
    let slowest = slowest(&answers);
    eprintln!(
        "locals: {lost} of {LOCALS} lost, p99 {late:?} (control {control_lost}, {control_late:?}); SERVFAIL at most {slowest:?}"
    );
    outcome.check(lost == 0 && control_lost == 0, || {
        format!("D9.local: {lost} lost, {control_lost} in the control")
    });
    outcome.check(answered == OUTSIDE && slowest <= Duration::from_secs(5), || {
        format!("D9.servfail: {answered} of {OUTSIDE} answered, the slowest after {slowest:?}")
    });
    outcome.check(healthy == OUTSIDE as u64, || {
        format!("control: {healthy} of {OUTSIDE} answered")
    });
    let n = LOCALS as u64;
    outcome
        .figures
        .push(Figure::failures("D9.local", lost, n, control_lost));
    outcome
        .figures
        .push(Figure::new("D9.local_p99", ms(late), "ms", n, ms(control_late)));
    outcome
        .figures
        .push(Figure::new("D9.servfail", ms(slowest), "ms max", OUTSIDE as u64, 0.0));
    Ok(())
}

/// Two of three servers silent: how long until the third is asked and has answered, before anybody knows.
fn retry(scene: &Scene, outcome: &mut Outcome) -> Result<()> {
    // The one that goes on is the slowest, so that the node asks the others first.
    scene.upstreams[2].behave(Conduct::Answers(Duration::from_millis(30)));
    let control = scene.asker.ask(names("control", "three.test", OUTSIDE))?;
    scene.upstreams[0].behave(Conduct::Silent);
    scene.upstreams[1].behave(Conduct::Silent);
    let answers = scene.asker.ask(names("retry", "three.test", OUTSIDE))?;
    let (good, took) = (right(&answers), slowest(&answers));
    eprintln!(
        "{good} of {OUTSIDE} answered by the third, at most {took:?} (control {:?})",
        slowest(&control)
    );
    outcome.check(good == OUTSIDE as u64 && took <= Duration::from_secs(1), || {
        format!("D9.retry: {good} of {OUTSIDE} answered, the slowest after {took:?}")
    });
    let n = OUTSIDE as u64;
    outcome
        .figures
        .push(Figure::new("D9.retry", ms(took), "ms max", n, ms(slowest(&control))));
    Ok(())
}

/// Servers that answer under a wrong id, for other names, with records that do not belong.
fn lying(scene: &Scene, outcome: &mut Outcome) -> Result<()> {
    let honest = right(&scene.asker.ask(names("honest", "test", OUTSIDE))?);
    scene.behave(Conduct::Lies);
    let mut asked = names("lie", "test", OUTSIDE);
    asked.push(LOCAL.to_owned());
    let answers = scene.asker.ask_at_once(asked)?;
    let taken = answers.iter().flatten().filter(|answer| answer.has(LIE)).count() as u64;
    eprintln!("{taken} of {} lies taken; {honest} honest answers", 3 * OUTSIDE);
    if answers.iter().flatten().count() != OUTSIDE + 1 {
        bail!("not all questions were answered");
    }
    outcome.check(taken == 0 && honest == OUTSIDE as u64, || {
        format!("D9.lies: {taken} taken, {honest} honest")
    });
    let n = 3 * OUTSIDE as u64;
    outcome
        .figures
        .push(Figure::failures("D9.lies", taken, n, OUTSIDE as u64 - honest));
    Ok(())
}

/// Servers that need one and a half seconds.
fn slow(scene: &Scene, outcome: &mut Outcome) -> Result<()> {
    let control = right(&scene.asker.ask_at_once(names("quick", "test", OUTSIDE))?);
    scene.behave(Conduct::Answers(Duration::from_millis(1500)));
    let good = right(&scene.asker.ask_at_once(names("slow", "test", OUTSIDE))?);
    let (n, missing) = (OUTSIDE as u64, OUTSIDE as u64 - good);
    eprintln!("{good} of {n} answered by slow servers");
    outcome.check(missing == 0, || format!("D9.slow: {missing} of {n} not answered"));
    outcome
        .figures
        .push(Figure::new("D9.slow", count(missing), "count", n, count(n - control)));
    Ok(())
}
