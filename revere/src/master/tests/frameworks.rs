//! A framework over HTTP: its stream, its calls, and what other readers see of it.

use super::*;

/// A framework's stream.
struct Stream {
    body: hyper::body::Incoming,
    decoder: recordio::Decoder,
    id: String,
}

impl Stream {
    async fn next(&mut self) -> Option<Value> {
        let reading = async {
            loop {
                if let Some(record) = self.decoder.next_record().expect("framed") {
                    return Some(serde_json::from_slice::<Value>(&record).expect("JSON"));
                }
                let frame = self.body.frame().await?.expect("readable");
                self.decoder.push(&frame.into_data().expect("data"));
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("an event in time")
    }

    /// The next event of that type.
    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event["type"] == kind {
                return event;
            }
        }
    }
}

async fn send(master: &Running, stream: Option<&str>, body: &Value) -> hyper::Response<hyper::body::Incoming> {
    let tcp = tokio::net::TcpStream::connect(master.address).await.expect("connected");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .expect("http");
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri("/api/v1/scheduler")
        .header("host", "master")
        .header(CONTENT_TYPE, "application/json");
    let request = match stream {
        Some(id) => request.header("mesos-stream-id", id),
        None => request,
    };
    let request = request.body(Full::new(Bytes::from(body.to_string()))).expect("request");
    sender.send_request(request).await.expect("answer")
}

async fn asked(master: &Running, stream: Option<&str>, body: Value) -> (StatusCode, String) {
    let (parts, body) = send(master, stream, &body).await.into_parts();
    let bytes = body.collect().await.expect("body").to_bytes();
    (parts.status, String::from_utf8_lossy(&bytes).into_owned())
}

async fn subscribe(master: &Running, id: Option<&str>) -> Stream {
    let mut info = json!({
        "user": "root", "name": "outside", "failover_timeout": 600.0, "checkpoint": true, "role": "*", "hostname": null,
        "capabilities": [{"type": "PARTITION_AWARE"}],
    });
    let mut call = json!({"type": "SUBSCRIBE"});
    if let Some(id) = id {
        info["id"] = json!({"value": id});
        call["framework_id"] = json!({"value": id});
    }
    call["subscribe"] = json!({"framework_info": info});
    let response = send(master, None, &call).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/json");
    let header = response.headers().get("mesos-stream-id");
    Stream {
        id: header
            .map(|id| id.to_str().expect("text").to_owned())
            .unwrap_or_default(),
        body: response.into_body(),
        decoder: recordio::Decoder::new(1 << 20),
    }
}

fn task(offer: &Value, id: &str) -> Value {
    json!({
        "task_id": {"value": id}, "agent_id": offer["agent_id"], "name": "web",
        "command": {"value": "serve"},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
            {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31005, "end": 31005}]}},
        ],
        "discovery": {"visibility": "CLUSTER", "name": "site", "ports": {"ports": [{
            "number": 31005, "protocol": "tcp", "name": "http",
            "labels": {"labels": [{"key": "VIP_0", "value": "/site:80"}]},
        }]}},
        "labels": {"labels": [{"key": "team", "value": "core"}]},
    })
}

/// Launches one task of the next offer and says that it runs.
async fn run_one(master: &Running, agent: &mut Agent, stream: &mut Stream, framework: &Value) -> LaunchSpec {
    let offers = stream.until("OFFERS").await["offers"]["offers"].clone();
    let offer = &offers[0];
    assert_eq!(offer["allocation_info"]["role"], "*");
    assert_eq!(offer["resources"][0]["scalar"]["value"], 4.0);
    let accept = json!({"type": "ACCEPT", "framework_id": framework, "accept": {
        "offer_ids": [offer["id"]],
        "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task(offer, "1")]}}],
        "filters": {"refuse_seconds": 3600.0},
    }});
    assert_eq!(
        asked(master, Some(&stream.id), accept).await,
        (StatusCode::ACCEPTED, String::new())
    );
    let spec = agent.launch().await;
    agent.status(&spec, TaskState::Running).await;
    spec
}

async fn acknowledge(master: &Running, stream: &Stream, framework: &Value, update: &Value) {
    let status = &update["update"]["status"];
    let call = json!({"type": "ACKNOWLEDGE", "framework_id": framework, "acknowledge": {
        "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"],
    }});
    assert_eq!(asked(master, Some(&stream.id), call).await.0, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_framework_goes_the_whole_way() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let mut stream = subscribe(&master, None).await;
    let subscribed = stream.next().await.expect("first");
    assert_eq!(subscribed["subscribed"]["heartbeat_interval_seconds"], 15.0);
    let framework = subscribed["subscribed"]["framework_id"].clone();
    assert_eq!(stream.next().await.expect("second")["type"], "HEARTBEAT");
    let spec = run_one(&master, &mut agent, &mut stream, &framework).await;
    assert_eq!((spec.name.as_str(), &spec.host_ports[..]), ("site", &[31_005][..]));
    let update = stream.until("UPDATE").await;
    let status = &update["update"]["status"];
    assert_eq!(
        (&status["state"], &status["task_id"]["value"]),
        (&json!("TASK_RUNNING"), &json!("1"))
    );
    acknowledge(&master, &stream, &framework, &update).await;

    // Readers of services and of the operator API see it as any other task.
    let vips = master.get("/revere/v1/vips").await;
    assert_eq!(vips["vips"][0]["name"], "site.outside.l4lb.thisdcos.directory");
    let (_, _, tasks) = master.call(Method::POST, "/api/v1", r#"{"type": "GET_TASKS"}"#).await;
    let shown = &tasks["get_tasks"]["tasks"][0];
    assert_eq!(
        (&shown["task_id"]["value"], &shown["framework_id"]),
        (&json!("1"), &framework)
    );
    assert_eq!(shown["resources"][0]["scalar"]["value"], 0.5);
    let (_, _, frameworks) = master
        .call(Method::POST, "/api/v1", r#"{"type": "GET_FRAMEWORKS"}"#)
        .await;
    let shown = &frameworks["get_frameworks"]["frameworks"][1];
    assert_eq!(
        (&shown["framework_info"]["name"], &shown["connected"]),
        (&json!("outside"), &json!(true))
    );

    let kill = json!({"type": "KILL", "framework_id": framework, "kill": {"task_id": {"value": "1"}}});
    assert_eq!(asked(&master, Some(&stream.id), kill).await.0, StatusCode::ACCEPTED);
    assert!(matches!(next(&mut agent.stream).await, MasterMessage::Kill { task, .. } if task == spec.task));
    agent.status(&spec, TaskState::Killed).await;
    let update = stream.until("UPDATE").await;
    assert_eq!(update["update"]["status"]["state"], "TASK_KILLED");
    acknowledge(&master, &stream, &framework, &update).await;
    let teardown = json!({"type": "TEARDOWN", "framework_id": framework});
    assert_eq!(asked(&master, Some(&stream.id), teardown).await.0, StatusCode::ACCEPTED);
    while stream.next().await.is_some() {}
    let (_, _, frameworks) = master
        .call(Method::POST, "/api/v1", r#"{"type": "GET_FRAMEWORKS"}"#)
        .await;
    assert_eq!(
        frameworks["get_frameworks"]["frameworks"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(
        frameworks["get_frameworks"]["completed_frameworks"][0]["framework_info"]["id"],
        framework
    );
    master.stop().await;
}

#[tokio::test]
async fn frameworks_and_their_tasks_outlive_the_master() {
    let directory = tempfile::tempdir().expect("directory");
    let config = config_in(&directory);
    let master = Running::new(&config).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let mut stream = subscribe(&master, None).await;
    let framework = stream.next().await.expect("first")["subscribed"]["framework_id"].clone();
    let spec = run_one(&master, &mut agent, &mut stream, &framework).await;
    let told = stream.until("UPDATE").await;
    let id = agent.id.clone();
    drop((agent, stream));
    master.stop().await;

    let master = Running::new(&config).await;
    let report = ReportedTask {
        spec: spec.clone(),
        status: status(TaskState::Running),
    };
    let mut agent = Agent::register(&master, Some(id), vec![report]).await;
    let name = framework["value"].as_str().expect("text");
    let mut stream = subscribe(&master, Some(name)).await;
    let again = stream.until("UPDATE").await;
    assert_eq!(
        again["update"]["status"]["uuid"], told["update"]["status"]["uuid"],
        "not acknowledged"
    );
    acknowledge(&master, &stream, &framework, &again).await;
    let ask = json!({"type": "RECONCILE", "framework_id": framework, "reconcile": {"tasks": []}});
    asked(&master, Some(&stream.id), ask).await;
    let known = stream.until("UPDATE").await;
    assert_eq!(known["update"]["status"]["reason"], "REASON_RECONCILIATION");
    assert_eq!(known["update"]["status"]["state"], "TASK_RUNNING");

    // A second subscription takes over; an operator ends it, and it stays ended.
    let mut second = subscribe(&master, Some(name)).await;
    assert_eq!(stream.until("ERROR").await["error"]["message"], "Framework failed over");
    assert!(stream.next().await.is_none());
    let teardown = json!({"type": "TEARDOWN", "teardown": {"framework_id": framework}}).to_string();
    assert_eq!(master.call(Method::POST, "/api/v1", &teardown).await.0, StatusCode::OK);
    assert!(matches!(next(&mut agent.stream).await, MasterMessage::Kill { task, .. } if task == spec.task));
    while second.next().await.is_some() {}
    let mut removed = subscribe(&master, Some(name)).await;
    assert_eq!(
        removed.until("ERROR").await["error"]["message"],
        "Framework has been removed"
    );
    assert_eq!(
        master.call(Method::POST, "/api/v1", &teardown).await.0,
        StatusCode::BAD_REQUEST
    );
    master.stop().await;
}

#[tokio::test]
async fn calls_that_are_not_right_are_refused() {
    let master = Running::new(&config()).await;
    let mut stream = subscribe(&master, None).await;
    let framework = stream.next().await.expect("first")["subscribed"]["framework_id"].clone();
    let revive = |id: &Value| json!({"type": "REVIVE", "framework_id": id});
    let own = Some(stream.id.as_str());
    let other = Some("00000000-0000-0000-0000-000000000001");
    for (header, call, status, words) in [
        (None, revive(&framework), 400, "should include"),
        (other, revive(&framework), 400, "didn't match"),
        (own, revive(&json!({"value": "x"})), 400, "cannot be found"),
        (
            own,
            json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x", "user": "x"}}}),
            400,
            "should not",
        ),
        (own, json!({"type": "SING", "framework_id": framework}), 400, "SING"),
        (own, json!({"framework_id": framework}), 400, "type"),
        (
            own,
            json!({"type": "RECONCILE_OPERATIONS", "framework_id": framework}),
            501,
            "not carried out",
        ),
    ] {
        let (code, text) = asked(&master, header, call.clone()).await;
        assert!(code.as_u16() == status && text.contains(words), "{call}: {code} {text}");
    }
    let wrong = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"name": "x", "user": "x", "role": "-a"}}});
    let (code, text) = asked(&master, None, wrong).await;
    assert!(
        code == StatusCode::OK && text.contains("ERROR") && text.contains("'-a'"),
        "{text}"
    );
    let id = stream.id.clone();
    drop(stream);
    // Known, but no longer subscribed.
    let gone = async {
        while asked(&master, Some(&id), revive(&framework)).await.0 != StatusCode::FORBIDDEN {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, gone)
        .await
        .expect("the end of the stream is noticed");
    master.stop().await;
}
