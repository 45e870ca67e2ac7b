//! Secrets through `/secrets/v1`, to a task, and to nobody else.

use super::*;

const VALUE: &str = "correct horse battery staple";
const PATH: &str = "/secrets/v1/secret/default/team/db";

fn app() -> String {
    json!({"id": "/a", "cmd": "x", "cpus": 0.1, "secrets": {"pw": {"source": "team/db"}},
        "env": {"PASSWORD": {"secret": "pw"}}})
    .to_string()
}

#[tokio::test]
async fn a_secret_goes_to_its_task_and_is_told_to_nobody_else() {
    let master = Running::new(&config()).await;
    let mut agent = Agent::register(&master, None, Vec::new()).await;
    let secret = json!({"value": VALUE}).to_string();
    assert_eq!(master.call(Method::PUT, PATH, &secret).await.0, StatusCode::CREATED);
    assert_eq!(
        master.call(Method::POST, "/v2/apps", &app()).await.0,
        StatusCode::CREATED
    );
    let MasterMessage::Secrets { task, values } = next(&mut agent.stream).await else {
        panic!("the secrets come before the launch");
    };
    assert_eq!(values["team/db"].expose(), VALUE.as_bytes());
    let spec = agent.launch().await;
    assert_eq!(spec.task, task);
    agent.status(&spec, TaskState::Running).await;
    for shown in [
        "/v2/apps/a?embed=apps.tasks",
        "/v2/apps/a/tasks",
        "/v2/apps/a/versions",
        "/v2/groups",
        "/secrets/v1/secret/default/?list=true",
        PATH,
    ] {
        let answer = master.get(shown).await;
        assert!(
            !answer.is_null() && !answer.to_string().contains(VALUE),
            "{shown}: {answer}"
        );
    }
    let (_, _, state) = master.call(Method::POST, "/api/v1", r#"{"type": "GET_STATE"}"#).await;
    assert!(!state.to_string().contains(VALUE), "{state}");
    let list = master.get("/secrets/v1/secret/default/?list=true").await;
    assert_eq!(list, json!({"array": ["team/db"]}));
    let below = master.get("/secrets/v1/secret/default/team?list=true").await;
    assert_eq!(below, json!({"array": ["db"]}));
    master.stop().await;
}

#[tokio::test]
async fn secrets_are_made_changed_and_removed_with_their_refusals() {
    let master = Running::new(&config()).await;
    let (code, _, body) = master.call(Method::POST, "/v2/apps", &app()).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["details"][0]["path"], "/secrets(pw)/source", "{body}");
    let secret = json!({"value": VALUE}).to_string();
    for (method, code) in [
        (Method::PATCH, StatusCode::NOT_FOUND),
        (Method::PUT, StatusCode::CREATED),
        (Method::PUT, StatusCode::CONFLICT),
        (Method::PATCH, StatusCode::NO_CONTENT),
        (Method::GET, StatusCode::FORBIDDEN),
    ] {
        assert_eq!(master.call(method.clone(), PATH, &secret).await.0, code, "{method}");
    }
    let (code, _, body) = master.call(Method::PUT, PATH, r#"{"valve": "hunter2"}"#).await;
    assert!(
        code == StatusCode::BAD_REQUEST && !body.to_string().contains("hunter2"),
        "{body}"
    );
    let (code, _, _) = master
        .call(Method::PUT, "/secrets/v1/secret/default/a/.b", &secret)
        .await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        master.call(Method::POST, "/v2/apps", &app()).await.0,
        StatusCode::CREATED
    );
    let (code, _, body) = master.call(Method::DELETE, PATH, "").await;
    assert!(
        code == StatusCode::CONFLICT && body["message"].to_string().contains("/a"),
        "{body}"
    );
    master.call(Method::DELETE, "/v2/apps/a", "").await;
    assert_eq!(master.call(Method::DELETE, PATH, "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(master.call(Method::DELETE, PATH, "").await.0, StatusCode::NOT_FOUND);
    master.stop().await;
}
