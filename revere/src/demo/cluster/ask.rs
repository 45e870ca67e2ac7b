//! One connection to a master's API, used again for each question.

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

/// See the module.
#[derive(Debug)]
pub(super) struct Asker {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Asker {
    pub(super) async fn new(master: &str) -> anyhow::Result<Self> {
        let host = master.strip_prefix("http://").context("write http://address:port")?;
        let tcp = TcpStream::connect(host).await?;
        tcp.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(tcp)).await?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            host: host.to_owned(),
        })
    }

    /// The answer's length; any status but 2xx is an error.
    pub(super) async fn ask(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<usize> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
        }
        Ok(bytes.len())
    }
}

/// The task stream of a master, from its first record; the system may be told to take few bytes for a reader that is slow.
pub(super) async fn follow(master: &str, buffer: Option<u32>) -> anyhow::Result<Incoming> {
    let host = master.strip_prefix("http://").context("write http://address:port")?;
    let socket = TcpSocket::new_v4()?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let tcp = socket
        .connect(host.parse().context("write an address, not a name")?)
        .await?;
    let (mut sender, connection) = handshake(TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    let request = Request::post("/api/v1")
        .header("host", host)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .body(Full::new(Bytes::from_static(b"{\"type\": \"SUBSCRIBE\"}")))?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        bail!("SUBSCRIBE: {}", response.status());
    }
    Ok(response.into_body())
}
