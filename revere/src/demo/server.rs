//! `revere demo-server`: answers with its instance's name, sends and takes bytes, and ends without losing a request.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// Connections the kernel may hold for us while we are busy: a whole burst of new clients.
const BACKLOG: u32 = 4096;

/// How long open connections may still send one more request after SIGTERM; below Mesos' 3 s before SIGKILL.
const LINGER: Duration = Duration::from_secs(2);

/// Longest `/slow?ms=N`.
const MAX_SLOW: Duration = Duration::from_secs(60);
/// Most of `/bytes?n=N`.
const MAX_BYTES: usize = 64 << 20;

/// A small HTTP server that answers with its instance's name.
#[derive(Clone, Debug, Parser)]
#[command(name = "revere demo-server")]
pub struct ServerArgs {
    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "PORT0")]
    pub port: u16,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub address: IpAddr,
    /// The name to answer with.
    #[arg(long, env = "MESOS_TASK_ID", default_value = "demo-server")]
    pub name: String,
    /// Wait this long before listening, to show what readiness is for.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub warmup_ms: u64,
}

/// Why the server could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody else has the port.
    #[error(
        "cannot listen on {0}: the port is in use; stop the program that has it (`ss -ltnp` shows it) or give another --port"
    )]
    PortInUse(SocketAddr),
    /// Any other reason.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The signal handler could not be set.
    #[error("cannot wait for SIGTERM: {0}")]
    Signal(std::io::Error),
}

/// Serves until SIGTERM or Ctrl-C, then drains and returns.
pub async fn run(args: ServerArgs) -> Result<(), ServerError> {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(ServerError::Signal)?;
    sleep(Duration::from_millis(args.warmup_ms)).await;
    let listener = listen(SocketAddr::new(args.address, args.port))?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    serve(listener, args.name, stop).await;
    Ok(())
}

/// Binds and listens with room for a burst.
pub fn listen(addr: SocketAddr) -> Result<TcpListener, ServerError> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => ServerError::PortInUse(addr),
        _ => ServerError::Listen { addr, source },
    })
}

/// Serves `listener` until `stop`; then takes what the kernel had already accepted, answers it, and returns.
pub async fn serve(listener: TcpListener, name: String, stop: impl Future<Output = ()>) {
    let (stopping, watch_stop) = watch::channel(false);
    let mut connections = JoinSet::new();
    let server = Arc::new(Server {
        answer: Bytes::from(format!("{name}\n")),
        stopping: watch_stop,
    });
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, Arc::clone(&server)))),
                // Out of file descriptors: the kernel keeps the connection; try again when some are closed.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    stopping.send_replace(true);
    // A connection that the kernel completed before now has a client that counts on an answer.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                connections.spawn(connection(stream, Arc::clone(&server)));
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

#[derive(Debug)]
struct Server {
    answer: Bytes,
    stopping: watch::Receiver<bool>,
}

/// One connection. Once the server stops, the next answer closes it; without a next request it is closed after
/// [`LINGER`], so that no client's request meets a closed connection.
async fn connection(stream: TcpStream, server: Arc<Server>) {
    // Only a matter of speed.
    let _ = stream.set_nodelay(true);
    let mut stopping = server.stopping.clone();
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(request).await) }
    });
    let mut served = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a connection ended is the client's affair.
        _ = served.as_mut() => return,
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    let deadline = Instant::now() + LINGER;
    if timeout_at(deadline, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        let _ = timeout_at(deadline + LINGER / 4, served).await;
    }
}

impl Server {
    async fn get(&self, uri: &Uri) -> (StatusCode, Bytes) {
        match uri.path() {
            "/ready" => (StatusCode::OK, Bytes::from_static(b"ready\n")),
            "/slow" => match parameter(uri, "ms").map(Duration::from_millis) {
                Some(time) if time <= MAX_SLOW => {
                    sleep(time).await;
                    (StatusCode::OK, self.answer.clone())
                }
                _ => refused("use /slow?ms=N, N at most 60000\n", StatusCode::BAD_REQUEST),
            },
            "/bytes" => match parameter(uri, "n") {
                Some(count) if count <= MAX_BYTES => (StatusCode::OK, Bytes::from(vec![b'.'; count])),
                _ => refused("use /bytes?n=N, N at most 67108864\n", StatusCode::BAD_REQUEST),
            },
            _ => (StatusCode::OK, self.answer.clone()),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, body) = if request.method() == Method::GET {
            self.get(request.uri()).await
        } else if request.method() == Method::POST {
            taken(request.into_body()).await
        } else {
            refused("only GET and POST\n", StatusCode::METHOD_NOT_ALLOWED)
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if *self.stopping.borrow() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn refused(why: &'static str, status: StatusCode) -> (StatusCode, Bytes) {
    (status, Bytes::from_static(why.as_bytes()))
}

/// Counts the bytes of a body that came whole.
async fn taken(mut body: Incoming) -> (StatusCode, Bytes) {
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => count += frame.data_ref().map_or(0, Bytes::len),
            Err(_) => return refused("the body did not come whole\n", StatusCode::BAD_REQUEST),
        }
    }
    (StatusCode::OK, Bytes::from(format!("{count}\n")))
}

fn parameter<T: FromStr>(uri: &Uri, name: &str) -> Option<T> {
    let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name)?.1.parse().ok()
}
