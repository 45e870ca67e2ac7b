//! What the master serves, as one table, and the OpenAPI document made of it (`/revere/v1/openapi.json`).

use axum::Json;
use serde_json::{Map, Value, json};

/// Where the document is.
pub(in crate::master) const PATH: &str = "/revere/v1/openapi.json";

/// What a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master) enum Body {
    None,
    /// JSON like the example.
    Json(&'static str),
    /// A form like the example.
    Form(&'static str),
    /// The value of a secret.
    Text,
}

/// One method of one path.
#[derive(Clone, Copy, Debug)]
pub(in crate::master) struct Operation {
    /// In upper case.
    pub(in crate::master) method: &'static str,
    /// Parameters in braces; `{*id}` takes slashes.
    pub(in crate::master) path: &'static str,
    pub(in crate::master) about: &'static str,
    /// Names of the query.
    pub(in crate::master) query: &'static [&'static str],
    pub(in crate::master) body: Body,
    /// Good answers first.
    pub(in crate::master) answers: &'static [u16],
}

const fn one(
    method: &'static str,
    path: &'static str,
    about: &'static str,
    query: &'static [&'static str],
    body: Body,
    answers: &'static [u16],
) -> Operation {
    Operation {
        method,
        path,
        about,
        query,
        body,
        answers,
    }
}

const APP: &str = r#"{"id": "/shop/web", "cmd": "exec serve $PORT0", "cpus": 0.1, "mem": 32.0, "instances": 2,
    "env": {"COLOUR": "blue"}, "labels": {"team": "shop"}, "constraints": [["hostname", "UNIQUE"], ["rack", "LIKE", "r[0-9]"]],
    "portDefinitions": [{"port": 0, "name": "http", "protocol": "tcp", "labels": {"VIP_0": "/shop:80"}}],
    "healthChecks": [{"protocol": "MESOS_TCP", "portIndex": 0, "gracePeriodSeconds": 5, "intervalSeconds": 5}],
    "upgradeStrategy": {"minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.5}, "dependencies": ["/shop/db"]}"#;
const APPS: &str = r#"[{"id": "/shop/web", "cmd": "exec serve $PORT0", "instances": 1}]"#;
const POD: &str = r#"{"id": "/shop/pod", "containers": [{"name": "one", "resources": {"cpus": 0.1, "mem": 32.0},
    "exec": {"command": {"shell": "sleep 1000"}}, "endpoints": [{"name": "http", "containerPort": 80, "hostPort": 0, "protocol": ["tcp"]}]}],
    "networks": [{"mode": "host"}], "scaling": {"kind": "fixed", "instances": 1}}"#;
const GROUP: &str = r#"{"id": "/shop", "apps": [{"id": "web", "cmd": "exec serve"}], "groups": [{"id": "inner", "apps": []}],
    "dependencies": ["/base"]}"#;
const NETWORK: &str = r#"{"name": "blue", "subnet": "10.20.0.0/16", "prefix": 24, "peers": []}"#;
const CALL: &str = r#"{"type": "GET_STATE"}"#;
const SUBSCRIBE: &str = r#"{"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "outside", "roles": ["db"],
    "capabilities": [{"type": "MULTI_ROLE"}], "failover_timeout": 0.0}}}"#;
const QUOTA: &str =
    r#"{"role": "dev", "force": true, "guarantee": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}}]}"#;
const SCHEDULE: &str = r#"{"windows": [{"machine_ids": [{"hostname": "node-1", "ip": "10.0.0.1"}],
    "unavailability": {"start": {"nanoseconds": 1}, "duration": {"nanoseconds": 1}}}]}"#;
const MACHINES: &str = r#"[{"hostname": "node-1", "ip": "10.0.0.1"}]"#;
const RESERVED: &str = r#"slaveId=S0&resources=[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC","role":"db"}]}]"#;
const VOLUMES: &str = r#"slaveId=S0&volumes=[{"name":"disk","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC","role":"db"}],"disk":{"persistence":{"id":"v"},"volume":{"container_path":"data","mode":"RW"}}}]"#;
const IDS: &str = r#"{"ids": ["shop_web.instance-1._app.1"]}"#;

const CHANGED: &[u16] = &[200, 201, 400, 404, 409, 413, 422];
const READ: &[u16] = &[200, 400, 404];
const OLD: &[u16] = &[200];
const FORCE: &[&str] = &["force"];
const EMBED: &[&str] = &["embed"];
const KILL: &[&str] = &["host", "scale", "wipe", "force"];
const JSONP: &[&str] = &["jsonp"];

/// Everything, by path.
#[rustfmt::skip]
pub(in crate::master) const OPERATIONS: &[Operation] = &[
    one("GET", "/ping", "Says pong.", &[], Body::None, OLD),
    one("GET", "/health", "200 while the master works.", &[], Body::None, OLD),
    one("GET", "/metrics", "Metrics for Prometheus.", &[], Body::None, OLD),
    one("GET", "/version", "Mesos' version.", &[], Body::None, OLD),
    one("GET", "/v2/apps", "Apps.", &["id", "cmd", "label", "embed"], Body::None, READ),
    one("POST", "/v2/apps", "Makes an app.", FORCE, Body::Json(APP), CHANGED),
    one("PUT", "/v2/apps", "Makes or changes apps, all in one deployment.", &["force", "partialUpdate"], Body::Json(APPS), CHANGED),
    one("PATCH", "/v2/apps", "Changes apps, all in one deployment.", &["force", "partialUpdate"], Body::Json(APPS), CHANGED),
    one("GET", "/v2/apps/{*id}", "An app; what is below it by suffix.", EMBED, Body::None, READ),
    one("PUT", "/v2/apps/{*id}", "Makes or changes an app.", &["force", "partialUpdate"], Body::Json(APP), CHANGED),
    one("PATCH", "/v2/apps/{*id}", "Changes an app.", &["force", "partialUpdate"], Body::Json(APP), CHANGED),
    one("DELETE", "/v2/apps/{*id}", "Removes an app, or ends its tasks.", KILL, Body::None, CHANGED),
    one("POST", "/v2/apps/{*id}", "Restarts an app.", FORCE, Body::None, CHANGED),
    one("GET", "/v2/groups", "The tree of groups.", EMBED, Body::None, READ),
    one("POST", "/v2/groups", "Makes a group.", FORCE, Body::Json(GROUP), CHANGED),
    one("PUT", "/v2/groups", "Changes the whole tree.", &["force", "dryRun"], Body::Json(GROUP), CHANGED),
    one("GET", "/v2/groups/{*id}", "A group.", EMBED, Body::None, READ),
    one("POST", "/v2/groups/{*id}", "Makes a group.", FORCE, Body::Json(GROUP), CHANGED),
    one("PUT", "/v2/groups/{*id}", "Changes a group.", &["force", "dryRun"], Body::Json(GROUP), CHANGED),
    one("DELETE", "/v2/groups/{*id}", "Removes a group with all in it.", FORCE, Body::None, CHANGED),
    one("GET", "/v2/pods", "Pods.", &[], Body::None, READ),
    one("POST", "/v2/pods", "Makes a pod.", FORCE, Body::Json(POD), CHANGED),
    one("GET", "/v2/pods::status", "What is of all pods.", &[], Body::None, READ),
    one("GET", "/v2/pods/{*id}", "A pod; what is of it by suffix.", &[], Body::None, READ),
    one("PUT", "/v2/pods/{*id}", "Changes a pod.", FORCE, Body::Json(POD), CHANGED),
    one("DELETE", "/v2/pods/{*id}", "Removes a pod, or ends instances.", FORCE, Body::None, &[202, 200, 400, 404, 409]),
    one("GET", "/v2/tasks", "Tasks.", &["status"], Body::None, READ),
    one("POST", "/v2/tasks/delete", "Ends tasks.", KILL, Body::Json(IDS), CHANGED),
    one("GET", "/v2/deployments", "Deployments under way.", &[], Body::None, OLD),
    one("DELETE", "/v2/deployments/{id}", "Ends one.", FORCE, Body::None, &[200, 202, 404, 409, 422]),
    one("GET", "/v2/queue", "Apps that wait, and why.", EMBED, Body::None, OLD),
    one("DELETE", "/v2/queue/{*id}", "Ends an app's launch delay (`{id}/delay`).", &[], Body::None, &[204, 404]),
    one("GET", "/v2/events", "What happens, as server-sent events.", &["event_type", "own"], Body::None, &[200, 405]),
    one("GET", "/v2/info", "Of this Marathon.", &[], Body::None, OLD),
    one("GET", "/v2/leader", "Who leads.", &[], Body::None, READ),
    one("DELETE", "/v2/leader", "Gives the lead away.", &[], Body::None, &[200, 409]),
    one("GET", "/v2/plugins", "None.", &[], Body::None, OLD),
    one("POST", "/api/v1", "Mesos' operator API.", &[], Body::Json(CALL), &[200, 202, 400, 406, 409, 415, 501]),
    one("POST", "/api/v1/scheduler", "Mesos' scheduler API.", &[], Body::Json(SUBSCRIBE), &[200, 202, 400, 403, 406, 415, 501]),
    one("GET", "/state", "All, in Mesos' older form.", JSONP, Body::None, OLD),
    one("GET", "/state-summary", "Counts of all.", JSONP, Body::None, OLD),
    one("GET", "/slaves", "Agents.", &["slave_id", "jsonp"], Body::None, OLD),
    one("GET", "/frameworks", "Frameworks.", JSONP, Body::None, OLD),
    one("GET", "/tasks", "Tasks.", &["limit", "offset", "order", "framework_id", "task_id", "jsonp"], Body::None, OLD),
    one("GET", "/roles", "Roles, weights, quotas.", JSONP, Body::None, OLD),
    one("GET", "/quota", "Quotas.", &[], Body::None, OLD),
    one("POST", "/quota", "Sets a quota.", &[], Body::Json(QUOTA), &[200, 400]),
    one("DELETE", "/quota/{*role}", "Removes a quota.", &[], Body::None, &[200, 400]),
    one("GET", "/maintenance/schedule", "What is planned.", &[], Body::None, OLD),
    one("POST", "/maintenance/schedule", "Plans maintenance.", &[], Body::Json(SCHEDULE), &[200, 400]),
    one("GET", "/maintenance/status", "Which machines are planned or down.", &[], Body::None, OLD),
    one("POST", "/machine/down", "Takes machines out of service.", &[], Body::Json(MACHINES), &[200, 400]),
    one("POST", "/machine/up", "Puts them back.", &[], Body::Json(MACHINES), &[200, 400]),
    one("POST", "/reserve", "Reserves resources of an agent.", &[], Body::Form(RESERVED), &[202, 400, 409]),
    one("POST", "/unreserve", "Ends reservations.", &[], Body::Form(RESERVED), &[202, 400, 409]),
    one("POST", "/create-volumes", "Makes volumes on reserved disk.", &[], Body::Form(VOLUMES), &[202, 400, 409]),
    one("POST", "/destroy-volumes", "Removes volumes and their data.", &[], Body::Form(VOLUMES), &[202, 400, 409]),
    one("GET", "/redirect", "Leads to the leader.", &[], Body::None, &[307, 503]),
    one("GET", "/secrets/v1/secret/default/{*path}", "Whether there is such a secret; `?list=true` names those below.", &["list"], Body::None, &[200, 403, 404, 501]),
    one("PUT", "/secrets/v1/secret/default/{*path}", "Makes a secret.", &[], Body::Text, &[201, 400, 409, 413, 415, 422]),
    one("PATCH", "/secrets/v1/secret/default/{*path}", "Changes a secret.", &[], Body::Text, &[204, 400, 404, 413, 415, 422]),
    one("DELETE", "/secrets/v1/secret/default/{*path}", "Removes a secret.", &[], Body::None, &[204, 404, 409, 422]),
    one("GET", "/secrets/v1/secret/default/", "Names of secrets.", &["list"], Body::None, &[200, 501]),
    one("GET", "/secrets/v1/secret/default", "The same.", &["list"], Body::None, &[200, 501]),
    one("GET", "/revere/v1/vips", "VIPs and their backends.", &[], Body::None, OLD),
    one("GET", "/revere/v1/nodes", "Nodes.", &[], Body::None, OLD),
    one("GET", "/revere/v1/networks", "Networks.", &[], Body::None, OLD),
    one("POST", "/revere/v1/networks", "Makes a network.", &[], Body::Json(NETWORK), &[201, 400, 409, 413, 422]),
    one("GET", "/revere/v1/networks/{name}", "A network.", &[], Body::None, READ),
    one("DELETE", "/revere/v1/networks/{name}", "Removes a network.", &[], Body::None, &[200, 204, 400, 404, 409]),
    one("GET", "/revere/v1/backup", "All that the master remembers; 503 where it keeps nothing.", &[], Body::None, &[200, 503]),
    one("GET", "/revere/v1/masters", "Masters and who leads.", &[], Body::None, &[200, 404, 503]),
    one("GET", "/revere/v1/tasks/{task}/why", "Why a task is where it is.", &[], Body::None, READ),
    one("GET", "/revere/v1/deployments/{id}", "How far a deployment is, or how it ended.", &[], Body::None, READ),
    one("GET", "/revere/v1/apps/{*id}", "What stands in an app's way.", &[], Body::None, READ),
    one("GET", "/revere/v1/agent", "Where nodes connect; 426 to others.", &[], Body::None, &[101, 426]),
    one("GET", PATH, "This document.", &[], Body::None, OLD),
];

/// The document.
pub(in crate::master) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = operation.path.replace("{*", "{");
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[operation.method.to_lowercase()] = of(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Revere master", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
    })
}

fn of(operation: &Operation) -> Value {
    let named = |name: &str, place: &str| json!({"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}});
    let pieces = operation
        .path
        .split('/')
        .filter_map(|piece| piece.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<Value> = pieces.map(|name| named(name.trim_start_matches('*'), "path")).collect();
    parameters.extend(operation.query.iter().map(|name| named(name, "query")));
    let answers = operation
        .answers
        .iter()
        .map(|code| (code.to_string(), json!({"description": word(*code)})));
    let words = operation
        .path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty());
    let id: Vec<String> = std::iter::once(operation.method.to_lowercase())
        .chain(words.map(str::to_owned))
        .collect();
    // The two spellings of one list differ in a slash that leaves no word.
    let slash = if operation.path.ends_with('/') { "_" } else { "" };
    let mut out = json!({
        "summary": operation.about,
        "operationId": format!("{}{slash}", id.join("_")),
        "parameters": parameters,
        "responses": answers.collect::<Map<_, _>>(),
    });
    let content = match operation.body {
        Body::None => return out,
        Body::Json(example) => {
            let example: Value = serde_json::from_str(example).unwrap_or_default();
            json!({"application/json": {"schema": {}, "example": example}})
        }
        Body::Form(example) => {
            json!({"application/x-www-form-urlencoded": {"schema": {"type": "object"}, "example": example}})
        }
        Body::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
    };
    out["requestBody"] = json!({"content": content});
    out
}

fn word(code: u16) -> &'static str {
    match code {
        101 => "goes over to the protocol of nodes",
        200 | 201 | 202 | 204 => "done, or begun",
        307 => "the leader is elsewhere",
        400 => "the request cannot be read",
        403 => "not for this one",
        404 => "there is no such thing",
        405 => "the header or the method is another",
        406 | 415 => "a kind of content that is not served",
        409 => "it stands in the way of what is there",
        413 => "too large",
        422 => "the object is not valid; `details` has paths",
        426 => "an upgrade is wanted",
        501 => "known, and not carried out",
        _ => "not now",
    }
}

/// `GET /revere/v1/openapi.json`.
pub(super) async fn serve() -> Json<Value> {
    Json(document())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every path that a router of this folder names in its code.
    fn written() -> BTreeSet<String> {
        let sources = [
            include_str!("../http.rs"),
            include_str!("marathon.rs"),
            include_str!("quota.rs"),
            include_str!("maintenance.rs"),
        ];
        let mut found = BTreeSet::new();
        for part in sources.iter().flat_map(|source| source.split(".route(").skip(1)) {
            let first = part.trim_start().trim_start_matches("&format!(");
            if let Some(path) = first.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                found.insert(
                    path.replace("{prefix}", "")
                        .replace("{path}/{{*role}}", "/quota/{*role}"),
                );
            }
        }
        found
    }

    #[test]
    fn the_document_names_every_path_and_nothing_twice() {
        // What a wildcard is called differs, and means nothing.
        let plain = |path: &str| match path.split_once("{*") {
            Some((before, _)) => format!("{before}{{*}}"),
            None => path.to_owned(),
        };
        let named: BTreeSet<String> = OPERATIONS.iter().map(|one| plain(one.path)).collect();
        let again = |path: &String| {
            let bare = plain(path.strip_prefix("/master").unwrap_or(path));
            named.contains(&bare) || named.contains(bare.trim_end_matches('/')) || path.ends_with("/{*rest}")
        };
        let written = written();
        assert!(written.len() > 30, "{written:?}");
        let missing: Vec<&String> = written.iter().filter(|path| !again(path)).collect();
        assert!(missing.is_empty(), "not in the document: {missing:?}");
        let mut seen = BTreeSet::new();
        assert!(OPERATIONS.iter().all(|one| seen.insert((one.method, one.path))));
        let document = document();
        let mut ids = BTreeSet::new();
        for methods in document["paths"].as_object().expect("paths").values() {
            for operation in methods.as_object().expect("methods").values() {
                assert!(ids.insert(operation["operationId"].to_string()), "{operation}");
            }
        }
        assert_eq!(ids.len(), OPERATIONS.len());
        for operation in OPERATIONS {
            if let Body::Json(example) = operation.body {
                serde_json::from_str::<Value>(example).expect("an example in JSON");
            }
        }
    }
}
