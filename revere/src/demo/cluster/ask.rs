//! One connection to a master's API, used again for each question.

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

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
