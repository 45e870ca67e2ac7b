//! A node for a test: a state directory, cgroups of its own, an agent, and a check that nothing stays.

use std::ffi::OsString;
use std::fs;
use std::io::BufRead as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use agent::{Agent, AgentEvent, Config, Session, SessionError, SessionSpec};
use model::{
    Container, FrameworkId, Image, KillPolicy, LaunchSpec, ReadyRule, Resources, TaskId, TaskNetwork, TaskState,
    TaskStatus,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

/// Far beyond what anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    dir: tempfile::TempDir,
    cgroup: String,
    runtime: Runtime,
    open: Option<(Agent, Receiver<AgentEvent>, JoinHandle<()>)>,
    /// Every event since the agent was last opened.
    pub(crate) seen: Vec<AgentEvent>,
}

/// This program.
pub(crate) fn me() -> PathBuf {
    std::env::current_exe().expect("own path")
}

/// Why this machine cannot run tasks, if so.
pub(crate) fn cannot_run() -> Option<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_ascii_whitespace().nth(1) == Some("0"));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let cgroup2 = mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup2"));
    match (root, cgroup2) {
        (false, _) => Some("starting tasks needs root"),
        (true, false) => Some("no cgroup v2 hierarchy is mounted"),
        (true, true) => None,
    }
}

pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn set_loopback_up() {
    let done = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("ip");
    assert!(done.success());
}

/// The node's own end of the container network, as the overlay gives it.
pub(crate) fn add_own_address(address: &str) {
    let done = Command::new("ip")
        .args(["address", "replace", address, "dev", "lo"])
        .status()
        .expect("ip");
    assert!(done.success());
}

/// A task of the host network that runs a shell command.
pub(crate) fn spec(id: &str, script: &str) -> LaunchSpec {
    LaunchSpec {
        task: TaskId::new(id),
        name: id.to_owned(),
        framework: FrameworkId::new("f-1"),
        command: model::Command::Shell(script.to_owned()),
        user: None,
        container: Container::default(),
        fetch: Vec::new(),
        env: [].into(),
        resources: Resources {
            cpus_milli: 100,
            mem_mb: 64,
            disk_mb: 0,
        },
        network: TaskNetwork::Host,
        ports: Vec::new(),
        mappings: Vec::new(),
        host_ports: Vec::new(),
        labels: [].into(),
        ready: ReadyRule::AtStart,
        checks: Default::default(),
        kill: KillPolicy {
            drain: Duration::ZERO,
            grace: Duration::from_millis(200),
        },
        pod: None,
    }
}

fn config(state: &Path, cgroup: &str) -> Config {
    let runner = vec![me().into_os_string(), "task-runner".into()];
    let mut config = Config::new(
        state.to_owned(),
        runner,
        "node-1".to_owned(),
        Ipv4Addr::new(192, 0, 2, 1),
    );
    cgroup.clone_into(&mut config.cgroup_name);
    config.resolv_conf = Some("nameserver 198.51.100.1\n".to_owned());
    config
}

/// `daemon STATE CGROUP`: an agent that launches `ID SCRIPT` for every line of stdin, until it is killed.
pub(crate) fn daemon(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let (agent, mut events) = agent::open(config(Path::new(&args[0]), &args[1])).expect("opens");
    let driver = agent.clone();
    runtime.spawn(async move { driver.run().await });
    runtime.spawn(async move { while events.recv().await.is_some() {} });
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let (id, script) = line.split_once(' ').expect("two words");
        // `@IMAGE SCRIPT` runs in an image.
        let task = match script.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
            Some((image, script)) => {
                let mut task = spec(id, script);
                task.container.image = Some(Image {
                    name: image.to_owned(),
                    ..Image::default()
                });
                task
            }
            None => spec(id, script),
        };
        agent.launch(task);
    }
    ExitCode::SUCCESS
}

impl Node {
    pub(crate) fn without_agent() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            dir: tempfile::tempdir().expect("tempdir"),
            cgroup: format!("revere-agent-test-{}-{number}", std::process::id()),
            runtime: Runtime::new().expect("a runtime"),
            open: None,
            seen: Vec::new(),
        }
    }

    pub(crate) fn new() -> Self {
        let mut node = Self::without_agent();
        node.open();
        node
    }

    pub(crate) fn open(&mut self) {
        self.open_with(|_| {});
    }

    /// With other settings than usual.
    pub(crate) fn open_with(&mut self, change: impl FnOnce(&mut Config)) {
        let _inside = self.runtime.enter();
        let mut config = config(self.dir.path(), &self.cgroup);
        change(&mut config);
        let (agent, events) = agent::open(config).expect("opens");
        let driver = agent.clone();
        let driver = self.runtime.spawn(async move { driver.run().await });
        self.open = Some((agent, events, driver));
        self.seen.clear();
    }

    /// Ends the agent; its tasks run on.
    pub(crate) fn close(&mut self) {
        if let Some((agent, _events, driver)) = self.open.take() {
            agent.shutdown();
            self.runtime.block_on(driver).expect("ends in order");
        }
    }

    pub(crate) fn start_daemon(&self) -> Child {
        let mut command = Command::new(me());
        command.arg("daemon").arg(self.dir.path()).arg(&self.cgroup);
        command.stdin(Stdio::piped()).spawn().expect("starts")
    }

    pub(crate) fn state(&self) -> &Path {
        self.dir.path()
    }

    /// Lets other users reach the sandboxes.
    pub(crate) fn open_to_all(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    fn agent(&self) -> &Agent {
        &self.open.as_ref().expect("the agent is open").0
    }

    pub(crate) fn launch(&self, spec: LaunchSpec) {
        self.agent().launch(spec);
    }

    /// Waits for what must come in time.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(DEADLINE, work).await };
        self.runtime.block_on(bounded).expect("in time")
    }

    pub(crate) fn session(&self, task: &str, name: &str, spec: &SessionSpec) -> Result<Session, SessionError> {
        self.wait(self.agent().open_session(&TaskId::new(task), name, spec))
    }

    /// Asks for a session and goes away as soon as something is so, if it has not begun by then.
    pub(crate) fn leave_session(&self, task: &str, name: &str, spec: &SessionSpec, so: impl Fn() -> bool) {
        let task = TaskId::new(task);
        let seen = async {
            while !so() {
                tokio::task::yield_now().await;
            }
        };
        self.wait(async {
            tokio::select! {
                biased;
                () = seen => {}
                begun = self.agent().open_session(&task, name, spec) => drop(begun),
            }
        });
    }

    /// The cgroup of a task.
    pub(crate) fn group(&self, task: &str) -> PathBuf {
        self.agent().tasks_cgroup().join(format!("{task}.task"))
    }

    pub(crate) fn launch_pod(&self, specs: Vec<LaunchSpec>) {
        self.agent().launch_pod(specs);
    }

    pub(crate) fn kill(&self, task: &str, policy: Option<KillPolicy>) {
        self.agent().kill(TaskId::new(task), policy);
    }

    pub(crate) fn take_secrets(&self, task: &TaskId, values: model::SecretValues) {
        self.agent().take_secrets(task.clone(), values);
    }

    pub(crate) fn remove_volumes(&self, owner: &str) {
        self.agent().remove_volumes(owner.to_owned());
    }

    /// Reads on until that was told.
    pub(crate) fn until_seen(&mut self, wanted: &AgentEvent) {
        while !self.seen.contains(wanted) {
            let (_, events, _) = self.open.as_mut().expect("the agent is open");
            let next = self
                .runtime
                .block_on(async { tokio::time::timeout(DEADLINE, events.recv()).await });
            let event = next.unwrap_or_else(|_| panic!("no {wanted:?}; seen: {:#?}", self.seen));
            self.seen.push(event.expect("the agent runs"));
        }
    }

    pub(crate) fn acknowledge(&self, task: &str) {
        self.agent().acknowledge(&TaskId::new(task));
    }

    pub(crate) fn set_subnet(&self, subnet: &str) {
        self.agent().set_subnet(subnet.parse().expect("a prefix"));
    }

    pub(crate) fn tasks(&self) -> Vec<String> {
        self.agent()
            .tasks()
            .into_iter()
            .map(|(spec, _)| spec.task.as_str().to_owned())
            .collect()
    }

    /// The next status of the task.
    fn next(&mut self, id: &str) -> TaskStatus {
        loop {
            let (_, events, _) = self.open.as_mut().expect("the agent is open");
            let next = self
                .runtime
                .block_on(async { tokio::time::timeout(DEADLINE, events.recv()).await });
            let event = next.unwrap_or_else(|_| panic!("nothing more of {id}; seen: {:#?}", self.seen));
            let event = event.expect("the agent runs");
            self.seen.push(event.clone());
            if let AgentEvent::Status { task, status, .. } = event
                && task.as_str() == id
            {
                return status;
            }
        }
    }

    pub(crate) fn until_state(&mut self, id: &str, state: TaskState) -> TaskStatus {
        loop {
            let status = self.next(id);
            if status.state == state {
                return status;
            }
            assert!(!status.state.is_terminal(), "{id} ended: {status:?}");
        }
    }

    pub(crate) fn until_end(&mut self, id: &str) -> TaskStatus {
        if !self.last_state(id).is_some_and(TaskState::is_terminal) {
            self.states_until_end(id);
        }
        self.last(id)
    }

    /// The states from here to the end, in order.
    pub(crate) fn states_until_end(&mut self, id: &str) -> Vec<TaskState> {
        let mut states = Vec::new();
        if self.last_state(id).is_some_and(TaskState::is_terminal) {
            return states;
        }
        loop {
            let status = self.next(id);
            states.push(status.state);
            if status.state.is_terminal() {
                return states;
            }
        }
    }

    fn statuses(&self, id: &str) -> impl DoubleEndedIterator<Item = &TaskStatus> {
        self.seen.iter().filter_map(move |event| match event {
            AgentEvent::Status { task, status, .. } if task.as_str() == id => Some(status),
            _ => None,
        })
    }

    fn last_state(&self, id: &str) -> Option<TaskState> {
        self.statuses(id).next_back().map(|status| status.state)
    }

    /// The last status seen.
    pub(crate) fn last(&self, id: &str) -> TaskStatus {
        self.statuses(id).next_back().expect("a status").clone()
    }
}

impl Drop for Node {
    /// Nothing of the tasks may be left: cgroups, links, mounts.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in fs::read_dir(self.dir.path().join("tasks"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let text = fs::read_to_string(log.path().join("runner.log")).unwrap_or_default();
                println!("{}: {text}", log.path().display());
            }
        }
        let roots = cgroup_roots(&self.cgroup);
        let leftovers = || {
            let mut left: Vec<PathBuf> = Vec::new();
            for root in &roots {
                let entries = fs::read_dir(root.join("task")).into_iter().flatten().flatten();
                left.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
            }
            left.extend(
                fs::read_dir(self.dir.path().join("netns"))
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|e| e.path()),
            );
            let pods = fs::read_dir(self.dir.path().join("pods"));
            left.extend(pods.into_iter().flatten().flatten().map(|entry| entry.path()));
            let containers = fs::read_dir(self.dir.path().join("containers"));
            left.extend(containers.into_iter().flatten().flatten().map(|entry| entry.path()));
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
            let own = self.dir.path().to_string_lossy().into_owned();
            left.extend(mounts.lines().filter(|line| line.contains(&own)).map(PathBuf::from));
            let links = fs::read_to_string("/proc/net/dev").unwrap_or_default();
            left.extend(
                links
                    .lines()
                    .filter(|l| l.trim_start().starts_with("rv"))
                    .map(PathBuf::from),
            );
            left
        };
        if !std::thread::panicking() {
            eventually("nothing is left of the tasks", || leftovers().is_empty());
        }
        for cgroup in leftovers().iter().filter(|path| path.starts_with("/sys/fs/cgroup")) {
            let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        }
        self.close();
        let removed = || {
            roots
                .iter()
                .flat_map(|root| [root.join("task"), root.join("runners"), root.clone()])
        };
        let clear = || removed().all(|dir| !dir.exists() || fs::remove_dir(dir).is_ok());
        let deadline = Instant::now() + DEADLINE;
        while !clear() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The node's directory under every cgroup mount.
fn cgroup_roots(name: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let cgroups = mounts
        .lines()
        .filter(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup")));
    cgroups
        .filter_map(|line| line.split(' ').nth(1))
        .map(|root| Path::new(root).join(name))
        .filter(|p| p.exists())
        .collect()
}
