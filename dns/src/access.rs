//! Who may ask, and who is one of the node's own clients.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::Config;

/// What a source address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// This node by a loopback address, or one of the networks in [`Config::clients`]: may ask about all names.
    Own,
    /// Anybody else: may ask about the cluster's zones.
    Other,
    /// Not to be answered with data.
    Denied,
}

impl Config {
    /// What `source` stands for. `deny` is stronger than `allow`, and both than being one of the node's own clients; this
    /// node itself can't be locked out.
    pub(crate) fn client(&self, source: IpAddr) -> Client {
        let source = source.to_canonical();
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&source));
        if source.is_loopback() {
            return Client::Own;
        }
        if within(&self.deny) {
            return Client::Denied;
        }
        if within(&self.clients) {
            return Client::Own;
        }
        if self.allow.is_empty() || within(&self.allow) {
            Client::Other
        } else {
            Client::Denied
        }
    }

    /// Whether `source` may ask about names outside the cluster's zones.
    pub fn may_forward(&self, source: IpAddr) -> bool {
        self.client(source) == Client::Own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().expect("valid")).collect()
    }

    #[test]
    fn only_the_node_and_its_containers_may_forward() {
        let config = Config {
            clients: nets(&["9.0.1.0/24", "fd01:d::/64"]),
            ..Config::default()
        };
        for (source, may) in [
            ("127.0.0.53", true),
            ("::1", true),
            ("::ffff:9.0.1.7", true),
            ("9.0.1.7", true),
            ("fd01:d::7", true),
            ("9.0.2.7", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(config.may_forward(source.parse().expect("valid")), may, "{source}");
        }
    }

    #[test]
    fn denied_is_stronger_than_allowed() {
        let config = Config {
            clients: nets(&["9.0.0.0/8"]),
            allow: nets(&["10.0.0.0/8"]),
            deny: nets(&["10.1.0.0/16", "9.9.0.0/16", "127.0.0.0/8"]),
            ..Config::default()
        };
        for (source, client) in [
            ("9.0.0.1", Client::Own),
            ("9.9.0.1", Client::Denied),
            ("10.0.0.1", Client::Other),
            ("10.1.0.1", Client::Denied),
            ("::ffff:10.1.0.1", Client::Denied),
            ("192.0.2.1", Client::Denied),
            ("2001:db8::1", Client::Denied),
            ("127.0.0.1", Client::Own),
        ] {
            assert_eq!(config.client(source.parse().expect("valid")), client, "{source}");
        }
        let open = Config::default();
        assert_eq!(open.client("192.0.2.1".parse().expect("valid")), Client::Other);
    }
}
