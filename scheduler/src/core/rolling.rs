//! How a changed app goes over to its new definition: how many old instances may end now, how many new ones may start.
//!
//! Marathon's rule (section 3.10 of the reference): never fewer ready instances than `minimumHealthCapacity` asks for, as
//! far as ending them is ours to decide; never more at once than `maximumOverCapacity` allows, those still on their way
//! out included, which Marathon does not count.

use crate::{App, InstanceId, InstanceRecord, UpgradeStrategy};

/// The two borders within which an update stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Ready instances to keep.
    pub(super) least_ready: u32,
    /// Instances at once.
    pub(super) most: u32,
}

/// Where a new instance may be while the old one is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moves {
    /// Beside it.
    Anywhere,
    /// Only in its place: there are its volumes.
    InPlace,
}

impl Moves {
    fn of(app: &App) -> Self {
        if app.is_resident() {
            Self::InPlace
        } else {
            Self::Anywhere
        }
    }
}

impl Limits {
    /// Of an app that wants `instances`. Where the strategy leaves no room at all, one more than wanted may run, or
    /// nothing could ever be replaced; where the new one needs the old one's volumes, one fewer.
    pub(super) fn new(instances: u32, strategy: &UpgradeStrategy, moves: Moves) -> Self {
        let wanted = f64::from(instances);
        let least_ready = whole((wanted * strategy.minimum_health_capacity).ceil());
        let most = whole((wanted * (1.0 + strategy.maximum_over_capacity)).floor());
        match moves {
            _ if most > least_ready => Self { least_ready, most },
            Moves::Anywhere => Self {
                least_ready,
                most: most.saturating_add(1),
            },
            Moves::InPlace => Self {
                least_ready: most.saturating_sub(1),
                most,
            },
        }
    }
}

/// A whole number that came out of arithmetic on one; more than fits counts as the most there is.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within the range just checked"
)]
pub(super) fn whole(number: f64) -> u32 {
    if number >= f64::from(u32::MAX) {
        u32::MAX
    } else {
        number.max(0.0) as u32
    }
}

/// What may be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Old instances to end.
    pub(super) end: Vec<InstanceId>,
    /// New instances to launch.
    pub(super) launch: u32,
}

/// Whether an instance is of another definition than the one in force.
pub(super) fn is_old(app: &App, instance: &InstanceRecord) -> bool {
    instance.config != app.last_config_change
}

/// Whether it counts as able to serve: running, healthy where that is checked, and ready once where that is asked.
pub(super) fn is_ready(instance: &InstanceRecord) -> bool {
    instance.spec.serves(&instance.status) && instance.spec.was_ready(&instance.status)
}

/// The next step of an update. `instances` are all of the app that are not over yet.
pub(super) fn step<'a>(app: &App, instances: impl Iterator<Item = &'a InstanceRecord>) -> Step {
    let limits = Limits::new(app.instances, &app.upgrade_strategy, Moves::of(app));
    let (mut there, mut new, mut ready) = (0_u32, 0_u32, 0_u32);
    let mut old: Vec<&InstanceRecord> = Vec::new();
    for instance in instances {
        there += 1;
        if instance.unwanted {
            continue;
        }
        ready += u32::from(is_ready(instance));
        if is_old(app, instance) {
            old.push(instance);
        } else {
            new += 1;
        }
    }
    sort_for_ending(app, &mut old);
    let mut spare = ready.saturating_sub(limits.least_ready);
    let mut end = Vec::new();
    for instance in old {
        // One that serves nobody costs nothing; of the others, only as many as are ready beyond the least.
        if is_ready(instance) {
            if spare == 0 {
                break;
            }
            spare -= 1;
        }
        end.push(instance.id.clone());
    }
    Step {
        end,
        launch: app.instances.saturating_sub(new).min(limits.most.saturating_sub(there)),
    }
}

/// First those that do not run, then by age as the app says.
pub(super) fn sort_for_ending(app: &App, instances: &mut [&InstanceRecord]) {
    instances.sort_by(|a, b| {
        let age = if app.kill_youngest_first {
            b.staged_at.cmp(&a.staged_at)
        } else {
            a.staged_at.cmp(&b.staged_at)
        };
        is_ready(a).cmp(&is_ready(b)).then(age).then(a.id.cmp(&b.id))
    });
}

#[cfg(test)]
#[path = "rolling/tests.rs"]
mod tests;
