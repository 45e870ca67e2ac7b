//! Quotas as operators write them: configurations of roles, and the older request with one list of resources.

use scheduler::{Amounts, Quota};
use serde_json::Value;

use super::order::whole;
use super::{double, flag, get, list, text};

/// Resources that a quota can be set for.
const KINDS: &str = "cpus, mem and disk";

/// `UpdateQuota.quota_configs`.
pub fn quota_configs(update: &Value) -> Result<Vec<Quota>, String> {
    let configs = get(update, "quota_configs").and_then(Value::as_array);
    let configs = configs.ok_or("Expecting 'update_quota.quota_configs' to be a list")?;
    configs.iter().map(config).collect()
}

fn config(config: &Value) -> Result<Quota, String> {
    let amounts = |key: &str| {
        let mut amounts = Amounts::default();
        match get(config, key) {
            None => {}
            Some(Value::Object(map)) => {
                for (name, scalar) in map.iter().filter(|(_, scalar)| !scalar.is_null()) {
                    put(&mut amounts, name, double(scalar, "value"))?;
                }
            }
            Some(other) => {
                return Err(format!(
                    "'{key}' is {other}: write an object, such as {{\"cpus\": {{\"value\": 1}}}}"
                ));
            }
        }
        Ok(amounts)
    };
    Ok(Quota {
        role: role(config)?,
        guarantees: amounts("guarantees")?,
        limits: amounts("limits")?,
    })
}

/// `QuotaRequest`, which has one list for both: what is guaranteed is the limit. And whether it is forced.
pub fn quota_request(request: &Value) -> Result<(bool, Quota), String> {
    let mut amounts = Amounts::default();
    for resource in list(request, "guarantee") {
        let name = text(resource, "name").unwrap_or_default();
        put(
            &mut amounts,
            name,
            get(resource, "scalar").and_then(|scalar| double(scalar, "value")),
        )?;
    }
    if amounts == Amounts::default() {
        return Err("Expecting 'guarantee' to name resources; DELETE removes a quota".to_owned());
    }
    let quota = Quota {
        role: role(request)?,
        guarantees: amounts,
        limits: amounts,
    };
    Ok((flag(request, "force").unwrap_or(false), quota))
}

fn role(value: &Value) -> Result<String, String> {
    let role = text(value, "role").filter(|role| super::is_role(role));
    role.map(str::to_owned)
        .ok_or_else(|| "Expecting 'role' to be the name of a role".to_owned())
}

fn put(amounts: &mut Amounts, name: &str, value: Option<f64>) -> Result<(), String> {
    let value = value.filter(|value| (0.0..=4e9).contains(value));
    let value = value.ok_or_else(|| format!("the amount of '{name}' is no number from 0"))?;
    match name {
        "cpus" => amounts.cpus_milli = Some(whole((value * 1_000.0).round())),
        "mem" => amounts.mem_mb = Some(whole(value.round())),
        "disk" => amounts.disk_mb = Some(whole(value.round())),
        other => {
            return Err(format!(
                "quota of '{other}' is not carried out by revere; of {KINDS} it is"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_are_read_and_what_is_wrong_is_named() {
        let update = json!({"force": true, "quota_configs": [
            {"role": "dev", "guarantees": {"cpus": {"value": 0.5}}, "limits": {"cpus": {"value": 1}, "mem": {"value": 64}}},
            {"role": "prod", "guarantees": null, "limits": {}},
        ]});
        let quotas = quota_configs(&update).expect("right");
        assert_eq!(quotas[0].guarantees.cpus_milli, Some(500));
        assert_eq!((quotas[0].limits.mem_mb, quotas[0].limits.disk_mb), (Some(64), None));
        assert!(quotas[1].is_empty());
        let request =
            json!({"role": "dev", "guarantee": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 512}}]});
        let (force, quota) = quota_request(&request).expect("right");
        assert_eq!(
            (force, quota.guarantees.mem_mb, quota.limits.mem_mb),
            (false, Some(512), Some(512))
        );
        for (config, words) in [
            (json!({"limits": {}}), "role"),
            (json!({"role": "-x"}), "role"),
            (json!({"role": "x", "limits": {"gpus": {"value": 1}}}), "'gpus'"),
            (json!({"role": "x", "limits": {"cpus": {"value": -1}}}), "'cpus'"),
            (json!({"role": "x", "limits": {"cpus": 1}}), "'cpus'"),
            (json!({"role": "x", "guarantees": [1]}), "'guarantees'"),
        ] {
            let why = quota_configs(&json!({"quota_configs": [config]})).expect_err("wrong");
            assert!(why.contains(words), "{why}");
        }
        assert!(quota_configs(&json!({})).is_err());
        assert!(quota_request(&json!({"role": "x", "guarantee": []})).is_err());
    }
}
