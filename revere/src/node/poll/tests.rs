//! An agent made of a socket: its state, its silence, its new id.

use std::collections::VecDeque;

use axum::http::StatusCode;
use axum::routing::post;
use model::TaskState;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::mesos::client::Access;

fn agent(id: &str) -> Value {
    json!({"type": "GET_AGENT", "get_agent": {"agent_info": {
        "id": {"value": id}, "hostname": "10.0.0.1", "port": 5051,
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 4.0}}]}}})
}

fn state(tasks: &[(&str, &str)]) -> Value {
    let task = |(id, state): &(&str, &str)| {
        json!({"name": "web", "task_id": {"value": id}, "framework_id": {"value": "F"},
            "agent_id": {"value": "A-S0"}, "state": state, "statuses": [], "discovery": {"visibility": "FRAMEWORK",
            "name": "web", "ports": {"ports": [{"number": 31000, "protocol": "tcp", "labels": {"labels": [
                {"key": "VIP_0", "value": "/web:80"}, {"key": "network-scope", "value": "host"}]}}]}}})
    };
    json!({"type": "GET_STATE", "get_state": {
        "get_frameworks": {"frameworks": [{"framework_info": {"id": {"value": "F"}, "name": "marathon", "user": "root"}}]},
        "get_tasks": {"launched_tasks": tasks.iter().map(task).collect::<Vec<_>>(),
            "terminated_tasks": [task(&("old", "TASK_FINISHED"))]},
        "get_executors": {}}})
}

/// Starts an agent that gives these pairs of answers in turn, the last one again and again; `None` is a 503.
async fn serve(answers: Vec<Option<(Value, Value)>>) -> String {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let route = post(move |body: axum::Json<Value>| {
        let answers = Arc::clone(&answers);
        async move {
            let mut answers = answers.lock();
            let current = answers.front().cloned().expect("never empty");
            let is_state = body["type"] == "GET_STATE";
            if (is_state || current.is_none()) && answers.len() > 1 {
                answers.pop_front();
            }
            let (agent, state) = current.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
            Ok::<_, StatusCode>(axum::Json(if is_state { state } else { agent }))
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let router = axum::Router::new().route("/api/v1", route);
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn next(events: &mut mpsc::Receiver<TaskEvent>) -> TaskEvent {
    timeout(Duration::from_secs(20), events.recv())
        .await
        .expect("in time")
        .expect("running")
}

#[tokio::test]
async fn changes_are_told_once_and_silence_takes_nothing_away() {
    let running = (agent("A-S0"), state(&[("t", "TASK_RUNNING")]));
    let url = serve(vec![
        Some(running.clone()),
        Some(running.clone()),
        None,
        Some((agent("A-S0"), state(&[]))),
        Some((agent("A-S9"), state(&[("t2", "TASK_RUNNING")]))),
    ])
    .await;
    let (sender, mut events) = mpsc::channel(16);
    let status = Arc::new(Status::new());
    let client = Client::new(&Access::default()).expect("no files are named");
    let mut poller = Poller::new(url, client, sender, Arc::clone(&status));
    poller.pause = Duration::from_millis(10);
    let polling = tokio::spawn(poller.run());
    let TaskEvent::Snapshot(first) = next(&mut events).await else {
        panic!("a state comes first");
    };
    assert_eq!(first.tasks.len(), 1, "ended tasks are none");
    assert_eq!(
        (first.tasks[0].status.state, first.frameworks.len()),
        (TaskState::Running, 1)
    );
    assert_eq!(first.agents[0].ip, Some([10, 0, 0, 1].into()));
    // The same again says nothing, and neither does the refusal that follows.
    let TaskEvent::Snapshot(second) = next(&mut events).await else {
        panic!("a state comes next");
    };
    assert!(second.tasks.is_empty());
    assert_eq!(status.metrics.stream_failures.get(), 1);
    assert_eq!(next(&mut events).await, TaskEvent::AgentRemoved(AgentId::new("A-S0")));
    let TaskEvent::Snapshot(third) = next(&mut events).await else {
        panic!("a state comes last");
    };
    assert_eq!(third.agents[0].id.as_str(), "A-S9");
    assert!(status.facts().master_connected);
    polling.abort();
}
