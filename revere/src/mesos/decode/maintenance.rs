//! Maintenance as operators write it.

use std::net::IpAddr;

use scheduler::{Machine, Unavailability, Window};
use serde_json::Value;

use super::{get, number, text};

/// `Schedule.windows`.
pub fn windows(schedule: &Value) -> Result<Vec<Window>, String> {
    if !schedule.is_object() {
        return Err(format!("the schedule is {schedule}: write an object with `windows`"));
    }
    match get(schedule, "windows") {
        None => Ok(Vec::new()),
        Some(Value::Array(windows)) => windows.iter().map(window).collect(),
        Some(other) => Err(format!("`windows` is {other}: write a list")),
    }
}

fn window(window: &Value) -> Result<Window, String> {
    let planned = get(window, "unavailability").ok_or("a window has no `unavailability`")?;
    let nanoseconds = |of: &Value, key: &str| {
        number(of, "nanoseconds")
            .ok_or_else(|| format!("`unavailability.{key}` has no whole number of `nanoseconds` from 0"))
    };
    let start = get(planned, "start").ok_or("`unavailability` has no `start`")?;
    let duration = get(planned, "duration");
    Ok(Window {
        machines: machines(get(window, "machine_ids").unwrap_or(&Value::Null))?,
        unavailability: Unavailability {
            start_ns: nanoseconds(start, "start")?,
            duration_ns: duration.map(|lasts| nanoseconds(lasts, "duration")).transpose()?,
        },
    })
}

/// A list of `MachineID`.
pub fn machines(list: &Value) -> Result<Vec<Machine>, String> {
    let list = list.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or("machines are to be named as a list of {\"hostname\": ..., \"ip\": ...}")?;
    list.iter().map(machine).collect()
}

fn machine(value: &Value) -> Result<Machine, String> {
    let machine = Machine {
        hostname: text(value, "hostname").unwrap_or_default().to_lowercase(),
        ip: text(value, "ip").unwrap_or_default().to_owned(),
    };
    if !machine.is_named() {
        return Err(format!("the machine {value} has neither a hostname nor an ip"));
    }
    if !machine.ip.is_empty() && machine.ip.parse::<IpAddr>().is_err() {
        return Err(format!("`{}` is no address of a machine", machine.ip));
    }
    Ok(machine)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schedules_are_read_and_what_is_wrong_is_named() {
        let schedule = json!({"windows": [{
            "machine_ids": [{"hostname": "Node-1", "ip": "10.0.0.1"}, {"hostname": "node-2"}],
            "unavailability": {"start": {"nanoseconds": 5}, "duration": {"nanoseconds": 7}},
        }]});
        let read = windows(&schedule).expect("right");
        assert_eq!(read[0].machines[0].hostname, "node-1");
        assert_eq!(read[0].unavailability.duration_ns, Some(7));
        assert_eq!(windows(&json!({})), Ok(Vec::new()));
        let with = |machine: Value, planned: Value| json!({"windows": [{"machine_ids": [machine], "unavailability": planned}]});
        let start = json!({"start": {"nanoseconds": 5}});
        for (wrong, words) in [
            (json!([]), "schedule"),
            (json!({"windows": {}}), "list"),
            (with(json!({}), start.clone()), "neither"),
            (with(json!({"ip": "10.0.0"}), start.clone()), "no address"),
            (with(json!({"ip": "10.0.0.1"}), json!({})), "start"),
            (
                with(json!({"ip": "10.0.0.1"}), json!({"start": {"nanoseconds": -1}})),
                "nanoseconds",
            ),
            (
                json!({"windows": [{"machine_ids": [], "unavailability": start}]}),
                "list",
            ),
        ] {
            let why = windows(&wrong).expect_err("wrong");
            assert!(why.contains(words), "{wrong}: {why}");
        }
    }
}
