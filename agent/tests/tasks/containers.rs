//! Tasks in images: a busybox packed by hand, as a directory in the OCI layout.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{
    Command, Container, ContainerKind, Extract, Fetch, FetchCache, FetchPermission, Image, KillPolicy, LaunchSpec,
    Parameter, Reason, TaskNetwork, TaskState, TaskStatus, Volume, VolumeMode,
};
use serde_json::json;
use sha2::Digest as _;

use crate::node::{self, Node, eventually, spec};

const BUSYBOX: &str = "/bin/busybox";

/// Why containers cannot be tried here, if so.
pub(crate) fn cannot_run() -> Option<&'static str> {
    (!Path::new(BUSYBOX).exists()).then_some("there is no /bin/busybox; install busybox-static")
}

/// An image in the making.
pub(crate) struct Built {
    dir: PathBuf,
    pub(crate) architecture: &'static str,
    pub(crate) config: serde_json::Value,
    pub(crate) layers: Vec<Vec<u8>>,
}

fn digest(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

/// A layer of these entries: name, type, content or target.
fn layer(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        if kind.is_symlink() {
            header.set_size(0);
            let target = std::str::from_utf8(content).expect("text");
            builder.append_link(&mut header, name, target).expect("appends");
            continue;
        }
        header.set_size(u64::try_from(content.len()).expect("fits"));
        // Written as it is: the library refuses names that lead up.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).expect("appends");
    }
    builder.into_inner().expect("ends")
}

impl Built {
    /// A shell and its friends, two users, a link that leads out, and a second layer that deletes and adds.
    pub(crate) fn busybox(dir: &Path) -> Self {
        use tar::EntryType::{Directory, Regular, Symlink};
        let program = fs::read(BUSYBOX).expect("busybox");
        let mut entries: Vec<(&str, tar::EntryType, &[u8])> = vec![
            ("bin/", Directory, b""),
            ("bin/busybox", Regular, &program),
            ("etc/", Directory, b""),
            (
                "etc/passwd",
                Regular,
                b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
            ),
            ("etc/group", Regular, b"root:x:0:\napp:x:1000:\nstaff:x:50:app\n"),
            ("etc/resolv.conf", Symlink, b"../run/no/such/file"),
            ("etc/gone", Regular, b"lower"),
            ("mnt", Symlink, b"/srv"),
            ("srv/", Directory, b""),
            ("tmp/", Directory, b""),
        ];
        let names = [
            "sh", "cat", "ls", "id", "sleep", "touch", "grep", "wc", "mount", "hostname", "unshare", "mknod", "env",
        ];
        let links: Vec<String> = names.iter().map(|name| format!("bin/{name}")).collect();
        entries.extend(links.iter().map(|name| (name.as_str(), Symlink, &b"busybox"[..])));
        let upper = layer(&[("etc/.wh.gone", Regular, b""), ("etc/added", Regular, b"upper")]);
        Self {
            dir: dir.to_owned(),
            architecture: own_architecture(),
            config: json!({"Env": ["PATH=/bin", "A=image"], "Cmd": ["sh", "-c", "echo from the image"]}),
            layers: vec![layer(&entries), upper],
        }
    }

    /// Writes the layout and gives the image's name.
    pub(crate) fn name(&self) -> String {
        let blobs = self.dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("makes");
        let keep = |bytes: &[u8]| {
            let hex = digest(bytes);
            fs::write(blobs.join(&hex), bytes).expect("writes");
            json!({"digest": format!("sha256:{hex}"), "size": bytes.len(), "mediaType": "x"})
        };
        let ids: Vec<String> = self
            .layers
            .iter()
            .map(|bytes| format!("sha256:{}", digest(bytes)))
            .collect();
        let packed = self.layers.iter().map(|bytes| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).expect("packs");
            keep(&encoder.finish().expect("packs"))
        });
        let packed: Vec<_> = packed.collect();
        let config = json!({"architecture": self.architecture, "os": "linux", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = keep(config.to_string().as_bytes());
        let manifest = keep(
            json!({"schemaVersion": 2, "config": config, "layers": packed})
                .to_string()
                .as_bytes(),
        );
        let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
        fs::write(self.dir.join("index.json"), index).expect("writes");
        format!("oci:{}", self.dir.display())
    }
}

/// A task in that image.
fn task(id: &str, image: &str, command: Command) -> LaunchSpec {
    let mut task = spec(id, "");
    task.command = command;
    task.container = Container {
        image: Some(Image {
            name: image.to_owned(),
            ..Image::default()
        }),
        ..Container::default()
    };
    task
}

pub(crate) fn shell(id: &str, image: &str, script: &str) -> LaunchSpec {
    task(id, image, Command::Shell(script.to_owned()))
}

/// A node and the name of its busybox image.
pub(crate) fn node_with_image() -> (Node, String) {
    let node = Node::new();
    let image = Built::busybox(&node.state().join("busybox")).name();
    (node, image)
}

fn stdout(node: &Node, id: &str) -> String {
    fs::read_to_string(node.state().join("sandboxes").join(id).join("stdout")).expect("stdout")
}

/// Runs it to its end and gives what it wrote; it must have ended well.
pub(crate) fn output(node: &mut Node, task: LaunchSpec) -> String {
    let id = task.task.as_str().to_owned();
    node.launch(task);
    let last = node.until_end(&id);
    let errors = fs::read_to_string(node.state().join("sandboxes").join(&id).join("stderr")).unwrap_or_default();
    assert_eq!(last.state, TaskState::Finished, "{last:?}: {errors}");
    stdout(node, &id)
}

pub(crate) fn an_image_is_the_tasks_root() {
    let (mut node, image) = node_with_image();
    let said = output(&mut node, task("own", &image, Command::Argv(Vec::new())));
    assert_eq!(said, "from the image\n");
    let script = "echo $A $HOME $MESOS_SANDBOX; pwd; ls /; cat /etc/added; ls /etc/gone; cat /etc/hosts; id -u; echo $$; touch here";
    let said = output(
        &mut node,
        shell("look", &image, &format!("{script} || true; touch here")),
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..2],
        ["image /root /mnt/mesos/sandbox", "/srv/mesos/sandbox"],
        "{said}"
    );
    for name in ["bin", "dev", "etc", "mnt", "proc", "srv", "sys", "tmp"] {
        assert!(lines.contains(&name), "{name}: {said}");
    }
    assert!(
        !lines.contains(&"home") && !lines.contains(&"usr"),
        "not the node's root: {said}"
    );
    assert!(said.contains("upper") && said.contains("192.0.2.1\tnode-1"), "{said}");
    assert!(!said.contains("/etc/gone\n"), "the upper layer deleted it: {said}");
    assert!(node.state().join("sandboxes/look/here").exists());
    let again = output(
        &mut node,
        shell("clean", &image, "ls /tmp /etc; touch /tmp/written /etc/written"),
    );
    assert!(!again.contains("written"), "each container begins anew: {again}");
    assert!(!Path::new("/srv/mesos").exists(), "the image's link led out");
}

pub(crate) fn a_container_is_confined() {
    let (mut node, image) = node_with_image();
    let script = "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; ls /dev | wc -l; \
        unshare -m true && echo unshared; mount -t tmpfs x /tmp && echo mounted; mknod /tmp/sda b 254 0 && cat /tmp/sda && echo read; \
        touch /proc/sys/kernel/x && echo wrote; wc -c < /proc/kcore; ls /sys/firmware | wc -l; touch /sys/x && echo wrote; \
        ls /proc | grep -c '^[0-9]'; true";
    let said = output(&mut node, shell("confined", &image, script));
    let lines: Vec<String> = said.lines().map(|line| line.replace('\t', " ")).collect();
    let wanted = [
        "CapEff: 00000000a80425fb",
        "CapBnd: 00000000a80425fb",
        "NoNewPrivs: 1",
        "Seccomp: 2",
    ];
    for line in wanted {
        assert!(lines.iter().any(|found| found == line), "{line}: {said}");
    }
    for word in ["unshared", "mounted", "read", "wrote"] {
        assert!(!lines.iter().any(|line| line == word), "{word}: {said}");
    }
    let mut user = shell(
        "user",
        &image,
        "id; grep CapEff /proc/self/status; touch mine; ls -ln stdout",
    );
    user.user = Some("app".to_owned());
    let said = output(&mut node, user);
    assert!(
        said.contains("uid=1000") && said.contains("50") && said.contains("CapEff:\t0000000000000000"),
        "{said}"
    );
    let mut privileged = shell(
        "free",
        &image,
        "grep -E 'CapEff|Seccomp:' /proc/self/status; mount -t tmpfs x /tmp && echo mounted",
    );
    privileged.container.privilege = model::Privilege::Full;
    let said = output(&mut node, privileged);
    assert!(said.contains("Seccomp:\t0") && said.contains("mounted"), "{said}");
}

pub(crate) fn parameters_change_the_container() {
    let (mut node, image) = node_with_image();
    let mut changed = task(
        "changed",
        &image,
        Command::Argv(vec![
            "-c".to_owned(),
            "hostname; pwd; touch /x; grep CapEff /proc/self/status; cat /etc/hosts; true".to_owned(),
        ]),
    );
    let parameter = |key: &str, value: &str| Parameter::parse(key, value).expect(key);
    changed.container.parameters = vec![
        parameter("entrypoint", "/bin/sh"),
        parameter("hostname", "db-1"),
        parameter("workdir", "/made/here"),
        parameter("read-only", "true"),
        parameter("cap-drop", "ALL"),
        parameter("add-host", "friend:10.1.2.3"),
    ];
    changed.container.kind = ContainerKind::Docker;
    let said = output(&mut node, changed);
    assert!(said.starts_with("db-1\n/made/here\n"), "{said}");
    assert!(
        said.contains("CapEff:\t0000000000000000") && said.contains("10.1.2.3\tfriend"),
        "{said}"
    );
    let errors = fs::read_to_string(node.state().join("sandboxes/changed/stderr")).expect("stderr");
    assert!(errors.contains("Read-only file system"), "{errors}");
}

pub(crate) fn ends_are_told_through_the_init() {
    let (mut node, image) = node_with_image();
    node.launch(shell("seven", &image, "exit 7"));
    assert_eq!(node.until_end("seven").message.as_deref(), Some("exited with status 7"));
    node.launch(shell("signal", &image, "kill -9 $$"));
    let last = node.until_end("signal");
    assert_eq!(last.message.as_deref(), Some("killed by signal 9"));
    assert_eq!(last.reason, Some(Reason::CommandExecutorFailed));
    // Without a handler a process 1 would not hear SIGTERM.
    node.launch(shell("polite", &image, "sleep 1000"));
    node.until_state("polite", TaskState::Running);
    let forever = KillPolicy {
        drain: Duration::ZERO,
        grace: Duration::from_secs(3600),
    };
    node.kill("polite", Some(forever));
    assert_eq!(node.until_end("polite").message.as_deref(), Some("killed by signal 15"));
    let mut docker = shell("docker", &image, "echo $$; pwd");
    docker.container.kind = ContainerKind::Docker;
    assert_eq!(output(&mut node, docker), "1\n/\n");
}

pub(crate) fn volumes_are_mounted() {
    let (mut node, image) = node_with_image();
    let shared = node.state().join("shared");
    fs::create_dir(&shared).expect("makes");
    fs::write(shared.join("in"), "given\n").expect("writes");
    let volume = |container: &str, host: &str, mode| Volume {
        container_path: container.to_owned(),
        host_path: host.to_owned(),
        mode,
    };
    let path = shared.to_str().expect("plain");
    let mut mounted = shell(
        "mounted",
        &image,
        "cat /data/in ro/in; touch /data/out; touch ro/no || echo refused; touch /cache/kept; ls /srv/mesos/sandbox/store",
    );
    mounted.container.volumes = vec![
        volume("/data", path, VolumeMode::ReadWrite),
        volume("ro", path, VolumeMode::ReadOnly),
        volume("/cache", "store", VolumeMode::ReadWrite),
    ];
    assert_eq!(output(&mut node, mounted), "given\ngiven\nrefused\nkept\n");
    assert!(shared.join("out").exists() && node.state().join("sandboxes/mounted/store/kept").exists());
    let mut bare = spec("bare", "cat in/in; touch in/no || echo refused");
    bare.container.volumes = vec![volume("in", path, VolumeMode::ReadOnly)];
    assert_eq!(output(&mut node, bare), "given\nrefused\n");
    let mut missing = shell("missing", &image, "true");
    missing.container.volumes = vec![volume("/data", "/no/such/directory", VolumeMode::ReadWrite)];
    let last = failed(&mut node, missing);
    assert!(
        last.message
            .is_some_and(|text| text.contains("/no/such/directory is not on this node"))
    );
}

/// Its last status, which must be a failed launch.
fn failed(node: &mut Node, task: LaunchSpec) -> TaskStatus {
    let id = task.task.as_str().to_owned();
    node.launch(task);
    let last = node.until_end(&id);
    assert_eq!(
        (last.state, last.reason),
        (TaskState::Failed, Some(Reason::ContainerLaunchFailed)),
        "{last:?}"
    );
    last
}

pub(crate) fn bad_images_are_refused_with_a_sentence() {
    use tar::EntryType::Regular;
    let mut node = Node::new();
    let state = node.state().to_owned();
    let dir = |name: &str| state.join(name);
    let mut foreign = Built::busybox(&dir("foreign"));
    foreign.architecture = "s390x";
    let mut escaping = Built::busybox(&dir("escaping"));
    escaping.layers.push(layer(&[("../../escaped", Regular, b"x")]));
    let corrupt = Built::busybox(&dir("corrupt"));
    let corrupt_name = corrupt.name();
    let blobs = dir("corrupt").join("blobs/sha256");
    let largest = fs::read_dir(&blobs)
        .expect("reads")
        .flatten()
        .max_by_key(|entry| entry.metadata().map_or(0, |data| data.len()));
    let largest = largest.expect("a layer").path();
    let mut other = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    other.write_all(&layer(&[("evil", Regular, b"x")])).expect("packs");
    fs::write(&largest, other.finish().expect("packs")).expect("spoils");
    let mut empty = Built::busybox(&dir("empty"));
    empty.config = json!({});
    for (id, image, words) in [
        // First: a layer that the node has already is not read again.
        ("corrupt", corrupt_name, "is corrupt"),
        ("absent", format!("oci:{}", dir("absent").display()), "cannot read"),
        ("foreign", foreign.name(), "no version for linux/"),
        ("escaping", escaping.name(), "leads out of the directory"),
        ("nameless", "UPPER".to_owned(), "names no image"),
        ("empty", empty.name(), "give cmd or args"),
    ] {
        let last = failed(&mut node, task(id, &image, Command::Argv(Vec::new())));
        let text = last.message.unwrap_or_default();
        assert!(
            text.contains(words) && (id == "empty" || text.contains(&image)),
            "{id}: {text}"
        );
    }
    let mut nobody = shell("nobody", &Built::busybox(&dir("fine")).name(), "true");
    nobody.user = Some("nobody".to_owned());
    let text = failed(&mut node, nobody).message.unwrap_or_default();
    assert!(text.contains("no user `nobody`"), "{text}");
    let program = task(
        "program",
        &format!("oci:{}", dir("fine").display()),
        Command::Argv(vec!["/no/such".to_owned()]),
    );
    let text = failed(&mut node, program).message.unwrap_or_default();
    assert!(text.contains("cannot execute `/no/such`"), "{text}");
    let scratch = fs::read_dir(node.state().join("images/scratch"))
        .expect("reads")
        .count();
    assert_eq!(scratch, 0, "what was half unpacked is gone");
    assert!(!node.state().join("escaped").exists() && !node.state().join("images/escaped").exists());
}

pub(crate) fn archives_of_docker_save_are_images() {
    let mut node = Node::new();
    let built = Built::busybox(&node.state().join("unused"));
    let ids: Vec<String> = built
        .layers
        .iter()
        .map(|bytes| format!("sha256:{}", digest(bytes)))
        .collect();
    let config =
        json!({"architecture": built.architecture, "os": "linux", "config": built.config, "rootfs": {"diff_ids": ids}})
            .to_string();
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["team/app:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]).to_string();
    use tar::EntryType::Regular;
    let saved = layer(&[
        ("c.json", Regular, config.as_bytes()),
        ("a/layer.tar", Regular, &built.layers[0]),
        ("b/layer.tar", Regular, &built.layers[1]),
        ("manifest.json", Regular, manifest.as_bytes()),
    ]);
    let file = node.state().join("saved.tar");
    fs::write(&file, saved).expect("writes");
    let name = format!("docker-archive:{}", file.display());
    let said = output(
        &mut node,
        shell("saved", &format!("{name}:team/app:1"), "cat /etc/added"),
    );
    assert_eq!(said, "upper");
    let text = failed(&mut node, shell("other", &format!("{name}:team/app:2"), "true")).message;
    assert!(text.is_some_and(|text| text.contains("has no image `team/app:2`, only team/app:1")));
}

pub(crate) fn what_is_fetched_is_there_first() {
    let (mut node, image) = node_with_image();
    let archive = layer(&[("inside/file", tar::EntryType::Regular, b"packed\n")]);
    let path = node.state().join("data.tar");
    fs::write(&path, archive).expect("writes");
    let program = node.state().join("program.sh");
    fs::write(&program, "#!/bin/sh\necho ran\n").expect("writes");
    let fetch = |uri: String| Fetch {
        uri,
        extract: Extract::Archives,
        permission: FetchPermission::Data,
        cache: FetchCache::None,
        dest: None,
    };
    let list = vec![
        fetch(format!("file://{}", path.display())),
        Fetch {
            permission: FetchPermission::Executable,
            dest: Some("bin/run".to_owned()),
            ..fetch(program.display().to_string())
        },
    ];
    let mut bare = spec("bare", "cat inside/file; bin/run; ls");
    bare.fetch.clone_from(&list);
    assert_eq!(
        output(&mut node, bare),
        "packed\nran\nbin\ndata.tar\ninside\nstderr\nstdout\n"
    );
    let mut packed = shell("packed", &image, "cat inside/file; bin/run; id -u; touch inside/mine");
    packed.fetch = list;
    packed.user = Some("app".to_owned());
    assert_eq!(output(&mut node, packed), "packed\nran\n1000\n");
    let mut missing = spec("missing", "true");
    missing.fetch = vec![fetch("/no/such/file".to_owned())];
    let text = failed(&mut node, missing).message.unwrap_or_default();
    assert!(text.contains("cannot fetch /no/such/file"), "{text}");
}

pub(crate) fn a_container_outlives_a_killed_daemon() {
    let mut node = Node::without_agent();
    let image = Built::busybox(&node.state().join("busybox")).name();
    let mut daemon = node.start_daemon();
    let script = format!("@{image} while [ ! -e go ]; do sleep 0.01; done; exit 7");
    writeln!(daemon.stdin.as_mut().expect("stdin"), "boxed {script}").expect("writes");
    let status = node.state().join("tasks/boxed/status.json");
    eventually("the task runs", || {
        fs::read_to_string(&status).is_ok_and(|text| text.contains("TASK_RUNNING"))
    });
    daemon.kill().expect("kills");
    daemon.wait().expect("is dead");
    node.open();
    node.until_state("boxed", TaskState::Running);
    fs::write(node.state().join("sandboxes/boxed/go"), "").expect("writes");
    assert_eq!(node.until_end("boxed").message.as_deref(), Some("exited with status 7"));
}

pub(crate) fn a_container_with_its_own_network_has_its_own_name() {
    let (mut node, image) = node_with_image();
    node::set_loopback_up();
    node.set_subnet("9.0.4.0/24");
    let mut named = shell(
        "named",
        &image,
        "hostname; cat /etc/resolv.conf /etc/hosts; ls /sys/class/net",
    );
    named.network = TaskNetwork::Container {
        name: "dcos".to_owned(),
    };
    let said = output(&mut node, named);
    let name = said.lines().next().expect("a name");
    assert!(
        name.starts_with("rv") && said.contains(&format!("9.0.4.2\t{name}")),
        "{said}"
    );
    assert!(
        said.contains("nameserver 198.51.100.1") && said.ends_with("eth0\nlo\n"),
        "{said}"
    );
}

pub(crate) fn a_greedy_container_is_told_so() {
    let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if !Path::new("/sys/fs/cgroup/memory").exists() && !v2.contains("memory") {
        println!("a_greedy_container_is_told_so: skipped, no memory controller");
        return;
    }
    let (mut node, image) = node_with_image();
    // More in /dev/shm than the task may have.
    let mut greedy = shell("greedy", &image, "cat /dev/zero > /dev/shm/x; sleep 1000");
    greedy.container.shm_mb = Some(300);
    node.launch(greedy);
    let last = node.until_end("greedy");
    assert_eq!(
        (last.state, last.reason),
        (TaskState::Failed, Some(Reason::ContainerLimitationMemory)),
        "{last:?}"
    );
}

/// Serves one file, and holds every request for another back for ever; gives its address.
fn server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let host = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                std::io::Read::read_exact(&mut stream, &mut byte).expect("reads");
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            if head.starts_with("GET /file ") {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nserved\n")
                    .expect("sends");
            } else if head.starts_with("GET /moved ") {
                stream
                    .write_all(b"HTTP/1.1 302 Found\r\nlocation: /file\r\ncontent-length: 0\r\n\r\n")
                    .expect("sends");
            } else if head.starts_with("GET /none ") {
                stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                    .expect("sends");
            } else {
                held.push(stream);
            }
        }
    });
    host
}

pub(crate) fn downloads_are_kept_or_told_or_given_up() {
    node::set_loopback_up();
    let mut node = Node::new();
    let host = server();
    let fetch = |path: &str, cache| Fetch {
        uri: format!("http://{host}/{path}"),
        extract: Extract::Archives,
        permission: FetchPermission::Data,
        cache,
        dest: Some("got".to_owned()),
    };
    for (id, path, cache) in [
        ("plain", "file", FetchCache::None),
        ("moved", "moved", FetchCache::Keep),
    ] {
        let mut task = spec(id, "cat got");
        task.fetch = vec![fetch(path, cache)];
        assert_eq!(output(&mut node, task), "served\n");
    }
    let kept = fs::read_dir(node.state().join("fetched")).expect("reads").count();
    assert_eq!(kept, 1, "only what asked for it");
    let mut none = spec("none", "true");
    none.fetch = vec![fetch("none", FetchCache::None)];
    let text = failed(&mut node, none).message.unwrap_or_default();
    assert!(
        text.contains(&format!("cannot fetch http://{host}/none: the server answers 404")),
        "{text}"
    );
    let mut hung = spec("hung", "true");
    hung.fetch = vec![fetch("hang", FetchCache::None)];
    node.launch(hung);
    node.kill("hung", None);
    let last = node.until_end("hung");
    assert_eq!(
        (last.state, last.reason),
        (TaskState::Killed, Some(Reason::TaskKilledDuringLaunch)),
        "{last:?}"
    );
    // Nobody's image: gone at the next start of the agent.
    let stray = node.state().join("containers/stray");
    fs::create_dir_all(&stray).expect("makes");
    node.close();
    node.open();
    assert!(!stray.exists());
}

pub(crate) fn checks_run_inside_a_container_with_its_rights() {
    let (mut node, image) = node_with_image();
    let mut checked = shell("checked", &image, "exec sleep 1000");
    checked.user = Some("app".to_owned());
    checked.container.kind = ContainerKind::Docker;
    let script = "id > said; grep -E 'CapEff|Seccomp:' /proc/self/status >> said; cat /etc/added /proc/1/comm >> said; mv said told";
    checked.checks.health = vec![model::HealthCheck {
        probe: model::Probe::Command(Command::Shell(script.replace("mv", "/bin/busybox mv"))),
        delay: Duration::ZERO,
        interval: Duration::from_secs(3600),
        timeout: Duration::from_secs(60),
        grace: Duration::ZERO,
        max_failures: 1,
    }];
    node.launch(checked);
    node.until_state("checked", TaskState::Running);
    let file = node.state().join("sandboxes/checked/told");
    eventually("the check has run", || file.exists());
    let said = fs::read_to_string(&file).expect("reads");
    for word in ["uid=1000", "CapEff:\t0000000000000000", "Seccomp:\t2", "upper", "sleep"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    node.kill("checked", None);
    node.until_end("checked");
}

pub(crate) fn o4() {
    let (mut node, image) = node_with_image();
    output(&mut node, shell("warm", &image, "true"));
    let mut times = Vec::new();
    let all = std::time::Instant::now();
    for n in 0..100 {
        let id = format!("t{n}");
        let began = std::time::Instant::now();
        node.launch(task(
            &id,
            &image,
            Command::Argv(vec!["/bin/sleep".into(), "1000".into()]),
        ));
        node.until_state(&id, TaskState::Running);
        times.push(began.elapsed());
    }
    let total = all.elapsed();
    times.sort();
    println!(
        "revere p50 {:?} p90 {:?} max {:?} rate {:.1}/s",
        times[50],
        times[90],
        times[99],
        100.0 / total.as_secs_f64()
    );
    let mut crun = Vec::new();
    let bundle = node.state().join("bundle");
    fs::create_dir_all(bundle.join("rootfs")).expect("makes");
    for entry in fs::read_dir(node.state().join("images/layers"))
        .expect("reads")
        .flatten()
    {
        let _ = std::process::Command::new("cp")
            .arg("-a")
            .arg(format!("{}/.", entry.path().display()))
            .arg(bundle.join("rootfs"))
            .status();
    }
    let _ = std::process::Command::new("runc")
        .arg("spec")
        .current_dir(&bundle)
        .status();
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(bundle.join("config.json")).expect("spec")).expect("json");
    let mut config = config;
    config["process"]["args"] = json!(["/bin/sleep", "1000"]);
    config["process"]["terminal"] = json!(false);
    fs::write(bundle.join("config.json"), config.to_string()).expect("writes");
    for n in 0..100 {
        let began = std::time::Instant::now();
        let done = std::process::Command::new("runc")
            .args(["run", "-d", "--bundle"])
            .arg(&bundle)
            .arg(format!("o4-{n}"))
            .stdout(std::process::Stdio::null())
            .stdin(std::process::Stdio::null())
            .status()
            .expect("runc");
        if !done.success() {
            println!("crun failed");
            break;
        }
        crun.push(began.elapsed());
    }
    for n in 0..crun.len() {
        let _ = std::process::Command::new("runc")
            .args(["delete", "-f"])
            .arg(format!("o4-{n}"))
            .status();
    }
    crun.sort();
    if let Some(p50) = crun.get(50) {
        println!("runc p50 {p50:?} p90 {:?} max {:?}", crun[90], crun[99]);
    }
    for n in 0..100 {
        node.kill(
            &format!("t{n}"),
            Some(KillPolicy {
                drain: Duration::ZERO,
                grace: Duration::ZERO,
            }),
        );
    }
    for n in 0..100 {
        node.until_end(&format!("t{n}"));
    }
}
