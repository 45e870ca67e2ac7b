//! How an HTTP/1.1 connection to the master's API port becomes a stream of frames, on both sides.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue, LOCATION, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::codec::Framed;

use super::{AgentMessage, FrameCodec, MasterMessage};

/// Where agents connect.
pub const PATH: &str = "/revere/v1/agent";
const PROTOCOL: HeaderValue = HeaderValue::from_static("revere-agent/1");
const UPGRADE_TOKEN: HeaderValue = HeaderValue::from_static("Upgrade");

/// Longer waits for the TCP connection and the answer are given up, for the caller to try again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The agent's end: sends [`AgentMessage`]s, receives [`MasterMessage`]s.
pub type AgentStream = Framed<TokioIo<Upgraded>, FrameCodec<AgentMessage, MasterMessage>>;
/// The master's end.
pub type MasterStream = Framed<TokioIo<Upgraded>, FrameCodec<MasterMessage, AgentMessage>>;

/// Why an agent could not connect.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is no `http://host:port`.
    #[error("master address `{0}` is wrong: write http://host:port, for example http://10.0.0.1:5050")]
    Address(String),
    /// No TCP connection.
    #[error("cannot reach the master at {address}: {source}")]
    Tcp {
        /// host:port.
        address: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("the master at {0} does not answer")]
    Timeout(String),
    /// HTTP failed.
    #[error("the server at {address} does not speak HTTP/1.1: {source}")]
    Http {
        /// host:port.
        address: String,
        /// hyper's error.
        source: hyper::Error,
    },
    /// Both send on.
    #[error("the master at {0} sends this node to {1}, which does not lead either: an election is on")]
    Elsewhere(String, String),
    /// Something else listens there.
    #[error("the server at {address} answers {status} to an agent: is it a revere master of this release?")]
    Refused {
        /// host:port.
        address: String,
        /// Its answer.
        status: StatusCode,
    },
}

/// Connects to the master of that URL (`http://host:port`).
pub async fn connect(url: &str) -> Result<AgentStream, ConnectError> {
    let address = authority(url)?;
    let answer = match tokio::time::timeout(CONNECT_TIMEOUT, dial(&address)).await {
        Ok(result) => result?,
        Err(_) => return Err(ConnectError::Timeout(address)),
    };
    match answer {
        Dialled::Stream(stream) => Ok(stream),
        // A master that does not lead knows who does; once is enough, for two that name each other.
        Dialled::Elsewhere(leader) => match tokio::time::timeout(CONNECT_TIMEOUT, dial(&leader)).await {
            Ok(Ok(Dialled::Stream(stream))) => Ok(stream),
            Ok(Ok(Dialled::Elsewhere(_))) => Err(ConnectError::Elsewhere(address, leader)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ConnectError::Timeout(leader)),
        },
    }
}

/// What a server makes of an agent.
enum Dialled {
    Stream(AgentStream),
    /// `host:port` of the leader.
    Elsewhere(String),
}

/// `//host:port/path`, as a master sends it.
fn elsewhere(response: &Response<hyper::body::Incoming>) -> Option<String> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let (_, rest) = location.split_once("//")?;
    let leader = rest.split('/').next()?;
    (response.status() == StatusCode::TEMPORARY_REDIRECT && !leader.is_empty()).then(|| leader.to_owned())
}

fn authority(url: &str) -> Result<String, ConnectError> {
    let wrong = || ConnectError::Address(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong());
    }
    let authority = uri.authority().ok_or_else(wrong)?;
    let port = authority.port_u16().unwrap_or(80);
    Ok(format!("{}:{port}", authority.host()))
}

async fn dial(address: &str) -> Result<Dialled, ConnectError> {
    let tcp = TcpStream::connect(address).await.map_err(|source| ConnectError::Tcp {
        address: address.to_owned(),
        source,
    })?;
    // Small messages must not wait for each other.
    let _ = tcp.set_nodelay(true);
    let http = |source| ConnectError::Http {
        address: address.to_owned(),
        source,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .map_err(http)?;
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from_static(PATH);
    if let Ok(host) = HeaderValue::from_str(address) {
        request.headers_mut().insert(HOST, host);
    }
    put_headers(request.headers_mut());
    let response = sender.send_request(request).await.map_err(http)?;
    if let Some(leader) = elsewhere(&response) {
        return Ok(Dialled::Elsewhere(leader));
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(ConnectError::Refused {
            address: address.to_owned(),
            status: response.status(),
        });
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(http)?;
    let stream = Framed::new(TokioIo::new(upgraded), FrameCodec::default());
    Ok(Dialled::Stream(stream))
}

fn put_headers(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, UPGRADE_TOKEN);
    headers.insert(UPGRADE, PROTOCOL);
}

/// Why a request is no agent's.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// No upgrade, or to something else.
    #[error("this path is for revere nodes: it wants `Upgrade: revere-agent/1`")]
    NotAnAgent,
    /// The connection ended before.
    #[error("the agent's connection ended during the upgrade: {0}")]
    Http(#[from] hyper::Error),
}

/// Takes an agent's request: the answer to give, and the stream that follows once it is sent.
pub fn accept<B>(
    request: Request<B>,
) -> Result<(Response<Body>, impl Future<Output = Result<MasterStream, UpgradeError>>), UpgradeError> {
    if request.headers().get(UPGRADE) != Some(&PROTOCOL) {
        return Err(UpgradeError::NotAnAgent);
    }
    let pending = hyper::upgrade::on(request);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    put_headers(response.headers_mut());
    let stream = async move {
        let upgraded = pending.await?;
        Ok(Framed::new(TokioIo::new(upgraded), FrameCodec::default()))
    };
    Ok((response, stream))
}
