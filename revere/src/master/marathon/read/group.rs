//! Reads a group's definition: apps, groups in it, and what it depends on.

use scheduler::{Fault, GroupSpec};
use serde_json::Value;

use super::field::{self, Fields, strings, text};

/// The definition as written, or every field whose JSON type is wrong. JSON itself bounds the depth.
pub(crate) fn spec(definition: &Value) -> Result<GroupSpec, Vec<Fault>> {
    let mut faults = Vec::new();
    let spec = group(definition, "", &mut faults);
    if faults.is_empty() { Ok(spec) } else { Err(faults) }
}

fn group(definition: &Value, path: &str, faults: &mut Vec<Fault>) -> GroupSpec {
    let Some(object) = definition.as_object() else {
        let here = if path.is_empty() { "/" } else { path };
        faults.push(Fault::new(here, "a group definition must be a JSON object"));
        return GroupSpec::default();
    };
    if object.get("pods").is_some_and(|pods| !field::is_empty(pods)) {
        let error = "pods are not carried out by this version of Revere; remove them";
        faults.push(Fault::new(format!("{path}/pods"), error));
    }
    if object.get("scaleBy").is_some_and(|value| !value.is_null()) {
        let error = "stands alone: write nothing else beside it";
        faults.push(Fault::new(format!("{path}/scaleBy"), error));
    }
    let mut fields = Fields::new(object, path, faults);
    let id = fields.take("id", "a string", text).unwrap_or_default();
    let dependencies = fields.take("dependencies", "a list of strings", strings);
    let apps = fields.take("apps", "a list of app definitions", |value| value.as_array().cloned());
    let groups = fields.take("groups", "a list of groups", |value| value.as_array().cloned());
    let apps = apps.map(|apps| {
        let mut specs = Vec::new();
        for (index, app) in apps.iter().enumerate() {
            match super::app(app) {
                Ok(spec) => specs.push(spec),
                Err(found) => faults.extend(found.into_iter().map(|fault| Fault {
                    path: format!("{path}/apps({index}){}", fault.path),
                    ..fault
                })),
            }
        }
        specs
    });
    let groups = groups.map(|groups| {
        let inner = groups.iter().enumerate();
        inner
            .map(|(index, inner)| group(inner, &format!("{path}/groups({index})"), faults))
            .collect()
    });
    GroupSpec {
        id,
        apps,
        groups,
        dependencies,
    }
}
