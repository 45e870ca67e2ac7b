//! What goes wrong, and what users want, at random.

use std::collections::BTreeMap;

use model::{TaskId, TaskState};

use crate::{AppSpec, Command, Force, HealthCheckSpec, PortSpec, Timestamp, UnreachableSpec};

use super::world::{Event, World};

/// Apps that users play with, and how many instances of one they ask for at most.
const APPS: [&str; 3] = ["/a", "/b/c", "/b/d"];
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
        match self.random.below(13) {
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
        if let (Some(task), true) = (running.first(), self.agents[number].up) {
            self.note("task fails");
            self.task_becomes(number, task, TaskState::Failed);
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
        let Some(core) = &mut self.core else { return };
        let app = APPS[usize::try_from(self.random.below(3)).expect("few")];
        let count = self.random.below(MOST + 1);
        let known = self.wanted.contains_key(app);
        let task = core.instances().next().map(|instance| instance.spec.task.to_string());
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
            (0, _, Some(task)) => Command::KillTask { task },
            (1, true, _) => Command::RemoveApp { id: app.to_owned() },
            (_, true, _) => Command::ScaleApp {
                id: app.to_owned(),
                instances: i64::try_from(count).expect("few"),
                force: Force::Yes,
            },
            (_, false, _) => Command::CreateApp(Box::new(spec(app, count))),
        };
        let text = format!("{} {count}", app);
        let change = match &command {
            Command::KillTask { .. } | Command::RestartApp { .. } => None,
            Command::RemoveApp { .. } => Some(None),
            _ => Some(Some(u32::try_from(count).expect("few"))),
        };
        let before = core.app(app).map_or(0, |known| core.instances_of(&known.id).count());
        let reply = core.handle_command(Timestamp(self.now), command);
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
        self.note(&text);
        self.check_launch(app, before);
        self.carry_out();
    }
}

/// Another command, and capacities of 0, 1/2 or 1.
fn changed(id: &str, instances: u64, now: u64, (minimum, over): (u64, u64)) -> AppSpec {
    let part = |n: u64| f64::from(u32::try_from(n).expect("few")) / 2.0;
    AppSpec {
        cmd: Some(format!("serve {now}")),
        upgrade_strategy: Some((part(minimum), part(over))),
        ..spec(id, instances)
    }
}

/// Every app has another way with health and with lost agents.
fn spec(id: &str, instances: u64) -> AppSpec {
    let checks = HealthCheckSpec {
        interval_seconds: Some(5),
        ..HealthCheckSpec::default()
    };
    let (health_checks, unreachable_strategy) = match id {
        "/a" => (Vec::new(), None),
        "/b/c" => {
            let (inactive, expunge) = (20, 100);
            (vec![checks], Some(UnreachableSpec::After { inactive, expunge }))
        }
        _ => (vec![checks], Some(UnreachableSpec::Disabled)),
    };
    let labels = BTreeMap::from([("VIP_0".to_owned(), format!("{id}:80"))]);
    AppSpec {
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
        ..AppSpec::default()
    }
}
