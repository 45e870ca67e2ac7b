//! Checks of the zones and records that an operator sets.

use super::{Config, ConfigError};
use crate::answer::MAX_CHAIN;
use crate::own::{OwnData, domain_name};
use crate::zones::{SPARTAN, is_within};

/// Longest zone of task names: with it every form of a name fits into the 253 characters of DNS.
const MAX_DOMAIN: usize = 39;

impl Config {
    pub(super) fn check_zones(&self) -> Result<(), ConfigError> {
        let own = [&self.domain, &self.directory];
        for zone in own.into_iter().chain(&self.directory_aliases).chain(&self.zones) {
            if domain_name(zone).as_ref() != Some(zone) || zone.contains('_') || zone.len() > MAX_DOMAIN {
                return Err(ConfigError::Domain(zone.clone()));
            }
        }
        let mut fixed = vec![
            SPARTAN.to_owned(),
            "localhost".to_owned(),
            "zk".to_owned(),
            "arpa".to_owned(),
        ];
        fixed.push(self.directory.clone());
        fixed.extend(self.directory_aliases.iter().cloned());
        for zone in std::iter::once(&self.domain).chain(&self.zones) {
            if let Some(other) = fixed
                .iter()
                .find(|other| is_within(zone, other) || is_within(other, zone))
            {
                return Err(ConfigError::DomainTaken(zone.clone(), other.clone()));
            }
            fixed.push(zone.clone());
        }
        if let Some(id) = self
            .crypto_id
            .as_ref()
            .filter(|id| model::label(id) != **id || id.is_empty())
        {
            return Err(ConfigError::Domain(id.clone()));
        }
        match self
            .reverse
            .iter()
            .find(|net| net.trunc() != **net || net.prefix_len() == 0)
        {
            Some(net) => Err(ConfigError::Reverse(*net)),
            None => Ok(()),
        }
    }

    pub(super) fn check_records(&self) -> Result<(), ConfigError> {
        let ours = [&self.domain, &self.directory];
        let zones: Vec<&String> = ours.into_iter().chain(&self.zones).collect();
        for record in &self.records {
            if !zones.iter().any(|zone| is_within(&record.name, zone)) {
                return Err(ConfigError::Outside(record.clone()));
            }
            let OwnData::Alias(target) = &record.data else { continue };
            if zones.contains(&&record.name) {
                return Err(ConfigError::Alias(
                    record.clone(),
                    "a zone's own name can't be an alias",
                ));
            }
            if self.records.iter().filter(|other| other.name == record.name).count() > 1 {
                return Err(ConfigError::Alias(record.clone(), "an alias has no other records"));
            }
            let mut next = Some(target);
            // A chain that long is taken for a circle.
            for _ in 0..MAX_CHAIN {
                next = next.and_then(|target| self.alias(target));
            }
            if next.is_some() {
                return Err(ConfigError::Alias(
                    record.clone(),
                    "it leads in a circle, or over too many aliases",
                ));
            }
        }
        Ok(())
    }

    fn alias(&self, name: &str) -> Option<&String> {
        self.records.iter().find_map(|record| match &record.data {
            OwnData::Alias(target) if record.name == name => Some(target),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_must_be_names_of_their_own() {
        for bad in [
            "",
            "Mesos",
            ".mesos",
            "a_b",
            "mesos.",
            "a-zone-of-more-than-thirty-nine-characters",
        ] {
            let config = Config {
                domain: bad.to_owned(),
                ..Config::default()
            };
            assert_eq!(config.check(), Err(ConfigError::Domain(bad.to_owned())));
        }
        for bad in [
            "thisdcos.directory",
            "directory",
            "x.thisdcos.directory",
            "spartan",
            "10.in-addr.arpa",
        ] {
            let config = Config {
                domain: bad.to_owned(),
                ..Config::default()
            };
            assert!(matches!(config.check(), Err(ConfigError::DomainTaken(name, _)) if name == bad));
        }
        for bad in ["11.0.0.1/8", "0.0.0.0/0", "fd01::1/64"] {
            let config = Config {
                reverse: vec![bad.parse().expect("a block")],
                ..Config::default()
            };
            assert!(matches!(config.check(), Err(ConfigError::Reverse(_))), "{bad}");
        }
    }

    #[test]
    fn declared_records_must_fit() {
        let with = |records: &[&str]| {
            let config = Config {
                zones: vec!["corp.example".to_owned()],
                records: records.iter().map(|text| text.parse().expect("a record")).collect(),
                ..Config::default()
            };
            config.check()
        };
        assert_eq!(
            with(&["db.corp.example A 10.1.2.3", "db.corp.example A 10.1.2.4"]),
            Ok(())
        );
        assert_eq!(
            with(&["a.mesos CNAME b.mesos", "b.mesos CNAME www.example.com"]),
            Ok(())
        );
        assert!(matches!(with(&["db.example A 10.1.2.3"]), Err(ConfigError::Outside(_))));
        for bad in [
            &["a.mesos CNAME b.mesos", "b.mesos CNAME a.mesos"][..],
            &["a.mesos CNAME a.mesos"],
            &["a.mesos CNAME b.mesos", "a.mesos A 10.1.2.3"],
            &["corp.example CNAME b.mesos"],
        ] {
            assert!(matches!(with(bad), Err(ConfigError::Alias(..))), "{bad:?}");
        }
    }
}
