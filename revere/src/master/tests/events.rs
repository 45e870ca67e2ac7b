//! Marathon's event stream over HTTP.

use super::*;

/// A reader of the stream.
struct Reader {
    body: hyper::body::Incoming,
    text: String,
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
            body: response.into_body(),
            text: String::new(),
        }
    }

    /// Reads until an event of that type; everything read so far, as (type, data, id).
    async fn until(&mut self, kind: &str) -> Vec<(String, Value, String)> {
        let wanted = format!("event: {kind}\r\n");
        let reading = async {
            while !(self.text.contains(&wanted) && self.text.ends_with("\r\n\r\n")) {
                let frame = self.body.frame().await.expect("open").expect("frame");
                self.text
                    .push_str(&String::from_utf8_lossy(&frame.into_data().expect("data")));
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("never came");
        let frames = self.text.split("\r\n\r\n").filter(|frame| frame.starts_with("event: "));
        let field = |frame: &str, name: &str| {
            let line = frame.lines().find_map(|line| line.strip_prefix(name));
            line.expect("there").to_owned()
        };
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
