//! `revere task exec`: a program inside a running task, with this terminal as its own.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use clap::Args;
use data_encoding::BASE64;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Method, Response};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::ClientArgs;
use super::client::{Client, ClientError, within};
use crate::recordio::{Decoder, encode};

/// Bytes of input that are sent at once.
const PART: usize = 16 * 1024;
/// Pieces of input on their way; a program that reads nothing stops the reading here.
const WAITING: usize = 16;
/// Longest record that a node sends.
const LONGEST_RECORD: usize = 1 << 20;
/// Longest wait for a program to start, which takes milliseconds.
const LAUNCH: Duration = Duration::from_secs(30);
/// As shells tell an end by a signal.
const BY_SIGNAL: u8 = 128;

/// `revere task exec`.
#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// Give the program what comes on standard input.
    #[arg(long, short)]
    pub interactive: bool,
    /// Give it a terminal, as large as this one.
    #[arg(long, short)]
    pub tty: bool,
    /// The task's id, as `task list` shows it.
    pub id: String,
    /// Program and arguments, after `--`.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<String>,
    /// The node that runs it; found by itself.
    #[arg(long, value_name = "URL")]
    pub node: Option<String>,
    /// Connection.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// This terminal without what it does to lines and keys; as it was when dropped.
struct Raw(Termios);

impl Raw {
    fn new() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Carries it out; a program that ends in any other way than well is [`ClientError::Ended`].
pub async fn run(args: ExecArgs) -> Result<(), ClientError> {
    let url = match &args.node {
        Some(node) => node.clone(),
        None => super::log::node_of(&args.id, &args.client).await?,
    };
    let node = Client::new(&url)?;
    let session = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let container = json!({"value": session.trim(), "parent": {"value": args.id}});
    let output = launch(&node, &url, &args, &container, LAUNCH).await?;
    let raw = (args.tty && args.interactive && isatty(std::io::stdin()))
        .then(Raw::new)
        .flatten();
    let (sender, records) = mpsc::channel(WAITING);
    let attached = tokio::spawn(attach(node.clone(), container.clone(), records));
    if args.tty {
        tokio::spawn(sizes(sender.clone()));
    }
    if args.interactive {
        // Apart from the runtime, which would wait for the last read when it ends.
        std::thread::spawn(move || read_input(&sender));
    } else {
        let _ = sender.send(process_io(&input(&[]))).await;
    }
    let mut term = signal(SignalKind::terminate())?;
    let shown = tokio::select! {
        shown = show(output) => shown,
        _ = term.recv() => Err(ClientError::Ended(BY_SIGNAL + 15)),
    };
    drop(raw);
    attached.abort();
    shown?;
    ended(&node, &url, &container).await
}

fn spec(args: &ExecArgs, container: &Value) -> Value {
    let mut launch = json!({
        "container_id": container,
        "command": {"shell": false, "value": args.command.first(), "arguments": args.command},
    });
    if args.tty {
        let size = tcgetwinsize(std::io::stdin()).ok().filter(|size| size.ws_row > 0);
        let tty = size.map_or(
            json!({}),
            |size| json!({"window_size": {"rows": size.ws_row, "columns": size.ws_col}}),
        );
        launch["container"] = json!({"type": "MESOS", "tty_info": tty});
        if let Ok(term) = std::env::var("TERM") {
            launch["command"]["environment"] = json!({"variables": [{"name": "TERM", "value": term}]});
        }
    }
    json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": launch})
}

async fn launch(
    node: &Client,
    url: &str,
    args: &ExecArgs,
    container: &Value,
    limit: Duration,
) -> Result<Incoming, ClientError> {
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/recordio"),
        ("message-accept", "application/json"),
    ];
    let body = Full::from(spec(args, container).to_string())
        .map_err(|never| match never {})
        .boxed();
    let opened = within(limit, node.send(Method::POST, "/api/v1", &headers, body)).await;
    judged(opened, url).await.map(Response::into_body)
}

/// The answer if it is a good one; its own words if not.
async fn judged(opened: Result<Response<Incoming>, String>, url: &str) -> Result<Response<Incoming>, ClientError> {
    let unreachable = |cause: String| ClientError::Unreachable {
        url: url.to_owned(),
        cause,
    };
    let response = opened.map_err(unreachable)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let said = response
        .into_body()
        .collect()
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let message = String::from_utf8_lossy(&said.to_bytes()).trim().to_owned();
    Err(ClientError::Refused { status, message })
}

fn process_io(message: &Value) -> Bytes {
    let record = json!({"type": "ATTACH_CONTAINER_INPUT",
        "attach_container_input": {"type": "PROCESS_IO", "process_io": message}});
    encode(record.to_string().as_bytes())
}

fn input(bytes: &[u8]) -> Value {
    json!({"type": "DATA", "data": {"type": "STDIN", "data": BASE64.encode(bytes)}})
}

/// Sends records of input until the program has ended.
async fn attach(node: Client, container: Value, records: mpsc::Receiver<Bytes>) {
    let first = json!({"type": "ATTACH_CONTAINER_INPUT",
        "attach_container_input": {"type": "CONTAINER_ID", "container_id": container}});
    let first = encode(first.to_string().as_bytes());
    let parts = stream::unfold((Some(first), records), |(first, mut records)| async move {
        let bytes = match first {
            Some(first) => first,
            None => records.recv().await?,
        };
        Some((Ok::<_, std::convert::Infallible>(Frame::data(bytes)), (None, records)))
    });
    let body: BoxBody<Bytes, hyper::Error> = StreamBody::new(parts).map_err(|never| match never {}).boxed();
    let headers = [
        ("content-type", "application/recordio"),
        ("message-content-type", "application/json"),
    ];
    // A program that has ended takes none: its output tells.
    let _ = node.send(Method::POST, "/api/v1", &headers, body).await;
}

fn read_input(sender: &mpsc::Sender<Bytes>) {
    let mut part = [0; PART];
    loop {
        let read = match std::io::stdin().lock().read(&mut part) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let record = process_io(&input(part.get(..read).unwrap_or_default()));
        if sender.blocking_send(record).is_err() || read == 0 {
            return;
        }
    }
}

/// Tells each new size of the window.
async fn sizes(sender: mpsc::Sender<Bytes>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return;
    };
    while changes.recv().await.is_some() {
        let Ok(size) = tcgetwinsize(std::io::stdin()) else {
            return;
        };
        let window = json!({"window_size": {"rows": size.ws_row, "columns": size.ws_col}});
        let control = json!({"type": "CONTROL", "control": {"type": "TTY_INFO", "tty_info": window}});
        if sender.send(process_io(&control)).await.is_err() {
            return;
        }
    }
}

/// Writes out what the program writes, until it has ended.
async fn show(mut body: Incoming) -> Result<(), ClientError> {
    let broken = |cause: String| std::io::Error::new(std::io::ErrorKind::ConnectionAborted, cause);
    let mut decoder = Decoder::new(LONGEST_RECORD);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(format!("the connection to the node broke: {error}")))?;
        let Ok(bytes) = frame.into_data() else { continue };
        decoder.push(&bytes);
        while let Some(record) = decoder.next_record().map_err(|error| broken(error.to_string()))? {
            let record: Value = serde_json::from_slice(&record).map_err(|error| broken(error.to_string()))?;
            let data = &record["data"];
            let bytes = BASE64.decode(data["data"].as_str().unwrap_or_default().as_bytes());
            let bytes = bytes.map_err(|error| broken(error.to_string()))?;
            if data["type"] == "STDERR" {
                std::io::stderr().lock().write_all(&bytes)?;
            } else {
                let mut out = std::io::stdout().lock();
                out.write_all(&bytes).and_then(|()| out.flush())?;
            }
        }
    }
    Ok(())
}

async fn ended(node: &Client, url: &str, container: &Value) -> Result<(), ClientError> {
    let call = json!({"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": {"container_id": container}});
    let headers = [("content-type", "application/json")];
    let body = Full::from(call.to_string()).map_err(|never| match never {}).boxed();
    let answer = judged(node.send(Method::POST, "/api/v1", &headers, body).await, url).await?;
    let said = answer
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let said: Value = serde_json::from_slice(&said).map_err(|_| ClientError::Foreign(url.to_owned()))?;
    let status = said["wait_nested_container"]["exit_status"].as_i64();
    match code(status.and_then(|status| i32::try_from(status).ok())) {
        0 => Ok(()),
        code => Err(ClientError::Ended(code)),
    }
}

/// A wait status as a shell tells it.
fn code(status: Option<i32>) -> u8 {
    let Some(status) = status else { return u8::MAX };
    let part = |value: i32| u8::try_from(value & 0xff).unwrap_or(u8::MAX);
    match part(status & 0x7f) {
        0 => part(status >> 8),
        signal => BY_SIGNAL.saturating_add(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_that_never_answers_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let args = ExecArgs {
            interactive: false,
            tty: false,
            id: "task".to_owned(),
            command: vec!["true".to_owned()],
            node: None,
            client: ClientArgs {
                master: url.clone(),
                json: false,
            },
        };
        let node = Client::new(&url).expect("valid");
        let launched = launch(&node, &url, &args, &json!({}), Duration::from_millis(50)).await;
        let told = launched.map(drop).expect_err("nobody answers").to_string();
        assert!(told.contains("no answer within 0.05 s"), "{told}");
    }

    #[test]
    fn ends_are_told_as_a_shell_does() {
        assert_eq!(code(Some(0)), 0);
        assert_eq!(code(Some(3 << 8)), 3);
        assert_eq!(code(Some(9)), 137);
        assert_eq!(code(Some(11 | 0x80)), 139);
        assert_eq!(code(None), 255);
    }
}
