//! `revere flows`: what a node's load balancer knows of connections, once or as it changes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::ClientError;
use super::node::{NodeClientArgs, ask, escape, text};
use super::table;

/// `revere flows`.
#[derive(Debug, Args)]
pub struct FlowsArgs {
    /// Only flows of this client.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub from: Option<String>,
    /// Only flows to this VIP: a name or an address, and the port.
    #[arg(long, value_name = "NAME:PORT")]
    pub vip: Option<String>,
    /// `tcp` or `udp`, where a VIP has both.
    #[arg(long, value_name = "PROTOCOL", requires = "vip")]
    pub proto: Option<String>,
    /// Go on: a line for each flow that begins (+), changes (~) or is gone (-), until interrupted.
    #[arg(long, short)]
    pub follow: bool,
    /// Connection.
    #[command(flatten)]
    pub client: NodeClientArgs,
}

/// What tells flows apart.
type Key = (String, String);
/// Backend and state.
type Told = (String, String);

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

fn path(args: &FlowsArgs) -> String {
    let asked = [("from", &args.from), ("vip", &args.vip), ("proto", &args.proto)];
    let asked = asked
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", escape(value.as_deref()?))));
    let asked: Vec<String> = asked.collect();
    match asked.is_empty() {
        true => "/revere/v1/flows".to_owned(),
        false => format!("/revere/v1/flows?{}", asked.join("&")),
    }
}

/// Carries it out.
pub async fn flows(args: &FlowsArgs) -> Result<(), ClientError> {
    if args.follow {
        return follow(args).await;
    }
    let Some(answer) = ask(&path(args), &args.client).await? else {
        return Ok(());
    };
    let keys = ["client", "vip", "backend", "state", "idle_seconds"];
    let rows: Vec<Vec<String>> = rows(&answer)
        .map(|flow| keys.iter().map(|key| text(&flow[*key])).collect())
        .collect();
    table::print(&["CLIENT", "VIP", "BACKEND", "STATE", "IDLE S"], &rows)?;
    let (all, mark) = (&answer["all"], mark(&answer));
    Ok(writeln!(std::io::stdout().lock(), "{all} flows, list {mark}")?)
}

fn rows(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["flows"].as_array().into_iter().flatten()
}

fn mark(answer: &Value) -> &'static str {
    if answer["complete"] == true { "complete" } else { "cut" }
}

fn known(answer: &Value) -> BTreeMap<Key, Told> {
    rows(answer)
        .map(|flow| {
            let [client, vip, backend, state] = ["client", "vip", "backend", "state"].map(|key| text(&flow[key]));
            ((client, vip), (backend, state))
        })
        .collect()
}

/// What has become of the flows, a line each. Of lists that were cut nobody can say what is new or gone.
fn changes(before: &BTreeMap<Key, Told>, now: &BTreeMap<Key, Told>, whole: bool) -> Vec<String> {
    let line = |sign: char, ((client, vip), (backend, state)): (&Key, &Told)| {
        format!("{sign} {client} -> {vip} -> {backend} {state}")
    };
    let new = now.iter().filter_map(|(key, told)| match before.get(key) {
        None => whole.then(|| line('+', (key, told))),
        Some(old) if old != told => Some(line('~', (key, told))),
        Some(_) => None,
    });
    let gone = before.iter().filter(|(key, _)| whole && !now.contains_key(*key));
    new.chain(gone.map(|flow| line('-', flow))).collect()
}

async fn follow(args: &FlowsArgs) -> Result<(), ClientError> {
    let quiet = NodeClientArgs {
        json: false,
        ..args.client.clone()
    };
    let (mut before, mut cut) = (BTreeMap::new(), false);
    loop {
        let Some(answer) = ask(&path(args), &quiet).await? else {
            return Ok(());
        };
        let now = known(&answer);
        let whole = answer["complete"] == true;
        for change in changes(&before, &now, whole && !cut) {
            if args.client.json {
                writeln!(std::io::stdout().lock(), "{}", Value::from(change))?;
            } else {
                writeln!(std::io::stdout().lock(), "{change}")?;
            }
        }
        if cut == whole {
            let all = &answer["all"];
            writeln!(std::io::stderr().lock(), "{all} flows, list {}", mark(&answer))?;
        }
        (before, cut) = (now, !whole);
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flow(port: u16, state: &str) -> Value {
        json!({"client": format!("192.0.2.1:{port}"), "vip": "11.0.0.1:80/tcp", "backend": "10.0.0.1:31000/tcp", "state": state})
    }

    #[test]
    fn each_change_of_a_flow_is_a_line() {
        let before = known(&json!({"flows": [flow(1, "established"), flow(2, "opening"), flow(3, "closed")]}));
        let now = known(&json!({"flows": [flow(1, "established"), flow(2, "established"), flow(4, "opening")]}));
        let lines = changes(&before, &now, true);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines[0].starts_with("~ 192.0.2.1:2 ") && lines[0].ends_with(" established"),
            "{lines:?}"
        );
        assert!(lines[1].starts_with("+ 192.0.2.1:4 "), "{lines:?}");
        assert!(lines[2].starts_with("- 192.0.2.1:3 "), "{lines:?}");
        let cut = changes(&before, &now, false);
        assert!(
            cut.len() == 1 && cut[0].starts_with('~'),
            "nobody knows what is new or gone: {cut:?}"
        );
        assert!(changes(&now, &now, true).is_empty());
    }

    #[test]
    fn what_is_asked_for_stands_in_the_path() {
        let args = FlowsArgs {
            from: Some("192.0.2.1:4000".to_owned()),
            vip: Some("web:80".to_owned()),
            proto: None,
            follow: false,
            client: NodeClientArgs {
                node: "http://127.0.0.1:5051".to_owned(),
                json: false,
            },
        };
        assert_eq!(path(&args), "/revere/v1/flows?from=192.0.2.1:4000&vip=web:80");
    }
}
