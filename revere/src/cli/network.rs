//! `revere network ...`: networks of tasks.

use std::io::Write as _;

use clap::Subcommand;
use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::app::segment;
use super::client::{Client, ClientError};
use super::list::{items, text};
use super::{ClientArgs, table};

const PATH: &str = "/revere/v1/networks";

/// `revere network ...`.
#[derive(Clone, Debug, Subcommand)]
pub enum NetworkCommand {
    /// Make a network that apps can name. Its tasks reach each other and no task of another network.
    Create {
        /// Its name: lower-case letters, digits and hyphens.
        name: String,
        /// Its addresses, such as 10.64.0.0/16; nothing else in the cluster may have them.
        #[arg(long)]
        subnet: String,
        /// Prefix length of each node's block (24, or what makes 4 blocks of a smaller network).
        #[arg(long)]
        prefix: Option<i64>,
        /// Its VXLAN identifier (the lowest free one from 4097 on).
        #[arg(long)]
        vni: Option<i64>,
        /// A network whose tasks may exchange packets with this one's; may be given several times.
        #[arg(long = "peer")]
        peers: Vec<String>,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List all networks and what is used of them.
    List(ClientArgs),
    /// Show one network.
    Show {
        /// Its name.
        name: String,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Remove a network that nothing uses.
    Remove {
        /// Its name.
        name: String,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
}

fn target(name: &str) -> String {
    format!("{PATH}/{}", segment(name))
}

/// Carries one of them out.
pub async fn run(command: NetworkCommand) -> Result<(), ClientError> {
    match command {
        NetworkCommand::Create {
            name,
            subnet,
            prefix,
            vni,
            peers,
            client,
        } => {
            let body = json!({"name": name, "subnet": subnet, "prefix": prefix, "vni": vni, "peers": peers});
            let body = Bytes::from(body.to_string());
            let made = Client::new(&client.master)?.call(Method::POST, PATH, body).await?;
            print(&made, client.json)?;
        }
        NetworkCommand::List(client) => {
            let answer = Client::new(&client.master)?.get(PATH).await?;
            if client.json {
                writeln!(std::io::stdout(), "{answer:#}")?;
            } else {
                let rows: Vec<Vec<String>> = items(&answer["networks"]).map(row).collect();
                let head = ["NAME", "MODE", "VNI", "SUBNET", "BLOCK", "NODES", "TASKS", "PEERS"];
                table::print(&head, &rows)?;
            }
        }
        NetworkCommand::Show { name, client } => {
            let answer = Client::new(&client.master)?.get(&target(&name)).await?;
            print(&answer, client.json)?;
        }
        NetworkCommand::Remove { name, client } => {
            let master = Client::new(&client.master)?;
            master.call(Method::DELETE, &target(&name), Bytes::new()).await?;
            writeln!(std::io::stdout(), "{name}: removed")?;
        }
    }
    Ok(())
}

fn names(list: &Value) -> String {
    let names: Vec<String> = items(list).map(text).collect();
    names.join(", ")
}

fn row(network: &Value) -> Vec<String> {
    let usage = &network["usage"];
    let nodes = match usage["blocks"].as_u64() {
        Some(blocks) => format!("{} of {blocks}", text(&usage["nodes"])),
        None => String::new(),
    };
    let block = network["prefix"].as_u64().map(|prefix| format!("/{prefix}"));
    vec![
        text(&network["name"]),
        text(&network["mode"]),
        text(&network["vni"]),
        text(&network["subnet"]),
        block.unwrap_or_default(),
        nodes,
        text(&usage["tasks"]),
        names(&network["peers"]),
    ]
}

/// What of a node's block is in use.
fn used(node: &Value, usage: &Value) -> Vec<String> {
    let tasks = match node["block"].as_str() {
        Some(_) => format!("{} of {}", text(&node["tasks"]), text(&usage["addresses_per_node"])),
        None => "none: all blocks are given".to_owned(),
    };
    vec![text(&node["node"]), text(&node["block"]), tasks]
}

fn print(network: &Value, json: bool) -> Result<(), ClientError> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{network:#}")?;
        return Ok(());
    }
    let usage = &network["usage"];
    let lines = [
        ("name", text(&network["name"])),
        ("mode", text(&network["mode"])),
        ("about", text(&network["about"])),
        ("vni", text(&network["vni"])),
        ("subnet", text(&network["subnet"])),
        (
            "block of a node",
            network["prefix"]
                .as_u64()
                .map(|prefix| format!("/{prefix}"))
                .unwrap_or_default(),
        ),
        ("tasks on a node", text(&usage["addresses_per_node"])),
        ("blocks", text(&usage["blocks"])),
        ("nodes with a block", text(&usage["nodes"])),
        ("nodes without", text(&usage["nodes_without_block"])),
        ("tasks", text(&usage["tasks"])),
        ("apps", names(&network["apps"])),
        ("peers", names(&network["peers"])),
    ];
    for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty() && value != "-") {
        writeln!(out, "{name:<20}{value}")?;
    }
    let nodes: Vec<Vec<String>> = items(&usage["by_node"]).map(|node| used(node, usage)).collect();
    if nodes.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    drop(out);
    Ok(table::print(&["NODE", "BLOCK", "TASKS"], &nodes)?)
}
