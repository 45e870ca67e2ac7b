//! `revere event`: follows what happens in the cluster.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::ClientArgs;
use super::client::{Client, ClientError};

/// Pause before a broken stream is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest line of a stream that is taken.
const LONGEST: usize = 16 * 1024 * 1024;

/// `revere event`.
#[derive(Clone, Debug, Args)]
pub struct EventArgs {
    /// Only events of this type, for example `deployment_success`; may be given more than once.
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// End with the stream instead of asking for it again where it broke.
    #[arg(long)]
    pub once: bool,
    /// Connection.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// Follows until it is ended, or with `--once` until the master ends the stream.
pub async fn run(args: &EventArgs) -> Result<(), ClientError> {
    let client = Client::new(&args.client.master)?;
    let mut lines = Lines::default();
    loop {
        match follow(&client, args, &mut lines).await {
            // A master that was never there, a refusal or a closed output ends it; a stream that broke does not.
            Err(error) if args.once || lines.last_id.is_empty() || matches!(error, ClientError::Output(_)) => {
                return Err(error);
            }
            Ok(()) if args.once => return Ok(()),
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn follow(client: &Client, args: &EventArgs, lines: &mut Lines) -> Result<(), ClientError> {
    let types = args.types.iter().map(|kind| format!("event_type={kind}"));
    let query: Vec<String> = types.chain(["own=true".to_owned()]).collect();
    let path = format!("/v2/events?{}", query.join("&"));
    let mut headers = vec![("accept", "text/event-stream")];
    if !lines.last_id.is_empty() {
        headers.push(("last-event-id", lines.last_id.as_str()));
    }
    let mut body = client.stream(&path, &headers).await?;
    lines.rest.clear();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Ok(()) };
        let Ok(bytes) = frame.into_data() else { continue };
        for event in lines.take(&bytes) {
            show(&event, args.client.json)?;
        }
    }
    Ok(())
}

/// Cuts a stream into events, however it was cut on its way.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    data: String,
    last_id: String,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Vec<Value> {
        let mut events = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                if self.rest.len() < LONGEST {
                    self.rest.push(*byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.rest).trim_end_matches('\r').to_owned();
            self.rest.clear();
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.trim_start());
            } else if let Some(id) = line.strip_prefix("id:") {
                id.trim().clone_into(&mut self.last_id);
            } else if line.is_empty() && !self.data.is_empty() {
                events.extend(serde_json::from_str(&self.data).ok());
                self.data.clear();
            }
        }
        events
    }
}

fn show(event: &Value, json: bool) -> Result<(), ClientError> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{event}")?;
    } else {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        writeln!(
            out,
            "{}  {:<30} {}",
            text("timestamp"),
            text("eventType"),
            summary(event)
        )?;
    }
    Ok(out.flush()?)
}

/// What an event is about, in a few words.
fn summary(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let words = match event["eventType"].as_str().unwrap_or_default() {
        "status_update_event" => vec![
            text(&event["taskId"]),
            text(&event["taskStatus"]),
            text(&event["message"]),
        ],
        "instance_changed_event" => vec![
            text(&event["instanceId"]),
            text(&event["condition"]),
            text(&event["host"]),
        ],
        "instance_health_changed_event" => vec![text(&event["instanceId"]), format!("healthy: {}", event["healthy"])],
        kind if kind.starts_with("deployment_") => {
            let actions = event["currentStep"]["actions"].as_array().into_iter().flatten();
            let actions: Vec<String> = actions
                .map(|action| format!("{} {}", text(&action["action"]), text(&action["app"])))
                .collect();
            vec![text(&event["plan"]["id"]), actions.join(", "), text(&event["reason"])]
        }
        _ => ["appId", "groupId", "uri", "remoteAddress", "instanceId", "reason"]
            .iter()
            .map(|key| text(&event[*key]))
            .collect(),
    };
    words
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_wherever_the_stream_is_cut() {
        let stream =
            b":\r\n\r\nevent: a\r\ndata: {\"x\":1}\r\nid: 7-1\r\n\r\nevent: b\r\ndata: {\"x\":2}\r\nid: 7-2\r\n\r\n";
        for width in [1, 2, 7, stream.len()] {
            let mut lines = Lines::default();
            let found: Vec<Value> = stream.chunks(width).flat_map(|part| lines.take(part)).collect();
            assert_eq!(
                found,
                [serde_json::json!({"x": 1}), serde_json::json!({"x": 2})],
                "{width}"
            );
            assert_eq!(lines.last_id, "7-2");
        }
    }
}
