//! Reservations and volumes over HTTP, in both forms, and in the offers of their role.

use super::*;

async fn operator(master: &Running, call: &Value) -> StatusCode {
    master.call(Method::POST, "/api/v1", &call.to_string()).await.0
}

fn disk(value: u32) -> Value {
    let by = json!({"type": "DYNAMIC", "role": "db", "principal": "ops"});
    json!({"name": "disk", "type": "SCALAR", "scalar": {"value": value}, "reservations": [by]})
}

fn volume() -> Value {
    let mut volume = disk(10);
    volume["disk"] = json!({"persistence": {"id": "v1"}, "volume": {"container_path": "data", "mode": "RW"}});
    volume
}

#[tokio::test]
async fn operators_reserve_and_create_and_take_it_all_back() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let id = json!({"value": agent.id.as_str()});
    let reserve =
        |value| json!({"type": "RESERVE_RESOURCES", "reserve_resources": {"agent_id": id, "resources": [disk(value)]}});
    assert_eq!(operator(&master, &reserve(64)).await, StatusCode::ACCEPTED);
    assert_eq!(operator(&master, &reserve(4_000_000)).await, StatusCode::CONFLICT);
    let create = json!({"type": "CREATE_VOLUMES", "create_volumes": {"agent_id": id, "volumes": [volume()]}});
    assert_eq!(operator(&master, &create).await, StatusCode::ACCEPTED);
    assert_eq!(operator(&master, &create).await, StatusCode::CONFLICT, "it is there");
    let (_, _, told) = master.call(Method::POST, "/api/v1", r#"{"type": "GET_AGENTS"}"#).await;
    let total = told["get_agents"]["agents"][0]["total_resources"].clone();
    let reserved: Vec<&Value> = total
        .as_array()
        .expect("a list")
        .iter()
        .filter(|one| one["role"] == "db")
        .collect();
    assert_eq!(reserved.len(), 2);
    assert_eq!(reserved[0]["scalar"]["value"], 54.0);
    assert_eq!(reserved[1]["disk"]["persistence"]["id"], "v1");
    let state = master.get("/state").await;
    assert_eq!(state["slaves"][0]["reserved_resources"]["db"]["disk"], 64.0);
    let roles = master.get("/roles").await;
    assert_eq!(roles["roles"][1]["reserved"]["disk"], 64.0);

    // The older form, as a browser or curl sends it.
    let form = |field: &str, list: Value| format!("slaveId={}&{field}={list}", agent.id.as_str());
    let destroy = form("volumes", json!([volume()]));
    let (status, _, _) = master.call(Method::POST, "/master/destroy-volumes", &destroy).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let owner = loop {
        if let MasterMessage::RemoveVolumes(owner) = next(&mut agent.stream).await {
            break owner;
        }
    };
    let unreserve = form("resources", json!([disk(64)]));
    let (status, _, _) = master.call(Method::POST, "/unreserve", &unreserve).await;
    assert_eq!(status, StatusCode::CONFLICT, "the data is not gone yet");
    agent.stream.send(AgentMessage::VolumesGone(owner)).await.expect("sent");
    master
        .until("/state", |state| {
            state["slaves"][0]["reserved_resources"]["db"]["disk"] == 64.0
        })
        .await;
    let gone = async {
        while master.call(Method::POST, "/unreserve", &unreserve).await.0 != StatusCode::ACCEPTED {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, gone)
        .await
        .expect("unreserved in the end");
    assert_eq!(master.get("/state").await["slaves"][0]["reserved_resources"], json!({}));

    for (path, body) in [
        ("/reserve", "resources=[]".to_owned()),
        ("/reserve", form("resources", json!({}))),
        ("/reserve", format!("slaveId=nobody&resources={}", json!([disk(1)]))),
        ("/create-volumes", form("volumes", json!([disk(1)]))),
    ] {
        let (status, _, _) = master.call(Method::POST, path, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {body}");
    }
    master.stop().await;
}
