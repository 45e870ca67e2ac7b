//! Deployments that may not take for ever: what is not done by its deadline is taken back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::{DeploymentRecord, Timestamp};

use super::Scheduler;
use super::timers::Timer;

/// The label of an app: `90`, `90s`, `15m` or `2h`.
pub(crate) const DEADLINE_LABEL: &str = "revere.deadline";
/// Ended deployments that are remembered for those who waited for one.
const REMEMBERED: usize = 512;

/// How a deployment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeploymentEnd {
    /// All of it is done.
    Done,
    /// It was given up, and why.
    GivenUp(String),
}

/// The newest ends, oldest first. In memory only.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends(VecDeque<(String, DeploymentEnd)>);

impl Ends {
    pub(super) fn note(&mut self, id: &str, end: DeploymentEnd) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((id.to_owned(), end));
    }
}

/// The deadline that labels set, or what is wrong with it.
pub(crate) fn of_labels(labels: &BTreeMap<String, String>) -> Option<Result<Duration, String>> {
    labels.get(DEADLINE_LABEL).map(|text| duration(text))
}

/// A time as a label writes it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.trim().strip_suffix(['s', 'm', 'h']) {
        Some(number) if text.trim().ends_with('m') => (number, 60),
        Some(number) if text.trim().ends_with('h') => (number, 3_600),
        Some(number) => (number, 1),
        None => (text.trim(), 1),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match seconds.filter(|seconds| *seconds > 0) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(format!(
            "`{text}` is no time: write seconds, or a number with s, m or h, such as 15m"
        )),
    }
}

impl Scheduler {
    /// When a deployment is taken back if it is not done: the earliest that an app says which it gives another definition.
    /// What was not there before has nothing to go back to; nor has a change back to what was, which would go on for ever.
    pub fn deadline_of(&self, record: &DeploymentRecord) -> Option<Timestamp> {
        let changed = record.before.iter().filter(|(_, before)| before.is_some());
        let apps = changed.filter_map(|(id, _)| self.apps.get(id));
        let newest = apps.filter(|app| app.last_config_change == record.version);
        let times = newest.filter_map(|app| of_labels(&app.labels)?.ok());
        times.min().map(|time| record.version.after(time))
    }

    pub(super) fn time_deployment(&mut self, id: &str) {
        if let Some(at) = self.deployments.get(id).and_then(|record| self.deadline_of(record)) {
            self.timers.set(Timer::Deadline(id.to_owned()), at);
        }
    }

    /// It is not done in time.
    pub(super) fn deadline_over(&mut self, id: &str) {
        let Some(record) = self.deployments.get(id).cloned() else {
            return;
        };
        let (step, steps) = (record.step.saturating_add(1), record.steps.len());
        let why = format!("its deadline passed in step {step} of {steps}");
        if let Err(refused) = self.roll_back(record, &why) {
            let why = format!("{why}; what was before cannot come back: {refused}");
            self.end_early(id, &BTreeSet::new(), &why);
        }
    }

    /// How a deployment ended, if that is not too long ago.
    pub fn ended_deployment(&self, id: &str) -> Option<&DeploymentEnd> {
        let ended = self.ends.0.iter().rev().find(|(ended, _)| ended == id);
        ended.map(|(_, end)| end)
    }
}

#[cfg(test)]
#[path = "deadline/tests.rs"]
mod tests;
