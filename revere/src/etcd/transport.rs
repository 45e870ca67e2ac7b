//! Calls to whichever member of etcd answers, over connections that are kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::EtcdAddress;
use crate::mesos::client;

/// Largest answer: a page of records, each in base64.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// gRPC's codes in the gateway's answers, as far as they decide anything.
const DEADLINE_EXCEEDED: u64 = 4;
const UNAVAILABLE: u64 = 14;
const UNAUTHENTICATED: u64 = 16;

/// Why etcd did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// Nobody is there.
    #[error("no member of etcd answers ({0}); are {1} right, and does a majority of them run?")]
    Away(String, String),
    /// It says no.
    #[error("etcd says `{message}`{hint}")]
    Refused {
        /// gRPC's code.
        code: u64,
        /// etcd's words.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// Not its API.
    #[error("etcd cannot be understood: {0}; is it etcd that listens there?")]
    Unreadable(String),
    /// What a watch wanted to be told is no longer kept.
    #[error("etcd keeps nothing from before revision {1} any more, and {0} was asked for")]
    Compacted(u64, u64),
    /// Before its gateway had these paths.
    #[error("etcd {0} is too old: run 3.4 or newer")]
    TooOld(String),
    /// The address is of TLS, and nothing is trusted.
    #[error("etcds:// needs certificates of authorities: set master.etcd_ca")]
    NoAuthorities,
    /// Certificates.
    #[error("master.etcd_ca, etcd_cert or etcd_key: {0}")]
    Tls(#[from] client::TlsError),
    /// One without the other.
    #[error("master.{0} is set without master.{1}: set both or neither")]
    Half(&'static str, &'static str),
    /// The password.
    #[error("cannot read master.etcd_password_file = {0}: {1}")]
    Password(PathBuf, std::io::Error),
    /// No thread.
    #[error("the system gives no thread to renew the lease in: {0}")]
    Thread(std::io::Error),
}

impl EtcdError {
    /// It may be otherwise soon: to be tried again.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Away(..)) || self.is_of_one_member() || self.is_full()
    }

    /// etcd takes nothing until somebody makes room.
    fn is_full(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("space exceeded"))
    }

    /// Another member may be better off, one that sees the majority.
    fn is_of_one_member(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if matches!(*code, DEADLINE_EXCEEDED | UNAVAILABLE))
    }
}

/// What etcd wants to see of this client. Empty is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) user: String,
    pub(crate) password_file: PathBuf,
}

struct Idle {
    server: usize,
    sender: SendRequest<Full<Bytes>>,
}

/// See the module.
pub(crate) struct Transport {
    servers: Vec<String>,
    tls: Option<Arc<rustls::ClientConfig>>,
    access: Access,
    /// The member that is asked first.
    turn: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
    token: Mutex<Option<HeaderValue>>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl Transport {
    pub(crate) fn new(address: &EtcdAddress, access: Access) -> Result<Self, EtcdError> {
        let empty = |path: &PathBuf| path.as_os_str().is_empty();
        match (empty(&access.certificate), empty(&access.key)) {
            (false, true) => return Err(EtcdError::Half("etcd_cert", "etcd_key")),
            (true, false) => return Err(EtcdError::Half("etcd_key", "etcd_cert")),
            _ => {}
        }
        match (access.user.is_empty(), empty(&access.password_file)) {
            (false, true) => return Err(EtcdError::Half("etcd_user", "etcd_password_file")),
            (true, false) => return Err(EtcdError::Half("etcd_password_file", "etcd_user")),
            _ => {}
        }
        let tls = if address.secure {
            let trusted = client::Access {
                ca: access.ca.clone(),
                certificate: access.certificate.clone(),
                key: access.key.clone(),
                ..client::Access::default()
            };
            Some(client::tls_config(&trusted)?.ok_or(EtcdError::NoAuthorities)?)
        } else {
            None
        };
        Ok(Self {
            servers: address.servers.clone(),
            tls: tls.map(Arc::new),
            access,
            turn: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
            token: Mutex::new(None),
        })
    }

    /// Another one to the same members, with connections of its own.
    pub(crate) fn apart(&self) -> Self {
        Self {
            servers: self.servers.clone(),
            tls: self.tls.clone(),
            access: self.access.clone(),
            turn: AtomicUsize::new(self.turn.load(Ordering::Relaxed)),
            idle: Mutex::new(Vec::new()),
            token: Mutex::new(None),
        }
    }

    /// Posts a call. Each member gets `patience`, one after the other. What was asked may have been done although the
    /// answer is an error.
    pub(crate) async fn call(&self, path: &str, call: &Value, patience: Duration) -> Result<Value, EtcdError> {
        let body = Bytes::from(call.to_string());
        if !self.access.user.is_empty() && self.token.lock().is_none() {
            self.authenticate(patience).await?;
        }
        match self.ask(Method::POST, path, body.clone(), patience).await {
            // Tokens end; one that a member does not know any more is replaced by a new one, once.
            Err(EtcdError::Refused { code, .. }) if code == UNAUTHENTICATED && !self.access.user.is_empty() => {
                self.authenticate(patience).await?;
                self.ask(Method::POST, path, body, patience).await
            }
            answer => answer,
        }
    }

    /// Posts a call whose answer never ends, to the member that is asked first.
    pub(crate) async fn stream(&self, path: &str, call: &Value, patience: Duration) -> Result<Incoming, EtcdError> {
        let body = Bytes::from(call.to_string());
        if !self.access.user.is_empty() && self.token.lock().is_none() {
            self.authenticate(patience).await?;
        }
        let server = self.turn.load(Ordering::Relaxed) % self.servers.len();
        let begun = async {
            let mut sender = self.connect(server).await?;
            let request = self.request(server, &Method::POST, path, body)?;
            let response = sender.send_request(request).await;
            response.map_err(|error| error.to_string())
        };
        let away = |why: String| EtcdError::Away(format!("{}: {why}", self.servers[server]), self.servers.join(", "));
        let response = timeout(patience, begun).await;
        let response = response.map_err(|_| away("no answer".to_owned()))?.map_err(away)?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let refused = timeout(patience, read(path, response)).await;
        let refused = refused.map_err(|_| away("no answer".to_owned()))?.map_err(away)?;
        match refused {
            Err(EtcdError::Refused { code, message, hint }) => {
                if code == UNAUTHENTICATED {
                    *self.token.lock() = None;
                }
                Err(EtcdError::Refused { code, message, hint })
            }
            Err(error) => Err(error),
            Ok(answer) => Err(EtcdError::Unreadable(format!("{path} answers {answer}"))),
        }
    }

    /// The next call goes to another member.
    pub(crate) fn turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Gets a document.
    pub(crate) async fn get(&self, path: &str, patience: Duration) -> Result<Value, EtcdError> {
        self.ask(Method::GET, path, Bytes::new(), patience).await
    }

    async fn authenticate(&self, patience: Duration) -> Result<(), EtcdError> {
        let file = &self.access.password_file;
        let password = tokio::fs::read_to_string(file)
            .await
            .map_err(|error| EtcdError::Password(file.clone(), error))?;
        *self.token.lock() = None;
        let call = json!({"name": self.access.user, "password": password.trim_end_matches(['\r', '\n'])});
        let body = Bytes::from(call.to_string());
        let answer = self.ask(Method::POST, "/v3/auth/authenticate", body, patience).await?;
        let token = answer["token"]
            .as_str()
            .and_then(|token| HeaderValue::from_str(token).ok());
        let mut token = token.ok_or_else(|| EtcdError::Unreadable("it gives no token".to_owned()))?;
        token.set_sensitive(true);
        *self.token.lock() = Some(token);
        Ok(())
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes, patience: Duration) -> Result<Value, EtcdError> {
        let mut last = None;
        for _ in 0..self.servers.len() {
            let turn = self.turn.load(Ordering::Relaxed);
            let server = turn % self.servers.len();
            let asked = self.one(server, &method, path, &body);
            let error = match timeout(patience, asked).await {
                Ok(Ok(Err(error))) if error.is_of_one_member() => format!("{}: {error}", self.servers[server]),
                Ok(Ok(answer)) => return answer,
                Ok(Err(error)) => format!("{}: {error}", self.servers[server]),
                Err(_) => format!("{}: no answer within {patience:?}", self.servers[server]),
            };
            // Another call may have moved on already.
            let _ = self
                .turn
                .compare_exchange(turn, turn + 1, Ordering::Relaxed, Ordering::Relaxed);
            last = Some(error);
        }
        Err(EtcdError::Away(last.unwrap_or_default(), self.servers.join(", ")))
    }

    /// The answer of one member: an error of the way there, or what it says.
    async fn one(
        &self,
        server: usize,
        method: &Method,
        path: &str,
        body: &Bytes,
    ) -> Result<Result<Value, EtcdError>, String> {
        let kept = {
            let mut idle = self.idle.lock();
            let at = idle.iter().position(|one| one.server == server);
            at.map(|at| idle.swap_remove(at).sender)
        };
        let mut used = kept.is_some();
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect(server).await?,
        };
        loop {
            let request = self.request(server, method, path, body.clone())?;
            match sender.send_request(request).await {
                Ok(response) => {
                    let answer = read(path, response).await?;
                    self.keep(server, sender);
                    return Ok(answer);
                }
                // The member may have closed what lay idle.
                Err(_) if used => {
                    used = false;
                    sender = self.connect(server).await?;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn keep(&self, server: usize, sender: SendRequest<Full<Bytes>>) {
        /// More than there are calls at a time.
        const KEPT: usize = 8;
        let mut idle = self.idle.lock();
        idle.retain(|one| !one.sender.is_closed());
        if idle.len() < KEPT {
            idle.push(Idle { server, sender });
        }
    }

    fn request(&self, server: usize, method: &Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.servers[server])
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = self.token.lock().clone() {
            request = request.header(AUTHORIZATION, token);
        }
        request.body(Full::new(body)).map_err(|error| error.to_string())
    }

    async fn connect(&self, server: usize) -> Result<SendRequest<Full<Bytes>>, String> {
        let address = &self.servers[server];
        let tcp = TcpStream::connect(address.as_str())
            .await
            .map_err(|error| error.to_string())?;
        let _ = tcp.set_nodelay(true);
        let Some(tls) = self.tls.clone() else {
            return handshake(tcp).await;
        };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(tls).connect(name, tcp).await;
        handshake(stream.map_err(|error| format!("no TLS: {error}; did master.etcd_ca sign its certificate?"))?).await
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn read(path: &str, response: Response<Incoming>) -> Result<Result<Value, EtcdError>, String> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let Ok(answer) = serde_json::from_slice::<Value>(&body) else {
        let start: String = String::from_utf8_lossy(&body).chars().take(60).collect();
        return Ok(Err(EtcdError::Unreadable(format!(
            "{path} answers {status} `{}`",
            start.trim()
        ))));
    };
    // Streams wrap theirs, with other names.
    let error = match &answer["error"] {
        inner @ Value::Object(_) => inner,
        _ => &answer,
    };
    if status.is_success() && answer.get("error").is_none() {
        return Ok(Ok(answer));
    }
    let message = [&error["message"], &error["error"]].into_iter().find_map(Value::as_str);
    let message = message.unwrap_or(status.as_str()).to_owned();
    let code = error["code"]
        .as_u64()
        .or_else(|| error["grpc_code"].as_u64())
        .unwrap_or(0);
    let hint = hint(&message);
    Ok(Err(EtcdError::Refused { code, message, hint }))
}

fn hint(message: &str) -> &'static str {
    let known = [
        (
            "space exceeded",
            ": it is full; compact and defragment it or raise its quota, then run `etcdctl alarm disarm`",
        ),
        (
            "user name is empty",
            ": set master.etcd_user and master.etcd_password_file",
        ),
        (
            "permission denied",
            ": the user of master.etcd_user needs read and write for all keys under the prefix",
        ),
        (
            "authentication failed",
            ": check master.etcd_user and master.etcd_password_file",
        ),
        (
            "authentication is not enabled",
            ": it has no users; leave master.etcd_user empty",
        ),
    ];
    let found = known.iter().find(|(part, _)| message.contains(part));
    found.map_or("", |(_, hint)| hint)
}
