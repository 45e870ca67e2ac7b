//! Several masters on one etcd: who answers what, who leads next, and what a store in trouble changes.

use hyper::header::LOCATION;

use super::*;
use crate::etcd::tests::{Fake, Fault};
use crate::mesos::client::Subscription;
use crate::mesos::pack::Unpacker;

pub(super) fn on(fake: &Fake) -> Config {
    let url = format!("etcd://{}/r", fake.address);
    Config {
        store: StoreKind::try_from(url).expect("an address"),
        ..config()
    }
}

/// A master that knows who leads.
pub(super) async fn started(config: &Config) -> Running {
    let master = Running::new(config).await;
    master.until("/v2/leader", |body| body["leader"].is_string()).await;
    master
}

async fn leader(master: &Running) -> String {
    let told = master.until("/v2/leader", |body| body["leader"].is_string()).await;
    told["leader"].as_str().expect("text").to_owned()
}

/// Asks until that one leads.
pub(super) async fn leads(asked: &Running, wanted: &Running) {
    let wanted = wanted.address.to_string();
    asked
        .until("/v2/leader", |body| body["leader"] == wanted.as_str())
        .await;
}

#[tokio::test]
async fn whichever_master_is_asked_the_leader_answers() {
    let fake = Fake::start().await;
    let first = started(&on(&fake)).await;
    let second = started(&on(&fake)).await;
    assert_eq!(leader(&second).await, first.address.to_string());
    // Marathon's paths are handed on, with what Marathon tells of it.
    let (status, headers, _) = second.call(Method::POST, "/v2/apps", NAMED_VIP).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(headers["x-marathon-leader"], format!("http://{}", first.address));
    assert_eq!(first.get("/v2/apps/my-service").await["app"]["instances"], 3);
    let masters = second.get("/revere/v1/masters").await;
    let masters = masters["masters"].as_array().expect("list").iter();
    let told: Vec<bool> = masters.map(|one| one["leads"].as_bool().expect("told")).collect();
    assert_eq!(told.iter().filter(|leads| **leads).count(), 1, "{told:?}");
    assert_eq!(told.len(), 2);
    // Mesos's clients are sent to it.
    for (path, wanted) in [
        ("/api/v1?x=y", "/api/v1?x=y"),
        ("/redirect", ""),
        ("/master/redirect", ""),
    ] {
        let (status, headers, _) = second.call(Method::POST, path, r#"{"type":"GET_HEALTH"}"#).await;
        assert_eq!(status, StatusCode::TEMPORARY_REDIRECT, "{path}");
        assert_eq!(headers[LOCATION], format!("//{}{wanted}", first.address), "{path}");
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn tasks_and_agents_outlive_their_leader() {
    let fake = Fake::start().await;
    let first = started(&on(&fake)).await;
    let second = started(&on(&fake)).await;
    let mut agent = Agent::register(&second, None, Vec::new()).await;
    let specs = deploy(&first, &mut agent).await;
    // Its lease ends, without a word to it.
    fake.expires("/r/leader");
    leads(&first, &second).await;
    let gone = tokio::time::timeout(DEADLINE, agent.stream.next())
        .await
        .expect("the old leader lets it go");
    assert!(gone.is_none_or(|frame| frame.is_err()));
    let tasks = specs.iter().map(|spec| ReportedTask {
        spec: spec.clone(),
        status: status_running(),
    });
    let again = Agent::register(&first, Some(agent.id.clone()), tasks.collect()).await;
    assert_eq!(again.id, agent.id);
    let app = first
        .until("/v2/apps/my-service", |app| app["app"]["tasksRunning"] == 3)
        .await;
    let known = app["app"]["tasks"].to_string();
    assert!(specs.iter().all(|spec| known.contains(spec.task.as_str())), "{known}");
    let (status, _, body) = first.call(Method::DELETE, "/v2/leader", "").await;
    assert_eq!(
        (status, &body["message"]),
        (StatusCode::OK, &json!("Leadership abdicated"))
    );
    leads(&second, &first).await;
    let app = second.get("/v2/apps/my-service").await;
    assert_eq!(app["app"]["instances"], 3);
    first.stop().await;
    second.stop().await;
}

fn status_running() -> TaskStatus {
    status(TaskState::Running)
}

/// The records of a stream.
struct Stream {
    body: hyper::body::Incoming,
    unpacker: Unpacker,
    decoder: recordio::Decoder,
}

impl Stream {
    async fn open(master: &Running) -> Self {
        Self::open_at(master, None).await
    }

    async fn open_at(master: &Running, position: Option<&str>) -> Self {
        let client = Client::new(&Access::default()).expect("a client");
        let url = format!("http://{}", master.address);
        let subscribed = client.subscribe_at(&url, position).await.expect("subscribed");
        assert_eq!(subscribed.leader, master.address.to_string(), "nobody sends it on");
        let packed = matches!(subscribed.unpacker, Unpacker::Packed(_));
        assert_eq!(
            packed,
            position.is_some(),
            "only who can come back is sent anything packed"
        );
        Self::of(subscribed)
    }

    fn of(subscribed: Subscription) -> Self {
        Self {
            body: subscribed.body,
            unpacker: subscribed.unpacker,
            decoder: recordio::Decoder::new(1 << 20),
        }
    }

    /// Reads until a record is as wanted.
    async fn until(&mut self, done: impl Fn(&Value) -> bool) -> Value {
        let mut told = Vec::new();
        let reading = async {
            loop {
                while let Some(record) = self.decoder.next_record().expect("framed") {
                    let record: Value = serde_json::from_slice(&record).expect("JSON");
                    if done(&record) {
                        return record;
                    }
                    told.push(record.to_string());
                }
                let frame = self.body.frame().await.expect("it goes on").expect("read");
                let mut data = frame.into_data().expect("data");
                loop {
                    let part = self.unpacker.part(&mut data).expect("readable");
                    if part.is_empty() {
                        break;
                    }
                    self.decoder.push(&part);
                }
            }
        };
        let found = tokio::time::timeout(DEADLINE, reading).await;
        found.unwrap_or_else(|_| panic!("never told; but:\n{}", told.join("\n")))
    }
}

/// Asks until the copy of that master answers, and not the leader.
async fn copied(master: &Running, path: &str, done: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let (_, headers, body) = master.call(Method::GET, path, "").await;
            if headers.contains_key("x-revere-stale-ms") && done(&body) {
                assert!(!headers.contains_key("x-marathon-leader"));
                return body;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.expect("never so")
}

#[tokio::test]
async fn a_follower_answers_readers_and_its_streams_outlive_the_leader() {
    let fake = Fake::start().await;
    let first = started(&on(&fake)).await;
    let second = started(&on(&fake)).await;
    copied(&second, "/v2/apps", |body| body["apps"] == json!([])).await;
    let mut stream = Stream::open(&second).await;
    stream.until(|record| record["type"] == "SUBSCRIBED").await;
    let mut agent = Agent::register(&first, None, Vec::new()).await;
    let specs = deploy(&first, &mut agent).await;
    for _ in &specs {
        let added = stream.until(|record| record["type"] == "TASK_ADDED").await;
        let task = added["task_added"]["task"]["task_id"]["value"]
            .as_str()
            .map(str::to_owned);
        assert!(
            specs.iter().any(|spec| Some(spec.task.as_str()) == task.as_deref()),
            "{added}"
        );
    }
    stream
        .until(|record| record["task_updated"]["status"]["state"] == "TASK_RUNNING")
        .await;
    // Who writes here reads here what it wrote, at once.
    for number in 0..20 {
        let body = json!({"id": format!("/n{number}"), "cmd": "sleep 1", "instances": 0}).to_string();
        assert_eq!(
            second.call(Method::POST, "/v2/apps", &body).await.0,
            StatusCode::CREATED
        );
        let (_, headers, body) = second.call(Method::GET, "/v2/apps", "").await;
        let apps = body["apps"].as_array().expect("a list");
        assert!(
            headers.contains_key("x-revere-stale-ms") && apps.len() == number + 2,
            "{number}: {body}"
        );
    }
    let (_, headers, _) = first.call(Method::GET, "/v2/apps", "").await;
    assert!(!headers.contains_key("x-revere-stale-ms"), "the leader's are never old");
    fake.expires("/r/leader");
    leads(&first, &second).await;
    let tasks = specs.iter().map(|spec| ReportedTask {
        spec: spec.clone(),
        status: status_running(),
    });
    let mut again = Agent::register(&first, Some(agent.id.clone()), tasks.collect()).await;
    again.status(&specs[0], TaskState::Failed).await;
    let ended = specs[0].task.as_str();
    stream
        .until(|record| {
            record["task_updated"]["status"]["task_id"]["value"] == ended
                && record["task_updated"]["status"]["state"] == "TASK_GONE"
        })
        .await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_copy_that_missed_what_is_compacted_tells_only_what_is_otherwise() {
    let fake = Fake::start().await;
    let first = started(&on(&fake)).await;
    let second = started(&on(&fake)).await;
    let mut agent = Agent::register(&first, None, Vec::new()).await;
    let specs = deploy(&first, &mut agent).await;
    copied(&second, "/v2/apps", |body| body["apps"][0]["tasksRunning"] == 3).await;
    let mut stream = Stream::open(&second).await;
    stream.until(|record| record["type"] == "SUBSCRIBED").await;
    fake.mute(true);
    // Nothing comes after it that would have that agent looked at again.
    let path = "/v2/apps/my-service?force=true";
    let (status, _, _) = first.call(Method::PUT, path, r#"{"instances": 2}"#).await;
    assert_eq!(status, StatusCode::OK);
    let killed = loop {
        if let MasterMessage::Kill { task, .. } = next(&mut agent.stream).await {
            break task;
        }
    };
    let (ended, others): (Vec<_>, Vec<_>) = specs.iter().partition(|spec| spec.task == killed);
    agent.status(ended[0], TaskState::Killed).await;
    first
        .until("/v2/apps/my-service", |app| app["app"]["tasksRunning"] == 2)
        .await;
    fake.compact();
    fake.mute(false);
    let told = std::sync::Mutex::new(String::new());
    let gone = |record: &Value| {
        told.lock().expect("alone").push_str(&record.to_string());
        record["task_updated"]["status"]["task_id"]["value"] == killed.as_str()
    };
    stream.until(gone).await;
    let told = told.into_inner().expect("alone");
    assert!(others.iter().all(|spec| !told.contains(spec.task.as_str())), "{told}");
    copied(&second, "/v2/apps", |body| body["apps"][0]["tasksRunning"] == 2).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_copy_that_stays_behind_lets_its_readers_go() {
    let fake = Fake::start().await;
    let first = started(&on(&fake)).await;
    let second = started(&on(&fake)).await;
    copied(&second, "/v2/apps", |body| body["apps"] == json!([])).await;
    let mut stream = Stream::open(&second).await;
    stream.until(|record| record["type"] == "SUBSCRIBED").await;
    fake.mute(true);
    let app = r#"{"id": "/missed", "cmd": "sleep 1", "instances": 0}"#;
    assert_eq!(first.call(Method::POST, "/v2/apps", app).await.0, StatusCode::CREATED);
    let ended = async { while let Some(Ok(_)) = stream.body.frame().await {} };
    tokio::time::timeout(DEADLINE, ended).await.expect("it is let go");
    let (_, headers, body) = second.call(Method::GET, "/v2/apps", "").await;
    assert!(headers.contains_key("x-marathon-leader"), "{headers:?}");
    assert_eq!(body["apps"][0]["id"], "/missed");
    fake.mute(false);
    copied(&second, "/v2/apps", |body| body["apps"][0]["id"] == "/missed").await;
    first.stop().await;
    second.stop().await;
}

/// Where a stream is once that task was told in that state.
async fn position_after(stream: &mut Stream, task: &str, state: &str) -> String {
    stream
        .until(|record| {
            let status = &record["task_updated"]["status"];
            status["task_id"]["value"] == task && status["state"] == state
        })
        .await;
    let told = stream.until(|record| record["type"] == "REVERE_POSITION").await;
    told["position"].as_str().expect("text").to_owned()
}

/// Reads until that task was told to be killed.
async fn killing(stream: &mut Stream, task: &str) {
    let told = |record: &Value| {
        let status = &record["task_updated"]["status"];
        status["task_id"]["value"] == task && status["state"] == "TASK_KILLING"
    };
    stream.until(told).await;
}

/// Waits until each answers those who can come back from its copy: the leader does as well.
async fn copies(masters: &[&Running]) {
    for master in masters {
        let there = async {
            let client = Client::new(&Access::default()).expect("a client");
            let url = format!("http://{}", master.address);
            loop {
                if let Ok(subscribed) = client.subscribe_at(&url, Some("")).await
                    && subscribed.leader == master.address.to_string()
                {
                    let mut stream = Stream::of(subscribed);
                    // Of a copy the position is told before the first heartbeat.
                    stream.until(|record| record["type"] == "SUBSCRIBED").await;
                    if stream.until(|_| true).await["type"] == "REVERE_POSITION" {
                        return;
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, there).await.expect("a copy");
    }
}

#[tokio::test]
async fn who_comes_back_to_any_master_is_told_what_it_missed() {
    let fake = Fake::start().await;
    let first = started(&on(&fake)).await;
    let second = started(&on(&fake)).await;
    copies(&[&first, &second]).await;
    let mut stream = Stream::open_at(&second, Some("")).await;
    let mut agent = Agent::register(&first, None, Vec::new()).await;
    let specs = deploy(&first, &mut agent).await;
    let position = position_after(&mut stream, specs[2].task.as_str(), "TASK_RUNNING").await;
    drop(stream);
    agent.status(&specs[0], TaskState::Killing).await;
    for master in [&first, &second] {
        let mut stream = Stream::open_at(master, Some(&position)).await;
        let begins = stream.until(|_| true).await;
        assert_eq!(begins["type"], "REVERE_RESUMED", "{begins}");
        let next = stream
            .until(|record| record["type"] != "HEARTBEAT" && record["type"] != "REVERE_POSITION")
            .await;
        assert_eq!(
            next["task_updated"]["status"]["task_id"]["value"],
            specs[0].task.as_str(),
            "nothing before it"
        );
    }
    // Who comes to the same place later is told what was told since, too.
    let mut earlier = Stream::open_at(&second, Some(&position)).await;
    agent.status(&specs[2], TaskState::Killing).await;
    killing(&mut earlier, specs[2].task.as_str()).await;
    let mut later = Stream::open_at(&second, Some(&position)).await;
    for spec in [&specs[0], &specs[2]] {
        killing(&mut later, spec.task.as_str()).await;
    }
    drop((earlier, later));
    for unknown in ["", "x/1", &format!("{position}999999999")] {
        let begins = Stream::open_at(&second, Some(unknown)).await.until(|_| true).await;
        assert_eq!(begins["type"], "SUBSCRIBED", "{unknown}");
        // Others began from nothing when there was no task yet.
        let tasks = begins["subscribed"]["get_state"]["get_tasks"]["tasks"].as_array();
        assert_eq!(tasks.map(Vec::len), Some(specs.len()), "the state of now: {begins}");
    }
    // Readers that know nothing of it are told nothing of it.
    let mut plain = Stream::open(&second).await;
    agent.status(&specs[1], TaskState::Killing).await;
    let told = plain
        .until(|record| record["type"] != "SUBSCRIBED" && record["type"] != "HEARTBEAT")
        .await;
    assert_eq!(told["type"], "TASK_UPDATED", "{told}");
    first.stop().await;
    second.stop().await;
}

/// It waits for this master's copy, and goes on where it was.
#[tokio::test]
async fn who_was_further_with_another_master_does_not_begin_anew() {
    let fake = Fake::start().await;
    let first = started(&on(&fake)).await;
    let second = started(&on(&fake)).await;
    copies(&[&first, &second]).await;
    let mut stream = Stream::open_at(&second, Some("")).await;
    let mut agent = Agent::register(&first, None, Vec::new()).await;
    let specs = deploy(&first, &mut agent).await;
    let position = position_after(&mut stream, specs[2].task.as_str(), "TASK_RUNNING").await;
    let (identity, revision) = position.split_once('/').expect("a revision");
    let next = revision.parse::<u64>().expect("a number") + 1;
    let mut ahead = Stream::open_at(&second, Some(&format!("{identity}/{next}"))).await;
    agent.status(&specs[1], TaskState::Killed).await;
    let begins = ahead.until(|record| record["type"] != "HEARTBEAT").await;
    assert_eq!(begins["type"], "REVERE_RESUMED", "{begins}");
    first.stop().await;
    second.stop().await;
}

/// A leader that takes connections and says nothing, as one that is stopped.
#[tokio::test]
async fn a_leader_that_says_nothing_keeps_nobody_waiting() {
    let fake = Fake::start().await;
    let stopped = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = stopped.local_addr().expect("address").port();
    let info = json!({"address": {"ip": "127.0.0.1", "port": port}});
    let etcd = fake.etcd();
    let lease = etcd.grant(10, DEADLINE).await.expect("granted").0;
    let put = crate::etcd::Op::Put {
        key: "/r/leader".to_owned(),
        value: info.to_string().into_bytes(),
        lease,
    };
    etcd.transaction(&[], &[put], &[], DEADLINE).await.expect("it leads");
    let master = Running::new(&on(&fake)).await;
    let redirected = async {
        while master.call(Method::GET, "/redirect", "").await.0 != StatusCode::TEMPORARY_REDIRECT {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, redirected).await.expect("it follows");
    let asked = master.call(Method::GET, "/v2/queue", "");
    let ended = async {
        // Not before the request is on its way: the watchdog's connection and the request's.
        for _ in 0..2 {
            std::mem::forget(stopped.accept().await.expect("asked"));
        }
        fake.expires("/r/leader");
    };
    let ((status, _, body), ()) = tokio::time::timeout(DEADLINE, async { tokio::join!(asked, ended) })
        .await
        .expect("an answer");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body["message"].to_string().contains("leads no more"), "{body}");
    leads(&master, &master).await;
    master.stop().await;
}

#[tokio::test]
async fn a_full_store_refuses_changes_and_nothing_else() {
    let fake = Fake::start().await;
    let master = started(&on(&fake)).await;
    assert_eq!(
        master.call(Method::POST, "/v2/apps", NAMED_VIP).await.0,
        StatusCode::CREATED
    );
    fake.meets(&[Fault::Full; 100_000]);
    let other = r#"{"id": "/other", "cmd": "sleep 1"}"#;
    for wanted in ["whether it will be kept is not known yet", "nothing was changed"] {
        let (status, _, body) = master.call(Method::POST, "/v2/apps", other).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let text = body["message"].as_str().expect("a sentence");
        assert!(text.contains(wanted) && text.contains("etcdctl alarm disarm"), "{text}");
        assert_eq!(master.get("/v2/apps/my-service").await["app"]["instances"], 3);
    }
    // Agents go on telling; only what they are told waits.
    let agent = Agent::register(&master, None, Vec::new()).await;
    let id = agent.id.clone();
    let nodes = master
        .until("/revere/v1/nodes", |body| body["nodes"][0]["connected"] == true)
        .await;
    assert_eq!(nodes["nodes"][0]["id"], id.as_str());
    fake.recovers();
    master
        .until("/v2/apps/other", |body| body["app"]["instances"] == 1)
        .await;
    let third = r#"{"id": "/third", "cmd": "sleep 1"}"#;
    let created = async {
        while master.call(Method::POST, "/v2/apps", third).await.0 != StatusCode::CREATED {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, created)
        .await
        .expect("changes are taken again");
    master.stop().await;
    let next = started(&on(&fake)).await;
    for app in ["my-service", "other", "third"] {
        assert!(next.get(&format!("/v2/apps/{app}")).await["app"].is_object(), "{app}");
    }
    next.stop().await;
}

#[tokio::test]
async fn a_master_that_cannot_lead_says_why() {
    let fake = Fake::start().await;
    let first = started(&on(&fake)).await;
    let second = Config {
        advertise: first.address.to_string(),
        lease_seconds: 2,
        ..on(&fake)
    };
    let foreign = Config {
        cluster: "other".to_owned(),
        ..on(&fake)
    };
    for (config, wanted) in [(foreign, "set master.cluster"), (second, "another master of the name")] {
        let master = start(&config, CancellationToken::new()).await.expect("listens");
        let ended = tokio::time::timeout(DEADLINE, master.wait()).await.expect("ends");
        let error = ended.expect_err("refused").to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let strange = Fake::start().await;
    strange.set("/r/state/diary", "a diary");
    let old = Fake::start().await;
    old.is("3.3.27");
    for (fake, wanted) in [
        (strange, "/r/state/diary holds what no revere master writes"),
        (old, "etcd 3.3.27 is too old"),
    ] {
        let before = fake.keys();
        let master = start(&on(&fake), CancellationToken::new()).await.expect("listens");
        let ended = tokio::time::timeout(DEADLINE, master.wait()).await.expect("ends");
        let error = ended.expect_err("refused").to_string();
        assert!(error.contains(wanted), "{error}");
        assert_eq!(fake.keys(), before, "something was written");
    }
    let nameless = Config {
        listen: "0.0.0.0:0".to_owned(),
        ..on(&fake)
    };
    let error = start(&nameless, CancellationToken::new())
        .await
        .expect_err("refused")
        .to_string();
    assert!(error.starts_with("master.advertise = ``"), "{error}");
    first.stop().await;
}

#[tokio::test]
async fn without_etcd_there_is_no_leader_and_a_reason() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = gone.local_addr().expect("address");
    drop(gone);
    let config = Config {
        store: StoreKind::try_from(format!("etcd://{address}")).expect("an address"),
        ..config()
    };
    let master = Running::new(&config).await;
    let why = master
        .until("/v2/apps", |body| {
            body["message"].to_string().contains("no member of etcd answers")
        })
        .await;
    assert!(why["message"].to_string().contains("No leader elected"), "{why}");
    for (path, wanted) in [
        ("/v2/leader", StatusCode::NOT_FOUND),
        ("/v2/apps", StatusCode::SERVICE_UNAVAILABLE),
        ("/redirect", StatusCode::SERVICE_UNAVAILABLE),
        ("/health", StatusCode::OK),
        ("/ping", StatusCode::OK),
        ("/metrics", StatusCode::OK),
    ] {
        assert_eq!(master.call(Method::GET, path, "").await.0, wanted, "{path}");
    }
    master.stop().await;
}
