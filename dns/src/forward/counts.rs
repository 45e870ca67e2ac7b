//! What happened to forwarded questions, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// Things that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A reply that still counted was found in the cache.
    Cached,
    /// A reply past its end was given out.
    Stale,
    /// The same question was under way already.
    Joined,
    /// A question was put to a server, by UDP or TCP.
    Sent,
    /// A question was put again by TCP: the reply by UDP was cut, or forgers were about.
    Tcp,
    /// Bytes from a server's address that were no reply to the question: forged, or of another.
    Foreign,
    /// A reply with the right id and other letters.
    CaseOff,
    /// Records of replies that did not belong there.
    Dropped,
    /// An error or a lame reply, put aside for a better one.
    Poor,
    /// A server did not answer in time or could not be reached.
    Silent,
    /// No server had a usable reply.
    Failed,
    /// Too many questions waited already.
    Busy,
    /// The question had been here before.
    Loop,
    /// No socket was left for a question.
    NoSocket,
}

const EVENTS: usize = Event::NoSocket as usize + 1;

/// Counts since the start of what happened to questions that other servers answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardCounters {
    /// Answered from the cache within the reply's time.
    pub cached: u64,
    /// Answered from the cache past it, since no server answered soon enough.
    pub stale: u64,
    /// Waited for the same question of another client.
    pub joined: u64,
    /// Put to an upstream server; one question may be put to several.
    pub sent: u64,
    /// Put again by TCP.
    pub tcp: u64,
    /// Datagrams from an upstream server's address that did not fit the question: forged or late.
    pub foreign: u64,
    /// Replies right in all but the case of letters.
    pub case_off: u64,
    /// Records dropped since they did not belong to the question.
    pub dropped: u64,
    /// Replies of no use: errors, lame ones.
    pub poor: u64,
    /// Times that a server did not answer soon enough.
    pub silent: u64,
    /// Questions no server had a usable reply for.
    pub failed: u64,
    /// Questions refused since too many waited.
    pub busy: u64,
    /// Questions refused since they had been here before.
    pub loops: u64,
    /// Questions not put to a server for want of a socket.
    pub no_socket: u64,
}

impl ForwardCounters {
    /// Each with its name, for a metrics page.
    pub fn named(&self) -> [(&'static str, u64); EVENTS] {
        [
            ("cached", self.cached),
            ("stale", self.stale),
            ("joined", self.joined),
            ("sent", self.sent),
            ("tcp", self.tcp),
            ("foreign", self.foreign),
            ("case_off", self.case_off),
            ("dropped", self.dropped),
            ("poor", self.poor),
            ("silent", self.silent),
            ("failed", self.failed),
            ("busy", self.busy),
            ("loops", self.loops),
            ("no_socket", self.no_socket),
        ]
    }
}

/// The live counts.
#[derive(Debug, Default)]
pub(crate) struct Counts([AtomicU64; EVENTS]);

impl Counts {
    pub(crate) fn add(&self, event: Event) {
        self.add_many(event, 1);
    }

    pub(crate) fn add_many(&self, event: Event, count: usize) {
        self.0[event as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> ForwardCounters {
        let of = |event: Event| self.0[event as usize].load(Ordering::Relaxed);
        ForwardCounters {
            cached: of(Event::Cached),
            stale: of(Event::Stale),
            joined: of(Event::Joined),
            sent: of(Event::Sent),
            tcp: of(Event::Tcp),
            foreign: of(Event::Foreign),
            case_off: of(Event::CaseOff),
            dropped: of(Event::Dropped),
            poor: of(Event::Poor),
            silent: of(Event::Silent),
            failed: of(Event::Failed),
            busy: of(Event::Busy),
            loops: of(Event::Loop),
            no_socket: of(Event::NoSocket),
        }
    }
}
