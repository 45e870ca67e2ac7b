//! `revere app ...`: definitions in, and waiting until they are carried out.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Client, ClientError};
use super::{AppCommand, ClientArgs, WaitArgs, deploy, list};

/// Pause between two looks at a deployment.
const POLL: Duration = Duration::from_millis(200);

/// Carries one of them out.
pub async fn run(command: AppCommand) -> Result<(), ClientError> {
    match command {
        AppCommand::Add { file, wait, client } => add(&file, &wait, &client).await,
        AppCommand::Deploy {
            file,
            watch,
            force,
            timeout,
            client,
        } => deploy::run(&file, watch.then_some(timeout), force, &client).await,
        AppCommand::List(client) => list::apps(&client).await,
        AppCommand::Show { id, client } => list::app(&id, &client).await,
        AppCommand::Scale {
            id,
            instances,
            force,
            wait,
            client,
        } => {
            let body = json!({"instances": instances}).to_string();
            change((Method::PUT, &path(&id)), body.into(), force, (&id, &wait, &client)).await
        }
        AppCommand::Update {
            id,
            file,
            force,
            wait,
            client,
        } => {
            let body = read(&file)?;
            change((Method::PATCH, &path(&id)), body.into(), force, (&id, &wait, &client)).await
        }
        AppCommand::Restart {
            id,
            force,
            wait,
            client,
        } => {
            let restart = format!("{}/restart", path(&id));
            change((Method::POST, &restart), Bytes::new(), force, (&id, &wait, &client)).await
        }
        AppCommand::Versions { id, client } => list::versions(&id, &client).await,
        AppCommand::Rollback {
            id,
            to,
            force,
            wait,
            client,
        } => {
            let version = match to {
                Some(version) => version,
                None => before_present(&id, &client).await?,
            };
            let body = json!({"version": version}).to_string();
            change((Method::PUT, &path(&id)), body.into(), force, (&id, &wait, &client)).await
        }
        AppCommand::Remove { id, wait, client } => {
            let reply = Client::new(&client.master)?
                .call(Method::DELETE, &path(&id), Bytes::new())
                .await?;
            changed(&id, reply, &wait, &client).await
        }
    }
}

/// Sends a change and waits for it.
async fn change(
    (method, path): (Method, &str),
    body: Bytes,
    force: bool,
    (id, wait, client): (&str, &WaitArgs, &ClientArgs),
) -> Result<(), ClientError> {
    let path = if force {
        format!("{path}?force=true")
    } else {
        path.to_owned()
    };
    let reply = Client::new(&client.master)?.call(method, &path, body).await?;
    changed(id, reply, wait, client).await
}

/// The version before the present one.
async fn before_present(id: &str, args: &ClientArgs) -> Result<String, ClientError> {
    let known = Client::new(&args.master)?
        .get(&format!("{}/versions", path(id)))
        .await?;
    let earlier = known["versions"][1].as_str().map(str::to_owned);
    earlier.ok_or_else(|| ClientError::NoEarlierVersion(id.to_owned()))
}

/// The API path of an app.
pub(super) fn path(id: &str) -> String {
    format!("/v2/apps/{}", segment(id.trim_matches('/')))
}

/// Text as a part of a path; slashes stay.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, ClientError> {
    let error = |source| ClientError::File {
        path: file.display().to_string(),
        source,
    };
    if file == Path::new("-") {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).map_err(error)?;
        return Ok(text);
    }
    std::fs::read(file).map_err(error)
}

async fn add(file: &Path, wait: &WaitArgs, args: &ClientArgs) -> Result<(), ClientError> {
    let client = Client::new(&args.master)?;
    let app = client.call(Method::POST, "/v2/apps", read(file)?.into()).await?;
    let id = app["id"].as_str().unwrap_or_default().to_owned();
    let reply = json!({"version": app["version"], "deploymentId": app["deployments"][0]["id"]});
    changed(&id, reply, wait, args).await
}

/// Waits for the deployment and says what came of it.
pub(super) async fn changed(id: &str, reply: Value, wait: &WaitArgs, args: &ClientArgs) -> Result<(), ClientError> {
    let client = Client::new(&args.master)?;
    if !wait.no_wait {
        let deployment = reply["deploymentId"].as_str().unwrap_or_default();
        until_done(&client, id, deployment, wait.timeout).await?;
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{reply}")?;
    } else if wait.no_wait {
        writeln!(
            out,
            "{id}: taken as deployment {}",
            reply["deploymentId"].as_str().unwrap_or_default()
        )?;
    } else {
        writeln!(out, "{id}: done")?;
    }
    Ok(())
}

async fn until_done(client: &Client, id: &str, deployment: &str, seconds: u64) -> Result<(), ClientError> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut progress = Progress::default();
    loop {
        let open = client.get("/v2/deployments").await?;
        let ours = open.as_array().into_iter().flatten().any(|one| one["id"] == deployment);
        if !ours {
            progress.end()?;
            return deploy::outcome(client, id, deployment).await;
        }
        let why = state(client, id).await?;
        progress.show(id, &why)?;
        if Instant::now() >= deadline {
            progress.end()?;
            return Err(ClientError::Waiting {
                id: id.to_owned(),
                seconds,
                why,
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How far it is, and why no further.
async fn state(client: &Client, id: &str) -> Result<String, ClientError> {
    let app = match client.get(&path(id)).await {
        Ok(answer) => answer["app"].clone(),
        Err(ClientError::Refused { status, .. }) if status == hyper::StatusCode::NOT_FOUND => {
            return super::pod::progress(client, id).await;
        }
        Err(error) => return Err(error),
    };
    let changed = app["versionInfo"]["lastConfigChangeAt"].as_str().unwrap_or_default();
    let running = app["tasks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|task| task["state"] == "TASK_RUNNING");
    // Versions are times in one format, so their texts compare as they do.
    let is_new = |task: &&Value| task["version"].as_str() >= Some(changed);
    let (new, old): (Vec<&Value>, Vec<&Value>) = running.partition(is_new);
    let mut text = format!("{} of {} instances run", new.len(), app["instances"]);
    if !old.is_empty() {
        text.push_str(&format!(", {} of earlier versions still do", old.len()));
    }
    let queue = client.get("/v2/queue").await?;
    let item = queue["queue"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|item| item["app"]["id"] == app["id"]);
    if let Some(item) = item {
        text.push_str(&format!(", {} wait", item["count"]));
        let reasons = item["processedOffersSummary"]["rejectSummaryLastOffers"].as_array();
        let refused = reasons
            .into_iter()
            .flatten()
            .filter(|reason| reason["declined"].as_u64() > Some(0));
        let names: Vec<&str> = refused.filter_map(|reason| reason["reason"].as_str()).collect();
        match item["delay"]["timeLeftSeconds"].as_u64() {
            Some(left) if left > 0 => text.push_str(&format!(" {left} s after a failure")),
            _ if item["processedOffersSummary"]["processedOffersCount"] == 0 => text.push_str(" (no node is there)"),
            _ if !names.is_empty() => text.push_str(&format!(" ({})", names.join(", "))),
            _ => {}
        }
    }
    Ok(text)
}

/// One line that changes, on a terminal; each change on a line of its own elsewhere.
#[derive(Default)]
struct Progress {
    last: String,
}

impl Progress {
    fn show(&mut self, id: &str, text: &str) -> Result<(), ClientError> {
        if self.last != text {
            text.clone_into(&mut self.last);
            let mut out = std::io::stderr().lock();
            if out.is_terminal() {
                write!(out, "\r\x1b[K{id}: {text}")?;
            } else {
                writeln!(out, "{id}: {text}")?;
            }
            out.flush()?;
        }
        Ok(())
    }

    fn end(&self) -> Result<(), ClientError> {
        let mut out = std::io::stderr().lock();
        if !self.last.is_empty() && out.is_terminal() {
            write!(out, "\r\x1b[K")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_slashes_and_hide_the_rest() {
        assert_eq!(path("/a/b"), "/v2/apps/a/b");
        assert_eq!(path("a b?c"), "/v2/apps/a%20b%3Fc");
    }
}
