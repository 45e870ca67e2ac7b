//! Pods as definitions.

use model::{Command, PodMount, Pull, Resources, Scheme, VolumeMode};
use scheduler::{App, AppPort, NetworkMode, Pod, PodCheck, PodCheckTarget, PodContainer, PodVolumeSpec};
use serde_json::{Value, json};

use super::container::fetched;
use super::{health, milli, networks, seconds};

/// The definition with every default, read back with the same meaning.
pub(crate) fn definition(app: &App, pod: &Pod) -> Value {
    let containers = pod.containers.iter().map(|one| container(one, &app.network));
    let constraints = app.constraints.iter().map(|constraint| {
        let words = super::constraint(constraint);
        let mut out = json!({"fieldName": words[0], "operator": words[1]});
        if let Some(value) = words.get(2) {
            out["value"] = json!(value);
        }
        out
    });
    let mut placement = json!({"constraints": constraints.collect::<Vec<_>>(), "acceptedResourceRoles": []});
    if app.accepted_roles != ["*"] {
        placement["acceptedResourceRoles"] = json!(app.accepted_roles);
    }
    let mut out = json!({
        "id": app.id.as_str(),
        "version": app.version.to_string(),
        "labels": app.labels,
        "environment": app.env,
        "containers": containers.collect::<Vec<_>>(),
        "secrets": {},
        "volumes": pod.volumes.iter().map(volume).collect::<Vec<_>>(),
        "networks": networks(&app.network),
        "scaling": {"kind": "fixed", "instances": app.instances},
        "scheduling": {
            "backoff": {
                "backoff": seconds(app.backoff.initial),
                "backoffFactor": app.backoff.factor,
                "maxLaunchDelay": seconds(app.backoff.max),
            },
            "upgrade": {
                "minimumHealthCapacity": app.upgrade_strategy.minimum_health_capacity,
                "maximumOverCapacity": app.upgrade_strategy.maximum_over_capacity,
            },
            "placement": placement,
            "killSelection": if app.kill_youngest_first { "YOUNGEST_FIRST" } else { "OLDEST_FIRST" },
            "unreachableStrategy": health::unreachable(app),
        },
        "executorResources": resources(&pod.executor),
    });
    if let Some(most) = pod.max_instances {
        out["scaling"]["maxInstances"] = json!(most);
    }
    if let Some(user) = &app.user {
        out["user"] = json!(user);
    }
    out
}

/// Scalars in Marathon's form.
pub(super) fn resources(resources: &Resources) -> Value {
    json!({
        "cpus": milli(resources.cpus_milli),
        "mem": resources.mem_mb,
        "disk": resources.disk_mb,
        "gpus": 0,
    })
}

fn volume(volume: &PodVolumeSpec) -> Value {
    match &volume.host {
        Some(host) => json!({"name": volume.name, "host": host}),
        None => json!({"name": volume.name}),
    }
}

fn command(command: &Command) -> Value {
    match command {
        Command::Shell(text) => json!({"shell": text}),
        Command::Argv(argv) => json!({"argv": argv}),
    }
}

fn container(container: &PodContainer, network: &NetworkMode) -> Value {
    let mut out = json!({
        "name": container.name,
        "resources": resources(&container.resources),
        "endpoints": container.endpoints.iter().map(|port| endpoint(port, network)).collect::<Vec<_>>(),
        "environment": container.env,
        "labels": container.labels,
        "volumeMounts": container.mounts.iter().map(mount).collect::<Vec<_>>(),
        "artifacts": container.fetch.iter().map(fetched).collect::<Vec<_>>(),
    });
    if let Some(exec) = &container.command {
        out["exec"] = json!({"command": command(exec)});
        if let Some(overrides) = container.override_entrypoint {
            out["exec"]["overrideEntrypoint"] = json!(overrides);
        }
    }
    if let Some(image) = &container.container.image {
        out["image"] = json!({
            "kind": "DOCKER",
            "id": image.name,
            "forcePull": image.pull == Pull::Always,
            "labels": {},
        });
        if let Some(secret) = &image.credentials {
            out["image"]["pullConfig"] = json!({"secret": secret});
        }
    }
    if let Some(linux) = super::container::linux_info(&container.container) {
        out["linuxInfo"] = linux;
    }
    if let Some(user) = &container.user {
        out["user"] = json!(user);
    }
    if let Some(check) = &container.health_check {
        out["healthCheck"] = health_check(check, &container.endpoints);
    }
    if let Some(grace) = container.kill_grace {
        out["lifecycle"] = json!({"killGracePeriodSeconds": seconds(grace)});
    }
    out
}

fn endpoint(port: &AppPort, network: &NetworkMode) -> Value {
    let mut out = json!({
        "name": port.name,
        "protocol": port.protocols.iter().map(|protocol| protocol.as_str()).collect::<Vec<_>>(),
        "labels": port.labels,
    });
    if *network != NetworkMode::Host {
        out["containerPort"] = json!(port.port);
    }
    if let Some(host) = port.host_port {
        out["hostPort"] = json!(host);
    }
    out
}

fn mount(mount: &PodMount) -> Value {
    json!({
        "name": mount.volume,
        "mountPath": mount.container_path,
        "readOnly": mount.mode == VolumeMode::ReadOnly,
    })
}

fn health_check(check: &PodCheck, endpoints: &[AppPort]) -> Value {
    let name = |index: u32| {
        let endpoint = usize::try_from(index).ok().and_then(|index| endpoints.get(index));
        endpoint.and_then(|endpoint| endpoint.name.clone())
    };
    let mut out = json!({
        "gracePeriodSeconds": seconds(check.grace),
        "intervalSeconds": seconds(check.interval),
        "timeoutSeconds": seconds(check.timeout),
        "delaySeconds": seconds(check.delay),
        "maxConsecutiveFailures": check.max_failures,
    });
    match &check.target {
        PodCheckTarget::Http { endpoint, path, scheme } => {
            let scheme = if *scheme == Scheme::Https { "HTTPS" } else { "HTTP" };
            out["http"] = json!({"endpoint": name(*endpoint), "path": path, "scheme": scheme});
        }
        PodCheckTarget::Tcp { endpoint } => out["tcp"] = json!({"endpoint": name(*endpoint)}),
        PodCheckTarget::Exec(exec) => out["exec"] = json!({"command": command(exec)}),
    }
    out
}
