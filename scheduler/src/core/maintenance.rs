//! Planned maintenance: where it is near, agents say so in their offers; while it lasts nothing is started there; a machine
//! out of service is emptied.

use std::collections::BTreeSet;

use model::AgentId;

use crate::{Machine, Maintenance, MaintenanceCall, Record, Timestamp, Window};

use super::Scheduler;
use super::timers::Timer;

#[cfg(test)]
#[path = "maintenance/tests.rs"]
mod tests;

impl Scheduler {
    /// What is planned, and what is out of service.
    pub fn maintenance(&self) -> &Maintenance {
        &self.maintenance
    }

    /// Takes what an operator says of maintenance, or refuses it whole.
    pub fn handle_maintenance(&mut self, now: Timestamp, call: MaintenanceCall) -> Result<(), String> {
        self.enter(now);
        let after = self.maintenance_after(call)?;
        self.persist(Record::PutMaintenance(Box::new(after.clone())));
        let before = std::mem::replace(&mut self.maintenance, after);
        for agent in self.nodes.keys().cloned().collect::<Vec<_>>() {
            let changed = self.nodes.get(&agent).is_some_and(|node| {
                let told = |of: &Maintenance| (of.of(&node.record), of.is_down(&node.record));
                told(&before) != told(&self.maintenance)
            });
            if changed {
                // Whoever holds an offer hears what is planned now with the next one.
                self.rescind_all_of(&agent);
                self.refresh_maintenance(&agent);
                self.empty(&agent);
                self.frameworks.freed(&agent);
            }
        }
        self.time_maintenance();
        self.capacity_changed();
        self.settle();
        Ok(())
    }

    fn maintenance_after(&self, call: MaintenanceCall) -> Result<Maintenance, String> {
        let mut after = self.maintenance.clone();
        match call {
            MaintenanceCall::Schedule(windows) => {
                check_windows(&windows)?;
                after.windows = windows;
                let planned: BTreeSet<&Machine> = after.machines().collect();
                if let Some(missing) = after.down.iter().find(|machine| !planned.contains(machine)) {
                    return Err(format!(
                        "{missing} is out of service and cannot leave the schedule: end its maintenance first"
                    ));
                }
            }
            MaintenanceCall::Start(machines) => {
                let planned: BTreeSet<Machine> = after.machines().cloned().collect();
                for machine in named(machines)? {
                    if !planned.contains(&machine) {
                        return Err(format!(
                            "{machine} is not in the maintenance schedule: add it to a window first"
                        ));
                    }
                    if !after.down.insert(machine.clone()) {
                        return Err(format!("{machine} is out of service already"));
                    }
                }
            }
            MaintenanceCall::Stop(machines) => {
                for machine in named(machines)? {
                    if !after.down.remove(&machine) {
                        return Err(format!(
                            "{machine} is not out of service: there is no maintenance to end"
                        ));
                    }
                    for window in &mut after.windows {
                        window.machines.retain(|one| *one != machine);
                    }
                }
                after.windows.retain(|window| !window.machines.is_empty());
            }
        }
        Ok(after)
    }

    /// Notes on an agent what is said of its machine.
    pub(super) fn refresh_maintenance(&mut self, agent: &AgentId) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(agent) {
            node.unavailability = self.maintenance.of(&node.record);
            node.away = node.unavailability.is_some_and(|planned| planned.holds_at(now));
            node.down = self.maintenance.is_down(&node.record);
        }
    }

    /// A window begins or ends.
    pub(super) fn maintenance_turns(&mut self) {
        for agent in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.refresh_maintenance(&agent);
        }
        self.time_maintenance();
        self.capacity_changed();
    }

    /// Looks again when the next window begins or ends.
    pub(super) fn time_maintenance(&mut self) {
        let ends = self.maintenance.windows.iter().map(|window| window.unavailability);
        let turns = ends
            .flat_map(|planned| [Some(planned.start()), planned.end()])
            .flatten();
        match turns.filter(|at| *at > self.now).min() {
            Some(at) => self.timers.set(Timer::Maintenance, at),
            None => self.timers.cancel(&Timer::Maintenance),
        }
    }

    /// What an earlier master was told.
    pub(super) fn take_maintenance(&mut self, maintenance: Maintenance) {
        self.maintenance = maintenance;
        for agent in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.refresh_maintenance(&agent);
        }
    }
}

/// Every machine once, and named.
fn named(machines: Vec<Machine>) -> Result<BTreeSet<Machine>, String> {
    let mut all = BTreeSet::new();
    for machine in machines {
        if !machine.is_named() {
            return Err("a machine has neither a hostname nor an ip".to_owned());
        }
        if !all.insert(machine.clone()) {
            return Err(format!("{machine} is named twice"));
        }
    }
    if all.is_empty() {
        return Err("no machine is named".to_owned());
    }
    Ok(all)
}

fn check_windows(windows: &[Window]) -> Result<(), String> {
    let mut all = BTreeSet::new();
    for window in windows {
        for machine in named(window.machines.clone())? {
            if !all.insert(machine.clone()) {
                return Err(format!("{machine} is in two windows of the schedule"));
            }
        }
    }
    Ok(())
}
