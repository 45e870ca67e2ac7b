//! How soon a task runs: from the answer to the POST of its app until the master tells that it does.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::ask::{Asker, follow};
use super::ms;

/// Longest wait for one task.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts single processes, one after the other.
pub(super) async fn run(master: &str, trials: u32) -> anyhow::Result<Value> {
    let mut asker = Asker::new(master).await?;
    let (mut taken, mut ran) = (Vec::new(), Vec::new());
    for number in 0..trials {
        let id = format!("/start/one-{number}");
        let mut stream = follow(master, None).await?;
        let app = json!({"id": id, "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 8, "portDefinitions": []});
        let began = Instant::now();
        asker.ask("POST", "/v2/apps", &app.to_string()).await?;
        let answered = Instant::now();
        let (task, mut text) = (format!("start_one-{number}."), String::new());
        let running = async {
            loop {
                let frame = stream.frame().await.context("the stream ended")??;
                text.push_str(&String::from_utf8_lossy(
                    frame.data_ref().map_or(&[][..], |bytes| bytes),
                ));
                let told = text.split("TASK_UPDATED").skip(1);
                if told
                    .filter(|one| one.contains(&task))
                    .any(|one| one.contains("TASK_RUNNING"))
                {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(PATIENCE, running)
            .await
            .context("the task does not run in time")??;
        ran.push(answered.elapsed());
        taken.push(answered - began);
        asker.ask("DELETE", &format!("/v2/apps{id}"), "").await?;
    }
    taken.sort();
    ran.sort();
    Ok(json!({
        "starts": trials,
        "start_ms_p50": ms(&ran, 50), "start_ms_p99": ms(&ran, 99), "write_ms_p50": ms(&taken, 50),
    }))
}
