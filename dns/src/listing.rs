//! Zones and tasks as plain lists, for people and programs that ask over HTTP.

use std::net::IpAddr;
use std::sync::Arc;

use model::{FrameworkInfo, Node, Task};

use crate::desired::{self, Record};
use crate::zones::is_within;
use crate::{Config, Found, Zones};

/// One record in text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name, lower case, without final dot.
    pub name: String,
    /// `A`, `AAAA`, `SRV`, `CNAME` or `PTR`.
    pub kind: &'static str,
    /// The address, the target, or target and port with a colon between; names without final dot.
    pub data: String,
}

fn address(addr: &IpAddr) -> (&'static str, String) {
    let kind = if addr.is_ipv4() { "A" } else { "AAAA" };
    (kind, addr.to_string())
}

/// The records of the zone of task names that are this task's own, whoever else shares a name with it.
pub fn task_records(task: &Task, node: &Node, framework: &FrameworkInfo, config: &Config) -> Vec<Listed> {
    let claims = desired::task(task, node, framework, config).into_iter();
    let ours = claims.filter(|claim| is_within(&claim.name, &config.domain));
    let mut out: Vec<Listed> = ours
        .filter_map(|claim| {
            let (kind, data) = match &claim.record {
                Record::Addr(addr) => address(addr),
                Record::Srv(target, port) => ("SRV", format!("{target}:{port}")),
                Record::Alias(_) | Record::Reverse(_) => return None,
            };
            Some(Listed {
                name: claim.name,
                kind,
                data,
            })
        })
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

impl Found<'_> {
    /// What a name has, sorted by kind as it is held.
    pub fn listed(&self, name: &str) -> Vec<Listed> {
        let addrs = self.addrs.iter().map(address);
        let srvs = self.srvs.iter();
        let srvs = srvs.map(|srv| ("SRV", format!("{}:{}", srv.target, srv.port)));
        let alias = self.cname.map(|target| ("CNAME", target.to_owned()));
        let reverse = self.ptr.map(|target| ("PTR", target.to_owned()));
        let all = addrs.chain(srvs).chain(alias).chain(reverse);
        all.map(|(kind, data)| Listed {
            name: name.to_owned(),
            kind,
            data,
        })
        .collect()
    }
}

impl Zones {
    /// Names that this version and an older one hold differently, in their order. What both share is not looked at.
    pub fn changed_since(&self, old: &Self) -> Vec<Arc<str>> {
        let mut names = self.names.changed(&old.names);
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use model::{NodeView, Snapshot};

    use super::*;

    #[test]
    fn only_what_differs_is_changed() {
        let view = |last| NodeView {
            ip: [10, 0, 0, last].into(),
            agent: None,
        };
        let mut names = crate::Names::new(Config::default());
        let one = names.update(&Snapshot::default(), &view(1));
        let two = names.update(&Snapshot::default(), &view(2));
        let changed: Vec<String> = two.changed_since(&one).iter().map(ToString::to_string).collect();
        assert_eq!(changed, ["ns.spartan", "thisnode.thisdcos.directory"]);
        assert!(two.changed_since(&two).is_empty());
        let crate::Lookup::Name(found) = two.lookup("thisnode.thisdcos.directory") else {
            panic!("it exists");
        };
        let listed = found.listed("thisnode.thisdcos.directory");
        assert_eq!((listed[0].kind, listed[0].data.as_str()), ("A", "10.0.0.2"));
    }
}
