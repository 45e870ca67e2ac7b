//! One place of the lab: a network and a mount namespace, perhaps a cgroup, and programs that run in them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::janitor::{Janitor, first_child, only_child};
use crate::shell;

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until there is something, or the time is over.
pub fn wait_for<T>(limit: Duration, look: impl FnMut() -> Option<T>) -> Option<T> {
    wait_for_every(LOOK, limit, look)
}

/// The same with another pause between two looks, for those that cost something.
pub fn wait_for_every<T>(pause: Duration, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Some(found) => return Some(found),
            None if Instant::now() > deadline => return None,
            None => std::thread::sleep(pause),
        }
    }
}

/// Namespaces that programs can be run in.
#[derive(Clone, Debug)]
pub struct Place {
    /// node1, outside, ...
    pub name: String,
    /// The process that holds the namespaces, as seen from here.
    pub pid: u32,
    /// The same, as seen inside the lab.
    pub inner_pid: u32,
    /// Its cgroup (version 2).
    pub cgroup: Option<PathBuf>,
    /// Its files.
    pub dir: PathBuf,
}

/// A program that goes on running in a place.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// The program itself, as seen from here; `None` if it ended before anybody looked.
    pid: Option<u32>,
    /// Both its outputs.
    pub log: PathBuf,
}

impl Place {
    pub(super) fn new(janitor: &Janitor, name: &str, lab: &Path, cgroup: Option<PathBuf>) -> Result<Self> {
        let dir = lab.join(name);
        std::fs::create_dir_all(&dir)?;
        if let Some(cgroup) = &cgroup {
            std::fs::create_dir(cgroup).with_context(|| format!("cannot make the cgroup {}", cgroup.display()))?;
        }
        // The holder is a child of nsenter, which must fork to enter a PID namespace. It ends with the namespace.
        let child = Command::new("nsenter")
            .args([
                "-t",
                &janitor.init.to_string(),
                "-p",
                "-m",
                "-n",
                "--",
                "unshare",
                "--net",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
            ])
            .arg("echo ready; exec sleep infinity")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start nsenter")?;
        let mut child = child;
        let pid = only_child(child.id()).with_context(|| format!("cannot make the namespaces of {name}"))?;
        let mut out = child.stdout.take().context("no output")?;
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut out, &mut ready)
            .with_context(|| format!("cannot make the namespaces of {name}"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let inner = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last()?.parse().ok());
        let inner_pid = inner.context("no NSpid in /proc/PID/status")?;
        Ok(Self {
            name: name.to_owned(),
            pid,
            inner_pid,
            cgroup,
            dir,
        })
    }

    /// A command that will run here.
    #[must_use]
    pub fn command(&self, program: &[&str]) -> Command {
        inside(self.cgroup.as_deref(), self.pid, program)
    }

    /// How a person enters.
    #[must_use]
    pub fn how_to_enter(&self) -> String {
        let join = self
            .cgroup
            .as_ref()
            .map(|cgroup| format!("echo $$ > {}/cgroup.procs; ", cgroup.display()))
            .unwrap_or_default();
        format!("sh -c '{join}exec nsenter -t {} -n -m -p bash'", self.pid)
    }

    /// Runs and gives its standard output; fails with all it wrote.
    pub fn run(&self, program: &[&str]) -> Result<String> {
        shell::capture(&mut self.command(program)).with_context(|| format!("on {}", self.name))
    }

    /// A line of shell.
    pub fn sh(&self, line: &str) -> Result<String> {
        self.run(&["sh", "-c", line])
    }

    /// Starts a program whose output goes to `DIR/name.log`, after what is there already.
    pub fn spawn(&self, name: &str, program: &[&str], env: &[(&str, String)]) -> Result<Daemon> {
        let log = self.dir.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let mut command = self.command(program);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .envs(env.iter().map(|(key, value)| (*key, value)));
        Daemon::start(command, log)
    }

    /// Has its names answered by these servers, in this order.
    pub fn resolve_with(&self, servers: &[String]) -> Result<()> {
        let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        text.push_str("options timeout:1 attempts:3\n");
        std::fs::write(self.dir.join("resolv.conf"), text)?;
        // Without this line a host with systemd-resolved would answer over its socket, past the lab.
        std::fs::write(self.dir.join("nsswitch.conf"), "hosts: files dns\n")?;
        let dir = self.dir.display();
        self.sh(&format!(
            "mount --bind {dir}/resolv.conf /etc/resolv.conf && {{ [ ! -e /etc/nsswitch.conf ] || mount --bind {dir}/nsswitch.conf /etc/nsswitch.conf; }}"
        ))
        .map(drop)
    }

    /// Addresses, routes, links, neighbours, sockets and the last lines of every log.
    #[must_use]
    pub fn picture(&self) -> String {
        let mut text = format!("==== {} ====\n", self.name);
        for line in [
            "ip -br addr",
            "ip route show table all | grep -v '^broadcast\\|^multicast'",
            "ip -s link show up0",
            "ip neigh",
            "ss -ltnup",
        ] {
            let said = shell::output(&mut self.command(&["sh", "-c", line]))
                .map_or_else(|error| format!("{error:#}"), |output| shell::both(&output));
            text.push_str(&format!("$ {line}\n{said}\n"));
        }
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read(&path).unwrap_or_default();
                text.push_str(&format!(
                    "-- {}\n{}\n",
                    path.display(),
                    shell::last_lines(&String::from_utf8_lossy(&log), 30)
                ));
            }
        }
        text
    }
}

/// A command in the cgroup `cgroup` and the namespaces of process `pid`.
#[must_use]
pub fn inside(cgroup: Option<&Path>, pid: u32, program: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let join = cgroup
        .map(|cgroup| format!("echo 0 > '{}/cgroup.procs' && ", cgroup.display()))
        .unwrap_or_default();
    command
        .arg("-c")
        .arg(format!("{join}exec nsenter -t {pid} -n -m -p -- \"$@\""))
        .arg("sh")
        .args(program);
    // Settings of the person's own cluster are not the lab's.
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("REVERE_")) {
        command.env_remove(key);
    }
    command
}

impl Daemon {
    /// Starts `command`, which must be one of [`inside`]'s.
    pub fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let mut child = command.spawn().context("cannot start a program in the lab")?;
        let id = child.id();
        let pid = wait_for(Duration::from_secs(10), || match first_child(id) {
            Some(pid) => Some(Some(pid)),
            // A short program may be over already.
            None => matches!(child.try_wait(), Ok(Some(_))).then_some(None),
        });
        let pid = pid.flatten();
        Ok(Self { child, pid, log })
    }

    /// SIGKILL, to the program itself.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(rustix::process::Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// A signal to the program itself.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = self
            .pid()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw)
            .with_context(|| format!("the program ended at once; it said: {}", self.output()))?;
        rustix::process::kill_process(pid, signal).context("cannot send the program a signal")?;
        // nsenter stops itself when its program is stopped, and nobody else wakes it.
        if signal == rustix::process::Signal::CONT
            && let Some(parent) = i32::try_from(self.child.id())
                .ok()
                .and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(parent, signal).context("cannot wake the program's parent")?;
        }
        Ok(())
    }

    /// The program's process, as seen from here.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().context("cannot wait for a program in the lab")
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// What it wrote.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}
