//! Reads a pod's definition: the JSON types are checked here, the rules in the scheduler.

use model::Command;
use scheduler::{
    AppSpec, ContainerSpec, Fault, PodCheckSpec, PodContainerSpec, PodMountSpec, PodSpec, PodVolumeSpec, PortSpec,
};
use serde_json::{Map, Value};

use super::container::{artifact, inner, linux_info};
use super::field::{self, Fields, is_empty, strings, text};
use super::health::unreachable_strategy;

type Object = Map<String, Value>;

/// Fields of a pod that are not carried out, unless they say nothing.
const UNSUPPORTED: [&str; 4] = ["secrets", "role", "linuxInfo", "legacySharedCgroups"];
/// The same of a container.
const OF_CONTAINER: [&str; 3] = ["check", "resourceLimits", "tty"];

/// The definition as written, or every field whose JSON type is wrong.
pub(crate) fn pod(definition: &Value) -> Result<AppSpec, Vec<Fault>> {
    let mut faults = Vec::new();
    let Some(object) = definition.as_object() else {
        return Err(vec![Fault::new("/", "a pod definition must be a JSON object")]);
    };
    let mut fields = Fields::new(object, "", &mut faults);
    let mut spec = AppSpec {
        id: fields.take("id", "a string", text).unwrap_or_default(),
        labels: fields.map("labels"),
        user: fields.take("user", "a string", text),
        ..AppSpec::default()
    };
    spec.unsupported = unsupported(object, &UNSUPPORTED);
    environment(&mut spec, object, &mut faults);
    super::networks(&mut spec, object, &mut faults);
    let mut pod = PodSpec::default();
    scaling(&mut spec, &mut pod, object, &mut faults);
    scheduling(&mut spec, object, &mut faults);
    if let Some(resources) = inner(object, "", "executorResources", &mut faults) {
        let mut fields = Fields::new(resources, "/executorResources", &mut faults);
        let mut number = |key| fields.take(key, "a number", Value::as_f64);
        pod.executor = (number("cpus"), number("mem"), number("disk"));
        if resources.get("gpus").is_some_and(|value| !is_empty(value)) {
            spec.unsupported.push("executorResources/gpus".to_owned());
        }
    }
    volumes(&mut spec, &mut pod, object, &mut faults);
    for (path, written) in field::objects(object, "", "containers", &mut faults).unwrap_or_default() {
        pod.containers.push(container(written, &path, &mut faults));
    }
    spec.pod = Some(Box::new(pod));
    if faults.is_empty() { Ok(spec) } else { Err(faults) }
}

fn unsupported(object: &Object, keys: &[&str]) -> Vec<String> {
    let says = |key: &&&str| {
        let value = object.get(**key);
        value.is_some_and(|value| !(is_empty(value) || **key == "role" && value == "*"))
    };
    keys.iter().filter(says).map(|key| (*key).to_owned()).collect()
}

/// Plain values; `{"secret": ...}` is known and not carried out.
fn environment_of(object: &Object, path: &str, spec: &mut AppSpec, faults: &mut Vec<Fault>) {
    let written = Fields::new(object, path, faults).take("environment", "an object of strings", |value| {
        value.as_object().cloned()
    });
    for (key, value) in written.into_iter().flatten() {
        match value {
            Value::String(value) => drop(spec.env.insert(key, value)),
            Value::Object(secret) if secret.contains_key("secret") => {
                spec.unsupported.push(format!("environment({key})/secret"));
            }
            other => faults.push(field::wrong(&format!("{path}/environment({key})"), "a string", &other)),
        }
    }
}

fn environment(spec: &mut AppSpec, object: &Object, faults: &mut Vec<Fault>) {
    environment_of(object, "", spec, faults);
}

fn scaling(spec: &mut AppSpec, pod: &mut PodSpec, object: &Object, faults: &mut Vec<Fault>) {
    let Some(scaling) = inner(object, "", "scaling", faults) else {
        return;
    };
    let mut fields = Fields::new(scaling, "/scaling", faults);
    let kind = fields.take("kind", "a string", text);
    spec.instances = fields.take("instances", "a whole number", Value::as_i64);
    pod.max_instances = fields.take("maxInstances", "a whole number", Value::as_i64);
    if let Some(kind) = kind.filter(|kind| kind != "fixed") {
        faults.push(Fault::new("/scaling/kind", format!("must be fixed, not {kind}")));
    }
}

fn scheduling(spec: &mut AppSpec, object: &Object, faults: &mut Vec<Fault>) {
    let Some(scheduling) = inner(object, "", "scheduling", faults) else {
        return;
    };
    let base = "/scheduling";
    if let Some(backoff) = inner(scheduling, base, "backoff", faults) {
        let mut fields = Fields::new(backoff, "/scheduling/backoff", faults);
        spec.backoff_seconds = fields.take("backoff", "a number", Value::as_f64);
        spec.backoff_factor = fields.take("backoffFactor", "a number", Value::as_f64);
        spec.max_launch_delay_seconds = fields.take("maxLaunchDelay", "a number", Value::as_f64);
    }
    if let Some(upgrade) = inner(scheduling, base, "upgrade", faults) {
        let mut fields = Fields::new(upgrade, "/scheduling/upgrade", faults);
        let mut part = |key| fields.take(key, "a number", Value::as_f64).unwrap_or(1.0);
        spec.upgrade_strategy = Some((part("minimumHealthCapacity"), part("maximumOverCapacity")));
    }
    if let Some(placement) = inner(scheduling, base, "placement", faults) {
        self::placement(spec, placement, faults);
    }
    let selection = Fields::new(scheduling, base, faults).take("killSelection", "a string", text);
    spec.kill_selection = selection.map(|selection| match selection.as_str() {
        // The spelling of older releases.
        "YoungestFirst" => "YOUNGEST_FIRST".to_owned(),
        "OldestFirst" => "OLDEST_FIRST".to_owned(),
        _ => selection,
    });
    spec.unreachable_strategy = unreachable_strategy(scheduling, base, faults);
}

fn placement(spec: &mut AppSpec, placement: &Object, faults: &mut Vec<Fault>) {
    let base = "/scheduling/placement";
    let roles = Fields::new(placement, base, faults).take("acceptedResourceRoles", "a list of strings", strings);
    // An empty list is what clients send for none.
    spec.accepted_roles = roles.filter(|roles| !roles.is_empty());
    for (path, constraint) in field::objects(placement, base, "constraints", faults).unwrap_or_default() {
        let mut fields = Fields::new(constraint, &path, faults);
        let words = ["fieldName", "operator", "value"].map(|key| fields.take(key, "a string", text));
        spec.constraints.push(words.into_iter().flatten().collect());
    }
}

fn volumes(spec: &mut AppSpec, pod: &mut PodSpec, object: &Object, faults: &mut Vec<Fault>) {
    for (path, volume) in field::objects(object, "", "volumes", faults).unwrap_or_default() {
        for kind in ["persistent", "secret"] {
            if volume.get(kind).is_some_and(|value| !value.is_null()) {
                spec.unsupported
                    .push(format!("{}/{kind}", path.trim_start_matches('/')));
            }
        }
        let mut fields = Fields::new(volume, &path, faults);
        pod.volumes.push(PodVolumeSpec {
            name: fields.take("name", "a string", text).unwrap_or_default(),
            host: fields.take("host", "a string", text),
        });
    }
}

fn container(object: &Object, path: &str, faults: &mut Vec<Fault>) -> PodContainerSpec {
    let mut fields = Fields::new(object, path, faults);
    let mut common = AppSpec {
        labels: fields.map("labels"),
        user: fields.take("user", "a string", text),
        ..AppSpec::default()
    };
    let name = fields.take("name", "a string", text).unwrap_or_default();
    common.unsupported = unsupported(object, &OF_CONTAINER);
    environment_of(object, path, &mut common, faults);
    resources(&mut common, object, path, faults);
    image(&mut common, object, path, faults);
    if let Some(linux) = inner(object, path, "linuxInfo", faults) {
        linux_info(&mut common, linux, &format!("{path}/linuxInfo"), faults);
    }
    let mut override_entrypoint = None;
    if let Some(exec) = inner(object, path, "exec", faults) {
        let base = format!("{path}/exec");
        (common.cmd, common.args) = command(exec, &base, faults);
        override_entrypoint = Fields::new(exec, &base, faults).take("overrideEntrypoint", "a boolean", Value::as_bool);
    }
    artifacts(&mut common, object, path, faults);
    if let Some(lifecycle) = inner(object, path, "lifecycle", faults) {
        let mut fields = Fields::new(lifecycle, "/lifecycle", faults);
        common.task_kill_grace_period_seconds = fields.take("killGracePeriodSeconds", "a number", Value::as_f64);
    }
    PodContainerSpec {
        name,
        override_entrypoint,
        endpoints: endpoints(&mut common, object, path, faults),
        health_check: inner(object, path, "healthCheck", faults)
            .map(|check| health_check(check, &format!("{path}/healthCheck"), faults)),
        mounts: mounts(object, path, faults),
        common,
    }
}

/// `command` with its `shell` or `argv`.
fn command(object: &Object, path: &str, faults: &mut Vec<Fault>) -> (Option<String>, Option<Vec<String>>) {
    let Some(command) = inner(object, path, "command", faults) else {
        return (None, None);
    };
    let base = format!("{path}/command");
    let mut fields = Fields::new(command, &base, faults);
    let shell = fields.take("shell", "a string", text);
    (shell, fields.take("argv", "a list of strings", strings))
}

fn resources(common: &mut AppSpec, object: &Object, path: &str, faults: &mut Vec<Fault>) {
    let Some(resources) = inner(object, path, "resources", faults) else {
        return;
    };
    let base = format!("{path}/resources");
    let mut fields = Fields::new(resources, &base, faults);
    common.cpus = fields.take("cpus", "a number", Value::as_f64);
    common.mem = fields.take("mem", "a number", Value::as_f64);
    common.disk = fields.take("disk", "a number", Value::as_f64);
    if resources.get("gpus").is_some_and(|value| !is_empty(value)) {
        common.unsupported.push("resources/gpus".to_owned());
    }
}

fn image(common: &mut AppSpec, object: &Object, path: &str, faults: &mut Vec<Fault>) {
    let Some(image) = inner(object, path, "image", faults) else {
        return;
    };
    let base = format!("{path}/image");
    let mut fields = Fields::new(image, &base, faults);
    let kind = fields.take("kind", "a string", text);
    common.container = ContainerSpec {
        image: Some(fields.take("id", "a string", text).unwrap_or_default()),
        force_pull: fields
            .take("forcePull", "a boolean", Value::as_bool)
            .unwrap_or_default(),
        ..ContainerSpec::default()
    };
    if let Some(config) = inner(image, &base, "pullConfig", faults) {
        let base = format!("{base}/pullConfig");
        common.container.pull_secret = Fields::new(config, &base, faults).take("secret", "a string", text);
    }
    match kind.as_deref() {
        Some("DOCKER") => {}
        Some("APPC") => common.unsupported.push("image/kind APPC".to_owned()),
        Some(other) => faults.push(Fault::new(
            format!("{base}/kind"),
            format!("must be DOCKER, not {other}"),
        )),
        None => faults.push(Fault::new(format!("{base}/kind"), "is missing: write DOCKER")),
    }
    if image.get("labels").is_some_and(|value| !is_empty(value)) {
        common.unsupported.push("image/labels".to_owned());
    }
}

fn artifacts(common: &mut AppSpec, object: &Object, path: &str, faults: &mut Vec<Fault>) {
    for (path, one) in field::objects(object, path, "artifacts", faults).unwrap_or_default() {
        common.fetch.push(artifact(&mut Fields::new(one, &path, faults)));
    }
}

fn endpoints(common: &mut AppSpec, object: &Object, path: &str, faults: &mut Vec<Fault>) -> Vec<PortSpec> {
    let mut endpoints = Vec::new();
    for (index, (path, endpoint)) in (0..).zip(field::objects(object, path, "endpoints", faults).unwrap_or_default()) {
        if endpoint.get("networkNames").is_some_and(|value| !is_empty(value)) {
            common.unsupported.push(format!("endpoints({index})/networkNames"));
        }
        let mut fields = Fields::new(endpoint, &path, faults);
        let protocols = fields.take("protocol", "a list of strings", strings);
        endpoints.push(PortSpec {
            name: fields.take("name", "a string", text),
            port: fields
                .take("containerPort", "a whole number", Value::as_i64)
                .unwrap_or(0),
            host_port: fields.take("hostPort", "a whole number", Value::as_i64),
            protocol: protocols.filter(|list| !list.is_empty()).map(|list| list.join(",")),
            labels: fields.map("labels"),
            ..PortSpec::default()
        });
    }
    endpoints
}

fn health_check(check: &Object, path: &str, faults: &mut Vec<Fault>) -> PodCheckSpec {
    let mut fields = Fields::new(check, path, faults);
    let mut whole = |key| fields.take(key, "a whole number", Value::as_i64);
    let mut out = PodCheckSpec {
        interval_seconds: whole("intervalSeconds"),
        timeout_seconds: whole("timeoutSeconds"),
        delay_seconds: whole("delaySeconds"),
        max_failures: whole("maxConsecutiveFailures"),
        grace_seconds: fields.take("gracePeriodSeconds", "a number", Value::as_f64),
        ..PodCheckSpec::default()
    };
    if let Some(http) = inner(check, path, "http", faults) {
        let base = format!("{path}/http");
        let mut fields = Fields::new(http, &base, faults);
        let mut word = |key| fields.take(key, "a string", text);
        out.http = Some((word("endpoint").unwrap_or_default(), word("path"), word("scheme")));
    }
    if let Some(tcp) = inner(check, path, "tcp", faults) {
        let base = format!("{path}/tcp");
        let endpoint = Fields::new(tcp, &base, faults).take("endpoint", "a string", text);
        out.tcp = Some(endpoint.unwrap_or_default());
    }
    if let Some(exec) = inner(check, path, "exec", faults) {
        out.exec = match command(exec, &format!("{path}/exec"), faults) {
            (Some(shell), None) => Some(Command::Shell(shell)),
            (None, argv) => Some(Command::Argv(argv.unwrap_or_default())),
            (Some(_), Some(_)) => {
                let error = "must hold one of shell and argv, not both";
                faults.push(Fault::new(format!("{path}/exec/command"), error));
                None
            }
        };
    }
    out
}

fn mounts(object: &Object, path: &str, faults: &mut Vec<Fault>) -> Vec<PodMountSpec> {
    let mut mounts = Vec::new();
    for (path, mount) in field::objects(object, path, "volumeMounts", faults).unwrap_or_default() {
        let mut fields = Fields::new(mount, &path, faults);
        mounts.push(PodMountSpec {
            volume: fields.take("name", "a string", text).unwrap_or_default(),
            path: fields.take("mountPath", "a string", text).unwrap_or_default(),
            read_only: fields.take("readOnly", "a boolean", Value::as_bool),
        });
    }
    mounts
}
