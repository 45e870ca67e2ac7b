//! What is reserved on an agent for instances with volumes, as Mesos tells dynamic reservations.

use model::{FrameworkInfo, Resources};
use scheduler::{Holding, Residence};
use serde_json::{Value, json};

use super::{id, labels, mega, milli};

/// Who reserves; DC/OS's Marathon goes by this name.
const PRINCIPAL: &str = "dcos_marathon";

/// The reserved resources of an agent, and their sum.
pub fn reserved<'a>(
    framework: &FrameworkInfo,
    residences: impl Iterator<Item = &'a Residence>,
) -> (Vec<Value>, Resources) {
    let (mut all, mut sum) = (Vec::new(), Resources::default());
    for residence in residences {
        let label = |key: &str, value: &str| json!({"key": key, "value": value});
        let reservation = json!([{
            "type": "DYNAMIC",
            "role": framework.name,
            "principal": PRINCIPAL,
            "labels": {"labels": [
                label("marathon_framework_id", id(&framework.id)["value"].as_str().unwrap_or_default()),
                label("marathon_task_id", residence.id.0.as_str()),
            ]},
        }]);
        let scalar = |name: &str, value: Value| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}, "reservations": reservation});
        let Resources {
            cpus_milli,
            mem_mb,
            disk_mb,
        } = residence.resources;
        all.push(scalar("cpus", milli(cpus_milli)));
        all.push(scalar("mem", mega(mem_mb)));
        if disk_mb > 0 {
            all.push(scalar("disk", mega(disk_mb)));
        }
        for volume in &residence.volumes {
            let mut disk = scalar("disk", mega(volume.size_mb));
            disk["disk"] = json!({
                "persistence": {"id": residence.persistence_id(volume), "principal": PRINCIPAL},
                "volume": {"container_path": volume.container_path, "mode": "RW"},
            });
            all.push(disk);
        }
        sum = sum.plus(&residence.resources).plus(&residence.disk());
    }
    (all, sum)
}

/// The resources of a role's reservation, its volumes among them. Both forms in one: frameworks read `reservations` or,
/// those of before Mesos 1.4, `role` and `reservation`.
pub fn held(holding: &Holding) -> Vec<Value> {
    let by = &holding.by;
    let mut said = json!({});
    if let Some(principal) = &by.principal {
        said["principal"] = json!(principal);
    }
    if let Some(labels) = labels(by.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))) {
        said["labels"] = labels;
    }
    let mut whole = said.clone();
    whole["type"] = json!("DYNAMIC");
    whole["role"] = json!(by.role);
    let scalar = |name: &str, value: Value| {
        json!({
            "name": name, "type": "SCALAR", "scalar": {"value": value},
            "reservations": [whole], "role": by.role, "reservation": said,
        })
    };
    let mut all = Vec::new();
    let sums = [
        (
            "cpus",
            holding.resources.cpus_milli,
            milli(holding.resources.cpus_milli),
        ),
        ("mem", holding.resources.mem_mb, mega(holding.resources.mem_mb)),
        ("disk", holding.resources.disk_mb, mega(holding.resources.disk_mb)),
    ];
    for (name, amount, value) in sums {
        if amount > 0 {
            all.push(scalar(name, value));
        }
    }
    for volume in holding.volumes.iter().filter(|volume| !volume.leaving) {
        let mut disk = scalar("disk", mega(volume.size_mb));
        let mut persistence = json!({"id": volume.id});
        if let Some(principal) = &volume.principal {
            persistence["principal"] = json!(principal);
        }
        disk["disk"] = json!({
            "persistence": persistence,
            "volume": {"container_path": volume.container_path, "mode": "RW"},
        });
        all.push(disk);
    }
    all
}
