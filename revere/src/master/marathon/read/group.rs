//! Reads a group's definition: apps, pods and groups in it, and what it depends on.

use scheduler::{AppSpec, Fault, GroupSpec};
use serde_json::Value;

use super::field::{Fields, strings, text};

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
    if object.get("scaleBy").is_some_and(|value| !value.is_null()) {
        let error = "stands alone: write nothing else beside it";
        faults.push(Fault::new(format!("{path}/scaleBy"), error));
    }
    let mut fields = Fields::new(object, path, faults);
    let id = fields.take("id", "a string", text).unwrap_or_default();
    let dependencies = fields.take("dependencies", "a list of strings", strings);
    let apps = fields.take("apps", "a list of app definitions", |value| value.as_array().cloned());
    let groups = fields.take("groups", "a list of groups", |value| value.as_array().cloned());
    let pods = fields.take("pods", "a list of pod definitions", |value| value.as_array().cloned());
    let apps = apps.map(|apps| members(&apps, &format!("{path}/apps"), super::app, faults));
    let pods = pods.map(|pods| members(&pods, &format!("{path}/pods"), super::pod::pod, faults));
    let groups = groups.map(|groups| {
        let inner = groups.iter().enumerate();
        inner
            .map(|(index, inner)| group(inner, &format!("{path}/groups({index})"), faults))
            .collect()
    });
    GroupSpec {
        id,
        apps,
        pods,
        groups,
        dependencies,
    }
}

/// Each definition of a list, as its reader reads it.
fn members(
    definitions: &[Value],
    path: &str,
    read: fn(&Value) -> Result<AppSpec, Vec<Fault>>,
    faults: &mut Vec<Fault>,
) -> Vec<AppSpec> {
    let mut specs = Vec::new();
    for (index, definition) in definitions.iter().enumerate() {
        match read(definition) {
            Ok(spec) => specs.push(spec),
            Err(found) => faults.extend(found.into_iter().map(|fault| Fault {
                path: format!("{path}({index}){}", fault.path),
                ..fault
            })),
        }
    }
    specs
}
