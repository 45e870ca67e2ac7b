//! Maintenance over HTTP, in both forms.

use super::*;

async fn operator(master: &Running, call: &Value) -> (StatusCode, Value) {
    let (status, _, body) = master.call(Method::POST, "/api/v1", &call.to_string()).await;
    (status, body)
}

#[tokio::test]
async fn a_machine_is_planned_taken_out_of_service_and_put_back() {
    let directory = tempfile::tempdir().expect("directory");
    let config = config_in(&directory);
    let master = Running::new(&config).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let specs = deploy(&master, &mut agent).await;
    let machine = json!({"hostname": "10.9.8.7", "ip": "10.9.8.7"});
    let far = json!({"start": {"nanoseconds": 4_000_000_000_000_000_000_u64}});
    let plan = json!({"windows": [{"machine_ids": [machine], "unavailability": far}]});
    let call = json!({"type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule": {"schedule": plan}});
    assert_eq!(operator(&master, &call).await, (StatusCode::OK, Value::Null));
    assert_eq!(master.get("/maintenance/schedule").await, plan);
    let (_, told) = operator(&master, &json!({"type": "GET_MAINTENANCE_SCHEDULE"})).await;
    assert_eq!(told["get_maintenance_schedule"]["schedule"], plan);
    let draining = json!({"draining_machines": [{"id": machine}]});
    assert_eq!(master.get("/maintenance/status").await, draining);

    let start = json!({"type": "START_MAINTENANCE", "start_maintenance": {"machines": [machine]}});
    assert_eq!(operator(&master, &start).await.0, StatusCode::OK);
    assert_eq!(operator(&master, &start).await.0, StatusCode::BAD_REQUEST, "it is down");
    let mut kills = 0;
    while kills < specs.len() {
        kills += usize::from(matches!(next(&mut agent.stream).await, MasterMessage::Kill { .. }));
    }
    let (_, told) = operator(&master, &json!({"type": "GET_MAINTENANCE_STATUS"})).await;
    assert_eq!(
        told["get_maintenance_status"]["status"],
        json!({"down_machines": [machine]})
    );
    master.stop().await;

    // It is out of service for the next master, too.
    let master = Running::new(&config).await;
    assert_eq!(
        master.get("/maintenance/status").await,
        json!({"down_machines": [machine]})
    );
    let body = json!([machine]).to_string();
    assert_eq!(master.call(Method::POST, "/machine/up", &body).await.0, StatusCode::OK);
    assert_eq!(master.get("/master/maintenance/schedule").await, json!({}));
    let (status, _, _) = master.call(Method::POST, "/machine/down", &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "it is not planned");
    master.stop().await;
}
