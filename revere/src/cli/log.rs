//! `revere task log`: what a task wrote, from the node that has its sandbox.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::ClientArgs;
use super::app::segment;
use super::client::{Client, ClientError};
use super::list::{items, text};

/// How often there is a look for more.
const LOOK: Duration = Duration::from_millis(500);

/// `revere task log`.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// Its id, as `task list` shows it.
    pub id: String,
    /// Another file of its sandbox, such as `stderr`.
    #[arg(long, default_value = "stdout", value_name = "PATH")]
    pub file: String,
    /// Go on with what is written from now on, until interrupted.
    #[arg(long, short)]
    pub follow: bool,
    /// The node that has its sandbox; found by itself while the task is listed.
    #[arg(long, value_name = "URL")]
    pub node: Option<String>,
    /// Connection.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Carries it out.
pub async fn run(args: LogArgs) -> Result<(), ClientError> {
    let node = match &args.node {
        Some(node) => node.clone(),
        None => node_of(&args).await?,
    };
    let node = Client::new(&node)?;
    let path = segment(&format!("/executors/{}/runs/latest/{}", args.id, args.file));
    let mut out = std::io::stdout().lock();
    if !args.follow {
        let whole = node.bytes(&format!("/files/download?path={path}")).await?;
        return Ok(out.write_all(&whole)?);
    }
    let mut offset = 0;
    loop {
        let part = node.get(&format!("/files/read?path={path}&offset={offset}")).await?;
        let data = part["data"].as_str().unwrap_or_default();
        out.write_all(data.as_bytes())?;
        out.flush()?;
        // Counted by the node: text that is none has more bytes here than there.
        let next = part["next"].as_u64().unwrap_or(offset);
        if next == offset {
            tokio::time::sleep(LOOK).await;
        }
        offset = next;
    }
}

async fn node_of(args: &LogArgs) -> Result<String, ClientError> {
    let master = Client::new(&args.client.master)?;
    let tasks = master.get("/v2/tasks").await?;
    let agent = items(&tasks["tasks"]).find(|task| task["id"] == args.id.as_str());
    let agent = agent.map(|task| text(&task["slaveId"])).unwrap_or_default();
    let nodes = master.get("/revere/v1/nodes").await?;
    let found: Option<&Value> = items(&nodes["nodes"]).find(|node| node["id"] == agent.as_str());
    match found {
        Some(node) => Ok(format!("http://{}:{}", text(&node["ip"]), node["http_port"])),
        None => Err(ClientError::NoTask(args.id.clone())),
    }
}
