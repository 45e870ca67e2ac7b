//! TCP and what runs over it: messages with their length before each, many at once on one connection (RFC 7766).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::handler::Shared;
use crate::https;
use crate::respond::{Transport, respond};
use crate::wire::MAX_MESSAGE;

/// A connection that asks nothing for so long is closed, as DC/OS's server did.
pub(crate) const IDLE: Duration = Duration::from_secs(10);
/// Questions of one connection that may wait for their answers at once; the next is read when one is answered.
const ANSWERS_WAITING: usize = 32;
/// Connections at once on all addresses, well below the files a process may open. More wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// Connections at once from one address; more are closed at once, so that one client cannot shut out the others.
pub(crate) const MAX_OF_ONE: usize = 128;
/// Pause after an accept that failed for want of something, such as descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who holds how many connections.
#[derive(Debug)]
pub(crate) struct Places {
    all: Arc<Semaphore>,
    of: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    client: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            of: Mutex::new(HashMap::new()),
        })
    }

    /// The next connection, once there is a place for it.
    pub(crate) async fn accept(self: &Arc<Self>, listener: &TcpListener) -> Option<(TcpStream, SocketAddr, Place)> {
        let permit = Arc::clone(&self.all).acquire_owned().await.ok()?;
        let (stream, from) = loop {
            match listener.accept().await {
                Ok(accepted) => break accepted,
                Err(error) => {
                    tracing::debug!(%error, "could not accept a connection for DNS");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        };
        let client = from.ip().to_canonical();
        let mut of = self.of.lock();
        let held = of.entry(client).or_default();
        if *held >= MAX_OF_ONE {
            return None;
        }
        *held += 1;
        let place = Place {
            places: Arc::clone(self),
            client,
            _permit: permit,
        };
        Some((stream, from, place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = self.places.of.lock();
        if let Some(held) = of.get_mut(&self.client) {
            *held -= 1;
            if *held == 0 {
                of.remove(&self.client);
            }
        }
    }
}

/// What is spoken on a listener.
#[derive(Clone)]
pub(crate) enum Speech {
    /// Messages on bare TCP.
    Tcp,
    /// Messages in TLS (RFC 7858).
    Tls(TlsAcceptor),
    /// HTTP in TLS (RFC 8484).
    Https(TlsAcceptor),
}

/// Serves one listener until it is dropped.
pub(crate) async fn listen(shared: Arc<Shared>, listener: TcpListener, speech: Speech, places: Arc<Places>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Some((stream, from, place)) = places.accept(&listener).await {
            // Answers are short and whole: waiting for more would only delay them.
            let _ = stream.set_nodelay(true);
            let (shared, speech) = (Arc::clone(&shared), speech.clone());
            connections.spawn(async move {
                speak(&shared, stream, from, speech).await;
                drop(place);
            });
        }
    }
}

async fn speak(shared: &Arc<Shared>, stream: TcpStream, from: SocketAddr, speech: Speech) {
    let (Speech::Tls(tls) | Speech::Https(tls)) = &speech else {
        return serve(shared, stream, from).await;
    };
    match timeout(IDLE, tls.accept(stream)).await {
        Ok(Ok(stream)) if matches!(speech, Speech::Https(_)) => https::serve(shared, stream, from).await,
        Ok(Ok(stream)) => serve(shared, stream, from).await,
        Ok(Err(error)) => tracing::debug!(%error, client = %from, "no TLS with this client"),
        Err(_) => tracing::debug!(client = %from, "this client did not end its TLS handshake in time"),
    }
}

/// Answers what comes by one connection until its client ends it, falls silent or sends nonsense.
pub(crate) async fn serve<S>(shared: &Arc<Shared>, stream: S, from: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, writer) = tokio::io::split(stream);
    let writer = Arc::new(tokio::sync::Mutex::new(writer));
    let waiting = Arc::new(Semaphore::new(ANSWERS_WAITING));
    let mut answers = JoinSet::new();
    loop {
        while answers.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&waiting).acquire_owned().await else {
            break;
        };
        let Ok(Ok(message)) = timeout(IDLE, read_message(&mut reader)).await else {
            break;
        };
        let too_long = message.len() > MAX_MESSAGE;
        let (shared, writer) = (Arc::clone(shared), Arc::clone(&writer));
        answers.spawn(async move {
            if let Some(answer) = respond(&shared, message, from, Transport::Stream).await {
                let mut writer = writer.lock().await;
                // A client that does not take its answers loses the connection with the last of them.
                let _ = timeout(IDLE, write_message(&mut *writer, &answer)).await;
            }
            drop(place);
        });
        if too_long {
            // Its rest was not read, so the next length cannot be found.
            break;
        }
    }
    while answers.join_next().await.is_some() {}
}

/// One message; of one longer than [`MAX_MESSAGE`] only the beginning.
pub(crate) async fn read_message(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::from(reader.read_u16().await?);
    let mut message = vec![0; length.min(MAX_MESSAGE + 1)];
    reader.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(writer: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    // The encoder writes at most 65,535 bytes.
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend(length.to_be_bytes());
    framed.extend_from_slice(message);
    writer.write_all(&framed).await?;
    writer.flush().await
}
