//! From an app's checks to those of one task: ports by number, addresses by protocol.

use std::time::Duration;

use model::{CheckAddress, Command, HealthCheck, Probe, ReadinessCheck, Scheme, TaskChecks};

use crate::{App, AppHealthCheck, AppReadinessCheck, CheckPort, CheckProtocol, CheckTarget, IpFamily};

use super::Assigned;

/// Marathon asked its own kinds of checks first after an interval, but not later than this.
const FIRST_WITHIN: Duration = Duration::from_secs(5);

/// The checks of a task with these ports. A check of a port that the app does not have was refused with its definition.
pub(super) fn of_task(app: &App, ports: &[Assigned<'_>]) -> TaskChecks {
    TaskChecks {
        health: app
            .health_checks
            .iter()
            .filter_map(|check| health(check, ports))
            .collect(),
        readiness: app
            .readiness_checks
            .iter()
            .filter_map(|check| readiness(check, ports))
            .collect(),
    }
}

fn health(check: &AppHealthCheck, ports: &[Assigned<'_>]) -> Option<HealthCheck> {
    let (probe, delay) = match &check.target {
        CheckTarget::Command(text) => (Probe::Command(Command::Shell(text.clone())), check.delay),
        CheckTarget::Network {
            protocol,
            port,
            path,
            family,
            ignore_1xx,
        } => {
            let at = match (protocol.is_mesos(), family) {
                (false, _) => CheckAddress::Task,
                (true, IpFamily::V4) => CheckAddress::LoopbackV4,
                (true, IpFamily::V6) => CheckAddress::LoopbackV6,
            };
            let port = match port {
                CheckPort::Number(number) => *number,
                CheckPort::Index(index) => ports.get(usize::try_from(*index).ok()?)?.inside,
            };
            let http = |scheme| Probe::Http {
                scheme,
                at,
                port,
                path: path.clone(),
                ignore_1xx: *ignore_1xx,
            };
            let probe = match protocol {
                CheckProtocol::Http | CheckProtocol::MesosHttp => http(Scheme::Http),
                CheckProtocol::Https | CheckProtocol::MesosHttps => http(Scheme::Https),
                CheckProtocol::Tcp | CheckProtocol::MesosTcp => Probe::Tcp { at, port },
            };
            let first = if protocol.is_mesos() {
                check.delay
            } else {
                check.interval.min(FIRST_WITHIN)
            };
            (probe, first)
        }
    };
    Some(HealthCheck {
        probe,
        delay,
        interval: check.interval,
        timeout: check.timeout,
        grace: check.grace,
        max_failures: check.max_failures,
    })
}

fn readiness(check: &AppReadinessCheck, ports: &[Assigned<'_>]) -> Option<ReadinessCheck> {
    let port = ports
        .iter()
        .find(|port| port.app.name.as_ref() == Some(&check.port_name))?;
    Some(ReadinessCheck {
        name: check.name.clone(),
        scheme: check.scheme,
        port: port.inside,
        path: check.path.clone(),
        interval: check.interval,
        timeout: check.timeout,
        ready_codes: check.ready_codes.clone(),
        keep_response: check.keep_response,
    })
}
