//! Every kind of task in every network, asked by its VIP from every place (the table of docs/networks.md); and programs that people
//! run in these tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xtask::lab::{Cluster, NODES, OUTSIDE, inside, underlay};

use super::images::{REGISTRY, Registry, needed, own_architecture};
use super::on_cluster;

/// Kinds of tasks and of networks; a service of each pair runs on node 1.
const ORIGINS: [&str; 3] = ["process", "image", "pod"];
const NETWORKS: [&str; 3] = ["host", "bridge", "overlay"];
/// The node that the services are on, and another one.
const HERE: u8 = 1;
const THERE: u8 = 2;
/// Declared addresses of VIPs: this and the service's number.
const ADDRESSES: &str = "10.111.0.";
/// Seconds that a request may take on a busy machine.
const PATIENCE: &str = "8";

/// A service of the matrix.
#[derive(Clone, Debug)]
struct Service {
    origin: &'static str,
    network: &'static str,
    /// Its VIP by address.
    address: String,
}

impl Service {
    fn name(&self) -> String {
        format!("m-{}-{}", self.origin, self.network)
    }

    /// By name and by address.
    fn urls(&self) -> [(&'static str, String); 2] {
        let name = self.name();
        [
            ("named", format!("http://{name}.marathon.l4lb.thisdcos.directory:80/")),
            ("address", format!("http://{}:81/", self.address)),
        ]
    }

    fn labels(&self) -> Value {
        json!({"VIP_0": format!("/{}:80", self.name()), "VIP_1": format!("{}:81", self.address)})
    }

    /// App or pod, as Marathon's users write it.
    fn definition(&self) -> Value {
        if self.origin == "pod" {
            return self.pod();
        }
        let port = if self.network == "host" { "$PORT0" } else { "8080" };
        let cmd = if self.origin == "image" {
            format!("echo $MESOS_TASK_ID > /www/index.html; exec httpd -f -p {port} -h /www")
        } else {
            format!("exec revere demo-server --port {port}")
        };
        let mut app = json!({"id": format!("/{}", self.name()), "cmd": cmd, "cpus": 0.05, "mem": 32, "instances": 1,
            "constraints": [["hostname", "CLUSTER", underlay(HERE)]]});
        let mut container = json!({"type": "MESOS"});
        if self.origin == "image" {
            container = json!({"type": "DOCKER", "docker": {"image": format!("{REGISTRY}/team/busybox:1")}});
        }
        let mapping = json!({"containerPort": 8080, "name": "web", "labels": self.labels()});
        match self.network {
            "host" => {
                app["portDefinitions"] = json!([{"port": 0, "protocol": "tcp", "name": "web", "labels": self.labels()}])
            }
            "bridge" => {
                app["networks"] = json!([{"mode": "container/bridge"}]);
                container["portMappings"] = json!([mapping]);
                container["portMappings"][0]["hostPort"] = json!(0);
            }
            _ => {
                app["networks"] = json!([{"mode": "container", "name": "dcos"}]);
                container["portMappings"] = json!([mapping]);
            }
        }
        if self.network != "host" || self.origin == "image" {
            app["container"] = container;
        }
        app
    }

    fn pod(&self) -> Value {
        let mut endpoint = json!({"name": "web", "protocol": ["tcp"], "labels": self.labels()});
        let network = match self.network {
            "host" => json!({"mode": "host"}),
            "bridge" => json!({"mode": "container/bridge"}),
            _ => json!({"mode": "container", "name": "dcos"}),
        };
        match self.network {
            "host" => endpoint["hostPort"] = json!(0),
            _ => endpoint["containerPort"] = json!(8080),
        }
        json!({"id": format!("/{}", self.name()), "networks": [network],
            "containers": [{"name": "web", "exec": {"command": {"shell": "exec revere demo-server --port $ENDPOINT_WEB"}},
                "resources": {"cpus": 0.05, "mem": 32}, "endpoints": [endpoint]}],
            "scaling": {"kind": "fixed", "instances": 1},
            "scheduling": {"placement": {"constraints": [{"fieldName": "hostname", "operator": "CLUSTER", "value": underlay(HERE)}]}}})
    }
}

fn services() -> Vec<Service> {
    let pairs = ORIGINS
        .into_iter()
        .flat_map(|origin| NETWORKS.map(|network| (origin, network)));
    let number = |(number, (origin, network))| Service {
        origin,
        network,
        address: format!("{ADDRESSES}{}", number + 1),
    };
    pairs.enumerate().map(number).collect()
}

/// Two tasks to ask from, in a network, one on each of the two nodes.
fn asker(network: &str) -> Value {
    let mode = match network {
        "bridge" => json!({"mode": "container/bridge"}),
        _ => json!({"mode": "container", "name": "dcos"}),
    };
    json!({"id": format!("/ask-{network}"), "cmd": "exec sleep 100000", "cpus": 0.05, "mem": 32, "instances": 2,
        "networks": [mode], "constraints": [["hostname", "UNIQUE"], ["hostname", "UNLIKE", underlay(NODES)]]})
}

/// Where the questions come from.
#[derive(Clone, Debug)]
struct Client {
    name: String,
    /// In whose network, and in which cgroup.
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Node(u8),
    Outside,
    /// A task on a node, with its process.
    Task(u8, u32),
    /// The network of a process, in a cgroup; everything else is the machine's, names too.
    Network(PathBuf, u32),
}

fn command(cluster: &Cluster, place: &Place, line: &str) -> Result<Command> {
    let program = ["sh", "-c", line];
    match place {
        Place::Node(node) => Ok(cluster.node(*node).command(&program)),
        Place::Outside => Ok(cluster.lab.outside.command(&program)),
        Place::Network(group, pid) => {
            let mut command = Command::new("sh");
            let join = format!(
                "echo 0 > '{}/cgroup.procs' && exec nsenter -t {pid} -n -- sh -c \"$1\"",
                group.display()
            );
            command.args(["-c", &join, "sh", line]);
            Ok(command)
        }
        Place::Task(node, pid) => {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
            let path = groups
                .lines()
                .find_map(|line| line.strip_prefix("0::/"))
                .context("a cgroup")?;
            let group = cluster.node(*node).cgroup.as_deref().and_then(std::path::Path::parent);
            Ok(inside(Some(&group.context("a cgroup")?.join(path)), *pid, &program))
        }
    }
}

/// Asks every URL at once, and tells which did not get the service's own answer.
fn ask(cluster: &Cluster, client: &Client, all: &[(String, String, String)]) -> Result<BTreeSet<String>> {
    let requests: String = all
        .iter()
        .map(|(cell, url, wanted)| {
            format!("{{ curl -s -m {PATIENCE} {url} | grep -q '{wanted}' && echo '{cell}'; }} & ")
        })
        .collect();
    let said = command(cluster, &client.place, &format!("{requests} wait"))?.output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let answered: BTreeSet<&str> = said.lines().collect();
    let missing = all.iter().filter(|(cell, ..)| !answered.contains(cell.as_str()));
    Ok(missing
        .map(|(cell, ..)| format!("{cell} from {}", client.name))
        .collect())
}

fn clients(cluster: &Cluster) -> Result<Vec<Client>> {
    let mut all = vec![Client {
        name: format!("outside ({OUTSIDE})"),
        place: Place::Outside,
    }];
    for (node, told) in [(HERE, "same node"), (THERE, "other node")] {
        all.push(Client {
            name: format!("host, {told}"),
            place: Place::Node(node),
        });
    }
    for network in ["bridge", "overlay"] {
        for task in cluster.running(&format!("/ask-{network}"), 2)? {
            let told = if task.node == HERE { "same node" } else { "other node" };
            all.push(Client {
                name: format!("{network}, {told}"),
                place: Place::Task(task.node, task.pid.context("it runs")?),
            });
        }
    }
    Ok(all)
}

/// What asks itself: each service, in its own network and cgroup.
fn themselves(cluster: &Cluster, services: &[Service]) -> Result<Vec<(Service, Client)>> {
    let ids = task_ids(cluster)?;
    let client = |service: &Service| {
        let id = ids.get(&service.name()).context("it runs")?;
        let group = group(cluster, id)?;
        let processes = std::fs::read_to_string(group.join("cgroup.procs"))?;
        let first = processes.lines().next().context("it has a process")?;
        let name = "itself".to_owned();
        let place = Place::Network(group, first.parse()?);
        Ok((service.clone(), Client { name, place }))
    };
    services.iter().map(client).collect()
}

/// The cgroup of a task on the first node.
fn group(cluster: &Cluster, task: &str) -> Result<PathBuf> {
    let group = cluster.node(HERE).cgroup.as_ref().context("a node has a cgroup")?;
    Ok(group.join("revere/task").join(format!("{task}.task")))
}

/// The running task of each service.
fn task_ids(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let listed = cluster.cli(&["task", "list"])?;
    let id = |line: &str| {
        let mut words = line.split_whitespace();
        let (id, app) = (words.next()?, words.next()?);
        line.contains("TASK_RUNNING")
            .then(|| (app.trim_start_matches('/').to_owned(), id.to_owned()))
    };
    Ok(listed
        .lines()
        .filter_map(id)
        .filter(|(app, _)| app.starts_with("m-"))
        .collect())
}

fn add(cluster: &Cluster, kind: &str, definition: &Value) -> Result<()> {
    let name = definition["id"].as_str().context("an id")?.trim_start_matches('/');
    let file = cluster.lab.dir.join(format!("{name}.json"));
    std::fs::write(&file, definition.to_string())?;
    let file = file.to_str().context("a plain path")?;
    cluster.cli(&[kind, "add", file, "--no-wait"]).map(drop)
}

fn kind(service: &Service) -> &'static str {
    if service.origin == "pod" { "pod" } else { "app" }
}

#[test]
fn every_kind_of_task_is_reached_in_every_network_from_every_place() {
    needed();
    on_cluster(|cluster| {
        let registry = Registry::start(cluster)?;
        registry.push("1", own_architecture())?;
        let nexthops: String = (1..=NODES)
            .map(|node| format!(" nexthop via {}", underlay(node)))
            .collect();
        let route = format!("{ADDRESSES}0/24");
        cluster.lab.outside.sh(&format!("ip route replace {route}{nexthops}"))?;
        let services = services();
        for service in &services {
            add(cluster, kind(service), &service.definition())?;
        }
        for network in ["bridge", "overlay"] {
            add(cluster, "app", &asker(network))?;
        }
        let outcome = cells(cluster, &services)
            .and_then(|()| switched_on(cluster))
            .and_then(|()| programs_inside(cluster))
            .and_then(|()| daemon_gone(cluster));
        for service in &services {
            let _ = cluster.cli(&[kind(service), "remove", &format!("/{}", service.name()), "--no-wait"]);
        }
        for network in ["bridge", "overlay"] {
            let _ = cluster.cli(&["app", "remove", &format!("/ask-{network}"), "--no-wait"]);
        }
        outcome?;
        cluster.until("all of it is gone", |cluster| {
            let listed = cluster.cli(&["task", "list"]).ok()?;
            (!listed.contains("/m-") && !listed.contains("/ask-")).then_some(())
        })?;
        cluster.lab.outside.sh(&format!("ip route del {route}"))?;
        registry.end()
    });
}

/// All cells are asked at once until each has had its answer.
fn cells(cluster: &Cluster, services: &[Service]) -> Result<()> {
    cluster.until("every service runs", |cluster| {
        (task_ids(cluster).ok()?.len() == services.len()).then_some(())
    })?;
    let cell = |service: &Service| {
        service.urls().map(|(how, url)| {
            (
                format!("{} {} by {how}", service.origin, service.network),
                url,
                service.name(),
            )
        })
    };
    let all: Vec<_> = services.iter().flat_map(cell).collect();
    let mut asked: Vec<(Client, Vec<_>)> = clients(cluster)?
        .into_iter()
        .map(|client| (client, all.clone()))
        .collect();
    for (service, client) in themselves(cluster, services)? {
        // By address: there is no resolver file of theirs to ask by.
        asked.push((client, cell(&service)[1..].to_vec()));
    }
    let count: usize = asked.iter().map(|(_, cells)| cells.len()).sum();
    ensure!(count == 7 * 18 + 9, "{count} cells");
    let mut missing = BTreeSet::new();
    let answered = xtask::lab::wait_for(xtask::lab::PATIENCE, || {
        missing.clear();
        std::thread::scope(|scope| {
            let each: Vec<_> = asked
                .iter()
                .map(|(client, cells)| scope.spawn(|| ask(cluster, client, cells)))
                .collect();
            for one in each {
                match one.join() {
                    Ok(Ok(found)) => missing.extend(found),
                    other => drop(missing.insert(format!("{other:?}"))),
                }
            }
        });
        missing.is_empty().then_some(())
    });
    ensure!(
        answered.is_some(),
        "{} of {count} cells get no answer: {missing:#?}",
        missing.len()
    );
    Ok(())
}

/// Nobody is asked who they are, so that a node does it only when it was told to.
fn switched_on(cluster: &mut Cluster) -> Result<()> {
    let process = task_ids(cluster)?.remove("m-process-host").context("it runs")?;
    let refused = cluster.cli(&["task", "exec", &process, "--", "true"]);
    let told = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(told.contains("`node.task_sessions = true`"), "{told}");
    cluster.stop_node(HERE)?;
    start_with_sessions(cluster)?;
    cluster.until("the node is back and runs programs", |cluster| {
        cluster.cli(&["task", "exec", &process, "--", "true"]).ok()
    })?;
    Ok(())
}

fn start_with_sessions(cluster: &mut Cluster) -> Result<()> {
    let revere = PathBuf::from(cluster.revere());
    cluster.start_node_with(HERE, &revere, &["node.task_sessions=true".to_owned()])
}

/// `revere task exec` in a process, a container and a pod's container.
fn programs_inside(cluster: &Cluster) -> Result<()> {
    for (name, id) in task_ids(cluster)? {
        let said = cluster.cli(&[
            "task",
            "exec",
            &id,
            "--",
            "/bin/sh",
            "-c",
            "read word; echo in $MESOS_TASK_ID; echo err >&2",
        ])?;
        ensure!(said.trim() == format!("in {id}"), "{name}: {said}");
    }
    let ids = task_ids(cluster)?;
    let image = ids.get("m-image-overlay").context("it runs")?;
    // The exit code is the program's, input comes from here, and the terminal is as large as told.
    let revere = cluster.revere();
    let line = format!(
        "echo hello | {revere} task exec -i {image} -- sh -c 'read word; echo got $word; exit 7'; echo code $?; \
         echo 'tty; stty size' | {revere} task exec -it {image} -- sh -c 'busybox tty; busybox stty size'; \
         {revere} task exec {image} -- /none/such 2>&1; echo code $?"
    );
    let said = cluster.node(1).sh(&line)?;
    for wanted in [
        "got hello\n",
        "code 7\n",
        "/dev/pts/",
        "24 80",
        "cannot execute `/none/such` inside the task",
        "code 1\n",
    ] {
        ensure!(said.contains(wanted), "{wanted}: {said}");
    }
    // A browser's page can make a machine send this much, and no more.
    let api = format!("http://{}:5051/api/v1", underlay(HERE));
    let ask = [
        "curl",
        "-s",
        "-w",
        "%{http_code}",
        "-H",
        "Content-Type: text/plain",
        "-d",
        "{}",
        &api,
    ];
    let said = cluster.node(THERE).run(&ask)?;
    ensure!(said.ends_with("415"), "{said}");
    // A client that is gone leaves nothing.
    let process = ids.get("m-process-host").context("it runs")?;
    let mut client = cluster
        .node(1)
        .spawn("exec", &[revere, "task", "exec", process, "--", "sleep", "1000"], &[])?;
    cluster.until("the program runs", |_| (sessions(cluster, process) == 1).then_some(()))?;
    client.kill()?;
    cluster.until("nothing of it is left", |_| {
        (sessions(cluster, process) == 0).then_some(())
    })
}

/// Programs of people in a task on the first node.
fn sessions(cluster: &Cluster, task: &str) -> usize {
    let found = group(cluster, task).and_then(|group| Ok(std::fs::read_dir(group)?));
    let found = found.into_iter().flatten().flatten();
    found
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".session"))
        .count()
}

/// A daemon that is killed leaves none either, and its task goes on.
fn daemon_gone(cluster: &mut Cluster) -> Result<()> {
    let process = task_ids(cluster)?.remove("m-process-host").context("it runs")?;
    let program = [cluster.revere(), "task", "exec", &process, "--", "sleep", "1000"];
    let mut client = cluster.node(1).spawn("exec", &program, &[])?;
    cluster.until("the program runs", |cluster| {
        (sessions(cluster, &process) == 1).then_some(())
    })?;
    cluster.kill_node(HERE)?;
    cluster.until("nothing of it is left", |cluster| {
        (sessions(cluster, &process) == 0).then_some(())
    })?;
    cluster.until("its client is told", |_| client.ended().then_some(()))?;
    start_with_sessions(cluster)?;
    cluster.until("the node is back with its task", |cluster| {
        let nodes = cluster.json(&["node", "list"]).ok()?;
        let connected = nodes["nodes"].as_array()?.iter().all(|node| node["connected"] == true);
        let said = cluster
            .cli(&["task", "exec", &process, "--", "/bin/sh", "-c", "echo here"])
            .ok()?;
        (connected && said == "here\n").then_some(())
    })
}
