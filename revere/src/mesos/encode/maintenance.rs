//! Maintenance in Mesos' JSON.

use scheduler::{Machine, Maintenance, Unavailability};
use serde_json::{Map, Value, json};

fn machine(machine: &Machine) -> Value {
    let mut out = Map::new();
    for (key, part) in [("hostname", &machine.hostname), ("ip", &machine.ip)] {
        if !part.is_empty() {
            out.insert(key.to_owned(), json!(part));
        }
    }
    Value::Object(out)
}

/// `Unavailability`.
pub fn unavailability(planned: &Unavailability) -> Value {
    let mut out = json!({"start": {"nanoseconds": planned.start_ns}});
    if let Some(duration) = planned.duration_ns {
        out["duration"] = json!({"nanoseconds": duration});
    }
    out
}

/// `Schedule`.
pub fn schedule(maintenance: &Maintenance) -> Value {
    let windows = maintenance.windows.iter().map(|window| {
        let machines: Vec<Value> = window.machines.iter().map(machine).collect();
        json!({"machine_ids": machines, "unavailability": unavailability(&window.unavailability)})
    });
    super::lists(vec![("windows", windows.collect())])
}

/// `ClusterStatus`. Frameworks are sent no inverse offers, so that there are no answers of theirs to tell.
pub fn maintenance_status(maintenance: &Maintenance) -> Value {
    let planned = maintenance.machines().filter(|one| !maintenance.down.contains(one));
    super::lists(vec![
        (
            "draining_machines",
            planned.map(|one| json!({"id": machine(one)})).collect(),
        ),
        ("down_machines", maintenance.down.iter().map(machine).collect()),
    ])
}
