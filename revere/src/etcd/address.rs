//! `etcd://host:port,host:port/prefix`, taken apart.

/// Port of etcd's clients.
const PORT: &str = "2379";

/// Where the keys lie if the address does not say.
const PREFIX: &str = "/revere";

/// An address of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdAddress {
    /// `host:port` of each member.
    pub(crate) servers: Vec<String>,
    /// Spoken over TLS.
    pub(crate) secure: bool,
    /// Begins with a slash and does not end in one.
    pub(crate) prefix: String,
}

impl EtcdAddress {
    /// Whether it is meant to be one.
    #[must_use]
    pub fn is_meant(url: &str) -> bool {
        url.starts_with("etcd://") || url.starts_with("etcds://")
    }

    /// Reads `etcd[s]://host[:port][,host[:port]...][/prefix]`.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let (secure, rest) = match url.strip_prefix("etcds://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("etcd://")?),
        };
        let (servers, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = match prefix.trim_end_matches('/') {
            "" => PREFIX.to_owned(),
            given => format!("/{given}"),
        };
        let plain = prefix.bytes().all(|byte| byte.is_ascii_graphic()) && !prefix.contains("//");
        let servers = servers.split(',').map(server).collect::<Option<Vec<_>>>()?;
        plain.then_some(Self {
            servers,
            secure,
            prefix,
        })
    }

    /// As [`parse`](Self::parse) reads it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.secure { "etcds" } else { "etcd" };
        format!("{scheme}://{}{}", self.servers.join(","), self.prefix)
    }
}

/// `host:port`, with brackets around an IPv6 address.
fn server(text: &str) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, PORT),
    };
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let good = match bare {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))
        }
    };
    (good && port.parse::<u16>().is_ok_and(|port| port > 0)).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let read = |url: &str| EtcdAddress::parse(url).map(|address| address.url());
        for (url, wanted) in [
            ("etcd://a", "etcd://a:2379/revere"),
            (
                "etcd://a:1,10.0.0.1,[::1]:5/x/y/",
                "etcd://a:1,10.0.0.1:2379,[::1]:5/x/y",
            ),
            ("etcds://[::1]", "etcds://[::1]:2379/revere"),
        ] {
            assert_eq!(read(url).as_deref(), Some(wanted), "{url}");
            assert_eq!(read(wanted).as_deref(), Some(wanted), "{url}");
        }
        for url in [
            "etcd://",
            "etcd://a,,b",
            "etcd://a:0",
            "etcd://a:99999",
            "etcd://me:secret@a:1",
            "etcd://a:1/x//y",
            "etcd://a:1/x y",
            "http://a:1",
            "etcd://::1",
        ] {
            assert_eq!(read(url), None, "{url}");
        }
    }
}
