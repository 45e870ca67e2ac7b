//! Other names of whole zones: a question below one of them is a question below the zone it stands for.

use crate::Config;
use crate::zones::is_within;

/// From a suffix to the suffix it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aliases {
    /// Other names of the parent of the cluster's zones.
    parents: Vec<String>,
    /// That parent.
    directory: String,
    /// Zones below the parent with another name.
    below: Vec<(String, String)>,
}

impl Aliases {
    /// `thisdcos.global` and `<crypto id>.dcos.directory` are the cluster's parent zone; below it `dclb` is `l4lb`, and
    /// `mesos` the zone of task names.
    pub(crate) fn new(config: &Config) -> Self {
        let crypto = config.crypto_id.iter().map(|id| format!("{id}.dcos.directory"));
        let directory = &config.directory;
        Self {
            parents: config.directory_aliases.iter().cloned().chain(crypto).collect(),
            directory: directory.clone(),
            below: vec![
                (format!("dclb.{directory}"), format!("l4lb.{directory}")),
                (format!("mesos.{directory}"), config.domain.clone()),
            ],
        }
    }

    /// The name that `name` stands for, unless it is no alias.
    pub(crate) fn real_name(&self, name: &str) -> Option<String> {
        let inner = self
            .parents
            .iter()
            .find_map(|parent| swap(name, parent, &self.directory));
        let now = inner.as_deref().unwrap_or(name);
        let below = self.below.iter().find_map(|(from, to)| swap(now, from, to));
        below.or(inner)
    }
}

fn swap(name: &str, from: &str, to: &str) -> Option<String> {
    if !is_within(name, from) {
        return None;
    }
    let rest = name.strip_suffix(from)?;
    Some(format!("{rest}{to}"))
}
