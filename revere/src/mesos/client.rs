//! The operator API as a client: TCP or TLS, a token, the way over redirects to the leader.

mod tls;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, LOCATION,
};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::decode::Encoding;
use super::encode::POSITION_HEADER;
use super::pack::{self, Unpacker};
use super::protobuf;

pub use tls::TlsError;
pub(crate) use tls::config as tls_config;

/// The path of the API on masters and agents.
const API: &str = "/api/v1";

/// Redirects followed in a row; leadership changes need one.
const MAX_REDIRECTS: usize = 4;

/// Longest wait for connection, handshake and the head of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Largest answer to a single call: one agent's state, a thousand tasks of several kilobytes each.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// How the token is written into the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenScheme {
    /// `Bearer TOKEN`, RFC 6750.
    #[default]
    Bearer,
    /// `token=TOKEN`, DC/OS.
    Dcos,
}

/// What a client needs to know of the far side. Empty paths mean: none.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The encoding to ask for.
    pub encoding: Encoding,
    /// Certificates of authorities (PEM); the system's if empty.
    pub ca: PathBuf,
    /// This client's certificate chain (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
    /// File that holds the token; read anew for each request, so that a new token needs no restart.
    pub token: PathBuf,
    /// How the token is sent.
    pub scheme: TokenScheme,
}

/// Why the API could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The address is none.
    #[error("address `{0}` is wrong: write http://host:port or https://host:port")]
    Address(String),
    /// No connection.
    #[error("cannot reach {0}: {1}")]
    Tcp(String, std::io::Error),
    /// No TLS.
    #[error("no TLS with {0}: {1}; is node.master_ca the authority that signed its certificate?")]
    Handshake(String, std::io::Error),
    /// TLS was never set up.
    #[error("{0} speaks TLS, which needs certificates of authorities: set node.master_ca")]
    NoTls(String),
    /// No answer.
    #[error("{0} gave no answer in time")]
    Timeout(String),
    /// HTTP failed.
    #[error("the connection to {0} failed: {1}")]
    Http(String, hyper::Error),
    /// Refused.
    #[error("{0} answers {1}{2}")]
    Status(String, StatusCode, &'static str),
    /// A circle.
    #[error("masters redirect to each other without end, last to {0}")]
    Redirects(String),
    /// A redirect to nowhere.
    #[error("{0} redirects without saying where to")]
    NoLocation(String),
    /// A redirect that would show the token.
    #[error("{0} redirects from https to {1}: refused, it would send what is secret in the clear")]
    Downgrade(String, String),
    /// The token.
    #[error("cannot read the token in {0}: {1}")]
    Token(PathBuf, std::io::Error),
    /// An empty or odd token.
    #[error("the file {0} holds no token: write one line of printable text into it")]
    BadToken(PathBuf),
    /// An answer of another kind.
    #[error("{0} answers with `{1}`, which is neither JSON nor protobuf of Mesos")]
    ContentType(String, String),
    /// An answer packed in a way that was not asked for.
    #[error("{0} packs its stream as `{1}`, which this node cannot unpack")]
    Coding(String, String),
    /// A body that is too large or broke off.
    #[error("the answer of {0} is unreadable: {1}")]
    Body(String, String),
}

/// A client of masters and agents.
#[derive(Clone, Debug)]
pub struct Client {
    encoding: Encoding,
    tls: Option<Arc<rustls::ClientConfig>>,
    token: PathBuf,
    scheme: TokenScheme,
}

/// A stream that began.
#[derive(Debug)]
pub struct Subscription {
    /// `host:port` of the leader.
    pub leader: String,
    /// How its records are written.
    pub encoding: Encoding,
    /// RecordIO, perhaps packed.
    pub body: Incoming,
    /// What unpacks it.
    pub unpacker: Unpacker,
}

/// Where a request goes.
struct Target {
    secure: bool,
    /// Without brackets, for certificates.
    name: String,
    /// `host:port`.
    authority: String,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, ApiError> {
        let wrong = || ApiError::Address(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().filter(|one| !one.host().is_empty()).ok_or_else(wrong)?;
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            secure,
            name: authority.host().trim_matches(['[', ']']).to_owned(),
            authority: format!("{}:{port}", authority.host()),
            path: if path.is_empty() { API } else { path }.to_owned(),
        })
    }

    /// The target of a redirect. Mesos sends `//host:port/path`, and older ones a bare host.
    fn follow(&self, location: &str) -> Result<Self, ApiError> {
        let scheme = if self.secure { "https" } else { "http" };
        let url = match location.strip_prefix("//") {
            Some(rest) => format!("{scheme}://{rest}"),
            None => location.to_owned(),
        };
        let next = Self::parse(&url)?;
        if self.secure && !next.secure {
            return Err(ApiError::Downgrade(self.authority.clone(), location.to_owned()));
        }
        Ok(next)
    }
}

impl Client {
    /// A client; reads the certificates once.
    pub fn new(access: &Access) -> Result<Self, TlsError> {
        Ok(Self {
            encoding: access.encoding,
            tls: tls::config(access)?.map(Arc::new),
            token: access.token.clone(),
            scheme: access.scheme,
        })
    }

    /// Whether `https` can be spoken.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Opens the stream at `master` (a URL) or wherever it redirects to.
    pub async fn subscribe(&self, master: &str) -> Result<Subscription, ApiError> {
        self.subscribe_at(master, None).await
    }

    /// The same, by a reader that can go on at a position; empty while it has none. The stream may come packed.
    pub async fn subscribe_at(&self, master: &str, position: Option<&str>) -> Result<Subscription, ApiError> {
        let mut target = Target::parse(master)?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.post(&target, "SUBSCRIBE", position).await?;
            match response.status() {
                StatusCode::OK => return self.subscription(target, response),
                StatusCode::TEMPORARY_REDIRECT => {
                    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                    target = target.follow(location.ok_or(ApiError::NoLocation(target.authority.clone()))?)?;
                }
                status => return Err(refusal(target.authority, status)),
            }
        }
        Err(ApiError::Redirects(target.authority))
    }

    fn subscription(&self, target: Target, response: Response<Incoming>) -> Result<Subscription, ApiError> {
        let told = response.headers().get(CONTENT_TYPE);
        let encoding = match told.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()) {
            None => self.encoding,
            Some(told) => {
                Encoding::of(&told).ok_or_else(|| ApiError::ContentType(target.authority.clone(), told.clone()))?
            }
        };
        let coding = response.headers().get(CONTENT_ENCODING);
        let unpacker = match coding.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()) {
            None => Unpacker::Plain,
            Some(coding) if coding == pack::CODING => Unpacker::packed(),
            Some(coding) => return Err(ApiError::Coding(target.authority, coding)),
        };
        Ok(Subscription {
            leader: target.authority,
            encoding,
            unpacker,
            body: response.into_body(),
        })
    }

    /// One call without arguments, for example `GET_STATE`; its answer in JSON.
    pub async fn call(&self, url: &str, kind: &str) -> Result<Value, ApiError> {
        let target = Target::parse(url)?;
        let json = Self {
            encoding: Encoding::Json,
            ..self.clone()
        };
        let response = json.post(&target, kind, None).await?;
        Self::whole(target.authority, response).await
    }

    /// The JSON in an answer.
    async fn whole(authority: String, response: Response<Incoming>) -> Result<Value, ApiError> {
        if response.status() != StatusCode::OK {
            return Err(refusal(authority, response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
        let bytes = timeout(ANSWER_TIMEOUT, body)
            .await
            .map_err(|_| ApiError::Timeout(authority.clone()))?
            .map_err(|error| ApiError::Body(authority.clone(), error.to_string()))?
            .to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| ApiError::Body(authority, error.to_string()))
    }

    /// The same without its token, for others than masters.
    pub fn without_token(&self) -> Self {
        Self {
            token: PathBuf::new(),
            ..self.clone()
        }
    }

    /// Posts a JSON document to any URL, or gets it; its answer in JSON.
    pub async fn json(&self, url: &str, document: Option<&Value>) -> Result<Value, ApiError> {
        let target = Target::parse(url)?;
        let request = match document {
            Some(_) => Request::post(target.path.as_str()),
            None => Request::get(target.path.as_str()),
        };
        let body = document.map(Value::to_string).unwrap_or_default();
        let request = request
            .header(HOST, &target.authority)
            .header(CONTENT_TYPE, Encoding::Json.content_type())
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| ApiError::Address(target.authority.clone()))?;
        let exchange = timeout(ANSWER_TIMEOUT, self.exchange(&target, request)).await;
        let response = exchange.map_err(|_| ApiError::Timeout(target.authority.clone()))??;
        Self::whole(target.authority, response).await
    }

    async fn post(&self, target: &Target, kind: &str, position: Option<&str>) -> Result<Response<Incoming>, ApiError> {
        let mut request = self.request(target, kind).await?;
        if let Some(position) = position.and_then(|position| HeaderValue::from_str(position).ok()) {
            request.headers_mut().insert(POSITION_HEADER, position);
            let coding = HeaderValue::from_static(pack::CODING);
            request.headers_mut().insert(ACCEPT_ENCODING, coding);
        }
        timeout(ANSWER_TIMEOUT, self.exchange(target, request))
            .await
            .map_err(|_| ApiError::Timeout(target.authority.clone()))?
    }

    async fn exchange(&self, target: &Target, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ApiError> {
        let tcp = |error| ApiError::Tcp(target.authority.clone(), error);
        let stream = TcpStream::connect(&target.authority).await.map_err(tcp)?;
        stream.set_nodelay(true).map_err(tcp)?;
        if !target.secure {
            return send(stream, target, request).await;
        }
        let config = self
            .tls
            .clone()
            .ok_or_else(|| ApiError::NoTls(target.authority.clone()))?;
        let name = ServerName::try_from(target.name.clone()).map_err(|_| ApiError::Address(target.name.clone()))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| ApiError::Handshake(target.authority.clone(), error))?;
        send(stream, target, request).await
    }

    async fn request(&self, target: &Target, kind: &str) -> Result<Request<Full<Bytes>>, ApiError> {
        let call = json!({"type": kind});
        let body = match self.encoding {
            Encoding::Json => call.to_string().into_bytes(),
            Encoding::Protobuf => protobuf::from_json(&protobuf::CALL, &call),
        };
        let mut request = Request::post(target.path.as_str())
            .header(HOST, &target.authority)
            .header(CONTENT_TYPE, self.encoding.content_type())
            .header(ACCEPT, self.encoding.content_type());
        if !self.token.as_os_str().is_empty() {
            request = request.header(AUTHORIZATION, self.authorization().await?);
        }
        request
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| ApiError::Address(target.authority.clone()))
    }

    async fn authorization(&self) -> Result<HeaderValue, ApiError> {
        let text = tokio::fs::read_to_string(&self.token)
            .await
            .map_err(|error| ApiError::Token(self.token.clone(), error))?;
        let bad = || ApiError::BadToken(self.token.clone());
        let token = text.trim();
        if token.is_empty() {
            return Err(bad());
        }
        let written = match self.scheme {
            TokenScheme::Bearer => format!("Bearer {token}"),
            TokenScheme::Dcos => format!("token={token}"),
        };
        let mut value = HeaderValue::from_str(&written).map_err(|_| bad())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn refusal(authority: String, status: StatusCode) -> ApiError {
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ": set node.master_token_file to a token that it accepts",
        StatusCode::SERVICE_UNAVAILABLE => ": it is starting, or knows no leader",
        _ => "",
    };
    ApiError::Status(authority, status, hint)
}

async fn send<S>(stream: S, target: &Target, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ApiError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http = |error| ApiError::Http(target.authority.clone(), error);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
    // Ends with the response's body.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(http)
}
