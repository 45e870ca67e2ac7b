//! An upstream server that does as its script says: answers, errors, silence, delays, lies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA};
use hickory_proto::rr::{Name, RData, Record};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Udp,
    Tcp,
}

/// What the server does with one question.
#[derive(Debug)]
pub(crate) enum Deed {
    /// Nothing, ever.
    Silence,
    /// These bytes.
    Bytes(Vec<u8>),
    /// These messages, one after the other.
    Messages(Vec<Message>),
}

type Script = Box<dyn Fn(&Message, Way) -> Deed + Send + Sync>;

/// A question that was heard.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) way: Way,
    pub(crate) from: SocketAddr,
    pub(crate) message: Message,
}

/// A running server; gone when dropped.
#[derive(Debug)]
pub(crate) struct Scripted {
    pub(crate) addr: SocketAddr,
    /// Its UDP socket, for forgers: what they send looks as if it came from here.
    pub(crate) socket: Arc<UdpSocket>,
    heard: Arc<Mutex<Vec<Heard>>>,
    _tasks: JoinSet<()>,
}

impl Scripted {
    /// Answers at once.
    pub(crate) async fn new(script: impl Fn(&Message, Way) -> Deed + Send + Sync + 'static) -> Self {
        Self::slow(Duration::ZERO, script).await
    }

    /// Answers each question after `delay`.
    pub(crate) async fn slow(delay: Duration, script: impl Fn(&Message, Way) -> Deed + Send + Sync + 'static) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            let addr = udp.local_addr().expect("bound");
            if let Ok(tcp) = TcpListener::bind(addr).await {
                break (Arc::new(udp), tcp);
            }
        };
        let script: Arc<Script> = Arc::new(Box::new(script));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(
            Arc::clone(&udp),
            Arc::clone(&script),
            Arc::clone(&heard),
            delay,
        ));
        tasks.spawn(serve_tcp(tcp, script, Arc::clone(&heard)));
        Self {
            addr: udp.local_addr().expect("bound"),
            socket: udp,
            heard,
            _tasks: tasks,
        }
    }

    /// Every question so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().clone()
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, script: Arc<Script>, heard: Arc<Mutex<Vec<Heard>>>, delay: Duration) {
    let mut replies = JoinSet::new();
    let mut buffer = vec![0; 65_535];
    loop {
        // A closed port of a client that stopped waiting shows as an error here.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let message = Message::from_vec(&buffer[..length]).expect("the forwarder's questions parse");
        heard.lock().push(Heard {
            way: Way::Udp,
            from,
            message: message.clone(),
        });
        let (socket, script) = (Arc::clone(&socket), Arc::clone(&script));
        replies.spawn(async move {
            tokio::time::sleep(delay).await;
            for bytes in script(&message, Way::Udp).bytes() {
                let _ = socket.send_to(&bytes, from).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, script: Arc<Script>, heard: Arc<Mutex<Vec<Heard>>>) {
    let mut held = Vec::new();
    loop {
        let (mut stream, from) = listener.accept().await.expect("accepts");
        let length = stream.read_u16().await.expect("a length");
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await.expect("a question");
        let message = Message::from_vec(&bytes).expect("the forwarder's questions parse");
        heard.lock().push(Heard {
            way: Way::Tcp,
            from,
            message: message.clone(),
        });
        for bytes in script(&message, Way::Tcp).bytes() {
            let length = u16::try_from(bytes.len()).expect("short");
            let framed = [&length.to_be_bytes(), bytes.as_slice()].concat();
            let _ = stream.write_all(&framed).await;
        }
        held.push(stream);
    }
}

impl Deed {
    fn bytes(self) -> Vec<Vec<u8>> {
        match self {
            Self::Silence => Vec::new(),
            Self::Bytes(bytes) => vec![bytes],
            Self::Messages(messages) => messages
                .iter()
                .map(|message| message.to_vec().expect("encodes"))
                .collect(),
        }
    }
}

/// A reply without records.
pub(crate) fn reply(question: &Message, code: ResponseCode) -> Message {
    let mut message = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
    message.metadata.response_code = code;
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.queries = question.queries.clone();
    message.edns = question.edns.clone();
    message
}

/// A reply with these addresses for the name asked.
pub(crate) fn addresses(question: &Message, ttl: u32, addrs: &[&str]) -> Message {
    let mut message = reply(question, ResponseCode::NoError);
    message.answers = addrs
        .iter()
        .map(|addr| a(question.queries[0].name(), ttl, addr))
        .collect();
    message
}

/// "No such name", or with NOERROR "no such record", by the zone `zone`.
pub(crate) fn absent(question: &Message, code: ResponseCode, zone: &str, ttl: u32, minimum: u32) -> Message {
    let mut message = reply(question, code);
    let (mname, rname) = (name("ns.invalid."), name("root.invalid."));
    let soa = SOA::new(mname, rname, 1, 2, 3, 4, minimum);
    message.authorities = vec![Record::from_rdata(name(zone), ttl, RData::SOA(soa))];
    message
}

pub(crate) fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

pub(crate) fn a(owner: &Name, ttl: u32, addr: &str) -> Record {
    Record::from_rdata(owner.clone(), ttl, RData::A(A(addr.parse().expect("an address"))))
}

pub(crate) fn cname(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

pub(crate) fn ns(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::NS(NS(name(target))))
}
