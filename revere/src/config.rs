//! The configuration: defaults, one TOML file, the environment and flags, laid over each other in that order.

mod layer;
mod nearest;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::ConfigArgs;
use layer::Layers;

/// Where the file is looked for when none is named; it may be missing there.
pub const DEFAULT_FILE: &str = "/etc/revere/revere.toml";

/// The whole configuration: each part owns its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[master]`.
    pub master: crate::master::Config,
    /// `[node]`.
    pub node: crate::node::Config,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("{path} is not valid TOML: {reason}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// No such key.
    #[error("{origin}: there is no key `{key}`{hint}")]
    UnknownKey {
        /// Where it was written.
        origin: String,
        /// As written.
        key: String,
        /// `; did you mean ...?` or nothing.
        hint: String,
    },
    /// The value is of another type.
    #[error("{origin}: `{key}` must be {expected}, not {found}")]
    WrongType {
        /// Where it was written.
        origin: String,
        /// The key.
        key: String,
        /// With its article.
        expected: &'static str,
        /// What was written.
        found: String,
    },
    /// The value has the right type and is wrong all the same.
    #[error("the configuration is not valid: {0}")]
    Value(String),
    /// A `--set` without `=`.
    #[error("`--set {0}` has no `=`: write --set part.key=value")]
    SetSyntax(String),
}

/// Reads the file, the environment, `--set`, and `flags` (key and text, from named options).
pub fn load(args: &ConfigArgs, flags: &[(&str, String)]) -> Result<Config, ConfigError> {
    let mut layers = Layers::new(&Config::default())?;
    match &args.config {
        Some(path) => layers.file(path)?,
        None if Path::new(DEFAULT_FILE).exists() => layers.file(Path::new(DEFAULT_FILE))?,
        None => {}
    }
    // A variable that is not UTF-8 is none of ours, and no reason to end.
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    layers.environment(variables)?;
    for set in &args.set {
        let (key, value) = set.split_once('=').ok_or_else(|| ConfigError::SetSyntax(set.clone()))?;
        layers.text(&format!("--set {key}"), key, value)?;
    }
    for (key, value) in flags {
        layers.text("command line", key, value)?;
    }
    layers.finish()
}

/// The configuration as TOML, to be printed.
pub fn to_toml(config: &Config) -> Result<String, ConfigError> {
    toml::to_string_pretty(config).map_err(|error| ConfigError::Value(error.to_string()))
}
