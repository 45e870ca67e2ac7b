//! Writes health checks, readiness checks, the unreachable strategy, and what came of checks.

use model::{CheckResult, ReadinessResult, Scheme};
use scheduler::{
    App, AppHealthCheck, AppReadinessCheck, CheckPort, CheckTarget, InstanceRecord, IpFamily, Scheduler, Timestamp,
    UnreachableStrategy,
};
use serde_json::{Value, json};

use super::seconds;

/// Into the definition.
pub(super) fn definition(app: &App, out: &mut Value) {
    out["healthChecks"] = app.health_checks.iter().map(health_check).collect();
    out["readinessChecks"] = app.readiness_checks.iter().map(readiness_check).collect();
    out["unreachableStrategy"] = unreachable(app);
}

/// `unreachableStrategy`.
pub(super) fn unreachable(app: &App) -> Value {
    match app.unreachable {
        UnreachableStrategy::Disabled => json!("disabled"),
        UnreachableStrategy::Replace {
            inactive_after,
            expunge_after,
        } => json!({
            "inactiveAfterSeconds": seconds(inactive_after),
            "expungeAfterSeconds": seconds(expunge_after),
        }),
    }
}

fn health_check(check: &AppHealthCheck) -> Value {
    let mut out = json!({
        "gracePeriodSeconds": seconds(check.grace),
        "intervalSeconds": seconds(check.interval),
        "timeoutSeconds": seconds(check.timeout),
        "maxConsecutiveFailures": check.max_failures,
        "delaySeconds": seconds(check.delay),
    });
    match &check.target {
        CheckTarget::Command(text) => {
            out["protocol"] = json!("COMMAND");
            out["command"] = json!({"value": text});
        }
        CheckTarget::Network {
            protocol,
            port,
            path,
            family,
            ignore_1xx,
        } => {
            out["protocol"] = json!(protocol.as_str());
            match port {
                CheckPort::Index(index) => out["portIndex"] = json!(index),
                CheckPort::Number(number) => out["port"] = json!(number),
            }
            out["ipProtocol"] = match family {
                IpFamily::V4 => json!("IPv4"),
                IpFamily::V6 => json!("IPv6"),
            };
            if protocol.is_http() {
                out["path"] = json!(path);
                out["ignoreHttp1xx"] = json!(ignore_1xx);
            }
        }
    }
    out
}

fn readiness_check(check: &AppReadinessCheck) -> Value {
    json!({
        "name": check.name,
        "protocol": match check.scheme { Scheme::Http => "HTTP", Scheme::Https => "HTTPS" },
        "path": check.path,
        "portName": check.port_name,
        "intervalSeconds": seconds(check.interval),
        "timeoutSeconds": seconds(check.timeout),
        "httpStatusCodesForReady": check.ready_codes,
        "preserveLastResponse": check.keep_response,
    })
}

/// `healthCheckResults` of a task: one per check, once there is any.
pub(super) fn results(instance: &InstanceRecord) -> Vec<Value> {
    let time = |ms: u64| Timestamp(ms).to_string();
    let one = |result: &CheckResult| {
        json!({
            "alive": result.alive == Some(true),
            "consecutiveFailures": result.failures,
            "firstSuccess": result.first_success_ms.map(time),
            "lastSuccess": result.last_success_ms.map(time),
            "lastFailure": result.last_failure_ms.map(time),
            "lastFailureCause": result.cause,
            "instanceId": instance.id.to_string(),
        })
    };
    instance.status.checks.health.iter().map(one).collect()
}

/// (healthy, unhealthy) instances; both 0 for an app without health checks, as Marathon counted.
pub(super) fn counts<'a>(instances: impl Iterator<Item = &'a InstanceRecord>) -> (u32, u32) {
    let running = |one: &&InstanceRecord| one.status.state == model::TaskState::Running;
    let checked = |one: &&InstanceRecord| !one.spec.checks.health.is_empty();
    instances
        .filter(running)
        .filter(checked)
        .fold((0, 0), |(healthy, unhealthy), one| match one.status.healthy {
            Some(true) => (healthy + 1, unhealthy),
            Some(false) => (healthy, unhealthy + 1),
            None => (healthy, unhealthy),
        })
}

/// `readinessCheckResults` of an app.
pub(super) fn readiness(scheduler: &Scheduler, app: &App) -> Vec<Value> {
    let mut out = Vec::new();
    if app.readiness_checks.is_empty() {
        // Those of a definition that is no longer in force say nothing of this one.
        return out;
    }
    for instance in scheduler.instances_of(&app.id) {
        let checks = instance.spec.checks.readiness.iter();
        for (check, result) in checks.zip(&instance.status.checks.readiness) {
            out.push(readiness_result(instance, &check.name, result));
        }
    }
    out
}

fn readiness_result(instance: &InstanceRecord, name: &str, result: &ReadinessResult) -> Value {
    let mut out = json!({"name": name, "taskId": instance.spec.task.as_str(), "ready": result.ready});
    if let Some(response) = &result.response {
        out["lastResponse"] = json!({
            "status": response.status,
            "contentType": response.content_type,
            "body": response.body,
        });
    }
    out
}
