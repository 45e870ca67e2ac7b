//! `revere group ...` and `revere deployment ...`: changes of many apps at once.

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

/// `revere group ...`.
#[derive(Clone, Debug, Subcommand)]
pub enum GroupCommand {
    /// List all groups.
    List(ClientArgs),
    /// Show a group as JSON, with all apps and groups in it.
    Show {
        /// For example `/shop`.
        id: String,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Make a group as a JSON definition says, or bring it to that.
    Put {
        /// For example `/shop`.
        id: String,
        /// The file; `-` reads standard input.
        file: PathBuf,
        /// Only tell the steps.
        #[arg(long)]
        dry_run: bool,
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
    /// Multiply the instances of every app in a group.
    Scale {
        /// For example `/shop`.
        id: String,
        /// For example 1.5; results are rounded up.
        factor: f64,
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
    /// Remove a group with all apps in it.
    Remove {
        /// For example `/shop`.
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

/// `revere deployment ...`.
#[derive(Clone, Debug, Subcommand)]
pub enum DeploymentCommand {
    /// List deployments under way.
    List(ClientArgs),
    /// End a deployment: what was before comes back.
    Cancel {
        /// Its id.
        id: String,
        /// Leave everything as it is now instead.
        #[arg(long)]
        leave: bool,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
}

fn path(id: &str) -> String {
    let segments: Vec<String> = id.split('/').filter(|one| !one.is_empty()).map(segment).collect();
    format!("/v2/groups/{}", segments.join("/"))
}

/// Carries a command for groups out.
pub async fn run(command: GroupCommand) -> Result<(), ClientError> {
    match command {
        GroupCommand::List(client) => list(&client).await,
        GroupCommand::Show { id, client } => {
            let answer = Client::new(&client.master)?.get(&path(&id)).await?;
            Ok(writeln!(std::io::stdout().lock(), "{answer:#}")?)
        }
        GroupCommand::Put {
            id,
            file,
            dry_run,
            force,
            wait,
            client,
        } => {
            let target = format!("{}?force={force}&dryRun={dry_run}", path(&id));
            let master = Client::new(&client.master)?;
            let reply = master.call(Method::PUT, &target, read(&file)?.into()).await?;
            if dry_run {
                steps(&reply, &client)
            } else {
                changed(&id, reply, &wait, &client).await
            }
        }
        GroupCommand::Scale {
            id,
            factor,
            force,
            wait,
            client,
        } => {
            let body = Bytes::from(json!({"scaleBy": factor}).to_string());
            let target = format!("{}?force={force}", path(&id));
            let reply = Client::new(&client.master)?.call(Method::PUT, &target, body).await?;
            changed(&id, reply, &wait, &client).await
        }
        GroupCommand::Remove {
            id,
            force,
            wait,
            client,
        } => {
            let target = format!("{}?force={force}", path(&id));
            let master = Client::new(&client.master)?;
            let reply = master.call(Method::DELETE, &target, Bytes::new()).await?;
            changed(&id, reply, &wait, &client).await
        }
    }
}

async fn list(args: &ClientArgs) -> Result<(), ClientError> {
    let Some(root) = ask("/v2/groups", args).await? else {
        return Ok(());
    };
    let mut rows = Vec::new();
    let mut left = vec![&root];
    while let Some(group) = left.pop() {
        let dependencies: Vec<String> = items(&group["dependencies"]).map(text).collect();
        let instances: u64 = items(&group["apps"]).filter_map(|app| app["instances"].as_u64()).sum();
        rows.push(vec![
            text(&group["id"]),
            items(&group["apps"]).count().to_string(),
            instances.to_string(),
            dependencies.join(" "),
        ]);
        left.extend(items(&group["groups"]));
    }
    rows.sort();
    Ok(table::print(&["ID", "APPS", "INSTANCES", "DEPENDS ON"], &rows)?)
}

fn actions(step: &Value) -> String {
    let actions = items(&step["actions"]).map(|action| format!("{} {}", text(&action["action"]), text(&action["app"])));
    actions.collect::<Vec<_>>().join(", ")
}

fn steps(reply: &Value, args: &ClientArgs) -> Result<(), ClientError> {
    let mut out = std::io::stdout().lock();
    if args.json {
        return Ok(writeln!(out, "{reply:#}")?);
    }
    for (number, step) in items(&reply["steps"]).enumerate() {
        writeln!(out, "{}. {}", number + 1, actions(step))?;
    }
    Ok(())
}

/// Carries a command for deployments out.
pub async fn deployment(command: DeploymentCommand) -> Result<(), ClientError> {
    match command {
        DeploymentCommand::List(client) => {
            let Some(answer) = ask("/v2/deployments", &client).await? else {
                return Ok(());
            };
            let row = |one: &Value| {
                vec![
                    text(&one["id"]),
                    format!("{}/{}", one["currentStep"], one["totalSteps"]),
                    actions(&json!({"actions": one["currentActions"]})),
                    text(&one["version"]),
                ]
            };
            let rows: Vec<Vec<String>> = items(&answer).map(row).collect();
            Ok(table::print(&["ID", "STEP", "NOW", "VERSION"], &rows)?)
        }
        DeploymentCommand::Cancel { id, leave, client } => {
            let path = format!("/v2/deployments/{}?force={leave}", segment(&id));
            let answer = Client::new(&client.master)?
                .call(Method::DELETE, &path, Bytes::new())
                .await?;
            let mut out = std::io::stdout().lock();
            if client.json {
                writeln!(out, "{answer:#}")?;
            } else if leave {
                writeln!(out, "{id}: given up; all stays as it is")?;
            } else {
                writeln!(out, "{id}: deployment {} takes it back", text(&answer["deploymentId"]))?;
            }
            Ok(())
        }
    }
}
