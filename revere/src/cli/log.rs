//! `revere task log`: what a task wrote, from the node that has its sandbox.

use std::io::Write;
use std::time::Duration;

use agent::MOST_OLDER;
use clap::Args;
use serde_json::Value;

use super::ClientArgs;
use super::app::segment;
use super::client::{Client, ClientError};
use super::list::{items, text};

/// How often there is a look for more.
const LOOK: Duration = Duration::from_millis(500);

/// How often the file that was read last is looked for: others may be renamed right then.
const MISSED: u32 = 3;

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
        None => node_of(&args.id, &args.client).await?,
    };
    let node = Client::new(&node)?;
    let path = segment(&format!("/executors/{}/runs/latest/{}", args.id, args.file));
    let mut out = std::io::stdout().lock();
    if !args.follow {
        let whole = node.bytes(&format!("/files/download?path={path}")).await?;
        return Ok(out.write_all(&whole)?);
    }
    let mut log = Followed {
        node,
        id: args.id,
        file: args.file,
        offset: 0,
        identity: None,
        missed: 0,
    };
    loop {
        if !log.more(&mut out).await? {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A log that is written while it is read.
struct Followed {
    node: Client,
    id: String,
    file: String,
    offset: u64,
    /// Which file it was at last: a full one is renamed, and another one gets its place.
    identity: Option<String>,
    /// How often in a row that one was not found.
    missed: u32,
}

/// A part of a file.
struct Part {
    text: String,
    next: u64,
    identity: String,
}

impl Followed {
    /// Writes what there is now; whether there may be more at once.
    async fn more(&mut self, out: &mut impl Write) -> Result<bool, ClientError> {
        let Some((number, part)) = self.find().await? else {
            self.missed += 1;
            if self.missed > MISSED {
                writeln!(
                    std::io::stderr(),
                    "revere: it is written faster than read, and a part of it is gone"
                )?;
                (self.offset, self.identity) = (0, None);
            }
            return Ok(false);
        };
        self.missed = 0;
        write(out, &part.text)?;
        let any = part.next != self.offset;
        self.offset = part.next;
        let read_out = !any && number > 0;
        self.identity = Some(part.identity);
        if read_out { self.go_on(number).await } else { Ok(any) }
    }

    /// The file with that number is full and read: the next newer one goes on. Whether that is known already.
    async fn go_on(&mut self, number: u32) -> Result<bool, ClientError> {
        let newer = match self.part(number - 1, 0).await {
            // The full one has its new name, and there is no other in its place yet.
            Err(ClientError::Refused { .. }) => return Ok(false),
            newer => newer?,
        };
        let still = match self.part(number, self.offset).await {
            Err(ClientError::Refused { .. }) => return Ok(false),
            still => still?,
        };
        // All of them may have been renamed between the two: then the newer one is not the next, and both are looked for again.
        if self.identity.as_ref() == Some(&still.identity) {
            (self.offset, self.identity) = (0, Some(newer.identity));
        }
        Ok(true)
    }

    /// The file that was read last, and the number in its name now.
    async fn find(&self) -> Result<Option<(u32, Part)>, ClientError> {
        for number in 0..=MOST_OLDER {
            match self.part(number, self.offset).await {
                Ok(part) if self.identity.as_ref().is_none_or(|known| *known == part.identity) => {
                    return Ok(Some((number, part)));
                }
                Ok(_) => {}
                // They are being renamed, or it is gone.
                Err(ClientError::Refused { .. }) if self.identity.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// A part of the file with that number in its name.
    async fn part(&self, number: u32, offset: u64) -> Result<Part, ClientError> {
        let suffix = if number == 0 {
            String::new()
        } else {
            format!(".{number}")
        };
        let path = segment(&format!("/executors/{}/runs/latest/{}{suffix}", self.id, self.file));
        let part = self
            .node
            .get(&format!("/files/read?path={path}&offset={offset}"))
            .await?;
        Ok(Part {
            text: text(&part["data"]),
            // Counted by the node: text that is none has more bytes here than there.
            next: part["next"].as_u64().unwrap_or(offset),
            identity: text(&part["file"]),
        })
    }
}

fn write(out: &mut impl Write, text: &str) -> Result<(), ClientError> {
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// URL of the node that runs a task, of an app or of a pod.
pub(super) async fn node_of(id: &str, args: &ClientArgs) -> Result<String, ClientError> {
    let master = Client::new(&args.master)?;
    let nodes = master.get("/revere/v1/nodes").await?;
    let tasks = master.get("/v2/tasks").await?;
    let agent = items(&tasks["tasks"]).find(|task| task["id"] == id);
    let agent = match agent {
        Some(task) => text(&task["slaveId"]),
        None => super::pod::agent_of(&master, id).await?,
    };
    let found: Option<&Value> = items(&nodes["nodes"]).find(|node| node["id"] == agent.as_str());
    match found {
        Some(node) => Ok(format!("http://{}:{}", text(&node["ip"]), node["http_port"])),
        None => Err(ClientError::NoTask(id.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use axum::Json;
    use axum::extract::{Query, State};
    use axum::http::StatusCode;
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;

    /// A sandbox's files, the newest first, each one its name and what is in it; none has been made yet.
    #[derive(Debug, Default)]
    struct Files {
        now: Vec<Option<&'static str>>,
        /// What they are when a file has been looked at from its beginning.
        next: Option<Vec<Option<&'static str>>>,
    }

    type Shared = Arc<Mutex<Files>>;

    async fn read(
        State(files): State<Shared>,
        Query(asked): Query<HashMap<String, String>>,
    ) -> Result<Json<Value>, (StatusCode, &'static str)> {
        let mut files = files.lock();
        let offset: usize = asked["offset"].parse().expect("a number");
        if offset == 0
            && let Some(next) = files.next.take()
        {
            files.now = next;
        }
        let number = asked["path"].rsplit('.').next().and_then(|number| number.parse().ok());
        let file = files.now.get(number.unwrap_or(0)).copied().flatten();
        let text = file.ok_or((StatusCode::NOT_FOUND, "no such file"))?;
        let data = text.get(offset..).unwrap_or_default();
        Ok(Json(json!({"data": data, "next": text.len(), "file": text})))
    }

    async fn followed(now: &[Option<&'static str>]) -> (Followed, Shared) {
        let files = Shared::default();
        files.lock().now = now.to_vec();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let router = axum::Router::new().route("/files/read", axum::routing::get(read));
        let router = router.with_state(Arc::clone(&files));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let log = Followed {
            node: Client::new(&url).expect("valid"),
            id: "task".to_owned(),
            file: "stdout".to_owned(),
            offset: 0,
            identity: None,
            missed: 0,
        };
        (log, files)
    }

    /// Everything there is, as long as there is more.
    async fn all(log: &mut Followed) -> String {
        let mut out = Vec::new();
        while log.more(&mut out).await.expect("the node answers") {}
        String::from_utf8(out).expect("text")
    }

    #[tokio::test]
    async fn a_file_that_is_renamed_while_the_next_is_looked_for_is_not_skipped() {
        let (mut log, files) = followed(&[Some("one ")]).await;
        assert_eq!(all(&mut log).await, "one ");
        *files.lock() = Files {
            now: vec![Some("two "), Some("one ")],
            next: Some(vec![Some("three "), Some("two "), Some("one ")]),
        };
        assert_eq!(all(&mut log).await, "two three ");
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_yet_is_waited_for() {
        let (mut log, files) = followed(&[Some("one ")]).await;
        assert_eq!(all(&mut log).await, "one ");
        files.lock().now = vec![None, Some("one ")];
        assert_eq!(all(&mut log).await, "", "between its new name and the next file");
        files.lock().now = vec![Some("two "), Some("one ")];
        assert_eq!(all(&mut log).await, "two ");
    }
}
