//! One question to one server, and the reply that is really its: by UDP, and by TCP when that was cut or looks forged.

use std::io;
use std::net::SocketAddr;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::counts::{Counts, Event};
use super::ports::Ports;
use super::question::{Hops, Key};
use super::settings::CaseMixing;
use super::wire::{Dress, Screen, Sent, is_truncated};

/// Wrong replies taken on one socket before the question goes by TCP, which a forger off the path can't answer: with each
/// of them the forger has had one guess of 65,536.
const WRONG_REPLIES: usize = 8;
/// Larger than any UDP reply that was asked for; more is cut off and then does not parse.
const UDP_BUFFER: usize = 4096;

/// What every exchange needs.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) ports: Ports,
    /// Sockets that may be open at once.
    pub(crate) sockets: Semaphore,
    pub(crate) case: CaseMixing,
    pub(crate) counts: Counts,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("no socket is left for a question to {0}")]
    NoSocket(SocketAddr),
    #[error("cannot reach {addr} by {transport}: {source}")]
    Io {
        addr: SocketAddr,
        transport: &'static str,
        source: io::Error,
    },
    #[error("the reply of {addr} does not parse: {why}")]
    Malformed { addr: SocketAddr, why: String },
}

/// How a UDP exchange ended.
enum Heard {
    Message(Box<Message>),
    /// By TCP, please.
    Again,
}

/// Asks and waits without end for a reply; the caller limits the time.
pub(crate) async fn exchange(
    tools: &Tools,
    addr: SocketAddr,
    key: &Key,
    hops: &Hops,
    dress: Dress,
) -> Result<Message, ExchangeError> {
    let Ok(_place) = tools.sockets.try_acquire() else {
        tools.counts.add(Event::NoSocket);
        return Err(ExchangeError::NoSocket(addr));
    };
    tools.counts.add(Event::Sent);
    let sent = || Sent::new(key, hops, dress, tools.case).map_err(fault(addr, "UDP"));
    match udp(tools, addr, &sent()?).await? {
        Heard::Message(message) => Ok(*message),
        Heard::Again => {
            tools.counts.add(Event::Tcp);
            // A new id, for whoever saw the old one.
            tcp(tools, addr, &sent()?).await
        }
    }
}

fn fault(addr: SocketAddr, transport: &'static str) -> impl Fn(io::Error) -> ExchangeError {
    move |source| ExchangeError::Io {
        addr,
        transport,
        source,
    }
}

async fn udp(tools: &Tools, addr: SocketAddr, sent: &Sent) -> Result<Heard, ExchangeError> {
    let fault = fault(addr, "UDP");
    let socket = tools.ports.open(addr).await.map_err(&fault)?;
    socket.send(&sent.bytes).await.map_err(&fault)?;
    let mut buffer = vec![0; UDP_BUFFER];
    for _ in 0..WRONG_REPLIES {
        let length = socket.recv(&mut buffer).await.map_err(&fault)?;
        let bytes = &buffer[..length];
        match sent.screen(bytes) {
            Screen::Reply if is_truncated(bytes) => return Ok(Heard::Again),
            Screen::Reply => return parsed(addr, bytes).map(Heard::Message),
            Screen::Headless => return Ok(Heard::Message(headless(bytes))),
            Screen::CaseOff => {
                tools.counts.add(Event::CaseOff);
                return Ok(Heard::Again);
            }
            Screen::Foreign => tools.counts.add(Event::Foreign),
        }
    }
    Ok(Heard::Again)
}

async fn tcp(tools: &Tools, addr: SocketAddr, sent: &Sent) -> Result<Message, ExchangeError> {
    let fault = fault(addr, "TCP");
    let mut stream = TcpStream::connect(addr).await.map_err(&fault)?;
    let length = u16::try_from(sent.bytes.len()).map_err(|error| fault(io::Error::other(error)))?;
    let framed = [&length.to_be_bytes(), sent.bytes.as_slice()].concat();
    stream.write_all(&framed).await.map_err(&fault)?;
    for _ in 0..WRONG_REPLIES {
        let length = stream.read_u16().await.map_err(&fault)?;
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.map_err(&fault)?;
        match sent.screen(&bytes) {
            // Whoever answers by TCP is on the path: letters prove nothing more.
            Screen::Reply | Screen::CaseOff => return parsed(addr, &bytes).map(|message| *message),
            Screen::Headless => return Ok(*headless(&bytes)),
            Screen::Foreign => tools.counts.add(Event::Foreign),
        }
    }
    Err(fault(io::Error::other("it answers other questions than this one")))
}

fn parsed(addr: SocketAddr, bytes: &[u8]) -> Result<Box<Message>, ExchangeError> {
    Message::from_vec(bytes)
        .map(Box::new)
        .map_err(|error| ExchangeError::Malformed {
            addr,
            why: error.to_string(),
        })
}

/// An error reply that is a header only.
fn headless(bytes: &[u8]) -> Box<Message> {
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    let code = bytes.get(3).map_or(0, |flags| flags & 0x0f);
    message.metadata.response_code = ResponseCode::from(0, code);
    Box::new(message)
}
