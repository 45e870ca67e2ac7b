//! Reads an app definition: the JSON types are checked here, the rules in the scheduler.

mod container;
mod field;
pub(crate) mod group;
mod health;
pub(crate) mod pod;
mod volume;

#[cfg(test)]
mod tests;

use scheduler::{AppSpec, Fault, PortSpec};
use serde_json::{Map, Value};

use field::{Fields, is_empty, strings, text};

/// The JSON types of fields that are not carried out, as told to a user who gets one wrong.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Object,
    Number,
    Text,
    Flag,
    Either,
}

/// Fields of Marathon's schema that are not carried out. Each is refused unless it is empty or Marathon's default.
const UNSUPPORTED: [(&str, Kind); 9] = [
    ("check", Kind::Object),
    ("executorResources", Kind::Object),
    ("executor", Kind::Text),
    ("gpus", Kind::Number),
    ("ipAddress", Kind::Object),
    ("resourceLimits", Kind::Object),
    ("role", Kind::Text),
    ("taskRateLimit", Kind::Either),
    ("tty", Kind::Flag),
];

/// What a definition of another kind of service has, and the sentence for who sends it here.
const OTHER_KINDS: [(&str, &str); 2] = [
    ("containers", "this is a pod's definition: send it to /v2/pods"),
    (
        "run",
        "this is a job's definition; jobs are not carried out by this version of Revere, only apps with cmd or args",
    ),
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::Flag => "a boolean",
            Self::Either => "a value",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Object => value.is_object(),
            Self::Number => value.is_number(),
            Self::Text => value.is_string(),
            Self::Flag => value.is_boolean(),
            Self::Either => true,
        }
    }
}

/// The definition as written, or every field whose JSON type is wrong.
pub(crate) fn app(definition: &Value) -> Result<AppSpec, Vec<Fault>> {
    let Some(object) = definition.as_object() else {
        return Err(vec![Fault::new("/", "an app definition must be a JSON object")]);
    };
    let commanded = object.contains_key("cmd") || object.contains_key("args");
    if let Some((key, sentence)) = OTHER_KINDS
        .iter()
        .find(|(key, _)| object.contains_key(*key) && !commanded)
    {
        return Err(vec![Fault::new(format!("/{key}"), *sentence)]);
    }
    let mut faults = Vec::new();
    let mut fields = Fields::new(object, "", &mut faults);
    let mut spec = AppSpec {
        id: fields.take("id", "a string", text).unwrap_or_default(),
        cmd: fields.take("cmd", "a string", text),
        args: fields.take("args", "a list of strings", strings),
        cpus: fields.take("cpus", "a number", Value::as_f64),
        mem: fields.take("mem", "a number", Value::as_f64),
        disk: fields.take("disk", "a number", Value::as_f64),
        instances: fields.take("instances", "a whole number", Value::as_i64),
        labels: fields.map("labels"),
        user: fields.take("user", "a string", text),
        require_ports: fields
            .take("requirePorts", "a boolean", Value::as_bool)
            .unwrap_or_default(),
        constraints: fields
            .take("constraints", "a list of lists of strings", lists)
            .unwrap_or_default(),
        backoff_seconds: fields.take("backoffSeconds", "a number", Value::as_f64),
        backoff_factor: fields.take("backoffFactor", "a number", Value::as_f64),
        max_launch_delay_seconds: fields.take("maxLaunchDelaySeconds", "a number", Value::as_f64),
        task_kill_grace_period_seconds: fields.take("taskKillGracePeriodSeconds", "a number", Value::as_f64),
        dependencies: fields
            .take("dependencies", "a list of strings", strings)
            .unwrap_or_default(),
        accepted_roles: fields.take("acceptedResourceRoles", "a list of strings", strings),
        kill_selection: fields.take("killSelection", "a string", text),
        ..AppSpec::default()
    };
    spec.unsupported = unsupported(object, &mut faults);
    environment(&mut spec, object, &mut faults);
    networks(&mut spec, object, &mut faults);
    upgrade_strategy(&mut spec, object, &mut faults);
    ports(&mut spec, object, &mut faults);
    health::read(&mut spec, object, &mut faults);
    container::container(&mut spec, object, &mut faults);
    container::fetch(&mut spec, object, &mut faults);
    volume::residency(&mut spec, object, &mut faults);
    volume::secrets(&mut spec, object, &mut faults);
    if faults.is_empty() { Ok(spec) } else { Err(faults) }
}

/// The `instances` of an update that has nothing else.
pub(crate) fn scale(definition: &Value) -> Result<i64, Vec<Fault>> {
    let Some(object) = definition.as_object() else {
        return Err(vec![Fault::new("/", "an update must be a JSON object")]);
    };
    let mut faults = Vec::new();
    let instances = Fields::new(object, "", &mut faults).take("instances", "a whole number", Value::as_i64);
    match instances {
        Some(instances) if faults.is_empty() => Ok(instances),
        None if faults.is_empty() => Err(vec![Fault::new("/instances", "is missing: write {\"instances\": 3}")]),
        _ => Err(faults),
    }
}

fn lists(value: &Value) -> Option<Vec<Vec<String>>> {
    value.as_array()?.iter().map(strings).collect()
}

fn unsupported(object: &Map<String, Value>, faults: &mut Vec<Fault>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, kind) in UNSUPPORTED {
        let Some(value) = object.get(key).filter(|value| !value.is_null()) else {
            continue;
        };
        let default = match key {
            "role" => value == "*",
            _ => false,
        };
        if !kind.fits(value) {
            faults.push(field::wrong(&format!("/{key}"), kind.name(), value));
        } else if !is_empty(value) && !default {
            found.push(key.to_owned());
        }
    }
    found
}

/// Plain values, and names of secrets.
fn environment(spec: &mut AppSpec, object: &Map<String, Value>, faults: &mut Vec<Fault>) {
    match object.get("env") {
        None | Some(Value::Null) => {}
        Some(Value::Object(env)) => {
            for (key, value) in env {
                match value {
                    Value::String(value) => {
                        spec.env.insert(key.clone(), value.clone());
                    }
                    Value::Object(secret) if secret.contains_key("secret") => {
                        let path = format!("/env({key})");
                        let name = Fields::new(secret, &path, faults).take("secret", "a string", text);
                        spec.secret_env.insert(key.clone(), name.unwrap_or_default());
                    }
                    other => faults.push(field::wrong(&format!("/env({key})"), "a string", other)),
                }
            }
        }
        Some(other) => faults.push(field::wrong("/env", "an object of strings", other)),
    }
}

fn networks(spec: &mut AppSpec, object: &Map<String, Value>, faults: &mut Vec<Fault>) {
    for (path, network) in field::objects(object, "", "networks", faults).unwrap_or_default() {
        let mut fields = Fields::new(network, &path, faults);
        let mode = fields.take("mode", "a string", text);
        let name = fields.take("name", "a string", text);
        match mode {
            Some(mode) => spec.networks.push((mode, name)),
            // Marathon's default where only a name is written.
            None => spec.networks.push(("container".to_owned(), name)),
        }
    }
}

fn upgrade_strategy(spec: &mut AppSpec, object: &Map<String, Value>, faults: &mut Vec<Fault>) {
    match object.get("upgradeStrategy") {
        None | Some(Value::Null) => {}
        Some(Value::Object(strategy)) => {
            let mut fields = Fields::new(strategy, "/upgradeStrategy", faults);
            let minimum = fields
                .take("minimumHealthCapacity", "a number", Value::as_f64)
                .unwrap_or(1.0);
            let maximum = fields
                .take("maximumOverCapacity", "a number", Value::as_f64)
                .unwrap_or(1.0);
            spec.upgrade_strategy = Some((minimum, maximum));
        }
        Some(other) => faults.push(field::wrong("/upgradeStrategy", "an object", other)),
    }
}

/// `portDefinitions`, or the `ports` of old clients.
fn ports(spec: &mut AppSpec, object: &Map<String, Value>, faults: &mut Vec<Fault>) {
    let definitions = field::objects(object, "", "portDefinitions", faults);
    spec.port_definitions = definitions.map(|list| {
        let mut specs = Vec::with_capacity(list.len());
        for (path, definition) in list {
            let mut fields = Fields::new(definition, &path, faults);
            let port = fields.take("port", "a whole number", Value::as_i64).unwrap_or(0);
            specs.push(PortSpec {
                port,
                ..named_port(&mut fields)
            });
        }
        specs
    });
    let whole = |value: &Value| {
        value
            .as_array()?
            .iter()
            .map(Value::as_i64)
            .collect::<Option<Vec<i64>>>()
    };
    let Some(old) = Fields::new(object, "", faults).take("ports", "a list of whole numbers", whole) else {
        return;
    };
    if spec.port_definitions.is_none() {
        spec.port_definitions = Some(
            old.into_iter()
                .map(|port| PortSpec {
                    port,
                    ..PortSpec::default()
                })
                .collect(),
        );
    } else if !old.is_empty() {
        faults.push(Fault::new(
            "/ports",
            "is the old form of portDefinitions; write only one of them",
        ));
    }
}

fn named_port(fields: &mut Fields<'_>) -> PortSpec {
    PortSpec {
        protocol: fields.take("protocol", "a string", text),
        name: fields.take("name", "a string", text),
        labels: fields.map("labels"),
        ..PortSpec::default()
    }
}
