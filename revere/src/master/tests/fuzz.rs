//! Every path of the OpenAPI document with input that nobody sends on purpose: no answer is a server's error.

use super::*;
use crate::master::http::openapi::{Body, OPERATIONS, Operation, document};

/// Requests for each operation. `REVERE_API_FUZZ` gives another number, `REVERE_API_SEED` another seed.
const EACH: u64 = 24;

/// splitmix64: the same requests each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("small");
        usize::try_from(self.next() % bound).expect("small")
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

fn number(name: &str, absent: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(absent)
}

/// Path segments and values of the query, as they are written in a URL.
const WORDS: [&str; 22] = [
    "shop/web",
    "shop",
    "*",
    "%2F",
    "..",
    ".",
    "a//b",
    "%00",
    "%ff",
    "%F0%9F%90%99",
    "versions",
    "restart",
    "tasks",
    "delay",
    "shop/web/versions/2020-01-01T00:00:00.000Z",
    "shop/web/tasks/x",
    "::status",
    "::instances",
    "true",
    "-1",
    "99999999999999999999",
    "apps.tasks",
];

/// A value that is not what a field wants, or is too much of it.
fn odd(dice: &mut Dice) -> Value {
    match dice.below(16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(1e308),
        4 => json!(u64::MAX),
        5 => json!(""),
        6 => json!("x".repeat(5_000)),
        7 => json!([]),
        8 => json!({}),
        9 => json!(["a", 1, null, {"b": []}]),
        10 => json!({"value": {"value": "x"}}),
        11 => json!("(((((((((a+)+)+)+)+)+)+)+)+)$"),
        12 => json!("\u{0}\u{202e}/../../é"),
        13 => json!("a".repeat(63)),
        14 => json!(0.000_000_1),
        _ => (0..60).fold(json!(1), |inner, _| json!([inner])),
    }
}

/// Changes one part of a body, at any depth.
fn mutate(value: &mut Value, dice: &mut Dice) {
    let here = dice.below(4) == 0;
    match value {
        Value::Object(map) if !here && !map.is_empty() => {
            let index = dice.below(map.len());
            match dice.below(8) {
                0 => {
                    let key = map.keys().nth(index).cloned().expect("one of them");
                    map.remove(&key);
                }
                1 => drop(map.insert(format!("unknown{index}"), odd(dice))),
                _ => mutate(map.values_mut().nth(index).expect("one of them"), dice),
            }
        }
        Value::Array(list) if !here && !list.is_empty() => {
            let index = dice.below(list.len());
            match dice.below(6) {
                0 => drop(list.remove(index)),
                1 => list.extend(std::iter::repeat_n(list[index].clone(), 300)),
                _ => mutate(&mut list[index], dice),
            }
        }
        other => *other = odd(dice),
    }
}

/// The calls of the operator API, each of which has a body of its own.
fn call(dice: &mut Dice) -> Value {
    let kinds = [
        "GET_AGENTS",
        "GET_TASKS",
        "GET_ROLES",
        "GET_QUOTA",
        "GET_MAINTENANCE_STATUS",
        "UPDATE_WEIGHTS",
        "TEARDOWN",
        "DRAIN_AGENT",
        "MARK_AGENT_GONE",
        "UPDATE_QUOTA",
        "SET_QUOTA",
        "REMOVE_QUOTA",
        "RESERVE_RESOURCES",
        "DESTROY_VOLUMES",
        "CREATE_VOLUMES",
        "UPDATE_MAINTENANCE_SCHEDULE",
        "START_MAINTENANCE",
        "STOP_MAINTENANCE",
        "GROW_VOLUME",
        "LIST_FILES",
    ];
    let kind = dice.pick(&kinds);
    let id = json!({"value": "S0"});
    let resource = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 1}, "disk": {"persistence": {"id": "v"}},
        "reservations": [{"type": "DYNAMIC", "role": "db"}]});
    let machine = json!({"hostname": "n", "ip": "10.0.0.1"});
    let body = json!({
        "agent_id": id, "framework_id": id, "resources": [resource], "volumes": [resource], "machines": [machine],
        "weight_infos": [{"role": "dev", "weight": 2.0}], "max_grace_period": "1s", "role": "dev", "force": true,
        "quota_configs": [{"role": "dev", "limits": {"cpus": {"value": 1.0}}}],
        "quota_request": {"role": "dev", "guarantee": [resource]},
        "schedule": {"windows": [{"machine_ids": [machine], "unavailability": {"start": {"nanoseconds": 1}}}]},
    });
    json!({"type": kind, (kind.to_lowercase()): body})
}

fn body(operation: &Operation, dice: &mut Dice) -> Vec<u8> {
    let example: Value = match operation.body {
        Body::None | Body::Text => return b"secret".to_vec(),
        Body::Form(example) => {
            let mut bytes = example.as_bytes().to_vec();
            let index = dice.below(bytes.len());
            bytes[index] = u8::try_from(dice.below(256)).expect("a byte");
            return bytes;
        }
        Body::Json(_) if operation.path == "/api/v1" => call(dice),
        Body::Json(example) => serde_json::from_str(example).expect("JSON"),
    };
    let mut value = example;
    for _ in 0..dice.below(4) {
        mutate(&mut value, dice);
    }
    let mut bytes = value.to_string().into_bytes();
    if dice.below(8) == 0 {
        bytes.truncate(dice.below(bytes.len()));
    }
    bytes
}

fn path(operation: &Operation, dice: &mut Dice) -> String {
    let mut path = String::new();
    for piece in operation.path.split('/').skip(1) {
        path.push('/');
        path.push_str(if piece.starts_with('{') {
            dice.pick(&WORDS)
        } else {
            piece
        });
    }
    let pairs: Vec<String> = operation
        .query
        .iter()
        .filter(|_| !dice.0.is_multiple_of(3))
        .map(|name| format!("{name}={}", WORDS[usize::try_from(dice.0 % 22).expect("small")]))
        .collect();
    dice.next();
    if pairs.is_empty() {
        path
    } else {
        format!("{path}?{}", pairs.join("&"))
    }
}

/// The answer's status; streams are not read on.
async fn status_of(master: &Running, operation: &Operation, path: &str, body: Vec<u8>) -> StatusCode {
    let tcp = tokio::net::TcpStream::connect(master.address).await.expect("connected");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .expect("http");
    let running = tokio::spawn(connection);
    let kind = match operation.body {
        Body::Text => "text/plain",
        Body::Form(_) => "application/x-www-form-urlencoded",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(operation.method)
        .uri(path)
        .header("host", "master")
        .header(CONTENT_TYPE, kind)
        .body(Full::new(Bytes::from(body)))
        .expect("a request");
    let answer = tokio::time::timeout(DEADLINE, sender.send_request(request)).await;
    let answer = answer.unwrap_or_else(|_| panic!("{} {path}: no answer in time", operation.method));
    let status = answer
        .unwrap_or_else(|error| panic!("{} {path}: {error}", operation.method))
        .status();
    running.abort();
    status
}

#[tokio::test]
async fn nothing_that_is_sent_is_a_servers_error() {
    let master = Running::new(&config()).await;
    assert_eq!(master.get("/revere/v1/openapi.json").await, document());
    let mut dice = Dice(number("REVERE_API_SEED", 1));
    let mut asked = 0_u64;
    for operation in OPERATIONS {
        for _ in 0..number("REVERE_API_FUZZ", EACH) {
            let (path, body) = (path(operation, &mut dice), body(operation, &mut dice));
            let text = String::from_utf8_lossy(&body).into_owned();
            let status = status_of(&master, operation, &path, body).await;
            let told = operation.answers.contains(&status.as_u16());
            assert!(
                !status.is_server_error() || told,
                "{} {path}: {status}\n{text}",
                operation.method
            );
            asked += 1;
        }
    }
    assert!(asked > 1_000, "{asked}");
    // It works on after all that.
    let fine = r#"{"id": "/fine", "cmd": "x", "instances": 0}"#;
    assert_eq!(master.call(Method::POST, "/v2/apps", fine).await.0, StatusCode::CREATED);
    master.stop().await;
}
