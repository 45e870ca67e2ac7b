//! Decides for each message which answer it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Header, HeaderCounts, LowerQuery, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::access::Client;
use crate::answer::{Answer, answer, key};
use crate::counters::{Counts, Kind};
use crate::forward::{Asked, Forwarder, Reply};
use crate::limit::Limiter;
use crate::{BindError, Config, Lookup, Zones};

/// What all tasks of the server share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) zones: ArcSwap<Zones>,
    pub(crate) counts: Counts,
    pub(crate) forwarder: Option<Forwarder>,
    pub(crate) limiter: Limiter,
    /// Counts questions, to rotate answers.
    pub(crate) turn: AtomicUsize,
}

/// hickory's hook.
pub(crate) struct Handler(pub(crate) Arc<Shared>);

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut out: R) -> ResponseInfo {
        let shared = &self.0;
        let limit = shared.limit(request);
        let (code, mut answer) = shared.decide(request).await;
        if let [query] = request.queries.queries() {
            answer.fit(query.original().name(), shared.room(request));
        }
        let mut meta = Metadata::response_from_request(&request.metadata);
        meta.response_code = code;
        meta.authoritative = answer.kind.is_ours();
        meta.recursion_available = shared.may_forward(request);
        meta.truncation = answer.truncated;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(shared.config.udp_limit(Some(limit)));
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        shared.counts.add(answer.kind);
        if answer.truncated {
            shared.counts.add_truncated();
        }
        let message = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            meta,
            &answer.answers,
            &answer.proofs,
            &answer.soa,
            &answer.additionals,
        );
        match out.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "could not send a DNS answer");
                let counts = HeaderCounts::default();
                ResponseInfo::from(Header { metadata: meta, counts })
            }
        }
    }
}

impl Shared {
    async fn decide(&self, request: &Request) -> (ResponseCode, Answer) {
        let unsupported = |code| (code, Answer::empty(Kind::Unsupported));
        if request.metadata.op_code != OpCode::Query {
            return unsupported(ResponseCode::NotImp);
        }
        if request.version() != 0 {
            return unsupported(ResponseCode::BADVERS);
        }
        let [query] = request.queries.queries() else {
            return unsupported(ResponseCode::FormErr);
        };
        if query.query_class() != DNSClass::IN {
            return unsupported(ResponseCode::Refused);
        }
        if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
            // RFC 5936 section 2.2.1.
            return (ResponseCode::Refused, Answer::empty(Kind::Refused));
        }
        let zones = self.zones.load_full();
        if zones.is_empty() {
            // Not told yet what is ours.
            return (ResponseCode::ServFail, Answer::empty(Kind::Failed));
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let ours = answer(&zones, query.original().name(), query.query_type(), turn);
        match ours {
            Some(answer) if answer.kind == Kind::NoName => (ResponseCode::NXDomain, answer),
            Some(answer) => (ResponseCode::NoError, self.follow(request, query, answer, &zones).await),
            None => self.forward(request, query).await,
        }
    }

    /// Adds what an upstream server says about the name outside that a declared alias leads to. Without one, or for a
    /// client that may not ask outside, the alias itself is the answer.
    async fn follow(&self, request: &Request, query: &LowerQuery, mut answer: Answer, zones: &Zones) -> Answer {
        let Some(RData::CNAME(target)) = answer.answers.last().map(|record| &record.data) else {
            return answer;
        };
        let target = target.0.clone();
        let outside = query.query_type() != RecordType::CNAME && zones.lookup(&key(&target)) == Lookup::NotOurs;
        if outside
            && let Some(forwarder) = &self.forwarder
            && self.may_forward(request)
            && request.metadata.recursion_desired
            && let Ok(reply) = forwarder.ask(&Asked::new(target, query.query_type())).await
        {
            answer.answers.extend(reply.answers);
        }
        answer
    }

    /// REFUSED without an upstream server, for foreign clients and for questions that don't want recursion: a client with
    /// several servers then asks the next at once; also when too much waits and when the question goes round in circles.
    /// SERVFAIL when the upstream servers don't answer.
    async fn forward(&self, request: &Request, query: &LowerQuery) -> (ResponseCode, Answer) {
        let forwarder = match &self.forwarder {
            Some(forwarder) if self.may_forward(request) && request.metadata.recursion_desired => forwarder,
            _ => return (ResponseCode::Refused, Answer::empty(Kind::Refused)),
        };
        let mut asked =
            Asked::new(query.original().name().clone(), query.query_type()).with_edns(request.edns.as_ref());
        asked.unchecked = request.metadata.checking_disabled;
        match forwarder.ask(&asked).await {
            Err(why) => (why.code(), Answer::empty(why.kind())),
            Ok(reply) => self.forwarded(reply, query.query_type()),
        }
    }

    /// A reply from outside. Where its CNAMEs lead into a zone of ours, our own records follow, never the reply's.
    fn forwarded(&self, reply: Reply, rtype: RecordType) -> (ResponseCode, Answer) {
        let (mut code, mut answers, mut additionals) = (reply.code, reply.answers, Vec::new());
        let (mut soa, proofs): (Vec<_>, Vec<_>) = reply
            .authorities
            .into_iter()
            .partition(|record| record.record_type() == RecordType::SOA);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(ours) = reply
            .rest
            .and_then(|name| answer(&self.zones.load(), &name, rtype, turn))
        {
            if ours.kind == Kind::NoName {
                code = ResponseCode::NXDomain;
            }
            answers.extend(ours.answers);
            soa = ours.soa.into_iter().collect();
            additionals = ours.additionals;
        }
        let answer = Answer {
            answers,
            soa: soa.pop(),
            proofs,
            additionals,
            ..Answer::empty(Kind::Forwarded)
        };
        (code, answer)
    }

    fn may_forward(&self, request: &Request) -> bool {
        self.recursion(self.config.client(request.src().ip()))
    }

    /// Whether names outside of our zones are answered to such a client: the RA flag.
    pub(crate) fn recursion(&self, client: Client) -> bool {
        self.forwarder.is_some() && client == Client::Own
    }

    /// Longest answer this question gets.
    fn room(&self, request: &Request) -> usize {
        match request.protocol() {
            Protocol::Udp => {
                let client = self.config.client(request.src().ip());
                self.config
                    .udp_room(client, Some(request.max_payload()), request.as_slice().len())
            }
            _ => usize::from(u16::MAX),
        }
    }

    /// Largest message this client can take.
    pub(crate) fn limit(&self, request: &Request) -> u16 {
        match request.protocol() {
            Protocol::Udp => self.config.udp_limit(Some(request.max_payload())),
            _ => u16::MAX,
        }
    }
}

impl Shared {
    pub(crate) fn new(config: Config) -> Result<Self, BindError> {
        Ok(Self {
            forwarder: Forwarder::new(&config)?,
            limiter: Limiter::new(config.slip),
            config,
            zones: ArcSwap::from_pointee(Zones::default()),
            counts: Counts::default(),
            turn: AtomicUsize::new(0),
        })
    }
}

#[cfg(test)]
#[path = "handler/tests.rs"]
mod tests;
