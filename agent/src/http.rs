//! A small HTTP client for what tasks need: over TCP or TLS, along redirects, and never waiting for ever.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderValue, LOCATION, RANGE, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Where Debian, and Alpine in the same place, keep the authorities that the system trusts.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Redirects followed in a row; a registry's storage is one away.
const MAX_REDIRECTS: usize = 5;
/// Longest wait for a connection, its handshake and the head of an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const AGENT: HeaderValue = HeaderValue::from_static(concat!("revere/", env!("CARGO_PKG_VERSION")));

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("`{0}` is no http:// or https:// address")]
    Address(String),
    #[error("cannot reach {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("no TLS with {0}: {1}; if it speaks plain HTTP, name it in node.insecure_registries")]
    Handshake(String, std::io::Error),
    #[error("cannot speak TLS with {0}: {SYSTEM_AUTHORITIES} has no certificates; install ca-certificates")]
    NoAuthorities(String),
    #[error("{0} gives no answer within {ANSWER_WITHIN:?}")]
    Silent(String),
    #[error("{host} has sent nothing for {stall:?}")]
    Stalled { host: String, stall: Duration },
    #[error("the connection to {0} broke: {1}")]
    Broken(String, hyper::Error),
    #[error("{0} redirects without end")]
    Redirects(String),
    #[error("{0} redirects to `{1}`, which is no address or would leave TLS")]
    Location(String, String),
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Get {
    pub(crate) url: String,
    pub(crate) accept: Option<String>,
    /// Sent to the first host only, never along a redirect to another.
    pub(crate) authorization: Option<String>,
    /// First byte wanted.
    pub(crate) from: u64,
}

/// The client.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    tls: Option<Arc<ClientConfig>>,
    stall: Duration,
}

/// An answer and the host that gave it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) host: String,
    pub(crate) response: Response<Incoming>,
    stall: Duration,
}

struct Target {
    secure: bool,
    /// Without brackets, for certificates.
    name: String,
    /// `host:port`.
    authority: String,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return None,
        };
        let authority = uri.authority().filter(|one| !one.host().is_empty())?;
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Some(Self {
            secure,
            name: authority.host().trim_matches(['[', ']']).to_owned(),
            authority: format!("{}:{port}", authority.host()),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }

    /// Where a redirect leads, unless it would leave TLS.
    fn follow(&self, location: &str) -> Option<Self> {
        let scheme = if self.secure { "https" } else { "http" };
        let next = if let Some(rest) = location.strip_prefix("//") {
            Self::parse(&format!("{scheme}://{rest}"))
        } else if location.starts_with('/') {
            Self::parse(&format!("{scheme}://{}{location}", self.authority))
        } else {
            Self::parse(location)
        };
        next.filter(|next| next.secure || !self.secure)
    }
}

impl HttpClient {
    /// Reads the system's authorities once; `stall` is the longest silence inside an answer.
    pub(crate) fn new(stall: Duration) -> Self {
        Self {
            tls: system_tls().map(Arc::new),
            stall,
        }
    }

    /// Asks, along redirects.
    pub(crate) async fn get(&self, get: &Get) -> Result<Answer, HttpError> {
        let mut target = Target::parse(&get.url).ok_or_else(|| HttpError::Address(get.url.clone()))?;
        let first = target.authority.clone();
        for _ in 0..=MAX_REDIRECTS {
            let known = target.authority == first;
            let exchange = self.exchange(&target, request(&target, get, known));
            let response = timeout(ANSWER_WITHIN, exchange)
                .await
                .map_err(|_| HttpError::Silent(target.authority.clone()))??;
            if !response.status().is_redirection() {
                return Ok(Answer {
                    host: target.authority,
                    response,
                    stall: self.stall,
                });
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let location = location.unwrap_or_default().to_owned();
            let next = target.follow(&location);
            target = next.ok_or(HttpError::Location(target.authority, location))?;
        }
        Err(HttpError::Redirects(first))
    }

    async fn exchange(
        &self,
        target: &Target,
        request: Result<Request<Empty<Bytes>>, HttpError>,
    ) -> Result<Response<Incoming>, HttpError> {
        let request = request?;
        let host = || target.authority.clone();
        let stream = TcpStream::connect(&target.authority)
            .await
            .map_err(|error| HttpError::Connect(host(), error))?;
        if !target.secure {
            return send(stream, target, request).await;
        }
        let config = self.tls.clone().ok_or_else(|| HttpError::NoAuthorities(host()))?;
        let name = ServerName::try_from(target.name.clone()).map_err(|_| HttpError::Address(target.name.clone()))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| HttpError::Handshake(host(), error))?;
        send(stream, target, request).await
    }
}

fn request(target: &Target, get: &Get, known: bool) -> Result<Request<Empty<Bytes>>, HttpError> {
    let wrong = || HttpError::Address(get.url.clone());
    let mut request = Request::get(target.path.as_str())
        .header(HOST, &target.authority)
        .header(USER_AGENT, AGENT);
    if let Some(accept) = &get.accept {
        request = request.header(ACCEPT, accept);
    }
    if let Some(authorization) = get.authorization.as_ref().filter(|_| known) {
        let mut value = HeaderValue::from_str(authorization).map_err(|_| wrong())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    if get.from > 0 {
        request = request.header(RANGE, format!("bytes={}-", get.from));
    }
    request.body(Empty::new()).map_err(|_| wrong())
}

async fn send<S>(stream: S, target: &Target, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error| HttpError::Broken(target.authority.clone(), error);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends with the response's body.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(broken)
}

impl Answer {
    /// How many bytes it says it has.
    pub(crate) fn length(&self) -> Option<u64> {
        let header = self.response.headers().get(CONTENT_LENGTH)?;
        header.to_str().ok()?.parse().ok()
    }

    /// The next piece of the body; an error after a silence.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let frame = timeout(self.stall, self.response.body_mut().frame()).await;
            let frame = frame.map_err(|_| HttpError::Stalled {
                host: self.host.clone(),
                stall: self.stall,
            })?;
            match frame.transpose() {
                Err(error) => return Err(HttpError::Broken(self.host.clone(), error)),
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, or none if it is longer than `limit`.
    pub(crate) async fn whole(&mut self, limit: u64) -> Result<Option<Vec<u8>>, HttpError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
            if u64::try_from(body.len()).unwrap_or(u64::MAX) > limit {
                return Ok(None);
            }
        }
        Ok(Some(body))
    }
}

/// Trusts what the system trusts; none on a machine without authorities.
fn system_tls() -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(Path::new(SYSTEM_AUTHORITIES)).ok()?;
    let (added, _) = roots.add_parsable_certificates(found.filter_map(Result::ok));
    if added == 0 {
        return None;
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .ok()?;
    Some(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_addresses_and_never_out_of_tls() {
        let target = Target::parse("https://r.example/v2/a?x=1").expect("an address");
        assert_eq!(
            (target.authority.as_str(), target.path.as_str()),
            ("r.example:443", "/v2/a?x=1")
        );
        let follow = |location: &str| target.follow(location).map(|next| next.authority + &next.path);
        assert_eq!(follow("/b").as_deref(), Some("r.example:443/b"));
        assert_eq!(follow("//s.example/c").as_deref(), Some("s.example:443/c"));
        assert_eq!(follow("https://s.example:8443/d").as_deref(), Some("s.example:8443/d"));
        assert_eq!(follow("http://s.example/e"), None, "would leave TLS");
        assert_eq!(follow(""), None);
        assert!(Target::parse("ftp://a").is_none() && Target::parse("http:///x").is_none());
    }

    #[test]
    fn what_is_secret_stays_with_the_first_host() {
        let get = Get {
            url: "http://a.example/x".to_owned(),
            authorization: Some("Bearer s".to_owned()),
            from: 7,
            ..Get::default()
        };
        let target = Target::parse(&get.url).expect("an address");
        let first = request(&target, &get, true).expect("a request");
        assert!(first.headers().contains_key(AUTHORIZATION));
        assert_eq!(
            first.headers().get(RANGE).map(HeaderValue::as_bytes),
            Some(&b"bytes=7-"[..])
        );
        let other = request(&target, &get, false).expect("a request");
        assert!(!other.headers().contains_key(AUTHORIZATION));
    }
}
