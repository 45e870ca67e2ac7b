//! `revere demo-names`: asks a name server again and again, and writes a line whenever the answer has changed.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::str::FromStr as _;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::unix_us;

/// Largest answer taken over UDP.
const MAX_ANSWER: usize = 4096;

/// A question that is not answered in this time is asked again.
const LOST: Duration = Duration::from_millis(200);

/// `revere demo-names`.
#[derive(Debug, clap::Args)]
pub struct NamesArgs {
    /// The service's name.
    pub name: String,
    /// Who is asked.
    #[arg(long)]
    pub server: SocketAddr,
    /// Between two questions.
    #[arg(long, default_value_t = 2)]
    pub pause_ms: u64,
}

/// Asks for SRV records for ever. A line is: Unix time in microseconds at which the answer came, then the targets.
pub async fn run(args: NamesArgs) -> anyhow::Result<()> {
    let name = Name::from_str(&format!("{}.", args.name.trim_end_matches('.')))?;
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(args.server).await?;
    let mut pause = interval(Duration::from_millis(args.pause_ms.max(1)));
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        pause.tick().await;
        let Ok(targets) = timeout(LOST, ask(&socket, &name)).await else {
            continue;
        };
        let targets = targets?;
        if last.as_ref() != Some(&targets) {
            let listed: Vec<&str> = targets.iter().map(String::as_str).collect();
            let mut out = std::io::stdout().lock();
            writeln!(out, "{} {}", unix_us(), listed.join(" "))?;
            out.flush()?;
            last = Some(targets);
        }
    }
}

async fn ask(socket: &UdpSocket, name: &Name) -> anyhow::Result<BTreeSet<String>> {
    let mut query = Message::query();
    query.add_query(Query::query(name.clone(), RecordType::SRV));
    // A server that is not up yet refuses by ICMP: no answer, then.
    let _ = socket.send(&query.to_vec()?).await;
    let mut buffer = vec![0; MAX_ANSWER];
    loop {
        let Ok(length) = socket.recv(&mut buffer).await else {
            tokio::time::sleep(LOST).await;
            continue;
        };
        let answer = Message::from_vec(&buffer[..length])?;
        if answer.metadata.id == query.metadata.id {
            let target = |data: &RData| match data {
                RData::SRV(srv) => Some(format!("{}:{}", srv.target, srv.port)),
                _ => None,
            };
            return Ok(answer
                .answers
                .iter()
                .filter_map(|record| target(&record.data))
                .collect());
        }
    }
}
