//! One HTTP request of the load generator, step by step, so that each way to fail has its own name.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dns::resolve;
use super::{FailureKind, LoadError};

/// Longest answer read; the demo server's is one short line.
const MAX_BODY: usize = 64 * 1024;

/// Kind and words of a failure.
pub(super) type Failed = (FailureKind, String);

/// Where requests go and how long each step may take.
#[derive(Debug)]
pub(super) struct Target {
    host: String,
    port: u16,
    authority: String,
    path: String,
    dns: Option<SocketAddr>,
    limit: Duration,
}

/// An open connection and the instance that answers on it, once known.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// This end's address and port.
    pub(super) local: Option<SocketAddr>,
    /// When it was open, Unix time in microseconds.
    pub(super) opened_us: u64,
    pub(super) instance: Option<String>,
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) instance: String,
    /// The server closes the connection after it.
    pub(super) last: bool,
}

impl Target {
    pub(super) fn parse(url: &str, dns: Option<SocketAddr>, limit: Duration) -> Result<Self, LoadError> {
        let bad = |why: &str| LoadError::Url {
            url: url.to_owned(),
            why: why.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| bad("it does not parse"))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("only http:// is known"));
        }
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        Ok(Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            dns,
            limit,
        })
    }

    /// Resolves and connects.
    pub(super) async fn connect(&self) -> Result<Connection, Failed> {
        let addr = match timeout(self.limit, resolve(&self.host, self.port, self.dns)).await {
            Ok(Ok(addr)) => addr,
            Ok(Err(error)) => return Err((FailureKind::Dns, error.to_string())),
            Err(_) => return Err((FailureKind::Dns, "no answer in time".to_owned())),
        };
        let stream = match timeout(self.limit, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let kind = match error.kind() {
                    ErrorKind::ConnectionRefused => FailureKind::ConnectRefused,
                    ErrorKind::TimedOut => FailureKind::ConnectTimeout,
                    ErrorKind::ConnectionReset => FailureKind::Reset,
                    _ => FailureKind::ConnectFailed,
                };
                return Err((kind, format!("{addr}: {error}")));
            }
            Err(_) => return Err((FailureKind::ConnectTimeout, format!("{addr}: no answer in time"))),
        };
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().ok();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(classify)?;
        // Ends when the sender is dropped or the peer closes; the request sees every error of it.
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            local,
            opened_us: crate::demo::unix_us(),
            instance: None,
        })
    }
}

impl Connection {
    /// Whether the peer has closed it while nothing was under way.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// One request on this connection; `last` asks the server to close it afterwards.
    pub(super) async fn request(&mut self, target: &Target, last: bool) -> Result<Answer, Failed> {
        let answer = timeout(target.limit, self.exchange(target, last)).await;
        let answer = answer.unwrap_or_else(|_| Err((FailureKind::AnswerTimeout, "no answer in time".to_owned())))?;
        self.instance = Some(answer.instance.clone());
        Ok(answer)
    }

    async fn exchange(&mut self, target: &Target, last: bool) -> Result<Answer, Failed> {
        self.sender.ready().await.map_err(classify)?;
        let mut request = Request::get(&target.path).header(HOST, &target.authority);
        if last {
            request = request.header(CONNECTION, "close");
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| (FailureKind::BadAnswer, format!("bad request: {error}")))?;
        let response = self.sender.send_request(request).await.map_err(classify)?;
        let status = response.status();
        let closes = response
            .headers()
            .get(CONNECTION)
            .is_some_and(|value| value.as_bytes() == b"close");
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => classify(*error),
            Err(error) => (FailureKind::BadAnswer, error.to_string()),
        })?;
        if status != StatusCode::OK {
            return Err((FailureKind::BadAnswer, format!("status {status}")));
        }
        let text = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
        Ok(Answer {
            instance: text.lines().next().unwrap_or_default().to_owned(),
            last: closes,
        })
    }
}

fn classify(error: hyper::Error) -> Failed {
    let kind = if error.is_parse() {
        FailureKind::BadAnswer
    } else {
        FailureKind::Reset
    };
    let cause = std::error::Error::source(&error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    (kind, format!("{error}{cause}"))
}
