//! Operator calls that change something, and the older read endpoints.

use super::*;

async fn operator(master: &Running, call: Value) -> StatusCode {
    master.call(Method::POST, "/api/v1", &call.to_string()).await.0
}

#[tokio::test]
async fn an_agent_is_emptied_and_taken_back() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let specs = deploy(&master, &mut agent).await;
    let id = json!({"value": agent.id.as_str()});
    let drain = json!({"agent_id": id, "max_grace_period": "1s"});
    let call = json!({"type": "DRAIN_AGENT", "drain_agent": drain});
    assert_eq!(operator(&master, call).await, StatusCode::OK);
    let (_, _, agents) = master.call(Method::POST, "/api/v1", r#"{"type": "GET_AGENTS"}"#).await;
    let shown = &agents["get_agents"]["agents"][0];
    assert_eq!(
        (&shown["deactivated"], &shown["drain_info"]["state"]),
        (&json!(true), &json!("DRAINING"))
    );
    let mut ended = 0;
    for spec in &specs {
        let others = agent.status(spec, TaskState::Killed).await;
        ended += others
            .iter()
            .filter(|one| matches!(one, MasterMessage::Kill { .. }))
            .count();
    }
    assert_eq!(ended, 3);
    let state = master.get("/master/state").await;
    assert_eq!(
        (&state["activated_slaves"], &state["deactivated_slaves"]),
        (&json!(0), &json!(1))
    );
    // There is no other agent: what was ended waits for this one.
    let call = json!({"type": "REACTIVATE_AGENT", "reactivate_agent": {"agent_id": id}});
    assert_eq!(operator(&master, call).await, StatusCode::OK);
    agent.launch().await;
    for wrong in [
        json!({"type": "DRAIN_AGENT"}),
        json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": id, "max_grace_period": "soon"}}),
        json!({"type": "DEACTIVATE_AGENT", "deactivate_agent": {"agent_id": {"value": "nobody"}}}),
        json!({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [{"role": "a", "weight": 0.0}]}}),
    ] {
        assert_eq!(
            operator(&master, wrong.clone()).await,
            StatusCode::BAD_REQUEST,
            "{wrong}"
        );
    }
    let weights = json!({"weight_infos": [{"role": "dev", "weight": 2.5}]});
    let call = json!({"type": "UPDATE_WEIGHTS", "update_weights": weights});
    assert_eq!(operator(&master, call).await, StatusCode::OK);
    let (_, _, told) = master.call(Method::POST, "/api/v1", r#"{"type": "GET_WEIGHTS"}"#).await;
    assert_eq!(told["get_weights"], weights);
    let call = json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": id}});
    assert_eq!(operator(&master, call).await, StatusCode::OK);
    assert_eq!(master.get("/slaves").await["slaves"], json!([]));
    master.stop().await;
}

#[tokio::test]
async fn the_older_read_endpoints_tell_the_same_in_every_spelling() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let specs = deploy(&master, &mut agent).await;
    for path in ["/state", "/state.json", "/master/state", "/master/state.json"] {
        let state = master.get(path).await;
        let task = &state["frameworks"][0]["tasks"][0];
        assert_eq!(task["slave_id"], agent.id.as_str(), "{path}");
        let port = specs
            .iter()
            .find(|spec| task["id"] == spec.task.as_str())
            .map(|spec| spec.host_ports[0]);
        let port = port.expect("a task that was launched");
        assert_eq!(task["resources"]["ports"], format!("[{port}-{port}]"));
        let slave = &state["slaves"][0];
        assert_eq!(slave["resources"]["ports"], "[31000-32000]");
        assert_eq!(
            (&slave["resources"]["cpus"], &slave["attributes"]["rack"]),
            (&json!(4.0), &json!("r1"))
        );
        assert_eq!(state["leader"], format!("master@{}", master.address));
    }
    let summary = master.get("/state-summary").await;
    assert_eq!(summary["slaves"][0]["TASK_RUNNING"], 3);
    assert_eq!(summary["frameworks"][0]["slave_ids"], json!([agent.id.as_str()]));
    assert!(summary["frameworks"][0].get("tasks").is_none());
    let ids = |tasks: &Value| {
        tasks["tasks"]
            .as_array()
            .map(|list| list.iter().map(|one| one["id"].clone()).collect())
    };
    let all: Vec<Value> = ids(&master.get("/tasks?order=asc").await).expect("a list");
    let middle: Vec<Value> = ids(&master.get("/master/tasks.json?limit=1&offset=1&order=asc").await).expect("a list");
    assert_eq!((all.len(), &middle[..]), (3, &all[1..2]));
    assert_eq!(master.get("/roles").await["roles"][0]["name"], "*");
    assert_eq!(master.get("/slaves?slave_id=nobody").await["slaves"], json!([]));
    assert_eq!(master.get("/frameworks").await["frameworks"][0]["name"], "marathon");
    let response = master.send(Method::GET, "/state-summary?jsonp=f", "").await;
    let bytes = response.into_body().collect().await.expect("body").to_bytes();
    assert!(bytes.starts_with(b"f({") && bytes.ends_with(b");"), "{bytes:?}");
    master.stop().await;
}
