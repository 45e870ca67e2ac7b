//! Writes `container` and `fetch`, with what the user set and nothing else: old clients know a closed set of names.

use model::{Container, ContainerKind, Extract, FetchCache, FetchPermission, Ipc, Parameter, Privilege, Pull, Seccomp};
use scheduler::App;
use serde_json::{Map, Value, json};

/// `container` with these port mappings.
pub(super) fn definition(app: &App, mappings: Option<Vec<Value>>) -> Value {
    let container = &app.container;
    let kind = match container.kind {
        ContainerKind::Mesos => "MESOS",
        ContainerKind::Docker => "DOCKER",
    };
    let kept = container.persistent.iter().map(|volume| {
        json!({
            "containerPath": volume.container_path,
            "mode": "RW",
            "persistent": {"type": "root", "size": volume.size_mb, "constraints": []},
        })
    });
    let of_node = container.volumes.iter().map(|volume| {
        json!({
            "containerPath": volume.container_path,
            "hostPath": volume.host_path,
            "mode": volume.mode.as_str(),
        })
    });
    let secret = |(path, name): &(String, String)| json!({"containerPath": path, "secret": name});
    let secrets = container.secrets.files.iter().map(secret);
    let volumes: Vec<Value> = kept.chain(of_node).chain(secrets).collect();
    let mut out = json!({"type": kind, "volumes": volumes});
    if let Some(mappings) = mappings {
        out["portMappings"] = json!(mappings);
    }
    if let Some(image) = &container.image {
        let parameter = |parameter: &Parameter| {
            let (key, value) = parameter.pair();
            json!({"key": key, "value": value})
        };
        out["docker"] = json!({
            "image": image.name,
            "forcePullImage": image.pull == Pull::Always,
            "parameters": container.parameters.iter().map(parameter).collect::<Vec<_>>(),
            "privileged": container.privilege == Privilege::Full,
        });
        if let Some(secret) = &image.credentials {
            out["docker"]["pullConfig"] = json!({"secret": secret});
        }
    }
    if let Some(linux) = linux_info(container) {
        out["linuxInfo"] = linux;
    }
    out
}

pub(super) fn linux_info(container: &Container) -> Option<Value> {
    let mut out = Map::new();
    if container.seccomp == Seccomp::Unconfined {
        out.insert("seccomp".to_owned(), json!({"unconfined": true}));
    }
    match (container.ipc, container.shm_mb) {
        (Ipc::Node, _) => drop(out.insert("ipcInfo".to_owned(), json!({"mode": "SHARE_PARENT"}))),
        (Ipc::Private, Some(size)) => {
            drop(out.insert("ipcInfo".to_owned(), json!({"mode": "PRIVATE", "shmSize": size})));
        }
        (Ipc::Private, None) => {}
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// `fetch`.
pub(super) fn fetch(app: &App) -> Vec<Value> {
    app.fetch.iter().map(fetched).collect()
}

/// One entry of it, or of a pod's `artifacts`.
pub(super) fn fetched(fetch: &model::Fetch) -> Value {
    let mut out = json!({
        "uri": fetch.uri,
        "extract": fetch.extract == Extract::Archives,
        "executable": fetch.permission == FetchPermission::Executable,
        "cache": fetch.cache == FetchCache::Keep,
    });
    if let Some(dest) = &fetch.dest {
        out["destPath"] = json!(dest);
    }
    out
}
