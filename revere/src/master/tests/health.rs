//! Results of checks on their way from a node to Marathon's API and to the stream.

use model::{CheckResult, CheckResults};

use super::*;

const BLUE: &str = include_str!("../../../../examples/blue.json");

fn checked(alive: bool, failures: u32, cause: Option<&str>) -> TaskStatus {
    let result = CheckResult {
        alive: Some(alive),
        failures,
        first_success_ms: Some(1_700_000_000_000),
        last_success_ms: None,
        last_failure_ms: cause.map(|_| 1_700_000_001_000),
        cause: cause.map(str::to_owned),
    };
    let mut status = status(TaskState::Running);
    status.healthy = Some(alive);
    // Statuses of one millisecond would be one.
    status.timestamp_ms += 1_000 * (1 + u64::from(failures));
    status.checks = Box::new(CheckResults {
        health: vec![result],
        readiness: Vec::new(),
    });
    status
}

#[tokio::test]
async fn health_goes_from_the_node_to_the_api_and_back_as_a_kill() {
    let master = Running::new(&config()).await;
    let (code, _, body) = master.call(Method::POST, "/v2/apps", BLUE).await;
    assert_eq!(code, StatusCode::CREATED, "{body}");
    let id = body["id"].as_str().expect("an id").to_owned();
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let spec = agent.launch().await;
    assert_eq!(spec.checks.health.len(), 1, "the check goes to the node");
    agent.status(&spec, TaskState::Running).await;
    let app = master.get(&format!("/v2/apps/{id}")).await["app"].clone();
    let counts = |app: &Value| (app["tasksHealthy"].clone(), app["tasksUnhealthy"].clone());
    assert_eq!(counts(&app), (json!(0), json!(0)), "not yet checked");
    assert_eq!(app["healthChecks"][0]["protocol"], "MESOS_HTTP");
    assert_eq!(app["tasks"][0]["healthCheckResults"], json!([]));
    agent.say(&spec, checked(true, 0, None)).await;
    let app = master.get(&format!("/v2/apps/{id}")).await["app"].clone();
    assert_eq!(counts(&app), (json!(1), json!(0)));
    let vips = master.get("/revere/v1/vips").await;
    let orders = agent.say(&spec, checked(false, 3, Some("port 1: refused"))).await;
    let mut kills = orders
        .iter()
        .filter(|order| matches!(order, MasterMessage::Kill { task, .. } if *task == spec.task))
        .count();
    if kills == 0 {
        kills += usize::from(matches!(next(&mut agent.stream).await, MasterMessage::Kill { .. }));
    }
    assert_eq!(kills, 1, "three failures in a row are enough");
    let app = master.get(&format!("/v2/apps/{id}")).await["app"].clone();
    assert_eq!(counts(&app), (json!(0), json!(1)));
    // Its successor may stand before it.
    let mut tasks = app["tasks"].as_array().into_iter().flatten();
    let task = tasks
        .find(|task| task["id"] == spec.task.as_str())
        .expect("still there");
    let result = &task["healthCheckResults"][0];
    assert_eq!(
        (
            &result["alive"],
            &result["consecutiveFailures"],
            &result["lastFailureCause"]
        ),
        (&json!(false), &json!(3), &json!("port 1: refused"))
    );
    assert_eq!(result["lastFailure"], "2023-11-14T22:13:21.000Z");
    assert_ne!(vips, master.get("/revere/v1/vips").await, "it takes no new connections");
    master.stop().await;
}
