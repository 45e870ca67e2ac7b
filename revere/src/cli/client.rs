//! Asks the master over HTTP and turns its refusals into sentences.

use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::keepalive::keep_alive;

/// An answer takes milliseconds; a master that needs longer is in trouble.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("master address `{0}` is wrong: write --master http://host:port (or set REVERE_MASTER)")]
    Address(String),
    /// Nobody there.
    #[error("cannot reach master at {url}: {cause}; is it running? Set --master or REVERE_MASTER to its address")]
    Unreachable {
        /// As given.
        url: String,
        /// What happened.
        cause: String,
    },
    /// The master said no.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Its words, each fault on its own line.
        message: String,
    },
    /// The answer is no JSON of ours.
    #[error("the server at {0} answers what no revere master does")]
    Foreign(String),
    /// The definition cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Waiting took too long.
    #[error("{id} is not deployed after {seconds} s: {why}; it goes on, see `revere app show {id}`")]
    Waiting {
        /// The app.
        id: String,
        /// How long.
        seconds: u64,
        /// The newest known reason.
        why: String,
    },
    /// A change was not carried out to its end.
    #[error("{id}: the change was given up: {why}")]
    GivenUp {
        /// The app.
        id: String,
        /// As the master says.
        why: String,
    },
    /// A file that is no app.
    #[error("{path} is no app that could be deployed: {why}")]
    NoDefinition {
        /// The file.
        path: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// No such task is listed.
    #[error(
        "there is no task {0} in `revere task list`; of one that is over name the node: --node http://ADDRESS:5051"
    )]
    NoTask(String),
    /// A program in a task ended so, and has told all there is to tell.
    #[error("the program ended with status {0}")]
    Ended(u8),
    /// There is only one version.
    #[error("{0} has no earlier version to return to; see `revere app versions {0}`")]
    NoEarlierVersion(String),
    /// Standard output is closed.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

/// Longest refusal that is no JSON.
const LONGEST_WORDS: usize = 1024;

/// A large answer takes its time.
const LONG: Duration = Duration::from_secs(300);

/// A master's address.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    url: String,
    authority: String,
}

impl Client {
    /// From `http://host:port`.
    pub(crate) fn new(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri
            .authority()
            .filter(|_| uri.scheme_str() == Some("http"))
            .ok_or_else(wrong)?;
        let authority = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        Ok(Self {
            url: url.to_owned(),
            authority,
        })
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// One request; any status but 2xx is [`ClientError::Refused`].
    pub(crate) async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Value, ClientError> {
        let unreachable = |cause: String| ClientError::Unreachable {
            url: self.url.clone(),
            cause,
        };
        let answer = within(TIMEOUT, self.exchange(method, path, body)).await;
        let (status, bytes) = answer.map_err(unreachable)?;
        self.judge(status, &bytes)
    }

    /// A change whose deployment is told in a header, as Marathon does for pods: (deployment, answer).
    pub(crate) async fn deploy(&self, method: Method, path: &str, body: Bytes) -> Result<(String, Value), ClientError> {
        let unreachable = |cause: String| ClientError::Unreachable {
            url: self.url.clone(),
            cause,
        };
        let exchange = async {
            let (parts, body) = self.open(method, path, &[], body).await?.into_parts();
            let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok((parts, bytes))
        };
        let (parts, bytes) = within(TIMEOUT, exchange).await.map_err(unreachable)?;
        let value = self.judge(parts.status, &bytes)?;
        let header = parts
            .headers
            .get("marathon-deployment-id")
            .and_then(|id| id.to_str().ok());
        Ok((header.unwrap_or_default().to_owned(), value))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), String> {
        let response = self.open(method, path, &[], body).await?;
        let status = response.status();
        let body = response.into_body().collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        let body = Full::new(body).map_err(|never| match never {}).boxed();
        self.send(method, path, &all, body).await
    }

    /// A connection that ends when the other machine is gone, however long nothing is said on it.
    async fn connect(&self) -> Result<TcpStream, String> {
        let tcp = within(TIMEOUT, async {
            let tcp = TcpStream::connect(&self.authority).await;
            tcp.map_err(|error| error.to_string())
        });
        let tcp = tcp.await?;
        keep_alive(&tcp).map_err(|error| format!("the connection cannot be watched: {error}"))?;
        Ok(tcp)
    }

    /// A request with these headers and any body; the answer comes when it comes.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: BoxBody<Bytes, hyper::Error>,
    ) -> Result<Response<Incoming>, String> {
        let tcp = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| error.to_string())?;
        sender.send_request(request).await.map_err(|error| error.to_string())
    }

    /// An answer that is no JSON, whole.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Bytes, ClientError> {
        let body = self.stream(path, &[]).await?;
        let whole = tokio::time::timeout(LONG, body.collect()).await;
        let unreachable = |cause: String| ClientError::Unreachable {
            url: self.url.clone(),
            cause,
        };
        let whole = whole.map_err(|_| unreachable(format!("no whole answer within {} s", LONG.as_secs())))?;
        Ok(whole.map_err(|error| unreachable(error.to_string()))?.to_bytes())
    }

    /// An answer as it comes.
    pub(crate) async fn stream(&self, path: &str, headers: &[(&str, &str)]) -> Result<Incoming, ClientError> {
        let opening = self.open(Method::GET, path, headers, Bytes::new());
        let response = within(TIMEOUT, opening)
            .await
            .map_err(|cause| ClientError::Unreachable {
                url: self.url.clone(),
                cause,
            })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let body = response.into_body().collect().await;
        let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        match self.judge(status, &bytes) {
            Err(error) => Err(error),
            Ok(_) => Err(ClientError::Foreign(self.url.clone())),
        }
    }

    fn judge(&self, status: StatusCode, bytes: &[u8]) -> Result<Value, ClientError> {
        let body: Result<Value, _> = serde_json::from_slice(bytes);
        match body {
            // Marathon answers some changes with nothing at all.
            Err(_) if status.is_success() && bytes.is_empty() => Ok(Value::Null),
            Ok(body) if status.is_success() => Ok(body),
            Ok(body) if body["message"].is_string() => Err(ClientError::Refused {
                status,
                message: sentence(&body),
            }),
            Err(_) if !status.is_success() => match plain(bytes) {
                Some(message) => Err(ClientError::Refused { status, message }),
                None => Err(ClientError::Foreign(self.url.clone())),
            },
            _ => Err(ClientError::Foreign(self.url.clone())),
        }
    }
}

/// The work's result, or a sentence when it takes too long.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let result = tokio::time::timeout(limit, work).await;
    result.unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs_f32())))
}

/// A refusal in plain words, as nodes give it; a page of something else is none.
fn plain(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let one_line = !text.is_empty() && text.len() <= LONGEST_WORDS && !text.contains(['<', '\n']);
    one_line.then(|| text.to_owned())
}

/// The message, and each fault of `details` on a line of its own.
fn sentence(body: &Value) -> String {
    let mut out = body["message"].as_str().unwrap_or_default().to_owned();
    for fault in body["details"].as_array().into_iter().flatten() {
        let path = fault["path"].as_str().unwrap_or_default();
        for error in fault["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            out.push_str("\n  ");
            if !path.is_empty() {
                out.push_str(path);
                out.push_str(": ");
            }
            out.push_str(error);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn faults_stand_on_lines_of_their_own() {
        let body = json!({"message": "Object is not valid", "details": [
            {"path": "/cpus", "errors": ["must be positive"]}, {"path": "/mem", "errors": ["a", "b"]}]});
        assert_eq!(
            sentence(&body),
            "Object is not valid\n  /cpus: must be positive\n  /mem: a\n  /mem: b"
        );
    }

    #[test]
    fn addresses_are_checked() {
        for wrong in ["", "10.0.0.1:5050", "https://x:1", "http://"] {
            assert!(Client::new(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            Client::new("http://a:5050/").map(|client| client.authority).ok(),
            Some("a:5050".to_owned())
        );
    }

    #[tokio::test]
    async fn a_machine_that_vanishes_is_noticed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let tcp = Client::new(&url).expect("valid").connect().await.expect("connects");
        assert_eq!(rustix::net::sockopt::socket_keepalive(&tcp), Ok(true));
        assert_eq!(rustix::net::sockopt::tcp_keepidle(&tcp), Ok(Duration::from_secs(60)));
    }

    #[tokio::test]
    async fn a_missing_master_is_told_with_what_to_do() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        drop(listener);
        let error = Client::new(&url)
            .expect("valid")
            .get("/ping")
            .await
            .expect_err("nobody")
            .to_string();
        assert!(
            error.starts_with(&format!("cannot reach master at {url}: ")) && error.contains("--master"),
            "{error}"
        );
    }
}
