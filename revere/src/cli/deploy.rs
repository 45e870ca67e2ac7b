//! `revere app deploy`: a definition in, and each step of the way told, with the reason where it goes no further.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ClientArgs;
use super::app::{path, read, segment};
use super::client::{Client, ClientError};
use super::list::{items, text};

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(250);

/// Sends the definition; with a time to watch, follows the change for so many seconds.
pub(super) async fn run(file: &Path, watch: Option<u64>, force: bool, args: &ClientArgs) -> Result<(), ClientError> {
    let definition = read(file)?;
    let id = id_of(file, &definition)?;
    let client = Client::new(&args.master)?;
    let put = format!("{}?partialUpdate=false&force={force}", path(&id));
    let reply = client.call(Method::PUT, &put, definition.into()).await?;
    let deployment = text(deployment_of(&reply));
    if let Some(seconds) = watch {
        follow(&client, &id, &deployment, seconds, args.json).await?;
    }
    let mut out = std::io::stdout().lock();
    match (args.json, watch) {
        (true, _) => {
            let told = json!({"version": reply["version"], "deploymentId": deployment});
            writeln!(out, "{told}")?;
        }
        (false, Some(_)) => writeln!(out, "{id}: done")?,
        (false, None) => writeln!(out, "{id}: taken as deployment {deployment}")?,
    }
    Ok(())
}

/// The answer to what made an app is the app.
fn deployment_of(reply: &Value) -> &Value {
    match &reply["deploymentId"] {
        Value::Null => &reply["deployments"][0]["id"],
        id => id,
    }
}

fn id_of(file: &Path, definition: &[u8]) -> Result<String, ClientError> {
    let wrong = |why: String| ClientError::NoDefinition {
        path: file.display().to_string(),
        why,
    };
    let value: Value = serde_json::from_slice(definition).map_err(|error| wrong(format!("it is not JSON: {error}")))?;
    if value.get("containers").is_some() {
        return Err(wrong("it is a pod's definition; use `revere pod update`".to_owned()));
    }
    if value.get("apps").is_some() || value.get("groups").is_some() {
        return Err(wrong(
            "it is a group's definition; use `revere group update`".to_owned(),
        ));
    }
    let id = value["id"].as_str().filter(|id| !id.trim_matches('/').is_empty());
    let id = id.ok_or_else(|| wrong("it has no `id`; write for example \"id\": \"/my-service\"".to_owned()))?;
    Ok(format!("/{}", id.trim_matches('/')))
}

/// Tells each change of a deployment's state until it ends.
async fn follow(client: &Client, id: &str, deployment: &str, seconds: u64, json: bool) -> Result<(), ClientError> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut last = String::new();
    loop {
        let state = client.get(&progress_path(deployment)).await?;
        if state["state"] != "under way" {
            return end_of(id, &state);
        }
        let line = line(&state);
        if line != last {
            let mut out = std::io::stderr().lock();
            if json {
                writeln!(out, "{state}")?;
            } else {
                writeln!(out, "{id}: {line}")?;
            }
            last = line;
        }
        if Instant::now() >= deadline {
            return Err(ClientError::Waiting {
                id: id.to_owned(),
                seconds,
                why: last,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

fn progress_path(deployment: &str) -> String {
    format!("/revere/v1/deployments/{}", segment(deployment))
}

/// Whether a deployment that is over was carried out. A master that does not know says nothing against it.
pub(super) async fn outcome(client: &Client, id: &str, deployment: &str) -> Result<(), ClientError> {
    match client.get(&progress_path(deployment)).await {
        Ok(state) => end_of(id, &state),
        Err(ClientError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(()),
        Err(error) => Err(error),
    }
}

fn end_of(id: &str, state: &Value) -> Result<(), ClientError> {
    if state["state"] == "given up" {
        return Err(ClientError::GivenUp {
            id: id.to_owned(),
            why: text(&state["why"]),
        });
    }
    Ok(())
}

/// One line: the step, then each app of it with what holds it back.
fn line(state: &Value) -> String {
    let apps: Vec<String> = items(&state["apps"]).map(standing).collect();
    let mut line = format!("step {} of {}: {}", state["step"], state["steps"], apps.join("; "));
    if let Some(deadline) = state["deadline"].as_str() {
        line.push_str(&format!(" (taken back at {deadline} if it is not done)"));
    }
    line
}

fn standing(app: &Value) -> String {
    let count = |key: &str| app[key].as_u64().unwrap_or(0);
    if app["wanted"].is_null() {
        return format!("{} of {} are ending", count("ending"), text(&app["id"]));
    }
    let mut parts = vec![format!("{} of {} ready", count("ready"), count("wanted"))];
    for (key, words) in [
        ("starting", "start"),
        ("unhealthy", "are unhealthy"),
        ("earlier", "of the earlier definition"),
        ("ending", "end"),
    ] {
        if count(key) > 0 {
            parts.push(format!("{} {words}", count(key)));
        }
    }
    let waiting = &app["waiting"];
    if waiting["count"].as_u64() > Some(0) {
        parts.push(format!("{} wait: {}", waiting["count"], why(waiting)));
    }
    parts.extend(crash_loop(&app["crash_loop"]));
    parts.join(", ")
}

/// Why instances wait.
fn why(waiting: &Value) -> String {
    let delay = waiting["delay_seconds"].as_f64().unwrap_or(0.0);
    if delay > 0.0 {
        return "a moment after a failure".to_owned();
    }
    if waiting["nodes_looked_at"] == json!(0) {
        return "no node is there".to_owned();
    }
    let refused = waiting["refused_by_rule"].as_object().into_iter().flatten();
    let rules: Vec<String> = refused.map(|(rule, nodes)| format!("{rule} on {nodes}")).collect();
    if rules.is_empty() {
        return "for those before them".to_owned();
    }
    format!("no node fits ({})", rules.join(", "))
}

/// The line that says so.
pub(super) fn crash_loop(known: &Value) -> Option<String> {
    let failures = known["failures"].as_u64()?;
    let last = &known["lastFailure"];
    let why = match last["message"].as_str() {
        Some(message) if !message.is_empty() => format!("; last: {message}"),
        _ => String::new(),
    };
    Some(format!(
        "crash loop: {failures} failures since {}{why}",
        text(&known["since"])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_holds_each_app_back() {
        let state = json!({"step": 2, "steps": 3, "deadline": "2026-11-27T01:02:03.000Z", "apps": [
            {"id": "/a", "wanted": 3, "ready": 1, "starting": 1, "unhealthy": 0, "earlier": 2, "ending": 0,
             "waiting": {"count": 1, "delay_seconds": 0.0, "nodes_looked_at": 4,
                "refused_by_rule": {"InsufficientCpus": 3, "UnfulfilledConstraint": 1}}, "crash_loop": null},
            {"id": "/b", "wanted": 1, "ready": 0, "waiting": {"count": 1, "delay_seconds": 7.0},
             "crash_loop": {"failures": 5, "since": "then", "lastFailure": {"message": "exit status 1"}}},
            {"id": "/c", "ending": 2},
        ]});
        assert_eq!(
            line(&state),
            "step 2 of 3: 1 of 3 ready, 1 start, 2 of the earlier definition, 1 wait: no node fits (InsufficientCpus on 3, \
             UnfulfilledConstraint on 1); 0 of 1 ready, 1 wait: a moment after a failure, crash loop: 5 failures since then; \
             last: exit status 1; 2 of /c are ending (taken back at 2026-11-27T01:02:03.000Z if it is not done)"
        );
        assert!(matches!(
            end_of("/a", &json!({"state": "given up", "why": "its deadline passed"})),
            Err(ClientError::GivenUp { .. })
        ));
        assert!(end_of("/a", &json!({"state": "done"})).is_ok());
    }

    #[test]
    fn both_answers_to_a_put_name_the_deployment() {
        assert_eq!(deployment_of(&json!({"version": "v", "deploymentId": "x"})), "x");
        assert_eq!(deployment_of(&json!({"id": "/a", "deployments": [{"id": "y"}]})), "y");
    }

    #[test]
    fn a_file_that_is_no_app_is_refused_before_anything_is_sent() {
        let id = |text: &str| id_of(Path::new("f.json"), text.as_bytes());
        assert_eq!(id(r#"{"id": "a/b/"}"#).ok().as_deref(), Some("/a/b"));
        for wrong in [
            "{",
            "{}",
            r#"{"id": "/"}"#,
            r#"{"id": "/p", "containers": []}"#,
            r#"{"id": "/g", "apps": []}"#,
            "[]",
        ] {
            assert!(matches!(id(wrong), Err(ClientError::NoDefinition { .. })), "{wrong}");
        }
    }
}
