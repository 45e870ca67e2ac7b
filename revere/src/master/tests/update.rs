//! Updates of a running app over HTTP.

use super::*;

async fn put(master: &Running, query: &str, body: &str) -> Value {
    let path = format!("/v2/apps/my-service{query}");
    let (code, _, body) = master.call(Method::PUT, &path, body).await;
    assert_eq!(code, StatusCode::OK, "{body}");
    body
}

/// Each new instance that runs lets an old one go; then nothing is left of the change.
async fn roll(master: &Running, agent: &mut Agent, old: &[LaunchSpec]) -> Vec<LaunchSpec> {
    let mut new = Vec::new();
    for _ in old {
        new.push(agent.launch().await);
    }
    let deployment = &master.get("/v2/deployments").await[0];
    assert_eq!(deployment["steps"][0]["actions"][0]["action"], "RestartApplication");
    for spec in &new {
        agent.status(spec, TaskState::Running).await;
    }
    for spec in old {
        agent.status(spec, TaskState::Killed).await;
    }
    assert_eq!(master.get("/v2/deployments").await, json!([]));
    new
}

#[tokio::test]
async fn a_running_app_is_updated_restarted_and_returned() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let first = deploy(&master, &mut agent).await;
    let before = master.get("/v2/apps/my-service").await["app"].clone();

    // Written fields replace; the rest, the VIP's label among it, stays.
    put(&master, "", r#"{"env": {"COLOUR": "green"}, "upgradeStrategy": null}"#).await;
    let second = roll(&master, &mut agent, &first).await;
    assert!(
        second
            .iter()
            .all(|spec| spec.env["COLOUR"] == "green" && spec.command == first[0].command)
    );
    let after = master.get("/v2/apps/my-service").await["app"].clone();
    assert_eq!(after["portDefinitions"], before["portDefinitions"]);
    assert_eq!(after["versionInfo"]["lastConfigChangeAt"], after["version"]);

    let (code, _, body) = master.call(Method::POST, "/v2/apps/my-service/restart", "").await;
    assert!(code == StatusCode::OK && body["deploymentId"].is_string(), "{body}");
    let third = roll(&master, &mut agent, &second).await;

    let versions = master.get("/v2/apps/my-service/versions").await["versions"].clone();
    assert_eq!(versions.as_array().map(Vec::len), Some(3));
    assert_eq!(versions[2], before["version"]);
    let old = master
        .get(&format!(
            "/v2/apps/my-service/versions/{}",
            versions[2].as_str().expect("text")
        ))
        .await;
    assert_eq!((&old["env"], &old["id"]), (&before["env"], &json!("/my-service")));
    put(&master, "", &json!({"version": versions[2]}).to_string()).await;
    let fourth = roll(&master, &mut agent, &third).await;
    assert!(fourth.iter().all(|spec| !spec.env.contains_key("COLOUR")));

    // A client that sends back what it read changes nothing.
    let read = master.get("/v2/apps/my-service").await["app"].clone();
    put(&master, "", &read.to_string()).await;
    let again = master.get("/v2/apps/my-service").await["app"].clone();
    assert_eq!(
        again["versionInfo"]["lastConfigChangeAt"],
        read["versionInfo"]["lastConfigChangeAt"]
    );
    assert_eq!(master.get("/v2/deployments").await, json!([]));

    let (code, _, _) = master.call(Method::PATCH, "/v2/apps/none", r#"{"cmd": "x"}"#).await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    master.stop().await;
}

#[tokio::test]
async fn earlier_versions_survive_a_restart_of_the_master() {
    let dir = tempfile::tempdir().expect("directory");
    let config = config_in(&dir);
    let master = Running::new(&config).await;
    assert_eq!(
        master.call(Method::POST, "/v2/apps", NAMED_VIP).await.0,
        StatusCode::CREATED
    );
    put(&master, "?force=true", r#"{"cmd": "two"}"#).await;
    let versions = master.get("/v2/apps/my-service/versions").await;
    master.stop().await;
    let master = Running::new(&config).await;
    assert_eq!(master.get("/v2/apps/my-service/versions").await, versions);
    put(
        &master,
        "?force=true",
        &json!({"version": versions["versions"][1]}).to_string(),
    )
    .await;
    assert_ne!(master.get("/v2/apps/my-service").await["app"]["cmd"], "two");
    master.stop().await;
}

#[tokio::test]
async fn wrong_updates_are_refused_at_their_paths() {
    let master = Running::new(&config()).await;
    assert_eq!(
        master.call(Method::POST, "/v2/apps", NAMED_VIP).await.0,
        StatusCode::CREATED
    );
    for (sent, wanted) in [
        (r#"{"cpus": -1}"#, "/cpus"),
        (
            r#"{"healthChecks": [{"protocol": "UDP"}]}"#,
            "/healthChecks(0)/protocol",
        ),
        ("{}", "/"),
        (r#"{"version": 7}"#, "/version"),
        (r#"{"instances": "two"}"#, "/instances"),
    ] {
        let (code, _, body) = master.call(Method::PUT, "/v2/apps/my-service?force=true", sent).await;
        assert_eq!(
            (code, &body["details"][0]["path"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!(wanted)),
            "{body}"
        );
    }
    let (code, _, body) = master
        .call(
            Method::PUT,
            "/v2/apps/my-service?force=true",
            r#"{"version": "2001-01-01T00:00:00.000Z"}"#,
        )
        .await;
    assert!(
        code == StatusCode::NOT_FOUND && body["message"].as_str().is_some_and(|text| text.contains("/versions")),
        "{body}"
    );
    master.stop().await;
}
