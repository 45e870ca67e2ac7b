//! Every client that people look names up with: `dig`, `kdig`, `drill`, `host`, glibc, musl, unbound, systemd-resolved.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::lab::upstream::{BIG, Conduct, HONEST, Upstream};
use xtask::lab::{Cluster, OUTSIDE, Place};
use xtask::setup::resolved;
use xtask::shell;
use xtask::workspace::Workspace;

use super::{on_cluster, vip};

const VIP: &str = "my-service.marathon.l4lb.thisdcos.directory";
const TASK: &str = "my-service.marathon.mesos";
const SRV: &str = "_my-service._tcp.marathon.mesos";
const NOBODY: &str = "nobody.marathon.mesos";
/// The node's name server, and a name that it must ask the outside for.
const SERVER: &str = "198.51.100.1";
const FORWARDED: &str = "www.outside.example";
const GONE: &str = "gone.outside.example";
/// More addresses than UDP takes.
const LARGE: &str = "big.outside.example";
/// Instances of the service.
const INSTANCES: usize = 3;

/// What the names stand for.
struct Truth {
    vip: String,
}

/// How a client is asked, each giving what it printed, whatever its exit status.
struct Client<'a> {
    name: &'static str,
    place: &'a Place,
    /// For addresses of a name.
    addresses: String,
    /// For SRV records, when it can.
    services: Option<String>,
    /// For AAAA records, to tell "no such record" from "no such name", when it shows the difference.
    absent: Option<String>,
}

impl Client<'_> {
    fn says(&self, line: &str, name: &str) -> Result<String> {
        let line = line.replace("NAME", name);
        let output = shell::output(&mut self.place.command(&["sh", "-c", &line]))?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    fn addresses(&self, name: &str) -> Result<(BTreeSet<Ipv4Addr>, String)> {
        let said = self.says(&self.addresses, name)?;
        // The address of the server itself stands in some programs' comments, never alone in a word of an answer.
        let server: Ipv4Addr = SERVER.parse()?;
        let words = said.split_whitespace().filter_map(|word| word.parse::<Ipv4Addr>().ok());
        Ok((
            words.filter(|addr| *addr != server && !addr.is_loopback()).collect(),
            said,
        ))
    }

    /// All names, with `large` addresses at least of the name that has most.
    fn resolves(&self, truth: &Truth, large: usize) -> Result<()> {
        let tool = self.name;
        let (found, said) = self.addresses(VIP)?;
        ensure!(found == BTreeSet::from([truth.vip.parse()?]), "{tool}: {VIP}: {said}");
        let (found, said) = self.addresses(TASK)?;
        let ours = |addr: &Ipv4Addr| addr.octets()[..3] == [10, 99, 0] || addr.octets()[0] == 9;
        ensure!(!found.is_empty() && found.iter().all(ours), "{tool}: {TASK}: {said}");
        let (found, said) = self.addresses(FORWARDED)?;
        ensure!(found == BTreeSet::from([HONEST]), "{tool}: {FORWARDED}: {said}");
        for name in [NOBODY, GONE] {
            let (found, said) = self.addresses(name)?;
            ensure!(found.is_empty(), "{tool}: {name}: {said}");
            if self.absent.is_some() {
                ensure!(said.contains("NXDOMAIN"), "{tool}: {name} is not told apart: {said}");
            }
        }
        if let Some(line) = &self.absent {
            let said = self.says(line, VIP)?;
            ensure!(
                !said.contains("NXDOMAIN") && !said.contains("SERVFAIL") && !said.contains("REFUSED"),
                "{tool}: {VIP} has no AAAA record, which is no error: {said}"
            );
        }
        if let Some(line) = &self.services {
            let said = self.says(line, SRV)?;
            let targets = said.matches(".marathon.mesos").count();
            ensure!(
                targets >= INSTANCES && !said.contains("NXDOMAIN"),
                "{tool}: {SRV}: {said}"
            );
        }
        let (found, said) = self.addresses(LARGE)?;
        ensure!(
            found.len() >= large,
            "{tool}: {LARGE}: {} addresses: {said}",
            found.len()
        );
        Ok(())
    }
}

/// The shared cluster with a name server outside of it, and what is true there.
fn with_outside(tools: &[&str], test: impl FnOnce(&Cluster, &Truth) -> Result<()>) {
    for tool in tools {
        assert!(
            shell::find(tool).is_some(),
            "this test could not run: `{tool}` is not installed; `cargo xtask test` without --no-install installs it"
        );
    }
    on_cluster(|cluster| {
        let answers = Conduct::Answers(Duration::ZERO);
        let upstream = Upstream::start(&cluster.lab.outside, OUTSIDE.parse()?, 60, answers)?;
        let truth = Truth { vip: vip(cluster)? };
        // The node may have found that nobody was there a moment ago.
        cluster.until("outside names are answered", |cluster| {
            let said = cluster
                .node(1)
                .run(&["dig", "+short", "@198.51.100.1", FORWARDED, "A"])
                .ok()?;
            said.contains(&HONEST.to_string()).then_some(())
        })?;
        test(cluster, &truth)?;
        drop(upstream);
        Ok(())
    });
}

/// `dig` and `kdig` speak alike, but for what they call a message's header.
fn like_dig<'a>(name: &'static str, place: &'a Place, server: &str) -> Client<'a> {
    let header = if name == "kdig" { "+header" } else { "+comments" };
    Client {
        name,
        place,
        addresses: format!("{name} {server} +noall +answer {header} NAME A"),
        services: Some(format!("{name} {server} +short NAME SRV")),
        absent: Some(format!("{name} {server} +noall +answer {header} NAME AAAA")),
    }
}

#[test]
fn dig_resolves_the_names() {
    with_outside(&["dig"], |cluster, truth| {
        let client = like_dig("dig", cluster.node(1), "@198.51.100.1");
        client.resolves(truth, usize::from(BIG))?;
        // Without a second try by TCP the answer is a part, and says so.
        let part = client.says("dig @198.51.100.1 +ignore +noall +answer +comments NAME A", LARGE)?;
        let count = part.lines().filter(|line| line.contains("192.0.2.")).count();
        ensure!(part.contains(" tc") && (1..usize::from(BIG)).contains(&count), "{part}");
        let spelled = client.says("dig @198.51.100.1 +noall +answer NAME A", "My-Service.MARATHON.mesos")?;
        ensure!(spelled.contains("My-Service.MARATHON.mesos."), "{spelled}");
        Ok(())
    });
}

#[test]
fn kdig_resolves_the_names() {
    with_outside(&["kdig"], |cluster, truth| {
        like_dig("kdig", cluster.node(1), "@198.51.100.1").resolves(truth, usize::from(BIG))
    });
}

#[test]
fn drill_resolves_the_names() {
    with_outside(&["drill"], |cluster, truth| {
        let client = Client {
            name: "drill",
            place: cluster.node(1),
            addresses: "drill -a NAME @198.51.100.1 A".to_owned(),
            services: Some("drill -Q NAME @198.51.100.1 SRV".to_owned()),
            absent: Some("drill NAME @198.51.100.1 AAAA".to_owned()),
        };
        client.resolves(truth, usize::from(BIG))
    });
}

#[test]
fn host_resolves_the_names() {
    with_outside(&["host"], |cluster, truth| {
        let client = Client {
            name: "host",
            place: cluster.node(1),
            addresses: "host -t A NAME 198.51.100.1".to_owned(),
            services: Some("host -t SRV NAME 198.51.100.1".to_owned()),
            absent: Some("host -t AAAA NAME 198.51.100.1".to_owned()),
        };
        client.resolves(truth, usize::from(BIG))
    });
}

#[test]
fn getent_resolves_the_names() {
    with_outside(&["getent"], |cluster, truth| {
        let client = Client {
            name: "getent",
            place: cluster.node(1),
            addresses: "getent ahostsv4 NAME".to_owned(),
            services: None,
            absent: None,
        };
        client.resolves(truth, usize::from(BIG))
    });
}

/// The same small program with either C library.
fn c_program(compiler: &'static str, link: &[&str], large: usize) {
    with_outside(&[compiler], |cluster, truth| {
        let dir = &cluster.node(1).dir;
        let (source, program) = (dir.join("lookup.c"), dir.join(format!("lookup-{compiler}")));
        std::fs::write(&source, include_str!("interop/lookup.c"))?;
        let mut compile = std::process::Command::new(compiler);
        shell::capture(compile.arg("-o").arg(&program).arg(&source).args(link))?;
        let program = program.to_str().context("a plain path")?;
        let client = Client {
            name: compiler,
            place: cluster.node(1),
            addresses: format!("{program} addresses NAME"),
            services: Some(format!("{program} services NAME")),
            absent: None,
        };
        client.resolves(truth, large)
    });
}

#[test]
fn a_glibc_program_resolves_the_names() {
    c_program("cc", &["-lresolv"], usize::from(BIG));
}

/// Debian's musl has no TCP in its resolver yet: it makes do with the part that fits into UDP.
#[test]
fn a_musl_program_resolves_the_names() {
    c_program("musl-gcc", &["-static"], 10);
}

#[test]
fn unbound_resolves_the_names_through_a_node() {
    with_outside(&["unbound", "dig"], |cluster, truth| {
        let node = cluster.node(1);
        let config = node.dir.join("unbound.conf");
        // Letters of random case are checked by it, and it asks by TCP what UDP cannot hold.
        std::fs::write(
            &config,
            format!(
                "server:\n interface: 127.0.0.1@5300\n username: \"\"\n chroot: \"\"\n directory: \"{dir}\"\n pidfile: \"\"\n \
                 use-syslog: no\n logfile: \"\"\n num-threads: 1\n do-daemonize: no\n do-ip6: no\n module-config: \"iterator\"\n \
                 use-caps-for-id: yes\n do-not-query-localhost: no\n \
                 forward-zone:\n name: \".\"\n forward-addr: {SERVER}\nremote-control:\n control-enable: no\n",
                dir = node.dir.display()
            ),
        )?;
        let unbound = shell::find("unbound").context("unbound is there")?;
        let program = [unbound.to_str(), Some("-c"), config.to_str()].map(|word| word.unwrap_or_default());
        let mut daemon = node.spawn("unbound", &program, &[])?;
        let client = like_dig("dig", node, "@127.0.0.1 -p 5300");
        let up = cluster.until("unbound answers", |_| {
            client
                .addresses(FORWARDED)
                .ok()
                .filter(|(found, _)| !found.is_empty())
                .map(drop)
        });
        let result = up.and_then(|()| client.resolves(truth, usize::from(BIG)));
        daemon.kill()?;
        result.with_context(|| daemon.output())
    });
}

#[test]
fn systemd_resolved_resolves_the_names_through_a_node() {
    let workspace = Workspace::find().expect("the workspace");
    let found = resolved::find(&workspace);
    let Some((program, libraries)) = found else {
        panic!(
            "this test could not run: systemd-resolved is not there; `cargo xtask test` without --no-install fetches it"
        );
    };
    with_outside(&["dig"], |cluster, truth| {
        let node = cluster.node(1);
        // It wants a user and a directory of its own; with no system bus it waits for one and serves meanwhile.
        let script = node.dir.join("resolved.sh");
        std::fs::write(&script, include_str!("interop/resolved.sh"))?;
        let words = [script.to_str(), program.to_str(), libraries.to_str()].map(|word| word.unwrap_or_default());
        let line = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            words[0],
            words[1],
            words[2],
            SERVER,
        ];
        let mut daemon = node.spawn("resolved", &line, &[])?;
        let client = like_dig("dig", node, "@127.0.0.53");
        let up = cluster.until("systemd-resolved answers", |_| {
            client
                .addresses(FORWARDED)
                .ok()
                .filter(|(found, _)| !found.is_empty())
                .map(drop)
        });
        let result = up.and_then(|()| client.resolves(truth, usize::from(BIG)));
        daemon.kill()?;
        result.with_context(|| daemon.output())
    });
}
