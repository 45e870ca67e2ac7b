//! `POST /api/v1` of a node: programs inside running tasks for people, by the calls of Mesos' agent API that DC/OS uses.
//!
//! The name of a task is that of its container. A session lives as long as the connection that launched it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use agent::{MOST_INPUT, Session, SessionError, SessionInput, SessionOutput, SessionSpec, WindowSize};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use data_encoding::BASE64;
use futures_util::{StreamExt as _, stream};
use model::TaskId;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Api;
use crate::recordio::{Decoder, encode};

/// Longest call that is no stream: a command and its environment.
const LONGEST_CALL: usize = 128 * 1024;
/// Longest record of input: a base64 of what is taken at once, and its wrapping.
const LONGEST_RECORD: usize = MOST_INPUT * 2;
/// Sessions that have ended and whose status can still be asked for.
const KEPT: usize = 256;
/// A terminal whose size nobody told.
const USUAL: WindowSize = WindowSize { rows: 24, columns: 80 };

/// What is said where sessions are off, which is the default.
const SWITCHED_OFF: &str = "programs in tasks are switched off on this node: `node.task_sessions = true` in its configuration switches \
    them on, and then whoever reaches this port can run any program in any of its tasks";

type Fault = (StatusCode, String);
/// Task and session.
type Name = (String, String);

/// The sessions of this node.
#[derive(Debug, Default)]
pub(in crate::node) struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    known: BTreeMap<Name, Arc<Known>>,
    /// Those that have ended, oldest first.
    ended: VecDeque<Name>,
}

#[derive(Debug)]
struct Known {
    /// While it runs.
    session: Mutex<Option<Arc<Session>>>,
    /// None while it runs; then its wait status, if it came to one.
    over: watch::Sender<Option<Option<i32>>>,
}

/// The launching connection's hold on a session: with it, the session goes.
struct Held {
    name: Name,
    known: Arc<Known>,
    sessions: Arc<Sessions>,
    status: Option<i32>,
}

impl Sessions {
    /// Takes a name for a session that is about to be launched.
    fn take(self: &Arc<Self>, name: Name) -> Result<Held, Fault> {
        let known = Arc::new(Known {
            session: Mutex::new(None),
            over: watch::Sender::new(None),
        });
        let mut table = self.0.lock();
        if table.known.contains_key(&name) {
            let text = format!("there is a session {} of the task {} already\n", name.1, name.0);
            return Err((StatusCode::CONFLICT, text));
        }
        table.known.insert(name.clone(), Arc::clone(&known));
        Ok(Held {
            name,
            known,
            sessions: Arc::clone(self),
            status: None,
        })
    }
}

impl Held {
    fn end(&mut self, status: i32) {
        self.status = Some(status);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let session = self.known.session.lock().take();
        self.known.over.send_replace(Some(self.status));
        let Some(session) = session else {
            // It never began: there is no status to keep, and the name is free for another try.
            self.sessions.0.lock().known.remove(&self.name);
            return;
        };
        // An input that waits for the program to take it may hold it still.
        session.end();
        let mut table = self.sessions.0.lock();
        table.ended.push_back(self.name.clone());
        while table.ended.len() > KEPT {
            if let Some(oldest) = table.ended.pop_front() {
                table.known.remove(&oldest);
            }
        }
    }
}

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/api/v1", routing::post(call))
}

/// The path in the document of the listener.
pub(super) fn document() -> Value {
    json!({"post": {
        "summary": "A program in a task, by calls of Mesos' agent API: LAUNCH_NESTED_CONTAINER_SESSION, ATTACH_CONTAINER_INPUT, \
            WAIT_NESTED_CONTAINER. 403 without `node.task_sessions = true`",
        "operationId": "postApiV1",
        "requestBody": {"content": {
            "application/json": {"example": {"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": {
                "container_id": {"value": "any name", "parent": {"value": "TASK"}}, "command": {"value": "id"}}}},
            "application/recordio": {},
        }},
        "responses": {
            "200": {"description": "its output as a stream, or how it ended", "content": {
                "application/recordio": {},
                "application/json": {"example": {"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": {"exit_status": 0}}},
            }},
            "403": {"description": "switched off, which is the default", "content": {"text/plain": {}}},
        },
    }})
}

fn wrong(text: impl Into<String>) -> Fault {
    (StatusCode::BAD_REQUEST, format!("{}\n", text.into()))
}

fn named(headers: &HeaderMap, name: impl header::AsHeaderName) -> &str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
}

async fn call(State(api): State<Api>, request: Request) -> Result<Response, Fault> {
    if !api.settings.config.task_sessions {
        return Err((StatusCode::FORBIDDEN, format!("{SWITCHED_OFF}\n")));
    }
    // A page that a browser shows can send neither of these by itself.
    match named(request.headers(), header::CONTENT_TYPE) {
        "application/json" => {}
        "application/recordio" => return input(api, request).await,
        _ => {
            let text = "Expecting 'Content-Type' of application/json, or application/recordio for input\n";
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text.to_owned()));
        }
    }
    let body = to_bytes(request.into_body(), LONGEST_CALL).await;
    let body = body.map_err(|error| wrong(format!("a call of at most {LONGEST_CALL} bytes is expected: {error}")))?;
    let call: Value =
        serde_json::from_slice(&body).map_err(|error| wrong(format!("Failed to parse body into JSON: {error}")))?;
    match call["type"].as_str() {
        Some("LAUNCH_NESTED_CONTAINER_SESSION") => launch(api, &call["launch_nested_container_session"]).await,
        Some("WAIT_NESTED_CONTAINER") => wait(&api, &call["wait_nested_container"]).await,
        Some(other) => {
            let text = format!(
                "a node carries out LAUNCH_NESTED_CONTAINER_SESSION, ATTACH_CONTAINER_INPUT and WAIT_NESTED_CONTAINER, not {other}\n"
            );
            Err((StatusCode::NOT_IMPLEMENTED, text))
        }
        None => Err(wrong("Expecting 'type' to be present")),
    }
}

/// Task and session that a `container_id` names.
fn name(of: &Value) -> Result<Name, Fault> {
    let own = of["container_id"]["value"].as_str();
    let parent = of["container_id"]["parent"]["value"].as_str();
    let (parent, own) = parent.zip(own).ok_or_else(|| {
        wrong("Expecting 'container_id' with the session's name in 'value' and the task's id in 'parent.value'")
    })?;
    Ok((parent.to_owned(), own.to_owned()))
}

fn size(of: &Value) -> Option<WindowSize> {
    let number = |name: &str| u16::try_from(of["window_size"][name].as_u64()?).ok();
    Some(WindowSize {
        rows: number("rows")?,
        columns: number("columns")?,
    })
}

/// The command as Mesos' CommandInfo has it.
fn spec(launch: &Value) -> Result<SessionSpec, Fault> {
    let command = &launch["command"];
    if command["user"].is_string() {
        return Err(wrong("a session runs as its task's user: leave 'command.user' out"));
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let value = text(&command["value"]).ok_or_else(|| wrong("Expecting 'command.value' to be present"))?;
    let argv = if command["shell"].as_bool().unwrap_or(true) {
        vec!["/bin/sh".to_owned(), "-c".to_owned(), value]
    } else {
        // The first of them is the name that the program sees of itself.
        let arguments = command["arguments"].as_array().into_iter().flatten().skip(1);
        let arguments: Option<Vec<String>> = arguments.map(text).collect();
        let arguments = arguments.ok_or_else(|| wrong("'command.arguments' are texts"))?;
        std::iter::once(value).chain(arguments).collect()
    };
    let variables = command["environment"]["variables"].as_array().into_iter().flatten();
    let env: Option<Vec<(String, String)>> = variables
        .map(|one| text(&one["name"]).zip(text(&one["value"])))
        .collect();
    let env = env.ok_or_else(|| wrong("'command.environment.variables' have 'name' and 'value'"))?;
    let bad = |name: &str| name.is_empty() || name.contains(['=', '\0']);
    if argv.iter().any(|word| word.contains('\0')) || env.iter().any(|(name, value)| bad(name) || value.contains('\0'))
    {
        return Err(wrong(
            "no word of a command or its environment holds a zero byte, and no name of a variable a `=`",
        ));
    }
    let tty = &launch["container"]["tty_info"];
    Ok(SessionSpec {
        argv,
        env,
        terminal: tty.is_object().then(|| size(tty).unwrap_or(USUAL)),
    })
}

async fn launch(api: Api, launch: &Value) -> Result<Response, Fault> {
    let name = name(launch)?;
    let spec = spec(launch)?;
    let held = api.sessions.take(name)?;
    let session = api
        .agent
        .open_session(&TaskId::new(&held.name.0), &held.name.1, &spec)
        .await;
    let session = Arc::new(session.map_err(|error| {
        let code = match &error {
            SessionError::NoTask(_) => StatusCode::NOT_FOUND,
            SessionError::Name(_) | SessionError::Command(_) => StatusCode::BAD_REQUEST,
            SessionError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            SessionError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (code, format!("{error}\n"))
    })?);
    tracing::info!(
        task = held.name.0,
        session = held.name.1,
        program = spec.argv.first(),
        "a session in a task"
    );
    *held.known.session.lock() = Some(Arc::clone(&session));
    let records = stream::try_unfold((session, held), |(session, held)| next(session, held));
    let headers = [
        ("content-type", "application/recordio"),
        ("message-content-type", "application/json"),
    ];
    Ok((headers, Body::from_stream(records)).into_response())
}

/// The next record of output; at the end the session's name keeps its status.
async fn next(session: Arc<Session>, mut held: Held) -> std::io::Result<Option<(Bytes, (Arc<Session>, Held))>> {
    let record = match session.next().await? {
        None => return Ok(None),
        Some(SessionOutput::Over(status)) => {
            held.end(status);
            return Ok(None);
        }
        Some(SessionOutput::Out(bytes)) => data("STDOUT", &bytes),
        Some(SessionOutput::Error(bytes)) => data("STDERR", &bytes),
    };
    Ok(Some((record, (session, held))))
}

fn data(kind: &str, bytes: &[u8]) -> Bytes {
    encode(
        json!({"type": "DATA", "data": {"type": kind, "data": BASE64.encode(bytes)}})
            .to_string()
            .as_bytes(),
    )
}

fn known(api: &Api, name: &Name) -> Result<Arc<Known>, Fault> {
    let found = api.sessions.0.lock().known.get(name).cloned();
    found.ok_or_else(|| {
        (
            StatusCode::NOT_FOUND,
            format!("there is no session {} of the task {}\n", name.1, name.0),
        )
    })
}

async fn wait(api: &Api, of: &Value) -> Result<Response, Fault> {
    let known = known(api, &name(of)?)?;
    let mut over = known.over.subscribe();
    // The sender is held here, so that it cannot be gone.
    let status = over.wait_for(Option::is_some).await.map_or(None, |over| over.flatten());
    let told = status.map_or(json!({}), |status| json!({"exit_status": status}));
    Ok(Json(json!({"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": told})).into_response())
}

/// ATTACH_CONTAINER_INPUT: a stream of records, of which the first names the session.
async fn input(api: Api, request: Request) -> Result<Response, Fault> {
    if !matches!(
        named(request.headers(), "message-content-type"),
        "application/json" | ""
    ) {
        let text = "Expecting 'Message-Content-Type' of application/json\n";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text.to_owned()));
    }
    let mut decoder = Decoder::new(LONGEST_RECORD);
    let mut body = request.into_body().into_data_stream();
    let mut session: Option<(Arc<Session>, watch::Receiver<_>)> = None;
    loop {
        while let Some(record) = decoder.next_record().map_err(|error| wrong(error.to_string()))? {
            let record: Value = serde_json::from_slice(&record)
                .map_err(|error| wrong(format!("Failed to parse body into JSON: {error}")))?;
            let attach = &record["attach_container_input"];
            match &mut session {
                None => {
                    let known = known(&api, &name(attach)?)?;
                    let running = known.session.lock().clone();
                    let gone = || (StatusCode::NOT_FOUND, "the session has ended\n".to_owned());
                    session = Some((running.ok_or_else(gone)?, known.over.subscribe()));
                }
                Some((session, over)) => {
                    for part in inputs(&attach["process_io"])? {
                        // One that has ended takes nothing, and that is no fault of who gives.
                        tokio::select! {
                            _ = session.give(part) => {}
                            _ = over.wait_for(Option::is_some) => return Ok(StatusCode::OK.into_response()),
                        }
                    }
                }
            }
        }
        let next = match &mut session {
            Some((_, over)) => tokio::select! {
                next = body.next() => next,
                _ = over.wait_for(Option::is_some) => None,
            },
            None => body.next().await,
        };
        match next {
            Some(Ok(bytes)) => decoder.push(&bytes),
            Some(Err(error)) => return Err(wrong(format!("the input broke off: {error}"))),
            None => return Ok(StatusCode::OK.into_response()),
        }
    }
}

/// A ProcessIO message as input; heartbeats are none.
fn inputs(message: &Value) -> Result<Vec<SessionInput>, Fault> {
    match message["type"].as_str() {
        Some("DATA") if message["data"]["type"] == "STDIN" => {
            let bytes = message["data"]["data"].as_str().map(str::as_bytes).unwrap_or_default();
            let bytes = BASE64
                .decode(bytes)
                .map_err(|error| wrong(format!("'data' is no base64: {error}")))?;
            Ok(vec![if bytes.is_empty() {
                SessionInput::End
            } else {
                SessionInput::Data(bytes)
            }])
        }
        Some("CONTROL") => match message["control"]["type"].as_str() {
            Some("TTY_INFO") => {
                let size = size(&message["control"]["tty_info"]);
                let size = size.ok_or_else(|| wrong("Expecting 'window_size' with 'rows' and 'columns'"))?;
                Ok(vec![SessionInput::Size(size)])
            }
            Some("HEARTBEAT") => Ok(Vec::new()),
            _ => Err(wrong("a control message is TTY_INFO or HEARTBEAT")),
        },
        _ => Err(wrong("input is DATA of STDIN, or CONTROL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_that_failed_leaves_its_name() {
        let sessions = Arc::new(Sessions::default());
        let name = || ("task".to_owned(), "session".to_owned());
        let held = sessions.take(name()).expect("nobody has it");
        assert_eq!(
            sessions.take(name()).map(drop).expect_err("taken").0,
            StatusCode::CONFLICT
        );
        let over = held.known.over.subscribe();
        drop(held);
        assert_eq!(*over.borrow(), Some(None), "who waits for it is told");
        sessions.take(name()).expect("it is free again");
        assert!(
            sessions.0.lock().ended.is_empty(),
            "it takes no place of one that has a status"
        );
    }

    #[test]
    fn commands_are_read_as_mesos_reads_them() {
        let argv = |command: Value| spec(&json!({"command": command})).map(|spec| spec.argv.join(" "));
        assert_eq!(argv(json!({"value": "echo $A"})), Ok("/bin/sh -c echo $A".to_owned()));
        let plain = json!({"shell": false, "value": "/bin/ls", "arguments": ["ls", "-l"]});
        assert_eq!(argv(plain), Ok("/bin/ls -l".to_owned()));
        for bad in [
            json!({}),
            json!({"value": "a", "user": "root"}),
            json!({"value": "a\0b"}),
        ] {
            assert!(argv(bad.clone()).is_err(), "{bad}");
        }
        let with = |tty: Value| spec(&json!({"command": {"value": "a"}, "container": {"tty_info": tty}}));
        let window = json!({"window_size": {"rows": 50, "columns": 100}});
        let size = |tty| {
            with(tty)
                .ok()
                .and_then(|spec| spec.terminal)
                .map(|size| (size.rows, size.columns))
        };
        assert_eq!(size(window), Some((50, 100)));
        assert_eq!(size(json!({})), Some((24, 80)));
        assert_eq!(size(Value::Null), None);
    }

    #[test]
    fn input_is_data_its_end_and_sizes() {
        let data = |text: &str| json!({"type": "DATA", "data": {"type": "STDIN", "data": text}});
        assert_eq!(inputs(&data("aGk=")), Ok(vec![SessionInput::Data(b"hi".to_vec())]));
        assert_eq!(inputs(&data("")), Ok(vec![SessionInput::End]));
        assert!(inputs(&data("?")).is_err());
        let control = |control: Value| inputs(&json!({"type": "CONTROL", "control": control}));
        assert_eq!(control(json!({"type": "HEARTBEAT"})), Ok(Vec::new()));
        let window = json!({"type": "TTY_INFO", "tty_info": {"window_size": {"rows": 9, "columns": 8}}});
        let size = WindowSize { rows: 9, columns: 8 };
        assert_eq!(control(window), Ok(vec![SessionInput::Size(size)]));
        assert!(control(json!({"type": "TTY_INFO"})).is_err());
        assert!(inputs(&json!({"type": "DATA", "data": {"type": "STDOUT", "data": ""}})).is_err());
    }
}
