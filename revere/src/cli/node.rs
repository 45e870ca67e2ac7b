//! Questions to one node about its load balancer.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{Client, ClientError};
use super::table;

/// How to reach the node and how to answer.
#[derive(Clone, Debug, Args)]
pub struct NodeClientArgs {
    /// The node's address.
    #[arg(
        long,
        env = "REVERE_NODE",
        default_value = "http://127.0.0.1:5051",
        value_name = "URL"
    )]
    pub node: String,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// `revere explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The VIP: a name or an address, and the port.
    #[arg(value_name = "NAME:PORT")]
    pub vip: String,
    /// Who would connect; an outside client unless given.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub from: Option<String>,
    /// `tcp` or `udp`.
    #[arg(long, value_name = "PROTOCOL")]
    pub proto: Option<String>,
    /// Connection.
    #[command(flatten)]
    pub client: NodeClientArgs,
}

/// `revere top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Seconds between looks.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
    /// Ends after so many looks; 0 = never.
    #[arg(long, default_value_t = 0)]
    pub times: u64,
    /// Connection.
    #[command(flatten)]
    pub client: NodeClientArgs,
}

pub(super) async fn ask(path: &str, args: &NodeClientArgs) -> Result<Option<Value>, ClientError> {
    let answer = Client::new(&args.node)?.get(path).await?;
    if args.json {
        writeln!(std::io::stdout().lock(), "{answer:#}")?;
        return Ok(None);
    }
    Ok(Some(answer))
}

/// Text as it may stand in a path.
pub(super) fn escape(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(byte);
    let each = text.bytes().map(|byte| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    each.collect()
}

/// `revere explain`.
pub async fn explain(args: &ExplainArgs) -> Result<(), ClientError> {
    let mut path = format!("/revere/v1/explain/{}", escape(&args.vip));
    let asked = [("from", &args.from), ("proto", &args.proto)];
    let asked = asked
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", escape(value.as_deref()?))));
    let asked: Vec<String> = asked.collect();
    if !asked.is_empty() {
        path = format!("{path}?{}", asked.join("&"));
    }
    if let Some(answer) = ask(&path, &args.client).await? {
        let mut out = std::io::stdout().lock();
        for line in answer["lines"].as_array().into_iter().flatten() {
            writeln!(out, "{}", text(line))?;
        }
    }
    Ok(())
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// `revere vip show`.
pub async fn vip(name: &str, args: &NodeClientArgs) -> Result<(), ClientError> {
    let Some(answer) = ask(&format!("/revere/v1/vips/{}", escape(name)), args).await? else {
        return Ok(());
    };
    for vip in answer.as_array().into_iter().flatten() {
        writeln!(
            std::io::stdout().lock(),
            "{}  {}  packets {}  flows {}  connects {}  drops {}  strays {}",
            text(&vip["vip"]),
            text(&vip["name"]),
            vip["packets"],
            vip["flows"],
            vip["connects"],
            vip["drops"],
            vip["strays"]
        )?;
        let backends = vip["backends"].as_array().into_iter().flatten();
        let row = |backend: &Value| {
            vec![
                text(&backend["backend"]),
                text(&backend["node"]),
                text(&backend["weight"]),
                format!("{:.1} %", backend["share_percent"].as_f64().unwrap_or_default()),
                text(&backend["open_sockets"]),
                text(&backend["flows"]),
                text(&backend["packets"]),
            ]
        };
        let rows: Vec<Vec<String>> = backends.map(row).collect();
        table::print(
            &["BACKEND", "NODE", "WEIGHT", "SHARE", "OPEN", "FLOWS", "PACKETS"],
            &rows,
        )?;
    }
    Ok(())
}

/// `revere top`: rates since the look before, busiest first.
pub async fn top(args: &TopArgs) -> Result<(), ClientError> {
    let client = Client::new(&args.client.node)?;
    let mut before = Value::Null;
    let mut looks = 0;
    loop {
        let now = client.get("/revere/v1/top").await?;
        if args.client.json {
            writeln!(std::io::stdout().lock(), "{now}")?;
        } else if !before.is_null() {
            draw(&before, &now, args.every)?;
        }
        before = now;
        looks += 1;
        if looks == args.times {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(args.every)).await;
    }
}

fn draw(before: &Value, now: &Value, seconds: u64) -> Result<(), ClientError> {
    const KEYS: [&str; 5] = ["packets", "bytes", "flows", "connects", "drops"];
    let old = |vip: &Value, key: &str| {
        let found = before
            .as_array()
            .into_iter()
            .flatten()
            .find(|old| old["vip"] == vip["vip"]);
        found.and_then(|old| old[key].as_u64()).unwrap_or_default()
    };
    let rates =
        |vip: &Value| KEYS.map(|key| vip[key].as_u64().unwrap_or_default().saturating_sub(old(vip, key)) / seconds);
    let mut rows: Vec<(u64, Vec<String>)> = now
        .as_array()
        .into_iter()
        .flatten()
        .map(|vip| {
            let rates = rates(vip);
            let mut row = vec![text(&vip["vip"]), text(&vip["name"])];
            row.extend(rates.map(|rate| rate.to_string()));
            (rates[0] + rates[3], row)
        })
        .collect();
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    // Home, then clear to the end: without the flicker of clearing first.
    write!(std::io::stdout().lock(), "\x1b[H\x1b[J")?;
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).take(50).collect();
    Ok(table::print(
        &[
            "VIP",
            "NAME",
            "PACKETS/S",
            "BYTES/S",
            "FLOWS/S",
            "CONNECTS/S",
            "DROPS/S",
        ],
        &rows,
    )?)
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn what_a_path_cannot_hold_is_escaped() {
        assert_eq!(escape("a.b:80"), "a.b:80");
        assert_eq!(escape("a/b c"), "a%2Fb%20c");
    }
}
