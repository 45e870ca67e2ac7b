//! Records that the operator declares.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::zones::MAX_NAME;

/// One declared record, `name TYPE value` in text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRecord {
    /// Lower-case name without final dot.
    pub name: String,
    /// What it holds.
    pub data: OwnData,
}

/// What a declared record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnData {
    /// `A` or `AAAA`.
    Addr(IpAddr),
    /// `CNAME`: another name, in our zones or not.
    Alias(String),
    /// `SRV port target`.
    Service {
        /// The port.
        port: u16,
        /// The name it is at.
        target: String,
    },
}

/// Why a text declares no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnRecordError {
    /// Not of that form.
    #[error(
        "`{0}` declares no record: write `name A address`, `name AAAA address`, `name CNAME name` or `name SRV port name`"
    )]
    Syntax(String),
    /// A name that DNS does not allow.
    #[error("`{0}`: `{1}` is no domain name")]
    Name(String, String),
    /// An address that is none, or of the other family.
    #[error("`{0}`: `{1}` is no address of this record type")]
    Address(String, String),
}

impl FromStr for OwnRecord {
    type Err = OwnRecordError;

    fn from_str(text: &str) -> Result<Self, OwnRecordError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let name = |word: &str| domain_name(word).ok_or_else(|| OwnRecordError::Name(text.to_owned(), word.to_owned()));
        let address = |word: &str, v4: bool| {
            let addr = word.parse::<IpAddr>().ok().filter(|addr| addr.is_ipv4() == v4);
            addr.ok_or_else(|| OwnRecordError::Address(text.to_owned(), word.to_owned()))
        };
        let [owner, kind, rest @ ..] = words.as_slice() else {
            return Err(OwnRecordError::Syntax(text.to_owned()));
        };
        let data = match (kind.to_ascii_uppercase().as_str(), rest) {
            ("A", [addr]) => OwnData::Addr(address(addr, true)?),
            ("AAAA", [addr]) => OwnData::Addr(address(addr, false)?),
            ("CNAME", [target]) => OwnData::Alias(name(target)?),
            ("SRV", [port, target]) => OwnData::Service {
                port: port.parse().map_err(|_| OwnRecordError::Syntax(text.to_owned()))?,
                target: name(target)?,
            },
            _ => return Err(OwnRecordError::Syntax(text.to_owned())),
        };
        Ok(Self {
            name: name(owner)?,
            data,
        })
    }
}

impl fmt::Display for OwnRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.data {
            OwnData::Addr(IpAddr::V4(addr)) => write!(f, "{name} A {addr}"),
            OwnData::Addr(IpAddr::V6(addr)) => write!(f, "{name} AAAA {addr}"),
            OwnData::Alias(target) => write!(f, "{name} CNAME {target}"),
            OwnData::Service { port, target } => write!(f, "{name} SRV {port} {target}"),
        }
    }
}

/// The name in lower case without final dot, if DNS allows it: letters, digits, `-` and `_`.
pub(crate) fn domain_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let good = |label: &str| {
        let chars = label
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_');
        chars && !label.is_empty() && label.len() <= model::MAX_LABEL
    };
    (name.len() <= MAX_NAME && name.split('.').all(good)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_read_as_they_are_written() {
        for text in [
            "db.example A 10.2.3.4",
            "db.example AAAA fd00::1",
            "registry.component.thisdcos.directory CNAME leader.mesos",
            "_ldap._tcp.example SRV 389 db.example",
        ] {
            assert_eq!(text.parse::<OwnRecord>().expect(text).to_string(), text);
        }
        let read = "  DB.Example.  cname   Other.Example. "
            .parse::<OwnRecord>()
            .expect("valid");
        assert_eq!(read.to_string(), "db.example CNAME other.example");
    }

    #[test]
    fn bad_records_are_refused() {
        for bad in [
            "",
            "db A",
            "db A ::1",
            "db AAAA 1.2.3.4",
            "db MX 10 x",
            "d b A 1.2.3.4",
            "a..b A 1.2.3.4",
            "x SRV y z",
            "x! A 1.2.3.4",
        ] {
            assert!(bad.parse::<OwnRecord>().is_err(), "{bad}");
        }
    }
}
