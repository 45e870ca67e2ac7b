//! Health checks, readiness checks and the unreachable strategy as written: defaults and Marathon's rules.

use std::collections::BTreeSet;
use std::time::Duration;

use model::Scheme;

use crate::{
    AppHealthCheck, AppPort, AppReadinessCheck, AppSpec, CheckPort, CheckProtocol, CheckTarget, HealthCheckSpec,
    IpFamily, ReadinessCheckSpec, UnreachableSpec, UnreachableStrategy,
};

use super::Faults;

#[cfg(test)]
#[path = "health/tests.rs"]
mod tests;

/// Most health checks of one app: each runs on every instance, and nobody wrote more than a handful.
const MOST_CHECKS: usize = 16;

/// Longest time in seconds, a year: what is longer is a slip of the pen.
const MOST_SECONDS: i64 = 366 * 24 * 3600;

/// Longest path of an HTTP check; servers refuse longer ones.
const MOST_PATH: usize = 8192;

const PROTOCOLS: &str = "must be HTTP, HTTPS, TCP, COMMAND, MESOS_HTTP, MESOS_HTTPS or MESOS_TCP";

/// The app's health checks. `ports` are those that its definition comes to.
pub(super) fn health_checks(spec: &AppSpec, ports: &[AppPort], faults: &mut Faults) -> Vec<AppHealthCheck> {
    if spec.health_checks.len() > MOST_CHECKS {
        faults.add("/healthChecks", format!("must not hold more than {MOST_CHECKS} checks"));
        return Vec::new();
    }
    let checks: Vec<AppHealthCheck> = (0..)
        .zip(&spec.health_checks)
        .filter_map(|(index, check)| health_check(check, &format!("/healthChecks({index})"), ports, faults))
        .collect();
    let native = |check: &&AppHealthCheck| match &check.target {
        CheckTarget::Command(_) => true,
        CheckTarget::Network { protocol, .. } => protocol.is_mesos(),
    };
    if checks.iter().filter(native).count() > 1 {
        faults.add(
            "/healthChecks",
            "AppDefinition can contain at most one Mesos health check (COMMAND or MESOS_*)",
        );
    }
    checks
}

fn health_check(check: &HealthCheckSpec, path: &str, ports: &[AppPort], faults: &mut Faults) -> Option<AppHealthCheck> {
    let target = match check.protocol.as_deref().unwrap_or("HTTP") {
        "COMMAND" => command(check, path, faults),
        name => match CheckProtocol::parse(name) {
            Some(protocol) => network(check, protocol, path, ports, faults),
            None => {
                faults.add(format!("{path}/protocol"), format!("{PROTOCOLS}, not {name}"));
                None
            }
        },
    };
    let mut time = |key: &str, value: Option<i64>, default, least| {
        seconds(&format!("{path}/{key}"), value.unwrap_or(default), least, faults)
    };
    let grace = time("gracePeriodSeconds", check.grace_period_seconds, 300, 0);
    let interval = time("intervalSeconds", check.interval_seconds, 60, 1);
    let timeout = time("timeoutSeconds", check.timeout_seconds, 20, 1);
    let delay = time("delaySeconds", check.delay_seconds, 15, 0);
    let most = check.max_consecutive_failures.unwrap_or(3);
    let max_failures = u32::try_from(most);
    if max_failures.is_err() {
        let error = format!("must be a whole number from 0 (never) to {}, not {most}", u32::MAX);
        faults.add(format!("{path}/maxConsecutiveFailures"), error);
    }
    Some(AppHealthCheck {
        target: target?,
        grace: grace?,
        interval: interval?,
        timeout: timeout?,
        max_failures: max_failures.ok()?,
        delay: delay?,
    })
}

fn command(check: &HealthCheckSpec, path: &str, faults: &mut Faults) -> Option<CheckTarget> {
    for (key, written) in [
        ("path", check.path.is_some()),
        ("port", check.port.is_some()),
        ("portIndex", check.port_index.is_some()),
    ] {
        if written {
            faults.add(
                format!("{path}/{key}"),
                "a check of protocol COMMAND has none; remove it",
            );
        }
    }
    match &check.command {
        Some(text) if text.contains('\0') => {
            faults.add(format!("{path}/command/value"), super::NUL);
            None
        }
        Some(text) if !text.is_empty() => Some(CheckTarget::Command(text.clone())),
        _ => {
            let error = "a check of protocol COMMAND needs a command: write {\"value\": \"test -f ready\"}";
            faults.add(format!("{path}/command"), error);
            None
        }
    }
}

fn network(
    check: &HealthCheckSpec,
    protocol: CheckProtocol,
    path: &str,
    ports: &[AppPort],
    faults: &mut Faults,
) -> Option<CheckTarget> {
    if check.command.is_some() {
        let error = format!("a check of protocol {} has no command; remove it", protocol.as_str());
        faults.add(format!("{path}/command"), error);
    }
    let family = match check.ip_protocol.as_deref() {
        None | Some("IPv4") => IpFamily::V4,
        Some("IPv6") => {
            if !protocol.is_mesos() {
                let error = "IPv6 can only be used with MESOS_HTTP, MESOS_HTTPS or MESOS_TCP";
                faults.add(format!("{path}/ipProtocol"), error);
            }
            IpFamily::V6
        }
        Some(other) => {
            faults.add(
                format!("{path}/ipProtocol"),
                format!("must be IPv4 or IPv6, not {other}"),
            );
            IpFamily::V4
        }
    };
    let asked = if protocol.is_http() {
        url_path(&format!("{path}/path"), check.path.as_deref(), faults)
    } else {
        "/".to_owned()
    };
    Some(CheckTarget::Network {
        protocol,
        port: port(check, path, ports, faults)?,
        path: asked,
        family,
        ignore_1xx: check.ignore_http_1xx,
    })
}

/// Either the number itself, or the place of one of the app's ports; without both the app's only port.
fn port(check: &HealthCheckSpec, path: &str, ports: &[AppPort], faults: &mut Faults) -> Option<CheckPort> {
    match (check.port, check.port_index) {
        (Some(_), Some(_)) => {
            faults.add(path, "must name either a port or a portIndex, not both");
            None
        }
        (Some(number), None) => match u16::try_from(number) {
            Ok(number) if number > 0 => Some(CheckPort::Number(number)),
            _ => {
                let error = format!("must be a whole number from 1 to 65535, not {number}");
                faults.add(format!("{path}/port"), error);
                None
            }
        },
        (None, index) => {
            let index = match index {
                None if ports.len() == 1 => 0,
                None => {
                    let error = format!(
                        "must name a port or a portIndex: the app has {} ports, only with one it is meant by itself",
                        ports.len()
                    );
                    faults.add(path, error);
                    return None;
                }
                Some(index) => index,
            };
            let place = u32::try_from(index).ok();
            let exists = |place: &u32| usize::try_from(*place).is_ok_and(|place| place < ports.len());
            if place.as_ref().is_none_or(|place| !exists(place)) {
                let error = format!(
                    "Health check port indices must address an element of the ports array or container port mappings: \
                     there are {}, and {index} is none of them",
                    ports.len()
                );
                faults.add(path, error);
                return None;
            }
            place.map(CheckPort::Index)
        }
    }
}

/// A request line holds neither blanks nor control characters.
pub(super) fn url_path(path: &str, written: Option<&str>, faults: &mut Faults) -> String {
    let text = written.unwrap_or("/");
    let odd = |c: char| c.is_ascii_control() || c.is_whitespace() || !c.is_ascii();
    if text.contains(odd) || text.len() > MOST_PATH {
        let error = format!(
            "must be at most {MOST_PATH} ASCII characters without blanks; write others in percent form, as %20"
        );
        faults.add(path, error);
    }
    if text.starts_with('/') {
        text.to_owned()
    } else {
        format!("/{text}")
    }
}

pub(super) fn seconds(path: &str, value: i64, least: i64, faults: &mut Faults) -> Option<Duration> {
    if !(least..=MOST_SECONDS).contains(&value) {
        let error = format!("must be a whole number of seconds from {least} to {MOST_SECONDS}, not {value}");
        faults.add(path, error);
        return None;
    }
    u64::try_from(value).ok().map(Duration::from_secs)
}

/// The app's readiness checks, at most one.
pub(super) fn readiness_checks(spec: &AppSpec, ports: &[AppPort], faults: &mut Faults) -> Vec<AppReadinessCheck> {
    if spec.readiness_checks.len() > 1 {
        faults.add("/readinessChecks", "must not hold more than one check");
        return Vec::new();
    }
    (0..)
        .zip(&spec.readiness_checks)
        .filter_map(|(index, check)| readiness_check(check, &format!("/readinessChecks({index})"), ports, faults))
        .collect()
}

fn readiness_check(
    check: &ReadinessCheckSpec,
    path: &str,
    ports: &[AppPort],
    faults: &mut Faults,
) -> Option<AppReadinessCheck> {
    let scheme = match check.protocol.as_deref() {
        None | Some("HTTP") => Scheme::Http,
        Some("HTTPS") => Scheme::Https,
        Some(other) => {
            faults.add(
                format!("{path}/protocol"),
                format!("must be HTTP or HTTPS, not {other}"),
            );
            Scheme::Http
        }
    };
    let port_name = check.port_name.clone().unwrap_or_else(|| "http-api".to_owned());
    if !ports.iter().any(|port| port.name.as_ref() == Some(&port_name)) {
        let error = format!("must be the name of one of the app's ports; none is called {port_name}");
        faults.add(format!("{path}/portName"), error);
    }
    let name = check.name.clone().unwrap_or_else(|| "readinessCheck".to_owned());
    if name.is_empty() {
        faults.add(format!("{path}/name"), "must not be empty");
    }
    let asked = url_path(&format!("{path}/path"), check.path.as_deref(), faults);
    let interval = check.interval_seconds.unwrap_or(30);
    let timeout = check.timeout_seconds.unwrap_or(10);
    if timeout >= interval {
        let error = format!("must be shorter than intervalSeconds, which is {interval}, not {timeout}");
        faults.add(format!("{path}/timeoutSeconds"), error);
    }
    let interval = seconds(&format!("{path}/intervalSeconds"), interval, 1, faults);
    let timeout = seconds(&format!("{path}/timeoutSeconds"), timeout, 1, faults);
    Some(AppReadinessCheck {
        name,
        scheme,
        path: asked,
        port_name,
        interval: interval?,
        timeout: timeout?,
        ready_codes: ready_codes(check, path, faults),
        keep_response: check.preserve_last_response,
    })
}

fn ready_codes(check: &ReadinessCheckSpec, path: &str, faults: &mut Faults) -> BTreeSet<u16> {
    let written = check.ready_codes.clone().unwrap_or_else(|| vec![200]);
    let code = |code: &i64| u16::try_from(*code).ok().filter(|code| (100..1_000).contains(code));
    let codes: BTreeSet<u16> = written.iter().filter_map(code).collect();
    if codes.is_empty() || written.iter().any(|written| code(written).is_none()) {
        let error = "must hold at least one HTTP status code, each from 100 to 999";
        faults.add(format!("{path}/httpStatusCodesForReady"), error);
    }
    codes
}

/// What becomes of instances on a lost agent.
pub(super) fn unreachable_strategy(spec: &AppSpec, faults: &mut Faults) -> UnreachableStrategy {
    let (inactive, expunge) = match spec.unreachable_strategy {
        _ if super::volume::waits(spec, faults) => return UnreachableStrategy::Disabled,
        None => return UnreachableStrategy::default(),
        Some(UnreachableSpec::Disabled) => return UnreachableStrategy::Disabled,
        Some(UnreachableSpec::After { inactive, expunge }) => (inactive, expunge),
    };
    let mut time = |key: &str, value| seconds(&format!("/unreachableStrategy/{key}"), value, 0, faults);
    let inactive_after = time("inactiveAfterSeconds", inactive);
    let expunge_after = time("expungeAfterSeconds", expunge);
    if inactive > expunge {
        let error = format!("must not be longer than expungeAfterSeconds, which is {expunge}, but is {inactive}");
        faults.add("/unreachableStrategy/inactiveAfterSeconds", error);
    }
    UnreachableStrategy::Replace {
        inactive_after: inactive_after.unwrap_or_default(),
        expunge_after: expunge_after.unwrap_or_default(),
    }
}
