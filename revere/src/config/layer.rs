//! Lays one source of settings over the ones before, checking every key and type against the defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use toml::{Table, Value};

use super::nearest::nearest;
use super::{Config, ConfigError};

/// What the environment calls a key: `REVERE_MASTER_LISTEN` for `master.listen`.
const ENV_PREFIX: &str = "REVERE_";
/// Variables of the command line with the same prefix.
const ENV_OF_FLAGS: [&str; 2] = ["REVERE_CONFIG", "REVERE_MASTER"];

/// The settings so far.
#[derive(Debug)]
pub(super) struct Layers {
    /// Every known key with its default, which tells its type.
    known: BTreeMap<String, Value>,
    merged: Table,
}

impl Layers {
    pub(super) fn new(defaults: &Config) -> Result<Self, ConfigError> {
        let merged = Table::try_from(defaults).map_err(|error| ConfigError::Value(error.to_string()))?;
        let mut known = BTreeMap::new();
        collect("", &merged, &mut known);
        Ok(Self { known, merged })
    }

    pub(super) fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        self.table(&path.display().to_string(), "", table)
    }

    fn table(&mut self, origin: &str, prefix: &str, table: Table) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = join(prefix, &name);
            match value {
                Value::Table(inner) if !self.known.contains_key(&key) => {
                    if !self.is_section(&key) {
                        return Err(self.unknown(origin, &key));
                    }
                    self.table(origin, &key, inner)?;
                }
                value if self.is_section(&key) => {
                    return Err(ConfigError::WrongType {
                        origin: origin.to_owned(),
                        key,
                        expected: "a table",
                        found: value.to_string(),
                    });
                }
                value => self.put(origin, &key, value)?,
            }
        }
        Ok(())
    }

    fn is_section(&self, key: &str) -> bool {
        let within = format!("{key}.");
        self.known.keys().any(|known| known.starts_with(&within))
    }

    /// Takes every `REVERE_<PART>_<KEY>`.
    pub(super) fn environment(&mut self, vars: impl Iterator<Item = (String, OsString)>) -> Result<(), ConfigError> {
        for (name, value) in vars {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            if ENV_OF_FLAGS.contains(&name.as_str()) {
                continue;
            }
            let as_env = |key: &str| key.replace('.', "_").to_uppercase();
            let key = self.known.keys().find(|key| as_env(key) == rest).cloned();
            match key {
                Some(key) => {
                    let origin = format!("environment variable {name}");
                    let value = value.into_string().map_err(|value| ConfigError::WrongType {
                        origin: origin.clone(),
                        key: key.clone(),
                        expected: "valid UTF-8",
                        found: format!("{value:?}"),
                    })?;
                    self.text(&origin, &key, &value)?;
                }
                None => {
                    let names: Vec<String> = self
                        .known
                        .keys()
                        .map(|key| format!("{ENV_PREFIX}{}", as_env(key)))
                        .collect();
                    let hint = hint(nearest(&name, names.iter().map(String::as_str)));
                    return Err(ConfigError::UnknownKey {
                        origin: "environment".to_owned(),
                        key: name,
                        hint,
                    });
                }
            }
        }
        Ok(())
    }

    /// Sets a key from text, read as the key's type asks.
    pub(super) fn text(&mut self, origin: &str, key: &str, text: &str) -> Result<(), ConfigError> {
        let Some(default) = self.known.get(key) else {
            return Err(self.unknown(origin, key));
        };
        let value = match default {
            Value::String(_) => Some(Value::String(text.to_owned())),
            Value::Array(_) if !text.trim_start().starts_with('[') => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
            }
            _ => format!("v = {text}")
                .parse::<Table>()
                .ok()
                .and_then(|mut table| table.remove("v")),
        };
        let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
        self.put(origin, key, value)
    }

    fn put(&mut self, origin: &str, key: &str, value: Value) -> Result<(), ConfigError> {
        let Some(default) = self.known.get(key) else {
            return Err(self.unknown(origin, key));
        };
        let value = match (default, value) {
            (Value::Float(_), Value::Integer(whole)) => {
                Value::Float(f64::from(i32::try_from(whole).unwrap_or(i32::MAX)))
            }
            (_, value) => value,
        };
        if !default.same_type(&value) {
            return Err(ConfigError::WrongType {
                origin: origin.to_owned(),
                key: key.to_owned(),
                expected: with_article(default),
                found: value.to_string(),
            });
        }
        insert(&mut self.merged, key, value);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Config, ConfigError> {
        self.merged
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Value(error.to_string().trim_end().replace('\n', " ")))
    }

    fn unknown(&self, origin: &str, key: &str) -> ConfigError {
        let sections: BTreeSet<&str> = self
            .known
            .keys()
            .filter_map(|key| Some(key.split_once('.')?.0))
            .collect();
        let keys = || self.known.keys().map(String::as_str);
        // A key without its section is as likely as a mistyped one.
        let bare = keys().find(|known| known.split_once('.').is_some_and(|(_, name)| name == key));
        let hint = hint(bare.or_else(|| nearest(key, keys().chain(sections))));
        ConfigError::UnknownKey {
            origin: origin.to_owned(),
            key: key.to_owned(),
            hint,
        }
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; `revere config` prints all keys".to_owned(),
        |key| format!("; did you mean `{key}`?"),
    )
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() {
        name.to_owned()
    } else {
        format!("{prefix}.{name}")
    }
}

/// Leaf keys of the defaults. An empty table is a leaf: a map that the user fills.
fn collect(prefix: &str, table: &Table, known: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let key = join(prefix, name);
        match value {
            Value::Table(inner) if !inner.is_empty() => collect(&key, inner, known),
            value => {
                known.insert(key, value.clone());
            }
        }
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((head, rest)) => {
            if let Value::Table(inner) = table.entry(head).or_insert_with(|| Value::Table(Table::new())) {
                insert(inner, rest, value);
            }
        }
    }
}

fn with_article(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "a boolean (true or false)",
        Value::Datetime(_) => "a date and time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
