//! Pods over HTTP: from a user's file to containers on an agent, and what is told of them.

use super::*;

const POD: &str = include_str!("../../../../examples/pod.json");

async fn orders(agent: &mut Agent) -> Vec<LaunchSpec> {
    match next(&mut agent.stream).await {
        MasterMessage::LaunchPod(specs) => specs,
        other => panic!("{other:?} instead of the launch of a pod"),
    }
}

/// The example, for an agent without a disk.
fn pod() -> Value {
    let mut pod: Value = serde_json::from_str(POD).expect("json");
    pod["executorResources"]["disk"] = json!(0);
    pod
}

async fn deployed(master: &Running, agent: &mut Agent) -> Vec<Vec<LaunchSpec>> {
    let (code, headers, body) = master.call(Method::POST, "/v2/pods", &pod().to_string()).await;
    assert_eq!(code, StatusCode::CREATED, "{body}");
    assert_eq!(headers["location"], "/v2/pods/three-in-one");
    let open = master.get("/v2/deployments").await;
    assert_eq!(open[0]["id"].as_str(), headers["marathon-deployment-id"].to_str().ok());
    assert_eq!(open[0]["affectedPods"], json!(["/three-in-one"]));
    assert_eq!(open[0]["affectedApps"], json!([]));
    assert_eq!(
        (
            &open[0]["currentActions"][0]["action"],
            &open[0]["currentActions"][0]["pod"]
        ),
        (&json!("ScalePod"), &json!("/three-in-one"))
    );
    let instances = vec![orders(agent).await, orders(agent).await];
    for spec in instances.iter().flatten() {
        agent.status(spec, TaskState::Running).await;
    }
    assert_eq!(master.get("/v2/deployments").await, json!([]));
    instances
}

#[tokio::test]
async fn the_example_runs_and_reads_back_with_the_same_meaning() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let instances = deployed(&master, &mut agent).await;
    let names: Vec<&str> = instances[0]
        .iter()
        .map(|spec| spec.env["MARATHON_CONTAINER_ID"].as_str())
        .collect();
    assert_eq!(names, ["web", "side-a", "side-b"]);
    let web = &instances[0][0];
    assert_eq!(web.env["ENDPOINT_WEB"], web.host_ports[0].to_string());

    let shown = master.get("/v2/pods/three-in-one").await;
    let (mut sent, mut back) = (pod(), shown.clone());
    back.as_object_mut().expect("an object").remove("version");
    // What the user left out or wrote in an older way.
    sent["scaling"]
        .as_object_mut()
        .expect("an object")
        .remove("maxInstances");
    sent["scheduling"]["killSelection"] = json!("YOUNGEST_FIRST");
    assert_contains(&back, &sent, "");
    let (code, _, again) = master
        .call(Method::PUT, "/v2/pods/three-in-one", &shown.to_string())
        .await;
    assert_eq!(code, StatusCode::OK, "{again}");
    for one in [&shown, &again] {
        assert!(one["version"].is_string());
    }
    let same = |mut one: Value| {
        one.as_object_mut().expect("an object").remove("version");
        one
    };
    assert_eq!(same(again), same(shown), "its own form changes nothing");
    master.stop().await;
}

/// Everything in `part` is in `whole`, with the same value.
fn assert_contains(whole: &Value, part: &Value, path: &str) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (key, value) in part {
                let there = whole.get(key).unwrap_or_else(|| panic!("{path}/{key} is missing"));
                assert_contains(there, value, &format!("{path}/{key}"));
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            assert_eq!(whole.len(), part.len(), "{path}");
            for (index, (whole, part)) in whole.iter().zip(part).enumerate() {
                assert_contains(whole, part, &format!("{path}({index})"));
            }
        }
        (Value::Number(whole), Value::Number(part)) => assert_eq!(whole.as_f64(), part.as_f64(), "{path}"),
        (whole, part) => assert_eq!(whole, part, "{path}"),
    }
}

#[tokio::test]
async fn statuses_tell_instances_and_containers() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let instances = deployed(&master, &mut agent).await;
    let status = master.get("/v2/pods/three-in-one::status").await;
    assert_eq!(
        (&status["status"], &status["spec"]["id"]),
        (&json!("STABLE"), &json!("/three-in-one"))
    );
    let listed = status["instances"].as_array().expect("a list");
    assert_eq!(listed.len(), 2);
    let first = listed
        .iter()
        .find(|one| {
            instances[0][0]
                .pod
                .as_ref()
                .is_some_and(|part| one["id"] == part.instance.as_str())
        })
        .expect("is there");
    assert_eq!(
        (&first["status"], &first["agentHostname"]),
        (&json!("STABLE"), &json!("10.9.8.7"))
    );
    let web = &first["containers"][0];
    assert_eq!(
        (
            &web["name"],
            &web["status"],
            &web["containerId"],
            &web["endpoints"][0]["allocatedHostPort"]
        ),
        (
            &json!("web"),
            &json!("TASK_RUNNING"),
            &json!(instances[0][0].task.as_str()),
            &json!(instances[0][0].host_ports[0])
        )
    );
    for path in ["/v2/pods/::status", "/v2/pods::status"] {
        assert_eq!(master.get(path).await[0]["id"], "/three-in-one", "{path}");
    }
    let tree = master.get("/v2/groups").await;
    assert_eq!(
        (&tree["pods"][0]["id"], &tree["apps"]),
        (&json!("/three-in-one"), &json!([]))
    );
    let versions = master.get("/v2/pods/three-in-one::versions").await;
    assert_eq!(versions.as_array().map(Vec::len), Some(1));
    master.stop().await;
}

#[tokio::test]
async fn a_pod_is_no_app_and_its_id_is_taken() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    deployed(&master, &mut agent).await;
    assert_eq!(master.get("/v2/apps").await["apps"], json!([]));
    for (method, path, body, wanted) in [
        (Method::GET, "/v2/apps/three-in-one", "", StatusCode::NOT_FOUND),
        (Method::DELETE, "/v2/apps/three-in-one", "", StatusCode::NOT_FOUND),
        (
            Method::POST,
            "/v2/apps",
            r#"{"id":"/three-in-one","cmd":"x"}"#,
            StatusCode::CONFLICT,
        ),
        (Method::POST, "/v2/pods", POD, StatusCode::CONFLICT),
        (Method::HEAD, "/v2/pods", "", StatusCode::OK),
        (Method::GET, "/v2/pods/none", "", StatusCode::NOT_FOUND),
        (Method::GET, "/v2/pods/none::status", "", StatusCode::NOT_FOUND),
        (Method::DELETE, "/v2/pods/none", "", StatusCode::NOT_FOUND),
        (Method::PUT, "/v2/pods/other", POD, StatusCode::UNPROCESSABLE_ENTITY),
        (
            Method::POST,
            "/v2/pods",
            r#"{"id":"/x","containers":[]}"#,
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            Method::POST,
            "/v2/pods/three-in-one",
            "",
            StatusCode::METHOD_NOT_ALLOWED,
        ),
    ] {
        let (code, _, answer) = master.call(method.clone(), path, body).await;
        assert_eq!(code, wanted, "{method} {path}: {answer}");
    }
    master.stop().await;
}

#[tokio::test]
async fn an_instance_ends_whole_and_a_removed_pod_is_told_until_it_is_gone() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let instances = deployed(&master, &mut agent).await;
    let name = instances[0][0].pod.as_ref().expect("a part").instance.clone();
    let path = format!("/v2/pods/three-in-one::instances/{name}");
    let (code, _, body) = master.call(Method::DELETE, &path, "").await;
    assert_eq!((code, &body["id"]), (StatusCode::OK, &json!(name)));
    let mut ended = Vec::new();
    let mut replaced = Vec::new();
    while ended.len() < 3 || replaced.is_empty() {
        match next(&mut agent.stream).await {
            MasterMessage::Kill { task, .. } => ended.push(task),
            MasterMessage::LaunchPod(specs) => replaced = specs,
            other => panic!("{other:?}"),
        }
    }
    let wanted: Vec<_> = instances[0].iter().map(|spec| spec.task.clone()).collect();
    assert_eq!(ended, wanted);
    for spec in &instances[0] {
        agent.status(spec, TaskState::Killed).await;
    }
    for spec in &replaced {
        agent.status(spec, TaskState::Running).await;
    }
    let (code, headers, _) = master.call(Method::DELETE, "/v2/pods/three-in-one", "").await;
    assert_eq!(code, StatusCode::ACCEPTED);
    assert!(headers.contains_key("marathon-deployment-id"));
    let going = master.get("/v2/pods/three-in-one::status").await;
    assert_eq!(
        (&going["status"], &going["instances"][0]["status"]),
        (&json!("TERMINAL"), &json!("TERMINAL"))
    );
    for spec in replaced.iter().chain(&instances[1]) {
        agent.status(spec, TaskState::Killed).await;
    }
    let gone = master.until("/v2/deployments", |open| *open == json!([])).await;
    assert_eq!(gone, json!([]));
    let (code, _, body) = master.call(Method::GET, "/v2/pods/three-in-one::status", "").await;
    assert_eq!(
        (code, &body["message"]),
        (StatusCode::NOT_FOUND, &json!("Pod '/three-in-one' does not exist"))
    );
    master.stop().await;
}

#[tokio::test]
async fn groups_hold_pods_and_each_list_replaces_its_own_kind() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let mut inner = pod();
    inner["id"] = json!("p");
    inner["scaling"]["instances"] = json!(1);
    let group =
        json!({"apps": [{"id": "a", "cmd": "x", "cpus": 0.1, "mem": 16, "portDefinitions": []}], "pods": [inner]});
    let (code, _, body) = master.call(Method::PUT, "/v2/groups/g", &group.to_string()).await;
    assert_eq!(code, StatusCode::OK, "{body}");
    let mut seen = 0;
    while seen < 2 {
        match next(&mut agent.stream).await {
            MasterMessage::Launch(spec) => drop(agent.status(&spec, TaskState::Running).await),
            MasterMessage::LaunchPod(specs) => {
                for spec in &specs {
                    agent.status(spec, TaskState::Running).await;
                }
            }
            other => panic!("{other:?}"),
        }
        seen += 1;
    }
    let none = json!({"apps": []});
    let (code, _, body) = master.call(Method::PUT, "/v2/groups/g", &none.to_string()).await;
    assert_eq!(code, StatusCode::OK, "{body}");
    let tree = master.get("/v2/groups/g").await;
    assert_eq!((&tree["apps"], &tree["pods"][0]["id"]), (&json!([]), &json!("/g/p")));
    let bad = json!({"pods": [{"id": "q", "containers": [{"name": "w", "resources": 1}]}]});
    let (_, _, body) = master.call(Method::PUT, "/v2/groups/g", &bad.to_string()).await;
    assert_eq!(body["details"][0]["path"], "/pods(0)/containers(0)/resources", "{body}");
    master.stop().await;
}
