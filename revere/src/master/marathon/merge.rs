//! Marathon's partial update: fields written replace those that are there, whole; `null` and what only answers hold is
//! left out.

use serde_json::{Map, Value};

/// Fields that belong to another way of saying the same: writing the first drops the others, unless they are written too.
const REPLACES: [(&str, &[&str]); 5] = [
    ("cmd", &["args"]),
    ("args", &["cmd"]),
    ("ports", &["portDefinitions"]),
    ("portDefinitions", &["ports"]),
    ("networks", &["portDefinitions"]),
];

/// The definition `present` with the fields of `update` in it.
pub(crate) fn merge(present: Value, update: &Map<String, Value>) -> Value {
    let Value::Object(mut merged) = present else {
        return Value::Object(update.clone());
    };
    let written = |key: &str| update.get(key).is_some_and(|value| !value.is_null());
    for (key, others) in REPLACES {
        if written(key) && update.get(key) != merged.get(key) {
            for other in others.iter().filter(|other| !written(other)) {
                merged.remove(*other);
            }
        }
    }
    if written("networks") && update.get("networks") != merged.get("networks") && !written("container") {
        // Mappings belong to the network they were written for.
        if let Some(Value::Object(container)) = merged.get_mut("container") {
            container.remove("portMappings");
        }
    }
    for (key, value) in update {
        if !value.is_null() && key != "version" && key != "versionInfo" {
            merged.insert(key.clone(), value.clone());
        }
    }
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(present: Value, update: Value) -> Value {
        merge(present, update.as_object().expect("an object"))
    }

    #[test]
    fn written_fields_replace_and_nulls_do_not() {
        let present = json!({"id": "/a", "cmd": "x", "env": {"A": "1"}, "cpus": 1});
        assert_eq!(
            merged(present, json!({"env": {"B": "2"}, "cpus": null, "version": "v"})),
            json!({"id": "/a", "cmd": "x", "env": {"B": "2"}, "cpus": 1})
        );
    }

    #[test]
    fn another_way_of_saying_the_same_takes_the_old_ones_place() {
        let present = json!({"cmd": "x", "networks": [{"mode": "host"}], "portDefinitions": [{"port": 1}]});
        assert_eq!(
            merged(present.clone(), json!({"args": ["y"], "ports": [0]})),
            json!({"args": ["y"], "ports": [0], "networks": [{"mode": "host"}]})
        );
        assert_eq!(
            merged(present.clone(), json!({"networks": [{"mode": "container/bridge"}]})),
            json!({"cmd": "x", "networks": [{"mode": "container/bridge"}]})
        );
        assert_eq!(merged(present.clone(), present.clone()), present);
    }
}
