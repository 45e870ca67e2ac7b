//! How far a change is, why it goes no further, how it ended; and lists that are kept from one request to the next.

use super::*;

async fn progress(master: &Running, reply: &Value) -> Value {
    // The answer to what made an app is the app.
    let id = reply["deploymentId"]
        .as_str()
        .or(reply["deployments"][0]["id"].as_str());
    let id = id.expect("an id");
    master.get(&format!("/revere/v1/deployments/{id}")).await
}

#[tokio::test]
async fn a_change_tells_how_far_it_is_and_how_it_ended() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let app = |cmd: &str, cpus: f64| {
        json!({"id": "/a", "cmd": cmd, "cpus": cpus, "mem": 1, "instances": 2, "labels": {"revere.deadline": "1h"},
            "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0}})
        .to_string()
    };
    let (_, _, reply) = master.call(Method::PUT, "/v2/apps/a", &app("one", 1.0)).await;
    let first = agent.launch().await;
    let second = agent.launch().await;
    agent.status(&first, TaskState::Running).await;
    let state = progress(&master, &reply).await;
    assert_eq!(
        (&state["state"], &state["deadline"]),
        (&json!("under way"), &Value::Null)
    );
    let shown = &state["apps"][0];
    assert_eq!(
        (&shown["wanted"], &shown["ready"], &shown["starting"], &shown["waiting"]),
        (&json!(2), &json!(1), &json!(1), &Value::Null)
    );
    agent.status(&second, TaskState::Running).await;
    assert_eq!(progress(&master, &reply).await["state"], "done");
    // More than the node has: one of the old ones makes room, and that is not enough.
    let (_, _, reply) = master.call(Method::PUT, "/v2/apps/a", &app("two", 3.5)).await;
    let ending = match next(&mut agent.stream).await {
        MasterMessage::Kill { task, .. } => task,
        other => panic!("{other:?} instead of a kill"),
    };
    let old = if first.task == ending { &first } else { &second };
    agent.status(old, TaskState::Killed).await;
    let state = progress(&master, &reply).await;
    assert!(
        state["deadline_in_seconds"]
            .as_u64()
            .is_some_and(|left| (3_000..=3_600).contains(&left))
    );
    let shown = &state["apps"][0];
    assert_eq!((&shown["ready"], &shown["earlier"]), (&json!(0), &json!(1)));
    assert_eq!(shown["waiting"]["refused_by_rule"], json!({"InsufficientCpus": 1}));
    assert_eq!(shown["waiting"]["count"], 2);
    let id = reply["deploymentId"].as_str().expect("an id").to_owned();
    master.call(Method::DELETE, &format!("/v2/deployments/{id}"), "").await;
    let state = progress(&master, &reply).await;
    assert_eq!(state["state"], "given up");
    assert!(
        state["why"].as_str().is_some_and(|why| why.contains("cancelled")),
        "{state}"
    );
    let unknown = master.call(Method::GET, "/revere/v1/deployments/nothing", "").await;
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
    let wrong = app("three", 0.1).replace("1h", "soon");
    let (status, _, refused) = master.call(Method::PUT, "/v2/apps/a?force=true", &wrong).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused["details"][0]["path"], "/labels/revere.deadline");
    master.stop().await;
}

/// Counts and sums of `/state-summary` beside the same taken from `/state`, which is made anew each time.
async fn compare(master: &Running) -> u64 {
    let (kept, state) = (master.get("/state-summary").await, master.get("/state").await);
    let mut tasks = 0;
    assert_eq!(
        kept["slaves"].as_array().map(Vec::len),
        state["slaves"].as_array().map(Vec::len)
    );
    for (short, long) in [("slaves", "slaves"), ("frameworks", "frameworks")] {
        let lists = (kept[short].as_array(), state[long].as_array());
        for (kept, fresh) in lists.0.into_iter().flatten().zip(lists.1.into_iter().flatten()) {
            for key in [
                "id",
                "resources",
                "used_resources",
                "offered_resources",
                "deactivated",
                "active",
            ] {
                assert_eq!(kept[key], fresh[key], "{key} of {short}");
            }
            let running = kept["TASK_RUNNING"].as_u64().expect("a count");
            if let Some(list) = fresh["tasks"].as_array() {
                let fresh = list.iter().filter(|task| task["state"] == "TASK_RUNNING").count();
                assert_eq!(usize::try_from(running).ok(), Some(fresh));
                tasks = running;
            }
        }
    }
    let on_agents = kept["slaves"].as_array().into_iter().flatten();
    let on_agents: u64 = on_agents.filter_map(|slave| slave["TASK_RUNNING"].as_u64()).sum();
    assert_eq!(on_agents, tasks);
    tasks
}

#[tokio::test]
async fn a_summary_that_is_kept_says_what_a_fresh_one_would() {
    let master = Running::new(&config()).await;
    assert_eq!(compare(&master).await, 0);
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    assert_eq!(compare(&master).await, 0);
    let specs = deploy(&master, &mut agent).await;
    assert_eq!(compare(&master).await, 3);
    agent.status(&specs[0], TaskState::Failed).await;
    assert_eq!(compare(&master).await, 2);
    let id = json!({"value": agent.id.as_str()});
    let call = json!({"type": "DEACTIVATE_AGENT", "deactivate_agent": {"agent_id": id}});
    master.call(Method::POST, "/api/v1", &call.to_string()).await;
    assert_eq!(compare(&master).await, 2);
    assert_eq!(master.get("/state-summary").await["slaves"][0]["deactivated"], true);
    let call = json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": id}});
    master.call(Method::POST, "/api/v1", &call.to_string()).await;
    assert_eq!(compare(&master).await, 0);
    assert_eq!(master.get("/state-summary").await["slaves"], json!([]));
    master.stop().await;
}
