//! The machine's resolver file: this node's while it answers names, and put back as it was afterwards.
//!
//! What stood there before is kept in the state directory, so that whoever comes next can put it back: this daemon at
//! its end, the standby when its time is over, or the next daemon.

mod config;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt::Write as _, fs};

use tokio::sync::watch;
use tokio::time::interval;

use super::config::Settings;

pub(super) use config::Resolving;

/// First line of a file that is a node's.
const MARK: &str =
    "# Written by revere node, which keeps the file that was here and puts it back (node.resolv_conf).\n";

/// In the state directory: what stood there before.
const BEFORE: &str = "resolv.conf.before";

/// The standard place.
pub(super) const SYSTEM: &str = "/etc/resolv.conf";

/// Servers that C libraries read from the file.
const MAX_SERVERS: usize = 3;

/// Longer than the name server takes to say SERVFAIL when all three tries are counted (4 s).
const OPTIONS: &str = "options timeout:2 attempts:3\n";

/// Why the file could not be taken or put back.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}; give this user the right to, or clear node.resolv_conf")]
pub(super) struct ResolverError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ResolverError {
    let path = path.to_owned();
    move |source| ResolverError { what, path, source }
}

/// What may stand in a file's place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Nothing,
    Link(PathBuf),
    File { mode: u32, bytes: Vec<u8> },
}

impl Content {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nothing),
            other => other?,
        };
        if metadata.is_symlink() {
            return Ok(Self::Link(fs::read_link(path)?));
        }
        Ok(Self::File {
            mode: metadata.permissions().mode() & 0o7777,
            bytes: fs::read(path)?,
        })
    }

    fn is_ours(&self) -> bool {
        matches!(self, Self::File { bytes, .. } if bytes.starts_with(MARK.as_bytes()))
    }

    /// A first line that people can read, then the bytes.
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Nothing => b"nothing\n".to_vec(),
            Self::Link(target) => [b"link ", target.as_os_str().as_bytes()].concat(),
            Self::File { mode, bytes } => [format!("file {mode:o}\n").as_bytes(), bytes].concat(),
        }
    }

    fn decode(kept: &[u8]) -> Option<Self> {
        if let Some(target) = kept.strip_prefix(b"link ") {
            return Some(Self::Link(Path::new(std::ffi::OsStr::from_bytes(target)).to_owned()));
        }
        if kept == b"nothing\n" {
            return Some(Self::Nothing);
        }
        let end = kept.iter().position(|byte| *byte == b'\n')?;
        let (head, bytes) = kept.split_at(end + 1);
        let mode = std::str::from_utf8(head).ok()?.strip_prefix("file ")?.trim_end();
        Some(Self::File {
            mode: u32::from_str_radix(mode, 8).ok()?,
            bytes: bytes.to_vec(),
        })
    }

    /// Makes it so, in one step where the file can be replaced.
    fn put(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("revere-new");
        let placed = match self {
            Self::Nothing => return fs::remove_file(path),
            Self::Link(target) => symlink(target, &beside).and_then(|()| fs::rename(&beside, path)),
            Self::File { mode, bytes } => fs::write(&beside, bytes)
                .and_then(|()| fs::set_permissions(&beside, fs::Permissions::from_mode(*mode)))
                .and_then(|()| fs::rename(&beside, path)),
        };
        let Err(error) = placed else { return Ok(()) };
        // Not there, or already gone.
        let _ = fs::remove_file(&beside);
        match (self, fs::symlink_metadata(path)) {
            // A file that is mounted by itself, as in containers, can only be written into.
            (Self::File { bytes, .. }, Ok(there)) if there.is_file() => fs::write(path, bytes),
            _ => Err(error),
        }
    }
}

/// The file, and what this node wants in it.
#[derive(Clone, Debug)]
pub(super) struct ResolverFile {
    path: PathBuf,
    before: PathBuf,
    text: String,
    /// For a file whose earlier content is lost.
    upstreams: Vec<SocketAddr>,
}

impl ResolverFile {
    pub(super) fn new(
        path: &Path,
        state_dir: &Path,
        servers: &[IpAddr],
        search: &[String],
        upstreams: &[SocketAddr],
    ) -> Self {
        Self {
            path: path.to_owned(),
            before: state_dir.join(BEFORE),
            text: format!("{MARK}{}", text(servers, search)),
            upstreams: upstreams.to_vec(),
        }
    }

    /// Makes the file this node's, keeping what is there; `false` if it is already.
    pub(super) fn take(&self) -> Result<bool, ResolverError> {
        let now = Content::of(&self.path).map_err(error("read", &self.path))?;
        let wanted = Content::File {
            mode: 0o644,
            bytes: self.text.clone().into_bytes(),
        };
        if matches!(&now, Content::File { bytes, .. } if bytes == self.text.as_bytes()) {
            return Ok(false);
        }
        if !now.is_ours() {
            let beside = self.before.with_extension("new");
            fs::write(&beside, now.encode())
                .and_then(|()| fs::File::open(&beside)?.sync_data())
                .and_then(|()| fs::rename(&beside, &self.before))
                .map_err(error("keep a copy in", &self.before))?;
        }
        wanted.put(&self.path).map_err(error("write", &self.path))?;
        Ok(true)
    }

    /// Puts back what was there, unless somebody else has written the file since; `false` then.
    pub(super) fn give_back(&self) -> Result<bool, ResolverError> {
        let now = Content::of(&self.path).map_err(error("read", &self.path))?;
        let ours = now.is_ours();
        if ours {
            let kept = fs::read(&self.before).ok().and_then(|kept| Content::decode(&kept));
            let servers: Vec<IpAddr> = self.upstreams.iter().map(SocketAddr::ip).collect();
            let back = kept.unwrap_or_else(|| Content::File {
                mode: 0o644,
                bytes: text(&servers, &[]).into_bytes(),
            });
            back.put(&self.path).map_err(error("put back", &self.path))?;
        }
        match fs::remove_file(&self.before) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(error("remove the copy", &self.before)(source))
            }
            _ => Ok(ours),
        }
    }
}

/// Between two looks whether somebody else has written the file.
const LOOK: Duration = Duration::from_secs(10);

/// Takes the file once names are answered, and again when somebody else has written it, for ever.
pub(super) async fn keep(file: ResolverFile, mut published: watch::Receiver<Arc<dns::Zones>>) {
    // Until a picture is there the name server says SERVFAIL, and this node may need a name to reach its master.
    if published.wait_for(|zones| !zones.zones().is_empty()).await.is_err() {
        return std::future::pending().await;
    }
    let mut look = interval(LOOK);
    let mut told = None;
    loop {
        look.tick().await;
        match file.take() {
            Ok(true) => {
                told = None;
                tracing::info!(path = %file.path.display(), "the resolver file names this node's name server");
            }
            Ok(false) => told = None,
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::warn!("{error}");
                    told = Some(error);
                }
            }
        }
    }
}

/// Puts the file back, if it is this node's; one that was taken under earlier settings as well.
pub(super) fn give_back(settings: &Settings) {
    let earlier = || {
        ResolverFile::new(
            Path::new(SYSTEM),
            &settings.config.state_dir,
            &[],
            &[],
            &settings.dns_upstreams,
        )
    };
    let file = settings.resolver.clone();
    let file = file.or_else(|| Some(earlier()).filter(|earlier| earlier.before.exists()));
    match file.map(|file| file.give_back()) {
        Some(Ok(true)) => tracing::info!("the resolver file is as it was before"),
        Some(Err(error)) => tracing::error!("{error}"),
        Some(Ok(false)) | None => {}
    }
}

/// The text of a resolver file with these servers and search domains.
pub(super) fn text(servers: &[IpAddr], search: &[String]) -> String {
    let mut text = String::new();
    for server in servers.iter().take(MAX_SERVERS) {
        // Writing into a text cannot fail.
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    text + OPTIONS
}

/// The resolver file as it was before any node took it.
pub(super) fn original(path: &Path, state_dir: &Path) -> String {
    let content = Content::of(path).unwrap_or(Content::Nothing);
    let content = if content.is_ours() {
        let kept = fs::read(state_dir.join(BEFORE)).ok();
        kept.and_then(|kept| Content::decode(&kept)).unwrap_or(Content::Nothing)
    } else {
        content
    };
    let bytes = match content {
        Content::Nothing => Vec::new(),
        Content::File { bytes, .. } => bytes,
        // Relative to the directory that the link is in.
        Content::Link(target) => fs::read(path.parent().unwrap_or(Path::new("/")).join(target)).unwrap_or_default(),
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name servers of a resolver file.
pub(super) fn nameservers(text: &str) -> Vec<SocketAddr> {
    words(text, "nameserver")
        .filter_map(|word| Some(SocketAddr::new(word.parse().ok()?, 53)))
        .collect()
}

/// Its search domains; the last line that names some counts.
pub(super) fn search(text: &str) -> Vec<String> {
    let line = |line: &&str| ["search", "domain"].contains(&line.split_whitespace().next().unwrap_or_default());
    let last = text.lines().rfind(line).unwrap_or_default();
    last.split_whitespace().skip(1).map(str::to_owned).collect()
}

fn words<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        (words.next()? == key).then(|| words.next())?
    })
}

/// Addresses by which the machine's own programs reach a name server that listens on these.
pub(super) fn servers(listen: &[SocketAddr]) -> Vec<IpAddr> {
    let on_53 = listen.iter().filter(|addr| addr.port() == 53);
    on_53
        .map(|addr| match addr.ip() {
            ip if !ip.is_unspecified() => ip,
            _ => Ipv4Addr::LOCALHOST.into(),
        })
        .collect()
}

#[cfg(test)]
#[path = "resolver/tests.rs"]
mod tests;
