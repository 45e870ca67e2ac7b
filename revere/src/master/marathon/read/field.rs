//! One field of a JSON object: absent, of the right type, or a fault with its path.

use std::collections::BTreeMap;

use scheduler::Fault;
use serde_json::{Map, Value};

/// An object being read, and where what is wrong with it goes.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: &'a str,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(object: &'a Map<String, Value>, path: &'a str, faults: &'a mut Vec<Fault>) -> Self {
        Self { object, path, faults }
    }

    /// The value, if it is there and not null; of another type it is a fault.
    pub(super) fn take<T>(&mut self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = self.object.get(key).filter(|value| !value.is_null())?;
        let read = read(value);
        if read.is_none() {
            self.faults
                .push(wrong(&format!("{}/{key}", self.path), expected, value));
        }
        read
    }

    /// An object of strings; each wrong value is its own fault.
    pub(super) fn map(&mut self, key: &str) -> BTreeMap<String, String> {
        let Some(entries) = self.take(key, "an object of strings", |value| value.as_object().cloned()) else {
            return BTreeMap::new();
        };
        let mut out = BTreeMap::new();
        for (name, value) in entries {
            match value {
                Value::String(text) => {
                    out.insert(name, text);
                }
                other => self
                    .faults
                    .push(wrong(&format!("{}/{key}({name})", self.path), "a string", &other)),
            }
        }
        out
    }
}

/// A list of objects with the path of each, or `None` when absent.
pub(super) fn objects<'a>(
    object: &'a Map<String, Value>,
    path: &str,
    key: &str,
    faults: &mut Vec<Fault>,
) -> Option<Vec<(String, &'a Map<String, Value>)>> {
    let value = object.get(key).filter(|value| !value.is_null())?;
    let Some(list) = value.as_array() else {
        faults.push(wrong(&format!("{path}/{key}"), "a list of objects", value));
        return None;
    };
    let mut out = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        let path = format!("{path}/{key}({index})");
        match item.as_object() {
            Some(item) => out.push((path, item)),
            None => faults.push(wrong(&path, "an object", item)),
        }
    }
    Some(out)
}

/// A value of the wrong type.
pub(super) fn wrong(path: &str, expected: &str, found: &Value) -> Fault {
    let kind = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    match found {
        // "a whole number, not a number" would leave the reader to find out why.
        Value::Number(number) => Fault::new(path, format!("must be {expected}, not {number}")),
        _ if expected.starts_with(kind) => Fault::new(path, format!("must be {expected}; something in it is none")),
        _ => Fault::new(path, format!("must be {expected}, not {kind}")),
    }
}

pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

pub(super) fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(text).collect()
}

/// Whether a value says nothing: null, false, 0, or empty.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}
