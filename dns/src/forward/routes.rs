//! Which servers a name goes to: the rule with the longest suffix of it.

use std::collections::HashMap;
use std::sync::Arc;

use hickory_proto::rr::Name;

use super::group::Group;
use super::settings::Forwarding;

/// All rules of a node.
#[derive(Debug)]
pub(crate) struct Routes {
    /// By suffix in lower case; the empty one is the default.
    by_suffix: HashMap<String, Arc<Group>>,
    /// Zones this node answers for itself: nothing an upstream server says about them is taken.
    ours: Vec<Name>,
}

impl Routes {
    pub(crate) fn new(forwarding: &Forwarding, default: Arc<Group>, ours: &[&str]) -> Self {
        let zones = forwarding
            .zones
            .iter()
            .map(|zone| (zone.suffix.clone(), Arc::new(Group::new(&zone.suffix, &zone.upstreams))));
        let mut by_suffix: HashMap<String, Arc<Group>> = zones.collect();
        by_suffix.insert(String::new(), default);
        Self {
            by_suffix,
            ours: ours.iter().filter_map(|zone| Name::from_ascii(zone).ok()).collect(),
        }
    }

    /// The servers for `name`.
    pub(crate) fn find(&self, name: &Name) -> Option<&Arc<Group>> {
        let mut text = String::with_capacity(name.len());
        let mut starts = Vec::new();
        for label in name.iter() {
            if !text.is_empty() {
                text.push('.');
            }
            starts.push(text.len());
            for byte in label {
                match byte {
                    // A dot inside a label is no border: no rule holds this character.
                    b'.' => text.push('\\'),
                    _ => text.push(char::from(byte.to_ascii_lowercase())),
                }
            }
        }
        let suffixes = starts.into_iter().map(|start| &text[start..]);
        suffixes.chain([""]).find_map(|suffix| self.by_suffix.get(suffix))
    }

    /// Whether records of `name` may come from the servers of `group`.
    pub(crate) fn may_tell(&self, group: &Arc<Group>, name: &Name) -> bool {
        !self.is_ours(name) && self.find(name).is_some_and(|found| Arc::ptr_eq(found, group))
    }

    /// Whether this node answers for `name` itself.
    pub(crate) fn is_ours(&self, name: &Name) -> bool {
        self.ours.iter().any(|zone| zone.zone_of(name))
    }

    /// Every group, the default's name being empty.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.by_suffix.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::settings::ForwardZone;

    #[test]
    fn the_longest_suffix_wins_and_labels_count_whole() {
        let suffixes = ["example", "corp.example", "eu.corp.example", "10.in-addr.arpa"];
        let zones = suffixes.map(|suffix| ForwardZone {
            suffix: suffix.to_owned(),
            upstreams: Vec::new(),
        });
        let forwarding = Forwarding {
            zones: zones.into(),
            ..Forwarding::default()
        };
        let routes = Routes::new(&forwarding, Arc::new(Group::new("", &[])), &["mesos"]);
        let found = |name: &Name| routes.find(name).expect("the default at least").name().to_owned();
        for (name, wanted) in [
            (".", ""),
            ("example.", "example"),
            ("www.Example.", "example"),
            ("corp.example.", "corp.example"),
            ("a.b.CORP.example.", "corp.example"),
            ("xcorp.example.", "example"),
            ("eu.corp.example.", "eu.corp.example"),
            ("us.eu.corp.example.", "eu.corp.example"),
            ("myexample.", ""),
            ("example.com.", ""),
            ("1.2.3.10.in-addr.arpa.", "10.in-addr.arpa"),
        ] {
            assert_eq!(found(&Name::from_ascii(name).expect("a name")), wanted, "{name}");
        }
        // One label `x.corp`, below `example`.
        let dotted = Name::from_labels([b"x.corp".as_slice(), b"example"]).expect("a name");
        assert_eq!(found(&dotted), "example");
        let dotted = Name::from_labels([b"x.example".as_slice()]).expect("a name");
        assert_eq!(found(&dotted), "");
        assert!(routes.is_ours(&Name::from_ascii("a.MESOS.").expect("a name")));
        assert!(!routes.is_ours(&Name::from_ascii("mesos.example.").expect("a name")));
    }
}
