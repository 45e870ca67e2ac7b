//! Persistent volumes through Marathon's API and the operator API.

use super::*;

const DATABASE: &str = include_str!("../../../../examples/database-with-volume.json");

#[tokio::test]
async fn a_database_is_suspended_found_again_and_wiped() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let (code, _, body) = master.call(Method::POST, "/v2/apps", DATABASE).await;
    assert_eq!(code, StatusCode::CREATED, "{body}");
    let first = agent.launch().await;
    assert_eq!(first.container.persistent[0].size_mb, 100);
    agent.status(&first, TaskState::Running).await;
    let task = master.get("/v2/apps/db/tasks").await["tasks"][0].clone();
    let volume = task["localVolumes"][0].clone();
    assert_eq!(
        (&volume["runSpecId"], &volume["containerPath"]),
        (&json!("/db"), &json!("pgdata"))
    );
    let uuid = volume["uuid"].as_str().expect("text");
    assert_eq!(volume["persistenceId"], format!("db#pgdata#{uuid}"));
    reserved_resources_are_told(&master, uuid).await;

    master.call(Method::PUT, "/v2/apps/db", r#"{"instances": 0}"#).await;
    agent.status(&first, TaskState::Killed).await;
    let waiting = master.get("/v2/apps/db/tasks").await["tasks"][0].clone();
    assert_eq!(
        (&waiting["id"], &waiting["state"]),
        (&task["id"], &json!("TASK_KILLED"))
    );
    assert_eq!(waiting["localVolumes"], task["localVolumes"]);
    let nodes = master.get("/revere/v1/nodes").await;
    assert_eq!(nodes["nodes"][0]["reserved"]["disk_mb"], 100);

    master.call(Method::PUT, "/v2/apps/db", r#"{"instances": 1}"#).await;
    let second = agent.launch().await;
    assert_eq!(second.task.as_str(), first.task.as_str().replace("_app.1", "_app.2"));
    agent.status(&second, TaskState::Running).await;
    let path = format!("/v2/apps/db/tasks/{}?wipe=true&scale=true", second.task);
    let (code, _, body) = master.call(Method::DELETE, &path, "").await;
    assert_eq!(code, StatusCode::OK, "{body}");
    let before = agent.status(&second, TaskState::Killed).await;
    let [MasterMessage::Kill { .. }, MasterMessage::RemoveVolumes(owner)] = &before[..] else {
        panic!("{before:?} instead of an end and of an order to remove the volumes");
    };
    let owner = owner.clone();
    assert!(first.task.as_str().starts_with(&owner.0));
    assert_eq!(master.get("/v2/apps/db/tasks").await, json!({"tasks": []}));
    agent.stream.send(AgentMessage::VolumesGone(owner)).await.expect("sent");
    let free = |nodes: &Value| nodes["nodes"][0]["reserved"]["disk_mb"] == 0;
    master.until("/revere/v1/nodes", free).await;
    master.stop().await;
}

async fn reserved_resources_are_told(master: &Running, uuid: &str) {
    let (_, _, agents) = master.call(Method::POST, "/api/v1", r#"{"type": "GET_AGENTS"}"#).await;
    let total = agents["get_agents"]["agents"][0]["total_resources"].clone();
    let all = total.as_array().expect("a list");
    let volume = all.iter().find(|one| one["disk"].is_object()).expect("a volume");
    assert_eq!(volume["disk"]["persistence"]["id"], format!("db#pgdata#{uuid}"));
    assert_eq!(volume["reservations"][0]["type"], "DYNAMIC");
    let disk = all.iter().filter(|one| one["name"] == "disk");
    let sum: f64 = disk.filter_map(|one| one["scalar"]["value"].as_f64()).sum();
    assert!((sum - 1000.0).abs() < 1e-6, "{total}");
}

#[tokio::test]
async fn volumes_cannot_change_under_an_app() {
    let master = Running::new(&config()).await;
    master.call(Method::POST, "/v2/apps", DATABASE).await;
    let mut larger: Value = serde_json::from_str(DATABASE).expect("JSON");
    larger["container"]["volumes"][0]["persistent"]["size"] = json!(200);
    let (code, _, body) = master
        .call(Method::PUT, "/v2/apps/db?force=true", &larger.to_string())
        .await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["details"][0]["path"], "/", "{body}");
    let told = body["details"][0]["errors"][0].as_str().expect("text");
    assert!(told.starts_with("Persistent volumes can not be changed!"), "{told}");
    master.stop().await;
}
