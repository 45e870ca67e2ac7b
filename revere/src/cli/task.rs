//! `revere task ...`: lists, ends, and the reason of a place.

use std::io::Write as _;

use clap::Subcommand;
use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::list::{ask, items, text};
use super::{ClientArgs, table};

/// `revere task ...`.
#[derive(Clone, Debug, Subcommand)]
pub enum TaskCommand {
    /// List all tasks.
    List(ClientArgs),
    /// End a task; a new one takes its place.
    Kill {
        /// Its id, as `task list` shows it.
        id: String,
        /// Let its app want one instance fewer instead.
        #[arg(long)]
        scale: bool,
        /// Remove its persistent volumes too, with all that is in them. Works for tasks that are over already.
        #[arg(long)]
        wipe: bool,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Write out what a task has written; its sandbox is kept for a day after its end, or for ten minutes while the node's disk is
    /// nearly full.
    Log(super::log::LogArgs),
    /// Run a program inside a running task, as the task's user; its exit code is this command's. The task's node must have
    /// `node.task_sessions = true`.
    Exec(super::exec::ExecArgs),
    /// Tell why a task is on the node where it is, and not on another.
    Why {
        /// Its id, as `task list` shows it.
        id: String,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Carries one of them out.
pub async fn run(command: TaskCommand) -> Result<(), ClientError> {
    match command {
        TaskCommand::List(client) => list(&client).await,
        TaskCommand::Kill {
            id,
            scale,
            wipe,
            client,
        } => kill(&id, (scale, wipe), &client).await,
        TaskCommand::Log(args) => super::log::run(args).await,
        TaskCommand::Exec(args) => super::exec::run(args).await,
        TaskCommand::Why { id, client } => why(&id, &client).await,
    }
}

async fn list(args: &ClientArgs) -> Result<(), ClientError> {
    let Some(answer) = ask("/v2/tasks", args).await? else {
        return Ok(());
    };
    let row = |task: &Value| {
        let ports: Vec<String> = items(&task["ports"]).map(text).collect();
        vec![
            text(&task["id"]),
            text(&task["appId"]),
            text(&task["state"]),
            text(&task["host"]),
            ports.join(" "),
            text(&task["startedAt"]),
        ]
    };
    let mut rows: Vec<Vec<String>> = items(&answer["tasks"]).map(row).collect();
    rows.extend(super::pod::tasks(args).await?);
    Ok(table::print(&["ID", "APP", "STATE", "HOST", "PORTS", "SINCE"], &rows)?)
}

async fn kill(id: &str, (scale, wipe): (bool, bool), args: &ClientArgs) -> Result<(), ClientError> {
    let client = Client::new(&args.master)?;
    let body = Bytes::from(json!({"ids": [id]}).to_string());
    let answer = client
        .call(
            Method::POST,
            &format!("/v2/tasks/delete?scale={scale}&wipe={wipe}"),
            body,
        )
        .await?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{answer:#}")?;
    } else if scale || items(&answer["tasks"]).next().is_some() {
        writeln!(out, "{id}: is ending")?;
    } else {
        writeln!(out, "{id}: there is no such task; see `revere task list`")?;
    }
    Ok(())
}

async fn why(id: &str, args: &ClientArgs) -> Result<(), ClientError> {
    let path = format!("/revere/v1/tasks/{}/why", super::app::segment(id));
    let Some(answer) = ask(&path, args).await? else {
        return Ok(());
    };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "node         {} ({})",
        text(&answer["node"]),
        text(&answer["hostname"])
    )?;
    writeln!(
        out,
        "chosen       fewest instances of {} ({}), then least used: {} thousandths of a cpu, {} MiB",
        text(&answer["app"]),
        answer["same_app_before"],
        answer["used_before"]["cpus_milli"],
        answer["used_before"]["mem_mb"]
    )?;
    writeln!(out, "looked at    {} nodes", answer["considered"])?;
    for (rule, count) in answer["refused_by_rule"].as_object().into_iter().flatten() {
        writeln!(out, "refused      {count} by {rule}")?;
    }
    for node in items(&answer["refused"]) {
        writeln!(
            out,
            "  not        {} ({}): {}",
            text(&node["node"]),
            text(&node["hostname"]),
            text(&node["reason"])
        )?;
    }
    for node in items(&answer["next"]) {
        writeln!(
            out,
            "  next       {} ({})",
            text(&node["node"]),
            text(&node["hostname"])
        )?;
    }
    Ok(())
}
