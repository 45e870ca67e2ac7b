//! Masters on an etcd in trouble: what each says, and that what was whole stays whole.

mod publish;

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use xtask::lab::writes;
use xtask::lab::{Daemon, Lab, Place, net, underlay, wait_for};

use super::*;

/// For a machine that is busy with everything else.
const DEADLINE: Duration = Duration::from_secs(60);

/// One member of etcd on node1 and masters beside it, without nodes.
pub(super) struct Few {
    pub(super) lab: Lab,
    pub(super) revere: PathBuf,
    etcd: Option<Daemon>,
    pub(super) masters: Vec<Daemon>,
    url: &'static str,
}

/// Runs a test on masters that lead on an etcd with these flags; a failure shows every place.
pub(super) fn on_few(flags: &str, url: &'static str, test: impl FnOnce(&mut Few) -> Result<()>) {
    let lab = Lab::new().expect("a lab");
    let revere = program().expect("the program");
    let mut few = Few {
        lab,
        revere,
        etcd: None,
        masters: Vec::new(),
        url,
    };
    let done = few.start_etcd(flags).and_then(|()| test(&mut few));
    if let Err(error) = done {
        let picture = few.lab.picture();
        drop(few);
        panic!("{error:#}\n\n{picture}");
    }
    few.lab.close().expect("nothing is left");
}

fn address(number: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 99, 0, number], port))
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let sign = SIGNS[usize::try_from(word >> (18 - 6 * place) & 63).unwrap_or_default()];
            text.push(if place > chunk.len() { '=' } else { char::from(sign) });
        }
    }
    text
}

impl Few {
    pub(super) fn place(&self, number: u8) -> &Place {
        &self.lab.nodes[usize::from(number) - 1]
    }

    fn start_etcd(&mut self, flags: &str) -> Result<()> {
        let (place, ip) = (self.place(1), underlay(1));
        let scheme = self
            .url
            .split_once("etcd")
            .map_or("", |(_, rest)| if rest.starts_with('s') { "s" } else { "" });
        let line = format!(
            "mkdir -p {0}/etcd && {{ mountpoint -q {0}/etcd || mount -t tmpfs none {0}/etcd; }} && exec etcd --name one \
             --data-dir {0}/etcd/data --listen-client-urls http{scheme}://{ip}:2379 \
             --advertise-client-urls http{scheme}://{ip}:2379 --listen-peer-urls http://{ip}:2380 \
             --initial-advertise-peer-urls http://{ip}:2380 --initial-cluster one=http://{ip}:2380 {flags}",
            place.dir.display()
        );
        self.etcd = Some(place.spawn("etcd", &["sh", "-c", &line], &[])?);
        Ok(())
    }

    /// A master on a node, with more settings.
    fn spawn(&self, number: u8, sets: &[&str]) -> Result<Daemon> {
        let advertise = format!("master.advertise={}:5050", underlay(number));
        let revere = self.revere.to_str().context("a plain path")?;
        let mut program = vec![revere, "master", "--store", self.url, "--set", &advertise];
        for set in sets {
            program.extend(["--set", set]);
        }
        self.place(number)
            .spawn("master", &program, &[("NO_COLOR", "1".to_owned())])
    }

    fn start(&mut self, number: u8, sets: &[&str]) -> Result<()> {
        let master = self.spawn(number, sets)?;
        self.masters.push(master);
        self.until("a master leads", || {
            let (status, _) = self.ask(number, "GET /v2/leader", "").ok()?;
            (status == 200).then_some(())
        })
    }

    pub(super) fn stop_masters(&mut self) -> Result<()> {
        for mut master in self.masters.drain(..) {
            master.signal(Signal::TERM)?;
            master.wait()?;
        }
        Ok(())
    }

    /// What a master that cannot start says before it ends.
    fn refused(&self, number: u8, sets: &[&str]) -> Result<String> {
        let mut master = self.spawn(number, sets)?;
        self.until("the master gives up", || master.ended().then_some(()))?;
        Ok(master.output())
    }

    pub(super) fn ask(&self, number: u8, head: &str, body: &str) -> Result<(u16, String)> {
        net::http(self.place(number), address(number, 5050), head, body)
    }

    pub(super) fn create(&self, number: u8, name: &str) -> Result<(u16, String)> {
        let app = json!({"id": format!("/{}/{name}", writes::GROUP), "cmd": "true", "instances": 0});
        self.ask(number, "POST /v2/apps", &app.to_string())
    }

    /// The ids of all apps, as a master tells them.
    pub(super) fn apps(&self, number: u8) -> Result<Vec<String>> {
        let (status, body) = self.ask(number, "GET /v2/apps", "")?;
        ensure!(status == 200, "a list was answered {status}: {body}");
        // A chunked body has its lengths around the JSON.
        let json: String = body.split("\r\n").filter(|line| line.len() > 10).collect();
        let said: Value = serde_json::from_str(&json)?;
        let apps = said["apps"].as_array().context("no list")?.iter();
        let mut ids: Vec<String> = apps.filter_map(|app| app["id"].as_str().map(str::to_owned)).collect();
        ids.sort();
        Ok(ids)
    }

    /// A call of etcd's own API.
    pub(super) fn etcd(&self, path: &str, call: &Value) -> Result<Value> {
        let (status, body) = net::http(
            self.place(1),
            address(1, 2379),
            &format!("POST /v3/{path}"),
            &call.to_string(),
        )?;
        ensure!(status == 200, "etcd answered {path} with {status}: {body}");
        let json: String = body.split("\r\n").filter(|line| line.starts_with(['{', '['])).collect();
        Ok(serde_json::from_str(&json)?)
    }

    pub(super) fn until<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> Result<T> {
        wait_for(DEADLINE, look).with_context(|| format!("waited {} s in vain until {what}", DEADLINE.as_secs()))
    }
}

pub(super) const PLAIN: &str = "etcd://10.99.0.1:2379";

#[test]
fn masters_wait_for_an_etcd_that_is_not_there_and_tell_why() {
    on_few("", PLAIN, |few| {
        few.etcd.take().context("it runs")?.kill()?;
        let master = few.spawn(2, &[])?;
        few.masters.push(master);
        let why = few.until("the master says why it does not lead", || {
            let (status, body) = few.create(2, "early").ok()?;
            (status == 503 && body.contains("no member of etcd answers")).then_some(body)
        })?;
        ensure!(
            why.contains("does a majority of them run?"),
            "nothing to do is told: {why}"
        );
        few.start_etcd("")?;
        few.until("the master leads once etcd is there", || {
            matches!(few.create(2, "late"), Ok((201 | 409, _))).then_some(())
        })?;
        ensure!(few.apps(2)? == ["/w/late"], "{:?}", few.apps(2)?);
        Ok(())
    });
}

/// Fills etcd until it takes nothing; the keys that did it.
fn fill(few: &Few) -> Result<Vec<String>> {
    let value = base64(&vec![7; 200_000]);
    let mut keys = Vec::new();
    for number in 0..100 {
        let key = base64(format!("/junk/{number}").as_bytes());
        if few.etcd("kv/put", &json!({"key": key, "value": value})).is_err() {
            return Ok(keys);
        }
        keys.push(key);
    }
    anyhow::bail!("etcd never becomes full")
}

#[test]
fn a_full_etcd_refuses_changes_and_goes_on_when_there_is_room() {
    on_few("--quota-backend-bytes 3000000", PLAIN, |few| {
        few.start(2, &[])?;
        ensure!(few.create(2, "before")?.0 == 201, "no write is taken");
        let junk = fill(few)?;
        for wanted in ["whether it will be kept is not known yet", "nothing was changed"] {
            let (status, body) = few.create(2, "refused")?;
            ensure!(
                status == 503 && body.contains(wanted) && body.contains("etcdctl alarm disarm"),
                "a change was answered {status}: {body}"
            );
        }
        ensure!(few.apps(2)?.contains(&"/w/before".to_owned()), "{:?}", few.apps(2)?);
        let mut revision = 0;
        for key in junk {
            let done = few.etcd("kv/deleterange", &json!({"key": key}))?;
            revision = done["header"]["revision"]
                .as_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or(revision);
        }
        few.etcd(
            "kv/compaction",
            &json!({"revision": revision.to_string(), "physical": true}),
        )?;
        few.etcd("maintenance/defragment", &json!({}))?;
        let alarms = few.etcd("maintenance/alarm", &json!({"action": "GET"}))?;
        for alarm in alarms["alarms"].as_array().into_iter().flatten() {
            let call = json!({"action": "DEACTIVATE", "alarm": alarm["alarm"], "memberID": alarm["memberID"]});
            few.etcd("maintenance/alarm", &call)?;
        }
        few.until("changes are taken again", || {
            matches!(few.create(2, "after"), Ok((201 | 409, _))).then_some(())
        })?;
        let known = few.apps(2)?;
        few.stop_masters()?;
        few.start(3, &[])?;
        ensure!(few.apps(3)? == known, "{:?} became {:?}", known, few.apps(3)?);
        Ok(())
    });
}

#[test]
fn a_follower_whose_next_revisions_are_compacted_begins_anew() {
    on_few("", PLAIN, |few| {
        few.start(2, &[])?;
        few.start(3, &[])?;
        ensure!(few.create(2, "first")?.0 == 201, "no write is taken");
        let copied = |wanted: usize| {
            let head = "GET /v2/apps";
            let (_, head, body) = net::http_with_head(few.place(3), address(3, 5050), head, "").ok()?;
            let count = body.matches("\"id\":\"/w/").count();
            (head.contains("x-revere-stale-ms") && count == wanted).then_some(())
        };
        few.until("the follower has a copy", || copied(1))?;
        few.masters[1].signal(Signal::STOP)?;
        for number in 0..20 {
            ensure!(
                few.create(2, &format!("missed-{number}"))?.0 == 201,
                "no write is taken"
            );
        }
        let now = few.etcd("kv/range", &json!({"key": base64(b"x")}))?;
        few.etcd(
            "kv/compaction",
            &json!({"revision": now["header"]["revision"], "physical": true}),
        )?;
        few.masters[1].signal(Signal::CONT)?;
        few.until("the follower has all of it", || copied(21))
    });
}

#[test]
fn records_that_are_not_a_masters_own_are_left_alone() {
    on_few("", PLAIN, |few| {
        few.start(2, &[])?;
        ensure!(few.create(2, "kept")?.0 == 201, "no write is taken");
        let twin = few.refused(3, &["master.advertise=10.99.0.2:5050", "master.lease_seconds=2"])?;
        ensure!(
            twin.contains("another master of the name 10.99.0.2:5050 runs"),
            "{twin}"
        );
        few.stop_masters()?;
        let foreign = few.refused(3, &["master.cluster=other"])?;
        ensure!(
            foreign.contains("belong to the cluster") && foreign.contains("set master.cluster"),
            "{foreign}"
        );
        let key = base64(b"/revere/meta");
        let meta = few.etcd("kv/range", &json!({"key": key}))?["kvs"][0]["value"].clone();
        let newer = json!({"cluster": "revere", "schema": 250, "release": "9.9.9"}).to_string();
        few.etcd("kv/put", &json!({"key": key, "value": base64(newer.as_bytes())}))?;
        let told = few.refused(3, &["master.cluster=revere"])?;
        ensure!(told.contains("newer release") && told.contains("9.9.9"), "{told}");
        few.etcd("kv/put", &json!({"key": key, "value": meta}))?;
        few.start(3, &[])?;
        ensure!(few.apps(3)? == ["/w/kept"], "{:?}", few.apps(3)?);
        Ok(())
    });
}

fn up(few: &Few) -> Option<()> {
    let (status, _) = few.ask(2, "GET /ping", "").ok()?;
    (status == 200).then_some(())
}

#[test]
fn memory_moves_from_a_file_to_etcd_and_back() {
    on_few("", PLAIN, |few| {
        let place = few.place(2).clone();
        let revere = few.revere.to_str().context("a plain path")?.to_owned();
        let (old, new) = (place.dir.join("old"), place.dir.join("new"));
        let (old, new) = (
            old.to_str().context("a plain path")?,
            new.to_str().context("a plain path")?,
        );
        let alone = |dir: &str| place.spawn("master", &[revere.as_str(), "master", "--state-dir", dir], &[]);
        let mut master = alone(old)?;
        few.until("the master answers", || up(few))?;
        for number in 0..5 {
            ensure!(few.create(2, &format!("n{number}"))?.0 == 201, "no write is taken");
        }
        let known = few.apps(2)?;
        let used = place.run(&[&revere, "state", "move", "--from", old, "--to", PLAIN]);
        ensure!(used.is_err(), "a store was moved while its master runs");
        master.signal(Signal::TERM)?;
        master.wait()?;
        place.run(&[&revere, "state", "move", "--from", old, "--to", PLAIN])?;
        let again = place.run(&[&revere, "state", "move", "--from", old, "--to", PLAIN]);
        ensure!(
            format!("{:#}", again.unwrap_err()).contains("there are records"),
            "a store was filled twice"
        );
        few.start(3, &[])?;
        ensure!(few.apps(3)? == known, "{:?} became {:?}", known, few.apps(3)?);
        let used = place.run(&[&revere, "state", "move", "--from", PLAIN, "--to", new]);
        ensure!(
            format!("{:#}", used.unwrap_err()).contains("in use by the master"),
            "a store in use was moved"
        );
        ensure!(few.create(3, "in-etcd")?.0 == 201, "no write is taken");
        let known = few.apps(3)?;
        few.stop_masters()?;
        place.run(&[&revere, "state", "move", "--from", PLAIN, "--to", new])?;
        let mut master = alone(new)?;
        few.until("the master answers", || up(few))?;
        ensure!(few.apps(2)? == known, "{:?} became {:?}", known, few.apps(2)?);
        master.signal(Signal::TERM)?;
        master.wait().map(drop)
    });
}

#[test]
fn etcd_may_want_a_certificate_and_a_password() {
    on_few("--auto-tls", "etcds://10.99.0.1:2379", |few| {
        let place = few.place(1).clone();
        let dir = place.dir.clone();
        let ca = format!("{}/ca.pem", dir.display());
        // Its own file lies in its own mounts.
        few.until("etcd has made its certificate", || {
            place
                .sh(&format!(
                    "cp {0}/etcd/data/fixtures/client/cert.pem {ca} && [ -s {ca} ]",
                    dir.display()
                ))
                .ok()
        })?;
        let call = |path: &str, body: Value| {
            let line = format!("curl -sf --cacert {ca} https://10.99.0.1:2379/v3/{path} -d '{body}'");
            few.until(&format!("etcd does {path}"), || place.sh(&line).ok())
        };
        call("auth/user/add", json!({"name": "root", "password": "top"}))?;
        call("auth/user/grant", json!({"user": "root", "role": "root"}))?;
        call("auth/user/add", json!({"name": "masters", "password": "secret"}))?;
        call("auth/role/add", json!({"name": "masters"}))?;
        let all = json!({"permType": "READWRITE", "key": base64(b"/revere/"), "range_end": base64(b"/revere0")});
        call("auth/role/grant", json!({"name": "masters", "perm": all}))?;
        call("auth/user/grant", json!({"user": "masters", "role": "masters"}))?;
        call("auth/enable", json!({}))?;
        let (right, wrong) = (dir.join("right"), dir.join("wrong"));
        std::fs::write(&right, "secret\n")?;
        std::fs::write(&wrong, "guess\n")?;
        let ca = format!("master.etcd_ca={ca}");
        let password = |file: &std::path::Path| format!("master.etcd_password_file={}", file.display());
        let told = few.refused(2, &[&ca])?;
        ensure!(
            told.contains("user name is empty") || told.contains("master.etcd_user"),
            "without a user: {told}"
        );
        let told = few.refused(2, &[&ca, "master.etcd_user=masters", &password(&wrong)])?;
        ensure!(told.contains("authentication failed"), "with a wrong password: {told}");
        ensure!(!told.contains("guess"), "the password is told");
        few.start(2, &[&ca, "master.etcd_user=masters", &password(&right)])?;
        few.until("a write is taken", || {
            matches!(few.create(2, "sealed"), Ok((201 | 409, _))).then_some(())
        })?;
        ensure!(few.apps(2)? == ["/w/sealed"], "{:?}", few.apps(2)?);
        Ok(())
    });
}
