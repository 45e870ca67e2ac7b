//! Secrets: kept as records, checked with the definitions that name them, told to agents right before a launch.

use model::{LaunchSpec, SecretValue, SecretValues};

use crate::spec::secret::{MAX_VALUE, check_path};
use crate::{App, CommandError, Effect, Fault, Record, Reply, Secret, SecretError};

use super::Scheduler;

/// Whether a secret must be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It must not.
    New,
    /// It must.
    Change,
}

impl Scheduler {
    /// Paths of all secrets, in order.
    pub fn secret_paths(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    pub(super) fn put_secret(&mut self, path: &str, value: &SecretValue, put: Put) -> Result<Reply, CommandError> {
        check_path(path)?;
        let length = value.expose().len();
        if length > MAX_VALUE {
            return Err(SecretError::TooLong(length).into());
        }
        match (put, self.secrets.contains_key(path)) {
            (Put::New, true) => return Err(SecretError::Exists(path.to_owned()).into()),
            (Put::Change, false) => return Err(SecretError::Missing(path.to_owned()).into()),
            _ => {}
        }
        let secret = Secret {
            path: path.to_owned(),
            value: value.clone(),
        };
        self.secrets.insert(path.to_owned(), value.clone());
        self.persist(Record::PutSecret(Box::new(secret)));
        Ok(Reply::default())
    }

    pub(super) fn remove_secret(&mut self, path: &str) -> Result<Reply, CommandError> {
        if !self.secrets.contains_key(path) {
            return Err(SecretError::Missing(path.to_owned()).into());
        }
        let uses = |app: &&App| app.container.secrets.sources.values().any(|source| source == path);
        let apps: Vec<String> = self.apps.values().filter(uses).map(|app| app.id.to_string()).collect();
        if !apps.is_empty() {
            let path = path.to_owned();
            return Err(SecretError::Used { path, apps }.into());
        }
        self.secrets.remove(path);
        self.persist(Record::DeleteSecret(path.to_owned()));
        Ok(Reply::default())
    }

    /// Secrets that an app names and the store does not have.
    pub(super) fn secret_faults(&self, app: &App) -> Vec<Fault> {
        let sources = app.container.secrets.sources.iter();
        sources
            .filter(|(_, source)| !self.secrets.contains_key(*source))
            .map(|(name, source)| {
                let error = format!("there is no secret {source}: make it first (revere secret create {source})");
                Fault::new(format!("/secrets({name})/source"), error)
            })
            .collect()
    }

    /// Tells an agent the values that a task needs; the order to launch it comes right after. One that is missing is told
    /// by its absence: the agent fails the task with a sentence.
    pub(super) fn tell_secrets(&mut self, agent: &model::AgentId, spec: &LaunchSpec) {
        let wanted = &spec.container.secrets;
        let there = |source: &String| Some((source.clone(), self.secrets.get(source)?.clone()));
        let values: SecretValues = wanted.sources.values().filter_map(there).collect();
        self.effects.push_back(Effect::Secrets {
            agent: agent.clone(),
            task: spec.task.clone(),
            values,
        });
    }
}

#[cfg(test)]
#[path = "secrets/tests.rs"]
mod tests;
