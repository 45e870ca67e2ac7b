//! Bad input, one kind after the other: refused whole, with a path, and nothing is slow.

use super::*;

async fn post(master: &Running, app: &Value) -> (StatusCode, Value) {
    let (status, _, body) = master.call(Method::POST, "/v2/apps", &app.to_string()).await;
    (status, body)
}

fn paths(body: &Value) -> Vec<String> {
    let details = body["details"].as_array().cloned().unwrap_or_default();
    details
        .iter()
        .filter_map(|one| one["path"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused_and_not_kept() {
    let master = Running::new(&config()).await;
    let huge = json!({"id": "/huge", "cmd": "x".repeat(3 * 1024 * 1024)});
    let (status, body) = post(&master, &huge).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        body["message"].as_str().is_some_and(|text| text.contains("2 MiB")),
        "{body}"
    );
    // Nested so deeply that a parser without a bound would run out of stack.
    let deep = format!("{}1{}", "[".repeat(200_000), "]".repeat(200_000));
    let (status, _, _) = master.call(Method::POST, "/v2/apps", &deep).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(master.get("/v2/apps").await, json!({"apps": []}));
    master.stop().await;
}

#[tokio::test]
async fn deep_groups_and_circles_are_told_with_their_paths() {
    let master = Running::new(&config()).await;
    let deep = (0..20).fold(
        json!({"id": "last", "apps": [{"id": "web", "cmd": "x", "cpus": -1}]}),
        |inner, level| json!({"id": format!("g{level}"), "groups": [inner]}),
    );
    let (status, _, body) = master
        .call(
            Method::PUT,
            "/v2/groups",
            &json!({"id": "/", "groups": [deep]}).to_string(),
        )
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let path = format!("{}/apps(0)/cpus", "/groups(0)".repeat(21));
    assert_eq!(paths(&body), [path], "{body}");
    let app = |id: &str, on: &str| json!({"id": id, "cmd": "x", "dependencies": [on]});
    let circle = json!({"id": "/", "apps": [app("a", "/b"), app("b", "/c"), app("c", "/a")]});
    let (status, _, body) = master.call(Method::PUT, "/v2/groups", &circle.to_string()).await;
    assert_eq!(
        (status, paths(&body)),
        (StatusCode::UNPROCESSABLE_ENTITY, vec!["/dependencies".to_owned()])
    );
    let (status, body) = post(&master, &app("/alone", "/alone")).await;
    assert_eq!(
        (status, paths(&body)),
        (StatusCode::UNPROCESSABLE_ENTITY, vec!["/dependencies".to_owned()])
    );
    assert_eq!(master.get("/v2/apps").await, json!({"apps": []}));
    master.stop().await;
}

#[tokio::test]
async fn ten_thousand_constraints_and_exploding_patterns_stop_nobody() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let with = |id: &str, constraints: Value| json!({"id": id, "cmd": "x", "cpus": 0.1, "constraints": constraints, "portDefinitions": []});
    let many: Vec<Value> = (0..10_000)
        .map(|number| json!(["rack", "UNLIKE", format!("x{number}")]))
        .collect();
    let (status, body) = post(&master, &with("/many", json!(many))).await;
    assert_eq!(
        (status, paths(&body)),
        (StatusCode::UNPROCESSABLE_ENTITY, vec!["/constraints".to_owned()])
    );
    let (status, _) = post(&master, &with("/hundred", json!(many[..100]))).await;
    assert_eq!(status, StatusCode::CREATED);
    agent.launch().await;
    let wrong: Vec<Value> = (0..100).map(|_| json!(["rack", "NONSENSE"])).collect();
    let (status, body) = post(&master, &with("/wrong", json!(wrong))).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(paths(&body)[0], "/constraints(0)", "{:?}", paths(&body).first());
    // Java's engine would still be at it.
    let (status, _) = post(&master, &with("/slow", json!([["rack", "UNLIKE", "(((r+)+)+)+!"]]))).await;
    assert_eq!(status, StatusCode::CREATED);
    agent.launch().await;
    for pattern in ["(", "a{1000}{1000}{1000}", r"(?<=a)b"] {
        let (status, body) = post(&master, &with("/pattern", json!([["rack", "LIKE", pattern]]))).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{pattern}: {body}");
    }
    master.stop().await;
}

#[tokio::test]
async fn ids_at_their_limits_nulls_and_unknown_fields() {
    let master = Running::new(&config()).await;
    let label = "a".repeat(63);
    for (id, taken) in [
        (format!("/{label}"), true),
        ("/a-b.c-d".to_owned(), true),
        ("//double//slash".to_owned(), true),
        ("/-a".to_owned(), false),
        ("/A".to_owned(), false),
        ("/a_b".to_owned(), false),
        ("/x/restart".to_owned(), false),
        ("/".to_owned(), false),
        (String::new(), false),
        (format!("/{}", "a/".repeat(50_000)), false),
    ] {
        let (status, body) = post(&master, &json!({"id": id, "cmd": "x", "instances": 0})).await;
        let short: String = id.chars().take(80).collect();
        if taken {
            assert_eq!(status, StatusCode::CREATED, "{short}: {body}");
        } else {
            assert_eq!(
                (status, paths(&body)),
                (StatusCode::UNPROCESSABLE_ENTITY, vec!["/id".to_owned()]),
                "{short}: {body}"
            );
        }
    }
    let fields = [
        "args",
        "acceptedResourceRoles",
        "backoffFactor",
        "backoffSeconds",
        "constraints",
        "container",
        "cpus",
        "dependencies",
        "disk",
        "env",
        "executor",
        "fetch",
        "gpus",
        "healthChecks",
        "instances",
        "ipAddress",
        "labels",
        "maxLaunchDelaySeconds",
        "mem",
        "networks",
        "portDefinitions",
        "ports",
        "readinessChecks",
        "requirePorts",
        "residency",
        "secrets",
        "storeUrls",
        "taskKillGracePeriodSeconds",
        "unreachableStrategy",
        "upgradeStrategy",
        "uris",
        "user",
        "version",
        "versionInfo",
    ];
    let mut all_null = json!({"id": "/null", "cmd": "x", "somethingElse": {"deep": [1]}});
    for field in fields {
        all_null[field] = Value::Null;
    }
    let (status, body) = post(&master, &all_null).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    assert_eq!(body["cpus"], 1.0);
    master.stop().await;
}

#[tokio::test]
async fn a_wrong_type_is_told_with_its_path() {
    let master = Running::new(&config()).await;
    for (field, value, path) in [
        ("cpus", json!("1"), "/cpus"),
        ("mem", json!([]), "/mem"),
        ("instances", json!(1.5), "/instances"),
        ("instances", json!(true), "/instances"),
        ("cmd", json!(7), "/cmd"),
        ("args", json!("x"), "/args"),
        ("env", json!([]), "/env"),
        ("env", json!({"A": {}}), "/env(A)"),
        ("labels", json!({"a": {}}), "/labels(a)"),
        ("constraints", json!("hostname"), "/constraints"),
        ("portDefinitions", json!({}), "/portDefinitions"),
        ("portDefinitions", json!([{"port": "x"}]), "/portDefinitions(0)/port"),
        ("healthChecks", json!([7]), "/healthChecks"),
        ("container", json!([]), "/container"),
        ("networks", json!(["host"]), "/networks"),
        ("upgradeStrategy", json!("fast"), "/upgradeStrategy"),
        ("dependencies", json!([1]), "/dependencies"),
        ("fetch", json!([1]), "/fetch"),
    ] {
        let mut app = json!({"id": "/typed", "cmd": "x"});
        app[field] = value.clone();
        let (status, body) = post(&master, &app).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{field} {value}: {body}");
        assert!(
            paths(&body).iter().any(|told| told.starts_with(path)),
            "{field} {value}: {body}"
        );
    }
    assert_eq!(master.get("/v2/apps").await, json!({"apps": []}));
    master.stop().await;
}
