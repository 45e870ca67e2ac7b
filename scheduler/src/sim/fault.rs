//! What goes wrong, and what users want, at random.

use std::collections::BTreeMap;

use model::{AgentId, TaskId, TaskState};

use crate::{
    AfterKill, Amounts, AppSpec, Cancel, Command, ContainerSpec, Force, GroupChange, GroupSpec, HealthCheckSpec,
    PersistentSpec, PodCheckSpec, PodContainerSpec, PodSpec, PortSpec, Quota, Run, UnreachableSpec, VolumeSpec,
    Volumes,
};

use super::world::{Event, Layered, World};

/// Apps that users play with, and how many instances of one they ask for at most.
const APPS: [&str; 5] = ["/a", "/b/c", "/b/d", RESIDENT, POD];
/// The one whose instances have volumes.
const RESIDENT: &str = "/v";
/// MiB of each volume.
const VOLUME_MB: i64 = 10;
const POD: &str = "/p";
/// Instances of the pod: with it, the apps can want no more than the machines have.
const MOST_PODS: u64 = 2;
const MOST: u64 = 5;

impl World {
    pub(super) fn fault(&mut self) {
        if !self.faults {
            return;
        }
        let pause = 2_000 + self.random.below(25_000);
        self.after(pause, Event::Fault);
        let agents = u64::try_from(self.agents.len()).expect("few");
        let number = usize::try_from(self.random.below(agents)).expect("few");
        match self.random.below(15) {
            0 | 1 => self.break_connection(number),
            2 => {
                self.note("cut");
                let cut = self.random.below(150_000);
                self.agents[number].cut_until = self.now + cut;
                self.break_connection(number);
            }
            3 | 4 => self.daemon_crash(number),
            5 => self.machine_crash(number),
            6 | 7 => self.task_fails(number),
            8 if self.core.is_some() => self.master_down(),
            9 | 10 => self.task_sickens(number),
            11 => self.vanish(number),
            12 | 13 => self.store_sticks(),
            _ => {}
        }
    }

    fn daemon_crash(&mut self, number: usize) {
        self.note("daemon crash");
        self.break_connection(number);
        if self.agents[number].up {
            self.agents[number].up = false;
            let down = self.random.below(30_000);
            self.after(down, Event::AgentUp(number));
        }
    }

    /// The machine restarts: its tasks are gone, perhaps its disk too.
    fn machine_crash(&mut self, number: usize) {
        self.note("machine crash");
        self.break_connection(number);
        self.agents[number].tasks.clear();
        if self.random.below(4) == 0 {
            self.agents[number].id = None;
            self.agents[number].volumes.clear();
        }
        if self.agents[number].up {
            self.agents[number].up = false;
            let down = self.random.below(150_000);
            self.after(down, Event::AgentUp(number));
        }
    }

    fn task_fails(&mut self, number: usize) {
        let running: Vec<TaskId> = self.agents[number]
            .live()
            .filter(|task| task.status.state == TaskState::Running)
            .map(|task| task.spec.task.clone())
            .collect();
        let running = &running[..];
        let pick = usize::try_from(self.random.below(3)).expect("few");
        if let (Some(task), true) = (running.get(pick).or(running.first()), self.agents[number].up) {
            // A pod's container may also have done its work.
            let finishes = task.as_str().contains(".side.") && self.random.below(2) == 0;
            let state = if finishes {
                TaskState::Finished
            } else {
                TaskState::Failed
            };
            self.note(state.as_str());
            self.task_becomes(number, task, state);
        }
    }

    /// Its health check fails from now on, and perhaps not for long.
    fn task_sickens(&mut self, number: usize) {
        let chance = self.random.below(3);
        for task in self.agents[number].tasks.values_mut() {
            task.sick = chance == 0 || (chance == 1 && !task.sick);
        }
        self.note("sick");
    }

    /// Cut off for longer than anybody waits, with all its tasks running on.
    fn vanish(&mut self, number: usize) {
        self.note("vanish");
        let cut = 60_000 + self.random.below(240_000);
        self.agents[number].cut_until = self.now + cut;
        self.break_connection(number);
    }

    /// Faults stop: every machine and the master come up, every link works.
    pub(super) fn heal(&mut self) {
        for agent in &mut self.agents {
            agent.up = true;
            agent.cut_until = 0;
        }
    }

    pub(super) fn command(&mut self) {
        if !self.faults {
            return;
        }
        let pause = 3_000 + self.random.below(40_000);
        self.after(pause, Event::Command);
        match (self.core.is_some(), self.random.below(12)) {
            (false, _) => {}
            (true, 0 | 1) => self.group_command(),
            (true, 2) => self.cancel_command(),
            (true, 3) => self.wipe_command(),
            (true, 4) => self.quota_command(),
            (true, _) => self.app_command(),
        }
    }

    /// An operator limits what a role gets, keeps some for it, or ends that.
    fn quota_command(&mut self) {
        let amount = Amounts {
            cpus_milli: Some(100 * self.random.below(8)),
            ..Amounts::default()
        };
        let mut quota = Quota {
            role: "db".to_owned(),
            ..Quota::default()
        };
        match self.random.below(4) {
            0 | 1 => quota.guarantees = amount,
            2 => quota.limits = amount,
            _ => {}
        }
        self.set_quota(quota);
    }

    /// In the end nothing is kept from others.
    pub(super) fn end_quota(&mut self) {
        if self.core.as_ref().is_none_or(|core| core.quotas().next().is_none()) {
            return;
        }
        self.set_quota(Quota {
            role: "db".to_owned(),
            ..Quota::default()
        });
    }

    fn set_quota(&mut self, quota: Quota) {
        let now = self.master_now();
        let Some(core) = &mut self.core else { return };
        let taken = core.handle_quotas(now, Force::Yes, vec![quota]);
        assert!(taken.is_ok(), "{taken:?}");
        self.note("quota");
        self.carry_out();
    }

    /// A task that a user may name.
    fn some_task(&mut self) -> Option<String> {
        let pick = usize::try_from(self.random.below(4)).expect("few");
        let instance = self.core.as_ref()?.instances().nth(pick)?;
        instance.tasks().next().map(ToString::to_string)
    }

    fn app_command(&mut self) {
        let now = self.master_now();
        let task = self.some_task();
        let Some(core) = &mut self.core else { return };
        let app = APPS[usize::try_from(self.random.below(5)).expect("few")];
        let count = self.random.below(if app == POD { MOST_PODS } else { MOST } + 1);
        let known = self.wanted.contains_key(app);
        let strategy = (self.random.below(3), self.random.below(3));
        let command = match (self.random.below(8), known, task) {
            (2 | 3, true, _) => Command::UpdateApp {
                id: app.to_owned(),
                spec: Box::new(changed(app, count, self.now, strategy)),
                force: Force::Yes,
            },
            (4, true, _) => Command::RestartApp {
                id: app.to_owned(),
                force: Force::Yes,
            },
            (0, _, Some(task)) => Command::KillTasks {
                tasks: vec![task],
                then: AfterKill::Replace,
                volumes: if strategy.0 == 0 { Volumes::Wipe } else { Volumes::Keep },
                force: Force::No,
            },
            (1, true, _) => Command::RemoveApp {
                id: app.to_owned(),
                force: Force::Yes,
            },
            (_, true, _) => Command::ScaleApp {
                id: app.to_owned(),
                instances: i64::try_from(count).expect("few"),
                force: Force::Yes,
            },
            (_, false, _) if core.deployments().is_empty() => Command::CreateApp(Box::new(spec(app, count))),
            (_, false, _) => Command::PutApps {
                specs: vec![spec(app, count)],
                force: Force::Yes,
            },
        };
        let change = match &command {
            Command::KillTasks { .. } | Command::RestartApp { .. } => None,
            Command::RemoveApp { .. } => Some(None),
            _ => Some(Some(u32::try_from(count).expect("few"))),
        };
        let renewed = matches!(command, Command::UpdateApp { .. } | Command::RestartApp { .. });
        if !matches!(command, Command::KillTasks { .. }) {
            self.others_are_mixed(&[app]);
        }
        let core = self.core.as_mut().expect("still there");
        let reply = core.handle_command(now, command);
        assert!(reply.is_ok(), "{app}: {reply:?}");
        match change {
            Some(Some(count)) => {
                self.wanted.insert(app.to_owned(), count);
            }
            Some(None) => {
                self.wanted.remove(app);
            }
            None => {}
        }
        if renewed || change == Some(None) {
            self.mixed.remove(app);
        }
        self.note(&format!("{app} {count}"));
        self.carry_out();
    }

    /// Somebody gives up the volumes of an instance that waits for its agent.
    fn wipe_command(&mut self) {
        let now = self.master_now();
        let Some(core) = &mut self.core else { return };
        let idle = core
            .residences()
            .filter(|one| core.instance(&one.id).is_none() && !one.wiped);
        let tasks: Vec<String> = idle.map(|one| one.task().to_string()).take(1).collect();
        let command = Command::KillTasks {
            tasks,
            then: AfterKill::Replace,
            volumes: Volumes::Wipe,
            force: Force::No,
        };
        let reply = core.handle_command(now, command);
        assert!(reply.is_ok(), "{reply:?}");
        self.note("wipe");
        self.carry_out();
    }

    /// What lived on machines that lost their id never comes back by itself: somebody gives it up.
    pub(super) fn give_up_lost_volumes(&mut self) {
        let now = self.master_now();
        let Some(core) = &mut self.core else { return };
        let known: Vec<AgentId> = self.agents.iter().filter_map(|agent| agent.id.clone()).collect();
        let lost = core
            .residences()
            .filter(|one| !one.wiped && !known.contains(&one.agent));
        let tasks: Vec<String> = lost.map(|one| one.task().to_string()).collect();
        if tasks.is_empty() {
            return;
        }
        let command = Command::KillTasks {
            tasks,
            then: AfterKill::Replace,
            volumes: Volumes::Wipe,
            force: Force::No,
        };
        let reply = core.handle_command(now, command);
        assert!(reply.is_ok(), "{reply:?}");
        self.carry_out();
    }

    /// Apps of deployments that a forced change of `changed` overtakes stay as they are.
    fn others_are_mixed(&mut self, changed: &[&str]) {
        let Some(core) = &self.core else { return };
        for deployment in core.deployments() {
            let apps: Vec<String> = deployment.apps().into_iter().map(ToString::to_string).collect();
            if apps.iter().any(|app| changed.contains(&app.as_str())) {
                let others = apps.into_iter().filter(|app| !changed.contains(&app.as_str()));
                self.mixed.extend(others);
                self.layered = None;
            }
        }
    }

    /// The group `/b`, in which `d` depends on `c`: replaced, scaled or removed as a whole.
    fn group_command(&mut self) {
        let now = self.master_now();
        let (c, d) = (self.random.below(MOST + 1), self.random.below(MOST + 1));
        let strategy = (self.random.below(3), self.random.below(3));
        let kind = self.random.below(6);
        let small = |count: u64| u32::try_from(count).expect("few");
        let mut wanted = self.wanted.clone();
        let halve = |count: &mut u32| *count = count.div_ceil(2);
        let change = match kind {
            0 if self.wanted.keys().any(|app| app.starts_with("/b/")) => {
                wanted.retain(|app, _| !app.starts_with("/b/"));
                GroupChange::Remove
            }
            1 if self.wanted.keys().any(|app| app.starts_with("/b/")) => {
                let inside = wanted.iter_mut().filter(|(app, _)| app.starts_with("/b/"));
                inside.for_each(|(_, count)| halve(count));
                GroupChange::ScaleBy(0.5)
            }
            2 => {
                wanted.remove("/b/d");
                wanted.insert("/b/c".to_owned(), small(c));
                GroupChange::Update(Box::new(group(vec![changed("c", c, self.now, strategy)])))
            }
            _ => {
                wanted.insert("/b/c".to_owned(), small(c));
                wanted.insert("/b/d".to_owned(), small(d));
                let mut dependant = changed("d", d, self.now, strategy);
                dependant.dependencies = vec!["/b/c".to_owned()];
                GroupChange::Update(Box::new(group(vec![changed("c", c, self.now, strategy), dependant])))
            }
        };
        self.others_are_mixed(&["/b/c", "/b/d"]);
        let ordered =
            matches!(&change, GroupChange::Update(spec) if spec.apps.as_ref().is_some_and(|apps| apps.len() == 2));
        let renewed = matches!(change, GroupChange::Update(_) | GroupChange::Remove);
        let core = self.core.as_mut().expect("looked at");
        let command = Command::Group {
            id: "/b".to_owned(),
            change,
            force: Force::Yes,
            run: Run::Real,
        };
        let reply = core.handle_command(now, command).expect("valid");
        self.wanted = wanted;
        if renewed {
            self.mixed.retain(|app| !app.starts_with("/b/"));
        }
        self.layered = ordered.then_some(Layered {
            version: reply.version,
            base_stood: false,
        });
        self.note(&format!("group {kind} {c} {d}"));
        self.carry_out();
    }

    /// The oldest deployment is taken back or left half done.
    fn cancel_command(&mut self) {
        let now = self.master_now();
        let how = if self.random.below(2) == 0 {
            Cancel::RollBack
        } else {
            Cancel::Leave
        };
        let Some(core) = &mut self.core else { return };
        let Some(record) = core.deployments().first().map(|record| (*record).clone()) else {
            return;
        };
        let id = record.id.clone();
        let reply = core.handle_command(now, Command::CancelDeployment { id, how });
        assert!(reply.is_ok(), "{reply:?}");
        for (app, before) in &record.before {
            match (how, before) {
                (Cancel::Leave, _) => drop(self.mixed.insert(app.to_string())),
                (Cancel::RollBack, Some(before)) => drop(self.wanted.insert(app.to_string(), before.instances)),
                (Cancel::RollBack, None) => drop(self.wanted.remove(app.as_str())),
            }
        }
        self.layered = None;
        self.note("cancel");
        self.carry_out();
    }
}

fn group(apps: Vec<AppSpec>) -> GroupSpec {
    GroupSpec {
        apps: Some(apps),
        ..GroupSpec::default()
    }
}

/// Another command, and capacities of 0, 1/2 or 1.
fn changed(id: &str, instances: u64, now: u64, (minimum, over): (u64, u64)) -> AppSpec {
    let part = |n: u64| f64::from(u32::try_from(n).expect("few")) / 2.0;
    let over = if id == RESIDENT { 0.0 } else { part(over) };
    let mut spec = AppSpec {
        cmd: Some(format!("serve {now}")),
        upgrade_strategy: Some((part(minimum), over)),
        ..spec(id, instances)
    };
    for container in spec.pod.iter_mut().flat_map(|pod| &mut pod.containers) {
        container.common.cmd = Some(format!("serve {now}"));
    }
    spec
}

/// Two containers: one behind the VIP, with a health check, one beside it that may end.
fn pod() -> PodSpec {
    let container = |name: &str| PodContainerSpec {
        name: name.to_owned(),
        common: AppSpec {
            cmd: Some("serve".to_owned()),
            cpus: Some(0.025),
            mem: Some(5.0),
            ..AppSpec::default()
        },
        ..PodContainerSpec::default()
    };
    let mut web = container("web");
    web.endpoints = vec![PortSpec {
        name: Some("http".to_owned()),
        host_port: Some(0),
        labels: BTreeMap::from([("VIP_0".to_owned(), "p:80".to_owned())]),
        ..PortSpec::default()
    }];
    web.health_check = Some(PodCheckSpec {
        tcp: Some("http".to_owned()),
        interval_seconds: Some(5),
        ..PodCheckSpec::default()
    });
    PodSpec {
        containers: vec![web, container("side")],
        executor: (Some(0.05), Some(0.0), Some(0.0)),
        ..PodSpec::default()
    }
}

fn volume() -> VolumeSpec {
    VolumeSpec {
        container_path: "data".to_owned(),
        persistent: Some(PersistentSpec {
            size: Some(VOLUME_MB),
            ..PersistentSpec::default()
        }),
        ..VolumeSpec::default()
    }
}

/// Every app has another way with health and with lost agents.
fn spec(id: &str, instances: u64) -> AppSpec {
    let checks = HealthCheckSpec {
        interval_seconds: Some(5),
        ..HealthCheckSpec::default()
    };
    let (health_checks, unreachable_strategy) = match id {
        "/a" | RESIDENT => (Vec::new(), None),
        "/b/c" => {
            let (inactive, expunge) = (20, 100);
            (vec![checks], Some(UnreachableSpec::After { inactive, expunge }))
        }
        _ => (vec![checks], Some(UnreachableSpec::Disabled)),
    };
    // One VIP for each app, however its id is written.
    let name = id.rsplit('/').next().unwrap_or_default();
    let labels = BTreeMap::from([("VIP_0".to_owned(), format!("{name}:80"))]);
    if id == POD {
        return AppSpec {
            id: id.to_owned(),
            instances: i64::try_from(instances).ok(),
            max_launch_delay_seconds: Some(20.0),
            unreachable_strategy: Some(UnreachableSpec::After {
                inactive: 20,
                expunge: 100,
            }),
            pod: Some(Box::new(pod())),
            ..AppSpec::default()
        };
    }
    // One of them gets more and more of its VIP, as long as nothing fails.
    let ramp = [("revere.share", "5,25,100"), ("revere.ramp", "20s")];
    let ramp = ramp.map(|(label, text)| (label.to_owned(), text.to_owned()));
    AppSpec {
        labels: if id == "/a" { ramp.into() } else { BTreeMap::new() },
        id: id.to_owned(),
        cmd: Some("serve".to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        instances: i64::try_from(instances).ok(),
        port_definitions: Some(vec![PortSpec {
            labels,
            ..PortSpec::default()
        }]),
        max_launch_delay_seconds: Some(20.0),
        health_checks,
        unreachable_strategy,
        container: ContainerSpec {
            volumes: if id == RESIDENT { vec![volume()] } else { Vec::new() },
            ..ContainerSpec::default()
        },
        ..AppSpec::default()
    }
}
