//! Settings of zones and of the operator's own records, from text to what the name server takes.

use serde::{Deserialize, Serialize};

use super::NodeError;
use super::config::wrong;

/// `[node.dns_names]`: what the cluster's zones are called, and what they hold besides the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsNames {
    /// The zone of tasks, `mesos`.
    pub domain: String,
    /// The parent of the other zones, `thisdcos.directory`.
    pub directory: String,
    /// Its other names.
    pub directory_aliases: Vec<String>,
    /// `<crypto_id>.dcos.directory` is one more; empty: none.
    pub crypto_id: String,
    /// Zones for own records.
    pub zones: Vec<String>,
    /// Own records: `"name A address"`, `"name AAAA address"`, `"name CNAME name"`, `"name SRV port name"`.
    pub records: Vec<String>,
    /// Blocks of addresses with reverse names, besides VIPs and overlay.
    pub reverse: Vec<String>,
    /// Where a task's plain name gets its addresses from: `netinfo`, `host`.
    pub ip_sources: Vec<String>,
    /// Public addresses of this node, for `public.thisnode`.
    pub public_addrs: Vec<String>,
}

impl Default for DnsNames {
    fn default() -> Self {
        let config = dns::Config::default();
        Self {
            domain: config.domain,
            directory: config.directory,
            directory_aliases: config.directory_aliases,
            crypto_id: String::new(),
            zones: Vec::new(),
            records: Vec::new(),
            reverse: Vec::new(),
            ip_sources: vec!["netinfo".to_owned(), "host".to_owned()],
            public_addrs: Vec::new(),
        }
    }
}

impl DnsNames {
    /// Sets them in `config`, or says which is wrong.
    pub(super) fn apply(&self, config: &mut dns::Config) -> Result<(), NodeError> {
        fn all<T, E: std::fmt::Display>(
            key: &'static str,
            texts: &[String],
            parse: impl Fn(&str) -> Result<T, E>,
        ) -> Result<Vec<T>, NodeError> {
            let one = |text: &String| parse(text).map_err(|error| wrong(key, text, &error.to_string()));
            texts.iter().map(one).collect()
        }
        config.domain.clone_from(&self.domain);
        config.directory.clone_from(&self.directory);
        config.directory_aliases.clone_from(&self.directory_aliases);
        config.crypto_id = Some(self.crypto_id.clone()).filter(|id| !id.is_empty());
        config.zones.clone_from(&self.zones);
        config.records = all("dns_names.records", &self.records, str::parse::<dns::OwnRecord>)?;
        let blocks = all("dns_names.reverse", &self.reverse, str::parse::<ipnet::IpNet>)?;
        config.reverse.extend(blocks);
        config.ip_sources = all("dns_names.ip_sources", &self.ip_sources, |text| match text {
            "netinfo" => Ok(dns::IpSource::Netinfo),
            "host" => Ok(dns::IpSource::Host),
            _ => Err("write netinfo or host"),
        })?;
        config.public_addrs = all(
            "dns_names.public_addrs",
            &self.public_addrs,
            str::parse::<std::net::IpAddr>,
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(change: impl FnOnce(&mut DnsNames)) -> Result<dns::Config, NodeError> {
        let mut names = DnsNames::default();
        change(&mut names);
        let mut config = dns::Config::default();
        names.apply(&mut config).map(|()| config)
    }

    #[test]
    fn nothing_set_changes_nothing() {
        assert_eq!(applied(|_| ()).expect("valid"), dns::Config::default());
    }

    #[test]
    fn what_is_set_arrives() {
        let config = applied(|names| {
            names.crypto_id = "yn6tkfq".into();
            names.records = vec!["db.corp.example A 10.2.3.4".into()];
            names.zones = vec!["corp.example".into()];
            names.reverse = vec!["10.0.0.0/16".into()];
            names.ip_sources = vec!["host".into()];
        })
        .expect("valid");
        assert_eq!(config.check(), Ok(()));
        assert_eq!(
            (config.records.len(), config.reverse.len(), config.ip_sources.len()),
            (1, 3, 1)
        );
        assert_eq!(config.crypto_id.as_deref(), Some("yn6tkfq"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Change = fn(&mut DnsNames);
        let set: [(&str, Change); 4] = [
            ("records", |names| names.records = vec!["db A".into()]),
            ("reverse", |names| names.reverse = vec!["10.0.0.0".into()]),
            ("ip_sources", |names| names.ip_sources = vec!["docker".into()]),
            ("public_addrs", |names| names.public_addrs = vec!["here".into()]),
        ];
        for (key, change) in set {
            let error = applied(change).expect_err(key).to_string();
            assert!(error.contains(&format!("node.dns_names.{key}")), "{error}");
        }
    }
}
