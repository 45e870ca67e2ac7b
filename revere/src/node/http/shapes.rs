//! The three APIs over a real listener: every path of every document answers, in the shapes of the originals.

use std::sync::Arc;
use std::time::Duration;

use model::{NodeView, ServiceTable, VipRange};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::changes::Hub;
use super::view::{Names, View};
use super::{dcos_net, mesos_dns, table};
use crate::mesos::decode::{Message, decode};
use crate::node::status::Status;
use crate::node::table::Picture;

/// A cluster with one service of two tasks, made from a stream so that only the stream's shape is assumed.
pub(crate) struct Cluster {
    table: ServiceTable,
    names: dns::Names,
    zones: watch::Sender<Arc<dns::Zones>>,
    pictures: watch::Sender<Picture>,
    view: View,
}

fn task(number: u8) -> Value {
    json!({"name": "web", "task_id": {"value": format!("web.{number}")}, "framework_id": {"value": "F"},
        "agent_id": {"value": format!("A-S{number}")}, "state": "TASK_RUNNING",
        "resources": [{"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31000}]}}],
        "statuses": [{"state": "TASK_RUNNING", "timestamp": 1.0, "container_status": {"network_infos": [
            {"ip_addresses": [{"ip_address": format!("10.0.0.{number}")}]}]}}],
        "discovery": {"visibility": "FRAMEWORK", "name": "web", "ports": {"ports": [{"number": 31000, "name": "http",
            "protocol": "tcp", "labels": {"labels": [{"key": "VIP_0", "value": "/web:80"},
            {"key": "network-scope", "value": "host"}]}}]}}})
}

fn subscribed() -> Value {
    let agent = |number: u8| json!({"agent_info": {"id": {"value": format!("A-S{number}")}, "hostname": format!("10.0.0.{number}")}});
    json!({"type": "SUBSCRIBED", "subscribed": {"get_state": {
        "get_agents": {"agents": [agent(1), agent(2)]},
        "get_frameworks": {"frameworks": [{"framework_info": {"id": {"value": "F"}, "name": "marathon"}}]},
        "get_tasks": {"tasks": [task(1), task(2)]}}}})
}

fn updated(number: u8, state: &str) -> Value {
    json!({"type": "TASK_UPDATED", "task_updated": {"framework_id": {"value": "F"}, "state": state,
        "status": {"task_id": {"value": format!("web.{number}")}, "state": state, "timestamp": 2.0}}})
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let config = dns::Config {
            upstreams: vec!["192.0.2.53:53".parse().expect("an address")],
            ..dns::Config::default()
        };
        let (zones, seen) = watch::channel(Arc::default());
        let (pictures, shown) = watch::channel(None);
        let hub = Arc::new(Hub::new());
        tokio::spawn(Arc::clone(&hub).run(zones.subscribe()));
        let view = View {
            status: Arc::new(Status::new()),
            pictures: shown,
            names: Some(Names {
                zones: seen,
                config: Arc::new(config.clone()),
                hub,
            }),
            masters: vec!["zk://10.0.0.9:2181".to_owned()],
        };
        let mut cluster = Self {
            table: ServiceTable::new(VipRange::default()),
            names: dns::Names::new(config),
            zones,
            pictures,
            view,
        };
        cluster.hear(&subscribed());
        cluster
    }

    /// Mesos-DNS's API of this cluster, on a port of its own.
    pub(crate) async fn mesos_dns(&self) -> std::net::SocketAddr {
        serve(mesos_dns::routes(self.view.clone())).await
    }

    /// dcos-net's.
    pub(crate) async fn dcos_net(&self) -> std::net::SocketAddr {
        serve(dcos_net::routes(self.view.clone())).await
    }

    fn hear(&mut self, record: &Value) {
        let event = match decode(record.to_string().as_bytes()).expect("a record").message {
            Message::Subscribed(state, _) => model::TaskEvent::Snapshot(state),
            Message::Event(event) => event,
            other => panic!("{other:?}"),
        };
        self.table.apply(event);
        let snapshot = self.table.snapshot();
        let view = NodeView {
            ip: [10, 0, 0, 1].into(),
            agent: None,
        };
        self.zones.send_replace(Arc::new(self.names.update(&snapshot, &view)));
        self.pictures.send_replace(Some(Arc::new(snapshot)));
    }
}

/// Serves a router; gives its address.
async fn serve(router: axum::Router) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

pub(crate) async fn ask(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("open");
    let mut answer = String::new();
    timeout(Duration::from_secs(20), stream.read_to_string(&mut answer))
        .await
        .expect("in time")
        .expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.to_owned()
    };
    (status, body)
}

fn unchunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        out.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    out
}

async fn json_of(address: std::net::SocketAddr, path: &str) -> Value {
    let (status, body) = ask(address, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

#[tokio::test]
async fn mesos_dns_answers_in_its_own_shapes() {
    let cluster = Cluster::new();
    let at = serve(mesos_dns::routes(cluster.view.clone())).await;
    assert_eq!(json_of(at, "/v1/version").await["Service"], "Mesos-DNS");
    let hosts =
        json!([{"host": "web.marathon.mesos.", "ip": "10.0.0.1"}, {"host": "web.marathon.mesos.", "ip": "10.0.0.2"}]);
    for name in [
        "web.marathon.mesos",
        "web.marathon.mesos.",
        "WEB.Marathon.Mesos",
        "web.*.marathon.mesos",
    ] {
        assert_eq!(json_of(at, &format!("/v1/hosts/{name}")).await, hosts, "{name}");
    }
    assert_eq!(
        json_of(at, "/v1/hosts/no.marathon.mesos").await,
        json!([{"host": "", "ip": ""}])
    );
    let services = json_of(at, "/v1/services/_web._tcp.marathon.mesos.").await;
    let first = services[0].as_object().expect("an object");
    assert_eq!(services.as_array().map(Vec::len), Some(2));
    assert_eq!(first["service"], "_web._tcp.marathon.mesos.");
    assert_eq!((&first["port"], &first["ip"]), (&json!("31000"), &json!("10.0.0.1")));
    let host = first["host"].as_str().expect("text");
    assert!(
        host.starts_with("web-") && host.ends_with("-s1.marathon.mesos."),
        "{host}"
    );
    assert_eq!(
        json_of(at, "/v1/services/_no._tcp.marathon.mesos").await,
        json!([{"service": "", "host": "", "ip": "", "port": ""}])
    );
    let (status, text) = ask(at, "/v1/hosts/web.marathon.mesos/ports").await;
    assert_eq!((status, text.as_str()), (501, "To be implemented..."));
    let config = json_of(at, "/v1/config").await;
    assert_eq!(
        (&config["Domain"], &config["RecurseOn"]),
        (&json!("mesos"), &json!(true))
    );
    assert_eq!(config["MesosCredentials"], json!({"Principal": "", "Secret": ""}));
    assert_eq!(config["Masters"], json!(["zk://10.0.0.9:2181"]));
}

#[tokio::test]
async fn mesos_dns_lists_tasks_and_the_zone() {
    let cluster = Cluster::new();
    let at = serve(mesos_dns::routes(cluster.view.clone())).await;
    let listed = json_of(at, "/v1/enumerate").await;
    assert_eq!(listed["frameworks"][0]["name"], "marathon");
    let task = &listed["frameworks"][0]["tasks"][0];
    assert_eq!((&task["name"], &task["id"]), (&json!("web"), &json!("web.1")));
    let records = task["records"].as_array().expect("a list");
    let has =
        |name: &str, host: &str, kind: &str| records.contains(&json!({"name": name, "host": host, "rtype": kind}));
    assert!(has("web.marathon.mesos.", "10.0.0.1", "A"), "{task}");
    assert!(!has("web.marathon.mesos.", "10.0.0.2", "A"), "the other task's: {task}");
    let srv = records
        .iter()
        .find(|one| one["name"] == "_http._web._tcp.marathon.mesos.")
        .expect("by port name");
    assert!(
        srv["host"].as_str().is_some_and(|host| host.ends_with(".mesos.:31000")),
        "{srv}"
    );

    let zone = json_of(at, "/v1/axfr").await;
    let mut keys: Vec<&str> = zone
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        ["Domain", "Mname", "Records", "RefreshSeconds", "Rname", "Serial", "TTL"]
    );
    assert_eq!(
        zone["Records"]["As"]["web.marathon.mesos."],
        json!(["10.0.0.1", "10.0.0.2"])
    );
    assert_eq!(
        zone["Records"]["SRVs"]["_web._tcp.marathon.mesos."]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    assert!(
        zone["Records"]["As"]
            .as_object()
            .is_some_and(|names| !names.keys().any(|name| name.contains("l4lb")))
    );
}

#[tokio::test]
async fn dcos_net_answers_in_its_own_shapes() {
    let mut cluster = Cluster::new();
    let at = serve(dcos_net::routes(cluster.view.clone())).await;
    assert_eq!(
        json_of(at, "/v1/vips").await,
        json!([{"vip": "web.marathon.l4lb.thisdcos.directory:80", "protocol": "tcp",
            "backend": [{"ip": "10.0.0.1", "port": 31000}, {"ip": "10.0.0.2", "port": 31000}]}])
    );
    let nodes = json_of(at, "/v1/nodes").await;
    assert_eq!(
        (&nodes[1]["private_ip"], &nodes[1]["public_ips"]),
        (&json!("10.0.0.2"), &json!([]))
    );
    assert!(
        nodes[1]["updated"].as_str().is_some_and(|text| text.ends_with('Z')),
        "{nodes}"
    );
    assert_eq!(json_of(at, "/v1/hosts/nothing.mesos").await, json!([]));
    assert_eq!(
        json_of(at, "/v1/services/_web._tcp.marathon.mesos").await[0]["port"],
        31000
    );
    let records = json_of(at, "/v1/records").await;
    let records = records.as_array().expect("a list");
    assert!(records.contains(&json!({"name": "web.marathon.mesos", "host": "10.0.0.2", "rtype": "A"})));
    assert!(
        records
            .iter()
            .all(|one| ["A", "AAAA", "SRV"].contains(&one["rtype"].as_str().unwrap_or_default()))
    );
    let (status, text) = ask(at, "/v1/metrics/l4lb").await;
    assert_eq!(
        (status, text.as_str()),
        (200, "# TYPE vips gauge\nvips 1\n# TYPE backends gauge\nbackends 2\n")
    );
    assert_eq!(ask(at, "/v1/metrics/none").await.0, 404);
    assert_eq!(ask(at, "/lashup/key").await.0, 404, "it gave a secret key away");
    cluster.hear(&updated(1, "TASK_KILLED"));
    assert_eq!(
        json_of(at, "/v1/hosts/web.marathon.mesos").await,
        json!([{"host": "web.marathon.mesos", "ip": "10.0.0.2"}])
    );
}

#[tokio::test]
async fn every_path_of_every_document_answers() {
    let cluster = Cluster::new();
    for router in [
        mesos_dns::routes(cluster.view.clone()),
        dcos_net::routes(cluster.view.clone()),
    ] {
        let at = serve(router).await;
        let document = json_of(at, "/v1/openapi.json").await;
        let paths = document["paths"].as_object().expect("paths");
        assert!(paths.len() >= 8, "{paths:?}");
        for (path, operations) in paths {
            let told = operations["get"]["responses"]
                .as_object()
                .expect("answers")
                .keys()
                .next()
                .expect("one")
                .clone();
            let real = path
                .replace("{host}", "web.marathon.mesos")
                .replace("{service}", "_web._tcp.marathon.mesos");
            let real = real.replace("{registry}", "dns");
            if path.ends_with("/watch") {
                continue;
            }
            let (status, body) = ask(at, &real).await;
            assert_eq!(status.to_string(), told, "{path}");
            // The answer has the fields that the document shows.
            if let Some(example) = operations["get"]["responses"]["200"]["content"]["application/json"].get("example") {
                let body: Value = serde_json::from_str(&body).expect("JSON");
                assert!(resembles(&body, example), "{path}: {body} is not like {example}");
            }
        }
    }
    // The node's own listener: the paths of its router are those of the document by the same tables.
    let own = super::document();
    for path in [
        "/health",
        "/metrics",
        "/revere/v1/node",
        "/v1/vips",
        "/v1/records/watch",
        "/v1/openapi.json",
    ] {
        assert!(own["paths"].get(path).is_some(), "{path}");
    }
    let sessions = &own["paths"]["/api/v1"]["post"]["responses"];
    assert!(sessions.get("403").is_some(), "refused unless switched on: {sessions}");
    let names = table::document("t", dcos_net::SHARED);
    assert!(
        names["paths"]
            .as_object()
            .is_some_and(|paths| paths.keys().all(|path| own["paths"].get(path).is_some()))
    );
}

/// Whether a value has every field of an example, all the way down.
fn resembles(value: &Value, example: &Value) -> bool {
    match (value, example) {
        (Value::Object(value), Value::Object(example)) => example.iter().all(|(name, wanted)| {
            value.get(name).is_some_and(|held| resembles(held, wanted)) || name.ends_with("mesos.")
        }),
        (Value::Array(value), Value::Array(example)) => match (value.first(), example.first()) {
            (Some(value), Some(example)) => resembles(value, example),
            _ => true,
        },
        (value, example) => std::mem::discriminant(value) == std::mem::discriminant(example),
    }
}

/// One reader of the watch.
struct Reader {
    stream: TcpStream,
    text: String,
}

impl Reader {
    async fn new(at: std::net::SocketAddr, query: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(at).await.expect("listening");
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request = format!("GET /v1/records/watch{query} HTTP/1.0\r\nHost: node\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.expect("open");
        let mut reader = Self {
            stream,
            text: String::new(),
        };
        let head = reader.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.0 200"), "{head}");
        reader
    }

    async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.text.find(end) {
                let rest = self.text.split_off(at + end.len());
                return std::mem::replace(&mut self.text, rest);
            }
            let mut bytes = [0; 4096];
            let read = timeout(Duration::from_secs(20), self.stream.read(&mut bytes))
                .await
                .expect("in time");
            let count = read.expect("readable");
            assert!(count > 0, "the stream ended after {:?}", self.text);
            self.text.push_str(std::str::from_utf8(&bytes[..count]).expect("ASCII"));
        }
    }

    /// The next event: name, id, data.
    async fn event(&mut self) -> (String, Option<String>, Value) {
        let text = self.until("\n\n").await;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start().to_owned())
        };
        let data = serde_json::from_str(&field("data:").expect("data")).expect("JSON");
        (field("event:").expect("a name"), field("id:"), data)
    }
}

#[tokio::test]
async fn a_watch_tells_everything_once_then_changes_and_resumes() {
    let mut cluster = Cluster::new();
    let at = serve(dcos_net::routes(cluster.view.clone())).await;
    let mut reader = Reader::new(at, "?under=web.marathon.mesos", None).await;
    let (kind, id, data) = reader.event().await;
    assert_eq!((kind.as_str(), &data["last"]), ("snapshot", &json!(true)));
    assert_eq!(data["records"].as_array().map(Vec::len), Some(2), "{data}");
    let id = id.expect("the last piece has an id");
    cluster.hear(&updated(1, "TASK_KILLED"));
    let gone = json!([{"name": "web.marathon.mesos", "host": "10.0.0.1", "rtype": "A"}]);
    let (kind, newer, data) = reader.event().await;
    assert_eq!(
        (kind.as_str(), &data["removed"], &data["added"]),
        ("change", &gone, &json!([]))
    );
    // Whoever knows the state before is told the change only; whoever knows all, what comes next.
    let mut back = Reader::new(at, "?under=web.marathon.mesos", Some(&id)).await;
    assert_eq!(back.event().await, ("change".to_owned(), newer.clone(), data));
    let mut known = Reader::new(at, &format!("?since={}", newer.expect("an id")), None).await;
    cluster.hear(&json!({"type": "TASK_ADDED", "task_added": {"task": task(1)}}));
    let (kind, _, data) = known.event().await;
    assert_eq!((kind.as_str(), &data["removed"]), ("change", &json!([])));
    assert!(
        data["added"].as_array().is_some_and(|added| added.contains(&gone[0])),
        "{data}"
    );
    // Ids of another process begin anew.
    let (kind, ..) = Reader::new(at, "", Some("deadbeef-1")).await.event().await;
    assert_eq!(kind, "snapshot");
}

#[tokio::test]
async fn a_slow_reader_is_dropped_alone() {
    let mut cluster = Cluster::new();
    let at = serve(dcos_net::routes(cluster.view.clone())).await;
    let mut slow = Reader::new(at, "", None).await;
    let mut quick = Reader::new(at, "?under=web.marathon.mesos", None).await;
    assert_eq!(quick.event().await.0, "snapshot");
    // Neither reads: the connection's buffers fill, then the bounded queue. One of both goes on in time.
    let mut told = 0;
    for round in 0..6000 {
        cluster.hear(&updated(
            1,
            if round % 2 == 0 { "TASK_KILLING" } else { "TASK_RUNNING" },
        ));
        // Lets the hub see every version by itself.
        tokio::task::yield_now().await;
        if round % 64 == 63 {
            while timeout(Duration::from_millis(20), quick.event())
                .await
                .is_ok_and(|(kind, ..)| kind == "change")
            {
                told += 1;
            }
        }
    }
    assert!(told > 0);
    let last = loop {
        let (kind, ..) = slow.event().await;
        if kind == "dropped" {
            break kind;
        }
    };
    assert_eq!(last, "dropped");
    cluster.hear(&updated(2, "TASK_KILLED"));
    while !quick.event().await.2["removed"].to_string().contains("10.0.0.2") {}
}
