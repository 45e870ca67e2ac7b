//! Marathon's event stream over HTTP.

use super::lead::{leads, on, started};
use super::*;
use crate::etcd::tests::Fake;

/// A reader of the stream.
struct Reader {
    body: hyper::body::Incoming,
    text: String,
    /// A copy answers it.
    copied: bool,
}

impl Reader {
    async fn new(master: &Running, query: &str, last_seen: Option<&str>) -> Self {
        let tcp = tokio::net::TcpStream::connect(master.address).await.expect("connected");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
            .await
            .expect("http");
        tokio::spawn(connection);
        let request = Request::builder()
            .uri(format!("/v2/events{query}"))
            .header("host", "master")
            .header("accept", "text/event-stream");
        let request = match last_seen {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        let request = request.body(Full::<Bytes>::default()).expect("request");
        let response = sender.send_request(request).await.expect("answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Self {
            copied: response.headers().contains_key("x-revere-stale-ms"),
            body: response.into_body(),
            text: String::new(),
        }
    }

    /// Of a master's copy, once it has one.
    async fn of_copy(master: &Running, last_seen: Option<&str>) -> Self {
        let asking = async {
            loop {
                let reader = Self::new(master, "", last_seen).await;
                if reader.copied {
                    return reader;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, asking).await.expect("no copy")
    }

    /// All of it that has a number, up to the first one like this.
    async fn numbered(&mut self, done: impl Fn(&Value) -> bool) -> Vec<(String, Value, String)> {
        let began = std::time::Instant::now();
        loop {
            let told: Vec<_> = self.told().into_iter().filter(|(_, _, id)| !id.is_empty()).collect();
            if let Some(last) = told.iter().position(|(_, data, _)| done(data)) {
                return told[..=last].to_vec();
            }
            // What keeps the stream alive comes for ever.
            assert!(began.elapsed() < DEADLINE * 3, "no more than:\n{}", self.text);
            self.more().await;
        }
    }

    /// Reads until an event of that type; everything read so far, as (type, data, id).
    async fn until(&mut self, kind: &str) -> Vec<(String, Value, String)> {
        let began = std::time::Instant::now();
        while !self.told().iter().any(|(told, _, _)| told == kind) {
            assert!(began.elapsed() < DEADLINE * 3, "no more than:\n{}", self.text);
            self.more().await;
        }
        self.told()
    }

    async fn more(&mut self) {
        let read = tokio::time::timeout(DEADLINE, self.body.frame()).await;
        let frame = read.unwrap_or_else(|_| panic!("no more than:\n{}", self.text));
        let frame = frame.expect("it goes on").expect("frame").into_data().expect("data");
        self.text.push_str(&String::from_utf8_lossy(&frame));
    }

    /// The whole events of what was read.
    fn told(&self) -> Vec<(String, Value, String)> {
        let field = |frame: &str, name: &str| {
            let line = frame.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().to_owned()
        };
        let whole = self.text.rsplit_once("\r\n\r\n").map_or("", |(whole, _)| whole);
        let frames = whole.split("\r\n\r\n").filter(|frame| frame.starts_with("event: "));
        frames
            .map(|frame| {
                let data: Value = serde_json::from_str(&field(frame, "data: ")).expect("json");
                (field(frame, "event: "), data, field(frame, "id: "))
            })
            .collect()
    }
}

fn kinds(events: &[(String, Value, String)]) -> Vec<&str> {
    events.iter().map(|(kind, _, _)| kind.as_str()).collect()
}

#[tokio::test]
async fn a_deployment_is_told_from_its_post_to_its_end() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let mut reader = Reader::new(&master, "?plan-format=light", None).await;
    let mut picky = Reader::new(
        &master,
        "?event_type=deployment_success&event_type=app_terminated_event",
        None,
    )
    .await;
    reader.until("event_stream_attached").await;
    let specs = deploy(&master, &mut agent).await;
    let events = reader.until("deployment_success").await;
    let kinds_told = kinds(&events);
    for wanted in [
        "api_post_event",
        "group_change_success",
        "deployment_info",
        "instance_changed_event",
        "status_update_event",
        "deployment_step_success",
    ] {
        assert!(kinds_told.contains(&wanted), "{wanted} in {kinds_told:?}");
    }
    for (kind, data, _) in &events {
        assert_eq!(data["eventType"], kind.as_str());
        assert!(data["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
    }
    let status = events
        .iter()
        .find(|(kind, _, _)| kind == "status_update_event")
        .expect("told");
    assert_eq!(
        (&status.1["appId"], &status.1["taskStatus"], &status.1["host"]),
        (&json!("/my-service"), &json!("TASK_RUNNING"), &json!("10.9.8.7"))
    );
    assert_eq!(kinds(&picky.until("deployment_success").await), ["deployment_success"]);

    // Who comes back gets what it missed, in order and once.
    let (at, last) = (events.len() / 2, events[events.len() / 2].2.clone());
    let mut again = Reader::new(&master, "", Some(&last)).await;
    let missed = again.until("deployment_success").await;
    assert_eq!(missed[..events.len() - at - 1], events[at + 1..]);
    let mut stranger = Reader::new(&master, "", Some("1-1")).await;
    stranger.until("deployment_success").await;
    assert!(stranger.text.contains("no longer kept"), "a gap is told");

    master.call(Method::DELETE, "/v2/apps/my-service", "").await;
    for spec in &specs {
        agent.status(spec, TaskState::Killed).await;
    }
    let ended = picky.until("app_terminated_event").await;
    assert!(ended.iter().any(|(_, data, _)| data["appId"] == "/my-service"));
    drop(picky);
    reader.until("event_stream_detached").await;
    master.stop().await;
}

#[tokio::test]
async fn a_crash_loop_is_told_to_those_who_ask() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let mut marathons = Reader::new(&master, "", None).await;
    let mut own = Reader::new(&master, "?own=true", None).await;
    let app = json!({"id": "/a", "cmd": "false", "cpus": 0.1, "backoffSeconds": 0.001, "backoffFactor": 1.0});
    master.call(Method::POST, "/v2/apps", &app.to_string()).await;
    for _ in 0..5 {
        let spec = agent.launch().await;
        let mut failed = status(TaskState::Failed);
        failed.message = Some("exit status 1".to_owned());
        agent.say(&spec, failed).await;
    }
    let told = own.until("crash_loop_event").await;
    let (_, told, _) = told.last().expect("just read");
    assert_eq!((&told["appId"], &told["failures"]), (&json!("/a"), &json!(5)));
    assert_eq!(told["lastFailure"]["message"], "exit status 1");
    let app = master.get("/revere/v1/apps/a").await;
    assert_eq!(app["crash_loop"]["failures"], 5);
    let sixth = agent.launch().await;
    master.call(Method::DELETE, "/v2/apps/a", "").await;
    agent.status(&sixth, TaskState::Killed).await;
    let all = marathons.until("app_terminated_event").await;
    assert!(all.iter().all(|(kind, _, _)| kind != "crash_loop_event"));
    assert!(master.get("/revere/v1/apps/a").await["message"].is_string());
    master.stop().await;
}

fn is_of(spec: &LaunchSpec, state: &str, data: &Value) -> bool {
    data["taskId"] == spec.task.as_str() && data["taskStatus"] == state
}

#[tokio::test]
async fn all_masters_tell_the_same_events_whoever_leads() {
    let fake = Fake::start().await;
    let first = started(&on(&fake)).await;
    let second = started(&on(&fake)).await;
    let mut readers = [
        Reader::of_copy(&first, None).await,
        Reader::of_copy(&second, None).await,
    ];
    let mut agent = Agent::register(&first, None, Vec::new()).await;
    let (posted, _, _) = second.call(Method::POST, "/v2/apps", NAMED_VIP).await;
    assert_eq!(posted, StatusCode::CREATED);
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(agent.launch().await);
    }
    let running = tasks.into_iter().map(|spec| ReportedTask {
        spec,
        status: status(TaskState::Running),
    });
    let tasks: Vec<ReportedTask> = running.collect();
    for task in &tasks {
        agent.say(&task.spec, task.status.clone()).await;
    }
    // Its own readers alone hear of those who begin to read at a master.
    let other = Reader::of_copy(&second, None).await;
    readers[1].until("event_stream_attached").await;
    drop(other);
    fake.expires("/r/leader");
    leads(&first, &second).await;
    // The next leader hears again what this one was told.
    let mut again = Agent::register(&first, Some(agent.id.clone()), tasks.clone()).await;
    again.status(&tasks[0].spec, TaskState::Failed).await;
    let failed = |data: &Value| is_of(&tasks[0].spec, "TASK_FAILED", data);
    let told = readers[0].numbered(failed).await;
    assert_eq!(readers[1].numbered(failed).await, told);
    let numbers: Vec<usize> = told.iter().map(|(_, _, id)| number(id)).collect();
    let all: Vec<usize> = (numbers[0]..=numbers[numbers.len() - 1]).collect();
    assert_eq!(numbers, all, "nothing is missing, nothing is told twice");
    for task in &tasks {
        let running = told
            .iter()
            .filter(|(_, data, _)| is_of(&task.spec, "TASK_RUNNING", data));
        assert_eq!(running.count(), 1, "{told:#?}");
    }
    let posts = told.iter().filter(|(kind, _, _)| kind == "api_post_event");
    assert_eq!(posts.count(), 1, "{told:#?}");

    // Who comes back to any master, with what another one told it.
    for master in [&first, &second] {
        let half = told.len() / 2;
        let mut back = Reader::of_copy(master, Some(&told[half].2)).await;
        assert_eq!(back.numbered(failed).await, told[half + 1..]);
        assert!(!back.text.contains("no longer kept"), "{}", back.text);
    }
    first.stop().await;
    second.stop().await;
}

fn posted(app: &'static str) -> impl Fn(&Value) -> bool {
    move |data| data["eventType"] == "api_post_event" && data["appDefinition"]["id"] == app
}

async fn post(master: &Running, app: &str) {
    let app = json!({"id": app, "cmd": "true", "instances": 0}).to_string();
    assert_eq!(master.call(Method::POST, "/v2/apps", &app).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn events_are_told_where_the_copy_begins_anew_or_is_too_old() {
    let fake = Fake::start().await;
    let first = started(&on(&fake)).await;
    let second = started(&on(&fake)).await;
    let mut reader = Reader::of_copy(&second, None).await;
    // Nothing else happens that would be recorded with it.
    post(&first, "/a").await;
    let before = reader.numbered(posted("/a")).await;
    let last = before[before.len() - 1].2.as_str();
    // What etcd has forgotten when the copy hears of it.
    fake.mute(true);
    post(&first, "/b").await;
    fake.compact();
    fake.mute(false);
    let mut reader = Reader::of_copy(&second, Some(last)).await;
    let told = reader.numbered(posted("/b")).await;
    assert_eq!(number(&told[0].2), number(last) + 1, "{told:#?}");
    // A leader whose copy is too old tells them itself: it misses something, and nothing tells it that it does not.
    fake.mute(true);
    post(&first, "/missed").await;
    let asking = async {
        loop {
            let reader = Reader::new(&first, "", Some(last)).await;
            if !reader.copied {
                return reader;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let asked = tokio::time::timeout(DEADLINE, asking).await;
    let mut own = asked.expect("its copy never gets old");
    post(&first, "/c").await;
    let told_itself = own.numbered(posted("/c")).await;
    assert!(told_itself.starts_with(&told), "{told_itself:#?}");
    fake.mute(false);
    let mut back = Reader::of_copy(&second, Some(last)).await;
    assert_eq!(back.numbered(posted("/c")).await, told_itself);
    first.stop().await;
    second.stop().await;
}

fn number(id: &str) -> usize {
    let number = id.rsplit_once('-').expect("an id").1;
    number.parse().expect("a number")
}
