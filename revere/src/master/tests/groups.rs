//! Groups, deployments with steps, the queue and ends of tasks over HTTP.

use super::*;

fn app(id: &str, dependencies: &[&str]) -> Value {
    json!({"id": id, "cmd": "x", "cpus": 0.1, "mem": 16, "instances": 1, "portDefinitions": [],
        "labels": {"name": id}, "dependencies": dependencies})
}

fn shop() -> String {
    let group = json!({"id": "/shop", "apps": [app("front", &["/shop/back/db"])],
        "groups": [{"id": "back", "apps": [app("db", &[])]}]});
    group.to_string()
}

#[tokio::test]
async fn a_group_starts_in_the_order_of_its_dependencies() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let (code, _, dry) = master.call(Method::PUT, "/v2/groups/shop?dryRun=true", &shop()).await;
    assert_eq!(code, StatusCode::OK);
    let kinds: Vec<(&Value, &Value)> = (0..3)
        .map(|step| &dry["steps"][step]["actions"])
        .flat_map(|actions| actions.as_array().expect("a list"))
        .map(|action| (&action["action"], &action["app"]))
        .collect();
    let scale = json!("ScaleApplication");
    let (db, front) = (json!("/shop/back/db"), json!("/shop/front"));
    assert_eq!(kinds[2..], [(&scale, &db), (&scale, &front)]);
    assert_eq!(
        master.get("/v2/apps").await["apps"],
        json!([]),
        "a dry run changes nothing"
    );

    let (code, headers, reply) = master.call(Method::POST, "/v2/groups", &shop()).await;
    assert_eq!(
        (code, headers["location"].to_str().ok()),
        (StatusCode::CREATED, Some("/v2/groups/shop"))
    );
    let first = agent.launch().await;
    assert_eq!(
        first.env["MARATHON_APP_ID"], "/shop/back/db",
        "the dependency comes first"
    );
    let deployment = master.get("/v2/deployments").await[0].clone();
    assert_eq!(
        (&deployment["id"], &deployment["currentStep"], &deployment["totalSteps"]),
        (&reply["deploymentId"], &json!(2), &json!(3))
    );
    assert_eq!(deployment["currentActions"][0]["app"], "/shop/back/db");
    agent.status(&first, TaskState::Running).await;
    let second = agent.launch().await;
    assert_eq!(second.env["MARATHON_APP_ID"], "/shop/front");
    agent.status(&second, TaskState::Running).await;
    assert_eq!(master.get("/v2/deployments").await, json!([]));

    let tree = master.get("/v2/groups/shop").await;
    assert_eq!(
        (&tree["apps"][0]["id"], &tree["groups"][0]["apps"][0]["id"]),
        (&front, &db)
    );
    let counted = master
        .get("/v2/groups?embed=group.groups&embed=group.apps&embed=group.apps.counts")
        .await;
    assert_eq!(counted["groups"][0]["apps"][0]["tasksRunning"], 1);
    for (query, count) in [
        ("label=name%3D%3Dfront", 1),
        ("label=name", 2),
        ("id=back", 1),
        ("cmd=y", 0),
    ] {
        let found = master.get(&format!("/v2/apps?{query}")).await;
        assert_eq!(found["apps"].as_array().map(Vec::len), Some(count), "{query}");
    }
    assert_eq!(
        master.get("/v2/apps/shop/*").await["*"].as_array().map(Vec::len),
        Some(2)
    );
    let (code, _, body) = master.call(Method::POST, "/v2/groups", &shop()).await;
    assert_eq!(code, StatusCode::CONFLICT, "{body}");
    master.stop().await;
}

#[tokio::test]
async fn a_bad_part_refuses_the_whole_group() {
    let master = Running::new(&config()).await;
    let circle = json!({"apps": [app("a", &["/g/b"]), app("b", &["/g/a"])]});
    let child = json!({"apps": [app("/elsewhere/a", &[])]});
    let twice = json!({"apps": [app("a", &[])], "groups": [{"id": "a", "apps": [app("b", &[])]}]});
    let part = json!({"apps": [app("a", &[]), {"id": "b", "cpus": -1}]});
    for (body, path) in [
        (circle, "/dependencies"),
        (child, "/apps(0)/id"),
        (twice, "/id"),
        (part, "/apps(1)/cpus"),
        (json!({"apps": 3}), "/apps"),
        (json!({"groups": [{"id": "x", "apps": [7]}]}), "/groups(0)/apps(0)/"),
        (json!({"scaleBy": 2, "apps": []}), "/scaleBy"),
    ] {
        let (code, _, answer) = master.call(Method::PUT, "/v2/groups/g", &body.to_string()).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {answer}");
        let paths: Vec<&Value> = answer["details"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| &one["path"])
            .collect();
        assert!(paths.contains(&&json!(path)), "{path} in {answer}");
    }
    assert_eq!(master.get("/v2/apps").await["apps"], json!([]));
    master.stop().await;
}

#[tokio::test]
async fn a_group_is_scaled_replaced_returned_and_removed() {
    let master = Running::new(&config()).await;
    let put = async |body: Value| {
        let (code, _, answer) = master
            .call(Method::PUT, "/v2/groups/g?force=true", &body.to_string())
            .await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        answer
    };
    put(json!({"apps": [app("a", &[]), app("b", &[])], "dependencies": ["/other"]})).await;
    let first = master.get("/v2/groups/g/versions").await;
    put(json!({"scaleBy": 2.5})).await;
    assert_eq!(master.get("/v2/apps/g/a").await["app"]["instances"], 3);
    put(json!({"apps": [app("a", &["../b"])]})).await;
    let left = master.get("/v2/groups/g").await;
    assert_eq!(
        left["apps"].as_array().map(Vec::len),
        Some(1),
        "what is not listed goes"
    );
    assert_eq!(left["apps"][0]["dependencies"], json!(["/g/b"]));
    assert_eq!(left["dependencies"], json!(["/other"]), "what is not written stays");
    let old = master
        .get(&format!("/v2/groups/g/versions/{}", first[0].as_str().expect("one")))
        .await;
    assert_eq!(old["apps"].as_array().map(Vec::len), Some(2));
    put(json!({"version": first[0]})).await;
    let back = master.get("/v2/groups/g").await;
    assert_eq!(back["apps"].as_array().map(Vec::len), Some(2));
    assert_eq!(back["apps"][0]["instances"], 1);
    let (code, _, _) = master.call(Method::DELETE, "/v2/groups/g?force=true", "").await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(master.get("/v2/groups").await["groups"], json!([]));
    master.stop().await;
}

#[tokio::test]
async fn a_cancelled_deployment_brings_back_what_was_or_leaves_all() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let specs = deploy(&master, &mut agent).await;
    let before = master.get("/v2/apps/my-service").await["app"].clone();
    let update = async |cmd: &str| {
        let body = json!({"cmd": cmd}).to_string();
        let (code, _, answer) = master.call(Method::PUT, "/v2/apps/my-service", &body).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        format!("/v2/deployments/{}", answer["deploymentId"].as_str().expect("told"))
    };
    let path = update("broken").await;
    let new = [agent.launch().await, agent.launch().await, agent.launch().await];
    let (code, _, refused) = master.call(Method::PUT, "/v2/apps/my-service", r#"{"cmd": "y"}"#).await;
    assert_eq!(code, StatusCode::CONFLICT, "{refused}");
    let (code, _, back) = master.call(Method::DELETE, &path, "").await;
    assert!(code == StatusCode::OK && back["deploymentId"].is_string(), "{back}");
    for spec in &new {
        agent.status(spec, TaskState::Killed).await;
    }
    assert_eq!(master.get("/v2/deployments").await, json!([]));
    let after = master.get("/v2/apps/my-service").await["app"].clone();
    assert_eq!(after["cmd"], before["cmd"]);
    let ids = |app: &Value| {
        let tasks = app["tasks"].as_array().cloned().unwrap_or_default();
        tasks.into_iter().map(|task| task["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&after), ids(&before), "no instance of before was touched");

    let path = update("half").await;
    for _ in 0..3 {
        agent.launch().await;
    }
    let (code, _, _) = master.call(Method::DELETE, &format!("{path}?force=True"), "").await;
    assert_eq!(code, StatusCode::ACCEPTED);
    assert_eq!(master.get("/v2/deployments").await, json!([]));
    let left = master.get("/v2/apps/my-service").await["app"].clone();
    assert_eq!(left["cmd"], "half");
    assert!(
        specs.iter().all(|spec| ids(&left).contains(&json!(spec.task.as_str()))),
        "the old ones go on"
    );
    master.stop().await;
}

#[tokio::test]
async fn the_queue_says_why_and_tasks_end_with_and_without_scaling() {
    let master = Running::new(&config()).await;
    let body = json!({"id": "/big", "cmd": "x", "cpus": 99, "constraints": [["rack", "LIKE", "r[1-3]"]]});
    master.call(Method::POST, "/v2/apps", &body.to_string()).await;
    let public = json!({"id": "/public", "cmd": "x", "acceptedResourceRoles": ["slave_public"]});
    master.call(Method::POST, "/v2/apps", &public.to_string()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let queue = master.get("/v2/queue?embed=lastUnusedOffers").await;
    let declined = |index: usize| {
        let summary = &queue["queue"][index]["processedOffersSummary"]["rejectSummaryLastOffers"];
        let reasons = summary.as_array().expect("a list").iter();
        let by = reasons
            .filter(|reason| reason["declined"] == 1)
            .map(|reason| reason["reason"].clone());
        by.collect::<Vec<_>>()
    };
    assert_eq!(
        (declined(0), declined(1)),
        (vec![json!("InsufficientCpus")], vec![json!("UnfulfilledRole")])
    );
    assert_eq!(
        queue["queue"][0]["lastUnusedOffers"][0]["reason"],
        json!(["InsufficientCpus"])
    );
    assert!(queue["queue"][0].get("role").is_none(), "closed clients refuse it");

    let specs = deploy(&master, &mut agent).await;
    let why = master.get(&format!("/revere/v1/tasks/{}/why", specs[0].task)).await;
    assert_eq!((&why["app"], &why["considered"]), (&json!("/my-service"), &json!(1)));
    let table = master.send(Method::GET, "/v2/tasks", "").await;
    assert_eq!(table.headers()["content-type"], "application/json");
    let path = format!("/v2/apps/my-service/tasks/{}", specs[0].task);
    let (_, _, killed) = master.call(Method::DELETE, &path, "").await;
    assert_eq!(killed["task"]["id"], specs[0].task.as_str());
    agent.status(&specs[0], TaskState::Killed).await;
    let replacement = agent.launch().await;
    agent.status(&replacement, TaskState::Running).await;
    let ids = json!({"ids": [specs[1].task.as_str(), "gone.instance-1._app.1"]}).to_string();
    let (code, _, scaled) = master.call(Method::POST, "/v2/tasks/delete?scale=true", &ids).await;
    assert!(code == StatusCode::OK && scaled["deploymentId"].is_string(), "{scaled}");
    agent.status(&specs[1], TaskState::Killed).await;
    let app = master.get("/v2/apps/my-service").await["app"].clone();
    assert_eq!((&app["instances"], &app["tasksRunning"]), (&json!(2), &json!(2)));
    let (_, _, all) = master
        .call(Method::DELETE, "/v2/apps/my-service/tasks?host=10.9.8.7", "")
        .await;
    assert_eq!(all["tasks"].as_array().map(Vec::len), Some(2));

    agent.status(&specs[2], TaskState::Failed).await;
    let failed = master.get("/v2/apps/my-service?embed=app.taskStats").await["app"].clone();
    assert_eq!(failed["lastTaskFailure"]["state"], "TASK_FAILED");
    assert!(failed["taskStats"]["totalSummary"]["stats"]["counts"].is_object());
    let (code, _, _) = master.call(Method::DELETE, "/v2/queue//my-service/delay", "").await;
    assert_eq!(code, StatusCode::NO_CONTENT);
    master.stop().await;
}
