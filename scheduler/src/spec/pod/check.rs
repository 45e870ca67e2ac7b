//! The health check of a pod's container.

use std::time::Duration;

use model::Scheme;

use crate::{AppPort, PodCheck, PodCheckSpec, PodCheckTarget};

use super::super::{Faults, NUL, health};

const BASE: &str = "/healthCheck";

/// The check with its defaults; it asks one of the container's own endpoints, or a command.
pub(super) fn check(written: &PodCheckSpec, endpoints: &[AppPort], faults: &mut Faults) -> Option<PodCheck> {
    let target = target(written, endpoints, faults);
    let mut seconds = |field: &str, value: Option<i64>, default: i64, least: i64| {
        health::seconds(&format!("{BASE}/{field}"), value.unwrap_or(default), least, faults).unwrap_or_default()
    };
    let interval = seconds("intervalSeconds", written.interval_seconds, 60, 1);
    let timeout = seconds("timeoutSeconds", written.timeout_seconds, 20, 1);
    let delay = seconds("delaySeconds", written.delay_seconds, 15, 0);
    let grace = written.grace_seconds.unwrap_or(300.0);
    let grace = super::super::duration(&format!("{BASE}/gracePeriodSeconds"), grace, faults);
    let failures = written.max_failures.unwrap_or(3);
    let max_failures = u32::try_from(failures).ok();
    if max_failures.is_none() {
        let error = format!("must be a whole number from 0 to {}, not {failures}", u32::MAX);
        faults.add(format!("{BASE}/maxConsecutiveFailures"), error);
    }
    Some(PodCheck {
        target: target?,
        grace: grace.unwrap_or(Duration::ZERO),
        interval,
        timeout,
        delay,
        max_failures: max_failures?,
    })
}

fn target(written: &PodCheckSpec, endpoints: &[AppPort], faults: &mut Faults) -> Option<PodCheckTarget> {
    let mut index = |kind: &str, name: &str| {
        let found = endpoints
            .iter()
            .position(|endpoint| endpoint.name.as_deref() == Some(name));
        let index = found.and_then(|index| u32::try_from(index).ok());
        if index.is_none() {
            let error = format!("this container has no endpoint {name}");
            faults.add(format!("{BASE}/{kind}/endpoint"), error);
        }
        index
    };
    match (&written.http, &written.tcp, &written.exec) {
        (Some((name, path, scheme)), None, None) => {
            let endpoint = index("http", name)?;
            let path = health::url_path(&format!("{BASE}/http/path"), path.as_deref(), faults);
            let scheme = match scheme.as_deref() {
                None | Some("HTTP") => Scheme::Http,
                Some("HTTPS") => Scheme::Https,
                Some(other) => {
                    faults.add(
                        format!("{BASE}/http/scheme"),
                        format!("must be HTTP or HTTPS, not {other}"),
                    );
                    return None;
                }
            };
            Some(PodCheckTarget::Http { endpoint, path, scheme })
        }
        (None, Some(name), None) => {
            let endpoint = index("tcp", name)?;
            Some(PodCheckTarget::Tcp { endpoint })
        }
        (None, None, Some(command)) => {
            let words: Vec<&String> = match command {
                model::Command::Shell(text) => vec![text],
                model::Command::Argv(argv) => argv.iter().collect(),
            };
            let path = format!("{BASE}/exec/command");
            if words.first().is_none_or(|first| first.is_empty()) {
                faults.add(
                    path.clone(),
                    "must hold one of shell and argv, and something to run in it",
                );
            }
            if words.iter().any(|word| word.contains('\0')) {
                faults.add(path, NUL);
            }
            Some(PodCheckTarget::Exec(command.clone()))
        }
        _ => {
            faults.add(BASE, "must hold exactly one of http, tcp and exec");
            None
        }
    }
}
