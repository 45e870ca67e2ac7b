//! Tasks in images that Debian's `docker-registry` serves, reached by their VIP; and images that are no good.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xtask::lab::{Cluster, Daemon, Place};
use xtask::shell;

use super::{deploy, nodes, on_cluster};

/// Where the registry listens: on the outside machine.
pub(super) const REGISTRY: &str = "10.99.0.100:5000";
/// The example of docs/containers.md.
const EXAMPLE: &str = include_str!("../../../examples/container.json");
const NAME: &str = "boxed.marathon.l4lb.thisdcos.directory";
/// What the image's server answers.
const PAGE: &str = "hello from the image";
/// Instances of the example.
const INSTANCES: usize = 3;

/// A registry with images in it.
pub(super) struct Registry {
    place: Place,
    dir: PathBuf,
    daemon: Daemon,
}

impl Registry {
    pub(super) fn start(cluster: &Cluster) -> Result<Self> {
        let dir = cluster.lab.outside.dir.join("registry");
        std::fs::create_dir_all(&dir)?;
        let config = json!({"version": 0.1, "log": {"level": "warn"}, "http": {"addr": REGISTRY},
            "storage": {"filesystem": {"rootdirectory": dir.join("storage")}}});
        let file = dir.join("config.yml");
        // JSON is YAML.
        std::fs::write(&file, config.to_string())?;
        let file = file.to_str().context("a plain path")?;
        let program = shell::find("docker-registry").context("docker-registry is not installed")?;
        let program = program.to_str().context("a plain path")?;
        let daemon = cluster.lab.outside.spawn("registry", &[program, "serve", file], &[])?;
        let registry = Self {
            place: cluster.lab.outside.clone(),
            dir,
            daemon,
        };
        cluster.until("the registry answers", |_| registry.curl(&[&url("/v2/")]).ok())?;
        Ok(registry)
    }

    /// Ends it, for the next test to start its own.
    pub(super) fn end(mut self) -> Result<()> {
        self.daemon.kill()
    }

    fn curl(&self, args: &[&str]) -> Result<String> {
        let mut program = vec!["curl", "-sS", "--fail", "--max-time", "20"];
        program.extend(args);
        self.place.run(&program)
    }

    /// The digest of a file.
    fn digest(&self, file: &Path) -> Result<String> {
        let said = self.place.run(&["sha256sum", file.to_str().context("a plain path")?])?;
        Ok(format!("sha256:{}", said.split(' ').next().unwrap_or_default()))
    }

    /// Uploads a blob and gives its descriptor.
    fn blob(&self, file: &Path) -> Result<Value> {
        let digest = self.digest(file)?;
        let head = self.curl(&[
            "-X",
            "POST",
            "-D",
            "-",
            "-o",
            "/dev/null",
            &url("/v2/team/busybox/blobs/uploads/"),
        ])?;
        let location = head
            .lines()
            .find_map(|line| {
                line.split_once(": ")
                    .filter(|(name, _)| name.eq_ignore_ascii_case("location"))
            })
            .map(|(_, value)| value.trim().to_owned())
            .context("an upload has a location")?;
        let body = format!("@{}", file.display());
        let kind = "Content-Type: application/octet-stream";
        self.curl(&[
            "-X",
            "PUT",
            "-H",
            kind,
            "--data-binary",
            &body,
            &format!("{location}&digest={digest}"),
        ])?;
        Ok(json!({"digest": digest, "size": std::fs::metadata(file)?.len(), "mediaType": "application/octet-stream"}))
    }

    /// A busybox that serves a page, or the same for another machine.
    pub(super) fn push(&self, tag: &str, architecture: &str) -> Result<Value> {
        let root = self.dir.join(tag);
        let tar = self.dir.join(format!("{tag}.tar"));
        let (shown, file) = (root.display(), tar.display());
        self.place.sh(&format!(
            "mkdir -p {shown}/bin {shown}/www && cp /bin/busybox {shown}/bin/ && \
             for name in sh httpd wget hostname sleep; do ln -sf busybox {shown}/bin/$name; done && \
             echo {tag} > {shown}/tag && echo '{PAGE}' > {shown}/www/index.html && \
             tar -C {shown} --owner=0 --group=0 -cf {file} . && gzip -kf {file}"
        ))?;
        let id = self.digest(&tar)?;
        let layer = self.blob(&PathBuf::from(format!("{file}.gz")))?;
        let config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [id]},
            "config": {"Env": ["PATH=/bin"], "Entrypoint": ["httpd", "-f", "-p", "8080", "-h", "/www"]}});
        let config_file = self.dir.join("config.json");
        std::fs::write(&config_file, config.to_string())?;
        let config = self.blob(&config_file)?;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let layer_kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let described = |mut descriptor: Value, kind: &str| {
            descriptor["mediaType"] = json!(kind);
            descriptor
        };
        let manifest = json!({"schemaVersion": 2, "mediaType": kind,
            "config": described(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [described(layer.clone(), layer_kind)]});
        let header = format!("Content-Type: {kind}");
        let target = url(&format!("/v2/team/busybox/manifests/{tag}"));
        self.curl(&[
            "-X",
            "PUT",
            "-H",
            &header,
            "--data-binary",
            &manifest.to_string(),
            &target,
        ])?;
        Ok(layer)
    }

    /// Changes a byte of a blob as it lies on the registry's disk.
    fn spoil(&self, blob: &Value) -> Result<()> {
        let hex = blob["digest"]
            .as_str()
            .and_then(|digest| digest.strip_prefix("sha256:"));
        let hex = hex.context("a digest")?;
        let path = format!("storage/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        let path = self.dir.join(path);
        let mut bytes = std::fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(std::fs::write(&path, bytes)?)
    }
}

fn url(path: &str) -> String {
    format!("http://{REGISTRY}{path}")
}

/// What containers hold of every node: cgroups, mounts, interfaces, namespaces, directories.
fn held(cluster: &Cluster) -> Result<Vec<(u8, String)>> {
    let look = "echo mounts $(grep -c . /proc/self/mounts); echo links $(ls /sys/class/net | grep -c '^rv'); \
        for kind in mnt pid ipc uts cgroup net; do echo $kind $(readlink /proc/[0-9]*/ns/$kind | sort -u | wc -l); done";
    nodes()
        .map(|number| {
            let place = cluster.node(number);
            let group = place.cgroup.as_ref().context("a node has a cgroup")?;
            let count = |path: PathBuf| {
                std::fs::read_dir(path).map_or(0, |dir| dir.flatten().filter(|one| one.path().is_dir()).count())
            };
            let told = format!(
                "{}cgroups {} containers {}",
                place.sh(look)?,
                count(group.join("revere/task")),
                count(place.dir.join("state/containers"))
            );
            Ok((number, told))
        })
        .collect()
}

/// What is held once the tasks of earlier tests are gone whole: the same for longer than a task is given to end (3 s).
fn held_at_rest(cluster: &Cluster) -> Result<Vec<(u8, String)>> {
    let mut known = (Instant::now(), held(cluster)?);
    cluster.until("nothing of earlier tests goes any more", |cluster| {
        let now = held(cluster).ok()?;
        if now != known.1 {
            known = (Instant::now(), now);
        }
        (known.0.elapsed() >= Duration::from_secs(4)).then(|| known.1.clone())
    })
}

fn fetch_page(from: &Place) -> Option<String> {
    from.run(&["curl", "-sS", "--fail", "--max-time", "5", &format!("http://{NAME}/")])
        .ok()
}

fn remove(cluster: &Cluster, app: &str) -> Result<()> {
    cluster.cli(&["app", "remove", app, "--no-wait"])?;
    cluster.until(&format!("{app} is gone"), |cluster| {
        let shown = cluster.json(&["app", "list"]).ok()?;
        (!shown.to_string().contains(&format!("\"{app}\""))).then_some(())
    })
}

/// Whether the programs of these tests are there; they say so if not.
pub(super) fn needed() {
    for tool in ["docker-registry", "busybox"] {
        assert!(
            shell::find(tool).is_some(),
            "this test could not run: `{tool}` is not installed; `cargo xtask test` without --no-install installs it"
        );
    }
}

#[test]
fn an_image_is_pulled_run_and_reached_by_its_vip() {
    needed();
    on_cluster(|cluster| {
        let registry = Registry::start(cluster)?;
        registry.push("1", own_architecture())?;
        let before = held_at_rest(cluster)?;
        deploy(cluster, "boxed", EXAMPLE)?;
        cluster.until("all instances run", |cluster| {
            (cluster.tasks("/boxed").ok()?.len() == INSTANCES).then_some(())
        })?;
        let hosts: std::collections::BTreeSet<u8> = cluster.tasks("/boxed")?.iter().map(|task| task.node).collect();
        ensure!(
            hosts.len() == INSTANCES,
            "one on each node, each with its own pull: {hosts:?}"
        );
        for place in cluster.lab.nodes.iter().chain([&cluster.lab.outside]) {
            cluster.until(&format!("{} reaches the VIP", place.name), |_| {
                fetch_page(place).filter(|page| page.trim() == PAGE)
            })?;
        }
        // A node's daemon is no part of its containers.
        cluster.kill_node(2)?;
        let page = fetch_page(&cluster.lab.outside).context("containers outlive the daemon")?;
        ensure!(page.trim() == PAGE, "{page}");
        cluster.start_node(2)?;
        cluster.until("the container is found again", |cluster| {
            let tasks = cluster.tasks("/boxed").ok()?;
            let connected = cluster.json(&["node", "list"]).ok()?["nodes"]
                .as_array()?
                .iter()
                .all(|node| node["connected"] == true);
            (connected && tasks.len() == INSTANCES && tasks.iter().any(|task| task.node == 2)).then_some(())
        })?;
        remove(cluster, "/boxed")?;
        let left = cluster.until("nothing is left of the containers", |cluster| {
            (held(cluster).ok()? == before).then_some(())
        });
        if left.is_err() {
            left.with_context(|| format!("before {before:?}, now {:?}", held(cluster)))?;
        }
        registry.end()
    });
}

#[test]
fn bad_images_fail_with_their_reason_and_a_sentence() {
    needed();
    on_cluster(|cluster| {
        let registry = Registry::start(cluster)?;
        registry.push("foreign", "s390x")?;
        let layer = registry.push("corrupt", own_architecture())?;
        registry.spoil(&layer)?;
        let subscribe = [
            "curl",
            "-sN",
            "-H",
            "Content-Type: application/json",
            "-d",
            "{\"type\":\"SUBSCRIBE\"}",
            "http://10.99.0.1:5050/api/v1",
        ];
        let mut stream = cluster.node(1).spawn("subscriber", &subscribe, &[])?;
        for (tag, words) in [
            (
                "missing",
                format!("the registry {REGISTRY} has no image team/busybox:missing"),
            ),
            ("foreign", "it has no version for linux/".to_owned()),
            ("corrupt", "is corrupt: what came has the digest".to_owned()),
        ] {
            let app = json!({"id": format!("/bad-{tag}"), "cpus": 0.1, "mem": 32, "backoffSeconds": 60,
                "container": {"type": "DOCKER", "docker": {"image": format!("{REGISTRY}/team/busybox:{tag}")}}});
            let file = cluster.lab.dir.join(format!("{tag}.json"));
            std::fs::write(&file, app.to_string())?;
            // It will never be deployed.
            cluster.cli(&["app", "add", file.to_str().context("a plain path")?, "--no-wait"])?;
            cluster.until(&format!("the {tag} image is told of"), |_| {
                let told = stream.output();
                let fits = |line: &str| {
                    line.contains(&format!("bad-{tag}"))
                        && line.contains("REASON_CONTAINER_LAUNCH_FAILED")
                        && line.contains("TASK_FAILED")
                        && line.contains(&words)
                };
                told.lines().any(fits).then_some(())
            })?;
            remove(cluster, &format!("/bad-{tag}"))?;
        }
        stream.kill()?;
        registry.end()
    });
}

pub(super) fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}
