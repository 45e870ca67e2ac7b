//! How much of a VIP an app's instances take, by label: what a canary gets at first, and which of two apps is served.
//!
//! `revere.share` is the weight of each of the app's instances, of 100, or a list of them; with `revere.ramp` the app goes
//! from one to the next each time that long has passed since it was changed, as long as none of its instances fails. Both
//! labels change nothing of the instances themselves: a change of them alone restarts nothing, and one change of two apps
//! takes their VIP from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{AgentId, TaskEvent, TaskPort, is_vip_label};

use crate::{App, AppId, InstanceRecord, Record, Timestamp};

use super::Scheduler;
use super::deadline::duration;
use super::timers::Timer;

#[cfg(test)]
#[path = "shares/tests.rs"]
mod tests;

/// `100`, `0`, or `5,25,100`.
pub(crate) const SHARE_LABEL: &str = "revere.share";
/// Time at each of them but the last.
pub(crate) const RAMP_LABEL: &str = "revere.ramp";
/// What an instance weighs at most.
const WHOLE: u16 = 100;
/// The label of a port by which the fold knows weights (docs/sockets.md); one that the user wrote goes before.
const WEIGHT_LABEL: &str = "revere.weight";

/// What labels say of shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    steps: Vec<u16>,
    ramp: Option<Duration>,
}

/// The share of an app that was told last. It is kept, so that every master tells the same, and a new one goes on where the
/// earlier one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldShare {
    /// What each of its instances weighs.
    pub share: u16,
    /// Since when its steps are counted: the app's newest change, or the end of the delay after its newest failure.
    pub since: Timestamp,
}

impl Shares {
    /// What the labels set; an error names its label.
    pub(crate) fn of_labels(labels: &BTreeMap<String, String>) -> Option<Result<Self, (&'static str, String)>> {
        let ramp = labels.get(RAMP_LABEL);
        let Some(text) = labels.get(SHARE_LABEL) else {
            let alone = || {
                (
                    RAMP_LABEL,
                    format!("is for apps with `{SHARE_LABEL}`: write its steps there"),
                )
            };
            return ramp.map(|_| Err(alone()));
        };
        let step = |part: &str| part.trim().parse().ok().filter(|step| *step <= WHOLE);
        let steps: Option<Vec<u16>> = text.split(',').map(step).collect();
        let Some(steps) = steps else {
            let error = format!("`{text}` is no share: write numbers from 0 to {WHOLE}, such as 0, or 5,25,100");
            return Some(Err((SHARE_LABEL, error)));
        };
        let ramp = match ramp.map(|text| duration(text)) {
            Some(Err(error)) => return Some(Err((RAMP_LABEL, error))),
            Some(Ok(ramp)) => Some(ramp),
            None => None,
        };
        if steps.len() > 1 && ramp.is_none() {
            let error = format!("several shares need `{RAMP_LABEL}`: the time at each, such as 5m");
            return Some(Err((SHARE_LABEL, error)));
        }
        Some(Ok(Self { steps, ramp }))
    }

    /// The share so long after the app was changed, and when the next one begins.
    fn at(&self, since: Timestamp, now: Timestamp) -> (u16, Option<Timestamp>) {
        let last = self.steps.len().saturating_sub(1);
        let first = self.steps.first().copied().unwrap_or(WHOLE);
        let Some(ramp) = self.ramp.filter(|_| last > 0) else {
            return (first, None);
        };
        let mut begins = since;
        for (index, step) in self.steps.iter().enumerate() {
            let next = begins.after(ramp);
            if index == last || now < next {
                return (*step, (index < last).then_some(next));
            }
            begins = next;
        }
        (first, None)
    }
}

/// Whether a label changes nothing of an app's instances.
pub(super) fn is_of_shares(label: &str) -> bool {
    label == SHARE_LABEL || label == RAMP_LABEL
}

impl Scheduler {
    /// An app's share of its VIPs now, and when it changes by itself. `None`: it says nothing of shares.
    fn share_now(&self, app: &App) -> Option<(ToldShare, Option<Timestamp>)> {
        let shares = Shares::of_labels(&app.labels)?.ok()?;
        // Where its instances fail it begins anew once the next may be launched. Delays are not kept over a restart and may
        // be lifted: then the next may be launched now.
        let told = self.shares.get(&app.id).map(|told| told.since.min(self.now));
        let failed = self.delays.get(&app.id).map(|delay| delay.until);
        let since = failed.or(told).filter(|_| shares.ramp.is_some());
        let since = since.map_or(app.version, |since| since.max(app.version));
        let (share, next) = shares.at(since, self.now);
        Some((ToldShare { share, since }, next))
    }

    /// Before anything was told: the first step.
    fn first_share(app: &App) -> Option<ToldShare> {
        let shares = Shares::of_labels(&app.labels)?.ok()?;
        let since = app.version;
        let (share, _) = shares.at(since, since);
        Some(ToldShare { share, since })
    }

    /// Ports as the stream tells them: with the weight that the app's share gives their VIPs.
    pub(super) fn told_ports(&self, instance: &InstanceRecord, ports: &[TaskPort]) -> Vec<TaskPort> {
        let mut ports = ports.to_vec();
        if let Some(ToldShare { share, .. }) = self.shares.get(&instance.app) {
            for port in &mut ports {
                let named = |name: fn(&str) -> bool| port.labels.iter().any(|(key, _)| name(key));
                if named(is_vip_label) && !named(|key| key == WEIGHT_LABEL) {
                    port.labels.push((WEIGHT_LABEL.to_owned(), share.to_string()));
                }
            }
        }
        ports
    }

    /// Notes an app's share, and tells its instances again where it is another.
    pub(super) fn tell_share(&mut self, id: &AppId) {
        let now = self.apps.get(id).and_then(|app| self.share_now(app));
        match now.and_then(|(_, next)| next) {
            Some(next) => self.timers.set(Timer::Share(id.clone()), next),
            None => self.timers.cancel(&Timer::Share(id.clone())),
        }
        let (told, before) = (now.map(|(told, _)| told), self.shares.get(id).copied());
        if told == before {
            return;
        }
        self.set_share(id, told);
        self.persist(match told {
            Some(told) => Record::PutShare(id.clone(), told),
            None => Record::DeleteShare(id.clone()),
        });
        if told.map(|one| one.share) == before.map(|one| one.share) {
            return;
        }
        let told = |one: &&InstanceRecord| self.nodes.get(&one.agent).is_some_and(|node| node.link.is_told());
        let instances: Vec<InstanceRecord> = self.instances_of(id).filter(told).cloned().collect();
        for task in instances
            .iter()
            .flat_map(|instance| self.told_tasks(instance))
            .collect::<Vec<_>>()
        {
            self.emit(TaskEvent::TaskAdded(task));
        }
    }

    fn set_share(&mut self, id: &AppId, told: Option<ToldShare>) {
        match told {
            Some(told) => drop(self.shares.insert(id.clone(), told)),
            None => drop(self.shares.remove(id)),
        }
    }

    /// What an earlier master told of shares. Of an app that it told none of, as one of an earlier release, the first step.
    pub(super) fn take_up_shares(&mut self, told: BTreeMap<AppId, ToldShare>) {
        for (id, told) in told {
            if self.apps.contains_key(&id) {
                self.set_share(&id, Some(told));
            } else {
                self.persist(Record::DeleteShare(id));
            }
        }
        let untold = self.apps.values().filter(|app| !self.shares.contains_key(&app.id));
        let first = untold.filter_map(|app| Some((app.id.clone(), Self::first_share(app)?)));
        for (id, told) in first.collect::<Vec<_>>() {
            self.set_share(&id, Some(told));
            self.persist(Record::PutShare(id, told));
        }
    }

    /// The same of one app, record by record. Whoever has an instance of it tells it again, where its share is another.
    pub(super) fn follow_share(&mut self, id: &AppId, told: Option<ToldShare>, touched: &mut BTreeSet<AgentId>) {
        let before = self.shares.get(id).copied();
        let told = told.or_else(|| self.apps.get(id).and_then(Self::first_share));
        self.set_share(id, told);
        if told.map(|one| one.share) != before.map(|one| one.share) {
            touched.extend(self.instances_of(id).map(|one| one.agent.clone()));
        }
    }
}
