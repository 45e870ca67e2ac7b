//! `revere pod ...`: several containers that live together.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::app::{changed, read, segment};
use super::client::{Client, ClientError};
use super::list::{ask, items, text};
use super::{ClientArgs, WaitArgs, table};

/// `revere pod ...`.
#[derive(Clone, Debug, Subcommand)]
pub enum PodCommand {
    /// Add a pod from a JSON definition.
    Add {
        /// The file; `-` reads standard input.
        file: PathBuf,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List all pods.
    List(ClientArgs),
    /// Show a pod with its instances and their containers.
    Show {
        /// For example `/three-in-one`.
        id: String,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Put a whole definition in the place of the present one.
    Update {
        /// The file; `-` reads standard input.
        file: PathBuf,
        /// Take the place of changes that are still being carried out.
        #[arg(long)]
        force: bool,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Change the number of instances.
    Scale {
        /// For example `/three-in-one`.
        id: String,
        /// How many.
        instances: u32,
        /// Take the place of changes that are still being carried out.
        #[arg(long)]
        force: bool,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Remove a pod and end its instances.
    Remove {
        /// For example `/three-in-one`.
        id: String,
        /// Take the place of changes that are still being carried out.
        #[arg(long)]
        force: bool,
        /// Waiting.
        #[command(flatten)]
        wait: WaitArgs,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
}

fn path(id: &str) -> String {
    format!("/v2/pods/{}", segment(id.trim_matches('/')))
}

/// Carries one of them out.
pub async fn run(command: PodCommand) -> Result<(), ClientError> {
    match command {
        PodCommand::Add { file, wait, client } => {
            let body = read(&file)?.into();
            change((Method::POST, "/v2/pods"), body, None, (&wait, &client)).await
        }
        PodCommand::List(client) => list(&client).await,
        PodCommand::Show { id, client } => show(&id, &client).await,
        PodCommand::Update {
            file,
            force,
            wait,
            client,
        } => {
            let body = read(&file)?;
            let written: Value = serde_json::from_slice(&body).unwrap_or_default();
            let id = written["id"].as_str().unwrap_or_default().to_owned();
            let target = format!("{}?force={force}", path(&id));
            change((Method::PUT, &target), body.into(), Some(&id), (&wait, &client)).await
        }
        PodCommand::Scale {
            id,
            instances,
            force,
            wait,
            client,
        } => {
            let mut pod = Client::new(&client.master)?.get(&path(&id)).await?;
            pod["scaling"]["instances"] = json!(instances);
            let target = format!("{}?force={force}", path(&id));
            let body = pod.to_string().into();
            change((Method::PUT, &target), body, Some(&id), (&wait, &client)).await
        }
        PodCommand::Remove {
            id,
            force,
            wait,
            client,
        } => {
            let target = format!("{}?force={force}", path(&id));
            change((Method::DELETE, &target), Bytes::new(), Some(&id), (&wait, &client)).await
        }
    }
}

/// Sends a change and waits for its deployment, which a header names.
async fn change(
    (method, target): (Method, &str),
    body: Bytes,
    id: Option<&str>,
    (wait, args): (&WaitArgs, &ClientArgs),
) -> Result<(), ClientError> {
    let (deployment, answer) = Client::new(&args.master)?.deploy(method, target, body).await?;
    let made = answer["id"].as_str().unwrap_or_default().to_owned();
    let reply = json!({"version": answer["version"], "deploymentId": deployment});
    changed(id.unwrap_or(&made), reply, wait, args).await
}

fn stable(status: &Value) -> usize {
    items(&status["instances"])
        .filter(|one| one["status"] == "STABLE")
        .count()
}

/// How far a deployment of a pod is; what is neither an app nor a pod any more is ending.
pub(super) async fn progress(client: &Client, id: &str) -> Result<String, ClientError> {
    let status = match client.get(&format!("{}::status", path(id))).await {
        Ok(status) if status["status"] != "TERMINAL" => status,
        Ok(_) => return Ok("instances are ending".to_owned()),
        Err(ClientError::Refused { status, .. }) if status == hyper::StatusCode::NOT_FOUND => {
            return Ok("instances are ending".to_owned());
        }
        Err(error) => return Err(error),
    };
    let mut out = format!(
        "{} of {} instances are stable",
        stable(&status),
        status["spec"]["scaling"]["instances"]
    );
    if let Some(message) = status["message"].as_str() {
        out.push_str(&format!(", {message}"));
    }
    Ok(out)
}

/// The containers of all pods as rows of `revere task list`.
pub(super) async fn tasks(args: &ClientArgs) -> Result<Vec<Vec<String>>, ClientError> {
    let answer = Client::new(&args.master)?.get("/v2/pods/::status").await?;
    let mut rows = Vec::new();
    for pod in items(&answer) {
        for instance in items(&pod["instances"]) {
            for (container, row) in items(&instance["containers"]).zip(rows_of(instance)) {
                let [_, state, host, _, ports, task] = &row[..] else {
                    continue;
                };
                let since = text(&container["statusSince"]);
                let row = [
                    task.clone(),
                    text(&pod["id"]),
                    state.clone(),
                    host.clone(),
                    ports.clone(),
                    since,
                ];
                rows.push(row.to_vec());
            }
        }
    }
    Ok(rows)
}

/// Id of the agent that a pod's container is on; empty if there is no such one.
pub(super) async fn agent_of(master: &Client, task: &str) -> Result<String, ClientError> {
    let answer = master.get("/v2/pods/::status").await?;
    let instances = items(&answer).flat_map(|pod| items(&pod["instances"]));
    let found = instances
        .filter(|instance| items(&instance["containers"]).any(|container| container["containerId"] == task))
        .map(|instance| text(&instance["agentId"]));
    Ok(found.last().unwrap_or_default())
}

/// `revere pod list`.
async fn list(args: &ClientArgs) -> Result<(), ClientError> {
    let Some(answer) = ask("/v2/pods/::status", args).await? else {
        return Ok(());
    };
    let row = |pod: &Value| {
        let containers: Vec<String> = items(&pod["spec"]["containers"])
            .map(|one| text(&one["name"]))
            .collect();
        vec![
            text(&pod["id"]),
            format!("{}/{}", stable(pod), pod["spec"]["scaling"]["instances"]),
            containers.join(" "),
            text(&pod["status"]),
        ]
    };
    let rows: Vec<Vec<String>> = items(&answer).map(row).collect();
    Ok(table::print(&["ID", "STABLE", "CONTAINERS", "STATUS"], &rows)?)
}

/// `revere pod show`.
async fn show(id: &str, args: &ClientArgs) -> Result<(), ClientError> {
    let Some(pod) = ask(&format!("{}::status", path(id)), args).await? else {
        return Ok(());
    };
    let mut out = std::io::stdout().lock();
    let wanted = &pod["spec"]["scaling"]["instances"];
    writeln!(
        out,
        "{}  {} of {wanted} instances are stable",
        text(&pod["id"]),
        stable(&pod)
    )?;
    writeln!(
        out,
        "status {}  version {}",
        text(&pod["status"]),
        text(&pod["spec"]["version"])
    )?;
    if let Some(message) = pod["message"].as_str() {
        writeln!(out, "{message}")?;
    }
    drop(out);
    let rows: Vec<Vec<String>> = items(&pod["instances"]).flat_map(rows_of).collect();
    Ok(table::print(
        &["CONTAINER", "STATE", "HOST", "ADDRESS", "PORTS", "TASK"],
        &rows,
    )?)
}

/// A row for each container of an instance.
fn rows_of(instance: &Value) -> Vec<Vec<String>> {
    let addresses: Vec<String> = items(&instance["networks"])
        .flat_map(|network| items(&network["addresses"]).map(text))
        .collect();
    let row = |container: &Value| {
        let ports = items(&container["endpoints"]).filter(|endpoint| endpoint["allocatedHostPort"].is_number());
        let ports: Vec<String> = ports.map(|endpoint| text(&endpoint["allocatedHostPort"])).collect();
        vec![
            text(&container["name"]),
            text(&container["status"]),
            text(&instance["agentHostname"]),
            addresses.join(" "),
            ports.join(" "),
            text(&container["containerId"]),
        ]
    };
    items(&instance["containers"]).map(row).collect()
}
