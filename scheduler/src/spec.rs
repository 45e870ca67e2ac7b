//! From what a user wrote to a checked app: defaults, rules, and every fault at once.

use std::time::Duration;

use model::{Command, Resources};

use crate::core::{deadline, shares};
use crate::{App, AppId, AppSpec, Backoff, Fault, ServicePorts, Timestamp, UpgradeStrategy};

pub(crate) mod constraint;
mod container;
mod health;
mod id;
mod pod;
mod port;
pub(crate) mod secret;
mod volume;

pub(crate) use id::resolve;

#[cfg(test)]
#[path = "spec/tests.rs"]
mod tests;

/// Smallest cpus and mem that Marathon takes.
const LEAST: f64 = 0.001;

/// More CPUs than any machine has; their thousandths fit 32 bits.
const MOST_CPUS: f64 = 1e6;

/// More MiB than any machine has.
const MOST_MB: f64 = 1e12;

/// Gathers faults while the rules go on.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: impl Into<String>, error: impl Into<String>) {
        let (path, error) = (path.into(), error.into());
        match self.0.iter_mut().find(|fault| fault.path == path) {
            Some(fault) => fault.errors.push(error),
            None => self.0.push(Fault::new(path, error)),
        }
    }
}

impl App {
    /// Checks a definition and fills in the defaults, or tells everything that is wrong with it. `framework` ends VIP
    /// names; `default_network` is meant by a `container` network without a name; `service_ports` gives numbers where
    /// the user wrote 0 (those given stay taken in it, even if the definition is then refused).
    pub fn from_spec(
        now: Timestamp,
        spec: &AppSpec,
        framework: &str,
        default_network: &str,
        service_ports: &mut ServicePorts,
    ) -> Result<Self, Vec<Fault>> {
        if let Some(pod) = &spec.pod {
            return pod::from_spec(now, spec, pod, framework, default_network);
        }
        let mut faults = Faults::default();
        refuse(spec, &mut faults);
        let id = AppId::parse(&spec.id).map_err(|errors| errors.into_iter().for_each(|e| faults.add("/id", e)));
        let command = command(spec, &mut faults);
        environment(spec, &mut faults);
        let user = user(spec, &mut faults);
        let container = container::container(spec, &mut faults);
        let residency = volume::residency(spec, &mut faults);
        let fetch = container::fetch(spec, &mut faults);
        let resources = resources(spec, &mut faults);
        let instances = instance_count(spec.instances.unwrap_or(1)).map_err(|fault| faults.0.push(fault));
        let network = port::network(spec, default_network, &mut faults);
        let ports = port::ports(spec, &network, framework, service_ports, &mut faults);
        let constraints = constraint::check(&spec.constraints, &mut faults);
        let accepted_roles = accepted_roles(spec, &mut faults);
        let within = id.as_ref().map_or("/", AppId::as_str);
        let dependencies = dependencies(spec, within, &mut faults);
        let backoff = backoff(spec, &mut faults);
        let kill_grace = spec
            .task_kill_grace_period_seconds
            .and_then(|seconds| duration("/taskKillGracePeriodSeconds", seconds, &mut faults));
        let kill_youngest_first = kill_youngest_first(spec, &mut faults);
        let upgrade_strategy = upgrade_strategy(spec, &mut faults);
        let health_checks = health::health_checks(spec, &ports, &mut faults);
        let readiness_checks = health::readiness_checks(spec, &ports, &mut faults);
        let unreachable = health::unreachable_strategy(spec, &mut faults);
        let (Ok(id), Some(command), Ok(instances)) = (id, command, instances) else {
            return Err(faults.0);
        };
        if !faults.0.is_empty() {
            return Err(faults.0);
        }
        Ok(Self {
            id,
            command,
            resources,
            instances,
            env: spec.env.clone(),
            labels: spec.labels.clone(),
            user,
            container,
            fetch,
            network,
            ports,
            require_ports: spec.require_ports,
            constraints,
            dependencies,
            accepted_roles,
            backoff,
            kill_grace,
            kill_youngest_first,
            upgrade_strategy,
            health_checks,
            readiness_checks,
            unreachable,
            residency,
            pod: None,
            version: now,
            last_config_change: now,
        })
    }
}

/// What is not carried out, and labels of our own that say nothing.
fn refuse(spec: &AppSpec, faults: &mut Faults) {
    if let Some(Err(error)) = deadline::of_labels(&spec.labels) {
        faults.add(format!("/labels/{}", deadline::DEADLINE_LABEL), error);
    }
    if let Some(Err((label, error))) = shares::Shares::of_labels(&spec.labels) {
        faults.add(format!("/labels/{label}"), error);
    }
    for field in &spec.unsupported {
        let name = field.trim_start_matches('/');
        let path = format!("/{name}");
        faults.add(
            path,
            format!("{name} is not carried out by this version of Revere; remove it"),
        );
    }
}

/// Absolute ids; relative ones are followed from the app's own id, as Marathon does: `../db` is its neighbour.
fn dependencies(spec: &AppSpec, within: &str, faults: &mut Faults) -> Vec<String> {
    let mut absolute = Vec::new();
    for (index, text) in spec.dependencies.iter().enumerate() {
        match resolve(within, text) {
            Ok(id) if !absolute.contains(&id) => absolute.push(id),
            Ok(_) => {}
            Err(errors) => errors
                .into_iter()
                .for_each(|error| faults.add(format!("/dependencies({index})"), error)),
        }
    }
    absolute
}

/// `*` where nothing is written, as DC/OS sets Marathon up.
fn accepted_roles(spec: &AppSpec, faults: &mut Faults) -> Vec<String> {
    let Some(roles) = &spec.accepted_roles else {
        return vec!["*".to_owned()];
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if roles.is_empty()
        || !roles
            .iter()
            .all(|role| role == "*" || role.chars().all(plain) && !role.is_empty())
    {
        let error = "must name at least one role: `*`, or that of reserved nodes, such as slave_public";
        faults.add("/acceptedResourceRoles", error);
    }
    roles.clone()
}

/// Checks a wanted number of instances.
pub(crate) fn instance_count(instances: i64) -> Result<u32, Fault> {
    u32::try_from(instances).map_err(|_| {
        Fault::new(
            "/instances",
            format!("must be a whole number from 0 to {}, not {instances}", u32::MAX),
        )
    })
}

/// Why a text cannot reach a program: the kernel ends arguments and variables at the first NUL character.
const NUL: &str = "must not contain the character NUL (\\u0000): no program can receive it";

fn command(spec: &AppSpec, faults: &mut Faults) -> Option<Command> {
    if spec.cmd.as_ref().is_some_and(|cmd| cmd.contains('\0')) {
        faults.add("/cmd", NUL);
    }
    for (index, argument) in spec.args.iter().flatten().enumerate() {
        if argument.contains('\0') {
            faults.add(format!("/args({index})"), NUL);
        }
    }
    match (&spec.cmd, &spec.args) {
        (Some(cmd), None) if !cmd.is_empty() => Some(Command::Shell(cmd.clone())),
        (None, Some(args)) if !args.is_empty() && spec.container.image.is_some() => Some(Command::Argv(args.clone())),
        (None, None | Some(_)) if spec.container.image.is_some() => Some(Command::Argv(Vec::new())),
        (None, Some(args)) if args.first().is_some_and(|program| !program.is_empty()) => {
            Some(Command::Argv(args.clone()))
        }
        (Some(_), None) => {
            faults.add("/cmd", "must not be empty");
            None
        }
        (None, Some(_)) => {
            faults.add("/args", "must hold at least the program to run");
            None
        }
        _ => {
            faults.add(
                "/",
                "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container' with an image; not both 'cmd' and 'args'",
            );
            None
        }
    }
}

fn environment(spec: &AppSpec, faults: &mut Faults) {
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains('=') || name.contains('\0') {
            let error = "the name of a variable must not be empty nor contain `=` or the character NUL";
            faults.add(format!("/env({name})"), error);
        }
        if value.contains('\0') {
            faults.add(format!("/env({name})"), NUL);
        }
    }
}

/// An empty name means none, as Marathon's own UI sends it.
fn user(spec: &AppSpec, faults: &mut Faults) -> Option<String> {
    let user = spec.user.clone().filter(|user| !user.is_empty());
    if user.as_ref().is_some_and(|user| user.contains(['\0', '/', ':'])) {
        faults.add("/user", "must be the name of a user: it cannot contain `:`, `/` or NUL");
    }
    user
}

fn resources(spec: &AppSpec, faults: &mut Faults) -> Resources {
    resources_from(LEAST, spec, faults)
}

fn resources_from(least: f64, spec: &AppSpec, faults: &mut Faults) -> Resources {
    let mut thousandths = |path: &str, value: f64, least: f64, most: f64| {
        if !value.is_finite() || value < least {
            faults.add(path, format!("must be a number not below {least}, not {value}"));
            return 0;
        }
        match Duration::try_from_secs_f64(value) {
            // A Duration counts in thousand-millionths; round those to thousandths.
            Ok(parts) if value <= most => u64::try_from((parts.as_nanos() + 500_000) / 1_000_000).unwrap_or(u64::MAX),
            _ => {
                faults.add(path, format!("{value} is more than any machine has"));
                0
            }
        }
    };
    Resources {
        cpus_milli: thousandths("/cpus", spec.cpus.unwrap_or(1.0), least, MOST_CPUS),
        mem_mb: thousandths("/mem", spec.mem.unwrap_or(128.0), least, MOST_MB).div_ceil(1_000),
        disk_mb: thousandths("/disk", spec.disk.unwrap_or(0.0), 0.0, MOST_MB).div_ceil(1_000),
    }
}

fn duration(path: &str, seconds: f64, faults: &mut Faults) -> Option<Duration> {
    let duration = Duration::try_from_secs_f64(seconds).ok();
    if duration.is_none() {
        faults.add(path, format!("must be a number of seconds not below 0, not {seconds}"));
    }
    duration
}

fn backoff(spec: &AppSpec, faults: &mut Faults) -> Backoff {
    let factor = spec.backoff_factor.unwrap_or(1.15);
    if !factor.is_finite() || factor < 1.0 {
        faults.add("/backoffFactor", format!("must be a number not below 1, not {factor}"));
    }
    let mut seconds = |path, value: f64| duration(path, value, faults).unwrap_or_default();
    Backoff {
        initial: seconds("/backoffSeconds", spec.backoff_seconds.unwrap_or(1.0)),
        factor,
        max: seconds("/maxLaunchDelaySeconds", spec.max_launch_delay_seconds.unwrap_or(300.0)),
    }
}

fn kill_youngest_first(spec: &AppSpec, faults: &mut Faults) -> bool {
    match spec.kill_selection.as_deref() {
        None | Some("YOUNGEST_FIRST") => true,
        Some("OLDEST_FIRST") => false,
        Some(other) => {
            faults.add(
                "/killSelection",
                format!("must be YOUNGEST_FIRST or OLDEST_FIRST, not {other}"),
            );
            true
        }
    }
}

fn upgrade_strategy(spec: &AppSpec, faults: &mut Faults) -> UpgradeStrategy {
    let (health, over) = spec.upgrade_strategy.unwrap_or_else(|| volume::default_upgrade(spec));
    for (name, value) in [("minimumHealthCapacity", health), ("maximumOverCapacity", over)] {
        if !(0.0..=1.0).contains(&value) {
            faults.add(
                format!("/upgradeStrategy/{name}"),
                format!("must be a number from 0 to 1, not {value}"),
            );
        }
    }
    volume::check_upgrade(spec, over, faults);
    UpgradeStrategy {
        minimum_health_capacity: health,
        maximum_over_capacity: over,
    }
}
