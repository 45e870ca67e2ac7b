//! The master's figures, as OpenMetrics and as Mesos's `GET_METRICS`.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::App;
use super::answer::Refusal;
use crate::master::core::Core;

pub(in crate::master) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that a master tells that does not lead.
pub(in crate::master) const NOT_LEADING: &str = "# HELP revere_master_leads Whether this master leads.\n# TYPE revere_master_leads gauge\nrevere_master_leads 0\n# EOF\n";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: String,
}

/// What is counted, at one moment.
struct Figures {
    apps: usize,
    nodes_connected: usize,
    nodes: usize,
    vips: usize,
    generation: u64,
    waiting: u32,
    tasks: BTreeMap<&'static str, u64>,
    cpus: (u64, u64),
    mem: (u64, u64),
}

fn figures(core: &Core) -> Figures {
    let mut tasks = BTreeMap::new();
    for instance in core.scheduler.instances() {
        *tasks.entry(instance.status.state.as_str()).or_insert(0) += 1;
    }
    let (used, total) = core.capacity();
    let snapshot = core.table.snapshot();
    Figures {
        apps: core.scheduler.apps().count(),
        nodes_connected: core.scheduler.agents().filter(|agent| agent.connected).count(),
        nodes: core.scheduler.agents().count(),
        vips: snapshot.services.len(),
        generation: snapshot.generation.0,
        waiting: core.scheduler.queue().map(|item| item.count).sum(),
        tasks,
        cpus: (used.cpus_milli, total.cpus_milli),
        mem: (used.mem_mb, total.mem_mb),
    }
}

/// `GET_METRICS`, under Mesos's names.
pub(super) fn mesos(core: &Core) -> Value {
    let figures = figures(core);
    let running = figures.tasks.get("TASK_RUNNING").copied().unwrap_or(0);
    json!([
        {"name": "master/elected", "value": 1.0},
        {"name": "master/slaves_active", "value": figures.nodes},
        {"name": "master/slaves_connected", "value": figures.nodes_connected},
        {"name": "master/tasks_running", "value": running},
        {"name": "master/frameworks_active", "value": 1},
    ])
}

fn text(figures: &Figures) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("revere_master");
    let mut gauge = |name: &str, help: &str, value: u64| {
        let gauge = Gauge::<u64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    gauge("leads", "Whether this master leads", 1);
    gauge("apps", "Apps", count(figures.apps));
    gauge("nodes", "Registered nodes", count(figures.nodes));
    gauge(
        "nodes_connected",
        "Nodes with an open connection",
        count(figures.nodes_connected),
    );
    gauge(
        "vips",
        "Virtual addresses with at least one backend",
        count(figures.vips),
    );
    gauge("generation", "Generation of the service table", figures.generation);
    gauge(
        "waiting_instances",
        "Instances that wait for a place",
        u64::from(figures.waiting),
    );
    gauge("cpus_used_milli", "Thousandths of CPUs given to tasks", figures.cpus.0);
    gauge("cpus_milli", "Thousandths of CPUs of all nodes", figures.cpus.1);
    gauge("mem_used_mebibytes", "Memory given to tasks", figures.mem.0);
    gauge("mem_mebibytes", "Memory of all nodes", figures.mem.1);
    let tasks = Family::<StateLabel, Gauge<u64, AtomicU64>>::default();
    for (state, value) in &figures.tasks {
        tasks
            .get_or_create(&StateLabel {
                state: (*state).to_owned(),
            })
            .set(*value);
    }
    registry.register("tasks", "Tasks by state", tasks);
    let mut out = String::new();
    encode(&mut out, &registry)?;
    Ok(out)
}

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Refusal> {
    let figures = app.handle.look(figures).await?;
    let body = text(&figures).map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response())
}
