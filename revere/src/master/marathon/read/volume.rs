//! Reads persistent volumes, `residency` and `secrets`.

use scheduler::{AppSpec, Fault, PersistentSpec, ResidencySpec};
use serde_json::{Map, Value};

use super::container::inner;
use super::field::{self, Fields, is_empty, text};

type Object = Map<String, Value>;

/// `persistent` of a volume.
pub(super) fn persistent(volume: &Object, path: &str, faults: &mut Vec<Fault>) -> Option<PersistentSpec> {
    let persistent = inner(volume, path, "persistent", faults)?;
    let constrained = persistent.get("constraints").is_some_and(|value| !is_empty(value));
    let path = format!("{path}/persistent");
    let mut fields = Fields::new(persistent, &path, faults);
    Some(PersistentSpec {
        kind: fields.take("type", "a string", text),
        size: fields.take("size", "a whole number", Value::as_i64),
        max_size: fields.take("maxSize", "a whole number", Value::as_i64),
        constrained,
        profile: fields.take("profileName", "a string", text),
    })
}

pub(super) fn residency(spec: &mut AppSpec, object: &Object, faults: &mut Vec<Fault>) {
    let Some(residency) = inner(object, "", "residency", faults) else {
        return;
    };
    let mut fields = Fields::new(residency, "/residency", faults);
    let key = "relaunchEscalationTimeoutSeconds";
    let written = ResidencySpec {
        escalation_seconds: fields.take(key, "a whole number", Value::as_i64),
        lost_behavior: fields.take("taskLostBehavior", "a string", text),
    };
    // An empty object says nothing, as old clients write it.
    if !residency.is_empty() {
        spec.residency = Some(written);
    }
}

/// `{"NAME": {"source": "PATH"}}`.
pub(super) fn secrets(spec: &mut AppSpec, object: &Object, faults: &mut Vec<Fault>) {
    let Some(secrets) = inner(object, "", "secrets", faults) else {
        return;
    };
    for (name, secret) in secrets {
        let path = format!("/secrets({name})");
        let Value::Object(secret) = secret else {
            faults.push(field::wrong(&path, "an object with source", secret));
            continue;
        };
        let source = Fields::new(secret, &path, faults).take("source", "a string", text);
        spec.secrets.insert(name.clone(), source.unwrap_or_default());
    }
}
