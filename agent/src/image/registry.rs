//! The registry HTTP API, version 2: manifests and blobs, with whatever the registry wants to see first.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::WWW_AUTHENTICATE;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::Progress;
use super::credentials::{Challenge, Credentials};
use super::digest::Digest;
use super::manifest::{Descriptor, MANIFESTS, MAX_DOCUMENT};
use crate::http::{Answer, Get, HttpClient, HttpError};

/// Tries for one blob; each goes on where the last one ended.
const TRIES: u32 = 4;
/// Pause before another try.
const PAUSE: Duration = Duration::from_millis(300);

/// Why a registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the registry {host} has no image {repository}:{version}")]
    NoImage {
        host: String,
        repository: String,
        version: String,
    },
    #[error(
        "the registry {host} refuses to give {repository} ({status}): give this node credentials for it in node.image_credentials, or name them in pullConfig; a missing image may be refused like this too"
    )]
    Refused {
        host: String,
        repository: String,
        status: StatusCode,
    },
    #[error("the registry {host} answers {status} when asked for {what}")]
    Status {
        host: String,
        what: String,
        status: StatusCode,
    },
    #[error("{what} from the registry {host} is not what it should be: its digest is {found}, not {wanted}")]
    Digest {
        host: String,
        what: &'static str,
        found: Digest,
        wanted: Digest,
    },
    #[error("a document from the registry {0} is longer than {MAX_DOCUMENT} bytes")]
    Long(String),
    #[error("a layer from the registry {host} has {found} bytes, not {wanted} as its manifest says")]
    Size { host: String, found: u64, wanted: u64 },
    #[error("the registry {0} asks for a kind of login that is not known: {1}")]
    Login(String, String),
    #[error("cannot keep a layer in {0}: {1}")]
    Disk(String, std::io::Error),
}

impl RegistryError {
    /// Whether another try may do better.
    fn is_transient(&self) -> bool {
        match self {
            Self::Http(error) => !matches!(error, HttpError::Address(_) | HttpError::Location(..)),
            Self::Status { status, .. } => status.is_server_error(),
            Self::Size { found, wanted, .. } => found < wanted,
            _ => false,
        }
    }
}

/// One repository of a registry.
#[derive(Debug)]
pub(crate) struct Registry<'a> {
    pub(crate) http: &'a HttpClient,
    pub(crate) host: &'a str,
    pub(crate) repository: &'a str,
    pub(crate) scheme: &'static str,
    pub(crate) credentials: Option<Credentials>,
    /// What was shown last with success, or is to be shown.
    pub(crate) authorization: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry<'_> {
    async fn get(&self, path: &str, accept: Option<String>, from: u64) -> Result<Answer, RegistryError> {
        let mut get = Get {
            url: format!("{}://{}/v2/{}/{path}", self.scheme, self.host, self.repository),
            accept,
            authorization: self.authorization.lock().await.clone(),
            from,
        };
        let answer = self.http.get(&get).await?;
        if answer.response.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let header = answer.response.headers().get(WWW_AUTHENTICATE);
        let header = header
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let challenge = Challenge::parse(&header).ok_or_else(|| RegistryError::Login(self.host.to_owned(), header))?;
        let shown = self.log_in(&challenge, answer.response.status()).await?;
        get.authorization = Some(shown.clone());
        *self.authorization.lock().await = Some(shown);
        Ok(self.http.get(&get).await?)
    }

    /// What to show: a password, or a token for it.
    async fn log_in(&self, challenge: &Challenge, status: StatusCode) -> Result<String, RegistryError> {
        let basic = self.credentials.as_ref().map(Credentials::basic);
        let Some(url) = challenge.token_url(self.repository) else {
            return basic.ok_or_else(|| self.refused(status));
        };
        let get = Get {
            url,
            authorization: basic,
            ..Get::default()
        };
        let mut answer = self.http.get(&get).await?;
        if answer.response.status() != StatusCode::OK {
            return Err(self.refused(answer.response.status()));
        }
        let body = answer.whole(MAX_DOCUMENT).await?.unwrap_or_default();
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        let token =
            token.ok_or_else(|| RegistryError::Login(self.host.to_owned(), "a token, and gives none".to_owned()))?;
        Ok(format!("Bearer {token}"))
    }

    fn refused(&self, status: StatusCode) -> RegistryError {
        RegistryError::Refused {
            host: self.host.to_owned(),
            repository: self.repository.to_owned(),
            status,
        }
    }

    fn check(&self, answer: &Answer, what: &str) -> Result<(), RegistryError> {
        match answer.response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(()),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(self.refused(status)),
            status => Err(RegistryError::Status {
                host: self.host.to_owned(),
                what: what.to_owned(),
                status,
            }),
        }
    }

    /// A manifest or index by tag or digest.
    pub(crate) async fn manifest(&self, version: &str) -> Result<Vec<u8>, RegistryError> {
        let mut answer = self
            .get(&format!("manifests/{version}"), Some(MANIFESTS.join(", ")), 0)
            .await?;
        if answer.response.status() == StatusCode::NOT_FOUND {
            return Err(RegistryError::NoImage {
                host: self.host.to_owned(),
                repository: self.repository.to_owned(),
                version: version.to_owned(),
            });
        }
        self.check(&answer, "the manifest")?;
        let body = answer.whole(MAX_DOCUMENT).await?;
        let body = body.ok_or_else(|| RegistryError::Long(self.host.to_owned()))?;
        match Digest::parse(version) {
            Some(wanted) => self.verified(body, &wanted, "the manifest"),
            None => Ok(body),
        }
    }

    /// A small blob: the configuration.
    pub(crate) async fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let mut answer = self.get(&format!("blobs/{}", descriptor.digest), None, 0).await?;
        self.check(&answer, "the configuration")?;
        let body = answer.whole(MAX_DOCUMENT).await?;
        let body = body.ok_or_else(|| RegistryError::Long(self.host.to_owned()))?;
        self.verified(body, &descriptor.digest, "the configuration")
    }

    fn verified(&self, body: Vec<u8>, wanted: &Digest, what: &'static str) -> Result<Vec<u8>, RegistryError> {
        let found = Digest::of(&body);
        if found == *wanted {
            return Ok(body);
        }
        Err(RegistryError::Digest {
            host: self.host.to_owned(),
            what,
            found,
            wanted: wanted.clone(),
        })
    }

    /// A layer into a file, going on where an earlier try ended. The digest is for the caller to check.
    pub(crate) async fn layer(
        &self,
        descriptor: &Descriptor,
        file: &Path,
        progress: &Progress,
    ) -> Result<(), RegistryError> {
        let mut attempt = 1;
        loop {
            match self.layer_once(descriptor, file, progress).await {
                Err(error) if attempt < TRIES && error.is_transient() => {
                    tracing::warn!(host = self.host, attempt, "{error}; trying again");
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn layer_once(&self, descriptor: &Descriptor, path: &Path, progress: &Progress) -> Result<(), RegistryError> {
        let disk = |error| RegistryError::Disk(path.display().to_string(), error);
        let mut file = File::options().append(true).create(true).open(path).map_err(disk)?;
        let mut have = file.seek(SeekFrom::End(0)).map_err(disk)?;
        if have > descriptor.size {
            file.set_len(0).map_err(disk)?;
            have = 0;
        }
        progress.layer(have);
        if have == descriptor.size {
            return Ok(());
        }
        let mut answer = self.get(&format!("blobs/{}", descriptor.digest), None, have).await?;
        if answer.response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            file.set_len(0).map_err(disk)?;
            have = 0;
            answer = self.get(&format!("blobs/{}", descriptor.digest), None, 0).await?;
        }
        self.check(&answer, &format!("the layer {}", descriptor.digest))?;
        if have > 0 && answer.response.status() == StatusCode::OK {
            // It sends all of it, whatever was asked for.
            file.set_len(0).map_err(disk)?;
            have = 0;
        }
        while let Some(chunk) = answer.chunk().await? {
            have += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            if have > descriptor.size {
                break;
            }
            file.write_all(&chunk).map_err(disk)?;
            progress.layer(have);
        }
        if have == descriptor.size {
            return Ok(());
        }
        Err(RegistryError::Size {
            host: self.host.to_owned(),
            found: have,
            wanted: descriptor.size,
        })
    }
}

#[cfg(test)]
#[path = "registry/tests.rs"]
mod tests;
