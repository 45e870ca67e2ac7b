//! The name of an image: which registry, directory or file it is in, and which of its versions is meant.

use std::fmt;
use std::path::PathBuf;

use super::digest::Digest;

/// The registry of names that give none, and the host that serves it.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// The version of names that give none.
const LATEST: &str = "latest";

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A registry.
    Registry {
        /// `host[:port]` to connect to.
        host: String,
        /// `team/app`.
        repository: String,
        version: Version,
    },
    /// A directory in the OCI image layout, and the version's name in its index.
    Layout { path: PathBuf, version: Option<String> },
    /// A tar file: `docker save`'s or an OCI layout's, and the name in it.
    Archive { path: PathBuf, version: Option<String> },
}

/// Which version of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tag(String),
    Digest(Digest),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Why a name names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` names no image: {fault}; write REPOSITORY[:TAG], HOST:PORT/REPOSITORY[:TAG][@sha256:DIGEST], oci:/DIRECTORY[:TAG], oci-archive:/FILE or docker-archive:/FILE"
)]
pub(crate) struct ReferenceError {
    name: String,
    fault: &'static str,
}

impl Source {
    /// Reads a name as Docker does, and those of local images as skopeo does.
    pub(crate) fn parse(name: &str) -> Result<Self, ReferenceError> {
        let wrong = |fault| ReferenceError {
            name: name.to_owned(),
            fault,
        };
        if let Some(rest) = name.strip_prefix("oci:") {
            let (path, version) = local(rest).ok_or_else(|| wrong("the directory must be an absolute path"))?;
            return Ok(Self::Layout { path, version });
        }
        let archive = ["oci-archive:", "docker-archive:"]
            .into_iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        if let Some(rest) = archive {
            let (path, version) = local(rest).ok_or_else(|| wrong("the file must be an absolute path"))?;
            return Ok(Self::Archive { path, version });
        }
        let (named, digest) = match name.split_once('@') {
            Some((named, digest)) => {
                let digest =
                    Digest::parse(digest).ok_or_else(|| wrong("the digest must be sha256: and 64 hex digits"))?;
                (named, Some(digest))
            }
            None => (name, None),
        };
        // A colon after the last slash begins a tag, one before it a port.
        let slash = named.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match named[slash..].split_once(':') {
            Some((_, tag)) => (&named[..named.len() - tag.len() - 1], Some(tag)),
            None => (named, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(
                "a tag has 1 to 128 letters, digits, dots, hyphens and underscores",
            ));
        }
        let (host, repository) = split_host(path);
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if !host.bytes().all(valid) || host.starts_with(['.', '-', ':']) {
            return Err(wrong("its registry is no HOST:PORT"));
        }
        if !is_repository(&repository) {
            return Err(wrong(
                "a repository has lower-case letters, digits, dots, hyphens, underscores and slashes",
            ));
        }
        let version = match digest {
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.unwrap_or(LATEST).to_owned()),
        };
        Ok(Self::Registry {
            host,
            repository,
            version,
        })
    }
}

/// The first part is a host if it could be no repository's: a dot, a port, or localhost.
fn split_host(path: &str) -> (String, String) {
    let hub = |repository: String| (DOCKER_HUB.1.to_owned(), repository);
    match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            if first == DOCKER_HUB.0 || first == "index.docker.io" {
                return hub(if rest.contains('/') {
                    rest.to_owned()
                } else {
                    format!("library/{rest}")
                });
            }
            (first.to_owned(), rest.to_owned())
        }
        Some(_) => hub(path.to_owned()),
        None => hub(format!("library/{path}")),
    }
}

fn is_tag(tag: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(valid) && !tag.starts_with(['.', '-'])
}

fn is_repository(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let part = |part: &str| {
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        part.bytes().all(valid) && ends(part.bytes().next()) && ends(part.bytes().last())
    };
    name.len() <= 255 && name.split('/').all(part)
}

/// `/path[:version]`; a version may have slashes and colons of its own.
fn local(text: &str) -> Option<(PathBuf, Option<String>)> {
    let (path, version) = match text.split_once(':') {
        Some((path, version)) => (path, Some(version.to_owned())),
        None => (text, None),
    };
    path.starts_with('/').then(|| (path.into(), version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(name: &str) -> (String, String, String) {
        match Source::parse(name).expect(name) {
            Source::Registry {
                host,
                repository,
                version,
            } => (host, repository, version.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (name, host, repository, version) in [
            ("busybox", "registry-1.docker.io", "library/busybox", "latest"),
            ("busybox:1", "registry-1.docker.io", "library/busybox", "1"),
            ("team/app:v2", "registry-1.docker.io", "team/app", "v2"),
            ("docker.io/busybox", "registry-1.docker.io", "library/busybox", "latest"),
            ("localhost/app", "localhost", "app", "latest"),
            ("10.0.0.1:5000/a/b/c:x", "10.0.0.1:5000", "a/b/c", "x"),
            ("quay.io/a/b", "quay.io", "a/b", "latest"),
            (&format!("r:5000/app:1@{digest}"), "r:5000", "app", &digest),
        ] {
            assert_eq!(
                registry(name),
                (host.to_owned(), repository.to_owned(), version.to_owned()),
                "{name}"
            );
        }
    }

    #[test]
    fn local_images_have_a_path_and_perhaps_a_version() {
        assert_eq!(
            Source::parse("oci:/srv/images/app:v1"),
            Ok(Source::Layout {
                path: "/srv/images/app".into(),
                version: Some("v1".to_owned())
            })
        );
        assert_eq!(
            Source::parse("docker-archive:/srv/app.tar:team/app:1"),
            Ok(Source::Archive {
                path: "/srv/app.tar".into(),
                version: Some("team/app:1".to_owned())
            })
        );
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for name in [
            "",
            "UPPER",
            "a//b",
            "a:",
            "a:b c",
            "a@sha256:12",
            "a@md5:x",
            "../x",
            "oci:relative",
            "r:5000/",
            "a/../b",
        ] {
            let error = Source::parse(name).expect_err(name).to_string();
            assert!(error.contains("names no image"), "{error}");
        }
    }
}
