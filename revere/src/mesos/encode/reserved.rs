//! What is reserved on an agent for instances with volumes, as Mesos tells dynamic reservations.

use model::{FrameworkInfo, Resources};
use scheduler::Residence;
use serde_json::{Value, json};

use super::{id, mega, milli};

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
