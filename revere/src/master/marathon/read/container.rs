//! Reads `container`, `fetch` and their old spellings.

use scheduler::{AppSpec, ContainerSpec, Fault, FetchSpec, PortSpec, VolumeSpec};
use serde_json::{Map, Value};

use super::field::{self, Fields, is_empty, strings, text};
use super::named_port;

type Object = Map<String, Value>;

/// The object of that key, if it is there and not null.
pub(super) fn inner<'a>(object: &'a Object, path: &str, key: &str, faults: &mut Vec<Fault>) -> Option<&'a Object> {
    match object.get(key)? {
        Value::Null => None,
        Value::Object(inner) => Some(inner),
        other => {
            faults.push(field::wrong(&format!("{path}/{key}"), "an object", other));
            None
        }
    }
}

pub(super) fn container(spec: &mut AppSpec, object: &Object, faults: &mut Vec<Fault>) {
    let Some(container) = inner(object, "", "container", faults) else {
        return;
    };
    let kind = Fields::new(container, "/container", faults).take("type", "a string", text);
    spec.container = ContainerSpec {
        kind,
        ..ContainerSpec::default()
    };
    let mut mappings = port_mappings(spec, container, "/container", faults);
    if let Some(docker) = inner(container, "/container", "docker", faults) {
        self::docker(spec, docker, faults);
        let old = port_mappings(spec, docker, "/container/docker", faults);
        if mappings.as_ref().is_none_or(Vec::is_empty) {
            mappings = old.or(mappings);
        } else if old.is_some_and(|old| !old.is_empty()) {
            let error = "is the old form of container.portMappings; write only one of them";
            faults.push(Fault::new("/container/docker/portMappings", error));
        }
    }
    spec.port_mappings = mappings;
    volumes(spec, container, faults);
    if let Some(linux) = inner(container, "/container", "linuxInfo", faults) {
        linux_info(spec, linux, "/container/linuxInfo", faults);
    }
}

fn port_mappings(spec: &mut AppSpec, object: &Object, path: &str, faults: &mut Vec<Fault>) -> Option<Vec<PortSpec>> {
    let list = field::objects(object, path, "portMappings", faults)?;
    let mut specs = Vec::with_capacity(list.len());
    for (path, mapping) in list {
        if mapping.get("networkNames").is_some_and(|value| !is_empty(value)) {
            spec.unsupported
                .push(format!("{}/networkNames", path.trim_start_matches('/')));
        }
        let mut fields = Fields::new(mapping, &path, faults);
        specs.push(PortSpec {
            port: fields
                .take("containerPort", "a whole number", Value::as_i64)
                .unwrap_or(0),
            host_port: fields.take("hostPort", "a whole number", Value::as_i64),
            service_port: fields.take("servicePort", "a whole number", Value::as_i64),
            ..named_port(&mut fields)
        });
    }
    Some(specs)
}

fn docker(spec: &mut AppSpec, docker: &Object, faults: &mut Vec<Fault>) {
    let path = "/container/docker";
    if docker.get("credential").is_some_and(|value| !is_empty(value)) {
        spec.unsupported.push("container/docker/credential".to_owned());
    }
    let mut fields = Fields::new(docker, path, faults);
    spec.container.image = fields.take("image", "a string", text);
    spec.container.force_pull = fields
        .take("forcePullImage", "a boolean", Value::as_bool)
        .unwrap_or_default();
    spec.container.privileged = fields
        .take("privileged", "a boolean", Value::as_bool)
        .unwrap_or_default();
    let network = fields.take("network", "a string", text);
    for (path, parameter) in field::objects(docker, path, "parameters", faults).unwrap_or_default() {
        let mut fields = Fields::new(parameter, &path, faults);
        let key = fields.take("key", "a string", text).unwrap_or_default();
        let value = fields.take("value", "a string", text).unwrap_or_default();
        spec.container.parameters.push((key, value));
    }
    if let Some(config) = inner(docker, path, "pullConfig", faults) {
        let mut fields = Fields::new(config, "/container/docker/pullConfig", faults);
        spec.container.pull_secret = fields.take("secret", "a string", text);
    }
    old_network(spec, network.as_deref(), faults);
}

/// `docker.network` of old clients; `networks` beside it wins, as in Marathon.
fn old_network(spec: &mut AppSpec, network: Option<&str>, faults: &mut Vec<Fault>) {
    let mode = match network {
        None => return,
        Some("HOST") => "host",
        Some("BRIDGE") => "container/bridge",
        Some("USER") => "container",
        Some(other) => {
            let error = format!("must be HOST, BRIDGE or USER, not {other}; or write networks");
            return faults.push(Fault::new("/container/docker/network", error));
        }
    };
    if spec.networks.is_empty() {
        spec.networks.push((mode.to_owned(), None));
    }
}

fn volumes(spec: &mut AppSpec, container: &Object, faults: &mut Vec<Fault>) {
    for (path, volume) in field::objects(container, "/container", "volumes", faults).unwrap_or_default() {
        if volume.get("external").is_some_and(|value| !value.is_null()) {
            let path = path.trim_start_matches('/');
            spec.unsupported.push(format!("{path}/external"));
            continue;
        }
        let persistent = super::volume::persistent(volume, &path, faults);
        let mut fields = Fields::new(volume, &path, faults);
        spec.container.volumes.push(VolumeSpec {
            persistent,
            container_path: fields.take("containerPath", "a string", text).unwrap_or_default(),
            host_path: fields.take("hostPath", "a string", text).unwrap_or_default(),
            mode: fields.take("mode", "a string", text),
            secret: fields.take("secret", "a string", text),
        });
    }
}

/// `linuxInfo` of an app's container, or of a pod's.
pub(super) fn linux_info(spec: &mut AppSpec, linux: &Object, path: &str, faults: &mut Vec<Fault>) {
    let (seccomp_path, ipc_path) = (format!("{path}/seccomp"), format!("{path}/ipcInfo"));
    if let Some(seccomp) = inner(linux, path, "seccomp", faults) {
        let mut fields = Fields::new(seccomp, &seccomp_path, faults);
        spec.container.seccomp_profile = fields.take("profileName", "a string", text);
        spec.container.seccomp_unconfined = fields
            .take("unconfined", "a boolean", Value::as_bool)
            .unwrap_or_default();
    }
    if let Some(ipc) = inner(linux, path, "ipcInfo", faults) {
        let mut fields = Fields::new(ipc, &ipc_path, faults);
        spec.container.ipc_mode = fields.take("mode", "a string", text);
        spec.container.shm_size = fields.take("shmSize", "a whole number", Value::as_i64);
    }
    for key in linux
        .keys()
        .filter(|key| !["seccomp", "ipcInfo"].contains(&key.as_str()))
    {
        spec.unsupported.push(format!("container/linuxInfo/{key}"));
    }
}

/// One file to fetch, of an app or of a pod's container.
pub(super) fn artifact(fields: &mut Fields<'_>) -> FetchSpec {
    FetchSpec {
        uri: fields.take("uri", "a string", text).unwrap_or_default(),
        extract: fields.take("extract", "a boolean", Value::as_bool),
        executable: fields
            .take("executable", "a boolean", Value::as_bool)
            .unwrap_or_default(),
        cache: fields.take("cache", "a boolean", Value::as_bool).unwrap_or_default(),
        dest: fields.take("destPath", "a string", text),
    }
}

/// `fetch`, or the `uris` of old clients.
pub(super) fn fetch(spec: &mut AppSpec, object: &Object, faults: &mut Vec<Fault>) {
    for (path, fetch) in field::objects(object, "", "fetch", faults).unwrap_or_default() {
        spec.fetch.push(artifact(&mut Fields::new(fetch, &path, faults)));
    }
    let old = Fields::new(object, "", faults).take("uris", "a list of strings", strings);
    let old = old.unwrap_or_default();
    if spec.fetch.is_empty() {
        spec.fetch = old
            .into_iter()
            .map(|uri| FetchSpec {
                uri,
                ..FetchSpec::default()
            })
            .collect();
    } else if !old.is_empty() {
        faults.push(Fault::new("/uris", "is the old form of fetch; write only one of them"));
    }
}
