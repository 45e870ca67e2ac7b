//! Quotas over HTTP, in every form that clients use.

use super::*;

async fn operator(master: &Running, call: &Value) -> (StatusCode, Value) {
    let (status, _, body) = master.call(Method::POST, "/api/v1", &call.to_string()).await;
    (status, body)
}

async fn quota(master: &Running) -> Value {
    operator(master, &json!({"type": "GET_QUOTA"})).await.1["get_quota"]["status"].clone()
}

#[tokio::test]
async fn quotas_are_set_told_and_removed() {
    let master = Running::new(&config()).await;
    let _agent = Agent::register(&master, None, Vec::new()).await;
    assert_eq!(quota(&master).await, json!({}));
    let update = json!({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [
        {"role": "dev", "guarantees": {"cpus": {"value": 0.5}}, "limits": {"cpus": {"value": 1.0}, "mem": {"value": 64.0}}},
    ]}});
    assert_eq!(operator(&master, &update).await, (StatusCode::OK, Value::Null));
    let told = quota(&master).await;
    assert_eq!(
        told["configs"][0]["limits"],
        json!({"cpus": {"value": 1.0}, "mem": {"value": 64.0}})
    );
    assert_eq!(told["infos"][0]["guarantee"][0]["scalar"]["value"], 0.5);
    let roles = master.get("/roles").await;
    let dev = &roles["roles"][1];
    assert_eq!(
        (&dev["name"], &dev["quota"]["limit"]),
        (&json!("dev"), &json!({"cpus": 1.0, "mem": 64.0}))
    );
    let (_, told) = operator(&master, &json!({"type": "GET_ROLES"})).await;
    assert_eq!(told["get_roles"]["roles"][1]["name"], "dev");

    // The older forms.
    let request = json!({"role": "old", "guarantee": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}]});
    let (status, _, _) = master.call(Method::POST, "/quota", &request.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let again = json!({"type": "SET_QUOTA", "set_quota": {"quota_request": request}});
    assert_eq!(operator(&master, &again).await.0, StatusCode::BAD_REQUEST, "it has one");
    assert_eq!(master.get("/master/quota").await["infos"][1]["role"], "old");
    let (status, _, _) = master.call(Method::DELETE, "/quota/old", "").await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, _) = master.call(Method::DELETE, "/quota/old", "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let remove = json!({"type": "REMOVE_QUOTA", "remove_quota": {"role": "dev"}});
    assert_eq!(operator(&master, &remove).await.0, StatusCode::OK);
    assert_eq!(quota(&master).await, json!({}));

    // Nothing of a list with a fault is taken.
    let half = json!({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": [
        {"role": "dev", "limits": {"cpus": {"value": 1.0}}}, {"role": "*", "limits": {"cpus": {"value": 1.0}}},
    ]}});
    assert_eq!(operator(&master, &half).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(quota(&master).await, json!({}));
    master.stop().await;
}
