//! Reads health checks, readiness checks and the unreachable strategy.

use scheduler::{AppSpec, Fault, HealthCheckSpec, ReadinessCheckSpec, UnreachableSpec};
use serde_json::{Map, Value};

use super::field::{self, Fields, text};

/// All three into the definition; wrong JSON types become faults.
pub(super) fn read(spec: &mut AppSpec, object: &Map<String, Value>, faults: &mut Vec<Fault>) {
    for (path, check) in field::objects(object, "", "healthChecks", faults).unwrap_or_default() {
        spec.health_checks.push(health_check(check, &path, faults));
    }
    for (path, check) in field::objects(object, "", "readinessChecks", faults).unwrap_or_default() {
        spec.readiness_checks.push(readiness_check(check, &path, faults));
    }
    spec.unreachable_strategy = unreachable_strategy(object, "", faults);
}

fn health_check(check: &Map<String, Value>, path: &str, faults: &mut Vec<Fault>) -> HealthCheckSpec {
    let command = command(check, path, faults);
    let mut fields = Fields::new(check, path, faults);
    let mut whole = |key| fields.take(key, "a whole number", Value::as_i64);
    HealthCheckSpec {
        grace_period_seconds: whole("gracePeriodSeconds"),
        interval_seconds: whole("intervalSeconds"),
        timeout_seconds: whole("timeoutSeconds"),
        max_consecutive_failures: whole("maxConsecutiveFailures"),
        delay_seconds: whole("delaySeconds"),
        port: whole("port"),
        port_index: whole("portIndex"),
        protocol: fields.take("protocol", "a string", text),
        path: fields.take("path", "a string", text),
        ip_protocol: fields.take("ipProtocol", "a string", text),
        ignore_http_1xx: fields
            .take("ignoreHttp1xx", "a boolean", Value::as_bool)
            .unwrap_or_default(),
        command,
    }
}

fn command(check: &Map<String, Value>, path: &str, faults: &mut Vec<Fault>) -> Option<String> {
    match check.get("command") {
        None | Some(Value::Null) => None,
        Some(Value::Object(command)) => {
            Fields::new(command, &format!("{path}/command"), faults).take("value", "a string", text)
        }
        Some(other) => {
            faults.push(field::wrong(
                &format!("{path}/command"),
                "an object with a value",
                other,
            ));
            None
        }
    }
}

fn readiness_check(check: &Map<String, Value>, path: &str, faults: &mut Vec<Fault>) -> ReadinessCheckSpec {
    let codes = |value: &Value| value.as_array()?.iter().map(Value::as_i64).collect();
    let mut fields = Fields::new(check, path, faults);
    ReadinessCheckSpec {
        name: fields.take("name", "a string", text),
        protocol: fields.take("protocol", "a string", text),
        path: fields.take("path", "a string", text),
        port_name: fields.take("portName", "a string", text),
        interval_seconds: fields.take("intervalSeconds", "a whole number", Value::as_i64),
        timeout_seconds: fields.take("timeoutSeconds", "a whole number", Value::as_i64),
        ready_codes: fields.take("httpStatusCodesForReady", "a list of whole numbers", codes),
        preserve_last_response: fields
            .take("preserveLastResponse", "a boolean", Value::as_bool)
            .unwrap_or_default(),
    }
}

pub(super) fn unreachable_strategy(
    object: &Map<String, Value>,
    path: &str,
    faults: &mut Vec<Fault>,
) -> Option<UnreachableSpec> {
    let path = format!("{path}/unreachableStrategy");
    match object.get("unreachableStrategy")? {
        Value::Null => None,
        Value::String(text) if text == "disabled" => Some(UnreachableSpec::Disabled),
        Value::Object(strategy) => {
            let mut fields = Fields::new(strategy, &path, faults);
            let mut whole = |key| fields.take(key, "a whole number", Value::as_i64).unwrap_or(0);
            Some(UnreachableSpec::After {
                inactive: whole("inactiveAfterSeconds"),
                expunge: whole("expungeAfterSeconds"),
            })
        }
        other => {
            let wanted = "an object with inactiveAfterSeconds and expungeAfterSeconds, or the string \"disabled\"";
            faults.push(field::wrong(&path, wanted, other));
            None
        }
    }
}
