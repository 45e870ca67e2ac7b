//! The long way from any message to its answer: hickory reads it, the handler decides, hickory writes.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler as _, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use parking_lot::Mutex;

use crate::access::Client;
use crate::counters::Kind;
use crate::handler::{Handler, Shared};
use crate::wire::{self, Code, Screened};

/// How a message came: one at a time and from whoever it says, or by a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Stream,
}

impl Transport {
    fn protocol(self) -> Protocol {
        match self {
            Self::Udp => Protocol::Udp,
            // The handler only asks whether the size is limited.
            Self::Stream => Protocol::Tcp,
        }
    }
}

/// Answers one message; `None` when it deserves none. By UDP the caller has already looked at who asks, and how often.
pub(crate) async fn respond(
    shared: &Arc<Shared>,
    message: Vec<u8>,
    from: SocketAddr,
    transport: Transport,
) -> Option<Vec<u8>> {
    let header = |code| {
        let mut out = Vec::new();
        wire::header_only(&message, code, &mut out);
        Some(out)
    };
    match wire::screen(&message) {
        Screened::Ignore => return None,
        _ if shared.config.client(from.ip()) == Client::Denied => {
            shared.counts.add(Kind::Refused);
            return header(Code::Refused);
        }
        Screened::Header(code) => {
            shared.counts.add(Kind::Unsupported);
            return header(code);
        }
        Screened::Plain(_) | Screened::Other => {}
    }
    let malformed = header(Code::FormErr);
    let Ok(request) = Request::from_bytes(message, from, transport.protocol()) else {
        shared.counts.add(Kind::Unsupported);
        return malformed;
    };
    let capture = Capture {
        answer: Arc::default(),
        limit: match transport {
            Transport::Udp => shared.limit(&request),
            _ => u16::MAX,
        },
    };
    let handler = Handler(Arc::clone(shared));
    handler.handle_request::<_, TokioTime>(&request, capture.clone()).await;
    let mut answer = capture.answer.lock();
    (!answer.is_empty()).then(|| std::mem::take(&mut *answer))
}

/// Keeps the answer's bytes.
#[derive(Clone)]
struct Capture {
    answer: Arc<Mutex<Vec<u8>>>,
    limit: u16,
}

#[async_trait::async_trait]
impl ResponseHandler for Capture {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.limit);
        let info = response.destructive_emit(&mut encoder)?;
        *self.answer.lock() = bytes;
        Ok(info)
    }
}
