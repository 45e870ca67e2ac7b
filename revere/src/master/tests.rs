//! HTTP and agents against a master in this process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use model::{AgentId, LaunchSpec, Resources, TaskState, TaskStatus};
use scheduler::{Registration, ReportedTask};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Config, Master, StoreKind, start};
use crate::mesos::client::{Access, Client};
use crate::mesos::decode::{Encoding, decode, decode_protobuf};
use crate::recordio;
use crate::wire::{self, AgentMessage, AgentStream, MasterMessage};

const NAMED_VIP: &str = include_str!("../../../examples/named-vip.json");
const DEADLINE: Duration = Duration::from_secs(20);

fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".to_owned(),
        marathon_listen: String::new(),
        store: StoreKind::Memory,
        drain_ms: 0,
        ..Config::default()
    }
}

/// The same with its memory in a file there.
fn config_in(directory: &tempfile::TempDir) -> Config {
    Config {
        store: StoreKind::File,
        state_dir: directory.path().display().to_string(),
        ..config()
    }
}

struct Running {
    master: Master,
    address: SocketAddr,
    shutdown: CancellationToken,
}

impl Running {
    async fn new(config: &Config) -> Self {
        let shutdown = CancellationToken::new();
        let master = start(config, shutdown.clone()).await.expect("starts");
        let address = master.addresses[0];
        Self {
            master,
            address,
            shutdown,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.master.wait().await.expect("ends well");
    }

    async fn send(&self, method: Method, path: &str, body: &str) -> hyper::Response<hyper::body::Incoming> {
        let tcp = tokio::net::TcpStream::connect(self.address).await.expect("connected");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
            .await
            .expect("http");
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "master")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))
            .expect("request");
        sender.send_request(request).await.expect("answer")
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> (StatusCode, HeaderMap, Value) {
        let response = self.send(method, path, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("body").to_bytes();
        (
            parts.status,
            parts.headers,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, "").await.2
    }

    /// Asks until `done` holds.
    async fn until(&self, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        let asking = async {
            loop {
                let value = self.get(path).await;
                if done(&value) {
                    return value;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, asking).await.expect("never came true")
    }
}

/// An agent that runs nothing and says what it is told to.
struct Agent {
    stream: AgentStream,
    id: AgentId,
    sequence: u64,
}

impl Agent {
    async fn register(master: &Running, id: Option<AgentId>, tasks: Vec<ReportedTask>) -> Self {
        let mut stream = wire::connect(&format!("http://{}", master.address))
            .await
            .expect("connected");
        let registration = Registration {
            agent: id,
            hostname: "10.9.8.7".to_owned(),
            ip: Ipv4Addr::new(10, 9, 8, 7),
            http_port: 5051,
            resources: Resources {
                cpus_milli: 4000,
                mem_mb: 4096,
                disk_mb: 1000,
            },
            ports: vec![(31000, 32000)],
            attributes: [("rack".to_owned(), "r1".to_owned())].into(),
            domain: scheduler::Domain::default(),
            taken: Vec::new(),
            tasks,
        };
        stream
            .send(AgentMessage::Register(Box::new(registration)))
            .await
            .expect("sent");
        match next(&mut stream).await {
            MasterMessage::Registered(registered) => {
                assert_eq!(registered.subnet.expect("subnet").prefix(), 24);
                Self {
                    stream,
                    id: registered.agent,
                    sequence: 0,
                }
            }
            other => panic!("{other:?} instead of an answer to the registration"),
        }
    }

    async fn launch(&mut self) -> LaunchSpec {
        match next(&mut self.stream).await {
            MasterMessage::Launch(spec) => *spec,
            other => panic!("{other:?} instead of a launch"),
        }
    }

    async fn status(&mut self, spec: &LaunchSpec, state: TaskState) -> Vec<MasterMessage> {
        self.say(spec, status(state)).await
    }

    async fn say(&mut self, spec: &LaunchSpec, status: TaskStatus) -> Vec<MasterMessage> {
        self.sequence += 1;
        let message = AgentMessage::Status {
            sequence: self.sequence,
            task: spec.task.clone(),
            status,
        };
        self.stream.send(message).await.expect("sent");
        let mut others = Vec::new();
        loop {
            match next(&mut self.stream).await {
                MasterMessage::Ack { sequence } if sequence == self.sequence => return others,
                other => others.push(other),
            }
        }
    }
}

fn status(state: TaskState) -> TaskStatus {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    TaskStatus {
        state,
        reason: None,
        healthy: None,
        addresses: vec![Ipv4Addr::new(10, 9, 8, 7).into()],
        message: None,
        checks: Default::default(),
        timestamp_ms: u64::try_from(now.as_millis()).expect("fits"),
    }
}

/// The next message that is no heartbeat.
async fn next(stream: &mut AgentStream) -> MasterMessage {
    let reading = async {
        loop {
            match stream.next().await.expect("open").expect("message") {
                MasterMessage::Heartbeat => {}
                message => return message,
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("a message")
}

async fn deploy(master: &Running, agent: &mut Agent) -> Vec<LaunchSpec> {
    assert_eq!(
        master.call(Method::POST, "/v2/apps", NAMED_VIP).await.0,
        StatusCode::CREATED
    );
    let mut specs = Vec::new();
    for _ in 0..3 {
        specs.push(agent.launch().await);
    }
    for spec in &specs {
        agent.status(spec, TaskState::Running).await;
    }
    specs
}

mod bad_input;
mod events;
mod frameworks;
mod fuzz;
mod groups;
mod health;
mod holdings;
mod lead;
mod maintenance;
mod operator;
mod pods;
mod progress;
mod quota;
mod secrets;
mod stuck;
mod update;
mod volumes;

#[tokio::test]
async fn an_app_goes_the_whole_way() {
    let master = Running::new(&config()).await;
    let (code, headers, body) = master.call(Method::POST, "/v2/apps", NAMED_VIP).await;
    assert_eq!(
        (code, headers["location"].to_str().expect("text")),
        (StatusCode::CREATED, "/v2/apps/my-service")
    );
    assert_eq!(
        headers["marathon-deployment-id"].to_str().ok(),
        body["deployments"][0]["id"].as_str()
    );
    assert_eq!(
        (&body["id"], &body["tasksRunning"], &body["tasks"]),
        (&json!("/my-service"), &json!(0), &json!([]))
    );
    let queue = master.get("/v2/queue").await;
    assert_eq!(
        (&queue["queue"][0]["count"], &queue["queue"][0]["app"]["id"]),
        (&json!(3), &json!("/my-service"))
    );

    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let mut specs = Vec::new();
    for _ in 0..3 {
        specs.push(agent.launch().await);
    }
    assert_eq!(
        master.get("/v2/deployments").await[0]["affectedApps"],
        json!(["/my-service"])
    );
    for spec in &specs {
        agent.status(spec, TaskState::Running).await;
    }
    assert_eq!(master.get("/v2/deployments").await, json!([]));
    let app = master.get("/v2/apps//my-service").await["app"].clone();
    assert_eq!(
        (&app["tasksRunning"], app["tasks"].as_array().map(Vec::len)),
        (&json!(3), Some(3))
    );
    assert_eq!(app["tasks"][0]["host"], "10.9.8.7");
    assert_eq!(app["portDefinitions"][0]["labels"]["VIP_0"], "/my-service:5555");
    let vips = master.get("/revere/v1/vips").await;
    assert_eq!(vips["vips"][0]["name"], "my-service.marathon.l4lb.thisdcos.directory");
    assert_eq!(vips["vips"][0]["backends"].as_array().map(Vec::len), Some(3));

    let (code, headers, body) = master
        .call(Method::PUT, "/v2/apps/my-service?force=True", r#"{"instances": 4}"#)
        .await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(
        headers["marathon-deployment-id"].to_str().ok(),
        body["deploymentId"].as_str()
    );
    let fourth = agent.launch().await;
    agent.status(&fourth, TaskState::Running).await;

    let (code, _, body) = master.call(Method::DELETE, "/v2/apps/my-service", "").await;
    assert!(code == StatusCode::OK && body["version"].is_string(), "{body}");
    let mut ended = 0;
    for spec in specs.iter().chain([&fourth]) {
        let others = agent.status(spec, TaskState::Killed).await;
        ended += others
            .iter()
            .filter(|message| matches!(message, MasterMessage::Kill { .. }))
            .count();
    }
    assert_eq!(ended, 4);
    assert_eq!(master.get("/v2/apps").await, json!({"apps": []}));
    assert_eq!(master.get("/v2/deployments").await, json!([]));
    master.stop().await;
}

#[tokio::test]
async fn bad_input_gets_marathons_refusals() {
    let master = Running::new(&config()).await;
    let post = |body: &'static str| master.call(Method::POST, "/v2/apps", body);
    let (code, headers, body) = post("{\"id\":").await;
    assert_eq!(
        (code, &body["message"]),
        (StatusCode::BAD_REQUEST, &json!("Invalid JSON"))
    );
    assert_eq!(headers["content-type"], "application/json");
    let (code, headers, body) = post(r#"{"id": "/a", "cpus": "1", "mem": []}"#).await;
    assert_eq!(
        (code, &body["message"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("Object is not valid"))
    );
    assert_eq!(headers["content-type"], "application/json");
    let paths: Vec<&str> = body["details"]
        .as_array()
        .expect("list")
        .iter()
        .filter_map(|d| d["path"].as_str())
        .collect();
    assert_eq!(paths, ["/cpus", "/mem"]);
    let (code, _, body) = post(r#"{"id": "/A_b", "cmd": "x", "instances": -1}"#).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        body["details"].to_string().contains("/instances") && body["details"].to_string().contains("/id"),
        "{body}"
    );
    let (code, _, body) = post(r#"{"id": "/g", "cmd": "x", "gpus": 1}"#).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        body["details"].to_string().contains("gpus is not carried out"),
        "{body}"
    );

    let (code, _, body) = master.call(Method::GET, "/v2/apps/none", "").await;
    assert_eq!(
        (code, body),
        (StatusCode::NOT_FOUND, json!({"message": "App '/none' does not exist"}))
    );
    for (method, path, sent) in [
        (Method::PUT, "/v2/apps/none", r#"{"instances": 1}"#),
        (Method::DELETE, "/v2/apps/none", ""),
        (Method::GET, "/v2/apps/none/tasks", ""),
        (Method::DELETE, "/v2/apps/none/tasks/x", ""),
    ] {
        assert_eq!(
            master.call(method.clone(), path, sent).await.0,
            StatusCode::NOT_FOUND,
            "{method} {path}"
        );
    }
    assert_eq!(post(NAMED_VIP).await.0, StatusCode::CREATED);
    let (code, _, body) = post(NAMED_VIP).await;
    assert_eq!(
        (code, &body["message"]),
        (
            StatusCode::CONFLICT,
            &json!("An app with id [/my-service] already exists.")
        )
    );
    let (code, _, body) = master
        .call(Method::PUT, "/v2/apps/my-service", r#"{"instances": 1, "cmd": "y"}"#)
        .await;
    assert_eq!(
        (code, body["deployments"].as_array().map(Vec::len)),
        (StatusCode::CONFLICT, Some(1)),
        "the first deployment has no agent to run on: {body}"
    );
    master.stop().await;
}

/// What never reaches an app's rules is refused in JSON too: clients parse every answer of `/v2`.
#[tokio::test]
async fn refusals_of_any_kind_are_json() {
    let master = Running::new(&config()).await;
    let huge = format!(r#"{{"id": "/a", "cmd": "{}"}}"#, "x".repeat(3 << 20));
    for (method, path, sent, wanted) in [
        (Method::POST, "/v2/apps", huge.as_str(), StatusCode::PAYLOAD_TOO_LARGE),
        (Method::POST, "/v2/apps", "", StatusCode::BAD_REQUEST),
        (Method::POST, "/v2/apps", "[]", StatusCode::UNPROCESSABLE_ENTITY),
        (Method::GET, "/v2/apps/%ff", "", StatusCode::BAD_REQUEST),
        (Method::DELETE, "/v2/apps", "", StatusCode::METHOD_NOT_ALLOWED),
        (Method::PUT, "/v2/apps", "{}", StatusCode::UNPROCESSABLE_ENTITY),
        (Method::GET, "/v2/apps?label=a%20b", "", StatusCode::BAD_REQUEST),
        (Method::GET, "/v2/events", "", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/v2/groups/none", "", StatusCode::NOT_FOUND),
        (Method::GET, "/v2/groups/%ff", "", StatusCode::BAD_REQUEST),
        (Method::POST, "/v2/groups", "{}", StatusCode::UNPROCESSABLE_ENTITY),
        (Method::DELETE, "/v2/deployments/none", "", StatusCode::NOT_FOUND),
        (Method::DELETE, "/v2/queue/none/delay", "", StatusCode::NOT_FOUND),
        (Method::POST, "/v2/tasks/delete", "{}", StatusCode::UNPROCESSABLE_ENTITY),
        (Method::GET, "/revere/v1/backup", "", StatusCode::SERVICE_UNAVAILABLE),
        (Method::GET, "/revere/v1/tasks/none/why", "", StatusCode::NOT_FOUND),
        (Method::GET, "/", "", StatusCode::NOT_FOUND),
    ] {
        let (code, headers, body) = master.call(method.clone(), path, sent).await;
        assert_eq!(code, wanted, "{method} {path}");
        assert_eq!(headers["content-type"], "application/json", "{method} {path}");
        assert!(body["message"].is_string(), "{method} {path}: {body}");
    }
    master.stop().await;
}

#[tokio::test]
async fn the_other_paths_answer() {
    let master = Running::new(&config()).await;
    let agent = Agent::register(&master, None, Vec::new()).await;
    assert_eq!(master.send(Method::GET, "/ping", "").await.status(), StatusCode::OK);
    assert_eq!(master.get("/health").await, json!({"healthy": true}));
    assert_eq!(master.get("/v2/leader").await, json!({"leader": "master"}));
    assert_eq!(master.get("/v2/info").await["name"], "marathon");
    let nodes = master.get("/revere/v1/nodes").await;
    assert_eq!(
        (&nodes["nodes"][0]["id"], &nodes["nodes"][0]["connected"]),
        (&json!(agent.id.as_str()), &json!(true))
    );
    let (code, headers, _) = master.call(Method::GET, "/metrics", "").await;
    assert_eq!(code, StatusCode::OK);
    assert!(
        headers["content-type"]
            .to_str()
            .expect("text")
            .starts_with("application/openmetrics-text")
    );
    let operator = |body: &'static str| master.call(Method::POST, "/api/v1/operator", body);
    assert_eq!(
        operator(r#"{"type":"GET_HEALTH"}"#).await.2,
        json!({"type": "GET_HEALTH", "get_health": {"healthy": true}})
    );
    let agents = operator(r#"{"type":"GET_AGENTS"}"#).await.2;
    assert_eq!(agents["get_agents"]["agents"][0]["agent_info"]["hostname"], "10.9.8.7");
    assert_eq!(operator(r#"{"type":"GET_FLAGS"}"#).await.0, StatusCode::NOT_IMPLEMENTED);
    assert_eq!(operator(r#"{"type":"NONSENSE"}"#).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(operator("{").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(
        master.call(Method::GET, "/revere/v1/agent", "").await.0,
        StatusCode::UPGRADE_REQUIRED
    );
    drop(agent);
    master
        .until("/revere/v1/nodes", |nodes| nodes["nodes"][0]["connected"] == false)
        .await;
    master.stop().await;
}

/// Reads records from a stream that is cut at every byte.
struct Records {
    body: hyper::body::Incoming,
    decoder: recordio::Decoder,
    waiting: std::collections::VecDeque<Value>,
}

impl Records {
    async fn next(&mut self) -> Value {
        loop {
            if let Some(value) = self.waiting.pop_front() {
                return value;
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame())
                .await
                .expect("a record")
                .expect("open");
            for byte in frame.expect("frame").into_data().expect("data") {
                self.decoder.push(&[byte]);
                while let Some(record) = self.decoder.next_record().expect("RecordIO") {
                    self.waiting.push_back(serde_json::from_slice(&record).expect("JSON"));
                }
            }
        }
    }
}

/// A subscriber in protobuf beside one in JSON.
struct Twin {
    body: hyper::body::Incoming,
    decoder: recordio::Decoder,
}

impl Twin {
    async fn subscribe(master: &Running) -> Self {
        let access = Access {
            encoding: Encoding::Protobuf,
            ..Access::default()
        };
        let client = Client::new(&access).expect("no files are named");
        let url = format!("http://{}", master.address);
        let stream = client.subscribe(&url).await.expect("a stream");
        assert_eq!(stream.encoding, Encoding::Protobuf);
        Self {
            body: stream.body,
            decoder: recordio::Decoder::new(1 << 20),
        }
    }

    /// The next record means what `json` means.
    async fn says_too(&mut self, json: &Value) {
        let record = loop {
            if let Some(record) = self.decoder.next_record().expect("RecordIO") {
                break record;
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame())
                .await
                .expect("in time");
            let data = frame.expect("open").expect("readable").into_data().expect("data");
            self.decoder.push(&data);
        };
        let expected = decode(json.to_string().as_bytes()).expect("readable");
        assert_eq!(decode_protobuf(&record).expect("readable"), expected);
    }
}

#[tokio::test]
async fn subscribers_hear_everything_in_order() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let response = master.send(Method::POST, "/api/v1", r#"{"type":"SUBSCRIBE"}"#).await;
    assert_eq!(
        (response.status(), &response.headers()[CONTENT_TYPE]),
        (StatusCode::OK, &"application/json".parse().expect("value"))
    );
    let mut records = Records {
        body: response.into_body(),
        decoder: recordio::Decoder::new(1 << 20),
        waiting: Default::default(),
    };
    let mut twin = Twin::subscribe(&master).await;
    let first = records.next().await;
    twin.says_too(&first).await;
    assert_eq!(
        (&first["type"], &first["subscribed"]["heartbeat_interval_seconds"]),
        (&json!("SUBSCRIBED"), &json!(15.0))
    );
    let state = &first["subscribed"]["get_state"];
    assert_eq!(
        state["get_frameworks"]["frameworks"][0]["framework_info"]["name"],
        "marathon"
    );
    let info = &state["get_agents"]["agents"][0]["agent_info"];
    assert!(info["attributes"].to_string().contains("overlay_subnet"), "{info}");
    assert_eq!(records.next().await, json!({"type": "HEARTBEAT"}));
    twin.says_too(&json!({"type": "HEARTBEAT"})).await;

    let specs = deploy(&master, &mut agent).await;
    for _ in 0..3 {
        let added = records.next().await;
        twin.says_too(&added).await;
        assert_eq!(added["type"], "TASK_ADDED", "{added}");
        let task = &added["task_added"]["task"];
        assert_eq!(
            (&task["name"], &task["state"]),
            (&json!("my-service"), &json!("TASK_STAGING"))
        );
        assert_eq!(
            task["discovery"]["ports"]["ports"][0]["labels"]["labels"][0],
            json!({"key": "VIP_0", "value": "/my-service:5555"})
        );
    }
    for spec in &specs {
        let updated = records.next().await;
        twin.says_too(&updated).await;
        assert_eq!(updated["type"], "TASK_UPDATED", "{updated}");
        let status = &updated["task_updated"]["status"];
        assert_eq!(
            (&status["task_id"]["value"], &status["state"]),
            (&json!(spec.task.as_str()), &json!("TASK_RUNNING"))
        );
        assert_eq!(
            status["container_status"]["network_infos"][0]["ip_addresses"][0]["ip_address"],
            "10.9.8.7"
        );
    }
    master.shutdown.cancel();
    let end = tokio::time::timeout(DEADLINE, records.body.frame())
        .await
        .expect("the stream ends");
    assert!(end.is_none_or(|frame| frame.is_err()));
}

#[tokio::test]
async fn a_restarted_master_goes_on() {
    let dir = tempfile::tempdir().expect("directory");
    let config = config_in(&dir);
    let master = Running::new(&config).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let specs = deploy(&master, &mut agent).await;
    let second = start(&config, CancellationToken::new())
        .await
        .expect_err("the store is in use")
        .to_string();
    assert!(second.contains("is in use"), "{second}");
    master.stop().await;

    let master = Running::new(&config).await;
    assert_eq!(master.get("/v2/apps/my-service").await["app"]["instances"], 3);
    let tasks = specs
        .iter()
        .map(|spec| ReportedTask {
            spec: spec.clone(),
            status: status(TaskState::Running),
        })
        .collect();
    let again = Agent::register(&master, Some(agent.id.clone()), tasks).await;
    assert_eq!(again.id, agent.id);
    let app = master
        .until("/v2/apps/my-service", |app| app["app"]["tasksRunning"] == 3)
        .await;
    let known: Vec<&str> = app["app"]["tasks"]
        .as_array()
        .expect("list")
        .iter()
        .filter_map(|task| task["id"].as_str())
        .collect();
    assert!(
        specs.iter().all(|spec| known.contains(&spec.task.as_str())),
        "{known:?}"
    );
    master.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_one_sentence() {
    let nonsense = Config {
        listen: "nonsense".to_owned(),
        ..config()
    };
    let error = start(&nonsense, CancellationToken::new()).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "master.listen = `nonsense` is wrong: write address:port"
    );
    let master = Running::new(&config()).await;
    let taken = Config {
        listen: master.address.to_string(),
        ..config()
    };
    let error = start(&taken, CancellationToken::new())
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        error.starts_with(&format!("cannot listen on master.listen = {}", master.address)),
        "{error}"
    );
    master.stop().await;
}
