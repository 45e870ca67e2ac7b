//! The daemon's half: the table of tasks, its commands, and the one future that drives them all.

mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use model::{
    CheckResults, FrameworkId, Ipv4Net, KillPolicy, LaunchSpec, Reason, SecretValues, TaskId, TaskNetwork, TaskState,
    TaskStatus,
};
use tokio::sync::{Notify, Semaphore, mpsc, watch};

use crate::address::lowest_free;
use crate::cgroup::{self, Hierarchies};
use crate::check;
use crate::clock::now_ms;
use crate::config::{Config, OpenError};
use crate::fetch::Fetcher;
use crate::http::HttpClient;
use crate::image::Images;
use crate::kill::KillRecord;
use crate::pod::{self, Gathering};
use crate::start::Layout;
use crate::store::{STATUS, TaskDir, is_dir_name};
use crate::supervise::{Origin, supervise};

/// Events that may wait for the node: a few per task of a full node. A slow node slows the agent, not the tasks.
const EVENTS: usize = 1024;

/// What the agent tells the node.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentEvent {
    /// The task's process has ended; told before all else, so that it leaves the rotation at once.
    Exited {
        /// Whose.
        task: TaskId,
    },
    /// A task's newest status.
    Status {
        /// Its owner.
        framework: FrameworkId,
        /// Whose.
        task: TaskId,
        /// The status.
        status: TaskStatus,
    },
    /// Of the volumes of that owner nothing is left here.
    VolumesGone {
        /// Whose.
        owner: String,
    },
}

/// Whether an order was about a task that the agent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It has it.
    Yes,
    /// It has not: it never came here, or its end was acknowledged.
    No,
}

/// The default overlay by its names: DC/OS's, and Marathon's for a task that is reached through host ports.
const DEFAULT_NETWORKS: [&str; 2] = ["dcos", "bridge"];

/// Handle of the agent; its clones share one table.
#[derive(Clone, Debug)]
pub struct Agent {
    shared: Arc<Shared>,
}

/// What all parts of the agent see.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) layout: Layout,
    /// Each check holds one while it asks.
    pub(crate) check_permits: Semaphore,
    /// Each session holds one.
    pub(crate) session_permits: Arc<Semaphore>,
    pub(crate) images: Images,
    pub(crate) fetcher: Fetcher,
    events: mpsc::Sender<AgentEvent>,
    table: Mutex<Table>,
    /// Set when `Table::todo` has grown.
    wake: Notify,
    /// Set when nothing of some task is left.
    ended: Notify,
    /// Set when there are other networks than before.
    networks: Notify,
    stop: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Table {
    subnet: Option<Ipv4Net>,
    /// The node's blocks of networks beside the default one, by name.
    networks: BTreeMap<String, Ipv4Net>,
    tasks: BTreeMap<TaskId, Arc<Entry>>,
    /// Told right before the launch that takes them.
    secrets: Option<(TaskId, SecretValues)>,
    /// What `run` has to take up: at most two per command received.
    todo: Vec<Todo>,
}

#[derive(Debug)]
enum Todo {
    Supervise(Arc<Entry>, Origin),
    Resend(Arc<Entry>),
    RemoveVolumes(String),
}

/// One task.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) spec: LaunchSpec,
    /// None for an id that cannot name a directory.
    pub(crate) dir: Option<TaskDir>,
    pub(crate) kill: watch::Sender<Option<KillRecord>>,
    /// Of a task that this agent starts; one that was found again has them already.
    pub(crate) secrets: SecretValues,
    /// Why its order cannot be carried out.
    pub(crate) refused: Option<String>,
    /// What it waits for before it starts, with others of its pod.
    pub(crate) gathering: Option<Gathering>,
    state: Mutex<EntryState>,
}

#[derive(Debug)]
struct EntryState {
    status: TaskStatus,
    /// Address in the node's subnet, held until everything of the task is removed.
    address: Option<Ipv4Addr>,
    /// Nothing of it is left but the files.
    over: bool,
    acknowledged: bool,
}

/// A task found in the state directory.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) spec: LaunchSpec,
    pub(crate) status: TaskStatus,
    pub(crate) kill: Option<KillRecord>,
    pub(crate) address: Option<Ipv4Addr>,
}

impl Found {
    /// A task in the host network is where its node is, also when the node got another address while the agent was down.
    fn at(mut self, ip: Ipv4Addr) -> Self {
        let status = &mut self.status;
        let here = [ip.into()];
        let moved = !status.addresses.is_empty() && status.addresses != here && !status.state.is_terminal();
        if moved && self.spec.network == TaskNetwork::Host {
            status.addresses = here.to_vec();
            // Newer than what the master may have, so that it is taken.
            status.timestamp_ms = now_ms().max(status.timestamp_ms.saturating_add(1));
        }
        self
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the agent and takes up the tasks found in its state directory; they are followed once [`Agent::run`] runs.
pub fn open(config: Config) -> Result<(Agent, mpsc::Receiver<AgentEvent>), OpenError> {
    if config.runner.is_empty() {
        return Err(OpenError::NoRunner);
    }
    let layout = Layout::new(&config.state_dir);
    for path in [&layout.tasks, &layout.sandboxes, &layout.netns, &layout.volumes] {
        fs::create_dir_all(path).map_err(|source| OpenError::State {
            path: path.clone(),
            source,
        })?;
    }
    // Launches hold environments, which may hold secrets, and volumes the data of others; the sandboxes are for their
    // users to reach.
    for path in [&layout.tasks, &layout.volumes] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|source| OpenError::State {
            path: path.clone(),
            source,
        })?;
    }
    let hierarchies = cgroup::open(&config)?;
    let mut table = Table::default();
    let entries = fs::read_dir(&layout.tasks);
    for entry in entries
        .map_err(|source| OpenError::State {
            path: layout.tasks.clone(),
            source,
        })?
        .flatten()
    {
        match crate::supervise::find(&TaskDir::new(entry.path())) {
            Ok(found) => table.adopt(found.at(config.ip), entry.path()),
            Err(error) => set_aside(&layout, &hierarchies, &entry.path(), &error),
        }
    }
    remove_strays(&layout);
    pod::remove_strays(&layout.pods, &table.tasks);
    crate::fetch::remove_partial(&layout.fetched);
    let (events, receiver) = mpsc::channel(EVENTS);
    let http = HttpClient::new(config.images.stall);
    let fetcher = Fetcher {
        http: http.clone(),
        settings: config.fetch.clone(),
        cache: layout.fetched.clone(),
    };
    let images = Images::open(&layout.images, config.images.clone(), http).map_err(|source| OpenError::State {
        path: layout.images.clone(),
        source,
    })?;
    let shared = Shared {
        images,
        fetcher,
        config,
        hierarchies,
        layout,
        check_permits: Semaphore::new(check::AT_ONCE),
        session_permits: Arc::new(Semaphore::new(crate::session::AT_ONCE)),
        events,
        table: Mutex::new(table),
        wake: Notify::new(),
        ended: Notify::new(),
        networks: Notify::new(),
        stop: watch::Sender::new(false),
    };
    let found: Vec<Arc<Entry>> = lock(&shared.table).tasks.values().cloned().collect();
    found.iter().for_each(|entry| shared.end_torn(entry));
    Ok((
        Agent {
            shared: Arc::new(shared),
        },
        receiver,
    ))
}

/// What containers wrote whose tasks are not known: a daemon that was killed in the middle of a start leaves it.
fn remove_strays(layout: &Layout) {
    for scratch in fs::read_dir(&layout.containers).into_iter().flatten().flatten() {
        if !layout.tasks.join(scratch.file_name()).exists()
            && let Err(error) = fs::remove_dir_all(scratch.path())
        {
            tracing::warn!(path = %scratch.path().display(), %error, "what a container wrote stays");
        }
    }
}

/// A directory that cannot be read is kept for a person to look at; its processes are ended, nobody follows them.
fn set_aside(layout: &Layout, hierarchies: &Hierarchies, dir: &Path, error: &str) {
    let name = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let aside = layout.damaged.join(format!("{name}.{}", now_ms()));
    let moved = fs::create_dir_all(&layout.damaged).and_then(|()| fs::rename(dir, &aside));
    tracing::warn!(task = %name, %error, aside = %aside.display(), ?moved, "task directory is damaged, set aside");
    if is_dir_name(&name) {
        cgroup::kill_all(&hierarchies.task(&name));
    }
}

impl Table {
    fn adopt(&mut self, found: Found, dir: PathBuf) {
        let over = found.status.state.is_terminal();
        let entry = Arc::new(Entry {
            dir: Some(TaskDir::new(dir)),
            kill: watch::Sender::new(found.kill),
            secrets: SecretValues::new(),
            refused: None,
            gathering: None,
            state: Mutex::new(EntryState {
                status: found.status,
                address: found.address,
                over: false,
                acknowledged: false,
            }),
            spec: found.spec,
        });
        tracing::info!(task = %entry.spec.task, ended = over, "task found again");
        self.tasks.insert(entry.spec.task.clone(), Arc::clone(&entry));
        self.todo.push(Todo::Resend(Arc::clone(&entry)));
        self.todo.push(Todo::Supervise(entry, Origin::Found));
    }

    /// The lowest address of a network that no task holds.
    fn address(&self, network: &str) -> Result<Ipv4Addr, String> {
        let subnet = if DEFAULT_NETWORKS.contains(&network) {
            self.subnet
                .ok_or("the master has not given this node a subnet yet; container networks need one")?
        } else {
            let block = self.networks.get(network).copied();
            block.ok_or_else(|| format!("the network {network} is not set up on this node"))?
        };
        let taken: BTreeSet<Ipv4Addr> = self
            .tasks
            .values()
            .filter_map(|entry| lock(&entry.state).address)
            .collect();
        let full = || format!("every address of the node's block {subnet} of the network {network} is in use");
        lowest_free(subnet, &taken).ok_or_else(full)
    }
}

impl Agent {
    /// The node's block of the container network, from the master.
    pub fn set_subnet(&self, subnet: Ipv4Net) {
        lock(&self.shared.table).subnet = Some(subnet);
    }

    /// The node's blocks of networks beside the default one, all of them, by name: what a task needs to be reachable there
    /// and to be kept from others is in place.
    pub fn set_networks(&self, blocks: BTreeMap<String, Ipv4Net>) {
        let mut table = lock(&self.shared.table);
        if table.networks != blocks {
            table.networks = blocks;
            drop(table);
            self.shared.networks.notify_waiters();
        }
    }

    /// Every task not yet acknowledged as ended, with its newest status.
    pub fn tasks(&self) -> Vec<(LaunchSpec, TaskStatus)> {
        lock(&self.shared.table)
            .tasks
            .values()
            .map(|entry| (entry.spec.clone(), entry.status()))
            .collect()
    }

    /// Starts a task; for a known id only its status is told again.
    pub fn launch(&self, spec: LaunchSpec) {
        let mut table = lock(&self.shared.table);
        let secrets = table.secrets.take().filter(|(task, _)| *task == spec.task);
        if let Some(entry) = table.tasks.get(&spec.task) {
            let todo = Todo::Resend(Arc::clone(entry));
            table.todo.push(todo);
        } else {
            let id = spec.task.as_str();
            let dir = is_dir_name(id).then(|| TaskDir::new(self.shared.layout.tasks.join(id)));
            let entry = Arc::new(Entry::new(
                spec,
                dir,
                secrets.map(|(_, values)| values).unwrap_or_default(),
            ));
            table.tasks.insert(entry.spec.task.clone(), Arc::clone(&entry));
            table.todo.push(Todo::Supervise(entry, Origin::Fresh));
        }
        self.shared.wake.notify_one();
    }

    /// Takes the secrets of the task that the next launch is about.
    pub fn take_secrets(&self, task: TaskId, values: SecretValues) {
        lock(&self.shared.table).secrets = Some((task, values));
    }

    /// Starts the tasks of a pod's instance, all or none; where any of them is known, only statuses are told again.
    pub fn launch_pod(&self, specs: Vec<LaunchSpec>) {
        let refused = pod::check(&specs).err();
        let mut table = lock(&self.shared.table);
        let known: Vec<Arc<Entry>> = specs
            .iter()
            .filter_map(|spec| table.tasks.get(&spec.task).cloned())
            .collect();
        table.todo.extend(known.iter().cloned().map(Todo::Resend));
        let gathering = Arc::new(watch::Sender::new(specs.len()));
        for spec in specs.into_iter().filter(|_| known.is_empty()) {
            let id = spec.task.as_str();
            let dir = is_dir_name(id).then(|| TaskDir::new(self.shared.layout.tasks.join(id)));
            let entry = Arc::new(Entry {
                refused: refused.clone(),
                gathering: Some(Arc::clone(&gathering)),
                ..Entry::new(spec, dir, SecretValues::new())
            });
            table.tasks.insert(entry.spec.task.clone(), Arc::clone(&entry));
            table.todo.push(Todo::Supervise(entry, Origin::Fresh));
        }
        self.shared.wake.notify_one();
    }

    /// Ends a task, by its own policy or by the one given; a further kill can only hasten it.
    pub fn kill(&self, task: TaskId, policy: Option<KillPolicy>) -> Known {
        let Some(entry) = lock(&self.shared.table).tasks.get(&task).cloned() else {
            tracing::warn!(%task, "told to kill a task that this agent does not have");
            return Known::No;
        };
        let policy = policy.unwrap_or(entry.spec.kill);
        let now = now_ms();
        entry.kill.send_modify(|kill| {
            *kill = Some(kill.map_or_else(|| KillRecord::new(policy, now), |kill| kill.hastened(policy, now)));
        });
        Known::Yes
    }

    /// Removes the volumes of an owner as soon as no task of it is left here. A further order for the same is harmless.
    pub fn remove_volumes(&self, owner: String) {
        lock(&self.shared.table).todo.push(Todo::RemoveVolumes(owner));
        self.shared.wake.notify_one();
    }

    /// The master has the task's terminal status: it is forgotten. Its sandbox is kept for a while.
    pub fn acknowledge(&self, task: &TaskId) {
        let entry = lock(&self.shared.table).tasks.get(task).cloned();
        let Some(entry) = entry.filter(|entry| entry.status().state.is_terminal()) else {
            return;
        };
        lock(&entry.state).acknowledged = true;
        self.shared.forget_if_over(&entry);
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The directory of a task that has not ended.
    pub(crate) fn live_dir(&self, task: &TaskId) -> Option<TaskDir> {
        let entry = lock(&self.shared.table).tasks.get(task).cloned()?;
        entry.dir.clone().filter(|_| !entry.status().state.is_terminal())
    }

    pub(crate) fn sandbox_dir(&self) -> &Path {
        &self.shared.layout.sandboxes
    }

    /// The cgroup v2 directory that all tasks live under.
    pub fn tasks_cgroup(&self) -> PathBuf {
        self.shared.hierarchies.tasks.clone()
    }

    /// Ends [`Agent::run`]; the tasks run on.
    pub fn shutdown(&self) {
        self.shared.stop.send_replace(true);
    }

    /// Drives every task until [`Agent::shutdown`]. To be run once.
    pub async fn run(&self) {
        let shared = &*self.shared;
        let mut stop = shared.stop.subscribe();
        let mut live = FuturesUnordered::new();
        let mut sweeps = std::pin::pin!(sweeps(&self.shared));
        loop {
            for todo in std::mem::take(&mut lock(&shared.table).todo) {
                live.push(take_up(shared, todo));
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = shared.wake.notified() => {}
                () = &mut sweeps => {}
                Some(()) = live.next() => {}
            }
        }
    }
}

/// Looks again and again for what can be removed, beside the tasks: removing many files takes long.
async fn sweeps(shared: &Arc<Shared>) {
    let keep = shared.config.sandbox_keep.max(Duration::from_secs(1));
    let mut times = tokio::time::interval(shared.config.sweep.min(keep));
    times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        let shared = Arc::clone(shared);
        if let Err(error) = tokio::task::spawn_blocking(move || shared.sweep()).await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

async fn take_up(shared: &Shared, todo: Todo) {
    match todo {
        Todo::Supervise(entry, origin) => {
            supervise(shared, &entry, origin).await;
            shared.over(&entry);
        }
        Todo::Resend(entry) => shared.tell(&entry).await,
        Todo::RemoveVolumes(owner) => shared.remove_volumes(owner).await,
    }
}

impl Shared {
    /// Sends the task's newest status. Nobody to hear it means that the node is going down.
    async fn tell(&self, entry: &Entry) {
        let status = entry.status();
        let (framework, task) = (entry.spec.framework.clone(), entry.spec.task.clone());
        let _ = self
            .events
            .send(AgentEvent::Status {
                framework,
                task,
                status,
            })
            .await;
    }

    pub(crate) async fn tell_exit(&self, entry: &Entry) {
        let _ = self
            .events
            .send(AgentEvent::Exited {
                task: entry.spec.task.clone(),
            })
            .await;
    }

    /// Notes and sends a new status; what came of checks stays as it is.
    pub(crate) async fn report(&self, entry: &Entry, state: TaskState, healthy: Option<bool>, message: Option<String>) {
        self.report_why(entry, state, None, healthy, message).await;
    }

    /// The same with Mesos' reason.
    pub(crate) async fn report_why(
        &self,
        entry: &Entry,
        state: TaskState,
        reason: Option<Reason>,
        healthy: Option<bool>,
        message: Option<String>,
    ) {
        let results = *entry.status().checks;
        self.note(entry, state, reason, healthy, message, results).await;
    }

    /// Notes and sends a new status with results of checks.
    pub(crate) async fn report_checks(
        &self,
        entry: &Entry,
        state: TaskState,
        healthy: Option<bool>,
        message: Option<String>,
        checks: CheckResults,
    ) {
        self.note(entry, state, None, healthy, message, checks).await;
    }

    async fn note(
        &self,
        entry: &Entry,
        state: TaskState,
        reason: Option<Reason>,
        healthy: Option<bool>,
        message: Option<String>,
        checks: CheckResults,
    ) {
        {
            let mut inner = lock(&entry.state);
            let addresses = match (&entry.spec.network, inner.address) {
                (TaskNetwork::Host, _) => vec![self.config.ip.into()],
                (TaskNetwork::Container { .. }, address) => address.into_iter().map(Into::into).collect(),
            };
            let timestamp_ms = now_ms().max(inner.status.timestamp_ms + 1);
            inner.status = TaskStatus {
                state,
                reason,
                healthy,
                addresses,
                message,
                checks: Box::new(checks),
                timestamp_ms,
            };
        }
        let status = entry.status();
        let state = state.as_str();
        tracing::info!(task = %entry.spec.task, state, healthy, message = status.message, "task status");
        if let Some(dir) = entry.dir.as_ref().filter(|dir| dir.path().exists())
            && let Err(error) = dir.write(STATUS, &crate::spec::StatusFile::from(&status))
        {
            tracing::warn!(task = %entry.spec.task, %error, "a status is not kept");
        }
        self.end_others(entry);
        self.tell(entry).await;
    }

    async fn remove_volumes(&self, owner: String) {
        self.volumes_free(&owner, u32::MAX).await;
        self.kept_free(&owner, None).await;
        let (dir, whose) = (self.layout.volumes.clone(), owner.clone());
        let removed = tokio::task::spawn_blocking(move || crate::volumes::remove(&dir, &whose)).await;
        match removed {
            Ok(Ok(())) => {
                tracing::info!(owner, "volumes removed");
                // Nobody to hear it means that the node is going down.
                let _ = self.events.send(AgentEvent::VolumesGone { owner }).await;
            }
            Ok(Err(error)) => tracing::warn!(owner, %error, "volumes stay; the master will ask again"),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Waits for a network that the master's order may have overtaken, for a while: then the task fails with a sentence.
    pub(crate) async fn network_ready(&self, network: &TaskNetwork) {
        let TaskNetwork::Container { name } = network else {
            return;
        };
        let ready = async {
            loop {
                let changed = self.networks.notified();
                tokio::pin!(changed);
                // Heard from here on, whoever is first.
                changed.as_mut().enable();
                if DEFAULT_NETWORKS.contains(&name.as_str()) || lock(&self.table).networks.contains_key(name) {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(self.config.network_wait, ready).await;
    }

    /// Gives the task an address, if its network needs one.
    pub(crate) fn allocate(&self, entry: &Entry) -> Result<Option<Ipv4Addr>, String> {
        let TaskNetwork::Container { name } = &entry.spec.network else {
            return Ok(None);
        };
        let address = match self.address_of_others(entry) {
            Some(address) => address,
            None => lock(&self.table).address(name)?,
        };
        lock(&entry.state).address = Some(address);
        Ok(Some(address))
    }

    /// Nothing is left of the task: its address is free, and it is forgotten if the master knows.
    fn over(&self, entry: &Arc<Entry>) {
        self.remove_pod(entry);
        {
            let mut inner = lock(&entry.state);
            inner.over = true;
            inner.address = None;
        }
        self.ended.notify_waiters();
        self.forget_if_over(entry);
    }

    fn forget_if_over(&self, entry: &Entry) {
        // What is known of a pod's task goes with the last of its instance: until then it says that all are there.
        let group = self.group(entry);
        let done = |one: &Arc<Entry>| {
            let inner = lock(&one.state);
            inner.over && inner.acknowledged
        };
        if !group.iter().all(done) {
            return;
        }
        for one in group {
            lock(&self.table).tasks.remove(&one.spec.task);
            if let Some(dir) = &one.dir
                && let Err(error) = fs::remove_dir_all(dir.path())
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(task = %one.spec.task, %error, "the files of an ended task stay");
            }
        }
    }

    /// The entry and, of a pod, all others of its instance that this node has.
    pub(crate) fn group(&self, entry: &Entry) -> Vec<Arc<Entry>> {
        let own = [entry.spec.task.clone()];
        let ids = entry.spec.pod.as_ref().map_or(&own[..], |part| &part.members);
        let table = lock(&self.table);
        ids.iter().filter_map(|task| table.tasks.get(task).cloned()).collect()
    }

    /// Whether the node is going down.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Whether a task of that name has not ended whole.
    pub(crate) fn is_live(&self, task: &TaskId) -> bool {
        let entry = lock(&self.table).tasks.get(task).cloned();
        entry.is_some_and(|entry| !entry.is_over())
    }
}

impl Entry {
    fn new(spec: LaunchSpec, dir: Option<TaskDir>, secrets: SecretValues) -> Self {
        let status = TaskStatus {
            state: TaskState::Staging,
            reason: None,
            healthy: None,
            addresses: Vec::new(),
            message: None,
            checks: Default::default(),
            timestamp_ms: now_ms(),
        };
        Self {
            spec,
            dir,
            kill: watch::Sender::new(None),
            secrets,
            refused: None,
            gathering: None,
            state: Mutex::new(EntryState {
                status,
                address: None,
                over: false,
                acknowledged: false,
            }),
        }
    }

    pub(crate) fn status(&self) -> TaskStatus {
        lock(&self.state).status.clone()
    }

    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        lock(&self.state).address
    }

    /// Whether nothing of it is left but the files.
    pub(crate) fn is_over(&self) -> bool {
        lock(&self.state).over
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn found(network: TaskNetwork, state: TaskState) -> Found {
        Found {
            spec: LaunchSpec {
                network,
                ..crate::spec::sample()
            },
            status: TaskStatus {
                state,
                reason: None,
                healthy: None,
                addresses: vec![IpAddr::from([10, 0, 0, 1])],
                message: None,
                checks: Default::default(),
                timestamp_ms: 5,
            },
            kill: None,
            address: None,
        }
    }

    #[test]
    fn tasks_of_the_host_network_go_with_the_nodes_address() {
        let container = TaskNetwork::Container {
            name: "dcos".to_owned(),
        };
        let old = IpAddr::from([10, 0, 0, 1]);
        let new = Ipv4Addr::new(10, 0, 0, 9);
        for (network, state, wanted) in [
            (TaskNetwork::Host, TaskState::Running, new.into()),
            (TaskNetwork::Host, TaskState::Finished, old),
            (container, TaskState::Running, old),
        ] {
            let moved = found(network, state).at(new);
            assert_eq!(moved.status.addresses, [wanted]);
            assert_eq!(moved.status.timestamp_ms > 5, wanted != old, "newer when changed");
        }
    }
}
