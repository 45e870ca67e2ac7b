//! What the fuzz targets call, and what the tests call with the targets' corpus: bytes in, and what must hold of any bytes.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::Message;
use model::{NodeView, Snapshot};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;

use crate::fast::{Fast, Step};
use crate::handler::Shared;
use crate::respond::{Transport, respond};
use crate::{Config, OwnRecord, stream};

/// A name server without sockets.
pub struct Target {
    shared: Arc<Shared>,
    fast: Fast,
    runtime: Runtime,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").finish_non_exhaustive()
    }
}

/// The client of all questions, one of the node's own, so that nothing is limited.
const CLIENT: &str = "127.0.0.1:4000";

#[allow(clippy::expect_used, reason = "a fuzz target that cannot start shall say so and end")]
impl Target {
    /// With a few names of each kind.
    #[must_use]
    pub fn new() -> Self {
        let records = [
            "one.mesos A 9.0.0.1",
            "two.mesos A 9.0.0.1",
            "two.mesos A 9.0.0.2",
            "two.mesos AAAA fd00::2",
            "_web._tcp.two.mesos SRV 80 two.mesos",
            "alias.mesos CNAME two.mesos",
            "round.mesos CNAME round.mesos",
        ];
        let records: Vec<OwnRecord> = records.iter().map(|text| text.parse().expect("a record")).collect();
        let config = Config {
            records,
            ..Config::default()
        };
        let view = NodeView {
            ip: Ipv4Addr::new(10, 0, 0, 1),
            agent: None,
        };
        let zones = crate::desired(&Snapshot::default(), &view, &config);
        let shared = Arc::new(Shared::new(config).expect("no system state involved"));
        shared.zones.store(Arc::new(zones));
        Self {
            fast: Fast::new(Arc::clone(&shared)),
            shared,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
        }
    }

    /// A UDP message: both ways answer the same, within the client's limit.
    pub fn message(&mut self, bytes: &[u8]) {
        let from: SocketAddr = CLIENT.parse().expect("an address");
        let mut out = Vec::new();
        let step = self.fast.step(bytes, from.ip(), 0, &mut out);
        let long = self
            .runtime
            .block_on(respond(&self.shared, bytes.to_vec(), from, Transport::Udp));
        if let Some(long) = &long {
            assert!(long.len() <= 1232, "longer than any UDP answer may be");
            assert_eq!(long.get(..2), bytes.get(..2), "the answer to another question");
        }
        match step {
            Step::Long => {}
            Step::Silent => assert_eq!(long, None),
            Step::Answered => assert_eq!(said(&out), long.as_deref().and_then(said), "{bytes:02x?}"),
        }
    }

    /// These bytes as a question's name.
    pub fn name(&mut self, bytes: &[u8]) {
        let header = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for end in [&[][..], b"\x05mesos\x00", b"\x05MESOS\x00"] {
            self.message(&[&header[..], bytes, end, &[0, 1, 0, 1]].concat());
        }
    }

    /// These bytes as the rest of an OPT record.
    pub fn edns(&mut self, bytes: &[u8]) {
        let question =
            b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03two\x05mesos\x00\x00\x01\x00\x01\x00\x00\x29";
        self.message(&[&question[..], bytes].concat());
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
        self.message(&[&question[..], &[4, 208, 0, 0, 0, 0], &length, bytes].concat());
    }

    /// These bytes as all that comes by one connection: the server ends it, having answered in whole messages.
    pub fn framing(&mut self, bytes: &[u8]) {
        let from: SocketAddr = CLIENT.parse().expect("an address");
        let answers = self.runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let send = async {
                let _ = client.write_all(bytes).await;
                let _ = client.shutdown().await;
                let mut answers = Vec::new();
                let _ = client.read_to_end(&mut answers).await;
                answers
            };
            tokio::join!(send, stream::serve(&self.shared, server, from)).0
        });
        let mut rest = answers.as_slice();
        while let Some((length, more)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            let (message, more) = more.split_at_checked(length).expect("a whole message");
            assert!(message.len() >= 12);
            rest = more;
        }
        assert!(rest.is_empty(), "half a length");
    }
}

impl Default for Target {
    fn default() -> Self {
        Self::new()
    }
}

/// What an answer says, without the order of its records.
fn said(bytes: &[u8]) -> Option<(String, Vec<String>)> {
    let mut message = Message::from_vec(bytes).ok()?;
    let mut answers: Vec<String> = message
        .answers
        .drain(..)
        .map(|record| record.to_string().to_lowercase())
        .collect();
    answers.sort_unstable();
    message.additionals.sort_by_key(ToString::to_string);
    Some((message.to_string().to_lowercase(), answers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a fuzz target once kept, and the corpus in the tree.
    #[test]
    fn the_corpus_does_no_harm() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus");
        let mut target = Target::new();
        for (kind, run) in [
            ("message", Target::message as fn(&mut Target, &[u8])),
            ("name", Target::name),
            ("edns", Target::edns),
            ("framing", Target::framing),
        ] {
            let mut count = 0;
            for entry in std::fs::read_dir(format!("{root}/{kind}")).expect("the corpus") {
                let bytes = std::fs::read(entry.expect("an entry").path()).expect("reads");
                run(&mut target, &bytes);
                count += 1;
            }
            assert!(count > 2, "{kind}");
        }
    }

    /// Every prefix of a plain question, every byte of it changed, in every target.
    #[test]
    fn small_changes_do_no_harm() {
        let mut target = Target::new();
        let whole = b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03two\x05mesos\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
        for end in 0..=whole.len() {
            target.message(&whole[..end]);
            target.name(&whole[..end]);
            target.edns(&whole[..end]);
            target.framing(&[&[0, u8::try_from(end).expect("short")], &whole[..end]].concat());
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x3f, 0x40, 0x80, 0xc0, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[at] = value;
                target.message(&bytes);
            }
        }
    }
}
