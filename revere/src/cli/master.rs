//! `revere master list` and `revere master step-down`.

use std::io::Write as _;

use bytes::Bytes;
use clap::Subcommand;
use hyper::Method;
use serde_json::Value;

use super::ClientArgs;
use super::client::{Client, ClientError};
use super::list::{ask, items, text};
use super::table;

/// `revere master ...`.
#[derive(Clone, Debug, Subcommand)]
pub enum MasterCommand {
    /// List the masters and say which one leads.
    List(ClientArgs),
    /// Let another master lead; no task is touched.
    StepDown(ClientArgs),
}

/// Carries it out.
pub async fn run(command: &MasterCommand) -> Result<(), ClientError> {
    match command {
        MasterCommand::List(args) => list(args).await,
        MasterCommand::StepDown(args) => step_down(args).await,
    }
}

async fn list(args: &ClientArgs) -> Result<(), ClientError> {
    let Some(answer) = ask("/revere/v1/masters", args).await? else {
        return Ok(());
    };
    let row = |master: &Value| {
        let role = if master["leads"] == true { "leads" } else { "waits" };
        vec![text(&master["address"]), role.to_owned(), text(&master["release"])]
    };
    let rows: Vec<Vec<String>> = items(&answer["masters"]).map(row).collect();
    Ok(table::print(&["MASTER", "ROLE", "RELEASE"], &rows)?)
}

async fn step_down(args: &ClientArgs) -> Result<(), ClientError> {
    let client = Client::new(&args.master)?;
    let answer = client.call(Method::DELETE, "/v2/leader", Bytes::new()).await?;
    Ok(writeln!(std::io::stdout().lock(), "{}", text(&answer["message"]))?)
}
