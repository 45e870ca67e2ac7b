//! What a task's container is made of: its image, its volumes, what it may do, and what is fetched before it starts.

use std::fmt;
use std::net::IpAddr;

use crate::{KeptVolume, PersistentVolume, Secrets};

/// Whose rules a container follows (Marathon's `container.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainerKind {
    /// Mesos': the program has an init above it, and starts in the sandbox unless the image says where.
    #[default]
    Mesos,
    /// Docker's: the program is process 1, and starts in `/` unless the image says where.
    Docker,
}

/// Whether an image that the node has is asked for again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// Only when the node does not have it.
    #[default]
    IfMissing,
    /// At every start (`forcePullImage`).
    Always,
}

/// An image to take the root directory from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// As the user wrote it, for example `busybox:1` or `registry.example:5000/team/app@sha256:...`.
    pub name: String,
    /// When it is asked for.
    pub pull: Pull,
    /// Name of the credentials on the node (`pullConfig.secret`).
    pub credentials: Option<String>,
}

/// How far a container is kept from its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privilege {
    /// Docker's default capabilities, and the system call filter.
    #[default]
    Confined,
    /// All capabilities, no filter, the node's devices (`privileged`).
    Full,
}

/// Whether the default system call filter is on (`linuxInfo.seccomp`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// On.
    #[default]
    Default,
    /// Off (`unconfined`).
    Unconfined,
}

/// Shared memory and queues (`linuxInfo.ipcInfo.mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipc {
    /// An own namespace and an own /dev/shm.
    #[default]
    Private,
    /// The node's.
    Node,
}

/// Whether a volume may be written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VolumeMode {
    /// `RW`.
    #[default]
    ReadWrite,
    /// `RO`.
    ReadOnly,
}

impl VolumeMode {
    /// Marathon's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "RW",
            Self::ReadOnly => "RO",
        }
    }
}

/// A directory or file of the node that the task sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where the task sees it; without a leading slash it is in the sandbox.
    pub container_path: String,
    /// Where it is on the node; without a leading slash it is in the sandbox, and made when missing.
    pub host_path: String,
    /// Whether the task may write.
    pub mode: VolumeMode,
}

/// An argument of `docker run` that is carried out (`docker.parameters`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// `cap-add`: one more capability, without `CAP_`, or `ALL`.
    CapAdd(String),
    /// `cap-drop`: one less.
    CapDrop(String),
    /// `hostname`.
    Hostname(String),
    /// `workdir`: an absolute path.
    Workdir(String),
    /// `entrypoint`: a program in place of the image's entrypoint.
    Entrypoint(String),
    /// `read-only`: whether the root directory is.
    ReadOnly(Root),
    /// `add-host`: a line of /etc/hosts.
    AddHost(String, IpAddr),
}

/// Whether a container's root directory may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Only by what is mounted in it.
    ReadOnly,
    /// Yes; what is written ends with the task.
    Writable,
}

/// Why an argument of `docker run` is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// Not one of those.
    #[error(
        "the parameter {0} is not carried out; known are add-host, cap-add, cap-drop, entrypoint, hostname, read-only, workdir"
    )]
    Unknown(String),
    /// A value that makes no sense.
    #[error("the value of {key} must be {expected}, not `{value}`")]
    Value {
        /// Which parameter.
        key: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What it was given.
        value: String,
    },
}

/// Longest name of a machine that the kernel takes.
const MAX_HOSTNAME: usize = 64;

impl Parameter {
    /// Reads one argument.
    pub fn parse(key: &str, value: &str) -> Result<Self, ParameterError> {
        let wrong = |key, expected| ParameterError::Value {
            key,
            expected,
            value: value.to_owned(),
        };
        let capability = |key| {
            let name = value.to_ascii_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            valid
                .then(|| name.to_owned())
                .ok_or_else(|| wrong(key, "a capability such as NET_ADMIN, or ALL"))
        };
        match key {
            "cap-add" => capability("cap-add").map(Self::CapAdd),
            "cap-drop" => capability("cap-drop").map(Self::CapDrop),
            "hostname" => {
                let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
                let fits = !value.is_empty() && value.len() <= MAX_HOSTNAME && value.chars().all(valid);
                fits.then(|| Self::Hostname(value.to_owned()))
                    .ok_or_else(|| wrong("hostname", "1 to 64 letters, digits, hyphens or dots"))
            }
            "workdir" if value.starts_with('/') && !value.contains('\0') => Ok(Self::Workdir(value.to_owned())),
            "workdir" => Err(wrong("workdir", "an absolute path")),
            "entrypoint" if value.contains('\0') => Err(wrong("entrypoint", "a program")),
            "entrypoint" => Ok(Self::Entrypoint(value.to_owned())),
            "read-only" => match value {
                "true" | "" => Ok(Self::ReadOnly(Root::ReadOnly)),
                "false" => Ok(Self::ReadOnly(Root::Writable)),
                _ => Err(wrong("read-only", "true or false")),
            },
            "add-host" => value
                .split_once(':')
                .filter(|(name, _)| {
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
                })
                .and_then(|(name, address)| Some(Self::AddHost(name.to_owned(), address.parse().ok()?)))
                .ok_or_else(|| wrong("add-host", "NAME:ADDRESS")),
            other => Err(ParameterError::Unknown(other.to_owned())),
        }
    }

    /// Key and value, as [`Parameter::parse`] takes them.
    pub fn pair(&self) -> (&'static str, String) {
        match self {
            Self::CapAdd(name) => ("cap-add", name.clone()),
            Self::CapDrop(name) => ("cap-drop", name.clone()),
            Self::Hostname(name) => ("hostname", name.clone()),
            Self::Workdir(path) => ("workdir", path.clone()),
            Self::Entrypoint(program) => ("entrypoint", program.clone()),
            Self::ReadOnly(root) => ("read-only", (*root == Root::ReadOnly).to_string()),
            Self::AddHost(name, address) => ("add-host", format!("{name}:{address}")),
        }
    }
}

/// A task's container. The default is none: the node's own root directory, nothing mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Whose rules it follows.
    pub kind: ContainerKind,
    /// Where its root directory comes from; the node's own when absent.
    pub image: Option<Image>,
    /// How far it is kept from the node.
    pub privilege: Privilege,
    /// Arguments of `docker run`, in order.
    pub parameters: Vec<Parameter>,
    /// What is mounted in it, in order.
    pub volumes: Vec<Volume>,
    /// What stays on the node when the task ends, mounted before the others.
    pub persistent: Vec<PersistentVolume>,
    /// Volumes of a role that it uses, mounted with those.
    pub kept: Vec<KeptVolume>,
    /// Secrets as variables and files.
    pub secrets: Secrets,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Shared memory and queues.
    pub ipc: Ipc,
    /// MiB of /dev/shm, 64 when absent.
    pub shm_mb: Option<u64>,
}

/// Something to be brought into the sandbox before the task starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// `http://`, `https://`, `file://` or an absolute path.
    pub uri: String,
    /// Whether an archive is unpacked.
    pub extract: Extract,
    /// Whether it is made executable.
    pub permission: FetchPermission,
    /// Whether the node keeps a copy for other tasks.
    pub cache: FetchCache,
    /// Its name in the sandbox; the last part of the URI when absent.
    pub dest: Option<String>,
}

/// What is done with an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extract {
    /// Unpacked into the sandbox, if its name is an archive's.
    #[default]
    Archives,
    /// Left as it is.
    Never,
}

/// The permission of what was fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchPermission {
    /// A file to read.
    #[default]
    Data,
    /// A program; archives are not unpacked then.
    Executable,
}

/// Whether the node keeps what was fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FetchCache {
    /// Fetched anew for each task.
    #[default]
    None,
    /// Kept for other tasks.
    Keep,
}

/// What a checksum begins with in the fragment of a URI.
const CHECKSUM: &str = "#sha256=";
/// Hexadecimal digits of a SHA-256.
const CHECKSUM_DIGITS: usize = 64;

impl Fetch {
    /// The URI without the checksum that may stand at its end.
    pub fn location(&self) -> &str {
        self.uri
            .split_once(CHECKSUM)
            .map_or(&self.uri, |(location, _)| location)
    }

    /// The SHA-256 that the content must have, in small letters: `#sha256=` and 64 hexadecimal digits at the end of the
    /// URI. Others take it for a fragment, which nobody is sent.
    ///
    /// # Errors
    /// What stands there if it is no such number.
    pub fn sha256(&self) -> Result<Option<String>, &str> {
        let Some((_, digits)) = self.uri.split_once(CHECKSUM) else {
            return Ok(None);
        };
        if digits.len() == CHECKSUM_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Some(digits.to_ascii_lowercase()))
        } else {
            Err(digits)
        }
    }

    /// The name of the file in the sandbox, or none where the URI ends in no name.
    pub fn file_name(&self) -> Option<&str> {
        let path = self.uri.split(['?', '#']).next().unwrap_or_default();
        let path = path
            .split_once("://")
            .map_or(path, |(_, rest)| rest.find('/').map_or("", |slash| &rest[slash..]));
        let name = self
            .dest
            .as_deref()
            .unwrap_or_else(|| path.rsplit('/').next().unwrap_or_default());
        let name = name.trim_start_matches("./");
        (!name.is_empty() && name != "." && name != "..").then_some(name)
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.host_path, self.container_path, self.mode.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_read_back_with_the_same_meaning() {
        for (key, value) in [
            ("cap-add", "NET_ADMIN"),
            ("cap-drop", "ALL"),
            ("hostname", "db-1.example"),
            ("workdir", "/srv"),
            ("entrypoint", "/bin/run"),
            ("read-only", "true"),
            ("read-only", "false"),
            ("add-host", "db:10.0.0.1"),
            ("add-host", "db:fd01::1"),
        ] {
            let parameter = Parameter::parse(key, value).expect(key);
            assert_eq!(parameter.pair(), (key, value.to_owned()));
        }
        assert_eq!(
            Parameter::parse("cap-add", "cap_net_raw"),
            Ok(Parameter::CapAdd("NET_RAW".to_owned()))
        );
    }

    #[test]
    fn unknown_parameters_and_values_are_refused_with_a_sentence() {
        for (key, value, word) in [
            ("ipc", "host", "ipc is not carried out"),
            ("volume", "/:/host", "volume is not carried out"),
            ("cap-add", "../x", "a capability"),
            ("hostname", "a b", "letters, digits"),
            ("workdir", "srv", "an absolute path"),
            ("read-only", "maybe", "true or false"),
            ("add-host", "db", "NAME:ADDRESS"),
            ("add-host", "a\nb:10.0.0.1", "NAME:ADDRESS"),
        ] {
            let error = Parameter::parse(key, value).expect_err(key).to_string();
            assert!(error.contains(word), "{key}={value}: {error}");
        }
    }

    #[test]
    fn a_checksum_stands_at_the_end_of_a_uri() {
        let fetch = |uri: &str| Fetch {
            uri: uri.to_owned(),
            extract: Extract::Archives,
            permission: FetchPermission::Data,
            cache: FetchCache::None,
            dest: None,
        };
        let digits = "0123456789ABCDEF".repeat(4);
        let checked = fetch(&format!("https://a.example/app.tgz?sig=1#sha256={digits}"));
        assert_eq!(checked.sha256(), Ok(Some(digits.to_lowercase())));
        assert_eq!(checked.location(), "https://a.example/app.tgz?sig=1");
        assert_eq!(checked.file_name(), Some("app.tgz"));
        let plain = fetch("/opt/a#b.zip");
        assert_eq!((plain.sha256(), plain.location()), (Ok(None), "/opt/a#b.zip"));
        for bad in ["", "0123", &"g".repeat(64)] {
            assert_eq!(fetch(&format!("/opt/a#sha256={bad}")).sha256(), Err(bad));
        }
    }

    #[test]
    fn fetched_files_are_named_by_their_uri() {
        let name = |uri: &str, dest: Option<&str>| {
            let fetch = Fetch {
                uri: uri.to_owned(),
                extract: Extract::Archives,
                permission: FetchPermission::Data,
                cache: FetchCache::None,
                dest: dest.map(str::to_owned),
            };
            fetch.file_name().map(str::to_owned)
        };
        assert_eq!(
            name("http://a.example/x/app.tgz?sig=1#top", None).as_deref(),
            Some("app.tgz")
        );
        assert_eq!(
            name("file:///etc/docker.tar.gz", None).as_deref(),
            Some("docker.tar.gz")
        );
        assert_eq!(name("/opt/a.zip", Some("b.zip")).as_deref(), Some("b.zip"));
        for nameless in ["http://a.example", "http://a.example/", "http://a.example/..", "/"] {
            assert_eq!(name(nameless, None), None, "{nameless}");
        }
    }
}
