//! A command asked in the task's namespaces: a helper process goes there and becomes the command.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};

use super::Answer;

/// Most bytes of a command's last words.
const MAX_WORDS: usize = 256;

/// The command and all that it started, ended when nobody waits for it any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails when all of it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs the health check of that number; the helper finds all else in the task's directory.
pub(super) async fn run(runner: &[OsString], dir: &Path, number: usize) -> Answer {
    let Some((program, arguments)) = runner.split_first() else {
        return Answer::Dead("no runner is configured".to_owned());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(dir)
        .arg(number.to_string())
        .current_dir("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // Before it leads its own group it is one process.
    let spawned = command.kill_on_drop(true).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Answer::Dead(format!("cannot start the command: {error}")),
    };
    let leader = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    let _group = Group(leader);
    let mut words = Vec::new();
    let ended = match child.stderr.take() {
        Some(stderr) => listen(&mut child, stderr, &mut words).await,
        None => child.wait().await,
    };
    match ended {
        Ok(status) if status.success() => Answer::Alive,
        Ok(status) => Answer::Dead(cause(status.code(), &words)),
        Err(error) => Answer::Dead(format!("cannot wait for the command: {error}")),
    }
}

/// Waits for the end and keeps the last words. What the command left running may hold the pipe open for ever.
async fn listen(
    child: &mut Child,
    mut stderr: ChildStderr,
    words: &mut Vec<u8>,
) -> std::io::Result<std::process::ExitStatus> {
    let mut open = true;
    loop {
        let mut part = [0; 1024];
        tokio::select! {
            biased;
            read = stderr.read(&mut part), if open => match read {
                Ok(count) if count > 0 => {
                    words.extend_from_slice(part.get(..count).unwrap_or_default());
                    let surplus = words.len().saturating_sub(MAX_WORDS);
                    words.drain(..surplus);
                }
                _ => open = false,
            },
            ended = child.wait() => return ended,
        }
    }
}

fn cause(status: Option<i32>, words: &[u8]) -> String {
    let how = match status {
        Some(status) => format!("the command ended with status {status}"),
        None => "the command was killed by a signal".to_owned(),
    };
    let words = String::from_utf8_lossy(words);
    match words.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!("{how}: {line}"),
        None => how,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_cause() {
        assert_eq!(cause(Some(1), b""), "the command ended with status 1");
        assert_eq!(
            cause(Some(4), b"a\nno route\n\n"),
            "the command ended with status 4: no route"
        );
        assert_eq!(cause(None, b""), "the command was killed by a signal");
    }
}
