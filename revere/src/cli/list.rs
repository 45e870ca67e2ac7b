//! Lists and single views, as tables or as the API's JSON.

use std::io::Write as _;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::ClientArgs;
use super::app::path;
use super::client::{Client, ClientError};
use super::table;

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The answer of a path; `None` when it was printed as JSON.
pub(super) async fn ask(path: &str, args: &ClientArgs) -> Result<Option<Value>, ClientError> {
    let answer = Client::new(&args.master)?.get(path).await?;
    if args.json {
        writeln!(std::io::stdout().lock(), "{answer:#}")?;
        return Ok(None);
    }
    Ok(Some(answer))
}

/// `revere app list`.
pub async fn apps(args: &ClientArgs) -> Result<(), ClientError> {
    let Some(answer) = ask("/v2/apps", args).await? else {
        return Ok(());
    };
    let row = |app: &Value| {
        let state = if items(&app["deployments"]).next().is_some() {
            "deploying"
        } else {
            "steady"
        };
        vec![
            text(&app["id"]),
            format!("{}/{}", app["tasksRunning"], app["instances"]),
            text(&app["cpus"]),
            text(&app["mem"]),
            vips_of(app),
            state.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = items(&answer["apps"]).map(row).collect();
    Ok(table::print(&["ID", "RUNNING", "CPUS", "MEM", "VIPS", "STATE"], &rows)?)
}

fn vips_of(app: &Value) -> String {
    let ports = items(&app["portDefinitions"]).chain(items(&app["container"]["portMappings"]));
    let labels = ports.filter_map(|port| port["labels"].as_object()).flatten();
    let vips: Vec<&str> = labels
        .filter(|(key, _)| model::is_vip_label(key))
        .filter_map(|(_, value)| value.as_str())
        .collect();
    if vips.is_empty() {
        "-".to_owned()
    } else {
        vips.join(" ")
    }
}

/// `revere app versions`.
pub async fn versions(id: &str, args: &ClientArgs) -> Result<(), ClientError> {
    if let Some(answer) = ask(&format!("{}/versions", path(id)), args).await? {
        let mut out = std::io::stdout().lock();
        for version in items(&answer["versions"]) {
            writeln!(out, "{}", text(version))?;
        }
    }
    Ok(())
}

/// `revere app show`.
pub async fn app(id: &str, args: &ClientArgs) -> Result<(), ClientError> {
    let Some(answer) = ask(&path(id), args).await? else {
        return Ok(());
    };
    let app = &answer["app"];
    // A master of an earlier version does not know the path.
    let own = format!("/revere/v1{}", path(id).trim_start_matches("/v2"));
    let beside = Client::new(&args.master)?.get(&own).await.unwrap_or_default();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{}  {} of {} instances run",
        text(&app["id"]),
        app["tasksRunning"],
        app["instances"]
    )?;
    let command = if app["cmd"].is_null() {
        &app["args"]
    } else {
        &app["cmd"]
    };
    let image = &app["container"]["docker"]["image"];
    match (image.is_null(), command.is_null()) {
        (true, _) => writeln!(out, "command  {}", text(command))?,
        (false, true) => writeln!(out, "image  {}", text(image))?,
        (false, false) => writeln!(out, "image  {}  command  {}", text(image), text(command))?,
    }
    writeln!(
        out,
        "cpus {}  mem {}  version {}",
        app["cpus"],
        app["mem"],
        text(&app["version"])
    )?;
    writeln!(out, "vips  {}", vips_of(app))?;
    if let Some(line) = super::deploy::crash_loop(&beside["crash_loop"]) {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "{}", health_of(app))?;
    drop(out);
    let row = |task: &Value| {
        let ports: Vec<String> = items(&task["ports"]).map(text).collect();
        let addresses: Vec<String> = items(&task["ipAddresses"])
            .map(|address| text(&address["ipAddress"]))
            .collect();
        vec![
            text(&task["id"]),
            text(&task["state"]),
            verdict_of(app, task).to_owned(),
            text(&task["host"]),
            ports.join(","),
            addresses.join(","),
            text(&task["startedAt"]),
        ]
    };
    let rows: Vec<Vec<String>> = items(&app["tasks"]).map(row).collect();
    Ok(table::print(
        &["TASK", "STATE", "HEALTH", "NODE", "PORTS", "ADDRESS", "STARTED"],
        &rows,
    )?)
}

/// How many are healthy, and why checks failed last; nothing for an app without checks.
fn health_of(app: &Value) -> String {
    if items(&app["healthChecks"]).next().is_none() {
        return String::new();
    }
    let (healthy, unhealthy) = (&app["tasksHealthy"], &app["tasksUnhealthy"]);
    let mut out = format!("health  {healthy} healthy, {unhealthy} unhealthy\n");
    for cause in items(&app["tasks"]).flat_map(causes) {
        out.push_str(&format!("last failure  {cause}\n"));
    }
    out
}

/// What a task's health checks say together: dead if one is, alive if all are.
fn verdict_of(app: &Value, task: &Value) -> &'static str {
    let checked = items(&app["healthChecks"]).next().is_some();
    let results: Vec<&Value> = items(&task["healthCheckResults"]).collect();
    let failures = |result: &&Value| result["consecutiveFailures"].as_u64().unwrap_or(0);
    if !checked {
        "-"
    } else if results.iter().any(|result| failures(result) > 0) {
        "unhealthy"
    } else if !results.is_empty() && results.iter().all(|result| result["alive"] == true) {
        "healthy"
    } else {
        "unchecked"
    }
}

/// Why checks failed last, as one line each.
fn causes(task: &Value) -> Vec<String> {
    let cause = |result: &Value| {
        let why = result["lastFailureCause"].as_str()?;
        let when = result["lastFailure"].as_str().unwrap_or("at an unknown time");
        let failures = &result["consecutiveFailures"];
        Some(format!("{}  {when}, {failures} in a row: {why}", text(&task["id"])))
    };
    items(&task["healthCheckResults"]).filter_map(cause).collect()
}

/// `revere vip list`.
pub async fn vips(args: &ClientArgs) -> Result<(), ClientError> {
    let Some(answer) = ask("/revere/v1/vips", args).await? else {
        return Ok(());
    };
    let row = |vip: &Value| {
        let backends: Vec<String> = items(&vip["backends"])
            .map(|backend| {
                let draining = if backend["weight"] == 0 { " (draining)" } else { "" };
                format!("{}:{}{draining}", text(&backend["address"]), backend["port"])
            })
            .collect();
        vec![
            text(&vip["name"]),
            format!("{}:{}/{}", text(&vip["address"]), vip["port"], text(&vip["protocol"])),
            backends.join(" "),
        ]
    };
    let rows: Vec<Vec<String>> = items(&answer["vips"]).map(row).collect();
    table::print(&["NAME", "ADDRESS", "BACKENDS"], &rows)?;
    for rejected in items(&answer["rejected"]) {
        writeln!(std::io::stdout().lock(), "left out: {}", text(rejected))?;
    }
    Ok(())
}

/// `1.5/4`, from thousandths.
fn cpus(node: &Value) -> String {
    let number = |value: &Value| value["cpus_milli"].as_f64().unwrap_or(0.0) / 1000.0;
    format!("{}/{}", number(&node["used"]), number(&node["total"]))
}

/// `revere node list`.
pub async fn nodes(args: &ClientArgs) -> Result<(), ClientError> {
    let Some(answer) = ask("/revere/v1/nodes", args).await? else {
        return Ok(());
    };
    let row = |node: &Value| {
        let heard = node["heard_ms_ago"]
            .as_f64()
            .map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms / 1000.0));
        vec![
            text(&node["id"]),
            text(&node["hostname"]),
            text(&node["ip"]),
            if node["connected"] == true { "connected" } else { "away" }.to_owned(),
            text(&node["tasks"]),
            cpus(node),
            format!("{}/{}", node["used"]["mem_mb"], node["total"]["mem_mb"]),
            text(&node["subnet"]),
            heard,
        ]
    };
    let rows: Vec<Vec<String>> = items(&answer["nodes"]).map(row).collect();
    Ok(table::print(
        &[
            "ID", "HOSTNAME", "IP", "STATE", "TASKS", "CPUS", "MEM", "SUBNET", "HEARD",
        ],
        &rows,
    )?)
}

/// The health of each connected node; none where the node does not say within two seconds.
async fn healths(nodes: &Value) -> Vec<Option<Value>> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let one = async |node: &Value| {
        let url = format!("http://{}:{}", node["ip"].as_str()?, node["http_port"].as_u64()?);
        let client = Client::new(&url).ok()?;
        let answer = tokio::time::timeout(PATIENCE, client.get("/revere/v1/node"))
            .await
            .ok()?;
        Some(answer.ok()?["health"].take())
    };
    let connected = items(&nodes["nodes"]).filter(|node| node["connected"] == true);
    join_all(connected.map(one)).await
}

/// How old the data is that masters which do not lead serve, by their addresses; nothing where only one runs.
async fn copies(masters: &Value) -> Vec<Option<u64>> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let one = async |master: &Value| {
        let client = Client::new(&format!("http://{}", master["address"].as_str()?)).ok()?;
        let answer = tokio::time::timeout(PATIENCE, client.get("/health")).await.ok()?;
        answer.ok()?["data_age_ms"].as_u64()
    };
    let waiting = items(&masters["masters"]).filter(|master| master["leads"] == false);
    join_all(waiting.map(one)).await
}

/// `2 others, data 0.3 s old at most`.
fn copies_line(copies: &[Option<u64>]) -> Option<String> {
    let (all, known) = (copies.len(), copies.iter().flatten());
    let silent = all - known.clone().count();
    let oldest = known.max().map(|oldest| Duration::from_millis(*oldest).as_secs_f64());
    let age = oldest.map_or("no data yet".to_owned(), |age| format!("data {age:.1} s old at most"));
    let silent = if silent > 0 {
        format!(", {silent} without an answer")
    } else {
        String::new()
    };
    (all > 0).then(|| format!("{all} others, {age}{silent}"))
}

/// Where names are answered in XDP, `lo on 1 of 3 nodes`; nothing where nobody does.
fn early_line(healths: &[Option<Value>]) -> Option<String> {
    let on: Vec<&Value> = healths
        .iter()
        .flatten()
        .map(|health| &health["dns_xdp"]["interfaces"])
        .filter(|interfaces| interfaces.is_array())
        .collect();
    let mut names: Vec<&str> = on.iter().flat_map(|all| items(all)).filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.dedup();
    (!on.is_empty()).then(|| format!("{} on {} of {} nodes", names.join(", "), on.len(), healths.len()))
}

/// Why IPv6 packets for nodes without Revere are dropped, `on 1 of 3 nodes: no uplink ...`; nothing where they are not.
fn nat6_line(healths: &[Option<Value>]) -> Option<String> {
    let said: Vec<&str> = healths
        .iter()
        .flatten()
        .filter_map(|health| health["nat6_hindered"].as_str())
        .collect();
    let first = said.first()?;
    Some(format!("dropped on {} of {} nodes: {first}", said.len(), healths.len()))
}

/// `0.4 s old at most, on 3 of 3 nodes`.
fn age_line(ages: &[Option<u64>]) -> String {
    let known = ages.iter().flatten();
    match known.clone().max() {
        Some(oldest) => {
            let seconds = Duration::from_millis(*oldest).as_secs_f64();
            format!(
                "{seconds:.1} s old at most, on {} of {} nodes",
                known.count(),
                ages.len()
            )
        }
        None => "no node says how old its data is".to_owned(),
    }
}

/// `revere status`.
pub async fn status(args: &ClientArgs) -> Result<(), ClientError> {
    let client = Client::new(&args.master)?;
    let nodes = client.get("/revere/v1/nodes").await?;
    let apps = client.get("/v2/apps").await?;
    let vips = client.get("/revere/v1/vips").await?;
    let deployments = client.get("/v2/deployments").await?;
    let leader = client.get("/v2/leader").await?;
    // Older masters do not know of others.
    let copies = copies(&client.get("/revere/v1/masters").await.unwrap_or_default()).await;
    let connected = items(&nodes["nodes"]).filter(|node| node["connected"] == true).count();
    let running: u64 = items(&apps["apps"])
        .filter_map(|app| app["tasksRunning"].as_u64())
        .sum();
    let wanted: u64 = items(&apps["apps"]).filter_map(|app| app["instances"].as_u64()).sum();
    let healths = healths(&nodes).await;
    let age = |health: &Option<Value>| health.as_ref()?["snapshot_age_ms"].as_u64();
    let ages: Vec<Option<u64>> = healths.iter().map(age).collect();
    let mut out = std::io::stdout().lock();
    if args.json {
        let status = serde_json::json!({
            "data_age_ms": ages, "dns_xdp": early_line(&healths), "nat6_hindered": nat6_line(&healths),
            "master": leader["leader"], "copies_age_ms": copies,
            "nodes": items(&nodes["nodes"]).count(), "nodes_connected": connected,
            "apps": items(&apps["apps"]).count(), "instances_running": running, "instances_wanted": wanted,
            "vips": items(&vips["vips"]).count(), "generation": vips["generation"],
            "deployments": items(&deployments).count(),
        });
        writeln!(out, "{status:#}")?;
        return Ok(());
    }
    writeln!(out, "master       {}", text(&leader["leader"]))?;
    if let Some(line) = copies_line(&copies) {
        writeln!(out, "masters      {line}")?;
    }
    writeln!(
        out,
        "nodes        {connected} of {} connected",
        items(&nodes["nodes"]).count()
    )?;
    writeln!(out, "data         {}", age_line(&ages))?;
    if let Some(line) = early_line(&healths) {
        writeln!(out, "dns in xdp   {line}")?;
    }
    if let Some(line) = nat6_line(&healths) {
        writeln!(out, "ipv6 nat     {line}")?;
    }
    writeln!(out, "apps         {}", items(&apps["apps"]).count())?;
    writeln!(out, "instances    {running} of {wanted} run")?;
    writeln!(
        out,
        "vips         {} (generation {})",
        items(&vips["vips"]).count(),
        vips["generation"]
    )?;
    writeln!(out, "deployments  {} under way", items(&deployments).count())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ipv6_lacks_is_told_with_its_first_cause() {
        let health = |said: Option<&str>| Some(serde_json::json!({"nat6_hindered": said}));
        assert_eq!(nat6_line(&[health(None), None]), None);
        let line = nat6_line(&[health(None), health(Some("no address")), health(Some("other")), None]);
        assert_eq!(line.as_deref(), Some("dropped on 2 of 4 nodes: no address"));
    }

    #[test]
    fn others_are_told_with_the_oldest_data() {
        for (copies, wanted) in [
            (&[][..], None),
            (&[Some(120), Some(340)], Some("2 others, data 0.3 s old at most")),
            (
                &[Some(1_000), None],
                Some("2 others, data 1.0 s old at most, 1 without an answer"),
            ),
            (&[None], Some("1 others, no data yet, 1 without an answer")),
        ] {
            assert_eq!(copies_line(copies).as_deref(), wanted);
        }
    }

    #[test]
    fn health_is_told_with_the_last_cause() {
        let result = |alive: bool, failures: u32, cause: Option<&str>| {
            serde_json::json!({"alive": alive, "consecutiveFailures": failures, "lastFailure": "then",
                "lastFailureCause": cause})
        };
        let task = |results: Value| serde_json::json!({"id": "t", "healthCheckResults": results});
        let mut app = serde_json::json!({"healthChecks": [{}], "tasksHealthy": 1, "tasksUnhealthy": 1, "tasks": []});
        for (results, wanted) in [
            (serde_json::json!([]), "unchecked"),
            (serde_json::json!([result(true, 0, None)]), "healthy"),
            (
                serde_json::json!([result(true, 0, None), result(false, 0, None)]),
                "unchecked",
            ),
            (
                serde_json::json!([result(true, 0, None), result(false, 2, Some("no"))]),
                "unhealthy",
            ),
        ] {
            assert_eq!(verdict_of(&app, &task(results)), wanted);
        }
        app["tasks"] = serde_json::json!([task(serde_json::json!([result(false, 2, Some("refused"))]))]);
        let wanted = "health  1 healthy, 1 unhealthy\nlast failure  t  then, 2 in a row: refused\n";
        assert_eq!(health_of(&app), wanted);
        app["healthChecks"] = serde_json::json!([]);
        assert_eq!(
            (health_of(&app).as_str(), verdict_of(&app, &task(Value::Null))),
            ("", "-")
        );
    }

    #[test]
    fn the_oldest_data_is_told() {
        assert_eq!(
            age_line(&[Some(120), None, Some(4_260)]),
            "4.3 s old at most, on 2 of 3 nodes"
        );
        assert_eq!(age_line(&[None]), "no node says how old its data is");
        let on = serde_json::json!({"dns_xdp": {"interfaces": ["lo"], "no_room": 0}});
        let off = serde_json::json!({"dns_xdp": null});
        let line = early_line(&[Some(on), Some(off.clone()), None]);
        assert_eq!(line.as_deref(), Some("lo on 1 of 3 nodes"));
        assert_eq!(early_line(&[Some(off), None]), None);
    }
}
