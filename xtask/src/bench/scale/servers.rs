//! Three members of etcd and three masters, each on an address of its own of the loopback device.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::until;
use crate::{dist, shell, workspace::Workspace};

/// Masters, and members of etcd.
const EACH: u8 = 3;
/// The header by which an answer of a master's copy says how old it is.
const STALE: &str = "x-revere-stale-ms";
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A program that ends with its owner.
#[derive(Debug)]
pub(super) struct Program(pub(super) Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) masters: Vec<Program>,
    pub(super) members: Vec<Program>,
    dir: PathBuf,
}

fn master(number: u8) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, number), 5050).into()
}

fn member(number: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, 10 + number), port).into()
}

impl Servers {
    /// Starts all and waits until a master leads and the others have copies.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut servers = Self {
            masters: Vec::new(),
            members: Vec::new(),
            dir: dir.to_owned(),
        };
        for number in 1..=EACH {
            let etcd = servers.etcd(number)?;
            servers.members.push(etcd);
        }
        let revere = dist::build_revere(&Workspace::find()?)?;
        for number in 1..=EACH {
            let master = servers.master(&revere, number)?;
            servers.masters.push(master);
        }
        until("a master leads", || servers.leader().ok()).with_context(|| servers.picture())?;
        for number in 1..=EACH {
            // Its own answer, which says how old it is: who begins to follow before that is sent elsewhere.
            let own = |said: String| said.to_ascii_lowercase().contains(STALE);
            let follows = || {
                let leads = servers.leader().is_ok_and(|leader| leader + 1 == usize::from(number));
                leads || said(master(number), "GET", "/v2/apps", "").is_ok_and(own)
            };
            until("a master follows", || follows().then_some(()))?;
        }
        Ok(servers)
    }

    fn etcd(&self, number: u8) -> Result<Program> {
        let cluster: Vec<String> = (1..=EACH)
            .map(|one| format!("m{one}=http://{}", member(one, 2380)))
            .collect();
        let (clients, peers) = (
            format!("http://{}", member(number, 2379)),
            format!("http://{}", member(number, 2380)),
        );
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{number}"), "--initial-cluster", &cluster.join(",")])
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .arg("--data-dir")
            .arg(self.dir.join(format!("etcd{number}")));
        self.spawn(command, &format!("etcd{number}"))
    }

    fn master(&self, revere: &Path, number: u8) -> Result<Program> {
        let members: Vec<String> = (1..=EACH).map(|one| member(one, 2379).to_string()).collect();
        let address = master(number).to_string();
        let mut command = Command::new(revere);
        command
            .args(["master", "--listen", &address, "--marathon-listen", ""])
            .args(["--store", &format!("etcd://{}", members.join(","))])
            .args(["--set", &format!("master.advertise={address}")]);
        self.spawn(command, &format!("master{number}"))
    }

    fn spawn(&self, mut command: Command, name: &str) -> Result<Program> {
        let log = std::fs::File::create(self.dir.join(format!("{name}.log")))?;
        command.stdout(log.try_clone()?).stderr(log);
        let started = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Program(started))
    }

    /// Number of the master that leads, from 0.
    pub(super) fn leader(&self) -> Result<usize> {
        let (_, told) = ask(master(1), "GET", "/v2/leader", "")?;
        let leads = |number: &u8| told.contains(&format!("\"{}\"", master(*number)));
        let leader = (1..=EACH).find(leads);
        let leader = leader.with_context(|| format!("no master is told to lead: {told}"))?;
        Ok(usize::from(leader) - 1)
    }

    /// The masters as nodes are told them, the leader first: agents ask the first.
    pub(super) fn urls(&self) -> Result<String> {
        let leader = self.leader()?;
        let mut urls: Vec<String> = (1..=EACH).map(|number| format!("http://{}", master(number))).collect();
        urls.rotate_left(leader);
        Ok(urls.join(","))
    }

    /// The leader's answer.
    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let leader = u8::try_from(self.leader()?)? + 1;
        ask(master(leader), method, path, body)
    }

    /// Sums of a counter of all members of etcd.
    pub(super) fn counted(&self, name: &str) -> Result<f64> {
        let mut sum = 0.0;
        for number in 1..=EACH {
            let (_, text) = ask(member(number, 2379), "GET", "/metrics", "")?;
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let value: f64 = value
                .and_then(|value| value.trim().parse().ok())
                .with_context(|| format!("etcd tells no {name}"))?;
            sum += value;
        }
        Ok(sum)
    }

    /// The last lines of every log.
    pub(super) fn picture(&self) -> String {
        let logs = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let logs = logs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
        let shown = logs.map(|entry| {
            let log = std::fs::read(entry.path()).unwrap_or_default();
            let last = shell::last_lines(&String::from_utf8_lossy(&log), 12);
            format!("-- {}\n{last}\n", entry.path().display())
        });
        shown.collect()
    }
}

/// One request over a connection of its own; status and body, without the lengths between the pieces of a chunked one.
fn ask(to: SocketAddr, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let said = said(to, method, path, body)?;
    let status = said.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    let (_, body) = said.split_once("\r\n\r\n").unwrap_or_default();
    Ok((status.context("no HTTP")?, body.to_owned()))
}

/// The answer as it comes.
fn said(to: SocketAddr, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {to}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}
