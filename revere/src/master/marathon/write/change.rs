//! Deployments under way, and what waits for a place.

use std::collections::BTreeSet;

use scheduler::{Action, DeploymentRecord, QueueView, Refusal, Refusals, RunKind, Scheduler, Timestamp};
use serde_json::{Value, json};

use super::super::event;
use super::{definition, health, milli, pod};

/// Marathon's reasons in funnel order, and the rule here, where there is one.
const FUNNEL: [(&str, Option<Refusal>); 10] = [
    ("UnfulfilledRole", Some(Refusal::Role)),
    ("UnfulfilledConstraint", Some(Refusal::Constraint)),
    ("NoCorrespondingReservationFound", None),
    ("AgentMaintenance", None),
    ("InsufficientCpus", Some(Refusal::Cpus)),
    ("InsufficientMemory", Some(Refusal::Memory)),
    ("InsufficientDisk", Some(Refusal::Disk)),
    ("InsufficientGpus", None),
    ("InsufficientPorts", Some(Refusal::Ports)),
    ("DeclinedScarceResources", None),
];

fn deployment(scheduler: &Scheduler, record: &DeploymentRecord) -> Value {
    let current = |action: &Action| {
        let app = scheduler.app(action.app.as_str());
        let readiness = app.map(|app| health::readiness(scheduler, app)).unwrap_or_default();
        let mut out = event::action(action);
        out["readinessCheckResults"] = json!(readiness);
        out
    };
    let affected = |of: RunKind| {
        let ids = record.steps.iter().flatten().filter(|action| action.of == of);
        ids.map(|action| action.app.as_str()).collect::<BTreeSet<_>>()
    };
    json!({
        "id": record.id,
        "version": record.version.to_string(),
        "affectedApps": affected(RunKind::App),
        "affectedPods": affected(RunKind::Pod),
        "steps": event::steps(&record.steps),
        "currentActions": record.current().iter().map(current).collect::<Vec<_>>(),
        "currentStep": record.step.saturating_add(1),
        "totalSteps": record.steps.len(),
    })
}

/// `GET /v2/deployments`.
pub(crate) fn deployments(scheduler: &Scheduler) -> Value {
    scheduler
        .deployments()
        .into_iter()
        .map(|record| deployment(scheduler, record))
        .collect()
}

/// What is shown of what waits beside what Marathon shows by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueEmbeds {
    offers: bool,
    /// Not Marathon's: its clients know a closed set of names.
    crash_loop: bool,
}

impl QueueEmbeds {
    /// Reads the values of `embed`.
    pub(crate) fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut embeds = Self::default();
        for value in values {
            embeds.offers |= value == "lastUnusedOffers";
            embeds.crash_loop |= value == "crashLoop";
        }
        embeds
    }
}

/// `GET /v2/queue`.
pub(crate) fn queue(scheduler: &Scheduler, now: Timestamp, embeds: QueueEmbeds) -> Value {
    let item = |item: QueueView<'_>| {
        let left = item.delay.as_secs() + u64::from(item.delay.subsec_nanos() > 0);
        let refused: u32 = item.refusals.by_rule.values().sum();
        let mut summary = json!({
            "processedOffersCount": item.refusals.processed,
            "unusedOffersCount": refused,
            "rejectSummaryLastOffers": reasons(item.refusals),
            "rejectSummaryLaunchAttempt": reasons(item.refusals),
        });
        if refused > 0 {
            summary["lastUnusedOfferAt"] = json!(now.to_string());
        }
        let mut out = json!({
            "count": item.count,
            "delay": {"timeLeftSeconds": left, "overdue": left == 0},
            "since": item.since.to_string(),
            "processedOffersSummary": summary,
        });
        match &item.app.pod {
            Some(pod) => out["pod"] = pod::definition(item.app, pod),
            None => out["app"] = definition(item.app),
        }
        let crash_loop = scheduler.crash_loop(&item.app.id).filter(|_| embeds.crash_loop);
        if let Some(known) = crash_loop {
            out["crashLoop"] = event::crash_loop(&known);
        }
        if embeds.offers {
            let named = item.refusals.agents.iter();
            out["lastUnusedOffers"] = named
                .filter_map(|(agent, reason)| unused_offer(scheduler, agent, *reason, now))
                .collect();
        }
        out
    };
    json!({"queue": scheduler.queue().map(item).collect::<Vec<_>>()})
}

/// An agent that refused, as the offer that Mesos would have made of it.
fn unused_offer(scheduler: &Scheduler, agent: &model::AgentId, reason: Refusal, now: Timestamp) -> Option<Value> {
    let view = scheduler.agent_view(agent)?;
    let left = view.record.resources.minus(&view.used);
    let role = &view.record.domain.role;
    let scalar = |name: &str, value: Value| json!({"name": name, "scalar": value, "role": role});
    let attributes = view.record.attributes.iter();
    let attributes: Vec<Value> = attributes
        .map(|(name, text)| json!({"name": name, "text": text}))
        .collect();
    let offer = json!({
        "id": format!("{agent}-O"),
        "agentId": agent.as_str(),
        "hostname": view.record.hostname,
        "resources": [
            scalar("cpus", json!(milli(left.cpus_milli))),
            scalar("mem", json!(left.mem_mb)),
            scalar("disk", json!(left.disk_mb)),
        ],
        "attributes": attributes,
    });
    Some(json!({"offer": offer, "reason": [reason.as_str()], "timestamp": now.to_string()}))
}

/// The funnel: each rule sees what the ones before let through.
fn reasons(refusals: &Refusals) -> Vec<Value> {
    let mut processed = refusals.processed;
    let mut all = Vec::new();
    for (name, rule) in FUNNEL {
        let declined = rule.and_then(|rule| refusals.by_rule.get(&rule)).copied().unwrap_or(0);
        all.push(json!({"reason": name, "declined": declined, "processed": processed}));
        processed = processed.saturating_sub(declined);
    }
    all
}
