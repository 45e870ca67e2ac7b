//! Reserved resources and volumes, as frameworks and operators write them: with `reservations`, or in the older form with
//! `role` and `reservation`.

use std::collections::BTreeMap;

use model::Resources;
use scheduler::{Claim, HoldingChange, NewVolume, Reservation};
use serde_json::Value;

use super::order::whole;
use super::{double, get, list, text};

/// The dynamic reservation of a resource, if it has one.
fn reservation(resource: &Value) -> Result<Option<Reservation>, String> {
    let mut dynamic = list(resource, "reservations").filter(|one| text(one, "type") != Some("STATIC"));
    let named = match (dynamic.next(), dynamic.next()) {
        (_, Some(_)) => return Err("reservations within reservations are not carried out by revere".to_owned()),
        (Some(one), None) => Some((text(one, "role"), one)),
        (None, None) => get(resource, "reservation").map(|one| (text(resource, "role"), one)),
    };
    let Some((role, said)) = named else { return Ok(None) };
    let role = role.filter(|role| super::is_role(role) && *role != "*");
    let label = |one: &Value| {
        let value = text(one, "value").unwrap_or_default();
        Some((text(one, "key")?.to_owned(), value.to_owned()))
    };
    Ok(Some(Reservation {
        role: role.ok_or("a reservation names no role")?.to_owned(),
        principal: text(said, "principal").map(str::to_owned),
        labels: get(said, "labels")
            .map(|labels| list(labels, "labels").filter_map(label).collect())
            .unwrap_or_default(),
    }))
}

/// A scalar as whole units: thousandths of a cpu, mebibytes.
pub(super) fn scalar(resource: &Value) -> Result<Resources, String> {
    let name = text(resource, "name").unwrap_or_default();
    let value = get(resource, "scalar").and_then(|scalar| double(scalar, "value"));
    let value = value.filter(|value| (0.0..=4e9).contains(value));
    let value = value.ok_or_else(|| format!("the resource `{name}` is no number from 0"))?;
    let mut sum = Resources::default();
    match name {
        "cpus" => sum.cpus_milli = whole((value * 1_000.0).round()),
        "mem" => sum.mem_mb = whole(value.ceil()),
        "disk" => sum.disk_mb = whole(value.ceil()),
        "ports" => return Err("ports cannot be reserved with revere; cpus, mem and disk can".to_owned()),
        other => return Err(format!("the resource `{other}` is none that revere offers")),
    }
    Ok(sum)
}

/// `disk.persistence.id` of a volume.
fn volume_id(resource: &Value) -> Option<&str> {
    let persistence = get(get(resource, "disk")?, "persistence")?;
    text(persistence, "id")
}

/// What of a list comes from reservations, gathered by reservation.
pub(super) fn claims<'a>(resources: impl Iterator<Item = &'a Value>) -> Result<Vec<Claim>, String> {
    let mut all: BTreeMap<Reservation, Claim> = BTreeMap::new();
    for resource in resources {
        let reserved = reservation(resource)?;
        let Some(by) = reserved else {
            if volume_id(resource).is_some() {
                return Err("a volume is on reserved disk: name its reservation".to_owned());
            }
            continue;
        };
        let amount = scalar(resource)?;
        let claim = all
            .entry(by.clone())
            .or_insert_with(|| Claim { by, ..Claim::default() });
        match volume_id(resource) {
            Some(id) => claim.volumes.push((id.to_owned(), amount.disk_mb)),
            None => claim.resources = claim.resources.plus(&amount),
        }
    }
    Ok(all.into_values().collect())
}

fn all_reserved(resources: &[Value]) -> Result<Vec<Claim>, String> {
    let reserved = claims(resources.iter())?;
    let loose = resources.iter().any(|one| matches!(reservation(one), Ok(None)));
    if reserved.is_empty() || loose {
        return Err("every resource named is to have a dynamic reservation".to_owned());
    }
    Ok(reserved)
}

fn volumes(resources: &[Value]) -> Result<Vec<(Reservation, &Value, &str)>, String> {
    let volume = |resource| {
        let by = reservation(resource)?.ok_or("a volume is on reserved disk: name its reservation")?;
        let id = volume_id(resource).ok_or("a volume has no disk.persistence.id")?;
        Ok((by, resource, id))
    };
    let all: Vec<_> = resources.iter().map(volume).collect::<Result<_, String>>()?;
    if all.is_empty() {
        return Err("no volumes are named".to_owned());
    }
    Ok(all)
}

fn new_volume((by, resource, id): (Reservation, &Value, &str)) -> Result<NewVolume, String> {
    let none = Value::Null;
    let disk = get(resource, "disk").unwrap_or(&none);
    if get(disk, "source").is_some() {
        return Err("volumes on disks of their own (`disk.source`) are not carried out by revere".to_owned());
    }
    let volume = get(disk, "volume").unwrap_or(&none);
    if text(volume, "mode") == Some("RO") {
        return Err("a new volume cannot be read-only".to_owned());
    }
    if text(resource, "name") != Some("disk") {
        return Err("a volume is of the resource `disk`".to_owned());
    }
    Ok(NewVolume {
        by,
        id: id.to_owned(),
        principal: get(disk, "persistence")
            .and_then(|one| text(one, "principal"))
            .map(str::to_owned),
        container_path: text(volume, "container_path").unwrap_or_default().to_owned(),
        size_mb: scalar(resource)?.disk_mb,
    })
}

/// A change of what is kept, by the name of its operation, with its resources or volumes.
pub fn holding_change(kind: &str, resources: &[Value]) -> Result<HoldingChange, String> {
    Ok(match kind {
        "RESERVE" => HoldingChange::Reserve(all_reserved(resources)?),
        "UNRESERVE" => HoldingChange::Unreserve(all_reserved(resources)?),
        "CREATE" => HoldingChange::Create(
            volumes(resources)?
                .into_iter()
                .map(new_volume)
                .collect::<Result<_, _>>()?,
        ),
        "DESTROY" => {
            let named = volumes(resources)?.into_iter();
            HoldingChange::Destroy(named.map(|(by, _, id)| (by, id.to_owned())).collect())
        }
        other => return Err(format!("{other} is not carried out by revere")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn disk(reservation: Value, value: u32) -> Value {
        json!({"name": "disk", "type": "SCALAR", "scalar": {"value": value}, "reservations": [reservation]})
    }

    #[test]
    fn both_forms_of_reservations_are_read() {
        let new = json!({"type": "DYNAMIC", "role": "db", "principal": "p", "labels": {"labels": [{"key": "k", "value": "v"}]}});
        let old = json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}, "role": "db", "reservation": {"principal": "p"}});
        let change = holding_change("RESERVE", &[disk(new.clone(), 64), old]).expect("right");
        let HoldingChange::Reserve(claims) = change else {
            panic!("{change:?}")
        };
        assert_eq!(
            (claims[0].resources.cpus_milli, claims[0].by.role.as_str()),
            (500, "db")
        );
        assert_eq!((claims[1].resources.disk_mb, claims[1].by.labels.len()), (64, 1));
        let mut volume = disk(new, 10);
        volume["disk"] =
            json!({"persistence": {"id": "v1", "principal": "p"}, "volume": {"container_path": "data", "mode": "RW"}});
        let change = holding_change("CREATE", std::slice::from_ref(&volume)).expect("right");
        let HoldingChange::Create(made) = change else {
            panic!("{change:?}")
        };
        assert_eq!((made[0].size_mb, made[0].container_path.as_str()), (10, "data"));
        let change = holding_change("DESTROY", &[volume]).expect("right");
        assert!(matches!(change, HoldingChange::Destroy(named) if named[0].1 == "v1"));
    }

    #[test]
    fn what_cannot_be_reserved_is_named() {
        let by = json!({"type": "DYNAMIC", "role": "db"});
        let ports = json!({"name": "ports", "type": "RANGES", "ranges": {}, "reservations": [by]});
        let loose = json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}});
        let star = disk(json!({"type": "DYNAMIC", "role": "*"}), 1);
        let twice = json!({"name": "disk", "scalar": {"value": 1}, "reservations": [by, by]});
        for (kind, resource, words) in [
            ("RESERVE", ports, "ports"),
            ("RESERVE", loose, "every resource"),
            ("RESERVE", star, "no role"),
            ("UNRESERVE", twice, "within"),
            ("CREATE", disk(by.clone(), 1), "persistence"),
            ("GROW_VOLUME", disk(by, 1), "GROW_VOLUME"),
        ] {
            let why = holding_change(kind, &[resource]).expect_err("wrong");
            assert!(why.contains(words), "{kind}: {why}");
        }
        assert!(holding_change("RESERVE", &[]).is_err());
    }
}
