//! One more program in a running task, for a person who looks into it: the daemon's half.
//!
//! A holder, another process of this program, starts it and stands between it and the daemon: when the daemon or whoever
//! asked goes away, the holder ends the program and all that it started.

mod frame;
mod hold;
mod terminal;

use std::process::Stdio;
use std::time::Duration;

use model::TaskId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex, OwnedSemaphorePermit};

use crate::agent::Agent;
use crate::cgroup;
use crate::store::is_dir_name;
use frame::{ASK, DATA, END, ERROR, FAILED, Frames, LONGEST, OVER, RUNS, SIZE, frame};

pub(crate) use hold::serve;

/// Second argument of a holder.
pub(crate) const SESSION: &str = "session";
/// Sessions at a time on a node: each is two processes and a connection of somebody who looks at it.
pub(crate) const AT_ONCE: usize = 64;
/// How often, and after which waits, the cgroup of one that did not begin is removed: the killed take a moment to go.
const TRIES: u32 = 200;
const AGAIN: Duration = Duration::from_millis(50);
/// Longest name of a session; it is part of a cgroup's name.
const LONGEST_NAME: usize = 64;
/// Most bytes of input that are taken at once.
pub const MOST_INPUT: usize = LONGEST;

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// On top of the task's own environment.
    pub env: Vec<(String, String)>,
    /// A terminal of that size instead of pipes.
    pub terminal: Option<WindowSize>,
}

/// Why a session is not there.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No such task, or it is over.
    #[error("no task {0} runs on this node")]
    NoTask(TaskId),
    /// A name that no cgroup could have.
    #[error("a session's name has 1 to 64 letters, digits, `-`, `_` or `.`, and begins with none of the last: {0:?}")]
    Name(String),
    /// Nothing to run, or too much of it.
    #[error("{0}")]
    Command(String),
    /// Too many.
    #[error(
        "{AT_ONCE} programs run in tasks of this node for people, the most there may be; try again when one of them has ended"
    )]
    Busy,
    /// It was tried.
    #[error("{0}")]
    Failed(String),
}

/// What goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionInput {
    /// At most [`MOST_INPUT`] bytes.
    Data(Vec<u8>),
    /// No more input.
    End,
    /// The window has another size.
    Size(WindowSize),
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOutput {
    /// From its standard output, or its terminal.
    Out(Vec<u8>),
    /// From its standard error.
    Error(Vec<u8>),
    /// It has ended, with this wait status; nothing of it runs any more, unless the kernel could not end it.
    Over(i32),
}

/// A running session; when it is dropped, the program ends with all that it started.
#[derive(Debug)]
pub struct Session {
    input: Mutex<ChildStdin>,
    output: Mutex<(ChildStdout, Frames)>,
    group: std::path::PathBuf,
    /// Until it is waited for elsewhere.
    holder: Option<Child>,
    /// The program was started; until then the holder may hang in what the task put in its way.
    runs: bool,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.runs {
            // The holder sees it and removes the rest.
            self.end();
            return;
        }
        let (Some(mut holder), group) = (self.holder.take(), self.group.clone()) else {
            return;
        };
        // It is over, or hangs; who hangs sees nothing. What it began to start ends with it.
        let _ = holder.start_kill();
        self.end();
        // Outside of a runtime the daemon ends, and its task's end is this one's too.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // Until it is gone it may make the group, or put into it what it started.
                let _ = holder.wait().await;
                remove(&group).await;
            });
        }
    }
}

/// Removes the cgroup of a session whose holder is gone, once those in it are.
async fn remove(group: &std::path::Path) {
    for _ in 0..TRIES {
        cgroup::kill_all(group);
        match std::fs::remove_dir(group) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => tokio::time::sleep(AGAIN).await,
            _ => return,
        }
    }
    tracing::warn!(group = %group.display(), "what is left of a session that did not begin cannot be removed; it goes with its task");
}

/// The cgroup of a session, below the task's.
fn group_name(name: &str) -> String {
    format!("{name}.session")
}

impl Agent {
    /// Starts a program in a task: its namespaces, cgroups, root directory, user and limits.
    pub async fn open_session(&self, task: &TaskId, name: &str, spec: &SessionSpec) -> Result<Session, SessionError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !is_dir_name(name) || name.len() > LONGEST_NAME || !name.chars().all(plain) {
            return Err(SessionError::Name(name.to_owned()));
        }
        let asked = serde_json::to_vec(spec).map_err(|error| SessionError::Command(error.to_string()))?;
        if spec.argv.first().is_none_or(String::is_empty) {
            return Err(SessionError::Command("the command is empty".to_owned()));
        }
        if asked.len() > LONGEST {
            let text = format!("command and environment have more than {LONGEST} bytes");
            return Err(SessionError::Command(text));
        }
        let shared = self.shared();
        let dir = self.live_dir(task).ok_or_else(|| SessionError::NoTask(task.clone()))?;
        let permit = std::sync::Arc::clone(&shared.session_permits).try_acquire_owned();
        let permit = permit.map_err(|_| SessionError::Busy)?;
        let failed = |error: std::io::Error| SessionError::Failed(format!("cannot start a session: {error}"));
        let runner = shared.config.runner.split_first();
        let (program, arguments) = runner
            .ok_or_else(|| SessionError::Failed("this node has no program that could hold a session".to_owned()))?;
        let mut command = Command::new(program);
        command.args(arguments).arg(dir.path()).args([SESSION, name]);
        command
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut holder = command.spawn().map_err(failed)?;
        let pipes = holder.stdin.take().zip(holder.stdout.take());
        let (input, output) = pipes.ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        let mut session = Session {
            input: Mutex::new(input),
            output: Mutex::new((output, Frames::default())),
            group: shared.hierarchies.task(task.as_str()).join(group_name(name)),
            holder: Some(holder),
            runs: false,
            _permit: permit,
        };
        let limit = shared.config.session_wait;
        let begun = tokio::time::timeout(limit, session.begin(&asked)).await;
        let slow = |_| {
            let text = format!(
                "the program did not start within {} s: the node is overloaded, or the task's files hang",
                limit.as_secs_f32()
            );
            SessionError::Failed(text)
        };
        begun.map_err(slow)??;
        session.runs = true;
        Ok(session)
    }
}

impl Session {
    /// Tells the holder what to run, and waits until that runs.
    async fn begin(&self, asked: &[u8]) -> Result<(), SessionError> {
        let failed = |error: std::io::Error| SessionError::Failed(format!("cannot start a session: {error}"));
        self.send(ASK, asked).await.map_err(failed)?;
        match self.frame().await.map_err(failed)? {
            Some((RUNS, _)) => Ok(()),
            Some((FAILED, text)) => Err(SessionError::Failed(String::from_utf8_lossy(&text).into_owned())),
            _ => Err(SessionError::Failed("the session's holder ended".to_owned())),
        }
    }

    /// Ends it now, whoever still holds it.
    pub fn end(&self) {
        cgroup::kill_all(&self.group);
    }

    /// Gives it input; waits while it reads none. An error means that it is over.
    pub async fn give(&self, input: SessionInput) -> std::io::Result<()> {
        match input {
            SessionInput::Data(bytes) => {
                for part in bytes.chunks(LONGEST) {
                    self.send(DATA, part).await?;
                }
                Ok(())
            }
            SessionInput::End => self.send(END, &[]).await,
            SessionInput::Size(size) => {
                let [a, b] = size.rows.to_le_bytes();
                let [c, d] = size.columns.to_le_bytes();
                self.send(SIZE, &[a, b, c, d]).await
            }
        }
    }

    /// What comes next; none after its end. May be given up and called again.
    pub async fn next(&self) -> std::io::Result<Option<SessionOutput>> {
        Ok(match self.frame().await? {
            Some((DATA, bytes)) => Some(SessionOutput::Out(bytes)),
            Some((ERROR, bytes)) => Some(SessionOutput::Error(bytes)),
            Some((OVER, status)) => {
                let status = <[u8; 4]>::try_from(&status[..]).map_err(std::io::Error::other)?;
                Some(SessionOutput::Over(i32::from_le_bytes(status)))
            }
            Some((kind, _)) => return Err(std::io::Error::other(format!("the session's holder said {kind}"))),
            None => None,
        })
    }

    async fn send(&self, kind: u8, content: &[u8]) -> std::io::Result<()> {
        // One frame at a time, whole.
        self.input.lock().await.write_all(&frame(kind, content)).await
    }

    async fn frame(&self) -> std::io::Result<Option<(u8, Vec<u8>)>> {
        let mut output = self.output.lock().await;
        let (pipe, frames) = &mut *output;
        loop {
            if let Some(frame) = frames.next()? {
                return Ok(Some(frame));
            }
            if pipe.read_buf(&mut frames.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}
