//! Pods as written: the rules of apps where they are the same, told at the paths of a pod's definition, and pods' own.

use std::collections::BTreeSet;

use model::{Command, VolumeMode};

use crate::{App, AppId, AppSpec, Fault, NetworkMode, Pod, PodContainer, PodContainerSpec, PodSpec, Timestamp};

use super::{Faults, NUL, constraint, container, id, port};

mod check;
mod volume;

#[cfg(test)]
#[path = "pod/tests.rs"]
mod tests;

/// Most containers of a pod: each is a task of its own, and an instance starts and ends as a whole.
const MOST_CONTAINERS: usize = 64;

/// Where the fields that apps have too stand in a pod's definition.
const OF_POD: [(&str, &str); 8] = [
    ("/instances", "/scaling/instances"),
    ("/backoffSeconds", "/scheduling/backoff/backoff"),
    ("/backoffFactor", "/scheduling/backoff/backoffFactor"),
    ("/maxLaunchDelaySeconds", "/scheduling/backoff/maxLaunchDelay"),
    ("/upgradeStrategy", "/scheduling/upgrade"),
    ("/constraints", "/scheduling/placement/constraints"),
    ("/acceptedResourceRoles", "/scheduling/placement/acceptedResourceRoles"),
    ("/env", "/environment"),
];

/// The same for what a container has in common with an app.
const OF_CONTAINER: [(&str, &str); 8] = [
    ("/cpus", "/resources/cpus"),
    ("/mem", "/resources/mem"),
    ("/disk", "/resources/disk"),
    ("/env", "/environment"),
    ("/fetch", "/artifacts"),
    ("/container/docker/image", "/image/id"),
    ("/container/docker", "/image"),
    ("/container/linuxInfo", "/linuxInfo"),
];

/// Tells faults at the paths of another form, below `base`.
fn moved(faults: Faults, base: &str, places: &[(&str, &str)]) -> impl Iterator<Item = Fault> {
    let (base, places) = (base.to_owned(), places.to_vec());
    faults.0.into_iter().map(move |fault| {
        let place = places
            .iter()
            .find_map(|(old, new)| Some((fault.path.strip_prefix(old)?, new)));
        let path = match place {
            Some((rest, new)) => format!("{base}{new}{rest}"),
            None => format!("{base}{}", fault.path),
        };
        Fault { path, ..fault }
    })
}

/// Checks a pod's definition and fills in the defaults, or tells everything that is wrong with it.
pub(super) fn from_spec(
    now: Timestamp,
    spec: &AppSpec,
    pod: &PodSpec,
    framework: &str,
    default_network: &str,
) -> Result<App, Vec<Fault>> {
    let mut faults = Faults::default();
    super::refuse(spec, &mut faults);
    let id = AppId::parse(&spec.id).map_err(|errors| errors.into_iter().for_each(|e| faults.add("/id", e)));
    super::environment(spec, &mut faults);
    let user = super::user(spec, &mut faults);
    let instances = super::instance_count(spec.instances.unwrap_or(1)).map_err(|fault| faults.0.push(fault));
    let network = port::network(spec, default_network, &mut faults);
    let mut app = App {
        id: id.clone().unwrap_or_else(|()| AppId("/".into())),
        command: Command::Argv(Vec::new()),
        resources: Default::default(),
        instances: instances.unwrap_or_default(),
        env: spec.env.clone(),
        labels: spec.labels.clone(),
        user,
        container: Default::default(),
        fetch: Vec::new(),
        network,
        ports: Vec::new(),
        require_ports: false,
        constraints: constraint::check(&spec.constraints, &mut faults),
        dependencies: Vec::new(),
        accepted_roles: super::accepted_roles(spec, &mut faults),
        backoff: super::backoff(spec, &mut faults),
        kill_grace: None,
        kill_youngest_first: super::kill_youngest_first(spec, &mut faults),
        upgrade_strategy: super::upgrade_strategy(spec, &mut faults),
        health_checks: Vec::new(),
        readiness_checks: Vec::new(),
        unreachable: super::health::unreachable_strategy(spec, &mut faults),
        residency: None,
        pod: None,
        version: now,
        last_config_change: now,
    };
    let mut all: Vec<Fault> = moved(faults, "", &OF_POD).collect();
    let pod = parts(spec, pod, &app.network, framework, &mut all);
    if !all.is_empty() {
        return Err(all);
    }
    app.resources = pod.resources();
    let endpoints = pod.containers.iter().flat_map(|container| &container.endpoints);
    app.ports = endpoints.cloned().collect();
    app.pod = Some(Box::new(pod));
    Ok(app)
}

/// Containers, volumes and what else only pods have.
fn parts(spec: &AppSpec, pod: &PodSpec, network: &NetworkMode, framework: &str, all: &mut Vec<Fault>) -> Pod {
    let mut faults = Faults::default();
    if pod.containers.is_empty() {
        faults.add("/containers", "must hold at least one container");
    }
    if pod.containers.len() > MOST_CONTAINERS {
        faults.add("/containers", format!("must be at most {MOST_CONTAINERS}"));
    }
    let volumes = volume::volumes(&pod.volumes, &mut faults);
    let (cpus, mem, disk) = pod.executor;
    let executor = AppSpec {
        cpus: Some(cpus.unwrap_or(0.1)),
        mem: Some(mem.unwrap_or(32.0)),
        disk: Some(disk.unwrap_or(10.0)),
        ..AppSpec::default()
    };
    let mut of_executor = Faults::default();
    let executor = super::resources_from(0.0, &executor, &mut of_executor);
    all.extend(moved(of_executor, "/executorResources", &[]));
    let max_instances = max_instances(spec, pod, &mut faults);
    all.extend(moved(faults, "", &[]));
    let (mut names, mut endpoints) = (BTreeSet::new(), BTreeSet::new());
    let rules = Rules {
        network,
        framework,
        volumes: &volumes,
    };
    let mut containers = Vec::new();
    for (index, written) in pod.containers.iter().enumerate() {
        let mut faults = Faults::default();
        if !names.insert(written.name.as_str()) {
            faults.add(
                "/name",
                format!("container names must be unique; {} occurs twice", written.name),
            );
        }
        for (at, endpoint) in written.endpoints.iter().enumerate() {
            if let Some(name) = &endpoint.name
                && !endpoints.insert(name.as_str())
            {
                let error = format!("endpoint names must be unique in the pod; {name} occurs twice");
                faults.add(format!("/endpoints({at})/name"), error);
            }
        }
        containers.push(rules.container(written, &mut faults));
        all.extend(moved(faults, &format!("/containers({index})"), &OF_CONTAINER));
    }
    fixed_ports(&containers, all);
    Pod {
        containers,
        volumes,
        executor,
        max_instances,
    }
}

fn max_instances(spec: &AppSpec, pod: &PodSpec, faults: &mut Faults) -> Option<u32> {
    let most = pod.max_instances?;
    let checked = u32::try_from(most).ok();
    if checked.is_none() {
        faults.add(
            "/scaling/maxInstances",
            format!("must be a whole number from 0 to {}, not {most}", u32::MAX),
        );
    } else if spec.instances.unwrap_or(1) > most {
        faults.add(
            "/scaling/instances",
            format!("must not be more than maxInstances, which is {most}"),
        );
    }
    checked
}

/// A host port that is asked for by number can be had once.
fn fixed_ports(containers: &[PodContainer], all: &mut Vec<Fault>) {
    let mut taken = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (at, endpoint) in container.endpoints.iter().enumerate() {
            if let Some(port) = endpoint.host_port.filter(|port| *port != 0)
                && !taken.insert(port)
            {
                let path = format!("/containers({index})/endpoints({at})/hostPort");
                all.push(Fault::new(
                    path,
                    format!("host ports must be unique in the pod; {port} occurs twice"),
                ));
            }
        }
    }
}

/// What the containers of one pod are measured by.
struct Rules<'a> {
    network: &'a NetworkMode,
    framework: &'a str,
    volumes: &'a [crate::PodVolumeSpec],
}

impl Rules<'_> {
    fn container(&self, written: &PodContainerSpec, faults: &mut Faults) -> PodContainer {
        let common = &written.common;
        super::refuse(common, faults);
        if !id::is_name(&written.name) || written.name.len() > model::MAX_LABEL {
            let error =
                "must be 1 to 63 lower-case letters, digits and hyphens, beginning and ending in a letter or digit";
            faults.add("/name", error);
        }
        super::environment(common, faults);
        let image = container::container(common, faults);
        let has_image = image.image.is_some();
        let command = command(common, has_image, faults);
        if written.override_entrypoint.is_some() && !matches!(command, Some(Command::Argv(_))) {
            let error = "belongs to exec.command.argv: write one, or remove it";
            faults.add("/exec/overrideEntrypoint", error);
        }
        let endpoints = written.endpoints.iter().enumerate();
        let endpoints: Vec<_> = endpoints
            .map(|(index, endpoint)| {
                let path = format!("/endpoints({index})");
                port::endpoint(endpoint, &path, self.network, self.framework, faults)
            })
            .collect();
        let health_check = written
            .health_check
            .as_ref()
            .and_then(|check| check::check(check, &endpoints, faults));
        PodContainer {
            name: written.name.clone(),
            command,
            override_entrypoint: written.override_entrypoint,
            resources: super::resources(common, faults),
            env: common.env.clone(),
            labels: common.labels.clone(),
            user: super::user(common, faults),
            container: image,
            fetch: container::fetch(common, faults),
            endpoints,
            health_check,
            mounts: volume::mounts(&written.mounts, self.volumes, has_image, faults),
            kill_grace: common
                .task_kill_grace_period_seconds
                .and_then(|seconds| super::duration("/lifecycle/killGracePeriodSeconds", seconds, faults)),
        }
    }
}

/// `exec.command`, or nothing where the image says it.
fn command(common: &AppSpec, has_image: bool, faults: &mut Faults) -> Option<Command> {
    let words = common.cmd.iter().chain(common.args.iter().flatten());
    if words.into_iter().any(|word| word.contains('\0')) {
        faults.add("/exec/command", NUL);
    }
    match (&common.cmd, &common.args) {
        (Some(shell), None) if !shell.is_empty() => Some(Command::Shell(shell.clone())),
        (None, Some(argv)) if argv.first().is_some_and(|program| !program.is_empty()) => {
            Some(Command::Argv(argv.clone()))
        }
        (None, None) if has_image => None,
        (None, None) => {
            faults.add(
                "/exec",
                "a container without an image needs exec.command: write shell or argv",
            );
            None
        }
        _ => {
            faults.add(
                "/exec/command",
                "must hold one of shell and argv, and something to run in it",
            );
            None
        }
    }
}

/// The mode of a mount.
pub(super) fn mode(read_only: Option<bool>) -> VolumeMode {
    if read_only == Some(true) {
        VolumeMode::ReadOnly
    } else {
        VolumeMode::ReadWrite
    }
}
