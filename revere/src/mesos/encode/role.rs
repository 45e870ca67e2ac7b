//! Roles and their quotas, in the JSON of the operator API and of the older endpoints.

use model::Resources;
use scheduler::{Amounts, Quota, RoleView};
use serde_json::{Map, Value, json};

use super::{id, mega, milli, resources};

fn named(amounts: &Amounts) -> impl Iterator<Item = (&'static str, Value)> {
    let cpus = amounts.cpus_milli.map(|amount| ("cpus", milli(amount)));
    let mem = amounts.mem_mb.map(|amount| ("mem", mega(amount)));
    let disk = amounts.disk_mb.map(|amount| ("disk", mega(amount)));
    [cpus, mem, disk].into_iter().flatten()
}

fn scalars(amounts: &Amounts) -> Value {
    let all = named(amounts).map(|(name, amount)| (name.to_owned(), json!({"value": amount})));
    Value::Object(all.collect::<Map<_, _>>())
}

fn plain(amounts: &Amounts) -> Value {
    let all = named(amounts).map(|(name, amount)| (name.to_owned(), amount));
    Value::Object(all.collect::<Map<_, _>>())
}

fn amounts(resources: &Resources) -> Amounts {
    let some = |amount: u64| Some(amount).filter(|amount| *amount > 0);
    Amounts {
        cpus_milli: some(resources.cpus_milli),
        mem_mb: some(resources.mem_mb),
        disk_mb: some(resources.disk_mb),
    }
}

/// `QuotaInfo`: what is guaranteed, as a list.
pub fn quota_info(quota: &Quota) -> Value {
    let list: Vec<Value> = named(&quota.guarantees)
        .map(|(name, amount)| json!({"name": name, "type": "SCALAR", "scalar": {"value": amount}}))
        .collect();
    json!({"role": quota.role, "guarantee": list})
}

/// `QuotaConfig`.
fn config(quota: &Quota) -> Value {
    json!({"role": quota.role, "guarantees": scalars(&quota.guarantees), "limits": scalars(&quota.limits)})
}

/// `GetQuota`.
pub fn get_quota<'a>(quotas: impl Iterator<Item = &'a Quota>) -> Value {
    let (mut infos, mut configs) = (Vec::new(), Vec::new());
    for quota in quotas {
        infos.push(quota_info(quota));
        configs.push(config(quota));
    }
    json!({"status": super::lists(vec![("infos", infos), ("configs", configs)])})
}

/// `Role`.
pub fn role(role: &RoleView) -> Value {
    let used = role.allocated.plus(&role.offered);
    let mut out = json!({"name": role.name, "weight": role.weight, "resources": resources(&used, &[])});
    if !role.frameworks.is_empty() {
        out["frameworks"] = role.frameworks.iter().map(id).collect();
    }
    out
}

/// The same of `/roles`. Every number that is asked for is there, also of nothing.
pub fn legacy_role(role: &RoleView) -> Value {
    let all = |resources: &Resources| {
        json!({
            "cpus": milli(resources.cpus_milli), "disk": mega(resources.disk_mb), "gpus": 0.0, "mem": mega(resources.mem_mb),
        })
    };
    let quota = role.quota.clone().unwrap_or_default();
    json!({
        "name": role.name,
        "weight": role.weight,
        "frameworks": role.frameworks.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        "resources": all(&role.allocated.plus(&role.offered)),
        "allocated": all(&role.allocated),
        "offered": all(&role.offered),
        "reserved": all(&role.reserved),
        "quota": {
            "role": role.name,
            "guarantee": plain(&quota.guarantees),
            "limit": plain(&quota.limits),
            "consumed": plain(&amounts(&role.consumed)),
        },
    })
}
